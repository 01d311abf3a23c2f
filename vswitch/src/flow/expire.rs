//! When flows are reported and forgotten.
//!
//! A packet only writes when it was seen. Timers sit on a [`Wheel`](crate::table::wheel::Wheel); when one comes due, the
//! entry is reported if it really is silent, long enough on, or ended, and otherwise armed for the time when it can be so
//! next. Each entry is thus touched about once per timeout, and at most [`BUDGET`] a turn.
//!
//! Timeouts may change while flows live. The changed timeouts count for every decision from then on; only timers that were
//! armed for a later moment must be brought forward, which a walk over the table does, [`SLICE`] entries a turn. The same
//! walk brings flows into the lists of monitors that have a bound from now on.

use std::time::Duration;

use arrayvec::ArrayVec;

use super::Flows;
use super::entry::state;
use super::record::EndReason;
use crate::config::MonitorConfig;
use crate::port::PortId;
use crate::snapshot::Snapshot;
use crate::time::Instant;

/// Timers that a turn looks at.
pub const BUDGET: usize = 64;
/// Timers that are looked at together, so that the memory's delays overlap: an entry was last touched a timeout ago.
const TOGETHER: usize = 16;
/// Entries of a walk that a turn looks at.
pub const SLICE: u32 = 1024;
/// How long a flow lives on after its TCP FIN or RST, for what is still on its way.
pub const LINGER: Duration = Duration::from_secs(2);
/// Timeouts of a flow that no monitor watches: its entry goes when it is silent.
const UNWATCHED: MonitorConfig =
    MonitorConfig { active: Duration::from_secs(u32::MAX as u64), inactive: Duration::from_secs(15) };

fn after(from: Instant, wait: Duration) -> Instant {
    Instant::from_ns(from.ns().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
}

impl Flows {
    fn timeouts(&self, at: u32, snapshot: &Snapshot) -> MonitorConfig {
        let watching = self.cache.get(at).map_or(0, |entry| entry.monitors_in | entry.monitors_out);
        snapshot.timeouts(watching).unwrap_or(UNWATCHED)
    }

    /// When entry `at` has to be looked at next.
    fn deadline(&self, at: u32, now: Instant, snapshot: &Snapshot) -> Instant {
        let timeouts = self.timeouts(at, snapshot);
        let Some(entry) = self.cache.get(at) else { return now };
        if entry.is(state::FORCED) {
            return now;
        }
        let (mut soonest, mut first) = (after(entry.last(), timeouts.inactive), entry.first());
        if entry.last() == Instant::default() {
            // Not seen yet: it is about to be.
            (soonest, first) = (after(now, timeouts.inactive), now);
        }
        if entry.has_ended() {
            soonest = soonest.min(after(entry.ended(), LINGER));
        }
        soonest.min(after(first, timeouts.active))
    }

    pub(crate) fn arm(&mut self, at: u32, now: Instant, snapshot: &Snapshot) {
        let deadline = self.deadline(at, now, snapshot);
        self.wheel.arm(at, deadline.ms());
    }

    pub(crate) fn arm_end(&mut self, at: u32, now: Instant) {
        self.wheel.arm(at, after(now, LINGER).ms());
    }

    pub(crate) fn remove(&mut self, at: u32) {
        self.wheel.disarm(at);
        self.leave(at);
        self.cache.remove(at);
    }

    /// Looks at what is due; `true` when more may be.
    pub fn expire(&mut self, now: Instant, snapshot: &Snapshot) -> bool {
        if self.overflow.is_due(now) {
            // A full ring is tried again in the next turn.
            self.overflow.offer(&mut self.records, BUDGET);
        }
        for _ in 0..BUDGET / TOGETHER {
            let mut due = ArrayVec::<u32, TOGETHER>::new();
            while !due.is_full()
                && let Some(at) = self.wheel.due(now.ms())
            {
                self.cache.expect_entry(at);
                due.push(at);
            }
            due.iter().for_each(|at| self.cache.expect_removal(*at));
            due.iter().for_each(|at| self.expire_one(*at, now, snapshot));
            if !due.is_full() {
                return false;
            }
        }
        true
    }

    fn expire_one(&mut self, at: u32, now: Instant, snapshot: &Snapshot) {
        let timeouts = self.timeouts(at, snapshot);
        let Some(entry) = self.cache.get(at) else { return };
        let end = if entry.is(state::FORCED) {
            EndReason::Forced
        } else if entry.has_ended() && now.since(entry.ended()) >= LINGER {
            EndReason::EndDetected
        } else if now.since(entry.last()) >= timeouts.inactive {
            EndReason::Idle
        } else {
            if entry.packets > 0 && now.since(entry.first()) >= timeouts.active {
                self.report(at, EndReason::Active);
            }
            return self.arm(at, now, snapshot);
        };
        if !self.report(at, end) {
            return self.wheel.arm(at, now.ms());
        }
        match end {
            EndReason::EndDetected => self.counters.cache.ended.add(1),
            EndReason::Idle => self.counters.cache.aged_inactive.add(1),
            _ => {}
        }
        self.remove(at);
    }

    /// The timeouts have changed.
    pub fn retime(&mut self) {
        self.retime = Some(0);
    }

    /// Brings timers forward after [`Flows::retime`]; `true` when there is more to do.
    pub fn walk(&mut self, now: Instant, snapshot: &Snapshot) -> bool {
        let Some(from) = self.retime else { return false };
        let to = from.saturating_add(SLICE).min(self.cache.used());
        for at in from..to {
            if self.cache.get(at).is_some_and(|entry| entry.is(state::LIVE)) {
                self.arm(at, now, snapshot);
                self.join(at, now);
            }
        }
        self.retime = (to < self.cache.used()).then_some(to);
        self.retime.is_some()
    }

    /// Marks the flows from and to `port` (all flows without one) among entries `from..` to be reported and removed, and
    /// returns where to go on.
    pub fn retire(&mut self, port: Option<PortId>, from: u32, now: Instant) -> Option<u32> {
        let to = from.saturating_add(SLICE).min(self.cache.used());
        for at in from..to {
            let Some(entry) = self.cache.get_mut(at).filter(|entry| entry.is(state::LIVE)) else { continue };
            if port.is_none_or(|port| entry.key().in_port() == port || entry.judgement().out == Some(port)) {
                entry.state |= state::FORCED;
                self.wheel.arm(at, now.ms());
            }
        }
        (to < self.cache.used()).then_some(to)
    }
}
