//! The oracle is the cutter: what is joined here, cut again by [`crate::offload::segment`], must be the packets that came,
//! octet for octet, in the order of their flow.

mod packet;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::frame::vnet::{GSO_NONE, VnetHdr};
use crate::offload::{checksum, complete_checksum, fold, segment, sum};
use packet::{Packet, disturb};

/// The packets that a receiver gets of a frame.
fn received(mut frame: Vec<u8>, vnet: &VnetHdr) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    if vnet.gso_type == GSO_NONE {
        complete_checksum(&mut frame, vnet).unwrap();
        packets.push(frame);
    } else {
        segment(&frame, vnet, &mut Vec::new(), &mut |packet| packets.push(packet.to_vec())).unwrap();
    }
    packets.into_iter().map(bare).collect()
}

/// A packet without its padding, and without an identification that means nothing.
fn bare(mut frame: Vec<u8>) -> Vec<u8> {
    let l3 = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    if frame[l3] >> 4 == 6 {
        frame.truncate(l3 + 40 + usize::from(u16::from_be_bytes([frame[l3 + 4], frame[l3 + 5]])));
        return frame;
    }
    frame.truncate(l3 + usize::from(u16::from_be_bytes([frame[l3 + 2], frame[l3 + 3]])));
    // Of a header that is right, that is: a wrong one must stay as wrong as it was.
    if frame[l3 + 6] & 0x40 != 0 && fold(sum(&frame[l3..l3 + 20])) == 0xffff {
        frame[l3 + 4..l3 + 6].fill(0);
        frame[l3 + 10..l3 + 12].fill(0);
        let value = checksum(&frame[l3..l3 + 20]).to_be_bytes();
        frame[l3 + 10..l3 + 12].copy_from_slice(&value);
    }
    frame
}

/// Plans a batch, and holds what a receiver gets against what came. Returns the sizes of the groups.
fn check(mode: Mode, batch: &[Packet]) -> Vec<usize> {
    let built: Vec<_> = batch.iter().map(Packet::build).collect();
    let frames: Vec<TxFrame<'_>> = built
        .iter()
        .zip(batch)
        .map(|((octets, vnet), packet)| {
            let (head, rest) = octets.split_at(packet.head);
            TxFrame { head, rest, vnet: *vnet, copy: packet.copy }
        })
        .collect();
    let plan = Plan::make(mode, &Offloads::ALL, &frames);
    if !plan.joins() {
        return vec![1; batch.len()];
    }
    let mut gone = 0u64;
    let mut flows: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
    for group in plan.groups() {
        assert_eq!(gone & group.set(), 0, "a frame leaves once");
        let at = group.set().trailing_zeros() as usize;
        let packets = match group.only() {
            Some(only) => received(built[only].0.clone(), &built[only].1),
            None => {
                let joined = plan.join(group, &frames).unwrap();
                let whole =
                    plan.payloads(group, &frames).fold(joined.headers().to_vec(), |all, part| [&all, part].concat());
                assert!(
                    whole.len() <= 65_535 + 18
                        && whole.len() - joined.headers().len() > usize::from(joined.vnet.gso_size)
                );
                assert_eq!(usize::from(joined.vnet.hdr_len), joined.headers().len());
                received(whole, &joined.vnet)
            }
        };
        if batch[at].flow().is_none() {
            assert_eq!(group.only(), Some(at));
            assert_eq!(gone, (1 << at) - 1, "nothing overtakes frame {at}");
        }
        flows.entry(batch[at].flow()).or_default().extend(packets);
        gone |= group.set();
    }
    assert_eq!(gone, u64::MAX >> (64 - batch.len()), "every frame leaves");
    let mut expected: BTreeMap<_, Vec<Vec<u8>>> = BTreeMap::new();
    for (packet, (octets, vnet)) in batch.iter().zip(&built) {
        expected.entry(packet.flow()).or_default().extend(received(octets.clone(), vnet));
    }
    assert!(flows == expected, "{batch:?}\n{:?}", plan.groups());
    plan.groups().iter().map(|group| group.set().count_ones() as usize).collect()
}

