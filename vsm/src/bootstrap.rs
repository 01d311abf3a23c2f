//! `vsm.toml`: addresses and paths, and nothing else.
//!
//! ```toml
//! domain = 100                              # 1-4095
//! listen = "0.0.0.0:4785"                   # where agents connect to
//! advertise = ["192.0.2.1:4785"]            # where they are told to connect to; needed when `listen` is no address
//! state_dir = "/var/lib/vsm"                # authority, bindings, startup-config, log
//! cli_socket = "/run/vsm/cli.sock"          # the console
//!
//! [ssh]                                     # without it there is no SSH
//! listen = "192.0.2.1:22"
//! admin_password_file = "/etc/vsm/admin"    # password of the first administrator, mode 0600; made when left out
//! host_keys = ["ed25519", "rsa"]            # made at the first start
//!
//! [nxapi]                                   # without it there is no NX-API
//! listen = "192.0.2.1:443"
//! certificate = "/etc/vsm/switch.pem"       # with `key`; one of our own is made when both are left out
//! key = "/etc/vsm/switch.key"
//!
//! [metrics]                                 # without it there are none
//! listen = "192.0.2.1:9475"
//!
//! [snmp]                                    # without it there is no SNMP
//! agentx = "unix:/var/agentx/master"        # snmpd's socket for subagents, or "tcp:127.0.0.1:705"
//! ```
//!
//! Everything else is configured with the command line. An unknown key is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Port that agents connect to unless configured.
pub const CONTROL_PORT: u16 = 4785;
/// Socket of the console unless configured.
pub const CLI_SOCKET: &str = "/run/vsm/cli.sock";

/// What a supervisor must know before it has a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Domain id, 1-4095.
    pub domain: u16,
    /// Where agents connect to.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where join tokens send agents to: `host:port`. Empty: `listen`.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// Authority, tokens, bindings, startup-config, log.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Socket of the console.
    #[serde(default = "default_cli_socket")]
    pub cli_socket: PathBuf,
    /// The SSH server; `None`: there is none.
    #[serde(default)]
    pub ssh: Option<Ssh>,
    /// The SNMP subagent; `None`: there is none.
    #[serde(default)]
    pub snmp: Option<Snmp>,
    /// Commands by HTTPS; `None`: there are none.
    #[serde(default)]
    pub nxapi: Option<Nxapi>,
    /// Figures for Prometheus; `None`: there are none.
    #[serde(default)]
    pub metrics: Option<Metrics>,
}

/// The SSH server.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Where it listens.
    pub listen: SocketAddr,
    /// File with the password of the first administrator; see [`crate::aaa::initial`].
    #[serde(default)]
    pub admin_password_file: Option<PathBuf>,
    /// Kinds of keys by which clients know the switch.
    #[serde(default = "default_host_keys")]
    pub host_keys: Vec<HostKey>,
}

/// The SNMP subagent.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snmp {
    /// Where snmpd takes subagents: `unix:PATH` or `tcp:ADDRESS:PORT`.
    pub agentx: String,
}

impl Snmp {
    fn is_sound(&self) -> bool {
        match self.agentx.split_once(':') {
            Some(("unix", path)) => path.starts_with('/'),
            Some(("tcp", rest)) => rest.parse::<SocketAddr>().is_ok(),
            _ => false,
        }
    }
}

/// Commands by HTTPS.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nxapi {
    /// Where it listens.
    pub listen: SocketAddr,
    /// File with the certificate and those that vouch for it, PEM; without it see [`crate::mgmt::http::certificate`].
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// File with the certificate's key, PEM.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// Figures for Prometheus.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// A kind of host key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostKey {
    /// Ed25519
    Ed25519,
    /// RSA, for clients that know nothing newer.
    Rsa,
}

fn default_host_keys() -> Vec<HostKey> {
    vec![HostKey::Ed25519, HostKey::Rsa]
}

/// Where agents connect to unless configured: every address.
fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], CONTROL_PORT))
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/vsm")
}

fn default_cli_socket() -> PathBuf {
    PathBuf::from(CLI_SOCKET)
}

/// The file is no good. The text names file, line and reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML, or a key or value is wrong.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        reason: String,
    },
}

impl Bootstrap {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read or is wrong.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| Error::Content { path: path.to_owned(), reason })
    }

    /// Reads text; the error names line and reason.
    ///
    /// # Errors
    /// It is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let boot: Bootstrap = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        let wrong = |key: &str, reason: &str| Err(format!("{}`{key}`: {reason}", line_of(text, key)));
        if !(1..=4095).contains(&boot.domain) {
            return wrong("domain", "1-4095");
        }
        if let Some(bad) = boot.advertise.iter().find(|a| !is_endpoint(a)) {
            return wrong("advertise", &format!("`{bad}` is not HOST:PORT"));
        }
        if boot.advertise.len() > 8 {
            return wrong("advertise", "at most 8 addresses");
        }
        if boot.advertise.is_empty() && boot.listen.ip().is_unspecified() {
            return wrong("advertise", "needed, because `listen` names no address that an agent could connect to");
        }
        if boot.ssh.as_ref().is_some_and(|ssh| ssh.host_keys.is_empty()) {
            return wrong("host_keys", "\"ed25519\", \"rsa\" or both");
        }
        if boot.snmp.as_ref().is_some_and(|snmp| !snmp.is_sound()) {
            return wrong("agentx", "\"unix:/PATH\" or \"tcp:ADDRESS:PORT\"");
        }
        if boot.nxapi.as_ref().is_some_and(|nxapi| nxapi.certificate.is_some() != nxapi.key.is_some()) {
            return wrong("[nxapi]", "`certificate` and `key` come together");
        }
        Ok(boot)
    }

    /// Where agents are told to connect to.
    pub fn addresses(&self) -> Vec<String> {
        if self.advertise.is_empty() { vec![self.listen.to_string()] } else { self.advertise.clone() }
    }

    /// The startup configuration.
    pub fn startup_config(&self) -> PathBuf {
        self.state_dir.join("startup-config")
    }

    /// The log file.
    pub fn log_file(&self) -> PathBuf {
        self.state_dir.join("log")
    }
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let host_fits = !host.is_empty() && host.len() <= 253 && (bracketed || !host.contains(':'));
    host_fits && port.parse::<u16>().is_ok_and(|p| p > 0)
}

