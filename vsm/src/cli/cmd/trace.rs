//! `trace packet`: what would become of a frame, stage by stage.
//!
//! The module that has the port runs the frame through the code that real frames run through, and changes nothing; here the
//! frame is made of what was typed, and the rules that decided get their text and the line of the configuration that put
//! their list there. `debug packet` shows real frames in the same form.

use std::net::{Ipv4Addr, Ipv6Addr};

use proto::addr::MacAddr;
use proto::name::IfName;
use proto::passage::{IMAGINED_MAX, Imagined, Passage, Said, Step};
use proto::query::Query;
use proto::report::{Answer, RuleRef};
use serde_json::Value as Json;

use super::show::gather::{Port, known_ports, ports};
use crate::cli::render::{Output, Table, leaves, merged};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Value};
use crate::config::model::{Model, Settings};
use crate::config::rule;

const WORDS: &[(&str, &str)] = &[
    ("trace", "Show what would become of a frame"),
    ("packet", "A frame, which is imagined"),
    ("interface", "Port that would receive it"),
    ("hex", "The whole frame, without FCS"),
    ("frame", "Hexadecimal digits, with or without blanks and colons"),
    ("to", "Addressed to another port"),
    ("peer", "Port whose VM it is for"),
    ("dst-mac", "Destination MAC address"),
    ("dmac", "MAC address"),
    ("src-mac", "Source MAC address; that of the port's VM when it is not said"),
    ("smac", "MAC address"),
    ("vlan", "With a VLAN tag"),
    ("cos", "Priority in the tag"),
    ("priority", "Priority"),
    ("ipv4", "An IPv4 packet"),
    ("src", "Source address"),
    ("dst", "Destination address"),
    ("ipv6", "An IPv6 packet"),
    ("src6", "Source address"),
    ("dst6", "Destination address"),
    ("protocol", "IP protocol"),
    ("number", "Protocol number"),
    ("tcp", "TCP"),
    ("udp", "UDP"),
    ("sport", "Source port"),
    ("dport", "Destination port"),
    ("icmp", "ICMP, or ICMPv6 in IPv6"),
    ("type", "Type"),
    ("code", "Code"),
    ("dscp", "Differentiated services code point"),
    ("point", "Code point"),
    ("ethertype", "Of a frame that is not IP; 0x0806 asks for the destination address"),
    ("kind", "EtherType"),
    ("length", "Octets of the frame, without FCS"),
    ("octets", "Octets"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let command = |syntax, help, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no: None, run };
    vec![
        command(
            "trace packet interface <if:if> hex <frame:line>",
            "Show what would become of a frame that is given whole",
            |session, args| {
                let frame = hex(args.text("frame").unwrap_or_default())?;
                trace(session, args, |_| Ok(frame))
            },
        ),
        command(
            "trace packet interface <if:if> { to <peer:if> | dst-mac <dmac:mac> } [ src-mac <smac:mac> | \
             vlan <vid:num:0-4095> | cos <priority:num:0-7> | ipv4 <src:ip> <dst:ip> | ipv6 <src6:ip6> <dst6:ip6> | \
             protocol <number:num:0-255> | tcp <sport:port> <dport:port> | udp <sport:port> <dport:port> | \
             icmp <type:num:0-255> <code:num:0-255> | dscp <point:num:0-63> | ethertype <kind:hex16> | \
             length <octets:num:14-9238> ]*",
            "Show what would become of a frame",
            |session, args| {
                let peer = args.interface("peer").map(|name| mac_of(session, name)).transpose()?;
                trace(session, args, |port| frame(port, args, peer))
            },
        ),
    ]
}

fn mac_of(session: &Session, name: IfName) -> Result<MacAddr, Error> {
    let all = ports(&session.handle.model(), &session.handle.inventory(), &[]);
    let port = all.iter().find(|port| port.name == name);
    let port = port.ok_or_else(|| Error::Refused(format!("Interface {name} does not exist")))?;
    let mac = port.report.as_ref().and_then(|report| report.mac);
    mac.ok_or_else(|| Error::Refused(format!("The MAC address of {name} is not known: say dst-mac")))
}

