//! `show monitor`: sessions, whether they run, and what became of their copies.

use std::collections::BTreeMap;

use proto::config::SourceKind;
use proto::query::Query;
use proto::report::{Answer, SessionRow};

use super::exec;
use super::gather::{Asked, ask};
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::model::MonitorSession;

const WORDS: &[(&str, &str)] = &[("all", "All sessions"), ("number", "Session number")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show monitor", "Display monitor sessions, a line each", WORDS, |session, _| {
            let asked = rows(session);
            Ok(asked.warn(brief(&session.handle.model().sessions, &asked.rows)))
        }),
        exec("show monitor session { all | <number:num:1-256> }", "Display monitor sessions", WORDS, show),
    ]
}

fn rows(session: &Session) -> Asked<SessionRow> {
    ask(session, Query::Sessions, None, |answer| match answer {
        Answer::Sessions(rows) => Some(rows),
        _ => None,
    })
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let mut sessions = session.handle.model().sessions.clone();
    if let Some(number) = args.number("number") {
        sessions.retain(|id, _| u32::from(*id) == number);
        if sessions.is_empty() {
            return Err(Error::Refused(format!("Monitor session {number} does not exist")));
        }
    }
    let asked = rows(session);
    Ok(asked.warn(full(&sessions, &asked.rows)))
}

type Sessions = BTreeMap<u16, MonitorSession>;

/// Up when a module runs it; else why not, in the words of the first module that says.
fn state(id: u16, session: &MonitorSession, rows: &[(u8, SessionRow)]) -> (&'static str, String) {
    let own: Vec<&SessionRow> = rows.iter().map(|(_, row)| row).filter(|row| row.id == id).collect();
    match (session.shut, own.as_slice()) {
        (true, _) => ("down", "Session admin shut".to_owned()),
        (_, rows) if rows.iter().any(|row| row.down.is_none()) => ("up", "The session is up".to_owned()),
        (_, []) if session.sources.is_empty() => ("down", "No sources configured".to_owned()),
        (_, []) if !session.has_destination() => ("down", "No destination configured".to_owned()),
        (_, []) => ("down", "No module runs the session".to_owned()),
        (_, [first, ..]) => ("down", first.down.clone().unwrap_or_default()),
    }
}

/// A line per session.
pub fn brief(sessions: &Sessions, rows: &[(u8, SessionRow)]) -> Output {
    let mut table = Table::new("session")
        .left("Session", "session_number", 7)
        .left("State", "state", 11)
        .left("Reason", "state_reason", 22)
        .left("Description", "description", 32);
    for (id, session) in sessions {
        let (state, reason) = state(*id, session, rows);
        table.row([id.to_string(), state.to_owned(), reason, session.description.clone().unwrap_or_default()]);
    }
    table.output()
}

/// Sources of one kind: those of each direction.
fn sources(session: &MonitorSession, pick: fn(&SourceKind) -> Option<String>) -> [String; 3] {
    let of = |fits: fn(bool, bool) -> bool| {
        let fitting = session.sources.iter().filter(|source| fits(source.rx, source.tx));
        fitting.filter_map(|source| pick(&source.what)).collect::<Vec<_>>().join(" ")
    };
    [of(|rx, _| rx), of(|_, tx| tx), of(|rx, tx| rx && tx)]
}

/// A block per session.
pub fn full(sessions: &Sessions, rows: &[(u8, SessionRow)]) -> Output {
    type Pick = fn(&SourceKind) -> Option<String>;
    let kinds: [(&str, &str, Pick); 3] = [
        ("source intf", "intf", |what| match what {
            SourceKind::Interface(name) => Some(name.short()),
            _ => None,
        }),
        ("source VLANs", "vlan", |what| match what {
            SourceKind::Vlan(vlan) => Some(vlan.to_string()),
            _ => None,
        }),
        ("source port-profile", "port_profile", |what| match what {
            SourceKind::Profile(name) => Some(name.clone()),
            _ => None,
        }),
    ];
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    for (id, session) in sessions {
        let (state, reason) = state(*id, session, rows);
        let description = session.description.clone().unwrap_or_default();
        let destinations = session.destinations.iter().map(|name| name.short()).collect::<Vec<_>>().join(" ");
        let mut lines = vec![
            ("type".to_owned(), "type", session.kind.word().to_owned()),
            ("state".to_owned(), "state", format!("{state} ({reason})")),
            ("description".to_owned(), "description", description),
        ];
        let mut members = vec![("session_number".to_owned(), id.to_string())];
        for (title, key, pick) in kinds {
            lines.push((title.to_owned(), "", String::new()));
            for (way, names) in ["rx", "tx", "both"].into_iter().zip(sources(session, pick)) {
                members.push((format!("sources_{key}_{way}"), names.clone()));
                lines.push((format!("    {way}"), "", names));
            }
        }
        let unfiltered = || "filter not specified".to_owned();
        let vlans = session.filter_vlans.as_ref().map_or_else(unfiltered, |ids| ids.to_string());
        let acl = session.filter_acl.clone().unwrap_or_else(unfiltered);
        let profiles = session.destination_profiles.join(" ");
        lines.extend([
            ("filter VLANs".to_owned(), "filter_vlans", vlans),
            ("filter access-group".to_owned(), "filter_access_group", acl),
            ("destination ports".to_owned(), "destination_ports", destinations),
            ("destination port-profile".to_owned(), "destination_port_profiles", profiles),
        ]);
        let mut text = format!("   session {id}\n---------------\n");
        for (title, key, value) in lines {
            text.push_str(format!("{title:<20}: {value}").trim_end());
            text.push('\n');
            if !key.is_empty() {
                members.push((key.to_owned(), value));
            }
        }
        let copies = copies(*id, rows);
        if !copies.is_empty() {
            text.push_str(&format!("\n{}", copies.text()));
        }
        texts.push(text);
        objects.push(merged([leaves(members), copies.json()]));
    }
    Output::with_json(texts.join("\n"), table("session", objects))
}

/// What became of the copies, by module.
fn copies(id: u16, rows: &[(u8, SessionRow)]) -> Table {
    let mut table = Table::new("copies")
        .right("Mod", "mod", 3)
        .right("Copied", "copied", 12)
        .right("Dropped", "dropped", 12)
        .right("Segmented", "segmented", 12)
        .left("State", "state", 10);
    for (slot, row) in rows.iter().filter(|(_, row)| row.id == id) {
        let state = row.down.clone().unwrap_or_else(|| "up".to_owned());
        let counts = [row.copied, row.dropped, row.segmented].map(|n| n.to_string());
        table.row([slot.to_string()].into_iter().chain(counts).chain([state]));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = |id, down: Option<&str>| SessionRow {
            id,
            down: down.map(str::to_owned),
            copied: 1000,
            dropped: 3,
            segmented: 20,
        };
        let rows = [(3, row(1, None)), (4, row(1, Some("No operational destination")))];
        let sessions = sample::model().sessions;
        sample::check("monitor", &brief(&sessions, &rows));
        sample::check("monitor_session_all", &full(&sessions, &rows));
        let first = &sessions[&1];
        assert_eq!(state(1, first, &rows[1..]), ("down", "No operational destination".to_owned()));
        assert_eq!(state(1, first, &[]).1, "No module runs the session");
    }
}
