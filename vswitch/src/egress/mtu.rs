//! The largest IP packet of the outgoing port. Super-frames are measured by their segments.

use crate::parse::Parsed;
use crate::snapshot::PortPolicy;

/// The port takes IP packets of this length. What is not IP has no MTU but the device's.
pub fn fits(frame: &Parsed, to: &PortPolicy) -> bool {
    frame.packet_max <= u32::from(to.config.mtu)
}
