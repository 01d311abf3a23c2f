//! What a frame brings to a super-frame: where its headers are, and the numbers that must fit.

use super::Mode;
use crate::frame::TxFrame;
use crate::frame::vnet::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use crate::offload::{GSO_SIZE_MIN, fold, pseudo_sum, sum};
use crate::port::Offloads;
use crate::wire::ethernet::{ADDRESSES, IPV4, IPV6, TAG, TPID_C, TPID_S};
use crate::wire::transport::{FIN, TCP, UDP};
use crate::wire::{array_at, u16_at};

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Server and client of DHCP over IPv4 (RFC 2131, 4.1).
const DHCP: [u16; 2] = [67, 68];

/// A frame at first sight: its flow's fingerprint, and whether it may be joined. Made of the octets that every frame has
/// read anyway, and of nothing that needs a second look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Look(u32);

impl Look {
    /// It can't be joined, and which flows it concerns is not known.
    pub const OTHER: Look = Look(0);
    /// Set in the look of every known flow.
    const KNOWN: u32 = 2;
    /// Set when the frame may be joined.
    const PIECE: u32 = 1;

    /// One look at a frame.
    #[inline(always)]
    pub fn at(mode: Mode, frame: &TxFrame<'_>) -> Look {
        let seen = match link(frame) {
            Some((l3, IPV4)) => Look::ipv4(mode, frame, l3),
            Some((l3, IPV6)) => Look::ipv6(frame, l3),
            _ => None,
        };
        seen.unwrap_or(Look::OTHER)
    }

    #[inline(always)]
    fn ipv4(mode: Mode, frame: &TxFrame<'_>, l3: usize) -> Option<Look> {
        let packet: [u8; 28] = array_at(frame.rest, l3)?;
        let [version, _, t0, t1, _, _, f0, f1, _, protocol, _, _, behind @ ..] = packet;
        let [a, b, c, d, e, f, g, h, p0, p1, p2, p3, _, _, c0, c1] = behind;
        // Fragments, and packets with options, have their ports elsewhere or nowhere.
        if version != 0x45 || f0 & 0x3f != 0 || f1 != 0 {
            return None;
        }
        let piece = match protocol {
            UDP => {
                let summed = [c0, c1] != [0, 0] || mode == Mode::Lenient || frame.vnet.needs_csum();
                summed && !DHCP.contains(&u16::from_be_bytes([p2, p3]))
            }
            TCP => has_data(frame.rest, l3 + 20, l3 + usize::from(u16::from_be_bytes([t0, t1]))),
            _ => return None,
        };
        let addresses = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Some(Look::of(addresses, u32::from_be_bytes([p0, p1, p2, p3]), protocol, piece))
    }

    /// A packet with extension headers is of no known flow.
    #[inline(never)]
    fn ipv6(frame: &TxFrame<'_>, l3: usize) -> Option<Look> {
        let ip: [u8; 48] = array_at(frame.rest, l3)?;
        let [version, _, _, _, l0, l1, protocol, _, behind @ ..] = ip;
        let (words, rest) = behind.as_chunks::<8>();
        let [addresses @ .., transport] = words else { return None };
        debug_assert!(rest.is_empty());
        let [p0, p1, p2, p3, _, _, c0, c1] = *transport;
        if version >> 4 != 6 {
            return None;
        }
        let piece = match protocol {
            // It must have a checksum (RFC 8200, 8.1), whatever the mode.
            UDP => [c0, c1] != [0, 0] || frame.vnet.needs_csum(),
            TCP => has_data(frame.rest, l3 + 40, l3 + 40 + usize::from(u16::from_be_bytes([l0, l1]))),
            _ => return None,
        };
        let words = addresses.iter().map(|word| u64::from_be_bytes(*word));
        let addresses = words.fold(0u64, |all, word| all.rotate_left(9) ^ word);
        Some(Look::of(addresses, u32::from_be_bytes([p0, p1, p2, p3]), protocol, piece))
    }

