//! `show drops`: how many frames were dropped, where and why, and what the last of them were.

use std::collections::BTreeMap;

use proto::name::IfName;
use proto::query::Query;
use proto::report::{Answer, DropRow, DropSample, RuleRef};

use super::exec;
use super::gather::{Asked, ask};
use crate::cli::render::{Output, Table, merged};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

/// Dropped frames that are shown when no number is given.
const LAST: usize = 10;
/// Those that are shown of `recent`, which is as many as a module keeps.
const RECENT: usize = 64;

const WORDS: &[(&str, &str)] =
    &[("recent", "The last dropped frames, and no counts"), ("frames", "Frames"), ("slot", "Module number")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec(
        "show drops [ recent | interface <if:if> | last <frames:num:0-1000> | module <slot:num:3-66> ]*",
        "Display dropped frames: how many, why, and the last of them",
        WORDS,
        show,
    )]
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    let mut asked: Asked<(Vec<DropRow>, Vec<DropSample>)> = ask(session, Query::Drops, slot, |answer| match answer {
        Answer::Drops(rows, samples) => Some(vec![(rows, samples)]),
        _ => None,
    });
    let wanted = args.interface("if");
    let fits = |port: Option<IfName>| wanted.is_none_or(|wanted| port == Some(wanted));
    let (mut rows, mut samples) = (Vec::new(), Vec::new());
    for (slot, (counts, last)) in std::mem::take(&mut asked.rows) {
        rows.extend(counts.into_iter().filter(|row| fits(row.port)).map(|row| (slot, row)));
        samples.extend(last.into_iter().filter(|sample| fits(sample.port)).map(|sample| (slot, sample)));
    }
    let recent = args.has("recent");
    if recent {
        rows.clear();
    }
    let last = args.number("frames").map_or(if recent { RECENT } else { LAST }, |frames| frames as usize);
    let output = if recent { last_drops(samples, last) } else { drops(&rows, samples, last) };
    Ok(asked.warn(output))
}

fn port_word(slot: u8, port: Option<IfName>) -> String {
    port.map_or_else(|| format!("module {slot}"), |port| port.short())
}

fn rule_word(rule: &Option<RuleRef>) -> String {
    match rule {
        None => "--".to_owned(),
        Some(RuleRef { acl, sequence: Some(sequence), .. }) => format!("{} {sequence}", crate::log::clean(acl, 64)),
        Some(RuleRef { acl, .. }) => format!("{} implicit deny", crate::log::clean(acl, 64)),
    }
}

/// The last dropped frames alone.
pub fn last_drops(samples: Vec<(u8, DropSample)>, last: usize) -> Output {
    frames_of(samples, last).output()
}

fn frames_of(mut samples: Vec<(u8, DropSample)>, last: usize) -> Table {
    samples.sort_by_key(|(_, sample)| sample.ms_ago);
    samples.truncate(last);
    let mut frames = Table::new("last_drops")
        .right("Ago", "ago_ms", 10)
        .left("Port", "interface", 9)
        .left("Reason", "reason", 16)
        .left("Rule", "rule", 16)
        .right("Octets", "octets", 6)
        .left("Headers", "headers", 20);
    for (slot, sample) in &samples {
        frames.row([
            format!("{}.{:03} s", sample.ms_ago / 1000, sample.ms_ago % 1000),
            port_word(*slot, sample.port),
            sample.reason.clone(),
            rule_word(&sample.rule),
            sample.length.to_string(),
            crate::log::clean(&sample.headers, 300),
        ]);
    }
    frames
}

/// Both tables.
pub fn drops(rows: &[(u8, DropRow)], samples: Vec<(u8, DropSample)>, last: usize) -> Output {
    let mut sums: BTreeMap<(String, &str, String, &str), u64> = BTreeMap::new();
    for (slot, row) in rows.iter().filter(|(_, row)| row.frames > 0) {
        let key = (port_word(*slot, row.port), row.reason.as_str(), rule_word(&row.rule), row.text.as_str());
        *sums.entry(key).or_default() += row.frames;
    }
    let mut counts = Table::new("drops")
        .left("Port", "interface", 9)
        .left("Reason", "reason", 16)
        .right("Frames", "frames", 12)
        .left("Rule", "rule", 16)
        .left("Meaning", "text", 20);
    for ((port, reason, rule, text), frames) in &sums {
        counts.row([port.clone(), (*reason).to_owned(), frames.to_string(), rule.clone(), (*text).to_owned()]);
    }
    let frames = frames_of(samples, last);
    let mut text = counts.text();
    if !frames.is_empty() {
        text.push_str(&format!("\nLast dropped frames, newest first:\n\n{}", frames.text()));
    }
    Output::with_json(text, merged([counts.json(), frames.json()]))
}

#[cfg(test)]
mod tests {
    use proto::acl::Action;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = |port, reason: &str, text: &str, frames, rule| DropRow {
            port,
            reason: reason.into(),
            text: text.into(),
            frames,
            rule,
        };
        let guard = |sequence| Some(RuleRef { acl: "thin".into(), sequence, action: Action::Deny });
        let veth = Some(IfName::Vethernet(1));
        let rows = [
            (3, row(veth, "acl-deny", "an access list denies it", 41, guard(Some(40)))),
            (3, row(veth, "vlan-tag", "tagged on an access port", 2, None)),
            (3, row(None, "malformed", "a header is cut short", 1, None)),
            (4, row(veth, "acl-deny", "an access list denies it", 1, guard(None))),
            (4, row(veth, "no-vlan", "its VLAN does not exist", 0, None)),
        ];
        let sample = |ms_ago, sequence| DropSample {
            ms_ago,
            port: veth,
            reason: "acl-deny".into(),
            rule: Some(RuleRef { acl: "thin".into(), sequence, action: Action::Deny }),
            length: 64,
            headers: "0200.0000.0001 > 0200.0000.0002 vlan 10 10.0.0.1:5 > 10.0.0.2:80 tcp S".into(),
        };
        let samples = vec![(3, sample(62_345, Some(40))), (4, sample(5, None))];
        sample::check("drops", &drops(&rows, samples.clone(), 10));
        sample::check("drops_recent", &last_drops(samples.clone(), 64));
        assert!(drops(&rows, samples, 1).json.unwrap()["TABLE_last_drops"]["ROW_last_drops"].is_object());
        assert_eq!(drops(&[], Vec::new(), 10).text.lines().count(), 2);
    }
}
