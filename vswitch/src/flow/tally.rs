//! Flows of which a monitor counts some packets only, because a sampler picks them at the port or a program looks at each; and
//! those of which its record asks what has to be read of each ([`super::detail`]), which it counts all.
//!
//! Such a flow is counted as any other, which is how its timers and classes are known; and beside it, for the monitor where
//! it enters and for that where it leaves, what they have picked. A report is then of what was picked. The question whether
//! a packet is to be looked at costs other flows nothing: see [`super::entry::PICKED`]. All memory is taken at the start,
//! and is touched only for such flows. What is read of each packet lies in memory of its own, so that it costs the others
//! nothing either.
//!
//! Complications:
//! * **Several monitors of a flood.** There is one tally for each way. One that is needed for another monitor, or
//!   for another rate, is reported first, as often as reports of single packets may be; else it goes into a sum.
//! * **Which port's sampler.** A flood is one observation for a monitor: the first port that it reaches and that has the
//!   monitor decides.
//! * **Super-frames.** A sampler picks among the segments; a program is asked once, and sees the whole.
//!
//! What no monitor has counted is in a class of its own ([`Class::Unsampled`], [`Class::Filtered`]): it is taken off what
//! the flow gives to its class.

use arrayvec::ArrayVec;
use proto::flow::Sampling;
use zerocopy::FromZeros;

use super::Flows;
use super::detail::{Detail, Details};
use super::entry::{Entry, NO_PORT, PICKED, state};
use super::record::{EndReason, MONITORS_MAX, MonitorSet, Record};
use crate::account::classes::{Amount, Class};
use crate::account::meter::report;
use crate::account::sample::{Gap, Picker, Random, Share, walk};
use crate::parse::Parsed;
use crate::port::arena::Pages;
use crate::port::{PORTS_MAX, PortId};
use crate::snapshot::Snapshot;
use crate::time::Instant;
use crate::verdict::DropReason;
use crate::wire::ethernet::TAG;

/// A frame that is counted, and by which rules.
pub(crate) struct Counted<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) parsed: &'a Parsed,
    /// As received.
    pub(crate) frame: &'a [u8],
}

impl Counted<'_> {
    /// The frame in two pieces, without its outer tag: as a mirror shows it to a port in access mode.
    fn pieces(&self) -> (&[u8], &[u8]) {
        const ADDRESSES: usize = 12;
        let tag = if self.parsed.tags > 0 { TAG } else { 0 };
        let (head, rest) = self.frame.split_at_checked(ADDRESSES).unwrap_or((self.frame, &[]));
        (head, rest.get(tag..).unwrap_or_default())
    }
}

/// What a monitor has picked of a flow.
#[derive(Clone, Copy, FromZeros)]
#[repr(C)]
struct Tally {
    packets: u64,
    octets: u64,
    l2_octets: u64,
    first_ns: u64,
    last_ns: u64,
    /// A [`Sampling`].
    sampling: u32,
    /// Number of the monitor.
    monitor: u8,
    tcp_flags: u8,
    /// It has a [`Detail`] beside it: 1.
    detailed: u8,
    reserved: u8,
}

/// Packets and octets of frames.
type Pair = [u64; 2];

/// What was picked of a flow, where it enters and where it leaves, and what nobody has.
#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
pub struct Tallies {
    ways: [Tally; 2],
    unsampled: Pair,
    filtered: Pair,
}

const _: () = assert!(size_of::<Tallies>() == 128);

fn add(pair: &mut Pair, amount: Amount) {
    let [packets, octets] = pair;
    (*packets, *octets) = (packets.wrapping_add(amount.packets), octets.wrapping_add(amount.octets));
}

fn amount([packets, octets]: Pair) -> Amount {
    Amount { packets, octets }
}

/// The picks of a worker.
pub(crate) struct Picks {
    /// By entry.
    tallies: Pages<Tallies>,
    /// By entry; they mean something where the tally says so.
    details: Details,
    /// By port and way.
    gaps: Box<[Gap]>,
    random: Random,
    /// Of the flood at hand, the port that decides for each monitor.
    deciding: [PortId; MONITORS_MAX],
}

impl Picks {
    pub(super) fn new(capacity: usize) -> Self {
        Picks {
            tallies: Pages::new(capacity),
            details: Details::new(capacity),
            gaps: vec![Gap::default(); 2 * PORTS_MAX].into_boxed_slice(),
            random: Random::new(),
            deciding: [PortId(0); MONITORS_MAX],
        }
    }

