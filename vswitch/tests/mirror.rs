//! Monitor sessions: exactly one complete copy of every frame, and no harm to production.

mod net;

use net::frames::{checksum_is_right, ethernet, tso4, udp4};
use net::mirrored::{ids, watched};
use net::{Net, SMALL, access, config, mac, trunk, vlans};
use proto::addr::MacAddr;
use vswitch::config::SessionConfig;
use vswitch::frame::vnet::VnetHdr;
use vswitch::observe::mirror::CopyLoss;
use vswitch::port::Offloads;
use vswitch::verdict::DropReason;

#[test]
fn one_copy_though_both_ends_are_watched_and_though_it_floods() {
    let both = SessionConfig { rx_ports: ids(&[1, 2, 3]), tx_ports: ids(&[1, 2, 3]), ..SessionConfig::default() };
    let mut net = watched(both);
    let before = net.control.session_stats(0).copied;
    for _ in 0..3 {
        assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [2, 9]);
        assert_eq!(net.through(1, &udp4(MacAddr::BROADCAST, mac(1), 80, 20)), [2, 3, 9]);
    }
    assert_eq!(net.control.session_stats(0).copied - before, 6);
}

#[test]
fn tx_sources_see_what_was_sent_and_only_that() {
    let mut net = watched(SessionConfig { tx_ports: ids(&[2, 3]), ..SessionConfig::default() });
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [2, 9]);
    assert_eq!(net.through(1, &udp4(MacAddr::BROADCAST, mac(1), 80, 20)), [2, 3, 9]);
    assert_eq!(net.through(2, &udp4(mac(1), mac(2), 80, 20)), [1]);
    net.port(2).mtu = 100;
    net.publish();
    net.dropped(1, &udp4(mac(2), mac(1), 80, 200), VnetHdr::PLAIN, DropReason::MtuExceeded);
}

#[test]
fn a_frame_that_is_denied_is_seen_and_one_that_is_a_lie_is_not() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() });
    net.port(1).protected = true;
    net.port(2).protected = true;
    net.publish();
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [9]);
    assert_eq!(net.drops(1, DropReason::Isolated), 1);
    let mut cut = udp4(mac(2), mac(1), 80, 20);
    cut.pop();
    assert!(net.through(1, &cut).is_empty());
}

#[test]
fn vlan_sources_copy_what_is_switched_there() {
    let mut net = watched(SessionConfig { rx_vlans: vlans("10"), ..SessionConfig::default() });
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [2, 9]);
    net.config.sessions[0].rx_vlans = vlans("11");
    net.publish();
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [2], "from the next frame on");
    net.config.sessions[0].tx_vlans = vlans("10");
    net.publish();
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [2, 9]);
}

#[test]
fn copies_are_cut_and_complete_while_production_goes_whole() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() });
    let (frame, vnet) = tso4(mac(2), mac(1), 5000, 1448);
    net.recv_all();
    net.send_vnet(1, &frame, vnet);
    net.turn();
    assert_eq!(net.recv(2).len(), 1);
    let copies = net.recv(9);
    assert_eq!(copies.iter().map(|(f, _)| f.len()).collect::<Vec<_>>(), [1502, 1502, 1502, 54 + 5000 - 3 * 1448]);
    assert!(copies.iter().all(|(f, vnet)| checksum_is_right(f) && *vnet == VnetHdr::PLAIN));
    let stats = net.control.session_stats(0);
    assert_eq!((stats.copied, stats.segmented, stats.dropped), (4, 1, 0));
    let (small, vnet) = tso4(mac(2), mac(1), 100, 1448);
    net.send_vnet(1, &small, VnetHdr { gso_type: 0, gso_size: 0, ..vnet });
    net.turn();
    let copy = net.recv(9).remove(0);
    assert!(checksum_is_right(&copy.0) && copy.1 == VnetHdr::PLAIN);
    assert!(!checksum_is_right(&net.recv(2).remove(0).0), "that is left to the receiver's device");
    // A checksum that is wrong and not the device's business stays wrong.
    net.send(1, &small);
    net.turn();
    assert_eq!(net.recv(9).remove(0).0, small);
}

