//! The agent's handle on the running workers: publish, attach, ask, and even out their loads.
//!
//! Counters are read straight from the workers' arrays (relaxed atomic loads; each worker is the only writer of its own) and
//! added up. What only a worker can know (its flow cache, its drop samples) is asked for by a message on a bounded channel;
//! the worker answers between two batches, a bounded slice at a time, so a question never holds up frames.
//!
//! Threads: `&self` from any thread. Attachments and moves come one after the other; counters never wait for them.

mod figures;
mod mirror;
mod ports;
mod trace;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{self, Duration};

use hashbrown::HashMap;
use proto::addr::{MacAddr, VlanId};

use crate::account::classes::{Amount, Classes};
use crate::account::counters::Counters;
use crate::account::load::LoadCells;
use crate::account::rule_drops::RuleDrop;
use crate::current::Current;
use crate::exchange::Exchange;
use crate::flow::key::FlowKey;
use crate::flow::record::MonitorSet;
use crate::observe::capture::{Capture, Tap, Wanted};
use crate::observe::mirror::ring::Reader;
use crate::observe::mirror::{Mirror, engine};
use crate::observe::passage::{Watch, WatchWanted, Watching};
use crate::port::{Offloads, PORTS_MAX, Port, PortId};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::verdict::Judgement;
pub(crate) use mirror::MirrorSeat;
use ports::Homes;

pub use figures::{
    CacheStats, DropSample, FlowFilter, FlowOrder, LiveFlow, MacEntry, PortCounters, Reconciled, SessionStats, Traffic,
    WorkerLoad,
};
pub use ports::REPLAN;
pub use trace::{Sending, Traced};

/// How long a question waits for the worker.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Why a worker did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is busy or hangs. What was asked may still happen.
    #[error("the dataplane did not answer within {} s", PATIENCE.as_secs())]
    Timeout,
    /// It has stopped.
    #[error("the dataplane has stopped")]
    Stopped,
    /// The number is past the limit.
    #[error("port number {0} is past {max}", max = PORTS_MAX - 1)]
    PortNumber(u16),
    /// The port has a device already.
    #[error("port {0} has a device already")]
    PortTaken(u16),
    /// The port has no device.
    #[error("port {0} has no device")]
    PortFree(u16),
    /// The device can't be shared by the workers.
    #[error("port {0} can't be shared by workers: {1}")]
    PortShared(u16, String),
    /// There is a capture of the port.
    #[error("port {0} is being captured already")]
    PortCaptured(u16),
    /// Frames are watched already.
    #[error("frames of this module are being watched already")]
    Watched,
    /// There is no way to send copies to other hosts.
    #[error("no socket for ERSPAN: {0}")]
    Remote(String),
    /// There are fewer workers.
    #[error("there is no worker {0}")]
    NoWorker(usize),
}

/// What came of an attachment; a device that was not taken comes back.
pub type Attached = Result<(), (Error, Box<dyn Port>)>;
/// A deal between two workers over their handles of a port.
pub(crate) type Deal = Arc<Exchange<Box<dyn Port>>>;

