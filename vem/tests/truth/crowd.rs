//! The judges: for each version an exporter with three destinations, nfcapd, nfacctd, and a socket of the test for the
//! third decoder and tshark.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proto::flow::{Destination, Exporter, Field, Monitor, Sampler, Sampling, Version};
use vem::export::{self, Anchor, Config, ExportHandle, Interface};
use vswitch::flow::record::Record;
use vswitch::port::PortId;

use super::{Detail, Family, Sums, add, parser};
use crate::export_judges::{Nfacctd, Nfcapd, Stored, drops, queued, tshark, wait_for};

/// The moments of the worker are this long ago.
const PAST: Duration = Duration::from_secs(60);

/// Judges of a version.
struct Seat {
    version: Version,
    nfcapd: Nfcapd,
    nfacctd: Option<Nfacctd>,
    tap: Tap,
}

/// A socket that keeps what it gets.
struct Tap {
    port: u16,
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

/// What the judges of a version heard.
pub struct Heard {
    pub sums: Vec<(&'static str, Sums)>,
    /// Flows of IP with what was read of each packet, as netflow_parser reads them.
    pub details: Vec<Detail>,
    pub not_exportable: u64,
    pub datagrams: Vec<Vec<u8>>,
    stored: Stored,
    nfacctd_log: String,
}

/// All judges, and the exporter.
pub struct Crowd {
    versions: Vec<Version>,
    seats: Vec<Seat>,
    /// How packets are sampled for the monitor.
    samplings: BTreeSet<Sampling>,
    /// The monitor's record, if it has one.
    record: Option<proto::flow::Record>,
    handle: Option<ExportHandle>,
}

impl Tap {
    fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut datagrams = Vec::new();
            let mut buffer = [0; 2000];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => datagrams.push(buffer[..length].to_vec()),
                    Err(_) if told.load(Ordering::Acquire) => return datagrams,
                    Err(_) => {}
                }
            }
        });
        Tap { port, over, thread }
    }

    fn stop(self) -> Vec<Vec<u8>> {
        self.over.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// nfacctd 1.7 reads these.
fn read_by_nfacctd(version: Version) -> bool {
    matches!(version, Version::V5 | Version::V9 | Version::Ipfix)
}

impl Crowd {
    pub fn start(versions: &[Version]) -> Self {
        let seat = |version: &Version| Seat {
            version: *version,
            nfcapd: Nfcapd::start(),
            nfacctd: read_by_nfacctd(*version).then(Nfacctd::start),
            tap: Tap::start(),
        };
        let samplings = BTreeSet::from([Sampling::NONE]);
        Crowd {
            versions: versions.to_vec(),
            seats: versions.iter().map(seat).collect(),
            samplings,
            record: None,
            handle: None,
        }
    }

    /// The monitor is sampled so.
    pub fn sample(&mut self, samplings: &[Sampling]) {
        self.samplings = samplings.iter().copied().collect();
    }

    /// The monitor has a record with these fields.
    pub fn ask_for(&mut self, fields: &[Field]) {
        self.record = Some(proto::flow::Record { name: "r".into(), fields: fields.to_vec() });
    }

    /// Starts the export of what comes out of `records`.
    pub fn export(&mut self, records: rtrb::Consumer<Record>) {
        let handle = export::start(vec![records], Anchor::new(Instant::now() - PAST)).unwrap();
        handle.configure(self.config()).unwrap();
        self.handle = Some(handle);
    }

    fn ports(&self) -> Vec<u16> {
        self.seats.iter().flat_map(Seat::ports).collect()
    }

    fn config(&self) -> Config {
        let exporter = |(version, seat): (&Version, &Seat)| Exporter {
            name: format!("{version:?}"),
            destinations: seat.ports().map(|port| Destination::new(Ipv4Addr::LOCALHOST.into(), port)).collect(),
            version: *version,
            dscp: 0,
            template_timeout_s: 60,
            option_timeout_s: 60,
            payload_max: 1400,
            ..Exporter::default()
        };
        let exporters: Vec<Exporter> = self.versions.iter().zip(&self.seats).map(exporter).collect();
        let names = exporters.iter().map(|exporter| exporter.name.clone()).collect();
        let interface = |port: u16| Interface {
            port: PortId(port),
            if_index: port,
            name: format!("Vethernet{port}"),
            description: String::new(),
            uplink: false,
        };
        let sampler = |sampling: &Sampling| Sampler {
            name: format!("{} of {}", sampling.count(), sampling.out_of()),
            random: sampling.is_random(),
            out_of: sampling.out_of(),
            count: Some(sampling.count()),
        };
        Config {
            samplings: vec![self.samplings.clone()],
            samplers: self.samplings.iter().filter(|sampling| sampling.is_some()).map(sampler).collect(),
            module: 3,
            exporters,
            monitors: vec![Monitor {
                name: "m".into(),
                record: self.record.as_ref().map(|record| record.name.clone()),
                exporters: names,
                active_s: 1800,
                inactive_s: 15,
                ..Monitor::default()
            }],
            records: self.record.iter().cloned().collect(),
            interfaces: (1..5).map(interface).collect(),
            ..Config::default()
        }
    }

    /// Waits until the exporter has sent about as many flows as were reported, and the judges have read them.
    pub fn wait_for(&self, reported: u64) {
        let handle = self.handle.as_ref().unwrap();
        // What is summed up is sent at the end.
        let reported = if self.record.is_some() { 0 } else { reported };
        wait_for("the exporter's turn", || {
            let rows = handle.rows();
            // What waits for a full datagram, for each template.
            rows.iter().all(|row| row.records + row.not_exportable + 200 > reported)
        });
        wait_for("the judges' reading", || self.ports().into_iter().all(|port| queued(port) < 16_384));
    }

    pub fn stop(mut self) -> Vec<Heard> {
        let handle = self.handle.take().unwrap();
        let rows = handle.stop();
        for row in &rows {
            assert_eq!((row.failed_datagrams, &row.last_error), (0, &None), "{row:?}");
        }
        let ports = self.ports();
        wait_for("the judges' last reading", || ports.iter().all(|port| queued(*port) == 0));
        let dropped: Vec<u64> = ports.into_iter().map(drops).collect();
        assert!(dropped.iter().all(|drops| *drops == 0), "datagrams that the judges were too slow for: {dropped:?}");
        let not_exportable = |version: &Version| {
            let own = rows.iter().find(|row| row.name == format!("{version:?}")).unwrap();
            own.not_exportable
        };
        let heard = |(version, seat): (&Version, Seat)| seat.stop(not_exportable(version));
        self.versions.iter().zip(self.seats).map(heard).collect()
    }
}

impl Seat {
    fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        let nfacctd = self.nfacctd.as_ref().map(|nfacctd| nfacctd.port);
        [self.nfcapd.port, self.tap.port].into_iter().chain(nfacctd)
    }

    fn stop(self, not_exportable: u64) -> Heard {
        let datagrams = self.tap.stop();
        let stored = self.nfcapd.stop();
        let mut details = Vec::new();
        let mut sums = vec![("nfdump", by_nfdump(&stored))];
        // netflow_parser does not know version 1.
        if self.version != Version::V1 {
            let (read, found) = parser::read(&datagrams);
            sums.push(("netflow_parser", read));
            details = found;
        }
        let mut nfacctd_log = String::new();
        if let Some(nfacctd) = self.nfacctd {
            let (said, log) = nfacctd.stop();
            sums.push(("nfacctd", by_nfacctd(&said)));
            nfacctd_log = log;
        }
        Heard { sums, details, not_exportable, datagrams, stored, nfacctd_log }
    }
}

