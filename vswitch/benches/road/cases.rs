//! The rows of the table: what is switched on, and the configuration for it.

use std::time::Duration;

use proto::acl::{Acl, Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::vlan::{PortMode, VlanSet};
use vswitch::config::{AclConfig, Config, MonitorConfig, PortConfig, SessionConfig, StaticMac};
use vswitch::port::PortId;

/// A row.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it is, without the number of flows.
    pub what: &'static str,
    /// Flows, in another random order each round.
    pub flows: u32,
    /// The ports are in a VLAN that is not the default.
    pub vlan: bool,
    /// Rules of the list on the way in, and as many on the way out, all of them counted; 0 for no lists.
    pub rules: u32,
    /// Every flow is metered.
    pub meter: bool,
    /// A monitor session copies what port 1 receives to port 3.
    pub span: bool,
    /// Port 3 takes nothing.
    pub stalled: bool,
    /// Room for fewer flows than there are, so that every frame is the first of its flow.
    pub miss: bool,
    /// Nobody knows the destination, and one other port may have it.
    pub flood: bool,
    /// Port 2 sends what port 1 sends, from the same address, so that the address moves with every batch.
    pub flapping: bool,
}

const PLAIN: Case = Case {
    what: "plain",
    flows: 10_000,
    vlan: false,
    rules: 0,
    meter: false,
    span: false,
    stalled: false,
    miss: false,
    flood: false,
    flapping: false,
};
const ALL: Case = Case { what: "everything on", vlan: true, rules: 100, meter: true, ..PLAIN };
const MISS: Case = Case { what: "new flow, 10 rules", flows: 65_536, rules: 10, miss: true, ..ALL };

/// Every row, in the order of the table.
pub const CASES: &[Case] = &[
    Case { flows: 1, ..PLAIN },
    Case { flows: 100, ..PLAIN },
    PLAIN,
    Case { flows: 100_000, ..PLAIN },
    Case { flows: 1_000_000, ..PLAIN },
    Case { flows: 1, ..ALL },
    Case { flows: 100, ..ALL },
    ALL,
    Case { flows: 100_000, ..ALL },
    Case { flows: 1_000_000, ..ALL },
    Case { what: "plain + VLAN", vlan: true, ..PLAIN },
    Case { what: "plain + ACL in/out 100", rules: 100, ..PLAIN },
    Case { what: "plain + meter", meter: true, ..PLAIN },
    Case { what: "plain + SPAN", span: true, ..PLAIN },
    Case { what: "plain + SPAN", span: true, flows: 1, ..PLAIN },
    Case { what: "plain + SPAN, destination stalled", span: true, stalled: true, ..PLAIN },
    Case { what: "everything on + SPAN", span: true, ..ALL },
    Case { what: "everything on, 10 rules", rules: 10, ..ALL },
    Case { what: "everything on, 1,000 rules", rules: 1_000, ..ALL },
    Case { what: "everything on, 10,000 rules", rules: 10_000, ..ALL },
    Case { what: "plain, flooded", flood: true, flows: 1, ..PLAIN },
    Case { what: "plain, flooded", flood: true, ..PLAIN },
    Case { what: "plain, flooded, source flapping", flood: true, flapping: true, flows: 1, ..PLAIN },
    Case { what: "everything on, flooded, source flapping", flood: true, flapping: true, ..ALL },
    MISS,
    Case { what: "new flow, 100 rules", rules: 100, ..MISS },
    Case { what: "new flow, 1,000 rules", rules: 1_000, ..MISS },
    Case { what: "new flow, 10,000 rules", rules: 10_000, ..MISS },
];

impl Case {
    /// As it is printed and chosen by words.
    pub fn name(&self) -> String {
        let digits = self.flows.to_string();
        let groups: Vec<&str> =
            digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
        format!("{}, {} flow{}", self.what, groups.join(","), if self.flows == 1 { "" } else { "s" })
    }

    /// It is one side of a ratio: what a feature costs.
    pub fn is_compared(&self) -> bool {
        self.flows == PLAIN.flows && self.rules == PLAIN.rules && !self.flood && !self.flapping
    }

