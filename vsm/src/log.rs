//! The log: NX-OS lines, kept for `show logging`.
//!
//! ```text
//! 2026 Nov 21 01:02:03 switch %VEM_MGR-2-MOD_ONLINE: Module 3 is online
//! ```
//!
//! The last [`LINES_MAX`] lines are in memory, and on disk in a file that is turned over at [`FILE_MAX`] octets, so that
//! a restart doesn't lose them. Times are UTC. What a peer sends is cleaned of control characters and cut before it
//! becomes part of a line. Any thread may write; a disk that fails costs lines on disk, never the caller.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use time::OffsetDateTime;

/// Lines in memory.
pub const LINES_MAX: usize = 10_000;
/// Octets of the file before it is turned over; the one before is kept.
pub const FILE_MAX: u64 = 4 << 20;
/// Characters of the text of a line.
const TEXT_MAX: usize = 500;

/// The log.
pub struct Log(Mutex<Inner>);

struct Inner {
    hostname: String,
    lines: VecDeque<String>,
    written: u64,
    disk: Option<Disk>,
}

struct Disk {
    path: PathBuf,
    file: File,
    octets: u64,
}

impl Log {
    /// A log without a file.
    pub fn in_memory() -> Self {
        Log(Mutex::new(Inner { hostname: "switch".to_owned(), lines: VecDeque::new(), written: 0, disk: None }))
    }

    /// A log that goes on where the file ends.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(path: &Path) -> Result<Self, crate::store::Error> {
        let old = crate::store::read(path)?.unwrap_or_default();
        let old = String::from_utf8_lossy(&old);
        let count = old.lines().count();
        let lines = old.lines().skip(count.saturating_sub(LINES_MAX)).map(str::to_owned).collect();
        let disk = Disk::open(path).map_err(|source| crate::store::Error { path: path.to_owned(), source })?;
        Ok(Log(Mutex::new(Inner { hostname: "switch".to_owned(), lines, written: 0, disk: Some(disk) })))
    }

    /// Lines from now on carry this name of the switch.
    pub fn set_hostname(&self, hostname: &str) {
        hostname.clone_into(&mut self.inner().hostname);
    }

    /// Writes a line; severity is 0 (emergency) - 7 (debug). The line goes to the process's own log too.
    pub fn write(&self, facility: &str, severity: u8, mnemonic: &str, text: &str) {
        self.write_at(SystemTime::now(), facility, severity, mnemonic, text);
    }

    fn write_at(&self, now: SystemTime, facility: &str, severity: u8, mnemonic: &str, text: &str) {
        let (facility, mnemonic, severity) = (word(facility), word(mnemonic), severity.min(7));
        let text = clean(text, TEXT_MAX);
        match severity {
            0..=3 => tracing::warn!("%{facility}-{severity}-{mnemonic}: {text}"),
            4..=6 => tracing::info!("%{facility}-{severity}-{mnemonic}: {text}"),
            _ => tracing::debug!("%{facility}-{severity}-{mnemonic}: {text}"),
        }
        let mut inner = self.inner();
        let line = format!("{} {} %{facility}-{severity}-{mnemonic}: {text}", stamp(now), inner.hostname);
        if let Some(disk) = &mut inner.disk
            && let Err(e) = disk.write(&line)
        {
            tracing::error!("the log file {}: {e}", disk.path.display());
        }
        if inner.lines.len() >= LINES_MAX {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
        inner.written += 1;
    }

    /// The last `n` lines, oldest first.
    pub fn last(&self, n: usize) -> Vec<String> {
        let inner = self.inner();
        inner.lines.iter().skip(inner.lines.len().saturating_sub(n)).cloned().collect()
    }

    /// The lines that were written since this returned `seen`, as far as they are still kept, and what to ask with next
    /// time.
    pub fn since(&self, seen: u64) -> (Vec<String>, u64) {
        let inner = self.inner();
        let new = usize::try_from(inner.written.saturating_sub(seen)).unwrap_or(usize::MAX).min(inner.lines.len());
        (inner.lines.iter().skip(inner.lines.len() - new).cloned().collect(), inner.written)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A line is pushed whole or not at all, so what a panicked writer left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let octets = file.metadata()?.len();
        Ok(Disk { path: path.to_owned(), file, octets })
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        if self.octets >= FILE_MAX {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            *self = Disk::open(&self.path)?;
        }
        let line = format!("{line}\n");
        self.file.write_all(line.as_bytes())?;
        self.octets += line.len() as u64;
        Ok(())
    }
}

/// `2026 Nov 21 01:02:03`, UTC. The day is padded with a blank.
pub fn stamp(now: SystemTime) -> String {
    let t = OffsetDateTime::from(now);
    let month = t.month().to_string();
    format!("{} {:.3} {:2} {:02}:{:02}:{:02}", t.year(), month, t.day(), t.hour(), t.minute(), t.second())
}

/// Text of a peer, fit for a line: control characters become `?`, and it is cut.
pub fn clean(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(max).collect()
}

/// A facility or mnemonic: letters, digits and `_`, capitals.
fn word(text: &str) -> String {
    let word: String = text
        .chars()
        .take(32)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { '_' })
        .collect();
    if word.is_empty() { "UNKNOWN".to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn lines_look_like_nx_os() {
        let log = Log::in_memory();
        log.write_at(at(1_795_222_923), "VEM_MGR", 2, "MOD_ONLINE", "Module 3 is online");
        log.set_hostname("n1000v");
        log.write_at(at(951_782_400), "ethport", 9, "if-up", "Interface\nVethernet1\x1b[2J");
        assert_eq!(
            log.last(10),
            [
                "2026 Nov 21 01:02:03 switch %VEM_MGR-2-MOD_ONLINE: Module 3 is online",
                "2000 Feb 29 00:00:00 n1000v %ETHPORT-7-IF_UP: Interface?Vethernet1?[2J",
            ]
        );
        assert_eq!(stamp(at(1_796_094_245)), "2026 Dec  1 03:04:05");
    }

    #[test]
    fn memory_is_bounded_and_last_gives_the_newest() {
        let log = Log::in_memory();
        for i in 0..LINES_MAX + 5 {
            log.write_at(at(0), "A", 7, "B", &i.to_string());
        }
        assert_eq!(log.last(usize::MAX).len(), LINES_MAX);
        assert!(log.last(1)[0].ends_with(&format!("%A-7-B: {}", LINES_MAX + 4)));
        assert!(log.last(0).is_empty());
        let (lines, seen) = log.since(LINES_MAX as u64);
        assert_eq!((lines.len(), log.since(seen)), (5, (Vec::new(), seen)));
        assert_eq!(log.since(0).0.len(), LINES_MAX);
        log.write("A", 7, "B", &"x".repeat(10_000));
        assert!(log.last(1)[0].len() < 600);
    }

    #[test]
    fn the_file_goes_on_after_a_restart_and_is_turned_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Log::open(&path).unwrap().write("A", 5, "FIRST", "1");
        let log = Log::open(&path).unwrap();
        assert!(log.last(1)[0].ends_with("%A-5-FIRST: 1"));
        log.inner().disk.as_mut().unwrap().octets = FILE_MAX;
        log.write("A", 5, "SECOND", "2");
        assert_eq!(log.last(9).len(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(std::fs::read_to_string(dir.path().join("log.1")).unwrap().contains("FIRST"));
    }
}
