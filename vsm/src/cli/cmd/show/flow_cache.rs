//! `show flow monitor ... cache`: who talks to whom, over all modules.
//!
//! A conversation between two hosts is in the caches of both; the first column says which module saw it.

use std::net::{Ipv6Addr, SocketAddr};

use proto::query::{FLOWS_MAX, FlowQuery, Order, Query};
use proto::report::{Answer, FlowRow};
use serde_json::Value;

use super::exec;
use super::flow::known;
use super::gather::{Asked, ask};
use crate::cli::render::{Output, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Value as Typed};

const WORDS: &[(&str, &str)] = &[
    ("dropped", "Dropped flows only"),
    ("host", "Flows from or to an address"),
    ("ip", "IPv4 address"),
    ("ip6", "IPv6 address"),
    ("port", "Flows from or to a TCP or UDP port"),
    ("protocol", "Flows of an IP protocol"),
    ("slot", "Module number"),
    ("sort", "Which flows come first"),
    ("order", "Most octets, most packets, longest, or seen last"),
    ("highest", "The largest first, as always"),
    ("counter", "By a counter"),
    ("octets", "Most octets first"),
    ("bytes", "As octets"),
    ("packets", "Most packets first"),
    ("duration", "Those that lasted longest first"),
    ("recent", "Those that were seen last first"),
    ("tend", "As recent"),
    ("top", "Those that come first"),
    ("count", "Flows"),
    ("records", "Flows that the hosts have kept"),
    ("last", "That ended in the last minutes"),
    ("minutes", "Minutes"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show flow monitor [<name:word>] cache [ host { <ip:ip> | <ip6:ip6> } | protocol { <number:num:0-255> | \
         <protocol=icmp|igmp|tcp|udp|gre|esp|icmpv6> } | port <port:port> | vlan <vlan:vlan> | interface <if:if> \
         | dropped | sort [highest] [counter] <order=octets|bytes|packets|duration|recent|tend> | top <count:num:1-10000> | module <slot:num:3-66> ]*",
            "Display flows, those with the most octets first unless said",
            WORDS,
            show,
        ),
        exec(
            "show flow records last <minutes:num:1-10080> [ host { <ip:ip> | <ip6:ip6> } | protocol { <number:num:0-255> | \
         <protocol=icmp|igmp|tcp|udp|gre|esp|icmpv6> } | port <port:port> | vlan <vlan:vlan> | interface <if:if> \
         | dropped | sort [highest] [counter] <order=octets|bytes|packets|duration|recent|tend> | top <count:num:1-10000> | module <slot:num:3-66> ]*",
            "Display flows that the hosts have kept, those with the most octets first unless said",
            WORDS,
            stored,
        ),
    ]
}

/// Rows that are shown of what is kept, unless the command says how many.
const STORED: u32 = 100;

fn stored(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if session.handle.model().flow_store.is_none() {
        return Err(Error::Refused("No flows are kept: there is no flow-store".to_owned()));
    }
    let flows = FlowQuery { top: args.number("count").unwrap_or(STORED), ..query(args) };
    let (top, order, minutes) = (flows.top, flows.order, args.number("minutes").unwrap_or(1));
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    let (flows, fitting, asked) = gathered(session, Query::Stored { flows, minutes }, slot);
    Ok(asked.warn(listed(flows, fitting, top as usize, order, "kept")))
}

type Gathered = (Vec<(u8, FlowRow)>, u64, Asked<(Vec<FlowRow>, u64)>);

fn gathered(session: &Session, query: Query, slot: Option<u8>) -> Gathered {
    let mut asked: Asked<(Vec<FlowRow>, u64)> = ask(session, query, slot, |answer| match answer {
        Answer::Flows(rows, fitting) => Some(vec![(rows, fitting)]),
        _ => None,
    });
    let fitting = asked.rows.iter().map(|(_, (_, fitting))| fitting).sum();
    let rows = std::mem::take(&mut asked.rows);
    let flows = rows.into_iter().flat_map(|(slot, (rows, _))| rows.into_iter().map(move |row| (slot, row))).collect();
    (flows, fitting, asked)
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    known(args, model.monitors.contains_key(args.text("name").unwrap_or_default()), "Flow monitor")?;
    let query = query(args);
    let top = if query.top == 0 { FLOWS_MAX } else { query.top };
    let order = query.order;
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    let (flows, fitting, asked) = gathered(session, Query::Flows(query), slot);
    Ok(asked.warn(cache(flows, fitting, top as usize, order)))
}

