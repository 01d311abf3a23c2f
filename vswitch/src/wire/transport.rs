//! TCP (RFC 9293), UDP (RFC 768), ICMP (RFC 792) and ICMPv6 (RFC 4443): ports, flags, header length, checksum place.

use super::array_at;
use crate::verdict::DropReason;

/// ICMP.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;

/// TCP flag: no more from this side.
pub const FIN: u8 = 1;
/// TCP flag: the connection is torn down.
pub const RST: u8 = 4;

/// A transport header that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// TCP or UDP source port.
    pub src_port: u16,
    /// TCP or UDP destination port; of ICMP type x 256 + code.
    pub dst_port: u16,
    /// Octets of the header.
    pub header: usize,
    /// TCP flags.
    pub flags: u8,
    /// Where in the header the checksum is that a device may be asked to complete; `None` for ICMP.
    pub checksum: Option<u16>,
}

impl Transport {
    /// Reads the header of `protocol` at the start of `segment`, which ends where the IP packet ends. `None` for protocols
    /// without ports. A first fragment (`first`) holds less than the whole segment, but must hold the whole header.
    #[inline(always)]
    pub fn read(protocol: u8, ipv6: bool, first: bool, segment: &[u8]) -> Result<Option<Self>, DropReason> {
        let short = if first { DropReason::FragmentTiny } else { DropReason::L4Header };
        match (protocol, ipv6) {
            (TCP, _) => Self::tcp(segment, short),
            (UDP, _) => Self::udp(segment, short, first),
            (ICMP, false) => Self::icmp(segment, short, 8),
            (ICMPV6, true) => Self::icmp(segment, short, 4),
            _ => Ok(None),
        }
    }

    #[inline(always)]
    fn tcp(segment: &[u8], short: DropReason) -> Result<Option<Self>, DropReason> {
        let fixed: [u8; 20] = array_at(segment, 0).ok_or(short)?;
        let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, flags, ..] = fixed;
        let header = usize::from(offset >> 4) * 4;
        if header < 20 {
            return Err(DropReason::L4Header);
        }
        if header > segment.len() {
            return Err(short);
        }
        let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        Ok(Some(Transport { src_port, dst_port, header, flags, checksum: Some(16) }))
    }

    #[inline(always)]
    fn udp(segment: &[u8], short: DropReason, first: bool) -> Result<Option<Self>, DropReason> {
        let [s0, s1, d0, d1, l0, l1, _, _] = array_at(segment, 0).ok_or(short)?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if length < 8 || (length > segment.len() && !first) {
            return Err(DropReason::L4Header);
        }
        let (src_port, dst_port) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        Ok(Some(Transport { src_port, dst_port, header: 8, flags: 0, checksum: Some(6) }))
    }

    fn icmp(segment: &[u8], short: DropReason, header: usize) -> Result<Option<Self>, DropReason> {
        let [kind, code, _, _] = array_at(segment, 0).ok_or(short)?;
        if segment.len() < header {
            return Err(short);
        }
        Ok(Some(Transport {
            src_port: 0,
            dst_port: u16::from_be_bytes([kind, code]),
            header,
            flags: 0,
            checksum: None,
        }))
    }
}