#[test]
fn both_directions_look_the_same_to_every_destination() {
    let ports = vec![access(1, 10), trunk(2, 1, "10"), trunk(9, 1, "1-100"), access(8, 1)];
    let mut net = Net::new(config(ports));
    let both = SessionConfig { rx_ports: ids(&[1, 2]), ..SessionConfig::default() };
    net.config.sessions = vec![
        SessionConfig { destinations: ids(&[9]), ..both.clone() },
        SessionConfig { id: 1, destinations: ids(&[8]), ..both },
    ];
    net.publish();
    let plain = ethernet(mac(2), mac(1), &[], 0x9999, &[0; 50]);
    let with_tag = ethernet(mac(1), mac(2), &[(0x8100, 10)], 0x9999, &[0; 50]);
    net.send(1, &plain);
    net.turn();
    net.send(2, &with_tag);
    net.turn();
    let on = |net: &mut Net, id| net.recv(id).into_iter().map(|(f, _)| f).collect::<Vec<_>>();
    let tagged_plain = ethernet(mac(2), mac(1), &[(0x8100, 10)], 0x9999, &[0; 50]);
    let plain_tagged = ethernet(mac(1), mac(2), &[], 0x9999, &[0; 50]);
    assert_eq!(on(&mut net, 9), [tagged_plain, with_tag]);
    assert_eq!(on(&mut net, 8), [plain, plain_tagged]);
}

#[test]
fn a_full_destination_loses_copies_and_no_frames() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() });
    net.recv_all();
    net.worker_detach(9);
    net.attach(9, Offloads::ALL, 8);
    for _ in 0..20 {
        net.send(1, &udp4(mac(2), mac(1), 80, 20));
    }
    net.turn();
    assert_eq!((net.recv(2).len(), net.recv(9).len()), (20, 8));
    let stats = net.control.session_stats(0);
    assert_eq!((stats.copied, stats.dropped), (8, 12));
    assert_eq!(net.counters(1).delivered, 20);
    assert_eq!(net.counters(9).tx.unicast, 8);
}

/// Frames that were switched by a snapshot which the mirror never saw, because two came before it had a turn: they are counted.
#[test]
fn what_waits_for_longer_than_its_snapshot_is_known_is_counted() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() });
    net.recv_all();
    for version in 0..3 {
        net.send(1, &udp4(mac(2), mac(1), 80, version));
        while net.worker.turn(vswitch::time::Instant::from_ms(net.now_ms)) > 0 {}
        if version < 2 {
            net.publish();
        }
    }
    while net.mirror.turn() > 0 {}
    assert_eq!((net.recv(2).len(), net.recv(9).len()), (3, 2), "of the snapshot before, and of the one that runs");
    let stats = net.control.session_stats(0);
    assert_eq!((stats.matched, stats.copied, stats.losses[CopyLoss::MirrorBusy as usize]), (3, 2, 1));
}

/// A destination that takes nothing for a while is left alone: the worker counts the copies as lost, and tries now and then. When it
/// takes again it gets them again.
#[test]
fn a_stalled_destination_is_only_tried() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() });
    net.recv_all();
    net.worker_detach(9);
    net.attach(9, Offloads::ALL, 8);
    // Frames, one each 100 us; how many of them came to the mirror.
    let mut us = 1_000;
    let mut feed = |net: &mut Net, count: usize| {
        let mut copied = 0;
        for _ in 0..count {
            us += 100;
            net.send(1, &udp4(mac(2), mac(1), 80, 20));
            while net.worker.turn(vswitch::time::Instant::from_ns(us * 1_000)) > 0 {}
            while let done @ 1.. = net.mirror.turn() {
                copied += done;
            }
            net.recv(2);
        }
        copied
    };
    assert_eq!(feed(&mut net, 200), 200, "it may take again any moment");
    feed(&mut net, 10);
    assert_eq!(feed(&mut net, 1_000), 100, "one each millisecond");
    let stats = net.control.session_stats(0);
    assert_eq!((stats.matched, stats.copied, stats.losses[CopyLoss::DestinationFull as usize]), (1_210, 8, 1_202));
    assert_eq!(net.recv(9).len(), 8);
    feed(&mut net, 10);
    assert_eq!(net.recv(9).len(), 1, "the one that was tried");
    assert_eq!(feed(&mut net, 8), 8);
    assert_eq!(net.recv(9).len(), 8);
    // Stalled again, and then down: that is what is said of its copies.
    feed(&mut net, 250);
    net.port(9).up = false;
    net.publish();
    net.mirror.turn();
    assert_eq!(feed(&mut net, 10), 10);
    let stats = net.control.session_stats(0);
    assert_eq!(stats.losses[CopyLoss::DestinationDown as usize], 10);
    assert_eq!((stats.matched, stats.copied + stats.dropped), (1_488, 1_488));
    assert_eq!(net.counters(1).delivered, 1_488);
}

