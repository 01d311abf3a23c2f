//! `flow-relay receive`.
//!
//! Limits: 64 connections, 8 of which have not yet named their stream; 1,024 streams in `state_dir`. A stream is served by its
//! newest connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use serde_json::json;

use super::super::channel::{Channel, Found};
use super::super::collector::Collectors;
use super::super::config::Receive;
use super::super::receiver::{Stream, hex};
use super::super::session::{Event, Session};
use super::super::tls;
use super::super::wire::StreamId;
use super::control::Control;
use super::{Clock, Error, HANDSHAKE_MS, TURN, private_dir, system, termination};

const CONTROL: Token = Token(0);
const LISTENER: Token = Token(1);
const SIGNAL: Token = Token(2);
const FIRST: usize = 16;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 64;
/// Of which so many may be strangers.
const STRANGERS_MAX: usize = 8;
/// Streams that are known.
const STREAMS_MAX: usize = 1024;
/// Datagrams to a collector before others get their turn.
const DELIVER: usize = 256;
/// Time between looks at collectors that were not ready.
const SOON: Duration = Duration::from_millis(1);
/// Time between acknowledgements, milliseconds: as often the disk is asked.
const ACK_MS: u64 = 100;
/// Name of the control socket in `runtime_dir`.
pub const SOCKET: &str = "receive.sock";

struct Connection {
    channel: Channel,
    session: Session,
    peer: SocketAddr,
    since_ms: u64,
}

/// The loop.
pub struct Daemon {
    poll: Poll,
    clock: Clock,
    listener: TcpListener,
    control: Control,
    tls: Option<Arc<ServerConfig>>,
    senders: Option<Vec<ServerName<'static>>>,
    state_dir: PathBuf,
    collectors: Collectors,
    connections: HashMap<usize, Connection>,
    streams: HashMap<StreamId, Stream>,
    next: usize,
    ack_ms: u64,
    refused: u64,
}

impl Daemon {
    /// Opens state and sockets.
    ///
    /// # Errors
    /// One of them can't be used.
    pub fn open(config: Receive) -> Result<Self, Error> {
        let poll = Poll::new().map_err(system("poll"))?;
        private_dir(&config.state_dir)?;
        private_dir(&config.runtime_dir)?;
        let path = config.runtime_dir.join(SOCKET);
        let control = Control::open(&path, poll.registry(), CONTROL).map_err(system(path.display()))?;
        let tls = config.trust.as_ref().map(tls::server).transpose()?;
        let mut listener = TcpListener::bind(config.listen).map_err(system(config.listen))?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(system("poll"))?;
        let name = |name: &String| {
            ServerName::try_from(name.clone()).map_err(|e| tls::Error::Tls(format!("senders: {name}: {e}")))
        };
        let senders = config.senders.map(|names| names.iter().map(name).collect::<Result<_, _>>()).transpose()?;
        Ok(Daemon {
            poll,
            clock: Clock::start(),
            listener,
            control,
            tls,
            senders,
            state_dir: config.state_dir,
            collectors: Collectors::new(&config.collectors, config.spoof_source, config.rate),
            connections: HashMap::new(),
            streams: HashMap::new(),
            next: FIRST,
            ack_ms: 0,
            refused: 0,
        })
    }

