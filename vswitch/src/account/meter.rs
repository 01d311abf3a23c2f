//! The flow meter: counts every accepted frame in its flow, and makes reports of flows.
//!
//! Law 2: over all reports, the octets and packets of a monitored flow add up to those that were accepted. So a report
//! that finds the ring of records full leaves the counters as they are and is tried again. Where it can't wait - the entry
//! is needed for another flow, or what comes next is for other monitors - it goes into a sum of such flows
//! ([`crate::flow::overflow`]): detail is lost, no packet is. So do flows of one packet that are evicted, when
//! there are too many of them to be reported one by one.
//! A packet costs a few additions; it touches the timers only when it is the end of a TCP connection.

use proto::flow::Sampling;

use super::classes::{Amount, Class};
use crate::flow::Flows;
use crate::flow::cache::{NONE, Room};
use crate::flow::detail::Detail;
use crate::flow::entry::{Entry, state};
use crate::flow::key::FlowKey;
use crate::flow::record::{EndReason, MonitorSet, Outcome, Record};
use crate::flow::tally::Counted;
use crate::parse::Parsed;
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::verdict::{DropReason, Judgement, Verdict};
use crate::wire::transport::{FIN, RST};

/// A flow is reported when it has counted so many octets, so that 32-bit counters of old formats hold.
pub const OCTETS_MAX: u64 = 1 << 31;

/// The report that an entry would make.
pub fn report(entry: &Entry, end: EndReason) -> Record {
    let outcome = match entry.verdict() {
        Verdict::Forward(port) => Outcome::Forwarded(port),
        Verdict::Flood if entry.is(state::DELIVERED) => Outcome::Flooded,
        Verdict::Flood => Outcome::Dropped(entry.reason()),
        Verdict::Drop(reason) => Outcome::Dropped(reason),
    };
    Record {
        key: entry.key(),
        vlan: entry.vlan(),
        flows: 1,
        packets: entry.packets,
        octets: entry.octets(),
        l2_octets: entry.l2_octets,
        first: entry.first(),
        last: entry.last(),
        tcp_flags: entry.tcp_flags,
        detail: Detail::NONE,
        outcome,
        end,
        sampling: Sampling::NONE,
        again: false,
        monitors_in: entry.monitors_in,
        monitors_out: entry.monitors_out & !entry.monitors_in,
    }
}

impl Flows {
    /// Reports entry `at`, if anyone watches it and it has counted, and sets its counters to zero. `false` when the ring is
    /// full and nothing was done.
    pub(crate) fn report(&mut self, at: u32, end: EndReason) -> bool {
        let Some(entry) = self.cache.get_mut(at) else { return true };
        let watched = entry.monitors_in | entry.monitors_out != 0;
        if watched && entry.packets > 0 {
            if entry.picked() != 0 {
                let records = self.reports(at, end);
                if records.len() > self.records.slots() {
                    return false;
                }
                // There is room.
                records.into_iter().for_each(|record| self.records.push(record).unwrap_or_default());
            } else if self.records.push(report(entry, end)).is_err() {
                return false;
            }
            let cells = &self.counters.cache;
            match end {
                EndReason::Active => cells.aged_active.add(1),
                EndReason::Forced => cells.forced.add(1),
                // Those that end a flow are counted where it is removed.
                EndReason::Idle | EndReason::EndDetected | EndReason::LackOfResources => {}
            }
        }
        self.give_back(at, false);
        true
    }

    /// Sets the counters of entry `at` to zero, and what they were counts in the class of the flow, or as `lost`.
    pub(crate) fn give_back(&mut self, at: u32, lost: bool) {
        let Some(entry) = self.cache.get_mut(at) else { return };
        if entry.picked() != 0 {
            return self.give_back_picked(at, lost);
        }
        if entry.packets > 0 {
            let amount = Amount { packets: entry.packets, octets: entry.l2_octets };
            let class = Class::of(entry).or_lost(lost);
            self.counters.port(entry.key().in_port()).classes.add(class, amount);
        }
        entry.restart();
    }

    #[cold]
    fn give_back_picked(&mut self, at: u32, lost: bool) {
        let Some(entry) = self.cache.get(at) else { return };
        if entry.packets > 0 {
            let classes = &self.counters.port(entry.key().in_port()).classes;
            let all = self.classes(at).into_iter();
            all.for_each(|(class, amount)| classes.add(class.or_lost(lost), amount));
            self.clear_tallies(at);
        }
        if let Some(entry) = self.cache.get_mut(at) {
            entry.restart();
        }
    }

    /// An entry for a flow that has none.
    pub(crate) fn admit(&mut self, hash: u64, key: &FlowKey, now: Instant) -> u32 {
        if let Room::Victim(at) = self.cache.room(hash) {
            self.evict(at, now);
        }
        let Some(at) = self.cache.insert(hash, key) else { return NONE };
        self.counters.cache.added.add(1);
        at
    }

