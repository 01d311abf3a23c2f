//! nfcapd and nfdump, and tshark, judge the flow export: records go through a real ring, thread and socket to a collector
//! on loopback, and what it stored is compared field by field.

mod export_judges;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use export_judges::{Nfcapd, Stored, judges, tshark};
use proto::addr::VlanId;
use proto::flow::{Aggregation, Destination, Exporter, Field, Monitor, Version};
use serde_json::Value;
use vem::export::{self, Anchor, Config, ExportHandle, Interface};
use vswitch::flow::key::{FlowKey, shape};
use vswitch::flow::record::{EndReason, Outcome, Record};
use vswitch::port::PortId;
use vswitch::time::Instant;
use vswitch::verdict::DropReason;

fn mapped(last: u8) -> [u8; 16] {
    Ipv4Addr::new(10, 1, 0, last).to_ipv6_mapped().octets()
}

fn v6(last: u16) -> [u8; 16] {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets()
}

/// IPv4, IPv6, ICMP of both, ARP, denied, seen where it leaves; each in a millisecond of its own.
fn records() -> Vec<Record> {
    let tcp = Record {
        key: FlowKey {
            src: mapped(1),
            dst: mapped(2),
            dst_mac: [2, 0, 0, 0, 0, 2],
            src_mac: [2, 0, 0, 0, 0, 1],
            in_port: 4,
            ethertype: 0x0800,
            src_port: 40_000,
            dst_port: 443,
            protocol: 6,
            tos: 0xb8,
            shape: shape::IPV4 | shape::PORTS,
            ..FlowKey::default()
        },
        vlan: VlanId::new(10),
        flows: 1,
        packets: 12,
        octets: 9_000,
        l2_octets: 9_168,
        first: Instant::from_ms(1_001),
        last: Instant::from_ms(2_345),
        tcp_flags: 0x1b,
        outcome: Outcome::Forwarded(PortId(5)),
        end: EndReason::EndDetected,
        sampling: Default::default(),
        detail: Default::default(),
        again: false,
        monitors_in: 1,
        monitors_out: 0,
    };
    let mut large = tcp;
    (large.key.src, large.octets, large.packets, large.first) =
        (mapped(3), 3 << 32, 9_000_000, Instant::from_ms(1_002));
    let mut icmp = tcp;
    (icmp.key.src, icmp.key.protocol, icmp.key.src_port, icmp.key.dst_port, icmp.tcp_flags) =
        (mapped(4), 1, 0, 0x0304, 0);
    icmp.first = Instant::from_ms(1_003);
    let mut tcp6 = tcp;
    (tcp6.key.src, tcp6.key.dst, tcp6.key.ethertype, tcp6.key.shape) =
        (v6(1), v6(2), 0x86dd, shape::IPV6 | shape::PORTS);
    tcp6.first = Instant::from_ms(1_004);
    let mut icmp6 = tcp6;
    (icmp6.key.src, icmp6.key.protocol, icmp6.key.src_port, icmp6.key.dst_port, icmp6.tcp_flags) =
        (v6(3), 58, 0, 0x8001, 0);
    icmp6.first = Instant::from_ms(1_005);
    let mut denied = tcp;
    (denied.key.src, denied.outcome, denied.vlan) = (mapped(6), Outcome::Dropped(DropReason::AclDeny), VlanId::new(20));
    denied.first = Instant::from_ms(1_006);
    let mut leaving = tcp;
    (leaving.key.src, leaving.monitors_in, leaving.monitors_out) = (mapped(7), 0, 1);
    leaving.first = Instant::from_ms(1_007);
    let mut arp = tcp;
    (arp.key.ethertype, arp.key.shape, arp.key.protocol, arp.key.src_port, arp.key.dst_port, arp.key.tos) =
        (0x0806, shape::ARP, 0, 0, 1, 0);
    (arp.packets, arp.octets, arp.l2_octets, arp.tcp_flags, arp.outcome) = (2, 120, 120, 0, Outcome::Flooded);
    (arp.key.dst_mac, arp.first) = ([0xff; 6], Instant::from_ms(1_008));
    vec![tcp, large, icmp, tcp6, icmp6, denied, leaving, arp]
}

