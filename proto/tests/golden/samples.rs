//! One message of every variant, with every field set to something that shows.

use proto::acl::{Acl, Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::capture::{Captured, Frame, Insn, Wanted};
use proto::config::{
    Capability, Erspan, Erspan6, ErspanHeader, Filter, HostConfig, Once, Peer, PortBinding, PortSettings, Profile,
    ProfileType, Receive, Relay, Session, SessionSource, SourceKind, StaticMac,
};
use proto::flow::{
    Aggregation, Destination, Exporter, Field, Meter, Monitor, Record, Sampler, Store, Transport, Version,
};
use proto::msg::{ConfigHash, Enroll, Event, FromVem, FromVsm, Hello, HostUuid};
use proto::name::IfName;
use proto::query::{FlowQuery, Query};
use proto::report::{
    AclCountRow, Amount, Answer, Applied, CacheState, Counters, DropRow, DropSample, ExporterRow, FlowRow, MacRow,
    PortReport, PortRow, PortState, ReceivedCopies, ReconciledRow, RuleRef, SessionRow, StoreRow,
};
use proto::vlan::PortMode;

pub const VEM_VARIANTS: [&str; 24] = [
    "hello",
    "enroll",
    "heartbeat",
    "ports",
    "prepared",
    "applied",
    "event",
    "answer-ports",
    "answer-macs",
    "answer-flows",
    "answer-acl-counters",
    "answer-sessions",
    "answer-exporters",
    "answer-drops",
    "answer-done",
    "answer-failed",
    "answer-text",
    "answer-applied",
    "answer-captured",
    "answer-traced",
    "answer-told",
    "answer-watches",
    "answer-reconciled",
    "answer-store",
];

pub fn vem_variant(message: &FromVem) -> &'static str {
    match message {
        FromVem::Hello(_) => "hello",
        FromVem::Enroll(_) => "enroll",
        FromVem::Heartbeat => "heartbeat",
        FromVem::Ports(_) => "ports",
        FromVem::Prepared { .. } => "prepared",
        FromVem::Applied { .. } => "applied",
        FromVem::Event(_) => "event",
        FromVem::Answer { answer, .. } => match answer {
            Answer::Ports(_) => "answer-ports",
            Answer::Macs(_) => "answer-macs",
            Answer::Flows(..) => "answer-flows",
            Answer::AclCounters(_) => "answer-acl-counters",
            Answer::Sessions(_) => "answer-sessions",
            Answer::Exporters(..) => "answer-exporters",
            Answer::Drops(..) => "answer-drops",
            Answer::Done => "answer-done",
            Answer::Failed(_) => "answer-failed",
            Answer::Text(_) => "answer-text",
            Answer::Applied(_) => "answer-applied",
            Answer::Captured(_) => "answer-captured",
            Answer::Traced(_) => "answer-traced",
            Answer::Told(_) => "answer-told",
            Answer::Watches(_) => "answer-watches",
            Answer::Reconciled(_) => "answer-reconciled",
            Answer::Store(_) => "answer-store",
        },
    }
}

pub const VSM_VARIANTS: [&str; 33] = [
    "query-clear-exporters",
    "query-clear-flows",
    "query-stored",
    "query-store-state",
    "welcome",
    "refuse",
    "enrolled",
    "heartbeat",
    "prepare",
    "commit",
    "abort",
    "query-ports",
    "query-macs",
    "query-flows",
    "query-acl-counters",
    "query-sessions",
    "query-exporter-level",
    "query-exporters",
    "query-drops",
    "query-clear-acl-counters",
    "query-clear-counters",
    "query-clear-macs",
    "query-show",
    "query-applied",
    "query-capture-begin",
    "query-capture-read",
    "query-capture-end",
    "query-trace",
    "query-watch-begin",
    "query-watch-read",
    "query-watch-end",
    "query-watches",
    "query-reconcile",
];

