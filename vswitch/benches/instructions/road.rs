//! Switches between memory ports: what a turn costs a frame, with features on and off.

use std::time::Duration;

use proto::acl::{Acl, Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::flow::Sampling;
use proto::vlan::{PortMode, VlanSet};
use rtrb::Consumer;
use vswitch::config::{AclConfig, Config, MonitorConfig, PortConfig, Selecting, SessionConfig, StaticMac};
use vswitch::flow::record::Record;
use vswitch::frame::BATCH;
use vswitch::frame::vnet::VnetHdr;
use vswitch::observe::mirror::Mirror;
use vswitch::port::memory::{Generator, Sink};
use vswitch::port::{Offloads, Port, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::worker::{Limits, Worker, switch};

const VLAN: u16 = 10;

/// What is switched, and what the switch has to do for it.
#[derive(Clone, Copy)]
pub struct Case {
    /// Flows that come in turn.
    pub flows: u32,
    /// Flows that there is room for.
    pub room: usize,
    /// Frames come tagged, and leave without.
    pub vlan: bool,
    /// Rules of the lists on the way in and on the way out, the last of which matches.
    pub rules: u32,
    /// A flow monitor looks at them.
    pub meter: bool,
    /// Of so many packets the monitor counts one; 1 for every.
    pub sampled: u16,
    /// Of each packet it reads time to live, length and flow label.
    pub detailed: bool,
    /// A session copies them.
    pub span: bool,
}

/// One flow and no feature.
pub const PLAIN: Case =
    Case { flows: 1, room: 65_536, vlan: false, rules: 0, meter: false, sampled: 1, detailed: false, span: false };

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A UDP frame of 64 octets (60 without FCS), 10.a.b.c:d to 192.0.2.1:80.
pub fn udp4(n: u32, tag: Option<u16>) -> Vec<u8> {
    let [a, b, c, d] = n.to_be_bytes();
    let mut frame = [mac(2).0, mac(1).0].concat();
    frame.extend(tag.iter().flat_map(|vid| [[0x81, 0], vid.to_be_bytes()].concat()));
    frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, a, b, c, 192, 0, 2, 1]);
    frame.extend_from_slice(&[3, d, 0, 80, 0, 26, 0, 0]);
    frame.resize(60 + 4 * tag.iter().len(), 0);
    frame
}

/// `count` rules for hosts and port 80, then one for everything.
pub fn rules(count: u32) -> Vec<(u32, IpRule)> {
    let rule = |i: u32| {
        let last = i + 1 == count;
        let rule = IpRule {
            action: Action::Permit,
            protocol: if last { None } else { Some(17) },
            src: AddrMatch::ANY,
            src_port: PortMatch::Any,
            dst: if last { AddrMatch::ANY } else { AddrMatch { addr: 0xc633_0000 | i, wildcard: 0 } },
            dst_port: if last { PortMatch::Any } else { PortMatch::Eq(80 + (i % 7) as u16) },
            icmp_type: None,
            icmp_code: None,
            dscp: None,
        };
        (i, rule)
    };
    (0..count).map(rule).collect()
}

fn list(count: u32, first_id: u32) -> AclConfig {
    let acl = Acl { name: format!("list{first_id}"), statistics: true, rules: Rules::Ip(rules(count)) };
    AclConfig { acl, rule_ids: (first_id..=first_id + count).collect() }
}

fn port(id: u16, mode: PortMode) -> PortConfig {
    PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode,
        protected: false,
        mtu: 1500,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in: None,
        flow_out: None,
        sampling: Default::default(),
    }
}

fn config(case: &Case) -> Config {
    let vlan = if case.vlan { VlanId::new(VLAN).unwrap_or(VlanId::DEFAULT) } else { VlanId::DEFAULT };
    let trunk = PortMode::Trunk { native: VlanId::DEFAULT, allowed: VlanSet::all() };
    let first = port(1, if case.vlan { trunk } else { PortMode::Access(vlan) });
    let lists = case.rules > 0;
    let sampling = [Sampling::new(true, case.sampled).unwrap_or_default(), Sampling::NONE];
    let first = PortConfig { flow_in: case.meter.then_some(0), ip_acl_in: lists.then_some(0), sampling, ..first };
    let second = PortConfig { ip_acl_out: lists.then_some(1), ..port(2, PortMode::Access(vlan)) };
    let session =
        SessionConfig { rx_ports: vec![PortId(1)], destinations: vec![PortId(3)], ..SessionConfig::default() };
    Config {
        version: 1,
        vlans: VlanSet::all(),
        mac_aging: Duration::from_secs(300),
        static_macs: vec![StaticMac { vlan, mac: mac(2), port: Some(PortId(2)) }],
        acls: if lists { vec![list(case.rules, 0), list(case.rules, case.rules + 1)] } else { Vec::new() },
        monitors: vec![MonitorConfig { active: Duration::from_secs(1800), inactive: Duration::from_secs(15) }],
        selecting: if case.detailed { vec![Selecting { detailed: true, ..Selecting::default() }] } else { Vec::new() },
        sessions: if case.span { vec![session] } else { Vec::new() },
        ports: vec![first, second, port(3, PortMode::Access(vlan))],
        sensors: Vec::new(),
        monitor_ins: Vec::new(),
        protected_macs: Vec::new(),
        ..Config::default()
    }
}

/// A switch that receives the frames of a case in a circle.
pub struct Switch {
    worker: Worker,
    mirror: Mirror,
    reports: Consumer<Record>,
    turns: u64,
    received: usize,
}

impl Switch {
    /// The switch, before its first turn.
    pub fn new(case: &Case) -> Self {
        let limits = Limits { flows: case.room, macs: 256, macs_per_port: 64, records: 65_536, evicted_per_s: 200_000 };
        let (mut worker, control, reports) = switch(limits);
        let mut mirror = control.mirror().unwrap_or_else(|| panic!("nobody has it yet"));
        let frames = (0..case.flows).map(|n| (udp4(n, case.vlan.then_some(VLAN)), VnetHdr::PLAIN)).collect();
        let sink = || Box::new(Sink::new(Offloads::ALL).0);
        let devices: [Box<dyn Port>; 3] = [Box::new(Generator::new(frames)), sink(), sink()];
        for (id, device) in (1..).zip(devices) {
            assert!(worker.attach(PortId(id), device).is_ok());
        }
        let sender = worker.sender(PortId(3)).unwrap_or_else(|error| panic!("{error}"));
        mirror.attach(PortId(3), sender);
        let snapshot = Snapshot::build(&config(case));
        worker.publish(snapshot.unwrap_or_else(|error| panic!("{error}")));
        Switch { worker, mirror, reports, turns: 0, received: 0 }
    }

    /// Turns until `frames` have been received.
    pub fn run(&mut self, frames: usize) {
        for _ in 0..frames.div_ceil(BATCH) {
            self.turns += 1;
            self.received += self.worker.turn(Instant::from_ns(self.turns * 5_000));
        }
    }

    /// The mirror makes all copies that it has to.
    pub fn copy(&mut self) {
        while self.mirror.turn() > 0 {}
    }

    /// How many frames there were since it was asked last; reports of flows that have ended are taken away.
    pub fn take_received(&mut self) -> usize {
        while self.reports.pop().is_ok() {}
        std::mem::take(&mut self.received)
    }
}
