//! A generator of small UDP frames as a Linux stack would send them.
//!
//! Every flow is a connected socket to the receiver: don't-fragment is set, the IP identification counts up within the
//! flow, the UDP checksum is valid unless the traffic is to have none, and each datagram carries its number. Flows come
//! round robin. The frames enter the VM's card past its queueing discipline, 64 with one system call, from one core.
//!
//! The checksums cost an addition each: what a flow's frames have in common is summed once.

use std::thread;
use std::time::{Duration, Instant};

use super::cpu;
use crate::error::Result;
use crate::frames::mac;
use crate::lab::plan::Vm;
use crate::packet::Wire;

/// Octets of a small frame without its FCS: 64 on an Ethernet.
pub const SMALL: usize = 60;
/// Port of the receiver.
pub const UDP_PORT: u16 = 9;
/// Source ports of one address; further flows come from further addresses.
const PORTS: u32 = 60_000;
const BATCH: usize = 64;
/// A sender that is ahead of its rate leaves the core to others for so long.
const SLACK: Duration = Duration::from_micros(100);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Flows, round robin.
    pub flows: u32,
    /// UDP checksums are there.
    pub checksum: bool,
    /// Frames per second; `None`: as many as one core can.
    pub rate: Option<f64>,
}

impl Traffic {
    /// `flows` with checksums, as fast as one core can.
    pub fn full(flows: u32) -> Traffic {
        Traffic { flows, checksum: true, rate: None }
    }
}

struct Flow {
    frame: [u8; SMALL],
    /// Sums of the 16-bit words of the IP header and of the UDP datagram without what changes.
    ip_sum: u32,
    udp_sum: u32,
    number: u32,
}

fn words(octets: &[u8]) -> u32 {
    octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Flow {
    fn new(from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4]), number: u32) -> Flow {
        let mut frame = [0; SMALL];
        let mut source = from.1;
        // Still an address of the VM's network, which the receiver takes for a neighbour.
        source[3] = source[3].wrapping_add((number / PORTS) as u8 * 100);
        frame[..6].copy_from_slice(&to.0);
        frame[6..12].copy_from_slice(&from.0);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, SMALL as u8 - 14, 0, 0, 0x40, 0, 64, 17]);
        frame[26..30].copy_from_slice(&source);
        frame[30..34].copy_from_slice(&to.1);
        frame[34..36].copy_from_slice(&(1024 + (number % PORTS) as u16).to_be_bytes());
        frame[36..38].copy_from_slice(&UDP_PORT.to_be_bytes());
        let length = SMALL as u16 - 34;
        frame[38..40].copy_from_slice(&length.to_be_bytes());
        let ip_sum = words(&frame[14..34]);
        // The pseudo header: addresses, protocol, length (RFC 768).
        let udp_sum = words(&frame[26..]) + 17 + u32::from(length);
        Flow { frame, ip_sum, udp_sum, number: 0 }
    }

    /// The flow's next frame.
    fn next(&mut self, checksum: bool, out: &mut [u8; SMALL]) {
        self.number = self.number.wrapping_add(1);
        let (id, number) = (self.number as u16, self.number.to_be_bytes());
        *out = self.frame;
        out[18..20].copy_from_slice(&id.to_be_bytes());
        out[24..26].copy_from_slice(&fold(self.ip_sum + u32::from(id)).to_be_bytes());
        out[42..46].copy_from_slice(&number);
        if checksum {
            let sum = fold(self.udp_sum + words(&number));
            // A sum of zero is sent as its other form (RFC 768).
            out[40..42].copy_from_slice(&(if sum == 0 { 0xffff } else { sum }).to_be_bytes());
        }
    }
}

/// A generator inside of a VM.
pub struct Sender {
    wire: Wire,
    flows: Vec<Flow>,
    next: usize,
    traffic: Traffic,
    batch: [[u8; SMALL]; BATCH],
}

impl Sender {
    /// Prepares `traffic` from the card of a VM to another one.
    pub fn open(from: &Vm, to: &Vm, traffic: Traffic) -> Result<Sender> {
        let wire = Wire::open(&from.netns, &from.ifname)?;
        wire.bypass_queue()?;
        let (source, target) = ((mac(&from.mac)?, from.ip.octets()), (mac(&to.mac)?, to.ip.octets()));
        let flows = (0..traffic.flows).map(|n| Flow::new(source, target, n)).collect();
        Ok(Sender { wire, flows, next: 0, traffic, batch: [[0; SMALL]; BATCH] })
    }

    /// Sends for some time on the generators' core; returns how many frames the VM's card took.
    pub fn run(&mut self, limit: Duration) -> Result<u64> {
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                cpu::pin_here(cpu::LOAD_CORE)?;
                self.send(limit)
            });
            sending.join().unwrap_or_else(|_| Err(crate::error::Error::State("the sender panicked".to_owned())))
        })
    }

    fn send(&mut self, limit: Duration) -> Result<u64> {
        let start = Instant::now();
        let mut sent = 0;
        loop {
            let elapsed = start.elapsed();
            if elapsed >= limit {
                return Ok(sent);
            }
            if self.traffic.rate.is_some_and(|rate| sent as f64 > rate * elapsed.as_secs_f64()) {
                thread::sleep(SLACK);
                continue;
            }
            for frame in &mut self.batch {
                let Some(flow) = self.flows.get_mut(self.next) else { return Ok(sent) };
                flow.next(self.traffic.checksum, frame);
                self.next = if self.next + 1 < self.traffic.flows as usize { self.next + 1 } else { 0 };
            }
            let frames: Vec<&[u8]> = self.batch.iter().map(<[u8; SMALL]>::as_slice).collect();
            sent += self.wire.send_many(&frames)? as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_a_stack_sends() {
        let (a, b) = (([2, 0, 0, 0, 0, 1], [10, 10, 0, 1]), ([2, 0, 0, 0, 0, 2], [10, 10, 0, 2]));
        for flow in [0, 1, 59_999, 60_000, 99_999] {
            let mut flow = Flow::new(a, b, flow);
            let mut last = [0; SMALL];
            for n in 1..=70_000u32 {
                flow.next(true, &mut last);
                if n % 997 == 0 || n > 65_530 && n < 65_540 {
                    assert_eq!(fold(words(&last[14..34])), 0, "IP header of {n}");
                    assert_eq!(fold(words(&last[26..]) + 17 + 26), 0, "datagram {n}");
                    assert_eq!(last[18..20], (n as u16).to_be_bytes());
                    assert_eq!(last[42..46], n.to_be_bytes());
                }
            }
            flow.next(false, &mut last);
            assert_eq!(last[40..42], [0, 0]);
        }
    }

    #[test]
    fn flows_differ() {
        let (a, b) = (([2; 6], [10, 10, 0, 1]), ([4; 6], [10, 10, 0, 2]));
        let mut keys: Vec<[u8; 12]> =
            (0..100_000).map(|n| Flow::new(a, b, n).frame[26..38].try_into().expect("12 octets")).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 100_000);
    }
}
