//! The `flow-relay` binary. See docs/flow-relay.md.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vem::relay::config;
use vem::relay::daemon::control::{self, Question};
use vem::relay::daemon::{receive, send};
use vem::relay::key::Secret;

/// Reliable, encrypted transport of flow records: takes what exporters send by UDP, keeps it while the other end is away,
/// and delivers it once, in order, to the collectors.
#[derive(Parser)]
#[command(name = "flow-relay", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take datagrams from exporters, send them to a receiver
    Send(Run),
    /// Take datagrams from senders, send them to collectors
    Receive(Run),
    /// Print how a daemon of this host is, as JSON
    Status(Ask),
    /// Have the sender of this host connect now
    Retry {
        /// Directory of its socket
        #[arg(long, value_name = "DIR", default_value = "/run/flow-relay")]
        runtime_dir: PathBuf,
    },
    /// Make a key file
    Key {
        /// Where
        file: PathBuf,
    },
}

#[derive(clap::Args)]
struct Run {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/flow-relay.toml")]
    config: PathBuf,
    /// Without TLS: everybody on the way can read and forge what is sent
    #[arg(long)]
    insecure: bool,
    /// Check the configuration and the keys, and end
    #[arg(long)]
    check: bool,
}

#[derive(clap::Args)]
struct Ask {
    /// Directory of its socket
    #[arg(long, value_name = "DIR", default_value = "/run/flow-relay")]
    runtime_dir: PathBuf,
    /// Of the receiver, not of the sender
    #[arg(long)]
    receiver: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flow-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Send(run) => {
            let config = config::send(&run.config, run.insecure)?;
            if run.check {
                return Ok(config.trust.as_ref().map(vem::relay::tls::client).transpose().map(|_| ())?);
            }
            vem::log::start();
            warn(run.insecure);
            let mut given = Vec::new();
            let mut listen = listenfd::ListenFd::from_env();
            for index in 0..listen.len() {
                given.extend(listen.take_udp_socket(index)?);
            }
            if given.is_empty() && config.listen.is_empty() {
                return Err("there is nothing to listen at: neither listen, nor a socket of systemd".into());
            }
            Ok(send::Daemon::open(config, given, None)?.run()?)
        }
        Command::Receive(run) => {
            let config = config::receive(&run.config, run.insecure)?;
            if run.check {
                return Ok(config.trust.as_ref().map(vem::relay::tls::server).transpose().map(|_| ())?);
            }
            vem::log::start();
            warn(run.insecure);
            Ok(receive::Daemon::open(config)?.run()?)
        }
        Command::Status(ask) => {
            let name = if ask.receiver { receive::SOCKET } else { send::SOCKET };
            print!("{}", pretty(&question(&ask.runtime_dir.join(name), Question::Status)?)?);
            Ok(())
        }
        Command::Retry { runtime_dir } => {
            question(&runtime_dir.join(send::SOCKET), Question::Retry)?;
            Ok(())
        }
        Command::Key { file } => Ok(Secret::make(&file)?),
    }
}

fn warn(insecure: bool) {
    if insecure {
        tracing::warn!("without TLS: everybody on the way can read and forge what is sent");
    }
}

fn question(path: &Path, question: Question) -> Result<String, String> {
    control::ask(path, question).map_err(|e| format!("{}: {e}", path.display()))
}

fn pretty(json: &str) -> Result<String, serde_json::Error> {
    let value: serde_json::Value = serde_json::from_str(json)?;
    Ok(format!("{}\n", serde_json::to_string_pretty(&value)?))
}
