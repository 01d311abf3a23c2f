//! The parts that need no network: they are benches of cargo, and what they write is read here.
//!
//! * `road`: nanoseconds and allocations per frame through memory ports, by feature and number of flows.
//! * `workers`: two workers against one.
//! * `flood`: steady flows beside a flood of new ones, and what a million idle flows cost.
//! * `instructions`: the gate of instruction counts, which fails where one exceeds what the tree says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::ground::Ground;
use super::report::{Report, Wanted};
use crate::error::{Error, Result, Tried};

/// A row of `benches/road`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
struct Row {
    name: String,
    median_ns: f64,
    best_ns: f64,
    bare_ns: f64,
    allocs: f64,
    /// Part of the copies that were lost, where there are any.
    #[serde(default)]
    lost: f64,
}

const NS: &str = "whole turn";
const BEST: &str = "best run";
const BARE: &str = "bare loop, best run";
const ALLOCATIONS: &str = "allocations";
const LOST: &str = "copies lost";

const PLAIN: &str = "plain, 10,000 flows";
const ALL: &str = "everything on, 10,000 flows";
const SPAN: &str = "plain + SPAN, 10,000 flows";
const STALLED: &str = "plain + SPAN, destination stalled, 10,000 flows";
const MILLION: &str = "everything on, 1,000,000 flows";
const FEW_RULES: &str = "everything on, 10 rules, 10,000 flows";
const MANY_RULES: &str = "everything on, 10,000 rules, 10,000 flows";
const NEW_FLOW: &str = "new flow, 1,000 rules, ";

/// Runs cargo's bench with a word of its own; returns what it printed, which is shown as well.
fn bench(ground: &Ground, name: &str, word: &str) -> Result<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["bench", "-p", "vswitch", "--bench", name, "--", word]).stdin(Stdio::null()).stdout(Stdio::piped());
    let line = format!("{command:?}");
    let mut child = command.spawn().tried(line.clone())?;
    let mut printed = String::new();
    if let Some(stdout) = child.stdout.take() {
        for row in BufReader::new(stdout).lines() {
            let row = row.tried(line.clone())?;
            println!("{row}");
            printed += &row;
            printed.push('\n');
        }
    }
    let status = child.wait().tried(line.clone())?;
    ground.go_on()?;
    if status.success() { Ok(printed) } else { Err(Error::Command { command: line, output: status.to_string() }) }
}

/// The rows of a printed table: a name, at least two blanks, and figures.
fn figures(printed: &str) -> Vec<(&str, Vec<f64>)> {
    let row = |line| {
        let (name, rest): (&str, &str) = str::split_once(line, "  ")?;
        let figures: Vec<f64> = rest.split_whitespace().map_while(|word| word.parse().ok()).collect();
        (!name.is_empty() && !figures.is_empty()).then_some((name, figures))
    };
    printed.lines().filter_map(row).collect()
}

fn parse<T: for<'a> Deserialize<'a>>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::Unreadable { what: what.to_owned(), reason: e.to_string() })
}

/// The part `road`.
pub fn road(ground: &Ground) -> Result<Report> {
    let file = ground.dir().join("road.json");
    bench(ground, "road", &format!("json={}", file.display()))?;
    let rows: Vec<Row> = parse("road", &std::fs::read_to_string(&file).tried(format!("{}", file.display()))?)?;
    let mut report = Report::new("road");
    report.rounds = 1;
    fill(&mut report, &rows);
    Ok(report)
}

