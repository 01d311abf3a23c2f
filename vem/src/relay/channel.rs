//! A TCP connection with TLS, none of which blocks.
//!
//! Octets go in and out; who is at the other end is proved before the first goes either way. Without TLS ("insecure") it is
//! the bare connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use super::tls::explain;

/// Octets of plain text that TLS holds for the socket.
const TLS_BUFFER: usize = 256 << 10;
/// Octets that are read in one go.
const READ: usize = 64 << 10;
/// Octets that are taken from one connection before others get their turn.
const TURN: usize = 1 << 20;

/// A connection.
#[derive(Debug)]
pub struct Channel {
    socket: TcpStream,
    tls: Option<Connection>,
    connected: bool,
    early: Vec<u8>,
}

/// What reading has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Everything that is there was taken.
    Empty,
    /// There may be more: this connection has had its turn.
    More,
}

impl Channel {
    /// Begins to connect.
    ///
    /// # Errors
    /// The host has no way there.
    pub fn connect(
        address: SocketAddr,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, String> {
        let mut socket = TcpStream::connect(address).map_err(|e| e.to_string())?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).map_err(|e| e.to_string())?;
        let tls =
            tls.map(|(config, name)| ClientConnection::new(config, name).map_err(|e| e.to_string())).transpose()?;
        Ok(Channel::new(socket, tls.map(Connection::from), false))
    }

    /// A connection that was accepted.
    ///
    /// # Errors
    /// The system refuses.
    pub fn accepted(
        mut socket: TcpStream,
        tls: Option<Arc<ServerConfig>>,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, String> {
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE).map_err(|e| e.to_string())?;
        let _ = socket.set_nodelay(true);
        let tls = tls.map(|config| ServerConnection::new(config).map_err(|e| e.to_string())).transpose()?;
        Ok(Channel::new(socket, tls.map(Connection::from), true))
    }

    fn new(socket: TcpStream, mut tls: Option<Connection>, connected: bool) -> Self {
        if let Some(tls) = &mut tls {
            tls.set_buffer_limit(Some(TLS_BUFFER));
        }
        Channel { socket, tls, connected, early: Vec::new() }
    }

    /// Whether the other end is there, and has proved who it is.
    ///
    /// # Errors
    /// It is not, or has not.
    pub fn is_ready(&mut self) -> Result<bool, String> {
        if !self.connected {
            if let Some(error) = self.socket.take_error().map_err(|e| e.to_string())? {
                return Err(error.to_string());
            }
            match self.socket.peer_addr() {
                Ok(_) => self.connected = true,
                Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(false),
                Err(e) => return Err(e.to_string()),
            }
            let _ = self.socket.set_nodelay(true);
        }
        if self.is_handshaking() {
            // What comes right behind the handshake is kept for `read`.
            let mut early = Vec::new();
            let read = self.read(&mut |octets| early.extend_from_slice(octets));
            let flushed = self.flush();
            self.early = early;
            read?;
            flushed?;
        }
        Ok(!self.is_handshaking())
    }

    /// Whether the other end has proved who it is, as far as is known.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Takes what the socket has.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn read(&mut self, take: &mut impl FnMut(&[u8])) -> Result<Found, String> {
        if !self.early.is_empty() {
            take(&std::mem::take(&mut self.early));
        }
        let mut buffer = vec![0; READ];
        let mut left = TURN;
        while left > 0 {
            let outcome = match &mut self.tls {
                None => self.socket.read(&mut buffer),
                Some(tls) => tls.read_tls(&mut self.socket),
            };
            let count = match outcome {
                Ok(0) => return Err("the other end closed the connection".to_owned()),
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Found::Empty),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e.to_string()),
            };
            left = left.saturating_sub(count);
            match &mut self.tls {
                None => take(buffer.get(..count).unwrap_or_default()),
                Some(tls) => {
                    let processed = tls.process_new_packets().map_err(|e| explain(&e));
                    if processed.is_err() {
                        // An alert tells the other end.
                        let _ = self.flush();
                    }
                    processed?;
                    take_plaintext(self.tls.as_mut(), &mut buffer, take)?;
                }
            }
        }
        Ok(Found::More)
    }

    /// Gives octets to the connection, and says how many it has taken.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn write(&mut self, octets: &[u8]) -> Result<usize, String> {
        let mut taken = 0;
        while let Some(rest) = octets.get(taken..).filter(|rest| !rest.is_empty()) {
            let outcome = match &mut self.tls {
                None => self.socket.write(rest),
                Some(tls) => tls.writer().write(rest),
            };
            match outcome {
                Ok(0) if self.flush()? => break,
                Ok(count) => taken += count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) => return Err(format!("sending: {e}")),
            }
        }
        self.flush()?;
        Ok(taken)
    }

    /// Sends what TLS holds, and says whether the socket is full.
    ///
    /// # Errors
    /// The connection is at its end.
    pub fn flush(&mut self) -> Result<bool, String> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => (),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == ErrorKind::Interrupted => (),
                Err(e) => return Err(format!("sending: {e}")),
            }
        }
        Ok(false)
    }

    /// The other end's certificate.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Says good-bye.
    pub fn close(mut self, registry: &Registry) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        let _ = self.flush();
        let _ = self.socket.deregister(registry);
    }
}

fn take_plaintext(tls: Option<&mut Connection>, buffer: &mut [u8], take: &mut impl FnMut(&[u8])) -> Result<(), String> {
    let Some(tls) = tls else { return Ok(()) };
    loop {
        match tls.reader().read(buffer) {
            Ok(0) => return Err("the other end closed the connection".to_owned()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.to_string()),
        }
    }
}
