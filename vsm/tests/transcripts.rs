//! Golden transcripts of the command line at a terminal: `cli/*.txt`.
//!
//! Each file is one session on a switch that holds `cli/switch.cfg`, without modules. A line that begins with a prompt
//! is typed as a person types it, key by key, into the same terminal that `vsm cli` shows; `?` and `<Tab>` at its end are
//! those keys. What comes out must be the file. Lines that depend on the machine or the time are masked.
//! `BLESS=1` rewrites the files; read the difference before it is committed.

use std::collections::BTreeSet;
use std::path::Path;

use proto::msg::HostUuid;
use vsm::cli::graph::Tree;
use vsm::cli::parse::parse;
use vsm::cli::pipe;
use vsm::cli::session::Session;
use vsm::cli::terminal::Terminal;
use vsm::cli::tree::Mode;
use vsm::config::startup;
use vsm::module::registry::{Inventory, Module};
use vsm::supervisor::Handle;

const NAME: &str = "n1000v";
/// A file that begins so is of a switch that believes that module 3 is connected; it answers nothing.
const WITH_MODULE: &str = "## With module 3";

fn typed(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(NAME)?;
    let (mode, typed) = rest.split_once('#')?;
    let is_mode = |mode: &str| mode.starts_with("(config") || mode.starts_with("(vem-");
    let is_prompt = mode.is_empty() || (is_mode(mode) && mode.ends_with(')'));
    is_prompt.then_some(typed.strip_prefix(' ').unwrap_or(typed))
}

fn keys(line: &str) -> Vec<u8> {
    match (line.strip_suffix("<Tab>"), line.ends_with('?')) {
        (Some(line), _) => [line.as_bytes(), b"\t\x03"].concat(),
        // The line stays for the next key; the transcript starts the next one afresh.
        (None, true) => [line.as_bytes(), b"\x15"].concat(),
        (None, false) => [line.as_bytes(), b"\r"].concat(),
    }
}

fn mask(line: &str) -> String {
    let masks = [
        "!Time: ",
        "Kernel uptime is ",
        "Hash of the last: ",
        "  Processor Board ID ",
        "  bootflash: ",
        "  kickstart image file is: ",
        "  system image file is:    ",
    ];
    if let Some(mask) = masks.iter().find(|mask| line.starts_with(**mask)) {
        return format!("{mask}(masked)");
    }
    if line.contains(" UTC ") {
        return "(time)".to_owned();
    }
    if let Some(at) = line.find(":type=").filter(|_| typed(line).is_none()) {
        // What goes on from a hash, which is another every time, ends there.
        return format!("(time){}", line[at..].split("goes on from ").next().unwrap_or_default());
    }
    if typed(line).is_none() && has_time(line) {
        return format!("(time) {}", line.split_whitespace().last().unwrap_or_default());
    }
    if line.contains(" kB of memory.") { "  (masked) kB of memory.".to_owned() } else { line.trim_end().to_owned() }
}

/// `01:02:03` stands in it.
fn has_time(line: &str) -> bool {
    line.as_bytes()
        .windows(8)
        .any(|w| w.iter().enumerate().all(|(at, c)| if at % 3 == 2 { *c == b':' } else { c.is_ascii_digit() }))
}

/// One row as a teletype shows it: backspaces go left, a bell is silent.
fn row(text: &str) -> String {
    let mut row: Vec<char> = Vec::new();
    let mut at = 0;
    for c in text.chars() {
        match c {
            '\u{8}' => at = usize::saturating_sub(at, 1),
            '\u{7}' => {}
            c => {
                row.truncate(row.len().max(at));
                if at < row.len() {
                    row[at] = c
                } else {
                    row.push(c)
                }
                at += 1;
            }
        }
    }
    row.into_iter().collect()
}

fn with_module() -> Inventory {
    let module = Module {
        uuid: HostUuid([3; 16]),
        host: "host1".into(),
        software: "0.1.0".into(),
        address: Some(([127, 0, 0, 1], 1).into()),
        ports: Vec::new(),
        applied: Default::default(),
        intended: Default::default(),
        last_address: None,
        connected_at: None,
        counters: Default::default(),
    };
    let mut inventory = Inventory::default();
    inventory.modules.insert(3, module);
    inventory
}

