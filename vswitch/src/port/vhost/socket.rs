//! The socket of a port, and the thread that negotiates on it.
//!
//! The thread sleeps until a front end connects or speaks, or the port is dropped. Messages are taken by the vhost crate, whose
//! reads and writes wait for as long as it takes; so it is only asked when a whole message has come and there is room for
//! the answer. A front end that leaves a message half done, or answers unread, loses its connection after [`PATIENCE`].
//!
//! As a server we have the path: it is made with the wanted owner and mode, replaces a socket that nobody listens on any
//! more, and is removed when the port is dropped. As a client we look for the front end every [`RETRY`]. One front end at a time is
//! served; others wait to be accepted.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Gid, Mode, Uid, chmod, chown, fchmod, lstat, unlink};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recv,
    socket_with,
};
use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};

use super::device::Device;
use super::early;
use super::shared::{CALL_MAX, Shared};
use super::{Role, Settings};

/// How long a front end may take to end a message that it has begun, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a client looks for its server.
const RETRY: Duration = Duration::from_millis(200);
/// How long nobody is served after a front end that held a worker up.
const PENALTY: Duration = Duration::from_secs(10);
/// How often the rest of a message is looked for.
const GLANCE: Duration = Duration::from_millis(2);
/// Octets of a message's header.
const HEADER: usize = 12;
/// Most octets behind it.
const BODY_MAX: u32 = 4096;
/// Front ends that wait to be accepted.
const BACKLOG: i32 = 4;

/// What the thread needs.
pub(super) struct Negotiation {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    /// Readable when the port is dropped.
    pub(super) stop: OwnedFd,
}

/// Where front ends come from.
pub(super) enum Place {
    Server(Bound),
    Client(SocketAddrUnix),
}

/// A socket that listens on a path of ours.
pub(super) struct Bound {
    socket: OwnedFd,
    settings: Settings,
    /// Of the path, so that nobody else's is removed.
    device: u64,
    inode: u64,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = |meta: &std::fs::Metadata| (meta.dev(), meta.ino()) == (self.device, self.inode);
        if std::fs::symlink_metadata(&self.settings.path).is_ok_and(|meta| ours(&meta)) {
            let _ = unlink(&self.settings.path);
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Makes way for our socket: a socket at `path` that nobody listens on goes; anything else stays.
fn clear_path(path: &Path, address: &SocketAddrUnix) -> Result<(), Errno> {
    match lstat(path) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => Err(Errno::EXIST),
        Ok(_) => match connect(new_socket()?, address) {
            Err(Errno::CONNREFUSED) => unlink(path),
            _ => Err(Errno::ADDRINUSE),
        },
    }
}

impl Place {
    /// Listens, or gets ready to look for the server.
    pub(super) fn open(settings: &Settings) -> Result<Place, (&'static str, Errno)> {
        let address = SocketAddrUnix::new(&settings.path).map_err(|errno| ("path of the socket", errno))?;
        if settings.role == Role::Client {
            return Ok(Place::Client(address));
        }
        let path = settings.path.as_path();
        clear_path(path, &address).map_err(|errno| ("look at the path", errno))?;
        let socket = new_socket().map_err(|errno| ("socket", errno))?;
        // Nobody else may connect before the owner and the mode are those that were asked for.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| ("fchmod", errno))?;
        bind(&socket, &address).map_err(|errno| ("bind", errno))?;
        let stat = lstat(path).map_err(|errno| ("lstat", errno))?;
        let bound = Bound { socket, settings: settings.clone(), device: stat.st_dev, inode: stat.st_ino };
        if let Some((user, group)) = settings.owner {
            chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(|errno| ("chown", errno))?;
        }
        let mode = Mode::from_raw_mode(settings.mode.unwrap_or(super::MODE) & 0o777);
        chmod(path, mode).map_err(|errno| ("chmod", errno))?;
        listen(&bound.socket, BACKLOG).map_err(|errno| ("listen", errno))?;
        Ok(Place::Server(bound))
    }
}

/// Why a connection is over.
enum End {
    /// The port is dropped.
    Stop,
    /// The front end went away.
    Gone,
    /// It was sent away.
    Refused(String),
    /// It was sent away for holding a worker up, and may not come again soon.
    Blocked,
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() }
}

impl Negotiation {
    /// The thread: one front end after another, until the port is dropped.
    pub(super) fn run(self) {
        while let Some(socket) = self.meet() {
            let state = &self.shared.state;
            let device = Arc::new(Mutex::new(Device::new(Arc::clone(&self.shared))));
            state.set_connected(true);
            let end = self.serve(&socket, &device);
            device.lock().unwrap_or_else(PoisonError::into_inner).clear();
            match &end {
                End::Refused(why) => state.set_error(why.clone()),
                End::Blocked => state.set_error("a call descriptor that blocks".to_owned()),
                End::Stop | End::Gone => {}
            }
            state.set_connected(false);
            // Now: who sees it closed sees all of the above.
            drop(socket);
            // A peer that is refused, or hangs up, and is there again at once must not keep us busy.
            let pause = match (&end, &self.place) {
                (End::Stop, _) => return,
                (End::Blocked, _) => PENALTY,
                (End::Refused(_), _) | (End::Gone, Place::Client(_)) => RETRY,
                (End::Gone, Place::Server(_)) => continue,
            };
            if self.wait(None, Some(pause)).is_none() {
                return;
            }
        }
    }