fn config(version: Version, ports: &[u16]) -> Config {
    let interface = |port, if_index| Interface {
        port: PortId(port),
        if_index,
        name: format!("Vethernet{if_index}"),
        description: format!("port {port}"),
        uplink: false,
    };
    let destination = |port: &u16| Destination::new(Ipv4Addr::LOCALHOST.into(), *port);
    Config {
        module: 3,
        records: Vec::new(),
        exporters: vec![Exporter {
            name: "judge".into(),
            destinations: ports.iter().map(destination).collect(),
            version,
            dscp: 46,
            template_timeout_s: 60,
            option_timeout_s: 60,
            payload_max: 1400,
            ..Exporter::default()
        }],
        monitors: vec![Monitor {
            name: "m".into(),
            record: None,
            exporters: vec!["judge".into()],
            active_s: 1800,
            inactive_s: 15,
            ..Monitor::default()
        }],
        interfaces: vec![interface(4, 104), interface(5, 70_00)],
        ..Config::default()
    }
}

/// What the judges got.
struct Judged {
    stored: Stored,
    datagrams: Vec<Vec<u8>>,
    /// Wall clock time of the records' moment 0, milliseconds since 1970.
    boot_ms: u64,
}

fn export(version: Version, records: &[Record]) -> Judged {
    export_as(|ports| config(version, ports), records)
}

fn export_as(config: impl Fn(&[u16]) -> Config, records: &[Record]) -> Judged {
    export_slowly(config, records, Duration::ZERO)
}

/// With a pause behind each record.
fn export_slowly(config: impl Fn(&[u16]) -> Config, records: &[Record], pause: Duration) -> Judged {
    let nfcapd = Nfcapd::start();
    let tap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    tap.set_nonblocking(true).unwrap();
    // Three seconds ago, so that the records' moments are in the past.
    let origin = StdInstant::now() - Duration::from_secs(3);
    let boot_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 - origin.elapsed().as_millis() as u64;
    let (mut ring, consumer) = rtrb::RingBuffer::new(1024);
    let handle: ExportHandle = export::start(vec![consumer], Anchor::new(origin)).unwrap();
    handle.configure(config(&[nfcapd.port, tap.local_addr().unwrap().port()])).unwrap();
    for record in records {
        ring.push(*record).unwrap();
        std::thread::sleep(pause);
    }
    // All wait for the same second, or have filled a datagram; the stop sends what is left.
    handle.stop();
    let mut datagrams = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok(length) = tap.recv(&mut buffer) {
        datagrams.push(buffer[..length].to_vec());
    }
    Judged { stored: nfcapd.stop(), datagrams, boot_ms }
}

/// `2026-11-21T01:40:09.700` in UTC as milliseconds since 1970.
fn wall_ms(text: &str) -> u64 {
    let numbers: Vec<u64> = text.split(['-', 'T', ':', '.']).map(|number| number.parse().unwrap()).collect();
    let [year, month, day, hour, minute, second, ms] = numbers[..] else { panic!("{text}") };
    // Days since 1970 by the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms
}

/// The numbers of a flow in nfdump's JSON that a record decides; what nfdump does not say is left out.
fn expected(record: &Record, version: Version) -> Vec<(&'static str, Value)> {
    let key = &record.key;
    let mac = |mac: [u8; 6]| mac.map(|octet| format!("{octet:02x}")).join(":");
    let output = if let Outcome::Forwarded(_) = record.outcome { 7000 } else { 0 };
    let mut fields: Vec<(&str, Value)> = vec![
        ("sampled", 0.into()),
        ("in_packets", record.packets.into()),
        ("in_bytes", record.octets.into()),
        ("proto", key.protocol.into()),
        ("src_tos", key.tos.into()),
        ("input_snmp", 104.into()),
        ("output_snmp", output.into()),
    ];
    match (key.src_ip(), key.dst_ip()) {
        (Some(source), Some(destination)) => {
            let family = if source.is_ipv4() { ("src4_addr", "dst4_addr") } else { ("src6_addr", "dst6_addr") };
            fields.extend([(family.0, source.to_string().into()), (family.1, destination.to_string().into())]);
        }
        _ => assert!(key.is(shape::ARP)),
    }
    match key.protocol {
        1 | 58 => {
            fields.extend([("icmp_type", (key.dst_port >> 8).into()), ("icmp_code", (key.dst_port & 255).into())])
        }
        6 => fields.extend([
            ("src_port", key.src_port.into()),
            ("dst_port", key.dst_port.into()),
            ("tcp_flags", "...AP.SF".into()),
        ]),
        _ => {}
    }
    if version != Version::V5 {
        fields.extend([
            ("in_src_mac", mac(key.src_mac).into()),
            ("in_dst_mac", mac(key.dst_mac).into()),
            ("src_vlan", record.vlan.unwrap().get().into()),
            ("direction", (record.monitors_out & 1).into()),
        ]);
    }
    if version == Version::V9 {
        // nfdump 1.7.1 reads it in version 9 only.
        let status = if let Outcome::Dropped(_) = record.outcome { 129 } else { 64 };
        fields.push(("fwd_status", status.into()));
    }
    fields
}

