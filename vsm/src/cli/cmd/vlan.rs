//! VLANs: `vlan LIST` and what can be said of them.

use proto::addr::VlanId;
use proto::config::SourceKind;
use proto::vlan::VlanSet;

use super::target::{Outcome, some, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{Model, Settings, Vlan};

const WORDS: &[(&str, &str)] = &[
    ("vlan", "VLAN"),
    ("ids", "VLANs, such as 1-5,10"),
    ("name", "Name of the VLAN, up to 32 characters"),
    ("state", "Operational state"),
    ("active", "Frames are switched"),
    ("suspend", "Frames are dropped"),
    ("shutdown", "Stop switching in the VLAN"),
];

fn sub(syntax: &'static str, help: &'static str, no: &'static str, run: Run) -> Command {
    Command { modes: &[Mode::Vlan], syntax, help, words: WORDS, no: Some(no), run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "vlan <ids:vlans>",
            help: "Create VLANs and change them",
            words: WORDS,
            no: Some("vlan <ids:vlans>"),
            run: vlan,
        },
        sub("name <name:word>", "Name of the VLAN", "name [<name:word>]", name),
        sub("state <state=active|suspend>", "State of the VLAN", "state [<state=active|suspend>]", |session, args| {
            let suspended = !args.negated && args.text("state") == Some("suspend");
            edit(session, "suspended", move |vlan| vlan.suspended = suspended)
        }),
        sub("shutdown", "Stop switching in the VLAN", "shutdown", |session, args| {
            let shutdown = !args.negated;
            edit(session, "shut down", move |vlan| vlan.shutdown = shutdown)
        }),
    ]
}

fn vlan(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let ids = wanted(args.vlans("ids"))?.clone();
    if args.negated {
        return session.edit(Box::new(move |model| remove(model, &ids)));
    }
    let subject = Subject::Vlans(ids.clone());
    let output = session.edit(Box::new(move |model| {
        ids.iter().for_each(|id| _ = model.vlans.entry(id).or_default());
        Ok(Vec::new())
    }))?;
    session.enter(Mode::Vlan, subject);
    Ok(output)
}

fn remove(model: &mut Model, ids: &VlanSet) -> Outcome {
    if ids.contains(VlanId::DEFAULT) {
        return Err("VLAN 1 is the default VLAN and can not be deleted".to_owned());
    }
    let mut warnings = Vec::new();
    for id in ids.iter() {
        if model.vlans.remove(&id).is_some() {
            let users = some(users(model, id));
            if !users.is_empty() {
                warnings.push(format!("VLAN {id} is still used by {users}"));
            }
        }
    }
    Ok(warnings)
}

/// What names the VLAN: port settings, static addresses, monitor sessions.
fn users(model: &Model, id: VlanId) -> impl Iterator<Item = String> {
    let names = move |s: &Settings| {
        let trunk = s.allowed_vlans.as_ref().is_some_and(|set| set.len() < 4094 && set.contains(id));
        trunk || s.access_vlan == Some(id) || s.native_vlan == Some(id)
    };
    let macs = model.static_macs.keys().filter(move |(vlan, _)| *vlan == id);
    let watches = move |kind: &SourceKind| matches!(kind, SourceKind::Vlan(vlan) if *vlan == id);
    let sessions = model.sessions.iter().filter(move |(_, s)| s.sources.iter().any(|source| watches(&source.what)));
    let settings = model.all_settings().filter(move |(_, s)| names(s)).map(|(user, _)| user);
    settings
        .chain(macs.map(|(_, mac)| format!("static address {mac}")))
        .chain(sessions.map(|(n, _)| format!("monitor session {n}")))
}

/// A warning when VLANs that a setting names don't exist; the setting is kept.
pub fn warn_missing(model: &Model, ids: &VlanSet) -> Vec<String> {
    let known: VlanSet = model.vlans.keys().copied().collect();
    let missing = ids.difference(&known);
    match missing.len() {
        0 => Vec::new(),
        1 => vec![format!("VLAN {missing} does not exist; the configuration is kept and becomes active with the VLAN")],
        _ => vec![format!("VLANs {missing} do not exist; the configuration is kept and becomes active with the VLANs")],
    }
}

fn subject(session: &Session) -> Result<VlanSet, Error> {
    match session.subject() {
        Subject::Vlans(ids) => Ok(ids.clone()),
        _ => Err(Error::Refused("The command belongs to a sub-mode".to_owned())),
    }
}

/// Changes the VLANs of the sub-mode; VLAN 1 can't be made `what`.
fn edit(
    session: &mut Session,
    what: &'static str,
    change: impl Fn(&mut Vlan) + Send + 'static,
) -> Result<Output, Error> {
    let ids = subject(session)?;
    session.edit(Box::new(move |model| {
        for id in ids.iter() {
            let vlan = model.vlans.get_mut(&id).ok_or_else(|| format!("VLAN {id} does not exist any more"))?;
            change(vlan);
            if id == VlanId::DEFAULT && !vlan.is_active() {
                return Err(format!("VLAN 1 is the default VLAN and can not be {what}"));
            }
        }
        Ok(Vec::new())
    }))
}

fn name(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let ids = subject(session)?;
    let name = if args.negated { None } else { Some(text(args, "name")?) };
    session.edit(Box::new(move |model| {
        if let (Some(_), true) = (&name, ids.len() > 1) {
            return Err("Only one VLAN at a time can have a name".to_owned());
        }
        for id in ids.iter() {
            let own = match &name {
                Some(name) => check_name(model, id, name)?,
                None => None,
            };
            model.vlans.get_mut(&id).ok_or_else(|| format!("VLAN {id} does not exist any more"))?.own_name = own;
        }
        Ok(Vec::new())
    }))
}

/// The name, as it is kept: the one that the VLAN has anyway is not kept at all. Names are told apart by case.
fn check_name(model: &Model, id: VlanId, name: &str) -> Result<Option<String>, String> {
    if name.len() > 32 {
        return Err("The name is longer than 32 characters".to_owned());
    }
    if name == Vlan::default().name(id) {
        return Ok(None);
    }
    let made_up = |digits: &str| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit());
    if name == "default" || name.strip_prefix("VLAN").is_some_and(made_up) {
        return Err(format!("The name '{name}' is that of another VLAN"));
    }
    match model.vlans.iter().find(|(other, vlan)| **other != id && vlan.own_name.as_deref() == Some(name)) {
        Some((other, _)) => Err(format!("VLAN {other} has the name '{name}' already")),
        None => Ok(Some(name.to_owned())),
    }
}
