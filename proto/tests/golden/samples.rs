//! One message of every variant, with every field set to something that shows.

use proto::acl::Action;
use proto::addr::{MacAddr, VlanId};
use proto::capture::{Captured, Frame, Insn, Wanted};
use proto::config::{HostConfig, ProfileType};
use proto::msg::{ConfigHash, Enroll, Event, FromVem, FromVsm, Hello, HostUuid};
use proto::name::IfName;
use proto::query::{FlowQuery, Query};
use proto::report::{
    AclCountRow, Amount, Answer, Applied, CacheState, Counters, DropRow, DropSample, ExporterRow, FlowRow, MacRow,
    PortReport, PortRow, PortState, ReceivedCopies, ReconciledRow, RuleRef, SessionRow, StoreRow,
};

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

pub fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

pub fn mac(n: u8) -> MacAddr {
    MacAddr::from_u64(0x0200_0000_0000 + u64::from(n))
}

fn uuid() -> HostUuid {
    HostUuid(std::array::from_fn(|i| i as u8))
}

fn hash() -> ConfigHash {
    ConfigHash(std::array::from_fn(|i| 0xa0 + i as u8))
}

pub const VETH: IfName = IfName::Vethernet(12);
pub const ETH: IfName = IfName::Ethernet { slot: 3, port: 2 };

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
