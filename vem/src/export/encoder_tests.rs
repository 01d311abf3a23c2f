use std::collections::BTreeMap;

use netflow_parser::{NetflowPacket, NetflowParser};
use proto::flow::{Field, Record as UserRecord};
use vswitch::flow::record::Record;
use vswitch::time::Instant;

use super::super::flow::tests::{arp, flow, overflow, tcp4, tcp6};
use super::super::options::{InterfaceRow, TimeoutRow};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const BOOT_MS: u64 = 1_700_000_000_250;

fn at(ms: u64) -> Moment {
    Moment { now: Instant::from_ms(ms), boot_ms: BOOT_MS }
}

fn setup(layouts: Vec<Layout>) -> Setup {
    Setup {
        payload_max: 1400,
        template_timeout: Duration::from_secs(60),
        template_datagrams: 20,
        option_timeouts: OptionTimeouts { interfaces: MINUTE, sampling: MINUTE, statistics: MINUTE },
        layouts,
        tables: Tables::default(),
    }
}

fn encoder(version: Version, setup: Setup) -> Encoder {
    let mut encoder = Encoder::new(version, 3);
    encoder.configure(setup, at(0), &mut Vec::new());
    encoder
}

fn full(version: Version) -> Encoder {
    encoder(version, setup(vec![Layout::full(version)]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn joined(parts: &[&str]) -> String {
    parts.concat().replace(' ', "")
}

fn be16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

fn sequence(version: Version, datagram: &Datagram) -> u32 {
    let offset = if version == Version::Ipfix { 8 } else { 12 };
    u32::from_be_bytes(datagram.bytes[offset..offset + 4].try_into().unwrap())
}

/// Sets of a datagram: id, and content without header.
fn sets(version: Version, bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut rest = &bytes[if version == Version::Ipfix { 16 } else { 20 }..];
    let mut sets = Vec::new();
    while !rest.is_empty() {
        let (set, after) = rest.split_at(be16(rest, 2).into());
        assert_eq!(set.len() % 4, 0);
        sets.push((be16(set, 0), set[4..].to_vec()));
        rest = after;
    }
    sets
}

/// Datagrams for `records`, one after the other, with the ticks that end them.
fn export(encoder: &mut Encoder, records: &[Record]) -> Vec<Datagram> {
    let mut out = Vec::new();
    for record in records {
        encoder.push(&flow(record), 0, at(3_000), &mut out);
    }
    encoder.tick(at(4_000), &mut out);
    out
}

/// The first data set of id `id`, as hexadecimal digits.
fn data_set(version: Version, record: &Record, id: u16) -> String {
    let out = export(&mut full(version), &[*record]);
    let sets: Vec<_> = out.iter().flat_map(|datagram| sets(version, &datagram.bytes)).collect();
    hex(&sets.into_iter().find(|set| set.0 == id).unwrap().1)
}

#[test]
fn golden_v9_records() {
    // octets packets first last | addresses in out | ports, ICMP | MACs VLAN | protocol ToS flags | version direction end status
    let v4 = [
        "00000000000005dc 0000000000000003 000005dc 000008ca",
        "0a000001 0a000002 0000000b 0000000c",
        "0400 0000 0050",
        "020000000001 020000000002 000a",
        "06 b8 1b 04 00 03 40",
        "00",
    ];
    assert_eq!(data_set(Version::V9, &tcp4(), 256), joined(&v4));
    let v6 = [
        "00000000000005dc 0000000000000003 000005dc 000008ca",
        "20010db8000000000000000000000001 20010db8000000000000000000000002 0000000b 0000000c",
        "0400 0000 0050",
        "020000000001 020000000002 000a",
        "06 b8 1b 06 00 03 40",
        "00",
    ];
    assert_eq!(data_set(Version::V9, &tcp6(), 257), joined(&v6));
    let link = [
        "000000000000003c 0000000000000001 000005dc 000008ca",
        "0000000b 00000000",
        "020000000001 ffffffffffff 000a 0806",
        "00 03 40",
        "00",
    ];
    assert_eq!(data_set(Version::V9, &arp(), 258), joined(&link));
    // octets packets flows first last | interfaces | EtherType direction end status
    let sum = [
        "0000000000401640 0000000000011170 0000000000011170 000005dc 000008ca",
        "0000000b 0000000c",
        "0800 00 05 40",
        "000000",
    ];
    assert_eq!(data_set(Version::V9, &overflow(), 259), joined(&sum));
}

#[test]
fn golden_ipfix_records() {
    // 1,700,000,001,750 and 1,700,000,002,500 ms, 750 ms apart.
    let v4 = [
        "00000000000005dc 0000000000000003 0000000000000606 0000018bcfe56ed6 0000018bcfe571c4 000002ee",
        "0a000001 0a000002 0000000b 0000000c",
        "0400 0000 0050",
        "020000000001 020000000002 000a 000a 0800",
        "06 b8 1b 04 00 03 40",
        "00",
    ];
    assert_eq!(data_set(Version::Ipfix, &tcp4(), 256), joined(&v4));
    let link = [
        "000000000000003c 0000000000000001 000000000000003c 0000018bcfe56ed6 0000018bcfe571c4 000002ee",
        "0000000b 00000000",
        "020000000001 ffffffffffff 000a 000a 0806",
        "00 03 40",
        "000000",
    ];
    assert_eq!(data_set(Version::Ipfix, &arp(), 258), joined(&link));
}

fn small(version: Version) -> Encoder {
    let fields = vec![Field::SourceAddress, Field::Bytes, Field::Protocol];
    let mut setup = setup(Layout::custom(version, &[UserRecord { name: "r".into(), fields }]));
    setup.tables.interfaces = vec![InterfaceRow { if_index: 7, name: "Eth1".into(), description: "up".into() }];
    setup.tables.timeouts = vec![TimeoutRow { monitor: 1, active_s: 1800, inactive_s: 15 }];
    encoder(version, setup)
}

#[test]
fn golden_v9_datagram() {
    let out = export(&mut small(Version::V9), &[tcp4()]);
    let expected = [
        // 13 records, uptime 4750 at second 1700000005, sequence 0, source 3
        "0009 000d 0000128e 6553f105 00000000 00000003",
        "0000 0014 256d 0003 0008 0004 0001 0008 0004 0001",
        "0000 0014 3900 0003 001b 0010 0001 0008 0004 0001",
        "0000 000c 4132 0001 0001 0008",
        "0000 0034 0103 000b 0001 0008 0002 0008 0003 0008 0016 0004 0015 0004 000a 0004 000e 0004",
        "0100 0002 003d 0001 0088 0001 0059 0001",
        "0001 0018 0200 0004 0008 0002 0004 0052 0020 0053 0040 0000",
        "0001 0018 0201 0004 0008 0001 0004 0022 0004 0023 0001 0000",
        "0001 0028 0202 0004 0018 0001 0004 0028 0008 0029 0008 002a 0008 00a6 0008 00a7 0008 00a8 0008 0000",
        "0001 0018 0203 0004 0008 0004 0004 0024 0002 0025 0002 0000",
        "0201 0010 00000003 00000001 01 000000",
        "0203 000c 00000001 0708 000f",
        "0202 0038 00000003",
        "0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "0200 0068 00000007 45746831",
        &"0".repeat(2 * 28),
        "7570",
        &"0".repeat(2 * 62),
        "256d 0014 0a000001 00000000000005dc 06 000000",
    ];
    assert_eq!(out.len(), 1);
    assert_eq!(hex(&out[0].bytes), joined(&expected));
    assert_eq!(out[0].weight, Weight { templates: 8, options: 4, flows: 1, packets: 3, octets: 1500 });
}

#[test]
fn golden_ipfix_datagram() {
    let out = export(&mut small(Version::Ipfix), &[tcp4()]);
    let expected = [
        // length 456, second 1700000004, sequence 0, domain 3
        "000a 01c8 6553f104 00000000 00000003",
        "0002 0014 256d 0003 0008 0004 0001 0008 0004 0001",
        "0002 0014 3900 0003 001b 0010 0001 0008 0004 0001",
        "0002 000c 4132 0001 0001 0008",
        "0002 003c 0103 000d 0001 0008 0002 0008 0160 0008 0003 0008 0098 0008 0099 0008 00a1 0004",
        "000a 0004 000e 0004 0100 0002 003d 0001 0088 0001 0059 0001",
        "0003 0018 0200 0003 0001 000a 0004 0052 0020 0053 0040 0000",
        "0003 001c 0201 0004 0001 0095 0004 0130 0002 0131 0004 0132 0004 0000",
        "0003 0028 0202 0007 0001 0090 0004 0028 0008 0029 0008 002a 0008 00a6 0008 00a7 0008 00a8 0008 0000",
        "0003 0018 0203 0003 0001 008f 0004 0024 0002 0025 0002 0000",
        "0201 0014 00000003 0001 00000001 00000000 0000",
        "0203 000c 00000001 0708 000f",
        "0202 0038 00000003",
        "0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000",
        "0200 0068 00000007 45746831",
        &"0".repeat(2 * 28),
        "7570",
        &"0".repeat(2 * 62),
        "256d 0014 0a000001 00000000000005dc 06 000000",
    ];
    assert_eq!(out.len(), 1);
    assert_eq!(hex(&out[0].bytes), joined(&expected));
}

#[test]
fn sequence_of_v9_counts_datagrams_and_of_ipfix_data_records() {
    for version in [Version::V9, Version::Ipfix] {
        let mut encoder = full(version);
        let out = export(&mut encoder, &[tcp4(); 100]);
        assert!(out.len() > 5);
        let mut expected = 0;
        for datagram in &out {
            assert_eq!(sequence(version, datagram), expected, "{version:?}");
            let data = datagram.weight.options + datagram.weight.flows;
            expected += if version == Version::Ipfix { data } else { 1 };
        }
        assert_eq!(out.iter().map(|datagram| datagram.weight.flows).sum::<u32>(), 100);
    }
}

#[test]
fn templates_come_before_data_and_in_every_twentieth_datagram() {
    for version in [Version::V9, Version::Ipfix] {
        let out = export(&mut full(version), &vec![tcp4(); 2000]);
        let with_templates = out.iter().map(|datagram| datagram.weight.templates > 0).collect::<Vec<_>>();
        assert!(with_templates[0]);
        assert!(out[0].weight.flows > 0, "together with the first data");
        assert!(with_templates.windows(20).all(|window| window.contains(&true)), "{version:?}");
        assert!(with_templates.iter().filter(|with| **with).count() <= 2 + out.len() / 19, "{version:?}");
    }
}

#[test]
fn no_datagram_exceeds_the_payload_and_full_ones_are_full() {
    for version in [Version::V9, Version::Ipfix] {
        for payload_max in [512, 600, 1400, 8972] {
            let mut setup = setup(vec![Layout::full(version)]);
            setup.payload_max = payload_max;
            let interface = |if_index| InterfaceRow { if_index, name: "x".repeat(300), description: "y".repeat(300) };
            setup.tables.interfaces = (1..50).map(interface).collect();
            let records: Vec<Record> = (0..300).map(|i| [tcp4(), tcp6(), arp()][i % 3]).collect();
            let out = export(&mut encoder(version, setup), &records);
            assert!(out.iter().all(|datagram| datagram.bytes.len() <= payload_max), "{version:?} {payload_max}");
            assert_eq!(out.iter().map(|datagram| datagram.weight.flows).sum::<u32>(), 300);
            let one_template = out.iter().filter(|d| d.weight.flows > 0 && d.weight.templates == 0);
            let full = one_template.filter(|datagram| datagram.bytes.len() + 200 > payload_max).count();
            assert!(payload_max != 1400 || full * 2 > out.len(), "{version:?} {payload_max}: {full}");
        }
    }
}

#[test]
fn records_wait_a_second_for_others() {
    let mut encoder = full(Version::V9);
    let mut out = Vec::new();
    encoder.tick(at(1), &mut out);
    out.clear();
    encoder.push(&flow(&tcp4()), 0, at(5_000), &mut out);
    encoder.tick(at(5_999), &mut out);
    assert_eq!(out, []);
    encoder.tick(at(6_000), &mut out);
    assert_eq!(out.len(), 1);
    assert!(out[0].weight.templates > 0, "the first with flows has templates again");
    encoder.tick(at(8_000), &mut out);
    encoder.flush(at(8_000), &mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn templates_and_options_keep_their_times() {
    let mut encoder = full(Version::Ipfix);
    let (mut templates, mut options) = (Vec::new(), Vec::new());
    for second in 0..600 {
        let mut out = Vec::new();
        encoder.tick(at(second * 1000), &mut out);
        for datagram in out {
            templates.extend((datagram.weight.templates > 0).then_some(second));
            options.extend((datagram.weight.options > 0).then_some(second));
        }
    }
    assert_eq!(templates, [0, 30, 60, 90, 120, 150, 180, 210, 240, 270, 330, 390, 450, 510, 570]);
    assert_eq!(options, [0, 60, 120, 180, 240, 300, 360, 420, 480, 540]);
}

#[test]
fn each_table_has_its_time_and_a_large_one_is_spread() {
    let mut setup = setup(vec![Layout::full(Version::V9)]);
    let interface = |if_index| InterfaceRow { if_index, name: "i".into(), description: String::new() };
    setup.tables.interfaces = (1..=250).map(interface).collect();
    let seconds = Duration::from_secs;
    setup.option_timeouts = OptionTimeouts { interfaces: seconds(20), sampling: seconds(7), statistics: seconds(100) };
    let mut encoder = encoder(Version::V9, setup);
    let mut sent = [const { Vec::new() }; 3];
    for tenth in 0..400 {
        let mut out = Vec::new();
        encoder.tick(at(tenth * 100), &mut out);
        let ids = out.iter().flat_map(|datagram| sets(Version::V9, &datagram.bytes));
        let mut ids: Vec<u16> = ids.map(|(id, _)| id).collect();
        ids.dedup();
        [512, 513, 514].iter().zip(&mut sent).filter(|(id, _)| ids.contains(id)).for_each(|(_, s)| s.push(tenth));
        assert!(out.iter().map(|datagram| datagram.weight.options).sum::<u32>() <= 100);
    }
    assert_eq!(sent, [vec![0, 1, 2, 200, 201, 202], vec![0, 70, 140, 210, 280, 350], vec![0]]);
}

#[test]
fn templates_come_as_often_as_configured() {
    let mut setup = setup(vec![Layout::full(Version::Ipfix)]);
    setup.template_datagrams = 3;
    let out = export(&mut encoder(Version::Ipfix, setup), &vec![tcp4(); 300]);
    let with = out.iter().map(|datagram| datagram.weight.templates > 0).collect::<Vec<_>>();
    assert!(with.windows(3).all(|window| window.iter().filter(|with| **with).count() == 1), "{with:?}");
}

#[test]
fn templates_come_again_after_an_error_and_after_a_change() {
    let mut encoder = full(Version::V9);
    export(&mut encoder, &[tcp4()]);
    let out = export(&mut encoder, &[tcp4()]);
    assert_eq!(out.iter().map(|datagram| datagram.weight.templates).sum::<u32>(), 0);
    encoder.resend_templates();
    let mut out = Vec::new();
    encoder.tick(at(4_500), &mut out);
    assert_eq!(out, [], "an error alone sends nothing");
    assert_eq!(export(&mut encoder, &[tcp4()])[0].weight.templates, 8);

    encoder.push(&flow(&tcp4()), 0, at(5_000), &mut out);
    let fields = vec![Field::Bytes];
    let other = setup(Layout::custom(Version::V9, &[UserRecord { name: "r".into(), fields }]));
    encoder.configure(other, at(5_100), &mut out);
    assert_eq!(sets(Version::V9, &out[0].bytes)[0].0, 256, "what waits goes as its template says");
    out.clear();
    encoder.tick(at(5_200), &mut out);
    assert_eq!(out[0].weight.templates, 6, "one for all families, one for overflows, and the tables");
}

#[test]
fn flows_without_a_template_and_refused_ones_are_told_to_the_collector() {
    let fields = vec![Field::Protocol];
    let mut encoder =
        encoder(Version::V9, setup(Layout::custom(Version::V9, &[UserRecord { name: "r".into(), fields }])));
    export(&mut encoder, &[arp(), tcp4()]);
    assert_eq!(encoder.not_exportable(), 1);
    encoder.lose(Weight::flow(10, 1000));
    let mut out = Vec::new();
    encoder.tick(at(70_000), &mut out);
    let sets = sets(Version::V9, &out[0].bytes);
    let statistics = &sets.iter().find(|set| set.0 == 514).unwrap().1;
    let numbers: Vec<u64> = statistics[4..].chunks(8).map(|n| u64::from_be_bytes(n.try_into().unwrap())).collect();
    assert_eq!(numbers[1..], [1, 1, 2, 11, 1060]);
}

/// Ids of the data sets of a packet, and the number of records that netflow_parser found in each.
fn data_sets(packet: &NetflowPacket) -> Vec<(u16, usize)> {
    use netflow_parser::variable_versions::{ipfix, v9};
    match packet {
        NetflowPacket::V5(v5) => vec![(5, v5.flowsets.len())],
        NetflowPacket::V9(v9) => {
            let records = |set: &v9::FlowSet| match &set.body {
                v9::FlowSetBody::Data(data) => Some((set.header.flowset_id, data.fields.len())),
                v9::FlowSetBody::OptionsData(data) => Some((set.header.flowset_id, data.fields.len())),
                v9::FlowSetBody::NoTemplate(_) | v9::FlowSetBody::Empty => panic!("unread set {set:?}"),
                _ => None,
            };
            v9.flowsets.iter().filter_map(records).collect()
        }
        NetflowPacket::IPFix(ipfix) => {
            let records = |set: &ipfix::FlowSet| match &set.body {
                ipfix::FlowSetBody::Data(data) => Some((set.header.header_id, data.fields.len())),
                ipfix::FlowSetBody::OptionsData(data) => Some((set.header.header_id, data.fields.len())),
                ipfix::FlowSetBody::Template(_) | ipfix::FlowSetBody::OptionsTemplate(_) => None,
                _ => panic!("unread set {set:?}"),
            };
            ipfix.flowsets.iter().filter_map(records).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn netflow_parser_reads_what_was_written() {
    for version in [Version::V5, Version::V9, Version::Ipfix] {
        let records: Vec<Record> = (0..90).map(|i| [tcp4(), tcp6(), arp()][i % 3]).collect();
        let mut setup = setup(vec![Layout::full(version)]);
        let interface =
            |if_index| InterfaceRow { if_index, name: format!("Vethernet{if_index}"), description: "vm".into() };
        setup.tables.interfaces = (1..=40).map(interface).collect();
        setup.tables.timeouts = vec![TimeoutRow { monitor: 1, active_s: 1800, inactive_s: 15 }];
        let mut parser = NetflowParser::default();
        let mut counts = BTreeMap::new();
        let mut text = String::new();
        for datagram in export(&mut encoder(version, setup), &records) {
            let result = parser.parse_bytes(&datagram.bytes);
            assert!(result.error.is_none(), "{version:?}: {:?}", result.error);
            for packet in result.packets {
                for (set, records) in data_sets(&packet) {
                    *counts.entry(set).or_insert(0) += records;
                }
                text.push_str(&serde_json::to_string(&packet).unwrap());
            }
        }
        let seen = |value: &str| text.matches(value).count();
        assert_eq!((seen("\"10.0.0.1\""), seen("\"10.0.0.2\"")), (30, 30), "{version:?}");
        if version == Version::V5 {
            assert_eq!(counts, BTreeMap::from([(5, 30)]));
        } else {
            let expected = [(256, 30), (257, 30), (258, 30), (512, 40), (513, 1), (514, 1), (515, 1)];
            assert_eq!(counts, BTreeMap::from(expected), "{version:?}");
            assert_eq!((seen("\"2001:db8::1\""), seen("\"2001:db8::2\"")), (30, 30), "{version:?}");
            assert_eq!(seen("\"Vethernet40"), 1);
        }
    }
}
