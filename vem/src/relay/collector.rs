//! Collectors, by UDP.
//!
//! A connected socket to each, so that a refusal comes back: on this host in the very call, from another host by ICMP a
//! moment later. A collector that refuses is away; it is tried again every second, with the datagram that it refused.
//!
//! UDP has no window. What a collector on this host has not yet read is seen in `/proc/net/udp`, and nothing more is sent to it
//! while that is more than 64 KiB; a collector elsewhere is sent at most the configured rate.
//!
//! With `spoof_source` there is a socket for each exporter's address ([transparent](https://docs.kernel.org/networking/tproxy.html)), at
//! most 256 at a time.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};
use vswitch::port::datagram::Outbox;

use super::queue::Now;
use super::receiver::{Deliver, Delivery};
use super::wire::Data;

/// Time until a collector that is away is tried again, milliseconds.
const AWAY_MS: u64 = 1000;
/// Datagrams between looks at a local collector's queue.
const LOOK: u32 = 8;
/// Octets of memory that a local collector's unread datagrams may take.
const UNREAD_MAX: u64 = 64 << 10;
/// Sockets with others' addresses.
const SPOOFED_MAX: usize = 256;
/// Datagrams that may go at once.
const BURST: u64 = 32;

/// A collector.
pub struct Collector {
    /// Where it is.
    pub address: SocketAddr,
    socket: Option<UdpSocket>,
    spoofed: HashMap<SocketAddr, UdpSocket>,
    retry_ms: u64,
    until_look: u32,
    tokens: u64,
    filled_ms: u64,
    /// Datagrams that it refused.
    pub refused: u64,
    /// Why it is not to be had.
    pub error: Option<String>,
}

/// All of them.
pub struct Collectors {
    /// In the order of the configuration.
    pub all: Vec<Collector>,
    spoof: bool,
    rate: u64,
    now: Now,
}

impl Collectors {
    /// Collectors at these addresses, which get at most `rate` datagrams a second each.
    pub fn new(addresses: &[SocketAddr], spoof: bool, rate: u64) -> Self {
        let collector = |address: &SocketAddr| Collector {
            address: *address,
            socket: None,
            spoofed: HashMap::new(),
            retry_ms: 0,
            until_look: 0,
            tokens: 0,
            filled_ms: 0,
            refused: 0,
            error: None,
        };
        Collectors { all: addresses.iter().map(collector).collect(), spoof, rate, now: Now::default() }
    }

    /// Time has passed: there is room for more.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        for collector in &mut self.all {
            let passed = now.ms.saturating_sub(collector.filled_ms);
            let added = self.rate.saturating_mul(passed) / 1000;
            if added > 0 {
                // A burst, or what the rate gives in a turn of the loop.
                let most = BURST.max(self.rate / 50);
                collector.tokens = collector.tokens.saturating_add(added).min(most);
                collector.filled_ms = now.ms;
            }
        }
    }
}

impl Deliver for Collectors {
    fn deliver(&mut self, outbox: &Outbox, index: usize, data: &Data) -> Delivery {
        let Some(collector) = self.all.get_mut(index) else { return Delivery::Wait };
        if self.now.ms < collector.retry_ms || collector.tokens == 0 || collector.is_behind() {
            return Delivery::Wait;
        }
        let source = Some(data.source).filter(|_| self.spoof);
        match collector.send(outbox, index, data, source) {
            Ok(()) => {
                collector.tokens -= 1;
                collector.error = None;
                Delivery::Done
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Delivery::Wait,
            Err(e) => {
                collector.retry_ms = self.now.ms + AWAY_MS;
                collector.refused += u64::from(e.kind() == ErrorKind::ConnectionRefused);
                if collector.error.is_none() {
                    tracing::warn!("collector {}: {e}", collector.address);
                }
                collector.error = Some(e.to_string());
                Delivery::Away
            }
        }
    }
}

impl Collector {
    fn send(&mut self, outbox: &Outbox, index: usize, data: &Data, source: Option<SocketAddr>) -> io::Result<()> {
        if source.is_some_and(|source| !self.spoofed.contains_key(&source)) && self.spoofed.len() >= SPOOFED_MAX {
            self.spoofed.clear();
        }
        let socket = match source {
            Some(source) => match self.spoofed.entry(source) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => entry.insert(open(self.address, Some(source))?),
            },
            None => match &mut self.socket {
                Some(socket) => socket,
                none => none.insert(open(self.address, None)?),
            },
        };
        let outcome = match outbox.send(index, data.number, socket.as_fd(), &data.octets) {
            // Of an earlier datagram, from another host: too late for that one.
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                outbox.send(index, data.number, socket.as_fd(), &data.octets)
            }
            other => other,
        };
        let refused = socket.take_error();
        outcome?;
        match refused? {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    /// Whether it is on this host and has much to read.
    fn is_behind(&mut self) -> bool {
        if self.until_look > 0 {
            self.until_look -= 1;
            return false;
        }
        let file = if self.address.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
        let behind = std::fs::read_to_string(file).is_ok_and(|table| unread(&table, self.address) > UNREAD_MAX);
        self.until_look = if behind { 0 } else { LOOK };
        behind
    }
}

/// Memory of unread datagrams of whom is at this address, by the kernel's table.
fn unread(table: &str, address: SocketAddr) -> u64 {
    let (exact, any) = match address.ip() {
        IpAddr::V4(ip) => (format!("{:08X}", u32::from_le_bytes(ip.octets())), "0".repeat(8)),
        IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.as_chunks::<4>().0.iter().map(|word| format!("{:08X}", u32::from_le_bytes(*word)));
            (words.collect::<String>(), "0".repeat(32))
        }
    };
    let port = format!("{:04X}", address.port());
    let row = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (ip, at) = columns.next()?.split_once(':')?;
        (at == port && (ip == exact || ip == any)).then_some(())?;
        // Remote address, state, then the queues.
        let (_, unread) = columns.nth(2)?.split_once(':')?;
        u64::from_str_radix(unread, 16).ok()
    };
    table.lines().filter_map(row).max().unwrap_or_default()
}

