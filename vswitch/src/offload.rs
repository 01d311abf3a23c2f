//! What a device may leave to us: completing checksums and cutting super-frames into segments.
//!
//! Pure functions on one contiguous frame, used before a frame goes to a port that lacks the offload, and for copies to a
//! mirror. They look up the headers themselves and believe nothing of the virtio header but what agrees with them: a
//! checksum is written only where TCP and UDP keep theirs (virtio 1.2, 5.1.6.2; law: never outside the transport header).
//! What disagrees is refused as [`DropReason::OffloadInvalid`].
//!
//! Taken: Ethernet with up to two VLAN tags; IPv4 with options; IPv6 with up to eight extension headers; TCP and UDP.
//! Not taken: fragments, and checksums or segments of a packet inside a tunnel.
//!
//! Segments are complete: lengths, IPv4 identification (ascending by one) and header checksum, TCP sequence numbers, FIN
//! and PSH on the last only, CWR on the first only (RFC 3168, 6.1.2), and a full transport checksum, for UDP never zero
//! (RFC 768).

use crate::frame::FRAME_MAX;
use crate::frame::vnet::{GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use crate::verdict::DropReason;
use crate::wire::ethernet::{IPV4 as ETHERTYPE_IPV4, IPV6 as ETHERTYPE_IPV6};
use crate::wire::transport::{TCP as PROTOCOL_TCP, UDP as PROTOCOL_UDP};

/// Smallest `gso_size` of TCP that is believed, octets: less only multiplies work (no TCP has a smaller segment size).
pub const GSO_SIZE_MIN: u16 = 64;

/// Most segments of a UDP super-frame, as in Linux.
pub const UDP_SEGMENTS_MAX: usize = 128;

/// Smallest `gso_size` that is believed of a transport protocol. Datagrams may be as short as their senders like, and what
/// a super-frame of them costs is bounded by [`UDP_SEGMENTS_MAX`].
pub fn gso_size_min(protocol: u8) -> u16 {
    if protocol == PROTOCOL_UDP { 1 } else { GSO_SIZE_MIN }
}

/// TCP flags, in the octet 13 of the header.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The internet checksum (RFC 1071) of some octets, as a header field would hold it.
pub fn checksum(octets: &[u8]) -> u16 {
    !fold(sum(octets))
}

/// Completes the transport checksum of a frame whose header says that this is left to us; else does nothing.
///
/// The checksum field holds the sum of the pseudo-header already. Octets behind the IP packet (padding) do not count.
///
/// # Errors
/// [`DropReason::OffloadInvalid`] when the checksum isn't where the header says. The frame is then untouched.
pub fn complete_checksum(frame: &mut [u8], vnet: &VnetHdr) -> Result<(), DropReason> {
    if !vnet.needs_csum() {
        return Ok(());
    }
    let layers = Layers::find(frame).ok_or(DropReason::OffloadInvalid)?;
    let agrees = usize::from(vnet.csum_start) == layers.l4 && usize::from(vnet.csum_offset) == layers.checksum_offset();
    let packet = frame.get_mut(layers.l4..layers.end).filter(|_| agrees).ok_or(DropReason::OffloadInvalid)?;
    let value = layers.stored(!fold(sum(packet)));
    put16(packet, layers.checksum_offset(), value).ok_or(DropReason::OffloadInvalid)
}

/// What a device that says nothing would have said of a received frame: a transport checksum that holds the sum of the
/// pseudo-header and no more is to be completed. A kernel leaves it so in frames that it sends over a virtual link.
///
/// A complete checksum has that value once in 65536 frames. Completing it again gives the same value, so nothing is lost.
pub fn detect_unfinished(frame: &[u8]) -> VnetHdr {
    let detect = || {
        let layers = Layers::find(frame)?;
        let addresses =
            frame.get(if layers.v6 { layers.l3 + 8..layers.l3 + 40 } else { layers.l3 + 12..layers.l3 + 20 })?;
        let in_order = |value: u16| u64::from(value.to_be());
        let length = u16::try_from(layers.end - layers.l4).ok()?;
        let pseudo = fold(sum(addresses) + in_order(u16::from(layers.protocol)) + in_order(length));
        let unfinished = get16(frame, layers.l4 + layers.checksum_offset())? == pseudo;
        unfinished.then_some(VnetHdr {
            flags: NEEDS_CSUM,
            csum_start: u16::try_from(layers.l4).ok()?,
            csum_offset: u16::try_from(layers.checksum_offset()).ok()?,
            ..VnetHdr::PLAIN
        })
    };
    detect().unwrap_or(VnetHdr::PLAIN)
}

/// Cuts a super-frame into complete frames of at most `gso_size` payload octets, and returns how many. `emit` gets each
/// in order, contiguous in `scratch`, which is reserved once and then reused.
///
/// # Errors
/// [`DropReason::OffloadInvalid`] when the virtio header contradicts the frame; nothing was emitted then.
pub fn segment(
    frame: &[u8],
    vnet: &VnetHdr,
    scratch: &mut Vec<u8>,
    emit: &mut dyn FnMut(&[u8]),
) -> Result<usize, DropReason> {
    let plan = Plan::make(frame, vnet).ok_or(DropReason::OffloadInvalid)?;
    scratch.clear();
    scratch.reserve(FRAME_MAX);
    for (index, payload) in plan.chunks().enumerate() {
        scratch.clear();
        scratch.extend_from_slice(plan.headers);
        scratch.extend_from_slice(payload);
        plan.finish(scratch, index, payload.len()).ok_or(DropReason::OffloadInvalid)?;
        emit(scratch);
    }
    Ok(plan.count)
}

/// How a super-frame is cut.
struct Plan<'a> {
    layers: Layers,
    /// Everything before the payload.
    headers: &'a [u8],
    payload: &'a [u8],
    size: usize,
    count: usize,
}

