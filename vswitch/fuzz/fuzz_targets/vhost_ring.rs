//! Rings whose every octet is the guest's: table, available ring, indirect tables, buffers.
//!
//! The input is features, calls, and what guest memory holds; memory is two regions with a gap behind each, so that what is read or
//! written beyond them is seen by the sanitizer or ends the process. What must hold: no panic, no more frames than chains,
//! and the port's own count of what it gave back is what the ring says.
#![no_main]

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, FRAME_MAX, TxFrame};
use vswitch::port::Sent;
use vswitch::port::vhost::memory::{Memory, Place};
use vswitch::port::vhost::ring::{Layout, Ring};

const GUEST: u64 = 0x1_0000;
const USER: u64 = 0x1000_0000;
const REGION: u64 = 0x2000;

/// Features that the input may choose: header lengths, event index, indirect, mergeable, offloads.
const FEATURES: [u64; 8] = [1 << 32, 1 << 15, 1 << 28, 1 << 29, 1 << 1, 1 << 7 | 1 << 8, 1 << 54 | 1 << 55, 1 << 9];

thread_local! {
    /// Made once: they are large.
    static ROOM: RefCell<Vec<Buffer>> = RefCell::new((0..BATCH).map(Buffer::new).collect());
    static FRAMES: [Vec<u8>; 3] = [60, 1514, FRAME_MAX].map(|len| vec![0x5a; len]);
}

fuzz_target!(|input: &[u8]| ROOM.with_borrow_mut(|room| FRAMES.with(|frames| run(input, room, frames))));

fn run(input: &[u8], buffers: &mut [Buffer], frames: &[Vec<u8>; 3]) {
    let [choice, shape, steps, rest @ ..] = input else { return };
    let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 2 * REGION).unwrap();
    let size = 1u16 << (shape & 7);
    // Where the parts of the ring are: anywhere, as long as they are aligned for the most part.
    let part = |at: usize, align: u64| {
        let place = rest.get(at).copied().unwrap_or(0) as u64 * 64;
        USER + (place - place % align) % REGION
    };
    let layout = Layout { size, descriptors: part(0, 16), available: part(1, 2), used: part(2, 4) };
    rustix::io::pwrite(&file, rest.get(3..).unwrap_or_default(), 0).unwrap();
    // The second region follows the first for the guest, unless the shape says otherwise.
    let gap = if shape & 8 == 0 { 0 } else { 0x1000 };
    let place = |guest: u64, offset: u64| Place { guest, size: REGION, user: USER + guest - GUEST, offset };
    let fd = || -> OwnedFd { file.try_clone().unwrap() };
    let memory = Memory::new([(place(GUEST, 0), fd()), (place(GUEST + REGION + gap, REGION), fd())]).unwrap();
    let features = (0..).zip(FEATURES).filter(|(bit, _)| choice >> bit & 1 == 1).fold(0, |all, (_, one)| all | one);
    let Ok(mut ring) = Ring::new(Arc::new(memory), &layout, 0, features) else { return };

    for step in 0..4 {
        let before = ring.base();
        match steps >> (2 * step) & 3 {
            0 => match ring.receive(buffers) {
                Ok(filled) => {
                    assert!(filled <= usize::from(ring.base().wrapping_sub(before)));
                    assert!(buffers[..filled].iter().all(|buffer| buffer.frame().len() <= FRAME_MAX));
                }
                Err(_) => return,
            },
            1 => {
                let vnet = VnetHdr { flags: 1, ..VnetHdr::PLAIN };
                let views = [0, 1, 0, 2, 0].map(|at| {
                    let (head, rest) = frames[at].split_at(12);
                    TxFrame { head, rest, vnet: if at == 1 { vnet } else { VnetHdr::PLAIN }, copy: false }
                });
                let mut sent = Sent::default();
                let outcome = ring.send(&views, &mut sent);
                assert!(sent.total() <= views.len());
                assert!(sent.accepted <= usize::from(ring.base().wrapping_sub(before)));
                if outcome.is_err() {
                    return;
                }
            }
            2 => {
                if ring.discard().is_err() {
                    return;
                }
            }
            _ => {
                ring.arm();
            }
        }
        ring.wants_call();
    }
}
