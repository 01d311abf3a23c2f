//! The packet in an inner frame: whether it is whole, its checksums, and to which conversation it belongs.

use std::net::IpAddr;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// Both ends of a conversation, in an order that does not depend on who speaks.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Conversation {
    protocol: u8,
    ends: [(IpAddr, u16); 2],
}

/// What matters of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// A header's or the transport's checksum is wrong.
    pub bad_checksum: bool,
    /// Of TCP and UDP: the conversation, and 0 or 1 for the way.
    pub conversation: Option<(Conversation, usize)>,
    /// Sequence number of a TCP segment that has payload.
    pub tcp_payload: Option<u32>,
}

/// The Internet checksum (RFC 1071) over `parts` as one, a word of ones where it is right.
fn sum(parts: &[&[u8]]) -> u16 {
    let octets: Vec<u8> = parts.concat();
    let words = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn be16(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

impl Packet {
    /// Reads a packet; `None` when it is neither IPv4 nor IPv6. Behind IPv6 extension headers nothing is looked at.
    ///
    /// # Errors
    /// It ends before its headers say so.
    pub fn read(ethertype: u16, payload: &[u8]) -> Result<Option<Packet>, &'static str> {
        match ethertype {
            0x0800 => ipv4(payload).map(Some),
            0x86dd => ipv6(payload).map(Some),
            _ => Ok(None),
        }
    }
}

const CUT: &str = "packet is longer than its frame: it was cut";

fn ipv4(packet: &[u8]) -> Result<Packet, &'static str> {
    let header = usize::from(packet.first().ok_or(CUT)? & 15) * 4;
    if header < 20 || packet.len() < header {
        return Err(CUT);
    }
    let total = usize::from(be16(packet, 2));
    if total < header || total > packet.len() {
        // A length of zero is how a super-frame looks that nobody has cut.
        return Err(CUT);
    }
    let bad_header = sum(&[&packet[..header]]) != 0xffff;
    let addresses = (packet[12..16].to_vec(), packet[16..20].to_vec());
    let ends: [IpAddr; 2] =
        [12, 16].map(|at| IpAddr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]));
    if be16(packet, 6) & 0x3fff != 0 {
        return Ok(Packet { bad_checksum: bad_header, conversation: None, tcp_payload: None });
    }
    let mut read = transport(packet[9], [&addresses.0, &addresses.1], ends, &packet[header..total])?;
    read.bad_checksum |= bad_header;
    Ok(read)
}

fn ipv6(packet: &[u8]) -> Result<Packet, &'static str> {
    if packet.len() < 40 || usize::from(be16(packet, 4)) > packet.len() - 40 {
        return Err(CUT);
    }
    let addresses = [&packet[8..24], &packet[24..40]];
    let ends = addresses.map(|octets| IpAddr::from(<[u8; 16]>::try_from(octets).unwrap_or_default()));
    transport(packet[6], addresses, ends, &packet[40..40 + usize::from(be16(packet, 4))])
}

fn transport(protocol: u8, addresses: [&[u8]; 2], ends: [IpAddr; 2], segment: &[u8]) -> Result<Packet, &'static str> {
    let none = Packet { bad_checksum: false, conversation: None, tcp_payload: None };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        ICMP if ends[0].is_ipv4() => return Ok(Packet { bad_checksum: sum(&[segment]) != 0xffff, ..none }),
        _ => return Ok(none),
    };
    if segment.len() < least {
        return Err(CUT);
    }
    let length = (segment.len() as u32).to_be_bytes();
    let pseudo = sum(&[addresses[0], addresses[1], &length, &[0, 0, 0, protocol], segment]);
    let is_unsummed = protocol == UDP && be16(segment, 6) == 0;
    let [from, to] = [(ends[0], be16(segment, 0)), (ends[1], be16(segment, 2))];
    let way = usize::from(from > to);
    let conversation = Conversation { protocol, ends: if way == 0 { [from, to] } else { [to, from] } };
    let tcp_payload = (protocol == TCP && segment.len() > usize::from(segment[12] >> 4) * 4)
        .then(|| u32::from(be16(segment, 4)) << 16 | u32::from(be16(segment, 6)));
    Ok(Packet { bad_checksum: pseudo != 0xffff && !is_unsummed, conversation: Some((conversation, way)), tcp_payload })
}
