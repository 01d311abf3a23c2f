//! Who may log in: names, roles, hashed passwords, public keys. Pure.

use std::collections::BTreeSet;

use super::role::{NETWORK_ADMIN, NETWORK_OPERATOR};

/// Most local users.
pub const USERS_MAX: usize = 64;
/// Most characters of a name.
pub const NAME_MAX: usize = 28;
/// Most characters of a public key with its comment.
pub const KEY_MAX: usize = 2048;
/// The user that is made when nobody could administer the switch.
pub const ADMIN: &str = "admin";
/// What stands for a password that nobody has set.
pub const NO_SECRET: &str = "!";

/// Most roles of a user.
pub const USER_ROLES_MAX: usize = 64;

/// A local user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// What it may do: all that one of these permits. Never empty.
    pub roles: BTreeSet<String>,
    /// Hash of the password; `None`: no password lets it in.
    pub secret: Option<String>,
    /// Public key that lets it in, as OpenSSH writes it.
    pub key: Option<String>,
}

/// A new user looks.
impl Default for User {
    fn default() -> Self {
        User::of(NETWORK_OPERATOR, None)
    }
}

impl User {
    /// A user with one role and, when the hash of one is given, a password.
    pub fn of(role: &str, secret: Option<String>) -> Self {
        User { roles: [role.to_owned()].into(), secret, key: None }
    }

    /// The user may do everything.
    pub fn is_admin(&self) -> bool {
        self.roles.contains(NETWORK_ADMIN)
    }

    /// The user may do everything, and is let in.
    pub fn administers(&self) -> bool {
        self.is_admin() && (self.secret.is_some() || self.key.is_some())
    }
}

/// The name is a user's: letters, digits, `.`, `-` and `_`, beginning with a letter or digit.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() <= NAME_MAX && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits)
}

/// The lines of the configuration that make the user.
pub fn lines(name: &str, user: &User) -> Vec<String> {
    let secret = user.secret.as_deref().unwrap_or(NO_SECRET);
    let mut roles = user.roles.iter();
    let first = roles.next().map_or(NETWORK_OPERATOR, String::as_str);
    let mut lines = vec![format!("username {name} password 5 {secret} role {first}")];
    lines.extend(roles.map(|role| format!("username {name} role {role}")));
    lines.extend(user.key.iter().map(|key| format!("username {name} sshkey {key}")));
    lines
}

/// The key in a line about a server, at its place or behind marks of a difference.
fn server_key(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| !matches!(*word, "radius-server" | "tacacs-server"));
    words.find(|word| *word == "key")?;
    match words.next()? {
        "0" | "7" => words.next(),
        key => Some(key),
    }
}

/// A configuration text without keys and hashes of passwords, for those who may read it and are not to try them out at home.
pub fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // Marks of a difference or a number may stand in front.
        if let Some(key) = server_key(line) {
            out.push_str(&line.replace(key, "********"));
            continue;
        }
        let mut words = line.split_whitespace().skip_while(|word| *word != "username").skip(2);
        let secret = match (words.next(), words.next(), words.next()) {
            (Some("password"), Some("0" | "5"), Some(secret)) | (Some("password"), Some(secret), _) => Some(secret),
            _ => None,
        };
        match secret {
            Some(secret) if secret != NO_SECRET => out.push_str(&line.replacen(secret, "********", 1)),
            _ => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_roles() {
        for good in ["admin", "a", "0x", "first.last", "a_b-c"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".a", "a b", "é", "a/b", "a-name-that-is-longer-than-28c"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let text = "hostname a\nusername x password 5 $argon2id$abc role network-admin\nusername y password 5 ! role r\n\
                    - username z password 5 $h role r\n  username z password 5 $h role r\ndescription username password 5 x\n";
        let want = "hostname a\nusername x password 5 ******** role network-admin\nusername y password 5 ! role r\n\
                    - username z password 5 ******** role r\n  username z password 5 ******** role r\ndescription username password 5 x\n";
        assert_eq!(without_secrets(text), want);
        let text = "radius-server key 7 0211\n+ tacacs-server host 192.0.2.1 key abc port 7\nkey 7 0211\n";
        let want = "radius-server key 7 ********\n+ tacacs-server host 192.0.2.1 key ******** port 7\nkey 7 0211\n";
        assert_eq!(without_secrets(text), want);
    }
}
