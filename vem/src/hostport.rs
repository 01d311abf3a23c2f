//! The host's devices: opened as ports, watched by netlink, and the host stack kept silent on them.
//!
//! * `tap`: the agent makes the tap, in the namespace that the attachment names, and makes it persistent. So the VM's card
//!   and its addresses outlive the agent, whichever way that ends; a new agent enters the namespace ([`netns`]) and
//!   opens the same tap again. What the agent made, it removes on detach.
//! * `netdev`: the device is there already. The host stack must not answer on it; [`silence`] sees to that before the
//!   device is set up, and puts everything back on detach. While the agent is stopped the host stays silent.
//! * `vhost-user`: there is no device, only a socket between the agent and QEMU ([`vhost`]) and the guest's rings. The port
//!   is open as long as it is attached; whether a guest is there is the state of its link.
//!
//! A device that carries addresses of the host is refused: the host would be cut off.
//!
//! Calls block for some milliseconds (netlink, `nft`); they are made by the control thread.

pub mod driver;
pub mod netlink;
pub mod netns;
pub mod silence;
pub mod vhost;

use std::io;
use std::path::Path;
use std::sync::Arc;

use vswitch::coalesce;
use vswitch::port::Port;
use vswitch::port::tap::{self, Tap};
use vswitch::port::vhost::VhostState;
use vswitch::port::xdp::ethtool::Queues;

use crate::attach::{Attachment, Before};
use crate::request::Kind;
use crate::request::vhost::VhostUser;
use netlink::{Change, Link, Route};

