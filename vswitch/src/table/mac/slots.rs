//! The part of the MAC table that all workers see: slots of atomics in chains of a keyed hash.
//!
//! One worker writes, any reads, nobody locks. What a reader must never get is the port of one address under another, so a
//! slot is written in the order: key 0, value, chain, key; and read in the order: value, key, chain, value again. The
//! value holds a version that moves when the slot is emptied, so no two addresses have the same one. Whoever read the same
//! value before and after has a key and a chain that belong to it: had the key been of a later use of the slot, the second
//! value would be of that use as well, and had it been of an earlier one, the first value would be.
//!
//! A removed slot keeps its chain, so a reader that stands on it gets on. When the slot has been used again meanwhile the
//! reader finds itself among the addresses of another bucket, notices, and starts over. A reader that is disturbed
//! [`TRIES`] times in a row gives up and says that it does not know, which floods one frame.
//!
//! **Absence** can be remembered too: [`Slots::additions`] counts the addresses that were put in. Whoever looks at the
//! count first and then finds no slot may believe that until the count moves: the writer links an address before it counts
//! it, so a count that has not moved was read before the address was there.
//!
//! The version has [`VERSION_BITS`] bits, so a reference comes to life again when its slot has had 2^27 addresses and has
//! one on the very port of the first. A flow that holds a reference is looked at, or is gone, long before.
//!
//! Threads: [`Slots`] is shared; the methods that write are for the one writer.

use std::time::Duration;

use super::{NONE, Place, SlotRef};
use crate::flow::hash::HashKey;
use crate::port::PortId;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Instant;

/// An entry that is seen again within this time is not touched.
pub const REFRESH: Duration = Duration::from_secs(1);
const REFRESH_NS: u64 = REFRESH.as_nanos() as u64;
/// How often a reader walks a chain that changes under its feet.
const TRIES: usize = 16;
/// The port of an address whose frames are dropped.
const NOWHERE: u16 = u16::MAX;

const VERSION_BITS: u32 = 27;
const VERSION_SHIFT: u32 = 64 - VERSION_BITS;
/// Where a [`SlotRef`] has its slot; a value has its kind there.
pub(super) const SLOT_SHIFT: u32 = 16;
/// Of a [`SlotRef`], after the shift.
pub(super) const SLOT_MASK: u64 = (1 << (VERSION_SHIFT - SLOT_SHIFT)) - 1;
/// What a reference and the value it was made of have in common: version and port.
const SHARED: u64 = !(SLOT_MASK << SLOT_SHIFT);

/// Version, kind and port of a slot, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Value(u64);

impl Value {
    /// Of an address on `port`, or nowhere.
    pub(super) fn new(port: Option<PortId>, is_static: bool, version: u32) -> Self {
        let port = port.map_or(NOWHERE, |port| port.0);
        Value(u64::from(version) << VERSION_SHIFT | u64::from(is_static) << SLOT_SHIFT | u64::from(port))
    }

    pub(super) fn port(self) -> Option<PortId> {
        let port = self.0 as u16;
        (port != NOWHERE).then_some(PortId(port))
    }

    pub(super) fn is_static(self) -> bool {
        self.0 >> SLOT_SHIFT & 1 == 1
    }

    pub(super) fn version(self) -> u32 {
        (self.0 >> VERSION_SHIFT) as u32
    }

    /// A reference to slot `at`, of which this is the value.
    fn held(self, at: u32) -> SlotRef {
        SlotRef(self.0 & SHARED | (u64::from(at) & SLOT_MASK) << SLOT_SHIFT)
    }

    pub(super) fn place(self, at: u32) -> Place {
        Place { port: self.port(), is_static: self.is_static(), slot: self.held(at) }
    }
}

struct Slot {
    /// VLAN and address; 0 is a free slot.
    key: AtomicU64,
    value: AtomicU64,
    /// Nanoseconds.
    seen: AtomicU64,
    /// The next slot of the bucket.
    chain: AtomicU32,
}

enum Walk {
    Found(u32, Value),
    Absent,
    Disturbed,
}

/// In lines of its own, so that who counts does not disturb who reads what is beside it.
#[repr(align(128))]
struct Apart(AtomicU32);

/// The slots.
pub(super) struct Slots {
    slots: Box<[Slot]>,
    heads: Box<[AtomicU32]>,
    hash: HashKey,
    additions: Apart,
}

impl Slots {
    pub(super) fn new(capacity: usize, hash: HashKey) -> Self {
        let slot = || Slot {
            key: AtomicU64::new(0),
            value: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            chain: AtomicU32::new(NONE),
        };
        Slots {
            slots: (0..capacity).map(|_| slot()).collect(),
            heads: (0..(capacity * 2).next_power_of_two()).map(|_| AtomicU32::new(NONE)).collect(),
            hash,
            additions: Apart(AtomicU32::new(0)),
        }
    }

