//! The messages between a VEM and the VSM.
//!
//! One TLS 1.3 connection per VEM carries frames of a 4-octet big-endian length and that many octets of CBOR: a
//! [`FromVem`] one way, a [`FromVsm`] the other.
//!
//! ```text
//!   VEM                                     VSM
//!    │ Hello{domain, uuid, version, …}  ──▶  │   refused: Refuse{reason}, connection closed, logged on both sides
//!    │  ◀──  Welcome{module, …}              │
//!    │ Ports[…]  (whole list)           ──▶  │   numbers are bound, a configuration is made
//!    │  ◀──  Prepare{version, hash, config}  │   hash already applied: Prepared at once
//!    │ Prepared{version, error?}        ──▶  │   all prepared: Commit, else Abort everywhere
//!    │  ◀──  Commit{version}                 │
//!    │ Applied{version, hash}           ──▶  │
//!    │ Heartbeat                       ◀──▶  │   every second; six missed end the connection
//!    │  ◀──  Query{id, …}                    │
//!    │ Answer{id, …}                    ──▶  │
//! ```
//!
//! Evolution: field numbers are never reused, new fields are `Option`, new variants are sent only to a peer whose hello
//! named the capability.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::query::Query;
use crate::report::{Answer, PortReport};

/// Version of this protocol.
pub const PROTOCOL: u16 = 1;
/// Largest message, octets.
pub const MESSAGE_MAX: usize = 8 << 20;
/// Milliseconds between heartbeats.
pub const HEARTBEAT_MS: u64 = 1000;
/// Heartbeats that may be missed in a row.
pub const HEARTBEAT_MISSES: u64 = 6;

/// SHA-256 over the octets of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct ConfigHash(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 32],
);

