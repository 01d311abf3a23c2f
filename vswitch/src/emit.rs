//! The way out: frames are staged per port and sent with one call per port and batch.
//!
//! A frame that its port can't take as it is - a super-frame or an unfinished checksum to a device without that offload,
//! and every mirror copy of one - is finished in memory of our own and sent at once, after what was staged for that port
//! before it, so order is kept.
//!
//! What becomes of a frame is known only when every port has answered. [`Batch`] holds the answers: whether a port took it
//! whole, which is a bit; of others how many of its segments the most successful port took, and the first reason of a
//! failure. When all ports are flushed, each frame is delivered, dropped under that reason, or (segments of a frame that
//! met a full queue) in parts both. A port that took all that it was given is counted once for the batch.

mod batch;
mod run;

pub use batch::{Batch, Cx, Fate, bit, pop};
pub use run::{Run, Way};

use crate::account::counters::Tally;
use crate::egress::vlan::{Head, Rewrite};
use crate::frame::vnet::{self, VnetHdr};
use crate::frame::{BATCH, FRAME_MAX, TxFrame};
use crate::observe::capture::Tap;
use crate::observe::mirror::copy_tag;
use crate::offload::{complete_checksum, segment};
use crate::parse::Parsed;
use crate::port::{Offloads, Port, PortId, Sent};
use crate::snapshot::{PortPolicy, SessionSet};
use crate::table::portset::PortSet;
use crate::verdict::{DropReason, RuleRef};
use arrayvec::ArrayVec;
use proto::addr::VlanId;

/// A device that is attached.
pub struct Device {
    /// Moves the frames.
    pub port: Box<dyn Port>,
    offloads: Offloads,
    staged: Vec<Staged>,
    /// Frames that are staged and leave in the same way: what is usual, and needs no list. While there are any, `staged`
    /// is empty.
    run: Run,
    /// A staged frame has another front than the received one.
    changed: bool,
    /// A staged frame is a copy for a session.
    copies: bool,
    /// Looks on while there is a capture.
    pub tap: Option<Box<Tap>>,
}

/// A frame on its way to a port.
#[derive(Clone, Copy)]
struct Staged {
    frame: u8,
    /// The session that this is a copy for.
    session: Option<u8>,
    rewrite: Rewrite,
}

impl Staged {
    /// The front that the frame leaves with.
    #[inline]
    fn head(&self, cx: &Cx<'_>) -> Head {
        self.rewrite.head(cx.frame(self.frame))
    }

    /// The frame as it leaves behind `head`, and as its device is told of it.
    #[inline(always)]
    fn view<'a>(&self, cx: &Cx<'a>, parsed: &Parsed, head: Option<&'a Head>) -> TxFrame<'a> {
        let frame = cx.frame(self.frame);
        let view = match head {
            None => TxFrame { head: &[], rest: frame, vnet: parsed.vnet, copy: false },
            Some(head) => head.with(frame, parsed.vnet.shifted(self.rewrite.growth())),
        };
        TxFrame { copy: self.session.is_some(), ..view }
    }
}

impl Device {
    /// What it takes.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Gives frames to the device.
    #[inline(always)]
    fn give(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let sent = self.port.tx(frames);
        if let Some(tap) = &mut self.tap {
            tap.sent(frames, sent);
        }
        sent
    }

    /// Makes list entries of the frames that needed none. Who copies them as sent, the run knew and the list does not.
    fn list_run(&mut self, batch: &mut Batch) {
        let run = std::mem::replace(&mut self.run, Run::EMPTY);
        if let Some((session, vlan)) = run.way.watched {
            let mut rest = run.set;
            while let Some(at) = pop(&mut rest) {
                batch.watch(at, vlan, 1 << session);
            }
        }
        self.copies |= run.way.copy_of.is_some();
        self.changed |= run.way.rewrite != Rewrite::Keep;
        self.staged.extend(run.list());
    }
}

/// All devices, by port number, and memory to finish frames in.
pub struct Devices {
    devices: Vec<Option<Device>>,
    dirty: PortSet,
    /// Empty lists to swap for full ones; sending may stage copies, whose list may fill up meanwhile.
    spares: ArrayVec<Vec<Staged>, 2>,
    whole: Vec<u8>,
    scratch: Vec<u8>,
}

/// What one frame came to: segments taken, octets in them, and why not all.
struct Outcome {
    taken: u32,
    octets: u64,
    failure: Option<DropReason>,
}

