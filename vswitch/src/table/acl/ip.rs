//! A compiled IP list, which judges IPv4.

use proto::acl::IpRule;

use super::group::Groups;
use super::scan::IpScan;
use super::term::{self, IP_OCTETS, Packet, Term};
use super::{Found, SCAN_MAX, implicit, otherwise};
use crate::flow::key::FlowKey;
use crate::verdict::RuleRef;

/// The list; see the module above.
#[derive(Clone, Debug)]
pub struct IpList {
    form: Form,
    /// `None` for a list without rules, which permits.
    implicit: Option<RuleRef>,
}

#[derive(Clone, Debug)]
enum Form {
    Scan(IpScan),
    Groups(Groups<IP_OCTETS>),
}

impl IpList {
    /// Compiles `rules` with their numbers, the last of which is that of the implicit deny.
    pub fn new(rules: &[(u32, IpRule)], ids: &[u32], counted: bool) -> Self {
        let terms: Vec<Term<IP_OCTETS>> =
            rules.iter().zip(ids).flat_map(|((_, rule), id)| term::of_ip_rule(rule, *id, counted)).collect();
        let form =
            if terms.len() <= SCAN_MAX { Form::Scan(IpScan::new(&terms)) } else { Form::Groups(Groups::new(&terms)) };
        IpList { form, implicit: implicit(rules.len(), ids, counted) }
    }

    /// The first rule that matches an IPv4 packet, the implicit deny, or a permit without a rule for a list without rules.
    pub fn find(&self, key: &FlowKey) -> Found {
        let packet = Packet::of_ip(key);
        let found = match &self.form {
            Form::Scan(scan) => scan.find(&packet),
            Form::Groups(groups) => groups.find(&packet),
        };
        found.unwrap_or_else(|| otherwise(self.implicit))
    }

    /// Octets of memory that the tables of a long list take; 0 for a short one.
    pub fn octets(&self) -> usize {
        match &self.form {
            Form::Scan(_) => 0,
            Form::Groups(groups) => groups.octets(),
        }
    }
}
