//! The miss path: all judges in order, and whether what they said of an earlier frame still holds.

use proto::addr::VlanId;

use crate::account::select::Skipped;
use crate::bridge::flood::only;
use crate::bridge::learn::learn;
use crate::bridge::lookup::{Target, lookup};
use crate::parse::Parsed;
use crate::snapshot::{PortPolicy, Seen, SessionSet, Snapshot};
use crate::table::mac::{MacTable, SlotRef};
use crate::time::Instant;
use crate::verdict::{Absence, Destination, Judgement, RuleRef, Verdict};
use crate::{egress, ingress};

/// Judges a frame and learns its source.
pub fn judge(snapshot: &Snapshot, macs: &mut MacTable, frame: &Parsed, now: Instant) -> Judgement {
    let mut j = all(snapshot, macs, frame, now);
    // Another host would copy it if it came there.
    if j.is_dropped() {
        j.rx_sessions = received(snapshot, &j, frame);
    }
    j
}

fn all(snapshot: &Snapshot, macs: &mut MacTable, frame: &Parsed, now: Instant) -> Judgement {
    let from = snapshot.port(frame.key.in_port());
    let mut j = Judgement {
        verdict: Verdict::Flood,
        admitted: false,
        vlan: None,
        out: None,
        rule_in: RuleRef::NONE,
        rule_out: RuleRef::NONE,
        source: SlotRef::NONE,
        destination: Destination::At(SlotRef::NONE),
        generation_in: snapshot.generation(frame.key.in_port()),
        generation_out: 0,
        rx_sessions: 0,
        tx_sessions: 0,
        monitors_in: 0,
        monitors_out: 0,
        picked: 0,
        skipped: Skipped::No,
    };
    let admission = ingress::judge(snapshot, from, frame);
    (j.vlan, j.rule_in) = match &admission {
        Ok(admitted) => (Some(admitted.vlan), admitted.rule),
        Err(refusal) => (refusal.vlan, refusal.rule),
    };
    if let Some(from) = from {
        (j.monitors_in, j.skipped) = snapshot.watching(from.monitors_in, from.config.id, &frame.key, j.vlan);
        j.picked = j.monitors_in & from.picks_in;
    }
    j.rx_sessions = received(snapshot, &j, frame);
    let vlan = match admission {
        Ok(admitted) => admitted.vlan,
        Err(refusal) => {
            j.verdict = Verdict::Drop(refusal.reason);
            return j;
        }
    };
    j.admitted = true;
    let Some(from) = from else { return j };
    match learn(snapshot, macs, from, vlan, frame, now) {
        Ok(slot) => j.source = slot,
        Err((reason, slot)) => {
            j.source = slot;
            j.verdict = Verdict::Drop(reason);
            return j;
        }
    }
    match lookup(macs, from.config.id, vlan, frame) {
        Target::Many(additions) => {
            j.destination = Destination::Unknown(Absence { additions, sequence: snapshot.sequence() });
            // One port that may not have it is counted for each frame, as several are.
            if let Some(to) = only(snapshot, from, vlan)
                && let Ok(rule) = egress::judge(snapshot, from, Some(to), vlan, frame)
            {
                j.leave_by(snapshot, to, vlan, rule, frame);
            }
        }
        Target::Nowhere(reason, slot) => {
            j.destination = Destination::At(slot);
            j.verdict = Verdict::Drop(reason);
        }
        Target::Port(to, slot) => {
            j.destination = Destination::At(slot);
            j.out = Some(to);
            j.generation_out = snapshot.generation(to);
            let to = snapshot.port(to);
            match egress::judge(snapshot, from, to, vlan, frame) {
                Ok(rule) => {
                    if let Some(to) = to {
                        j.verdict = Verdict::Forward(to.config.id);
                        j.leave_by(snapshot, to, vlan, rule, frame);
                    }
                }
                Err(refusal) => {
                    j.rule_out = refusal.rule;
                    j.verdict = Verdict::Drop(refusal.reason);
                }
            }
        }
    }
    j
}

/// Sessions that copy the frame as it was received.
fn received(snapshot: &Snapshot, j: &Judgement, frame: &Parsed) -> SessionSet {
    let Some(from) = snapshot.port(frame.key.in_port()).filter(|from| !from.mirror_destination) else { return 0 };
    let watching = from.rx_sessions | j.vlan.map_or(0, |vlan| snapshot.vlan_rx_sessions(vlan));
    snapshot.looking_for(watching, Seen { vlan: j.vlan, dropped: j.is_dropped() }, frame)
}

