//! One pass over a frame: what it is, where its headers are, its flow key, or why it is a lie.
//!
//! Three complications.
//! * **Lengths.** A header is read only up to the length that the header below it gave, and that length only up to the
//!   octets that are there. So padding never reaches the key, and a header that claims more is a drop, not a guess.
//! * **The device's header.** `virtio_net_hdr` is held against the frame: the checksum place must be that of the transport
//!   header that was found, the segmentation type must fit IP version and protocol, and a segment must have at least
//!   [`gso_size_min`] octets. What leaves here is a header of our own making; no octet of the guest's goes on to a
//!   neighbour, nor does its claim that a checksum was verified.
//! * **Super-frames.** They count as the segments that they will become: `segments = ceil(payload / gso_size)`, and every
//!   segment has the headers again.
//!
//! The usual frame - at most one tag, IPv4 without options and fragments, TCP or UDP, nothing said by the device - is read by
//! `usual`, which answers as the rest would, with a quarter of the instructions.
//!
//! A checksum in a tunnel inside UDP (`csum_start` behind the UDP header) is refused: its device can't be a plain NIC's.
//!
//! Pure; fuzzed by `fuzz/parse`.

mod usual;

use crate::flow::key::{FlowKey, shape};
use crate::frame::vnet::{self, VnetHdr};
use crate::offload::{UDP_SEGMENTS_MAX, gso_size_min};
use crate::port::PortId;
use crate::verdict::DropReason;
use crate::wire::arp::Arp;
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;
use crate::wire::mapped;
use crate::wire::transport::{TCP, Transport, UDP};

/// What is known of a frame after one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct Parsed {
    /// Every header field that a judge reads.
    pub key: FlowKey,
    /// The device's header, checked and made anew; offsets count from the frame as received.
    pub vnet: VnetHdr,
    /// Tag control information of the outer tag.
    pub tci: u16,
    /// Frames on the wire: 1, or the segments of a super-frame.
    pub segments: u32,
    /// IP octets of all segments, without padding; for other packets the octets of the frame.
    pub octets: u32,
    /// Octets of all segments' frames as received, without FCS.
    pub l2_octets: u32,
    /// Largest IP packet that a receiver will see, octets; 0 when the packet is not IP.
    pub packet_max: u32,
    /// VLAN tags as received, 0-2.
    pub tags: u8,
    /// TCP flags.
    pub tcp_flags: u8,
    /// Has no tag, and asks nothing of the device that sends it.
    pub bare: bool,
}

impl Parsed {
    /// Nothing; what a batch holds before it is filled.
    pub const EMPTY: Parsed = Parsed {
        key: FlowKey {
            src: [0; 16],
            dst: [0; 16],
            dst_mac: [0; 6],
            src_mac: [0; 6],
            in_port: 0,
            outer_vid: 0,
            inner_vid: 0,
            ethertype: 0,
            src_port: 0,
            dst_port: 0,
            protocol: 0,
            tos: 0,
            shape: 0,
            pcp: 0,
            reserved: [0; 4],
        },
        vnet: VnetHdr::PLAIN,
        segments: 1,
        octets: 0,
        l2_octets: 0,
        packet_max: 0,
        tags: 0,
        tci: 0,
        tcp_flags: 0,
        bare: false,
    };
}

const _: () = assert!(size_of::<Parsed>() == 96);

/// Where the layers of an IP packet are, for the check of the device's header.
struct Layers {
    /// Offset of the IP header.
    l3: usize,
    /// Octets of the IP header with options or extensions.
    l3_header: usize,
    /// Octets of the IP packet.
    total: usize,
    protocol: u8,
    transport: Option<Transport>,
    /// Headers that can be finished in software: plain Ethernet, and no extension that forbids it.
    plain: bool,
}

/// Reads `frame`, which `port` received and of which its device said `said`.
pub fn parse(frame: &[u8], said: &VnetHdr, port: PortId) -> Result<Parsed, DropReason> {
    let mut parsed = Parsed::EMPTY;
    parse_into(frame, said, port, &mut parsed).map(|()| parsed)
}

