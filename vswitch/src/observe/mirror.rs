//! Monitor sessions (SPAN): which form a copy has.
//!
//! * A received frame is copied as it was received, also when a judge then drops it; a sent frame as it was sent. Each
//!   session gets one copy of a frame, the first sighting, which is the received one. The road keeps the set of sessions
//!   that have had theirs. Of a flood, a sent copy is as the first port that took the frame sent it.
//! * A destination in access mode gets the tags of that moment. To a destination trunk every copy goes with the tag of its
//!   VLAN, so that both directions of a conversation look the same to an intrusion detector that keys on VLANs.
//! * Copies are complete: checksums that the guest left to its device are computed, super-frames are cut into segments.
//!   A checksum that is wrong stays wrong.
//! * A destination that is full loses copies, which are counted; production frames never wait. Destinations take no other
//!   traffic and what they receive is dropped, so no copy is ever copied.

use proto::addr::VlanId;
use proto::vlan::PortMode;

use crate::egress::vlan::{Rewrite, tagged};
use crate::parse::Parsed;
use crate::snapshot::PortPolicy;

/// The tag of a copy to `destination`, of a frame that was seen with `seen` done to its tag.
pub fn copy_tag(destination: &PortPolicy, vlan: Option<VlanId>, frame: &Parsed, seen: Rewrite) -> Rewrite {
    match (&destination.config.mode, vlan) {
        (PortMode::Trunk { .. }, Some(vlan)) => tagged(vlan, frame),
        _ => seen,
    }
}
