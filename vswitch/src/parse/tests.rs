//! What the key holds, what is counted, and that no octets make it panic.

use super::*;

/// Untagged UDP over IPv4, 10.1.2.3:1000 to 10.4.5.6:53, 6 octets of payload, and padding.
const UDP4: &[u8] = &[
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0xbb, 0, 34, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6, 3,
    0xe8, 0, 53, 0, 14, 0, 0, 1, 2, 3, 4, 5, 6, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee,
];

fn read(frame: &[u8]) -> Result<Parsed, DropReason> {
    parse(frame, &VnetHdr::PLAIN, PortId(7))
}

#[test]
fn the_key_holds_what_judges_read() {
    let p = read(UDP4).unwrap();
    let key = p.key;
    assert_eq!((key.in_port, key.ethertype, key.protocol, key.src_port, key.dst_port), (7, 0x0800, 17, 1000, 53));
    assert_eq!(key.src_ip().unwrap().to_string(), "10.1.2.3");
    assert_eq!(key.dst_ip().unwrap().to_string(), "10.4.5.6");
    assert_eq!(key.tos, 0xb8, "without the ECN bits");
    assert_eq!(key.shape, shape::IPV4 | shape::PORTS);
    assert_eq!((p.segments, p.octets, p.l2_octets, p.packet_max), (1, 34, 60, 34));
}

#[test]
fn padding_reaches_neither_key_nor_octets() {
    let (padded, bare) = (read(UDP4).unwrap(), read(&UDP4[..48]).unwrap());
    assert_eq!((padded.key, padded.octets), (bare.key, bare.octets));
}

#[test]
fn a_frame_cut_anywhere_is_refused_until_its_packet_is_whole() {
    for cut in 0..48 {
        assert!(read(&UDP4[..cut]).is_err(), "{cut}");
    }
    let refused = read(&UDP4[..20]).unwrap_err();
    assert_eq!(refused, DropReason::Ipv4Header);
}

/// Random octets over random positions: any answer will do, but an accepted frame vouches for its lengths.
#[test]
fn no_octets_make_it_panic() {
    let mut seed = 5u64;
    let mut draw = move || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u32
    };
    let types: [[u8; 2]; 6] = [[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0x88, 0xa8], [0, 40]];
    let mut usual_frames = 0;
    for _ in 0..200_000 {
        let mut frame: Vec<u8> = UDP4.iter().copied().cycle().take(14 + draw() as usize % 120).collect();
        frame[12..14].copy_from_slice(&types[draw() as usize % 6]);
        if draw() % 4 == 0 {
            frame.splice(12..12, [0x81, 0, draw() as u8, draw() as u8, 8, 0].into_iter().take(4));
            frame[16..18].copy_from_slice(&[8, 0]);
        }
        if draw() % 3 == 0
            && let Some(octets) = frame.get_mut(23..48)
        {
            // TCP, with a header of 20 to 44 octets.
            (octets[0], octets[23]) = (6, (5 + draw() as u8 % 7) << 4);
        }
        for _ in 0..draw() % 6 {
            let at = draw() as usize % frame.len();
            frame[at] = draw() as u8;
        }
        let said = VnetHdr {
            flags: draw() as u8 & 3,
            gso_type: [0, 1, 4, 5, 0x81][draw() as usize % 5],
            hdr_len: draw() as u16,
            gso_size: draw() as u16 & 255,
            csum_start: 14 + (draw() as u16 & 31),
            csum_offset: [6, 16, 2][draw() as usize % 3],
        };
        // The short way says what the long one says, of every frame that it takes.
        let (mut short, mut long) = (Parsed { segments: 9, ..Parsed::EMPTY }, Parsed::EMPTY);
        if usual::read(&frame, &said, PortId(1), &mut short).is_some() {
            assert_eq!(parse_any(&frame, &said, PortId(1), &mut long), Ok(()));
            assert_eq!(short, long, "{frame:02x?}");
            usual_frames += 1;
        }
        if let Ok(p) = parse(&frame, &said, PortId(1)) {
            assert!(p.packet_max as usize <= frame.len() && p.segments >= 1);
            assert!(p.octets as usize <= frame.len() * p.segments as usize);
            if p.vnet.needs_csum() {
                assert!(usize::from(p.vnet.csum_start + p.vnet.csum_offset) + 2 <= frame.len());
            }
        }
    }
    assert!(usual_frames > 1_000, "{usual_frames}");
}
