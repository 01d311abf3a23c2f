//! Servers that are asked who may come in and what he may do: RADIUS and TACACS+. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Most servers of a protocol.
pub const SERVERS_MAX: usize = 64;
/// Most groups.
pub const GROUPS_MAX: usize = 64;
/// Most groups of a list of methods.
pub const METHODS_MAX: usize = 8;
/// Most characters of a shared key.
pub const KEY_MAX: usize = 63;
/// Seconds that an answer may take unless configured.
pub const TIMEOUT_S: u8 = 5;
/// How often a RADIUS request is sent again unless configured.
pub const RETRANSMIT: u8 = 1;

/// How a server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Protocol {
    /// RFC 2865, over UDP.
    Radius,
    /// RFC 8907, over TCP.
    Tacacs,
}

impl Protocol {
    /// Both.
    pub const ALL: [Protocol; 2] = [Protocol::Radius, Protocol::Tacacs];

    /// Its name, which is also that of the group of all its servers.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Radius => "radius",
            Protocol::Tacacs => "tacacs+",
        }
    }

    /// The first word of its commands.
    pub fn command(self) -> &'static str {
        match self {
            Protocol::Radius => "radius-server",
            Protocol::Tacacs => "tacacs-server",
        }
    }

    /// Port unless configured.
    pub fn port(self) -> u16 {
        match self {
            Protocol::Radius => 1812,
            Protocol::Tacacs => 49,
        }
    }

    fn port_word(self) -> &'static str {
        match self {
            Protocol::Radius => "auth-port",
            Protocol::Tacacs => "port",
        }
    }
}

/// The servers of a protocol, and what holds for all of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Servers {
    /// In the order in which they are asked.
    pub hosts: Vec<Server>,
    /// Shared key of those that have none of their own.
    pub key: Option<String>,
    /// Seconds that an answer may take.
    pub timeout_s: Option<u8>,
    /// How often a request is sent again.
    pub retransmit: Option<u8>,
    /// Minutes for which a silent server is not asked.
    pub deadtime_min: Option<u16>,
}

/// A server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Its address.
    pub host: IpAddr,
    /// Its port.
    pub port: Option<u16>,
    /// Its shared key.
    pub key: Option<String>,
    /// Seconds that its answers may take.
    pub timeout_s: Option<u8>,
    /// How often a request to it is sent again.
    pub retransmit: Option<u8>,
    /// Its connection is kept for the next question.
    pub single: bool,
}

impl Server {
    /// A server of which only the address was said.
    pub fn new(host: IpAddr) -> Self {
        Server { host, port: None, key: None, timeout_s: None, retransmit: None, single: false }
    }
}

/// `aaa group server`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// What its servers speak.
    pub protocol: Protocol,
    /// In the order in which they are asked.
    pub servers: Vec<IpAddr>,
    /// Minutes for which a silent server is not asked.
    pub deadtime_min: Option<u16>,
}

/// Who is asked, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Methods {
    /// Names of groups; none: only the switch itself.
    pub groups: Vec<String>,
    /// And then the switch itself, when no server answers.
    pub local: bool,
}

/// Everything about servers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Aaa {
    /// `feature tacacs+`
    pub tacacs_is_on: bool,
    /// RADIUS servers.
    pub radius: Servers,
    /// TACACS+ servers.
    pub tacacs: Servers,
    /// `no radius-server require-message-authenticator`
    pub takes_unsigned: bool,
    /// Groups by name.
    pub groups: BTreeMap<String, Group>,
    /// Who says who may come in.
    pub login: Methods,
    /// `aaa authentication login ascii-authentication`
    pub asks_in_ascii: bool,
    /// `no aaa authentication login default fallback error local`
    pub is_strict: bool,
    /// `no aaa user default-role`: whom a server gives no role is not let in.
    pub no_default_role: bool,
    /// Who is asked before a command of EXEC mode.
    pub commands: Option<Methods>,
    /// Who is asked before a configuration command.
    pub config_commands: Option<Methods>,
    /// Who is told of sessions and commands.
    pub accounting: Option<Methods>,
}

