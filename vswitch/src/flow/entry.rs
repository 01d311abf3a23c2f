//! A flow: its key, what the judges said of it, and its counters, in three cache lines.
//!
//! The first line is the key. The second is all that the usual frame reads and writes: what its verdict rests on, where it
//! goes, and what is counted. The third is for the first frame of a report, for mirrors and counted rules, and for timers.

use proto::addr::VlanId;
use zerocopy::FromZeros;

use super::key::FlowKey;
use crate::port::PortId;
use crate::table::mac::SlotRef;
use crate::time::Instant;
use crate::verdict::{DropReason, Judgement, RuleRef, Verdict};

/// Bits of [`Entry::state`].
pub mod state {
    /// In use.
    pub const LIVE: u8 = 1;
    /// TCP FIN or RST was seen at `ended`.
    pub const ENDED: u8 = 2;
    /// Is to be reported and removed: its port is going away.
    pub const FORCED: u8 = 4;
    /// At least one frame since the last report went out.
    pub const DELIVERED: u8 = 8;
    /// The frame passed the ingress judges, so its source was looked up.
    pub const ADMITTED: u8 = 16;
    /// Goes to one port and is copied by no session.
    pub const PLAIN: u8 = 32;
    /// A rule counts its frames. When it is plain and not counted, the third line says nothing about its frames.
    pub const COUNTED: u8 = 64;
}

const FORWARD: u8 = 0;
const FLOOD: u8 = 1;
const DROP: u8 = 2;
const NO_PORT: u16 = u16::MAX;

/// A flow.
#[derive(Clone, Copy, FromZeros)]
#[repr(C, align(64))]
pub struct Entry {
    /// What makes it this flow.
    pub key: FlowKey,

    generation_in: u32,
    generation_out: u32,
    source: SlotRef,
    destination: SlotRef,
    kind: u8,
    reason: u8,
    out: u16,
    vlan: u16,
    /// OR of the TCP flags since the last report.
    pub tcp_flags: u8,
    /// Bits of [`state`].
    pub state: u8,
    pub(super) last_ns: u64,
    /// Packets since the last report.
    pub packets: u64,
    /// IP octets since the last report.
    pub octets: u64,
    /// Octets of the frames since the last report.
    pub l2_octets: u64,

    first_ns: u64,
    ended_ns: u64,
    rule_in: RuleRef,
    rule_out: RuleRef,
    rx_sessions: u32,
    tx_sessions: u32,
    /// Monitors that look at it where it enters.
    pub monitors_in: u32,
    /// Monitors that look at it where it leaves.
    pub monitors_out: u32,
    /// Of the key.
    pub(super) hash: u64,
    /// The next entry that is free, when this one is.
    pub(super) next_free: u32,
    reserved: [u32; 3],
}

const _: () = assert!(size_of::<Entry>() == 192);
const _: () = assert!(std::mem::offset_of!(Entry, generation_in) == 64 && std::mem::offset_of!(Entry, first_ns) == 128);

impl Entry {
    /// Its key is `key`: all 64 octets, without a branch for each.
    #[inline]
    pub fn has_key(&self, key: &FlowKey) -> bool {
        let (a, b): ([u64; 8], [u64; 8]) = (zerocopy::transmute!(self.key), zerocopy::transmute!(*key));
        a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
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
        self.state |= state::ENDED;
        self.ended_ns = now.ns();
    }

    /// Counters back to zero, after a report.
    pub fn restart(&mut self) {
        (self.packets, self.octets, self.l2_octets, self.tcp_flags) = (0, 0, 0, 0);
        self.state &= !state::DELIVERED;
    }

    /// Why the frame is dropped, or for a flood why the last one reached nobody.
    pub fn reason(&self) -> DropReason {
        DropReason::from_number(self.reason).unwrap_or(DropReason::NoDestination)
    }

    /// A flood reached nobody.
    pub fn set_reason(&mut self, reason: DropReason) {
        self.reason = reason as u8;
    }

    /// The rules that decided, on the way in and on the way out.
    pub fn rules(&self) -> [RuleRef; 2] {
        [self.rule_in, self.rule_out]
    }

    /// What the judges said.
    #[inline]
    pub fn judgement(&self) -> Judgement {
        let out = (self.out != NO_PORT).then_some(PortId(self.out));
        Judgement {
            verdict: match (self.kind, out) {
                (FORWARD, Some(port)) => Verdict::Forward(port),
                (FLOOD, _) => Verdict::Flood,
                _ => Verdict::Drop(self.reason()),
            },
            admitted: self.is(state::ADMITTED),
            vlan: VlanId::new(self.vlan),
            out,
            rule_in: self.rule_in,
            rule_out: self.rule_out,
            source: self.source,
            destination: self.destination,
            generation_in: self.generation_in,
            generation_out: self.generation_out,
            rx_sessions: self.rx_sessions,
            tx_sessions: self.tx_sessions,
            monitors_in: self.monitors_in,
            monitors_out: self.monitors_out,
        }
    }

    /// Keeps what the judges said.
    pub fn set_judgement(&mut self, j: &Judgement) {
        (self.kind, self.reason) = match j.verdict {
            Verdict::Forward(_) => (FORWARD, 0),
            Verdict::Flood => (FLOOD, DropReason::NoDestination as u8),
            Verdict::Drop(reason) => (DROP, reason as u8),
        };
        let counted = [j.rule_in, j.rule_out].iter().any(|rule| rule.counted().is_some());
        let plain = matches!(j.verdict, Verdict::Forward(_)) && j.rx_sessions | j.tx_sessions == 0;
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        self.state &= !(state::ADMITTED | state::PLAIN | state::COUNTED);
        self.state |= bit(j.admitted, state::ADMITTED) | bit(plain, state::PLAIN) | bit(counted, state::COUNTED);
        self.out = j.out.map_or(NO_PORT, |port| port.0);
        self.vlan = j.vlan.map_or(0, VlanId::get);
        (self.rule_in, self.rule_out) = (j.rule_in, j.rule_out);
        (self.source, self.destination) = (j.source, j.destination);
        (self.generation_in, self.generation_out) = (j.generation_in, j.generation_out);
        (self.rx_sessions, self.tx_sessions) = (j.rx_sessions, j.tx_sessions);
        (self.monitors_in, self.monitors_out) = (j.monitors_in, j.monitors_out);
    }
}
