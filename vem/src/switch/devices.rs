//! Devices of the switch: attached, detached, lost and found again.

use std::path::Path;
use std::time::Instant;

use proto::addr::NicId;
use vswitch::port::{Port, xdp};

use super::{Error, Live, Switch, release};
use crate::attach::Attachment;
use crate::hostport::netlink::{Heard, Link};
use crate::hostport::{self, Occasion, Opened, netns};
use crate::request::{Kind, Request};

impl Switch {
    /// Attaches a port, or gives an attached one another profile.
    ///
    /// # Errors
    /// The request is wrong, the device can't be used, or the dataplane does not take the port; nothing has changed then.
    pub fn attach(&mut self, request: &Request, now: Instant) -> Result<NicId, Error> {
        let wanted = request.check()?;
        let nic = wanted.nic.clone();
        match self.attachments.get(&nic) {
            Some(old) if old.fixed => return Err(crate::attach::Error::Fixed(nic).into()),
            Some(old) if old.same_device(&wanted) => {
                let old = old.clone();
                return self.attach_again(old, wanted, now).map(|()| nic);
            }
            _ => {}
        }
        let attachment = self.attachments.add(wanted)?.clone();
        let opened = match hostport::open(&attachment, Occasion::Attach, &self.devices) {
            Ok(opened) => opened,
            Err(error) => {
                self.attachments.remove(&nic);
                return Err(error.into());
            }
        };
        let mut live = Live::new(now);
        let port = self.take(&nic, &mut live, opened);
        self.live.insert(nic.clone(), live);
        // The number may have been another port's.
        self.control.clear_port_counters(attachment.port());
        if let Err(error) = self.bring_in(&nic, port, now) {
            self.forget(&nic, now);
            return Err(error);
        }
        Ok(nic)
    }

    /// Detaches a port.
    ///
    /// # Errors
    /// Nothing of that name is attached, or it comes from the configuration file.
    pub fn detach(&mut self, device: Option<&str>, nic: Option<&str>, now: Instant) -> Result<NicId, Error> {
        let nic = self.attachments.find(device, nic)?;
        if self.attachments.get(&nic).is_some_and(|a| a.fixed) {
            return Err(crate::attach::Error::Fixed(nic).into());
        }
        self.forget(&nic, now);
        self.store.save_attachments(&self.attachments)?;
        Ok(nic)
    }

    /// Something was heard of the devices of a namespace.
    ///
    /// A tap tells by itself when it is gone, and goes on working when somebody has moved or renamed it. A packet socket
    /// may miss the end of its device, so for a netdev what is heard here counts.
    pub fn hear(&mut self, netns: Option<&str>, heard: &Heard) {
        let here: Vec<&Attachment> =
            self.attachments.iter().filter(|a| a.netns.as_deref() == netns && a.vhost.is_none()).collect();
        let links = match heard {
            Heard::Lost => read_links(netns, &here),
            _ => Vec::new(),
        };
        for (i, attachment) in here.iter().enumerate() {
            let Some(live) = self.live.get_mut(&attachment.nic).filter(|live| live.open) else { continue };
            let netdev = attachment.kind == Kind::Netdev;
            match heard {
                Heard::Link(link) if link.index == live.index => follow(live, link),
                Heard::Link(link) => live.deleted |= netdev && link.name == attachment.device,
                Heard::Gone(index) => live.deleted |= netdev && *index == live.index,
                Heard::Lost => match links.get(i) {
                    Some(Some(link)) if link.index == live.index => follow(live, link),
                    Some(_) => live.deleted |= netdev,
                    None => {}
                },
            }
        }
    }

    /// Paths of the namespaces that have ports; `None` is the agent's own.
    pub fn namespaces(&self) -> std::collections::BTreeSet<Option<String>> {
        self.attachments.iter().map(|a| a.netns.clone()).chain([None]).collect()
    }

    /// Opens every device that is there, publishes the plan, and gives the ports to the dataplane.
    pub(super) fn open_all(&mut self, now: Instant) -> Result<(), Error> {
        let silenced = self.attachments.iter().filter(|a| a.kind == Kind::Netdev && a.netns.is_none());
        if let Err(reason) = hostport::silence::sweep(&silenced.map(|a| a.if_index).collect()) {
            tracing::warn!(reason, "rules of detached ports not looked for");
        }
        let all: Vec<Attachment> = self.attachments.iter().cloned().collect();
        let mut opened = Vec::new();
        for attachment in all {
            let mut live = Live::new(now);
            match hostport::open(&attachment, Occasion::Reopen { make: true }, &self.devices) {
                Ok(device) => opened.push((attachment.nic.clone(), self.take(&attachment.nic, &mut live, device))),
                Err(error) => {
                    tracing::error!(nic = %attachment.nic, device = attachment.device, %error, "not opened");
                    live.problem = Some(error.to_string());
                }
            }
            self.live.insert(attachment.nic.clone(), live);
        }
        self.publish(now)?;
        // Uplinks first: what a VM says as soon as it is heard must find its way out. A lost ARP request costs it a second.
        let uplink = |nic: &NicId| self.attachments.get(nic).is_some_and(|a| a.card > 0);
        opened.sort_by_key(|(nic, _)| !uplink(nic));
        for (nic, port) in opened {
            if let Some(id) = self.attachments.get(&nic).map(Attachment::port) {
                self.control.attach(id, port)?;
            }
        }
        self.store.save_attachments(&self.attachments)?;
        Ok(())
    }