/// `count` packets of a flow, in sequence.
fn run(first: &Packet, count: usize) -> Vec<Packet> {
    std::iter::successors(Some(first.clone()), |packet| Some(packet.next())).take(count).collect()
}

fn kinds() -> [Packet; 4] {
    [(false, false), (false, true), (true, false), (true, true)].map(|(v6, tcp)| Packet::new(v6, tcp))
}

fn batches() -> impl Strategy<Value = Vec<Packet>> {
    let step = (0..6usize, prop::option::weighted(0.3, (0..26u8, any::<u8>())), any::<bool>());
    (prop::collection::vec(step, 2..=BATCH), any::<bool>(), 64..400usize).prop_map(|(steps, df, size)| {
        let mut flows: Vec<Packet> = kinds().to_vec();
        flows.push(Packet { ports: [1, 2], ..Packet::new(false, false) });
        flows.push(Packet { ports: [1, 2], ..Packet::new(false, true) });
        for flow in &mut flows {
            flow.df = df;
            flow.payload.resize(size, 0xab);
        }
        let mut batch = Vec::new();
        for (flow, event, lasting) in steps {
            let mut packet = flows[flow].clone();
            if let Some((what, by)) = event {
                disturb(&mut packet, what, by);
            }
            let mut next = packet.next();
            if !lasting {
                let calm = &flows[flow];
                next = Packet { id: next.id, sequence: next.sequence, ..calm.next() };
            }
            flows[flow] = next;
            batch.push(packet);
        }
        batch
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_joined_and_cut_again_is_what_came(batch in batches()) {
        check(Mode::Exact, &batch);
    }

    #[test]
    fn damaged_frames_never_panic(
        batch in batches(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..40),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..4),
    ) {
        let mut built: Vec<_> = batch.iter().map(Packet::build).collect();
        for (frame, at, value) in flips {
            let frame = &mut built[frame.index(batch.len())].0;
            let at = at.index(frame.len().min(90));
            frame[at] = value;
        }
        for (frame, at) in cuts {
            let frame = &mut built[frame.index(batch.len())].0;
            frame.truncate(at.index(frame.len()).max(16));
        }
        let frames: Vec<TxFrame<'_>> = built.iter().zip(&batch).map(|((octets, vnet), packet)| {
            let (head, rest) = octets.split_at(packet.head);
            TxFrame { head, rest, vnet: *vnet, copy: packet.copy }
        }).collect();
        for mode in [Mode::Exact, Mode::Lenient] {
            let plan = Plan::make(mode, &Offloads::ALL, &frames);
            for group in plan.groups().iter().filter(|group| group.only().is_none()) {
                let joined = plan.join(group, &frames).unwrap();
                let octets: usize = plan.payloads(group, &frames).map(<[u8]>::len).sum();
                prop_assert!(octets > usize::from(joined.vnet.gso_size));
            }
        }
    }
}

#[test]
fn packets_in_sequence_leave_as_one() {
    for packet in kinds() {
        for df in [true, false] {
            for partial in [true, false] {
                for (tag, head) in [(None, 0), (None, 12), (Some([0x81, 0, 0, 9]), 12), (Some([0x81, 0, 0, 9]), 16)] {
                    let first = Packet { df, partial, tag, head, ..packet.clone() };
                    assert_eq!(check(Mode::Exact, &run(&first, BATCH)), [BATCH], "{first:?}");
                }
            }
        }
        // The last may be shorter, and then nothing follows.
        let mut batch = run(&packet, 5);
        batch[2].payload.truncate(50);
        (batch[3].sequence, batch[4].sequence) = (batch[3].sequence - 50, batch[4].sequence - 50);
        assert_eq!(check(Mode::Exact, &batch), [3, 2]);
        // Padding is no payload.
        let padded = Packet { padding: 6, ..packet.clone() };
        assert_eq!(check(Mode::Exact, &run(&padded, 4)), [4]);
    }
    // Datagrams of one octet.
    let tiny = Packet { payload: vec![9], ..Packet::new(false, false) };
    assert_eq!(check(Mode::Exact, &run(&tiny, 10)), [10]);
}

