//! A frame's way through the switch, told while it goes it: what was known of it, what each judge said, and what became of it.
//!
//! A [`Watch`] looks at a worker's batches and picks the frames that it is to tell of. A batch with one of them takes the way
//! of the road that asks no shortcut: every frame is decided one by one by the same code as any frame that is not usual, and
//! what was decided is written down where it is decided. Nothing is decided for the watch, and nothing because of it.
//!
//! * Without a watch this costs a test per batch. With one, its filter runs on every frame of the ports that it watches.
//! * It ends by itself: it tells of so many frames, all workers together, and of at most so many a second. Those beyond are
//!   counted. Memory is taken by who asks, not by the worker; a full ring loses, counted.
//!
//! Threads: one watch per worker; the count that is left is shared, and touched only by frames that are told of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use rtrb::{Consumer, Producer, RingBuffer};

use super::bpf::Program;
use crate::emit::{Batch, bit, pop};
use crate::frame::{BATCH, Buffer};
use crate::ingress;
use crate::parse::Parsed;
use crate::port::PortId;
use crate::snapshot::{SessionSet, Snapshot};
use crate::table::mac::MacTable;
use crate::time::Instant;
use crate::verdict::{DropReason, Judgement, RuleRef};

/// Octets of a frame that are kept.
pub const HEADER: usize = 128;
/// Receivers of a flood that are told one by one.
pub const RECEIVERS: usize = 32;
/// Frames that one worker tells of in a second at most.
pub const PER_SECOND: u32 = 200;

/// How the flow cache took a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cached {
    /// The verdict of its flow held.
    Hit,
    /// Its flow was known, but something that its verdict rested on had changed: the judges ran again.
    Stale,
    /// The first frame of its flow.
    Miss,
}

/// Where an address was when the frame came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Known {
    /// `None` drops.
    pub port: Option<PortId>,
    /// Configured, not learned.
    pub is_static: bool,
}

/// A port that a flood may reach, and what its judges said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receiver {
    /// The port.
    pub port: PortId,
    /// Why it did not get the frame.
    pub refused: Option<DropReason>,
    /// The rule that decided.
    pub rule: RuleRef,
}

/// The way of one frame.
#[derive(Clone, PartialEq, Debug)]
pub struct Passage {
    /// When, by the worker's clock.
    pub at: Instant,
    /// Port that it came from.
    pub port: PortId,
    /// Octets of the frame.
    pub length: u32,
    /// Its first octets.
    pub header: ArrayVec<u8, HEADER>,
    /// What is known of it; of a frame that is not what it claims, as far as that was read.
    pub parsed: Parsed,
    /// What the flow cache said; `None` for a frame that was not looked up, because it is not what it claims.
    pub cached: Option<Cached>,
    /// Where its source was, when it was admitted.
    pub source: Option<Known>,
    /// Where its destination was, when it was admitted.
    pub destination: Option<Known>,
    /// What the judges said, now or when its flow was judged.
    pub judgement: Option<Judgement>,
    /// Of a flood, who may have had it.
    pub receivers: ArrayVec<Receiver, RECEIVERS>,
    /// Receivers beyond those.
    pub more_receivers: u32,
    /// Sessions that have copied it.
    pub copied: SessionSet,
    /// Segments that the most successful port took; a frame that is none counts as one.
    pub sent: u32,
    /// Why a port, or all of them, did not get it.
    pub reason: Option<DropReason>,
    /// The rule behind `reason`.
    pub rule: RuleRef,
}

impl Passage {
    fn new(at: Instant, port: PortId, frame: &[u8]) -> Passage {
        Passage {
            at,
            port,
            length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            header: frame.iter().copied().take(HEADER).collect(),
            parsed: Parsed::EMPTY,
            cached: None,
            source: None,
            destination: None,
            judgement: None,
            receivers: ArrayVec::new(),
            more_receivers: 0,
            copied: 0,
            sent: 0,
            reason: None,
            rule: RuleRef::NONE,
        }
    }

    /// Why it reached nobody, or not with all its segments; `None` when it was delivered.
    pub fn dropped(&self) -> Option<DropReason> {
        (self.sent < self.parsed.segments).then_some(self.reason.unwrap_or(DropReason::NoDestination))
    }
}

/// Which frames are told of.
#[derive(Clone, Debug)]
pub struct WatchWanted {
    /// Those from that port; without it from all.
    pub port: Option<PortId>,
    /// Those that it matches; without it all.
    pub filter: Option<Program>,
    /// So many, all workers together.
    pub count: u32,
}

/// What a watch has counted; its worker is the only writer.
#[derive(Debug, Default)]
struct Cells {
    matched: AtomicU64,
    untold: AtomicU64,
}