/// Why a device can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespace can't be entered.
    #[error("network namespace {path}: {source}")]
    Namespace {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such device.
    #[error("device {0} does not exist")]
    Missing(String),
    /// The device is not what the kind of port needs.
    #[error("device {device} {what}")]
    Unfit {
        /// Its name.
        device: String,
        /// What is wrong with it.
        what: String,
    },
    /// The kernel refused.
    #[error("{device}: {what}: {source}")]
    System {
        /// Name of the device.
        device: String,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The host could not be silenced.
    #[error("{device}: {reason}")]
    Silence {
        /// Name of the device.
        device: String,
        /// What `nft` said.
        reason: String,
    },
    /// The socket of a vhost-user port can't be used.
    #[error("socket {path}: {what}")]
    Socket {
        /// Its path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The port could not be opened.
    #[error(transparent)]
    Port(#[from] vswitch::port::Error),
}

/// A device that is open.
pub struct Opened {
    /// For the dataplane.
    pub port: Box<dyn Port>,
    /// Its state.
    pub link: Link,
    /// It was made just now.
    pub made: bool,
    /// What it was like before the host was silenced.
    pub before: Option<Before>,
    /// What drives a netdev: `packet`, `xdp-native`.
    pub driver: Option<String>,
    /// Its namespace; `None` is the agent's own.
    pub namespace: Option<netns::Identity>,
    /// What the dataplane knows of the guest of a vhost-user port.
    pub guest: Option<Arc<VhostState>>,
}

/// How this host uses its devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Which frames a tap may get joined.
    pub coalesce: coalesce::Mode,
    /// Threads that receive: a device may have a queue for each.
    pub workers: usize,
}

/// When a device is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Occasion {
    /// A person attaches it: it is made if it can be, and checked.
    Attach,
    /// The agent starts, or the device has come back: what is there is used. A missing tap is made when `make` is set.
    Reopen {
        /// Make a tap that is missing.
        make: bool,
    },
}

/// Opens the device of an attachment.
///
/// # Errors
/// It does not exist, is in use, is of the wrong kind, or the system refuses. What was changed is changed back.
pub fn open(attachment: &Attachment, occasion: Occasion, settings: &Settings) -> Result<Opened, Error> {
    if let Some(socket) = &attachment.vhost {
        return open_vhost(socket);
    }
    let path = attachment.netns.as_deref().map(Path::new);
    let namespace = path.map(netns::Identity::of).transpose()?;
    let Found { port, link, made, before, driver } = netns::inside(path, || match attachment.kind {
        Kind::Tap => open_tap(attachment, occasion, settings),
        Kind::Netdev => open_netdev(attachment, occasion),
        Kind::VhostUser => Err(unfit(&attachment.device, "has no socket")),
    })??;
    Ok(Opened { port, link, made, before, driver, namespace, guest: None })
}

/// Undoes what opening changed: removes a tap or a socket that the agent made, lets the host speak again on a netdev.
///
/// # Errors
/// The system refuses. A device or namespace that is gone is no error.
pub fn release(attachment: &Attachment) -> Result<(), Error> {
    if let Some(socket) = &attachment.vhost {
        return vhost::release(socket);
    }
    let path = attachment.netns.as_deref().map(Path::new);
    if path.is_some_and(|p| !p.exists()) {
        return Ok(());
    }
    netns::inside(path, || {
        let mut route = Route::open().map_err(system(&attachment.device, "netlink"))?;
        let link = route.get(&attachment.device).map_err(system(&attachment.device, "netlink"))?;
        match (attachment.kind, link) {
            (Kind::Tap, Some(link)) if attachment.made && link.tun => {
                route.delete(link.index).map_err(system(&attachment.device, "remove"))
            }
            (Kind::Tap | Kind::VhostUser, _) => Ok(()),
            (Kind::Netdev, link) => {
                let offloads = if link.is_some() { driver::undo(attachment) } else { Ok(()) };
                silence::undo(attachment, link.as_ref(), &mut route).and(offloads)
            }
        }
    })?
}

/// Raises the MTU of a device to at least `mtu`; it is never lowered. A guest sets its card's MTU itself.
///
/// # Errors
/// The device refuses.
pub fn raise_mtu(attachment: &Attachment, mtu: u16) -> Result<(), Error> {
    if attachment.vhost.is_some() {
        return Ok(());
    }
    netns::inside(attachment.netns.as_deref().map(Path::new), || {
        let mut route = Route::open().map_err(system(&attachment.device, "netlink"))?;
        match route.get(&attachment.device).map_err(system(&attachment.device, "netlink"))? {
            Some(link) if link.mtu < u32::from(mtu) => {
                route.change(link.index, &[Change::Mtu(mtu.into())]).map_err(system(&attachment.device, "set the MTU"))
            }
            _ => Ok(()),
        }
    })?
}

/// Has AF_XDP go on being sound on a device that somebody may have changed, and returns how many queues it has now.
///
/// # Errors
/// The device refuses.
pub fn keep_driven(attachment: &Attachment) -> Result<Queues, Error> {
    let keep = || driver::keep(attachment).and_then(|()| driver::queues(attachment));
    netns::inside(attachment.netns.as_deref().map(Path::new), keep)?
}

/// What was opened; see [`Opened`].
struct Found {
    port: Box<dyn Port>,
    link: Link,
    made: bool,
    before: Option<Before>,
    driver: Option<String>,
}

fn system(device: &str, what: &'static str) -> impl FnOnce(io::Error) -> Error {
    let device = device.to_owned();
    move |source| Error::System { device, what, source }
}

fn unfit(device: &str, what: impl Into<String>) -> Error {
    Error::Unfit { device: device.to_owned(), what: what.into() }
}

fn open_vhost(socket: &VhostUser) -> Result<Opened, Error> {
    let port = vhost::open(socket)?;
    let guest = port.state();
    let link = Link { connected: vhost::is_linked(&guest), ..Link::default() };
    Ok(Opened {
        port: Box::new(port),
        link,
        made: false,
        before: None,
        driver: None,
        namespace: None,
        guest: Some(guest),
    })
}

fn open_tap(attachment: &Attachment, occasion: Occasion, settings: &Settings) -> Result<Found, Error> {
    let device = attachment.device.as_str();
    let mut route = Route::open().map_err(system(device, "netlink"))?;
    let there = route.get(device).map_err(system(device, "netlink"))?;
    let make = match &there {
        Some(link) if !link.tun => return Err(unfit(device, "is not a tap (use --kind netdev)")),
        Some(_) => false,
        None if occasion == (Occasion::Reopen { make: false }) => return Err(Error::Missing(device.to_owned())),
        None => true,
    };
    let opened = (|| {
        let Settings { coalesce, workers } = *settings;
        let port = Tap::open_with(device, tap::Settings { vnet: !attachment.plain, coalesce, queues: workers })?;
        if make {
            port.persist(true).map_err(system(device, "make the tap persistent"))?;
        }
        let link = route.get(device).map_err(system(device, "netlink"))?;
        let link = link.ok_or_else(|| Error::Missing(device.to_owned()))?;
        if make {
            let mut changes: Vec<Change> = attachment.mac.map(Change::Address).into_iter().collect();
            changes.push(Change::Up);
            route.change(link.index, &changes).map_err(system(device, "set up"))?;
        }
        Ok((port, route.get(device).map_err(system(device, "netlink"))?.unwrap_or(link)))
    })();
    match opened {
        Ok((port, link)) => Ok(Found { port: Box::new(port), link, made: make, before: None, driver: None }),
        Err(error) => {
            if let (true, Ok(Some(link))) = (make, route.get(device)) {
                let _ = route.delete(link.index);
            }
            Err(error)
        }
    }
}

fn open_netdev(attachment: &Attachment, occasion: Occasion) -> Result<Found, Error> {
    let device = attachment.device.as_str();
    let mut route = Route::open().map_err(system(device, "netlink"))?;
    let link = route.get(device).map_err(system(device, "netlink"))?;
    let link = link.ok_or_else(|| Error::Missing(device.to_owned()))?;
    if link.loopback {
        return Err(unfit(device, "is the loopback"));
    }
    if let Some(bridge) = link.controller {
        return Err(unfit(device, format!("belongs to another switch (device index {bridge})")));
    }
    let addresses = route.addresses(link.index).map_err(system(device, "netlink"))?;
    if let Some(address) = addresses.first() {
        match occasion {
            Occasion::Attach => {
                return Err(unfit(device, format!("has address {address}: the host would lose it; remove it first")));
            }
            Occasion::Reopen { .. } => tracing::warn!(device, %address, "the host can't be reached at this address"),
        }
    }
    let before = silence::apply(attachment, &link, &mut route)?;
    let opened = (|| {
        // Up first, because some drivers take an XDP socket only then; the host hears nothing of what comes meanwhile.
        route.change(link.index, &[Change::Up]).map_err(system(device, "set up"))?;
        let driven = driver::open(attachment, &link)?;
        Ok((driven, route.get(device).map_err(system(device, "netlink"))?.unwrap_or_else(|| link.clone())))
    })();
    match opened {
        Ok((driver::Driven { port, name, before: receiving }, link)) => {
            let before = Some(Before { receiving, ..before });
            Ok(Found { port, link, made: false, before, driver: Some(name) })
        }
        Err(error) => {
            if occasion == Occasion::Attach {
                let undone = Attachment { before: Some(before), ..attachment.clone() };
                let _ = silence::undo(&undone, Some(&link), &mut route);
            }
            Err(error)
        }
    }
}
