//! The headers of a frame in one line, as `show drops` prints them.
//!
//! `0200.0000.0001 > 0200.0000.0002 vlan 10 10.0.0.1:5 > 10.0.0.2:80 tcp S`
//!
//! The frame was dropped, perhaps because it is malformed, and only its first octets are here. So this reads as far as it
//! makes sense and says `...` where the octets end early; it judges nothing, and it never fails.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use proto::addr::MacAddr;

/// Most VLAN tags that are read.
const TAGS_MAX: usize = 3;

/// The line for the first octets of a frame.
pub fn describe(octets: &[u8]) -> String {
    let mut line = String::new();
    if link(octets, &mut line).is_none() {
        line.push_str(if line.is_empty() { "..." } else { " ..." });
    }
    line
}

/// `None` when the octets end early. Writing to a `String` can't fail, so its results are dropped.
fn link(octets: &[u8], line: &mut String) -> Option<()> {
    let (dst, rest) = octets.split_first_chunk::<6>()?;
    let (src, rest) = rest.split_first_chunk::<6>()?;
    let _ = write!(line, "{} > {}", MacAddr(*src), MacAddr(*dst));
    let (mut kind, mut rest) = number(rest)?;
    for _ in 0..TAGS_MAX {
        if !matches!(kind, 0x8100 | 0x88a8) {
            break;
        }
        let (control, after) = number(rest)?;
        let _ = write!(line, " vlan {}", control & 0xfff);
        if control >> 13 != 0 {
            let _ = write!(line, " pcp {}", control >> 13);
        }
        (kind, rest) = number(after)?;
    }
    match kind {
        0x0800 => ipv4(rest, line),
        0x86dd => ipv6(rest, line),
        0x0806 => arp(rest, line),
        0..=1500 => {
            let _ = write!(line, " 802.3 length {kind}");
            Some(())
        }
        _ => {
            let _ = write!(line, " ethertype 0x{kind:04x}");
            Some(())
        }
    }
}

fn number(octets: &[u8]) -> Option<(u16, &[u8])> {
    let (first, rest) = octets.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*first), rest))
}

fn arp(octets: &[u8], line: &mut String) -> Option<()> {
    let (_, rest) = octets.split_first_chunk::<6>()?;
    let (operation, rest) = number(rest)?;
    let (_, rest) = rest.split_first_chunk::<6>()?;
    let (sender, rest) = rest.split_first_chunk::<4>()?;
    let (_, rest) = rest.split_first_chunk::<6>()?;
    let (target, _) = rest.split_first_chunk::<4>()?;
    let (sender, target) = (Ipv4Addr::from(*sender), Ipv4Addr::from(*target));
    let _ = match operation {
        1 => write!(line, " arp who-has {target} tell {sender}"),
        2 => write!(line, " arp {sender} is-at"),
        _ => write!(line, " arp operation {operation} {sender} > {target}"),
    };
    Some(())
}

fn ipv4(octets: &[u8], line: &mut String) -> Option<()> {
    let header = octets.first_chunk::<20>()?;
    let [version_length, _, _, _, _, _, f0, f1, _, protocol, _, _, addresses @ ..] = header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let (src, dst) = (Ipv4Addr::new(*s0, *s1, *s2, *s3), Ipv4Addr::new(*d0, *d1, *d2, *d3));
    let fragment = u16::from_be_bytes([*f0, *f1]);
    if fragment & 0x1fff != 0 {
        let _ = write!(line, " {src} > {dst} {} fragment at {}", protocol_name(*protocol), (fragment & 0x1fff) * 8);
        return Some(());
    }
    let length = usize::from(version_length & 15) * 4;
    let payload = octets.get(length.max(20)..).unwrap_or_default();
    transport(*protocol, payload, &src.to_string(), &dst.to_string(), line)?;
    if fragment & 0x2000 != 0 {
        line.push_str(" first fragment");
    }
    Some(())
}