fn add(cell: &AtomicU64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// What all workers together still have to do.
#[derive(Debug)]
struct Left {
    /// Frames to pick.
    picks: AtomicU32,
    /// Frames to tell of; those that are picked are told of at the end of their batch.
    tales: AtomicU32,
}

/// What looks on in a worker.
pub struct Watch {
    port: Option<PortId>,
    filter: Option<Arc<Program>>,
    left: Arc<Left>,
    /// Frames told of in the second that began then.
    pace: (Instant, u32),
    ring: Producer<Passage>,
    cells: Arc<Cells>,
    /// Frames of the batch that are told of, and what is known of each, in their order.
    set: u64,
    passages: Vec<Passage>,
}

impl Watch {
    /// Picks the frames of a batch; none most of the time.
    #[cold]
    pub(crate) fn choose(&mut self, port: PortId, buffers: &[Buffer], now: Instant) -> u64 {
        self.set = 0;
        self.passages.clear();
        if self.port.is_some_and(|only| only != port) || self.left.picks.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        for (at, buffer) in (0..BATCH as u8).zip(buffers) {
            let frame = buffer.frame();
            if self.filter.as_ref().is_some_and(|filter| !filter.matches(&[], frame)) {
                continue;
            }
            add(&self.cells.matched);
            if !self.may_tell(now) {
                add(&self.cells.untold);
            } else if self.take_one() {
                self.set |= bit(at);
                self.passages.push(Passage::new(now, port, frame));
            }
        }
        self.set
    }

    fn may_tell(&mut self, now: Instant) -> bool {
        let (began, told) = self.pace;
        if now.since(began).as_secs() > 0 {
            self.pace = (now, 1);
            return true;
        }
        self.pace.1 = told.saturating_add(1);
        told < PER_SECOND
    }

    /// One of those that are left.
    fn take_one(&self) -> bool {
        self.left.picks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn of(&mut self, at: u8) -> Option<&mut Passage> {
        if self.set & bit(at) == 0 {
            return None;
        }
        let before = self.set & (bit(at) - 1);
        self.passages.get_mut(before.count_ones() as usize)
    }

    /// Where the addresses of frame `at` are before it is decided.
    pub(crate) fn before(&mut self, at: u8, snapshot: &Snapshot, macs: &MacTable, parsed: &Parsed) {
        let Some(passage) = self.of(at) else { return };
        let port = snapshot.port(parsed.key.in_port());
        let Ok(admitted) = ingress::judge(snapshot, port, parsed) else { return };
        let known = |mac| macs.lookup(admitted.vlan, mac).map(|at| Known { port: at.port, is_static: at.is_static });
        (passage.source, passage.destination) = (known(parsed.key.src_mac()), known(parsed.key.dst_mac()));
    }

    /// What was decided about frame `at`.
    pub(crate) fn judged(&mut self, at: u8, cached: Cached, judgement: &Judgement) {
        if let Some(passage) = self.of(at) {
            (passage.cached, passage.judgement) = (Some(cached), Some(*judgement));
        }
    }

    /// What was decided about frame `at`, which is flooded, at one of the ports.
    pub(crate) fn flooded(&mut self, at: u8, port: PortId, refused: Option<DropReason>, rule: RuleRef) {
        let Some(passage) = self.of(at) else { return };
        let receiver = Receiver { port, refused, rule };
        if passage.receivers.try_push(receiver).is_err() {
            passage.more_receivers += 1;
        }
    }

    /// What became of the frames; and tells of them.
    #[cold]
    pub(crate) fn tell(&mut self, batch: &mut Batch) {
        let whole = batch.whole();
        let mut rest = self.set;
        for mut passage in self.passages.drain(..) {
            let Some(at) = pop(&mut rest) else { break };
            passage.parsed = *batch.parsed(at);
            if let Some(fate) = batch.fate(at) {
                (passage.copied, passage.sent) = (fate.copied, fate.sent);
                (passage.reason, passage.rule) = (fate.reason, fate.rule);
            }
            if whole & bit(at) != 0 {
                passage.sent = passage.parsed.segments;
            }
            if self.ring.push(passage).is_err() {
                add(&self.cells.untold);
            }
            // After the push: who sees that all is told finds it in the ring.
            self.left.tales.fetch_sub(1, Ordering::Release);
        }
        self.set = 0;
    }
}

/// The reader's end. The watches stay until [`crate::control::Control::end_watch`].
pub struct Watching {
    rings: Vec<(Consumer<Passage>, Arc<Cells>)>,
    left: Arc<Left>,
}

impl Watching {
    /// The reader's end, and a watch for each worker.
    pub(crate) fn new(wanted: WatchWanted, workers: usize) -> (Watching, Vec<Watch>) {
        let filter = wanted.filter.map(Arc::new);
        let (picks, tales) = (AtomicU32::new(wanted.count), AtomicU32::new(wanted.count));
        let left = Arc::new(Left { picks, tales });
        let room = usize::try_from(wanted.count.min(PER_SECOND)).unwrap_or(1).max(1);
        let (mut rings, mut watches) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (ring, reader) = RingBuffer::new(room);
            let cells = Arc::new(Cells::default());
            rings.push((reader, Arc::clone(&cells)));
            watches.push(Watch {
                port: wanted.port,
                filter: filter.clone(),
                left: Arc::clone(&left),
                pace: (Instant::default(), 0),
                ring,
                cells,
                set: 0,
                passages: Vec::with_capacity(BATCH),
            });
        }
        (Watching { rings, left }, watches)
    }

    /// What was told since, each worker's in its order.
    pub fn take(&mut self) -> Vec<Passage> {
        let mut told: Vec<Passage> = Vec::new();
        for (ring, _) in &mut self.rings {
            told.extend(std::iter::from_fn(|| ring.pop().ok()));
        }
        // Stable: those of one worker stay in their order.
        told.sort_by_key(|passage| passage.at);
        told
    }

    /// Frames that matched while there were some left to tell of, and those of them that came too fast.
    pub fn counts(&self) -> (u64, u64) {
        let sum = |pick: fn(&Cells) -> &AtomicU64| {
            self.rings.iter().map(|(_, cells)| pick(cells).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        };
        (sum(|cells| &cells.matched), sum(|cells| &cells.untold))
    }

    /// All that were asked for are told of: nothing comes behind what [`Watching::take`] gives after this.
    pub fn is_over(&self) -> bool {
        self.left.tales.load(Ordering::Acquire) == 0
    }
}
