//! Good guests: frames pass whole and in order, however they were negotiated.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vswitch::frame::vnet::{DATA_VALID, GSO_ECN, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use vswitch::frame::{BATCH, Buffer, FRAME_MAX, TxFrame};
use vswitch::port::vhost::{Role, Vhost};
use vswitch::port::{Error, Offloads, Port, Sent};

use crate::guest::{
    BUFFER, GUEST, Guest, INDIRECT, NEXT, TABLES, WRITE, Wire, descriptor, message, rings, state, until,
};
use crate::{Open, frame, settings};

const VERSION_1: u64 = 1 << 32;
const EVENT_IDX: u64 = 1 << 29;
const INDIRECT_DESC: u64 = 1 << 28;
const MRG_RXBUF: u64 = 1 << 15;
const OFFLOADS: u64 = 1 << 1 | 1 << 7 | 1 << 8 | 1 << 54 | 1 << 55;

#[test]
fn frames_pass_whole_and_in_order_with_any_features() {
    let plain = [0, VERSION_1, MRG_RXBUF, VERSION_1 | MRG_RXBUF];
    for features in plain.into_iter().flat_map(|features| [features, features | EVENT_IDX]) {
        let mut open = Open::server();
        let mut guest = Guest::connect(&open.path, features, 1, 64);
        open.running(1);
        let (mut sent, mut taken, mut given, mut received) = (0u32, 0u32, 0u32, 0u32);
        let len = |number: u32| 14 + (number as usize * 7) % 1500;
        while taken < 1000 || received < 1000 {
            while sent < 1000 && guest.send(&frame(sent, len(sent))) {
                sent += 1;
            }
            for (got, vnet) in open.poll() {
                assert_eq!((got, vnet), (frame(taken, len(taken)), VnetHdr::PLAIN), "{features:#x}");
                taken += 1;
            }
            while given < 1000 && open.send(&frame(given, len(given)), VnetHdr::PLAIN).accepted == 1 {
                given += 1;
            }
            while let Some((header, got)) = guest.receive() {
                assert_eq!(got, frame(received, len(received)), "{features:#x}");
                let buffers = if header.len() == 12 { &[1u8, 0][..] } else { &[] };
                assert_eq!(header, [&[0; 10], buffers].concat());
                received += 1;
            }
        }
        assert_eq!(open.state.features() & !(1 << 30), features);
        assert_eq!(open.state.counters().bad_descriptors, 0);
        assert_eq!(open.port.missed(), 0);
    }
}

#[test]
fn a_frame_may_be_in_any_number_of_descriptors_and_in_an_indirect_table() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1 | INDIRECT_DESC, 1, 64);
    open.running(1);
    let octets: Vec<u8> = [vec![0; 12], frame(7, 200)].concat();
    // The header alone, in pieces, together with some or all of the frame.
    for cuts in [vec![12], vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], vec![5, 14], vec![11, 13, 211], vec![], vec![100]] {
        for indirect in [false, true] {
            let queue = &mut guest.queues[1];
            let place = queue.buffer(0);
            guest.ram.write(place, &octets);
            let ends: Vec<usize> = cuts.iter().copied().chain([octets.len()]).collect();
            let starts = std::iter::once(0).chain(cuts.iter().copied());
            let mut at = 0u16;
            for (start, end) in starts.zip(&ends) {
                let flags = if *end == octets.len() { 0 } else { NEXT };
                let address = GUEST + (place + start) as u64;
                let entry = descriptor(address, (end - start) as u32, flags, at + 1);
                let table = if indirect { queue.base + TABLES } else { queue.base };
                guest.ram.write(table + 16 * usize::from(at), &entry);
                at += 1;
            }
            if indirect {
                let table = GUEST + (queue.base + TABLES) as u64;
                queue.describe(&guest.ram, 63, table, 16 * u32::from(at), INDIRECT, 0);
            }
            queue.offer(&guest.ram, if indirect { 63 } else { 0 });
            assert_eq!(open.frames(), [frame(7, 200)], "{cuts:?} {indirect}");
        }
    }
    assert_eq!(open.state.counters().bad_descriptors, 0);
}

