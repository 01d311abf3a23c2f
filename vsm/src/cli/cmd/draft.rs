//! Configuration sessions: `configure session`, `verify`, `commit`, `abort`.

use std::time::{Duration, SystemTime};

use super::show::impact::impact;
use super::source::refused;
use super::target::text;
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::folder;
use crate::lifecycle::drafts::Claim;

const WORDS: &[(&str, &str)] = &[
    ("session", "Configuration session"),
    ("name", "Name of the session"),
    ("verify", "Check the commands of the session"),
    ("commit", "Apply the commands of the session"),
    ("confirmed", "Come back to the configuration before unless 'commit' confirms"),
    ("minutes", "Minutes"),
    ("abort", "Forget the session"),
    ("dry-run", "Ask what would happen"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let own =
        |syntax, help, run: Run| Command { modes: &[Mode::ConfigSession], syntax, help, words: WORDS, no: None, run };
    vec![
        Command {
            modes: &[Mode::Exec],
            syntax: "configure session <name:word80>",
            help: "Collect commands, to apply them all at once",
            words: WORDS,
            no: None,
            run: configure,
        },
        own(
            "verify",
            "Check the commands of the session against the running configuration, and with every module",
            verify,
        ),
        own(
            "commit [confirmed <minutes:num:1-1440>]",
            "Apply the commands of the session, all or none; confirm it when it waits",
            commit,
        ),
        own("commit dry-run", "Ask every module what a commit would do; nothing is changed", |session, _| {
            let name = drafting(session)?;
            session.handle.lifecycle().trial.refuse().map_err(Error::Refused)?;
            impact(session, &name)
        }),
        own("abort", "Forget the session; a commit that waits for its confirmation is taken back", |session, _| {
            let name = drafting(session)?;
            session.handle.abort(&name)?;
            session.end();
            Ok(Output::none())
        }),
    ]
}

fn configure(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = text(args, "name")?;
    folder::check_name(&name).map_err(refused)?;
    if "summary".starts_with(&name) {
        return Err(Error::Refused(format!(
            "'{name}' would be taken for the 'summary' of 'show configuration session'"
        )));
    }
    let started = format!("Config Session started, Session name is {name}\n");
    if session.draft() == Some(&name) {
        session.enter(Mode::Config, Subject::None);
        return Ok(Output::text(started));
    }
    let claim = Claim::take(&session.handle, &name, session.who(), SystemTime::now()).map_err(Error::Refused)?;
    let waits = session.handle.lifecycle().trial.is_of(&name);
    let wrong = session.enter_draft(claim);
    let mut said = String::new();
    if waits {
        said.push_str("The commit of the session waits for its confirmation: 'commit' or 'abort'\n");
    } else {
        said.extend(wrong.iter().map(|error| format!("Warning: {error}\n")));
    }
    Ok(Output::text(started + &said))
}

fn drafting(session: &Session) -> Result<String, Error> {
    let outside = || Error::Refused("The command belongs to a configuration session".to_owned());
    session.draft().map(str::to_owned).ok_or_else(outside)
}

fn verify(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let name = drafting(session)?;
    let life = session.handle.lifecycle();
    life.trial.refuse().map_err(Error::Refused)?;
    let lines = life.drafts.get(&name).map(|draft| draft.lines).unwrap_or_default();
    let checked = session.handle.foresee(&lines);
    let failed = |why: String| Error::Refused(format!("Verification failed: {why}"));
    let refusals = session.handle.try_on_modules(checked.map_err(failed)?);
    if let Some((slot, why)) = refusals.map_err(|error| failed(error.to_string()))?.first() {
        return Err(failed(format!("module {slot}: {}", crate::log::clean(why, 300))));
    }
    Ok(Output::text("Verification Successful\n"))
}

fn commit(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = drafting(session)?;
    // They may be somebody else's.
    let lines = session.handle.lifecycle().drafts.get(&name).map(|draft| draft.lines).unwrap_or_default();
    session.may_type(&lines)?;
    let minutes = args.number("minutes");
    let within = minutes.map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
    let done = session.handle.commit(&name, within);
    let warnings = done.map_err(|why| Error::Refused(format!("Commit failed: {why}")))?;
    let mut said: String = warnings.iter().map(|warning| format!("Warning: {warning}\n")).collect();
    said.push_str("Commit Successful\n");
    match minutes {
        Some(minutes) => said.push_str(&format!(
            "The configuration before comes back in {minutes} minute{} unless 'commit' confirms this one\n",
            if minutes == 1 { "" } else { "s" }
        )),
        None => session.end(),
    }
    Ok(Output::text(said))
}