pub fn vsm_variant(message: &FromVsm) -> &'static str {
    match message {
        FromVsm::Welcome { .. } => "welcome",
        FromVsm::Refuse(_) => "refuse",
        FromVsm::Enrolled { .. } => "enrolled",
        FromVsm::Heartbeat => "heartbeat",
        FromVsm::Prepare { .. } => "prepare",
        FromVsm::Commit(_) => "commit",
        FromVsm::Abort(_) => "abort",
        FromVsm::Query { query, .. } => match query {
            Query::Ports => "query-ports",
            Query::Macs => "query-macs",
            Query::Flows(_) => "query-flows",
            Query::AclCounters => "query-acl-counters",
            Query::Sessions => "query-sessions",
            Query::Exporters => "query-exporters",
            Query::Drops => "query-drops",
            Query::ClearAclCounters(_) => "query-clear-acl-counters",
            Query::ClearCounters(_) => "query-clear-counters",
            Query::ClearMacs { .. } => "query-clear-macs",
            Query::ClearExporters(_) => "query-clear-exporters",
            Query::ClearFlows(_) => "query-clear-flows",
            Query::Show(_) => "query-show",
            Query::Applied => "query-applied",
            Query::CaptureBegin(_) => "query-capture-begin",
            Query::CaptureRead(_) => "query-capture-read",
            Query::CaptureEnd(_) => "query-capture-end",
            Query::Stored { .. } => "query-stored",
            Query::StoreState => "query-store-state",
            Query::Trace(_) => "query-trace",
            Query::WatchBegin(_) => "query-watch-begin",
            Query::ExporterLevel(_) => "query-exporter-level",
            Query::WatchRead(_) => "query-watch-read",
            Query::WatchEnd(_) => "query-watch-end",
            Query::Watches => "query-watches",
            Query::Reconcile => "query-reconcile",
        },
    }
}

fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

fn mac(n: u8) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 + u64::from(n))
}

fn uuid() -> HostUuid {
    HostUuid(std::array::from_fn(|i| i as u8))
}

fn hash() -> ConfigHash {
    ConfigHash(std::array::from_fn(|i| 0xa0 + i as u8))
}

const VETH: IfName = IfName::Vethernet(12);
const ETH: IfName = IfName::Ethernet { slot: 3, port: 2 };

fn port() -> PortReport {
    PortReport {
        nic: "vm-1/0".parse().unwrap(),
        kind: ProfileType::Vethernet,
        card: 0,
        profile: "web".to_owned(),
        vm: "vm-1".to_owned(),
        device: "tap0".to_owned(),
        driver: "tap".to_owned(),
        mac: Some(mac(1)),
    }
}

fn uplink() -> PortReport {
    PortReport {
        nic: "uplink/1".parse().unwrap(),
        kind: ProfileType::Ethernet,
        card: 1,
        profile: "trunk".to_owned(),
        vm: String::new(),
        device: "eth1".to_owned(),
        driver: "netdev".to_owned(),
        mac: None,
    }
}

fn counters(n: u64) -> Counters {
    Counters { unicast: n, multicast: n + 1, broadcast: n + 2, octets: n << 32, drops: n + 3 }
}

fn port_row() -> PortRow {
    PortRow {
        port: port(),
        name: Some(VETH),
        state: PortState::Down("Administratively down".to_owned()),
        admin_up: true,
        mtu: 9000,
        rx: counters(10),
        tx: counters(20),
        since_s: 3600,
        if_index: 12,
        rx_bps: 1,
        rx_pps: 2,
        tx_bps: 3,
        tx_pps: 4,
        rx_reasons: None,
        tx_reasons: None,
    }
}

fn flow_row() -> FlowRow {
    FlowRow {
        input: Some(VETH),
        output: None,
        vlan: Some(vlan(10)),
        src_mac: mac(1),
        dst_mac: mac(2),
        ethertype: 0x0800,
        src: 0xffff_0a00_0001,
        dst: u128::MAX,
        protocol: 6,
        tos: 0xb8,
        src_port: 40_000,
        dst_port: 80,
        tcp_flags: 0x1b,
        packets: 1000,
        octets: 1_500_000,
        first_ms_ago: 60_000,
        last_ms_ago: 10,
        dropped: Some("acl-deny".to_owned()),
        sampled: None,
        sampled_count: None,
    }
}