#[test]
fn a_long_frame_takes_as_many_mergeable_buffers_as_it_needs() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1 | MRG_RXBUF | OFFLOADS, 1, 64);
    open.running(1);
    let vnet = VnetHdr {
        gso_type: GSO_TCPV4,
        gso_size: 1448,
        flags: NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        hdr_len: 54,
    };
    for len in [BUFFER - 12, BUFFER - 11, 2 * BUFFER - 12, 40_000, 65_000] {
        let long = frame(1, len);
        let (head, rest) = long.split_at(12);
        let sent = open.port.tx(&[TxFrame { head, rest, vnet, copy: false }]);
        assert_eq!(sent, Sent { accepted: 1, ..Sent::default() });
        let (header, got) = guest.receive().unwrap();
        assert_eq!(got, long);
        let buffers = (len + 12).div_ceil(BUFFER) as u16;
        assert_eq!(header[..10], vnet.write()[..10]);
        assert_eq!(header[10..], buffers.to_le_bytes());
    }
    // A guest that has not given enough gets nothing of it, and then the next one that fits.
    let before = guest.queues[0].used_index(&guest.ram);
    let frames = [frame(2, 65_000), frame(3, FRAME_MAX), frame(4, 100)];
    let frames: Vec<TxFrame<'_>> = frames.iter().map(|rest| TxFrame { head: &[], rest, vnet, copy: false }).collect();
    assert_eq!(open.port.tx(&frames), Sent { accepted: 1, ..Sent::default() });
    assert_eq!(open.port.tx(&frames[2..]).accepted, 1);
    assert_eq!(guest.queues[0].used_index(&guest.ram), before.wrapping_add(33));
}

#[test]
fn without_mergeable_buffers_a_frame_fits_its_chain_or_is_refused() {
    let mut open = Open::server();
    let mut guest = Guest::stopped(Wire::connect(&open.path), VERSION_1 | OFFLOADS, 1, 64);
    guest.start(0);
    let queue = &mut guest.queues[0];
    // One chain of three buffers, in which the longest frame has 6132 octets.
    for at in 0..3 {
        let flags = if at < 2 { WRITE | NEXT } else { WRITE };
        queue.describe(&guest.ram, at, GUEST + queue.buffer(at) as u64, BUFFER as u32, flags, at + 1);
    }
    queue.offer(&guest.ram, 0);
    until("the ring", || open.send(&frame(1, 6133), VnetHdr::PLAIN).refused.checked_sub(1));
    assert_eq!(open.send(&frame(1, 6132), VnetHdr::PLAIN).accepted, 1);
    assert_eq!(open.send(&frame(1, 60), VnetHdr::PLAIN), Sent::default());
    let queue = &mut guest.queues[0];
    assert_eq!(queue.returned(&guest.ram), Some((0, 6144)));
    assert_eq!(guest.ram.read(queue.buffer(0) + 12, 6132), frame(1, 6132));
}

#[test]
fn offloads_are_what_the_guest_has_taken() {
    let mut open = Open::server();
    assert_eq!(open.port.offloads(), Offloads::NONE);
    let tso = VnetHdr { gso_type: GSO_TCPV4 | GSO_ECN, flags: NEEDS_CSUM, gso_size: 100, ..VnetHdr::PLAIN };
    let uso = VnetHdr { gso_type: GSO_UDP_L4, ..tso };
    for (features, offloads) in [
        (VERSION_1, Offloads::NONE),
        (VERSION_1 | 1 << 1, Offloads { csum: true, ..Offloads::NONE }),
        (VERSION_1 | 1 << 1 | 1 << 7 | 1 << 54, Offloads { csum: true, tso4: true, ..Offloads::NONE }),
        (VERSION_1 | 1 << 7, Offloads::NONE),
        (VERSION_1 | OFFLOADS, Offloads::ALL),
    ] {
        let mut guest = Guest::connect(&open.path, features, 1, 64);
        open.running(1);
        assert_eq!(open.port.offloads(), offloads);
        assert_eq!(open.send(&frame(1, 100), tso).refused, usize::from(!offloads.tso4));
        assert_eq!(open.send(&frame(1, 100), uso).refused, usize::from(!offloads.uso));
        // A hint that the guest did not ask for is not given, and neither is ECN.
        let valid = VnetHdr { flags: DATA_VALID, ..VnetHdr::PLAIN };
        assert_eq!(open.send(&frame(2, 100), valid).accepted, 1);
        let headers: Vec<[u8; 2]> =
            std::iter::from_fn(|| guest.receive()).map(|(header, _)| [header[0], header[1]]).collect();
        assert_eq!(headers.last(), Some(&[if offloads.csum { DATA_VALID } else { 0 }, 0]));
        assert!(headers.iter().all(|[_, gso_type]| gso_type & GSO_ECN == 0));
        drop(guest);
        open.disconnected();
        assert_eq!(open.port.offloads(), Offloads::NONE);
    }
}

