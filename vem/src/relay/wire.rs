//! What sender and receiver say to each other: frames, in order, over TLS.
//!
//! ```text
//!  0       2         3      4        8                    8+length
//!  "FR"    version   kind   length   body ...             CRC-32C of all before it
//! ```
//!
//! | kind | name | from | body |
//! |---|---|---|---|
//! | 1 | hello | sender | stream (16), highest number acknowledged (8), next number (8), name (rest, UTF-8) |
//! | 2 | welcome | receiver | stream (16), highest number delivered (8), window in octets (4) |
//! | 3 | data | sender | stream (16), number (8), time of receipt in ns since 1970 (8), source address (16; IPv4 mapped), source port (2), datagram (rest) |
//! | 4 | gap | sender | stream (16), first (8) and last (8) number that will not come, datagrams that were lost (8), reason (1) |
//! | 5 | ack | receiver | highest number delivered (8) |
//! | 6 | refuse | receiver | reason (rest, UTF-8) |
//! | 7 | ping | both | |
//!
//! Numbers ascend by one from 1 over the life of a stream; all integers are big-endian. The frame of a datagram is the same in
//! the spool and on the wire. Sans-I/O.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Octets that name a stream.
pub type StreamId = [u8; 16];

/// Version of the frames.
pub const VERSION: u8 = 1;
const MAGIC: [u8; 2] = *b"FR";
const HEADER: usize = 8;
const CRC: usize = 4;
/// Octets of a data frame before the datagram, and after it.
pub const DATA_OVERHEAD: usize = HEADER + DATA_FIXED + CRC;
const DATA_FIXED: usize = 16 + 8 + 8 + 16 + 2;
/// Longest datagram.
pub const DATAGRAM_MAX: usize = 65_535;
/// Longest name or reason.
pub const TEXT_MAX: usize = 200;
const BODY_MAX: usize = DATA_FIXED + DATAGRAM_MAX;

/// What came is no frame of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// The first octets are others.
    #[error("this is not flow-relay")]
    Magic,
    /// A version that is not known.
    #[error("flow-relay version {0} is not known")]
    Version(u8),
    /// The checksum differs.
    #[error("a frame's checksum is wrong")]
    Crc,
    /// A kind that is not known, or a body that is not what the kind says.
    #[error("a frame of kind {0} is malformed")]
    Body(u8),
    /// Longer than any frame.
    #[error("a frame of {0} octets is too long")]
    Length(usize),
}

/// Why numbers will not come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// Not known any more.
    Unknown = 0,
    /// The spool had reached its size, or the disk was full.
    Size = 1,
    /// They had waited too long.
    Age = 2,
    /// The spool's file is damaged.
    Damage = 3,
    /// No disk, and the memory was full.
    Memory = 4,
    /// The sender's host restarted: numbers are left out so that none is used twice.
    Restart = 5,
}

impl Reason {
    fn read(octet: u8) -> Self {
        match octet {
            1 => Reason::Size,
            2 => Reason::Age,
            3 => Reason::Damage,
            4 => Reason::Memory,
            5 => Reason::Restart,
            _ => Reason::Unknown,
        }
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Unknown => "for a reason that is not known any more",
            Reason::Size => "because the spool was full",
            Reason::Age => "because they had waited too long",
            Reason::Damage => "because the spool is damaged",
            Reason::Memory => "because the disk was not to be had and the memory was full",
            Reason::Restart => "with the sender's host",
        }
    }
}

/// Numbers that will not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// Datagrams that were lost, as far as is known.
    pub lost: u64,
    /// Why.
    pub reason: Reason,
}

/// A datagram, as it was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data {
    /// Its number.
    pub number: u64,
    /// When it was received, nanoseconds since 1970.
    pub received_ns: u64,
    /// Who sent it.
    pub source: SocketAddr,
    /// What.
    pub octets: Vec<u8>,
}

