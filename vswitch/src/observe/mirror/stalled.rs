//! Sessions whose destinations have taken nothing for a while: the mirror tells, and the workers spare themselves the copies.
//!
//! A copy for a destination that takes nothing is lost in any case. So when all destinations of a session are like that for
//! [`PATIENCE`], the workers count its copies as lost at once, but for those of one batch in [`PROBE`], by which the mirror finds out
//! when one of them takes again. What a destination could have had in that time is what this costs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::config::SESSION_ID_MAX;

/// So long a destination has taken nothing when it is taken for stalled.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);
/// So often a worker tries.
pub(super) const PROBE: Duration = Duration::from_millis(1);

/// What the mirror tells.
pub(crate) struct Stalled {
    any: AtomicBool,
    /// By the number of a session.
    sessions: Box<[AtomicBool]>,
}

impl Default for Stalled {
    fn default() -> Self {
        let sessions = (0..=SESSION_ID_MAX).map(|_| AtomicBool::new(false)).collect();
        Stalled { any: AtomicBool::new(false), sessions }
    }
}

impl Stalled {
    /// There are such sessions.
    #[inline(always)]
    pub(super) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Session `id` is one.
    pub(super) fn has(&self, id: u16) -> bool {
        self.sessions.get(usize::from(id)).is_some_and(|stalled| stalled.load(Relaxed))
    }

    /// These are the ones. What a worker reads meanwhile is of before or of after, for each of them.
    pub(super) fn tell(&self, is_one: impl Fn(u16) -> bool) {
        let mut any = false;
        for (id, stalled) in (0..).zip(&self.sessions) {
            let now = is_one(id);
            stalled.store(now, Relaxed);
            any |= now;
        }
        self.any.store(any, Relaxed);
    }
}
