//! How long to wait between two attempts to connect.

/// Shortest wait, milliseconds.
pub const SHORTEST_MS: u64 = 1000;
/// Longest wait, milliseconds.
pub const LONGEST_MS: u64 = 5_000;
/// A session of this length, milliseconds, was a good one: the next wait is short again.
pub const GOOD_MS: u64 = 10_000;

/// Doubles from one second to five: 64 hosts at the most are no load, and a person who restarts a supervisor waits for them.
/// The wait is a random three to four quarters of that, so that the hosts of a supervisor that comes back don't all come at
/// once.
#[derive(Debug)]
pub struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next_ms: SHORTEST_MS }
    }
}

impl Backoff {
    /// The wait before the next attempt; `random` is any number. `lasted_ms` is how long the session was up.
    pub fn wait_ms(&mut self, lasted_ms: u64, random: u64) -> u64 {
        if lasted_ms >= GOOD_MS {
            self.next_ms = SHORTEST_MS;
        }
        let full = self.next_ms;
        self.next_ms = (full * 2).min(LONGEST_MS);
        (full - random % (full / 4 + 1)).max(SHORTEST_MS * 3 / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_five_seconds_and_starts_again_after_a_good_session() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.wait_ms(0, 0)).collect();
        assert_eq!(waits, [1000, 2000, 4000, 5000, 5000, 5000, 5000]);
        assert_eq!(backoff.wait_ms(GOOD_MS - 1, 0), 5000);
        assert_eq!(backoff.wait_ms(GOOD_MS, 0), 1000);
        for random in 0..10_000 {
            let wait = Backoff { next_ms: LONGEST_MS }.wait_ms(0, random * 77_777);
            assert!((3_750..=5_000).contains(&wait));
        }
    }
}
