//! The log: NX-OS lines, kept for `show logging`, shown on terminals, and sent to servers.
//!
//! ```text
//! 2026 Nov 21 01:02:03 switch %VEM_MGR-2-MOD_ONLINE: Module 3 is online
//! ```
//!
//! A line is of a *part* of the switch (`VEM_MGR`) and has a severity. `logging level` says which are taken at all; what is
//! taken goes to the log file, the terminals and the servers, each up to a severity of its own.
//!
//! The last [`LINES_MAX`] lines are in memory, and on disk in a file that is turned over at a configured size, so that
//! a restart doesn't lose them. Times are UTC. What a peer sends is cleaned of control characters and cut before it
//! becomes part of a line. Any thread may write; a disk that fails costs lines on disk, and a server that fails costs the
//! lines that find no room in its queue ([`server`]), never the caller.

mod disk;
pub mod server;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use time::OffsetDateTime;

use crate::config::logging::{LOGFILE, LOGFILE_SEVERITY, Logfile, Logging, SIZE, Timestamp};
use crate::config::model::Model;
use disk::Disk;
use server::{Message, Sending, Status};

/// Lines in memory.
pub const LINES_MAX: usize = 10_000;
/// Characters of the text of a line.
const TEXT_MAX: usize = 500;

/// A line, for those who do something about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Part of the switch.
    pub part: String,
    /// Mnemonic.
    pub mnemonic: String,
    /// Text.
    pub text: String,
}

/// Events that wait for whoever watches.
pub const EVENTS_MAX: usize = 1000;

/// The log.
pub struct Log(Mutex<Inner>);

struct Inner {
    hostname: String,
    logging: Logging,
    logfile: Option<Logfile>,
    lines: VecDeque<Line>,
    written: u64,
    disk: Option<Disk>,
    /// The file of the name that is the default; others lie beside it. `None`: there is no disk, and nothing is sent.
    base: Option<PathBuf>,
    servers: BTreeMap<String, Sending>,
    watchers: Vec<Sender<Event>>,
}

struct Line {
    severity: u8,
    is_in_logfile: bool,
    text: String,
}

impl Line {
    /// A line of the file.
    fn read(text: &str) -> Self {
        let severity = text
            .split_once(" %")
            .and_then(|(_, rest)| rest.split('-').nth(1))
            .and_then(|severity| severity.parse().ok())
            .unwrap_or(LOGFILE_SEVERITY);
        Line { severity, is_in_logfile: true, text: text.to_owned() }
    }
}

impl Inner {
    fn new(lines: VecDeque<Line>, disk: Option<Disk>, base: Option<PathBuf>) -> Self {
        let logging = Logging::default();
        Inner {
            hostname: "switch".to_owned(),
            logfile: logging.logfile(),
            logging,
            lines,
            written: 0,
            disk,
            base,
            servers: BTreeMap::new(),
            watchers: Vec::new(),
        }
    }

    fn in_logfile(&self) -> impl DoubleEndedIterator<Item = &Line> {
        self.lines.iter().filter(|line| line.is_in_logfile)
    }

    /// Goes on with another file, and where that one ends.
    fn use_file(&mut self, path: Option<&Path>) {
        self.disk = None;
        self.lines.clear();
        let Some(path) = path else { return };
        self.lines = kept(path).inspect_err(|e| tracing::error!("{e}")).unwrap_or_default();
        self.disk = Disk::open(path).inspect_err(|e| tracing::error!("the log file {}: {e}", path.display())).ok();
    }

    fn size(&self) -> u64 {
        self.logfile.as_ref().and_then(|file| file.size).unwrap_or(SIZE).into()
    }
}

impl Log {
    /// A log without a file, that sends nothing.
    pub fn in_memory() -> Self {
        Log(Mutex::new(Inner::new(VecDeque::new(), None, None)))
    }

    /// A log that goes on where the file ends.
    ///
    /// # Errors
    /// The file can't be read or written.
    pub fn open(path: &Path) -> Result<Self, crate::store::Error> {
        let lines = kept(path)?;
        let disk = Disk::open(path).map_err(|source| crate::store::Error { path: path.to_owned(), source })?;
        Ok(Log(Mutex::new(Inner::new(lines, Some(disk), Some(path.to_owned())))))
    }

    /// Lines from now on carry the name of the switch, and go where the configuration says.
    pub fn configure(&self, model: &Model) {
        let mut inner = self.inner();
        model.hostname.clone_into(&mut inner.hostname);
        if inner.logging == model.logging {
            return;
        }
        inner.logging = model.logging.clone();
        inner.logfile = inner.logging.logfile();
        let Some(base) = inner.base.clone() else { return };
        let path = inner.logfile.as_ref().map(|file| match file.name.as_str() {
            LOGFILE => base.clone(),
            name => base.with_file_name(format!("log-{name}")),
        });
        if path.as_deref() != inner.disk.as_ref().map(Disk::path) {
            inner.use_file(path.as_deref());
        }
        let wanted = model.logging.servers.clone();
        inner.servers.retain(|host, sending| wanted.get(host) == Some(sending.server()));
        for (host, server) in wanted {
            inner.servers.entry(host.clone()).or_insert_with(|| Sending::start(&host, server));
        }
    }

