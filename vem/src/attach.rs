//! Ports of this host: attach, detach, and what is known of each.
//!
//! An attachment is a server administrator's word: this device carries that VM's card, with that profile. It outlives the
//! agent (see [`crate::headless`]). Three numbers name the same port to three readers:
//!
//! * the [`NicId`] to the supervisor: it goes with the VM from host to host;
//! * the [`PortId`] to the dataplane: the lowest free number, reused once the port is gone;
//! * the interface index to the collectors: from 1, never given to another card while this host remembers the first one,
//!   because a collector keeps what it has heard for hours.
//!
//! Limits: [`PORTS_MAX`] ports, [`REMEMBERED_MAX`] remembered indexes (of cards that are away, the one with the lowest
//! index is forgotten first).
//!
//! Pure: nothing here touches a device.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use proto::addr::{MacAddr, NicId};
use proto::config::ProfileType;
use proto::report::PortReport;
use vswitch::port::xdp::ethtool;
use vswitch::port::{PORTS_MAX, PortId};

use crate::request::vhost::VhostUser;
use crate::request::{Driver, Kind};

/// Most cards whose interface index is remembered.
pub const REMEMBERED_MAX: usize = 4096;

/// What a `netdev` was like before it was silenced, to be put back on detach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Before {
    /// The host ran IPv6 on it.
    #[n(0)]
    pub ipv6: bool,
    /// The host answered ARP on it.
    #[n(1)]
    pub arp: bool,
    /// What it did to received frames, when AF_XDP has switched that off.
    #[n(2)]
    pub receiving: Option<Receiving>,
}

/// What a device does to received frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Receiving {
    /// Joins them in software.
    #[n(0)]
    pub gro: bool,
    /// Joins them in hardware.
    #[n(1)]
    pub lro: bool,
    /// Takes the VLAN tag out.
    #[n(2)]
    pub vlan: bool,
}

impl From<ethtool::Receiving> for Receiving {
    fn from(ethtool::Receiving { gro, lro, vlan }: ethtool::Receiving) -> Receiving {
        Receiving { gro, lro, vlan }
    }
}

impl From<Receiving> for ethtool::Receiving {
    fn from(Receiving { gro, lro, vlan }: Receiving) -> ethtool::Receiving {
        ethtool::Receiving { gro, lro, vlan }
    }
}

/// A port of this host.
#[derive(Clone, PartialEq, Eq, Debug, Encode, Decode)]
pub struct Attachment {
    /// The VM's card, or the uplink.
    #[n(0)]
    pub nic: NicId,
    /// How the device is reached.
    #[n(1)]
    pub kind: Kind,
    /// Device.
    #[n(2)]
    pub device: String,
    /// Path of the namespace that the device is in; `None` is the agent's own.
    #[n(3)]
    pub netns: Option<String>,
    /// A tap without virtio header.
    #[n(4)]
    pub plain: bool,
    /// Profile that the server administrator chose.
    #[n(5)]
    pub profile: String,
    /// Name of the VM, empty for an uplink.
    #[n(6)]
    pub vm: String,
    /// Address of the VM's card, when it was given.
    #[n(7)]
    pub mac: Option<MacAddr>,
    /// Card number of an uplink, 0 for a VM port.
    #[n(8)]
    pub card: u8,
    /// The dataplane's number.
    #[n(9)]
    pub port: u16,
    /// Interface index in the flow export.
    #[n(10)]
    pub if_index: u16,
    /// The agent made the tap, so it removes it.
    #[n(11)]
    pub made: bool,
    /// The supervisor has not yet sent a configuration that knows of the chosen profile: until then the profile decides,
    /// not what an earlier configuration says of the card.
    #[n(12)]
    pub fresh: bool,
    /// From `vem.toml`: can't be detached, and ends when it is no longer there.
    #[n(13)]
    pub fixed: bool,
    /// What the device was like before the host was silenced on it.
    #[n(14)]
    pub before: Option<Before>,
    /// Socket of a vhost-user port.
    #[n(15)]
    pub vhost: Option<VhostUser>,
    /// What drives a netdev, when it was said.
    #[n(18)]
    pub driver: Option<Driver>,
}

/// Why a port can't be attached or detached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A word of the request is not what it must be.
    #[error("{0}")]
    Word(String),
    /// The card is attached.
    #[error("{0} is attached already (device {1})")]
    NicTaken(NicId, String),
    /// The device is attached.
    #[error("device {0} is attached already (as {1})")]
    DeviceTaken(String, NicId),
    /// The socket is another port's.
    #[error("socket {0} is attached already (as {1})")]
    SocketTaken(String, NicId),
    /// No number is left.
    #[error("this host has {PORTS_MAX} ports; there can't be more")]
    Full,
    /// Nothing of that name is attached.
    #[error("{0} is not attached")]
    Unknown(String),
    /// The device's name stands for several ports.
    #[error("device {0} is attached in several namespaces; name the port with --nic")]
    Ambiguous(String),
    /// From `vem.toml`.
    #[error("{0} is in the agent's configuration file; take it out there")]
    Fixed(NicId),
}

