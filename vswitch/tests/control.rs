//! The handle and the thread: publish, attach, ask, sleep, wake, stop.

mod net;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use net::frames::udp4;
use net::{Net, access, config, mac, monitor};
use vswitch::control::Error;
use vswitch::frame::vnet::{NEEDS_CSUM, VnetHdr};
use vswitch::frame::{Buffer, TxFrame};
use vswitch::port::memory::pair;
use vswitch::port::{Offloads, Port, PortId, Sent};
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
    let (worker, control, mut reports) =
        switch(Limits { flows: 1024, macs: 64, macs_per_port: 32, records: 64, evicted_per_s: 200_000 });
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

/// A port with a descriptor: one datagram is one frame.
struct Socket(UnixDatagram);

impl Port for Socket {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, vswitch::port::Error> {
        let mut filled = 0;
        for buffer in buffers {
            let Ok(len) = self.0.recv(buffer.room()) else { break };
            buffer.set_len(len);
            buffer.vnet = Default::default();
            filled += 1;
        }
        Ok(filled)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        for frame in frames {
            match self.0.send(&[frame.head, frame.rest].concat()) {
                Ok(_) => sent.accepted += 1,
                Err(_) => break,
            }
        }
        sent
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// Nothing polls these ports, so every frame and every answer proves that the worker was woken, also out of its sleep.
#[test]
fn a_sleeping_worker_is_woken_by_frames_and_by_questions() {
    let (worker, control, _reports) =
        switch(Limits { flows: 1024, macs: 64, macs_per_port: 32, records: 64, evicted_per_s: 200_000 });
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || worker.run(Instant::now(), stop))
    };
    control.publish(Snapshot::build(&config(vec![access(1, 10), access(2, 10)])).unwrap()).unwrap();
    let ends: Vec<UnixDatagram> = (1..3)
        .map(|id| {
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            control.attach(PortId(id), Box::new(Socket(ours))).unwrap();
            theirs
        })
        .collect();
    let mut room = [0; 2048];
    for n in 0..200 {
        for _ in 0..1 + n % 3 {
            ends[0].send(&udp4(mac(2), mac(1), n, 10)).unwrap();
            assert_eq!(ends[1].recv(&mut room).unwrap(), 52);
        }
        if n % 50 == 0 {
            let counted = control.port_counters(PortId(1)).rx.frames();
            // The worker goes to sleep when it has found nothing for a few turns; the answer ends it.
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(control.macs().unwrap().len(), 1);
            assert_eq!(control.port_counters(PortId(1)).rx.frames(), counted);
        }
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

/// Frames that were sent, and whether their checksum is unfinished.
type Outbox = Arc<Mutex<Vec<(Vec<u8>, bool)>>>;

/// A port that is looked at without a system call, and that tells of arrivals only when it was armed for that.
struct Ring {
    frames: Arc<Mutex<VecDeque<Vec<u8>>>>,
    sent: Outbox,
    bell: OwnedFd,
    armed: Arc<AtomicBool>,
    arms: Arc<AtomicUsize>,
    csum: Arc<AtomicBool>,
}

impl Port for Ring {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, vswitch::port::Error> {
        if self.armed.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        }
        let mut frames = self.frames.lock().unwrap();
        let filled = frames.len().min(buffers.len());
        for (buffer, frame) in buffers.iter_mut().zip(frames.drain(..filled)) {
            buffer.fill(&frame, Default::default());
        }
        Ok(filled)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let frame = |frame: &TxFrame<'_>| ([frame.head, frame.rest].concat(), frame.vnet.needs_csum());
        self.sent.lock().unwrap().extend(frames.iter().map(frame));
        Sent { accepted: frames.len(), ..Sent::default() }
    }

    fn offloads(&self) -> Offloads {
        Offloads { csum: self.csum.load(Ordering::SeqCst), ..Offloads::NONE }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.bell.as_fd())
    }

    fn polls(&self) -> bool {
        true
    }

