//! Packets of a flow, in sequence, as a guest would send them.

use vswitch::frame::vnet::{NEEDS_CSUM, VnetHdr};
use vswitch::offload;

/// What the packets of a flow have in common.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub tag: bool,
    pub v6: bool,
    pub tcp: bool,
    /// Must not be fragmented; else identifications ascend.
    pub df: bool,
    /// Checksums are left to the device.
    pub partial: bool,
}

impl Kind {
    /// All that there are.
    pub fn all() -> Vec<Kind> {
        let bit = |number: u8, at: u8| number >> at & 1 == 1;
        (0..32)
            .map(|n| Kind { tag: bit(n, 0), v6: bit(n, 1), tcp: bit(n, 2), df: bit(n, 3), partial: bit(n, 4) })
            .filter(|kind| kind.df || !kind.v6)
            .collect()
    }

    fn l3(&self) -> usize {
        if self.tag { 18 } else { 14 }
    }

    fn l4(&self) -> usize {
        self.l3() + if self.v6 { 40 } else { 20 }
    }

    /// A frame with its checksum.
    pub fn complete(&self, sent: &(Vec<u8>, VnetHdr)) -> Vec<u8> {
        let mut frame = sent.0.clone();
        offload::complete_checksum(&mut frame, &sent.1).unwrap();
        frame
    }

    /// A frame without an identification that means nothing.
    pub fn bare(&self, frame: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        if !self.v6 && self.df {
            let l3 = self.l3();
            frame[l3 + 4..l3 + 6].fill(0);
            self.sum_header(&mut frame);
        }
        frame
    }

    fn sum_header(&self, frame: &mut [u8]) {
        let l3 = self.l3();
        frame[l3 + 10..l3 + 12].fill(0);
        let value = offload::checksum(&frame[l3..l3 + 20]).to_be_bytes();
        frame[l3 + 10..l3 + 12].copy_from_slice(&value);
    }
}

/// A flow.
pub struct Stream {
    kind: Kind,
    port: u16,
    id: u16,
    sequence: u32,
    number: u8,
}

impl Stream {
    /// From port `port` of 10.1.0.1, or its like in IPv6, to port 7 of 10.1.0.2.
    pub fn new(kind: Kind, port: u16) -> Stream {
        Stream { kind, port, id: 0xfff0, sequence: 0xffff_ff00, number: 0 }
    }

    /// The next packet, and what its device says of it.
    pub fn next(&mut self, payload: usize, flags: u8) -> (Vec<u8>, VnetHdr) {
        let Kind { tag, v6, tcp, df, partial } = self.kind;
        let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".to_vec();
        if tag {
            frame.extend([0x81, 0, 0x20, 0x64]);
        }
        let length = (payload + if tcp { 32 } else { 8 }) as u16;
        let protocol = if tcp { 6 } else { 17 };
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 1, 2, 3]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            for host in [1, 2] {
                frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
            }
        } else {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend((20 + length).to_be_bytes());
            frame.extend(self.id.to_be_bytes());
            frame.extend([if df { 0x40 } else { 0 }, 0, 64, protocol, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
            self.kind.sum_header(&mut frame);
        }
        frame.extend(self.port.to_be_bytes());
        frame.extend([0, 7]);
        let place = if tcp { 16 } else { 6 };
        if tcp {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend([0, 0, 0, 9, 0x80, flags, 1, 0, 0, 0, 0, 0]);
            frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        } else {
            frame.extend(length.to_be_bytes());
            frame.extend([0, 0]);
        }
        let number = self.number;
        frame.extend((0..payload).map(|at| (at * 7 % 251) as u8 ^ number));
        let l4 = self.kind.l4();
        let mut pseudo = frame[if v6 { l4 - 32 } else { l4 - 8 }..l4].to_vec();
        pseudo.extend([0, protocol]);
        pseudo.extend(length.to_be_bytes());
        let seed = (!offload::checksum(&pseudo)).to_be_bytes();
        frame[l4 + place..l4 + place + 2].copy_from_slice(&seed);
        let mut vnet =
            VnetHdr { flags: NEEDS_CSUM, csum_start: l4 as u16, csum_offset: place as u16, ..VnetHdr::PLAIN };
        if !partial {
            offload::complete_checksum(&mut frame, &vnet).unwrap();
            vnet = VnetHdr::PLAIN;
        }
        self.id = self.id.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(payload as u32);
        self.number = self.number.wrapping_add(1);
        (frame, vnet)
    }
}
