//! What the guest receives: from our frames into the chains of its receive queue.
//!
//! A frame goes into one chain, or with mergeable buffers into as many as it takes. Nothing is written before there is room for
//! all of it. When the guest has not given enough, the frame stays with the caller, who counts it as lost; a frame that the
//! guest's buffers can't hold at all is refused.

use arrayvec::ArrayVec;

use super::ahead::{AHEAD, Head};
use super::chain::{Descriptor, WRITE, Walk};
use super::copy::copy;
use super::memory::Piece;
use super::ring::{Bad, Fault, PIECES_MAX, Ring};
use crate::frame::TxFrame;
use crate::frame::vnet::{DATA_VALID, GSO_ECN, GSO_NONE, NEEDS_CSUM, VNET_LEN, VnetHdr};
use crate::port::Sent;

/// Chains that one frame can take: the longest frame in buffers of 1 KiB.
const CHAINS_MAX: usize = 80;

/// A virtio header as it goes into memory: eight octets and four. In words, because octets that are put together in memory
/// and read as words at once would have to wait until all that was written before has left this core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Words(u64, u32);

impl Words {
    #[inline(always)]
    fn of(vnet: &VnetHdr, buffers: u16) -> Words {
        let low = u64::from(vnet.flags)
            | u64::from(vnet.gso_type) << 8
            | u64::from(vnet.hdr_len) << 16
            | u64::from(vnet.gso_size) << 32
            | u64::from(vnet.csum_start) << 48;
        Words(low.to_le(), (u32::from(vnet.csum_offset) | u32::from(buffers) << 16).to_le())
    }

    fn octets(self) -> [u8; VNET_LEN] {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (self.0.to_ne_bytes(), self.1.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

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
        let available = self.available(frames.len())?;
        for _ in self.looked()..available.min(frames.len()) {
            self.look::<WRITE>(AHEAD);
        }
        let outcome = self.send_all(frames, sent);
        self.publish();
        outcome
    }

    #[inline(always)]
    fn send_all(&mut self, frames: &[TxFrame<'_>], sent: &mut Sent) -> Result<(), Fault> {
        for frame in frames {
            let plain = frame.vnet.flags == 0 && frame.vnet.gso_type == GSO_NONE;
            if !plain && !self.offloads.cover(&frame.vnet) {
                sent.refuse();
                continue;
            }
            let len = self.header + frame.len();
            if self.ahead.end != self.next
                && let Ok(head) = self.head(0)
                && self.put_whole(&head, frame, len, plain)
            {
                self.complete(head.number, len as u32);
                // For a batch to come: the guest has given it long ago, and waits.
                self.look::<WRITE>(AHEAD);
                sent.accepted += 1;
                continue;
            }
            match self.put_parts(frame)? {
                Room::Found => sent.accepted += 1,
                Room::Never => sent.refuse(),
                Room::Full => return Ok(()),
            }
        }
        Ok(())
    }

    /// The virtio header of a frame in `buffers` chains, without what this guest has not asked for.
    #[inline(always)]
    fn header_of(&self, vnet: &VnetHdr, buffers: u16) -> Words {
        let gso_type = if self.ecn { vnet.gso_type } else { vnet.gso_type & !GSO_ECN };
        let flags = if self.offloads.csum { vnet.flags & (NEEDS_CSUM | DATA_VALID) } else { 0 };
        Words::of(&VnetHdr { flags, gso_type, ..*vnet }, buffers)
    }

    /// Puts a frame, `len` octets with its header, where the guest gave one piece that is long enough, as most do; `false`
    /// when it did not.
    #[inline(always)]
    fn put_whole(&mut self, chain: &Head, frame: &TxFrame<'_>, len: usize, plain: bool) -> bool {
        let (head, rest) = (frame.head, frame.rest);
        if chain.whole.is_null() || (chain.first.len as usize) < len {
            return false;
        }
        let Words(low, high) = if plain { Words::of(&VnetHdr::PLAIN, 1) } else { self.header_of(&frame.vnet, 1) };
        // SAFETY: the piece has `len` octets, which is `self.header + head.len() + rest.len()`, and `self.header` is one of the two lengths.
        unsafe {
            chain.whole.cast::<u64>().write_unaligned(low);
            match self.header {
                VNET_LEN => chain.whole.add(8).cast::<u32>().write_unaligned(high),
                // A legacy header ends before the number of buffers.
                _ => chain.whole.add(8).cast::<u16>().write_unaligned((u32::from_le(high) as u16).to_le()),
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
    fn put_parts(&mut self, frame: &TxFrame<'_>) -> Result<Room, Fault> {
        let mut spans = Spans::new();
        match self.find_room(self.header + frame.len(), &mut spans)? {
            Room::Found => {}
            other => return Ok(other),
        }
        let header = self.header_of(&frame.vnet, spans.len() as u16).octets();
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
        Ok(Room::Found)
    }

    /// Collects chains for `len` octets in `spans`, and their parts in `self.pieces`. Wrong chains go back to the guest.
    fn find_room(&mut self, len: usize, spans: &mut Spans) -> Result<Room, Fault> {
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
            let Head { number: head, first, .. } = self.head(spans.len())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_in_words_is_the_header() {
        for (flags, gso_type, low, high) in [(0, GSO_NONE, 0, 0), (1, 0x81, 0x1234, 0xfedc), (2, 5, 0xffff, 1)] {
            let vnet =
                VnetHdr { flags, gso_type, hdr_len: low, gso_size: high, csum_start: !low, csum_offset: high ^ 0x0f0f };
            assert_eq!(Words::of(&vnet, 1).octets(), vnet.write());
            assert_eq!(VnetHdr::read(&Words::of(&vnet, 0xabcd).octets()), vnet);
            assert_eq!(Words::of(&vnet, 0xabcd).octets()[10..], [0xcd, 0xab]);
        }
    }
}
