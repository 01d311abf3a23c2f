//! Monitors come, go and change their numbers under live flows: what each has counted is reported under its own number
//! before anybody else can have that (law 2, by monitor).

mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use net::frames::udp4;
use net::{Net, SMALL, access, config, mac, monitor};
use proptest::prelude::*;
use proto::addr::MacAddr;
use vswitch::control::Error;
use vswitch::flow::record::{EndReason, MONITORS_MAX, Record};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::worker::Limits;

const PORTS: u16 = 4;
/// A ring that a walk over the flows fills again and again.
const FEW: Limits = Limits { records: 64, ..SMALL };

/// A switch whose monitors are numbered as the agent does it: a number is not given anew in the change that frees it.
struct Metered {
    net: Net,
    /// By name: its number, and which monitor of that name it is.
    running: BTreeMap<u8, (usize, u32)>,
    next: u32,
    /// Who has each number.
    owners: [Option<u32>; MONITORS_MAX],
    reported: BTreeMap<u32, u64>,
    accepted: BTreeMap<u32, u64>,
}

/// What a port is given: names of monitors, on the way in and out.
type Wanted = (Option<u8>, Option<u8>);

impl Metered {
    fn new() -> Metered {
        let mut config = config((1..=PORTS).map(|id| access(id, 10)).collect());
        config.mac_aging = Duration::ZERO;
        let mut net = Net::with(config, FEW, Offloads::ALL, 512);
        for id in 1..=PORTS {
            net.through(id, &udp4(MacAddr::BROADCAST, mac(id), 5, 0));
        }
        let (running, reported, accepted) = Default::default();
        Metered { net, running, next: 0, owners: [None; MONITORS_MAX], reported, accepted }
    }

    fn take(&mut self, records: &[Record]) {
        for record in records {
            let bits = record.monitors_in | record.monitors_out;
            assert_eq!(record.monitors_in & record.monitors_out, 0);
            for number in (0..MONITORS_MAX).filter(|number| bits >> number & 1 == 1) {
                let owner = self.owners[number].expect("a record for nobody");
                *self.reported.entry(owner).or_default() += record.octets;
            }
        }
    }

    fn drain(&mut self) {
        let records = self.net.records();
        self.take(&records);
    }

    /// Gives the ports these monitors, those of the names in `changed` anew.
    fn change(&mut self, wanted: &[Wanted], changed: &BTreeSet<u8>) {
        let names: BTreeSet<u8> = wanted.iter().flat_map(|(a, b)| [*a, *b]).flatten().collect();
        let mut running = self.running.clone();
        running.retain(|name, _| names.contains(name) && !changed.contains(name));
        let mut taken: BTreeSet<usize> = self.running.values().map(|(number, _)| *number).collect();
        for name in names {
            let next = &mut self.next;
            running.entry(name).or_insert_with(|| {
                let number = (0..).find(|number| taken.insert(*number)).unwrap();
                *next += 1;
                (number, *next)
            });
        }
        self.running = running;
        let count = self.running.values().map(|(number, _)| number + 1).max().unwrap_or(0);
        self.net.config.monitors = vec![monitor(60, 15); count];
        for (port, (enters, leaves)) in (1..).zip(wanted) {
            let number = |name: &Option<u8>| name.map(|name| self.running[&name].0);
            let (enters, leaves) = (number(enters), number(leaves));
            (self.net.port(port).flow_in, self.net.port(port).flow_out) = (enters, leaves);
        }
        for (number, owner) in self.running.values() {
            self.owners[*number] = Some(*owner);
        }
        self.net.publish();
        self.settle();
        self.owners = [None; MONITORS_MAX];
        for (number, owner) in self.running.values() {
            self.owners[*number] = Some(*owner);
        }
    }

