//! Flow export: records in, datagrams out.
//!
//! ```text
//! workers --rings--> thread: plan (monitor -> aggregate? -> exporter, layout) -> encoder (fixed: v1, v5, v7 | stream: v9, IPFIX) -> sender (UDP)
//! ```
//!
//! The meter of each worker puts records into a ring of its own and never waits; one thread empties the rings, writes them in the formats of the exporters
//! and sends them. [`encoder`] is sans-I/O: records and times in, datagrams out. Formats and choices are in `fixed`, `v9`,
//! `ipfix`, `template` and `options`; when templates come, in `stream`.
//!
//! Complications:
//! * A record names its monitors by bits. The agent keeps a monitor's index over changes of the configuration, and gives
//!   no index anew before every record that names it was taken. Around a change both kinds come: records of monitors that
//!   go are made before [`ExportHandle::configure`] and are sent as the old configuration says; records of monitors that
//!   were announced by [`ExportHandle::expect`] wait for the new one.
//! * Sequence numbers count what was written, also when no socket takes it: the gap tells the collector.
//!
//! Threads: one, which looks at the rings every 100 ms, or 10 ms while records come. The handle speaks to it by a queue of
//! one configuration, waits until that is taken, and reads rows that it publishes.
//!
//! Limits: 32 monitors; at most one datagram waits for each template; 65,536 records wait for a configuration. What the
//! ring can't hold, the meter counts; what else can't be sent is counted or, where nobody asks any more, logged.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod aggregate;
mod cleared;
mod clock;
mod early;
pub mod element;
pub mod encoder;
pub mod fixed;
pub mod flow;
pub mod ipfix;
pub mod message;
pub mod options;
mod pace;
pub mod plan;
pub mod sender;
pub mod store;
pub mod stream;
pub mod template;
#[cfg(test)]
mod time_tests;
pub mod transport;
pub mod v9;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use crossbeam::queue::ArrayQueue;
use proto::flow::{Exporter, Monitor, Sampler, Sampling};
use proto::report::ExporterRow;
use vswitch::flow::record::{MonitorSet, Record};
use vswitch::port::PortId;

use cleared::Cleared;
pub use clock::{Anchor, Moment};
use early::Early;
use plan::Plan;
use store::Store;
use transport::Credentials;

/// Records taken from the ring before timers and configuration are looked at.
const BATCH: usize = 1024;
/// Time between looks at an empty ring.
const IDLE: Duration = Duration::from_millis(100);
/// Time between looks while records come.
const BUSY: Duration = Duration::from_millis(10);
/// Time for which the thread says more when it is asked to.
pub const DEBUG: Duration = Duration::from_secs(3600);
/// Longest wait for a configuration to be taken.
const TAKE: Duration = Duration::from_secs(2);
/// Time between batches of a ring that is emptied before a change, so that collectors can follow.
const PACE: Duration = Duration::from_millis(1);
/// Longest wait for the thread's end.
const STOP: Duration = Duration::from_secs(2);
/// Of which it may empty the ring for this long.
const STOP_DRAIN: Duration = Duration::from_millis(1500);

/// Why export can't start or take a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host gives no thread.
    #[error("flow export: can't start the thread: {0}")]
    Thread(#[source] std::io::Error),
    /// The thread is busy or hangs. It may still take the configuration.
    #[error("flow export: the configuration was not taken within {} s", TAKE.as_secs())]
    Late,
    /// More monitors than a record has bits.
    #[error("flow export: more than {max} monitors", max = vswitch::flow::record::MONITORS_MAX)]
    MonitorsMax,
    /// A monitor names a record that does not exist.
    #[error("flow monitor {monitor}: no flow record {record}")]
    NoRecord {
        /// The monitor.
        monitor: String,
        /// The name.
        record: String,
    },
    /// A monitor names an exporter that does not exist.
    #[error("flow monitor {monitor}: no flow exporter {exporter}")]
    NoExporter {
        /// The monitor.
        monitor: String,
        /// The name.
        exporter: String,
    },
}

