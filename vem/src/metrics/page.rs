//! The page of a host: its ports, flows, exporters and monitor sessions, its workers, and the agent itself.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto::metrics::{self, Family, Page, Place, Process};

use crate::agent::{Session, Status};
use crate::answer;
use crate::switch::Switch;

/// The families that only an agent has.
pub static AGENT: [Family; 9] = [
    Family::gauge("vswitch_vem_info", "1, with identity and version of the agent"),
    Family::gauge("vswitch_vem_supervisor_up", "Whether the agent has a session with its supervisor"),
    Family::gauge("vswitch_vem_config_version", "Version of the configuration that runs"),
    Family::counter("vswitch_worker_busy_seconds_total", "Time that the worker has spent on batches of frames"),
    Family::counter(
        "vswitch_worker_received_packets_total",
        "Frames that the worker has received; a super-frame counts as one",
    ),
    Family::counter("vswitch_worker_naps_total", "Short naps of the worker while there was nothing to do"),
    Family::counter("vswitch_worker_sleeps_total", "Sleeps of the worker until something happened"),
    Family::counter("vswitch_worker_late_learns_total", "Addresses that were not learned at once"),
    Family::gauge("vswitch_worker_ports", "Ports that the worker receives from"),
];

/// Writes the page.
pub fn page(switch: &Switch, status: &Status, now: Instant) -> String {
    let mut page = Page::default();
    let module = match &status.session {
        Session::Up { module, .. } => module.to_string(),
        _ => String::new(),
    };
    let place = Place { host: &status.host, module: &module };
    metrics::ports(&mut page, place, &answer::ports(switch, now));
    metrics::cache(&mut page, place, &answer::cache(switch));
    metrics::exporters(&mut page, place, &switch.exporter_rows());
    metrics::sessions(&mut page, place, &answer::sessions(switch));
    own(&mut page, switch, status, &module);
    process(status, now).put(&mut page);
    page.to_string()
}

fn own(page: &mut Page, switch: &Switch, status: &Status, module: &str) {
    let [info, up, version, busy, frames, naps, sleeps, late, ports] = &AGENT;
    let labels = [("host", status.host.as_str()), ("module", module)];
    let [host, slot] = labels;
    let (uuid, software) = (status.uuid.to_string(), ("software", env!("CARGO_PKG_VERSION")));
    page.put(info, &[host, slot, software, ("uuid", &uuid)], 1);
    page.put(up, &labels, u8::from(matches!(status.session, Session::Up { .. })));
    page.put(version, &labels, switch.applied().0);
    for (index, load) in switch.control().loads().iter().enumerate() {
        let index = index.to_string();
        let labels = [host, slot, ("worker", &index)];
        page.put(busy, &labels, load.busy_ns as f64 / 1e9);
        page.put(frames, &labels, load.frames);
        page.put(naps, &labels, load.naps);
        page.put(sleeps, &labels, load.sleeps);
        page.put(late, &labels, load.wishes_lost);
        page.put(ports, &labels, load.receives_from);
    }
}

fn process(status: &Status, now: Instant) -> Process {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let runs = now.saturating_duration_since(status.started);
    let started = SystemTime::now().checked_sub(runs).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    // Whole seconds: the clock that was asked is not the one that it is told by.
    let started_s = started.map_or(0.0, |since| since.as_secs_f64().round());
    Process { open_fds, started_s, ..Process::parse(&file("/proc/self/stat"), &file("/proc/self/status")) }
}
