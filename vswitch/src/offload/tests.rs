//! The oracle builds every segment from a description, not from the super-frame, and sums octet pairs one by one; smoltcp
//! then judges both.

use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};

use super::*;
use crate::frame::vnet::{GSO_NONE, NEEDS_CSUM};

/// A packet in words.
#[derive(Clone, Debug)]
struct Packet {
    tags: Vec<u16>,
    v6: bool,
    tcp: bool,
    /// Words of IPv4 options.
    options: usize,
    /// IPv6 extension headers: type, and octets beyond 8 in units of 8.
    extensions: Vec<(u8, u8)>,
    tcp_options: usize,
    flags: u8,
    id: u16,
    sequence: u32,
    payload: Vec<u8>,
}

impl Default for Packet {
    fn default() -> Self {
        Packet {
            tags: Vec::new(),
            v6: false,
            tcp: true,
            options: 0,
            extensions: Vec::new(),
            tcp_options: 0,
            flags: 0x18,
            id: 7,
            sequence: 9,
            payload: (0..5000).map(|i| i as u8).collect(),
        }
    }
}

/// Sum of 16-bit big-endian words, the last one padded.
fn plain_sum(octets: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

impl Packet {
    fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    fn l4(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, units)| 8 + 8 * usize::from(*units)).sum();
        self.l3() + if self.v6 { 40 + extensions } else { 20 + 4 * self.options }
    }

    fn place(&self) -> usize {
        self.l4() + if self.tcp { 16 } else { 6 }
    }

    /// The octets; with the pseudo-header's sum in the checksum field, or with the checksum.
    fn build(&self, complete: bool) -> Vec<u8> {
        let protocol = if self.tcp { 6 } else { 17 };
        let mut l4 = vec![0x30, 0x39, 0x00, 0x35];
        if self.tcp {
            l4.extend(self.sequence.to_be_bytes());
            l4.extend([0, 0, 0, 1, (5 + self.tcp_options as u8) << 4, self.flags, 1, 0, 0, 0, 0, 0]);
            l4.extend(std::iter::repeat_n(1, 4 * self.tcp_options));
        } else {
            l4.extend((8 + self.payload.len() as u16).to_be_bytes());
            l4.extend([0, 0]);
        }
        l4.extend(&self.payload);

        let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".to_vec();
        for tpid in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend([0x60, 0x64]);
        }
        let addresses: Vec<u8>;
        if self.v6 {
            addresses = (0..32).map(|i| 0x20 + i).collect();
            let mut extensions = Vec::new();
            for (number, (_, units)) in self.extensions.iter().enumerate() {
                let next = self.extensions.get(number + 1).map_or(protocol, |(kind, _)| *kind);
                extensions.extend([next, *units]);
                // A PadN option that fills the header.
                extensions.extend([1, 4 + 8 * units]);
                extensions.extend(std::iter::repeat_n(0, 4 + 8 * usize::from(*units)));
            }
            frame.extend([0x86, 0xdd, 0x6a, 0xbc, 0xde, 0xf0]);
            frame.extend(((extensions.len() + l4.len()) as u16).to_be_bytes());
            frame.extend([self.extensions.first().map_or(protocol, |(kind, _)| *kind), 64]);
            frame.extend(&addresses);
            frame.extend(extensions);
        } else {
            addresses = vec![10, 0, 0, 1, 10, 200, 0, 2];
            let mut header = vec![0x45 + self.options as u8, 0x2e];
            header.extend(((20 + 4 * self.options + l4.len()) as u16).to_be_bytes());
            header.extend(self.id.to_be_bytes());
            header.extend([0x40, 0, 64, protocol, 0, 0]);
            header.extend(&addresses);
            header.extend(std::iter::repeat_n(1, 4 * self.options));
            let sum = !(plain_sum(&header) as u16);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        let pseudo = [&addresses[..], &[0, protocol], &(l4.len() as u16).to_be_bytes()].concat();
        let mut value = plain_sum(&pseudo) as u16;
        if complete {
            value = !(plain_sum(&[pseudo, l4.clone()].concat()) as u16);
            if value == 0 && !self.tcp {
                value = 0xffff;
            }
        }
        frame.extend(l4);
        let place = self.place();
        frame[place..place + 2].copy_from_slice(&value.to_be_bytes());
        frame
    }

    fn vnet(&self, gso_size: u16) -> VnetHdr {
        let gso_type = match (self.tcp, self.v6) {
            _ if gso_size == 0 => GSO_NONE,
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        };
        let csum_start = self.l4() as u16;
        VnetHdr {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: 0,
            gso_size,
            csum_start,
            csum_offset: self.place() as u16 - csum_start,
        }
    }

    /// The segments that a receiver should get.
    fn segments(&self, size: usize) -> Vec<Vec<u8>> {
        let mut chunks: Vec<&[u8]> = self.payload.chunks(size).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let one = |(index, chunk): (usize, &&[u8])| {
            let mut flags = self.flags;
            if index != last {
                flags &= !(0x01 | 0x08);
            }
            if index != 0 {
                flags &= !0x80;
            }
            let sequence = self.sequence.wrapping_add((index * size) as u32);
            let id = self.id.wrapping_add(index as u16);
            Packet { flags, sequence, id, payload: chunk.to_vec(), ..self.clone() }.build(true)
        };
        chunks.iter().enumerate().map(one).collect()
    }

    /// What smoltcp says of a complete frame of this kind.
    fn judge(&self, frame: &[u8]) {
        let (source, destination): (IpAddress, IpAddress) = if self.v6 {
            let packet = Ipv6Packet::new_checked(&frame[self.l3()..]).unwrap();
            assert_eq!(packet.total_len(), frame.len() - self.l3());
            (packet.src_addr().into(), packet.dst_addr().into())
        } else {
            let packet = Ipv4Packet::new_checked(&frame[self.l3()..]).unwrap();
            assert!(packet.verify_checksum());
            assert_eq!(usize::from(packet.total_len()), frame.len() - self.l3());
            (packet.src_addr().into(), packet.dst_addr().into())
        };
        let l4 = &frame[self.l4()..];
        if self.tcp {
            assert!(TcpPacket::new_checked(l4).unwrap().verify_checksum(&source, &destination));
        } else {
            let datagram = UdpPacket::new_checked(l4).unwrap();
            assert!(datagram.verify_checksum(&source, &destination) && datagram.checksum() != 0);
            assert_eq!(usize::from(datagram.len()), l4.len());
        }
    }
}

