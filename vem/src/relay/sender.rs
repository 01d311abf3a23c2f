//! The sender's side of a connection, without its socket.
//!
//! The owner connects when [`Sender::due_ms`] says so and tells the outcome; octets go in by [`Sender::receive`] and out by
//! [`Sender::outgoing`]. After the hello nothing is sent before the welcome, which says where to go on: whatever was under way when
//! a connection broke is sent again if the receiver has not delivered it, and is not if it has.
//!
//! At most a window of octets is under way unacknowledged (the receiver's, and 4 MiB). Silence of 30 seconds ends a connection;
//! both ends say something every ten.

use std::collections::VecDeque;

use super::backoff::Backoff;
use super::queue::{Item, Now, Queue};
use super::wire::{Decoder, Error as WireError, Frame};

/// Octets under way.
const WINDOW: usize = 4 << 20;
/// Something is said this often, milliseconds.
pub const HEARTBEAT_MS: u64 = 10_000;
/// A peer that is silent this long is gone, milliseconds.
pub const SILENCE_MS: u64 = 30_000;
/// Octets that wait for the socket, beyond which no frames are added.
const OUT_MAX: usize = 256 << 10;

/// Why a connection ends.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// What came is no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The receiver said no.
    #[error("the receiver refused: {0}")]
    Refused(String),
    /// A frame that has no place here.
    #[error("the receiver said what makes no sense")]
    Nonsense,
    /// Nothing was heard.
    #[error("the receiver is silent")]
    Silent,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Not connected; to be tried at this time.
    Waiting(u64),
    /// The owner is connecting.
    Connecting,
    /// The hello is on its way.
    Greeting,
    /// Frames flow.
    Open,
}

/// What happened on connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Attempts to connect.
    pub attempts: u64,
    /// Connections on which the receiver answered.
    pub connections: u64,
    /// Datagrams sent, those that were sent again too.
    pub sent: u64,
    /// Datagrams that were sent again.
    pub again: u64,
}

/// See [the module](self).
pub struct Sender {
    /// What waits.
    pub queue: Queue,
    name: String,
    state: State,
    backoff: Backoff,
    decoder: Decoder,
    out: Vec<u8>,
    out_at: usize,
    /// Highest number that was put on this connection, and on any.
    sent: u64,
    sent_ever: u64,
    flying: VecDeque<(u64, usize)>,
    flying_octets: usize,
    window: usize,
    heard_ms: u64,
    said_ms: u64,
    counts: Counts,
    error: Option<String>,
}

impl Sender {
    /// A sender of a queue, which says it is `name`. It wants to connect at once.
    pub fn new(queue: Queue, name: String, backoff: Backoff) -> Self {
        let sent = queue.acked();
        Sender {
            queue,
            name,
            state: State::Waiting(0),
            backoff,
            decoder: Decoder::default(),
            out: Vec::new(),
            out_at: 0,
            sent,
            sent_ever: sent,
            flying: VecDeque::new(),
            flying_octets: 0,
            window: WINDOW,
            heard_ms: 0,
            said_ms: 0,
            counts: Counts::default(),
            error: None,
        }
    }

    /// When to connect next; `None` while connecting or connected.
    pub fn due_ms(&self) -> Option<u64> {
        match self.state {
            State::Waiting(at) => Some(at),
            _ => None,
        }
    }

    /// Whether frames flow.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Why the last connection ended or could not be had.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Somebody says that the receiver is to be had: the next attempt is now.
    pub fn retry_now(&mut self) {
        self.backoff.reset();
        if let State::Waiting(at) = &mut self.state {
            *at = 0;
        }
    }

    /// The owner begins to connect.
    pub fn connecting(&mut self) {
        self.state = State::Connecting;
        self.counts.attempts += 1;
    }

