//! One end of the conversation between a VEM and the VSM, without socket and clock.
//!
//! ```text
//!   octets from TLS ─▶ receive ─▶ next ─▶ messages          send ─▶ outgoing, sent ─▶ octets to TLS
//!                          tick(now): heartbeats out, silence found
//! ```
//!
//! The same type serves both ends ([`VemSession`], [`VsmSession`]). It enforces what every message must obey whatever it
//! says: its length, that it decodes, that the opening comes first and once, that nothing follows a message that is to
//! be the only one, and that the peer is heard of. Any error ends this session and no other.
//!
//! Limits: an opening of [`OPENING_MAX`] octets within six seconds, whoever sends it; then messages of
//! [`MESSAGE_MAX`]; [`BACKLOG_MAX`] octets that the peer has not taken.
//!
//! Time is milliseconds from any start, never going back.

use std::marker::PhantomData;

use minicbor::{Decode, Encode};

use crate::codec::{self, Inbox};
use crate::msg::{FromVem, FromVsm, HEARTBEAT_MISSES, HEARTBEAT_MS, MESSAGE_MAX};

/// Largest first message, octets: nobody is known yet.
pub const OPENING_MAX: usize = 16 << 10;
/// Most octets that wait for the peer to take them.
pub const BACKLOG_MAX: usize = 4 * MESSAGE_MAX;
/// Milliseconds of silence that end a session.
pub const SILENCE_MS: u64 = HEARTBEAT_MS * HEARTBEAT_MISSES;

/// Where in a session a message may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// First, and only there.
    Opening,
    /// First, and nothing follows it.
    Only,
    /// Anywhere behind the opening.
    Later,
}

/// A message of one direction.
pub trait Message: Encode<()> + for<'b> Decode<'b, ()> {
    /// The message that says "I am alive".
    const HEARTBEAT: Self;

    /// Where it may stand.
    fn place(&self) -> Place;

    /// It says "I am alive" and nothing else.
    fn is_heartbeat(&self) -> bool;
}

impl Message for FromVem {
    const HEARTBEAT: Self = FromVem::Heartbeat;

    fn place(&self) -> Place {
        match self {
            FromVem::Hello(_) => Place::Opening,
            FromVem::Enroll(_) => Place::Only,
            _ => Place::Later,
        }
    }

    fn is_heartbeat(&self) -> bool {
        matches!(self, FromVem::Heartbeat)
    }
}

impl Message for FromVsm {
    const HEARTBEAT: Self = FromVsm::Heartbeat;

    fn place(&self) -> Place {
        match self {
            FromVsm::Welcome { .. } => Place::Opening,
            FromVsm::Refuse(_) | FromVsm::Enrolled { .. } => Place::Only,
            _ => Place::Later,
        }
    }

    fn is_heartbeat(&self) -> bool {
        matches!(self, FromVsm::Heartbeat)
    }
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Length or content of a message.
    #[error(transparent)]
    Codec(#[from] codec::Error),
    /// A message where it may not stand.
    #[error("a message out of order: {0}")]
    Order(&'static str),
    /// Nothing was heard for [`SILENCE_MS`].
    #[error("no heartbeat for {} seconds", SILENCE_MS / 1000)]
    Silent,
    /// No opening in [`SILENCE_MS`].
    #[error("no hello within {} seconds", SILENCE_MS / 1000)]
    NotOpened,
    /// The peer does not take what it is sent.
    #[error("the peer does not read: {0} octets are waiting")]
    Backlog(usize),
}

/// How far one direction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Progress {
    #[default]
    Fresh,
    Open,
    Over,
}

impl Progress {
    fn step(&mut self, place: Place) -> Result<(), Error> {
        *self = match (*self, place) {
            (Progress::Fresh, Place::Opening) => Progress::Open,
            (Progress::Fresh, Place::Only) => Progress::Over,
            (Progress::Open, Place::Later) => Progress::Open,
            (Progress::Fresh, Place::Later) => return Err(Error::Order("the hello comes first")),
            (Progress::Open, _) => return Err(Error::Order("a second hello")),
            (Progress::Over, _) => return Err(Error::Order("nothing may follow")),
        };
        Ok(())
    }

