//! IPFIX over TCP (RFC 7011 section 10.4) and TLS (section 11): the connection of a [`Session`].
//!
//! A connection is tried at most once a minute (section 10.4.4). Whoever is at the other end says nothing; what is read
//! shows that it has gone.
//!
//! How much the collector's TCP has acknowledged, the kernel tells (`SIOCOUTQ`). Through TLS its octets are others than ours, so there only
//! "everything" is understood.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::{Poll, Token};
use rustls::pki_types::ServerName;
use vswitch::port::datagram::unacknowledged;
use vswitch::time::Instant;

use super::TlsFiles;
use super::session::{Progress, Session};
use crate::export::message::Datagram;
use crate::export::sender::mark;
use crate::relay::channel::Channel;
use crate::relay::tls;

/// Time between two attempts.
const RETRY: Duration = Duration::from_secs(60);
/// Connecting and the handshake may take this long.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The way to a collector. See [the module](self).
#[derive(Debug)]
pub struct Stream {
    address: SocketAddr,
    /// `None`: no TLS.
    tls: Option<Option<TlsFiles>>,
    session: Session,
    poll: Option<Poll>,
    channel: Option<Channel>,
    ready: bool,
    attempt: Option<Instant>,
    retry: Duration,
    pending: Vec<u8>,
    error: Option<String>,
}

impl Stream {
    /// A way to `address`; with TLS as the files say, if it is asked for.
    pub fn new(address: SocketAddr, tls: Option<Option<TlsFiles>>) -> Self {
        Stream {
            address,
            tls,
            session: Session::default(),
            poll: None,
            channel: None,
            ready: false,
            attempt: None,
            retry: RETRY,
            pending: Vec::new(),
            error: None,
        }
    }

    /// The same, with another time between attempts.
    pub fn with_retry(self, retry: Duration) -> Self {
        Stream { retry, ..self }
    }

    /// Takes a message; says what had to be given up for it.
    pub fn offer(&mut self, datagram: &Datagram) -> Progress {
        self.session.offer(&datagram.bytes, datagram.weight)
    }

    /// Why there is no connection.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether messages flow.
    pub fn is_connected(&self) -> bool {
        self.ready
    }

    /// Messages that were sent again in a later session.
    pub fn replayed(&self) -> u64 {
        self.session.replayed()
    }

    /// Time has passed: connects, writes what waits, and says what was written.
    pub fn tick(&mut self, dscp: u8, now: Instant) -> Progress {
        let mut progress = Progress::default();
        if self.channel.is_none() && self.attempt.is_none_or(|at| now.since(at) >= self.retry) {
            self.attempt = Some(now);
            if let Err(why) = self.connect(dscp) {
                self.fail(why);
            }
        }
        if let Err(why) = self.proceed(now, &mut progress) {
            self.fail(why);
        }
        progress
    }

    fn fail(&mut self, why: String) {
        if self.error.as_ref() != Some(&why) {
            tracing::warn!("collector {}: {why}", self.address);
        }
        self.error = Some(why);
        (self.channel, self.ready) = (None, false);
        self.pending.clear();
        self.session.end();
    }

    fn connect(&mut self, dscp: u8) -> Result<(), String> {
        let tls = match &self.tls {
            None => None,
            Some(None) => return Err("vem.toml has no [collector_tls]".to_owned()),
            Some(Some(files)) => {
                let ours = files.certificate.as_deref().zip(files.key.as_deref());
                let config = tls::exporter(&files.authority, ours).map_err(|e| e.to_string())?;
                let name = match &files.name {
                    Some(name) => ServerName::try_from(name.clone()).map_err(|e| e.to_string())?,
                    None => ServerName::from(self.address.ip()),
                };
                Some((config, name))
            }
        };
        let poll = match &self.poll {
            Some(poll) => poll,
            // Only because the channel wants to be registered: this thread looks by itself.
            None => self.poll.insert(Poll::new().map_err(|e| e.to_string())?),
        };
        let channel = Channel::connect(self.address, tls, poll.registry(), Token(0))?;
        mark(channel.socket(), self.address, dscp).map_err(|e| e.to_string())?;
        self.channel = Some(channel);
        Ok(())
    }

    fn proceed(&mut self, now: Instant, progress: &mut Progress) -> Result<(), String> {
        let Some(channel) = &mut self.channel else { return Ok(()) };
        if !self.ready {
            if !channel.is_ready()? {
                let late = self.attempt.is_none_or(|at| now.since(at) > HANDSHAKE);
                return if late { Err("no answer within 10 seconds".to_owned()) } else { Ok(()) };
            }
            self.ready = true;
            self.error = None;
            self.session.begin();
            tracing::info!("connected to the collector {}", self.address);
        }
        channel.read(&mut |_| {})?;
        let full = channel.flush()?;
        let outstanding = unacknowledged(channel.socket().as_fd()).map_err(|e| e.to_string())?;
        match self.tls {
            None => self.session.acknowledged(outstanding + self.pending.len() as u64),
            Some(_) if outstanding == 0 && !full => self.session.acknowledged(self.pending.len() as u64),
            Some(_) => {}
        }
        loop {
            if self.pending.is_empty() {
                match self.session.next(progress) {
                    Some(octets) => self.pending = octets,
                    None => return Ok(()),
                }
            }
            let taken = channel.write(&self.pending)?;
            self.pending.drain(..taken);
            if !self.pending.is_empty() {
                return Ok(());
            }
        }
    }
}
