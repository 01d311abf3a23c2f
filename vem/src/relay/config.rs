//! The configuration file of `flow-relay`.
//!
//! ```toml
//! [send]                                   # `flow-relay send`
//! listen = ["127.0.0.1:2055"]              # where exporters send to; left out: sockets that systemd gives
//! receiver = "192.0.2.9:4741"
//! name = "host1"                           # what the receiver logs; default: the kernel's host name
//! spool_dir = "/var/lib/flow-relay"
//! spool_key = "/etc/flow-relay/spool.key"  # made by `flow-relay key`
//! runtime_dir = "/run/flow-relay"          # in memory (tmpfs)
//! spool_mib = 1024
//! spool_hours = 168
//! memory_mib = 16
//! fsync = "second"                         # or "always", "never"
//! retry = "jitter"                         # or "exact": 1, 3, 9, 27, 81, 243 s without ±20 %
//!
//! [receive]                                # `flow-relay receive`
//! listen = "0.0.0.0:4741"
//! collectors = ["127.0.0.1:9995"]          # 1-4; each gets every datagram
//! state_dir = "/var/lib/flow-relay"
//! runtime_dir = "/run/flow-relay"
//! spoof_source = false                     # true: datagrams come from the exporter's address; needs CAP_NET_ADMIN
//! rate = 20000                             # most datagrams a second to a collector
//!
//! [trust]
//! shared_key = "/etc/flow-relay/shared.key"
//! # or
//! authority = "/etc/flow-relay/ca.pem"
//! certificate = "/etc/flow-relay/cert.pem"
//! key = "/etc/flow-relay/key.pem"
//! receiver_name = "collector1"             # sender: name that the receiver's certificate must have
//! senders = ["host1", "host2"]             # receiver: names of certificates that are taken; left out: all of the authority
//! ```
//!
//! Addresses are numbers, not names: a receiver that had to be looked up could not be reached when the network is
//! worst. A key that is not known is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::key::{self, Secret};
use super::queue::Fsync;
use super::spool::Limits;
use super::tls::{self, Trust};

/// Most collectors.
pub const COLLECTORS_MAX: usize = vswitch::port::datagram::DESTINATIONS_MAX;
const FILE_MAX: u64 = 1 << 20;
const LISTEN_MAX: usize = 16;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key file.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// A certificate or its key.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// What a sender needs.
pub struct Send {
    /// Where exporters send to.
    pub listen: Vec<SocketAddr>,
    /// The receiver.
    pub receiver: SocketAddr,
    /// Its name in certificates.
    pub receiver_name: ServerName<'static>,
    /// Our name.
    pub name: String,
    /// The spool.
    pub spool_dir: PathBuf,
    /// Its key.
    pub spool_key: Secret,
    /// Where what must not reach a disk is.
    pub runtime_dir: PathBuf,
    /// Sizes of the spool.
    pub limits: Limits,
    /// Octets in memory.
    pub memory: usize,
    /// How often the disk is asked.
    pub fsync: Fsync,
    /// No jitter.
    pub exact_retry: bool,
    /// `None`: no TLS.
    pub trust: Option<Trust>,
}

