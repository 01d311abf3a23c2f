//! The console: `vsm cli` on a Unix socket.
//!
//! ```text
//!   client                                            server, a thread per session
//!   "vsm-console/1 terminal ROWS COLUMNS\n"     ──▶   octets typed ──▶ [Terminal] ──▶ octets shown
//!   "vsm-console/1 batch\n", then a line each   ──▶   run, answered by: status octet, length (4, big-endian), text
//! ```
//!
//! A connection that begins otherwise is a terminal whose first octets have been typed, so `socat` will do too.
//! The socket belongs to the supervisor's user with mode 0600, and the peer's user id is checked as well, as the mode
//! alone would leave the moment between creating the socket and setting it. Limits: [`SESSIONS_MAX`] sessions, an idle
//! time per session, [`super::line::LINE_MAX`] characters a line.

mod client;
mod server;

use std::io;
use std::path::PathBuf;

pub use client::{attach, split_commands};
pub use server::{Server, serve};

/// Most sessions at a time.
pub const SESSIONS_MAX: usize = 32;

pub(super) const PREAMBLE: &str = "vsm-console/1 ";

/// What became of a line of a batch.
pub(super) const STATUS_DONE: u8 = 0;
pub(super) const STATUS_REFUSED: u8 = 1;
/// Done, and the session has ended.
pub(super) const STATUS_CLOSED: u8 = 2;

/// Why the console could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or not to us.
    #[error("{}: {source}; is the supervisor running, and are you its user?", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The terminal or the connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The supervisor does not want the session, and says why.
    #[error("{0}")]
    Refused(String),
    /// The supervisor went away in the middle of a command.
    #[error("the supervisor has closed the session")]
    Closed,
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    fn start() -> (tempfile::TempDir, PathBuf, Server) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cli");
        let server = serve(&path, Handle::detached(Model::default())).unwrap();
        (folder, path, server)
    }

    fn connect(path: &PathBuf, hello: &[u8]) -> UnixStream {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(hello).unwrap();
        stream
    }

    fn rest(mut stream: UnixStream) -> String {
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_terminal_by_preamble_and_without() {
        let (_folder, path, server) = start();
        let text = rest(connect(&path, b"vsm-console/1 terminal 0 80\nfrob\rexit\r"));
        assert_eq!(text, "switch# frob\r\n        ^\r\n% Invalid command at '^' marker.\r\nswitch# exit\r\n");
        assert_eq!(rest(connect(&path, b"exit\n")), "switch# exit\r\n");
        server.stop();
        assert!(!path.exists());
    }

    #[test]
    fn a_batch_answers_every_line_with_its_status() {
        let (_folder, path, _server) = start();
        let mut stream = connect(&path, b"vsm-console/1 batch\n");
        let (mut failed, mut out) = (false, Vec::new());
        let lines = ["terminal width 100", "frob", "conf t | count", "end", "exit"].map(str::to_owned);
        client::run_batch(&mut stream, lines.into_iter().map(Ok), &mut out, &mut failed).unwrap();
        assert!(failed);
        assert_eq!(String::from_utf8(out).unwrap(), "^\n% Invalid command at '^' marker.\n1\n");
    }

    #[test]
    fn who_is_there_is_shown_until_he_leaves() {
        let (_folder, path, _server) = start();
        let other = connect(&path, b"vsm-console/1 terminal 24 80\n");
        (&other).read_exact(&mut [0; 8]).unwrap();
        let users = || {
            let mut stream = connect(&path, b"vsm-console/1 batch\n");
            let (mut failed, mut out) = (false, Vec::new());
            let lines = ["show users", "exit"].map(str::to_owned);
            client::run_batch(&mut stream, lines.into_iter().map(Ok), &mut out, &mut failed).unwrap();
            String::from_utf8(out).unwrap()
        };
        let (text, pid) = (users(), std::process::id().to_string());
        assert_eq!(text.lines().filter(|line| line.contains(&pid)).count(), 2, "{text}");
        assert_eq!(text.lines().filter(|line| line.ends_with(" *")).count(), 1, "{text}");
        (&other).write_all(b"exit\n").unwrap();
        assert!(rest(other).contains("exit"));
    }

    #[test]
    fn the_log_is_shown_to_a_terminal_that_asks_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cli");
        let handle = Handle::detached(Model::default());
        handle.log().write("TEST", 5, "BEFORE", "x");
        let _server = serve(&path, handle.clone()).unwrap();
        let stream = connect(&path, b"vsm-console/1 terminal 0 80\nterminal monitor\n");
        let mut text = String::new();
        let mut buffer = [0; 100];
        while !text.ends_with("monitor\r\nswitch# ") {
            let count = (&stream).read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        handle.log().write("TEST", 5, "LINE", "something happened");
        while !text.contains("%TEST-5-LINE: something happened\r\nswitch# ") {
            let count = (&stream).read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        assert!(!text.contains("BEFORE"), "{text}");
    }

    #[test]
    fn stopping_ends_the_sessions_and_a_second_server_is_refused() {
        let (_folder, path, server) = start();
        let stream = connect(&path, b"vsm-console/1 terminal 24 80\n");
        let mut first = [0; 8];
        (&stream).read_exact(&mut first).unwrap();
        let error = serve(&path, Handle::detached(Model::default())).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(server);
        assert_eq!(rest(stream), "");
        serve(&path, Handle::detached(Model::default())).unwrap();
    }

    #[test]
    fn a_stale_socket_is_replaced_and_the_mode_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cli");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _server = serve(&path, Handle::detached(Model::default())).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn too_many_sessions_are_told_so() {
        let (_folder, path, _server) = start();
        let open: Vec<UnixStream> = (0..SESSIONS_MAX)
            .map(|_| {
                let stream = connect(&path, b"vsm-console/1 terminal 24 80\n");
                (&stream).read_exact(&mut [0; 8]).unwrap();
                stream
            })
            .collect();
        assert_eq!(rest(connect(&path, b"")), "ERROR: too many sessions\r\n");
        let error = attach(&path, Some("show clock".into())).unwrap_err();
        assert_eq!(error.to_string(), "ERROR: too many sessions");
        drop(open);
    }

    #[test]
    fn an_endless_line_ends_the_batch() {
        let (_folder, path, _server) = start();
        let mut stream = connect(&path, b"vsm-console/1 batch\n");
        let _ = stream.write_all(&vec![b'a'; 100_000]);
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        assert!(text.is_empty());
    }

    #[test]
    fn commands_are_split_at_semicolons_that_stand_alone() {
        let split = |text| split_commands(text).collect::<Vec<_>>();
        assert_eq!(split("conf t ; vlan 10;name a\nend ;"), ["conf t", "vlan 10;name a", "end"]);
        assert_eq!(split("show clock; show version"), ["show clock", "show version"]);
        assert_eq!(split("show run | inc 'a ; b' ; end"), ["show run | inc 'a ; b'", "end"]);
        assert_eq!(split(" ; ;").len(), 0);
    }
}
