//! The frames of a batch, what is known of them, and what became of each.

use proto::addr::VlanId;

use crate::account::counters::Counters;
use crate::frame::{BATCH, Buffer};
use crate::parse::Parsed;
use crate::snapshot::{SessionSet, Snapshot};
use crate::verdict::{DropReason, RuleRef};

/// What became of a frame so far.
#[derive(Clone, Copy)]
pub struct Fate {
    /// Segments that the most successful port took.
    pub sent: u32,
    /// Why a port, or all of them, did not get it.
    pub reason: Option<DropReason>,
    /// The rule behind `reason`.
    pub rule: RuleRef,
    /// VLAN that it is switched in.
    pub vlan: Option<VlanId>,
    /// Sessions that copy it as sent by the ports that ask for it; of a flood, that of its VLAN.
    pub tx_sessions: SessionSet,
    /// Sessions that have their copy.
    pub copied: SessionSet,
}

impl Fate {
    const OPEN: Fate = Fate { sent: 0, reason: None, rule: RuleRef::NONE, vlan: None, tx_sessions: 0, copied: 0 };

    /// A port did not get the frame; the first reason stays.
    pub fn fail(&mut self, reason: DropReason, rule: RuleRef) {
        if self.reason.is_none() {
            (self.reason, self.rule) = (Some(reason), rule);
        }
    }
}

/// The frames of a batch and what became of them.
pub struct Batch {
    /// What is known of each.
    pub parsed: Box<[Parsed; BATCH]>,
    fates: Box<[Fate; BATCH]>,
    /// Frames of which `fates` says something.
    written: u64,
    /// Frames that a port took with all their segments.
    whole: u64,
    /// Frames that sessions may copy as sent.
    watched: u64,
}

impl Default for Batch {
    fn default() -> Self {
        let (parsed, fates) = (Box::new([Parsed::EMPTY; BATCH]), Box::new([Fate::OPEN; BATCH]));
        Batch { parsed, fates, written: 0, whole: 0, watched: 0 }
    }
}

impl Batch {
    /// Forgets what became of the frames before.
    pub fn restart(&mut self) {
        (self.written, self.whole, self.watched) = (0, 0, 0);
    }

    /// What is known of frame `at`.
    #[inline(always)]
    pub fn parsed(&self, at: u8) -> &Parsed {
        self.parsed.get(usize::from(at) % BATCH).unwrap_or(&Parsed::EMPTY)
    }

    /// What became of frame `at` so far, but for being taken whole; to be written.
    pub fn fate(&mut self, at: u8) -> Option<&mut Fate> {
        let fate = self.fates.get_mut(usize::from(at) % BATCH)?;
        if self.written & bit(at) == 0 {
            self.written |= bit(at);
            *fate = Fate::OPEN;
        }
        Some(fate)
    }

    /// A port did not get frame `at`; the first reason stays.
    pub fn fail(&mut self, at: u8, reason: DropReason, rule: RuleRef) {
        if let Some(fate) = self.fate(at) {
            fate.fail(reason, rule);
        }
    }

    /// Sessions copy frame `at`, which is switched in `vlan`, as sent.
    pub fn watch(&mut self, at: u8, vlan: Option<VlanId>, sessions: SessionSet) {
        self.watched |= bit(at);
        if let Some(fate) = self.fate(at) {
            fate.vlan = vlan;
            fate.tx_sessions |= sessions;
        }
    }

    /// A port took these frames with all their segments.
    #[inline(always)]
    pub fn deliver(&mut self, set: u64) {
        self.whole |= set;
    }

    /// Frames that sessions may copy as sent.
    pub fn watched(&self) -> u64 {
        self.watched
    }

    /// Frames that a port took with all their segments.
    pub fn whole(&self) -> u64 {
        self.whole
    }
}

/// Takes the lowest frame out of a set.
#[inline(always)]
pub fn pop(set: &mut u64) -> Option<u8> {
    if *set == 0 {
        return None;
    }
    let at = set.trailing_zeros() as u8 % BATCH as u8;
    *set &= set.wrapping_sub(1);
    Some(at)
}

/// The set of frame `at`.
#[inline(always)]
pub fn bit(at: u8) -> u64 {
    1 << (at % BATCH as u8)
}

/// What sending needs to see.
pub struct Cx<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The frames as received.
    pub buffers: &'a [Buffer],
    /// The counters.
    pub counters: &'a Counters,
}

impl<'a> Cx<'a> {
    /// Frame `at` as received.
    #[inline(always)]
    pub fn frame(&self, at: u8) -> &'a [u8] {
        self.buffers.get(usize::from(at)).map(Buffer::frame).unwrap_or_default()
    }
}
