//! Frames of all kinds that a guest may send, made by hand and at random.

use proto::addr::MacAddr;
use vswitch::frame::vnet::{self, VnetHdr};

use crate::net::frames::{arp, checksum, ethernet, icmp, ipv6};
use crate::net::mac;

/// A frame as it is sent.
pub struct Made {
    /// The port that it comes from.
    pub port: u16,
    /// The VLAN that it belongs to.
    pub vlan: u16,
    pub octets: Vec<u8>,
    pub vnet: VnetHdr,
    /// Its transport checksum is wrong, and that is nobody's business.
    pub wrong: bool,
}

/// Makes frames.
pub struct Maker {
    state: u64,
    number: u64,
}

/// Port, VLAN, tags with their TPIDs, and station of a first frame.
type First<'a> = (u16, u16, &'a [(u16, u16)], u16);

/// What is to become of the transport checksum.
#[derive(Clone, Copy, PartialEq)]
enum Sum {
    Right,
    Wrong,
    /// Left to the device.
    Unfinished,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl Maker {
    pub fn new(seed: u64) -> Self {
        Maker { state: seed, number: 0 }
    }

    fn below(&mut self, n: usize) -> usize {
        // xorshift64 (Marsaglia).
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % n
    }

    /// A frame of every station, so that the switch knows where it is.
    pub fn introductions(&self) -> Vec<Made> {
        let one = |(port, vlan, tags, station): First<'_>| Made {
            port,
            vlan,
            octets: ethernet(MacAddr::BROADCAST, mac(station), tags, 0x9999, &[0; 46]),
            vnet: VnetHdr::PLAIN,
            wrong: false,
        };
        let all: [First<'_>; 4] =
            [(1, 10, &[], 1), (2, 10, &[(0x8100, 10)], 2), (2, 20, &[(0x8100, 20)], 2), (3, 20, &[], 3)];
        all.into_iter().map(one).collect()
    }

    /// The next frame: from an access port to the trunk or the other way, in one of two VLANs.
    pub fn frame(&mut self) -> Made {
        self.number += 1;
        let (guest, vlan) = [(1, 10), (3, 20)][self.below(2)];
        let back = self.below(2) == 1;
        let (port, src, dst) = if back { (2, mac(2), mac(guest)) } else { (guest, mac(guest), mac(2)) };
        let priority = (self.below(8) as u16) << 13;
        // The trunk sends tagged; a guest behind it may have a tag of its own within.
        let mut tags = if back { vec![(0x8100, priority | vlan)] } else { Vec::new() };
        if back && self.below(20) == 0 {
            tags.push((0x8100, 7));
        }
        let (ethertype, packet, vnet, wrong) = self.packet();
        let front = 14 + 4 * tags.len() as u16;
        let vnet = match vnet.needs_csum() {
            true => VnetHdr { csum_start: vnet.csum_start + front, hdr_len: vnet.hdr_len + front, ..vnet },
            false => vnet,
        };
        Made { port, vlan, octets: ethernet(dst, src, &tags, ethertype, &packet), vnet, wrong }
    }

    /// Type, packet, what is left to the device (counted from the packet), and whether its checksum is wrong.
    fn packet(&mut self) -> (u16, Vec<u8>, VnetHdr, bool) {
        let plain = VnetHdr::PLAIN;
        match self.below(20) {
            0 => (0x0806, arp(1, [10, 0, 0, 1], [10, 0, 0, 2]), plain, false),
            1 => (0x9999, self.payload(46), plain, false),
            2 => (0x0800, self.ipv4(1, 0, &icmp(8, 0)), plain, false),
            // A fragment: the first with its ports, or a later one with anything.
            3 => {
                let later = self.below(2) as u16 * 185;
                let inside = [vec![0x9c, 0x40, 0x9c, 0x41, 6, 0, 0, 0], self.payload(1472)].concat();
                (0x0800, self.ipv4(UDP, 0x2000 | later, &inside), plain, false)
            }
            4 | 5 => self.super_frame(),
            6 => self.transport(8_000, Sum::Right),
            7 | 8 => self.transport(400, Sum::Wrong),
            9 | 10 => self.transport(1_400, Sum::Unfinished),
            _ => self.transport(400, Sum::Right),
        }
    }

    /// Up to so many octets, that begin with a number of their own.
    fn payload(&mut self, most: usize) -> Vec<u8> {
        let length = 8 + self.below(most.saturating_sub(8).max(1));
        let number = self.number.to_be_bytes();
        number.into_iter().cycle().take(length).collect()
    }

    fn ipv4(&mut self, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = crate::net::frames::ipv4([10, 0, 0, 1], [10, 0, 0, 2], protocol, 0, fragment, payload);
        // An identification of its own.
        packet[4..6].copy_from_slice(&(self.number as u16).to_be_bytes());
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[..20], 0).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet
    }

