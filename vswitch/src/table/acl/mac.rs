//! A compiled MAC list, which judges everything that is not IPv4.

use proto::acl::MacRule;
use proto::addr::VlanId;

use super::group::Groups;
use super::scan::MacScan;
use super::term::{self, MAC_OCTETS, Packet, Term};
use super::{Found, SCAN_MAX, implicit, otherwise};
use crate::flow::key::FlowKey;
use crate::verdict::RuleRef;

/// The list; see the module above.
#[derive(Clone, Debug)]
pub struct MacList {
    form: Form,
    implicit: Option<RuleRef>,
}

#[derive(Clone, Debug)]
enum Form {
    Scan(MacScan),
    Groups(Groups<MAC_OCTETS>),
}

impl MacList {
    /// Compiles `rules` with their numbers, the last of which is that of the implicit deny.
    pub fn new(rules: &[(u32, MacRule)], ids: &[u32], counted: bool) -> Self {
        let terms: Vec<Term<MAC_OCTETS>> =
            rules.iter().zip(ids).map(|((_, rule), id)| term::of_mac_rule(rule, *id, counted)).collect();
        let form =
            if terms.len() <= SCAN_MAX { Form::Scan(MacScan::new(&terms)) } else { Form::Groups(Groups::new(&terms)) };
        MacList { form, implicit: implicit(rules.len(), ids, counted) }
    }

    /// As [`super::IpList::find`], for a frame that is switched in `vlan`.
    pub fn find(&self, key: &FlowKey, vlan: VlanId) -> Found {
        let packet = Packet::of_mac(key, vlan);
        let found = match &self.form {
            Form::Scan(scan) => scan.find(&packet),
            Form::Groups(groups) => groups.find(&packet),
        };
        found.unwrap_or_else(|| otherwise(self.implicit))
    }
}