fn ipv6(octets: &[u8], line: &mut String) -> Option<()> {
    let (header, payload) = octets.split_first_chunk::<40>()?;
    let [_, _, _, _, _, _, protocol, _, addresses @ ..] = header;
    let (src, rest) = addresses.split_first_chunk::<16>()?;
    let dst = rest.first_chunk::<16>()?;
    let bracket = |address: &[u8; 16]| format!("[{}]", Ipv6Addr::from(*address));
    transport(*protocol, payload, &bracket(src), &bracket(dst), line)
}

fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        _ => format!("protocol {protocol}"),
    }
}

fn transport(protocol: u8, octets: &[u8], src: &str, dst: &str, line: &mut String) -> Option<()> {
    let name = protocol_name(protocol);
    match protocol {
        6 | 17 => {
            let Some((from, rest)) = number(octets) else {
                let _ = write!(line, " {src} > {dst} {name}");
                return None;
            };
            let (to, rest) = number(rest)?;
            let _ = write!(line, " {src}:{from} > {dst}:{to} {name}");
            if protocol == 6 {
                let flags = rest.get(9)?;
                let letters = "FSRPAUEC".chars().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
                line.push(' ');
                line.extend(letters.map(|(_, letter)| letter));
                if *flags == 0 {
                    line.push('-');
                }
            }
        }
        1 | 58 => {
            let _ = write!(line, " {src} > {dst} {name}");
            let [kind, code] = octets.first_chunk::<2>()?;
            let _ = write!(line, " type {kind} code {code}");
        }
        _ => {
            let _ = write!(line, " {src} > {dst} {name}");
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    const MACS: &str = "020000000002 020000000001";
    const IPV4: &str = "45000028 00000000 40060000 0a000001 0a000002";

    #[test]
    fn tcp_behind_a_tag() {
        let frame = octets(&format!("{MACS} 8100 000a 0800 {IPV4} 00050050 00000000 00000000 5002 0000"));
        assert_eq!(describe(&frame), "0200.0000.0001 > 0200.0000.0002 vlan 10 10.0.0.1:5 > 10.0.0.2:80 tcp S");
    }

    #[test]
    fn others() {
        let cases = [
            (
                format!("{MACS} 0806 0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000002"),
                "arp who-has 10.0.0.2 tell 10.0.0.1",
            ),
            (
                format!("{MACS} 0800 45000028 00002000 40110000 0a000001 0a000002 00350035 0000 0000"),
                "10.0.0.1:53 > 10.0.0.2:53 udp first fragment",
            ),
            (
                format!("{MACS} 0800 45000028 00000002 40110000 0a000001 0a000002"),
                "10.0.0.1 > 10.0.0.2 udp fragment at 16",
            ),
            (
                format!("{MACS} 0800 45000028 00000000 40010000 0a000001 0a000002 0800"),
                "10.0.0.1 > 10.0.0.2 icmp type 8 code 0",
            ),
            (
                format!(
                    "{MACS} 86dd 60000000 0000 3a 40 fe800000000000000000000000000001 fe800000000000000000000000000002 8700"
                ),
                "[fe80::1] > [fe80::2] icmpv6 type 135 code 0",
            ),
            (format!("{MACS} 88cc 0000"), "ethertype 0x88cc"),
            (format!("{MACS} 0026 4242"), "802.3 length 38"),
            (format!("{MACS} 8100 e001 88a8 0064 9000"), "vlan 1 pcp 7 vlan 100 ethertype 0x9000"),
        ];
        for (hex, wanted) in cases {
            assert_eq!(describe(&octets(&hex)), format!("0200.0000.0001 > 0200.0000.0002 {wanted}"));
        }
    }

    #[test]
    fn any_cut_ends_in_dots() {
        let frame = octets(&format!("{MACS} 8100 000a 0800 {IPV4} 00050050 00000000 00000000 5002 0000"));
        for length in 0..frame.len() - 2 {
            let line = describe(&frame[..length]);
            assert!(line.ends_with("...") || length >= 51, "{length}: {line}");
        }
        assert_eq!(describe(&[]), "...");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..96)) {
            let line = describe(&octets);
            proptest::prop_assert!(line.len() < 400 && !line.contains('\n'));
        }
    }
}
