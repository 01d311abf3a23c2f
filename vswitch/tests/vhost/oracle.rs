//! The ring's walker against the virtio-queue crate: the same chains give the same octets and the same used ring.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proptest::prelude::*;
use virtio_queue::{Queue as Reference, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::Sent;
use vswitch::port::vhost::memory::{Memory, Place};
use vswitch::port::vhost::ring::{Layout, Ring};

use crate::guest::{GUEST, INDIRECT, NEXT, Queue, Ram, SPAN, TABLES, USER, WRITE, descriptor};

const VERSION_1: u64 = 1 << 32;
const MRG_RXBUF: u64 = 1 << 15;
const INDIRECT_DESC: u64 = 1 << 28;
const SIZE: u16 = 64;

/// A chain as it is drawn: lengths of its parts, and whether they are in an indirect table.
#[derive(Clone, Debug)]
struct Chain {
    parts: Vec<usize>,
    indirect: bool,
}

fn chain() -> impl Strategy<Value = Chain> {
    let part = prop_oneof![1..20usize, 20..300usize, 1000..3000usize];
    (prop::collection::vec(part, 1..6), any::<bool>()).prop_map(|(parts, indirect)| Chain { parts, indirect })
}

/// Writes chains into the queue, each with buffers of its own, from `at` in guest memory on; returns the heads.
fn lay(ram: &Ram, queue: &mut Queue, chains: &[Chain], flags: u16) -> Vec<u16> {
    let mut free = 0u16;
    let (mut place, mut table) = (queue.buffer(0), queue.base + TABLES);
    let mut heads = Vec::new();
    for chain in chains {
        let count = chain.parts.len() as u16;
        let needed = if chain.indirect { 1 } else { count };
        if free + needed > queue.size {
            break;
        }
        let first = if chain.indirect { 0 } else { free };
        for (number, len) in (0..).zip(&chain.parts) {
            let more = if number + 1 < count { NEXT } else { 0 };
            let entry = descriptor(GUEST + place as u64, *len as u32, flags | more, first + number + 1);
            let at = if chain.indirect { table } else { queue.base + 16 * usize::from(first) };
            ram.write(at + 16 * usize::from(number), &entry);
            place += len;
        }
        if chain.indirect {
            queue.describe(ram, free, GUEST + table as u64, 16 * u32::from(count), INDIRECT, 0);
            table += 16 * usize::from(count);
        }
        heads.push(free);
        queue.offer(ram, free);
        free += needed;
    }
    heads
}

/// The same memory for both: ours in two regions, the reference's in one.
fn memories(ram: &Ram) -> (Arc<Memory>, GuestMemoryMmap) {
    let half = ram.len() as u64 / 2 + 0x4_0000;
    let place = |from: u64, size: u64| Place { guest: GUEST + from, size, user: USER + from, offset: from };
    let file = || -> OwnedFd { ram.file.try_clone().unwrap() };
    let both = [(place(0, half), file()), (place(half, ram.len() as u64 - half), file())];
    let file = vm_memory::FileOffset::new(file().into(), 0);
    let reference = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(GUEST), ram.len(), Some(file))]);
    (Arc::new(Memory::new(both).unwrap()), reference.unwrap())
}

fn reference(queue: &Queue) -> Reference {
    let mut reference = Reference::new(1024).unwrap();
    reference.set_size(queue.size);
    let base = GUEST + queue.base as u64;
    reference.set_desc_table_address(Some(base as u32), Some((base >> 32) as u32));
    reference.set_avail_ring_address(Some(base as u32 + 0x8000), Some((base >> 32) as u32));
    reference.set_used_ring_address(Some(base as u32 + 0xc000), Some((base >> 32) as u32));
    reference.set_ready(true);
    reference
}

fn ring(memory: Arc<Memory>, queue: &Queue, features: u64) -> Ring {
    let user = USER + queue.base as u64;
    let layout = Layout { size: queue.size, descriptors: user, available: user + 0x8000, used: user + 0xc000 };
    Ring::new(memory, &layout, 0, features).unwrap()
}

