//! The socket of a vhost-user port on this host: looked at before it is opened, removed when its port is detached.
//!
//! The dataplane makes the socket, replaces one that was left over, and removes it with the port. Here is what it does not
//! know: a mistyped path, and a socket that a killed agent left for a port that is detached before it was opened again. A
//! socket is left over when a connection to it is refused; what somebody holds is never touched. Looking blocks on
//! nothing: a peer that does not accept counts as one that is there.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use vswitch::port::vhost::{Vhost, VhostState};

use super::Error;
use crate::request::vhost::{Role, VhostUser};

/// What is at the path of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Nothing,
    /// A socket that nobody listens at.
    Stale,
    /// A socket that somebody listens at.
    Held,
    /// A file, a directory, a symbolic link.
    Other,
}

/// Opens the port. The guest may come later.
///
/// # Errors
/// The directory is missing, something else is at the path, or the system refuses.
pub fn open(wanted: &VhostUser) -> Result<Vhost, Error> {
    let path = Path::new(&wanted.path);
    let refuse = |what: &str| Error::Socket { path: wanted.path.clone(), what: what.to_owned() };
    let folder = path.parent().unwrap_or(path);
    if !folder.is_dir() {
        return Err(refuse(&format!("the directory {} does not exist", folder.display())));
    }
    if look(path).map_err(|e| refuse(&e.to_string()))? == Found::Other {
        return Err(refuse("something that is not a socket is there"));
    }
    Ok(Vhost::open(&wanted.settings())?)
}

/// Removes a listening socket's file once the port is closed.
///
/// # Errors
/// The system refuses. A file that is gone, or is another's by now, is no error.
pub fn release(wanted: &VhostUser) -> Result<(), Error> {
    let path = Path::new(&wanted.path);
    let failed = |e: io::Error| Error::Socket { path: wanted.path.clone(), what: e.to_string() };
    match (wanted.role, look(path).map_err(failed)?) {
        (Role::Server, Found::Stale) => match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A guest is there, and its driver: rings of both ways run.
pub fn is_linked(state: &VhostState) -> bool {
    state.connected() && state.queue_pairs() > 0
}

fn look(path: &Path) -> io::Result<Found> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(e),
        Ok(file) if !file.file_type().is_socket() => return Ok(Found::Other),
        Ok(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::CONNREFUSED) => Ok(Found::Stale),
        Err(Errno::NOENT) => Ok(Found::Nothing),
        // Connected, waiting in a full queue, or a socket of another type: somebody is there.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(Found::Held),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;
    use crate::request::vhost::MODE;

    fn wanted(path: &Path, role: Role) -> VhostUser {
        VhostUser { path: path.display().to_string(), role, queues: 1, mode: MODE, owner: None }
    }

    fn refused(path: &Path, role: Role) -> String {
        open(&wanted(path, role)).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_socket_is_made_with_its_rights_and_goes_with_its_port() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mine = wanted(&path, Role::Server);
        let port = open(&mine).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(!port.state().connected());
        release(&mine).unwrap();
        assert!(path.exists(), "the port is still open");
        drop(port);
        assert!(!path.exists());
        release(&mine).unwrap();
    }

    #[test]
    fn what_a_killed_agent_left_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let port = open(&wanted(&path, Role::Server)).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(port);
        drop(UnixListener::bind(&path).unwrap());
        release(&wanted(&path, Role::Server)).unwrap();
        assert!(!path.exists(), "also when it was not opened again");
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(refused(&dir.path().join("none/s"), Role::Server).contains("none does not exist"));
        std::fs::write(&path, "text").unwrap();
        for role in [Role::Server, Role::Client] {
            assert!(refused(&path, role).contains("not a socket"));
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
        assert!(refused(&path.join("below"), Role::Server).contains("does not exist"), "a file is no directory");
        release(&wanted(&path, Role::Server)).unwrap();
        assert!(path.exists());

        let held = dir.path().join("held");
        let _listener = UnixListener::bind(&held).unwrap();
        assert!(refused(&held, Role::Server).contains("somebody listens"));
        release(&wanted(&held, Role::Server)).unwrap();
        assert!(held.exists());
        let datagrams = dir.path().join("datagrams");
        let _socket = UnixDatagram::bind(&datagrams).unwrap();
        assert!(refused(&datagrams, Role::Server).contains("somebody listens"));
        let link = dir.path().join("link");
        symlink(&held, &link).unwrap();
        assert!(refused(&link, Role::Server).contains("not a socket"));
    }

    #[test]
    fn a_listener_that_accepts_nobody_is_there_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        assert_eq!(look(&path).unwrap(), Found::Held);
    }

    #[test]
    fn a_client_waits_for_qemu_and_leaves_its_socket_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mine = wanted(&path, Role::Client);
        drop(open(&mine).unwrap());
        drop(UnixListener::bind(&path).unwrap());
        let port = open(&mine).unwrap();
        assert!(!port.state().connected());
        drop(port);
        release(&mine).unwrap();
        assert!(path.exists(), "it is QEMU's");
    }
}
