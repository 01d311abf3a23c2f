//! Monitor sessions (SPAN): what is watched, and where the copies go.
//!
//! A new session is shut until `no shut`. What a session names need not exist yet: an interface may be attached and a
//! VLAN made later, and the session then runs there.

use proto::config::{SESSIONS_MAX, SourceKind};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::target::{Outcome, edit_session, number, short, text, wanted};
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
const DESTINATION_PROFILES_MAX: usize = 8;

const WORDS: &[(&str, &str)] = &[
    ("monitor", "Monitor"),
    ("session", "Monitor session"),
    ("id", "Number of the session"),
    ("all", "All sessions"),
    ("type", "Type of the session"),
    ("local", "Copies go to ports of the switch"),
    ("description", "Free text"),
    ("text", "Up to 32 characters"),
    ("source", "What is watched"),
    ("destination", "Where the copies go"),
    ("interface", "Interfaces"),
    ("names", "Interfaces, such as vethernet 1-4"),
    ("vlan", "VLANs"),
    ("ids", "VLANs, such as 1-5,10"),
    ("port-profile", "Every port of a profile"),
    ("name", "Profile"),
    ("rx", "Frames that enter the switch there"),
    ("tx", "Frames that leave the switch there"),
    ("both", "Both"),
    ("shut", "Stop the session"),
    ("remote", "Remote SPAN"),
    ("filter", "Which frames are copied"),
    ("access-group", "Those that an access list permits"),
    ("acl", "Access list"),
];

fn sub(syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes: &[Mode::Monitor], syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    let config =
        |syntax, help, no, run| Command { modes: &[Mode::Config], syntax, help, words: WORDS, no: Some(no), run };
    let source = "source { interface <names:ifs> | vlan <ids:vlans> | port-profile <name:word80> } [<way=rx|tx|both>]";
    let to = "destination { interface <names:ifs> | port-profile <name:word80> }";
    vec![
        config(
            "monitor session <id:num:1-256> [type <type=local>] [shut]",
            "Create a monitor session and change it",
            "monitor session { <id:num:1-256> | all } [shut]",
            session_command,
        ),
        // Its `no` is that of the command before.
        Command {
            modes: &[Mode::Config],
            syntax: "monitor session all shut",
            help: "Stop all sessions",
            words: WORDS,
            no: None,
            run: |session, _| shut_some(session, None, true),
        },
        sub("description <text:line>", "Free text", "description [<text:line>]", |session, args| {
            let text = if args.negated { None } else { Some(short(args, "text", 32)?) };
            edit_session(session, move |session, _| {
                session.description = text;
                Ok(Vec::new())
            })
        }),
        sub(source, "What is watched", source, sources),
        sub(to, "Where the copies go", to, destinations),
        Command {
            modes: &[Mode::Monitor],
            syntax: "destination remote vlan <vlan:vlan>",
            help: "Remote SPAN, which is not supported",
            words: WORDS,
            no: None,
            run: |_, _| Err(Error::Refused(NO_RSPAN.to_owned())),
        },
        sub("filter vlan <ids:vlans>", "Copy frames in these VLANs only", "filter vlan [<ids:vlans>]", filter_vlans),
        sub(
            "filter access-group <acl:word>",
            "Copy frames that an access list permits only",
            "filter access-group [<acl:word>]",
            filter_acl,
        ),
        sub("shut", "Stop the session", "shut", |session, args| {
            let id = number(session)?;
            shut_some(session, Some(id), !args.negated)
        }),
    ]
}

/// A mirror VLAN takes the tag away that tells an intrusion detector what it looks at, and floods copies to whoever is in it.
const NO_RSPAN: &str = "Remote SPAN is not supported: it replaces the VLAN of the mirrored frames. \
                        An erspan-source session carries them whole";

