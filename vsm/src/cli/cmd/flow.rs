//! Flow export: records. Exporters are in [`super::flow_exporter`], monitors in [`super::flow_monitor`].

use super::source::file_name;
use super::target::{edit_record, make_room, short, some, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run, Value};
use crate::config::flow::{FlowStore, is_predefined};
use crate::config::model::{FlowRecord, INTERNAL_PREFIXES_MAX, MONITORS_MAX, Prefix, RECORD_ITEMS};

/// What `?` says.
pub const WORDS: &[(&str, &str)] = &[
    ("flow", "Flow export"),
    ("record", "Which fields are exported"),
    ("internal-prefix", "Addresses that are inside"),
    ("as-file", "Autonomous systems of addresses"),
    ("file", "File of bootflash:"),
    ("filter", "Which frames are counted"),
    ("entries", "Most flows of the monitor"),
    ("size", "As entries"),
    ("access-list", "Those that an access list permits"),
    ("acl", "Access list"),
    ("bpf", "Those that a filter of libpcap matches, asked for each packet"),
    ("expression", "As of tcpdump, in quotes"),
    ("sampler", "Which packets are counted"),
    ("scope", "Where a frame is counted"),
    ("once", "On the host that it comes from"),
    ("prefix", "Prefix"),
    ("exporter", "Where flows are exported to"),
    ("monitor", "What is metered"),
    ("name", "Name, up to 63 characters"),
    ("description", "Free text"),
    ("text", "Up to 63 characters"),
    ("match", "Field that tells flows apart"),
    ("collect", "Field that is exported"),
    ("ip", "IP"),
    ("ipv4", "IPv4"),
    ("ipv6", "IPv6"),
    ("protocol", "Protocol number"),
    ("tos", "Type of service octet"),
    ("ttl", "Time to live"),
    ("hop-limit", "Hop limit"),
    ("total-length", "Octets of the IP packets"),
    ("length", "Length"),
    ("total", "Octets of the IP packets, with their headers"),
    ("minimum", "The least of all packets"),
    ("maximum", "The most of all packets"),
    ("flow-label", "Flow label of the first packet"),
    ("source", "Source"),
    ("destination", "Destination"),
    ("address", "Address"),
    ("transport", "Transport"),
    ("source-port", "Source port"),
    ("destination-port", "Destination port"),
    ("datalink", "Link layer"),
    ("vlan", "VLAN"),
    ("mac", "MAC address"),
    ("source-address", "Source address"),
    ("destination-address", "Destination address"),
    ("ethertype", "EtherType"),
    ("interface", "Interface"),
    ("input", "Interface where the flow enters"),
    ("output", "Interface where the flow leaves"),
    ("counter", "Counter"),
    ("bytes", "Octets"),
    ("long", "64 bits, as it always is"),
    ("if", "mgmt0: the address of each host, which datagrams always come from"),
    ("use-vrf", "How the collector is reached"),
    ("vrf", "management, as there is no other"),
    ("original-input", "All fields, of frames as they enter the switch"),
    ("packets", "Packets"),
    ("timestamp", "Time"),
    ("sys-uptime", "Since the module started"),
    ("first", "First packet"),
    ("last", "Last packet"),
    ("flags", "OR of the flags"),
    ("icmp", "ICMP"),
    ("type", "Type of the message"),
    ("code", "Code of the message"),
    ("dot1q", "IEEE 802.1Q tag"),
    ("priority", "Priority of the tag as received"),
    ("customer", "Inner tag"),
    ("direction", "Seen where frames enter, or where they leave"),
    ("duration", "From the first packet to the last"),
    ("flows", "Flows that were summed up"),
    ("layer2", "Octets of whole frames"),
    ("dropped", "Of packets that were dropped"),
    ("absolute", "Since 1970"),
    ("observation", "Where the monitor looks"),
    ("point", "Index of the interface"),
    ("aggregate", "Make flows alike, by the first rule that fits"),
    ("prefix", "Addresses that the rule is for"),
    ("to", "What they become"),
    ("bits", "Bits that stay"),
    ("ports", "A port or a range, as 80-89"),
    ("biflow", "Both directions of a conversation in one IPFIX record"),
    ("protocol-port", "Protocol and ports, of all addresses"),
    ("layer2-switched", "MAC addresses, VLAN and EtherType"),
    ("original-output", "Fields of version 5, by where frames leave the switch"),
    ("sndbuf", "Send buffer of the sockets"),
    ("load-balance", "Collectors share the conversations"),
    ("rate-limit", "Most datagrams a second"),
    ("datagrams", "Datagrams a second"),
    ("octets", "Octets"),
    ("mtu", "Largest packet of the export"),
    ("sampler-table", "How packets are sampled"),
    ("exporter-stats", "What was sent, and what was not"),
    ("end-reason", "Why the flow was reported"),
    ("forwarding-status", "Forwarded or dropped"),
    ("addr", "Address of a collector"),
    ("port", "Port of the collector"),
    ("how", "Transport"),
    ("udp", "Datagrams"),
    ("tcp", "IPFIX over TCP"),
    ("tls", "IPFIX over TLS, with the files that vem.toml names"),
    ("relay", "flow-relay, which keeps what can't be delivered"),
    ("number", "Number"),
    ("version", "Format of the export"),
    ("1", "NetFlow version 1, IPv4 only"),
    ("5", "NetFlow version 5, IPv4 only"),
    ("7", "NetFlow version 7, IPv4 only"),
    ("9", "NetFlow version 9"),
    ("10", "IPFIX"),
    ("dscp", "Code point of the datagrams"),
    ("template", "Templates"),
    ("data", "Templates of the flow data"),
    ("option", "Options data"),
    ("interface-table", "Names of the interfaces"),
    ("timeout", "Time between two of them"),
    ("cache", "Flow cache"),
    ("flow-store", "Files of flows on the hosts"),
    ("size", "How much is kept on each host"),
    ("mib", "Mebibytes; 1024 by default"),
    ("keep", "How long it is kept"),
    ("hours", "Hours; 168 by default"),
    ("ecs", "Also as lines of the Elastic Common Schema"),
    ("active", "A flow that goes on is reported this often"),
    ("inactive", "A flow that is silent this long has ended"),
    ("seconds", "Seconds"),
];

