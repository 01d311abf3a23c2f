//! Who may log in: names, roles, hashed passwords, public keys. Pure.

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

/// What a user may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Everything.
    NetworkAdmin,
    /// Look, and change nothing.
    #[default]
    NetworkOperator,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 2] = [Role::NetworkAdmin, Role::NetworkOperator];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::NetworkAdmin => "network-admin",
            Role::NetworkOperator => "network-operator",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A local user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct User {
    /// What it may do.
    pub role: Role,
    /// Hash of the password; `None`: no password lets it in.
    pub secret: Option<String>,
    /// Public key that lets it in, as OpenSSH writes it.
    pub key: Option<String>,
}

/// The name is a user's: letters, digits, `.`, `-` and `_`, beginning with a letter or digit.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() <= NAME_MAX && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(fits)
}

/// The lines of the configuration that make the user.
pub fn lines(name: &str, user: &User) -> Vec<String> {
    let secret = user.secret.as_deref().unwrap_or(NO_SECRET);
    let mut lines = vec![format!("username {name} password 5 {secret} role {}", user.role.name())];
    lines.extend(user.key.iter().map(|key| format!("username {name} sshkey {key}")));
    lines
}

/// A configuration text without the hashes of passwords, for those who may read it and are not to try them out at home.
pub fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        // Marks of a difference or a number may stand in front.
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
        assert!(Role::ALL.into_iter().all(|role| Role::parse(role.name()) == Some(role)));
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let text = "hostname a\nusername x password 5 $argon2id$abc role network-admin\nusername y password 5 ! role r\n\
                    - username z password 5 $h role r\n  username z password 5 $h role r\ndescription username password 5 x\n";
        let want = "hostname a\nusername x password 5 ******** role network-admin\nusername y password 5 ! role r\n\
                    - username z password 5 ******** role r\n  username z password 5 ******** role r\ndescription username password 5 x\n";
        assert_eq!(without_secrets(text), want);
    }
}
