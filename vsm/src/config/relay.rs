//! Monitor sessions over several modules: which module sends its copies to which.
//!
//! A module copies to the destinations of a session that it has. One that has none, and watches something, sends its copies to
//! every module that has. So a session whose destination is on another host works, and one with a sensor on each host stays on
//! each host. The modules that copy for the same destination, which all do for a session by ERSPAN, are told whom each of them
//! watches both ways, so that a conversation of two of them is copied by one.
//!
//! Where a module is, is known from its control session; the last address counts while it is away. Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proto::addr::MacAddr;
use proto::config::{Once, Peer, Relay, SourceKind};
use proto::name::IfName;
use proto::vlan::PortMode;

use super::compile::interface_of;
use super::model::{Model, MonitorSession, SessionType};
use crate::module::registry::Inventory;

/// A port, as sessions see it.
struct Place {
    slot: u8,
    name: IfName,
    profile: Option<String>,
    mac: Option<MacAddr>,
    mode: PortMode,
}

/// Where ports are.
pub struct Places<'a> {
    inventory: &'a Inventory,
    ports: Vec<Place>,
    by_name: BTreeMap<IfName, u8>,
    by_profile: BTreeMap<String, BTreeSet<u8>>,
}

impl<'a> Places<'a> {
    /// Those of every module; none when no session could need them.
    pub fn new(model: &Model, inventory: &'a Inventory) -> Places<'a> {
        let mut places = Places { inventory, ports: Vec::new(), by_name: BTreeMap::new(), by_profile: BTreeMap::new() };
        if !model.sessions.values().any(|session| !session.shut && session.kind != SessionType::ErspanDestination) {
            return places;
        }
        for (slot, module) in &inventory.modules {
            for port in &module.ports {
                let Some(name) = interface_of(inventory, *slot, port) else { continue };
                let interface = model.interface_for(name, port);
                let mode = model.interface_settings(&interface).mode;
                let profile = interface.inherit;
                places.by_name.insert(name, *slot);
                if let Some(profile) = &profile {
                    places.by_profile.entry(profile.clone()).or_default().insert(*slot);
                }
                places.ports.push(Place { slot: *slot, name, profile, mac: port.mac, mode });
            }
        }
        places
    }

    /// Modules with destinations of a session.
    fn homes(&self, session: &MonitorSession) -> BTreeSet<u8> {
        let named = session.destinations.iter().filter_map(|name| self.by_name.get(name));
        let profiles = session.destination_profiles.iter().filter_map(|profile| self.by_profile.get(profile)).flatten();
        named.chain(profiles).copied().collect()
    }

    /// Modules that may see what it watches.
    fn watchers(&self, session: &MonitorSession) -> BTreeSet<u8> {
        let slots = |what: &SourceKind| -> Vec<u8> {
            match what {
                SourceKind::Interface(name) => self.by_name.get(name).copied().into_iter().collect(),
                SourceKind::Profile(profile) => self.by_profile.get(profile).into_iter().flatten().copied().collect(),
                SourceKind::Vlan(_) | SourceKind::Drops(_) => self.inventory.modules.keys().copied().collect(),
            }
        };
        session.sources.iter().flat_map(|source| slots(&source.what)).collect()
    }

    /// IPv4 addresses of all modules, as far as they have one.
    pub fn addresses(&self) -> Vec<u32> {
        self.inventory.modules.keys().filter_map(|slot| self.address(*slot)).collect()
    }

    /// IPv4 address of a module.
    pub fn address(&self, slot: u8) -> Option<u32> {
        match self.inventory.modules.get(&slot)?.last_address? {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(address) => address.to_ipv4_mapped().map(Ipv4Addr::into),
        }
    }

    /// What module `slot` must know of the others for session `id` of the switch's domain; `None` when no copy leaves a module.
    pub fn relay(&self, session: &MonitorSession, id: u16, domain: u16, slot: u8) -> Option<Relay> {
        if session.kind != SessionType::Local {
            return None;
        }
        let homes = self.homes(session);
        let watchers = self.watchers(session);
        let senders: BTreeSet<u8> = watchers.difference(&homes).copied().collect();
        if homes.is_empty() || senders.is_empty() || !(homes.contains(&slot) || senders.contains(&slot)) {
            return None;
        }
        let peer = |module: &u8| Peer { module: *module, address: self.address(*module) };
        let (to, from) = match homes.contains(&slot) {
            true => (Vec::new(), senders.iter().filter_map(|sender| self.address(*sender)).collect()),
            false => (homes.iter().map(peer).collect(), Vec::new()),
        };
        Some(Relay { key: u32::from(domain) << 16 | u32::from(id), origin: self.address(slot), to, from })
    }

    /// Which module copies what, of those that copy for the same destination as `slot`; `None` where that is all that it sees.
    pub fn once(&self, session: &MonitorSession, slot: u8) -> Option<Once> {
        // A home's copies go to itself alone, a sender's to all homes: only two homes have no destination in common.
        let homes = self.homes(session);
        let shares = |other: u8| match session.kind {
            SessionType::ErspanSource => true,
            SessionType::Local => !(homes.is_empty() || homes.contains(&slot) && homes.contains(&other)),
            SessionType::ErspanDestination => false,
        };
        if session.every_host {
            return None;
        }
        let mut once = Once::default();
        let whole = self.wholly_watched(session);
        let copied = self.ports.iter().filter(|place| matches!(place.name, IfName::Vethernet(_)));
        for place in copied.filter(|place| whole.contains(&place.slot) || watches_both_ways(session, place)) {
            let Some(mac) = place.mac else { continue };
            match place.slot.cmp(&slot) {
                Ordering::Equal => once.own.push(mac),
                Ordering::Less if shares(place.slot) => once.before.push(mac),
                Ordering::Greater if shares(place.slot) => once.after.push(mac),
                _ => {}
            }
        }
        for macs in [&mut once.own, &mut once.before, &mut once.after] {
            macs.sort_unstable();
            macs.dedup();
        }
        (!once.before.is_empty() || !once.after.is_empty()).then_some(once)
    }

    /// Modules all of whose uplinks are watched, and so all that their VMs say to others.
    fn wholly_watched(&self, session: &MonitorSession) -> BTreeSet<u8> {
        let mut slots: BTreeMap<u8, bool> = BTreeMap::new();
        for uplink in self.ports.iter().filter(|place| place.name.is_ethernet()) {
            *slots.entry(uplink.slot).or_insert(true) &= watches_both_ways(session, uplink);
        }
        slots.into_iter().filter_map(|(slot, watched)| watched.then_some(slot)).collect()
    }
}

/// What passes there is copied in both directions. What enters a VLAN does so at the uplinks too; who is in it beside other
/// VLANs is watched in part.
fn watches_both_ways(session: &MonitorSession, place: &Place) -> bool {
    session.sources.iter().any(|source| match &source.what {
        SourceKind::Interface(name) => *name == place.name && source.rx && source.tx,
        SourceKind::Profile(profile) => place.profile.as_ref() == Some(profile) && source.rx && source.tx,
        SourceKind::Vlan(vlan) => matches!(place.mode, PortMode::Access(of) if of == *vlan) && source.rx,
        SourceKind::Drops(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile::compile;
    use crate::config::compile::tests::example;
    use crate::config::model::SessionSource;

    /// Modules 3 with Veth1 and Veth2, 4 with Veth3 and Veth4, 5 with nothing but its address.
    fn switch(session: MonitorSession) -> (Model, Inventory) {
        let (mut model, mut inventory) = example();
        let mut five = inventory.modules[&4].clone();
        five.ports.clear();
        inventory.modules.insert(5, five);
        for (slot, module) in &mut inventory.modules {
            module.last_address = Some([192, 0, 2, *slot].into());
        }
        model.domain_id = Some(100);
        model.sessions.clear();
        model.sessions.insert(7, MonitorSession { shut: false, ..session });
        (model, inventory)
    }

    fn session(source: SourceKind, destinations: &[u32]) -> MonitorSession {
        MonitorSession {
            sources: vec![SessionSource { what: source, rx: true, tx: true }],
            destinations: destinations.iter().map(|n| IfName::Vethernet(*n)).collect(),
            ..MonitorSession::default()
        }
    }

    fn relays((model, inventory): &(Model, Inventory)) -> [Option<Relay>; 3] {
        [3, 4, 5].map(|slot| compile(model, inventory, slot).sessions.remove(0).relay)
    }

    fn ip(slot: u8) -> u32 {
        Ipv4Addr::from([192, 0, 2, slot]).into()
    }

    fn vlan() -> SourceKind {
        SourceKind::Vlan(proto::addr::VlanId::new(10).unwrap())
    }

    #[test]
    fn copies_go_to_the_module_with_the_destination() {
        // Veth3, on module 4, is watched; Veth1 is the destination.
        let mut switch = switch(session(SourceKind::Interface(IfName::Vethernet(3)), &[1]));
        let key = 100 << 16 | 7;
        let to = |address| vec![Peer { module: 3, address }];
        let at_home = Relay { key, origin: Some(ip(3)), to: Vec::new(), from: vec![ip(4)] };
        let sender = Relay { key, origin: Some(ip(4)), to: to(Some(ip(3))), from: Vec::new() };
        assert_eq!(relays(&switch), [Some(at_home), Some(sender.clone()), None]);
        let host = compile(&switch.0, &switch.1, 5);
        assert_eq!((host.hosts, host.address), (None, Some(ip(5))), "nothing comes or goes there but flow export");
        let host = compile(&switch.0, &switch.1, 4);
        assert_eq!((host.hosts, host.address), (Some(vec![ip(3), ip(4), ip(5)]), Some(ip(4))));
        // The destination's card moves to module 5.
        let moved = switch.1.modules.get_mut(&3).unwrap().ports.remove(2);
        switch.1.modules.get_mut(&5).unwrap().ports.push(moved);
        let [three, four, five] = relays(&switch);
        assert_eq!((three, four.unwrap().to), (None, vec![Peer { module: 5, address: Some(ip(5)) }]));
        assert_eq!(five.unwrap().from, [ip(4)]);
        // An address by IPv6 can't be sent to.
        switch.1.modules.get_mut(&5).unwrap().last_address = Some("2001:db8::1".parse().unwrap());
        assert_eq!(relays(&switch)[1].as_ref().unwrap().to, [Peer { module: 5, address: None }]);
    }

    #[test]
    fn a_module_with_a_destination_keeps_its_copies() {
        // Each of the modules that watch has one.
        assert_eq!(relays(&switch(session(SourceKind::Profile("web".into()), &[1, 3]))), [None, None, None]);
        // A VLAN is watched on module 5 as well, which has none.
        let [three, four, five] = relays(&switch(session(vlan(), &[1, 3])));
        let modules: Vec<u8> = five.unwrap().to.iter().map(|peer| peer.module).collect();
        assert_eq!((modules, three.unwrap().from, four.unwrap().from), (vec![3, 4], vec![ip(5)], vec![ip(5)]));
        // No copy leaves a module, but flow export does, which none of them copies.
        let (mut model, inventory) = switch(session(SourceKind::Profile("web".into()), &[1, 3]));
        let host = compile(&model, &inventory, 3);
        assert_eq!((host.hosts, host.address, host.exporters.is_empty()), (None, Some(ip(3)), false));
        model.sessions.clear();
        assert_eq!(compile(&model, &inventory, 3).address, None);
        // ERSPAN goes its own way.
        let erspan = MonitorSession { kind: SessionType::ErspanSource, ..session(vlan(), &[]) };
        assert_eq!(relays(&switch(erspan)), [None, None, None]);
    }

    fn shared(switch: &(Model, Inventory)) -> [Option<[Vec<u64>; 3]>; 3] {
        let numbers = |macs: Vec<MacAddr>| macs.iter().map(|mac| mac.to_u64()).collect();
        [3, 4, 5].map(|slot| {
            let once = compile(&switch.0, &switch.1, slot).sessions.remove(0).once;
            once.map(|once| [once.own, once.before, once.after].map(numbers))
        })
    }

    /// Veth1 and Veth2 on module 3, Veth3 on 4 are of the watched profile.
    #[test]
    fn a_conversation_of_two_modules_is_copied_by_one() {
        let web = || session(SourceKind::Profile("web".into()), &[1]);
        let said = |session| shared(&switch(session));
        let all = [Some([vec![1, 2], vec![], vec![3]]), Some([vec![3], vec![1, 2], vec![]])];
        assert_eq!(said(web())[..2], all);
        assert_eq!(said(MonitorSession { every_host: true, ..web() }), [None, None, None]);
        // Each with a sensor of its own.
        let sensors = MonitorSession { destinations: session(vlan(), &[1, 3]).destinations, ..web() };
        assert_eq!(said(sensors)[..2], [None, None]);
        let erspan = || MonitorSession { kind: SessionType::ErspanSource, destinations: Vec::new(), ..web() };
        assert_eq!(said(erspan())[..2], all);
        assert_eq!(said(erspan())[2], Some([vec![], vec![1, 2, 3], vec![]]));
        // What is watched one way is copied once by itself; of a VLAN it is seen at the uplinks too.
        let one_way = |source| vec![SessionSource { what: source, rx: true, tx: false }];
        let web_in = MonitorSession { sources: one_way(SourceKind::Profile("web".into())), ..erspan() };
        assert_eq!(said(web_in), [None, None, None]);
        assert_eq!(said(MonitorSession { sources: one_way(vlan()), ..erspan() })[..2], all);
        // All that leaves module 3.
        let uplink = SourceKind::Interface(IfName::Ethernet { slot: 3, port: 1 });
        let at_the_wire = MonitorSession { sources: session(uplink, &[]).sources, ..erspan() };
        assert_eq!(said(at_the_wire)[1], Some([vec![], vec![1, 2], vec![]]));
    }
}