/// What a worker is asked; answers go by `reply`, into memory that the asker has provided.
pub(crate) enum Ask {
    /// Say when the snapshot of that version runs, or a newer one. A deal that has ended is settled then as well.
    Adopt { version: u64, reply: SyncSender<()> },
    /// Take a device; give it back if it can't be.
    Attach { id: PortId, port: Box<dyn Port>, reply: SyncSender<Attached> },
    /// Give a device back.
    Detach { id: PortId, reply: SyncSender<Result<Box<dyn Port>, Error>> },
    /// Offer the handle of a port, and receive nothing until there is one again.
    Offer { id: PortId, deal: Deal, reply: SyncSender<Result<(), Error>> },
    /// Make a further handle of a port, which only sends.
    Sender { id: PortId, reply: SyncSender<Result<Box<dyn Port>, Error>> },
    /// Swap the handle of a port for the one that is offered; `false` when there is none.
    Swap { id: PortId, deal: Deal, reply: SyncSender<bool> },
    /// Report what was counted under monitors that the running snapshot has taken away.
    Settle { reply: SyncSender<()> },
    /// Report what was counted for monitors.
    Flush { monitors: MonitorSet, reply: SyncSender<()> },
    /// Have a tap look on at a port; give it back if that can't be.
    Tap { id: PortId, tap: Box<Tap>, reply: SyncSender<Result<(), (Error, Box<Tap>)>> },
    /// Give the tap of a port back.
    Untap { id: PortId, reply: SyncSender<Option<Box<Tap>>> },
    /// Tell of frames; give the watch back if there is one already.
    Watch { watch: Box<Watch>, reply: SyncSender<Result<(), (Error, Box<Watch>)>> },
    /// Give the watch back.
    Unwatch { reply: SyncSender<Option<Box<Watch>>> },
    /// The devices, what each takes, and what the flow cache says of a flow, and whether that holds.
    Look { key: Option<FlowKey>, into: Vec<(PortId, Offloads)>, reply: SyncSender<Looked> },
    /// The last dropped frames.
    Drops { into: Vec<DropSample>, reply: SyncSender<Vec<DropSample>> },
    /// The MAC table.
    Macs { into: Vec<MacEntry>, reply: SyncSender<Vec<MacEntry>> },
    /// Forget learned addresses.
    ClearMacs { vlan: Option<VlanId>, mac: Option<MacAddr>, reply: SyncSender<()> },
    /// The flows with the most octets, and how many there are.
    Flows { filter: FlowFilter, top: usize, into: Vec<LiveFlow>, reply: SyncSender<(Vec<LiveFlow>, u64)> },
    /// What the flows in the cache have counted, by the port that they came from.
    Live { into: Vec<Classes>, reply: SyncSender<Vec<Classes>> },
}

/// The answer to [`Ask::Look`].
pub(crate) type Looked = (Vec<(PortId, Offloads)>, Option<(Judgement, bool)>);

/// What one worker and the handle both see.
#[repr(align(128))]
pub(crate) struct Seat {
    pub(crate) counters: Arc<Counters>,
    pub(crate) load: LoadCells,
    /// The worker's clock, nanoseconds.
    pub(crate) now: AtomicU64,
    /// Ports whose device is gone, one bit each; the worker writes them.
    pub(crate) gone: Vec<AtomicU64>,
    /// The worker is in its long sleep, or about to be.
    pub(crate) asleep: AtomicBool,
    /// Written to end the worker's sleep; `None` when the system had none to give.
    pub(crate) waker: Option<OwnedFd>,
}

impl Seat {
    /// Ends the worker's sleep.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            // A full counter wakes as well.
            let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
        }
    }
}

/// What all workers and the handle see.
pub(crate) struct Shared {
    pub(crate) snapshot: Current<Snapshot>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) mirror: MirrorSeat,
}

#[derive(Default)]
struct Baselines {
    ports: HashMap<PortId, PortCounters>,
    rules: HashMap<u32, u64>,
    rule_drops: HashMap<RuleDrop, u64>,
}

