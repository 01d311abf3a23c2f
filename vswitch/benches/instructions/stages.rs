//! The stages that are counted.

use std::hint::black_box;

use arrayvec::ArrayVec;
use proto::acl::{Action, AddrMatch, IpRule, PortMatch};
use vswitch::flow::key::{FlowKey, shape};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::parse::parse;
use vswitch::port::memory::{Generator, Sink};
use vswitch::port::{Offloads, Port, PortId};
use vswitch::table::acl::IpList;

use crate::road::{Case, PLAIN, Switch, rules, udp4};

/// How often a small thing is done.
const TIMES: usize = 1_024;

/// Instructions are counted while this runs, and its name is what tells valgrind.
#[inline(never)]
pub fn counted(run: &mut dyn FnMut()) {
    run();
    // Not a jump: the end of the run must be an end of this.
    black_box(());
}

/// One stage: runs once in [`counted`], and says for how many units.
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Does it.
    pub run: fn() -> usize,
}

/// All stages, in the order in which they are told.
pub const STAGES: &[Stage] = &[
    Stage { name: "parse, UDP over IPv4", run: || parsed(&udp4(7, None)) },
    Stage { name: "parse, UDP over IPv4, tagged", run: || parsed(&udp4(7, Some(10))) },
    Stage { name: "parse, TCP over IPv4", run: || parsed(&tcp4()) },
    Stage { name: "parse, TCP over IPv6", run: || parsed(&tcp6()) },
    Stage { name: "access list, 10 rules, last", run: || looked_up(rules(10)) },
    Stage { name: "access list, 100 rules, last", run: || looked_up(rules(100)) },
    Stage { name: "access list, 1,000 rules, last", run: || looked_up(rules(1_000)) },
    Stage { name: "access list, 10,000 rules, last", run: || looked_up(rules(10_000)) },
    Stage { name: "access list, 10,000 worst rules", run: || looked_up(worst(10_000)) },
    Stage { name: "memory ports without a switch", run: bare },
    Stage { name: "hit, plain, 1 flow", run: || hits(PLAIN) },
    Stage { name: "hit, plain, 10,000 flows", run: || hits(Case { flows: 10_000, ..PLAIN }) },
    Stage { name: "hit, metered, 10,000 flows", run: || hits(METERED) },
    Stage { name: "hit, sampled 1 of 100, 10,000 flows", run: || hits(Case { sampled: 100, ..METERED }) },
    Stage { name: "hit, lengths and lives read, 10,000 flows", run: || hits(Case { detailed: true, ..METERED }) },
    Stage { name: "hit, everything on, 10,000 flows", run: || hits(EVERYTHING) },
    Stage { name: "hit, everything on, 10,000 rules", run: || hits(Case { rules: 10_000, ..EVERYTHING }) },
    Stage { name: "hit, everything on, mirrored", run: || hits(Case { span: true, ..EVERYTHING }) },
    Stage { name: "mirror, a copy", run: copies },
    Stage { name: "miss, plain", run: || misses(PLAIN) },
    Stage { name: "miss, everything on, 10 rules", run: || misses(Case { rules: 10, ..EVERYTHING }) },
    Stage { name: "miss, everything on, 1,000 rules", run: || misses(Case { rules: 1_000, ..EVERYTHING }) },
    Stage { name: "miss, cache full, 1,000 rules", run: || misses(Case { rules: 1_000, room: 2_048, ..EVERYTHING }) },
];

/// Tagged in, untagged out, a list of 100 rules each way, and every packet metered.
const METERED: Case = Case { flows: 10_000, meter: true, ..PLAIN };
const EVERYTHING: Case = Case { flows: 10_000, vlan: true, rules: 100, meter: true, ..PLAIN };

fn tcp4() -> Vec<u8> {
    let mut frame = udp4(7, None);
    frame.resize(74, 0);
    frame[17] = 60;
    frame[23] = 6;
    // Ports, sequence, acknowledgement, then 20 octets of options and header length 40.
    frame.splice(34..46, [3, 7, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1]);
    frame[46..48].copy_from_slice(&[0xa0, 0x10]);
    frame
}

