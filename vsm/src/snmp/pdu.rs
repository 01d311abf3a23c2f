//! The messages of AgentX (RFC 2741) that a subagent sends and receives. Sans I/O.
//!
//! What is sent is in network byte order; what is received may be in either, as its header says. A message that is cut
//! short, contradicts itself or is longer than [`PAYLOAD_MAX`] is an error, and ends the session.
//!
//! Own code: the crate `agentx` keeps octet strings as UTF-8 text, so it can't carry a MAC address.

use super::oid::{Oid, SUBIDS_MAX, Value, VarBind};

/// Octets of a header.
pub const HEADER: usize = 20;
/// Most octets behind a header.
pub const PAYLOAD_MAX: usize = 64 << 10;

const VERSION: u8 = 1;
const NON_DEFAULT_CONTEXT: u8 = 0x08;
const NETWORK_BYTE_ORDER: u8 = 0x10;

/// Types of messages.
mod kind {
    pub const OPEN: u8 = 1;
    pub const CLOSE: u8 = 2;
    pub const REGISTER: u8 = 3;
    pub const GET: u8 = 5;
    pub const GET_NEXT: u8 = 6;
    pub const GET_BULK: u8 = 7;
    pub const TEST_SET: u8 = 8;
    pub const COMMIT_SET: u8 = 9;
    pub const UNDO_SET: u8 = 10;
    pub const CLEANUP_SET: u8 = 11;
    pub const NOTIFY: u8 = 12;
    pub const PING: u8 = 13;
    pub const RESPONSE: u8 = 18;
}

/// Why octets are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not this protocol.
    #[error("version {0} of AgentX")]
    Version(u8),
    /// It is too long.
    #[error("a message of {0} octets")]
    Length(u32),
    /// It is cut short, or holds what it must not.
    #[error("a malformed message of type {0}")]
    Malformed(u8),
}

/// What a header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Session.
    pub session: u32,
    /// Transaction.
    pub transaction: u32,
    /// Packet.
    pub packet: u32,
    kind: u8,
    flags: u8,
    length: u32,
}

/// Part of the tree: from `start` (itself too, when `include`) to before `end`; an empty `end` is no end.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Range {
    /// Where it begins.
    pub start: Oid,
    /// The beginning belongs to it.
    pub include: bool,
    /// Where it ends.
    pub end: Oid,
}

/// What a master sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// These variables.
    Get(Vec<Range>),
    /// Those that come next.
    GetNext(Vec<Range>),
    /// One that comes next for the first ones, and several for the others.
    GetBulk {
        /// How many are the first ones.
        non_repeaters: u16,
        /// How many for each of the others.
        repetitions: u16,
        /// All of them.
        ranges: Vec<Range>,
    },
    /// May these be set? Nothing may.
    TestSet,
    /// Set them.
    CommitSet,
    /// Take that back.
    UndoSet,
    /// That is over.
    CleanupSet,
    /// The master ends the session.
    Close,
    /// Its answer: hundredths of a second since it began, and an error, 0 when there is none.
    Response {
        /// `sysUpTime`
        uptime: u32,
        /// `res.error`
        error: u16,
    },
    /// The question is about a context, and there is none.
    OtherContext,
}

/// Reads a header.
///
/// # Errors
/// See [`Error`].
pub fn header(octets: &[u8; HEADER]) -> Result<(Header, usize), Error> {
    if octets[0] != VERSION {
        return Err(Error::Version(octets[0]));
    }
    let (kind, flags) = (octets[1], octets[2]);
    let mut reader = Reader { rest: &octets[4..], is_network: flags & NETWORK_BYTE_ORDER != 0 };
    let mut word = || reader.word().ok_or(Error::Malformed(kind));
    let (session, transaction, packet, length) = (word()?, word()?, word()?, word()?);
    if length as usize > PAYLOAD_MAX || length % 4 != 0 {
        return Err(Error::Length(length));
    }
    Ok((Header { session, transaction, packet, kind, flags, length }, length as usize))
}

/// Reads what stands behind a header.
///
/// # Errors
/// See [`Error`].
pub fn message(header: &Header, payload: &[u8]) -> Result<Message, Error> {
    let mut reader = Reader { rest: payload, is_network: header.flags & NETWORK_BYTE_ORDER != 0 };
    body(header, &mut reader).ok_or(Error::Malformed(header.kind))
}