    /// Runs until the process is told to end.
    ///
    /// # Errors
    /// The system fails.
    pub fn run(mut self) -> Result<(), Error> {
        let signal = termination()?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&signal);
        let source = &mut SourceFd(&fd);
        self.poll.registry().register(source, SIGNAL, Interest::READABLE).map_err(system("signal"))?;
        let mut events = Events::with_capacity(256);
        let mut wait = TURN;
        loop {
            match self.poll.poll(&mut events, Some(wait)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(system("poll")(e)),
                _ => (),
            }
            let mut end = false;
            for event in &events {
                match event.token() {
                    CONTROL => self.answer(),
                    LISTENER => self.accept(),
                    SIGNAL => end = true,
                    _ => (),
                }
            }
            let more = self.read();
            let waits = self.deliver();
            self.acknowledge(end);
            self.write();
            if end {
                break;
            }
            wait = if more {
                Duration::ZERO
            } else if waits {
                SOON
            } else {
                TURN
            };
        }
        for (_, connection) in self.connections.drain() {
            connection.channel.close(self.poll.registry());
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Ok((socket, peer)) = self.listener.accept() {
            let strangers = self.connections.values().filter(|c| c.session.stream().is_none()).count();
            if self.connections.len() >= CONNECTIONS_MAX || strangers >= STRANGERS_MAX {
                self.refused += 1;
                continue;
            }
            let token = self.next;
            self.next += 1;
            let now = self.clock.now();
            match Channel::accepted(socket, self.tls.clone(), self.poll.registry(), Token(token)) {
                Ok(channel) => {
                    let session = Session::new(now);
                    self.connections.insert(token, Connection { channel, session, peer, since_ms: now.ms });
                }
                Err(e) => tracing::warn!("{peer}: {e}"),
            }
        }
    }

    /// Takes what has come on every connection, and says whether there may be more.
    fn read(&mut self) -> bool {
        let tokens: Vec<usize> = self.connections.keys().copied().collect();
        let mut more = false;
        for token in tokens {
            match self.read_one(token) {
                Ok(again) => more |= again,
                Err(why) => self.hang_up(token, &why),
            }
        }
        more
    }

