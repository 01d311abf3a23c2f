//! One small switch for the tests of this folder, and the files that its output is compared with.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use proto::acl::{Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch};
use proto::addr::VlanId;
use proto::config::{Filter, ProfileType, SourceKind};
use proto::flow::Version;
use proto::msg::{ConfigHash, HostUuid};
use proto::name::IfName;
use proto::report::{Counters, DropCount, PortReport, PortRow, PortState};
use proto::vlan::VlanSet;

use super::gather::{self, Port};
use crate::cli::render::Output;
use crate::config::model::*;
use crate::config::monitor::ErspanSettings;
use crate::module::registry::{Inventory, LinkCounters, Module};

/// Compares with `tests/show/NAME.txt` and `.json`; with `BLESS=1` in the environment writes them.
pub fn check(name: &str, output: &Output) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/show");
    let json = output.json.as_ref().map(|json| format!("{json:#}\n"));
    let parts = [("txt", Some(output.text.clone())), ("json", json)];
    for (kind, found) in parts.into_iter().filter_map(|(kind, found)| Some((kind, found?))) {
        let path = folder.join(format!("{name}.{kind}"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &found).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, wanted, "{} differs; BLESS=1 rewrites it", path.display());
    }
    if let Some(json) = &output.json {
        assert!(has_only_strings(json), "a leaf of {name} is no string");
    }
}

fn has_only_strings(json: &serde_json::Value) -> bool {
    match json {
        serde_json::Value::String(_) => true,
        serde_json::Value::Array(items) => items.iter().all(has_only_strings),
        serde_json::Value::Object(members) => members.values().all(has_only_strings),
        _ => false,
    }
}

/// A moment.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_222_923)
}

fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

fn report(nic: &str, profile: &str, device: &str, octet: u8) -> PortReport {
    let is_uplink = nic.starts_with("uplink");
    PortReport {
        nic: nic.parse().unwrap(),
        kind: if is_uplink { ProfileType::Ethernet } else { ProfileType::Vethernet },
        card: u8::from(is_uplink),
        profile: profile.into(),
        vm: if is_uplink { String::new() } else { nic.split('/').next().unwrap().into() },
        device: device.into(),
        driver: "tap".into(),
        mac: Some(format!("0200.0000.{octet:04x}").parse().unwrap()),
    }
}

/// The configuration.
pub fn model() -> Model {
    let mut model = Model { hostname: "n1000v".into(), domain_id: Some(100), ..Model::default() };
    model.vlans.insert(vlan(10), Vlan { own_name: Some("web".into()), ..Vlan::default() });
    model.vlans.insert(vlan(20), Vlan { suspended: true, ..Vlan::default() });
    model.vlans.insert(vlan(30), Vlan { shutdown: true, ..Vlan::default() });
    let web = Settings { admin_up: Some(true), access_vlan: Some(vlan(10)), ..Settings::default() };
    let sampler_in = Some("hundredth".into());
    let flow = Settings { flow_in: Some("visibility".into()), sampler_in, ip_acl_in: Some("thin".into()), ..web };
    let enabled = |kind, own| Profile { kind, enabled: true, own, ..Profile::default() };
    model.profiles.insert("web".into(), enabled(ProfileType::Vethernet, flow));
    let trunk = Settings {
        admin_up: Some(true),
        trunk: Some(true),
        allowed_vlans: Some("1,10-20".parse().unwrap()),
        mtu: Some(9000),
        ..Settings::default()
    };
    model.profiles.insert("uplink".into(), enabled(ProfileType::Ethernet, trunk));
    let inherits = |profile: &str| Interface { inherit: Some(profile.into()), ..Interface::default() };
    let web1 = Interface { description: Some("first of the web servers, rack 7".into()), ..inherits("web") };
    model.interfaces.insert(IfName::Vethernet(1), web1);
    let mut web2 = inherits("web");
    web2.own.admin_up = Some(false);
    web2.own.protected = true;
    model.interfaces.insert(IfName::Vethernet(2), web2);
    model.interfaces.insert(IfName::Vethernet(3), inherits("web"));
    model.interfaces.insert(IfName::Vethernet(4), inherits("web"));
    model.interfaces.insert(IfName::Ethernet { slot: 3, port: 1 }, inherits("uplink"));
    lists(&mut model);
    visibility(&mut model);
    model
}

