//! The virtio network header: what a device says about a frame's checksum and segmentation.
//!
//! Layout: virtio 1.2, 5.1.6 (`struct virtio_net_hdr_v1`), 12 octets, little-endian: flags u8, gso_type u8, hdr_len u16,
//! gso_size u16, csum_start u16, csum_offset u16, num_buffers u16. All offsets count from the destination MAC address.
//! Nothing in it is believed before `parse` has held it against the frame.

/// Octets of the header on the wire between us and a device.
pub const VNET_LEN: usize = 12;

/// `flags`: the checksum at `csum_start + csum_offset` covers the pseudo-header only and must be completed.
pub const NEEDS_CSUM: u8 = 1;
/// `flags`: the device has verified the checksum.
pub const DATA_VALID: u8 = 2;

/// `gso_type`: an ordinary frame.
pub const GSO_NONE: u8 = 0;
/// `gso_type`: TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// `gso_type`: TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// `gso_type`: UDP datagrams of equal size (USO).
pub const GSO_UDP_L4: u8 = 5;
/// `gso_type`: flag, TCP with ECN.
pub const GSO_ECN: u8 = 0x80;

/// A virtio network header in host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VnetHdr {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` values, perhaps with [`GSO_ECN`].
    pub gso_type: u8,
    /// Octets of all headers; a hint.
    pub hdr_len: u16,
    /// Payload octets of a segment.
    pub gso_size: u16,
    /// Where the checksum begins to count.
    pub csum_start: u16,
    /// Where, from there, it is stored.
    pub csum_offset: u16,
}

impl VnetHdr {
    /// No checksum to complete, nothing to segment.
    pub const PLAIN: VnetHdr =
        VnetHdr { flags: 0, gso_type: GSO_NONE, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

    /// Reads the header; `num_buffers` is ignored.
    pub fn read(b: &[u8; VNET_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, _, _] = *b;
        VnetHdr {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// Writes the header with one buffer.
    pub fn write(&self) -> [u8; VNET_LEN] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1, 1, 0]
    }

    /// The frame is a super-frame.
    pub fn is_gso(&self) -> bool {
        self.gso_type != GSO_NONE
    }

    /// A plain frame: nothing to complete and nothing to cut.
    #[inline(always)]
    pub fn asks_nothing(&self) -> bool {
        (self.flags & NEEDS_CSUM) | self.gso_type == 0
    }

    /// The checksum must be completed.
    pub fn needs_csum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }

    /// The header for the same frame after `by` octets were inserted (or, negative, removed) between the MAC addresses
    /// and the rest, as a VLAN tag is.
    pub fn shifted(&self, by: i16) -> Self {
        let mut moved = *self;
        if self.needs_csum() {
            moved.csum_start = self.csum_start.wrapping_add_signed(by);
        }
        if self.hdr_len != 0 {
            moved.hdr_len = self.hdr_len.wrapping_add_signed(by);
        }
        moved
    }
}
