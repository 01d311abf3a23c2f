//! The way out: frames are staged per port and sent with one call per port and batch.
//!
//! A frame that its port can't take as it is - a super-frame or an unfinished checksum to a device without that offload,
//! and every mirror copy of one - is finished in memory of our own and sent at once, after what was staged for that port
//! before it, so order is kept.
//!
//! What becomes of a frame is known only when every port has answered. [`Batch`] holds the answers: how many of its
//! segments the most successful port took, and the first reason of a failure. When all ports are flushed, each frame is
//! delivered, dropped under that reason, or (segments of a frame that met a full queue) in parts both.

use crate::account::counters::{Class, Counters, Tally};
use crate::egress::vlan::{Head, Rewrite};
use crate::frame::vnet::{self, VnetHdr};
use crate::frame::{BATCH, Buffer, FRAME_MAX, TxFrame};
use crate::observe::mirror::copy_tag;
use crate::offload::{complete_checksum, segment};
use crate::parse::Parsed;
use crate::port::{Offloads, Port, PortId, Sent};
use crate::snapshot::{SessionSet, Snapshot};
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
}

impl Device {
    /// Something was sent: asks again what the port takes. Guests come and go, and each takes something else.
    #[inline]
    fn renew(&mut self) {
        self.offloads = self.port.offloads();
    }
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
    #[inline]
    fn view<'a>(&self, cx: &Cx<'a>, batch: &Batch, head: &'a Head) -> TxFrame<'a> {
        let vnet = batch.parsed.get(usize::from(self.frame)).map_or(VnetHdr::PLAIN, |parsed| parsed.vnet);
        let frame = head.with(cx.frame(self.frame), vnet.shifted(self.rewrite.growth()));
        TxFrame { copy: self.session.is_some(), ..frame }
    }
}

/// What became of a frame so far.
#[derive(Clone, Copy)]
pub struct Fate {
    /// Segments that the most successful port took.
    pub sent: u32,
    /// Why a port, or all of them, did not get it.
    pub reason: Option<DropReason>,
    /// The rule behind `reason`.
    pub rule: RuleRef,
    /// VLAN that it is switched in.
    pub vlan: Option<VlanId>,
    /// Sessions that copy it as sent by the ports that ask for it; of a flood, that of its VLAN.
    pub tx_sessions: SessionSet,
    /// Sessions that have their copy.
    pub copied: SessionSet,
}

impl Fate {
    const OPEN: Fate = Fate { sent: 0, reason: None, rule: RuleRef::NONE, vlan: None, tx_sessions: 0, copied: 0 };

    /// A port did not get the frame; the first reason stays.
    pub fn fail(&mut self, reason: DropReason, rule: RuleRef) {
        if self.reason.is_none() {
            (self.reason, self.rule) = (Some(reason), rule);
        }
    }
}

/// The frames of a batch and what became of them.
pub struct Batch {
    /// What is known of each.
    pub parsed: Vec<Parsed>,
    /// What became of each.
    pub fates: Vec<Fate>,
}

impl Default for Batch {
    fn default() -> Self {
        Batch { parsed: vec![Parsed::EMPTY; BATCH], fates: vec![Fate::OPEN; BATCH] }
    }
}

impl Batch {
    /// Forgets what became of the frames before.
    pub fn restart(&mut self) {
        self.fates.fill(Fate::OPEN);
    }
}

/// What sending needs to see.
pub struct Cx<'a> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// The frames as received.
    pub buffers: &'a [Buffer],
    /// The counters.
    pub counters: &'a Counters,
}

