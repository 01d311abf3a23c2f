//! `vem.toml`: what an agent must know before it has heard from its supervisor.
//!
//! ```toml
//! [vsm]
//! address = "192.0.2.1:4785"      # left out: the agent works alone
//!
//! [host]
//! name = "host1"                  # default: the kernel's host name
//! domain = 100                    # 1-4095
//! uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"   # default: made once and kept in state_dir
//! state_dir = "/var/lib/vem"
//! socket = "/run/vem.sock"        # of `vem attach`, `detach`, `ports`, `cmd`
//!
//! [limits]                        # each with its default
//! flows = 262144
//! macs = 32768
//! macs_per_port = 1024
//! records = 65536
//! evicted_per_s = 200000
//!
//! [dataplane]
//! workers = 2                     # threads that move frames, 1-64; default 1
//! cores = [2, 3]                  # a core for each; left out: wherever the system puts them
//! coalesce = "exact"              # or "lenient", "off": which frames a tap may get joined, see below
//!
//! [metrics]                       # figures for Prometheus; left out: none
//! listen = "127.0.0.1:9476"
//!
//! [collector_tls]                 # for exporters with `transport tls`
//! authority = "/etc/vem/collectors-ca.pem"
//! certificate = "/etc/vem/exporter.pem"           # left out: none is shown
//! key = "/etc/vem/exporter.key"
//! name = "collector1"             # in the collector's certificate; default: its address
//!
//! [relay]                         # for exporters with `transport relay`, as in docs/flow-relay.md
//! spool_dir = "/var/lib/vem/relay"
//! spool_key = "/etc/vem/spool.key"
//! runtime_dir = "/run/vem-relay"
//! trust = { shared_key = "/etc/vem/shared.key" }
//!
//! [flow_store]                    # for the command `flow-store`
//! dir = "/var/lib/vem/flows"      # default: flows in state_dir
//!
//! [[port]]                        # attached at start
//! uplink = 1
//! device = "eth1"
//! profile = "uplink-trunk"
//! driver = "auto"                 # or "packet", "xdp": what drives an existing device
//!
//! [[port]]
//! kind = "vhost-user"
//! device = "web1"
//! path = "/run/vem/web1.sock"
//! queues = 2                      # default 1
//! role = "server"                 # default; "client": QEMU listens
//! mode = "0660"                   # default
//! owner = "64055:107"             # default: the agent's user and group
//! profile = "web"
//! ```
//!
//! `coalesce` joins frames of one flow that leave by a tap together (super-frames, which a receiver's kernel takes apart).
//! `exact` joins what a receiver gets as the very packets that were sent. `lenient` also joins IPv4 datagrams that have no
//! checksum, or identifications that don't ascend, as traffic generators send them: they arrive with a checksum and with
//! ascending identifications. `off` writes every frame alone.
//!
//! A key that is not known is an error, and so is a value out of its range: nothing is guessed. Everything else about the
//! switch comes from the supervisor.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use proto::msg::HostUuid;
use serde::Deserialize;
use vswitch::coalesce;
use vswitch::worker::{Limits, WORKERS_MAX};

use crate::attach::Attachment;
use crate::export::transport::{Credentials, TlsFiles};
use crate::headless;
use crate::relay::config::BuiltIn;
use crate::request::Request;

/// Largest configuration file, octets.
const FILE_MAX: u64 = 1 << 20;
/// Highest number of a core that the system's sets of cores hold.
const CORE_MAX: usize = 1023;

/// Why there is no configuration to start with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A value that is well formed can't be used.
    #[error("{}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file, checked.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// Address and port of the supervisor; `None` works alone.
    pub vsm: Option<String>,
    /// Name of this host.
    pub host: String,
    /// Domain id, 1-4095.
    pub domain: u16,
    /// Identity of this host, when the file gives it.
    pub uuid: Option<HostUuid>,
    /// Where identity, last good configuration and attachments are kept.
    pub state_dir: PathBuf,
    /// Path of the local socket.
    pub socket: PathBuf,
    /// Sizes of the dataplane's tables.
    pub limits: Limits,
    /// Which frames a tap may get joined.
    pub coalesce: coalesce::Mode,
    /// Threads of the dataplane.
    pub dataplane: Dataplane,
    /// Where figures for Prometheus are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Keys and certificates of the flow export.
    pub credentials: Credentials,
    /// Ports that are attached at start.
    pub ports: Vec<Attachment>,
}

