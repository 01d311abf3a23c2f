//! Nanoseconds and allocations per frame through memory ports: `cargo bench -p vswitch --bench road`.
//!
//! A run takes the whole turn: receive, parse, lookup, verdict, meter, counters, transmit. Between any two runs comes one of
//! the bare loop, the same two memory ports and frames without a switch, so that a machine which is not idle slows both.
//! Each row has the best run and the median; `bare` is the best of the bare loop, `net` what the switch adds to it, and
//! `x plain` the median against that of the first row.
//!
//! Words behind `--` choose the rows that have them all in their names, `turns=N` sets the length of a run:
//! `cargo bench -p vswitch --bench road -- turns=100 meter "10,000"`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as Clock};

use arrayvec::ArrayVec;
use proto::acl::{Acl, Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::{MacAddr, VlanId};
use proto::vlan::{PortMode, VlanSet};
use vswitch::config::{AclConfig, Config, MonitorConfig, PortConfig, SessionConfig, StaticMac};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::memory::{Generator, Sink};
use vswitch::port::{Offloads, Port, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::worker::{Limits, switch};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RUNS: usize = 9;
/// Orders in which the frames of the flows come, one after the other.
const ROUNDS: usize = 4;
/// Turns of a run, one batch each.
const TURNS: usize = 10_000;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A 64-octet UDP frame (60 without FCS) of flow `n`.
fn frame(n: u32) -> (Vec<u8>, VnetHdr) {
    let [a, b, c, d] = n.to_be_bytes();
    let mut f = [mac(2).0, mac(1).0].concat();
    f.extend_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, a, b, c, 192, 0, 2, 1]);
    f.extend_from_slice(&[3, d, 0, 80, 0, 26, 0, 0]);
    f.extend_from_slice(&[0; 18]);
    (f, VnetHdr::PLAIN)
}

fn port(id: u16) -> PortConfig {
    PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode: PortMode::Access(VlanId::DEFAULT),
        protected: false,
        mtu: 1500,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in: None,
        flow_out: None,
    }
}

/// `count` rules of which the last matches every frame, as a list for port 1.
fn rules(count: u32) -> AclConfig {
    let rule = |i: u32| IpRule {
        action: Action::Permit,
        protocol: Some(17),
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: if i + 1 == count { AddrMatch::ANY } else { AddrMatch { addr: i, wildcard: 0 } },
        dst_port: PortMatch::Eq(80),
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    };
    let rules = Rules::Ip((0..count).map(|i| (i, rule(i))).collect());
    AclConfig { acl: Acl { name: "bench".into(), statistics: true, rules }, rule_ids: (0..=count).collect() }
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    flows: u32,
    meter: bool,
    span: bool,
    rules: u32,
    /// Room for fewer flows than there are, so that every frame is the first of its flow.
    miss: bool,
}

const PLAIN: Case = Case { name: "", flows: 1, meter: false, span: false, rules: 0, miss: false };

const CASES: &[Case] = &[
    Case { name: "plain L2, 1 flow", ..PLAIN },
    Case { name: "cached verdict + meter, 1 flow", meter: true, ..PLAIN },
    Case { name: "cached verdict + meter, 10,000 flows", meter: true, flows: 10_000, ..PLAIN },
    Case { name: "cached verdict + meter, 100,000 flows", meter: true, flows: 100_000, ..PLAIN },
    Case { name: "the same with 1,000 rules, 10,000 flows", meter: true, flows: 10_000, rules: 1_000, ..PLAIN },
    Case { name: "with one SPAN session, 1 flow", meter: true, span: true, ..PLAIN },
    Case { name: "with one SPAN session, 10,000 flows", meter: true, span: true, flows: 10_000, ..PLAIN },
    Case { name: "miss + evict + report, 10 rules", meter: true, flows: 65_536, rules: 10, miss: true, ..PLAIN },
    Case { name: "miss + evict + report, 1,000 rules", meter: true, flows: 65_536, rules: 1_000, miss: true, ..PLAIN },
];

fn config(case: &Case) -> Config {
    let mut ports = vec![port(1), port(2), port(3)];
    if let Some(first) = ports.first_mut() {
        first.flow_in = case.meter.then_some(0);
        first.ip_acl_in = (case.rules > 0).then_some(0);
    }
    let session =
        SessionConfig { rx_ports: vec![PortId(1)], destinations: vec![PortId(3)], ..SessionConfig::default() };
    Config {
        version: 1,
        vlans: VlanSet::all(),
        mac_aging: Duration::from_secs(300),
        static_macs: vec![StaticMac { vlan: VlanId::DEFAULT, mac: mac(2), port: Some(PortId(2)) }],
        acls: if case.rules > 0 { vec![rules(case.rules)] } else { Vec::new() },
        monitors: vec![MonitorConfig { active: Duration::from_secs(1800), inactive: Duration::from_secs(15) }],
        sessions: if case.span { vec![session] } else { Vec::new() },
        ports,
        protected_macs: Vec::new(),
    }
}

