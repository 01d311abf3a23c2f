//! The command reference, `docs/cli.md`, is what the commands declare: it is made here, and fails when it is stale.
//! `BLESS=1` writes it anew.

use std::fmt::Write;
use std::path::Path;

use vsm::cli::graph::Tree;
use vsm::cli::tree::{Command, Mode};

const TOP: &str = "\
# Commands

Made from the command tree by `BLESS=1 cargo test -p vsm --test manual`; don't edit.

Words in small letters are typed as they stand, or shortened as far as they stay unique. `[ ]` may be left out, of
`{ | }` one is chosen, `[ ]*` may be repeated in any order. Capitals and `<LOW-HIGH>` are arguments; `?` explains them.
An EXEC command works in every mode, a configuration command in every sub-mode too. Behind any `show` command, `|` and
`include`, `exclude`, `begin`, `section`, `count`, `head`, `last`, `grep`, `egrep`, `no-more`, `json` or `json-pretty`
filter what it prints, also several in a chain.
";

/// `<name:type>` and `<name=a|b>` as a manual writes them.
fn argument(text: &str) -> String {
    if let Some((name, choices)) = text.split_once('=') {
        let count = choices.split('|').count();
        return match count {
            1 => choices.to_owned(),
            2..=10 => format!("{{{}}}", choices.replace('|', " | ")),
            _ => name.to_uppercase(),
        };
    }
    let (name, kind) = text.split_once(':').unwrap_or((text, "word"));
    match kind.split_once(':').unwrap_or((kind, "")) {
        _ if name.ends_with("_wild") => "WILDCARD".to_owned(),
        ("num", range) => format!("<{range}>"),
        ("vlan", _) => "<1-4094>".to_owned(),
        ("vlans", _) => "VLANS".to_owned(),
        ("if", _) => "INTERFACE".to_owned(),
        ("ifs", _) => "INTERFACES".to_owned(),
        ("ip", _) => "A.B.C.D".to_owned(),
        ("ip6", _) => "A:B::C:D".to_owned(),
        ("prefix", _) => "A.B.C.D/LEN".to_owned(),
        ("mac", _) => "E.E.E".to_owned(),
        ("hex16", _) => "<0x0-0xffff>".to_owned(),
        ("port", _) => "PORT".to_owned(),
        _ => name.to_uppercase(),
    }
}

fn syntax(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split_inclusive('>') {
        match piece.split_once('<') {
            Some((before, inside)) => out.push_str(&format!("{before}{}", argument(inside.trim_end_matches('>')))),
            None => out.push_str(piece),
        }
    }
    out.replace("[ ", "[").replace(" ]", "]").replace("{ ", "{").replace(" }", "}")
}

fn heading(modes: &[Mode]) -> String {
    if modes == [Mode::Exec] {
        return "Everywhere".to_owned();
    }
    modes.iter().map(|mode| format!("`switch{}#`", mode.suffix())).collect::<Vec<_>>().join(", ")
}

fn entry(out: &mut String, command: &Command) {
    write!(out, "* `{}`: {}", syntax(command.syntax), command.help).unwrap();
    match command.no {
        Some(no) if no == command.syntax => writeln!(out, " (also with `no`)").unwrap(),
        Some(no) => writeln!(out, " (`no {}`)", syntax(no)).unwrap(),
        None => writeln!(out).unwrap(),
    }
}

fn manual() -> String {
    let commands = &Tree::shared().commands;
    let mut places: Vec<&[Mode]> = Vec::new();
    for command in commands {
        if !places.contains(&command.modes) {
            places.push(command.modes);
        }
    }
    places.sort();
    let mut out = TOP.to_owned();
    for modes in places {
        write!(out, "\n## {}\n\n", heading(modes)).unwrap();
        let mut here: Vec<&Command> = commands.iter().filter(|command| command.modes == modes).collect();
        here.sort_by_key(|command| command.syntax.trim_start_matches(['<', '[', '{', ' ']));
        here.into_iter().for_each(|command| entry(&mut out, command));
    }
    out
}

#[test]
fn the_reference_is_what_the_commands_declare() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let made = manual();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &made).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written, made, "docs/cli.md is stale: BLESS=1 cargo test -p vsm --test manual");
}

#[test]
fn every_command_and_argument_is_explained() {
    for command in &Tree::shared().commands {
        assert!(!command.help.is_empty() && !command.help.contains('\n'), "{}", command.syntax);
        let shown = syntax(command.syntax);
        assert!(!shown.contains(['=', ':']) || shown.contains("A:B::C:D"), "{shown}");
    }
}