    fn limit(self) -> usize {
        if self == Progress::Open { MESSAGE_MAX } else { OPENING_MAX }
    }
}

/// Messages of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Received that are not heartbeats.
    pub messages_in: u64,
    /// Sent that are not heartbeats.
    pub messages_out: u64,
    /// Heartbeats received.
    pub heartbeats_in: u64,
    /// Heartbeats sent.
    pub heartbeats_out: u64,
}

/// One end of a session that receives `In` and sends `Out`.
#[derive(Debug)]
pub struct Session<In, Out> {
    inbox: Inbox,
    outbox: Vec<u8>,
    taken: usize,
    received: Progress,
    sent: Progress,
    heard_ms: u64,
    beat_ms: u64,
    counters: Counters,
    directions: PhantomData<fn(In) -> Out>,
}

/// The agent's end.
pub type VemSession = Session<FromVsm, FromVem>;
/// The supervisor's end.
pub type VsmSession = Session<FromVem, FromVsm>;

impl<In: Message, Out: Message> Session<In, Out> {
    /// A session that begins now.
    pub fn new(now_ms: u64) -> Self {
        Session {
            inbox: Inbox::default(),
            outbox: Vec::new(),
            taken: 0,
            received: Progress::default(),
            sent: Progress::default(),
            heard_ms: now_ms,
            beat_ms: now_ms,
            counters: Counters::default(),
            directions: PhantomData,
        }
    }

    /// Takes octets that have arrived. Follow with [`Session::next`] until it has nothing.
    pub fn receive(&mut self, now_ms: u64, octets: &[u8]) {
        // A large message may take longer than the silence that is allowed; before the opening only time counts, so
        // that nobody holds a place by a trickle.
        if self.received == Progress::Open && !octets.is_empty() {
            self.heard_ms = now_ms;
        }
        self.inbox.push(octets);
    }

    /// The next message that is not a heartbeat.
    ///
    /// # Errors
    /// The peer broke a rule; the session is over.
    pub fn next(&mut self, now_ms: u64) -> Result<Option<In>, Error> {
        loop {
            let Some(message) = self.inbox.next::<In>(self.received.limit())? else { return Ok(None) };
            self.received.step(message.place())?;
            self.heard_ms = now_ms;
            if !message.is_heartbeat() {
                self.counters.messages_in += 1;
                return Ok(Some(message));
            }
            self.counters.heartbeats_in += 1;
        }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// It is too long or may not stand here: nothing was queued. [`Error::Backlog`]: the peer does not read.
    pub fn send(&mut self, message: &Out) -> Result<(), Error> {
        let mut progress = self.sent;
        progress.step(message.place())?;
        if self.taken > 0 && self.taken >= self.outbox.len() / 2 {
            self.outbox.drain(..self.taken);
            self.taken = 0;
        }
        let waiting = self.outgoing().len();
        if waiting > BACKLOG_MAX {
            return Err(Error::Backlog(waiting));
        }
        let limit = if self.sent == Progress::Open { MESSAGE_MAX } else { OPENING_MAX };
        codec::encode(message, limit, &mut self.outbox)?;
        self.sent = progress;
        if message.is_heartbeat() {
            self.counters.heartbeats_out += 1;
        } else {
            self.counters.messages_out += 1;
        }
        Ok(())
    }

    /// Octets for the peer.
    pub fn outgoing(&self) -> &[u8] {
        &self.outbox[self.taken..]
    }

    /// So many octets of [`Session::outgoing`] are on their way.
    pub fn sent(&mut self, octets: usize) {
        self.taken = (self.taken + octets).min(self.outbox.len());
    }

    /// To be called when time has passed: queues a heartbeat when one is due.
    ///
    /// # Errors
    /// The peer was silent for too long.
    pub fn tick(&mut self, now_ms: u64) -> Result<(), Error> {
        if now_ms.saturating_sub(self.heard_ms) >= SILENCE_MS {
            return Err(if self.received == Progress::Fresh { Error::NotOpened } else { Error::Silent });
        }
        if self.is_open() && now_ms.saturating_sub(self.beat_ms) >= HEARTBEAT_MS {
            self.beat_ms = now_ms;
            self.send(&Out::HEARTBEAT)?;
        }
        Ok(())
    }

    /// When [`Session::tick`] has something to do.
    pub fn due_ms(&self) -> u64 {
        let silence = self.heard_ms + SILENCE_MS;
        if self.is_open() { silence.min(self.beat_ms + HEARTBEAT_MS) } else { silence }
    }

    /// Both sides have sent their opening.
    pub fn is_open(&self) -> bool {
        self.received == Progress::Open && self.sent == Progress::Open
    }

    /// Messages so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::msg::{ConfigHash, Hello, HostUuid, PROTOCOL};

    fn hello() -> FromVem {
        FromVem::Hello(Hello {
            protocol: PROTOCOL,
            domain: 1,
            uuid: HostUuid([1; 16]),
            host: "host-1".to_owned(),
            software: "0.1.0".to_owned(),
            version: 0,
            hash: ConfigHash::default(),
            capabilities: Vec::new(),
        })
    }

    fn welcome() -> FromVsm {
        FromVsm::Welcome { module: 3, switch_name: "switch".to_owned(), software: "0.1.0".to_owned() }
    }

    fn octets(messages: &[FromVem]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            codec::encode(message, MESSAGE_MAX, &mut out).unwrap();
        }
        out
    }

