//! Which ports a flood may reach: those of the VLAN that are up, but the one it came from.
//!
//! From an uplink it never goes to another uplink. From a VM it goes to one uplink only, the first of the VLAN: with two it
//! would reach the same outside twice, and come back.

use proto::addr::VlanId;

use crate::snapshot::{PortPolicy, Snapshot};

/// The ports, in rising order; what may leave by each of them is for the egress judges to say.
#[inline]
pub fn flood<'a>(snapshot: &'a Snapshot, from: &'a PortPolicy, vlan: VlanId) -> impl Iterator<Item = &'a PortPolicy> {
    let uplink = snapshot.flood_uplink(vlan);
    snapshot.members(vlan).iter().filter_map(|id| snapshot.port(*id)).filter(move |to| {
        let allowed = !to.config.uplink || (!from.config.uplink && uplink == Some(to.config.id));
        to.config.id != from.config.id && allowed
    })
}

/// The one port that a flood may reach, when there is one and no other.
pub fn only<'a>(snapshot: &'a Snapshot, from: &'a PortPolicy, vlan: VlanId) -> Option<&'a PortPolicy> {
    let mut ports = flood(snapshot, from, vlan);
    ports.next().filter(|_| ports.next().is_none())
}
