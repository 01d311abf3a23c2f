//! Frames made by hand, octet by octet, so that no code under test makes its own input.

use proto::addr::MacAddr;
use vswitch::frame::vnet::{self, VnetHdr};

/// Addresses, tags (TPID and TCI), EtherType, payload.
pub fn ethernet(dst: MacAddr, src: MacAddr, tags: &[(u16, u16)], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [dst.0, src.0].concat();
    for (tpid, tci) in tags {
        frame.extend_from_slice(&tpid.to_be_bytes());
        frame.extend_from_slice(&tci.to_be_bytes());
    }
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

pub fn checksum(octets: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// An IPv4 packet; `fragment` is the flags-and-offset field.
pub fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, tos: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len()) as u16;
    let mut p = vec![0x45, tos];
    p.extend_from_slice(&total.to_be_bytes());
    p.extend_from_slice(&[0, 1]);
    p.extend_from_slice(&fragment.to_be_bytes());
    p.extend_from_slice(&[64, protocol, 0, 0]);
    p.extend_from_slice(&src);
    p.extend_from_slice(&dst);
    let sum = checksum(&p, 0).to_be_bytes();
    p[10..12].copy_from_slice(&sum);
    p.extend_from_slice(payload);
    p
}

pub fn ipv6(src: u8, dst: u8, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut p = vec![0x60, 0, 0, 0];
    p.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    p.extend_from_slice(&[next, 64]);
    for last in [src, dst] {
        p.extend_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    p.extend_from_slice(payload);
    p
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut s = [src.to_be_bytes(), dst.to_be_bytes(), ((8 + payload.len()) as u16).to_be_bytes(), [0, 0]].concat();
    s.extend_from_slice(payload);
    s
}

pub fn tcp(src: u16, dst: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut s = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    s.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    s.extend_from_slice(payload);
    s
}

pub fn icmp(kind: u8, code: u8) -> Vec<u8> {
    vec![kind, code, 0, 0, 0, 1, 0, 1]
}

pub fn arp(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut p = vec![0, 1, 8, 0, 6, 4];
    p.extend_from_slice(&operation.to_be_bytes());
    p.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    p.extend_from_slice(&sender);
    p.extend_from_slice(&[0; 6]);
    p.extend_from_slice(&target);
    p
}

/// UDP over IPv4 from and to the stations `10.0.0.n`.
pub fn udp4(dst: MacAddr, src: MacAddr, dst_port: u16, payload: usize) -> Vec<u8> {
    let host = |mac: MacAddr| [10, 0, mac.0[4], mac.0[5]];
    let packet = ipv4(host(src), host(dst), 17, 0, 0, &udp(1000, dst_port, &vec![7; payload]));
    ethernet(dst, src, &[], 0x0800, &packet)
}

/// A TCP super-frame over IPv4, as a guest with offloads sends it.
pub fn tso4(dst: MacAddr, src: MacAddr, payload: usize, gso_size: u16) -> (Vec<u8>, VnetHdr) {
    let mut packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0, &tcp(1000, 80, 0x18, &vec![0x5a; payload]));
    // The guest leaves the sum of the pseudo-header in the checksum field.
    let length = (20 + payload) as u32;
    let mut sum = 6 + length;
    for pair in packet[12..20].chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(sum as u16).to_be_bytes());
    let vnet = VnetHdr {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4,
        hdr_len: 54,
        gso_size,
        csum_start: 34,
        csum_offset: 16,
    };
    (ethernet(dst, src, &[], 0x0800, &packet), vnet)
}

/// The transport checksum of an untagged IPv4 frame is right (and the packet has no padding).
pub fn checksum_is_right(frame: &[u8]) -> bool {
    let packet = &frame[14..];
    let segment = &packet[20..];
    let mut start = u32::from(packet[9]) + segment.len() as u32;
    for pair in packet[12..20].chunks(2) {
        start += u32::from(pair[0]) << 8 | u32::from(pair[1]);
    }
    checksum(segment, start) == 0 && checksum(&packet[..20], 0) == 0
}
