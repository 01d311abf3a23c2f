//! What a worker's ring to the mirror holds: octets, in items.
//!
//! ```text
//!   word: mark and octets kept · word: length · octets          a head, then the frames that it describes, then the next head
//! ```
//!
//! A head says of its frames what they have in common: who wants them, when and where they were seen, what is left to do.
//! Frames of a run share one. What is committed begins with a head and is committed at once, so whatever the reader finds
//! is whole; only an item may go round the end of the ring, and is put together then.

use std::mem::MaybeUninit;

use proto::addr::VlanId;
use rtrb::{Consumer, CopyToUninit, Producer, RingBuffer};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::egress::vlan::Rewrite;
use crate::frame::vnet::VnetHdr;
use crate::snapshot::SessionSet;

/// Octets in front of each item.
pub(super) const FRONT: usize = 8;
/// In the first word: a head.
const HEAD: u32 = 1 << 31;
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

/// Room that is enough for most batches: with less, the writer looks how far the reader has come.
const PLENTY: usize = 256 << 10;

/// Writes a head and behind it what `frames` puts, and lets the reader have it when there is a frame. Returns whether there is
/// one, and whether `frames` has more, for which there is no room.
#[inline]
fn write(ring: &mut Producer<u8>, head: &Head, frames: &mut dyn FnMut(&mut Room<'_>) -> bool) -> (bool, bool) {
    let left = if ring.cached_slots() >= PLENTY { ring.cached_slots() } else { ring.slots() };
    let Ok(mut chunk) = ring.write_chunk_uninit(left) else { return (false, true) };
    let (first, second) = chunk.as_mut_slices();
    let mut room = Room { first, second, left, written: 0 };
    if !room.put(HEAD, head.as_bytes(), size_of::<Head>()) {
        return (false, true);
    }
    let head = room.written;
    let more = frames(&mut room);
    let written = room.written;
    if written > head {
        // SAFETY: `Room` has filled the first `written` octets of the chunk, one after the other.
        unsafe { chunk.commit(written) };
    }
    (written > head, more)
}

/// What is left of a ring.
pub(super) struct Room<'a> {
    first: &'a mut [MaybeUninit<u8>],
    second: &'a mut [MaybeUninit<u8>],
    left: usize,
    written: usize,
}

impl Room<'_> {
    /// A frame of `length` octets, of which `kept` are kept; `false` when there is no room for it.
    #[inline(always)]
    pub fn frame(&mut self, kept: &[u8], length: usize) -> bool {
        self.put(0, kept, length)
    }

    #[inline(always)]
    fn put(&mut self, mark: u32, kept: &[u8], length: usize) -> bool {
        let octets = FRONT.wrapping_add(kept.len());
        if self.left < octets {
            return false;
        }
        let front = (u64::from(mark | kept.len() as u32) | (length as u64) << 32).to_le_bytes();
        let first = std::mem::take(&mut self.first);
        if octets <= first.len() {
            let (place, room) = first.split_at_mut(FRONT);
            let (room, rest) = room.split_at_mut(kept.len());
            front.copy_to_uninit(place);
            kept.copy_to_uninit(room);
            self.first = rest;
        } else {
            self.first = first;
            self.go_round(&front);
            self.go_round(kept);
        }
        self.left = self.left.wrapping_sub(octets);
        self.written = self.written.wrapping_add(octets);
        true
    }

    /// Where the first slice is not long enough, the second follows it.
    #[cold]
    fn go_round(&mut self, octets: &[u8]) {
        let first = std::mem::take(&mut self.first);
        let (before, behind) = octets.split_at(octets.len().min(first.len()));
        let (room, rest) = first.split_at_mut(before.len());
        before.copy_to_uninit(room);
        self.first = rest;
        if !behind.is_empty() {
            let (room, rest) = std::mem::take(&mut self.second).split_at_mut(behind.len());
            behind.copy_to_uninit(room);
            self.first = rest;
        }
    }
}

/// Two rings for a worker: a small one, and a large one for bursts; see [`spill`].
pub fn rings(small: usize, large: usize) -> (Spout, Reader) {
    let ((near, near_end), (far, far_end)) = (RingBuffer::new(small), RingBuffer::new(large));
    (Spout { near, far, spilling: false }, Reader { near: Half::new(near_end), far: Half::new(far_end), in_far: false })
}

/// A worker's end of its rings.
///
/// It writes to the small ring, which stays in its cache, until that has no room; then to the large one, until the mirror has
/// read all of that. So what is in the small ring is older than what is in the large one, whenever both have something.
pub struct Spout {
    near: Producer<u8>,
    far: Producer<u8>,
    spilling: bool,
}

impl Spout {
    /// Writes a head and what `frames` puts behind it; it is asked again for what found no room. `true` when anything was
    /// written.
    #[inline]
    pub(super) fn write(&mut self, head: &Head, frames: &mut dyn FnMut(&mut Room<'_>) -> bool) -> bool {
        if self.spilling && self.far.slots() == self.far.buffer().capacity() {
            self.spilling = false;
        }
        let mut more = true;
        let mut written = false;
        if !self.spilling {
            (written, more) = write(&mut self.near, head, frames);
            self.spilling = more;
        }
        if more {
            written |= write(&mut self.far, head, frames).0;
        }
        written
    }
}

/// The mirror's end of a worker's rings.
pub struct Reader {
    near: Half,
    far: Half,
    /// The next frame is in the large ring.
    in_far: bool,
}

impl Reader {
    /// Octets that were written since the start.
    pub(super) fn written(&self) -> u64 {
        self.near.written() + self.far.written()
    }

