//! `show tech-support` and `tac-pac`: everything that whoever helps would ask for, in one text or one archive.
//!
//! What is collected follows from the command tree: every `show` command that needs no argument, and of each connected
//! module what it says of itself. So a new command is in it without being named here. Commands run one after the other in
//! a session of their own, with the role of whoever asks.
//!
//! Secrets are masked in everything, whoever asks: the text leaves the house. Beside what hides the secrets of a
//! configuration, anything that looks like one is masked by its form; rather too much than too little.
//!
//! Limits: [`TEXT_MAX`] octets of one command, [`WHOLE_MAX`] in all; what is cut says so.

use std::sync::LazyLock;
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;
use regex::Regex;

use super::exec;
use crate::cli::cmd::source::{file_name, refused};
use crate::cli::graph::Tree;
use crate::cli::render::{Output, leaves, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::user::without_secrets;

/// Most octets of what one command prints.
pub const TEXT_MAX: usize = 4 << 20;
/// Most octets of all of it.
pub const WHOLE_MAX: usize = 64 << 20;

const WORDS: &[(&str, &str)] = &[
    ("tech-support", "Everything that whoever helps would ask for"),
    ("tac-pac", "Write tech-support to a file of bootflash:"),
    ("to", "File, such as bootflash:NAME; tech-support.tar.gz unless said"),
];

/// What a module is asked for.
const MODULE: &[&str] = &["card", "port", "drops", "workers", "limits", "netflow stats"];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show tech-support", "Display everything that whoever helps would ask for", WORDS, show),
        Command {
            modes: &[Mode::Exec],
            syntax: "tac-pac [<to:word80>]",
            help: "Write tech-support to an archive in bootflash:",
            words: WORDS,
            no: None,
            run: pack,
        },
    ]
}

/// The `show` commands that need no argument, and those of the connected modules.
fn lines(session: &Session) -> Vec<String> {
    let bare = |command: &Command| {
        let syntax = command.syntax.split('[').next().unwrap_or_default().trim();
        let needs_more = syntax.contains(['<', '{', '(']) || !syntax.starts_with("show ");
        (!needs_more && command.modes == [Mode::Exec] && syntax != "show tech-support").then(|| syntax.to_owned())
    };
    let mut lines: Vec<String> = Tree::shared().commands.iter().filter_map(bare).collect();
    lines.push("show logging logfile".to_owned());
    lines.sort();
    lines.dedup();
    for (slot, module) in &session.handle.inventory().modules {
        if module.address.is_some() {
            lines.extend(MODULE.iter().map(|what| format!("module {slot} execute vemcmd show {what}")));
        }
    }
    lines
}

/// What each command prints, without secrets.
fn collect(session: &Session) -> Vec<(String, String)> {
    let mut inner = session.sibling();
    let mut whole = 0;
    let mut all = Vec::new();
    for line in lines(session) {
        let mut text = mask(&inner.run_line(&line));
        if inner.has_failed() {
            // A line that begins as an error does would be taken for one of the whole.
            let why: Vec<&str> = text.lines().map(|line| line.trim_start_matches(['%', '^', ' '])).collect();
            text = format!("(not shown: {})\n", why.join(" ").trim().trim_start_matches("ERROR: "));
        }
        let most = TEXT_MAX.min(WHOLE_MAX - whole);
        if text.len() > most {
            let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push_str("\n(cut)\n");
        }
        whole = (whole + text.len()).min(WHOLE_MAX);
        all.push((line, text));
    }
    all
}

fn show(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let all = collect(session);
    let text = all.iter().map(|(line, text)| format!("---- {line} ----\n\n{text}\n")).collect::<String>();
    let row = |(line, text): (String, String)| leaves([("command", line), ("output", text)]);
    Ok(Output::with_json(text, table("techsupport", all.into_iter().map(row).collect())))
}

fn pack(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = file_name(args.text("to").unwrap_or("tech-support.tar.gz"))?;
    let now = SystemTime::now();
    let octets = archive(&collect(session), now).map_err(|e| Error::Refused(e.to_string()))?;
    session.handle.lifecycle().files.write_octets(&name, &octets, now).map_err(refused)?;
    let length = octets.len().to_string();
    let json = leaves([("file", name.as_str()), ("size", length.as_str())]);
    Ok(Output::with_json(format!("bootflash:{name}: {length} bytes\n"), json))
}

