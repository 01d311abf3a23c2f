//! The manual, `docs/cli/`, is what the commands declare and what the golden transcripts show: it is made here, and fails
//! when it is stale. `BLESS=1` writes it anew.
//!
//! A page per feature, which is a file of `cli/cmd`: its commands by mode, its arguments, and examples, cut out of the
//! transcripts that `transcripts.rs` holds the switch to. What the other documents type is tried here too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use vsm::cli::cmd;
use vsm::cli::complete;
use vsm::cli::graph::Tree;
use vsm::cli::parse::{Parsed, parse};
use vsm::cli::pipe;
use vsm::cli::tree::{Command, Mode};

const TOP: &str = "\
# Commands

Made from the command tree and the golden transcripts by `BLESS=1 cargo test -p vsm --test manual`; don't edit.

Words in small letters are typed as they stand, or shortened as far as they stay unique. `[ ]` may be left out, of
`{ | }` one is chosen, `[ ]*` may be repeated in any order. Capitals and `<LOW-HIGH>` are arguments; `?` explains them.
An EXEC command works in every mode, a configuration command in every sub-mode too. Behind any `show` command, `|` and
`include`, `exclude`, `begin`, `section`, `count`, `head`, `last`, `grep`, `egrep`, `no-more`, `diff`, `json` or `json-pretty`
filter what it prints, also several in a chain; `diff` shows what has changed since the same line was typed before in the
session. `> bootflash:NAME` behind all of it writes a file, `>> bootflash:NAME` goes on in one.

| page | commands |
|---|---|
";

const MADE: &str =
    "Made by `BLESS=1 cargo test -p vsm --test manual`; don't edit. How to read it: [Commands](README.md).\n";

/// Lines of the examples of a feature.
const EXAMPLE_MAX: usize = 90;

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

/// A typed line of a transcript, as it stands there, with what came of it.
struct Block {
    feature: &'static str,
    lines: Vec<String>,
}

/// What a line types: the mode of its prompt, and the words behind it.
fn typed(line: &str) -> Option<(Mode, &str)> {
    let (prompt, words) = line.split_once('#')?;
    let suffix = prompt.find('(').map_or("", |at| &prompt[at..]);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let mut modes = Tree::shared().commands.iter().flat_map(|command| command.modes);
    let mode = *modes.find(|mode| mode.suffix() == suffix)?;
    is_name(&prompt[..prompt.len() - suffix.len()]).then_some((mode, words.trim_start()))
}

/// The command of a line, its filters aside.
fn command_of(mode: Mode, words: &str) -> Option<Parsed<'static>> {
    let read = |words| parse(Tree::shared(), mode, words).ok().flatten();
    read(words).or_else(|| read(pipe::split(words)?.0))
}

/// The lines of the transcripts, each with its feature; those that are no command have none.
fn transcripts() -> Vec<Vec<Block>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut files: Vec<PathBuf> = [folder.join("configuration"), folder]
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    let blocks = |path: &PathBuf| {
        let mut blocks: Vec<Block> = Vec::new();
        for line in fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with("## ")) {
            match typed(line) {
                Some((mode, words)) => {
                    let feature = command_of(mode, words).map(|parsed| cmd::feature_of(parsed.command));
                    blocks.push(Block { feature: feature.unwrap_or_default(), lines: vec![line.to_owned()] });
                }
                None => {
                    if let Some(block) = blocks.last_mut() {
                        block.lines.push(line.to_owned());
                    }
                }
            }
        }
        blocks
    };
    files.iter().map(blocks).collect()
}

/// Runs of a feature's lines, with the moves between modes among them, as far as there is room.
fn examples(feature: &str, transcripts: &[Vec<Block>]) -> String {
    let mut text = String::new();
    let mut room = EXAMPLE_MAX;
    for blocks in transcripts {
        for run in blocks.split(|block| block.feature != feature && block.feature != "session") {
            let lines: Vec<&String> = run.iter().flat_map(|block| &block.lines).collect();
            if run.iter().any(|block| block.feature == feature) && lines.len() <= room {
                room -= lines.len();
                if !text.is_empty() {
                    text.push('\n');
                }
                lines.into_iter().for_each(|line| text.extend([line, "\n"]));
            }
        }
    }
    text
}

/// The arguments of commands that have an explanation, each once.
fn arguments(commands: &[&Command]) -> BTreeSet<(String, &'static str)> {
    let mut found = BTreeSet::new();
    for command in commands {
        for piece in command.syntax.split('<').skip(1) {
            let inside = piece.split('>').next().unwrap_or_default();
            let name = inside.split([':', '=']).next().unwrap_or_default();
            let shown = argument(inside);
            if let Some((_, help)) = command.words.iter().find(|(word, _)| *word == name) {
                found.insert((shown, *help));
            }
        }
    }
    found
}

