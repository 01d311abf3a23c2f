//! `show configuration session`

use std::time::SystemTime;

use super::configuration::context_diff;
use super::exec;
use super::impact::impact;
use crate::cli::render::{Output, Table, leaves, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::running::{self, Part, date};
use crate::lifecycle::drafts::Draft;

const WORDS: &[(&str, &str)] = &[
    ("configuration", "Configuration sessions"),
    ("session", "Configuration sessions"),
    ("summary", "One line for each session"),
    ("name", "Name of the session"),
    ("diff", "What the session would change"),
    ("impact", "What the session would change on each module"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show configuration session [ summary | <name:word80> ]",
            "Display configuration sessions and their commands",
            WORDS,
            sessions,
        ),
        exec("show configuration session <name:word80> diff", "Display what a session would change", WORDS, diff),
        exec(
            "show configuration session <name:word80> impact",
            "Display what a session would change on each module, and who would refuse it",
            WORDS,
            |session, args| impact(session, args.text("name").unwrap_or_default()),
        ),
    ]
}

/// A session with its name, and until when its commit waits.
pub type Row = (String, Draft, Option<SystemTime>);

fn rows(session: &Session, name: Option<&str>) -> Result<Vec<Row>, Error> {
    let life = session.handle.lifecycle();
    let waiting = life.trial.waiting();
    let until = |name: &str| waiting.as_ref().filter(|(draft, _)| draft == name).map(|(_, until)| *until);
    let wanted = life.drafts.all().into_iter().filter(|(other, _)| name.is_none_or(|name| name == other));
    let rows: Vec<Row> = wanted.map(|(name, draft)| (name.clone(), draft, until(&name))).collect();
    match name {
        Some(name) if rows.is_empty() => Err(Error::Refused(format!("Session '{name}' does not exist"))),
        _ => Ok(rows),
    }
}

fn sessions(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let rows = rows(session, args.text("name"))?;
    Ok(if args.has("summary") { summary(&rows, SystemTime::now()) } else { whole(&rows) })
}

/// A line for each.
pub fn summary(rows: &[Row], now: SystemTime) -> Output {
    let mut table = Table::new("session")
        .left("Name", "name", 16)
        .left("Owner", "owner", 8)
        .left("Creation Time", "created", 24)
        .right("Commands", "commands", 8)
        .left("State", "state", 6);
    for (name, draft, until) in rows {
        let state = match until.map(|until| until.duration_since(now).map_or(0, |left| left.as_secs())) {
            Some(seconds) => format!("waits for its confirmation, {seconds} s left"),
            None if draft.in_use => "open".to_owned(),
            None => "left".to_owned(),
        };
        table.row([name.clone(), draft.by.clone(), date(draft.since), draft.lines.len().to_string(), state]);
    }
    table.output()
}

/// The commands.
pub fn whole(rows: &[Row]) -> Output {
    let mut text = String::new();
    let mut json = Vec::new();
    for (name, draft, _) in rows {
        text.push_str(&format!("config session {name}\n"));
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(&draft.lines) {
            let shown = format!("{}{}", "  ".repeat(line.depth.unwrap_or(0)), line.text);
            text.push_str(&format!("{number:04}  {shown}\n"));
            lines.push(leaves([("number", number.to_string()), ("command", shown)]));
        }
        text.push('\n');
        json.push(crate::cli::render::merged([leaves([("name", name)]), table("command", lines)]));
    }
    text.push_str(&format!("Number of active configuration sessions = {}\n", rows.len()));
    Output::with_json(text, table("session", json))
}

fn diff(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let rows = rows(session, args.text("name"))?;
    let Some((name, draft, _)) = rows.first() else { return Ok(Output::none()) };
    let next = session.handle.foresee(&draft.lines).map_err(Error::Refused)?;
    let [before, after] = [&*session.handle.model(), &next].map(|model| running::body(model, &Part::Whole));
    let text = context_diff(["Running-config", &format!("Session {name}")], &before, &after);
    Ok(Output::with_json(text.clone(), leaves([("diff", text)])))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::startup::Line;

    #[test]
    fn rendered() {
        let now = sample::now();
        let line = |depth, text: &str| Line { depth: Some(depth), text: text.into() };
        let lines = vec![line(0, "vlan 10"), line(1, "name web"), line(0, "hostname moved")];
        let draft = |lines, in_use| Draft { by: "admin".into(), since: now, lines, in_use };
        let rows = [
            ("move".to_owned(), draft(lines.clone(), true), None),
            ("next-week".to_owned(), draft(Vec::new(), false), None),
            ("tonight".to_owned(), draft(lines, false), Some(now + Duration::from_secs(90))),
        ];
        sample::check("configuration_session_summary", &summary(&rows, now));
        sample::check("configuration_session", &whole(&rows[..2]));
    }
}
