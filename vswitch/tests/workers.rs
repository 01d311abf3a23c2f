//! Several workers: driven in one thread turn by turn, where everything can be counted; and as threads, where a port moves
//! in the middle of the traffic.

mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use net::frames::udp4;
use net::{SMALL, access, config, mac, monitor, trunk, vlan};
use proptest::prelude::*;
use rtrb::Consumer;
use vswitch::config::Config;
use vswitch::control::{Control, Error};
use vswitch::flow::record::Record;
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::verdict::DropReason;
use vswitch::worker::{Limits, Worker, switch_of};

/// Several workers in the hands of one thread.
struct Team {
    workers: Vec<Worker>,
    control: Control,
    reports: Vec<Consumer<Record>>,
    ends: BTreeMap<u16, MemoryEnd>,
    now_ms: u64,
}

impl Team {
    fn new(count: usize, limits: Limits, config: &Config) -> Team {
        let (workers, control, reports) = switch_of(limits, count);
        let mut team = Team { workers, control, reports, ends: BTreeMap::new(), now_ms: 1 };
        team.publish(config);
        for port in &config.ports {
            let (port_end, end) = memory::pair(512, Offloads::ALL);
            let id = port.id;
            team.ask(|control| control.attach(id, Box::new(port_end))).unwrap();
            team.ends.insert(id.0, end);
        }
        team
    }

    fn publish(&mut self, config: &Config) {
        let snapshot = Snapshot::build(config).unwrap();
        self.ask(|control| control.publish(snapshot)).unwrap();
    }

    /// Asks from another thread while this one turns the workers.
    fn ask<T: Send>(&mut self, question: impl FnOnce(&Control) -> T + Send) -> T {
        let (workers, control) = (&mut self.workers, &self.control);
        let now = Instant::from_ms(self.now_ms);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| question(control));
            while !asking.is_finished() {
                workers.iter_mut().for_each(|worker| _ = worker.turn(now));
                std::thread::yield_now();
            }
            asking.join().unwrap()
        })
    }

    fn send(&mut self, from: u16, frame: &[u8]) {
        assert!(self.ends.get_mut(&from).unwrap().send(frame, Default::default()), "no room");
    }

    /// Turns, the workers in the order that `seed` says, until nothing moves.
    fn turn(&mut self, mut seed: u64) {
        let now = Instant::from_ms(self.now_ms);
        let mut quiet = 0;
        while quiet < 2 * self.workers.len() {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let first = (seed >> 33) as usize % self.workers.len();
            for at in 0..self.workers.len() {
                let at = (first + at) % self.workers.len();
                quiet = if self.workers[at].turn(now) > 0 { 0 } else { quiet + 1 };
            }
        }
        self.check_law_1();
    }

    fn after(&mut self, ms: u64) {
        self.now_ms += ms;
        let now = Instant::from_ms(self.now_ms);
        for _ in 0..40 {
            self.workers.iter_mut().for_each(|worker| _ = worker.turn(now));
        }
        self.turn(ms);
    }

    fn check_law_1(&self) {
        for id in self.ends.keys() {
            let c = self.control.port_counters(PortId(*id));
            assert_eq!(c.rx.frames(), c.delivered + c.rx_drops.iter().sum::<u64>(), "law 1 at port {id}");
        }
    }

    /// What came out of every port.
    fn recv(&mut self) -> Vec<(u16, Vec<u8>)> {
        let take = |(id, end): (&u16, &mut MemoryEnd)| -> Vec<_> {
            std::iter::from_fn(|| end.recv()).map(|(frame, _)| (*id, frame)).collect()
        };
        self.ends.iter_mut().flat_map(take).collect()
    }

    fn records(&mut self) -> Vec<Record> {
        self.reports.iter_mut().flat_map(|ring| std::iter::from_fn(|| ring.pop().ok())).collect()
    }

    /// Which worker receives from a port: the one that was busy with it.
    fn receivers(&mut self, from: u16) -> Vec<usize> {
        let loads = |team: &Team| team.control.loads().iter().map(|load| load.frames).collect::<Vec<_>>();
        let before = loads(self);
        self.send(from, &udp4(mac(99), mac(from), 80, 10));
        self.turn(1);
        let after = loads(self);
        (0..after.len()).filter(|at| after[*at] > before[*at]).collect()
    }
}

/// Ports 1-4 in VLAN 10, 5 and 6 in VLAN 20, 7 carries both; 1 and 2 may not talk to each other.
fn mixed() -> Config {
    let mut config = config((1..5).map(|id| access(id, 10)).chain([access(5, 20), access(6, 20)]).collect());
    config.ports.push(trunk(7, 99, "10,20"));
    config.ports[0].protected = true;
    config.ports[1].protected = true;
    config.monitors = vec![monitor(60, 15)];
    config.ports.iter_mut().for_each(|port| port.flow_in = Some(0));
    config
}