/// More copies than a list holds: lists are flushed in between, in order, and nothing is allocated anew or lost.
#[test]
fn batches_of_copies_keep_their_order() {
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10), access(9, 10)]), SMALL, Offloads::ALL, 1024);
    net.config.sessions = vec![
        SessionConfig { rx_ports: ids(&[1]), destinations: ids(&[9]), ..SessionConfig::default() },
        SessionConfig { id: 1, tx_ports: ids(&[2]), destinations: ids(&[9]), ..SessionConfig::default() },
    ];
    net.publish();
    net.through(2, &udp4(mac(1), mac(2), 5, 0));
    net.recv_all();
    for n in 0..300u16 {
        net.send(1, &udp4(mac(2), mac(1), n, 0));
    }
    net.turn();
    let port_of = |f: &[u8]| u16::from_be_bytes([f[36], f[37]]);
    assert_eq!(net.recv(2).iter().map(|(f, _)| port_of(f)).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    let mut copies: Vec<u16> = net.recv(9).iter().map(|(f, _)| port_of(f)).collect();
    assert_eq!(copies.len(), 600);
    copies.sort_unstable();
    assert!(copies.chunks(2).enumerate().all(|(n, pair)| pair == [n as u16; 2]));
}

/// A flood that one port alone may have is copied as one to several is: as received, or as that port has sent it.
#[test]
fn floods_to_one_port_are_copied_once_and_as_sent_only_when_they_were() {
    let lone = |session: SessionConfig| {
        let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(8, 20), access(9, 20)]));
        net.config.sessions = vec![SessionConfig { destinations: ids(&[9]), ..session }];
        net.publish();
        net
    };
    let sessions = [
        SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() },
        SessionConfig { tx_ports: ids(&[2]), ..SessionConfig::default() },
        SessionConfig { rx_ports: ids(&[1]), tx_ports: ids(&[2]), ..SessionConfig::default() },
        SessionConfig { tx_vlans: vlans("10"), ..SessionConfig::default() },
    ];
    for session in sessions {
        let mut net = lone(session.clone());
        let flood = udp4(mac(7), mac(1), 80, 20);
        for _ in 0..4 {
            assert_eq!(net.through(1, &flood), [2, 9], "{session:?}");
        }
        assert_eq!((net.control.session_stats(0).copied, net.control.cache_stats().misses), (4, 1));
        // Too long for port 2: seen where it was received, and nowhere else.
        net.port(2).mtu = 100;
        net.publish();
        let long = udp4(mac(7), mac(1), 80, 200);
        let received = if session.rx_ports.is_empty() { vec![] } else { vec![9] };
        for _ in 0..2 {
            assert_eq!((net.through(1, &long), net.through(1, &flood)), (received.clone(), vec![2, 9]));
        }
        net.config.sessions.clear();
        net.publish();
        assert_eq!((net.through(1, &flood), net.through(1, &flood)), (vec![2], vec![2]));
    }
}

/// Frames of a known flow are followed in their batch by one of a new flow to the same port: all are copied as sent.
#[test]
fn a_new_flow_behind_known_ones_takes_no_copies_from_them() {
    let mut net = watched(SessionConfig { tx_ports: ids(&[2]), ..SessionConfig::default() });
    let known = udp4(mac(2), mac(1), 80, 20);
    for n in 0..3 {
        assert_eq!(net.through(1, &known), [2, 9]);
        for frame in [&known, &known, &udp4(mac(2), mac(1), 8_000 + n, 20)] {
            net.send(1, frame);
        }
        net.turn();
        assert_eq!((net.recv(2).len(), net.recv(9).len()), (3, 3));
    }
}

