//! Module slots bound to host UUIDs, and Vethernet numbers bound to NIC identities.
//!
//! Both bindings are for ever, or until the administrator removes them: a host that comes back is the same module, a
//! card that comes back (on whichever host) is the same Vethernet. They are kept in `bindings.json`, together with the
//! ports of every module, and a version number that no configuration has had yet; versions rise over restarts, in leaps
//! of up to [`VERSIONS`].
//!
//! Limits: [`MODULES_MAX`] modules, [`VETHERNETS_MAX`] numbers. What is over a limit is refused, never evicted.

mod saved;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proto::addr::NicId;
use proto::msg::{ConfigHash, HostUuid};
use proto::report::PortReport;

use crate::store;
use saved::{Saved, SavedModule};

/// The first slot of a VEM; 1 and 2 are for supervisors.
pub const SLOT_FIRST: u8 = 3;
/// Most VEMs of a switch.
pub const MODULES_MAX: u8 = 64;
/// The last slot of a VEM.
pub const SLOT_LAST: u8 = SLOT_FIRST + MODULES_MAX - 1;
/// Most cards that have a number.
pub const VETHERNETS_MAX: usize = 10_000;
/// Versions that are taken from the file at a time.
pub const VERSIONS: u64 = 256;
/// File in the state directory.
const FILE: &str = "bindings.json";

/// What is known of the hosts, as of now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// By slot, 3-66; present and absent ones.
    pub modules: BTreeMap<u8, Module>,
    /// Vethernet number of every card that was ever attached.
    pub vethernets: BTreeMap<NicId, u32>,
}

/// A VEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Identity of the host.
    pub uuid: HostUuid,
    /// Name of the host.
    pub host: String,
    /// Version of its software.
    pub software: String,
    /// Address it connects from, while it is connected.
    pub address: Option<std::net::SocketAddr>,
    /// The last such address, also while it is away.
    pub last_address: Option<std::net::IpAddr>,
    /// Ports that it has attached; the last known ones while it is absent.
    pub ports: Vec<PortReport>,
    /// Version and hash of what it says it runs.
    pub applied: (u64, ConfigHash),
    /// Version and hash of what it is meant to run.
    pub intended: (u64, ConfigHash),
    /// When it connected last.
    pub connected_at: Option<std::time::SystemTime>,
    /// Session counters, for `show module vem counters`.
    pub counters: LinkCounters,
}

/// Messages of a module's sessions since the supervisor started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkCounters {
    /// Messages received that are not heartbeats.
    pub messages_in: u64,
    /// Messages sent that are not heartbeats.
    pub messages_out: u64,
    /// Heartbeats received.
    pub heartbeats_in: u64,
    /// Heartbeats sent.
    pub heartbeats_out: u64,
    /// Times that it connected.
    pub insertions: u64,
    /// Times that it was lost.
    pub removals: u64,
    /// Sessions that ended by an error in sending.
    pub tx_errors: u64,
}

/// Why a host gets no slot, or a card no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Every slot belongs to a host.
    #[error("all {MODULES_MAX} module slots are taken")]
    Full,
    /// The slot that the configuration gives to this host is in use.
    #[error("module {0} is configured for this host and another host is connected as it")]
    Taken(u8),
    /// Every number belongs to a card.
    #[error("all {VETHERNETS_MAX} Vethernet numbers are taken")]
    NoNumber,
    /// The module is connected.
    #[error("module {0} is connected")]
    Connected(u8),
    /// There is no such module.
    #[error("there is no module {0}")]
    Unknown(u8),
}

/// The bindings and their file. One owner: the supervisor's thread.
pub struct Registry {
    path: PathBuf,
    /// What is known of the hosts.
    pub inventory: Inventory,
    numbers: BTreeSet<u32>,
    version: u64,
    /// The file allows versions below this.
    reserved: u64,
    dirty: bool,
}

impl Registry {
    /// Opens the bindings of a state directory; there are none at the first start.
    ///
    /// # Errors
    /// The file can't be read or contradicts itself.
    pub fn open(state_dir: &Path) -> Result<Self, store::Error> {
        let path = state_dir.join(FILE);
        let saved: Saved = match store::read(&path)? {
            Some(octets) => serde_json::from_slice(&octets).map_err(|e| store::Error::content(&path, e))?,
            None => Saved::default(),
        };
        let mut registry = Registry {
            inventory: Inventory::default(),
            numbers: BTreeSet::new(),
            version: saved.version,
            reserved: saved.version,
            dirty: false,
            path,
        };
        registry.restore(saved).map_err(|what| store::Error::content(&registry.path, what))?;
        Ok(registry)
    }

