//! The flow cache: one exact-match lookup answers policy, forwarding, mirror and meter.

pub mod key;
pub mod record;
