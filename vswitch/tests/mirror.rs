//! Monitor sessions: exactly one complete copy of every frame, and no harm to production.

mod net;

use net::frames::{checksum_is_right, ethernet, tso4, udp4};
use net::{Net, SMALL, access, config, mac, trunk, vlans};
use proto::addr::MacAddr;
use vswitch::config::SessionConfig;
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::{Offloads, PortId};
use vswitch::verdict::DropReason;

fn ids(list: &[u16]) -> Vec<PortId> {
    list.iter().map(|id| PortId(*id)).collect()
}

/// Ports 1 to 3 in VLAN 10, port 9 the destination.
fn watched(session: SessionConfig) -> Net {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10), access(9, 10)]));
    net.config.sessions = vec![SessionConfig { destinations: ids(&[9]), ..session }];
    net.publish();
    net.through(2, &udp4(mac(1), mac(2), 5, 0));
    net
}

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
fn a_trunk_destination_sees_the_vlan_in_both_directions() {
    let ports = vec![access(1, 10), trunk(2, 1, "10"), trunk(9, 1, "1-100"), access(8, 1)];
    let mut net = Net::new(config(ports));
    let both = SessionConfig { rx_ports: ids(&[1, 2]), ..SessionConfig::default() };
    net.config.sessions = vec![
        SessionConfig { destinations: ids(&[9]), ..both.clone() },
        SessionConfig { destinations: ids(&[8]), ..both },
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
    assert_eq!(on(&mut net, 9), [tagged_plain, with_tag.clone()]);
    assert_eq!(on(&mut net, 8), [plain, with_tag]);
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

/// More copies than a list holds: lists are flushed in between, in order, and nothing is allocated anew or lost.
#[test]
fn batches_of_copies_keep_their_order() {
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10), access(9, 10)]), SMALL, Offloads::ALL, 1024);
    net.config.sessions = vec![
        SessionConfig { rx_ports: ids(&[1]), destinations: ids(&[9]), ..SessionConfig::default() },
        SessionConfig { tx_ports: ids(&[2]), destinations: ids(&[9]), ..SessionConfig::default() },
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
