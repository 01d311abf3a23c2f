//! What a frame costs the switch's side of a vhost-user port: one received and one sent, 64 at a time.
//!
//! `vhost_cost [together|apart] [OCTETS]`. A guest in this process sends frames of OCTETS (60) all the time and takes what it is
//! sent, by the same rings as any other. `together`: guest and port take turns in one thread, and only the port's turns are
//! timed; that is the cost without waiting for another core's cache. `apart`: the guest has a thread of its own on another
//! core, and touches the begin of every frame there. Prints nanoseconds per frame, the best of many short runs and the median.

#[allow(dead_code, unsafe_code, clippy::undocumented_unsafe_blocks, reason = "shared with the tests")]
#[path = "../tests/vhost/guest.rs"]
mod guest;

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use guest::{GUEST, Guest, WRITE};
use rustix::thread::{CpuSet, sched_setaffinity};
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::Port;
use vswitch::port::vhost::{Role, Settings, Vhost};

/// Entries of a ring.
const SIZE: u16 = 256;
/// Frames of a run.
const RUN: usize = 64 * 256;
const RUNS: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let apart = match arguments.next().as_deref() {
        None | Some("together") => false,
        Some("apart") => true,
        Some(_) => return Err("usage: vhost_cost [together|apart] [OCTETS]".into()),
    };
    let octets: usize = arguments.next().map_or(Ok(60), |octets| octets.parse())?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("socket");
    let settings = Settings { path: path.clone(), role: Role::Server, queue_pairs: 1, mode: None, owner: None };
    let mut port = Vhost::open(&settings)?;
    let mut guest = Guest::connect(&path, 1 << 32 | 1 << 15, 1, SIZE);
    // No calls.
    guest.queues.iter().for_each(|queue| queue.set_flags(&guest.ram, 1));
    for at in 0..SIZE {
        let queue = &guest.queues[1];
        guest.ram.write(queue.buffer(at), &vec![0; 12 + octets]);
        queue.describe(&guest.ram, at, GUEST + queue.buffer(at) as u64, (12 + octets) as u32, 0, 0);
        let queue = &guest.queues[0];
        queue.describe(&guest.ram, at, GUEST + queue.buffer(at) as u64, guest::BUFFER as u32, WRITE, 0);
    }
    for _ in 0..SIZE {
        let (ram, queue) = (&guest.ram, &mut guest.queues[1]);
        let at = queue.next % SIZE;
        queue.offer(ram, at);
    }
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    let mut times: Vec<f64> = Vec::with_capacity(RUNS);
    match apart {
        false => {
            for _ in 0..RUNS {
                let (mut frames, mut ns) = (0, 0);
                while frames < RUN {
                    turn(&mut guest);
                    let begun = Instant::now();
                    // As much as the guest has given.
                    for _ in 0..usize::from(SIZE) / BATCH {
                        frames += forward(&mut port, &mut buffers)?;
                    }
                    ns += begun.elapsed().as_nanos();
                }
                times.push(ns as f64 / frames as f64);
            }
        }
        true => {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
                let guest = &mut guest;
                let stopped = &stop;
                scope.spawn(move || {
                    pin(1);
                    while !stopped.load(Ordering::Relaxed) {
                        touch(guest);
                        turn(guest);
                    }
                });
                pin(0);
                for _ in 0..RUNS {
                    let (mut frames, begun) = (0, Instant::now());
                    while frames < RUN {
                        frames += forward(&mut port, &mut buffers)?;
                    }
                    times.push(begun.elapsed().as_nanos() as f64 / frames as f64);
                }
                stop.store(true, Ordering::Relaxed);
                Ok(())
            })?;
        }
    }
    times.sort_by(f64::total_cmp);
    let of = |at: usize| times.get(at).copied().unwrap_or_default();
    println!("{octets} octets: best {:.1} ns/frame, median {:.1}", of(0), of(RUNS / 2));
    Ok(())
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    // On a machine with one core it stays where it is.
    let _ = sched_setaffinity(None, &set);
}

/// Receives a batch and sends it back.
#[inline(never)]
fn forward(port: &mut Vhost, buffers: &mut [Buffer]) -> Result<usize, vswitch::port::Error> {
    let received = port.rx(buffers)?;
    if received == 0 {
        return Ok(0);
    }
    let empty = TxFrame { head: &[], rest: &[], vnet: Default::default(), copy: false };
    let mut frames = [empty; BATCH];
    for (frame, buffer) in frames.iter_mut().zip(buffers.iter()).take(received) {
        *frame = TxFrame { head: &[], rest: buffer.frame(), vnet: buffer.vnet, copy: false };
    }
    let mut sent = 0;
    while sent < received {
        sent += port.tx(frames.get(sent..received).unwrap_or_default()).total();
    }
    Ok(received)
}

/// What a guest does with its frames: it reads the begin of what it received, and writes that of what it sends.
fn touch(guest: &Guest) {
    for (write, queue) in [false, true].into_iter().zip(&guest.queues) {
        let back = queue.used_index(&guest.ram).wrapping_sub(queue.seen);
        for at in 0..back {
            let place = queue.buffer(queue.seen.wrapping_add(at) % SIZE);
            for octet in [0, 64].map(|skip| guest.ram.octet(place + skip)) {
                match write {
                    true => octet.store(0, Ordering::Relaxed),
                    false => _ = std::hint::black_box(octet.load(Ordering::Relaxed)),
                }
            }
        }
    }
}

/// The guest's part: it sends again what came back, and gives again what was written to. Heads are where they were: the port
/// gives chains back in order.
fn turn(guest: &mut Guest) {
    for queue in &mut guest.queues {
        let used = queue.used_index(&guest.ram);
        let back = used.wrapping_sub(queue.seen);
        if back > 0 {
            queue.seen = used;
            queue.next = queue.next.wrapping_add(back);
            queue.publish(&guest.ram, queue.next);
        }
    }
}
