//! A collector of NetFlow version 5 that loses nothing: it adds up what it is told, by protocol and ports.
//!
//! What is exported is judged by nfdump in the tests. Here the sums of millions of packets in hundreds of thousands of
//! records are wanted, right after a burst of export datagrams, on a core that a generator of frames shares: so the
//! socket has room for all of it, and no file is in between.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::cpu;
use crate::error::{Result, Tried};
use crate::netns;

/// Where it listens.
pub const PORT: u16 = 2056;
/// Room for bursts, octets.
const ROOM: usize = 64 << 20;
const HEADER: usize = 24;
const RECORD: usize = 48;

/// What tells sums apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kind {
    /// IP protocol.
    pub protocol: u8,
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
}

/// What has been told until now.
#[derive(Default, Debug)]
struct Told {
    packets: HashMap<Kind, u64>,
    /// Number that the next datagram's first record has, by the exporter's count.
    next: Option<u32>,
    /// Records that never came.
    missed: u64,
}

impl Told {
    /// Takes in a datagram; one that is not NetFlow version 5 is none of ours.
    fn add(&mut self, datagram: &[u8]) {
        let Some((header, records)) = datagram.split_at_checked(HEADER) else { return };
        let word = |part: &[u8], at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
        let long = |part: &[u8], at: usize| u32::from(word(part, at)) << 16 | u32::from(word(part, at + 2));
        if word(header, 0) != 5 {
            return;
        }
        let (count, sequence) = (usize::from(word(header, 2)), long(header, 16));
        if let Some(next) = self.next {
            // An exporter that was configured anew counts from the start again.
            self.missed += u64::from(sequence.saturating_sub(next));
        }
        self.next = Some(sequence.wrapping_add(count as u32));
        for record in records.chunks_exact(RECORD).take(count) {
            let kind = Kind { protocol: record[38], from_port: word(record, 32), to_port: word(record, 34) };
            *self.packets.entry(kind).or_default() += u64::from(long(record, 16));
        }
    }

    fn packets(&self, fits: impl Fn(&Kind) -> bool) -> u64 {
        self.packets.iter().filter(|(kind, _)| fits(kind)).map(|(_, packets)| packets).sum()
    }
}

/// A running collector.
pub struct Collector {
    told: Arc<Mutex<Told>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Collector {
    /// Listens in a namespace.
    pub fn start(netns: &str, address: Ipv4Addr) -> Result<Collector> {
        let socket = netns::within(netns, || UdpSocket::bind((address, PORT)).tried("collector"))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).tried("receive buffer")?;
        socket.set_read_timeout(Some(Duration::from_millis(100))).tried("read timeout")?;
        let (told, over) = (Arc::new(Mutex::new(Told::default())), Arc::new(AtomicBool::new(false)));
        let (sums, end) = (told.clone(), over.clone());
        let listen = move || {
            cpu::pin_here(cpu::LOAD_CORE)?;
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    sums.lock().unwrap_or_else(PoisonError::into_inner).add(&buffer[..length]);
                }
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("collector".to_owned()).spawn(listen).tried("collector")?;
        Ok(Collector { told, over, thread: Some(thread) })
    }

    /// Packets of the records that fit.
    pub fn packets(&self, fits: impl Fn(&Kind) -> bool) -> u64 {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).packets(fits)
    }

    /// Records that were sent and never came, by the exporter's own count.
    pub fn missed(&self) -> u64 {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).missed
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that would still matter.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(sequence: u32, packets: &[u32]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[1] = 5;
        out[3] = packets.len() as u8;
        out[16..20].copy_from_slice(&sequence.to_be_bytes());
        for count in packets {
            let mut record = [0; RECORD];
            record[16..20].copy_from_slice(&count.to_be_bytes());
            record[32..36].copy_from_slice(&[4, 0, 0, 9]);
            record[38] = 17;
            out.extend(record);
        }
        out
    }

    #[test]
    fn sums_and_gaps() {
        let mut told = Told::default();
        told.add(&datagram(100, &[1, 70_000]));
        told.add(&datagram(102, &[5]));
        assert_eq!((told.packets(|k| k.to_port == 9), told.missed), (70_006, 0));
        told.add(&datagram(107, &[1]));
        assert_eq!(told.missed, 4);
        told.add(&datagram(0, &[0]));
        assert_eq!(told.missed, 4);
        assert_eq!(told.packets(|k| k.protocol == 6), 0);
        let kind = Kind { protocol: 17, from_port: 1024, to_port: 9 };
        assert_eq!(told.packets.get(&kind), Some(&70_007));
    }

    #[test]
    fn what_is_not_netflow_is_left_alone() {
        let mut told = Told::default();
        told.add(&[]);
        told.add(&[0; 23]);
        told.add(&[9; 80]);
        // A record that is cut short.
        told.add(&datagram(1, &[1])[..HEADER + 20]);
        assert_eq!((told.packets(|_| true), told.missed), (0, 0));
    }
}