    /// Removes entry `at`, and reports it, by itself or in a sum.
    pub(crate) fn evict(&mut self, at: u32, now: Instant) {
        if let Some(entry) = self.cache.get(at)
            && entry.monitors_in | entry.monitors_out != 0
            && !(entry.picked() != 0 && self.has_nothing(at))
        {
            let (free, all) = (self.records.slots(), self.records.buffer().capacity());
            let by_itself = entry.standing() > 0 || self.pace.take(now, free, all);
            if !by_itself || !self.report(at, EndReason::LackOfResources) {
                self.sum_up(at, now);
            }
        }
        // Of a flow that nobody watches the counts are left.
        self.give_back(at, false);
        self.remove(at);
        self.counters.cache.evicted.add(1);
    }

    /// Adds what entry `at` has counted to the sums of flows that are not reported one by one.
    pub(crate) fn sum_up(&mut self, at: u32, now: Instant) {
        let Some(entry) = self.cache.get(at) else { return };
        if entry.monitors_in | entry.monitors_out != 0 && entry.packets > 0 {
            let (lost, summed) = if entry.picked() == 0 {
                (self.overflow.add(&report(entry, EndReason::LackOfResources), now), true)
            } else {
                let records = self.reports(at, EndReason::LackOfResources);
                (records.iter().map(|record| self.overflow.add(record, now)).sum(), !records.is_empty())
            };
            self.counters.cache.unmetered.add(lost);
            self.counters.cache.summed.add(summed.into());
        }
        self.give_back(at, false);
    }

    /// The judges ran anew for entry `at`. What was counted under another outcome is reported first; if nobody watched the
    /// flow until now, it is not counted at all.
    pub(crate) fn rejudge(&mut self, at: u32, j: &Judgement, now: Instant, snapshot: &Snapshot) {
        let Some(entry) = self.cache.get(at) else { return };
        let is_new = entry.packets == 0 && entry.last() == Instant::default();
        let watchers = (entry.monitors_in, entry.monitors_out, entry.picked());
        let watched_as_before = watchers == (j.monitors_in, j.monitors_out, j.picked);
        let differs = entry.verdict() != j.verdict || entry.vlan() != j.vlan || !watched_as_before;
        if !is_new && differs && !self.report(at, EndReason::Forced) && !watched_as_before {
            self.sum_up(at, now);
        }
        if let Some(entry) = self.cache.get_mut(at) {
            entry.set_judgement(j);
        }
        if is_new || differs {
            self.arm(at, now, snapshot);
            self.join(at, now);
        }
    }

    /// A flood of entry `at` is about to be counted, which ports with `monitors` got - those in `picked` count some of its
    /// packets only -, or nobody for the reason `lost`. Who gets a flood may differ from frame to frame; what was counted for
    /// others is reported first.
    pub(crate) fn flooded(
        &mut self,
        at: u32,
        (monitors, picked): (MonitorSet, MonitorSet),
        lost: Option<DropReason>,
        now: Instant,
    ) {
        let Some(entry) = self.cache.get(at) else { return };
        let (monitors, picked) = (monitors & !entry.monitors_in, picked & !entry.monitors_in);
        let same = match lost {
            None => entry.is(state::DELIVERED),
            Some(reason) => !entry.is(state::DELIVERED) && entry.reason() == reason,
        };
        let watched_as_before = (entry.monitors_out, entry.picked() & !entry.monitors_in) == (monitors, picked);
        let differs = entry.packets > 0 && !(watched_as_before && same);
        if differs && !self.report(at, EndReason::Forced) && !watched_as_before {
            self.sum_up(at, now);
        }
        let Some(entry) = self.cache.get_mut(at) else { return };
        entry.set_flooded(monitors, picked, lost);
        self.join(at, now);
    }

    /// A frame was counted, and the flow of entry `at` ends, or has counted much, or a monitor counts some packets only.
    pub(crate) fn turn_page(&mut self, at: u32, counted: &Counted<'_>, now: Instant) {
        let Some(entry) = self.cache.get(at) else { return };
        if entry.picked() != 0 {
            self.pick(at, counted, now);
        }
        let Some(entry) = self.cache.get_mut(at) else { return };
        if entry.tcp_flags & (FIN | RST) != 0 && !entry.has_ended() {
            entry.end(now);
            self.arm_end(at, now);
        } else if entry.octets() >= OCTETS_MAX {
            self.report(at, EndReason::Active);
        }
    }
}

impl Entry {
    /// Counts a frame; `true` when [`Flows::turn_page`] is due.
    #[inline(always)]
    pub(crate) fn count(&mut self, frame: &Parsed, now: Instant) -> bool {
        self.see(now);
        // They can't wrap: a counter of 64 bits takes more frames than a machine's life has.
        self.packets = self.packets.wrapping_add(frame.segments.into());
        self.octets = self.octets.wrapping_add(frame.octets.into());
        self.l2_octets = self.l2_octets.wrapping_add(frame.l2_octets.into());
        self.tcp_flags |= frame.tcp_flags;
        let ends = frame.tcp_flags & (FIN | RST) != 0;
        ends | (self.octets >= OCTETS_MAX)
    }
}