    #[inline(always)]
    fn of(addresses: u64, ports: u32, protocol: u8, piece: bool) -> Look {
        let flow = addresses ^ (u64::from(ports) << 17) ^ u64::from(protocol);
        // Fibonacci hashing: the highest bits of the product depend on all others.
        let hash = (flow.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        Look(hash & !(Look::KNOWN | Look::PIECE) | Look::KNOWN | u32::from(piece))
    }

    /// Its flow is known.
    #[inline]
    pub fn is_known(self) -> bool {
        self.0 & Look::KNOWN != 0
    }

    /// It may be joined.
    #[inline]
    pub fn is_piece(self) -> bool {
        self.0 & Look::PIECE != 0
    }

    /// The slot of its flow, below 2 to the `bits`.
    #[inline]
    pub fn slot(self, bits: u32) -> usize {
        (self.0 >> (32 - bits)) as usize
    }
}

/// Where in [`TxFrame::rest`] the network header begins, and its type. Only of what may be joined: not of a copy, and with
/// one tag at most.
#[inline(always)]
fn link(frame: &TxFrame<'_>) -> Option<(usize, u16)> {
    // The head holds the addresses and perhaps a tag, or nothing; behind it comes a type.
    let at = match frame.head.len() {
        0 => ADDRESSES,
        12 | 16 => 0,
        _ => return None,
    };
    let ethertype = u16_at(frame.rest, at)?;
    match ethertype {
        _ if frame.copy => None,
        TPID_C | TPID_S if frame.head.len() <= ADDRESSES => Some((at + 2 + TAG, u16_at(frame.rest, at + TAG)?)),
        _ => Some((at + 2, ethertype)),
    }
}

/// The TCP segment from `l4` to `end` has data and is of the kind that is joined: an answer in a connection that is not about
/// to change.
#[inline(always)]
fn has_data(rest: &[u8], l4: usize, end: usize) -> bool {
    let Some([offset, flags]) = array_at(rest, l4 + 12) else { return false };
    let header = usize::from(offset >> 4) * 4;
    offset & 0x0f == 0 && header >= 20 && flags & !(PSH | FIN) == ACK && l4 + header < end
}

/// A frame that may be joined. Offsets count from the begin of [`TxFrame::rest`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    /// Where the IP header begins.
    pub l3: u16,
    /// Where the transport header begins.
    pub l4: u16,
    /// Where the payload begins.
    pub payload: u16,
    /// Octets of the payload; not 0.
    pub len: u16,
    /// Payload octets of each segment but the last.
    pub unit: u16,
    /// Segments: 1, or those of a super-frame.
    pub segments: u16,
    /// IPv4 identification.
    pub id: u16,
    /// The identification means nothing: IPv6, or an IPv4 packet that must not be fragmented.
    pub atomic: bool,
    /// IPv6, else IPv4.
    pub v6: bool,
    /// TCP, else UDP.
    pub tcp: bool,
    /// FIN or PSH is set: it must be the last.
    pub ends: bool,
    /// TCP sequence number.
    pub sequence: u32,
}

