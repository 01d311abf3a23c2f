//! Rings of a hostile guest: what is wrong costs the frame, then the queue, and never more. (G1, G2, G3)

use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{FRAME_MAX, TxFrame};
use vswitch::port::Port;
use vswitch::port::vhost::ring::BAD_MAX;

use crate::guest::{BUFFER, GUEST, Guest, INDIRECT, NEXT, Queue, Ram, SPAN, TABLES, WRITE, descriptor, until};
use crate::{Open, frame};

const VERSION_1: u64 = 1 << 32;
const INDIRECT_DESC: u64 = 1 << 28;
const MRG_RXBUF: u64 = 1 << 15;
const SIZE: u16 = 16;

/// Writes a wrong chain that begins with descriptor 0. `flags` is what each descriptor of the direction has.
type Wrong = fn(&Queue, &Ram, u16);

fn table(queue: &Queue, ram: &Ram, entries: &[[u8; 16]]) -> u64 {
    ram.write(queue.base + TABLES, entries.as_flattened());
    GUEST + (queue.base + TABLES) as u64
}

fn good(queue: &Queue) -> u64 {
    GUEST + queue.buffer(0) as u64
}

/// The end of guest memory, which has one queue pair.
const END: u64 = GUEST + 2 * SPAN as u64;

const WRONG: [(&str, Wrong); 20] = [
    ("a descriptor that follows itself", |q, ram, f| q.describe(ram, 0, good(q), 20, f | NEXT, 0)),
    ("a loop of two", |q, ram, f| {
        q.describe(ram, 0, good(q), 20, f | NEXT, 1);
        q.describe(ram, 1, good(q), 20, f | NEXT, 0);
    }),
    ("a successor behind the table", |q, ram, f| q.describe(ram, 0, good(q), 20, f | NEXT, SIZE)),
    ("a far successor", |q, ram, f| q.describe(ram, 0, good(q), 20, f | NEXT, u16::MAX)),
    ("no memory there", |q, ram, f| q.describe(ram, 0, 0x1000, 100, f, 0)),
    ("address zero", |q, ram, f| q.describe(ram, 0, 0, 100, f, 0)),
    ("the last octet of all", |q, ram, f| q.describe(ram, 0, u64::MAX, 100, f, 0)),
    ("wraps around", |q, ram, f| q.describe(ram, 0, u64::MAX - 50, 100, f, 0)),
    ("one octet before memory", |q, ram, f| q.describe(ram, 0, GUEST - 1, 100, f, 0)),
    ("one octet over the end", |q, ram, f| q.describe(ram, 0, END - 99, 100, f, 0)),
    ("at the end", |q, ram, f| q.describe(ram, 0, END, 100, f, 0)),
    ("an address of the front end", |q, ram, f| q.describe(ram, 0, crate::guest::USER, 100, f, 0)),
    ("no length", |q, ram, f| q.describe(ram, 0, good(q), 0, f, 0)),
    ("no length, and nowhere", |q, ram, f| q.describe(ram, 0, u64::MAX, 0, f, 0)),
    ("a part without length", |q, ram, f| {
        q.describe(ram, 0, good(q), 20, f | NEXT, 1);
        q.describe(ram, 1, good(q), 0, f, 0);
    }),
    ("an indirect table within another", |q, ram, f| {
        let inner = table(q, ram, &[descriptor(good(q), 100, f, 0)]);
        ram.write(q.base + TABLES + 0x1000, &descriptor(inner, 16, INDIRECT, 0));
        q.describe(ram, 0, inner + 0x1000, 16, INDIRECT, 0);
    }),
    ("a table with part of an entry", |q, ram, f| {
        let table = table(q, ram, &[descriptor(good(q), 100, f, 0)]);
        q.describe(ram, 0, table, 24, INDIRECT, 0);
    }),
    ("an empty table", |q, ram, _| q.describe(ram, 0, good(q), 0, INDIRECT, 0)),
    ("a table with a successor", |q, ram, f| {
        let table = table(q, ram, &[descriptor(good(q), 100, f, 0)]);
        q.describe(ram, 0, table, 16, INDIRECT | NEXT, 1);
        q.describe(ram, 1, good(q), 100, f, 0);
    }),
    ("a table that is not all there, with a loop in it", |q, ram, f| {
        ram.write(2 * SPAN - 16, &descriptor(good(q), 20, f | NEXT, 1));
        q.describe(ram, 0, END - 16, 32, INDIRECT, 0);
    }),
];