    fn read_one(&mut self, token: usize) -> Result<bool, String> {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(false) };
        if connection.session.stream().is_none() && now.ms.saturating_sub(connection.since_ms) > HANDSHAKE_MS {
            return Err("did not say who it is within 10 seconds".to_owned());
        }
        if !connection.channel.is_ready()? {
            return Ok(false);
        }
        let Connection { channel, session, .. } = connection;
        let read = channel.read(&mut |octets| session.receive(octets, now));
        self.events(token)?;
        Ok(read? == Found::More)
    }

    fn events(&mut self, token: usize) -> Result<(), String> {
        loop {
            let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
            match connection.session.next_event().map_err(|e| e.to_string())? {
                None => return Ok(()),
                Some(Event::Hello { stream, acked, name }) => self.hello(token, stream, acked, name)?,
                Some(Event::Frame(frame)) => {
                    let stream = connection.session.stream().and_then(|id| self.streams.get_mut(&id));
                    let stream = stream.ok_or("no stream")?;
                    connection.session.give(stream, frame).map_err(|e| e.to_string())?;
                }
            }
        }
    }

    fn hello(&mut self, token: usize, id: StreamId, acked: u64, name: String) -> Result<(), String> {
        let older: Vec<usize> =
            self.connections.iter().filter(|(_, c)| c.session.stream() == Some(id)).map(|(token, _)| *token).collect();
        older.into_iter().for_each(|older| self.hang_up(older, "the sender has a newer connection"));
        let Some(connection) = self.connections.get_mut(&token) else { return Ok(()) };
        let outcome = match may(&self.senders, connection.channel.peer_certificate()) {
            true => stream(&mut self.streams, &self.state_dir, id, self.collectors.all.len()),
            false => Err("its certificate's names are not among the senders".to_owned()),
        };
        match outcome {
            Ok(stream) => {
                let (peer, id) = (connection.peer, hex(&id));
                tracing::info!(stream = id, "{name} ({peer}) is connected, delivered up to {}", stream.delivered());
                connection.session.welcome(stream, acked, name);
                Ok(())
            }
            Err(why) => {
                self.refused += 1;
                connection.session.refuse(&why);
                let taken = connection.channel.write(connection.session.outgoing())?;
                connection.session.sent(taken);
                Err(format!("refused: {why}"))
            }
        }
    }

    fn hang_up(&mut self, token: usize, why: &str) {
        if let Some(connection) = self.connections.remove(&token) {
            let name = connection.session.stream().and_then(|id| self.streams.get(&id)).map(|s| s.name.clone());
            self.refused += u64::from(connection.channel.is_handshaking());
            tracing::warn!("{} ({}): {why}", name.unwrap_or_default(), connection.peer);
            connection.channel.close(self.poll.registry());
        }
    }

    /// Sends to the collectors; says whether something waits.
    fn deliver(&mut self) -> bool {
        self.collectors.tick(self.clock.now());
        let mut waits = false;
        for stream in self.streams.values_mut() {
            stream.deliver(&mut self.collectors, DELIVER);
            waits |= stream.delivered() < stream.received();
        }
        waits
    }

    fn acknowledge(&mut self, at_once: bool) {
        let now = self.clock.now();
        if now.ms < self.ack_ms && !at_once {
            return;
        }
        self.ack_ms = now.ms + ACK_MS;
        for stream in self.streams.values_mut() {
            if let Err(error) = stream.sync() {
                // Nothing is acknowledged that is not on the disk; the sender keeps it.
                tracing::error!("{}: {error}", self.state_dir.display());
            }
        }
        for connection in self.connections.values_mut() {
            if let Some(stream) = connection.session.stream().and_then(|id| self.streams.get(&id)) {
                connection.session.acknowledge(stream, now);
            }
        }
    }

    fn write(&mut self) {
        let now = self.clock.now();
        let mut failed = Vec::new();
        for (token, connection) in &mut self.connections {
            if connection.channel.is_handshaking() {
                continue;
            }
            let outcome = connection.session.tick(now).map_err(|e| e.to_string());
            let outcome = outcome.and_then(|()| connection.channel.write(connection.session.outgoing()));
            match outcome {
                Ok(taken) => connection.session.sent(taken),
                Err(why) => failed.push((*token, why)),
            }
        }
        failed.into_iter().for_each(|(token, why)| self.hang_up(token, &why));
    }

    fn answer(&self) {
        let served: Vec<StreamId> = self.connections.values().filter_map(|c| c.session.stream()).collect();
        let collectors = |stream: &Stream| {
            let row = |(index, collector): (usize, &super::super::collector::Collector)| {
                json!({
                    "address": collector.address.to_string(),
                    "delivered": stream.delivered_to(index),
                    "away": stream.is_away(index),
                    "refused": collector.refused,
                    "error": collector.error,
                })
            };
            self.collectors.all.iter().enumerate().map(row).collect::<Vec<_>>()
        };
        let stream = |stream: &Stream| {
            let counts = stream.counts();
            json!({
                "stream": hex(&stream.id()),
                "sender": stream.name,
                "connected": served.contains(&stream.id()),
                "received": stream.received(),
                "delivered": stream.delivered(),
                "datagrams": counts.received,
                "received_again": counts.again,
                "lost": counts.lost,
                "gaps": counts.gaps,
                "doubtful": counts.doubtful,
                "last_gap": stream.last_gap.map(|gap| json!({
                    "first": gap.first, "last": gap.last, "lost": gap.lost, "why": gap.reason.words(),
                })),
                "collectors": collectors(stream),
            })
        };
        let streams: Vec<_> = self.streams.values().map(stream).collect();
        let status = json!({"connections": self.connections.len(), "refused": self.refused, "streams": streams});
        self.control.serve(|_| format!("{status}\n"));
    }
}

/// Whether a sender with this certificate is served.
fn may(senders: &Option<Vec<ServerName<'static>>>, certificate: Option<&[u8]>) -> bool {
    let Some(names) = senders else { return true };
    let certificate = certificate.map(|octets| CertificateDer::from(octets.to_vec()));
    certificate.is_some_and(|certificate| {
        ParsedCertificate::try_from(&certificate)
            .is_ok_and(|parsed| names.iter().any(|name| verify_server_name(&parsed, name).is_ok()))
    })
}

fn stream<'a>(
    streams: &'a mut HashMap<StreamId, Stream>,
    dir: &Path,
    id: StreamId,
    collectors: usize,
) -> Result<&'a mut Stream, String> {
    match streams.entry(id) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let known = dir.join(format!("{}.stream", hex(&id))).exists();
            let files = std::fs::read_dir(dir).map_err(|e| e.to_string())?.count();
            if !known && files >= STREAMS_MAX {
                return Err(format!("{STREAMS_MAX} streams are known already"));
            }
            let stream = Stream::open(dir, id, collectors).map_err(|e| format!("the stream's state: {e}"))?;
            Ok(entry.insert(stream))
        }
    }
}
