//! An imagined frame against a real one: `Control::trace` says what would become of a frame, then the frame comes, and that
//! must have become of it: what left by which port, octet by octet, why it was dropped and by which rule, whether its flow
//! was cached. Half of the real frames are watched, and what the watch tells must be what was imagined, and what the plain
//! way does must be what the watched way does. To imagine changes nothing.
//!
//! `TRACE_CASES` is the number of frames, about 2,000 without it.

use super::*;
use vswitch::control::{CacheStats, Control, DropSample, MacEntry, PortCounters, Traced};
use vswitch::observe::passage::{Cached, Passage, WatchWanted, Watching};
use vswitch::verdict::Verdict;

type Left = Vec<(u16, Vec<u8>, [u8; 12])>;

/// All that the switch counts and remembers.
#[derive(PartialEq, Debug)]
struct State {
    ports: Vec<PortCounters>,
    macs: Vec<MacEntry>,
    cache: CacheStats,
    drops: Vec<DropSample>,
}

fn state(control: &Control) -> State {
    let mut macs = control.macs().unwrap();
    macs.sort_by_key(|entry| (entry.vlan, entry.mac));
    let ports = (0..PORTS).map(|id| control.port_counters(PortId(id))).collect();
    State { ports, macs, cache: control.cache_stats(), drops: control.drop_samples().unwrap() }
}

/// All but what may differ: where the table keeps an address, when that was, and whether the flow was cached.
fn said(p: &Passage) -> impl PartialEq + std::fmt::Debug + use<> {
    let judged = p.judgement.map(|j| {
        // A flood finds out by its receivers who meters it.
        let monitors_out = if j.verdict == Verdict::Flood { 0 } else { j.monitors_out };
        let sessions = (j.rx_sessions, j.tx_sessions, j.monitors_in, monitors_out);
        (j.verdict, j.admitted, j.vlan, j.out, j.rule_in, j.rule_out, sessions)
    });
    let dropped = p.dropped().map(|reason| (reason, p.rule.id()));
    let places = (p.source, p.destination, p.receivers.clone(), p.more_receivers);
    (judged, p.port, p.length, places, p.copied, p.sent, dropped)
}

fn by_port(mut left: Left, config: &vswitch::config::Config) -> Left {
    let copies = |port: u16| config.sessions.iter().any(|s| s.destinations.contains(&PortId(port)));
    left.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| if copies(a.0) { a.cmp(b) } else { Ordering::Equal }));
    left
}

fn check(net: &mut Net, from: u16, frame: &[u8], vnet: VnetHdr, watched: Option<&mut Watching>) {
    let (before, traced, after) = net.ask(|control| {
        let before = state(control);
        let traced: Traced = control.trace(PortId(from), frame, vnet).unwrap();
        (before, traced, state(control))
    });
    assert_eq!(before, after, "to imagine a frame changes nothing");
    net.send_vnet(from, frame, vnet);
    net.turn();
    let ends = (0..PORTS).flat_map(|id| net.recv(id).into_iter().map(move |(f, vnet)| (id, f, vnet.write())));
    let got = by_port(ends.collect(), &net.config);
    let sent = traced.sent.iter().map(|s| (s.port.0, s.octets.clone(), s.vnet.write())).collect();
    assert_eq!(by_port(sent, &net.config), got, "{:?}", said(&traced.passage));
    let (counts, was) = (net.counters(from), &before.ports[usize::from(from)]);
    let segments = u64::from(traced.passage.parsed.segments);
    match traced.passage.dropped() {
        None => assert_eq!(counts.delivered - was.delivered, segments, "{:?}", said(&traced.passage)),
        Some(reason) => {
            let at = reason as usize;
            assert_eq!(counts.rx_drops[at] - was.rx_drops[at], segments, "{:?}", said(&traced.passage));
            assert_eq!(counts.delivered, was.delivered);
            let sample = net.worker_sample();
            assert_eq!((sample.reason, sample.rule), (reason, traced.passage.rule.id()), "{:?}", said(&traced.passage));
        }
    }
    let (stats, was) = (net.control.cache_stats(), before.cache);
    match traced.cached {
        Some((j, true)) => {
            assert_eq!((stats.hits, stats.misses), (was.hits + 1, was.misses), "{:?}", said(&traced.passage));
            assert_eq!(Some(j.verdict), traced.passage.judgement.map(|j| j.verdict), "a cached verdict is right");
        }
        Some((_, false)) => assert_eq!(stats.hits + stats.misses, was.hits + was.misses + 1),
        None => assert_eq!(stats.hits, was.hits, "{:?}", said(&traced.passage)),
    }
    let Some(told) = watched.map(|watching| watching.take()) else { return };
    let [told] = &told[..] else { panic!("{} frames were told of", told.len()) };
    assert_eq!(told.parsed, traced.passage.parsed);
    assert_eq!(said(told), said(&traced.passage));
    match (told.cached, stats.hits - was.hits) {
        (Some(Cached::Hit), 1) | (Some(Cached::Miss | Cached::Stale) | None, 0) => {}
        other => panic!("{other:?}"),
    }
    assert!(told.cached != Some(Cached::Miss) || traced.cached.is_none());
    let flooded = told.judgement.is_some_and(|j| j.verdict == Verdict::Flood);
    assert!(flooded || told.receivers.is_empty());
}

fn run(octets: &[u8]) {
    let mut draw = Draw::new(octets);
    let mut config = draw.config(1);
    let limits = Limits { flows: 64, macs: 64, macs_per_port: 32, records: 4096, ..Limits::default() };
    let mut net = Net::with(net::config(Vec::new()), limits, Offloads::ALL, 1);
    for id in 0..PORTS {
        let offloads = if draw.one_in(3) { Offloads::NONE } else { Offloads::ALL };
        net.attach(id, offloads, 512);
    }
    net.config = config.clone();
    net.publish();
    let wanted = WatchWanted { port: None, filter: None, count: 1 << 20 };
    let mut watching = draw.one_in(2).then(|| net.ask(|control| control.watch(wanted).unwrap()));
    let mut seen: Vec<(u16, Vec<u8>, VnetHdr)> = Vec::new();
    for _ in 0..FRAMES_PER_CASE {
        if draw.one_in(14) {
            config = draw.config(config.version + 1);
            net.config = config.clone();
            net.publish();
        }
        // No more than a watch tells of in a second.
        net.now_ms += 10;
        let (from, frame, vnet) = match draw.below(2) {
            0 if !seen.is_empty() => seen[draw.below(seen.len())].clone(),
            _ => {
                let (frame, vnet) = draw.frame();
                (draw.below(PORTS.into()) as u16, frame, vnet)
            }
        };
        check(&mut net, from, &frame, vnet, watching.as_mut());
        seen.push((from, frame, vnet));
    }
}

fn cases() -> u32 {
    let frames = std::env::var("TRACE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    (frames as usize / FRAMES_PER_CASE).max(1) as u32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_imagined_is_what_happens(words in prop::collection::vec(any::<u64>(), OCTETS_PER_CASE / 8)) {
        let octets: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        run(&octets);
    }
}
