//! The shipped `flow-relay` at both ends, between sockets of the test.

mod built_in;
mod disk;
mod kills;
mod place;
mod trust;
