//! Flow exporters: where flows are exported to, and in which format.

use proto::flow::{Transport, Version};
use proto::name::IfName;

use super::flow::{CONFIG, command, description, new_name, number, refuse_used, removed};
use super::target::{edit_exporter, is_no_host, make_room, name, some, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::{DESTINATIONS_MAX, FlowExporter, MONITORS_MAX};
use crate::config::running::version_word;

const EXPORTER: &[Mode] = &[Mode::FlowExporter];
const VERSION: &[Mode] = &[Mode::FlowExporterVersion];

/// The commands.
pub fn commands() -> Vec<Command> {
    let described = "description <text:line>";
    let mut commands = vec![
        command(
            CONFIG,
            "flow exporter <name:word>",
            "Create a flow exporter and change it",
            "flow exporter <name:word>",
            exporter,
        ),
        command(EXPORTER, described, "Free text", "description [<text:line>]", |session, args| {
            let text = description(args)?;
            edit_exporter(session, |exporter| {
                exporter.description = text;
                Ok(())
            })
        }),
    ];
    commands.extend(socket_commands());
    commands.extend(version_commands());
    commands
}

fn socket_commands() -> Vec<Command> {
    vec![
        command(
            EXPORTER,
            "destination { <addr:ip> | <addr6:ip6> } [ port <port:num:1-65535> | use-vrf <vrf:word> ]*",
            "Collector; up to four",
            "destination { <addr:ip> | <addr6:ip6> } [ port <port:num:1-65535> | use-vrf <vrf:word> ]*",
            destination,
        ),
        command(
            EXPORTER,
            "source <if:if>",
            "Where datagrams come from: mgmt0, the address of each host",
            "source [<if:if>]",
            source,
        ),
        command(
            EXPORTER,
            "transport <how=udp|tcp|tls|relay> <number:num:1-65535>",
            "How messages go to the collectors, and to which port",
            "transport <how=udp|tcp|tls|relay> [<number:num:1-65535>]",
            transport,
        ),
        command(
            EXPORTER,
            "dscp <dscp:num:0-63>",
            "Code point of the datagrams",
            "dscp [<dscp:num:0-63>]",
            |session, args| {
                let dscp = number(args, "dscp").and_then(|n| u8::try_from(n).ok());
                edit_exporter(session, move |exporter| {
                    exporter.dscp = dscp;
                    Ok(())
                })
            },
        ),
        command(
            EXPORTER,
            "sndbuf <octets:num:4096-16777216>",
            "Octets of the send buffer of each socket",
            "sndbuf [<octets:num:4096-16777216>]",
            |session, args| {
                let octets = number(args, "octets");
                edit_exporter(session, move |exporter| {
                    exporter.send_buffer = octets;
                    Ok(())
                })
            },
        ),
        command(
            EXPORTER,
            "load-balance",
            "Each conversation goes to one of the collectors, instead of all to each",
            "load-balance",
            |session, args| {
                let said = !args.negated;
                edit_exporter(session, move |exporter| {
                    exporter.load_balance = said;
                    Ok(())
                })
            },
        ),
        command(
            EXPORTER,
            "rate-limit <datagrams:num:1-1000000>",
            "Most datagrams a second to a collector; flows are counted on meanwhile",
            "rate-limit [<datagrams:num:1-1000000>]",
            |session, args| {
                let datagrams = number(args, "datagrams");
                edit_exporter(session, move |exporter| {
                    exporter.rate_limit = datagrams;
                    Ok(())
                })
            },
        ),
        command(
            EXPORTER,
            "mtu <octets:num:540-9000>",
            "Octets of the largest packet",
            "mtu [<octets:num:540-9000>]",
            |session, args| {
                let octets = number(args, "octets").and_then(|n| u16::try_from(n).ok());
                edit_exporter(session, move |exporter| {
                    exporter.mtu = octets;
                    Ok(())
                })
            },
        ),
    ]
}

fn version_commands() -> Vec<Command> {
    vec![
        command(
            EXPORTER,
            "version <version=1|5|7|9|10>",
            "Format of the export",
            "version [<version=1|5|7|9|10>]",
            version,
        ),
        command(
            VERSION,
            "template data timeout <seconds:num:1-86400>",
            "Seconds between templates",
            "template data timeout [<seconds:num:1-86400>]",
            |session, args| {
                let seconds = number(args, "seconds");
                edit_version(session, move |exporter| exporter.template_timeout_s = seconds)
            },
        ),
        command(
            VERSION,
            "template data packets <packets:num:1-1000>",
            "Datagrams from one with templates to the next",
            "template data packets [<packets:num:1-1000>]",
            |session, args| {
                let packets = number(args, "packets");
                edit_version(session, move |exporter| exporter.template_packets = packets)
            },
        ),
        command(
            VERSION,
            "option <table=interface-table|sampler-table|exporter-stats> timeout <seconds:num:1-86400>",
            "Seconds between options data of a kind",
            "option <table=interface-table|sampler-table|exporter-stats> timeout [<seconds:num:1-86400>]",
            option_timeout,
        ),
    ]
}

fn option_timeout(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let seconds = number(args, "seconds");
    let table = text(args, "table")?;
    edit_version(session, move |exporter| match table.as_str() {
        "sampler-table" => exporter.sampler_timeout_s = seconds,
        "exporter-stats" => exporter.statistics_timeout_s = seconds,
        _ => exporter.option_timeout_s = seconds,
    })
}

fn exporter(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = new_name(args)?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            let users = model.monitors.iter().filter(|(_, m)| m.exporters.contains(&name));
            refuse_used("Flow exporter", &name, some(users.map(|(user, _)| format!("flow monitor {user}"))))?;
            removed(model.exporters.remove(&name), "Flow exporter", &name)
        }));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| {
        make_room(model.exporters.contains_key(&name), model.exporters.len(), MONITORS_MAX, "flow exporters")?;
        model.exporters.entry(name).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::FlowExporter, subject);
    Ok(output)
}

