//! The supervisor's side.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};

use super::{PREAMBLE, SESSIONS_MAX, STATUS_CLOSED, STATUS_DONE, STATUS_REFUSED};
use crate::cli::line::LINE_MAX;
use crate::cli::session::Session;
use crate::cli::terminal::Terminal;
use crate::supervisor::Handle;

/// How often a silent session looks at its idle time.
const TICK: Duration = Duration::from_secs(1);
/// A client that doesn't take output for this long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Sessions {
    next: u64,
    open: BTreeMap<u64, UnixStream>,
}

type Shared = Arc<Mutex<Sessions>>;

fn lock(sessions: &Shared) -> MutexGuard<'_, Sessions> {
    // The map is changed by one insert or remove at a time, so what a panicked thread left is sound.
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The console's server; it stops when it is dropped.
pub struct Server {
    path: PathBuf,
    wake: UnixStream,
    sessions: Shared,
    thread: Option<JoinHandle<()>>,
}

/// Listens on `path`. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// The socket can't be made, or another supervisor listens on it (`AddrInUse`).
pub fn serve(path: &Path, handle: Handle) -> io::Result<Server> {
    match UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another supervisor listens on the console socket"));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let (wake, woken) = UnixStream::pair()?;
    let sessions = Shared::default();
    let shared = sessions.clone();
    let accept = move || accept(&listener, &woken, &shared, &handle);
    let thread = std::thread::Builder::new().name("console".into()).spawn(accept)?;
    Ok(Server { path: path.to_owned(), wake, sessions, thread: Some(thread) })
}

impl Server {
    /// Ends all sessions and removes the socket.
    pub fn stop(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.wake.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for stream in lock(&self.sessions).open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, woken: &UnixStream, sessions: &Shared, handle: &Handle) {
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return tracing::error!("console: {error}"),
        }
        if !ready[1].revents().is_empty() {
            return;
        }
        if ready[0].revents().is_empty() {
            continue;
        }
        match listener.accept() {
            Ok((stream, _)) => welcome(stream, sessions, handle),
            Err(error) => {
                // Out of descriptors, most likely: others must close first.
                tracing::warn!("console: {error}");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid();
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own)
}

fn welcome(mut stream: UnixStream, sessions: &Shared, handle: &Handle) {
    if !is_trusted(&stream) {
        return tracing::warn!("console: a connection of another user was refused");
    }
    let Ok(copy) = stream.try_clone() else { return };
    let mut open = lock(sessions);
    if open.open.len() >= SESSIONS_MAX {
        let _ = stream.write_all(b"ERROR: too many sessions\r\n");
        return;
    }
    let id = open.next;
    open.next += 1;
    open.open.insert(id, copy);
    drop(open);
    let pid = rustix::net::sockopt::socket_peercred(&stream).ok();
    let pid = pid.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
    handle.logins().begin(id, pid, SystemTime::now());
    let place = Place { id, sessions: sessions.clone(), handle: handle.clone() };
    let handle = handle.clone();
    let run = move || {
        let _place = place;
        if let Err(error) = converse(&stream, Session::at_console(handle, id)) {
            tracing::debug!("console session: {error}");
        }
        let _ = stream.shutdown(Shutdown::Both);
    };
    if let Err(error) = std::thread::Builder::new().name("session".into()).spawn(run) {
        tracing::warn!("console: {error}");
    }
}

/// A session's place among [`SESSIONS_MAX`]; given back also when the session's thread panics.
struct Place {
    id: u64,
    sessions: Shared,
    handle: Handle,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handle.logins().end(self.id);
        lock(&self.sessions).open.remove(&self.id);
    }
}

fn converse(stream: &UnixStream, mut session: Session) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let mut typed = Vec::new();
    let mut waited = Instant::now();
    // The preamble, or as much as shows that there is none.
    loop {
        let beginning = typed.len().min(PREAMBLE.len());
        if typed[..beginning] != PREAMBLE.as_bytes()[..beginning] || typed.contains(&b'\n') || typed.len() > 128 {
            break;
        }
        match read(stream, &mut typed, &mut waited, session.settings().timeout_min)? {
            Some(true) => {}
            Some(false) => break,
            None => return Ok(()),
        }
    }
    let line_end = typed.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    let hello = String::from_utf8_lossy(&typed[..line_end]).into_owned();
    match hello.strip_prefix(PREAMBLE).map(|rest| rest.split_whitespace().collect::<Vec<_>>()).as_deref() {
        Some(["batch"]) => return batch(stream, session, &typed[line_end..]),
        Some(["terminal", rows, columns]) => {
            let (rows, columns) = (rows.parse().unwrap_or(24), columns.parse().unwrap_or(80));
            session.set(|settings| {
                settings.length = rows;
                settings.width = if columns == 0 { 80 } else { columns };
            });
            typed.drain(..line_end);
        }
        _ => {}
    }
    terminal(stream, session, typed)
}

/// Reads what there is; `None` at the end of the connection or of the idle time, `Some(false)` after a silent tick.
fn read(mut stream: &UnixStream, into: &mut Vec<u8>, since: &mut Instant, idle_min: u32) -> io::Result<Option<bool>> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Ok(None),
        Ok(count) => {
            into.extend_from_slice(&buffer[..count]);
            *since = Instant::now();
            Ok(Some(true))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            let is_over = idle_min != 0 && since.elapsed() >= Duration::from_secs(60 * u64::from(idle_min));
            Ok((!is_over).then_some(false))
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

fn terminal(mut stream: &UnixStream, session: Session, mut typed: Vec<u8>) -> io::Result<()> {
    let mut shown = Vec::new();
    let mut terminal = Terminal::new(session, &mut shown);
    let mut since = Instant::now();
    let mut seen = None;
    loop {
        terminal.receive(&typed, &mut shown);
        typed.clear();
        seen = log_lines(&mut terminal, seen, &mut shown);
        stream.write_all(&shown)?;
        shown.clear();
        if terminal.session().is_closed() {
            return Ok(());
        }
        if read(stream, &mut typed, &mut since, terminal.session().settings().timeout_min)?.is_none() {
            return Ok(());
        }
    }
}

/// `terminal monitor`: shows the log lines since `seen`, and gives the new place in the log.
fn log_lines(terminal: &mut Terminal, seen: Option<u64>, shown: &mut Vec<u8>) -> Option<u64> {
    if !terminal.session().settings().monitor {
        return None;
    }
    let (lines, now) = terminal.session().handle.log().since(seen.unwrap_or(u64::MAX));
    if seen.is_some() && !lines.is_empty() {
        terminal.notify(&lines.join("\n"), shown);
    }
    Some(now)
}

fn batch(stream: &UnixStream, mut session: Session, typed: &[u8]) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60 * u64::from(session.settings().timeout_min))))?;
    let mut lines = BufReader::new(typed.chain(stream));
    while !session.is_closed() {
        let mut line = Vec::new();
        let limit = 4 * LINE_MAX as u64;
        lines.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        let text = session.run_line(line.trim_end_matches(['\r', '\n']));
        let status = match (session.is_closed(), session.has_failed()) {
            (true, _) => STATUS_CLOSED,
            (_, true) => STATUS_REFUSED,
            _ => STATUS_DONE,
        };
        let length = u32::try_from(text.len()).map_err(|_| io::Error::other("an answer of more than 4 GiB"))?;
        let mut answer = vec![status];
        answer.extend(length.to_be_bytes());
        answer.extend(text.as_bytes());
        (&mut &*stream).write_all(&answer)?;
    }
    Ok(())
}
