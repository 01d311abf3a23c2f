//! The accounting log: who has done what, from where, and with which outcome.
//!
//! Every command that changes something is a record, done or refused, and so is every session's begin and end and every
//! login that failed. The records are a chain ([`chain`]): none can be changed, taken out or put in without being found.
//! They are in files of the state directory ([`files`]) that are appended to, and turned over when they are full.
//!
//! A command never waits for an accounting log that can't be written, nor fails by it: the switch must stay operable when
//! its disk is full. Such records are counted, the log says so, and the next record that can be written says how many
//! are missing. Any thread may write; they wait for one another.

pub mod chain;
pub mod files;

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::log::clean;
use crate::store;
use chain::{Broken, Follow, Head, Kind, Record};
use files::{Disk, Files};

/// Name of the file in the state directory.
pub const FILE: &str = "accounting";
/// Most characters of what a record says.
const TEXT_MAX: usize = 2_500;
/// Most characters of a user's name.
const USER_MAX: usize = 64;
/// Records about failed logins in a minute.
const FAILURES_MAX: u32 = 20;

/// What is to be recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// What it is about.
    pub kind: Kind,
    /// From where.
    pub id: &'a str,
    /// Who.
    pub user: &'a str,
    /// `SUCCESS`, `FAILURE`, `DENIED` or nothing.
    pub outcome: &'a str,
    /// What.
    pub text: &'a str,
}

/// A record could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{lost} records are missing: {source}")]
pub struct Lost {
    /// How many by now.
    pub lost: u64,
    /// Why.
    pub source: std::io::Error,
}

/// What a check of the chain has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Records whose place in the chain is right.
    pub good: u64,
    /// Number of the first.
    pub first: u64,
    /// The last good record.
    pub head: Head,
    /// The first that is not.
    pub broken: Option<Broken>,
    /// Records that could not be written and are not in the chain.
    pub lost: u64,
}

/// The log.
pub struct Accounting(Mutex<Inner>);

struct Inner {
    files: Files,
    head: Head,
    lost: u64,
    /// Begin of this minute of failed logins, those recorded in it, and those not.
    failures: Option<(Instant, u32, u32)>,
}

impl Accounting {
    /// Without a disk.
    pub fn in_memory() -> Self {
        Self::new(Files::Memory(Default::default()), Head::default())
    }

    fn new(files: Files, head: Head) -> Self {
        Accounting(Mutex::new(Inner { files, head, lost: 0, failures: None }))
    }

    /// Goes on where the files end. What a crash has left of a record becomes a record of its own.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn open(path: &Path) -> Result<Self, store::Error> {
        let (disk, found) = Disk::open(path, |line| chain::read(line).is_some())?;
        let head = found.last.and_then(|line| chain::read(&line)).map(|(head, _)| head).unwrap_or_default();
        let log = Self::new(Files::Disk(disk), head);
        if let Some(torn) = found.torn {
            let text = format!("a crash has cut off the end of this record: {torn}");
            let event = Event { kind: Kind::Log, id: "system", user: "system", outcome: "", text: &text };
            log.write(&event, SystemTime::now()).map_err(|lost| store::Error::at(path)(lost.source))?;
        }
        Ok(log)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The head is changed after its record was written, so what a panicked writer left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The disk; the record is counted as lost.
    pub fn write(&self, event: &Event<'_>, now: SystemTime) -> Result<(), Lost> {
        let mut inner = self.inner();
        inner.write(event, now).map_err(|source| {
            inner.lost += 1;
            Lost { lost: inner.lost, source }
        })
    }

    /// Writes that somebody was not let in; of more than [`FAILURES_MAX`] in a minute only how many.
    ///
    /// # Errors
    /// As [`Accounting::write`].
    pub fn login_failed(&self, id: &str, user: &str, how: &str, now: SystemTime) -> Result<(), Lost> {
        let unwritten = self.inner().failed(Instant::now());
        let Some(unwritten) = unwritten else { return Ok(()) };
        let more = if unwritten == 0 { String::new() } else { format!("; {unwritten} more before are not recorded") };
        let text = format!("login by {how}{more}");
        self.write(&Event { kind: Kind::Login, id, user, outcome: "DENIED", text: &text }, now)
    }