#[test]
fn a_guest_may_stop_and_start_a_ring_and_nothing_is_lost_or_repeated() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1 | EVENT_IDX, 1, 16);
    open.running(1);
    let mut expected = 0;
    for round in 0..50 {
        for number in 0..3 {
            assert!(guest.send(&frame(3 * round + number, 60)));
        }
        if round % 3 == 0 {
            let at = guest.stop(1);
            assert_eq!(at, expected as u16);
            assert!(open.poll().is_empty());
            assert_eq!(open.state.queue_pairs(), 0);
            let written = guest.queues[1].next;
            guest.queues[1].next = at;
            guest.start(1);
            guest.queues[1].next = written;
        }
        for got in open.frames() {
            assert_eq!(got, frame(expected, 60));
            expected += 1;
        }
    }
    assert_eq!(expected, 150);
}

#[test]
fn a_queue_that_is_disabled_loses_what_is_sent_and_receives_nothing() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    for index in [0, 1] {
        guest.wire.accepted(message::SET_VRING_ENABLE, &state(index, 0), &[]);
    }
    assert!(guest.send(&frame(1, 60)) && guest.send(&frame(2, 60)));
    assert!(open.poll().is_empty());
    assert_eq!(open.port.missed(), 2);
    assert_eq!(guest.queues[1].used_index(&guest.ram), 2);
    assert_eq!(open.send(&frame(1, 60), VnetHdr::PLAIN), Sent::default());
    for index in [0, 1] {
        guest.wire.accepted(message::SET_VRING_ENABLE, &state(index, 1), &[]);
    }
    assert!(guest.send(&frame(3, 60)));
    assert_eq!(open.frames(), [frame(3, 60)]);
    assert_eq!(open.send(&frame(4, 60), VnetHdr::PLAIN).accepted, 1);
}

fn readable(open: &Open, wait_ms: i64) -> bool {
    let fd = open.port.readiness().unwrap();
    let wait = Timespec { tv_sec: wait_ms / 1000, tv_nsec: wait_ms % 1000 * 1_000_000 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)).unwrap() > 0
}

#[test]
fn a_worker_that_sleeps_is_woken_by_a_frame_and_by_nothing_else() {
    for features in [VERSION_1, VERSION_1 | EVENT_IDX] {
        let mut open = Open::server();
        assert!(open.port.polls() && !open.port.arm() && !readable(&open, 0));
        let mut guest = Guest::connect(&open.path, features, 1, 16);
        // The new rings are a reason to wake.
        assert!(readable(&open, 5000));
        open.running(1);
        assert!(open.poll().is_empty());
        let wants_kick = |guest: &Guest| match features & EVENT_IDX {
            0 => guest.queues[1].used_flags(&guest.ram) == 0,
            _ => guest.queues[1].available_event(&guest.ram) == guest.queues[1].next,
        };
        assert!(!wants_kick(&guest));
        assert!(!open.port.arm());
        assert!(wants_kick(&guest) && !readable(&open, 0));
        assert!(guest.send(&frame(1, 60)));
        guest.queues[1].kick();
        assert!(readable(&open, 5000));
        assert_eq!(open.frames(), [frame(1, 60)]);
        assert!(!wants_kick(&guest) && !readable(&open, 0));
        assert_eq!(open.state.counters().kicks, 1);
        // What arrived before the worker lay down is seen without a kick.
        assert!(guest.send(&frame(2, 60)));
        assert!(open.port.arm());
        assert_eq!(open.frames(), [frame(2, 60)]);
        // Kicks that nobody asked for wake nobody for long.
        for _ in 0..100 {
            guest.queues[1].kick();
        }
        assert!(!open.port.arm());
        assert!(!readable(&open, 0));
    }
}