impl Judgement {
    fn is_dropped(&self) -> bool {
        matches!(self.verdict, Verdict::Drop(_))
    }

    /// It may leave by `to`, by that rule, and by no other port.
    fn leave_by(&mut self, snapshot: &Snapshot, to: &PortPolicy, vlan: VlanId, rule: RuleRef, frame: &Parsed) {
        (self.out, self.rule_out) = (Some(to.config.id), rule);
        self.generation_out = to.generation;
        let watching = (to.tx_sessions | snapshot.vlan_tx_sessions(vlan)) & !self.rx_sessions;
        self.tx_sessions = snapshot.looking_for(watching, Seen { vlan: Some(vlan), dropped: false }, frame);
        let (monitors, _) = snapshot.watching(to.monitors_out, frame.key.in_port(), &frame.key, self.vlan);
        self.monitors_out = monitors & !self.monitors_in;
        self.picked |= self.monitors_out & to.picks_out;
    }
}

/// Names the sessions that copy the frames of a flow of which the judges have said `j`, as they do.
pub fn name_sessions(j: &mut Judgement, snapshot: &Snapshot, frame: &Parsed) {
    let rx = received(snapshot, j, frame);
    let out = j.out.filter(|_| !j.is_dropped()).and_then(|out| snapshot.port(out));
    let sent = out.map_or(0, |to| to.tx_sessions | j.vlan.map_or(0, |vlan| snapshot.vlan_tx_sessions(vlan)));
    let tx = snapshot.looking_for(sent & !rx, Seen { vlan: j.vlan, dropped: false }, frame);
    (j.rx_sessions, j.tx_sessions) = (rx, tx);
}

/// The destination is where it was, or as unknown as it was with the same ports to flood to.
#[inline(always)]
pub fn stands(destination: Destination, snapshot: &Snapshot, macs: &MacTable) -> bool {
    match destination {
        Destination::At(slot) => macs.is_current(slot),
        Destination::Unknown(absence) => {
            absence == Absence { additions: macs.additions(), sequence: snapshot.sequence() }
        }
    }
}

/// What was said still holds: both ports have the policy that they had, and the addresses are where they were. Where that
/// is not so, but no other verdict could come of it, `j` is brought up to date: a source that has moved is learned again,
/// an unknown destination is looked up again. Then the judges need not run.
#[inline]
pub fn renew(
    j: &mut Judgement,
    snapshot: &Snapshot,
    macs: &mut MacTable,
    frame: &Parsed,
    generation_in: u32,
    now: Instant,
) -> bool {
    if j.generation_in != generation_in || j.out.is_some_and(|out| j.generation_out != snapshot.generation(out)) {
        return false;
    }
    // A drop on the way in rests on the port alone.
    if !j.admitted {
        return true;
    }
    let (Some(from), Some(vlan)) = (snapshot.port(frame.key.in_port()), j.vlan) else { return false };
    // The source first, as it may be the destination too.
    renew_source(j, snapshot, macs, from, vlan, frame, now) && renew_destination(j, snapshot, macs, from, vlan, frame)
}

fn renew_source(
    j: &mut Judgement,
    snapshot: &Snapshot,
    macs: &mut MacTable,
    from: &PortPolicy,
    vlan: VlanId,
    frame: &Parsed,
    now: Instant,
) -> bool {
    let refused = matches!(j.verdict, Verdict::Drop(_)) && j.destination == Destination::At(SlotRef::NONE);
    if j.source != SlotRef::NONE && macs.is_current(j.source) {
        if !refused {
            macs.refresh(j.source, now);
        }
        return true;
    }
    // It was dropped for where the source was, and that is over.
    if refused {
        return false;
    }
    let learned = learn(snapshot, macs, from, vlan, frame, now);
    learned.is_ok_and(|slot| {
        j.source = slot;
        true
    })
}

fn renew_destination(
    j: &mut Judgement,
    snapshot: &Snapshot,
    macs: &MacTable,
    from: &PortPolicy,
    vlan: VlanId,
    frame: &Parsed,
) -> bool {
    if stands(j.destination, snapshot, macs) {
        return true;
    }
    let Destination::Unknown(held) = j.destination else { return false };
    let sequence = snapshot.sequence();
    if held.sequence != sequence && only(snapshot, from, vlan).map(|to| to.config.id) != j.out {
        return false;
    }
    match macs.search(vlan, frame.key.dst_mac()) {
        Ok(_) => false,
        Err(additions) => {
            j.destination = Destination::Unknown(Absence { additions, sequence });
            true
        }
    }
}