/// What to export, and where to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Number of the module, which is source id and observation domain.
    pub module: u8,
    /// Users' records.
    pub records: Vec<proto::flow::Record>,
    /// Exporters.
    pub exporters: Vec<Exporter>,
    /// Monitors, in the order of the bits of [`Record::monitors_in`].
    pub monitors: Vec<Monitor>,
    /// By monitor, how packets are sampled for it, at one port or another.
    pub samplings: Vec<BTreeSet<Sampling>>,
    /// Samplers, for their names.
    pub samplers: Vec<Sampler>,
    /// Interfaces of the host.
    pub interfaces: Vec<Interface>,
    /// How much of the flows is kept on the host; `None`: nothing.
    pub store: Option<proto::flow::Store>,
}

/// An interface, as collectors shall know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its port in the dataplane.
    pub port: PortId,
    /// Its index, which stays.
    pub if_index: u16,
    /// Name, as `Vethernet1`.
    pub name: String,
    /// Description, or empty.
    pub description: String,
    /// An uplink; one without description is described so.
    pub uplink: bool,
}

/// Starts the export thread, which empties `records`, one ring of each worker. It takes nothing before it has a configuration.
pub fn start(records: Vec<rtrb::Consumer<Record>>, anchor: Anchor) -> Result<ExportHandle, Error> {
    start_with(records, anchor, Credentials::default())
}

/// The same, with keys and certificates for collectors that ask for them.
pub fn start_with(
    records: Vec<rtrb::Consumer<Record>>,
    anchor: Anchor,
    credentials: Credentials,
) -> Result<ExportHandle, Error> {
    let shared = Arc::new(Shared {
        configs: ArrayQueue::new(1),
        expected: AtomicU32::new(0),
        rows: ArcSwap::from_pointee(Vec::new()),
        stored: ArcSwapOption::empty(),
        debug: ArcSwapOption::empty(),
        stop: AtomicBool::new(false),
    });
    let (ended, end) = bounded(0);
    let shared_too = Arc::clone(&shared);
    let credentials = Arc::new(credentials);
    let early = Early::default();
    let worker =
        Worker { records, anchor, plan: None, early, credentials, store: None, shared: shared_too, _ended: ended };
    let thread = thread::Builder::new().name("export".to_owned()).spawn(|| worker.run()).map_err(Error::Thread)?;
    Ok(ExportHandle { shared, thread, end, cleared: Cleared::default() })
}

struct Shared {
    /// With whom to tell that it is taken.
    configs: ArrayQueue<(Config, Sender<()>)>,
    /// Monitors whose records may come before their configuration.
    expected: AtomicU32,
    rows: ArcSwap<Vec<ExporterRow>>,
    /// What the store has counted.
    stored: ArcSwapOption<store::Counts>,
    /// How much is said, and until when.
    debug: ArcSwapOption<(u8, Instant)>,
    stop: AtomicBool,
}

impl Shared {
    /// How much is said at `now`, and for how long.
    fn debug(&self, now: Instant) -> Option<(u8, Duration)> {
        let (level, until) = **self.debug.load().as_ref()?;
        Some((level, until.checked_duration_since(now)?))
    }
}

/// The export thread. Dropping the handle ends it without waiting.
pub struct ExportHandle {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    end: Receiver<()>,
    cleared: Cleared,
}

impl ExportHandle {
    /// Monitors of these indices will be in the next configuration, and no others: to be called before the first record can
    /// name them. Their records wait for that configuration.
    pub fn expect(&self, monitors: MonitorSet) {
        self.shared.expected.store(monitors, Ordering::Release);
    }

    /// Has the thread take a configuration, and waits for that, at most two seconds. Records that are in the rings now are
    /// sent as the configuration before says. Before the first configuration they stay in the ring.
    ///
    /// # Errors
    /// It contradicts itself, and changes nothing; or the thread is late.
    pub fn configure(&self, config: Config) -> Result<(), Error> {
        plan::check(&config)?;
        let (taken, told) = bounded(1);
        self.shared.configs.force_push((config, taken));
        self.thread.thread().unpark();
        told.recv_timeout(TAKE).map_err(|_| Error::Late)
    }

    /// A row for each destination, not older than the thread's last look at the ring.
    pub fn rows(&self) -> Vec<ExporterRow> {
        self.shared.rows.load().as_ref().clone()
    }

