//! Judges of what may go out, in the order in which they run: port state, split horizon, VLAN, isolation, access list.
//! The MTU is judged per frame, as length is no part of a flow's key.

pub mod acl;
pub mod isolate;
pub mod mtu;
pub mod vlan;

use proto::addr::VlanId;

use crate::parse::Parsed;
use crate::snapshot::{PortPolicy, Snapshot};
use crate::verdict::{DropReason, Refusal, RuleRef};

/// Judges a frame that came from `from` and is to leave by `to`: the rule that permits it, or why it may not.
pub fn judge(
    snapshot: &Snapshot,
    from: &PortPolicy,
    to: Option<&PortPolicy>,
    vlan: VlanId,
    frame: &Parsed,
) -> Result<RuleRef, Refusal> {
    let refuse = |reason| Err(Refusal::new(reason, Some(vlan)));
    let Some(to) = to.filter(|to| to.config.up) else { return refuse(DropReason::EgressDown) };
    if to.mirror_destination {
        return refuse(DropReason::MirrorDestination);
    }
    if to.monitor_in {
        return refuse(DropReason::MonitorInput);
    }
    if from.config.uplink && to.config.uplink {
        return refuse(DropReason::SplitHorizon);
    }
    if !to.carries(vlan) {
        return refuse(DropReason::VlanNotAllowedOut);
    }
    if isolate::apart(snapshot, from, to, frame) {
        return refuse(DropReason::Isolated);
    }
    acl::judge(to, vlan, frame)
}
