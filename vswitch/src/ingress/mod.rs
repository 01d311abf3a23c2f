//! Judges of what may come in, in the order in which they run: port state, whether the port only meters, VLAN, link-local groups, access list.

pub mod acl;
pub mod port_state;
pub mod vlan;

use proto::addr::VlanId;

use crate::parse::Parsed;
use crate::snapshot::{PortPolicy, Snapshot};
use crate::verdict::{DropReason, Refusal, RuleRef};

/// A frame that may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// VLAN that it is switched in.
    pub vlan: VlanId,
    /// The rule that permitted it.
    pub rule: RuleRef,
}

/// Judges a frame that `port` received.
pub fn judge(snapshot: &Snapshot, port: Option<&PortPolicy>, frame: &Parsed) -> Result<Admitted, Refusal> {
    let port = port_state::judge(port)?;
    // Traffic of elsewhere, in VLANs of elsewhere.
    if port.monitor_in {
        return Err(Refusal::new(DropReason::MonitorInput, Some(vlan::said(port, frame))));
    }
    let vlan = vlan::judge(snapshot, port, frame)?;
    if link_local(frame.key.dst_mac) {
        return Err(Refusal::new(DropReason::ReservedGroup, Some(vlan)));
    }
    let rule = acl::judge(port, vlan, frame)?;
    Ok(Admitted { vlan, rule })
}

/// 01:80:c2:00:00:00 to :0f end at the first bridge (IEEE 802.1Q table 8-1).
fn link_local(dst: [u8; 6]) -> bool {
    matches!(dst, [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f])
}
