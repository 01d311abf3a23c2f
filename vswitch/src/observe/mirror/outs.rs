//! Copies on their way out of destination ports: gathered, and sent with one call per port and batch.

use arrayvec::ArrayVec;

use super::super::capture::Tap;
use super::CopyLoss;
use crate::account::counters::{Counters, Tally};
use crate::frame::vnet::VnetHdr;
use crate::frame::{BATCH, TxFrame};
use crate::port::{PORTS_MAX, Port, PortId};

/// Octets that wait at a port before they are sent.
const WAITING_MAX: usize = 128 << 10;

/// A frame that waits.
#[derive(Clone, Copy)]
struct Waiting {
    start: u32,
    end: u32,
    session: u16,
}

/// A destination.
struct Out {
    port: Box<dyn Port>,
    octets: Vec<u8>,
    frames: ArrayVec<Waiting, BATCH>,
}

/// All destinations, by port number.
pub(super) struct Outs {
    ports: Vec<Option<Box<Out>>>,
    /// Those where frames wait.
    dirty: Vec<PortId>,
    /// What looks on, at which port.
    taps: Vec<(PortId, Box<Tap>)>,
}

impl Outs {
    /// None.
    pub fn new() -> Self {
        Outs { ports: (0..PORTS_MAX).map(|_| None).collect(), dirty: Vec::new(), taps: Vec::new() }
    }

    /// A device for a destination; the one before comes back.
    pub fn attach(&mut self, id: PortId, port: Box<dyn Port>) -> Option<Box<dyn Port>> {
        let out = Out { port, octets: Vec::with_capacity(WAITING_MAX), frames: ArrayVec::new() };
        let slot = self.ports.get_mut(id.index())?;
        slot.replace(Box::new(out)).map(|before| before.port)
    }

    /// Takes the device of a destination away.
    pub fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        self.dirty.retain(|dirty| *dirty != id);
        self.ports.get_mut(id.index())?.take().map(|out| out.port)
    }

    /// Has `tap` look on at what is sent to a port.
    pub fn tap(&mut self, id: PortId, tap: Box<Tap>) {
        self.taps.push((id, tap));
    }

    /// Gives what looks on there back.
    pub fn untap(&mut self, id: PortId) -> Option<Box<Tap>> {
        let at = self.taps.iter().position(|(port, _)| *port == id)?;
        Some(self.taps.swap_remove(at).1)
    }

    /// The destination has a device.
    pub fn has(&self, id: PortId) -> bool {
        self.ports.get(id.index()).is_some_and(Option::is_some)
    }

    /// A complete frame, in parts, for session `session`.
    pub fn push(&mut self, counters: &Counters, id: PortId, session: u16, parts: [&[u8]; 2]) {
        let Some(Some(out)) = self.ports.get_mut(id.index()) else { return };
        let [front, rest] = parts;
        let length = front.len() + rest.len();
        if out.frames.is_full() || out.octets.len() + length > WAITING_MAX {
            out.flush(counters, id, &mut self.taps);
        }
        if out.frames.is_empty() && !self.dirty.contains(&id) {
            self.dirty.push(id);
        }
        let start = out.octets.len() as u32;
        if !front.is_empty() {
            out.octets.extend_from_slice(front);
        }
        out.octets.extend_from_slice(rest);
        out.frames.push(Waiting { start, end: out.octets.len() as u32, session });
    }

    /// Sends everything that waits.
    pub fn flush_all(&mut self, counters: &Counters) {
        while let Some(id) = self.dirty.pop() {
            if let Some(Some(out)) = self.ports.get_mut(id.index()) {
                out.flush(counters, id, &mut self.taps);
            }
        }
    }
}

impl Out {
    fn flush(&mut self, counters: &Counters, id: PortId, taps: &mut [(PortId, Box<Tap>)]) {
        let octets =
            |waiting: &Waiting| self.octets.get(waiting.start as usize..waiting.end as usize).unwrap_or_default();
        let view = |waiting| TxFrame { head: &[], rest: octets(waiting), vnet: VnetHdr::PLAIN, copy: true };
        let frames: ArrayVec<TxFrame<'_>, BATCH> = self.frames.iter().map(view).collect();
        let sent = self.port.tx(&frames);
        for (_, tap) in taps.iter_mut().filter(|(port, _)| *port == id) {
            tap.sent(&frames, sent);
        }
        let mut tally = Tally::default();
        let (mut session, mut copied) = (0, 0);
        for (i, (waiting, frame)) in self.frames.iter().zip(&frames).enumerate() {
            if waiting.session != session {
                took(counters, session, copied);
                (session, copied) = (waiting.session, 0);
            }
            let loss = match i {
                _ if i < sent.accepted && sent.refused == 0 => None,
                _ if i >= sent.total() => Some(CopyLoss::DestinationFull),
                _ if sent.refused_set >> (i % BATCH) & 1 == 1 => Some(CopyLoss::DestinationError),
                _ => None,
            };
            match (loss, counters.session(session)) {
                (None, _) => {
                    copied += 1;
                    tally.add(frame.rest.first_chunk().copied().unwrap_or_default(), 1, frame.rest.len() as u64);
                }
                (Some(loss), Some(cells)) => cells.lose(loss, 1),
                _ => {}
            }
        }
        took(counters, session, copied);
        counters.port(id).tx.add(&tally);
        drop(frames);
        self.frames.clear();
        self.octets.clear();
    }
}

/// Copies of a session that were taken.
fn took(counters: &Counters, session: u16, copies: u64) {
    if copies > 0
        && let Some(cells) = counters.session(session)
    {
        cells.copied.add(copies);
    }
}
