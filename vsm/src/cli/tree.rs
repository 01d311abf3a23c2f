//! One declaration per command: it gives parsing, abbreviation, `?`, Tab, `no`, and the manual.
//!
//! # Syntax
//!
//! A [`Command::syntax`] is a line of
//!
//! | piece            | means                                                                                       |
//! |------------------|---------------------------------------------------------------------------------------------|
//! | `word`           | a keyword, matched without regard to case and by any abbreviation that is unique at its place |
//! | `[ … ]`          | may be left out                                                                             |
//! | `{ … \| … }`     | one of                                                                                      |
//! | `[ … \| … ]*`    | any of them, in any order, any number of times                                               |
//! | `<name:type>`    | an argument, found again as `args.get("name")`                                              |
//! | `<name=a\|b\|c>` | one of these keywords, found again as the argument `name`                                   |
//!
//! Types: `word` (no blanks, 1-64 characters), `word80`, `secret` (as `word`, up to 255, bars too), `release` (`0.1.0`), `quoted` (a word, or words in quotes), `line` (the rest of the line), `num:LOW-HIGH`, `vlan`, `vlans`,
//! `if` (interface), `ifs` (interfaces and ranges, `veth1-4,eth3/1`), `ip` (dotted, zero-padded octets are decimal),
//! `ip6` (`2001:db8::1`), `prefix` (`10.0.0.0/8`), `prefix6` (`2001:db8::/32`), `mac`, `hex16` (`0x86dd`), `port` (0-65535 or a well-known name).
//! The same name may stand in several alternatives. Case of arguments is kept. `[ a | b ]` is `[ { a | b } ]`.
//!
//! [`super::graph::Tree`] compiles all commands once; a malformed syntax string fails there, and so in the first test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::addr::{MacAddr, VlanId};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::render::Output;
use super::session::Session;

/// A mode of the command line; its prompt is in [`Mode::suffix`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Mode {
    /// `switch#`
    Exec,
    /// `switch(config)#`
    Config,
    /// `switch(config-s)#`, and in sub-modes `switch(config-s-if)#`
    ConfigSession,
    /// `switch(config-role)#`
    Role,
    /// `switch(config-role-interface)#`
    RoleInterface,
    /// `switch(config-role-vlan)#`
    RoleVlan,
    /// `switch(config-radius)#`
    RadiusGroup,
    /// `switch(config-tacacs+)#`
    TacacsGroup,
    /// `switch(config-vlan)#`
    Vlan,
    /// `switch(config-port-prof)#`
    PortProfile,
    /// `switch(config-if)#`
    Interface,
    /// `switch(config-if-range)#`
    InterfaceRange,
    /// `switch(config-acl)#`
    IpAcl,
    /// `switch(config-mac-acl)#`
    MacAcl,
    /// `switch(config-flow-record)#`
    FlowRecord,
    /// `switch(config-flow-exporter)#`
    FlowExporter,
    /// `switch(config-flow-exporter-version-9)#`
    FlowExporterVersion,
    /// `switch(config-flow-monitor)#`
    FlowMonitor,
    /// `switch(config-flow-sampler)#`
    FlowSampler,
    /// `switch(config-monitor)#`
    Monitor,
    /// `switch(config-erspan-src)#`
    ErspanSource,
    /// `switch(config-erspan-dst)#`
    ErspanDestination,
    /// `switch(config-svs-domain)#`
    SvsDomain,
    /// `switch(config-vem-slot)#`
    VemSlot,
    /// `switch(config-console)#`
    LineConsole,
    /// `switch(config-line)#`
    LineVty,
    /// `switch(vem-3)#`: the commands of a module, and no others.
    Vem,
}

