//! The handle and the thread: publish, attach, ask, sleep, wake, stop.

mod net;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use net::frames::udp4;
use net::{Net, access, config, mac, monitor};
use vswitch::control::Error;
use vswitch::port::memory::pair;
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::verdict::DropReason;
use vswitch::worker::{Limits, switch};

fn within_2_s(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(2), "not within 2 s");
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_thread_forwards_answers_and_reports_its_flows_when_it_stops() {
    let (worker, control, mut reports) = switch(Limits { flows: 1024, macs: 64, macs_per_port: 32, records: 64 });
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || worker.run(Instant::now(), stop))
    };
    let mut config = config(vec![access(1, 10), access(2, 10)]);
    config.monitors = vec![monitor(60, 15)];
    config.ports[0].flow_in = Some(0);
    control.publish(Snapshot::build(&config).unwrap()).unwrap();
    let (one, mut end_one) = pair(16, Offloads::ALL);
    let (two, mut end_two) = pair(16, Offloads::ALL);
    control.attach(PortId(1), Box::new(one)).unwrap();
    control.attach(PortId(2), Box::new(two)).unwrap();
    assert!(end_one.send(&udp4(mac(2), mac(1), 80, 10), Default::default()));
    within_2_s(|| end_two.recv().is_some());
    assert_eq!(control.macs().unwrap().len(), 1);
    assert_eq!(control.flows(Default::default(), 10).unwrap().1, 1);
    assert!(control.drop_samples().unwrap().is_empty());
    drop(end_two);
    within_2_s(|| control.gone_ports() == [PortId(2)]);
    control.detach(PortId(2)).unwrap();
    assert_eq!(control.gone_ports(), []);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let record = reports.pop().unwrap();
    assert_eq!((record.packets, record.monitors_in), (1, 1));
    assert_eq!(control.publish(Snapshot::build(&config).unwrap()), Err(Error::Stopped));
}

#[test]
fn mistakes_are_answered() {
    let mut net = Net::new(config(vec![access(1, 10)]));
    let attach =
        |id: u16| move |c: &vswitch::control::Control| c.attach(PortId(id), Box::new(pair(1, Offloads::ALL).0));
    assert_eq!(net.ask(attach(1)), Err(Error::PortTaken(1)));
    assert_eq!(net.ask(attach(1024)), Err(Error::PortNumber(1024)));
    assert_eq!(net.ask(|c| c.detach(PortId(7))), Err(Error::PortFree(7)));
}

#[test]
fn clearing_is_the_readers_and_leaves_the_law() {
    let mut net = Net::new(config(vec![access(1, 10)]));
    for _ in 0..3 {
        net.send(1, &udp4(mac(2), mac(1), 80, 10));
    }
    net.turn();
    assert_eq!(net.drops(1, DropReason::NoDestination), 3);
    net.control.clear_port_counters(PortId(1));
    assert_eq!(net.counters(1).rx.frames(), 0);
    net.send(1, &udp4(mac(2), mac(1), 80, 10));
    net.turn();
    assert_eq!((net.counters(1).rx.frames(), net.drops(1, DropReason::NoDestination)), (1, 1));
}