    /// Writes a line of a part; severity is 0 (emergency) - 7 (debug). The line goes to the process's own log too.
    pub fn write(&self, part: &str, severity: u8, mnemonic: &str, text: &str) {
        self.write_at(SystemTime::now(), part, severity, mnemonic, text);
    }

    fn write_at(&self, now: SystemTime, part: &str, severity: u8, mnemonic: &str, text: &str) {
        let (part, mnemonic, severity) = (word(part), word(mnemonic), severity.min(7));
        let text = clean(text, TEXT_MAX);
        self.tell(&part, &mnemonic, &text);
        let text = format!("%{part}-{severity}-{mnemonic}: {text}");
        match severity {
            0..=3 => tracing::warn!("{text}"),
            4..=6 => tracing::info!("{text}"),
            _ => tracing::debug!("{text}"),
        }
        let mut inner = self.inner();
        if severity > inner.logging.level(&part) {
            return;
        }
        for sending in inner.servers.values().filter(|sending| severity <= sending.severity()) {
            sending.offer(Message::new(now, &inner.hostname, &part, severity, &mnemonic, &text));
        }
        let line = format!("{} {} {text}", stamp_to(now, inner.logging.timestamp), inner.hostname);
        let is_in_logfile = inner.logfile.as_ref().is_some_and(|file| severity <= file.severity);
        let size = inner.size();
        if is_in_logfile
            && let Some(disk) = &mut inner.disk
            && let Err(e) = disk.write(&line, size)
        {
            tracing::error!("the log file {}: {e}", disk.path().display());
        }
        if inner.lines.len() >= LINES_MAX {
            inner.lines.pop_front();
        }
        inner.lines.push_back(Line { severity, is_in_logfile, text: line });
        inner.written += 1;
    }

    /// Whoever has gone is forgotten; who is slow misses what finds no room.
    fn tell(&self, part: &str, mnemonic: &str, text: &str) {
        let [part, mnemonic, text] = [part, mnemonic, text].map(str::to_owned);
        let event = Event { part, mnemonic, text };
        let is_there = |to: &Sender<Event>| !matches!(to.try_send(event.clone()), Err(TrySendError::Disconnected(_)));
        self.inner().watchers.retain(is_there);
    }

    /// All lines from now on, of whatever severity; up to [`EVENTS_MAX`] wait.
    pub fn watch(&self) -> Receiver<Event> {
        let (sender, receiver) = bounded(EVENTS_MAX);
        self.inner().watchers.push(sender);
        receiver
    }

    /// The last `n` lines of the log file, oldest first.
    pub fn last(&self, n: usize) -> Vec<String> {
        let inner = self.inner();
        let mut lines: Vec<String> = inner.in_logfile().rev().take(n).map(|line| line.text.clone()).collect();
        lines.reverse();
        lines
    }

    /// The lines up to a severity that were written since this returned `seen`, as far as they are still kept, and what to
    /// ask with next time.
    pub fn since(&self, seen: u64, severity: u8) -> (Vec<String>, u64) {
        let inner = self.inner();
        let new = usize::try_from(inner.written.saturating_sub(seen)).unwrap_or(usize::MAX).min(inner.lines.len());
        let new = inner.lines.iter().skip(inner.lines.len() - new).filter(|line| line.severity <= severity);
        (new.map(|line| line.text.clone()).collect(), inner.written)
    }

    /// Forgets the lines of the log file.
    ///
    /// # Errors
    /// The disk; in memory they are forgotten.
    pub fn clear(&self) -> Result<(), String> {
        let mut inner = self.inner();
        inner.lines.retain(|line| !line.is_in_logfile);
        inner.disk.as_mut().map_or(Ok(()), Disk::clear).map_err(|e| e.to_string())
    }

