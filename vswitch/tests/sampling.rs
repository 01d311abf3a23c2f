//! Monitors that count some packets only: exactly those that a sampler picks or a program matches, and all else in classes
//! of its own.

mod net;

use std::collections::BTreeMap;
use std::sync::Arc;

use net::frames::{arp, ethernet, ipv4, ipv6, tcp, tso4, udp, udp4};
use net::metered::{reconcile, settled};
use net::{Net, SMALL, access, config, mac, monitor, trunk};
use proto::addr::MacAddr;
use proto::flow::Sampling;
use vswitch::account::classes::Class;
use vswitch::config::Selecting;
use vswitch::control::FlowFilter;
use vswitch::flow::detail::Detail;
use vswitch::flow::key::FlowKey;
use vswitch::flow::record::Record;
use vswitch::frame::vnet::VnetHdr;
use vswitch::observe::bpf::{Insn, Program};
use vswitch::port::Offloads;
use vswitch::worker::Limits;

/// Packets, IP octets, octets of frames.
type Sum = [u64; 3];

/// Of all frames in VLAN 10: what enters at port 1 by monitor 0, what leaves at ports 2 and 3 by monitor 1.
fn net(limits: Limits) -> Net {
    let mut ports = vec![access(1, 10), access(2, 10), access(3, 10), trunk(4, 1, "10")];
    ports[0].flow_in = Some(0);
    ports[1].flow_out = Some(1);
    ports[2].flow_out = Some(1);
    let mut config = config(ports);
    config.monitors = vec![monitor(600, 15), monitor(600, 15)];
    settled(config, limits)
}

fn one_of(random: bool, out_of: u16) -> Sampling {
    Sampling::new(random, out_of).unwrap()
}

fn sum<'a>(records: impl Iterator<Item = &'a Record>) -> Sum {
    records.fold([0; 3], |s, r| [s[0] + r.packets, s[1] + r.octets, s[2] + r.l2_octets])
}

fn by(records: &[Record], monitor: u32) -> impl Iterator<Item = &Record> + Clone {
    records.iter().filter(move |r| (r.monitors_in | r.monitors_out) & monitor != 0)
}

/// A frame and the packets that it is: IP octets and octets of the frame.
fn draw(n: u32) -> (Vec<u8>, VnetHdr, Vec<[u64; 2]>) {
    let plain = |frame: Vec<u8>| {
        let length = frame.len() as u64;
        (frame, VnetHdr::PLAIN, vec![[length - 14, length]])
    };
    match n % 7 {
        0 => {
            let payload = 3000 + (n as usize * 977) % 30_000;
            let (frame, vnet) = tso4(mac(2), mac(1), payload, 1448);
            let cut = |at: usize| (payload - at).min(1448) as u64;
            let packets = (0..payload).step_by(1448).map(|at| [cut(at) + 40, cut(at) + 54]).collect();
            (frame, vnet, packets)
        }
        1 | 2 => plain(udp4(mac(2), mac(1), (n % 30) as u16, (n % 900) as usize)),
        // The end of a connection, again and again.
        3 => plain(ethernet(
            mac(2),
            mac(1),
            &[],
            0x800,
            &ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0, &tcp(9, 9, 1, &[])),
        )),
        _ => plain(udp4(mac(3), mac(1), 53, (n % 1300) as usize)),
    }
}

#[test]
fn every_nth_packet_is_counted_and_no_other() {
    let mut net = net(SMALL);
    net.port(1).sampling = [one_of(false, 7), Sampling::NONE];
    net.port(2).sampling = [Sampling::NONE, one_of(false, 3)];
    net.publish();
    let (mut wanted, mut left, mut at_two) = ([[0u64; 3]; 2], 0u64, 0u64);
    for n in 0..2000 {
        let (frame, vnet, packets) = draw(n);
        let to_two = frame[5] == 2;
        for [octets, l2_octets] in packets {
            left += 1;
            at_two += u64::from(to_two);
            let picked = [left % 7 == 0, if to_two { at_two % 3 == 0 } else { true }];
            for (sum, _) in wanted.iter_mut().zip(picked).filter(|(_, picked)| *picked) {
                sum.iter_mut().zip([1, octets, l2_octets]).for_each(|(sum, part)| *sum += part);
            }
        }
        // Several of them in a batch.
        net.send_vnet(1, &frame, vnet);
        if n % 5 == 0 {
            net.turn();
            net.recv_all();
        }
        if n % 400 == 7 {
            net.turn();
            reconcile(&mut net);
        }
    }
    net.turn();
    let live: Vec<Record> = net
        .ask(|control| control.flows(FlowFilter::default(), 1000).unwrap())
        .0
        .iter()
        .map(|flow| flow.record)
        .collect();
    net.after(60_000);
    let records = net.records();
    assert!(live.len() > 20 && live.iter().all(|r| r.sampling.is_some() || by(&[*r], 2).count() == 1));
    assert_eq!([sum(by(&records, 1)), sum(by(&records, 2))], wanted);
    assert!(by(&records, 1).all(|r| r.sampling == one_of(false, 7)));
    assert!(
        by(&records, 2).all(|r| r.sampling == if r.key.dst_mac[5] == 2 { one_of(false, 3) } else { Sampling::NONE })
    );
    assert!(records.iter().all(|r| r.packets > 0 && r.first <= r.last), "nothing is reported that nobody has picked");
    let row = reconcile(&mut net).remove(1);
    let unsampled = row.reported.get(Class::Unsampled);
    let all = row.received;
    assert!(unsampled.packets > 0 && unsampled.packets < all.packets);
    assert_eq!(unsampled.packets + row.reported.get(Class::Ip).packets, all.packets);
}

