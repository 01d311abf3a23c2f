//! When something happened at a Unix socket, finely enough to be measured.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Tried};
use crate::netns::within;

/// When a socket was made anew, on the clock of this program.
pub(super) fn await_socket(socket: &Path, since: Instant, limit: Duration) -> Result<Instant> {
    let (now, system) = (Instant::now(), std::time::SystemTime::now());
    let made = |path: &Path| -> Option<Instant> {
        let modified = path.symlink_metadata().and_then(|m| m.modified()).ok()?;
        match modified.duration_since(system) {
            Ok(later) => now.checked_add(later),
            Err(earlier) => now.checked_sub(earlier.duration()),
        }
    };
    poll(&format!("a new {}", socket.display()), limit, || Ok(made(socket).filter(|at| *at >= since)))
}

/// Waits until somebody is connected to a socket.
pub(super) fn await_connection(netns: &str, socket: &Path, limit: Duration) -> Result<Instant> {
    let path = socket.display().to_string();
    poll(&format!("a connection at {path}"), limit, || {
        let sockets = within(netns, || std::fs::read_to_string("/proc/thread-self/net/unix").tried("/proc/net/unix"))?;
        // Number, references, protocol, flags, type, state (3: connected), inode, path.
        let connected = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(5) == Some(&"03") && words.get(7) == Some(&path.as_str())
        };
        Ok(sockets.lines().any(connected).then(Instant::now))
    })
}

/// As [`crate::lab::wait`], but often enough to time what it waits for.
fn poll<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Error::Late { what: what.to_owned(), seconds: limit.as_secs(), detail: String::new() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