/// Threads of the dataplane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dataplane {
    /// How many there are, 1-64.
    pub workers: usize,
    /// The core of each; none when they are not pinned.
    pub cores: Vec<usize>,
}

impl Bootstrap {
    /// Identity of this host: that of the file, or the one that is kept in the state directory.
    ///
    /// # Errors
    /// The state directory can't be used.
    pub fn host_uuid(&self) -> Result<HostUuid, headless::Error> {
        self.uuid.map_or_else(|| headless::host_uuid(&self.state_dir), Ok)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    vsm: Option<Vsm>,
    host: toml::Spanned<Host>,
    #[serde(default)]
    limits: Option<toml::Spanned<LimitsFile>>,
    #[serde(default)]
    dataplane: Option<toml::Spanned<DataplaneFile>>,
    #[serde(default)]
    metrics: Option<Metrics>,
    collector_tls: Option<TlsFiles>,
    relay: Option<BuiltIn>,
    flow_store: Option<FlowStore>,
    #[serde(default)]
    port: Vec<toml::Spanned<Request>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlowStore {
    dir: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vsm {
    address: toml::Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    #[serde(default)]
    name: Option<toml::Spanned<String>>,
    domain: toml::Spanned<u16>,
    #[serde(default)]
    uuid: Option<toml::Spanned<String>>,
    state_dir: PathBuf,
    #[serde(default = "default_socket")]
    socket: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    flows: Option<usize>,
    macs: Option<usize>,
    macs_per_port: Option<usize>,
    records: Option<usize>,
    evicted_per_s: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct DataplaneFile {
    coalesce: Option<Coalesce>,
    workers: Option<usize>,
    cores: Option<Vec<usize>>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Coalesce {
    Off,
    Exact,
    Lenient,
}

impl From<Coalesce> for coalesce::Mode {
    fn from(written: Coalesce) -> Self {
        match written {
            Coalesce::Off => coalesce::Mode::Off,
            Coalesce::Exact => coalesce::Mode::Exact,
            Coalesce::Lenient => coalesce::Mode::Lenient,
        }
    }
}

fn default_socket() -> PathBuf {
    PathBuf::from(DEFAULT_SOCKET)
}

/// Where the local socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/vem.sock";

/// Reads and checks `path`.
///
/// # Errors
/// Names the file, the line and the reason.
pub fn read(path: &Path) -> Result<Bootstrap, Error> {
    let fail = |source| Error::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(fail)?.len();
    if length > FILE_MAX {
        return Err(Error::Value { path: path.to_owned(), reason: format!("{length} octets are too many") });
    }
    parse(path, &std::fs::read_to_string(path).map_err(fail)?)
}

/// Checks the text of the file at `path`.
///
/// # Errors
/// Names the file, the line and the reason.
pub fn parse(path: &Path, text: &str) -> Result<Bootstrap, Error> {
    let at = |span: std::ops::Range<usize>, reason: String| Error::Line {
        path: path.to_owned(),
        line: text.get(..span.start).unwrap_or(text).matches('\n').count() + 1,
        reason,
    };
    let file: File =
        toml::from_str(text).map_err(|e| at(e.span().unwrap_or(0..0), e.message().trim_end().to_owned()))?;
    let host_span = file.host.span();
    let host = file.host.into_inner();
    let vsm = file.vsm.map(|v| check_address(v.address.span(), v.address.into_inner(), &at)).transpose()?;
    let name = match host.name {
        Some(name) => {
            let span = name.span();
            Some(name.into_inner()).filter(|n| is_host_name(n)).ok_or_else(|| at(span, "not a host name".into()))?
        }
        None => {
            kernel_host_name().ok_or_else(|| at(host_span.clone(), "the kernel has no host name: set 'name'".into()))?
        }
    };
    let domain = *host.domain.get_ref();
    if !(1..=4095).contains(&domain) {
        return Err(at(host.domain.span(), format!("domain {domain} is outside 1-4095")));
    }
    let uuid = match host.uuid {
        None => None,
        Some(text) => {
            let span = text.span();
            Some(text.into_inner().parse().map_err(|_| at(span, "not a UUID".to_owned()))?)
        }
    };
    for (what, path) in [("state_dir", &host.state_dir), ("socket", &host.socket)] {
        if !path.is_absolute() {
            return Err(at(host_span.clone(), format!("{what} is not an absolute path")));
        }
    }
    let limits = match file.limits {
        None => Limits::default(),
        Some(limits) => check_limits(limits.get_ref()).map_err(|reason| at(limits.span(), reason))?,
    };
    let coalesce = file.dataplane.as_ref().and_then(|given| given.get_ref().coalesce);
    let coalesce = coalesce.map_or_else(coalesce::Mode::default, Into::into);
    let dataplane = match file.dataplane {
        None => Dataplane { workers: 1, cores: Vec::new() },
        Some(given) => check_dataplane(given.get_ref()).map_err(|reason| at(given.span(), reason))?,
    };
    let ports = file.port.iter().map(|port| {
        let attachment = port.get_ref().check().map_err(|e| at(port.span(), e.to_string()))?;
        Ok(Attachment { fixed: true, ..attachment })
    });
    let ports: Vec<Attachment> = ports.collect::<Result<_, Error>>()?;
    let mut seen = crate::attach::Attachments::default();
    for (port, written) in ports.iter().zip(&file.port) {
        seen.add(port.clone()).map_err(|e| at(written.span(), e.to_string()))?;
    }
    let metrics = file.metrics.map(|metrics| metrics.listen);
    let Host { state_dir, socket, .. } = host;
    let store_dir = file.flow_store.map_or_else(|| state_dir.join("flows"), |store| store.dir);
    let credentials =
        Credentials { tls: file.collector_tls, relay: file.relay, store_dir: Some(store_dir), host: name.clone() };
    Ok(Bootstrap {
        vsm,
        host: name,
        domain,
        uuid,
        state_dir,
        socket,
        limits,
        coalesce,
        dataplane,
        metrics,
        credentials,
        ports,
    })
}

fn check_address(
    span: std::ops::Range<usize>,
    address: String,
    at: &dyn Fn(std::ops::Range<usize>, String) -> Error,
) -> Result<String, Error> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(address),
        _ => Err(at(span, format!("'{address}' is not HOST:PORT"))),
    }
}

fn check_limits(given: &LimitsFile) -> Result<Limits, String> {
    let default = Limits::default();
    let check = |name: &str, value: Option<usize>, default: usize, max: usize| match value {
        None => Ok(default),
        Some(n) if (1..=max).contains(&n) => Ok(n),
        Some(n) => Err(format!("{name} = {n} is outside 1-{max}")),
    };
    Ok(Limits {
        flows: check("flows", given.flows, default.flows, 1 << 24)?,
        macs: check("macs", given.macs, default.macs, 1 << 20)?,
        macs_per_port: check("macs_per_port", given.macs_per_port, default.macs_per_port, 1 << 20)?,
        records: check("records", given.records, default.records, 1 << 22)?,
        evicted_per_s: check("evicted_per_s", given.evicted_per_s, default.evicted_per_s, 10_000_000)?,
    })
}

fn check_dataplane(given: &DataplaneFile) -> Result<Dataplane, String> {
    let cores = given.cores.clone().unwrap_or_default();
    let workers = given.workers.unwrap_or(cores.len().max(1));
    if !(1..=WORKERS_MAX).contains(&workers) {
        return Err(format!("workers = {workers} is outside 1-{WORKERS_MAX}"));
    }
    if given.cores.is_some() && cores.len() != workers {
        return Err(format!("{workers} workers need as many cores, and {} are named", cores.len()));
    }
    for (i, core) in cores.iter().enumerate() {
        if *core > CORE_MAX {
            return Err(format!("core {core} is outside 0-{CORE_MAX}"));
        }
        if cores.iter().take(i).any(|other| other == core) {
            return Err(format!("core {core} is named twice"));
        }
    }
    Ok(Dataplane { workers, cores })
}

fn is_host_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn kernel_host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|n| is_host_name(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::vhost::Role;

    const GOOD: &str = r#"
[vsm]
address = "192.0.2.1:4785"

[host]
name = "host1"
domain = 100
state_dir = "/var/lib/vem"

[[port]]
uplink = 1
device = "eth1"
profile = "uplink-trunk"

[[port]]
device = "tap1"
profile = "web"
vm = "web1"
"#;

    fn error(text: &str) -> String {
        parse(Path::new("vem.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_whole_file() {
        let read = parse(Path::new("vem.toml"), GOOD).unwrap();
        assert_eq!((read.host.as_str(), read.domain, read.vsm.as_deref()), ("host1", 100, Some("192.0.2.1:4785")));
        assert_eq!(read.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!(read.ports.iter().map(|p| p.nic.as_str()).collect::<Vec<_>>(), ["uplink/1", "web1/0"]);
        assert!(read.ports.iter().all(|p| p.fixed));
        let guest = "[[port]]\nkind='vhost-user'\ndevice='g'\nprofile='web'\npath='/run/g'\nrole='client'\nqueues=2\n";
        let guest = parse(Path::new("x"), &format!("{GOOD}\n{guest}")).unwrap();
        let socket = guest.ports[2].vhost.as_ref().unwrap();
        assert_eq!((socket.path.as_str(), socket.role, socket.queues), ("/run/g", Role::Client, 2));
        let alone =
            parse(Path::new("x"), "[host]\nname='h'\ndomain=1\nstate_dir='/s'\n[limits]\nflows=1024\n").unwrap();
        assert_eq!((alone.vsm, alone.limits.flows), (None, 1024));
        assert_eq!(alone.limits.macs, Limits::default().macs);
        assert_eq!((read.coalesce, alone.coalesce), (coalesce::Mode::Exact, coalesce::Mode::Exact));
        for (written, mode) in [("off", coalesce::Mode::Off), ("lenient", coalesce::Mode::Lenient)] {
            let text = format!("{GOOD}\n[dataplane]\ncoalesce = '{written}'\n");
            assert_eq!(parse(Path::new("x"), &text).unwrap().coalesce, mode);
        }
        assert_eq!(alone.dataplane, Dataplane { workers: 1, cores: vec![] });
        let threads = |text: &str| parse(Path::new("x"), &format!("{GOOD}\n[dataplane]\n{text}\n")).unwrap().dataplane;
        assert_eq!(threads("workers = 3"), Dataplane { workers: 3, cores: vec![] });
        assert_eq!(threads("workers = 2\ncores = [3, 1]"), Dataplane { workers: 2, cores: vec![3, 1] });
        assert_eq!(threads("cores = [0, 1, 2]"), Dataplane { workers: 3, cores: vec![0, 1, 2] });
    }

    #[test]
    fn an_error_names_file_line_and_reason() {
        let cases = [
            ("domain = 100", "domain = 5000", "vem.toml:7: domain 5000 is outside 1-4095"),
            ("domain = 100", "domian = 100", "vem.toml:7: unknown field `domian`"),
            ("192.0.2.1:4785", "192.0.2.1", "vem.toml:3: '192.0.2.1' is not HOST:PORT"),
            ("name = \"host1\"", "name = \"a b\"", "vem.toml:6: not a host name"),
            ("/var/lib/vem", "lib", "vem.toml:5: state_dir is not an absolute path"),
            ("uplink = 1", "uplink = 99", "vem.toml:10: uplink 99 is outside 1-32"),
            ("device = \"tap1\"", "device = \"eth1\"", "vem.toml:15: device eth1 is attached already"),
            (
                "device = \"tap1\"",
                "device = \"t\"\nkind = \"vhost-user\"",
                "vem.toml:15: a vhost-user port needs the path",
            ),
            ("device = \"tap1\"", "device = \"t\"\npath = \"/s\"", "vem.toml:15: 'path' is for kind vhost-user only"),
            ("[vsm]", "[vsm", "vem.toml:2: "),
        ];
        for (from, to, wanted) in cases {
            let text = error(&GOOD.replace(from, to));
            assert!(text.starts_with(wanted), "{text}\nwanted {wanted}");
        }
        assert!(error("").contains("missing field `host`"));
        assert!(error(&format!("{GOOD}\n[limits]\nflows = 0\n")).contains("flows = 0 is outside"));
        let text = error(&format!("{GOOD}\n[dataplane]\ncoalesce = 'all'\n"));
        assert!(text.contains("unknown variant `all`, expected one of `off`, `exact`, `lenient`"), "{text}");
        for (text, wanted) in [
            ("workers = 0", "workers = 0 is outside 1-64"),
            ("workers = 65", "workers = 65 is outside 1-64"),
            ("workers = 2\ncores = [1]", "2 workers need as many cores, and 1 are named"),
            ("cores = []", "1 workers need as many cores, and 0 are named"),
            ("cores = [1, 1]", "core 1 is named twice"),
            ("cores = [1024]", "core 1024 is outside 0-1023"),
            ("cores = [-1]", "invalid value"),
            ("threads = 2", "unknown field `threads`"),
        ] {
            let text = error(&format!("{GOOD}\n[dataplane]\n{text}\n"));
            assert!(text.starts_with("vem.toml:") && text.contains(wanted), "{text}\nwanted {wanted}");
        }
        let uuid = GOOD.replace("domain = 100", "domain = 100\nuuid = \"123\"");
        assert_eq!(error(&uuid), "vem.toml:8: not a UUID");
    }
}
