//! Nanoseconds and allocations per frame through memory ports: `cargo bench -p vswitch --bench road`.
//!
//! A run takes the whole turn: receive, parse, lookup, verdict, meter, counters, transmit. Between any two runs comes one of
//! the bare loop, the same two memory ports and frames without a switch, so that a machine which is not idle slows both.
//! Each row has the best run and the median; `bare` is the best of the bare loop, `net` what the switch adds to it, and
//! `x first` the median against that of the first row. Frames are made as they are received, so that a million flows cost
//! the bare loop what one costs.
//!
//! Words behind `--` choose the rows that have them all in their names; `turns=N` sets the length of a run and `runs=N` how
//! many there are; `json=FILE` writes the rows to a file as well:
//! `cargo bench -p vswitch --bench road -- turns=100 json=road.json everything "10,000 flows"`.
//! Rows named `stage` time one stage of the road alone, over the same frames.
//!
//! Runs are short and many, and a nanosecond is one of the thread's own time, so that on a machine that others use too some of them
//! are not disturbed. Where there is a session its mirror is another thread: without a core for it, caches are what suffers.
//! A machine may be disturbed for some seconds, which is longer than a row: rows that are compared with each other are measured in
//! several rounds, in turn, and what is told in the end is of all of them.

mod cases;
mod stages;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Clock};

use arrayvec::ArrayVec;
use cases::{CASES, Case, FIRST, SOURCE, frame};
use stages::{Probe, Stage};
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::memory::{Sink, Synthesizer};
use vswitch::port::{Error, Offloads, Port, PortId, Sent};
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

const RUNS: usize = 101;
/// Turns of a run, one batch each.
const TURNS: usize = 300;
/// Rounds of the rows that are compared.
const ROUNDS: usize = 8;
/// No further run of a row begins after this time.
const ROW_MAX: Duration = Duration::from_secs(4);

/// What the words on the command line ask for.
struct Wanted {
    words: Vec<String>,
    turns: usize,
    runs: usize,
    json: Option<String>,
}

impl Wanted {
    fn read() -> Self {
        let mut wanted = Wanted { words: Vec::new(), turns: TURNS, runs: RUNS, json: None };
        // Cargo adds a flag of its own.
        for word in std::env::args().skip(1).filter(|word| !word.starts_with('-')) {
            match word.split_once('=') {
                Some(("turns", n)) => wanted.turns = n.parse().expect("turns=N"),
                Some(("runs", n)) => wanted.runs = n.parse().expect("runs=N"),
                Some(("json", file)) => wanted.json = Some(file.to_owned()),
                _ => wanted.words.push(word),
            }
        }
        wanted
    }

    fn has(&self, name: &str) -> bool {
        self.words.iter().all(|word| name.contains(word.as_str()))
    }
}

/// Nanoseconds per frame of several runs.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn measure(&mut self, batches: usize, run: impl FnOnce()) {
        let start = own_ns();
        run();
        self.0.push((own_ns() - start) as f64 / (batches * BATCH) as f64);
    }

    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() as f64 * part) as usize).copied().unwrap_or_default()
    }
}

/// Nanoseconds for which this thread has had a core.
fn own_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

fn generator(flows: u32) -> Synthesizer {
    Synthesizer::new(frame(), SOURCE, FIRST, flows)
}

/// A destination that takes nothing.
struct Stalled;

impl Port for Stalled {
    fn rx(&mut self, _: &mut [Buffer]) -> Result<usize, Error> {
        Ok(0)
    }

