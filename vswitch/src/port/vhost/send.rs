//! What the guest receives: from our frames into the chains of its receive queue.
//!
//! A frame goes into one chain, or with mergeable buffers into as many as it takes. Nothing is written before there is room for
//! all of it. When the guest has not given enough, the frame stays with the caller, who counts it as lost; a frame that the
//! guest's buffers can't hold at all is refused.

use arrayvec::ArrayVec;

use super::chain::{Descriptor, WRITE, Walk};
use super::copy::copy;
use super::features::VNET_LEN_LEGACY;
use super::memory::Piece;
use super::ring::{Bad, Fault, Head, Heads, PIECES_MAX, Ring};
use crate::frame::TxFrame;
use crate::frame::vnet::{DATA_VALID, GSO_ECN, GSO_NONE, NEEDS_CSUM, VNET_LEN, VnetHdr};
use crate::port::Sent;

/// Chains that one frame can take: the longest frame in buffers of 1 KiB.
const CHAINS_MAX: usize = 80;

/// The header of an ordinary frame in one chain.
const PLAIN: [u8; VNET_LEN] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

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
        let mut heads = Heads::new();
        self.heads(frames.len(), WRITE, &mut heads)?;
        let outcome = self.send_all(frames, &heads, sent);
        self.publish();
        outcome
    }

    #[inline(always)]
    fn send_all(&mut self, frames: &[TxFrame<'_>], heads: &Heads, sent: &mut Sent) -> Result<(), Fault> {
        // Chains taken since `heads`.
        let mut taken = 0;
        for frame in frames {
            let plain = frame.vnet.flags == 0 && frame.vnet.gso_type == GSO_NONE;
            if !plain && !self.offloads.cover(&frame.vnet) {
                sent.refuse();
                continue;
            }
            let len = self.header + frame.len();
            if let Some(head) = heads.get(taken)
                && self.put_whole(head, frame, len, plain)
            {
                self.complete(head.number, len as u32);
                taken += 1;
                sent.accepted += 1;
                continue;
            }
            match self.put_parts(frame, heads, &mut taken)? {
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

    /// Puts a frame, `len` octets with its header, where the guest gave one piece that is long enough, as most do; `false`
    /// when it did not.
    #[inline(always)]
    fn put_whole(&mut self, chain: &Head, frame: &TxFrame<'_>, len: usize, plain: bool) -> bool {
        let (head, rest) = (frame.head, frame.rest);
        if chain.whole.is_null() || (chain.first.len as usize) < len {
            return false;
        }
        let header = if plain { PLAIN } else { self.header_of(&frame.vnet, 1) };
        // SAFETY: the piece has `len` octets, which is `self.header + head.len() + rest.len()`, and `self.header` is one of the two lengths.
        unsafe {
            match self.header {
                VNET_LEN => copy(header.as_ptr(), chain.whole, VNET_LEN),
                _ => copy(header.as_ptr(), chain.whole, VNET_LEN_LEGACY),
            }
            let at = chain.whole.add(self.header);
            match head.len() {
                0 => {}
                12 => copy(head.as_ptr(), at, 12),
                16 => copy(head.as_ptr(), at, 16),
                other => copy(head.as_ptr(), at, other),
            }
            copy(rest.as_ptr(), at.add(head.len()), rest.len());
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
                Some(copied) => (copied.number, copied.first),
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
