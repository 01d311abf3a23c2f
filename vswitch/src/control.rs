//! The agent's handle on a running worker: publish, attach, ask.
//!
//! Counters are read straight from the worker's arrays (relaxed atomic loads; the worker is their only writer). What only
//! the worker can know (its MAC table, its flow cache) is asked for by a message on a bounded channel; the worker answers
//! between two batches, a bounded slice at a time, so a question never holds up frames.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use proto::addr::{MacAddr, VlanId};

use crate::account::counters::Counters;
use crate::flow::record::{MonitorSet, Record};
use crate::port::{PORTS_MAX, Port, PortId};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::verdict::DropReason;

/// How long a question waits for the worker.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Why the worker did not do what was asked.
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
}

/// What came of an attachment; a device that was not taken comes back.
pub type Attached = Result<(), (Error, Box<dyn Port>)>;

/// What the worker is asked; answers go by `reply`, into memory that the asker has provided.
pub(crate) enum Ask {
    /// Say when the current snapshot runs.
    Publish { reply: SyncSender<()> },
    /// Take a device; give it back if it can't be.
    Attach { id: PortId, port: Box<dyn Port>, reply: SyncSender<Attached> },
    /// Give a device back.
    Detach { id: PortId, reply: SyncSender<Result<Box<dyn Port>, Error>> },
    /// The last dropped frames.
    Drops { into: Vec<DropSample>, reply: SyncSender<Vec<DropSample>> },
    /// The MAC table.
    Macs { into: Vec<MacEntry>, reply: SyncSender<Vec<MacEntry>> },
    /// Forget learned addresses.
    ClearMacs { vlan: Option<VlanId>, mac: Option<MacAddr>, reply: SyncSender<()> },
    /// The flows with the most octets, and how many there are.
    Flows { filter: FlowFilter, top: usize, into: Vec<LiveFlow>, reply: SyncSender<(Vec<LiveFlow>, u64)> },
}

/// What the worker and its handle both see.
pub(crate) struct Shared {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) counters: Arc<Counters>,
    /// The worker's clock, nanoseconds.
    pub(crate) now: AtomicU64,
    /// Ports whose device is gone, one bit each.
    pub(crate) gone: Vec<AtomicU64>,
    /// Written to end the worker's sleep; `None` when the system had none to give.
    pub(crate) waker: Option<OwnedFd>,
}

#[derive(Default)]
struct Baselines {
    ports: HashMap<PortId, PortCounters>,
    rules: HashMap<u32, u64>,
}

