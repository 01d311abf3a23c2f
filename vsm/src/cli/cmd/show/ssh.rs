//! `show ssh server`, `show ssh key`

use super::exec;
use crate::cli::render::{Output, leaves, table};
use crate::cli::tree::Command;
use crate::supervisor::SshFacts;

const WORDS: &[(&str, &str)] =
    &[("ssh", "SSH server"), ("server", "Whether and where it listens"), ("key", "Keys by which clients know it")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show ssh server", "Display whether there is an SSH server, and where", WORDS, |session, _| {
            Ok(server(session.handle.ssh().as_deref()))
        }),
        exec("show ssh key", "Display the host keys of the SSH server", WORDS, |session, _| {
            Ok(keys(session.handle.ssh().as_deref()))
        }),
    ]
}

/// The server is configured at start, in `vsm.toml`.
pub fn server(facts: Option<&SshFacts>) -> Output {
    let Some(facts) = facts else {
        return Output::with_json("ssh is not enabled\n", leaves([("version", "ssh is not enabled")]));
    };
    let listen = facts.listen.to_string();
    let text = format!("ssh version 2 is enabled\nlistening on {listen}\n");
    Output::with_json(text, leaves([("version", "ssh version 2 is enabled".to_owned()), ("address", listen)]))
}

/// The public halves, and what a client shows when it meets the switch for the first time.
pub fn keys(facts: Option<&SshFacts>) -> Output {
    let rule = format!("{}\n", "*".repeat(38));
    let mut text = String::new();
    let mut rows = Vec::new();
    for key in facts.map(|facts| facts.keys.as_slice()).unwrap_or_default() {
        let (kind, line, fingerprint) = (&key.kind, &key.line, &key.fingerprint);
        text.push_str(&format!("{rule}{kind} Key\n{line}\nfingerprint:\n{fingerprint}\n"));
        let cells = [("type", kind.clone()), ("pubkey", line.clone()), ("fingerprint", fingerprint.clone())];
        rows.push(leaves(cells));
    }
    text.push_str(if rows.is_empty() { "no ssh keys present\n" } else { &rule });
    Output::with_json(text, table("key", rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::supervisor::SshKey;

    #[test]
    fn rendered() {
        let key = SshKey {
            kind: "ed25519".to_owned(),
            line: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMeWNq29LBE1ZJ4fEW+qyLxuKy69xaUbxTTEMtlC7aF4".to_owned(),
            fingerprint: "SHA256:IZZxbHPEBBNdmAwIfVr7aLhTs5oBuK3FwyR+DZjkJnM".to_owned(),
        };
        let facts = SshFacts { listen: ([192, 0, 2, 1], 22).into(), keys: vec![key] };
        sample::check("ssh_server", &server(Some(&facts)));
        sample::check("ssh_key", &keys(Some(&facts)));
        assert_eq!(server(None).text, "ssh is not enabled\n");
        assert_eq!(keys(None).text, "no ssh keys present\n");
    }
}
