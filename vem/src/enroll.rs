//! From a join token to a certificate.
//!
//! The token names the authority by the SHA-256 of its certificate, so the very first connection is to the right
//! supervisor or to none: whoever answers must show a chain to exactly that certificate before the secret is sent. The
//! private key is made here and never leaves this host.
//!
//! Blocking, for the command `vem enroll`: at most [`PATIENCE`] for each step with each address of the token.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::msg::{Enroll, FromVem, FromVsm, HostUuid};
use proto::session::VemSession;
use proto::token::{self, Token};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use sha2::{Digest, Sha256};

use crate::identity::{self, Identity, provider, server_name};

/// How long the supervisor may take for a step.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why the host was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] token::Error),
    /// No address of the token answers, or not as it should.
    #[error("{address}: {reason}")]
    Supervisor {
        /// The address.
        address: String,
        /// Why.
        reason: String,
    },
    /// The supervisor said no.
    #[error("the supervisor refused: {0}")]
    Refused(String),
    /// A key or a request can't be made.
    #[error("certificate request: {0}")]
    Request(#[from] rcgen::Error),
    /// The identity can't be stored.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// What enrolling has given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enrolled {
    /// Domain id, 1-4095.
    pub domain: u16,
    /// Addresses of the supervisor.
    pub addresses: Vec<String>,
    /// File of the identity.
    pub identity: PathBuf,
}

/// Enrols this host: makes a key, has it certified, stores the identity in `state_dir` in place of an older one.
///
/// # Errors
/// See [`Error`]; an older identity is untouched. Logged as well.
pub fn enroll(token: &str, uuid: HostUuid, host: &str, state_dir: &Path) -> Result<Enrolled, Error> {
    let outcome = try_enroll(token, uuid, host, state_dir);
    match &outcome {
        Ok(enrolled) => tracing::info!(domain = enrolled.domain, "enrolled as {uuid}"),
        Err(error) => tracing::warn!("not enrolled: {error}"),
    }
    outcome
}

fn try_enroll(token: &str, uuid: HostUuid, host: &str, state_dir: &Path) -> Result<Enrolled, Error> {
    let token: Token = token.parse()?;
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
    let request = FromVem::Enroll(Enroll {
        domain: token.domain,
        secret: token.secret.to_vec(),
        uuid,
        host: host.to_owned(),
        csr,
    });
    let mut failure = Error::Token(token::Error::Damaged);
    for address in &token.addresses {
        match ask(address, &token.fingerprint, &request) {
            Ok(FromVsm::Enrolled { certificate, authority }) => {
                let wrong = |reason: String| Error::Supervisor { address: address.clone(), reason };
                if <[u8; 32]>::from(Sha256::digest(&authority)) != token.fingerprint {
                    return Err(wrong("its authority is not the one that the token names".to_owned()));
                }
                let identity = Identity::new(key.serialize_pem(), certificate.into(), authority.into());
                identity.client_config().map_err(wrong)?;
                let identity = identity.store(state_dir)?;
                return Ok(Enrolled { domain: token.domain, addresses: token.addresses, identity });
            }
            Ok(FromVsm::Refuse(reason)) => return Err(Error::Refused(reason)),
            Ok(_) => {
                failure = Error::Supervisor { address: address.clone(), reason: "an answer to nothing".to_owned() }
            }
            Err(reason) => failure = Error::Supervisor { address: address.clone(), reason },
        }
    }
    Err(failure)
}

/// Sends the request to one address and waits for the answer.
fn ask(address: &str, fingerprint: &[u8; 32], request: &FromVem) -> Result<FromVsm, String> {
    let verifier = Pinned { fingerprint: *fingerprint, provider: provider() };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let tls = ClientConnection::new(Arc::new(config), server_name()?).map_err(|e| e.to_string())?;
    let mut stream = StreamOwned::new(tls, connect(address)?);
    // Nobody is told the secret before the chain has been judged.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|e| explain(&e))?;
    }
    let mut session = VemSession::new(0);
    session.send(request).map_err(|e| e.to_string())?;
    stream.write_all(session.outgoing()).and_then(|()| stream.flush()).map_err(|e| explain(&e))?;
    let mut buffer = [0; 4096];
    loop {
        let arrived = match stream.read(&mut buffer) {
            Ok(0) => return Err("the supervisor closed the connection".to_owned()),
            Ok(n) => buffer.get(..n).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(explain(&e)),
        };
        session.receive(0, arrived);
        if let Some(answer) = session.next(0).map_err(|e| e.to_string())? {
            return Ok(answer);
        }
    }
}

fn connect(address: &str) -> Result<TcpStream, String> {
    let mut failure = "the name has no address".to_owned();
    for address in address.to_socket_addrs().map_err(|e| e.to_string())? {
        let connected = TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(e) => failure = e.to_string(),
        }
    }
    Err(failure)
}

fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("no answer within {} seconds", PATIENCE.as_secs()),
        ErrorKind::UnexpectedEof => "the supervisor closed the connection".to_owned(),
        _ => error.to_string(),
    }
}

/// Trusts the authority whose certificate has this SHA-256, and nobody else.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |c: &&CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(c)) == self.fingerprint;
        let authority = intermediates
            .iter()
            .find(is_pinned)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(addresses: &[&str]) -> String {
        Token {
            domain: 1,
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
            fingerprint: [0; 32],
            secret: [0; 32],
            expires_s: u64::MAX,
        }
        .to_string()
    }

    #[test]
    fn nothing_is_stored_when_it_fails() {
        let dir = tempfile::tempdir().unwrap();
        let enroll = |token: &str| enroll(token, HostUuid([1; 16]), "h", dir.path()).unwrap_err();
        assert!(matches!(enroll("nonsense"), Error::Token(_)));
        assert!(matches!(enroll(&token(&["no port"])), Error::Supervisor { .. }));
        // Whoever listens there speaks no TLS.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || listener.accept().and_then(|(mut s, _)| s.write_all(b"hello\r\n")));
        assert!(matches!(enroll(&token(&[&address])), Error::Supervisor { .. }));
        server.join().unwrap().unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