    /// For these monitors `port` decides what they count of the flood at hand.
    pub(crate) fn decide(&mut self, mut monitors: MonitorSet, port: PortId) {
        while monitors != 0 {
            if let Some(deciding) = self.deciding.get_mut(monitors.trailing_zeros() as usize) {
                *deciding = port;
            }
            monitors &= monitors - 1;
        }
    }

    fn of(&self, at: u32) -> Option<&Tallies> {
        self.tallies.get(at as usize)
    }

    /// What was read for the tally of entry `at` and `way`.
    fn detail(&self, at: u32, way: usize, tally: &Tally) -> Detail {
        if tally.detailed == 0 { Detail::NONE } else { self.details.of(at, way) }
    }
}

impl Entry {
    /// IP octets since the last report.
    pub fn octets(&self) -> u64 {
        self.octets & (PICKED - 1)
    }

    /// Monitors that count some of its packets only.
    pub fn picked(&self) -> MonitorSet {
        self.picked
    }

    /// These monitors look at it, and of them those in `picked` count some of its packets only.
    pub fn set_monitors(&mut self, monitors_in: MonitorSet, monitors_out: MonitorSet, picked: MonitorSet) {
        debug_assert_eq!(picked & !(monitors_in | monitors_out), 0);
        (self.monitors_in, self.monitors_out, self.picked) = (monitors_in, monitors_out, picked);
        self.octets = self.octets() | if self.picked == 0 { 0 } else { PICKED };
    }

    /// A flood reached ports with `monitors`, of which those in `picked` count some packets only, or nobody for the reason
    /// `lost`.
    pub fn set_flooded(&mut self, monitors: MonitorSet, picked: MonitorSet, lost: Option<DropReason>) {
        self.set_monitors(self.monitors_in, monitors, self.picked & self.monitors_in | picked & !self.monitors_in);
        self.set(state::DELIVERED, lost.is_none());
        if let Some(reason) = lost {
            self.reason = reason as u8;
        }
        self.set_plain();
    }
}

/// The report of what `tally` has, of the flow that `base` is about.
fn record_of(base: &Record, way: usize, tally: &Tally, detail: Detail) -> Record {
    let monitor: MonitorSet = 1 << (tally.monitor % MONITORS_MAX as u8);
    let (monitors_in, monitors_out) = if way == 0 { (monitor, 0) } else { (0, monitor) };
    Record {
        packets: tally.packets,
        octets: tally.octets,
        l2_octets: tally.l2_octets,
        first: Instant::from_ns(tally.first_ns),
        last: Instant::from_ns(tally.last_ns),
        tcp_flags: tally.tcp_flags,
        detail,
        sampling: Sampling::from_number(tally.sampling),
        monitors_in,
        monitors_out,
        ..*base
    }
}

impl Flows {
    /// The reports that entry `at` would make: what its monitors count of every packet, and what each has picked.
    pub(crate) fn reports(&self, at: u32, end: EndReason) -> ArrayVec<Record, 3> {
        let mut records = ArrayVec::new();
        let Some(entry) = self.cache.get(at) else { return records };
        let base = report(entry, end);
        let (monitors_in, monitors_out) = (base.monitors_in & !entry.picked, base.monitors_out & !entry.picked);
        if monitors_in | monitors_out != 0 || entry.picked == 0 {
            records.push(Record { monitors_in, monitors_out, ..base });
        }
        if entry.picked != 0
            && let Some(tallies) = self.picks.of(at)
        {
            let ways = tallies.ways.iter().enumerate().filter(|(_, tally)| tally.packets > 0);
            ways.for_each(|(way, tally)| records.push(record_of(&base, way, tally, self.picks.detail(at, way, tally))));
            let all = if base.monitors_in == 0 { base.monitors_out } else { base.monitors_in };
            let first = all & all.wrapping_neg();
            records
                .iter_mut()
                .for_each(|record| record.again = (record.monitors_in | record.monitors_out) & first == 0);
        }
        records
    }

    /// Nothing was picked of entry `at` that is to be reported, and nothing else is.
    pub(crate) fn has_nothing(&self, at: u32) -> bool {
        let Some(entry) = self.cache.get(at) else { return true };
        let is_empty = |tallies: &Tallies| tallies.ways.iter().all(|tally| tally.packets == 0);
        (entry.monitors_in | entry.monitors_out) & !entry.picked == 0 && self.picks.of(at).is_none_or(is_empty)
    }

