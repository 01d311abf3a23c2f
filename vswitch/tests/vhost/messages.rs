//! Messages of a hostile front end: what is wrong ends its connection, and nobody else's. (G6, G7)

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use vswitch::port::Port;

use crate::guest::message::*;
use crate::guest::{GUEST, Guest, Ram, USER, Wire, event, ring_address, state, table, u64s, until};
use crate::{Open, alone, frame};

const VERSION_1: u64 = 1 << 32;

/// A front end that has said hello.
fn wire(open: &Open) -> Wire {
    let mut wire = Wire::connect(&open.path);
    wire.hello(VERSION_1);
    wire
}

/// The port takes the next guest as if nothing had been.
fn works(open: &mut Open) {
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    assert!(guest.send(&frame(1, 60)));
    assert_eq!(open.frames(), [frame(1, 60)]);
    drop(guest);
    open.disconnected();
}

/// The message is refused and the connection closed.
fn refused(open: &mut Open, what: &str, code: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut wire = wire(open);
    assert_ne!(wire.order(code, body, fds), Some(true), "{what}");
    assert!(wire.is_closed(), "{what}");
    until("the reason", || open.state.error());
}

#[test]
fn a_memory_table_that_cannot_be_is_refused() {
    let mut open = Open::server();
    let ram = Ram::new(1 << 20);
    let fd = ram.file.as_fd();
    let region = |guest: u64, size: u64, user: u64, offset: u64| [guest, size, user, offset];
    let pages = |count: u64| -> Vec<[u64; 4]> {
        (0..count).map(|at| region(GUEST + 0x1000 * at, 0x1000, USER + 0x1000 * at, 0)).collect()
    };
    let (_reader, pipe) = std::io::pipe().unwrap();
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    type Table<'a> = (&'a str, Vec<[u64; 4]>, Vec<BorrowedFd<'a>>);
    let wrong: Vec<Table<'_>> = vec![
        ("no region", vec![], vec![]),
        ("no region, but a file", vec![], vec![fd]),
        ("nine regions", pages(9), vec![fd; 9]),
        ("33 regions", pages(33), vec![fd; 33]),
        ("more files than regions", pages(2), vec![fd; 3]),
        ("fewer files than regions", pages(2), vec![fd]),
        ("no size", vec![region(GUEST, 0, USER, 0)], vec![fd]),
        ("longer than its file", vec![region(GUEST, 1 << 21, USER, 0)], vec![fd]),
        ("over its file's end", vec![region(GUEST, 1 << 20, USER, 0x1000)], vec![fd]),
        ("huge", vec![region(0, 1 << 60, 0, 0)], vec![fd]),
        ("all there is", vec![region(0, u64::MAX, 0, 0)], vec![fd]),
        ("guest addresses that wrap", vec![region(u64::MAX - 0xfff, 0x2000, USER, 0)], vec![fd]),
        ("front end addresses that wrap", vec![region(GUEST, 0x2000, u64::MAX - 0xfff, 0)], vec![fd]),
        ("an offset that wraps", vec![region(GUEST, 0x1000, USER, u64::MAX - 0xfff)], vec![fd]),
        ("the same twice", vec![region(GUEST, 0x1000, USER, 0); 2], vec![fd; 2]),
        (
            "overlapping for the guest",
            vec![region(GUEST, 0x2000, USER, 0), region(GUEST + 0x1000, 0x2000, USER + 0x10_0000, 0)],
            vec![fd; 2],
        ),
        (
            "overlapping for the front end",
            vec![region(GUEST, 0x2000, USER, 0), region(GUEST + 0x10_0000, 0x2000, USER + 0x1000, 0)],
            vec![fd; 2],
        ),
        ("a pipe", vec![region(GUEST, 0x1000, USER, 0)], vec![pipe.as_fd()]),
        ("a device", vec![region(GUEST, 0x1000, USER, 0)], vec![null.as_fd()]),
    ];
    for (what, regions, fds) in wrong {
        refused(&mut open, what, SET_MEM_TABLE, &table(&regions), &fds);
    }
    let count = [u64s(&[8]), u64s(&pages(1).concat())].concat();
    refused(&mut open, "a count that is not the message's", SET_MEM_TABLE, &count, &[fd]);
    let single = |region: [u64; 4]| [u64s(&[0]), u64s(&region)].concat();
    refused(&mut open, "a region more that is too long", ADD_MEM_REG, &single(region(GUEST, 1 << 21, USER, 0)), &[fd]);
    refused(&mut open, "a region more without a file", ADD_MEM_REG, &single(region(GUEST, 0x1000, USER, 0)), &[]);
    refused(&mut open, "no such region", REM_MEM_REG, &single(region(GUEST, 0x1000, USER, 0)), &[]);
    works(&mut open);
}