/// A server with all that it takes to ask it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its address.
    pub host: IpAddr,
    /// Its port.
    pub port: u16,
    /// The shared key; without one it is not asked.
    pub key: Option<String>,
    /// Seconds that an answer may take.
    pub timeout_s: u8,
    /// How often a request is sent again.
    pub retransmit: u8,
    /// Minutes for which it is not asked when it was silent.
    pub deadtime_min: u16,
    /// Its connection is kept.
    pub single: bool,
}

impl Aaa {
    /// The servers of a protocol.
    pub fn servers(&self, protocol: Protocol) -> &Servers {
        match protocol {
            Protocol::Radius => &self.radius,
            Protocol::Tacacs => &self.tacacs,
        }
    }

    /// As [`Aaa::servers`], to be changed.
    pub fn servers_mut(&mut self, protocol: Protocol) -> &mut Servers {
        match protocol {
            Protocol::Radius => &mut self.radius,
            Protocol::Tacacs => &mut self.tacacs,
        }
    }

    /// What the group's servers speak; `None`: there is no such group.
    pub fn protocol_of(&self, group: &str) -> Option<Protocol> {
        let all = Protocol::ALL.into_iter().find(|protocol| protocol.name() == group);
        all.filter(|protocol| *protocol == Protocol::Radius || self.tacacs_is_on)
            .or_else(|| self.groups.get(group).map(|group| group.protocol))
    }

    /// The servers of a group in their order; names of unknown servers are passed over.
    pub fn targets(&self, group: &str) -> Vec<Target> {
        let Some(protocol) = self.protocol_of(group) else { return Vec::new() };
        let own = self.groups.get(group);
        let servers = self.servers(protocol);
        let hosts: Vec<IpAddr> = match own {
            Some(own) => own.servers.clone(),
            None => servers.hosts.iter().map(|server| server.host).collect(),
        };
        let found = hosts.iter().filter_map(|host| servers.hosts.iter().find(|server| server.host == *host));
        found.map(|server| self.target(protocol, server, own.and_then(|own| own.deadtime_min))).collect()
    }

    /// A server with all that it takes to ask it.
    pub fn target(&self, protocol: Protocol, server: &Server, deadtime_min: Option<u16>) -> Target {
        let all = self.servers(protocol);
        Target {
            protocol,
            host: server.host,
            port: server.port.unwrap_or(protocol.port()),
            key: server.key.clone().or_else(|| all.key.clone()),
            timeout_s: server.timeout_s.or(all.timeout_s).unwrap_or(TIMEOUT_S),
            retransmit: server.retransmit.or(all.retransmit).unwrap_or(RETRANSMIT),
            deadtime_min: deadtime_min.or(all.deadtime_min).unwrap_or(0),
            single: server.single,
        }
    }

    /// The lists of methods, each with the words in front of it.
    pub fn methods(&self) -> Vec<(&'static str, &Methods)> {
        let login = Some(&self.login).filter(|login| !login.groups.is_empty());
        let lists = [
            ("aaa authentication login default", login),
            ("aaa authorization commands default", self.commands.as_ref()),
            ("aaa authorization config-commands default", self.config_commands.as_ref()),
            ("aaa accounting default", self.accounting.as_ref()),
        ];
        lists.into_iter().filter_map(|(words, methods)| Some((words, methods?))).collect()
    }
}

