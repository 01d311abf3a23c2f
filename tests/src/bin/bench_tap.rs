//! `bench_tap [ROUNDS [SECONDS]]`: tap to tap through our agent, a bare copy loop and Open vSwitch, as one table.

use std::path::Path;
use std::process::ExitCode;

use tests::bench::subject::Subject;
use tests::bench::{self, Samples};
use tests::error::Result;
use tests::lab::plan::{MONITOR, Plan, VM_PROFILE};
use tests::lab::{self, Lab, build};

const BARE: &str = "bare loop";
const OVS: &str = "Open vSwitch, tap";

fn main() -> ExitCode {
    let number = |n: usize, or: u32| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(or);
    match run(number(1, 3), number(2, 2)) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench_tap: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: u32, seconds: u32) -> Result<String> {
    let bin = lab::binaries()?;
    let folder = std::env::temp_dir().join(format!("vswitch-bench-{}", std::process::id()));
    let plan = Plan::new("bnv", folder.join("lab"), bin.clone(), 1, 2)?;
    let lab = build::up(plan, &mut |step| eprintln!("bench: {step}"))?;
    let result = with_lab(&lab, &bin, &folder, rounds, seconds);
    lab.down()?;
    // Logs of the other switches.
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn with_lab(lab: &Lab, bin: &Path, folder: &Path, rounds: u32, seconds: u32) -> Result<String> {
    let mode = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();
    let profile = format!("port-profile {VM_PROFILE}");
    let (meter, silent) = (format!("ip flow monitor {MONITOR} input"), format!("no ip flow monitor {MONITOR} input"));
    let session = "monitor session 1";
    let mut subjects = vec![
        Subject::bare(bin, folder)?,
        Subject::vem(lab, "VEM", mode(&[&profile, &silent, "exit", session, "shut"]))?,
        Subject::vem(lab, "VEM, metered", mode(&[&profile, &meter, "exit", session, "shut"]))?,
        Subject::vem(lab, "VEM, metered and SPAN", mode(&[&profile, &meter, "exit", session, "no shut"]))?,
    ];
    match Subject::open_vswitch(folder)? {
        Some(subject) => subjects.push(subject),
        None => eprintln!("bench: Open vSwitch is not installed; no comparison with it"),
    }
    let mut results: Vec<(String, Samples)> = subjects.iter().map(|s| (s.name.clone(), Samples::default())).collect();
    for round in 1..=rounds {
        for (subject, (name, samples)) in subjects.iter().zip(&mut results) {
            eprintln!("bench: round {round} of {rounds}: {name}");
            if !subject.commands.is_empty() {
                lab.console().configure(&subject.commands)?;
            }
            for (values, value) in samples.iter_mut().zip(bench::measure(subject, seconds)?) {
                values.push(value);
            }
        }
    }
    Ok(bench::table(&results, &[BARE, OVS]))
}
