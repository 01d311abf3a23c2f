//! Monitor sessions (SPAN): what is watched, and where the copies go.
//!
//! A new session is shut until `no shut`. What a session names need not exist yet: an interface may be attached and a
//! VLAN made later, and the session then runs there.

use proto::config::SourceKind;
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::target::{Outcome, edit_session, short, text, wanted};
use super::vlan::warn_missing;
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{Model, MonitorSession, SessionSource};

/// Most sources of a kind, and most destinations, of a session.
const INTERFACES_MAX: usize = 128;
const VLANS_MAX: usize = 32;
const PROFILES_MAX: usize = 16;
const DESTINATIONS_MAX: usize = 32;

const WORDS: &[(&str, &str)] = &[
    ("monitor", "Monitor"),
    ("session", "Monitor session"),
    ("id", "Number of the session"),
    ("all", "All sessions"),
    ("type", "Type of the session"),
    ("local", "Copies go to an interface of the same host"),
    ("description", "Free text"),
    ("text", "Up to 32 characters"),
    ("source", "What is watched"),
    ("destination", "Where the copies go"),
    ("interface", "Interfaces"),
    ("names", "Interfaces, such as vethernet 1-4"),
    ("vlan", "Every port in VLANs"),
    ("ids", "VLANs, such as 1-5,10"),
    ("port-profile", "Every port of a profile"),
    ("name", "Profile"),
    ("rx", "Frames that enter the switch there"),
    ("tx", "Frames that leave the switch there"),
    ("both", "Both"),
    ("shut", "Stop the session"),
];

fn sub(syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes: &[Mode::Monitor], syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    let source = "source { interface <names:ifs> | vlan <ids:vlans> | port-profile <name:word80> } [<way=rx|tx|both>]";
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "monitor session <id:num:1-32> [type local]",
            help: "Create a monitor session and change it",
            words: WORDS,
            no: Some("monitor session { <id:num:1-32> | all }"),
            run: session_command,
        },
        sub("description <text:line>", "Free text", "description [<text:line>]", |session, args| {
            let text = if args.negated { None } else { Some(short(args, "text", 32)?) };
            edit_session(session, move |session, _| {
                session.description = text;
                Ok(Vec::new())
            })
        }),
        sub(source, "What is watched", source, sources),
        sub(
            "destination interface <names:ifs>",
            "Where the copies go",
            "destination interface <names:ifs>",
            destinations,
        ),
        sub("shut", "Stop the session", "shut", |session, args| {
            let shut = !args.negated;
            edit_session(session, move |session, _| {
                session.shut = shut;
                let lacks = !shut && (session.sources.is_empty() || session.destinations.is_empty());
                let what = "The session needs a source and a destination to run";
                Ok(if lacks { vec![what.to_owned()] } else { Vec::new() })
            })
        }),
    ]
}

fn session_command(session: &mut Session, args: &Args) -> Result<Output, Error> {
    if args.negated {
        let id = args.number("id");
        return session.edit(Box::new(move |model| {
            let before = model.sessions.len();
            model.sessions.retain(|other, _| id.is_some_and(|id| u32::from(*other) != id));
            match id.filter(|_| model.sessions.len() == before) {
                Some(id) => Err(format!("Monitor session {id} does not exist")),
                None => Ok(Vec::new()),
            }
        }));
    }
    let id = wanted(args.number("id").and_then(|id| u8::try_from(id).ok()))?;
    let output = session.edit(Box::new(move |model| {
        model.sessions.entry(id).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::Monitor, Subject::Number(id.into()));
    Ok(output)
}

fn kinds(args: &Args) -> Result<Vec<SourceKind>, Error> {
    if let Some(ids) = args.vlans("ids") {
        return Ok(ids.iter().map(SourceKind::Vlan).collect());
    }
    match args.interfaces("names") {
        [] => Ok(vec![SourceKind::Profile(text(args, "name")?)]),
        names => Ok(names.iter().map(|name| SourceKind::Interface(*name)).collect()),
    }
}

fn sources(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let kinds = kinds(args)?;
    let (rx, tx) = match args.text("way") {
        Some("rx") => (true, false),
        Some("tx") => (false, true),
        _ => (true, true),
    };
    if args.negated {
        return edit_session(session, move |session, _| forget(session, &kinds, rx, tx));
    }
    edit_session(session, move |session, model| watch(session, model, kinds, rx, tx))
}

/// Typing a source again sets its directions anew.
fn watch(session: &mut MonitorSession, model: &Model, kinds: Vec<SourceKind>, rx: bool, tx: bool) -> Outcome {
    let mut warnings = Vec::new();
    let mut ids = VlanSet::EMPTY;
    for what in kinds {
        match &what {
            SourceKind::Interface(IfName::Mgmt0) => return Err("mgmt0 does not switch frames".to_owned()),
            SourceKind::Interface(name) if session.destinations.contains(name) => {
                return Err(format!("{name} is a destination of the session"));
            }
            SourceKind::Vlan(id) => ids.insert(*id),
            SourceKind::Profile(name) if !model.profiles.contains_key(name) => {
                warnings.push(format!("Port-profile '{name}' does not exist"));
            }
            _ => {}
        }
        match session.sources.iter_mut().find(|source| source.what == what) {
            Some(source) => (source.rx, source.tx) = (rx, tx),
            None => session.sources.push(SessionSource { what, rx, tx }),
        }
    }
    let count = |is: fn(&SourceKind) -> bool| session.sources.iter().filter(|s| is(&s.what)).count();
    let limits = [
        (count(|s| matches!(s, SourceKind::Interface(_))), INTERFACES_MAX, "source interfaces"),
        (count(|s| matches!(s, SourceKind::Vlan(_))), VLANS_MAX, "source VLANs"),
        (count(|s| matches!(s, SourceKind::Profile(_))), PROFILES_MAX, "source profiles"),
    ];
    if let Some((_, most, what)) = limits.iter().find(|(n, most, _)| n > most) {
        return Err(format!("A session has at most {most} {what}"));
    }
    warnings.extend(warn_missing(model, &ids));
    Ok(warnings)
}

fn forget(session: &mut MonitorSession, kinds: &[SourceKind], rx: bool, tx: bool) -> Outcome {
    for what in kinds {
        let source = session.sources.iter_mut().find(|source| source.what == *what);
        let source = source.ok_or("The session has no such source")?;
        (source.rx, source.tx) = (source.rx && !rx, source.tx && !tx);
    }
    session.sources.retain(|source| source.rx || source.tx);
    Ok(Vec::new())
}

fn destinations(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let names = args.interfaces("names").to_vec();
    let negated = args.negated;
    edit_session(session, move |session, _| {
        for name in names {
            let present = session.destinations.contains(&name);
            let is_source = session.sources.iter().any(|source| source.what == SourceKind::Interface(name));
            match (negated, present) {
                (true, true) => session.destinations.retain(|other| *other != name),
                (true, false) => return Err(format!("{name} is not a destination of the session")),
                (false, _) if name == IfName::Mgmt0 => return Err("mgmt0 does not switch frames".to_owned()),
                (false, _) if is_source => return Err(format!("{name} is a source of the session")),
                (false, false) => session.destinations.push(name),
                (false, true) => {}
            }
        }
        match session.destinations.len() > DESTINATIONS_MAX {
            true => Err(format!("A session has at most {DESTINATIONS_MAX} destinations")),
            false => Ok(Vec::new()),
        }
    })
}