#[test]
fn flows_that_alternate_are_joined_each() {
    let flows: Vec<Vec<Packet>> =
        (0..4).map(|port| run(&Packet { ports: [port, 7], ..kinds()[usize::from(port)].clone() }, 16)).collect();
    let batch: Vec<Packet> = (0..64).map(|i| flows[i % 4][i / 4].clone()).collect();
    assert_eq!(check(Mode::Exact, &batch), [16; 4]);
}

/// What two packets that would be joined must not differ in, or have.
#[test]
fn a_difference_that_cutting_would_lose_keeps_packets_apart() {
    type Change = fn(&mut Packet);
    let udp: [(&str, Change); 15] = [
        ("lifetime", |p| p.ttl = 63),
        ("type of service or flow label", |p| p.tos = 4),
        ("wrong checksum", |p| p.wrong = 1),
        ("longer", |p| p.payload.push(0)),
        ("empty", |p| p.payload.clear()),
        ("another flow", |p| p.ports[0] = 9),
        ("a mirror copy", |p| p.copy = true),
        ("another VLAN", |p| p.tag = Some([0x81, 0, 0, 5])),
        ("no checksum", |p| p.unsummed = true),
        ("a seed that is wrong", |p| (p.partial, p.wrong) = (true, 1)),
        ("DHCP", |p| p.ports[1] = 68),
        ("fragmentable", |p| p.df = false),
        ("fragment", |p| p.offset = 3),
        ("header checksum", |p| p.header_wrong = 1),
        ("later fragment", |p| p.offset = 1),
    ];
    let tcp: [(&str, Change); 12] = [
        ("gap", |p| p.sequence += 1),
        ("overlap", |p| p.sequence -= 1),
        ("acknowledgment", |p| p.ack += 1),
        ("window", |p| p.window += 1),
        ("SYN", |p| p.flags = 0x12),
        ("RST", |p| p.flags = 0x14),
        ("ECE", |p| p.flags = 0x50),
        ("CWR", |p| p.flags = 0x90),
        ("URG", |p| p.flags = 0x30),
        ("urgent pointer", |p| p.urgent = 1),
        ("more options", |p| p.options = vec![1; 8]),
        ("other options", |p| p.options = vec![1, 1, 1, 0]),
    ];
    for packet in kinds() {
        let common = udp.iter().take(if packet.v6 { 8 } else { udp.len() });
        let changes = common.chain(tcp.iter().filter(|_| packet.tcp));
        for (what, change) in changes {
            // Port 68 and no checksum say something of datagrams only.
            if packet.tcp && matches!(*what, "no checksum" | "DHCP") {
                continue;
            }
            let mut batch = run(&packet, 2);
            change(&mut batch[1]);
            assert_eq!(check(Mode::Exact, &batch), [1, 1], "{what}: {:?}", batch[1]);
            let mut batch = run(&packet, 3);
            change(&mut batch[1]);
            let mut swapped = batch.clone();
            check(Mode::Exact, &batch);
            swapped.swap(0, 1);
            check(Mode::Exact, &swapped);
        }
    }
    let dhcp = Packet { ports: [67, 68], ..Packet::new(false, false) };
    assert_eq!(check(Mode::Exact, &run(&dhcp, 3)), [1; 3]);
}

#[test]
fn identifications_are_consecutive_or_mean_nothing() {
    for tcp in [false, true] {
        let mut batch = run(&Packet { df: false, id: 0xfffe, ..Packet::new(false, tcp) }, 4);
        assert_eq!(check(Mode::Exact, &batch), [4], "also over the end of their numbers");
        batch[2].id += 1;
        assert_eq!(check(Mode::Exact, &batch), [2, 1, 1]);
        assert_eq!(check(Mode::Exact, &run(&Packet { id: 0, ..Packet::new(false, tcp) }, 4)), [4]);
    }
}

