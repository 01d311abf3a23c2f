//! The access list of the port a frame leaves by.

use proto::addr::VlanId;

use crate::parse::Parsed;
use crate::snapshot::PortPolicy;
use crate::verdict::{DropReason, Refusal, RuleRef};

/// The rule that permits the frame.
#[inline]
pub fn judge(port: &PortPolicy, vlan: VlanId, frame: &Parsed) -> Result<RuleRef, Refusal> {
    match port.acl_out.find(&frame.key, vlan) {
        found if found.permit => Ok(found.rule),
        found => Err(Refusal { reason: DropReason::AclDenyOut, vlan: Some(vlan), rule: found.rule }),
    }
}
