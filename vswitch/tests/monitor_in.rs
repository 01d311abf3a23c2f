//! A port that brings what a tap of another network copies: all of it is metered and mirrored, none of it is forwarded or
//! learnt from, and nothing leaves by the port.

mod net;

use net::frames::{ethernet, ipv4, tso4, udp, udp4};
use net::{Net, SMALL, access, config, mac, monitor};
use proto::addr::MacAddr;
use vswitch::config::{SessionConfig, StaticMac};
use vswitch::flow::record::Outcome;
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::{Offloads, PortId};
use vswitch::verdict::DropReason;

const TAP: u16 = 3;

/// Ports 1 and 2 in VLAN 10, port 3 metered and copied to port 9.
fn tapped() -> Net {
    let mut ports = vec![access(1, 10), access(2, 10), access(TAP, 10), access(9, 10)];
    ports[2].flow_in = Some(0);
    let mut config = config(ports);
    config.monitors = vec![monitor(60, 15)];
    config.monitor_ins = vec![PortId(TAP)];
    config.sessions =
        vec![SessionConfig { rx_ports: vec![PortId(TAP)], destinations: vec![PortId(9)], ..SessionConfig::default() }];
    Net::with(config, SMALL, Offloads::ALL, 512)
}

#[test]
fn what_a_tap_brings_is_metered_and_mirrored_and_goes_nowhere() {
    let mut net = tapped();
    let packet = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, 0, &udp(5, 6, &[0; 12]));
    let foreign = ethernet(mac(2), mac(1), &[(0x8100, 4000)], 0x0800, &packet);
    for _ in 0..3 {
        assert_eq!(net.through(TAP, &udp4(mac(2), mac(1), 80, 20)), [9]);
        assert_eq!(net.through(TAP, &udp4(MacAddr::BROADCAST, mac(1), 80, 20)), [9]);
        assert_eq!(net.through(TAP, &foreign), [9], "of a VLAN that the switch does not have");
    }
    let (large, vnet) = tso4(mac(2), mac(1), 4000, 1448);
    net.send_vnet(TAP, &large, vnet);
    net.turn();
    assert_eq!(net.recv(9).len(), 3);
    assert_eq!(net.drops(TAP, DropReason::MonitorInput), 12);
    assert!(net.ask(|control| control.macs().unwrap()).is_empty(), "nothing was learnt");
    net.after(60_000);
    let records = net.records();
    let all = Outcome::Dropped(DropReason::MonitorInput);
    assert!(records.iter().all(|r| r.outcome == all && r.key.in_port() == PortId(TAP)), "{records:?}");
    let mut seen: Vec<_> = records.iter().map(|r| (r.vlan.unwrap().get(), r.packets)).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(10, 3), (10, 3), (10, 3), (4000, 3)]);
}

#[test]
fn nothing_leaves_by_it() {
    let mut net = tapped();
    assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 20)), [2], "unknown");
    assert_eq!(net.through(1, &udp4(MacAddr::BROADCAST, mac(1), 80, 20)), [2]);
    net.config.static_macs =
        vec![StaticMac { vlan: net::vlans("10").iter().next().unwrap(), mac: mac(7), port: Some(PortId(TAP)) }];
    net.publish();
    net.dropped(1, &udp4(mac(7), mac(1), 80, 20), VnetHdr::PLAIN, DropReason::MonitorInput);
}

#[test]
fn a_port_that_becomes_one_is_forgotten_and_back() {
    let mut net = tapped();
    net.config.monitor_ins.clear();
    net.publish();
    net.through(TAP, &udp4(mac(1), mac(3), 80, 20));
    assert_eq!(net.through(1, &udp4(mac(3), mac(1), 80, 20)), [TAP]);
    net.config.monitor_ins = vec![PortId(TAP)];
    net.publish();
    assert_eq!(net.through(1, &udp4(mac(3), mac(1), 80, 20)), [2], "as one that nobody knows");
    assert_eq!(net.through(TAP, &udp4(mac(1), mac(3), 80, 20)), [9], "the cached verdict is void");
}
