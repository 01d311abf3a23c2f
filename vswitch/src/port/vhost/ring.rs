//! A split virtqueue (virtio 1.2, 2.7) as the device sees it: what is available, what is used, and who wants to be woken.
//!
//! All addresses are translated and checked when the ring is set up; afterwards the three parts are reached through pointers
//! that hold while [`Memory`] does. Per batch the guest's index is read once, and ours is published once. Every number that
//! comes out of guest memory is read once into a variable and judged there.
//!
//! A chain that is wrong ([`Bad`]) costs its frame: it goes back to the guest unused. [`BAD_MAX`] of them, or anything wrong with
//! the ring itself ([`Fault`]), ends the ring until the guest sets it up anew. Chains are used in the order in which they
//! were made available, within the call that takes them, so none is ever held: `available` and `used` meet between calls.
//!
//! The frames are moved in [`super::receive`] and [`super::send`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering, fence};

use super::ahead::Ahead;
use super::chain::Descriptor;
use super::features::{EVENT_IDX, GUEST_ECN, INDIRECT_DESC, MRG_RXBUF, VERSION_1, VNET_LEN_LEGACY, offloads};
use super::memory::{Care, Hint, Memory};
use crate::frame::vnet::VNET_LEN;
use crate::port::Offloads;

/// Most entries of a ring (virtio 1.2, 2.7).
pub const SIZE_MAX: u32 = 32_768;
/// Wrong chains that a guest is forgiven between two set-ups of a ring.
pub const BAD_MAX: u32 = 64;

/// `flags` of the available ring: no call is wanted.
const NO_INTERRUPT: u16 = 1;
/// `flags` of the used ring: no kick is wanted.
const NO_NOTIFY: u16 = 1;

/// Where a ring is, in addresses of the front end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Entries: a power of two up to [`SIZE_MAX`].
    pub size: u16,
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

/// What ends a ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// The number of entries is none that a ring can have.
    #[error("the size of the ring is no power of two up to 32768")]
    Size,
    /// A part of the ring is not in guest memory, or not aligned.
    #[error("a part of the ring is not in guest memory, or not aligned")]
    Place,
    /// The available index is more than the ring's size ahead.
    #[error("the available index jumped further than the ring is long")]
    Jump,
    /// The available ring names a descriptor that is not in the table.
    #[error("the available ring names a descriptor behind the table's end")]
    Head,
    /// [`BAD_MAX`] wrong chains.
    #[error("too many wrong descriptor chains, the last one: {0}")]
    Chains(Bad),
    /// The file behind guest memory was cut short.
    #[error("guest memory went away under its ring")]
    Memory,
}

/// What is wrong with a chain of descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Bad {
    /// Longer than the ring, as one that loops is; or in more parts than a frame can have.
    #[error("it loops or is too long")]
    Long,
    /// The next descriptor is not in the table.
    #[error("it leaves the table")]
    Index,
    /// An octet of it is not in guest memory.
    #[error("it is not in guest memory")]
    Address,
    /// A descriptor without length, or an indirect table of none or broken entries.
    #[error("a length in it is wrong")]
    Length,
    /// An indirect table that was not negotiated, or within another, or with a successor.
    #[error("it has an indirect table where none may be")]
    Indirect,
    /// To be written where the guest sends, or to be read where it receives.
    #[error("it is in the wrong direction")]
    Direction,
    /// The frame has no octet behind its virtio header.
    #[error("it is shorter than the header of a frame")]
    Short,
}

/// A virtqueue; see the module.
pub struct Ring {
    pub(super) memory: Arc<Memory>,
    pub(super) hint: Hint,
    pub(super) table: Hint,
    care: Care,
    descriptors: *const u8,
    available: *const u8,
    used: *mut u8,
    size: u16,
    /// The next entry of the available ring that we take, and of the used ring that we write: no chain is held.
    pub(super) next: u16,
    /// The guest's index when it was last read.
    pub(super) seen: u16,
    /// Chains that were looked at already: from `next` on, and none behind `seen`.
    pub(super) ahead: Ahead,
    /// As much of that as the guest knows.
    published: u16,
    /// As much of that as the guest was offered a call for.
    called: u16,
    /// No call was made since the set-up: the guest may wait for one from before.
    fresh: bool,
    event_index: bool,
    pub(super) indirect: bool,
    pub(super) mergeable: bool,
    /// Octets of the virtio header.
    pub(super) header: usize,
    /// What the guest can be sent.
    pub(super) offloads: Offloads,
    /// The guest can take super-frames with ECN.
    pub(super) ecn: bool,
    bad: u32,
    /// Parts of guest memory that a frame goes to.
    pub(super) pieces: Vec<super::memory::Piece>,
}