fn answers() -> Vec<Answer> {
    vec![
        Answer::Ports(vec![port_row(), PortRow { port: uplink(), name: None, state: PortState::Up, ..port_row() }]),
        Answer::Macs(vec![
            MacRow { vlan: vlan(10), mac: mac(1), is_static: false, age_s: 5, port: Some(ETH) },
            MacRow { vlan: vlan(4094), mac: mac(2), is_static: true, age_s: 0, port: None },
        ]),
        Answer::Flows(vec![flow_row()], 12_345),
        Answer::AclCounters(vec![
            AclCountRow { acl: "thin".to_owned(), sequence: Some(10), matches: 7 },
            AclCountRow { acl: "thin".to_owned(), sequence: None, matches: 8 },
        ]),
        Answer::Sessions(vec![SessionRow {
            id: 1,
            down: Some("no destination here".to_owned()),
            copied: 5,
            dropped: 6,
            segmented: 7,
            ..SessionRow::default()
        }]),
        Answer::Exporters(
            vec![ExporterRow {
                name: "e".to_owned(),
                destination: "192.0.2.1:9995".to_owned(),
                datagrams: 1,
                records: 2,
                templates: 3,
                octets: 4,
                failed_datagrams: 5,
                failed_records: 6,
                not_exportable: 7,
                last_error: Some("connection refused".to_owned()),
                ..ExporterRow::default()
            }],
            CacheState {
                active: 1,
                capacity: 2,
                added: 3,
                aged_inactive: 4,
                aged_active: 5,
                ended: 6,
                forced: 7,
                evicted: 8,
                unmetered: None,
                summed: None,
            },
        ),
        Answer::Drops(
            vec![DropRow {
                port: Some(VETH),
                reason: "acl-deny".to_owned(),
                text: "denied by an access list".to_owned(),
                frames: 9,
                rule: None,
            }],
            vec![DropSample {
                ms_ago: 20,
                port: Some(VETH),
                reason: "acl-deny".to_owned(),
                rule: Some(RuleRef { acl: "thin".to_owned(), sequence: Some(30), action: Action::Deny }),
                length: 60,
                headers: "0200.0000.0001 > 0200.0000.0002 vlan 10".to_owned(),
            }],
        ),
        Answer::Done,
        Answer::Failed("no such port".to_owned()),
        Answer::Text("Host : host1\n".to_owned()),
        Answer::Applied(Applied {
            version: 7,
            hash: hash(),
            config: Some(vec![1, 2, 3]),
            faults: vec!["Vethernet12: device tap0 is gone".to_owned()],
        }),
        Answer::Captured(Captured {
            id: 5,
            frames: vec![Frame {
                at_ns: 1_795_222_923_000_000_001,
                received: true,
                length: 60,
                octets: vec![2, 0, 0],
                headers: "...".to_owned(),
            }],
            seen: 9,
            lost: 1,
            ended: Some("the port has lost its device".to_owned()),
        }),
        Answer::Store(Some(StoreRow {
            directory: "/var/lib/vem/flows".to_owned(),
            files: 1,
            octets: 2,
            stored: 3,
            lost: 4,
            error: Some("No space left on device".to_owned()),
        })),
        Answer::Reconciled(vec![ReconciledRow {
            port: Some(VETH),
            received: Amount { packets: 1, octets: 2 },
            ip: Amount { packets: 3, octets: 4 },
            other: Amount { packets: 5, octets: 6 },
            in_cache: Amount { packets: 7, octets: 8 },
            unwatched: Amount { packets: 9, octets: 10 },
            filtered: Amount { packets: 11, octets: 12 },
            elsewhere: Amount { packets: 13, octets: 14 },
            malformed: Amount { packets: 15, octets: 16 },
            unmetered: Amount { packets: 17, octets: u64::MAX },
            unsampled: None,
        }]),
    ]
}

