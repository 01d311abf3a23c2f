//! A batch's way through the switch: parse, flow lookup, judges for what is new, account, and out.
//!
//! The stages run over the whole batch: all frames are parsed and hashed, which asks for their lines of the index; then all
//! are looked up in the index, which asks for their entries; so the loads of different frames overlap. Then each frame in
//! its order is held against its entry and staged, or decided by the judges. Order matters there: a frame may teach the
//! address that the next one asks for. Last, every port is flushed and each frame's fate is counted.
//!
//! Threads: one worker's. No allocation, lock, log or system call but the ports' `rx` and `tx`.

use std::sync::Arc;

use crate::account::classes::{Amount, Class};
use crate::account::counters::{Counters, Tally};
use crate::account::rule_drops::RuleDrop;
use crate::bridge::flood::flood;
use crate::egress::vlan::{Rewrite, rewrite};
use crate::egress::{self, mtu};
use crate::emit::{Batch, Cx, Devices, Run, Way, bit, pop};
use crate::flow::Flows;
use crate::flow::cache::NONE;
use crate::flow::entry::{Entry, state};
use crate::flow::key::FlowKey;
use crate::flow::tally::Counted;
use crate::frame::{BATCH, Buffer};
use crate::observe::drops::Drops;
use crate::observe::mirror::outlet::Sighting;
use crate::observe::passage::{Cached, Watch};
use crate::parse::{Parsed, parse_into};
use crate::port::PortId;
use crate::snapshot::{Seen, SessionSet, Snapshot};
use crate::table::mac::MacTable;
use crate::time::Instant;
use crate::verdict::{DropReason, Judgement, RuleRef, Verdict};
use crate::{ingress, judge};
use proto::addr::VlanId;

/// A flow tells the MAC table that its source was seen once in 2^30 ns, about a second.
const REFRESH_BITS: u32 = 30;

