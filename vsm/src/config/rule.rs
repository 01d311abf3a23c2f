//! Rules of access lists as CLI text, and the well-known names in them.
//!
//! One spelling for each rule, whatever was typed: hosts as `/32`, other prefixes as `/len`, anything else as address and
//! wildcard; protocols, ports, code points and ICMP messages by name where NX-OS has one. What is printed here reads
//! back as the same rule.

use std::fmt::Write;
use std::net::Ipv4Addr;

use proto::acl::{Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch};
use proto::addr::MacAddr;

use super::model::{AccessList, Entries, Entry};
use crate::cli::service;

/// IP protocols by name, IANA numbers.
pub const PROTOCOLS: [(&str, u8); 12] = [
    ("ahp", 51),
    ("eigrp", 88),
    ("esp", 50),
    ("gre", 47),
    ("icmp", 1),
    ("igmp", 2),
    ("nos", 94),
    ("ospf", 89),
    ("pcp", 108),
    ("pim", 103),
    ("tcp", 6),
    ("udp", 17),
];

/// Differentiated services code points by name (RFC 2474, 2597, 3246).
pub const DSCP: [(&str, u8); 21] = [
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("default", 0),
    ("ef", 46),
];

/// ICMP messages by name: type, and code where the name means one (RFC 792 and IANA's registry).
pub const ICMP: [(&str, u8, Option<u8>); 40] = [
    ("administratively-prohibited", 3, Some(13)),
    ("alternate-address", 6, None),
    ("conversion-error", 31, None),
    ("dod-host-prohibited", 3, Some(10)),
    ("dod-net-prohibited", 3, Some(9)),
    ("echo", 8, None),
    ("echo-reply", 0, None),
    ("general-parameter-problem", 12, Some(0)),
    ("host-isolated", 3, Some(8)),
    ("host-precedence-unreachable", 3, Some(14)),
    ("host-redirect", 5, Some(1)),
    ("host-tos-redirect", 5, Some(3)),
    ("host-tos-unreachable", 3, Some(12)),
    ("host-unknown", 3, Some(7)),
    ("host-unreachable", 3, Some(1)),
    ("information-reply", 16, None),
    ("information-request", 15, None),
    ("mask-reply", 18, None),
    ("mask-request", 17, None),
    ("net-redirect", 5, Some(0)),
    ("net-tos-redirect", 5, Some(2)),
    ("net-tos-unreachable", 3, Some(11)),
    ("net-unreachable", 3, Some(0)),
    ("network-unknown", 3, Some(6)),
    ("packet-too-big", 3, Some(4)),
    ("parameter-problem", 12, None),
    ("port-unreachable", 3, Some(3)),
    ("precedence-unreachable", 3, Some(15)),
    ("protocol-unreachable", 3, Some(2)),
    ("reassembly-timeout", 11, Some(1)),
    ("redirect", 5, None),
    ("router-advertisement", 9, None),
    ("router-solicitation", 10, None),
    ("source-quench", 4, None),
    ("source-route-failed", 3, Some(5)),
    ("time-exceeded", 11, None),
    ("timestamp-reply", 14, None),
    ("timestamp-request", 13, None),
    ("ttl-exceeded", 11, Some(0)),
    ("unreachable", 3, None),
];

/// TCP's number.
pub const TCP: u8 = 6;
/// UDP's number.
pub const UDP: u8 = 17;
/// ICMP's number.
pub const ICMP_PROTOCOL: u8 = 1;

fn action(action: Action) -> &'static str {
    match action {
        Action::Permit => "permit",
        Action::Deny => "deny",
    }
}

fn address(addr: AddrMatch) -> String {
    let ip = Ipv4Addr::from(addr.addr);
    match addr.prefix_len() {
        Some(0) => "any".to_owned(),
        Some(len) => format!("{ip}/{len}"),
        None => format!("{ip} {}", Ipv4Addr::from(addr.wildcard)),
    }
}

/// The name of the port, else its number. A port without a name of its own in UDP goes by TCP's, as management tools do.
fn service_name(protocol: Option<u8>, port: u16) -> String {
    let name = protocol.and_then(|p| service::name(p, port)).or_else(|| service::name(TCP, port));
    name.map_or_else(|| port.to_string(), str::to_owned)
}

fn ports(protocol: Option<u8>, ports: PortMatch) -> String {
    let name = |port| service_name(protocol, port);
    match ports {
        PortMatch::Any => String::new(),
        PortMatch::Eq(port) => format!(" eq {}", name(port)),
        PortMatch::Neq(port) => format!(" neq {}", name(port)),
        PortMatch::Lt(port) => format!(" lt {}", name(port)),
        PortMatch::Gt(port) => format!(" gt {}", name(port)),
        PortMatch::Range(first, last) => format!(" range {} {}", name(first), name(last)),
    }
}