pub fn from_vem() -> Vec<(String, FromVem)> {
    let mut messages = vec![
        FromVem::Hello(Hello {
            protocol: 1,
            domain: 100,
            uuid: uuid(),
            host: "host-1".to_owned(),
            software: "0.1.0".to_owned(),
            version: 7,
            hash: hash(),
            capabilities: vec!["example".to_owned()],
        }),
        FromVem::Enroll(Enroll {
            domain: 100,
            secret: vec![1, 2, 3],
            uuid: uuid(),
            host: "host-1".to_owned(),
            csr: vec![0x30, 0],
        }),
        FromVem::Heartbeat,
        FromVem::Ports(vec![port(), uplink()]),
        FromVem::Prepared { version: 7, error: Some("no room".to_owned()) },
        FromVem::Applied { version: 7, hash: hash() },
        FromVem::Event(Event {
            facility: "ETHPORT".to_owned(),
            severity: 5,
            mnemonic: "IF_UP".to_owned(),
            text: "Interface Vethernet12 is up".to_owned(),
        }),
    ];
    messages
        .extend(answers().into_iter().chain(crate::why::answers()).map(|answer| FromVem::Answer { id: 42, answer }));
    let mut samples: Vec<_> = messages.into_iter().map(|m| (format!("vem-{}", vem_variant(&m)), m)).collect();
    let by_rule = FromVem::Answer { id: 42, answer: crate::why::drops_by_rule() };
    samples.push(("vem-answer-drops-by-rule".to_owned(), by_rule));
    samples.push(("vem-prepared-well".to_owned(), FromVem::Prepared { version: 8, error: None }));
    let counted = SessionRow {
        id: 256,
        copied: 5,
        dropped: 3,
        matched: Some(8),
        truncated: Some(2),
        losses: Some(vec![("too-long".to_owned(), 3)]),
        ..SessionRow::default()
    };
    let receiving = SessionRow {
        id: 3,
        received: Some(ReceivedCopies { copies: 9, truncated: 1, missing: 4, late: 2, unwelcome: 5 }),
        turned_away: Some(vec![("gre-flags".to_owned(), 6)]),
        relayed: Some(vec![4, 5]),
        ..SessionRow::default()
    };
    let answer = Answer::Sessions(vec![receiving]);
    samples.push(("vem-answer-sessions-receiving".to_owned(), FromVem::Answer { id: 44, answer }));
    let answer = Answer::Sessions(vec![counted]);
    samples.push(("vem-answer-sessions-counted".to_owned(), FromVem::Answer { id: 43, answer }));
    let answer = Answer::Flows(vec![FlowRow { sampled: Some(100), ..flow_row() }], 1);
    samples.push(("vem-answer-flows-sampled".to_owned(), FromVem::Answer { id: 44, answer }));
    let several = FlowRow { sampled: Some(100), sampled_count: Some(3), ..flow_row() };
    let answer = Answer::Flows(vec![several], 1);
    samples.push(("vem-answer-flows-sampled-several".to_owned(), FromVem::Answer { id: 47, answer }));
    let unsampled = Some(Amount { packets: 99, octets: 9900 });
    let answer = Answer::Reconciled(vec![ReconciledRow { unsampled, ..ReconciledRow::default() }]);
    samples.push(("vem-answer-reconciled-sampled".to_owned(), FromVem::Answer { id: 45, answer }));
    samples
}