/// What a worker knows beside its ports.
pub struct Road {
    /// Where stations are.
    pub macs: MacTable,
    /// Flows.
    pub flows: Flows,
    /// The last dropped frames.
    pub drops: Drops,
    /// Tells of some frames what becomes of them, while somebody wants to know.
    pub watch: Option<Box<Watch>>,
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
            watch: None,
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
        devices.outlet.begin(port, now);
        let received = self.parse(&cx, port);
        self.look_up(received.active);
        let generation = snapshot.generation(port);
        match self.watch.as_mut().map_or(0, |watch| watch.choose(port, buffers, now)) {
            0 => self.walk(&cx, devices, received.active, generation, now),
            _ => self.walk_watched(&cx, devices, received.active, generation, now),
        }
        devices.flush_all(&cx, &mut self.batch);
        self.settle(&cx, devices, port, &received, now);
        if let Some(watch) = &mut self.watch {
            watch.tell(&mut self.batch);
        }
    }

    /// As [`Road::walk`], without the short way of the usual frame: the watch looks on where a frame is decided.
    #[cold]
    fn walk_watched(&mut self, cx: &Cx<'_>, devices: &mut Devices, active: u64, generation: u32, now: Instant) {
        let mut hits = 0u64;
        let mut rest = active;
        while let Some(at) = pop(&mut rest) {
            if let Some(watch) = &mut self.watch {
                watch.before(at, cx.snapshot, &self.macs, self.batch.parsed(at));
            }
            hits += u64::from(self.decide(cx, devices, at, generation, now));
        }
        cx.counters.cache.hits.add(hits);
    }

    /// Decides the frames in their order. Those that leave as they came by the same port, one after the other, are staged
    /// at once.
    #[inline(never)]
    fn walk(&mut self, cx: &Cx<'_>, devices: &mut Devices, active: u64, generation: u32, now: Instant) {
        let mut hits = 0u64;
        let mut runs = Runs::EMPTY;
        let mut rest = active;
        while let Some(at) = pop(&mut rest) {
            let passed = self.pass(cx, devices, at, generation, now, &mut runs)
                || self.renew(cx, at, generation, now) && self.pass(cx, devices, at, generation, now, &mut runs);
            if !passed {
                runs.stage(cx, devices, &mut self.batch);
            }
            hits += u64::from(passed || self.decide(cx, devices, at, generation, now));
        }
        runs.stage(cx, devices, &mut self.batch);
        cx.counters.cache.hits.add(hits);
    }

    /// Parses every frame and counts it as received. Those that are what they claim are hashed, and will be looked up.
    #[inline(never)]
    fn parse(&mut self, cx: &Cx<'_>, port: PortId) -> Received {
        let mut received = Received { active: 0, segments: 0 };
        let mut tally = Tally::default();
        let cache = &self.flows.cache;
        for (at, buffer) in (0..BATCH as u8).zip(cx.buffers) {
            let index = usize::from(at) % BATCH;
            let (Some(parsed), Some(hash)) = (self.batch.parsed.get_mut(index), self.hashes.get_mut(index)) else {
                break;
            };
            let read = parse_into(buffer.frame(), &buffer.vnet, port, parsed);
            tally.add(parsed.key.dst_mac, parsed.segments.into(), parsed.l2_octets.into());
            received.segments = received.segments.wrapping_add(parsed.segments.into());
            match read {
                Ok(()) => {
                    received.active |= 1 << at;
                    *hash = cache.hash(&parsed.key);
                    cache.expect(*hash);
                }
                Err(reason) => malformed(cx, &mut self.batch, port, at, reason),
            }
        }
        cx.counters.port(port).rx.add(&tally);
        received
    }

    /// Finds the entries that probably hold the keys, by the index.
    #[inline(never)]
    fn look_up(&mut self, active: u64) {
        for (known, hash) in self.known.iter_mut().zip(&self.hashes).take(used(active)) {
            *known = self.flows.cache.guess(*hash);
        }
    }

    /// What the cache says of a flow, and whether that holds; for who asks, and changes nothing.
    pub fn cached(&self, key: &FlowKey, snapshot: &Snapshot) -> Option<(Judgement, bool)> {
        let entry = self.flows.cache.get(self.flows.cache.find(self.flows.cache.hash(key), key)?)?;
        let mut j = entry.judgement();
        if entry.is_copied_by_several() {
            judge::name_sessions(&mut j, snapshot, &Parsed { key: *key, ..Parsed::EMPTY });
        }
        let generation_out = j.out.map_or(0, |out| snapshot.generation(out));
        let fits = j.generation_in == snapshot.generation(key.in_port())
            && (j.out.is_none() || j.generation_out == generation_out)
            && (!j.admitted || self.macs.is_current(j.source) && judge::stands(j.destination, snapshot, &self.macs));
        entry.is(state::LIVE).then_some((j, fits))
    }

    /// The entry of a frame's flow, when its guess was none or wrong, or frames before this one may have changed things.
    fn find_again(&self, at: u8) -> u32 {
        let index = usize::from(at) % BATCH;
        let (Some(hash), Some(&known)) = (self.hashes.get(index), self.known.get(index)) else { return NONE };
        let key = &self.batch.parsed(at).key;
        match self.flows.cache.get(known) {
            Some(entry) if entry.is(state::LIVE) && entry.has_key(key) => known,
            _ => self.flows.cache.find(*hash, key).unwrap_or(NONE),
        }
    }

    /// The usual frame: the verdict of its flow holds and sends it to one port, also as a flood, and at most one session copies it as
    /// received and one as sent. `false` when there is more to it, and nothing was done.
    #[inline(always)]
    fn pass(
        &mut self,
        cx: &Cx<'_>,
        devices: &mut Devices,
        at: u8,
        generation: u32,
        now: Instant,
        runs: &mut Runs,
    ) -> bool {
        let Some(&known) = self.known.get(usize::from(at) % BATCH) else { return false };
        let Some(entry) = self.flows.cache.get_mut(known) else { return false };
        let parsed = self.batch.parsed(at);
        if !entry.has_key(&parsed.key) || !entry.is(state::LIVE | state::PLAIN) {
            return false;
        }
        let Some(out) = cx.snapshot.out(entry.out()) else { return false };
        let (source, destination) = (entry.source(), entry.destination());
        let fits = entry.fits(generation, out.generation) & (parsed.packet_max <= u32::from(out.mtu));
        if !fits || !self.macs.is_current(source) || !judge::stands(destination, cx.snapshot, &self.macs) {
            return false;
        }
        if entry.last().ns() >> REFRESH_BITS != now.ns() >> REFRESH_BITS {
            self.macs.refresh(source, now);
        }
        if entry.is(state::COUNTED_IN) {
            let [rule, _] = entry.counted();
            cx.counters.count_rule(rule.into(), parsed.segments.into());
        }
        if entry.is(state::COUNTED_OUT) {
            let [_, rule] = entry.counted();
            cx.counters.count_rule(rule.into(), parsed.segments.into());
        }
        let to = entry.out();
        let is_over = entry.count(parsed, now);
        if parsed.bare & out.untagged & (entry.leaves() == runs.leaves) {
            runs.run.set |= bit(at);
        } else {
            let (leaves, vlan, sessions) = (entry.leaves(), entry.vlan(), entry.copied());
            self.leave(cx, devices, at, Leave { leaves, to, vlan, sessions, untagged: out.untagged }, runs);
        }
        if is_over {
            turn_page(&mut self.flows, cx, known, at, self.batch.parsed(at), now);
        }
        true
    }

    /// Brings a verdict up to date that was to be passed on and that only the addresses have left behind, so that the frame
    /// stays in its run. `false` when that is not so.
    #[inline(never)]
    fn renew(&mut self, cx: &Cx<'_>, at: u8, generation: u32, now: Instant) -> bool {
        let Some(&known) = self.known.get(usize::from(at) % BATCH) else { return false };
        let Some(entry) = self.flows.cache.get_mut(known) else { return false };
        let parsed = self.batch.parsed(at);
        if !entry.is(state::LIVE | state::PLAIN) || !entry.has_key(&parsed.key) {
            return false;
        }
        renew(entry, cx, &mut self.macs, parsed, generation, now).is_some()
    }

    /// Stages a frame that was passed and perhaps leaves in another way than the one before it.
    #[inline(never)]
    fn leave(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, leave: Leave, runs: &mut Runs) {
        let Leave { leaves, to, vlan, sessions: [rx_session, tx_session], untagged } = leave;
        let parsed = self.batch.parsed(at);
        let rewrite = match (parsed.tags, untagged) {
            (0, true) => Rewrite::Keep,
            _ => match (cx.snapshot.port(to), vlan) {
                (Some(policy), Some(vlan)) => rewrite(policy, vlan, parsed),
                _ => Rewrite::Keep,
            },
        };
        let copied = rx_session.map(|session| (session, vlan));
        if parsed.vnet.asks_nothing() {
            let way = Way { rewrite, watched: tx_session.map(|session| (session, vlan)) };
            if (runs.to, runs.run.way, runs.copied) != (to, way, copied) {
                runs.stage(cx, devices, &mut self.batch);
                let leaves = if rewrite == Rewrite::Keep { leaves } else { u64::MAX };
                *runs = Runs { leaves, to, copied, run: Run { way, set: 0 } };
            }
            runs.run.set |= bit(at);
            return;
        }
        runs.stage(cx, devices, &mut self.batch);
        if let Some(session) = rx_session {
            let sighting = Sighting { sessions: 1 << session, vlan, seen: Rewrite::Keep, out: None, raw: false };
            devices.outlet.put(cx, &self.batch, bit(at), sighting);
        }
        if let Some(session) = tx_session {
            self.batch.watch(at, vlan, 1 << session);
        }
        devices.send(cx, &mut self.batch, at, to, rewrite);
    }

    /// Decides one frame: the verdict of its flow if that holds, else that of the judges; counts, copies and stages it.
    /// `true` when the flow's verdict held.
    #[inline(never)]
    fn decide(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, generation: u32, now: Instant) -> bool {
        let known = self.find_again(at);
        let Some(&hash) = self.hashes.get(usize::from(at)) else { return false };
        let parsed = self.batch.parsed(at);
        let entry = self.flows.cache.get_mut(known);
        let held = entry.and_then(|entry| renew(entry, cx, &mut self.macs, parsed, generation, now));
        let (entry, j) = match held {
            Some(j) => (known, j),
            None => {
                cx.counters.cache.misses.add(1);
                let j = judge::judge(cx.snapshot, &mut self.macs, parsed, now);
                let entry = match known {
                    NONE => self.flows.admit(hash, &parsed.key, now),
                    known => known,
                };
                self.flows.rejudge(entry, &j, now, cx.snapshot);
                (entry, j)
            }
        };
        if let Some(watch) = &mut self.watch {
            let cached = match (held, known) {
                (Some(_), _) => Cached::Hit,
                (None, NONE) => Cached::Miss,
                (None, _) => Cached::Stale,
            };
            watch.judged(at, cached, &j);
        }
        if j.verdict != Verdict::Flood {
            count(&mut self.flows, cx, entry, at, parsed, now);
        }
        // A flood counts the rule of each port.
        let rule_out = if j.verdict == Verdict::Flood { RuleRef::NONE } else { j.rule_out };
        count_rules(cx, [j.rule_in, rule_out], parsed);
        let segments = parsed.segments;
        if j.rx_sessions != 0 {
            if let Some(fate) = self.batch.fate(at) {
                fate.vlan = j.vlan;
            }
            devices.copy(cx, &mut self.batch, at, j.rx_sessions, Rewrite::Keep, None);
        }
        if j.tx_sessions != 0 {
            self.batch.watch(at, j.vlan, j.tx_sessions);
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
                self.batch.fail(at, reason, rule);
                if let Some(out) = j.out {
                    cx.counters.port(out).drop_tx(reason, segments.into());
                    count_rule_drop(cx, out, reason, rule, segments.into());
                }
            }
        }
        held.is_some()
    }

    fn forward(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, to: PortId, vlan: Option<VlanId>) {
        let parsed = self.batch.parsed(at);
        let Some(policy) = cx.snapshot.port(to) else { return };
        if !mtu::fits(parsed, policy) {
            cx.counters.port(to).drop_tx(DropReason::MtuExceeded, parsed.segments.into());
            return self.batch.fail(at, DropReason::MtuExceeded, RuleRef::NONE);
        }
        let tag = vlan.map_or(Rewrite::Keep, |vlan| rewrite(policy, vlan, parsed));
        devices.send(cx, &mut self.batch, at, to, tag);
    }

    fn flood(&mut self, cx: &Cx<'_>, devices: &mut Devices, at: u8, entry: u32, j: &Judgement, now: Instant) {
        let parsed = *self.batch.parsed(at);
        let (Some(from), Some(vlan)) = (cx.snapshot.port(parsed.key.in_port()), j.vlan) else { return };
        let vlan_sessions = cx.snapshot.vlan_tx_sessions(vlan);
        let (mut monitors, mut picked, mut reached) = (0, 0, false);
        for to in flood(cx.snapshot, from, vlan) {
            let cells = cx.counters.port(to.config.id);
            let judged = match j.out {
                Some(_) => Ok(j.rule_out),
                None => egress::judge(cx.snapshot, from, Some(to), vlan, &parsed),
            };
            let (refusal, rule) = match judged {
                Ok(rule) if mtu::fits(&parsed, to) => (None, rule),
                Ok(rule) => (Some((DropReason::MtuExceeded, RuleRef::NONE)), rule),
                Err(refusal) => (Some((refusal.reason, refusal.rule)), refusal.rule),
            };
            if let Some(id) = rule.counted() {
                cx.counters.count_rule(id, parsed.segments.into());
            }
            if let Some(watch) = &mut self.watch {
                watch.flooded(at, to.config.id, refusal.map(|(reason, _)| reason), rule);
            }
            if let Some((reason, rule)) = refusal {
                cells.drop_tx(reason, parsed.segments.into());
                count_rule_drop(cx, to.config.id, reason, rule, parsed.segments.into());
                self.batch.fail(at, reason, rule);
                continue;
            }
            reached = true;
            // The first port that has a monitor decides for it.
            let new = cx.snapshot.watching(to.monitors_out, parsed.key.in_port(), &parsed.key, j.vlan).0 & !monitors;
            monitors |= new;
            picked |= new & to.picks_out;
            self.flows.picks.decide(new & to.picks_out, to.config.id);
            let watching = (to.tx_sessions | vlan_sessions) & !j.rx_sessions;
            let sessions = cx.snapshot.looking_for(watching, Seen { vlan: j.vlan, dropped: false }, &parsed);
            if sessions != 0 {
                self.batch.watch(at, j.vlan, sessions);
            }
            devices.send(cx, &mut self.batch, at, to.config.id, rewrite(to, vlan, &parsed));
        }
        if !reached {
            self.batch.fail(at, DropReason::NoDestination, RuleRef::NONE);
        }
        let lost = match reached {
            true => None,
            false => self.batch.fate(at).and_then(|fate| fate.reason),
        };
        self.flows.flooded(entry, (monitors, picked), lost, now);
        count(&mut self.flows, cx, entry, at, &parsed, now);
    }

    /// Copies a dropped frame for sessions that have no copy of it yet; `sane`: it is what it claims.
    #[cold]
    fn copy_dropped(
        &mut self,
        cx: &Cx<'_>,
        devices: &mut Devices,
        port: PortId,
        at: u8,
        sane: bool,
        sessions: SessionSet,
    ) {
        let Some(from) = cx.snapshot.port(port).filter(|from| !from.mirror_destination) else { return };
        let parsed = self.batch.parsed(at);
        let vlan = if sane { ingress::vlan::judge(cx.snapshot, from, parsed).ok() } else { None };
        let watching = from.rx_sessions | vlan.map_or(0, |vlan| cx.snapshot.vlan_rx_sessions(vlan));
        let received = if sane { watching } else { 0 };
        let sessions = cx.snapshot.looking_for(sessions & !received, Seen { vlan, dropped: true }, parsed);
        let copied = self.batch.fate(at).map_or(0, |fate| fate.copied);
        if sessions & !copied != 0 {
            let sighting = Sighting { sessions: sessions & !copied, vlan, seen: Rewrite::Keep, out: None, raw: !sane };
            devices.outlet.put(cx, &self.batch, bit(at), sighting);
        }
    }

    /// Counts each frame as delivered or dropped; keeps samples of the dropped.
    fn settle(&mut self, cx: &Cx<'_>, devices: &mut Devices, port: PortId, received: &Received, now: Instant) {
        let cells = cx.counters.port(port);
        let all = u64::MAX.checked_shr((BATCH - cx.buffers.len().min(BATCH)) as u32).unwrap_or(0);
        let mut lost = 0;
        let mut rest = all & !self.batch.whole();
        while rest != 0 {
            let at = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            let segments = self.batch.parsed(at).segments;
            let Some(fate) = self.batch.fate(at) else { break };
            let missing = segments.saturating_sub(fate.sent);
            if missing > 0 {
                let (reason, rule) = (fate.reason.unwrap_or(DropReason::NoDestination), fate.rule);
                let sessions = cx.snapshot.drop_sessions(reason);
                if sessions != 0 {
                    self.copy_dropped(cx, devices, port, at, received.active & bit(at) != 0, sessions);
                }
                cells.drop_rx(reason, missing.into());
                count_rule_drop(cx, port, reason, rule, missing.into());
                self.drops.record(now, port, reason, rule, cx.frame(at));
                lost += u64::from(missing);
            }
        }
        cells.delivered.add(received.segments.saturating_sub(lost));
    }
}

