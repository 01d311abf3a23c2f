//! Figures for Prometheus: `GET /metrics` by HTTP, on the control thread.
//!
//! The workers do nothing for it: what is read are counters that they keep in any case. A page serves everybody who asks
//! within [`FRESH`]. Limits: [`CLIENTS_MAX`] clients, [`HEAD_MAX`] octets and [`HEADERS_MAX`] lines in a request, [`TIME`]
//! for a request to come and for its answer to be taken. A client that breaks one loses its connection, and no other
//! connection notices.

pub mod page;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use proto::metrics::KIND;

/// Most clients at a time.
pub const CLIENTS_MAX: usize = 16;
/// Octets of a request.
pub const HEAD_MAX: usize = 8 << 10;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 32;
/// Time between a connection or an answer and the next request, whole, and for taking an answer.
pub const TIME: Duration = Duration::from_secs(60);
/// How long a page serves.
const FRESH: Duration = Duration::from_secs(1);
/// Connections that are accepted in one turn.
const TURN: usize = 64;

/// The listening socket and its clients.
pub struct Server {
    listener: TcpListener,
    clients: BTreeMap<usize, Client>,
    first: usize,
    page: Option<(Instant, Arc<str>)>,
}

struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    since: Instant,
    ending: bool,
}

impl Server {
    /// Listens under the token `first`; clients get the [`CLIENTS_MAX`] tokens behind it.
    ///
    /// # Errors
    /// The address can't be used.
    pub fn open(listen: SocketAddr, first: usize, registry: &Registry) -> io::Result<Server> {
        let mut listener = TcpListener::bind(listen)?;
        registry.register(&mut listener, Token(first), Interest::READABLE)?;
        Ok(Server { listener, clients: BTreeMap::new(), first, page: None })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Something happened at `token`; `make` makes a page. `None`: the token is not ours; `Some(true)`: there may be more.
    pub fn on_event(
        &mut self,
        token: Token,
        now: Instant,
        registry: &Registry,
        make: &mut dyn FnMut() -> String,
    ) -> Option<bool> {
        if token.0 == self.first {
            return Some(self.accept(now, registry));
        }
        if !(self.first + 1..=self.first + CLIENTS_MAX).contains(&token.0) {
            return None;
        }
        let page = &mut self.page;
        let mut fresh = || {
            if page.as_ref().is_none_or(|(made, _)| now.saturating_duration_since(*made) >= FRESH) {
                *page = Some((now, make().into()));
            }
            page.as_ref().map(|(_, text)| Arc::clone(text)).unwrap_or_default()
        };
        let ended = self.clients.get_mut(&token.0).is_some_and(|client| client.turn(now, &mut fresh).is_err());
        if ended {
            self.close(token.0, registry);
        }
        Some(false)
    }

    /// Ends clients that have taken too long.
    pub fn tick(&mut self, now: Instant, registry: &Registry) {
        let late = |client: &Client| now.saturating_duration_since(client.since) > TIME;
        let ended: Vec<usize> = self.clients.iter().filter(|(_, c)| late(c)).map(|(token, _)| *token).collect();
        ended.into_iter().for_each(|token| self.close(token, registry));
    }

    fn accept(&mut self, now: Instant, registry: &Registry) -> bool {
        for _ in 0..TURN {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // Nobody is there, or no descriptor: then the next connection tells.
                Err(_) => return false,
            };
            // Who finds no place is closed without a word.
            let free = (self.first + 1..=self.first + CLIENTS_MAX).find(|token| !self.clients.contains_key(token));
            if let Some(token) = free
                && registry.register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE).is_ok()
            {
                let client = Client { stream, received: Vec::new(), unsent: Vec::new(), since: now, ending: false };
                self.clients.insert(token, client);
            }
        }
        true
    }

    fn close(&mut self, token: usize, registry: &Registry) {
        if let Some(mut client) = self.clients.remove(&token) {
            let _ = registry.deregister(&mut client.stream);
        }
    }
}

/// The connection has ended.
struct Ended;

impl Client {
    /// Reads, serves and writes as far as it goes without waiting.
    fn turn(&mut self, now: Instant, page: &mut dyn FnMut() -> Arc<str>) -> Result<(), Ended> {
        loop {
            self.flush()?;
            if !self.unsent.is_empty() {
                return Ok(());
            }
            if self.ending {
                return Err(Ended);
            }
            if self.serve(now, page) {
                continue;
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Ended),
                Ok(length) => self.received.extend_from_slice(piece.get(..length).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
    }

    /// Answers the request that has come, if it is whole.
    fn serve(&mut self, now: Instant, page: &mut dyn FnMut() -> Arc<str>) -> bool {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let (status, length) = match request.parse(&self.received) {
            Ok(httparse::Status::Partial) if self.received.len() < HEAD_MAX => return false,
            Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => (judge(&request), length),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => ("431 Request Header Fields Too Large", 0),
            Err(_) => ("400 Bad Request", 0),
        };
        let stays = status == OK && request.version == Some(1) && !asks_to_close(&request);
        let is_head = request.method == Some("HEAD");
        self.received.drain(..length);
        self.since = now;
        self.ending = !stays;
        let text = if status == OK { page() } else { format!("{status}\n").into() };
        let kind = if status == OK { KIND } else { "text/plain" };
        let connection = if stays { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            text.len()
        );
        self.unsent.extend_from_slice(head.as_bytes());
        if !is_head {
            self.unsent.extend_from_slice(text.as_bytes());
        }
        true
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let mut sent = 0;
        while let Some(rest) = self.unsent.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Ended),
                Ok(length) => sent += length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }
}

const OK: &str = "200 OK";

/// The status of a request.
fn judge(request: &httparse::Request<'_, '_>) -> &'static str {
    let has_body = request.headers.iter().any(|header| match header.name {
        name if name.eq_ignore_ascii_case("content-length") => header.value != b"0",
        name => name.eq_ignore_ascii_case("transfer-encoding"),
    });
    let path = request.path.unwrap_or_default();
    match request.method {
        _ if has_body => "400 Bad Request",
        Some("GET" | "HEAD") if path.split('?').next() == Some("/metrics") => OK,
        Some("GET" | "HEAD") => "404 Not Found",
        _ => "405 Method Not Allowed",
    }
}

fn asks_to_close(request: &httparse::Request<'_, '_>) -> bool {
    let closes = |header: &httparse::Header<'_>| {
        header.name.eq_ignore_ascii_case("connection") && header.value.eq_ignore_ascii_case(b"close")
    };
    request.headers.iter().any(closes)
}

#[cfg(test)]
mod tests;
