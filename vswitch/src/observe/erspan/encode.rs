//! The headers of a copy that is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proto::addr::VlanId;

use super::{
    Direction, Form, GRE_II, GRE_III, GRE_KEY, GRE_SEQUENCE, HEADERS_MAX, IPV4, IPV6, PLATFORM_N1KV, PLATFORM_SECONDS,
    PROTOCOL_GRE, SESSION_MAX, Stamp, VERSION_II, VERSION_III,
};
use crate::offload::checksum;

/// IEEE 802.1Q tag that was taken out of the frame (En of type II).
const EN_REMOVED: u16 = 2;
/// The frame has its tag still.
const EN_KEPT: u16 = 3;
/// Don't fragment (RFC 791).
const DF: u16 = 0x4000;

/// What all copies of a session have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Encapsulation {
    /// Source of the outer packets.
    pub origin: IpAddr,
    /// Where they go; of the same family.
    pub destination: IpAddr,
    /// ERSPAN id, 1 to [`SESSION_MAX`].
    pub session: u16,
    /// Type and time.
    pub form: Form,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services code point, 0-63.
    pub dscp: u8,
    /// A packet that is too long for its way may be cut on it (IPv4 only).
    pub fragment: bool,
}

/// What the header says of the VLAN of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// The frame had none; it belongs to that VLAN.
    None(Option<VlanId>),
    /// It had one with this tag control information, which the copy does not have any more.
    Removed(u16),
    /// It has its tag.
    Kept,
    /// The copy has the tag of that VLAN, if there is one; whether the frame had a tag, too.
    Whole(Option<VlanId>, bool),
}

/// What is said of one copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// VLAN and priority.
    pub tag: Tag,
    /// Number of the port: 20 bits of it in type II, 14 with IEEE 1588, all with the form of the Nexus 1000V.
    pub port: u32,
    /// Which way it went.
    pub direction: Direction,
    /// The copy ends before the frame did.
    pub truncated: bool,
    /// When the frame was received, since 1970.
    pub time: Duration,
}

impl Encapsulation {
    /// Writes the headers of a copy of `octets` octets with that sequence number, and gives how many octets they have:
    /// those of [`Encapsulation::headers`]. Nobody may fragment the packet (DF), unless that is allowed, and the kernel need not
    /// compute anything.
    pub fn write(&self, copy: &Sighting, sequence: u32, octets: usize, out: &mut [u8; HEADERS_MAX]) -> usize {
        let headers = self.headers();
        match (self.origin, self.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => self.ipv4(from, to, headers + octets, out),
            (from, to) => self.ipv6(v6(from), v6(to), headers + octets, out),
        }
        let mut gre = Writer { out: &mut out[..], at: headers - self.form.behind_ip() };
        match self.form {
            Form::Two => {
                gre.put(GRE_SEQUENCE.to_be_bytes());
                gre.put(GRE_II.to_be_bytes());
                gre.put(sequence.to_be_bytes());
                self.type_two(copy, &mut gre);
            }
            Form::Relay(key) => {
                gre.put((GRE_KEY | GRE_SEQUENCE).to_be_bytes());
                gre.put(GRE_II.to_be_bytes());
                gre.put(key.to_be_bytes());
                gre.put(sequence.to_be_bytes());
                self.type_two(copy, &mut gre);
            }
            Form::Three(stamp) => {
                gre.put(GRE_SEQUENCE.to_be_bytes());
                gre.put(GRE_III.to_be_bytes());
                gre.put(sequence.to_be_bytes());
                self.type_three(copy, stamp, &mut gre);
            }
        }
        headers
    }

    /// Octets between the outer packet's first and the frame's.
    pub fn headers(&self) -> usize {
        let ip = if self.origin.is_ipv4() && self.destination.is_ipv4() { IPV4 } else { IPV6 };
        ip + self.form.behind_ip()
    }

