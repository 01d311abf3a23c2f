//! How many flows of a monitor the cache holds (`cache entries`): the flows of a monitor that has such a bound are in a list,
//! and one too many evicts another of the same list.
//!
//! A flow that two monitors see counts for the one where it enters, else for the first one where it leaves. The list is
//! in the entries, so it takes no memory. Its victim is, of the first eight, the least recently seen of those with the least
//! standing, and one of the last eight when all of the first have some; those that were passed over go to its end. Without a bound nothing here runs.

use super::Flows;
use super::cache::NONE;
use super::entry::Entry;
use super::record::{MONITORS_MAX, MonitorSet};
use crate::time::Instant;

/// Flows of a list that are looked at for a victim.
const CANDIDATES: usize = 8;
/// Flows that a turn evicts after a bound was lowered.
const TRIMMED_PER_TURN: usize = 64;

#[derive(Clone, Copy)]
struct List {
    /// Most flows; 0 when there is no bound.
    most: u32,
    length: u32,
    head: u32,
    tail: u32,
}

/// The lists of a worker.
pub struct Quotas {
    lists: [List; MONITORS_MAX],
    any: bool,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas { lists: [List { most: 0, length: 0, head: NONE, tail: NONE }; MONITORS_MAX], any: false }
    }
}

impl Quotas {
    /// The bounds by monitor; 0 for none.
    pub fn set(&mut self, bounds: impl Iterator<Item = u32>) {
        for (list, most) in self.lists.iter_mut().zip(bounds.chain(std::iter::repeat(0))) {
            list.most = most;
        }
        self.any = self.lists.iter().any(|list| list.most > 0 || list.length > 0);
    }

    fn owner(&self, monitors_in: MonitorSet, monitors_out: MonitorSet) -> Option<usize> {
        let set = if monitors_in != 0 { monitors_in } else { monitors_out };
        let index = set.trailing_zeros() as usize;
        self.lists.get(index).filter(|list| list.most > 0).map(|_| index)
    }
}

/// A flow that may go: its standing and when it was last seen, and its entry.
type Candidate = ((u32, u64), u32);

/// Entry `at` is the one to go, if it is not to be kept and there is none with less standing, or less lately seen.
fn better(best: &mut Option<Candidate>, at: u32, keep: u32, entry: &Entry) {
    let rank = (entry.standing(), entry.last().ns());
    if at != keep && best.is_none_or(|(least, _)| rank < least) {
        *best = Some((rank, at));
    }
}

impl Flows {
    /// Entry `at` has other monitors than before, or is new: it is to be in the list of the one that it counts for.
    pub(crate) fn join(&mut self, at: u32, now: Instant) {
        if !self.quotas.any {
            return;
        }
        let Some(entry) = self.cache.get(at) else { return };
        let wanted = self.quotas.owner(entry.monitors_in, entry.monitors_out);
        if entry.owner() == wanted {
            return;
        }
        self.leave(at);
        if let Some(index) = wanted {
            self.append(index, at);
            // Two, so that a bound that was lowered is reached.
            for _ in 0..2 {
                self.enforce(index, at, now);
            }
        }
    }

    fn append(&mut self, index: usize, at: u32) {
        let Some(list) = self.quotas.lists.get_mut(index) else { return };
        let last = std::mem::replace(&mut list.tail, at);
        list.length += 1;
        match self.cache.get_mut(last) {
            Some(entry) => entry.next_free = at,
            None => list.head = at,
        }
        if let Some(entry) = self.cache.get_mut(at) {
            entry.link(Some(index), last, NONE);
        }
    }

    /// Takes entry `at` out of its list, if it is in one.
    pub(crate) fn leave(&mut self, at: u32) {
        let Some(entry) = self.cache.get_mut(at) else { return };
        let Some(index) = entry.owner() else { return };
        let (before, behind) = (entry.prev, entry.next_free);
        entry.link(None, NONE, NONE);
        let Some(list) = self.quotas.lists.get_mut(index) else { return };
        list.length -= 1;
        match self.cache.get_mut(before) {
            Some(entry) => entry.next_free = behind,
            None => list.head = behind,
        }
        match self.cache.get_mut(behind) {
            Some(entry) => entry.prev = before,
            None => list.tail = before,
        }
    }

    /// Evicts one flow of the list if there are too many, but not entry `keep`. `true` when one went.
    fn enforce(&mut self, index: usize, keep: u32, now: Instant) -> bool {
        let Some(list) = self.quotas.lists.get(index) else { return false };
        if list.length <= list.most || list.most == 0 {
            return false;
        }
        let (mut at, mut best, mut passed): (_, Option<Candidate>, _) = (list.head, None, [NONE; CANDIDATES]);
        for passed in &mut passed {
            let Some(entry) = self.cache.get(at) else { break };
            better(&mut best, at, keep, entry);
            *passed = at;
            at = entry.next_free;
        }
        // Those that came last, when all of the first have some standing.
        let mut at = list.tail;
        for _ in 0..CANDIDATES {
            let Some(entry) = self.cache.get(at).filter(|_| best.is_none_or(|((least, _), _)| least > 0)) else {
                break;
            };
            better(&mut best, at, keep, entry);
            at = entry.prev;
        }
        let Some((_, victim)) = best else { return false };
        // Those that were passed over are not looked at again before the others.
        for at in passed.into_iter().take_while(|at| *at != victim && *at != NONE) {
            self.leave(at);
            self.append(index, at);
        }
        self.evict(victim, now);
        true
    }

    /// Brings lists down to bounds that were lowered; `true` when there is more to do.
    pub(crate) fn trim(&mut self, now: Instant) -> bool {
        if !self.quotas.any {
            return false;
        }
        let mut left = TRIMMED_PER_TURN;
        for index in 0..MONITORS_MAX {
            while left > 0 && self.enforce(index, NONE, now) {
                left -= 1;
            }
        }
        left == 0
    }
}