/// Wrong in the queue in which the guest sends.
const WRONG_SENT: [(&str, Wrong); 4] = [
    ("to be written", |q, ram, _| q.describe(ram, 0, good(q), 100, WRITE, 0)),
    ("part to be written", |q, ram, _| {
        q.describe(ram, 0, good(q), 50, NEXT, 1);
        q.describe(ram, 1, good(q), 100, WRITE, 0);
    }),
    ("half a header", |q, ram, _| q.describe(ram, 0, good(q), 6, 0, 0)),
    ("a header and no frame", |q, ram, _| q.describe(ram, 0, good(q), 12, 0, 0)),
];

/// A neighbour that all this must not touch.
struct Neighbour {
    open: Open,
    guest: Guest,
    number: u32,
}

impl Neighbour {
    fn new() -> Neighbour {
        let open = Open::server();
        let guest = Guest::connect(&open.path, VERSION_1, 1, SIZE);
        open.running(1);
        Neighbour { open, guest, number: 0 }
    }

    fn lives(&mut self) {
        self.number += 1;
        assert!(self.guest.send(&frame(self.number, 100)));
        assert_eq!(self.open.frames(), [frame(self.number, 100)]);
        assert_eq!(self.open.send(&frame(self.number, 100), VnetHdr::PLAIN).accepted, 1);
        assert_eq!(self.guest.receive().map(|(_, got)| got), Some(frame(self.number, 100)));
    }
}

#[test]
fn a_wrong_chain_that_is_sent_is_given_back_and_costs_its_frame_alone() {
    let mut neighbour = Neighbour::new();
    for (what, wrong) in WRONG.iter().chain(&WRONG_SENT) {
        let mut open = Open::server();
        let mut guest = Guest::connect(&open.path, VERSION_1 | INDIRECT_DESC, 1, SIZE);
        open.running(1);
        for round in 1..BAD_MAX {
            let queue = &mut guest.queues[1];
            wrong(queue, &guest.ram, 0);
            queue.offer(&guest.ram, 0);
            assert!(open.poll().is_empty(), "{what}");
            assert_eq!(queue.returned(&guest.ram), Some((0, 0)), "{what}");
            assert_eq!(open.state.counters().bad_descriptors, u64::from(round), "{what}");
        }
        // A good frame still passes.
        assert!(guest.send(&frame(1, 60)));
        assert_eq!(open.frames(), [frame(1, 60)], "{what}");
        assert_eq!(open.state.error(), None);
        // One too many stops the queue, and says why.
        let queue = &mut guest.queues[1];
        wrong(queue, &guest.ram, 0);
        queue.offer(&guest.ram, 0);
        assert!(open.poll().is_empty());
        let error = open.state.error().unwrap_or_default();
        assert!(error.starts_with("queue 1 stopped: too many wrong descriptor chains"), "{what}: {error}");
        assert_eq!((open.state.counters().ring_errors, open.state.queue_pairs()), (1, 0));
        assert_eq!(open.port.missed(), u64::from(BAD_MAX));
        guest.queues[1].seen += 2;
        assert!(guest.send(&frame(2, 60)));
        assert!(open.poll().is_empty());
        // What the guest receives is another queue.
        assert_eq!(open.send(&frame(3, 60), VnetHdr::PLAIN).accepted, 1);
        // Setting it up anew makes all good.
        guest.stop(1);
        guest.start(1);
        assert_eq!(open.frames(), [frame(2, 60)], "{what}");
        neighbour.lives();
    }
}

