//! The VEMs: who they are, what they hold, what they run.

pub mod authority;
pub mod push;
pub mod registry;
pub mod server;