#[test]
fn a_guest_is_called_once_per_batch_and_only_if_it_wants_to_be() {
    for features in [VERSION_1, VERSION_1 | EVENT_IDX] {
        let mut open = Open::server();
        let mut guest = Guest::connect(&open.path, features, 1, 16);
        open.running(1);
        let wait_for = |guest: &Guest, index: usize, wanted: bool| {
            let queue = &guest.queues[index];
            queue.set_flags(&guest.ram, u16::from(!wanted));
            let now = queue.used_index(&guest.ram);
            queue.set_used_event(&guest.ram, if wanted { now } else { now.wrapping_sub(1) });
        };
        let batch = |open: &mut Open, guest: &mut Guest| {
            for queue in &guest.queues {
                rings(&queue.call);
            }
            for number in 0..5 {
                assert!(guest.send(&frame(number, 60)));
            }
            assert_eq!(open.frames().len(), 5);
            let frames: Vec<_> = (0..5).map(|number| frame(number, 60)).collect();
            let frames: Vec<_> =
                frames.iter().map(|rest| TxFrame { head: &[], rest, vnet: VnetHdr::PLAIN, copy: false }).collect();
            assert_eq!(open.port.tx(&frames).accepted, 5);
            while guest.receive().is_some() {}
            [0, 1].map(|index| rings(&guest.queues[index].call))
        };
        // The first batch calls in any case: the guest may have waited since before.
        batch(&mut open, &mut guest);
        for wanted in [[true, true], [false, false], [true, false], [false, true], [true, true]] {
            for (index, wanted) in wanted.into_iter().enumerate() {
                wait_for(&guest, index, wanted);
            }
            assert_eq!(batch(&mut open, &mut guest), wanted.map(u64::from), "{features:#x}");
        }
    }
}

#[test]
fn workers_share_a_port_by_queue_pairs() {
    let mut open = Open::new(Role::Server, 3);
    let mut others = open.port.handles(1).unwrap();
    assert!(matches!(open.port.handles(1), Err(Error::Device { .. })));
    let mut guest = Guest::connect(&open.path, VERSION_1 | 1 << 22, 3, 16);
    open.running(3);
    let octets = |number| [vec![0; 12], frame(number, 60)].concat();
    for pair in 0..3 {
        assert!(guest.send_octets(2 * pair + 1, &octets(pair)));
    }
    let mut buffers: Vec<_> = (0..BATCH).map(Buffer::new).collect();
    let mut take = |port: &mut dyn Port| {
        let filled = port.rx(&mut buffers).unwrap();
        let mut got: Vec<Vec<u8>> = buffers[..filled].iter().map(|buffer| buffer.frame().to_vec()).collect();
        got.sort();
        got
    };
    assert_eq!(take(&mut open.port), [frame(0, 60), frame(2, 60)]);
    assert_eq!(take(&mut *others[0]), [frame(1, 60)]);
    // Each sends into a queue of its own, and into somebody else's when that does not run.
    let tx = |port: &mut dyn Port, number: u32| {
        let rest = &frame(number, 60);
        assert_eq!(port.tx(&[TxFrame { head: &[], rest, vnet: VnetHdr::PLAIN, copy: false }]).accepted, 1);
    };
    tx(&mut open.port, 1);
    tx(&mut *others[0], 2);
    assert_eq!(guest.receive_in(0).map(|(_, got)| got), Some(frame(1, 60)));
    assert_eq!(guest.receive_in(2).map(|(_, got)| got), Some(frame(2, 60)));
    guest.stop(2);
    tx(&mut *others[0], 3);
    assert_eq!(guest.receive_in(0).map(|(_, got)| got), Some(frame(3, 60)));
    // The kick of a pair wakes the worker that has it.
    assert!(!others[0].arm() && !open.port.arm());
    guest.queues[3].kick();
    let fd = others[0].readiness().unwrap();
    let wait = Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)).unwrap(), 1);
    assert!(!readable(&open, 0));
}