fn trace(
    session: &mut Session,
    args: &Args,
    frame: impl FnOnce(&Port) -> Result<Vec<u8>, Error>,
) -> Result<Output, Error> {
    let ports = known_ports(session, args)?;
    let port = ports.first().ok_or_else(|| Error::Refused("There is no such interface".to_owned()))?;
    let octets = frame(port)?;
    let absent = || Error::Refused(format!("{} is on no module", port.name));
    let slot = port.report.as_ref().and(port.slot).ok_or_else(absent)?;
    let query = Query::Trace(Imagined { port: port.name, octets });
    match session.handle.ask(query, Some(slot)).pop() {
        Some((_, Ok(Answer::Traced(passage)))) => Ok(passages(&session.handle.model(), slot, &[passage])),
        Some((_, Ok(Answer::Failed(why)) | Err(why))) => Err(Error::Refused(why)),
        _ => Err(Error::Refused(format!("module {slot} gave no answer"))),
    }
}

/// A frame of hexadecimal digits.
fn hex(text: &str) -> Result<Vec<u8>, Error> {
    let wrong = |what: &str| Error::Refused(format!("hex: {what}"));
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, ':' | '.' | '-'))
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.ok_or_else(|| wrong("only hexadecimal digits, blanks, colons, dots and dashes"))?;
    if digits.len() % 2 == 1 {
        return Err(wrong("an octet has two digits, and one is missing"));
    }
    if digits.len() > 2 * IMAGINED_MAX {
        return Err(wrong(&format!("a frame has up to {IMAGINED_MAX} octets")));
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// A frame of what was typed.
fn frame(port: &Port, args: &Args, peer: Option<MacAddr>) -> Result<Vec<u8>, Error> {
    let own = port.report.as_ref().and_then(|report| report.mac);
    let source = args.mac("smac").or(own);
    let source =
        source.ok_or_else(|| Error::Refused("The MAC address of the port is not known: say src-mac".into()))?;
    let destination = args.mac("dmac").or(peer).unwrap_or_default();
    let mut frame = [destination.0, source.0].concat();
    let number = |name: &str| args.number(name).unwrap_or(0);
    if args.has("vlan") || args.has("cos") {
        let tci = number("priority") << 13 | number("vid");
        frame.extend_from_slice(&[0x81, 0, (tci >> 8) as u8, tci as u8]);
    }
    let room = (number("octets") as usize).saturating_sub(frame.len() + 2);
    let (kind, packet) = match args.number("kind") {
        Some(0x0806) => (0x0806, arp(args, source)),
        _ => packet(args, room)?,
    };
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&packet);
    Ok(frame)
}

/// Asks who has the destination address (RFC 826).
fn arp(args: &Args, source: MacAddr) -> Vec<u8> {
    let [src, dst] = ["src", "dst"].map(|name| args.ip(name).unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    let mut packet = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &source.0, &src, &[0; 6], &dst].concat();
    packet.resize(46, 0);
    packet
}

/// EtherType and packet, of `room` octets when that is more than it needs.
fn packet(args: &Args, room: usize) -> Result<(u16, Vec<u8>), Error> {
    let v6 = match (args.get("src6"), args.get("dst6")) {
        (Some(Value::Ip6(src)), Some(Value::Ip6(dst))) => Some((*src, *dst)),
        _ => None,
    };
    let v4 = args.ip("src").zip(args.ip("dst"));
    let is_l4 = ["tcp", "udp", "icmp", "protocol", "dscp"].iter().any(|word| args.has(word));
    let refuse = |why: &str| Err(Error::Refused(why.to_owned()));
    let kinds = ["tcp", "udp", "icmp", "protocol"].iter().filter(|word| args.has(word)).count();
    match (v4, v6) {
        _ if kinds > 1 => refuse("A packet has one protocol"),
        (Some(_), Some(_)) => refuse("A packet is IPv4 or IPv6"),
        (None, None) if is_l4 => refuse("Say ipv4 or ipv6, and the addresses"),
        (None, None) => {
            let kind = args.number("kind").unwrap_or(0x88b5) as u16;
            Ok((kind, vec![0; room.max(46)]))
        }
        _ if args.has("ethertype") => refuse("The EtherType of IP is known"),
        (Some((src, dst)), None) => Ok((0x0800, ipv4(args, src, dst, room))),
        (None, Some((src, dst))) => Ok((0x86dd, ipv6(args, src, dst, room))),
    }
}