/// A frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// The sender's first.
    Hello {
        /// The stream.
        stream: StreamId,
        /// Highest number that the receiver has acknowledged.
        acked: u64,
        /// Number that the next datagram gets.
        next: u64,
        /// Name of the sender.
        name: String,
    },
    /// The receiver's answer to it.
    Welcome {
        /// The stream.
        stream: StreamId,
        /// Highest number that was delivered.
        delivered: u64,
        /// Octets of frames that the sender may have under way.
        window: u32,
    },
    /// A datagram.
    Data(StreamId, Data),
    /// Numbers that will not come.
    Gap(StreamId, Gap),
    /// Everything up to this number was delivered.
    Ack(u64),
    /// The receiver does not serve this sender.
    Refuse(String),
    /// Still there.
    Ping,
}

impl Frame {
    /// The frame's octets.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Frame::Hello { stream, acked, next, name } => {
                frame(1, &[stream, &acked.to_be_bytes(), &next.to_be_bytes(), cut(name)])
            }
            Frame::Welcome { stream, delivered, window } => {
                frame(2, &[stream, &delivered.to_be_bytes(), &window.to_be_bytes()])
            }
            Frame::Data(stream, data) => encode_data(stream, data),
            Frame::Gap(stream, gap) => {
                let numbers = [gap.first, gap.last, gap.lost].map(u64::to_be_bytes);
                frame(4, &[stream, numbers.as_flattened(), &[gap.reason as u8]])
            }
            Frame::Ack(number) => frame(5, &[&number.to_be_bytes()]),
            Frame::Refuse(reason) => frame(6, &[cut(reason)]),
            Frame::Ping => frame(7, &[]),
        }
    }
}

/// The frame of a datagram.
pub fn encode_data(stream: &StreamId, data: &Data) -> Vec<u8> {
    let address = match data.source.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let (number, time) = (data.number.to_be_bytes(), data.received_ns.to_be_bytes());
    frame(3, &[stream, &number, &time, &address.octets(), &data.source.port().to_be_bytes(), &data.octets])
}

fn cut(text: &str) -> &[u8] {
    text.as_bytes().get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default()
}

fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut octets = Vec::with_capacity(HEADER + length + CRC);
    octets.extend(MAGIC);
    octets.extend([VERSION, kind]);
    octets.extend((length as u32).to_be_bytes());
    parts.iter().for_each(|part| octets.extend_from_slice(part));
    octets.extend(crc32c::crc32c(&octets).to_be_bytes());
    octets
}

/// Takes octets as they come, gives frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Takes octets.
    pub fn push(&mut self, octets: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(octets);
    }

    /// The next frame, if it is there whole.
    ///
    /// # Errors
    /// What is there is no frame; nothing after it can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((frame, length)) = decode(rest)? else { return Ok(None) };
        self.taken += length;
        Ok(Some(frame))
    }
}

