//! State per frame: what runs on every frame, whatever the cache said.

pub mod classes;
pub mod counters;
pub mod load;
pub mod meter;
pub mod rule_drops;
pub mod sample;
pub mod select;
