//! The bodies of the fuzz targets, which the replay test runs as well.

use std::time::Duration;

use vswitch::config::MonitorConfig;
use vswitch::frame::vnet::{VNET_LEN, VnetHdr};
use vswitch::observe::erspan::{Direction, Encapsulation, Form, HEADERS_MAX, Received, SESSION_MAX, Sighting, Tag};
use vswitch::port::memory::{MemoryEnd, pair};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::verdict::DropReason;
use vswitch::worker::{Limits, switch};

use crate::draw::{Draw, PORTS};

/// A frame with these reasons was never a flow.
const INSANE: [DropReason; 15] = [
    DropReason::Runt,
    DropReason::Oversize,
    DropReason::SourceMacInvalid,
    DropReason::VlanDepth,
    DropReason::VlanReserved,
    DropReason::Ipv4Header,
    DropReason::Ipv4Length,
    DropReason::Ipv6Header,
    DropReason::Ipv6Length,
    DropReason::Ipv6Extensions,
    DropReason::L4Header,
    DropReason::FragmentTiny,
    DropReason::FragmentOverlap,
    DropReason::ArpMalformed,
    DropReason::OffloadInvalid,
];

/// What is accepted can be cut and completed, and comes to as many segments as were counted.
pub fn parse(octets: &[u8]) {
    let Some((said, frame)) = octets.split_first_chunk::<VNET_LEN>() else { return };
    let Ok(parsed) = vswitch::parse::parse(frame, &VnetHdr::read(said), PortId(0)) else { return };
    assert!(parsed.packet_max as usize <= frame.len());
    if parsed.vnet.is_gso() {
        let (mut count, mut sum) = (0, 0);
        let mut emit = |segment: &[u8]| (count, sum) = (count + 1, sum + segment.len() as u32);
        let cut = vswitch::offload::segment(frame, &parsed.vnet, &mut Vec::new(), &mut emit);
        assert_eq!(cut, Ok(parsed.segments as usize));
        assert_eq!((count, sum), (parsed.segments, parsed.l2_octets));
    } else if parsed.vnet.needs_csum() {
        assert_eq!(vswitch::offload::complete_checksum(&mut frame.to_vec(), &parsed.vnet), Ok(()));
    }
}

/// Octets from the network as an ERSPAN packet, alone and behind an IPv4 header that is right: what is accepted holds a
/// frame, and is read as it was when it is sent on as type II.
pub fn erspan(octets: &[u8]) {
    let behind = [&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 47, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2][..], octets].concat();
    let mut whole = behind;
    let total = whole.len() as u16;
    whole[2..4].copy_from_slice(&total.to_be_bytes());
    for packet in [octets, &whole] {
        let Ok(read) = Received::read(packet) else { continue };
        assert!(read.frame.len() >= 14 && read.session <= SESSION_MAX);
        let onward = Encapsulation {
            origin: read.source,
            destination: read.destination,
            session: read.session,
            form: Form::Two,
            ttl: 64,
            dscp: 0,
            fragment: false,
        };
        let sighting = Sighting {
            tag: read.tci.map_or(Tag::Kept, Tag::Removed),
            port: read.port.unwrap_or(0),
            direction: Direction::Ingress,
            truncated: read.truncated,
            time: Duration::ZERO,
        };
        let mut headers = [0; HEADERS_MAX];
        let length = onward.write(&sighting, read.sequence.unwrap_or(0), read.frame.len(), &mut headers);
        let sent = [&headers[..length], read.frame].concat();
        if sent.len() <= usize::from(u16::MAX) {
            let again = Received::read(&sent).unwrap();
            let essence = |it: &Received| (it.session, it.tci, it.truncated, it.source, it.destination);
            assert_eq!((essence(&again), again.frame), (essence(&read), read.frame));
        }
    }
}

/// A small switch whose ports are all metered, through random frames, time, changes and full queues.
pub fn road(octets: &[u8]) {
    let mut draw = Draw::new(octets);
    let limits = Limits { flows: 24, macs: 12, macs_per_port: 4, records: 64, evicted_per_s: 200_000 };
    let (mut worker, control, mut reports) = switch(limits);
    let mut ends: Vec<MemoryEnd> = Vec::new();
    for id in 0..PORTS {
        let offloads = if draw.one_in(2) { Offloads::ALL } else { Offloads::NONE };
        let (port, end) = pair(2 + draw.below(12), offloads);
        assert!(worker.attach(PortId(id), Box::new(port)).is_ok());
        ends.push(end);
    }
    let mut now = 1;
    let (mut packets, mut version) = (0, 0);
    while !draw.is_empty() {
        if version == 0 || draw.one_in(16) {
            version += 1;
            let mut config = draw.config(version);
            config.monitors = vec![MonitorConfig { active: Duration::from_secs(5), inactive: Duration::from_secs(2) }];
            for port in &mut config.ports {
                (port.flow_in, port.flow_out) = (Some(0), None);
                // Sampled flows report what was picked.
                port.sampling = Default::default();
            }
            match Snapshot::build(&config) {
                Ok(snapshot) => worker.publish(snapshot),
                Err(error) => panic!("{error}: {config:?}"),
            }
        }
        let from = draw.below(PORTS.into());
        let (frame, vnet) = draw.frame();
        ends[from].send(&frame, vnet);
        if draw.one_in(3) {
            now += draw.below(3000) as u64;
            while worker.turn(Instant::from_ms(now)) > 0 {}
        }
        if draw.one_in(4) {
            while ends[from].recv().is_some() {}
            packets += std::iter::from_fn(|| reports.pop().ok()).map(|r| r.packets).sum::<u64>();
        }
    }
    for _ in 0..200 {
        now += 100;
        while worker.turn(Instant::from_ms(now)) > 0 {}
        packets += std::iter::from_fn(|| reports.pop().ok()).map(|r| r.packets).sum::<u64>();
    }
    let mut accepted = 0;
    for id in 0..PORTS {
        let c = control.port_counters(PortId(id));
        let dropped: u64 = c.rx_drops.iter().sum();
        assert_eq!(c.rx.frames(), c.delivered + dropped, "law 1");
        let insane: u64 = INSANE.iter().map(|reason| c.rx_drops[*reason as usize]).sum();
        accepted += c.rx.frames() - insane;
    }
    if version > 0 {
        let stats = control.cache_stats();
        assert_eq!(stats.active, 0);
        assert_eq!(packets + stats.unmetered, accepted, "law 2");
    }
}
