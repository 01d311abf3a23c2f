//! A batch's way through the switch: parse, flow lookup, judges for what is new, account, and out.
//!
//! The stages run over the whole batch: all frames are parsed and hashed, then all looked up in the index, so that the
//! loads of different frames overlap; then each frame in its order is decided and staged. Order matters there: a frame
//! may teach the address that the next one asks for. Last, every port is flushed and each frame's fate is counted.
//!
//! Threads: one worker's. No allocation, lock, log or system call but the ports' `rx` and `tx`.

use std::sync::Arc;

use crate::account::counters::{Class, Counters, Tally};
use crate::bridge::flood::flood;
use crate::egress::vlan::{Rewrite, rewrite};
use crate::egress::{self, mtu};
use crate::emit::{Batch, Cx, Devices};
use crate::flow::Flows;
use crate::flow::cache::NONE;
use crate::flow::entry::state;
use crate::frame::{BATCH, Buffer};
use crate::judge;
use crate::observe::drops::Drops;
use crate::parse::{Parsed, parse_into};
use crate::port::PortId;
use crate::snapshot::Snapshot;
use crate::table::mac::MacTable;
use crate::time::Instant;
use crate::verdict::{DropReason, Judgement, RuleRef, Verdict};
use proto::addr::VlanId;

/// What a worker knows beside its ports.
pub struct Road {
    /// Where stations are.
    pub macs: MacTable,
    /// Flows.
    pub flows: Flows,
    /// The last dropped frames.
    pub drops: Drops,
    counters: Arc<Counters>,
    batch: Batch,
    hashes: [u64; BATCH],
    /// The entry of each frame's flow as the batch began, if there was one.
    known: [u32; BATCH],
}

impl Road {
    /// With empty tables.
    pub fn new(macs: MacTable, flows: Flows, counters: Arc<Counters>) -> Self {
        Road {
            macs,
            flows,
            drops: Drops::default(),
            counters,
            batch: Batch::default(),
            hashes: [0; BATCH],
            known: [NONE; BATCH],
        }
    }

    /// Takes the frames that `port` received, at most [`BATCH`], to where they belong.
    pub fn run(&mut self, snapshot: &Snapshot, devices: &mut Devices, port: PortId, buffers: &[Buffer], now: Instant) {
        let counters = Arc::clone(&self.counters);
        let cx = Cx { snapshot, buffers, counters: &counters };
        self.batch.restart();
        let active = self.parse(&cx, port);
        self.look_up(active);
        let generation = snapshot.generation(port);
        let removals = self.flows.cache.removals();
        let mut hits = 0;
        let mut rest = active;
        while rest != 0 {
            let at = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            let known = self.known(at, removals);
            let passed = self.pass(&cx, devices, at, known, generation, now);
            hits += u64::from(passed || self.decide(&cx, devices, at, known, generation, now));
        }
        counters.cache.hits.add(hits);
        devices.flush_all(&cx, &mut self.batch);
        self.settle(&cx, port, now);
    }

    /// Parses every frame and counts it as received; the set of those that are what they claim.
    fn parse(&mut self, cx: &Cx<'_>, port: PortId) -> u64 {
        let mut active = 0u64;
        let mut tally = Tally::default();
        let slots = self.batch.parsed.iter_mut().zip(self.batch.fates.iter_mut());
        for (i, (buffer, (slot, fate))) in cx.buffers.iter().zip(slots).enumerate() {
            let frame = buffer.frame();
            match parse_into(frame, &buffer.vnet, port, slot) {
                Ok(()) => active |= 1 << i,
                Err(reason) => fate.fail(reason, RuleRef::NONE),
            }
            tally.add(Class::of(slot.key.dst_mac), slot.segments.into(), slot.l2_octets.into());
        }
        cx.counters.port(port).rx.add(&tally);
        active
    }

    /// Hashes the keys, then finds the entries that probably hold them, then sees whether they do. In three passes, so that
    /// the loads of a pass do not wait for each other.
    fn look_up(&mut self, active: u64) {
        let cache = &self.flows.cache;
        for (hash, parsed) in self.hashes.iter_mut().zip(&self.batch.parsed).take(used(active)) {
            *hash = cache.hash(&parsed.key);
        }
        for (known, hash) in self.known.iter_mut().zip(&self.hashes).take(used(active)) {
            *known = cache.guess(*hash);
        }
        for (known, parsed) in self.known.iter_mut().zip(&self.batch.parsed).take(used(active)) {
            *known = if cache.confirms(*known, &parsed.key) { *known } else { NONE };
        }
    }

