//! What is said of a supervisor and of its servers as they run.

use std::net::SocketAddr;
use std::time::SystemTime;

/// What does not change while the supervisor runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Domain id, 1-4095.
    pub domain: u16,
    /// Address that it listens on; `None` for a detached one.
    pub listen: Option<SocketAddr>,
    /// Addresses that join tokens name.
    pub addresses: Vec<String>,
    /// Version of the software.
    pub software: &'static str,
    /// When it was started.
    pub started: SystemTime,
}

/// The SSH server as it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshFacts {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Its host keys.
    pub keys: Vec<SshKey>,
}

/// The public half of a host key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SshKey {
    /// `ed25519` or `rsa`.
    pub kind: String,
    /// As OpenSSH writes it.
    pub line: String,
    /// As clients show it.
    pub fingerprint: String,
}

/// NX-API as it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NxapiFacts {
    /// Where it listens.
    pub listen: SocketAddr,
    /// SHA-256 of its certificate, as clients show it.
    pub fingerprint: String,
    /// When the certificate ends.
    pub expires: SystemTime,
}