#[test]
fn more_workers_than_queue_pairs_receive_nothing_and_send_all_the_same() {
    let mut open = Open::server();
    let mut others = open.port.handles(2).unwrap();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    assert!(guest.send(&frame(1, 60)));
    let mut buffers: Vec<_> = (0..4).map(Buffer::new).collect();
    for other in &mut others {
        assert!(!other.arm());
        assert_eq!(other.rx(&mut buffers).unwrap(), 0);
        let rest = &frame(9, 60);
        assert_eq!(other.tx(&[TxFrame { head: &[], rest, vnet: VnetHdr::PLAIN, copy: false }]).accepted, 1);
        assert_eq!(guest.receive().map(|(_, got)| got), Some(frame(9, 60)));
    }
    assert_eq!(open.frames(), [frame(1, 60)]);
}

#[test]
fn the_socket_is_ours_from_the_start_to_the_end_of_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let open = |role| Vhost::open(&settings(path.clone(), role, 1));
    let owned = rustix::process::getuid().as_raw();
    let wanted =
        crate::Settings { mode: Some(0o640), owner: Some((owned, owned)), ..settings(path.clone(), Role::Server, 1) };
    let port = Vhost::open(&wanted).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    // A second one at the same place is refused, and leaves the first alone.
    assert!(matches!(open(Role::Server), Err(Error::Device { what, .. }) if what == "somebody listens there"));
    drop(port);
    assert!(!path.exists());
    // What somebody left behind is replaced, if it is a socket.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(open(Role::Server).unwrap());
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(open(Role::Server), Err(Error::Device { what, .. }) if what == "is there and is no socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    for queue_pairs in [0, 9] {
        assert!(matches!(Vhost::open(&settings(path.clone(), Role::Client, queue_pairs)), Err(Error::Device { .. })));
    }
    let nowhere = directory.path().join("no/such/directory");
    assert!(matches!(Vhost::open(&settings(nowhere, Role::Server, 1)), Err(Error::System { .. })));
}

#[test]
fn as_a_client_we_find_the_front_end_whenever_it_comes() {
    let mut open = Open::new(Role::Client, 1);
    for round in 0..3 {
        let listener = UnixListener::bind(&open.path).unwrap();
        let (socket, _) = listener.accept().unwrap();
        drop(listener);
        let mut guest = Guest::over(Wire::of(socket), VERSION_1, 1, 16);
        open.running(1);
        assert!(guest.send(&frame(round, 60)));
        assert_eq!(open.frames(), [frame(round, 60)]);
        assert_eq!(open.state.counters().reconnects, u64::from(round));
        drop(guest);
        open.disconnected();
        std::fs::remove_file(&open.path).unwrap();
    }
    assert_eq!(open.state.error(), None);
}

#[test]
fn memory_may_come_and_go_in_regions() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    // A second region right behind the first, for the guest; a frame that begins in the one and ends in the other.
    let more = crate::guest::Ram::new(1 << 20);
    let end = GUEST + guest.ram.len() as u64;
    let region = crate::guest::u64s(&[0, end, more.len() as u64, 0x6000_0000_0000, 0]);
    let octets = [vec![0; 12], frame(1, 200)].concat();
    let at = guest.ram.len() - 100;
    guest.ram.write(at, &octets[..100]);
    more.write(0, &octets[100..]);
    let send = |guest: &mut Guest, at: u16| {
        guest.queues[1].describe(&guest.ram, at, end - 100, octets.len() as u32, 0, 0);
        guest.queues[1].offer(&guest.ram, at);
    };
    guest.wire.accepted(message::ADD_MEM_REG, &region, &[more.file.as_fd()]);
    open.running(1);
    send(&mut guest, 0);
    assert_eq!(open.frames(), [frame(1, 200)]);
    guest.wire.accepted(message::REM_MEM_REG, &region, &[]);
    open.running(1);
    send(&mut guest, 1);
    until("the wrong chain", || {
        assert!(open.poll().is_empty());
        (open.state.counters().bad_descriptors == 1).then_some(())
    });
    assert_eq!(guest.queues[1].used_index(&guest.ram), 2);
}
