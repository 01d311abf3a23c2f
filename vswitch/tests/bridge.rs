//! Learning, flooding, ageing, quotas, uplinks, tags: which ports a frame comes out of, and how.

mod net;

use net::frames::{ethernet, ipv4, tso4, udp, udp4};
use net::{Net, SMALL, access, acl, config, mac, trunk, uplink, vlan};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::MacAddr;
use vswitch::config::StaticMac;
use vswitch::port::{Offloads, PortId};
use vswitch::verdict::DropReason;
use vswitch::worker::Limits;

fn hello(dst: MacAddr, src: MacAddr) -> Vec<u8> {
    udp4(dst, src, 5, 10)
}

fn tagged(vid: u16, dst: MacAddr, src: MacAddr) -> Vec<u8> {
    ethernet(dst, src, &[(0x8100, vid)], 0x9999, &[0; 50])
}

#[test]
fn unknown_floods_within_the_vlan_and_known_goes_to_one_port() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10), access(4, 20)]));
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2, 3]);
    assert_eq!(net.through(2, &hello(mac(1), mac(2))), [1]);
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2]);
    assert_eq!(net.through(1, &hello(MacAddr::BROADCAST, mac(1))), [2, 3]);
    let c = net.counters(1);
    assert_eq!((c.rx.unicast, c.rx.broadcast, c.delivered), (2, 1, 3));
    assert_eq!((c.tx.unicast, c.tx.octets), (1, 52));
}

#[test]
fn a_station_that_moves_is_followed_from_the_next_frame_on() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10)]));
    net.through(2, &hello(mac(1), mac(2)));
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2]);
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2], "cached");
    net.through(3, &hello(mac(1), mac(2)));
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [3]);
    net.dropped(3, &hello(mac(2), mac(8)), vswitch::frame::vnet::VnetHdr::PLAIN, DropReason::SamePort);
}

#[test]
fn addresses_age_and_live_traffic_keeps_them() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10)]));
    net.through(2, &hello(mac(1), mac(2)));
    net.through(1, &hello(mac(2), mac(1)));
    for _ in 0..7 {
        net.after(100_000);
        net.through(1, &hello(mac(9), mac(1)));
    }
    assert_eq!(net.through(3, &hello(mac(1), mac(3))), [1], "seen all the time by its cached flow");
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2, 3], "forgotten after 300 s");
}

#[test]
fn addresses_go_with_their_port() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10)]));
    net.through(2, &hello(mac(1), mac(2)));
    net.port(2).up = false;
    net.publish();
    net.port(2).up = true;
    net.publish();
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2, 3]);
    net.through(2, &hello(mac(1), mac(2)));
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2]);
    net.worker_detach(2);
    net.attach(2, Offloads::ALL, 16);
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2, 3]);
    let macs = net.ask(|c| c.macs().unwrap());
    assert_eq!(macs.iter().map(|e| (e.mac, e.port)).collect::<Vec<_>>(), [(mac(1), Some(PortId(1)))]);
    net.ask(|c| c.clear_macs(Some(vlan(11)), None).unwrap());
    assert_eq!(net.ask(|c| c.macs().unwrap()).len(), 1);
    net.ask(|c| c.clear_macs(None, Some(mac(1))).unwrap());
    assert_eq!(net.ask(|c| c.macs().unwrap()), []);
}

#[test]
fn a_flooder_pushes_out_its_own_addresses_only() {
    let limits = Limits { macs: 40, macs_per_port: 32, ..SMALL };
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10), access(3, 10)]), limits, Offloads::ALL, 512);
    net.through(1, &hello(mac(9), mac(1)));
    net.through(2, &hello(mac(9), mac(2)));
    for n in 0..500 {
        net.through(3, &hello(mac(9), mac(1000 + n)));
    }
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2]);
    assert_eq!(net.ask(|c| c.macs().unwrap()).iter().filter(|e| e.port == Some(PortId(3))).count(), 32);
}

#[test]
fn static_addresses_stay_where_they_are() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10)]));
    net.through(3, &hello(mac(1), mac(2)));
    net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
    net.publish();
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2]);
    net.through(3, &hello(mac(1), mac(2)));
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2]);
    net.config.static_macs.clear();
    net.publish();
    assert_eq!(net.through(1, &hello(mac(2), mac(1))), [2, 3]);
}

#[test]
fn floods_use_one_uplink_and_never_cross_from_uplink_to_uplink() {
    let ports = vec![trunk(1, 10, "10"), access(2, 10), uplink(8, "10"), uplink(7, "10"), uplink(9, "20")];
    let mut net = Net::new(config(ports));
    assert_eq!(net.through(2, &hello(MacAddr::BROADCAST, mac(2))), [1, 7]);
    assert_eq!(net.through(7, &tagged(10, MacAddr::BROADCAST, mac(3))), [1, 2]);
    net.port(7).up = false;
    net.publish();
    assert_eq!(net.through(2, &hello(MacAddr::BROADCAST, mac(2))), [1, 8]);
}