#[test]
fn a_ring_that_cannot_be_is_refused() {
    let mut open = Open::server();
    let event = event();
    for index in [2, 255, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
        for code in [SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE, SET_VRING_ENABLE] {
            refused(&mut open, "a queue that is not there", code, &state(index, 1), &[]);
        }
        refused(&mut open, "a queue that is not there", SET_VRING_ADDR, &ring_address(index, 0), &[]);
    }
    for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        refused(&mut open, "a queue that is not there", code, &u64s(&[2]), &[event.as_fd()]);
        refused(&mut open, "no descriptor", code, &u64s(&[0]), &[]);
        refused(&mut open, "two descriptors", code, &u64s(&[0]), &[event.as_fd(); 2]);
        refused(&mut open, "a descriptor and none", code, &u64s(&[0x100]), &[event.as_fd()]);
    }
    for size in [0, 3, 255, 32_769, 65_536, 0x1_0001, u32::MAX] {
        refused(&mut open, "a size that is none", SET_VRING_NUM, &state(0, size), &[]);
    }
    refused(&mut open, "a base that is none", SET_VRING_BASE, &state(0, 0x1_0000), &[]);
    refused(&mut open, "neither on nor off", SET_VRING_ENABLE, &state(0, 2), &[]);
    let mut logged = ring_address(0, 0);
    logged[4] = 1;
    refused(&mut open, "a log", SET_VRING_ADDR, &logged, &[]);
    works(&mut open);
}

#[test]
fn a_ring_outside_memory_is_refused() {
    let mut open = Open::server();
    let span = crate::guest::SPAN as u64;
    for (what, parts) in [
        ("before", [USER - 16, USER + 0xc000, USER + 0x8000]),
        ("behind", [USER, USER + 2 * span, USER + 0x8000]),
        ("over the end", [USER, USER + 0xc000, USER + 2 * span - 4]),
        ("at the guest's address", [GUEST, USER + 0xc000, USER + 0x8000]),
        ("wraps", [USER, u64::MAX - 3, USER + 0x8000]),
        ("a crooked table", [USER + 8, USER + 0xc000, USER + 0x8000]),
        ("a crooked available ring", [USER, USER + 0xc000, USER + 0x8001]),
        ("a crooked used ring", [USER, USER + 0xc002, USER + 0x8000]),
    ] {
        let mut guest = Guest::stopped(Wire::connect(&open.path), VERSION_1, 1, 16);
        guest.wire.accepted(SET_VRING_NUM, &state(1, 16), &[]);
        let kick = u64s(&[1]);
        guest.wire.accepted(SET_VRING_KICK, &kick, &[guest.queues[1].kick.as_fd()]);
        let address = [state(1, 0), u64s(&parts), u64s(&[0])].concat();
        assert_ne!(guest.wire.order(SET_VRING_ADDR, &address, &[]), Some(true), "{what}");
        assert!(guest.wire.is_closed(), "{what}");
    }
    works(&mut open);
}

#[test]
fn what_was_not_offered_is_refused() {
    let mut open = Open::server();
    let ram = Ram::new(0x1000);
    let fd = ram.file.as_fd();
    refused(&mut open, "packed rings", SET_FEATURES, &u64s(&[VERSION_1 | 1 << 30 | 1 << 34]), &[]);
    refused(&mut open, "a dirty log", SET_FEATURES, &u64s(&[VERSION_1 | 1 << 30 | 1 << 26]), &[]);
    refused(&mut open, "a protocol feature", SET_PROTOCOL_FEATURES, &u64s(&[2]), &[]);
    refused(&mut open, "a log's place", SET_LOG_BASE, &u64s(&[0x1000, u64::MAX - 10]), &[fd]);
    for code in [0, 7, 19, 20, 23, 24, 25, 28, 29, 31, 32, 33, 38, 39, 40, 41, 44, 99, u32::MAX] {
        refused(&mut open, "a request that nobody knows", code, &u64s(&[0]), &[]);
        refused(&mut open, "a request with descriptors", code, &u64s(&[0]), &[fd; 8]);
    }
    // This one has an answer that says so.
    const CHECK_DEVICE_STATE: u32 = 43;
    assert_eq!(wire(&open).order(CHECK_DEVICE_STATE, &[], &[]), Some(false));
    for code in [GET_FEATURES, SET_OWNER, RESET_OWNER, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_NUM] {
        refused(&mut open, "descriptors where none belong", code, &[], &[fd; 3]);
        refused(&mut open, "a body of the wrong size", code, &[0; 40], &[]);
    }
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    for (what, file) in [("a file", fd), ("a socket", socket.as_fd())] {
        for code in [SET_VRING_KICK, SET_VRING_CALL] {
            refused(&mut open, what, code, &u64s(&[0]), &[file]);
        }
    }
    works(&mut open);
}