    /// The same, with what was counted since [`ExportHandle::clear`].
    pub fn rows_since_cleared(&self) -> Vec<ExporterRow> {
        self.cleared.since(self.rows())
    }

    /// Counts of the exporter of that name, or of all, begin at zero where they are shown.
    pub fn clear(&mut self, name: Option<&str>) {
        let rows = self.rows();
        self.cleared.clear(rows, name);
    }

    /// What the store has counted; `None` when there is none.
    pub fn stored(&self) -> Option<Arc<store::Counts>> {
        self.shared.stored.load_full()
    }

    /// Has the thread say what it sends in the log, for [`DEBUG`]: 1 all but flows, 2 every datagram, 0 nothing.
    pub fn debug(&self, level: u8) {
        let until = Instant::now() + DEBUG;
        self.shared.debug.store((level > 0).then(|| Arc::new((level, until))));
    }

    /// How much the thread says, and for how long still; `None` when it says nothing.
    pub fn debugged(&self) -> Option<(u8, Duration)> {
        self.shared.debug(Instant::now())
    }

    /// Exports what is in the ring and what waits, and ends the thread; waits at most two seconds for that. Returns the last
    /// rows.
    pub fn stop(self) -> Vec<ExporterRow> {
        self.end();
        if self.end.recv_timeout(STOP) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("flow export did not end in time");
        }
        self.rows()
    }

    fn end(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }
}

impl Drop for ExportHandle {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    records: Vec<rtrb::Consumer<Record>>,
    anchor: Anchor,
    plan: Option<Plan>,
    early: Early,
    credentials: Arc<Credentials>,
    store: Option<Store>,
    shared: Arc<Shared>,
    /// Dropped with the thread: the handle's sign that it ended.
    _ended: Sender<()>,
}