fn packets(most: usize) -> impl Strategy<Value = Packet> {
    let tags = prop::collection::vec(prop::sample::select(vec![0x8100, 0x88a8]), 0..=2);
    let extensions = prop::collection::vec((prop::sample::select(vec![0, 43, 60]), 0..3u8), 0..=3);
    let payload = (0..most, any::<u8>()).prop_map(|(len, seed)| (0..len).map(|i| (i * 31 / 7) as u8 ^ seed).collect());
    let network = (any::<bool>(), any::<bool>(), 0..=10usize, extensions);
    (tags, network, 0..=10usize, any::<u8>(), any::<u16>(), any::<u32>(), payload).prop_map(
        |(tags, (v6, tcp, options, extensions), tcp_options, flags, id, sequence, payload)| {
            let (options, extensions) = if v6 { (0, extensions) } else { (options, Vec::new()) };
            Packet { tags, v6, tcp, options, extensions, tcp_options, flags, id, sequence, payload }
        },
    )
}

fn cut(frame: &[u8], vnet: &VnetHdr) -> Result<Vec<Vec<u8>>, DropReason> {
    let (mut scratch, mut segments) = (Vec::new(), Vec::new());
    let count = segment(frame, vnet, &mut scratch, &mut |octets| segments.push(octets.to_vec()));
    match count {
        Ok(count) => assert_eq!(count, segments.len()),
        Err(_) => assert!(segments.is_empty(), "nothing is emitted of a frame that is refused"),
    }
    count.map(|_| segments)
}

