//! The certificate of HTTPS: files that `vsm.toml` names, or one of our own, made at the first start and kept.
//!
//! Nobody has signed our own certificate but itself, so clients are told to trust it or not to look. It is `nxapi.pem` in
//! the state directory, key and certificate, mode 0600, valid for [`YEARS`]; without the file a new one is made.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use crate::bootstrap::Nxapi;
use crate::module::authority;
use crate::store;

/// File in the state directory.
pub const FILE: &str = "nxapi.pem";
/// Validity of our own certificate.
pub const YEARS: i64 = 20;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written, or holds something else.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// `vsm.toml` names a file that is not there.
    #[error("{}: there is no such file", .0.display())]
    Missing(PathBuf),
    /// Everybody may read the key.
    #[error("{}: everybody may read this key; `chmod 600` it", .0.display())]
    Open(PathBuf),
    /// Making our own.
    #[error("certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Key and certificate do not fit together.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// A certificate for use.
pub struct Identity {
    /// For TLS: 1.3 only.
    pub config: Arc<ServerConfig>,
    /// SHA-256 of the certificate, as clients show it: `AB:CD:...`.
    pub fingerprint: String,
    /// Its last moment.
    pub expires: OffsetDateTime,
}

/// Opens the certificate; `listen` is what our own one names.
///
/// # Errors
/// See [`Error`].
pub fn open(nxapi: &Nxapi, state_dir: &Path, name: &str) -> Result<Identity, Error> {
    let read = |path: &Path| store::read(path)?.ok_or_else(|| Error::Missing(path.to_owned()));
    match (&nxapi.certificate, &nxapi.key) {
        (Some(certificate), Some(key)) => {
            let mode = std::fs::metadata(key).map_or(0, |found| found.permissions().mode());
            if mode & 0o007 != 0 {
                return Err(Error::Open(key.clone()));
            }
            identity(certificate, &read(certificate)?, key, &read(key)?)
        }
        _ => {
            let path = state_dir.join(FILE);
            if store::read(&path)?.is_none() {
                store::make_directory(state_dir)?;
                store::create(&path, make(nxapi.listen, name)?.as_bytes(), 0o600)?;
            }
            let both = read(&path)?;
            identity(&path, &both, &path, &both)
        }
    }
}

fn identity(path: &Path, certificates: &[u8], key_path: &Path, key: &[u8]) -> Result<Identity, Error> {
    let wrong = |path: &Path, what: &dyn std::fmt::Display| store::Error::content(path, what);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificates).collect::<Result<_, _>>().map_err(|e| wrong(path, &e))?;
    let first = chain.first().ok_or_else(|| wrong(path, &"it holds no certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong(key_path, &e))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|e| wrong(path, &e))?;
    let expires = parsed.validity().not_after.to_datetime();
    let fingerprint: Vec<String> = Sha256::digest(first).iter().map(|octet| format!("{octet:02X}")).collect();
    let mut config = ServerConfig::builder_with_provider(authority::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Identity { config: Arc::new(config), fingerprint: fingerprint.join(":"), expires })
}

/// Key and certificate, PEM.
fn make(listen: SocketAddr, name: &str) -> Result<String, Error> {
    let key = KeyPair::generate()?;
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(YEARS * 365);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::DnsName("localhost".try_into()?)];
    params.subject_alt_names.extend(name.try_into().ok().map(SanType::DnsName));
    if !listen.ip().is_unspecified() {
        params.subject_alt_names.push(SanType::IpAddress(listen.ip()));
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nxapi(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Nxapi {
        Nxapi { listen: ([127, 0, 0, 1], 0).into(), certificate, key }
    }

    #[test]
    fn a_certificate_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("state");
        let first = open(&nxapi(None, None), &dir, "switch").unwrap();
        let path = dir.join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = open(&nxapi(None, None), &dir, "renamed").unwrap();
        assert_eq!(first.fingerprint, again.fingerprint);
        assert_eq!(first.fingerprint.len(), 95);
        assert!(first.expires - OffsetDateTime::now_utc() > Duration::days(365 * 19));
    }

    #[test]
    fn files_of_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let both = make(([192, 0, 2, 1], 443).into(), "switch").unwrap();
        store::write(&at("both"), both.as_bytes(), 0o600).unwrap();
        store::write(&at("open"), both.as_bytes(), 0o644).unwrap();
        store::write(&at("other"), make(([192, 0, 2, 1], 443).into(), "s").unwrap().as_bytes(), 0o600).unwrap();
        store::write(&at("nonsense"), b"nonsense", 0o600).unwrap();
        let open = |certificate: &str, key: &str| {
            open(&nxapi(Some(at(certificate)), Some(at(key))), folder.path(), "switch").map(|_| ())
        };
        open("open", "both").unwrap();
        assert!(matches!(open("both", "open"), Err(Error::Open(_))));
        assert!(matches!(open("both", "none"), Err(Error::Missing(_))));
        assert!(matches!(open("none", "both"), Err(Error::Missing(_))));
        assert!(matches!(open("nonsense", "both"), Err(Error::Store(_))));
        assert!(matches!(open("both", "nonsense"), Err(Error::Store(_))));
        assert!(matches!(open("both", "other"), Err(Error::Tls(_))));
    }
}
