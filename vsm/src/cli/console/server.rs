//! The supervisor's side.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::SESSIONS_MAX;
use crate::cli::logins::Visitor;
use crate::cli::sessions::{Sessions, TOO_MANY, Talk};
use crate::supervisor::Handle;

/// The console's server; it stops when it is dropped.
pub struct Server {
    path: PathBuf,
    wake: UnixStream,
    sessions: Arc<Sessions>,
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
    let sessions = Sessions::new(handle, SESSIONS_MAX);
    let shared = sessions.clone();
    let accept = move || accept(&listener, &woken, &shared);
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
        self.sessions.end();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, woken: &UnixStream, sessions: &Arc<Sessions>) {
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
            Ok((stream, _)) => welcome(stream, sessions),
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

fn welcome(stream: UnixStream, sessions: &Arc<Sessions>) {
    if !is_trusted(&stream) {
        return tracing::warn!("console: a connection of another user was refused");
    }
    let pid = rustix::net::sockopt::socket_peercred(&stream).ok();
    let pid = pid.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok());
    let Ok(mut copy) = stream.try_clone() else { return };
    match sessions.open(stream, Visitor { pid, ..Visitor::default() }, Talk::AsAnnounced) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
            let _ = copy.write_all(TOO_MANY.as_bytes());
        }
        Err(error) => tracing::warn!("console: {error}"),
    }
}