    /// Settles the flows while the ring is emptied.
    fn settle(&mut self) {
        let Net { worker, control, reports, now_ms, .. } = &mut self.net;
        let now = vswitch::time::Instant::from_ms(*now_ms);
        let mut records = Vec::new();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| control.settle_flows());
            while !asking.is_finished() {
                worker.turn(now);
                records.extend(std::iter::from_fn(|| reports.pop().ok()));
                std::thread::yield_now();
            }
            asking.join().unwrap().unwrap();
        });
        records.extend(self.net.records());
        self.take(&records);
    }

    fn frame(&mut self, from: u16, to: u16, number: u16, length: usize) {
        let all = to == from;
        let dst = if all { MacAddr::BROADCAST } else { mac(to) };
        self.net.through(from, &udp4(dst, mac(from), number, length));
        self.drain();
        let owner = |number: Option<usize>| number.and_then(|number| self.owners[number]);
        let mut seen: BTreeSet<u32> = owner(self.net.port(from).flow_in).into_iter().collect();
        for port in (1..=PORTS).filter(|port| *port != from && (all || *port == to)) {
            let leaves = self.net.port(port).flow_out;
            seen.extend(leaves.and_then(|number| self.owners[number]));
        }
        for owner in seen {
            *self.accepted.entry(owner).or_default() += 28 + length as u64;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Frames { from: u16, to: u16, first: u16, count: u16, length: usize },
    Change { wanted: Vec<Wanted>, changed: BTreeSet<u8> },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || proptest::option::of(0..4u8);
    let wanted = proptest::collection::vec((name(), name()), PORTS as usize);
    prop_oneof![
        6 => (1..=PORTS, 1..=PORTS, 0..60u16, 1..40u16, 0..40usize)
            .prop_map(|(from, to, first, count, length)| Step::Frames { from, to, first, count, length }),
        4 => (wanted, proptest::collection::btree_set(0..4u8, 0..3))
            .prop_map(|(wanted, changed)| Step::Change { wanted, changed }),
        1 => (0..40_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn each_monitor_is_told_exactly_what_it_has_counted(steps in proptest::collection::vec(step(), 1..40)) {
        let mut metered = Metered::new();
        for step in steps {
            match step {
                Step::Frames { from, to, first, count, length } => {
                    (first..first + count).for_each(|number| metered.frame(from, to, number, length));
                }
                Step::Change { wanted, changed } => {
                    metered.change(&wanted, &changed);
                    // Whoever is gone now has been told everything.
                    let live: BTreeSet<u32> = metered.running.values().map(|(_, owner)| *owner).collect();
                    for (owner, octets) in metered.accepted.iter().filter(|(owner, _)| !live.contains(owner)) {
                        prop_assert_eq!(metered.reported.get(owner), Some(octets));
                    }
                }
                Step::Wait(ms) => {
                    metered.net.after(ms);
                    metered.drain();
                }
            }
        }
        metered.change(&[(None, None); PORTS as usize], &BTreeSet::new());
        prop_assert_eq!(&metered.reported, &metered.accepted);
        prop_assert_eq!(metered.net.control.cache_stats().unmetered, 0);
    }
}

/// Flows that no frame touches any more are reported when their monitor goes, and not again.
#[test]
fn a_monitor_that_is_taken_away_is_told_at_once() {
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10)]), SMALL, Offloads::ALL, 512);
    net.config.monitors = vec![monitor(1800, 600)];
    net.port(1).flow_in = Some(0);
    net.publish();
    for number in 0..2500 {
        net.through(1, &udp4(MacAddr::BROADCAST, mac(1), number, 100));
    }
    let before = net.control.running();
    net.port(1).flow_in = None;
    net.publish();
    assert!(!net.control.running().watches_as(&before));
    net.ask(|control| control.settle_flows()).unwrap();
    let records = net.records();
    assert!(records.iter().all(|r| (r.end, r.monitors_in, r.packets) == (EndReason::Forced, 1, 1)));
    assert_eq!(records.len(), 2500);
    net.ask(|control| control.settle_flows()).unwrap();
    net.after(20_000);
    assert_eq!(net.records(), []);
    assert_eq!(net.control.cache_stats().active, 0, "the timers are those of flows that nobody watches");
}

