//! What was counted of flows that there was no room to report one by one: sums in fixed memory, so that nothing that was
//! accepted is missing from what is exported (law 2), however many flows somebody makes up.
//!
//! A sum is of the flows that the same monitors saw, that entered by the same port, are of the same family, and had the
//! same outcome, which names the port that they left by. Its record says how many flows it stands for. A sum is offered
//! to the ring of records a second after it began.
//!
//! Complications: the ports and outcomes of a host are many, and a guest may try them all. A sum is looked for in eight
//! places; where those are taken, the flow goes to a sum that says only which monitor saw it, how its packets were sampled,
//! and whether it was dropped. Of those there is one for each monitor, way, outcome and sampler, so there is always a place.
//!
//! Threads: one worker's. All memory is taken at the start.

use std::time::Duration;

use proto::flow::{SAMPLERS_MAX, Sampling};
use rtrb::Producer;

use super::detail::Detail;
use super::key::{FlowKey, shape};
use super::record::{EndReason, MONITORS_MAX, Outcome, Record};
use crate::port::PortId;
use crate::time::Instant;
use crate::verdict::DropReason;

/// Sums of their own.
const SUMS: usize = 512;
/// Places that one may be in.
const PLACES: usize = 8;
/// Sums for what finds none: by monitor, way, whether dropped, and sampler or none.
const REST: usize = MONITORS_MAX * 4 * (SAMPLERS_MAX + 1);
/// A sum is offered this long after the first of them began.
const PATIENCE: Duration = Duration::from_secs(1);
/// The port of a sum that stands for several.
const ANY_PORT: PortId = PortId(u16::MAX);

/// The sums of a worker.
pub struct Overflow {
    /// Of no flows where there is none.
    sums: Box<[Record]>,
    /// Which of `sums` there are.
    used: Vec<u16>,
    /// When the first of them began.
    since: Instant,
}

impl Overflow {
    /// No sums.
    pub fn new() -> Self {
        let none = Record {
            key: FlowKey::default(),
            vlan: None,
            flows: 0,
            packets: 0,
            octets: 0,
            l2_octets: 0,
            first: Instant::default(),
            last: Instant::default(),
            tcp_flags: 0,
            detail: Detail::NONE,
            outcome: Outcome::Flooded,
            end: EndReason::LackOfResources,
            sampling: Sampling::NONE,
            again: false,
            monitors_in: 0,
            monitors_out: 0,
        };
        let sums = vec![none; SUMS + REST].into_boxed_slice();
        Overflow { sums, used: Vec::with_capacity(SUMS + REST), since: Instant::default() }
    }

    /// Adds the report of a flow that somebody watches; returns the packets for which there was no place, which is none
    /// unless samplers are changed all at once while sums of the former ones wait.
    pub fn add(&mut self, report: &Record, now: Instant) -> u64 {
        let sum = summed(report);
        if let Some(at) = self.place(&sum) {
            self.add_at(at, &sum, now);
            return 0;
        }
        let mut lost = 0;
        let dropped = usize::from(matches!(sum.outcome, Outcome::Dropped(_)));
        let outcome = if dropped == 1 { Outcome::Dropped(DropReason::NoDestination) } else { Outcome::Flooded };
        let key = FlowKey { in_port: ANY_PORT.0, shape: shape::OVERFLOW, ..FlowKey::default() };
        for monitor in 0..MONITORS_MAX {
            let bit = 1 << monitor;
            let ways = [(sum.monitors_in & bit, 0), (0, sum.monitors_out & bit)];
            for (way, (monitors_in, monitors_out)) in ways.into_iter().enumerate() {
                if monitors_in | monitors_out != 0 {
                    let rest = Record { key, outcome, monitors_in, monitors_out, vlan: None, ..sum };
                    let first = SUMS + (monitor * 4 + way * 2 + dropped) * (SAMPLERS_MAX + 1);
                    let own =
                        |at: &usize| self.sums.get(*at).is_some_and(|s| s.flows == 0 || s.sampling == sum.sampling);
                    let at = (first..=first + SAMPLERS_MAX).find(own);
                    match at {
                        Some(at) => self.add_at(at, &rest, now),
                        None => lost += rest.packets,
                    }
                }
            }
        }
        lost
    }

