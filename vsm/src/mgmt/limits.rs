//! What is allowed to somebody whom nobody knows yet.
//!
//! A connection counts as waiting until its user has logged in. So many wait at a time, so many of them from one address,
//! each for so long and with so many attempts; more are closed without a word. Every server has its own places, so that
//! strangers at one don't take those of another. What fails is logged slowly, by all servers together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::log::Log;

/// Attempts to log in of a connection; to ask what may be tried is one.
pub const ATTEMPTS_MAX: usize = 6;
/// Time to log in.
pub const LOGIN_TIME: Duration = Duration::from_secs(60);
/// Those of SSH: two hundred administrators fit.
pub const SSH: Most = Most { connections: 512, waiting: 320, waiting_of_address: 256 };
/// Those of HTTP. Programs come, ask and go.
pub const HTTP: Most = Most { connections: 128, waiting: 64, waiting_of_address: 32 };
/// Lines about failed logins in a minute.
const FAILURES_LOGGED: u32 = 20;

/// How many connections there are at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Most {
    /// At a time.
    pub connections: usize,
    /// That wait for a login.
    pub waiting: usize,
    /// Of those from one address.
    pub waiting_of_address: usize,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    waiting: HashMap<IpAddr, usize>,
}

/// How many there are at a server.
#[derive(Clone)]
pub struct Limits {
    most: Most,
    counts: Arc<Mutex<Counts>>,
}

impl Limits {
    /// Nobody is there.
    pub fn new(most: Most) -> Self {
        Limits { most, counts: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Numbers that are changed one at a time, so what a panicked task left is sound.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, or not.
    pub fn enter(&self, from: IpAddr) -> Option<Connected> {
        let mut counts = self.lock();
        let waiting: usize = counts.waiting.values().sum();
        let own = counts.waiting.get(&from).copied().unwrap_or(0);
        let most = self.most;
        if counts.connections >= most.connections || waiting >= most.waiting || own >= most.waiting_of_address {
            return None;
        }
        counts.connections += 1;
        counts.waiting.insert(from, own + 1);
        Some(Connected { limits: self.clone(), waiting: Some(from) })
    }
}

/// Logins that have failed: begin of this minute, those logged in it, and those not. All servers share it.
#[derive(Clone, Default)]
pub struct Failures(Arc<Mutex<Option<(Instant, u32, u32)>>>);

impl Failures {
    /// A login has failed. `Some` when it is to be logged, with the number of those before it that were not.
    pub fn count(&self, now: Instant) -> Option<u32> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = Duration::from_secs(60);
        let (begun, logged, unlogged) = failures.unwrap_or((now, 0, 0));
        let is_over = now.duration_since(begun) >= minute;
        let (begun, logged) = if is_over { (now, 0) } else { (begun, logged) };
        let is_logged = logged < FAILURES_LOGGED;
        *failures = Some(match is_logged {
            true => (begun, logged + 1, 0),
            false => (begun, logged, unlogged.saturating_add(1)),
        });
        is_logged.then_some(unlogged)
    }

    /// Logs it, unless there were too many: whose login, from where, by what, at which server (`SSH`, `NXAPI`).
    pub fn log(&self, log: &Log, server: &str, user: &str, from: IpAddr, how: &str) {
        if let Some(unlogged) = self.count(Instant::now()) {
            let more = if unlogged == 0 { String::new() } else { format!("; {unlogged} more were not logged") };
            log.write(server, 4, "LOGIN_FAILED", &format!("Login of '{user:.64}' from {from} by {how} failed{more}"));
        }
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
        let limits = Limits::new(HTTP);
        let mut of_one: Vec<Connected> = std::iter::from_fn(|| limits.enter(address(1))).collect();
        assert_eq!(of_one.len(), HTTP.waiting_of_address);
        let others: Vec<Connected> = (2..100).filter_map(|n| limits.enter(address(n))).collect();
        assert_eq!(others.len(), HTTP.waiting - HTTP.waiting_of_address);
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
        let limits = Limits::new(HTTP);
        let enter = || {
            let mut connected = limits.enter(address(1))?;
            connected.logged_in();
            Some(connected)
        };
        let all: Vec<Connected> = std::iter::from_fn(enter).collect();
        assert_eq!(all.len(), HTTP.connections);
    }

    #[test]
    fn failures_do_not_wash_the_log_away() {
        let failures = Failures::default();
        let start = Instant::now();
        let logged = (0..100).filter(|_| failures.count(start).is_some()).count();
        assert_eq!(logged, FAILURES_LOGGED as usize);
        assert_eq!(failures.count(start + Duration::from_secs(60)), Some(80));
        assert_eq!(failures.count(start + Duration::from_secs(60)), Some(0));
    }
}
