//! `show radius-server`, `show aaa`

use std::time::Instant;

use super::exec;
use crate::aaa::servers::{Servers, Statistics};
use crate::cli::cmd::server::host;
use crate::cli::render::{Output, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::aaa::{Aaa, Methods, Protocol};

const WORDS: &[(&str, &str)] = &[
    ("radius-server", "RADIUS servers"),
    ("tacacs-server", "TACACS+ servers"),
    ("authorization", "Who is asked before a command"),
    ("accounting", "Who is told of sessions and commands"),
    ("statistics", "What has come of asking a server"),
    ("host", "The server"),
    ("host6", "The server"),
    ("aaa", "Authentication, authorisation and accounting"),
    ("authentication", "Who says who may come in"),
    ("groups", "Groups of servers"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show radius-server", "Display RADIUS servers", WORDS, |session, _| {
            Ok(servers(&session.handle.model().aaa, Protocol::Radius, session.handle.servers(), Instant::now()))
        }),
        exec(
            "show radius-server statistics { <host:ip> | <host6:ip6> }",
            "Display what has come of asking a RADIUS server",
            WORDS,
            |session, args| statistics_of(session, args, Protocol::Radius),
        ),
        exec("show tacacs-server", "Display TACACS+ servers", WORDS, |session, _| {
            let model = session.handle.model();
            match model.aaa.tacacs_is_on {
                true => Ok(servers(&model.aaa, Protocol::Tacacs, session.handle.servers(), Instant::now())),
                false => Err(Error::Refused("'feature tacacs+' is off".to_owned())),
            }
        }),
        exec(
            "show tacacs-server statistics { <host:ip> | <host6:ip6> }",
            "Display what has come of asking a TACACS+ server",
            WORDS,
            |session, args| statistics_of(session, args, Protocol::Tacacs),
        ),
        exec("show aaa authorization", "Display who is asked before a command", WORDS, |session, _| {
            let aaa = &session.handle.model().aaa;
            Ok(lists("authorization", [("commands", &aaa.commands), ("config-commands", &aaa.config_commands)]))
        }),
        exec("show aaa accounting", "Display who is told of sessions and commands", WORDS, |session, _| {
            Ok(lists("accounting", [("default", &session.handle.model().aaa.accounting)]))
        }),
        exec("show aaa authentication", "Display who says who may come in", WORDS, |session, _| {
            Ok(authentication(&session.handle.model().aaa))
        }),
        exec("show aaa groups", "Display groups of servers", WORDS, |session, _| {
            Ok(groups(&session.handle.model().aaa))
        }),
    ]
}

/// The servers, and what holds for all of them. Keys are not shown.
pub fn servers(aaa: &Aaa, protocol: Protocol, known: &Servers, now: Instant) -> Output {
    let all = aaa.servers(protocol);
    let name = if protocol == Protocol::Radius { "RADIUS" } else { "TACACS+" };
    let (retransmit, timeout) = (all.retransmit.unwrap_or(1), all.timeout_s.unwrap_or(5));
    let deadtime = all.deadtime_min.unwrap_or(0);
    let mut text = String::new();
    if protocol == Protocol::Radius {
        text.push_str(&format!("retransmission count:{retransmit}\n"));
    }
    text.push_str(&format!(
        "timeout value:{timeout}\ndeadtime value:{deadtime}\nsource interface:any available\n\
         total number of servers:{}\n\nfollowing {name} servers are configured:\n",
        all.hosts.len()
    ));
    let mut rows = Vec::new();
    for server in &all.hosts {
        let target = aaa.target(protocol, server, None);
        let dead = known.dead_for(protocol, server.host, now);
        let state = match dead {
            _ if target.key.is_none() => "has no key".to_owned(),
            Some(left) => format!("dead for {} more seconds", left.as_secs().max(1)),
            None => "available".to_owned(),
        };
        let key = if target.key.is_some() { "********" } else { "" };
        text.push_str(&format!("\t{}:\n", server.host));
        match protocol {
            Protocol::Radius => text.push_str(&format!("\t\tavailable for authentication on port:{}\n", target.port)),
            Protocol::Tacacs => text.push_str(&format!("\t\tavailable on port:{}\n", target.port)),
        }
        text.push_str(&format!("\t\ttimeout:{}\n", target.timeout_s));
        if protocol == Protocol::Radius {
            text.push_str(&format!("\t\tretransmit:{}\n", target.retransmit));
        }
        text.push_str(&format!("\t\t{name} shared secret:{key}\n\t\tstate:{state}\n"));
        rows.push(leaves([
            ("server_ip", server.host.to_string()),
            ("auth_port", target.port.to_string()),
            ("timeout", target.timeout_s.to_string()),
            ("retransmit", target.retransmit.to_string()),
            ("secret", key.to_owned()),
            ("state", state),
        ]));
    }
    let head = leaves([
        ("retransmit_count", retransmit.to_string()),
        ("timeout", timeout.to_string()),
        ("deadtime", deadtime.to_string()),
        ("server_count", all.hosts.len().to_string()),
    ]);
    Output::with_json(text, merged([head, table("server", rows)]))
}