/// Counts frame `at` in entry `known`.
#[inline]
fn count(flows: &mut Flows, cx: &Cx<'_>, known: u32, at: u8, parsed: &Parsed, now: Instant) {
    if flows.cache.get_mut(known).is_some_and(|entry| entry.count(parsed, now)) {
        turn_page(flows, cx, known, at, parsed, now);
    }
}

/// Frame `at` was counted, and there is more to it: see [`Flows::turn_page`].
#[cold]
#[inline(never)]
fn turn_page(flows: &mut Flows, cx: &Cx<'_>, known: u32, at: u8, parsed: &Parsed, now: Instant) {
    flows.turn_page(known, &Counted { snapshot: cx.snapshot, parsed, frame: cx.frame(at) }, now);
}

/// What an entry says, if that holds; where its addresses are now is kept: see [`judge::renew`].
fn renew(
    entry: &mut Entry,
    cx: &Cx<'_>,
    macs: &mut MacTable,
    parsed: &Parsed,
    generation: u32,
    now: Instant,
) -> Option<Judgement> {
    let mut j = entry.judgement();
    let holds = judge::renew(&mut j, cx.snapshot, macs, parsed, generation, now);
    if holds && entry.is_copied_by_several() {
        judge::name_sessions(&mut j, cx.snapshot, parsed);
    }
    holds.then(|| {
        entry.set_places(&j);
        j
    })
}

