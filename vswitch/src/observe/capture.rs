//! A capture: the frames of one port as the switch sees them there, for a person to look at.
//!
//! ```text
//!   worker: rx ──▶ tap (filter, copy) ──▶ ring of octets ──▶ Capture::take, in the agent's thread
//!           tx ──▶  ^ what the device has taken
//! ```
//!
//! Each worker has a [`Tap`] at its handle of the port while a capture runs, and so has the mirror, which sends copies; else there is none, which costs a test per
//! batch. A tap never waits: what finds no room in its ring is counted as lost, and the frame goes its way. Memory is taken
//! by who asks for the capture, not by the worker.
//!
//! Received frames are seen before any judge, so also those that are dropped then; sent ones after their device took them,
//! with the tag that they leave with. Super-frames are seen whole, and checksums that are left to a device unfinished, as by
//! tcpdump at a tap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use super::bpf::Program;
use crate::frame::{Buffer, TxFrame};
use crate::port::{PortId, Sent};
use crate::time::Instant;

/// Octets in front of each frame in a ring: when, length and direction, octets kept.
const HEAD: usize = 16;
/// In the word of the length: the frame was received.
const RECEIVED: u32 = 1 << 31;
/// Smallest ring of a worker: some frames of the largest size.
pub const RING_MIN: usize = 256 << 10;

/// What is wanted of a capture.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which frames; without it all.
    pub filter: Option<Program>,
    /// Octets that are kept of each.
    pub snap: usize,
    /// Octets of the rings of all workers together.
    pub ring: usize,
}

/// Counts of a tap; its worker is the only writer.
#[derive(Debug, Default)]
struct Cells {
    seen: AtomicU64,
    lost: AtomicU64,
}

impl Cells {
    fn add(cell: &AtomicU64) {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// What looks on at a worker's handle of a port.
pub struct Tap {
    filter: Option<Arc<Program>>,
    snap: usize,
    ring: Producer<u8>,
    cells: Arc<Cells>,
    /// The worker's clock.
    clock: Box<dyn Fn() -> u64 + Send>,
}

impl Tap {
    /// Frames that were received.
    #[cold]
    pub fn received(&mut self, frames: &[Buffer]) {
        let now = (self.clock)();
        frames.iter().for_each(|frame| self.see(now, RECEIVED, &[], frame.frame()));
    }

    /// Frames that were given to the device, of which it took those that `sent` says.
    #[cold]
    pub fn sent(&mut self, frames: &[TxFrame<'_>], sent: Sent) {
        let now = (self.clock)();
        for (i, frame) in frames.iter().enumerate().take(sent.total()) {
            if sent.refused_set >> (i % 64) & 1 == 0 {
                self.see(now, 0, frame.head, frame.rest);
            }
        }
    }

    fn see(&mut self, now: u64, direction: u32, head: &[u8], rest: &[u8]) {
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(head, rest)) {
            return;
        }
        Cells::add(&self.cells.seen);
        let length = head.len() + rest.len();
        let kept = length.min(self.snap);
        let Ok(mut chunk) = self.ring.write_chunk(HEAD + kept) else { return Cells::add(&self.cells.lost) };
        let (first, second) = chunk.as_mut_slices();
        let mut room = first.iter_mut().chain(second);
        let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX >> 1);
        let words = [(word(length) | direction).to_le_bytes(), word(kept).to_le_bytes()];
        let front = now.to_le_bytes().into_iter().chain(words.into_iter().flatten());
        let frame = head.iter().chain(rest).copied().take(kept);
        room.by_ref().zip(front.chain(frame)).for_each(|(to, octet)| *to = octet);
        chunk.commit_all();
    }
}

/// A frame that was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// When, by the workers' clock.
    pub at: Instant,
    /// It came from the port; else it was sent there.
    pub received: bool,
    /// Its length.
    pub length: u32,
    /// As much of it as was wanted.
    pub octets: Vec<u8>,
}

/// The reader's end of a capture. The taps stay until [`crate::control::Control::end_capture`].
pub struct Capture {
    /// The port.
    pub port: PortId,
    rings: Vec<(Consumer<u8>, Arc<Cells>)>,
}

impl Capture {
    /// A capture, and a tap for each worker and behind them one for the mirror; `clock` gives the clock of a worker.
    pub(crate) fn new(
        port: PortId,
        wanted: Wanted,
        workers: usize,
        clock: impl Fn(usize) -> Box<dyn Fn() -> u64 + Send>,
    ) -> (Capture, Vec<Tap>) {
        let filter = wanted.filter.map(Arc::new);
        let size = (wanted.ring / (workers + 1)).max(RING_MIN);
        let (mut rings, mut taps) = (Vec::new(), Vec::new());
        for worker in 0..=workers {
            let (ring, reader) = RingBuffer::new(size);
            let cells = Arc::new(Cells::default());
            rings.push((reader, Arc::clone(&cells)));
            taps.push(Tap { filter: filter.clone(), snap: wanted.snap, ring, cells, clock: clock(worker) });
        }
        (Capture { port, rings }, taps)
    }

    /// What was seen since, at most so many octets of it, each worker's in its order.
    pub fn take(&mut self, mut most: usize) -> Vec<Sighting> {
        let mut seen = Vec::new();
        for (ring, _) in &mut self.rings {
            while most > 0 {
                let Some(sighting) = next(ring) else { break };
                most = most.saturating_sub(HEAD + sighting.octets.len());
                seen.push(sighting);
            }
        }
        // Stable: those of one worker stay in their order.
        seen.sort_by_key(|sighting| sighting.at);
        seen
    }

    /// Frames that matched, and those of them that found no room in a ring.
    pub fn counts(&self) -> (u64, u64) {
        let sum = |pick: fn(&Cells) -> &AtomicU64| {
            self.rings.iter().map(|(_, cells)| pick(cells).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        };
        (sum(|cells| &cells.seen), sum(|cells| &cells.lost))
    }

    /// The port has lost its device, so nothing more comes.
    pub fn is_over(&self) -> bool {
        // The mirror's tap is the last: it stays whether or not copies go to the port.
        let (_, workers) = self.rings.split_last().unzip();
        workers.is_some_and(|rings: &[_]| rings.iter().any(|(ring, _)| ring.is_abandoned() && ring.is_empty()))
    }
}

/// The oldest frame of a ring. It was committed whole, so when its head is there, all of it is.
fn next(ring: &mut Consumer<u8>) -> Option<Sighting> {
    let mut head = [0; HEAD];
    read(ring, &mut head).ok()?;
    let [at, words] =
        [head.first_chunk::<8>(), head.last_chunk::<8>()].map(|half| half.map_or(0, |h| u64::from_le_bytes(*h)));
    let (length, kept) = (words as u32, (words >> 32) as u32);
    let mut octets = vec![0; usize::try_from(kept).ok()?];
    read(ring, &mut octets).ok()?;
    Some(Sighting { at: Instant::from_ns(at), received: length & RECEIVED != 0, length: length & !RECEIVED, octets })
}

fn read(ring: &mut Consumer<u8>, to: &mut [u8]) -> Result<(), ChunkError> {
    let chunk = ring.read_chunk(to.len())?;
    let (first, second) = chunk.as_slices();
    to.iter_mut().zip(first.iter().chain(second)).for_each(|(to, octet)| *to = *octet);
    chunk.commit_all();
    Ok(())
}
