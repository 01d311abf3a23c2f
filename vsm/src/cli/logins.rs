//! The sessions that are open at the console, for `show users`.
//!
//! Each session tells of itself when it begins, types and ends; whoever asks gets a copy.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// A session at the console.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Process at the other end of the socket, when the kernel tells.
    pub pid: Option<u32>,
    /// When it began.
    pub since: SystemTime,
    /// When its last line was typed.
    pub typed: SystemTime,
}

/// Those that are open, by number. Threads share it.
#[derive(Default)]
pub struct Logins {
    open: Mutex<BTreeMap<u64, Login>>,
}

impl Logins {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Login>> {
        // Changed by one insert or remove at a time, so what a panicked thread left is sound.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins.
    pub fn begin(&self, id: u64, pid: Option<u32>, now: SystemTime) {
        self.lock().insert(id, Login { pid, since: now, typed: now });
    }

    /// A line was typed.
    pub fn typed(&self, id: u64, now: SystemTime) {
        if let Some(login) = self.lock().get_mut(&id) {
            login.typed = now;
        }
    }

    /// A session has ended.
    pub fn end(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Those that are open.
    pub fn open(&self) -> BTreeMap<u64, Login> {
        self.lock().clone()
    }
}