    /// An open pair at time 0.
    fn pair() -> (VemSession, VsmSession) {
        let (mut vem, mut vsm) = (VemSession::new(0), VsmSession::new(0));
        vem.send(&hello()).unwrap();
        carry(&mut vem, &mut vsm, 0);
        assert_eq!(vsm.next(0), Ok(Some(hello())));
        vsm.send(&welcome()).unwrap();
        carry(&mut vsm, &mut vem, 0);
        assert_eq!(vem.next(0), Ok(Some(welcome())));
        (vem, vsm)
    }

    fn carry<A: Message, B: Message>(from: &mut Session<B, A>, to: &mut Session<A, B>, now_ms: u64) {
        to.receive(now_ms, from.outgoing());
        from.sent(from.outgoing().len());
    }

    #[test]
    fn heartbeats_every_second_keep_a_session() {
        let (mut vem, mut vsm) = pair();
        for now in (0..60_000).step_by(250) {
            vem.tick(now).unwrap();
            vsm.tick(now).unwrap();
            carry(&mut vem, &mut vsm, now);
            carry(&mut vsm, &mut vem, now);
            assert_eq!(vsm.next(now), Ok(None));
            assert_eq!(vem.next(now), Ok(None));
        }
        assert_eq!(vem.counters().heartbeats_out, 59);
        assert_eq!(vsm.counters().heartbeats_in, 59);
        assert_eq!(vsm.counters().messages_in, 1);
    }

    #[test]
    fn six_missed_heartbeats_end_it() {
        let (_, mut vsm) = pair();
        assert_eq!(vsm.tick(SILENCE_MS - 1), Ok(()));
        assert_eq!(vsm.tick(SILENCE_MS), Err(Error::Silent));
    }

    #[test]
    fn a_trickle_before_the_hello_gains_no_time() {
        let mut vsm = VsmSession::new(0);
        for (i, octet) in octets(&[hello()]).iter().take(12).enumerate() {
            let now = i as u64 * 500;
            assert_eq!(vsm.tick(now), Ok(()));
            vsm.receive(now, &[*octet]);
            assert_eq!(vsm.next(now), Ok(None));
        }
        assert_eq!(vsm.tick(SILENCE_MS), Err(Error::NotOpened));
    }