#[test]
fn a_wrong_chain_to_receive_in_is_given_back_and_the_next_is_used() {
    let mut neighbour = Neighbour::new();
    let readable: [(&str, Wrong); 2] = [
        ("to be read", |q, ram, _| q.describe(ram, 0, good(q), 100, 0, 0)),
        ("part to be read", |q, ram, _| {
            q.describe(ram, 0, good(q), 20, NEXT | WRITE, 1);
            q.describe(ram, 1, good(q), 100, 0, 0);
        }),
    ];
    for (what, wrong) in WRONG.iter().chain(&readable) {
        for mergeable in [0, MRG_RXBUF] {
            let mut open = Open::server();
            let wire = crate::guest::Wire::connect(&open.path);
            let mut guest = Guest::stopped(wire, VERSION_1 | INDIRECT_DESC | mergeable, 1, SIZE);
            guest.start(0);
            let queue = &mut guest.queues[0];
            wrong(queue, &guest.ram, WRITE);
            queue.offer(&guest.ram, 0);
            queue.describe(&guest.ram, 9, GUEST + queue.buffer(9) as u64, BUFFER as u32, WRITE, 0);
            queue.offer(&guest.ram, 9);
            until("the frame", || (open.send(&frame(1, 1000), VnetHdr::PLAIN).accepted == 1).then_some(()));
            let queue = &mut guest.queues[0];
            assert_eq!(queue.returned(&guest.ram), Some((0, 0)), "{what}");
            assert_eq!(queue.returned(&guest.ram), Some((9, 1012)), "{what}");
            assert_eq!(guest.ram.read(queue.buffer(9) + 12, 1000), frame(1, 1000));
            for _ in 1..BAD_MAX {
                let queue = &mut guest.queues[0];
                wrong(queue, &guest.ram, WRITE);
                queue.offer(&guest.ram, 0);
                assert_eq!(open.send(&frame(1, 1000), VnetHdr::PLAIN).total(), 0, "{what}");
            }
            let error = open.state.error().unwrap_or_default();
            assert!(error.starts_with("queue 0 stopped: too many wrong"), "{what}: {error}");
            assert_eq!(open.state.counters().bad_descriptors, u64::from(BAD_MAX));
        }
        neighbour.lives();
    }
}

#[test]
fn an_indirect_table_that_was_not_negotiated_is_wrong() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, SIZE);
    open.running(1);
    let queue = &mut guest.queues[1];
    let table = table(queue, &guest.ram, &[descriptor(good(queue), 100, 0, 0)]);
    queue.describe(&guest.ram, 0, table, 16, INDIRECT, 0);
    queue.offer(&guest.ram, 0);
    assert!(open.poll().is_empty());
    assert_eq!(open.state.counters().bad_descriptors, 1);
}

#[test]
fn chains_as_long_as_the_ring_pass_and_a_table_longer_than_it_does_not() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1 | INDIRECT_DESC, 1, SIZE);
    open.running(1);
    let octets = [vec![0; 12], frame(5, 100)].concat();
    let queue = &mut guest.queues[1];
    guest.ram.write(queue.buffer(0), &octets);
    let step = octets.len() / usize::from(SIZE);
    let part = |at: usize, last: usize| {
        let len = if at == last { octets.len() - last * step } else { step };
        descriptor(good(queue) + (at * step) as u64, len as u32, if at == last { 0 } else { NEXT }, at as u16 + 1)
    };
    let count = usize::from(SIZE);
    let direct: Vec<[u8; 16]> = (0..count).map(|at| part(at, count - 1)).collect();
    guest.ram.write(queue.base, direct.as_flattened());
    queue.offer(&guest.ram, 0);
    assert_eq!(open.frames(), [frame(5, 100)]);
    // A direct descriptor, then a table for the rest, is as good.
    let queue = &mut guest.queues[1];
    let table = table(queue, &guest.ram, &[descriptor(good(queue) + 20, octets.len() as u32 - 20, 0, 0)]);
    queue.describe(&guest.ram, 0, good(queue), 20, NEXT, 1);
    queue.describe(&guest.ram, 1, table, 16, INDIRECT, 0);
    queue.offer(&guest.ram, 0);
    assert_eq!(open.frames(), [frame(5, 100)]);
    queue.describe(&guest.ram, 0, table, 16 * (u32::from(SIZE) + 1), INDIRECT, 0);
    queue.offer(&guest.ram, 0);
    assert!(open.poll().is_empty());
    assert_eq!(open.state.counters().bad_descriptors, 1);
}