    /// Every record that is kept, the oldest first; `None` stands for one that can't be read.
    ///
    /// # Errors
    /// The disk.
    pub fn records(&self) -> Result<Vec<Option<Record>>, store::Error> {
        let lines = self.inner().files.lines()?;
        Ok(lines.iter().flatten().map(|line| chain::read(line).map(|(_, record)| record)).collect())
    }

    /// Follows the chain from the oldest record to the newest.
    ///
    /// # Errors
    /// The disk.
    pub fn verify(&self) -> Result<Verdict, store::Error> {
        let inner = self.inner();
        let lines = inner.files.lines()?;
        let mut follow = Follow::default();
        let mut verdict = Verdict { lost: inner.lost, ..Verdict::default() };
        for (at, line) in lines.iter().flat_map(|file| file.iter().enumerate()) {
            if let Err(broken) = follow.next(line, at == 0) {
                verdict.broken = Some(broken);
                break;
            }
            verdict.good += 1;
            verdict.head = follow.head().cloned().unwrap_or_default();
            if verdict.good == 1 {
                verdict.first = verdict.head.number;
            }
        }
        if verdict.broken.is_none() && verdict.head != inner.head {
            verdict.broken = Some(Broken { number: verdict.head.number + 1, why: "is missing at the end" });
        }
        Ok(verdict)
    }

    /// Forgets every record. The first one afterwards says who did it, and the chain goes on.
    ///
    /// # Errors
    /// The disk.
    pub fn clear(&self, id: &str, user: &str, now: SystemTime) -> Result<(), String> {
        let mut inner = self.inner();
        inner.files.clear().map_err(|e| e.to_string())?;
        let begun = inner.head.goes_on();
        let event = Event { kind: Kind::Clear, id, user, outcome: "SUCCESS", text: &begun };
        inner.append(&event, now).map_err(|e| e.to_string())
    }
}

impl Inner {
    fn write(&mut self, event: &Event<'_>, now: SystemTime) -> std::io::Result<()> {
        self.files.turn_when_full()?;
        if self.files.is_at_begin() {
            let begun = self.head.goes_on();
            self.append(&Event { kind: Kind::File, id: "system", user: "system", outcome: "", text: &begun }, now)?;
        }
        if self.lost > 0 {
            let text = format!("{} records before this one could not be written", self.lost);
            self.append(&Event { kind: Kind::Log, id: "system", user: "system", outcome: "", text: &text }, now)?;
            self.lost = 0;
        }
        self.append(event, now)
    }

    fn append(&mut self, event: &Event<'_>, now: SystemTime) -> std::io::Result<()> {
        let record = Record {
            number: 0,
            at: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            kind: event.kind,
            id: clean(event.id, USER_MAX),
            user: clean(event.user, USER_MAX),
            outcome: event.outcome.to_owned(),
            text: clean(event.text, TEXT_MAX),
        };
        let (line, head) = self.head.add(&record);
        self.files.append(&line)?;
        self.head = head;
        Ok(())
    }

    /// `Some` when the failure is to be recorded, with the number of those before it that were not.
    fn failed(&mut self, now: Instant) -> Option<u32> {
        let (begun, written, unwritten) = self.failures.unwrap_or((now, 0, 0));
        let is_over = now.duration_since(begun) >= Duration::from_secs(60);
        let (begun, written) = if is_over { (now, 0) } else { (begun, written) };
        let is_written = written < FAILURES_MAX;
        self.failures = Some(match is_written {
            true => (begun, written + 1, 0),
            false => (begun, written, unwritten.saturating_add(1)),
        });
        is_written.then_some(unwritten)
    }
}

#[cfg(test)]
mod tests;
