//! `rate-limit`: how many datagrams of an exporter leave in a second.
//!
//! What is more waits here. Who makes datagrams asks first whether too much waits ([`Pace::is_behind`]) and leaves the flows where they
//! are, so that they are counted on; only what has to be made all the same, as before a change of the configuration, can be too much.

use std::collections::VecDeque;

use vswitch::time::Instant;

use super::message::Datagram;

/// From so many on no more is to be made.
const BEHIND: usize = 2048;
/// More are given up.
const WAITING_MAX: usize = 4 * BEHIND;
const SECOND_NS: u64 = 1_000_000_000;
/// So much of a second's datagrams may leave at once after a silence: the thread looks every tenth of one, or a little later.
const BURST_NS: u64 = SECOND_NS / 5;

/// The datagrams of an exporter that wait. Without a rate none does.
#[derive(Debug, Default)]
pub struct Pace {
    /// Datagrams a second; 0 for any number.
    rate: u32,
    waiting: VecDeque<Datagram>,
    /// When the next one may leave.
    next: Instant,
}

impl Pace {
    /// Another rate, from the next datagram on.
    pub fn set(&mut self, rate: Option<u32>) {
        self.rate = rate.unwrap_or(0);
    }

    /// One more waits. Returned is one for which there is no room.
    pub fn put(&mut self, datagram: Datagram) -> Option<Datagram> {
        if self.waiting.len() >= WAITING_MAX {
            return Some(datagram);
        }
        self.waiting.push_back(datagram);
        None
    }

    /// The next one that may leave.
    pub fn next(&mut self, now: Instant) -> Option<Datagram> {
        if self.rate > 0 {
            if self.waiting.is_empty() || now < self.next {
                return None;
            }
            let since = self.next.ns().max(now.ns().saturating_sub(BURST_NS));
            self.next = Instant::from_ns(since.saturating_add(SECOND_NS / u64::from(self.rate)));
        }
        self.waiting.pop_front()
    }

    /// All that wait.
    pub fn take(&mut self) -> Vec<Datagram> {
        self.waiting.drain(..).collect()
    }

    /// No more is to be made.
    pub fn is_behind(&self) -> bool {
        self.waiting.len() >= BEHIND
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Weight;
    use super::*;

    fn datagram(n: u8) -> Datagram {
        Datagram { bytes: vec![n], weight: Weight::default() }
    }

    fn leave(pace: &mut Pace, now_ms: u64) -> usize {
        std::iter::from_fn(|| pace.next(Instant::from_ms(now_ms))).count()
    }

    #[test]
    fn without_a_rate_nothing_waits_and_with_one_a_second_has_so_many() {
        let mut pace = Pace::default();
        (0..200).for_each(|n| assert_eq!(pace.put(datagram(n)), None));
        assert_eq!(leave(&mut pace, 5), 200);
        pace.set(Some(100));
        (0..200).for_each(|n| assert_eq!(pace.put(datagram(n)), None));
        // A fifth of a second's after a silence, and then one each ten milliseconds.
        let first = leave(&mut pace, 10_000);
        assert!((20..=21).contains(&first), "{first}");
        let second: usize = (1..=1000).map(|ms| leave(&mut pace, 10_000 + ms)).sum();
        assert!((99..=101).contains(&second), "{second}");
        pace.set(None);
        assert_eq!(leave(&mut pace, 11_001), 200 - first - second);
    }

    #[test]
    fn they_leave_in_order_and_what_finds_no_room_comes_back() {
        let mut pace = Pace::default();
        pace.set(Some(1));
        for n in 0..WAITING_MAX {
            assert_eq!(pace.is_behind(), n >= BEHIND);
            assert_eq!(pace.put(datagram(n as u8)), None);
        }
        assert_eq!(pace.put(datagram(7)), Some(datagram(7)));
        assert_eq!(pace.next(Instant::from_ms(1)), Some(datagram(0)));
        assert_eq!(pace.take().first(), Some(&datagram(1)));
        assert!(!pace.is_behind());
    }
}