    fn restore(&mut self, saved: Saved) -> Result<(), String> {
        for (slot, module) in saved.modules {
            let uuid = module.uuid.parse().map_err(|e| format!("module {slot}: {e}"))?;
            if !(SLOT_FIRST..=SLOT_LAST).contains(&slot) {
                return Err(format!("module {slot}: slots are {SLOT_FIRST}-{SLOT_LAST}"));
            }
            if let Some(other) = self.slot_of(uuid) {
                return Err(format!("modules {other} and {slot} are the same host"));
            }
            let ports: Result<_, _> = module.ports.into_iter().map(saved::SavedPort::restore).collect();
            let ports = ports.map_err(|e| format!("module {slot}: {e}"))?;
            let last_address = module.address;
            self.inventory.modules.insert(slot, Module { ports, last_address, ..absent(uuid, module.host) });
        }
        for (nic, number) in saved.vethernets {
            let nic = nic.parse().map_err(|_| format!("Vethernet{number}: `{nic}` is no NIC identity"))?;
            if !self.numbers.insert(number) {
                return Err(format!("Vethernet{number} belongs to two cards"));
            }
            self.inventory.vethernets.insert(nic, number);
        }
        Ok(())
    }

    /// The slot of a host.
    pub fn slot_of(&self, uuid: HostUuid) -> Option<u8> {
        self.inventory.modules.iter().find(|(_, m)| m.uuid == uuid).map(|(slot, _)| *slot)
    }

    /// A host has connected: its slot, which is the one that `fixed` says, or the one it had, or the lowest free one.
    ///
    /// # Errors
    /// There is none for it.
    pub fn admit(
        &mut self,
        uuid: HostUuid,
        host: &str,
        software: &str,
        address: SocketAddr,
        fixed: &BTreeMap<u8, HostUuid>,
    ) -> Result<u8, Error> {
        let slot = self.choose(uuid, fixed)?;
        let was = self.slot_of(uuid);
        if was != Some(slot) {
            let moved = was.and_then(|was| self.inventory.modules.remove(&was));
            self.inventory.modules.insert(slot, moved.unwrap_or_else(|| absent(uuid, host.to_owned())));
            self.dirty = true;
        }
        if let Some(module) = self.inventory.modules.get_mut(&slot) {
            self.dirty |= module.host != host;
            host.clone_into(&mut module.host);
            software.clone_into(&mut module.software);
            module.address = Some(address);
            self.dirty |= module.last_address.replace(address.ip()) != Some(address.ip());
            module.connected_at = Some(SystemTime::now());
            module.counters.insertions += 1;
        }
        Ok(slot)
    }

    fn choose(&self, uuid: HostUuid, fixed: &BTreeMap<u8, HostUuid>) -> Result<u8, Error> {
        if let Some((slot, _)) = fixed.iter().find(|(_, owner)| **owner == uuid) {
            let taken = self.inventory.modules.get(slot).is_some_and(|m| m.uuid != uuid && m.address.is_some());
            return if taken { Err(Error::Taken(*slot)) } else { Ok(*slot) };
        }
        let own = self.slot_of(uuid).filter(|slot| !fixed.contains_key(slot));
        let free = || {
            (SLOT_FIRST..=SLOT_LAST)
                .find(|slot| !self.inventory.modules.contains_key(slot) && !fixed.contains_key(slot))
        };
        own.or_else(free).ok_or(Error::Full)
    }

    /// A host is gone; what is known of it stays.
    pub fn leave(&mut self, slot: u8) {
        if let Some(module) = self.inventory.modules.get_mut(&slot) {
            module.address = None;
            module.counters.removals += 1;
        }
    }

