//! The generator: what it sends is what it counts, by the lengths that it made the packets with.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::addr::{MacAddr, VlanId};
use proto::flow::Sampling;
use proto::vlan::PortMode;
use vswitch::config::{Config, MonitorConfig, PortConfig, Selecting, StaticMac};
use vswitch::control::Control;
use vswitch::frame::vnet::{self, VnetHdr};
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::worker::{Limits, Worker, switch};

use super::crowd::Crowd;
use super::{Detail, Family, Sums, add};
use crate::frames::{arp, ethernet, icmp, ipv4, ipv6, tcp, udp};

/// Packets of a flow, about.
const PER_FLOW: usize = 10;
/// The packets come within this time of the worker, milliseconds.
const SPAN_MS: usize = 10_000;
/// Silence that ends a flow, seconds.
const INACTIVE_S: u64 = 15;
/// Reports that the judges' sockets take at once.
const BURST: u64 = 300;
const GSO: usize = 1_400;

const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// What was generated.
pub struct Generated {
    /// Of what was sampled, as many times as it stands for.
    pub truth: Sums,
    /// Of what was sampled.
    pub counted: Sums,
    /// Of each flow of IP what is counted.
    pub details: Vec<Detail>,
    pub packets: u64,
    pub flows: u64,
}

/// A switch between memory ports: an access port and a trunk that are metered, and a port behind each.
pub struct Generator {
    config: Config,
    worker: Worker,
    control: Control,
    ends: BTreeMap<u16, MemoryEnd>,
    packets: usize,
    truth: Sums,
    counted: Sums,
    /// By flow and part.
    details: BTreeMap<(usize, u8), Detail>,
    /// How packets are sampled at the access port and at the trunk, every so many-th if at all.
    sampling: [Sampling; 2],
    /// Packets that passed there.
    passed: [u64; 2],
    sent: u64,
    /// Reports that the workers' ring had been given when the judges were last waited for.
    reported: u64,
    /// For the exporter, until it is started.
    records: Option<rtrb::Consumer<vswitch::flow::record::Record>>,
}

/// A packet of a flow: protocol, octets of IP, and what they are cut into.
struct Packet {
    key: (Family, u8),
    /// Tells flows of one number apart: later fragments have no ports.
    part: u8,
    packets: u64,
    octets: u64,
    /// Of each packet but the last.
    each: u64,
    /// Time to live, and flow label of IPv6.
    ttl: u8,
    label: u32,
    frame: Vec<u8>,
    vnet: VnetHdr,
}

fn port(id: u16, mode: PortMode, flow_in: Option<usize>, sampling: Sampling) -> PortConfig {
    PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode,
        protected: false,
        mtu: 9000,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in,
        flow_out: None,
        sampling: [sampling, Sampling::NONE],
    }
}

impl Generator {
    /// Of each packet what a record may ask for is read.
    pub fn detailed(mut self) -> Self {
        self.config.version += 1;
        self.config.selecting = vec![Selecting { detailed: true, ..Selecting::default() }];
        self.worker.publish(Snapshot::build(&self.config).unwrap());
        self
    }

    /// Its truth is of the packets that are sampled; of all where that is random.
    pub fn new(packets: usize, sampling: [Sampling; 2]) -> Self {
        let flows = 2 * packets.div_ceil(PER_FLOW) + 1000;
        let (mut worker, control, records) = switch(Limits { flows, ..Limits::default() });
        let [ten, twenty] = [10, 20].map(|id| VlanId::new(id).unwrap());
        let trunk = PortMode::Trunk { native: VlanId::DEFAULT, allowed: "1-100".parse().unwrap() };
        let modes = [PortMode::Access(ten), trunk, PortMode::Access(ten), PortMode::Access(twenty)];
        let of = |id: u16| sampling.get(usize::from(id) - 1).copied().unwrap_or_default();
        let ports = (1..).zip(modes).map(|(id, mode)| port(id, mode, (id < 3).then_some(0), of(id)));
        let config = Config {
            version: 1,
            vlans: "1-100".parse().unwrap(),
            static_macs: vec![
                StaticMac { vlan: ten, mac: SINK, port: Some(PortId(3)) },
                StaticMac { vlan: twenty, mac: SINK, port: Some(PortId(4)) },
            ],
            monitors: vec![MonitorConfig {
                active: Duration::from_secs(1800),
                inactive: Duration::from_secs(INACTIVE_S),
            }],
            ports: ports.collect(),
            ..Config::default()
        };
        let mut ends = BTreeMap::new();
        for port in &config.ports {
            let (device, end) = memory::pair(256, Offloads::ALL);
            assert!(worker.attach(port.id, Box::new(device)).is_ok());
            ends.insert(port.id.0, end);
        }
        worker.publish(Snapshot::build(&config).unwrap());
        let records = Some(records);
        let (truth, counted) = (Sums::new(), Sums::new());
        Generator {
            config,
            worker,
            control,
            ends,
            packets,
            truth,
            counted,
            details: BTreeMap::new(),
            sampling,
            passed: [0; 2],
            sent: 0,
            reported: 0,
            records,
        }
    }