/// The one VRF that there is.
const VRF: &str = "management";

/// The sockets are bound to no port of the switch: datagrams leave by the host's own stack, with its address.
fn source(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if let Some(other) = args.interface("if").filter(|name| *name != IfName::Mgmt0) {
        return Err(Error::Refused(format!("Datagrams can not come from {other}: they come from mgmt0 of each host")));
    }
    let said = !args.negated;
    edit_exporter(session, move |exporter| {
        exporter.source_mgmt = said;
        Ok(())
    })
}

fn destination(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let addr = wanted(args.address("addr", "addr6"))?;
    if let Some(vrf) = args.text("vrf").filter(|vrf| *vrf != VRF) {
        return Err(Error::Refused(format!("VRF '{vrf}' does not exist: collectors are reached by VRF {VRF}")));
    }
    let port = args.number("port").and_then(|port| u16::try_from(port).ok());
    let negated = args.negated;
    if !negated && is_no_host(addr) {
        return Err(Error::Refused(format!("{addr} is not the address of a host")));
    }
    edit_exporter(session, move |exporter| {
        let at = exporter.destinations.iter().position(|d| *d == (addr, port));
        match (negated, at) {
            (true, Some(at)) => drop(exporter.destinations.remove(at)),
            (true, None) => return Err(format!("{addr} is not a destination")),
            (false, None) if exporter.destinations.len() == DESTINATIONS_MAX => {
                return Err(format!("There are {DESTINATIONS_MAX} destinations already"));
            }
            (false, None) => exporter.destinations.push((addr, port)),
            (false, Some(_)) => {}
        }
        Ok(())
    })
}

/// A connection carries IPFIX (RFC 7011 section 10); the other versions are made of datagrams.
const STREAMS_ARE_IPFIX: &str = "TCP and TLS carry version 10 only";

fn transport(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let said = match args.text("how") {
        Some("tcp") => Transport::Tcp,
        Some("tls") => Transport::Tls,
        Some("relay") => Transport::Relay,
        _ => Transport::Udp,
    };
    let port = number(args, "number").and_then(|n| u16::try_from(n).ok());
    let negated = args.negated;
    edit_exporter(session, move |exporter| {
        let is_stream = matches!(said, Transport::Tcp | Transport::Tls);
        if negated {
            if exporter.transport.unwrap_or(Transport::Udp) == said {
                (exporter.transport, exporter.port) = (None, None);
            }
        } else if is_stream && exporter.version.is_some_and(|version| version != Version::Ipfix) {
            return Err(STREAMS_ARE_IPFIX.to_owned());
        } else {
            (exporter.transport, exporter.port) = (Some(said).filter(|said| *said != Transport::Udp), port);
        }
        Ok(())
    })
}

/// Versions 1, 5 and 7 have no templates and no options; what was said about them goes with the version that had them.
fn version(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let version = match args.text("version").filter(|_| !args.negated) {
        Some(word) => Some(wanted(Version::ALL.into_iter().find(|version| version_word(*version) == word))?),
        None => None,
    };
    let has_templates = version.is_some_and(Version::has_templates);
    let output = edit_exporter(session, move |exporter| {
        let is_stream = matches!(exporter.transport, Some(Transport::Tcp | Transport::Tls));
        if is_stream && version.is_some_and(|version| version != Version::Ipfix) {
            return Err(STREAMS_ARE_IPFIX.to_owned());
        }
        if !has_templates {
            exporter.template_timeout_s = None;
            exporter.template_packets = None;
            exporter.option_timeout_s = None;
            exporter.sampler_timeout_s = None;
            exporter.statistics_timeout_s = None;
        }
        exporter.version = version;
        Ok(())
    })?;
    if has_templates {
        let subject = Subject::Name(name(session)?);
        session.enter(Mode::FlowExporterVersion, subject);
    }
    Ok(output)
}

fn edit_version(
    session: &mut Session,
    change: impl FnOnce(&mut FlowExporter) + Send + 'static,
) -> Result<Output, Error> {
    edit_exporter(session, move |exporter| match exporter.version {
        Some(version) if version.has_templates() => {
            change(exporter);
            Ok(())
        }
        _ => Err("The version of the exporter has been changed".to_owned()),
    })
}
