//! What was dropped, what access lists have counted, and the rules that did it.

use minicbor::{Decode, Encode};

use crate::acl::Action;
use crate::name::IfName;

/// Frames of a port that were dropped for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DropCount {
    /// Short name of the reason, such as `acl-deny`.
    #[n(0)]
    pub reason: String,
    /// Frames.
    #[n(1)]
    pub frames: u64,
}

/// A row of [`super::Answer::AclCounters`].
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct AclCountRow {
    /// List.
    #[n(0)]
    pub acl: String,
    /// Sequence number; `None` is the implicit deny at the end.
    #[n(1)]
    pub sequence: Option<u32>,
    /// Frames; segments of super-frames each.
    #[n(2)]
    pub matches: u64,
}

/// A row of [`super::Answer::Drops`]: counts.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DropRow {
    /// Port the frame came from, or could not leave by.
    #[n(0)]
    pub port: Option<IfName>,
    /// Short name of the reason, such as `acl-deny`.
    #[n(1)]
    pub reason: String,
    /// The reason in English.
    #[n(2)]
    pub text: String,
    /// Frames.
    #[n(3)]
    pub frames: u64,
    /// The rule that dropped them. The frames of a port and reason are the sum of all its rows.
    #[n(4)]
    pub rule: Option<RuleRef>,
}

/// A row of [`super::Answer::Drops`]: one of the last dropped frames.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct DropSample {
    /// Milliseconds ago.
    #[n(0)]
    pub ms_ago: u64,
    /// Port the frame came from.
    #[n(1)]
    pub port: Option<IfName>,
    /// Short name of the reason.
    #[n(2)]
    pub reason: String,
    /// Rule that denied it.
    #[n(3)]
    pub rule: Option<RuleRef>,
    /// Length of the frame, octets.
    #[n(4)]
    pub length: u32,
    /// Headers in one line: `0200.0000.0001 > 0200.0000.0002 vlan 10 10.0.0.1:5 > 10.0.0.2:80 tcp S`.
    #[n(5)]
    pub headers: String,
}

/// The rule that decided.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct RuleRef {
    /// List.
    #[n(0)]
    pub acl: String,
    /// Sequence number; `None` is the implicit deny.
    #[n(1)]
    pub sequence: Option<u32>,
    /// What it did.
    #[n(2)]
    pub action: Action,
}
