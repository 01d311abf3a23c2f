//! Dropped frames by port and rule: which rule of which list it was, at each port that it met.
//!
//! A small table of its own beside the counters by port and reason: [`SLOTS`] pairs of port and rule of each worker, of which a
//! drop looks at [`PROBES`] at most. What finds no place is counted by port and reason as any drop, and by no rule. Pairs
//! whose rule is in no list any more make room when a worker takes over a snapshot.
//!
//! Threads: one worker writes, anyone reads. A reader that meets a place while it changes hands leaves it out.

use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counter;
use crate::port::PortId;
use crate::verdict::DropReason;

/// Pairs that are kept.
pub const SLOTS: usize = 4096;
/// Places that a pair may be in.
const PROBES: usize = 8;

/// Dropped frames of a port, by a rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleDrop {
    /// Port the frames came from, or could not leave by.
    pub port: PortId,
    /// Why.
    pub reason: DropReason,
    /// Number of the rule.
    pub rule: u32,
}

impl RuleDrop {
    /// Never 0, which is that of a free place.
    fn key(self) -> u64 {
        1 << 63 | u64::from(self.port.0) << 40 | u64::from(self.reason as u8) << 32 | u64::from(self.rule)
    }

    fn of(key: u64) -> Option<RuleDrop> {
        let reason = DropReason::from_number((key >> 32) as u8)?;
        (key != 0).then_some(RuleDrop { port: PortId((key >> 40) as u16), reason, rule: key as u32 })
    }
}

#[derive(Debug, Default)]
struct Slot {
    key: AtomicU64,
    frames: Counter,
}

/// The table.
#[derive(Debug)]
pub struct RuleDrops(Box<[Slot]>);

impl Default for RuleDrops {
    fn default() -> Self {
        RuleDrops((0..SLOTS).map(|_| Slot::default()).collect())
    }
}

impl RuleDrops {
    /// `frames` frames were dropped; by the one writer only.
    #[cold]
    pub fn add(&self, pair: RuleDrop, frames: u64) {
        let key = pair.key();
        // Fibonacci hashing: neighbouring ports and rules are what is usual.
        let first = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
        let places = || (first..first + PROBES).filter_map(|at| self.0.get(at % SLOTS));
        let held = |slot: &&Slot, wanted| slot.key.load(Ordering::Relaxed) == wanted;
        if let Some(slot) = places().find(|slot| held(slot, key)) {
            return slot.frames.add(frames);
        }
        if let Some(slot) = places().find(|slot| held(slot, 0)) {
            slot.frames.set(frames);
            slot.key.store(key, Ordering::Release);
        }
    }

    /// Pairs whose rule is none any more make room; by the one writer only.
    pub fn retain(&self, is_rule: impl Fn(u32) -> bool) {
        for slot in &self.0 {
            let key = slot.key.load(Ordering::Relaxed);
            if key != 0 && !is_rule(key as u32) {
                slot.key.store(0, Ordering::Release);
            }
        }
    }

    /// What was counted.
    pub fn read(&self) -> impl Iterator<Item = (RuleDrop, u64)> {
        self.0.iter().filter_map(|slot| {
            let key = slot.key.load(Ordering::Acquire);
            let frames = slot.frames.get();
            let stays = slot.key.load(Ordering::Acquire) == key;
            RuleDrop::of(key).filter(|_| stays).map(|pair| (pair, frames))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn pair(port: u16, rule: u32) -> RuleDrop {
        RuleDrop { port: PortId(port), reason: DropReason::AclDeny, rule }
    }

    #[test]
    fn pairs_are_counted_apart_and_a_full_table_counts_what_it_has() {
        let drops = RuleDrops::default();
        let mut model: BTreeMap<RuleDrop, u64> = BTreeMap::new();
        for n in 0..40_000u32 {
            let pair = pair((n % 700) as u16, n % 11_000);
            drops.add(pair, 2);
            *model.entry(pair).or_default() += 2;
        }
        let read: BTreeMap<RuleDrop, u64> = drops.read().collect();
        assert!(read.len() > SLOTS / 2 && read.len() <= SLOTS);
        // A pair is in the table from its first frame on, or never.
        for (pair, frames) in &read {
            assert_eq!(model[pair], *frames);
        }
        drops.retain(|rule| rule == 7);
        assert!(drops.read().all(|(pair, _)| pair.rule == 7));
        let other = RuleDrop { reason: DropReason::AclDenyOut, ..pair(1, 7) };
        drops.add(other, 5);
        assert_eq!(drops.read().find(|(pair, _)| *pair == other), Some((other, 5)));
    }
}