#[test]
fn isolation_holds_for_unicast_broadcast_and_across_hosts() {
    let mut ports = vec![access(1, 10), access(2, 10), access(3, 10), uplink(4, "10")];
    ports[0].protected = true;
    ports[1].protected = true;
    let mut net = Net::new(config(ports));
    assert_eq!(net.through(1, &hello(MacAddr::BROADCAST, mac(1))), [3, 4]);
    assert_eq!(net.tx_drops(2, DropReason::Isolated), 1);
    net.through(2, &hello(mac(9), mac(2)));
    assert_eq!(net.through(4, &tagged(10, mac(2), mac(30))), [2]);
    net.config.protected_macs = vec![mac(30)];
    net.publish();
    net.dropped(4, &tagged(10, mac(2), mac(30)), vswitch::frame::vnet::VnetHdr::PLAIN, DropReason::Isolated);
    assert_eq!(net.through(4, &tagged(10, MacAddr::BROADCAST, mac(30))), [3]);
    assert_eq!(net.through(4, &tagged(10, mac(2), mac(31))), [2]);
}

/// What comes out: from untagged, tagged, priority-tagged and double-tagged, to access, native and tagged.
#[test]
fn tags_are_put_on_and_taken_off() {
    let mut net = Net::new(config(vec![access(1, 10), trunk(2, 10, "10,20"), trunk(3, 20, "10,20"), access(4, 20)]));
    let behind = |tags: &[(u16, u16)]| ethernet(MacAddr::BROADCAST, mac(1), tags, 0x9999, &[0; 50]);
    let mut check = |from: u16, sent: &[(u16, u16)], expected: &[(u16, &[(u16, u16)])]| {
        net.recv_all();
        net.send(from, &behind(sent));
        net.turn();
        let expected: Vec<_> = expected.iter().map(|(port, tags)| (*port, behind(tags))).collect();
        assert_eq!(net.recv_all(), expected, "{from} {sent:x?}");
    };
    check(1, &[], &[(2, &[]), (3, &[(0x8100, 10)])]);
    check(1, &[(0x8100, 0xa000)], &[(2, &[]), (3, &[(0x8100, 0xa00a)])]);
    check(2, &[], &[(1, &[]), (3, &[(0x8100, 10)])]);
    check(2, &[(0x8100, 10)], &[(1, &[]), (3, &[(0x8100, 10)])]);
    check(2, &[(0x88a8, 0x6014)], &[(3, &[]), (4, &[])]);
    // A second tag is never laid open to the next switch.
    check(2, &[(0x8100, 20), (0x8100, 10)], &[(3, &[(0x8100, 20), (0x8100, 10)]), (4, &[(0x8100, 10)])]);
    check(1, &[(0x8100, 0), (0x8100, 20)], &[(2, &[(0x8100, 10), (0x8100, 20)]), (3, &[(0x8100, 10), (0x8100, 20)])]);
}

#[test]
fn a_port_without_offloads_gets_complete_frames() {
    let mut net = Net::with(config(vec![trunk(1, 1, "10"), access(2, 10)]), SMALL, Offloads::NONE, 512);
    net.through(2, &hello(mac(1), mac(2)));
    let (frame, vnet) = tso4(mac(2), mac(1), 4000, 1448);
    let mut with_tag = frame.clone();
    with_tag.splice(12..12, [0x81, 0, 0, 10]);
    net.recv_all();
    net.send_vnet(1, &with_tag, vnet.shifted(4));
    net.turn();
    let out = net.recv(2);
    assert_eq!(out.iter().map(|(f, _)| f.len()).collect::<Vec<_>>(), [54 + 1448, 54 + 1448, 54 + 4000 - 2 * 1448]);
    assert!(out.iter().all(|(f, vnet)| net::frames::checksum_is_right(f) && *vnet == Default::default()));
    let (rx, tx) = (net.counters(1).rx, net.counters(2).tx);
    assert_eq!((rx.unicast, rx.octets), (3, 4000 + 3 * 58));
    assert_eq!((tx.unicast, tx.octets), (3, 4000 + 3 * 54));
}

/// A queue that fills up in the middle of a super-frame: what went is delivered, the rest is dropped.
#[test]
fn a_super_frame_may_be_taken_in_part() {
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10)]), SMALL, Offloads::NONE, 4);
    net.through(2, &hello(mac(1), mac(2)));
    net.recv_all();
    let (frame, vnet) = tso4(mac(2), mac(1), 7000, 1000);
    net.send_vnet(1, &frame, vnet);
    net.turn();
    assert_eq!((net.counters(1).delivered, net.drops(1, DropReason::TxFull)), (4, 3));
    assert_eq!((net.counters(2).tx.unicast, net.tx_drops(2, DropReason::TxFull)), (4, 3));
}

