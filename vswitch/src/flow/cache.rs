//! The exact-match table: a key, what the judges said of it, and the counters of its flow.
//!
//! * **Layout.** A bucket is one cache line: eight 32-bit signatures and eight entry numbers. A key may be in either of two
//!   buckets. An entry is three lines: the key, what a hit reads and writes, and the rest. So the usual hit costs one line
//!   of index and two of entry, which are asked for a stage before they are needed: the loads of a batch overlap. Both
//!   arrays are on huge pages.
//! * **Fixed size.** All memory is mapped at the start (untouched pages cost nothing); insertion never allocates. With no free
//!   entry, or both buckets full, one of the (at most 16) entries there is the victim, which the caller reports before it
//!   removes it: the least recently seen of those that have the least standing. When all have some, eight
//!   of the whole table are looked at as well. So a flood of flows of one packet evicts its own, and flows that go on stay.
//! * **No wildcards.** The key holds every field that a judge reads, so a verdict can't be used for a frame that it was not
//!   made for, and the work of a lookup does not depend on what arrived before.

use zerocopy::FromZeros;

use super::entry::{Entry, state};
use super::hash::HashKey;
use super::key::FlowKey;
use crate::port::arena::{Pages, prefetch};

const WAYS: usize = 8;
/// Entries that are looked at for a victim, beside those of the buckets.
const ASIDE: usize = 8;
/// No entry.
pub const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
struct Bucket {
    /// 0 for a free way.
    signatures: [u32; WAYS],
    /// Entry number + 1, 0 for a free way.
    entries: [u32; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Bit `i`: way `i` has that signature. Written so that it becomes one vector comparison.
    #[inline]
    fn fits(&self, signature: u32) -> u32 {
        const BITS: [u32; WAYS] = [1, 2, 4, 8, 16, 32, 64, 128];
        self.signatures.iter().zip(BITS).fold(0, |set, (s, bit)| set | if *s == signature { bit } else { 0 })
    }

    /// The number in the way that has that signature, 0 when none has it. When two have it, the answer is a number of
    /// neither; whoever asks compares the key.
    #[inline(always)]
    fn only(&self, signature: u32) -> u32 {
        let ways = self.signatures.iter().zip(&self.entries);
        ways.fold(0, |all, (s, entry)| all | if *s == signature { *entry } else { 0 })
    }

    /// A way is free.
    #[inline]
    fn has_way(&self) -> bool {
        self.entries.iter().fold(false, |free, entry| free | (*entry == 0))
    }
}

/// Where a new key can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// There is a free entry and a free way.
    Free,
    /// That entry would have to go first.
    Victim(u32),
}

/// The best entry to go so far, that of the least rank.
struct Victim {
    rank: u64,
    at: u32,
}

impl Victim {
    /// The least rank of an entry with some standing.
    const STANDING: u64 = 1 << 61;

    #[inline(always)]
    fn consider(&mut self, cache: &FlowCache, at: u32) {
        if let Some(entry) = cache.get(at)
            && Self::rank(entry) < self.rank
        {
            *self = Victim { rank: Self::rank(entry), at };
        }
    }

    /// The standing, and below it when it was last seen.
    #[inline(always)]
    fn rank(entry: &Entry) -> u64 {
        // 2^61 ns are 73 years.
        u64::from(entry.standing()) << 61 | entry.last_ns.min(Self::STANDING - 1)
    }
}

/// The table.
pub struct FlowCache {
    buckets: Pages<Bucket>,
    entries: Pages<Entry>,
    hash: HashKey,
    free: u32,
    /// Entries from here on were never used.
    fresh: u32,
    live: usize,
    /// Where to look for a victim when those of a key's buckets should stay.
    hand: u32,
}

