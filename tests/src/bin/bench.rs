//! `bench [PART...]`: measures, prints tables, and writes JSON, pictures and `docs/performance.md`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tests::bench::{self, Effort, memory, page};
use tests::error::Result;

/// Measures the switch against bare loops and Open vSwitch. Runs in the folder of the workspace.
#[derive(Parser)]
struct Options {
    /// Parts to measure [default: all]: instructions road workers flood vhost tap meter noisy manage
    parts: Vec<String>,
    /// Rounds of each part, as far as its time allows
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// Write docs/performance.md from what has been measured before, and measure nothing
    #[arg(long)]
    page: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(failed) if failed.is_empty() => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("bench: could not be measured: {}", failed.join(", "));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the parts that could not be measured; the others are kept.
fn run(options: &Options) -> Result<Vec<&'static str>> {
    let workspace = memory::workspace()?;
    let (reports, docs) = (workspace.join("target/bench"), workspace.join(Path::new("docs")));
    let effort = Effort { rounds: options.rounds, time: Duration::from_secs(options.seconds) };
    let parts = if options.page { Vec::new() } else { bench::parts(&options.parts)? };
    let mut failed = Vec::new();
    for part in parts {
        eprintln!("bench: part {}", part.name);
        match bench::run(part, effort) {
            Ok(report) => {
                print!("{}", report.table());
                report.save(&reports)?;
            }
            Err(error) => {
                eprintln!("bench: part {}: {error}", part.name);
                failed.push(part.name);
                if error.to_string() == "interrupted" {
                    break;
                }
            }
        }
    }
    page::write(&reports, &docs)?;
    Ok(failed)
}
