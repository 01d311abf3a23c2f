//! When to try again: after 1, 3, 9, 27, 81 and then every 243 seconds.

/// The waits, seconds.
const WAITS_S: [u64; 6] = [1, 3, 9, 27, 81, 243];

/// The schedule.
#[derive(Clone, Debug)]
pub struct Backoff {
    step: usize,
    exact: bool,
}

impl Backoff {
    /// Begins at one second. `exact` leaves out the jitter of ±20 %, which keeps senders of one receiver from coming all at once.
    pub fn new(exact: bool) -> Self {
        Backoff { step: 0, exact }
    }

    /// The next wait, milliseconds; `random` is any number.
    pub fn wait_ms(&mut self, random: u64) -> u64 {
        let full = WAITS_S.get(self.step).or(WAITS_S.last()).map_or(1000, |s| s * 1000);
        self.step = (self.step + 1).min(WAITS_S.len() - 1);
        if self.exact { full } else { full * 4 / 5 + random % (full * 2 / 5 + 1) }
    }

    /// The receiver was there: the next wait is the shortest.
    pub fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_triples_up_to_243_seconds_and_begins_again() {
        let mut exact = Backoff::new(true);
        let waits: Vec<u64> = (0..8).map(|n| exact.wait_ms(n * 12_345)).collect();
        assert_eq!(waits, [1_000, 3_000, 9_000, 27_000, 81_000, 243_000, 243_000, 243_000]);
        exact.reset();
        assert_eq!(exact.wait_ms(5), 1000);
    }

    #[test]
    fn jitter_is_a_fifth_each_way() {
        let waits: Vec<u64> = (0..10_000).map(|n| Backoff::new(false).wait_ms(n * 7_919)).collect();
        assert!(waits.iter().all(|wait| (800..=1200).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 820) && waits.iter().any(|wait| *wait > 1180));
    }
}
