//! Why a frame went where it went: imagined frames, real ones that are watched, and the way of each, stage by stage.
//!
//! A watch is begun, read again and again, and ended. It ends by itself when it has told of as many frames as were asked for,
//! after the seconds that were asked for, and when nobody reads it for [`SILENCE_S`] seconds.

use minicbor::{Decode, Encode};

use crate::capture::Insn;
use crate::name::IfName;
use crate::report::RuleRef;

/// Seconds after which a watch that is not read ends.
pub const SILENCE_S: u64 = 10;
/// Most frames that a watch tells of.
pub const FRAMES_MAX: u32 = 1000;
/// Most octets of an imagined frame.
pub const IMAGINED_MAX: usize = 9216 + 22;

/// A frame that a port is imagined to receive.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Imagined {
    /// The port.
    #[n(0)]
    pub port: IfName,
    /// The frame, without FCS.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub octets: Vec<u8>,
}

/// Which real frames are told of.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Watched {
    /// Those from that port; without it from all.
    #[n(0)]
    pub port: Option<IfName>,
    /// Those that it matches: a program of classic BPF; empty for all.
    #[n(1)]
    pub filter: Vec<Insn>,
    /// So many.
    #[n(2)]
    pub count: u32,
    /// So long.
    #[n(3)]
    pub seconds: u32,
    /// Who watches what, for people.
    #[n(4)]
    pub what: String,
}

/// What a watch has told since the last reading.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Told {
    /// The watch.
    #[n(0)]
    pub id: u64,
    /// Frames, oldest first.
    #[n(1)]
    pub passages: Vec<Passage>,
    /// Frames that matched since the begin.
    #[n(2)]
    pub matched: u64,
    /// Frames of these that came too fast to be told of.
    #[n(3)]
    pub untold: u64,
    /// Why nothing more comes.
    #[n(4)]
    pub ended: Option<String>,
}

/// A watch that runs.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct WatchRow {
    /// As in [`Watched::what`].
    #[n(0)]
    pub what: String,
    /// Frames that matched.
    #[n(1)]
    pub matched: u64,
    /// Seconds that are left.
    #[n(2)]
    pub seconds_left: u64,
}

/// What a stage said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub enum Said {
    /// It lets the frame pass.
    #[n(0)]
    Pass,
    /// It drops the frame, or keeps it from one of several receivers.
    #[n(1)]
    Drop,
    /// It decides nothing.
    #[n(2)]
    Note,
}

/// A stage.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Step {
    /// Its name: `parse`, `flow-cache`, `port`, `vlan`, `acl-in`, `learn`, `lookup`, `flood`, `egress`, `isolation`, `acl-out`,
    /// `mtu`, `send`, `copy`, `meter`, `result`.
    #[n(0)]
    pub stage: String,
    /// What it said.
    #[n(1)]
    pub said: Said,
    /// Why, in English.
    #[n(2)]
    pub text: String,
    /// The port that it is about.
    #[n(3)]
    pub port: Option<IfName>,
    /// The rule that decided.
    #[n(4)]
    pub rule: Option<RuleRef>,
}

/// The way of a frame.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Passage {
    /// Nanoseconds since 1970; `None` for an imagined frame.
    #[n(0)]
    pub at_ns: Option<u64>,
    /// Port that it came from.
    #[n(1)]
    pub port: Option<IfName>,
    /// Octets.
    #[n(2)]
    pub length: u32,
    /// Its headers in one line.
    #[n(3)]
    pub headers: String,
    /// Stage by stage.
    #[n(4)]
    pub steps: Vec<Step>,
    /// Short name of the reason, when it was dropped.
    #[n(5)]
    pub dropped: Option<String>,
    /// Ports that it leaves by; one that the supervisor has not named yet is missing.
    #[n(6)]
    pub out: Vec<IfName>,
}
