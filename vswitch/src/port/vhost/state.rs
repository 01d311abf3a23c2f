//! What can be seen of a vhost-user port from outside: who is there, and what went wrong.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::ring::{Bad, Fault};

/// Every fault of a ring, so that the worker can name one by a number.
const FAULTS: [Fault; 12] = [
    Fault::Size,
    Fault::Place,
    Fault::Jump,
    Fault::Head,
    Fault::Memory,
    Fault::Chains(Bad::Long),
    Fault::Chains(Bad::Index),
    Fault::Chains(Bad::Address),
    Fault::Chains(Bad::Length),
    Fault::Chains(Bad::Indirect),
    Fault::Chains(Bad::Direction),
    Fault::Chains(Bad::Short),
];

/// The shared view of a port. Anybody may read it at any time; it costs the worker nothing.
#[derive(Default)]
pub struct VhostState {
    connected: AtomicBool,
    features: AtomicU64,
    /// A bit for each queue that runs; guest receive queues are the even ones.
    running: AtomicU32,
    /// The last fault of a ring: its queue above, a place in `FAULTS` plus one below; 0 when an error came later.
    fault: AtomicU32,
    error: Mutex<Option<String>>,
    pub(super) connections: AtomicU64,
    pub(super) bad_descriptors: AtomicU64,
    pub(super) ring_errors: AtomicU64,
    pub(super) kicks: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) resets: AtomicU64,
}

/// Counts since the port was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VhostCounters {
    /// Connections of a front end after the first.
    pub reconnects: u64,
    /// Chains that were wrong, and went back unused.
    pub bad_descriptors: u64,
    /// Rings that were stopped for what was in them.
    pub ring_errors: u64,
    /// Kicks that ended a sleep of ours, any number between two sleeps counting once.
    pub kicks: u64,
    /// Calls that we made.
    pub calls: u64,
    /// Resets that a front end asked for.
    pub resets: u64,
}

impl VhostState {
    /// A front end is connected.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// The virtio features that the guest has taken; 0 while there is none.
    pub fn features(&self) -> u64 {
        self.features.load(Ordering::Acquire)
    }

    /// Queue pairs of which both queues run.
    pub fn queue_pairs(&self) -> u16 {
        let running = self.running.load(Ordering::Acquire);
        (running & (running >> 1) & 0x5555_5555).count_ones() as u16
    }

    /// The last thing that went wrong.
    pub fn error(&self) -> Option<String> {
        let fault = self.fault.load(Ordering::Acquire);
        match (fault & 0xff).checked_sub(1).and_then(|at| FAULTS.get(at as usize)) {
            Some(what) => Some(format!("queue {} stopped: {what}", fault >> 8)),
            None => self.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// What was counted.
    pub fn counters(&self) -> VhostCounters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        VhostCounters {
            reconnects: of(&self.connections).saturating_sub(1),
            bad_descriptors: of(&self.bad_descriptors),
            ring_errors: of(&self.ring_errors),
            kicks: of(&self.kicks),
            calls: of(&self.calls),
            resets: of(&self.resets),
        }
    }

    pub(super) fn set_connected(&self, connected: bool) {
        if connected {
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        self.connected.store(connected, Ordering::Release);
    }

    pub(super) fn set_features(&self, features: u64) {
        self.features.store(features, Ordering::Release);
    }

    pub(super) fn set_running(&self, queue: usize, running: bool) {
        let bit = 1u32.checked_shl(queue as u32).unwrap_or(0);
        match running {
            true => self.running.fetch_or(bit, Ordering::AcqRel),
            false => self.running.fetch_and(!bit, Ordering::AcqRel),
        };
    }

    /// A ring ended. Takes no lock.
    pub(super) fn set_fault(&self, queue: usize, fault: Fault) {
        self.ring_errors.fetch_add(1, Ordering::Relaxed);
        self.set_running(queue, false);
        let place = FAULTS.iter().position(|known| *known == fault).map_or(0, |at| at as u32 + 1);
        self.fault.store((queue as u32) << 8 | place, Ordering::Release);
    }

    pub(super) fn set_error(&self, error: String) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        self.fault.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_the_one_that_is_told() {
        let state = VhostState::default();
        assert_eq!(state.error(), None);
        state.set_error("first".to_owned());
        assert_eq!(state.error().as_deref(), Some("first"));
        for fault in FAULTS {
            state.set_fault(3, fault);
            assert_eq!(state.error(), Some(format!("queue 3 stopped: {fault}")));
        }
        state.set_error("last".to_owned());
        assert_eq!(state.error().as_deref(), Some("last"));
        assert_eq!(state.counters().ring_errors, FAULTS.len() as u64);
    }

    #[test]
    fn a_pair_counts_when_both_of_its_queues_run() {
        let state = VhostState::default();
        state.set_running(1, true);
        state.set_running(2, true);
        assert_eq!(state.queue_pairs(), 0);
        state.set_running(0, true);
        state.set_running(15, true);
        state.set_running(14, true);
        assert_eq!(state.queue_pairs(), 2);
        state.set_fault(1, Fault::Jump);
        assert_eq!(state.queue_pairs(), 1);
    }

    #[test]
    fn reconnects_are_what_comes_after_the_first_connection() {
        let state = VhostState::default();
        for reconnects in 0..3 {
            state.set_connected(true);
            assert!(state.connected());
            assert_eq!(state.counters().reconnects, reconnects);
            state.set_connected(false);
        }
    }
}
