//! Monitor sessions (SPAN): what is watched, and where the copies go.
//!
//! A new session is shut until `no shut`. What a session names need not exist yet: an interface may be attached and a
//! VLAN made later, and the session then runs there.

use proto::config::{Filter, SESSIONS_MAX, SourceKind};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::target::{Outcome, edit_session, number, short, text, wanted};
use super::vlan::warn_missing;
use crate::capture::compile;
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{Model, MonitorSession, SessionSource, SessionType};
use crate::config::monitor::{DROP_REASONS, length_warning};

/// Most sources of a kind, and most destinations, of a session.
const INTERFACES_MAX: usize = 128;
const VLANS_MAX: usize = 32;
const PROFILES_MAX: usize = 16;
const DESTINATIONS_MAX: usize = 32;
const DESTINATION_PROFILES_MAX: usize = 8;

/// Help of the words of sessions.
pub(super) const WORDS: &[(&str, &str)] = &[
    ("monitor", "Monitor"),
    ("session", "Monitor session"),
    ("id", "Number of the session"),
    ("all", "All sessions"),
    ("type", "Type of the session"),
    ("local", "Copies go to ports of the switch"),
    ("erspan-source", "Copies go through the network"),
    ("erspan-destination", "Copies of others go to ports of the switch"),
    ("erspan-id", "Number that tells the copies of one session from those of another"),
    ("ip", "IPv4"),
    ("addr", "IPv4 address"),
    ("addr6", "IPv6 address"),
    ("origin", "Where copies come from"),
    ("ip-address", "Address"),
    ("ttl", "Time to live"),
    ("dscp", "Differentiated services code point"),
    ("prec", "Precedence, the upper three bits of the DSCP"),
    ("header-type", "Header of the copies"),
    ("2", "Type II, which every detector reads"),
    ("3", "Type III, with time and direction"),
    ("granularity", "Unit of the time"),
    ("100us", "100 microseconds"),
    ("100ns", "100 nanoseconds"),
    ("1588", "IEEE 1588, nanoseconds since 1970"),
    ("platform", "Further header of a platform"),
    ("n1kv", "Of the Nexus 1000V: domain and port"),
    ("keep-tag", "VLAN tags stay in the frames, and not in the header"),
    ("fragment", "Packets that are too long for the way are cut, and put together where they arrive"),
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
    ("access-group", "Those that an access list permits"),
    ("acl", "Access list"),
    ("drops", "Frames that are dropped, as they were received"),
    ("reason", "Why, as 'show drops' names it; any when not said"),
    ("bpf", "Those that a filter of libpcap matches"),
    ("filter", "Which frames, such as \"tcp port 80\""),
    ("sampling", "Copy some of the frames"),
    ("one-of", "One of so many"),
    ("mtu", "Longest copy"),
    ("octets", "Octets of the frame"),
    ("scope", "Which host copies what several see"),
    ("which", "One of them, a whole conversation, or all"),
];

/// Sessions of every type.
const ALL: &[Mode] = &[Mode::Monitor, Mode::ErspanSource, Mode::ErspanDestination];
/// Sessions that watch frames of the switch.
const WATCHING: &[Mode] = &[Mode::Monitor, Mode::ErspanSource];
/// Sessions whose copies go to ports.
const TO_PORTS: &[Mode] = &[Mode::Monitor, Mode::ErspanDestination];

