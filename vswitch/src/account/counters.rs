//! The counters: of ports, rules, monitor sessions and the flow cache.
//!
//! Each worker has its own and writes them with a relaxed load and a relaxed store, which costs what plain memory costs;
//! anyone reads, and adds up what the workers have. Clearing is the reader's: it remembers what it saw as a baseline, so the
//! worker stays the only writer. Cells that one worker writes share no cache line with those of another.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::classes::ClassCells;
use super::rule_drops::RuleDrops;
use crate::config::{RULES_MAX, SESSION_ID_MAX};
use crate::control::{CacheStats, PortCounters, SessionStats, Traffic};
use crate::observe::mirror::CopyLoss;
use crate::port::{PORTS_MAX, PortId};
use crate::verdict::DropReason;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; by the one writer only.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Becomes `n`; by the one writer only.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

const PER_LINE: usize = 16;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([Counter; PER_LINE]);

/// A numbered row of counters that shares no cache line with anything else.
#[derive(Debug)]
pub(super) struct Row(Box<[Line]>);

impl Row {
    pub(super) fn new(count: usize) -> Self {
        Row((0..count.div_ceil(PER_LINE)).map(|_| Line::default()).collect())
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&Counter> {
        self.0.get(at / PER_LINE)?.0.get(at % PER_LINE)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Counter> {
        self.0.iter().flat_map(|line| &line.0)
    }
}

/// Frames and octets that are added up before a port counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    unicast: u64,
    multicast: u64,
    broadcast: u64,
    octets: u64,
}

impl Tally {
    /// `frames` frames to `dst`, with `octets` octets in all.
    #[inline(always)]
    pub fn add(&mut self, dst: [u8; 6], frames: u64, octets: u64) {
        self.octets = self.octets.wrapping_add(octets);
        let [first, ..] = dst;
        if first & 1 == 0 {
            self.unicast = self.unicast.wrapping_add(frames);
        } else {
            self.add_group(dst, frames);
        }
    }

    #[cold]
    fn add_group(&mut self, dst: [u8; 6], frames: u64) {
        match dst {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => self.broadcast += frames,
            _ => self.multicast += frames,
        }
    }
}

/// One direction of a port.
#[derive(Debug, Default)]
pub struct TrafficCells {
    unicast: Counter,
    multicast: Counter,
    broadcast: Counter,
    octets: Counter,
}

impl TrafficCells {
    /// All that was added up.
    #[inline]
    pub fn add(&self, tally: &Tally) {
        self.unicast.add(tally.unicast);
        self.multicast.add(tally.multicast);
        self.broadcast.add(tally.broadcast);
        self.octets.add(tally.octets);
    }

