//! Each port's share of the worker's time.
//!
//! A batch of super-frames costs as much as twenty of small frames in shared memory, so turns alone would give the worker's
//! time to whoever has the dearer frames. Instead every port has an account of the time that its batches took. A port that
//! is ahead of the one that used least, of those that have frames, waits; one that was quiet begins where that one is, so it
//! is next and can't save up. (Start-time fair queueing, Goyal et al. 1996, with the round as its unit.)
//!
//! While several ports have frames, a batch is also cut to what is likely to take [`QUANTUM`], as everybody else waits for it.
//!
//! A few numbers a port, read and written once per batch.

use std::time::Duration;

use crate::frame::BATCH;
use crate::port::{PORTS_MAX, PortId};
use crate::table::portset::PortSet;

/// What a batch may take while others wait. Below that, frames that cost a system call each are joined less well.
const QUANTUM: Duration = Duration::from_micros(20);
/// Rounds over which ports that have frames are counted.
const PERIOD: u32 = 256;
/// How far a port may be ahead. Without it two busy ports would not be served in one round.
const AHEAD: Duration = Duration::from_micros(10);
/// The most that a batch is charged: what lasted longer was something else that ran on the worker's core.
const CHARGE_MAX: Duration = Duration::from_micros(250);
/// Frames that a batch may have in any case.
const FRAMES_MIN: u64 = 1;

#[derive(Clone, Copy, Default)]
struct Account {
    /// Nanoseconds used, or what was granted for being quiet.
    used: u64,
    /// Nanoseconds a frame takes, of late.
    cost: u64,
}

/// The accounts of a worker's ports.
pub(super) struct Shares {
    accounts: Box<[Account]>,
    /// What the port that used least had used, of those that had frames in the round before.
    floor: u64,
    /// The same of this round, as far as it has come.
    least: u64,
    /// Ports that had frames in this round.
    active: u32,
    /// Several ports had some in the round before.
    contended: bool,
    /// Who had some in the last rounds, how many rounds that is, and how many that were in the [`PERIOD`] before.
    seen: PortSet,
    rounds: u32,
    parties: u32,
}

/// What a port may have now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Grant {
    /// As many frames.
    Frames(usize),
    /// Others come first.
    Wait,
}

impl Shares {
    pub(super) fn new() -> Shares {
        Shares {
            accounts: vec![Account::default(); PORTS_MAX].into(),
            floor: 0,
            least: u64::MAX,
            active: 0,
            contended: false,
            seen: PortSet::default(),
            rounds: 0,
            parties: 0,
        }
    }

    /// What a port may have that may have frames.
    #[inline]
    pub(super) fn grant(&mut self, id: PortId) -> Grant {
        let Some(account) = self.accounts.get_mut(id.index()) else { return Grant::Wait };
        account.used = account.used.max(self.floor);
        if account.used > self.floor.saturating_add(AHEAD.as_nanos() as u64) {
            (self.least, self.active) = (self.least.min(account.used), self.active + 1);
            return Grant::Wait;
        }
        if !self.contended || account.cost == 0 {
            return Grant::Frames(BATCH);
        }
        let frames = (QUANTUM.as_nanos() as u64 / account.cost).max(FRAMES_MIN);
        Grant::Frames(frames.min(BATCH as u64) as usize)
    }

    /// A port gave `frames` frames, at least one, and they took `ns` nanoseconds.
    #[inline]
    pub(super) fn charge(&mut self, id: PortId, frames: u64, ns: u64) {
        let Some(account) = self.accounts.get_mut(id.index()) else { return };
        let ns = ns.min(CHARGE_MAX.as_nanos() as u64);
        account.used = account.used.saturating_add(ns);
        let cost = ns / frames.max(1);
        account.cost = if account.cost == 0 { cost } else { (3 * account.cost + cost) / 4 };
        (self.least, self.active) = (self.least.min(account.used), self.active + 1);
        self.seen.insert(id);
    }

