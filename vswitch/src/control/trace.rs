//! An imagined frame: what would become of it now, and nothing becomes of anything.
//!
//! A second switch is put together, of the running snapshot, of the addresses that are learned, and of ports that write down
//! what they are given; then the frame is received there, with a watch that tells of it. So all that decides is the code that
//! decides about frames, down to the tag, the segments and the checksums that leave; and the switch that runs is asked three
//! short questions and is otherwise left alone: it learns nothing, counts nothing and keeps no flow.
//!
//! What the second switch can't know is what only a real frame meets: a device that is full, and a MAC address table so full
//! that to learn the source would push out the destination.
//!
//! Threads: runs in the asker's.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Ask, Control, Error, lock};
use crate::frame::vnet::VnetHdr;
use crate::frame::{Buffer, TxFrame};
use crate::observe::mirror::Mirror;
use crate::observe::passage::{Passage, WatchWanted, Watching};
use crate::parse::parse;
use crate::port::{self, Offloads, PORTS_MAX, Port, PortId, Sent};
use crate::verdict::Judgement;
use crate::worker::{Limits, Worker, switch};

/// A frame that would leave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sending {
    /// The port.
    pub port: PortId,
    /// The frame, as it would leave.
    pub octets: Vec<u8>,
    /// What its device would be told of it.
    pub vnet: VnetHdr,
    /// A copy for a monitor session.
    pub copy: bool,
}

/// What would become of a frame.
#[derive(Clone, PartialEq, Debug)]
pub struct Traced {
    /// Its way.
    pub passage: Passage,
    /// The frames that would leave, in their order.
    pub sent: Vec<Sending>,
    /// What the flow cache of the worker that receives from the port says of such a frame, and whether that holds.
    pub cached: Option<(Judgement, bool)>,
}

type Heard = Arc<Mutex<Vec<Sending>>>;

/// The second switch.
struct Second {
    worker: Worker,
    mirror: Mirror,
    heard: Heard,
    watching: Watching,
}

/// A port of the second switch: has one frame to give, or none, and writes down what it gets.
struct Paper {
    id: PortId,
    offloads: Offloads,
    gives: Option<(Vec<u8>, VnetHdr)>,
    heard: Heard,
}

impl Port for Paper {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, port::Error> {
        match (self.gives.take(), buffers.first_mut()) {
            (Some((frame, vnet)), Some(buffer)) => {
                buffer.fill(&frame, vnet);
                Ok(1)
            }
            _ => Ok(0),
        }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let sending = |frame: &TxFrame<'_>| Sending {
            port: self.id,
            octets: [frame.head, frame.rest].concat(),
            vnet: frame.vnet,
            copy: frame.copy,
        };
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend(frames.iter().map(sending));
        Sent { accepted: frames.len(), ..Sent::default() }
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, port::Error> {
        let heard = Arc::clone(&self.heard);
        Ok(Box::new(Paper { id: self.id, offloads: self.offloads, gives: None, heard }))
    }
}

impl Control {
    /// What would become of `frame` if port `from` received it now, and its device said `vnet` of it.
    ///
    /// # Errors
    /// The port has no device, or a worker does not answer.
    pub fn trace(&self, from: PortId, frame: &[u8], vnet: VnetHdr) -> Result<Traced, Error> {
        let key = parse(frame, &vnet, from).ok().map(|parsed| parsed.key);
        let home = lock(&self.homes).of(from).unwrap_or(0);
        let into = Vec::with_capacity(PORTS_MAX);
        let (devices, cached) = self.ask(home, |reply| Ask::Look { key, into, reply })?;
        if !devices.iter().any(|(id, _)| *id == from) {
            return Err(Error::PortFree(from.0));
        }
        let Second { mut worker, mut mirror, heard, mut watching } = self.second_switch(from, frame, vnet, &devices)?;
        while worker.turn(self.now()) + mirror.turn() > 0 {}
        let passage = watching.take().pop().ok_or(Error::Stopped)?;
        let sent = std::mem::take(&mut *lock(&heard));
        Ok(Traced { passage, sent, cached })
    }

    /// The running one in all that decides about a frame, with `frame` at its port.
    fn second_switch(
        &self,
        from: PortId,
        frame: &[u8],
        vnet: VnetHdr,
        devices: &[(PortId, Offloads)],
    ) -> Result<Second, Error> {
        let (snapshot, macs) = (self.running(), self.macs()?);
        let room = macs.len() + snapshot.static_macs.len() + 16;
        let (mut worker, control, _) =
            switch(Limits { flows: 16, macs: room, macs_per_port: room, records: 64, ..Limits::default() });
        let heard = Heard::default();
        for (id, offloads) in devices {
            let gives = (*id == from).then(|| (frame.to_vec(), vnet));
            let port = Paper { id: *id, offloads: *offloads, gives, heard: Arc::clone(&heard) };
            worker.attach(*id, Box::new(port)).map_err(|(error, _)| error)?;
        }
        let mut mirror = control.mirror().ok_or(Error::Stopped)?;
        for port in snapshot.ports().iter().filter(|port| port.mirror_destination) {
            if let Ok(sender) = worker.sender(port.config.id) {
                mirror.attach(port.config.id, sender);
            }
        }
        worker.run_on(snapshot, self.now());
        for entry in macs.iter().filter(|entry| !entry.is_static) {
            if let Some(port) = entry.port {
                worker.teach(entry.vlan, entry.mac, port);
            }
        }
        let wanted = WatchWanted { port: None, filter: None, count: 1 };
        let (watching, watches) = Watching::new(wanted, 1);
        watches.into_iter().for_each(|watch| worker.watch(watch));
        Ok(Second { worker, mirror, heard, watching })
    }
}
