//! What the supervisor asks an agent, for the `show` and `clear` commands.

use minicbor::{Decode, Encode};

use crate::addr::{MacAddr, VlanId};
use crate::capture::Wanted;
use crate::name::IfName;
use crate::passage::{Imagined, Watched};

/// A question; its answer is the [`crate::report::Answer`] of the same name.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Query {
    /// State and counters of every port.
    #[n(0)]
    Ports,
    /// The MAC address table.
    #[n(1)]
    Macs,
    /// The flow cache.
    #[n(2)]
    Flows(#[n(0)] FlowQuery),
    /// Matches per access-list rule.
    #[n(3)]
    AclCounters,
    /// Monitor sessions and their copies.
    #[n(4)]
    Sessions,
    /// Exporters and flow monitors.
    #[n(5)]
    Exporters,
    /// Dropped frames by port and reason, and the last of them.
    #[n(6)]
    Drops,
    /// Sets the access-list counters to zero; one list, or all.
    #[n(7)]
    ClearAclCounters(#[n(0)] Option<String>),
    /// Sets the interface and drop counters to zero; one port, or all.
    #[n(8)]
    ClearCounters(#[n(0)] Option<IfName>),
    /// Forgets the dynamic MAC addresses that fit.
    #[n(9)]
    ClearMacs {
        /// In that VLAN.
        #[n(0)]
        vlan: Option<VlanId>,
        /// That address.
        #[n(1)]
        mac: Option<MacAddr>,
    },
    /// A command of [`crate::vemcmd`], as text.
    #[n(10)]
    Show(#[n(0)] String),
    /// What the agent really runs.
    #[n(11)]
    Applied,
    /// Begins a capture of a port.
    #[n(12)]
    CaptureBegin(#[n(0)] Wanted),
    /// What a capture has seen since.
    #[n(13)]
    CaptureRead(#[n(0)] u64),
    /// Ends a capture.
    #[n(14)]
    CaptureEnd(#[n(0)] u64),
    /// The flows that a store has kept; the answer is that of [`Query::Flows`]. The monitor does not matter.
    #[n(40)]
    Stored {
        /// Which.
        #[n(0)]
        flows: FlowQuery,
        /// That ended in the last minutes.
        #[n(1)]
        minutes: u32,
    },
    /// What the store of flows holds.
    #[n(41)]
    StoreState,
    /// How much the flow export says in the agent's log, for an hour: 0 what it always does, 1 what it sends beside flows,
    /// 2 every datagram. [`Query::WatchEnd`] without a number sets it to 0.
    #[n(80)]
    ExporterLevel(#[n(0)] u8),
    /// What would become of a frame.
    #[n(60)]
    Trace(#[n(0)] Imagined),
    /// Begins to tell of real frames.
    #[n(61)]
    WatchBegin(#[n(0)] Watched),
    /// What a watch has told since.
    #[n(62)]
    WatchRead(#[n(0)] u64),
    /// Ends a watch; without a number all of them.
    #[n(63)]
    WatchEnd(#[n(0)] Option<u64>),
    /// The watches that run.
    #[n(64)]
    Watches,
    /// Reports what the flow cache has counted for a monitor, or for all, and has it count from zero.
    #[n(42)]
    ClearFlows(#[n(0)] Option<String>),
    /// Counts of an exporter, or of all, begin at zero where they are shown.
    #[n(43)]
    ClearExporters(#[n(0)] Option<String>),
    /// What each port has received, and where the flow meter has counted it.
    #[n(15)]
    Reconcile,
}

impl Query {
    /// What the agent's hello must have named for it to be asked this; `None`: every agent answers it.
    pub fn capability(&self) -> Option<&'static str> {
        match self {
            Query::Show(_) => Some(SHOW),
            Query::Applied => Some(APPLIED),
            Query::Reconcile => Some(RECONCILE),
            Query::ClearFlows(_) => Some(CLEAR_FLOWS),
            Query::ClearExporters(_) => Some(CLEAR_EXPORTERS),
            Query::CaptureBegin(_) | Query::CaptureRead(_) | Query::CaptureEnd(_) => Some(CAPTURE),
            Query::ExporterLevel(_) => Some(EXPORTER_LEVEL),
            Query::Trace(_) | Query::WatchBegin(_) | Query::WatchRead(_) | Query::WatchEnd(_) | Query::Watches => {
                Some(WHY)
            }
            Query::Stored { .. } => Some(STORE),
            Query::StoreState => Some(STORE_STATE),
            _ => None,
        }
    }
}

/// The capability of an agent that answers [`Query::Show`].
pub const SHOW: &str = "show";
/// The capability of an agent that answers [`Query::Applied`].
pub const APPLIED: &str = "applied";
/// The capability of an agent that captures.
pub const CAPTURE: &str = "capture";
/// The capability of an agent that says what becomes of a frame.
pub const WHY: &str = "why";
/// The capability of an agent that keeps flows.
pub const STORE: &str = "store";
/// The capability of an agent that answers [`Query::StoreState`].
pub const STORE_STATE: &str = "store-state";
/// The capability of an agent that answers [`Query::Reconcile`].
pub const RECONCILE: &str = "reconcile";
/// The capability of an agent whose flow export can be told to say more.
pub const EXPORTER_LEVEL: &str = "exporter-level";
/// The capability of an agent that reports what its flow cache has when it is told to.
pub const CLEAR_FLOWS: &str = "clear-flows";
/// The capability of an agent that answers [`Query::ClearExporters`].
pub const CLEAR_EXPORTERS: &str = "clear-exporters";
/// The capabilities of an agent of this version.
pub const CAPABILITIES: [&str; 10] =
    [SHOW, APPLIED, CAPTURE, WHY, STORE, STORE_STATE, RECONCILE, EXPORTER_LEVEL, CLEAR_FLOWS, CLEAR_EXPORTERS];

/// Which flows are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct FlowQuery {
    /// Of that monitor.
    #[n(0)]
    pub monitor: Option<String>,
    /// With that address at either end (IPv4 as v4-mapped IPv6).
    #[n(1)]
    pub host: Option<u128>,
    /// With that protocol.
    #[n(2)]
    pub protocol: Option<u8>,
    /// With that TCP or UDP port at either end.
    #[n(3)]
    pub port: Option<u16>,
    /// In that VLAN.
    #[n(4)]
    pub vlan: Option<VlanId>,
    /// Entering or leaving there.
    #[n(5)]
    pub interface: Option<IfName>,
    /// Dropped ones only.
    #[n(6)]
    pub dropped: bool,
    /// At most so many, those that come first. 0 is [`FLOWS_MAX`].
    #[n(7)]
    pub top: u32,
    /// Which come first; `None` is [`Order::Octets`].
    #[n(8)]
    pub order: Option<Order>,
}

/// Which flows come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Order {
    /// Those with the most octets.
    #[n(0)]
    Octets,
    /// Those with the most packets.
    #[n(1)]
    Packets,
    /// Those that have lasted longest.
    #[n(2)]
    Duration,
    /// Those that were seen last.
    #[n(3)]
    Recent,
}

/// Most flows that one answer holds.
pub const FLOWS_MAX: u32 = 10_000;
