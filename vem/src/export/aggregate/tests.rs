use std::net::Ipv4Addr;

use proptest::prelude::*;
use proto::flow::{Aggregation, Field};
use vswitch::verdict::DropReason;

use super::super::flow::tests::{arp, flow, tcp4, tcp6};
use super::*;

fn at(ms: u64) -> Moment {
    Moment { now: Instant::from_ms(ms), boot_ms: 1_700_000_000_000 }
}

fn monitor() -> Monitor {
    Monitor { active_s: 60, inactive_s: 15, ..Monitor::default() }
}

fn user(fields: &[Field]) -> UserRecord {
    UserRecord { name: "r".into(), fields: fields.to_vec() }
}

/// By these fields, with families apart.
fn by(fields: &[Field]) -> Aggregator {
    Aggregator::new(Spec::of(&monitor(), Some(&user(fields)), true).unwrap(), 1000)
}

fn ruled(rules: &[Aggregation]) -> Aggregator {
    let monitor = Monitor { aggregation: Some(rules.to_vec()), ..monitor() };
    Aggregator::new(Spec::of(&monitor, None, true).unwrap(), 1000)
}

fn conversations() -> Aggregator {
    Aggregator::new(Spec::of(&Monitor { biflow: Some(true), ..monitor() }, None, true).unwrap(), 1000)
}

fn all(mut aggregator: Aggregator, records: &[Record]) -> Vec<Emitted> {
    let mut out = Vec::new();
    records.iter().for_each(|record| aggregator.add(&flow(record), at(3000), &mut out));
    aggregator.flush(&mut out);
    out
}

fn from(address: [u8; 4], port: u16) -> Record {
    let mut record = tcp4();
    record.key.src = Ipv4Addr::from(address).to_ipv6_mapped().octets();
    record.key.src_port = port;
    record
}

fn source(emitted: &Emitted) -> Ipv4Addr {
    Flow::ipv4(emitted.record.key.src).into()
}

#[test]
fn a_monitor_that_asks_for_nothing_of_it_has_none() {
    assert_eq!(Spec::of(&monitor(), None, true), None);
}

/// Least, most, and the flow label that all have; of each direction of a conversation by itself.
#[test]
fn what_was_read_of_packets_is_that_of_all_flows() {
    let detail =
        |label, octets, ttl| Detail { label, shortest: octets, longest: octets, ttl_least: ttl, ttl_most: ttl };
    let mut records = vec![tcp6(); 4];
    let read = [detail(7, 100, 64), detail(7, 60, 65), Detail::NONE, detail(7, 1500, 3)];
    records.iter_mut().zip(read).for_each(|(record, detail)| record.detail = detail);
    let fields = [Field::Protocol, Field::TtlMinimum, Field::FlowLabel];
    let whole = Detail { label: 7, shortest: 60, longest: 1500, ttl_least: 3, ttl_most: 65 };
    assert_eq!(all(by(&fields), &records)[0].record.detail, whole);
    records[3].detail.label = 8;
    assert_eq!(all(by(&fields), &records)[0].record.detail, Detail { label: 0, ..whole });

    let mut answer = tcp6();
    std::mem::swap(&mut answer.key.src, &mut answer.key.dst);
    std::mem::swap(&mut answer.key.src_port, &mut answer.key.dst_port);
    (answer.first, answer.detail) = (Instant::from_ms(1600), detail(9, 70, 61));
    let out = all(conversations(), &[records[0], answer]);
    assert_eq!(
        (out.len(), out[0].record.detail, out[0].reverse.unwrap().record.detail),
        (1, read[0], detail(9, 70, 61))
    );
}

#[test]
fn a_record_of_what_left_and_what_did_not_has_no_vlan_on_the_way_out() {
    let fields = [Field::Protocol, Field::OutputVlan];
    let vlan_of = |records: &[Record]| {
        let out = all(by(&fields), records);
        let mut octets = Vec::new();
        let at = at(3000);
        let times = crate::export::flow::Times { at, base: crate::export::clock::Base::default() };
        out[0].flow().write(
            crate::export::element::element(
                crate::export::element::Value::OutputVlan,
                proto::flow::Version::V9,
                crate::export::element::Family::Ipv4,
            )
            .unwrap(),
            times,
            &mut octets,
        );
        octets
    };
    let dropped = Record { outcome: Outcome::Dropped(DropReason::AclDeny), ..tcp4() };
    assert_eq!(vlan_of(&[tcp4(), tcp4()]), [0, 10]);
    assert_eq!([vlan_of(&[dropped, dropped]), vlan_of(&[tcp4(), dropped])], [[0, 0], [0, 0]]);
}

