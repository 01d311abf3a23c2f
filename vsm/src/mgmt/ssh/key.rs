//! Public keys of users.

use russh::keys::{Algorithm, PublicKey};

/// The text is no key that lets anybody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is none.
    #[error("A public key is a kind, its base64 text and a comment, such as ssh-ed25519 AAAA... me")]
    NoKey,
    /// Its kind is not taken.
    #[error("Keys of kind {0} are not taken; ssh-ed25519, ecdsa-sha2-nistp256, -384, -521 and ssh-rsa are")]
    Kind(String),
}

/// Takes a key that somebody typed.
///
/// # Errors
/// It is none, or one of an unknown kind.
pub fn check(text: &str) -> Result<(), Error> {
    let key = PublicKey::from_openssh(text).map_err(|_| Error::NoKey)?;
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(()),
        other => Err(Error::Kind(other.to_string())),
    }
}

/// The offered key is the stored one, whatever their comments.
pub fn is_same(stored: &str, offered: &PublicKey) -> bool {
    PublicKey::from_openssh(stored).is_ok_and(|stored| stored.key_data() == offered.key_data())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMeWNq29LBE1ZJ4fEW+qyLxuKy69xaUbxTTEMtlC7aF4";

    #[test]
    fn keys_are_told_from_other_text() {
        for good in [ED25519.to_owned(), format!("{ED25519} somebody's key")] {
            assert_eq!(check(&good), Ok(()));
        }
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "AAAAC3NzaC1lZDI1NTE5", &ED25519[..60]] {
            assert_eq!(check(bad), Err(Error::NoKey), "{bad}");
        }
        let offered = PublicKey::from_openssh(ED25519).unwrap();
        assert!(is_same(&format!("{ED25519} comment"), &offered));
        assert!(!is_same("nonsense", &offered));
    }
}