impl<'a> Plan<'a> {
    /// Holds the virtio header against the frame.
    fn make(frame: &'a [u8], vnet: &VnetHdr) -> Option<Plan<'a>> {
        let layers = Layers::find(frame)?;
        let wanted = match vnet.gso_type & !GSO_ECN {
            GSO_TCPV4 => (false, PROTOCOL_TCP),
            GSO_TCPV6 => (true, PROTOCOL_TCP),
            // ECN says something of TCP alone.
            GSO_UDP_L4 if vnet.gso_type & GSO_ECN == 0 => (layers.v6, PROTOCOL_UDP),
            _ => return None,
        };
        let place = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
        if wanted != (layers.v6, layers.protocol)
            || vnet.gso_size < gso_size_min(layers.protocol)
            || (vnet.needs_csum() && place != (layers.l4, layers.checksum_offset()))
        {
            return None;
        }
        let (headers, payload) = frame.get(..layers.end)?.split_at_checked(layers.payload)?;
        let size = usize::from(vnet.gso_size);
        let count = payload.len().div_ceil(size).max(1);
        let many = layers.protocol == PROTOCOL_UDP && count > UDP_SEGMENTS_MAX;
        (!many).then_some(Plan { layers, headers, payload, size, count })
    }

    /// The payloads of the segments; one that is empty if there is none.
    fn chunks(&self) -> impl Iterator<Item = &'a [u8]> {
        let empty: Option<&[u8]> = self.payload.is_empty().then_some(&[]);
        self.payload.chunks(self.size).chain(empty)
    }

    /// Makes segment `index`, which holds the headers of the whole and its own payload, say what it is.
    fn finish(&self, segment: &mut [u8], index: usize, payload: usize) -> Option<()> {
        let Layers { l3, l4, .. } = self.layers;
        let length = segment.len();
        if self.layers.v6 {
            put16(segment, l3 + 4, u16::try_from(length.checked_sub(l3 + 40)?).ok()?)?;
        } else {
            put16(segment, l3 + 2, u16::try_from(length.checked_sub(l3)?).ok()?)?;
            let identification = get16(segment, l3 + 4)?.wrapping_add(index as u16);
            put16(segment, l3 + 4, identification)?;
            put16(segment, l3 + 10, 0)?;
            let value = checksum(segment.get(l3..l4)?);
            put16(segment, l3 + 10, value)?;
        }
        if self.layers.protocol == PROTOCOL_TCP {
            let sequence = segment.get_mut(l4 + 4..)?.first_chunk_mut::<4>()?;
            let start = u32::try_from(index * self.size).ok()?;
            *sequence = u32::from_be_bytes(*sequence).wrapping_add(start).to_be_bytes();
            let flags = segment.get_mut(l4 + 13)?;
            if index > 0 {
                *flags &= !CWR;
            }
            if index + 1 < self.count {
                *flags &= !(FIN | PSH);
            }
        } else {
            put16(segment, l4 + 4, u16::try_from(payload + 8).ok()?)?;
        }
        put16(segment, l4 + self.layers.checksum_offset(), 0)?;
        let addresses = if self.layers.v6 { l3 + 8..l3 + 40 } else { l3 + 12..l3 + 20 };
        let l4_length = u16::try_from(length.checked_sub(l4)?).ok()?;
        let total = pseudo_sum(segment.get(addresses)?, self.layers.protocol, l4_length) + sum(segment.get(l4..)?);
        put16(segment, l4 + self.layers.checksum_offset(), self.layers.stored(!fold(total)))
    }
}

