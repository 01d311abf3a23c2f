//! The sockets of an exporter: each datagram goes to every destination.
//!
//! One connected, non-blocking UDP socket for each destination, so that the host's errors ("connection refused" of a
//! collector that does not run) come back to the one they are about. A refusal tells of an earlier datagram, is noted
//! against it, and the datagram at hand is tried again. After another error the socket is made anew, at most once a second.
//! Nothing waits: what the host does not take is counted and gone, and the sequence tells the collector.
//!
//! A destination that is reached otherwise has a way of its own ([`super::transport`]).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use proto::flow::{Exporter, Transport};
use proto::report::ExporterRow;
use rustix::net::sockopt;
use vswitch::time::Instant;

use super::message::{Datagram, Weight};
use super::transport::Credentials;
use super::transport::relay::Relay;
use super::transport::session::Progress;
use super::transport::stream::Stream;

/// Time between attempts to open a socket.
const RETRY: Duration = Duration::from_secs(1);
/// Send buffer, octets: a burst of some hundred datagrams. The kernel gives less if its limit is lower.
const SEND_BUFFER: u32 = 1 << 20;

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Delivery {
    /// Destinations whose socket took it.
    pub accepted: usize,
    /// A socket had an error: a collector may have missed templates.
    pub disturbed: bool,
}

/// The destinations of an exporter; none at first.
#[derive(Debug, Default)]
pub struct Sender {
    dscp: u8,
    send_buffer: u32,
    transport: Option<Transport>,
    credentials: Arc<Credentials>,
    targets: Vec<Target>,
}

/// What a socket is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Marks {
    dscp: u8,
    send_buffer: u32,
}

/// Gives what a socket sends a code point: of the octet that IPv4 calls type of service, and IPv6 traffic class.
pub(super) fn mark(socket: impl AsFd, address: SocketAddr, dscp: u8) -> rustix::io::Result<()> {
    match address {
        SocketAddr::V4(_) => sockopt::set_ip_tos(socket, dscp << 2),
        SocketAddr::V6(_) => sockopt::set_ipv6_tclass(socket, (dscp << 2).into()),
    }
}

impl Marks {
    fn set(self, socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
        mark(socket, address, self.dscp)?;
        sockopt::set_socket_send_buffer_size(socket, self.send_buffer as usize)?;
        Ok(())
    }
}

/// The way to a destination.
#[derive(Debug)]
enum Way {
    Udp,
    Stream(Box<Stream>),
    Relay(Relay),
}

#[derive(Debug)]
struct Target {
    address: SocketAddr,
    way: Way,
    socket: Option<UdpSocket>,
    retry_at: Option<Instant>,
    sent: Counts,
    failed: Counts,
    /// The datagram that a refusal would be about.
    last: Option<(Weight, u64)>,
    errors: u64,
    last_error: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    datagrams: u64,
    records: u64,
    templates: u64,
    octets: u64,
}

impl Counts {
    fn of(weight: Weight, octets: u64) -> Self {
        Counts { datagrams: 1, records: weight.flows.into(), templates: weight.templates.into(), octets }
    }

    fn of_stream((datagrams, weight, octets): (u64, Weight, u64)) -> Self {
        Counts { datagrams, ..Counts::of(weight, octets) }
    }

    fn add(&mut self, other: Counts) {
        self.datagrams += other.datagrams;
        self.records += other.records;
        self.templates += other.templates;
        self.octets += other.octets;
    }

    fn take(&mut self, other: Counts) {
        self.datagrams -= other.datagrams;
        self.records -= other.records;
        self.templates -= other.templates;
        self.octets -= other.octets;
    }
}

impl Sender {
    /// One with the keys and certificates of the host.
    pub fn with_credentials(credentials: Arc<Credentials>) -> Self {
        Sender { credentials, ..Sender::default() }
    }

