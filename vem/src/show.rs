//! Local read-only diagnosis: `vem cmd "show ..."`, and the table of `vem ports`.
//!
//! What the supervisor would show of this module, for the hours when there is none, and what only the host knows. The
//! commands are those of [`proto::vemcmd`], and the supervisor asks for the same texts with [`Query::Show`].

mod columns;
mod host;
mod policy;
mod port;
mod vhost;

use std::fmt::Write;
use std::time::Instant;

use proto::name::IfName;
use proto::query::{FlowQuery, Query};
use proto::report::{Answer, PortRow, PortState};
use proto::vemcmd;
use serde_json::{Value, json};

use crate::agent::Status;
use crate::answer;
use crate::switch::Switch;
use crate::workers;

/// Flows that are shown when no count is given.
const FLOWS: u32 = 50;

/// Answers what was typed.
///
/// # Errors
/// It is not a command, or the dataplane does not answer; in English.
pub fn show(switch: &mut Switch, status: &Status, typed: &str, now: Instant) -> Result<String, String> {
    let asked = vemcmd::parse(typed).map_err(|reason| format!("{reason}\n{}", vemcmd::help().trim_end()))?;
    let text = match asked.show.words {
        "card" => host::card(switch, status, now),
        "heap" => host::heap(),
        "limits" => host::limits(switch, status)?,
        "vsm uptime" => host::vsm_uptime(status, now),
        "acl" => policy::lists(switch),
        "acl pinst" => policy::bound_lists(switch),
        "profile" => policy::profiles(switch),
        "span" => policy::sessions(switch),
        "netflow monitor" => policy::monitors(switch),
        "netflow interface" => policy::monitored(switch),
        "pd-port" => port::uplinks(switch),
        "port" => port::ports(switch),
        "port vlans" => port::vlans(switch, false),
        "port-drops" => port::drops(switch, true, true),
        "port-drops egress" => port::drops(switch, false, true),
        "port-drops ingress" => port::drops(switch, true, false),
        "portmac" => port::addresses(switch),
        "packets" => port::packets(switch, now),
        "stats" => port::stats(switch, now),
        "trunk" => port::vlans(switch, true),
        "vlan" => port::vlan_members(switch),
        "ports" => {
            let rows = ports_json(switch, now);
            ports_table(rows.as_array().map(Vec::as_slice).unwrap_or_default())
        }
        "vhost" => vhost::blocks(switch),
        "workers" => workers::table(switch.control(), &status.cores, switch.busy()),
        words => answered(switch, words, asked.number, now)?,
    };
    Ok(bounded(text))
}

/// What is an answer to one of the supervisor's questions as well.
fn answered(switch: &mut Switch, words: &str, number: Option<u32>, now: Instant) -> Result<String, String> {
    let query = match words {
        "mac" | "l2" | "l2 all" => Query::Macs,
        "flows" => Query::Flows(FlowQuery { top: number.unwrap_or(FLOWS), ..FlowQuery::default() }),
        "access-lists" => Query::AclCounters,
        "monitor" => Query::Sessions,
        "exporters" | "netflow stats" => Query::Exporters,
        "drops" => Query::Drops,
        words => return Err(format!("'{words}' can't be answered")),
    };
    match answer::answer(switch, &query, now) {
        Answer::Failed(reason) => Err(reason),
        Answer::Macs(mut rows) => {
            rows.sort_unstable_by_key(|row| (row.vlan, row.mac));
            rows.retain(|row| number.is_none_or(|vlan| u32::from(row.vlan.get()) == vlan));
            Ok(table(&Answer::Macs(rows)))
        }
        answer => Ok(table(&answer)),
    }
}