    fn super_frame(&mut self) -> (u16, Vec<u8>, VnetHdr, bool) {
        let size = 300 + self.below(1149);
        let payload = size + 1 + self.below(size * 4);
        let (v6, tcp) = (self.below(2) == 1, self.below(3) > 0);
        let octets = self.number.to_be_bytes().into_iter().cycle().take(payload).collect();
        let (ethertype, packet, vnet, _) = self.segment(v6, tcp, octets, Sum::Unfinished);
        let gso_type = match (tcp, v6) {
            (true, false) => vnet::GSO_TCPV4,
            (true, true) => vnet::GSO_TCPV6,
            (false, _) => vnet::GSO_UDP_L4,
        };
        (ethertype, packet, VnetHdr { gso_type, gso_size: size as u16, ..vnet }, false)
    }

    fn transport(&mut self, most: usize, sum: Sum) -> (u16, Vec<u8>, VnetHdr, bool) {
        let (v6, tcp) = (self.below(3) == 0, self.below(2) == 0);
        let payload = self.payload(most);
        self.segment(v6, tcp, payload, sum)
    }

    fn segment(&mut self, v6: bool, tcp: bool, payload: Vec<u8>, sum: Sum) -> (u16, Vec<u8>, VnetHdr, bool) {
        let port = 40_000 + self.below(64) as u16;
        let mut inside = match tcp {
            true => crate::net::frames::tcp(port, 40_001, 0x18, &payload),
            false => crate::net::frames::udp(port, 40_001, &payload),
        };
        let (protocol, place, header) = if tcp { (TCP, 16, 20) } else { (UDP, 6, 8) };
        let addresses = |packet: &[u8]| packet[if v6 { 8..40 } else { 12..20 }].to_vec();
        let front = if v6 { ipv6(1, 2, protocol, &[]) } else { self.ipv4(protocol, 0, &[]) };
        let pseudo = !checksum(&addresses(&front), u32::from(protocol) + inside.len() as u32);
        let right = match checksum(&inside, pseudo.into()) {
            0 if !tcp => 0xffff,
            right => right,
        };
        let value = match sum {
            Sum::Right => right,
            // Never that of nothing.
            Sum::Wrong => {
                if right == 0x1234 {
                    0x4321
                } else {
                    0x1234
                }
            }
            Sum::Unfinished => pseudo,
        };
        inside[place..place + 2].copy_from_slice(&value.to_be_bytes());
        let packet = if v6 { ipv6(1, 2, protocol, &inside) } else { self.ipv4(protocol, 0, &inside) };
        let l4 = if v6 { 40 } else { 20 };
        let vnet = match sum {
            Sum::Unfinished => VnetHdr {
                flags: vnet::NEEDS_CSUM,
                hdr_len: l4 + header,
                csum_start: l4,
                csum_offset: place as u16,
                ..VnetHdr::PLAIN
            },
            _ => VnetHdr::PLAIN,
        };
        (if v6 { 0x86dd } else { 0x0800 }, packet, vnet, sum == Sum::Wrong)
    }
}