    /// Closes ports whose device or namespace is gone, and opens those that are back.
    pub(super) fn look_after_devices(&mut self, now: Instant) -> Result<(), Error> {
        self.keep_driven();
        let gone = self.control.gone_ports();
        let lost = |(attachment, live): &(&Attachment, &Live)| {
            let path = attachment.netns.as_deref().map(Path::new);
            let elsewhere = path.is_some_and(|path| netns::Identity::of(path).ok() != live.namespace);
            live.open && (live.deleted || elsewhere || gone.contains(&attachment.port()))
        };
        let lost: Vec<NicId> = self.ports().filter(lost).map(|(a, _)| a.nic.clone()).collect();
        for nic in &lost {
            self.close(nic);
        }
        let mut changed = !lost.is_empty() | self.device_mtus_changed();
        let closed = self.ports().filter(|(a, live)| !live.open && !lost.contains(&a.nic));
        let closed: Vec<Attachment> = closed.map(|(a, _)| a.clone()).collect();
        for attachment in closed {
            let nic = attachment.nic.clone();
            match hostport::open(&attachment, Occasion::Reopen { make: false }, &self.devices) {
                Ok(opened) => {
                    let Some(mut live) = self.live.remove(&nic) else { continue };
                    let port = self.take(&nic, &mut live, opened);
                    self.live.insert(nic.clone(), live);
                    match self.bring_in(&nic, port, now) {
                        Ok(()) => changed = false,
                        Err(error) => tracing::error!(%nic, %error, "the device is back, but can't be used"),
                    }
                }
                Err(error) => {
                    if let Some(live) = self.live.get_mut(&nic) {
                        live.problem = Some(error.to_string());
                    }
                }
            }
        }
        if changed { self.publish(now) } else { Ok(()) }
    }

    /// Raises the MTU of devices to what their ports may send, and returns whether any was. One that refuses, or that
    /// somebody lowers again, is asked again when the value changes.
    pub(super) fn raise_mtus(&mut self) -> bool {
        let mut raised = false;
        for attachment in self.attachments.iter() {
            let wanted = self.plan.port(attachment.port()).map_or(0, |p| p.settings.mtu);
            let Some(live) = self.live.get_mut(&attachment.nic) else { continue };
            let wanted = if live.by_xdp() { wanted.min(xdp::MTU_MAX) } else { wanted };
            if !live.open || live.mtu == wanted {
                continue;
            }
            live.mtu = wanted;
            match hostport::raise_mtu(attachment, wanted) {
                Ok(()) => {
                    raised |= live.device_mtu < wanted.into();
                    live.device_mtu = live.device_mtu.max(wanted.into());
                }
                Err(error) => tracing::warn!(nic = %attachment.nic, %error, "MTU not raised"),
            }
        }
        raised
    }

    /// The plan runs on an MTU that a device no longer has.
    pub(super) fn device_mtus_changed(&self) -> bool {
        let runs = |port: &crate::apply::Attached| self.plan.port(port.id).map(|plan| plan.mtu);
        let wanted = |port: &crate::apply::Attached| {
            let settings = self.plan.port(port.id).map(|plan| plan.settings.mtu)?;
            Some(port.device_mtu.map_or(settings, |mtu| mtu.min(settings)))
        };
        self.attached().iter().any(|port| port.open && runs(port) != wanted(port))
    }

    /// Sees to it that AF_XDP stays sound where a device was changed, which is not always told: a few ioctls a second.
    fn keep_driven(&mut self) {
        for attachment in self.attachments.iter() {
            let Some(live) = self.live.get_mut(&attachment.nic) else { continue };
            if !(live.open && live.by_xdp()) {
                continue;
            }
            match hostport::keep_driven(attachment) {
                // Closed now, opened again at the next tick.
                Ok(now) => live.deleted |= *live.queues.get_or_insert(now) != now,
                Err(error) => tracing::warn!(nic = %attachment.nic, %error, "AF_XDP may lose frames or tags"),
            }
        }
    }

