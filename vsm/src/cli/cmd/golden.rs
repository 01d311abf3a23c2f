//! Golden configurations: `golden save`, `golden delete`. What they are for is in [`super::show::audit`].

use std::time::{SystemTime, UNIX_EPOCH};

use super::source::refused;
use super::target::text;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::checkpoint::Checkpoint;
use crate::config::running::{self, Part};
use crate::folder;
use crate::lifecycle::GOLDEN_MAX;

const WORDS: &[(&str, &str)] = &[
    ("golden", "Golden configuration, which 'audit' compares with"),
    ("save", "Keep the running configuration as a golden one"),
    ("delete", "Remove a golden configuration"),
    ("name", "Name of the golden configuration"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let exec = |syntax, help, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no: None, run };
    vec![
        exec("golden save <name:word80>", "Keep the running configuration as a golden one", save),
        exec("golden delete <name:word80>", "Remove a golden configuration", |session, args| {
            let name = text(args, "name")?;
            match session.handle.lifecycle().golden.remove(&name).map_err(refused)? {
                true => Ok(Output::text("Done\n")),
                false => Err(Error::Refused(format!("Golden configuration {name} does not exist"))),
            }
        }),
    ]
}

fn save(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = text(args, "name")?;
    // What is tried out is not what anybody wants to come back to.
    session.handle.lifecycle().trial.refuse().map_err(Error::Refused)?;
    let now = SystemTime::now();
    let at_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = running::text(&session.handle.model(), &Part::Whole, &format!("golden save {name}"), now);
    let kept = Checkpoint { name: name.clone(), by: session.who().to_owned(), at_s, description: None, text };
    match session.handle.lifecycle().golden.create(&name, &kept.file(), now) {
        Ok(()) => Ok(Output::text("Done\n")),
        Err(folder::Error::Exists(_)) => Err(Error::Refused(format!(
            "Golden configuration {name} exists already; 'golden delete {name}' removes it"
        ))),
        Err(folder::Error::Full(_)) => {
            Err(Error::Refused(format!("There are {GOLDEN_MAX} golden configurations already")))
        }
        Err(other) => Err(refused(other)),
    }
}
