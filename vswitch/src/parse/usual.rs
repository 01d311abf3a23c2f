//! The usual frame: untagged or with one tag, IPv4 without options and whole, TCP or UDP, with nothing for its device to do.
//!
//! Its headers are where they always are, so they are read as one fixed view, held against the frame's length with a few
//! conditions that are always true, and the key is made of whole words: octets that are stored one by one and soon read as
//! words stall the processor. What does not fit is no error here; it is left to the parser of every frame, which must say
//! the same of a frame that fits (property test).

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Parsed;
use crate::flow::key::{FlowKey, shape};
use crate::frame::vnet::VnetHdr;
use crate::port::PortId;
use crate::wire::ethernet::{ADDRESSES, IPV4, TAG, TPID_C, TPID_S};
use crate::wire::transport::{TCP, UDP};

/// Octets of an Ethernet header without tag.
const LINK: usize = ADDRESSES + 2;
/// Octets of an IPv4 header without options.
const IP: usize = 20;
/// Octets of a TCP header without options.
const TCP_LEAST: usize = 20;
const UDP_HEADER: usize = 8;
const VID: u16 = 0x0fff;
/// Where in the first eight octets of a frame the source address is.
const SOURCE: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0xff, 0xff]);

/// Addresses and type.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Link {
    /// The destination address and two octets of the source address.
    first: [u8; 8],
    /// The rest of the source address.
    second: [u8; 4],
    ethertype: U16,
}

/// A tag and the type behind it.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Tag {
    tci: U16,
    ethertype: U16,
}

/// An IPv4 header without options and the start of what is behind it.
#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Packet {
    version: u8,
    tos: u8,
    total: U16,
    identification: U16,
    fragment: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
    ports: U32,
    /// Of UDP.
    length: U16,
    udp_checksum: U16,
}

const _: () = assert!(size_of::<Packet>() == IP + UDP_HEADER);

/// A word of four octets as they lie in memory, and two numbers in host order behind them.
#[inline(always)]
fn beside(first: [u8; 4], c: u16, d: u16) -> u64 {
    let (first, c, d) = (u64::from(u32::from_ne_bytes(first)), u64::from(c), u64::from(d));
    if cfg!(target_endian = "little") { first | c << 32 | d << 48 } else { first << 32 | c << 16 | d }
}

/// Two numbers in host order, and two more whose octets are `ports` in network order.
#[inline(always)]
fn with_ports(a: u16, b: u16, ports: U32) -> u64 {
    let (a, b, ports) = (u64::from(a), u64::from(b), ports.get());
    if cfg!(target_endian = "little") {
        a | b << 16 | u64::from(ports.rotate_left(16)) << 32
    } else {
        a << 48 | b << 32 | u64::from(ports)
    }
}

/// Four octets in memory order, and zeros behind them.
#[inline(always)]
fn octets(a: u8, b: u8, c: u8, d: u8) -> u64 {
    let [a, b, c, d] = [a, b, c, d].map(u64::from);
    (a | b << 8 | c << 16 | d << 24).to_le()
}

/// The last word of a v4-mapped address.
#[inline(always)]
fn mapped(address: [u8; 4]) -> u64 {
    let address = u64::from(u32::from_ne_bytes(address));
    if cfg!(target_endian = "little") { 0xffff_0000 | address << 32 } else { 0xffff << 32 | address }
}

/// Reads the frame if it is a usual one.
#[inline(always)]
pub(super) fn read(frame: &[u8], said: &VnetHdr, port: PortId, parsed: &mut Parsed) -> Option<()> {
    let (link, behind) = Link::ref_from_prefix(frame).ok()?;
    let ethertype = link.ethertype.get();
    if ethertype == IPV4 {
        let (packet, _) = Packet::ref_from_prefix(behind).ok()?;
        return finish(frame, said, port, parsed, link, None, packet, behind);
    }
    if ethertype != TPID_C && ethertype != TPID_S {
        return None;
    }
    let (tag, behind) = Tag::ref_from_prefix(behind).ok()?;
    let tci = tag.tci.get();
    if tag.ethertype.get() != IPV4 || tci & VID == VID {
        return None;
    }
    let (packet, _) = Packet::ref_from_prefix(behind).ok()?;
    finish(frame, said, port, parsed, link, Some(tci), packet, behind)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one frame, inlined")]
#[inline(always)]
fn finish(
    frame: &[u8],
    said: &VnetHdr,
    port: PortId,
    parsed: &mut Parsed,
    link: &Link,
    tag: Option<u16>,
    packet: &Packet,
    behind: &[u8],
) -> Option<()> {
    let total = usize::from(packet.total.get());
    // The source address: of a station, and not zero.
    let [.., s0, _] = link.first;
    let first = u64::from_ne_bytes(link.first);
    let rest = u64::from(u32::from_ne_bytes(link.second));
    if s0 & 1 != 0 || (first & SOURCE) | rest == 0 {
        return None;
    }
    if packet.version != 0x45 || packet.fragment.get() & 0x3fff != 0 || total > behind.len() || !said.asks_nothing() {
        return None;
    }
    let mut tcp_flags = 0;
    match packet.protocol {
        UDP => {
            let length = usize::from(packet.length.get());
            // `length` is at least 8 and so `total` at least 28.
            if length < UDP_HEADER || length + IP > total {
                return None;
            }
        }
        TCP => {
            // The octet of the header's length and that of the flags.
            let [offset, flags]: [u8; 2] = *behind.get(IP + 12..)?.first_chunk()?;
            let header = usize::from(offset >> 4) * 4;
            if header < TCP_LEAST || header + IP > total {
                return None;
            }
            tcp_flags = flags;
        }
        _ => return None,
    }
    let tci = tag.unwrap_or(0);
    let shape = shape::IPV4 | shape::PORTS | if tag.is_some() { shape::TAGGED } else { 0 };
    parsed.key = FlowKey::from_words([
        0,
        mapped(packet.src),
        0,
        mapped(packet.dst),
        first,
        beside(link.second, port.0, tci & VID),
        with_ports(0, IPV4, packet.ports),
        octets(packet.protocol, packet.tos & !3, shape, (tci >> 13) as u8),
    ]);
    parsed.vnet = VnetHdr::PLAIN;
    parsed.segments = 1;
    parsed.octets = total as u32;
    parsed.l2_octets = frame.len() as u32;
    parsed.packet_max = total as u32;
    parsed.tags = u8::from(tag.is_some());
    parsed.tci = tci;
    parsed.tcp_flags = tcp_flags;
    parsed.bare = tag.is_none();
    Some(())
}

const _: () = assert!(LINK == size_of::<Link>() && TAG == size_of::<Tag>());
