//! Join tokens: one line of text that the network administrator gives to a server administrator.
//!
//! `join1.` and base64url of numbered-field CBOR. A token says which domain to join, where its supervisor is, which
//! authority to trust (so that the first connection is already safe), and carries a secret that is good once and until
//! its expiry. Whoever has the text can join: treat it as a password.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use minicbor::{Decode, Encode};

/// What every token begins with.
const PREFIX: &str = "join1.";
/// Longest token, characters.
const LENGTH_MAX: usize = 4096;

/// A join token. `Display` is the secret text; `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct Token {
    /// Domain id, 1-4095.
    #[n(0)]
    pub domain: u16,
    /// Addresses of the supervisor, `192.0.2.1:4785`; at least one.
    #[n(1)]
    pub addresses: Vec<String>,
    /// SHA-256 of the authority's certificate (DER).
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub fingerprint: [u8; 32],
    /// Good once.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub secret: [u8; 32],
    /// Unix time, seconds, after which it is worth nothing.
    #[n(4)]
    pub expires_s: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = minicbor::to_vec(self).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("domain", &self.domain)
            .field("addresses", &self.addresses)
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

/// Why text is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin like one.
    #[error("this is not a join token; one begins with `{PREFIX}`")]
    Prefix,
    /// Characters are missing, changed or too many.
    #[error("the join token is damaged: copy the whole line that `vsm enroll` has printed")]
    Damaged,
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(Error::Prefix)?;
        if body.len() > LENGTH_MAX {
            return Err(Error::Damaged);
        }
        let octets = URL_SAFE_NO_PAD.decode(body).map_err(|_| Error::Damaged)?;
        let mut decoder = minicbor::Decoder::new(&octets);
        let token: Token = decoder.decode().map_err(|_| Error::Damaged)?;
        let whole = decoder.position() == octets.len();
        if !whole || token.addresses.is_empty() || !(1..=4095).contains(&token.domain) {
            return Err(Error::Damaged);
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> Token {
        Token {
            domain: 100,
            addresses: vec!["192.0.2.1:4785".to_owned(), "[2001:db8::1]:4785".to_owned()],
            fingerprint: [0xfa; 32],
            secret: [0x5e; 32],
            expires_s: 1_800_000_000,
        }
    }

    #[test]
    fn the_text_reads_back() {
        let text = token().to_string();
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{text}");
        assert_eq!(text.parse(), Ok(token()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("94"), "the secret is not in the debug text");
    }

    #[test]
    fn damage_is_found() {
        let text = token().to_string();
        assert_eq!("".parse::<Token>(), Err(Error::Prefix));
        assert_eq!("hello".parse::<Token>(), Err(Error::Prefix));
        assert_eq!(text[..text.len() - 4].parse::<Token>(), Err(Error::Damaged));
        assert_eq!(format!("{text}AAAA").parse::<Token>(), Err(Error::Damaged));
        assert_eq!(format!("{text}!").parse::<Token>(), Err(Error::Damaged));
        assert_eq!(Token { domain: 0, ..token() }.to_string().parse::<Token>(), Err(Error::Damaged));
        assert_eq!(Token { addresses: Vec::new(), ..token() }.to_string().parse::<Token>(), Err(Error::Damaged));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<Token>();
            let _ = format!("{PREFIX}{text}").parse::<Token>();
        }
    }
}