/// Cut behind the segmentation; what the headers say of the length stays.
#[test]
fn copies_are_truncated_and_say_how_long_they_were() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), truncate: Some(100), ..SessionConfig::default() });
    net.config.ports[3].mode = trunk(9, 1, "1-100").mode;
    net.publish();
    net.recv_all();
    let long = udp4(mac(2), mac(1), 80, 1000);
    let (super_frame, vnet) = tso4(mac(2), mac(1), 3000, 1448);
    net.send(1, &long);
    net.send(1, &udp4(mac(2), mac(1), 80, 0));
    net.send_vnet(1, &super_frame, vnet);
    net.turn();
    let copies: Vec<Vec<u8>> = net.recv(9).into_iter().map(|(f, _)| f).collect();
    assert_eq!(copies.iter().map(Vec::len).collect::<Vec<_>>(), [100, 46, 100, 100, 100]);
    assert_eq!(copies[0][..12], long[..12]);
    assert_eq!(copies[0][12..16], [0x81, 0, 0, 10]);
    assert_eq!(copies[0][16..], long[12..96]);
    let ip_length = |f: &Vec<u8>| u16::from_be_bytes([f[20], f[21]]);
    assert_eq!(copies.iter().map(ip_length).collect::<Vec<_>>(), [1028, 28, 1488, 1488, 40 + 3000 - 2 * 1448]);
    let stats = net.control.session_stats(0);
    assert_eq!((stats.matched, stats.copied, stats.truncated, stats.segmented), (5, 5, 4, 1));
}

/// While nobody drives the mirror its ring fills up, and that is all: production goes on, and each loss is counted.
#[test]
fn a_mirror_that_stands_still_costs_production_nothing() {
    let ports = config(vec![access(1, 10), access(2, 10), access(9, 10)]);
    let mut net = Net::with(ports, SMALL, Offloads::ALL, 4096);
    let session = SessionConfig { rx_ports: ids(&[1]), destinations: ids(&[9]), ..SessionConfig::default() };
    net.config.sessions = vec![session];
    net.publish();
    net.through(2, &udp4(mac(1), mac(2), 5, 0));
    net.recv_all();
    net.port(1).mtu = 9000;
    net.port(2).mtu = 9000;
    net.publish();
    // More than the rings hold.
    for n in 0..4000 {
        net.send(1, &udp4(mac(2), mac(1), n, 8900));
    }
    while net.worker.turn(vswitch::time::Instant::from_ms(2)) > 0 {}
    assert_eq!(net.recv(2).len(), 4000);
    for n in 4000..5000 {
        net.send(1, &udp4(mac(2), mac(1), n, 8900));
    }
    while net.worker.turn(vswitch::time::Instant::from_ms(2)) > 0 {}
    assert_eq!(net.recv(2).len(), 1000);
    let lost = net.control.session_stats(0).losses[CopyLoss::MirrorBusy as usize];
    assert!((100..1900).contains(&lost), "{lost}");
    let mut copies = net.drain(9);
    let stats = net.control.session_stats(0);
    assert_eq!((stats.matched, stats.copied + stats.dropped, stats.dropped), (5000, 5000, lost));
    let port_of = |f: &[u8]| u16::from_be_bytes([f[36], f[37]]);
    let copied: Vec<u16> = copies.drain(..).map(|(f, _)| port_of(&f)).collect();
    assert!(copied.iter().copied().eq(0..5000 - lost as u16), "the first that found room, in order");
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 7, 0)), [2, 9]);
}

/// A session gets what was switched while it was as it is, though the mirror comes to it later.
#[test]
fn a_frame_is_copied_by_the_configuration_that_it_was_switched_by() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), ..SessionConfig::default() });
    net.recv_all();
    net.send(1, &udp4(mac(2), mac(1), 80, 20));
    while net.worker.turn(vswitch::time::Instant::from_ms(1)) > 0 {}
    // Another session in the same place, to another port.
    net.config.sessions =
        vec![SessionConfig { id: 7, rx_ports: ids(&[2]), destinations: ids(&[3]), ..SessionConfig::default() }];
    net.publish();
    net.turn();
    assert_eq!(net.recv_all().into_iter().map(|(port, _)| port).collect::<Vec<_>>(), [2, 9]);
    assert_eq!([0, 7].map(|id| net.control.session_stats(id).copied), [1, 0]);
}