/// What a receiver needs.
pub struct Receive {
    /// Where senders connect to.
    pub listen: SocketAddr,
    /// The collectors.
    pub collectors: Vec<SocketAddr>,
    /// Where the state of streams is.
    pub state_dir: PathBuf,
    /// Where the socket for `flow-relay status` is.
    pub runtime_dir: PathBuf,
    /// Datagrams come from the exporter's address.
    pub spoof_source: bool,
    /// Most datagrams a second to a collector.
    pub rate: u64,
    /// Names that a sender's certificate may have; `None`: any.
    pub senders: Option<Vec<String>>,
    /// `None`: no TLS.
    pub trust: Option<Trust>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    send: Option<SendFile>,
    receive: Option<ReceiveFile>,
    #[serde(default)]
    trust: TrustFile,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendFile {
    #[serde(default)]
    listen: Vec<SocketAddr>,
    receiver: SocketAddr,
    name: Option<String>,
    spool_dir: PathBuf,
    spool_key: PathBuf,
    #[serde(default = "runtime_dir")]
    runtime_dir: PathBuf,
    #[serde(default = "spool_mib")]
    spool_mib: u64,
    #[serde(default = "spool_hours")]
    spool_hours: u64,
    #[serde(default = "memory_mib")]
    memory_mib: usize,
    #[serde(default)]
    fsync: FsyncFile,
    #[serde(default)]
    retry: Retry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiveFile {
    listen: SocketAddr,
    collectors: Vec<SocketAddr>,
    state_dir: PathBuf,
    #[serde(default = "runtime_dir")]
    runtime_dir: PathBuf,
    #[serde(default)]
    spoof_source: bool,
    #[serde(default = "rate")]
    rate: u64,
}

/// `[trust]`, also of `vem.toml`.
#[derive(Deserialize, Default, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct TrustFile {
    shared_key: Option<PathBuf>,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    receiver_name: Option<String>,
    senders: Option<Vec<String>>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum FsyncFile {
    Never,
    #[default]
    Second,
    Always,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Retry {
    #[default]
    Jitter,
    Exact,
}

/// `[relay]` of `vem.toml`: the sender that is built in.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct BuiltIn {
    spool_dir: PathBuf,
    spool_key: PathBuf,
    #[serde(default = "built_in_dir")]
    runtime_dir: PathBuf,
    #[serde(default = "spool_mib")]
    spool_mib: u64,
    #[serde(default = "spool_hours")]
    spool_hours: u64,
    #[serde(default = "memory_mib")]
    memory_mib: usize,
    trust: TrustFile,
}

impl BuiltIn {
    /// What a sender to a receiver needs; each receiver has directories of its own.
    ///
    /// # Errors
    /// In words: a value is out of its range, or a key can't be read.
    pub fn towards(&self, receiver: SocketAddr, host: &str) -> Result<Send, String> {
        within("spool_mib", self.spool_mib, 1, 1 << 24)?;
        within("spool_hours", self.spool_hours, 1, 87_600)?;
        within("memory_mib", self.memory_mib, 1, 4096)?;
        absolute("spool_dir", &self.spool_dir)?;
        absolute("runtime_dir", &self.runtime_dir)?;
        let name = format!("{}-{}", receiver.ip(), receiver.port());
        Ok(Send {
            listen: Vec::new(),
            receiver,
            receiver_name: self.trust.receiver_name()?,
            name: host.to_owned(),
            spool_dir: self.spool_dir.join(&name),
            spool_key: Secret::read(&self.spool_key).map_err(|e| e.to_string())?,
            runtime_dir: self.runtime_dir.join(&name),
            limits: Limits { octets: self.spool_mib << 20, age_ms: self.spool_hours * 3_600_000 },
            memory: self.memory_mib << 20,
            fsync: Fsync::Second,
            exact_retry: false,
            trust: Some(self.trust.trust()?),
        })
    }
}

fn built_in_dir() -> PathBuf {
    PathBuf::from("/run/vem-relay")
}

fn runtime_dir() -> PathBuf {
    PathBuf::from("/run/flow-relay")
}

fn spool_mib() -> u64 {
    1024
}

fn spool_hours() -> u64 {
    168
}

fn memory_mib() -> usize {
    16
}

fn rate() -> u64 {
    20_000
}

impl TrustFile {
    /// How this end proves itself.
    ///
    /// # Errors
    /// In words: nothing or too much is said, or the key can't be read.
    pub fn trust(&self) -> Result<Trust, String> {
        match (&self.shared_key, &self.authority, &self.certificate, &self.key) {
            (Some(path), None, None, None) => Ok(Trust::Shared(Secret::read(path).map_err(|e| e.to_string())?)),
            (None, Some(authority), Some(certificate), Some(key)) => Ok(Trust::Certificates {
                authority: authority.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => Err("[trust] needs either shared_key, or authority, certificate and key".to_owned()),
        }
    }

    /// The name that the receiver's certificate must have. With a shared key it means nothing.
    ///
    /// # Errors
    /// In words: it is no name, or is missing.
    pub fn receiver_name(&self) -> Result<ServerName<'static>, String> {
        let name = match (&self.receiver_name, &self.shared_key) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => "flow-relay".to_owned(),
            (None, None) => return Err("[trust] needs receiver_name where there are certificates".to_owned()),
        };
        ServerName::try_from(name).map_err(|_| "receiver_name is no host name".to_owned())
    }
}

fn read(path: &Path) -> Result<File, Error> {
    let fail = |reason: String| Error::File { path: path.to_owned(), reason };
    let length = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
    if length > FILE_MAX {
        return Err(fail(format!("{length} octets are too many")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    toml::from_str(&text).map_err(|e| {
        let line = text.get(..e.span().map_or(0, |s| s.start)).unwrap_or_default().matches('\n').count() + 1;
        fail(format!("line {line}: {}", e.message().trim_end()))
    })
}

fn absolute(what: &str, path: &Path) -> Result<(), String> {
    if path.is_absolute() { Ok(()) } else { Err(format!("{what} is not an absolute path")) }
}

fn within<T: PartialOrd + std::fmt::Display + Copy>(what: &str, value: T, least: T, most: T) -> Result<(), String> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(format!("{what} = {value} is outside {least}-{most}")) }
}

/// Reads what a sender needs; `insecure` leaves TLS away.
///
/// # Errors
/// See [`Error`].
pub fn send(path: &Path, insecure: bool) -> Result<Send, Error> {
    let fail = |reason: String| Error::File { path: path.to_owned(), reason };
    let file = read(path)?;
    let send = file.send.ok_or_else(|| fail("there is no [send]".to_owned()))?;
    check_send(&send).map_err(fail)?;
    let name = match send.name {
        Some(name) => name,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
    };
    let trust = if insecure { None } else { Some(file.trust.trust().map_err(fail)?) };
    let receiver_name = if insecure { Ok(insecure_name()) } else { file.trust.receiver_name() };
    Ok(Send {
        listen: send.listen,
        receiver: send.receiver,
        receiver_name: receiver_name.map_err(fail)?,
        name,
        spool_dir: send.spool_dir,
        spool_key: Secret::read(&send.spool_key)?,
        runtime_dir: send.runtime_dir,
        limits: Limits { octets: send.spool_mib << 20, age_ms: send.spool_hours * 3_600_000 },
        memory: send.memory_mib << 20,
        fsync: match send.fsync {
            FsyncFile::Never => Fsync::Never,
            FsyncFile::Second => Fsync::Second,
            FsyncFile::Always => Fsync::Always,
        },
        exact_retry: send.retry == Retry::Exact,
        trust,
    })
}

fn insecure_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())
}

fn check_send(send: &SendFile) -> Result<(), String> {
    within("spool_mib", send.spool_mib, 1, 1 << 24)?;
    within("spool_hours", send.spool_hours, 1, 87_600)?;
    within("memory_mib", send.memory_mib, 1, 4096)?;
    within("number of addresses to listen at", send.listen.len(), 0, LISTEN_MAX)?;
    absolute("spool_dir", &send.spool_dir)?;
    absolute("runtime_dir", &send.runtime_dir)
}

/// Reads what a receiver needs; `insecure` leaves TLS away.
///
/// # Errors
/// See [`Error`].
pub fn receive(path: &Path, insecure: bool) -> Result<Receive, Error> {
    let fail = |reason: String| Error::File { path: path.to_owned(), reason };
    let file = read(path)?;
    let receive = file.receive.ok_or_else(|| fail("there is no [receive]".to_owned()))?;
    within("number of collectors", receive.collectors.len(), 1, COLLECTORS_MAX).map_err(fail)?;
    within("rate", receive.rate, 1, 10_000_000).map_err(fail)?;
    absolute("state_dir", &receive.state_dir).map_err(fail)?;
    absolute("runtime_dir", &receive.runtime_dir).map_err(fail)?;
    Ok(Receive {
        listen: receive.listen,
        collectors: receive.collectors,
        state_dir: receive.state_dir,
        runtime_dir: receive.runtime_dir,
        spoof_source: receive.spoof_source,
        rate: receive.rate,
        senders: file.trust.senders.clone(),
        trust: if insecure { None } else { Some(file.trust.trust().map_err(fail)?) },
    })
}
