//! What the dataplane tells of itself.

use crate::account::classes::{Amount, Classes};
use proto::addr::{MacAddr, VlanId};

use crate::flow::record::{MonitorSet, Record};
use crate::observe::mirror::CopyLoss;
use crate::port::PortId;
use crate::time::Instant;
use crate::verdict::DropReason;

/// One direction of a port. Super-frames count as their segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// To one station.
    pub unicast: u64,
    /// To a group.
    pub multicast: u64,
    /// To all.
    pub broadcast: u64,
    /// Octets without FCS.
    pub octets: u64,
}

/// All counters of a port. Law 1 over the workers: the sum of `rx` frames equals frames delivered to at least one port
/// plus frames dropped, and every drop is under one reason of the port it came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortCounters {
    /// Received from the port, dropped ones included.
    pub rx: Traffic,
    /// Sent to the port.
    pub tx: Traffic,
    /// Frames received from this port that were dropped, by reason (index as [`DropReason::ALL`]).
    pub rx_drops: Vec<u64>,
    /// Frames that were to leave by this port and did not, by reason. A unicast frame counts here and under the same
    /// reason in the `rx_drops` of the port it came from; a copy of a flood counts here alone.
    pub tx_drops: Vec<u64>,
    /// Frames received from this port that went to at least one port.
    pub delivered: u64,
}

impl Traffic {
    /// Frames of every kind.
    pub fn frames(&self) -> u64 {
        self.unicast + self.multicast + self.broadcast
    }

    fn add(&mut self, other: &Traffic) {
        self.unicast = self.unicast.wrapping_add(other.unicast);
        self.multicast = self.multicast.wrapping_add(other.multicast);
        self.broadcast = self.broadcast.wrapping_add(other.broadcast);
        self.octets = self.octets.wrapping_add(other.octets);
    }
}

impl PortCounters {
    /// What this and `other`, of another worker, have counted.
    pub(super) fn plus(mut self, other: &PortCounters) -> PortCounters {
        self.rx.add(&other.rx);
        self.tx.add(&other.tx);
        let drops = [(&mut self.rx_drops, &other.rx_drops), (&mut self.tx_drops, &other.tx_drops)];
        for (ours, theirs) in drops {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = ours.wrapping_add(*theirs));
        }
        self.delivered = self.delivered.wrapping_add(other.delivered);
        self
    }

    /// What was counted after `baseline` was read.
    pub(super) fn since(&self, baseline: &PortCounters) -> PortCounters {
        let traffic = |now: &Traffic, then: &Traffic| Traffic {
            unicast: now.unicast.wrapping_sub(then.unicast),
            multicast: now.multicast.wrapping_sub(then.multicast),
            broadcast: now.broadcast.wrapping_sub(then.broadcast),
            octets: now.octets.wrapping_sub(then.octets),
        };
        let drops = |now: &[u64], then: &[u64]| now.iter().zip(then).map(|(a, b)| a.wrapping_sub(*b)).collect();
        PortCounters {
            rx: traffic(&self.rx, &baseline.rx),
            tx: traffic(&self.tx, &baseline.tx),
            rx_drops: drops(&self.rx_drops, &baseline.rx_drops),
            tx_drops: drops(&self.tx_drops, &baseline.tx_drops),
            delivered: self.delivered.wrapping_sub(baseline.delivered),
        }
    }
}

/// An entry of the MAC table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacEntry {
    /// VLAN.
    pub vlan: VlanId,
    /// Address.
    pub mac: MacAddr,
    /// Where it is; `None` drops.
    pub port: Option<PortId>,
    /// Configured, not learned.
    pub is_static: bool,
    /// When it was last seen.
    pub seen: Instant,
}

/// A live flow, as the report it would make now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveFlow {
    /// Counts since its last report; the end reason means nothing.
    pub record: Record,
}

/// Which flows come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FlowOrder {
    /// Those with the most octets.
    #[default]
    Octets,
    /// Those with the most packets.
    Packets,
    /// Those that have lasted longest.
    Duration,
    /// Those that were seen last.
    Recent,
}

impl FlowOrder {
    /// The larger it is, the earlier the flow comes.
    pub(crate) fn rank(self, record: &Record) -> u64 {
        match self {
            FlowOrder::Octets => record.octets,
            FlowOrder::Packets => record.packets,
            FlowOrder::Duration => record.last.since(record.first).as_nanos() as u64,
            FlowOrder::Recent => record.last.ns(),
        }
    }
}

/// Which flows are wanted. Filters that are `None` match everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowFilter {
    /// Which come first.
    pub order: FlowOrder,
    /// Watched by one of these monitors; 0 is any flow.
    pub monitors: MonitorSet,
    /// That address at either end, v4-mapped.
    pub host: Option<[u8; 16]>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// TCP or UDP port at either end.
    pub port: Option<u16>,
    /// VLAN.
    pub vlan: Option<VlanId>,
    /// Entering or leaving there.
    pub interface: Option<PortId>,
    /// Dropped ones only.
    pub dropped: bool,
}

