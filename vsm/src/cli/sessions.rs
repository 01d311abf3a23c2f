//! Sessions on streams of octets, a thread each: those of the console and those of SSH.
//!
//! ```text
//!   the console's socket   ──┐
//!                            ├─▶ stream ─▶ thread ─▶ [Terminal] ─▶ [Session]
//!   a channel of SSH  ──pair─┘
//! ```
//!
//! Whoever opens a session gives a stream and says what is spoken on it ([`Talk`]); from there on all sessions are the
//! same. A stream ends when its session does, and the other way round. Limits: the number of sessions, an idle time per
//! session, [`LINE_MAX`] characters a line, half a minute for a client that doesn't take output.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::account;
use super::console::{PREAMBLE, STATUS_CLOSED, STATUS_DONE, STATUS_REFUSED, split_commands};
use super::line::LINE_MAX;
use super::live::Live;
use super::logins::Visitor;
use super::scp;
use super::session::Session;
use super::terminal::Terminal;
use crate::aaa::accounting::chain::Kind;
use crate::supervisor::Handle;

/// How often a silent session looks at its idle time.
const TICK: Duration = Duration::from_secs(1);
/// A client that doesn't take output for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client is told when there is no room.
pub const TOO_MANY: &str = "ERROR: too many sessions\r\n";

/// The size of a client's window, which may change.
#[derive(Debug, Default)]
pub struct Window(AtomicU32);

impl Window {
    /// Rows and columns; no rows show everything at once, no columns are 80.
    pub fn set(&self, rows: u32, columns: u32) {
        let [rows, columns] = [rows, columns].map(|n| n.min(u32::from(u16::MAX)));
        self.0.store(rows << 16 | columns, Ordering::Relaxed);
    }

    fn get(&self) -> (usize, usize) {
        let size = self.0.load(Ordering::Relaxed);
        let (rows, columns) = ((size >> 16) as usize, (size & 0xffff) as usize);
        (rows, if columns == 0 { 80 } else { columns })
    }
}

/// What is spoken on a stream.
pub enum Talk {
    /// What the client's first line says: a terminal or a batch.
    AsAnnounced,
    /// A terminal with this window; it begins with an empty line.
    Terminal(Arc<Window>),
    /// These commands are run, and what they print is written; nothing is read.
    Commands {
        /// The commands, separated by ` ; ` or line ends.
        text: String,
        /// Lines end as a terminal wants it.
        crlf: bool,
        /// Becomes true when a command is refused.
        refused: Arc<AtomicBool>,
    },
    /// A file is copied.
    Copy {
        /// Which, and which way.
        request: scp::Request,
        /// Becomes true when it is refused.
        refused: Arc<AtomicBool>,
    },
}

/// The sessions of one server.
pub struct Sessions {
    handle: Handle,
    most: usize,
    /// A minute of idle times; shorter in tests.
    minute: Duration,
    open: Mutex<BTreeMap<u64, UnixStream>>,
}

impl Sessions {
    /// No sessions yet, and never more than `most`.
    pub fn new(handle: Handle, most: usize) -> Arc<Self> {
        Self::with_minute(handle, most, Duration::from_secs(60))
    }