/// The used ring as far as it was written.
fn used(ram: &Ram, queue: &mut Queue) -> Vec<(u16, u32)> {
    queue.seen = 0;
    std::iter::from_fn(|| queue.returned(ram)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_reads_the_same(chains in prop::collection::vec(chain(), 1..30), seed in any::<u64>()) {
        let ram = Ram::new(2 * SPAN);
        let octets: Vec<u8> = (0..2 * SPAN as u64).map(|at| (at.wrapping_mul(seed | 1) >> 13) as u8).collect();
        ram.write(0, &octets);
        ram.write(SPAN, &[0; 0x1_0000]);
        let mut queue = Queue::new(1, SIZE);
        lay(&ram, &mut queue, &chains, 0);
        let (memory, theirs) = memories(&ram);

        let mut expected = Vec::new();
        let mut other = reference(&queue);
        let heads: Vec<_> = other.iter(&theirs).unwrap().map(|chain| (chain.head_index(), chain.readable())).collect();
        for (head, parts) in heads {
            let octets: Vec<u8> = parts.flat_map(|part| {
                let mut octets = vec![0; part.len() as usize];
                theirs.read_slice(&mut octets, part.addr()).unwrap();
                octets
            }).collect();
            expected.push((head, octets));
        }
        for (head, _) in &expected {
            other.add_used(&theirs, *head, 0).unwrap();
        }
        let their_used = used(&ram, &mut queue);

        ram.write(SPAN + 0xc000, &[0; 1024]);
        let mut ours = ring(memory, &queue, VERSION_1 | INDIRECT_DESC);
        let mut buffers: Vec<_> = (0..BATCH).map(Buffer::new).collect();
        let filled = ours.receive(&mut buffers).unwrap();
        let whole: Vec<&Vec<u8>> = expected.iter().map(|(_, octets)| octets).filter(|octets| octets.len() > 12).collect();
        prop_assert_eq!(filled, whole.len());
        for (buffer, octets) in buffers.iter().zip(whole) {
            prop_assert_eq!(buffer.frame(), &octets[12..]);
            prop_assert_eq!(buffer.vnet, VnetHdr::read(octets.first_chunk().unwrap()));
        }
        prop_assert_eq!(used(&ram, &mut queue), their_used);
        prop_assert_eq!(ours.bad() as usize, expected.len() - filled);
    }

    #[test]
    fn what_is_received_writes_the_same(
        chains in prop::collection::vec(chain(), 1..30),
        lens in prop::collection::vec(14..5000usize, 1..20),
        mergeable in any::<bool>(),
    ) {
        let ram = Ram::new(2 * SPAN);
        let mut queue = Queue::new(1, SIZE);
        lay(&ram, &mut queue, &chains, WRITE);
        let (memory, theirs) = memories(&ram);
        let frames: Vec<Vec<u8>> = (0..).zip(&lens).map(|(number, len)| crate::frame(number, *len)).collect();
        let vnet = VnetHdr::PLAIN;

        // The reference, on a copy of memory: as many chains as a frame needs, each filled before the next.
        let mut other = reference(&queue);
        let given: Vec<(u16, Vec<(u64, usize)>)> = other.iter(&theirs).unwrap().map(|chain| {
            let head = chain.head_index();
            (head, chain.writable().map(|part| (part.addr().0, part.len() as usize)).collect())
        }).collect();
        let mut memory_after = ram.read(0, ram.len());
        let mut expected_used = Vec::new();
        let (mut next, mut expected) = (0, Sent::default());
        for frame in &frames {
            let total = 12 + frame.len();
            let room = |chain: &(u16, Vec<(u64, usize)>)| chain.1.iter().map(|(_, len)| len).sum::<usize>();
            let (mut taken, mut found) = (0, 0);
            while found < total && next + taken < given.len() && (mergeable || taken == 0) {
                found += room(&given[next + taken]);
                taken += 1;
            }
            if found < total {
                if mergeable || taken == 0 {
                    break;
                }
                expected.refuse();
                continue;
            }
            let mut octets = vnet.write().to_vec();
            octets[10..12].copy_from_slice(&(taken as u16).to_le_bytes());
            octets.extend_from_slice(frame);
            let mut octets = &octets[..];
            for chain in &given[next..next + taken] {
                let written = octets.len().min(room(chain));
                expected_used.push((chain.0, written as u32));
                for (address, len) in &chain.1 {
                    let (now, later) = octets.split_at(octets.len().min(*len));
                    let at = (address - GUEST) as usize;
                    memory_after[at..at + now.len()].copy_from_slice(now);
                    octets = later;
                }
            }
            next += taken;
            expected.accepted += 1;
        }

        let features = VERSION_1 | INDIRECT_DESC | if mergeable { MRG_RXBUF } else { 0 };
        let mut ours = ring(memory, &queue, features);
        let mut sent = Sent::default();
        let views: Vec<_> = frames.iter().map(|frame| {
            let (head, rest) = frame.split_at(12);
            TxFrame { head, rest, vnet, copy: false }
        }).collect();
        ours.send(&views, &mut sent).unwrap();
        prop_assert_eq!(sent, expected);
        prop_assert_eq!(used(&ram, &mut queue), expected_used);
        let now = ram.read(0, ram.len());
        let from = SPAN + crate::guest::BUFFERS;
        prop_assert!(now[from..] == memory_after[from..] && now[..SPAN] == memory_after[..SPAN]);
    }
}