fn sub(modes: &'static [Mode], syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes, syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    let config =
        |syntax, help, no, run| Command { modes: &[Mode::Config], syntax, help, words: WORDS, no: Some(no), run };
    let source = "source { interface <names:ifs> | vlan <ids:vlans> | port-profile <name:word80> } [<way=rx|tx|both>]";
    let to = "destination { interface <names:ifs> | port-profile <name:word80> }";
    vec![
        config(
            "monitor session <id:num:1-256> [type <type=local|erspan-source|erspan-destination>] [shut]",
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
        sub(ALL, "description <text:line>", "Free text", "description [<text:line>]", |session, args| {
            let text = if args.negated { None } else { Some(short(args, "text", 32)?) };
            edit_session(session, move |session, _| {
                session.description = text;
                Ok(Vec::new())
            })
        }),
        sub(WATCHING, source, "What is watched", source, sources),
        sub(WATCHING, "source drops [<reason:word>]", "Frames that are dropped", "source drops [<reason:word>]", drops),
        sub(TO_PORTS, to, "Where the copies go", to, destinations),
        Command {
            modes: ALL,
            syntax: "destination remote vlan <vlan:vlan>",
            help: "Remote SPAN, which is not supported",
            words: WORDS,
            no: None,
            run: |_, _| Err(Error::Refused(NO_RSPAN.to_owned())),
        },
        sub(
            WATCHING,
            "filter vlan <ids:vlans>",
            "Copy frames in these VLANs only",
            "filter vlan [<ids:vlans>]",
            filter_vlans,
        ),
        sub(
            WATCHING,
            "filter access-group <acl:word>",
            "Copy frames that an access list permits only",
            "filter access-group [<acl:word>]",
            filter_acl,
        ),
        sub(
            WATCHING,
            "filter bpf <filter:quoted>",
            "Copy frames that a filter of libpcap matches only",
            "filter bpf [<filter:quoted>]",
            filter_bpf,
        ),
        sub(
            WATCHING,
            "sampling <one-of:num:2-1000000>",
            "Of every so many frames copy one",
            "sampling [<one-of:num:2-1000000>]",
            |session, args| {
                let sampling = args.number("one-of").filter(|_| !args.negated);
                edit_session(session, move |session, _| {
                    session.sampling = sampling;
                    Ok(Vec::new())
                })
            },
        ),
        sub(
            WATCHING,
            "mtu <octets:num:64-9216>",
            "Cut copies to a length",
            "mtu [<octets:num:64-9216>]",
            |session, args| {
                let octets = args.number("octets").filter(|_| !args.negated).and_then(|mtu| u16::try_from(mtu).ok());
                edit_session(session, move |session, _| {
                    session.mtu = octets;
                    Ok(Vec::new())
                })
            },
        ),
        sub(
            ALL,
            "scope <which=once|all>",
            "Whether a conversation of two hosts is copied on one of them or on both",
            "scope [<which=once|all>]",
            |session, args| {
                let every_host = !args.negated && args.text("which") == Some("all");
                edit_session(session, move |session, _| {
                    session.every_host = every_host;
                    Ok(Vec::new())
                })
            },
        ),
        sub(ALL, "shut", "Stop the session", "shut", |session, args| {
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
    let word = args.text("type").map(str::to_owned);
    let there = session.handle.model().sessions.get(&id).map(|session| session.kind);
    let named = SessionType::ALL.into_iter().find(|kind| word.as_deref() == Some(kind.word()));
    let kind = named.or(there).unwrap_or_default();
    let output = session.edit(Box::new(move |model| {
        let new = MonitorSession { kind, ..MonitorSession::default() };
        match model.sessions.entry(id).or_insert(new).kind {
            is if is != kind => Err(format!("Monitor session {id} is of type {}, which can't be changed", is.word())),
            _ => Ok(Vec::new()),
        }
    }))?;
    let mode = match kind {
        SessionType::Local => Mode::Monitor,
        SessionType::ErspanSource => Mode::ErspanSource,
        SessionType::ErspanDestination => Mode::ErspanDestination,
    };
    session.enter(mode, Subject::Number(id.into()));
    Ok(output)
}

/// Stops or starts one session, or all.
fn shut_some(session: &mut Session, id: Option<u16>, shut: bool) -> Result<Output, Error> {
    session.edit(Box::new(move |model| {
        if let Some(id) = id.filter(|id| !model.sessions.contains_key(id)) {
            return Err(format!("Monitor session {id} does not exist"));
        }
        let mut warnings = Vec::new();
        let rule = id.and_then(|id| model.sessions.get(&id)).filter(|_| !shut).map(|session| lacks(model, session));
        warnings.extend(rule.into_iter().flatten());
        for (_, session) in model.sessions.iter_mut().filter(|(other, _)| id.is_none_or(|id| id == **other)) {
            session.shut = shut;
        }
        match model.sessions.values().filter(|session| !session.shut).count() > SESSIONS_MAX {
            true => Err(format!("At most {SESSIONS_MAX} monitor sessions run at a time")),
            false => Ok(warnings),
        }
    }))
}

/// What a session lacks to run, or what its path must be able to do.
fn lacks(model: &Model, session: &MonitorSession) -> Vec<String> {
    let what = match session.kind {
        SessionType::ErspanSource if session.erspan.lacks_origin() => "an origin of the family of its destination",
        SessionType::Local if session.sources.is_empty() || !session.has_destination() => "a source and a destination",
        SessionType::ErspanSource if session.sources.is_empty() || !session.has_destination() => {
            "a source, an ERSPAN id and a destination"
        }
        SessionType::ErspanDestination if !session.has_destination() => "an ERSPAN id and a destination",
        SessionType::ErspanSource => return length_warning(model, session).into_iter().collect(),
        _ => return Vec::new(),
    };
    vec![format!("The session needs {what} to run")]
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

fn drops(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let reason = args.text("reason").map(str::to_owned);
    let negated = args.negated;
    if let Some(unknown) = reason.as_ref().filter(|reason| !DROP_REASONS.contains(&reason.as_str())) {
        return Err(Error::Refused(format!("'{unknown}' is not the reason of a drop; 'show drops' names them")));
    }
    edit_session(session, move |session, model| {
        let kinds = vec![SourceKind::Drops(reason)];
        if negated { forget(session, &kinds, true, true) } else { watch(session, model, kinds, true, false) }
    })
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

fn filter_bpf(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let filter = match args.negated {
        true => None,
        false => {
            let text = text(args, "filter")?;
            // Both directions of a conversation are looked at alike, so no frame has a tag to look for.
            if text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "vlan") {
                let why = "filter: frames are looked at without the tag of their VLAN; 'filter vlan' says which VLANs";
                return Err(Error::Refused(why.to_owned()));
            }
            if text.trim().is_empty() {
                return Err(Error::Refused("filter: it is empty; 'no filter bpf' copies everything".to_owned()));
            }
            let program = compile(&text).map_err(|why| Error::Refused(format!("filter: {why}")))?;
            Some(Filter { text, program })
        }
    };
    edit_session(session, move |session, _| {
        session.filter_bpf = filter;
        Ok(Vec::new())
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