proptest! {
    #[test]
    fn the_sum_is_that_of_words_one_by_one(octets in prop::collection::vec(any::<u8>(), 0..300), skip in 0..9usize) {
        let octets = &octets[skip.min(octets.len())..];
        prop_assert_eq!(checksum(octets), !(plain_sum(octets) as u16));
    }

    #[test]
    fn a_completed_checksum_is_the_one_of_the_whole(packet in packets(3000), padding in 0..20usize) {
        let mut frame = packet.build(false);
        let len = frame.len();
        // Octets behind the packet, which a short frame has, do not count.
        frame.extend(std::iter::repeat_n(0xa5, padding));
        complete_checksum(&mut frame, &packet.vnet(0)).unwrap();
        prop_assert_eq!(&frame[..len], &packet.build(true)[..]);
        packet.judge(&frame[..len]);
    }

    #[test]
    fn an_unfinished_checksum_is_seen_and_a_finished_one_stays(packet in packets(3000), padding in 0..20usize) {
        let mut finished = packet.build(true);
        finished.extend(vec![0; padding]);
        for complete in [false, true] {
            let mut frame = packet.build(complete);
            frame.extend(vec![0; padding]);
            let seen = detect_unfinished(&frame);
            if !complete {
                prop_assert_eq!(seen, packet.vnet(0));
            }
            complete_checksum(&mut frame, &seen).unwrap();
            prop_assert_eq!(&frame, &finished);
        }
    }

    #[test]
    fn segments_are_those_of_the_oracle(packet in packets(20_000), size in 64..9000u16) {
        prop_assume!(packet.tcp || packet.payload.len().div_ceil(usize::from(size)) <= UDP_SEGMENTS_MAX);
        let segments = cut(&packet.build(false), &packet.vnet(size)).unwrap();
        prop_assert_eq!(&segments, &packet.segments(usize::from(size)));
        for octets in &segments {
            packet.judge(octets);
        }
    }

    #[test]
    fn damaged_frames_never_panic_and_a_refused_one_is_untouched(
        packet in packets(300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        keep in any::<prop::sample::Index>(),
        cut_short in any::<bool>(),
        (flags, gso_type, gso_size) in (0..4u8, prop::sample::select(vec![0, 1, 3, 4, 5, 0x80, 0x81, 0x85, 255]), any::<u16>()),
        moved in (any::<bool>(), any::<u16>(), any::<u16>()),
    ) {
        let mut frame = packet.build(false);
        for (at, value) in &flips {
            let at = at.index(frame.len().min(120));
            frame[at] = *value;
        }
        if cut_short {
            frame.truncate(keep.index(frame.len()));
        }
        let mut vnet = VnetHdr { flags, gso_type, gso_size, ..packet.vnet(0) };
        if let (true, start, offset) = moved {
            vnet.csum_start = start;
            vnet.csum_offset = offset;
        }
        let before = frame.clone();
        let _ = cut(&frame, &vnet);
        let result = complete_checksum(&mut frame, &vnet);
        let changed: Vec<usize> = (0..frame.len()).filter(|at| frame[*at] != before[*at]).collect();
        let place = usize::from(vnet.csum_start) + usize::from(vnet.csum_offset);
        prop_assert!(changed.iter().all(|at| *at == place || *at == place + 1));
        prop_assert!(changed.is_empty() || (result.is_ok() && vnet.needs_csum()));
    }
}

#[test]
fn the_checksum_is_that_of_the_example_in_rfc_1071() {
    assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    assert_eq!(checksum(&[]), 0xffff);
    assert_eq!(checksum(&[0xff; 65_536]), 0);
}

#[test]
fn a_finished_checksum_that_looks_unfinished_is_finished_to_itself() {
    for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let packet = |word: u16| Packet { v6, tcp, payload: word.to_be_bytes().to_vec(), ..Packet::default() };
        // The word that makes the checksum of the whole equal to the sum of the pseudo-header.
        let field = |frame: Vec<u8>| get16(&frame, packet(0).place()).unwrap();
        let words = [field(packet(0).build(true)), !field(packet(0).build(false))].map(u16::to_be_bytes);
        let alike = packet(plain_sum(&words.concat()) as u16);
        let mut frame = alike.build(true);
        let whole = frame.clone();
        assert_eq!(whole, alike.build(false));
        let seen = detect_unfinished(&frame);
        assert!(seen.needs_csum());
        complete_checksum(&mut frame, &seen).unwrap();
        assert_eq!(frame, whole);
    }
}

