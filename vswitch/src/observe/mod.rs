//! What looks at frames and never touches them.

pub mod bpf;
pub mod capture;
pub mod drops;
pub mod erspan;
pub mod mirror;
pub mod passage;
