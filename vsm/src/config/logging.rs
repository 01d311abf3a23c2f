//! What is logged, and where it goes: servers, severities, the log file. Pure.
//!
//! Everything that can be left out is an `Option`: what was not said is the default, and is not printed.

use std::collections::BTreeMap;
use std::fmt::Display;

/// Most servers.
pub const SERVERS_MAX: usize = 8;
/// UDP or TCP port of a server unless configured.
pub const PORT: u16 = 514;
/// The log file unless configured.
pub const LOGFILE: &str = "messages";
/// Octets of the log file before it is turned over, unless configured; also the most.
pub const SIZE: u32 = 4 << 20;
/// Severity up to which lines go to a server, to a terminal that asked for them, and to the console.
pub const SERVER: u8 = 5;
/// See [`SERVER`].
pub const MONITOR: u8 = 5;
/// See [`SERVER`].
pub const CONSOLE: u8 = 2;
/// Severity up to which lines go to the log file.
pub const LOGFILE_SEVERITY: u8 = 6;
/// Facility that servers are told unless configured.
pub const FACILITY: &str = "local7";

/// The words for severities 0-7.
pub const SEVERITIES: [&str; 8] =
    ["emergencies", "alerts", "critical", "errors", "warnings", "notifications", "information", "debugging"];

/// The parts of the switch that write lines, in the spelling of the command line, with the severity up to which their
/// lines are taken unless configured.
pub const PARTS: &[(&str, u8)] = &[
    ("aaa", 6),
    ("accounting", 6),
    ("ethport", 5),
    ("monitor", 5),
    ("nxapi", 6),
    ("port_profile", 5),
    ("snmpd", 5),
    ("ssh", 6),
    ("vem_mgr", 6),
    ("vim", 5),
    ("vshd", 6),
];

/// Facilities of the syslog protocol (RFC 5424 section 6.2.1) and their numbers.
pub const FACILITIES: &[(&str, u8)] = &[
    ("auth", 4),
    ("authpriv", 10),
    ("cron", 9),
    ("daemon", 3),
    ("ftp", 11),
    ("kernel", 0),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
    ("lpr", 6),
    ("mail", 2),
    ("news", 7),
    ("syslog", 5),
    ("user", 1),
    ("uucp", 8),
];

/// Where lines up to a severity go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Threshold {
    /// As it is when nothing is said.
    #[default]
    Default,
    /// Nothing goes there.
    Off,
    /// Lines of this severity and the graver ones.
    To(u8),
}

impl Threshold {
    /// The severity, with the default filled in; `None`: nothing goes there.
    pub fn severity(self, default: u8) -> Option<u8> {
        match self {
            Threshold::Default => Some(default),
            Threshold::Off => None,
            Threshold::To(severity) => Some(severity),
        }
    }
}

/// `logging logfile NAME SEVERITY [size OCTETS]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Logfile {
    /// Its name.
    pub name: String,
    /// Lines up to this severity.
    pub severity: u8,
    /// Octets before it is turned over.
    pub size: Option<u32>,
}

/// `logging server HOST`: what was said of a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Server {
    /// Lines up to this severity.
    pub severity: Option<u8>,
    /// Its port.
    pub port: Option<u16>,
    /// `use-vrf management`, which is where it is reached in any case.
    pub management: bool,
    /// Facility of the protocol, one of [`FACILITIES`].
    pub facility: Option<String>,
    /// TCP rather than UDP.
    pub tcp: bool,
}

/// `logging timestamp ...`: digits behind the seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Timestamp {
    /// None.
    #[default]
    Seconds,
    /// Three.
    Milliseconds,
    /// Six.
    Microseconds,
}

impl Timestamp {
    /// All of them.
    pub const ALL: [Timestamp; 3] = [Timestamp::Seconds, Timestamp::Milliseconds, Timestamp::Microseconds];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Timestamp::Seconds => "seconds",
            Timestamp::Milliseconds => "milliseconds",
            Timestamp::Microseconds => "microseconds",
        }
    }
}

/// What the log file is when something is said of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum File {
    /// As it is when nothing is said.
    #[default]
    Default,
    /// There is none.
    Off,
    /// This one.
    Is(Logfile),
}

/// What was said of logging.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logging {
    /// By host, as it was typed.
    pub servers: BTreeMap<String, Server>,
    /// Severity up to which lines of a part are taken; by part.
    pub levels: BTreeMap<String, u8>,
    /// What the console's sessions are shown unasked.
    pub console: Threshold,
    /// What a session is shown that has asked for it.
    pub monitor: Threshold,
    /// The log file.
    pub file: File,
    /// How exact the times are.
    pub timestamp: Timestamp,
}

