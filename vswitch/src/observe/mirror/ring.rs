//! What a worker's ring to the mirror holds: runs of frames, in lines of the cache.
//!
//! ```text
//!   start: head, count, first front · lines of eight further fronts · octets of the first frame · of the second · ...
//! ```
//!
//! A head says of its frames what they have in common: who wants them, when and where they were seen, what is left to do. A
//! front says how long a frame is, and how much of it is there. All begins at a line of its own and is written in whole lines,
//! which is what a store costs least: a frame of 64 octets is four stores to one line. Behind the last octet of a frame its line has
//! whatever was there in the worker's buffer; nobody looks at that. A run is committed at once, so whatever the reader
//! finds is whole; but its lines may go round the end of the ring, and a frame that does is put together then.

use arrayvec::ArrayVec;
use proto::addr::VlanId;
use rtrb::{Consumer, RingBuffer};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, transmute_ref};

use super::spout::Spout;
use crate::egress::vlan::Rewrite;
use crate::frame::BATCH;
use crate::frame::vnet::VnetHdr;
use crate::snapshot::SessionSet;

/// Octets of a line.
pub(super) const LINE: usize = 64;
/// Fronts in a line.
pub(super) const FRONTS: usize = LINE / size_of::<u64>();
/// No such port.
pub(super) const NO_PORT: u16 = u16::MAX;

/// What the frames behind it have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Head {
    /// Who wants them, in the words of the snapshot.
    pub sessions: SessionSet,
    /// Rises with every batch of whatever worker.
    pub serial: u64,
    /// When they were received, by the workers' clock.
    pub at_ns: u64,
    /// The snapshot that they were switched by.
    pub sequence: u32,
    /// The port that they came from.
    pub in_port: u16,
    /// The port that sent them; [`NO_PORT`] when they were seen as received.
    pub out_port: u16,
    /// The VLAN that they are switched in, 0 when that is not known; above it what was done to their tags.
    vlan_and_seen: u16,
    /// Segments of each.
    pub segments: u16,
    flags: u8,
    gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
    /// Of a tag that was put in or in the place of another.
    tci: u16,
}

const _: () = assert!(size_of::<Head>() == 48);

impl Head {
    /// What is left to do.
    pub fn vnet(&self) -> VnetHdr {
        VnetHdr {
            flags: self.flags,
            gso_type: self.gso_type,
            hdr_len: self.hdr_len,
            gso_size: self.gso_size,
            csum_start: self.csum_start,
            csum_offset: self.csum_offset,
        }
    }

    /// The VLAN that they are switched in.
    pub fn vlan(&self) -> Option<VlanId> {
        VlanId::new(self.vlan_and_seen & 0xfff)
    }

    /// What was done to their tags where they were seen.
    pub fn seen(&self) -> Rewrite {
        match self.vlan_and_seen >> 12 {
            1 => Rewrite::Push(self.tci),
            2 => Rewrite::Pop,
            3 => Rewrite::Replace(self.tci),
            _ => Rewrite::Keep,
        }
    }

    /// As switched in `vlan`, with `seen` done to their tags.
    pub fn with_tag(self, vlan: Option<VlanId>, seen: Rewrite) -> Self {
        let (kind, tci) = match seen {
            Rewrite::Keep => (0, 0),
            Rewrite::Push(tci) => (1, tci),
            Rewrite::Pop => (2, 0),
            Rewrite::Replace(tci) => (3, tci),
        };
        Head { vlan_and_seen: vlan.map_or(0, VlanId::get) | kind << 12, tci, ..self }
    }

    /// With that left to do.
    pub fn with_vnet(self, vnet: VnetHdr) -> Self {
        let VnetHdr { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset } = vnet;
        Head { flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, ..self }
    }

    /// Nothing.
    pub fn zero() -> Self {
        Head::new_zeroed()
    }
}

/// What the rings are made of.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub(super) struct Line(pub [u64; FRONTS]);

/// The first line of a run.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Start {
    pub head: Head,
    /// Frames, at most [`BATCH`].
    pub count: u32,
    /// Lines of fronts.
    pub fronts: u32,
    /// The front of the first frame.
    pub first: u64,
}

/// A front: octets that are there, and above them those that the frame has.
pub(super) fn front(kept: usize, length: usize) -> u64 {
    kept as u64 | (length as u64) << 32
}

/// Two rings for a worker of so many octets: a small one, and a large one for bursts; see [`Spout`].
pub fn rings(small: usize, large: usize) -> (Spout, Reader) {
    let ring = |octets: usize| RingBuffer::new(octets / LINE);
    let ((near, near_end), (far, far_end)) = (ring(small), ring(large));
    (Spout::new(near, far), Reader { near: Half::new(near_end), far: Half::new(far_end), in_far: false })
}