impl Piece {
    /// Reads a frame whose [`Look::is_piece`] is true, in place: a piece that is made elsewhere and moved would be read
    /// before it is written back. `None` when it can't be joined, or not to a device with `offloads`.
    #[inline(always)]
    pub fn read(&mut self, offloads: &Offloads, frame: &TxFrame<'_>) -> Option<()> {
        let rest = frame.rest;
        let (l3, ethertype) = link(frame)?;
        let ip: [u8; 20] = array_at(rest, l3)?;
        let [_, _, t0, t1, i0, i1, next, _, _, protocol, ..] = ip;
        let v6 = ethertype == IPV6;
        let (l4, end, protocol, atomic) = match v6 {
            false => (l3 + 20, l3 + usize::from(u16::from_be_bytes([t0, t1])), protocol, next & 0x40 != 0),
            true => (l3 + 40, l3 + 40 + usize::from(u16::from_be_bytes([i0, i1])), next, true),
        };
        let tcp = protocol == TCP;
        let (header, flags, sequence) = match tcp {
            false => (8, 0, 0),
            true => {
                let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] = array_at::<20>(rest, l4)?;
                (usize::from(offset >> 4) * 4, flags, u32::from_be_bytes([s0, s1, s2, s3]))
            }
        };
        let whole = tcp || l4 + usize::from(u16_at(rest, l4 + 4)?) == end;
        let payload = l4 + header;
        let taken = match (tcp, v6) {
            (true, false) => offloads.tso4,
            (true, true) => offloads.tso6,
            (false, _) => offloads.uso,
        };
        if !(whole && taken && end <= rest.len() && payload < end) {
            return None;
        }
        self.l3 = l3 as u16;
        self.l4 = l4 as u16;
        self.payload = payload as u16;
        self.len = u16::try_from(end - payload).ok()?;
        (self.unit, self.segments) = (self.len, 1);
        self.id = u16::from_be_bytes([i0, i1]);
        self.atomic = atomic;
        self.v6 = v6;
        self.tcp = tcp;
        self.ends = flags & (PSH | FIN) != 0;
        self.sequence = sequence;
        if frame.vnet != VnetHdr::PLAIN {
            (self.unit, self.segments) = self.described(frame)?;
        }
        Some(())
    }

    /// Holds the virtio header against the frame, and gives what it says of segments: the octets of each, and how many.
    fn described(&self, frame: &TxFrame<'_>) -> Option<(u16, u16)> {
        let vnet = &frame.vnet;
        let l4 = frame.head.len() + usize::from(self.l4);
        let places = usize::from(vnet.csum_start) == l4 && usize::from(vnet.csum_offset) == self.checksum_offset();
        let gso = match (self.tcp, self.v6) {
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        };
        match vnet.gso_type {
            _ if vnet.flags != NEEDS_CSUM || !places => None,
            GSO_NONE => Some((self.len, 1)),
            said if said == gso && vnet.gso_size > 0 => {
                Some((vnet.gso_size.min(self.len), self.len.div_ceil(vnet.gso_size)))
            }
            _ => None,
        }
    }

    /// Where in the transport header the checksum is.
    pub fn checksum_offset(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    /// Octets of the IP and the transport header.
    pub fn header_octets(&self) -> u32 {
        u32::from(self.payload - self.l3)
    }

    /// Another may follow in a super-frame of segments of `unit` octets: this one ends with a full segment. TCP segments
    /// that are smaller than we would believe of others are not made.
    pub fn may_go_on(&self, unit: u16) -> bool {
        let full = self.len.checked_rem(unit) == Some(0);
        full && !self.ends && (!self.tcp || unit >= GSO_SIZE_MIN)
    }

    /// The headers are of the same kinds and lengths.
    #[inline]
    pub fn same_places(&self, other: &Piece) -> bool {
        (self.l3, self.payload, self.v6, self.tcp) == (other.l3, other.payload, other.v6, other.tcp)
    }

    /// The headers of two frames of which [`Piece::same_places`] is true are equal but for lengths, identification,
    /// checksums, sequence number and flags.
    #[inline]
    pub fn same_headers(&self, one: &TxFrame<'_>, other: &TxFrame<'_>) -> bool {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        let network = match self.v6 {
            // Length and identification; header checksum.
            false => same(one, other, l3, &[0xffff_0000_0000_ffff, 0xffff_ffff_0000_ffff, u64::MAX]),
            // Payload length.
            true => {
                same(one, other, l3, &[0xffff_0000_ffff_ffff, u64::MAX, u64::MAX])
                    && same(one, other, l3 + 20, &[u64::MAX; 3])
            }
        };
        // Sequence number, flags; checksum. Between them are the ports, the acknowledgment and the window.
        let transport = !self.tcp
            || (same(one, other, l4, &[0x0000_0000_ffff_ffff, 0xffff_00ff_ffff_ffff])
                && same(one, other, l4 + 12, &[0xffff_0000_ffff_00ff])
                && part(one, l4 + 20, self.payload) == part(other, l4 + 20, self.payload));
        network && transport && part(one, 0, self.l3) == part(other, 0, self.l3) && one.head == other.head
    }

    /// The sum of the pseudo-header of a packet with `length` octets of transport header and payload.
    pub fn pseudo_sum(&self, frame: &TxFrame<'_>, length: u16) -> Option<u64> {
        let l3 = usize::from(self.l3);
        let addresses = match self.v6 {
            false => sum_words(&array_at::<8>(frame.rest, l3 + 12)?),
            true => sum_words(&array_at::<32>(frame.rest, l3 + 8)?),
        };
        Some(addresses + pseudo_sum(&[], if self.tcp { TCP } else { UDP }, length))
    }

    /// The payload of a frame with headers in the same places, without the padding behind its packet.
    pub fn payload_of<'a>(&self, frame: &TxFrame<'a>) -> Option<&'a [u8]> {
        let l3 = usize::from(self.l3);
        let total = match self.v6 {
            false => usize::from(u16_at(frame.rest, l3 + 2)?),
            true => 40 + usize::from(u16_at(frame.rest, l3 + 4)?),
        };
        frame.rest.get(usize::from(self.payload)..l3 + total)
    }

    /// The checksums are those that cutting would give it.
    pub fn is_valid(&self, mode: Mode, frame: &TxFrame<'_>) -> bool {
        self.has_checksums(mode, frame).unwrap_or(false)
    }

    fn has_checksums(&self, mode: Mode, frame: &TxFrame<'_>) -> Option<bool> {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        // All ones and zero are the same number, but only zero is ever made for an IPv4 header or for TCP.
        let made = |at: usize| Some(u16_at(frame.rest, at)? != 0xffff);
        let network = self.v6 || (fold(sum_words(&array_at::<20>(frame.rest, l3)?)) == 0xffff && made(l3 + 10)?);
        if !network {
            return Some(false);
        }
        let length = u16::try_from(usize::from(self.payload) - l4 + usize::from(self.len)).ok()?;
        let pseudo = self.pseudo_sum(frame, length)?;
        let place = l4 + self.checksum_offset();
        let stored = u16_at(frame.rest, place)?;
        if frame.vnet.needs_csum() {
            // Here, too, zero and all ones are the same.
            return Some(stored % 0xffff == fold(pseudo) % 0xffff);
        }
        if stored == 0 && !self.tcp {
            return Some(mode == Mode::Lenient && !self.v6);
        }
        let segment = frame.rest.get(l4..l4 + usize::from(length))?;
        Some(fold(pseudo + sum(segment)) == 0xffff && (!self.tcp || made(place)?))
    }
}

/// The words of two frames at `at` are equal where `masks` have ones; the first octet is the lowest.
#[inline(always)]
fn same<const N: usize>(one: &TxFrame<'_>, other: &TxFrame<'_>, at: usize, masks: &[u64; N]) -> bool {
    let words = |frame: &TxFrame<'_>| frame.rest.get(at..)?.as_chunks::<8>().0.first_chunk::<N>().copied();
    let (Some(one), Some(other)) = (words(one), words(other)) else { return false };
    let differ = |((one, other), mask): ((&[u8; 8], &[u8; 8]), &u64)| {
        (u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other)) & mask
    };
    one.iter().zip(&other).zip(masks).map(differ).fold(0, |all, bits| all | bits) == 0
}

/// The octets of a frame behind its head, from one offset to another.
fn part<'a>(frame: &TxFrame<'a>, from: usize, to: u16) -> Option<&'a [u8]> {
    frame.rest.get(from..to.into())
}

/// As [`sum`], of a known and even number of words.
#[inline(always)]
fn sum_words<const N: usize>(octets: &[u8; N]) -> u64 {
    octets.as_chunks::<4>().0.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
}
