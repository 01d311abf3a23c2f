//! Every reason for which a frame can be dropped, brought about by one frame.
//!
//! The `match` below has an arm for each reason of the closed list, so a new reason without a test does not compile.

mod net;

use std::net::Ipv4Addr;

use net::frames::{arp, ethernet, ipv4, ipv6, tcp, tso4, udp, udp4};
use net::{Net, access, acl, config, mac, trunk, uplink, vlan};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::MacAddr;
use vswitch::config::{SessionConfig, StaticMac};
use vswitch::frame::vnet::{GSO_TCPV4, NEEDS_CSUM, VnetHdr};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::verdict::DropReason::{self, *};

const PLAIN: VnetHdr = VnetHdr::PLAIN;

fn plain_net() -> Net {
    Net::new(config(vec![access(1, 10), access(2, 10), trunk(3, 10, "10-20"), uplink(4, "10-20"), uplink(5, "10-20")]))
}

fn ip_frame(packet: &[u8]) -> Vec<u8> {
    ethernet(mac(2), mac(1), &[], 0x0800, packet)
}

fn tagged(vid: u16) -> Vec<u8> {
    ethernet(mac(2), mac(1), &[(0x8100, vid)], 0x9999, &[0; 50])
}

fn deny(host: [u8; 4]) -> IpRule {
    IpRule {
        action: Action::Deny,
        protocol: None,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::host(Ipv4Addr::from(host)),
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    }
}

/// Port, rule and frames.
fn by_rule(net: &Net) -> Vec<(u16, u32, u64)> {
    net.control.rule_drops().into_iter().map(|(pair, frames)| (pair.port.0, pair.rule, frames)).collect()
}

/// Learns station 2 on port 2.
fn with_station_2(mut net: Net) -> Net {
    net.through(2, &udp4(mac(9), mac(2), 1, 1));
    net
}

