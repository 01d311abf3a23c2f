use std::process::Command;
use std::time::{Duration, Instant as StdInstant};

use vswitch::time::Instant;

use super::super::flow::tests::tcp4;
use super::*;

const CONFIG: Config = Config { size_mib: 64, keep_h: 24, ecs: true };
/// 2026-11-27 04:45:00 UTC.
const BOOT_MS: u64 = 1_795_754_700_000;

fn at(s: u64) -> Moment {
    Moment { now: Instant::from_ms(s * 1000), boot_ms: BOOT_MS }
}

fn push(store: &mut Store, count: u64, s: u64) {
    for n in 0..count {
        let mut record = tcp4();
        (record.packets, record.octets, record.first, record.last) =
            (2, 100 + n, Instant::from_ms(s * 1000), Instant::from_ms(s * 1000 + 500));
        store.push(&Flow { record: &record, input: 3, output: 4, egress: false, sum: None, reverse: None }, at(s));
    }
}

fn nfdump(dir: &Path, options: &[&str]) -> String {
    let output = Command::new("nfdump").arg("-R").arg(dir).args(options).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nfdump_reads_every_flow_of_files_that_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::new(dir.path().join("s"), "host1".into(), CONFIG);
    push(&mut store, 5000, 10);
    store.tick(at(12));
    push(&mut store, 10, 400);
    store.tick(at(400));
    store.tick(at(402));
    store.end(at(402));
    let names: Vec<String> = files(&dir.path().join("s"))
        .iter()
        .map(|f| f.path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    for name in ["nfcapd.202611270445", "nfcapd.202611270450", "flows.202611270445.ndjson", "flows.202611270450.ndjson"]
    {
        assert!(names.iter().any(|n| n == name), "{names:?}");
    }
    assert_eq!(store.counts().stored, 5010);
    let octets: u64 = (0..5000).map(|n| 100 + n).sum::<u64>() + (0..10).map(|n| 100 + n).sum::<u64>();
    let text = nfdump(&dir.path().join("s"), &["-o", "json"]);
    let flows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let flows = flows.as_array().unwrap();
    assert_eq!(flows.len(), 5010);
    assert_eq!(flows.iter().map(|flow| flow["in_bytes"].as_u64().unwrap()).sum::<u64>(), octets);
    let flow = &flows[0];
    let key = tcp4().key;
    assert_eq!(flow["src_port"], key.src_port);
    assert_eq!(flow["proto"], key.protocol);
    assert_eq!((&flow["input_snmp"], &flow["output_snmp"]), (&3.into(), &4.into()));
    let summary =
        Command::new("nfdump").arg("-I").arg("-r").arg(dir.path().join("s/nfcapd.202611270450")).output().unwrap();
    let summary = String::from_utf8(summary.stdout).unwrap();
    assert!(
        summary.contains("Flows: 10") && summary.contains("Flows_tcp: 10") && summary.contains("Ident: host1"),
        "{summary}"
    );
}

#[test]
fn what_a_process_left_is_read_and_gets_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let mut store = Store::new(path.clone(), "h".into(), Config { ecs: false, ..CONFIG });
    push(&mut store, 7, 10);
    store.tick(at(12));
    drop(store);
    let end = StdInstant::now() + Duration::from_secs(5);
    let (rows, matched) = query::read(&path, BOOT_MS, 3, end, |row| row.octets, |row| row.protocol == 6).unwrap();
    assert_eq!((rows.len(), matched), (3, 7), "those with the most octets");
    assert_eq!(rows[0].octets, 106);
    assert_eq!(query::read(&path, BOOT_MS + 11_000, 9, end, |row| row.octets, |_| true).unwrap().1, 0, "since");
    let mut store = Store::new(path.clone(), "h".into(), Config { ecs: false, ..CONFIG });
    push(&mut store, 1, 20);
    store.tick(at(22));
    assert_eq!(query::read(&path, 0, 9, end, |row| row.octets, |_| true).unwrap().1, 8);
    assert_eq!(files(&path).len(), 1);
    assert!(matches!(
        query::read(&path, 0, 9, StdInstant::now() - Duration::from_secs(1), |row| row.octets, |_| true),
        Err(query::Error::Late)
    ));
    let left = files(&path).remove(0).path;
    let output = Command::new("nfdump").arg("-r").arg(left).args(["-q", "-o", "fmt:%byt"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 7, "nfdump reads it too");
}

#[test]
fn old_files_go_by_size_and_age_and_a_disk_that_fails_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut store = Store::new(path.clone(), "h".into(), Config { size_mib: 1, keep_h: 1, ecs: false });
    for slot in 0..8 {
        push(&mut store, 2000, slot * 300 + 1);
        store.tick(at(slot * 300 + 3));
    }
    store.tick(at(2500));
    let octets: u64 = files(&path).iter().map(|file| file.octets).sum();
    assert!(octets <= 1 << 20 && octets > 1 << 19, "{octets}");
    assert_eq!((store.counts().octets, store.counts().files), (octets, files(&path).len() as u64));
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let mut store = Store::new(blocked, "h".into(), CONFIG);
    push(&mut store, 5, 1);
    store.tick(at(3));
    assert_eq!((store.counts().stored, store.counts().lost), (0, 5));
    assert!(store.counts().error.is_some());
}