/// The frames in the order in which they come: every flow once a round, and each round in another order, so that nothing
/// that reads ahead can know which entry is next.
fn frames(case: &Case) -> Vec<(Vec<u8>, VnetHdr)> {
    let mut seed = 7u64;
    let mut order: Vec<u32> = (0..case.flows).collect();
    let mut list = Vec::new();
    for _ in 0..if case.miss { 1 } else { ROUNDS } {
        for i in (1..order.len()).rev() {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            order.swap(i, (seed >> 33) as usize % (i + 1));
        }
        list.extend(order.iter().map(|n| frame(*n)));
    }
    list
}

/// Nanoseconds per frame of several runs.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn measure(&mut self, turns: usize, run: impl FnOnce(usize)) {
        let start = Clock::now();
        run(turns);
        self.0.push(start.elapsed().as_nanos() as f64 / (turns * BATCH) as f64);
    }

    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or_default()
    }

    fn best(&self) -> f64 {
        self.at(0.0)
    }

    fn median(&self) -> f64 {
        self.at(0.5)
    }
}

/// The two ports without a switch between them.
struct Bare {
    generator: Generator,
    sink: Sink,
    buffers: Vec<Buffer>,
}

impl Bare {
    fn new(case: &Case) -> Self {
        let (sink, _) = Sink::new(Offloads::ALL);
        Bare { generator: Generator::new(frames(case)), sink, buffers: (0..BATCH).map(Buffer::new).collect() }
    }

    fn run(&mut self, turns: usize) {
        for _ in 0..turns {
            let count = self.generator.rx(&mut self.buffers).unwrap_or(0);
            let views = self.buffers.iter().take(count);
            let frames: ArrayVec<TxFrame<'_>, BATCH> =
                views.map(|b| TxFrame { head: &[], rest: b.frame(), vnet: b.vnet, copy: false }).collect();
            self.sink.tx(&frames);
        }
    }
}

/// What a row says.
struct Row {
    bare: Times,
    switch: Times,
    allocations: f64,
}

fn measure(case: &Case, turns: usize) -> Row {
    let flows = if case.miss { 4_096 } else { 262_144 };
    let (mut worker, control, mut reports) = switch(Limits { flows, ..Limits::default() });
    let (sink, total) = Sink::new(Offloads::ALL);
    let (copies, _) = Sink::new(Offloads::ALL);
    let devices: [Box<dyn Port>; 3] = [Box::new(Generator::new(frames(case))), Box::new(sink), Box::new(copies)];
    for (id, device) in (1..).zip(devices) {
        assert!(worker.attach(PortId(id), device).is_ok());
    }
    worker.publish(Snapshot::build(&config(case)).unwrap_or_default());
    let mut turn = 0u64;
    let mut allocations = 0;
    let mut run = |turns: usize| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..turns {
            turn += 1;
            worker.turn(Instant::from_ns(turn * 5_000));
            while reports.pop().is_ok() {}
        }
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
    };
    let mut alone = Bare::new(case);
    let warm = turns / 4 + case.flows as usize * ROUNDS / BATCH;
    run(warm);
    alone.run(warm);
    let (mut bare, mut switch) = (Times::default(), Times::default());
    for _ in 0..RUNS {
        bare.measure(turns, |turns| alone.run(turns));
        switch.measure(turns, &mut run);
    }
    let c = control.port_counters(PortId(1));
    assert_eq!(c.rx.unicast, c.delivered, "every frame was delivered");
    assert_eq!(total.frames(), c.delivered);
    let stats = control.cache_stats();
    // All were misses, or the first frames of the flows alone.
    let firsts = if case.miss { c.rx.unicast * 99 / 100 } else { case.flows.into() };
    assert!(if case.miss { stats.misses > firsts } else { stats.misses == firsts }, "{stats:?}");
    Row { bare, switch, allocations: allocations as f64 / c.rx.unicast as f64 }
}

fn main() {
    // Cargo adds a flag of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let (settings, words): (Vec<_>, Vec<_>) = words.into_iter().partition(|word| word.starts_with("turns="));
    let turns = settings.first().and_then(|word| word.trim_start_matches("turns=").parse().ok()).unwrap_or(TURNS);
    let head = ["best ns", "median", "bare", "net", "Mpps", "x plain"].map(|name| format!("{name:>9}")).concat();
    println!("{:<44}{head} {:>13}", "64-octet frames, batches of 64", "allocs/frame");
    let mut plain = None;
    for case in CASES.iter().filter(|case| words.iter().all(|word| case.name.contains(word.as_str()))) {
        let row = measure(case, turns);
        let (best, median, bare) = (row.switch.best(), row.switch.median(), row.bare.best());
        let times = median / *plain.get_or_insert(median);
        let figures = [best, median, bare, best - bare, 1000.0 / best].map(|x| format!("{x:>9.1}")).concat();
        println!("{:<44}{figures}{times:>9.2} {:>13.4}", case.name, row.allocations);
    }
}
