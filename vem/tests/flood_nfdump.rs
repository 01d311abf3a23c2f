//! A flood of flows through a real worker, the export thread and a socket: what nfcapd has got in the end is what was sent,
//! to the packet and the octet, although most of the flows are reported in sums.

mod export_judges;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant as StdInstant};

use export_judges::{Nfcapd, judges};
use proto::addr::VlanId;
use proto::flow::{Destination, Exporter, Monitor, Version};
use proto::vlan::PortMode;
use vem::export::{self, Anchor};
use vswitch::config::{Config, MonitorConfig, PortConfig};
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::worker::{Limits, switch};

/// Frames of the flood, each a flow of its own.
const FLOOD: u32 = 40_000;
/// Flows that go on meanwhile.
const ESTABLISHED: u32 = 50;
/// IP octets of every packet.
const OCTETS: u64 = 46;

/// A UDP packet of 46 octets from 10.0.0.0 + `source` to 10.255.0.1, without a checksum.
fn packet(source: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let mut ip = vec![0x45, 0, 0, OCTETS as u8, 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend((0x0a00_0000 + source).to_be_bytes());
    ip.extend([10, 255, 0, 1]);
    let sum = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(((sum & 0xffff) + (sum >> 16)) as u16)).to_be_bytes());
    frame.extend(ip);
    frame.extend([0x30, 0x39, 0, 53, 0, 26, 0, 0]);
    frame.extend([0; 18]);
    frame
}

fn port(id: u16, flow_in: Option<usize>) -> PortConfig {
    PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode: PortMode::Access(VlanId::new(10).unwrap()),
        protected: false,
        mtu: 1500,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in,
        flow_out: None,
        sampling: Default::default(),
    }
}

fn export_to(collector: u16) -> export::Config {
    let exporter = Exporter {
        name: "judge".into(),
        destinations: vec![Destination::new(Ipv4Addr::LOCALHOST.into(), collector)],
        version: Version::V9,
        dscp: 0,
        template_timeout_s: 60,
        option_timeout_s: 60,
        payload_max: 1400,
        ..Exporter::default()
    };
    let exporters = vec!["judge".into()];
    let monitor =
        Monitor { name: "m".into(), record: None, exporters, active_s: 1800, inactive_s: 15, ..Monitor::default() };
    export::Config { module: 3, exporters: vec![exporter], monitors: vec![monitor], ..export::Config::default() }
}

#[test]
fn a_flood_of_flows_is_exported_to_the_last_octet() {
    if !judges() {
        return;
    }
    let nfcapd = Nfcapd::start();
    let epoch = StdInstant::now();
    let limits = Limits { flows: 512, records: 512, evicted_per_s: 1000, ..Limits::default() };
    let (mut worker, control, records) = switch(limits);
    let exporter = export::start(vec![records], Anchor::new(epoch)).unwrap();
    exporter.configure(export_to(nfcapd.port)).unwrap();
    let mut ends: Vec<MemoryEnd> = Vec::new();
    for id in [1, 2] {
        let (port, end) = memory::pair(512, Offloads::ALL);
        assert!(worker.attach(PortId(id), Box::new(port)).is_ok());
        ends.push(end);
    }
    let config = Config {
        version: 1,
        vlans: "10".parse().unwrap(),
        mac_aging: Duration::from_secs(300),
        monitors: vec![MonitorConfig { active: Duration::from_secs(1800), inactive: Duration::from_secs(15) }],
        ports: vec![port(1, Some(0)), port(2, None)],
        ..Config::default()
    };
    worker.publish(Snapshot::build(&config).unwrap());
    let mut sent = 0u64;
    for round in 0..FLOOD / ESTABLISHED {
        let flood = (0..ESTABLISHED).map(|n| 0x1_0000 + round * ESTABLISHED + n);
        for source in (0..ESTABLISHED).chain(flood) {
            assert!(ends[0].send(&packet(source), VnetHdr::PLAIN));
            sent += 1;
        }
        let now = Instant::from_ns(epoch.elapsed().as_nanos() as u64);
        while worker.turn(now) > 0 {}
        while ends[1].recv().is_some() {}
    }
    let stats = control.cache_stats();
    assert!(stats.summed > u64::from(FLOOD) / 2, "{stats:?}");
    assert!(stats.hits >= u64::from(FLOOD - ESTABLISHED), "the flood has evicted those that go on: {stats:?}");
    // Stopped at once: what is left becomes records.
    worker.run(epoch, Arc::new(AtomicBool::new(true)));
    assert_eq!(control.cache_stats().unmetered, 0);
    exporter.stop();
    let stored = nfcapd.stop();
    let wanted = format!("Packets: {sent}, Bytes: {}, Sequence Errors: 0, Bad Packets: 0", sent * OCTETS);
    assert!(stored.log.contains(&wanted), "{wanted}: {}", stored.log);
}