    #[test]
    fn the_hello_comes_first_and_once() {
        let order = |messages: &[FromVem]| {
            let mut vsm = VsmSession::new(0);
            vsm.receive(0, &octets(messages));
            loop {
                match vsm.next(0) {
                    Ok(Some(_)) => (),
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        let ports = FromVem::Ports(Vec::new());
        let enroll = FromVem::Enroll(crate::msg::Enroll {
            domain: 1,
            secret: vec![0; 32],
            uuid: HostUuid([0; 16]),
            host: String::new(),
            csr: Vec::new(),
        });
        assert_eq!(order(&[hello(), ports.clone(), FromVem::Heartbeat]), Ok(()));
        assert_eq!(order(std::slice::from_ref(&enroll)), Ok(()));
        assert!(matches!(order(std::slice::from_ref(&ports)), Err(Error::Order(_))));
        assert!(matches!(order(&[FromVem::Heartbeat]), Err(Error::Order(_))));
        assert!(matches!(order(&[hello(), hello()]), Err(Error::Order(_))));
        assert!(matches!(order(&[hello(), enroll.clone()]), Err(Error::Order(_))));
        assert!(matches!(order(&[enroll.clone(), ports]), Err(Error::Order(_))));
        assert!(matches!(order(&[enroll, hello()]), Err(Error::Order(_))));
        let mut vem = VemSession::new(0);
        assert!(matches!(vem.send(&FromVem::Heartbeat), Err(Error::Order(_))));
        assert!(vem.outgoing().is_empty());
    }

    #[test]
    fn lengths_are_judged_before_anything_is_kept() {
        let mut vsm = VsmSession::new(0);
        vsm.receive(0, &(OPENING_MAX as u32 + 1).to_be_bytes());
        assert!(matches!(vsm.next(0), Err(Error::Codec(codec::Error::TooLong { limit: OPENING_MAX, .. }))));

        let (_, mut vsm) = pair();
        vsm.receive(0, &(MESSAGE_MAX as u32).to_be_bytes());
        assert_eq!(vsm.next(0), Ok(None), "8 MiB are allowed");
        let (_, mut vsm) = pair();
        vsm.receive(0, &(MESSAGE_MAX as u32 + 1).to_be_bytes());
        assert!(matches!(vsm.next(0), Err(Error::Codec(codec::Error::TooLong { limit: MESSAGE_MAX, .. }))));
        assert!(vsm.inbox.held() <= 4);
    }

    #[test]
    fn a_message_over_the_limit_is_not_sent() {
        let (_, mut vsm) = pair();
        let message = FromVsm::Prepare { version: 1, hash: ConfigHash::default(), config: vec![0; MESSAGE_MAX] };
        assert!(matches!(vsm.send(&message), Err(Error::Codec(codec::Error::TooLong { .. }))));
        assert!(vsm.outgoing().is_empty());
        assert_eq!(vsm.send(&FromVsm::Commit(1)), Ok(()));
    }

    #[test]
    fn a_peer_that_does_not_read_is_given_up() {
        let (_, mut vsm) = pair();
        let message = FromVsm::Prepare { version: 1, hash: ConfigHash::default(), config: vec![0; MESSAGE_MAX - 64] };
        let sent = (0..10).take_while(|_| vsm.send(&message).is_ok()).count();
        assert_eq!(sent, 5);
        assert!(matches!(vsm.send(&message), Err(Error::Backlog(_))));
    }

    #[test]
    fn octets_behind_a_message_are_refused() {
        let mut body = minicbor::to_vec(hello()).unwrap();
        body.push(0);
        let mut vsm = VsmSession::new(0);
        vsm.receive(0, &(body.len() as u32).to_be_bytes());
        vsm.receive(0, &body);
        assert!(matches!(vsm.next(0), Err(Error::Codec(codec::Error::Malformed(_)))));
    }

    proptest! {
        /// However the octets are cut, the same messages come out.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..40, 0..60), versions in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut messages = vec![hello()];
            for version in versions {
                messages.push(FromVem::Prepared { version, error: (version % 2 == 0).then(|| "no".repeat((version % 50) as usize)) });
            }
            let all = octets(&messages);
            let (mut vsm, mut rest, mut cuts) = (VsmSession::new(0), &all[..], cuts.into_iter().cycle());
            let mut got = Vec::new();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(cuts.next().unwrap_or(7).min(rest.len()));
                rest = behind;
                vsm.receive(0, piece);
                while let Some(message) = vsm.next(0).unwrap() {
                    got.push(message);
                }
            }
            prop_assert_eq!(got, messages);
            prop_assert_eq!(vsm.inbox.held(), 0);
        }

        /// Garbage never panics, and never makes the session hold more than it was given.
        #[test]
        fn garbage_is_an_error_or_waits(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20)) {
            let mut vsm = VsmSession::new(0);
            let mut given = 0;
            for piece in pieces {
                given += piece.len();
                vsm.receive(0, &piece);
                while let Ok(Some(_)) = vsm.next(0) {}
                prop_assert!(vsm.inbox.held() <= given);
            }
        }

        /// A true message with a few octets changed never panics either.
        #[test]
        fn damage_is_an_error_or_another_message(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut all = octets(&[hello(), FromVem::Ports(Vec::new())]);
            let at = at.index(all.len());
            all[at] = to;
            let mut vsm = VsmSession::new(0);
            vsm.receive(0, &all);
            while let Ok(Some(_)) = vsm.next(0) {}
        }
    }
}