fn query(args: &Args) -> FlowQuery {
    let named = args.text("protocol").and_then(|name| PROTOCOLS.iter().find(|(_, n)| *n == name)).map(|(p, _)| *p);
    FlowQuery {
        monitor: args.text("name").map(str::to_owned),
        host: match (args.ip("ip"), args.get("ip6")) {
            (Some(ip), _) => Some(ip.to_ipv6_mapped().to_bits()),
            (None, Some(Typed::Ip6(ip))) => Some(ip.to_bits()),
            _ => None,
        },
        protocol: named.or(args.number("number").and_then(|p| u8::try_from(p).ok())),
        port: args.number("port").and_then(|p| u16::try_from(p).ok()),
        vlan: args.vlan("vlan"),
        interface: args.interface("if"),
        dropped: args.has("dropped"),
        top: args.number("count").unwrap_or(0),
        order: args.text("order").and_then(order),
    }
}

fn order(word: &str) -> Option<Order> {
    match word {
        "packets" => Some(Order::Packets),
        "duration" => Some(Order::Duration),
        "recent" | "tend" => Some(Order::Recent),
        _ => None,
    }
}

/// The larger it is, the earlier the flow comes.
fn rank(order: Option<Order>, row: &FlowRow) -> u64 {
    match order {
        None | Some(Order::Octets) => row.octets,
        Some(Order::Packets) => row.packets,
        Some(Order::Duration) => row.first_ms_ago.saturating_sub(row.last_ms_ago),
        Some(Order::Recent) => u64::MAX - row.last_ms_ago,
    }
}

const PROTOCOLS: [(u8, &str); 7] =
    [(1, "icmp"), (2, "igmp"), (6, "tcp"), (17, "udp"), (47, "gre"), (50, "esp"), (58, "icmpv6")];

/// Name or number of the protocol, or the EtherType of other packets.
pub fn protocol_word(row: &FlowRow) -> String {
    if !is_ip(row) {
        return format!("0x{:04x}", row.ethertype);
    }
    let known = PROTOCOLS.iter().find(|(number, _)| *number == row.protocol);
    known.map_or_else(|| row.protocol.to_string(), |(_, name)| (*name).to_owned())
}

/// IPv4 or IPv6.
pub fn is_ip(row: &FlowRow) -> bool {
    matches!(row.ethertype, 0x0800 | 0x86dd)
}

/// Address and port of one end: `10.0.0.1:80`, `10.0.0.1`, `[2001:db8::1]:80`, or the MAC address of other packets.
fn end(row: &FlowRow, is_source: bool) -> String {
    let (address, port, mac) = match is_source {
        true => (row.src, row.src_port, row.src_mac),
        false => (row.dst, row.dst_port, row.dst_mac),
    };
    let ip = Ipv6Addr::from_bits(address).to_canonical();
    match (is_ip(row), row.protocol) {
        (false, _) => mac.to_string(),
        (true, 6 | 17) => SocketAddr::new(ip, port).to_string(),
        _ => ip.to_string(),
    }
}

/// `FSRPAU`, a dot for each that was never seen.
fn flags_word(row: &FlowRow) -> String {
    if !is_ip(row) || row.protocol != 6 {
        return "--".to_owned();
    }
    let flag = |(bit, letter): (u8, char)| if row.tcp_flags >> bit & 1 == 1 { letter } else { '.' };
    [(0, 'F'), (1, 'S'), (2, 'R'), (3, 'P'), (4, 'A'), (5, 'U')].into_iter().map(flag).collect()
}

/// The flows that come first, of `fitting` in all.
pub fn cache(flows: Vec<(u8, FlowRow)>, fitting: u64, top: usize, order: Option<Order>) -> Output {
    listed(flows, fitting, top, order, "in the caches")
}