fn lists(model: &mut Model) {
    let any = IpRule {
        action: Action::Permit,
        protocol: Some(6),
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let servers = AddrMatch::prefix([192, 168, 100, 0].into(), 24);
    let ip = [
        (5, Entry::Remark("thin clients reach their servers".into())),
        (10, Entry::Rule(IpRule { dst: servers, dst_port: PortMatch::Eq(1494), ..any })),
        (
            20,
            Entry::Rule(IpRule {
                dst: AddrMatch::host([10, 0, 0, 1].into()),
                dst_port: PortMatch::Range(80, 90),
                ..any
            }),
        ),
        (30, Entry::Rule(IpRule { protocol: Some(17), dst_port: PortMatch::Eq(53), ..any })),
        (40, Entry::Rule(IpRule { action: Action::Deny, protocol: None, ..any })),
    ];
    let list = AccessList { statistics: true, entries: Entries::Ip(ip.into_iter().collect()) };
    model.acls.insert("thin".into(), list);
    let rule =
        MacRule { action: Action::Deny, src: MacMatch::ANY, dst: MacMatch::ANY, ethertype: Some(0x86dd), vlan: None };
    let entries = Entries::Mac([(10, Entry::Rule(rule))].into_iter().collect());
    model.acls.insert("no-v6".into(), AccessList { statistics: false, entries });
}

fn visibility(model: &mut Model) {
    model.records.insert("talk".into(), FlowRecord { description: None, items: RECORD_ITEMS[..4].to_vec() });
    let exporter = FlowExporter {
        description: Some("the collector in the lab".into()),
        destinations: vec![([192, 0, 2, 1].into(), None), ([192, 0, 2, 2].into(), Some(4739))],
        version: Some(Version::Ipfix),
        ..FlowExporter::default()
    };
    model.exporters.insert("collector".into(), exporter);
    let monitor = FlowMonitor {
        record: Some("talk".into()),
        exporters: vec!["collector".into()],
        active_s: Some(60),
        ..FlowMonitor::default()
    };
    model.monitors.insert("visibility".into(), monitor);
    let program = crate::capture::compile("tcp port 80").unwrap();
    let filter_bpf = Some(Filter { text: "tcp port 80".into(), program });
    model.monitors.insert("spare".into(), FlowMonitor { filter_bpf, ..FlowMonitor::default() });
    let mode = proto::flow::Sampling::new(true, 100);
    let hundredth = FlowSampler { description: Some("of the web servers".into()), mode };
    model.samplers.insert("hundredth".into(), hundredth);
    model.samplers.insert("spare".into(), FlowSampler::default());
    let source = |what, rx, tx| SessionSource { what, rx, tx };
    let session = MonitorSession {
        description: Some("to the IDS".into()),
        sources: vec![
            source(SourceKind::Interface(IfName::Vethernet(1)), true, true),
            source(SourceKind::Interface(IfName::Vethernet(2)), true, false),
            source(SourceKind::Vlan(vlan(10)), true, true),
            source(SourceKind::Profile("web".into()), false, true),
        ],
        destinations: vec![IfName::Vethernet(4)],
        filter_vlans: Some(VlanSet::from_iter([vlan(10), vlan(11)])),
        filter_acl: Some("web-in".into()),
        shut: false,
        ..MonitorSession::default()
    };
    model.sessions.insert(1, session);
    let erspan = ErspanSettings {
        id: Some(77),
        destination: Some([192, 0, 2, 9].into()),
        header: Some(HeaderType::Ieee1588),
        dscp: Some(46),
        ..ErspanSettings::default()
    };
    let program = crate::capture::compile("tcp port 80").unwrap();
    let filter_bpf = Some(Filter { text: "tcp port 80".into(), program });
    let kind = SessionType::ErspanSource;
    let drops = vec![source(SourceKind::Drops(Some("acl-deny".into())), true, false)];
    let remote =
        MonitorSession { kind, erspan, filter_bpf, sources: drops, mtu: Some(128), ..MonitorSession::default() };
    model.sessions.insert(2, remote);
    let receiving = MonitorSession {
        kind: SessionType::ErspanDestination,
        destinations: vec![IfName::Vethernet(2)],
        erspan: ErspanSettings { id: Some(7), ..ErspanSettings::default() },
        receive_at: Some([192, 0, 2, 1].into()),
        origins: vec![[192, 0, 2, 77].into(), [192, 0, 2, 78].into()],
        shut: false,
        ..MonitorSession::default()
    };
    model.sessions.insert(3, receiving);
}

/// Module 3 is there, module 4 is not.
pub fn inventory() -> Inventory {
    let module = |octet: u8, host: &str, there: bool, ports| Module {
        uuid: HostUuid([octet; 16]),
        host: host.into(),
        software: "0.1.0".into(),
        address: there.then(|| format!("192.0.2.{octet}:40000").parse().unwrap()),
        last_address: Some([192, 0, 2, octet].into()),
        ports,
        applied: (7, ConfigHash([1; 32])),
        intended: (7, ConfigHash([1; 32])),
        connected_at: Some(now() - Duration::from_secs(3725)),
        counters: LinkCounters {
            messages_in: 20,
            messages_out: 10,
            heartbeats_in: 3725,
            heartbeats_out: 3724,
            insertions: 2,
            removals: 1 + u64::from(!there),
            tx_errors: 0,
        },
    };
    let first = vec![
        report("web1/0", "web", "tap0", 1),
        report("web2/0", "web", "tap1", 2),
        report("uplink/1", "uplink", "eth0", 0xfe),
    ];
    let modules = [
        (3, module(3, "host1", true, first)),
        (4, module(4, "host2", false, vec![report("web3/0", "web", "tap0", 3)])),
    ];
    let numbers = [("web1/0", 1), ("web2/0", 2), ("web3/0", 3)];
    Inventory {
        modules: modules.into_iter().collect(),
        vethernets: numbers.into_iter().map(|(nic, n)| (nic.parse().unwrap(), n)).collect(),
    }
}

/// What module 3 says of its ports.
pub fn rows() -> Vec<(u8, PortRow)> {
    let row = |report: PortReport, name, state, if_index| PortRow {
        mtu: if report.card > 0 { 9000 } else { 1500 },
        port: report,
        name: Some(name),
        admin_up: state == PortState::Up,
        state,
        rx: Counters { unicast: 1000, multicast: 20, broadcast: 3, octets: 123_456, drops: 7 },
        tx: Counters { unicast: 2000, multicast: 30, broadcast: 4, octets: 234_567, drops: 0 },
        since_s: 62,
        if_index,
        rx_bps: 8000,
        rx_pps: 10,
        tx_bps: 16_000,
        tx_pps: 20,
        rx_reasons: Some(vec![DropCount { reason: "acl-deny".into(), frames: 7 }]),
        tx_reasons: Some(Vec::new()),
    };
    let down = PortState::Down("Administratively down".into());
    vec![
        (3, row(report("web1/0", "web", "tap0", 1), IfName::Vethernet(1), PortState::Up, 1)),
        (3, row(report("web2/0", "web", "tap1", 2), IfName::Vethernet(2), down, 2)),
        (3, row(report("uplink/1", "uplink", "eth0", 0xfe), IfName::Ethernet { slot: 3, port: 1 }, PortState::Up, 3)),
    ]
}

/// The interfaces.
pub fn ports() -> Vec<Port> {
    gather::ports(&model(), &inventory(), &rows())
}
