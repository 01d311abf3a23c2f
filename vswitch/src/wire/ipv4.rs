//! IPv4 (RFC 791), with options and fragments.

use super::u32_at;
use crate::verdict::DropReason;

/// The header of a packet, held against the octets that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address.
    pub src: u32,
    /// Destination address.
    pub dst: u32,
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
    #[inline(always)]
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let fixed: &[u8; 20] = packet.first_chunk().ok_or(DropReason::Ipv4Header)?;
        let [v, tos, l0, l1, _, _, f0, f1, _, protocol, _, _, addresses @ ..] = fixed;
        let (v, tos, protocol) = (*v, *tos, *protocol);
        let (src, dst) = addresses.split_first_chunk::<4>().ok_or(DropReason::Ipv4Header)?;
        let header = usize::from(v & 15) * 4;
        let total = usize::from(u16::from_be_bytes([*l0, *l1]));
        if v >> 4 != 4 || header < 20 || total < header {
            return Err(DropReason::Ipv4Header);
        }
        if total > packet.len() {
            return Err(DropReason::Ipv4Length);
        }
        let fragment = u16::from_be_bytes([*f0, *f1]);
        Ok(Ipv4 {
            src: u32::from_be_bytes(*src),
            dst: u32_at(dst, 0).unwrap_or_default(),
            header,
            total,
            tos,
            protocol,
            offset: fragment & 0x1fff,
            more: fragment & 0x2000 != 0,
        })
    }
}
