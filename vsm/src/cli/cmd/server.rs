//! RADIUS and TACACS+ servers and their groups.

use std::net::IpAddr;

use super::target::{Outcome, make_room, name, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::aaa::{Aaa, GROUPS_MAX, Group, KEY_MAX, Protocol, SERVERS_MAX, Server, is_key, reveal};
use crate::config::model::Model;

/// Most characters of a group's name.
const NAME_MAX: usize = 32;

const WORDS: &[(&str, &str)] = &[
    ("radius-server", "RADIUS servers"),
    ("tacacs-server", "TACACS+ servers"),
    ("host", "A server: its address"),
    ("host6", "A server: its address"),
    ("key", "Key that is shared with the server, up to 63 characters"),
    ("0", "The key follows in clear text"),
    ("7", "The key follows as type 7"),
    ("auth-port", "Port for logins, 1812 unless said"),
    ("port", "Port, 49 unless said"),
    ("timeout", "Seconds that an answer may take"),
    ("retransmit", "How often a request is sent again"),
    ("deadtime", "Minutes for which a silent server is not asked"),
    ("single-connection", "Keep the connection for the next question"),
    ("require-message-authenticator", "Take no answer without Message-Authenticator"),
    ("aaa", "Authentication, authorisation and accounting"),
    ("group", "Group of servers"),
    ("server", "Servers"),
    ("radius", "RADIUS"),
    ("tacacs+", "TACACS+"),
    ("feature", "Features that are switched on"),
    ("name", "Name of the group"),
];

const RADIUS_HOST: &str = "radius-server host { <host:ip> | <host6:ip6> } [ key [<form=0|7>] <key:secret> \
    | auth-port <port:num:1-65535> | timeout <timeout:num:1-60> | retransmit <retransmit:num:0-5> ]*";

const TACACS_HOST: &str = "tacacs-server host { <host:ip> | <host6:ip6> } [ key [<form=0|7>] <key:secret> \
    | port <port:num:1-65535> | timeout <timeout:num:1-60> | single-connection ]*";

/// The commands.
pub fn commands() -> Vec<Command> {
    let own = |syntax, help, no, run: Run| Command { modes: &[Mode::Config], syntax, help, words: WORDS, no, run };
    let group = |modes, syntax, help, no, run: Run| Command { modes, syntax, help, words: WORDS, no, run };
    let groups: &[Mode] = &[Mode::RadiusGroup, Mode::TacacsGroup];
    vec![
        own(RADIUS_HOST, "A RADIUS server", Some("radius-server host { <host:ip> | <host6:ip6> }"), server),
        own(
            "radius-server key [<form=0|7>] <key:secret>",
            "Key of the servers that have none of their own",
            Some("radius-server key"),
            shared,
        ),
        own(
            "radius-server timeout <timeout:num:1-60>",
            "Seconds that an answer may take, 5 unless said",
            Some("radius-server timeout [<timeout:num:1-60>]"),
            shared,
        ),
        own(
            "radius-server retransmit <retransmit:num:0-5>",
            "How often a request is sent again, once unless said",
            Some("radius-server retransmit [<retransmit:num:0-5>]"),
            shared,
        ),
        own(
            "radius-server deadtime <deadtime:num:0-1440>",
            "Minutes for which a silent server is not asked, 0 unless said",
            Some("radius-server deadtime [<deadtime:num:0-1440>]"),
            shared,
        ),
        own(
            "radius-server require-message-authenticator",
            "Take no answer without Message-Authenticator; without it answers can be forged",
            Some("radius-server require-message-authenticator"),
            |session, args| {
                let negated = args.negated && !args.has("default");
                session.edit(Box::new(move |model| {
                    model.aaa.takes_unsigned = negated;
                    Ok(warn_unsigned(negated))
                }))
            },
        ),
        own(
            "feature tacacs+",
            "Switch TACACS+ on; 'no' forgets all that is said of it",
            Some("feature tacacs+"),
            feature,
        ),
        own(TACACS_HOST, "A TACACS+ server", Some("tacacs-server host { <host:ip> | <host6:ip6> }"), server),
        own(
            "tacacs-server key [<form=0|7>] <key:secret>",
            "Key of the servers that have none of their own",
            Some("tacacs-server key"),
            shared,
        ),
        own(
            "tacacs-server timeout <timeout:num:1-60>",
            "Seconds that an answer may take, 5 unless said",
            Some("tacacs-server timeout [<timeout:num:1-60>]"),
            shared,
        ),
        own(
            "tacacs-server deadtime <deadtime:num:0-1440>",
            "Minutes for which a silent server is not asked, 0 unless said",
            Some("tacacs-server deadtime [<deadtime:num:0-1440>]"),
            shared,
        ),
        own(
            "aaa group server <protocol=radius|tacacs+> <name:word>",
            "Servers that are asked together",
            Some("aaa group server <protocol=radius|tacacs+> <name:word>"),
            make_group,
        ),
        group(
            groups,
            "server { <host:ip> | <host6:ip6> }",
            "A server of the group; they are asked in this order",
            Some("server { <host:ip> | <host6:ip6> }"),
            member,
        ),
        group(
            groups,
            "deadtime <deadtime:num:0-1440>",
            "Minutes for which a silent server of the group is not asked",
            Some("deadtime [<deadtime:num:0-1440>]"),
            |session, args| {
                let minutes = number::<u16>(args, "deadtime").filter(|_| !args.negated);
                edit_group(session, move |group, _| {
                    group.deadtime_min = minutes;
                    Ok(Vec::new())
                })
            },
        ),
    ]
}

fn feature(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let is_on = !args.negated;
    session.edit(Box::new(move |model| {
        let aaa = &mut model.aaa;
        if !is_on {
            let is_tacacs = |group: &String| aaa.protocol_of(group) == Some(Protocol::Tacacs);
            if let Some((words, _)) = aaa.methods().into_iter().find(|(_, list)| list.groups.iter().any(is_tacacs)) {
                return Err(format!("TACACS+ is used by '{words}'"));
            }
            aaa.tacacs = Default::default();
            aaa.groups.retain(|_, group| group.protocol == Protocol::Radius);
        }
        aaa.tacacs_is_on = is_on;
        Ok(Vec::new())
    }))
}

fn warn_unsigned(is_unsigned: bool) -> Vec<String> {
    let warning = "whoever can change packets between switch and server can forge an answer (CVE-2024-3596)";
    is_unsigned.then(|| warning.to_owned()).into_iter().collect()
}

fn number<T: TryFrom<u32>>(args: &Args, name: &str) -> Option<T> {
    args.number(name).and_then(|n| T::try_from(n).ok())
}

/// The address that was typed.
pub fn host(args: &Args) -> Result<IpAddr, Error> {
    let host = wanted(args.address("host", "host6"))?;
    if host.is_unspecified() || host.is_multicast() {
        return Err(Error::Refused(format!("{host} can not be the address of a server")));
    }
    Ok(host)
}

/// The key that was typed, in clear text.
fn key(args: &Args) -> Result<Option<String>, Error> {
    let Some(typed) = args.text("key") else { return Ok(None) };
    let key = match args.text("form") {
        Some("7") => reveal(typed),
        _ => Some(typed.trim_matches('"').to_owned()).filter(|key| is_key(key)),
    };
    let rule = || Error::Refused(format!("A key has up to {KEY_MAX} characters without blanks and quotation marks"));
    key.map(Some).ok_or_else(rule)
}

fn protocol(args: &Args) -> Protocol {
    let is_tacacs = args.has("tacacs-server") || args.text("protocol") == Some("tacacs+");
    if is_tacacs { Protocol::Tacacs } else { Protocol::Radius }
}

/// What speaks TACACS+ can be configured when the feature is on.
fn is_on(aaa: &Aaa, protocol: Protocol) -> Result<(), String> {
    match protocol == Protocol::Radius || aaa.tacacs_is_on {
        true => Ok(()),
        false => Err("'feature tacacs+' is off".to_owned()),
    }
}

fn server(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (protocol, host, key) = (protocol(args), host(args)?, key(args)?);
    let is_single = args.has("single-connection");
    let (port, timeout_s, retransmit) = (number(args, "port"), number(args, "timeout"), number(args, "retransmit"));
    let negated = args.negated;
    session.edit(Box::new(move |model| {
        is_on(&model.aaa, protocol)?;
        let hosts = &mut model.aaa.servers_mut(protocol).hosts;
        let at = hosts.iter().position(|server| server.host == host);
        if negated {
            hosts.remove(at.ok_or_else(|| format!("There is no server {host}"))?);
            return Ok(used_by(model, protocol, host));
        }
        make_room(at.is_some(), hosts.len(), SERVERS_MAX, "servers")?;
        let at = at.unwrap_or_else(|| {
            hosts.push(Server::new(host));
            hosts.len() - 1
        });
        let server = hosts.get_mut(at).ok_or("The server is gone")?;
        server.key = key.or(server.key.take());
        server.port = port.or(server.port);
        server.timeout_s = timeout_s.or(server.timeout_s);
        server.retransmit = retransmit.or(server.retransmit);
        server.single |= is_single;
        let has_key = server.key.is_some() || model.aaa.servers(protocol).key.is_some();
        let warning = format!("server {host} is not asked before it has a key");
        Ok((!has_key).then_some(warning).into_iter().collect())
    }))
}

fn used_by(model: &Model, protocol: Protocol, host: IpAddr) -> Vec<String> {
    let with = model.aaa.groups.iter().filter(|(_, group)| group.protocol == protocol && group.servers.contains(&host));
    with.map(|(name, _)| format!("group {name} still names server {host}")).collect()
}

/// What holds for all servers of the protocol.
fn shared(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (protocol, key, negated) = (protocol(args), key(args)?, args.negated);
    let words = args.words.clone();
    let (timeout_s, retransmit) = (number(args, "timeout"), number(args, "retransmit"));
    let deadtime_min = number(args, "deadtime");
    session.edit(Box::new(move |model| {
        is_on(&model.aaa, protocol)?;
        let servers = model.aaa.servers_mut(protocol);
        match words.iter().find(|word| ["key", "timeout", "retransmit", "deadtime"].contains(word)) {
            Some(&"key") => servers.key = key.filter(|_| !negated),
            Some(&"timeout") => servers.timeout_s = timeout_s.filter(|_| !negated),
            Some(&"retransmit") => servers.retransmit = retransmit.filter(|_| !negated),
            _ => servers.deadtime_min = deadtime_min.filter(|_| !negated),
        }
        Ok(Vec::new())
    }))
}

fn make_group(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (protocol, name, negated) = (protocol(args), text(args, "name")?, args.negated);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_taken = ["local", "none", "group", "fallback", "radius", "tacacs+"].contains(&name.as_str());
    if name.len() > NAME_MAX || !name.chars().all(fits) || is_taken {
        let rule = format!("A group's name has up to {NAME_MAX} letters, digits, '.', '-' and '_', and is no keyword");
        return Err(Error::Refused(rule));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| {
        let aaa = &mut model.aaa;
        is_on(aaa, protocol)?;
        let found = aaa.groups.get(&name).map(|group| group.protocol);
        match (negated, found) {
            (true, Some(found)) if found == protocol => {
                if let Some((words, _)) = aaa.methods().into_iter().find(|(_, list)| list.groups.contains(&name)) {
                    return Err(format!("Group '{name}' is used by '{words}'"));
                }
                aaa.groups.remove(&name);
            }
            (true, _) => return Err(format!("Group '{name}' does not exist")),
            (false, Some(found)) if found != protocol => {
                return Err(format!("Group '{name}' is one of {} servers", found.name()));
            }
            (false, found) => {
                make_room(found.is_some(), aaa.groups.len(), GROUPS_MAX, "groups")?;
                let new = Group { protocol, servers: Vec::new(), deadtime_min: None };
                aaa.groups.entry(name).or_insert(new);
            }
        }
        Ok(Vec::new())
    }))?;
    if !negated {
        session.enter(if protocol == Protocol::Radius { Mode::RadiusGroup } else { Mode::TacacsGroup }, subject);
    }
    Ok(output)
}