/// The first frame of `octets` and its length; `None` while it is not whole.
///
/// # Errors
/// It is no frame.
pub fn decode(octets: &[u8]) -> Result<Option<(Frame, usize)>, Error> {
    let Some((head, rest)) = octets.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [m0, m1, version, kind, length @ ..] = *head;
    if [m0, m1] != MAGIC {
        return Err(Error::Magic);
    }
    if version != VERSION {
        return Err(Error::Version(version));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > BODY_MAX {
        return Err(Error::Length(length));
    }
    let Some((body, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some(crc) = rest.first_chunk::<CRC>() else { return Ok(None) };
    if crc32c::crc32c(octets.get(..HEADER + length).unwrap_or_default()) != u32::from_be_bytes(*crc) {
        return Err(Error::Crc);
    }
    let frame = body_of(kind, body).ok_or(Error::Body(kind))?;
    Ok(Some((frame, HEADER + length + CRC)))
}

fn body_of(kind: u8, body: &[u8]) -> Option<Frame> {
    let mut body = Body(body);
    let frame = match kind {
        1 => Frame::Hello { stream: body.take()?, acked: body.number()?, next: body.number()?, name: body.text()? },
        2 => {
            Frame::Welcome { stream: body.take()?, delivered: body.number()?, window: u32::from_be_bytes(body.take()?) }
        }
        3 => {
            let (stream, number, received_ns) = (body.take()?, body.number()?, body.number()?);
            let ip = IpAddr::from(Ipv6Addr::from(body.take::<16>()?)).to_canonical();
            let source = SocketAddr::new(ip, u16::from_be_bytes(body.take()?));
            let octets = std::mem::take(&mut body.0).to_vec();
            Frame::Data(stream, Data { number, received_ns, source, octets })
        }
        4 => {
            let (stream, first, last, lost) = (body.take()?, body.number()?, body.number()?, body.number()?);
            let [reason] = body.take()?;
            (first <= last).then_some(())?;
            Frame::Gap(stream, Gap { first, last, lost, reason: Reason::read(reason) })
        }
        5 => Frame::Ack(body.number()?),
        6 => Frame::Refuse(body.text()?),
        7 => Frame::Ping,
        _ => return None,
    };
    body.0.is_empty().then_some(frame)
}

struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let text = std::str::from_utf8(std::mem::take(&mut self.0)).ok()?;
        (text.len() <= TEXT_MAX && !text.contains(char::is_control)).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: StreamId = [9; 16];

    fn frames() -> Vec<Frame> {
        let data = |source: &str, octets: Vec<u8>| {
            Frame::Data(STREAM, Data { number: 7, received_ns: 8, source: source.parse().unwrap(), octets })
        };
        vec![
            Frame::Hello { stream: STREAM, acked: 1, next: 2, name: "host1".into() },
            Frame::Welcome { stream: STREAM, delivered: 3, window: 4 },
            data("192.0.2.1:2055", vec![1, 2, 3]),
            data("[2001:db8::1]:9", vec![5; DATAGRAM_MAX]),
            Frame::Gap(STREAM, Gap { first: 4, last: 9, lost: 6, reason: Reason::Age }),
            Frame::Ack(u64::MAX),
            Frame::Refuse("unknown".into()),
            Frame::Ping,
        ]
    }

    #[test]
    fn every_frame_comes_out_as_it_went_in_however_it_is_cut() {
        let octets: Vec<u8> = frames().iter().flat_map(Frame::encode).collect();
        for step in [1, 3, 1000, octets.len()] {
            let (mut decoder, mut out) = (Decoder::default(), Vec::new());
            for piece in octets.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    out.push(frame);
                }
            }
            assert_eq!(out, frames());
        }
    }

    #[test]
    fn the_octets_of_a_datagram_are_those_of_the_table() {
        let source = "192.0.2.1:2055".parse().unwrap();
        let octets = encode_data(&[0xAA; 16], &Data { number: 1, received_ns: 2, source, octets: b"nf".to_vec() });
        assert_eq!(octets.len(), DATA_OVERHEAD + 2);
        assert_eq!(octets[..8], [b'F', b'R', 1, 3, 0, 0, 0, 52]);
        assert_eq!(octets[8..24], [0xAA; 16]);
        assert_eq!(octets[24..40], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(octets[40..58], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 192, 0, 2, 1, 8, 7]);
        assert_eq!(octets[58..60], *b"nf");
        assert_eq!(octets[60..], crc32c::crc32c(&octets[..60]).to_be_bytes());
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283, "RFC 3720 B.4's polynomial");
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = frames()[2].encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(decode(&bad), Ok(Some(_))), "bit {bit}");
        }
        assert_eq!(decode(b"GET / HTTP/1.1\r\n"), Err(Error::Magic));
        let mut other = Frame::Ping.encode();
        other[2] = 2;
        assert_eq!(decode(&other), Err(Error::Version(2)));
        assert_eq!(decode(&[b'F', b'R', 1, 3, 0xFF, 0, 0, 0]), Err(Error::Length(0xFF00_0000)));
        assert_eq!(decode(&frame(99, &[])), Err(Error::Body(99)));
        assert_eq!(decode(&frame(6, &["a\nb".as_bytes()])), Err(Error::Body(6)));
    }

    proptest! {
        #[test]
        fn nothing_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&octets);
            for kind in 0..9 {
                let _ = decode(&frame(kind, &[&octets]));
            }
        }
    }
}
