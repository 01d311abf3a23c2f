//! The MAC address table: which port a station of a VLAN is on.
//!
//! * **One writer.** The table is shared by all workers. One of them writes, the others read without a lock ([`slots`])
//!   and send what they want learned through a ring. A frame whose source is not in the table yet is forwarded all the
//!   same; its verdict is not kept ([`SlotRef::NONE`]), so the next frame of the flow asks again. A full ring loses the
//!   wish, and is counted.
//! * **Fixed size.** All memory is taken when the table is made. Entries hang in chains of a keyed hash, and every learned
//!   entry also in a list of its port, ordered by when it was last seen (to the second, [`REFRESH`]). So the oldest entry
//!   of a port is at hand without a search, and ageing looks at the heads of lists only. The lists are the writer's own
//!   ([`order`]).
//! * **Fairness.** A port that has its quota replaces its own oldest entry. When the table is full, the oldest entry of
//!   the port that holds most makes room. A flooder thus pushes out its own addresses. Static entries are never evicted.
//! * **Versions.** A slot's version moves when the slot is emptied. A flow entry keeps a [`SlotRef`], slot, version and port,
//!   of both its ends, and is stale while either differs: so a station that moves costs nobody else a miss, and one that
//!   moves back and forth finds its flows valid wherever it is. A flow to an unknown address keeps the count of addresses
//!   that were ever added ([`MacTable::additions`]) instead.
//!
//! Threads: each worker has a [`MacTable`], one of which writes.

mod order;
mod slots;

use std::sync::Arc;

use proto::addr::{MacAddr, VlanId};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::flow::hash::HashKey;
use crate::port::PortId;
use crate::time::Instant;
use order::Order;
pub use slots::REFRESH;
use slots::{SLOT_MASK, SLOT_SHIFT, Slots};

const NONE: u32 = u32::MAX;
/// Most entries of a table.
pub const CAPACITY_MAX: usize = 1 << 20;
/// Wishes of a worker that wait for the writer.
pub const WISHES: usize = 256;
/// Wishes that a worker remembers, so as not to repeat those that still wait.
const REMEMBERED: usize = 64;

/// A slot of the table, the address that was in it, and where that was, for a cache to hold.
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
#[repr(transparent)]
pub struct SlotRef(u64);

impl SlotRef {
    /// No entry was involved.
    pub const NONE: SlotRef = SlotRef(u64::MAX);

    #[inline]
    fn slot(self) -> u32 {
        (self.0 >> SLOT_SHIFT & SLOT_MASK) as u32
    }
}

// No slot has the number of `SlotRef::NONE`.
const _: () = assert!((CAPACITY_MAX as u64) <= SLOT_MASK);

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

/// An address that a worker wants learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wish {
    key: u64,
    port: PortId,
}

/// What a worker that does not write keeps.
struct Reader {
    wishes: Producer<Wish>,
    /// How many were ever sent.
    sent: u64,
    lost: u64,
    /// Wishes, and how many had been sent with them.
    recent: Box<[(Wish, u64)]>,
}

enum Role {
    Writer { order: Order, quota: u32, wishes: Vec<Consumer<Wish>> },
    Reader(Reader),
}

/// A worker's view of the table.
pub struct MacTable {
    slots: Arc<Slots>,
    role: Role,
}

fn key(vlan: VlanId, mac: MacAddr) -> u64 {
    u64::from(vlan.get()) << 48 | mac.to_u64()
}

impl MacTable {
    /// An empty table of `capacity` entries, up to [`CAPACITY_MAX`], at most `quota` of them learned from one port.
    pub fn new(capacity: usize, quota: usize) -> Self {
        MacTable::shared(capacity, quota, 0).0
    }

    /// As [`MacTable::new`], with views for `readers` further workers.
    pub fn shared(capacity: usize, quota: usize, readers: usize) -> (Self, Vec<Self>) {
        MacTable::with_hash(capacity, quota, readers, HashKey::random())
    }

    fn with_hash(capacity: usize, quota: usize, readers: usize, hash: HashKey) -> (Self, Vec<Self>) {
        let capacity = capacity.clamp(1, CAPACITY_MAX);
        let slots = Arc::new(Slots::new(capacity, hash));
        let (views, wishes) = (0..readers).map(|_| MacTable::reader(Arc::clone(&slots))).unzip();
        let role = Role::Writer { order: Order::new(capacity), quota: quota.clamp(1, capacity) as u32, wishes };
        (MacTable { slots, role }, views)
    }

