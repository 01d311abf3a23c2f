//! Checkpoints, and the way back to them.
//!
//! A rollback is atomic: it goes through like any other change, on every module or on none, so the other kinds of NX-OS
//! are refused.

use std::time::{SystemTime, UNIX_EPOCH};

use super::source::{Source, file_name, refused};
use super::target::{short, text};
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::checkpoint::{CHECKPOINTS_MAX, Checkpoint, DESCRIPTION_MAX, check_name, free_name};
use crate::config::patch::{indented, patch};
use crate::config::running::{self, Part};
use crate::folder;

const WORDS: &[(&str, &str)] = &[
    ("checkpoint", "Checkpoint of the configuration"),
    ("name", "Name of the checkpoint"),
    ("description", "What it is for"),
    ("text", "Up to 80 characters"),
    ("file", "A file of bootflash:"),
    ("path", "File, such as bootflash:NAME"),
    ("database", "All checkpoints"),
    ("rollback", "Go back to another configuration"),
    ("running-config", "The configuration that runs"),
    ("startup-config", "The configuration of the next start"),
    ("atomic", "All of it or nothing, which is what happens anyway"),
    ("best-effort", "Not possible here"),
    ("stop-at-first-failure", "Not possible here"),
];

const REPLACE: &[(&str, &str)] = &[
    ("replace", "Put a file in place of the running configuration"),
    ("path", "File, such as bootflash:NAME"),
    ("best-effort", "A file with errors is refused all the same"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let exec = |syntax, help, no, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no, run };
    vec![
        exec(
            "checkpoint [<name:word80>] [description <text:line>]",
            "Keep the running configuration under a name",
            Some("checkpoint <name:word80>"),
            checkpoint,
        ),
        exec("checkpoint file <path:word80>", "Keep the running configuration as a file", None, |session, args| {
            let name = file_name(&text(args, "path")?)?;
            let (text, now) = (Source::Running.text(session)?, SystemTime::now());
            session.handle.lifecycle().files.write(&name, &text, now).map_err(refused)?;
            Ok(Output::text("Done\n"))
        }),
        exec("clear checkpoint database", "Remove all checkpoints", None, |session, _| {
            let folder = &session.handle.lifecycle().checkpoints;
            for entry in folder.list().map_err(refused)? {
                folder.remove(&entry.name).map_err(refused)?;
            }
            Ok(Output::text("Done\n"))
        }),
        exec(
            "rollback running-config { checkpoint <name:word80> | file <path:word80> | startup-config } \
             [<kind=atomic|best-effort|stop-at-first-failure>]",
            "Put another configuration in place of the running one",
            None,
            rollback,
        ),
        Command {
            modes: &[Mode::Exec],
            syntax: "configure replace <path:word80> [best-effort]",
            help: "Put the configuration of a file in place of the running one",
            words: REPLACE,
            no: None,
            run: |session, args| {
                let (from, said) = (Source::File(file_name(&text(args, "path")?)?), "Generating Rollback patch");
                put(session, &from, &format!("{said}\n"), "Configure replace completed successfully.")
            },
        },
    ]
}

fn checkpoint(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let folder = &session.handle.lifecycle().checkpoints;
    if args.negated {
        let name = text(args, "name")?;
        return match folder.remove(&name).map_err(refused)? {
            true => Ok(Output::text("Done\n")),
            false => Err(Error::Refused(format!("Checkpoint {name} does not exist"))),
        };
    }
    let description = args.text("text").map(|_| short(args, "text", DESCRIPTION_MAX)).transpose()?;
    let taken = folder.list().map_err(refused)?;
    let (name, said) = match args.text("name") {
        Some(name) => (name.to_owned(), String::new()),
        None => {
            let name = free_name(|name| taken.iter().any(|entry| entry.name == name));
            let name = name.ok_or_else(full)?;
            (name.clone(), format!("{name} created Successfully\n\n"))
        }
    };
    check_name(&name).map_err(Error::Refused)?;
    let now = SystemTime::now();
    let at_s = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = running::text(&session.handle.model(), &Part::Whole, &format!("checkpoint {name}"), now);
    let kept = Checkpoint { name: name.clone(), by: session.who().to_owned(), at_s, description, text };
    match folder.create(&name, &kept.file(), now) {
        Ok(()) => Ok(Output::text(format!("{said}Done\n"))),
        Err(folder::Error::Exists(_)) => Err(Error::Refused(format!("Checkpoint {name} exists already"))),
        Err(folder::Error::Full(_)) => Err(full()),
        Err(other) => Err(refused(other)),
    }
}

fn full() -> Error {
    Error::Refused(format!("There are {CHECKPOINTS_MAX} checkpoints already; 'no checkpoint NAME' removes one"))
}

fn rollback(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if let Some(kind) = args.text("kind").filter(|kind| *kind != "atomic") {
        let why = "a change is made on every module or on none";
        return Err(Error::Refused(format!("'{kind}' is not possible: {why}, so a rollback is atomic")));
    }
    let from = match (args.text("name"), args.text("path")) {
        (Some(name), _) => Source::Checkpoint(name.to_owned()),
        (_, Some(path)) => Source::File(file_name(path)?),
        _ => Source::Startup,
    };
    put(session, &from, "Collecting Running-Config\n#Generating Rollback Patch\n", "Rollback completed successfully.")
}

/// Puts it in place of the running configuration, whole or not at all; says `before` and `after`.
fn put(session: &mut Session, from: &Source, before: &str, after: &str) -> Result<Output, Error> {
    let next = from.model(session)?;
    let steps = patch(&session.handle.model(), &next);
    session.may_type(&indented(&steps))?;
    let steps = match steps.is_empty() {
        true => "Rollback Patch is Empty\n",
        false => "Executing Rollback Patch\n",
    };
    let done = session.handle.replace(next);
    let warnings = done.map_err(|why| Error::Refused(format!("Rollback failed. {why}")))?;
    let warnings = warnings.iter().map(|warning| format!("Warning: {warning}\n")).collect::<String>();
    Ok(Output::text(format!("{before}{steps}{warnings}\n{after}\n")))
}
