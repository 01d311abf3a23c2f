//! `show user-account`

use std::collections::BTreeMap;

use super::exec;
use crate::cli::render::{Output, leaves, merged, table};
use crate::cli::tree::{Command, Error};
use crate::config::user::User;

const WORDS: &[(&str, &str)] = &[("user-account", "Local users"), ("user", "Name of the user")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show user-account [<user:word>]", "Display local users and their roles", WORDS, |session, args| {
        let mut users = session.handle.model().users.clone();
        if let Some(name) = args.text("user") {
            users.retain(|other, _| other == name);
            if users.is_empty() {
                return Err(Error::Refused(format!("User '{name}' does not exist")));
            }
        }
        Ok(accounts(&users))
    })]
}

/// The users; passwords are neither shown nor known.
pub fn accounts(users: &BTreeMap<String, User>) -> Output {
    let mut text = String::new();
    let mut rows = Vec::new();
    for (name, user) in users {
        let role = user.roles.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        text.push_str(&format!("user:{name}\n        this user account has no expiry date\n        roles:{role} \n"));
        if user.secret.is_none() {
            text.push_str("no password set. Local login not allowed\n");
        }
        let key = user.key.as_deref().unwrap_or_default();
        if !key.is_empty() {
            text.push_str(&format!("        ssh public key: {key}\n"));
        }
        let roles = user.roles.iter().map(|role| leaves([("role", role)])).collect();
        let own = leaves([("usr_name", name.as_str()), ("expire_date", "none"), ("sshkey_info", key)]);
        rows.push(merged([own, table("role", roles)]));
    }
    Output::with_json(text, table("template", rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::role::NETWORK_ADMIN;

    #[test]
    fn rendered() {
        let admin = User::of(NETWORK_ADMIN, Some("$argon2id$x".into()));
        let ops = User { key: Some("ssh-ed25519 AAAAC3Nz ops".into()), ..User::default() };
        let users = [("admin".to_owned(), admin), ("ops".to_owned(), ops)].into_iter().collect();
        let output = accounts(&users);
        assert!(!output.text.contains("argon2"));
        sample::check("user-account", &output);
    }
}