/// The handle; see the module.
pub struct Control {
    shared: Arc<Shared>,
    asks: Vec<SyncSender<Ask>>,
    baselines: Mutex<Baselines>,
    publishing: Mutex<()>,
    homes: Mutex<Homes>,
    mirror: Mutex<Option<Mirror>>,
    mirror_asks: SyncSender<engine::Ask>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that is on its way.
struct Answer<T>(Receiver<T>, time::Instant);

impl<T> Answer<T> {
    fn wait(self) -> Result<T, Error> {
        self.0.recv_timeout(self.1.saturating_duration_since(time::Instant::now())).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Timeout,
            RecvTimeoutError::Disconnected => Error::Stopped,
        })
    }
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>, asks: Vec<SyncSender<Ask>>, copies: Vec<Reader>) -> Self {
        let (mirror_asks, asked) = sync_channel(64);
        let mirror = Mirror::new(Arc::clone(&shared), copies, asked);
        Control {
            shared,
            asks,
            baselines: Mutex::default(),
            publishing: Mutex::default(),
            homes: Mutex::default(),
            mirror: Mutex::new(Some(mirror)),
            mirror_asks,
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.asks.len()
    }

    /// Sends a question to a worker.
    fn send<T>(&self, worker: usize, question: impl FnOnce(SyncSender<T>) -> Ask) -> Result<Answer<T>, Error> {
        let (reply, answer) = sync_channel(1);
        let asks = self.asks.get(worker).ok_or(Error::NoWorker(worker))?;
        asks.try_send(question(reply)).map_err(|error| match error {
            TrySendError::Full(_) => Error::Timeout,
            TrySendError::Disconnected(_) => Error::Stopped,
        })?;
        if let Some(seat) = self.shared.seats.get(worker) {
            seat.wake();
        }
        Ok(Answer(answer, time::Instant::now() + PATIENCE))
    }

    /// Sends a question to a worker and waits for its answer.
    fn ask<T>(&self, worker: usize, question: impl FnOnce(SyncSender<T>) -> Ask) -> Result<T, Error> {
        self.send(worker, question)?.wait()
    }

    /// Asks all workers `from..` at the same time and waits for all.
    fn ask_all<T>(&self, from: usize, question: impl Fn(SyncSender<T>) -> Ask) -> Result<Vec<T>, Error> {
        let sent: Vec<_> = (from..self.workers()).map(|worker| self.send(worker, &question)).collect();
        let answers: Vec<_> = sent.into_iter().map(|answer| answer?.wait()).collect();
        answers.into_iter().collect()
    }

    /// The snapshot that was published last, to build the next one on.
    pub fn running(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load()
    }

    /// Makes `snapshot` the running one, and returns when every worker runs on it.
    ///
    /// # Errors
    /// A worker does not answer, or the device of a port that becomes the destination of a session can't be had; then
    /// nothing has changed.
    pub fn publish(&self, mut snapshot: Snapshot) -> Result<(), Error> {
        let one_at_a_time = lock(&self.publishing);
        let mut homes = lock(&self.homes);
        self.give_destinations(&mut homes, &snapshot)?;
        self.give_socket(&mut homes, &snapshot)?;
        self.give_inlet(&mut homes, &snapshot)?;
        snapshot.succeed(&self.shared.snapshot.load());
        let (version, before) = self.shared.snapshot.store(Arc::new(snapshot));
        let done = self.ask_all(0, |reply| Ask::Adopt { version, reply });
        // A number that no rule has now counts from zero when a rule gets it.
        let running = self.running();
        lock(&self.baselines).rule_drops.retain(|pair, _| running.has_rule(pair.rule));
        // The previous one lives until here, so that it is freed by this thread and not by a worker.
        drop(before);
        // So that it need not keep this one for long. Copies are none of the caller's business.
        let _ = self.ask_mirror(|reply| engine::Ask::Adopt { snapshot: running, reply });
        self.take_destinations(&mut homes);
        self.take_inlet(&mut homes);
        drop(homes);
        drop(one_at_a_time);
        done.map(|_| ())
    }

    /// Has every worker report what it has counted for ports that other monitors watch now, or none, and returns when that
    /// is in the rings of records, which must be emptied meanwhile. What finds no room there for 1.5 s is counted in
    /// [`CacheStats::unmetered`]. After [`Control::publish`], no record names a monitor any more that the snapshot gives to
    /// no port.
    ///
    /// # Errors
    /// A worker does not answer; then that is not so.
    pub fn settle_flows(&self) -> Result<(), Error> {
        self.ask_all(0, |reply| Ask::Settle { reply }).map(|_| ())
    }

    /// What each worker has done since it was made.
    pub fn loads(&self) -> Vec<WorkerLoad> {
        self.shared.seats.iter().map(|seat| seat.load.read()).collect()
    }

    fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.shared.seats.iter().map(|seat| &*seat.counters).chain([&*self.shared.mirror.counters])
    }

    fn read_port(&self, id: PortId) -> PortCounters {
        let all = self.counters().map(|counters| counters.read_port(id));
        all.reduce(|sum, next| sum.plus(&next)).unwrap_or_default()
    }

    fn read_rule(&self, id: u32) -> u64 {
        self.counters().fold(0, |sum, counters| sum.wrapping_add(counters.read_rule(id)))
    }

    /// What port `id` has counted since it was last cleared.
    pub fn port_counters(&self, id: PortId) -> PortCounters {
        let counted = self.read_port(id);
        match lock(&self.baselines).ports.get(&id) {
            Some(baseline) => counted.since(baseline),
            None => counted,
        }
    }

    /// Counts of port `id` start from zero.
    pub fn clear_port_counters(&self, id: PortId) {
        let counted = self.read_port(id);
        let by_rule = self.read_rule_drops();
        let mut baselines = lock(&self.baselines);
        baselines.ports.insert(id, counted);
        baselines.rule_drops.retain(|pair, _| pair.port != id);
        baselines.rule_drops.extend(by_rule.into_iter().filter(|(pair, _)| pair.port == id));
    }

    fn read_rule_drops(&self) -> BTreeMap<RuleDrop, u64> {
        let mut sums: BTreeMap<RuleDrop, u64> = BTreeMap::new();
        for (pair, frames) in self.counters().flat_map(|counters| counters.rule_drops.read()) {
            *sums.entry(pair).or_default() += frames;
        }
        sums
    }

    /// Frames that rules have dropped, by port, since the port was last cleared. What found no place in the tables is in
    /// [`Control::port_counters`] alone.
    pub fn rule_drops(&self) -> Vec<(RuleDrop, u64)> {
        let counted = self.read_rule_drops();
        let baselines = lock(&self.baselines);
        let since =
            |pair: &RuleDrop, frames: u64| frames.saturating_sub(baselines.rule_drops.get(pair).copied().unwrap_or(0));
        let rows = counted.into_iter().map(|(pair, frames)| (pair, since(&pair, frames)));
        rows.filter(|(_, frames)| *frames > 0).collect()
    }

    /// How many frames rule `rule_id` has judged since it was last cleared.
    pub fn rule_matches(&self, rule_id: u32) -> u64 {
        let counted = self.read_rule(rule_id);
        counted.wrapping_sub(lock(&self.baselines).rules.get(&rule_id).copied().unwrap_or(0))
    }

    /// Counts of rule `rule_id` start from zero.
    pub fn clear_rule(&self, rule_id: u32) {
        let counted = self.read_rule(rule_id);
        lock(&self.baselines).rules.insert(rule_id, counted);
    }

    /// Copies of session `id` since the start.
    pub fn session_stats(&self, id: u16) -> SessionStats {
        self.counters().fold(SessionStats::default(), |sum, counters| sum.plus(counters.read_session(id)))
    }

    /// State of the flow caches, added up.
    pub fn cache_stats(&self) -> CacheStats {
        self.counters().fold(CacheStats::default(), |sum, counters| sum.plus(counters.read_cache()))
    }

    /// The last dropped frames, newest first, at most 64.
    pub fn drop_samples(&self) -> Result<Vec<DropSample>, Error> {
        let kept = crate::observe::drops::KEPT;
        let all = self.ask_all(0, |reply| Ask::Drops { into: Vec::with_capacity(kept), reply })?;
        let mut samples = all.concat();
        // Stable: those of one worker stay in their order.
        samples.sort_by_key(|sample| std::cmp::Reverse(sample.at));
        samples.truncate(kept);
        Ok(samples)
    }

    /// Begins a capture of port `id`: every worker has a tap there.
    ///
    /// # Errors
    /// The port has no device, or there is a capture of it already.
    pub fn capture(&self, id: PortId, wanted: Wanted) -> Result<Capture, Error> {
        let clock = |worker: usize| -> Box<dyn Fn() -> u64 + Send> {
            let shared = Arc::clone(&self.shared);
            let now = |seat: &Seat| seat.now.load(Ordering::Relaxed);
            match worker < self.workers() {
                true => Box::new(move || shared.seats.get(worker).map_or(0, now)),
                // The mirror has no clock: what it sends was received of late.
                false => Box::new(move || shared.seats.iter().map(now).max().unwrap_or(0)),
            }
        };
        let (capture, mut taps) = Capture::new(id, wanted, self.workers(), clock);
        let of_mirror = taps.pop();
        for (worker, tap) in taps.into_iter().enumerate() {
            let tap = Box::new(tap);
            let put = self.ask(worker, |reply| Ask::Tap { id, tap, reply });
            if let Err(error) = put.and_then(|put| put.map_err(|(error, _)| error)) {
                for before in 0..worker {
                    let _freed_here = self.ask(before, |reply| Ask::Untap { id, reply });
                }
                return Err(error);
            }
        }
        if let Some(tap) = of_mirror {
            let tap = Box::new(tap);
            // Without a mirror there are no copies to be seen.
            let _ = self.ask_mirror(|reply| engine::Ask::Tap { id, tap, reply });
        }
        Ok(capture)
    }

    /// Ends the capture of port `id`.
    pub fn end_capture(&self, id: PortId) -> Result<(), Error> {
        let _freed_here = self.ask_mirror(|reply| engine::Ask::Untap { id, reply });
        self.ask_all(0, |reply| Ask::Untap { id, reply }).map(drop)
    }

    /// Begins to tell of frames: every worker has a watch.
    ///
    /// # Errors
    /// Frames are watched already.
    pub fn watch(&self, wanted: WatchWanted) -> Result<Watching, Error> {
        let (watching, watches) = Watching::new(wanted, self.workers());
        for (worker, watch) in watches.into_iter().enumerate() {
            let watch = Box::new(watch);
            let put = self.ask(worker, |reply| Ask::Watch { watch, reply });
            if let Err(error) = put.and_then(|put| put.map_err(|(error, _)| error)) {
                for before in 0..worker {
                    let _freed_here = self.ask(before, |reply| Ask::Unwatch { reply });
                }
                return Err(error);
            }
        }
        Ok(watching)
    }

    /// Tells of no more frames.
    pub fn end_watch(&self) -> Result<(), Error> {
        self.ask_all(0, |reply| Ask::Unwatch { reply }).map(drop)
    }

    /// The MAC address table, in no order.
    pub fn macs(&self) -> Result<Vec<MacEntry>, Error> {
        self.ask(0, |reply| Ask::Macs { into: Vec::new(), reply })
    }

    /// The live flows that fit, in the order of the filter and at most `top`, and how many fit in all.
    pub fn flows(&self, filter: FlowFilter, top: usize) -> Result<(Vec<LiveFlow>, u64), Error> {
        let top = top.min(self.cache_stats().capacity as usize);
        let question = |reply| Ask::Flows { filter, top, into: Vec::with_capacity(2 * top), reply };
        let (flows, matched): (Vec<_>, Vec<_>) = self.ask_all(0, question)?.into_iter().unzip();
        let mut flows = flows.concat();
        crate::job::keep_top(&mut flows, filter.order, top);
        Ok((flows, matched.iter().sum()))
    }

    /// For each port number what the port has received, and where the flow meter has counted that. While frames come the two
    /// need not agree, as they are not read at the same time.
    pub fn reconciliation(&self) -> Result<Vec<Reconciled>, Error> {
        let live = self.ask_all(0, |reply| Ask::Live { into: vec![Classes::default(); PORTS_MAX], reply })?;
        let row = |port: usize| {
            let id = PortId(port as u16);
            let rx = self.read_port(id).rx;
            let received = Amount { packets: rx.unicast + rx.multicast + rx.broadcast, octets: rx.octets };
            let (mut reported, mut in_cache) = (Classes::default(), Classes::default());
            self.counters().for_each(|counters| reported.add_all(&counters.port(id).classes.read()));
            live.iter().filter_map(|live| live.get(port)).for_each(|live| in_cache.add_all(live));
            Reconciled { port: id, received, reported, in_cache }
        };
        Ok((0..PORTS_MAX).map(row).collect())
    }

    /// Has all that the flow cache has counted for any of `monitors` reported; the flows count from zero. What finds no room
    /// within a second and a half stays, and is reported in its time.
    pub fn flush_flows(&self, monitors: MonitorSet) -> Result<(), Error> {
        self.ask_all(0, |reply| Ask::Flush { monitors, reply }).map(|_| ())
    }

    /// Forgets the learned addresses that fit.
    pub fn clear_macs(&self, vlan: Option<VlanId>, mac: Option<MacAddr>) -> Result<(), Error> {
        self.ask(0, |reply| Ask::ClearMacs { vlan, mac, reply })
    }

    /// Ports whose device went away and that were not detached yet.
    pub fn gone_ports(&self) -> Vec<PortId> {
        let gone = |(i, bit): (usize, usize)| {
            let word = |seat: &Seat| seat.gone.get(i).map_or(0, |word| word.load(Ordering::Relaxed));
            self.shared.seats.iter().any(|seat| word(seat) >> bit & 1 == 1)
        };
        let all = (0..PORTS_MAX).map(|port| (port / 64, port % 64));
        all.filter(|at| gone(*at)).map(|(i, bit)| PortId((i * 64 + bit) as u16)).collect()
    }

    /// The latest of the workers' clocks, each as of its last turn.
    pub fn now(&self) -> Instant {
        let clocks = self.shared.seats.iter().map(|seat| seat.now.load(Ordering::Relaxed));
        Instant::from_ns(clocks.max().unwrap_or(0))
    }
}