/// What is longer than an answer may be ends with a line that says so.
fn bounded(mut text: String) -> String {
    let lines = text.lines().count();
    if text.len() > vemcmd::TEXT_MAX {
        let room = text.floor_char_boundary(vemcmd::TEXT_MAX - 100);
        text.truncate(text.get(..room).and_then(|kept| kept.rfind('\n')).map_or(0, |end| end + 1));
        let _ = writeln!(text, "... {} more lines, which are too many for one answer", lines - text.lines().count());
    }
    text
}

fn name_text(name: Option<IfName>) -> String {
    name.map_or_else(|| "-".to_owned(), IfName::short)
}

/// The rows of `vem ports --json`.
pub fn ports_json(switch: &Switch, now: Instant) -> Value {
    let rows = answer::ports(switch, now);
    let counters = |c: &proto::report::Counters| {
        json!({ "frames": c.frames(), "unicast": c.unicast, "multicast": c.multicast, "broadcast": c.broadcast,
                "octets": c.octets, "drops": c.drops })
    };
    let row = |(row, (attachment, live)): (&PortRow, (&crate::attach::Attachment, &crate::switch::Live))| {
        let (state, reason) = match &row.state {
            PortState::Up => ("up", None),
            PortState::Down(why) => ("down", Some(why.as_str())),
        };
        json!({
            "interface": row.name.map(|n| n.to_string()),
            "nic": row.port.nic.as_str(),
            "vm": row.port.vm,
            "device": row.port.device,
            "kind": row.port.driver,
            "driver": live.driver,
            "netns": attachment.netns,
            "profile": row.port.profile,
            "uplink": (row.port.card > 0).then_some(row.port.card),
            "mac": row.port.mac.map(|m| m.to_string()),
            "state": state,
            "reason": reason,
            "problem": live.problem,
            "since_s": row.since_s,
            "mtu": row.mtu,
            "if_index": row.if_index,
            "static": attachment.fixed,
            "rx": counters(&row.rx),
            "tx": counters(&row.tx),
        })
    };
    Value::Array(rows.iter().zip(switch.ports()).map(row).collect())
}

/// The table of `vem ports` from the rows of [`ports_json`].
pub fn ports_table(rows: &[Value]) -> String {
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let frames =
        |row: &Value, key: &str| row.get(key).and_then(|c| c.get("frames")).and_then(Value::as_u64).unwrap_or(0);
    let mut out = String::from(
        "Interface      NIC                  Device           Kind       Driver        Profile              RX frames    TX frames    State\n",
    );
    for row in rows {
        let state = match row.get("reason").and_then(Value::as_str) {
            Some(reason) => format!("down ({reason})"),
            None => text(row, "state"),
        };
        let _ = writeln!(
            out,
            "{:<14} {:<20} {:<16} {:<10} {:<13} {:<20} {:<12} {:<12} {state}",
            text(row, "interface"),
            text(row, "nic"),
            text(row, "device"),
            text(row, "kind"),
            text(row, "driver"),
            text(row, "profile"),
            frames(row, "rx"),
            frames(row, "tx"),
        );
    }
    out
}

fn address(octets: u128) -> String {
    let v6 = std::net::Ipv6Addr::from(octets);
    v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string())
}

fn table(answer: &Answer) -> String {
    let mut out = String::new();
    let _ = write_table(answer, &mut out);
    if out.is_empty() { "none\n".to_owned() } else { out }
}

