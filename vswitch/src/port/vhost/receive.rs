//! What the guest sends: from the chains of its transmit queue into our buffers.
//!
//! The octets are copied out of guest memory once; what is judged and forwarded is the copy. The virtio header may be spread over
//! any number of descriptors. A frame that is longer than a buffer arrives with length 0, as the port's contract says.

use super::ahead::Head;
use super::chain::{Descriptor, WRITE, Walk};
use super::copy::{copy, fence};
use super::ring::{Bad, Fault, Ring};
use crate::frame::vnet::{VNET_LEN, VnetHdr};
use crate::frame::{BATCH, Buffer, FRAME_MAX};
use crate::port::BATCH_OCTETS;

/// Chains that are looked at before they are copied: as many as hide the way of their lines, and few enough that the
/// lines are still near when they are copied.
const NEAR: usize = 32;

impl Ring {
    /// Fills buffers from the front with frames that the guest sends, and returns how many, after at most one batch.
    ///
    /// # Errors
    /// [`Fault`]: the ring is of no use any more.
    pub fn receive(&mut self, buffers: &mut [Buffer]) -> Result<usize, Fault> {
        let wanted = buffers.len().min(BATCH);
        let available = self.available(wanted)?.min(wanted);
        for _ in self.looked()..available.min(NEAR) {
            self.look::<0>(NEAR);
        }
        let (mut filled, mut octets) = (0, 0);
        let mut outcome = Ok(());
        for _ in 0..available {
            let Some(buffer) = buffers.get_mut(filled) else { break };
            let head = match self.head(0) {
                Ok(head) => head,
                // What was received before it is delivered; the next call comes back to it.
                Err(_) if filled > 0 => break,
                Err(fault) => {
                    outcome = Err(fault);
                    break;
                }
            };
            let taken = match self.take_whole(&head, buffer) {
                true => Ok(()),
                false => self.take_parts(head.first, buffer),
            };
            self.complete(head.number, 0);
            self.look::<0>(NEAR);
            match taken {
                Ok(()) => {
                    octets += buffer.frame().len();
                    filled += 1;
                }
                Err(bad) => outcome = self.note(bad),
            }
            if outcome.is_err() || octets >= BATCH_OCTETS {
                break;
            }
        }
        fence();
        self.publish();
        outcome.map(|()| filled)
    }

    /// Gives back what the guest sends, unread: the queue is disabled. Returns how many chains that were.
    ///
    /// # Errors
    /// [`Fault`]: the ring is of no use any more.
    pub fn discard(&mut self) -> Result<usize, Fault> {
        let available = self.available(BATCH)?.min(BATCH);
        for _ in 0..available {
            let head = self.head(0)?;
            self.complete(head.number, 0);
        }
        self.publish();
        Ok(available)
    }

    /// Takes a frame that is in one piece, as most are; `false` when it is not, or there is something wrong with it.
    #[inline(always)]
    fn take_whole(&mut self, head: &Head, buffer: &mut Buffer) -> bool {
        let Some(len) = (head.first.len as usize).checked_sub(self.header).filter(|len| *len > 0) else { return false };
        let room = buffer.room();
        if head.whole.is_null() || room.len() < len {
            return false;
        }
        // SAFETY: the piece has `self.header + len` octets, of which the header takes 8 and 4 or 2, and the room has `len`.
        let (low, high) = unsafe {
            let low = head.whole.cast::<u64>().read_unaligned();
            let high = head.whole.add(8).cast::<u16>().read_unaligned();
            copy(head.whole.add(self.header), room.as_mut_ptr(), len);
            (low, high)
        };
        fence();
        buffer.set_len(len);
        buffer.vnet = decode(low, high);
        true
    }

    /// Takes a frame in any number of pieces.
    fn take_parts(&mut self, first: Descriptor, buffer: &mut Buffer) -> Result<(), Bad> {
        let mut walk = Walk::new(self, first);
        let mut header = [0u8; VNET_LEN];
        // Octets of header and frame so far.
        let mut at = 0;
        while let Some(descriptor) = walk.next(self)? {
            if descriptor.has(WRITE) {
                return Err(Bad::Direction);
            }
            let (mut address, mut left) = (descriptor.address, descriptor.len as usize);
            while left > 0 {
                let piece = self.memory.piece(address, left, &mut self.hint).ok_or(Bad::Address)?;
                let head = piece.len.min(self.header.saturating_sub(at));
                let body = piece.len - head;
                let place = at.saturating_sub(self.header);
                if let Some(part) = header.get_mut(at..at + head) {
                    // SAFETY: the piece has `head` octets and more, the part has just as many.
                    unsafe { copy(piece.at, part.as_mut_ptr(), head) };
                }
                if body > 0 {
                    let Some(part) = buffer.room().get_mut(place..).filter(|_| place + body <= FRAME_MAX) else {
                        buffer.fill(&[], VnetHdr::PLAIN);
                        return Ok(());
                    };
                    let room = part.len().min(body);
                    // SAFETY: the piece has `head + body` octets, the part has `room`.
                    unsafe { copy(piece.at.add(head), part.as_mut_ptr(), room) };
                }
                at += piece.len;
                left -= piece.len;
                address = address.checked_add(piece.len as u64).ok_or(Bad::Address)?;
            }
        }
        fence();
        if at <= self.header {
            return Err(Bad::Short);
        }
        buffer.set_len(at - self.header);
        buffer.vnet = VnetHdr::read(&header);
        Ok(())
    }
}

/// A header from its first eight octets and the two behind them, as they were in memory.
#[inline(always)]
fn decode(low: u64, high: u16) -> VnetHdr {
    let low = u64::from_le(low);
    VnetHdr {
        flags: low as u8,
        gso_type: (low >> 8) as u8,
        hdr_len: (low >> 16) as u16,
        gso_size: (low >> 32) as u16,
        csum_start: (low >> 48) as u16,
        csum_offset: u16::from_le(high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_from_words_is_the_header() {
        let octets: [u8; VNET_LEN] = [1, 0x81, 0x34, 0x12, 0xdc, 0xfe, 3, 4, 5, 6, 0xab, 0xcd];
        let low = u64::from_ne_bytes(*octets.first_chunk().unwrap());
        assert_eq!(decode(low, u16::from_ne_bytes([5, 6])), VnetHdr::read(&octets));
    }
}