    fn attach_again(&mut self, old: Attachment, wanted: Attachment, now: Instant) -> Result<(), Error> {
        let nic = old.nic.clone();
        if let Some(attachment) = self.attachments.get_mut(&nic) {
            attachment.fresh |= attachment.profile != wanted.profile;
            attachment.profile = wanted.profile;
            attachment.mac = wanted.mac.or(attachment.mac);
        }
        let outcome = match self.live.get(&nic).is_some_and(|live| live.open) {
            true => self.publish(now).and_then(|()| Ok(self.store.save_attachments(&self.attachments)?)),
            false => {
                match hostport::open(self.attachments.get(&nic).unwrap_or(&old), Occasion::Attach, &self.devices) {
                    Ok(opened) => {
                        let mut live = Live::new(now);
                        let port = self.take(&nic, &mut live, opened);
                        self.live.insert(nic.clone(), live);
                        self.bring_in(&nic, port, now)
                    }
                    Err(error) => Err(error.into()),
                }
            }
        };
        if outcome.is_err()
            && let Some(attachment) = self.attachments.get_mut(&nic)
        {
            *attachment = old;
        }
        outcome
    }

    /// Notes what opening has found out, and hands over the device.
    fn take(&mut self, nic: &NicId, live: &mut Live, opened: Opened) -> Box<dyn Port> {
        let Opened { port, link, made, before, driver, namespace, guest } = opened;
        live.open = true;
        live.connected = link.connected;
        live.problem = None;
        live.namespace = namespace;
        live.index = link.index;
        live.deleted = false;
        live.mtu = 0;
        live.guest = guest;
        live.device_mtu = link.mtu;
        live.opened_mtu = link.mtu;
        live.driver = driver;
        live.queues = None;
        if let Some(attachment) = self.attachments.get_mut(nic) {
            attachment.made |= made;
            let receiving = before.and_then(|before| before.receiving);
            attachment.before = attachment.before.or(before);
            // An attachment of an earlier agent may not know this yet.
            if let (Some(before), Some(_)) = (&mut attachment.before, receiving) {
                before.receiving = before.receiving.or(receiving);
            }
        }
        port
    }

    /// Publishes a plan with the port, gives it to the dataplane, and stores the attachments. If that fails the device is
    /// closed again.
    fn bring_in(&mut self, nic: &NicId, port: Box<dyn Port>, now: Instant) -> Result<(), Error> {
        let Some(id) = self.attachments.get(nic).map(Attachment::port) else { return Ok(()) };
        let bring = || -> Result<(), Error> {
            self.publish(now)?;
            self.control.attach(id, port)?;
            self.store.save_attachments(&self.attachments)?;
            Ok(())
        };
        let outcome = bring();
        if outcome.is_err() {
            self.close(nic);
        }
        outcome
    }

    fn close(&mut self, nic: &NicId) {
        if let Some(id) = self.attachments.get(nic).map(Attachment::port) {
            match self.control.detach(id) {
                Ok(()) | Err(vswitch::control::Error::PortFree(_)) => {}
                Err(error) => tracing::warn!(%nic, %error, "not closed"),
            }
        }
        if let Some(live) = self.live.get_mut(nic) {
            live.open = false;
            live.connected = false;
            live.namespace = None;
            live.guest = None;
        }
    }

    /// Takes a port away altogether.
    fn forget(&mut self, nic: &NicId, now: Instant) {
        self.close(nic);
        self.live.remove(nic);
        if let Some(attachment) = self.attachments.remove(nic) {
            release(&attachment);
        }
        if let Err(error) = self.publish(now) {
            tracing::error!(%nic, %error, "the plan still holds the port");
        }
    }
}

/// A device is as `link` says.
fn follow(live: &mut Live, link: &Link) {
    live.connected = link.connected;
    live.device_mtu = link.mtu;
    // Longer frames than AF_XDP was opened for: it is opened again.
    live.deleted |= live.by_xdp() && link.mtu > live.opened_mtu;
}

/// Reads the links of ports of one namespace anew; nothing when that fails.
fn read_links(netns: Option<&str>, ports: &[&Attachment]) -> Vec<Option<Link>> {
    let read = || -> std::io::Result<Vec<Option<Link>>> {
        let mut route = hostport::netlink::Route::open()?;
        ports.iter().map(|a| route.get(&a.device)).collect()
    };
    match netns::inside(netns.map(Path::new), read) {
        Ok(Ok(links)) => links,
        Ok(Err(error)) => {
            tracing::warn!(%error, "links not read");
            Vec::new()
        }
        Err(error) => {
            tracing::warn!(%error, "links not read");
            Vec::new()
        }
    }
}