fn compare(version: Version, records: &[Record], judged: &Judged) {
    let flows = judged.stored.flows();
    assert_eq!(flows.len(), records.len(), "{version:?}: {flows:?}");
    let time = |flow: &Value, name: &str| wall_ms(flow[name].as_str().unwrap());
    // The clocks were read one after the other: the whole may be off by a bit, the flows against each other may not.
    let first = |flow: &Value| time(flow, "first").saturating_sub(judged.boot_ms + 1_000);
    let offset = flows.iter().map(first).min().unwrap() as i64 - 1;
    assert!(offset.abs() <= 50, "{version:?}: times are off by {offset} ms");
    for record in records {
        let at = |moment: Instant| (judged.boot_ms + moment.ms()).saturating_add_signed(offset);
        let flow = flows.iter().find(|flow| time(flow, "first") == at(record.first));
        let flow = flow.unwrap_or_else(|| panic!("{version:?}: nothing begins at {}: {flows:?}", at(record.first)));
        assert_eq!(time(flow, "last"), at(record.last), "{version:?}: {flow}");
        for (name, value) in expected(record, version) {
            assert_eq!(flow[name], value, "{version:?}: {name} of {flow}");
        }
    }
    assert!(judged.stored.log.contains("Sequence Errors: 0, Bad Packets: 0"), "{}", judged.stored.log);
    assert!(judged.stored.nfdump(&["-I"]).contains("Sequence failures: 0"));
    for complaint in ["error", "rror:", "fail", "mismatch", "unknown"] {
        let log = judged.stored.log.replace("Sequence Errors: 0", "");
        assert!(!log.contains(complaint), "{log}");
    }
}

/// tshark finds nothing wrong, and `records` of flows and options; returns its text.
fn lint(judged: &Judged, records: usize) -> String {
    let text = tshark(&judged.datagrams, &["-V"]);
    for complaint in ["alformed", "xpert Info", "o template", "emplate not found", "nknown Field"] {
        assert!(!text.contains(complaint), "{complaint}: {text}");
    }
    let found = text.lines().filter(|line| line.starts_with("        Flow ") || line.starts_with("    pdu ")).count();
    assert_eq!(found, records, "{text}");
    text
}

/// What both formats with templates have, in tshark's words.
fn lint_templates(judged: &Judged) -> String {
    // Flows; two interfaces, sampling, statistics, timeouts.
    let text = lint(judged, records().len() + 5);
    for (words, count) in [
        ("ForwardingStatus: Forward (1)", 7),
        ("ForwardingStatusDropCode: Drop ACL Deny (1)", 1),
        ("Direction: Egress (1)", 1),
        ("Flow End Reason: End of Flow detected (3)", 8),
        ("IfName: Vethernet104", 1),
        ("IfDescr: port 5", 1),
        ("Flow active timeout: 1800", 1),
    ] {
        assert_eq!(text.matches(words).count(), count, "{words}: {text}");
    }
    text
}

#[test]
fn version_5() {
    if !judges() {
        return;
    }
    // Of the records that version 5 can carry, the large one comes as six, which the unit tests look at.
    let sent = records();
    let judged = export(Version::V5, &sent);
    assert!(judged.stored.log.contains("Packets: 9000048, Bytes: 12884937888"), "{}", judged.stored.log);
    let small: Vec<Record> = sent.into_iter().filter(|r| r.key.is(shape::IPV4) && r.octets < 1 << 31).collect();
    let judged = export(Version::V5, &small);
    compare(Version::V5, &small, &judged);
    lint(&judged, small.len());
}

#[test]
fn version_9() {
    if !judges() {
        return;
    }
    let judged = export(Version::V9, &records());
    compare(Version::V9, &records(), &judged);
    let text = lint_templates(&judged);
    assert!(text.contains("SamplingInterval: 1") || text.contains("Sampling interval: 1"), "{text}");
}

#[test]
fn ipfix() {
    if !judges() {
        return;
    }
    let judged = export(Version::Ipfix, &records());
    compare(Version::Ipfix, &records(), &judged);
    let text = lint_templates(&judged);
    assert!(text.contains("Sampling Packet Interval: 1") && text.contains("Sampling Packet Space: 0"), "{text}");
    assert_eq!(text.matches("Layer2 Octet Delta Count: 9168").count(), 7);
}

