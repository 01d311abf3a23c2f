//! Guests that change their mind, their memory or their life while frames pass. (G4, G5, G8, G9)

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proto::acl::{Action, AddrMatch, IpRule, PortMatch, Rules};
use rustix::fs::ftruncate;
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::vhost::{Role, Vhost};
use vswitch::port::{Offloads, Port, PortId};
use vswitch::verdict::DropReason;

use crate::guest::message::*;
use crate::guest::{GUEST, Guest, Ram, USER, Wire, table, u64s, until};
use crate::net::{Net, SMALL, access, acl, config, frames, mac};
use crate::{Open, alone, frame, settings};

const VERSION_1: u64 = 1 << 32;
const MRG_RXBUF: u64 = 1 << 15;

/// A switch of memory ports whose port 1 is the guest's.
fn net_with(ports: u16) -> (Net, Guest, tempfile::TempDir) {
    let mut net = Net::with(config((1..=ports).map(|id| access(id, 10)).collect()), SMALL, Offloads::ALL, 4096);
    net.worker_detach(1);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let port = Vhost::open(&settings(path.clone(), Role::Server, 1)).unwrap();
    let state = port.state();
    assert!(net.worker.attach(PortId(1), Box::new(port)).is_ok());
    let guest = Guest::connect(&path, VERSION_1 | MRG_RXBUF, 1, 64);
    until("running rings", || (state.queue_pairs() == 1).then_some(()));
    (net, guest, directory)
}