#[test]
fn a_frame_that_needs_no_checksum_is_left_alone() {
    let mut frame = b"not even a frame".to_vec();
    let vnet = VnetHdr { csum_start: 3, csum_offset: 1, ..VnetHdr::PLAIN };
    assert_eq!(complete_checksum(&mut frame, &vnet), Ok(()));
    assert_eq!(frame, b"not even a frame");
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    // The payload is chosen so that the sum comes out as zero.
    let mut packet = Packet { tcp: false, payload: vec![0, 0], ..Packet::default() };
    let frame = packet.build(true);
    packet.payload = frame[packet.place()..packet.place() + 2].to_vec();
    let mut frame = packet.build(false);
    complete_checksum(&mut frame, &packet.vnet(0)).unwrap();
    assert_eq!(frame[packet.place()..packet.place() + 2], [0xff, 0xff]);
    packet.judge(&frame);
    // The same when it is a segment, also of a datagram that came without checksum.
    frame[packet.place()..packet.place() + 2].fill(0);
    let vnet = VnetHdr { flags: 0, ..packet.vnet(1000) };
    let segments = cut(&frame, &vnet).unwrap();
    assert_eq!(segments, [packet.build(true)]);
    packet.judge(&segments[0]);
}

#[test]
fn flags_identification_and_sequence_run_as_they_must() {
    let packet = Packet { flags: 0xd9, id: 0xffff, sequence: 0xffff_ff00, ..Packet::default() };
    let segments = cut(&packet.build(false), &packet.vnet(1448)).unwrap();
    let flags: Vec<u8> = segments.iter().map(|octets| octets[packet.l4() + 13]).collect();
    // CWR on the first; FIN and PSH on the last; ECE and ACK on all.
    assert_eq!(flags, [0xd0, 0x50, 0x50, 0x59]);
    let ids: Vec<u16> = segments.iter().map(|octets| get16(octets, packet.l3() + 4).unwrap()).collect();
    assert_eq!(ids, [0xffff, 0, 1, 2]);
    let sequences: Vec<u32> =
        segments.iter().map(|o| u32::from_be_bytes(*o[packet.l4() + 4..].first_chunk().unwrap())).collect();
    assert_eq!(sequences, [0xffff_ff00, 0xffff_ff00u32.wrapping_add(1448), 2640, 4088]);
}

#[test]
fn a_superframe_of_64_kib_is_cut_without_allocating_again() {
    let packet = Packet { payload: vec![3; 65_535 - 40], ..Packet::default() };
    let (frame, vnet) = (packet.build(false), packet.vnet(1448));
    let mut scratch = Vec::new();
    let mut longest = 0;
    assert_eq!(segment(&frame, &vnet, &mut scratch, &mut |octets| longest = longest.max(octets.len())), Ok(46));
    assert_eq!(longest, 1448 + 54);
    let (place, capacity) = (scratch.as_ptr(), scratch.capacity());
    assert_eq!(segment(&frame, &vnet, &mut scratch, &mut |_| {}), Ok(46));
    assert_eq!((scratch.as_ptr(), scratch.capacity()), (place, capacity));
}

#[test]
fn a_checksum_that_is_elsewhere_than_the_protocol_keeps_it_is_refused() {
    for packet in [Packet::default(), Packet { tcp: false, v6: true, ..Packet::default() }] {
        let (mut frame, good) = (packet.build(false), packet.vnet(0));
        let before = frame.clone();
        let start =
            [0, 6, 12, packet.l3() as u16, good.csum_start - 2, good.csum_start + 1, good.csum_start + 2, 5000, 65_535];
        let lies = start.map(|csum_start| VnetHdr { csum_start, ..good });
        let offset = [0, 1, 4, 22 - good.csum_offset, 17, 5000, 65_535];
        let more = offset.map(|csum_offset| VnetHdr { csum_offset, ..good });
        // Right in the sum of the two, wrong in each.
        let both = VnetHdr { csum_start: good.csum_start + 2, csum_offset: good.csum_offset - 2, ..good };
        for lie in lies.iter().chain(&more).chain([&both]) {
            assert_eq!(complete_checksum(&mut frame, lie), Err(DropReason::OffloadInvalid), "{lie:?}");
            assert_eq!(frame, before);
        }
        assert_eq!(complete_checksum(&mut frame, &good), Ok(()));
    }
}