#[test]
fn flows_that_agree_in_what_is_matched_are_one_record() {
    let mut records = vec![from([10, 0, 0, 1], 1), from([10, 0, 0, 1], 2), from([10, 0, 0, 9], 3), tcp6(), arp()];
    (records[1].first, records[1].last, records[1].tcp_flags) = (Instant::from_ms(10), Instant::from_ms(2600), 0x20);
    let out = all(by(&[Field::SourceAddress, Field::Protocol, Field::Bytes]), &records);
    assert_eq!(out.len(), 4);
    let sum = out[0].record;
    assert_eq!((sum.flows, sum.packets, sum.octets, sum.l2_octets), (2, 6, 3000, 3084));
    assert_eq!((sum.first.ms(), sum.last.ms(), sum.tcp_flags, sum.end), (10, 2600, 0x3b, EndReason::Forced));
    assert_eq!((sum.key.src_port, sum.key.dst_port, sum.key.dst, sum.vlan), (0, 0, [0; 16], None));
    assert_eq!((source(&out[0]), source(&out[1])), ([10, 0, 0, 1].into(), [10, 0, 0, 9].into()));
}

#[test]
fn families_are_one_record_where_they_are_written_alike() {
    let spec = Spec::of(&monitor(), Some(&user(&[Field::Vlan, Field::Bytes])), false).unwrap();
    let out = all(Aggregator::new(spec, 10), &[tcp4(), tcp6(), arp()]);
    assert_eq!((out.len(), out[0].record.flows, out[0].record.octets), (1, 3, 3060));
    assert_eq!(out[0].flow().vlan(), 10);
}

#[test]
fn what_is_collected_is_shown_where_all_agree() {
    let fields = [
        Field::DestinationAddress,
        Field::OutputInterface,
        Field::ForwardingStatus,
        Field::CollectVlan,
        Field::CollectSourceMac,
    ];
    let mut denied = from([10, 0, 0, 7], 5);
    denied.outcome = Outcome::Dropped(DropReason::AclDeny);
    let same = all(by(&fields), &[tcp4(), from([10, 0, 0, 3], 1)]);
    let flow = same[0].flow();
    assert_eq!((flow.output, flow.status(), flow.vlan(), flow.record.key.src_mac), (12, 64, 10, [2, 0, 0, 0, 0, 1]));
    assert_eq!(flow.dropped(), (0, 0));
    let mixed = all(by(&fields), &[tcp4(), denied]);
    let flow = mixed[0].flow();
    assert_eq!((mixed.len(), flow.output, flow.status(), flow.dropped()), (1, 0, 0, (3, 1500)));
    assert_eq!((flow.vlan(), flow.record.packets), (10, 6));
}

#[test]
fn icmp_is_told_apart_by_type_and_nothing_else_has_one() {
    let icmp = |kind: u16, code: u16| {
        let mut record = tcp4();
        (record.key.protocol, record.key.src_port, record.key.dst_port) = (1, 0, kind << 8 | code);
        record
    };
    let records = [icmp(3, 1), icmp(3, 4), icmp(8, 0), tcp4(), from([10, 0, 0, 1], 9)];
    let out = all(by(&[Field::IcmpType, Field::Packets]), &records);
    let seen: Vec<_> = out.iter().map(|e| (e.record.key.protocol, e.record.key.dst_port, e.record.flows)).collect();
    assert_eq!(seen, [(1, 0x0300, 2), (1, 0x0800, 1), (0, 0, 2)]);
}

/// `aggregation=192.0.0.0/8=16,10.0.0.0/8=16,80-89=80,3128=80` of ipt_NETFLOW's manual.
fn manual() -> [Aggregation; 4] {
    let net = |net: [u8; 4]| Aggregation::Address { net: u32::from_be_bytes(net), length: 8, to: 16 };
    let ports = |first, last| Aggregation::Port { first, last, to: 80 };
    [net([192, 0, 0, 0]), net([10, 0, 0, 0]), ports(80, 89), ports(3128, 3128)]
}

#[test]
fn the_example_of_the_manual() {
    let mut record = from([192, 168, 5, 7], 3128);
    record.key.dst = Ipv4Addr::new(172, 16, 1, 1).to_ipv6_mapped().octets();
    record.key.dst_port = 89;
    let out = all(ruled(&manual()), &[record]);
    let key = out[0].record.key;
    assert_eq!(
        (source(&out[0]), Ipv4Addr::from(Flow::ipv4(key.dst))),
        ([192, 168, 0, 0].into(), [172, 16, 1, 1].into())
    );
    assert_eq!((key.src_port, key.dst_port, out[0].sum.prefixes), (80, 80, [16, 0]));
    for (port, becomes) in [(79, 79), (80, 80), (84, 80), (89, 80), (90, 90), (3127, 3127), (3128, 80)] {
        let out = all(ruled(&manual()), &[from([10, 200, 3, 4], port)]);
        assert_eq!((out[0].record.key.src_port, source(&out[0])), (becomes, [10, 200, 0, 0].into()));
    }
    let flows: Vec<Record> = (0..100).map(|n| from([10, 0, n, n], 80 + u16::from(n % 10))).collect();
    let out = all(ruled(&manual()), &flows);
    assert_eq!((out.len(), out[0].record.flows, out[0].record.octets), (1, 100, 150_000));
}

