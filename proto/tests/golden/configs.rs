//! Samples of configurations, which travel inside a prepare as octets and lie on the disks of the hosts.

use proto::acl::{Acl, Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch, Rules};
use proto::capture::Insn;
use proto::config::{
    Capability, Erspan, Erspan6, ErspanHeader, Filter, HostConfig, Once, Peer, PortBinding, PortSettings, Profile,
    ProfileType, Receive, Relay, Session, SessionSource, SourceKind, StaticMac,
};
use proto::flow::{
    Aggregation, Destination, Exporter, Field, Meter, Monitor, Record, Sampler, Store, Transport, Version,
};
use proto::name::IfName;
use proto::vlan::PortMode;

use super::samples::{ETH, VETH, mac, vlan};

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
