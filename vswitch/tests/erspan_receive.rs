//! Sessions that take copies of other hosts: what comes out of their destinations, what is refused, and that nothing goes round.

mod net;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use net::frames::{ethernet, tso4, udp4};
use net::{Net, SMALL, access, config, mac, trunk, uplink, vlan};
use vswitch::config::{Known, ReceiveConfig, RemoteConfig, SessionConfig};
use vswitch::observe::erspan::{Direction, Encapsulation, Form, HEADERS_MAX, Sighting, Stamp, Tag};
use vswitch::observe::mirror::CopyLoss;
use vswitch::observe::mirror::inlet::{Inlet, Outer, PACKETS, RawInlet};
use vswitch::observe::mirror::remote::{Packet, RawSocket, Remote};
use vswitch::port::{Offloads, PortId};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SENDER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

/// Packets that are on their way from one host to the other.
#[derive(Clone, Default)]
struct Road(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Inlet for Road {
    fn receive(&mut self, see: &mut dyn FnMut(Outer<'_>)) -> usize {
        let mut waiting = self.0.lock().unwrap();
        let batch: Vec<Vec<u8>> = (0..PACKETS).map_while(|_| waiting.pop_front()).collect();
        drop(waiting);
        batch.iter().for_each(|packet| see(Outer::V4(packet)));
        batch.len()
    }

    fn lost(&self) -> u64 {
        0
    }

    fn readable(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [None; 2]
    }
}

impl Remote for Road {
    fn send(&mut self, packets: &[Packet<'_>], outcome: &mut dyn FnMut(usize, Option<CopyLoss>)) {
        for (at, packet) in packets.iter().enumerate() {
            self.0.lock().unwrap().push_back(packet.octets.to_vec());
            outcome(at, None);
        }
    }
}

fn outer(form: Form, source: IpAddr, session: u16, tag: Tag, sequence: u32, frame: &[u8]) -> Vec<u8> {
    let encapsulation =
        Encapsulation { origin: source, destination: HERE, session, form, ttl: 64, dscp: 0, fragment: false };
    let copy = Sighting { tag, port: 7, direction: Direction::Ingress, truncated: sequence == 3, time: Duration::ZERO };
    let mut headers = [0; HEADERS_MAX];
    let length = encapsulation.write(&copy, sequence, frame.len(), &mut headers);
    [&headers[..length], frame].concat()
}

fn by_id(id: u16, from: Option<Vec<IpAddr>>) -> Option<ReceiveConfig> {
    Some(ReceiveConfig { by: Known::Id(id), at: Some(HERE), from })
}

/// A host whose session 5 gives what it receives to access port 8 and trunk 9; port 1 is watched by session 6.
fn receiver(receive: Option<ReceiveConfig>) -> (Net, Road) {
    let road = Road::default();
    let mut net =
        Net::with(config(vec![access(1, 10), access(8, 1), trunk(9, 1, "1-100")]), SMALL, Offloads::ALL, 4096);
    let destinations = vec![PortId(8), PortId(9)];
    let all = vec![PortId(1), PortId(8), PortId(9)];
    net.config.sessions = vec![
        SessionConfig { id: 5, destinations, receive, ..SessionConfig::default() },
        SessionConfig { id: 6, rx_ports: all.clone(), tx_ports: all, ..SessionConfig::default() },
    ];
    net.mirror.set_inlet(Some(Box::new(road.clone())));
    net.publish();
    (net, road)
}

fn frames(net: &mut Net, id: u16) -> Vec<Vec<u8>> {
    net.recv(id).into_iter().map(|(frame, _)| frame).collect()
}

#[test]
fn every_form_comes_out_with_the_tag_that_its_header_names() {
    let plain = ethernet(mac(2), mac(1), &[], 0x9999, &[1; 50]);
    let tagged = ethernet(mac(2), mac(1), &[(0x8100, 0xa00a)], 0x9999, &[1; 50]);
    let in_vlan = ethernet(mac(2), mac(1), &[(0x8100, 10)], 0x9999, &[1; 50]);
    let stamped = Form::Three(Stamp::Ieee1588);
    // Form, tag, the frame behind the header; what a port in access mode and what a trunk gets.
    let cases = [
        (Form::Two, Tag::None(vlan(10).into()), &plain, &plain, &in_vlan),
        (Form::Two, Tag::Removed(0xa00a), &plain, &plain, &tagged),
        (Form::Two, Tag::Kept, &tagged, &tagged, &tagged),
        (Form::Two, Tag::None(None), &plain, &plain, &plain),
        (stamped, Tag::None(vlan(10).into()), &plain, &plain, &in_vlan),
        (stamped, Tag::Removed(0xa00a), &plain, &plain, &tagged),
        (stamped, Tag::None(vlan(10).into()), &tagged, &tagged, &tagged),
    ];
    let (mut net, road) = receiver(by_id(77, None));
    for (n, (form, tag, frame, at_access, at_trunk)) in cases.into_iter().enumerate() {
        road.0.lock().unwrap().push_back(outer(form, SENDER, 77, tag, n as u32, frame));
        net.turn();
        assert_eq!(
            (frames(&mut net, 8), frames(&mut net, 9)),
            (vec![at_access.clone()], vec![at_trunk.clone()]),
            "{n}"
        );
    }
    let stats = net.control.session_stats(5);
    assert_eq!((stats.received, stats.copied, stats.received_cut, stats.missing), (7, 14, 1, 0));
    // Ports with copies are watched by another session, which gets none of them.
    assert_eq!((net.control.session_stats(6).matched, frames(&mut net, 1).len()), (0, 0));
}

#[test]
fn type_one_is_taken_of_hosts_that_are_named() {
    let frame = ethernet(mac(2), mac(1), &[], 0x9999, &[1; 50]);
    let one = |source| {
        let two = outer(Form::Two, source, 0, Tag::Kept, 0, &frame);
        let mut packet = [&two[..20], &[0, 0, 0x88, 0xbe], &frame].concat();
        packet[3] = packet.len() as u8;
        packet
    };
    for (from, taken) in [(None, 0), (Some(vec![SENDER]), 1)] {
        let (mut net, road) = receiver(by_id(77, from));
        road.0.lock().unwrap().extend([one(SENDER), one(STRANGER)]);
        net.turn();
        assert_eq!(frames(&mut net, 8), vec![frame.clone(); taken]);
        assert_eq!(net.control.session_stats(5).received, taken as u64);
    }
}

#[test]
fn what_is_refused_is_counted_by_its_reason_and_goes_nowhere() {
    let frame = ethernet(mac(2), mac(1), &[], 0x9999, &[1; 50]);
    let (mut net, road) = receiver(by_id(77, Some(vec![SENDER])));
    let good = |session, source, n| outer(Form::Two, source, session, Tag::Kept, n, &frame);
    let mut flags = good(77, SENDER, 0);
    flags[20] = 0x90;
    let relayed = outer(Form::Relay(77), SENDER, 77, Tag::Kept, 0, &frame);
    let mut elsewhere = good(77, SENDER, 0);
    elsewhere[19] = 200;
    let packets = [flags, vec![0x45; 9], good(78, SENDER, 0), good(77, STRANGER, 0), relayed, elsewhere];
    road.0.lock().unwrap().extend(packets);
    road.0.lock().unwrap().extend([good(77, SENDER, 1), good(77, SENDER, 4), good(77, SENDER, 2)]);
    net.turn();
    assert_eq!(frames(&mut net, 8).len(), 3);
    let turned: Vec<_> = net.control.turned_away().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(turned, [("ipv4-header", 1), ("gre-flags", 1), ("no-session", 3)]);
    let stats = net.control.session_stats(5);
    assert_eq!((stats.received, stats.unwelcome, stats.missing, stats.late), (3, 1, 2, 1));
    // A destination that is gone loses them.
    net.port(9).up = false;
    net.publish();
    road.0.lock().unwrap().push_back(good(77, SENDER, 5));
    net.turn();
    assert_eq!(net.control.session_stats(5).losses[CopyLoss::DestinationDown as usize], 1);
}

/// Whatever comes, as much as it likes: memory and turns are bounded.
#[test]
fn a_flood_of_rubbish_takes_a_batch_of_each_turn() {
    let (mut net, road) = receiver(by_id(77, None));
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for n in 0..5_000u32 {
        let mut packet = outer(Form::Two, SENDER, 77, Tag::Removed(9), n, &ethernet(mac(2), mac(1), &[], 1, &[3; 60]));
        for _ in 0..1 + n % 3 {
            let at = usize::from(random()) % packet.len();
            packet[at] = random();
        }
        road.0.lock().unwrap().push_back(packet);
    }
    assert_eq!(net.mirror.turn(), PACKETS);
    net.turn();
    let stats = net.control.session_stats(5);
    let turned: u64 = net.control.turned_away().iter().map(|(_, count)| count).sum();
    assert_eq!(stats.received + stats.unwelcome + turned, 5_000);
    assert!(turned > 100 && stats.received > 100, "{turned} refused, {} received", stats.received);
    assert_eq!(stats.copied + stats.dropped, 2 * stats.received);
}

fn relay(key: u32) -> RemoteConfig {
    let form = Form::Relay(key);
    let encapsulation =
        Encapsulation { origin: SENDER, destination: HERE, session: 5, form, ttl: 64, dscp: 0, fragment: true };
    RemoteConfig { encapsulation, keep_tag: false }
}

/// A host that watches access port 1 in VLAN 10 and trunk 2, for destinations on the other host.
fn sender(remotes: Vec<RemoteConfig>, destinations: Vec<PortId>) -> Net {
    let ports = vec![access(1, 10), trunk(2, 1, "1-100"), uplink(3, "1-100"), access(8, 1), trunk(9, 1, "1-100")];
    let mut net = Net::with(config(ports), SMALL, Offloads::ALL, 4096);
    let watched = vec![PortId(1), PortId(2)];
    let (rx_ports, tx_ports) = (watched.clone(), watched);
    net.config.sessions =
        vec![SessionConfig { id: 5, rx_ports, tx_ports, destinations, remotes, ..SessionConfig::default() }];
    net.publish();
    net
}

/// What a destination on another module gets is what one on this module would get, tags and segments included, in order.
#[test]
fn a_destination_on_another_module_gets_what_one_on_this_module_would() {
    let road = Road::default();
    let mut far = sender(vec![relay(0x0064_0005)], Vec::new());
    far.mirror.set_remote(Box::new(road.clone()));
    let mut near = sender(Vec::new(), vec![PortId(8), PortId(9)]);
    let modules = Some(vec![SENDER]);
    let (mut there, _) = receiver(Some(ReceiveConfig { by: Known::Key(0x0064_0005), at: None, from: modules }));
    there.mirror.set_inlet(Some(Box::new(road)));
    let (super_frame, vnet) = tso4(mac(2), mac(1), 3000, 1448);
    let mut expected = [Vec::new(), Vec::new()];
    let mut got = [Vec::new(), Vec::new()];
    for round in 0..50u16 {
        for net in [&mut far, &mut near] {
            net.send(1, &udp4(mac(2), mac(1), round, 100));
            net.send(2, &ethernet(mac(1), mac(2), &[(0x8100, 0xa00a)], 0x9999, &round.to_be_bytes().repeat(30)));
            net.send(2, &ethernet(mac(4), mac(3), &[], 0x9999, &round.to_be_bytes().repeat(30)));
            net.send(2, &ethernet(mac(5), mac(2), &[(0x8100, 20), (0x8100, 30)], 0x9999, &[7; 60]));
            net.send_vnet(1, &super_frame, vnet);
            // One that is dropped, as its VLAN is not allowed: it has none.
            net.send(1, &ethernet(mac(2), mac(1), &[(0x8100, 99)], 0x9999, &[9; 60]));
            net.turn();
        }
        there.turn();
        for (i, port) in [8, 9].into_iter().enumerate() {
            expected[i].extend(frames(&mut near, port));
            got[i].extend(frames(&mut there, port));
        }
    }
    assert!(expected[0].len() >= 400, "{}", expected[0].len());
    assert_eq!(got, expected);
    let (sent, received) = (far.control.session_stats(5), there.control.session_stats(5));
    assert_eq!((sent.copied, received.missing, received.copied), (received.received, 0, 2 * received.received));
}

/// Through the kernel of a namespace whose device takes 1,500 octets: what is longer is cut and put together again, and what
/// may not be cut is lost.
#[test]
fn long_copies_are_cut_and_put_together() {
    std::thread::spawn(|| {
        // SAFETY: this thread alone moves, and ends with the test.
        let alone = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        let up = || std::process::Command::new("ip").args(["link", "set", "lo", "mtu", "1500", "up"]).status();
        if !alone || !up().is_ok_and(|status| status.success()) {
            println!("skipped: no network namespaces");
            return;
        }
        cut_and_put_together();
        by_ipv6();
    })
    .join()
    .unwrap();
}

fn cut_and_put_together() {
    let (mut inlet, mut socket) = (RawInlet::open().unwrap(), RawSocket::open().unwrap());
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let copy =
        Sighting { tag: Tag::Kept, port: 1, direction: Direction::Ingress, truncated: false, time: Duration::ZERO };
    let packet = |fragment, length: usize| {
        let form = if length.is_multiple_of(3) { Form::Two } else { Form::Relay(9) };
        let encapsulation =
            Encapsulation { origin: local, destination: local, session: 5, form, ttl: 64, dscp: 0, fragment };
        let mut headers = [0; HEADERS_MAX];
        let frame = udp4(mac(2), mac(1), 80, length);
        let written = encapsulation.write(&copy, length as u32, frame.len(), &mut headers);
        [&headers[..written], &frame].concat()
    };
    let lengths = [100, 1458, 9000, 200, 1400, 30_000, 300];
    let packets: Vec<Vec<u8>> = lengths.iter().map(|length| packet(true, *length)).collect();
    let whole = packet(false, 1458);
    let list = packets.iter().chain([&whole]).map(|octets| Packet { to: local, octets }).collect::<Vec<_>>();
    let mut outcomes = Vec::new();
    socket.send(&list, &mut |at, loss| outcomes.push((at, loss)));
    let expected = (0..7).map(|at| (at, None)).chain([(7, Some(CopyLoss::TooLong))]);
    assert_eq!(outcomes, expected.collect::<Vec<_>>());
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while seen.len() < lengths.len() && Instant::now() < deadline {
        inlet.receive(&mut |packet| {
            let read = packet.read().unwrap();
            let number = read.sequence.unwrap() as usize;
            let relayed = (!number.is_multiple_of(3)).then_some(9);
            assert_eq!((read.key, read.source), (relayed, local));
            assert_eq!(read.frame, udp4(mac(2), mac(1), 80, number));
            seen.push(number);
        });
    }
    assert_eq!((seen, inlet.lost()), (lengths.to_vec(), 0));
    // What finds no room in the socket is counted by the kernel, and told once the socket is empty.
    let small = packet(true, 1400);
    let list: Vec<Packet<'_>> = (0..64).map(|_| Packet { to: local, octets: &small }).collect();
    let mut sent = 0u64;
    while sent < 64 * 1000 {
        socket.send(&list, &mut |_, loss| assert_eq!(loss, None));
        sent += 64;
    }
    let mut got = 0u64;
    while let n @ 1.. = inlet.receive(&mut |_| ()) {
        got += n as u64;
    }
    assert!(inlet.lost() > 0 && got > 0, "{got} received, {} lost", inlet.lost());
    assert_eq!(got + inlet.lost(), sent);
}

/// By IPv6 nothing is cut, and the kernel says whom it was for.
fn by_ipv6() {
    let (mut inlet, mut socket) = (RawInlet::open().unwrap(), RawSocket::open().unwrap());
    let [one, two] = ["::1", "127.0.0.1"].map(|address| address.parse::<IpAddr>().unwrap());
    let copy =
        Sighting { tag: Tag::Kept, port: 1, direction: Direction::Egress, truncated: false, time: Duration::ZERO };
    let packet = |at: IpAddr, number: u32, length: usize| {
        let form = Form::Three(Stamp::Nanos100);
        let encapsulation =
            Encapsulation { origin: at, destination: at, session: 5, form, ttl: 64, dscp: 8, fragment: false };
        let mut headers = [0; HEADERS_MAX];
        let frame = udp4(mac(2), mac(1), 80, length);
        let written = encapsulation.write(&copy, number, frame.len(), &mut headers);
        [&headers[..written], &frame].concat()
    };
    let packets = [(one, 100), (two, 200), (one, 1300), (one, 1458), (two, 300), (one, 400)];
    let octets: Vec<Vec<u8>> = (0..).zip(packets).map(|(n, (at, length))| packet(at, n, length)).collect();
    let list: Vec<Packet<'_>> = octets.iter().zip(packets).map(|(octets, (to, _))| Packet { to, octets }).collect();
    let mut outcomes = Vec::new();
    socket.send(&list, &mut |at, loss| outcomes.push((at, loss)));
    let expected = (0..6).map(|at| (at, (at == 3).then_some(CopyLoss::TooLong)));
    assert_eq!(outcomes, expected.collect::<Vec<_>>());
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while seen.len() < 5 && Instant::now() < deadline {
        inlet.receive(&mut |packet| {
            let read = packet.read().unwrap();
            let number = read.sequence.unwrap();
            let (at, length) = packets[number as usize];
            assert_eq!((read.source, read.destination, read.session), (at, at, 5));
            assert_eq!(read.frame, udp4(mac(2), mac(1), 80, length));
            seen.push(number);
        });
    }
    seen.sort_unstable();
    assert_eq!((seen, inlet.lost()), (vec![0, 1, 2, 4, 5], 0));
    assert!(inlet.readable().iter().all(Option::is_some));
}
