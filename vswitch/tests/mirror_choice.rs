//! Which frames a session copies: by filters, sampling, programs, reasons of drops and other hosts.

mod net;

use std::sync::Arc;

use net::frames::{ethernet, udp4};
use net::mirrored::{ids, watched};
use net::{Net, access, acl, config, mac, trunk, uplink, vlans};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::MacAddr;
use vswitch::config::{OnceConfig, SessionConfig};
use vswitch::frame::vnet::VnetHdr;
use vswitch::observe::bpf::{Insn, Program};
use vswitch::verdict::DropReason;

/// What a session looks for is its own affair, and changes from the next frame on, also of flows that are cached.
#[test]
fn filters_choose_and_change_from_the_next_frame_on() {
    let rule = |protocol| IpRule {
        action: Action::Permit,
        protocol: Some(protocol),
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), tx_ports: ids(&[2]), ..SessionConfig::default() });
    net.config.acls = vec![acl(Rules::Ip([(10, rule(17))].into()), 0), acl(Rules::Ip([(10, rule(6))].into()), 10)];
    let (udp, other) = (udp4(mac(2), mac(1), 80, 20), ethernet(mac(2), mac(1), &[], 0x9999, &[0; 50]));
    let mut copies = |change: &dyn Fn(&mut SessionConfig)| {
        change(&mut net.config.sessions[0]);
        net.publish();
        [&udp, &other].map(|frame| net.through(1, frame) == [2, 9])
    };
    assert_eq!(copies(&|_| ()), [true, true]);
    assert_eq!(copies(&|s| s.filter_vlans = Some(vlans("11"))), [false, false]);
    assert_eq!(copies(&|s| s.filter_vlans = Some(vlans("1-10"))), [true, true]);
    assert_eq!(copies(&|s| s.filter_acl = Some(0)), [true, false], "an IP list singles out no other frames");
    assert_eq!(copies(&|s| s.filter_acl = Some(1)), [false, false]);
    assert_eq!(copies(&|s| s.rx_ports.clear()), [false, false]);
    assert_eq!(copies(&|s| s.filter_acl = None), [true, true]);
    assert_eq!(net.control.rule_matches(0), 0, "what a filter does is not counted at its rules");
}

/// As many sessions as there can be, with high numbers: each gets its copy, counted under its number.
#[test]
fn sixty_four_sessions_each_have_their_copy() {
    let mut net = watched(SessionConfig::default());
    let session = |id| SessionConfig { id, rx_ports: ids(&[1]), destinations: ids(&[9]), ..SessionConfig::default() };
    net.config.sessions = (193..=256).map(session).collect();
    net.publish();
    for _ in 0..2 {
        assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)).len(), 65);
    }
    assert!((193..=256).all(|id| net.control.session_stats(id).copied == 2));
}

#[test]
fn of_a_sampled_session_every_so_manieth_frame_is_copied() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), sampling: Some(4), ..SessionConfig::default() });
    net.config.sessions.push(SessionConfig {
        id: 1,
        tx_ports: ids(&[2]),
        destinations: ids(&[9]),
        ..SessionConfig::default()
    });
    net.publish();
    net.recv_all();
    for n in 1..=10 {
        net.send(1, &udp4(mac(2), mac(1), n, 20));
    }
    net.turn();
    let port_of = |f: &[u8]| u16::from_be_bytes([f[36], f[37]]);
    let mut copied: Vec<u16> = net.recv(9).iter().map(|(f, _)| port_of(f)).collect();
    copied.sort_unstable();
    assert_eq!(copied, [1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10]);
    assert_eq!([0, 1].map(|id| net.control.session_stats(id).matched), [2, 10]);
}