/// The handle; see the module.
pub struct Control {
    shared: Arc<Shared>,
    asks: SyncSender<Ask>,
    baselines: Mutex<Baselines>,
    publishing: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>, asks: SyncSender<Ask>) -> Self {
        Control { shared, asks, baselines: Mutex::default(), publishing: Mutex::default() }
    }

    /// Sends a question and waits for its answer.
    fn ask<T>(&self, question: impl FnOnce(SyncSender<T>) -> Ask) -> Result<T, Error> {
        let (reply, answer): (SyncSender<T>, Receiver<T>) = sync_channel(1);
        self.asks.try_send(question(reply)).map_err(|error| match error {
            TrySendError::Full(_) => Error::Timeout,
            TrySendError::Disconnected(_) => Error::Stopped,
        })?;
        if let Some(waker) = &self.shared.waker {
            // A full counter wakes as well.
            let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
        }
        answer.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Error::Timeout,
            RecvTimeoutError::Disconnected => Error::Stopped,
        })
    }

    /// The snapshot that was published last, to build the next one on.
    pub fn running(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Makes `snapshot` the running one, and returns when the worker runs on it.
    pub fn publish(&self, mut snapshot: Snapshot) -> Result<(), Error> {
        let one_at_a_time = lock(&self.publishing);
        let previous = self.shared.snapshot.load_full();
        snapshot.succeed(&previous);
        self.shared.snapshot.store(Arc::new(snapshot));
        let done = self.ask(|reply| Ask::Publish { reply });
        // The previous one lives until here, so that it is freed by this thread and not by the worker.
        drop(previous);
        drop(one_at_a_time);
        done
    }

    /// Gives the worker a device for port `id`.
    pub fn attach(&self, id: PortId, port: Box<dyn Port>) -> Result<(), Error> {
        if id.index() >= PORTS_MAX {
            return Err(Error::PortNumber(id.0));
        }
        self.ask(|reply| Ask::Attach { id, port, reply })?.map_err(|(error, _closed_here)| error)
    }

    /// Takes the device of port `id` away and closes it. Its flows are reported, its learned addresses forgotten.
    pub fn detach(&self, id: PortId) -> Result<(), Error> {
        self.ask(|reply| Ask::Detach { id, reply })?.map(drop)
    }

    /// What port `id` has counted since it was last cleared.
    pub fn port_counters(&self, id: PortId) -> PortCounters {
        let counted = self.shared.counters.read_port(id);
        match lock(&self.baselines).ports.get(&id) {
            Some(baseline) => counted.since(baseline),
            None => counted,
        }
    }

    /// Counts of port `id` start from zero.
    pub fn clear_port_counters(&self, id: PortId) {
        let counted = self.shared.counters.read_port(id);
        lock(&self.baselines).ports.insert(id, counted);
    }

    /// How many frames rule `rule_id` has judged since it was last cleared.
    pub fn rule_matches(&self, rule_id: u32) -> u64 {
        let counted = self.shared.counters.read_rule(rule_id);
        counted.wrapping_sub(lock(&self.baselines).rules.get(&rule_id).copied().unwrap_or(0))
    }

    /// Counts of rule `rule_id` start from zero.
    pub fn clear_rule(&self, rule_id: u32) {
        let counted = self.shared.counters.read_rule(rule_id);
        lock(&self.baselines).rules.insert(rule_id, counted);
    }

    /// Copies of session `index` since the start.
    pub fn session_stats(&self, index: usize) -> SessionStats {
        self.shared.counters.read_session(index)
    }

    /// State of the flow cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.shared.counters.read_cache()
    }

    /// The last dropped frames, newest first, at most 64.
    pub fn drop_samples(&self) -> Result<Vec<DropSample>, Error> {
        let into = Vec::with_capacity(crate::observe::drops::KEPT);
        self.ask(|reply| Ask::Drops { into, reply })
    }

    /// The MAC address table, in no order.
    pub fn macs(&self) -> Result<Vec<MacEntry>, Error> {
        self.ask(|reply| Ask::Macs { into: Vec::new(), reply })
    }

    /// The live flows that fit, those with the most octets first and at most `top`, and how many fit in all.
    pub fn flows(&self, filter: FlowFilter, top: usize) -> Result<(Vec<LiveFlow>, u64), Error> {
        let top = top.min(self.cache_stats().capacity as usize);
        let into = Vec::with_capacity(2 * top);
        self.ask(|reply| Ask::Flows { filter, top, into, reply })
    }

    /// Forgets the learned addresses that fit.
    pub fn clear_macs(&self, vlan: Option<VlanId>, mac: Option<MacAddr>) -> Result<(), Error> {
        self.ask(|reply| Ask::ClearMacs { vlan, mac, reply })
    }

    /// Ports whose device went away and that were not detached yet.
    pub fn gone_ports(&self) -> Vec<PortId> {
        let words = self.shared.gone.iter().enumerate();
        let bits = words.flat_map(|(i, word)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i * 64 + bit)
        });
        bits.map(|port| PortId(port as u16)).collect()
    }

    /// The worker's clock at its last turn.
    pub fn now(&self) -> Instant {
        Instant::from_ns(self.shared.now.load(Ordering::Relaxed))
    }
}

/// One direction of a port. Super-frames count as their segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// To one station.
    pub unicast: u64,
    /// To a group.
    pub multicast: u64,
    /// To all.
    pub broadcast: u64,
    /// Octets without FCS.
    pub octets: u64,
}

