//! The access list of the port a frame came from: an IP list judges IPv4, a MAC list everything else.

use proto::addr::VlanId;

use crate::parse::Parsed;
use crate::snapshot::PortPolicy;
use crate::verdict::{DropReason, Refusal, RuleRef};

/// The rule that permits the frame.
#[inline]
pub fn judge(port: &PortPolicy, vlan: VlanId, frame: &Parsed) -> Result<RuleRef, Refusal> {
    match port.acl_in.find(&frame.key, vlan) {
        found if found.permit => Ok(found.rule),
        found => Err(Refusal { reason: DropReason::AclDeny, vlan: Some(vlan), rule: found.rule }),
    }
}