impl Attachment {
    /// VM port or uplink.
    pub fn profile_type(&self) -> ProfileType {
        if self.card > 0 { ProfileType::Ethernet } else { ProfileType::Vethernet }
    }

    /// The dataplane's number.
    pub fn port(&self) -> PortId {
        PortId(self.port)
    }

    /// What the supervisor is told.
    pub fn report(&self) -> PortReport {
        PortReport {
            nic: self.nic.clone(),
            kind: self.profile_type(),
            card: self.card,
            profile: self.profile.clone(),
            vm: self.vm.clone(),
            device: self.device.clone(),
            driver: self.kind.name().to_owned(),
            mac: self.mac,
        }
    }

    /// The other asks for the same port on the same device in the same way; profile and address may differ.
    pub fn same_device(&self, other: &Attachment) -> bool {
        self.kind == other.kind
            && self.device == other.device
            && self.netns == other.netns
            && self.plain == other.plain
            && self.driver == other.driver
            && self.card == other.card
            && self.vhost == other.vhost
    }
}

/// The ports of this host, and the interface indexes that it remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Encode, Decode)]
pub struct Attachments {
    #[n(0)]
    ports: BTreeMap<NicId, Attachment>,
    #[n(1)]
    indexes: BTreeMap<NicId, u16>,
}

impl Attachments {
    /// Every port, in the order of its card's name.
    pub fn iter(&self) -> impl Iterator<Item = &Attachment> {
        self.ports.values()
    }

    /// How many ports there are.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// There is no port.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The port of a card.
    pub fn get(&self, nic: &NicId) -> Option<&Attachment> {
        self.ports.get(nic)
    }

    /// The port of a card, to be changed.
    pub fn get_mut(&mut self, nic: &NicId) -> Option<&mut Attachment> {
        self.ports.get_mut(nic)
    }

    /// The port with that number.
    pub fn by_port(&self, id: PortId) -> Option<&Attachment> {
        self.iter().find(|a| a.port() == id)
    }

    /// Gives a new port its numbers and keeps it.
    ///
    /// # Errors
    /// The card or the device is attached already, or the host is full.
    pub fn add(&mut self, mut new: Attachment) -> Result<&Attachment, Error> {
        if let Some(old) = self.ports.get(&new.nic) {
            return Err(Error::NicTaken(new.nic, old.device.clone()));
        }
        if let Some(old) = self.iter().find(|a| a.device == new.device && a.netns == new.netns) {
            return Err(Error::DeviceTaken(new.device, old.nic.clone()));
        }
        if let Some(socket) = &new.vhost {
            let same = |a: &&Attachment| a.vhost.as_ref().is_some_and(|other| other.path == socket.path);
            if let Some(old) = self.iter().find(same) {
                return Err(Error::SocketTaken(socket.path.clone(), old.nic.clone()));
            }
        }
        let used: BTreeSet<u16> = self.iter().map(|a| a.port).collect();
        let limit = u16::try_from(PORTS_MAX).unwrap_or(u16::MAX);
        new.port = (0..limit).find(|id| !used.contains(id)).ok_or(Error::Full)?;
        new.if_index = self.index_of(&new.nic);
        let nic = new.nic.clone();
        Ok(self.ports.entry(nic).or_insert(new))
    }

    /// Forgets a port; its interface index stays remembered.
    pub fn remove(&mut self, nic: &NicId) -> Option<Attachment> {
        self.ports.remove(nic)
    }

