//! `show flow top` and `show flow local-only`: who moves most, and what no physical switch has seen, over all modules.
//!
//! Both add up the flows that are in the caches now, or with `last` those that the hosts have kept. A conversation between two hosts is in the caches of both: it is
//! counted where its frames come from a VM, and not again where they arrive by an uplink. What was dropped is not counted,
//! `show flow monitor cache dropped` has it. Each module tells its flows with the most octets only, and the head says if
//! there are more.

use std::collections::BTreeMap;

use proto::query::{FlowQuery, Query};
use proto::report::Answer;

use super::exec;
use super::flow_cache::{is_ip, protocol_word};
use super::flow_seen::{Flow, Seen, Way};
use super::gather::{Port, ask, known_ports};
use crate::autonomous;
use crate::cli::cmd::source::refused;
use crate::cli::render::{Output, Table, leaves, merged};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

const WORDS: &[(&str, &str)] = &[
    ("top", "Who moves most, of the flows that are in the caches"),
    ("ip", "By address"),
    ("profile", "By port profile"),
    ("vm", "By VM"),
    ("port", "By TCP or UDP port: the lower of the two"),
    ("conversation", "By pair of addresses"),
    ("inbound", "From outside to inside"),
    ("outbound", "From inside to outside"),
    ("internal", "From inside to inside"),
    ("external", "From outside to outside"),
    ("as", "By autonomous system, as the file of 'flow as-file' has them"),
    ("last", "Flows that the hosts have kept and that ended in the last minutes"),
    ("minutes", "Minutes"),
    ("limit", "Rows to show"),
    ("count", "Rows; 10 unless said"),
    ("local-only", "Conversations that never left a host"),
];
/// Rows, unless said.
const ROWS: usize = 10;

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show flow top <by=ip|as|profile|vm|port|conversation> [<way=inbound|outbound|internal|external>] \
             [last <minutes:num:1-10080>] [limit <count:num:1-1000>]",
            "Display who moves most",
            WORDS,
            |session, args| {
                let by = By::named(args.text("by").unwrap_or_default());
                let way = args.text("way").and_then(Way::named);
                shown(session, args, |seen, rows| top(seen, by, way, rows))
            },
        ),
        exec(
            "show flow local-only [last <minutes:num:1-10080>] [limit <count:num:1-1000>]",
            "Display the conversations that never left a host",
            WORDS,
            |session, args| shown(session, args, local_only),
        ),
    ]
}

fn shown(session: &Session, args: &Args, render: impl Fn(&Seen, usize) -> Output) -> Result<Output, Error> {
    let model = session.handle.model();
    let minutes = args.number("minutes");
    if minutes.is_some() && model.flow_store.is_none() {
        return Err(Error::Refused("No flows are kept: there is no flow-store".to_owned()));
    }
    let (systems, warning) = match args.text("by") {
        Some("as") => systems(session, model.as_file.as_deref())?,
        _ => (None, String::new()),
    };
    let flows = FlowQuery::default();
    let query = minutes.map_or(Query::Flows(flows.clone()), |minutes| Query::Stored { flows, minutes });
    let ports = known_ports(session, &Args::default())?;
    let mut asked = ask(session, query, None, |answer| match answer {
        Answer::Flows(rows, fitting) => Some(vec![(rows, fitting)]),
        _ => None,
    });
    asked.warnings.push_str(&warning);
    let rows = args.number("count").map_or(ROWS, |count| count as usize);
    let mut seen = Seen::new(&asked.rows, &ports, &model.internal_prefixes);
    if let Some(minutes) = minutes {
        seen = seen.kept(minutes);
    }
    if let Some(systems) = &systems {
        seen = seen.with_systems(systems);
    }
    let output = render(&seen, rows);
    Ok(asked.warn(output))
}

/// The table of autonomous systems, and what is to be said of it.
fn systems(session: &Session, file: Option<&str>) -> Result<(Option<autonomous::Table>, String), Error> {
    let Some(file) = file else {
        return Err(Error::Refused("No autonomous systems are known: there is no 'flow as-file'".to_owned()));
    };
    let text = session.handle.lifecycle().files.read(file).map_err(refused)?;
    let text = text.ok_or_else(|| Error::Refused(format!("bootflash:{file} does not exist")))?;
    let table = autonomous::Table::read(&text);
    let warning = table.unread.map(|(count, first)| {
        format!("Warning: bootflash:{file}: {count} lines can't be read, line {first} is the first\n")
    });
    Ok((Some(table), warning.unwrap_or_default()))
}

