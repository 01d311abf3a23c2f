//! Time as an argument: nothing below the worker's edge reads a clock.

use std::time::Duration;

/// A moment on the monotonic clock, nanoseconds since the worker started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Instant(u64);

impl Instant {
    /// The moment `ns` nanoseconds after the start.
    pub const fn from_ns(ns: u64) -> Self {
        Instant(ns)
    }

    /// The moment `ms` milliseconds after the start.
    pub const fn from_ms(ms: u64) -> Self {
        Instant(ms * 1_000_000)
    }

    /// Nanoseconds since the start.
    pub const fn ns(self) -> u64 {
        self.0
    }

    /// Milliseconds since the start.
    pub const fn ms(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time that has passed since `earlier`; zero when it has not come yet.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
