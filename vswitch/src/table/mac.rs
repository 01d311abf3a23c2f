//! The MAC address table: which port a station of a VLAN is on.
//!
//! * **Fixed size.** All memory is taken when the table is made. Entries hang in chains of a keyed hash, and every learned
//!   entry also in a list of its port, ordered by when it was last seen (to the second, [`REFRESH`]). So the oldest entry
//!   of a port is at hand without a search, and ageing looks at the heads of lists only.
//! * **Fairness.** A port that has its quota replaces its own oldest entry. When the table is full, the oldest entry of
//!   the port that holds most makes room. A flooder thus pushes out its own addresses. Static entries are never evicted.
//! * **Versions.** A slot's version moves when the slot gets another address or its address another port. A flow entry keeps
//!   (slot, version) of both its ends and is stale when either differs, so a station that moves costs nobody else a miss.
//!
//! Threads: owned by one worker.

use std::time::Duration;

use proto::addr::{MacAddr, VlanId};

use crate::flow::hash::HashKey;
use crate::port::{PORTS_MAX, PortId};
use crate::time::Instant;

/// An entry that is seen again within this time is not touched.
pub const REFRESH: Duration = Duration::from_secs(1);
const REFRESH_NS: u64 = REFRESH.as_nanos() as u64;

const NONE: u32 = u32::MAX;

/// A slot of the table and what was in it, for a cache to hold.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(C)]
pub struct SlotRef {
    slot: u32,
    version: u32,
}

impl SlotRef {
    /// No entry was involved.
    pub const NONE: SlotRef = SlotRef { slot: NONE, version: 0 };
}

/// Where an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// `None`: frames from and to it are dropped.
    pub port: Option<PortId>,
    /// Configured.
    pub is_static: bool,
    /// For a cache.
    pub slot: SlotRef,
}

#[derive(Clone, Copy)]
struct Slot {
    /// VLAN and address; 0 is a free slot.
    key: u64,
    version: u32,
    /// `u16::MAX` drops.
    port: u16,
    is_static: bool,
    seen: Instant,
    chain: u32,
    older: u32,
    newer: u32,
}

/// Learned entries of a port.
#[derive(Clone, Copy)]
struct Held {
    oldest: u32,
    newest: u32,
    count: u32,
}

/// The table.
pub struct MacTable {
    slots: Vec<Slot>,
    heads: Vec<u32>,
    held: Vec<Held>,
    free: u32,
    quota: u32,
    hash: HashKey,
}

fn key(vlan: VlanId, mac: MacAddr) -> u64 {
    u64::from(vlan.get()) << 48 | mac.to_u64()
}

impl MacTable {
    /// An empty table of `capacity` entries, at most `quota` of them learned from one port.
    pub fn new(capacity: usize, quota: usize) -> Self {
        let capacity = capacity.clamp(1, 1 << 24);
        let empty = |next: u32| Slot {
            key: 0,
            version: 0,
            port: 0,
            is_static: false,
            seen: Instant::default(),
            chain: next,
            older: NONE,
            newer: NONE,
        };
        let mut slots: Vec<Slot> = (1..=capacity as u32).map(empty).collect();
        if let Some(last) = slots.last_mut() {
            last.chain = NONE;
        }
        MacTable {
            slots,
            heads: vec![NONE; (capacity * 2).next_power_of_two()],
            held: vec![Held { oldest: NONE, newest: NONE, count: 0 }; PORTS_MAX],
            free: 0,
            quota: quota.clamp(1, capacity) as u32,
            hash: HashKey::random(),
        }
    }

    fn slot(&self, at: u32) -> Option<&Slot> {
        self.slots.get(at as usize)
    }

    fn slot_mut(&mut self, at: u32) -> Option<&mut Slot> {
        self.slots.get_mut(at as usize)
    }

    fn bucket(&self, key: u64) -> usize {
        self.hash.of_word(key) as usize & (self.heads.len() - 1)
    }

