//! Which frames a session looks for, as far as their flow decides it.
//!
//! A VLAN list and an access list read nothing of a frame that is not in its flow key. So the judges ask them once for each
//! flow, and the flow entry remembers the sessions that want it: a filter costs a frame nothing.

use proto::addr::VlanId;
use proto::vlan::VlanSet;

use crate::config::{Config, SessionConfig};
use crate::flow::key::FlowKey;
use crate::observe::erspan::{Encapsulation, PROTOCOL_GRE};
use crate::table::acl::AclPair;
use crate::table::acl::list::Lists;

/// What a session looks for. Two are equal when they are the same lists in memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    vlans: Option<VlanSet>,
    acl: AclPair,
    /// Copies that this host sends, which no session looks for.
    own: Vec<Encapsulation>,
}

impl Filter {
    /// That of `session`, with its access list of `lists`.
    ///
    /// # Errors
    /// The list that it names is not there.
    pub(crate) fn new(session: &SessionConfig, lists: &Lists, own: &[Encapsulation]) -> Result<Self, String> {
        let acl = match session.filter_acl {
            None => AclPair::default(),
            Some(i) => match lists.get(i).cloned() {
                Some(list) if list.is_ip() => AclPair::new(Some(list), None),
                Some(list) => AclPair::new(None, Some(list)),
                None => return Err(format!("access list {i}")),
            },
        };
        Ok(Filter { vlans: session.filter_vlans.clone(), acl, own: own.to_vec() })
    }

    /// It looks for every frame.
    pub fn takes_all(&self) -> bool {
        self.vlans.is_none() && self.acl == AclPair::default() && self.own.is_empty()
    }

    /// It looks for frames of flow `key` that are switched in `vlan`.
    pub fn takes(&self, vlan: Option<VlanId>, key: &FlowKey) -> bool {
        let in_vlans = self.vlans.as_ref().is_none_or(|vlans| vlan.is_some_and(|vlan| vlans.contains(vlan)));
        in_vlans && (self.acl == AclPair::default() || self.acl.singles_out(key, vlan)) && !is_own(&self.own, key)
    }

    /// Its list, to be replaced by one that says the same.
    pub(crate) fn lists_mut(&mut self) -> &mut AclPair {
        &mut self.acl
    }
}

/// A packet of flow `key` is one of our own copies: mirroring it would beget more of them.
fn is_own(own: &[Encapsulation], key: &FlowKey) -> bool {
    let is_one =
        |own: &Encapsulation| key.src_ip() == Some(own.origin.into()) && key.dst_ip() == Some(own.destination.into());
    key.protocol == PROTOCOL_GRE && own.iter().any(is_one)
}

/// All that a host with this configuration puts in front of copies.
pub(crate) fn encapsulations(config: &Config) -> Vec<Encapsulation> {
    let remotes = config.sessions.iter().flat_map(|session| &session.remotes);
    remotes.map(|remote| remote.encapsulation).collect()
}
