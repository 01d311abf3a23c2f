//! What looks at frames and never touches them.

pub mod drops;
pub mod mirror;