#[test]
fn a_collector_by_ipv6_gets_what_one_by_ipv4_gets() {
    if !judges() {
        return;
    }
    for version in [Version::V5, Version::V9, Version::Ipfix] {
        let six = Nfcapd::start_at(Ipv6Addr::LOCALHOST.into());
        let to_both = |ports: &[u16]| {
            let mut config = config(version, ports);
            config.exporters[0].destinations.push(Destination::new(Ipv6Addr::LOCALHOST.into(), six.port));
            config
        };
        let four = export_as(to_both, &records()).stored;
        let six = six.stop();
        // All but when they came, and from where.
        let said = |stored: &Stored, router: (&str, &str)| -> Vec<Value> {
            let mut flows = stored.flows();
            for flow in flows.iter_mut().filter_map(Value::as_object_mut) {
                assert!(flow.remove("received").is_some());
                assert_eq!(flow.remove(router.0), Some(router.1.into()));
            }
            flows
        };
        assert_eq!(said(&four, ("ip4_router", "127.0.0.1")), said(&six, ("ip6_router", "::1")), "{version:?}");
        assert!(six.nfdump(&["-I"]).contains("Sequence failures: 0"));
    }
}

#[test]
fn no_record_and_no_sequence_number_is_lost_over_many_datagrams() {
    if !judges() {
        return;
    }
    for version in [Version::V5, Version::V9, Version::Ipfix] {
        let sent: Vec<Record> = (0..600)
            .map(|port| {
                let mut record = records()[0];
                record.key.src_port = port;
                record.octets += u64::from(port);
                record
            })
            .collect();
        let judged = export(version, &sent);
        assert!(judged.datagrams.len() > 20, "{version:?}");
        let octets: u64 = sent.iter().map(|record| record.octets).sum();
        let totals = format!("Flows: 600, Packets: 7200, Bytes: {octets}, Sequence Errors: 0, Bad Packets: 0");
        assert!(judged.stored.log.contains(&totals), "{version:?}: {}", judged.stored.log);
        let text = tshark(&judged.datagrams, &["-V"]);
        assert!(!text.contains("alformed") && !text.contains("xpert Info"), "{version:?}: {text}");
    }
}

/// Sets of a datagram of IPFIX: flows, and options data.
fn sets(datagram: &[u8]) -> [usize; 2] {
    let (mut at, mut found) = (16, [0; 2]);
    while let Some(&[id, low, length, behind]) = datagram.get(at..at + 4).and_then(|head| head.first_chunk()) {
        match u16::from_be_bytes([id, low]) {
            256..512 => found[0] += 1,
            512.. => found[1] += 1,
            _ => {}
        }
        at += usize::from(u16::from_be_bytes([length, behind]));
    }
    found
}

/// Options data that comes again between flows. RFC 7011 section 3.1 has the sequence count all data records, and tshark
/// agrees with each number. nfcapd counts flows only: to it each datagram with options data is one failure, and nothing else is.
/// Version 9 counts datagrams, in which all agree.
#[test]
fn options_data_that_comes_again_is_counted_as_the_rfc_says() {
    if !judges() {
        return;
    }
    let often = |version| {
        move |ports: &[u16]| {
            let mut config = config(version, ports);
            let exporter = &mut config.exporters[0];
            exporter.option_timeout_s = 1;
            (exporter.sampler_timeout_s, exporter.statistics_timeout_s) = (Some(1), Some(1));
            config
        }
    };
    let sent = vec![records()[0]; 40];
    for version in [Version::V9, Version::Ipfix] {
        let judged = export_slowly(often(version), &sent, Duration::from_millis(100));
        let text = tshark(&judged.datagrams, &["-V"]);
        assert!(!text.contains("alformed") && !text.contains("xpert Info"), "{version:?}: {text}");
        let (mut flows, mut failures, mut rounds) = (0, 0, 0);
        for (at, datagram) in judged.datagrams.iter().enumerate().filter(|_| version == Version::Ipfix) {
            let [with_flows, with_options] = sets(datagram);
            flows += with_flows;
            rounds += usize::from(with_options > 0);
            failures += usize::from(with_options > 0 && flows > 0 && at + 1 < judged.datagrams.len());
        }
        assert!(version == Version::V9 || (rounds >= 3 && failures >= 1), "{rounds} rounds, {failures} failures");
        let totals = format!("Flows: 40, Packets: 480, Bytes: 360000, Sequence Errors: {failures}, Bad Packets: 0");
        assert!(judged.stored.log.contains(&totals), "{version:?}, {totals}: {}", judged.stored.log);
    }
}

