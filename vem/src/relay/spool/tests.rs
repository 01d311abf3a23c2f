use std::os::unix::fs::PermissionsExt;

use super::*;

const LIMITS: Limits = Limits { octets: 1 << 30, age_ms: 3_600_000 };

fn secret(octet: u8) -> Secret {
    Secret::new(&[octet; 32]).unwrap()
}

fn open(dir: &Path) -> (Spool, Found) {
    Spool::open(dir, secret(1), LIMITS, 0).unwrap()
}

fn frame(number: u64) -> Vec<u8> {
    format!("plaintext of {number} {}", "x".repeat(number as usize % 50)).into_bytes()
}

fn append(spool: &mut Spool, numbers: std::ops::RangeInclusive<u64>, now_ms: u64) {
    let frames: Vec<(u64, Vec<u8>)> = numbers.map(|n| (n, frame(n))).collect();
    let frames: Vec<(u64, &[u8])> = frames.iter().map(|(n, f)| (*n, &f[..])).collect();
    spool.append(&frames, now_ms).unwrap();
}

fn all(spool: &mut Spool, from: u64) -> Vec<u64> {
    let (mut from, mut out) = (from, Vec::new());
    while let Some((number, octets)) = spool.read(from, u64::MAX).unwrap() {
        assert_eq!(octets, frame(number));
        out.push(number);
        from = number + 1;
    }
    out
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "segment"));
    files.sort();
    files
}

#[test]
fn frames_are_there_again_after_a_restart_in_order_and_unreadable_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let (mut spool, found) = open(&path);
    assert_eq!(found, Found { last: 0, torn: false });
    append(&mut spool, 1..=10, 0);
    append(&mut spool, 11..=30, 0);
    assert_eq!(all(&mut spool, 1), (1..=30).collect::<Vec<_>>());
    assert_eq!(all(&mut spool, 25), (25..=30).collect::<Vec<_>>(), "back and forth");
    assert_eq!(all(&mut spool, 3), (3..=30).collect::<Vec<_>>());
    let stream = spool.stream();
    drop(spool);
    let (mut spool, found) = open(&path);
    assert_eq!((found, spool.stream()), (Found { last: 30, torn: false }, stream));
    append(&mut spool, 31..=31, 0);
    assert_eq!((spool.segments(), spool.frames()), (2, 31), "never on with a segment of another process");
    assert_eq!(all(&mut spool, 29), [29, 30, 31]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    for file in files(&path) {
        let octets = fs::read(&file).unwrap();
        assert!(!octets.windows(9).any(|window| window == b"plaintext"));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn another_key_is_refused_and_what_is_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    append(&mut open(&path).0, 1..=3, 0);
    assert!(matches!(Spool::open(&path, secret(2), LIMITS, 0), Err(Error::Key(_))));
    assert_eq!(open(&path).1.last, 3);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Spool::open(&path, secret(1), LIMITS, 0), Err(Error::Mode { mode: 0o755, .. })));
}

#[test]
fn whatever_octet_is_cut_or_flipped_every_other_frame_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    append(&mut open(&path).0, 1..=6, 0);
    let file = files(&path).remove(0);
    let good = fs::read(&file).unwrap();
    let starts: Vec<usize> =
        (1..=6).scan(segment::HEADER, |at, n| Some(std::mem::replace(at, *at + 34 + frame(n).len()))).collect();
    for cut in segment::HEADER..good.len() {
        fs::write(&file, &good[..cut]).unwrap();
        let (mut spool, found) = open(&path);
        let whole = starts.iter().skip(1).chain([&good.len()]).filter(|end| **end <= cut).count() as u64;
        assert_eq!((found.last, all(&mut spool, 1)), (whole, (1..=whole).collect()), "cut at {cut}");
        assert_eq!(found.torn, cut != segment::HEADER && !starts.contains(&cut), "cut at {cut}");
    }
    for at in (segment::HEADER..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&file, &bad).unwrap();
        let (mut spool, _) = open(&path);
        let hit = starts.iter().filter(|start| **start <= at).count() as u64;
        assert_eq!(all(&mut spool, 1), (1..=6).filter(|n| *n != hit).collect::<Vec<_>>(), "octet {at}");
        let (octets, frames) = spool.damaged();
        assert!(octets > 0 || frames > 0);
    }
}

#[test]
fn segments_end_by_time_and_size_and_go_when_they_are_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { octets: 40_000, ..LIMITS };
    let (mut spool, _) = Spool::open(&dir.path().join("s"), secret(1), limits, 0).unwrap();
    append(&mut spool, 1..=2, 0);
    append(&mut spool, 3..=3, SEGMENT_MS);
    assert_eq!(spool.segments(), 2);
    for n in 4..=300 {
        append(&mut spool, n..=n, SEGMENT_MS);
    }
    assert_eq!(spool.segments(), 4, "a quarter of the limit each");
    spool.trim(2);
    assert_eq!(spool.segments(), 3);
    spool.trim(3);
    assert_eq!(spool.segments(), 3);
    assert!(!spool.is_over_size());
    for n in 301..=600 {
        append(&mut spool, n..=n, SEGMENT_MS);
    }
    assert!(spool.is_over_size());
    let dropped = spool.drop_oldest(0).unwrap();
    assert_eq!(dropped.frames, dropped.last - 2);
    let dropped_more = spool.drop_oldest(dropped.last + 10).unwrap();
    assert_eq!(dropped_more.frames, dropped_more.last - dropped.last - 10, "what is acknowledged is not lost");
    assert_eq!(all(&mut spool, 1)[0], dropped_more.last + 1);
    assert!(!spool.is_over_age(SEGMENT_MS + limits.age_ms));
    assert!(spool.is_over_age(SEGMENT_MS + limits.age_ms + 1));
    spool.trim(600);
    assert_eq!(spool.frames(), 600 - all_but_last(&spool));
}

fn all_but_last(spool: &Spool) -> u64 {
    spool.segments.front().map_or(600, |segment| segment.first - 1)
}

#[test]
fn numbers_may_leave_some_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(&dir.path().join("s"));
    append(&mut spool, 1..=3, 0);
    append(&mut spool, 100..=101, 0);
    assert_eq!(spool.read(4, u64::MAX).unwrap().unwrap().0, 100);
    assert_eq!(spool.read(4, 100).unwrap(), None);
    assert_eq!(all(&mut spool, 2), [2, 3, 100, 101]);
}
