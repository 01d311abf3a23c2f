//! Interfaces: making and removing them, and the profile that they inherit from. Their settings are in `port`.
//!
//! The server administrator chooses a profile when a port is attached; the network administrator may then choose another
//! one, which holds until the server administrator makes a new choice. So the switch keeps in mind what was asked for,
//! over a restart too: `attached port-profile` in the running configuration, when it is not the profile that counts.

use proto::name::IfName;

use super::target::{interfaces, make_room, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::compile::interface_of;
use crate::config::model::{INTERFACES_MAX, Interface, kind_of};
use crate::config::profile;
use crate::module::registry::Inventory;

const WORDS: &[(&str, &str)] =
    &[("interface", "Interface"), ("names", "Interfaces, such as vethernet 1-4 or ethernet 3/1")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        Command {
            modes: &[Mode::Config],
            syntax: "interface <names:ifs>",
            help: "Change interfaces",
            words: WORDS,
            no: Some("interface <names:ifs>"),
            run: interface,
        },
        Command {
            modes: &[Mode::Interface, Mode::InterfaceRange],
            syntax: "attached port-profile <name:word80>",
            help: "What the server administrator chose; the switch keeps it itself",
            words: WORDS,
            no: Some("attached port-profile [<name:word80>]"),
            run: attached,
        },
    ]
}

fn interface(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let names = args.interfaces("names").to_vec();
    wanted(names.first())?;
    if names.contains(&IfName::Mgmt0) {
        return Err(Error::Refused("mgmt0 belongs to the host of the supervisor and is configured there".to_owned()));
    }
    if args.has("default") {
        return reset(session, names);
    }
    if args.negated {
        return remove(session, names);
    }
    let mode = if names.len() > 1 { Mode::InterfaceRange } else { Mode::Interface };
    let subject = Subject::Interfaces(names.clone());
    let output = session.edit(Box::new(move |model| {
        names.into_iter().for_each(|name| _ = model.interfaces.entry(name).or_default());
        make_room(model.interfaces.len() <= INTERFACES_MAX, INTERFACES_MAX, INTERFACES_MAX, "interfaces")?;
        Ok(Vec::new())
    }))?;
    session.enter(mode, subject);
    Ok(output)
}

/// `default interface`: what was said is taken back, the interface and its profile stay.
fn reset(session: &mut Session, names: Vec<IfName>) -> Result<Output, Error> {
    session.edit(Box::new(move |model| {
        for name in names {
            let interface = model.interfaces.get_mut(&name).ok_or_else(|| format!("{name} does not exist"))?;
            let Interface { inherit, asked, .. } = std::mem::take(interface);
            (interface.inherit, interface.asked) = (inherit, asked);
        }
        Ok(Vec::new())
    }))
}

fn remove(session: &mut Session, names: Vec<IfName>) -> Result<Output, Error> {
    let inventory = session.handle.inventory();
    if let Some(name) = names.iter().find(|name| asked_profile(&inventory, **name).is_some()) {
        return Err(Error::Refused(format!("{name} is attached")));
    }
    session.edit(Box::new(move |model| {
        for name in names {
            model.interfaces.remove(&name).ok_or_else(|| format!("{name} does not exist"))?;
        }
        Ok(Vec::new())
    }))
}

/// The profile that the port was attached with; `None` for an interface without a port.
fn asked_profile(inventory: &Inventory, name: IfName) -> Option<&str> {
    let ports = inventory.modules.iter().flat_map(|(slot, module)| module.ports.iter().map(move |port| (*slot, port)));
    let mut found = ports.filter(|(slot, port)| interface_of(inventory, *slot, port) == Some(name));
    found.next().map(|(_, port)| port.profile.as_str())
}

/// For interfaces without a port; what a port asks for is known.
fn attached(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let names = interfaces(session)?;
    let asked = args.text("name").filter(|_| !args.negated).map(str::to_owned);
    let inventory = session.handle.inventory();
    for name in &names {
        if let Some(known) = asked_profile(&inventory, *name).filter(|known| asked.as_deref() != Some(known)) {
            return Err(Error::Refused(format!("{name} is attached with port-profile '{known}'")));
        }
    }
    session.edit(Box::new(move |model| {
        for name in names {
            let interface = model.interfaces.get_mut(&name);
            interface.ok_or_else(|| format!("{name} does not exist any more"))?.ask(asked.clone());
        }
        Ok(Vec::new())
    }))
}

