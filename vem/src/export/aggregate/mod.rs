//! Flows that agree in everything that a record matches become one record.
//!
//! The meter tells flows apart by all that a judge may read. Where a user's record matches less, or rules make addresses and
//! ports alike, or both directions of a conversation share a record, the reports of the meter are summed up here before
//! they are written: packets, octets, flows, dropped ones, flags, first and last packet. What is collected and not matched
//! is shown where all flows of a record agree, else as 0.
//!
//! A record goes out when it has been summed up for the active timeout of its monitor, or when nothing was added for the
//! inactive one, or when the monitor changes; and the oldest ones go out early when there is no more room. So sums are
//! exact at any time, whatever comes.
//!
//! Of a conversation (RFC 5103) the initiator's direction is the one whose packet was seen first. Which one that is may
//! turn out late, as reports come when flows end; so it is decided when the record goes out.
//!
//! Sans-I/O; owned by the export thread. Limits: [`ROOM`] records, over all monitors of a host.

pub mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use hashbrown::HashMap;
use proto::addr::VlanId;
use proto::flow::{Aggregation, Monitor, Record as UserRecord};
use vswitch::flow::detail::Detail;
use vswitch::flow::record::{EndReason, Outcome, Record};
use vswitch::time::Instant;

use super::clock::Moment;
use super::flow::{Flow, Reverse, Sum};
use view::{Fields, View};

/// Most records that are being summed up, over all monitors of a host.
pub const ROOM: usize = 131_072;
/// When there is no room, this part of them goes out, the oldest first.
const EARLY_PART: usize = 8;
/// Time between looks for what is due.
const LOOK: Duration = Duration::from_secs(1);

/// How the flows of a monitor are summed up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// What tells records apart.
    matched: Fields,
    /// What they show, if their flows agree in it.
    shown: Fields,
    rules: Vec<Aggregation>,
    biflow: bool,
    active: Duration,
    inactive: Duration,
}

impl Spec {
    /// For a monitor with a record of the user's, or with the built-in one; `None` when every flow has a record of its own.
    /// `by_family`: records of IPv4, IPv6 and other packets can't be one, because they are written differently.
    pub fn of(monitor: &Monitor, record: Option<&UserRecord>, by_family: bool) -> Option<Self> {
        let biflow = monitor.biflow == Some(true);
        let rules = monitor.aggregation.clone().unwrap_or_default();
        if record.is_none() && rules.is_empty() && !biflow {
            return None;
        }
        let (matched, shown) = match record {
            None if biflow => (Fields::CONVERSATION, Fields::FULL),
            None => (Fields::FULL, Fields::FULL),
            Some(record) => (Fields::matched(&record.fields), Fields::named(&record.fields)),
        };
        let family = if by_family { Fields::FAMILY } else { Fields::NONE };
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        Some(Spec {
            matched: matched | family,
            shown: shown | family,
            rules,
            biflow,
            active: seconds(monitor.active_s),
            inactive: seconds(monitor.inactive_s),
        })
    }
}

/// What was counted in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Side {
    flows: u64,
    packets: u64,
    octets: u64,
    l2_octets: u64,
    dropped_packets: u64,
    dropped_octets: u64,
    first: Instant,
    last: Instant,
    tcp_flags: u8,
    detail: Detail,
}

impl Side {
    fn of(flow: &Flow<'_>) -> Self {
        let record = flow.record;
        let (dropped_packets, dropped_octets) = flow.dropped();
        Side {
            flows: record.flows,
            packets: record.packets,
            octets: record.octets,
            l2_octets: record.l2_octets,
            dropped_packets,
            dropped_octets,
            first: record.first,
            last: record.last,
            tcp_flags: record.tcp_flags,
            detail: record.detail,
        }
    }

    fn add(&mut self, other: &Side) {
        self.flows = self.flows.saturating_add(other.flows);
        self.packets = self.packets.saturating_add(other.packets);
        self.octets = self.octets.saturating_add(other.octets);
        self.l2_octets = self.l2_octets.saturating_add(other.l2_octets);
        self.dropped_packets = self.dropped_packets.saturating_add(other.dropped_packets);
        self.dropped_octets = self.dropped_octets.saturating_add(other.dropped_octets);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.tcp_flags |= other.tcp_flags;
        let differs = self.detail.is_some() && other.detail.is_some() && self.detail.label != other.detail.label;
        self.detail.extend(&other.detail);
        if differs {
            self.detail.label = 0;
        }
    }
}

/// A record that is being summed up.
#[derive(Debug)]
struct Aggregate {
    /// They go out in the order in which they came.
    number: u64,
    created: Instant,
    touched: Instant,
    view: View,
    forward: Side,
    reverse: Option<Side>,
}

/// The records of a monitor.
#[derive(Debug)]
pub struct Aggregator {
    spec: Spec,
    room: usize,
    records: HashMap<View, Aggregate>,
    next: u64,
    looked: Instant,
}

impl Aggregator {
    /// An empty one for `room` records.
    pub fn new(spec: Spec, room: usize) -> Self {
        Aggregator { spec, room, records: HashMap::new(), next: 0, looked: Instant::default() }
    }