#[test]
fn a_frame_up_to_the_end_of_memory_passes() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, SIZE);
    open.running(1);
    for len in [1, 4, 15, 16, 60, 64, 65, 200, 256, 257, 1500] {
        let octets = [vec![0; 12], frame(5, len + 4)].concat();
        guest.ram.write(2 * SPAN - octets.len(), &octets);
        let queue = &mut guest.queues[1];
        let at = queue.next % SIZE;
        queue.describe(&guest.ram, at, END - octets.len() as u64, octets.len() as u32, 0, 0);
        queue.offer(&guest.ram, at);
        assert_eq!(open.frames(), [frame(5, len + 4)]);
    }
}

#[test]
fn a_frame_that_is_too_long_arrives_with_length_0() {
    let mut open = Open::server();
    let mut guest = Guest::connect(&open.path, VERSION_1, 1, SIZE);
    open.running(1);
    let most = 12 + FRAME_MAX as u32;
    for (len, expected) in [(most, FRAME_MAX), (most + 1, 0), (SPAN as u32, 0), (u32::MAX, 0)] {
        let queue = &mut guest.queues[1];
        queue.describe(&guest.ram, 0, GUEST, len, 0, 0);
        queue.offer(&guest.ram, 0);
        assert_eq!(open.frames().iter().map(Vec::len).collect::<Vec<_>>(), [expected]);
        // In parts it comes to the same.
        let queue = &mut guest.queues[1];
        queue.describe(&guest.ram, 0, GUEST, 1000, NEXT, 1);
        queue.describe(&guest.ram, 1, GUEST, len - 1000, 0, 0);
        queue.offer(&guest.ram, 0);
        assert_eq!(open.frames().iter().map(Vec::len).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn an_index_that_jumps_stops_the_queue_until_it_is_set_up_anew() {
    let mut neighbour = Neighbour::new();
    for index in [0, 1] {
        for (jump, why) in [
            (SIZE + 1, "the available index jumped"),
            (u16::MAX, "the available index jumped"),
            (0x8000, "the available index jumped"),
        ] {
            let mut open = Open::server();
            let mut guest = Guest::connect(&open.path, VERSION_1, 1, SIZE);
            open.running(1);
            let used = guest.queues[index].used_index(&guest.ram);
            guest.queues[index].publish(&guest.ram, used.wrapping_add(jump));
            assert!(open.poll().is_empty());
            assert_eq!(open.send(&frame(1, 60), VnetHdr::PLAIN).accepted, 1 - usize::from(index == 0));
            let error = open.state.error().unwrap_or_default();
            assert!(error.starts_with(&format!("queue {index} stopped: {why}")), "{error}");
            assert_eq!(guest.queues[index].used_index(&guest.ram), used);
            assert_eq!(guest.stop(index as u32), used);
            let next = guest.queues[index].next;
            guest.queues[index].publish(&guest.ram, next);
            guest.queues[index].next = used;
            guest.start(index as u32);
            guest.queues[index].next = next;
            open.running(1);
            assert!(guest.send(&frame(1, 60)));
            assert_eq!(open.frames(), [frame(1, 60)]);
            assert_eq!(open.send(&frame(1, 60), VnetHdr::PLAIN).accepted, 1);
            neighbour.lives();
        }
    }
}

#[test]
fn a_head_behind_the_table_stops_the_queue() {
    for index in [0, 1] {
        for head in [SIZE, u16::MAX] {
            let mut open = Open::server();
            let wire = crate::guest::Wire::connect(&open.path);
            let mut guest = Guest::stopped(wire, VERSION_1, 1, SIZE);
            guest.start(index);
            guest.queues[index as usize].offer(&guest.ram, head);
            until("the fault", || {
                open.poll();
                open.port.tx(&[TxFrame { head: &[], rest: &[0; 60], vnet: VnetHdr::PLAIN, copy: false }]);
                open.state.error()
            });
            let error = open.state.error().unwrap_or_default();
            assert_eq!(
                error,
                format!("queue {index} stopped: the available ring names a descriptor behind the table's end")
            );
        }
    }
}
