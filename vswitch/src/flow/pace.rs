//! How many flows of one packet may be reported one by one, when they are evicted: so many a second, with bursts of a tenth
//! of that, and only while most of the ring of records is free. Else somebody who makes up flows could fill the ring and
//! the network behind it, and reports of flows that matter would wait.

use std::time::Duration;

use crate::time::Instant;

const BURST: Duration = Duration::from_millis(100);

/// A bucket that fills with time, kept as the time when it is full again.
pub struct Pace {
    each_ns: u64,
    full_ns: u64,
}

impl Pace {
    /// `per_s` a second, at least one.
    pub fn new(per_s: usize) -> Self {
        Pace { each_ns: 1_000_000_000 / (per_s.max(1) as u64), full_ns: 0 }
    }

    /// Takes one, if there is one and `free` of the `capacity` places of the ring are a quarter or more.
    pub fn take(&mut self, now: Instant, free: usize, capacity: usize) -> bool {
        if free.saturating_mul(4) < capacity {
            return false;
        }
        let full = self.full_ns.max(now.ns());
        let is_there = full - now.ns() < BURST.as_nanos() as u64;
        if is_there {
            self.full_ns = full.saturating_add(self.each_ns);
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_none_when_the_ring_is_nearly_full() {
        let mut pace = Pace::new(1000);
        let mut taken = |ms: u64, free| (0..500).filter(|_| pace.take(Instant::from_ms(ms), free, 100)).count();
        assert_eq!(taken(10_000, 100), 100);
        assert_eq!(taken(10_000, 100), 0);
        assert_eq!(taken(10_050, 24), 0);
        assert_eq!(taken(10_050, 25), 50);
        assert_eq!(taken(20_000, 25), 100);
    }
}
