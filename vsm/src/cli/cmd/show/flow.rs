//! `show flow record`, `exporter`, `monitor` and `interface`. The flows themselves are in [`super::flow_cache`].

use std::net::{IpAddr, SocketAddr};

use proto::flow::Transport;
use proto::query::Query;
use proto::report::{Answer, CacheState, ExporterRow};

use super::exec;
use super::gather::{Asked, Port, ask, known_ports};
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::compile::{
    ACTIVE_S, EXPORT_MTU, INACTIVE_S, OPTION_TIMEOUT_S, SEND_BUFFER, TEMPLATE_PACKETS, TEMPLATE_TIMEOUT_S,
};
use crate::config::flow::{
    NETFLOW_ORIGINAL, aggregation_line, full_items, is_full, predefined, predefined_fields, transport_word,
};
use crate::config::model::{FlowExporter, FlowMonitor, Model, RECORD_ITEMS};
use crate::config::running::version_word;

const WORDS: &[(&str, &str)] = &[("name", "Name")];
const STATISTICS_WORDS: &[(&str, &str)] = &[("statistics", "Counts of each destination")];
const MONITOR_WORDS: &[(&str, &str)] = &[("name", "Name"), ("statistics", "Counts of the caches")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show flow record [<name:word>]", "Display flow records", WORDS, |session, args| {
            let model = session.handle.model();
            let name = args.text("name").unwrap_or_default();
            known(args, name == NETFLOW_ORIGINAL || model.records.contains_key(name), "Flow record")?;
            Ok(records(&model, args.text("name")))
        }),
        exec("show flow exporter [<name:word>]", "Display flow exporters", WORDS, |session, args| {
            let model = session.handle.model();
            known(args, model.exporters.contains_key(args.text("name").unwrap_or_default()), "Flow exporter")?;
            let asked = states(session);
            Ok(asked.warn(exporters(&model, args.text("name"), &asked.rows)))
        }),
        exec(
            "show flow exporter statistics",
            "Display what the exporters of the modules have sent, by destination",
            STATISTICS_WORDS,
            |session, _| {
                let asked = states(session);
                Ok(asked.warn(statistics(&asked.rows)))
            },
        ),
        exec("show flow monitor [<name:word>]", "Display flow monitors", WORDS, |session, args| {
            let model = session.handle.model();
            known(args, model.monitors.contains_key(args.text("name").unwrap_or_default()), "Flow monitor")?;
            let asked = states(session);
            Ok(asked.warn(monitors(&model, args.text("name"), &asked.rows)))
        }),
        exec(
            "show flow monitor [<name:word>] statistics",
            "Display what the caches of the modules have counted, which all monitors of a module share",
            MONITOR_WORDS,
            |session, args| {
                let model = session.handle.model();
                known(args, model.monitors.contains_key(args.text("name").unwrap_or_default()), "Flow monitor")?;
                let asked = states(session);
                Ok(asked.warn(cache_statistics(args.text("name"), &asked.rows)))
            },
        ),
        exec("show flow interface [<if:ifs>]", "Display the flow monitors of interfaces", WORDS, |session, args| {
            Ok(interfaces(&known_ports(session, args)?))
        }),
    ]
}

/// A name that was typed must be known.
pub fn known(args: &Args, is_known: bool, what: &str) -> Result<(), Error> {
    match args.text("name") {
        Some(name) if !is_known => Err(Error::Refused(format!("{what} {name} does not exist"))),
        _ => Ok(()),
    }
}

type State = (Vec<ExporterRow>, CacheState);

fn states(session: &Session) -> Asked<State> {
    ask(session, Query::Exporters, None, |answer| match answer {
        Answer::Exporters(rows, cache) => Some(vec![(rows, cache)]),
        _ => None,
    })
}