fn body(header: &Header, reader: &mut Reader<'_>) -> Option<Message> {
    let has_context = header.flags & NON_DEFAULT_CONTEXT != 0;
    Some(match header.kind {
        kind::GET..=kind::TEST_SET if has_context => Message::OtherContext,
        kind::GET => Message::Get(reader.ranges()?),
        kind::GET_NEXT => Message::GetNext(reader.ranges()?),
        kind::GET_BULK => {
            let (non_repeaters, repetitions) = (reader.half()?, reader.half()?);
            Message::GetBulk { non_repeaters, repetitions, ranges: reader.ranges()? }
        }
        kind::TEST_SET => Message::TestSet,
        kind::COMMIT_SET => Message::CommitSet,
        kind::UNDO_SET => Message::UndoSet,
        kind::CLEANUP_SET => Message::CleanupSet,
        kind::CLOSE => Message::Close,
        kind::RESPONSE => Message::Response { uptime: reader.word()?, error: reader.half()? },
        _ => return None,
    })
}

struct Reader<'a> {
    rest: &'a [u8],
    is_network: bool,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    fn word(&mut self) -> Option<u32> {
        let octets = self.take()?;
        Some(if self.is_network { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) })
    }

    fn half(&mut self) -> Option<u16> {
        let octets = self.take()?;
        Some(if self.is_network { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) })
    }

    /// RFC 2741 section 5.1: a prefix says that 1.3.6.1.PREFIX stands in front.
    fn oid(&mut self) -> Option<(Oid, bool)> {
        let [count, prefix, include, _] = self.take()?;
        let mut ids = if prefix == 0 { Vec::new() } else { vec![1, 3, 6, 1, prefix.into()] };
        for _ in 0..count {
            ids.push(self.word()?);
        }
        (ids.len() <= SUBIDS_MAX).then_some((Oid(ids), include != 0))
    }

    fn ranges(&mut self) -> Option<Vec<Range>> {
        let mut ranges = Vec::new();
        while !self.rest.is_empty() {
            let (start, include) = self.oid()?;
            let (end, _) = self.oid()?;
            ranges.push(Range { start, include, end });
        }
        Some(ranges)
    }
}

/// What a subagent sends, as it goes to the master.
pub struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8, session: u32, transaction: u32, packet: u32) -> Self {
        let mut octets = vec![VERSION, kind, NETWORK_BYTE_ORDER, 0];
        for word in [session, transaction, packet, 0] {
            octets.extend(word.to_be_bytes());
        }
        Writer(octets)
    }

    fn done(mut self) -> Vec<u8> {
        let length = (self.0.len() - HEADER) as u32;
        self.0[16..HEADER].copy_from_slice(&length.to_be_bytes());
        self.0
    }

    fn word(&mut self, word: u32) {
        self.0.extend(word.to_be_bytes());
    }

    fn oid(&mut self, oid: &Oid) {
        let ids = &oid.0[..oid.0.len().min(SUBIDS_MAX)];
        self.0.extend([ids.len() as u8, 0, 0, 0]);
        ids.iter().for_each(|id| self.word(*id));
    }

    fn octets(&mut self, octets: &[u8]) {
        self.word(octets.len() as u32);
        self.0.extend(octets);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn bind(&mut self, (name, value): &VarBind) {
        let tag: u16 = match value {
            Value::Integer(_) => 2,
            Value::Octets(_) => 4,
            Value::Oid(_) => 6,
            Value::Counter32(_) => 65,
            Value::Gauge32(_) => 66,
            Value::TimeTicks(_) => 67,
            Value::Counter64(_) => 70,
            Value::NoSuchObject => 128,
            Value::NoSuchInstance => 129,
            Value::EndOfMibView => 130,
        };
        self.0.extend(tag.to_be_bytes());
        self.0.extend([0, 0]);
        self.oid(name);
        match value {
            Value::Integer(n) => self.word(n.cast_unsigned()),
            Value::Octets(octets) => self.octets(octets),
            Value::Oid(oid) => self.oid(oid),
            Value::Counter32(n) | Value::Gauge32(n) | Value::TimeTicks(n) => self.word(*n),
            Value::Counter64(n) => self.0.extend(n.to_be_bytes()),
            Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView => {}
        }
    }
}