fn queries() -> Vec<Query> {
    vec![
        Query::Ports,
        Query::Macs,
        Query::Flows(FlowQuery {
            monitor: Some("m".to_owned()),
            host: Some(0xffff_0a00_0001),
            protocol: Some(17),
            port: Some(53),
            vlan: Some(vlan(10)),
            interface: Some(ETH),
            dropped: true,
            top: 10,
            order: None,
        }),
        Query::AclCounters,
        Query::Sessions,
        Query::Exporters,
        Query::ExporterLevel(2),
        Query::Drops,
        Query::ClearAclCounters(Some("thin".to_owned())),
        Query::ClearCounters(Some(IfName::Mgmt0)),
        Query::ClearMacs { vlan: Some(vlan(10)), mac: Some(mac(1)) },
        Query::ClearFlows(Some("m".to_owned())),
        Query::ClearExporters(Some("e".to_owned())),
        Query::Show("show card".to_owned()),
        Query::Applied,
        Query::CaptureBegin(Wanted {
            port: VETH,
            filter: vec![Insn { code: 0x15, jt: 1, jf: 2, k: 0x800 }, Insn { code: 6, jt: 0, jf: 0, k: 65_535 }],
            snap: 128,
        }),
        Query::CaptureRead(5),
        Query::CaptureEnd(5),
        Query::Reconcile,
    ]
}

pub fn from_vsm() -> Vec<(String, FromVsm)> {
    let config = minicbor::to_vec(HostConfig::default()).unwrap();
    let mut messages = vec![
        FromVsm::Welcome { module: 3, switch_name: "switch".to_owned(), software: "0.1.0".to_owned() },
        FromVsm::Refuse("domain 200 is not served here".to_owned()),
        FromVsm::Enrolled { certificate: vec![0x30, 1], authority: vec![0x30, 2] },
        FromVsm::Heartbeat,
        FromVsm::Prepare { version: u64::MAX, hash: hash(), config },
        FromVsm::Commit(7),
        FromVsm::Abort(8),
    ];
    messages.extend(queries().into_iter().chain(crate::why::queries()).map(|query| FromVsm::Query { id: 42, query }));
    messages.into_iter().map(|m| (format!("vsm-{}", vsm_variant(&m)), m)).collect()
}

fn settings() -> PortSettings {
    PortSettings {
        admin_up: true,
        description: "web servers".to_owned(),
        mode: PortMode::Trunk { native: vlan(1), allowed: "1-9,20,4094".parse().unwrap() },
        protected: true,
        ip_acl_in: Some("thin".to_owned()),
        ip_acl_out: Some("peers".to_owned()),
        mac_acl_in: Some("six".to_owned()),
        mac_acl_out: Some("seven".to_owned()),
        flow_in: Some("m".to_owned()),
        flow_out: Some("n".to_owned()),
        mtu: 9000,
        capability: None,
        sampler_in: None,
        sampler_out: None,
    }
}

fn ip_rule(src_port: PortMatch, dst_port: PortMatch) -> IpRule {
    IpRule {
        action: Action::Permit,
        protocol: Some(6),
        src: AddrMatch::new([10, 0, 0, 1].into(), [0, 255, 0, 254].into()),
        src_port,
        dst: AddrMatch::ANY,
        dst_port,
        icmp_type: Some(8),
        icmp_code: Some(0),
        dscp: Some(46),
    }
}

fn acls() -> Vec<Acl> {
    let matches = [
        PortMatch::Any,
        PortMatch::Eq(80),
        PortMatch::Neq(81),
        PortMatch::Lt(1024),
        PortMatch::Gt(1023),
        PortMatch::Range(2598, 2600),
    ];
    let rules = (10..).step_by(10).zip(matches).map(|(n, m)| (n, ip_rule(m, m))).collect();
    let mac_rule = MacRule {
        action: Action::Deny,
        src: MacMatch::ANY,
        dst: MacMatch::new(mac(1), mac(0)),
        ethertype: Some(0x86dd),
        vlan: Some(vlan(10)),
    };
    vec![
        Acl { name: "thin".to_owned(), statistics: true, rules: Rules::Ip(rules) },
        Acl { name: "six".to_owned(), statistics: false, rules: Rules::Mac(vec![(u32::MAX, mac_rule)]) },
    ]
}

fn fields() -> Vec<Field> {
    use Field::*;
    vec![
        Protocol,
        Tos,
        SourceAddress,
        DestinationAddress,
        SourcePort,
        DestinationPort,
        Vlan,
        SourceMac,
        DestinationMac,
        Ethertype,
        InputInterface,
        OutputInterface,
        Bytes,
        Packets,
        First,
        Last,
        TcpFlags,
        EndReason,
        ForwardingStatus,
    ]
}

