//! The loop: messages, receive, road, transmit, timers.
//!
//! [`Worker::turn`] does one round and never blocks; it is all there is to drive the switch in tests, simulation and
//! benches, where time is whatever the caller says. [`Worker::run`] is the thread: turns while there is work, then rest
//! (`idle`) until a port is readable, somebody asks something, or a timer may be due.
//!
//! Everything that could be long is cut in slices: a port gives at most one batch a turn, timers have a budget, and the
//! walks that questions need (`job`) go on a slice a turn, one at a time, in the order in which they were asked.
//!
//! **Several workers.** Each has its own flows, buffers, counters and handles of the ports, and they share the snapshot and
//! the MAC table, of which the first is the writer: it learns, ages, and follows the snapshot; the others send it what they
//! want learned. While a worker has offered its handle of a port to another it receives nothing, so that no frame finds
//! the port missing.
//!
//! Memory is taken in [`switch_of`]. After that a worker allocates only when it answers with the MAC table, and when ports
//! come or move.

mod assembly;
mod idle;
mod questions;
mod share;
mod thread;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use proto::addr::{MacAddr, VlanId};

use crate::control::{Ask, Attached, Control, Deal, Error, Seat, Shared};
use crate::emit::Devices;
use crate::frame::Buffer;
use crate::job::Job;
use crate::observe::passage::Watch;
use crate::port::{Port, PortId};
use crate::readiness::Readiness;
use crate::road::Road;
use crate::snapshot::Snapshot;
use crate::table::mac::WISHES;
use crate::table::portset::PortSet;
use crate::time::Instant;

use share::{Grant, Shares};

pub use assembly::{Limits, WORKERS_MAX, switch, switch_of};

/// Addresses of a port that one turn ages.
const AGED_PER_TURN: usize = 64;
/// Ports whose addresses one turn ages.
const PORTS_AGED_PER_TURN: usize = 16;
/// Addresses that a turn learns for each of the other workers.
const GRANTED_PER_TURN: usize = 64;
/// Turns, and time, after which epoll is asked although there are frames without it. The call costs about 0.4 us.
const LOOK_EVERY: u32 = 16;
const LOOK_AFTER: Duration = Duration::from_micros(20);

/// The one that moves frames; see the module. It may be made in one thread and run in another.
pub struct Worker {
    shared: Arc<Shared>,
    /// Which one it is; the first writes the MAC table.
    index: usize,
    /// The one that runs, and its version.
    snapshot: Arc<Snapshot>,
    running: u64,
    asked: Receiver<Ask>,
    job: Option<Job>,
    road: Road,
    devices: Devices,
    attached: Vec<PortId>,
    /// Ports whose offloads may change while they run.
    changing: Vec<PortId>,
    /// The port whose handle was offered to another worker.
    offered: Option<(PortId, Deal)>,
    readiness: Readiness,
    /// Turns since epoll was asked, and when that was.
    unlooked: u32,
    looked: Instant,
    shares: Shares,
    /// A turn that finds nothing is followed by sleep, which asks epoll as well.
    sleeps_next: bool,
    /// Received since the thread last asked, about: each batch as if all of its frames were like the first.
    octets: u64,
    buffers: Vec<Buffer>,
    /// Where in `attached` ageing goes on.
    age_next: usize,
    now: Instant,
    /// Timers, or the MAC table, had more to do than a turn does.
    behind: bool,
    /// Addresses that the writer was asked to learn.
    wished: u64,
}

impl Worker {
    /// One turn: snapshot, timers, messages, then a batch of each port that is ready, down the road and out. Returns how
    /// many frames were received. Never blocks.
    pub fn turn(&mut self, now: Instant) -> usize {
        self.round(&|| now)
    }

    fn seat(&self) -> Option<&Seat> {
        self.shared.seats.get(self.index)
    }

    /// A turn with a clock that is read once per batch.
    fn round(&mut self, clock: &dyn Fn() -> Instant) -> usize {
        self.now = self.now.max(clock());
        if let Some(seat) = self.seat() {
            seat.now.store(self.now.ns(), Ordering::Relaxed);
        }
        self.adopt_current();
        self.settle();
        self.tick();
        self.listen();
        if self.offered.is_some() {
            return 0;
        }
        for at in 0..self.changing.len() {
            if let Some(&id) = self.changing.get(at) {
                self.devices.renew(id);
            }
        }
        let received = self.receive_all(clock);
        if let Some(seat) = self.seat() {
            seat.counters.cache.active.set(self.road.flows.cache.live() as u64);
        }
        self.call_writer();
        received
    }

