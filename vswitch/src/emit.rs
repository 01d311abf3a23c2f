//! The way out: frames are staged per port and sent with one call per port and batch.
//!
//! A frame that its port can't take as it is - a super-frame or an unfinished checksum to a device without that offload -
//! is finished in memory of our own and sent at once, after what was staged for that port before it, so order is kept.
//!
//! Frames that sessions want as they were sent are copied when their port has taken them ([`crate::observe::mirror`]).
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
use crate::frame::vnet::VnetHdr;
use crate::frame::{BATCH, FRAME_MAX, TxFrame};
use crate::observe::capture::Tap;
use crate::observe::mirror::outlet::{Outlet, Sighting};
use crate::offload::{complete_checksum, segment};
use crate::parse::Parsed;
use crate::port::{Offloads, Port, PortId, Sent};
use crate::snapshot::SessionSet;
use crate::table::portset::PortSet;
use crate::verdict::{DropReason, RuleRef};
use arrayvec::ArrayVec;

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
    /// Looks on while there is a capture.
    pub tap: Option<Box<Tap>>,
}

/// A frame on its way to a port.
#[derive(Clone, Copy)]
struct Staged {
    frame: u8,
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
        match head {
            None => TxFrame { head: &[], rest: frame, vnet: parsed.vnet, copy: false },
            Some(head) => head.with(frame, parsed.vnet.shifted(self.rewrite.growth())),
        }
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
        self.changed |= run.way.rewrite != Rewrite::Keep;
        self.staged.extend(run.list());
    }
}

/// All devices, by port number, and memory to finish frames in.
pub struct Devices {
    devices: Vec<Option<Device>>,
    dirty: PortSet,
    /// An empty list to swap for a full one.
    spare: Vec<Staged>,
    /// Takes copies for monitor sessions.
    pub outlet: Outlet,
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
    /// None attached; `ports` at most. Copies go to `outlet`.
    pub fn new(ports: usize, outlet: Outlet) -> Self {
        Devices {
            devices: (0..ports).map(|_| None).collect(),
            dirty: PortSet::default(),
            spare: Vec::with_capacity(BATCH),
            outlet,
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
                *slot = Some(Device { port, offloads, staged, run: Run::EMPTY, changed: false, tap: None });
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

    /// Copies frame `at` for `sessions`, but for those that have theirs. `seen` was done to its tag when it was seen, by
    /// `out` if that has sent it.
    pub fn copy(
        &mut self,
        cx: &Cx<'_>,
        batch: &mut Batch,
        at: u8,
        sessions: SessionSet,
        seen: Rewrite,
        out: Option<PortId>,
    ) {
        let Some(fate) = batch.fate(at) else { return };
        let sessions = sessions & !fate.copied;
        fate.copied |= sessions;
        let vlan = fate.vlan;
        if sessions != 0 {
            self.outlet.put(cx, batch, bit(at), Sighting { sessions, vlan, seen, out, raw: false });
        }
    }

    /// Stages frame `at` for port `to`, with `rewrite` done to its tag.
    #[inline(always)]
    pub fn send(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, to: PortId, rewrite: Rewrite) {
        let vnet = &batch.parsed(at).vnet;
        // Made where it is used: built here and copied there, it would be read before it is written back.
        let staged = || Staged { frame: at, rewrite };
        match self.devices.get_mut(to.index()) {
            Some(Some(device)) if vnet.asks_nothing() || device.offloads.cover(vnet) => {
                if device.run.set != 0 {
                    device.list_run(batch);
                } else if device.staged.is_empty() {
                    self.dirty.insert(to);
                }
                device.changed |= rewrite != Rewrite::Keep;
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
        while let Some(to) = self.dirty.pop() {
            self.flush(cx, batch, to);
        }
    }

    #[inline(never)]
    fn flush(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId) {
        self.dirty.remove(to);
        let mut list = std::mem::take(&mut self.spare);
        let Some(device) = self.devices.get_mut(to.index()).and_then(Option::as_mut) else { return };
        if device.run.set != 0 {
            self.flush_run(cx, batch, to, &mut list);
            self.spare = list;
            return;
        }
        std::mem::swap(&mut list, &mut device.staged);
        let changed = std::mem::take(&mut device.changed);
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
            batch.deliver(set);
        } else {
            self.settle_each(cx, batch, to, &list, sent);
        }
        list.clear();
        self.spare = list;
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
        let mut send = |frame: &[u8]| {
            if outcome.failure.is_some() {
                return;
            }
            let sent = device.give(&[TxFrame { head: &[], rest: frame, vnet: VnetHdr::PLAIN, copy: false }]);
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
            self.copy(cx, batch, staged.frame, sessions, staged.rewrite, Some(to));
        }
    }
}

/// Octets of all segments as they leave.
fn octets(parsed: &Parsed, rewrite: Rewrite) -> u64 {
    let growth = i64::from(rewrite.growth()) * i64::from(parsed.segments);
    u64::from(parsed.l2_octets).saturating_add_signed(growth)
}
