use proto::acl::{Acl, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::capture::Insn;
use proto::config::{
    Erspan, ErspanHeader, Filter, Once, Peer, Profile, Receive, Relay, Session, SessionSource, SourceKind,
};
use proto::flow::{Destination, Exporter, Field, Meter, Monitor, Record, Sampler, Sampling, Transport};
use proto::vlan::{PortMode, VlanSet};

use vswitch::config::Known;
use vswitch::observe::erspan::{Form, Stamp};
use vswitch::verdict::DropReason;

use super::*;

fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

fn settings(id: u16) -> PortSettings {
    PortSettings { admin_up: true, mode: PortMode::Access(vlan(id)), ..PortSettings::default() }
}

fn profile(name: &str, kind: ProfileType, id: u16) -> Profile {
    Profile { name: name.into(), kind, enabled: true, settings: settings(id) }
}

fn attached(id: u16, nic: &str, profile: &str) -> Attached {
    let kind = if nic.starts_with("uplink/") { ProfileType::Ethernet } else { ProfileType::Vethernet };
    let nic = nic.parse().unwrap();
    Attached {
        id: PortId(id),
        nic,
        kind,
        profile: profile.into(),
        fresh: false,
        open: true,
        if_index: id + 1,
        device_mtu: None,
    }
}

fn binding(nic: &str, name: &str, profile: &str, settings: PortSettings) -> PortBinding {
    PortBinding {
        nic: nic.parse().unwrap(),
        name: name.parse().unwrap(),
        profile: profile.into(),
        profile_usable: true,
        settings,
    }
}

fn host() -> HostConfig {
    HostConfig {
        module: 3,
        switch_name: "n1kv".into(),
        vlans: [vlan(1), vlan(10), vlan(20)].into_iter().collect(),
        mac_aging_s: 300,
        profiles: vec![
            profile("web", ProfileType::Vethernet, 10),
            profile("db", ProfileType::Vethernet, 20),
            profile("up", ProfileType::Ethernet, 1),
        ],
        ports: vec![binding("web1/0", "Vethernet1", "web", settings(10))],
        ..HostConfig::default()
    }
}

fn make(host: Option<&HostConfig>, ports: &[Attached]) -> Plan {
    plan(7, host, ports, &Numbers::default()).unwrap()
}

fn down(plan: &Plan, i: usize) -> String {
    match &plan.ports[i].state {
        PortState::Up => panic!("port {i} is up"),
        PortState::Down(why) => why.clone(),
    }
}

#[test]
fn without_a_configuration_ports_wait() {
    let plan = make(None, &[attached(0, "web1/0", "web")]);
    assert_eq!(down(&plan, 0), "no configuration yet");
    assert!(!plan.config.ports[0].up);
    assert_eq!(plan.config.version, 7);
}

#[test]
fn a_numbered_port_gets_its_binding_a_new_one_its_profile() {
    let mut host = host();
    host.ports[0].settings.mtu = 9000;
    let plan = make(Some(&host), &[attached(4, "web1/0", "web"), attached(5, "new/0", "db")]);
    assert_eq!((plan.name(PortId(4)), plan.name(PortId(5))), (Some(IfName::Vethernet(1)), None));
    assert_eq!(plan.by_name(IfName::Vethernet(1)), Some(PortId(4)));
    let [a, b] = plan.config.ports.as_slice() else { panic!() };
    assert_eq!((a.up, a.mtu, &a.mode), (true, 9000, &PortMode::Access(vlan(10))));
    assert_eq!((b.up, b.mtu, &b.mode), (true, 1500, &PortMode::Access(vlan(20))));
}

#[test]
fn a_device_with_a_smaller_mtu_bounds_its_port_and_a_larger_one_does_not() {
    let host = host();
    for (device, mtu) in [(Some(1400), 1400), (Some(9000), 1500), (None, 1500)] {
        let port = Attached { device_mtu: device, ..attached(4, "web1/0", "web") };
        let plan = make(Some(&host), &[port]);
        assert_eq!((plan.ports[0].mtu, plan.config.ports[0].mtu, plan.ports[0].settings.mtu), (mtu, mtu, 1500));
    }
}

#[test]
fn a_fresh_choice_of_profile_is_not_undone_by_an_old_binding() {
    let host = host();
    let mut port = attached(0, "web1/0", "db");
    assert_eq!(make(Some(&host), &[port.clone()]).ports[0].profile, "web", "the supervisor's word");
    port.fresh = true;
    let plan = make(Some(&host), &[port]);
    assert_eq!(plan.config.ports[0].mode, PortMode::Access(vlan(20)));
    assert_eq!(plan.name(PortId(0)), Some(IfName::Vethernet(1)), "the number stays with the card");
}

#[test]
fn every_way_to_be_down_says_why() {
    let mut host = host();
    host.profiles[1].enabled = false;
    host.profiles.push(Profile { settings: PortSettings::default(), ..profile("shut", ProfileType::Vethernet, 1) });
    host.ports[0].profile_usable = false;
    let ports = [
        attached(0, "a/0", "nowhere"),
        attached(1, "b/0", "db"),
        attached(2, "c/0", "up"),
        attached(3, "uplink/1", "web"),
        attached(4, "d/0", "shut"),
        attached(5, "web1/0", "web"),
    ];
    let plan = make(Some(&host), &ports);
    let wanted = [
        "profile 'nowhere' does not exist",
        "profile 'db' is disabled",
        "profile 'up' is of type ethernet",
        "profile 'web' is of type vethernet",
        "Administratively down",
        "profile 'web' can't be used",
    ];
    for (i, text) in wanted.iter().enumerate() {
        assert_eq!(down(&plan, i), *text);
        assert!(!plan.config.ports[i].up);
    }
}

#[test]
fn lists_and_monitors_are_found_by_name_and_missing_ones_have_no_effect() {
    let mut host = host();
    let acl = |name: &str, rules| Acl { name: name.into(), statistics: false, rules };
    host.acls = vec![acl("macs", Rules::Mac(vec![])), acl("ips", Rules::Ip(vec![]))];
    let monitor = |name: &str, active_s| Monitor {
        name: name.into(),
        record: None,
        exporters: vec![],
        active_s,
        inactive_s: 15,
        ..Monitor::default()
    };
    host.monitors = vec![monitor("m1", 60), monitor("m2", 120)];
    host.ports[0].settings = PortSettings {
        ip_acl_in: Some("ips".into()),
        ip_acl_out: Some("missing".into()),
        mac_acl_out: Some("macs".into()),
        flow_in: Some("m2".into()),
        flow_out: Some("missing".into()),
        ..settings(10)
    };
    let ports = [attached(0, "web1/0", "web")];
    let first = make(Some(&host), &ports);
    let port = &first.config.ports[0];
    assert_eq!((port.ip_acl_in, port.ip_acl_out, port.mac_acl_in, port.mac_acl_out), (Some(1), None, None, Some(0)));
    assert_eq!((port.flow_in, port.flow_out), (Some(1), None));
    assert_eq!(first.fresh_rules.len(), 2, "the implicit deny of each");
    // m1 goes: m2 keeps its place, and its timers.
    host.monitors.remove(0);
    let second = plan(8, Some(&host), &ports, &first.numbers).unwrap();
    assert_eq!(second.config.ports[0].flow_in, Some(1));
    assert_eq!(second.config.monitors[1].active, Duration::from_secs(120));
    assert!(second.fresh_rules.is_empty());
}

/// With a filter of its own or without, and not where the record is another's or asks for nothing of the kind.
#[test]
fn packets_are_read_for_a_monitor_whose_record_asks_for_it() {
    let mut host = host();
    let record = |name: &str, fields| Record { name: name.into(), fields };
    host.records = vec![
        record("plain", vec![Field::Bytes, Field::OutputVlan]),
        record("life", vec![Field::Bytes, Field::TtlMinimum]),
        record("label", vec![Field::FlowLabel]),
    ];
    let monitor = |name: &str, record: Option<&str>| Monitor {
        name: name.into(),
        record: record.map(str::to_owned),
        ..Monitor::default()
    };
    host.monitors = vec![
        monitor("m1", Some("plain")),
        monitor("m2", Some("life")),
        monitor("m3", Some("label")),
        monitor("m4", None),
    ];
    host.meters = Some(vec![Meter { monitor: "m3".into(), entries: Some(5), ..Meter::default() }]);
    let detailed = |host: &HostConfig| {
        let plan = make(Some(host), &[]);
        plan.config.selecting.iter().map(|selecting| (selecting.detailed, selecting.entries)).collect::<Vec<_>>()
    };
    assert_eq!(detailed(&host), [(false, 0), (true, 0), (true, 5), (false, 0)]);
    host.monitors[1].record = Some("plain".into());
    assert_eq!(detailed(&host)[1], (false, 0));
}

#[test]
fn a_sampler_of_several_packets_is_taken_as_it_is() {
    let mut host = host();
    let sampler = |name: &str, count| Sampler { name: name.into(), random: true, out_of: 100, count };
    host.samplers = Some(vec![sampler("one", None), sampler("three", Some(3)), sampler("all", Some(100))]);
    let taken = |name: &str| sampling(&host, &Some(name.to_owned()));
    assert_eq!(taken("one"), Sampling::new(true, 100).unwrap());
    assert_eq!(taken("three"), Sampling::several(true, 3, 100).unwrap());
    assert_eq!((taken("all"), taken("none")), (Sampling::NONE, Sampling::NONE));
}

#[test]
fn sessions_take_what_is_here() {
    let mut host = host();
    host.ports.push(binding("ids/0", "Vethernet9", "web", settings(10)));
    let source = |what, rx, tx| SessionSource { what, rx, tx };
    let veth = |n| IfName::Vethernet(n);
    host.sessions = vec![
        Session {
            id: 2,
            sources: vec![
                source(SourceKind::Interface(veth(1)), true, false),
                source(SourceKind::Interface(veth(77)), true, true),
                source(SourceKind::Vlan(vlan(10)), false, true),
                source(SourceKind::Profile("web".into()), false, true),
            ],
            destinations: vec![veth(9), veth(78)],
            ..Session::default()
        },
        Session {
            id: 5,
            sources: vec![source(SourceKind::Interface(veth(1)), true, true)],
            destinations: vec![veth(78)],
            ..Session::default()
        },
        Session { id: 6, destinations: vec![veth(9)], ..Session::default() },
    ];
    let ports = [attached(0, "web1/0", "web"), attached(1, "ids/0", "web"), attached(2, "web2/0", "web")];
    let made = make(Some(&host), &ports);
    let ids: Vec<u16> = made.config.sessions.iter().map(|session| session.id).collect();
    assert_eq!(ids, [2, 6], "that without a destination here has nothing to do");
    let session = &made.config.sessions[0];
    assert_eq!(session.rx_ports, [PortId(0)]);
    assert_eq!(session.tx_ports, [PortId(0), PortId(2)], "not the destination, though it has the profile");
    assert_eq!((session.rx_vlans.len(), session.tx_vlans.to_string()), (0, "10".into()));
    assert_eq!(session.destinations, [PortId(1)]);
    let downs: Vec<Option<&str>> = made.sessions.iter().map(|s| s.down.as_deref()).collect();
    assert_eq!(downs, [None, Some("No operational src/dst"), Some("No sources configured")]);
    host.sessions[0].id = 5;
    assert!(matches!(plan(1, Some(&host), &ports, &Numbers::default()), Err(Error::Twice(_))));
    host.sessions[0].id = 0;
    assert!(matches!(plan(1, Some(&host), &ports, &Numbers::default()), Err(Error::Limit { .. })));
}

#[test]
fn static_addresses_lead_to_a_port_to_the_one_uplink_or_nowhere() {
    let mut host = host();
    let entry = |n: u64, port| proto::config::StaticMac { vlan: vlan(10), mac: MacAddr::from_u64(n), port };
    host.static_macs =
        vec![entry(2, Some(IfName::Vethernet(1))), entry(4, Some(IfName::Vethernet(50))), entry(6, None)];
    let ends = |ports: &[Attached]| {
        let plan = make(Some(&host), ports);
        plan.config.static_macs.iter().map(|s| (s.mac.to_u64(), s.port)).collect::<Vec<_>>()
    };
    let here = attached(0, "web1/0", "web");
    let (up1, up2) = (attached(1, "uplink/1", "up"), attached(2, "uplink/2", "up"));
    assert_eq!(ends(std::slice::from_ref(&here)), [(2, Some(PortId(0))), (6, None)]);
    assert_eq!(ends(&[here.clone(), up1.clone()]), [(2, Some(PortId(0))), (4, Some(PortId(1))), (6, None)]);
    assert_eq!(ends(&[here, up1, up2]), [(2, Some(PortId(0))), (6, None)]);
}

#[test]
fn a_trunk_and_protection_arrive_as_they_are() {
    let mut host = host();
    let mode = PortMode::Trunk { native: vlan(1), allowed: VlanSet::all() };
    host.profiles[2].settings = PortSettings { mode: mode.clone(), protected: true, ..settings(1) };
    host.protected_macs = vec![MacAddr::from_u64(2)];
    let plan = make(Some(&host), &[attached(0, "uplink/1", "up")]);
    let port = &plan.config.ports[0];
    assert_eq!((&port.mode, port.protected, port.uplink), (&mode, true, true));
    assert_eq!(plan.config.protected_macs, host.protected_macs);
    assert_eq!(plan.config.mac_aging, Duration::from_secs(300));
}

#[test]
fn a_session_has_filters_and_copies_to_the_ports_of_profiles() {
    let mut host = host();
    let acl = |name: &str| Acl { name: name.into(), statistics: false, rules: Rules::Ip(Vec::new()) };
    host.acls = vec![acl("a"), acl("b")];
    let source = SessionSource { what: SourceKind::Profile("web".into()), rx: true, tx: true };
    let session = |id, acl: &str| Session {
        id,
        sources: vec![source.clone()],
        destination_profiles: Some(vec!["db".into()]),
        filter_vlans: Some(VlanSet::from_iter([vlan(10)])),
        filter_acl: Some(acl.into()),
        ..Session::default()
    };
    host.sessions = vec![session(1, "b"), session(256, "missing")];
    let made = make(Some(&host), &[attached(0, "web1/0", "web"), attached(1, "ids/0", "db")]);
    let [first, last] = &made.config.sessions[..] else { panic!() };
    assert_eq!((&first.rx_ports[..], &first.destinations[..]), (&[PortId(0)][..], &[PortId(1)][..]));
    assert_eq!((first.filter_acl, first.filter_vlans.as_ref().map(VlanSet::len)), (Some(1), Some(1)));
    assert_eq!((last.id, last.filter_acl), (256, None), "a list that does not exist permits everything");
    host.sessions[0].id = 257;
    assert!(matches!(plan(1, Some(&host), &[], &Numbers::default()), Err(Error::Limit { .. })));
}

#[test]
fn a_session_sends_drops_and_samples_and_a_wrong_filter_stops_it() {
    let mut host = host();
    let erspan = Erspan {
        id: 7,
        destination: 0xc000_0209,
        origin: None,
        header: ErspanHeader::Nexus1000v(9),
        ttl: 16,
        dscp: 46,
        keep_tag: true,
        fragment: Some(true),
    };
    let drops = |reason: Option<&str>| SessionSource {
        what: SourceKind::Drops(reason.map(str::to_owned)),
        rx: true,
        tx: false,
    };
    let filter = |program| Some(Filter { text: "ip".into(), program });
    let session = Session {
        id: 1,
        sources: vec![drops(Some("acl-deny"))],
        sampling: Some(10),
        truncate: Some(128),
        erspan: Some(erspan),
        filter_bpf: filter(vec![Insn { code: 6, jt: 0, jf: 0, k: 1 }]),
        ..Session::default()
    };
    let any = Session { id: 2, sources: vec![drops(None)], ..session.clone() };
    let unknown = Session { id: 3, sources: vec![drops(Some("bad-luck"))], ..session.clone() };
    let endless = Session { id: 4, filter_bpf: filter(vec![Insn { code: 5, jt: 0, jf: 0, k: 9 }]), ..session.clone() };
    host.sessions = vec![session, any, unknown, endless];
    let made = make(Some(&host), &[attached(0, "web1/0", "web")]);
    let [first, second] = &made.config.sessions[..] else { panic!("{:?}", made.config.sessions) };
    assert_eq!(first.drops, 1 << DropReason::AclDeny as u32);
    assert_eq!(second.drops.count_ones() as usize, DropReason::COUNT - 1);
    assert_eq!((first.sampling, first.truncate, first.filter_bpf.is_some()), (Some(10), Some(128), true));
    let [remote] = first.remotes[..] else { panic!() };
    assert_eq!((remote.encapsulation.session, remote.encapsulation.ttl, remote.keep_tag), (7, 16, true));
    assert!(remote.encapsulation.fragment);
    assert_eq!(remote.encapsulation.form, Form::Three(Stamp::Nexus1000v(9)));
    assert!(remote.encapsulation.origin.is_unspecified(), "the kernel fills it in");
    let downs: Vec<Option<&str>> = made.sessions.iter().map(|s| s.down.as_deref()).collect();
    assert_eq!(downs[..3], [None, None, Some("Drop reason 'bad-luck' is not known")]);
    assert!(downs[3].is_some_and(|why| why.starts_with("Filter 'ip' does not run: ")));
}

#[test]
fn collectors_are_known_to_the_sessions() {
    let to = |port| Destination::new([192, 0, 2, 50].into(), port);
    let exporter = |transport| Exporter { destinations: vec![to(2055), to(2056)], transport, ..Exporter::default() };
    let exporters = vec![exporter(None), Exporter { destinations: vec![to(4739)], ..exporter(Some(Transport::Tcp)) }];
    let config = make(Some(&HostConfig { exporters, ..host() }), &[]).config;
    let collectors: Vec<String> = config.collectors.iter().map(ToString::to_string).collect();
    assert_eq!(collectors, ["192.0.2.50:2055", "192.0.2.50:2056", "192.0.2.50:4739"]);
}

/// A session receives where it has a destination, and is relayed where it has none.
#[test]
fn a_session_receives_and_is_relayed() {
    let mut host = host();
    host.ports.push(binding("ids/0", "Vethernet9", "web", settings(10)));
    let veth = |n| IfName::Vethernet(n);
    let sources = vec![SessionSource { what: SourceKind::Interface(veth(1)), rx: true, tx: true }];
    let receive =
        Some(Receive { id: 77, at: Some(0x7f00_0001), from: Some(vec![0xc000_0209]), from6: Some(vec![9]), at6: None });
    let peer = |module, address| Peer { module, address };
    let relay = |to, from| Some(Relay { key: 9, origin: Some(0xc000_0203), to, from });
    let once = Some(Once { own: Vec::new(), before: vec![MacAddr([2; 6])], after: Vec::new() });
    let session = |id, n, sources: &[SessionSource]| Session {
        id,
        destinations: vec![veth(n)],
        sources: sources.to_vec(),
        ..Session::default()
    };
    host.sessions = vec![
        Session { receive: receive.clone(), ..session(1, 9, &[]) },
        Session { receive, ..session(2, 78, &[]) },
        Session {
            relay: relay(vec![peer(4, Some(0xc000_0204)), peer(5, None)], Vec::new()),
            once,
            ..session(3, 78, &sources)
        },
        Session { relay: relay(vec![peer(5, None)], Vec::new()), ..session(4, 78, &sources) },
        Session { relay: relay(Vec::new(), vec![0xc000_0207]), ..session(5, 9, &sources) },
        // Attached since: its own copies stay here.
        Session { relay: relay(vec![peer(4, Some(0xc000_0204))], Vec::new()), ..session(6, 9, &sources) },
    ];
    let made = make(Some(&host), &[attached(0, "web1/0", "web"), attached(1, "ids/0", "web")]);
    let plans: Vec<_> = made.sessions.iter().map(|s| (s.id, s.down.as_deref(), s.relayed.as_slice())).collect();
    let expected: [(u16, Option<&str>, &[u8]); 6] = [
        (1, None, &[]),
        (2, Some("No operational src/dst"), &[]),
        (3, None, &[4]),
        (4, Some("Module 5 has no IPv4 address"), &[]),
        (5, None, &[]),
        (6, None, &[]),
    ];
    assert_eq!(plans, expected);
    assert_eq!(made.sessions[0].at, Some(IpAddr::from([127, 0, 0, 1])));
    let [by_id, sent, by_key, near] = &made.config.sessions[..] else { panic!("{:?}", made.config.sessions) };
    let known = by_id.receive.as_ref().unwrap();
    assert_eq!((known.by, known.at), (Known::Id(77), Some(IpAddr::from([127, 0, 0, 1]))));
    assert_eq!(known.from, Some(vec![[192, 0, 2, 9].into(), "::9".parse().unwrap()]));
    let [remote] = sent.remotes[..] else { panic!("{:?}", sent.remotes) };
    let (from, to) = (remote.encapsulation.origin, remote.encapsulation.destination);
    assert_eq!(
        (from, to, remote.encapsulation.form),
        (IpAddr::from([192, 0, 2, 3]), IpAddr::from([192, 0, 2, 4]), Form::Relay(9))
    );
    assert_eq!((&sent.once.as_ref().unwrap().before[..], &sent.receive), (&[MacAddr([2; 6])][..], &None));
    let known = by_key.receive.as_ref().unwrap();
    assert_eq!((known.by, known.at, &known.from), (Known::Key(9), None, &Some(vec![[192, 0, 2, 7].into()])));
    assert_eq!((by_key.remotes.len(), near.remotes.len(), near.destinations.len()), (0, 0, 1));
}
