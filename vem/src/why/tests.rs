use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::acl::{Acl, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::NicId;
use proto::config::{HostConfig, PortBinding, PortSettings, Profile, ProfileType, Session, SessionSource, SourceKind};
use proto::passage::Watched;
use proto::vlan::PortMode;
use vswitch::control::Control;
use vswitch::port::{Offloads, memory};

use super::*;
use crate::apply::{self, Attached, Numbers};

/// A switch of four ports over a running worker.
struct Rig {
    control: Control,
    plan: Plan,
    ends: Vec<memory::MemoryEnd>,
    stop: Arc<AtomicBool>,
    worker: Option<std::thread::JoinHandle<()>>,
}

fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

fn rule(action: Action, dst: AddrMatch) -> IpRule {
    IpRule {
        action,
        protocol: None,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    }
}

/// Veth1 and Veth2 in VLAN 10, Veth1 with a list that denies 10.0.0.9; Veth3 a trunk; Veth4 in VLAN 20.
/// Session 1 copies what Veth1 receives to Veth4.
fn host() -> HostConfig {
    let deny = rule(Action::Deny, AddrMatch::host([10, 0, 0, 9].into()));
    let rules = Rules::Ip(vec![(10, deny), (20, rule(Action::Permit, AddrMatch::ANY))]);
    let settings = |mode, list: Option<&str>| PortSettings {
        admin_up: true,
        mode,
        ip_acl_in: list.map(str::to_owned),
        ..PortSettings::default()
    };
    let trunk = PortMode::Trunk { native: vlan(1), allowed: "10,20".parse().unwrap() };
    let ports = [
        settings(PortMode::Access(vlan(10)), Some("guard")),
        settings(PortMode::Access(vlan(10)), None),
        settings(trunk, None),
        settings(PortMode::Access(vlan(20)), None),
    ];
    let binding = |(n, settings): (u32, PortSettings)| PortBinding {
        nic: nic(n),
        name: IfName::Vethernet(n),
        profile: "p".into(),
        profile_usable: true,
        settings,
    };
    let profile =
        Profile { name: "p".into(), kind: ProfileType::Vethernet, enabled: true, settings: PortSettings::default() };
    HostConfig {
        profiles: vec![profile],
        vlans: "1,10,20".parse().unwrap(),
        acls: vec![Acl { name: "guard".into(), statistics: true, rules }],
        ports: (1..).zip(ports).map(binding).collect(),
        ..HostConfig::default()
    }
}

fn nic(n: u32) -> NicId {
    format!("vm{n}/0").parse().unwrap()
}

fn rig(host: &HostConfig) -> Rig {
    let attached = |n: u16| Attached {
        id: PortId(n),
        nic: nic(n.into()),
        kind: ProfileType::Vethernet,
        profile: "p".into(),
        fresh: false,
        open: true,
        if_index: n,
        device_mtu: None,
    };
    let attached: Vec<Attached> = (1..=4).map(attached).collect();
    let plan = apply::plan(1, Some(host), &attached, &Numbers::default()).unwrap();
    let (worker, control, _records) = vswitch::worker::switch(vswitch::worker::Limits::default());
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let worker = std::thread::spawn(move || worker.run(Instant::now(), told));
    control.publish(Snapshot::build(&plan.config).unwrap()).unwrap();
    let mut ends = Vec::new();
    for port in 1..=4 {
        let (device, end) = memory::pair(64, Offloads::ALL);
        control.attach(PortId(port), Box::new(device)).unwrap();
        ends.push(end);
    }
    Rig { control, plan, ends, stop, worker: Some(worker) }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.worker.take().unwrap().join().unwrap();
    }
}

fn frame(dst: u8, src: u8, to: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0];
    frame.extend_from_slice(&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, to]);
    frame.extend_from_slice(&[0, 1, 0, 80, 0, 8, 0, 0]);
    frame
}

fn lines(passage: &Passage) -> Vec<String> {
    let line = |step: &Step| {
        let port = step.port.map(|port| format!(" {}", port.short())).unwrap_or_default();
        let rule = step.rule.as_ref().map(|r| format!(" [{} {:?}]", r.acl, r.sequence)).unwrap_or_default();
        format!("{:?} {}{port}: {}{rule}", step.said, step.stage, step.text)
    };
    passage.steps.iter().map(line).collect()
}

impl Rig {
    fn imagine(&self, port: u16, frame: &[u8]) -> Passage {
        let traced = self.control.trace(PortId(port), frame, VnetHdr::PLAIN).unwrap();
        Teller::new(&self.plan, &self.control.running()).imagined(&traced)
    }
}

#[test]
fn a_flood_is_told_port_by_port() {
    let rig = rig(&host());
    let passage = rig.imagine(1, &frame(2, 1, 2));
    assert_eq!(
        lines(&passage),
        [
            "Pass parse: IPv4, protocol 17, no tag",
            "Note flow-cache: miss: it would be the first frame of its flow",
            "Pass port Veth1: up",
            "Pass vlan: VLAN 10, of the access port",
            "Pass acl-in Veth1: permitted [guard Some(20)]",
            "Pass learn: 0200.0000.0001 is new: learned here",
            "Pass lookup: 0200.0000.0002 is not known: to all ports of the VLAN",
            "Pass flood Veth2: may have it",
            "Pass flood Veth3: may have it",
            "Pass send Veth2: as it came",
            "Pass send Veth3: with a tag, VLAN 10",
            "Pass result: leaves by Veth2, Veth3",
        ]
    );
    assert_eq!((passage.dropped, passage.at_ns, passage.length), (None, None, 42));
    assert_eq!(passage.out, [IfName::Vethernet(2), IfName::Vethernet(3)]);
}

