//! The `vem` binary.
fn main() {}
