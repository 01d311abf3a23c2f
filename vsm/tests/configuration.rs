//! Golden transcripts of the configuration commands: `cli/configuration/*.txt`, prompt and all.
//!
//! Each file is one session on a switch out of the box, without modules. Every line that begins with the prompt is
//! typed, and the whole transcript must come out as it is written; only the time of a configuration is masked.
//! `BLESS=1` rewrites the files; read the difference before it is committed.
//!
//! The same lines in any order are a second test: what is refused changes nothing, and whatever configuration comes of
//! it, its text reads back.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use vsm::cli::session::Session;
use vsm::config::model::Model;
use vsm::config::running::{Part, body};
use vsm::config::startup;
use vsm::supervisor::Handle;

fn replay(transcript: &str) -> String {
    let mut session = Session::new(Handle::detached(Model::default()));
    let mut out = String::new();
    for line in transcript.lines() {
        let Some((_, typed)) = line.split_once("# ").filter(|(prompt, _)| prompt.starts_with("switch")) else {
            // A line that is neither typed nor printed: the comment on top.
            if out.is_empty() || (line.starts_with("## ") && out.ends_with('\n')) {
                writeln!(out, "{line}").unwrap();
            }
            continue;
        };
        let prompt = session.prompt();
        let printed = session.run_line_behind(typed, prompt.len());
        writeln!(out, "{prompt}{typed}").unwrap();
        for line in printed.lines() {
            let masked = if line.starts_with("!Time: ") { "!Time: (time)" } else { line };
            writeln!(out, "{masked}").unwrap();
        }
    }
    out
}

fn transcripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/configuration");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the transcripts are gone");
    files
}

#[test]
fn transcripts_come_out_as_written() {
    for file in transcripts() {
        let written = std::fs::read_to_string(&file).unwrap();
        let replayed = replay(&written);
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &replayed).unwrap();
        } else {
            assert!(written.contains("# "), "{} types nothing", file.display());
            assert_eq!(written, replayed, "{}", file.display());
        }
    }
}

/// Every line that the transcripts type, in their order.
fn corpus() -> Vec<String> {
    let texts = transcripts().into_iter().map(|file| std::fs::read_to_string(file).unwrap());
    let typed = |line: &str| {
        line.split_once("# ").filter(|(prompt, _)| prompt.starts_with("switch")).map(|(_, t)| t.to_owned())
    };
    let lines: Vec<String> = texts.flat_map(|text| text.lines().filter_map(typed).collect::<Vec<_>>()).collect();
    assert!(lines.len() > 300, "the transcripts type too little");
    lines
}

/// Some lines in a row, as they are or behind `no` or `default`.
fn stretch() -> impl Strategy<Value = (Index, usize, &'static str)> {
    (any::<Index>(), 1usize..8, prop_oneof![5 => Just(""), 1 => Just("no "), 1 => Just("default ")])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_in_any_order(stretches in proptest::collection::vec(stretch(), 1..40)) {
        let corpus = corpus();
        let handle = Handle::detached(Model::default());
        let mut session = Session::new(handle.clone());
        session.run_line("configure terminal");
        for (start, length, before) in stretches {
            for line in corpus.iter().skip(start.index(corpus.len())).take(length) {
                let model = handle.model();
                let printed = session.run_line(&format!("{before}{line}"));
                if session.has_failed() {
                    prop_assert_eq!(&model, &handle.model(), "{}", line);
                    prop_assert!(printed.contains("ERROR: ") || printed.contains("% "), "{}: {}", line, printed);
                }
            }
        }
        let model = handle.model();
        let text = body(&model, &Part::Whole);
        let loaded = startup::load(&text);
        prop_assert_eq!(loaded.as_ref(), Ok(&*model), "{}", text);
    }
}
