//! `vsm enroll`: makes a join token. Works whether the supervisor runs or not.

use std::time::{SystemTime, UNIX_EPOCH};

use proto::token::Token;

use crate::bootstrap::Bootstrap;
use crate::module::authority::{self, Authority};
use crate::module::tokens::{self, Tokens};
use crate::store;

/// Longest life of a token, minutes: a week.
pub const TTL_MAX: u32 = 7 * 24 * 60;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] tokens::Error),
    /// A life of no minutes, or of too many.
    #[error("a token lives 1-{TTL_MAX} minutes")]
    Ttl,
}

/// Makes a token that one host, or only the host with that name, can join with in the next `ttl_min` minutes.
///
/// # Errors
/// See [`Error`].
pub fn issue(boot: &Bootstrap, host: Option<&str>, ttl_min: u32) -> Result<Token, Error> {
    if !(1..=TTL_MAX).contains(&ttl_min) {
        return Err(Error::Ttl);
    }
    store::make_directory(&boot.state_dir)?;
    let authority = Authority::open(&boot.state_dir, boot.domain)?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0);
    let expires_s = now_s + u64::from(ttl_min) * 60;
    let secret = Tokens::open(&boot.state_dir)?.issue(&authority::provider(), host, expires_s, now_s)?;
    Ok(Token {
        domain: boot.domain,
        addresses: boot.addresses(),
        fingerprint: authority.fingerprint(),
        secret,
        expires_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_where_and_whom_to_trust() {
        let dir = tempfile::tempdir().unwrap();
        let boot = Bootstrap {
            domain: 100,
            listen: ([127, 0, 0, 1], 4785).into(),
            advertise: vec!["vsm.example:4785".to_owned()],
            state_dir: dir.path().join("state"),
            cli_socket: dir.path().join("cli"),
            ssh: None,
            snmp: None,
            nxapi: None,
            metrics: None,
        };
        let token = issue(&boot, None, 10).unwrap();
        assert_eq!((token.domain, token.addresses.as_slice()), (100, &["vsm.example:4785".to_owned()][..]));
        assert_eq!(token.fingerprint, Authority::open(&boot.state_dir, 100).unwrap().fingerprint());
        let other = issue(&boot, None, 10).unwrap();
        assert_eq!(token.fingerprint, other.fingerprint);
        assert_ne!(token.secret, other.secret);
        assert!(matches!(issue(&boot, None, 0), Err(Error::Ttl)));
        assert!(matches!(issue(&boot, None, TTL_MAX + 1), Err(Error::Ttl)));
    }
}
