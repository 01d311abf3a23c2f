//! What the meter says of a flow when it has ended, or when its active timeout comes.

use proto::addr::VlanId;
use proto::flow::Sampling;

use super::detail::Detail;
use super::key::FlowKey;
use crate::port::PortId;
use crate::time::Instant;
use crate::verdict::DropReason;

/// A set of flow monitors, bit `i` for the `i`-th of the snapshot.
pub type MonitorSet = u32;
/// Most flow monitors of a VEM.
pub const MONITORS_MAX: usize = 32;

/// Why a record was made (IPFIX flowEndReason, IE 136).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EndReason {
    /// Silent for the inactive timeout.
    Idle = 1,
    /// Goes on, but the active timeout came (or a counter grew large).
    Active = 2,
    /// TCP FIN or RST was seen.
    EndDetected = 3,
    /// The port or its configuration went away, or the switch stops.
    Forced = 4,
    /// Its place was needed for another flow.
    LackOfResources = 5,
}

/// What became of the packets of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Sent to one port.
    Forwarded(PortId),
    /// Sent to every port that may have it, of which there is at least one.
    Flooded,
    /// Dropped.
    Dropped(DropReason),
}

/// One report of a flow. Octets and packets count since the last report of the same flow, so records of a flow add up;
/// super-frames count as their segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The flow.
    pub key: FlowKey,
    /// VLAN that it is switched in; `None` when the frame was dropped before that was known.
    pub vlan: Option<VlanId>,
    /// Flows that it stands for: 1, or more in the sum of an overflow ([`super::key::shape::OVERFLOW`]).
    pub flows: u64,
    /// Packets.
    pub packets: u64,
    /// IP octets: from the IP header to the end of the packet, without padding. For other packets the frame's octets.
    pub octets: u64,
    /// Octets of the frames as received, without FCS.
    pub l2_octets: u64,
    /// First packet of this report.
    pub first: Instant,
    /// Last packet of this report.
    pub last: Instant,
    /// OR of the TCP flags.
    pub tcp_flags: u8,
    /// What its monitors have read of each packet, if their record asks for it.
    pub detail: Detail,
    /// What became of the packets.
    pub outcome: Outcome,
    /// Why the record was made.
    pub end: EndReason,
    /// Which packets its monitors counted; all else of it is of these alone.
    pub sampling: Sampling,
    /// There is another report of the same flow, of what the monitor counts that comes first; who wants each packet once
    /// leaves this one out.
    pub again: bool,
    /// Monitors that look at the flow where it enters.
    pub monitors_in: MonitorSet,
    /// Monitors that look at it where it leaves, and not where it enters: one observation of a frame per monitor.
    pub monitors_out: MonitorSet,
}

impl Record {
    /// As all packets are estimated to be, by those that were counted.
    pub fn scaled(&self) -> Record {
        let of = |counted: u64| self.sampling.scale(counted);
        Record {
            packets: of(self.packets),
            octets: of(self.octets),
            l2_octets: of(self.l2_octets),
            sampling: Sampling::NONE,
            ..*self
        }
    }
}