    fn vlan_id(&self) -> VlanId {
        if self.vlan { VlanId::new(10).unwrap_or(VlanId::DEFAULT) } else { VlanId::DEFAULT }
    }

    fn port(&self, id: u16) -> PortConfig {
        PortConfig {
            id: PortId(id),
            uplink: false,
            up: true,
            mode: PortMode::Access(self.vlan_id()),
            protected: false,
            mtu: 1500,
            ip_acl_in: None,
            ip_acl_out: None,
            mac_acl_in: None,
            mac_acl_out: None,
            flow_in: self.meter.then_some(0),
            flow_out: None,
            sampling: Default::default(),
        }
    }

    /// Ports that frames come from.
    pub fn sources(&self) -> u16 {
        if self.flapping { 2 } else { 1 }
    }

    /// Frames come from port 1 and go to port 2, and the other way when the source flaps; port 3 gets copies.
    pub fn config(&self) -> Config {
        let listed = self.rules > 0;
        let (first, second) = (listed.then_some(0), listed.then_some(1));
        let mut ports = vec![
            PortConfig { ip_acl_in: first, ip_acl_out: second.filter(|_| self.flapping), ..self.port(1) },
            PortConfig { ip_acl_in: first.filter(|_| self.flapping), ip_acl_out: second, ..self.port(2) },
            self.port(3),
        ];
        // A flood is not to reach it.
        if let Some(third) = ports.last_mut().filter(|_| self.flood) {
            third.mode = PortMode::Access(VlanId::new(20).unwrap_or(VlanId::DEFAULT));
        }
        let known = StaticMac { vlan: self.vlan_id(), mac: mac(2), port: Some(PortId(2)) };
        let session =
            SessionConfig { rx_ports: vec![PortId(1)], destinations: vec![PortId(3)], ..SessionConfig::default() };
        Config {
            version: 1,
            vlans: VlanSet::all(),
            mac_aging: Duration::from_secs(300),
            static_macs: if self.flood { Vec::new() } else { vec![known] },
            acls: if listed { vec![rules(self.rules, 0), rules(self.rules, self.rules + 1)] } else { Vec::new() },
            monitors: vec![MonitorConfig { active: Duration::from_secs(1800), inactive: Duration::from_secs(15) }],
            selecting: Vec::new(),
            sessions: if self.span { vec![session] } else { Vec::new() },
            ports,
            sensors: Vec::new(),
            monitor_ins: Vec::new(),
            protected_macs: Vec::new(),
            ..Config::default()
        }
    }

    /// How many flows the switch has room for.
    pub fn capacity(&self) -> usize {
        match self.flows {
            _ if self.miss => 4_096,
            more if more > 262_144 => 1 << 20,
            _ => 262_144,
        }
    }
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// Where the source address is, which tells the flows apart.
pub const SOURCE: usize = 26;
/// The first of them, 10.0.0.0.
pub const FIRST: u32 = 0x0a00_0000;

/// A 64-octet UDP frame (60 without FCS).
pub fn frame() -> Vec<u8> {
    let mut f = [mac(2).0, mac(1).0].concat();
    f.extend_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 0, 192, 0, 2, 1]);
    f.extend_from_slice(&[3, 232, 0, 80, 0, 26, 0, 0]);
    f.extend_from_slice(&[0; 18]);
    f
}

/// `count` counted rules with the numbers from `from` on, of which the last matches every frame.
fn rules(count: u32, from: u32) -> AclConfig {
    let rule = |i: u32| IpRule {
        action: Action::Permit,
        protocol: Some(17),
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: if i + 1 == count { AddrMatch::ANY } else { AddrMatch { addr: i, wildcard: 0 } },
        dst_port: PortMatch::Eq(80),
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let rules = Rules::Ip((0..count).map(|i| (i, rule(i))).collect());
    let acl = Acl { name: format!("bench-{from}"), statistics: true, rules };
    AclConfig { acl, rule_ids: (from..=from + count).collect() }
}
