//! The sessions that somebody sits at, for `show users`.
//!
//! Each session tells of itself when it begins, types and ends; whoever asks gets a copy.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Who opens a session.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Visitor {
    /// The user who has logged in; `None` at the console.
    pub user: Option<String>,
    /// Where he comes from; `None` at the console.
    pub from: Option<IpAddr>,
    /// Roles that a server has given him; `None`: those of the local user.
    pub granted: Option<Vec<String>>,
    /// Process at the other end of the console's socket, when the kernel tells.
    pub pid: Option<u32>,
}

/// By what somebody comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    /// The console, which asks nobody who he is.
    Console,
    /// SSH
    Ssh,
    /// NX-API
    Nxapi,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 3] = [Service::Console, Service::Ssh, Service::Nxapi];

    /// In small letters.
    pub fn name(self) -> &'static str {
        match self {
            Service::Console => "console",
            Service::Ssh => "ssh",
            Service::Nxapi => "nxapi",
        }
    }
}

/// How many have been let in at a service, and how many not.
#[derive(Default)]
struct Tally {
    accepted: AtomicU64,
    failed: AtomicU64,
}

/// A session that somebody sits at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Who.
    pub visitor: Visitor,
    /// By what he came in.
    pub service: Service,
    /// When it began.
    pub since: SystemTime,
    /// When its last line was typed.
    pub typed: SystemTime,
}

/// Those that are open, by number. Threads share it.
#[derive(Default)]
pub struct Logins {
    open: Mutex<Open>,
    tallies: [Tally; Service::ALL.len()],
}

#[derive(Default)]
struct Open {
    next: u64,
    logins: BTreeMap<u64, Login>,
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Changed by one insert or remove at a time, so what a panicked thread left is sound.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody was let in, or was not.
    pub fn tell(&self, service: Service, is_let_in: bool) {
        let tally = &self.tallies[service as usize];
        let count = if is_let_in { &tally.accepted } else { &tally.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were let in at the service, and how many not.
    pub fn tally(&self, service: Service) -> (u64, u64) {
        let Tally { accepted, failed } = &self.tallies[service as usize];
        (accepted.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    /// A session begins; its number is returned.
    pub fn begin(&self, visitor: Visitor, now: SystemTime) -> u64 {
        let service = if visitor.from.is_some() { Service::Ssh } else { Service::Console };
        self.begin_at(service, visitor, now)
    }

    /// A session begins at this service; its number is returned.
    pub fn begin_at(&self, service: Service, visitor: Visitor, now: SystemTime) -> u64 {
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.logins.insert(id, Login { visitor, service, since: now, typed: now });
        id
    }

    /// Who has the session.
    pub fn get(&self, id: u64) -> Option<Login> {
        self.lock().logins.get(&id).cloned()
    }

    /// A line was typed.
    pub fn typed(&self, id: u64, now: SystemTime) {
        if let Some(login) = self.lock().logins.get_mut(&id) {
            login.typed = now;
        }
    }

    /// A session has ended.
    pub fn end(&self, id: u64) {
        self.lock().logins.remove(&id);
    }

    /// Those that are open.
    pub fn open(&self) -> BTreeMap<u64, Login> {
        self.lock().logins.clone()
    }
}
