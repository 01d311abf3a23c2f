//! Thirty-second averages of a port's counters, as `show interface` prints them.
//!
//! Every [`STEP`] a sample of the totals is kept, for [`WINDOW`]; the rate is the difference of the newest and the oldest
//! by the time between them. A port that is younger than the window is averaged over its age. Time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Span that is averaged over.
pub const WINDOW: Duration = Duration::from_secs(30);
/// Time between two samples.
pub const STEP: Duration = Duration::from_secs(1);

/// Totals of a port at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Octets from the port.
    pub rx_octets: u64,
    /// Frames from the port.
    pub rx_frames: u64,
    /// Octets to the port.
    pub tx_octets: u64,
    /// Frames to the port.
    pub tx_frames: u64,
}

/// Rates of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rate {
    /// Bits per second from the port.
    pub rx_bps: u64,
    /// Frames per second from the port.
    pub rx_pps: u64,
    /// Bits per second to the port.
    pub tx_bps: u64,
    /// Frames per second to the port.
    pub tx_pps: u64,
}

/// The samples of one port.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    samples: VecDeque<(Instant, Totals)>,
}

impl Rates {
    /// Takes a sample, unless the last is younger than a step. Totals that went back (they were cleared) start anew.
    pub fn sample(&mut self, now: Instant, totals: Totals) {
        if let Some((at, last)) = self.samples.back() {
            // A tenth of a step early is on time: timers are not exact.
            if now.saturating_duration_since(*at) + STEP / 10 < STEP {
                return;
            }
            if totals.rx_frames < last.rx_frames || totals.tx_frames < last.tx_frames {
                self.samples.clear();
            }
        }
        self.samples.push_back((now, totals));
        while self.samples.get(1).is_some_and(|(second, _)| now.saturating_duration_since(*second) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// The average of what is kept.
    pub fn rate(&self) -> Rate {
        let (Some((start, a)), Some((end, b))) = (self.samples.front(), self.samples.back()) else {
            return Rate::default();
        };
        let ms = end.saturating_duration_since(*start).as_millis();
        let per_s = |before: u64, after: u64, unit: u128| {
            let scaled = u128::from(after.saturating_sub(before)) * unit * 1000;
            scaled.checked_div(ms).map_or(0, |r| u64::try_from(r).unwrap_or(u64::MAX))
        };
        Rate {
            rx_bps: per_s(a.rx_octets, b.rx_octets, 8),
            rx_pps: per_s(a.rx_frames, b.rx_frames, 1),
            tx_bps: per_s(a.tx_octets, b.tx_octets, 8),
            tx_pps: per_s(a.tx_frames, b.tx_frames, 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(frames: u64) -> Totals {
        Totals { rx_octets: frames * 100, rx_frames: frames, tx_octets: 0, tx_frames: 0 }
    }

    #[test]
    fn averages_over_the_window_only() {
        let start = Instant::now();
        let mut rates = Rates::default();
        assert_eq!(rates.rate(), Rate::default());
        for s in 0..=100u64 {
            // 10 frames per second for a minute, then silence.
            rates.sample(start + Duration::from_secs(s), totals(s.min(60) * 10));
            match s {
                0 => assert_eq!(rates.rate(), Rate::default()),
                1..=60 => assert_eq!((rates.rate().rx_pps, rates.rate().rx_bps), (10, 8000), "{s}"),
                75 => assert_eq!(rates.rate().rx_pps, 5),
                90.. => assert_eq!(rates.rate().rx_pps, 0, "{s}"),
                _ => {}
            }
        }
        assert!(rates.samples.len() <= 32);
    }

    #[test]
    fn a_clear_starts_anew() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.sample(start, totals(1000));
        rates.sample(start + Duration::from_secs(1), totals(5));
        assert_eq!(rates.rate(), Rate::default());
        rates.sample(start + Duration::from_secs(3), totals(25));
        assert_eq!(rates.rate().rx_pps, 10);
    }

    #[test]
    fn samples_are_not_taken_too_often() {
        let start = Instant::now();
        let mut rates = Rates::default();
        (0..500).for_each(|ms| rates.sample(start + Duration::from_millis(ms), totals(ms)));
        assert_eq!(rates.samples.len(), 1);
    }
}