#[test]
fn the_first_rule_that_fits_is_used_and_the_others_are_not() {
    let address = |net: [u8; 4], length, to| Aggregation::Address { net: u32::from_be_bytes(net), length, to };
    let port = |first, last, to| Aggregation::Port { first, last, to };
    let rules = [
        address([10, 1, 0, 0], 16, 32),
        port(80, 80, 8080),
        address([10, 0, 0, 0], 8, 0),
        port(1, 65_535, 1),
        address([0, 0, 0, 0], 0, 24),
    ];
    let seen = |address, port| {
        let out = all(ruled(&rules), &[from(address, port)]);
        (source(&out[0]).octets(), out[0].record.key.src_port)
    };
    assert_eq!(seen([10, 1, 2, 3], 80), ([10, 1, 2, 3], 8080));
    assert_eq!(seen([10, 2, 2, 3], 8080), ([0, 0, 0, 0], 1));
    assert_eq!(seen([11, 2, 2, 3], 0), ([11, 2, 2, 0], 0));
}

#[test]
fn rules_leave_ipv6_and_icmp_alone() {
    let mut icmp = tcp4();
    (icmp.key.protocol, icmp.key.src_port, icmp.key.dst_port) = (1, 0, 85);
    let out = all(ruled(&manual()), &[icmp, tcp6()]);
    assert_eq!(out[0].record.key.dst_port, 85);
    assert_eq!(out[1].record.key.src, tcp6().key.src);
}

/// The packets that answer `record`, between these moments.
fn answer(record: &Record, first: u64, last: u64) -> Record {
    let mut other = *record;
    (other.key.src, other.key.dst) = (record.key.dst, record.key.src);
    (other.key.src_mac, other.key.dst_mac) = (record.key.dst_mac, record.key.src_mac);
    (other.key.src_port, other.key.dst_port) = (record.key.dst_port, record.key.src_port);
    (other.packets, other.octets, other.l2_octets) = (7, 7000, 7098);
    (other.first, other.last) = (Instant::from_ms(first), Instant::from_ms(last));
    other.outcome = Outcome::Forwarded(vswitch::port::PortId(1));
    other
}

#[test]
fn both_directions_share_a_record_and_the_first_packet_says_who_began() {
    let asked = tcp4();
    let answered = answer(&asked, 1600, 2000);
    for order in [[asked, answered], [answered, asked]] {
        let out = all(conversations(), &order);
        assert_eq!(out.len(), 1);
        let (record, reverse) = (out[0].record, out[0].reverse.unwrap());
        assert_eq!((record.key.src, record.key.src_port, record.octets), (asked.key.src, 1024, 1500));
        assert_eq!(
            (reverse.record.key.src, reverse.record.octets, reverse.record.first.ms()),
            (asked.key.dst, 7000, 1600)
        );
        let halves = out[0].halves().map(|half| half.unwrap().record);
        assert_eq!(halves.map(|half| (half.key.dst_port, half.packets)), [(80, 3), (1024, 7)]);
    }
    let began = answer(&asked, 100, 200);
    let out = all(conversations(), &[asked, began]);
    assert_eq!((out[0].record.key.src, out[0].record.octets), (asked.key.dst, 7000));
}