    /// How it goes with the servers, by host.
    pub fn servers(&self) -> BTreeMap<String, Status> {
        self.inner().servers.iter().map(|(host, sending)| (host.clone(), sending.status())).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A line is pushed whole or not at all, so what a panicked writer left is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last lines of a file.
fn kept(path: &Path) -> Result<VecDeque<Line>, crate::store::Error> {
    let old = crate::store::read(path)?.unwrap_or_default();
    let old = String::from_utf8_lossy(&old);
    let count = old.lines().count();
    Ok(old.lines().skip(count.saturating_sub(LINES_MAX)).map(Line::read).collect())
}

/// `2026 Nov 21 01:02:03`, UTC. The day is padded with a blank.
pub fn stamp(now: SystemTime) -> String {
    stamp_to(now, Timestamp::Seconds)
}

fn stamp_to(now: SystemTime, exact: Timestamp) -> String {
    let t = OffsetDateTime::from(now);
    let month = t.month().to_string();
    let digits = match exact {
        Timestamp::Seconds => String::new(),
        Timestamp::Milliseconds => format!(".{:03}", t.millisecond()),
        Timestamp::Microseconds => format!(".{:06}", t.microsecond()),
    };
    let (day, hour, minute, second) = (t.day(), t.hour(), t.minute(), t.second());
    format!("{} {month:.3} {day:2} {hour:02}:{minute:02}:{second:02}{digits}", t.year())
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
    use crate::config::logging::File;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn lines_look_like_nx_os() {
        let log = Log::in_memory();
        log.write_at(at(1_795_222_923), "VEM_MGR", 2, "MOD_ONLINE", "Module 3 is online");
        log.configure(&Model { hostname: "n1000v".into(), ..Model::default() });
        log.write_at(at(951_782_400), "ethport", 5, "if-up", "Interface\nVethernet1\x1b[2J");
        assert_eq!(
            log.last(10),
            [
                "2026 Nov 21 01:02:03 switch %VEM_MGR-2-MOD_ONLINE: Module 3 is online",
                "2000 Feb 29 00:00:00 n1000v %ETHPORT-5-IF_UP: Interface?Vethernet1?[2J",
            ]
        );
        assert_eq!(stamp(at(1_796_094_245)), "2026 Dec  1 03:04:05");
    }

    #[test]
    fn memory_is_bounded_and_last_gives_the_newest() {
        let log = Log::in_memory();
        for i in 0..LINES_MAX + 5 {
            log.write_at(at(0), "A", 6, "B", &i.to_string());
        }
        assert_eq!(log.last(usize::MAX).len(), LINES_MAX);
        assert!(log.last(1)[0].ends_with(&format!("%A-6-B: {}", LINES_MAX + 4)));
        assert!(log.last(0).is_empty());
        let (lines, seen) = log.since(LINES_MAX as u64, 7);
        assert_eq!((lines.len(), log.since(seen, 7)), (5, (Vec::new(), seen)));
        assert_eq!(log.since(0, 6).0.len(), LINES_MAX);
        assert!(log.since(0, 5).0.is_empty());
        log.write("A", 6, "B", &"x".repeat(10_000));
        assert!(log.last(1)[0].len() < 600);
    }

    #[test]
    fn the_file_goes_on_after_a_restart_and_is_turned_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Log::open(&path).unwrap().write("A", 5, "FIRST", "1");
        let log = Log::open(&path).unwrap();
        assert!(log.last(1)[0].ends_with("%A-5-FIRST: 1"));
        log.inner().disk.as_mut().unwrap().octets = u64::from(SIZE);
        log.write("A", 5, "SECOND", "2");
        assert_eq!(log.last(9).len(), 2);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(std::fs::read_to_string(dir.path().join("log.1")).unwrap().contains("FIRST"));
    }

    fn configured(change: impl FnOnce(&mut Logging)) -> Model {
        let mut model = Model::default();
        change(&mut model.logging);
        model
    }

    #[test]
    fn severities_decide_what_goes_where() {
        let log = Log::in_memory();
        let write = |severity| log.write_at(at(0), "ethport", severity, "X", &severity.to_string());
        (0..8).for_each(write);
        assert_eq!((log.last(99).len(), log.since(0, 7).0.len()), (6, 6), "6 and 7 are not taken");
        log.configure(&configured(|logging| {
            logging.levels.insert("ethport".into(), 7);
            logging.file = File::Is(Logfile { name: LOGFILE.into(), severity: 3, size: None });
            logging.timestamp = Timestamp::Milliseconds;
        }));
        log.clear().unwrap();
        (0..8).for_each(write);
        assert_eq!((log.last(99).len(), log.since(0, 7).0.len(), log.since(0, 2).0.len()), (4, 8, 3));
        assert!(log.last(1)[0].contains(" 00:00:00.000 switch %"));
        log.configure(&configured(|logging| logging.file = File::Off));
        (0..8).for_each(write);
        assert_eq!(log.last(99).len(), 4);
    }

    #[test]
    fn another_file_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(&path).unwrap();
        log.write("A", 5, "X", "1");
        let mine = Logfile { name: "mine".into(), severity: 5, size: None };
        log.configure(&configured(|logging| logging.file = File::Is(mine.clone())));
        assert!(log.last(9).is_empty());
        log.write("A", 5, "X", "2");
        assert!(std::fs::read_to_string(dir.path().join("log-mine")).unwrap().ends_with("%A-5-X: 2\n"));
        log.configure(&Model::default());
        assert!(log.last(9)[0].ends_with(": 1"));
        log.clear().unwrap();
        assert_eq!((log.last(9).len(), std::fs::read_to_string(&path).unwrap()), (0, String::new()));
        log.configure(&configured(|logging| logging.file = File::Is(mine)));
        assert!(log.last(9)[0].ends_with(": 2"));
    }
}
