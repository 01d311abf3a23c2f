//! What a flow monitor has counted reaches its own collectors when it goes or changes (law 2).

use std::net::{Ipv4Addr, UdpSocket};

use proto::addr::VlanId;
use proto::flow::{Destination, Exporter, Monitor, Version};
use proto::vlan::PortMode;
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};

use super::*;

/// A collector of version 5.
struct Collector(UdpSocket);

impl Collector {
    fn new() -> Collector {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 22).unwrap();
        socket.set_nonblocking(true).unwrap();
        Collector(socket)
    }

    /// Packets and octets of what has arrived.
    fn take(&self) -> (u64, u64) {
        let (mut buffer, mut sum) = ([0; 2000], (0, 0));
        while let Ok(length) = self.0.recv(&mut buffer) {
            for record in buffer[24..length].chunks(48) {
                let word = |at: usize| u64::from(u32::from_be_bytes(record[at..at + 4].try_into().unwrap()));
                sum = (sum.0 + word(16), sum.1 + word(20));
            }
        }
        sum
    }

    fn exporter(&self, name: &str) -> Exporter {
        let port = self.0.local_addr().unwrap().port();
        Exporter {
            name: name.into(),
            destinations: vec![Destination::new(Ipv4Addr::LOCALHOST.into(), port)],
            version: Version::V5,
            dscp: 0,
            template_timeout_s: 60,
            option_timeout_s: 60,
            payload_max: 1400,
            ..Exporter::default()
        }
    }
}

fn monitor(name: &str, exporter: &str) -> Monitor {
    let exporters = vec![exporter.to_owned()];
    Monitor { name: name.into(), record: None, exporters, active_s: 1800, inactive_s: 600, ..Monitor::default() }
}

/// A UDP packet of 28 octets over IPv4, for everybody; each number is a flow.
fn frame(number: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let sum = packet.chunks(2).fold(0, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(pair[1]));
    packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    let [a, b] = number.to_be_bytes();
    [[0xff; 6].as_slice(), &[2, 0, 0, 0, 0, 1, 8, 0], &packet, &[a, b, 0, 80, 0, 8, 0, 0]].concat()
}

/// A switch with a port that frames can be given to.
struct Metered {
    rig: Rig,
    host: HostConfig,
    version: u64,
    port: PortId,
    end: MemoryEnd,
    sent: u64,
}

impl Metered {
    fn new(dir: &Path) -> Metered {
        let mut rig = Rig::new(&dir.join("state"));
        let vlan = VlanId::new(10).unwrap();
        let mut host = config("one");
        host.vlans.insert(vlan);
        host.profiles[0].settings.mode = PortMode::Access(vlan);
        let now = rig.now;
        rig.switch().attach(&guest(&dir.join("web1.sock")), now).unwrap();
        let port = rig.switch().ports().next().unwrap().0.port();
        // In the place of a guest.
        let (cable, end) = memory::pair(256, Offloads::ALL);
        rig.switch().control().detach(port).unwrap();
        rig.switch().control().attach(port, Box::new(cable)).unwrap();
        Metered { rig, host, version: 0, port, end, sent: 0 }
    }

    /// Publishes what `host` has become.
    fn apply(&mut self) {
        self.version += 1;
        self.rig.prepare(self.version, &self.host).unwrap();
        self.rig.commit(self.version).unwrap();
    }

    fn set_monitor(&mut self, name: Option<&str>) {
        self.host.profiles[0].settings.flow_in = name.map(str::to_owned);
    }

    /// Sends frames of so many flows, and returns when all are counted.
    fn send(&mut self, flows: u16) {
        for number in 0..flows {
            while !self.end.send(&frame(number), VnetHdr::PLAIN) {
                std::thread::yield_now();
            }
        }
        self.sent += u64::from(flows);
        let counted = |rig: &mut Rig, port| {
            let counters = rig.switch().control().port_counters(port);
            counters.delivered + counters.rx_drops.iter().sum::<u64>()
        };
        while counted(&mut self.rig, self.port) < self.sent {
            std::thread::yield_now();
        }
    }
}

