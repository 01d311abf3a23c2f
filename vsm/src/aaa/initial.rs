//! The first administrator.
//!
//! There is no default password. While no user of the configuration may administer the switch, `admin` does, with the
//! password of a file: one that `vsm.toml` names, or `initial-admin-password` in the state directory, which is made with a
//! random password when it is not there. Once a configuration with an administrator has been saved, nobody reads the file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::aaa::secret;
use crate::config::model::Model;
use crate::config::role::NETWORK_ADMIN;
use crate::config::user::{ADMIN, User};
use crate::module::authority;
use crate::store;

/// File of the state directory that the password is in when `vsm.toml` names no other.
pub const FILE: &str = "initial-admin-password";
/// What passwords are made of: letters and digits that are not taken for one another.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Why there is no first administrator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// `vsm.toml` names a file that is not there.
    #[error("{}: there is no such file; it is to hold the password of the first administrator", .0.display())]
    Missing(PathBuf),
    /// Others than its owner may read it.
    #[error("{}: others may read it; `chmod 600` it", .0.display())]
    Open(PathBuf),
    /// It holds no usable password.
    #[error("{}: {reason}", path.display())]
    Password {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: secret::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

/// Adds the first administrator to a configuration that has none, with the password of `file` when that is named. The path
/// of a password that was made for him is returned.
///
/// # Errors
/// There is no usable password.
pub fn add(model: &mut Model, file: Option<&Path>, state_dir: &Path) -> Result<Option<PathBuf>, Error> {
    if model.users.values().any(User::administers) {
        return Ok(None);
    }
    let own = state_dir.join(FILE);
    let path = file.unwrap_or(&own).to_owned();
    let mut made = None;
    if !path.exists() {
        if file.is_some() {
            return Err(Error::Missing(path));
        }
        store::make_directory(state_dir)?;
        store::create(&own, format!("{}\n", random()?).as_bytes(), 0o600)?;
        made = Some(own);
    }
    let password = read(&path)?;
    let hash = secret::hash("", &password).map_err(|reason| Error::Password { path, reason })?;
    let admin = model.users.entry(ADMIN.to_owned()).or_default();
    admin.roles.insert(NETWORK_ADMIN.to_owned());
    admin.secret = Some(hash);
    Ok(made)
}

fn read(path: &Path) -> Result<String, Error> {
    let io = |source| store::Error { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::Open(path.to_owned()));
    }
    let text = store::read_text(path)?.ok_or_else(|| Error::Missing(path.to_owned()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// 80 bits, as 16 characters.
fn random() -> Result<String, Error> {
    let mut octets = [0u8; 16];
    authority::provider().secure_random.fill(&mut octets).map_err(|_| Error::Random)?;
    Ok(octets.iter().map(|octet| char::from(ALPHABET[usize::from(octet % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("state");
        let mut model = Model::default();
        let path = add(&mut model, None, &dir).unwrap().expect("made");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let password = std::fs::read_to_string(&path).unwrap();
        let admin = &model.users[ADMIN];
        assert!(admin.is_admin());
        assert!(secret::is_password(admin.secret.as_deref(), password.trim()));
        // The same one after a restart that nothing was saved before.
        let mut again = Model::default();
        assert_eq!(add(&mut again, None, &dir).unwrap(), None);
        assert!(secret::is_password(again.users[ADMIN].secret.as_deref(), password.trim()));
        // A configuration with an administrator is left as it is.
        let before = again.clone();
        std::fs::remove_file(path).unwrap();
        assert_eq!(add(&mut again, None, &dir).unwrap(), None);
        assert_eq!(again, before);
    }

    #[test]
    fn a_file_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let add = |model: &mut Model| add(model, Some(&path), folder.path());
        assert!(matches!(add(&mut Model::default()), Err(Error::Missing(_))));
        store::write(&path, b"short\n", 0o600).unwrap();
        assert!(matches!(add(&mut Model::default()), Err(Error::Password { .. })));
        store::write(&path, b"long enough? no: blanks\n", 0o600).unwrap();
        assert!(matches!(add(&mut Model::default()), Err(Error::Password { .. })));
        store::write(&path, b"long-enough\n", 0o644).unwrap();
        assert!(matches!(add(&mut Model::default()), Err(Error::Open(_))));
        store::write(&path, b"long-enough\n", 0o600).unwrap();
        let mut model = Model::default();
        model.users.insert("bob".to_owned(), User::default());
        assert_eq!(add(&mut model).unwrap(), None);
        assert!(secret::is_password(model.users[ADMIN].secret.as_deref(), "long-enough"));
        assert!(model.users.contains_key("bob"));
    }
}
