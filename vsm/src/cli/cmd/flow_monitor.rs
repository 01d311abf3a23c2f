//! Flow monitors: which record and exporters they have, and when flows are reported.

use proto::flow::Aggregation;

use super::flow::{CONFIG, command, description, new_name, number, refuse_used, removed};
use super::target::{edit_monitor, make_room, name, some, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::flow::{AGGREGATIONS_MAX, aggregation_line, hides, is_predefined};
use crate::config::model::{MONITOR_EXPORTERS_MAX, MONITORS_MAX, Model};

const MONITOR: &[Mode] = &[Mode::FlowMonitor];

/// The commands.
pub fn commands() -> Vec<Command> {
    let described = "description <text:line>";
    vec![
        command(
            CONFIG,
            "flow monitor <name:word>",
            "Create a flow monitor and change it",
            "flow monitor <name:word>",
            monitor,
        ),
        command(MONITOR, described, "Free text", "description [<text:line>]", |session, args| {
            let text = description(args)?;
            edit_monitor(session, |monitor| {
                monitor.description = text;
                Ok(())
            })
        }),
        command(
            MONITOR,
            "record <name:word> [<family=ipv4|ipv6> <form=original-input|original-output> | protocol-port | layer2-switched input]",
            "Which fields are exported; 'netflow-original' and 'netflow ipv4 original-input' are all of them",
            "record [<name:word> [<family=ipv4|ipv6> <form=original-input|original-output> | protocol-port | layer2-switched input]]",
            monitor_record,
        ),
        command(MONITOR, "exporter <name:word>", "Exporter; up to four", "exporter <name:word>", monitor_exporter),
        command(
            MONITOR,
            "[cache] timeout <which=active|inactive> <seconds:num:1-4092>",
            "When flows are reported",
            "[cache] timeout <which=active|inactive> [<seconds:num:1-4092>]",
            |session, args| {
                let seconds = number(args, "seconds");
                let is_active = args.text("which") == Some("active");
                edit_monitor(session, move |monitor| {
                    *(if is_active { &mut monitor.active_s } else { &mut monitor.inactive_s }) = seconds;
                    Ok(())
                })
            },
        ),
        command(
            MONITOR,
            "aggregate address <prefix:prefix> to <bits:num:0-32>",
            "Shorten IPv4 addresses of a prefix, by the first rule that fits",
            "aggregate address <prefix:prefix> to <bits:num:0-32>",
            aggregate_address,
        ),
        command(
            MONITOR,
            "aggregate port <ports:word> to <number:num:0-65535>",
            "Make ports one, by the first rule that fits",
            "aggregate port <ports:word> to <number:num:0-65535>",
            aggregate_port,
        ),
        command(
            MONITOR,
            "biflow",
            "Both directions of a conversation in one IPFIX record",
            "biflow",
            |session, args| {
                let said = !args.negated;
                edit_monitor(session, move |monitor| {
                    monitor.biflow = said;
                    Ok(())
                })
            },
        ),
    ]
}

fn aggregate_address(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (addr, length) = wanted(args.prefix("prefix"))?;
    let to = wanted(args.number("bits").and_then(|bits| u8::try_from(bits).ok()))?;
    let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    aggregate(session, args, Aggregation::Address { net: u32::from(addr) & mask, length, to })
}

fn aggregate_port(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let ports = text(args, "ports")?;
    let (first, last) = ports.split_once('-').unwrap_or((&ports, &ports));
    let range = first.parse().ok().zip(last.parse().ok()).filter(|(first, last): &(u16, u16)| first <= last);
    let Some((first, last)) = range else {
        return Err(Error::Refused(format!("'{ports}' is neither a port nor a range of ports")));
    };
    let to = wanted(args.number("number").and_then(|port| u16::try_from(port).ok()))?;
    aggregate(session, args, Aggregation::Port { first, last, to })
}

fn aggregate(session: &mut Session, args: &Args, rule: Aggregation) -> Result<Output, Error> {
    let negated = args.negated;
    let name = name(session)?;
    session.edit(Box::new(move |model| {
        let monitor = model.monitors.get_mut(&name);
        let monitor = monitor.ok_or_else(|| format!("Flow monitor '{name}' does not exist any more"))?;
        let rules = &mut monitor.aggregation;
        let mut warnings = Vec::new();
        match rules.iter().position(|known| *known == rule) {
            Some(at) if negated => drop(rules.remove(at)),
            None if negated => return Err(format!("There is no '{}'", aggregation_line(&rule))),
            None if rules.len() == AGGREGATIONS_MAX => {
                return Err(format!("There are {AGGREGATIONS_MAX} aggregate lines already"));
            }
            None => {
                let earlier = rules.iter().find(|earlier| hides(earlier, &rule)).map(aggregation_line);
                warnings.extend(earlier.map(|earlier| format!("'{earlier}' fits first, so the line does nothing")));
                rules.push(rule);
            }
            Some(_) => {}
        }
        Ok(warnings)
    }))
}

fn monitor(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = new_name(args)?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            let users = model.all_settings().filter(|(_, s)| s.flow_monitors().contains(&Some(&name)));
            refuse_used("Flow monitor", &name, some(users.map(|(user, _)| user)))?;
            removed(model.monitors.remove(&name), "Flow monitor", &name)
        }));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| {
        make_room(model.monitors.contains_key(&name), model.monitors.len(), MONITORS_MAX, "flow monitors")?;
        model.monitors.entry(name).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::FlowMonitor, subject);
    Ok(output)
}

