//! A connection of the receiver, without its socket: hello, then numbers up and acknowledgements down.
//!
//! Its stream is given to it by the owner with every call, so that a stream outlives its connections.

use super::queue::Now;
use super::receiver::{Error, Stream, WINDOW};
use super::sender::{HEARTBEAT_MS, SILENCE_MS};
use super::wire::{Decoder, Frame, StreamId};

/// A connection.
pub struct Session {
    decoder: Decoder,
    out: Vec<u8>,
    stream: Option<StreamId>,
    acked: u64,
    heard_ms: u64,
    said_ms: u64,
}

/// What a session wants of its owner.
pub enum Event {
    /// A sender names its stream; the owner answers by [`Session::welcome`] or [`Session::refuse`].
    Hello {
        /// The stream.
        stream: StreamId,
        /// Highest number that it knows to be acknowledged.
        acked: u64,
        /// Its name.
        name: String,
    },
    /// Something for the session's stream: [`Session::give`].
    Frame(Frame),
}

impl Session {
    /// A connection that was accepted.
    pub fn new(now: Now) -> Self {
        Session {
            decoder: Decoder::default(),
            out: Vec::new(),
            stream: None,
            acked: 0,
            heard_ms: now.ms,
            said_ms: now.ms,
        }
    }

    /// The stream, once it is named and welcome.
    pub fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// Takes octets; then [`Session::next_event`].
    pub fn receive(&mut self, octets: &[u8], now: Now) {
        self.heard_ms = now.ms;
        self.decoder.push(octets);
    }

    /// The next thing that came.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            return match (self.decoder.next_frame()?, self.stream) {
                (None, _) => Ok(None),
                (Some(Frame::Ping), _) => continue,
                (Some(Frame::Hello { stream, acked, name, .. }), None) => {
                    Ok(Some(Event::Hello { stream, acked, name }))
                }
                (Some(frame @ (Frame::Data(id, _) | Frame::Gap(id, _))), Some(ours)) if id == ours => {
                    Ok(Some(Event::Frame(frame)))
                }
                _ => Err(Error::Nonsense),
            };
        }
    }

    /// The stream is served by this connection.
    pub fn welcome(&mut self, stream: &mut Stream, acked: u64, name: String) {
        stream.begin(acked, name);
        self.stream = Some(stream.id());
        self.acked = stream.delivered();
        self.out.extend(Frame::Welcome { stream: stream.id(), delivered: self.acked, window: WINDOW }.encode());
    }

    /// The sender is not served.
    pub fn refuse(&mut self, reason: &str) {
        self.out.extend(Frame::Refuse(reason.to_owned()).encode());
    }

    /// Gives a frame to the stream.
    ///
    /// # Errors
    /// The connection is to be ended.
    pub fn give(&mut self, stream: &mut Stream, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Data(_, data) => stream.take(data),
            Frame::Gap(_, gap) => stream.take_gap(gap),
            _ => Err(Error::Nonsense),
        }
    }

    /// Acknowledges what is delivered and on the disk.
    pub fn acknowledge(&mut self, stream: &Stream, now: Now) {
        if stream.synced() > self.acked {
            self.acked = stream.synced();
            self.out.extend(Frame::Ack(self.acked).encode());
            self.said_ms = now.ms;
        }
    }

    /// Time has passed.
    ///
    /// # Errors
    /// The sender is silent.
    pub fn tick(&mut self, now: Now) -> Result<(), Error> {
        if now.ms.saturating_sub(self.heard_ms) > SILENCE_MS {
            return Err(Error::Silent);
        }
        if now.ms.saturating_sub(self.said_ms) >= HEARTBEAT_MS {
            self.out.extend(Frame::Ping.encode());
            self.said_ms = now.ms;
        }
        Ok(())
    }

    /// What is to be sent.
    pub fn outgoing(&self) -> &[u8] {
        &self.out
    }

    /// So many octets of it were.
    pub fn sent(&mut self, octets: usize) {
        self.out.drain(..octets);
    }
}
