//! Time for export: the worker's moments as milliseconds of uptime and as wall clock time, through one anchor.
//!
//! Uptime is the time since the worker's clock began. The wall clock is read when the anchor is made; after that wall time
//! is the anchor plus uptime, so all times of a datagram fit together to the millisecond. When the host's clock is stepped,
//! [`Anchor::follow`] moves the anchor; uptime goes on undisturbed.
//!
//! Version 5 and 9 carry uptime in 32 bits, which wrap after 49.7 days, and a flow that began before the wrap would seem to
//! begin in the future. A [`Base`] is therefore taken off: it grows an hour before the field would overflow and leaves 23
//! hours of the past in reach. Collectors compute with differences to the header, in which the base is the same.

use std::time::{SystemTime, UNIX_EPOCH};

use vswitch::time::Instant;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// How far the base moves at a time.
const STRIDE_MS: u64 = (1 << 32) - DAY_MS;
/// A smaller difference between the clocks is left alone: it is the time between two readings, or slewing.
const STEP_MS: u64 = 250;

/// Ties the worker's clock to the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    origin: std::time::Instant,
    boot_ms: u64,
}

impl Anchor {
    /// An anchor for a worker whose clock began at `origin`; reads the wall clock.
    pub fn new(origin: std::time::Instant) -> Self {
        let mut anchor = Anchor { origin, boot_ms: 0 };
        anchor.follow(Instant::from_ns(elapsed_ns(origin)), wall_ms());
        anchor
    }

    /// Reads both clocks.
    pub fn read(&mut self) -> Moment {
        let now = Instant::from_ns(elapsed_ns(self.origin));
        self.follow(now, wall_ms());
        self.at(now)
    }

    /// Moves the anchor when the wall clock was stepped: `wall_ms` is the time since 1970 at `now`.
    fn follow(&mut self, now: Instant, wall_ms: u64) {
        let boot_ms = wall_ms.saturating_sub(now.ms());
        if boot_ms.abs_diff(self.boot_ms) >= STEP_MS {
            self.boot_ms = boot_ms;
        }
    }

    fn at(&self, now: Instant) -> Moment {
        Moment { now, boot_ms: self.boot_ms }
    }
}

fn elapsed_ns(origin: std::time::Instant) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A moment, and how to express it and others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The moment on the worker's clock.
    pub now: Instant,
    /// Wall clock time at the worker's moment 0, milliseconds since 1970.
    pub boot_ms: u64,
}

impl Moment {
    /// Milliseconds since 1970 at `moment`.
    pub fn wall_of(self, moment: Instant) -> u64 {
        self.boot_ms.saturating_add(moment.ms())
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(self) -> u64 {
        self.wall_of(self.now)
    }

    /// What to take off the uptime in datagrams of this time.
    pub fn base(self) -> Base {
        Base((self.now.ms() + HOUR_MS).saturating_sub(DAY_MS) / STRIDE_MS * STRIDE_MS)
    }

    /// The next whole second of the wall clock: seconds since 1970, and the uptime at that second.
    ///
    /// The header of version 9 has uptime in milliseconds and time in seconds. Taken at one instant, they give each flow
    /// its time to the millisecond; the second is not a past one, because a flow must not end after the header's uptime.
    pub fn whole_second(self, base: Base) -> (u32, u32) {
        let seconds = self.wall_ms().div_ceil(1000);
        let uptime_ms = (seconds * 1000).saturating_sub(self.boot_ms);
        (seconds as u32, base.uptime(Instant::from_ms(uptime_ms)))
    }
}

/// What is taken off the uptime, milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Base(u64);

impl Base {
    /// Uptime at `moment` as the datagram has it; 0 for what is too long ago.
    pub fn uptime(self, moment: Instant) -> u32 {
        u32::try_from(moment.ms().saturating_sub(self.0)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT_MS: u64 = 1_700_000_000_250;

    fn at(ms: u64) -> Moment {
        Moment { now: Instant::from_ms(ms), boot_ms: BOOT_MS }
    }

    #[test]
    fn wall_time_is_anchor_plus_uptime() {
        assert_eq!(at(1500).wall_ms(), BOOT_MS + 1500);
        assert_eq!(at(1500).wall_of(Instant::from_ns(1_999_999)), BOOT_MS + 1);
    }

    #[test]
    fn the_second_of_the_header_is_exact_and_not_past() {
        for ms in [0, 1, 749, 750, 751, 1_000, 12_345, 86_400_000] {
            let moment = at(ms);
            let (seconds, uptime) = moment.whole_second(moment.base());
            assert_eq!(u64::from(seconds) * 1000 - u64::from(uptime), BOOT_MS, "at {ms}");
            assert!(u64::from(uptime) >= ms && u64::from(uptime) < ms + 1000, "at {ms}");
        }
    }

    #[test]
    fn uptime_never_wraps_and_keeps_the_last_hours_in_reach() {
        for days in [0, 1, 48, 49, 50, 97, 98, 99, 100, 147, 365, 4000] {
            for hour in 0..24 {
                let moment = at(days * DAY_MS + hour * HOUR_MS + 59 * 60_000);
                let base = moment.base();
                let now = base.uptime(moment.now);
                assert!(now < u32::MAX - 60_000, "day {days} hour {hour}: {now}");
                let earlier = Instant::from_ms(moment.now.ms().saturating_sub(22 * HOUR_MS));
                assert_eq!(u64::from(now - base.uptime(earlier)), moment.now.ms() - earlier.ms(), "day {days}");
            }
        }
        assert_eq!(at((1 << 32) - HOUR_MS - 1).base(), Base(0));
        assert_eq!(at((1 << 32) - HOUR_MS).base(), Base(STRIDE_MS));
        assert_eq!(Base(STRIDE_MS).uptime(Instant::from_ms(5)), 0);
    }

    #[test]
    fn a_stepped_clock_is_followed_and_jitter_is_not() {
        let mut anchor = Anchor { origin: std::time::Instant::now(), boot_ms: BOOT_MS };
        let now = Instant::from_ms(10_000);
        anchor.follow(now, BOOT_MS + 10_000 + STEP_MS - 1);
        assert_eq!(anchor.at(now).wall_ms(), BOOT_MS + 10_000);
        anchor.follow(now, BOOT_MS + 70_000);
        assert_eq!(anchor.at(now).wall_ms(), BOOT_MS + 70_000);
        anchor.follow(now, BOOT_MS - 5_000);
        assert_eq!(anchor.at(now).wall_ms(), BOOT_MS - 5_000);
    }

    #[test]
    fn a_new_anchor_gives_the_time_of_day() {
        let moment = Anchor::new(std::time::Instant::now()).read();
        assert!(moment.wall_ms().abs_diff(wall_ms()) < 2 * STEP_MS);
    }
}
