//! The sessions that somebody sits at, for `show users`.
//!
//! Each session tells of itself when it begins, types and ends; whoever asks gets a copy.

use std::collections::BTreeMap;
use std::net::IpAddr;
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

/// A session that somebody sits at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Who.
    pub visitor: Visitor,
    /// When it began.
    pub since: SystemTime,
    /// When its last line was typed.
    pub typed: SystemTime,
}

/// Those that are open, by number. Threads share it.
#[derive(Default)]
pub struct Logins {
    open: Mutex<Open>,
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

    /// A session begins; its number is returned.
    pub fn begin(&self, visitor: Visitor, now: SystemTime) -> u64 {
        let mut open = self.lock();
        let id = open.next;
        open.next += 1;
        open.logins.insert(id, Login { visitor, since: now, typed: now });
        id
    }

    /// Who has the session.
    pub fn visitor(&self, id: u64) -> Option<Visitor> {
        self.lock().logins.get(&id).map(|login| login.visitor.clone())
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
