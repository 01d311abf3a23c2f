//! Whether the port takes traffic at all.

use crate::snapshot::PortPolicy;
use crate::verdict::{DropReason, Refusal};

/// The policy of a port that is up and not the destination of a monitor session.
pub fn judge(port: Option<&PortPolicy>) -> Result<&PortPolicy, Refusal> {
    match port {
        Some(port) if port.config.up && !port.mirror_destination => Ok(port),
        Some(port) if port.config.up && port.sensor => Err(Refusal::new(DropReason::SensorInput, None)),
        Some(port) if port.config.up => Err(Refusal::new(DropReason::MirrorDestination, None)),
        _ => Err(Refusal::new(DropReason::PortDown, None)),
    }
}