/// Protocol and segment, of `room` octets when that is more than it needs.
fn segment(args: &Args, room: usize, icmp: u8) -> (u8, Vec<u8>) {
    let number = |name: &str| args.number(name).unwrap_or(0);
    let ports = [number("sport") as u16, number("dport") as u16].map(u16::to_be_bytes).concat();
    let (protocol, mut segment) = match () {
        () if args.has("tcp") => (6, [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat()),
        () if args.has("udp") => (17, [&ports[..], &[0; 4]].concat()),
        () if args.has("icmp") => (icmp, vec![number("type") as u8, number("code") as u8, 0, 0, 0, 0, 0, 0]),
        // No next header, and for experiments (RFC 3692).
        () => (args.number("number").map_or(253, |n| n as u8), vec![0; 20]),
    };
    segment.resize(segment.len().max(room), 0);
    if protocol == 17 && segment.len() >= 8 {
        let length = segment.len() as u16;
        segment[4..6].copy_from_slice(&length.to_be_bytes());
    }
    (protocol, segment)
}

fn ipv4(args: &Args, src: Ipv4Addr, dst: Ipv4Addr, room: usize) -> Vec<u8> {
    let (protocol, segment) = segment(args, room.saturating_sub(20), 1);
    let tos = (args.number("point").unwrap_or(0) << 2) as u8;
    let mut packet = vec![0x45, tos];
    packet.extend_from_slice(&((20 + segment.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&dst.octets());
    let sum: u32 = packet.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&segment);
    packet
}

fn ipv6(args: &Args, src: Ipv6Addr, dst: Ipv6Addr, room: usize) -> Vec<u8> {
    let (protocol, segment) = segment(args, room.saturating_sub(40), 58);
    let class = args.number("point").unwrap_or(0) << 2;
    let mut packet = (6 << 28 | class << 20).to_be_bytes().to_vec();
    packet.extend_from_slice(&(segment.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[protocol, 64]);
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&dst.octets());
    packet.extend_from_slice(&segment);
    packet
}

/// The rule as it is written, `guard 10 deny ip any any`.
fn rule_text(model: &Model, rule: &RuleRef) -> String {
    // A module says it, so it is shown as what it may be.
    let (list, name) = (model.acls.get(&rule.acl), crate::log::clean(&rule.acl, 64));
    match rule.sequence {
        None => format!("{name} implicit deny"),
        Some(sequence) => {
            let text = list.and_then(|list| rule::entries(list).into_iter().find(|(at, _)| *at == sequence));
            format!("{name} {sequence} {}", text.map(|(_, text)| text).unwrap_or_default()).trim_end().to_owned()
        }
    }
}

/// The line of the configuration that put a list at a port: its own, or that of the profile where it comes from.
pub fn origin(model: &Model, profile: Option<&str>, name: IfName, list: &str, way_in: bool) -> String {
    let line = |own: &Settings| {
        let (ip, mac) = if way_in { (&own.ip_acl_in, &own.mac_acl_in) } else { (&own.ip_acl_out, &own.mac_acl_out) };
        let way = if way_in { "in" } else { "out" };
        let is = |applied: &Option<String>| applied.as_deref() == Some(list);
        match (is(ip), is(mac)) {
            (true, _) => Some(format!("ip port access-group {list} {way}")),
            (_, true) => Some(format!("mac port access-group {list} {way}")),
            _ => None,
        }
    };
    let interface = model.interfaces.get(&name);
    if let Some(line) = interface.and_then(|interface| line(&interface.own)) {
        return format!("interface {name}: {line}");
    }
    let inherits = interface.and_then(|interface| interface.inherit.as_deref()).or(profile);
    let lineage = inherits.map(|profile| model.lineage(profile)).unwrap_or_default();
    let found = lineage.iter().find_map(|(profile, it)| Some(format!("port-profile {profile}: {}", line(&it.own)?)));
    found.unwrap_or_default()
}

fn cells(model: &Model, step: &Step) -> [String; 6] {
    let said = match step.said {
        Said::Pass => "pass",
        Said::Drop => "drop",
        Said::Note => "",
    };
    let by = match (&step.rule, step.port, step.stage.as_str()) {
        (Some(rule), Some(name), "acl-in") => origin(model, None, name, &rule.acl, true),
        (Some(rule), Some(name), "acl-out" | "flood") => origin(model, None, name, &rule.acl, false),
        _ => String::new(),
    };
    [
        crate::log::clean(&step.stage, 16),
        said.to_owned(),
        step.port.map(|name| name.short()).unwrap_or_default(),
        crate::log::clean(&step.text, 300),
        step.rule.as_ref().map(|rule| rule_text(model, rule)).unwrap_or_default(),
        by,
    ]
}

/// One frame: a line of what it is, and a table of its stages.
fn passage(model: &Model, slot: u8, passage: &Passage) -> (String, Json) {
    let mut table = Table::new("stage")
        .left("Stage", "stage", 10)
        .left("Result", "result", 6)
        .left("Port", "interface", 7)
        .left("Detail", "detail", 40)
        .left("Rule", "rule", 0)
        .left("Configured by", "configured_by", 0);
    passage.steps.iter().for_each(|step| table.row(cells(model, step)));
    let port = passage.port.map_or_else(|| format!("module {slot}"), |name| name.to_string());
    let at = passage.at_ns.map(super::ethanalyzer::moment);
    let headers = crate::log::clean(&passage.headers, 300);
    let head = match &at {
        None => format!("Imagined at {port}, {} octets: {headers}\n", passage.length),
        Some(at) => format!("{at}  {port}, {} octets: {headers}\n", passage.length),
    };
    let out: Vec<String> = passage.out.iter().map(|name| name.short()).collect();
    let facts = [
        ("time", at.unwrap_or_default()),
        ("interface", port),
        ("octets", passage.length.to_string()),
        ("headers", headers),
        ("result", if passage.dropped.is_some() { "dropped" } else { "sent" }.to_owned()),
        ("reason", crate::log::clean(passage.dropped.as_deref().unwrap_or_default(), 40)),
        ("out", out.join(",")),
    ];
    (format!("{head}\n{}", table.text()), merged([leaves(facts), table.json()]))
}

/// Frames of a module, one after the other.
pub fn passages(model: &Model, slot: u8, all: &[Passage]) -> Output {
    let (texts, rows): (Vec<String>, Vec<Json>) = all.iter().map(|one| passage(model, slot, one)).unzip();
    Output::with_json(texts.join("\n"), crate::cli::render::table("packet", rows))
}

#[cfg(test)]
mod tests {
    use proto::acl::Action;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let model = sample::model();
        let port = IfName::Vethernet(1);
        let (profile, list) = model
            .profiles
            .iter()
            .find_map(|(name, profile)| Some((name, profile.own.ip_acl_in.clone()?)))
            .expect("a profile with a list");
        assert_eq!(
            origin(&model, Some(profile), IfName::Vethernet(99), &list, true),
            format!("port-profile {profile}: ip port access-group {list} in")
        );
        assert_eq!(origin(&model, Some(profile), IfName::Vethernet(99), &list, false), "");
        let (sequence, _) = rule::entries(&model.acls[&list]).swap_remove(1);
        let rule = |sequence| Some(RuleRef { acl: list.clone(), sequence, action: Action::Deny });
        let step = |stage: &str, said, text: &str, port, rule| Step {
            stage: stage.into(),
            said,
            text: text.into(),
            port,
            rule,
        };
        let steps = vec![
            step("parse", Said::Pass, "IPv4, protocol 17, no tag", None, None),
            step("flow-cache", Said::Note, "miss: it would be the first frame of its flow", None, None),
            step("port", Said::Pass, "up", Some(port), None),
            step("acl-in", Said::Drop, "denied by an access list on the way in", Some(port), rule(Some(sequence))),
            step("result", Said::Drop, "dropped as acl-deny", None, rule(None)),
        ];
        let one = Passage {
            at_ns: None,
            port: Some(port),
            length: 42,
            headers: "0200.0000.0001 > 0200.0000.0002 10.0.0.1:1 > 10.0.0.9:80 udp".into(),
            steps,
            dropped: Some("acl-deny".into()),
            out: Vec::new(),
        };
        sample::check("trace_packet", &passages(&model, 3, std::slice::from_ref(&one)));
        let real = Passage { at_ns: Some(1_795_222_923_000_001_000), dropped: None, out: vec![port], ..one };
        sample::check("debug_packet", &passages(&model, 3, &[real.clone(), real]));
    }

    #[test]
    fn frames_of_digits() {
        assert_eq!(hex("01:02 0a-FF"), Ok(vec![1, 2, 10, 255]));
        assert!(hex("123").is_err() && hex("zz").is_err() && hex(&"00".repeat(IMAGINED_MAX + 1)).is_err());
    }

    #[test]
    fn frames_of_words() {
        let value = |name, value| (name, value);
        let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
        let values = vec![
            value("smac", Value::Mac(mac(1))),
            value("dmac", Value::Mac(mac(2))),
            value("vid", Value::Number(10)),
            value("priority", Value::Number(5)),
            value("src", Value::Ip([10, 0, 0, 1].into())),
            value("dst", Value::Ip([10, 0, 0, 2].into())),
            value("sport", Value::Number(1000)),
            value("dport", Value::Number(53)),
            value("point", Value::Number(46)),
        ];
        let words = vec!["vlan", "cos", "ipv4", "udp", "dscp"];
        let mut args = Args { values, words, ..Args::default() };
        let port = sample::ports().swap_remove(0);
        let made = frame(&port, &args, None).unwrap();
        let wanted = [
            &mac(2).0[..],
            &mac(1).0,
            &[0x81, 0, 0xa0, 10, 8, 0, 0x45, 184, 0, 28, 0, 0, 0x40, 0, 64, 17, 0x26, 0x17, 10, 0, 0, 1, 10, 0, 0, 2],
            &[0x03, 0xe8, 0, 53, 0, 8, 0, 0],
        ];
        assert_eq!(made, wanted.concat());
        args.values.push(value("kind", Value::Number(0x0806)));
        let arp = frame(&port, &args, None).unwrap();
        assert_eq!((arp.len(), &arp[16..26]), (64, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1][..]));
        assert_eq!((&arp[26..36], &arp[42..46]), (&[2, 0, 0, 0, 0, 1, 10, 0, 0, 1][..], &[10, 0, 0, 2][..]));
        args.values.pop();
        args.values.push(value("octets", Value::Number(100)));
        let long = frame(&port, &args, None).unwrap();
        assert_eq!((long.len(), &long[42..44], &long[20..22]), (100, &[0, 62][..], &[0, 82][..]));
        args.words.push("tcp");
        assert!(frame(&port, &args, None).is_err(), "two protocols");
        args.words = vec!["udp"];
        args.values.retain(|(name, _)| !["src", "dst"].contains(name));
        assert!(frame(&port, &args, None).is_err(), "no addresses");
    }
}
