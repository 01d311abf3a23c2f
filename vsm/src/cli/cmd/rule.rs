//! The grammar of a rule, and the rule that was typed.
//!
//! One syntax for each class of protocol, so that a port behind `ip` is wrong where it is typed. What is typed may have
//! many spellings: a host as `host A`, `A/32` or `A 0.0.0.0`; ports by number or name; `port N` for `eq N`; no protocol
//! for `ip`; zero-padded octets. The one that is printed is in [`crate::config::rule`].

use proto::acl::{Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch};
use proto::addr::MacAddr;

use super::target::wanted;
use crate::cli::tree::{Args, Error, Value};
use crate::config::rule::{DSCP, ICMP, ICMP_PROTOCOL, PROTOCOLS};

macro_rules! sequence {
    () => {
        "[<sequence:num:1-4294967295>] <action=permit|deny> "
    };
}

macro_rules! addresses {
    ($between:literal) => {
        concat!(
            "{ <src=any> | host <src:ip> | <src:prefix> | <src:ip> <src_wild:ip> } ",
            $between,
            "{ <dst=any> | host <dst:ip> | <dst:prefix> | <dst:ip> <dst_wild:ip> } "
        )
    };
}

macro_rules! dscp {
    () => {
        "[ dscp { <dscp=af11|af12|af13|af21|af22|af23|af31|af32|af33|af41|af42|af43|cs1|cs2|cs3|cs4|cs5|cs6|cs7|default|ef> | <dscp:num:0-63> } ]"
    };
}

/// Rules about TCP and UDP may name ports.
pub const WITH_PORTS: &str = concat!(
    sequence!(),
    "<protocol=tcp|udp> ",
    addresses!("[ <src_op=eq|neq|lt|gt|port> <src_port:port> | <src_op=range> <src_port:port> <src_last:port> ] "),
    "[ <dst_op=eq|neq|lt|gt|port> <dst_port:port> | <dst_op=range> <dst_port:port> <dst_last:port> ] ",
    dscp!()
);

/// Rules about ICMP may name a message.
pub const WITH_MESSAGE: &str = concat!(
    sequence!(),
    "<protocol=icmp> ",
    addresses!(""),
    "[ <icmp=administratively-prohibited|alternate-address|conversion-error|dod-host-prohibited|dod-net-prohibited|echo|\
     echo-reply|general-parameter-problem|host-isolated|host-precedence-unreachable|host-redirect|host-tos-redirect|\
     host-tos-unreachable|host-unknown|host-unreachable|information-reply|information-request|mask-reply|mask-request|\
     net-redirect|net-tos-redirect|net-tos-unreachable|net-unreachable|network-unknown|packet-too-big|\
     parameter-problem|port-unreachable|precedence-unreachable|protocol-unreachable|reassembly-timeout|redirect|\
     router-advertisement|router-solicitation|source-quench|source-route-failed|time-exceeded|timestamp-reply|\
     timestamp-request|ttl-exceeded|unreachable> | <icmp_type:num:0-255> [<icmp_code:num:0-255>] ] ",
    dscp!()
);

/// Rules about another protocol.
pub const WITH_PROTOCOL: &str = concat!(
    sequence!(),
    "{ <protocol=ip|ahp|eigrp|esp|gre|igmp|nos|ospf|pcp|pim> | <number:num:0-255> } ",
    addresses!(""),
    dscp!()
);

/// `deny any any`
pub const WITHOUT_PROTOCOL: &str = concat!(sequence!(), addresses!(""), dscp!());

/// Rules of a MAC list.
pub const MAC_RULE: &str = concat!(
    sequence!(),
    "{ <src=any> | host <src:mac> | <src:mac> <src_wild:mac> } ",
    "{ <dst=any> | host <dst:mac> | <dst:mac> <dst_wild:mac> } ",
    "[<ethertype:hex16>] [vlan <vlan:vlan>]"
);

fn action(args: &Args) -> Action {
    if args.text("action") == Some("permit") { Action::Permit } else { Action::Deny }
}

fn address(args: &Args, name: &str, wild: &str) -> Result<AddrMatch, Error> {
    Ok(match (wanted(args.get(name))?, args.ip(wild)) {
        (Value::Ip(addr), Some(wild)) => AddrMatch::new(*addr, wild),
        (Value::Ip(addr), None) => AddrMatch::host(*addr),
        (Value::Prefix(addr, len), _) => AddrMatch::prefix(*addr, *len),
        _ => AddrMatch::ANY,
    })
}

