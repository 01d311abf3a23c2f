//! Golden transcripts of the configuration commands: `cli/configuration/*.txt`, prompt and all.
//!
//! Each file is one session on a switch out of the box, without modules. Every line that begins with the prompt is
//! typed, and the whole transcript must come out as it is written; only the time of a configuration is masked.
//! `BLESS=1` rewrites the files; read the difference before it is committed.

use std::fmt::Write;
use std::path::Path;

use vsm::cli::session::Session;
use vsm::config::model::Model;
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

#[test]
fn transcripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/configuration");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "the transcripts are gone");
    for file in files {
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
