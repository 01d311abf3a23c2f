//! Frames made by hand: what no kernel would send.

use std::net::Ipv4Addr;

use crate::error::{Error, Result};

/// Ethernet address of all stations.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// EtherType that IEEE 802 leaves to experiments.
pub const ETHERTYPE_LOCAL: u16 = 0x88b5;
/// TCP flag: synchronise.
pub const SYN: u8 = 0x02;

/// Reads `02:00:0a:0a:00:01`.
pub fn mac(text: &str) -> Result<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|o| u8::from_str_radix(o, 16).ok()).collect();
    octets
        .and_then(|o| o.try_into().ok())
        .ok_or_else(|| Error::Unreadable { what: text.to_owned(), reason: "not a MAC address".to_owned() })
}

/// An Ethernet frame, padded to 60 octets; `tags` are VLAN ids, the outer one first.
pub fn ethernet(dst: [u8; 6], src: [u8; 6], tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [dst, src].concat();
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// VLAN ids of a frame's tags, its EtherType behind them and the rest.
pub fn untag(frame: &[u8]) -> Option<(Vec<u16>, u16, &[u8])> {
    let mut tags = Vec::new();
    let mut rest = frame.get(12..)?;
    loop {
        let (kind, behind) = rest.split_first_chunk::<2>()?;
        let kind = u16::from_be_bytes(*kind);
        if kind != 0x8100 && kind != 0x88a8 {
            return Some((tags, kind, behind));
        }
        let (tci, behind) = behind.split_first_chunk::<2>()?;
        tags.push(u16::from_be_bytes(*tci) & 0x0fff);
        rest = behind;
    }
}

/// The Internet checksum of `parts`, each of which but the last has an even length (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet around `payload`.
pub fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    let sum = checksum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    header.extend(payload);
    header
}

fn pseudo(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = [src.octets(), dst.octets()].concat();
    header.extend([0, protocol]);
    header.extend((length as u16).to_be_bytes());
    header
}

/// A UDP datagram in an IPv4 packet.
pub fn udp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let sum = checksum(&[&pseudo(src.0, dst.0, 17, datagram.len()), &datagram]);
    // A sum of zero is sent as its other form (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv4(src.0, dst.0, 17, &datagram)
}

/// A TCP segment without payload in an IPv4 packet.
pub fn tcp(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo(src.0, dst.0, 6, segment.len()), &segment]).to_be_bytes();
    segment[16..18].copy_from_slice(&sum);
    ipv4(src.0, dst.0, 6, &segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn checksums_check() {
        let packet = udp((A, 1000), (B, 2000), b"odd");
        assert_eq!(checksum(&[&packet[..20]]), 0);
        assert_eq!(checksum(&[&pseudo(A, B, 17, 11), &packet[20..]]), 0);
        let packet = tcp((A, 1000), (B, 80), SYN);
        assert_eq!(checksum(&[&pseudo(A, B, 6, 20), &packet[20..]]), 0);
    }

    #[test]
    fn tags_go_on_and_come_off() {
        let frame = ethernet(BROADCAST, [2, 0, 0, 0, 0, 1], &[10, 20], ETHERTYPE_LOCAL, b"x");
        assert_eq!(frame.len(), 60);
        let (tags, kind, rest) = untag(&frame).expect("a frame");
        assert_eq!((tags, kind, rest[0]), (vec![10, 20], ETHERTYPE_LOCAL, b'x'));
        assert!(untag(&frame[..13]).is_none());
    }

    #[test]
    fn reads_addresses() {
        assert_eq!(mac("02:00:0a:0a:00:01").expect("an address"), [2, 0, 10, 10, 0, 1]);
        for bad in ["", "02:00", "02:00:0a:0a:00:01:02", "02-00-0a-0a-00-01"] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }
}
