//! A switch with memory ports, driven by hand, that checks law 1 after every turn.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod frames;
pub mod metered;
pub mod mirrored;

use std::collections::BTreeMap;
use std::time::Duration;

use proto::acl::{Acl, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::vlan::{PortMode, VlanSet};
use rtrb::Consumer;
use vswitch::config::{AclConfig, Config, MonitorConfig, PortConfig};
use vswitch::control::{Control, PortCounters};
use vswitch::flow::record::Record;
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{Buffer, TxFrame};
use vswitch::observe::mirror::Mirror;
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, Port, PortId, Sent};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::verdict::DropReason;
use vswitch::worker::{Limits, Worker, switch};

pub const SMALL: Limits = Limits { flows: 4096, macs: 256, macs_per_port: 64, records: 4096, evicted_per_s: 200_000 };

pub struct Net {
    pub worker: Worker,
    pub mirror: Mirror,
    pub control: Control,
    pub reports: Consumer<Record>,
    pub ends: BTreeMap<u16, MemoryEnd>,
    pub config: Config,
    pub now_ms: u64,
}

pub fn vlan(id: u16) -> VlanId {
    VlanId::new(id).unwrap()
}

pub fn vlans(list: &str) -> VlanSet {
    list.parse().unwrap()
}

pub fn access(id: u16, vlan_id: u16) -> PortConfig {
    PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode: PortMode::Access(vlan(vlan_id)),
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

pub fn trunk(id: u16, native: u16, allowed: &str) -> PortConfig {
    PortConfig { mode: PortMode::Trunk { native: vlan(native), allowed: vlans(allowed) }, ..access(id, 1) }
}

pub fn uplink(id: u16, allowed: &str) -> PortConfig {
    PortConfig { uplink: true, ..trunk(id, 1, allowed) }
}

pub fn acl(rules: Rules, first_id: u32) -> AclConfig {
    let count = match &rules {
        Rules::Ip(rules) => rules.len(),
        Rules::Mac(rules) => rules.len(),
    };
    let rule_ids = (first_id..=first_id + count as u32).collect();
    AclConfig { acl: Acl { name: format!("list{first_id}"), statistics: true, rules }, rule_ids }
}

pub fn config(ports: Vec<PortConfig>) -> Config {
    Config { version: 1, vlans: vlans("1-100"), mac_aging: Duration::from_secs(300), ports, ..Config::default() }
}

pub fn monitor(active_s: u64, inactive_s: u64) -> MonitorConfig {
    MonitorConfig { active: Duration::from_secs(active_s), inactive: Duration::from_secs(inactive_s) }
}

impl Net {
    pub fn new(config: Config) -> Net {
        Net::with(config, SMALL, Offloads::ALL, 512)
    }

    pub fn with(config: Config, limits: Limits, offloads: Offloads, capacity: usize) -> Net {
        let (worker, control, reports) = switch(limits);
        let mirror = control.mirror().unwrap();
        let mut net = Net { worker, mirror, control, reports, ends: BTreeMap::new(), config, now_ms: 1 };
        for port in net.config.ports.clone() {
            net.attach(port.id.0, offloads, capacity);
        }
        net.publish();
        net
    }

    pub fn attach(&mut self, id: u16, offloads: Offloads, capacity: usize) {
        let (port, end) = memory::pair(capacity, offloads);
        assert!(self.worker.attach(PortId(id), Box::new(port)).is_ok());
        self.ends.insert(id, end);
        self.give_destinations();
    }

    pub fn publish(&mut self) {
        self.config.version += 1;
        self.worker.publish(Snapshot::build(&self.config).unwrap());
        self.give_destinations();
    }

    /// Gives the mirror a handle of each destination, as `Control` does.
    pub fn give_destinations(&mut self) {
        let sessions = self.config.sessions.clone();
        for id in sessions.iter().flat_map(|session| &session.destinations) {
            if let Ok(port) = self.worker.sender(*id) {
                self.mirror.attach(*id, port);
            }
        }
    }

    pub fn port(&mut self, id: u16) -> &mut PortConfig {
        self.config.ports.iter_mut().find(|p| p.id.0 == id).unwrap()
    }

    pub fn send(&mut self, id: u16, frame: &[u8]) {
        self.send_vnet(id, frame, VnetHdr::PLAIN);
    }

    pub fn send_vnet(&mut self, id: u16, frame: &[u8], vnet: VnetHdr) {
        assert!(self.ends.get_mut(&id).unwrap().send(frame, vnet), "no room");
    }

    /// Turns until nothing arrives any more, then checks law 1.
    pub fn turn(&mut self) {
        let now = Instant::from_ms(self.now_ms);
        while self.worker.turn(now) + self.mirror.turn() > 0 {}
        self.check_law_1();
    }

    /// Turns the mirror until nothing comes out of port `id` any more.
    pub fn drain(&mut self, id: u16) -> Vec<(Vec<u8>, VnetHdr)> {
        let mut copies = Vec::new();
        while self.mirror.turn() > 0 {
            copies.extend(self.recv(id));
        }
        copies
    }

    pub fn after(&mut self, ms: u64) {
        self.now_ms += ms;
        for _ in 0..200 {
            self.worker.turn(Instant::from_ms(self.now_ms));
        }
        self.turn();
    }

    pub fn recv(&mut self, id: u16) -> Vec<(Vec<u8>, VnetHdr)> {
        let end = self.ends.get_mut(&id).unwrap();
        std::iter::from_fn(|| end.recv()).collect()
    }

    /// Everything that every port has been sent: port and octets.
    pub fn recv_all(&mut self) -> Vec<(u16, Vec<u8>)> {
        let ids: Vec<u16> = self.ends.keys().copied().collect();
        ids.into_iter().flat_map(|id| self.recv(id).into_iter().map(move |(frame, _)| (id, frame))).collect()
    }

    /// Sends one frame, and returns the ports that it came out of.
    pub fn through(&mut self, id: u16, frame: &[u8]) -> Vec<u16> {
        self.recv_all();
        self.send(id, frame);
        self.turn();
        self.recv_all().into_iter().map(|(port, _)| port).collect()
    }

    /// As `through`, with what the device says of the frame.
    pub fn through_vnet(&mut self, id: u16, frame: &[u8], vnet: VnetHdr) -> Vec<u16> {
        self.recv_all();
        self.send_vnet(id, frame, vnet);
        self.turn();
        self.recv_all().into_iter().map(|(port, _)| port).collect()
    }

    pub fn worker_detach(&mut self, id: u16) {
        self.mirror.detach(PortId(id));
        self.ask(|control| control.detach(PortId(id)).unwrap());
        self.ends.remove(&id);
    }

    /// A device that refuses every frame.
    pub fn attach_refusing(&mut self, id: u16) {
        struct Refusing;
        impl Port for Refusing {
            fn rx(&mut self, _: &mut [Buffer]) -> Result<usize, vswitch::port::Error> {
                Ok(0)
            }
            fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
                let refused_set = u64::MAX >> (64 - frames.len());
                Sent { accepted: 0, refused: frames.len(), refused_set }
            }
            fn offloads(&self) -> Offloads {
                Offloads::ALL
            }
        }
        assert!(self.worker.attach(PortId(id), Box::new(Refusing)).is_ok());
    }

    /// Sends one frame, which must be dropped for `reason` and no other.
    pub fn dropped(&mut self, id: u16, frame: &[u8], vnet: VnetHdr, reason: DropReason) {
        let before = self.drops(id, reason);
        let all = self.counters(id).rx_drops.iter().sum::<u64>();
        self.recv_all();
        self.send_vnet(id, frame, vnet);
        self.turn();
        let after = self.counters(id);
        let told: Vec<_> =
            DropReason::ALL.iter().filter(|r| after.rx_drops[**r as usize] > 0).map(|r| r.name()).collect();
        assert!(self.drops(id, reason) > before, "{} expected, counted are {told:?}", reason.name());
        assert_eq!(after.rx_drops.iter().sum::<u64>() - all, self.drops(id, reason) - before);
        assert_eq!(self.worker_sample().reason, reason);
        assert_eq!(self.recv_all(), []);
    }

    pub fn worker_sample(&mut self) -> vswitch::control::DropSample {
        self.ask(|control| control.drop_samples().unwrap())[0]
    }

    pub fn counters(&self, id: u16) -> PortCounters {
        self.control.port_counters(PortId(id))
    }

    pub fn drops(&self, id: u16, reason: DropReason) -> u64 {
        self.counters(id).rx_drops[reason as usize]
    }

    pub fn tx_drops(&self, id: u16, reason: DropReason) -> u64 {
        self.counters(id).tx_drops[reason as usize]
    }

    pub fn check_law_1(&self) {
        for id in self.ends.keys() {
            let c = self.counters(*id);
            let dropped: u64 = c.rx_drops.iter().sum();
            assert_eq!(c.rx.frames(), c.delivered + dropped, "law 1 at port {id}");
        }
    }

    /// Asks the control handle from another thread while this one turns.
    pub fn ask<T: Send>(&mut self, question: impl FnOnce(&Control) -> T + Send) -> T {
        let (worker, mirror, control) = (&mut self.worker, &mut self.mirror, &self.control);
        let now = Instant::from_ms(self.now_ms);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| question(control));
            while !asking.is_finished() {
                worker.turn(now);
                mirror.turn();
                std::thread::yield_now();
            }
            asking.join().unwrap()
        })
    }

    pub fn records(&mut self) -> Vec<Record> {
        std::iter::from_fn(|| self.reports.pop().ok()).collect()
    }
}

pub fn mac(n: u16) -> MacAddr {
    let [a, b] = n.to_be_bytes();
    MacAddr([2, 0, 0, 0, a, b])
}
