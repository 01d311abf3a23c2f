//! Both sides without sockets, a network that cuts, and a clock that is ours.

use std::path::Path;

use vswitch::port::datagram::Outbox;

use super::backoff::Backoff;
use super::key::Secret;
use super::queue::{Fsync, Now, Options, Queue};
use super::receiver::{Deliver, Delivery, Stream};
use super::sender::Sender;
use super::session::{Event, Session};
use super::spool::{Limits, Spool};
use super::wire::{Data, StreamId};

const RECORD: usize = 48;
const RECORDS: usize = 25;
/// Records a second, and thus datagrams.
const RATE: u64 = 20_000;
const STEP_MS: u64 = 100;

/// Looks at every record: each once, in order.
#[derive(Default)]
struct Collector {
    next: u64,
    away: bool,
}

impl Deliver for Collector {
    fn deliver(&mut self, _: &Outbox, _: usize, data: &Data) -> Delivery {
        if self.away {
            return Delivery::Away;
        }
        for record in data.octets[20..].chunks(RECORD) {
            assert_eq!(u64::from_be_bytes(record[..8].try_into().unwrap()), self.next, "once, in order");
            self.next += 1;
        }
        Delivery::Done
    }
}

struct World {
    dir: tempfile::TempDir,
    secret: Secret,
    limits: Limits,
    sender: Sender,
    stream: Stream,
    session: Option<Session>,
    collector: Collector,
    now: Now,
    records: u64,
    /// What outlives a sender's process.
    kept: (u64, u64),
    reachable: bool,
}

fn at(ms: u64) -> Now {
    Now { ms, unix_ns: ms * 1_000_000 }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = Secret::new(&[3; 32]).unwrap();
        let limits = Limits { octets: 16 << 30, age_ms: 24 * 3_600_000 };
        let sender = sender(dir.path(), &secret, limits, None, at(0));
        let id = sender.queue.stream();
        let stream = Stream::open(dir.path(), id, 1).unwrap();
        let collector = Collector::default();
        let (now, kept) = (at(0), (1, 0));
        World { dir, secret, limits, sender, stream, session: None, collector, now, records: 0, kept, reachable: true }
    }

    /// A datagram as an exporter sends it.
    fn export(&mut self) {
        let mut octets = vec![0; 20 + RECORD * RECORDS];
        for record in octets[20..].chunks_mut(RECORD) {
            record[..8].copy_from_slice(&self.records.to_be_bytes());
            self.records += 1;
        }
        let source = "192.0.2.7:2055".parse().unwrap();
        self.sender.queue.push([(source, &octets[..])].into_iter(), self.now);
        self.kept = (self.sender.queue.next(), self.sender.queue.acked());
    }

    /// A tenth of a second, with its records.
    fn step(&mut self) {
        for _ in 0..RATE / RECORDS as u64 / (1000 / STEP_MS) {
            self.export();
        }
        self.now = at(self.now.ms + STEP_MS);
        self.turn();
    }

    fn turn(&mut self) {
        self.sender.queue.tick(self.now);
        if self.sender.due_ms().is_some_and(|due| self.now.ms >= due) {
            self.sender.connecting();
            if self.reachable {
                self.sender.connected(self.now);
                self.session = Some(Session::new(self.now));
            } else {
                self.sender.disconnected(self.now, "no route".to_owned(), 0);
            }
        }
        while self.exchange(usize::MAX) {}
    }

    /// Carries what is there, at most `most` octets to the receiver, and says whether there was something.
    fn exchange(&mut self, most: usize) -> bool {
        let World { sender, session: Some(session), stream, collector, now, .. } = self else { return false };
        sender.proceed(*now).unwrap();
        let out = sender.outgoing();
        let count = out.len().min(most);
        session.receive(&out[..count], *now);
        sender.sent(count);
        while let Some(event) = session.next_event().unwrap() {
            match event {
                Event::Hello { acked, name, .. } => session.welcome(stream, acked, name),
                Event::Frame(frame) => session.give(stream, frame).unwrap(),
            }
        }
        while stream.deliver(collector, 1000) {}
        stream.sync().unwrap();
        session.acknowledge(stream, *now);
        session.tick(*now).unwrap();
        let back = session.outgoing().to_vec();
        session.sent(back.len());
        sender.receive(&back, *now).unwrap();
        self.kept.1 = self.sender.queue.acked();
        count > 0 || !back.is_empty()
    }

    /// The connection breaks after `octets`.
    fn cut(&mut self, octets: usize) {
        self.exchange(octets);
        self.session = None;
        if self.sender.due_ms().is_none() {
            self.sender.disconnected(self.now, "cut".to_owned(), 0);
        }
    }

    fn kill_sender(&mut self) {
        let elsewhere = tempfile::tempdir().unwrap();
        self.sender = sender(elsewhere.path(), &self.secret, self.limits, None, self.now);
        self.sender = sender(self.dir.path(), &self.secret, self.limits, Some(self.kept), self.now);
        self.session = None;
    }

    fn kill_receiver(&mut self) {
        let id: StreamId = self.stream.id();
        let elsewhere = tempfile::tempdir().unwrap();
        self.stream = Stream::open(elsewhere.path(), id, 1).unwrap();
        self.stream = Stream::open(self.dir.path(), id, 1).unwrap();
        self.cut(0);
    }
}