impl Mode {
    /// What the prompt holds between the name of the switch and `#`.
    pub fn suffix(self) -> &'static str {
        match self {
            Mode::Exec => "",
            Mode::Config => "(config)",
            Mode::ConfigSession => "(config-s)",
            Mode::Role => "(config-role)",
            Mode::RoleInterface => "(config-role-interface)",
            Mode::RoleVlan => "(config-role-vlan)",
            Mode::RadiusGroup => "(config-radius)",
            Mode::TacacsGroup => "(config-tacacs+)",
            Mode::Vlan => "(config-vlan)",
            Mode::PortProfile => "(config-port-prof)",
            Mode::Interface => "(config-if)",
            Mode::InterfaceRange => "(config-if-range)",
            Mode::IpAcl => "(config-acl)",
            Mode::MacAcl => "(config-mac-acl)",
            Mode::FlowRecord => "(config-flow-record)",
            Mode::FlowExporter => "(config-flow-exporter)",
            Mode::FlowExporterVersion => "(config-flow-exporter-version-9)",
            Mode::FlowMonitor => "(config-flow-monitor)",
            Mode::FlowSampler => "(config-flow-sampler)",
            Mode::Monitor => "(config-monitor)",
            Mode::ErspanSource => "(config-erspan-src)",
            Mode::ErspanDestination => "(config-erspan-dst)",
            Mode::SvsDomain => "(config-svs-domain)",
            Mode::VemSlot => "(config-vem-slot)",
            Mode::LineConsole => "(config-console)",
            Mode::LineVty => "(config-line)",
            Mode::Vem => "(vem)",
        }
    }

    /// Where `exit` leads; from EXEC it ends the session.
    pub fn parent(self) -> Option<Mode> {
        match self {
            Mode::Exec => None,
            Mode::Config | Mode::Vem => Some(Mode::Exec),
            Mode::FlowExporterVersion => Some(Mode::FlowExporter),
            Mode::RoleInterface | Mode::RoleVlan => Some(Mode::Role),
            _ => Some(Mode::Config),
        }
    }

    /// The modes whose commands may be typed here, in the order in which they are tried: this one, those around it, EXEC.
    pub fn chain(self) -> impl Iterator<Item = Mode> {
        std::iter::successors(Some(self), |mode| mode.parent().filter(|_| *mode != Mode::Vem))
    }
}

/// What a handler does: reads the arguments, changes the configuration or asks the modules, and says what to print.
pub type Run = fn(&mut Session, &Args) -> Result<Output, Error>;

/// A command.
pub struct Command {
    /// Where it may be typed. An EXEC command works in every mode, a configuration command in every sub-mode as well.
    pub modes: &'static [Mode],
    /// See the module documentation.
    pub syntax: &'static str,
    /// What it does, one line, for the manual.
    pub help: &'static str,
    /// What `?` says of its words and arguments: `("access-list", "Access list")`, `("name", "List name")`.
    pub words: &'static [(&'static str, &'static str)],
    /// The syntax behind `no` (or `default`), when it can be negated.
    pub no: Option<&'static str>,
    /// The handler, also of the negated form ([`Args::negated`]).
    pub run: Run,
}

impl Command {
    /// It changes nothing but the session: who may only look may type it.
    pub fn only_looks(&self) -> bool {
        let first = self.syntax.split(' ').next().unwrap_or_default();
        let looks = ["show", "terminal", "exit", "end", "enable", "dir", "attach", "audit", "trace"].contains(&first)
            || self.syntax.starts_with("module <slot:num:3-66> execute vemcmd ");
        self.modes == [Mode::Vem] || (self.modes == [Mode::Exec] && looks)
    }
}

/// An argument.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "a session has a handful")]
pub enum Value {
    /// `word`, `word80`, `secret`, `line`, or the keyword of a `<name=a|b>`.
    Text(String),
    /// `num`, `hex16`, `port`
    Number(u32),
    /// `vlan`
    Vlan(VlanId),
    /// `vlans`
    Vlans(VlanSet),
    /// `if`, `ifs`
    Interfaces(Vec<IfName>),
    /// `ip`
    Ip(Ipv4Addr),
    /// `ip6`
    Ip6(Ipv6Addr),
    /// `prefix`
    Prefix(Ipv4Addr, u8),
    /// `2001:db8::/32`
    Prefix6(Ipv6Addr, u8),
    /// `mac`
    Mac(MacAddr),
}