    /// Octets that were read since the start.
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

    /// Shows frames of the batch `serial` to `see`, with their heads and their lengths, as [`Reader::peek`] has found it;
    /// after `most` of them it ends. Returns how many there were.
    pub(super) fn drain(&mut self, serial: u64, most: usize, see: &mut dyn FnMut(&Head, &[u8], usize)) -> usize {
        let half = if self.in_far { &mut self.far } else { &mut self.near };
        half.drain(serial, most, see)
    }
}

/// The mirror's end of one ring.
struct Half {
    ring: Consumer<u8>,
    head: Head,
    split: Vec<u8>,
    /// Octets read since the start.
    read: u64,
}

impl Half {
    /// At the begin of a ring.
    fn new(ring: Consumer<u8>) -> Self {
        Half { ring, head: Head::zero(), split: Vec::new(), read: 0 }
    }

    /// Octets that were written since the start.
    fn written(&self) -> u64 {
        self.read + self.ring.slots() as u64
    }

    /// The serial of the next frame.
    fn peek(&mut self) -> Option<u64> {
        loop {
            let mut front = [0; FRONT];
            let chunk = self.ring.read_chunk(FRONT).ok()?;
            let (first, second) = chunk.as_slices();
            front.iter_mut().zip(first.iter().chain(second)).for_each(|(to, octet)| *to = *octet);
            let (kept, _) = words(front);
            if kept & HEAD == 0 {
                return Some(self.head.serial);
            }
            // Nothing but the head: it was written with a frame behind it.
            self.drain(self.head.serial, 0, &mut |_, _, _| ());
        }
    }

    /// Shows frames of the batch `serial` to `see`, with their heads and their lengths; after `most` of them it ends. Returns
    /// how many there were.
    fn drain(&mut self, serial: u64, most: usize, see: &mut dyn FnMut(&Head, &[u8], usize)) -> usize {
        let Ok(chunk) = self.ring.read_chunk(self.ring.slots()) else { return 0 };
        let (first, second) = chunk.as_slices();
        let (mut at, mut seen) = (0, 0);
        let all = chunk.len();
        while let Some(front) = view(first, second, at, FRONT, &mut self.split) {
            let (kept, length) = words(front.first_chunk().copied().unwrap_or_default());
            let octets = (kept & !HEAD) as usize;
            if kept & HEAD == 0 && seen >= most {
                break;
            }
            // It was committed whole.
            let Some(item) = view(first, second, at + FRONT, octets, &mut self.split) else { break };
            at += FRONT + octets;
            if kept & HEAD == 0 {
                see(&self.head, item, length as usize);
                seen += 1;
            } else if let Ok((head, _)) = Head::read_from_prefix(item) {
                self.head = head;
                if head.serial != serial {
                    break;
                }
            }
        }
        chunk.commit(at.min(all));
        self.read += at as u64;
        seen
    }
}

fn words(front: [u8; FRONT]) -> (u32, u32) {
    let both = u64::from_le_bytes(front);
    (both as u32, (both >> 32) as u32)
}

/// `len` octets from `at` of two slices that belong together; put together in `split` when they are in both.
fn view<'a>(first: &'a [u8], second: &'a [u8], at: usize, len: usize, split: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    match at.checked_sub(first.len()) {
        Some(behind) => second.get(behind..behind + len),
        None if at + len <= first.len() => first.get(at..at + len),
        None => {
            split.clear();
            split.extend_from_slice(first.get(at..)?);
            split.extend_from_slice(second.get(..at + len - first.len())?);
            Some(split)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of all lengths go round two small rings many times, in heads of several, and come out as they went in.
    #[test]
    fn what_goes_in_comes_out_wherever_the_rings_end() {
        let (mut writer, mut reader) = rings(1021, 3011);
        let frame = |n: usize| -> Vec<u8> { (0..n % 131).map(|i| (i * 7 + n) as u8).collect() };
        let (mut next, mut seen, mut refused) = (0, 0usize, 0);
        for round in 0..4_000u64 {
            let count = 1 + round as usize % 4;
            let frames: Vec<Vec<u8>> = (next..next + count).map(frame).collect();
            let head = Head { serial: round, segments: count as u16, ..Head::zero() };
            let mut went = 0;
            let written = writer.write(&head, &mut |room| {
                went += frames[went..].iter().take_while(|frame| room.frame(frame, frame.len() + 1000)).count();
                went < count
            });
            assert_eq!(written, went > 0);
            (next, refused) = (next + went, refused + count - went);
            // Now and then the reader is gone for a while, or catches up.
            let rounds = match round % 200 {
                0..120 => 0,
                120..150 => 9,
                _ => 1,
            };
            for _ in 0..rounds {
                let Some(serial) = reader.peek() else { break };
                let mut number = seen;
                seen += reader.drain(serial, 3, &mut |head, octets, length| {
                    assert_eq!((head.serial, octets), (serial, &*frame(number)));
                    assert_eq!(length, octets.len() + 1000);
                    number += 1;
                });
                assert_eq!(seen, number);
            }
        }
        assert!(seen > 1_000 && refused > 100, "{seen} seen, {refused} refused");
    }
}
