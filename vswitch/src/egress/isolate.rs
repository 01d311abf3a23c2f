//! Isolation: protected ports exchange nothing, on whichever host they are.

use crate::parse::Parsed;
use crate::snapshot::{PortPolicy, Snapshot};

/// Both ends are protected. A frame from an uplink counts as coming from a protected port when its source address is one
/// of a protected port elsewhere.
pub fn apart(snapshot: &Snapshot, from: &PortPolicy, to: &PortPolicy, frame: &Parsed) -> bool {
    to.config.protected && (from.config.protected || (from.config.uplink && snapshot.is_protected(frame.key.src_mac())))
}
