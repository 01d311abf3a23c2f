//! What a rule asks of a packet, octet by octet: what the groups of both kinds of list are made from.
//!
//! Addresses, wildcard masks with holes in any place, protocol, DSCP, EtherType and VLAN are all `(octet ^ want) & care == 0`
//! for each octet; ports are a span of numbers that may wrap around. The type and code of an ICMP message stand where the
//! destination port of others does, in the flow key and here: every term that asks for either asks for its protocol too.
//!
//! A rule becomes one term, or two (ports without a protocol are TCP's and UDP's), or none when no packet can match it
//! (`lt 0`, a reversed range, the ports of a protocol that has none).

use arrayvec::ArrayVec;
use proto::acl::{Action, IpRule, MacRule, PortMatch};
use proto::addr::VlanId;

use super::Found;
use crate::flow::key::{FlowKey, shape};
use crate::verdict::RuleRef;
use crate::wire::transport::{ICMP, TCP, UDP};

/// Octets of an IP packet that a rule can ask for: source 0-3, destination 4-7, protocol 8, DSCP 9.
pub const IP_OCTETS: usize = 10;
/// Octets of a frame that a rule can ask for: source 0-5, EtherType 6-7, destination 8-13, VLAN 14-15.
pub const MAC_OCTETS: usize = 16;

/// Ports from `first` on, and `more` behind it, modulo 2^16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first port.
    pub first: u16,
    /// How many follow it.
    pub more: u16,
}

impl Span {
    /// Every port.
    pub const ANY: Span = Span { first: 0, more: u16::MAX };

    /// `None` when no port fits.
    fn of(ports: PortMatch) -> Option<Span> {
        let (first, more) = match ports {
            PortMatch::Any => (0, u16::MAX),
            PortMatch::Eq(p) => (p, 0),
            PortMatch::Neq(p) => (p.wrapping_add(1), u16::MAX - 1),
            PortMatch::Lt(p) => (0, p.checked_sub(1)?),
            PortMatch::Gt(p) => (p.checked_add(1)?, u16::MAX - p - 1),
            PortMatch::Range(first, last) => (first, last.checked_sub(first)?),
        };
        Some(Span { first, more })
    }

    /// Type x 256 + code of an ICMP message.
    fn of_icmp(kind: Option<u8>, code: Option<u8>) -> Span {
        match (kind, code) {
            (None, _) => Span::ANY,
            (Some(kind), None) => Span { first: u16::from(kind) << 8, more: 0xff },
            (Some(kind), Some(code)) => Span { first: u16::from_be_bytes([kind, code]), more: 0 },
        }
    }

    /// The ports as pieces that do not wrap around, each from a first to a last.
    pub fn pieces(self) -> ArrayVec<(u16, u16), 2> {
        let last = self.first.wrapping_add(self.more);
        if last >= self.first {
            [(self.first, last)].into_iter().collect()
        } else {
            [(0, last), (self.first, u16::MAX)].into_iter().collect()
        }
    }
}

/// What is asked of a packet, and what a match means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Term<const N: usize> {
    /// Octets as they must be where `care` has ones.
    pub want: [u8; N],
    /// Bits that are compared.
    pub care: [u8; N],
    /// Source ports that fit.
    pub src_ports: Span,
    /// Destination ports, or ICMP types and codes, that fit.
    pub dst_ports: Span,
    /// A later fragment, of which the ports can't be asked, may match.
    pub fragments: bool,
    /// What the list says then.
    pub found: Found,
}

/// The octets and ports of a packet, in the order of a term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<const N: usize> {
    /// Octets.
    pub octets: [u8; N],
    /// Source and destination port; `None` for a fragment other than the first.
    pub ports: Option<(u16, u16)>,
}

impl Packet<IP_OCTETS> {
    /// What an IP list reads of an IPv4 packet.
    #[inline]
    pub fn of_ip(key: &FlowKey) -> Self {
        let ([.., a, b, c, d], [.., e, f, g, h]) = (key.src, key.dst);
        Packet {
            octets: [a, b, c, d, e, f, g, h, key.protocol, key.tos >> 2],
            ports: if key.is(shape::LATER_FRAGMENT) { None } else { Some((key.src_port, key.dst_port)) },
        }
    }
}

