//! What was counted under monitors that a configuration has taken away: reported before those who export forget them.
//!
//! A frame that finds its flow watched by others than before has that reported at once, but no frame may come any more. So
//! after a change that concerns monitors a walk over the table does the same for every flow, some at a time. It may run
//! only after the change was taken over: then no frame is counted any more as it was before.
//!
//! Flows that were summed up meanwhile are reported at the end of the walk. When the ring of records stays full, it gives
//! up after a while: what then finds no room is counted as not metered.
//! It must not be reported later, when the number of its monitor may be another's.

use super::Flows;
use super::entry::{Entry, state};
use super::expire::SLICE;
use super::record::{EndReason, MonitorSet};
use crate::snapshot::{PortPolicy, Snapshot};
use crate::time::Instant;
use crate::verdict::Verdict;

/// Flows that a turn reports.
const REPORTED_PER_TURN: usize = 256;

/// The monitors that `snapshot` has look at a flow, where it enters and where it leaves, and those that count some of its
/// packets only. Who gets a flood is not kept with its flow, so of the monitors where it leaves those stay that a port of the
/// VLAN still has.
fn watchers(entry: &Entry, snapshot: &Snapshot) -> (MonitorSet, MonitorSet, MonitorSet) {
    let j = entry.judgement();
    let key = entry.key();
    let counting = |set| snapshot.watching(set, key.in_port(), &key, j.vlan).0;
    let entering = counting(snapshot.port(key.in_port()).map_or(0, |port| port.monitors_in));
    let picks_in = snapshot.port(key.in_port()).map_or(0, |port| port.picks_in);
    let (leaving, picks_out) = match j.verdict {
        Verdict::Forward(to) => snapshot.port(to).map_or((0, 0), |port| (counting(port.monitors_out), port.picks_out)),
        Verdict::Flood if j.monitors_out == 0 => (0, 0),
        Verdict::Flood => {
            let members = j.vlan.map_or(&[][..], |vlan| snapshot.members(vlan));
            let both = |(set, picks), port: &PortPolicy| (set | port.monitors_out, picks | port.picks_out);
            let (all, picks) = members.iter().filter_map(|id| snapshot.port(*id)).fold((0, 0), both);
            (j.monitors_out & counting(all), j.picked & picks)
        }
        Verdict::Drop(_) => (0, 0),
    };
    let leaving = leaving & !entering;
    (entering, leaving, entering & picks_in | leaving & picks_out)
}

impl Flows {
    /// Reports what entries `from..` have counted under other monitors than those of `snapshot`, and what is to be reported
    /// at once anyway; returns where to go on. `patient`: a full ring of records is waited for.
    pub(crate) fn settle(&mut self, from: u32, snapshot: &Snapshot, patient: bool, now: Instant) -> Option<u32> {
        let to = from.saturating_add(SLICE).min(self.cache.used());
        let mut reported = 0;
        for at in from..to {
            let Some(entry) = self.cache.get(at).filter(|entry| entry.is(state::LIVE)) else { continue };
            let (entering, leaving, picked) = watchers(entry, snapshot);
            let differs = (entry.monitors_in, entry.monitors_out, entry.picked()) != (entering, leaving, picked);
            if !differs && !entry.is(state::FORCED) && !self.is_outdated(at, snapshot) {
                continue;
            }
            if reported == REPORTED_PER_TURN {
                return Some(at);
            }
            reported += 1;
            if !self.report(at, EndReason::Forced) {
                if patient {
                    return Some(at);
                }
                self.forgo(at);
            }
            if differs && let Some(entry) = self.cache.get_mut(at) {
                entry.set_monitors(entering, leaving, picked);
                self.arm(at, now, snapshot);
                self.join(at, now);
            }
        }
        if to < self.cache.used() {
            return Some(to);
        }
        match self.overflow.offer(&mut self.records, REPORTED_PER_TURN) {
            true if self.overflow.is_empty() => None,
            false if !patient => {
                self.counters.cache.unmetered.add(self.overflow.forget());
                None
            }
            _ => Some(to),
        }
    }

    /// Reports what entries `from..` have counted for any of `monitors`, and returns where to go on. The flows stay, and
    /// count from zero. `patient`: a full ring of records is waited for; else what finds no room counts on.
    pub(crate) fn flush(&mut self, monitors: MonitorSet, from: u32, patient: bool) -> Option<u32> {
        let to = from.saturating_add(SLICE).min(self.cache.used());
        let mut reported = 0;
        for at in from..to {
            let wanted = |entry: &&Entry| {
                entry.is(state::LIVE) && entry.packets > 0 && (entry.monitors_in | entry.monitors_out) & monitors != 0
            };
            if self.cache.get(at).filter(wanted).is_none() {
                continue;
            }
            if reported == REPORTED_PER_TURN {
                return Some(at);
            }
            reported += 1;
            if !self.report(at, EndReason::Forced) && patient {
                return Some(at);
            }
        }
        (to < self.cache.used()).then_some(to)
    }

    /// There are flows, or sums of flows.
    pub(crate) fn has_to_report(&self) -> bool {
        self.cache.live() > 0 || !self.overflow.is_empty()
    }

    /// Offers the sums of flows at once; `false` when the ring is full.
    pub(crate) fn offer_sums(&mut self) -> bool {
        self.overflow.offer(&mut self.records, REPORTED_PER_TURN)
    }

    /// Gives up what entry `at` has counted, and counts that, if anyone watches it.
    pub(crate) fn forgo(&mut self, at: u32) {
        let Some(entry) = self.cache.get(at) else { return };
        if entry.monitors_in | entry.monitors_out != 0 {
            let [(_, counted), ..] = self.classes(at);
            self.counters.cache.unmetered.add(counted.packets);
        }
        self.give_back(at, true);
    }

    /// As [`Flows::forgo`] for every flow: the switch ends, and nobody takes reports.
    pub(crate) fn forgo_all(&mut self) {
        for at in 0..self.cache.used() {
            if self.cache.get(at).is_some_and(|entry| entry.is(state::LIVE)) {
                self.forgo(at);
            }
        }
        self.counters.cache.unmetered.add(self.overflow.forget());
    }
}