impl Worker {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let taken = self.turn();
            match taken {
                BATCH.. => {}
                1.. => thread::park_timeout(BUSY),
                0 => thread::park_timeout(IDLE),
            }
        }
        if let Some(plan) = &mut self.plan {
            plan.hurry(self.anchor.read());
        }
        let deadline = Instant::now() + STOP_DRAIN;
        while self.turn() > 0 && Instant::now() < deadline {}
        let at = self.anchor.read();
        if let Some(plan) = &mut self.plan {
            plan.flush(at);
        }
        if let Some(store) = &mut self.store {
            store.end(at);
        }
        let left: usize = self.records.iter().map(rtrb::Consumer::slots).sum();
        if left > 0 {
            tracing::warn!(left, "flow export ends before every record was sent");
        }
        self.publish();
    }

    /// Takes a batch of records of each ring, then a new configuration, and sends what is due; returns the number of records.
    fn turn(&mut self) -> usize {
        let level = self.shared.debug(Instant::now()).map_or(0, |(level, _)| level);
        if let Some(plan) = &mut self.plan {
            plan.debug(level);
        }
        let config = self.shared.configs.pop();
        let mut taken = match config {
            Some(_) => self.drain(),
            // What an exporter's rate holds up stays where it is counted on.
            None if self.plan.as_ref().is_some_and(Plan::is_behind) => 0,
            None => self.take(&mut self.slots().map(|slots| slots.min(BATCH)).collect::<Vec<_>>()),
        };
        let at = self.anchor.read();
        if let Some((config, told)) = config {
            self.keep(config.store, at);
            let credentials = &self.credentials;
            let plan = self.plan.get_or_insert_with(|| Plan::with_credentials(Arc::clone(credentials)));
            plan.configure(config, at);
            self.early.give(plan, at);
            // Before who waits goes on, so that it finds the rows.
            self.publish();
            let _ = told.send(());
            taken = taken.max(1);
        }
        if let Some(plan) = &mut self.plan {
            plan.tick(at);
        }
        if let Some(store) = &mut self.store {
            store.tick(at);
        }
        self.early.tell();
        self.publish();
        taken
    }

    /// Begins to store flows, ends it, or goes on otherwise.
    fn keep(&mut self, wanted: Option<proto::flow::Store>, at: Moment) {
        match (&mut self.store, wanted, &self.credentials.store_dir) {
            (Some(store), Some(wanted), _) => store.configure(wanted),
            (Some(store), None, _) => {
                store.end(at);
                self.store = None;
            }
            (None, Some(wanted), Some(dir)) => {
                let mut store = Store::new(dir.clone(), self.credentials.host.clone(), wanted);
                store.begin(at);
                self.store = Some(store);
            }
            (None, _, _) => {}
        }
    }

    /// Records in each ring.
    fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.records.iter().map(rtrb::Consumer::slots)
    }

    /// Takes all records that are in the rings now, in batches; what comes meanwhile stays.
    fn drain(&mut self) -> usize {
        if self.plan.is_none() {
            return 0;
        }
        let mut left: Vec<usize> = self.slots().collect();
        let mut taken = self.take(&mut left);
        while left.iter().any(|left| *left > 0) {
            thread::sleep(PACE);
            taken += self.take(&mut left);
        }
        taken
    }

    /// Takes as many records of each ring as `left` says, and at most a batch of each.
    fn take(&mut self, left: &mut [usize]) -> usize {
        let Some(plan) = &mut self.plan else { return 0 };
        let at = self.anchor.read();
        let mut taken = 0;
        for (ring, left) in self.records.iter_mut().zip(left) {
            for _ in 0..BATCH.min(*left) {
                let Ok(record) = ring.pop() else { break };
                if let Some(store) = &mut self.store
                    && !record.again
                {
                    store.push(&plan.flow(&record), at);
                }
                let unknown = plan.push(&record, at);
                if unknown != 0 {
                    self.early.keep(&record, unknown, self.shared.expected.load(Ordering::Acquire));
                }
                taken += 1;
            }
            *left = left.saturating_sub(BATCH);
        }
        taken
    }

    fn publish(&self) {
        let rows = self.plan.as_ref().map(Plan::rows).unwrap_or_default();
        if **self.shared.rows.load() != rows {
            self.shared.rows.store(Arc::new(rows));
        }
        let counts = self.store.as_ref().map(Store::counts);
        if self.shared.stored.load().as_deref() != counts {
            self.shared.stored.store(counts.cloned().map(Arc::new));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use proto::flow::{Destination, Version};

    use super::*;

    fn config(collector: &UdpSocket, monitors: Vec<Monitor>) -> Config {
        let port = collector.local_addr().unwrap().port();
        let exporter = Exporter {
            name: "e".into(),
            destinations: vec![Destination::new(Ipv4Addr::LOCALHOST.into(), port)],
            version: Version::V5,
            dscp: 0,
            template_timeout_s: 60,
            option_timeout_s: 60,
            payload_max: 1400,
            ..Exporter::default()
        };
        Config { module: 3, exporters: vec![exporter], monitors, ..Config::default() }
    }

    fn monitor(exporter: &str) -> Monitor {
        let exporters = vec![exporter.to_owned()];
        Monitor { name: "m".into(), record: None, exporters, active_s: 1800, inactive_s: 15, ..Monitor::default() }
    }

    fn collector() -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    #[test]
    fn records_wait_for_the_first_configuration_and_stop_sends_all() {
        let (mut ring, records) = rtrb::RingBuffer::new(64);
        let handle = start(vec![records], Anchor::new(Instant::now())).unwrap();
        for _ in 0..40 {
            ring.push(flow::tests::tcp4()).unwrap();
        }
        let collector = collector();
        handle.configure(config(&collector, vec![monitor("e")])).unwrap();
        handle.stop();
        let mut buffer = [0; 2000];
        let records = |length: usize| (length - 24) / 48;
        let received = [collector.recv(&mut buffer).unwrap(), collector.recv(&mut buffer).unwrap()].map(records);
        assert_eq!(received, [28, 12]);
    }

    #[test]
    fn every_ring_is_emptied() {
        let (mut rings, records): (Vec<_>, Vec<_>) = (0..3).map(|_| rtrb::RingBuffer::new(64)).unzip();
        let handle = start(records, Anchor::new(Instant::now())).unwrap();
        for (n, ring) in rings.iter_mut().enumerate() {
            (0..=n).for_each(|_| ring.push(flow::tests::tcp4()).unwrap());
        }
        let collector = collector();
        handle.configure(config(&collector, vec![monitor("e")])).unwrap();
        handle.stop();
        let mut buffer = [0; 2000];
        assert_eq!((collector.recv(&mut buffer).unwrap() - 24) / 48, 6);
    }

    #[test]
    fn a_refused_configuration_changes_nothing() {
        let (_ring, records) = rtrb::RingBuffer::new(64);
        let handle = start(vec![records], Anchor::new(Instant::now())).unwrap();
        let collector = collector();
        assert!(matches!(handle.configure(config(&collector, vec![monitor("x")])), Err(Error::NoExporter { .. })));
        assert!(handle.shared.configs.is_empty());
        handle.stop();
    }

    /// Flow records that a collector has been sent.
    fn received(collector: &UdpSocket) -> usize {
        collector.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2000];
        std::iter::from_fn(|| collector.recv(&mut buffer).ok()).map(|length| (length - 24) / 48).sum()
    }

    #[test]
    fn what_is_in_the_rings_goes_as_the_configuration_before_says() {
        let (mut rings, records): (Vec<_>, Vec<_>) = (0..2).map(|_| rtrb::RingBuffer::new(8 * BATCH)).unzip();
        let handle = start(records, Anchor::new(Instant::now())).unwrap();
        let (before, after) = (collector(), collector());
        let mut expected = (0, 0);
        for round in 0..6 {
            handle.configure(config(&before, vec![monitor("e")])).unwrap();
            for (n, ring) in rings.iter_mut().enumerate() {
                let count = (round * 7 + n) * 10;
                (0..count).for_each(|_| ring.push(flow::tests::tcp4()).unwrap());
                expected.0 += count;
            }
            handle.configure(config(&after, vec![monitor("e")])).unwrap();
            rings[1].push(flow::tests::tcp4()).unwrap();
            expected.1 += 1;
        }
        handle.stop();
        assert_eq!((received(&before), received(&after)), expected);
    }

    #[test]
    fn records_of_monitors_that_are_announced_wait_for_them_and_no_others() {
        let (mut ring, records) = rtrb::RingBuffer::new(256);
        let handle = start(vec![records], Anchor::new(Instant::now())).unwrap();
        let [old, new] = [collector(), collector()];
        let empty = Monitor { name: String::new(), exporters: Vec::new(), ..monitor("e") };
        handle.configure(config(&old, vec![monitor("e")])).unwrap();
        handle.expect(2);
        for (monitors_in, monitors_out) in [(1, 0), (2, 0), (1, 2), (4, 0)] {
            ring.push(Record { monitors_in, monitors_out, ..flow::tests::tcp4() }).unwrap();
        }
        while ring.slots() < 256 {
            thread::yield_now();
        }
        handle.configure(config(&new, vec![empty, monitor("e"), monitor("e")])).unwrap();
        // Nobody is to have this: its monitor is gone, and may not come back as another.
        ring.push(flow::tests::tcp4()).unwrap();
        handle.configure(config(&new, vec![monitor("e")])).unwrap();
        handle.stop();
        assert_eq!((received(&old), received(&new)), (2, 2));
    }

    #[test]
    fn more_is_said_until_it_is_taken_back() {
        let (_ring, records) = rtrb::RingBuffer::new(64);
        let handle = start(vec![records], Anchor::new(Instant::now())).unwrap();
        assert_eq!(handle.debugged(), None);
        handle.debug(2);
        let (level, left) = handle.debugged().unwrap();
        assert!(level == 2 && left <= DEBUG && left > DEBUG / 2);
        assert_eq!(handle.shared.debug(Instant::now() + DEBUG + DEBUG), None, "it ends by itself");
        handle.debug(0);
        assert_eq!(handle.debugged(), None);
    }

    #[test]
    fn rows_are_published() {
        let (_ring, records) = rtrb::RingBuffer::new(64);
        let handle = start(vec![records], Anchor::new(Instant::now())).unwrap();
        let collector = collector();
        handle.configure(config(&collector, Vec::new())).unwrap();
        assert_eq!(handle.rows()[0].destination, collector.local_addr().unwrap().to_string());
    }
}