fn rule(action: Action, protocol: Option<u8>, dst_port: PortMatch) -> IpRule {
    IpRule {
        action,
        protocol,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    }
}

#[test]
fn later_fragments_follow_the_rest_of_a_permit_and_pass_by_a_deny_with_ports() {
    let list = |rules: Vec<IpRule>| acl(Rules::Ip((1..).zip(rules).collect()), 0);
    let fragment = ethernet(mac(2), mac(1), &[], 0x800, &ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, 10, &[0; 40]));
    let http = udp4(mac(2), mac(1), 80, 10);
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    net.config.acls = vec![list(vec![rule(Action::Permit, Some(17), PortMatch::Eq(80))])];
    net.port(1).ip_acl_in = Some(0);
    net.publish();
    assert_eq!((net.through(1, &fragment), net.through(1, &http)), (vec![2], vec![2]));
    net.config.acls =
        vec![list(vec![rule(Action::Deny, Some(17), PortMatch::Eq(80)), rule(Action::Permit, None, PortMatch::Any)])];
    net.publish();
    assert_eq!((net.through(1, &fragment), net.through(1, &http)), (vec![2], vec![]));
    net.config.acls =
        vec![list(vec![rule(Action::Deny, Some(17), PortMatch::Any), rule(Action::Permit, None, PortMatch::Any)])];
    net.publish();
    assert_eq!((net.through(1, &fragment), net.through(1, &http)), (vec![], vec![]));
    assert_eq!(net.control.rule_matches(0), 2 + 1 + 2);
}

/// Octets behind the packet are no part of it (CVE-2020-35498): they change neither the flow nor the verdict.
#[test]
fn padding_does_not_matter() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, 0, &udp(1, 53, &[]));
    for padding in [0, 18, 1000] {
        let frame = ethernet(mac(2), mac(1), &[], 0x800, &[packet.clone(), vec![0x99; padding]].concat());
        assert_eq!(net.through(1, &frame), [2]);
    }
    assert_eq!(net.control.cache_stats().added, 1);
    let (flows, matched) = net.ask(|c| c.flows(Default::default(), 10).unwrap());
    assert_eq!((matched, flows[0].record.packets, flows[0].record.octets), (1, 3, 3 * 28));
}

/// A flood that one port alone may have is cached as a frame to one port is; whatever may change that is seen by the next
/// frame, also within a batch.
#[test]
fn a_flood_to_one_port_is_judged_once_and_ends_when_its_destination_speaks() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 20)]));
    for _ in 0..5 {
        assert_eq!(net.through(1, &hello(mac(9), mac(1))), [2]);
        assert_eq!(net.through(1, &hello(MacAddr::BROADCAST, mac(1))), [2]);
    }
    assert_eq!((net.control.cache_stats().misses, net.control.cache_stats().hits), (2, 8));
    // Somebody else speaks: nothing is judged anew.
    net.through(2, &hello(mac(9), mac(2)));
    assert_eq!(net.through(1, &hello(mac(9), mac(1))), [2]);
    assert_eq!(net.control.cache_stats().misses, 3);
    // Its destination does, in the middle of a batch.
    for frame in
        [hello(mac(9), mac(1)), hello(MacAddr::BROADCAST, mac(9)), hello(mac(9), mac(1)), hello(mac(9), mac(1))]
    {
        net.send(1, &frame);
    }
    net.recv_all();
    net.turn();
    assert_eq!((net.recv(2).len(), net.drops(1, DropReason::SamePort)), (2, 2));
    net.through(2, &hello(mac(1), mac(9)));
    assert_eq!(net.through(1, &hello(mac(9), mac(1))), [2]);
    // Forgotten, it is flooded again; configured, it is not.
    net.ask(|c| c.clear_macs(None, Some(mac(9))).unwrap());
    assert_eq!(net.through(1, &hello(mac(9), mac(1))), [2]);
    net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(9), port: None }];
    net.publish();
    net.dropped(1, &hello(mac(9), mac(1)), Default::default(), DropReason::StaticDrop);
}