/// `range` may be typed in either direction.
fn ports(args: &Args, operator: &str, first: &str, last: &str) -> Result<PortMatch, Error> {
    let port = |name| wanted(args.number(name).and_then(|n| u16::try_from(n).ok()));
    Ok(match args.text(operator) {
        None => PortMatch::Any,
        Some("neq") => PortMatch::Neq(port(first)?),
        Some("lt") => PortMatch::Lt(port(first)?),
        Some("gt") => PortMatch::Gt(port(first)?),
        Some("range") => {
            let (a, b) = (port(first)?, port(last)?);
            PortMatch::Range(a.min(b), a.max(b))
        }
        Some(_) => PortMatch::Eq(port(first)?),
    })
}

fn octet(n: u32) -> Option<u8> {
    u8::try_from(n).ok()
}

/// The rule that was typed in an IP list.
pub fn ip_rule(args: &Args) -> Result<IpRule, Error> {
    let named = |name: &str| PROTOCOLS.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
    let protocol = args.text("protocol").and_then(named).or(args.number("number").and_then(octet));
    let message = args.text("icmp").and_then(|name| ICMP.iter().find(|(n, ..)| *n == name));
    let (icmp_type, icmp_code) = match message {
        Some((_, kind, code)) => (Some(*kind), *code),
        None => (args.number("icmp_type").and_then(octet), args.number("icmp_code").and_then(octet)),
    };
    let dscp = match args.text("dscp") {
        Some(name) => DSCP.iter().find(|(n, _)| *n == name).map(|(_, dscp)| *dscp),
        None => args.number("dscp").and_then(octet),
    };
    debug_assert!(icmp_type.is_none() || protocol == Some(ICMP_PROTOCOL));
    Ok(IpRule {
        action: action(args),
        protocol,
        src: address(args, "src", "src_wild")?,
        src_port: ports(args, "src_op", "src_port", "src_last")?,
        dst: address(args, "dst", "dst_wild")?,
        dst_port: ports(args, "dst_op", "dst_port", "dst_last")?,
        icmp_type,
        icmp_code,
        dscp,
    })
}

fn mac_match(args: &Args, name: &str, wild: &str) -> MacMatch {
    match (args.mac(name), args.mac(wild)) {
        (Some(addr), Some(wild)) => MacMatch::new(addr, wild),
        (Some(addr), None) => MacMatch::new(addr, MacAddr::ZERO),
        (None, _) => MacMatch::ANY,
    }
}

/// The rule that was typed in a MAC list. A type below 0x600 is a length (IEEE 802.3 clause 3.2.6), which no frame has as its type.
pub fn mac_rule(args: &Args) -> Result<MacRule, Error> {
    let ethertype = args.number("ethertype").and_then(|n| u16::try_from(n).ok());
    if let Some(low) = ethertype.filter(|n| *n < 0x600) {
        return Err(Error::Refused(format!("0x{low:04x} is not an EtherType, these begin at 0x0600")));
    }
    Ok(MacRule {
        action: action(args),
        src: mac_match(args, "src", "src_wild"),
        dst: mac_match(args, "dst", "dst_wild"),
        ethertype,
        vlan: args.vlan("vlan"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices<'a>(syntax: &'a str, name: &str) -> Vec<&'a str> {
        let found =
            syntax.split('<').filter_map(|piece| piece.split_once('>')).filter_map(|(inner, _)| inner.split_once('='));
        found.filter(|(n, _)| *n == name).flat_map(|(_, words)| words.split('|')).collect()
    }

    #[test]
    fn the_grammar_has_every_name_of_the_tables() {
        assert_eq!(choices(WITH_MESSAGE, "icmp"), ICMP.map(|(name, ..)| name));
        assert_eq!(choices(WITHOUT_PROTOCOL, "dscp"), DSCP.map(|(name, _)| name));
        let mut protocols: Vec<&str> =
            [WITH_PORTS, WITH_MESSAGE, WITH_PROTOCOL].iter().flat_map(|s| choices(s, "protocol")).collect();
        protocols.retain(|name| *name != "ip");
        protocols.sort_unstable();
        assert_eq!(protocols, PROTOCOLS.map(|(name, _)| name));
    }
}
