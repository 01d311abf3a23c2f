//! `show terminal`, `show privilege`

use crate::cli::render::{Output, leaves};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Exec],
            syntax: "show terminal",
            help: "Display terminal settings",
            words: &[],
            no: None,
            run: show_terminal,
        },
        Command {
            modes: &[Mode::Exec],
            syntax: "show privilege",
            help: "Show the current privilege level",
            words: &[("privilege", "Show the current privilege level")],
            no: None,
            run: show_privilege,
        },
    ]
}

fn show_terminal(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let settings = session.settings();
    let text = format!(
        "TTY: console\nLength: {} lines, Width: {} columns\nSession Timeout: {} minutes\nTerminal monitor: {}\n",
        settings.length,
        settings.width,
        session.timeout_min(),
        if settings.monitor { "on" } else { "off" },
    );
    let json = leaves([
        ("length", settings.length.to_string()),
        ("width", settings.width.to_string()),
        ("session_timeout", session.timeout_min().to_string()),
    ]);
    Ok(Output::with_json(text, json))
}

fn show_privilege(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let roles = session.roles().unwrap_or_default().join(" ");
    let level = if session.is_admin() { "15" } else { "1" };
    let json = leaves([("user_role", roles.as_str()), ("priv_lvl", level)]);
    Ok(Output::with_json(format!("Current privilege level: {level}\nUser role: {roles}\n"), json))
}