fn session_command(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let id = args.number("id").and_then(|id| u16::try_from(id).ok());
    let shuts = args.has("shut");
    if args.negated && !shuts {
        return session.edit(Box::new(move |model| {
            let before = model.sessions.len();
            model.sessions.retain(|other, _| id.is_some_and(|id| *other != id));
            match id.filter(|_| model.sessions.len() == before) {
                Some(id) => Err(format!("Monitor session {id} does not exist")),
                None => Ok(Vec::new()),
            }
        }));
    }
    if shuts && (args.negated || !args.has("type")) {
        return shut_some(session, id, !args.negated);
    }
    let id = wanted(id)?;
    let output = session.edit(Box::new(move |model| {
        model.sessions.entry(id).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::Monitor, Subject::Number(id.into()));
    Ok(output)
}

/// Stops or starts one session, or all.
fn shut_some(session: &mut Session, id: Option<u16>, shut: bool) -> Result<Output, Error> {
    session.edit(Box::new(move |model| {
        if let Some(id) = id.filter(|id| !model.sessions.contains_key(id)) {
            return Err(format!("Monitor session {id} does not exist"));
        }
        let mut warnings = Vec::new();
        for (_, session) in model.sessions.iter_mut().filter(|(other, _)| id.is_none_or(|id| id == **other)) {
            session.shut = shut;
            if !shut && id.is_some() && (session.sources.is_empty() || !session.has_destination()) {
                warnings.push("The session needs a source and a destination to run".to_owned());
            }
        }
        match model.sessions.values().filter(|session| !session.shut).count() > SESSIONS_MAX {
            true => Err(format!("At most {SESSIONS_MAX} monitor sessions run at a time")),
            false => Ok(warnings),
        }
    }))
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
            SourceKind::Profile(name) if session.destination_profiles.contains(name) => {
                return Err(format!("Port-profile '{name}' is a destination of the session"));
            }
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
    let profile = if names.is_empty() { Some(text(args, "name")?) } else { None };
    let negated = args.negated;
    edit_session(session, move |session, model| {
        if let Some(profile) = profile {
            return destination_profile(session, model, profile, negated);
        }
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

fn destination_profile(session: &mut MonitorSession, model: &Model, profile: String, negated: bool) -> Outcome {
    let profiles = &mut session.destination_profiles;
    let present = profiles.contains(&profile);
    let is_source = |source: &SessionSource| source.what == SourceKind::Profile(profile.clone());
    match (negated, present) {
        (true, true) => profiles.retain(|other| *other != profile),
        (true, false) => return Err(format!("Port-profile '{profile}' is not a destination of the session")),
        (false, true) => {}
        (false, false) if session.sources.iter().any(is_source) => {
            return Err(format!("Port-profile '{profile}' is a source of the session"));
        }
        (false, false) if profiles.len() == DESTINATION_PROFILES_MAX => {
            return Err(format!("A session has at most {DESTINATION_PROFILES_MAX} destination profiles"));
        }
        (false, false) => {
            let is_missing = !model.profiles.contains_key(&profile);
            let warning = is_missing.then(|| format!("Port-profile '{profile}' does not exist"));
            profiles.push(profile);
            return Ok(warning.into_iter().collect());
        }
    }
    Ok(Vec::new())
}

/// Typed again, the list is another; `no` with VLANs takes these out of it.
fn filter_vlans(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let ids = args.vlans("ids").cloned();
    let negated = args.negated;
    edit_session(session, move |session, model| {
        session.filter_vlans = match (negated, ids, session.filter_vlans.take()) {
            (false, ids, _) => ids,
            (true, Some(ids), Some(before)) => Some(before.difference(&ids)),
            (true, ..) => None,
        };
        session.filter_vlans = session.filter_vlans.take().filter(|ids| !ids.is_empty());
        Ok(session.filter_vlans.as_ref().filter(|_| !negated).map(|ids| warn_missing(model, ids)).unwrap_or_default())
    })
}

fn filter_acl(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = if args.negated { None } else { Some(text(args, "acl")?) };
    edit_session(session, move |session, model| {
        let missing = name.as_ref().filter(|name| !model.acls.contains_key(*name));
        let warning =
            missing.map(|name| format!("Access list '{name}' does not exist; until it does, everything is copied"));
        session.filter_acl = name;
        Ok(warning.into_iter().collect())
    })
}
