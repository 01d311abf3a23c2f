//! Where a frame goes: learns its source, looks up its destination, floods what is unknown or for many.

pub mod flood;
pub mod learn;
pub mod lookup;
