//! The worker's end of its rings to the mirror: what is written, and where to.
//!
//! Nothing here waits, allocates or calls the system. The usual frame of at most a line is four loads and four stores, and the
//! lines are asked for a few ahead, because the mirror's core has had them.

use std::mem::MaybeUninit;

use rtrb::Producer;
use zerocopy::transmute;

use super::ring::{FRONTS, Head, LINE, Line, Start, front};
use crate::emit::pop;
use crate::frame::{BATCH, Buffer};
use crate::port::arena::prefetch_to_write;

/// How many lines ahead one is asked for.
const AHEAD: usize = 6;
/// Lines that are enough for most batches: with less room, the writer looks how far the reader has come.
fn plenty(ring: &Producer<Line>) -> usize {
    const PLENTY: usize = (256 << 10) / LINE;
    PLENTY.min(ring.buffer().capacity() / 8)
}

const _: () = assert!((BATCH - 1).div_ceil(FRONTS) * FRONTS <= BATCH);

/// What is left of a ring.
struct Room<'a> {
    /// Not empty while `second` is not.
    first: &'a mut [MaybeUninit<Line>],
    second: &'a mut [MaybeUninit<Line>],
    fronts: &'a mut [u64; 1 + BATCH],
    count: usize,
}

impl<'a> Room<'a> {
    /// Lines.
    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// The next line.
    fn next(&mut self) -> Option<&'a mut MaybeUninit<Line>> {
        let [line, behind] = self.take(1)?;
        line.iter_mut().chain(behind).next()
    }

    #[cold]
    fn go_round(&mut self) {
        self.first = std::mem::take(&mut self.second);
    }

    /// The next lines, which may be in two places.
    fn take(&mut self, lines: usize) -> Option<[&'a mut [MaybeUninit<Line>]; 2]> {
        if lines > self.len() {
            return None;
        }
        let first = std::mem::take(&mut self.first);
        let (room, rest) = first.split_at_mut(lines.min(first.len()));
        self.first = rest;
        let mut behind: &mut [_] = &mut [];
        if self.first.is_empty() {
            self.go_round();
            let first = std::mem::take(&mut self.first);
            (behind, self.first) = first.split_at_mut(lines - room.len());
        }
        Some([room, behind])
    }

    /// The frames of a set, in their order, of which at most so many octets are kept. Those that are written are taken out of the set.
    fn frames(&mut self, buffers: &[Buffer], set: &mut u64, most: usize) {
        while *set != 0 {
            self.small(buffers, set, most);
            let mut behind = *set;
            let Some(frame) = pop(&mut behind).map(|at| buffers.get(usize::from(at)).map_or(&[][..], Buffer::frame))
            else {
                return;
            };
            if !self.frame(frame.get(..most).unwrap_or(frame), frame.len()) {
                // Those behind it must not overtake it.
                return;
            }
            *set = behind;
        }
    }

    /// As [`Room::frames`], as long as a line holds what is kept. It goes over buffers that stand side by side, which those of a
    /// batch that goes one way do.
    #[inline(always)]
    fn small(&mut self, buffers: &[Buffer], set: &mut u64, most: usize) {
        while *set != 0 {
            let begin = set.trailing_zeros();
            let wanted = (*set >> begin).trailing_ones() as usize;
            let count = wanted.min(self.first.len()).min(self.fronts.len() - self.count);
            let all = (buffers.get(begin as usize..), self.first.get_mut(..count), self.fronts.get_mut(self.count..));
            let (Some(buffers), Some(room), Some(fronts)) = all else { return };
            let (Some(buffers), Some(fronts)) = (buffers.get(..count), fronts.get_mut(..count)) else { return };
            let mut done = 0;
            for ((buffer, line), place) in buffers.iter().zip(room).zip(fronts) {
                let kept = buffer.len().min(most);
                let (Some(block), 0..LINE) = (buffer.block::<LINE>(), kept.wrapping_sub(1)) else { break };
                *place = front(kept, buffer.len());
                prefetch_to_write(line, AHEAD);
                line.write(transmute!(*block));
                done += 1;
            }
            let first = std::mem::take(&mut self.first);
            self.first = first.get_mut(done..).unwrap_or_default();
            self.count += done;
            if self.first.is_empty() {
                self.go_round();
            }
            *set &= !(u64::MAX.checked_shr(u64::BITS - done as u32).unwrap_or(0) << begin);
            if done < wanted {
                // The end of the ring, or a longer frame.
                return;
            }
        }
    }

    /// A frame of `length` octets, of which `kept` are kept. `false` when there is no room for it.
    #[inline(never)]
    fn frame(&mut self, kept: &[u8], length: usize) -> bool {
        let Some(place) = self.fronts.get_mut(self.count) else { return false };
        *place = front(kept.len(), length);
        let Some([room, behind]) = self.take(kept.len().div_ceil(LINE)) else { return false };
        let done = room.len().saturating_mul(LINE);
        fill(room, kept);
        fill(behind, kept.get(done..).unwrap_or_default());
        self.count += 1;
        true
    }
}

