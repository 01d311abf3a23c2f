//! Copies frames between two taps and does nothing else: what the kernel's tap interface costs. A switch between the same
//! two taps can't be faster, so this is what benches hold it against.
//!
//! `bare_loop TAP TAP [plain | single | coalesce]` opens or makes both taps (with virtio header, unless `plain`), prints
//! `ready`, and copies until its standard input ends; then it prints how many frames and octets it copied, and how many a
//! tap did not take. It reads a batch and writes it, frame by frame; `single` writes each frame before it reads the next,
//! and `coalesce` joins the frames of a batch as the switch does.

use std::error::Error;
use std::os::fd::AsFd;

use rustix::event::epoll;
use vswitch::coalesce::Mode;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::Port;
use vswitch::port::tap::{Settings, Tap};

const USAGE: &str = "usage: bare_loop TAP TAP [plain | single | coalesce]";

#[derive(Default)]
struct Total {
    frames: u64,
    octets: u64,
    lost: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ([first, second] | [first, second, _]) = arguments.as_slice() else { return Err(USAGE.into()) };
    let (vnet, coalesce, batch) = match arguments.get(2).map(String::as_str) {
        None => (true, Mode::Off, BATCH),
        Some("plain") => (false, Mode::Off, BATCH),
        Some("single") => (true, Mode::Off, 1),
        Some("coalesce") => (true, Mode::Exact, BATCH),
        Some(_) => return Err(USAGE.into()),
    };
    let settings = Settings { vnet, coalesce, queues: 1 };
    let mut taps = [Tap::open_with(first, settings)?, Tap::open_with(second, settings)?];
    let stdin = std::io::stdin();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, tap) in taps.iter().enumerate() {
        let fd = tap.readiness().ok_or("a tap has a file")?;
        epoll::add(&epoll, fd, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
    }
    epoll::add(&epoll, stdin.as_fd(), epoll::EventData::new_u64(2), epoll::EventFlags::IN)?;
    println!("ready");

    let mut buffers: Vec<Buffer> = (0..batch).map(Buffer::new).collect();
    let mut events = Vec::with_capacity(8);
    let mut total = Total::default();
    loop {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &events {
            let [a, b] = &mut taps;
            match event.data.u64() {
                0 => copy(a, b, &mut buffers, &mut total)?,
                1 => copy(b, a, &mut buffers, &mut total)?,
                _ => {
                    println!("frames {} octets {} lost {}", total.frames, total.octets, total.lost);
                    return Ok(());
                }
            }
        }
    }
}

/// What is there, at most a batch, from a tap to the other; in turns of as many frames as there are buffers.
fn copy(from: &mut Tap, to: &mut Tap, buffers: &mut [Buffer], total: &mut Total) -> Result<(), vswitch::port::Error> {
    for _ in 0..BATCH / buffers.len() {
        if !turn(from, to, buffers, total)? {
            break;
        }
    }
    Ok(())
}

/// `false` when nothing was there.
fn turn(from: &mut Tap, to: &mut Tap, buffers: &mut [Buffer], total: &mut Total) -> Result<bool, vswitch::port::Error> {
    let received = from.rx(buffers)?;
    let empty = TxFrame { head: &[], rest: &[], vnet: Default::default(), copy: false };
    let mut frames = [empty; BATCH];
    for (frame, buffer) in frames.iter_mut().zip(buffers.iter()).take(received) {
        *frame = TxFrame { head: &[], rest: buffer.frame(), vnet: buffer.vnet, copy: false };
        total.octets += buffer.frame().len() as u64;
    }
    let sent = to.tx(frames.get(..received).unwrap_or_default());
    total.frames += received as u64;
    total.lost += (received - sent.accepted) as u64;
    Ok(received > 0)
}
