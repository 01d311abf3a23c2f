//! The agent's dataplane threads, as the system sees them: their names, their cores, and what they cost when idle.

mod place;

use std::path::{Path, PathBuf};
use std::time::Duration;

use place::{Place, possible, wait_for};
use proto::addr::VlanId;
use proto::config::{HostConfig, PortSettings, Profile, ProfileType};
use proto::vlan::PortMode;

fn config() -> HostConfig {
    let vlan = VlanId::new(10).unwrap();
    let settings = PortSettings { admin_up: true, mode: PortMode::Access(vlan), ..PortSettings::default() };
    let web = Profile { name: "web".into(), kind: ProfileType::Vethernet, enabled: true, settings };
    HostConfig {
        module: 3,
        switch_name: "n1kv".into(),
        vlans: [VlanId::DEFAULT, vlan].into_iter().collect(),
        mac_aging_s: 300,
        profiles: vec![web],
        ..HostConfig::default()
    }
}

/// The agent's worker threads: name and directory in /proc.
fn threads(place: &Place) -> Vec<(String, PathBuf)> {
    let task = PathBuf::from(format!("/proc/{}/task", place.pid()));
    let all = std::fs::read_dir(task).unwrap().map(|entry| entry.unwrap().path());
    let named = all.map(|path| (std::fs::read_to_string(path.join("comm")).unwrap().trim().to_owned(), path));
    let mut workers: Vec<_> = named.filter(|(name, _)| name.starts_with("worker")).collect();
    workers.sort();
    workers
}

/// Hundredths of a second that a thread has run.
fn ticks(thread: &Path) -> u64 {
    let text = std::fs::read_to_string(thread.join("stat")).unwrap();
    let after_name: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    after_name[11].parse::<u64>().unwrap() + after_name[12].parse::<u64>().unwrap()
}

#[test]
fn an_idle_worker_sleeps_and_wakes_for_the_next_frame() {
    if !possible() {
        return;
    }
    let mut place = Place::new("[dataplane]\ncores = [0]\n");
    place.store(42, &config());
    place.start();
    for (vm, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")] {
        let netns = place.namespace(vm);
        place.vem_ok(&format!("attach --profile web --device tap0 --netns {netns} --vm {vm}"));
        place.ip(vm, &format!("addr add {address} dev tap0"));
    }
    wait_for("first ping", Duration::from_secs(3), || place.pings("a", "10.0.0.2", 200));
    let workers = threads(&place);
    assert_eq!(workers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["worker0"]);
    let status = std::fs::read_to_string(workers[0].1.join("status")).unwrap();
    assert!(status.lines().any(|line| line == "Cpus_allowed_list:\t0"), "{status}");
    // IPv6 of the VMs has calmed down after a while.
    wait_for("an idle second", Duration::from_secs(20), || {
        let before = ticks(&workers[0].1);
        std::thread::sleep(Duration::from_secs(3));
        let used = ticks(&workers[0].1) - before;
        eprintln!("{used} of 300 hundredths of a second");
        // One per cent of a core.
        used <= 3
    });
    assert!(place.pings("a", "10.0.0.2", 200));
    let table = place.vem_ok("cmd show workers");
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3]), ("0", "0", "2"), "{table}");
    assert!(row[4].parse::<u64>().unwrap() >= 4, "{table}");
    assert_eq!(place.terminate(), Some(0));
}

#[test]
fn a_core_that_does_not_exist_is_told_and_nothing_starts() {
    if !possible() {
        return;
    }
    let mut place = Place::new("[dataplane]\ncores = [1023]\n");
    place.start();
    wait_for("the end of the agent", Duration::from_secs(5), || !place.runs());
    let log = place.log();
    assert!(log.contains("worker 0: can't be pinned to core 1023: "), "{log}");
}