    /// Sends all, waits until every flow was reported, and says what it was.
    pub fn run(mut self, crowd: &mut Crowd) -> Generated {
        crowd.export(self.records.take().unwrap());
        let count = self.packets.div_ceil(PER_FLOW);
        let mut seen = vec![0_u8; count];
        let mut number = 0;
        while self.sent < self.packets as u64 {
            let now = Instant::from_ms((1 + number * SPAN_MS / self.packets).min(SPAN_MS) as u64);
            for _ in 0..64 {
                let flow = number % count;
                // The last one may be cut into more than are left.
                let packet = packet(flow, number / count, number).with_detail(number);
                let tagged = packet.frame[12..14] == [0x81, 0];
                let lengths = self.picked(&packet, tagged.into());
                let (packets, octets) = (lengths.len() as u64, lengths.iter().sum::<u64>());
                if packets > 0 {
                    if packet.key.0 != Family::Link {
                        let new = Detail::new(packet.key, packet.label);
                        let detail = self.details.entry((flow, packet.part)).or_insert(new);
                        detail.add(packet.ttl, &lengths);
                    }
                    let first = seen[flow] & packet.part == 0;
                    seen[flow] |= packet.part;
                    let all = |counted| self.stands_for(tagged.into(), counted);
                    let (all_packets, all_octets) = (all(packets), all(octets));
                    add(&mut self.truth, packet.key, (first.into(), all_packets, all_octets));
                    add(&mut self.counted, packet.key, (first.into(), packets, octets));
                }
                self.sent += packet.packets;
                let end = self.ends.get_mut(if tagged { &2 } else { &1 }).unwrap();
                assert!(end.send(&packet.frame, packet.vnet), "no room");
                number += 1;
            }
            self.turn(now);
        }
        self.expire(crowd);
        let flows = super::total(&self.truth).0;
        assert_eq!(self.control.cache_stats().unmetered, 0);
        Generated {
            truth: self.truth,
            counted: self.counted,
            details: self.details.into_values().collect(),
            packets: self.sent,
            flows,
        }
    }

    /// As many as what is counted stands for, of a frame to the nearest; at random it is all.
    fn stands_for(&self, port: usize, counted: u64) -> u64 {
        let sampling = self.sampling[port];
        if sampling.is_random() { counted } else { sampling.scale(counted) }
    }

    /// Octets of the packets that are counted of what comes by the port: of those that a frame is cut into, the last is shorter.
    fn picked(&mut self, packet: &Packet, port: usize) -> Vec<u64> {
        let (sampling, is_random) = (self.sampling[port], self.sampling[port].is_random());
        let (count, out_of): (u64, u64) = (sampling.count().into(), sampling.out_of().into());
        let before = self.passed[port];
        self.passed[port] += packet.packets;
        let picks = (1..=packet.packets).filter(|n| is_random || (before + n - 1) % out_of >= out_of - count);
        let last = packet.octets - (packet.packets - 1) * packet.each;
        picks.map(|n| if n == packet.packets { last } else { packet.each }).collect()
    }

    fn turn(&mut self, now: Instant) {
        while self.worker.turn(now) > 0 {}
        for end in self.ends.values_mut() {
            while end.recv_with(|_, _| ()).is_some() {}
        }
    }

    /// Time goes on until the last flow has ended, no faster than the judges read.
    fn expire(&mut self, crowd: &mut Crowd) {
        let stats = |control: &Control| control.cache_stats();
        for step in 0.. {
            let now = Instant::from_ms((SPAN_MS + step * 5) as u64);
            self.turn(now);
            let stats = stats(&self.control);
            let reported = stats.added - stats.active;
            if reported - self.reported >= BURST {
                self.reported = reported;
                // Of flows of which nothing was picked there is no report.
                crowd.wait_for(if self.sampling == [Sampling::NONE; 2] { reported } else { 0 });
            }
            if stats.active == 0 {
                break;
            }
            assert!(step * 5 < 40_000, "{} flows have not ended", stats.active);
        }
    }
}

impl Packet {
    /// With a time to live, or hop limit, and a flow label of its own.
    fn with_detail(mut self, number: usize) -> Self {
        self.ttl = (number * 53 % 256) as u8;
        let at = if self.frame[12..14] == [0x81, 0] { 18 } else { 14 };
        match self.key.0 {
            Family::Ipv4 => self.frame[at + 8] = self.ttl,
            Family::Ipv6 => {
                self.label = (number * 7919 % (1 << 20)) as u32;
                self.frame[at + 1..at + 4].copy_from_slice(&self.label.to_be_bytes()[1..]);
                self.frame[at + 7] = self.ttl;
            }
            Family::Link => {}
        }
        self
    }
}

