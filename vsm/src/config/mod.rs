//! The configuration as data: pure, no I/O.

pub mod compile;
pub mod flow;
pub mod model;
pub mod profile;
#[cfg(test)]
mod random;
pub mod rule;
pub mod running;
pub mod startup;
pub mod user;
