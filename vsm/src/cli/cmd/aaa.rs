//! Who is asked whether somebody may come in.

use std::net::{IpAddr, Ipv4Addr};

use super::target::text;
use crate::aaa::login::{self, Verdict};
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::aaa::{Aaa, METHODS_MAX, Methods, Protocol};

const WORDS: &[(&str, &str)] = &[
    ("aaa", "Authentication, authorisation and accounting"),
    ("authentication", "Who may come in"),
    ("ascii-authentication", "Send passwords when they are asked for"),
    ("authorization", "What users may do"),
    ("commands", "Commands of EXEC mode"),
    ("config-commands", "Configuration commands"),
    ("accounting", "What users have done"),
    ("login", "Logins with a password"),
    ("default", "By SSH and NX-API"),
    ("group", "Ask groups of servers"),
    ("list", "Groups in the order in which they are asked; 'local' may follow"),
    ("local", "The users of the switch"),
    ("fallback", "When no server answers"),
    ("error", "When no server answers"),
    ("user", "Users"),
    ("default-role", "Whom a server gives no role may look"),
    ("test", "Try something"),
    ("name", "Name of the group"),
    ("who", "Name of the user"),
    ("password", "Password of the user"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let own = |syntax, help, no, run: Run| Command { modes: &[Mode::Config], syntax, help, words: WORDS, no, run };
    vec![
        own(
            "aaa authentication login default { group <list:line> | local }",
            "Who says who may come in with a password: servers, or only the switch",
            Some("aaa authentication login default [ group <list:line> | local ]"),
            |session, args| {
                set(session, args, |aaa, methods| {
                    // `local` alone is how it is anyway.
                    aaa.login = methods.filter(|methods| !methods.groups.is_empty()).unwrap_or_default();
                })
            },
        ),
        own(
            "aaa authentication login default fallback error local",
            "When no server answers, the switch's own users count; so it is unless 'no' is said",
            Some("aaa authentication login default fallback error local"),
            |session, args| switch(session, args, |aaa, is_off| aaa.is_strict = is_off),
        ),
        own(
            "aaa authentication login ascii-authentication",
            "Send passwords to TACACS+ servers when they ask for them, instead of by PAP",
            Some("aaa authentication login ascii-authentication"),
            |session, args| {
                let is_said = !args.negated;
                session.edit(Box::new(move |model| {
                    model.aaa.asks_in_ascii = is_said;
                    Ok(Vec::new())
                }))
            },
        ),
        own(
            "aaa authorization <what=commands|config-commands> default { group <list:line> | local }",
            "Who is asked before a command is carried out",
            Some("aaa authorization <what=commands|config-commands> default [ group <list:line> | local ]"),
            |session, args| match args.text("what") {
                Some("commands") => set(session, args, |aaa, methods| aaa.commands = methods),
                _ => set(session, args, |aaa, methods| aaa.config_commands = methods),
            },
        ),
        own(
            "aaa accounting default { group <list:line> | local }",
            "Who is told of sessions and commands, beside the switch's own log",
            Some("aaa accounting default [ group <list:line> | local ]"),
            |session, args| set(session, args, |aaa, methods| aaa.accounting = methods),
        ),
        own(
            "aaa user default-role",
            "Whom a server gives no role may look; with 'no' he is not let in",
            Some("aaa user default-role"),
            |session, args| switch(session, args, |aaa, is_off| aaa.no_default_role = is_off),
        ),
        Command {
            modes: &[Mode::Exec],
            syntax: "test aaa group <name:word> <who:word> <password:secret>",
            help: "Ask the servers of a group whether they let somebody in",
            words: WORDS,
            no: None,
            run: test,
        },
    ]
}

/// Reads a list of methods; the groups are there.
fn methods(aaa: &Aaa, args: &Args) -> Result<Methods, String> {
    let Some(list) = args.text("list") else { return Ok(Methods { groups: Vec::new(), local: true }) };
    let mut methods = Methods::default();
    let mut words = list.split_whitespace().peekable();
    while let Some(word) = words.next() {
        match word {
            "local" if words.peek().is_none() && !methods.groups.is_empty() => methods.local = true,
            "none" => return Err("'none' would let everybody in".to_owned()),
            name if aaa.protocol_of(name).is_none() => return Err(format!("Group '{name}' does not exist")),
            name if methods.groups.iter().any(|other| other == name) => {
                return Err(format!("Group '{name}' stands there twice"));
            }
            name => methods.groups.push(name.to_owned()),
        }
    }
    match methods.groups.len() {
        0..=METHODS_MAX => Ok(methods),
        _ => Err(format!("There are more than {METHODS_MAX} groups")),
    }
}

fn set(session: &mut Session, args: &Args, put: fn(&mut Aaa, Option<Methods>)) -> Result<Output, Error> {
    let args = args.clone();
    let is_login = args.has("authentication");
    session.edit(Box::new(move |model| {
        let methods = if args.negated { None } else { Some(methods(&model.aaa, &args)?) };
        let is_other = |group: &&String| model.aaa.protocol_of(group) != Some(Protocol::Tacacs);
        if let Some(group) = methods.iter().flat_map(|list| &list.groups).find(is_other).filter(|_| !is_login) {
            return Err(format!("Group '{group}' has no TACACS+ servers"));
        }
        put(&mut model.aaa, methods);
        Ok(Vec::new())
    }))
}

/// What is on unless it is said to be off.
fn switch(session: &mut Session, args: &Args, put: fn(&mut Aaa, bool)) -> Result<Output, Error> {
    let is_off = args.negated && args.words.first() != Some(&"default");
    session.edit(Box::new(move |model| {
        put(&mut model.aaa, is_off);
        Ok(Vec::new())
    }))
}

fn test(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let group = text(args, "name")?;
    if session.handle.model().aaa.protocol_of(&group).is_none() {
        return Err(Error::Refused(format!("Group '{group}' does not exist")));
    }
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (user, password) = (text(args, "who")?, text(args, "password")?);
    match login::remote(&session.handle, &[group], &user, &password, from) {
        Verdict::Granted(roles) => {
            Ok(Output::text(format!("user has been authenticated\nroles: {}\n", roles.join(" "))))
        }
        Verdict::Refused => Ok(Output::text("user has failed authentication\n")),
        Verdict::Silent => Err(Error::Refused("No server of the group has answered".to_owned())),
    }
}