pub(super) const CONFIG: &[Mode] = &[Mode::Config];
const RECORD: &[Mode] = &[Mode::FlowRecord];

pub(super) fn command(
    modes: &'static [Mode],
    syntax: &'static str,
    help: &'static str,
    no: &'static str,
    run: Run,
) -> Command {
    Command { modes, syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    let described = "description <text:line>";
    let mut commands = vec![
        command(
            CONFIG,
            "flow record <name:word>",
            "Create a flow record and change it",
            "flow record <name:word>",
            record,
        ),
        command(RECORD, described, "Free text", "description [<text:line>]", |session, args| {
            let text = description(args)?;
            edit_record(session, |record| {
                record.description = text;
                Ok(())
            })
        }),
    ];
    commands.extend(RECORD_ITEMS.iter().map(|item| {
        let help =
            if item.line.starts_with("match") { "Field that tells flows apart" } else { "Field that is exported" };
        // The counters that are exported have 64 bits with and without `long`.
        let line = match item.line {
            "collect counter bytes" => "collect counter bytes [long]",
            "collect counter packets" => "collect counter packets [long]",
            line => line,
        };
        command(RECORD, line, help, line, field)
    }));
    commands.push(command(
        CONFIG,
        "flow internal-prefix { <prefix:prefix> | <prefix:prefix6> }",
        "Addresses that are inside, for the direction of flows",
        "flow internal-prefix { <prefix:prefix> | <prefix:prefix6> }",
        internal_prefix,
    ));
    commands.push(command(
        CONFIG,
        "flow as-file <file:word>",
        "File of bootflash: with the autonomous systems of addresses, for 'show flow top as'",
        "flow as-file [<file:word>]",
        as_file,
    ));
    commands.push(command(
        CONFIG,
        "flow-store [size <mib:num:16-1000000>] [keep <hours:num:1-8760>] [ecs]",
        "Keep what the flow monitors report on the hosts",
        "flow-store [size <mib:num:16-1000000>] [keep <hours:num:1-8760>] [ecs]",
        flow_store,
    ));
    commands.extend(super::flow_exporter::commands());
    commands.extend(super::flow_monitor::commands());
    commands.extend(super::flow_meter::commands());
    commands.extend(super::flow_sampler::commands());
    commands
}

/// The number, unless the command takes it back.
pub(super) fn number(args: &Args, name: &str) -> Option<u32> {
    args.number(name).filter(|_| !args.negated)
}

pub(super) fn description(args: &Args) -> Result<Option<String>, Error> {
    if args.negated { Ok(None) } else { short(args, "text", 63).map(Some) }
}

pub(super) fn new_name(args: &Args) -> Result<String, Error> {
    let name = text(args, "name")?;
    match name.len() <= 63 {
        true => Ok(name),
        false => Err(Error::Refused("The name is longer than 63 characters".to_owned())),
    }
}

fn record(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = new_name(args)?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            let users = model.monitors.iter().filter(|(_, m)| m.record.as_ref() == Some(&name));
            refuse_used("Flow record", &name, some(users.map(|(user, _)| format!("flow monitor {user}"))))?;
            removed(model.records.remove(&name), "Flow record", &name)
        }));
    }
    if is_predefined(&name) {
        return Err(Error::Refused(format!("Flow record '{name}' is built in and can not be changed")));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| {
        make_room(model.records.contains_key(&name), model.records.len(), MONITORS_MAX, "flow records")?;
        model.records.entry(name).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::FlowRecord, subject);
    Ok(output)
}

