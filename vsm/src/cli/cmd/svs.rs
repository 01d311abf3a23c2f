//! The domain, and hosts whose module number is fixed.

use proto::msg::HostUuid;

use super::target::{number, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};

const WORDS: &[(&str, &str)] = &[
    ("svs-domain", "Domain of the switch"),
    ("domain", "Domain of the switch"),
    ("id", "Identity"),
    ("number", "Domain, the same on the supervisor and its modules"),
    ("vem", "Module of a host"),
    ("slot", "Module number"),
    ("host", "Host of the module"),
    ("uuid", "Permanent identity of the host, such as f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "svs-domain",
            help: "Change the domain of the switch",
            words: WORDS,
            no: None,
            run: |session, _| {
                session.enter(Mode::SvsDomain, Subject::None);
                Ok(Output::none())
            },
        },
        Command {
            modes: &[Mode::SvsDomain],
            syntax: "domain id <number:num:1-4095>",
            help: "Number of the domain",
            words: WORDS,
            no: Some("domain id [<number:num:1-4095>]"),
            run: |session, args| {
                let id = args.number("number").filter(|_| !args.negated).and_then(|id| u16::try_from(id).ok());
                session.edit(Box::new(move |model| {
                    model.domain_id = id;
                    Ok(Vec::new())
                }))
            },
        },
        Command {
            modes: &[Mode::Config],
            syntax: "vem <slot:num:3-66>",
            help: "Fix the host of a module number",
            words: WORDS,
            no: Some("vem <slot:num:3-66>"),
            run: vem,
        },
        Command {
            modes: &[Mode::VemSlot],
            syntax: "host id <uuid:word>",
            help: "Host that gets the module number",
            words: WORDS,
            no: Some("host id [<uuid:word>]"),
            run: host,
        },
    ]
}

fn vem(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let slot = wanted(args.number("slot"))?;
    if !args.negated {
        session.enter(Mode::VemSlot, Subject::Number(slot));
        return Ok(Output::none());
    }
    // A module that was there once is forgotten, with its slot; a connected one stays.
    let known = session.handle.inventory().modules.keys().any(|other| u32::from(*other) == slot);
    if let Some(slot) = u8::try_from(slot).ok().filter(|_| known) {
        session.handle.remove_module(slot).map_err(Error::Refused)?;
    }
    session.edit(Box::new(move |model| {
        let before = model.vems.len();
        model.vems.retain(|other, _| u32::from(*other) != slot);
        match known || model.vems.len() < before {
            true => Ok(Vec::new()),
            false => Err(format!("Module {slot} does not exist")),
        }
    }))
}

fn host(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let slot = number(session)?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            model.vems.remove(&slot);
            Ok(Vec::new())
        }));
    }
    let typed = text(args, "uuid")?;
    let uuid: HostUuid = typed.parse().map_err(|e| Error::Refused(format!("'{typed}' is {e}")))?;
    let inventory = session.handle.inventory();
    if let Some(module) = inventory.modules.get(&slot).filter(|module| module.uuid != uuid) {
        return Err(Error::Refused(format!("Module {slot} belongs to host {}", module.uuid)));
    }
    if let Some((other, _)) = inventory.modules.iter().find(|(other, module)| **other != slot && module.uuid == uuid) {
        return Err(Error::Refused(format!("Host {uuid} is module {other}")));
    }
    session.edit(Box::new(move |model| {
        if let Some((other, _)) = model.vems.iter().find(|(other, u)| **other != slot && **u == uuid) {
            return Err(format!("Host {uuid} is module {other}"));
        }
        model.vems.insert(slot, uuid);
        Ok(Vec::new())
    }))
}
