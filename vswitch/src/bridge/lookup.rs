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
    /// To every port of the VLAN that may have it: group address or unknown.
    Many,
    /// Nowhere, as the slot says.
    Nowhere(DropReason, SlotRef),
}

/// Looks up the destination of a frame from `from`.
pub fn lookup(macs: &MacTable, from: PortId, vlan: VlanId, frame: &Parsed) -> Target {
    match macs.lookup(vlan, frame.key.dst_mac()) {
        None => Target::Many,
        Some(place) => match place.port {
            None => Target::Nowhere(DropReason::StaticDrop, place.slot),
            Some(port) if port == from => Target::Nowhere(DropReason::SamePort, place.slot),
            Some(port) => Target::Port(port, place.slot),
        },
    }
}
