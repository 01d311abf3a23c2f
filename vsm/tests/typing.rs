//! Rules that hold for every command: what is behind its end is pointed at, and what the switch prints can be typed.

use std::path::Path;

use vsm::cli::complete;
use vsm::cli::graph::Tree;
use vsm::cli::parse::parse;
use vsm::cli::session::Session;
use vsm::cli::tree::{Error, Mode};
use vsm::config::model::Model;
use vsm::config::running::{Part, body};
use vsm::config::startup;
use vsm::supervisor::Handle;

const MODES: [Mode; 19] = [
    Mode::Exec,
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
    Mode::Monitor,
    Mode::ErspanSource,
    Mode::ErspanDestination,
    Mode::SvsDomain,
    Mode::VemSlot,
    Mode::Vem,
];

/// Every line of the transcripts, with the mode in which it was typed.
fn typed() -> Vec<(Mode, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut lines = Vec::new();
    for folder in [folder.clone(), folder.join("configuration")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            for line in text.lines() {
                let Some((prompt, typed)) = line.split_once("# ") else { continue };
                let suffix = prompt.strip_prefix("switch").or(prompt.strip_prefix("n1000v"));
                let mode = MODES.into_iter().find(|mode| Some(mode.suffix()) == suffix);
                lines.extend(mode.map(|mode| (mode, typed.trim_end().to_owned())));
            }
        }
    }
    assert!(lines.len() > 500, "the transcripts type too little");
    lines
}

#[test]
fn what_follows_a_complete_command_is_pointed_at() {
    let tree = Tree::shared();
    let mut tried = 0;
    for (mode, line) in typed() {
        let Ok(Some(parsed)) = parse(tree, mode, &line) else { continue };
        let takes_the_rest =
            if parsed.args.negated { parsed.command.no.unwrap_or_default() } else { parsed.command.syntax };
        if takes_the_rest.contains(":line>") {
            continue;
        }
        tried += 1;
        // A letter that no argument may hold.
        let column = line.chars().count() + 1;
        match parse(tree, mode, &format!("{line} é")) {
            Err(Error::At { column: at, what }) => {
                assert_eq!((at, what.as_str()), (column, "Invalid command"), "{line}")
            }
            other => panic!("'{line} é' in {mode:?}: {:?}", other.map(|p| p.map(|p| p.command.syntax))),
        }
    }
    assert!(tried > 400, "{tried}");
}

/// `?` behind every word of every good line offers what was typed next, so that nobody has to know it.
#[test]
fn help_offers_every_word_of_every_line() {
    let tree = Tree::shared();
    for (mode, line) in typed() {
        if !matches!(parse(tree, mode, &line), Ok(Some(_))) || line.starts_with('!') {
            continue;
        }
        for (at, _) in line.match_indices(' ').filter(|(at, _)| !line[..*at].ends_with(' ')) {
            if line[..at].ends_with([',', '-']) || line[..at].matches('"').count() % 2 == 1 {
                // Inside of a list, or of a text in quotes.
                continue;
            }
            let (found, complete) = complete::candidates(tree, mode, &line[..=at], &|_| true);
            assert!(!found.is_empty() || complete, "'{}?' in {mode:?}", &line[..=at]);
        }
        let (_, complete) = complete::candidates(tree, mode, &format!("{line} "), &|_| true);
        assert!(complete, "'{line} ?' in {mode:?} does not offer <CR>");
    }
}

fn example() -> (Session, Handle) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/switch.cfg");
    let model = startup::load(&std::fs::read_to_string(config).unwrap()).unwrap();
    let handle = Handle::detached(model);
    (Session::new(handle.clone()), handle)
}

#[test]
fn what_show_running_config_prints_can_be_pasted() {
    for command in ["show running-config", "show running-config all"] {
        let (mut from, model) = example();
        for line in ["configure terminal", "flow exporter five", "version 5", "source mgmt 0", "vem 3"] {
            from.run_line(line);
        }
        let text = from.run_line(command);
        assert!(text.starts_with("!Command: ") && text.contains("\n\n"), "{text}");
        let to = Handle::detached(Model::default());
        let mut session = Session::new(to.clone());
        session.run_line("configure terminal");
        for line in text.lines() {
            let printed = session.run_line(line);
            assert!(!session.has_failed(), "{line}: {printed}");
        }
        if command == "show running-config" {
            assert_eq!(*to.model(), *model.model());
        }
        // With the defaults spelled out, what is meant is the same.
        assert_eq!(body(&to.model(), &Part::All), body(&model.model(), &Part::All));
    }
}

/// Each `show` command prints the same as JSON, but for configuration texts.
#[test]
fn every_table_has_a_json_form() {
    let (mut session, _) = example();
    let mut tried = 0;
    for (mode, line) in typed() {
        let Ok(Some(parsed)) = parse(Tree::shared(), mode, &line) else { continue };
        if !parsed.command.syntax.starts_with("show ") || parsed.command.syntax.contains("-config") {
            continue;
        }
        let plain = session.run_line(&line);
        if session.has_failed() {
            continue;
        }
        tried += 1;
        let json = session.run_line(&format!("{line} | json"));
        assert!(!session.has_failed(), "{line}: {json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{line}: {e}: {json}"));
        assert!(only_strings(&value), "{line}: {json}");
        let pretty = session.run_line(&format!("{line} | json-pretty | no-more"));
        if parsed.command.syntax != "show clock" {
            assert_eq!(serde_json::from_str::<serde_json::Value>(&pretty).ok(), Some(value), "{line}");
        }
        let count = session.run_line(&format!("{line} | include . | count"));
        assert_eq!(count, format!("{}\n", plain.lines().filter(|line| !line.is_empty()).count()), "{line}");
    }
    assert!(tried > 60, "{tried}");
}

fn only_strings(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Object(members) => members.values().all(only_strings),
        serde_json::Value::Array(items) => items.iter().all(only_strings),
        other => other.is_string(),
    }
}
