//! What an agent reports: the state of its ports, and the answers to the supervisor's questions; a file for each feature.

mod drops;
mod flows;
mod ports;
mod sessions;

use minicbor::{Decode, Encode};

use crate::capture::Captured;
use crate::msg::ConfigHash;
use crate::passage::{Passage, Told, WatchRow};

pub use drops::{AclCountRow, DropCount, DropRow, DropSample, RuleRef};
pub use flows::{Amount, CacheState, ExporterRow, FlowRow, ReconciledRow, StoreRow};
pub use ports::{Counters, MacRow, PortReport, PortRow, PortState};
pub use sessions::{ReceivedCopies, SessionRow};

/// What an agent really runs, read back from its dataplane and its disk.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Applied {
    /// Version of the configuration that it was given.
    #[n(0)]
    pub version: u64,
    /// Hash of the configuration that it was given.
    #[n(1)]
    pub hash: ConfigHash,
    /// A [`crate::config::HostConfig`], encoded, as it runs; `None` without one, or when it is too large to be told.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub config: Option<Vec<u8>>,
    /// What is not as it should be beyond the configuration, in English.
    #[n(3)]
    pub faults: Vec<String>,
}

/// The answer to a [`crate::query::Query`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Answer {
    /// To `Ports`.
    #[n(0)]
    Ports(#[n(0)] Vec<PortRow>),
    /// To `Macs`.
    #[n(1)]
    Macs(#[n(0)] Vec<MacRow>),
    /// To `Flows`: rows, and how many fitted in all.
    #[n(2)]
    Flows(#[n(0)] Vec<FlowRow>, #[n(1)] u64),
    /// To `AclCounters`.
    #[n(3)]
    AclCounters(#[n(0)] Vec<AclCountRow>),
    /// To `Sessions`.
    #[n(4)]
    Sessions(#[n(0)] Vec<SessionRow>),
    /// To `Exporters`.
    #[n(5)]
    Exporters(#[n(0)] Vec<ExporterRow>, #[n(1)] CacheState),
    /// To `Drops`: counts, and the newest samples first.
    #[n(6)]
    Drops(#[n(0)] Vec<DropRow>, #[n(1)] Vec<DropSample>),
    /// To the `Clear...` questions.
    #[n(7)]
    Done,
    /// The agent can't answer; in English.
    #[n(8)]
    Failed(#[n(0)] String),
    /// To `Show`.
    #[n(9)]
    Text(#[n(0)] String),
    /// To `Applied`.
    #[n(10)]
    Applied(#[n(0)] Applied),
    /// To `CaptureBegin` and `CaptureRead`.
    #[n(11)]
    Captured(#[n(0)] Captured),
    /// To `Trace`.
    #[n(60)]
    Traced(#[n(0)] Passage),
    /// To `WatchBegin` and `WatchRead`.
    #[n(61)]
    Told(#[n(0)] Told),
    /// To `Watches`.
    #[n(62)]
    Watches(#[n(0)] Vec<WatchRow>),
    /// To `StoreState`; `None`: none is configured.
    #[n(41)]
    Store(#[n(0)] Option<StoreRow>),
    /// To `Reconcile`.
    #[n(15)]
    Reconciled(#[n(0)] Vec<ReconciledRow>),
}
