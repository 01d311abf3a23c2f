//! Links by netlink (rtnetlink): read one, change it, remove it, and hear of changes.
//!
//! A [`Route`] asks and waits for the answer; the kernel answers at once. A [`Watch`] is a second socket that hears of
//! every change of every link of its namespace; when the kernel had to drop messages it says so ([`Heard::Lost`]), and the
//! caller reads its links again. A drain reads at most [`DRAIN_MAX`] messages, so that a guest that toggles its link
//! can't keep the control thread busy.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use proto::addr::MacAddr;

/// Most messages that one drain of a watch reads.
pub const DRAIN_MAX: usize = 256;
/// Most octets of one message of the kernel.
const RECEIVE: usize = 64 << 10;
/// Multicast group of link changes (`RTNLGRP_LINK`).
const GROUP_LINK: u32 = 1;

/// A network device, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Set up, and with carrier.
    pub connected: bool,
    /// The host answers ARP on it.
    pub arp: bool,
    /// Largest packet.
    pub mtu: u32,
    /// A tun or tap device.
    pub tun: bool,
    /// Kind of a device that is not hardware, such as `veth`.
    pub kind: Option<String>,
    /// The loopback.
    pub loopback: bool,
    /// Index of the bridge, bond or switch that it belongs to.
    pub controller: Option<u32>,
}

/// A change of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Set up.
    Up,
    /// Answer ARP, or not.
    Arp(bool),
    /// Largest packet.
    Mtu(u32),
    /// Hardware address.
    Address(MacAddr),
}

/// What a watch has heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A link is new or has changed.
    Link(Link),
    /// The link with this index is gone.
    Gone(u32),
    /// The kernel had to drop messages.
    Lost,
}

/// A socket for questions and changes.
pub struct Route {
    socket: Socket,
    sequence: u32,
}

impl Route {
    /// A socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open() -> io::Result<Route> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Route { socket, sequence: 0 })
    }

    /// The link of that name.
    ///
    /// # Errors
    /// The kernel refuses; a name that nothing has is no error.
    pub fn get(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answer = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST);
        match answer {
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
            Ok(answers) => Ok(answers.into_iter().find_map(|a| match a {
                RouteNetlinkMessage::NewLink(link) => Some(read_link(&link)),
                _ => None,
            })),
        }
    }

    /// Changes a link.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn change(&mut self, index: u32, changes: &[Change]) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        for change in changes {
            match change {
                Change::Up => {
                    message.header.flags |= LinkFlags::Up;
                    message.header.change_mask |= LinkFlags::Up;
                }
                Change::Arp(on) => {
                    message.header.flags.set(LinkFlags::Noarp, !on);
                    message.header.change_mask |= LinkFlags::Noarp;
                }
                Change::Mtu(mtu) => message.attributes.push(LinkAttribute::Mtu(*mtu)),
                Change::Address(mac) => message.attributes.push(LinkAttribute::Address(mac.0.to_vec())),
            }
        }
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_REQUEST | NLM_F_ACK).map(drop)
    }

    /// Removes a link.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.ask(RouteNetlinkMessage::DelLink(message), NLM_F_REQUEST | NLM_F_ACK).map(drop)
    }

    /// Addresses of the host on a link, but those that only mean the link itself.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn addresses(&mut self, index: u32) -> io::Result<Vec<IpAddr>> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        let address = |message: AddressMessage| {
            let of_link = message.header.index == index && message.header.scope != AddressScope::Link;
            let found = message.attributes.into_iter().find_map(|a| match a {
                AddressAttribute::Address(address) => Some(address),
                _ => None,
            });
            found.filter(|_| of_link)
        };
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(message) => address(message),
                _ => None,
            })
            .collect())
    }

    /// Sends a question and collects the answers, up to the acknowledgement, the end of a dump, or the single answer.
    fn ask(&mut self, question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(question));
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.socket.send(&octets, 0)?;
        let mut answers = Vec::new();
        loop {
            let mut received = Vec::with_capacity(RECEIVE);
            self.socket.recv(&mut received, 0)?;
            for message in split(&received) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
            }
            if flags == NLM_F_REQUEST && !answers.is_empty() {
                return Ok(answers);
            }
        }
    }
}

/// Cuts what was received into its messages.
fn split(octets: &[u8]) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> + '_ {
    let mut rest = octets;
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<4>().map(|l| u32::from_ne_bytes(*l))?;
        let length = usize::try_from(length).ok()?;
        let Some(message) = rest.get(..length).filter(|m| m.len() >= 16) else {
            rest = &[];
            return Some(Err(io::Error::from(io::ErrorKind::InvalidData)));
        };
        // Messages start on 4-octet boundaries.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(
            NetlinkMessage::deserialize(message).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string())),
        )
    })
}

/// The message is about the link itself, not about its part in a bridge: that a link leaves a bridge is told as `DelLink`.
fn of_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn read_link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        connected: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        arp: !flags.contains(LinkFlags::Noarp),
        loopback: flags.contains(LinkFlags::Loopback),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                link.tun = infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Tun)));
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link
}

/// A socket that hears of changes.
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// A watch over the namespace of the calling thread.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open() -> io::Result<Watch> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 1 << (GROUP_LINK - 1)))?;
        socket.set_non_blocking(true)?;
        Ok(Watch { socket })
    }

    /// Gives what has been heard to `tell`; `true` when there may be more.
    pub fn drain(&mut self, mut tell: impl FnMut(Heard)) -> bool {
        for _ in 0..DRAIN_MAX {
            let mut received = Vec::with_capacity(RECEIVE);
            match self.socket.recv(&mut received, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // ENOBUFS, or another error that only the caller's reading anew can heal.
                Err(_) => {
                    tell(Heard::Lost);
                    continue;
                }
            }
            for message in split(&received) {
                match message.map(|m| m.payload) {
                    Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) if of_link(&link) => {
                        tell(Heard::Link(read_link(&link)));
                    }
                    Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))) if of_link(&link) => {
                        tell(Heard::Gone(link.header.index));
                    }
                    Ok(_) => {}
                    Err(_) => tell(Heard::Lost),
                }
            }
        }
        true
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_read() {
        let mut route = Route::open().unwrap();
        let link = route.get("lo").unwrap().unwrap();
        assert!(link.loopback && !link.tun && link.name == "lo" && link.index > 0 && link.mtu > 0);
        assert_eq!(route.get("vem-none").unwrap(), None);
        assert!(route.change(u32::MAX / 2, &[Change::Up]).is_err());
    }

    #[test]
    fn what_is_cut_short_is_an_error_and_ends() {
        assert_eq!(split(&[]).count(), 0);
        assert_eq!(split(&[1, 2]).count(), 0);
        assert!(split(&[0; 64]).all(|m| m.is_err()));
        assert_eq!(split(&[0xff; 64]).filter(|m| m.is_err()).count(), 1);
        assert_eq!(split(&[200, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]).filter(|m| m.is_err()).count(), 1);
    }
}
