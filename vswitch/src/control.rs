//! The agent's handle on a running worker: publish, attach, ask.
//!
//! Counters are read straight from the worker's arrays (relaxed atomic loads; the worker is their only writer). What only
//! the worker can know (its MAC table, its flow cache) is asked for by a message on a bounded channel; the worker answers
//! between two batches, a bounded slice at a time, so a question never holds up frames.

use proto::addr::{MacAddr, VlanId};

use crate::flow::record::{MonitorSet, Record};
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

/// All counters of a port. Law 1 over a worker: the sum of `rx` frames equals frames delivered to at least one port
/// plus frames dropped, and every drop is under one reason of the port it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
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

/// Which flows are wanted. Filters that are `None` match everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowFilter {
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
}

/// Copies of a monitor session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionStats {
    /// Copies that a destination took.
    pub copied: u64,
    /// Copies that a destination could not take.
    pub dropped: u64,
    /// Super-frames that were cut into segments.
    pub segmented: u64,
}
