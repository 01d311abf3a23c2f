//! Header views of the road: offsets and fields, one file per layer; no state, no unsafe.
//!
//! Each `read` takes the octets from its header to the end of what the header below it vouched for, never the padding of
//! the frame, and says with a [`crate::verdict::DropReason`] why a header is a lie.

pub mod arp;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod transport;

/// The `N` octets at `at`, when they are all there.
pub fn array_at<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk::<N>().copied()
}

/// The 16-bit number at `at` in network order.
pub fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    array_at(octets, at).map(u16::from_be_bytes)
}

/// An IPv4 address as an IPv6 address (RFC 4291, 2.5.5.2).
pub fn mapped(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