    /// Takes the destinations of `exporter`; those that stay keep socket and counters. DSCP and send buffer are changed on
    /// the sockets that are open. Another transport makes
    /// others of them.
    pub fn configure(&mut self, exporter: &Exporter) {
        let send_buffer = exporter.send_buffer.unwrap_or(SEND_BUFFER);
        if (exporter.dscp, send_buffer) != (self.dscp, self.send_buffer) {
            (self.dscp, self.send_buffer) = (exporter.dscp, send_buffer);
            let marks = self.marks();
            self.targets.iter_mut().for_each(|target| target.mark(marks));
        }
        let transport = exporter.transport.filter(|transport| *transport != Transport::Udp);
        if transport != self.transport {
            self.targets.clear();
        }
        self.transport = transport;
        let mut old = std::mem::take(&mut self.targets);
        for destination in &exporter.destinations {
            let address = destination.address();
            let kept = old.iter().position(|target| target.address == address).map(|index| old.swap_remove(index));
            self.targets.push(kept.unwrap_or_else(|| Target::new(address, self.way(address))));
        }
    }

    fn marks(&self) -> Marks {
        Marks { dscp: self.dscp, send_buffer: self.send_buffer }
    }

    fn way(&self, address: SocketAddr) -> Way {
        let stream = |tls| Way::Stream(Box::new(Stream::new(address, tls)));
        match self.transport {
            None | Some(Transport::Udp) => Way::Udp,
            Some(Transport::Tcp) => stream(None),
            Some(Transport::Tls) => stream(Some(self.credentials.tls.clone())),
            Some(Transport::Relay) => Way::Relay(Relay::new(address, Arc::clone(&self.credentials))),
        }
    }

    /// Time has passed: ways that have something waiting send it.
    pub fn tick(&mut self, now: Instant) {
        self.targets.iter_mut().for_each(|target| target.tick(self.dscp, now));
    }

    /// Closes the sockets; the next datagram opens them.
    pub fn close(&mut self) {
        self.targets.iter_mut().for_each(|target| (target.socket, target.retry_at) = (None, None));
    }

    /// Counts a datagram that is not sent.
    pub fn give_up(&mut self, datagram: &Datagram) {
        let counts = Counts::of(datagram.weight, datagram.bytes.len() as u64);
        self.targets.iter_mut().for_each(|target| target.failed.add(counts));
    }

    /// Sends a datagram to every destination.
    pub fn send(&mut self, datagram: &Datagram, now: Instant) -> Delivery {
        let mut delivery = Delivery::default();
        let marks = self.marks();
        for target in &mut self.targets {
            let errors = target.errors;
            delivery.accepted += usize::from(target.send(datagram, marks, now));
            delivery.disturbed |= target.errors != errors;
        }
        delivery
    }

    /// A row for each destination, of a stream whose next datagram has the number `sequence`.
    pub fn rows(&self, name: &str, not_exportable: u64, sequence: Option<u32>) -> Vec<ExporterRow> {
        let row = |target: &Target| ExporterRow {
            name: name.to_owned(),
            destination: target.address.to_string(),
            datagrams: target.sent.datagrams,
            records: target.sent.records,
            templates: target.sent.templates,
            octets: target.sent.octets,
            failed_datagrams: target.failed.datagrams,
            failed_records: target.failed.records,
            not_exportable,
            last_error: target.error(),
            sequence,
            errors: Some(target.errors),
        };
        self.targets.iter().map(row).collect()
    }
}

impl Target {
    fn new(address: SocketAddr, way: Way) -> Self {
        Target {
            address,
            way,
            socket: None,
            retry_at: None,
            sent: Counts::default(),
            failed: Counts::default(),
            last: None,
            errors: 0,
            last_error: None,
        }
    }

    /// Tells the open socket; one that does not take it is closed, and the next datagram opens another.
    fn mark(&mut self, marks: Marks) {
        if let Some(socket) = &self.socket
            && let Err(error) = marks.set(socket, self.address)
        {
            self.errors += 1;
            self.last_error = Some(error.to_string());
            self.socket = None;
        }
    }

    fn error(&self) -> Option<String> {
        match &self.way {
            Way::Udp => self.last_error.clone(),
            Way::Stream(stream) => stream.error().map(str::to_owned),
            Way::Relay(relay) => relay.error().map(str::to_owned),
        }
    }

    fn tick(&mut self, dscp: u8, now: Instant) {
        if let Way::Stream(stream) = &mut self.way {
            let progress = stream.tick(dscp, now);
            self.count(progress);
        }
    }

    fn count(&mut self, progress: Progress) {
        self.sent.add(Counts::of_stream(progress.sent));
        self.failed.add(Counts::of_stream(progress.lost));
    }