fn listed(mut flows: Vec<(u8, FlowRow)>, fitting: u64, top: usize, order: Option<Order>, place: &str) -> Output {
    flows.sort_by_key(|(slot, row)| (std::cmp::Reverse(rank(order, row)), *slot, row.src, row.dst, row.src_port));
    flows.truncate(top);
    let mut columns = crate::cli::render::Table::new("flow")
        .right("Mod", "mod", 3)
        .left("Input", "", 8)
        .left("Output", "", 8)
        .right("VLAN", "", 4)
        .left("Proto", "", 6)
        .left("Source", "", 21)
        .left("Destination", "", 21)
        .left("Flags", "", 6)
        .right("Packets", "", 10)
        .right("Octets", "", 12)
        .right("Seconds", "", 7)
        .left("Status", "", 9)
        .left("Sampled", "", 7);
    let mut objects: Vec<Value> = Vec::new();
    for (slot, row) in &flows {
        let port = |name: Option<proto::name::IfName>| name.map_or_else(|| "--".to_owned(), |name| name.short());
        let vlan = row.vlan.map_or_else(|| "--".to_owned(), |vlan| vlan.to_string());
        let status = row.dropped.as_ref().map_or_else(|| "forwarded".to_owned(), |why| format!("dropped: {why}"));
        let lasted = row.first_ms_ago.saturating_sub(row.last_ms_ago);
        columns.row([
            slot.to_string(),
            port(row.input),
            port(row.output),
            vlan.clone(),
            protocol_word(row),
            end(row, true),
            end(row, false),
            flags_word(row),
            row.packets.to_string(),
            row.octets.to_string(),
            format!("{}.{}", lasted / 1000, lasted % 1000 / 100),
            status.clone(),
            sampled_word(row),
        ]);
        objects.push(merged([object(*slot, row), leaves([("vlan", vlan), ("status", status)])]));
    }
    let text = format!("{fitting} flows {place}, {} shown\n\n{}", flows.len(), columns.text());
    let head = leaves([("flows", fitting.to_string()), ("shown", flows.len().to_string())]);
    Output::with_json(text, merged([head, table("flow", objects)]))
}

/// `1:100` where one of a hundred packets was counted and is shown, `estimate` where the figures are multiplied.
fn sampled_word(row: &FlowRow) -> String {
    match row.sampled {
        None => "--".to_owned(),
        Some(0) => "estimate".to_owned(),
        Some(out_of) => format!("{}:{out_of}", row.sampled_count.unwrap_or(1)),
    }
}

fn object(slot: u8, row: &FlowRow) -> Value {
    let long = |name: Option<proto::name::IfName>| name.map(|name| name.to_string()).unwrap_or_default();
    let address =
        |bits: u128| if is_ip(row) { Ipv6Addr::from_bits(bits).to_canonical().to_string() } else { String::new() };
    leaves([
        ("mod", slot.to_string()),
        ("input", long(row.input)),
        ("output", long(row.output)),
        ("src_mac", row.src_mac.to_string()),
        ("dst_mac", row.dst_mac.to_string()),
        ("ethertype", format!("0x{:04x}", row.ethertype)),
        ("protocol", row.protocol.to_string()),
        ("tos", row.tos.to_string()),
        ("src_addr", address(row.src)),
        ("dst_addr", address(row.dst)),
        ("src_port", row.src_port.to_string()),
        ("dst_port", row.dst_port.to_string()),
        ("tcp_flags", format!("0x{:02x}", row.tcp_flags)),
        ("packets", row.packets.to_string()),
        ("octets", row.octets.to_string()),
        ("first_ms_ago", row.first_ms_ago.to_string()),
        ("last_ms_ago", row.last_ms_ago.to_string()),
        ("sampled", sampled_word(row)),
    ])
}

#[cfg(test)]
pub(super) mod tests {
    use proto::addr::VlanId;
    use proto::name::IfName;

    use super::*;
    use crate::cli::argument::pieces;
    use crate::cli::cmd::show::sample;
    use crate::cli::graph::Tree;
    use crate::cli::parse::parse;
    use crate::cli::tree::Mode;