fn bring_about(reason: DropReason) {
    let mut net = plain_net();
    let good = udp4(mac(2), mac(1), 80, 30);
    let mut lie = |from: u16, frame: &[u8]| net.dropped(from, frame, PLAIN, reason);
    match reason {
        Runt => {
            lie(1, &good[..13]);
            lie(3, &ethernet(mac(2), mac(1), &[(0x8100, 10)], 0, &[])[..16]);
        }
        Oversize => lie(1, &vec![0; vswitch::frame::FRAME_MAX + 1]),
        SourceMacInvalid => {
            lie(1, &udp4(mac(2), MacAddr([3, 0, 0, 0, 0, 1]), 80, 30));
            lie(1, &udp4(mac(2), MacAddr::ZERO, 80, 30));
        }
        VlanDepth => lie(3, &ethernet(mac(2), mac(1), &[(0x88a8, 10), (0x8100, 11), (0x8100, 12)], 0x800, &[0; 50])),
        VlanReserved => lie(3, &tagged(4095)),
        Ipv4Header => {
            let mut short_ihl = good.clone();
            short_ihl[14] = 0x44;
            lie(1, &short_ihl);
            lie(1, &good[..33]);
        }
        Ipv4Length => lie(1, &good[..good.len() - 1]),
        Ipv6Header => lie(1, &ethernet(mac(2), mac(1), &[], 0x86dd, &ipv6(1, 2, 17, &udp(1, 2, &[]))[..39])),
        Ipv6Length => {
            let packet = ipv6(1, 2, 17, &udp(1, 2, &[0; 9]));
            lie(1, &ethernet(mac(2), mac(1), &[], 0x86dd, &packet[..packet.len() - 1]));
        }
        Ipv6Extensions => {
            lie(1, &ethernet(mac(2), mac(1), &[], 0x86dd, &ipv6(1, 2, 60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(9))))
        }
        L4Header => {
            let mut offset_4 = tcp(1, 2, 2, &[0; 40]);
            offset_4[12] = 0x40;
            lie(1, &ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0, &offset_4)));
            offset_4[12] = 0xf0;
            lie(1, &ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0, &offset_4[..40])));
            let mut long_udp = udp(1, 2, &[0; 4]);
            long_udp[5] += 1;
            lie(1, &ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, 0, &long_udp)));
            lie(1, &ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 1, 0, 0, &[8, 0, 0])));
        }
        FragmentTiny => {
            lie(1, &ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0x2000, &tcp(1, 2, 2, &[])[..16])));
            let first = [17, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4];
            lie(1, &ethernet(mac(2), mac(1), &[], 0x86dd, &ipv6(1, 2, 44, &first)));
        }
        FragmentOverlap => lie(1, &ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 1, &[0; 24]))),
        ArpMalformed => {
            let good = arp(1, [10, 0, 0, 1], [10, 0, 0, 2]);
            lie(1, &ethernet(mac(2), mac(1), &[], 0x0806, &good[..27]));
            let mut ax25 = good.clone();
            ax25[1] = 3;
            lie(1, &ethernet(mac(2), mac(1), &[], 0x0806, &ax25));
        }
        OffloadInvalid => offload_lies(&mut net),
        PortDown => {
            net.port(1).up = false;
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
            net.config.ports.remove(0);
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
        }
        MirrorDestination => {
            net.config.sessions = vec![SessionConfig { destinations: vec![PortId(2)], ..SessionConfig::default() }];
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
            net.publish();
            net.dropped(2, &udp4(mac(1), mac(2), 1, 1), PLAIN, reason);
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(net.tx_drops(2, reason), 1);
        }
        SensorInput => {
            net.config.sensors = vec![PortId(2)];
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
            net.publish();
            net.dropped(2, &udp4(mac(1), mac(2), 1, 1), PLAIN, reason);
            net.dropped(1, &good, PLAIN, MirrorDestination);
        }
        MonitorInput => {
            net.config.monitor_ins = vec![PortId(2)];
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
            net.publish();
            net.dropped(2, &udp4(mac(1), mac(2), 1, 1), PLAIN, reason);
            net.dropped(2, &tagged(4000), PLAIN, reason);
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(net.tx_drops(2, reason), 1);
        }
        VlanTaggedOnAccess => lie(1, &tagged(10)),
        VlanNotAllowed => lie(3, &tagged(21)),
        VlanInactive => {
            net.config.vlans = net::vlans("11-100");
            net.publish();
            net.dropped(3, &tagged(10), PLAIN, reason);
            net.dropped(1, &good, PLAIN, reason);
        }
        ReservedGroup => {
            for last in [0, 2, 0x0e, 0x0f] {
                lie(1, &udp4(MacAddr([1, 0x80, 0xc2, 0, 0, last]), mac(1), 1, 1));
            }
        }
        AclDeny => {
            net.config.acls = vec![acl(Rules::Ip(vec![(10, deny([10, 0, 0, 2]))]), 100)];
            net.port(1).ip_acl_in = Some(0);
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(net.worker_sample().rule, Some(100));
            net.dropped(1, &udp4(mac(3), mac(1), 80, 30), PLAIN, reason);
            assert_eq!(net.worker_sample().rule, Some(101), "the implicit deny");
            assert_eq!((net.control.rule_matches(100), net.control.rule_matches(101)), (1, 1));
            assert_eq!(by_rule(&net), [(1, 100, 1), (1, 101, 1)]);
            net.control.clear_port_counters(PortId(1));
            assert_eq!(by_rule(&net), []);
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(by_rule(&net), [(1, 100, 1)]);
            // The number means another rule later on.
            net.config.acls = vec![acl(Rules::Ip(vec![(10, deny([10, 0, 0, 2]))]), 200)];
            let snapshot = Snapshot::build(&net.config).unwrap();
            net.ask(|control| control.publish(snapshot).unwrap());
            assert_eq!(by_rule(&net), []);
            net.config.acls = vec![acl(Rules::Ip(vec![(10, deny([10, 0, 0, 9]))]), 100)];
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(by_rule(&net), [(1, 101, 1)]);
        }
        AclDenyOut => {
            net.config.acls = vec![acl(Rules::Ip(vec![(10, deny([10, 0, 0, 2]))]), 100)];
            net.port(2).ip_acl_out = Some(0);
            net.publish();
            let mut net = with_station_2(net);
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(net.worker_sample().rule, Some(100));
            assert_eq!(net.tx_drops(2, reason), 1);
            assert_eq!(by_rule(&net), [(1, 100, 1), (2, 100, 1)]);
            // A flood, which another port gets.
            assert!(net.through(1, &udp4(mac(77), mac(1), 80, 30)).contains(&3));
            assert_eq!(by_rule(&net), [(1, 100, 1), (2, 100, 1), (2, 101, 1)]);
        }
        Isolated => {
            net.port(1).protected = true;
            net.port(2).protected = true;
            net.publish();
            let mut net = with_station_2(net);
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(net.tx_drops(2, reason), 1);
        }
        StaticDrop => {
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: None }];
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
            net.dropped(2, &udp4(mac(1), mac(2), 1, 1), PLAIN, reason);
        }
        SamePort => {
            let mut net = with_station_2(net);
            net.dropped(2, &udp4(mac(2), mac(7), 1, 1), PLAIN, reason);
        }
        SplitHorizon => {
            let to_10 = |dst, src| ethernet(dst, src, &[(0x8100, 10)], 0x9999, &[0; 50]);
            net.through(4, &to_10(mac(9), mac(8)));
            net.dropped(5, &to_10(mac(8), mac(7)), PLAIN, reason);
            // What a VM sent comes back by another uplink.
            net.through(1, &good);
            net.dropped(5, &to_10(mac(2), mac(1)), PLAIN, reason);
        }
        NoDestination => {
            net.config.ports.truncate(1);
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
        }
        VlanNotAllowedOut => {
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
            net.port(2).mode = access(2, 11).mode;
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
        }
        EgressDown => {
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
            net.port(2).up = false;
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
        }
        MtuExceeded => {
            net.port(2).mtu = 500;
            net.publish();
            let mut net = with_station_2(net);
            net.dropped(1, &udp4(mac(2), mac(1), 80, 500 - 28 + 1), PLAIN, reason);
            assert_eq!(net.through(1, &udp4(mac(2), mac(1), 80, 500 - 28)), [2]);
            let (frame, vnet) = tso4(mac(2), mac(1), 4000, 461);
            net.dropped(1, &frame, vnet, reason);
            assert_eq!(net.drops(1, reason), 1 + 9, "a super-frame counts as its segments");
        }
        TxFull => {
            let mut net = with_station_2(Net::with(plain_net().config, net::SMALL, Offloads::ALL, 4));
            net.recv_all();
            for _ in 0..4 {
                net.send(1, &good);
            }
            net.turn();
            net.send(1, &good);
            net.turn();
            assert_eq!((net.drops(1, reason), net.tx_drops(2, reason)), (1, 1));
            assert_eq!(net.recv(2).len(), 4);
        }
        TxError => {
            let mut net = with_station_2(net);
            net.worker_detach(2);
            net.attach_refusing(2);
            net.config.static_macs = vec![StaticMac { vlan: vlan(10), mac: mac(2), port: Some(PortId(2)) }];
            net.publish();
            net.dropped(1, &good, PLAIN, reason);
            assert_eq!(net.tx_drops(2, reason), 1);
        }
    }
}

