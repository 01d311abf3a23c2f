//! Local read-only diagnosis: `vem cmd "show ..."`, and the table of `vem ports`.
//!
//! What the supervisor would show of this module, for the hours when there is none. One table of commands; words may be
//! shortened as long as they are unique.

mod vhost;

use std::fmt::Write;
use std::time::Instant;

use proto::name::IfName;
use proto::query::{FlowQuery, Query};
use proto::report::{Answer, PortRow, PortState};
use serde_json::{Value, json};

use crate::agent::{Session, Status};
use crate::answer;
use crate::switch::Switch;
use crate::workers;

/// What can be shown: the word, and what it means.
const COMMANDS: &[(&str, &str)] = &[
    ("card", "this module: identity, session to the supervisor, configuration that runs"),
    ("ports", "ports, their states and counters"),
    ("mac", "the MAC address table"),
    ("flows", "the flow cache, largest first (show flows [COUNT])"),
    ("access-lists", "matches per rule"),
    ("monitor", "monitor sessions"),
    ("exporters", "flow exporters and the flow cache"),
    ("vhost", "vhost-user ports: socket, guest, what was negotiated, errors"),
    ("workers", "the dataplane's threads: core, load, ports, and how they rest"),
    ("drops", "dropped frames by port and reason, and the last of them"),
];
/// Flows that are shown when no count is given.
const FLOWS: u32 = 50;

/// Answers what was typed.
///
/// # Errors
/// It is not a command, or the dataplane does not answer; in English.
pub fn show(switch: &mut Switch, status: &Status, typed: &str, now: Instant) -> Result<String, String> {
    let mut words = typed.split_whitespace();
    let first = words.next().unwrap_or_default();
    if first.is_empty() || !"show".starts_with(first) {
        return Err(help("only 'show' commands are answered here"));
    }
    let command = find(words.next().unwrap_or_default())?;
    let argument = words.next();
    if words.next().is_some() || (argument.is_some() && command != "flows") {
        return Err(help("too many words"));
    }
    let query = match command {
        "card" => return Ok(card(switch, status, now)),
        "ports" => {
            let rows = ports_json(switch, now);
            return Ok(ports_table(rows.as_array().map(Vec::as_slice).unwrap_or_default()));
        }
        "vhost" => return Ok(vhost::blocks(switch)),
        "workers" => return Ok(workers::table(switch.control(), &status.cores, switch.busy())),
        "mac" => Query::Macs,
        "flows" => {
            let top = argument.map_or(Ok(FLOWS), str::parse).map_err(|_| help("a count of flows is a number"))?;
            Query::Flows(FlowQuery { top, ..FlowQuery::default() })
        }
        "access-lists" => Query::AclCounters,
        "monitor" => Query::Sessions,
        "exporters" => Query::Exporters,
        _ => Query::Drops,
    };
    match answer::answer(switch, &query, now) {
        Answer::Failed(reason) => Err(reason),
        answer => Ok(table(&answer)),
    }
}

fn find(word: &str) -> Result<&'static str, String> {
    let mut fitting = COMMANDS.iter().filter(|(name, _)| !word.is_empty() && name.starts_with(word));
    match (fitting.next(), fitting.next()) {
        (Some((name, _)), None) => Ok(name),
        (Some(_), Some(_)) => Err(help(&format!("'{word}' is ambiguous"))),
        (None, _) if word.is_empty() => Err(help("what is to be shown?")),
        (None, _) => Err(help(&format!("'{word}' is not known"))),
    }
}

fn help(reason: &str) -> String {
    let lines: String = COMMANDS.iter().map(|(name, text)| format!("\n  show {name:<14}{text}")).collect();
    format!("{reason}{lines}")
}

fn name_text(name: Option<IfName>) -> String {
    name.map_or_else(|| "-".to_owned(), IfName::short)
}

