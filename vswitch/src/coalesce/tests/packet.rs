//! Packets as guests send them, right and wrong.

use crate::frame::vnet::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use crate::offload::{checksum, fold, pseudo_sum, sum};

/// A packet in words.
#[derive(Clone, Debug)]
pub struct Packet {
    pub tag: Option<[u8; 4]>,
    pub v6: bool,
    pub tcp: bool,
    /// Type of service, or flow label.
    pub tos: u8,
    pub ttl: u8,
    pub df: bool,
    pub id: u16,
    /// Fragment offset, units of 8 octets.
    pub offset: u8,
    pub ports: [u16; 2],
    pub sequence: u32,
    pub ack: u32,
    pub window: u16,
    pub urgent: u16,
    pub flags: u8,
    /// Octets of TCP options.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Octets behind the packet.
    pub padding: usize,
    /// What the checksum is off by.
    pub wrong: u16,
    /// No checksum.
    pub unsummed: bool,
    /// What the IPv4 header's checksum is off by.
    pub header_wrong: u16,
    /// The checksum is left to the device.
    pub partial: bool,
    /// Octets of a segment, of a super-frame.
    pub gso: u16,
    pub copy: bool,
    /// Octets in the head: 0, 12 or, with a tag, 16.
    pub head: usize,
}

impl Packet {
    pub fn new(v6: bool, tcp: bool) -> Packet {
        Packet {
            tag: None,
            v6,
            tcp,
            tos: 0,
            ttl: 64,
            df: true,
            id: 7,
            offset: 0,
            ports: [1000, 2000],
            sequence: 1,
            ack: 5,
            window: 500,
            urgent: 0,
            flags: 0x10,
            options: vec![1; 4],
            payload: (0..100).collect(),
            padding: 0,
            wrong: 0,
            unsummed: false,
            header_wrong: 0,
            partial: false,
            gso: 0,
            copy: false,
            head: 12,
        }
    }

    /// The packet that comes after this one in its flow.
    pub fn next(&self) -> Packet {
        let segments = self.payload.len().div_ceil(usize::from(self.gso).max(1)).max(1);
        let segments = if self.gso == 0 { 1 } else { segments };
        Packet {
            id: self.id.wrapping_add(segments as u16),
            sequence: self.sequence.wrapping_add(self.payload.len() as u32),
            payload: self.payload.iter().map(|octet| octet.wrapping_mul(5).wrapping_add(3)).collect(),
            ..self.clone()
        }
    }

    pub fn l3(&self) -> usize {
        if self.tag.is_some() { 18 } else { 14 }
    }

    pub fn l4(&self) -> usize {
        self.l3() + if self.v6 { 40 } else { 20 }
    }

