//! Who may talk to whom: TLS 1.3, both ends prove themselves.
//!
//! Two ways. *Certificates*: an authority's certificate, and a certificate and key of one's own; the receiver takes senders
//! that the authority has certified (and, if a list of names is given, are in it), the sender a receiver that is certified
//! for the name that it expects. *A shared key*: each end derives two Ed25519 key pairs from it, one for each role, and
//! proves itself with its own as a raw public key (RFC 7250); it takes nothing but the other. rustls has no external PSK
//! (RFC 8446, 4.2.11), and this needs none: who does not know the key has no signature to show, what was recorded can't be read by who
//! learns the key later, and there is no date that could be wrong.
//!
//! A key that is guessed is found out without asking us, from the public key that a receiver shows to everybody: so it has to be long and
//! random, and 32 octets are the least that is taken.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::key::{self, Secret};

/// Name of the protocol (RFC 7301).
const ALPN: &[u8] = b"flow-relay/1";
/// PKCS #8 before an Ed25519 seed (RFC 8410, 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// SubjectPublicKeyInfo before an Ed25519 public key (RFC 8410, 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shared key.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// A file can't be read or used.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something does not fit together.
    #[error("TLS: {0}")]
    Tls(String),
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Error::Tls(error.to_string())
    }
}

/// How an end proves itself, and whom it takes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// A key that both ends have.
    Shared(Secret),
    /// Files in PEM form.
    Certificates {
        /// The authority's certificate.
        authority: PathBuf,
        /// Our certificate, and what is between it and the authority.
        certificate: PathBuf,
        /// Our private key.
        key: PathBuf,
    },
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The sender's side.
///
/// # Errors
/// A file can't be used.
pub fn client(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let mut config = match trust {
        Trust::Shared(secret) => {
            let verifier = Arc::new(Raw::new(pair(secret, "receiver")?.1));
            let builder = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(verifier);
            let ours = certified(secret, "sender")?;
            builder.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(ours)))
        }
        Trust::Certificates { authority, certificate, key } => {
            let roots = roots(authority)?;
            ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])?
                .with_root_certificates(roots)
                .with_client_auth_cert(chain(certificate)?, private(key)?)?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The sender's side towards an IPFIX collector (RFC 7011, 11): another protocol, so none is named. Without a key of
/// our own the collector does not learn who we are.
///
/// # Errors
/// A file can't be used.
pub fn exporter(authority: &Path, ours: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority)?);
    let mut config = match ours {
        Some((certificate, key)) => builder.with_client_auth_cert(chain(certificate)?, private(key)?)?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The receiver's side.
///
/// # Errors
/// A file can't be used.
pub fn server(trust: &Trust) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = match trust {
        Trust::Shared(secret) => {
            let verifier = Arc::new(Raw::new(pair(secret, "sender")?.1));
            let ours = certified(secret, "receiver")?;
            builder
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(ours)))
        }
        Trust::Certificates { authority, certificate, key } => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider());
            let verifier = verifier.build().map_err(|e| Error::Tls(e.to_string()))?;
            builder.with_client_cert_verifier(verifier).with_single_cert(chain(certificate)?, private(key)?)?
        }
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn file<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> Error + '_ {
    move |error| Error::File { path: path.to_owned(), reason: error.to_string() }
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(file(path))?;
    }
    Ok(roots)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(file(path))?.collect();
    let chain = chain.map_err(file(path))?;
    if chain.is_empty() { Err(file(path)("no certificate")) } else { Ok(chain) }
}

fn private(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    use std::os::unix::fs::MetadataExt;
    let mode = std::fs::metadata(path).map_err(file(path))?.mode();
    if mode & 0o077 != 0 {
        return Err(key::Error::Mode { path: path.to_owned(), mode: mode & 0o7777 }.into());
    }
    PrivateKeyDer::from_pem_file(path).map_err(file(path))
}

/// Private key (PKCS #8) and public key (SubjectPublicKeyInfo) of a role.
fn pair(secret: &Secret, role: &str) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let seed = secret.derive(b"flow-relay/1", &[b"raw public key of the ", role.as_bytes()]);
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| Error::Tls(e.to_string()))?;
    Ok(([&PKCS8_PREFIX[..], &seed].concat(), [&SPKI_PREFIX[..], pair.public_key().as_ref()].concat()))
}

fn certified(secret: &Secret, role: &str) -> Result<Arc<CertifiedKey>, Error> {
    let (private, public) = pair(secret, role)?;
    let key = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(private))?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(public)], key)))
}

/// Takes one raw public key.
#[derive(Debug)]
struct Raw {
    public: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl Raw {
    fn new(public: Vec<u8>) -> Self {
        Raw { public, provider: provider() }
    }

    fn verify(&self, shown: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        // Public keys are no secrets: an ordinary comparison.
        match shown.as_ref() == self.public {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.provider.signature_verification_algorithms)
    }
}

fn only_tls13() -> rustls::Error {
    rustls::Error::General("TLS 1.3 only".to_owned())
}

impl ServerCertVerifier for Raw {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Raw {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Words for what an administrator can do something about.
pub fn explain(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, Error};
    match error {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            "the other end has another key".to_owned()
        }
        Error::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRequired
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired,
        ) => format!("the other end does not take our key: {error}"),
        _ => error.to_string(),
    }
}