fn line_of(text: &str, key: &str) -> String {
    let line = text.lines().position(|l| l.trim_start().starts_with(key));
    line.map(|l| format!("line {}: ", l + 1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file() {
        let boot = Bootstrap::parse(
            "domain = 100\nlisten = \"127.0.0.1:0\"\nadvertise = [\"vsm.example:4785\", \"[2001:db8::1]:4785\"]\n\
             state_dir = \"/tmp/s\"\ncli_socket = \"/tmp/c\"\n",
        )
        .unwrap();
        assert_eq!(boot.addresses(), ["vsm.example:4785", "[2001:db8::1]:4785"]);
        assert_eq!(boot.startup_config(), PathBuf::from("/tmp/s/startup-config"));
        let short = Bootstrap::parse("domain = 1\nlisten = \"192.0.2.1:4785\"\n").unwrap();
        assert_eq!(short.addresses(), ["192.0.2.1:4785"]);
    }

    #[test]
    fn ssh_is_there_when_it_is_asked_for() {
        let parse = |text: &str| Bootstrap::parse(&format!("domain = 1\nlisten = \"192.0.2.1:1\"\n{text}"));
        assert_eq!(parse("").unwrap().ssh, None);
        let ssh = parse("[ssh]\nlisten = \"[::]:22\"\n").unwrap().ssh.unwrap();
        assert_eq!((ssh.admin_password_file, ssh.host_keys), (None, vec![HostKey::Ed25519, HostKey::Rsa]));
        let text = "[ssh]\nlisten = \"0.0.0.0:22\"\nadmin_password_file = \"/p\"\nhost_keys = [\"rsa\"]\n";
        let ssh = parse(text).unwrap().ssh.unwrap();
        assert_eq!((ssh.admin_password_file, ssh.host_keys), (Some("/p".into()), vec![HostKey::Rsa]));
        for (bad, line) in [("[ssh]\n", 3), ("[ssh]\nlisten = \"0.0.0.0:22\"\nhost_keys = [\"dsa\"]\n", 5)] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(&format!("line {line}")), "{error}");
        }
        assert!(parse("[ssh]\nlisten = \"0.0.0.0:22\"\nhost_keys = []\n").unwrap_err().starts_with("line 5"));
    }

    #[test]
    fn nxapi_is_there_when_it_is_asked_for() {
        let parse = |text: &str| Bootstrap::parse(&format!("domain = 1\nlisten = \"192.0.2.1:1\"\n{text}"));
        assert_eq!(parse("").unwrap().nxapi, None);
        let nxapi = parse("[nxapi]\nlisten = \"[::]:443\"\n").unwrap().nxapi.unwrap();
        assert_eq!((nxapi.certificate, nxapi.key), (None, None));
        let both = "[nxapi]\nlisten = \"[::]:443\"\ncertificate = \"/c\"\nkey = \"/k\"\n";
        assert_eq!(parse(both).unwrap().nxapi.unwrap().key, Some("/k".into()));
        let one = "[nxapi]\nlisten = \"[::]:443\"\ncertificate = \"/c\"\n";
        assert!(parse(one).unwrap_err().starts_with("line 3: `[nxapi]`"));
        assert!(parse("[nxapi]\n").unwrap_err().contains("line 3"));
        let metrics = parse("[metrics]\nlisten = \"127.0.0.1:9475\"\n").unwrap().metrics.unwrap();
        assert_eq!(metrics.listen, ([127, 0, 0, 1], 9475).into());
    }

    #[test]
    fn errors_name_line_and_reason() {
        let wrong = |text: &str| Bootstrap::parse(text).unwrap_err();
        assert!(wrong("domain = 100\nlisten = 5\n").contains("line 2"));
        let unknown = wrong("domain = 100\n\ncolour = 5\n");
        assert!(unknown.contains("line 3") && unknown.contains("colour"), "{unknown}");
        assert!(wrong("listen = \"127.0.0.1:1\"\n").contains("domain"));
        assert_eq!(wrong("\ndomain = 4096\n"), "line 2: `domain`: 1-4095");
        assert!(wrong("domain = 1\n").contains("advertise"));
        for bad in ["x", "x:", ":1", "x:0", "x:99999", "2001:db8::1:5"] {
            assert!(wrong(&format!("domain = 1\nadvertise = [\"{bad}\"]\n")).starts_with("line 2"), "{bad}");
        }
    }
}