/// Where the headers of a frame are, as offsets from its begin. `end` is that of the IP packet.
#[derive(Clone, Copy, Debug)]
struct Layers {
    v6: bool,
    l3: usize,
    protocol: u8,
    l4: usize,
    payload: usize,
    end: usize,
}

impl Layers {
    /// Finds TCP or UDP in an unfragmented IP packet whose lengths agree.
    fn find(frame: &[u8]) -> Option<Layers> {
        let mut l3 = 14;
        let mut ethertype = get16(frame, 12)?;
        for _ in 0..2 {
            if !matches!(ethertype, 0x8100 | 0x88a8) {
                break;
            }
            ethertype = get16(frame, l3 + 2)?;
            l3 += 4;
        }
        let (v6, protocol, l4, end) = match ethertype {
            ETHERTYPE_IPV4 => {
                let first = *frame.get(l3)?;
                let header = usize::from(first & 15) * 4;
                let length = usize::from(get16(frame, l3 + 2)?);
                // More fragments, or an offset: bits 13 and 12..0.
                let fragment = get16(frame, l3 + 6)? & 0x3fff != 0;
                if first >> 4 != 4 || header < 20 || fragment {
                    return None;
                }
                (false, *frame.get(l3 + 9)?, l3 + header, l3 + length)
            }
            ETHERTYPE_IPV6 => {
                if frame.get(l3)? >> 4 != 6 {
                    return None;
                }
                let end = l3 + 40 + usize::from(get16(frame, l3 + 4)?);
                let (protocol, l4) = skip_extensions(frame, *frame.get(l3 + 6)?, l3 + 40)?;
                (true, protocol, l4, end)
            }
            _ => return None,
        };
        let header = match protocol {
            PROTOCOL_TCP => usize::from(frame.get(l4 + 12)? >> 4) * 4,
            PROTOCOL_UDP => 8,
            _ => return None,
        };
        let payload = l4 + header;
        let least = if protocol == PROTOCOL_TCP { 20 } else { 8 };
        (header >= least && payload <= end && end <= frame.len()).then_some(Layers {
            v6,
            l3,
            protocol,
            l4,
            payload,
            end,
        })
    }

    /// Of the checksum in the transport header.
    fn checksum_offset(&self) -> usize {
        if self.protocol == PROTOCOL_TCP { 16 } else { 6 }
    }

    /// A computed checksum as the header holds it: zero means none in UDP (RFC 768).
    fn stored(&self, value: u16) -> u16 {
        if value == 0 && self.protocol == PROTOCOL_UDP { 0xffff } else { value }
    }
}

/// Steps over hop-by-hop options (0), routing (43) and destination options (60), at most eight (RFC 8200, 4).
fn skip_extensions(frame: &[u8], mut next: u8, mut at: usize) -> Option<(u8, usize)> {
    for _ in 0..8 {
        if !matches!(next, 0 | 43 | 60) {
            break;
        }
        next = *frame.get(at)?;
        at += (usize::from(*frame.get(at + 1)?) + 1) * 8;
    }
    Some((next, at))
}

fn get16(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|pair| u16::from_be_bytes(*pair))
}

/// Writes a number at `at` in network order.
pub(crate) fn put16(octets: &mut [u8], at: usize, value: u16) -> Option<()> {
    *octets.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

/// Sum of the pseudo-header (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1), as [`sum`] counts. `addresses` are source and
/// destination; `length` is that of the transport header and what is behind it.
pub(crate) fn pseudo_sum(addresses: &[u8], protocol: u8, length: u16) -> u64 {
    sum(addresses) + u64::from(u16::from(protocol).to_be()) + u64::from(length.to_be())
}

/// Sum of 16-bit words in the order of this machine (RFC 1071, 2 (B): the order doesn't matter until the end), 8 octets at
/// a time. Can't overflow: 64 KiB are 2^13 steps of at most 2^33.
pub(crate) fn sum(octets: &[u8]) -> u64 {
    let halves = |word: u64| (word & 0xffff_ffff) + (word >> 32);
    let (chunks, tail) = octets.as_chunks::<8>();
    let (groups, rest) = chunks.as_chunks::<4>();
    let mut lanes = [0u64; 4];
    for group in groups {
        for (lane, chunk) in lanes.iter_mut().zip(group) {
            *lane += halves(u64::from_ne_bytes(*chunk));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    for chunk in rest {
        total += halves(u64::from_ne_bytes(*chunk));
    }
    let mut last = [0; 8];
    for (place, octet) in last.iter_mut().zip(tail) {
        *place = *octet;
    }
    total + halves(u64::from_ne_bytes(last))
}

/// A sum as 16 bits with the carries added back, in network order as a number.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::from_be(sum as u16)
}

#[cfg(test)]
mod tests;
