//! The switch as a whole: its name, and its configuration as it survives a restart.

use std::time::SystemTime;

use super::target::text;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::Model;
use crate::config::running::{self, Part};

const WORDS: &[(&str, &str)] = &[
    ("hostname", "Name of the switch"),
    ("switchname", "Name of the switch"),
    ("name", "Letters, digits, '.', '-' and '_', up to 63"),
    ("copy", "Copy from one file to another"),
    ("running-config", "The configuration that runs"),
    ("startup-config", "The configuration of the next start"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "{ hostname | switchname } <name:word>",
            help: "Name of the switch",
            words: WORDS,
            no: Some("{ hostname | switchname } [<name:word>]"),
            run: hostname,
        },
        Command {
            modes: &[Mode::Exec],
            syntax: "copy running-config startup-config",
            help: "Keep the running configuration over a restart",
            words: WORDS,
            no: None,
            run: |session, _| save(session, SystemTime::now()),
        },
    ]
}

fn hostname(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = if args.negated { Model::default().hostname } else { text(args, "name")? };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.len() > 63 || !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(fits) {
        let rule = "A name begins with a letter and has up to 63 letters, digits, '.', '-' and '_'";
        return Err(Error::Refused(rule.to_owned()));
    }
    session.edit(Box::new(move |model| {
        model.hostname = name;
        Ok(Vec::new())
    }))
}

/// The startup configuration is replaced whole, or stays as it is.
fn save(session: &Session, now: SystemTime) -> Result<Output, Error> {
    let text = running::text(&session.handle.model(), &Part::Whole, "show startup-config", now);
    let saved = session.handle.save_startup(&text);
    saved.map_err(|e| Error::Refused(format!("The startup configuration was not written: {e}")))?;
    Ok(Output::text("[########################################] 100%\nCopy complete.\n"))
}
