//! What a worker does when a turn has found nothing: a little patience first, then ever longer rest.
//!
//! Sleeping and being woken costs the worker and whoever wakes it more than a small frame does, and the frame waits for it. So
//! where frames come shortly one after the other, as in a conversation of questions and answers, the worker stays awake
//! between them: it looks on for as long as the last silences lasted, at most [`PATIENCE_MAX`], and for no time at all where
//! silences are longer than that. (Linux's `halt_poll_ns` does the same for an idle virtual processor.)
//!
//! Ports that poll tell nobody when something arrives until they are armed, and arming and waking cost the guest and us a
//! system call each. So with such ports the worker naps for 1 to 50 µs, and only then arms them and sleeps. Ports that are
//! watched by epoll wake at once, so with nothing else there are no naps.

use std::time::Duration;

use crate::time::Instant;

/// Turns without work before the worker rests, whatever came before.
const SPINS: u32 = 16;
/// The longest time without work in which it does not rest.
const PATIENCE_MAX: Duration = Duration::from_micros(50);
/// A silence that patience would have spanned, if it began and ended with the waking that patience spares.
const SILENCE_MAX: Duration = Duration::from_micros(100);
/// Less patience than this is none.
const PATIENCE_MIN: Duration = Duration::from_micros(4);
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

/// The present silence, and what the last ones were like.
#[derive(Default, Debug)]
pub(super) struct Idle {
    /// Turns in a row that have found nothing.
    turns: u32,
    /// When the first of them was.
    since: Instant,
    /// Naps and sleeps since then.
    rests: u32,
    /// How long a silence may be without rest.
    patience: Duration,
}

impl Idle {
    /// A turn has found something.
    pub(super) fn over(&mut self, now: Instant) {
        if self.turns > SPINS {
            let silence = now.since(self.since);
            self.patience = match silence <= SILENCE_MAX {
                true => self.patience.max(2 * silence).min(PATIENCE_MAX),
                false => self.patience / 2,
            };
            if self.patience < PATIENCE_MIN {
                self.patience = Duration::ZERO;
            }
        }
        (self.turns, self.rests) = (0, 0);
    }

    /// A turn has found nothing; `arms`: there are ports to be armed.
    pub(super) fn next(&mut self, arms: bool, now: Instant) -> Rest {
        if self.turns == 0 {
            self.since = now;
        }
        self.turns = self.turns.saturating_add(1);
        if self.turns < SPINS || self.rests == 0 && now.since(self.since) < self.patience {
            return Rest::Spin;
        }
        self.rests += 1;
        match self.rests - 1 {
            naps if arms && naps < NAPS => Rest::Nap((NAP_MIN * (1 << naps)).min(NAP_MAX)),
            _ => Rest::Sleep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_ns(us * 1000)
    }

    #[test]
    fn rest_grows_and_work_ends_it() {
        let mut idle = Idle::default();
        let us: Vec<u64> = std::iter::from_fn(|| match idle.next(true, at(0)) {
            Rest::Spin => Some(0),
            Rest::Nap(time) => Some(time.as_micros() as u64),
            Rest::Sleep => None,
        })
        .collect();
        assert_eq!(us[..24], [[0; 15].as_slice(), &[1, 2, 4, 8, 16, 32, 50, 50, 50]].concat());
        assert_eq!(us.len(), 31);
        assert_eq!(idle.next(true, at(0)), Rest::Sleep);
        idle.over(at(2000));
        assert_eq!(idle.next(true, at(2000)), Rest::Spin);
    }

    #[test]
    fn without_ports_to_arm_there_are_no_naps() {
        let mut idle = Idle::default();
        let rests: Vec<Rest> = (0..17).map(|_| idle.next(false, at(0))).collect();
        assert_eq!((rests[14], rests[15], rests[16]), (Rest::Spin, Rest::Sleep, Rest::Sleep));
    }

    /// How long the worker stays awake in a silence of `us` that is looked at every microsecond.
    fn awake(idle: &mut Idle, start: u64, us: u64) -> u64 {
        let mut awake = us;
        for now in 0..us {
            if idle.next(false, at(start + now)) != Rest::Spin {
                awake = awake.min(now);
            }
        }
        idle.over(at(start + us));
        awake
    }

    #[test]
    fn patience_is_as_long_as_silences_that_are_short() {
        let mut idle = Idle::default();
        assert_eq!(awake(&mut idle, 0, 20), 15);
        // A conversation: the second silence and all that are like it are spanned.
        for turn in 1..100 {
            assert_eq!(awake(&mut idle, turn * 1000, 20), 20);
        }
        // Never longer than the bound, also where silences are a little longer.
        assert_eq!(awake(&mut idle, 200_000, 90), 40);
        assert_eq!(awake(&mut idle, 201_000, 90), 50);
        // Long ones end it.
        let long: Vec<u64> = (0..5).map(|turn| awake(&mut idle, 300_000 + turn * 1000, 500)).collect();
        assert_eq!(long, [50, 25, 15, 15, 15]);
    }
}
