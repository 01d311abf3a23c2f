//! Learning: the source address of an admitted frame is on the port it came from.
//!
//! With several uplinks in a VLAN the upstream switch may send a VM's own flood back by another uplink. Such a frame,
//! whose source is on a local VM port, is a déjà-vu and is dropped, or the address would wander to the uplink.

use proto::addr::VlanId;

use crate::parse::Parsed;
use crate::snapshot::{PortPolicy, Snapshot};
use crate::table::mac::{MacTable, SlotRef};
use crate::time::Instant;
use crate::verdict::DropReason;

/// Learns the source; the slot it is in, or why the frame is dropped (with the slot that says so).
pub fn learn(
    snapshot: &Snapshot,
    macs: &mut MacTable,
    port: &PortPolicy,
    vlan: VlanId,
    frame: &Parsed,
    now: Instant,
) -> Result<SlotRef, (DropReason, SlotRef)> {
    let source = frame.key.src_mac();
    if port.config.uplink
        && snapshot.uplinks(vlan) > 1
        && let Some(known) = macs.lookup(vlan, source)
        && let Some(home) = known.port
        && snapshot.port(home).is_some_and(|home| !home.config.uplink)
    {
        return Err((DropReason::SplitHorizon, known.slot));
    }
    match macs.learn(vlan, source, port.config.id, now) {
        Some(place) if place.port.is_none() => Err((DropReason::StaticDrop, place.slot)),
        Some(place) => Ok(place.slot),
        None => Ok(SlotRef::NONE),
    }
}
