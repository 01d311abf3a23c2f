//! What a part has measured: rows with a value per round, targets, remarks; as JSON and as a table.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use crate::error::{Error, Result, Tried};

/// The values of one metric of one subject.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub subject: String,
    /// Name of the metric.
    pub metric: String,
    /// Its unit.
    pub unit: String,
    /// A value per round.
    pub values: Vec<f64>,
}

/// How a target is met.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// By that much or more.
    AtLeast(f64),
    /// By that much or less.
    AtMost(f64),
}

/// A target and what came of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Its line in the list of targets, 1-6.
    pub line: u8,
    /// In words.
    pub what: String,
    /// The bound.
    pub wanted: Wanted,
    /// Unit of bound and measurement; empty for a ratio.
    pub unit: String,
    /// What was measured; `None`: it could not be, and a remark says why.
    pub measured: Option<f64>,
}

impl Target {
    /// What was measured is within the bound.
    pub fn met(&self) -> bool {
        self.measured.is_some_and(|m| match self.wanted {
            Wanted::AtLeast(bound) => m >= bound,
            Wanted::AtMost(bound) => m <= bound,
        })
    }

    /// `met`, `not met`, `not measured`
    pub fn verdict(&self) -> &'static str {
        match (self.measured, self.met()) {
            (None, _) => "not measured",
            (_, true) => "met",
            (_, false) => "not met",
        }
    }

    /// The bound in words.
    pub fn bound(&self) -> String {
        match self.wanted {
            Wanted::AtLeast(bound) => with_unit(&format!("at least {}", figure(bound)), &self.unit),
            Wanted::AtMost(bound) => with_unit(&format!("at most {}", figure(bound)), &self.unit),
        }
    }

    /// The measurement in words.
    pub fn measurement(&self) -> String {
        self.measured.map_or_else(|| "-".to_owned(), |m| with_unit(&figure(m), &self.unit))
    }
}

/// All of one part.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of the part.
    pub part: String,
    /// Where it ran.
    pub machine: Machine,
    /// Rounds that were measured.
    pub rounds: u32,
    /// In the order in which they were first measured.
    pub rows: Vec<Row>,
    /// What the part has to show.
    pub targets: Vec<Target>,
    /// What a reader has to know of the figures.
    pub remarks: Vec<String>,
}

impl Report {
    /// An empty report of a part on this machine.
    pub fn new(part: &str) -> Report {
        Report {
            part: part.to_owned(),
            machine: Machine::here(),
            rounds: 0,
            rows: Vec::new(),
            targets: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// One more value.
    pub fn add(&mut self, subject: &str, metric: &str, unit: &str, value: f64) {
        match self.rows.iter_mut().find(|r| r.subject == subject && r.metric == metric) {
            Some(row) => row.values.push(value),
            None => self.rows.push(Row {
                subject: subject.to_owned(),
                metric: metric.to_owned(),
                unit: unit.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// The values of a row; none when it was not measured.
    pub fn values(&self, subject: &str, metric: &str) -> &[f64] {
        let row = self.rows.iter().find(|r| r.subject == subject && r.metric == metric);
        row.map_or(&[], |r| &r.values)
    }

    /// The median of a row.
    pub fn median(&self, subject: &str, metric: &str) -> Option<f64> {
        median(self.values(subject, metric))
    }

    /// The ratio of two medians of one metric.
    pub fn ratio(&self, subject: &str, to: &str, metric: &str) -> Option<f64> {
        Some(self.median(subject, metric)? / self.median(to, metric)?)
    }

    /// States a target.
    pub fn target(&mut self, line: u8, what: &str, wanted: Wanted, unit: &str, measured: Option<f64>) {
        let target = Target { line, what: what.to_owned(), wanted, unit: unit.to_owned(), measured };
        self.targets.push(target);
    }

    /// A remark, once.
    pub fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.remarks.contains(&text) {
            self.remarks.push(text);
        }
    }

    /// Each name once, in the order of the rows.
    pub fn names<'a>(&'a self, name: impl Fn(&'a Row) -> &'a str) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !names.contains(&name(row)) {
                names.push(name(row));
            }
        }
        names
    }

    /// The table for a terminal: a block per metric, then the targets.
    pub fn table(&self) -> String {
        let mut text = format!("\n{}: median [lowest..highest] of {} rounds\n", self.part, self.rounds);
        for metric in self.names(|r| &r.metric) {
            let rows: Vec<&Row> = self.rows.iter().filter(|r| r.metric == metric).collect();
            let _ = writeln!(text, "  {}", with_unit(metric, rows.first().map_or("", |r| &r.unit)));
            for row in rows {
                let _ = writeln!(text, "    {:<44} {:>30}", row.subject, spread(&row.values));
            }
        }
        for target in &self.targets {
            let (bound, measured) = (target.bound(), target.measurement());
            let _ = writeln!(text, "  [{}] {}: {bound}; measured {measured}", target.verdict(), target.what);
        }
        for remark in &self.remarks {
            let _ = writeln!(text, "  note: {remark}");
        }
        text
    }

    /// Writes `PART.json` into a folder, whole or not at all.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).tried(format!("{}", folder.display()))?;
        let (path, new) = (folder.join(format!("{}.json", self.part)), folder.join(format!("{}.new", self.part)));
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Unreadable { what: "report".to_owned(), reason: e.to_string() })?;
        fs::write(&new, text).tried(format!("{}", new.display()))?;
        fs::rename(&new, &path).tried(format!("{}", path.display()))
    }

    /// Reads `PART.json`; `None` when the part has not been measured.
    pub fn load(folder: &Path, part: &str) -> Result<Option<Report>> {
        let path = folder.join(format!("{part}.json"));
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).tried(format!("{}", path.display())),
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| Error::Unreadable { what: path.display().to_string(), reason: e.to_string() }),
        }
    }
}

