//! Key files, and what is derived from them.
//!
//! A key file holds one secret of at least 32 octets, which is its content without a final newline; `flow-relay key FILE` makes one.
//! Nobody but its owner may read it. From it come, by HKDF-SHA-256 (RFC 5869), the key of each spool segment and, where
//! two ends share a key, the key pair that each proves itself with.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

/// Fewest octets of a secret.
pub const SECRET_MIN: usize = 32;
/// Most octets of a key file.
const FILE_MAX: u64 = 4096;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or made.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the file.
    #[error("{}: others may read or write it (mode {mode:04o}); it must be 0600 or 0400", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The secret is too short, or the file too long.
    #[error("{}: {octets} octets; a key has 32 to 4096", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Octets that there are.
        octets: u64,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A secret. It is not printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A secret of these octets, when they are enough.
    pub fn new(octets: &[u8]) -> Option<Self> {
        (octets.len() >= SECRET_MIN).then(|| Secret(octets.to_vec()))
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// It can't be read, others may read it, or it is too short.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::File { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(fail)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(Error::Mode { path: path.to_owned(), mode: metadata.mode() & 0o7777 });
        }
        let length = |octets: u64| Error::Length { path: path.to_owned(), octets };
        if metadata.len() > FILE_MAX {
            return Err(length(metadata.len()));
        }
        let mut octets = std::fs::read(path).map_err(fail)?;
        while octets.last().is_some_and(|octet| matches!(octet, b'\n' | b'\r')) {
            octets.pop();
        }
        Secret::new(&octets).ok_or_else(|| length(octets.len() as u64))
    }

    /// Writes a new key file of 32 random octets in base64; one that is there stays.
    ///
    /// # Errors
    /// There is one, or it can't be written.
    pub fn make(path: &Path) -> Result<(), Error> {
        let fail = |source| Error::File { path: path.to_owned(), source };
        let octets: [u8; 32] = random()?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
        let text = base64::engine::general_purpose::STANDARD.encode(octets);
        writeln!(file, "{text}").and_then(|()| file.sync_all()).map_err(fail)
    }

    /// 32 octets for a purpose.
    pub fn derive(&self, salt: &[u8], purpose: &[&[u8]]) -> [u8; 32] {
        let mut key = [0; 32];
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0);
        // 32 octets are fewer than the 255 hashes that are the limit.
        let filled = prk.expand(purpose, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
        debug_assert!(filled.is_ok());
        key
    }
}

/// Random octets.
///
/// # Errors
/// The system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut octets = [0; N];
    SystemRandom::new().fill(&mut octets).map_err(|_| Error::Random)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_that_was_made_is_read_and_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Secret::make(&path).unwrap();
        assert!(Secret::make(&path).is_err(), "one that is there stays");
        let key = Secret::read(&path).unwrap();
        assert_eq!(format!("{key:?}"), "Secret");
        assert_ne!(key.derive(b"a", &[b"x"]), key.derive(b"b", &[b"x"]));
        assert_ne!(key.derive(b"a", &[b"x"]), key.derive(b"a", &[b"y"]));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Secret::read(&path).unwrap_err().to_string().contains("mode 0640"));
    }

    #[test]
    fn a_short_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "0123456789012345678901234567890\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Secret::read(&path), Err(Error::Length { octets: 31, .. })));
        assert!(matches!(Secret::read(&dir.path().join("none")), Err(Error::File { .. })));
    }
}