impl<'a> Cx<'a> {
    #[inline]
    fn frame(&self, at: u8) -> &'a [u8] {
        self.buffers.get(usize::from(at)).map(Buffer::frame).unwrap_or_default()
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
                *slot = Some(Device { port, offloads, staged: Vec::with_capacity(BATCH) });
                Ok(())
            }
            _ => Err(port),
        }
    }

    /// Takes the device of port `id` away.
    pub fn detach(&mut self, id: PortId) -> Option<Box<dyn Port>> {
        self.dirty.remove(id);
        self.devices.get_mut(id.index())?.take().map(|device| device.port)
    }

    /// Stages frame `at` for port `to`, with `rewrite` done to its tag.
    #[inline]
    pub fn send(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, to: PortId, rewrite: Rewrite) {
        self.stage(cx, batch, at, to, rewrite, None);
    }

    /// Stages copies of frame `at` for `sessions`, which have none yet. `seen` was done to its tag when it was seen.
    pub fn copy(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, sessions: SessionSet, seen: Rewrite) {
        let Some(fate) = batch.fates.get_mut(usize::from(at)) else { return };
        let mut rest = sessions & !fate.copied;
        fate.copied |= sessions;
        let vlan = fate.vlan;
        while rest != 0 {
            let session = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            let Some(running) = cx.snapshot.sessions.get(usize::from(session)) else { continue };
            if let Some(parsed) = batch.parsed.get(usize::from(at))
                && parsed.vnet.is_gso()
                && let Some(cells) = cx.counters.session(session.into())
            {
                cells.segmented.add(1);
            }
            for to in &running.destinations {
                let (Some(policy), Some(parsed)) = (cx.snapshot.port(*to), batch.parsed.get(usize::from(at))) else {
                    continue;
                };
                let tag = copy_tag(policy, vlan, parsed, seen);
                self.stage(cx, batch, at, *to, tag, Some(session));
            }
        }
    }

    #[inline(always)]
    fn stage(&mut self, cx: &Cx<'_>, batch: &mut Batch, at: u8, to: PortId, rewrite: Rewrite, session: Option<u8>) {
        let Some(parsed) = batch.parsed.get(usize::from(at)) else { return };
        // Made where it is used: built here and copied there, it would be read before it is written back.
        let staged = || Staged { frame: at, session, rewrite };
        // A copy to a port that is shut is lost as if its queue were full.
        let open = session.is_none() || cx.snapshot.port(to).is_some_and(|port| port.config.up);
        match self.devices.get_mut(to.index()) {
            Some(Some(device)) if open && takes(&device.offloads, &parsed.vnet, session.is_some()) => {
                if device.staged.is_empty() {
                    self.dirty.insert(to);
                }
                device.staged.push(staged());
                if device.staged.len() >= BATCH {
                    self.flush(cx, batch, to);
                }
            }
            Some(Some(_)) if open => self.send_finished(cx, batch, to, &staged()),
            _ => {
                let failed = Outcome { taken: 0, octets: 0, failure: Some(DropReason::EgressDown) };
                self.settle_one(cx, batch, to, &staged(), failed);
            }
        }
    }

    /// Finishes a frame that its port can't take as it is, and sends it after what is staged before it.
    #[cold]
    fn send_finished(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, staged: &Staged) {
        self.flush(cx, batch, to);
        let outcome = self.finish(cx, batch, to, staged);
        if let Some(device) = self.get_mut(to) {
            device.renew();
        }
        self.settle_one(cx, batch, to, staged, outcome);
    }

    /// Sends everything that is staged.
    pub fn flush_all(&mut self, cx: &Cx<'_>, batch: &mut Batch) {
        // Sending a frame may stage copies of it, so this ends only when no port is left.
        while let Some(to) = self.dirty.pop() {
            self.flush(cx, batch, to);
        }
    }

    #[inline(never)]
    fn flush(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId) {
        self.dirty.remove(to);
        let mut list = self.spares.pop().unwrap_or_default();
        let sent = match self.get_mut(to) {
            Some(device) if !device.staged.is_empty() => {
                std::mem::swap(&mut list, &mut device.staged);
                let changed = list.iter().take(BATCH).filter(|staged| staged.rewrite != Rewrite::Keep);
                let heads: ArrayVec<Head, BATCH> = changed.map(|staged| staged.head(cx)).collect();
                let mut heads = heads.iter();
                let mut head = |staged: &Staged| match staged.rewrite {
                    Rewrite::Keep => &Head::NONE,
                    _ => heads.next().unwrap_or(&Head::NONE),
                };
                let frames: ArrayVec<TxFrame<'_>, BATCH> =
                    list.iter().take(BATCH).map(|staged| staged.view(cx, batch, head(staged))).collect();
                let sent = device.port.tx(&frames);
                device.renew();
                sent
            }
            _ => Sent::default(),
        };
        let mut tally = Tally::default();
        for (i, staged) in list.iter().enumerate() {
            let failure = match i {
                _ if i >= sent.accepted + sent.refused => Some(DropReason::TxFull),
                _ if sent.refused_set >> (i % 64) & 1 == 1 => Some(DropReason::TxError),
                _ => None,
            };
            let taken = batch.parsed.get(usize::from(staged.frame)).filter(|_| failure.is_none());
            let outcome = Outcome {
                taken: taken.map_or(0, |parsed| parsed.segments),
                octets: taken.map_or(0, |parsed| octets(parsed, staged.rewrite)),
                failure,
            };
            self.settle(cx, batch, to, staged, outcome, &mut tally);
        }
        cx.counters.port(to).tx.add(&tally);
        list.clear();
        let _ = self.spares.try_push(list);
    }

    /// Completes or cuts the frame and sends it at once.
    fn finish(&mut self, cx: &Cx<'_>, batch: &Batch, to: PortId, staged: &Staged) -> Outcome {
        let mut outcome = Outcome { taken: 0, octets: 0, failure: None };
        let Some(device) = self.devices.get_mut(to.index()).and_then(Option::as_mut) else { return outcome };
        let head = staged.head(cx);
        let view = staged.view(cx, batch, &head);
        let vnet = view.vnet;
        self.whole.clear();
        self.whole.extend_from_slice(view.head);
        self.whole.extend_from_slice(view.rest);
        let (port, copy) = (&mut device.port, view.copy);
        let mut send = |frame: &[u8]| {
            if outcome.failure.is_some() {
                return;
            }
            let sent = port.tx(&[TxFrame { head: &[], rest: frame, vnet: VnetHdr::PLAIN, copy }]);
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
    #[inline(always)]
    fn settle(
        &mut self,
        cx: &Cx<'_>,
        batch: &mut Batch,
        to: PortId,
        staged: &Staged,
        outcome: Outcome,
        tally: &mut Tally,
    ) {
        let at = usize::from(staged.frame);
        let (Some(parsed), Some(fate)) = (batch.parsed.get(at), batch.fates.get_mut(at)) else { return };
        let lost = parsed.segments.saturating_sub(outcome.taken);
        tally.add(Class::of(parsed.key.dst_mac), outcome.taken.into(), outcome.octets);
        if let Some(session) = staged.session {
            if let Some(cells) = cx.counters.session(session.into()) {
                cells.copied.add(outcome.taken.into());
                cells.dropped.add(lost.into());
            }
            return;
        }
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
