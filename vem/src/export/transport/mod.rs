//! Ways to a collector other than a datagram: a TCP or TLS connection, or flow-relay.
//!
//! Each is owned by one destination of an exporter and driven by the export thread: it is offered messages, and told now and then
//! that time has passed. None blocks; what it can't take is given up and counted. The relay has a thread of its own
//! ([`crate::relay`]), for it waits for the disk.

pub mod relay;
pub mod session;
pub mod stream;

use std::path::PathBuf;

use serde::Deserialize;

use crate::relay::config::BuiltIn;

/// Keys and certificates of this host, as `vem.toml` names them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Credentials {
    /// Of collectors that are reached by TLS.
    pub tls: Option<TlsFiles>,
    /// Of receivers of flow-relay.
    pub relay: Option<BuiltIn>,
    /// Where flows are kept.
    pub store_dir: Option<PathBuf>,
    /// Name of this host.
    pub host: String,
}

/// `[collector_tls]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate of the collectors' authority, PEM.
    pub authority: PathBuf,
    /// Ours, when collectors ask for one.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Name in the collector's certificate; else it must be its address.
    pub name: Option<String>,
}
