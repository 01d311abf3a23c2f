//! Local users: who may log in, with which password or key, and what they may do.

use super::target::text;
use crate::aaa::secret;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::Model;
use crate::config::user::{KEY_MAX, NO_SECRET, Role, USERS_MAX, User, is_name};
use crate::mgmt;

const WORDS: &[(&str, &str)] = &[
    ("username", "Local user"),
    ("user", "Name of the user"),
    ("password", "Password of the user"),
    ("0", "The password follows in clear text"),
    ("5", "The hash of the password follows"),
    ("secret", "Password, 8 to 127 characters; or its hash, '!' for no password"),
    ("role", "What the user may do"),
    ("network-admin", "Everything"),
    ("network-operator", "Only look"),
    ("sshkey", "Public key that lets the user in"),
    ("key", "Public key as OpenSSH writes it, such as ssh-ed25519 AAAA..."),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "username <user:word> [password [<form=0|5>] <secret:secret>] \
                     [role <role=network-admin|network-operator>]",
            help: "Make a local user or change it; a new one is a network-operator",
            words: WORDS,
            no: Some("username <user:word>"),
            run: user,
        },
        Command {
            modes: &[Mode::Config],
            syntax: "username <user:word> sshkey <key:line>",
            help: "Public key that lets the user in",
            words: WORDS,
            no: Some("username <user:word> sshkey [<key:line>]"),
            run: key,
        },
    ]
}

/// What is typed of a user's password: nothing, that there is none, or a hash of it.
fn typed_secret(args: &Args, name: &str) -> Result<Option<Option<String>>, Error> {
    let Some(secret) = args.text("secret") else { return Ok(None) };
    let refused = |e: secret::Error| Error::Refused(e.to_string());
    match args.text("form") {
        Some("5") if secret == NO_SECRET => Ok(Some(None)),
        Some("5") => secret::check(secret).map(|()| Some(Some(secret.to_owned()))).map_err(refused),
        _ => secret::hash(name, secret).map(|hash| Some(Some(hash))).map_err(refused),
    }
}

fn user(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = text(args, "user")?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            let had_one = has_administrator(model);
            model.users.remove(&name).ok_or_else(|| format!("User '{name}' does not exist"))?;
            keeps_an_administrator(model, had_one)
        }));
    }
    if !is_name(&name) {
        let rule = "A user's name has up to 28 letters, digits, '.', '-' and '_', and begins with a letter or digit";
        return Err(Error::Refused(rule.to_owned()));
    }
    let secret = typed_secret(args, &name)?;
    let role = args.text("role").and_then(Role::parse);
    session.edit(Box::new(move |model| {
        let had_one = has_administrator(model);
        let count = model.users.len();
        if count >= USERS_MAX && !model.users.contains_key(&name) {
            return Err(format!("There are {USERS_MAX} users already"));
        }
        let user = model.users.entry(name).or_insert_with(User::default);
        user.role = role.unwrap_or(user.role);
        if let Some(secret) = secret {
            user.secret = secret;
        }
        keeps_an_administrator(model, had_one)
    }))
}

fn key(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = text(args, "user")?;
    let key = match args.negated {
        true => None,
        false => {
            let typed = text(args, "key")?;
            if typed.chars().count() > KEY_MAX {
                return Err(Error::Refused(format!("The key is longer than {KEY_MAX} characters")));
            }
            mgmt::ssh::key::check(&typed).map_err(|e| Error::Refused(e.to_string()))?;
            Some(typed)
        }
    };
    session.edit(Box::new(move |model| {
        let had_one = has_administrator(model);
        let user = model.users.get_mut(&name).ok_or_else(|| format!("User '{name}' does not exist"))?;
        user.key = key;
        keeps_an_administrator(model, had_one)
    }))
}

fn has_administrator(model: &Model) -> bool {
    model.users.values().any(|u| u.role == Role::NetworkAdmin && (u.secret.is_some() || u.key.is_some()))
}

/// Nobody takes away the last way to administer the switch from afar.
fn keeps_an_administrator(model: &Model, had_one: bool) -> Result<Vec<String>, String> {
    match had_one && !has_administrator(model) {
        true => Err("No network-admin could log in any more".to_owned()),
        false => Ok(Vec::new()),
    }
}
