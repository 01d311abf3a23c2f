//! IPv4 (RFC 791), with options and fragments.

use super::array_at;
use crate::verdict::DropReason;

/// The header of a packet, held against the octets that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
    /// Octets of the header with its options.
    pub header: usize,
    /// Octets of the packet.
    pub total: usize,
    /// Type of service.
    pub tos: u8,
    /// Protocol.
    pub protocol: u8,
    /// Fragment offset, units of 8 octets.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
}

impl Ipv4 {
    /// Reads a packet from its first octet; `packet` may be longer than it (padding).
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let fixed: [u8; 20] = array_at(packet, 0).ok_or(DropReason::Ipv4Header)?;
        let [v, tos, l0, l1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = fixed;
        let header = usize::from(v & 15) * 4;
        let total = usize::from(u16::from_be_bytes([l0, l1]));
        if v >> 4 != 4 || header < 20 || total < header {
            return Err(DropReason::Ipv4Header);
        }
        if total > packet.len() {
            return Err(DropReason::Ipv4Length);
        }
        let fragment = u16::from_be_bytes([f0, f1]);
        Ok(Ipv4 {
            src: [s0, s1, s2, s3],
            dst: [d0, d1, d2, d3],
            header,
            total,
            tos,
            protocol,
            offset: fragment & 0x1fff,
            more: fragment & 0x2000 != 0,
        })
    }
}