    fn find(&self, key: u64) -> u32 {
        let mut at = self.heads.get(self.bucket(key)).copied().unwrap_or(NONE);
        while let Some(slot) = self.slot(at) {
            if slot.key == key {
                return at;
            }
            at = slot.chain;
        }
        NONE
    }

    fn place(&self, at: u32) -> Option<Place> {
        self.slot(at).map(|s| Place {
            port: (s.port != u16::MAX).then_some(PortId(s.port)),
            is_static: s.is_static,
            slot: SlotRef { slot: at, version: s.version },
        })
    }

    /// Where `mac` is in `vlan`.
    pub fn lookup(&self, vlan: VlanId, mac: MacAddr) -> Option<Place> {
        self.place(self.find(key(vlan, mac)))
    }

    /// What `held` refers to is unchanged. [`SlotRef::NONE`] always is.
    #[inline]
    pub fn is_current(&self, held: SlotRef) -> bool {
        held.slot == NONE || self.slot(held.slot).is_some_and(|s| s.version == held.version)
    }

    /// The address in `held` was seen.
    #[inline]
    pub fn refresh(&mut self, held: SlotRef, now: Instant) {
        if let Some(slot) = self.slot(held.slot)
            && now.ns().saturating_sub(slot.seen.ns()) >= REFRESH_NS
        {
            self.touch(held.slot, now);
        }
    }

    fn touch(&mut self, at: u32, now: Instant) {
        let Some(slot) = self.slot_mut(at) else { return };
        slot.seen = now;
        let (port, is_static) = (slot.port, slot.is_static);
        if !is_static {
            self.unlink(at, port);
            self.link(at, port);
        }
    }

    /// `mac` was seen in `vlan` on `port`: learns it, moves it there, or refreshes it. Static entries stay as they are.
    /// `None` when there is no room that may be taken.
    pub fn learn(&mut self, vlan: VlanId, mac: MacAddr, port: PortId, now: Instant) -> Option<Place> {
        let key = key(vlan, mac);
        let at = match self.find(key) {
            NONE => self.add(key, port, now)?,
            at => {
                let known = *self.slot(at)?;
                if !known.is_static && known.port != port.0 {
                    self.unlink(at, known.port);
                    self.make_room_on(port);
                    let slot = self.slot_mut(at)?;
                    slot.port = port.0;
                    slot.version = slot.version.wrapping_add(1);
                    slot.seen = now;
                    self.link(at, port.0);
                } else {
                    self.refresh(SlotRef { slot: at, version: known.version }, now);
                }
                at
            }
        };
        self.place(at)
    }

    fn make_room_on(&mut self, port: PortId) {
        if let Some(held) = self.held.get(port.index())
            && held.count >= self.quota
        {
            self.remove(held.oldest);
        }
    }

    fn add(&mut self, key: u64, port: PortId, now: Instant) -> Option<u32> {
        self.held.get(port.index())?;
        self.make_room_on(port);
        if self.free == NONE {
            let most = self.held.iter().max_by_key(|held| held.count)?;
            self.remove(most.oldest);
        }
        let at = self.take(key)?;
        let slot = self.slot_mut(at)?;
        slot.port = port.0;
        slot.is_static = false;
        slot.seen = now;
        self.link(at, port.0);
        Some(at)
    }

    /// A free slot, put into the chain of `key`.
    fn take(&mut self, key: u64) -> Option<u32> {
        let at = self.free;
        let bucket = self.bucket(key);
        let head = self.heads.get(bucket).copied()?;
        let slot = self.slot_mut(at)?;
        let next_free = slot.chain;
        slot.key = key;
        slot.version = slot.version.wrapping_add(1);
        slot.chain = head;
        self.free = next_free;
        *self.heads.get_mut(bucket)? = at;
        Some(at)
    }

