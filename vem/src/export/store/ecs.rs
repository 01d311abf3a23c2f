//! A flow as a document of the Elastic Common Schema (8.x), a line each, for Filebeat or Elastic Agent to carry to Elasticsearch.
//!
//! Field names and types are those of the schema; what it has no field for is under `vswitch`. Times have milliseconds, UTC.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::nfcapd::Row;

/// Name of the file that is written.
pub const CURRENT: &str = "flows.current";

/// Where the lines of a store in `dir` are: beside it, because nfdump refuses a folder with any file that is not its own.
pub fn folder(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push("-ecs");
    dir.with_file_name(name)
}

/// Gives the file that was written its name.
///
/// # Errors
/// The disk's.
pub(super) fn finish(dir: &Path, stamp: &str) -> io::Result<()> {
    let folder = folder(dir);
    std::fs::rename(folder.join(CURRENT), super::free(&folder, &format!("flows.{stamp}.ndjson")))
}

/// The document of a flow that `host` has stored.
pub fn line(row: &Row, host: &str) -> Value {
    let mut document = json!({
        "@timestamp": time(row.last_ms),
        "ecs": {"version": "8.11.0"},
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": if dropped(row) { json!(["connection", "denied"]) } else { json!(["connection"]) },
            "action": "network_flow",
            "created": time(row.received_ms),
            "start": time(row.first_ms),
            "end": time(row.last_ms),
            "duration": row.last_ms.saturating_sub(row.first_ms).saturating_mul(1_000_000),
        },
        "observer": {"hostname": host, "type": "switch", "product": "vswitch"},
        "network": {"bytes": row.octets, "packets": row.packets},
        "source": {"mac": mac(row.src_mac), "bytes": row.octets, "packets": row.packets},
        "destination": {"mac": mac(row.dst_mac)},
        "vswitch": {
            "input_ifindex": row.input,
            "output_ifindex": row.output,
            "forwarding_status": row.status,
            "end_reason": row.end,
            "tcp_flags": row.tcp_flags,
            "tos": row.tos,
            "sampled": row.sampled,
        },
    });
    let mut put = |object: &str, key: &str, value: Value| {
        if let Some(object) = document.get_mut(object).and_then(Value::as_object_mut) {
            object.insert(key.to_owned(), value);
        }
    };
    if row.vlan > 0 {
        put("network", "vlan", json!({"id": row.vlan.to_string()}));
    }
    if let Some((src, dst)) = row.addresses {
        let is_ipv4 = src.to_ipv4_mapped().is_some();
        put("network", "type", if is_ipv4 { "ipv4" } else { "ipv6" }.into());
        put("network", "iana_number", row.protocol.to_string().into());
        if let Some(transport) = transport(row.protocol) {
            put("network", "transport", transport.into());
        }
        for (end, address, port) in [("source", src, row.src_port), ("destination", dst, row.dst_port)] {
            let address = address.to_canonical().to_string();
            put(end, "address", address.clone().into());
            put(end, "ip", address.into());
            if matches!(row.protocol, 6 | 17 | 132) {
                put(end, "port", port.into());
            }
        }
    }
    document
}

/// Whether it was dropped (forwardingStatus, RFC 7270 section 4.12: the two highest bits).
pub fn dropped(row: &Row) -> bool {
    row.status >> 6 == 2
}

fn transport(protocol: u8) -> Option<&'static str> {
    Some(match protocol {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        58 => "ipv6-icmp",
        132 => "sctp",
        _ => return None,
    })
}

/// As the schema wants it (RFC 7042): upper case, with hyphens.
fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02X}")).join("-")
}

/// `YYYY-MM-DDThh:mm:ss.mmmZ`.
fn time(ms: u64) -> String {
    let (year, month, day) = date(ms / 86_400_000);
    let of_day = ms % 86_400_000;
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// Year, month and day of a day since 1970, by the proleptic Gregorian calendar.
pub fn date(days: u64) -> (u64, u64, u64) {
    // Years that begin in March have the leap day last; eras have 400 years.
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// The leaves of a document with dotted names.
pub fn flat(value: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    let Some(object) = value.as_object() else { return out };
    for (key, value) in object {
        match value {
            Value::Object(_) => {
                out.extend(flat(value).into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value)))
            }
            leaf => drop(out.insert(key.clone(), leaf.clone())),
        }
    }
    out
}
