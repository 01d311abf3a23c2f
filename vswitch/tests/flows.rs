//! The meter: what is reported, when, and that nothing is lost (law 2).

mod net;

use net::frames::{ethernet, ipv4, tcp, tso4, udp4};
use net::{Net, SMALL, access, acl, config, mac, monitor, uplink};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::MacAddr;
use vswitch::account::classes::{Amount, Class};
use vswitch::config::{Filter, Selecting};
use vswitch::control::{FlowFilter, Reconciled};
use vswitch::flow::record::{EndReason, Outcome, Record};
use vswitch::port::{Offloads, PortId};
use vswitch::verdict::DropReason;
use vswitch::worker::Limits;

/// Ports 1 to 3 in one VLAN; monitor 0 sees what enters at 1, monitor 1 what leaves at 2.
fn metered(limits: Limits) -> Net {
    let mut ports = vec![access(1, 10), access(2, 10), access(3, 10)];
    ports[0].flow_in = Some(0);
    ports[1].flow_out = Some(1);
    let mut config = config(ports);
    config.monitors = vec![monitor(60, 15), monitor(30, 20)];
    let mut net = Net::with(config, limits, Offloads::ALL, 512);
    net.through(2, &udp4(mac(1), mac(2), 5, 0));
    net.through(3, &udp4(mac(1), mac(3), 5, 0));
    net.after(60_000);
    net.records();
    net
}

fn sums(records: &[Record]) -> (u64, u64, u64) {
    records.iter().fold((0, 0, 0), |s, r| (s.0 + r.packets, s.1 + r.octets, s.2 + r.l2_octets))
}

fn ended(records: &[Record]) -> Vec<(EndReason, u64, Outcome)> {
    records.iter().map(|r| (r.end, r.packets, r.outcome)).collect()
}

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

/// What each port has received is in exactly one class, at any time: watched or not, filtered, malformed, of flows that
/// were reported, evicted, judged anew or still live.
fn reconcile(net: &mut Net) -> Vec<Reconciled> {
    let rows: Vec<Reconciled> = net.ask(|control| control.reconciliation().unwrap());
    for row in &rows {
        let mut sum = Amount::default();
        for class in Class::ALL {
            sum.add(row.reported.get(class));
            sum.add(row.in_cache.get(class));
        }
        assert_eq!(sum, row.received, "{row:?}");
    }
    rows
}

#[test]
fn what_a_port_received_is_reconciled_with_its_flows_to_the_octet() {
    let mut net = metered(Limits { flows: 64, records: 512, evicted_per_s: 100, ..SMALL });
    for n in 0..300u16 {
        net.through(1 + n % 3, &udp4(mac(1 + (n + 1) % 3), mac(1 + n % 3), n % 90, 40));
        if n % 50 == 7 {
            let (frame, vnet) = tso4(mac(2), mac(1), 20_000, 1448);
            net.through_vnet(1, &frame, vnet);
            net.through(1, &ethernet(mac(2), mac(1), &[], 0x0800, &[0x45, 0, 0]));
            net.through(1, &ethernet(MacAddr::BROADCAST, mac(1), &[], 0x1234, &[7; 60]));
        }
        if n % 80 == 3 {
            net.port(1).flow_in = (n % 160 == 3).then_some(0);
            net.publish();
            net.ask(|control| control.settle_flows()).unwrap();
            net.records();
        }
        if n % 25 == 0 {
            reconcile(&mut net);
        }
    }
    net.after(60_000);
    let rows = reconcile(&mut net);
    let of = |port: usize, class| rows[port].reported.get(class).packets;
    assert!(of(1, Class::Ip) > 100 && of(3, Class::Unwatched) > 0);
    assert_eq!((of(1, Class::Malformed), of(1, Class::Other)), (6, 6));
}