/// Sessions that come and go before it take its place, and not its count.
#[test]
fn a_sampled_session_counts_on_while_others_come_and_go() {
    let mut net = watched(SessionConfig { rx_ports: ids(&[1]), sampling: Some(4), ..SessionConfig::default() });
    let sampled = net.config.sessions.remove(0);
    let other = SessionConfig { id: 1, sampling: Some(1_000), ..sampled.clone() };
    for n in 0..40 {
        net.config.sessions = [vec![other.clone(); n as usize / 3 % 2], vec![sampled.clone()]].concat();
        net.publish();
        net.recv_all();
        net.send(1, &udp4(mac(2), mac(1), n, 20));
        net.turn();
        assert_eq!(net.recv(9).len(), usize::from(n % 4 == 3), "frame {n}");
    }
    assert_eq!([0, 1].map(|id| net.control.session_stats(id).copied), [10, 0]);
}

/// What is dropped for the reasons that a session asks for is copied once, whether or not it was seen before, and a lie as
/// it came.
#[test]
fn dropped_frames_are_copied_by_their_reason() {
    let bits = |reasons: &[DropReason]| reasons.iter().fold(0, |set, reason| set | 1 << *reason as u64);
    let drops = bits(&[
        DropReason::Isolated,
        DropReason::Ipv4Length,
        DropReason::OffloadInvalid,
        DropReason::MirrorDestination,
    ]);
    let mut net = watched(SessionConfig { drops, ..SessionConfig::default() });
    (net.port(1).protected, net.port(2).protected) = (true, true);
    net.publish();
    let isolated = udp4(mac(2), mac(1), 80, 20);
    assert_eq!(net.through(1, &isolated), [9]);
    assert_eq!(net.through(3, &isolated), [2], "what is delivered is not dropped");
    let mut cut = udp4(mac(2), mac(1), 80, 20);
    cut.pop();
    net.send(1, &cut);
    // Nothing of a virtio header that lies is done to the copy.
    let lie = VnetHdr { flags: 1, csum_start: 9, csum_offset: 9, ..VnetHdr::PLAIN };
    net.send_vnet(1, &isolated, lie);
    net.send(9, &isolated);
    net.send(1, &[0; 9]);
    net.turn();
    assert_eq!(net.recv(9).into_iter().map(|(f, _)| f).collect::<Vec<_>>(), [cut, isolated.clone()]);
    // One that is copied as received as well is copied once.
    net.config.sessions[0].rx_ports = ids(&[1]);
    net.publish();
    assert_eq!(net.through(1, &isolated), [9]);
    net.config.sessions[0].filter_vlans = Some(vlans("11"));
    net.publish();
    assert!(net.through(1, &isolated).is_empty());
}

/// A program sees each frame; sampling counts what it singles out.
#[test]
fn a_program_singles_frames_out() {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    // ldh [36]; jge #5: the destination port of UDP over IPv4.
    let program = [insn(0x28, 0, 0, 36), insn(0x35, 0, 1, 5), insn(6, 0, 0, 65_535), insn(6, 0, 0, 0)];
    let program = Arc::new(Program::new(&program).unwrap());
    let session = SessionConfig { rx_ports: ids(&[1]), filter_bpf: Some(program), ..SessionConfig::default() };
    let mut net = watched(SessionConfig { truncate: Some(64), ..session });
    let ports = |net: &mut Net| {
        net.recv_all();
        for n in 1..=10 {
            net.send(1, &udp4(mac(2), mac(1), n, 20));
        }
        net.turn();
        net.recv(9).iter().map(|(f, _)| u16::from_be_bytes([f[36], f[37]])).collect::<Vec<_>>()
    };
    assert_eq!(ports(&mut net), [5, 6, 7, 8, 9, 10]);
    net.config.sessions[0].sampling = Some(3);
    net.publish();
    assert_eq!(ports(&mut net), [7, 10]);
    assert_eq!(net.control.session_stats(0).matched, 8);
}