fn exporter(version: Version) -> Exporter {
    Exporter {
        name: format!("{version:?}"),
        destinations: vec![Destination { addr: 0xc000_0201, port: 9995, addr6: None }],
        version,
        dscp: 46,
        template_timeout_s: 60,
        option_timeout_s: 61,
        payload_max: 1400,
        ..Exporter::default()
    }
}

fn shared() -> Exporter {
    Exporter { load_balance: Some(true), rate_limit: Some(500), ..exporter(Version::V9) }
}

fn exporter6() -> Exporter {
    let addr6 = Some(0x2001_0db8 << 96 | 1);
    Exporter { destinations: vec![Destination { addr: 0, port: 9995, addr6 }], ..exporter(Version::Ipfix) }
}

/// What records, exporters and monitors have learned since the first release.
fn flow_formats() -> HostConfig {
    use Field::*;
    let fields = vec![
        IpVersion,
        Direction,
        IcmpType,
        IcmpCode,
        VlanPriority,
        CustomerVlan,
        MatchOutputInterface,
        MatchForwardingStatus,
        CollectInputInterface,
        CollectSourceMac,
        CollectDestinationMac,
        CollectVlan,
        CollectDirection,
        Flows,
        LinkOctets,
        DroppedBytes,
        DroppedPackets,
        AbsoluteFirst,
        AbsoluteLast,
        Duration,
        ObservationPoint,
    ];
    let knobs = |version| Exporter {
        send_buffer: Some(65_536),
        template_packets: Some(10),
        sampler_timeout_s: Some(62),
        statistics_timeout_s: Some(63),
        ..exporter(version)
    };
    let rules = vec![
        Aggregation::Address { net: 0xc000_0000, length: 8, to: 16 },
        Aggregation::Port { first: 80, last: 89, to: 80 },
    ];
    let monitor = Monitor {
        name: "m".to_owned(),
        active_s: 1800,
        inactive_s: 15,
        aggregation: Some(rules),
        biflow: Some(true),
        ..Monitor::default()
    };
    HostConfig {
        records: vec![Record { name: "r".to_owned(), fields }],
        exporters: [Version::V1, Version::V7].map(knobs).to_vec(),
        monitors: vec![monitor],
        ..HostConfig::default()
    }
}

/// Records of what has to be read of each packet.
fn flow_of_packets() -> HostConfig {
    use Field::*;
    let fields = vec![TtlMinimum, TtlMaximum, LengthMinimum, LengthMaximum, FlowLabel];
    HostConfig { records: vec![Record { name: "r".to_owned(), fields }], ..HostConfig::default() }
}

/// A sampler of several packets.
fn several_sampled() -> HostConfig {
    let sampler = Sampler { name: "some".to_owned(), random: true, out_of: 100, count: Some(3) };
    HostConfig { samplers: Some(vec![sampler]), ..HostConfig::default() }
}

/// A record of where frames leave.
fn flow_output_vlan() -> HostConfig {
    HostConfig {
        records: vec![Record { name: "r".to_owned(), fields: vec![Field::OutputVlan] }],
        ..HostConfig::default()
    }
}

