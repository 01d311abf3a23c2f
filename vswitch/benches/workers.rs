//! What a second worker brings: `cargo bench -p vswitch --bench workers`.
//!
//! Two sets of flows, each between two ports of its own, through one switch with shared snapshot and MAC table, metered.
//! A run pushes a fixed number of frames of each set: either one worker does both sets, or two workers on two cores do one
//! each. Runs of both kinds take turns, so that a machine which is not idle slows both; compared are the best of each and
//! the medians. The third line is the two threads without a switch, the bare loop over the same ports: what the machine
//! itself gives for a second core. On fewer than two free cores the wall clock's ratio says nothing, and the bare loop's
//! shows that. The second pair of columns is by processor time, of the thread that took more of it: what the wall clock
//! would say if both cores were free all the time.
//!
//! `turns=N` behind `--` sets the length of a run.

use std::sync::Barrier;
use std::time::{Duration, Instant as Clock};

use arrayvec::ArrayVec;
use proto::addr::{MacAddr, VlanId};
use proto::vlan::PortMode;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use vswitch::config::{Config, MonitorConfig, PortConfig};
use vswitch::frame::vnet::VnetHdr;
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::port::memory::{Generator, Sink};
use vswitch::port::{Offloads, Port, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::worker::{Limits, Worker, switch_of};

const RUNS: usize = 9;
/// Turns of a run, each one batch of each set.
const TURNS: usize = 20_000;
/// Flows of a set.
const FLOWS: u16 = 1_000;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

/// A 64-octet UDP frame (60 without FCS) of flow `n`, from station `from` to `to`.
fn frame(from: u8, to: u8, n: u16) -> (Vec<u8>, VnetHdr) {
    let [a, b] = n.to_be_bytes();
    let mut f = [mac(to).0, mac(from).0].concat();
    f.extend_from_slice(&[8, 0, 0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    f.extend_from_slice(&[a, b, 0, 80, 0, 26, 0, 0]);
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
        flow_in: Some(0),
        flow_out: None,
        sampling: Default::default(),
    }
}

fn config() -> Config {
    let monitor = MonitorConfig { active: Duration::from_secs(1800), inactive: Duration::from_secs(1800) };
    Config { version: 1, ports: (1..5).map(port).collect(), monitors: vec![monitor], ..Config::default() }
}

/// The ports of set `set`: frames come in at the first and leave by the second, which has spoken once to be known.
fn ports(set: u8) -> [(PortId, Box<dyn Port>); 2] {
    let (from, to) = (2 * set + 1, 2 * set + 2);
    let frames = (0..FLOWS).map(|n| frame(from, to, n)).collect();
    let sink = Sink::new(Offloads::ALL).0;
    [(PortId(from.into()), Box::new(Generator::new(frames))), (PortId(to.into()), Box::new(sink))]
}

/// A port that says one frame, so that its station is known, and then is a sink.
struct Hello(Option<(Vec<u8>, VnetHdr)>, Box<dyn Port>);

impl Port for Hello {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, vswitch::port::Error> {
        match (self.0.take(), buffers.first_mut()) {
            (Some((frame, vnet)), Some(buffer)) => {
                buffer.fill(&frame, vnet);
                Ok(1)
            }
            _ => Ok(0),
        }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> vswitch::port::Sent {
        self.1.tx(frames)
    }

    fn offloads(&self) -> Offloads {
        self.1.offloads()
    }
}

/// A handle of another worker's port: it only sends.
struct Other(Sink);

impl Port for Other {
    fn rx(&mut self, _: &mut [Buffer]) -> Result<usize, vswitch::port::Error> {
        Ok(0)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> vswitch::port::Sent {
        self.0.tx(frames)
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    fn receives(&self) -> bool {
        false
    }
}

/// Switches with their ports: as many workers as `count`, the two sets spread over them.
fn switches(count: usize) -> Vec<Worker> {
    let limits = Limits { flows: 65_536, macs: 1024, macs_per_port: 64, records: 1024, evicted_per_s: 200_000 };
    let (mut workers, _control, _reports) = switch_of(limits, count);
    workers[0].publish(Snapshot::build(&config()).unwrap());
    for set in 0..2u8 {
        let worker = usize::from(set) % count;
        for (id, port) in ports(set) {
            let hello = frame(id.0 as u8, 9, 0);
            let port: Box<dyn Port> = if id.0 % 2 == 0 { Box::new(Hello(Some(hello), port)) } else { port };
            assert!(workers[worker].attach(id, port).is_ok());
        }
        // Every worker has a handle of every port; those that don't receive only send.
        for other in (0..count).filter(|other| *other != worker) {
            for id in [2 * set + 1, 2 * set + 2] {
                let port = Box::new(Other(Sink::new(Offloads::ALL).0));
                assert!(workers[other].attach(PortId(id.into()), port).is_ok());
            }
        }
    }
    // Everything is learned and every flow is in its cache.
    for turn in 0..200 {
        workers.iter_mut().for_each(|worker| _ = worker.turn(Instant::from_ms(turn)));
    }
    workers
}

/// Time that has passed, and processor time of the thread that took most.
#[derive(Clone, Copy, Default)]
struct Taken {
    wall: f64,
    cpu: f64,
}

fn cpu_s() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// The time that `bodies` take, each in a thread of its own on a core of its own.
fn race(bodies: Vec<Box<dyn FnMut() + Send + '_>>, cores: &[usize]) -> Taken {
    let start = Barrier::new(bodies.len() + 1);
    let start = &start;
    std::thread::scope(|scope| {
        let threads: Vec<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(at, mut body)| {
                let core = cores.get(at).copied();
                scope.spawn(move || {
                    if let Some(core) = core {
                        let mut set = CpuSet::new();
                        set.set(core);
                        let _ = sched_setaffinity(None, &set);
                    }
                    start.wait();
                    let before = cpu_s();
                    body();
                    cpu_s() - before
                })
            })
            .collect();
        start.wait();
        let began = Clock::now();
        let cpu = threads.into_iter().map(|thread| thread.join().unwrap()).fold(0.0, f64::max);
        Taken { wall: began.elapsed().as_secs_f64(), cpu }
    })
}

fn turn_many(worker: &mut Worker, turns: usize) {
    for turn in 0..turns {
        std::hint::black_box(worker.turn(Instant::from_ms(1000 + turn as u64 / 1000)));
    }
}

/// The two ports of a set without a switch.
fn loop_bare(ports: &mut [(PortId, Box<dyn Port>); 2], buffers: &mut [Buffer], turns: usize) {
    let [(_, from), (_, to)] = ports;
    for _ in 0..turns {
        let received = from.rx(buffers).unwrap();
        let frames: ArrayVec<TxFrame<'_>, BATCH> = buffers[..received]
            .iter()
            .map(|buffer| TxFrame { head: &[], rest: buffer.frame(), vnet: buffer.vnet, copy: false })
            .collect();
        std::hint::black_box(to.tx(&frames));
    }
}

/// Best and median.
fn best_and_median(mut times: Vec<f64>) -> [f64; 2] {
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2]]
}

fn main() {
    let turns = std::env::args().find_map(|arg| arg.strip_prefix("turns=")?.parse().ok()).unwrap_or(TURNS);
    let allowed = sched_getaffinity(None).expect("the system tells on which cores we may run");
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).take(2).collect();
    let (mut one, mut two) = (switches(1), switches(2));
    let mut bare: Vec<_> = (0..2u8).map(|set| (ports(set), (0..BATCH).map(Buffer::new).collect::<Vec<_>>())).collect();
    let mut times: [Vec<Taken>; 4] = Default::default();
    for _ in 0..RUNS {
        let run = one.iter_mut().map(|worker| Box::new(move || turn_many(worker, turns)) as Box<_>).collect();
        times[0].push(race(run, &cores));
        let run = two.iter_mut().map(|worker| Box::new(move || turn_many(worker, turns)) as Box<_>).collect();
        times[1].push(race(run, &cores));
        let run = Box::new(|| bare.iter_mut().for_each(|(ports, buffers)| loop_bare(ports, buffers, turns)));
        times[2].push(race(vec![run], &cores));
        let run = bare.iter_mut();
        let run = run.map(|(ports, buffers)| Box::new(move || loop_bare(ports, buffers, turns)) as Box<_>).collect();
        times[3].push(race(run, &cores));
    }
    let frames = (2 * turns * BATCH) as f64;
    println!("cores {cores:?}, {RUNS} runs of {turns} turns, 2 x {FLOWS} flows, million frames per second");
    println!("{:<24} {:>9} {:>9} {:>9} {:>9}", "", "best", "median", "cpu best", "median");
    let names = ["one worker", "two workers", "bare loop, one thread", "bare loop, two threads"];
    let mut figures: Vec<[f64; 4]> = Vec::new();
    for (name, taken) in names.iter().zip(&times) {
        let [wall, wall_median] = best_and_median(taken.iter().map(|t| t.wall).collect());
        let [cpu, cpu_median] = best_and_median(taken.iter().map(|t| t.cpu).collect());
        let row = [wall, wall_median, cpu, cpu_median];
        print_row(name, row.map(|time| frames / time / 1e6), "");
        figures.push(row);
    }
    for (name, pair) in ["two workers : one", "bare, two : one"].iter().zip(figures.chunks(2)) {
        print_row(name, std::array::from_fn(|i| pair[0][i] / pair[1][i]), "x");
    }
}

fn print_row(name: &str, figures: [f64; 4], unit: &str) {
    print!("{name:<24}");
    figures.iter().for_each(|figure| print!(" {:>9}", format!("{figure:.2}{unit}")));
    println!();
}