    /// A batch of each port that may have frames. Who else may have some the system is asked when there were none, and
    /// from time to time.
    fn receive_all(&mut self, clock: &dyn Fn() -> Instant) -> usize {
        self.unlooked += 1;
        let looked = self.unlooked >= LOOK_EVERY || self.now.since(self.looked) >= LOOK_AFTER;
        if looked {
            self.look();
        }
        let mut received = self.receive_ready(clock);
        if received == 0 && !looked && !self.sleeps_next && self.look() {
            received = self.receive_ready(clock);
        }
        // Those that somebody waited for may have nothing more; then he is next, in the next round at the latest.
        while self.shares.end_round() && received == 0 {
            received = self.receive_ready(clock);
        }
        received
    }

    fn look(&mut self) -> bool {
        (self.unlooked, self.looked) = (0, self.now);
        self.readiness.poll(Duration::ZERO)
    }

    /// A round over the ports, each with its share of time. Ports that were quiet come first, and are looked for between the
    /// batches of the busy ones: so what a frame of theirs waits for is a batch or two, however many ports are busy.
    fn receive_ready(&mut self, clock: &dyn Fn() -> Instant) -> usize {
        let mut received = self.receive_fresh(clock);
        for at in 0..self.attached.len() {
            if let Some(&id) = self.attached.get(at)
                && self.readiness.is_ready(id)
            {
                received += self.receive_share(id, clock);
                if self.now.since(self.looked) >= LOOK_AFTER {
                    self.look();
                    received += self.receive_fresh(clock);
                }
            }
        }
        received
    }

    fn receive_fresh(&mut self, clock: &dyn Fn() -> Instant) -> usize {
        let mut received = 0;
        while let Some(id) = self.readiness.next_fresh() {
            received += self.receive_share(id, clock);
        }
        received
    }

    /// A batch of a port, unless it has to wait, and what it took.
    fn receive_share(&mut self, id: PortId, clock: &dyn Fn() -> Instant) -> usize {
        let Grant::Frames(most) = self.shares.grant(id) else { return 0 };
        let frames = self.receive(id, most);
        if frames > 0 {
            let octets = self.buffers.first().map_or(0, |first| first.frame().len()) * frames;
            self.octets = self.octets.wrapping_add(octets as u64);
            let before = self.now;
            self.now = before.max(clock());
            let took = self.now.ns().saturating_sub(before.ns());
            self.shares.charge(id, frames as u64, took);
            if let Some(seat) = self.seat() {
                seat.load.add(id, frames as u64, took);
            }
        }
        frames
    }

    fn receive(&mut self, id: PortId, most: usize) -> usize {
        let Some(device) = self.devices.get_mut(id) else { return 0 };
        let room = self.buffers.get_mut(..most).unwrap_or_default();
        let received = match device.port.rx(room) {
            Ok(received) => received.min(most),
            Err(_) => {
                self.readiness.forget(id, &*device.port);
                self.mark_gone(id, true);
                return 0;
            }
        };
        if received == 0 {
            self.readiness.drained(id);
            return 0;
        }
        let frames = self.buffers.get(..received).unwrap_or_default();
        if let Some(tap) = &mut device.tap {
            tap.received(frames);
        }
        self.road.run(&self.snapshot, &mut self.devices, id, frames, self.now);
        if self.devices.outlet.has_written() {
            self.shared.mirror.call();
        }
        received
    }

    /// A further handle of the device of port `id`, which only sends.
    pub fn sender(&mut self, id: PortId) -> Result<Box<dyn Port>, Error> {
        let device = self.devices.get_mut(id).ok_or(Error::PortFree(id.0))?;
        device.port.sender().map_err(|error| Error::PortShared(id.0, error.to_string()))
    }

    fn mark_gone(&self, id: PortId, gone: bool) {
        if let Some(word) = self.seat().and_then(|seat| seat.gone.get(id.index() / 64)) {
            let bit = 1 << (id.index() % 64);
            let set = word.load(Ordering::Relaxed);
            word.store(if gone { set | bit } else { set & !bit }, Ordering::Relaxed);
        }
    }