#[test]
fn push_and_fin_are_the_last_of_a_super_frame() {
    for flags in [0x18, 0x11, 0x19] {
        for v6 in [false, true] {
            let mut batch = run(&Packet::new(v6, true), 5);
            batch[2].flags = flags;
            assert_eq!(check(Mode::Exact, &batch), [3, 2]);
            batch[0].flags = flags;
            assert_eq!(check(Mode::Exact, &batch), [1, 2, 2]);
        }
    }
}

#[test]
fn super_frames_of_guests_are_joined_if_they_end_with_a_full_segment() {
    for packet in kinds() {
        let whole = Packet { payload: vec![1; 500], gso: 100, partial: true, ..packet.clone() };
        let most = if packet.tcp { 8 } else { 12 };
        assert_eq!(check(Mode::Exact, &run(&whole, 8))[0], 8.min(most));
        // A single packet of the same size goes with them, one that is shorter ends them.
        let mut batch = run(&whole, 3);
        (batch[1].payload, batch[1].gso) = (vec![2; 100], 0);
        batch[2] = Packet { id: batch[1].id + 1, sequence: batch[1].sequence + 100, ..batch[2].clone() };
        assert_eq!(check(Mode::Exact, &batch), [3]);
        batch[2].payload.truncate(450);
        assert_eq!(check(Mode::Exact, &batch), [3]);
        let odd = Packet { payload: vec![1; 450], ..whole.clone() };
        assert_eq!(check(Mode::Exact, &run(&odd, 2)), [1, 1]);
        let mut batch = run(&whole, 2);
        batch[1].gso = 125;
        assert_eq!(check(Mode::Exact, &batch), [1, 1], "another segment size");
    }
}

#[test]
fn a_super_frame_has_its_bounds() {
    // 64 segments of datagrams, though super-frames bring more.
    let six = Packet { payload: vec![1; 600], gso: 100, partial: true, ..Packet::new(false, false) };
    assert_eq!(check(Mode::Exact, &run(&six, 12)), [10, 2]);
    // An IP packet of 65,535 octets.
    let big = |octets| Packet { payload: vec![7; octets], ..Packet::new(false, false) };
    assert_eq!(check(Mode::Exact, &run(&big(9000), 9)), [7, 2]);
    assert_eq!(check(Mode::Exact, &run(&big((65_535 - 28) / 3), 3)), [3]);
    assert_eq!(check(Mode::Exact, &run(&big((65_535 - 28) / 3 + 1), 3)), [2, 1]);
    // TCP segments below what we would believe of others.
    let small = Packet { payload: vec![7; 63], ..Packet::new(false, true) };
    assert_eq!(check(Mode::Exact, &run(&small, 3)), [1; 3]);
}

#[test]
fn what_can_not_be_joined_is_not_overtaken_by_its_flow() {
    for packet in kinds() {
        let mut batch = run(&packet, 4);
        let odd = Packet { payload: Vec::new(), ..batch[2].clone() };
        batch.insert(2, odd);
        assert_eq!(check(Mode::Exact, &batch), [2, 1, 2]);
        // Another flow's is.
        batch[2].ports = [7, 7];
        assert_eq!(check(Mode::Exact, &batch), [4, 1]);
        // A fragment, or a frame that is not IP, by nobody.
        batch[2].offset = 9;
        if !packet.v6 {
            assert_eq!(check(Mode::Exact, &batch), [2, 1, 2]);
        }
    }
}