fn of(flows: u64) -> (u64, u64) {
    (flows, 28 * flows)
}

#[test]
fn the_last_port_of_a_monitor_the_monitor_and_its_exporter_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut metered = Metered::new(dir.path());
    let [a, b] = [Collector::new(), Collector::new()];
    metered.host.exporters = vec![a.exporter("a"), b.exporter("b")];
    metered.host.monitors = vec![monitor("m", "a")];
    metered.set_monitor(Some("m"));
    metered.apply();
    metered.send(3000);
    metered.set_monitor(None);
    metered.apply();
    metered.send(10);
    assert_eq!(a.take(), of(3000), "taken off its last port");
    metered.set_monitor(Some("m"));
    metered.apply();
    metered.send(700);
    metered.host.monitors = vec![monitor("n", "b")];
    metered.host.exporters.remove(0);
    metered.set_monitor(Some("n"));
    metered.apply();
    assert_eq!((a.take(), b.take()), (of(700), of(0)), "gone, with its exporter; another comes in the same change");
    metered.send(300);
    metered.host = HostConfig { monitors: Vec::new(), exporters: Vec::new(), ..metered.host };
    metered.apply();
    assert_eq!((a.take(), b.take()), (of(0), of(300)), "gone, though a profile still names it");
}

#[test]
fn a_monitor_or_an_exporter_that_changes_has_told_its_collectors_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut metered = Metered::new(dir.path());
    let [a, b, c] = [Collector::new(), Collector::new(), Collector::new()];
    metered.host.exporters = vec![a.exporter("a"), b.exporter("b")];
    metered.host.monitors = vec![monitor("m", "a")];
    metered.set_monitor(Some("m"));
    metered.apply();
    for round in 0..4 {
        metered.send(200 + round);
        metered.host.monitors[0].exporters = vec!["b".to_owned()];
        metered.apply();
        metered.send(100);
        metered.host.exporters[1] = c.exporter("b");
        metered.apply();
        metered.send(50);
        metered.host.exporters[1] = b.exporter("b");
        metered.host.monitors[0].exporters = vec!["a".to_owned()];
        metered.apply();
        let told = (a.take(), b.take(), c.take());
        assert_eq!(told, (of(200 + u64::from(round)), of(100), of(50)));
    }
    // A timer is no other monitor: nothing is reported for that.
    metered.send(20);
    metered.host.monitors[0].active_s = 60;
    metered.apply();
    assert_eq!(a.take(), of(0));
}

#[test]
fn when_every_number_is_taken_others_come_after_those_that_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut metered = Metered::new(dir.path());
    let collectors = [Collector::new(), Collector::new(), Collector::new()];
    for (round, collector) in collectors.iter().enumerate() {
        metered.host.exporters = vec![collector.exporter("e")];
        metered.host.monitors = (0..32).map(|n| monitor(&format!("{round}-{n}"), "e")).collect();
        metered.set_monitor(Some(&format!("{round}-5")));
        metered.apply();
        metered.send(100);
    }
    metered.set_monitor(None);
    metered.apply();
    assert_eq!(collectors.each_ref().map(Collector::take), [of(100); 3]);
}

#[test]
fn a_port_that_is_detached_has_told_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut metered = Metered::new(dir.path());
    let a = Collector::new();
    metered.host.exporters = vec![a.exporter("a")];
    metered.host.monitors = vec![monitor("m", "a")];
    metered.set_monitor(Some("m"));
    metered.apply();
    metered.send(2000);
    let now = metered.rig.now;
    metered.rig.switch().detach(Some("web1"), None, now).unwrap();
    assert_eq!(a.take(), of(2000));
}

#[test]
fn a_stop_tells_all() {
    let dir = tempfile::tempdir().unwrap();
    let a = Collector::new();
    let mut metered = Metered::new(dir.path());
    metered.host.exporters = vec![a.exporter("a")];
    metered.host.monitors = vec![monitor("m", "a")];
    metered.set_monitor(Some("m"));
    metered.apply();
    metered.send(5000);
    drop(metered);
    assert_eq!(a.take(), of(5000));
}