/// Fills lines with octets, and the last one behind them with zeros.
fn fill(room: &mut [MaybeUninit<Line>], octets: &[u8]) {
    let (blocks, rest) = octets.as_chunks::<LINE>();
    for (line, block) in room.iter_mut().zip(blocks) {
        line.write(transmute!(*block));
    }
    if let Some(line) = room.get_mut(blocks.len()) {
        let mut block = [0; LINE];
        block.iter_mut().zip(rest).for_each(|(to, octet)| *to = *octet);
        line.write(transmute!(block));
    }
}

/// So often the mirror must have been close behind before the large ring is used again: it falls back by less than a hundredth.
const CALM: u8 = 16;

/// Where a worker writes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Course {
    /// To the small ring; when that is full, to the large one.
    Near,
    /// To the large ring, until the mirror has read all of it; when that is full, nowhere.
    Far,
    /// Nowhere, until the mirror has read all of the large ring.
    Stopped,
    /// To the small ring, as long as there is plenty of room. When the mirror has been close behind so often, [`CALM`] times the
    /// ring's length in all, it is as at first.
    Strained { calm: u8 },
}

/// A worker's end of its rings.
///
/// It writes to the small ring, which stays in the caches, and to the large one what comes in a burst: what is in the small ring is
/// older than what is in the large one, whenever both have something. When more is copied than the mirror delivers, the large one
/// does not help: it would be full for good, every copy would go through cold memory, and wait for all that is before it. So then it
/// is read to its end and left alone; the small ring takes what the mirror manages, and to lose the others costs
/// the worker a look at how far the mirror is.
pub struct Spout {
    near: Producer<Line>,
    far: Producer<Line>,
    course: Course,
    /// Of the run that is written.
    fronts: [u64; 1 + BATCH],
}

impl Spout {
    /// Of the small ring and the large one.
    pub(super) fn new(near: Producer<Line>, far: Producer<Line>) -> Self {
        Spout { near, far, course: Course::Near, fronts: [0; 1 + BATCH] }
    }

    /// There may be room. When not, all copies are lost.
    #[inline]
    pub(super) fn is_open(&mut self) -> bool {
        if matches!(self.course, Course::Far | Course::Stopped) && self.far.slots() == self.far.buffer().capacity() {
            self.course = if self.course == Course::Far { Course::Near } else { Course::Strained { calm: 0 } };
        }
        let Course::Strained { calm } = self.course else { return self.course != Course::Stopped };
        let plenty = plenty(&self.near);
        if self.near.cached_slots() >= plenty {
            return true;
        }
        let slots = self.near.slots();
        self.course = match calm {
            _ if slots < self.near.buffer().capacity() - plenty => Course::Strained { calm: 0 },
            CALM.. => Course::Near,
            calm => Course::Strained { calm: calm + 1 },
        };
        slots >= plenty
    }

    /// Writes a head, and behind it the frames of a set, of which at most `most` octets are kept; those that found room are taken out of
    /// the set. `true` when anything was written.
    #[inline]
    pub(super) fn write(&mut self, head: &Head, buffers: &[Buffer], set: &mut u64, most: usize) -> bool {
        let all = *set;
        if self.course != Course::Far {
            write(&mut self.near, &mut self.fronts, head, buffers, set, most);
            if *set != 0 && self.course == Course::Near {
                self.course = Course::Far;
            }
        }
        if *set != 0 && self.course == Course::Far {
            write(&mut self.far, &mut self.fronts, head, buffers, set, most);
            if *set != 0 {
                self.course = Course::Stopped;
            }
        }
        *set != all
    }
}

/// Writes a run, as far as there is room, and lets the reader have it when it has a frame.
fn write(
    ring: &mut Producer<Line>,
    fronts: &mut [u64; 1 + BATCH],
    head: &Head,
    buffers: &[Buffer],
    set: &mut u64,
    most: usize,
) {
    let left = if ring.cached_slots() >= plenty(ring) { ring.cached_slots() } else { ring.slots() };
    let Ok(mut chunk) = ring.write_chunk_uninit(left) else { return };
    let (first, second) = chunk.as_mut_slices();
    let mut room = Room { first, second, fronts, count: 0 };
    let reserved = (set.count_ones() as usize).saturating_sub(1).div_ceil(FRONTS);
    let (Some(start), Some([before, behind])) = (room.next(), room.take(reserved)) else { return };
    room.frames(buffers, set, most);
    let (rest, count) = (room.len(), room.count);
    if count == 0 {
        return;
    }
    let [first, fronts @ ..] = room.fronts;
    start.write(transmute!(Start { head: *head, count: count as u32, fronts: reserved as u32, first: *first }));
    let (fronts, _) = fronts.as_chunks::<FRONTS>();
    for (line, fronts) in before.iter_mut().chain(behind).zip(fronts) {
        line.write(Line(*fronts));
    }
    // SAFETY: the lines that are not left in the room are the first of the chunk, one after the other, and all are filled: the
    // start and the fronts just now, which a set of 64 frames makes no more than `fronts` has lines; those of frames by `Room`.
    unsafe { chunk.commit(left - rest) };
}
