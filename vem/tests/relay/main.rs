//! The shipped `flow-relay` at both ends, between sockets of the test.

mod disk;
mod kills;
mod place;
mod trust;