fn open(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = match from.filter(|from| from.is_ipv4() == to.is_ipv4()) {
        Some(from) => {
            if to.is_ipv4() {
                socket.set_ip_transparent_v4(true)?;
            } else {
                socket.set_freebind_v6(true)?;
            }
            socket.set_reuse_address(true)?;
            from
        }
        None => SocketAddr::new(any, 0),
    };
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_of_unread_datagrams_is_read() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            1: 0100007F:270B 00000000:0000 07 00000000:00000900 00:00000000 00000000     0        0 1 2 0000000000000000 0\n\
            2: 00000000:0807 00000000:0000 07 00000000:00010000 00:00000000 00000000     0        0 1 2 0000000000000000 0\n\
            3: 0200007F:0807 00000000:0000 07 00000000:00020000 00:00000000 00000000     0        0 1 2 0000000000000000 0\n";
        assert_eq!(unread(table, "127.0.0.1:9995".parse().unwrap()), 0x900);
        assert_eq!(unread(table, "127.0.0.1:2055".parse().unwrap()), 0x10000);
        assert_eq!(unread(table, "127.0.0.1:9996".parse().unwrap()), 0);
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..10 {
            here.send_to(&[0; 1400], there.local_addr().unwrap()).unwrap();
        }
        let real = std::fs::read_to_string("/proc/net/udp").unwrap();
        assert!(unread(&real, there.local_addr().unwrap()) > 14_000);
        let six = UdpSocket::bind("[::1]:0").unwrap();
        UdpSocket::bind("[::1]:0").unwrap().send_to(&[0; 1400], six.local_addr().unwrap()).unwrap();
        let real = std::fs::read_to_string("/proc/net/udp6").unwrap();
        assert!(unread(&real, six.local_addr().unwrap()) > 1400);
    }

    fn data(number: u64) -> Data {
        Data { number, received_ns: 0, source: "127.0.0.1:7".parse().unwrap(), octets: vec![number as u8; 1400] }
    }

    #[test]
    fn a_collector_that_is_away_is_tried_again_with_what_it_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&dir.path().join("o")).unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = there.local_addr().unwrap();
        let mut collectors = Collectors::new(&[address], false, 1000);
        let at = |ms| Now { ms, unix_ns: 0 };
        collectors.tick(at(1000));
        assert_eq!(collectors.deliver(&outbox, 0, &data(1)), Delivery::Done);
        drop(there);
        assert_eq!(collectors.deliver(&outbox, 0, &data(2)), Delivery::Away);
        assert_eq!(collectors.deliver(&outbox, 0, &data(2)), Delivery::Wait);
        let there = UdpSocket::bind(address).unwrap();
        collectors.tick(at(2000));
        assert_eq!(collectors.deliver(&outbox, 0, &data(2)), Delivery::Done);
        let mut buffer = [0; 2000];
        assert_eq!((there.recv(&mut buffer).unwrap(), buffer[0]), (1400, 2));
        assert_eq!(collectors.all[0].refused, 1);
    }

    #[test]
    fn a_collector_that_does_not_read_is_not_flooded() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&dir.path().join("o")).unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut collectors = Collectors::new(&[there.local_addr().unwrap()], false, 1_000_000);
        collectors.tick(Now { ms: 1000, unix_ns: 0 });
        let sent = (1..1000).take_while(|n| collectors.deliver(&outbox, 0, &data(*n)) == Delivery::Done).count();
        assert!((10..80).contains(&sent), "{sent}");
        let mut buffer = [0; 2000];
        for n in 1..=sent {
            there.recv(&mut buffer).unwrap();
            assert_eq!(buffer[0], n as u8);
        }
        assert_eq!(collectors.deliver(&outbox, 0, &data(sent as u64 + 1)), Delivery::Done);
    }
}
