//! A whole configuration in place of another.
//!
//! What the text says becomes the configuration, with one exception: cards that are known keep their interface. A card
//! is there because a server administrator attached it, which no text can undo, and its number must stay
//! ([`crate::module::registry`]). So an interface that the new text does not name stays with its profile alone, as if the
//! card had just been attached, and a profile that the server administrator has chosen since then stays chosen.

use proto::name::IfName;

use super::compile::interface_of;
use super::model::{Interface, Model, kind_of};
use crate::module::registry::Inventory;

/// Puts `next` in place of `model`; gives the interfaces that stay although `next` does not name them.
pub fn replace(model: &mut Model, next: Model, inventory: &Inventory) -> Vec<IfName> {
    let before = std::mem::replace(model, next);
    let attached: Vec<_> = inventory
        .modules
        .iter()
        .flat_map(|(slot, module)| module.ports.iter().map(move |port| (*slot, port)))
        .filter_map(|(slot, port)| Some((interface_of(inventory, slot, port)?, slot, port)))
        .collect();
    let numbered = inventory.vethernets.values().map(|number| IfName::Vethernet(*number));
    let mut known: Vec<IfName> = attached.iter().map(|(name, ..)| *name).chain(numbered).collect();
    known.sort();
    known.dedup();
    let mut stay = Vec::new();
    for name in known {
        let Some(was) = before.interfaces.get(&name).filter(|_| !model.interfaces.contains_key(&name)) else {
            continue;
        };
        let inherit = was.inherit.as_deref().and_then(|profile| model.inheritable(profile, kind_of(name)));
        let mut interface = Interface { inherit, ..Interface::default() };
        interface.ask(was.asked.clone().or_else(|| was.inherit.clone()));
        model.interfaces.insert(name, interface);
        stay.push(name);
    }
    for (name, slot, port) in attached.into_iter().filter(|(.., port)| !port.profile.is_empty()) {
        match name {
            IfName::Vethernet(number) => model.bind_vethernet(number, port),
            _ => model.bind_ethernet(slot, port.card, port),
        }
    }
    stay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile::tests::example;

    #[test]
    fn cards_keep_their_interface_and_the_newer_choice() {
        let (mut model, inventory) = example();
        let veth = IfName::Vethernet(1);
        let port = inventory.modules[&3].ports.iter().find(|p| p.nic.as_str() == "a/0").unwrap().clone();
        model.bind_vethernet(1, &port);
        model.interfaces.get_mut(&veth).unwrap().own.mtu = Some(9000);
        model.interfaces.insert(IfName::Vethernet(900), Interface::default());

        // The text is of a time before the card was there.
        let mut now = model.clone();
        let mut then = Model { interfaces: Default::default(), ..model.clone() };
        let stay = replace(&mut now, then.clone(), &inventory);
        assert!(stay.contains(&veth) && !now.interfaces.contains_key(&IfName::Vethernet(900)), "{stay:?}");
        assert_eq!(now.interfaces[&veth].inherit.as_deref(), Some(port.profile.as_str()));
        assert_eq!(now.interfaces[&veth].own.mtu, None);

        // It is of a time when the card had another profile.
        then.interfaces.insert(veth, Interface { inherit: Some("old".into()), ..Interface::default() });
        let mut now = model.clone();
        assert!(!replace(&mut now, then.clone(), &inventory).contains(&veth));
        assert_eq!(now.interfaces[&veth].inherit.as_deref(), Some(port.profile.as_str()));

        // The network administrator had overruled the same choice.
        let quiet =
            Interface { inherit: Some("quiet".into()), asked: Some(port.profile.clone()), ..Interface::default() };
        then.interfaces.insert(veth, quiet.clone());
        let mut now = model.clone();
        replace(&mut now, then, &inventory);
        assert_eq!(now.interfaces[&veth], quiet);
    }
}