    /// How many addresses were put into a slot, wrapping.
    #[inline]
    pub(super) fn additions(&self) -> u32 {
        self.additions.0.load(Ordering::Acquire)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)
    }

    fn bucket(&self, key: u64) -> usize {
        self.hash.of_word(key) as usize & (self.heads.len() - 1)
    }

    /// The slot of `key` and what is in it.
    pub(super) fn find(&self, key: u64) -> Option<(u32, Value)> {
        self.search(key).ok()
    }

    /// As [`Slots::find`]; or the [`Slots::additions`] under which there was none, one of the past when that can't be said.
    pub(super) fn search(&self, key: u64) -> Result<(u32, Value), u32> {
        let bucket = self.bucket(key);
        let additions = self.additions();
        for _ in 0..TRIES {
            match self.walk(bucket, key) {
                Walk::Found(at, value) => return Ok((at, value)),
                Walk::Absent => return Err(additions),
                Walk::Disturbed => {}
            }
        }
        Err(additions.wrapping_sub(1))
    }

    fn walk(&self, bucket: usize, key: u64) -> Walk {
        let Some(head) = self.heads.get(bucket) else { return Walk::Absent };
        let mut at = head.load(Ordering::Acquire);
        for _ in 0..=self.slots.len() {
            let Some(slot) = self.slot(at) else { return Walk::Absent };
            let value = slot.value.load(Ordering::Acquire);
            let held = slot.key.load(Ordering::Acquire);
            let next = slot.chain.load(Ordering::Acquire);
            if slot.value.load(Ordering::Relaxed) != value {
                return Walk::Disturbed;
            }
            if held == key {
                return Walk::Found(at, Value(value));
            }
            if held == 0 || self.bucket(held) != bucket {
                return Walk::Disturbed;
            }
            at = next;
        }
        Walk::Disturbed
    }

    /// The address that `held` was made of is still in its slot, and where it was.
    #[inline]
    pub(super) fn is_current(&self, held: SlotRef) -> bool {
        self.slot(held.slot()).is_some_and(|slot| (slot.value.load(Ordering::Relaxed) ^ held.0) & SHARED == 0)
    }

    /// The address in slot `at` was seen. `true` when that was noted, at most once a second.
    #[inline]
    pub(super) fn refresh(&self, at: u32, now: Instant) -> bool {
        let Some(slot) = self.slot(at) else { return false };
        let due = now.ns().saturating_sub(slot.seen.load(Ordering::Relaxed)) >= REFRESH_NS;
        if due {
            slot.seen.store(now.ns(), Ordering::Relaxed);
        }
        due
    }

    pub(super) fn seen(&self, at: u32) -> Instant {
        Instant::from_ns(self.slot(at).map_or(0, |slot| slot.seen.load(Ordering::Relaxed)))
    }

    /// Key and value of slot `at`, if it is in use and nobody is writing it.
    pub(super) fn at(&self, at: u32) -> Option<(u64, Value)> {
        let slot = self.slot(at)?;
        let value = slot.value.load(Ordering::Acquire);
        let key = slot.key.load(Ordering::Acquire);
        (key != 0 && slot.value.load(Ordering::Relaxed) == value).then_some((key, Value(value)))
    }

    /// The writer's: `key` gets the free slot `at`.
    pub(super) fn put(&self, at: u32, key: u64, port: Option<PortId>, is_static: bool, now: Instant) {
        let (Some(slot), Some(head)) = (self.slot(at), self.heads.get(self.bucket(key))) else { return };
        slot.seen.store(now.ns(), Ordering::Relaxed);
        self.set(at, port, is_static);
        slot.chain.store(head.load(Ordering::Relaxed), Ordering::Release);
        slot.key.store(key, Ordering::Release);
        head.store(at, Ordering::Release);
        let additions = self.additions.0.load(Ordering::Relaxed).wrapping_add(1);
        self.additions.0.store(additions, Ordering::Release);
    }

    /// The writer's: the address in slot `at` is now there.
    pub(super) fn set(&self, at: u32, port: Option<PortId>, is_static: bool) {
        let Some(slot) = self.slot(at) else { return };
        let version = Value(slot.value.load(Ordering::Relaxed)).version();
        slot.value.store(Value::new(port, is_static, version).0, Ordering::Release);
    }

    /// The writer's: the address in slot `at` was seen at `now`.
    pub(super) fn see(&self, at: u32, now: Instant) {
        if let Some(slot) = self.slot(at) {
            slot.seen.store(now.ns(), Ordering::Relaxed);
        }
    }

    /// The writer's: slot `at` becomes free. What was in it, if it was in use.
    pub(super) fn clear(&self, at: u32) -> Option<Value> {
        let (key, value) = self.at(at)?;
        let slot = self.slot(at)?;
        let head = self.heads.get(self.bucket(key))?;
        let next = slot.chain.load(Ordering::Relaxed);
        let mut before = head;
        loop {
            match before.load(Ordering::Relaxed) {
                here if here == at => break before.store(next, Ordering::Release),
                here => before = &self.slot(here)?.chain,
            }
        }
        slot.key.store(0, Ordering::Release);
        // What does not fit falls off at the top.
        slot.value.store(Value::new(None, false, value.version().wrapping_add(1)).0, Ordering::Release);
        Some(value)
    }
}