    /// A TCP flow from Vethernet1 to Vethernet2.
    pub fn row(octets: u64) -> FlowRow {
        let v4 = |last| std::net::Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().to_bits();
        FlowRow {
            input: Some(IfName::Vethernet(1)),
            output: Some(IfName::Vethernet(2)),
            vlan: VlanId::new(10),
            src_mac: "0200.0000.0001".parse().unwrap(),
            dst_mac: "0200.0000.0002".parse().unwrap(),
            ethertype: 0x0800,
            src: v4(1),
            dst: v4(2),
            protocol: 6,
            tos: 0,
            src_port: 40_000,
            dst_port: 80,
            tcp_flags: 0x1a,
            packets: 10,
            octets,
            first_ms_ago: 61_500,
            last_ms_ago: 1_200,
            dropped: None,
            sampled: None,
            sampled_count: None,
        }
    }

    #[test]
    fn rendered() {
        let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).to_bits();
        let udp6 = FlowRow { ethertype: 0x86dd, src: six, dst: six + 1, protocol: 17, tcp_flags: 0, ..row(900) };
        let ping = FlowRow {
            protocol: 1,
            dst_port: 0x0800,
            tcp_flags: 0,
            output: None,
            dropped: Some("acl-deny".into()),
            ..row(84)
        };
        let arp = FlowRow { ethertype: 0x0806, src: 0, dst: 0, protocol: 0, output: None, vlan: None, ..row(60) };
        let sampled = FlowRow { sampled: Some(100), ..row(700) };
        let flows = vec![(3, ping), (4, row(150_000)), (3, arp), (3, udp6), (4, sampled)];
        sample::check("flow_monitor_cache", &cache(flows.clone(), 40, 100, None));
        let kept = flows.iter().map(|(slot, row)| (*slot, FlowRow { sampled: row.sampled.map(|_| 0), ..row.clone() }));
        sample::check("flow_records", &listed(kept.collect(), 40, 100, None, "kept"));
        let top = cache(flows, 40, 1, None).json.unwrap();
        assert_eq!(top["TABLE_flow"]["ROW_flow"]["octets"], "150000");
        assert_eq!(cache(Vec::new(), 0, 9, None).text.lines().next(), Some("0 flows in the caches, 0 shown"));
    }

    #[test]
    fn what_comes_first_can_be_said() {
        let many = FlowRow { packets: 99, ..row(1) };
        let long = FlowRow { first_ms_ago: 90_000, ..row(2) };
        let late = FlowRow { last_ms_ago: 0, first_ms_ago: 0, ..row(3) };
        let flows = [(3, row(9)), (3, many), (4, long), (5, late)];
        let first = |order| {
            let shown = cache(flows.to_vec(), 4, 1, order).json.unwrap();
            shown["TABLE_flow"]["ROW_flow"]["octets"].as_str().unwrap().to_owned()
        };
        assert_eq!([None, Some(Order::Octets)].map(first), ["9", "9"]);
        assert_eq!([Order::Packets, Order::Duration, Order::Recent].map(|order| first(Some(order))), ["1", "2", "3"]);
    }

    #[test]
    fn filters_come_in_any_order() {
        let line = "show flow monitor visibility cache top 5 sort recent dropped host 10.0.0.1 proto icmp vlan 10 int veth 3 port www";
        assert!(!pieces(line).is_empty());
        let parsed = parse(Tree::shared(), Mode::Exec, line).unwrap().unwrap();
        let wanted = FlowQuery {
            monitor: Some("visibility".into()),
            host: Some(row(0).src),
            protocol: Some(1),
            port: Some(80),
            vlan: VlanId::new(10),
            interface: Some(IfName::Vethernet(3)),
            dropped: true,
            top: 5,
            order: Some(Order::Recent),
        };
        assert_eq!(query(&parsed.args), wanted);
        assert_eq!(query(&Args::default()), FlowQuery::default());
        for (words, order) in [
            ("bytes", None),
            ("highest counter packets", Some(Order::Packets)),
            ("counter bytes", None),
            ("tend", Some(Order::Recent)),
        ] {
            let line = format!("show flow monitor cache sort {words} top 3");
            let parsed = parse(Tree::shared(), Mode::Exec, &line).unwrap().unwrap();
            assert_eq!((query(&parsed.args).order, query(&parsed.args).top), (order, 3), "{words}");
        }
        let parsed = parse(Tree::shared(), Mode::Exec, "show flow monitor cache host 2001:db8::1").unwrap().unwrap();
        assert_eq!(query(&parsed.args).host, Some(0x2001_0db8 << 96 | 1));
    }
}