#[test]
fn ports_are_spread_over_the_workers_and_every_worker_sends_to_every_port() {
    let mut team = Team::new(3, SMALL, &mixed());
    assert_eq!(team.control.loads().iter().map(|load| load.receives_from).collect::<Vec<_>>(), [3, 2, 2]);
    let homes: Vec<_> = (1..7).map(|id| team.receivers(id)).collect();
    assert_eq!(homes, [vec![0], vec![1], vec![2], vec![0], vec![1], vec![2]]);
    team.recv();
    for (from, to) in [(1, 3), (3, 1), (2, 4), (4, 2), (3, 4), (5, 6), (6, 5)] {
        team.send(from, &udp4(mac(to), mac(from), 80, 10));
        team.turn(7);
        let got: Vec<u16> = team.recv().into_iter().map(|(port, _)| port).collect();
        assert_eq!(got, [to], "from {from}");
    }
    assert_eq!(team.ask(|control| control.macs()).unwrap().len(), 6);
    let (flows, matched) = team.ask(|control| control.flows(Default::default(), 4)).unwrap();
    assert_eq!((flows.len(), matched), (4, 13));
    assert!(flows.windows(2).all(|pair| pair[0].record.octets >= pair[1].record.octets));
}

#[test]
fn a_port_is_detached_from_every_worker_and_its_flows_are_reported() {
    let mut team = Team::new(2, SMALL, &mixed());
    for (from, to) in [(1, 3), (3, 1), (4, 3), (3, 4)] {
        team.send(from, &udp4(mac(to), mac(from), 80, 10));
        team.turn(3);
    }
    team.recv();
    team.ask(|control| control.detach(PortId(3))).unwrap();
    team.ends.remove(&3);
    team.after(200);
    let known = team.ask(|control| control.macs()).unwrap();
    assert_eq!(known.iter().map(|entry| entry.port.unwrap().0).collect::<BTreeSet<_>>(), BTreeSet::from([1, 4]));
    let of_3 = |r: &Record| r.key.in_port() == PortId(3);
    assert_eq!(team.records().iter().filter(|r| of_3(r)).count(), 2);
    assert_eq!(team.ask(|control| control.detach(PortId(3))), Err(Error::PortFree(3)));
    // The device is closed: its end has noticed.
    let (port, end) = memory::pair(8, Offloads::ALL);
    team.ask(|control| control.attach(PortId(3), Box::new(port))).unwrap();
    team.ends.insert(3, end);
    team.send(1, &udp4(mac(3), mac(1), 80, 10));
    team.turn(1);
    assert!(team.recv().iter().any(|(port, _)| *port == 3));
}

#[test]
fn drops_of_all_workers_are_told_newest_first_and_counters_cleared_as_one() {
    let mut team = Team::new(2, SMALL, &mixed());
    for n in 0..6 {
        team.now_ms += 10;
        team.send(1 + n % 2, &udp4(mac(50), mac(0x0100), 80, 10)[..10]);
        team.turn(n.into());
    }
    let samples = team.ask(|control| control.drop_samples()).unwrap();
    assert_eq!(samples.iter().map(|s| s.port.0).collect::<Vec<_>>(), [2, 1, 2, 1, 2, 1]);
    assert!(samples.iter().all(|s| s.reason == DropReason::Runt));
    team.control.clear_port_counters(PortId(1));
    assert_eq!(team.control.port_counters(PortId(1)).rx.frames(), 0);
    assert_eq!(team.control.port_counters(PortId(2)).rx.frames(), 3);
}

#[test]
fn a_port_of_one_worker_only_is_refused_by_two() {
    let mut team = Team::new(2, SMALL, &config(vec![]));
    let (inner, _end) = memory::pair(1, Offloads::ALL);
    let fault = vswitch::port::fault::Fault::new(Box::new(inner), Default::default());
    let answer = team.ask(|control| control.attach(PortId(1), Box::new(fault)));
    assert!(matches!(answer, Err(Error::PortShared(1, _))), "{answer:?}");
    assert_eq!(team.ask(|control| control.move_port(PortId(1), 1)), Err(Error::PortFree(1)));
}