fn card(switch: &Switch, status: &Status, now: Instant) -> String {
    let (version, hash) = switch.applied();
    let session = match &status.session {
        Session::Alone => "none (no supervisor in the configuration file)".to_owned(),
        Session::Down(reason) => format!("down ({reason})"),
        Session::Up { module, switch_name } => format!("up (module {module} of {switch_name})"),
    };
    let config = match switch.host_config() {
        Some(host) => format!("version {version}, module {} of {}, hash {hash}", host.module, host.switch_name),
        None => "none yet".to_owned(),
    };
    format!(
        "Host          : {}\nUUID          : {}\nDomain        : {}\nSoftware      : {}\nUp            : {} s\n\
         Supervisor    : {session}\nConfiguration : {config}\nPorts         : {}\n",
        status.host,
        status.uuid,
        status.domain,
        env!("CARGO_PKG_VERSION"),
        now.saturating_duration_since(status.started).as_secs(),
        switch.ports().count(),
    )
}

/// The rows of `vem ports --json`.
pub fn ports_json(switch: &Switch, now: Instant) -> Value {
    let rows = answer::ports(switch, now);
    let counters = |c: &proto::report::Counters| {
        json!({ "frames": c.frames(), "unicast": c.unicast, "multicast": c.multicast, "broadcast": c.broadcast,
                "octets": c.octets, "drops": c.drops })
    };
    let row = |(row, (attachment, live)): (&PortRow, (&crate::attach::Attachment, &crate::switch::Live))| {
        let (state, reason) = match &row.state {
            PortState::Up => ("up", None),
            PortState::Down(why) => ("down", Some(why.as_str())),
        };
        json!({
            "interface": row.name.map(|n| n.to_string()),
            "nic": row.port.nic.as_str(),
            "vm": row.port.vm,
            "device": row.port.device,
            "kind": row.port.driver,
            "driver": live.driver,
            "netns": attachment.netns,
            "profile": row.port.profile,
            "uplink": (row.port.card > 0).then_some(row.port.card),
            "mac": row.port.mac.map(|m| m.to_string()),
            "state": state,
            "reason": reason,
            "problem": live.problem,
            "since_s": row.since_s,
            "mtu": row.mtu,
            "if_index": row.if_index,
            "static": attachment.fixed,
            "rx": counters(&row.rx),
            "tx": counters(&row.tx),
        })
    };
    Value::Array(rows.iter().zip(switch.ports()).map(row).collect())
}

/// The table of `vem ports` from the rows of [`ports_json`].
pub fn ports_table(rows: &[Value]) -> String {
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let frames =
        |row: &Value, key: &str| row.get(key).and_then(|c| c.get("frames")).and_then(Value::as_u64).unwrap_or(0);
    let mut out = String::from(
        "Interface      NIC                  Device           Kind       Driver        Profile              RX frames    TX frames    State\n",
    );
    for row in rows {
        let state = match row.get("reason").and_then(Value::as_str) {
            Some(reason) => format!("down ({reason})"),
            None => text(row, "state"),
        };
        let _ = writeln!(
            out,
            "{:<14} {:<20} {:<16} {:<10} {:<13} {:<20} {:<12} {:<12} {state}",
            text(row, "interface"),
            text(row, "nic"),
            text(row, "device"),
            text(row, "kind"),
            text(row, "driver"),
            text(row, "profile"),
            frames(row, "rx"),
            frames(row, "tx"),
        );
    }
    out
}

fn address(octets: u128) -> String {
    let v6 = std::net::Ipv6Addr::from(octets);
    v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string())
}

fn table(answer: &Answer) -> String {
    let mut out = String::new();
    let _ = write_table(answer, &mut out);
    out
}

