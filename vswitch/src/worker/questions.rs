//! What the worker is asked: by [`Control`](crate::control::Control), or by whoever drives it.

use std::time::Duration;

use super::{Ask, Attached, Deal, Error, Instant, Job, Port, PortId, WISHES, Worker};

/// How long the flows that are to be settled wait for the ring of records; less than an asker's patience.
const SETTLING: Duration = Duration::from_millis(1500);

impl Worker {
    /// Goes on with the question at hand, or takes the next.
    pub(super) fn listen(&mut self) {
        let job = match self.job.take() {
            Some(job) => job,
            None => match self.asked.try_recv() {
                Ok(ask) => match self.start(ask) {
                    Some(job) => job,
                    None => return,
                },
                Err(_) => return,
            },
        };
        self.job = job.slice(&mut self.road, &self.snapshot, self.running, self.now);
    }

    /// Does what is short at once; what is long becomes a job. A reply that nobody waits for any more is no error.
    fn start(&mut self, ask: Ask) -> Option<Job> {
        match ask {
            Ask::Adopt { version, reply } => {
                self.adopt_current();
                Some(Job::Adopt { version, reply })
            }
            Ask::Attach { id, port, reply } => {
                let _ = reply.send(self.attach(id, port));
                None
            }
            Ask::Detach { id, reply } => match self.detach(id) {
                Some(port) => Some(Job::Retire { port: id, device: port, from: 0, reply }),
                None => {
                    let _ = reply.send(Err(Error::PortFree(id.0)));
                    None
                }
            },
            Ask::Sender { id, reply } => {
                let _ = reply.send(self.sender(id));
                None
            }
            Ask::Offer { id, deal, reply } => {
                let _ = reply.send(self.offer(id, deal));
                None
            }
            Ask::Swap { id, deal, reply } => {
                let _ = reply.send(self.swap(id, &deal));
                None
            }
            Ask::Settle { reply } => {
                let until = Instant::from_ns(self.now.ns().saturating_add(SETTLING.as_nanos() as u64));
                Some(Job::Settle { from: 0, until, reply })
            }
            Ask::Flush { monitors, reply } => {
                let until = Instant::from_ns(self.now.ns().saturating_add(SETTLING.as_nanos() as u64));
                Some(Job::Flush { monitors, from: 0, until, reply })
            }
            Ask::Tap { id, tap, reply } => {
                let _ = reply.send(match self.devices.get_mut(id) {
                    Some(device) if device.tap.is_none() => {
                        device.tap = Some(tap);
                        Ok(())
                    }
                    Some(_) => Err((Error::PortCaptured(id.0), tap)),
                    None => Err((Error::PortFree(id.0), tap)),
                });
                None
            }
            Ask::Untap { id, reply } => {
                let _ = reply.send(self.devices.get_mut(id).and_then(|device| device.tap.take()));
                None
            }
            Ask::Watch { watch, reply } => {
                let _ = reply.send(match self.road.watch {
                    None => {
                        self.road.watch = Some(watch);
                        Ok(())
                    }
                    Some(_) => Err((Error::Watched, watch)),
                });
                None
            }
            Ask::Unwatch { reply } => {
                let _ = reply.send(self.road.watch.take());
                None
            }
            Ask::Look { key, mut into, reply } => {
                for id in &self.attached {
                    into.extend(self.devices.get_mut(*id).map(|device| (*id, device.offloads())));
                }
                let cached = key.and_then(|key| self.road.cached(&key, &self.snapshot));
                let _ = reply.send((into, cached));
                None
            }
            Ask::Drops { mut into, reply } => {
                into.extend(self.road.drops.newest_first());
                let _ = reply.send(into);
                None
            }
            Ask::Macs { into, reply } => Some(Job::Macs { into, from: 0, reply }),
            Ask::ClearMacs { vlan, mac, reply } => Some(Job::ClearMacs { vlan, mac, from: 0, reply }),
            Ask::Live { into, reply } => Some(Job::Live { into, from: 0, reply }),
            Ask::Flows { filter, top, into, reply } => {
                Some(Job::Flows { filter, top, into, matched: 0, from: 0, reply })
            }
        }
    }

    /// Takes a device for port `id`, as [`Control::attach`](crate::control::Control::attach) does; for whoever drives the
    /// worker in their own thread. With several workers, each is given its handle.
    pub fn attach(&mut self, id: PortId, port: Box<dyn Port>) -> Attached {
        if self.attached.contains(&id) {
            return Err((Error::PortTaken(id.0), port));
        }
        self.devices.attach(id, port).map_err(|port| (Error::PortNumber(id.0), port))?;
        self.attached.push(id);
        self.mark_gone(id, false);
        self.watch_device(id);
        Ok(())
    }

    /// Looks after the device of port `id` from now on.
    fn watch_device(&mut self, id: PortId) {
        let Some(device) = self.devices.get_mut(id) else { return };
        self.readiness.watch(id, &*device.port);
        if device.port.polls() {
            self.changing.push(id);
        }
        let receives = device.port.receives();
        self.count_receiving(receives, false);
    }

    /// Looks after it no more.
    fn unwatch(&mut self, id: PortId) {
        self.changing.retain(|other| *other != id);
        let Some(device) = self.devices.get_mut(id) else { return };
        self.readiness.forget(id, &*device.port);
        let receives = device.port.receives();
        self.count_receiving(false, receives);
    }

    fn count_receiving(&self, one_more: bool, one_less: bool) {
        if let Some(seat) = self.seat() {
            let cell = &seat.load.receives_from;
            cell.set((cell.get() + u64::from(one_more)).saturating_sub(one_less.into()));
        }
    }

    /// Takes the device of port `id` away, and forgets what was learned there.
    fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        self.unwatch(id);
        let port = self.devices.detach(id)?;
        self.mark_gone(id, false);
        if self.road.macs.writes() {
            // The others have given it back, so nothing comes after what waits in the rings.
            self.grant(WISHES);
            self.road.macs.age(id, None, usize::MAX);
        }
        self.attached.retain(|attached| *attached != id);
        Some(port)
    }

    /// Offers the handle of port `id` to another worker; nothing is received until there is one again.
    fn offer(&mut self, id: PortId, deal: Deal) -> Result<(), Error> {
        if self.offered.is_some() {
            return Err(Error::PortTaken(id.0));
        }
        self.unwatch(id);
        let port = self.devices.detach(id).ok_or(Error::PortFree(id.0))?;
        match deal.offer(port) {
            Ok(()) => self.offered = Some((id, deal)),
            Err(port) => self.take_back(id, port),
        }
        Ok(())
    }

    /// Takes what a deal has ended with.
    pub(super) fn settle(&mut self) {
        if let Some((id, deal)) = self.offered.take() {
            match deal.take() {
                Some(port) => self.take_back(id, port),
                None => self.offered = Some((id, deal)),
            }
        }
    }

    fn take_back(&mut self, id: PortId, port: Box<dyn Port>) {
        // There is room: it was there before.
        if self.devices.attach(id, port).is_ok() {
            self.watch_device(id);
        }
    }

    /// Swaps the handle of port `id` for the one that is offered.
    fn swap(&mut self, id: PortId, deal: &Deal) -> bool {
        self.unwatch(id);
        let swapped = self.devices.get_mut(id).is_some_and(|device| deal.swap(&mut device.port));
        self.devices.renew(id);
        self.watch_device(id);
        swapped
    }
}
