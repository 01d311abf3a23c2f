//! The meter: what is reported, when, and that nothing is lost (law 2).

mod net;

use net::frames::{ethernet, ipv4, tcp, tso4, udp4};
use net::metered::{ended, metered, sums};
use net::{SMALL, acl, mac, monitor};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::MacAddr;
use vswitch::control::FlowFilter;
use vswitch::flow::record::{EndReason, Outcome};
use vswitch::port::PortId;
use vswitch::verdict::DropReason;
use vswitch::worker::Limits;

#[test]
fn a_silent_flow_is_reported_once_by_the_smaller_timeout() {
    let mut net = metered(SMALL);
    for _ in 0..3 {
        net.through(1, &udp4(mac(2), mac(1), 80, 100));
        net.after(1000);
    }
    net.after(13_000);
    assert_eq!(net.records(), []);
    net.after(1_300);
    let records = net.records();
    assert_eq!(ended(&records), [(EndReason::Idle, 3, Outcome::Forwarded(PortId(2)))]);
    let r = records[0];
    assert_eq!((r.octets, r.l2_octets, r.monitors_in, r.monitors_out), (3 * 128, 3 * 142, 1, 2));
    assert_eq!((r.first.ms(), r.last.ms(), r.vlan.unwrap().get()), (60_001, 62_001, 10));
    net.after(60_000);
    assert_eq!(net.records(), []);
    assert_eq!(net.control.cache_stats().active, 0);
}

#[test]
fn a_long_flow_is_reported_by_the_smaller_active_timeout_and_adds_up() {
    let mut net = metered(SMALL);
    for _ in 0..70 {
        net.through(1, &udp4(mac(2), mac(1), 80, 100));
        net.after(1000);
    }
    net.after(30_000);
    let records = net.records();
    assert_eq!(
        records.iter().map(|r| r.end).collect::<Vec<_>>(),
        [EndReason::Active, EndReason::Active, EndReason::Idle]
    );
    assert_eq!(sums(&records), (70, 70 * 128, 70 * 142));
    assert!(records[0].packets.abs_diff(30) <= 1, "{records:?}");
    assert!(records.windows(2).all(|w| w[0].last < w[1].first));
}

#[test]
fn timeouts_change_live() {
    let mut net = metered(SMALL);
    net.config.monitors = vec![monitor(3600, 3600), monitor(3600, 3600)];
    net.publish();
    net.through(1, &udp4(mac(2), mac(1), 80, 100));
    net.after(100_000);
    assert_eq!(net.records(), []);
    net.config.monitors = vec![monitor(3600, 10), monitor(3600, 3600)];
    net.publish();
    net.after(200);
    assert_eq!(ended(&net.records()), [(EndReason::Idle, 1, Outcome::Forwarded(PortId(2)))]);
}

#[test]
fn the_end_of_a_connection_is_reported_two_seconds_later() {
    let mut net = metered(SMALL);
    let segment = |flags| {
        ethernet(mac(2), mac(1), &[], 0x800, &ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0, &tcp(5, 80, flags, &[])))
    };
    for flags in [2, 0x10, 0x11] {
        net.through(1, &segment(flags));
    }
    net.after(1_500);
    net.through(1, &segment(0x10));
    assert_eq!(net.records(), []);
    net.after(700);
    let records = net.records();
    assert_eq!(ended(&records), [(EndReason::EndDetected, 4, Outcome::Forwarded(PortId(2)))]);
    assert_eq!(records[0].tcp_flags, 0x13);
    net.through(1, &segment(4));
    net.after(2_300);
    assert_eq!(net.records()[0].end, EndReason::EndDetected);
}

#[test]
fn super_frames_count_as_their_segments() {
    let mut net = metered(SMALL);
    let (frame, vnet) = tso4(mac(2), mac(1), 60_000, 1448);
    net.through_vnet(1, &frame, vnet);
    net.after(16_000);
    let segments = 60_000u64.div_ceil(1448);
    assert_eq!(sums(&net.records()), (segments, 60_000 + segments * 40, 60_000 + segments * 54));
}

