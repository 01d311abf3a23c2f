//! The `vsm` binary.
fn main() {}
