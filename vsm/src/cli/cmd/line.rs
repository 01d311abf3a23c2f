//! `line console` and `line vty`: how long sessions may be silent, and how many there may be.

use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};

const WORDS: &[(&str, &str)] = &[
    ("line", "Lines that people and programs sit at"),
    ("console", "Local console"),
    ("vty", "Virtual terminals: SSH"),
    ("exec-timeout", "Time without a keystroke after which a session is closed"),
    ("minutes", "Minutes, 0 for no limit"),
    ("session-limit", "Most sessions at a time"),
    ("sessions", "Sessions; those that are open stay"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "line console",
            help: "Change the local console",
            words: WORDS,
            no: None,
            run: |session, _| {
                session.enter(Mode::LineConsole, Subject::None);
                Ok(Output::none())
            },
        },
        Command {
            modes: &[Mode::Config],
            syntax: "line vty",
            help: "Change the virtual terminals",
            words: WORDS,
            no: None,
            run: |session, _| {
                session.enter(Mode::LineVty, Subject::None);
                Ok(Output::none())
            },
        },
        Command {
            modes: &[Mode::LineConsole, Mode::LineVty],
            syntax: "exec-timeout <minutes:num:0-525600>",
            help: "Time without a keystroke after which a session is closed",
            words: WORDS,
            no: Some("exec-timeout [<minutes:num:0-525600>]"),
            run: exec_timeout,
        },
        Command {
            modes: &[Mode::LineVty],
            syntax: "session-limit <sessions:num:1-256>",
            help: "Most sessions at a time",
            words: WORDS,
            no: Some("session-limit [<sessions:num:1-256>]"),
            run: session_limit,
        },
    ]
}

fn exec_timeout(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let minutes = args.number("minutes").filter(|_| !args.negated);
    let is_vty = session.mode() == Mode::LineVty;
    session.edit(Box::new(move |model| {
        let lines = &mut model.lines;
        *(if is_vty { &mut lines.vty_timeout_min } else { &mut lines.console_timeout_min }) = minutes;
        Ok(Vec::new())
    }))
}

fn session_limit(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let sessions = args.number("sessions").filter(|_| !args.negated).and_then(|n| u16::try_from(n).ok());
    session.edit(Box::new(move |model| {
        model.lines.vty_sessions = sessions;
        Ok(Vec::new())
    }))
}