    /// The entry of a frame's flow; `removals` are those of the cache when the batch was looked up.
    #[inline]
    fn known(&self, at: u8, removals: u64) -> u32 {
        match self.known.get(usize::from(at)) {
            Some(&known) if known != NONE && self.flows.cache.removals() == removals => known,
            known => self.find_again(at, known.copied().unwrap_or(NONE)),
        }
    }

    /// As [`Road::known`], when frames before this one may have added or removed the entry.
    #[cold]
    fn find_again(&self, at: u8, known: u32) -> u32 {
        let index = usize::from(at);
        let (Some(hash), Some(parsed)) = (self.hashes.get(index), self.batch.parsed.get(index)) else { return NONE };
        match self.flows.cache.confirms(known, &parsed.key) {
            true => known,
            false => self.flows.cache.find(*hash, &parsed.key).unwrap_or(NONE),
        }
    }

    /// The usual frame: the verdict of its flow holds and sends it to one port, and no session copies it. `false` when
    /// there is more to it, and nothing was done.
    #[inline(always)]
    fn pass(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, known: u32, generation: u32, now: Instant) -> bool {
        let (Some(parsed), Some(entry)) = (self.batch.parsed.get(usize::from(at)), self.flows.cache.get(known)) else {
            return false;
        };
        let j = entry.judgement();
        let (true, Verdict::Forward(to)) = (entry.is(state::PLAIN), j.verdict) else { return false };
        if !judge::holds(&j, cx.snapshot, &self.macs, parsed, generation) {
            return false;
        }
        if entry.is(state::COUNTED) {
            count_rules(cx, entry.rules(), parsed);
        }
        self.macs.refresh(j.source, now);
        self.flows.count(known, parsed, now);
        self.forward(cx, devices, at, to, j.vlan);
        true
    }

    /// Decides one frame: the verdict of its flow if that holds, else that of the judges; counts, copies and stages it.
    /// `true` when the flow's verdict held.
    #[inline(never)]
    fn decide(
        &mut self,
        cx: &Cx<'_>,
        devices: &mut Devices,
        at: u8,
        known: u32,
        generation: u32,
        now: Instant,
    ) -> bool {
        let index = usize::from(at);
        let (Some(&hash), Some(parsed)) = (self.hashes.get(index), self.batch.parsed.get(index)) else { return false };
        let held = self.flows.cache.get(known).map(|entry| entry.judgement());
        let held = held.filter(|j| judge::holds(j, cx.snapshot, &self.macs, parsed, generation));
        let (entry, j) = match held {
            Some(j) => {
                self.macs.refresh(j.source, now);
                (known, j)
            }
            None => {
                cx.counters.cache.misses.add(1);
                let j = judge::judge(cx.snapshot, &mut self.macs, parsed, now);
                let entry = match known {
                    NONE => self.flows.admit(hash, &parsed.key, parsed.segments),
                    known => known,
                };
                self.flows.rejudge(entry, &j, now, cx.snapshot);
                (entry, j)
            }
        };
        if j.verdict != Verdict::Flood {
            self.flows.count(entry, parsed, now);
        }
        count_rules(cx, [j.rule_in, j.rule_out], parsed);
        let segments = parsed.segments;
        if let Some(fate) = self.batch.fates.get_mut(index) {
            fate.vlan = j.vlan;
            fate.tx_sessions = j.tx_sessions;
        }
        if j.rx_sessions != 0 {
            devices.copy(cx, &mut self.batch, at, j.rx_sessions, Rewrite::Keep);
        }
        match j.verdict {
            Verdict::Forward(to) => self.forward(cx, devices, at, to, j.vlan),
            Verdict::Flood => self.flood(cx, devices, at, entry, &j, now),
            Verdict::Drop(reason) => {
                let rule = match reason {
                    DropReason::AclDeny => j.rule_in,
                    DropReason::AclDenyOut => j.rule_out,
                    _ => RuleRef::NONE,
                };
                self.fail(at, reason, rule);
                if let Some(out) = j.out {
                    cx.counters.port(out).drop_tx(reason, segments.into());
                }
            }
        }
        held.is_some()
    }