/// All counters of a port. Law 1 over a worker: the sum of `rx` frames equals frames delivered to at least one port
/// plus frames dropped, and every drop is under one reason of the port it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortCounters {
    /// Received from the port, dropped ones included.
    pub rx: Traffic,
    /// Sent to the port.
    pub tx: Traffic,
    /// Frames received from this port that were dropped, by reason (index as [`DropReason::ALL`]).
    pub rx_drops: Vec<u64>,
    /// Frames that were to leave by this port and did not, by reason. A unicast frame counts here and under the same
    /// reason in the `rx_drops` of the port it came from; a copy of a flood counts here alone.
    pub tx_drops: Vec<u64>,
    /// Frames received from this port that went to at least one port.
    pub delivered: u64,
}

impl Traffic {
    /// Frames of every kind.
    pub fn frames(&self) -> u64 {
        self.unicast + self.multicast + self.broadcast
    }
}

impl PortCounters {
    /// What was counted after `baseline` was read.
    fn since(&self, baseline: &PortCounters) -> PortCounters {
        let traffic = |now: &Traffic, then: &Traffic| Traffic {
            unicast: now.unicast.wrapping_sub(then.unicast),
            multicast: now.multicast.wrapping_sub(then.multicast),
            broadcast: now.broadcast.wrapping_sub(then.broadcast),
            octets: now.octets.wrapping_sub(then.octets),
        };
        let drops = |now: &[u64], then: &[u64]| now.iter().zip(then).map(|(a, b)| a.wrapping_sub(*b)).collect();
        PortCounters {
            rx: traffic(&self.rx, &baseline.rx),
            tx: traffic(&self.tx, &baseline.tx),
            rx_drops: drops(&self.rx_drops, &baseline.rx_drops),
            tx_drops: drops(&self.tx_drops, &baseline.tx_drops),
            delivered: self.delivered.wrapping_sub(baseline.delivered),
        }
    }
}

/// An entry of the MAC table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacEntry {
    /// VLAN.
    pub vlan: VlanId,
    /// Address.
    pub mac: MacAddr,
    /// Where it is; `None` drops.
    pub port: Option<PortId>,
    /// Configured, not learned.
    pub is_static: bool,
    /// When it was last seen.
    pub seen: Instant,
}

/// A live flow, as the report it would make now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveFlow {
    /// Counts since its last report; the end reason means nothing.
    pub record: Record,
}

/// Which flows are wanted. Filters that are `None` match everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowFilter {
    /// Watched by one of these monitors; 0 is any flow.
    pub monitors: MonitorSet,
    /// That address at either end, v4-mapped.
    pub host: Option<[u8; 16]>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// TCP or UDP port at either end.
    pub port: Option<u16>,
    /// VLAN.
    pub vlan: Option<VlanId>,
    /// Entering or leaving there.
    pub interface: Option<PortId>,
    /// Dropped ones only.
    pub dropped: bool,
}

/// One of the last dropped frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropSample {
    /// When.
    pub at: Instant,
    /// Port the frame came from.
    pub port: PortId,
    /// Why.
    pub reason: DropReason,
    /// Number of the rule that denied it.
    pub rule: Option<u32>,
    /// Length of the frame, octets.
    pub length: u32,
    /// First octets of the frame.
    pub header: [u8; 96],
    /// How many of `header` were present.
    pub header_len: u8,
}

/// State of the flow cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Flows in the cache.
    pub active: u64,
    /// Most that it can hold.
    pub capacity: u64,
    /// Flows added since start.
    pub added: u64,
    /// Ended by the inactive timeout.
    pub aged_inactive: u64,
    /// Reported by the active timeout.
    pub aged_active: u64,
    /// Ended by TCP FIN or RST.
    pub ended: u64,
    /// Reported because the configuration or the port changed.
    pub forced: u64,
    /// Reported early to make room.
    pub evicted: u64,
    /// Frames that found their flow in the cache.
    pub hits: u64,
    /// Frames for which the judges ran.
    pub misses: u64,
    /// Packets that no flow has counted, because the cache was full and the exporter took no reports.
    pub unmetered: u64,
}

/// Copies of a monitor session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionStats {
    /// Copies that a destination took.
    pub copied: u64,
    /// Copies that a destination could not take.
    pub dropped: u64,
    /// Super-frames that were cut into segments.
    pub segmented: u64,
}
