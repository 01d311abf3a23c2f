use std::net::SocketAddr;
use std::path::Path;

use super::super::key::Secret;
use super::super::spool::Limits;
use super::super::wire::Frame;
use super::*;

const OPTIONS: Options = Options { memory: 10_000, fsync: Fsync::Never };

fn open(dir: &Path, kept: Option<(u64, u64)>, octets: u64) -> Queue {
    let limits = Limits { octets, age_ms: 600_000 };
    let (spool, found) = Spool::open(dir, Secret::new(&[1; 32]).unwrap(), limits, 0).unwrap();
    Queue::new(spool, found, kept, OPTIONS)
}

fn at(ms: u64) -> Now {
    Now { ms, unix_ns: ms * 1_000_000 }
}

fn push(queue: &mut Queue, count: usize, now: Now) {
    let source: SocketAddr = "192.0.2.1:9".parse().unwrap();
    for _ in 0..count {
        queue.push([(source, &[7; 1000][..])].into_iter(), now);
    }
}

/// All that is there: numbers of frames, and gaps.
fn drain(queue: &mut Queue, mut after: u64) -> (Vec<u64>, Vec<Gap>) {
    let (mut numbers, mut gaps) = (Vec::new(), Vec::new());
    while let Some(item) = queue.after(after) {
        after = match item {
            Item::Frame(number, frame) => {
                let (Frame::Data(_, data), _) = wire::decode(&frame).unwrap().unwrap() else { panic!("no data") };
                assert_eq!((data.number, data.octets.len()), (number, 1000));
                numbers.push(number);
                number
            }
            Item::Gap(gap) => {
                assert_eq!(gap.first, after + 1);
                gaps.push(gap);
                gap.last
            }
        };
    }
    assert_eq!(after + 1, queue.next());
    (numbers, gaps)
}

#[test]
fn frames_come_from_memory_and_from_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(&dir.path().join("s"), None, 1 << 30);
    push(&mut queue, 100, at(0));
    assert!(queue.memory() <= OPTIONS.memory);
    assert_eq!(drain(&mut queue, 0), ((1..=100).collect(), vec![]));
    assert_eq!(drain(&mut queue, 50).0.len(), 50, "again after a connection broke");
    queue.ack(95);
    assert_eq!(drain(&mut queue, 95).0, [96, 97, 98, 99, 100]);
    queue.ack(100);
    assert_eq!(queue.memory(), 0);
    assert_eq!(queue.counts().lost_size, 0);
}

#[test]
fn a_restart_goes_on_where_the_numbers_were_or_far_above() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    push(&mut open(&path, None, 1 << 30), 10, at(0));
    let mut queue = open(&path, Some((11, 4)), 1 << 30);
    assert_eq!((queue.next(), queue.acked()), (11, 4));
    push(&mut queue, 1, at(0));
    assert_eq!(drain(&mut queue, 4), ((5..=11).collect(), vec![]));
    drop(queue);
    // Three were in memory only.
    let mut queue = open(&path, Some((15, 4)), 1 << 30);
    let gap = Gap { first: 12, last: 14, lost: 3, reason: Reason::Restart };
    assert_eq!(drain(&mut queue, 4), ((5..=11).collect(), vec![gap]));
    drop(queue);
    let mut queue = open(&path, None, 1 << 30);
    push(&mut queue, 1, at(0));
    let gap = Gap { first: 12, last: 11 + JUMP, lost: 0, reason: Reason::Restart };
    assert_eq!(drain(&mut queue, 0), ((1..=11).chain([12 + JUMP]).collect(), vec![gap]));
}

#[test]
fn a_full_spool_drops_whole_segments_counts_and_announces() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(&dir.path().join("s"), None, 100_000);
    push(&mut queue, 200, at(0));
    let lost = queue.counts().lost_size;
    let (numbers, gaps) = drain(&mut queue, 0);
    assert_eq!(gaps, [Gap { first: 1, last: lost, lost, reason: Reason::Size }]);
    assert_eq!(numbers, (lost + 1..=200).collect::<Vec<_>>());
    assert!((70..=90).contains(&numbers.len()), "{}", numbers.len());
}

#[test]
fn what_is_too_old_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(&dir.path().join("s"), None, 1 << 30);
    push(&mut queue, 20, at(0));
    push(&mut queue, 20, at(400_000));
    queue.tick(at(600_000));
    assert_eq!(queue.counts().lost_age, 0);
    queue.tick(at(600_001));
    let gap = Gap { first: 1, last: 20, lost: 20, reason: Reason::Age };
    assert_eq!((queue.counts().lost_age, drain(&mut queue, 0)), (20, ((21..=40).collect(), vec![gap])));
    // A clock that is set is another clock.
    queue.tick(Now { ms: 600_002, unix_ns: u64::MAX / 2 });
    assert_eq!(queue.counts().lost_age, 20);
}

#[test]
fn without_a_disk_the_memory_holds_the_newest() {
    let mut queue = Queue::in_memory([1; 16], OPTIONS);
    push(&mut queue, 100, at(0));
    let lost = queue.counts().lost_memory;
    assert_eq!(lost, 91);
    let gap = Gap { first: 1, last: lost, lost, reason: Reason::Memory };
    assert_eq!(drain(&mut queue, 0), ((lost + 1..=100).collect(), vec![gap]));
}

#[test]
fn a_disk_that_fails_is_tried_again_and_gets_what_it_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut queue = open(&path, None, 1 << 30);
    // No file can be made where a directory has its name.
    std::fs::create_dir(path.join("00000000000000000001.segment")).unwrap();
    push(&mut queue, 5, at(0));
    assert!(queue.disk_error().is_some());
    assert_eq!(drain(&mut queue, 0).0.len(), 5, "it goes on without");
    std::fs::remove_dir(path.join("00000000000000000001.segment")).unwrap();
    push(&mut queue, 1, at(999));
    assert_eq!((queue.spool().unwrap().frames(), queue.counts().disk_errors), (0, 1));
    push(&mut queue, 1, at(1000));
    assert_eq!((queue.spool().unwrap().frames(), queue.disk_error()), (7, None));
    drop(queue);
    assert_eq!(drain(&mut open(&path, Some((8, 0)), 1 << 30), 0).0.len(), 7);
}

#[test]
fn a_receiver_that_knows_more_is_believed() {
    let mut queue = Queue::in_memory([1; 16], OPTIONS);
    push(&mut queue, 2, at(0));
    queue.ack(50);
    assert_eq!((queue.next(), queue.acked()), (51, 50));
    push(&mut queue, 1, at(0));
    assert_eq!(drain(&mut queue, 50).0, [51]);
}
