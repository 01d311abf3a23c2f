//! Host keys: made at the first start, kept in the state directory as OpenSSH writes them, mode 0600.

use std::path::{Path, PathBuf};

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::private::{KeypairData, RsaKeypair};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, HashAlg, PrivateKey};

use crate::bootstrap::HostKey;
use crate::store;
use crate::supervisor::SshKey;

/// Size of an RSA key. What is enough until 2030, and is made in seconds.
const RSA_BITS: usize = 3072;

/// A host key can't be read, made or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The file holds no key, or one of another kind.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key can't be made.
    #[error("making a host key: {0}")]
    Make(#[from] ssh_key::Error),
}

fn path(kind: HostKey, state_dir: &Path) -> PathBuf {
    state_dir.join(match kind {
        HostKey::Ed25519 => "ssh_host_ed25519_key",
        HostKey::Rsa => "ssh_host_rsa_key",
    })
}

/// Opening the key takes no time that anybody notices.
pub fn is_quick(kind: HostKey, state_dir: &Path) -> bool {
    kind == HostKey::Ed25519 || path(kind, state_dir).exists()
}

/// The keys of these kinds; one that is not there is made.
///
/// # Errors
/// See [`Error`].
pub fn open_all(kinds: &[HostKey], state_dir: &Path) -> Result<Vec<PrivateKey>, Error> {
    kinds.iter().map(|kind| open(*kind, state_dir)).collect()
}

fn open(kind: HostKey, state_dir: &Path) -> Result<PrivateKey, Error> {
    let path = path(kind, state_dir);
    let Some(text) = store::read(&path)? else {
        let key = make(kind)?;
        store::make_directory(state_dir)?;
        store::create(&path, key.to_openssh(LineEnding::LF)?.as_bytes(), 0o600)?;
        return Ok(key);
    };
    let wrong = |reason: String| Error::Content { path: path.clone(), reason };
    let key = PrivateKey::from_openssh(&text).map_err(|e| wrong(e.to_string()))?;
    let fits = match (kind, key.algorithm()) {
        (HostKey::Ed25519, Algorithm::Ed25519) | (HostKey::Rsa, Algorithm::Rsa { .. }) => !key.is_encrypted(),
        _ => false,
    };
    if fits { Ok(key) } else { Err(wrong("it holds a key of another kind, or one with a passphrase".to_owned())) }
}

fn make(kind: HostKey) -> Result<PrivateKey, ssh_key::Error> {
    let mut random = safe_rng();
    match kind {
        HostKey::Ed25519 => PrivateKey::random(&mut random, Algorithm::Ed25519),
        HostKey::Rsa => PrivateKey::new(KeypairData::from(RsaKeypair::random(&mut random, RSA_BITS)?), ""),
    }
}

/// What `show ssh key` shows of a key.
pub fn facts(key: &PrivateKey) -> SshKey {
    let public = key.public_key();
    SshKey {
        kind: if matches!(key.algorithm(), Algorithm::Rsa { .. }) { "rsa" } else { "ed25519" }.to_owned(),
        line: public.to_openssh().unwrap_or_default(),
        fingerprint: public.fingerprint(HashAlg::Sha256).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("state");
        assert!(is_quick(HostKey::Ed25519, &dir) && !is_quick(HostKey::Rsa, &dir));
        let first = open_all(&[HostKey::Ed25519], &dir).unwrap().remove(0);
        let second = open_all(&[HostKey::Ed25519], &dir).unwrap().remove(0);
        assert_eq!(facts(&first), facts(&second));
        assert!(facts(&first).line.starts_with("ssh-ed25519 ") && facts(&first).fingerprint.starts_with("SHA256:"));
        let path = path(HostKey::Ed25519, &dir);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::copy(&path, dir.join("ssh_host_rsa_key")).unwrap();
        assert!(matches!(open(HostKey::Rsa, &dir), Err(Error::Content { .. })));
        std::fs::write(&path, "nonsense").unwrap();
        assert!(open(HostKey::Ed25519, &dir).unwrap_err().to_string().contains("ssh_host_ed25519_key"));
    }
}