/// What the rows are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Addresses.
    Ip,
    /// Autonomous systems.
    As,
    /// Port profiles.
    Profile,
    /// VMs.
    Vm,
    /// TCP and UDP ports.
    Port,
    /// Pairs of addresses.
    Conversation,
}

impl By {
    fn named(word: &str) -> By {
        match word {
            "as" => By::As,
            "profile" => By::Profile,
            "vm" => By::Vm,
            "port" => By::Port,
            "conversation" => By::Conversation,
            _ => By::Ip,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Sum {
    flows: u64,
    packets: u64,
    /// Octets in each direction; which is which the table says.
    ways: [u64; 2],
    /// Octets of the flows: what goes both ways is counted once.
    octets: u64,
    local: u64,
}

impl Sum {
    fn add(&mut self, flow: &Flow<'_>, direction: usize) {
        self.flows += 1;
        self.packets += flow.packets;
        self.octets += flow.octets;
        self.local += if flow.is_local() { flow.octets } else { 0 };
        self.add_way(flow, direction);
    }

    fn add_way(&mut self, flow: &Flow<'_>, direction: usize) {
        if let Some(octets) = self.ways.get_mut(direction) {
            *octets += flow.octets;
        }
    }
}

/// The keys that a flow counts for, each with the direction: sent by it, or received.
fn keys(seen: &Seen<'_>, flow: &Flow<'_>, by: By) -> Vec<([String; 2], usize)> {
    let one = |key: String| [key, String::new()];
    let of_ends = |name: &dyn Fn(&Port) -> String| {
        let names = flow.ends.map(|port| port.map_or_else(|| "(outside)".to_owned(), name));
        names.into_iter().map(one).zip([0, 1]).collect()
    };
    let [a, b] = flow.addresses();
    match by {
        By::Ip if !is_ip(flow.row) => Vec::new(),
        By::Ip => vec![(one(a), 0), (one(b), 1)],
        By::As if !is_ip(flow.row) => Vec::new(),
        By::As => {
            [flow.row.src, flow.row.dst].map(|address| one(system(seen, address))).into_iter().zip([0, 1]).collect()
        }
        By::Conversation if a <= b => vec![([a, b], 0)],
        By::Conversation => vec![([b, a], 1)],
        By::Vm => of_ends(&|port| vm_name(port)),
        By::Profile => of_ends(&|port| port.profile.clone().unwrap_or_else(|| "(none)".to_owned())),
        By::Port => {
            let (from, to) = (flow.row.src_port, flow.row.dst_port);
            let has_ports = is_ip(flow.row) && matches!(flow.row.protocol, 6 | 17);
            let key = one(format!("{}/{}", protocol_word(flow.row), from.min(to)));
            if has_ports { vec![(key, usize::from(to < from))] } else { Vec::new() }
        }
    }
}

/// `64500 Example`
fn system(seen: &Seen<'_>, address: u128) -> String {
    let named = |system: &autonomous::System| format!("{} {}", system.number, system.name).trim_end().to_owned();
    seen.system(address).map_or_else(|| "(unknown)".to_owned(), named)
}

fn vm_name(port: &Port) -> String {
    let vm = port.report.as_ref().map(|report| report.vm.clone()).filter(|vm| !vm.is_empty());
    vm.unwrap_or_else(|| port.name.to_string())
}

fn percent(part: u64, whole: u64) -> String {
    let permille = u128::from(part).saturating_mul(1000).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{}.{}%", permille / 10, permille % 10)
}

/// The rows with the most octets.
pub fn top(seen: &Seen<'_>, by: By, way: Option<Way>, rows: usize) -> Output {
    let flows: Vec<&Flow<'_>> = seen.flows.iter().filter(|flow| way.is_none_or(|way| way == flow.way)).collect();
    let mut sums: BTreeMap<[String; 2], Sum> = BTreeMap::new();
    for flow in &flows {
        let keys = keys(seen, flow, by);
        let is_same = matches!(keys.as_slice(), [(a, _), (b, _)] if a == b);
        for (at, (key, direction)) in keys.into_iter().enumerate() {
            let sum = sums.entry(key).or_default();
            if at == 0 || !is_same { sum.add(flow, direction) } else { sum.add_way(flow, direction) }
        }
    }
    let all: u64 = flows.iter().map(|flow| flow.octets).sum();
    let mut sums: Vec<([String; 2], Sum)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.octets));
    let found = sums.len();
    sums.truncate(rows);
    let table = Table::new("flow_top");
    let mut table = match by {
        By::Conversation => table
            .left("Address A", "address_a", 15)
            .left("Address B", "address_b", 15)
            .right("A to B", "a_to_b", 12)
            .right("B to A", "b_to_a", 12),
        _ => {
            let (header, key) = match by {
                By::Profile => ("Port profile", "profile"),
                By::Vm => ("VM", "vm"),
                By::Port => ("Port", "port"),
                By::As => ("AS", "as"),
                _ => ("Address", "address"),
            };
            table.left(header, key, 20).right("Sent", "sent", 12).right("Received", "received", 12)
        }
    };
    table = table
        .right("Octets", "octets", 12)
        .right("Local", "local_octets", 12)
        .right("Packets", "packets", 10)
        .right("Flows", "flows", 7)
        .right("Share", "share", 6);
    for (key, sum) in &sums {
        let names = key.iter().take(if by == By::Conversation { 2 } else { 1 }).cloned();
        let [a, b] = sum.ways;
        let counts = [a, b, sum.octets, sum.local, sum.packets, sum.flows].map(|n| n.to_string());
        table.row(names.chain(counts).chain([percent(sum.octets, all)]));
    }
    let of = way.map_or_else(String::new, |way| format!(" {}", way.name()));
    let text = format!(
        "{}{} octets in {}{of} flows; {} of {found} rows shown\n\n{}",
        seen.head(),
        all,
        flows.len(),
        sums.len(),
        table.text()
    );
    let head =
        [("octets", all), ("flows", flows.len() as u64), ("rows", found as u64)].map(|(k, n)| (k, n.to_string()));
    Output::with_json(text, merged([leaves(head), leaves(truncation(seen)), table.json()]))
}

fn truncation(seen: &Seen<'_>) -> [(&'static str, String); 3] {
    let [there, read] = [seen.there.0, seen.there.1].map(|n| n.to_string());
    [("flows_in_caches", there), ("flows_read", read), ("flows_sampled", seen.sampled.to_string())]
}

