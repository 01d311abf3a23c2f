//! What the guest receives: from our frames into the chains of its receive queue.
//!
//! A frame goes into one chain, or with mergeable buffers into as many as it takes. Nothing is written before there is room for
//! all of it. When the guest has not given enough, the frame stays with the caller, who counts it as lost; a frame that the
//! guest's buffers can't hold at all is refused.

use arrayvec::ArrayVec;

use super::chain::{Descriptor, INDIRECT, NEXT, WRITE, Walk};
use super::copy::copy;
use super::memory::Piece;
use super::ring::{Bad, Fault, Heads, PIECES_MAX, Ring};
use crate::frame::vnet::{DATA_VALID, GSO_ECN, NEEDS_CSUM, VNET_LEN, VnetHdr};
use crate::frame::{BATCH, TxFrame};
use crate::port::Sent;

/// Chains that one frame can take: the longest frame in buffers of 1 KiB.
const CHAINS_MAX: usize = 80;

/// A chain that a frame goes to, and how much it holds.
type Spans = ArrayVec<(u16, usize), CHAINS_MAX>;

/// What became of the search for room.
enum Room {
    Found,
    /// The guest has to give more first.
    Full,
    /// No chain of this guest is long enough.
    Never,
}

impl Ring {
    /// Sends frames from the front on, and adds to `sent` what became of them.
    ///
    /// # Errors
    /// [`Fault`]: the ring is of no use any more. `sent` tells how far it came.
    pub fn send(&mut self, frames: &[TxFrame<'_>], sent: &mut Sent) -> Result<(), Fault> {
        let heads = self.heads(frames.len().min(BATCH))?;
        // Chains taken since `heads`.
        let mut taken = 0;
        let outcome = self.send_all(frames, &heads, &mut taken, sent);
        self.publish();
        outcome
    }

    #[inline(always)]
    fn send_all(
        &mut self,
        frames: &[TxFrame<'_>],
        heads: &Heads,
        taken: &mut usize,
        sent: &mut Sent,
    ) -> Result<(), Fault> {
        for frame in frames {
            if !self.offloads.cover(&frame.vnet) {
                sent.refuse();
                continue;
            }
            if let Some((head, first)) = heads.get(*taken)
                && self.put_whole(&first, frame)
            {
                self.complete(head, (self.header + frame.len()) as u32);
                *taken += 1;
                sent.accepted += 1;
                continue;
            }
            match self.put_parts(frame, heads, taken)? {
                Room::Found => sent.accepted += 1,
                Room::Never => sent.refuse(),
                Room::Full => return Ok(()),
            }
        }
        Ok(())
    }

    /// The virtio header of a frame in `buffers` chains, without what this guest has not asked for.
    #[inline(always)]
    fn header_of(&self, vnet: &VnetHdr, buffers: u16) -> [u8; VNET_LEN] {
        let gso_type = if self.ecn { vnet.gso_type } else { vnet.gso_type & !GSO_ECN };
        let flags = if self.offloads.csum { vnet.flags & (NEEDS_CSUM | DATA_VALID) } else { 0 };
        let mut header = VnetHdr { flags, gso_type, ..*vnet }.write();
        if let Some(place) = header.last_chunk_mut::<2>() {
            *place = buffers.to_le_bytes();
        }
        header
    }

    /// Puts a frame where the guest gave one piece that is long enough, as most do; `false` when it did not.
    #[inline(always)]
    fn put_whole(&mut self, first: &Descriptor, frame: &TxFrame<'_>) -> bool {
        let (head, rest) = (frame.head.len(), frame.rest.len());
        let len = self.header + head + rest;
        if !first.has(WRITE) || first.has(NEXT | INDIRECT) || (first.len as usize) < len {
            return false;
        }
        let Some(piece) = self.memory.piece(first.address, len, &mut self.hint) else { return false };
        if piece.len < len {
            return false;
        }
        let header = self.header_of(&frame.vnet, 1);
        // SAFETY: the piece has `self.header + head + rest` octets, and `self.header` is at most `VNET_LEN`.
        unsafe {
            copy(header.as_ptr(), piece.at, self.header);
            copy(frame.head.as_ptr(), piece.at.add(self.header), head);
            copy(frame.rest.as_ptr(), piece.at.add(self.header + head), rest);
        }
        true
    }

    /// Puts a frame into any number of pieces, and chains if they are mergeable.
    #[inline(never)]
    fn put_parts(&mut self, frame: &TxFrame<'_>, heads: &Heads, taken: &mut usize) -> Result<Room, Fault> {
        let mut spans = Spans::new();
        match self.find_room(self.header + frame.len(), heads, taken, &mut spans)? {
            Room::Found => {}
            other => return Ok(other),
        }
        let header = self.header_of(&frame.vnet, spans.len() as u16);
        let mut pieces = std::mem::take(&mut self.pieces);
        let mut places = pieces.iter_mut();
        let mut place = places.next();
        for mut part in [header.get(..self.header).unwrap_or_default(), frame.head, frame.rest] {
            while let (Some(piece), false) = (place.as_deref_mut(), part.is_empty()) {
                let (now, later) = part.split_at(part.len().min(piece.len));
                // SAFETY: the piece has as many octets and more.
                unsafe { copy(now.as_ptr(), piece.at, now.len()) };
                *piece = Piece { at: piece.at.wrapping_add(now.len()), len: piece.len - now.len() };
                part = later;
                if piece.len == 0 {
                    place = places.next();
                }
            }
        }
        self.pieces = pieces;
        let mut left = self.header + frame.len();
        for (head, room) in &spans {
            let len = left.min(*room);
            self.complete(*head, len as u32);
            left -= len;
        }
        *taken += spans.len();
        Ok(Room::Found)
    }

    /// Collects chains for `len` octets in `spans`, and their parts in `self.pieces`. Wrong chains go back to the guest.
    fn find_room(&mut self, len: usize, heads: &Heads, taken: &mut usize, spans: &mut Spans) -> Result<Room, Fault> {
        self.pieces.clear();
        let mut found = 0;
        while found < len {
            if !spans.is_empty() && !self.mergeable || spans.is_full() {
                return Ok(Room::Never);
            }
            // Counted from `self.next`, which has moved on by what was taken.
            if self.available(spans.len() + 1)? <= spans.len() {
                return Ok(Room::Full);
            }
            let (head, first) = match heads.get(*taken + spans.len()) {
                Some(copied) => copied,
                None => self.head(spans.len())?,
            };
            match self.measure(first, len - found) {
                Ok(room) => {
                    spans.push((head, room));
                    found += room;
                }
                Err(bad) => {
                    // In order: what was collected before it goes back as well.
                    for (head, _) in spans.iter() {
                        self.complete(*head, 0);
                    }
                    self.complete(head, 0);
                    *taken += spans.len() + 1;
                    self.note(bad)?;
                    spans.clear();
                    self.pieces.clear();
                    found = 0;
                }
            }
        }
        Ok(Room::Found)
    }

    /// Adds the parts of a chain to `self.pieces` until they hold `wanted` octets, and returns how much they hold.
    fn measure(&mut self, first: Descriptor, wanted: usize) -> Result<usize, Bad> {
        let mut walk = Walk::new(self, first);
        let mut found = 0;
        while found < wanted
            && let Some(descriptor) = walk.next(self)?
        {
            if !descriptor.has(WRITE) {
                return Err(Bad::Direction);
            }
            let mut address = descriptor.address;
            let mut left = (descriptor.len as usize).min(wanted - found);
            while left > 0 {
                let piece = self.memory.piece(address, left, &mut self.hint).ok_or(Bad::Address)?;
                if self.pieces.len() >= PIECES_MAX {
                    return Err(Bad::Long);
                }
                self.pieces.push(piece);
                found += piece.len;
                left -= piece.len;
                address = address.checked_add(piece.len as u64).ok_or(Bad::Address)?;
            }
        }
        Ok(found)
    }
}
