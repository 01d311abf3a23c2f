//! Access lists: the words of a rule, shared by the command line, the wire and the dataplane.
//!
//! Remarks and the order of typing stay in the supervisor; what is here decides about frames. Rules are tried in rising
//! sequence number, the first that matches decides, and a list that has rules ends in an implicit deny.
//! An IP list judges IPv4 packets only, a MAC list everything that is not IPv4.

use std::net::Ipv4Addr;

use minicbor::{Decode, Encode};

use crate::addr::{MacAddr, VlanId};

/// What a rule does with a frame that it matches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
#[cbor(index_only)]
pub enum Action {
    /// Let it pass.
    #[n(0)]
    Permit,
    /// Drop it.
    #[n(1)]
    Deny,
}

/// An IPv4 address with a wildcard mask: bits that are set in `wildcard` are not compared, in any pattern.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct AddrMatch {
    /// Address; its bits under the wildcard are zero.
    #[n(0)]
    pub addr: u32,
    /// Ignored bits.
    #[n(1)]
    pub wildcard: u32,
}

impl AddrMatch {
    /// Matches every address.
    pub const ANY: AddrMatch = AddrMatch { addr: 0, wildcard: u32::MAX };

    /// `addr` with the bits of `wildcard` ignored.
    pub fn new(addr: Ipv4Addr, wildcard: Ipv4Addr) -> Self {
        let wildcard = u32::from(wildcard);
        AddrMatch { addr: u32::from(addr) & !wildcard, wildcard }
    }

    /// One address.
    pub fn host(addr: Ipv4Addr) -> Self {
        AddrMatch { addr: addr.into(), wildcard: 0 }
    }

    /// `addr/len`, `len` 0-32.
    pub fn prefix(addr: Ipv4Addr, len: u8) -> Self {
        Self::new(addr, Ipv4Addr::from(u32::MAX.checked_shr(len.into()).unwrap_or(0)))
    }

    /// The length when the wildcard is that of a prefix.
    pub fn prefix_len(self) -> Option<u8> {
        let len = self.wildcard.leading_zeros();
        (self.wildcard == u32::MAX.checked_shr(len).unwrap_or(0)).then_some(len as u8)
    }

    /// `addr` is matched.
    pub fn matches(self, addr: u32) -> bool {
        (addr ^ self.addr) & !self.wildcard == 0
    }
}

/// A MAC address with a wildcard mask, as [`AddrMatch`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct MacMatch {
    /// Address; its bits under the wildcard are zero.
    #[n(0)]
    pub addr: MacAddr,
    /// Ignored bits.
    #[n(1)]
    pub wildcard: MacAddr,
}

impl MacMatch {
    /// Matches every address.
    pub const ANY: MacMatch = MacMatch { addr: MacAddr::ZERO, wildcard: MacAddr::BROADCAST };

    /// `addr` with the bits of `wildcard` ignored.
    pub fn new(addr: MacAddr, wildcard: MacAddr) -> Self {
        MacMatch { addr: MacAddr::from_u64(addr.to_u64() & !wildcard.to_u64()), wildcard }
    }

    /// `addr` is matched.
    pub fn matches(self, addr: MacAddr) -> bool {
        (addr.to_u64() ^ self.addr.to_u64()) & !self.wildcard.to_u64() == 0
    }
}

/// A condition on a TCP or UDP port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum PortMatch {
    /// No condition.
    #[n(0)]
    Any,
    /// That port.
    #[n(1)]
    Eq(#[n(0)] u16),
    /// Any other port.
    #[n(2)]
    Neq(#[n(0)] u16),
    /// Below it.
    #[n(3)]
    Lt(#[n(0)] u16),
    /// Above it.
    #[n(4)]
    Gt(#[n(0)] u16),
    /// First to last, both included.
    #[n(5)]
    Range(#[n(0)] u16, #[n(1)] u16),
}

impl PortMatch {
    /// `port` is matched.
    pub fn matches(self, port: u16) -> bool {
        match self {
            PortMatch::Any => true,
            PortMatch::Eq(p) => port == p,
            PortMatch::Neq(p) => port != p,
            PortMatch::Lt(p) => port < p,
            PortMatch::Gt(p) => port > p,
            PortMatch::Range(first, last) => (first..=last).contains(&port),
        }
    }
}

/// A rule of an IP list. A fragment other than the first has no ports and no ICMP type: a permit rule with such a condition
/// matches it by the rest of the rule, a deny rule with one never does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct IpRule {
    /// Permit or deny.
    #[n(0)]
    pub action: Action,
    /// IP protocol number; `None` is `ip`.
    #[n(1)]
    pub protocol: Option<u8>,
    /// Source address.
    #[n(2)]
    pub src: AddrMatch,
    /// Source port; only with TCP (6) or UDP (17).
    #[n(3)]
    pub src_port: PortMatch,
    /// Destination address.
    #[n(4)]
    pub dst: AddrMatch,
    /// Destination port; only with TCP (6) or UDP (17).
    #[n(5)]
    pub dst_port: PortMatch,
    /// ICMP type; only with ICMP (1).
    #[n(6)]
    pub icmp_type: Option<u8>,
    /// ICMP code; only with a type.
    #[n(7)]
    pub icmp_code: Option<u8>,
    /// Differentiated services code point, 0-63.
    #[n(8)]
    pub dscp: Option<u8>,
}

/// A rule of a MAC list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct MacRule {
    /// Permit or deny.
    #[n(0)]
    pub action: Action,
    /// Source address.
    #[n(1)]
    pub src: MacMatch,
    /// Destination address.
    #[n(2)]
    pub dst: MacMatch,
    /// EtherType behind the VLAN tags.
    #[n(3)]
    pub ethertype: Option<u16>,
    /// VLAN that the frame is switched in.
    #[n(4)]
    pub vlan: Option<VlanId>,
}

/// The rules of a list, by kind; each with its sequence number, in rising order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub enum Rules {
    /// `ip access-list`
    #[n(0)]
    Ip(#[n(0)] Vec<(u32, IpRule)>),
    /// `mac access-list`
    #[n(1)]
    Mac(#[n(0)] Vec<(u32, MacRule)>),
}

/// An access list. One without rules permits everything, as on NX-OS.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Acl {
    /// 1-64 characters.
    #[n(0)]
    pub name: String,
    /// `statistics per-entry` is on: matches are counted per rule.
    #[n(1)]
    pub statistics: bool,
    /// The rules.
    #[n(2)]
    pub rules: Rules,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_may_have_holes() {
        let odd = AddrMatch::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(0, 255, 0, 254));
        assert!(odd.matches(Ipv4Addr::new(10, 9, 0, 7).into()));
        assert!(!odd.matches(Ipv4Addr::new(10, 9, 0, 8).into()));
        assert_eq!(odd.prefix_len(), None);
        assert_eq!(AddrMatch::prefix(Ipv4Addr::new(10, 1, 2, 3), 8).prefix_len(), Some(8));
        assert_eq!(AddrMatch::prefix(Ipv4Addr::new(10, 1, 2, 3), 0), AddrMatch::ANY);
        assert_eq!(AddrMatch::host(Ipv4Addr::LOCALHOST).prefix_len(), Some(32));
    }
}
