//! Which module holds which card.
//!
//! A card that two hosts say they hold belongs to the one that held it first, for as long as that one is connected and
//! says so; the other gets it when it is let go. So a host can't take a card, and with it the interface and its policy,
//! from another one by claiming it; and during a migration the card moves when the old host lets it go. A host that is
//! away loses a card to whoever has it now.

use hashbrown::HashSet;
use proto::addr::NicId;
use proto::config::ProfileType;
use proto::name::ETHERNET_PORT_MAX;
use proto::report::PortReport;

use super::registry::Registry;

/// Most ports of a module: 1024 of VMs and 32 uplinks.
pub const PORTS_MAX: usize = 1024 + ETHERNET_PORT_MAX as usize;

/// What became of a list of ports.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Ports that another connected module holds.
    pub contested: Vec<PortReport>,
    /// Ports that can't have an interface, and why.
    pub refused: Vec<(NicId, String)>,
    /// Cards that the module held and no longer holds.
    pub released: Vec<NicId>,
}

impl Registry {
    /// A module has said which ports it has: VM ports get their numbers, and what is accepted is in the inventory.
    pub fn place(&mut self, slot: u8, ports: Vec<PortReport>) -> Placed {
        let mut placed = Placed::default();
        let mut own = Vec::with_capacity(ports.len().min(PORTS_MAX));
        let (held, away) = self.held_by_others(slot);
        let (mut nics, mut cards) = (HashSet::new(), HashSet::new());
        for port in ports {
            let refusal = match port.kind {
                _ if own.len() >= PORTS_MAX => Some(format!("a module has at most {PORTS_MAX} ports")),
                _ if !nics.insert(port.nic.clone()) => Some("it is in the list twice".to_owned()),
                ProfileType::Ethernet if !(1..=ETHERNET_PORT_MAX).contains(&port.card) => {
                    Some(format!("it is card {}, they are 1-{ETHERNET_PORT_MAX}", port.card))
                }
                ProfileType::Ethernet if !cards.insert(port.card) => Some(format!("card {} is taken", port.card)),
                ProfileType::Ethernet => None,
                ProfileType::Vethernet if held.contains(&port.nic) => {
                    placed.contested.push(port);
                    continue;
                }
                ProfileType::Vethernet => self.bind(&port.nic).err().map(|e| e.to_string()),
            };
            match refusal {
                Some(reason) => placed.refused.push((port.nic, reason)),
                None => own.push(port),
            }
        }
        self.take_from_absent(&away, &own);
        placed.released = self.set_ports(slot, own);
        placed
    }

    /// The cards of other connected modules, and the other modules that are away.
    fn held_by_others(&self, slot: u8) -> (HashSet<NicId>, Vec<u8>) {
        let others = || self.inventory.modules.iter().filter(move |(other, _)| **other != slot);
        let connected = others().filter(|(_, m)| m.address.is_some());
        let cards = connected.flat_map(|(_, m)| &m.ports).filter(|p| p.kind == ProfileType::Vethernet);
        let away = others().filter(|(_, m)| m.address.is_none() && !m.ports.is_empty());
        (cards.map(|p| p.nic.clone()).collect(), away.map(|(other, _)| *other).collect())
    }

    fn take_from_absent(&mut self, away: &[u8], own: &[PortReport]) {
        let cards: HashSet<&NicId> = own.iter().filter(|p| p.kind == ProfileType::Vethernet).map(|p| &p.nic).collect();
        for slot in away {
            let Some(module) = self.inventory.modules.get(slot) else { continue };
            let is_taken = |p: &PortReport| p.kind == ProfileType::Vethernet && cards.contains(&p.nic);
            if module.ports.iter().any(is_taken) {
                let left = module.ports.iter().filter(|p| !is_taken(p)).cloned().collect();
                self.set_ports(*slot, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto::msg::HostUuid;

    use super::*;

    fn port(nic: &str) -> PortReport {
        PortReport {
            nic: nic.parse().unwrap(),
            kind: ProfileType::Vethernet,
            card: 0,
            profile: "web".into(),
            vm: "vm".into(),
            device: "tap0".into(),
            driver: "tap".into(),
            mac: Some("0200.0000.0001".parse().unwrap()),
        }
    }

    fn uplink(nic: &str, card: u8) -> PortReport {
        PortReport { kind: ProfileType::Ethernet, card, mac: None, ..port(nic) }
    }

    fn two_modules() -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(dir.path()).unwrap();
        for n in 1..=2 {
            registry.admit(HostUuid([n; 16]), "h", "", ([127, 0, 0, 1], 1).into(), &BTreeMap::new()).unwrap();
        }
        (dir, registry)
    }

    fn nics(registry: &Registry, slot: u8) -> Vec<&str> {
        registry.inventory.modules[&slot].ports.iter().map(|p| p.nic.as_str()).collect()
    }

    #[test]
    fn a_card_is_its_first_holder_s_until_that_lets_go() {
        let (_dir, mut registry) = two_modules();
        registry.place(3, vec![port("a/0"), port("b/0"), uplink("uplink/1", 1)]);
        let placed = registry.place(4, vec![port("a/0"), port("c/0"), uplink("uplink/1", 1)]);
        assert_eq!(placed.contested, [port("a/0")]);
        assert_eq!(nics(&registry, 4), ["c/0", "uplink/1"], "uplinks are each host's own");
        let placed = registry.place(3, vec![port("b/0")]);
        assert_eq!(placed.released, ["a/0".parse().unwrap(), "uplink/1".parse().unwrap()]);
        let placed = registry.place(4, vec![port("a/0"), port("c/0")]);
        assert_eq!(placed.contested, []);
        assert_eq!(nics(&registry, 4), ["a/0", "c/0"]);
        assert_eq!(registry.inventory.vethernets[&"a/0".parse().unwrap()], 1);
    }

    #[test]
    fn who_is_away_loses_a_card_to_whoever_has_it() {
        let (_dir, mut registry) = two_modules();
        registry.place(3, vec![port("a/0"), port("b/0")]);
        registry.leave(3);
        assert_eq!(registry.place(4, vec![port("a/0")]).contested, []);
        assert_eq!((nics(&registry, 3), nics(&registry, 4)), (vec!["b/0"], vec!["a/0"]));
    }

    #[test]
    fn what_can_t_have_an_interface_is_told() {
        let (_dir, mut registry) = two_modules();
        let ports = vec![
            port("a/0"),
            port("a/0"),
            uplink("uplink/0", 0),
            uplink("uplink/33", 33),
            uplink("uplink/1", 1),
            uplink("uplink/x", 1),
        ];
        let placed = registry.place(3, ports);
        let refused: Vec<&str> = placed.refused.iter().map(|(nic, _)| nic.as_str()).collect();
        assert_eq!(refused, ["a/0", "uplink/0", "uplink/33", "uplink/x"]);
        assert_eq!(nics(&registry, 3), ["a/0", "uplink/1"]);
        let many = (0..PORTS_MAX + 3).map(|n| port(&format!("vm/{n}"))).collect();
        assert_eq!(registry.place(3, many).refused.len(), 3);
    }

    #[test]
    fn ports_survive_a_restart() {
        let (dir, mut registry) = two_modules();
        registry.place(3, vec![port("a/0"), uplink("uplink/7", 7)]);
        registry.save().unwrap();
        let restored = Registry::open(dir.path()).unwrap();
        assert_eq!(restored.inventory.modules[&3].ports, registry.inventory.modules[&3].ports);
    }
}
