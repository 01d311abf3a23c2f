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
#[inline]
pub fn array_at<const N: usize>(octets: &[u8], at: usize) -> Option<[u8; N]> {
    octets.get(at..)?.first_chunk::<N>().copied()
}

/// The 16-bit number at `at` in network order.
#[inline]
pub fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    array_at(octets, at).map(u16::from_be_bytes)
}

/// The 32-bit number at `at` in network order.
#[inline]
pub fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    array_at(octets, at).map(u32::from_be_bytes)
}

/// An IPv4 address as an IPv6 address (RFC 4291, 2.5.5.2). Made as one number: octets that are stored one by one and soon
/// read as a word stall the processor.
#[inline]
pub fn mapped(v4: u32) -> [u8; 16] {
    (0xffff_0000_0000 | u128::from(v4)).to_be_bytes()
}