#[test]
fn lenient_joins_what_generators_send() {
    let packet = Packet { unsummed: true, df: false, id: 0, ..Packet::new(false, false) };
    let mut batch = run(&packet, 4);
    batch.iter_mut().for_each(|packet| packet.id = 0);
    let built: Vec<_> = batch.iter().map(Packet::build).collect();
    let frames: Vec<TxFrame<'_>> =
        built.iter().map(|(rest, vnet)| TxFrame { head: &[], rest, vnet: *vnet, copy: false }).collect();
    assert!(!Plan::make(Mode::Exact, &Offloads::ALL, &frames).joins());
    assert!(!Plan::make(Mode::Off, &Offloads::ALL, &frames).joins());
    let plan = Plan::make(Mode::Lenient, &Offloads::ALL, &frames);
    assert_eq!(plan.groups().len(), 1);
    let joined = plan.join(&plan.groups()[0], &frames).unwrap();
    let whole =
        plan.payloads(&plan.groups()[0], &frames).fold(joined.headers().to_vec(), |all, part| [&all, part].concat());
    let expected: Vec<Vec<u8>> = (0..4u16)
        .map(|id| {
            Packet { id, unsummed: false, payload: batch[usize::from(id)].payload.clone(), ..packet.clone() }.build().0
        })
        .collect();
    assert_eq!(received(whole, &joined.vnet), expected);
    // IPv6 must have a checksum, and a wrong one is wrong in every mode.
    for wrong in
        [Packet { unsummed: true, ..Packet::new(true, false) }, Packet { wrong: 1, ..Packet::new(false, false) }]
    {
        let built: Vec<_> = run(&wrong, 3).iter().map(Packet::build).collect();
        let frames: Vec<TxFrame<'_>> =
            built.iter().map(|(rest, vnet)| TxFrame { head: &[], rest, vnet: *vnet, copy: false }).collect();
        assert!(!Plan::make(Mode::Lenient, &Offloads::ALL, &frames).joins());
    }
}

#[test]
fn a_device_gets_only_what_it_takes() {
    let all = Offloads::ALL;
    let lacking = [
        Offloads { uso: false, ..all },
        Offloads { tso4: false, ..all },
        Offloads { uso: false, ..all },
        Offloads { tso6: false, ..all },
    ];
    for (packet, lacking) in kinds().iter().zip(lacking) {
        let built: Vec<_> = run(packet, 3).iter().map(Packet::build).collect();
        let frames: Vec<TxFrame<'_>> =
            built.iter().map(|(rest, vnet)| TxFrame { head: &[], rest, vnet: *vnet, copy: false }).collect();
        assert!(Plan::make(Mode::Exact, &all, &frames).joins());
        for offloads in [lacking, Offloads { csum: false, ..all }, Offloads::NONE] {
            assert!(!Plan::make(Mode::Exact, &offloads, &frames).joins(), "{offloads:?}");
        }
    }
}

#[test]
fn a_checksum_in_a_form_that_nobody_makes_is_kept() {
    // All ones stand for zero; cutting makes zero of them, except in UDP.
    let ones = |tcp: bool| {
        let mut packet = Packet { payload: vec![0; 100], ..Packet::new(false, tcp) };
        let place = packet.l4() + if tcp { 16 } else { 6 };
        let value = packet.build().0[place..place + 2].to_vec();
        packet.payload[..2].copy_from_slice(&value);
        let mut frame = packet.build().0;
        assert_eq!(frame[place..place + 2], if tcp { [0, 0] } else { [0xff, 0xff] });
        frame[place..place + 2].fill(0xff);
        (packet, frame)
    };
    for tcp in [false, true] {
        let (first, frame) = ones(tcp);
        let next = first.next().build().0;
        let frames = [&frame, &next].map(|rest| TxFrame { head: &[], rest, vnet: VnetHdr::PLAIN, copy: false });
        assert_eq!(Plan::make(Mode::Exact, &Offloads::ALL, &frames).joins(), !tcp);
    }
    // The header's identification is chosen so that its checksum comes out as zero.
    let mut packet = Packet { df: false, id: 0, ..Packet::new(false, false) };
    packet.id = u16::from_be_bytes([packet.build().0[24], packet.build().0[25]]);
    let (mut frame, next) = (packet.build().0, packet.next().build().0);
    let joins = |frame: &[u8]| {
        let frames = [frame, &next].map(|rest| TxFrame { head: &[], rest, vnet: VnetHdr::PLAIN, copy: false });
        Plan::make(Mode::Exact, &Offloads::ALL, &frames).joins()
    };
    assert!(frame[24..26] == [0, 0] && joins(&frame));
    frame[24..26].fill(0xff);
    assert!(!joins(&frame));
}
