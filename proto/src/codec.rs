//! Messages to octets and back: a 4-octet big-endian length, then that many octets of CBOR.
//!
//! The length is judged when its four octets are there, before anything behind it is kept, so a peer can make us hold
//! one message of the allowed size and no more. Memory grows with what has arrived, never with what was announced.

use minicbor::{Decode, Encode};

/// Octets of the length in front of every message.
pub const PREFIX: usize = 4;

/// Why octets are not a message, or a message can't become octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than the place allows.
    #[error("message of {length} octets, {limit} are allowed here")]
    TooLong {
        /// Its length.
        length: usize,
        /// Largest length allowed.
        limit: usize,
    },
    /// Not the CBOR of a message.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// Appends a message and its length to `out`; `limit` is the largest allowed length of the message.
///
/// # Errors
/// [`Error::TooLong`]; nothing was appended.
pub fn encode<T: Encode<()>>(message: &T, limit: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    if let Err(error) = minicbor::encode(message, &mut *out) {
        out.truncate(start);
        return Err(Error::Malformed(error.to_string()));
    }
    let length = out.len() - start - PREFIX;
    match u32::try_from(length) {
        Ok(prefix) if length <= limit => {
            out[start..start + PREFIX].copy_from_slice(&prefix.to_be_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(Error::TooLong { length, limit })
        }
    }
}

/// What has arrived and is not decoded yet.
#[derive(Debug, Default)]
pub struct Inbox {
    octets: Vec<u8>,
    /// Octets in front that are decoded already.
    done: usize,
}

impl Inbox {
    /// Adds what has arrived, in pieces of any size.
    pub fn push(&mut self, octets: &[u8]) {
        if self.done > 0 && self.done >= self.octets.len() / 2 {
            self.octets.drain(..self.done);
            self.done = 0;
        }
        self.octets.extend_from_slice(octets);
    }

    /// Octets that are held.
    pub fn held(&self) -> usize {
        self.octets.len() - self.done
    }

    /// The next message, once all of it is there; `limit` is the largest allowed length.
    ///
    /// # Errors
    /// A length over the limit, or what is not exactly one message. The inbox is of no more use then.
    pub fn next<T: for<'b> Decode<'b, ()>>(&mut self, limit: usize) -> Result<Option<T>, Error> {
        let Some((prefix, rest)) = self.octets[self.done..].split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > limit {
            return Err(Error::TooLong { length, limit });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let mut decoder = minicbor::Decoder::new(body);
        let message = decoder.decode().map_err(|e| Error::Malformed(e.to_string()))?;
        if decoder.position() != length {
            return Err(Error::Malformed(format!("{} octets behind its end", length - decoder.position())));
        }
        self.done += PREFIX + length;
        Ok(Some(message))
    }
}