#[test]
fn half_a_message_ends_the_connection_and_hangs_nobody() {
    let mut open = Open::server();
    let message = [[SET_MEM_TABLE, 1, 40].map(u32::to_le_bytes).concat(), vec![0; 20]].concat();
    for len in [1, 11, 12, 31] {
        let begun = Instant::now();
        let mut wire = wire(&open);
        assert!(wire.send_raw(&message[..len], &[]));
        assert!(wire.is_closed());
        assert!(begun.elapsed() < Duration::from_secs(4));
        assert_eq!(open.state.error().as_deref(), Some("half a message, and no more"));
    }
    // A message that says it is longer than any is not waited for.
    let mut long = wire(&open);
    assert!(long.send_raw(&[SET_FEATURES, 1, 4097].map(u32::to_le_bytes).concat(), &[]));
    assert!(long.is_closed());
    works(&mut open);
    // The port can be dropped meanwhile.
    let wire = wire(&open);
    assert!(wire.send_raw(&message[..20], &[]));
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    drop(open);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_message_may_come_in_pieces() {
    let mut open = Open::server();
    let mut wire = wire(&open);
    let message =
        [[GET_FEATURES, 1, 0], [GET_QUEUE_NUM, 1, 0]].map(|head| head.map(u32::to_le_bytes).concat()).concat();
    for octet in &message {
        assert!(wire.send_raw(&[*octet], &[]));
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(wire.answer().map(|body| body.len()), Some(8));
    assert_eq!(wire.answer(), Some(u64s(&[1])));
    drop(wire);
    open.disconnected();
    works(&mut open);
}

#[test]
fn a_front_end_that_reads_no_answers_is_sent_away() {
    let mut open = Open::server();
    let wire = wire(&open);
    // Until our side of the socket, or theirs, takes no more.
    wire.0.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while wire.send(GET_FEATURES, 0, &[], &[]) {}
    until("the end", || (open.state.error().as_deref() == Some("our answers are not read")).then_some(()));
    drop(wire);
    works(&mut open);
}

#[test]
fn a_second_front_end_waits_for_the_first_to_go() {
    let mut open = Open::server();
    let first = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    let path = open.path.clone();
    let second = std::thread::spawn(move || Guest::connect(&path, VERSION_1 | 1 << 15, 1, 16));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(open.state.features() & 1 << 15, 0);
    drop(first);
    let mut second = second.join().unwrap();
    open.running(1);
    assert_eq!(open.state.counters().reconnects, 1);
    assert!(second.send(&frame(2, 60)));
    assert_eq!(open.frames(), [frame(2, 60)]);
}

#[test]
fn a_guest_may_reset_the_device() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    guest.wire.send(RESET_OWNER, 0, &[], &[]);
    until("the reset", || (open.state.counters().resets == 1).then_some(()));
    assert_eq!((open.state.features(), open.state.queue_pairs()), (0, 0));
    assert!(guest.send(&frame(1, 60)));
    assert!(open.poll().is_empty());
}

fn resources() -> (usize, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kb = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), kb.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn repeating_a_message_for_ever_leaks_nothing() {
    if !alone("messages::repeating_a_message_for_ever_leaks_nothing") {
        return;
    }
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, 16);
    open.running(1);
    let mut round = |guest: &mut Guest| {
        let regions = table(&[[GUEST, guest.ram.len() as u64, USER, 0]]);
        guest.wire.accepted(SET_MEM_TABLE, &regions, &[guest.ram.file.as_fd()]);
        for index in [0, 1] {
            let at = guest.stop(index);
            guest.queues[index as usize].next = at.wrapping_add(if index == 0 { 16 } else { 0 });
            guest.start(index);
            let event = guest.queues[index as usize].kick.as_fd();
            for code in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
                guest.wire.accepted(code, &u64s(&[index.into()]), &[event]);
            }
        }
        open.port.arm();
        open.poll();
    };
    for _ in 0..10 {
        round(&mut guest);
    }
    let before = resources();
    for _ in 0..1000 {
        round(&mut guest);
    }
    let (fds, kb) = resources();
    assert_eq!(fds, before.0);
    assert!(kb <= before.1 + 1024, "{} KiB became {kb}", before.1);
    drop(guest);
    open.disconnected();
    // And so do connections that end badly, with descriptors in what is not read any more.
    let ram = Ram::new(0x1000);
    let bad = |open: &Open| {
        let mut wire = wire(open);
        wire.send(SET_MEM_TABLE, 0, &[0; 40], &[ram.file.as_fd(); 20]);
        wire.send(SET_MEM_TABLE, 0, &[0; 40], &[ram.file.as_fd(); 20]);
        assert!(wire.is_closed());
    };
    bad(&open);
    let before = resources();
    (0..200).for_each(|_| bad(&open));
    open.disconnected();
    assert!(resources().0 <= before.0);
}
