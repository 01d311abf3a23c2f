//! The mirror as a thread, beside workers as threads: copies come, in order, whoever has seen the frames.

mod net;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net::frames::udp4;
use net::{SMALL, access, config, mac, vlans};
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
    let mut seen = Vec::new();
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
            // They may be many: the mover takes its time on a busy machine.
            seen.extend(std::iter::from_fn(|| copies.recv()).map(|(frame, _)| frame));
            assert!(asks.send(&numbered(mac(4), mac(3), turns), Default::default()));
            assert_eq!(number(&wait(&mut answers)), turns);
            assert!(answers.send(&numbered(mac(3), mac(4), turns), Default::default()));
            assert_eq!(number(&wait(&mut asks)), turns);
            turns += 1;
        }
        mover.join().unwrap();
        turns
    });
    let mut seen = seen.into_iter();
    for turn in 0..turns {
        for from in [3, 4] {
            let copy = seen.next().unwrap_or_else(|| wait(&mut copies));
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

/// Changes of the configuration in [`a_session_that_stays_copies_every_frame_once_whatever_changes_around_it`].
const CHANGES: u32 = 200;

/// The session that stays, as it is after so many changes: it always wants what port 3 receives, in one way or another.
fn stays(change: u32) -> SessionConfig {
    let (three, both) = (vec![PortId(3)], vec![PortId(3), PortId(4)]);
    let base = SessionConfig { id: 5, destinations: vec![PortId(9)], ..SessionConfig::default() };
    match change / 2 % 6 {
        0 => SessionConfig { rx_ports: three, ..base },
        1 => SessionConfig { rx_ports: both.clone(), tx_ports: both, ..base },
        2 => SessionConfig { rx_vlans: vlans("10"), ..base },
        3 => SessionConfig { tx_ports: vec![PortId(4)], truncate: Some(9000), ..base },
        4 => SessionConfig { rx_ports: three, filter_vlans: Some(vlans("10")), sampling: Some(1), ..base },
        _ => SessionConfig { tx_vlans: vlans("10"), filter_vlans: Some(vlans("10-20")), ..base },
    }
}

/// The sessions after so many changes. Those around the one that stays take its place and give it back.
fn around(change: u32) -> Vec<SessionConfig> {
    let other = |id, vlan| SessionConfig {
        id,
        rx_ports: vec![PortId(3)],
        filter_vlans: vlan,
        destinations: vec![PortId(8)],
        ..SessionConfig::default()
    };
    let mut sessions = vec![stays(change)];
    if change % 2 == 1 {
        sessions.insert(0, other(2, None));
    }
    if change % 3 == 1 {
        sessions.push(other(7, Some(vlans("20"))));
    }
    if change % 5 == 1 {
        sessions.insert(0, other(3, Some(vlans("20"))));
    }
    sessions
}

/// Sessions come and go before and behind one that stays, its own sources and filter change, and others look at what runs,
/// while frames flow: the session that stays copies each frame once, in order.
#[test]
fn a_session_that_stays_copies_every_frame_once_whatever_changes_around_it() {
    for workers in [1, 2] {
        let mut config = config(vec![access(3, 10), access(4, 10), access(8, 10), access(9, 10)]);
        config.sessions = vec![stays(0)];
        let running = Running::start(workers, &config);
        let (mut from, mut to) = (running.attach(3), running.attach(4));
        let (mut others, mut copies) = (running.attach(8), running.attach(9));
        let (control, changing) = (&running.control, AtomicBool::new(true));
        let sent = std::thread::scope(|scope| {
            scope.spawn(|| {
                for change in 0..CHANGES {
                    let config = Config { sessions: around(change), ..config.clone() };
                    control.publish(Snapshot::build_after(&config, &control.running()).unwrap()).unwrap();
                    // Some come as fast as they can.
                    std::thread::sleep(Duration::from_micros(500 * u64::from(change % 3)));
                }
                changing.store(false, Ordering::Relaxed);
            });
            // As whatever shows the state does.
            scope.spawn(|| {
                while changing.load(Ordering::Relaxed) {
                    std::hint::black_box(control.running());
                }
            });
            let (mut sent, mut next) = (0, 0);
            let mut turn = |sent: &mut u32, more: bool| {
                while others.recv().is_some() || to.recv().is_some() {}
                while let Some((frame, _)) = copies.recv() {
                    assert_eq!(number(&frame), next, "in order, none missing and none twice");
                    next += 1;
                }
                if more && *sent - next < 1_000 && from.send(&numbered(mac(4), mac(3), *sent), Default::default()) {
                    *sent += 1;
                }
                next
            };
            while changing.load(Ordering::Relaxed) {
                turn(&mut sent, true);
            }
            let until = Instant::now() + Duration::from_secs(20);
            while turn(&mut sent, false) < sent {
                assert!(Instant::now() < until, "some copies never came");
            }
            sent
        });
        let stats = control.session_stats(5);
        assert_eq!((stats.matched, stats.copied, stats.dropped), (sent.into(), sent.into(), 0));
        assert!(sent > CHANGES, "{sent} frames are too few");
        running.end();
    }
}

/// A mirror that gets no time to run while the configuration changes several times: it copies what was switched meanwhile as
/// the configuration of then says.
#[test]
fn a_mirror_that_hangs_while_the_configuration_changes_still_copies_every_frame() {
    let mut config = config(vec![access(3, 10), access(4, 10), access(9, 10)]);
    config.sessions = vec![stays(0)];
    let (mut workers, control, _reports) = switch_of(SMALL, 1);
    let (mut mirror, worker) = (control.mirror().unwrap(), workers.remove(0));
    let [stop, hang] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (ended, hangs) = (Arc::clone(&stop), Arc::clone(&hang));
    let working = std::thread::spawn(move || worker.run(Instant::now(), ended));
    let turning = std::thread::spawn(move || {
        while !hangs.load(Ordering::Acquire) {
            mirror.turn();
        }
        mirror
    });
    control.publish(Snapshot::build(&config).unwrap()).unwrap();
    let [mut from, mut to, mut copies] = [3, 4, 9].map(|id| {
        let (port, end) = memory::pair(64, Offloads::ALL);
        control.attach(PortId(id), Box::new(port)).unwrap();
        end
    });
    hang.store(true, Ordering::Release);
    let mut mirror = turning.join().unwrap();
    for change in 1..4 {
        // One that gets nothing takes the place of the one that stays, and gives it back.
        let other = SessionConfig { id: 2, filter_vlans: Some(vlans("20")), ..stays(0) };
        config.sessions = [vec![other; (change % 2) as usize], vec![stays(2 * change)]].concat();
        control.publish(Snapshot::build(&config).unwrap()).unwrap();
        assert!(from.send(&numbered(mac(4), mac(3), change), Default::default()));
        wait(&mut to);
    }
    while mirror.turn() > 0 {}
    let copied: Vec<u32> = std::iter::from_fn(|| copies.recv()).map(|(frame, _)| number(&frame)).collect();
    assert_eq!(copied, [1, 2, 3]);
    let stats = control.session_stats(5);
    assert_eq!((stats.matched, stats.copied, stats.dropped), (3, 3, 0));
    stop.store(true, Ordering::Release);
    working.join().unwrap();
}