/// Fields of the Elastic Common Schema 8.11 that are used, with their types.
const SCHEMA: &[(&str, &str)] = &[
    ("@timestamp", "date"),
    ("ecs.version", "keyword"),
    ("event.kind", "keyword"),
    ("event.category", "keyword[]"),
    ("event.type", "keyword[]"),
    ("event.action", "keyword"),
    ("event.created", "date"),
    ("event.start", "date"),
    ("event.end", "date"),
    ("event.duration", "long"),
    ("observer.hostname", "keyword"),
    ("observer.type", "keyword"),
    ("observer.product", "keyword"),
    ("network.bytes", "long"),
    ("network.packets", "long"),
    ("network.vlan.id", "keyword"),
    ("network.type", "keyword"),
    ("network.iana_number", "keyword"),
    ("network.transport", "keyword"),
    ("source.mac", "keyword"),
    ("source.bytes", "long"),
    ("source.packets", "long"),
    ("source.address", "keyword"),
    ("source.ip", "ip"),
    ("source.port", "long"),
    ("destination.mac", "keyword"),
    ("destination.address", "keyword"),
    ("destination.ip", "ip"),
    ("destination.port", "long"),
];

#[test]
fn a_line_has_the_schemas_fields_and_types() {
    let record = tcp4();
    let row = row(&Flow { record: &record, input: 1, output: 2, egress: false, sum: None, reverse: None }, at(5));
    let document = ecs::line(&row, "host1");
    let leaves = ecs::flat(&document);
    for (name, value) in leaves.iter().filter(|(name, _)| !name.starts_with("vswitch.")) {
        let (_, kind) =
            SCHEMA.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("{name} is not of the schema"));
        let right = match *kind {
            "long" => value.is_u64(),
            "keyword[]" => value.as_array().is_some_and(|all| all.iter().all(serde_json::Value::is_string)),
            "ip" => value.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
            "date" => value.as_str().is_some_and(|date| date.len() == 24 && date.ends_with('Z')),
            _ => value.is_string(),
        };
        assert!(right, "{name}: {value} is no {kind}");
    }
    assert!(SCHEMA.iter().all(|(name, _)| *name == "network.vlan.id" || leaves.contains_key(*name)), "{leaves:?}");
    assert_eq!(ecs::date(20_784), (2026, 11, 27));
    assert_eq!(ecs::date(11_016), (2000, 2, 29));
    assert_eq!(ecs::date(0), (1970, 1, 1));
}

/// The saved objects that docs/flow-store.md has one import: they refer to each other, and ask for fields that are written.
#[test]
fn the_dashboard_for_elastic_asks_for_fields_that_are_written() {
    let inner = |value: &serde_json::Value| -> serde_json::Value {
        serde_json::from_str(value.as_str().expect("a text of JSON")).expect("JSON")
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/elastic/vswitch.ndjson");
    let objects: Vec<serde_json::Value> =
        fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known: Vec<_> = objects.iter().map(|object| (&object["type"], &object["id"])).collect();
    let mut asked = 0;
    for object in &objects {
        for reference in object["references"].as_array().unwrap() {
            assert!(known.contains(&(&reference["type"], &reference["id"])), "{reference}");
        }
        let attributes = &object["attributes"];
        match object["type"].as_str().unwrap() {
            "visualization" => {
                for aggregation in inner(&attributes["visState"])["aggs"].as_array().unwrap() {
                    let Some(field) = aggregation["params"]["field"].as_str() else { continue };
                    let kind = SCHEMA.iter().find(|(name, _)| *name == field).expect(field).1;
                    assert!(aggregation["type"] != "sum" || kind == "long", "{field} is summed");
                    assert!(aggregation["type"] != "date_histogram" || kind == "date", "{field}");
                    asked += 1;
                }
            }
            "dashboard" => assert_eq!(inner(&attributes["panelsJSON"]).as_array().unwrap().len(), known.len() - 2),
            _ => assert_eq!(attributes["timeFieldName"], "@timestamp"),
        }
    }
    assert!(asked > 15, "{asked}");
}

/// What the supervisor reckons with.
#[test]
fn a_flow_takes_the_room_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut store = Store::new(path.clone(), "host1".into(), CONFIG);
    push(&mut store, 4000, 10);
    store.write(at(10));
    let length = |path: PathBuf| fs::metadata(path).unwrap().len();
    let frame = nfcapd::HEADER as u64 + nfcapd::BLOCK_HEADER as u64;
    assert_eq!((length(path.join(CURRENT)) - frame) / 4000, proto::flow::KEPT_OCTETS);
    let line = length(ecs::folder(&path).join(ecs::CURRENT)) / 4000;
    assert!(line.abs_diff(proto::flow::LINE_OCTETS) < line / 10, "{line} octets a line");
}
