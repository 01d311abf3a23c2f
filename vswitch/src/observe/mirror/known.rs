//! The snapshots that frames in the rings were switched by.
//!
//! Usually that is the running one, or the one before: [`crate::control::Control::publish`] waits until every worker runs on the
//! new one and the mirror has read what was written before. It does not wait for ever, and a mirror that got no time to run
//! meanwhile finds frames of several; so each is kept until what was written under it is read.

use std::sync::Arc;

use crate::control::Shared;
use crate::snapshot::Snapshot;

/// Snapshots before the running one, at most. Each is waited for, so there are more only when the mirror hangs for minutes.
const EARLIER_MAX: usize = 64;

/// See the module.
pub(super) struct Known {
    shared: Arc<Shared>,
    version: u64,
    /// The running one.
    pub now: Arc<Snapshot>,
    /// Those before it.
    earlier: Vec<Arc<Snapshot>>,
}

impl Known {
    /// The one that runs.
    pub fn new(shared: Arc<Shared>) -> Self {
        let mut known =
            Known { version: 0, now: shared.snapshot.load(), earlier: Vec::with_capacity(EARLIER_MAX), shared };
        known.adopt();
        known
    }

    /// Takes over what was published last; `true` when that is another.
    pub fn adopt(&mut self) -> bool {
        // It waits for whoever is at it: a worker may have written frames that it was switched by already.
        let Some(newest) = self.shared.snapshot.newest(&mut self.version) else { return false };
        if Arc::ptr_eq(&newest, &self.now) {
            return false;
        }
        let before = std::mem::replace(&mut self.now, newest);
        self.keep(before);
        true
    }

    /// One that was published, and may have been followed by others before the mirror has looked.
    pub fn keep(&mut self, snapshot: Arc<Snapshot>) {
        if self.earlier.len() < EARLIER_MAX && self.of(snapshot.sequence()).is_none() {
            self.earlier.push(snapshot);
        }
    }

    /// The one of that [`Snapshot::sequence`].
    #[inline]
    pub fn of(&self, sequence: u32) -> Option<&Arc<Snapshot>> {
        if self.now.sequence() == sequence {
            return Some(&self.now);
        }
        self.earlier.iter().rev().find(|snapshot| snapshot.sequence() == sequence)
    }

    /// What was written before the running one is read, but for what a worker was just at.
    pub fn forget(&mut self) {
        let many = self.earlier.len().saturating_sub(1);
        self.earlier.drain(..many);
    }
}
