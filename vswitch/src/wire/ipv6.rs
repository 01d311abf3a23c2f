//! IPv6 (RFC 8200), with a walk over its extension headers that ends after eight.

use super::array_at;
use crate::verdict::DropReason;

/// Most extension headers of a packet.
pub const EXTENSIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// The header of a packet with its extensions, held against the octets that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6 {
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
    /// Octets of the header and its extensions.
    pub header: usize,
    /// Octets of the packet.
    pub total: usize,
    /// Traffic class.
    pub class: u8,
    /// Protocol behind the extensions; of a later fragment, what its fragment header names.
    pub protocol: u8,
    /// Fragment offset, units of 8 octets.
    pub offset: u16,
    /// More fragments follow. An atomic fragment (RFC 6946) has neither this nor an offset and is none.
    pub more: bool,
    /// No extension but options and routing headers: neither signed nor a fragment, so it can be cut and checksummed.
    pub plain: bool,
}

impl Ipv6 {
    /// Reads a packet from its first octet; `packet` may be longer than it (padding).
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let fixed: [u8; 8] = array_at(packet, 0).ok_or(DropReason::Ipv6Header)?;
        let [v0, v1, _, _, l0, l1, next, _] = fixed;
        let (Some(src), Some(dst)) = (array_at(packet, 8), array_at(packet, 24)) else {
            return Err(DropReason::Ipv6Header);
        };
        if v0 >> 4 != 6 {
            return Err(DropReason::Ipv6Header);
        }
        let total = 40 + usize::from(u16::from_be_bytes([l0, l1]));
        let Some(packet) = packet.get(..total) else { return Err(DropReason::Ipv6Length) };
        let mut ip = Ipv6 {
            src,
            dst,
            header: 40,
            total,
            class: v0 << 4 | v1 >> 4,
            protocol: next,
            offset: 0,
            more: false,
            plain: true,
        };
        ip.walk(packet)?;
        Ok(ip)
    }

    fn walk(&mut self, packet: &[u8]) -> Result<(), DropReason> {
        for walked in 0..=EXTENSIONS_MAX {
            let octets = match self.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY | HIP | SHIM6 => |len: u8| 8 + 8 * usize::from(len),
                AUTHENTICATION => |len: u8| 8 + 4 * usize::from(len),
                FRAGMENT => |_| 8,
                _ => return Ok(()),
            };
            if walked == EXTENSIONS_MAX {
                break;
            }
            self.plain &= matches!(self.protocol, HOP_BY_HOP | ROUTING | DESTINATION);
            let start: [u8; 8] = array_at(packet, self.header).ok_or(DropReason::Ipv6Extensions)?;
            let [next, len, f0, f1, ..] = start;
            if self.protocol == FRAGMENT {
                let fragment = u16::from_be_bytes([f0, f1]);
                self.offset = fragment >> 3;
                self.more = fragment & 1 == 1;
            }
            self.header += octets(len);
            if self.header > packet.len() {
                return Err(DropReason::Ipv6Extensions);
            }
            self.protocol = next;
            if self.offset != 0 {
                return Ok(());
            }
        }
        Err(DropReason::Ipv6Extensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next: u8, behind: &[u8]) -> Vec<u8> {
        let mut p = vec![0x60, 0, 0, 0];
        p.extend_from_slice(&(behind.len() as u16).to_be_bytes());
        p.extend_from_slice(&[next, 64]);
        p.extend_from_slice(&[0xfe; 32]);
        p.extend_from_slice(behind);
        p
    }

    #[test]
    fn eight_extensions_pass_and_nine_do_not() {
        let chain = |n: usize| -> Vec<u8> {
            (0..n).flat_map(|i| [if i + 1 == n { 17 } else { DESTINATION }, 0, 0, 0, 0, 0, 0, 0]).collect()
        };
        let ip = Ipv6::read(&packet(DESTINATION, &chain(8))).unwrap();
        assert_eq!((ip.protocol, ip.header), (17, 104));
        assert_eq!(Ipv6::read(&packet(DESTINATION, &chain(9))).unwrap_err(), DropReason::Ipv6Extensions);
        assert_eq!(Ipv6::read(&packet(0, &chain(2)[..7])).unwrap_err(), DropReason::Ipv6Extensions);
        // Found by the oracle: a later fragment as the ninth ended the walk before the count.
        let mut ninth = chain(8);
        ninth[56] = FRAGMENT;
        ninth.extend_from_slice(&[17, 0, 0, 8, 0, 0, 0, 0]);
        assert_eq!(Ipv6::read(&packet(DESTINATION, &ninth)).unwrap_err(), DropReason::Ipv6Extensions);
    }

    #[test]
    fn a_length_beyond_the_packet_is_a_lie() {
        assert_eq!(Ipv6::read(&packet(0, &[17, 1, 0, 0, 0, 0, 0, 0])).unwrap_err(), DropReason::Ipv6Extensions);
        let mut p = packet(59, &[0; 8]);
        p.pop();
        assert_eq!(Ipv6::read(&p).unwrap_err(), DropReason::Ipv6Length);
        p.push(0);
        p[0] = 0x40;
        assert_eq!(Ipv6::read(&p).unwrap_err(), DropReason::Ipv6Header);
        assert_eq!(Ipv6::read(&p[..39]).unwrap_err(), DropReason::Ipv6Header);
    }

    #[test]
    fn a_later_fragment_ends_the_walk_and_an_atomic_one_does_not() {
        let later = Ipv6::read(&packet(FRAGMENT, &[DESTINATION, 0, 0, 8, 0, 0, 0, 0])).unwrap();
        assert_eq!((later.offset, later.protocol), (1, DESTINATION));
        let atomic = Ipv6::read(&packet(FRAGMENT, &[17, 0, 0, 0, 0, 0, 0, 0])).unwrap();
        assert_eq!((atomic.offset, atomic.more, atomic.protocol, atomic.header), (0, false, 17, 48));
    }
}