    /// Where the sum that `flow` belongs to is, or can be.
    fn place(&self, flow: &Record) -> Option<usize> {
        let outcome = match flow.outcome {
            Outcome::Forwarded(port) => u64::from(port.0),
            Outcome::Flooded => 1 << 16,
            Outcome::Dropped(reason) => 2 << 16 | reason as u64,
        };
        let (a, b) =
            (u64::from(flow.key.in_port) << 24 | u64::from(flow.key.shape) << 48, u64::from(flow.key.ethertype));
        let monitors = u64::from(flow.monitors_in) << 32 | u64::from(flow.monitors_out);
        let sampling = u64::from(flow.sampling.number()).rotate_left(29);
        let mixed = (a ^ outcome ^ b << 7 ^ monitors.rotate_left(13) ^ sampling).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (mixed >> 32) as usize;
        let places = || (first..).map(|at| at % SUMS).take(PLACES);
        let is = |at: usize, wanted: &dyn Fn(&Record) -> bool| self.sums.get(at).is_some_and(wanted);
        let same = |sum: &Record| {
            let of = |r: &Record| (r.key, r.outcome, r.monitors_in, r.monitors_out, r.sampling, r.again);
            sum.flows > 0 && of(sum) == of(flow)
        };
        places().find(|at| is(*at, &same)).or_else(|| places().find(|at| is(*at, &|sum| sum.flows == 0)))
    }

    fn add_at(&mut self, at: usize, flow: &Record, now: Instant) {
        let Some(sum) = self.sums.get_mut(at) else { return };
        if sum.flows > 0 {
            sum.flows = sum.flows.saturating_add(flow.flows);
            sum.packets = sum.packets.saturating_add(flow.packets);
            sum.octets = sum.octets.saturating_add(flow.octets);
            sum.l2_octets = sum.l2_octets.saturating_add(flow.l2_octets);
            (sum.first, sum.last) = (sum.first.min(flow.first), sum.last.max(flow.last));
            sum.tcp_flags |= flow.tcp_flags;
            sum.vlan = sum.vlan.filter(|vlan| Some(*vlan) == flow.vlan);
            return;
        }
        *sum = *flow;
        if self.used.is_empty() {
            self.since = now;
        }
        // There is room for all numbers: it does not grow.
        self.used.push(at as u16);
    }

    /// There are no sums.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// The sums have waited long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        !self.used.is_empty() && now.since(self.since) >= PATIENCE
    }

    /// Offers at most `most` sums to the ring; `false` when that is full.
    pub fn offer(&mut self, records: &mut Producer<Record>, most: usize) -> bool {
        for _ in 0..most {
            let Some(&at) = self.used.last() else { return true };
            let Some(sum) = self.sums.get_mut(usize::from(at)) else { return true };
            if records.push(*sum).is_err() {
                return false;
            }
            sum.flows = 0;
            self.used.pop();
        }
        true
    }

    /// Forgets all sums; returns the packets in them.
    pub fn forget(&mut self) -> u64 {
        let mut packets = 0u64;
        for at in self.used.drain(..) {
            if let Some(sum) = self.sums.get_mut(usize::from(at)) {
                packets = packets.saturating_add(sum.packets);
                sum.flows = 0;
            }
        }
        packets
    }
}

impl Default for Overflow {
    fn default() -> Self {
        Overflow::new()
    }
}

