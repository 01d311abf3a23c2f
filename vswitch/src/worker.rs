//! The loop: messages, receive, road, transmit, timers.
//!
//! [`Worker::turn`] does one round and never blocks; it is all there is to drive the switch in tests, simulation and
//! benches, where time is whatever the caller says. [`Worker::run`] is the thread: turns while there is work, a few empty
//! ones more, then sleep in epoll until a port is readable, somebody asks something, or a timer may be due.
//!
//! Everything that could be long is cut in slices: a port gives at most one batch a turn, timers have a budget, and the
//! walks that questions need (`job`) go on a slice a turn, one at a time, in the order in which they were asked.
//!
//! Memory is taken in [`switch`]. After that the worker allocates only when it answers with the MAC table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use rtrb::{Consumer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use crate::account::counters::Counters;
use crate::control::{Ask, Attached, Control, Error, Shared};
use crate::emit::Devices;
use crate::flow::Flows;
use crate::flow::record::Record;
use crate::frame::{BATCH, Buffer};
use crate::job::Job;
use crate::port::{PORTS_MAX, Port, PortId};
use crate::readiness::Readiness;
use crate::road::Road;
use crate::snapshot::Snapshot;
use crate::table::mac::MacTable;
use crate::table::portset::PortSet;
use crate::time::Instant;

/// Addresses of a port that one turn ages.
const AGED_PER_TURN: usize = 64;
/// Ports whose addresses one turn ages.
const PORTS_AGED_PER_TURN: usize = 16;
/// Turns without work before the worker sleeps.
const EMPTY_TURNS: u32 = 16;
/// Longest sleep: timers tick every 100 ms.
const NAP_MAX: Duration = Duration::from_millis(100);
/// Longest sleep while a port has to be polled, or nothing can wake us.
const NAP_POLLED: Duration = Duration::from_micros(500);
/// Longest time that the worker spends on its last reports when it stops.
const LAST_REPORTS: Duration = Duration::from_secs(1);

/// How much a switch holds. Memory is taken at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Flows.
    pub flows: usize,
    /// MAC addresses.
    pub macs: usize,
    /// Learned MAC addresses of one port.
    pub macs_per_port: usize,
    /// Reports of flows that wait for the exporter.
    pub records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { flows: 262_144, macs: 32_768, macs_per_port: 1_024, records: 65_536 }
    }
}

/// A switch without ports: the worker, its handle, and where its reports of flows come out.
pub fn switch(limits: Limits) -> (Worker, Control, Consumer<Record>) {
    let (records, reports) = RingBuffer::new(limits.records);
    let counters = Arc::new(Counters::default());
    let shared = Arc::new(Shared {
        snapshot: Arc::new(ArcSwap::from_pointee(Snapshot::default())),
        counters: Arc::clone(&counters),
        now: AtomicU64::new(0),
        gone: (0..PORTS_MAX / 64).map(|_| AtomicU64::new(0)).collect(),
        waker: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok(),
    });
    let (asks, asked) = sync_channel(64);
    let flows = Flows::new(limits.flows, records, Arc::clone(&counters));
    counters.cache.capacity.set(flows.cache.capacity() as u64);
    let road = Road::new(MacTable::new(limits.macs, limits.macs_per_port), flows, counters);
    let mut readiness = Readiness::new();
    if let Some(waker) = &shared.waker {
        readiness.watch_waker(waker);
    }
    let worker = Worker {
        snapshot: shared.snapshot.load_full(),
        current: Cache::new(Arc::clone(&shared.snapshot)),
        shared: Arc::clone(&shared),
        asked,
        job: None,
        road,
        devices: Devices::new(PORTS_MAX),
        attached: Vec::with_capacity(PORTS_MAX),
        readiness,
        buffers: (0..BATCH).map(Buffer::new).collect(),
        age_next: 0,
        now: Instant::default(),
        behind: false,
    };
    (worker, Control::new(shared, asks), reports)
}

/// The one that moves frames; see the module. It may be made in one thread and run in another.
pub struct Worker {
    shared: Arc<Shared>,
    current: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    /// The one that runs: `current` as of the last turn.
    snapshot: Arc<Snapshot>,
    asked: Receiver<Ask>,
    job: Option<Job>,
    road: Road,
    devices: Devices,
    attached: Vec<PortId>,
    readiness: Readiness,
    buffers: Vec<Buffer>,
    /// Where in `attached` ageing goes on.
    age_next: usize,
    now: Instant,
    /// Timers had more to do than a turn does.
    behind: bool,
}