/// Configurations travel inside a prepare as octets, and lie on the disks of the hosts.
pub fn configs() -> Vec<(String, HostConfig)> {
    let source = |what| SessionSource { what, rx: true, tx: false };
    let full = HostConfig {
        hosts: None,
        address: None,
        module: 3,
        switch_name: "switch".to_owned(),
        vlans: "1,10-20,4094".parse().unwrap(),
        mac_aging_s: 300,
        static_macs: vec![
            StaticMac { vlan: vlan(10), mac: mac(1), port: Some(VETH) },
            StaticMac { vlan: vlan(10), mac: mac(2), port: None },
        ],
        acls: acls(),
        records: vec![Record { name: "r".to_owned(), fields: fields() }],
        exporters: [Version::V5, Version::V9, Version::Ipfix].map(exporter).to_vec(),
        monitors: vec![Monitor {
            name: "m".to_owned(),
            record: Some("r".to_owned()),
            exporters: vec!["V9".to_owned()],
            active_s: 1800,
            inactive_s: 15,
            ..Monitor::default()
        }],
        sessions: vec![Session {
            id: 1,
            sources: vec![
                source(SourceKind::Interface(ETH)),
                source(SourceKind::Vlan(vlan(10))),
                source(SourceKind::Profile("web".to_owned())),
            ],
            destinations: vec![VETH],
            ..Session::default()
        }],
        profiles: vec![Profile {
            name: "web".to_owned(),
            kind: ProfileType::Ethernet,
            enabled: true,
            settings: settings(),
        }],
        ports: vec![PortBinding {
            nic: "vm-1/0".parse().unwrap(),
            name: VETH,
            profile: "web".to_owned(),
            profile_usable: true,
            settings: PortSettings::default(),
        }],
        protected_macs: vec![mac(9)],
        store: None,
        meters: None,
        samplers: None,
    };
    let ways = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Relay];
    let ways = ways.map(|transport| Exporter { transport: Some(transport), ..exporter(Version::Ipfix) });
    let transports = HostConfig { exporters: ways.to_vec(), ..HostConfig::default() };
    let store = Some(Store { size_mib: 1024, keep_h: 168, ecs: true });
    let stored = HostConfig { store, ..HostConfig::default() };
    let meter = Meter {
        monitor: "m".to_owned(),
        filter: Some("thin".to_owned()),
        elsewhere: vec![mac(3)],
        entries: None,
        filter_bpf: None,
    };
    let bounded = Meter { entries: Some(4096), ..meter.clone() };
    let bounded = HostConfig { meters: Some(vec![bounded]), ..HostConfig::default() };
    let meters = HostConfig { meters: Some(vec![meter]), ..HostConfig::default() };
    let headers = [
        ErspanHeader::Two,
        ErspanHeader::Micros100,
        ErspanHeader::Nanos100,
        ErspanHeader::Ieee1588,
        ErspanHeader::Nexus1000v(4095),
    ];
    let erspan = Erspan {
        id: 1023,
        destination: 0xc000_0201,
        origin: Some(0xc000_0202),
        header: ErspanHeader::Two,
        ttl: 255,
        dscp: 63,
        keep_tag: true,
        fragment: None,
    };
    let remote = |(id, header): (u16, ErspanHeader)| Session {
        id,
        sources: vec![source(SourceKind::Drops(Some("acl-deny".to_owned()))), source(SourceKind::Drops(None))],
        sampling: Some(10),
        truncate: Some(128),
        erspan: Some(Erspan { header, ..erspan.clone() }),
        filter_bpf: Some(Filter { text: "ip".to_owned(), program: vec![Insn { code: 6, jt: 0, jf: 0, k: 65_535 }] }),
        ..Session::default()
    };
    let sent = erspan.clone();
    let erspan = (1..).zip(headers).map(remote).collect();
    let sensor = Profile {
        name: "sensors".to_owned(),
        kind: ProfileType::Vethernet,
        enabled: true,
        settings: PortSettings { capability: Some(Capability::IdsSensor), ..PortSettings::default() },
    };
    let tap = Profile {
        name: "taps".to_owned(),
        kind: ProfileType::Vethernet,
        enabled: true,
        settings: PortSettings { capability: Some(Capability::MonitorIn), ..PortSettings::default() },
    };
    let filtered = Session {
        id: 256,
        sources: vec![source(SourceKind::Vlan(vlan(10)))],
        destination_profiles: Some(vec!["ids".to_owned()]),
        filter_vlans: Some("10-12".parse().unwrap()),
        filter_acl: Some("web-in".to_owned()),
        ..Session::default()
    };
    let receive =
        Some(Receive { id: 1023, at: Some(0xc000_0201), from: Some(vec![0xc000_0209]), ..Receive::default() });
    let address = 0x2001_0db8_0000_0000_0000_0000_0000_0001;
    let six = vec![
        Session {
            id: 8,
            receive: Some(Receive { id: 1, at6: Some(address), from6: Some(vec![address]), ..Receive::default() }),
            ..Session::default()
        },
        Session { id: 9, erspan6: Some(Erspan6 { sent, destination: address, origin: address }), ..Session::default() },
    ];
    let peers = [(4, Some(0xc000_0204)), (5, None)];
    let relay = Relay {
        key: 0x0064_0007,
        origin: Some(0xc000_0203),
        to: peers.map(|(module, address)| Peer { module, address }).to_vec(),
        from: vec![0xc000_0206],
    };
    let far = vec![
        Session { id: 6, destinations: vec![IfName::Vethernet(7)], receive, ..Session::default() },
        Session { id: 7, destinations: vec![IfName::Vethernet(7)], relay: Some(relay), ..Session::default() },
    ];
    let once = Once { own: vec![mac(3), mac(4)], before: vec![mac(1)], after: Vec::new() };
    let once = Session { once: Some(once), ..filtered.clone() };
    vec![
        ("config-session-far".to_owned(), HostConfig { sessions: far.clone(), ..HostConfig::default() }),
        (
            "config-session-hosts".to_owned(),
            HostConfig {
                sessions: far,
                hosts: Some(vec![0xc000_0203, 0xc000_0204]),
                address: Some(0xc000_0203),
                ..HostConfig::default()
            },
        ),
        ("config-session-once".to_owned(), HostConfig { sessions: vec![once], ..HostConfig::default() }),
        ("config-samplers".to_owned(), sampled()),
        ("config-session-six".to_owned(), HostConfig { sessions: six, ..HostConfig::default() }),
        ("config-store".to_owned(), stored),
        ("config-transports".to_owned(), transports),
        ("config-full".to_owned(), full),
        ("config-empty".to_owned(), HostConfig::default()),
        ("config-meters".to_owned(), meters),
        ("config-meters-bounded".to_owned(), bounded),
        ("config-flow-formats".to_owned(), flow_formats()),
        ("config-exporter-shared".to_owned(), HostConfig { exporters: vec![shared()], ..HostConfig::default() }),
        ("config-exporter-ipv6".to_owned(), HostConfig { exporters: vec![exporter6()], ..HostConfig::default() }),
        ("config-flow-of-packets".to_owned(), flow_of_packets()),
        ("config-flow-output-vlan".to_owned(), flow_output_vlan()),
        ("config-sampler-several".to_owned(), several_sampled()),
        ("config-session-erspan".to_owned(), HostConfig { sessions: erspan, ..HostConfig::default() }),
        ("config-sensor".to_owned(), HostConfig { profiles: vec![sensor], ..HostConfig::default() }),
        ("config-monitor-in".to_owned(), HostConfig { profiles: vec![tap], ..HostConfig::default() }),
        ("config-session-filtered".to_owned(), HostConfig { sessions: vec![filtered], ..HostConfig::default() }),
    ]
}

/// Samplers at a profile, and a monitor with a filter by program.
fn sampled() -> HostConfig {
    let settings = PortSettings {
        flow_in: Some("m".to_owned()),
        flow_out: Some("m".to_owned()),
        sampler_in: Some("every".to_owned()),
        sampler_out: Some("some".to_owned()),
        ..PortSettings::default()
    };
    let profile = Profile { name: "web".to_owned(), kind: ProfileType::Vethernet, enabled: true, settings };
    let program = vec![Insn { code: 6, jt: 0, jf: 0, k: 65_535 }];
    let meter = Meter {
        monitor: "m".to_owned(),
        filter_bpf: Some(Filter { text: "greater 0".to_owned(), program }),
        ..Meter::default()
    };
    let sampler = |name: &str, random, out_of| Sampler { name: name.to_owned(), random, out_of, count: None };
    HostConfig {
        samplers: Some(vec![sampler("every", false, 10), sampler("some", true, 16_383)]),
        profiles: vec![profile],
        meters: Some(vec![meter]),
        ..HostConfig::default()
    }
}