fn icmp(rule: &IpRule) -> String {
    let Some(kind) = rule.icmp_type else { return String::new() };
    match (ICMP.iter().find(|(_, k, code)| *k == kind && *code == rule.icmp_code), rule.icmp_code) {
        (Some((name, ..)), _) => format!(" {name}"),
        (None, None) => format!(" {kind}"),
        (None, Some(code)) => format!(" {kind} {code}"),
    }
}

/// `permit tcp any 10.0.0.0/8 eq www`
pub fn ip_rule(rule: &IpRule) -> String {
    let protocol = match rule.protocol {
        None => "ip".to_owned(),
        Some(n) => {
            PROTOCOLS.iter().find(|(_, p)| *p == n).map_or_else(|| n.to_string(), |(name, _)| (*name).to_owned())
        }
    };
    let (src_port, dst_port) = (ports(rule.protocol, rule.src_port), ports(rule.protocol, rule.dst_port));
    let (src, dst) = (address(rule.src), address(rule.dst));
    let mut text = format!("{} {protocol} {src}{src_port} {dst}{dst_port}{}", action(rule.action), icmp(rule));
    if let Some(dscp) = rule.dscp {
        match DSCP.iter().find(|(_, n)| *n == dscp) {
            Some((name, _)) => _ = write!(text, " dscp {name}"),
            None => _ = write!(text, " dscp {dscp}"),
        }
    }
    text
}

fn mac(mac: MacMatch) -> String {
    match mac.wildcard {
        MacAddr::BROADCAST => "any".to_owned(),
        wildcard => format!("{} {wildcard}", mac.addr),
    }
}

/// `deny any 0200.0000.0001 0000.0000.0000 0x86dd vlan 10`
pub fn mac_rule(rule: &MacRule) -> String {
    let mut text = format!("{} {} {}", action(rule.action), mac(rule.src), mac(rule.dst));
    if let Some(ethertype) = rule.ethertype {
        _ = write!(text, " 0x{ethertype:04x}");
    }
    if let Some(vlan) = rule.vlan {
        _ = write!(text, " vlan {vlan}");
    }
    text
}

/// The entries of a list in order, each as its sequence number and the text behind it: a rule, or `remark …`.
pub fn entries(list: &AccessList) -> Vec<(u32, String)> {
    fn text<R>(entry: &Entry<R>, rule: impl Fn(&R) -> String) -> String {
        match entry {
            Entry::Rule(r) => rule(r),
            Entry::Remark(remark) => format!("remark {remark}"),
        }
    }
    match &list.entries {
        Entries::Ip(entries) => entries.iter().map(|(n, entry)| (*n, text(entry, ip_rule))).collect(),
        Entries::Mac(entries) => entries.iter().map(|(n, entry)| (*n, text(entry, mac_rule))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: IpRule = IpRule {
        action: Action::Permit,
        protocol: Some(TCP),
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };

    #[test]
    fn rules_have_one_spelling() {
        let net = AddrMatch::new(Ipv4Addr::new(192, 168, 100, 9), Ipv4Addr::new(0, 0, 0, 255));
        let odd = AddrMatch::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(0, 255, 0, 0));
        let thin = IpRule { src: net, dst_port: PortMatch::Eq(1494), ..RULE };
        let www = IpRule { dst: AddrMatch::host(Ipv4Addr::LOCALHOST), dst_port: PortMatch::Range(20, 80), ..RULE };
        let ping = IpRule { protocol: Some(1), src: odd, icmp_type: Some(8), action: Action::Deny, ..RULE };
        let code = IpRule { protocol: Some(1), icmp_type: Some(3), icmp_code: Some(4), dscp: Some(46), ..RULE };
        let plain = IpRule { protocol: Some(1), icmp_type: Some(3), icmp_code: Some(200), dscp: Some(1), ..RULE };
        let other = IpRule { protocol: Some(200), ..RULE };
        let udp = IpRule { protocol: Some(UDP), src_port: PortMatch::Neq(161), dst_port: PortMatch::Gt(80), ..RULE };
        for (rule, text) in [
            (thin, "permit tcp 192.168.100.0/24 any eq 1494"),
            (www, "permit tcp any 127.0.0.1/32 range ftp-data www"),
            (ping, "deny icmp 10.0.0.1 0.255.0.0 any echo"),
            (code, "permit icmp any any packet-too-big dscp ef"),
            (plain, "permit icmp any any 3 200 dscp 1"),
            (other, "permit 200 any any"),
            (udp, "permit udp any neq snmp any gt www"),
            (IpRule { protocol: None, ..RULE }, "permit ip any any"),
        ] {
            assert_eq!(ip_rule(&rule), text);
        }
    }

    #[test]
    fn mac_rules() {
        let host = MacMatch::new("0200.0000.0001".parse().unwrap(), MacAddr::ZERO);
        let vlan = proto::addr::VlanId::new(10);
        let rule = MacRule { action: Action::Deny, src: MacMatch::ANY, dst: host, ethertype: Some(0x86dd), vlan };
        assert_eq!(mac_rule(&rule), "deny any 0200.0000.0001 0000.0000.0000 0x86dd vlan 10");
    }
}