#[test]
fn denied_and_flooded_frames_are_flows_too() {
    let mut net = metered(SMALL);
    let deny = IpRule {
        action: Action::Deny,
        protocol: None,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    net.through(1, &udp4(MacAddr::BROADCAST, mac(1), 80, 1));
    // The policy changes under a live flow: what was forwarded is reported as forwarded.
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    net.config.acls = vec![acl(Rules::Ip(vec![(1, deny)]), 0)];
    net.port(1).ip_acl_in = Some(0);
    net.publish();
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    net.after(20_000);
    let mut got = ended(&net.records());
    got.sort_by_key(|r| r.0 as u8);
    assert_eq!(
        got,
        [
            (EndReason::Idle, 1, Outcome::Dropped(DropReason::AclDeny)),
            (EndReason::Idle, 1, Outcome::Flooded),
            (EndReason::Forced, 1, Outcome::Forwarded(PortId(2))),
        ]
    );
}

#[test]
fn an_output_monitor_sees_what_leaves_and_a_flow_is_seen_once_per_monitor() {
    let mut net = metered(SMALL);
    net.through(3, &udp4(mac(2), mac(3), 80, 1));
    net.through(3, &udp4(MacAddr::BROADCAST, mac(3), 80, 1));
    net.through(2, &udp4(mac(3), mac(2), 80, 1));
    net.after(30_000);
    let seen: Vec<_> = net.records().iter().map(|r| (r.key.in_port, r.monitors_in, r.monitors_out)).collect();
    assert_eq!(seen, [(3, 0, 2), (3, 0, 2)], "nobody watches the last one");
    net.port(2).flow_out = Some(0);
    net.publish();
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    net.after(30_000);
    let r = net.records()[0];
    assert_eq!((r.monitors_in, r.monitors_out), (1, 0));
}

#[test]
fn a_port_that_is_detached_reports_its_flows() {
    let mut net = metered(SMALL);
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    net.worker_detach(2);
    net.after(300);
    assert_eq!(ended(&net.records()), [(EndReason::Forced, 1, Outcome::Forwarded(PortId(2)))]);
    assert_eq!(net.control.cache_stats().forced, 1);
}

/// One frame a flow, far more flows than fit, an exporter that is slow: every packet is in a report or counted as lost.
#[test]
fn a_scan_keeps_memory_flat_and_the_sums_exact() {
    let limits = Limits { flows: 64, records: 32, ..SMALL };
    let mut net = metered(limits);
    let mut records = Vec::new();
    let mut sent = 0;
    for n in 0..2_000u16 {
        net.through(1, &udp4(mac(2), mac(1), n, usize::from(n % 50)));
        sent += 1;
        if n % 20 == 0 {
            records.extend(net.records());
        }
    }
    records.extend(net.records());
    for _ in 0..20 {
        net.after(5_000);
        records.extend(net.records());
    }
    let stats = net.control.cache_stats();
    assert_eq!(stats.unmetered, 0);
    assert_eq!(stats.active, 0);
    assert!(stats.evicted >= 1_900, "{stats:?}");
    assert_eq!(sums(&records).0, sent);
    let octets: u64 = (0..2_000u64).map(|n| 28 + n % 50).sum();
    assert_eq!(sums(&records).1, octets);
}

/// Nobody takes reports: entries stay and their counters go on; flows that must go are summed up, and no packet is lost.
#[test]
fn a_full_ring_of_records_loses_nothing() {
    let limits = Limits { flows: 16, records: 4, ..SMALL };
    let mut net = metered(limits);
    for n in 0..40u16 {
        net.through(1, &udp4(mac(2), mac(1), n, 0));
    }
    let stats = net.control.cache_stats();
    assert_eq!((stats.evicted, stats.summed, stats.unmetered), (24, 20, 0));
    let mut records = Vec::new();
    for _ in 0..30 {
        net.after(5_000);
        records.extend(net.records());
    }
    assert_eq!((sums(&records).0, records.iter().map(|r| r.flows).sum::<u64>()), (40, 40));
    let sum = records.iter().find(|r| r.flows > 1).unwrap();
    assert_eq!((sum.flows, sum.packets, sum.octets, sum.end), (20, 20, 20 * 28, EndReason::LackOfResources));
    assert_eq!(
        (sum.key.in_port, sum.outcome, sum.monitors_in, sum.monitors_out),
        (1, Outcome::Forwarded(PortId(2)), 1, 2)
    );
}

/// Flows of one packet evict each other and not those that have gone on for a while, whichever was seen last; and however
/// many there are, a second has no more reports of them than was set.
#[test]
fn a_flood_of_flows_evicts_its_own_and_is_reported_at_a_bounded_rate() {
    let mut net = metered(Limits { flows: 256, records: 4096, evicted_per_s: 1000, ..SMALL });
    for n in 0..64u16 {
        for _ in 0..2 + n % 5 {
            net.through(1, &udp4(mac(2), mac(1), n, 0));
        }
    }
    let (mut flood, mut records) = (0u64, Vec::new());
    for ms in 0..1000 {
        for n in 0..20u16 {
            net.send(1, &udp4(mac(2), mac(1), 1000 + ms * 20 + n, 0));
        }
        flood += 20;
        net.turn();
        net.recv(2);
        net.after(1);
        records.extend(net.records());
    }
    let hits = net.control.cache_stats().hits;
    for n in 0..64u16 {
        net.through(1, &udp4(mac(2), mac(1), n, 0));
    }
    assert_eq!(net.control.cache_stats().hits - hits, 64, "all are still there");
    let single = records.iter().filter(|r| r.end == EndReason::LackOfResources && r.flows == 1).count();
    assert!((900..=1200).contains(&single), "{single}");
    for _ in 0..10 {
        net.after(20_000);
        records.extend(net.records());
    }
    let established: u64 = (0..64).map(|n| 3 + n % 5).sum();
    assert_eq!(sums(&records).0, flood + established);
    assert_eq!(records.iter().map(|r| r.flows).sum::<u64>(), flood + 64);
    net.check_law_1();
}

#[test]
fn live_flows_are_listed_by_octets_and_filter() {
    let mut net = metered(SMALL);
    for n in 1..=20u16 {
        net.through(1, &udp4(mac(2), mac(1), n, usize::from(n)));
    }
    let mut ask = |filter: FlowFilter, top| net.ask(|c| c.flows(filter, top).unwrap());
    let (top, matched) = ask(FlowFilter { monitors: 1, ..FlowFilter::default() }, 3);
    assert_eq!(matched, 20);
    assert_eq!(top.iter().map(|f| f.record.key.dst_port).collect::<Vec<_>>(), [20, 19, 18]);
    let count =
        |filter, ask: &mut dyn FnMut(FlowFilter, usize) -> (Vec<vswitch::control::LiveFlow>, u64)| ask(filter, 100).1;
    assert_eq!(count(FlowFilter { port: Some(7), ..FlowFilter::default() }, &mut ask), 1);
    assert_eq!(count(FlowFilter { protocol: Some(6), ..FlowFilter::default() }, &mut ask), 0);
    assert_eq!(count(FlowFilter { interface: Some(PortId(2)), ..FlowFilter::default() }, &mut ask), 20);
    assert_eq!(count(FlowFilter { dropped: true, ..FlowFilter::default() }, &mut ask), 0);
    assert_eq!(count(FlowFilter { monitors: 4, ..FlowFilter::default() }, &mut ask), 0);
}

/// A changed list acts on the cached flow from the next frame on; a change elsewhere does not touch it.
#[test]
fn only_what_changed_is_judged_again() {
    let mut net = metered(SMALL);
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    let misses = net.control.cache_stats().misses;
    net.port(3).mtu = 900;
    net.publish();
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    assert_eq!(net.control.cache_stats().misses, misses);
    net.port(2).mtu = 900;
    net.publish();
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    assert_eq!(net.control.cache_stats().misses, misses + 1);
    net.config.sessions = vec![vswitch::config::SessionConfig { rx_ports: vec![PortId(1)], ..Default::default() }];
    net.publish();
    net.through(1, &udp4(mac(2), mac(1), 80, 1));
    assert_eq!(net.control.cache_stats().misses, misses + 2);
}

/// A batch is looked up as a whole before its first frame is decided; what that frame does to the table counts all the same.
#[test]
fn frames_of_one_batch_see_the_entries_that_frames_before_them_took_and_gave() {
    let mut net = metered(Limits { flows: 1, ..SMALL });
    let (one, other) = (udp4(mac(2), mac(1), 80, 100), udp4(mac(2), mac(1), 81, 100));
    net.through(1, &one);
    let before = net.control.cache_stats();
    // Known, evicts it, evicts that, and finds what the frame before put there.
    for frame in [&one, &other, &one, &one] {
        net.send(1, frame);
    }
    net.turn();
    assert_eq!(net.recv(2).len(), 4);
    let stats = net.control.cache_stats();
    assert_eq!((stats.hits - before.hits, stats.misses - before.misses), (2, 2));
    assert_eq!(stats.evicted - before.evicted, 2);
    net.after(60_000);
    let records = net.records();
    assert_eq!(records.iter().map(|r| (r.key.dst_port, r.packets)).collect::<Vec<_>>(), [(80, 2), (81, 1), (80, 2)]);
    net.check_law_1();
}

/// Of a flood that one port alone may have, frames that it got and frames that were too long for it are told apart, and
/// the monitor of that port sees the former only.
#[test]
fn a_flood_to_one_port_is_reported_with_who_got_it() {
    let mut net = metered(SMALL);
    net.config.ports.retain(|port| port.id != PortId(3));
    net.port(1).flow_in = None;
    net.port(2).mtu = 600;
    net.publish();
    let mut send = |sizes: &[usize]| {
        for size in sizes {
            net.through(1, &udp4(mac(77), mac(1), 80, *size));
        }
        // The active timeout, and then silence.
        for _ in 0..4 {
            net.after(9_000);
            net.through(1, &udp4(mac(77), mac(1), 80, 100));
        }
        net.after(60_000);
        let records = net.records();
        let seen = records.iter().map(|r| (r.packets, r.outcome, r.monitors_in, r.monitors_out)).collect::<Vec<_>>();
        assert_eq!(net.control.cache_stats().active, 0);
        seen
    };
    let got = |packets| (packets, Outcome::Flooded, 0, 2);
    assert_eq!(send(&[100; 5]), [got(5 + 3), got(1)]);
    assert_eq!(send(&[100, 100, 700, 100, 700, 700]), [got(2), got(1), got(4)]);
    assert_eq!(send(&[700, 100]), [got(1 + 3), got(1)]);
}
