//! Instructions per stage, held against those that the tree says: `cargo bench -p vswitch --bench instructions`.
//!
//! A clock says how busy the machine is; the number of instructions is the same on any day. The program runs itself under
//! valgrind, once for each stage, which counts what runs in [`stages::counted`], and compares instructions
//! per frame, packet or lookup with `benches/instructions.json`. More than [`TOLERANCE`] above is a failure; so is a stage
//! that the file does not know, or one that it knows and that is gone. `BLESS=1` writes the file anew: with the change
//! that it belongs to, so that the history of the file is the history of the cost.
//!
//! The counts depend on the compiler and a little on the C library. Cache misses and mispredicted branches are not in them:
//! `--bench road` and `--bench acl` measure time.

mod road;
mod stages;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use serde_json::{Map, Value};
use stages::STAGES;

/// Largest rise that passes.
const TOLERANCE: f64 = 0.03;
/// Names the stage to run; without it, the program runs valgrind.
const INSIDE: &str = "VSWITCH_COUNTED";

fn main() -> ExitCode {
    if let Ok(name) = env::var(INSIDE) {
        // For how many units, for the one outside.
        STAGES.iter().filter(|stage| stage.name == name).for_each(|stage| println!("{}", (stage.run)()));
        return ExitCode::SUCCESS;
    }
    let counts: io::Result<Vec<f64>> = STAGES.iter().map(|stage| count(stage.name)).collect();
    match counts.and_then(|counts| compare(&counts)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Instructions per unit of a stage.
fn count(name: &str) -> io::Result<f64> {
    let out = tempfile::NamedTempFile::new()?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*stages::counted*"])
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(env::current_exe()?)
        .env(INSIDE, name)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("valgrind can't be run: {error}")))?;
    if !run.status.success() {
        return Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(&run.stderr))));
    }
    let units: Option<f64> = String::from_utf8_lossy(&run.stdout).trim().parse().ok();
    let text = fs::read_to_string(out.path())?;
    let total: Option<f64> = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    match (total, units) {
        (Some(total), Some(units)) if total > 0.0 && units > 0.0 => Ok(total / units),
        _ => Err(io::Error::other(format!("{name}: nothing was counted"))),
    }
}

/// Prints the table; false when a stage costs more than it may.
fn compare(counts: &[f64]) -> io::Result<bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let known: Map<String, Value> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error),
    };
    let mut good = true;
    println!("{:<40}{:>12}{:>12}{:>9}", "instructions per frame or lookup", "now", "tree", "change");
    for (stage, count) in STAGES.iter().zip(counts) {
        let before = known.get(stage.name).and_then(Value::as_f64);
        let Some(before) = before else {
            println!("{:<40}{count:>12.1}{:>12}   NEW", stage.name, "-");
            good = false;
            continue;
        };
        let change = count / before - 1.0;
        let verdict = match change {
            change if change > TOLERANCE => "   WORSE",
            change if change < -TOLERANCE => "   better",
            _ => "",
        };
        good &= change <= TOLERANCE;
        println!("{:<40}{count:>12.1}{before:>12.1}{:>8.1}%{verdict}", stage.name, change * 100.0);
    }
    for gone in known.keys().filter(|name| STAGES.iter().all(|stage| stage.name != name.as_str())) {
        println!("{gone:<40}{:>12}   GONE", "-");
        good = false;
    }
    if env::var_os("BLESS").is_some_and(|value| value == "1") {
        let counts = STAGES.iter().zip(counts).map(|(stage, count)| (stage.name, (count * 10.0).round() / 10.0));
        let blessed: Map<String, Value> = counts.map(|(name, count)| (name.to_owned(), count.into())).collect();
        fs::write(&path, serde_json::to_string_pretty(&blessed)? + "\n")?;
        println!("written to {}", path.display());
        return Ok(true);
    }
    if !good {
        println!("BLESS=1 makes these counts the tree's");
    }
    Ok(good)
}