/// The mirror's end of a worker's rings.
pub struct Reader {
    near: Half,
    far: Half,
    /// The next frame is in the large ring.
    in_far: bool,
}

impl Reader {
    /// Lines that were written since the start.
    pub(super) fn written(&self) -> u64 {
        self.near.written() + self.far.written()
    }

    /// Lines that were read since the start.
    pub(super) fn read(&self) -> u64 {
        self.near.read + self.far.read
    }

    /// The serial of the next frame.
    pub(super) fn peek(&mut self) -> Option<u64> {
        self.in_far = false;
        if let Some(serial) = self.near.peek() {
            return Some(serial);
        }
        let serial = self.far.peek()?;
        // What came to the small ring after the first look is older than what is found in the large one.
        if let Some(older) = self.near.peek() {
            return Some(older);
        }
        self.in_far = true;
        Some(serial)
    }

    /// Shows runs of the batch `serial` to `see`, as [`Reader::peek`] has found it, until there were `most` frames or more in them.
    /// Returns how many there were.
    pub(super) fn drain(&mut self, serial: u64, most: usize, see: &mut dyn FnMut(&Run<'_>)) -> usize {
        let half = if self.in_far { &mut self.far } else { &mut self.near };
        half.drain(serial, most, see)
    }
}

/// A frame of a run.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// What is there of it.
    pub octets: &'a [u8],
    /// Octets that it has.
    pub length: usize,
}

/// Frames that were seen in the same way, as they were written.
pub(super) struct Run<'a> {
    pub head: &'a Head,
    pub frames: ArrayVec<Seen<'a>, BATCH>,
}

/// The mirror's end of one ring.
struct Half {
    ring: Consumer<Line>,
    split: Vec<Line>,
    /// Lines read since the start.
    read: u64,
}

impl Half {
    /// At the begin of a ring.
    fn new(ring: Consumer<Line>) -> Self {
        Half { ring, split: Vec::new(), read: 0 }
    }

    /// Lines that were written since the start.
    fn written(&self) -> u64 {
        self.read + self.ring.slots() as u64
    }

    /// The serial of the next run.
    fn peek(&self) -> Option<u64> {
        let line: &Start = transmute_ref!(self.ring.peek().ok()?);
        Some(line.head.serial)
    }

    /// As [`Reader::drain`].
    fn drain(&mut self, serial: u64, most: usize, see: &mut dyn FnMut(&Run<'_>)) -> usize {
        let Ok(chunk) = self.ring.read_chunk(self.ring.slots()) else { return 0 };
        let (first, second) = chunk.as_slices();
        let lines = Lines { first, second };
        let (mut at, mut seen) = (0, 0);
        while seen < most
            && let Some(line) = lines.get(at)
        {
            let start: &Start = transmute_ref!(line);
            if start.head.serial != serial {
                break;
            }
            at = lines.run(at, start, &mut self.split, see);
            seen += start.count as usize;
        }
        let at = at.min(chunk.len());
        chunk.commit(at);
        self.read += at as u64;
        seen
    }
}

/// Lines in two slices that belong together.
struct Lines<'a> {
    first: &'a [Line],
    second: &'a [Line],
}

