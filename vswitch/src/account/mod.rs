//! State per frame: what runs on every frame, whatever the cache said.

pub mod counters;
pub mod meter;
