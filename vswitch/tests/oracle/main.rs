//! The fast path against the plain evaluator: random configurations, lists and frames, with changes of the configuration
//! while flows are cached. What comes out of every port, octet by octet, and every counter must agree; so must the
//! reports of flows with what was accepted (law 2).
//!
//! `ORACLE_CASES` is the number of frames, each of which meets random lists; about 6,000 without it.

mod draw;
#[path = "../net/mod.rs"]
mod net;
mod plain;
mod read;
mod trace;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use draw::{Draw, PORTS};
use net::Net;
use plain::{Counts, Plain};
use proptest::prelude::*;
use proto::flow::Sampling;
use vswitch::account::classes::{Amount, Class};
use vswitch::config::Config;
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::{Offloads, PortId};
use vswitch::verdict::DropReason;
use vswitch::worker::Limits;

const FRAMES_PER_CASE: usize = 40;
const OCTETS_PER_CASE: usize = 4_800;

fn read_counts(net: &Net, id: PortId) -> Counts {
    let c = net.counters(id.0);
    let row = |t: &vswitch::control::Traffic| [t.unicast, t.multicast, t.broadcast, t.octets];
    let named = |drops: &[u64]| {
        let all = DropReason::ALL.iter().zip(drops).filter(|(_, n)| **n > 0);
        all.map(|(reason, n)| (reason.name(), *n)).collect::<BTreeMap<_, _>>()
    };
    Counts {
        rx: row(&c.rx),
        tx: row(&c.tx),
        delivered: c.delivered,
        rx_drops: named(&c.rx_drops),
        tx_drops: named(&c.tx_drops),
    }
}

/// Some packets only are counted at some ports, in one case of three.
fn sample(draw: &mut Draw, mut config: Config) -> Config {
    if draw.one_in(3) {
        for sampling in config.ports.iter_mut().flat_map(|port| &mut port.sampling) {
            let (random, out_of) = (draw.one_in(2), 2 + draw.below(3) as u16);
            let count = 1 + draw.below(2) as u16;
            *sampling = Sampling::several(random, count, out_of).filter(|_| draw.one_in(3)).unwrap_or_default();
        }
    }
    config
}