/// `inherit port-profile`, and its `no`, of interfaces.
pub fn inherit(session: &mut Session, parent: Option<String>) -> Result<Output, Error> {
    let names = interfaces(session)?;
    let inventory = session.handle.inventory();
    session.edit(Box::new(move |model| {
        let mut warnings = Vec::new();
        for name in names {
            if let Some(parent) = &parent {
                match model.check_inherit("", kind_of(name), parent) {
                    Err(profile::Error::Unknown(_)) => {
                        warnings
                            .push(format!("Port-profile '{parent}' does not exist; {name} stays down until it does"));
                    }
                    other => other.map_err(|e| e.to_string())?,
                }
            }
            let interface = model.interfaces.get_mut(&name);
            let interface = interface.ok_or_else(|| format!("{name} does not exist any more"))?;
            let asked = asked_profile(&inventory, name).map(str::to_owned).or(interface.asked.take());
            interface.inherit.clone_from(&parent);
            interface.ask(asked);
        }
        Ok(warnings)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile::tests::example;
    use crate::supervisor::Handle;

    #[test]
    fn interfaces_are_limited() {
        let mut session = Session::new(Handle::detached(Default::default()));
        session.run_line("configure");
        for range in ["veth1-4096", "veth4097-8192", "veth8193-12288", "veth12289-16384", "veth1-9"] {
            assert_eq!(session.run_line(&format!("interface {range}")), "", "{range}");
        }
        assert_eq!(session.run_line("interface veth16385"), "ERROR: There are 16384 interfaces already\n");
        assert_eq!(session.handle.model().interfaces.len(), INTERFACES_MAX);
    }

    #[test]
    fn both_administrators_choose() {
        let (mut model, inventory) = example();
        let Some(port) = inventory.modules[&3].ports.iter().find(|port| port.nic.as_str() == "a/0").cloned() else {
            panic!("the example has lost its port")
        };
        model.bind_vethernet(1, &port);
        let mut session = Session::new(Handle::detached(model).with_inventory(inventory));
        for (line, printed) in [
            ("configure", "Enter configuration commands, one per line.  End with CNTL/Z.\n"),
            ("interface vethernet 1", ""),
            ("attached port-profile other", "ERROR: Vethernet1 is attached with port-profile 'web'\n"),
            ("no attached port-profile", "ERROR: Vethernet1 is attached with port-profile 'web'\n"),
            ("inherit port-profile Unused_Or_Quarantine_Veth", ""),
            (
                "show running-config interface veth1 | begin interface | last 3",
                "interface Vethernet1\n  attached port-profile web\n  inherit port-profile Unused_Or_Quarantine_Veth\n",
            ),
            ("no interface veth1", "ERROR: Vethernet1 is attached\n"),
            ("no interface ethernet 3/1", "ERROR: Ethernet3/1 is attached\n"),
            ("interface veth9", ""),
            ("inherit port-profile Unused_Or_Quarantine_Veth", ""),
            ("no interface veth9", ""),
            ("vem 4", ""),
            (
                "host id f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
                "ERROR: Module 4 belongs to host 01010101-0101-0101-0101-010101010101\n",
            ),
        ] {
            assert_eq!(session.run_line(line), printed, "{line}");
        }
        let repeated = session.handle.edit(Box::new(move |model| {
            let before = model.clone();
            model.bind_vethernet(1, &port);
            if *model == before { Ok(Vec::new()) } else { Err("the report undid the choice".into()) }
        }));
        assert_eq!(repeated, Ok(Vec::new()));
        session.run_line("interface veth1");
        session.run_line("inherit port-profile web");
        assert_eq!(
            session.run_line("show port-profile usage name web"),
            "Port Profile                Port        Adapter           Owner             Module\n\
             --------------------------  ----------  ----------------  ----------------  ------\n\
             web                         Veth1       a/0               --                3\n",
        );
        assert_eq!(session.handle.model().interfaces[&IfName::Vethernet(1)].asked, None);
    }
}