    fn tx(&mut self, _: &[TxFrame<'_>]) -> Sent {
        Sent::default()
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        Ok(Box::new(Stalled))
    }
}

/// The two ports without a switch between them.
struct Bare {
    generator: Synthesizer,
    sink: Sink,
    buffers: Vec<Buffer>,
}

impl Bare {
    fn new(flows: u32) -> Self {
        let (sink, _) = Sink::new(Offloads::ALL);
        Bare { generator: generator(flows), sink, buffers: (0..BATCH).map(Buffer::new).collect() }
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
    name: String,
    flows: u32,
    switch: Times,
    bare: Times,
    allocations: f64,
    /// Part of the copies that were lost.
    lost: f64,
}

impl Row {
    /// Takes the runs of another round in.
    fn merge(&mut self, other: Row) {
        self.switch.0.extend(other.switch.0);
        self.bare.0.extend(other.bare.0);
        self.allocations = self.allocations.max(other.allocations);
        self.lost = self.lost.max(other.lost);
    }

    fn print(&self, first: f64) {
        let (best, median, bare) = (self.switch.at(0.0), self.switch.at(0.5), self.bare.at(0.0));
        let figures = [best, median, bare, best - bare, 1000.0 / best].map(|x| format!("{x:>9.1}")).concat();
        let lost =
            if self.lost > 0.0 { format!("  {:.0}% of the copies lost", 100.0 * self.lost) } else { String::new() };
        println!("{:<46}{figures}{:>9.2} {:>13.4}{lost}", self.name, median / first, self.allocations);
    }

