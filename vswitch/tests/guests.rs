//! Real TCP/IP stacks as guests on memory ports: a transfer through the switch in simulated time.
//!
//! The guests are smoltcp interfaces, so nothing here knows what the switch thinks of a frame: the judge is whether every
//! octet arrives, in order, over cables that lose, damage, double and reorder frames. Law 1 is checked after every step.

mod net;

use std::net::Ipv4Addr;

use net::{Net, access, config, monitor};
use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use smoltcp::iface::{Config as IfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::fault::{Fault, FaultPlan};
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};
use vswitch::verdict::DropReason;

/// A guest's network card: the far end of a memory port.
struct Card<'a>(&'a mut MemoryEnd);

struct Arrived(Vec<u8>);
struct Departure<'a>(&'a mut MemoryEnd);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl TxToken for Departure<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let said = write(&mut frame);
        // A full queue is a lost frame, as on any cable.
        self.0.send(&frame, VnetHdr::PLAIN);
        said
    }
}

impl Device for Card<'_> {
    type RxToken<'a>
        = Arrived
    where
        Self: 'a;
    type TxToken<'a>
        = Departure<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Moment) -> Option<(Arrived, Departure<'_>)> {
        let (frame, vnet) = self.0.recv()?;
        assert_eq!(vnet, VnetHdr::PLAIN, "the card has no offloads");
        Some((Arrived(frame), Departure(self.0)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Departure<'_>> {
        Some(Departure(self.0))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, 1514);
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// A guest with one TCP socket.
struct Guest {
    port: u16,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
}

impl Guest {
    fn new(net: &mut Net, port: u16) -> Guest {
        let mac = EthernetAddress([2, 0, 0, 0, 0, port as u8]);
        let end = net.ends.get_mut(&port).unwrap();
        let mut interface = Interface::new(IfaceConfig::new(mac.into()), &mut Card(end), Moment::ZERO);
        interface.update_ip_addrs(|addrs| addrs.push(IpCidr::new(address(port), 24)).unwrap());
        let mut sockets = SocketSet::new(Vec::new());
        let room = || tcp::SocketBuffer::new(vec![0; 65_535]);
        let tcp = sockets.add(tcp::Socket::new(room(), room()));
        Guest { port, interface, sockets, tcp }
    }

    fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.tcp)
    }

    fn connect(&mut self, to: u16, port: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.tcp);
        socket.connect(self.interface.context(), (address(to), port), 40_000).unwrap();
    }

    fn poll(&mut self, net: &mut Net) {
        let end = net.ends.get_mut(&self.port).unwrap();
        self.interface.poll(Moment::from_millis(net.now_ms as i64), &mut Card(end), &mut self.sockets);
    }
}

fn address(port: u16) -> IpAddress {
    Ipv4Addr::new(10, 0, 0, port as u8).into()
}

/// Ports 1 and 2 in VLAN 10; what port 1 brings passes a bad cable.
fn two_ports(plan: FaultPlan) -> Net {
    let mut net = Net::with(config(Vec::new()), net::SMALL, Offloads::NONE, 512);
    for (id, plan) in [(1, plan), (2, FaultPlan::default())] {
        let (port, end) = memory::pair(512, Offloads::NONE);
        let port = Fault::new(Box::new(port), plan);
        assert!(net.worker.attach(PortId(id), Box::new(port)).is_ok());
        net.ends.insert(id, end);
        net.config.ports.push(access(id, 10));
    }
    net.publish();
    net
}

/// Sends `octets` from guest 1 to port 80 of guest 2, and returns what came out within two simulated minutes.
fn transfer(net: &mut Net, octets: &[u8]) -> Vec<u8> {
    let (mut client, mut server) = (Guest::new(net, 1), Guest::new(net, 2));
    server.tcp().listen(80).unwrap();
    client.connect(2, 80);
    let (mut sent, mut received) = (0, Vec::new());
    for _ in 0..60_000 {
        let socket = client.tcp();
        if socket.can_send() && sent < octets.len() {
            sent += socket.send_slice(&octets[sent..]).unwrap();
        }
        client.poll(net);
        net.turn();
        server.poll(net);
        let socket = server.tcp();
        while socket.can_recv() {
            socket.recv(|part| (part.len(), received.extend_from_slice(part))).unwrap();
        }
        net.turn();
        if received.len() >= octets.len() {
            break;
        }
        net.now_ms += 2;
    }
    received
}

fn octets(count: usize) -> Vec<u8> {
    (0..count as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(count).collect()
}

#[test]
fn every_octet_arrives_over_a_good_cable_and_is_metered_once() {
    let mut net = two_ports(FaultPlan::default());
    net.config.monitors = vec![monitor(1800, 15)];
    (net.port(1).flow_in, net.port(2).flow_in) = (Some(0), Some(0));
    net.publish();
    let octets = octets(1 << 20);
    assert!(transfer(&mut net, &octets) == octets);
    net.after(40_000);
    let exported: u64 = std::iter::from_fn(|| net.reports.pop().ok()).map(|record| record.packets).sum();
    let accepted: u64 = [1, 2].into_iter().map(|id| net.counters(id).rx.frames()).sum();
    assert_eq!(exported, accepted);
}

#[test]
fn every_octet_arrives_over_a_bad_cable() {
    let plan = FaultPlan { loss: 0.02, corrupt: 0.01, truncate: 0.01, duplicate: 0.02, reorder: 0.02, seed: 7 };
    let mut net = two_ports(plan);
    let octets = octets(256 << 10);
    assert!(transfer(&mut net, &octets) == octets);
}

#[test]
fn a_denied_connection_never_opens() {
    let mut net = two_ports(FaultPlan::default());
    let rule = |action, protocol, dst_port| IpRule {
        action,
        protocol,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let rules =
        vec![(10, rule(Action::Deny, Some(6), PortMatch::Eq(80))), (20, rule(Action::Permit, None, PortMatch::Any))];
    net.config.acls = vec![net::acl(Rules::Ip(rules), 0)];
    net.port(1).ip_acl_in = Some(0);
    net.publish();
    assert!(transfer(&mut net, &octets(100)).is_empty());
    let denied = net.drops(1, DropReason::AclDeny);
    assert!(denied >= 3, "the SYN and its repetitions: {denied}");
    assert_eq!(net.control.rule_matches(0), denied);
}
