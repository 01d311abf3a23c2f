//! Passwords: argon2id hashes in the PHC string format, never the passwords themselves.
//!
//! A hash that was typed or read is held to bounds before it is ever computed with: whoever may configure could else make
//! the supervisor take all memory at the next login. Trying a password takes 19 MiB and some hundredths of a second; the
//! callers bound how many are tried at a time.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Argon2, Params};

/// Fewest characters of a password.
pub const LENGTH_MIN: usize = 8;
/// Most characters of a password.
pub const LENGTH_MAX: usize = 127;
/// Most characters of a hash.
const HASH_MAX: usize = 255;
/// Most memory that a hash may ask for, KiB.
const MEMORY_MAX_KIB: u32 = 256 * 1024;
/// Most passes that a hash may ask for.
const PASSES_MAX: u32 = 16;
/// Most lanes that a hash may ask for.
const LANES_MAX: u32 = 16;

/// Why a password or a hash is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too short, too long, or with characters that can't be typed.
    #[error("A password has {LENGTH_MIN} to {LENGTH_MAX} characters without blanks")]
    Form,
    /// It is the name of the user.
    #[error("The password is too easy: it holds the name of the user")]
    HoldsName,
    /// It is no hash.
    #[error("'5' is followed by an argon2 hash, as 'show running-config' prints it")]
    NoHash,
    /// Trying it would cost too much.
    #[error("The hash asks for more than 256 MiB, 16 passes or 16 lanes")]
    Costly,
    /// The system has no random numbers.
    #[error("The password can not be hashed")]
    Hashing,
}

/// The hash of a new password of this user; without a name, of anybody.
///
/// # Errors
/// The password is too weak, or the system has no random numbers.
pub fn hash(user: &str, password: &str) -> Result<String, Error> {
    let length = password.chars().count();
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&length) || !password.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::Form);
    }
    if !user.is_empty() && password.to_ascii_lowercase().contains(&user.to_ascii_lowercase()) {
        return Err(Error::HoldsName);
    }
    hashed(password)
}

fn hashed(password: &str) -> Result<String, Error> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes()).map_err(|_| Error::Hashing)?;
    Ok(hash.to_string())
}

/// Takes a hash that somebody typed.
///
/// # Errors
/// It is none, or trying it would cost too much.
pub fn check(hash: &str) -> Result<(), Error> {
    if hash.len() > HASH_MAX {
        return Err(Error::NoHash);
    }
    let parsed = PasswordHash::new(hash).map_err(|_| Error::NoHash)?;
    if !matches!(parsed.algorithm.as_str(), "argon2id" | "argon2i" | "argon2d") || parsed.hash.is_none() {
        return Err(Error::NoHash);
    }
    let params = Params::try_from(&parsed).map_err(|_| Error::NoHash)?;
    let fits = params.m_cost() <= MEMORY_MAX_KIB && params.t_cost() <= PASSES_MAX && params.p_cost() <= LANES_MAX;
    if fits { Ok(()) } else { Err(Error::Costly) }
}

/// The password is the one of the hash. Without a hash it takes as long, so that nobody learns which users there are.
pub fn is_password(hash: Option<&str>, password: &str) -> bool {
    static NOBODY: LazyLock<String> = LazyLock::new(|| hashed("nobody has this one").unwrap_or_default());
    let known = hash.filter(|hash| check(hash).is_ok());
    let Ok(parsed) = PasswordHash::new(known.unwrap_or(&NOBODY)) else { return false };
    let is_right = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
    is_right && known.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash() {
        let hash = hash("admin", "correct|horse").unwrap();
        assert!(hash.starts_with("$argon2id$") && !hash.contains("horse"), "{hash}");
        assert_eq!(check(&hash), Ok(()));
        assert!(is_password(Some(&hash), "correct|horse"));
        assert!(!is_password(Some(&hash), "correct|hors"));
        assert!(!is_password(None, "nobody has this one"));
        assert!(!is_password(Some("!"), ""));
        assert_ne!(hash, super::hash("admin", "correct|horse").unwrap(), "the salt");
    }

    #[test]
    fn weak_passwords_are_not_taken() {
        for bad in ["", "short", "with a blank", "pässword", &"x".repeat(128)] {
            assert_eq!(hash("u", bad), Err(Error::Form), "{bad}");
        }
        assert_eq!(hash("admin", "myAdmin123"), Err(Error::HoldsName));
    }

    #[test]
    fn hashes_are_held_to_bounds() {
        let hash = |params: &str| {
            format!("$argon2id$v=19${params}$c29tZXNhbHRzb21lc2FsdA$YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY")
        };
        assert_eq!(check(&hash("m=19456,t=2,p=1")), Ok(()));
        assert_eq!(check(&hash("m=4194304,t=2,p=1")), Err(Error::Costly));
        assert_eq!(check(&hash("m=19456,t=1000,p=1")), Err(Error::Costly));
        for bad in ["", "!", "$1$abc$def", "$5$salt$hash", "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA"] {
            assert_eq!(check(bad), Err(Error::NoHash), "{bad}");
        }
    }
}