    fn json(&self) -> String {
        format!(
            "  {{\"name\": \"{}\", \"flows\": {}, \"best_ns\": {:.2}, \"median_ns\": {:.2}, \"bare_ns\": {:.2}, \
             \"allocs\": {}, \"lost\": {:.4}}}",
            self.name,
            self.flows,
            self.switch.at(0.0),
            self.switch.at(0.5),
            self.bare.at(0.0),
            self.allocations,
            self.lost
        )
    }
}

fn measure(case: &Case, wanted: &Wanted) -> Row {
    let limits = Limits { flows: case.capacity(), ..Limits::default() };
    let (mut worker, control, mut reports) = switch(limits);
    let (sink, total) = Sink::new(Offloads::ALL);
    let (copies, copied) = Sink::new(Offloads::ALL);
    let second: Box<dyn Port> = if case.flapping { Box::new(generator(case.flows)) } else { Box::new(sink) };
    let third: Box<dyn Port> = if case.stalled { Box::new(Stalled) } else { Box::new(copies) };
    let devices: [Box<dyn Port>; 3] = [Box::new(generator(case.flows)), second, third];
    for (id, device) in (1..).zip(devices) {
        assert!(worker.attach(PortId(id), device).is_ok());
    }
    worker.publish(Snapshot::build(&case.config()).expect("the bench's own configuration is right"));
    // The mirror has a core of its own, as far as there is one.
    let mut mirror = control.mirror().expect("nobody has it yet");
    let stop = Arc::new(AtomicBool::new(false));
    let copying = case.span.then(|| {
        mirror.attach(PortId(3), worker.sender(PortId(3)).expect("a sink can be shared"));
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || mirror.run(Clock::now(), &stop))
    });
    let mut turn = 0u64;
    let mut run = |turns: usize| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..turns {
            turn += 1;
            worker.turn(Instant::from_ns(turn * 5_000));
            while reports.pop().is_ok() {}
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    let mut alone = Bare::new(case.flows);
    let warm = wanted.turns / 4 + 2 * case.flows as usize / BATCH;
    let mut allocations = run(warm);
    alone.run(wanted.turns / 4);
    let (mut bare, mut switch) = (Times::default(), Times::default());
    let start = Clock::now();
    for done in 0..wanted.runs {
        if done > 4 && start.elapsed() > ROW_MAX {
            break;
        }
        bare.measure(wanted.turns, || alone.run(wanted.turns));
        switch.measure(wanted.turns * usize::from(case.sources()), || allocations += run(wanted.turns));
    }
    let sources: Vec<_> = (1..=case.sources()).map(|id| control.port_counters(PortId(id))).collect();
    let received: u64 = sources.iter().map(|c| c.rx.unicast).sum();
    let delivered: u64 = sources.iter().map(|c| c.delivered).sum();
    let sent: u64 = [1, 2].map(|id| control.port_counters(PortId(id)).tx.unicast).iter().sum();
    assert_eq!((received, sent), (delivered, delivered), "every frame was delivered");
    assert!(case.flapping || total.frames() == delivered);
    stop.store(true, Ordering::Release);
    copying.into_iter().for_each(|thread| thread.join().expect("the mirror ends"));
    let session = control.session_stats(0);
    assert_eq!(session.matched, if case.span { delivered } else { 0 });
    assert_eq!((copied.frames(), session.copied + session.dropped), (session.copied, session.matched));
    assert!(session.copied == 0 || !case.stalled);
    let lost = session.dropped as f64 / session.matched.max(1) as f64;
    let stats = control.cache_stats();
    // All were misses but for a few flows that outlived a round, as who goes is no longer the oldest; or the first frames of the flows alone.
    let firsts = if case.miss { received * 97 / 100 } else { u64::from(case.flows) * u64::from(case.sources()) };
    assert!(if case.miss { stats.misses > firsts } else { stats.misses == firsts }, "{stats:?}");
    if case.rules > 0 {
        let last = [case.rules - 1, 2 * case.rules].map(|rule| control.rule_matches(rule));
        assert_eq!(last, [delivered; 2], "the last rule of each list decided on every frame");
    }
    let allocations = allocations as f64 / received as f64;
    Row { name: case.name(), flows: case.flows, switch, bare, allocations, lost }
}

/// One stage alone, against the bare loop.
fn measure_stage(stage: Stage, flows: u32, wanted: &Wanted) -> Row {
    let mut probe = Probe::new(stage, flows, generator(flows));
    let mut alone = Bare::new(flows);
    let (mut bare, mut switch) = (Times::default(), Times::default());
    let mut allocations = 0;
    for _ in 0..wanted.runs {
        bare.measure(wanted.turns, || alone.run(wanted.turns));
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let spent = probe.run(wanted.turns);
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
        switch.0.push(spent.as_nanos() as f64 / (wanted.turns * BATCH) as f64);
    }
    let frames = (wanted.runs * wanted.turns * BATCH) as f64;
    let allocations = allocations as f64 / frames;
    Row { name: stages::name(stage, flows), flows, switch, bare, allocations, lost: 0.0 }
}

fn main() {
    let wanted = Wanted::read();
    let head = ["best ns", "median", "bare", "net", "Mpps", "x first"].map(|name| format!("{name:>9}")).concat();
    println!("{:<46}{head} {:>13}", "64-octet frames, batches of 64", "allocs/frame");
    let mut rows: Vec<Row> = Vec::new();
    let mut show = |row: Row| {
        let first = rows.first().map_or(row.switch.at(0.5), |row| row.switch.at(0.5));
        row.print(first);
        rows.push(row);
    };
    let cases = || CASES.iter().filter(|case| wanted.has(&case.name()));
    for case in cases() {
        show(measure(case, &wanted));
    }
    for (stage, flows) in stages::ROWS.iter().filter(|(stage, flows)| wanted.has(&stages::name(*stage, *flows))) {
        show(measure_stage(*stage, *flows, &wanted));
    }
    for _ in 1..ROUNDS {
        for case in cases().filter(|case| case.is_compared()) {
            if let Some(row) = rows.iter_mut().find(|row| row.name == case.name()) {
                row.merge(measure(case, &wanted));
            }
        }
    }
    let first = rows.first().map_or(1.0, |row| row.switch.at(0.5));
    let compared: Vec<String> = cases().filter(|case| case.is_compared()).map(Case::name).collect();
    if !compared.is_empty() {
        println!("Of {ROUNDS} rounds:");
        rows.iter().filter(|row| compared.contains(&row.name)).for_each(|row| row.print(first));
    }
    if let Some(file) = &wanted.json {
        let rows: Vec<String> = rows.iter().map(Row::json).collect();
        std::fs::write(file, format!("[\n{}\n]\n", rows.join(",\n"))).expect("json=FILE can be written");
    }
}