impl Worker {
    /// One turn: snapshot, timers, messages, then a batch of each port that is ready, down the road and out. Returns how
    /// many frames were received. Never blocks.
    pub fn turn(&mut self, now: Instant) -> usize {
        self.now = self.now.max(now);
        self.shared.now.store(self.now.ns(), Ordering::Relaxed);
        self.adopt_current();
        self.tick();
        self.listen();
        self.readiness.poll(Duration::ZERO);
        let mut received = 0;
        for at in 0..self.attached.len() {
            if let Some(&id) = self.attached.get(at)
                && self.readiness.is_ready(id)
            {
                received += self.receive(id);
            }
        }
        self.shared.counters.cache.active.set(self.road.flows.cache.live() as u64);
        received
    }

    fn receive(&mut self, id: PortId) -> usize {
        let Some(device) = self.devices.get_mut(id) else { return 0 };
        let received = match device.port.rx(&mut self.buffers) {
            Ok(received) => received.min(BATCH),
            Err(_) => {
                self.readiness.forget(id, device.port.readiness());
                self.mark_gone(id, true);
                return 0;
            }
        };
        if received < BATCH {
            self.readiness.drained(id);
        }
        if received > 0 {
            let frames = self.buffers.get(..received).unwrap_or_default();
            self.road.run(&self.snapshot, &mut self.devices, id, frames, self.now);
        }
        received
    }

    fn mark_gone(&self, id: PortId, gone: bool) {
        if let Some(word) = self.shared.gone.get(id.index() / 64) {
            let bit = 1 << (id.index() % 64);
            match gone {
                true => word.fetch_or(bit, Ordering::Relaxed),
                false => word.fetch_and(!bit, Ordering::Relaxed),
            };
        }
    }

    /// Takes over a snapshot that was published since the last turn, and what follows from it for the tables.
    fn adopt_current(&mut self) {
        let current = self.current.load();
        if Arc::ptr_eq(current, &self.snapshot) {
            return;
        }
        let snapshot = Arc::clone(current);
        let previous = std::mem::replace(&mut self.snapshot, snapshot);
        let snapshot = &*self.snapshot;
        let macs = &mut self.road.macs;
        // Learned where nothing can be any more: the port went down, became something else or lost the VLAN.
        let mut lost = PortSet::default();
        for port in previous.ports() {
            let id = port.config.id;
            let same = snapshot
                .port(id)
                .is_some_and(|now| now.config.up && now.config.uplink == port.config.uplink && !now.mirror_destination);
            if !same {
                lost.insert(id);
            }
        }
        for at in 0..macs.capacity() {
            let Some((vlan, mac, place, _)) = macs.at(at) else { continue };
            let stays = match (place.is_static, place.port) {
                (true, _) => snapshot.static_macs.iter().any(|entry| (entry.vlan, entry.mac) == (vlan, mac)),
                (false, Some(port)) => {
                    !lost.contains(port)
                        && snapshot.vlans.contains(vlan)
                        && snapshot.port(port).is_some_and(|port| port.carries(vlan))
                }
                (false, None) => false,
            };
            if !stays {
                macs.remove_at(at);
            }
        }
        for entry in &snapshot.static_macs {
            macs.set_static(entry.vlan, entry.mac, entry.port, self.now);
        }
        if previous.monitors != snapshot.monitors {
            self.road.flows.retime();
        }
    }

    /// Timers: flows and MAC addresses.
    fn tick(&mut self) {
        let walking = self.road.flows.walk(self.now, &self.snapshot);
        let expiring = self.road.flows.expire(self.now, &self.snapshot);
        self.behind = walking || expiring;
        let aging = self.snapshot.mac_aging;
        if aging.is_zero() {
            return;
        }
        let limit = self.now.ns().saturating_sub(u64::try_from(aging.as_nanos()).unwrap_or(u64::MAX));
        for _ in 0..self.attached.len().min(PORTS_AGED_PER_TURN) {
            self.age_next = (self.age_next + 1) % self.attached.len().max(1);
            if let Some(&port) = self.attached.get(self.age_next) {
                self.road.macs.age(port, Some(Instant::from_ns(limit)), AGED_PER_TURN);
            }
        }
    }

