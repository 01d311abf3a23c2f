//! Sessions with destinations on other hosts: what stands in the headers, what comes out of them, and what is lost.

mod net;

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::frames::{checksum_is_right, ethernet, ipv4, tso4, udp4};
use net::{Net, SMALL, access, config, mac, trunk};
use vswitch::config::{RemoteConfig, SessionConfig};
use vswitch::observe::erspan::{Direction, Encapsulation, Form, Received, Stamp};
use vswitch::observe::mirror::CopyLoss;
use vswitch::observe::mirror::remote::{Packet, RawSocket, Remote};
use vswitch::port::{Offloads, PortId};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SENSOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);

/// Keeps what is sent; refuses what is longer than its MTU.
#[derive(Clone, Default)]
struct Wire {
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    mtu: usize,
}

impl Remote for Wire {
    fn send(&mut self, packets: &[Packet<'_>], outcome: &mut dyn FnMut(usize, Option<CopyLoss>)) {
        for (at, packet) in packets.iter().enumerate() {
            let IpAddr::V4(to) = packet.to else { panic!("{}", packet.to) };
            assert_eq!(packet.octets[16..20], to.octets());
            let fits = packet.octets.len() <= self.mtu;
            outcome(at, (!fits).then_some(CopyLoss::TooLong));
            if fits {
                self.sent.lock().unwrap().push(packet.octets.to_vec());
            }
        }
    }
}

impl Wire {
    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

fn remote(form: Form, keep_tag: bool) -> RemoteConfig {
    let encapsulation = Encapsulation {
        origin: HERE.into(),
        destination: SENSOR.into(),
        session: 77,
        form,
        ttl: 64,
        dscp: 8,
        fragment: false,
    };
    RemoteConfig { encapsulation, keep_tag }
}

/// An access port 1 in VLAN 10 and a trunk 2; both are copied to another host.
fn watched(remotes: Vec<RemoteConfig>) -> (Net, Wire) {
    let wire = Wire { mtu: 65_535, ..Wire::default() };
    let mut net =
        Net::with(config(vec![access(1, 10), trunk(2, 1, "10,20"), access(9, 10)]), SMALL, Offloads::ALL, 4096);
    let watched = vec![PortId(1), PortId(2)];
    net.config.port_numbers = vec![(PortId(1), 101), (PortId(2), 102)];
    net.config.sessions = vec![SessionConfig { id: 3, rx_ports: watched, remotes, ..SessionConfig::default() }];
    net.mirror.set_remote(Box::new(wire.clone()));
    net.mirror.set_epoch(Duration::from_secs(1_700_000_000));
    net.publish();
    net.through(2, &ethernet(mac(1), mac(2), &[(0x8100, 10)], 0x9999, &[0; 50]));
    net.through(1, &ethernet(mac(2), mac(1), &[], 0x9999, &[0; 50]));
    wire.take();
    (net, wire)
}

#[test]
fn both_directions_have_the_vlan_in_the_header_and_no_tag() {
    let (mut net, wire) = watched(vec![remote(Form::Two, false)]);
    let plain = ethernet(mac(2), mac(1), &[], 0x9999, &[1; 50]);
    let answer = ethernet(mac(1), mac(2), &[], 0x9999, &[2; 50]);
    net.send(1, &plain);
    net.turn();
    net.send(2, &ethernet(mac(1), mac(2), &[(0x8100, 0xa00a)], 0x9999, &[2; 50]));
    net.turn();
    let sent = wire.take();
    let read: Vec<Received<'_>> = sent.iter().map(|packet| Received::read(packet).unwrap()).collect();
    assert_eq!(read.iter().map(|r| r.frame).collect::<Vec<_>>(), [&plain, &answer]);
    assert_eq!(
        read.iter().map(|r| (r.session, r.sequence, r.tci, r.port)).collect::<Vec<_>>(),
        [(77, Some(2), Some(10), Some(101)), (77, Some(3), Some(0xa00a), Some(102)),]
    );
    assert_eq!((read[0].source, read[0].destination, sent[0][1]), (HERE.into(), SENSOR.into(), 8 << 2));
}

#[test]
fn with_keep_tag_both_directions_have_it_in_the_frame() {
    let (mut net, wire) = watched(vec![remote(Form::Two, true)]);
    net.send(1, &ethernet(mac(2), mac(1), &[], 0x9999, &[1; 50]));
    net.turn();
    let answer = ethernet(mac(1), mac(2), &[(0x8100, 0xa00a)], 0x9999, &[2; 50]);
    net.send(2, &answer);
    net.turn();
    let sent = wire.take();
    let frames: Vec<_> = sent.iter().map(|p| Received::read(p).unwrap()).map(|r| (r.tci, r.frame.to_vec())).collect();
    assert_eq!(frames, [(None, ethernet(mac(2), mac(1), &[(0x8100, 10)], 0x9999, &[1; 50])), (None, answer)]);
}

#[test]
fn super_frames_are_cut_and_truncated_and_each_segment_has_its_number() {
    let (mut net, wire) = watched(vec![remote(Form::Three(Stamp::Ieee1588), false)]);
    let (frame, vnet) = tso4(mac(2), mac(1), 3000, 1448);
    net.now_ms = 5;
    net.send_vnet(1, &frame, vnet);
    net.turn();
    let sent = wire.take();
    let read: Vec<Received<'_>> = sent.iter().map(|packet| Received::read(packet).unwrap()).collect();
    assert_eq!(
        read.iter().map(|r| (r.sequence, r.frame.len(), r.truncated)).collect::<Vec<_>>(),
        [(Some(2), 1502, false), (Some(3), 1502, false), (Some(4), 54 + 3000 - 2 * 1448, false)]
    );
    assert!(read.iter().all(|r| checksum_is_right(r.frame) && r.direction == Some(Direction::Ingress)));
    assert_eq!(read[0].time, Some(Duration::from_secs(1_700_000_000) + Duration::from_millis(5)));
    net.config.sessions[0].truncate = Some(128);
    net.publish();
    net.send_vnet(1, &frame, vnet);
    net.turn();
    let cut = wire.take();
    let read: Vec<_> =
        cut.iter().map(|packet| Received::read(packet).unwrap()).map(|r| (r.frame.len(), r.truncated)).collect();
    assert_eq!(read, [(128, true); 3]);
    assert_eq!(net.control.session_stats(3).truncated, 3);
}

#[test]
fn what_is_sent_is_copied_as_sent_and_says_so() {
    let (mut net, wire) = watched(vec![remote(Form::Three(Stamp::Nexus1000v(9)), false)]);
    net.config.sessions[0].rx_ports.clear();
    net.config.sessions[0].tx_ports = vec![PortId(1)];
    net.publish();
    net.send(2, &ethernet(mac(1), mac(2), &[(0x8100, 10)], 0x9999, &[2; 50]));
    net.turn();
    let sent = wire.take();
    let read = Received::read(&sent[0]).unwrap();
    assert_eq!((read.direction, read.port, read.tci), (Some(Direction::Egress), Some(101), Some(10)));
    assert_eq!(read.frame, ethernet(mac(1), mac(2), &[], 0x9999, &[2; 50]));
}

/// Several destinations of one session, near and far: each gets every copy, and the numbers are those of the session.
#[test]
fn several_destinations_each_have_every_copy() {
    let other = IpAddr::from([192, 0, 2, 98]);
    let mut second = remote(Form::Three(Stamp::Nanos100), false);
    second.encapsulation.destination = other;
    let (mut net, wire) = watched(vec![remote(Form::Two, false), second]);
    net.config.sessions[0].destinations = vec![PortId(9)];
    net.publish();
    net.recv_all();
    let (frame, vnet) = tso4(mac(2), mac(1), 2000, 1448);
    net.send_vnet(1, &frame, vnet);
    net.turn();
    assert_eq!(net.recv(9).len(), 2);
    let sent = wire.take();
    let mut read: Vec<_> =
        sent.iter().map(|p| Received::read(p).unwrap()).map(|r| (r.destination, r.sequence.unwrap())).collect();
    read.sort_unstable();
    let numbers: Vec<u32> = read.iter().map(|(_, number)| *number).collect();
    assert_eq!(read.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [other, other, SENSOR.into(), SENSOR.into()]);
    assert_eq!((numbers[0], numbers[1]), (numbers[2], numbers[3]));
    let stats = net.control.session_stats(3);
    assert_eq!((stats.matched, stats.copied), (4, 2 * 2 + 2 * 3), "two frames before, then two segments");
}

#[test]
fn what_is_lost_leaves_a_gap_in_the_numbers() {
    let (mut net, mut wire) = watched(vec![remote(Form::Two, false)]);
    wire.mtu = 500;
    net.mirror.set_remote(Box::new(wire.clone()));
    let numbers = |wire: &Wire| {
        let sent = wire.take();
        sent.iter().map(|packet| Received::read(packet).unwrap().sequence.unwrap()).collect::<Vec<_>>()
    };
    for length in [100, 1000, 100] {
        net.send(1, &udp4(mac(2), mac(1), 80, length));
    }
    net.turn();
    assert_eq!(numbers(&wire), [2, 4]);
    let stats = net.control.session_stats(3);
    assert_eq!((stats.losses[CopyLoss::TooLong as usize], stats.dropped, stats.copied), (1, 1, 4));
    // The mirror stands still until its ring is full; what comes after that says how much is missing.
    wire.mtu = 65_535;
    net.mirror.set_remote(Box::new(wire.clone()));
    for n in 0..30_000 {
        net.send(1, &udp4(mac(2), mac(1), n, 1400));
        net.worker.turn(vswitch::time::Instant::from_ms(2));
    }
    let busy = net.control.session_stats(3).losses[CopyLoss::MirrorBusy as usize] as u32;
    assert!((1000..29_000).contains(&busy), "{busy}");
    net.turn();
    net.send(1, &udp4(mac(2), mac(1), 1, 10));
    net.turn();
    let numbers = numbers(&wire);
    assert_eq!(numbers.last().unwrap() + 1 - 5, 30_001, "copies and losses");
    assert_eq!(numbers.len() as u32, 30_001 - busy);
}

/// Our own packets, where they come through the switch: no copy of them, and of other GRE there is one.
#[test]
fn copies_are_not_copied_on_their_way_through_the_switch() {
    let (mut net, wire) = watched(vec![remote(Form::Two, false)]);
    let gre = |src: Ipv4Addr, protocol| {
        let packet = ipv4(src.octets(), SENSOR.octets(), protocol, 0, 0, &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1]);
        ethernet(mac(2), mac(1), &[], 0x0800, &packet)
    };
    let mut copies = |frame: &[u8]| {
        assert_eq!(net.through(1, frame), [2]);
        wire.take().len()
    };
    assert_eq!(copies(&gre(HERE, 47)), 0);
    assert_eq!(copies(&gre(Ipv4Addr::new(192, 0, 2, 2), 47)), 1);
    assert_eq!(copies(&gre(HERE, 50)), 1);
    // Where the kernel chooses the address, that of the host is known; and so are other hosts of the switch.
    net.config.sessions[0].remotes[0].encapsulation.origin = Ipv4Addr::UNSPECIFIED.into();
    net.publish();
    let copies = |net: &mut Net, frame: &[u8]| {
        net.send(1, frame);
        net.turn();
        wire.take().len()
    };
    assert_eq!(copies(&mut net, &gre(HERE, 47)), 1);
    net.config.address = Some(HERE);
    net.publish();
    assert_eq!(copies(&mut net, &gre(HERE, 47)), 0);
    let two = Ipv4Addr::new(192, 0, 2, 2);
    assert_eq!(copies(&mut net, &gre(two, 47)), 1);
    net.config.hosts = vec![SENSOR, two];
    net.publish();
    assert_eq!((copies(&mut net, &gre(two, 47)), copies(&mut net, &gre(two, 50))), (0, 1));
}

/// What the host tells its collectors is none of the traffic that it tells of.
#[test]
fn own_flow_export_is_not_copied() {
    let (mut net, wire) = watched(vec![remote(Form::Two, false)]);
    let (collector, guest) = (Ipv4Addr::new(192, 0, 2, 50), Ipv4Addr::new(192, 0, 2, 7));
    let packet = |from: Ipv4Addr, to: Ipv4Addr, protocol, ports: [u16; 2]| {
        let mut l4 = [0; 20];
        l4[..2].copy_from_slice(&ports[0].to_be_bytes());
        l4[2..4].copy_from_slice(&ports[1].to_be_bytes());
        if protocol == 17 {
            l4[5] = 20
        } else {
            l4[12] = 0x50
        }
        ethernet(mac(2), mac(1), &[], 0x0800, &ipv4(from.octets(), to.octets(), protocol, 0, 0, &l4))
    };
    let own = [
        packet(HERE, collector, 17, [40_000, 2055]),
        packet(HERE, collector, 6, [40_000, 2055]),
        packet(collector, HERE, 6, [2055, 40_000]),
    ];
    let others = [
        packet(HERE, collector, 17, [40_000, 2056]),
        packet(guest, collector, 17, [40_000, 2055]),
        packet(HERE, guest, 17, [40_000, 2055]),
        packet(collector, HERE, 17, [2055, 40_000]),
        packet(collector, HERE, 6, [2056, 40_000]),
    ];
    let copies = |net: &mut Net, frames: &[Vec<u8>]| {
        frames.iter().for_each(|frame| net.send(1, frame));
        net.turn();
        wire.take().len()
    };
    assert_eq!((copies(&mut net, &own), copies(&mut net, &others)), (3, 5));
    // Flows that are known are asked again.
    (net.config.address, net.config.collectors) = (Some(HERE), vec![SocketAddrV4::new(collector, 2055)]);
    net.publish();
    assert_eq!((copies(&mut net, &own), copies(&mut net, &others)), (0, 5));
    net.config.address = None;
    net.publish();
    assert_eq!((copies(&mut net, &own), copies(&mut net, &others)), (3, 5));
}

/// Through the kernel's loopback: what the socket sends is received as it was sent.
#[test]
fn a_raw_socket_sends_what_it_is_given_and_says_why_not() {
    let Ok(mut socket) = RawSocket::open() else {
        println!("skipped: no raw sockets");
        return;
    };
    let local = IpAddr::from([127, 0, 0, 1]);
    let encapsulation = Encapsulation { origin: local, destination: local, ..remote(Form::Two, false).encapsulation };
    let sighting = vswitch::observe::erspan::Sighting {
        tag: vswitch::observe::erspan::Tag::None(None),
        port: 1,
        direction: Direction::Ingress,
        truncated: false,
        time: Duration::ZERO,
    };
    let packet = |frame: &[u8]| {
        let mut headers = [0; vswitch::observe::erspan::HEADERS_MAX];
        let length = encapsulation.write(&sighting, 7, frame.len(), &mut headers);
        [&headers[..length], frame].concat()
    };
    let receiver = rustix_raw();
    let frame = udp4(mac(2), mac(1), 80, 30);
    // The loopback device takes 65,536 octets; no packet is longer, so only the address can be wrong.
    let (good, nowhere) = (packet(&frame), packet(&frame));
    let mut outcomes = Vec::new();
    let packets = [
        Packet { to: local, octets: &good },
        Packet { to: Ipv4Addr::BROADCAST.into(), octets: &nowhere },
        Packet { to: local, octets: &good },
    ];
    socket.send(&packets, &mut |at, loss| outcomes.push((at, loss)));
    assert_eq!(
        outcomes.iter().map(|(at, loss)| (*at, loss.is_none())).collect::<Vec<_>>(),
        [(0, true), (1, false), (2, true)]
    );
    let Some(receiver) = receiver else { return };
    let mut got = vec![0; 2048];
    for _ in 0..2 {
        loop {
            let length = receive(&receiver, &mut got);
            // Others may send GRE over the loopback as well.
            let Ok(read) = Received::read(&got[..length]) else { continue };
            if read.session == 77 && read.frame == frame {
                assert_eq!((read.sequence, read.source), (Some(7), local));
                break;
            }
        }
    }
}

/// A raw socket that receives GRE.
fn rustix_raw() -> Option<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, Protocol, SocketType, socket};
    let gre = Protocol::from_raw(std::num::NonZeroU32::new(47)?);
    socket(AddressFamily::INET, SocketType::RAW, Some(gre)).ok()
}

fn receive(socket: &std::os::fd::OwnedFd, into: &mut [u8]) -> usize {
    rustix::io::read(socket, into).unwrap()
}
