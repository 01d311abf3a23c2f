//! The supervisor's page: its own figures, and what the modules answer.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::metrics::{self, Family, Page, Place, Process};
use proto::query::Query;
use proto::report::Answer;

use crate::cli::logins::Service;
use crate::module::registry::{Inventory, Module};
use crate::supervisor::Handle;

/// The families that only the supervisor has.
pub static SUPERVISOR: [Family; 14] = [
    Family::gauge("vswitch_supervisor_info", "1, with name, domain and version of the switch"),
    Family::gauge("vswitch_sessions", "Open sessions, by service"),
    Family::counter("vswitch_logins_total", "Logins, by service and result"),
    Family::gauge("vswitch_module_up", "Whether the module is connected; it is given up after six seconds of silence"),
    Family::gauge("vswitch_module_info", "1, with identity and version of the module"),
    Family::gauge("vswitch_module_answered", "Whether the module has answered for this page"),
    Family::gauge("vswitch_module_in_sync", "Whether the module runs the configuration that it is meant to run"),
    Family::gauge("vswitch_module_ports", "Ports that the module has attached; the last known ones while it is absent"),
    Family::gauge(
        "vswitch_module_connected_timestamp_seconds",
        "When the module connected last, in seconds since 1970",
    ),
    Family::counter("vswitch_module_connections_total", "Times that the module connected"),
    Family::counter("vswitch_module_losses_total", "Times that the module was lost"),
    Family::counter("vswitch_module_heartbeats_received_total", "Heartbeats from the module, one a second"),
    Family::counter("vswitch_module_messages_received_total", "Other messages from the module"),
    Family::counter("vswitch_module_messages_sent_total", "Messages to the module that are no heartbeats"),
];

/// Asks the modules and writes the page; that takes up to six seconds when one has fallen silent.
pub fn page(handle: &Handle) -> String {
    let mut page = Page::default();
    let inventory = handle.inventory();
    let answered = answers(&mut page, handle, &inventory);
    for (slot, module) in &inventory.modules {
        of_module(&mut page, &slot.to_string(), module, answered.contains(slot));
    }
    own(&mut page, handle);
    process(handle).put(&mut page);
    page.to_string()
}

/// What the modules say; those that say something are returned.
fn answers(page: &mut Page, handle: &Handle, inventory: &Inventory) -> Vec<u8> {
    let mut answered = Vec::new();
    for query in [Query::Ports, Query::Exporters, Query::Sessions] {
        for (slot, answer) in handle.ask(query, None) {
            let module = slot.to_string();
            let host = inventory.modules.get(&slot).map_or("", |module| module.host.as_str());
            let place = Place { host, module: &module };
            match answer {
                Ok(Answer::Ports(rows)) => {
                    metrics::ports(page, place, &rows);
                    answered.push(slot);
                }
                Ok(Answer::Exporters(rows, cache)) => {
                    metrics::exporters(page, place, &rows);
                    metrics::cache(page, place, &cache);
                }
                Ok(Answer::Sessions(rows)) => metrics::sessions(page, place, &rows),
                _ => {}
            }
        }
    }
    answered
}

fn of_module(page: &mut Page, slot: &str, module: &Module, is_answered: bool) {
    let labels = [("host", module.host.as_str()), ("module", slot)];
    let [_, _, _, up, info, answered, in_sync, ports, connected, connections, losses, heartbeats, received, sent] =
        &SUPERVISOR;
    let is_up = module.address.is_some();
    let uuid = module.uuid.to_string();
    page.put(up, &labels, u8::from(is_up));
    page.put(info, &[labels[0], labels[1], ("software", &module.software), ("uuid", &uuid)], 1);
    page.put(answered, &labels, u8::from(is_answered));
    page.put(in_sync, &labels, u8::from(is_up && module.applied == module.intended));
    page.put(ports, &labels, module.ports.len());
    if let Some(at) = module.connected_at {
        page.put(connected, &labels, seconds(at));
    }
    let counters = &module.counters;
    page.put(connections, &labels, counters.insertions);
    page.put(losses, &labels, counters.removals);
    page.put(heartbeats, &labels, counters.heartbeats_in);
    page.put(received, &labels, counters.messages_in);
    page.put(sent, &labels, counters.messages_out);
}

fn own(page: &mut Page, handle: &Handle) {
    let [info, sessions, logins, ..] = &SUPERVISOR;
    let facts = handle.facts();
    let (model, domain) = (handle.model(), facts.domain.to_string());
    let name = if model.hostname.is_empty() { "switch" } else { &model.hostname };
    page.put(info, &[("name", name), ("domain", &domain), ("software", facts.software)], 1);
    let open = handle.logins().open();
    for service in Service::ALL {
        let count = open.values().filter(|login| login.service == service).count();
        page.put(sessions, &[("service", service.name())], count);
    }
    for service in [Service::Ssh, Service::Nxapi] {
        let (accepted, failed) = handle.logins().tally(service);
        page.put(logins, &[("service", service.name()), ("result", "accepted")], accepted);
        page.put(logins, &[("service", service.name()), ("result", "failed")], failed);
    }
}

fn process(handle: &Handle) -> Process {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let started_s = seconds(handle.facts().started);
    Process { open_fds, started_s, ..Process::parse(&file("/proc/self/stat"), &file("/proc/self/status")) }
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn the_page_of_a_supervisor() {
        let handle = Handle::detached(sample::model()).with_inventory(sample::inventory());
        handle.logins().tell(Service::Ssh, false);
        let text = page(&handle);
        for line in [
            "vswitch_module_up{host=\"host1\",module=\"3\"} 1",
            "vswitch_module_up{host=\"host2\",module=\"4\"} 0",
            "vswitch_module_answered{host=\"host1\",module=\"3\"} 0",
            "vswitch_module_in_sync{host=\"host2\",module=\"4\"} 0",
            "vswitch_module_ports{host=\"host1\",module=\"3\"} 3",
            "vswitch_module_heartbeats_received_total{host=\"host1\",module=\"3\"} 3725",
            "vswitch_module_losses_total{host=\"host2\",module=\"4\"} 2",
            "vswitch_logins_total{service=\"ssh\",result=\"failed\"} 1",
            "vswitch_sessions{service=\"console\"} 0",
            "vswitch_supervisor_info{name=\"n1000v\",domain=\"100\",software=\"0.1.0\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        for family in SUPERVISOR.iter().chain(&metrics::PROCESS) {
            assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{}", family.name);
        }
        let value = |name: &str| {
            let row = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            row.unwrap().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 2.0);
        assert!(value("process_start_time_seconds") > 1.7e9 && value("process_threads") >= 1.0);
    }
}