#[test]
fn a_flood_to_one_port_follows_the_members_of_its_vlan_and_their_lists() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 20), uplink(4, "20")]));
    let flood = hello(mac(9), mac(1));
    assert_eq!(net.through(1, &flood), [2]);
    for (port, id, expected) in
        [(3, 10, vec![2, 3]), (2, 20, vec![3]), (2, 10, vec![2, 3]), (3, 20, vec![2]), (2, 20, vec![])]
    {
        *net.port(port) = access(port, id);
        net.publish();
        for _ in 0..3 {
            assert_eq!(net.through(1, &flood), expected, "after port {port} went to VLAN {id}");
        }
    }
    // The one uplink of floods is another one.
    *net.port(3) = uplink(3, "10");
    *net.port(4) = uplink(4, "10");
    net.publish();
    assert_eq!((net.through(1, &flood), net.through(1, &flood)), (vec![3], vec![3]));
    net.port(3).up = false;
    net.publish();
    assert_eq!((net.through(1, &flood), net.through(1, &flood)), (vec![4], vec![4]));
    *net.port(2) = access(2, 10);
    *net.port(4) = uplink(4, "20");
    net.config.acls = vec![acl(Rules::Ip(vec![(1, rule(Action::Permit, None, PortMatch::Any))]), 0)];
    net.port(2).ip_acl_out = Some(0);
    net.publish();
    for _ in 0..4 {
        assert_eq!(net.through(1, &flood), [2]);
    }
    assert_eq!(net.control.rule_matches(0), 4, "once for each frame, cached or not");
    net.config.acls = vec![acl(Rules::Ip(vec![(1, rule(Action::Deny, None, PortMatch::Any))]), 0)];
    net.publish();
    for _ in 0..3 {
        net.dropped(1, &flood, Default::default(), DropReason::AclDenyOut);
    }
    assert_eq!((net.control.rule_matches(0), net.tx_drops(2, DropReason::AclDenyOut)), (7, 3));
    // Too long for the one port, between others that fit.
    net.port(2).ip_acl_out = None;
    net.port(2).mtu = 600;
    net.publish();
    for _ in 0..3 {
        assert_eq!(net.through(1, &flood), [2]);
        net.dropped(1, &udp4(mac(9), mac(1), 5, 700), Default::default(), DropReason::MtuExceeded);
    }
    assert_eq!(net.tx_drops(2, DropReason::MtuExceeded), 3);
}

/// Two ports send from the same address in turn: nobody's flows are judged anew for that, and each frame goes to where the
/// addresses are at that moment.
#[test]
fn an_address_that_moves_to_and_fro_costs_no_judge_and_misleads_no_frame() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10), access(3, 10), access(4, 20)]));
    net.through(3, &hello(mac(9), mac(3)));
    for round in 0..4 {
        for from in [1, 2] {
            for _ in 0..8 {
                net.send(from, &hello(mac(3), mac(1)));
                net.send(from, &hello(mac(8), mac(1)));
            }
            net.recv_all();
            net.turn();
            assert_eq!((net.recv(3).len(), net.recv(3 - from).len()), (16, 8));
            if round > 0 {
                continue;
            }
            assert_eq!(net.through(3, &hello(mac(1), mac(3))), [from]);
        }
    }
    // The frame from 3 was flooded first, then forwarded to 1 and to 2.
    assert_eq!(net.control.cache_stats().misses, 1 + 2 * 2 + 2);
    // What is dropped for where an address is, is dropped while it is there.
    let (there, here) = (hello(MacAddr::BROADCAST, mac(5)), hello(mac(5), mac(1)));
    for _ in 0..3 {
        net.through(1, &there);
        net.dropped(1, &here, Default::default(), DropReason::SamePort);
        net.through(2, &there);
        assert_eq!((net.through(1, &here), net.through(1, &here)), (vec![2], vec![2]));
    }
}

#[test]
fn a_flood_that_came_back_is_dropped_only_while_its_sender_is_here() {
    let ports = vec![access(1, 10), access(2, 10), uplink(7, "10"), uplink(8, "10")];
    let mut net = Net::new(config(ports));
    let (own, back) = (hello(MacAddr::BROADCAST, mac(1)), tagged(10, MacAddr::BROADCAST, mac(1)));
    assert_eq!(net.through(7, &back), [1, 2], "not a local one yet");
    for _ in 0..3 {
        assert_eq!(net.through(1, &own), [2, 7]);
        net.dropped(7, &back, Default::default(), DropReason::SplitHorizon);
        net.dropped(8, &back, Default::default(), DropReason::SplitHorizon);
        net.through(2, &own);
        net.dropped(7, &back, Default::default(), DropReason::SplitHorizon);
        net.ask(|c| c.clear_macs(None, Some(mac(1))).unwrap());
        assert_eq!((net.through(7, &back), net.through(8, &back)), (vec![1, 2], vec![1, 2]));
    }
    net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(1), port: None }];
    net.publish();
    net.dropped(1, &own, Default::default(), DropReason::StaticDrop);
    net.dropped(1, &own, Default::default(), DropReason::StaticDrop);
    net.config.static_macs.clear();
    net.publish();
    assert_eq!((net.through(1, &own), net.through(1, &own)), (vec![2, 7], vec![2, 7]));
}