    /// Sends a datagram, and says whether the host took it, or it waits for a connection.
    fn send(&mut self, datagram: &Datagram, marks: Marks, now: Instant) -> bool {
        let octets = datagram.bytes.len() as u64;
        match &mut self.way {
            Way::Udp => {}
            Way::Stream(stream) => {
                let progress = stream.offer(datagram);
                self.count(progress);
                return true;
            }
            Way::Relay(relay) => {
                let taken = relay.offer(&datagram.bytes, now);
                let counts = if taken { &mut self.sent } else { &mut self.failed };
                counts.add(Counts::of(datagram.weight, octets));
                return taken;
            }
        }
        match self.try_send(&datagram.bytes, marks, now) {
            Ok(()) => {
                self.sent.add(Counts::of(datagram.weight, octets));
                self.last = Some((datagram.weight, octets));
                true
            }
            Err(error) => {
                self.errors += 1;
                if let Some(error) = error {
                    self.last_error = Some(error.to_string());
                }
                self.failed.add(Counts::of(datagram.weight, octets));
                false
            }
        }
    }

    /// The error is `None` while the time to try again has not come.
    fn try_send(&mut self, bytes: &[u8], marks: Marks, now: Instant) -> Result<(), Option<io::Error>> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None if self.retry_at.is_some_and(|at| now < at) => return Err(None),
            None => self.open(marks, now).map_err(Some)?,
        };
        let mut sent = socket.send(bytes);
        if let Err(error) = &sent
            && error.kind() == io::ErrorKind::ConnectionRefused
        {
            self.refuse_last(error.to_string());
            sent = socket.send(bytes);
        }
        match sent {
            Ok(_) => self.socket = Some(socket),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {
                self.socket = Some(socket);
                return Err(Some(error));
            }
            Err(error) => {
                self.retry_at = Some(now_plus_retry(now));
                return Err(Some(error));
            }
        }
        Ok(())
    }

    fn open(&mut self, marks: Marks, now: Instant) -> io::Result<UdpSocket> {
        self.retry_at = Some(now_plus_retry(now));
        let socket = match self.address {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        socket.set_nonblocking(true)?;
        marks.set(&socket, self.address)?;
        socket.connect(self.address)?;
        Ok(socket)
    }

    /// The collector's host refused the last datagram: it was not sent after all.
    fn refuse_last(&mut self, error: String) {
        self.errors += 1;
        self.last_error = Some(error);
        if let Some((weight, octets)) = self.last.take() {
            let counts = Counts::of(weight, octets);
            self.sent.take(counts);
            self.failed.add(counts);
        }
    }
}