    /// Wakes the writer of the MAC table when it was asked to learn something.
    fn call_writer(&mut self) {
        let (wished, lost) = self.road.macs.wished();
        if wished == self.wished {
            return;
        }
        self.wished = wished;
        if let Some(seat) = self.seat() {
            seat.load.wishes_lost.set(lost);
        }
        // Either this sees that it sleeps, or it sees the wish before it does.
        std::sync::atomic::fence(Ordering::SeqCst);
        if let Some(writer) = self.shared.seats.first()
            && writer.asleep.load(Ordering::Relaxed)
        {
            writer.wake();
        }
    }

    /// Takes over a snapshot that was published since the last turn, and what follows from it for the tables.
    fn adopt_current(&mut self) {
        let Some(snapshot) = self.shared.snapshot.newer(&mut self.running) else { return };
        let previous = std::mem::replace(&mut self.snapshot, snapshot);
        if previous.quotas != self.snapshot.quotas {
            let workers = self.shared.seats.len();
            let part = |all: &usize| u32::try_from(all.div_ceil(workers)).unwrap_or(u32::MAX);
            self.road.flows.quotas.set(self.snapshot.quotas.iter().map(part));
        }
        if previous.monitors != self.snapshot.monitors || previous.quotas != self.snapshot.quotas {
            self.road.flows.retime();
        }
        if let Some(seat) = self.shared.seats.get(self.index) {
            seat.counters.rule_drops.retain(|rule| self.snapshot.has_rule(rule));
        }
        if self.road.macs.writes() {
            self.follow(&previous);
        }
    }

    /// Brings the MAC table to what the snapshot says.
    fn follow(&mut self, previous: &Snapshot) {
        let snapshot = &*self.snapshot;
        let macs = &mut self.road.macs;
        // Learned where nothing can be any more: the port went down, became something else or lost the VLAN.
        let mut lost = PortSet::default();
        for port in previous.ports() {
            let id = port.config.id;
            let same = snapshot.port(id).is_some_and(|now| now.switches() && now.config.uplink == port.config.uplink);
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
    }

    /// Timers: flows and MAC addresses.
    fn tick(&mut self) {
        let walking = self.road.flows.walk(self.now, &self.snapshot);
        let expiring = self.road.flows.expire(self.now, &self.snapshot);
        let trimming = self.road.flows.trim(self.now);
        self.behind = walking || expiring || trimming;
        if self.road.macs.writes() {
            self.behind |= self.grant(GRANTED_PER_TURN);
            self.age();
        }
    }

    /// Learns what the other workers want, where it still is as they have seen it. `true` when there is more.
    fn grant(&mut self, most: usize) -> bool {
        let (snapshot, attached) = (&*self.snapshot, &self.attached);
        let allowed = |vlan, id| {
            let open = |port: &crate::snapshot::PortPolicy| port.switches() && port.carries(vlan);
            attached.contains(&id) && snapshot.vlans.contains(vlan) && snapshot.port(id).is_some_and(open)
        };
        self.road.macs.grant(most, self.now, &allowed)
    }

    fn age(&mut self) {
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

    /// Runs on `snapshot` as it is, at `now`; for a switch that is like another.
    pub(crate) fn run_on(&mut self, snapshot: Arc<Snapshot>, now: Instant) {
        self.now = now;
        self.shared.snapshot.store(snapshot);
        self.adopt_current();
    }

    /// Learns an address.
    pub(crate) fn teach(&mut self, vlan: VlanId, mac: MacAddr, port: PortId) {
        self.road.macs.learn(vlan, mac, port, self.now);
    }

    /// Tells of frames by `watch`.
    pub(crate) fn watch(&mut self, watch: Watch) {
        self.road.watch = Some(Box::new(watch));
    }

    /// Makes `snapshot` the running one, as [`Control::publish`] does; for whoever drives the workers in their own thread.
    pub fn publish(&mut self, mut snapshot: Snapshot) {
        snapshot.succeed(&self.snapshot);
        self.shared.snapshot.store(Arc::new(snapshot));
        self.adopt_current();
    }
}

const _: fn() = || {
    fn sent<T: Send>() {}
    fn shared<T: Send + Sync>() {}
    sent::<Worker>();
    shared::<Control>();
};