fn page(feature: &str, transcripts: &[Vec<Block>]) -> String {
    let mut commands: Vec<&Command> =
        Tree::shared().commands.iter().filter(|command| cmd::feature_of(command) == feature).collect();
    commands.sort_by_key(|command| (command.modes, command.syntax.trim_start_matches(['<', '[', '{', ' '])));
    let mut out = format!("# {feature}\n\n{MADE}");
    let mut modes: &[Mode] = &[];
    for command in &commands {
        if command.modes != modes {
            modes = command.modes;
            write!(out, "\n## {}\n\n", heading(modes)).unwrap();
        }
        entry(&mut out, command);
    }
    let arguments = arguments(&commands);
    if !arguments.is_empty() {
        out.push_str("\n## Arguments\n\n| argument | is |\n|---|---|\n");
        for (shown, help) in arguments {
            writeln!(out, "| `{}` | {help} |", shown.replace('|', "\\|")).unwrap();
        }
    }
    let examples = examples(feature, transcripts);
    if !examples.is_empty() {
        write!(out, "\n## Examples\n\nFrom the transcripts of the tests.\n\n```text\n{examples}```\n").unwrap();
    }
    out
}

/// The pages, by the name of their file.
fn manual() -> BTreeMap<String, String> {
    let transcripts = transcripts();
    let mut index = TOP.to_owned();
    let mut pages = BTreeMap::new();
    for feature in cmd::features().into_keys() {
        let of_feature = Tree::shared().commands.iter().filter(|command| cmd::feature_of(command) == feature);
        let mut starts: Vec<String> = of_feature.flat_map(|command| starts(command.syntax)).collect();
        starts.sort();
        starts.dedup();
        writeln!(index, "| [{feature}]({feature}.md) | `{}` |", starts.join("`, `")).unwrap();
        pages.insert(format!("{feature}.md"), page(feature, &transcripts));
    }
    pages.insert("README.md".to_owned(), index);
    pages
}

/// What a command begins with, behind what may be left out: several, when there is a choice.
fn starts(syntax: &str) -> Vec<String> {
    let syntax = match syntax.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(_, rest)| rest).trim_start(),
        None => syntax,
    };
    let choice = match syntax.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((inside, _)) => inside.split_once('=').map(|(_, words)| words),
        None => syntax.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(words, _)| words),
    };
    match choice {
        Some(words) => words.split('|').map(|word| word.trim().to_owned()).collect(),
        None => vec![syntax.split(['[', '{', '<']).next().unwrap_or_default().trim().to_owned()],
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

#[test]
fn the_manual_is_what_the_commands_declare_and_the_transcripts_show() {
    let folder = docs().join("cli");
    let made = manual();
    let written = || fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    if std::env::var_os("BLESS").is_some() {
        written().for_each(|path| fs::remove_file(path).unwrap());
        fs::create_dir_all(&folder).unwrap();
        made.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        return;
    }
    let advice = "BLESS=1 cargo test -p vsm --test manual";
    for (name, text) in &made {
        let is_same = fs::read_to_string(folder.join(name)).is_ok_and(|written| written == *text);
        assert!(is_same, "docs/cli/{name} is stale: {advice}");
    }
    assert_eq!(written().count(), made.len(), "docs/cli has a page of a feature that is gone: {advice}");
}

/// The other documents.
fn documents() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = vec![docs().join("../README.md")];
    let folders = [docs(), docs().join("decisions")];
    files.extend(folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())));
    files.retain(|path| path.extension().is_some_and(|e| e == "md"));
    files
}

/// A document with the help that is given today behind each line that asks for it; and how many there are.
fn with_help(text: &str) -> (String, usize) {
    let (mut made, mut count, mut is_help) = (String::new(), 0, false);
    for line in text.lines() {
        is_help &= line.starts_with("  ");
        if !is_help {
            made.extend([line, "\n"]);
        }
        let asked = typed(line).and_then(|(mode, words)| Some((mode, words.strip_suffix('?')?)));
        let all = |_: &Command| true;
        if let Some(Ok(help)) = asked.map(|(mode, words)| complete::help(Tree::shared(), mode, words, &all)) {
            made.push_str(&help);
            (count, is_help) = (count + 1, true);
        }
    }
    (made, count)
}

#[test]
fn help_that_documents_show_is_what_is_shown() {
    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let (made, asked) = with_help(&text);
        count += asked;
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, made).unwrap();
        } else {
            assert_eq!(text, made, "{} is stale: BLESS=1 cargo test -p vsm --test manual", path.display());
        }
    }
    assert!(count > 10, "{count}");
}

/// Every command that another document types is one.
#[test]
fn what_the_documents_type_parses() {
    let mut count = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        let next = text.lines().skip(1).chain([""]);
        for (line, next) in text.lines().zip(next) {
            let Some((mode, words)) = typed(line.trim_start()).filter(|(_, words)| !words.is_empty()) else { continue };
            // Help is asked for, or Tab has listed words, or the mistake is shown; or the manual of a shell is quoted.
            let is_mistake = next.trim() == "^" || (next.starts_with("  ") && line.starts_with("switch"));
            if words.ends_with('?') || is_mistake || !line.trim_start().starts_with("switch") {
                continue;
            }
            assert!(command_of(mode, words).is_some(), "{}: '{line}'", path.display());
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_command_and_argument_is_explained() {
    for command in &Tree::shared().commands {
        assert!(!command.help.is_empty() && !command.help.contains('\n'), "{}", command.syntax);
        let shown = syntax(command.syntax);
        assert!(!shown.contains(['=', ':']) || shown.contains("A:B::C:D"), "{shown}");
    }
}