impl Devices {
    /// None attached; `ports` at most.
    pub fn new(ports: usize) -> Self {
        Devices {
            devices: (0..ports).map(|_| None).collect(),
            dirty: PortSet::default(),
            spares: (0..2).map(|_| Vec::with_capacity(BATCH)).collect(),
            whole: Vec::with_capacity(FRAME_MAX + 8),
            scratch: Vec::with_capacity(FRAME_MAX + 8),
        }
    }

    /// The device of port `id`.
    pub fn get_mut(&mut self, id: PortId) -> Option<&mut Device> {
        self.devices.get_mut(id.index())?.as_mut()
    }

    /// A device for port `id`; gives it back when the port has one, or no such port can be.
    pub fn attach(&mut self, id: PortId, port: Box<dyn Port>) -> Result<(), Box<dyn Port>> {
        match self.devices.get_mut(id.index()) {
            Some(slot @ None) => {
                let offloads = port.offloads();
                let staged = Vec::with_capacity(BATCH);
                *slot =
                    Some(Device { port, offloads, staged, run: Run::EMPTY, changed: false, copies: false, tap: None });
                Ok(())
            }
            _ => Err(port),
        }
    }

    /// Asks the device of port `id` anew what it takes; a guest may have come back with other offloads.
    pub fn renew(&mut self, id: PortId) {
        if let Some(device) = self.get_mut(id) {
            device.offloads = device.port.offloads();
        }
    }

