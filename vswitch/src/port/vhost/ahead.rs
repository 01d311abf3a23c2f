//! Chains that are looked at before their turn.
//!
//! The guest runs on another core, so whatever it wrote last is in that core's cache, and a line takes a hundred times as
//! long to come as an instruction does. The lines of the frames to come are therefore asked for while others are
//! copied: the ring looks at up to [`AHEAD`] chains that are available but not yet used, copies the first descriptor of
//! each, judges it in the copy, and fetches the part of guest memory where its frame begins, and the entry of the used
//! ring that it will get. Of a frame that is two lines, as its begin may be anywhere in one; where a longer one goes on the
//! hardware sees for itself, and asking for all of it a few chains ahead made frames of 1518 octets slower by a
//! twentieth. Where we write, lines are fetched to be written: one that came to be read would have to be
//! asked for again.
//!
//! What was looked at stays copied until it is used, over as many calls as that takes. So a descriptor is still read
//! once, and the guest has given it away by then (virtio 1.2, 2.7.13). A wrong number in the available ring ends the
//! look; it is a fault when its turn comes.

use std::ptr;

use super::chain::{Descriptor, WRITE};
use super::copy::{prefetch, prefetch_to_write};
use super::ring::{Fault, Ring};
use crate::frame::BATCH;

/// Chains that can be looked at ahead: a power of two.
pub(super) const AHEAD: usize = BATCH;

/// A chain that was looked at.
#[derive(Clone, Copy)]
pub(super) struct Head {
    /// Its first descriptor, copied.
    pub(super) first: Descriptor,
    /// Where that is, if it is the only one, of the kind that was looked for, and in one piece; else null.
    pub(super) whole: *mut u8,
    /// The number by which it goes back.
    pub(super) number: u16,
}

/// The chains that were looked at, each in the place of its index.
pub(super) struct Ahead {
    heads: [Head; AHEAD],
    /// The index behind the last of them.
    pub(super) end: u16,
}

impl Ahead {
    /// None, from index `next` on.
    pub(super) fn new(next: u16) -> Ahead {
        let none = Descriptor { address: 0, len: 0, flags: 0, next: 0 };
        Ahead { heads: [Head { first: none, whole: ptr::null_mut(), number: 0 }; AHEAD], end: next }
    }
}

impl Ring {
    /// How many chains were looked at and not used yet.
    #[inline(always)]
    pub(super) fn looked(&self) -> usize {
        usize::from(self.ahead.end.wrapping_sub(self.next))
    }

    /// Looks at the chain behind those that were looked at, if it is available and these are fewer than `most`. Its
    /// descriptor is to have the flags `KIND` and no other.
    #[inline(always)]
    pub(super) fn look<const KIND: u16>(&mut self, most: usize) {
        let at = self.ahead.end;
        if at == self.seen || self.looked() >= most.min(AHEAD) {
            return;
        }
        let number = self.number(at);
        let Some(first) = self.descriptor(number) else { return };
        let mut whole = self.memory.whole(first.address, first.len, &mut self.hint);
        let behind = whole.wrapping_add(64);
        if KIND == WRITE {
            prefetch_to_write(whole);
            prefetch_to_write(behind);
        } else {
            prefetch(whole);
            prefetch(behind);
        }
        prefetch_to_write(self.used_entry(at));
        if first.flags != KIND {
            whole = ptr::null_mut();
        }
        if let Some(place) = self.ahead.heads.get_mut(usize::from(at) % AHEAD) {
            *place = Head { first, whole, number };
        }
        self.ahead.end = at.wrapping_add(1);
    }

    /// The chain `at` places behind the next one, of which there are more; copied now, if nobody has looked at it.
    ///
    /// # Errors
    /// [`Fault::Head`].
    #[inline(always)]
    pub(super) fn head(&self, at: usize) -> Result<Head, Fault> {
        let index = self.next.wrapping_add(at as u16);
        if at < self.looked()
            && let Some(head) = self.ahead.heads.get(usize::from(index) % AHEAD)
        {
            return Ok(*head);
        }
        let number = self.number(index);
        let first = self.descriptor(number).ok_or(Fault::Head)?;
        Ok(Head { first, whole: ptr::null_mut(), number })
    }
}
