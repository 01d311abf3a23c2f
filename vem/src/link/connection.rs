//! One connection to the supervisor: socket, TLS and session, none of which blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use proto::msg::{FromVem, FromVsm};
use proto::session::VemSession;

use crate::identity::server_name;

/// Octets that TLS holds before the session does.
const TLS_BUFFER: usize = 1 << 20;

/// A connection.
pub(super) struct Connection {
    socket: TcpStream,
    tls: rustls::ClientConnection,
    session: VemSession,
    connected: bool,
}

impl Connection {
    /// Begins to connect; `hello` goes out as soon as the supervisor has proved who it is.
    pub(super) fn open(
        address: SocketAddr,
        tls: Arc<rustls::ClientConfig>,
        hello: &FromVem,
        registry: &Registry,
        token: Token,
        now_ms: u64,
    ) -> Result<Self, String> {
        let mut socket = TcpStream::connect(address).map_err(|e| e.to_string())?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).map_err(|e| e.to_string())?;
        let mut tls = rustls::ClientConnection::new(tls, server_name()?).map_err(|e| e.to_string())?;
        tls.set_buffer_limit(Some(TLS_BUFFER));
        let mut session = VemSession::new(now_ms);
        session.send(hello).map_err(|e| e.to_string())?;
        Ok(Connection { socket, tls, session, connected: false })
    }

    /// Does what the socket allows. With `listen` off nothing is read, so that a supervisor that talks faster than the
    /// agent works is slowed down.
    pub(super) fn proceed(&mut self, now_ms: u64, listen: bool, messages: &mut Vec<FromVsm>) -> Result<(), String> {
        if !self.connected && !self.is_connected()? {
            return Ok(());
        }
        self.connected = true;
        let outcome = if listen { self.read(now_ms, messages) } else { Ok(()) };
        // What goes wrong in reading may have left an alert to be sent.
        let flushed = self.flush();
        outcome.and(flushed)
    }

    fn is_connected(&self) -> Result<bool, String> {
        if let Some(e) = self.socket.take_error().map_err(|e| e.to_string())? {
            return Err(e.to_string());
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                let _ = self.socket.set_nodelay(true);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e.to_string()),
        }
    }

    fn read(&mut self, now_ms: u64, messages: &mut Vec<FromVsm>) -> Result<(), String> {
        loop {
            match self.tls.read_tls(&mut self.socket) {
                Ok(0) => return Err("the supervisor closed the connection".to_owned()),
                Ok(_) => (),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.to_string()),
            }
            self.tls.process_new_packets().map_err(|e| explain(&e))?;
            self.take_plaintext(now_ms, messages)?;
        }
    }

    fn take_plaintext(&mut self, now_ms: u64, messages: &mut Vec<FromVsm>) -> Result<(), String> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return Err("the supervisor closed the session".to_owned()),
                Ok(n) => self.session.receive(now_ms, buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.to_string()),
            }
            while let Some(message) = self.session.next(now_ms).map_err(|e| e.to_string())? {
                messages.push(message);
            }
        }
    }

    fn flush(&mut self) -> Result<(), String> {
        let failed = |e: io::Error| format!("sending: {e}");
        loop {
            while !self.session.outgoing().is_empty() {
                let taken = self.tls.writer().write(self.session.outgoing()).map_err(failed)?;
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
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// Queues a message and sends what the socket takes.
    pub(super) fn send(&mut self, message: &FromVem) -> Result<(), String> {
        self.session.send(message).map_err(|e| e.to_string())?;
        if self.connected { self.flush() } else { Ok(()) }
    }

    /// Time has passed: the heartbeat goes out, silence is found.
    pub(super) fn tick(&mut self, now_ms: u64) -> Result<(), String> {
        self.session.tick(now_ms).map_err(|e| e.to_string())?;
        if self.connected { self.flush() } else { Ok(()) }
    }

    /// When [`Connection::tick`] has something to do.
    pub(super) fn due_ms(&self) -> u64 {
        self.session.due_ms()
    }

    /// Says good-bye, as far as the socket takes it.
    pub(super) fn close(mut self) {
        self.tls.send_close_notify();
        let _ = self.flush();
    }
}

/// Words for the errors that an administrator can do something about.
fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the supervisor is not of the domain that this host has joined".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown,
        ) => "the supervisor does not know this host's certificate; enrol the host with this domain".to_owned(),
        other => format!("TLS: {other}"),
    }
}