fn write_table(answer: &Answer, out: &mut String) -> std::fmt::Result {
    match answer {
        Answer::Macs(rows) => {
            writeln!(out, "VLAN  MAC address     Type     Age(s)  Port")?;
            for row in rows {
                let kind = if row.is_static { "static" } else { "dynamic" };
                let port = name_text(row.port);
                writeln!(out, "{:<5} {}  {kind:<8} {:<7} {port}", row.vlan, row.mac, row.age_s)?;
            }
        }
        Answer::Flows(rows, matched) => {
            writeln!(out, "{} of {matched} flows", rows.len())?;
            for row in rows {
                let vlan = row.vlan.map_or_else(|| "-".to_owned(), |v| v.to_string());
                write!(out, "{} > {} vlan {vlan} ", name_text(row.input), name_text(row.output))?;
                match row.src | row.dst {
                    0 => write!(out, "{} > {} ethertype 0x{:04x}", row.src_mac, row.dst_mac, row.ethertype)?,
                    _ => write!(
                        out,
                        "{}:{} > {}:{} protocol {}",
                        address(row.src),
                        row.src_port,
                        address(row.dst),
                        row.dst_port,
                        row.protocol
                    )?,
                }
                write!(out, " packets {} octets {}", row.packets, row.octets)?;
                writeln!(out, "{}", row.dropped.as_ref().map(|why| format!(" dropped {why}")).unwrap_or_default())?;
            }
        }
        Answer::AclCounters(rows) => {
            for row in rows {
                let rule = row.sequence.map_or_else(|| "implicit deny".to_owned(), |s| s.to_string());
                writeln!(out, "{} {rule}: {} matches", row.acl, row.matches)?;
            }
        }
        Answer::Sessions(rows) => {
            for row in rows {
                let state = row.down.as_ref().map_or_else(|| "up".to_owned(), |why| format!("down ({why})"));
                let (copied, dropped, cut) = (row.copied, row.dropped, row.segmented);
                writeln!(out, "session {}: {state}, copied {copied}, dropped {dropped}, segmented {cut}", row.id)?;
            }
        }
        Answer::Exporters(rows, cache) => {
            for row in rows {
                write!(
                    out,
                    "{} to {}: datagrams {} records {}",
                    row.name, row.destination, row.datagrams, row.records
                )?;
                let error = row.last_error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
                writeln!(out, " failed {}{error}", row.failed_datagrams)?;
            }
            writeln!(out, "flow cache: {} of {}, added {}", cache.active, cache.capacity, cache.added)?;
        }
        Answer::Drops(rows, samples) => {
            for row in rows {
                writeln!(out, "{:<10} {:<22} {:>12}  {}", name_text(row.port), row.reason, row.frames, row.text)?;
            }
            writeln!(out, "last dropped frames, newest first:")?;
            for sample in samples {
                let rule = sample.rule.as_ref().map(|rule| {
                    let entry = rule.sequence.map_or_else(|| "implicit deny".to_owned(), |s| s.to_string());
                    format!(" [{} {entry}]", rule.acl)
                });
                let (ms, port, length) = (sample.ms_ago, name_text(sample.port), sample.length);
                let (reason, rule) = (&sample.reason, rule.unwrap_or_default());
                writeln!(out, "{ms} ms ago {port} {reason}{rule} {length} octets: {}", sample.headers)?;
            }
        }
        Answer::Ports(_) | Answer::Done | Answer::Failed(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_shortened() {
        assert_eq!(find("f"), Ok("flows"));
        assert_eq!(find("mac"), Ok("mac"));
        assert!(find("m").unwrap_err().starts_with("'m' is ambiguous"));
        assert_eq!(find("w"), Ok("workers"));
        assert!(find("x").unwrap_err().contains("show drops"));
        assert!(find("").is_err());
    }

    #[test]
    fn rows_of_ports_become_a_table() {
        let row = json!({"interface": null, "nic": "a/0", "device": "tap0", "kind": "tap", "profile": "web",
                         "state": "down", "reason": "device is gone", "rx": {"frames": 5}, "tx": {"frames": 6}});
        let table = ports_table(&[row]);
        assert!(table.contains("a/0") && table.contains("down (device is gone)") && table.lines().count() == 2);
    }
}