    fn read(&self) -> Traffic {
        Traffic {
            unicast: self.unicast.get(),
            multicast: self.multicast.get(),
            broadcast: self.broadcast.get(),
            octets: self.octets.get(),
        }
    }
}

/// The cells behind [`PortCounters`].
#[derive(Debug)]
#[repr(align(128))]
pub struct PortCells {
    /// From the port.
    pub rx: TrafficCells,
    /// To the port.
    pub tx: TrafficCells,
    /// Received here and sent somewhere.
    pub delivered: Counter,
    /// Where the flow meter has counted what came from it.
    pub classes: ClassCells,
    rx_drops: [Counter; DropReason::COUNT],
    tx_drops: [Counter; DropReason::COUNT],
}

impl PortCells {
    fn new() -> Self {
        PortCells {
            rx: TrafficCells::default(),
            tx: TrafficCells::default(),
            delivered: Counter::default(),
            classes: ClassCells::default(),
            rx_drops: std::array::from_fn(|_| Counter::default()),
            tx_drops: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// `frames` frames that came from the port were dropped.
    pub fn drop_rx(&self, reason: DropReason, frames: u64) {
        if let Some(cell) = self.rx_drops.get(reason as usize) {
            cell.add(frames);
        }
    }

    /// `frames` frames that were to leave by the port did not.
    pub fn drop_tx(&self, reason: DropReason, frames: u64) {
        if let Some(cell) = self.tx_drops.get(reason as usize) {
            cell.add(frames);
        }
    }

    fn read(&self) -> PortCounters {
        PortCounters {
            rx: self.rx.read(),
            tx: self.tx.read(),
            rx_drops: self.rx_drops.iter().map(Counter::get).collect(),
            tx_drops: self.tx_drops.iter().map(Counter::get).collect(),
            delivered: self.delivered.get(),
        }
    }
}

/// The cells behind [`SessionStats`].
#[derive(Debug, Default)]
pub struct SessionCells {
    /// Copies that a destination took.
    pub copied: Counter,
    /// Frames that the session took; a super-frame counts as its segments.
    pub matched: Counter,
    /// Copies that were cut short.
    pub truncated: Counter,
    /// Super-frames that were cut.
    pub segmented: Counter,
    /// Copies of other hosts.
    pub received: Counter,
    /// Of these, that were cut short there.
    pub received_cut: Counter,
    /// Copies of hosts that it takes none of.
    pub unwelcome: Counter,
    /// Numbers of copies that never came.
    pub missing: Counter,
    /// Copies that came behind later ones.
    pub late: Counter,
    losses: [Counter; CopyLoss::COUNT],
}

impl SessionCells {
    /// Copies that found no room in the ring to the mirror.
    pub fn lost_in_ring(&self) -> u64 {
        self.losses.get(CopyLoss::MirrorBusy as usize).map_or(0, Counter::get)
    }

    /// Copies did not reach a destination.
    pub fn lose(&self, loss: CopyLoss, copies: u64) {
        if let Some(cell) = self.losses.get(loss as usize) {
            cell.add(copies);
        }
    }
}

/// The cells behind [`CacheStats`].
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "as the fields of CacheStats")]
pub struct CacheCells {
    pub active: Counter,
    pub capacity: Counter,
    pub added: Counter,
    pub aged_inactive: Counter,
    pub aged_active: Counter,
    pub ended: Counter,
    pub forced: Counter,
    pub evicted: Counter,
    pub hits: Counter,
    pub misses: Counter,
    pub unmetered: Counter,
    pub summed: Counter,
}

/// All counters of a worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    ports: Box<[PortCells]>,
    rules: Row,
    /// Dropped frames by port and rule.
    pub rule_drops: RuleDrops,
    sessions: Box<[SessionCells]>,
    /// The flow cache.
    pub cache: CacheCells,
    /// Where counts of ports and rules go that do not exist.
    nowhere: PortCells,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            ports: (0..PORTS_MAX).map(|_| PortCells::new()).collect(),
            rules: Row::new(RULES_MAX),
            rule_drops: RuleDrops::default(),
            sessions: (0..=SESSION_ID_MAX).map(|_| SessionCells::default()).collect(),
            cache: CacheCells::default(),
            nowhere: PortCells::new(),
        }
    }
}

impl Counters {
    /// Those of the mirror, which judges nothing.
    pub fn of_mirror() -> Self {
        Counters { rules: Row::new(0), ..Counters::default() }
    }

    /// The cells of a port.
    #[inline]
    pub fn port(&self, id: PortId) -> &PortCells {
        self.ports.get(id.index()).unwrap_or(&self.nowhere)
    }

    /// The cells of session `id`.
    pub fn session(&self, id: u16) -> Option<&SessionCells> {
        self.sessions.get(usize::from(id))
    }

    /// `frames` frames were judged by rule `id`.
    #[inline]
    pub fn count_rule(&self, id: u32, frames: u64) {
        if let Some(cell) = self.rules.get(id as usize) {
            cell.add(frames);
        }
    }

    /// What a port has counted.
    pub fn read_port(&self, id: PortId) -> PortCounters {
        self.port(id).read()
    }

    /// How many frames rule `id` has judged.
    pub fn read_rule(&self, id: u32) -> u64 {
        self.rules.get(id as usize).map_or(0, Counter::get)
    }

    /// What a session has counted.
    pub fn read_session(&self, id: u16) -> SessionStats {
        self.session(id).map_or(SessionStats::default(), |cells| SessionStats {
            copied: cells.copied.get(),
            dropped: cells.losses.iter().map(Counter::get).fold(0, u64::wrapping_add),
            segmented: cells.segmented.get(),
            matched: cells.matched.get(),
            truncated: cells.truncated.get(),
            received: cells.received.get(),
            received_cut: cells.received_cut.get(),
            unwelcome: cells.unwelcome.get(),
            missing: cells.missing.get(),
            late: cells.late.get(),
            losses: cells.losses.each_ref().map(Counter::get),
        })
    }

    /// What the flow cache has counted.
    pub fn read_cache(&self) -> CacheStats {
        let c = &self.cache;
        CacheStats {
            active: c.active.get(),
            capacity: c.capacity.get(),
            added: c.added.get(),
            aged_inactive: c.aged_inactive.get(),
            aged_active: c.aged_active.get(),
            ended: c.ended.get(),
            forced: c.forced.get(),
            evicted: c.evicted.get(),
            hits: c.hits.get(),
            misses: c.misses.get(),
            unmetered: c.unmetered.get(),
            summed: c.summed.get(),
        }
    }
}