fn sender(dir: &Path, secret: &Secret, limits: Limits, kept: Option<(u64, u64)>, now: Now) -> Sender {
    let (spool, found) = Spool::open(&dir.join("spool"), secret.clone(), limits, now.ms).unwrap();
    let options = Options { memory: 1 << 20, fsync: Fsync::Never };
    Sender::new(Queue::new(spool, found, kept, options), "test".to_owned(), Backoff::new(true))
}

/// `OUTAGE_S=3600` is the hour of `make relay-kills`.
#[test]
fn after_an_outage_every_record_is_there_once_and_in_order() {
    let seconds: u64 = std::env::var("OUTAGE_S").map_or(20, |s| s.parse().unwrap());
    let mut world = World::new();
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(world.collector.next, world.records, "connected: at once");
    world.reachable = false;
    world.cut(100_000);
    let steps = seconds * 1000 / STEP_MS;
    for step in 0..steps {
        world.step();
        if step % (steps / 10) == 7 {
            world.kill_sender();
        }
    }
    assert!(world.sender.queue.spool().unwrap().segments() as u64 >= seconds / 300);
    assert_eq!(world.records, RATE * (seconds + 1));
    world.reachable = true;
    let missing = world.records - world.collector.next;
    let mut random = 1_u64;
    for round in 0..100_000 {
        world.now = at(world.now.ms + 1000);
        world.sender.retry_now();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        world.turn_for(random >> 44, missing / 20);
        match round % 3 {
            0 => world.kill_sender(),
            1 => world.kill_receiver(),
            _ => world.cut(random as usize >> 50),
        }
        if world.collector.next == world.records {
            break;
        }
    }
    world.now = at(world.now.ms + 243_000);
    world.sender.retry_now();
    world.turn();
    assert_eq!(world.collector.next, world.records);
    assert_eq!(world.sender.queue.acked() + 1, world.sender.queue.next());
    assert_eq!(world.stream.counts().lost, 0);
}

impl World {
    /// Talks until some `records` more are delivered, the last time with `octets` only.
    fn turn_for(&mut self, octets: u64, records: u64) {
        let goal = self.collector.next + records;
        self.sender.connecting();
        self.sender.connected(self.now);
        self.session = Some(Session::new(self.now));
        while self.collector.next < goal && self.exchange(50_000) {}
        self.exchange(octets as usize);
    }
}

#[test]
fn a_collector_that_is_away_holds_up_and_loses_nothing() {
    let mut world = World::new();
    world.step();
    world.collector.away = true;
    for _ in 0..100 {
        world.step();
    }
    assert!(world.stream.is_away(0));
    let under_way = world.stream.received() - world.stream.delivered();
    assert!(under_way * 1200 <= 5 << 20, "{under_way} datagrams in the receiver's memory");
    world.collector.away = false;
    world.step();
    world.step();
    assert_eq!(world.collector.next, world.records);
    assert!(!world.stream.is_away(0));
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let mut world = World::new();
    for (step, unix_ns) in [0, u64::MAX, 1, 4_000_000_000_000_000_000, 0].into_iter().enumerate() {
        world.now.unix_ns = unix_ns;
        world.export();
        world.now = Now { ms: 1000 * step as u64, unix_ns };
        world.turn();
        assert_eq!(world.collector.next, world.records);
    }
}

#[test]
fn a_silent_peer_is_left_and_a_talkative_stranger_too() {
    let mut world = World::new();
    world.step();
    let late = at(world.now.ms + 30_001);
    assert_eq!(world.sender.proceed(late), Err(super::sender::Error::Silent));
    let session = world.session.as_mut().unwrap();
    assert_eq!(session.tick(late), Err(super::receiver::Error::Silent));
    let mut stranger = Session::new(late);
    stranger.receive(&super::wire::Frame::Ack(1).encode(), late);
    assert!(matches!(stranger.next_event(), Err(super::receiver::Error::Nonsense)));
    let mut stranger = Session::new(late);
    stranger.receive(b"GET / HTTP/1.1\r\n\r\n", late);
    assert!(matches!(stranger.next_event(), Err(super::receiver::Error::Wire(_))));
}

#[test]
fn the_receivers_lost_state_does_not_stop_a_stream() {
    let mut world = World::new();
    world.step();
    let elsewhere = tempfile::tempdir().unwrap();
    world.stream = Stream::open(elsewhere.path(), world.stream.id(), 1).unwrap();
    world.cut(0);
    world.now = at(world.now.ms + 5_000);
    world.step();
    assert_eq!(world.collector.next, world.records, "the sender says what was acknowledged");
}