impl Packet<MAC_OCTETS> {
    /// What a MAC list reads of a frame that is switched in `vlan`. It has no ports and asks for none.
    #[inline]
    pub fn of_mac(key: &FlowKey, vlan: VlanId) -> Self {
        Packet { octets: mac_octets(key.src_mac, key.ethertype, key.dst_mac, vlan.get()), ports: Some((0, 0)) }
    }
}

fn mac_octets(src: [u8; 6], ethertype: u16, dst: [u8; 6], vlan: u16) -> [u8; MAC_OCTETS] {
    let ([a, b, c, d, e, f], [g, h]) = (src, ethertype.to_be_bytes());
    let ([i, j, k, l, m, n], [o, p]) = (dst, vlan.to_be_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

fn ip_octets(src: u32, dst: u32, protocol: u8, dscp: u8) -> [u8; IP_OCTETS] {
    let ([a, b, c, d], [e, f, g, h]) = (src.to_be_bytes(), dst.to_be_bytes());
    [a, b, c, d, e, f, g, h, protocol, dscp]
}

/// The terms of a rule of an IP list.
pub fn of_ip_rule(rule: &IpRule, id: u32, counted: bool) -> ArrayVec<Term<IP_OCTETS>, 2> {
    let (Some(src_ports), Some(dst_ports)) = (Span::of(rule.src_port), Span::of(rule.dst_port)) else {
        return ArrayVec::new();
    };
    let ports = rule.src_port != PortMatch::Any || rule.dst_port != PortMatch::Any;
    let protocols: &[Option<u8>] = match (rule.protocol, rule.icmp_type) {
        (Some(p), None) if !ports || p == TCP || p == UDP => &[Some(p)],
        (None, None) if !ports => &[None],
        (None, None) => &[Some(TCP), Some(UDP)],
        (None | Some(ICMP), Some(_)) if !ports => &[Some(ICMP)],
        _ => &[],
    };
    let permit = rule.action == Action::Permit;
    let dst_ports = if ports { dst_ports } else { Span::of_icmp(rule.icmp_type, rule.icmp_code) };
    let all = |value: Option<u8>| if value.is_some() { 0xff } else { 0 };
    let term = |protocol: &Option<u8>| Term {
        want: ip_octets(rule.src.addr, rule.dst.addr, protocol.unwrap_or(0), rule.dscp.unwrap_or(0)),
        care: ip_octets(!rule.src.wildcard, !rule.dst.wildcard, all(*protocol), all(rule.dscp)),
        src_ports,
        dst_ports,
        fragments: permit || (!ports && rule.icmp_type.is_none()),
        found: Found { permit, rule: RuleRef::new(id, counted) },
    };
    protocols.iter().map(term).collect()
}

/// The term of a rule of a MAC list.
pub fn of_mac_rule(rule: &MacRule, id: u32, counted: bool) -> Term<MAC_OCTETS> {
    let care = |mac: proto::addr::MacAddr| mac.0.map(|octet| !octet);
    let all = |some: bool| if some { u16::MAX } else { 0 };
    Term {
        want: mac_octets(
            rule.src.addr.0,
            rule.ethertype.unwrap_or(0),
            rule.dst.addr.0,
            rule.vlan.map_or(0, VlanId::get),
        ),
        care: mac_octets(
            care(rule.src.wildcard),
            all(rule.ethertype.is_some()),
            care(rule.dst.wildcard),
            all(rule.vlan.is_some()),
        ),
        src_ports: Span::ANY,
        dst_ports: Span::ANY,
        fragments: true,
        found: Found { permit: rule.action == Action::Permit, rule: RuleRef::new(id, counted) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_hold_the_ports_of_their_condition() {
        let near = [0, 1, 2, 79, 80, 81, 65_533, 65_534, 65_535];
        let mut all = vec![PortMatch::Any];
        for a in near {
            all.extend([PortMatch::Eq(a), PortMatch::Neq(a), PortMatch::Lt(a), PortMatch::Gt(a)]);
            all.extend(near.map(|b| PortMatch::Range(a, b)));
        }
        for condition in all {
            let span = Span::of(condition);
            for port in near {
                let whole = span.is_some_and(|s| port.wrapping_sub(s.first) <= s.more);
                let pieces = span.is_some_and(|s| s.pieces().iter().any(|(a, b)| (*a..=*b).contains(&port)));
                assert_eq!((whole, pieces), (condition.matches(port), condition.matches(port)), "{condition:?} {port}");
            }
        }
    }
}
