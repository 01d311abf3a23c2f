//! Servers as they are asked: one after the other, and a silent one not again for a while.
//!
//! Whoever asks waits, on his own thread, until a server answers or all were silent; in all no longer than [`PATIENCE`].
//! A server that says no is believed: only silence leads to the next one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::tacacs::Kept;
use crate::config::aaa::{Aaa, Protocol, Target};

/// Longest time that somebody waits for servers.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Most servers that are remembered.
const KNOWN_MAX: usize = 256;

/// What has come of asking a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Packets or questions that were sent.
    pub sent: u64,
    /// Questions that were answered.
    pub answered: u64,
    /// Packets that were not answered in time.
    pub timed_out: u64,
    /// Questions that were not answered at all.
    pub failed: u64,
    /// Answers to no question of ours, or not from who has the key.
    pub unmatched: u64,
    /// Answers without Message-Authenticator.
    pub unsigned: u64,
    /// Answers that were cut short or contradict themselves.
    pub malformed: u64,
}

impl Statistics {
    fn add(&mut self, more: &Statistics) {
        self.sent += more.sent;
        self.answered += more.answered;
        self.timed_out += more.timed_out;
        self.failed += more.failed;
        self.unmatched += more.unmatched;
        self.unsigned += more.unsigned;
        self.malformed += more.malformed;
    }
}

#[derive(Clone, Default)]
struct Known {
    statistics: Statistics,
    dead_until: Option<Instant>,
}

/// What is known of the servers. Any thread may use it; nobody holds it while he asks.
#[derive(Default)]
pub struct Servers {
    known: Mutex<BTreeMap<(Protocol, IpAddr), Known>>,
    kept: Kept,
}

impl Servers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Protocol, IpAddr), Known>> {
        // Numbers, so what a panicked thread left is sound.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections that are kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What has come of asking the server.
    pub fn statistics(&self, protocol: Protocol, host: IpAddr) -> Statistics {
        self.lock().get(&(protocol, host)).map(|known| known.statistics).unwrap_or_default()
    }

    /// The server was silent and is not asked for so long.
    pub fn dead_for(&self, protocol: Protocol, host: IpAddr, now: Instant) -> Option<Duration> {
        let until = self.lock().get(&(protocol, host))?.dead_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    fn learn(&self, target: &Target, statistics: &Statistics, is_silent: bool) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let own = known.entry((target.protocol, target.host)).or_default();
        own.statistics.add(statistics);
        let dead = Duration::from_secs(60 * u64::from(target.deadtime_min));
        own.dead_until = (is_silent && !dead.is_zero()).then(|| Instant::now() + dead);
    }

    /// Asks the servers of the groups one after the other, until one answers. `ask` gets the server, when it must have
    /// come to an end, and numbers to count in.
    pub fn ask<T>(
        &self,
        aaa: &Aaa,
        groups: &[String],
        mut ask: impl FnMut(&Target, Instant, &mut Statistics) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        for target in groups.iter().flat_map(|group| aaa.targets(group)) {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if target.key.is_none() || self.dead_for(target.protocol, target.host, now).is_some() {
                continue;
            }
            let mut statistics = Statistics::default();
            let answer = ask(&target, deadline, &mut statistics);
            self.learn(&target, &statistics, answer.is_none());
            if answer.is_some() {
                return answer;
            }
        }
        None
    }
}