    /// The connection is there: the hello is to be sent.
    pub fn connected(&mut self, now: Now) {
        self.state = State::Greeting;
        self.decoder = Decoder::default();
        (self.out_at, self.heard_ms, self.said_ms) = (0, now.ms, now.ms);
        let (stream, acked) = (self.queue.stream(), self.queue.acked());
        self.out = Frame::Hello { stream, acked, next: self.queue.next(), name: self.name.clone() }.encode();
    }

    /// The connection is gone, or could not be had. `random` is any number.
    pub fn disconnected(&mut self, now: Now, why: String, random: u64) {
        let wait_ms = self.backoff.wait_ms(random);
        self.state = State::Waiting(now.ms + wait_ms);
        self.error = Some(why);
        (self.out, self.out_at) = (Vec::new(), 0);
        self.flying.clear();
        self.flying_octets = 0;
    }

    /// Takes what the receiver says.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub fn receive(&mut self, octets: &[u8], now: Now) -> Result<(), Error> {
        self.heard_ms = now.ms;
        self.decoder.push(octets);
        while let Some(frame) = self.decoder.next_frame()? {
            match frame {
                Frame::Welcome { stream, delivered, window } if self.state == State::Greeting => {
                    if stream != self.queue.stream() {
                        return Err(Error::Nonsense);
                    }
                    self.queue.ack(delivered);
                    self.sent = self.queue.acked();
                    self.window = WINDOW.min(window as usize);
                    self.state = State::Open;
                    self.backoff.reset();
                    self.counts.connections += 1;
                    self.error = None;
                }
                Frame::Ack(number) if self.state == State::Open && number <= self.sent => self.acked(number),
                Frame::Refuse(reason) => return Err(Error::Refused(reason)),
                Frame::Ping => {}
                _ => return Err(Error::Nonsense),
            }
        }
        Ok(())
    }

    fn acked(&mut self, number: u64) {
        self.queue.ack(number);
        while self.flying.front().is_some_and(|(flying, _)| *flying <= number) {
            self.flying_octets -= self.flying.pop_front().map_or(0, |(_, octets)| octets);
        }
    }

    /// Puts frames on the connection, as far as the window goes, and says whether the peer is silent.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub fn proceed(&mut self, now: Now) -> Result<(), Error> {
        if !matches!(self.state, State::Greeting | State::Open) {
            return Ok(());
        }
        if now.ms.saturating_sub(self.heard_ms) > SILENCE_MS {
            return Err(Error::Silent);
        }
        if self.state == State::Open {
            while self.out.len() - self.out_at < OUT_MAX && self.flying_octets < self.window {
                let Some(item) = self.queue.after(self.sent) else { break };
                self.put(item);
                self.said_ms = now.ms;
            }
        }
        if now.ms.saturating_sub(self.said_ms) >= HEARTBEAT_MS {
            self.out.extend(Frame::Ping.encode());
            self.said_ms = now.ms;
        }
        Ok(())
    }

    fn put(&mut self, item: Item) {
        let (number, octets) = match item {
            Item::Frame(number, frame) => {
                self.counts.sent += 1;
                self.counts.again += u64::from(number <= self.sent_ever);
                (number, frame)
            }
            Item::Gap(gap) => {
                tracing::warn!(
                    first = gap.first,
                    last = gap.last,
                    "{} datagrams are lost {}",
                    gap.lost,
                    gap.reason.words()
                );
                (gap.last, Frame::Gap(self.queue.stream(), gap).encode())
            }
        };
        self.flying.push_back((number, octets.len()));
        self.flying_octets += octets.len();
        self.out.extend(octets);
        self.sent = number;
        self.sent_ever = self.sent_ever.max(number);
    }

    /// What is to be sent.
    pub fn outgoing(&self) -> &[u8] {
        self.out.get(self.out_at..).unwrap_or_default()
    }

    /// So many octets of it were.
    pub fn sent(&mut self, octets: usize) {
        self.out_at += octets;
        if self.out_at >= self.out.len() {
            self.out.clear();
            self.out_at = 0;
        } else if self.out_at > OUT_MAX {
            self.out.drain(..self.out_at);
            self.out_at = 0;
        }
    }
}
