//! A compiled IP list, which judges IPv4.

use proto::acl::IpRule;

use super::group::Groups;
use super::term::{self, IP_OCTETS, Packet, Term};
use super::{Found, implicit, otherwise};
use crate::flow::key::FlowKey;
use crate::verdict::RuleRef;

/// The list; see the module above.
#[derive(Clone, Debug)]
pub struct IpList {
    groups: Groups<IP_OCTETS>,
    /// `None` for a list without rules, which permits.
    implicit: Option<RuleRef>,
}

impl IpList {
    /// Compiles `rules` with their numbers, the last of which is that of the implicit deny.
    pub fn new(rules: &[(u32, IpRule)], ids: &[u32], counted: bool) -> Self {
        let terms: Vec<Term<IP_OCTETS>> =
            rules.iter().zip(ids).flat_map(|((_, rule), id)| term::of_ip_rule(rule, *id, counted)).collect();
        IpList { groups: Groups::new(&terms), implicit: implicit(rules.len(), ids, counted) }
    }

    /// The first rule that matches an IPv4 packet, the implicit deny, or a permit without a rule for a list without rules.
    pub fn find(&self, key: &FlowKey) -> Found {
        self.groups.find(&Packet::of_ip(key)).unwrap_or_else(|| otherwise(self.implicit))
    }

    /// Octets of memory that its tables take.
    pub fn octets(&self) -> usize {
        self.groups.octets()
    }
}
