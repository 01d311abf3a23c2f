//! `flow-relay` at both ends, killed at random moments: every datagram is delivered once, in order.
//!
//! The exporter's socket is the test's own, as it is systemd's where flow-relay is a service: what arrives while no
//! sender runs waits in it. A relay of TCP between the two ends loses connections at random too. `KILLS=` says how often
//! one of the daemons is killed (`make relay-kills`: 1,000).

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::place::{End, Place, datagram};

/// Datagrams that may be under way.
const AHEAD: u64 = 3000;

/// Numbers without a pattern, from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What the exporter has sent and the collector has got.
#[derive(Default)]
struct Traffic {
    sent: AtomicU64,
    got: AtomicU64,
    stop: AtomicBool,
}

impl Traffic {
    /// Sends without pause, but never so much ahead of the collector that a socket would have to drop it.
    fn export(&self, to: SocketAddr) {
        let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
        while !self.stop.load(Ordering::Acquire) {
            let sent = self.sent.load(Ordering::Acquire);
            if sent >= self.got.load(Ordering::Acquire) + AHEAD {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            exporter.send_to(&datagram(sent + 1), to).unwrap();
            self.sent.store(sent + 1, Ordering::Release);
        }
    }

    /// Reads until nothing has come for a while after the end; each datagram is to be the next.
    fn collect(&self, collector: &UdpSocket) -> Result<(), String> {
        collector.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut buffer = vec![0; 65_536];
        let mut idle = Instant::now();
        loop {
            let Ok(length) = collector.recv(&mut buffer) else {
                let (sent, got) = (self.sent.load(Ordering::Acquire), self.got.load(Ordering::Acquire));
                match self.stop.load(Ordering::Acquire) {
                    true if sent == got && idle.elapsed() > Duration::from_secs(1) => return Ok(()),
                    true if idle.elapsed() > Duration::from_secs(60) => return Err(format!("{got} of {sent} came")),
                    _ => continue,
                }
            };
            idle = Instant::now();
            let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
            let expected = self.got.load(Ordering::Acquire) + 1;
            if number != expected || buffer[..length] != datagram(number) {
                return Err(format!("{number} came where {expected} was due"));
            }
            self.got.store(number, Ordering::Release);
        }
    }
}

/// Passes connections on, and breaks them when told. Octets after the break are lost, wherever a frame is cut.
struct Proxy {
    address: SocketAddr,
    breaks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (breaks, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let proxy = Proxy { address: listener.local_addr().unwrap(), breaks: breaks.clone(), stop: stop.clone() };
        std::thread::spawn(move || {
            while !stop.load(Ordering::Acquire) {
                let Ok((here, _)) = listener.accept() else { return };
                let Ok(there) = TcpStream::connect(to) else { continue };
                for (from, to) in [(here.try_clone(), there.try_clone()), (there.try_clone(), here.try_clone())] {
                    let (from, to, breaks) = (from.unwrap(), to.unwrap(), breaks.clone());
                    std::thread::spawn(move || pass(from, to, &breaks));
                }
            }
        });
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, breaks: &AtomicU64) {
    use std::io::Read;
    let era = breaks.load(Ordering::Acquire);
    let mut buffer = vec![0; 4099];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if breaks.load(Ordering::Acquire) != era {
            // Half of it arrives.
            let _ = to.write_all(&buffer[..length / 2]);
            break;
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn every_datagram_is_delivered_once_in_order_however_often_either_end_is_killed() {
    let kills: u64 = std::env::var("KILLS").map_or(20, |kills| kills.parse().unwrap());
    let seed = std::env::var("SEED").map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let place = Place::new();
    let proxy = Proxy::start(place.receiver);
    let key = place.shared("shared.key");
    place.write(proxy.address, "retry = \"exact\"", [&key, &key]);
    let mut ends = VecDeque::from([(true, place.receiver()), (false, place.sender())]);
    let traffic = Traffic::default();
    let started = Instant::now();
    let to = place.input.local_addr().unwrap();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| traffic.export(to));
        let collector = scope.spawn(|| traffic.collect(&place.collector));
        for _ in 0..kills {
            std::thread::sleep(Duration::from_micros(random.below(100_000)));
            if collector.is_finished() {
                break;
            }
            wound(&place, &proxy, &mut ends, &mut random);
            // Else the schedule of retries decides how long a round takes.
            std::thread::sleep(Duration::from_micros(20_000 + random.below(30_000)));
            place.retry();
        }
        traffic.stop.store(true, Ordering::Release);
        while !collector.is_finished() {
            std::thread::sleep(Duration::from_millis(300));
            place.retry();
        }
        collector.join().unwrap()
    });
    if let Err(reason) = outcome {
        let (sender, receiver) = (place.status(false), place.status(true));
        panic!("seed {seed}: {reason}\nsender {sender:#}\nreceiver {receiver:#}\n{}", place.logged("receive.log"));
    }
    let sent = traffic.sent.load(Ordering::Acquire);
    println!("{sent} datagrams, {kills} kills, {:.1} s", started.elapsed().as_secs_f64());
    no_plaintext(&place.path("spool"));
    no_plaintext(&place.path("state"));
}

/// Kills an end, or both, or breaks the connection, and starts anew what was killed.
fn wound(place: &Place, proxy: &Proxy, ends: &mut VecDeque<(bool, End)>, random: &mut Random) {
    let start = |receiver| (receiver, if receiver { place.receiver() } else { place.sender() });
    match random.below(5) {
        0 => {
            ends.iter_mut().for_each(|(_, end)| end.0.kill().unwrap());
            for (receiver, end) in std::mem::take(ends) {
                drop(end);
                ends.push_back(start(receiver));
            }
        }
        1 => {
            proxy.breaks.fetch_add(1, Ordering::AcqRel);
        }
        _ => {
            ends.rotate_left(random.below(2) as usize);
            let (receiver, end) = ends.pop_front().unwrap();
            drop(end);
            ends.push_back(start(receiver));
        }
    }
}

fn no_plaintext(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let octets = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!octets.windows(9).any(|window| window == b"PLAINTEXT"), "{}", dir.display());
    }
}
