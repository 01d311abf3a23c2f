//! A flow: its key, what the judges said of it, and its counters, in three cache lines.
//!
//! The first line is the key and the counted rules. The second is all else that the usual frame reads and writes: what its
//! verdict rests on, where it goes, which session copies it, and what is counted. The third is for the first frame of a
//! report, for drops and unusual mirrors, and for timers.

use proto::addr::VlanId;
use zerocopy::FromZeros;

use super::key::FlowKey;
use crate::account::meter::OCTETS_MAX;
use crate::account::select::Skipped;
use crate::config::RULES_MAX;
use crate::port::PortId;
use crate::port::arena::prefetch;
use crate::snapshot::SessionSet;
use crate::table::mac::SlotRef;
use crate::time::Instant;
use crate::verdict::{Destination, DropReason, Judgement, RuleRef, Verdict};

/// Bits of [`Entry::state`].
pub mod state {
    /// In use.
    pub const LIVE: u8 = 1;
    /// Was reported before, so it is more than its counters say.
    pub const HISTORY: u8 = 2;
    /// Is to be reported and removed: its port is going away.
    pub const FORCED: u8 = 4;
    /// Of a flood, the last frame reached somebody.
    pub const DELIVERED: u8 = 8;
    /// Is flooded, so it rests on an absence and not on a slot.
    pub const FLOOD: u8 = 16;
    /// Goes to one port, which a flood has reached before, and at most one session copies it as received, and one as sent: the third line says nothing about
    /// its frames.
    pub const PLAIN: u8 = 32;
    /// The rule that decided on the way in is counted.
    pub const COUNTED_IN: u8 = 64;
    /// The rule that decided on the way out is counted.
    pub const COUNTED_OUT: u8 = 128;
}

const FORWARD: u8 = 0;
const FLOOD: u8 = 1;
const DROP: u8 = 2;
/// No port.
pub(super) const NO_PORT: PortId = PortId(u16::MAX);
/// Where the octets of a flow begin of which a monitor counts some packets only: far above [`OCTETS_MAX`], so that the
/// question whether the flow is to be reported is also the one whether a packet has to be looked at.
pub(super) const PICKED: u64 = 1 << 62;
/// More than one session.
const SEVERAL: u8 = u8::MAX;

/// The sessions that such a number stands for; all, where it is not said which.
fn set_of(number: u8) -> SessionSet {
    match number {
        0 => 0,
        SEVERAL => SessionSet::MAX,
        number => 1 << (number - 1),
    }
}

/// A flow.
#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
pub struct Entry {
    /// What makes it this flow; [`Entry::RULES`] of the last word are not the key's.
    words: [u64; 8],

    generation_in: u32,
    generation_out: u32,
    source: SlotRef,
    /// A [`Destination`], of which the state says what it is.
    destination: u64,
    out: u16,
    vlan: u16,
    /// The session that copies it as received + 1; 0 for none, [`SEVERAL`].
    rx_session: u8,
    /// The session that copies it as sent + 1; 0 for none, [`SEVERAL`].
    tx_session: u8,
    /// OR of the TCP flags since the last report.
    pub tcp_flags: u8,
    /// Bits of [`state`].
    pub state: u8,
    pub(super) last_ns: u64,
    /// Packets since the last report.
    pub packets: u64,
    /// IP octets since the last report; above [`PICKED`] when a monitor counts some packets only.
    pub(crate) octets: u64,
    /// Octets of the frames since the last report.
    pub l2_octets: u64,

    first_ns: u64,
    ended_ns: u64,
    rule_in: RuleRef,
    rule_out: RuleRef,
    /// Monitors that look at it where it enters.
    pub monitors_in: u32,
    /// Monitors that look at it where it leaves.
    pub monitors_out: u32,
    /// Of the key.
    pub(super) hash: u64,
    /// The next entry that is free, when this one is, else of its list.
    pub(super) next_free: u32,
    kind: u8,
    pub(super) reason: u8,
    /// The frame passed the ingress judges, so its source was looked up: 1.
    admitted: u8,
    /// TCP FIN or RST was seen at `ended_ns`: 1.
    has_ended: u8,
    /// A [`Skipped`].
    skipped: u8,
    /// The monitor in whose list it is, from 1; 0 in none.
    owner: u8,
    reserved: [u8; 6],
    /// Monitors of these that count some of its packets only: see [`super::tally`].
    pub(super) picked: u32,
    /// The entry before it in that list; the one behind it is `next_free`.
    pub(super) prev: u32,
}

const _: () = assert!(size_of::<Entry>() == 192 && PICKED > OCTETS_MAX);
const _: () = assert!(std::mem::offset_of!(Entry, generation_in) == 64 && std::mem::offset_of!(Entry, first_ns) == 128);
// The rules of a plain flow are kept in 16 bits each.
const _: () = assert!(RULES_MAX <= 1 << 16);

impl Entry {
    /// A frame of this flow is soon to be counted.
    #[inline(always)]
    pub fn expect(&self) {
        prefetch(&self.words);
        prefetch(&self.generation_in);
    }