/// By source address, protocol, packets and octets of each flow; a flow without addresses has the protocol 0.
fn by_nfdump(stored: &Stored) -> Sums {
    let mut sums = Sums::new();
    for line in stored.nfdump(&["-q", "-N", "-6", "-o", "fmt:%sa|%pr|%pkt|%byt"]).lines() {
        let words: Vec<&str> = line.split('|').map(str::trim).collect();
        let [address, protocol, packets, octets] = words[..] else { panic!("{line}") };
        let [protocol, packets, octets] = [protocol, packets, octets].map(|number| number.parse::<u64>().unwrap());
        let family = match address {
            "0.0.0.0" => Family::Link,
            address if address.contains(':') => Family::Ipv6,
            _ => Family::Ipv4,
        };
        add(&mut sums, (family, protocol as u8), (1, packets, octets));
    }
    sums
}

/// By its lines `ETYPE,PROTOCOL,PACKETS,FLOWS,BYTES`.
fn by_nfacctd(text: &str) -> Sums {
    let mut sums = Sums::new();
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split(',').collect();
        let [ethertype, protocol, packets, flows, octets] = words[..] else { panic!("{line}") };
        let family = match ethertype {
            "800" => Family::Ipv4,
            "86dd" => Family::Ipv6,
            other => panic!("EtherType {other} in {text}"),
        };
        let [packets, flows, octets] = [packets, flows, octets].map(|number| number.parse().unwrap());
        let protocol = match protocol {
            "icmp" => 1,
            "tcp" => 6,
            "udp" => 17,
            "gre" => 47,
            "ipv6-icmp" => 58,
            other => panic!("protocol {other} in {text}"),
        };
        add(&mut sums, (family, protocol), (flows, packets, octets));
    }
    sums
}

impl Heard {
    /// Nobody missed a sequence number, and tshark finds nothing wrong.
    pub fn check(&self) {
        let log = &self.stored.log;
        assert!(log.contains("Sequence Errors: 0, Bad Packets: 0"), "{log}");
        assert!(self.stored.nfdump(&["-I"]).contains("Sequence failures: 0"));
        for complaint in ["expecting", "WARN", "ERROR"] {
            assert!(!self.nfacctd_log.contains(complaint), "{}", self.nfacctd_log);
        }
        let wrong = tshark(&self.datagrams, &["-Y", "_ws.malformed or _ws.expert"]);
        assert_eq!(wrong, "", "malformed");
        let read = tshark(&self.datagrams, &["-Y", "cflow", "-T", "fields", "-e", "cflow.version"]);
        assert_eq!(read.lines().count(), self.datagrams.len());
    }
}