impl<'a> Lines<'a> {
    #[inline]
    fn get(&self, at: usize) -> Option<&'a Line> {
        match self.first.get(at) {
            None => self.second.get(at - self.first.len()),
            line => line,
        }
    }

    /// Shows the run that begins at line `at` with `start`; returns where the next one begins.
    fn run(&self, at: usize, start: &Start, split: &mut Vec<Line>, see: &mut dyn FnMut(&Run<'_>)) -> usize {
        let fronts = at + 1;
        let mut at = fronts + start.fronts as usize;
        let mut run = Run { head: &start.head, frames: ArrayVec::new() };
        let mut front = start.first;
        // It goes round the end of the ring: which of them, and where it begins.
        let mut round = None;
        for n in 0..(start.count as usize).min(BATCH) {
            let (kept, length) = (front as u32 as usize, (front >> 32) as usize);
            let octets = self.octets(at, kept).unwrap_or_else(|| {
                round = Some((n, at, kept));
                &[]
            });
            run.frames.push(Seen { octets, length });
            at += kept.div_ceil(LINE);
            front = self.get(fronts + n / FRONTS).and_then(|line| line.0.get(n % FRONTS)).copied().unwrap_or(0);
        }
        if let Some((n, from, kept)) = round {
            split.clear();
            split.extend_from_slice(self.first.get(from..).unwrap_or_default());
            let behind = (from + kept.div_ceil(LINE)).saturating_sub(self.first.len());
            split.extend_from_slice(self.second.get(..behind).unwrap_or_default());
            if let (Some(seen), Some(octets)) = (run.frames.get_mut(n), split.as_bytes().get(..kept)) {
                seen.octets = octets;
            }
        }
        see(&run);
        at
    }

    /// `octets` octets from line `at` on, unless they go round the end of the ring.
    #[inline]
    fn octets(&self, at: usize, octets: usize) -> Option<&'a [u8]> {
        let end = at + octets.div_ceil(LINE);
        let lines = match at.checked_sub(self.first.len()) {
            Some(behind) => self.second.get(behind..end - self.first.len())?,
            None => self.first.get(at..end)?,
        };
        lines.as_bytes().get(..octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Buffer;

    fn frame(n: usize) -> Vec<u8> {
        (0..n % 131).map(|i| (i * 7 + n) as u8).collect()
    }

    /// A worker that writes the frames of a count, `most` octets of each, and a mirror that reads them.
    struct Ends {
        writer: Spout,
        reader: Reader,
        buffers: Vec<Buffer>,
        most: usize,
        next: usize,
        /// The numbers of those that found room and were not read yet.
        waiting: std::collections::VecDeque<(u64, usize)>,
        seen: usize,
        refused: usize,
    }

    impl Ends {
        fn new((writer, reader): (Spout, Reader), most: usize) -> Self {
            let buffers = (0..4).map(Buffer::new).collect();
            Ends { writer, reader, buffers, most, next: 0, waiting: Default::default(), seen: 0, refused: 0 }
        }

        fn write(&mut self, serial: u64, count: usize) {
            for (n, buffer) in (self.next..).zip(&mut self.buffers).take(count) {
                buffer.fill(&frame(n), VnetHdr::PLAIN);
            }
            let head = Head { serial, segments: count as u16, ..Head::zero() };
            let all = (1u64 << count) - 1;
            let mut rest = all;
            let written = self.writer.is_open() && self.writer.write(&head, &self.buffers, &mut rest, self.most);
            assert_eq!(written, rest != all);
            assert_eq!((all & !rest) & ((all & !rest) + 1), 0, "the first of them");
            let went = count - rest.count_ones() as usize;
            self.waiting.extend((self.next..).take(went).map(|n| (serial, n)));
            (self.next, self.refused) = (self.next + count, self.refused + count - went);
        }

        fn read(&mut self) -> bool {
            let Some(serial) = self.reader.peek() else { return false };
            let (most, waiting) = (self.most, &mut self.waiting);
            let shown = self.reader.drain(serial, 3, &mut |run| {
                for seen in &run.frames {
                    let (written, n) = waiting.pop_front().unwrap();
                    let frame = frame(n);
                    assert_eq!((run.head.serial, seen.octets), (written, &frame[..frame.len().min(most)]));
                    assert_eq!((seen.length, written), (frame.len(), serial));
                }
            });
            assert!((1..7).contains(&shown), "a run is of four frames at most");
            self.seen += shown;
            true
        }
    }

    /// Frames of all lengths go round two small rings many times, in runs of several, and come out as they went in.
    #[test]
    fn what_goes_in_comes_out_wherever_the_rings_end() {
        for most in [usize::MAX, 40] {
            let mut ends = Ends::new(rings(21 * LINE, 47 * LINE), most);
            for round in 0..4_000 {
                ends.write(round, 1 + round as usize % 4);
                // Now and then the reader is gone for a while, or catches up.
                let reads = match round % 200 {
                    0..120 => 0,
                    120..150 => 9,
                    _ => 1,
                };
                let _ = (0..reads).take_while(|_| ends.read()).count();
            }
            assert!(ends.seen > 1_000 && ends.refused > 100, "{} seen, {} refused", ends.seen, ends.refused);
            while ends.read() {}
            assert!(ends.waiting.is_empty());
        }
    }

    /// A reader that is too slow for good gets what comes by the small ring, soon; once it has caught up a burst finds the large
    /// one again.
    #[test]
    fn a_large_ring_is_for_bursts_and_not_for_good() {
        let mut ends = Ends::new(rings(64 * LINE, 4096 * LINE), 40);
        (0..3_000).for_each(|serial| ends.write(serial, 1));
        let burst = ends.waiting.len();
        assert!(burst > 2_000, "two lines each, in both rings: {burst}");
        let mut lag = 0;
        for serial in 3_000..20_000 {
            ends.write(serial, 1);
            if serial % 2 == 0 {
                ends.read();
            }
            if serial > 15_000 {
                lag = lag.max(ends.waiting.len());
            }
        }
        assert!((8..=32).contains(&lag), "{lag} frames wait, and the small ring holds 32");
        while ends.read() {}
        for serial in 20_000..21_000 {
            ends.write(serial, 1);
            ends.read();
        }
        let refused = ends.refused;
        (21_000..23_000).for_each(|serial| ends.write(serial, 1));
        assert_eq!(ends.refused, refused);
    }
}
