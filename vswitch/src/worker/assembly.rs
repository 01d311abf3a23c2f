//! A switch is put together: its tables, its workers and their handle. All memory is taken here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{SyncSender, sync_channel};

use rtrb::{Consumer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use super::Worker;
use super::share::Shares;
use crate::account::counters::Counters;
use crate::account::load::LoadCells;
use crate::control::{Ask, Control, MirrorSeat, Seat, Shared};
use crate::current::Current;
use crate::emit::Devices;
use crate::flow::Flows;
use crate::flow::record::Record;
use crate::frame::{BATCH, Buffer};
use crate::observe::mirror::outlet::Outlet;
use crate::observe::mirror::received::Turned;
use crate::observe::mirror::ring::rings;
use crate::observe::mirror::{RING_OCTETS, SPILL_MAX, SPILL_OCTETS};
use crate::port::PORTS_MAX;
use crate::readiness::Readiness;
use crate::road::Road;
use crate::snapshot::Snapshot;
use crate::table::mac::MacTable;
use crate::time::Instant;

/// Most workers of a switch.
pub const WORKERS_MAX: usize = 64;

/// How much a switch holds, all workers together. Memory is taken at the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Flows; each worker has an equal part.
    pub flows: usize,
    /// MAC addresses.
    pub macs: usize,
    /// Learned MAC addresses of one port.
    pub macs_per_port: usize,
    /// Reports of flows that wait for the exporter; each worker has an equal part.
    pub records: usize,
    /// Reports a second, all workers together, of flows of one packet that were evicted; others are summed up.
    pub evicted_per_s: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { flows: 262_144, macs: 32_768, macs_per_port: 1_024, records: 65_536, evicted_per_s: 200_000 }
    }
}

/// A switch without ports: the worker, its handle, and where its reports of flows come out.
pub fn switch(limits: Limits) -> (Worker, Control, Consumer<Record>) {
    let shared = share(1);
    let macs = MacTable::new(limits.macs, limits.macs_per_port);
    let (copies, mirror) = rings(RING_OCTETS, SPILL_MAX);
    let (worker, asks, records) =
        make(&shared, 0, limits, macs, Outlet::new(copies, Arc::clone(&shared.mirror.stalled), None));
    (worker, Control::new(shared, vec![asks], vec![mirror]), records)
}

/// As [`switch`], with as many workers, 1 to [`WORKERS_MAX`]; each has its own ring of reports.
pub fn switch_of(limits: Limits, workers: usize) -> (Vec<Worker>, Control, Vec<Consumer<Record>>) {
    let count = workers.clamp(1, WORKERS_MAX);
    let shared = share(count);
    let (writer, readers) = MacTable::shared(limits.macs, limits.macs_per_port, count - 1);
    let part = |all: usize| all.div_ceil(count);
    let limits = Limits {
        flows: part(limits.flows),
        records: part(limits.records),
        evicted_per_s: part(limits.evicted_per_s),
        ..limits
    };
    let serials = (count > 1).then(Arc::default);
    let (mut workers, mut asks, mut reports, mut mirrored) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, macs) in [writer].into_iter().chain(readers).enumerate() {
        let (copies, mirror) = rings(RING_OCTETS, (SPILL_OCTETS / count).min(SPILL_MAX));
        let outlet = Outlet::new(copies, Arc::clone(&shared.mirror.stalled), serials.clone());
        let (worker, ask, records) = make(&shared, index, limits, macs, outlet);
        mirrored.push(mirror);
        workers.push(worker);
        asks.push(ask);
        reports.push(records);
    }
    (workers, Control::new(shared, asks, mirrored), reports)
}

/// What `count` workers and their handle share.
fn share(count: usize) -> Arc<Shared> {
    let seat = |_| Seat {
        counters: Arc::new(Counters::default()),
        load: LoadCells::default(),
        now: AtomicU64::new(0),
        gone: (0..PORTS_MAX / 64).map(|_| AtomicU64::new(0)).collect(),
        asleep: AtomicBool::new(false),
        waker: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok(),
    };
    let mirror = MirrorSeat {
        counters: Arc::new(Counters::of_mirror()),
        asleep: AtomicBool::new(false),
        stalled: Arc::default(),
        turned: Turned::default(),
        waker: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok(),
    };
    Arc::new(Shared { snapshot: Current::new(Snapshot::default()), seats: (0..count).map(seat).collect(), mirror })
}

fn make(
    shared: &Arc<Shared>,
    index: usize,
    limits: Limits,
    macs: MacTable,
    outlet: Outlet,
) -> (Worker, SyncSender<Ask>, Consumer<Record>) {
    let (records, reports) = RingBuffer::new(limits.records);
    let counters = shared.seats.get(index).map_or_else(Arc::default, |seat| Arc::clone(&seat.counters));
    let flows = Flows::new(limits.flows, records, limits.evicted_per_s, Arc::clone(&counters));
    counters.cache.capacity.set(flows.cache.capacity() as u64);
    let mut readiness = Readiness::new();
    if let Some(waker) = shared.seats.get(index).and_then(|seat| seat.waker.as_ref()) {
        readiness.watch_waker(waker);
    }
    let (asks, asked) = sync_channel(64);
    let worker = Worker {
        snapshot: shared.snapshot.load(),
        running: 0,
        shared: Arc::clone(shared),
        index,
        asked,
        job: None,
        road: Road::new(macs, flows, counters),
        devices: Devices::new(PORTS_MAX, outlet),
        attached: Vec::with_capacity(PORTS_MAX),
        changing: Vec::with_capacity(PORTS_MAX),
        offered: None,
        readiness,
        unlooked: 0,
        looked: Instant::default(),
        shares: Shares::new(),
        sleeps_next: false,
        octets: 0,
        buffers: (0..BATCH).map(Buffer::new).collect(),
        age_next: 0,
        now: Instant::default(),
        behind: false,
        wished: 0,
    };
    (worker, asks, reports)
}
