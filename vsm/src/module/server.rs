//! The TLS server that agents connect to.
//!
//! Owns the listener and the connections; turns readiness into messages and messages into octets. It knows nothing of
//! modules: whoever calls it decides what a message means and marks a connection as a member's.
//!
//! Nothing here blocks and nobody can hold up the others: every wake-up of a connection reads at most [`READ_BUDGET`]
//! octets, a connection without an accepted hello lives for six seconds, and of those at most [`FRESH_MAX`] are kept, the
//! oldest making room. A connection that is ended on our side is first flushed, then half-closed and drained, so that the
//! reason for the end (a refusal, a TLS alert) arrives before the reset would.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use hashbrown::HashMap;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use proto::msg::{FromVem, FromVsm};
use proto::session::{self, Counters, VsmSession};
use rustls::pki_types::CertificateDer;

/// Octets that one wake-up reads.
pub const READ_BUDGET: usize = 1 << 20;
/// Most connections whose hello was not accepted yet.
pub const FRESH_MAX: usize = 64;
/// Milliseconds that a connection gets to take our last words.
const LINGER_MS: u64 = 2000;
/// Octets that TLS holds for a peer before the session does.
const TLS_BUFFER: usize = 1 << 20;

/// Why a connection has ended without our doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The connection.
    pub token: Token,
    /// Where it came from.
    pub peer: SocketAddr,
    /// In English.
    pub reason: String,
    /// Its heartbeats stopped.
    pub silent: bool,
    /// Sending to it failed.
    pub sending: bool,
    /// Messages until then.
    pub counters: Counters,
}

/// The server. One owner: the supervisor's thread.
pub struct Server {
    listener: TcpListener,
    registry: Registry,
    tls: Arc<rustls::ServerConfig>,
    connections: HashMap<Token, Connection>,
    next: usize,
    ends: Vec<End>,
}

struct Connection {
    socket: TcpStream,
    tls: rustls::ServerConnection,
    session: VsmSession,
    peer: SocketAddr,
    since_ms: u64,
    stage: Stage,
    /// The budget ran out before the socket did.
    more: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fresh,
    Member,
    /// Flushing our last words, then draining theirs, until then.
    Closing {
        until_ms: u64,
        half_closed: bool,
    },
}

/// What is wrong with a connection.
struct Fault {
    reason: String,
    silent: bool,
    sending: bool,
}

impl Fault {
    fn new(reason: impl ToString) -> Self {
        Fault { reason: reason.to_string(), silent: false, sending: false }
    }

    fn sending(reason: impl ToString) -> Self {
        Fault { sending: true, ..Fault::new(reason) }
    }
}

impl From<session::Error> for Fault {
    fn from(error: session::Error) -> Self {
        Fault {
            reason: error.to_string(),
            silent: error == session::Error::Silent,
            sending: matches!(error, session::Error::Backlog(_)),
        }
    }
}

impl Server {
    /// Listens. Readiness comes under `token` for the listener and under higher ones for connections.
    ///
    /// # Errors
    /// The address can't be had.
    pub fn open(
        listen: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        registry: Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut listener = TcpListener::bind(listen)?;
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Server { listener, registry, tls, connections: HashMap::new(), next: token.0 + 1, ends: Vec::new() })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes every connection that waits.
    pub fn accept(&mut self, now_ms: u64) {
        loop {
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    if let Err(e) = self.adopt(socket, peer, now_ms) {
                        tracing::warn!("connection from {peer}: {e}");
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => (),
                // Out of descriptors or memory: those that wait are tried again at the next tick.
                Err(e) => return tracing::warn!("accept: {e}"),
            }
        }
    }

