//! `show flow-store` and `show flow estimate`: what the hosts keep of their flows, and what keeping and sending them costs.

use std::time::Duration;

use proto::flow::Store;
use proto::query::Query;
use proto::report::{Answer, StoreRow};

use super::exec;
use super::gather::ask;
use crate::cli::render::{Output, Table, leaves, merged};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::flow::FlowStore;

const WORDS: &[(&str, &str)] = &[
    ("flow-store", "Flows that the hosts keep"),
    ("estimate", "Room that flows take, from their present rate"),
    ("interval", "Time to watch"),
    ("seconds", "Seconds; 5 unless said"),
];
/// Seconds that the rate is watched, unless said.
const WATCHED_S: u32 = 5;
const DAY_S: u64 = 86_400;
/// Octets of a kept flow between two IPv4 addresses; that of an agent is held against it by a test there.
const KEPT: u64 = proto::flow::KEPT_OCTETS;
/// Octets of a line for Elastic, about.
const LINE: u64 = proto::flow::LINE_OCTETS;
/// Octets on the wire of a record of IPv4 by NetFlow 5, NetFlow 9 and IPFIX, with their part of the headers of a full packet.
const SENT: [(&str, &str, u64); 3] =
    [("v5/day", "v5_day", 51), ("v9/day", "v9_day", 77), ("IPFIX/day", "ipfix_day", 101)];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show flow-store", "Display what the hosts keep of their flows", WORDS, |session, _| {
            let Some(store) = session.handle.model().flow_store else {
                return Err(Error::Refused("No flows are kept: there is no flow-store".to_owned()));
            };
            let asked = ask(session, Query::StoreState, None, |answer| match answer {
                Answer::Store(row) => Some(row.into_iter().collect()),
                _ => None,
            });
            Ok(asked.warn(state(&store, &asked.rows)))
        }),
        exec(
            "show flow estimate [interval <seconds:num:1-60>]",
            "Display the room that flows take at their present rate",
            WORDS,
            estimated,
        ),
    ]
}

/// What each module keeps.
pub fn state(store: &FlowStore, rows: &[(u8, StoreRow)]) -> Output {
    let Store { size_mib, keep_h, ecs } = store.compiled();
    let mut table = Table::new("flow_store")
        .right("Mod", "mod", 3)
        .right("Files", "files", 6)
        .right("Octets", "octets", 13)
        .right("Stored", "stored", 12)
        .right("Lost", "lost", 9)
        .left("Directory", "directory", 10)
        .left("Error", "error", 5);
    for (slot, row) in rows {
        let counts = [u64::from(*slot), row.files, row.octets, row.stored, row.lost].map(|n| n.to_string());
        let error = row.error.clone().unwrap_or_else(|| "-".to_owned());
        table.row(counts.into_iter().chain([row.directory.clone(), error]));
    }
    let lines = if ecs { ", and lines for Elastic" } else { "" };
    let text = format!("Each host keeps up to {size_mib} MiB and {keep_h} hours{lines}\n\n{}", table.text());
    let head = [("size_mib", size_mib.to_string()), ("keep_hours", keep_h.to_string()), ("ecs", ecs.to_string())];
    Output::with_json(text, merged([leaves(head), table.json()]))
}

fn estimated(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let seconds = u64::from(args.number("seconds").unwrap_or(WATCHED_S));
    let before = reported(session);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = reported(session);
    let rates = after.rows.iter().map(|(slot, now)| {
        let was = before.rows.iter().find(|(other, _)| other == slot).map_or(*now, |(_, was)| *was);
        (*slot, now.saturating_sub(was))
    });
    let store = session.handle.model().flow_store;
    Ok(after.warn(estimate(&rates.collect::<Vec<_>>(), seconds, store.as_ref())))
}

/// Flows that each module has reported so far.
fn reported(session: &Session) -> super::gather::Asked<u64> {
    ask(session, Query::Exporters, None, |answer| match answer {
        Answer::Exporters(_, c) => {
            Some(vec![c.aged_inactive + c.aged_active + c.ended + c.forced + c.evicted - c.summed.unwrap_or(0)])
        }
        _ => None,
    })
}

/// Of flows that each module has reported in `seconds`.
pub fn estimate(reported: &[(u8, u64)], seconds: u64, store: Option<&FlowStore>) -> Output {
    let mut table = Table::new("flow_estimate")
        .right("Mod", "mod", 3)
        .right("Flows/s", "flows_per_second", 9)
        .right("Kept/day", "kept_day", 9)
        .right("Elastic/day", "elastic_day", 11);
    for (title, key, _) in SENT {
        table = table.right(title, key, 9);
    }
    table = table.right("Hours kept", "hours_kept", 10);
    let store = store.map(FlowStore::compiled);
    for (slot, flows) in reported {
        let a_day = |octets: u64| flows.saturating_mul(octets).saturating_mul(DAY_S) / seconds.max(1);
        let tenths = flows.saturating_mul(10) / seconds.max(1);
        let hours = store.as_ref().map_or_else(
            || "-".to_owned(),
            |store| {
                let each = KEPT + if store.ecs { LINE } else { 0 };
                let fits = (u64::from(store.size_mib) << 20).saturating_mul(24).checked_div(a_day(each));
                fits.map_or(u64::from(store.keep_h), |hours| hours.min(store.keep_h.into())).to_string()
            },
        );
        let rooms = [KEPT, LINE].into_iter().chain(SENT.map(|(_, _, octets)| octets)).map(|each| size(a_day(each)));
        let first = [slot.to_string(), format!("{}.{}", tenths / 10, tenths % 10)];
        table.row(first.into_iter().chain(rooms).chain([hours]));
    }
    let text = format!(
        "Flows that were reported in the last {seconds} seconds, and what they come to at this rate\n\n{}",
        table.text()
    );
    Output::with_json(text, merged([leaves([("seconds", seconds.to_string())]), table.json()]))
}

/// `1.5 GiB`
fn size(octets: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = octets.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, units.get(unit).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let kept = StoreRow {
            directory: "/var/lib/vem/flows".into(),
            files: 12,
            octets: 3_000_000,
            stored: 24_000,
            lost: 0,
            error: None,
        };
        let full = StoreRow { lost: 7, error: Some("No space left on device".into()), ..kept.clone() };
        let store = FlowStore { size_mib: Some(512), keep_h: None, ecs: true };
        sample::check("flow-store", &state(&store, &[(3, kept), (4, full)]));
        sample::check("flow_estimate", &estimate(&[(3, 50), (4, 500_000), (5, 0)], 5, Some(&store)));
        assert_eq!((size(0), size(1536), size(u64::MAX)), ("0.0 KiB".into(), "1.5 KiB".into(), "1677721.5 TiB".into()));
    }
}
