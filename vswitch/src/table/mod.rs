//! Data structures without policy.

pub mod acl;
pub mod mac;
pub mod portset;
pub mod wheel;