    /// Where in the last word of the key, which is zero there, the counted rules are: in, then out.
    const RULES: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);

    /// Becomes the flow of `key`, of which nothing is known.
    pub(super) fn begin(&mut self, key: &FlowKey, hash: u64) {
        *self = Entry::new_zeroed();
        self.words = key.words();
        (self.hash, self.state) = (hash, state::LIVE);
    }

    /// Its key.
    pub fn key(&self) -> FlowKey {
        let [a, b, c, d, e, f, g, h] = self.words;
        FlowKey::from_words([a, b, c, d, e, f, g, h & !Self::RULES])
    }

    /// Its key is `key`: all octets, without a branch for each.
    #[inline]
    pub fn has_key(&self, key: &FlowKey) -> bool {
        // Sixteen halves of words, so that it becomes four vector operations.
        const KEY: [u32; 16] = {
            let mut key = [u32::MAX; 16];
            key[15] = 0;
            key
        };
        let (a, b): ([u32; 16], [u32; 16]) = (zerocopy::transmute!(self.words), zerocopy::transmute!(*key));
        a.iter().zip(b).zip(KEY).fold(0, |differs, ((a, b), key)| differs | (a ^ b) & key) == 0
    }

    /// The rules that are counted, as numbers; they mean something when the state says so.
    #[inline]
    pub fn counted(&self) -> [u16; 2] {
        let [.., last] = self.words;
        let [_, _, _, _, a, b, c, d] = last.to_ne_bytes();
        [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
    }

    fn set_counted(&mut self, rules: [Option<u32>; 2]) {
        let [.., last] = &mut self.words;
        let [a, b, c, d, ..] = last.to_ne_bytes();
        let [[e, f], [g, h]] = rules.map(|rule| (rule.unwrap_or(0) as u16).to_ne_bytes());
        *last = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        let [counted_in, counted_out] = rules.map(|rule| rule.is_some());
        self.set(state::COUNTED_IN, counted_in);
        self.set(state::COUNTED_OUT, counted_out);
    }

    pub(super) fn set(&mut self, bits: u8, on: bool) {
        self.state = self.state & !bits | if on { bits } else { 0 };
    }

    /// Of a plain flow, the port that it leaves by.
    #[inline(always)]
    pub fn out(&self) -> PortId {
        PortId(self.out)
    }

    /// VLAN that it is switched in.
    #[inline(always)]
    pub fn vlan(&self) -> Option<VlanId> {
        VlanId::new(self.vlan)
    }

    /// Both ports have the policies that they had when the flow was judged.
    #[inline(always)]
    pub fn fits(&self, generation_in: u32, generation_out: u32) -> bool {
        (self.generation_in == generation_in) & (self.generation_out == generation_out)
    }

    /// Where its source was when it was judged.
    #[inline(always)]
    pub fn source(&self) -> SlotRef {
        self.source
    }

    /// What it rests on, of its destination.
    #[inline(always)]
    pub fn destination(&self) -> Destination {
        match self.is(state::FLOOD) {
            true => Destination::Unknown(zerocopy::transmute!(self.destination)),
            false => Destination::At(zerocopy::transmute!(self.destination)),
        }
    }

    /// Of a plain flow, everything about how it leaves: port, VLAN and sessions. Never `u64::MAX`.
    #[inline(always)]
    pub fn leaves(&self) -> u64 {
        let [out, vlan] = [self.out, self.vlan].map(u64::from);
        let [rx, tx] = [self.rx_session, self.tx_session].map(u64::from);
        out | vlan << 16 | rx << 32 | tx << 40
    }

    /// Several sessions copy it as received, or as sent: it does not say which, [`Entry::judgement`] names all of them, and
    /// the judges know.
    pub fn is_copied_by_several(&self) -> bool {
        self.rx_session == SEVERAL || self.tx_session == SEVERAL
    }

    /// Of a plain flow, the session that copies it as received, and the one that copies it as sent.
    pub fn copied(&self) -> [Option<u8>; 2] {
        [self.rx_session, self.tx_session].map(|number| number.checked_sub(1))
    }

    /// Last packet.
    pub fn last(&self) -> Instant {
        Instant::from_ns(self.last_ns)
    }

    /// First packet since the last report.
    pub fn first(&self) -> Instant {
        Instant::from_ns(self.first_ns)
    }

    /// When its end was seen.
    pub fn ended(&self) -> Instant {
        Instant::from_ns(self.ended_ns)
    }

    /// The monitor in whose list it is ([`super::quota`]).
    pub(super) fn owner(&self) -> Option<usize> {
        usize::from(self.owner).checked_sub(1)
    }

    /// Becomes a member of the list of `owner` between two others, or of none.
    pub(super) fn link(&mut self, owner: Option<usize>, before: u32, behind: u32) {
        self.owner = owner.map_or(0, |index| index as u8 + 1);
        (self.prev, self.next_free) = (before, behind);
    }

    /// Why no monitor of its port counts it, if there is one.
    pub fn skipped(&self) -> Skipped {
        Skipped::from_number(self.skipped)
    }

    /// Bits of [`state`] are set.
    #[inline]
    pub fn is(&self, bits: u8) -> bool {
        self.state & bits == bits
    }

    /// A packet at `now`.
    #[inline]
    pub fn see(&mut self, now: Instant) {
        if self.packets == 0 {
            self.first_ns = now.ns();
        }
        self.last_ns = now.ns();
    }

    /// The end of a TCP connection was seen at `now`.
    pub fn end(&mut self, now: Instant) {
        self.has_ended = 1;
        self.ended_ns = now.ns();
    }

    /// The end of a TCP connection was seen.
    pub fn has_ended(&self) -> bool {
        self.has_ended != 0
    }

    /// How much it would be missed: 0 for a flow of one packet, up to 4 for one that was reported before.
    #[inline]
    pub fn standing(&self) -> u32 {
        if self.is(state::HISTORY) { 4 } else { self.packets.max(1).ilog2().min(3) }
    }

    /// Counters back to zero, after a report.
    pub fn restart(&mut self) {
        self.set(state::HISTORY, self.packets > 0 || self.is(state::HISTORY));
        let octets = if self.picked == 0 { 0 } else { PICKED };
        (self.packets, self.octets, self.l2_octets, self.tcp_flags) = (0, octets, 0, 0);
    }

    /// Why the frame is dropped, or for a flood why the last one reached nobody.
    pub fn reason(&self) -> DropReason {
        DropReason::from_number(self.reason).unwrap_or(DropReason::NoDestination)
    }

    /// Where it goes.
    #[inline]
    pub fn verdict(&self) -> Verdict {
        match self.kind {
            FORWARD if self.out != NO_PORT.0 => Verdict::Forward(PortId(self.out)),
            FLOOD => Verdict::Flood,
            _ => Verdict::Drop(self.reason()),
        }
    }

    /// What the judges said.
    #[inline]
    pub fn judgement(&self) -> Judgement {
        let out = (self.out != NO_PORT.0).then_some(PortId(self.out));
        Judgement {
            verdict: self.verdict(),
            admitted: self.admitted != 0,
            vlan: VlanId::new(self.vlan),
            out,
            rule_in: self.rule_in,
            rule_out: self.rule_out,
            source: self.source,
            destination: self.destination(),
            generation_in: self.generation_in,
            generation_out: self.generation_out,
            rx_sessions: set_of(self.rx_session),
            tx_sessions: set_of(self.tx_session),
            monitors_in: self.monitors_in,
            monitors_out: self.monitors_out,
            picked: self.picked,
            skipped: self.skipped(),
        }
    }

    /// Keeps what the judges said.
    pub fn set_judgement(&mut self, j: &Judgement) {
        (self.kind, self.reason) = match j.verdict {
            Verdict::Forward(_) => (FORWARD, 0),
            Verdict::Flood => (FLOOD, DropReason::NoDestination as u8),
            Verdict::Drop(reason) => (DROP, reason as u8),
        };
        self.set_counted([j.rule_in, j.rule_out].map(RuleRef::counted));
        // The number of the one session, from 1.
        let number = |set: SessionSet| match set {
            0 => 0,
            one if one.is_power_of_two() => one.trailing_zeros() as u8 + 1,
            _ => SEVERAL,
        };
        (self.rx_session, self.tx_session) = (number(j.rx_sessions), number(j.tx_sessions));
        self.admitted = j.admitted.into();
        self.out = j.out.map_or(NO_PORT.0, |port| port.0);
        self.vlan = j.vlan.map_or(0, VlanId::get);
        (self.rule_in, self.rule_out) = (j.rule_in, j.rule_out);
        (self.generation_in, self.generation_out) = (j.generation_in, j.generation_out);
        self.set_monitors(j.monitors_in, j.monitors_out, j.picked);
        self.skipped = j.skipped as u8;
        self.set_places(j);
    }

    /// Keeps where the judges found its addresses; all else that they said is as it was.
    pub fn set_places(&mut self, j: &Judgement) {
        self.source = j.source;
        self.set(state::FLOOD, matches!(j.destination, Destination::Unknown(_)));
        self.destination = match j.destination {
            Destination::At(slot) => zerocopy::transmute!(slot),
            Destination::Unknown(absence) => zerocopy::transmute!(absence),
        };
        self.set_plain();
    }

    pub(super) fn set_plain(&mut self) {
        let one_port = match self.kind {
            FORWARD => true,
            // Else its outcome is to change with the next frame that reaches somebody.
            FLOOD => self.out != NO_PORT.0 && self.is(state::DELIVERED),
            _ => false,
        };
        let few_sessions = !self.is_copied_by_several();
        // Learned nowhere, its source is to be learned by the next frame: see `judge::renew`.
        let learned = self.source != SlotRef::NONE;
        self.set(state::PLAIN, one_port && few_sessions && learned);
    }
}