    fn reader(slots: Arc<Slots>) -> (Self, Consumer<Wish>) {
        let (wishes, wished) = RingBuffer::new(WISHES);
        let nothing = (Wish { key: 0, port: PortId(0) }, 0);
        let reader = Reader { wishes, sent: 0, lost: 0, recent: vec![nothing; REMEMBERED].into() };
        (MacTable { slots, role: Role::Reader(reader) }, wished)
    }

    /// This view writes.
    pub fn writes(&self) -> bool {
        matches!(self.role, Role::Writer { .. })
    }

    /// Where `mac` is in `vlan`.
    pub fn lookup(&self, vlan: VlanId, mac: MacAddr) -> Option<Place> {
        self.search(vlan, mac).ok()
    }

    /// Where `mac` is in `vlan`; or, when it is not in the table, the [`MacTable::additions`] with which that was so: a
    /// number of the past when the table changed too fast to be sure.
    pub fn search(&self, vlan: VlanId, mac: MacAddr) -> Result<Place, u32> {
        self.slots.search(key(vlan, mac)).map(|(at, value)| value.place(at))
    }

    /// Moves when an address that was not in the table is in it. As long as it does not, an address that was not found is
    /// not there. It wraps.
    #[inline]
    pub fn additions(&self) -> u32 {
        self.slots.additions()
    }

    /// What `held` refers to has not moved, or has moved back. [`SlotRef::NONE`] always is current.
    #[inline]
    pub fn is_current(&self, held: SlotRef) -> bool {
        held == SlotRef::NONE || self.slots.is_current(held)
    }

    /// The address in `held` was seen.
    #[inline]
    pub fn refresh(&mut self, held: SlotRef, now: Instant) {
        if self.slots.refresh(held.slot(), now) {
            self.relist(held.slot(), now);
        }
    }

    /// Brings the writer's list up to date; what others have seen it finds out when it needs to know.
    #[cold]
    fn relist(&mut self, at: u32, now: Instant) {
        let Role::Writer { order, .. } = &mut self.role else { return };
        if let Some((_, value)) = self.slots.at(at)
            && let (Some(port), false) = (value.port(), value.is_static())
        {
            order.unlink(at, port);
            order.link(at, port, now);
        }
    }

    /// `mac` was seen in `vlan` on `port`: learns it, moves it there, or refreshes it. Static entries stay as they are.
    /// `None` when there is no room that may be taken, and in a view that does not write as long as the address is not in
    /// its place: the writer was asked to learn it.
    pub fn learn(&mut self, vlan: VlanId, mac: MacAddr, port: PortId, now: Instant) -> Option<Place> {
        self.learn_key(key(vlan, mac), port, now)
    }

    fn learn_key(&mut self, key: u64, port: PortId, now: Instant) -> Option<Place> {
        let found = self.slots.find(key);
        if let Some((at, value)) = found
            && (value.is_static() || value.port() == Some(port))
        {
            let place = value.place(at);
            self.refresh(place.slot, now);
            return Some(place);
        }
        if let Role::Reader(reader) = &mut self.role {
            reader.wish(Wish { key, port });
            return None;
        }
        let at = match found {
            Some((at, value)) => {
                self.unlist(at, value.port());
                self.make_room_on(port);
                self.slots.set(at, Some(port), false);
                self.slots.see(at, now);
                at
            }
            None => self.add(key, port, now)?,
        };
        if let Role::Writer { order, .. } = &mut self.role {
            order.link(at, port, now);
        }
        self.slots.at(at).map(|(_, value)| value.place(at))
    }

    fn unlist(&mut self, at: u32, port: Option<PortId>) {
        if let (Role::Writer { order, .. }, Some(port)) = (&mut self.role, port) {
            order.unlink(at, port);
        }
    }

    fn make_room_on(&mut self, port: PortId) {
        let Role::Writer { order, quota, .. } = &mut self.role else { return };
        if order.count(port).is_some_and(|count| count >= *quota)
            && let Some(oldest) = order.oldest(&self.slots, port)
        {
            self.remove(oldest);
        }
    }

    /// A free slot; when there is none, that of the oldest address of the port that holds most.
    fn take_slot(&mut self) -> Option<u32> {
        let Role::Writer { order, .. } = &mut self.role else { return None };
        if order.is_full()
            && let Some(fullest) = order.fullest()
            && let Some(oldest) = order.oldest(&self.slots, fullest)
        {
            self.remove(oldest);
        }
        match &mut self.role {
            Role::Writer { order, .. } => order.take_free(),
            Role::Reader(_) => None,
        }
    }