/// What has come of asking the server that was typed.
pub fn statistics_of(session: &mut Session, args: &Args, protocol: Protocol) -> Result<Output, Error> {
    let host = host(args)?;
    if !session.handle.model().aaa.servers(protocol).hosts.iter().any(|server| server.host == host) {
        return Err(Error::Refused(format!("There is no server {host}")));
    }
    Ok(statistics(&session.handle.servers().statistics(protocol, host), protocol))
}

fn statistics(statistics: &Statistics, protocol: Protocol) -> Output {
    let lines = [
        ("requests sent", "requests_sent", statistics.sent),
        ("requests answered", "requests_answered", statistics.answered),
        ("requests timed out", "requests_timed_out", statistics.timed_out),
        ("failed transactions", "failed_transactions", statistics.failed),
        ("responses with no matching requests", "responses_unmatched", statistics.unmatched),
        ("responses without Message-Authenticator", "responses_unsigned", statistics.unsigned),
        ("responses containing errors", "responses_errors", statistics.malformed),
    ];
    let lines = lines.into_iter().filter(|(_, key, _)| protocol == Protocol::Radius || *key != "responses_unsigned");
    let lines: Vec<_> = lines.collect();
    let text: String = lines.iter().map(|(name, _, count)| format!("\t{name}: {count}\n")).collect();
    let json = leaves(lines.into_iter().map(|(_, key, count)| (key, count)));
    Output::with_json(format!("Authentication Statistics\n{text}"), json)
}

/// `group one two local`, or `local`.
pub fn methods(methods: &Methods) -> String {
    match methods.groups.is_empty() {
        true => "local".to_owned(),
        false => format!("group {}{}", methods.groups.join(" "), if methods.local { " local" } else { "" }),
    }
}

/// A line for each list of methods.
fn lists<const N: usize>(name: &str, lists: [(&str, &Option<Methods>); N]) -> Output {
    let local = Methods::default();
    let rows = lists.map(|(service, list)| (service, methods(list.as_ref().unwrap_or(&local))));
    let text = rows.iter().map(|(service, list)| format!("         {service}: {list}\n")).collect::<String>();
    let rows = rows.into_iter().map(|(service, list)| leaves([("service", service.to_owned()), ("method", list)]));
    Output::with_json(text, table(name, rows.collect()))
}

fn authentication(aaa: &Aaa) -> Output {
    let default = methods(&aaa.login);
    let fallback = if aaa.is_strict { "disabled" } else { "enabled" };
    let role = if aaa.no_default_role { "disabled" } else { "enabled" };
    let text = format!(
        "         default: {default}\n         console: none\n         fallback to local: {fallback}\n         \
         default role: {role}\n"
    );
    let rows = [("default", default.as_str()), ("console", "none")];
    let rows = rows.map(|(service, method)| leaves([("service", service), ("method", method)])).to_vec();
    let more = leaves([("fallback_local", fallback), ("default_role", role)]);
    Output::with_json(text, merged([table("authentication", rows), more]))
}

fn groups(aaa: &Aaa) -> Output {
    let mut all = vec![("radius".to_owned(), Protocol::Radius)];
    all.extend(aaa.tacacs_is_on.then(|| ("tacacs+".to_owned(), Protocol::Tacacs)));
    all.extend(aaa.groups.iter().map(|(name, group)| (name.clone(), group.protocol)));
    let mut text = format!("total number of groups:{}\n\nfollowing AAA server groups are configured:\n", all.len());
    let mut rows = Vec::new();
    for (name, protocol) in all {
        let hosts: Vec<String> = match aaa.groups.get(&name) {
            Some(group) => group.servers.iter().map(ToString::to_string).collect(),
            None => aaa.servers(protocol).hosts.iter().map(|server| server.host.to_string()).collect(),
        };
        text.push_str(&format!("\tgroup {name} ({}):\n", protocol.name()));
        hosts.iter().for_each(|host| text.push_str(&format!("\t\tserver {host}\n")));
        rows.push(leaves([("group", name), ("protocol", protocol.name().to_owned()), ("servers", hosts.join(" "))]));
    }
    Output::with_json(text, table("group", rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::startup;

    #[test]
    fn rendered() {
        let text = "radius-server key testing123\nradius-server host 192.0.2.1 key 7 02050D480809 timeout 3\n\
                    radius-server host 2001:db8::1 auth-port 1645\naaa group server radius ours\nserver 2001:db8::1\n\
                    aaa authentication login default group ours radius local\nfeature tacacs+\n\
                    tacacs-server host 192.0.2.9 key tac port 4949 single-connection\n\
                    aaa authorization commands default group tacacs+ local\n";
        let aaa = startup::load(text).unwrap().aaa;
        let known = Servers::default();
        sample::check("radius-server", &servers(&aaa, Protocol::Radius, &known, Instant::now()));
        let counted = Statistics { sent: 3, answered: 1, timed_out: 2, ..Statistics::default() };
        sample::check("radius-server_statistics", &statistics(&counted, Protocol::Radius));
        sample::check("aaa_authentication", &authentication(&aaa));
        sample::check("tacacs-server", &servers(&aaa, Protocol::Tacacs, &known, Instant::now()));
        let own = [("commands", &aaa.commands), ("config-commands", &aaa.config_commands)];
        sample::check("aaa_authorization", &lists("authorization", own));
        sample::check("aaa_groups", &groups(&aaa));
    }
}
