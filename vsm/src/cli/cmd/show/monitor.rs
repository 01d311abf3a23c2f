//! `show monitor`: sessions, whether they run, and what became of their copies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto::addr::VlanId;
use proto::config::SourceKind;
use proto::query::Query;
use proto::report::{Answer, SessionRow};
use proto::vlan::VlanSet;

use super::exec;
use super::gather::{Asked, ask};
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::model::{HeaderType, MonitorSession, SessionType};
use crate::config::monitor::{ErspanSettings, TTL};

const WORDS: &[(&str, &str)] = &[
    ("all", "All sessions"),
    ("brief", "A line each"),
    ("list", "Session numbers, such as 1-3,7"),
    ("number", "Session number"),
    ("range", "Several sessions"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show monitor", "Display monitor sessions, a line each", WORDS, |session, _| {
            let asked = rows(session);
            Ok(asked.warn(brief(&session.handle.model().sessions, &asked.rows)))
        }),
        exec(
            "show monitor session { all | range <list:word> | <number:num:1-256> } [brief]",
            "Display monitor sessions",
            WORDS,
            show,
        ),
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
    if let Some(list) = args.text("list") {
        let wanted: VlanSet = list.parse().map_err(|_| Error::Refused(format!("'{list}' is no list of sessions")))?;
        sessions.retain(|id, _| VlanId::new(*id).is_some_and(|id| wanted.contains(id)));
    }
    let asked = rows(session);
    let shown = if args.has("brief") { brief } else { full };
    Ok(asked.warn(shown(&sessions, &asked.rows)))
}

type Sessions = BTreeMap<u16, MonitorSession>;

