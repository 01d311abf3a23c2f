//! Moving between modes, and the settings of the terminal.

use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};

const EXEC: &[Mode] = &[Mode::Exec];

fn exec(syntax: &'static str, help: &'static str, no: Option<&'static str>, run: Run) -> Command {
    Command { modes: EXEC, syntax, help, words: WORDS, no, run }
}

const WORDS: &[(&str, &str)] = &[
    ("dont-ask", "Do not ask for confirmation"),
    ("enable", "Turn on privileged commands"),
    ("length", "Lines of a page, 0 for no pages"),
    ("lines", "Lines"),
    ("monitor", "Show the log on this terminal"),
    ("minutes", "Minutes, 0 for no limit"),
    ("session-timeout", "Time without a keystroke after which the session is closed"),
    ("width", "Columns"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("configure [terminal]", "Enter configuration mode", None, configure),
        exec("exit", "Exit from the current mode", None, |session, _| {
            session.leave();
            Ok(Output::none())
        }),
        exec("end", "Go to EXEC mode", None, |session, _| {
            session.end();
            Ok(Output::none())
        }),
        // There is one level; clients of other systems ask for it.
        exec("enable", "Turn on privileged commands", None, nothing),
        exec("terminal length <lines:num:0-511>", "Lines of a page", Some("terminal length"), |session, args| {
            let length = args.number("lines").unwrap_or(24) as usize;
            session.set(|settings| settings.length = length);
            Ok(Output::none())
        }),
        exec(
            "terminal width <lines:num:24-511>",
            "Columns of the terminal",
            Some("terminal width"),
            |session, args| {
                let width = args.number("lines").unwrap_or(80) as usize;
                session.set(|settings| settings.width = width);
                Ok(Output::none())
            },
        ),
        exec(
            "terminal session-timeout <minutes:num:0-525600>",
            "Minutes without a keystroke after which the session is closed",
            Some("terminal session-timeout"),
            |session, args| {
                let minutes = args.number("minutes").filter(|_| !args.negated);
                session.set(|settings| settings.timeout_min = minutes);
                Ok(Output::none())
            },
        ),
        // No command asks for confirmation.
        exec("terminal dont-ask", "Do not ask for confirmation", Some("terminal dont-ask"), nothing),
        exec("terminal monitor", "Show the log on this terminal", Some("terminal monitor"), |session, args| {
            let monitor = !args.negated;
            session.set(|settings| settings.monitor = monitor);
            Ok(Output::none())
        }),
    ]
}

fn configure(session: &mut Session, _: &Args) -> Result<Output, Error> {
    // A configuration session is left.
    session.end();
    session.enter(Mode::Config, Subject::None);
    Ok(Output::text("Enter configuration commands, one per line.  End with CNTL/Z.\n"))
}

fn nothing(_: &mut Session, _: &Args) -> Result<Output, Error> {
    Ok(Output::none())
}
