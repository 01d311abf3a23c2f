//! Configuration sessions: commands that are collected, checked against a copy, and applied all at once.
//!
//! A session belongs to the switch, not to the terminal at which it was begun: whoever leaves it finds it again, until it
//! is committed or aborted, or the supervisor ends. One terminal at a time works in it.
//!
//! Limits: [`DRAFTS_MAX`] sessions, [`LINES_MAX`] commands in all of them together.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::config::startup::Line;
use crate::supervisor::Handle;

/// Most sessions.
pub const DRAFTS_MAX: usize = 32;
/// Most commands of all sessions together.
pub const LINES_MAX: usize = 20_000;

/// A session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// Who began it.
    pub by: String,
    /// When.
    pub since: SystemTime,
    /// Its commands, in the order in which they were typed.
    pub lines: Vec<Line>,
    /// A terminal works in it.
    pub in_use: bool,
}

/// All sessions, by name. Any thread may use them.
#[derive(Default)]
pub struct Drafts(Mutex<BTreeMap<String, Draft>>);

/// The right to work in a session, until it is dropped.
pub struct Claim {
    handle: Handle,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(draft) = self.handle.lifecycle().drafts.inner().get_mut(&self.name) {
            draft.in_use = false;
        }
    }
}

impl Claim {
    /// Takes a session for a terminal; one that is not there is begun.
    ///
    /// # Errors
    /// Another terminal works in it, or there are too many.
    pub fn take(handle: &Handle, name: &str, by: &str, now: SystemTime) -> Result<Self, String> {
        let mut drafts = handle.lifecycle().drafts.inner();
        let is_full = drafts.len() >= DRAFTS_MAX;
        match drafts.get_mut(name) {
            Some(draft) if draft.in_use => return Err(format!("Another terminal works in session '{name}'")),
            Some(draft) => draft.in_use = true,
            None if is_full => {
                return Err(format!("There are {DRAFTS_MAX} configuration sessions already"));
            }
            None => {
                let draft = Draft { by: by.to_owned(), since: now, lines: Vec::new(), in_use: true };
                drafts.insert(name.to_owned(), draft);
            }
        }
        Ok(Claim { handle: handle.clone(), name: name.to_owned() })
    }

    /// Name of the session.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drafts {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, Draft>> {
        // Changed by one step at a time, so what a panicked thread left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is room for another command.
    ///
    /// # Errors
    /// There is none.
    pub fn make_room(&self) -> Result<(), String> {
        match self.inner().values().map(|draft| draft.lines.len()).sum::<usize>() < LINES_MAX {
            true => Ok(()),
            false => Err(format!("The configuration sessions hold {LINES_MAX} commands already")),
        }
    }

    /// Adds a command.
    pub fn add(&self, name: &str, line: Line) {
        if let Some(draft) = self.inner().get_mut(name) {
            draft.lines.push(line);
        }
    }

    /// The session.
    pub fn get(&self, name: &str) -> Option<Draft> {
        self.inner().get(name).cloned()
    }

    /// All sessions.
    pub fn all(&self) -> BTreeMap<String, Draft> {
        self.inner().clone()
    }

    /// Forgets a session.
    pub fn remove(&self, name: &str) {
        self.inner().remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Model;

    #[test]
    fn sessions_are_limited_and_claimed_once() {
        let handle = Handle::detached(Model::default());
        let take = |name: &str| Claim::take(&handle, name, "admin", SystemTime::now());
        let claims: Vec<Claim> = (0..DRAFTS_MAX).map(|n| take(&n.to_string()).unwrap()).collect();
        assert_eq!(take("more").err().unwrap(), "There are 32 configuration sessions already");
        assert_eq!(take("3").err().unwrap(), "Another terminal works in session '3'");
        drop(claims);
        let drafts = &handle.lifecycle().drafts;
        let claim = take("3").unwrap();
        for _ in 0..LINES_MAX {
            drafts.make_room().unwrap();
            drafts.add(claim.name(), Line { depth: Some(0), text: "vlan 10".into() });
        }
        assert!(drafts.make_room().is_err());
        drafts.remove("3");
        drafts.make_room().unwrap();
        assert_eq!(drafts.get("3"), None);
    }
}