    /// Something was picked of entry `at` at a rate at which no port is sampled any more.
    pub(super) fn is_outdated(&self, at: u32, snapshot: &Snapshot) -> bool {
        let is_old = |tally: &Tally| tally.packets > 0 && !snapshot.samples(Sampling::from_number(tally.sampling));
        self.cache.get(at).is_some_and(|entry| entry.picked != 0)
            && self.picks.of(at).is_some_and(|tallies| tallies.ways.iter().any(is_old))
    }

    /// What entry `at` has counted, by class.
    pub(crate) fn classes(&self, at: u32) -> [(Class, Amount); 3] {
        let none = (Class::Unwatched, Amount::default());
        let Some(entry) = self.cache.get(at) else { return [none; 3] };
        let all = Amount { packets: entry.packets, octets: entry.l2_octets };
        let class = Class::of(entry);
        match self.picks.of(at).filter(|_| entry.picked != 0) {
            None => [(class, all), none, none],
            Some(tallies) => {
                let (unsampled, filtered) = (amount(tallies.unsampled), amount(tallies.filtered));
                let counted = Amount {
                    packets: all.packets.wrapping_sub(unsampled.packets).wrapping_sub(filtered.packets),
                    octets: all.octets.wrapping_sub(unsampled.octets).wrapping_sub(filtered.octets),
                };
                [(class, counted), (Class::Unsampled, unsampled), (Class::Filtered, filtered)]
            }
        }
    }

    /// Sets what was picked of entry `at` to zero.
    pub(crate) fn clear_tallies(&mut self, at: u32) {
        if let Some(tallies) = self.picks.tallies.get_mut(at as usize) {
            *tallies = Tallies::new_zeroed();
        }
    }

    /// A frame was counted in entry `at`, of which monitors count some packets only: counts what they pick of it.
    pub(crate) fn pick(&mut self, at: u32, counted: &Counted<'_>, now: Instant) {
        let Some(entry) = self.cache.get(at) else { return };
        let (picked, watching) = (entry.picked, entry.monitors_in | entry.monitors_out);
        if picked.is_power_of_two() && counted.parsed.segments == 1 {
            return self.pick_one(at, counted, now);
        }
        let places = [(entry.monitors_in & picked, entry.key().in_port()), (entry.monitors_out & picked, entry.out())];
        let is_flood_to_several = entry.out() == NO_PORT;
        let mut pickers = ArrayVec::<Picker, { MONITORS_MAX + 1 }>::new();
        let mut monitors = ArrayVec::<(MonitorSet, usize), { MONITORS_MAX + 1 }>::new();
        // Monitors without a sampler whose program matches.
        let mut whole = ArrayVec::<(MonitorSet, usize), { MONITORS_MAX + 1 }>::new();
        for (way, (mut set, port)) in places.into_iter().enumerate() {
            while set != 0 {
                let (index, monitor) = (set.trailing_zeros() as usize, set & set.wrapping_neg());
                set &= set - 1;
                if !self.wants(index, counted) {
                    continue;
                }
                let deciding = if way == 1 && is_flood_to_several { self.picks.deciding.get(index) } else { None };
                let port = deciding.copied().unwrap_or(port);
                let sampling = counted.snapshot.sampling(port, way);
                let gap = 2 * port.index() + way;
                if sampling.is_some() {
                    let _ = pickers.try_push(Picker { sampling, gap, share: Share::default() });
                    let _ = monitors.try_push((monitor, way));
                } else {
                    let _ = whole.try_push((monitor, way));
                }
            }
        }
        let parsed = counted.parsed;
        let some = walk(&mut pickers, &mut self.picks.gaps, &mut self.picks.random, parsed.segments);
        let all = watching & !picked != 0 || !whole.is_empty();
        let anyone = if all { Share::whole(parsed) } else { some };
        if let Some(tallies) = self.picks.tallies.get_mut(at as usize) {
            let (sum, part) = (Share::whole(parsed).amount(parsed), anyone.amount(parsed));
            let rest = Amount { packets: sum.packets - part.packets, octets: sum.octets.saturating_sub(part.octets) };
            let place = if pickers.is_empty() { &mut tallies.filtered } else { &mut tallies.unsampled };
            add(place, rest);
        }
        for &(monitor, way) in &whole {
            self.add_pick(at, way, monitor, Sampling::NONE, Share::whole(parsed), counted, now);
        }
        for (picker, &(monitor, way)) in pickers.iter().zip(&monitors).filter(|(picker, _)| picker.share.packets > 0) {
            self.add_pick(at, way, monitor, picker.sampling, picker.share, counted, now);
        }
    }