/// A gzipped tar: a file for each command.
fn archive(all: &[(String, String)], now: SystemTime) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let at = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    for (line, text) in all {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(at);
        let name: String = line.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        tar.append_data(&mut header, format!("tech-support/{name}.txt"), text.as_bytes())?;
    }
    tar.into_inner()?.finish()
}

const MASKED: &str = "********";

static FORMS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        // Keys in PEM and OpenSSH's form, also when they are cut off.
        (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", MASKED),
        // Hashes of passwords.
        (r"\$(argon2[a-z]*|[0-9a-z]{1,2}|scrypt|yescrypt|pbkdf2[a-z0-9-]*)\$[^\s,;]+", MASKED),
        // What stands behind a word that announces a secret, and behind the digit of its form.
        (
            r#"(?i)\b(password|passwd|secret|shared-secret|key|community|token|auth|priv)((?:\s*[:=]\s*|\s+)(?:[0-9]\s+)?)("[^"\n]*"|[^\s"!,][^\s,]*)"#,
            "${1}${2}********",
        ),
    ]
    .into_iter()
    .filter_map(|(form, with)| Regex::new(form).ok().map(|form| (form, with)))
    .collect()
});

/// A text without secrets.
fn mask(text: &str) -> String {
    let text = without_secrets(text);
    FORMS.iter().fold(text, |text, (form, with)| form.replace_all(&text, *with).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::config::model::{Model, User};
    use crate::supervisor::Handle;

    const HASH: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY";

    fn planted() -> Session {
        let mut model = Model::default();
        model.users.insert("alice".into(), User { secret: Some(HASH.into()), ..User::default() });
        let session = Session::new(Handle::detached(model));
        let log = session.handle.log();
        log.write("AAA", 4, "PLANTED", "radius-server host 10.0.0.9 key 7 Planted-Secret-1 timeout 5");
        log.write("AAA", 4, "PLANTED", "password: Planted-Secret-2");
        log.write("AAA", 4, "PLANTED", "community Planted-Secret-3, token=Planted-Secret-4");
        log.write("AAA", 4, "PLANTED", "-----BEGIN OPENSSH PRIVATE KEY----- Planted-Secret-5");
        session
    }

    #[test]
    fn nothing_that_was_planted_leaks() {
        let mut session = planted();
        for text in [session.run_line("show tech-support"), session.run_line("show tech-support | json")] {
            for secret in ["Planted-Secret", "c29tZXNhbHQ", "YWJjZGVmZ2h"] {
                assert!(!text.contains(secret), "{secret} leaks");
            }
            assert!(!text.lines().any(|line| line.starts_with("ERROR") || line.starts_with("% ")), "{text}");
            assert!(text.contains("PLANTED") && text.contains("username alice password 5 ********"), "{text}");
        }
    }

    #[test]
    fn the_archive_holds_a_file_for_each_command() {
        let mut session = planted();
        let printed = session.run_line("tac-pac bootflash:help.tar.gz");
        assert!(printed.starts_with("bootflash:help.tar.gz: "), "{printed}");
        let octets = session.handle.lifecycle().files.read_octets("help.tar.gz").unwrap().unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(octets.as_slice()));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            names.push(entry.path().unwrap().display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert!(!text.contains("Planted-Secret") && !text.contains("$argon2"), "{}", names[names.len() - 1]);
        }
        for wanted in ["show_version", "show_running-config", "show_logging_logfile", "show_drops", "show_module"] {
            assert!(names.contains(&format!("tech-support/{wanted}.txt")), "{wanted} is missing in {names:?}");
        }
        assert!(session.run_line("tac-pac bootflash:../x").starts_with("ERROR: "));
    }

    #[test]
    fn public_things_stay() {
        let text = "switchport access vlan 10\nhostname keyhole\n10 permit tcp any any eq 443\n";
        assert_eq!(mask(text), text);
    }
}