/// The records, and the built-in one behind them.
pub fn records(model: &Model, only: Option<&str>) -> Output {
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    let mut put = |name: &str, description: Option<&str>, lines: Vec<&str>, used: usize| {
        let mut text = format!("Flow record {name}:\n");
        text.extend(description.map(|words| format!("    Description: {words}\n")));
        text.push_str(&format!("    No. of users: {used}\n    Fields:\n"));
        text.extend(lines.iter().map(|line| format!("        {line}\n")));
        texts.push(text);
        let description = description.unwrap_or_default().to_owned();
        let fields = [("record_name", name.to_owned()), ("description", description), ("users", used.to_string())];
        objects.push(merged([leaves(fields), leaves([("fields", lines.join(", "))])]));
    };
    // The built-in record is `None`, and the names that mean it.
    let own = |m: &FlowMonitor| m.record.clone().filter(|record| !is_full(record));
    let users = |name: Option<&str>| model.monitors.values().filter(|m| own(m).as_deref() == name).count();
    for (name, record) in model.records.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let lines = record.items.iter().map(|item| item.line).collect();
        put(name, record.description.as_deref(), lines, users(Some(name)));
    }
    if only.is_none_or(|only| only == NETFLOW_ORIGINAL) {
        put(NETFLOW_ORIGINAL, Some("All fields"), full_items().iter().map(|item| item.line).collect(), users(None));
    }
    for name in predefined().filter(|name| only.is_none_or(|only| only == *name)) {
        let Some(fields) = predefined_fields(name) else { continue };
        let lines = |field| RECORD_ITEMS.iter().filter(move |item| item.field == field).map(|item| item.line);
        put(name, None, fields.iter().flat_map(|field| lines(*field)).collect(), users(Some(name)));
    }
    Output::with_json(texts.join("\n"), table("flow_record", objects))
}

fn destinations(exporter: &FlowExporter) -> Vec<String> {
    let port = exporter.collector_port();
    let shown = |(address, own): &(IpAddr, Option<u16>)| SocketAddr::new(*address, own.unwrap_or(port)).to_string();
    exporter.destinations.iter().map(shown).collect()
}

/// The exporters, with what the modules have sent.
pub fn exporters(model: &Model, only: Option<&str>, states: &[(u8, State)]) -> Output {
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    for (name, exporter) in model.exporters.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let to = destinations(exporter);
        let version = version_word(exporter.format());
        let transport = match exporter.transport.unwrap_or(Transport::Udp) {
            Transport::Relay => "flow-relay".to_owned(),
            other => transport_word(other).to_uppercase(),
        };
        let dscp = exporter.dscp.unwrap_or(0);
        let template = exporter.template_timeout_s.unwrap_or(TEMPLATE_TIMEOUT_S);
        let option = exporter.option_timeout_s.unwrap_or(OPTION_TIMEOUT_S);
        let packets = exporter.template_packets.unwrap_or(TEMPLATE_PACKETS);
        let sampler = exporter.sampler_timeout_s.unwrap_or(option);
        let statistics = exporter.statistics_timeout_s.unwrap_or(option);
        let (mtu, sndbuf) = (exporter.mtu.unwrap_or(EXPORT_MTU), exporter.send_buffer.unwrap_or(SEND_BUFFER));
        let mut text = format!("Flow exporter {name}:\n");
        text.extend(exporter.description.iter().map(|words| format!("    Description: {words}\n")));
        let shown = if to.is_empty() { "none, nothing is sent".to_owned() } else { to.join(", ") };
        text.push_str(&format!(
            "    Destination: {shown}\n    Transport: {transport}\n    Export Version {version}\n    DSCP {dscp}\n    \
             Data template timeout {template} seconds\n    Interface table timeout {option} seconds\n",
        ));
        text.push_str(if exporter.load_balance { "    Collectors share the conversations\n" } else { "" });
        text.extend(exporter.rate_limit.map(|rate| format!("    Rate limit: {rate} datagrams per second\n")));
        let sent = sent(name, states);
        if !sent.is_empty() {
            text.push_str(&format!("    Exporter Statistics\n\n{}", sent.text()));
        }
        let errors = states.iter().flat_map(|(slot, (rows, _))| rows.iter().map(move |row| (slot, row)));
        for (slot, row) in errors.filter(|(_, row)| row.name == *name) {
            text.extend(
                row.last_error.iter().map(|e| format!("    Last error, module {slot} to {}: {e}\n", row.destination)),
            );
        }
        texts.push(text);
        let members = leaves([
            ("exporter_name", name.clone()),
            ("description", exporter.description.clone().unwrap_or_default()),
            ("destination", to.join(", ")),
            ("export_version", version.to_owned()),
            ("dscp", dscp.to_string()),
            ("template_timeout", template.to_string()),
            ("option_timeout", option.to_string()),
            ("template_packets", packets.to_string()),
            ("sampler_timeout", sampler.to_string()),
            ("statistics_timeout", statistics.to_string()),
            ("mtu", mtu.to_string()),
            ("sndbuf", sndbuf.to_string()),
            ("load_balance", if exporter.load_balance { "yes" } else { "no" }.to_owned()),
            ("rate_limit", exporter.rate_limit.map(|rate| rate.to_string()).unwrap_or_default()),
        ]);
        objects.push(merged([members, sent.json()]));
    }
    Output::with_json(texts.join("\n"), table("flow_exporter", objects))
}

