//! What a frame brings to a super-frame: where its headers are, and the numbers that must fit.

use super::Mode;
use crate::frame::TxFrame;
use crate::frame::vnet::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use crate::offload::{GSO_SIZE_MIN, fold, pseudo_sum, sum};
use crate::port::Offloads;
use crate::wire::ethernet::{ADDRESSES, IPV4, IPV6, TAG, TPID_C, TPID_S};
use crate::wire::transport::{FIN, TCP, UDP};
use crate::wire::{array_at, u16_at, u32_at};

const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Server and client of DHCP over IPv4 (RFC 2131, 4.1).
const DHCP: [u16; 2] = [67, 68];

/// What a first look at a frame tells.
pub(super) enum Look {
    /// It may be joined; and its flow.
    Piece(Piece, usize),
    /// It can't, and has this flow.
    Flow(usize),
    /// It can't, and which flows it concerns is not known.
    Other,
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

/// One look at a frame.
#[inline]
pub(super) fn look(mode: Mode, offloads: &Offloads, frame: &TxFrame<'_>) -> Look {
    let rest = frame.rest;
    // The head holds the addresses and perhaps a tag, or nothing; behind it comes a type.
    let at = match frame.head.len() {
        0 => ADDRESSES,
        ADDRESSES => 0,
        tagged if tagged == ADDRESSES + TAG => 0,
        _ => return Look::Other,
    };
    let (mut l3, mut ethertype) = (at + 2, u16_at(rest, at));
    // One tag at most, be it in the head or behind it.
    if let Some(TPID_C | TPID_S) = ethertype
        && frame.head.len() <= ADDRESSES
    {
        ethertype = u16_at(rest, at + TAG);
        l3 += TAG;
    }
    if frame.copy {
        return Look::Other;
    }
    let found = match ethertype {
        Some(IPV4) => ipv4(mode, frame, l3),
        Some(IPV6) => ipv6(frame, l3),
        _ => None,
    };
    let Some((piece, flow)) = found else { return Look::Other };
    let taken = match (piece.tcp, piece.v6) {
        (true, false) => offloads.tso4,
        (true, true) => offloads.tso6,
        (false, _) => offloads.uso,
    };
    // Fibonacci hashing: the highest bits of the product depend on all others.
    let slot = (flow.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize;
    if piece.len > 0 && taken { Look::Piece(piece, slot) } else { Look::Flow(slot) }
}

/// A piece without payload is one that can't be joined.
#[inline]
fn ipv4(mode: Mode, frame: &TxFrame<'_>, l3: usize) -> Option<(Piece, u64)> {
    let ip: [u8; 24] = array_at(frame.rest, l3)?;
    let [version, _, t0, t1, i0, i1, f0, f1, _, protocol, _, _, addresses @ ..] = ip;
    let [a, b, c, d, e, f, g, h, p0, p1, p2, p3] = addresses;
    // Fragments, and packets with options, have their ports elsewhere or nowhere.
    if version != 0x45 || f0 & 0x3f != 0 || f1 != 0 || (protocol != TCP && protocol != UDP) {
        return None;
    }
    let ports = u32::from_be_bytes([p0, p1, p2, p3]);
    let flow = u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ (u64::from(ports) << 17) ^ u64::from(protocol);
    let total = usize::from(u16::from_be_bytes([t0, t1]));
    let mut piece = Piece {
        l3: l3 as u16,
        l4: l3 as u16 + 20,
        id: u16::from_be_bytes([i0, i1]),
        atomic: f0 & 0x40 != 0,
        tcp: protocol == TCP,
        ..Piece::default()
    };
    let bootstrap = protocol == UDP && DHCP.contains(&u16::from_be_bytes([p2, p3]));
    if !bootstrap && transport(mode, frame, total, &mut piece).is_none() {
        piece.len = 0;
    }
    Some((piece, flow))
}

/// As [`ipv4`]. A packet with extension headers is no piece, and its flow is not known.
#[inline(never)]
fn ipv6(frame: &TxFrame<'_>, l3: usize) -> Option<(Piece, u64)> {
    let ip: [u8; 44] = array_at(frame.rest, l3)?;
    let [version, _, _, _, l0, l1, protocol, _, behind @ ..] = ip;
    if version >> 4 != 6 || (protocol != TCP && protocol != UDP) {
        return None;
    }
    let (words, ports) = behind.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_be_bytes(*word)).fold(0u64, |all, word| all.rotate_left(9) ^ word);
    let flow = words ^ (u64::from(u32_at(ports, 0)?) << 17) ^ u64::from(protocol);
    let mut piece =
        Piece { l3: l3 as u16, l4: l3 as u16 + 40, atomic: true, v6: true, tcp: protocol == TCP, ..Piece::default() };
    // UDP over IPv6 must have a checksum (RFC 8200, 8.1), whatever the mode.
    let total = 40 + usize::from(u16::from_be_bytes([l0, l1]));
    if transport(Mode::Exact, frame, total, &mut piece).is_none() {
        piece.len = 0;
    }
    Some((piece, flow))
}

/// Fills in what the transport header says. `total` are the octets of the IP packet. `None` when the frame can't be joined.
#[inline]
fn transport(mode: Mode, frame: &TxFrame<'_>, total: usize, piece: &mut Piece) -> Option<()> {
    let rest = frame.rest;
    let (l3, l4) = (usize::from(piece.l3), usize::from(piece.l4));
    let end = l3 + total;
    let header = match piece.tcp {
        false => {
            let [_, _, _, _, l0, l1, c0, c1] = array_at(rest, l4)?;
            let whole = l4 + usize::from(u16::from_be_bytes([l0, l1])) == end;
            let summed = [c0, c1] != [0, 0] || mode == Mode::Lenient || frame.vnet.needs_csum();
            (whole && summed).then_some(8)?
        }
        true => {
            let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] = array_at::<20>(rest, l4)?;
            // Segments of one kind only: an answer with data, of a connection that is not about to change.
            if offset & 0x0f != 0 || offset < 0x50 || flags & !(PSH | FIN) != ACK {
                return None;
            }
            piece.sequence = u32::from_be_bytes([s0, s1, s2, s3]);
            piece.ends = flags & (PSH | FIN) != 0;
            usize::from(offset >> 4) * 4
        }
    };
    let payload = l4 + header;
    if end > rest.len() || payload >= end {
        return None;
    }
    piece.payload = payload as u16;
    piece.len = u16::try_from(end - payload).ok()?;
    describe(frame, piece)
}

