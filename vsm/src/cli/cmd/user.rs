//! Local users: who may log in, with which password or key, and what they may do.

use std::collections::btree_map::Entry;

use super::role;
use super::target::{make_room, text};
use crate::aaa::secret;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::Model;
use crate::config::user::{KEY_MAX, NO_SECRET, USER_ROLES_MAX, USERS_MAX, User, is_name};
use crate::mgmt;

const WORDS: &[(&str, &str)] = &[
    ("username", "Local user"),
    ("user", "Name of the user"),
    ("password", "Password of the user"),
    ("0", "The password follows in clear text"),
    ("5", "The hash of the password follows"),
    ("secret", "Password, 8 to 127 characters; or its hash, '!' for no password"),
    ("role", "What the user may do, beside what he may already"),
    ("role_name", "network-admin, network-operator, server-admin, or a role of one's own"),
    ("sshkey", "Public key that lets the user in"),
    ("key", "Public key as OpenSSH writes it, such as ssh-ed25519 AAAA..."),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "username <user:word> [password [<form=0|5>] <secret:secret>] [role <role_name:word>]",
            help: "Make a local user or change it; a new one is a network-operator",
            words: WORDS,
            no: Some("username <user:word> [role <role_name:word>]"),
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
    let role = args.text("role_name").map(str::to_owned);
    if let Some(role) = role.clone().filter(|_| args.negated) {
        return session.edit(Box::new(move |model| take_role(model, &name, &role)));
    }
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
    session.edit(Box::new(move |model| {
        let had_one = has_administrator(model);
        let count = model.users.len();
        if count >= USERS_MAX && !model.users.contains_key(&name) {
            return Err(format!("There are {USERS_MAX} users already"));
        }
        role.iter().try_for_each(|role| role::exists(model, role))?;
        let user = match (model.users.entry(name), role) {
            (Entry::Vacant(place), Some(role)) => place.insert(User::of(&role, None)),
            (place, role) => {
                let user = place.or_default();
                user.roles.extend(role);
                user
            }
        };
        make_room(user.roles.len() <= USER_ROLES_MAX, USER_ROLES_MAX, USER_ROLES_MAX, "roles of the user")?;
        if let Some(secret) = secret {
            user.secret = secret;
        }
        keeps_an_administrator(model, had_one)
    }))
}

/// Takes a role away. A user without any would be let in for nothing: the last one leaves that of a user who was made
/// without one, so that tools may take before they give.
fn take_role(model: &mut Model, name: &str, role: &str) -> Result<Vec<String>, String> {
    let had_one = has_administrator(model);
    let user = model.users.get_mut(name).ok_or_else(|| format!("User '{name}' does not exist"))?;
    let default = User::default().roles;
    if user.roles == default && default.contains(role) {
        return Err(format!("'{role}' is the only role of '{name}'"));
    }
    if !user.roles.remove(role) {
        return Err(format!("User '{name}' has no role '{role}'"));
    }
    if user.roles.is_empty() {
        user.roles = default;
    }
    keeps_an_administrator(model, had_one)
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
    model.users.values().any(User::administers)
}

/// Nobody takes away the last way to administer the switch from afar.
fn keeps_an_administrator(model: &Model, had_one: bool) -> Result<Vec<String>, String> {
    match had_one && !has_administrator(model) {
        true => Err("No network-admin could log in any more".to_owned()),
        false => Ok(Vec::new()),
    }
}