fn now_plus_retry(now: Instant) -> Instant {
    Instant::from_ns(now.ns().saturating_add(RETRY.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use proto::flow::{Destination, Version};

    use super::*;

    fn exporter(ports: &[u16], dscp: u8) -> Exporter {
        let destination = |port: &u16| Destination::new(Ipv4Addr::LOCALHOST.into(), *port);
        Exporter {
            name: "e".into(),
            destinations: ports.iter().map(destination).collect(),
            version: Version::V9,
            dscp,
            template_timeout_s: 60,
            option_timeout_s: 60,
            payload_max: 1400,
            ..Exporter::default()
        }
    }

    fn collector() -> (UdpSocket, u16) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let port = socket.local_addr().unwrap().port();
        (socket, port)
    }

    fn datagram(flows: u32) -> Datagram {
        Datagram { bytes: vec![9; 100], weight: Weight { flows, templates: 1, ..Weight::default() } }
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2000];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    const NOW: Instant = Instant::from_ms(1000);

    #[test]
    fn every_destination_gets_every_datagram() {
        let ((a, port_a), (b, port_b)) = (collector(), collector());
        let mut sender = Sender::default();
        sender.configure(&exporter(&[port_a, port_b], 0));
        assert_eq!(sender.send(&datagram(3), NOW), Delivery { accepted: 2, disturbed: false });
        assert_eq!(receive(&a), receive(&b));
        let rows = sender.rows("e", 7, None);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].destination, format!("127.0.0.1:{port_b}"));
        assert_eq!((rows[1].datagrams, rows[1].records, rows[1].templates, rows[1].octets), (1, 3, 1, 100));
        assert_eq!(rows[1].not_exportable, 7);
    }

    #[test]
    fn the_socket_has_the_dscp() {
        let (_collector, port) = collector();
        let mut sender = Sender::default();
        sender.configure(&exporter(&[port], 46));
        sender.send(&datagram(1), NOW);
        let socket = sender.targets[0].socket.as_ref().unwrap();
        assert_eq!(sockopt::ip_tos(socket).unwrap(), 46 << 2);
    }

    #[test]
    fn a_collector_by_ipv6_gets_the_datagrams_with_the_dscp() {
        let collector = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        collector.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let port = collector.local_addr().unwrap().port();
        let mut sender = Sender::default();
        let destinations = vec![Destination::new(Ipv6Addr::LOCALHOST.into(), port)];
        sender.configure(&Exporter { destinations, ..exporter(&[], 46) });
        assert_eq!(sender.send(&datagram(3), NOW), Delivery { accepted: 1, disturbed: false });
        assert_eq!(receive(&collector), datagram(3).bytes);
        let socket = sender.targets[0].socket.as_ref().unwrap();
        assert_eq!(sockopt::ipv6_tclass(socket).unwrap(), 46 << 2);
        assert_eq!(sender.rows("e", 0, None)[0].destination, format!("[::1]:{port}"));
    }

    #[test]
    fn dscp_and_send_buffer_change_on_the_open_socket() {
        let (_collector, port) = collector();
        let mut sender = Sender::default();
        sender.configure(&exporter(&[port], 0));
        sender.send(&datagram(1), NOW);
        let local = sender.targets[0].socket.as_ref().unwrap().local_addr().unwrap();
        sender.configure(&Exporter { send_buffer: Some(32_768), ..exporter(&[port], 10) });
        let socket = sender.targets[0].socket.as_ref().unwrap();
        assert_eq!(socket.local_addr().unwrap(), local, "no datagram is lost with the socket");
        assert_eq!(sockopt::ip_tos(socket).unwrap(), 10 << 2);
        // The kernel doubles it, for its own records.
        assert_eq!(rustix::net::sockopt::socket_send_buffer_size(socket).unwrap(), 65_536);
    }

    #[test]
    fn a_refusal_counts_against_the_refused_datagram_and_the_next_is_sent() {
        let (socket, port) = collector();
        drop(socket);
        let mut sender = Sender::default();
        sender.configure(&exporter(&[port], 0));
        assert_eq!(sender.send(&datagram(5), NOW), Delivery { accepted: 1, disturbed: false });
        let again = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        again.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(sender.send(&datagram(1), NOW), Delivery { accepted: 1, disturbed: true });
        assert_eq!(receive(&again).len(), 100);
        let row = sender.rows("e", 0, None).remove(0);
        assert_eq!((row.datagrams, row.records, row.failed_datagrams, row.failed_records), (1, 1, 1, 5));
        assert!(row.last_error.unwrap().contains("refused"));
    }

    #[test]
    fn a_destination_that_cannot_be_reached_is_counted_and_tried_again_later() {
        let mut unreachable = exporter(&[9], 0);
        unreachable.destinations[0].addr = Ipv4Addr::BROADCAST.into();
        let mut sender = Sender::default();
        sender.configure(&unreachable);
        for _ in 0..2 {
            assert_eq!(sender.send(&datagram(2), NOW), Delivery { accepted: 0, disturbed: true });
        }
        let row = sender.rows("e", 0, None).remove(0);
        assert_eq!((row.datagrams, row.failed_datagrams, row.failed_records), (0, 2, 4));
        assert!(row.last_error.is_some());
        assert_eq!(sender.targets[0].retry_at, Some(Instant::from_ms(2000)));
        sender.send(&datagram(2), Instant::from_ms(2000));
        assert_eq!(sender.targets[0].retry_at, Some(Instant::from_ms(3000)), "tried again");
    }

    #[test]
    fn a_destination_that_stays_keeps_its_counters_and_its_socket() {
        let ((_a, port_a), (_b, port_b)) = (collector(), collector());
        let mut sender = Sender::default();
        sender.configure(&exporter(&[port_a], 0));
        sender.send(&datagram(1), NOW);
        let local =
            |sender: &Sender, index: usize| sender.targets[index].socket.as_ref().unwrap().local_addr().unwrap();
        let before = local(&sender, 0);
        sender.configure(&exporter(&[port_b, port_a], 0));
        assert_eq!(local(&sender, 1), before);
        assert_eq!(sender.rows("e", 0, None).iter().map(|row| row.datagrams).collect::<Vec<_>>(), [0, 1]);
    }
}