    /// Replaces the ports of a module; the cards that it no longer has.
    pub(super) fn set_ports(&mut self, slot: u8, ports: Vec<PortReport>) -> Vec<NicId> {
        let Some(module) = self.inventory.modules.get_mut(&slot) else { return Vec::new() };
        self.dirty |= module.ports != ports;
        let old = std::mem::replace(&mut module.ports, ports);
        let new: BTreeSet<&NicId> = module.ports.iter().map(|p| &p.nic).collect();
        old.into_iter().map(|p| p.nic).filter(|nic| !new.contains(nic)).collect()
    }

    /// Gives up the slot of an absent host.
    ///
    /// # Errors
    /// There is no such module, or it is connected.
    pub fn remove(&mut self, slot: u8) -> Result<(), Error> {
        match self.inventory.modules.get(&slot) {
            None => Err(Error::Unknown(slot)),
            Some(module) if module.address.is_some() => Err(Error::Connected(slot)),
            Some(_) => {
                self.inventory.modules.remove(&slot);
                self.dirty = true;
                Ok(())
            }
        }
    }

    /// The number of a card: the one it had, or the lowest free one.
    ///
    /// # Errors
    /// All are taken.
    pub fn bind(&mut self, nic: &NicId) -> Result<u32, Error> {
        if let Some(number) = self.inventory.vethernets.get(nic) {
            return Ok(*number);
        }
        if self.numbers.len() >= VETHERNETS_MAX {
            return Err(Error::NoNumber);
        }
        let lowest = (1..).zip(&self.numbers).find(|(free, taken)| free != *taken).map(|(free, _)| free);
        let number = lowest.unwrap_or(self.numbers.len() as u32 + 1);
        self.numbers.insert(number);
        self.inventory.vethernets.insert(nic.clone(), number);
        self.dirty = true;
        Ok(number)
    }

    /// Frees the number of a card that nobody holds.
    pub fn unbind(&mut self, nic: &NicId) {
        if let Some(number) = self.inventory.vethernets.remove(nic) {
            self.numbers.remove(&number);
            self.dirty = true;
        }
    }

    /// A version that no configuration has had.
    pub fn next_version(&mut self) -> u64 {
        self.version += 1;
        if self.version >= self.reserved {
            self.reserved = self.version + VERSIONS;
            self.dirty = true;
        }
        self.version
    }

    /// A host runs this version: no later one may be lower, even when our file was lost.
    pub fn saw_version(&mut self, version: u64) {
        // A host that lies must not use the numbers up.
        if version > self.version && version < u64::MAX / 2 {
            self.version = version;
        }
    }

    /// Writes the file when something in it has changed. To be called before anybody is told of the change.
    ///
    /// # Errors
    /// It can't be written; the next call tries again.
    pub fn save(&mut self) -> Result<(), store::Error> {
        if !self.dirty {
            return Ok(());
        }
        let modules = &self.inventory.modules;
        let saved = Saved {
            version: self.reserved.max(self.version),
            modules: modules.iter().map(|(slot, module)| (*slot, SavedModule::of(module))).collect(),
            vethernets: self.inventory.vethernets.iter().map(|(nic, n)| (nic.to_string(), *n)).collect(),
        };
        let octets = serde_json::to_vec_pretty(&saved).map_err(|e| store::Error::content(&self.path, e))?;
        store::write(&self.path, &octets, 0o600)?;
        self.dirty = false;
        Ok(())
    }
}