fn sent(name: &str, states: &[(u8, State)]) -> Table {
    let mut table = Table::new("exporter_statistics")
        .right("Mod", "mod", 3)
        .left("Destination", "destination", 21)
        .right("Datagrams", "datagrams", 10)
        .right("Records", "records", 10)
        .right("Templates", "templates", 9)
        .right("Octets", "octets", 12)
        .right("Failed", "failed_datagrams", 8)
        .right("Lost records", "failed_records", 12)
        .right("Not exportable", "not_exportable", 14);
    for (slot, (rows, _)) in states {
        for row in rows.iter().filter(|row| row.name == name) {
            let cells = [slot.to_string(), row.destination.clone()];
            table.row(cells.into_iter().chain(row.counts().map(|n| n.to_string())));
        }
    }
    table
}

/// What was sent, by module, exporter and destination.
pub fn statistics(states: &[(u8, State)]) -> Output {
    let mut table = Table::new("flow_exporter_statistics")
        .right("Mod", "mod", 3)
        .left("Exporter", "exporter_name", 14)
        .left("Destination", "destination", 21)
        .right("Datagrams", "datagrams", 10)
        .right("Records", "records", 10)
        .right("Templates", "templates", 9)
        .right("Octets", "octets", 12)
        .right("Errors", "errors", 7)
        .right("Failed", "failed_datagrams", 8)
        .right("Lost records", "failed_records", 12)
        .right("Not exportable", "not_exportable", 14)
        .right("Sequence", "sequence", 10)
        .left("Last error", "last_error", 10);
    for (slot, (rows, _)) in states {
        for row in rows {
            let or_none = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
            let [datagrams, records, templates, octets, failed, lost, not_exportable] =
                row.counts().map(|n| n.to_string());
            table.row([
                slot.to_string(),
                row.name.clone(),
                row.destination.clone(),
                datagrams,
                records,
                templates,
                octets,
                or_none(row.errors.map(|n| n.to_string())),
                failed,
                lost,
                not_exportable,
                or_none(row.sequence.map(|n| n.to_string())),
                row.last_error.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    table.output()
}

/// The monitors, and the caches of the modules.
pub fn monitors(model: &Model, only: Option<&str>, states: &[(u8, State)]) -> Output {
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    for (name, monitor) in model.monitors.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        let FlowMonitor { description, record, exporters, active_s, inactive_s, .. } = monitor;
        let FlowMonitor { entries, filter, filter_bpf, once, aggregation, biflow, .. } = monitor;
        let uses = model.all_settings().flat_map(|(_, s)| s.flow_monitors()).filter(|m| *m == Some(name)).count();
        let (active, inactive) = (active_s.unwrap_or(ACTIVE_S), inactive_s.unwrap_or(INACTIVE_S));
        let record = record.as_deref().unwrap_or(NETFLOW_ORIGINAL);
        let mut text = format!("Flow Monitor {name}:\n");
        text.extend(description.iter().map(|words| format!("    Description: {words}\n")));
        text.push_str(&format!("    Use count: {uses}\n    Flow Record: {record}\n"));
        text.extend(exporters.iter().map(|exporter| format!("    Flow Exporter: {exporter}\n")));
        text.push_str(&format!("    Timeout: active {active} seconds, inactive {inactive} seconds\n"));
        text.extend(entries.map(|entries| format!("    Cache Size: {entries}\n")));
        let missing = filter.as_ref().is_some_and(|list| !model.acls.contains_key(list));
        let note = if missing { ", which does not exist: everything is counted" } else { "" };
        text.extend(filter.iter().map(|list| format!("    Filter: access-list {list}{note}\n")));
        text.extend(filter_bpf.iter().map(|filter| format!("    Filter: bpf \"{}\"\n", filter.text)));
        text.push_str(if *once { "    Scope: once\n" } else { "" });
        let rules: Vec<String> = aggregation.iter().map(aggregation_line).collect();
        text.extend(rules.iter().map(|rule| format!("    Rule: {rule}\n")));
        text.extend(biflow.then_some("    Biflow: both directions in one IPFIX record\n"));
        texts.push(text);
        objects.push(leaves([
            ("monitor_name", name.clone()),
            ("description", description.clone().unwrap_or_default()),
            ("use_count", uses.to_string()),
            ("record_name", record.to_owned()),
            ("exporter_name", exporters.join(", ")),
            ("active_timeout", active.to_string()),
            ("inactive_timeout", inactive.to_string()),
            ("cache_size", entries.map(|entries| entries.to_string()).unwrap_or_default()),
            ("filter", filter.clone().unwrap_or_default()),
            ("filter_missing", missing.to_string()),
            ("filter_bpf", filter_bpf.as_ref().map(|filter| filter.text.clone()).unwrap_or_default()),
            ("scope", if *once { "once" } else { "" }.to_owned()),
            ("aggregate", rules.join(", ")),
            ("biflow", biflow.to_string()),
        ]));
    }
    let caches = caches(states);
    if !caches.is_empty() {
        texts.push(format!("Flow caches:\n\n{}", caches.text()));
    }
    Output::with_json(texts.join("\n"), merged([table("flow_monitor", objects), caches.json()]))
}

/// The caches of the modules, which are what a monitor's flows are in.
pub fn cache_statistics(name: Option<&str>, states: &[(u8, State)]) -> Output {
    let caches = caches(states);
    let head = name.map_or_else(String::new, |name| {
        format!("Flow Monitor {name}: its flows are in the caches of the modules, with those of the other monitors\n\n")
    });
    Output::with_json(format!("{head}{}", caches.text()), caches.json())
}

fn caches(states: &[(u8, State)]) -> Table {
    let mut table = Table::new("flow_cache")
        .right("Mod", "mod", 3)
        .right("Active", "active", 8)
        .right("Capacity", "capacity", 8)
        .right("Added", "added", 10)
        .right("Inactive", "aged_inactive", 10)
        .right("Active aged", "aged_active", 11)
        .right("TCP ended", "ended", 10)
        .right("Forced", "forced", 8)
        .right("Evicted", "evicted", 8)
        .right("Summed", "summed", 8)
        .right("Unmetered", "unmetered", 9);
    for (slot, (_, c)) in states {
        let flows = [c.active, c.capacity, c.added, c.aged_inactive, c.aged_active, c.ended, c.forced, c.evicted];
        let newer = [c.summed, c.unmetered].map(|n| n.map_or_else(|| "-".to_owned(), |n| n.to_string()));
        let counts = flows.map(|n| n.to_string()).into_iter().chain(newer);
        table.row([slot.to_string()].into_iter().chain(counts));
    }
    table
}

/// The monitors of the interfaces that have one.
pub fn interfaces(ports: &[Port]) -> Output {
    let mut table = Table::new("flow_interface")
        .left("Interface", "interface", 14)
        .left("Monitor", "monitor", 20)
        .left("Direction", "direction", 9)
        .left("Sampler", "sampler", 20);
    for port in ports {
        let set = &port.settings;
        let ways = [(&set.flow_in, "Input", &set.sampler_in), (&set.flow_out, "Output", &set.sampler_out)];
        for (monitor, way, sampler) in ways {
            if let Some(monitor) = monitor {
                let sampler = sampler.clone().unwrap_or_else(|| "--".to_owned());
                table.row([port.name.short(), monitor.clone(), way.to_owned(), sampler]);
            }
        }
    }
    table.output()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = ExporterRow {
            name: "collector".into(),
            destination: "192.0.2.1:9995".into(),
            datagrams: 12,
            records: 300,
            templates: 2,
            octets: 14_000,
            failed_datagrams: 1,
            failed_records: 25,
            not_exportable: 0,
            last_error: Some("Network is unreachable".into()),
            sequence: Some(301),
            errors: Some(2),
        };
        let cache = CacheState { active: 3, capacity: 65_536, added: 40, aged_inactive: 30, ..CacheState::default() };
        let newer = CacheState { summed: Some(900), unmetered: Some(7), ..cache.clone() };
        let states = [(3, (vec![row], newer)), (4, (vec![], cache))];
        let model = sample::model();
        sample::check("flow_record", &records(&model, None));
        sample::check("flow_record_name", &records(&model, Some("talk")));
        sample::check("flow_exporter", &exporters(&model, None, &states));
        sample::check("flow_exporter_statistics", &statistics(&states));
        sample::check("flow_monitor", &monitors(&model, None, &states));
        sample::check("flow_monitor_statistics", &cache_statistics(Some("visibility"), &states));
        sample::check("flow_interface", &interfaces(&sample::ports()));
    }
}