    /// Takes the device of port `id` away.
    pub fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        self.dirty.remove(id);
        self.devices.get_mut(id.index())?.take().map(|device| device.port)
    }

    /// Stages frame `at` for port `to`, with `rewrite` done to its tag.
    #[inline(always)]
    pub fn send(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, to: PortId, rewrite: Rewrite) {
        self.stage(cx, batch, at, to, rewrite, None);
    }

    /// Stages copies of frame `at` for `sessions`, which have none yet. `seen` was done to its tag when it was seen.
    pub fn copy(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, sessions: SessionSet, seen: Rewrite) {
        let Some(fate) = batch.fate(at) else { return };
        let mut rest = sessions & !fate.copied;
        fate.copied |= sessions;
        let vlan = fate.vlan;
        while rest != 0 {
            let session = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            self.copy_one(cx, batch, at, session, vlan, seen);
        }
    }

    /// Stages the copy of frame `at`, which is switched in `vlan`, for a session that has none yet.
    #[inline]
    pub fn copy_one(
        &mut self,
        cx: &Cx<'_>,
        batch: &mut Batch,
        at: u8,
        session: u8,
        vlan: Option<VlanId>,
        seen: Rewrite,
    ) {
        let Some(running) = cx.snapshot.sessions.get(usize::from(session)) else { return };
        if batch.parsed(at).vnet.is_gso()
            && let Some(cells) = cx.counters.session(session.into())
        {
            cells.segmented.add(1);
        }
        for to in &running.destinations {
            if let Some(policy) = cx.snapshot.port(*to) {
                self.copy_to(cx, batch, at, session, policy, vlan, seen);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one copy, described")]
    fn copy_to(
        &mut self,
        cx: &Cx<'_>,
        batch: &mut Batch,
        at: u8,
        session: u8,
        to: &PortPolicy,
        vlan: Option<VlanId>,
        seen: Rewrite,
    ) {
        let rewrite = copy_tag(to, vlan, batch.parsed(at), seen);
        if to.config.up {
            self.stage(cx, batch, at, to.config.id, rewrite, Some(session));
        } else {
            // A copy to a port that is shut is lost as if its queue were full.
            self.lose(cx, batch, to.config.id, &Staged { frame: at, session: Some(session), rewrite });
        }
    }

    fn stage(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, to: PortId, rewrite: Rewrite, session: Option<u8>) {
        let vnet = &batch.parsed(at).vnet;
        // Made where it is used: built here and copied there, it would be read before it is written back.
        let staged = || Staged { frame: at, session, rewrite };
        match self.devices.get_mut(to.index()) {
            Some(Some(device)) if vnet.asks_nothing() || takes(&device.offloads, vnet, session.is_some()) => {
                if device.run.set != 0 {
                    device.list_run(batch);
                } else if device.staged.is_empty() {
                    self.dirty.insert(to);
                }
                device.changed |= rewrite != Rewrite::Keep;
                device.copies |= session.is_some();
                device.staged.push(staged());
                if device.staged.len() >= BATCH {
                    self.flush(cx, batch, to);
                }
            }
            Some(Some(_)) => self.send_finished(cx, batch, to, &staged()),
            _ => self.lose(cx, batch, to, &staged()),
        }
    }

    /// There is no device for the frame.
    #[cold]
    fn lose(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, staged: &Staged) {
        let failed = Outcome { taken: 0, octets: 0, failure: Some(DropReason::EgressDown) };
        self.settle_one(cx, batch, to, staged, failed);
    }

    /// Finishes a frame that its port can't take as it is, and sends it after what is staged before it.
    #[cold]
    fn send_finished(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, staged: &Staged) {
        self.flush(cx, batch, to);
        let outcome = self.finish(cx, batch, to, staged);
        self.settle_one(cx, batch, to, staged, outcome);
    }

    /// Sends everything that is staged.
    pub fn flush_all(&mut self, cx: &Cx<'_>, batch: &mut Batch) {
        // Copies leave last: a mirror delays nobody (law 3). Sending a frame may stage copies of it, so this ends only when
        // no port is left.
        let mut copies = PortSet::default();
        while let Some(to) = self.dirty.pop() {
            match self.gets_copies(to) {
                true => copies.insert(to),
                false => self.flush(cx, batch, to),
            }
        }
        while let Some(to) = copies.pop() {
            self.flush(cx, batch, to);
        }
    }

    /// There are copies among what is staged for a port: it is the destination of a session.
    fn gets_copies(&self, to: PortId) -> bool {
        let device = self.devices.get(to.index()).and_then(Option::as_ref);
        device.is_some_and(|device| match device.run.set {
            0 => device.copies,
            _ => device.run.way.copy_of.is_some(),
        })
    }

    #[inline(never)]
    fn flush(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId) {
        self.dirty.remove(to);
        let mut list = self.spares.pop().unwrap_or_default();
        let Some(device) = self.devices.get_mut(to.index()).and_then(Option::as_mut) else { return };
        if device.run.set != 0 {
            self.flush_run(cx, batch, to, &mut list);
            let _ = self.spares.try_push(list);
            return;
        }
        std::mem::swap(&mut list, &mut device.staged);
        let (changed, copies) = (std::mem::take(&mut device.changed), std::mem::take(&mut device.copies));
        let mut heads = ArrayVec::<Head, BATCH>::new();
        if changed {
            heads.extend(list.iter().take(BATCH).filter(|s| s.rewrite != Rewrite::Keep).map(|s| s.head(cx)));
        }
        let mut heads = heads.iter();
        let mut frames = ArrayVec::<TxFrame<'_>, BATCH>::new();
        let mut tally = Tally::default();
        let mut set = 0;
        for staged in &list {
            let parsed = batch.parsed(staged.frame);
            let head = if staged.rewrite == Rewrite::Keep { None } else { heads.next() };
            let _ = frames.try_push(staged.view(cx, parsed, head));
            tally.add(parsed.key.dst_mac, parsed.segments.into(), octets(parsed, staged.rewrite));
            set |= bit(staged.frame);
        }
        let sent = device.give(&frames);
        if sent.accepted >= list.len() && batch.watched() & set == 0 {
            cx.counters.port(to).tx.add(&tally);
            if copies {
                settle_copies(cx, batch, &list);
            } else {
                batch.deliver(set);
            }
        } else {
            self.settle_each(cx, batch, to, &list, sent);
        }
        list.clear();
        let _ = self.spares.try_push(list);
    }

    /// Adds up what became of each frame at a port that did not take all, or whose frames are copied as sent.
    #[inline(never)]
    fn settle_each(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, list: &[Staged], sent: Sent) {
        let mut tally = Tally::default();
        for (i, staged) in list.iter().enumerate() {
            let failure = match i {
                _ if i >= sent.accepted + sent.refused => Some(DropReason::TxFull),
                _ if sent.refused_set >> (i % 64) & 1 == 1 => Some(DropReason::TxError),
                _ => None,
            };
            let parsed = batch.parsed(staged.frame);
            let outcome = match failure {
                None => Outcome { taken: parsed.segments, octets: octets(parsed, staged.rewrite), failure },
                Some(_) => Outcome { taken: 0, octets: 0, failure },
            };
            self.settle(cx, batch, to, staged, outcome, &mut tally);
        }
        cx.counters.port(to).tx.add(&tally);
    }

    /// Completes or cuts the frame and sends it at once.
    fn finish(&mut self, cx: &Cx<'_>, batch: &Batch, to: PortId, staged: &Staged) -> Outcome {
        let mut outcome = Outcome { taken: 0, octets: 0, failure: None };
        let Some(device) = self.devices.get_mut(to.index()).and_then(Option::as_mut) else { return outcome };
        let head = staged.head(cx);
        let view = staged.view(cx, batch.parsed(staged.frame), Some(&head));
        let vnet = view.vnet;
        self.whole.clear();
        self.whole.extend_from_slice(view.head);
        self.whole.extend_from_slice(view.rest);
        let copy = view.copy;
        let mut send = |frame: &[u8]| {
            if outcome.failure.is_some() {
                return;
            }
            let sent = device.give(&[TxFrame { head: &[], rest: frame, vnet: VnetHdr::PLAIN, copy }]);
            match (sent.accepted, sent.refused) {
                (0, 0) => outcome.failure = Some(DropReason::TxFull),
                (0, _) => outcome.failure = Some(DropReason::TxError),
                _ => {
                    outcome.taken += 1;
                    outcome.octets += frame.len() as u64;
                }
            }
        };
        let done = if vnet.is_gso() {
            segment(&self.whole, &vnet, &mut self.scratch, &mut send).map(|_| ())
        } else {
            complete_checksum(&mut self.whole, &vnet).map(|()| send(&self.whole))
        };
        if let Err(reason) = done {
            outcome.failure.get_or_insert(reason);
        }
        outcome
    }

    /// As [`Devices::settle`], for one frame.
    #[cold]
    fn settle_one(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, staged: &Staged, outcome: Outcome) {
        let mut tally = Tally::default();
        self.settle(cx, batch, to, staged, outcome, &mut tally);
        cx.counters.port(to).tx.add(&tally);
    }

    /// Adds up what became of a frame at one port, and makes the copies of what was sent.
    fn settle(
        &mut self,
        cx: &Cx<'_>,
        batch: &mut Batch,
        to: PortId,
        staged: &Staged,
        outcome: Outcome,
        tally: &mut Tally,
    ) {
        let parsed = batch.parsed(staged.frame);
        let lost = parsed.segments.saturating_sub(outcome.taken);
        tally.add(parsed.key.dst_mac, outcome.taken.into(), outcome.octets);
        if let Some(session) = staged.session {
            if let Some(cells) = cx.counters.session(session.into()) {
                cells.copied.add(outcome.taken.into());
                cells.dropped.add(lost.into());
            }
            return;
        }
        if lost == 0 {
            batch.deliver(bit(staged.frame));
        }
        let Some(fate) = batch.fate(staged.frame) else { return };
        if let Some(reason) = outcome.failure {
            cx.counters.port(to).drop_tx(reason, lost.into());
            fate.fail(reason, RuleRef::NONE);
        }
        fate.sent = fate.sent.max(outcome.taken);
        if outcome.taken > 0 && fate.tx_sessions != 0 {
            let watched = cx.snapshot.port(to).map_or(0, |port| port.tx_sessions);
            let vlan_watched = fate.vlan.map_or(0, |vlan| cx.snapshot.vlan_tx_sessions(vlan));
            let sessions = fate.tx_sessions & (watched | vlan_watched);
            self.copy(cx, batch, staged.frame, sessions, staged.rewrite);
        }
    }
}

/// Counts copies that were all taken, and what else there is among them.
fn settle_copies(cx: &Cx<'_>, batch: &mut Batch, list: &[Staged]) {
    let (mut counted, mut copies) = (None, 0);
    let add = |session: Option<u8>, copies: u64| {
        if let Some(cells) = session.and_then(|session| cx.counters.session(session.into())) {
            cells.copied.add(copies);
        }
    };
    for staged in list {
        if staged.session.is_none() {
            batch.deliver(bit(staged.frame));
        } else if staged.session != counted {
            add(counted, copies);
            (counted, copies) = (staged.session, 0);
        }
        if staged.session.is_some() {
            copies += u64::from(batch.parsed(staged.frame).segments);
        }
    }
    add(counted, copies);
}

/// The device takes a frame of that description. Copies are complete whatever the device can do.
fn takes(offloads: &Offloads, vnet: &VnetHdr, copy: bool) -> bool {
    let gso = match vnet.gso_type & !vnet::GSO_ECN {
        vnet::GSO_NONE => true,
        vnet::GSO_TCPV4 => offloads.tso4 && !copy,
        vnet::GSO_TCPV6 => offloads.tso6 && !copy,
        _ => offloads.uso && !copy,
    };
    gso && (!vnet.needs_csum() || (offloads.csum && !copy))
}

/// Octets of all segments as they leave.
fn octets(parsed: &Parsed, rewrite: Rewrite) -> u64 {
    let growth = i64::from(rewrite.growth()) * i64::from(parsed.segments);
    u64::from(parsed.l2_octets).saturating_add_signed(growth)
}