fn fill(report: &mut Report, rows: &[Row]) {
    use Wanted::{AtLeast, AtMost};
    for row in rows {
        report.add(&row.name, NS, "ns/frame", row.median_ns);
        report.add(&row.name, BEST, "ns/frame", row.best_ns);
        report.add(&row.name, BARE, "ns/frame", row.bare_ns);
        report.add(&row.name, ALLOCATIONS, "per frame", row.allocs);
        if row.name.contains("SPAN") {
            report.add(&row.name, LOST, "of 1", row.lost);
        }
    }
    let ns = |name: &str| report.median(name, NS);
    let rate = |name: &str| report.median(PLAIN, BEST).zip(report.median(name, BEST)).map(|(off, on)| off / on);
    let grown = ns(MANY_RULES).zip(ns(FEW_RULES)).map(|(many, few)| many / few);
    let new = rows.iter().find(|r| r.name.starts_with(NEW_FLOW)).map(|r| r.median_ns / 1e3);
    // A frame that makes a flow may allocate; one of a flow that is there may not.
    let cached = rows.iter().filter(|r| !r.name.starts_with("new flow")).map(|r| r.allocs);
    let most = cached.reduce(f64::max);
    let targets = [
        ("64 B, everything on, 10,000 flows", AtMost(60.0), "ns", ns(ALL)),
        ("64 B, everything on, 1,000,000 flows", AtMost(90.0), "ns", ns(MILLION)),
        ("64 B, plain switching", AtMost(40.0), "ns", ns(PLAIN)),
        ("a cached frame with 10,000 rules against one with 10", AtMost(1.05), "", grown),
        ("a new flow with 1,000 rules", AtMost(1.0), "us", new),
        ("one SPAN session: rate against that without, best runs", AtLeast(0.9), "", rate(SPAN)),
        ("one SPAN session whose destination is stalled, the same", AtLeast(0.9), "", rate(STALLED)),
        ("allocations per frame", AtMost(0.0), "", most),
    ];
    for (what, wanted, unit, measured) in targets {
        report.target(1, what, wanted, unit, measured);
    }
    report.remark("road: medians of the whole turn, the memory ports' own work (row \"bare loop\") included.");
}

const ONE: &str = "one worker";
const TWO: &str = "two workers";
const RATE: &str = "frames, median";
const RATE_BEST: &str = "frames, best";

/// The part `workers`.
pub fn workers(ground: &Ground) -> Result<Report> {
    let mut report = Report::new("workers");
    report.rounds = 1;
    fill_workers(&mut report, &bench(ground, "workers", "")?);
    Ok(report)
}

fn fill_workers(report: &mut Report, printed: &str) {
    for (name, row) in figures(printed) {
        if let [best, middle, ..] = row.as_slice() {
            report.add(name, RATE, "Mpps", *middle);
            report.add(name, RATE_BEST, "Mpps", *best);
        }
    }
    let ratio = report.ratio(TWO, ONE, RATE);
    report.target(1, "two workers on two flow sets against one", Wanted::AtLeast(1.8), "", ratio);
}

const STEADY: &str = "steady flows alone";
const BESIDE: &str = "steady flows beside the flood";
const GROWN: &str = "memory grown in its second half";
const TIMERS: &str = "timers of 1,000,000 idle flows";
const FORGET: &str = "to report and forget 1,000,000 flows in 15 s";
const PACKETS: &str = "packets";
const MEMORY: &str = "memory";
const CORE: &str = "part of a core";

/// The part `flood`.
pub fn flood(ground: &Ground) -> Result<Report> {
    let mut report = Report::new("flood");
    report.rounds = 1;
    fill_flood(&mut report, &bench(ground, "flood", "")?);
    Ok(report)
}

fn fill_flood(report: &mut Report, printed: &str) {
    use Wanted::{AtLeast, AtMost};
    for (name, row) in figures(printed) {
        let (metric, unit) = match name {
            GROWN => (MEMORY, "KiB"),
            TIMERS | FORGET => (CORE, "%"),
            _ => (PACKETS, "kpps"),
        };
        row.iter().for_each(|figure| report.add(name, metric, unit, *figure));
    }
    let kept = report.ratio(BESIDE, STEADY, PACKETS);
    let targets = [
        ("steady flows beside a flood of new ones, against alone", AtLeast(0.9), "", kept),
        ("memory that grows in such a flood", AtMost(0.0), "KiB", report.median(GROWN, MEMORY)),
        ("timers of a million idle flows, of a core", AtMost(1.0), "%", report.median(TIMERS, CORE)),
        ("a million flows reported and forgotten in 15 s, of a core", AtMost(1.0), "%", report.median(FORGET, CORE)),
    ];
    for (what, wanted, unit, measured) in targets {
        report.target(8, what, wanted, unit, measured);
    }
    report.remark(
        "flood: 1,000 flows at 300,000 packets/s, and 2,000,000 flows of one packet in four seconds of the thread's own time; the \
         records add up to what was accepted, or the bench fails. What the exporter does with the records is another thread's work.",
    );
}

