//! Who may join, and who may be a module.
//!
//! Decisions only; the texts go to the agent, which logs them, and to our log.

use proto::msg::{Enroll, Hello, HostUuid, PROTOCOL};
use rustls::pki_types::CertificateDer;

use super::authority::{self, Authority};
use super::tokens::{self, Tokens};

/// Why an agent is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It speaks a protocol that we don't.
    #[error("protocol {0} is not spoken here; this supervisor speaks {PROTOCOL}")]
    Protocol(u16),
    /// It belongs to another domain.
    #[error("domain {asked} is not served here; this supervisor serves domain {ours}")]
    Domain {
        /// The domain that it wants.
        asked: u16,
        /// Ours.
        ours: u16,
    },
    /// A hello without a certificate.
    #[error("no certificate of this domain; enrol the host first")]
    NoCertificate,
    /// A certificate of ours that names no host.
    #[error("the certificate names no host")]
    NamelessCertificate,
    /// It claims to be somebody else.
    #[error("host UUID {claimed} is not the certificate's, {certified}")]
    OtherHost {
        /// What the hello says.
        claimed: HostUuid,
        /// What the certificate says.
        certified: HostUuid,
    },
    /// Somebody with that identity is connected.
    #[error("host UUID {0} is connected already")]
    Duplicate(HostUuid),
    /// No module slot.
    #[error(transparent)]
    Slot(#[from] super::registry::Error),
    /// The token.
    #[error(transparent)]
    Token(#[from] tokens::Error),
    /// The certificate request.
    #[error("certificate request: {0}")]
    Request(#[from] authority::Error),
}

/// Judges a hello, but for the slot.
///
/// # Errors
/// The agent is refused.
pub fn judge(
    hello: &Hello,
    certificate: Option<&CertificateDer<'_>>,
    domain: u16,
    is_connected: impl Fn(HostUuid) -> bool,
) -> Result<(), Refusal> {
    if hello.protocol != PROTOCOL {
        return Err(Refusal::Protocol(hello.protocol));
    }
    if hello.domain != domain {
        return Err(Refusal::Domain { asked: hello.domain, ours: domain });
    }
    let certificate = certificate.ok_or(Refusal::NoCertificate)?;
    let certified = authority::uuid_of(certificate).ok_or(Refusal::NamelessCertificate)?;
    if certified != hello.uuid {
        return Err(Refusal::OtherHost { claimed: hello.uuid, certified });
    }
    if is_connected(hello.uuid) {
        return Err(Refusal::Duplicate(hello.uuid));
    }
    Ok(())
}

/// Judges a request for a certificate and signs it. The token is used up by it.
///
/// # Errors
/// The agent is refused. A token that was good stays good.
pub fn enroll(
    request: &Enroll,
    authority: &Authority,
    tokens: &Tokens,
    domain: u16,
    is_connected: impl Fn(HostUuid) -> bool,
    now_s: u64,
) -> Result<CertificateDer<'static>, Refusal> {
    if request.domain != domain {
        return Err(Refusal::Domain { asked: request.domain, ours: domain });
    }
    // The secret comes first: what a stranger sends is not parsed.
    let claim = tokens.check(&request.secret, &request.host, now_s)?;
    if is_connected(request.uuid) {
        return Err(Refusal::Duplicate(request.uuid));
    }
    let certificate = authority.sign(&request.csr, request.uuid)?;
    claim.take()?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use proto::msg::ConfigHash;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::module::authority::provider;

    const UUID: HostUuid = HostUuid([7; 16]);

    fn hello() -> Hello {
        Hello {
            protocol: PROTOCOL,
            domain: 100,
            uuid: UUID,
            host: "host-1".into(),
            software: "0.1.0".into(),
            version: 0,
            hash: ConfigHash::default(),
            capabilities: Vec::new(),
        }
    }

    fn request(secret: &[u8]) -> Enroll {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        Enroll { domain: 100, secret: secret.to_vec(), uuid: UUID, host: "host-1".into(), csr }
    }

    #[test]
    fn every_reason_to_refuse_a_hello() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), 100).unwrap();
        let certificate = authority.sign(&request(&[]).csr, UUID).unwrap();
        let judge = |hello: Hello, certificate, connected: bool| judge(&hello, certificate, 100, |_| connected);
        assert!(judge(hello(), Some(&certificate), false).is_ok());
        let refused = |r: Result<(), Refusal>| r.unwrap_err();
        assert!(matches!(
            refused(judge(Hello { protocol: 9, ..hello() }, Some(&certificate), false)),
            Refusal::Protocol(9)
        ));
        assert!(matches!(
            refused(judge(Hello { domain: 200, ..hello() }, Some(&certificate), false)),
            Refusal::Domain { asked: 200, ours: 100 }
        ));
        assert!(matches!(refused(judge(hello(), None, false)), Refusal::NoCertificate));
        assert!(matches!(refused(judge(hello(), Some(authority.certificate()), false)), Refusal::NamelessCertificate));
        let other = Hello { uuid: HostUuid([8; 16]), ..hello() };
        assert!(matches!(refused(judge(other, Some(&certificate), false)), Refusal::OtherHost { .. }));
        assert!(matches!(refused(judge(hello(), Some(&certificate), true)), Refusal::Duplicate(UUID)));
    }

    #[test]
    fn a_refused_request_leaves_the_token_good() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), 100).unwrap();
        let tokens = Tokens::open(dir.path()).unwrap();
        let secret = tokens.issue(&provider(), None, 1000, 0).unwrap();
        let enroll = |request: &Enroll, connected| enroll(request, &authority, &tokens, 100, |_| connected, 1);
        let good = request(&secret);
        assert!(matches!(
            enroll(&Enroll { domain: 1, ..good.clone() }, false),
            Err(Refusal::Domain { asked: 1, ours: 100 })
        ));
        assert!(matches!(enroll(&Enroll { csr: vec![1], ..good.clone() }, false), Err(Refusal::Request(_))));
        assert!(matches!(enroll(&good, true), Err(Refusal::Duplicate(UUID))));
        assert!(matches!(enroll(&request(&[1]), false), Err(Refusal::Token(tokens::Error::Unknown))));
        let certificate = enroll(&good, false).unwrap();
        assert_eq!(authority::uuid_of(&certificate), Some(UUID));
        assert!(matches!(enroll(&good, false), Err(Refusal::Token(tokens::Error::Used))));
    }
}
