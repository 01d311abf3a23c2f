//! The domain's certificate authority.
//!
//! Made at the first start (or by the first `vsm enroll`) and kept in one file, `authority.pem`, mode 0600: whoever has
//! it can join and impersonate every host of the domain. Agents trust this authority and nothing else; its SHA-256
//! fingerprint travels in the join token. The supervisor's own certificate is made anew at every start and never stored.
//!
//! An agent's certificate names its host UUID (CN, and `urn:uuid:` as subject alternative name) and nothing that the
//! request asked for but the public key is signed.
//!
//! Limits: certificates are valid for [`YEARS`]; there is no renewal and no revocation list.

use std::path::Path;
use std::sync::Arc;

use proto::msg::HostUuid;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use crate::store;

/// Name that the supervisor's certificate carries; agents expect it.
pub const SERVER_NAME: &str = "vsm";
/// Validity of certificates.
pub const YEARS: i64 = 20;
/// File in the state directory.
const FILE: &str = "authority.pem";

/// Why the authority can't do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Making a key or certificate.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Making the TLS configuration.
    #[error("TLS: {0}")]
    Tls(String),
}

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Opens the authority of a state directory; makes it when there is none.
    ///
    /// # Errors
    /// Its file can't be read, written, or is damaged. A damaged one is never replaced.
    pub fn open(state_dir: &Path, domain: u16) -> Result<Self, Error> {
        let path = state_dir.join(FILE);
        if store::read(&path)?.is_none() {
            let made = Self::make(domain)?;
            match store::create(&path, made.as_bytes(), 0o600) {
                // Somebody else was faster; theirs it is.
                Err(e) if e.source.kind() == std::io::ErrorKind::AlreadyExists => (),
                other => other?,
            }
        }
        let octets = store::read(&path)?.unwrap_or_default();
        let damaged = |what: &dyn std::fmt::Display| store::Error::content(&path, what);
        let text = String::from_utf8(octets).map_err(|e| damaged(&e))?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|e| damaged(&e))?;
        let key = KeyPair::from_pem(&text).map_err(|e| damaged(&e))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| damaged(&e))?;
        Ok(Authority { issuer, certificate })
    }

    /// Key and certificate of a new authority, PEM.
    fn make(domain: u16) -> Result<String, Error> {
        let key = KeyPair::generate()?;
        let mut params = lasting();
        params.distinguished_name.push(DnType::CommonName, format!("virtual switch domain {domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Signs the public key of a request as that of the host.
    ///
    /// # Errors
    /// The request is malformed, or not signed by the key that it names.
    pub fn sign(&self, request: &[u8], uuid: HostUuid) -> Result<CertificateDer<'static>, Error> {
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
        request.params = lasting();
        request.params.distinguished_name.push(DnType::CommonName, uuid.to_string());
        request.params.subject_alt_names = vec![SanType::URI(urn(uuid).try_into()?)];
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(request.signed_by(&self.issuer)?.der().clone())
    }

    /// The TLS side of the listener: 1.3 only, our certificate, and agents with a certificate of ours or with none
    /// (who may ask for one).
    ///
    /// # Errors
    /// A key or certificate can't be made.
    pub fn server_config(&self) -> Result<Arc<rustls::ServerConfig>, Error> {
        let tls = |e: &dyn std::fmt::Display| Error::Tls(e.to_string());
        let key = KeyPair::generate()?;
        let mut params = lasting();
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.subject_alt_names = vec![SanType::DnsName(SERVER_NAME.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = params.signed_by(&key, &self.issuer)?.der().clone();

        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(|e| tls(&e))?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|e| tls(&e))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| tls(&e))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| tls(&e))?
            .with_client_cert_verifier(clients)
            // The authority's certificate goes along for those who know no more of it than its fingerprint.
            .with_single_cert(vec![own, self.certificate.clone()], key)
            .map_err(|e| tls(&e))?;
        // Connections are few and long: no resumption, so every one of them is judged by its certificate anew.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

/// The host that a certificate of ours names.
pub fn uuid_of(certificate: &CertificateDer<'_>) -> Option<HostUuid> {
    use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("urn:uuid:")?.parse().ok(),
        _ => None,
    })
}

/// RFC 9562 clause 4.
fn urn(uuid: HostUuid) -> String {
    format!("urn:uuid:{uuid}")
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Parameters without a name, valid from yesterday (clocks differ) for [`YEARS`].
fn lasting() -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(365 * YEARS);
    params.use_authority_key_identifier_extension = true;
    params
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const UUID: HostUuid = HostUuid([7; 16]);

    #[test]
    fn it_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), 100).unwrap();
        let again = Authority::open(dir.path(), 100).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        first.server_config().unwrap();
    }

    #[test]
    fn a_damaged_one_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "damaged").unwrap();
        assert!(matches!(Authority::open(dir.path(), 100), Err(Error::Store(_))));
        assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), b"damaged");
    }

    #[test]
    fn a_request_gets_the_name_we_say_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), 100).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::default();
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wish.subject_alt_names = vec![SanType::URI(urn(HostUuid([9; 16])).try_into().unwrap())];
        wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let request = wish.serialize_request(&key).unwrap();
        let certificate = authority.sign(request.der(), UUID).unwrap();
        assert_eq!(uuid_of(&certificate), Some(UUID));
        use x509_parser::prelude::{FromDer, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(uuid_of(authority.certificate()), None);
    }

    #[test]
    fn a_request_that_is_damaged_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), 100).unwrap();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let mut octets = request.der().to_vec();
        for cut in 0..octets.len() {
            assert!(authority.sign(&octets[..cut], UUID).is_err());
        }
        *octets.last_mut().unwrap() ^= 1;
        assert!(authority.sign(&octets, UUID).is_err(), "the signature is checked");
    }
}
