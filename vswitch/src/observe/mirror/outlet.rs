//! A worker's end of the mirror: copies of frames go into a ring of octets, and that is all that they cost the worker.
//!
//! The ring is taken at the start. When it is full the copy is lost and counted, and the frame goes its way. Nothing here
//! waits, allocates or calls the system; the worker wakes the mirror behind its batch, if it sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proto::addr::VlanId;

use super::CopyLoss;
use super::ring::{Head, NO_PORT};
use super::spout::Spout;
use super::stalled::{PROBE, Stalled};
use crate::config::{SESSION_ID_MAX, SESSIONS_MAX};
use crate::egress::vlan::Rewrite;
use crate::emit::{Batch, Cx, bit, pop};
use crate::frame::vnet::VnetHdr;
use crate::port::PortId;
use crate::snapshot::SessionSet;
use crate::time::Instant;

/// Frames that were seen in the same way.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// Sessions that want them, and have none yet.
    pub sessions: SessionSet,
    /// The VLAN that they are switched in.
    pub vlan: Option<VlanId>,
    /// What was done to their tags.
    pub seen: Rewrite,
    /// The port that has sent them; `None` when they are as received.
    pub out: Option<PortId>,
    /// Nothing that their device says of them is believed.
    pub raw: bool,
}

/// A worker's end; see the module.
pub struct Outlet {
    spout: Spout,
    stalled: Arc<Stalled>,
    /// When a stalled session was tried last, by its index.
    tried: [u64; SESSIONS_MAX],
    /// The last batch that any worker has copied of; `None` where there is but one worker.
    serials: Option<Arc<AtomicU64>>,
    from: PortId,
    at: Instant,
    /// Of this batch; 0 before its first copy.
    serial: u64,
    written: bool,
    /// Frames since a sampled session took one, by its number: its place may change with the sessions before it.
    passed: Box<[u32]>,
}

impl Outlet {
    /// Writes to `spout`, but for sessions that are stalled.
    pub(crate) fn new(spout: Spout, stalled: Arc<Stalled>, serials: Option<Arc<AtomicU64>>) -> Self {
        Outlet {
            spout,
            stalled,
            tried: [0; SESSIONS_MAX],
            serials,
            from: PortId(NO_PORT),
            at: Instant::default(),
            serial: 0,
            written: false,
            passed: vec![0; usize::from(SESSION_ID_MAX) + 1].into(),
        }
    }

    /// A batch begins that `from` received at `at`.
    #[inline(always)]
    pub fn begin(&mut self, from: PortId, at: Instant) {
        (self.from, self.at, self.serial) = (from, at, 0);
    }

    /// Whether anything was written since this was last asked.
    #[inline(always)]
    pub fn has_written(&mut self) -> bool {
        std::mem::take(&mut self.written)
    }

    /// Copies frames of a set, which all ask nothing of a device, or are one.
    #[inline(never)]
    pub fn put(&mut self, cx: &Cx<'_>, batch: &Batch, set: u64, mut sighting: Sighting) {
        if self.stalled.any() {
            sighting.sessions = self.give_up(cx, batch, set, sighting.sessions);
            if sighting.sessions == 0 {
                return;
            }
        }
        let sampled = sighting.sessions & cx.snapshot.sampled();
        if sampled == 0 {
            return self.write(cx, batch, set, &sighting);
        }
        let mut rest = set;
        while let Some(at) = pop(&mut rest) {
            let sessions = sighting.sessions & !self.passed_over(cx, sampled);
            if sessions != 0 {
                self.write(cx, batch, bit(at), &Sighting { sessions, ..sighting });
            }
        }
    }