    /// As [`Flows::pick`], for one packet and one monitor.
    fn pick_one(&mut self, at: u32, counted: &Counted<'_>, now: Instant) {
        let Some(entry) = self.cache.get(at) else { return };
        let (monitor, parsed) = (entry.picked, counted.parsed);
        let index = monitor.trailing_zeros() as usize;
        let is_alone = (entry.monitors_in | entry.monitors_out) == monitor;
        let (way, port) = match () {
            () if monitor & entry.monitors_in != 0 => (0, parsed.key.in_port()),
            () if entry.out() != NO_PORT => (1, entry.out()),
            () => (1, self.picks.deciding.get(index).copied().unwrap_or(NO_PORT)),
        };
        let sampling = counted.snapshot.sampling(port, way);
        let is_wanted = self.wants(index, counted);
        let gap = self.picks.gaps.get_mut(2 * port.index() + way);
        let is_picked =
            is_wanted && (!sampling.is_some() || gap.is_some_and(|gap| gap.step(sampling, &mut self.picks.random)));
        if is_picked {
            self.add_pick(at, way, monitor, sampling, Share::whole(parsed), counted, now);
        } else if is_alone && let Some(tallies) = self.picks.tallies.get_mut(at as usize) {
            let place = if is_wanted { &mut tallies.unsampled } else { &mut tallies.filtered };
            add(place, Amount { packets: 1, octets: parsed.l2_octets.into() });
        }
    }

    /// The program of monitor `index`, if it has one, matches the frame.
    fn wants(&self, index: usize, counted: &Counted<'_>) -> bool {
        let Some(program) = counted.snapshot.program(index) else { return true };
        let (head, rest) = counted.pieces();
        program.matches(head, rest)
    }

    #[expect(clippy::too_many_arguments, reason = "what a tally is made of")]
    fn add_pick(
        &mut self,
        at: u32,
        way: usize,
        monitor: MonitorSet,
        sampling: Sampling,
        share: Share,
        counted: &Counted<'_>,
        now: Instant,
    ) {
        let frame = counted.parsed;
        let index = monitor.trailing_zeros();
        let detailed = counted.snapshot.is_detailed(index as usize);
        let kind = (index as u8, sampling.number(), detailed.into());
        let Some(tally) = self.picks.tallies.get(at as usize).and_then(|tallies| tallies.ways.get(way)) else { return };
        if tally.packets > 0 && (tally.monitor, tally.sampling, tally.detailed) != kind {
            self.give_up_tally(at, way, now);
        }
        let Some(tally) = self.picks.tallies.get_mut(at as usize).and_then(|tallies| tallies.ways.get_mut(way)) else {
            return;
        };
        let is_first = tally.packets == 0;
        if is_first {
            *tally = Tally { first_ns: now.ns(), ..Tally::new_zeroed() };
            (tally.monitor, tally.sampling, tally.detailed) = kind;
        }
        let Amount { packets, octets } = share.amount(frame);
        tally.packets = tally.packets.wrapping_add(packets);
        tally.l2_octets = tally.l2_octets.wrapping_add(octets);
        tally.octets = tally.octets.wrapping_add(share.octets(frame));
        tally.last_ns = now.ns();
        tally.tcp_flags |= frame.tcp_flags;
        if detailed {
            self.picks.details.read(at, way, is_first, counted, share);
        }
    }

    /// Reports a tally that is needed for another monitor, by itself or in a sum.
    #[cold]
    fn give_up_tally(&mut self, at: u32, way: usize, now: Instant) {
        let Some(entry) = self.cache.get(at) else { return };
        let base = report(entry, EndReason::Forced);
        let Some(found) = self.picks.of(at).and_then(|tallies| tallies.ways.get(way)) else { return };
        let record = record_of(&base, way, found, self.picks.detail(at, way, found));
        if let Some(tally) = self.picks.tallies.get_mut(at as usize).and_then(|tallies| tallies.ways.get_mut(way)) {
            *tally = Tally::new_zeroed();
        }
        let (free, all) = (self.records.slots(), self.records.buffer().capacity());
        if !self.pace.take(now, free, all) || self.records.push(record).is_err() {
            let lost = self.overflow.add(&record, now);
            self.counters.cache.unmetered.add(lost);
            self.counters.cache.summed.add(1);
        }
    }
}
