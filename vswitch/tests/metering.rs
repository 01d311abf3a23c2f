//! What the meter counts: of each port all that it received, in one class each; what a monitor wants of it, and once.

mod net;

use net::frames::{ethernet, tso4, udp4};
use net::metered::{ended, metered, reconcile, sums};
use net::{Net, SMALL, access, acl, config, mac, monitor, uplink};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::MacAddr;
use vswitch::account::classes::Class;
use vswitch::config::{Filter, Selecting};
use vswitch::control::FlowFilter;
use vswitch::flow::record::{EndReason, Outcome};
use vswitch::port::PortId;
use vswitch::worker::Limits;

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