    fn fail(&mut self, at: u8, reason: DropReason, rule: RuleRef) {
        if let Some(fate) = self.batch.fates.get_mut(usize::from(at)) {
            fate.fail(reason, rule);
        }
    }

    #[inline(always)]
    fn forward(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, to: PortId, vlan: Option<VlanId>) {
        let (Some(parsed), Some(policy)) = (self.batch.parsed.get(usize::from(at)), cx.snapshot.port(to)) else {
            return;
        };
        if !mtu::fits(parsed, policy) {
            cx.counters.port(to).drop_tx(DropReason::MtuExceeded, parsed.segments.into());
            return self.fail(at, DropReason::MtuExceeded, RuleRef::NONE);
        }
        let tag = vlan.map_or(Rewrite::Keep, |vlan| rewrite(policy, vlan, parsed));
        devices.send(cx, &mut self.batch, at, to, tag);
    }

    fn flood(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, entry: u32, j: &Judgement, now: Instant) {
        let Some(parsed) = self.batch.parsed.get(usize::from(at)).copied() else { return };
        let (Some(from), Some(vlan)) = (cx.snapshot.port(parsed.key.in_port()), j.vlan) else { return };
        let vlan_sessions = cx.snapshot.vlan_tx_sessions(vlan);
        let (mut monitors, mut reached) = (0, false);
        for to in flood(cx.snapshot, from, vlan) {
            let cells = cx.counters.port(to.config.id);
            let (refusal, rule) = match egress::judge(cx.snapshot, from, Some(to), vlan, &parsed) {
                Ok(rule) if mtu::fits(&parsed, to) => (None, rule),
                Ok(rule) => (Some((DropReason::MtuExceeded, RuleRef::NONE)), rule),
                Err(refusal) => (Some((refusal.reason, refusal.rule)), refusal.rule),
            };
            if let Some(id) = rule.counted() {
                cx.counters.count_rule(id, parsed.segments.into());
            }
            if let Some((reason, rule)) = refusal {
                cells.drop_tx(reason, parsed.segments.into());
                self.fail(at, reason, rule);
                continue;
            }
            reached = true;
            monitors |= to.monitors_out;
            if let Some(fate) = self.batch.fates.get_mut(usize::from(at)) {
                fate.tx_sessions |= (to.tx_sessions | vlan_sessions) & !j.rx_sessions;
            }
            devices.send(cx, &mut self.batch, at, to.config.id, rewrite(to, vlan, &parsed));
        }
        if !reached {
            self.fail(at, DropReason::NoDestination, RuleRef::NONE);
        }
        let lost = match reached {
            true => None,
            false => self.batch.fates.get(usize::from(at)).and_then(|fate| fate.reason),
        };
        self.flows.flooded(entry, monitors, lost);
        self.flows.count(entry, &parsed, now);
    }

    /// Counts each frame as delivered or dropped; keeps samples of the dropped.
    fn settle(&mut self, cx: &Cx<'_>, port: PortId, now: Instant) {
        let cells = cx.counters.port(port);
        let mut delivered = 0;
        for (buffer, (parsed, fate)) in cx.buffers.iter().zip(self.batch.parsed.iter().zip(&self.batch.fates)) {
            let sent = fate.sent.min(parsed.segments);
            delivered += u64::from(sent);
            if sent < parsed.segments {
                let reason = fate.reason.unwrap_or(DropReason::NoDestination);
                cells.drop_rx(reason, u64::from(parsed.segments - sent));
                self.drops.record(now, port, reason, fate.rule, buffer.frame());
            }
        }
        cells.delivered.add(delivered);
    }
}

/// Counts a frame at the rules that decided on it.
fn count_rules(cx: &Cx<'_>, rules: [RuleRef; 2], parsed: &Parsed) {
    for rule in rules {
        if let Some(id) = rule.counted() {
            cx.counters.count_rule(id, parsed.segments.into());
        }
    }
}

/// Frames up to the last of a set.
fn used(active: u64) -> usize {
    BATCH - active.leading_zeros() as usize
}
