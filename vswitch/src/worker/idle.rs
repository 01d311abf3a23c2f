//! What a worker does when a turn has found nothing: a little patience first, then ever longer rest.
//!
//! Ports that poll tell nobody when something arrives until they are armed, and arming and waking cost the guest and us a
//! system call each. So the worker spins, then naps for 1 to 50 µs, and only then arms them and sleeps.
//!
//! Ports that are watched by epoll wake at once, so with nothing else it sleeps at once: whom it woke by its last frames often
//! waits for this very core, and so does the answer. (Spinning for as long as the last silences lasted made round trips
//! between two taps a third longer than sleeping on a machine with two cores.)

use std::time::Duration;

/// Turns without work before the worker rests, when there are ports to be armed.
const SPINS: u32 = 16;
/// The first nap; each is twice as long as the one before.
const NAP_MIN: Duration = Duration::from_micros(1);
const NAP_MAX: Duration = Duration::from_micros(50);
/// Naps before the worker sleeps.
const NAPS: u32 = 16;

/// What to do now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// Look again at once.
    Spin,
    /// Look again after that time, whatever happens.
    Nap(Duration),
    /// Until something happens.
    Sleep,
}

/// How many turns in a row have found nothing.
#[derive(Default, Debug)]
pub(super) struct Idle(u32);

impl Idle {
    /// A turn has found something.
    pub(super) fn over(&mut self) {
        self.0 = 0;
    }

    /// A turn has found nothing; `arms`: there are ports to be armed.
    pub(super) fn next(&mut self, arms: bool) -> Rest {
        self.0 = self.0.saturating_add(1);
        match self.0.checked_sub(SPINS) {
            _ if !arms => Rest::Sleep,
            None => Rest::Spin,
            Some(naps) if naps < NAPS => Rest::Nap((NAP_MIN * (1 << naps.min(16))).min(NAP_MAX)),
            Some(_) => Rest::Sleep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_grows_and_work_ends_it() {
        let mut idle = Idle::default();
        let us: Vec<u64> = std::iter::from_fn(|| match idle.next(true) {
            Rest::Spin => Some(0),
            Rest::Nap(time) => Some(time.as_micros() as u64),
            Rest::Sleep => None,
        })
        .collect();
        assert_eq!(us[..24], [[0; 15].as_slice(), &[1, 2, 4, 8, 16, 32, 50, 50, 50]].concat());
        assert_eq!(us.len(), 31);
        assert_eq!(idle.next(true), Rest::Sleep);
        idle.over();
        assert_eq!(idle.next(true), Rest::Spin);
    }

    #[test]
    fn without_ports_to_arm_there_is_no_patience() {
        let mut idle = Idle::default();
        assert_eq!([idle.next(false), idle.next(false)], [Rest::Sleep; 2]);
    }
}