/// Opens a session; the master is silent for up to `timeout_s` before it gives a question up.
pub fn open(packet: u32, timeout_s: u8, description: &str) -> Vec<u8> {
    let mut writer = Writer::new(kind::OPEN, 0, 0, packet);
    writer.0.extend([timeout_s, 0, 0, 0]);
    writer.oid(&Oid::default());
    writer.octets(description.as_bytes());
    writer.done()
}

/// Registers a part of the tree; the lowest priority wins.
pub fn register(session: u32, packet: u32, priority: u8, subtree: &Oid) -> Vec<u8> {
    let mut writer = Writer::new(kind::REGISTER, session, 0, packet);
    writer.0.extend([0, priority, 0, 0]);
    writer.oid(subtree);
    writer.done()
}

/// Asks whether the master is there.
pub fn ping(session: u32, packet: u32) -> Vec<u8> {
    Writer::new(kind::PING, session, 0, packet).done()
}

/// Ends the session, as the supervisor ends.
pub fn close(session: u32, packet: u32) -> Vec<u8> {
    const SHUTDOWN: u8 = 5;
    let mut writer = Writer::new(kind::CLOSE, session, 0, packet);
    writer.0.extend([SHUTDOWN, 0, 0, 0]);
    writer.done()
}

/// A notification; the first variable is `snmpTrapOID.0`.
pub fn notify(session: u32, packet: u32, binds: &[VarBind]) -> Vec<u8> {
    let mut writer = Writer::new(kind::NOTIFY, session, 0, packet);
    binds.iter().for_each(|bind| writer.bind(bind));
    writer.done()
}

/// The answer to a question.
pub fn response(to: &Header, error: u16, index: u16, binds: &[VarBind]) -> Vec<u8> {
    let mut writer = Writer::new(kind::RESPONSE, to.session, to.transaction, to.packet);
    writer.word(0);
    writer.0.extend(error.to_be_bytes());
    writer.0.extend(index.to_be_bytes());
    binds.iter().for_each(|bind| writer.bind(bind));
    writer.done()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(octets: &[u8]) -> Result<(Header, Message), Error> {
        let (head, length) = header(octets.first_chunk().unwrap())?;
        Ok((head, message(&head, &octets[HEADER..HEADER + length])?))
    }

    /// A GetNext of net-snmp 5.9.3, little-endian: from 1.3.6.1.2.1.2.2 to before 1.3.6.1.2.1.2.3.
    #[test]
    fn both_byte_orders_are_read() {
        let mut little = vec![1, 6, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 40, 0, 0, 0];
        for last in [2u32, 3] {
            little.extend([4, 2, 0, 0]);
            [1u32, 2, 0, last].iter().for_each(|id| little.extend(id.to_le_bytes()));
        }
        let (head, message) = read(&little).unwrap();
        assert_eq!((head.session, head.transaction, head.packet), (7, 8, 9));
        let range = Range {
            start: [1, 3, 6, 1, 2, 1, 2, 0, 2].into(),
            include: false,
            end: [1, 3, 6, 1, 2, 1, 2, 0, 3].into(),
        };
        assert_eq!(message, Message::GetNext(vec![range]));
    }

    #[test]
    fn answers_have_the_octets_of_the_rfc() {
        let to = Header { session: 1, transaction: 2, packet: 3, ..Header::default() };
        let octets = response(&to, 0, 0, &[([1, 3].into(), Value::Octets(vec![0xde, 0xad, 0xbe]))]);
        let want = [
            &[1, 18, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 32][..],
            &[0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 4, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 3, 0xde, 0xad, 0xbe, 0],
        ];
        assert_eq!(octets, want.concat());
        assert_eq!(read(&octets).unwrap().1, Message::Response { uptime: 0, error: 0 });
        assert_eq!(octets.len() % 4, 0);
    }

    #[test]
    fn what_is_wrong_is_an_error() {
        let mut octets = ping(1, 2);
        octets[0] = 2;
        assert_eq!(read(&octets), Err(Error::Version(2)));
        octets[0] = 1;
        assert_eq!(read(&octets), Err(Error::Malformed(13)), "a master does not ping");
        octets[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(read(&octets), Err(Error::Length(u32::MAX)));
    }

    proptest! {
        #[test]
        fn nothing_panics(kind in 0u8..20, flags in any::<u8>(), payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            let length = (payload.len() / 4 * 4) as u32;
            let head = Header { kind, flags, length, ..Header::default() };
            let _ = message(&head, &payload[..length as usize]);
        }
    }
}
