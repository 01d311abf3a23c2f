//! Key and certificates of this host: one file, `identity.pem`, mode 0600, replaced as a whole.
//!
//! It holds the private key, this host's certificate, and the certificate of the domain's authority. The authority is
//! the only one that is trusted; there is no other root.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// File in the state directory.
const FILE: &str = "identity.pem";
/// Name that the supervisor's certificate carries.
const SERVER_NAME: &str = "vsm";

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no file.
    #[error("this host is not enrolled: there is no {}", .0.display())]
    Missing(PathBuf),
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds is no identity.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The identity of this host.
pub struct Identity {
    /// Private key, PEM.
    key: String,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
}

impl Identity {
    /// Puts an identity together.
    pub fn new(key: String, certificate: CertificateDer<'static>, authority: CertificateDer<'static>) -> Self {
        Identity { key, certificate, authority }
    }

    /// Where the identity of a state directory is.
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn load(state_dir: &Path) -> Result<Self, Error> {
        let path = Self::path(state_dir);
        let text = std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing(path.clone()),
            _ => Error::File { path: path.clone(), source },
        })?;
        let damaged = |reason: String| Error::Content { path: path.clone(), reason };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let certificates = certificates.map_err(|e| damaged(e.to_string()))?;
        let [certificate, authority] = <[_; 2]>::try_from(certificates)
            .map_err(|found| damaged(format!("{} certificates where two are needed", found.len())))?;
        Ok(Identity { key: text, certificate, authority })
    }

    /// Writes it; a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// It can't be written.
    pub fn store(&self, state_dir: &Path) -> Result<PathBuf, Error> {
        let path = Self::path(state_dir);
        let text = format!("{}{}{}", self.key, pem(&self.certificate), pem(&self.authority));
        let beside = path.with_extension("new");
        let write = || {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
            match std::fs::remove_file(&beside) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => (),
            }
            let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            File::open(state_dir)?.sync_all()
        };
        write().map_err(|source| Error::File { path: path.clone(), source })?;
        Ok(path)
    }

    /// The TLS side of a connection as this host: 1.3 only, this certificate, this authority.
    ///
    /// # Errors
    /// Key and certificate do not belong together, or are damaged.
    pub fn client_config(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).map_err(|e| format!("authority: {e}"))?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|e| format!("key: {e}"))?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.certificate.clone()], key)
            .map_err(|e| format!("key and certificate: {e}"))?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name that the supervisor proves to have.
pub(crate) fn server_name() -> Result<ServerName<'static>, String> {
    ServerName::try_from(SERVER_NAME).map_err(|e| e.to_string())
}

/// RFC 7468 clause 5.
fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (i, c) in body.chars().enumerate() {
        if i > 0 && i.is_multiple_of(64) {
            text.push('\n');
        }
        text.push(c);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A self-signed identity: good enough for what is tested here.
    fn identity() -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().clone();
        Identity::new(key.serialize_pem(), certificate.clone(), certificate)
    }

    #[test]
    fn what_is_stored_is_loaded_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        assert!(matches!(Identity::load(&state), Err(Error::Missing(_))));
        let identity = identity();
        identity.store(&state).unwrap();
        let path = identity.store(&state).unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        let loaded = Identity::load(&state).unwrap();
        assert_eq!(loaded.certificate, identity.certificate);
        assert_eq!(loaded.authority, identity.authority);
        assert!(loaded.client_config().is_ok());
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = identity().store(dir.path()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(Error::Content { .. })));
        let mut mixed = identity();
        mixed.key = identity().key;
        mixed.store(dir.path()).unwrap();
        assert!(Identity::load(dir.path()).unwrap().client_config().is_err(), "another host's key");
    }
}