    /// The card that `vem detach` means.
    ///
    /// # Errors
    /// There is none, or the device's name is not enough.
    pub fn find(&self, device: Option<&str>, nic: Option<&str>) -> Result<NicId, Error> {
        if let Some(nic) = nic {
            let found = self.iter().find(|a| a.nic.as_str() == nic);
            return found.map(|a| a.nic.clone()).ok_or_else(|| Error::Unknown(nic.to_owned()));
        }
        let device = device.unwrap_or_default();
        let mut found = self.iter().filter(|a| a.device == device);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one.nic.clone()),
            (Some(_), Some(_)) => Err(Error::Ambiguous(device.to_owned())),
            (None, _) => Err(Error::Unknown(device.to_owned())),
        }
    }

    fn index_of(&mut self, nic: &NicId) -> u16 {
        if let Some(index) = self.indexes.get(nic) {
            return *index;
        }
        if self.indexes.len() >= REMEMBERED_MAX {
            let away = self.indexes.iter().filter(|(nic, _)| !self.ports.contains_key(nic));
            if let Some(oldest) = away.min_by_key(|(_, index)| **index).map(|(nic, _)| nic.clone()) {
                self.indexes.remove(&oldest);
            }
        }
        let used: BTreeSet<u16> = self.indexes.values().copied().collect();
        let index = (1..u16::MAX).find(|i| !used.contains(i)).unwrap_or(u16::MAX);
        self.indexes.insert(nic.clone(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Kind, Request};

    fn request(device: &str) -> Request {
        Request { profile: "web".into(), device: device.into(), ..Request::default() }
    }

    #[test]
    fn numbers_are_stable_and_not_shared() {
        let mut ports = Attachments::default();
        for device in ["a", "b", "c"] {
            ports.add(request(device).check().unwrap()).unwrap();
        }
        let numbers = |p: &Attachments, nic: &str| {
            let a = p.get(&nic.parse().unwrap()).unwrap();
            (a.port, a.if_index)
        };
        assert_eq!((numbers(&ports, "a/0"), numbers(&ports, "c/0")), ((0, 1), (2, 3)));
        ports.remove(&"a/0".parse().unwrap());
        ports.add(request("d").check().unwrap()).unwrap();
        assert_eq!(numbers(&ports, "d/0"), (0, 4), "the port number is reused, the interface index is not");
        ports.add(request("a").check().unwrap()).unwrap();
        assert_eq!(numbers(&ports, "a/0"), (3, 1), "the card gets its old index again");
        let stored = minicbor::to_vec(&ports).unwrap();
        assert_eq!(minicbor::decode::<Attachments>(&stored).unwrap(), ports);
    }

    #[test]
    fn twice_is_refused() {
        let mut ports = Attachments::default();
        ports.add(request("a").check().unwrap()).unwrap();
        assert!(matches!(ports.add(request("a").check().unwrap()), Err(Error::NicTaken(..))));
        let other = Request { vm: Some("v".into()), ..request("a") };
        assert!(matches!(ports.add(other.check().unwrap()), Err(Error::DeviceTaken(..))));
        let elsewhere = Request { netns: Some("n".into()), ..other };
        ports.add(elsewhere.check().unwrap()).unwrap();
        assert_eq!(ports.find(Some("a"), None), Err(Error::Ambiguous("a".into())));
        assert_eq!(ports.find(None, Some("v/0")).unwrap().as_str(), "v/0");
        assert!(matches!(ports.find(Some("zz"), None), Err(Error::Unknown(_))));
    }

    #[test]
    fn a_socket_belongs_to_one_port_and_is_stored() {
        let guest = |device: &str, path: &str| {
            let kind = Some(Kind::VhostUser);
            Request { kind, path: Some(path.into()), queues: Some(2), owner: Some("1:2".into()), ..request(device) }
        };
        let mut ports = Attachments::default();
        let first = ports.add(guest("web1", "/run/s1").check().unwrap()).unwrap().clone();
        assert_eq!((first.report().driver.as_str(), first.report().device.as_str()), ("vhost-user", "web1"));
        let taken = ports.add(guest("web2", "/run/s1").check().unwrap()).unwrap_err();
        assert_eq!(taken.to_string(), "socket /run/s1 is attached already (as web1/0)");
        ports.add(guest("web2", "/run/s2").check().unwrap()).unwrap();
        assert!(first.same_device(&guest("web1", "/run/s1").check().unwrap()));
        assert!(!first.same_device(&guest("web1", "/run/s3").check().unwrap()));
        let stored = minicbor::to_vec(&ports).unwrap();
        assert_eq!(minicbor::decode::<Attachments>(&stored).unwrap(), ports);
    }

    #[test]
    fn what_was_stored_before_there_were_sockets_is_read() {
        const OLD: &[u8] = b"\x82\xa1\x63a/0\x8f\x63a/0\x01\x61a\xf6\xf4\x63web\x61a\xf6\x00\x00\x01\xf4\xf5\xf4\
            \x82\xf5\xf5\xa1\x63a/0\x01";
        let mut ports = Attachments::default();
        let netdev = Request { kind: Some(Kind::Netdev), ..request("a") }.check().unwrap();
        ports.add(Attachment { before: Some(Before { ipv6: true, arp: true, receiving: None }), ..netdev }).unwrap();
        assert_eq!(minicbor::decode::<Attachments>(OLD).unwrap(), ports);
    }

    #[test]
    fn a_full_host_refuses() {
        let mut ports = Attachments::default();
        for i in 0..PORTS_MAX {
            ports.add(request(&format!("t{i}")).check().unwrap()).unwrap();
        }
        assert_eq!(ports.add(request("more").check().unwrap()).unwrap_err(), Error::Full);
    }

    #[test]
    fn the_memory_of_indexes_is_bounded() {
        let mut ports = Attachments::default();
        for i in 0..REMEMBERED_MAX + 10 {
            let nic = ports.add(request(&format!("t{i}")).check().unwrap()).unwrap().nic.clone();
            ports.remove(&nic);
        }
        assert_eq!(ports.indexes.len(), REMEMBERED_MAX);
    }
}