fn tcp6() -> Vec<u8> {
    let mut frame = udp4(7, None)[..12].to_vec();
    frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend([0x20, 1, 0xd, 0xb8].into_iter().chain([0; 11]).chain([1]));
    frame.extend([0x20, 1, 0xd, 0xb8].into_iter().chain([0; 11]).chain([2]));
    frame.extend_from_slice(&[3, 7, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame
}

fn parsed(frame: &[u8]) -> usize {
    assert!(parse(frame, &VnetHdr::PLAIN, PortId(1)).is_ok_and(|parsed| parsed.key.is(shape::PORTS)));
    counted(&mut || {
        for _ in 0..TIMES {
            let _ = black_box(parse(black_box(frame), &VnetHdr::PLAIN, PortId(1)));
        }
    });
    TIMES
}

/// Rules with holes in their masks, ranges and exceptions, and at the end one that lets all pass.
fn worst(count: u32) -> Vec<(u32, IpRule)> {
    let mut list = rules(count);
    let (_last, others) = list.split_last_mut().unwrap_or_else(|| panic!("there are rules"));
    for (i, rule) in others {
        let first = (i.wrapping_mul(7_919) & 0x7fff) as u16;
        rule.action = Action::Deny;
        rule.src = AddrMatch { addr: i.wrapping_mul(0x9e37_79b9) & 0x5555_5555, wildcard: 0xaaaa_aaaa };
        rule.dst = AddrMatch { addr: i.wrapping_mul(0x85eb_ca6b) & 0xaaaa_aaaa, wildcard: 0x5555_5555 };
        rule.src_port = PortMatch::Range(first, first | 0x8000);
        rule.dst_port = PortMatch::Neq(first);
        rule.dscp = Some((*i % 64) as u8);
    }
    list
}

fn looked_up(rules: Vec<(u32, IpRule)>) -> usize {
    let ids: Vec<u32> = (0..=rules.len() as u32).collect();
    let list = IpList::new(&rules, &ids, true);
    let key = |n: u32| {
        let frame = udp4(n.wrapping_mul(0x9e37_79b9), None);
        parse(&frame, &VnetHdr::PLAIN, PortId(1)).unwrap_or_else(|reason| panic!("{}", reason.name())).key
    };
    let keys: Vec<FlowKey> = (0..TIMES as u32).map(key).collect();
    let last = Some(rules.len() as u32 - 1);
    assert!(keys.iter().all(|key| list.find(key).rule.id() == last), "packets match the last rule");
    counted(&mut || {
        for key in &keys {
            black_box(list.find(black_box(key)));
        }
    });
    TIMES
}

fn bare() -> usize {
    let mut generator = Generator::new(vec![(udp4(0, None), VnetHdr::PLAIN)]);
    let (mut sink, total) = Sink::new(Offloads::ALL);
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    counted(&mut || {
        for _ in 0..TIMES / BATCH {
            let count = generator.rx(&mut buffers).unwrap_or(0);
            let views = buffers.iter().take(count);
            let frames: ArrayVec<TxFrame<'_>, BATCH> =
                views.map(|b| TxFrame { head: &[], rest: b.frame(), vnet: b.vnet, copy: false }).collect();
            sink.tx(&frames);
        }
    });
    total.frames() as usize
}

/// Frames of flows that have all been seen.
fn hits(case: Case) -> usize {
    let mut switch = Switch::new(&case);
    // Twice: what a flow's second frame still settles is settled.
    switch.run(2 * case.flows as usize + 4 * BATCH);
    switch.copy();
    switch.take_received();
    counted(&mut || switch.run((case.flows as usize).max(4 * TIMES)));
    switch.take_received()
}

/// What the mirror does for each copy.
fn copies() -> usize {
    let mut switch = Switch::new(&Case { span: true, ..PLAIN });
    switch.run(4 * BATCH);
    switch.copy();
    switch.take_received();
    switch.run(4 * TIMES);
    counted(&mut || switch.copy());
    switch.take_received()
}

/// Frames of flows of which none has been seen.
fn misses(case: Case) -> usize {
    let mut switch = Switch::new(&Case { flows: 32_768, ..case });
    // As many flows as there is room for where room is short, and enough to be warm.
    switch.run(case.room.min(8_192));
    switch.take_received();
    counted(&mut || switch.run(4 * TIMES));
    switch.take_received()
}