/// The packets that answer `record`: 7 of 7,000 octets, 250 ms later.
fn answer(record: &Record) -> Record {
    let mut other = *record;
    (other.key.src, other.key.dst) = (record.key.dst, record.key.src);
    (other.key.src_mac, other.key.dst_mac) = (record.key.dst_mac, record.key.src_mac);
    (other.key.src_port, other.key.dst_port) = (record.key.dst_port, record.key.src_port);
    (other.key.in_port, other.outcome) = (5, Outcome::Forwarded(PortId(4)));
    (other.packets, other.octets, other.l2_octets) = (7, 7_000, 7_098);
    other.first = Instant::from_ms(record.first.ms() + 250);
    other
}

#[test]
fn a_conversation_is_one_record_in_ipfix_and_two_elsewhere() {
    if !judges() {
        return;
    }
    let asked = records()[0];
    let alone = records()[1];
    // The answer is reported first, as flows are when they end.
    let sent = [answer(&asked), asked, alone];
    let both = |version| {
        move |ports: &[u16]| {
            let mut config = config(version, ports);
            config.monitors[0].biflow = Some(true);
            config
        }
    };
    let judged = export_as(both(Version::Ipfix), &sent);
    let flows = judged.stored.flows();
    assert_eq!(flows.len(), 2, "{flows:?}");
    let one = flows.iter().find(|flow| flow["src4_addr"] == "10.1.0.1").unwrap();
    for (name, value) in [("in_packets", 12), ("in_bytes", 9_000), ("out_packets", 7), ("out_bytes", 7_000)] {
        assert_eq!(one[name], value, "{name} of {one}");
    }
    assert_eq!((&one["src_port"], &one["dst_port"]), (&40_000.into(), &443.into()));
    assert!(judged.stored.log.contains("Sequence Errors: 0, Bad Packets: 0"), "{}", judged.stored.log);
    let text = tshark(&judged.datagrams, &["-V"]);
    assert!(!text.contains("alformed") && !text.contains("xpert Info"), "{text}");
    for words in ["Octets: 7000", "Packets: 7"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for version in [Version::V5, Version::V9] {
        let flows = export_as(both(version), &sent[..2]).stored.flows();
        let seen: Vec<_> = flows.iter().map(|flow| (flow["src_port"].clone(), flow["in_bytes"].clone())).collect();
        assert_eq!(seen, [(40_000.into(), 9_000.into()), (443.into(), 7_000.into())], "{version:?}");
    }
}

#[test]
fn a_users_record_is_summed_up_and_rules_make_flows_alike() {
    if !judges() {
        return;
    }
    let flows: Vec<Record> = (0..100)
        .map(|n| {
            let mut record = records()[0];
            record.key.src = Ipv4Addr::new(192, n % 2, n, 9).to_ipv6_mapped().octets();
            record.key.dst_port = 80 + u16::from(n % 10);
            record
        })
        .collect();
    for version in [Version::V5, Version::V9, Version::Ipfix] {
        let ruled = |ports: &[u16]| {
            let mut config = config(version, ports);
            let address = Aggregation::Address { net: u32::from_be_bytes([192, 0, 0, 0]), length: 8, to: 16 };
            let rules = vec![address, Aggregation::Port { first: 80, last: 89, to: 80 }];
            let fields = vec![
                Field::SourceAddress,
                Field::DestinationPort,
                Field::Bytes,
                Field::Packets,
                Field::Flows,
                Field::First,
                Field::OutputVlan,
            ];
            config.records = vec![proto::flow::Record { name: "r".into(), fields }];
            config.monitors[0].record = Some("r".into());
            config.monitors[0].aggregation = Some(rules);
            config
        };
        let judged = export_as(ruled, &flows);
        let mut seen: Vec<_> = judged
            .stored
            .flows()
            .iter()
            .map(|flow| {
                let fields = ["src4_addr", "dst_port", "in_packets", "in_bytes"];
                fields.map(|name| flow[name].to_string()).join(" ")
            })
            .collect();
        seen.sort();
        assert_eq!(seen, ["\"192.0.0.0\" 80 600 450000", "\"192.1.0.0\" 80 600 450000"], "{version:?}");
        if version.has_templates() {
            assert!(judged.stored.flows().iter().all(|flow| flow["dst_vlan"] == 10), "{:?}", judged.stored.flows());
        }
        let text = tshark(&judged.datagrams, &["-V"]);
        assert!(!text.contains("alformed") && !text.contains("xpert Info"), "{text}");
        assert_eq!(text.contains("Flows: 50"), version.has_templates(), "{text}");
    }
}
