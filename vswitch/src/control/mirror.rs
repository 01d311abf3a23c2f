//! The mirror: handed out once, and given the devices and the socket that the running sessions need.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time;

use super::ports::Homes;
use super::{Answer, Ask, Control, Error, PATIENCE, lock};
use crate::account::counters::Counters;
use crate::observe::mirror::inlet::{Inlet, RawInlet};
use crate::observe::mirror::received::Turned;
use crate::observe::mirror::stalled::Stalled;
use crate::observe::mirror::{self, Mirror, remote::RawSocket};
use crate::port::PortId;
use crate::snapshot::Snapshot;

/// What the workers, the mirror and the handle see.
#[repr(align(128))]
pub(crate) struct MirrorSeat {
    pub(crate) counters: Arc<Counters>,
    /// The mirror is in its long sleep, or about to be.
    pub(crate) asleep: AtomicBool,
    /// Sessions whose destinations take nothing.
    pub(crate) stalled: Arc<Stalled>,
    /// What came from other hosts and was for nobody.
    pub(crate) turned: Turned,
    /// Written to end it.
    pub(crate) waker: Option<OwnedFd>,
}

impl MirrorSeat {
    /// Ends the sleep of the mirror, if it sleeps: something was written for it.
    pub(crate) fn call(&self) {
        // Either this sees that it sleeps, or it sees what was written before it does.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            // A full counter wakes as well.
            let _ = rustix::io::write(waker, &1u64.to_ne_bytes());
        }
    }
}

impl Control {
    /// The mirror, once: whoever takes it has it run. Until then every copy is lost, so it is to be taken before there are
    /// monitor sessions.
    pub fn mirror(&self) -> Option<Mirror> {
        lock(&self.mirror).take()
    }

    /// Asks the mirror and waits for its answer; [`Error::Stopped`] when nobody has it run.
    pub(super) fn ask_mirror<T>(
        &self,
        question: impl FnOnce(SyncSender<T>) -> mirror::engine::Ask,
    ) -> Result<T, Error> {
        if lock(&self.mirror).is_some() {
            return Err(Error::Stopped);
        }
        let (reply, answer) = sync_channel(1);
        self.mirror_asks.try_send(question(reply)).map_err(|error| match error {
            TrySendError::Full(_) => Error::Timeout,
            TrySendError::Disconnected(_) => Error::Stopped,
        })?;
        self.shared.mirror.wake();
        Answer(answer, time::Instant::now() + PATIENCE).wait()
    }

    /// Gives the mirror a handle of each destination of `snapshot` that has a device.
    pub(super) fn give_destinations(&self, homes: &mut Homes, snapshot: &Snapshot) -> Result<(), Error> {
        for port in snapshot.ports().iter().filter(|port| port.mirror_destination) {
            let id = port.config.id;
            let Some(home) = homes.of.get(&id).copied().filter(|_| !homes.copied_to.contains(&id)) else { continue };
            let port = self.ask(home, |reply| Ask::Sender { id, reply }).and_then(|sender| sender)?;
            match self.ask_mirror(|reply| mirror::engine::Ask::Attach { id, port, reply }) {
                Ok(_before) => homes.copied_to.insert(id),
                // Nobody has it run: there are no copies.
                Err(Error::Stopped) => return Ok(()),
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Gives the mirror a socket when `snapshot` is the first that has copies for other hosts.
    pub(super) fn give_socket(&self, homes: &mut Homes, snapshot: &Snapshot) -> Result<(), Error> {
        if homes.has_socket || !snapshot.has_remotes() || lock(&self.mirror).is_some() {
            return Ok(());
        }
        let socket = RawSocket::open().map_err(|error| Error::Remote(error.to_string()))?;
        self.ask_mirror(|reply| mirror::engine::Ask::Remote { socket: Box::new(socket), reply })?;
        homes.has_socket = true;
        Ok(())
    }

    /// Gives the mirror a socket when `snapshot` is the first that takes copies of other hosts.
    pub(super) fn give_inlet(&self, homes: &mut Homes, snapshot: &Snapshot) -> Result<(), Error> {
        if homes.has_inlet || !snapshot.receives() || lock(&self.mirror).is_some() {
            return Ok(());
        }
        let inlet: Box<dyn Inlet> = Box::new(RawInlet::open().map_err(|error| Error::Remote(error.to_string()))?);
        self.ask_mirror(|reply| mirror::engine::Ask::Inlet { inlet: Some(inlet), reply })?;
        homes.has_inlet = true;
        Ok(())
    }

    /// Closes it when the running snapshot takes none any more: then the kernel tells senders so.
    pub(super) fn take_inlet(&self, homes: &mut Homes) {
        if homes.has_inlet && !self.running().receives() {
            let _closed_here = self.ask_mirror(|reply| mirror::engine::Ask::Inlet { inlet: None, reply });
            homes.has_inlet = false;
        }
    }

    /// Packets of other hosts that no session took: why, and how many.
    pub fn turned_away(&self) -> Vec<(&'static str, u64)> {
        self.shared.mirror.turned.read()
    }

    /// Takes the handles of ports back that the running snapshot has no copies for.
    pub(super) fn take_destinations(&self, homes: &mut Homes) {
        let running = self.running();
        let is_destination = |id: &PortId| running.port(*id).is_some_and(|port| port.mirror_destination);
        let others: Vec<PortId> = homes.copied_to.iter().copied().filter(|id| !is_destination(id)).collect();
        others.into_iter().for_each(|id| self.take_destination(homes, id));
    }

    pub(super) fn take_destination(&self, homes: &mut Homes, id: PortId) {
        if homes.copied_to.remove(&id) {
            // It is closed here. If the mirror does not answer it keeps it until another comes for the port.
            let _closed_here = self.ask_mirror(|reply| mirror::engine::Ask::Detach { id, reply });
        }
    }
}