#[test]
fn a_random_sampler_counts_about_as_many() {
    let mut net = net(SMALL);
    net.port(1).sampling = [one_of(true, 10), Sampling::NONE];
    net.publish();
    let frame = udp4(mac(2), mac(1), 80, 100);
    for _ in 0..500 {
        (0..40).for_each(|_| net.send(1, &frame));
        net.turn();
        net.recv_all();
    }
    net.after(60_000);
    let records = net.records();
    let picked = sum(by(&records, 1))[0];
    // Six standard deviations of a binomial distribution.
    assert!(picked.abs_diff(2000) < 6 * 43, "{picked}");
    assert_eq!(sum(by(&records, 2))[0], 20_000, "the other monitor counts all");
    assert_eq!(reconcile(&mut net)[1].reported.get(Class::Unsampled).packets, 0, "so each was counted by one");
}

/// Two monitors at ports that the same flood reaches, each with its own rate; a third is not sampled.
#[test]
fn of_a_flood_each_monitor_has_its_part() {
    let mut ports = vec![access(1, 10), access(2, 10), access(3, 10), access(4, 10), access(5, 10)];
    for (port, monitor, out_of) in [(1, 0, 4), (2, 1, 6), (4, 0, 4)] {
        (ports[port].flow_out, ports[port].sampling[1]) = (Some(monitor), one_of(false, out_of));
    }
    ports[3].flow_out = Some(2);
    let mut config = config(ports);
    config.monitors = vec![monitor(600, 15); 3];
    // So few places for reports that some go into sums.
    let mut net = Net::with(config, Limits { records: 8, evicted_per_s: 1, ..SMALL }, Offloads::ALL, 512);
    let frame = ethernet(MacAddr::BROADCAST, mac(1), &[], 0x806, &arp(1, [10, 0, 0, 1], [10, 0, 0, 2]));
    let mut records = Vec::new();
    for n in 0..1200 {
        net.through(1, &frame);
        if n % 10 == 0 {
            net.after(100);
            records.extend(net.records());
        }
    }
    for _ in 0..100 {
        net.after(1000);
        records.extend(net.records());
    }
    let packets = [1, 2, 4].map(|monitor| sum(by(&records, monitor))[0]);
    assert_eq!(packets, [300, 200, 1200]);
    let rates: BTreeMap<u32, Sampling> = records.iter().map(|r| (r.monitors_out, r.sampling)).collect();
    assert_eq!(rates, BTreeMap::from([(1, one_of(false, 4)), (2, one_of(false, 6)), (4, Sampling::NONE)]));
    reconcile(&mut net);
}

/// A program for IPv4 of an EtherType at octet 12 that is at least 200 octets long.
fn long_ipv4() -> Arc<Program> {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    let insns = [
        insn(0x28, 0, 0, 12),
        insn(0x15, 0, 3, 0x800),
        insn(0x80, 0, 0, 0),
        insn(0x35, 0, 1, 200),
        insn(0x06, 0, 0, 65_535),
        insn(0x06, 0, 0, 0),
    ];
    Arc::new(Program::new(&insns).unwrap())
}

