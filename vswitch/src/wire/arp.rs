//! ARP for Ethernet and IPv4 (RFC 826).

use super::{array_at, u32_at};
use crate::verdict::DropReason;

/// What a judge may read of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Protocol address of the sender.
    pub sender: u32,
    /// Protocol address that is asked for, or told.
    pub target: u32,
}

impl Arp {
    /// Reads a packet from its first octet.
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let fixed: Option<[u8; 8]> = array_at(packet, 0);
        let Some([0, 1, 8, 0, 6, 4, o0, o1]) = fixed else { return Err(DropReason::ArpMalformed) };
        match (u32_at(packet, 14), u32_at(packet, 24)) {
            (Some(sender), Some(target)) => Ok(Arp { operation: u16::from_be_bytes([o0, o1]), sender, target }),
            _ => Err(DropReason::ArpMalformed),
        }
    }
}
