//! Monitor sessions: what was copied, and what came from other hosts.

use minicbor::{Decode, Encode};

/// A row of [`super::Answer::Sessions`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct SessionRow {
    /// Session.
    #[n(0)]
    pub id: u16,
    /// Why it does not run here; `None` when it does.
    #[n(1)]
    pub down: Option<String>,
    /// Copies that reached a destination.
    #[n(2)]
    pub copied: u64,
    /// Copies lost because a destination was full or refused them.
    #[n(3)]
    pub dropped: u64,
    /// Super-frames that were cut into segments.
    #[n(4)]
    pub segmented: u64,
    /// Frames that the session took; a super-frame counts as its segments.
    #[n(5)]
    pub matched: Option<u64>,
    /// Copies that were cut short.
    #[n(6)]
    pub truncated: Option<u64>,
    /// What `dropped` consists of: why, and how many; no zeros.
    #[n(7)]
    pub losses: Option<Vec<(String, u64)>>,
    /// Copies of other hosts, where the session takes any.
    #[n(8)]
    pub received: Option<ReceivedCopies>,
    /// Packets of other hosts that no session of the module took: why, and how many; no zeros.
    #[n(9)]
    pub turned_away: Option<Vec<(String, u64)>>,
    /// Modules that copies go to.
    #[n(10)]
    pub relayed: Option<Vec<u8>>,
}

/// Copies of other hosts that a session took.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct ReceivedCopies {
    /// How many.
    #[n(0)]
    pub copies: u64,
    /// Of these, that were cut short where they were made.
    #[n(1)]
    pub truncated: u64,
    /// Numbers of copies that never came.
    #[n(2)]
    pub missing: u64,
    /// Copies that came behind later ones.
    #[n(3)]
    pub late: u64,
    /// Copies of hosts that the session takes none of, which were dropped.
    #[n(4)]
    pub unwelcome: u64,
}
