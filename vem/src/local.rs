//! The local socket of `vem attach`, `detach`, `ports` and `cmd`.
//!
//! One line of JSON in, one line of JSON out, as often as the client likes:
//!
//! ```text
//!   {"op":"attach","port":{"profile":"web","device":"tap1","vm":"web1"}}   {"ok":true,"nic":"web1/0"}
//!   {"op":"detach","nic":"web1/0"}                                        {"ok":true,"nic":"web1/0"}
//!   {"op":"ports"}                                                        {"ok":true,"ports":[…]}
//!   {"op":"show","words":"show drops"}                                    {"ok":true,"text":"…"}
//!   anything that can't be done                                           {"ok":false,"error":"…"}
//! ```
//!
//! The socket belongs to the agent's user alone (0600). Limits: [`CLIENTS_MAX`] clients, [`LINE_MAX`] octets in a request,
//! [`ANSWER_MAX`] in an answer that is not read, [`IDLE`] of silence. A client that breaks one, or that sends what is not a
//! request, is told so if it listens, and its connection ends; no other connection notices.

pub mod client;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use serde::{Deserialize, Serialize};

use crate::request::Request as Port;

/// Most clients at a time.
pub const CLIENTS_MAX: usize = 16;
/// Longest request, octets.
pub const LINE_MAX: usize = 64 << 10;
/// Longest answer that may wait for its reader, octets.
pub const ANSWER_MAX: usize = 4 << 20;
/// Longest silence of a client.
pub const IDLE: Duration = Duration::from_secs(30);

/// What a client may ask.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Attach a port.
    Attach {
        /// Which, and how.
        port: Port,
    },
    /// Detach a port.
    Detach {
        /// By its device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// By its card.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nic: Option<String>,
    },
    /// Every port with state and counters.
    Ports,
    /// Read-only diagnosis.
    Show {
        /// As typed.
        words: String,
    },
}

/// The listening socket and its clients.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<usize, Client>,
    first: usize,
}

struct Client {
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    heard: Instant,
    ending: bool,
}