    fn arm(&mut self) -> bool {
        self.arms.fetch_add(1, Ordering::SeqCst);
        self.armed.store(true, Ordering::SeqCst);
        !self.frames.lock().unwrap().is_empty()
    }
}

/// The guest's end of a [`Ring`].
struct RingEnd {
    frames: Arc<Mutex<VecDeque<Vec<u8>>>>,
    sent: Outbox,
    bell: OwnedFd,
    armed: Arc<AtomicBool>,
    arms: Arc<AtomicUsize>,
    csum: Arc<AtomicBool>,
}

impl RingEnd {
    /// Rings only if the port asks for it, as a virtio guest does. Whether it did.
    fn send(&self, frame: Vec<u8>) -> bool {
        self.frames.lock().unwrap().push_back(frame);
        let armed = self.armed.load(Ordering::SeqCst);
        if armed {
            rustix::io::write(&self.bell, &1u64.to_ne_bytes()).unwrap();
        }
        armed
    }
}

fn ring() -> (Ring, RingEnd) {
    let bell = rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
    let port = Ring {
        frames: Arc::default(),
        sent: Arc::default(),
        bell: bell.try_clone().unwrap(),
        armed: Arc::default(),
        arms: Arc::default(),
        csum: Arc::default(),
    };
    let end = RingEnd {
        frames: Arc::clone(&port.frames),
        sent: Arc::clone(&port.sent),
        bell,
        armed: Arc::clone(&port.armed),
        arms: Arc::clone(&port.arms),
        csum: Arc::clone(&port.csum),
    };
    (port, end)
}

/// Frames come at every stage of the worker's rest: none is forgotten, and the long sleep comes only after arming.
#[test]
fn a_port_that_polls_is_armed_before_the_worker_sleeps_and_no_arrival_is_missed() {
    let (worker, control, _reports) =
        switch(Limits { flows: 1024, macs: 64, macs_per_port: 32, records: 64, evicted_per_s: 200_000 });
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || worker.run(Instant::now(), stop))
    };
    control.publish(Snapshot::build(&config(vec![access(1, 10), access(2, 10)])).unwrap()).unwrap();
    let ((one, end_one), (two, end_two)) = (ring(), ring());
    control.attach(PortId(1), Box::new(one)).unwrap();
    control.attach(PortId(2), Box::new(two)).unwrap();
    let mut rang = 0;
    for n in 0..300u16 {
        let start = Instant::now();
        // From at once to some milliseconds later: while it spins, naps, arms, and sleeps.
        while start.elapsed() < Duration::from_micros(u64::from(n % 30) * 100) {
            std::thread::yield_now();
        }
        rang += u32::from(end_one.send(udp4(mac(2), mac(1), n, 10)));
        within_2_s(|| end_two.sent.lock().unwrap().len() == usize::from(n) + 1);
    }
    assert!(rang > 0 && rang < 300, "{rang} of 300 found the worker asleep");
    within_2_s(|| control.loads()[0].sleeps > 0);
    let load = &control.loads()[0];
    assert!(load.naps > 0 && load.frames == 300 && load.busy_ns > 0, "{load:?}");
    assert_eq!(load.ports.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1]);
    assert!(end_one.arms.load(Ordering::SeqCst) >= rang as usize);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn a_guest_that_comes_back_with_other_offloads_gets_frames_accordingly() {
    let mut net = Net::new(config(vec![access(1, 10), access(2, 10)]));
    net.worker_detach(2);
    let (port, end) = ring();
    assert!(net.worker.attach(PortId(2), Box::new(port)).is_ok());
    let vnet = VnetHdr { flags: NEEDS_CSUM, csum_start: 34, csum_offset: 6, ..VnetHdr::PLAIN };
    for csum in [false, true, false] {
        end.csum.store(csum, Ordering::SeqCst);
        net.send_vnet(1, &udp4(mac(2), mac(1), 80, 10), vnet);
        net.turn();
        let (_, unfinished) = end.sent.lock().unwrap().pop().unwrap();
        assert_eq!(unfinished, csum);
    }
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