/// Holds the virtio header against the frame, and fills in what it says of segments.
#[inline]
fn describe(frame: &TxFrame<'_>, piece: &mut Piece) -> Option<()> {
    let vnet = &frame.vnet;
    (piece.unit, piece.segments) = (piece.len, 1);
    if *vnet == VnetHdr::PLAIN {
        return Some(());
    }
    let l4 = frame.head.len() + usize::from(piece.l4);
    let places = usize::from(vnet.csum_start) == l4 && usize::from(vnet.csum_offset) == piece.checksum_offset();
    if vnet.flags != NEEDS_CSUM || !places {
        return None;
    }
    let gso = match (piece.tcp, piece.v6) {
        (true, false) => GSO_TCPV4,
        (true, true) => GSO_TCPV6,
        (false, _) => GSO_UDP_L4,
    };
    match vnet.gso_type {
        GSO_NONE => {}
        said if said == gso && vnet.gso_size > 0 => {
            if piece.len > vnet.gso_size {
                piece.unit = vnet.gso_size;
                piece.segments = piece.len.div_ceil(vnet.gso_size);
            }
        }
        _ => return None,
    }
    Some(())
}

impl Piece {
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
        let (l3, l4, payload) = (usize::from(self.l3), usize::from(self.l4), usize::from(self.payload));
        let equal = |from: usize, to: usize| match (one.rest.get(from..to), other.rest.get(from..to)) {
            (Some(one), Some(other)) => one == other,
            _ => false,
        };
        // Type of service; fragment word, lifetime and protocol; addresses and ports. Or class and flow label; next
        // header, hop limit, addresses and ports.
        let network = match self.v6 {
            false => equal(l3 + 1, l3 + 2) && equal(l3 + 6, l3 + 10) && equal(l3 + 12, l4 + 4),
            true => equal(l3, l3 + 4) && equal(l3 + 6, l4 + 4),
        };
        // Acknowledgment and header length; window; urgent pointer and options.
        network
            && (!self.tcp || (equal(l4 + 8, l4 + 13) && equal(l4 + 14, l4 + 16) && equal(l4 + 18, payload)))
            && equal(0, l3)
            && one.head == other.head
    }

    /// The sum of the pseudo-header of a packet with `length` octets of transport header and payload.
    pub fn pseudo_sum(&self, frame: &TxFrame<'_>, length: u16) -> Option<u64> {
        let (l3, l4) = (usize::from(self.l3), usize::from(self.l4));
        let addresses = frame.rest.get(if self.v6 { l3 + 8 } else { l3 + 12 }..l4)?;
        Some(pseudo_sum(addresses, if self.tcp { TCP } else { UDP }, length))
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
        let network = self.v6 || (fold(sum(frame.rest.get(l3..l4)?)) == 0xffff && made(l3 + 10)?);
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
