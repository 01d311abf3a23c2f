//! Round trips of small UDP datagrams between two VMs, one at a time.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::cpu;
use crate::error::{Error, Result, Tried};
use crate::lab::plan::Vm;
use crate::netns;

const PORT: u16 = 7;
/// Octets of payload; the frame is a small one.
const PAYLOAD: usize = 18;
/// Round trips before the first that counts.
const WARM: u32 = 200;
/// Fewer than that say nothing about the hundredth part.
const ENOUGH: usize = 300;

/// How long round trips took.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RoundTrip {
    /// Half of them took at most this, microseconds.
    pub p50_us: f64,
    /// All but a hundredth took at most this.
    pub p99_us: f64,
}

/// Where the two ends run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// Wherever the machine puts them.
    Anywhere,
    /// On the generators' core, before everything else there: as if each had a machine of its own.
    First,
}

impl Ends {
    fn take_place(self) -> Result<()> {
        match self {
            Ends::Anywhere => Ok(()),
            Ends::First => cpu::pin_here(cpu::LOAD_CORE).and_then(|()| cpu::first_here()),
        }
    }
}

/// Sends datagrams there and back for `limit`.
pub fn measure(from: &Vm, to: &Vm, limit: Duration, ends: Ends) -> Result<RoundTrip> {
    let socket = |vm: &Vm, port: u16| {
        let socket = netns::within(&vm.netns, || UdpSocket::bind((vm.ip, port)).tried(vm.name.clone()))?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).tried("read timeout")?;
        Ok::<_, Error>(socket)
    };
    let (near, far) = (socket(from, 0)?, socket(to, PORT)?);
    near.connect(SocketAddr::from((to.ip, PORT))).tried("connecting")?;
    let over = AtomicBool::new(false);
    let panicked = || Error::State("an end of the round trips panicked".to_owned());
    let times = std::thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let mut buffer = [0; 64];
            ends.take_place()?;
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = far.recv_from(&mut buffer) {
                    // A lost answer is a lost round trip.
                    let _ = far.send_to(&buffer[..length], peer);
                }
            }
            Ok(())
        });
        let times = scope.spawn(|| ends.take_place().and_then(|()| trips(&near, limit))).join();
        over.store(true, Ordering::Relaxed);
        echo.join().unwrap_or_else(|_| Err(panicked()))?;
        times.unwrap_or_else(|_| Err(panicked()))
    })?;
    summary(times).ok_or_else(|| Error::Unmet(format!("{} to {}: too few round trips", from.name, to.name)))
}

/// Microseconds of each round trip that was answered.
fn trips(socket: &UdpSocket, limit: Duration) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let mut buffer = [0; 64];
    let (mut number, mut end) = (0u32, Instant::now() + limit);
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(times);
        }
        number += 1;
        let mut payload = [0; PAYLOAD];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        socket.send(&payload).tried("sending a datagram")?;
        // An answer that comes late is not taken for that of a later datagram.
        while let Ok(length) = socket.recv(&mut buffer) {
            if buffer[..length].starts_with(&payload[..4]) {
                times.push(start.elapsed().as_secs_f64() * 1e6);
                break;
            }
        }
        if number == WARM {
            times.clear();
            end = Instant::now() + limit;
        }
    }
}

fn summary(mut times: Vec<f64>) -> Option<RoundTrip> {
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied();
    if times.len() < ENOUGH {
        return None;
    }
    Some(RoundTrip { p50_us: at(50)?, p99_us: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let times = (1..=1000).rev().map(f64::from).collect();
        assert_eq!(summary(times), Some(RoundTrip { p50_us: 501.0, p99_us: 991.0 }));
        assert_eq!(summary(vec![1.0; 299]), None);
    }
}
