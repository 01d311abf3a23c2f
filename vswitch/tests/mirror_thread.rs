//! The mirror as a thread, beside workers as threads: copies come, in order, whoever has seen the frames.

mod net;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net::frames::udp4;
use net::{SMALL, access, config, mac};
use proto::addr::MacAddr;
use vswitch::config::{Config, SessionConfig};
use vswitch::control::Control;
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::worker::switch_of;

struct Running {
    control: Control,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(workers: usize, config: &Config) -> Running {
        let (workers, control, _reports) = switch_of(SMALL, workers);
        let (stop, epoch) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let mut mirror = control.mirror();
        assert!(control.mirror().is_none(), "there is one");
        let mut threads: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || worker.run(epoch, stop))
            })
            .collect();
        let ended = Arc::clone(&stop);
        let mirror = mirror.take().unwrap();
        threads.push(std::thread::spawn(move || mirror.run(epoch, &ended)));
        control.publish(Snapshot::build(config).unwrap()).unwrap();
        Running { control, stop, threads }
    }

    fn attach(&self, id: u16) -> MemoryEnd {
        let (port, end) = memory::pair(4096, Offloads::ALL);
        self.control.attach(PortId(id), Box::new(port)).unwrap();
        end
    }

    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Waits for a frame for as long as a test may take.
fn wait(end: &mut MemoryEnd) -> Vec<u8> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match end.recv() {
            Some((frame, _)) => return frame,
            None => assert!(Instant::now() < until, "no frame came"),
        }
        std::thread::yield_now();
    }
}

fn numbered(to: MacAddr, from: MacAddr, number: u32) -> Vec<u8> {
    let mut frame = udp4(to, from, 80, 10);
    frame[42..46].copy_from_slice(&number.to_be_bytes());
    frame
}

fn number(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[42..46].try_into().unwrap())
}

/// Question and answer go through two workers, and the ports' homes move meanwhile: no answer is copied before its question,
/// and each of them once.
#[test]
fn an_answer_is_copied_behind_its_question_though_two_workers_see_them() {
    let mut config = config(vec![access(3, 10), access(4, 10), access(9, 10)]);
    let watched = vec![PortId(3), PortId(4)];
    config.sessions =
        vec![SessionConfig { id: 5, rx_ports: watched, destinations: vec![PortId(9)], ..SessionConfig::default() }];
    let running = Running::start(2, &config);
    let (mut asks, mut answers, mut copies) = (running.attach(3), running.attach(4), running.attach(9));
    let moving = AtomicBool::new(true);
    let turns = std::thread::scope(|scope| {
        let control = &running.control;
        let mover = scope.spawn(|| {
            for moves in 0..40 {
                control.move_port(PortId(3 + moves % 2), usize::from(moves / 2 % 2)).unwrap();
                std::thread::yield_now();
            }
            moving.store(false, Ordering::Relaxed);
        });
        let mut turns = 0u32;
        while moving.load(Ordering::Relaxed) || turns < 500 {
            assert!(asks.send(&numbered(mac(4), mac(3), turns), Default::default()));
            assert_eq!(number(&wait(&mut answers)), turns);
            assert!(answers.send(&numbered(mac(3), mac(4), turns), Default::default()));
            assert_eq!(number(&wait(&mut asks)), turns);
            turns += 1;
        }
        mover.join().unwrap();
        turns
    });
    for turn in 0..turns {
        for from in [3, 4] {
            let copy = wait(&mut copies);
            assert_eq!((&copy[6..12], number(&copy)), (mac(from).0.as_slice(), turn));
        }
    }
    let stats = running.control.session_stats(5);
    assert_eq!((stats.matched, stats.copied, stats.dropped), (2 * u64::from(turns), 2 * u64::from(turns), 0));
    running.end();
    assert_eq!(copies.recv().map(|(frame, _)| number(&frame)), None, "nothing is left");
}

/// A frame wakes a mirror that sleeps; a destination that comes, goes and comes again gets copies whenever it is there.
#[test]
fn a_sleeping_mirror_is_woken_and_destinations_come_and_go() {
    let mut config = config(vec![access(1, 10), access(2, 10), access(9, 10)]);
    let session =
        SessionConfig { rx_ports: vec![PortId(1)], destinations: vec![PortId(9)], ..SessionConfig::default() };
    let running = Running::start(1, &config);
    let (mut one, mut two, mut nine) = (running.attach(1), running.attach(2), running.attach(9));
    let copied = |[one, two, nine]: [&mut MemoryEnd; 3], number: u32| {
        // Longer than all naps together.
        std::thread::sleep(Duration::from_millis(5));
        assert!(one.send(&numbered(MacAddr::BROADCAST, mac(1), number), Default::default()));
        wait(two);
        assert_eq!(self::number(&wait(nine)), number);
    };
    let publish = |config: &Config| running.control.publish(Snapshot::build(config).unwrap()).unwrap();
    // A member of the VLAN gets it as well.
    copied([&mut one, &mut two, &mut nine], 1);
    config.sessions = vec![session];
    publish(&config);
    (2..12).for_each(|number| copied([&mut one, &mut two, &mut nine], number));
    running.control.detach(PortId(9)).unwrap();
    assert!(one.send(&numbered(MacAddr::BROADCAST, mac(1), 12), Default::default()));
    wait(&mut two);
    let mut nine = running.attach(9);
    copied([&mut one, &mut two, &mut nine], 13);
    config.sessions.clear();
    publish(&config);
    copied([&mut one, &mut two, &mut nine], 14);
    let stats = running.control.session_stats(0);
    assert_eq!((stats.matched, stats.copied), (12, 11));
    running.end();
}
