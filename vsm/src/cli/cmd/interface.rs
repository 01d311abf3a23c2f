//! Interfaces: making and removing them, and the profile that they inherit from. Their settings are in `port`.
//!
//! The server administrator chooses the profile of an attached port, so the network administrator chooses that of a
//! port only while it is not attached.

use proto::name::IfName;

use super::target::{interfaces, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::compile::interface_of;
use crate::config::model::kind_of;
use crate::config::profile;
use crate::module::registry::Inventory;

const WORDS: &[(&str, &str)] =
    &[("interface", "Interface"), ("names", "Interfaces, such as vethernet 1-4 or ethernet 3/1")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![Command {
        modes: &[Mode::Config],
        syntax: "interface <names:ifs>",
        help: "Change interfaces",
        words: WORDS,
        no: Some("interface <names:ifs>"),
        run: interface,
    }]
}

fn interface(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let names = args.interfaces("names").to_vec();
    wanted(names.first())?;
    if names.contains(&IfName::Mgmt0) {
        return Err(Error::Refused("mgmt0 belongs to the host of the supervisor and is configured there".to_owned()));
    }
    if args.negated {
        return remove(session, names);
    }
    let mode = if names.len() > 1 { Mode::InterfaceRange } else { Mode::Interface };
    let subject = Subject::Interfaces(names.clone());
    let output = session.edit(Box::new(move |model| {
        names.into_iter().for_each(|name| _ = model.interfaces.entry(name).or_default());
        Ok(Vec::new())
    }))?;
    session.enter(mode, subject);
    Ok(output)
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

/// `inherit port-profile`, and its `no`, of interfaces.
pub fn inherit(session: &mut Session, parent: Option<String>) -> Result<Output, Error> {
    let names = interfaces(session)?;
    let inventory = session.handle.inventory();
    for name in &names {
        if let Some(asked) = asked_profile(&inventory, *name).filter(|asked| parent.as_deref() != Some(asked)) {
            return Err(Error::Refused(format!(
                "{name} is attached with port-profile '{asked}', which the server administrator chooses"
            )));
        }
    }
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
            interface.ok_or_else(|| format!("{name} does not exist any more"))?.inherit.clone_from(&parent);
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
    fn the_profile_of_an_attached_port_is_not_the_network_administrators() {
        let (model, inventory) = example();
        let mut session = Session::new(Handle::detached(model).with_inventory(inventory));
        for (line, printed) in [
            ("configure", "Enter configuration commands, one per line.  End with CNTL/Z.\n"),
            ("interface vethernet 1", ""),
            ("inherit port-profile web", ""),
            (
                "no inherit port-profile",
                "ERROR: Vethernet1 is attached with port-profile 'web', which the server administrator chooses\n",
            ),
            (
                "inherit port-profile Unused_Or_Quarantine_Veth",
                "ERROR: Vethernet1 is attached with port-profile 'web', which the server administrator chooses\n",
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
            (
                "show port-profile usage name web",
                "Port Profile                Port        Adapter           Owner             Module\n\
                 --------------------------  ----------  ----------------  ----------------  ------\n\
                 web                         Veth1       a/0               --                3\n",
            ),
        ] {
            assert_eq!(session.run_line(line), printed, "{line}");
        }
    }
}