/// As [`parse`], into the place where the result is to be. After an error only `segments`, `l2_octets` and the destination
/// address mean something there: those of a frame that is counted and dropped.
#[inline(always)]
pub fn parse_into(frame: &[u8], said: &VnetHdr, port: PortId, parsed: &mut Parsed) -> Result<(), DropReason> {
    match usual::read(frame, said, port, parsed) {
        Some(()) => Ok(()),
        None => parse_any(frame, said, port, parsed),
    }
}

/// As [`parse_into`], for every frame.
#[inline(never)]
fn parse_any(frame: &[u8], said: &VnetHdr, port: PortId, parsed: &mut Parsed) -> Result<(), DropReason> {
    *parsed = Parsed::EMPTY;
    parsed.l2_octets = frame.len() as u32;
    parsed.octets = parsed.l2_octets;
    parsed.key.dst_mac = frame.first_chunk().copied().unwrap_or_default();
    let link = Ethernet::read(frame)?;
    parsed.tags = link.tags;
    parsed.tci = link.outer;
    let key = &mut parsed.key;
    key.in_port = port.0;
    key.src_mac = link.src;
    key.outer_vid = link.outer_vid();
    key.inner_vid = link.inner_vid();
    key.ethertype = link.ethertype;
    key.pcp = (link.outer >> 13) as u8;
    if link.tags > 0 {
        key.shape |= shape::TAGGED;
    }
    let packet = frame.get(link.payload..).unwrap_or_default();
    let layers = match link.ethertype {
        ethernet::IPV4 => Some(ipv4(packet, &link, parsed)?),
        ethernet::IPV6 => Some(ipv6(packet, &link, parsed)?),
        ethernet::ARP => {
            arp(&Arp::read(packet)?, key);
            None
        }
        _ => None,
    };
    if said.needs_csum() || said.is_gso() {
        offload(frame.len(), said, layers, parsed)?;
    }
    parsed.bare = parsed.tags == 0 && parsed.vnet.asks_nothing();
    Ok(())
}

#[inline(never)]
fn arp(arp: &Arp, key: &mut FlowKey) {
    key.src = mapped(arp.sender);
    key.dst = mapped(arp.target);
    key.dst_port = arp.operation;
    key.shape |= shape::ARP;
}

// Inlined with all that it calls, so that what they return stays in registers.
#[inline(always)]
fn ipv4(packet: &[u8], link: &Ethernet, parsed: &mut Parsed) -> Result<Layers, DropReason> {
    let ip = Ipv4::read(packet)?;
    parsed.key.src = mapped(ip.src);
    parsed.key.dst = mapped(ip.dst);
    parsed.key.tos = ip.tos & !3;
    parsed.key.shape |= shape::IPV4;
    let segment = packet.get(ip.header..ip.total).unwrap_or_default();
    let transport = upper(ip.protocol, false, ip.offset, ip.more, segment, parsed)?;
    Ok(layers(link, ip.header, ip.total, ip.protocol, transport, !link.snap, parsed))
}

#[inline(never)]
fn ipv6(packet: &[u8], link: &Ethernet, parsed: &mut Parsed) -> Result<Layers, DropReason> {
    let ip = Ipv6::read(packet)?;
    parsed.key.src = ip.src;
    parsed.key.dst = ip.dst;
    parsed.key.tos = ip.class & !3;
    parsed.key.shape |= shape::IPV6;
    let segment = packet.get(ip.header..ip.total).unwrap_or_default();
    let transport = upper(ip.protocol, true, ip.offset, ip.more, segment, parsed)?;
    Ok(layers(link, ip.header, ip.total, ip.protocol, transport, ip.plain && !link.snap, parsed))
}

