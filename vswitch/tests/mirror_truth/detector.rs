//! A real Suricata, where there is one: it must make of the copies that come by ERSPAN just what it makes of those that come
//! by a port of the switch.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a detector counts of a file, by name: `tcp`, `event.ipv4.trunc_pkt`.
pub type Counts = BTreeMap<String, u64>;

/// Where the detector is: what `SURICATA` names.
pub fn program() -> Option<String> {
    std::env::var("SURICATA").ok().filter(|name| !name.is_empty())
}

/// What its decoder makes of a file, one packet at a time and with every checksum looked at.
pub fn read(program: &str, path: &Path, folder: &Path) -> Counts {
    let logs = folder.join("suricata");
    let _ = std::fs::remove_dir_all(&logs);
    std::fs::create_dir(&logs).unwrap();
    let out = Command::new(program)
        .args(["-c", "/etc/suricata/suricata.yaml", "--runmode", "single", "-k", "all", "-S", "/dev/null"])
        .args(["--set", "stream.midstream=true", "-r"])
        .arg(path)
        .arg("-l")
        .arg(&logs)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    let text = std::fs::read_to_string(logs.join("eve.json")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut counters = events.filter(|event| event["event_type"] == "stats");
    let last = counters.next_back().expect("counters at the end");
    let mut counts = Counts::new();
    flatten("", &last["stats"]["decoder"], &mut counts);
    flatten("stream.", &last["stats"]["tcp"], &mut counts);
    counts
}

/// What is counted of the frames within, however they come.
const SAME: [&str; 11] = [
    "arp",
    "icmpv4",
    "ipv6",
    "tcp",
    "udp",
    "unknown_ethertype",
    "vlan_qinq",
    "stream.sessions",
    "stream.midstream_pickups",
    "stream.overlap",
    "stream.invalid_checksum",
];

/// Of `copies` copies the detector has read each in both files, and has found the same in them.
pub fn agree(near: &Counts, far: &Counts, copies: u64) {
    let of = |counts: &Counts, name| counts.get(name).copied().unwrap_or(0);
    assert_eq!((of(near, "pkts"), of(far, "pkts")), (copies, copies));
    assert_eq!((of(far, "gre"), of(far, "erspan")), (copies, copies), "each is read as ERSPAN");
    assert_eq!(of(near, "vlan"), copies, "each has the tag of its VLAN, or its header says it");
    assert_eq!(of(far, "ipv4"), of(near, "ipv4") + copies);
    for name in SAME {
        assert_eq!(of(near, name), of(far, name), "{name}");
    }
    for name in ["tcp", "udp", "ipv6", "icmpv4", "arp", "stream.sessions", "stream.invalid_checksum"] {
        assert!(of(near, name) > 0 || copies < 1_000, "{name} is there");
    }
}

fn flatten(name: &str, value: &Value, counts: &mut Counts) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let dot = if member.is_object() { "." } else { "" };
                flatten(&format!("{name}{key}{dot}"), member, counts);
            }
        }
        other => {
            counts.extend(other.as_u64().map(|n| (name.to_owned(), n)));
        }
    }
}