    /// RFC 791 clause 3.1
    fn ipv4(&self, from: Ipv4Addr, to: Ipv4Addr, octets: usize, out: &mut [u8; HEADERS_MAX]) {
        let mut ip = Writer { out: &mut out[..], at: 0 };
        ip.put([0x45, self.dscp << 2]);
        ip.put(u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes());
        // An atomic datagram needs no identification (RFC 6864 clause 4.1).
        ip.put([0, 0]);
        ip.put((if self.fragment { 0 } else { DF }).to_be_bytes());
        ip.put([self.ttl, PROTOCOL_GRE, 0, 0]);
        ip.put(from.octets());
        ip.put(to.octets());
        if let Some(header) = out.first_chunk_mut::<IPV4>() {
            let sum = checksum(header).to_be_bytes();
            (header[10], header[11]) = (sum[0], sum[1]);
        }
    }

    /// RFC 8200 clause 3, with flow label 0. Nobody on the way may cut it.
    fn ipv6(&self, from: Ipv6Addr, to: Ipv6Addr, octets: usize, out: &mut [u8; HEADERS_MAX]) {
        let mut ip = Writer { out: &mut out[..], at: 0 };
        ip.put([0x60 | self.dscp >> 2, self.dscp << 6, 0, 0]);
        ip.put(u16::try_from(octets.saturating_sub(IPV6)).unwrap_or(u16::MAX).to_be_bytes());
        ip.put([PROTOCOL_GRE, self.ttl]);
        ip.put(from.octets());
        ip.put(to.octets());
    }

    /// Version, VLAN; class of service, two bits that the types use differently, T, session.
    fn first_word(&self, version: u8, copy: &Sighting, bits: u16) -> [u8; 4] {
        let (vlan, cos) = match copy.tag {
            Tag::None(vlan) | Tag::Whole(vlan, _) => (vlan.map_or(0, VlanId::get), 0),
            Tag::Removed(tci) => (tci & 0x0fff, tci >> 13),
            Tag::Kept => (0, 0),
        };
        let truncated = u16::from(copy.truncated);
        let high = u16::from(version) << 12 | vlan;
        let low = cos << 13 | bits << 11 | truncated << 10 | self.session & SESSION_MAX;
        (u32::from(high) << 16 | u32::from(low)).to_be_bytes()
    }

    fn type_two(&self, copy: &Sighting, out: &mut Writer) {
        let en = match copy.tag {
            Tag::None(_) | Tag::Whole(_, false) => 0,
            Tag::Removed(_) => EN_REMOVED,
            Tag::Kept | Tag::Whole(_, true) => EN_KEPT,
        };
        out.put(self.first_word(VERSION_II, copy, en));
        out.put((copy.port & 0xf_ffff).to_be_bytes());
    }

    fn type_three(&self, copy: &Sighting, stamp: Stamp, out: &mut Writer) {
        // 64 bits of nanoseconds last until 2554; the low 32 bits of the count are what the field holds.
        let nanos = copy.time.as_nanos() as u64;
        let (granularity, time, has_more) = match stamp {
            Stamp::Micros100 => (0, nanos / 100_000, false),
            Stamp::Nanos100 => (1, nanos / 100, false),
            Stamp::Ieee1588 => (2, copy.time.subsec_nanos().into(), true),
            Stamp::Nexus1000v(_) => (0, nanos / 100_000, true),
        };
        // BSO 0: a frame that is bad is dropped before it is mirrored.
        out.put(self.first_word(VERSION_III, copy, 0));
        out.put((time as u32).to_be_bytes());
        // No security group; P: the payload begins with an Ethernet header; frame type 0: Ethernet.
        let egress = u16::from(copy.direction == Direction::Egress);
        let flags = 1 << 15 | egress << 3 | granularity << 1 | u16::from(has_more);
        out.put([0, 0]);
        out.put(flags.to_be_bytes());
        match stamp {
            Stamp::Micros100 | Stamp::Nanos100 => {}
            Stamp::Ieee1588 => {
                out.put((u32::from(PLATFORM_SECONDS) << 26 | copy.port & 0x3fff).to_be_bytes());
                out.put((copy.time.as_secs() as u32).to_be_bytes());
            }
            Stamp::Nexus1000v(domain) => {
                out.put((u32::from(PLATFORM_N1KV) << 26 | u32::from(domain & 0xfff)).to_be_bytes());
                out.put(copy.port.to_be_bytes());
            }
        }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, octets: [u8; N]) {
        if let Some(place) = self.out.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = octets;
        }
        self.at += N;
    }
}
