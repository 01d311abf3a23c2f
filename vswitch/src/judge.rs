//! The miss path: all judges in order, and whether what they said of an earlier frame still holds.

use crate::bridge::learn::learn;
use crate::bridge::lookup::{Target, lookup};
use crate::parse::Parsed;
use crate::snapshot::Snapshot;
use crate::table::mac::{MacTable, SlotRef};
use crate::time::Instant;
use crate::verdict::{Judgement, RuleRef, Verdict};
use crate::{egress, ingress};

/// Judges a frame and learns its source.
pub fn judge(snapshot: &Snapshot, macs: &mut MacTable, frame: &Parsed, now: Instant) -> Judgement {
    let from = snapshot.port(frame.key.in_port());
    let mut j = Judgement {
        verdict: Verdict::Flood,
        admitted: false,
        vlan: None,
        out: None,
        rule_in: RuleRef::NONE,
        rule_out: RuleRef::NONE,
        source: SlotRef::NONE,
        destination: SlotRef::NONE,
        generation_in: snapshot.generation(frame.key.in_port()),
        generation_out: 0,
        rx_sessions: 0,
        tx_sessions: 0,
        monitors_in: from.map_or(0, |from| from.monitors_in),
        monitors_out: 0,
    };
    let admission = ingress::judge(snapshot, from, frame);
    (j.vlan, j.rule_in) = match &admission {
        Ok(admitted) => (Some(admitted.vlan), admitted.rule),
        Err(refusal) => (refusal.vlan, refusal.rule),
    };
    if let Some(from) = from.filter(|from| !from.mirror_destination) {
        j.rx_sessions = from.rx_sessions | j.vlan.map_or(0, |vlan| snapshot.vlan_rx_sessions(vlan));
    }
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
        Target::Many => {}
        Target::Nowhere(reason, slot) => {
            j.destination = slot;
            j.verdict = Verdict::Drop(reason);
        }
        Target::Port(to, slot) => {
            j.destination = slot;
            j.out = Some(to);
            j.generation_out = snapshot.generation(to);
            let to = snapshot.port(to);
            match egress::judge(snapshot, from, to, vlan, frame) {
                Ok(rule) => {
                    j.rule_out = rule;
                    if let Some(to) = to {
                        j.verdict = Verdict::Forward(to.config.id);
                        j.tx_sessions = (to.tx_sessions | snapshot.vlan_tx_sessions(vlan)) & !j.rx_sessions;
                        j.monitors_out = to.monitors_out & !j.monitors_in;
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

/// What was said still holds: both ports have the policy that they had, and both addresses are where they were. A flood
/// holds while its destination is not known; who gets it is looked up each time.
#[inline]
pub fn holds(j: &Judgement, snapshot: &Snapshot, macs: &MacTable, frame: &Parsed, generation_in: u32) -> bool {
    if j.generation_in != generation_in || !macs.is_current(j.source) || !macs.is_current(j.destination) {
        return false;
    }
    match (j.out, j.verdict) {
        (Some(out), _) => j.generation_out == snapshot.generation(out) && j.source != SlotRef::NONE,
        (None, Verdict::Flood) => {
            let known = j.vlan.is_some_and(|vlan| macs.lookup(vlan, frame.key.dst_mac()).is_some());
            !known && j.source != SlotRef::NONE
        }
        // A drop on the way in rests on the port alone; one of the bridge has the slot that it rests on, and the source
        // is still to be learned when it has none.
        (None, _) => !j.admitted || j.source != SlotRef::NONE,
    }
}