// SAFETY: the pointers are to guest memory, which belongs to no thread.
unsafe impl Send for Ring {}

impl Ring {
    /// The ring at `layout`, with `features` negotiated. `base` is where the guest believes that we are; what the ring itself
    /// says is used goes before it, because we hold no chains.
    ///
    /// # Errors
    /// [`Fault::Size`] and [`Fault::Place`].
    pub fn new(memory: Arc<Memory>, layout: &Layout, base: u16, features: u64) -> Result<Ring, Fault> {
        let has = |feature: u64| features & feature != 0;
        let event_index = has(EVENT_IDX);
        let entries = usize::from(layout.size);
        if !layout.size.is_power_of_two() || u32::from(layout.size) > SIZE_MAX {
            return Err(Fault::Size);
        }
        let event = if event_index { 2 } else { 0 };
        let place = |user, len, align| memory.ring(user, len, align).ok_or(Fault::Place);
        let descriptors = place(layout.descriptors, 16 * entries, 16)?;
        let available = place(layout.available, 4 + 2 * entries + event, 2)?;
        let used = place(layout.used, 4 + 8 * entries + event, 4)?;
        // SAFETY: two octets in, aligned, in guest memory, as just checked.
        let used_index = u16::from_le(unsafe { AtomicU16::from_ptr(used.add(2).cast()) }.load(Ordering::Relaxed));
        let next = if used_index == base { base } else { used_index };
        let mut ring = Ring {
            care: Care::new(),
            hint: Hint::default(),
            table: Hint::default(),
            descriptors,
            available,
            used,
            size: layout.size,
            next,
            seen: next,
            ahead: Ahead::new(next),
            published: next,
            called: next,
            fresh: true,
            event_index,
            indirect: has(INDIRECT_DESC),
            mergeable: has(MRG_RXBUF),
            header: if has(VERSION_1) || has(MRG_RXBUF) { VNET_LEN } else { VNET_LEN_LEGACY },
            offloads: offloads(features),
            ecn: has(GUEST_ECN),
            bad: 0,
            pieces: Vec::with_capacity(PIECES_MAX),
            memory,
        };
        ring.quiet();
        Ok(ring)
    }

    /// Where the guest has to go on when the ring is set up anew.
    pub fn base(&self) -> u16 {
        self.next
    }

    /// Entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Wrong chains so far.
    pub fn bad(&self) -> u32 {
        self.bad
    }

    #[inline(always)]
    fn mask(&self) -> u16 {
        self.size - 1
    }

    /// A 16-bit field of the available ring.
    #[inline(always)]
    fn available_field(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: callers stay within the available ring, whose place was checked; the offset is even.
        unsafe { AtomicU16::from_ptr(self.available.add(offset).cast_mut().cast()) }
    }

    /// A 16-bit field of the used ring.
    #[inline(always)]
    fn used_field(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: callers stay within the used ring, whose place was checked; the offset is even.
        unsafe { AtomicU16::from_ptr(self.used.add(offset).cast()) }
    }

    /// How many chains are available; the guest's index is read only when fewer than `wanted` are known.
    #[inline(always)]
    pub(super) fn available(&mut self, wanted: usize) -> Result<usize, Fault> {
        if !self.care.is_whole(&self.memory) {
            return Err(Fault::Memory);
        }
        let mut known = self.seen.wrapping_sub(self.next);
        if usize::from(known) < wanted {
            self.seen = u16::from_le(self.available_field(2).load(Ordering::Acquire));
            known = self.seen.wrapping_sub(self.next);
            if known > self.size {
                return Err(Fault::Jump);
            }
        }
        Ok(usize::from(known))
    }