/// An access list as a filter, and sources that are counted where they come from: decided with the verdict.
#[test]
fn a_monitor_counts_what_its_filter_wants_and_nothing_twice() {
    let mut net = metered(SMALL);
    let permit = |port| IpRule {
        action: Action::Permit,
        protocol: Some(17),
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port: PortMatch::Eq(port),
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let send = |net: &mut Net, count: u16| {
        for port in [80, 53, 80] {
            (0..count).for_each(|_| drop(net.through(1, &udp4(mac(2), mac(1), port, 1))));
        }
        net.through(1, &ethernet(mac(2), mac(1), &[], 0x1234, &[7; 60]));
        net.through(3, &udp4(mac(2), mac(3), 80, 1));
        net.after(60_000);
        let mut seen = [0; 2];
        for record in net.records() {
            seen[0] += if record.monitors_in & 1 != 0 { record.packets } else { 0 };
            seen[1] += if record.monitors_out & 2 != 0 { record.packets } else { 0 };
        }
        reconcile(net);
        seen
    };
    assert_eq!(send(&mut net, 2), [7, 8]);
    net.config.acls = vec![acl(Rules::Ip(vec![(1, permit(53))]), 0), acl(Rules::Ip(vec![(1, permit(80))]), 10)];
    let filter = |list| Selecting { filter: Some(Filter::Acl(list)), ..Selecting::default() };
    net.config.selecting = vec![filter(0), filter(1)];
    let before = net.control.running();
    net.publish();
    assert!(!net.control.running().watches_as(&before));
    assert_eq!(send(&mut net, 2), [2, 5]);
    // Only what is known of the flows makes them judged again.
    let before = net.control.running();
    net.publish();
    assert!(net.control.running().watches_as(&before));
    let rows = reconcile(&mut net);
    assert_eq!(rows[1].reported.get(Class::Filtered).packets, 1, "{:?}", rows[1]);
    // The source is of another host when it comes by an uplink, and only then.
    net.config.selecting =
        vec![Selecting::default(), Selecting { elsewhere: vec![mac(3), mac(1)], ..Selecting::default() }];
    net.port(3).uplink = true;
    net.publish();
    assert_eq!(send(&mut net, 2), [7, 7]);
    assert_eq!(reconcile(&mut net)[3].reported.get(Class::Elsewhere).packets, 0, "nobody looks at where it enters");
    net.port(3).flow_in = Some(1);
    net.publish();
    assert_eq!(send(&mut net, 2), [7, 7]);
    assert_eq!(reconcile(&mut net)[3].reported.get(Class::Elsewhere).packets, 1);
    net.config.selecting.truncate(1);
    net.publish();
    assert_eq!(send(&mut net, 2), [7, 7], "where it enters, so not where it leaves");
}

/// Two hosts behind one wire: what is said in both is counted on the host that it comes from, and the sum is what was sent.
#[test]
fn a_conversation_of_two_hosts_is_counted_once() {
    let host = |own: u16, other: u16| {
        let mut ports = vec![access(1, 10), uplink(2, "10")];
        (ports[0].flow_in, ports[0].flow_out) = (Some(0), Some(0));
        let mut config = config(ports);
        config.monitors = vec![monitor(60, 15)];
        config.selecting = vec![Selecting { elsewhere: vec![mac(other)], ..Selecting::default() }];
        let mut net = Net::new(config);
        net.through(1, &udp4(MacAddr::BROADCAST, mac(own), 5, 0));
        net
    };
    let mut hosts = [host(11, 12), host(12, 11)];
    let mut sent = 2;
    for n in 0..50u16 {
        let (from, to) = (usize::from(n % 2), usize::from(1 - n % 2));
        let frame = udp4(mac([11, 12][to]), mac([11, 12][from]), n % 7, 30);
        for _ in 0..1 + n % 3 {
            assert_eq!(hosts[from].through(1, &frame), [2]);
            // The wire adds the tag of the trunk.
            let tagged = ethernet(mac([11, 12][to]), mac([11, 12][from]), &[(0x8100, 10)], 0x0800, &frame[14..]);
            hosts[to].through(2, &tagged);
            sent += 1;
        }
    }
    // Somebody whom no VEM knows is counted where it arrives.
    hosts[0].through(2, &ethernet(mac(11), mac(99), &[(0x8100, 10)], 0x0800, &udp4(mac(11), mac(99), 1, 30)[14..]));
    let mut seen = 0;
    for net in &mut hosts {
        net.after(60_000);
        seen += sums(&net.records()).0;
        reconcile(net);
    }
    assert_eq!(seen, sent + 1);
}

/// `cache entries`: the flows of a monitor are bounded, those of others are not; who goes is reported, and a bound may change
/// while flows live.
#[test]
fn a_monitor_has_at_most_so_many_flows() {
    let mut net = metered(SMALL);
    net.port(2).flow_out = None;
    net.port(3).flow_in = Some(1);
    let bound = |entries| Selecting { entries, ..Selecting::default() };
    net.config.selecting = vec![bound(20)];
    net.publish();
    let flows = |net: &mut Net, monitors| {
        net.ask(|c| c.flows(FlowFilter { monitors, ..FlowFilter::default() }, 1000).unwrap()).1
    };
    let (mut sent, mut records) = (0, Vec::new());
    let mut speak = |net: &mut Net, from: u16, ports: std::ops::Range<u16>, times: u64| {
        for port in ports {
            (0..times).for_each(|_| drop(net.through(from, &udp4(mac(2), mac(from), port, 1))));
            sent += times;
        }
        records.extend(net.records());
    };
    // Ten that go on, and a hundred of one packet.
    speak(&mut net, 1, 0..10, 3);
    speak(&mut net, 3, 0..50, 1);
    speak(&mut net, 1, 100..200, 1);
    assert_eq!((flows(&mut net, 1), flows(&mut net, 2)), (20, 50));
    let hits = net.control.cache_stats().hits;
    speak(&mut net, 1, 0..10, 1);
    assert_eq!(net.control.cache_stats().hits - hits, 10);
    net.config.selecting = vec![bound(5), bound(30)];
    net.publish();
    net.after(1);
    assert_eq!((flows(&mut net, 1), flows(&mut net, 2)), (5, 30));
    speak(&mut net, 1, 200..210, 1);
    assert_eq!(flows(&mut net, 1), 5);
    net.config.selecting = Vec::new();
    net.publish();
    speak(&mut net, 1, 300..400, 1);
    assert_eq!(flows(&mut net, 1), 105);
    reconcile(&mut net);
    net.after(60_000);
    records.extend(net.records());
    assert_eq!(sums(&records).0, sent);
    assert_eq!(net.control.cache_stats().active, 0);
}

#[test]
fn what_was_counted_can_be_asked_for_and_nothing_is_lost_or_told_twice() {
    let mut net = metered(SMALL);
    for _ in 0..3 {
        net.through(1, &udp4(mac(2), mac(1), 80, 100));
    }
    // Of the other monitor only: the flow leaves at 2 but did not enter at 1.
    net.through(3, &udp4(mac(2), mac(3), 80, 100));
    net.ask(|control| control.flush_flows(1).unwrap());
    let records = net.records();
    assert_eq!(ended(&records), [(EndReason::Forced, 3, Outcome::Forwarded(PortId(2)))]);
    net.ask(|control| control.flush_flows(1).unwrap());
    assert_eq!(net.records(), [], "it has counted nothing since");
    net.through(1, &udp4(mac(2), mac(1), 80, 100));
    net.after(60_000);
    let mut rest: Vec<_> = net.records().iter().map(|r| (r.key.in_port().0, r.packets)).collect();
    rest.sort_unstable();
    assert_eq!(rest, [(1, 1), (3, 1)]);
}