/// Nobody empties the ring: what finds no room is counted, and nothing of it comes later under a number that may be
/// another's.
#[test]
fn what_finds_no_room_is_counted_and_does_not_come_later() {
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10)]), FEW, Offloads::ALL, 512);
    net.config.monitors = vec![monitor(1800, 600)];
    net.port(1).flow_in = Some(0);
    net.publish();
    for number in 0..100 {
        net.through(1, &udp4(MacAddr::BROADCAST, mac(1), number, 100));
    }
    net.port(1).flow_in = None;
    net.publish();
    // One is touched while the ring is full: it is counted under nobody from then on.
    let Net { worker, control, now_ms, .. } = &mut net;
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| control.settle_flows());
        while !asking.is_finished() {
            *now_ms += 1;
            worker.turn(vswitch::time::Instant::from_ms(*now_ms));
            std::thread::yield_now();
        }
        assert_eq!(asking.join().unwrap(), Ok(()));
    });
    net.through(1, &udp4(MacAddr::BROADCAST, mac(1), 99, 100));
    assert_eq!(net.control.cache_stats().unmetered, 100 - 64);
    assert_eq!(net.records().len(), 64);
    net.after(700_000);
    assert_eq!(net.records(), []);
}

#[test]
fn a_frame_of_another_monitor_that_finds_the_ring_full_does_not_mix() {
    let limits = Limits { records: 1, ..SMALL };
    let mut net = Net::with(config(vec![access(1, 10), access(2, 10)]), limits, Offloads::ALL, 512);
    net.config.monitors = vec![monitor(1800, 600); 2];
    net.port(1).flow_in = Some(0);
    net.publish();
    for number in 0..3 {
        net.through(1, &udp4(MacAddr::BROADCAST, mac(1), number, 100));
    }
    net.port(1).flow_in = Some(1);
    net.publish();
    for number in 0..3 {
        net.through(1, &udp4(MacAddr::BROADCAST, mac(1), number, 100));
    }
    let stats = net.control.cache_stats();
    assert_eq!((stats.unmetered, stats.summed), (0, 2));
    let records = net.records();
    assert_eq!(records.iter().map(|r| (r.monitors_in, r.packets)).collect::<Vec<_>>(), [(1, 1)]);
    let mut later = Vec::new();
    for _ in 0..4 {
        net.after(601_000);
        later.extend(net.records());
    }
    assert_eq!(later.iter().map(|r| (r.monitors_in, r.packets)).collect::<Vec<_>>(), [(1, 2), (2, 1), (2, 1), (2, 1)]);
    assert_eq!(later.iter().map(|r| r.flows).collect::<Vec<_>>(), [2, 1, 1, 1], "those that could not wait, in a sum");
}

#[test]
fn what_others_change_is_no_change_of_watchers() {
    let mut config = config(vec![access(1, 10), access(2, 10)]);
    config.monitors = vec![monitor(60, 15)];
    config.ports[0].flow_in = Some(0);
    let before = Snapshot::build(&config).unwrap();
    config.ports[1].mtu = 900;
    config.ports.push(access(3, 10));
    assert!(Snapshot::build(&config).unwrap().watches_as(&before));
    let without: Vec<_> = config.ports.iter().filter(|port| port.id != PortId(2)).cloned().collect();
    let without = vswitch::config::Config { ports: without, ..config.clone() };
    assert!(!Snapshot::build(&without).unwrap().watches_as(&before));
    config.ports[1].flow_out = Some(0);
    assert!(!Snapshot::build(&config).unwrap().watches_as(&before));
}

#[test]
fn a_switch_that_has_stopped_says_so() {
    let (worker, control, _records) = vswitch::worker::switch(SMALL);
    drop(worker);
    assert_eq!(control.settle_flows(), Err(Error::Stopped));
}