/// The part `instructions`: a count that exceeds what the tree says is a failure of the part.
pub fn instructions(ground: &Ground) -> Result<Report> {
    let mut report = Report::new("instructions");
    report.rounds = 1;
    let printed = bench(ground, "instructions", "")?;
    for (name, row) in figures(&printed) {
        if let [now, ..] = row.as_slice() {
            report.add(name, "instructions", "per frame or lookup", *now);
        }
    }
    Ok(report)
}

/// Where the workspace is: the folder that holds its `Cargo.toml`, which must be the current one.
pub fn workspace() -> Result<PathBuf> {
    let here = std::env::current_dir().tried("current folder")?;
    if here.join("Cargo.toml").is_file() && here.join(Path::new("vswitch/Cargo.toml")).is_file() {
        return Ok(here);
    }
    Err(Error::State("a bench runs in the folder of the workspace".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_targets() {
        let row = |name: &str, ns: f64, allocs: f64| {
            format!(
                "{{\"name\":\"{name}\",\"flows\":1,\"best_ns\":1.0,\"median_ns\":{ns},\"bare_ns\":2.0,\"allocs\":{allocs}}}"
            )
        };
        let new = format!("{NEW_FLOW}65,536 flows");
        let rows = [
            row(ALL, 59.0, 0.0),
            row(PLAIN, 41.0, 0.0),
            row(FEW_RULES, 50.0, 0.0),
            row(MANY_RULES, 51.0, 0.0),
            row(&new, 900.0, 0.5),
        ];
        let rows: Vec<Row> = parse("road", &format!("[{}]", rows.join(","))).expect("readable");
        let mut report = Report::new("road");
        fill(&mut report, &rows);
        let verdicts: Vec<_> = report.targets.iter().map(super::super::report::Target::verdict).collect();
        let others = ["not measured", "not measured", "met"];
        assert_eq!(verdicts, [&["met", "not measured", "not met", "met", "met"], others.as_slice()].concat());
    }

    #[test]
    fn printed_tables_are_read() {
        let printed = "cores [0, 1], 9 runs of 20000 turns\n                             best   median  cpu best    median\n\
                       one worker                  20.10    20.00     20.20     20.10\n\
                       two workers                 39.00    37.00     39.10     37.20\n\
                       two workers : one           1.94x    1.85x     1.94x     1.85x\n";
        let mut report = Report::new("workers");
        fill_workers(&mut report, printed);
        assert_eq!((report.rows.len(), report.median(TWO, RATE)), (4, Some(37.0)));
        assert!(report.targets.iter().all(super::super::report::Target::met));
        let flood = "steady flows alone                                   300.0 k packets/s\n\
                     steady flows beside the flood                        280.0 k packets/s\n\
                     memory grown in its second half                        0.0 KiB\n\
                     timers of 1,000,000 idle flows                         0.005 % of a core\n\
                     to report and forget 1,000,000 flows in 15 s           1.200 % of a core\n";
        let mut report = Report::new("flood");
        fill_flood(&mut report, flood);
        let verdicts: Vec<_> = report.targets.iter().map(super::super::report::Target::verdict).collect();
        assert_eq!(verdicts, ["met", "met", "met", "not met"]);
        let counted = "parse UDP                                      61.5        60.0      2.5%\n";
        assert_eq!(figures(counted), [("parse UDP", vec![61.5, 60.0])]);
    }
}