    fn adopt(&mut self, mut socket: TcpStream, peer: SocketAddr, now_ms: u64) -> io::Result<()> {
        let fresh = || self.connections.iter().filter(|(_, c)| c.stage != Stage::Member);
        if fresh().count() >= FRESH_MAX
            && let Some(oldest) = fresh().min_by_key(|(_, c)| c.since_ms).map(|(token, _)| *token)
        {
            self.end(oldest, Fault::new("it made room for newer connections"));
            self.connections.remove(&oldest);
        }
        let token = Token(self.next);
        self.next += 1;
        socket.set_nodelay(true)?;
        self.registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut tls = rustls::ServerConnection::new(self.tls.clone()).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(TLS_BUFFER));
        let session = VsmSession::new(now_ms);
        let connection = Connection { socket, tls, session, peer, since_ms: now_ms, stage: Stage::Fresh, more: true };
        self.connections.insert(token, connection);
        Ok(())
    }

    /// A connection is ready, or has [`Server::more`]: its messages. What is wrong with it is in [`Server::ends`].
    pub fn ready(&mut self, token: Token, now_ms: u64) -> Vec<FromVem> {
        let mut messages = Vec::new();
        let Some(connection) = self.connections.get_mut(&token) else { return messages };
        if matches!(connection.stage, Stage::Closing { .. }) {
            if connection.drain() {
                self.connections.remove(&token);
            }
            return messages;
        }
        let outcome = connection.read(now_ms, &mut messages).and_then(|()| connection.flush());
        if let Err(fault) = outcome {
            self.end(token, fault);
            self.close(token, now_ms);
        }
        messages
    }

    /// Connections whose budget ran out.
    pub fn more(&self) -> Vec<Token> {
        self.connections.iter().filter(|(_, c)| c.more).map(|(token, _)| *token).collect()
    }

    /// Sends a message.
    pub fn send(&mut self, token: Token, message: &FromVsm, now_ms: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if matches!(connection.stage, Stage::Closing { .. }) {
            return;
        }
        let outcome = connection.session.send(message).map_err(Fault::from).and_then(|()| connection.flush());
        if let Err(fault) = outcome {
            self.end(token, fault);
            self.close(token, now_ms);
        }
    }

    /// The hello was accepted: the connection no longer makes room for others.
    pub fn set_member(&mut self, token: Token) {
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.stage = Stage::Member;
        }
    }

    /// Ends a connection when it has taken what was sent. Its later messages are not read.
    pub fn close(&mut self, token: Token, now_ms: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        if matches!(connection.stage, Stage::Closing { .. }) {
            return;
        }
        connection.stage = Stage::Closing { until_ms: now_ms + LINGER_MS, half_closed: false };
        connection.more = false;
        if connection.drain() {
            self.connections.remove(&token);
        }
    }

    /// Time has passed: heartbeats go out, the silent are found.
    pub fn tick(&mut self, now_ms: u64) {
        self.accept(now_ms);
        let mut faults = Vec::new();
        self.connections.retain(|token, connection| {
            if let Stage::Closing { until_ms, .. } = connection.stage {
                return now_ms < until_ms;
            }
            let outcome = connection.session.tick(now_ms).map_err(Fault::from).and_then(|()| connection.flush());
            faults.extend(outcome.err().map(|fault| (*token, fault)));
            true
        });
        for (token, fault) in faults {
            self.end(token, fault);
            self.close(token, now_ms);
        }
    }

    /// Connections that have ended without our doing, since the last call.
    pub fn ends(&mut self) -> Vec<End> {
        std::mem::take(&mut self.ends)
    }

    /// When [`Server::tick`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        let due = |c: &Connection| match c.stage {
            Stage::Closing { until_ms, .. } => until_ms,
            _ => c.session.due_ms(),
        };
        self.connections.values().map(due).min()
    }

    /// Where a connection comes from.
    pub fn peer(&self, token: Token) -> Option<SocketAddr> {
        self.connections.get(&token).map(|c| c.peer)
    }

    /// The certificate that the peer has proved to own.
    pub fn certificate(&self, token: Token) -> Option<&CertificateDer<'static>> {
        self.connections.get(&token)?.tls.peer_certificates()?.first()
    }

    /// Messages so far.
    pub fn counters(&self, token: Token) -> Counters {
        self.connections.get(&token).map(|c| c.session.counters()).unwrap_or_default()
    }

    fn end(&mut self, token: Token, fault: Fault) {
        let Some(connection) = self.connections.get(&token) else { return };
        if matches!(connection.stage, Stage::Closing { .. }) {
            return;
        }
        let Fault { reason, silent, sending } = fault;
        let counters = connection.session.counters();
        self.ends.push(End { token, peer: connection.peer, reason, silent, sending, counters });
    }
}

impl Connection {
    fn read(&mut self, now_ms: u64, messages: &mut Vec<FromVem>) -> Result<(), Fault> {
        let mut budget = READ_BUDGET;
        self.more = false;
        loop {
            let arrived = match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Err(Fault::new("the peer closed the connection")),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Fault::new(e)),
            };
            self.tls.process_new_packets().map_err(|e| Fault::new(explain(&e)))?;
            self.take_plaintext(now_ms, messages)?;
            budget = budget.saturating_sub(arrived);
            if budget == 0 {
                self.more = true;
                return Ok(());
            }
        }
    }

    fn take_plaintext(&mut self, now_ms: u64, messages: &mut Vec<FromVem>) -> Result<(), Fault> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return Err(Fault::new("the peer closed the session")),
                Ok(n) => self.session.receive(now_ms, &buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(Fault::new(e)),
            }
            while let Some(message) = self.session.next(now_ms)? {
                messages.push(message);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        loop {
            while !self.session.outgoing().is_empty() {
                let taken = self.tls.writer().write(self.session.outgoing()).map_err(Fault::sending)?;
                if taken == 0 {
                    break;
                }
                self.session.sent(taken);
            }
            if !self.tls.wants_write() {
                return Ok(());
            }
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => (),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) => return Err(Fault::sending(e)),
            }
        }
    }

    /// Goes on closing; `true` when the connection can be dropped.
    fn drain(&mut self) -> bool {
        let Stage::Closing { until_ms, half_closed } = self.stage else { return false };
        if !half_closed {
            if self.flush().is_err() {
                return true;
            }
            if self.session.outgoing().is_empty() && !self.tls.wants_write() {
                self.tls.send_close_notify();
                let _ = self.tls.write_tls(&mut self.socket);
                let _ = self.socket.shutdown(Shutdown::Write);
                self.stage = Stage::Closing { until_ms, half_closed: true };
            }
        }
        let mut rubbish = [0; 16 << 10];
        for _ in 0..READ_BUDGET / rubbish.len() {
            match self.socket.read(&mut rubbish) {
                Ok(0) => return true,
                Ok(_) => (),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
        // Who talks that much after our end is not worth our last words.
        true
    }
}

/// Words for the errors that an administrator can do something about.
fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, Error};
    match error {
        Error::InvalidCertificate(reason) => format!("its certificate is not of this domain ({reason:?})"),
        // A certificate of another authority with the name of the right one fails by its signature.
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA | AlertDescription::DecryptError | AlertDescription::BadCertificate),
        ) => format!("it does not trust this supervisor: it belongs to another domain ({alert:?})"),
        other => format!("TLS: {other}"),
    }
}
