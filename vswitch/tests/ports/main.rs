//! Ports on real taps and veths, in namespaces of their own. Skipped, with the reason, where there is no /dev/net/tun or no
//! root.
//!
//! A test enters a namespace (`Lab`) in which its switch side lives; guests live in further ones. What carries frames
//! between two ports here is no switch but a loop that copies, and that does a port's missing offloads, as a worker would.

#[macro_use]
mod lab;
mod netdev;
mod packets;
mod segments;
mod tap;
mod xdp;