/// The permanent identity of a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Encode, Decode)]
#[cbor(transparent)]
pub struct HostUuid(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 16],
);

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Display for HostUuid {
    /// RFC 9562 clause 4: `f81d4fae-7dec-11d0-a765-00a0c91e6bf6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, octet) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

/// The text is not a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID; one looks like f81d4fae-7dec-11d0-a765-00a0c91e6bf6")]
pub struct UuidError;

impl FromStr for HostUuid {
    type Err = UuidError;

    /// Takes what `Display` writes, in either case.
    fn from_str(text: &str) -> Result<Self, UuidError> {
        let mut groups = text.split('-');
        let mut octets = [0; 16];
        let mut at = octets.iter_mut();
        for length in [8, 4, 4, 4, 12] {
            let group = groups.next().filter(|g| g.len() == length).ok_or(UuidError)?;
            for pair in group.as_bytes().chunks_exact(2) {
                let digit = |d: u8| char::from(d).to_digit(16).and_then(|v| u8::try_from(v).ok());
                let (high, low) = (digit(pair[0]).ok_or(UuidError)?, digit(pair[1]).ok_or(UuidError)?);
                *at.next().ok_or(UuidError)? = high << 4 | low;
            }
        }
        if groups.next().is_some() { Err(UuidError) } else { Ok(HostUuid(octets)) }
    }
}

/// From an agent to the supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum FromVem {
    /// First message of an enrolled agent.
    #[n(0)]
    Hello(#[n(0)] Hello),
    /// First and only message of an agent that is not enrolled yet.
    #[n(1)]
    Enroll(#[n(0)] Enroll),
    /// I am alive.
    #[n(2)]
    Heartbeat,
    /// All ports that are attached; sent after the hello and after every change.
    #[n(3)]
    Ports(#[n(0)] Vec<PortReport>),
    /// Outcome of a prepare.
    #[n(4)]
    Prepared {
        /// Version that was to be prepared.
        #[n(0)]
        version: u64,
        /// Why it can't be applied; nothing was changed.
        #[n(1)]
        error: Option<String>,
    },
    /// What runs now.
    #[n(5)]
    Applied {
        /// Version.
        #[n(0)]
        version: u64,
        /// Hash of what runs.
        #[n(1)]
        hash: ConfigHash,
    },
    /// To a query.
    #[n(6)]
    Answer {
        /// Its id.
        #[n(0)]
        id: u64,
        /// The answer.
        #[n(1)]
        answer: Answer,
    },
    /// Something that belongs in the supervisor's log.
    #[n(7)]
    Event(#[n(0)] Event),
}

/// Who an agent is.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Hello {
    /// [`PROTOCOL`] of the sender.
    #[n(0)]
    pub protocol: u16,
    /// Domain id, 1-4095.
    #[n(1)]
    pub domain: u16,
    /// Identity of the host.
    #[n(2)]
    pub uuid: HostUuid,
    /// Name of the host.
    #[n(3)]
    pub host: String,
    /// Version of the software.
    #[n(4)]
    pub software: String,
    /// Version and hash of the configuration that runs.
    #[n(5)]
    pub version: u64,
    /// See `version`.
    #[n(6)]
    pub hash: ConfigHash,
    /// Optional abilities by name, such as [`crate::query::CAPABILITIES`].
    #[n(7)]
    pub capabilities: Vec<String>,
}

/// A request for a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Enroll {
    /// Domain id, 1-4095.
    #[n(0)]
    pub domain: u16,
    /// The one-time secret of the join token.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub secret: Vec<u8>,
    /// Identity of the host.
    #[n(2)]
    pub uuid: HostUuid,
    /// Name of the host.
    #[n(3)]
    pub host: String,
    /// Certificate signing request, DER.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub csr: Vec<u8>,
}

/// A log line of an agent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Event {
    /// NX-OS facility, such as `ETHPORT`.
    #[n(0)]
    pub facility: String,
    /// 0 (emergency) - 7 (debug).
    #[n(1)]
    pub severity: u8,
    /// Mnemonic, such as `IF_UP`.
    #[n(2)]
    pub mnemonic: String,
    /// Text.
    #[n(3)]
    pub text: String,
}

/// From the supervisor to an agent.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub enum FromVsm {
    /// The hello was accepted.
    #[n(0)]
    Welcome {
        /// Module number, 3-66.
        #[n(0)]
        module: u8,
        /// Name of the switch.
        #[n(1)]
        switch_name: String,
        /// Version of the supervisor's software.
        #[n(2)]
        software: String,
    },
    /// The hello or the request was refused; the connection ends.
    #[n(1)]
    Refuse(#[n(0)] String),
    /// The certificate that was asked for.
    #[n(2)]
    Enrolled {
        /// Certificate of the agent, DER.
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        certificate: Vec<u8>,
        /// Certificate of the domain's authority, DER.
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        authority: Vec<u8>,
    },
    /// I am alive.
    #[n(3)]
    Heartbeat,
    /// Check this configuration and be ready to apply it.
    #[n(4)]
    Prepare {
        /// Rises with every change.
        #[n(0)]
        version: u64,
        /// Hash of `config`.
        #[n(1)]
        hash: ConfigHash,
        /// A [`crate::config::HostConfig`], encoded.
        #[n(2)]
        #[cbor(with = "minicbor::bytes")]
        config: Vec<u8>,
    },
    /// Apply what was prepared.
    #[n(5)]
    Commit(#[n(0)] u64),
    /// Forget what was prepared.
    #[n(6)]
    Abort(#[n(0)] u64),
    /// A question.
    #[n(7)]
    Query {
        /// Comes back with the answer.
        #[n(0)]
        id: u64,
        /// The question.
        #[n(1)]
        query: Query,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_back_what_it_prints() {
        let uuid =
            HostUuid([0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6]);
        assert_eq!(uuid.to_string(), "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        assert_eq!("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6".parse(), Ok(uuid));
    }

    #[test]
    fn what_is_not_a_uuid_is_refused() {
        for text in [
            "",
            "-",
            "f81d4fae7dec11d0a76500a0c91e6bf6",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6-",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bfg",
            "+81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-11d0-a765-\u{e9}0a0c91e6bf",
        ] {
            assert_eq!(text.parse::<HostUuid>(), Err(UuidError), "{text}");
        }
    }
}