    fn add(&mut self, key: u64, port: PortId, now: Instant) -> Option<u32> {
        match &self.role {
            Role::Writer { order, .. } => order.count(port)?,
            Role::Reader(_) => return None,
        };
        self.make_room_on(port);
        let at = self.take_slot()?;
        self.slots.put(at, key, Some(port), false, now);
        Some(at)
    }

    /// Makes `mac` static. A learned entry of that address becomes it. `false` when the table is full of static entries, and
    /// in a view that does not write.
    pub fn set_static(&mut self, vlan: VlanId, mac: MacAddr, port: Option<PortId>, now: Instant) -> bool {
        if !self.writes() {
            return false;
        }
        let key = key(vlan, mac);
        match self.slots.find(key) {
            Some((_, value)) if value.is_static() && value.port() == port => {}
            Some((at, value)) => {
                if !value.is_static() {
                    self.unlist(at, value.port());
                }
                self.slots.set(at, port, true);
                self.slots.see(at, now);
            }
            None => match self.take_slot() {
                Some(at) => self.slots.put(at, key, port, true, now),
                None => return false,
            },
        }
        true
    }

    fn remove(&mut self, at: u32) {
        let Role::Writer { order, .. } = &mut self.role else { return };
        let Some(gone) = self.slots.clear(at) else { return };
        if let (Some(port), false) = (gone.port(), gone.is_static()) {
            order.unlink(at, port);
        }
        order.give_free(at);
    }

    /// Forgets up to `most` learned entries of `port` that were last seen before `limit`; all of them without one.
    /// Returns how many it forgot; none in a view that does not write.
    pub fn age(&mut self, port: PortId, limit: Option<Instant>, most: usize) -> usize {
        for done in 0..most {
            let Role::Writer { order, .. } = &mut self.role else { return 0 };
            match order.oldest(&self.slots, port) {
                Some(at) if limit.is_none_or(|limit| self.slots.seen(at) < limit) => self.remove(at),
                _ => return done,
            }
        }
        most
    }

    /// Learns what other workers want, at most `most` of each, where `allowed` agrees. `true` when more may wait.
    pub fn grant(&mut self, most: usize, now: Instant, allowed: &dyn Fn(VlanId, PortId) -> bool) -> bool {
        let mut more = false;
        for from in 0.. {
            let mut left = most;
            while let Role::Writer { wishes, .. } = &mut self.role {
                let Some(ring) = wishes.get_mut(from) else { return more };
                if left == 0 {
                    more |= !ring.is_empty();
                    break;
                }
                let Ok(Wish { key, port }) = ring.pop() else { break };
                left -= 1;
                if VlanId::new((key >> 48) as u16).is_some_and(|vlan| allowed(vlan, port)) {
                    self.learn_key(key, port, now);
                }
            }
            if !self.writes() {
                break;
            }
        }
        more
    }

    /// Another worker waits for [`MacTable::grant`].
    pub fn has_wishes(&self) -> bool {
        match &self.role {
            Role::Writer { wishes, .. } => wishes.iter().any(|ring| !ring.is_empty()),
            Role::Reader(_) => false,
        }
    }

    /// How many wishes were sent, and how many were lost because the ring was full.
    pub fn wished(&self) -> (u64, u64) {
        match &self.role {
            Role::Writer { .. } => (0, 0),
            Role::Reader(reader) => (reader.sent, reader.lost),
        }
    }

    /// How many slots there are, for [`MacTable::at`].
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// What is in slot `at`, if it is in use.
    pub fn at(&self, at: usize) -> Option<(VlanId, MacAddr, Place, Instant)> {
        let at = u32::try_from(at).ok()?;
        let (key, value) = self.slots.at(at)?;
        let vlan = VlanId::new((key >> 48) as u16)?;
        Some((vlan, MacAddr::from_u64(key), value.place(at), self.slots.seen(at)))
    }

    /// Empties slot `at`; does nothing in a view that does not write.
    pub fn remove_at(&mut self, at: usize) {
        if let Ok(at) = u32::try_from(at) {
            self.remove(at);
        }
    }
}

impl Reader {
    /// Sends a wish, unless the same still waits.
    fn wish(&mut self, wish: Wish) {
        let done = self.sent - (WISHES - self.wishes.slots()) as u64;
        let Some(recent) = self.recent.get_mut((wish.key % REMEMBERED as u64) as usize) else { return };
        if recent.0 == wish && recent.1 > done {
            return;
        }
        match self.wishes.push(wish) {
            Ok(()) => {
                self.sent += 1;
                *recent = (wish, self.sent);
            }
            Err(_) => self.lost += 1,
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod loom_tests;