/// A program sees a frame without the tag of its VLAN, whichever way it goes.
#[test]
fn a_program_sees_both_directions_alike() {
    let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
    // ldh [12]; jeq #0x800: "ip", as libpcap has it.
    let program = [insn(0x28, 0, 0, 12), insn(0x15, 0, 1, 0x800), insn(6, 0, 0, 65_535), insn(6, 0, 0, 0)];
    let program = Arc::new(Program::new(&program).unwrap());
    let mut net = Net::new(config(vec![access(1, 10), trunk(2, 1, "10"), access(9, 1)]));
    let session = SessionConfig { rx_ports: ids(&[1, 2]), filter_bpf: Some(program), ..SessionConfig::default() };
    net.config.sessions = vec![SessionConfig { destinations: ids(&[9]), ..session }];
    net.publish();
    let there = udp4(mac(2), mac(1), 80, 20);
    let back = udp4(mac(1), mac(2), 80, 20);
    let tagged_back = [&back[..12], &[0x81, 0, 0, 10], &back[12..]].concat();
    for (port, frame) in [(1, &there), (2, &tagged_back), (1, &ethernet(mac(2), mac(1), &[], 0x9999, &[0; 50]))] {
        net.send(port, frame);
        net.turn();
    }
    let copies: Vec<_> = net.recv(9).into_iter().map(|(f, _)| f).collect();
    assert_eq!(copies, [there, back]);
}

/// A conversation of two hosts is copied by one of them, both ways; a guest can't hide behind that.
#[test]
fn what_another_host_copies_is_not_copied_again() {
    let mut net = Net::new(config(vec![access(1, 10), uplink(2, "10"), access(9, 1), access(3, 10)]));
    let both = SessionConfig { rx_ports: ids(&[1]), tx_ports: ids(&[1]), ..SessionConfig::default() };
    // Station 1 is here, 6 on a host before, 7 on one behind, 8 a stranger.
    let once = OnceConfig { own: vec![mac(1)], before: vec![mac(6)], after: vec![mac(7)] };
    net.config.sessions = vec![SessionConfig { destinations: ids(&[9]), once: Some(once), ..both }];
    net.publish();
    let copied = |net: &mut Net, port, dst, src| {
        let frame = udp4(dst, mac(src), 80, 20);
        let sent = if port == 2 { [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat() } else { frame.clone() };
        net.send(port, &sent);
        net.turn();
        let copies: Vec<_> = net.recv(9).into_iter().map(|(f, _)| f).collect();
        assert!(copies.is_empty() || copies == [frame]);
        !copies.is_empty()
    };
    for _ in 0..2 {
        // Flows that are known, and flows that are not.
        for (station, here) in [(6, false), (7, true), (8, true)] {
            assert_eq!(copied(&mut net, 2, mac(1), station), here, "{station} asks");
            assert_eq!(copied(&mut net, 1, mac(station), 1), here, "{station} is answered");
        }
        // To everybody: where it comes from.
        for (port, station, here) in [(1, 1, true), (2, 6, false), (2, 7, false), (2, 8, true)] {
            assert_eq!(copied(&mut net, port, MacAddr::BROADCAST, station), here, "{station} calls");
        }
        // A guest that says that it is another.
        for (station, lie) in [(6, 7), (6, 8), (6, 6), (7, 7), (8, 6)] {
            assert!(copied(&mut net, 1, mac(station), lie), "as {lie} to {station}");
        }
        net.recv_all();
    }
    // What goes no further is copied here.
    let all = AddrMatch::ANY;
    let deny = IpRule {
        action: Action::Deny,
        protocol: None,
        src: all,
        src_port: PortMatch::Any,
        dst: all,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    net.config.acls = vec![acl(Rules::Ip(vec![(10, deny)]), 0)];
    net.config.ports[1].ip_acl_out = Some(0);
    net.publish();
    assert!(copied(&mut net, 1, mac(6), 1), "a denied frame");
    net.config.ports[1].ip_acl_out = None;
    net.config.sessions[0].once = None;
    net.publish();
    assert!(copied(&mut net, 1, mac(6), 1) && copied(&mut net, 2, mac(1), 6));
}
