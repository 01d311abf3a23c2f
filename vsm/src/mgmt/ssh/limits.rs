//! What is allowed to somebody whom nobody knows yet.
//!
//! A connection counts as waiting until its user has logged in. So many wait at a time, so many of them from one address,
//! each for so long and with so many attempts; more are closed without a word. Failures fill the log slowly.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Attempts to log in of a connection; to ask what may be tried is one.
pub const ATTEMPTS_MAX: usize = 6;
/// Time to log in.
pub const LOGIN_TIME: Duration = Duration::from_secs(60);
/// Most connections at a time.
pub const CONNECTIONS_MAX: usize = 512;
/// Most connections that wait for a login.
pub const WAITING_MAX: usize = 320;
/// Most of them from one address.
pub const WAITING_MAX_OF_ADDRESS: usize = 256;
/// Lines about failed logins in a minute.
const FAILURES_LOGGED: u32 = 20;

#[derive(Default)]
struct Counts {
    connections: usize,
    waiting: HashMap<IpAddr, usize>,
    /// Begin of this minute of failures, those logged in it, and those not.
    failures: Option<(Instant, u32, u32)>,
}

/// How many there are.
#[derive(Clone, Default)]
pub struct Limits(Arc<Mutex<Counts>>);

impl Limits {
    /// Nobody is there.
    pub fn new() -> Self {
        Limits::default()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Numbers that are changed one at a time, so what a panicked task left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, or not.
    pub fn enter(&self, from: IpAddr) -> Option<Connected> {
        let mut counts = self.lock();
        let waiting: usize = counts.waiting.values().sum();
        let own = counts.waiting.get(&from).copied().unwrap_or(0);
        if counts.connections >= CONNECTIONS_MAX || waiting >= WAITING_MAX || own >= WAITING_MAX_OF_ADDRESS {
            return None;
        }
        counts.connections += 1;
        counts.waiting.insert(from, own + 1);
        Some(Connected { limits: self.clone(), waiting: Some(from) })
    }

    /// A login has failed. `Some` when it is to be logged, with the number of those before it that were not.
    pub fn failed(&self, now: Instant) -> Option<u32> {
        let mut counts = self.lock();
        let minute = Duration::from_secs(60);
        let (begun, logged, unlogged) = counts.failures.unwrap_or((now, 0, 0));
        let is_over = now.duration_since(begun) >= minute;
        let (begun, logged) = if is_over { (now, 0) } else { (begun, logged) };
        let is_logged = logged < FAILURES_LOGGED;
        counts.failures = Some(match is_logged {
            true => (begun, logged + 1, 0),
            false => (begun, logged, unlogged.saturating_add(1)),
        });
        is_logged.then_some(unlogged)
    }
}

/// A connection's place.
pub struct Connected {
    limits: Limits,
    waiting: Option<IpAddr>,
}

impl Connected {
    /// Its user has logged in.
    pub fn logged_in(&mut self) {
        let Some(from) = self.waiting.take() else { return };
        let mut counts = self.limits.lock();
        if let Some(own) = counts.waiting.get_mut(&from) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.waiting.remove(&from);
            }
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.logged_in();
        let mut counts = self.limits.lock();
        counts.connections = counts.connections.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn one_address_does_not_take_all_places() {
        let limits = Limits::new();
        let mut of_one: Vec<Connected> = std::iter::from_fn(|| limits.enter(address(1))).collect();
        assert_eq!(of_one.len(), WAITING_MAX_OF_ADDRESS);
        let others: Vec<Connected> = (2..100).filter_map(|n| limits.enter(address(n))).collect();
        assert_eq!(others.len(), WAITING_MAX - WAITING_MAX_OF_ADDRESS);
        of_one[0].logged_in();
        of_one[0].logged_in();
        let again = limits.enter(address(1));
        assert!(again.is_some() && limits.enter(address(1)).is_none());
        drop((of_one, others, again));
        assert!(limits.lock().waiting.is_empty());
        assert_eq!(limits.lock().connections, 0);
    }

    #[test]
    fn who_has_logged_in_counts_too() {
        let limits = Limits::new();
        let enter = || {
            let mut connected = limits.enter(address(1))?;
            connected.logged_in();
            Some(connected)
        };
        let all: Vec<Connected> = std::iter::from_fn(enter).collect();
        assert_eq!(all.len(), CONNECTIONS_MAX);
    }

    #[test]
    fn failures_do_not_wash_the_log_away() {
        let limits = Limits::new();
        let start = Instant::now();
        let logged = (0..100).filter(|_| limits.failed(start).is_some()).count();
        assert_eq!(logged, FAILURES_LOGGED as usize);
        assert_eq!(limits.failed(start + Duration::from_secs(60)), Some(80));
        assert_eq!(limits.failed(start + Duration::from_secs(60)), Some(0));
    }
}
