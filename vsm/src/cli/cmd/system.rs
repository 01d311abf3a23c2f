//! The switch as a whole: its name.

use super::target::text;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::Model;

const WORDS: &[(&str, &str)] = &[
    ("hostname", "Name of the switch"),
    ("switchname", "Name of the switch"),
    ("name", "Letters, digits, '.', '-' and '_', up to 63"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![Command {
        modes: &[Mode::Config],
        syntax: "{ hostname | switchname } <name:word>",
        help: "Name of the switch",
        words: WORDS,
        no: Some("{ hostname | switchname } [<name:word>]"),
        run: hostname,
    }]
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