/// Up when a module runs it; else why not, in the words of the first module that says.
fn state(id: u16, session: &MonitorSession, rows: &[(u8, SessionRow)]) -> (&'static str, String) {
    let own: Vec<&SessionRow> = rows.iter().map(|(_, row)| row).filter(|row| row.id == id).collect();
    match (session.shut, own.as_slice()) {
        (true, _) => ("down", "Session admin shut".to_owned()),
        (_, rows) if rows.iter().any(|row| row.down.is_none()) => ("up", "The session is up".to_owned()),
        (_, []) if session.sources.is_empty() && session.kind != SessionType::ErspanDestination => {
            ("down", "No sources configured".to_owned())
        }
        (_, _) if session.kind == SessionType::ErspanSource && session.erspan.lacks_origin() => {
            ("down", "No origin of the family of the destination".to_owned())
        }
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

/// How copies are sent, in the words of the Nexus 1000V.
fn erspan(said: &ErspanSettings) -> [(String, &'static str, String); 9] {
    fn or_none(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let dscp = said.dscp.unwrap_or(0);
    [
        ("destination IP", "destination_ip", or_none(said.destination)),
        ("origin IP", "origin_ip", or_none(said.origin)),
        ("ERSPAN ID", "erspan_id", or_none(said.id)),
        ("ERSPAN TTL", "erspan_ttl", said.ttl.unwrap_or(TTL).to_string()),
        ("ERSPAN IP Prec.", "erspan_ip_prec", (dscp >> 3).to_string()),
        ("ERSPAN DSCP", "erspan_dscp", dscp.to_string()),
        ("ERSPAN Header Type", "erspan_header_type", said.header.unwrap_or(HeaderType::Two).words().to_owned()),
        ("VLAN tags", "vlan_tags", if said.keep_tag { "in the frame" } else { "in the header" }.to_owned()),
        ("fragment", "fragment", if said.fragment { "yes" } else { "no" }.to_owned()),
    ]
    .map(|(title, key, value)| (title.to_owned(), key, value))
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
        let watched = kinds.into_iter().filter(|_| session.kind != SessionType::ErspanDestination);
        for (title, key, pick) in watched {
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
        let bpf = session.filter_bpf.as_ref().map_or_else(unfiltered, |filter| filter.text.clone());
        let drops = session.sources.iter().filter_map(|source| match &source.what {
            SourceKind::Drops(reason) => Some(reason.as_deref().unwrap_or("any")),
            _ => None,
        });
        let drops = drops.collect::<Vec<_>>().join(" ");
        let selects = [
            ("source drops".to_owned(), "source_drops", drops),
            ("filter VLANs".to_owned(), "filter_vlans", vlans),
            ("filter access-group".to_owned(), "filter_access_group", acl),
            ("filter bpf".to_owned(), "filter_bpf", bpf),
            ("sampling".to_owned(), "sampling", session.sampling.map_or_else(String::new, |n| format!("1 of {n}"))),
            ("mtu".to_owned(), "mtu", session.mtu.map_or_else(String::new, |octets| octets.to_string())),
            ("scope".to_owned(), "scope", if session.every_host { "all" } else { "once" }.to_owned()),
        ];
        lines.extend(selects.into_iter().filter(|_| session.kind != SessionType::ErspanDestination));
        let ports = [
            ("destination ports".to_owned(), "destination_ports", destinations),
            ("destination port-profile".to_owned(), "destination_port_profiles", profiles),
        ];
        match session.kind {
            SessionType::Local => lines.extend(ports),
            SessionType::ErspanSource => lines.extend(erspan(&session.erspan)),
            SessionType::ErspanDestination => lines.extend(received_by(session).into_iter().chain(ports)),
        }
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
        let losses = losses(*id, rows);
        if !losses.is_empty() {
            text.push_str(&format!("\n{}", losses.text()));
        }
        let (received, turned) = (received(*id, rows), turned_away(*id, rows));
        for table in [&received, &turned].into_iter().filter(|table| !table.is_empty()) {
            text.push_str(&format!("\n{}", table.text()));
        }
        texts.push(text);
        let tables = [copies.json(), losses.json(), received.json(), turned.json()];
        objects.push(merged([leaves(members)].into_iter().chain(tables)));
    }
    Output::with_json(texts.join("\n"), table("session", objects))
}

/// What became of the copies, by module.
fn copies(id: u16, rows: &[(u8, SessionRow)]) -> Table {
    let mut table = Table::new("copies")
        .right("Mod", "mod", 3)
        .right("Matched", "matched", 12)
        .right("Copied", "copied", 12)
        .right("Truncated", "truncated", 10)
        .right("Segmented", "segmented", 10)
        .right("Dropped", "dropped", 12)
        .left("State", "state", 10);
    for (slot, row) in rows.iter().filter(|(_, row)| row.id == id) {
        let state = match (&row.down, row.relayed.as_deref().unwrap_or_default()) {
            (Some(down), _) => down.clone(),
            (None, []) => "up".to_owned(),
            (None, [one]) => format!("relayed to module {one}"),
            (None, several) => {
                let several: Vec<String> = several.iter().map(u8::to_string).collect();
                format!("relayed to modules {}", several.join(", "))
            }
        };
        // A module of an older version does not count these.
        let or_dash = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let (matched, truncated) = (or_dash(row.matched), or_dash(row.truncated));
        let [copied, segmented, dropped] = [row.copied, row.segmented, row.dropped].map(|n| n.to_string());
        table.row([slot.to_string(), matched, copied, truncated, segmented, dropped, state]);
    }
    table
}

/// Which copies a session takes of others.
fn received_by(session: &MonitorSession) -> [(String, &'static str, String); 3] {
    let or_any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
    let origins: Vec<String> = session.origins.iter().map(IpAddr::to_string).collect();
    [
        ("source IP".to_owned(), "source_ip", or_any(session.receive_at.map(|at| at.to_string()))),
        ("ERSPAN ID".to_owned(), "erspan_id", session.erspan.id.map(|id| id.to_string()).unwrap_or_default()),
        ("filter origin".to_owned(), "filter_origin", or_any(Some(origins.join(" ")).filter(|text| !text.is_empty()))),
    ]
}

/// Copies of other hosts, by module.
fn received(id: u16, rows: &[(u8, SessionRow)]) -> Table {
    let mut table = Table::new("received")
        .right("Mod", "mod", 3)
        .right("Received", "received", 12)
        .right("Truncated", "received_truncated", 10)
        .right("Missing", "missing", 12)
        .right("Late", "late", 12)
        .right("Other origin", "other_origin", 12);
    for (slot, row) in rows.iter().filter(|(_, row)| row.id == id) {
        if let Some(it) = row.received {
            let cells = [it.copies, it.truncated, it.missing, it.late, it.unwelcome].map(|n| n.to_string());
            let [copies, truncated, missing, late, unwelcome] = cells;
            table.row([slot.to_string(), copies, truncated, missing, late, unwelcome]);
        }
    }
    table
}

/// Packets that no session took, by module.
fn turned_away(id: u16, rows: &[(u8, SessionRow)]) -> Table {
    let mut table = Table::new("refused")
        .right("Mod", "mod", 3)
        .left("Refused, of all sessions", "refused", 24)
        .right("Packets", "packets", 12);
    for (slot, row) in rows.iter().filter(|(_, row)| row.id == id) {
        for (reason, count) in row.turned_away.iter().flatten() {
            table.row([slot.to_string(), reason.clone(), count.to_string()]);
        }
    }
    table
}

/// Why copies were lost, by module.
fn losses(id: u16, rows: &[(u8, SessionRow)]) -> Table {
    let mut table =
        Table::new("losses").right("Mod", "mod", 3).left("Lost", "reason", 18).right("Copies", "copies", 12);
    for (slot, row) in rows.iter().filter(|(_, row)| row.id == id) {
        for (reason, count) in row.losses.iter().flatten() {
            table.row([slot.to_string(), reason.clone(), count.to_string()]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::report::ReceivedCopies;

    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = |id, down: Option<&str>| SessionRow {
            id,
            down: down.map(str::to_owned),
            copied: 1000,
            dropped: 3,
            segmented: 20,
            matched: Some(1003),
            truncated: Some(7),
            losses: Some(vec![("destination-full".to_owned(), 2), ("mirror-busy".to_owned(), 1)]),
            relayed: Some(vec![4]).filter(|_| id == 2),
            ..SessionRow::default()
        };
        let received = ReceivedCopies { copies: 50, truncated: 2, missing: 4, late: 1, unwelcome: 6 };
        let turned_away = Some(vec![("gre-flags".to_owned(), 5), ("no-session".to_owned(), 9)]);
        let receiving = SessionRow { received: Some(received), turned_away, ..row(3, None) };
        let rows = [
            (3, row(1, None)),
            (4, row(1, Some("No operational destination"))),
            (3, row(2, None)),
            (3, receiving),
            (4, row(3, Some("192.0.2.1 is not on this host"))),
        ];
        let sessions = sample::model().sessions;
        sample::check("monitor", &brief(&sessions, &rows));
        sample::check("monitor_session_all", &full(&sessions, &rows));
        let first = &sessions[&1];
        assert_eq!(state(1, first, &rows[1..2]), ("down", "No operational destination".to_owned()));
        assert_eq!(state(1, first, &[]).1, "No module runs the session");
    }
}