pub(super) fn refuse_used(what: &str, name: &str, users: String) -> Result<(), String> {
    if users.is_empty() { Ok(()) } else { Err(format!("{what} '{name}' is used by {users}")) }
}

pub(super) fn removed<T>(found: Option<T>, what: &str, name: &str) -> Result<Vec<String>, String> {
    found.map(|_| Vec::new()).ok_or_else(|| format!("{what} '{name}' does not exist"))
}

/// A `match` or `collect` line; its words are the line.
fn field(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let words: Vec<&str> = args.words.iter().copied().filter(|word| !matches!(*word, "default" | "long")).collect();
    let line = words.join(" ");
    let item = wanted(RECORD_ITEMS.iter().find(|item| item.line == line).copied())?;
    let negated = args.negated;
    edit_record(session, move |record: &mut FlowRecord| {
        match (negated, record.items.contains(&item)) {
            (true, _) => record.items.retain(|i| *i != item),
            (false, false) => record.items.push(item),
            (false, true) => {}
        }
        Ok(())
    })
}

fn internal_prefix(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let prefix = wanted(match args.get("prefix") {
        Some(Value::Prefix(addr, length)) => Some(Prefix::new((*addr).into(), *length)),
        Some(Value::Prefix6(addr, length)) => Some(Prefix::new((*addr).into(), *length)),
        _ => None,
    })?;
    let negated = args.negated;
    session.edit(Box::new(move |model| {
        let prefixes = &mut model.internal_prefixes;
        if negated {
            let found = prefixes.remove(&prefix).then_some(Vec::new());
            return found.ok_or_else(|| format!("{prefix} is not an internal prefix"));
        }
        make_room(prefixes.contains(&prefix), prefixes.len(), INTERNAL_PREFIXES_MAX, "internal prefixes")?;
        prefixes.insert(prefix);
        Ok(Vec::new())
    }))
}

fn as_file(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let file = match args.negated {
        true => None,
        false => Some(file_name(&text(args, "file")?)?),
    };
    session.edit(Box::new(move |model| {
        model.as_file = file;
        Ok(Vec::new())
    }))
}

fn flow_store(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let store =
        FlowStore { size_mib: args.number("mib"), keep_h: args.number("hours"), ecs: args.words.contains(&"ecs") };
    let store = Some(store).filter(|_| !args.negated);
    session.edit(Box::new(move |model| {
        model.flow_store = store;
        Ok(Vec::new())
    }))
}