    pub(crate) fn with_minute(handle: Handle, most: usize, minute: Duration) -> Arc<Self> {
        Arc::new(Sessions { handle, most, minute, open: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, UnixStream>> {
        // The map is changed by one insert or remove at a time, so what a panicked thread left is sound.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session on a stream.
    ///
    /// # Errors
    /// There are too many, or the system has no thread or descriptor left; the stream is given up.
    pub fn open(self: &Arc<Self>, stream: UnixStream, visitor: Visitor, talk: Talk) -> io::Result<()> {
        let copy = stream.try_clone()?;
        let limit = visitor.from.and(self.handle.model().lines.vty_sessions).map_or(self.most, usize::from);
        let mut open = self.lock();
        if open.len() >= limit.min(self.most) {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many sessions"));
        }
        let user = visitor.user.clone();
        let id = self.handle.logins().begin(visitor.clone(), SystemTime::now());
        open.insert(id, copy);
        drop(open);
        account::session_of(&self.handle, &visitor, id, Kind::Start);
        let place = Place { id, visitor, sessions: self.clone() };
        let run = move || {
            let place = place;
            let session = Session::of(place.sessions.handle.clone(), id, user);
            let line = Line { stream: &stream, minute: place.sessions.minute };
            if let Err(error) = line.converse(session, talk) {
                tracing::debug!("session: {error}");
            }
            let _ = stream.shutdown(Shutdown::Both);
        };
        std::thread::Builder::new().name("session".into()).spawn(run).map(drop)
    }

    /// Ends all sessions.
    pub fn end(&self) {
        for stream in self.lock().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A session's place; given back also when the session's thread panics or never starts.
struct Place {
    id: u64,
    visitor: Visitor,
    sessions: Arc<Sessions>,
}

impl Drop for Place {
    fn drop(&mut self) {
        account::session_of(&self.sessions.handle, &self.visitor, self.id, Kind::Stop);
        self.sessions.handle.logins().end(self.id);
        self.sessions.lock().remove(&self.id);
    }
}

/// The stream of a session.
struct Line<'a> {
    stream: &'a UnixStream,
    minute: Duration,
}

impl Line<'_> {
    fn converse(&self, mut session: Session, talk: Talk) -> io::Result<()> {
        self.stream.set_read_timeout(Some(TICK.min(self.minute)))?;
        self.stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        match talk {
            Talk::AsAnnounced => self.as_announced(session),
            Talk::Terminal(window) => {
                // Clients know a prompt by the line end before it, also the first.
                let mut stream = self.stream;
                stream.write_all(b"\r\n")?;
                self.terminal(session, Vec::new(), &window)
            }
            Talk::Copy { request, refused } => {
                self.stream.set_read_timeout(Some(WRITE_TIMEOUT))?;
                refused.store(!scp::copy(&session, &request, self.stream)?, Ordering::Relaxed);
                Ok(())
            }
            Talk::Commands { text, crlf, refused } => {
                session.set_live(Live::new(self.stream, crlf, false).ok());
                for command in split_commands(&text) {
                    let mut printed = session.run_line(command);
                    if !session.went_well() {
                        refused.store(true, Ordering::Relaxed);
                    }
                    if crlf {
                        printed = printed.replace('\n', "\r\n");
                    }
                    let mut stream = self.stream;
                    stream.write_all(printed.as_bytes())?;
                    if session.is_closed() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn as_announced(&self, session: Session) -> io::Result<()> {
        let mut typed = Vec::new();
        let mut waited = Instant::now();
        // The preamble, or as much as shows that there is none.
        loop {
            let beginning = typed.len().min(PREAMBLE.len());
            if typed[..beginning] != PREAMBLE.as_bytes()[..beginning] || typed.contains(&b'\n') || typed.len() > 128 {
                break;
            }
            match self.read(&mut typed, &mut waited, session.timeout_min())? {
                Some(true) => {}
                Some(false) => break,
                None => return Ok(()),
            }
        }
        let line_end = typed.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        let hello = String::from_utf8_lossy(&typed[..line_end]).into_owned();
        let window = Window::default();
        match hello.strip_prefix(PREAMBLE).map(|rest| rest.split_whitespace().collect::<Vec<_>>()).as_deref() {
            Some(["batch"]) => return self.batch(session, &typed[line_end..]),
            Some(["terminal", rows, columns]) => {
                window.set(rows.parse().unwrap_or(24), columns.parse().unwrap_or(80));
                typed.drain(..line_end);
            }
            _ => {}
        }
        self.terminal(session, typed, &window)
    }

    /// Reads what there is; `None` at the end of the connection or of the idle time, `Some(false)` after a silent tick.
    fn read(&self, into: &mut Vec<u8>, since: &mut Instant, idle_min: u32) -> io::Result<Option<bool>> {
        let mut buffer = [0; 4096];
        let mut stream = self.stream;
        match stream.read(&mut buffer) {
            Ok(0) => Ok(None),
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                *since = Instant::now();
                Ok(Some(true))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let is_over = idle_min != 0 && since.elapsed() >= self.minute.saturating_mul(idle_min);
                Ok((!is_over).then_some(false))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }

    fn terminal(&self, mut session: Session, mut typed: Vec<u8>, window: &Window) -> io::Result<()> {
        let mut size = window.get();
        session.set(|settings| (settings.length, settings.width) = size);
        session.set_live(Live::new(self.stream, true, true).ok());
        let mut shown = Vec::new();
        let mut terminal = Terminal::new(session, &mut shown);
        let mut since = Instant::now();
        let mut seen = None;
        loop {
            let before = std::mem::replace(&mut size, window.get());
            terminal.resize(before, size);
            terminal.receive(&typed, &mut shown);
            typed.clear();
            seen = log_lines(&mut terminal, seen, &mut shown);
            let mut stream = self.stream;
            stream.write_all(&shown)?;
            shown.clear();
            if terminal.session().is_closed() {
                return Ok(());
            }
            if self.read(&mut typed, &mut since, terminal.session().timeout_min())?.is_none() {
                return Ok(());
            }
        }
    }

    fn batch(&self, mut session: Session, typed: &[u8]) -> io::Result<()> {
        let idle = self.minute.saturating_mul(session.timeout_min());
        self.stream.set_read_timeout(Some(idle))?;
        let mut lines = BufReader::new(typed.chain(self.stream));
        while !session.is_closed() {
            let mut line = Vec::new();
            let limit = 4 * LINE_MAX as u64;
            lines.by_ref().take(limit).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let text = session.run_line(line.trim_end_matches(['\r', '\n']));
            let status = match (session.is_closed(), !session.went_well()) {
                (true, _) => STATUS_CLOSED,
                (_, true) => STATUS_REFUSED,
                _ => STATUS_DONE,
            };
            let length = u32::try_from(text.len()).map_err(|_| io::Error::other("an answer of more than 4 GiB"))?;
            let mut answer = vec![status];
            answer.extend(length.to_be_bytes());
            answer.extend(text.as_bytes());
            let mut stream = self.stream;
            stream.write_all(&answer)?;
        }
        Ok(())
    }
}

/// Shows the log lines since `seen`: at the console the grave ones, with `terminal monitor` more of them. Gives the new
/// place in the log.
fn log_lines(terminal: &mut Terminal, seen: Option<u64>, shown: &mut Vec<u8>) -> Option<u64> {
    let session = terminal.session();
    let severity = session.log_severity()?;
    let (lines, now) = session.handle.log().since(seen.unwrap_or(u64::MAX), severity);
    if seen.is_some() && !lines.is_empty() {
        terminal.notify(&lines.join("\n"), shown);
    }
    Some(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Model;

    fn open(minute: Duration, talk: Talk) -> (Arc<Sessions>, UnixStream) {
        let sessions = Sessions::with_minute(Handle::detached(Model::default()), 1, minute);
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        sessions.open(theirs, Visitor::default(), talk).unwrap();
        (sessions, ours)
    }

    fn rest(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_silent_session_is_ended() {
        let (_sessions, mut stream) = open(Duration::from_millis(20), Talk::Terminal(Arc::default()));
        stream.write_all(b"terminal session-timeout 5\n").unwrap();
        let begun = Instant::now();
        assert!(rest(stream).ends_with("terminal session-timeout 5\r\nswitch# "));
        assert!(begun.elapsed() >= Duration::from_millis(90));
    }

    #[test]
    fn a_new_size_is_known_with_the_next_key() {
        let window = Arc::new(Window::default());
        window.set(0, 100);
        let (_sessions, mut stream) = open(Duration::from_secs(60), Talk::Terminal(window.clone()));
        stream.read_exact(&mut [0; 10]).unwrap();
        window.set(0, 132);
        stream.write_all(b"show terminal | include Width\nexit\n").unwrap();
        assert!(rest(stream).contains("Width: 132 columns"));
    }

    #[test]
    fn commands_print_and_tell_whether_one_was_refused() {
        for (text, crlf, want, is_refused) in [
            ("show hostname ; conf t | count", false, "switch\n1\n", false),
            ("show hostname\nfrob", true, "switch\r\n^\r\n% Invalid command at '^' marker.\r\n", true),
            ("exit ; show hostname", false, "", false),
        ] {
            let refused = Arc::new(AtomicBool::new(false));
            let talk = Talk::Commands { text: text.to_owned(), crlf, refused: refused.clone() };
            let (_sessions, stream) = open(Duration::from_secs(60), talk);
            assert_eq!((rest(stream).as_str(), refused.load(Ordering::Relaxed)), (want, is_refused), "{text}");
        }
    }

    #[test]
    fn lines_are_configured() {
        let mut model = Model::default();
        model.lines.vty_timeout_min = Some(2);
        model.lines.vty_sessions = Some(1);
        let sessions = Sessions::with_minute(Handle::detached(model), 9, Duration::from_millis(20));
        let open = |visitor| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            sessions.open(theirs, visitor, Talk::Terminal(Arc::default())).map(|()| ours)
        };
        let ssh = || Visitor { user: Some("x".into()), from: Some([192, 0, 2, 1].into()), ..Visitor::default() };
        let begun = Instant::now();
        let first = open(ssh()).unwrap();
        assert!(open(ssh()).is_err(), "one at a time");
        open(Visitor::default()).unwrap();
        rest(first);
        assert!((Duration::from_millis(30)..Duration::from_secs(10)).contains(&begun.elapsed()));
    }

    #[test]
    fn there_is_an_end_to_their_number() {
        let (sessions, mut stream) = open(Duration::from_secs(60), Talk::Terminal(Arc::default()));
        stream.read_exact(&mut [0; 10]).unwrap();
        let more = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            sessions.open(theirs, Visitor::default(), Talk::Terminal(Arc::default())).map(|()| ours)
        };
        assert!(more().is_err());
        sessions.end();
        assert_eq!(rest(stream), "");
        while more().is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
