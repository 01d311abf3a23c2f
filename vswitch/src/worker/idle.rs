//! What a worker does when a turn has found nothing: a little patience first, then ever longer rest.
//!
//! Sleeping and being woken costs the worker and whoever wakes it more than a small frame does, and the frame waits for it. So
//! in a conversation of short questions and answers the worker stays awake between them: it looks on for as long as
//! the last silences lasted, at most [`PATIENCE_MAX`], and not at all where silences are longer. (Linux's
//! `halt_poll_ns` does the same for an idle virtual processor.) Where much is carried at a time it sleeps at once: latency is
//! not what that is carried for, and the time belongs to those who send and receive it, which may need this very core; unless
//! more than two ports have frames: then somebody else may wait, and each waking would be the sender's work.
//!
//! Ports that poll tell nobody when something arrives until they are armed, and arming and waking cost the guest and us a
//! system call each. So with such ports the worker spins a little in any case, naps for 1 to 50 µs, and only then arms them
//! and sleeps. Ports that are watched by epoll wake at once, so with nothing else there are no naps.

use std::time::Duration;

use crate::time::Instant;

/// Turns without work before the worker rests, when there are ports to be armed.
const SPINS: u32 = 16;
/// The longest time without work in which it does not rest.
const PATIENCE_MAX: Duration = Duration::from_micros(100);
/// A silence that patience would have spanned, if it began and ended with the waking that patience spares.
const SILENCE_MAX: Duration = Duration::from_micros(150);
/// Less patience than this is none.
const PATIENCE_MIN: Duration = Duration::from_micros(4);
/// Octets between two silences, on average of late, up to which it is a conversation.
const CONVERSATION: u64 = 1024;
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
    /// Octets since the last silence, and between two on average of late.
    octets: u64,
    usual: u64,
    /// More than one conversation goes on.
    mixed: bool,
}

impl Idle {
    /// A turn has found something: `octets`, about; `mixed`: more than one conversation goes on.
    pub(super) fn over(&mut self, now: Instant, octets: u64, mixed: bool) {
        self.mixed = mixed;
        if self.turns > 0 {
            self.usual = (7 * self.usual + self.octets) / 8;
            self.octets = 0;
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
        self.octets = self.octets.saturating_add(octets);
    }

    fn is_patient(&self) -> bool {
        (self.usual <= CONVERSATION || self.mixed) && !self.patience.is_zero()
    }

    /// A turn that finds nothing is followed by sleep, whatever the time.
    pub(super) fn is_hasty(&self, arms: bool) -> bool {
        !arms && !self.is_patient()
    }

    /// A turn has found nothing; `arms`: there are ports to be armed.
    pub(super) fn next(&mut self, arms: bool, now: Instant) -> Rest {
        if self.turns == 0 {
            self.since = now;
        }
        self.turns = self.turns.saturating_add(1);
        let patient = self.is_patient() && now.since(self.since) < self.patience;
        if self.rests == 0 && (patient || arms && self.turns < SPINS) {
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
        idle.over(at(2000), 60, false);
        assert_eq!(idle.next(true, at(2000)), Rest::Spin);
    }

    #[test]
    fn without_ports_to_arm_sleep_is_next() {
        let mut idle = Idle::default();
        assert_eq!([idle.next(false, at(0)), idle.next(false, at(0))], [Rest::Sleep; 2]);
    }

    /// How long the worker stays awake in a silence of `us` that is looked at every microsecond and ends with `octets`.
    fn awake(idle: &mut Idle, start: u64, us: u64, octets: u64) -> u64 {
        let mut awake = us;
        for now in 0..us {
            if idle.next(false, at(start + now)) != Rest::Spin {
                awake = awake.min(now);
            }
        }
        idle.over(at(start + us), octets, false);
        awake
    }

    #[test]
    fn patience_is_as_long_as_silences_that_are_short() {
        let mut idle = Idle::default();
        assert_eq!(awake(&mut idle, 0, 20, 60), 0);
        // A conversation: the second silence and all that are like it are spanned.
        for turn in 1..100 {
            assert_eq!(awake(&mut idle, turn * 1000, 20, 60), 20);
        }
        // Never longer than the bound, also where silences are a little longer.
        assert_eq!(awake(&mut idle, 200_000, 140, 60), 40);
        assert_eq!(awake(&mut idle, 201_000, 140, 60), 100);
        // Long ones end it.
        let long: Vec<u64> = (0..6).map(|turn| awake(&mut idle, 300_000 + turn * 1000, 500, 60)).collect();
        assert_eq!(long, [100, 50, 25, 13, 7, 0]);
    }

    #[test]
    fn there_is_no_patience_where_much_is_carried() {
        let mut idle = Idle::default();
        for turn in 0..100 {
            awake(&mut idle, turn * 1000, 80, 60);
        }
        // Acknowledgements of super-frames are no conversation.
        let bulk: Vec<u64> =
            (100..120).map(|turn| awake(&mut idle, turn * 1000, 80, if turn % 2 == 0 { 65_000 } else { 66 })).collect();
        assert_eq!(bulk[2..], [0; 18]);
        assert!(idle.is_hasty(false) && !idle.is_hasty(true));
        for turn in 120..200 {
            awake(&mut idle, turn * 1000, 80, 60);
        }
        assert_eq!(awake(&mut idle, 200_000, 80, 60), 80);
    }
}