#[test]
fn a_busy_port_moves_to_the_idle_worker() {
    let mut team = Team::new(2, SMALL, &mixed());
    assert_eq!((team.receivers(1), team.receivers(3)), (vec![0], vec![0]));
    assert_eq!(team.ask(|control| control.move_port(PortId(3), 7)), Err(Error::NoWorker(7)));
    team.ask(|control| control.move_port(PortId(3), 1)).unwrap();
    assert_eq!((team.receivers(1), team.receivers(3)), (vec![0], vec![1]));
    team.ask(|control| control.move_port(PortId(3), 1)).unwrap();
    assert_eq!(team.receivers(3), [1]);
    team.ask(|control| control.move_port(PortId(3), 0)).unwrap();
    assert_eq!(team.receivers(3), [0]);
    assert_eq!(team.control.loads().iter().map(|load| load.receives_from).collect::<Vec<_>>(), [4, 3]);
}

/// A station that moves from a port of one worker to a port of another is found there, however it moves.
#[test]
fn addresses_converge_whoever_learns_them() {
    let mut team = Team::new(3, SMALL, &mixed());
    for home in [3, 4, 1, 2, 4, 3] {
        for _ in 0..2 {
            team.send(home, &udp4(mac(200), mac(77), 80, 10));
            team.turn(home.into());
        }
        let entry = team.ask(|control| control.macs()).unwrap().into_iter().find(|e| e.mac == mac(77)).unwrap();
        assert_eq!((entry.port, entry.vlan), (Some(PortId(home)), vlan(10)));
    }
    assert!(team.control.loads().iter().all(|load| load.wishes_lost == 0));
    // A flood of addresses on one port takes its own share only, and does not end the convergence.
    for n in 0..1000 {
        team.send(2, &udp4(mac(1), mac(1000 + n), 80, 10));
        if n % 300 == 299 {
            team.turn(n.into());
        }
    }
    team.turn(1);
    let macs = team.ask(|control| control.macs()).unwrap();
    assert_eq!(macs.iter().filter(|e| e.port == Some(PortId(2))).count(), SMALL.macs_per_port);
    assert!(macs.iter().any(|e| e.mac == mac(77)));
}

/// One random frame, or something else that happens.
#[derive(Clone, Debug)]
enum Step {
    Frame { from: u16, src: u16, dst: u16, port: u16, length: usize },
    Turn(u64),
    Move { port: u16, to: usize },
    Shut { port: u16, up: bool },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..8u16, 1..9u16, 1..9u16, 0..3u16, 0..60usize)
            .prop_map(|(from, src, dst, port, length)| Step::Frame { from, src, dst, port, length }),
        6 => any::<u64>().prop_map(Step::Turn),
        1 => (1..8u16, 0..3usize).prop_map(|(port, to)| Step::Move { port, to }),
        1 => (1..8u16, any::<bool>()).prop_map(|(port, up)| Step::Shut { port, up }),
        1 => (0..3000u64).prop_map(Step::Wait),
    ]
}

fn play(count: usize, steps: &[Step]) {
    let mut config = mixed();
    let mut team = Team::new(count, SMALL, &config);
    let (mut serial, mut waiting) = (0u16, 0);
    // By serial number: where the frame came from.
    let mut sent: Vec<u16> = Vec::new();
    for step in steps.iter().chain([&Step::Turn(0)]) {
        match *step {
            // A batch of waiting frames is short, so that none meets a full queue.
            Step::Frame { from, src, dst, port, length } if waiting < 100 => {
                let mut frame = udp4(mac(dst), mac(src), 80 + port, length + 2);
                let at = frame.len() - length - 2;
                frame[at..at + 2].copy_from_slice(&serial.to_be_bytes());
                team.send(from, &frame);
                sent.push(from);
                serial += 1;
                waiting += 1;
            }
            Step::Move { port, to } => team.ask(|control| control.move_port(PortId(port), to % count)).unwrap(),
            Step::Shut { port, up } => {
                config.version += 1;
                config.ports[usize::from(port) - 1].up = up;
                team.publish(&config);
            }
            Step::Wait(ms) => team.now_ms += ms,
            Step::Frame { .. } | Step::Turn(_) => {
                team.turn(if let Step::Turn(seed) = *step { seed } else { 1 });
                waiting = 0;
            }
        }
        let got = team.recv();
        // Policy: a frame that left, left where it may. What waits in a shut port's queue is dropped, not held.
        for (to, frame) in got {
            let at = if frame[12..14] == [0x81, 0] { 46 } else { 42 };
            let from = sent[usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]))];
            let vlans = |id: u16| match id {
                1..=4 => vec![10],
                5 | 6 => vec![20],
                _ => vec![10, 20, 99],
            };
            assert!(vlans(from).iter().any(|v| vlans(to).contains(v)), "from {from} to {to}");
            assert!(from != to && !matches!((from, to), (1, 2) | (2, 1)), "from {from} to {to}");
        }
    }
    team.check_law_1();
    for _ in 0..4 {
        team.after(70_000);
    }
    // Law 2: every frame was accepted and metered, whichever workers saw its flow; a drop is metered as well.
    let records = team.records();
    let stats = team.control.cache_stats();
    assert_eq!((stats.active, stats.unmetered), (0, 0));
    let packets: u64 = records.iter().map(|r| r.packets).sum();
    let octets: u64 = records.iter().map(|r| r.l2_octets).sum();
    let counted: Vec<_> = (1..8).map(|id| team.control.port_counters(PortId(id)).rx).collect();
    assert_eq!(counted.iter().map(|rx| rx.frames()).sum::<u64>(), sent.len() as u64);
    assert_eq!(packets, sent.len() as u64, "law 2");
    assert_eq!(octets, counted.iter().map(|rx| rx.octets).sum::<u64>(), "law 2");
    // A station that speaks once more, and twice, is known where it is.
    config.ports.iter_mut().for_each(|port| port.up = true);
    config.version += 1;
    team.publish(&config);
    for _ in 0..2 {
        for id in 1..5 {
            team.send(id, &udp4(mac(50), mac(id), 80, 10));
            team.turn(id.into());
        }
    }
    let macs = team.ask(|control| control.macs()).unwrap();
    for id in 1..5 {
        assert!(macs.iter().any(|e| (e.mac, e.vlan, e.port) == (mac(id), vlan(10), Some(PortId(id)))), "{macs:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_laws_and_the_policy_hold_over_several_workers(
        count in 2..4usize,
        steps in prop::collection::vec(step(), 1..250),
    ) {
        play(count, &steps);
    }
}

