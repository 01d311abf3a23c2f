//! What stands behind a command: filters, and a file that the output goes to.
//!
//! `| diff` shows what differs from the output of the same line before. The session keeps the last outputs for it:
//! [`KEPT_MAX`] lines, each up to [`OUTPUT_MAX`] octets; they go with the session.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use similar::{Algorithm, DiffTag, TextDiff};

use super::cmd::source::{file_name, refused};
use super::pipe::{self, File, Filter};
use super::render::Output;
use super::scp::FILE_MAX;
use super::session::Session;
use super::tree::Error;
use crate::aaa::accounting::Event;
use crate::aaa::accounting::chain::Kind;

/// Lines whose output is kept.
const KEPT_MAX: usize = 16;
/// Most octets of an output that is kept.
const OUTPUT_MAX: usize = 1 << 20;
/// Time that a difference may take; then it is coarse.
const TIME: Duration = Duration::from_secs(2);

/// The last outputs of lines with `| diff`.
#[derive(Default)]
pub(super) struct Outputs {
    kept: VecDeque<(String, String)>,
}

impl Outputs {
    /// What differs from the output of the same line before; the first time it is the output itself.
    fn difference(&mut self, line: &str, text: String) -> Result<String, Error> {
        if text.len() > OUTPUT_MAX {
            return Err(Error::Refused(format!("An output of more than {OUTPUT_MAX} octets is not kept for 'diff'")));
        }
        let at = self.kept.iter().position(|(other, _)| other == line);
        let before = at.and_then(|at| self.kept.remove(at));
        let shown = before.map_or_else(|| text.clone(), |(_, before)| normal_diff(&before, &text));
        self.kept.push_back((line.to_owned(), text));
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
        Ok(shown)
    }
}

/// As `diff` prints it without options.
fn normal_diff(before: &str, after: &str) -> String {
    let diff = TextDiff::configure().algorithm(Algorithm::Myers).timeout(TIME).diff_lines(before, after);
    let range = |range: std::ops::Range<usize>| match range.len() {
        0 => range.start.to_string(),
        1 => range.end.to_string(),
        _ => format!("{},{}", range.start + 1, range.end),
    };
    let mut text = String::new();
    for op in diff.ops().iter().filter(|op| op.tag() != DiffTag::Equal) {
        let letter = match op.tag() {
            DiffTag::Delete => 'd',
            DiffTag::Insert => 'a',
            _ => 'c',
        };
        text.push_str(&format!("{}{letter}{}\n", range(op.old_range()), range(op.new_range())));
        let side = |mark: char, lines: Vec<&str>| -> String {
            lines.iter().map(|line| format!("{mark} {}\n", line.trim_end_matches('\n'))).collect()
        };
        text.push_str(&side('<', op.old_range().filter_map(|at| diff.old_slice(at)).collect()));
        if letter == 'c' {
            text.push_str("---\n");
        }
        text.push_str(&side('>', op.new_range().filter_map(|at| diff.new_slice(at)).collect()));
    }
    text
}

impl Session {
    /// What the filters leave of an output; `line` is what was typed.
    pub(super) fn filter(&mut self, output: Output, filters: &[Filter], line: &str) -> Result<Output, Error> {
        let (mut output, mut rest) = (output, filters);
        while let Some((at, column)) = rest.iter().enumerate().find_map(|(at, filter)| match filter {
            Filter::Diff { column } => Some((at, *column)),
            _ => None,
        }) {
            let text = pipe::apply(output, &rest[..at])?.text;
            let line: String = line.chars().take(column).collect();
            output = Output::text(self.outputs.difference(line.trim(), text)?);
            rest = &rest[at + 1..];
        }
        pipe::apply(output, rest)
    }

    /// The file may be written.
    pub(super) fn may_write(&self, file: File<'_>) -> Result<String, Error> {
        if file.name.is_empty() {
            return Err(Error::At { column: file.column, what: "Incomplete command".to_owned() });
        }
        if !self.is_admin() {
            return Err(Error::Denied);
        }
        file_name(file.name)
    }

    /// Writes an output into a file of `bootflash:`, or behind what is in it.
    pub(super) fn write_to(&self, name: &str, append: bool, text: &str, line: &str) -> Result<(), Error> {
        let files = &self.handle.lifecycle().files;
        let before = if append { files.read_octets(name).map_err(refused)?.unwrap_or_default() } else { Vec::new() };
        let octets = [before, text.as_bytes().to_vec()].concat();
        if octets.len() > FILE_MAX {
            return Err(Error::Refused(format!("A file has at most {FILE_MAX} octets")));
        }
        files.write_octets(name, &octets, SystemTime::now()).map_err(refused)?;
        let (id, text) = (self.seat(), line.trim());
        self.handle.account(&Event { kind: Kind::Update, id: &id, user: self.who(), outcome: "SUCCESS", text });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Model, User};
    use crate::supervisor::Handle;

    #[test]
    fn differences_are_those_of_diff() {
        assert_eq!(normal_diff("a\nb\nc\n", "a\nB\nc\nd\n"), "2c2\n< b\n---\n> B\n3a4\n> d\n");
        assert_eq!(normal_diff("a\nb\nc\n", "c\n"), "1,2d0\n< a\n< b\n");
        assert_eq!(normal_diff("a\n", "a\n"), "");
    }

    #[test]
    fn an_output_is_compared_with_the_one_before() {
        let mut session = Session::new(Handle::detached(Model::default()));
        assert_eq!(session.run_line("show hostname | diff"), "switch\n");
        assert_eq!(session.run_line("show hostname | diff"), "");
        session.run_line("configure terminal");
        session.run_line("hostname other");
        assert_eq!(session.run_line("show hostname | diff | count"), "4\n");
        assert_eq!(session.run_line("show hostname | count | diff"), "1\n", "another line");
        for n in 0..2 * KEPT_MAX {
            session.run_line(&format!("show hostname | include {n} | diff"));
        }
        assert_eq!(session.outputs.kept.len(), KEPT_MAX);
        assert_eq!(session.run_line("show hostname | diff"), "other\n", "forgotten");
    }

    #[test]
    fn output_goes_to_a_file() {
        let mut session = Session::new(Handle::detached(Model::default()));
        assert_eq!(session.run_line("show hostname > bootflash:a"), "");
        assert_eq!(session.run_line("show hostname | json >> a"), "");
        assert_eq!(session.run_line("show file a"), "switch\n{\"hostname\":\"switch\"}\n");
        for (line, says) in [
            ("show hostname >", "Incomplete command"),
            ("show hostname > ../a", "is no name"),
            ("show hostname > volatile:a", "is no name"),
            ("show frob > b", "Invalid command"),
            ("show hostname | frob > b", "Invalid command"),
        ] {
            let printed = session.run_line(line);
            assert!(session.has_failed() && printed.contains(says), "{line}: {printed}");
        }
        assert_eq!(session.handle.lifecycle().files.list().unwrap().len(), 1);
    }

    #[test]
    fn who_only_looks_writes_no_file() {
        let mut model = Model::default();
        model.users.insert("ops".into(), User::default());
        let mut session = Session::of(Handle::detached(model), 0, Some("ops".into()));
        assert_eq!(session.run_line("show version > a"), "% Permission denied for the role\n");
        assert!(session.handle.lifecycle().files.list().unwrap().is_empty());
    }
}