    /// Counts the copies of stalled sessions as lost, unless it is time to try one; returns the other sessions.
    #[cold]
    fn give_up(&mut self, cx: &Cx<'_>, batch: &Batch, set: u64, sessions: SessionSet) -> SessionSet {
        let (mut given_up, mut rest) = (0, sessions & !cx.snapshot.sampled());
        while rest != 0 {
            let index = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            let stalled = cx.snapshot.sessions.get(index).is_some_and(|session| self.stalled.has(session.id));
            let Some(tried) = self.tried.get_mut(index).filter(|_| stalled) else { continue };
            if self.at.ns().saturating_sub(*tried) < PROBE.as_nanos() as u64 {
                given_up |= 1 << index;
            } else {
                *tried = self.at.ns();
            }
        }
        let segments = set.count_ones() * batch.parsed(set.trailing_zeros() as u8).segments;
        lose(cx, given_up, segments, CopyLoss::DestinationFull);
        sessions & !given_up
    }

    /// Those of the sampled sessions for which this frame is not the next.
    fn passed_over(&mut self, cx: &Cx<'_>, mut sampled: SessionSet) -> SessionSet {
        let mut over = 0;
        while sampled != 0 {
            let session = sampled.trailing_zeros() as usize;
            sampled &= sampled - 1;
            let Some(of) = cx.snapshot.sessions.get(session) else { continue };
            let Some(passed) = self.passed.get_mut(usize::from(of.id)) else { continue };
            *passed += 1;
            if *passed < of.sampling {
                over |= 1 << session;
            } else {
                *passed = 0;
            }
        }
        over
    }

    fn write(&mut self, cx: &Cx<'_>, batch: &Batch, set: u64, sighting: &Sighting) {
        let lost = if self.spout.is_open() { self.copy(cx, batch, set, sighting) } else { set };
        if lost != 0 {
            lose(
                cx,
                sighting.sessions,
                lost.count_ones() * batch.parsed(lost.trailing_zeros() as u8).segments,
                CopyLoss::MirrorBusy,
            );
        }
    }

    /// Returns the frames for which there was no room.
    fn copy(&mut self, cx: &Cx<'_>, batch: &Batch, set: u64, sighting: &Sighting) -> u64 {
        let plain = sighting.raw || batch.parsed(set.trailing_zeros() as u8).vnet.asks_nothing();
        // What will be cut anyway need not be copied.
        let most = if plain { cx.snapshot.octets_wanted(sighting.sessions) } else { usize::MAX };
        let head = self.head(cx, batch, sighting, set, plain);
        let mut rest = set;
        self.written |= self.spout.write(&head, cx.buffers, &mut rest, most);
        rest
    }

    fn head(&mut self, cx: &Cx<'_>, batch: &Batch, sighting: &Sighting, set: u64, plain: bool) -> Head {
        if self.serial == 0
            && let Some(serials) = &self.serials
        {
            self.serial = serials.fetch_add(1, Ordering::AcqRel) + 1;
        }
        let first = batch.parsed(set.trailing_zeros() as u8);
        let vnet = if plain { VnetHdr::PLAIN } else { first.vnet };
        let mut head = Head::zero().with_vnet(vnet).with_tag(sighting.vlan, sighting.seen);
        (head.sessions, head.serial, head.at_ns) = (sighting.sessions, self.serial, self.at.ns());
        (head.sequence, head.in_port) = (cx.snapshot.sequence(), self.from.0);
        head.out_port = sighting.out.map_or(NO_PORT, |port| port.0);
        head.segments = first.segments as u16;
        head
    }
}

/// Counts copies that are lost, of frames that are so many segments.
fn lose(cx: &Cx<'_>, mut sessions: SessionSet, segments: u32, loss: CopyLoss) {
    while sessions != 0 {
        let session = sessions.trailing_zeros() as usize;
        sessions &= sessions - 1;
        let Some(session) = cx.snapshot.sessions.get(session) else { continue };
        if let Some(cells) = cx.counters.session(session.id) {
            cells.matched.add(segments.into());
            cells.lose(loss, u64::from(segments) * session.copies() as u64);
        }
    }
}