    /// The frame and what its device says of it.
    pub fn build(&self) -> (Vec<u8>, VnetHdr) {
        let protocol = if self.tcp { 6 } else { 17 };
        let mut l4: Vec<u8> = self.ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        if self.tcp {
            l4.extend(self.sequence.to_be_bytes());
            l4.extend(self.ack.to_be_bytes());
            l4.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
            l4.extend(self.window.to_be_bytes());
            l4.extend([0; 2]);
            l4.extend(self.urgent.to_be_bytes());
            l4.extend(&self.options);
        } else {
            l4.extend((8 + self.payload.len() as u16).to_be_bytes());
            l4.extend([0; 2]);
        }
        let header = l4.len();
        l4.extend(&self.payload);

        let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".to_vec();
        frame.extend(self.tag.iter().flatten());
        let length = l4.len() as u16;
        let addresses: Vec<u8>;
        if self.v6 {
            addresses = (0..32).map(|i| 0x20 + i).collect();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, self.tos]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, self.ttl]);
            frame.extend(&addresses);
        } else {
            addresses = vec![10, 0, 0, 1, 10, 200, 0, 2];
            let mut ip = vec![0x45, self.tos];
            ip.extend((20 + length).to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend([if self.df { 0x40 } else { 0 }, self.offset, self.ttl, protocol, 0, 0]);
            ip.extend(&addresses);
            let value = checksum(&ip).wrapping_add(self.header_wrong);
            ip[10..12].copy_from_slice(&value.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(ip);
        }
        let place = if self.tcp { 16 } else { 6 };
        let pseudo = pseudo_sum(&addresses, protocol, length);
        let value = match !fold(pseudo + sum(&l4)) {
            _ if self.unsummed => 0,
            _ if self.partial => fold(pseudo).wrapping_add(self.wrong),
            0 if !self.tcp => 0xffff,
            value => value.wrapping_add(self.wrong),
        };
        l4[place..place + 2].copy_from_slice(&value.to_be_bytes());
        frame.extend(l4);
        frame.extend(std::iter::repeat_n(0x5a, self.padding));
        let start = self.l4();
        let mut vnet = VnetHdr::PLAIN;
        if self.partial {
            vnet = VnetHdr { flags: NEEDS_CSUM, csum_start: start as u16, csum_offset: place as u16, ..vnet };
        }
        if self.gso > 0 {
            vnet.gso_type = match (self.tcp, self.v6) {
                (true, false) => GSO_TCPV4,
                (true, true) => GSO_TCPV6,
                (false, _) => GSO_UDP_L4,
            };
            (vnet.gso_size, vnet.hdr_len) = (self.gso, (start + header) as u16);
        }
        (frame, vnet)
    }

    /// Who must not overtake whom: frames of one flow; `None` nobody.
    pub fn flow(&self) -> Option<(bool, bool, [u16; 2])> {
        ((self.offset == 0 || self.v6) && !self.copy).then_some((self.v6, self.tcp, self.ports))
    }
}

/// Something that happens to a packet of a flow, by number.
pub fn disturb(packet: &mut Packet, what: u8, by: u8) {
    match what {
        0 => packet.ttl = by,
        1 => packet.tos = by,
        2 => packet.df ^= true,
        3 => packet.id = packet.id.wrapping_add(by.into()),
        4 => packet.offset = by & 31,
        5 => packet.sequence = packet.sequence.wrapping_add(by.into()).wrapping_sub(100),
        6 => packet.ack = by.into(),
        7 => packet.window = by.into(),
        8 => packet.flags = by,
        9 => packet.flags = [0x18, 0x11, 0x19, 0x12, 0x50, 0x90, 0x30, 0x14][usize::from(by) % 8],
        10 => packet.options = vec![by / 128; usize::from(by % 4) * 4],
        11 => packet.payload.truncate(by.into()),
        12 => packet.payload.extend(vec![by; by.into()]),
        13 => packet.padding = by.into(),
        14 => packet.wrong = by.into(),
        15 => packet.unsummed = true,
        16 => packet.header_wrong = by.into(),
        17 => packet.partial = true,
        18 => packet.copy = true,
        19 => packet.tag = Some([0x81, 0, 0, by & 3]),
        20 => packet.head = [0, 12][usize::from(by) % 2],
        21 => packet.ports[1] = 60 + u16::from(by & 15),
        22 => (packet.tag, packet.head) = (Some([0x81, 0, 0, by & 3]), 16),
        _ => {
            // A super-frame of a guest, with a checksum that is left to the device, and no padding.
            packet.payload = (0..usize::from(by) * 7).map(|i| i as u8).collect();
            (packet.gso, packet.partial, packet.padding, packet.wrong) =
                ([64, 100, 200][usize::from(by) % 3], true, 0, 0);
            packet.offset = 0;
            packet.unsummed = false;
        }
    }
    if packet.gso > 0 && (packet.offset > 0 || packet.wrong > 0 || packet.padding > 0 || packet.unsummed) {
        (packet.offset, packet.wrong, packet.padding, packet.unsummed) = (0, 0, 0, false);
    }
    // What a device says of a fragment or an unsummed datagram would not come this far.
    if packet.partial && (packet.offset > 0 || packet.unsummed) {
        (packet.partial, packet.gso) = (false, 0);
    }
}