impl FlowCache {
    /// An empty table of `capacity` entries, at least 1. Without the memory for it the process ends, as with any `Vec`.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, 1 << 28);
        let buckets = (capacity * 2).div_ceil(WAYS).next_power_of_two().max(2);
        FlowCache {
            buckets: Pages::new(buckets),
            entries: Pages::new(capacity),
            hash: HashKey::random(),
            free: NONE,
            fresh: 0,
            live: 0,
            hand: 0,
        }
    }

    /// The hash of a key.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.hash.of(key)
    }

    #[inline(always)]
    fn homes(&self, hash: u64) -> [usize; 2] {
        let mask = self.buckets.len().wrapping_sub(1);
        let first = hash as usize & mask;
        let second = (hash >> 24) as usize & mask;
        [first, if second == first { first ^ 1 } else { second }]
    }

    /// Never 0, which is that of a free way.
    #[inline(always)]
    fn signature(hash: u64) -> u32 {
        (hash >> 32) as u32 | 1
    }

    /// The frame of that hash will be looked up soon.
    #[inline(always)]
    pub fn expect(&self, hash: u64) {
        let [first, _] = self.homes(hash);
        if let Some(bucket) = self.buckets.get(first) {
            prefetch(bucket);
        }
    }

    /// The entry that probably holds the key of that hash, by the index alone. It is asked for from memory; whether it
    /// holds the key is for [`Entry::has_key`] to say.
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> u32 {
        let signature = Self::signature(hash);
        let mask = self.buckets.len().wrapping_sub(1);
        let mut number = self.buckets.get(hash as usize & mask).map_or(0, |bucket| bucket.only(signature));
        if number == 0 {
            let [_, second] = self.homes(hash);
            number = self.buckets.get(second).map_or(0, |bucket| bucket.only(signature));
        }
        let at = number.wrapping_sub(1);
        if let Some(entry) = self.get(at) {
            entry.expect();
        }
        at
    }

    /// The entry of `key`.
    pub fn find(&self, hash: u64, key: &FlowKey) -> Option<u32> {
        let signature = Self::signature(hash);
        for bucket in self.homes(hash) {
            let bucket = self.buckets.get(bucket)?;
            let mut rest = bucket.fits(signature);
            while rest != 0 {
                let at = bucket.entries.get(rest.trailing_zeros() as usize)?.wrapping_sub(1);
                rest &= rest - 1;
                if self.get(at).is_some_and(|entry| entry.has_key(key)) {
                    return Some(at);
                }
            }
        }
        None
    }

    /// Entry `at`.
    #[inline]
    pub fn get(&self, at: u32) -> Option<&Entry> {
        self.entries.get(at as usize)
    }

    /// Entry `at`.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> Option<&mut Entry> {
        self.entries.get_mut(at as usize)
    }

    /// Whether a new key of that hash fits, or who is to go.
    pub fn room(&mut self, hash: u64) -> Room {
        let homes = self.homes(hash);
        let has_way = homes.iter().filter_map(|home| self.buckets.get(*home)).any(Bucket::has_way);
        let has_entry = self.free != NONE || (self.fresh as usize) < self.entries.len();
        if has_way && has_entry { Room::Free } else { Room::Victim(self.victim(homes, has_way)) }
    }

    /// Who is to go for a key of these buckets.
    #[inline(never)]
    fn victim(&mut self, homes: [usize; 2], has_way: bool) -> u32 {
        let mut victim = Victim { rank: u64::MAX, at: 0 };
        for bucket in homes.iter().filter_map(|home| self.buckets.get(*home)) {
            for number in bucket.entries.iter().filter(|number| **number != 0) {
                victim.consider(self, number.wrapping_sub(1));
            }
        }
        // Who is elsewhere makes no way free. If no entry is free, all are in use, and any may go.
        if has_way && victim.rank >= Victim::STANDING {
            let all = self.entries.len() as u64;
            for _ in 0..ASIDE {
                // Numerical Recipes' generator: flows that came one after the other have entries one after the other.
                self.hand = self.hand.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                victim.consider(self, ((u64::from(self.hand) * all) >> 32) as u32);
            }
        }
        victim.at
    }

    /// Adds `key` where [`FlowCache::room`] said `Free`; the new entry is blank but for its key.
    pub fn insert(&mut self, hash: u64, key: &FlowKey) -> Option<u32> {
        let homes = self.homes(hash);
        // The first, which is looked at first, unless it is so full that the two had better share.
        let free = |at: usize| self.buckets.get(at).map_or(0, |b| b.entries.iter().filter(|e| **e == 0).count());
        let [first, second] = homes;
        let home = if free(first) < 3 && free(second) > free(first) { second } else { first };
        let at = match self.free {
            NONE => {
                let at = self.fresh;
                self.entries.get(at as usize)?;
                self.fresh += 1;
                at
            }
            at => {
                self.free = self.get(at)?.next_free;
                at
            }
        };
        let bucket = self.buckets.get_mut(home)?;
        let way = bucket.entries.iter().position(|e| *e == 0)?;
        *bucket.entries.get_mut(way)? = at + 1;
        *bucket.signatures.get_mut(way)? = Self::signature(hash);
        let entry = self.entries.get_mut(at as usize)?;
        entry.begin(key, hash);
        self.live += 1;
        Some(at)
    }

    /// Entry `at` is soon to be looked at as a whole.
    #[inline]
    pub fn expect_entry(&self, at: u32) {
        if let Some(entry) = self.get(at) {
            entry.expect();
            prefetch(&entry.hash);
        }
    }

    /// Entry `at`, which is at hand, is perhaps soon to be removed.
    #[inline]
    pub fn expect_removal(&self, at: u32) {
        let Some(entry) = self.get(at) else { return };
        let [first, _] = self.homes(entry.hash);
        if let Some(bucket) = self.buckets.get(first) {
            prefetch(bucket);
        }
    }

    /// Removes entry `at`.
    pub fn remove(&mut self, at: u32) {
        let Some(hash) = self.get(at).filter(|entry| entry.is(state::LIVE)).map(|entry| entry.hash) else { return };
        // It has one way, most often in its first bucket.
        for home in self.homes(hash) {
            let Some(bucket) = self.buckets.get_mut(home) else { continue };
            if let Some(way) = bucket.entries.iter().position(|entry| *entry == at + 1)
                && let (Some(signature), Some(entry)) = (bucket.signatures.get_mut(way), bucket.entries.get_mut(way))
            {
                (*signature, *entry) = (0, 0);
                break;
            }
        }
        let free = self.free;
        if let Some(entry) = self.get_mut(at) {
            entry.state = 0;
            entry.next_free = free;
            self.free = at;
            self.live -= 1;
        }
    }

    /// Flows in the table.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Most flows that it can hold.
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }

    /// Entries `0..used` are or were in use.
    pub fn used(&self) -> u32 {
        self.fresh
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::time::Instant;

    fn key(n: u32) -> FlowKey {
        FlowKey { src: crate::wire::mapped(n), in_port: 1, ..FlowKey::default() }
    }

    /// Random insertions and removals against a map; a full table says who is to go, and it is an old one.
    #[test]
    fn behaves_as_a_map_of_bounded_size() {
        let mut cache = FlowCache::new(300);
        let mut model: HashMap<u32, u32> = HashMap::new();
        let mut seed = 11u64;
        let mut draw = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for step in 0..60_000u64 {
            let n = draw(800) as u32;
            let hash = cache.hash(&key(n));
            match cache.find(hash, &key(n)) {
                Some(at) => {
                    assert_eq!(model.get(&n), Some(&at));
                    if draw(3) == 0 {
                        cache.remove(at);
                        model.remove(&n);
                    }
                }
                None => {
                    assert!(!model.contains_key(&n));
                    if let Room::Victim(at) = cache.room(hash)
                        && cache.get(at).unwrap().is(state::LIVE)
                    {
                        cache.remove(at);
                        model.retain(|_, held| *held != at);
                    }
                    if cache.room(hash) == Room::Free {
                        let at = cache.insert(hash, &key(n)).unwrap();
                        cache.get_mut(at).unwrap().see(Instant::from_ns(step));
                        model.insert(n, at);
                        assert_eq!(cache.guess(hash), cache.find(hash, &key(n)).unwrap());
                    }
                }
            }
            assert_eq!(cache.live(), model.len());
        }
        assert!(cache.live() > 250);
    }
}