    /// How it sums up.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// How many records it may hold.
    pub fn room(&self) -> usize {
        self.room
    }

    /// It may hold as many records from now on.
    pub fn set_room(&mut self, room: usize) {
        self.room = room;
    }

    /// Sums up a flow. What goes out early because there is no room is appended to `out`.
    pub fn add(&mut self, flow: &Flow<'_>, at: Moment, out: &mut Vec<Emitted>) {
        let whole = View::of(flow).with(&self.spec.rules);
        let side = Side::of(flow);
        let key = whole.masked(self.spec.matched);
        if let Some(found) = self.records.get_mut(&key) {
            found.forward.add(&side);
            found.view.blend(&whole.masked(self.spec.shown));
            found.touched = at.now;
            return;
        }
        if self.spec.biflow {
            let turned = whole.reversed();
            if let Some(found) = self.records.get_mut(&turned.masked(self.spec.matched)) {
                match &mut found.reverse {
                    Some(reverse) => reverse.add(&side),
                    None => found.reverse = Some(side),
                }
                found.view.blend(&turned.masked(self.spec.shown));
                found.touched = at.now;
                return;
            }
        }
        if self.records.len() >= self.room {
            let count = (self.room / EARLY_PART).max(1);
            self.take(|_| true, count, EndReason::LackOfResources, out);
        }
        let view = whole.masked(self.spec.shown);
        let number = self.next;
        self.next += 1;
        let new = Aggregate { number, created: at.now, touched: at.now, view, forward: side, reverse: None };
        self.records.insert(key, new);
    }

    /// Appends what is due to `out`.
    pub fn tick(&mut self, at: Moment, out: &mut Vec<Emitted>) {
        if at.now.since(self.looked) < LOOK {
            return;
        }
        self.looked = at.now;
        let (active, inactive) = (self.spec.active, self.spec.inactive);
        let now = at.now;
        self.take(|record| now.since(record.touched) >= inactive, usize::MAX, EndReason::Idle, out);
        self.take(|record| now.since(record.created) >= active, usize::MAX, EndReason::Active, out);
    }

    /// Appends all to `out`.
    pub fn flush(&mut self, out: &mut Vec<Emitted>) {
        self.take(|_| true, usize::MAX, EndReason::Forced, out);
    }

    /// Takes the oldest `count` records of those that are `due`.
    fn take(&mut self, due: impl Fn(&Aggregate) -> bool, count: usize, end: EndReason, out: &mut Vec<Emitted>) {
        let due = self.records.iter().filter(|(_, record)| due(record));
        let mut numbers: Vec<(u64, View)> = due.map(|(key, record)| (record.number, *key)).collect();
        numbers.sort_unstable_by_key(|(number, _)| *number);
        let taken = numbers.into_iter().take(count).filter_map(|(_, key)| self.records.remove(&key));
        out.extend(taken.map(|record| Emitted::of(record, end)));
    }
}

/// A record that goes out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Emitted {
    record: Record,
    input: u16,
    output: u16,
    egress: bool,
    sum: Sum,
    reverse: Option<Reverse>,
}

impl Emitted {
    fn of(aggregate: Aggregate, end: EndReason) -> Self {
        let Aggregate { mut view, mut forward, mut reverse, .. } = aggregate;
        if let Some(other) = &mut reverse
            && other.first < forward.first
        {
            std::mem::swap(other, &mut forward);
            view = view.reversed();
        }
        let record = |view: &View, side: &Side| Record {
            key: view.key,
            vlan: VlanId::new(view.vlan),
            flows: side.flows,
            packets: side.packets,
            octets: side.octets,
            l2_octets: side.l2_octets,
            first: side.first,
            last: side.last,
            tcp_flags: side.tcp_flags,
            detail: side.detail,
            // Not looked at: the sum says what became of it.
            outcome: Outcome::Flooded,
            end,
            sampling: view.sampling,
            again: false,
            monitors_in: 0,
            monitors_out: 0,
        };
        let sum = |view: &View, side: &Side| Sum {
            status: view.status,
            dropped_packets: side.dropped_packets,
            dropped_octets: side.dropped_octets,
            prefixes: view.prefixes,
        };
        let turned = view.reversed();
        Emitted {
            record: record(&view, &forward),
            input: view.input,
            output: view.output,
            egress: view.egress,
            sum: sum(&view, &forward),
            reverse: reverse.map(|side| Reverse { record: record(&turned, &side), sum: sum(&turned, &side) }),
        }
    }

    /// To be written.
    pub fn flow(&self) -> Flow<'_> {
        Flow {
            record: &self.record,
            input: self.input,
            output: self.output,
            egress: self.egress,
            sum: Some(&self.sum),
            reverse: self.reverse.as_ref(),
        }
    }

    /// Both directions, each as a record of its own, for formats that have no other way.
    pub fn halves(&self) -> [Option<Emitted>; 2] {
        let other = |reverse: Reverse| Emitted {
            record: reverse.record,
            input: self.output,
            output: self.input,
            egress: self.egress,
            sum: reverse.sum,
            reverse: None,
        };
        [Some(Emitted { reverse: None, ..*self }), self.reverse.map(other)]
    }
}
