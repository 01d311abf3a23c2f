//! The log on a disk: over restarts, crashes, turn-overs, tampering, and a disk that is full.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::store::fault;

fn event(text: &str) -> Event<'_> {
    Event { kind: Kind::Update, id: "192.0.2.7@pts/3", user: "admin", outcome: "SUCCESS", text }
}

fn write(log: &Accounting, text: &str) -> Result<(), Lost> {
    log.write(&event(text), SystemTime::now())
}

fn texts(log: &Accounting) -> Vec<String> {
    let records = log.records().unwrap().into_iter().flatten();
    records.filter(|record| !record.kind.begins_file()).map(|record| record.text).collect()
}

#[test]
fn a_restart_goes_on_with_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    for round in 0..3 {
        let log = Accounting::open(&path).unwrap();
        write(&log, &format!("vlan {round}")).unwrap();
        assert_eq!(log.verify().unwrap().broken, None);
    }
    let log = Accounting::open(&path).unwrap();
    assert_eq!(texts(&log), ["vlan 0", "vlan 1", "vlan 2"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // What a user sends does not make a record of its own.
    write(&log, "name a\n0\tb\u{1b}[2J").unwrap();
    assert_eq!(texts(&log)[3], "name a?0?b?[2J");
}

#[test]
fn a_torn_record_is_said_wherever_it_was_torn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let log = Accounting::open(&path).unwrap();
    write(&log, "vlan 1").unwrap();
    let whole = fs::read(&path).unwrap();
    write(&log, "vlan 2").unwrap();
    let longer = fs::read(&path).unwrap();
    for length in whole.len()..longer.len() {
        fs::write(&path, &longer[..length]).unwrap();
        let log = Accounting::open(&path).unwrap();
        let texts = texts(&log);
        assert_eq!(texts.len(), 1 + usize::from(length > whole.len()), "{texts:?}");
        assert!(texts.last().unwrap().starts_with("a crash has cut off") || length == whole.len());
        assert_eq!(log.verify().unwrap().broken, None);
    }
}

#[test]
fn a_full_file_is_turned_over_and_the_chain_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let log = Accounting::open(&path).unwrap();
    let long = "x".repeat(2_400);
    let rounds = (files::OLD_FILES as u64 + 2) * files::FILE_MAX / 2_400;
    for _ in 0..rounds {
        write(&log, &long).unwrap();
    }
    let verdict = log.verify().unwrap();
    assert_eq!(verdict.broken, None);
    assert!(verdict.first > 1 && verdict.good < rounds, "{verdict:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), files::OLD_FILES + 1);
    let total: u64 = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(total < (files::OLD_FILES as u64 + 1) * (files::FILE_MAX + 4096));
    // A crash between the renaming and the new file.
    let (head, old) = (verdict.head, dir.path().join(format!("{FILE}.1")));
    fs::rename(&path, &old).unwrap();
    let log = Accounting::open(&path).unwrap();
    assert_eq!(log.inner().head, head);
    // A whole file is gone.
    fs::remove_file(dir.path().join(format!("{FILE}.2"))).unwrap();
    assert!(log.verify().unwrap().broken.is_some());
}

#[test]
fn tampering_is_found_also_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let log = Accounting::open(&path).unwrap();
    for n in 0..5 {
        write(&log, &format!("vlan {n}")).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("vlan 3", "vlan 4")).unwrap();
    assert_eq!(log.verify().unwrap().broken, Some(Broken { number: 5, why: "was changed" }));
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, lines[..4].join("\n") + "\n").unwrap();
    assert_eq!(log.verify().unwrap().broken, Some(Broken { number: 5, why: "is missing at the end" }));
    fs::write(&path, "").unwrap();
    assert_eq!(log.verify().unwrap().broken.unwrap().number, 1);
    fs::write(&path, b"\xff\xfe rubbish\n").unwrap();
    assert_eq!(log.records().unwrap(), [None]);
    assert!(log.verify().unwrap().broken.is_some());
}

#[test]
fn a_disk_that_fails_costs_records_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let log = Accounting::open(&path).unwrap();
    write(&log, "vlan 1").unwrap();
    fault::dies(0, || {
        assert_eq!(write(&log, "vlan 2").unwrap_err().lost, 1);
        assert_eq!(write(&log, "vlan 3").unwrap_err().lost, 2);
        assert_eq!(log.verify().unwrap().lost, 2);
    });
    write(&log, "vlan 4").unwrap();
    assert_eq!(texts(&log), ["vlan 1", "2 records before this one could not be written", "vlan 4"]);
    let verdict = log.verify().unwrap();
    assert_eq!((verdict.lost, verdict.broken), (0, None));
}

#[test]
fn clearing_leaves_who_did_it_and_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let log = Accounting::open(&dir.path().join(FILE)).unwrap();
    write(&log, "vlan 1").unwrap();
    log.clear("console/0", "admin", SystemTime::now()).unwrap();
    write(&log, "vlan 2").unwrap();
    let records: Vec<Record> = log.records().unwrap().into_iter().flatten().collect();
    assert_eq!(
        (records.len(), records[0].kind, records[0].number, records[0].user.as_str()),
        (2, Kind::Clear, 3, "admin")
    );
    assert_eq!(log.verify().unwrap().broken, None);
}

#[test]
fn failed_logins_do_not_wash_the_log_away() {
    let log = Accounting::in_memory();
    for _ in 0..100 {
        log.login_failed("192.0.2.7@ssh", "root", "password", SystemTime::now()).unwrap();
    }
    assert_eq!(texts(&log).len(), FAILURES_MAX as usize);
    for _ in 0..10_000 {
        write(&log, "vlan 1").unwrap();
    }
    assert!(log.records().unwrap().len() <= 4097);
    assert_eq!(log.verify().unwrap().broken, None);
}