/// What a port has received, and where the flow meter has counted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reconciled {
    /// Its number.
    pub port: PortId,
    /// By the port's counters.
    pub received: Amount,
    /// In flows that were reported or forgotten, and in none.
    pub reported: Classes,
    /// In flows that are in the cache, since their last report.
    pub in_cache: Classes,
}

/// One of the last dropped frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DropSample {
    /// When.
    pub at: Instant,
    /// Port the frame came from.
    pub port: PortId,
    /// Why.
    pub reason: DropReason,
    /// Number of the rule that denied it.
    pub rule: Option<u32>,
    /// Length of the frame, octets.
    pub length: u32,
    /// First octets of the frame.
    pub header: [u8; 96],
    /// How many of `header` were present.
    pub header_len: u8,
}

/// State of the flow cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheStats {
    /// Flows in the cache.
    pub active: u64,
    /// Most that it can hold.
    pub capacity: u64,
    /// Flows added since start.
    pub added: u64,
    /// Ended by the inactive timeout.
    pub aged_inactive: u64,
    /// Reported by the active timeout.
    pub aged_active: u64,
    /// Ended by TCP FIN or RST.
    pub ended: u64,
    /// Reported because the configuration or the port changed.
    pub forced: u64,
    /// Reported early to make room.
    pub evicted: u64,
    /// Frames that found their flow in the cache.
    pub hits: u64,
    /// Frames for which the judges ran.
    pub misses: u64,
    /// Packets that are in no report, because the exporter took none for too long around a change or at the end.
    pub unmetered: u64,
    /// Flows that were reported in a sum of such flows, because there were too many.
    pub summed: u64,
}

/// Copies of a monitor session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionStats {
    /// Copies that a destination took.
    pub copied: u64,
    /// Copies that did not reach a destination, for whatever reason.
    pub dropped: u64,
    /// Super-frames that were cut into segments.
    pub segmented: u64,
    /// Frames that the session took; a super-frame counts as its segments. Of each there is a copy, or the loss of one, for
    /// every destination.
    pub matched: u64,
    /// Copies that were cut short.
    pub truncated: u64,
    /// Copies of other hosts that its destinations got, or lost.
    pub received: u64,
    /// Of these, that were cut short there.
    pub received_cut: u64,
    /// Copies of hosts that it takes none of.
    pub unwelcome: u64,
    /// Numbers of copies that never came.
    pub missing: u64,
    /// Copies that came behind later ones.
    pub late: u64,
    /// What `dropped` consists of, by the number of [`CopyLoss`](crate::observe::mirror::CopyLoss).
    pub losses: [u64; CopyLoss::COUNT],
}

impl CacheStats {
    /// What this and `other`, of another worker, are together.
    pub(super) fn plus(self, other: CacheStats) -> CacheStats {
        CacheStats {
            active: self.active + other.active,
            capacity: self.capacity + other.capacity,
            added: self.added + other.added,
            aged_inactive: self.aged_inactive + other.aged_inactive,
            aged_active: self.aged_active + other.aged_active,
            ended: self.ended + other.ended,
            forced: self.forced + other.forced,
            evicted: self.evicted + other.evicted,
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            unmetered: self.unmetered + other.unmetered,
            summed: self.summed + other.summed,
        }
    }
}

impl SessionStats {
    /// What this and `other`, of another worker, have counted.
    pub(super) fn plus(self, other: SessionStats) -> SessionStats {
        SessionStats {
            copied: self.copied + other.copied,
            dropped: self.dropped + other.dropped,
            segmented: self.segmented + other.segmented,
            matched: self.matched + other.matched,
            truncated: self.truncated + other.truncated,
            received: self.received + other.received,
            received_cut: self.received_cut + other.received_cut,
            unwelcome: self.unwelcome + other.unwelcome,
            missing: self.missing + other.missing,
            late: self.late + other.late,
            losses: std::array::from_fn(|i| {
                self.losses.get(i).copied().unwrap_or(0) + other.losses.get(i).copied().unwrap_or(0)
            }),
        }
    }
}

/// What a worker has done since it was made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WorkerLoad {
    /// Frames received; a super-frame counts as one.
    pub frames: u64,
    /// Nanoseconds spent on batches: receive, road, transmit.
    pub busy_ns: u64,
    /// Of these, by port, where there are any.
    pub ports: Vec<(PortId, u64)>,
    /// Ports that it receives from.
    pub receives_from: u64,
    /// Short naps while there was nothing to do.
    pub naps: u64,
    /// Sleeps until something happens.
    pub sleeps: u64,
    /// Addresses that were not learned at once, because the ring to the worker that learns was full.
    pub wishes_lost: u64,
}