#[test]
fn a_drop_ends_at_its_stage_and_names_its_rule() {
    let rig = rig(&host());
    let passage = rig.imagine(1, &frame(2, 1, 9));
    assert_eq!(
        lines(&passage)[2..],
        [
            "Pass port Veth1: up",
            "Pass vlan: VLAN 10, of the access port",
            "Drop acl-in Veth1: denied by an access list on the way in [guard Some(10)]",
            "Drop result: dropped as acl-deny: denied by an access list on the way in [guard Some(10)]",
        ]
    );
    assert_eq!((passage.dropped.as_deref(), passage.out.len()), (Some("acl-deny"), 0));
    let short = rig.imagine(1, &[1, 2, 3]);
    assert_eq!(
        lines(&short),
        [
            "Drop parse: shorter than an Ethernet header",
            "Drop result: dropped as runt: shorter than an Ethernet header"
        ]
    );
}

#[test]
fn a_known_station_is_told_with_its_port_a_flow_with_its_cache_and_a_copy_with_its_session() {
    let mut host = host();
    let source = SessionSource { what: SourceKind::Interface(IfName::Vethernet(1)), rx: true, tx: false };
    let destinations = vec![IfName::Vethernet(4)];
    host.sessions = vec![Session { id: 1, sources: vec![source], destinations, ..Session::default() }];
    let mut rig = rig(&host);
    let hear = |rig: &mut Rig, at: usize| {
        for _ in 0..2000 {
            if let Some(frame) = rig.ends[at].recv() {
                return frame.0;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("nothing came out of port {}", at + 1);
    };
    rig.ends[1].send(&frame(7, 2, 1), VnetHdr::PLAIN);
    hear(&mut rig, 0);
    rig.ends[0].send(&frame(2, 1, 2), VnetHdr::PLAIN);
    hear(&mut rig, 1);
    let passage = rig.imagine(1, &frame(2, 1, 2));
    assert_eq!(
        lines(&passage),
        [
            "Pass parse: IPv4, protocol 17, no tag",
            "Note flow-cache: hit: its flow is known, and the cache forwards it",
            "Pass port Veth1: up",
            "Pass vlan: VLAN 10, of the access port",
            "Pass acl-in Veth1: permitted [guard Some(20)]",
            "Note copy: as received, for monitor session 1",
            "Pass learn: 0200.0000.0001 is known here",
            "Pass lookup: 0200.0000.0002 is learned, on Veth2",
            "Pass egress Veth2: up, and carries VLAN 10",
            "Pass isolation: neither end is protected",
            "Pass acl-out Veth2: no IP list here",
            "Pass mtu: 28 of 1500 octets",
            "Pass send Veth2: as it came",
            "Pass result: leaves by Veth2",
        ]
    );
}

#[test]
fn a_port_that_is_down_says_why() {
    let mut host = host();
    host.ports[0].settings.admin_up = false;
    let rig = rig(&host);
    let passage = rig.imagine(1, &frame(2, 1, 2));
    let why = "port is shut down or has no usable profile";
    assert_eq!(lines(&passage)[2], format!("Drop port Veth1: {why}: Administratively down"));
}

#[test]
fn real_frames_are_told_until_there_are_enough_or_somebody_ends_it() {
    let mut rig = rig(&host());
    let (start, mut running) = (Instant::now(), Running::new(Instant::now()));
    let wanted = Watched { port: None, filter: Vec::new(), count: 1, seconds: 60, what: "all".into() };
    let begun = running.begin(&rig.control, None, &wanted, start).unwrap();
    let again = running.begin(&rig.control, None, &wanted, start).unwrap_err();
    assert_eq!(again.to_string(), "packets are being debugged already: all");
    rig.ends[0].send(&frame(2, 1, 9), VnetHdr::PLAIN);
    let snapshot = rig.control.running();
    let mut told = Vec::new();
    for _ in 0..2000 {
        let read = running.read(&rig.control, (&rig.plan, &snapshot), begun.id, start).unwrap();
        told.extend(read.passages);
        if let Some(why) = read.ended {
            assert_eq!((why.as_str(), read.matched, told.len()), ("as many as were asked for", 1, 1));
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(told[0].dropped.as_deref(), Some("acl-deny"));
    assert!(lines(&told[0]).contains(&"Note flow-cache: miss: the first frame of its flow".to_owned()));
    assert!(told[0].at_ns.is_some());
    running.end(&rig.control, None, "by admin").unwrap();
    assert!(running.rows(&rig.control, start).is_empty());
    // Nobody reads it.
    let second = running.begin(&rig.control, None, &wanted, start).unwrap();
    assert_eq!(running.rows(&rig.control, start)[0].seconds_left, 60);
    running.expire(&rig.control, start + std::time::Duration::from_secs(11));
    assert!(running.read(&rig.control, (&rig.plan, &snapshot), second.id, start).is_err());
    running.begin(&rig.control, None, &wanted, start).unwrap();
}