impl Logging {
    /// Severity up to which lines of the part are taken. A part that is not in the list says what it likes.
    pub fn level(&self, part: &str) -> u8 {
        let part = part.to_ascii_lowercase();
        let own = self.levels.get(&part).copied();
        own.or_else(|| default_level(&part)).unwrap_or(7)
    }

    /// The log file; `None`: there is none.
    pub fn logfile(&self) -> Option<Logfile> {
        match &self.file {
            File::Default => Some(Logfile { name: LOGFILE.to_owned(), severity: LOGFILE_SEVERITY, size: None }),
            File::Off => None,
            File::Is(file) => Some(file.clone()),
        }
    }

    /// The lines of the configuration.
    pub fn lines(&self) -> Vec<String> {
        let threshold = |word: &str, threshold: Threshold| match threshold {
            Threshold::Default => None,
            Threshold::Off => Some(format!("no logging {word}")),
            Threshold::To(severity) => Some(format!("logging {word} {severity}")),
        };
        let mut lines: Vec<String> =
            [threshold("console", self.console), threshold("monitor", self.monitor)].into_iter().flatten().collect();
        match &self.file {
            File::Default => {}
            File::Off => lines.push("no logging logfile".to_owned()),
            File::Is(file) => {
                let size = file.size.map(|size| format!(" size {size}")).unwrap_or_default();
                lines.push(format!("logging logfile {} {}{size}", file.name, file.severity));
            }
        }
        if self.timestamp != Timestamp::Seconds {
            lines.push(format!("logging timestamp {}", self.timestamp.word()));
        }
        lines.extend(self.levels.iter().map(|(part, severity)| format!("logging level {part} {severity}")));
        lines.extend(self.servers.iter().map(|(host, server)| format!("logging server {host}{}", said(server))));
        lines
    }
}

fn said(server: &Server) -> String {
    fn part(word: &str, value: &Option<impl Display>) -> String {
        value.as_ref().map(|value| format!(" {word}{value}")).unwrap_or_default()
    }
    let vrf = if server.management { " use-vrf management" } else { "" };
    let transport = if server.tcp { " transport tcp" } else { "" };
    let (severity, port) = (part("", &server.severity), part("port ", &server.port));
    format!("{severity}{port}{vrf}{}{transport}", part("facility ", &server.facility))
}

/// Severity up to which lines of a part are taken unless configured.
pub fn default_level(part: &str) -> Option<u8> {
    PARTS.iter().find(|(name, _)| *name == part).map(|(_, level)| *level)
}

/// The number of a facility of the protocol.
pub fn facility_code(name: &str) -> u8 {
    FACILITIES.iter().find(|(known, _)| *known == name).map_or(23, |(_, code)| *code)
}

/// A server is named by an address or a name that could be looked up.
pub fn is_host(text: &str) -> bool {
    let is_name = |text: &str| {
        let label = |label: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !label.is_empty() && label.len() <= 63 && label.chars().all(fits) && !label.starts_with('-')
        };
        // What looks like an address and is none is no name either.
        text.split('.').all(label) && !text.split('.').all(|label| label.chars().all(|c| c.is_ascii_digit()))
    };
    text.parse::<std::net::IpAddr>().is_ok() || is_name(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_the_default() {
        let mut logging = Logging::default();
        assert_eq!(logging.lines(), [""; 0]);
        assert_eq!((logging.level("ETHPORT"), logging.level("SSH"), logging.level("OTHER")), (5, 6, 7));
        logging.levels.insert("ethport".into(), 3);
        logging.console = Threshold::Off;
        logging.timestamp = Timestamp::Milliseconds;
        logging.file = File::Is(Logfile { name: "mine".into(), severity: 4, size: Some(8192) });
        let server = Server {
            severity: Some(6),
            port: Some(5514),
            management: true,
            facility: Some("local0".into()),
            tcp: true,
        };
        logging.servers.insert("10.0.0.1".into(), Server::default());
        logging.servers.insert("log.example.net".into(), server);
        assert_eq!(logging.level("ETHPORT"), 3);
        assert_eq!(
            logging.lines(),
            [
                "no logging console",
                "logging logfile mine 4 size 8192",
                "logging timestamp milliseconds",
                "logging level ethport 3",
                "logging server 10.0.0.1",
                "logging server log.example.net 6 port 5514 use-vrf management facility local0 transport tcp",
            ]
        );
    }

    #[test]
    fn hosts() {
        for good in ["10.0.0.1", "2001:db8::1", "log", "log-1.example.net"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "10.0.0.256", "10.0", "a..b", "-a", "a b", "a/b", "é"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
