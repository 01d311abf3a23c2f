//! The VEMs: who they are, what they hold, what they run.
//!
//! ```text
//!   server ─▶ control ─▶ admission ─▶ authority, tokens, registry
//!                 └────▶ push ─▶ server
//! ```

pub mod admission;
pub mod ask;
pub mod authority;
pub mod control;
pub mod ports;
pub mod push;
pub mod registry;
pub mod server;
pub mod tokens;