/// Middle value; of an even number the mean of the two in the middle. `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[middle - 1] + upper) / 2.0 })
}

/// `MEDIAN [LOWEST..HIGHEST]`
pub fn spread(values: &[f64]) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    median(values).map_or_else(
        || "-".to_owned(),
        |m| if values.len() == 1 { figure(m) } else { format!("{} [{}..{}]", figure(m), figure(low), figure(high)) },
    )
}

/// A figure with three digits that count.
pub fn figure(value: f64) -> String {
    let digits = match value.abs() {
        a if a >= 100.0 || a == 0.0 => 0,
        a if a >= 10.0 => 1,
        a if a >= 1.0 => 2,
        a if a >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A name or a figure with its unit behind it.
pub fn with_unit(text: &str, unit: &str) -> String {
    if unit.is_empty() { text.to_owned() } else { format!("{text} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("tap");
        for value in [2.0, 6.0, 4.0] {
            report.add("base", "rate", "Mpps", value);
            report.add("ours", "rate", "Mpps", value / 2.0);
        }
        report.target(3, "half", Wanted::AtLeast(0.5), "", report.ratio("ours", "base", "rate"));
        report.target(3, "more", Wanted::AtLeast(0.6), "", report.ratio("ours", "base", "rate"));
        report.target(3, "absent", Wanted::AtMost(1.0), "", report.ratio("ours", "nobody", "rate"));
        report
    }

    #[test]
    fn medians_ratios_and_verdicts() {
        assert_eq!((median(&[]), median(&[1.0, 9.0, 2.0]), median(&[1.0, 2.0])), (None, Some(2.0), Some(1.5)));
        let verdicts: Vec<_> = report().targets.iter().map(Target::verdict).collect();
        assert_eq!(verdicts, ["met", "not met", "not measured"]);
    }

    #[test]
    fn a_table_has_everything() {
        let text = report().table();
        for wanted in ["4 [2..6]", "2 [1..3]", "rate Mpps", "[not met] more: at least 0.6; measured 0.5"] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
    }

    #[test]
    fn a_report_comes_back_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let report = report();
        report.save(folder.path()).expect("written");
        assert_eq!(Report::load(folder.path(), "tap").expect("readable"), Some(report));
        assert_eq!(Report::load(folder.path(), "none").expect("readable"), None);
        std::fs::write(folder.path().join("bad.json"), "{").expect("written");
        assert!(Report::load(folder.path(), "bad").is_err());
    }

    #[test]
    fn figures_have_three_digits() {
        let shown: Vec<_> = [0.0, 1234.5, 12.34, 1.234, 0.5, 0.01234].into_iter().map(figure).collect();
        assert_eq!(shown, ["0", "1234", "12.3", "1.23", "0.5", "0.0123"]);
    }
}