/// Changes the monitor of the sub-mode after a look at what it refers to.
fn refer(
    session: &mut Session,
    exists: impl FnOnce(&Model) -> Result<(), String> + Send + 'static,
    change: impl FnOnce(&mut crate::config::model::FlowMonitor) -> Result<(), String> + Send + 'static,
) -> Result<Output, Error> {
    let name = name(session)?;
    session.edit(Box::new(move |model| {
        exists(model)?;
        let monitor = model.monitors.get_mut(&name);
        change(monitor.ok_or_else(|| format!("Flow monitor '{name}' does not exist any more"))?)?;
        Ok(Vec::new())
    }))
}

fn monitor_record(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if args.negated {
        return edit_monitor(session, |monitor| {
            monitor.record = None;
            Ok(())
        });
    }
    let mut record = text(args, "name")?;
    let form = match (args.text("family"), args.text("form")) {
        (Some(family), Some(form)) => Some(format!("{family} {form}")),
        _ if args.has("protocol-port") => Some("protocol-port".to_owned()),
        _ if args.has("layer2-switched") => Some("layer2-switched input".to_owned()),
        _ => None,
    };
    if let Some(form) = form {
        if !record.eq_ignore_ascii_case("netflow") {
            return Err(Error::Refused(format!("Flow record '{record}' has no predefined forms")));
        }
        record = format!("netflow {form}");
    }
    let wanted = record.clone();
    let exists = move |model: &Model| match is_predefined(&wanted) || model.records.contains_key(&wanted) {
        true => Ok(()),
        false => Err(format!("Flow record '{wanted}' does not exist")),
    };
    refer(session, exists, |monitor| {
        monitor.record = Some(record);
        Ok(())
    })
}

fn monitor_exporter(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let exporter = text(args, "name")?;
    if args.negated {
        return edit_monitor(session, move |monitor| {
            monitor.exporters.retain(|e| *e != exporter);
            Ok(())
        });
    }
    let wanted = exporter.clone();
    let exists = move |model: &Model| match model.exporters.contains_key(&wanted) {
        true => Ok(()),
        false => Err(format!("Flow exporter '{wanted}' does not exist")),
    };
    refer(session, exists, |monitor| {
        match monitor.exporters.len() {
            _ if monitor.exporters.contains(&exporter) => {}
            MONITOR_EXPORTERS_MAX => return Err(format!("There are {MONITOR_EXPORTERS_MAX} exporters already")),
            _ => monitor.exporters.push(exporter),
        }
        Ok(())
    })
}
