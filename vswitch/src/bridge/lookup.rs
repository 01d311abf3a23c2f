//! Where the destination address is.

use proto::addr::VlanId;

use crate::parse::Parsed;
use crate::port::PortId;
use crate::table::mac::{MacTable, SlotRef};
use crate::verdict::DropReason;

/// Where a frame goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// To that port, as the slot says.
    Port(PortId, SlotRef),
    /// To every port of the VLAN that may have it: group address or unknown, as long as the table has had so many
    /// additions.
    Many(u32),
    /// Nowhere, as the slot says.
    Nowhere(DropReason, SlotRef),
}

/// Looks up the destination of a frame from `from`.
pub fn lookup(macs: &MacTable, from: PortId, vlan: VlanId, frame: &Parsed) -> Target {
    match macs.search(vlan, frame.key.dst_mac()) {
        Err(additions) => Target::Many(additions),
        Ok(place) => match place.port {
            None => Target::Nowhere(DropReason::StaticDrop, place.slot),
            Some(port) if port == from => Target::Nowhere(DropReason::SamePort, place.slot),
            Some(port) => Target::Port(port, place.slot),
        },
    }
}