/// The arguments of a typed command.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Args {
    /// Typed behind `no` or `default`.
    pub negated: bool,
    /// Keywords that were typed, in full spelling, in order; a `default` in front of the command is the first.
    pub words: Vec<&'static str>,
    /// Arguments in order.
    pub values: Vec<(&'static str, Value)>,
    /// The line word by word, keywords in full spelling, secrets as asterisks; a `no` in front is the first.
    pub spelled: Vec<String>,
}

impl Args {
    /// The line in full spelling: for records, for rules of roles, for servers that are asked. It holds no secrets.
    pub fn line(&self) -> String {
        self.spelled.join(" ")
    }

    /// The keyword was typed.
    pub fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// The argument, when it was typed.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The argument as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The argument as a number.
    pub fn number(&self, name: &str) -> Option<u32> {
        match self.get(name)? {
            Value::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// The argument as a VLAN.
    pub fn vlan(&self, name: &str) -> Option<VlanId> {
        match self.get(name)? {
            Value::Vlan(v) => Some(*v),
            _ => None,
        }
    }

    /// The argument as VLANs.
    pub fn vlans(&self, name: &str) -> Option<&VlanSet> {
        match self.get(name)? {
            Value::Vlans(v) => Some(v),
            _ => None,
        }
    }

    /// The argument as one interface.
    pub fn interface(&self, name: &str) -> Option<IfName> {
        self.interfaces(name).first().copied()
    }

    /// The argument as interfaces; none when it was not typed.
    pub fn interfaces(&self, name: &str) -> &[IfName] {
        match self.get(name) {
            Some(Value::Interfaces(names)) => names,
            _ => &[],
        }
    }

    /// The argument as a prefix: address and length.
    pub fn prefix(&self, name: &str) -> Option<(Ipv4Addr, u8)> {
        match self.get(name)? {
            Value::Prefix(ip, length) => Some((*ip, *length)),
            _ => None,
        }
    }

    /// The argument as an address.
    pub fn ip(&self, name: &str) -> Option<Ipv4Addr> {
        match self.get(name)? {
            Value::Ip(ip) => Some(*ip),
            _ => None,
        }
    }

    /// The argument as an address of either family: `<four:ip> | <six:ip6>`.
    pub fn address(&self, four: &str, six: &str) -> Option<IpAddr> {
        match (self.get(four), self.get(six)) {
            (Some(Value::Ip(ip)), _) => Some(IpAddr::V4(*ip)),
            (_, Some(Value::Ip6(ip))) => Some(IpAddr::V6(*ip)),
            _ => None,
        }
    }

    /// The argument as a MAC address.
    pub fn mac(&self, name: &str) -> Option<MacAddr> {
        match self.get(name)? {
            Value::Mac(mac) => Some(*mac),
            _ => None,
        }
    }
}

/// Why a command was not carried out. `Display` is what is printed, line by line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The line is wrong at a column; printed with the caret below the typed line.
    #[error("% {what} at '^' marker.")]
    At {
        /// Column, from 0, of the typed line.
        column: usize,
        /// `Invalid command`, `Incomplete command`, `Ambiguous command`, `Invalid number, range is (1:4094)`, …
        what: String,
    },
    /// The role of whoever typed it has no such right.
    #[error("% Permission denied for the role")]
    Denied,
    /// The command was understood and can't be done.
    #[error("ERROR: {0}")]
    Refused(String),
}

impl From<crate::supervisor::EditError> for Error {
    fn from(error: crate::supervisor::EditError) -> Self {
        Error::Refused(error.to_string())
    }
}