    /// More than two ports have frames of late, so there is more than one conversation.
    pub(super) fn is_mixed(&self) -> bool {
        self.parties > 2
    }

    /// A round is over; `true` when somebody waits who would not have to any more.
    pub(super) fn end_round(&mut self) -> bool {
        let waited = self.least != u64::MAX && self.least > self.floor;
        if self.least != u64::MAX {
            self.floor = self.least;
        }
        self.least = u64::MAX;
        self.contended = std::mem::take(&mut self.active) > 1;
        self.rounds += 1;
        if self.rounds >= PERIOD {
            self.parties = self.seen.iter().count() as u32;
            (self.seen, self.rounds) = (PortSet::default(), 0);
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId(1);
    const B: PortId = PortId(2);
    const QUIET: PortId = PortId(3);

    /// Rounds until `limit` of ports that always have frames, with what a frame takes; what each used.
    fn run(shares: &mut Shares, ports: &[(PortId, u64)], limit: u64) -> Vec<u64> {
        let mut used = vec![0; ports.len()];
        while used.iter().sum::<u64>() < limit {
            for ((id, cost), used) in ports.iter().zip(&mut used) {
                if let Grant::Frames(frames) = shares.grant(*id) {
                    shares.charge(*id, frames as u64, frames as u64 * cost);
                    *used += frames as u64 * cost;
                }
            }
            shares.end_round();
        }
        used
    }

    #[test]
    fn time_is_shared_whatever_frames_cost() {
        let used = run(&mut Shares::new(), &[(A, 35), (B, 12_000)], 100_000_000);
        assert!(used[0].abs_diff(used[1]) < 1_000_000, "{used:?}");
        let used = run(&mut Shares::new(), &[(A, 1_000), (B, 12_000), (QUIET, 35)], 100_000_000);
        assert!(used.iter().all(|used| used.abs_diff(33_333_333) < 1_000_000), "{used:?}");
    }

    #[test]
    fn a_port_alone_gets_whole_batches() {
        let mut shares = Shares::new();
        run(&mut shares, &[(A, 12_000)], 10_000_000);
        assert_eq!(shares.grant(A), Grant::Frames(BATCH));
    }

    #[test]
    fn batches_are_short_while_others_wait() {
        let mut shares = Shares::new();
        run(&mut shares, &[(A, 1_000), (B, 1_000)], 10_000_000);
        assert_eq!(shares.grant(A), Grant::Frames(20));
    }

    #[test]
    fn who_was_quiet_is_next_and_has_saved_nothing() {
        let mut shares = Shares::new();
        run(&mut shares, &[(A, 1_000), (B, 12_000)], 100_000_000);
        assert!(matches!(shares.grant(QUIET), Grant::Frames(_)));
        let used = run(&mut shares, &[(A, 1_000), (QUIET, 1_000)], 10_000_000);
        assert!(used[0].abs_diff(used[1]) < 500_000, "{used:?}");
    }

    #[test]
    fn more_than_two_ports_are_a_mixture() {
        let mut shares = Shares::new();
        let rounds = u64::from(PERIOD) * 64 * 2;
        run(&mut shares, &[(A, 1), (B, 1)], 2 * rounds);
        assert!(!shares.is_mixed());
        run(&mut shares, &[(A, 1), (B, 1), (QUIET, 1)], 3 * rounds);
        assert!(shares.is_mixed());
        run(&mut shares, &[(A, 1)], rounds);
        assert!(!shares.is_mixed());
    }

    #[test]
    fn who_waits_for_a_port_that_stops_goes_on_in_the_next_round() {
        let mut shares = Shares::new();
        for (id, cost) in [(A, 1_000), (B, 50_000)] {
            assert_eq!(shares.grant(id), Grant::Frames(BATCH));
            shares.charge(id, 1, cost);
        }
        assert!(shares.end_round());
        assert_eq!(shares.grant(B), Grant::Wait);
        assert!(shares.end_round());
        assert!(matches!(shares.grant(B), Grant::Frames(_)));
    }
}
