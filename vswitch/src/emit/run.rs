//! Runs: frames of a batch that leave by one port in the same way, one after the other. That is what is usual, so it is a
//! bit set and not a list: staging a run costs what staging one frame costs, and the port that took it is counted once.
//!
//! Only frames that ask nothing of a device are in a run. What a port did not take whole is settled frame by frame, as
//! everything that is not in a run.

use arrayvec::ArrayVec;
use proto::addr::VlanId;

use super::batch::{Batch, Cx, pop};
use super::{Device, Devices, Staged, octets};
use crate::account::counters::Tally;
use crate::egress::vlan::{Head, Rewrite};
use crate::frame::vnet::VnetHdr;
use crate::frame::{BATCH, TxFrame};
use crate::observe::mirror::outlet::Sighting;
use crate::port::{PortId, Sent};

/// How the frames of a run leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// What becomes of the outer tag.
    pub rewrite: Rewrite,
    /// The session that copies them as sent, and the VLAN in which they are switched.
    pub watched: Option<(u8, Option<VlanId>)>,
}

impl Way {
    /// As they came, and nobody watches.
    pub const PLAIN: Way = Way { rewrite: Rewrite::Keep, watched: None };
}

/// Frames, in rising order, and how they leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// How.
    pub way: Way,
    /// Which.
    pub set: u64,
}

impl Run {
    /// No frames.
    pub const EMPTY: Run = Run { way: Way::PLAIN, set: 0 };

    /// As a list.
    pub(super) fn list(self) -> impl Iterator<Item = Staged> {
        let Run { way, mut set } = self;
        let frames = std::iter::from_fn(move || pop(&mut set));
        frames.map(move |frame| Staged { frame, rewrite: way.rewrite })
    }
}

/// What a port was given, and what it took.
struct Given {
    sent: Sent,
    frames: usize,
    tally: Tally,
}

impl Devices {
    /// Stages a run for `to`. It comes behind what is staged for that port.
    #[inline(never)]
    pub fn send_run(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, more: Run) {
        if let Some(Some(device)) = self.devices.get_mut(to.index())
            && device.staged.is_empty()
        {
            let run = &mut device.run;
            if run.set == 0 {
                *run = more;
                return self.dirty.insert(to);
            }
            // Behind those that are there, and on one way with them.
            if run.way == more.way && run.set < more.set & more.set.wrapping_neg() {
                run.set |= more.set;
                return;
            }
        }
        let Run { way, set: mut rest } = more;
        while let Some(at) = pop(&mut rest) {
            if let Some((session, vlan)) = way.watched {
                batch.watch(at, vlan, 1 << session);
            }
            self.send(cx, batch, at, to, way.rewrite);
        }
    }

    /// Sends the run of a device, and counts it; `list` is memory for a list of its frames.
    pub(super) fn flush_run(&mut self, cx: &Cx<'_>, batch: &mut Batch, to: PortId, list: &mut Vec<Staged>) {
        let Some(Some(device)) = self.devices.get_mut(to.index()) else { return };
        let run = std::mem::replace(&mut device.run, Run::EMPTY);
        let given = match run.way.rewrite {
            Rewrite::Keep => give(cx, batch, device, run),
            _ => give_changed(cx, batch, device, run),
        };
        if given.sent.accepted < given.frames {
            if let Some((session, vlan)) = run.way.watched {
                let mut rest = run.set;
                while let Some(at) = pop(&mut rest) {
                    batch.watch(at, vlan, 1 << session);
                }
            }
            list.extend(run.list());
            self.settle_each(cx, batch, to, list, given.sent);
            return list.clear();
        }
        cx.counters.port(to).tx.add(&given.tally);
        batch.deliver(run.set);
        if let Some((session, vlan)) = run.way.watched {
            let sighting = Sighting { sessions: 1 << session, vlan, seen: run.way.rewrite, out: Some(to), raw: false };
            self.outlet.put(cx, batch, run.set, sighting);
        }
    }
}

/// Gives the device a run of frames that leave as they came.
#[inline(never)]
fn give(cx: &Cx<'_>, batch: &Batch, device: &mut Device, run: Run) -> Given {
    let mut frames = ArrayVec::<TxFrame<'_>, BATCH>::new();
    let mut tally = Tally::default();
    let mut rest = run.set;
    while let Some(at) = pop(&mut rest) {
        let parsed = batch.parsed(at);
        let _ = frames.try_push(TxFrame { head: &[], rest: cx.frame(at), vnet: VnetHdr::PLAIN, copy: false });
        tally.add(parsed.key.dst_mac, parsed.segments.into(), parsed.l2_octets.into());
    }
    Given { sent: device.give(&frames), frames: frames.len(), tally }
}

/// As [`give`], with other tags.
#[inline(never)]
fn give_changed(cx: &Cx<'_>, batch: &Batch, device: &mut Device, run: Run) -> Given {
    let mut heads = ArrayVec::<Head, BATCH>::new();
    let mut rest = run.set;
    while let Some(at) = pop(&mut rest) {
        let _ = heads.try_push(run.way.rewrite.head(cx.frame(at)));
    }
    let mut frames = ArrayVec::<TxFrame<'_>, BATCH>::new();
    let mut tally = Tally::default();
    let mut rest = run.set;
    for head in &heads {
        let Some(at) = pop(&mut rest) else { break };
        let parsed = batch.parsed(at);
        let _ = frames.try_push(head.with(cx.frame(at), VnetHdr::PLAIN));
        tally.add(parsed.key.dst_mac, parsed.segments.into(), octets(parsed, run.way.rewrite));
    }
    Given { sent: device.give(&frames), frames: frames.len(), tally }
}
