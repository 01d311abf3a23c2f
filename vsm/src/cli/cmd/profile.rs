//! Port profiles: making and removing them, and what is said of the profile itself. Settings of its ports are in `port`.

use proto::config::{ProfileType, SourceKind};

use super::target::{self, make_room, name, some, text};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::{Model, MonitorSession, PROFILES_MAX, Profile, is_builtin, kind_of};
use crate::config::profile::kind_word;

const WORDS: &[(&str, &str)] = &[
    ("port-profile", "Port profile"),
    ("type", "What the profile is for; it can't be changed"),
    ("vethernet", "VM ports"),
    ("ethernet", "Uplinks"),
    ("name", "Name of the profile, up to 80 characters"),
    ("state", "State of the profile"),
    ("enabled", "Ports of the profile may come up"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "port-profile [type <type=vethernet|ethernet>] <name:word80>",
            help: "Create a port profile and change it",
            words: WORDS,
            no: Some("port-profile [type <type=vethernet|ethernet>] <name:word80>"),
            run: profile,
        },
        Command {
            modes: &[Mode::PortProfile],
            syntax: "state enabled",
            help: "Let ports of the profile come up",
            words: WORDS,
            no: Some("state [enabled]"),
            run: |session, args| {
                let enabled = !args.negated;
                target::edit_profile(session, move |profile| {
                    profile.enabled = enabled;
                    Ok(())
                })
            },
        },
    ]
}

fn profile(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = text(args, "name")?;
    let kind = args.text("type").map(|kind| match kind {
        "ethernet" => ProfileType::Ethernet,
        _ => ProfileType::Vethernet,
    });
    if is_builtin(&name) {
        return Err(Error::Refused(format!("Port-profile '{name}' is built in and can not be changed")));
    }
    if args.negated {
        return session.edit(Box::new(move |model| remove(model, &name, kind)));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| create(model, name, kind)))?;
    session.enter(Mode::PortProfile, subject);
    Ok(output)
}

fn check_kind(profile: &Profile, name: &str, kind: Option<ProfileType>) -> Result<(), String> {
    match kind.is_none_or(|kind| kind == profile.kind) {
        true => Ok(()),
        false => Err(format!("Port-profile '{name}' is of type {}", kind_word(profile.kind))),
    }
}

/// Interfaces of the other type that asked for the name before it existed get no profile: they can't use this one.
fn create(model: &mut Model, name: String, kind: Option<ProfileType>) -> target::Outcome {
    if let Some(profile) = model.profiles.get(&name) {
        return check_kind(profile, &name, kind).map(|()| Vec::new());
    }
    make_room(false, model.profiles.len(), PROFILES_MAX, "port profiles")?;
    let kind = kind.unwrap_or_default();
    let mut warnings = Vec::new();
    for (port, interface) in &mut model.interfaces {
        if interface.inherit.as_ref() == Some(&name) && kind_of(*port) != kind {
            interface.inherit = None;
            interface.asked.get_or_insert_with(|| name.clone());
            warnings.push(format!("{port} asked for port-profile '{name}' and can not use it: it is of another type"));
        }
    }
    model.profiles.insert(name, Profile { kind, ..Profile::default() });
    Ok(warnings)
}

fn remove(model: &mut Model, name: &str, kind: Option<ProfileType>) -> target::Outcome {
    let profile = model.profiles.get(name).ok_or_else(|| format!("Port-profile '{name}' does not exist"))?;
    check_kind(profile, name, kind)?;
    let source = |kind: &SourceKind| matches!(kind, SourceKind::Profile(profile) if profile == name);
    let names = |s: &MonitorSession| {
        s.sources.iter().any(|s| source(&s.what)) || s.destination_profiles.iter().any(|profile| profile == name)
    };
    let sessions = model.sessions.iter().filter(|(_, s)| names(s));
    let interfaces = model.interfaces_of(name).map(|interface| interface.to_string());
    let children = model.children_of(name).map(|child| format!("port-profile {child}"));
    let users = some(interfaces.chain(children).chain(sessions.map(|(id, _)| format!("monitor session {id}"))));
    if !users.is_empty() {
        return Err(format!("Port-profile '{name}' is used by {users}"));
    }
    model.profiles.remove(name);
    Ok(Vec::new())
}

/// `inherit port-profile`, and its `no`, of a profile.
pub fn inherit(session: &mut Session, parent: Option<String>) -> Result<Output, Error> {
    let child = name(session)?;
    session.edit(Box::new(move |model| {
        let kind = model.profiles.get(&child).map(|p| p.kind);
        let kind = kind.ok_or_else(|| format!("Port-profile '{child}' does not exist any more"))?;
        if let Some(parent) = &parent {
            model.check_inherit(&child, kind, parent).map_err(|e| e.to_string())?;
        }
        if let Some(profile) = model.profiles.get_mut(&child) {
            profile.inherit = parent;
        }
        Ok(Vec::new())
    }))
}