#[test]
fn lies_about_segments_are_refused() {
    let packet = Packet::default();
    let (frame, good) = (packet.build(false), packet.vnet(1000));
    assert!(cut(&frame, &good).is_ok());
    assert!(cut(&frame, &VnetHdr { gso_type: GSO_TCPV4 | GSO_ECN, ..good }).is_ok());
    assert!(cut(&frame, &VnetHdr { gso_size: 65_535, ..good }).is_ok_and(|segments| segments.len() == 1));
    let lies = [
        VnetHdr { gso_size: 0, ..good },
        VnetHdr { gso_size: 1, ..good },
        VnetHdr { gso_size: GSO_SIZE_MIN - 1, ..good },
        VnetHdr { gso_type: GSO_NONE, ..good },
        VnetHdr { gso_type: 2, ..good },
        VnetHdr { gso_type: 3, ..good },
        VnetHdr { gso_type: GSO_ECN, ..good },
        VnetHdr { gso_type: GSO_TCPV6, ..good },
        VnetHdr { gso_type: GSO_UDP_L4, ..good },
        VnetHdr { csum_start: good.csum_start + 2, ..good },
        VnetHdr { csum_offset: 6, ..good },
        VnetHdr { csum_start: 65_535, csum_offset: 65_535, ..good },
    ];
    for lie in lies {
        assert_eq!(cut(&frame, &lie), Err(DropReason::OffloadInvalid), "{lie:?}");
    }
    let v6 = Packet { v6: true, ..Packet::default() };
    assert!(cut(&v6.build(false), &v6.vnet(1000)).is_ok());
    assert!(cut(&v6.build(false), &VnetHdr { gso_type: GSO_TCPV4, ..v6.vnet(1000) }).is_err());
    let udp = Packet { tcp: false, payload: vec![0; 64 * 129], ..Packet::default() };
    assert_eq!(cut(&udp.build(false), &udp.vnet(65)).map(|s| s.len()), Ok(128));
    assert!(cut(&udp.build(false), &udp.vnet(64)).is_err(), "129 segments");
    assert!(cut(&udp.build(false), &VnetHdr { gso_type: GSO_UDP_L4 | GSO_ECN, ..udp.vnet(1000) }).is_err());
}

#[test]
fn frames_that_have_no_transport_header_of_their_own_are_refused() {
    let packet = Packet::default();
    let (l3, l4) = (packet.l3(), packet.l4());
    let good = packet.build(false);
    // What is written where, and why that makes it no TCP or UDP packet.
    let cases: [(usize, &[u8], &str); 10] = [
        (12, &[0x08, 0x06], "ARP"),
        (12, &[0x86, 0xdd], "IPv4 called IPv6"),
        (l3, &[0x65], "version 6"),
        (l3, &[0x44], "header of 16 octets"),
        (l3 + 2, &[0, 19], "shorter than its header"),
        (l3 + 2, &[0xff, 0xff], "longer than the frame"),
        (l3 + 6, &[0x20, 0], "first fragment"),
        (l3 + 6, &[0, 8], "later fragment"),
        (l3 + 9, &[1], "ICMP"),
        (l4 + 12, &[0x40], "TCP header of 16 octets"),
    ];
    for (at, octets, why) in cases {
        let mut frame = good.clone();
        frame[at..at + octets.len()].copy_from_slice(octets);
        let before = frame.clone();
        assert_eq!(cut(&frame, &packet.vnet(1000)), Err(DropReason::OffloadInvalid), "{why}");
        assert_eq!(complete_checksum(&mut frame, &packet.vnet(0)), Err(DropReason::OffloadInvalid), "{why}");
        assert_eq!(frame, before, "{why}");
    }
    for len in 0..l4 + 20 {
        assert!(cut(&good[..len], &packet.vnet(1000)).is_err(), "{len} octets");
        assert!(complete_checksum(&mut good[..len].to_vec(), &packet.vnet(0)).is_err(), "{len} octets");
    }
    let short = Packet { payload: vec![1; 30], ..Packet::default() };
    let mut frame = short.build(false);
    frame[l4 + 12] = 0xe0;
    assert!(cut(&frame, &short.vnet(1000)).is_err(), "TCP header of 56 octets in a packet with 50");
    assert!(complete_checksum(&mut frame, &short.vnet(0)).is_err(), "TCP header of 56 octets in a packet with 50");
    let three = Packet { tags: vec![0x8100; 3], ..Packet::default() };
    assert!(cut(&three.build(false), &three.vnet(1000)).is_err(), "three tags");
    let many = |count| Packet { v6: true, extensions: vec![(60, 0); count], ..Packet::default() };
    assert!(cut(&many(8).build(false), &many(8).vnet(1000)).is_ok(), "eight extension headers");
    assert!(cut(&many(9).build(false), &many(9).vnet(1000)).is_err(), "nine extension headers");
}