/// A flow's report, with that in its key which it shares with others of its sum.
fn summed(report: &Record) -> Record {
    let key = &report.key;
    let family = key.shape & (shape::IPV4 | shape::IPV6 | shape::ARP);
    let ethertype = if family == 0 { 0 } else { key.ethertype };
    let key = FlowKey { in_port: key.in_port, ethertype, shape: family | shape::OVERFLOW, ..FlowKey::default() };
    Record { key, end: EndReason::LackOfResources, detail: Detail::NONE, ..*report }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(in_port: u16, outcome: Outcome, monitors_in: u32, monitors_out: u32) -> Record {
        Record {
            key: FlowKey {
                in_port,
                shape: shape::IPV4 | shape::PORTS,
                ethertype: 0x800,
                src_port: 7,
                ..FlowKey::default()
            },
            vlan: proto::addr::VlanId::new(10),
            flows: 1,
            packets: 2,
            octets: 100,
            l2_octets: 128,
            first: Instant::from_ms(5),
            last: Instant::from_ms(6),
            tcp_flags: 2,
            detail: Detail::NONE,
            outcome,
            end: EndReason::Idle,
            sampling: Sampling::NONE,
            again: false,
            monitors_in,
            monitors_out,
        }
    }

    fn drain(overflow: &mut Overflow) -> Vec<Record> {
        let (mut ring, mut records) = rtrb::RingBuffer::new(SUMS + REST);
        assert!(overflow.offer(&mut ring, usize::MAX));
        assert!(overflow.is_empty());
        std::iter::from_fn(|| records.pop().ok()).collect()
    }

    #[test]
    fn flows_of_a_kind_are_one_record_that_says_how_many() {
        let mut overflow = Overflow::new();
        let one = report(1, Outcome::Forwarded(PortId(2)), 1, 2);
        overflow.add(&one, Instant::from_ms(10));
        overflow.add(&Record { first: Instant::from_ms(1), tcp_flags: 1, ..one }, Instant::from_ms(11));
        overflow.add(&report(1, Outcome::Dropped(DropReason::AclDeny), 1, 0), Instant::from_ms(12));
        assert!(!overflow.is_due(Instant::from_ms(1009)) && overflow.is_due(Instant::from_ms(1010)));
        let mut sums = drain(&mut overflow);
        sums.sort_by_key(|sum| sum.flows);
        assert_eq!(sums.iter().map(|s| (s.flows, s.packets, s.octets)).collect::<Vec<_>>(), [(1, 2, 100), (2, 4, 200)]);
        let sum = sums[1];
        assert_eq!((sum.first.ms(), sum.last.ms(), sum.tcp_flags, sum.end), (1, 6, 3, EndReason::LackOfResources));
        assert_eq!((sum.key.in_port, sum.key.ethertype, sum.key.src_port), (1, 0x800, 0));
        assert_eq!((sum.outcome, sum.vlan), (one.outcome, one.vlan));
        assert_eq!(sum.key.shape, shape::IPV4 | shape::OVERFLOW);
    }

    /// More kinds than there are sums: whatever goes where, each monitor's sums are exact.
    #[test]
    fn memory_is_fixed_and_the_sums_of_each_monitor_are_exact() {
        let mut overflow = Overflow::new();
        let (capacity, mut sent) = (overflow.used.capacity(), [0u64; 3]);
        for n in 0..20_000u32 {
            let outcome = match n % 3 {
                0 => Outcome::Flooded,
                1 => Outcome::Forwarded(PortId((n % 1021) as u16)),
                _ => Outcome::Dropped(DropReason::ALL[n as usize % DropReason::COUNT]),
            };
            let (monitors_in, monitors_out) = [(1, 0), (1, 2), (0, 6)][n as usize % 3];
            overflow.add(&report((n % 997) as u16, outcome, monitors_in, monitors_out), Instant::from_ms(1));
            for (monitor, sent) in sent.iter_mut().enumerate() {
                *sent += u64::from((monitors_in | monitors_out) >> monitor & 1);
            }
        }
        assert_eq!(overflow.used.capacity(), capacity);
        let sums = drain(&mut overflow);
        let (mut flows, mut packets) = ([0; 3], [0; 3]);
        for sum in sums {
            assert_eq!(sum.monitors_in & sum.monitors_out, 0);
            for monitor in 0..3 {
                if (sum.monitors_in | sum.monitors_out) >> monitor & 1 == 1 {
                    flows[monitor] += sum.flows;
                    packets[monitor] += sum.packets;
                }
            }
        }
        assert_eq!(flows, sent);
        assert_eq!(packets, sent.map(|n| 2 * n));
    }

    #[test]
    fn a_full_ring_keeps_the_sums_and_what_is_forgotten_is_told() {
        let mut overflow = Overflow::new();
        for port in 0..5 {
            overflow.add(&report(port, Outcome::Flooded, 1, 0), Instant::from_ms(1));
        }
        let (mut ring, mut records) = rtrb::RingBuffer::new(2);
        assert!(!overflow.offer(&mut ring, 64));
        assert_eq!(std::iter::from_fn(|| records.pop().ok()).count(), 2);
        assert!(overflow.offer(&mut ring, 1));
        assert_eq!(overflow.forget(), 4);
        assert!(overflow.is_empty());
    }
}