fn replay(transcript: &str, config: &str) -> String {
    let model = startup::load(config).unwrap_or_else(|errors| panic!("switch.cfg: {errors:?}"));
    let mut out = Vec::new();
    let inventory = if transcript.starts_with(WITH_MODULE) { with_module() } else { Inventory::default() };
    let mut terminal = Terminal::new(Session::new(Handle::shadow(model, inventory)), &mut out);
    let mut text: String = transcript
        .lines()
        .take_while(|line| line.starts_with("## "))
        .fold(String::new(), |text, line| text + line + "\n");
    for line in transcript.lines().filter_map(typed) {
        text.push_str(&String::from_utf8(std::mem::take(&mut out)).unwrap());
        terminal.receive(&keys(line), &mut out);
        if let Some(partial) = line.strip_suffix("<Tab>") {
            // What Tab made of the line stands below it.
            let shown = String::from_utf8(std::mem::take(&mut out)).unwrap();
            let (completed, prompt) = shown.split_once("^C\r\n").unwrap();
            // The words that it could not choose among are listed, and the line is written anew.
            let listed = completed.split_once("\r\n").and_then(|(_, rest)| rest.rsplit_once("\r\n"));
            let (words, line) = listed.map_or((String::new(), row(completed)), |(words, line)| {
                (format!("{words}\n"), typed(&row(line)).unwrap_or_default().to_owned())
            });
            text.push_str(&format!("{partial}<Tab>\n{words}  becomes: {line}\n{prompt}"));
        }
    }
    text.push_str(&String::from_utf8(out).unwrap());
    // The prompt that nothing was typed behind.
    text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
    let shown: Vec<String> = text.replace("\r\n", "\n").lines().map(|line| mask(&row(line))).collect();
    shown.join("\n") + "\n"
}

#[test]
fn transcripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let config = std::fs::read_to_string(folder.join("switch.cfg")).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    files.sort();
    assert!(files.len() >= 5, "the transcripts are gone");
    for file in files {
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.lines().any(|line| typed(line).is_some()), "{} types nothing", file.display());
        let replayed = replay(&written, &config);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &replayed).unwrap();
        } else {
            let difference = similar::TextDiff::from_lines(&written, &replayed).unified_diff().to_string();
            assert!(written == replayed, "{}, as written and as it is now:\n{difference}", file.display());
        }
    }
}

/// Every command of the switch is typed in one of the transcripts, here or under `cli/configuration`.
#[test]
fn every_command_is_typed_somewhere() {
    let tree = Tree::shared();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut hit = BTreeSet::new();
    for folder in [folder.clone(), folder.join("configuration")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "txt") {
                continue;
            }
            for line in std::fs::read_to_string(path).unwrap().lines() {
                hit.extend(command_of(tree, line));
            }
        }
    }
    let all: BTreeSet<&str> = tree.commands.iter().map(|command| command.syntax).collect();
    let missed: Vec<_> = all.difference(&hit).collect();
    assert!(missed.is_empty(), "no transcript types {missed:#?}");
}

fn command_of(tree: &'static Tree, line: &str) -> Option<&'static str> {
    const MODES: &[Mode] = &[
        Mode::Exec,
        Mode::Role,
        Mode::RoleInterface,
        Mode::RoleVlan,
        Mode::RadiusGroup,
        Mode::TacacsGroup,
        Mode::Config,
        Mode::ConfigSession,
        Mode::Vlan,
        Mode::PortProfile,
        Mode::Interface,
        Mode::InterfaceRange,
        Mode::IpAcl,
        Mode::MacAcl,
        Mode::FlowRecord,
        Mode::FlowExporter,
        Mode::FlowExporterVersion,
        Mode::FlowMonitor,
        Mode::FlowSampler,
        Mode::Monitor,
        Mode::ErspanSource,
        Mode::ErspanDestination,
        Mode::SvsDomain,
        Mode::VemSlot,
        Mode::LineConsole,
        Mode::LineVty,
        Mode::Vem,
    ];
    let (prompt, typed) = line.split_once('#')?;
    let mode = MODES.iter().copied().find(|mode| match mode.suffix() {
        "" => !prompt.contains(['(', ' ']),
        "(vem)" => prompt.contains("(vem-"),
        suffix => prompt.ends_with(suffix),
    })?;
    let whole = parse(tree, mode, typed).ok().flatten();
    let before = || parse(tree, mode, pipe::split(typed)?.0).ok().flatten();
    whole.or_else(before).map(|parsed| parsed.command.syntax)
}