    /// Makes `mac` static. A learned entry of that address becomes it. `false` when the table is full of static entries.
    pub fn set_static(&mut self, vlan: VlanId, mac: MacAddr, port: Option<PortId>, now: Instant) -> bool {
        let key = key(vlan, mac);
        let wanted = port.map_or(u16::MAX, |p| p.0);
        let at = match self.find(key) {
            NONE => {
                if self.free == NONE
                    && let Some(most) = self.held.iter().max_by_key(|held| held.count)
                {
                    self.remove(most.oldest);
                }
                self.take(key)
            }
            at => {
                if let Some(known) = self.slot(at).copied() {
                    if known.is_static && known.port == wanted {
                        return true;
                    }
                    if !known.is_static {
                        self.unlink(at, known.port);
                    }
                }
                Some(at)
            }
        };
        let Some(slot) = at.and_then(|at| self.slot_mut(at)) else { return false };
        slot.version = slot.version.wrapping_add(1);
        slot.port = wanted;
        slot.is_static = true;
        slot.seen = now;
        true
    }

    fn link(&mut self, at: u32, port: u16) {
        let Some(held) = self.held.get_mut(usize::from(port)) else { return };
        let newest = held.newest;
        held.newest = at;
        held.count += 1;
        if newest == NONE {
            held.oldest = at;
        }
        if let Some(slot) = self.slot_mut(newest) {
            slot.newer = at;
        }
        if let Some(slot) = self.slot_mut(at) {
            (slot.older, slot.newer) = (newest, NONE);
        }
    }

    fn unlink(&mut self, at: u32, port: u16) {
        let Some((older, newer)) = self.slot(at).map(|s| (s.older, s.newer)) else { return };
        if let Some(slot) = self.slot_mut(older) {
            slot.newer = newer;
        }
        if let Some(slot) = self.slot_mut(newer) {
            slot.older = older;
        }
        if let Some(held) = self.held.get_mut(usize::from(port)) {
            held.count -= 1;
            if held.oldest == at {
                held.oldest = newer;
            }
            if held.newest == at {
                held.newest = older;
            }
        }
    }

    fn remove(&mut self, at: u32) {
        let Some(gone) = self.slot(at).copied().filter(|s| s.key != 0) else { return };
        if !gone.is_static {
            self.unlink(at, gone.port);
        }
        let bucket = self.bucket(gone.key);
        let mut before = NONE;
        let mut here = self.heads.get(bucket).copied().unwrap_or(NONE);
        while here != at && here != NONE {
            before = here;
            here = self.slot(here).map_or(NONE, |s| s.chain);
        }
        match self.slot_mut(before) {
            Some(slot) => slot.chain = gone.chain,
            None => {
                if let Some(head) = self.heads.get_mut(bucket) {
                    *head = gone.chain;
                }
            }
        }
        let free = self.free;
        if let Some(slot) = self.slot_mut(at) {
            slot.key = 0;
            slot.version = slot.version.wrapping_add(1);
            slot.chain = free;
            self.free = at;
        }
    }

    /// Forgets up to `most` learned entries of `port` that were last seen before `limit`; all of them without one.
    /// Returns how many it forgot.
    pub fn age(&mut self, port: PortId, limit: Option<Instant>, most: usize) -> usize {
        for done in 0..most {
            let oldest = self.held.get(port.index()).map_or(NONE, |held| held.oldest);
            match self.slot(oldest) {
                Some(slot) if limit.is_none_or(|limit| slot.seen < limit) => self.remove(oldest),
                _ => return done,
            }
        }
        most
    }

    /// How many slots there are, for [`MacTable::at`].
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// What is in slot `at`, if it is in use.
    pub fn at(&self, at: usize) -> Option<(VlanId, MacAddr, Place, Instant)> {
        let slot = self.slots.get(at).filter(|s| s.key != 0)?;
        let vlan = VlanId::new((slot.key >> 48) as u16)?;
        Some((vlan, MacAddr::from_u64(slot.key), self.place(at as u32)?, slot.seen))
    }

    /// Empties slot `at`.
    pub fn remove_at(&mut self, at: usize) {
        self.remove(at as u32);
    }
}

#[cfg(test)]
#[path = "mac_tests.rs"]
mod tests;