    /// Goes on with the question at hand, or takes the next.
    fn listen(&mut self) {
        let job = match self.job.take() {
            Some(job) => job,
            None => match self.asked.try_recv() {
                Ok(ask) => match self.start(ask) {
                    Some(job) => job,
                    None => return,
                },
                Err(_) => return,
            },
        };
        self.job = job.slice(&mut self.road, self.now);
    }

    /// Does what is short at once; what is long becomes a job. A reply that nobody waits for any more is no error.
    fn start(&mut self, ask: Ask) -> Option<Job> {
        match ask {
            Ask::Publish { reply } => {
                self.adopt_current();
                let _ = reply.send(());
                None
            }
            Ask::Attach { id, port, reply } => {
                let _ = reply.send(self.attach(id, port));
                None
            }
            Ask::Detach { id, reply } => match self.detach(id) {
                Some(port) => Some(Job::Retire { port: id, device: port, from: 0, reply }),
                None => {
                    let _ = reply.send(Err(Error::PortFree(id.0)));
                    None
                }
            },
            Ask::Drops { mut into, reply } => {
                into.extend(self.road.drops.newest_first());
                let _ = reply.send(into);
                None
            }
            Ask::Macs { into, reply } => Some(Job::Macs { into, from: 0, reply }),
            Ask::ClearMacs { vlan, mac, reply } => Some(Job::ClearMacs { vlan, mac, from: 0, reply }),
            Ask::Flows { filter, top, into, reply } => {
                Some(Job::Flows { filter, top, into, matched: 0, from: 0, reply })
            }
        }
    }

    /// Takes a device for port `id`, as [`Control::attach`] does; for whoever drives the worker in their own thread.
    pub fn attach(&mut self, id: PortId, port: Box<dyn Port>) -> Attached {
        if self.attached.contains(&id) {
            return Err((Error::PortTaken(id.0), port));
        }
        self.devices.attach(id, port).map_err(|port| (Error::PortNumber(id.0), port))?;
        self.attached.push(id);
        self.mark_gone(id, false);
        if let Some(device) = self.devices.get_mut(id) {
            // A port that costs nothing to ask is asked every turn.
            let fd = if device.port.polls() { None } else { device.port.readiness() };
            self.readiness.watch(id, fd);
        }
        Ok(())
    }

    /// Takes the device of port `id` away, and forgets what was learned there.
    fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        let port = self.devices.detach(id)?;
        self.readiness.forget(id, port.readiness());
        self.mark_gone(id, false);
        self.attached.retain(|attached| *attached != id);
        self.road.macs.age(id, None, usize::MAX);
        Some(port)
    }

    /// Makes `snapshot` the running one, as [`Control::publish`] does; for whoever drives the worker in their own thread.
    pub fn publish(&mut self, mut snapshot: Snapshot) {
        snapshot.succeed(&self.snapshot);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.adopt_current();
    }

    /// The thread: turns until `stop`, then a last report of every flow. `epoch` is when the worker's clock was zero.
    pub fn run(mut self, epoch: std::time::Instant, stop: Arc<AtomicBool>) {
        let clock = || Instant::from_ns(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let mut empty = 0;
        while !stop.load(Ordering::Relaxed) {
            if self.turn(clock()) > 0 || self.job.is_some() || self.behind {
                empty = 0;
                continue;
            }
            empty += 1;
            if empty < EMPTY_TURNS {
                std::hint::spin_loop();
                continue;
            }
            let nap = match self.readiness.must_poll() || self.shared.waker.is_none() {
                true => NAP_POLLED,
                false => NAP_MAX,
            };
            self.readiness.poll(nap);
        }
        self.finish(&clock);
    }

    fn finish(&mut self, clock: &dyn Fn() -> Instant) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.road.flows.retire(None, at, clock());
        }
        let start = clock();
        while self.road.flows.cache.live() > 0 && clock().since(start) < LAST_REPORTS {
            if !self.road.flows.expire(clock(), &self.snapshot) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

const _: fn() = || {
    fn sent<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    sent::<Worker>();
    shared::<Control>();
};
