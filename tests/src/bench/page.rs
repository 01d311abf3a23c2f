//! `docs/performance.md`, written from the reports of all parts, the last of each.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::PARTS;
use super::plot;
use super::report::{Report, Target, spread, with_unit};
use crate::error::{Result, Tried};

const HEAD: &str = "# Performance

Written by `make bench`; don't edit. `make bench PART=NAME` measures one part again and keeps the others.

Every figure is a median with the range of its rounds. Within a part all subjects are measured in turn, round by round, so
that what else the machine does hits all of them alike: a ratio of two medians says more than either. \"Everything on\" is a
VLAN, a list of 101 rules in and another out, and unsampled NetFlow, configured by a VSM as for any user; the rule that fits
is the last. A frame of 64 octets has 60 without its FCS.
";

/// Writes the page and its pictures.
pub fn write(reports: &Path, docs: &Path) -> Result<()> {
    let mut all = Vec::new();
    for part in &PARTS {
        all.extend(Report::load(reports, part.name)?);
    }
    let mut text = HEAD.to_owned();
    text += &targets(&all);
    for report in &all {
        let picture = plot::draw(report, &docs.join("performance"))?;
        text += &section(report, picture.is_some());
    }
    let path = docs.join("performance.md");
    fs::write(&path, text).tried(format!("{}", path.display()))
}

/// Every target of every part; parts that were not measured are named.
fn targets(reports: &[Report]) -> String {
    let mut text = "\n## Targets\n\n| | what | wanted | measured | |\n|---|---|---|---|---|\n".to_owned();
    let mut rows: Vec<&Target> = reports.iter().flat_map(|r| &r.targets).collect();
    rows.sort_by_key(|t| t.line);
    for target in rows {
        let Target { line, what, .. } = target;
        let _ = writeln!(
            text,
            "| {line} | {what} | {} | {} | {} |",
            target.bound(),
            target.measurement(),
            target.verdict()
        );
    }
    let absent = PARTS.iter().filter(|p| reports.iter().all(|r| r.part != p.name));
    let absent: Vec<&str> = absent.map(|p| p.name).collect();
    if !absent.is_empty() {
        let _ = writeln!(text, "\nNot measured yet: {}.", absent.join(", "));
    }
    text
}

fn section(report: &Report, picture: bool) -> String {
    let mut text = format!("\n## {}\n\n", report.part);
    let words = PARTS.iter().find(|p| p.name == report.part).map_or("", |p| p.words);
    let machine = &report.machine;
    let _ = writeln!(text, "{words}.\n");
    let _ = writeln!(
        text,
        "{} rounds on {} with {}; {} cores of {}, {} MiB, Linux {}, {}; load {} at the start; {}.\n",
        report.rounds,
        machine.day,
        machine.commit,
        machine.cores,
        machine.processor,
        machine.memory_mib,
        machine.kernel,
        machine.compiler,
        machine.load,
        machine.packages.join(", "),
    );
    let metrics = report.names(|r| &r.metric);
    if !metrics.is_empty() {
        let unit = |metric: &str| report.rows.iter().find(|r| r.metric == metric).map_or("", |r| r.unit.as_str());
        let heads: Vec<String> = metrics.iter().map(|m| with_unit(m, &comma(unit(m)))).collect();
        let _ = writeln!(text, "| | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
        for subject in report.names(|r| &r.subject) {
            let cells: Vec<String> = metrics.iter().map(|m| spread(report.values(subject, m))).collect();
            let _ = writeln!(text, "| {subject} | {} |", cells.join(" | "));
        }
    }
    for remark in &report.remarks {
        let _ = writeln!(text, "\n* {remark}");
    }
    if picture {
        let _ = writeln!(text, "\n![{0}](performance/{0}.svg)", report.part);
    }
    text
}

/// A unit behind the name of a metric.
fn comma(unit: &str) -> String {
    if unit.is_empty() { String::new() } else { format!("({unit})") }
}

#[cfg(test)]
mod tests {
    use super::super::report::Wanted;
    use super::*;

    #[test]
    fn the_page_has_every_row_and_every_target() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut report = Report::new("tap");
        report.add("VEM", "rate", "Mpps", 2.0);
        report.add("VEM", "CPU", "us", 0.5);
        report.add("other", "rate", "Mpps", 1.0);
        report.target(3, "twice", Wanted::AtLeast(2.0), "", report.ratio("VEM", "other", "rate"));
        report.save(folder.path()).expect("written");
        write(folder.path(), folder.path()).expect("written");
        let text = fs::read_to_string(folder.path().join("performance.md")).expect("readable");
        for wanted in [
            "| 3 | twice | at least 2 | 2 | met |",
            "| | rate (Mpps) | CPU (us) |",
            "| VEM | 2 | 0.5 |",
            "| other | 1 | - |",
            "Not measured yet: instructions, road",
            "performance/tap.svg",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(folder.path().join("performance/tap.svg").is_file());
    }
}