    /// The number of the chain with this index.
    #[inline(always)]
    pub(super) fn number(&self, index: u16) -> u16 {
        let slot = usize::from(index & self.mask());
        u16::from_le(self.available_field(4 + 2 * slot).load(Ordering::Relaxed))
    }

    /// Where in the used ring the chain with this index is given back.
    #[inline(always)]
    pub(super) fn used_entry(&self, index: u16) -> *mut u8 {
        self.used.wrapping_add(4 + 8 * usize::from(index & self.mask()))
    }

    /// Entry `index` of the descriptor table.
    #[inline(always)]
    pub(super) fn descriptor(&self, index: u16) -> Option<Descriptor> {
        if index >= self.size {
            return None;
        }
        // SAFETY: the entry lies in the table, whose place and alignment were checked.
        let (low, high) = unsafe {
            let entry = self.descriptors.add(16 * usize::from(index)).cast_mut().cast::<u64>();
            (
                AtomicU64::from_ptr(entry).load(Ordering::Relaxed),
                AtomicU64::from_ptr(entry.add(1)).load(Ordering::Relaxed),
            )
        };
        Some(Descriptor::from_words(u64::from_le(low), u64::from_le(high)))
    }

    /// Gives the next chain, which is `head`, back with `len` octets written to it.
    #[inline(always)]
    pub(super) fn complete(&mut self, head: u16, len: u32) {
        let entry = u64::from(head) | u64::from(len) << 32;
        // SAFETY: the entry lies in the used ring, whose place was checked.
        unsafe { self.used_entry(self.next).cast::<u64>().write_unaligned(entry.to_le()) };
        if self.ahead.end == self.next {
            self.ahead.end = self.next.wrapping_add(1);
        }
        self.next = self.next.wrapping_add(1);
    }

    /// A chain was wrong.
    #[cold]
    pub(super) fn note(&mut self, bad: Bad) -> Result<(), Fault> {
        self.bad += 1;
        if self.bad >= BAD_MAX { Err(Fault::Chains(bad)) } else { Ok(()) }
    }

    /// Tells the guest what was used.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        if self.published != self.next {
            self.published = self.next;
            self.used_field(2).store(self.next.to_le(), Ordering::Release);
        }
    }

    /// The guest wants a call for what was published since this was last asked.
    #[inline(always)]
    pub fn wants_call(&mut self) -> bool {
        let (old, new) = (self.called, self.published);
        if old == new && !self.fresh {
            return false;
        }
        self.called = new;
        // What we published is visible before we read whether somebody waits for it (virtio 1.2, 2.7.10).
        fence(Ordering::SeqCst);
        if std::mem::take(&mut self.fresh) {
            true
        } else if self.event_index {
            let event = u16::from_le(self.available_field(4 + 2 * usize::from(self.size)).load(Ordering::Relaxed));
            // The event lies in old..new (2.7.7.2).
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            u16::from_le(self.available_field(0).load(Ordering::Relaxed)) & NO_INTERRUPT == 0
        }
    }

    /// No kicks, please.
    pub(super) fn quiet(&mut self) {
        if self.event_index {
            // A moment that has passed comes again only after 65535 chains.
            let event = self.next.wrapping_sub(1);
            self.used_field(4 + 8 * usize::from(self.size)).store(event.to_le(), Ordering::Relaxed);
        } else {
            self.used_field(0).store(NO_NOTIFY.to_le(), Ordering::Relaxed);
        }
    }

    /// A kick for the next chain, please. `true` when it is there already.
    pub fn arm(&mut self) -> bool {
        if self.event_index {
            self.used_field(4 + 8 * usize::from(self.size)).store(self.next.to_le(), Ordering::Relaxed);
        } else {
            self.used_field(0).store(0, Ordering::Relaxed);
        }
        // The guest reads our wish after it published, we read its index after we wished: one of us sees the other.
        fence(Ordering::SeqCst);
        u16::from_le(self.available_field(2).load(Ordering::Acquire)) != self.next
    }
}

/// Parts of guest memory that one frame can be spread over.
pub(super) const PIECES_MAX: usize = 1024;