#[test]
fn a_program_is_asked_for_each_packet_without_its_tag() {
    let mut net = net(SMALL);
    net.config.selecting = vec![Selecting { program: Some(long_ipv4()), ..Selecting::default() }];
    net.port(4).flow_in = Some(0);
    net.publish();
    let tagged = |payload: usize| {
        let frame = udp4(mac(3), mac(4), 9, payload);
        [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat()
    };
    for payload in [157, 158, 10, 1000, 158] {
        assert_eq!(net.through(1, &udp4(mac(2), mac(1), 9, payload)), [2], "forwarded in any case");
        net.through(4, &tagged(payload));
    }
    net.through(1, &ethernet(mac(2), mac(1), &[], 0x1234, &[0; 900]));
    net.after(60_000);
    let records = net.records();
    let entering = |port: u16| sum(by(&records, 1).filter(|r| r.key.in_port == port))[0];
    assert_eq!((entering(1), entering(4)), (3, 3));
    let rows = reconcile(&mut net);
    let of = |port: usize, class| rows[port].reported.get(class).packets;
    // At port 2 and 3 the other monitor counts all, so nothing is filtered.
    assert_eq!((of(1, Class::Filtered), of(4, Class::Filtered)), (0, 0));
    net.port(2).flow_out = None;
    net.port(3).flow_out = None;
    net.publish();
    for payload in [157, 158, 10] {
        net.through(1, &udp4(mac(2), mac(1), 9, payload));
    }
    net.after(60_000);
    let rows = reconcile(&mut net);
    assert_eq!(rows[1].reported.get(Class::Filtered).packets, 2);
    // A sampler picks among what the program lets pass.
    net.port(1).sampling[0] = one_of(false, 2);
    net.publish();
    net.records();
    for payload in [10, 158, 11, 159, 12, 160, 161, 13] {
        net.through(1, &udp4(mac(2), mac(1), 9, payload));
    }
    net.after(60_000);
    let records = net.records();
    assert_eq!(sum(by(&records, 1)), [2, 159 + 161 + 2 * 28, 159 + 161 + 2 * 42]);
    let rows = reconcile(&mut net);
    let of = |class| rows[1].reported.get(class).packets;
    assert_eq!((of(Class::Filtered), of(Class::Unsampled)), (2 + 4, 2));
}

/// Rates, programs and monitors change while flows go on: no report tells of a rate at which it was not counted, and what
/// was counted under monitors or rates that are gone is reported before anybody forgets them.
#[test]
fn rates_change_under_way() {
    let mut net = net(Limits { flows: 64, records: 256, evicted_per_s: 50, ..SMALL });
    let rates = [Sampling::NONE, one_of(false, 2), one_of(true, 3), one_of(false, 5)];
    let mut of_rate: BTreeMap<Sampling, u64> = BTreeMap::new();
    let mut seen = 0;
    for n in 0..3000u32 {
        if n % 40 == 0 {
            let step = (n / 40) as usize;
            net.port(1).sampling = [rates[step % 4], Sampling::NONE];
            net.port(2).sampling = [Sampling::NONE, rates[(step / 4) % 4]];
            net.port(1).flow_in = (step % 5 != 4).then_some(0);
            net.config.selecting =
                vec![Selecting { program: step.is_multiple_of(3).then(long_ipv4), ..Selecting::default() }];
            let before = net.control.running();
            net.publish();
            let settled = net.control.running().watches_as(&before);
            net.ask(|control| control.settle_flows()).unwrap();
            let records = net.records();
            assert!(!settled || records.is_empty());
            seen += records.len();
            records.iter().for_each(|r| *of_rate.entry(r.sampling).or_default() += r.packets);
            if !settled {
                let live = net.ask(|control| control.flows(FlowFilter::default(), 1000).unwrap()).0;
                let current = |r: &Record| r.sampling == Sampling::NONE || net.control.running().samples(r.sampling);
                assert!(live.iter().all(|flow| current(&flow.record)));
            }
            reconcile(&mut net);
        }
        let (frame, vnet, _) = draw(n.wrapping_mul(2_654_435_761) >> 8);
        net.through_vnet(1, &frame, vnet);
        net.after(3);
    }
    net.after(60_000);
    reconcile(&mut net);
    assert!(seen > 500 && of_rate.len() == 4, "{seen} {of_rate:?}");
}

#[test]
fn nothing_is_touched_where_nothing_is_sampled() {
    let mut net = net(SMALL);
    for n in 0..100 {
        net.through(1, &udp4(mac(2), mac(1), n, 100));
    }
    net.after(60_000);
    let records = net.records();
    assert_eq!((records.len(), sum(records.iter())[0]), (100, 100));
    assert!(records.iter().all(|r| r.sampling == Sampling::NONE && r.monitors_in == 1 && r.monitors_out == 2));
    let keys: Vec<FlowKey> = records.iter().map(|r| r.key).collect();
    assert_eq!(keys.len(), 100);
}

/// Time to live, length and flow label of every packet of every flow, and of those alone that a sampler picks.
#[test]
fn least_and_most_are_those_of_the_packets_that_are_counted() {
    for every in [1, 3] {
        let mut net = net(SMALL);
        net.config.selecting = vec![Selecting { detailed: true, ..Selecting::default() }];
        net.port(1).sampling[0] = Sampling::new(false, every).unwrap_or_default();
        net.publish();
        // By EtherType and destination port: label of the first, then lengths and times to live of all.
        let mut wanted = BTreeMap::<(u16, u16), (u32, Vec<u64>, Vec<u8>)>::new();
        let mut passed = 0;
        for n in 0..1500u32 {
            let (ttl, label, flow) = ((n * 37 % 251) as u8, n * 7919 % (1 << 20), (n % 11) as u16);
            let (mut frame, vnet, lengths, at);
            let payload = (n as usize * 613) % 1200;
            match n % 5 {
                0 => {
                    let (whole, said, packets) = draw(n / 5 * 7);
                    let octets = packets.iter().map(|[octets, _]| *octets).collect::<Vec<_>>();
                    (frame, vnet, lengths, at) = (whole, said, octets, 14 + 8);
                }
                1 | 2 => {
                    let packet = ipv6(1, 2, 17, &udp(9, flow, &vec![0; payload]));
                    frame = ethernet(mac(2), mac(1), &[], 0x86dd, &packet);
                    frame[15..18].copy_from_slice(&label.to_be_bytes()[1..]);
                    (vnet, lengths, at) = (VnetHdr::PLAIN, vec![packet.len() as u64], 14 + 7);
                }
                _ => {
                    frame = udp4(mac(2), mac(1), flow, payload);
                    (vnet, lengths, at) = (VnetHdr::PLAIN, vec![frame.len() as u64 - 14], 14 + 8);
                    // Padding is no part of the packet.
                    frame.resize(frame.len().max(60), 0xff);
                }
            }
            frame[at] = ttl;
            let transport = if at == 14 + 7 { 54 } else { 34 };
            let port = u16::from_be_bytes([frame[transport + 2], frame[transport + 3]]);
            let key = (u16::from_be_bytes([frame[12], frame[13]]), port);
            for length in lengths {
                passed += 1;
                if passed % u32::from(every) == 0 {
                    let first = if at == 14 + 7 { label } else { 0 };
                    let (_, lengths, ttls) = wanted.entry(key).or_insert((first, vec![], vec![]));
                    lengths.push(length);
                    ttls.push(ttl);
                }
            }
            net.send_vnet(1, &frame, vnet);
            net.turn();
            net.recv_all();
        }
        net.after(60_000);
        let records = net.records();
        let mut found = BTreeMap::new();
        for r in by(&records, 1) {
            assert!(found.insert((r.key.ethertype, r.key.dst_port), (r.packets, r.detail)).is_none(), "{r:?}");
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
        for (key, (label, lengths, ttls)) in wanted {
            let [shortest, longest] = [lengths.iter().min(), lengths.iter().max()].map(|l| *l.unwrap() as u16);
            let (ttl_least, ttl_most) = (*ttls.iter().min().unwrap(), *ttls.iter().max().unwrap());
            let detail = Detail { label, shortest, longest, ttl_least, ttl_most };
            assert_eq!(found[&key], (lengths.len() as u64, detail), "{key:?}");
        }
        // The other monitor does not ask for it.
        assert!(by(&records, 2).count() > 0 && by(&records, 2).all(|r| !r.detail.is_some()));
        reconcile(&mut net);
    }
}

/// The record of a monitor is changed while its flows go on: what is said of a report is of all its packets, or nothing is.
#[test]
fn a_report_says_least_and_most_of_all_its_packets_or_nothing() {
    let mut net = net(SMALL);
    let send = |net: &mut Net, ttl: u8| {
        let mut frame = udp4(mac(2), mac(1), 9, 20);
        frame[22] = ttl;
        net.through(1, &frame);
    };
    for detailed in [false, true, false] {
        net.config.selecting = vec![Selecting {
            detailed,
            program: Some(Arc::new(Program::new(&[Insn { code: 6, jt: 0, jf: 0, k: 1 }]).unwrap())),
            ..Selecting::default()
        }];
        net.publish();
        let first = if detailed { 10 } else { 1 };
        (first..first + 3).for_each(|ttl| send(&mut net, ttl));
    }
    net.after(60_000);
    let records = net.records();
    let said: Vec<_> = by(&records, 1).map(|r| (r.packets, r.detail.ttl_least, r.detail.ttl_most)).collect();
    assert_eq!(said, [(3, 0, 0), (3, 10, 12), (3, 0, 0)]);
    reconcile(&mut net);
}