impl Server {
    /// Listens at `path` under the token `first`; clients get the [`CLIENTS_MAX`] tokens behind it.
    ///
    /// A socket that nobody listens at is left over from an agent that was killed, and is replaced.
    ///
    /// # Errors
    /// The path can't be used, or another agent listens there.
    pub fn open(path: &Path, first: usize, registry: &Registry) -> io::Result<Server> {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another agent listens there"));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is not a socket is there"));
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        // Made under another name and renamed, so that it is never there with other rights.
        let temporary = path.with_extension("new");
        let _ = std::fs::remove_file(&temporary);
        let mut listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&temporary, path)?;
        registry.register(&mut listener, Token(first), Interest::READABLE)?;
        Ok(Server { listener, path: path.to_owned(), clients: BTreeMap::new(), first })
    }

    /// Something happened at `token`. Requests are given to `serve`, its answers go back. `false`: the token is not ours.
    pub fn on_event(
        &mut self,
        token: Token,
        now: Instant,
        registry: &Registry,
        serve: &mut dyn FnMut(Request) -> serde_json::Value,
    ) -> bool {
        if token.0 == self.first {
            self.accept(now, registry);
            return true;
        }
        if !(self.first + 1..=self.first + CLIENTS_MAX).contains(&token.0) {
            return false;
        }
        let ended = self.clients.get_mut(&token.0).is_some_and(|client| client.turn(now, serve).is_err());
        if ended {
            self.close(token.0, registry);
        }
        true
    }

    /// Ends clients that have been silent for too long.
    pub fn tick(&mut self, now: Instant, registry: &Registry) {
        let silent = |client: &Client| now.saturating_duration_since(client.heard) > IDLE;
        let ended: Vec<usize> = self.clients.iter().filter(|(_, c)| silent(c)).map(|(token, _)| *token).collect();
        ended.into_iter().for_each(|token| self.close(token, registry));
    }

    fn accept(&mut self, now: Instant, registry: &Registry) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let free = (self.first + 1..=self.first + CLIENTS_MAX).find(|token| !self.clients.contains_key(token));
            let Some(token) = free else {
                let _ = stream.write(b"{\"ok\":false,\"error\":\"too many clients\"}\n");
                continue;
            };
            if registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE).is_ok() {
                let client = Client { stream, received: Vec::new(), unsent: Vec::new(), heard: now, ending: false };
                self.clients.insert(token, client);
            }
        }
    }

    fn close(&mut self, token: usize, registry: &Registry) {
        if let Some(mut client) = self.clients.remove(&token) {
            let _ = registry.deregister(&mut client.stream);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The connection has ended.
struct Ended;

impl Client {
    /// Reads, serves and writes as far as it goes without waiting.
    fn turn(&mut self, now: Instant, serve: &mut dyn FnMut(Request) -> serde_json::Value) -> Result<(), Ended> {
        let mut finished = false;
        while !self.ending && !finished {
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => finished = true,
                Ok(length) => {
                    self.heard = now;
                    self.received.extend_from_slice(piece.get(..length).unwrap_or_default());
                    self.serve_lines(serve);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
        self.flush()?;
        let done = finished || (self.ending && self.unsent.is_empty());
        if done { Err(Ended) } else { Ok(()) }
    }

    fn serve_lines(&mut self, serve: &mut dyn FnMut(Request) -> serde_json::Value) {
        while let Some(end) = self.received.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.received.drain(..=end).collect();
            let answer = match serde_json::from_slice::<Request>(&line) {
                Ok(request) => serve(request),
                Err(e) => {
                    self.ending = true;
                    failure(&format!("not a request: {e}"))
                }
            };
            self.answer(&answer);
            if self.ending {
                return;
            }
        }
        if self.received.len() > LINE_MAX {
            self.ending = true;
            self.answer(&failure(&format!("a request has at most {LINE_MAX} octets")));
        }
    }

    fn answer(&mut self, answer: &serde_json::Value) {
        let mut line = answer.to_string();
        line.push('\n');
        if self.unsent.len() + line.len() > ANSWER_MAX {
            self.ending = true;
            return;
        }
        self.unsent.extend_from_slice(line.as_bytes());
    }

    fn flush(&mut self) -> Result<(), Ended> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(Ended),
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
        Ok(())
    }
}

/// The answer to what can't be done.
pub fn failure(reason: &str) -> serde_json::Value {
    serde_json::json!({ "ok": false, "error": reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream as Plain;

    /// A server that answers `show` with what it was asked, turned until `answers` lines have come or the peer has ended.
    struct Rig {
        poll: mio::Poll,
        server: Server,
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Rig {
        fn new() -> Rig {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("vem.sock");
            let poll = mio::Poll::new().unwrap();
            let server = Server::open(&path, 10, poll.registry()).unwrap();
            Rig { poll, server, _dir: dir, path }
        }

        fn turn(&mut self, now: Instant) {
            let mut events = mio::Events::with_capacity(64);
            self.poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
            for event in &events {
                let served =
                    self.server.on_event(event.token(), now, self.poll.registry(), &mut |request| match request {
                        Request::Show { words } => serde_json::json!({ "ok": true, "text": words }),
                        _ => failure("no"),
                    });
                assert!(served);
            }
        }

        /// Sends octets and returns all that comes back until the server has nothing more to say.
        fn talk(&mut self, client: &mut Plain, octets: &[u8]) -> String {
            client.set_nonblocking(true).unwrap();
            let mut sent = 0;
            let mut heard = Vec::new();
            for _ in 0..60 {
                if sent < octets.len() {
                    sent += client.write(&octets[sent..]).unwrap_or(0);
                }
                self.turn(Instant::now());
                let mut piece = [0; 65536];
                match client.read(&mut piece) {
                    Ok(0) => break,
                    Ok(n) => heard.extend_from_slice(&piece[..n]),
                    Err(_) if sent == octets.len() && !heard.is_empty() => break,
                    Err(_) => {}
                }
            }
            String::from_utf8(heard).unwrap()
        }
    }

    #[test]
    fn requests_are_answered_in_order_however_they_arrive() {
        let mut rig = Rig::new();
        let mut client = Plain::connect(&rig.path).unwrap();
        let both = b"{\"op\":\"show\",\"words\":\"one\"}\n{\"op\":\"ports\"}\n";
        assert_eq!(rig.talk(&mut client, both), "{\"ok\":true,\"text\":\"one\"}\n{\"ok\":false,\"error\":\"no\"}\n");
        let (a, b) = both.split_at(9);
        client.write_all(a).unwrap();
        rig.turn(Instant::now());
        assert!(rig.talk(&mut client, b).starts_with("{\"ok\":true"));
    }

    #[test]
    fn bad_input_ends_that_connection_only() {
        let mut rig = Rig::new();
        let mut good = Plain::connect(&rig.path).unwrap();
        rig.turn(Instant::now());
        for bad in [
            b"nonsense\n".as_slice(),
            b"{\"op\":\"reboot\"}\n",
            b"{\"op\":\"attach\",\"port\":{\"device\":\"x\",\"profile\":\"y\",\"colour\":1}}\n",
            b"\xff\xfe\n",
            &[b'x'; LINE_MAX + 10],
        ] {
            let mut client = Plain::connect(&rig.path).unwrap();
            let answer = rig.talk(&mut client, bad);
            assert!(answer.starts_with("{\"ok\":false,\"error\":"), "{answer}");
            rig.turn(Instant::now());
            assert_eq!(rig.server.clients.len(), 1, "the good one");
        }
        assert!(rig.talk(&mut good, b"{\"op\":\"show\",\"words\":\"x\"}\n").contains("true"));
    }

    #[test]
    fn clients_are_bounded_in_number_and_in_silence() {
        let mut rig = Rig::new();
        let clients: Vec<Plain> = (0..CLIENTS_MAX + 3).map(|_| Plain::connect(&rig.path).unwrap()).collect();
        rig.turn(Instant::now());
        assert_eq!(rig.server.clients.len(), CLIENTS_MAX);
        let mut last = clients.last().unwrap();
        let mut text = String::new();
        last.read_to_string(&mut text).unwrap();
        assert!(text.contains("too many clients"));
        rig.server.tick(Instant::now() + IDLE * 2, rig.poll.registry());
        assert!(rig.server.clients.is_empty());
    }

    #[test]
    fn a_socket_left_behind_is_replaced_a_living_one_is_not() {
        let mut rig = Rig::new();
        assert_eq!(std::fs::metadata(&rig.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Server::open(&rig.path, 50, rig.poll.registry()).is_err());
        rig.turn(Instant::now());
        let stale = rig.path.with_file_name("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        assert!(Server::open(&stale, 80, rig.poll.registry()).is_ok());
        let file = rig.path.with_file_name("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(Server::open(&file, 110, rig.poll.registry()).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
