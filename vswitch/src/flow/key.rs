//! What makes two frames one flow.
//!
//! The key holds every header field that a judge may read, and nothing that it does not: so a cached verdict can never be
//! used for a frame that the judges would have treated otherwise. It is 64 octets without padding, compared as a whole;
//! IPv4 addresses are kept v4-mapped, so that both families take one path.

use std::net::{IpAddr, Ipv6Addr};

use proto::addr::MacAddr;

use crate::port::PortId;

/// Bits of [`FlowKey::shape`].
pub mod shape {
    /// The frame carried at least one VLAN tag (a priority tag with VID 0 counts).
    pub const TAGGED: u8 = 1;
    /// An IPv4 packet; the addresses are v4-mapped.
    pub const IPV4: u8 = 2;
    /// An IPv6 packet.
    pub const IPV6: u8 = 4;
    /// A fragment, the first or another.
    pub const FRAGMENT: u8 = 8;
    /// A fragment other than the first: ports are 0 and unknown.
    pub const LATER_FRAGMENT: u8 = 16;
    /// The ports are those of a TCP, UDP, ICMP or ICMPv6 header that was present and whole.
    pub const PORTS: u8 = 32;
    /// The packet is ARP; `src` and `dst` are the v4-mapped sender and target address, `dst_port` the operation.
    pub const ARP: u8 = 64;
    /// Not of one flow: the sum of flows for which there was no room. Port, EtherType and the bit of the family say what
    /// they have in common, all else is zero.
    pub const OVERFLOW: u8 = 128;
}

/// The key of a flow. Numbers are in host order, fields that do not apply are zero.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C, align(8))]
pub struct FlowKey {
    /// Source address, network order; IPv4 as `::ffff:a.b.c.d`.
    pub src: [u8; 16],
    /// Destination address, as `src`.
    pub dst: [u8; 16],
    /// Destination MAC address.
    pub dst_mac: [u8; 6],
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Port that the frame came from.
    pub in_port: u16,
    /// VLAN id of the outer tag as received, 0 without one.
    pub outer_vid: u16,
    /// VLAN id of the inner tag as received, 0 without one.
    pub inner_vid: u16,
    /// EtherType behind the tags; for an 802.3 length field, 0.
    pub ethertype: u16,
    /// TCP or UDP source port.
    pub src_port: u16,
    /// TCP or UDP destination port; for ICMP and ICMPv6 type x 256 + code.
    pub dst_port: u16,
    /// IP protocol; for IPv6 that behind the extension headers.
    pub protocol: u8,
    /// IPv4 type of service or IPv6 traffic class with the two ECN bits cleared.
    pub tos: u8,
    /// Bits of [`shape`].
    pub shape: u8,
    /// Priority (PCP) of the outer tag.
    pub pcp: u8,
    /// Zero.
    pub reserved: [u8; 4],
}

const _: () = assert!(size_of::<FlowKey>() == 64);

impl FlowKey {
    /// The key as eight words in memory order.
    #[inline]
    pub fn words(&self) -> [u64; 8] {
        zerocopy::transmute!(*self)
    }

    /// The inverse of [`FlowKey::words`].
    #[inline]
    pub fn from_words(words: [u64; 8]) -> Self {
        zerocopy::transmute!(words)
    }

    /// Source MAC address.
    pub fn src_mac(&self) -> MacAddr {
        MacAddr(self.src_mac)
    }

    /// Destination MAC address.
    pub fn dst_mac(&self) -> MacAddr {
        MacAddr(self.dst_mac)
    }

    /// Port that the frame came from.
    pub fn in_port(&self) -> PortId {
        PortId(self.in_port)
    }

    /// Every bit of `bits` is set in the shape.
    pub fn is(&self, bits: u8) -> bool {
        self.shape & bits == bits
    }

    /// Source IP address; `None` when the packet is neither IPv4 nor IPv6.
    pub fn src_ip(&self) -> Option<IpAddr> {
        self.ip(self.src)
    }

    /// Destination IP address; `None` when the packet is neither IPv4 nor IPv6.
    pub fn dst_ip(&self) -> Option<IpAddr> {
        self.ip(self.dst)
    }

    fn ip(&self, octets: [u8; 16]) -> Option<IpAddr> {
        let address = Ipv6Addr::from(octets);
        match () {
            () if self.is(shape::IPV4) => address.to_ipv4_mapped().map(IpAddr::V4),
            () if self.is(shape::IPV6) => Some(IpAddr::V6(address)),
            () => None,
        }
    }
}
