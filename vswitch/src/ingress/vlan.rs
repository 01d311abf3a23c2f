//! Which VLAN a frame belongs to, and whether its port may bring it.
//!
//! An access port takes untagged and priority-tagged (VID 0) frames. A trunk takes its allowed VLANs; untagged and
//! priority-tagged frames belong to its native VLAN, which may also come tagged (IEEE 802.1Q clause 6.9).

use proto::addr::VlanId;
use proto::vlan::PortMode;

use crate::parse::Parsed;
use crate::snapshot::{PortPolicy, Snapshot};
use crate::verdict::{DropReason, Refusal};

/// The VLAN that the frame says it is of, or else that of its port, whether the port may bring it or not.
pub fn said(port: &PortPolicy, frame: &Parsed) -> VlanId {
    VlanId::new(frame.key.outer_vid).unwrap_or(match port.config.mode {
        PortMode::Access(vlan) => vlan,
        PortMode::Trunk { native, .. } => native,
    })
}

/// The VLAN that the frame is switched in.
pub fn judge(snapshot: &Snapshot, port: &PortPolicy, frame: &Parsed) -> Result<VlanId, Refusal> {
    let tagged = VlanId::new(frame.key.outer_vid);
    let vlan = match (&port.config.mode, tagged) {
        (PortMode::Access(_), Some(_)) => return Err(Refusal::new(DropReason::VlanTaggedOnAccess, None)),
        (PortMode::Access(vlan), None) => *vlan,
        (PortMode::Trunk { native, .. }, None) => *native,
        (PortMode::Trunk { .. }, Some(vlan)) => vlan,
    };
    if !port.carries(vlan) {
        return Err(Refusal::new(DropReason::VlanNotAllowed, None));
    }
    if !snapshot.vlans.contains(vlan) {
        return Err(Refusal::new(DropReason::VlanInactive, None));
    }
    Ok(vlan)
}
