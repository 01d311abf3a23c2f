//! The `flow-relay` binary. See docs/flow-relay.md.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use vem::relay::args::{Cli, Command};
use vem::relay::config;
use vem::relay::daemon::control::{self, Question};
use vem::relay::daemon::{receive, send};
use vem::relay::key::Secret;

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