/// The `turn`-th packet of flow `flow`, of `number` in all.
fn packet(flow: usize, turn: usize, number: usize) -> Packet {
    let host = (flow >> 4) as u32;
    let [a, b, c] = [(host >> 16) as u8, (host >> 8) as u8, host as u8];
    let (src, dst) = ([10, a, b, c], [172, 16, c, b]);
    let (from, to) = (1024 + (flow % 50_000) as u16, [80, 443, 53, 8080][flow >> 4 & 3]);
    let body = vec![7; number * 7919 % 1000];
    let plain = |key, part, payload: Vec<u8>, tags: &[(u16, u16)], ethertype| Packet {
        key,
        part,
        packets: 1,
        octets: payload.len() as u64,
        each: 0,
        ttl: 0,
        label: 0,
        frame: ethernet(SINK, STATION, tags, ethertype, &payload),
        vnet: VnetHdr::PLAIN,
    };
    // Of one length each, so that addresses alone make the flow.
    let v6 = |next, payload: &[u8]| {
        let mut packet = ipv6(1, 2, next, payload);
        packet[16..20].copy_from_slice(&(flow as u32).to_be_bytes());
        packet
    };
    let tag: &[(u16, u16)] = &[(0x8100, 20)];
    match flow % 16 {
        0..=2 => {
            let flags = if turn == 0 { 2 } else { 0x18 };
            plain((Family::Ipv4, 6), 1, ipv4(src, dst, 6, 0, 0, &tcp(from, to, flags, &body)), &[], 0x0800)
        }
        3 | 4 => plain((Family::Ipv4, 17), 1, ipv4(src, dst, 17, 0xb8, 0, &udp(from, to, &body)), &[], 0x0800),
        5 | 6 => plain((Family::Ipv4, 17), 1, ipv4(src, dst, 17, 0, 0, &udp(from, to, &body)), tag, 0x0800),
        7 if turn.is_multiple_of(2) => {
            plain((Family::Ipv4, 17), 1, ipv4(src, dst, 17, 0, 0x2000, &udp(from, to, &[7; 1472])), &[], 0x0800)
        }
        7 => plain((Family::Ipv4, 17), 2, ipv4(src, dst, 17, 0, 185, &body), &[], 0x0800),
        8 => plain((Family::Ipv4, 1), 1, ipv4(src, dst, 1, 0, 0, &icmp(8, 0)), &[], 0x0800),
        9 => {
            // Padded to the least length of a frame, which is not counted.
            let mut small = plain((Family::Ipv4, 47), 1, ipv4(src, dst, 47, 0, 0, &[0, 0, 8, 0]), &[], 0x0800);
            small.frame.resize(60, 0);
            small
        }
        10 => plain((Family::Ipv6, 6), 1, v6(6, &tcp(from, to, 0x10, &body)), &[], 0x86dd),
        11 => plain((Family::Ipv6, 17), 1, v6(17, &udp(from, to, &body)), tag, 0x86dd),
        12 => plain((Family::Ipv6, 58), 1, v6(58, &icmp(128, 0)), &[], 0x86dd),
        13 => super_frame(ipv4(src, dst, 6, 0, 0, &tcp(from, to, 0x10, &vec![7; 2000 + body.len()])), 20),
        14 => super_frame(v6(6, &tcp(from, to, 0x10, &vec![7; 2000 + body.len()])), 40),
        _ => link(flow, host, src, dst),
    }
}

/// ARP, or a protocol that is not IP; its octets are those of the frame.
fn link(flow: usize, host: u32, src: [u8; 4], dst: [u8; 4]) -> Packet {
    let [_, _, x, y] = (flow as u32).to_be_bytes();
    let (source, ethertype, payload) = match host % 2 {
        0 => (STATION, 0x0806, arp(1, src, dst)),
        _ => (MacAddr([2, 1, (flow >> 16) as u8, 0, x, y]), 0x88b5, vec![1; 50]),
    };
    let frame = ethernet(SINK, source, &[], ethertype, &payload);
    let octets = frame.len() as u64;
    Packet {
        key: (Family::Link, 0),
        part: 1,
        packets: 1,
        octets,
        each: 0,
        ttl: 0,
        label: 0,
        frame,
        vnet: VnetHdr::PLAIN,
    }
}

/// A TCP packet that is longer than its segments shall be; each has the headers of both again.
fn super_frame(packet: Vec<u8>, header: usize) -> Packet {
    let payload = packet.len() - header - 20;
    let segments = payload.div_ceil(GSO);
    let (gso_type, ethertype) = if header == 20 { (vnet::GSO_TCPV4, 0x0800) } else { (vnet::GSO_TCPV6, 0x86dd) };
    let vnet = VnetHdr {
        flags: vnet::NEEDS_CSUM,
        gso_type,
        hdr_len: (14 + header + 20) as u16,
        gso_size: GSO as u16,
        csum_start: (14 + header) as u16,
        csum_offset: 16,
    };
    Packet {
        key: (if header == 20 { Family::Ipv4 } else { Family::Ipv6 }, 6),
        part: 1,
        packets: segments as u64,
        octets: (payload + segments * (header + 20)) as u64,
        each: (GSO + header + 20) as u64,
        ttl: 0,
        label: 0,
        frame: ethernet(SINK, STATION, &[], ethertype, &packet),
        vnet,
    }
}