fn write_table(answer: &Answer, out: &mut String) -> std::fmt::Result {
    match answer {
        Answer::Macs(rows) => {
            writeln!(out, "VLAN  MAC address     Type     Age(s)  Port")?;
            for row in rows {
                let kind = if row.is_static { "static" } else { "dynamic" };
                let port = name_text(row.port);
                writeln!(out, "{:<5} {}  {kind:<8} {:<7} {port}", row.vlan, row.mac, row.age_s)?;
            }
        }
        Answer::Flows(rows, matched) => {
            writeln!(out, "{} of {matched} flows", rows.len())?;
            for row in rows {
                let vlan = row.vlan.map_or_else(|| "-".to_owned(), |v| v.to_string());
                write!(out, "{} > {} vlan {vlan} ", name_text(row.input), name_text(row.output))?;
                match row.src | row.dst {
                    0 => write!(out, "{} > {} ethertype 0x{:04x}", row.src_mac, row.dst_mac, row.ethertype)?,
                    _ => write!(
                        out,
                        "{}:{} > {}:{} protocol {}",
                        address(row.src),
                        row.src_port,
                        address(row.dst),
                        row.dst_port,
                        row.protocol
                    )?,
                }
                write!(out, " packets {} octets {}", row.packets, row.octets)?;
                writeln!(out, "{}", row.dropped.as_ref().map(|why| format!(" dropped {why}")).unwrap_or_default())?;
            }
        }
        Answer::AclCounters(rows) => {
            for row in rows {
                let rule = row.sequence.map_or_else(|| "implicit deny".to_owned(), |s| s.to_string());
                writeln!(out, "{} {rule}: {} matches", row.acl, row.matches)?;
            }
        }
        Answer::Sessions(rows) => {
            for row in rows {
                let state = row.down.as_ref().map_or_else(|| "up".to_owned(), |why| format!("down ({why})"));
                let (copied, dropped, cut) = (row.copied, row.dropped, row.segmented);
                writeln!(out, "session {}: {state}, copied {copied}, dropped {dropped}, segmented {cut}", row.id)?;
            }
        }
        Answer::Exporters(rows, cache) => {
            for row in rows {
                write!(
                    out,
                    "{} to {}: datagrams {} records {}",
                    row.name, row.destination, row.datagrams, row.records
                )?;
                let error = row.last_error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default();
                writeln!(out, " failed {}{error}", row.failed_datagrams)?;
            }
            writeln!(out, "flow cache: {} of {}, added {}", cache.active, cache.capacity, cache.added)?;
        }
        Answer::Drops(rows, samples) => {
            for row in rows {
                writeln!(out, "{:<10} {:<22} {:>12}  {}", name_text(row.port), row.reason, row.frames, row.text)?;
            }
            writeln!(out, "last dropped frames, newest first:")?;
            for sample in samples {
                let rule = sample.rule.as_ref().map(|rule| {
                    let entry = rule.sequence.map_or_else(|| "implicit deny".to_owned(), |s| s.to_string());
                    format!(" [{} {entry}]", rule.acl)
                });
                let (ms, port, length) = (sample.ms_ago, name_text(sample.port), sample.length);
                let (reason, rule) = (&sample.reason, rule.unwrap_or_default());
                writeln!(out, "{ms} ms ago {port} {reason}{rule} {length} octets: {}", sample.headers)?;
            }
        }
        // Not asked by any command here.
        Answer::Ports(_)
        | Answer::Done
        | Answer::Failed(_)
        | Answer::Text(_)
        | Answer::Applied(_)
        | Answer::Captured(_)
        | Answer::Traced(_)
        | Answer::Told(_)
        | Answer::Watches(_)
        | Answer::Store(_)
        | Answer::Reconciled(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_says_so() {
        let text = bounded("0123456789\n".repeat(200_000));
        assert!(text.len() <= vemcmd::TEXT_MAX && text.lines().rev().nth(1) == Some("0123456789"));
        assert_eq!(text.lines().last(), Some("... 104684 more lines, which are too many for one answer"));
        assert_eq!(bounded("short\n".to_owned()), "short\n");
    }

    #[test]
    fn rows_of_ports_become_a_table() {
        let row = json!({"interface": null, "nic": "a/0", "device": "tap0", "kind": "tap", "profile": "web",
                         "state": "down", "reason": "device is gone", "rx": {"frames": 5}, "tx": {"frames": 6}});
        let table = ports_table(&[row]);
        assert!(table.contains("a/0") && table.contains("down (device is gone)") && table.lines().count() == 2);
    }
}