#[test]
fn what_is_forwarded_is_what_was_judged() {
    let (mut net, mut guest, _directory) = net_with(2);
    let rule = |action, dst| IpRule {
        action,
        protocol: None,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let permitted = AddrMatch::host(Ipv4Addr::new(10, 0, 0, 2));
    let rules = vec![(10, rule(Action::Permit, permitted)), (20, rule(Action::Deny, AddrMatch::ANY))];
    net.config.acls = vec![acl(Rules::Ip(rules), 0)];
    net.port(1).ip_acl_in = Some(0);
    net.publish();

    let good = frames::udp4(mac(2), mac(1), 80, 200);
    assert_eq!(good[30..34], [10, 0, 0, 2]);
    // Another thread flips between two tags, two addresses and two lengths in all buffers, for as long as we look.
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, ram) = (Arc::clone(&stop), Arc::clone(&guest.ram));
    let places: Vec<usize> = (0..64).map(|at| guest.queues[1].buffer(at) + 12).collect();
    let lengths: Vec<usize> = (0..64).map(|at| guest.queues[1].base + 16 * at + 8).collect();
    let (short, long) = ((good.len() + 12) as u16, (good.len() + 112) as u16);
    let flipping = std::thread::spawn(move || {
        let mut round = 0u32;
        while !stopped.load(Ordering::Relaxed) {
            let odd = round % 2 == 1;
            for (place, length) in places.iter().zip(&lengths) {
                ram.octet(place + 33).store(if odd { 3 } else { 2 }, Ordering::Relaxed);
                ram.octet(place + 26).store(if odd { 77 } else { 10 }, Ordering::Relaxed);
                ram.word(place + 12).store(if odd { 0x0081 } else { 0x0008 }, Ordering::Relaxed);
                ram.word(*length).store(if odd { long } else { short }, Ordering::Relaxed);
            }
            round += 1;
        }
        round
    });
    let time = std::env::var("VHOST_FLIP_SECONDS").ok().and_then(|time| time.parse().ok()).unwrap_or(2);
    let begun = Instant::now();
    let (mut sent, mut delivered) = (0u64, 0u64);
    while begun.elapsed() < Duration::from_secs(time) {
        while guest.send(&good) {
            sent += 1;
        }
        net.turn();
        for (got, _) in net.recv(2) {
            assert_eq!((&got[12..14], &got[30..34]), (&[8, 0][..], &[10, 0, 0, 2][..]), "it was not permitted");
            delivered += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(flipping.join().unwrap() > 100);
    net.turn();
    let counters = net.counters(1);
    let denied: u64 = counters.rx_drops.iter().sum();
    assert!(sent > 1000 && delivered > 0 && denied > 0, "{sent} sent, {delivered} delivered, {denied} denied");
    assert_eq!(counters.rx.frames(), counters.delivered + denied);
}

#[test]
fn a_guest_whose_memory_goes_away_loses_its_queues_and_nobody_else_does() {
    let mut other = Open::server();
    let mut neighbour = Guest::connect(&other.path, VERSION_1, 1, 16);
    other.running(1);
    for half in [false, true] {
        let mut open = Open::server();
        let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
        open.running(1);
        assert!(guest.send(&frame(1, 60)));
        assert_eq!(open.frames(), [frame(1, 60)]);
        assert!(guest.send(&frame(2, 60)));
        // All of it, or only the buffers of the queue in which it sends.
        let len = if half { guest.queues[1].base + crate::guest::BUFFERS } else { 0 };
        ftruncate(&guest.ram.file, len as u64).unwrap();
        open.poll();
        assert!(open.poll().is_empty());
        open.send(&frame(1, 60), VnetHdr::PLAIN);
        let error = open.state.error().unwrap_or_default();
        assert!(error.ends_with("guest memory went away under its ring"), "{error}");
        assert_eq!(open.state.queue_pairs(), 0);
        assert!(neighbour.send(&frame(3, 60)));
        assert_eq!(other.frames(), [frame(3, 60)]);
        // With memory that is whole it may go on.
        let ram = Arc::new(Ram::new(guest.ram.len()));
        let regions = table(&[[GUEST, ram.len() as u64, USER, 0]]);
        guest.wire.accepted(SET_MEM_TABLE, &regions, &[ram.file.as_fd()]);
        guest.ram = ram;
        for index in [0, 1] {
            guest.stop(index);
            let queue = &mut guest.queues[index as usize];
            (queue.next, queue.seen, queue.flying) = (0, 0, 0);
            guest.start(index);
        }
        open.running(1);
        assert!(guest.send(&frame(4, 60)));
        assert_eq!(open.frames(), [frame(4, 60)]);
    }
}

#[test]
fn memory_that_goes_away_elsewhere_ends_the_process_as_ever() {
    const NAME: &str = "life::memory_that_goes_away_elsewhere_ends_the_process_as_ever";
    const CHILD: &str = "VHOST_TEST_SIGBUS";
    if std::env::var(CHILD).is_ok() {
        let open = Open::server();
        let _guest = Guest::connect(&open.path, VERSION_1, 1, 16);
        open.running(1);
        let ram = Ram::new(0x1000);
        ftruncate(&ram.file, 0).unwrap();
        ram.read(0, 1);
        unreachable!("there was nothing to read");
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let status = child.args(["--exact", NAME]).env(CHILD, "1").stdout(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGBUS));
}

const BURST: &str = "life::a_guest_that_is_killed_in_a_burst_is_replaced_within_a_second";
const BURST_SOCKET: &str = "VHOST_TEST_BURST_SOCKET";
const BURST_FEATURES: &str = "VHOST_TEST_BURST_FEATURES";

/// A guest in a process of its own that sends numbered frames for ever.
fn burst(path: &Path, features: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", BURST]).env(BURST_SOCKET, path).env(BURST_FEATURES, features.to_string());
    child.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_guest_that_is_killed_in_a_burst_is_replaced_within_a_second() {
    if let (Some(path), Ok(features)) = (std::env::var_os(BURST_SOCKET), std::env::var(BURST_FEATURES)) {
        let mut guest = Guest::connect(Path::new(&path), features.parse().unwrap(), 1, 256);
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < Duration::from_secs(20) {
            match guest.send(&frame(number, 60)) {
                true => number += 1,
                false => std::thread::yield_now(),
            }
        }
        return;
    }
    let mut open = Open::server();
    let mut child = burst(&open.path, VERSION_1);
    for features in [VERSION_1 | MRG_RXBUF | 1 << 29, 0, VERSION_1] {
        let mut expected = 0;
        while expected < 5000 {
            for got in open.frames() {
                assert_eq!(got, frame(expected, 60));
                expected += 1;
            }
        }
        let next = burst(&open.path, features);
        // It waits in the socket's queue, so what we time is our own part.
        std::thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        child.wait().unwrap();
        let begun = Instant::now();
        child = next;
        // The rest of the first burst, then the other from its first frame on.
        loop {
            let got: Vec<_> = open.poll().into_iter().map(|(frame, _)| frame).collect();
            let first = got.iter().position(|got| *got == frame(0, 60));
            if let Some(at) = first {
                for (at, got) in (0..).zip(&got[at..]) {
                    assert_eq!(*got, frame(at, 60));
                }
                break;
            }
            for got in got {
                assert_eq!(got, frame(expected, 60));
                expected += 1;
            }
            assert!(begun.elapsed() < Duration::from_secs(1), "the next guest was not there in time");
        }
        assert_eq!(open.state.features() & !(1 << 30), features);
        // The next round begins with a guest whose first frames are gone.
        child.kill().unwrap();
        child.wait().unwrap();
        open.disconnected();
        while !open.poll().is_empty() {}
        child = burst(&open.path, features);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(open.state.counters().bad_descriptors, 0);
}

#[test]
fn a_switch_that_starts_again_loses_and_repeats_nothing() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 64);
    open.running(1);
    for number in 0..50 {
        assert!(guest.send(&frame(number, 60)));
    }
    open.buffers.truncate(20);
    let mut got = open.frames();
    assert_eq!(got.len(), 20);
    let path = open.path.clone();
    let Open { port, _directory, .. } = open;
    drop(port);
    assert!(guest.wire.is_closed());
    let port = Vhost::open(&settings(path.clone(), Role::Server, 1)).unwrap();
    let buffers = (0..64).map(vswitch::frame::Buffer::new).collect();
    let mut open = Open { state: port.state(), port, path, _directory, buffers };
    // The front end connects again with the memory as it is; from where, the used ring tells.
    let next = guest.queues[1].next;
    guest.queues[1].next = guest.queues[1].used_index(&guest.ram);
    let mut wire = Wire::connect(&open.path);
    wire.hello(VERSION_1);
    let regions = table(&[[GUEST, guest.ram.len() as u64, USER, 0]]);
    wire.accepted(SET_MEM_TABLE, &regions, &[guest.ram.file.as_fd()]);
    guest.wire = wire;
    guest.start(1);
    guest.queues[1].next = next;
    got.extend(open.frames());
    assert_eq!(got, (0..50).map(|number| frame(number, 60)).collect::<Vec<_>>());
}

#[test]
fn a_guest_that_takes_nothing_loses_its_frames_and_the_others_get_theirs() {
    let (mut net, mut guest, _directory) = net_with(4);
    // Learn who is where.
    assert!(guest.send(&frames::udp4(mac(9), mac(1), 1, 10)));
    net.turn();
    for id in [2, 3, 4] {
        net.through(id, &frames::udp4(mac(9), mac(id), 1, 10));
    }
    while guest.receive().is_some() {}
    let (to_guest, to_other) = (frames::udp4(mac(1), mac(2), 1, 1000), frames::udp4(mac(4), mac(3), 1, 1000));
    let mut delivered = 0;
    for _ in 0..50 {
        for _ in 0..64 {
            net.send(2, &to_guest);
            net.send(3, &to_other);
        }
        net.turn();
        delivered += net.recv(4).len();
    }
    assert_eq!(delivered, 50 * 64);
    assert_eq!(net.tx_drops(1, DropReason::TxFull), 50 * 64 - 64);
    assert_eq!(std::iter::from_fn(|| guest.receive()).count(), 64);
    net.send(2, &to_guest);
    net.turn();
    assert!(guest.receive().is_some());
}

#[test]
fn a_flood_of_kicks_wakes_a_worker_no_more_often_than_it_sleeps() {
    let mut open = Open::server();
    let guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let mut kicks = 0u64;
        while !stopped.load(Ordering::Relaxed) {
            guest.queues[1].kick();
            kicks += 1;
        }
        kicks
    });
    let mut sleeps = 0;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        open.port.arm();
        sleeps += 1;
        for _ in 0..1000 {
            assert!(open.poll().is_empty());
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert!(flood.join().unwrap() > 1000);
    let kicks = open.state.counters().kicks;
    assert!(kicks > 0 && kicks <= 2 * sleeps, "{kicks} kicks were seen in {sleeps} sleeps");
}

#[test]
fn rings_change_hands_while_frames_pass() {
    if !alone("life::rings_change_hands_while_frames_pass") {
        return;
    }
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 64);
    open.running(1);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    // The worker never rests; the front end stops, starts and moves the rings meanwhile.
    let worker = std::thread::spawn(move || {
        let (mut got, mut given) = (0u64, 0u64);
        while !stopped.load(Ordering::Relaxed) {
            got += open.poll().len() as u64;
            given += open.send(&frame(1, 60), VnetHdr::PLAIN).accepted as u64;
        }
        (got + open.poll().len() as u64, given, open)
    });
    let (mut sent, mut received, mut round) = (0u64, 0u64, 0u32);
    let begun = Instant::now();
    while round < 300 || sent < 1000 || received < 1000 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{sent} and {received}");
        round += 1;
        while guest.send(&frame(round, 60)) {
            sent += 1;
        }
        for index in [0, 1] {
            let at = guest.stop(index);
            let next = std::mem::replace(&mut guest.queues[index as usize].next, at);
            guest.start(index);
            guest.queues[index as usize].next = next;
        }
        while guest.receive().is_some() {
            received += 1;
        }
        let regions = table(&[[GUEST, guest.ram.len() as u64, USER, 0]]);
        guest.wire.accepted(SET_MEM_TABLE, &regions, &[guest.ram.file.as_fd()]);
        guest.wire.accepted(SET_VRING_CALL, &u64s(&[0x100]), &[]);
    }
    until("the rest", || {
        let queue = &guest.queues[1];
        (queue.used_index(&guest.ram) == queue.next).then_some(())
    });
    for index in [0, 1] {
        guest.stop(index);
    }
    stop.store(true, Ordering::Relaxed);
    let (got, given, open) = worker.join().unwrap();
    while guest.receive().is_some() {
        received += 1;
    }
    assert_eq!((got, given), (sent, received));
    let counters = open.state.counters();
    assert_eq!((counters.bad_descriptors, counters.ring_errors), (0, 0), "{:?}", open.state.error());
    drop(open.port);
}