#[test]
fn an_echo_and_its_reply_are_a_conversation_and_another_flow_is_not() {
    let mut echo = tcp4();
    (echo.key.protocol, echo.key.src_port, echo.key.dst_port, echo.tcp_flags) = (1, 0, 0x0800, 0);
    let mut reply = answer(&echo, 1600, 2000);
    (reply.key.src_port, reply.key.dst_port) = (0, 0);
    let out = all(conversations(), &[echo, reply, tcp4()]);
    assert_eq!(out.iter().map(|e| e.reverse.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(out[0].record.key.dst_port, 0x0800);
}

fn reasons(out: &[Emitted]) -> Vec<(u8, EndReason)> {
    out.iter().map(|emitted| (source(emitted).octets()[3], emitted.record.end)).collect()
}

#[test]
fn a_record_goes_out_when_nothing_comes_or_when_it_has_been_long() {
    let mut aggregator = by(&[Field::SourceAddress, Field::Bytes]);
    let mut out = Vec::new();
    for second in 0..70 {
        if second == 5 {
            aggregator.add(&flow(&from([10, 0, 0, 2], 1)), at(5000), &mut out);
        }
        aggregator.add(&flow(&from([10, 0, 0, 1], 1)), at(second * 1000), &mut out);
        aggregator.tick(at(second * 1000 + 1), &mut out);
        assert!(second >= 20 || out.is_empty());
    }
    assert_eq!(reasons(&out), [(2, EndReason::Idle), (1, EndReason::Active)]);
    assert_eq!(out[1].record.flows, 61);
}

#[test]
fn when_there_is_no_room_the_oldest_go_early_and_nothing_is_lost() {
    let mut aggregator = by(&[Field::SourceAddress, Field::Bytes]);
    aggregator.set_room(16);
    let mut out = Vec::new();
    for n in 0..40 {
        aggregator.add(&flow(&from([10, 0, 0, n], 1)), at(1000), &mut out);
    }
    assert!(aggregator.records.len() <= 16);
    let early: Vec<_> = (0..24).map(|n| (n, EndReason::LackOfResources)).collect();
    assert_eq!(reasons(&out), early);
    aggregator.flush(&mut out);
    assert_eq!(out.iter().map(|e| e.record.octets).sum::<u64>(), 40 * 1500);
}

fn any_record() -> impl Strategy<Value = Record> {
    let numbers = (0u8..3, 0u8..3, 0u16..4, 0u16..4, 0usize..4, 1u64..100, any::<bool>(), 0u64..3000);
    numbers.prop_map(|(a, b, from, to, kind, packets, drops, first)| {
        let mut record = [tcp4(), tcp4(), tcp6(), arp()][kind];
        (record.key.src[15], record.key.dst[15], record.key.src_port, record.key.dst_port) = (a, b, from, to);
        if kind == 1 {
            record.key.protocol = 1;
        }
        (record.packets, record.octets, record.l2_octets) = (packets, packets * 100, packets * 114);
        (record.first, record.last) = (Instant::from_ms(first), Instant::from_ms(first + packets));
        if drops {
            record.outcome = Outcome::Dropped(DropReason::AclDeny);
        }
        record
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is matched, whatever the room: sums are those of the flows, and no record comes twice with full room.
    #[test]
    fn sums_are_exact(
        records in proptest::collection::vec(any_record(), 0..80),
        fields in proptest::sample::subsequence(FIELDS.to_vec(), 0..FIELDS.len()),
        rules in proptest::bool::ANY,
        biflow in proptest::bool::ANY,
        by_family in proptest::bool::ANY,
        room in prop_oneof![Just(3usize), Just(1000)],
    ) {
        let aggregation = rules.then(|| manual().to_vec());
        let monitor = Monitor { aggregation, biflow: Some(biflow), ..monitor() };
        let spec = Spec::of(&monitor, Some(&user(&fields)), by_family).unwrap();
        let mut aggregator = Aggregator::new(spec, room);
        let mut out = Vec::new();
        for record in &records {
            aggregator.add(&flow(record), at(3000), &mut out);
        }
        aggregator.flush(&mut out);
        let halves: Vec<Emitted> = out.iter().flat_map(|emitted| emitted.halves()).flatten().collect();
        let sums = halves.iter().fold([0; 6], |sum, half| {
            let (packets, octets) = half.flow().dropped();
            let r = half.record;
            let own = [r.flows, r.packets, r.octets, r.l2_octets, packets, octets];
            std::array::from_fn(|n| sum[n] + own[n])
        });
        let expected = records.iter().fold([0; 6], |sum, r| {
            let (packets, octets) = flow(r).dropped();
            let own = [1, r.packets, r.octets, r.l2_octets, packets, octets];
            std::array::from_fn(|n| sum[n] + own[n])
        });
        prop_assert_eq!(sums, expected);
        for emitted in &out {
            let earliest = emitted.reverse.map_or(emitted.record.first, |reverse| reverse.record.first);
            prop_assert!(emitted.record.first <= earliest);
        }
    }
}

const FIELDS: [Field; 14] = [
    Field::IpVersion,
    Field::SourceAddress,
    Field::DestinationAddress,
    Field::SourcePort,
    Field::DestinationPort,
    Field::Protocol,
    Field::Vlan,
    Field::InputInterface,
    Field::MatchOutputInterface,
    Field::MatchForwardingStatus,
    Field::IcmpType,
    Field::IcmpCode,
    Field::OutputInterface,
    Field::Bytes,
];