fn run(octets: &[u8]) {
    let mut draw = Draw::new(octets);
    let config = draw.config(1);
    let mut config = sample(&mut draw, config);
    let bare: BTreeSet<PortId> = (0..PORTS).filter(|_| draw.one_in(3)).map(PortId).collect();
    let limits = Limits { flows: 64, macs: 64, macs_per_port: 32, records: 4096, evicted_per_s: 200_000 };
    let mut net = Net::with(net::config(Vec::new()), limits, Offloads::ALL, 1);
    for id in 0..PORTS {
        let offloads = if bare.contains(&PortId(id)) { Offloads::NONE } else { Offloads::ALL };
        net.attach(id, offloads, 512);
    }
    net.config = config.clone();
    net.publish();
    let mut plain = Plain::new(config.clone(), bare);
    let samples = |config: &Config| config.ports.iter().any(|port| port.sampling != [Sampling::NONE; 2]);
    let mut sampled = samples(&config);
    let mut seen: Vec<(u16, Vec<u8>, VnetHdr)> = Vec::new();
    for step in 0..FRAMES_PER_CASE {
        if draw.one_in(14) {
            let fresh = draw.config(config.version + 1);
            let fresh = sample(&mut draw, fresh);
            // One thing changes, or everything.
            match draw.below(7) {
                0 => config = fresh,
                // Who is in which VLAN.
                4 => config.ports.iter_mut().zip(fresh.ports).for_each(|(port, fresh)| port.mode = fresh.mode),
                5 => draw.pair_up(&mut config.ports),
                6 => {
                    let port = &mut config.ports[draw.below(PORTS.into())];
                    port.up = !port.up;
                }
                1 => config.protected_macs = fresh.protected_macs,
                2 => {
                    config.sessions = fresh.sessions;
                    let lists = config.acls.len();
                    config.sessions.iter_mut().for_each(|s| s.filter_acl = s.filter_acl.filter(|list| *list < lists));
                }
                _ => config.static_macs = fresh.static_macs,
            }
            sampled |= samples(&config);
            net.config = config.clone();
            net.publish();
            plain.change(config.clone());
        }
        // Half of the frames were there before, so that they find their flow cached and the world changed. Some come in
        // batches, in which one frame may change what becomes of the next.
        let from = match draw.below(2) {
            0 if !seen.is_empty() => seen[draw.below(seen.len())].0,
            _ => draw.below(PORTS.into()) as u16,
        };
        let count = [1, 2, 3, 9][draw.below(4)];
        let mut batch: Vec<(Vec<u8>, VnetHdr)> = Vec::new();
        while batch.len() < count {
            let mine: Vec<usize> = (0..seen.len()).filter(|at| seen[*at].0 == from).collect();
            let (frame, vnet) = match draw.below(3) {
                0 if !mine.is_empty() => {
                    let (_, frame, vnet) = &seen[mine[draw.below(mine.len())]];
                    (frame.clone(), *vnet)
                }
                1 if !batch.is_empty() => batch[draw.below(batch.len())].clone(),
                _ => {
                    let (frame, vnet) = draw.frame();
                    seen.push((from, frame.clone(), vnet));
                    (frame, vnet)
                }
            };
            if vnet.needs_csum() {
                // A port that has it finished sends what was staged before it at once, and what is copied of a flood is as
                // the first port sent it: let that not depend on what comes behind.
                net.turn();
            }
            net.send_vnet(from, &frame, vnet);
            plain.frame(PortId(from), &frame, vnet);
            batch.push((frame, vnet));
        }
        net.turn();
        let mut got: Vec<_> =
            (0..PORTS).flat_map(|id| net.recv(id).into_iter().map(move |(f, vnet)| (id, f, vnet.write()))).collect();
        let mut expected: Vec<_> = std::mem::take(&mut plain.out);
        // Frames leave a port in the order in which they came. Of copies, those as sent may come behind later ones.
        let copies = |port: u16| config.sessions.iter().any(|s| s.destinations.contains(&PortId(port)));
        for list in [&mut got, &mut expected] {
            list.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| if copies(a.0) { a.cmp(b) } else { Ordering::Equal }));
        }
        if got != expected {
            let short = |list: &[(u16, Vec<u8>, [u8; 12])]| -> String {
                list.iter()
                    .map(|(port, f, v)| format!("\n  {port}: {} {:02x?} {v:?}", f.len(), &f[..f.len().min(64)]))
                    .collect()
            };
            let heads: Vec<_> =
                batch.iter().map(|(f, vnet)| format!("{:02x?} {vnet:?}", &f[..f.len().min(64)])).collect();
            panic!(
                "step {step}: from {from}, {heads:#?}\ngot {}\nexpected {}\n{config:#?}",
                short(&got),
                short(&expected)
            );
        }
        for id in 0..PORTS {
            let (got, expected) = (read_counts(&net, PortId(id)), plain.counts.get(&PortId(id)).cloned());
            assert_eq!(got, expected.unwrap_or_default(), "step {step}: port {id}, frames {batch:02x?}\n{config:#?}");
        }
    }
    let mut metered = [0; 3];
    for _ in 0..4 {
        net.after(70_000);
        for r in net.records() {
            metered.iter_mut().zip([r.packets, r.octets, r.l2_octets]).for_each(|(sum, n)| *sum += n);
        }
    }
    let stats = net.control.cache_stats();
    assert_eq!((stats.active, stats.unmetered), (0, 0));
    if !sampled {
        assert_eq!(metered, plain.metered, "law 2\n{config:#?}");
    }
    // What no sampler has picked is told apart, and nothing is missing.
    let [packets, _, octets] = plain.metered;
    let mut looked_at = Amount::default();
    for row in net.ask(|control| control.reconciliation().unwrap()) {
        let classes = [Class::Ip, Class::Other, Class::Unsampled];
        classes.into_iter().for_each(|class| looked_at.add(row.reported.get(class)));
    }
    assert_eq!((looked_at.packets, looked_at.octets), (packets, octets), "law 2\n{config:#?}");
    for (rule, matches) in &plain.rules {
        assert_eq!(net.control.rule_matches(*rule), *matches, "rule {rule}");
    }
    for (session, [copied, dropped, segmented]) in &plain.sessions {
        let stats = net.control.session_stats(*session as u16);
        assert_eq!(
            (stats.copied, stats.dropped, stats.segmented),
            (*copied, *dropped, *segmented),
            "session {session}"
        );
    }
}

fn cases() -> u32 {
    let frames = std::env::var("ORACLE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(6_000);
    (frames as usize / FRAMES_PER_CASE).max(1) as u32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_road_does_what_the_plain_evaluator_says(words in prop::collection::vec(any::<u64>(), OCTETS_PER_CASE / 8)) {
        let octets: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        run(&octets);
    }
}
