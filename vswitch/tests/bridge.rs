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
