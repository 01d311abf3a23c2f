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
    start: usize,
    len: usize,
    /// What the device said; [`VnetHdr::PLAIN`] from a device that says nothing.
    pub vnet: VnetHdr,
}

impl Buffer {
    /// An empty buffer of [`FRAME_MAX`] octets. `index` shifts the frame's start by cache lines, so that the headers of
    /// a batch do not all fall into the same sets of the first-level cache.
    pub fn new(index: usize) -> Self {
        let start = (index % BATCH) * 64 + 64;
        Buffer { memory: vec![0; start + FRAME_MAX].into(), start, len: 0, vnet: VnetHdr::PLAIN }
    }

    /// The octets of the frame, from the destination MAC address, without FCS.
    pub fn frame(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Room for a frame, [`FRAME_MAX`] octets; [`Buffer::set_len`] tells how much of it was filled.
    pub fn room(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..).unwrap_or_default()
    }

    /// The first `len` octets of the room are the frame; more than [`FRAME_MAX`] counts as that.
    pub fn set_len(&mut self, len: usize) {
        self.len = len.min(FRAME_MAX);
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
