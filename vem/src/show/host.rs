//! What is shown of the agent itself: `show card`, `heap`, `limits`, `vsm uptime`.

use std::time::Instant;

use vswitch::config::{RULES_MAX, SESSIONS_MAX};
use vswitch::flow::record::MONITORS_MAX;
use vswitch::port::PORTS_MAX;

use super::columns::Columns;
use crate::agent::{Session, Status};
use crate::switch::Switch;

fn session_text(status: &Status) -> String {
    match &status.session {
        Session::Alone => "none (no supervisor in the configuration file)".to_owned(),
        Session::Down(reason) => format!("down ({reason})"),
        Session::Up { module, switch_name } => format!("up (module {module} of {switch_name})"),
    }
}

/// `show card`
pub fn card(switch: &Switch, status: &Status, now: Instant) -> String {
    let (version, hash) = switch.applied();
    let config = match switch.host_config() {
        Some(host) => format!("version {version}, module {} of {}, hash {hash}", host.module, host.switch_name),
        None => "none yet".to_owned(),
    };
    format!(
        "Host          : {}\nUUID          : {}\nDomain        : {}\nSoftware      : {}\nUp            : {} s\n\
         Supervisor    : {}\nHeadless      : {}\nConfiguration : {config}\nPorts         : {}\n",
        status.host,
        status.uuid,
        status.domain,
        env!("CARGO_PKG_VERSION"),
        now.saturating_duration_since(status.started).as_secs(),
        session_text(status),
        if matches!(status.session, Session::Up { .. }) { "no" } else { "yes" },
        switch.ports().count(),
    )
}

/// `show vsm uptime`: the supervisor's own start is not known here, so it is the session that is timed.
pub fn vsm_uptime(status: &Status, now: Instant) -> String {
    let since = status.session_since.map(|since| now.saturating_duration_since(since).as_secs());
    let seconds = since.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s"));
    format!("Supervisor : {}\nSince      : {seconds}\n", session_text(status))
}

/// `show heap`: what the kernel says of the process.
pub fn heap() -> String {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else {
        return "the kernel does not say\n".to_owned();
    };
    let names = [
        ("VmRSS", "in memory now"),
        ("VmHWM", "in memory at most"),
        ("VmData", "data"),
        ("VmLck", "locked"),
        ("VmSwap", "swapped out"),
        ("Threads", "threads"),
    ];
    let mut table = Columns::new(&["Field", "Value", "Meaning"]);
    for (name, meaning) in names {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        table.row([name.to_owned(), value.unwrap_or("-").trim().to_owned(), meaning.to_owned()]);
    }
    table.text("the kernel does not say")
}

/// `show limits`
pub fn limits(switch: &Switch, status: &Status) -> Result<String, String> {
    let macs = switch.control().macs().map_err(|error| error.to_string())?.len();
    let cache = switch.control().cache_stats();
    let plan = switch.plan();
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let rows = [
        ("Ports", count(switch.ports().count()), count(PORTS_MAX)),
        ("MAC addresses", count(macs), count(status.limits.macs)),
        ("Flows, all workers", cache.active, cache.capacity),
        ("Access-list rules", count(plan.numbers.rules.iter(None).count()), count(RULES_MAX)),
        ("Flow monitors", u64::from(plan.numbers.monitors.given().count_ones()), count(MONITORS_MAX)),
        ("Monitor sessions", count(plan.sessions.len()), count(SESSIONS_MAX)),
    ];
    let mut table = Columns::new(&["What", "Used", "Most"]);
    for (what, used, most) in rows {
        table.row([what.to_owned(), used.to_string(), most.to_string()]);
    }
    table.row(["MAC addresses of a port".to_owned(), "-".to_owned(), status.limits.macs_per_port.to_string()]);
    Ok(table.text("nothing is limited"))
}