/// Conversations of VMs of one host with each other.
pub fn local_only(seen: &Seen<'_>, rows: usize) -> Output {
    type Key = (u8, [(String, String); 2]);
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    for flow in seen.flows.iter().filter(|flow| flow.is_local()) {
        let [from, to] = flow.ends.map(|port| port.map_or_else(String::new, vm_name));
        let [a, b] = flow.addresses();
        let (mut pair, mut direction) = ([(from, a), (to, b)], 0);
        if pair[1] < pair[0] {
            pair.swap(0, 1);
            direction = 1;
        }
        sums.entry((flow.slot, pair)).or_default().add(flow, direction);
    }
    let all: u64 = seen.flows.iter().map(|flow| flow.octets).sum();
    let local: u64 = sums.values().map(|sum| sum.local).sum();
    let mut sums: Vec<(Key, Sum)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.octets));
    let found = sums.len();
    sums.truncate(rows);
    let mut table = Table::new("flow_local")
        .right("Mod", "mod", 3)
        .left("VM A", "vm_a", 12)
        .left("Address A", "address_a", 15)
        .left("VM B", "vm_b", 12)
        .left("Address B", "address_b", 15)
        .right("A to B", "a_to_b", 12)
        .right("B to A", "b_to_a", 12)
        .right("Packets", "packets", 10)
        .right("Flows", "flows", 7);
    for ((slot, [(vm_a, a), (vm_b, b)]), sum) in &sums {
        let [there, back] = sum.ways.map(|n| n.to_string());
        let names = [slot.to_string(), vm_a.clone(), a.clone(), vm_b.clone(), b.clone(), there, back];
        table.row(names.into_iter().chain([sum.packets.to_string(), sum.flows.to_string()]));
    }
    let text = format!(
        "{}{local} of {all} octets ({}) never left a host; {} of {found} conversations shown\n\n{}",
        seen.head(),
        percent(local, all),
        sums.len(),
        table.text()
    );
    let head = [
        ("octets", all.to_string()),
        ("local_octets", local.to_string()),
        ("local_share", percent(local, all)),
        ("conversations", found.to_string()),
    ];
    Output::with_json(text, merged([leaves(head), leaves(truncation(seen)), table.json()]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proto::addr::MacAddr;
    use proto::name::IfName;
    use proto::report::FlowRow;

    use crate::config::model::Prefix;

    use super::*;
    use crate::cli::cmd::show::flow_cache::tests::row;
    use crate::cli::cmd::show::sample;

    fn v4(last: u8) -> u128 {
        std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().to_bits()
    }

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    /// web1 and web2 are on module 3, web3 on module 4; all have talked, also to somebody outside.
    fn told() -> Vec<(u8, (Vec<FlowRow>, u64))> {
        let (veth1, veth2, veth3) = (IfName::Vethernet(1), IfName::Vethernet(2), IfName::Vethernet(3));
        let (wire3, wire4) = (IfName::Ethernet { slot: 3, port: 1 }, IfName::Ethernet { slot: 4, port: 1 });
        let flow = |octets, ports: [IfName; 2], ends: [u8; 2]| FlowRow {
            input: Some(ports[0]),
            output: Some(ports[1]),
            src: v4(ends[0]),
            dst: v4(ends[1]),
            src_mac: mac(ends[0]),
            dst_mac: mac(ends[1]),
            ..row(octets)
        };
        let back = |row: FlowRow| FlowRow { src_port: 80, dst_port: 40_000, ..row };
        let denied = FlowRow { dropped: Some("acl-deny".into()), ..flow(9999, [veth1, veth2], [1, 2]) };
        let arp = FlowRow {
            ethertype: 0x0806,
            output: None,
            dst_mac: MacAddr([0xff; 6]),
            ..flow(60, [veth1, veth2], [1, 2])
        };
        let on3 = vec![
            flow(5000, [veth1, veth2], [1, 2]),
            back(flow(900, [veth2, veth1], [2, 1])),
            flow(700, [veth1, wire3], [1, 3]),
            flow(300, [wire3, veth1], [99, 1]),
            denied,
            arp,
        ];
        // The same conversation, where it arrives.
        let on4 = vec![flow(700, [wire4, veth3], [1, 3]), flow(80, [veth3, wire4], [3, 99])];
        vec![(3, (on3, 6)), (4, (on4, 20))]
    }

    #[test]
    fn rendered() {
        let (told, ports) = (told(), sample::ports());
        let seen = Seen::new(&told, &ports, &BTreeSet::new());
        sample::check("flow_top_ip", &top(&seen, By::Ip, None, 10));
        sample::check("flow_top_conversation", &top(&seen, By::Conversation, None, 2));
        let text = "10.0.0.0/30 64500 Example\n2001:db8::/32 64501 Documentation\n";
        let systems = crate::autonomous::Table::read(text);
        let by_system = Seen::new(&told, &ports, &BTreeSet::new()).kept(60).with_systems(&systems);
        sample::check("flow_top_as", &top(&by_system, By::As, None, 10));
        sample::check("flow_top_vm", &top(&seen, By::Vm, None, 10));
        sample::check("flow_top_profile", &top(&seen, By::Profile, None, 10));
        sample::check("flow_top_port", &top(&seen, By::Port, None, 10));
        sample::check("flow_local-only", &local_only(&seen, 10));
        let empty = Seen::new(&[], &ports, &BTreeSet::new());
        assert!(local_only(&empty, 10).text.starts_with("0 of 0 octets (0.0%)"));
        let mut told = told;
        told[0].1.0[0].sampled = Some(100);
        let seen = Seen::new(&told, &ports, &BTreeSet::new());
        sample::check("flow_top_sampled", &top(&seen, By::Ip, None, 3));
    }

    #[test]
    fn each_flow_is_counted_once_and_has_a_way() {
        let (told, ports) = (told(), sample::ports());
        let octets = |way, prefixes: &BTreeSet<Prefix>| {
            let seen = Seen::new(&told, &ports, prefixes);
            top(&seen, By::Conversation, way, 10).json.unwrap()["octets"].as_str().unwrap().to_owned()
        };
        let none = BTreeSet::new();
        assert_eq!(octets(None, &none), "7040");
        let ways = [Way::Internal, Way::Outbound, Way::Inbound, Way::External];
        assert_eq!(ways.map(|way| octets(Some(way), &none)), ["6660", "80", "300", "0"]);
        // Whoever is outside by the prefixes is outside, VM or not.
        let prefixes = ["10.0.0.0/31", "10.0.0.99/32"].map(|text| text.parse().unwrap()).into();
        assert_eq!(ways.map(|way| octets(Some(way), &prefixes)), ["360", "5700", "980", "0"]);
    }
}