/// The lines of the configuration, each with its depth.
pub fn lines(aaa: &Aaa) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    lines.extend(aaa.tacacs_is_on.then(|| (0, "feature tacacs+".to_owned())));
    for protocol in Protocol::ALL {
        let (word, servers) = (protocol.command(), aaa.servers(protocol));
        lines.extend(servers.key.iter().map(|key| (0, format!("{word} key 7 {}", hide(key)))));
        lines.extend(servers.timeout_s.map(|s| (0, format!("{word} timeout {s}"))));
        lines.extend(servers.retransmit.map(|n| (0, format!("{word} retransmit {n}"))));
        lines.extend(servers.deadtime_min.map(|n| (0, format!("{word} deadtime {n}"))));
        lines.extend(servers.hosts.iter().map(|server| (0, server_line(protocol, server))));
    }
    lines.extend(aaa.takes_unsigned.then(|| (0, "no radius-server require-message-authenticator".to_owned())));
    for (name, group) in &aaa.groups {
        lines.push((0, format!("aaa group server {} {name}", group.protocol.name())));
        lines.extend(group.servers.iter().map(|host| (1, format!("server {host}"))));
        lines.extend(group.deadtime_min.map(|n| (1, format!("deadtime {n}"))));
    }
    for (words, Methods { groups, local }) in aaa.methods() {
        let methods = match groups.is_empty() {
            true => "local".to_owned(),
            false => format!("group {}{}", groups.join(" "), if *local { " local" } else { "" }),
        };
        lines.push((0, format!("{words} {methods}")));
    }
    let off = [
        (aaa.asks_in_ascii, "aaa authentication login ascii-authentication"),
        (aaa.is_strict, "no aaa authentication login default fallback error local"),
        (aaa.no_default_role, "no aaa user default-role"),
    ];
    lines.extend(off.into_iter().filter(|(is_said, _)| *is_said).map(|(_, line)| (0, line.to_owned())));
    lines
}

fn server_line(protocol: Protocol, server: &Server) -> String {
    let said = |word: &str, value: Option<String>| value.map(|value| format!(" {word} {value}")).unwrap_or_default();
    format!(
        "{} host {}{}{}{}{}{}",
        protocol.command(),
        server.host,
        said("key 7", server.key.as_deref().map(hide)),
        said(protocol.port_word(), server.port.map(|n| n.to_string())),
        said("timeout", server.timeout_s.map(|n| n.to_string())),
        said("retransmit", server.retransmit.map(|n| n.to_string())),
        if server.single { " single-connection" } else { "" },
    )
}

/// What Cisco's type 7 is made with.
const SALT: &[u8; 53] = b"dsfd;kfoA,.iyewrkldJKDHSUBsgvca69834ncxv9873254k;fg87";

/// The key as type 7: nobody reads it over a shoulder, and everybody can undo it.
pub fn hide(key: &str) -> String {
    let from = key.bytes().map(usize::from).sum::<usize>() % 16;
    let hidden = key.bytes().zip(SALT.iter().cycle().skip(from)).map(|(c, salt)| format!("{:02X}", c ^ salt));
    format!("{from:02}{}", hidden.collect::<String>())
}

/// The key of a type 7 text, with or without quotation marks.
pub fn reveal(text: &str) -> Option<String> {
    let text = text.trim_matches('"');
    let from: usize = text.get(..2).filter(|from| from.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let hex = text.get(2..).filter(|hex| hex.len() % 2 == 0 && hex.is_ascii())?;
    let octets = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok());
    let key = octets.zip(SALT.iter().cycle().skip(from)).map(|(octet, salt)| Some(octet? ^ salt));
    String::from_utf8(key.collect::<Option<Vec<u8>>>()?).ok().filter(|key| is_key(key))
}

/// It can be a shared key.
pub fn is_key(key: &str) -> bool {
    (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() && b != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_7_can_be_undone() {
        for key in ["testing123", "x", "|a-long?key;", &"k".repeat(KEY_MAX)] {
            assert_eq!(reveal(&hide(key)).as_deref(), Some(key), "{}", hide(key));
        }
        // As other switches write it.
        assert_eq!(reveal("\"02050D480809\"").as_deref(), Some("cisco"));
        assert_eq!(reveal("094F471A1A0A").as_deref(), Some("cisco"));
        for bad in ["", "0", "02", "0205", "zz050D", "02050D4", "02é0D4", "99FF"] {
            assert!(reveal(bad).is_none_or(|key| is_key(&key)), "{bad}");
        }
        assert_eq!((reveal("02"), reveal("0x050D"), reveal("02050D4")), (None, None, None));
    }
}
