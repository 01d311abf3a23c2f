//! The last dropped frames: when, from where, why, by which rule, and their first octets.
//!
//! A ring of [`KEPT`] samples in memory taken at the start; a drop costs a copy of at most 96 octets.

use crate::control::DropSample;
use crate::port::PortId;
use crate::time::Instant;
use crate::verdict::{DropReason, RuleRef};

/// Samples that are kept.
pub const KEPT: usize = 64;

/// The ring.
pub struct Drops {
    samples: Vec<DropSample>,
    next: usize,
}

impl Default for Drops {
    fn default() -> Self {
        Drops { samples: Vec::with_capacity(KEPT), next: 0 }
    }
}

impl Drops {
    /// `frame` from `port` was dropped.
    pub fn record(&mut self, at: Instant, port: PortId, reason: DropReason, rule: RuleRef, frame: &[u8]) {
        let mut sample = DropSample {
            at,
            port,
            reason,
            rule: rule.id(),
            length: frame.len() as u32,
            header: [0; 96],
            header_len: frame.len().min(96) as u8,
        };
        for (to, from) in sample.header.iter_mut().zip(frame) {
            *to = *from;
        }
        match self.samples.get_mut(self.next) {
            Some(oldest) => *oldest = sample,
            None => self.samples.push(sample),
        }
        self.next = (self.next + 1) % KEPT;
    }

    /// The samples, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &DropSample> {
        let (late, early) = self.samples.split_at_checked(self.next).unwrap_or((&self.samples, &[]));
        late.iter().rev().chain(early.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_64_are_kept_newest_first() {
        let mut drops = Drops::default();
        for n in 0..100u64 {
            drops.record(Instant::from_ms(n), PortId(1), DropReason::Runt, RuleRef::new(7, true), &[n as u8; 200]);
            let times: Vec<u64> = drops.newest_first().map(|s| s.at.ms()).collect();
            let expected: Vec<u64> = (0..=n).rev().take(KEPT).collect();
            assert_eq!(times, expected);
        }
        let newest = drops.newest_first().next().unwrap();
        assert_eq!((newest.header_len, newest.header, newest.length, newest.rule), (96, [99; 96], 200, Some(7)));
    }
}