/// Changes the group that the sub-mode is about; `change` also sees the servers.
fn edit_group(
    session: &mut Session,
    change: impl FnOnce(&mut Group, &[IpAddr]) -> Outcome + Send + 'static,
) -> Result<Output, Error> {
    let name = name(session)?;
    session.edit(Box::new(move |model| {
        let gone = || format!("Group '{name}' does not exist any more");
        let protocol = model.aaa.groups.get(&name).map(|group| group.protocol).ok_or_else(gone)?;
        let hosts: Vec<IpAddr> = model.aaa.servers(protocol).hosts.iter().map(|server| server.host).collect();
        change(model.aaa.groups.get_mut(&name).ok_or_else(gone)?, &hosts)
    }))
}

fn member(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (host, negated) = (host(args)?, args.negated);
    edit_group(session, move |group, known| {
        let at = group.servers.iter().position(|own| *own == host);
        match (negated, at) {
            (true, Some(at)) => _ = group.servers.remove(at),
            (true, None) => return Err(format!("Server {host} is not in the group")),
            (false, Some(_)) => {}
            (false, None) => {
                make_room(false, group.servers.len(), SERVERS_MAX, "servers in the group")?;
                group.servers.push(host);
            }
        }
        let warning = format!("there is no {} host {host} yet", group.protocol.command());
        Ok((!negated && !known.contains(&host)).then_some(warning).into_iter().collect())
    })
}
