//! The secrets of join tokens: each good once, for one host if it names one, until it expires.
//!
//! A secret is a file in `tokens/`, named by the SHA-256 of the secret; the secret itself is not stored. Files and not
//! memory, because `vsm enroll` is a process of its own that works whether the supervisor runs or not. A token is used
//! up by renaming its file, which succeeds for one of any number that try.
//!
//! ```text
//!   tokens/<hash>.open  ── rename ──▶  tokens/<hash>.used        both removed a week after the expiry
//! ```

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store;

/// Seconds that a token is remembered after its expiry, so that a late user gets the right reason.
const MEMORY_S: u64 = 7 * 24 * 3600;
/// Most tokens that are remembered.
const TOKENS_MAX: usize = 4096;

/// The tokens of a state directory.
pub struct Tokens {
    directory: PathBuf,
}

/// What is stored of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The only host that may use it, when it names one.
    host: Option<String>,
    /// Unix time, seconds.
    expires_s: u64,
}

/// Why a token is not good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has made it here.
    #[error("the join token is not known here")]
    Unknown,
    /// It was good once.
    #[error("the join token has been used already")]
    Used,
    /// It was good for a while.
    #[error("the join token has expired")]
    Expired,
    /// It is good for another host.
    #[error("the join token is for host {0}")]
    OtherHost(String),
    /// There are too many to make another.
    #[error("{TOKENS_MAX} join tokens are open or remembered; they are forgotten a week after their expiry")]
    TooMany,
    /// Its file.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

/// A token that is good and not used up yet.
#[derive(Debug)]
pub struct Claim {
    open: PathBuf,
    used: PathBuf,
}

impl Tokens {
    /// The tokens of a state directory.
    ///
    /// # Errors
    /// Their directory can't be created.
    pub fn open(state_dir: &Path) -> Result<Self, Error> {
        let directory = state_dir.join("tokens");
        store::make_directory(&directory)?;
        Ok(Tokens { directory })
    }

    /// Makes a secret.
    ///
    /// # Errors
    /// There are too many, or it can't be stored.
    pub fn issue(
        &self,
        random: &CryptoProvider,
        host: Option<&str>,
        expires_s: u64,
        now_s: u64,
    ) -> Result<[u8; 32], Error> {
        if self.forget_old(now_s)? >= TOKENS_MAX {
            return Err(Error::TooMany);
        }
        let mut secret = [0; 32];
        random.secure_random.fill(&mut secret).map_err(|_| Error::Random)?;
        let record = Record { host: host.map(str::to_owned), expires_s };
        let path = self.path(&secret, "open");
        let text = serde_json::to_string(&record).map_err(|e| store::Error::content(&path, e))?;
        store::create(&path, text.as_bytes(), 0o600)?;
        Ok(secret)
    }

    /// Judges a secret without using it up.
    ///
    /// # Errors
    /// It is not good for that host now.
    pub fn check(&self, secret: &[u8], host: &str, now_s: u64) -> Result<Claim, Error> {
        let claim = Claim { open: self.path(secret, "open"), used: self.path(secret, "used") };
        let Some(record) = read(&claim.open)? else {
            return Err(if store::read(&claim.used)?.is_some() { Error::Used } else { Error::Unknown });
        };
        if now_s >= record.expires_s {
            return Err(Error::Expired);
        }
        match record.host {
            Some(own) if own != host => Err(Error::OtherHost(own)),
            _ => Ok(claim),
        }
    }

    /// Removes what nobody will ask for, and says how many are left.
    fn forget_old(&self, now_s: u64) -> Result<usize, Error> {
        let failed = |source| store::Error { path: self.directory.clone(), source };
        let mut left = 0;
        for entry in std::fs::read_dir(&self.directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let expired = matches!(read(&path), Ok(Some(r)) if now_s >= r.expires_s.saturating_add(MEMORY_S));
            if !expired || std::fs::remove_file(&path).is_err() {
                left += 1;
            }
        }
        Ok(left)
    }

    fn path(&self, secret: &[u8], state: &str) -> PathBuf {
        let hash: String = Sha256::digest(secret).iter().map(|octet| format!("{octet:02x}")).collect();
        self.directory.join(format!("{hash}.{state}"))
    }
}

impl Claim {
    /// Uses the token up.
    ///
    /// # Errors
    /// Somebody else was faster.
    pub fn take(self) -> Result<(), Error> {
        std::fs::rename(&self.open, &self.used).map_err(|source| match source.kind() {
            ErrorKind::NotFound => Error::Used,
            _ => store::Error { path: self.open, source }.into(),
        })
    }
}

fn read(path: &Path) -> Result<Option<Record>, Error> {
    let Some(octets) = store::read(path)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&octets).map_err(|e| store::Error::content(path, e))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::authority::provider;

    fn tokens() -> (tempfile::TempDir, Tokens) {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();
        (dir, tokens)
    }

    #[test]
    fn a_token_is_good_once() {
        let (_dir, tokens) = tokens();
        let secret = tokens.issue(&provider(), None, 100, 0).unwrap();
        let (first, second) = (tokens.check(&secret, "a", 99).unwrap(), tokens.check(&secret, "a", 99).unwrap());
        first.take().unwrap();
        assert!(matches!(second.take(), Err(Error::Used)));
        assert!(matches!(tokens.check(&secret, "a", 99), Err(Error::Used)));
    }

    #[test]
    fn wrong_expired_and_foreign_ones_are_told_apart() {
        let (dir, tokens) = tokens();
        let secret = tokens.issue(&provider(), Some("host-1"), 100, 0).unwrap();
        assert!(matches!(tokens.check(&[0; 32], "host-1", 0), Err(Error::Unknown)));
        assert!(matches!(tokens.check(&[], "host-1", 0), Err(Error::Unknown)));
        assert!(matches!(tokens.check(&secret, "host-1", 100), Err(Error::Expired)));
        assert!(matches!(tokens.check(&secret, "host-2", 0), Err(Error::OtherHost(h)) if h == "host-1"));
        assert!(tokens.check(&secret, "host-1", 0).is_ok());
        let stored = std::fs::read_dir(dir.path().join("tokens")).unwrap().next().unwrap().unwrap();
        let text = std::fs::read(stored.path()).unwrap();
        assert!(!text.windows(8).any(|w| w == &secret[..8]), "the secret is not stored");
    }

    #[test]
    fn old_ones_are_forgotten() {
        let (dir, tokens) = tokens();
        let old = tokens.issue(&provider(), None, 100, 0).unwrap();
        tokens.issue(&provider(), None, 100 + MEMORY_S + 50, 100 + MEMORY_S).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("tokens")).unwrap().count(), 1);
        assert!(matches!(tokens.check(&old, "a", 0), Err(Error::Unknown)));
    }
}
