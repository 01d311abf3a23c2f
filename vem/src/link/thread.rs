//! The link's thread.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError};
use mio::{Events, Poll, Token, Waker};
use proto::msg::{ConfigHash, FromVem, FromVsm, Hello, PROTOCOL};
use proto::query::CAPABILITIES;
use sha2::{Digest, Sha256};

use super::backoff::Backoff;
use super::connection::Connection;
use super::{Config, Event, Request};

pub(super) const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);
/// Milliseconds between two attempts to hand events to an agent whose channel is full.
const STUCK_MS: u64 = 20;

/// What the thread owns.
pub(super) struct Thread {
    pub(super) cfg: Config,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) applied: (u64, ConfigHash),
    pub(super) poll: Poll,
    pub(super) requests: Receiver<Request>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) events: Sender<Event>,
    pub(super) wake: Arc<Waker>,
}

/// The thread at work.
struct Link {
    parts: Thread,
    start: Instant,
    connection: Option<Connection>,
    /// Since when the supervisor has accepted us.
    up_ms: Option<u64>,
    /// When to connect again.
    again_ms: u64,
    backoff: Backoff,
    attempts: usize,
    /// Events that the agent has not taken yet. While there are any, nothing is read from the socket.
    pending: VecDeque<Event>,
    /// The socket was left alone meanwhile, and will not say again that it is ready.
    unread: bool,
    last_reason: String,
}

impl Thread {
    /// Runs until it is told to stop, or the agent is gone.
    pub(super) fn run(self) {
        let mut link = Link {
            parts: self,
            start: Instant::now(),
            connection: None,
            up_ms: None,
            again_ms: 0,
            backoff: Backoff::default(),
            attempts: 0,
            pending: VecDeque::new(),
            unread: false,
            last_reason: String::new(),
        };
        let mut events = Events::with_capacity(16);
        while !link.parts.stop.load(Ordering::Acquire) {
            link.connect_when_due();
            let patience = link.patience();
            if let Err(e) = link.parts.poll.poll(&mut events, Some(patience))
                && e.kind() != std::io::ErrorKind::Interrupted
            {
                return tracing::error!("link: poll: {e}");
            }
            link.take_requests();
            link.proceed();
            if !link.hand_over() {
                return;
            }
        }
        if let Some(connection) = link.connection.take() {
            connection.close();
        }
    }
}

impl Link {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn patience(&self) -> Duration {
        if self.unread && self.pending.is_empty() {
            return Duration::ZERO;
        }
        let due = match &self.connection {
            Some(connection) => connection.due_ms(),
            None => self.again_ms,
        };
        let wait = due.saturating_sub(self.now_ms());
        Duration::from_millis(if self.pending.is_empty() { wait } else { wait.min(STUCK_MS) })
    }

    fn connect_when_due(&mut self) {
        let now = self.now_ms();
        if self.connection.is_some() || now < self.again_ms {
            return;
        }
        let cfg = &self.parts.cfg;
        let hello = FromVem::Hello(Hello {
            protocol: PROTOCOL,
            domain: cfg.domain,
            uuid: cfg.uuid,
            host: cfg.host.clone(),
            software: cfg.software.clone(),
            version: self.parts.applied.0,
            hash: self.parts.applied.1,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
        });
        let opened = self.address().and_then(|address| {
            Connection::open(address, Arc::clone(&self.parts.tls), &hello, self.parts.poll.registry(), SOCKET, now)
        });
        self.attempts = self.attempts.wrapping_add(1);
        match opened {
            Ok(connection) => self.connection = Some(connection),
            Err(reason) => self.lose(reason),
        }
    }

    /// The address to try; a name's addresses take turns.
    fn address(&self) -> Result<SocketAddr, String> {
        let found: Vec<SocketAddr> = self.parts.cfg.address.to_socket_addrs().map_err(|e| e.to_string())?.collect();
        let turn = self.attempts.checked_rem(found.len()).unwrap_or(0);
        found.get(turn).copied().ok_or_else(|| "the name has no address".to_owned())
    }

    fn take_requests(&mut self) {
        while let Ok(request) = self.parts.requests.try_recv() {
            match request {
                Request::Applied(version, hash) => self.parts.applied = (version, hash),
                Request::Send(message) => {
                    let Some(connection) = self.connection.as_mut().filter(|_| self.up_ms.is_some()) else { continue };
                    if let Err(reason) = connection.send(&message) {
                        self.lose(reason);
                    }
                }
            }
        }
    }

    fn proceed(&mut self) {
        let now = self.now_ms();
        let listen = self.pending.is_empty();
        self.unread = !listen && self.connection.is_some();
        let mut messages = Vec::new();
        let Some(connection) = &mut self.connection else { return };
        let outcome = connection.proceed(now, listen, &mut messages).and_then(|()| connection.tick(now));
        for message in messages {
            if let Err(reason) = self.on_message(message, now) {
                return self.lose(reason);
            }
        }
        if let Err(reason) = outcome {
            self.lose(reason);
        }
    }

    fn on_message(&mut self, message: FromVsm, now: u64) -> Result<(), String> {
        let event = match message {
            FromVsm::Welcome { module, switch_name, .. } => {
                self.up_ms = Some(now);
                self.last_reason.clear();
                tracing::info!(
                    module,
                    switch_name,
                    "the supervisor at {} has accepted this host",
                    self.parts.cfg.address
                );
                Event::Up { module, switch_name }
            }
            FromVsm::Refuse(reason) => return Err(format!("the supervisor refused this host: {reason}")),
            FromVsm::Enrolled { .. } => return Err("a certificate that was not asked for".to_owned()),
            FromVsm::Prepare { version, hash, config } => {
                if ConfigHash(Sha256::digest(&config).into()) != hash {
                    let error = Some("the configuration is not what its hash says".to_owned());
                    let Some(connection) = &mut self.connection else { return Ok(()) };
                    return connection.send(&FromVem::Prepared { version, error });
                }
                Event::Prepare { version, hash, config }
            }
            FromVsm::Commit(version) => Event::Commit(version),
            FromVsm::Abort(version) => Event::Abort(version),
            FromVsm::Query { id, query } => Event::Query { id, query },
            // The session keeps heartbeats to itself.
            FromVsm::Heartbeat => return Ok(()),
        };
        self.pending.push_back(event);
        Ok(())
    }

    fn lose(&mut self, reason: String) {
        if let Some(connection) = self.connection.take() {
            connection.close();
        }
        let now = self.now_ms();
        let lasted = self.up_ms.take().map(|up| now.saturating_sub(up)).unwrap_or(0);
        let wait = self.backoff.wait_ms(lasted, random());
        self.again_ms = now.saturating_add(wait);
        if reason == self.last_reason {
            tracing::debug!("supervisor at {}: {reason}; next attempt in {wait} ms", self.parts.cfg.address);
        } else {
            tracing::warn!("supervisor at {}: {reason}; next attempt in {wait} ms", self.parts.cfg.address);
            self.last_reason.clone_from(&reason);
        }
        self.pending.push_back(Event::Down { reason });
    }

    /// Hands events to the agent; `false` when it is gone.
    fn hand_over(&mut self) -> bool {
        let mut handed = false;
        while let Some(event) = self.pending.pop_front() {
            match self.parts.events.try_send(event) {
                Ok(()) => handed = true,
                Err(TrySendError::Full(event)) => {
                    self.pending.push_front(event);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        if handed && let Err(e) = self.parts.wake.wake() {
            tracing::error!("link: waking the agent: {e}");
        }
        true
    }
}

/// Any number: only for waits, never for secrets.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
