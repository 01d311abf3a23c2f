//! Roles of one's own: what their users may type, and which interfaces and VLANs they may change.

use super::target::{Outcome, make_room, name, short, some, text, wanted};
use crate::cli::cmd;
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::Model;
use crate::config::role::{BUILT_IN, INTERFACES_MAX, NAME_MAX, ROLES_MAX, RULES_MAX, Role, Rule, What, is_name};

/// Most characters of a description or a pattern.
const TEXT_MAX: usize = 128;

const WORDS: &[(&str, &str)] = &[
    ("role", "What users may do"),
    ("name", "Name of the role"),
    ("description", "What the role is for"),
    ("text", "Up to 128 characters"),
    ("rule", "A rule; the one with the highest number that fits decides"),
    ("number", "Number of the rule"),
    ("permit", "Permit"),
    ("deny", "Deny"),
    ("command", "Commands that look so"),
    ("pattern", "Command in full spelling, '*' for anything, such as show * or configure terminal ; vlan *"),
    ("read", "Commands that change nothing"),
    ("read-write", "All commands"),
    ("feature", "Commands of a feature only"),
    ("feature_name", "Feature; see 'show role feature'"),
    ("policy", "Which may be changed"),
    ("vlan", "VLANs"),
    ("interface", "Interfaces"),
    ("vlans", "VLANs, such as 10-20"),
    ("names", "Interfaces, such as vethernet 1-4"),
    ("rest", "The rule, as it is configured"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let own = |modes, syntax, help, no, run: Run| Command { modes, syntax, help, words: WORDS, no, run };
    let role: &[Mode] = &[Mode::Role];
    vec![
        own(&[Mode::Config], "role name <name:word>", "Make or change a role", Some("role name <name:word>"), make),
        own(
            role,
            "description <text:line>",
            "What the role is for",
            Some("description [<text:line>]"),
            |session, args| {
                let text = if args.negated { None } else { Some(short(args, "text", TEXT_MAX)?) };
                edit(session, |role| {
                    role.description = text;
                    Ok(Vec::new())
                })
            },
        ),
        own(
            role,
            "rule <number:num:1-256> <permits=permit|deny> \
             { command <pattern:line> | <what=read|read-write> [feature <feature_name:word>] }",
            "What the role permits or denies",
            Some("rule <number:num:1-256> [<rest:line>]"),
            rule,
        ),
        own(
            role,
            "interface policy deny",
            "Change no interfaces but those that are permitted",
            Some("interface policy deny"),
            |session, args| policy(session, args, Mode::RoleInterface, |role| &mut role.interfaces),
        ),
        own(
            role,
            "vlan policy deny",
            "Change no VLANs but those that are permitted",
            Some("vlan policy deny"),
            |session, args| policy(session, args, Mode::RoleVlan, |role| &mut role.vlans),
        ),
        own(
            &[Mode::RoleInterface],
            "permit interface <names:ifs>",
            "Interfaces that may be changed",
            Some("permit interface <names:ifs>"),
            permit_interfaces,
        ),
        own(
            &[Mode::RoleVlan],
            "permit vlan <vlans:vlans>",
            "VLANs that may be changed",
            Some("permit vlan <vlans:vlans>"),
            permit_vlans,
        ),
    ]
}

/// The role of this name exists, or is there by itself.
pub fn exists(model: &Model, role: &str) -> Result<(), String> {
    match BUILT_IN.contains(&role) || model.roles.contains_key(role) {
        true => Ok(()),
        false => Err(format!("Role '{role}' does not exist")),
    }
}

fn make(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = text(args, "name")?;
    if BUILT_IN.contains(&name.as_str()) {
        return Err(Error::Refused(format!("Role '{name}' is there by itself and can not be changed")));
    }
    if args.negated {
        return session.edit(Box::new(move |model| {
            exists(model, &name)?;
            let with = model.users.iter().filter(|(_, user)| user.roles.contains(&name)).map(|(user, _)| user.clone());
            let with = some(with);
            if !with.is_empty() {
                return Err(format!("Role '{name}' is the role of {with}"));
            }
            model.roles.remove(&name);
            Ok(Vec::new())
        }));
    }
    if !is_name(&name) {
        let rule = format!("A role's name has up to {NAME_MAX} letters, digits, '-' and '_', and begins with a letter");
        return Err(Error::Refused(rule));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| {
        make_room(model.roles.contains_key(&name), model.roles.len(), ROLES_MAX, "roles")?;
        model.roles.entry(name).or_default();
        Ok(Vec::new())
    }))?;
    session.enter(Mode::Role, subject);
    Ok(output)
}

/// Changes the role that the sub-mode is about.
fn edit(session: &mut Session, change: impl FnOnce(&mut Role) -> Outcome + Send + 'static) -> Result<Output, Error> {
    let name = name(session)?;
    session.edit(Box::new(move |model| {
        let role = model.roles.get_mut(&name).ok_or_else(|| format!("Role '{name}' does not exist any more"))?;
        change(role)
    }))
}

fn rule(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let number = wanted(args.number("number").and_then(|n| u16::try_from(n).ok()))?;
    if args.negated {
        return edit(session, move |role| {
            let gone = role.rules.remove(&number).map(|_| Vec::new());
            gone.ok_or_else(|| format!("There is no rule {number}"))
        });
    }
    let feature = args.text("feature_name").map(str::to_owned);
    if let Some(feature) = feature.as_ref().filter(|feature| !cmd::features().contains_key(feature.as_str())) {
        return Err(Error::Refused(format!("There is no feature '{feature}'; see 'show role feature'")));
    }
    let what = match args.text("what") {
        Some("read") => What::Read(feature),
        Some(_) => What::ReadWrite(feature),
        None => What::Command(short(args, "pattern", TEXT_MAX)?),
    };
    let rule = Rule { permits: args.text("permits") == Some("permit"), what };
    edit(session, move |role| {
        make_room(role.rules.contains_key(&number), role.rules.len(), RULES_MAX, "rules")?;
        role.rules.insert(number, rule);
        Ok(Vec::new())
    })
}

fn policy<T: Default + 'static>(
    session: &mut Session,
    args: &Args,
    mode: Mode,
    of: fn(&mut Role) -> &mut Option<T>,
) -> Result<Output, Error> {
    let negated = args.negated;
    let subject = Subject::Name(name(session)?);
    let output = edit(session, move |role| {
        let policy = of(role);
        *policy = if negated { None } else { Some(policy.take().unwrap_or_default()) };
        Ok(Vec::new())
    })?;
    if !negated {
        session.enter(Mode::Role, subject.clone());
        session.enter(mode, subject);
    }
    Ok(output)
}

fn no_policy() -> String {
    "The policy of the role is not deny any more".to_owned()
}

fn permit_interfaces(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (names, negated) = (args.interfaces("names").to_vec(), args.negated);
    edit(session, move |role| {
        let own = role.interfaces.as_mut().ok_or_else(no_policy)?;
        for name in names {
            if negated {
                own.remove(&name);
            } else {
                own.insert(name);
            }
        }
        make_room(own.len() <= INTERFACES_MAX, INTERFACES_MAX, INTERFACES_MAX, "interfaces in a role")?;
        Ok(Vec::new())
    })
}

fn permit_vlans(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let (vlans, negated) = (wanted(args.vlans("vlans"))?.clone(), args.negated);
    edit(session, move |role| {
        let own = role.vlans.as_mut().ok_or_else(no_policy)?;
        *own = if negated { own.difference(&vlans) } else { own.union(&vlans) };
        Ok(Vec::new())
    })
}
