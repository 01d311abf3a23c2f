//! A compiled MAC list, which judges everything that is not IPv4.

use proto::acl::MacRule;
use proto::addr::VlanId;

use super::group::Groups;
use super::term::{self, MAC_OCTETS, Packet, Term};
use super::{Found, implicit, otherwise};
use crate::flow::key::FlowKey;
use crate::verdict::RuleRef;

/// The list; see the module above.
#[derive(Clone, Debug)]
pub struct MacList {
    groups: Groups<MAC_OCTETS>,
    implicit: Option<RuleRef>,
}

impl MacList {
    /// Compiles `rules` with their numbers, the last of which is that of the implicit deny.
    pub fn new(rules: &[(u32, MacRule)], ids: &[u32], counted: bool) -> Self {
        let terms: Vec<Term<MAC_OCTETS>> =
            rules.iter().zip(ids).map(|((_, rule), id)| term::of_mac_rule(rule, *id, counted)).collect();
        MacList { groups: Groups::new(&terms), implicit: implicit(rules.len(), ids, counted) }
    }

    /// As [`super::IpList::find`], for a frame that is switched in `vlan`.
    pub fn find(&self, key: &FlowKey, vlan: VlanId) -> Found {
        self.groups.find(&Packet::of_mac(key, vlan)).unwrap_or_else(|| otherwise(self.implicit))
    }
}