/// How a frame that was passed leaves.
struct Leave {
    /// As [`crate::flow::entry::Entry::leaves`].
    leaves: u64,
    to: PortId,
    vlan: Option<VlanId>,
    /// Those that copy it, as received and as sent.
    sessions: [Option<u8>; 2],
    /// As [`crate::snapshot::Out::untagged`].
    untagged: bool,
}

/// Frames that were passed one after the other, leave in the same way, and are not staged yet.
struct Runs {
    /// What their entries say of that, when they leave as they came.
    leaves: u64,
    to: PortId,
    /// The session that copies them as received, and the VLAN in which they are switched.
    copied: Option<(u8, Option<VlanId>)>,
    run: Run,
}

impl Runs {
    const EMPTY: Runs = Runs { leaves: u64::MAX, to: PortId(u16::MAX), copied: None, run: Run::EMPTY };

    /// Stages them.
    fn stage(&mut self, cx: &Cx<'_>, devices: &mut Devices, batch: &mut Batch) {
        let set = std::mem::take(&mut self.run.set);
        if set == 0 {
            return;
        }
        if let Some((session, vlan)) = self.copied {
            let sighting = Sighting { sessions: 1 << session, vlan, seen: Rewrite::Keep, out: None, raw: false };
            devices.outlet.put(cx, batch, set, sighting);
        }
        devices.send_run(cx, batch, self.to, Run { set, ..self.run });
    }
}

/// What a batch is, once it is parsed.
struct Received {
    /// Frames that are what they claim.
    active: u64,
    /// Segments of all frames.
    segments: u64,
}

/// Counts a frame that is not what it claims.
#[cold]
#[inline(never)]
fn malformed(cx: &Cx<'_>, batch: &mut Batch, port: PortId, at: u8, reason: DropReason) {
    let parsed = batch.parsed(at);
    let amount = Amount { packets: parsed.segments.into(), octets: parsed.l2_octets.into() };
    cx.counters.port(port).classes.add(Class::Malformed, amount);
    batch.fail(at, reason, RuleRef::NONE);
}

/// Counts frames that a port lost by a rule.
fn count_rule_drop(cx: &Cx<'_>, port: PortId, reason: DropReason, rule: RuleRef, frames: u64) {
    if let Some(rule) = rule.id() {
        cx.counters.rule_drops.add(RuleDrop { port, reason, rule }, frames);
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
