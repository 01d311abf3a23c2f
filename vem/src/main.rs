//! The `vem` binary.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use vem::args::{Cli, Command};
use vem::local::Request;
use vem::local::client;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vem: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line says; the text goes to the standard output.
fn run(command: Command) -> Result<String, Box<dyn std::error::Error>> {
    match command {
        Command::Run { config } => {
            let bootstrap = vem::bootstrap::read(&config)?;
            vem::log::start();
            vem::agent::run(bootstrap)?;
            Ok(String::new())
        }
        Command::Enroll { token, config } => {
            vem::log::start();
            enroll(&token, &config)
        }
        Command::Attach(attach) => {
            let (port, socket) = attach.split();
            let answer = client::ask(&socket, &Request::Attach { port })?;
            Ok(format!("attached {}\n", text(&answer, "nic")))
        }
        Command::Detach { which, agent } => {
            let answer = client::ask(&agent.socket, &Request::Detach { device: which.device, nic: which.nic })?;
            Ok(format!("detached {}\n", text(&answer, "nic")))
        }
        Command::Ports { json, agent } => {
            let answer = client::ask(&agent.socket, &Request::Ports)?;
            let rows = answer.get("ports").and_then(|p| p.as_array()).cloned().unwrap_or_default();
            match json {
                true => Ok(format!("{}\n", serde_json::to_string_pretty(&rows)?)),
                false => Ok(vem::show::ports_table(&rows)),
            }
        }
        Command::Cmd { words, agent } => {
            let answer = client::ask(&agent.socket, &Request::Show { words: words.join(" ") })?;
            Ok(text(&answer, "text"))
        }
    }
}

fn text(answer: &serde_json::Value, key: &str) -> String {
    answer.get(key).and_then(|t| t.as_str()).unwrap_or_default().to_owned()
}

fn enroll(token: &str, config: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let bootstrap = vem::bootstrap::read(config)?;
    let domain = token.parse::<proto::token::Token>()?.domain;
    if domain != bootstrap.domain {
        return Err(format!("the token is for domain {domain}, {} says {}", config.display(), bootstrap.domain).into());
    }
    let uuid = bootstrap.host_uuid()?;
    let enrolled = vem::enroll::enroll(token, uuid, &bootstrap.host, &bootstrap.state_dir)?;
    Ok(format!(
        "enrolled in domain {domain} as {} ({uuid}), identity in {}\n",
        bootstrap.host,
        enrolled.identity.display()
    ))
}