#[test]
fn a_memory_port_and_a_guest_exchange_super_frames_through_a_switch() {
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10)]), SMALL, Offloads::ALL, 64);
    net.worker_detach(1);
    let mut open = Open::server();
    // Nobody there yet: the switch finishes what it sends, and learns better when the guest has come.
    let port = std::mem::replace(
        &mut open.port,
        Vhost::open(&settings(open.path.with_extension("2"), Role::Server, 1)).unwrap(),
    );
    assert!(net.worker.attach(PortId(1), Box::new(port)).is_ok());
    let offloads = 1 << 1 | 1 << 7 | 1 << 8 | 1 << 54 | 1 << 55;
    let mut guest = Guest::connect(&open.path, VERSION_1 | MRG_RXBUF | offloads, 1, 64);
    until("running rings", || (open.state.queue_pairs() == 1).then_some(()));
    let packet = frames::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 6, 0, 0, &frames::tcp(1, 2, 0x10, &vec![5; 4000]));
    let long = frames::ethernet(mac(1), mac(2), &[], 0x0800, &packet);
    let vnet = VnetHdr { flags: 1, gso_type: 1, hdr_len: 54, gso_size: 1000, csum_start: 34, csum_offset: 16 };
    net.send_vnet(2, &long, vnet);
    net.turn();
    assert_eq!(std::iter::from_fn(|| guest.receive()).count(), 4, "in segments, for what was known of an absent guest");
    net.send_vnet(2, &long, vnet);
    net.turn();
    let (header, got) = guest.receive().unwrap();
    assert_eq!(header[..10], vnet.write()[..10]);
    assert!(got == long);
    let packet = [&vnet.write()[..], &frames::ethernet(mac(2), mac(1), &[], 0x0800, &long[14..])].concat();
    guest.queues[1].size = 1;
    guest.ram.write(guest.queues[1].buffer(0), &packet);
    let address = GUEST + guest.queues[1].buffer(0) as u64;
    guest.queues[1].describe(&guest.ram, 0, address, packet.len() as u32, 0, 0);
    guest.queues[1].offer(&guest.ram, 0);
    net.turn();
    assert_eq!(net.recv(2).first().map(|(_, got)| *got), Some(vnet));
}

#[test]
fn a_call_that_blocks_holds_a_worker_up_once_and_for_a_moment() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    open.poll();
    let call = &guest.queues[1].call;
    crate::guest::rings(call);
    rustix::io::write(call, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    rustix::fs::fcntl_setfl(call, rustix::fs::OFlags::empty()).unwrap();
    assert!(guest.send(&frame(1, 60)));
    let begun = Instant::now();
    assert_eq!(open.frames(), [frame(1, 60)]);
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(50) && took < Duration::from_secs(2), "{took:?}");
    open.disconnected();
    assert_eq!(open.state.error().as_deref(), Some("a call descriptor that blocks"));
    // A worker that the negotiation itself has to wait for is freed as well.
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    open.poll();
    let call = &guest.queues[1].call;
    crate::guest::rings(call);
    rustix::io::write(call, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    rustix::fs::fcntl_setfl(call, rustix::fs::OFlags::empty()).unwrap();
    assert!(guest.send(&frame(1, 60)));
    let worker = std::thread::spawn(move || open.frames());
    std::thread::sleep(Duration::from_millis(20));
    let begun = Instant::now();
    guest.stop(1);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(worker.join().unwrap(), [frame(1, 60)]);
}
