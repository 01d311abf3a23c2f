//! Copies on their way out of destination ports: gathered, and sent with one call per port and batch.

use arrayvec::ArrayVec;

use super::super::capture::Tap;
use super::CopyLoss;
use super::stalled::PATIENCE;
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
    /// Since when it has taken nothing, by the workers' clock, ns.
    refusing: Option<u64>,
    /// That is so long that it is taken for stalled.
    stalled: bool,
}

/// All destinations, by port number.
pub(super) struct Outs {
    ports: Vec<Option<Box<Out>>>,
    /// Those where frames wait.
    dirty: Vec<PortId>,
    /// What looks on, at which port.
    taps: Vec<(PortId, Box<Tap>)>,
    /// When the last frame was received, by the workers' clock, ns.
    pub now: u64,
    /// Others are stalled than before.
    changed: bool,
}

impl Outs {
    /// None.
    pub fn new() -> Self {
        Outs {
            ports: (0..PORTS_MAX).map(|_| None).collect(),
            dirty: Vec::with_capacity(PORTS_MAX),
            taps: Vec::new(),
            now: 0,
            changed: false,
        }
    }

    /// A device for a destination; the one before comes back.
    pub fn attach(&mut self, id: PortId, port: Box<dyn Port>) -> Option<Box<dyn Port>> {
        let octets = Vec::with_capacity(WAITING_MAX);
        let out = Out { port, octets, frames: ArrayVec::new(), refusing: None, stalled: false };
        self.changed = true;
        let slot = self.ports.get_mut(id.index())?;
        slot.replace(Box::new(out)).map(|before| before.port)
    }

    /// Takes the device of a destination away.
    pub fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        self.dirty.retain(|dirty| *dirty != id);
        self.changed = true;
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

    /// The destination has taken nothing for a while.
    pub fn is_stalled(&self, id: PortId) -> bool {
        matches!(self.ports.get(id.index()), Some(Some(out)) if out.stalled)
    }

    /// Others are stalled than when this was last asked.
    pub fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What takes copies of session `session` for a destination; `None` while that has no device.
    pub fn gather<'a>(&'a mut self, counters: &'a Counters, id: PortId, session: u16) -> Option<Gathering<'a>> {
        let Outs { ports, dirty, taps, now, changed } = self;
        let out = ports.get_mut(id.index())?.as_deref_mut()?;
        Some(Gathering { out, id, session, counters, dirty, taps, now: *now, changed })
    }

    /// Sends everything that waits.
    pub fn flush_all(&mut self, counters: &Counters) {
        while let Some(id) = self.dirty.pop() {
            if let Some(Some(out)) = self.ports.get_mut(id.index()) {
                self.changed |= out.flush(counters, id, &mut self.taps, self.now);
            }
        }
    }
}

/// Takes copies of one session for one destination.
pub(super) struct Gathering<'a> {
    out: &'a mut Out,
    id: PortId,
    session: u16,
    counters: &'a Counters,
    dirty: &'a mut Vec<PortId>,
    taps: &'a mut [(PortId, Box<Tap>)],
    now: u64,
    changed: &'a mut bool,
}

impl Gathering<'_> {
    /// A complete frame, in parts.
    #[inline]
    pub fn push(&mut self, [front, rest]: [&[u8]; 2]) {
        let length = front.len() + rest.len();
        if self.out.frames.is_full() || self.out.octets.len() + length > WAITING_MAX {
            *self.changed |= self.out.flush(self.counters, self.id, self.taps, self.now);
        }
        let Out { octets, frames, .. } = &mut *self.out;
        if frames.is_empty() && !self.dirty.contains(&self.id) {
            self.dirty.push(self.id);
        }
        let start = octets.len() as u32;
        if !front.is_empty() {
            octets.extend_from_slice(front);
        }
        octets.extend_from_slice(rest);
        frames.push(Waiting { start, end: octets.len() as u32, session: self.session });
    }
}

impl Out {
    /// Sends what waits; `true` when it is stalled now and was not before, or the other way.
    fn flush(&mut self, counters: &Counters, id: PortId, taps: &mut [(PortId, Box<Tap>)], now: u64) -> bool {
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
        let takes = sent.total() > 0 || frames.is_empty();
        drop(frames);
        self.frames.clear();
        self.octets.clear();
        self.refusing = if takes { None } else { self.refusing.or(Some(now)) };
        let stalled = self.refusing.is_some_and(|since| now.saturating_sub(since) >= PATIENCE.as_nanos() as u64);
        std::mem::replace(&mut self.stalled, stalled) != stalled
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