/// As threads: two stations talk over two ports, whose homes move to and fro meanwhile. Nothing is lost, every frame comes
/// once and in its order.
#[test]
fn a_port_that_moves_in_the_middle_of_the_traffic_loses_nothing() {
    let (workers, control, mut reports) = switch_of(SMALL, 2);
    let stop = Arc::new(AtomicBool::new(false));
    let epoch = std::time::Instant::now();
    let threads: Vec<_> = workers
        .into_iter()
        .map(|worker| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || worker.run(epoch, stop))
        })
        .collect();
    control.publish(Snapshot::build(&mixed()).unwrap()).unwrap();
    let mut ends: Vec<MemoryEnd> = [3, 4]
        .into_iter()
        .map(|id| {
            let (port, end) = memory::pair(4096, Offloads::ALL);
            control.attach(PortId(id), Box::new(port)).unwrap();
            end
        })
        .collect();
    let moving = AtomicBool::new(true);
    let (sent, moves) = std::thread::scope(|scope| {
        let mover = scope.spawn(|| {
            let mut moves = 0;
            while moves < 60 {
                control.move_port(PortId(3 + moves % 2), usize::from(moves / 2 % 2)).unwrap();
                moves += 1;
                std::thread::yield_now();
            }
            moving.store(false, Ordering::Relaxed);
            moves
        });
        // As many as fit are on their way, in both directions.
        let (mut sent, mut got) = ([0u32; 2], [0u32; 2]);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while moving.load(Ordering::Relaxed) || sent[0] < 3000 || got != sent {
            assert!(std::time::Instant::now() < deadline, "sent {sent:?}, got {got:?}");
            for way in 0..2 {
                let more = moving.load(Ordering::Relaxed) || sent[0] < 3000;
                if more && sent[way] - got[way] < 500 {
                    let [from, to] = [[3, 4], [4, 3]][way];
                    let mut frame = udp4(mac(to), mac(from), 80, 10);
                    frame[42..46].copy_from_slice(&sent[way].to_be_bytes());
                    assert!(ends[way].send(&frame, Default::default()));
                    sent[way] += 1;
                }
                while let Some((frame, _)) = ends[1 - way].recv() {
                    let number = u32::from_be_bytes(frame[42..46].try_into().unwrap());
                    assert_eq!(number, got[way], "order");
                    got[way] += 1;
                }
            }
        }
        (sent, mover.join().unwrap())
    });
    assert_eq!(moves, 60);
    for (id, sent) in [(3, sent[0]), (4, sent[1])] {
        let c = control.port_counters(PortId(id));
        assert_eq!((c.rx.frames(), c.delivered), (sent.into(), sent.into()), "law 1 at port {id}");
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let packets: u64 =
        reports.iter_mut().flat_map(|ring| std::iter::from_fn(|| ring.pop().ok())).map(|r| r.packets).sum();
    assert_eq!(packets, u64::from(sent[0] + sent[1]), "law 2");
}