/// The virtio header contradicts the frame (`reliability.md`, V1 to V3 and V5).
fn offload_lies(net: &mut Net) {
    let (frame, good) = tso4(mac(2), mac(1), 4000, 1000);
    assert_eq!(Net::through_vnet(net, 1, &frame, good).len(), 3);
    let mut lie = |vnet: VnetHdr, frame: &[u8]| net.dropped(1, frame, vnet, OffloadInvalid);
    for gso_size in [0, 1, 63] {
        lie(VnetHdr { gso_size, ..good }, &frame);
    }
    for gso_type in [2, 3, 4, 5, 6, 0x80, 0x85] {
        lie(VnetHdr { gso_type, ..good }, &frame);
    }
    lie(VnetHdr { flags: 0, ..good }, &frame);
    for csum_start in [0, 13, 14, 33, 35, 54, 65535] {
        lie(VnetHdr { csum_start, ..good }, &frame);
        lie(VnetHdr { flags: NEEDS_CSUM, csum_start, csum_offset: 16, ..PLAIN }, &frame);
    }
    for csum_offset in [0, 6, 15, 17, 65535] {
        lie(VnetHdr { csum_offset, ..good }, &frame);
    }
    let mut padded = frame.clone();
    padded.push(0);
    lie(good, &padded);
    lie(good, &ethernet(mac(2), mac(1), &[], 0x0806, &arp(1, [10, 0, 0, 1], [10, 0, 0, 2])));
    let fragment = ipv4([10, 0, 0, 1], [10, 0, 0, 2], 6, 0, 0x2000, &tcp(1, 2, 2, &[0; 200]));
    lie(VnetHdr { gso_size: 100, ..good }, &ip_frame(&fragment));
    lie(VnetHdr { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..PLAIN }, &ip_frame(&fragment));
    let datagrams = udp(1, 2, &vec![0; 129 * 64]);
    let many = ip_frame(&ipv4([10, 0, 0, 1], [10, 0, 0, 2], 17, 0, 0, &datagrams));
    let uso = VnetHdr { gso_type: 5, gso_size: 64, csum_offset: 6, ..good };
    lie(uso, &many);
    lie(VnetHdr { gso_type: GSO_TCPV4, ..uso }, &many);
}

#[test]
fn every_reason_is_brought_about_and_counted_once() {
    for reason in DropReason::ALL {
        bring_about(*reason);
    }
}