#[inline(always)]
fn layers(
    link: &Ethernet,
    l3_header: usize,
    total: usize,
    protocol: u8,
    transport: Option<Transport>,
    plain: bool,
    parsed: &mut Parsed,
) -> Layers {
    parsed.octets = total as u32;
    parsed.packet_max = total as u32;
    Layers { l3: link.payload, l3_header, total, protocol, transport, plain }
}

/// Fills in what is behind the IP header: ports and flags, or that it is a fragment and has none.
#[inline(always)]
fn upper(
    protocol: u8,
    ipv6: bool,
    offset: u16,
    more: bool,
    segment: &[u8],
    parsed: &mut Parsed,
) -> Result<Option<Transport>, DropReason> {
    let key = &mut parsed.key;
    key.protocol = protocol;
    if offset != 0 {
        key.shape |= shape::FRAGMENT | shape::LATER_FRAGMENT;
        // RFC 3128: eight octets into TCP lie its flags.
        return if protocol == TCP && offset == 1 { Err(DropReason::FragmentOverlap) } else { Ok(None) };
    }
    if more {
        key.shape |= shape::FRAGMENT;
    }
    let transport = Transport::read(protocol, ipv6, more, segment)?;
    if let Some(t) = &transport {
        key.shape |= shape::PORTS;
        key.src_port = t.src_port;
        key.dst_port = t.dst_port;
        parsed.tcp_flags = t.flags;
    }
    Ok(transport)
}

/// Holds the device's header against the frame, makes the clean one, and counts segments.
#[inline(never)]
fn offload(length: usize, said: &VnetHdr, layers: Option<Layers>, parsed: &mut Parsed) -> Result<(), DropReason> {
    let lie = DropReason::OffloadInvalid;
    let layers = layers.ok_or(lie)?;
    let transport = layers.transport.ok_or(lie)?;
    if parsed.key.is(shape::FRAGMENT) || !layers.plain {
        return Err(lie);
    }
    let l4 = layers.l3 + layers.l3_header;
    let checksum = transport.checksum.ok_or(lie)?;
    if said.needs_csum() {
        if usize::from(said.csum_start) != l4 || said.csum_offset != checksum {
            return Err(lie);
        }
        parsed.vnet.flags = vnet::NEEDS_CSUM;
        parsed.vnet.csum_start = said.csum_start;
        parsed.vnet.csum_offset = checksum;
    }
    if !said.is_gso() {
        return Ok(());
    }
    if !said.needs_csum() {
        // Every segment needs a checksum of its own (virtio 1.2, 5.1.6.2.1).
        return Err(lie);
    }
    let fits = match (said.gso_type & !vnet::GSO_ECN, said.gso_type & vnet::GSO_ECN) {
        (vnet::GSO_TCPV4, _) => parsed.key.is(shape::IPV4) && layers.protocol == TCP,
        (vnet::GSO_TCPV6, _) => parsed.key.is(shape::IPV6) && layers.protocol == TCP,
        (vnet::GSO_UDP_L4, 0) => layers.protocol == UDP,
        _ => false,
    };
    // A super-frame has no padding: what is behind its packet would end up in no segment.
    if !fits || said.gso_size < gso_size_min(layers.protocol) || length != layers.l3 + layers.total {
        return Err(lie);
    }
    let headers = l4 + transport.header;
    let payload = (length - headers) as u32;
    let segments = payload.div_ceil(said.gso_size.into()).max(1);
    if layers.protocol == UDP && segments as usize > UDP_SEGMENTS_MAX {
        return Err(lie);
    }
    let ip_headers = (layers.l3_header + transport.header) as u32;
    parsed.vnet.gso_type = said.gso_type;
    parsed.vnet.gso_size = said.gso_size;
    parsed.vnet.hdr_len = headers as u16;
    parsed.segments = segments;
    parsed.octets = payload + segments * ip_headers;
    parsed.l2_octets = payload + segments * headers as u32;
    parsed.packet_max = ip_headers + payload.min(said.gso_size.into());
    Ok(())
}

#[cfg(test)]
mod tests;
