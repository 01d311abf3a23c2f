//! Frames on the road: receive buffers, the batch, and the view that goes out.
//!
//! A worker owns [`BATCH`] receive buffers for good. A port copies a frame into one ([`Buffer`]), the road decides, and
//! before the worker receives again every frame has been sent or dropped, so no buffer outlives its batch and none is
//! reference counted. The bytes in the buffer are ours alone: a guest that changes its memory afterwards changes nothing,
//! and what is forwarded is what was judged (law 5).
//!
//! A frame goes out as a [`TxFrame`]: a short private head (MAC addresses and, if the port wants one, the VLAN tag) and the
//! rest of the buffer untouched. So a flood to ports that tag differently copies nothing.

pub mod vnet;

use vnet::VnetHdr;

/// Frames that a worker receives at a time: one bit each in a `u64`.
pub const BATCH: usize = 64;

/// Longest frame, octets: a 64 KiB IP packet behind an Ethernet header and two VLAN tags.
pub const FRAME_MAX: usize = 65_535 + 14 + 8;

/// A receive buffer: one frame and what its device said of it.
pub struct Buffer {
    memory: Box<[u8]>,
    /// Where the room begins; at least a VLAN tag's length behind the memory's begin.
    origin: usize,
    /// Where the frame begins: at the origin, or a tag's length before it.
    start: usize,
    len: usize,
    /// What the device said; [`VnetHdr::PLAIN`] from a device that says nothing.
    pub vnet: VnetHdr,
}

impl Buffer {
    /// An empty buffer of [`FRAME_MAX`] octets. `index` shifts the frame's start by cache lines, so that the headers of
    /// a batch do not all fall into the same sets of the first-level cache.
    pub fn new(index: usize) -> Self {
        let origin = (index % BATCH) * 64 + 64;
        Buffer { memory: vec![0; origin + FRAME_MAX + 1].into(), origin, start: origin, len: 0, vnet: VnetHdr::PLAIN }
    }

    /// The octets of the frame, from the destination MAC address, without FCS.
    #[inline(always)]
    pub fn frame(&self) -> &[u8] {
        // A sum that wrapped would end before it starts, and be refused as such.
        self.memory.get(self.start..self.start.wrapping_add(self.len)).unwrap_or_default()
    }

    /// Its length, octets.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is no frame, or one of no octets.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory from where the frame begins: its first octets, and behind a shorter one whatever was there before. For who
    /// copies in blocks.
    #[inline(always)]
    pub fn block<const BLOCK: usize>(&self) -> Option<&[u8; BLOCK]> {
        self.memory.get(self.start..)?.first_chunk()
    }

    /// The same octets, to be changed.
    pub fn frame_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Room for a frame, [`FRAME_MAX`] octets; [`Buffer::set_len`] tells how much of it was filled. The old frame is gone.
    pub fn room(&mut self) -> &mut [u8] {
        self.start = self.origin;
        self.len = 0;
        self.memory.get_mut(self.start..self.start + FRAME_MAX).unwrap_or_default()
    }

    /// As [`Buffer::room`], with `front` octets before it, at most 64, for what a device puts there, and one behind it, which
    /// only a frame that is too long reaches.
    pub fn room_behind(&mut self, front: usize) -> &mut [u8] {
        (self.start, self.len) = (self.origin, 0);
        self.memory.get_mut(self.origin.saturating_sub(front)..).unwrap_or_default()
    }

    /// The first `len` octets of the room are the frame; more than [`FRAME_MAX`] counts as that.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(FRAME_MAX);
    }

    /// Puts a VLAN tag behind the MAC addresses, as a device wants that took it out; the addresses move, nothing else
    /// does. Once per received frame. A frame that has no addresses, or would become longer than [`FRAME_MAX`], becomes
    /// one of length 0. The offsets in `vnet` move along.
    pub fn insert_tag(&mut self, tag: [u8; 4]) {
        let begin = self.origin - tag.len();
        let head = self.memory.get_mut(begin..begin + 16).and_then(|head| head.first_chunk_mut::<16>());
        let (12.., true, true, Some(head)) =
            (self.len, self.len + tag.len() <= FRAME_MAX, self.start == self.origin, head)
        else {
            self.len = 0;
            return;
        };
        head.copy_within(4.., 0);
        if let Some(place) = head.last_chunk_mut::<4>() {
            *place = tag;
        }
        self.start = begin;
        self.len += tag.len();
        self.vnet = self.vnet.shifted(4);
    }

    /// Copies a frame in.
    pub fn fill(&mut self, frame: &[u8], vnet: VnetHdr) {
        let len = frame.len().min(FRAME_MAX);
        if let (Some(room), Some(frame)) = (self.room().get_mut(..len), frame.get(..len)) {
            room.copy_from_slice(frame);
        }
        self.len = len;
        self.vnet = vnet;
    }
}

/// A frame on its way out: `head` then `rest`, described by `vnet`.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// Destination and source MAC address and perhaps a VLAN tag: 12 or 16 octets, or 0 when `rest` is the whole frame.
    pub head: &'a [u8],
    /// Everything behind the head.
    pub rest: &'a [u8],
    /// Offsets count from the start of `head`.
    pub vnet: VnetHdr,
    /// A copy for a monitor session: it leaves as it is, and is never joined with others to a super-frame.
    pub copy: bool,
}

impl TxFrame<'_> {
    /// Octets of the frame.
    pub fn len(&self) -> usize {
        self.head.len() + self.rest.len()
    }

    /// The frame has no octets.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_behind_the_addresses_and_the_next_frame_begins_anew() {
        for index in [0, 1, BATCH - 1, BATCH] {
            let mut buffer = Buffer::new(index);
            let vnet = VnetHdr { flags: vnet::NEEDS_CSUM, csum_start: 34, csum_offset: 16, ..VnetHdr::PLAIN };
            buffer.fill(b"DDDDDDSSSSSSpayload", vnet);
            buffer.insert_tag([0x81, 0, 0, 7]);
            assert_eq!(buffer.frame(), b"DDDDDDSSSSSS\x81\x00\x00\x07payload");
            assert_eq!(buffer.vnet.csum_start, 38);
            buffer.fill(b"next", VnetHdr::PLAIN);
            assert_eq!(buffer.frame(), b"next");
        }
    }

    #[test]
    fn a_tag_that_does_not_fit_empties_the_frame() {
        let mut buffer = Buffer::new(0);
        buffer.fill(b"short", VnetHdr::PLAIN);
        buffer.insert_tag([0x81, 0, 0, 7]);
        assert!(buffer.frame().is_empty());
        buffer.fill(&vec![1; FRAME_MAX], VnetHdr::PLAIN);
        assert_eq!(buffer.frame().len(), FRAME_MAX);
        buffer.insert_tag([0x81, 0, 0, 7]);
        assert!(buffer.frame().is_empty());
    }
}
