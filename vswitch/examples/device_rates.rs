//! What a frame costs on its way through an existing device: packet sockets with one frame a call, with batches, and AF_XDP.
//!
//! ```text
//! cargo build --release -p vswitch --example device_rates
//! unshare -n target/release/examples/device_rates [ROUNDS]
//! ```
//!
//! A veth pair, all in one thread, so that nothing depends on who runs beside us: CPU time of the thread, which holds the
//! kernel's work for our frames too. Every variant in every round, one after the other; the table gives the medians, in
//! nanoseconds a frame.
//!
//! * `send`: from us to the far end, where the host drops it.
//! * `deliver`: a frame sent at the far end until it waits for us. What the sending itself costs is in it, and the same for all.
//! * `take`: from where it waits into our buffer.

use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::Port;
use vswitch::port::netdev::Netdev;
use vswitch::port::xdp::{Mode, Xdp};

/// Frames of one measurement: they fit into every queue.
const FRAMES: usize = 512;
/// Measurements of one variant in a round.
const REPEATS: usize = 40;

#[derive(Clone, Copy, Debug)]
enum Variant {
    PacketOne,
    Packet,
    XdpNative,
    XdpGeneric,
}

const VARIANTS: [Variant; 4] = [Variant::PacketOne, Variant::Packet, Variant::XdpNative, Variant::XdpGeneric];

impl Variant {
    fn open(self) -> Box<dyn Port> {
        let xdp = |mode| Box::new(Xdp::open("rate0", &[mode]).expect("AF_XDP"));
        match self {
            Variant::PacketOne | Variant::Packet => Box::new(Netdev::open("rate0").expect("AF_PACKET")),
            Variant::XdpNative => xdp(Mode::Native),
            Variant::XdpGeneric => xdp(Mode::Generic),
        }
    }

    /// Frames a call.
    fn batch(self) -> usize {
        if matches!(self, Variant::PacketOne) { 1 } else { BATCH }
    }
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split_whitespace()).status().expect("ip");
    assert!(status.success(), "ip {words}");
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs().try_into().unwrap_or(0))
}

fn send(port: &mut dyn Port, frame: &[u8], batch: usize) -> Duration {
    let one = TxFrame { head: &frame[..12], rest: &frame[12..], vnet: VnetHdr::PLAIN, copy: false };
    let (frames, mut sent) = ([one; BATCH], 0);
    let begin = cpu();
    while sent < FRAMES {
        sent += port.tx(&frames[..batch]).accepted;
    }
    cpu() - begin
}

fn take(port: &mut dyn Port, buffers: &mut [Buffer], batch: usize) -> (usize, Duration) {
    let (begin, mut taken) = (cpu(), 0);
    loop {
        match port.rx(&mut buffers[..batch]).expect("the device is there") {
            0 => return (taken, cpu() - begin),
            count => taken += count,
        }
    }
}

/// Nanoseconds a frame: send, deliver, take.
fn measure(variant: Variant, len: usize) -> [f64; 3] {
    let mut frame = vec![0; len];
    frame[..14].copy_from_slice(b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x88\xb5");
    let (mut port, mut far) = (variant.open(), Netdev::sender("rate1").expect("AF_PACKET"));
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    let mut times = [Duration::ZERO; 3];
    let mut frames = [0; 3];
    for repeat in 0..=REPEATS {
        let sending = send(&mut *port, &frame, variant.batch());
        let delivering = send(&mut far, &frame, BATCH);
        // What the kernel puts off until later is done by then.
        std::thread::sleep(Duration::from_millis(2));
        let (taken, taking) = take(&mut *port, &mut buffers, variant.batch());
        // The first is for the caches.
        if repeat > 0 {
            for (at, (time, count)) in
                [(sending, FRAMES), (delivering, FRAMES), (taking, taken)].into_iter().enumerate()
            {
                times[at] += time;
                frames[at] += count;
            }
        }
    }
    assert!(frames[2] * 100 >= frames[1] * 99, "{variant:?}: {} of {} frames came", frames[2], frames[1]);
    std::array::from_fn(|at| times[at].as_nanos() as f64 / frames[at] as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(5, |text| text.parse().expect("a number of rounds"));
    ip("link add rate0 type veth peer name rate1");
    ip("link set rate0 up");
    ip("link set rate1 up");
    std::thread::sleep(Duration::from_millis(1500));
    println!("octets variant      send  deliver   take    all  (ns a frame, medians of {rounds})");
    for len in [60, 1514] {
        let mut results = vec![Vec::new(); VARIANTS.len()];
        for _ in 0..rounds {
            for (variant, results) in VARIANTS.iter().zip(&mut results) {
                results.push(measure(*variant, len));
            }
        }
        for (variant, results) in VARIANTS.iter().zip(&results) {
            let [send, deliver, take] = std::array::from_fn(|at| median(results.iter().map(|r| r[at]).collect()));
            let all = send + deliver + take;
            println!("{len:<6} {:<11} {send:>5.0} {deliver:>8.0} {take:>6.0} {all:>6.0}", format!("{variant:?}"));
        }
    }
    ip("link del rate0");
}