/// A host that is not connected.
fn absent(uuid: HostUuid, host: String) -> Module {
    Module {
        uuid,
        host,
        software: String::new(),
        address: None,
        last_address: None,
        ports: Vec::new(),
        applied: (0, ConfigHash::default()),
        intended: (0, ConfigHash::default()),
        connected_at: None,
        counters: LinkCounters::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uuid(n: u8) -> HostUuid {
        HostUuid([n; 16])
    }

    fn nic(n: u32) -> NicId {
        format!("vm-{n}/0").parse().unwrap()
    }

    fn admit(registry: &mut Registry, n: u8, fixed: &BTreeMap<u8, HostUuid>) -> Result<u8, Error> {
        registry.admit(uuid(n), &format!("host-{n}"), "0.1.0", ([127, 0, 0, 1], 1).into(), fixed)
    }

    fn empty() -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        (dir, registry)
    }

    #[test]
    fn slots_and_numbers_survive_a_restart() {
        let (dir, mut registry) = empty();
        let none = BTreeMap::new();
        assert_eq!(admit(&mut registry, 1, &none), Ok(3));
        assert_eq!(admit(&mut registry, 2, &none), Ok(4));
        assert_eq!(registry.bind(&nic(9)), Ok(1));
        assert_eq!(registry.bind(&nic(8)), Ok(2));
        let version = registry.next_version();
        registry.save().unwrap();
        let mut registry = Registry::open(dir.path()).unwrap();
        assert_eq!(registry.inventory.modules[&4].host, "host-2");
        assert_eq!(registry.inventory.modules[&4].address, None);
        assert_eq!(admit(&mut registry, 2, &none), Ok(4));
        assert_eq!(registry.bind(&nic(8)), Ok(2));
        assert!(registry.next_version() > version);
    }

    #[test]
    fn the_65th_host_is_refused_until_a_slot_is_given_up() {
        let (_dir, mut registry) = empty();
        let none = BTreeMap::new();
        for n in 1..=64 {
            assert_eq!(admit(&mut registry, n, &none), Ok(n + 2));
        }
        assert_eq!(admit(&mut registry, 65, &none), Err(Error::Full));
        assert_eq!(registry.remove(10), Err(Error::Connected(10)));
        registry.leave(10);
        assert_eq!(registry.remove(10), Ok(()));
        assert_eq!(registry.remove(10), Err(Error::Unknown(10)));
        assert_eq!(admit(&mut registry, 65, &none), Ok(10));
    }

    #[test]
    fn a_configured_slot_goes_before_the_one_it_had() {
        let (_dir, mut registry) = empty();
        let none = BTreeMap::new();
        admit(&mut registry, 1, &none).unwrap();
        admit(&mut registry, 2, &none).unwrap();
        let fixed = BTreeMap::from([(4, uuid(1)), (3, uuid(3))]);
        registry.leave(3);
        assert_eq!(admit(&mut registry, 1, &fixed), Err(Error::Taken(4)), "host 2 is connected as module 4");
        registry.leave(4);
        assert_eq!(admit(&mut registry, 1, &fixed), Ok(4));
        assert_eq!(admit(&mut registry, 2, &fixed), Ok(5), "3 is kept for host 3");
        assert_eq!(admit(&mut registry, 3, &fixed), Ok(3));
        assert_eq!(registry.inventory.modules.len(), 3);
    }

    #[test]
    fn the_lowest_number_that_is_free() {
        let (_dir, mut registry) = empty();
        for n in 1..=4 {
            assert_eq!(registry.bind(&nic(n)), Ok(n));
        }
        registry.unbind(&nic(2));
        registry.unbind(&nic(1));
        assert_eq!(registry.bind(&nic(50)), Ok(1));
        assert_eq!(registry.bind(&nic(51)), Ok(2));
        assert_eq!(registry.bind(&nic(52)), Ok(5));
    }

    #[test]
    fn numbers_end() {
        let (_dir, mut registry) = empty();
        for n in 0..VETHERNETS_MAX as u32 {
            registry.numbers.insert(n + 1);
        }
        assert_eq!(registry.bind(&nic(1)), Err(Error::NoNumber));
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "",
            "{}",
            r#"{"version":1,"modules":{},"vethernets":{"a":1,"b":1}}"#,
            r#"{"version":1,"modules":{"2":{"uuid":"f81d4fae-7dec-11d0-a765-00a0c91e6bf6","host":"h"}},"vethernets":{}}"#,
            r#"{"version":1,"modules":{"3":{"uuid":"x","host":"h"}},"vethernets":{}}"#,
            r#"{"version":1,"modules":{},"vethernets":{},"more":1}"#,
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert!(Registry::open(dir.path()).is_err(), "{text}");
        }
    }

    proptest! {
        // Each step writes to disk.
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Versions rise, whatever is saved, lost, or claimed.
        #[test]
        fn versions_rise(steps in proptest::collection::vec(0..4u8, 1..40)) {
            let (dir, mut registry) = empty();
            let mut last = 0;
            for step in steps {
                match step {
                    0 => registry = Registry::open(dir.path()).unwrap(),
                    1 => registry.saw_version(last + 1000),
                    _ => {
                        let version = registry.next_version();
                        registry.save().unwrap();
                        prop_assert!(version > last);
                        last = version;
                    }
                }
            }
        }
    }
}
