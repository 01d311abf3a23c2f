//! `lab up|cli|check|down`: a whole data centre on one machine.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use tests::check;
use tests::error::{Error, Result, Tried};
use tests::lab::plan::Plan;
use tests::lab::summary::Summary;
use tests::lab::{self, Lab, build, relay, snmp};

/// A distributed switch, its hosts, VMs, collector and IDS, in network namespaces.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder of the lab: state, sockets, logs, collected flows.
    #[arg(long, global = true, env = "LAB_DIR", default_value = lab::DIR)]
    dir: PathBuf,
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Starts a lab in the background and waits until every VM reaches every other.
    Up {
        /// Hosts, each with a VEM.
        #[arg(long, default_value_t = 2)]
        hosts: u8,
        /// VMs of each host.
        #[arg(long, default_value_t = 3)]
        vms_per_host: u8,
        /// Prints JSON instead of a page.
        #[arg(long)]
        json: bool,
        /// Start of the names of the namespaces.
        #[arg(long, default_value = "lab")]
        prefix: String,
    },
    /// Opens the switch's prompt; arguments go to `vsm cli`.
    Cli {
        /// Such as `-c "show module"`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// Prints again what `up` printed.
    Show {
        /// Prints JSON instead of a page.
        #[arg(long)]
        json: bool,
    },
    /// Gives a VM another port profile, as the administrator of its host would: card out, card in.
    Move {
        /// Such as vm1.
        vm: String,
        /// Port profile.
        profile: String,
    },
    /// Runs the scripted proof in the lab that is up; ends with `N passed, M failed`.
    Check {
        /// Only these themes.
        #[arg(value_parser = check::THEMES.iter().chain(&check::FURTHER).map(|(name, _)| *name).collect::<Vec<_>>())]
        themes: Vec<String>,
    },
    /// Passes connections from outside of the supervisor's namespace on; `up` starts it.
    #[command(hide = true)]
    Relay {
        /// Namespace to listen in.
        #[arg(long)]
        outside: PathBuf,
        /// Where connections go.
        #[arg(long)]
        to: SocketAddr,
        /// File that gets the address.
        #[arg(long)]
        told: PathBuf,
    },
    /// As `relay`, for datagrams.
    #[command(hide = true)]
    RelayUdp {
        /// Namespace to listen in.
        #[arg(long)]
        outside: PathBuf,
        /// Where datagrams go.
        #[arg(long)]
        to: SocketAddr,
        /// File that gets the address.
        #[arg(long)]
        told: PathBuf,
    },
    /// Removes the lab, also a half-built or a broken one.
    Down,
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    match args.word {
        Word::Up { hosts, vms_per_host, json, prefix } => {
            let plan = Plan::new(&prefix, args.dir, lab::binaries()?, hosts, vms_per_host)?;
            let lab = build::up(plan, &mut |step| eprintln!("lab: {step}"))?;
            print(&lab, json)?;
        }
        Word::Show { json } => print(&Lab::open(&args.dir)?, json)?,
        Word::Cli { rest } => {
            let lab = Lab::open(&args.dir)?;
            let mut command = Command::new(lab.binary("vsm"));
            command.args(["cli", "--socket"]).arg(lab.plan.cli_socket()).args(rest);
            // Becomes the console; comes back only when it can't.
            return Err(command.exec()).tried("vsm cli");
        }
        Word::Move { vm, profile } => {
            let lab = Lab::open(&args.dir)?;
            let found = lab.plan.vms.iter().find(|v| v.name == vm);
            let vm = found.ok_or_else(|| Error::State(format!("there is no VM {vm}")))?;
            build::move_vm(&lab.plan, vm, &profile)?;
        }
        Word::Check { themes } => {
            let report = check::run(&mut Lab::open(&args.dir)?, &themes)?;
            println!("{}", report.line());
            return Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Word::Relay { outside, to, told } => relay::run(&outside, to, &told)?,
        Word::RelayUdp { outside, to, told } => snmp::relay(&outside, to, &told)?,
        Word::Down => match Lab::find(&args.dir)? {
            Some(lab) => lab.down()?,
            None => eprintln!("lab: there is no lab in {}", args.dir.display()),
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn print(lab: &Lab, json: bool) -> Result<()> {
    let summary = Summary::of(lab);
    if json {
        let text = serde_json::to_string_pretty(&summary)
            .map_err(|e| Error::Unreadable { what: "summary".to_owned(), reason: e.to_string() })?;
        println!("{text}");
    } else {
        print!("{}", summary.text());
    }
    Ok(())
}
