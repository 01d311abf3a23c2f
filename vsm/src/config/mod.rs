//! The configuration as data: pure, no I/O.

pub mod compile;
pub mod model;
pub mod profile;
pub mod rule;
pub mod running;
pub mod startup;