    /// Waits until `fd` has one of `events`; `None` when the port is dropped first.
    fn wait(&self, fd: Option<(&OwnedFd, PollFlags)>, time: Option<Duration>) -> Option<bool> {
        let timeout = time.map(timespec);
        let stop = PollFd::new(&self.stop, PollFlags::IN);
        let (other, events) = fd.unwrap_or((&self.stop, PollFlags::IN));
        let mut fds = [stop, PollFd::new(other, events)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Out of memory in the kernel: later, perhaps.
            Err(_) => std::thread::sleep(GLANCE),
        }
        let [stop, other] = &fds;
        stop.revents().is_empty().then(|| !other.revents().is_empty())
    }

    /// The next front end; `None` when the port is dropped.
    fn meet(&self) -> Option<OwnedFd> {
        loop {
            match &self.place {
                Place::Server(bound) => {
                    if self.wait(Some((&bound.socket, PollFlags::IN)), None)? {
                        match accept_with(&bound.socket, SocketFlags::CLOEXEC) {
                            Ok(socket) => return Some(socket),
                            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                            Err(errno) => {
                                // Such as too many open files. It stays readable, so wait a little.
                                self.shared.state.set_error(format!("accept: {errno}"));
                                self.wait(None, Some(RETRY))?;
                            }
                        }
                    }
                }
                Place::Client(address) => {
                    let connected = new_socket().and_then(|socket| connect(&socket, address).map(|()| socket));
                    // The vhost crate expects a socket that blocks.
                    let flags = rustix::fs::OFlags::empty();
                    match connected.and_then(|socket| rustix::fs::fcntl_setfl(&socket, flags).map(|()| socket)) {
                        Ok(socket) => return Some(socket),
                        Err(_) => {
                            self.wait(None, Some(RETRY))?;
                        }
                    }
                }
            }
        }
    }

    /// Answers a front end until it is gone.
    fn serve(&self, socket: &OwnedFd, device: &Arc<Mutex<Device>>) -> End {
        let stream = match socket.try_clone() {
            Ok(stream) => UnixStream::from(stream),
            Err(error) => return End::Refused(format!("dup: {error}")),
        };
        let mut requests = BackendReqHandler::from_stream(stream, Arc::clone(device));
        loop {
            match self.message(socket) {
                Ok(true) => {}
                Ok(false) => return End::Stop,
                Err(end) => return end,
            }
            match early::take(socket, &mut device.lock().unwrap_or_else(PoisonError::into_inner)) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(why) => return End::Refused(format!("refused: {why}")),
            }
            match requests.handle_request() {
                Ok(()) => {}
                Err(ProtocolError::Disconnected | ProtocolError::SocketBroken(_)) => return End::Gone,
                Err(error) => return End::Refused(explain(&error)),
            }
        }
    }

    /// Waits until a whole message is there, and room for its answer. `false` when the port is dropped.
    fn message(&self, socket: &OwnedFd) -> Result<bool, End> {
        loop {
            match self.wait(Some((socket, PollFlags::IN)), Some(CALL_MAX)) {
                None => return Ok(false),
                Some(_) if self.shared.is_blocked() => return Err(End::Blocked),
                Some(true) => break,
                Some(false) => {}
            }
        }
        let begun = Instant::now();
        while !whole(socket)? {
            if begun.elapsed() > PATIENCE {
                return Err(End::Refused("half a message, and no more".to_owned()));
            }
            // The front end may hang up, in the middle or just behind the message.
            match self.wait(Some((socket, PollFlags::RDHUP)), Some(GLANCE)) {
                None => return Ok(false),
                Some(true) if !whole(socket)? => return Err(End::Gone),
                Some(_) => {}
            }
        }
        match self.wait(Some((socket, PollFlags::OUT)), Some(PATIENCE)) {
            None => Ok(false),
            Some(true) => Ok(true),
            Some(false) => Err(End::Refused("our answers are not read".to_owned())),
        }
    }
}

/// A whole message is there; or the front end is gone.
fn whole(socket: &OwnedFd) -> Result<bool, End> {
    let mut header = [0u8; HEADER];
    let peek = recv(socket.as_fd(), &mut header[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    let seen = match peek {
        Ok((_, 0)) => return Err(End::Gone),
        Ok((_, seen)) => seen,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
        Err(_) => return Err(End::Gone),
    };
    if seen < HEADER {
        return Ok(false);
    }
    let body = header.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size));
    if body > BODY_MAX {
        return Err(End::Refused("a message that is too long".to_owned()));
    }
    let there = rustix::io::ioctl_fionread(socket).map_err(|_| End::Gone)?;
    Ok(there >= HEADER as u64 + u64::from(body))
}

fn explain(error: &ProtocolError) -> String {
    match error {
        ProtocolError::InvalidOperation(what) => format!("refused: {what}"),
        other => format!("refused: {other}"),
    }
}

/// An error of the system in the words of `io`.
pub(super) fn system(errno: Errno) -> io::Error {
    errno.into()
}
