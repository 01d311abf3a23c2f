//! `show access-lists`: the rules, and how often each decided, over all modules.
//!
//! The count of the implicit deny at the end of a list stands behind `statistics per-entry`, the one place where parsers
//! of NX-OS lists let a remark pass.

use std::collections::BTreeMap;

use proto::query::Query;
use proto::report::{AclCountRow, Answer};
use serde_json::Value;

use super::exec;
use super::gather::{Asked, ask};
use crate::cli::render::{Output, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::model::{AccessList, Entries, Model, Settings};
use crate::config::rule;

const WORDS: &[(&str, &str)] = &[("name", "List name"), ("summary", "Where lists are used")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show access-lists [<name:word>] [summary]", "Display access lists", WORDS, |session, args| {
            show(session, args, |_| true)
        }),
        exec("show ip access-lists [<name:word>] [summary]", "Display IP access lists", WORDS, |session, args| {
            show(session, args, Entries::is_ip)
        }),
        exec("show mac access-lists [<name:word>] [summary]", "Display MAC access lists", WORDS, |session, args| {
            show(session, args, |entries| !entries.is_ip())
        }),
    ]
}

fn show(session: &mut Session, args: &Args, is_kind: fn(&Entries) -> bool) -> Result<Output, Error> {
    let model = session.handle.model();
    let wanted = args.text("name");
    let lists: Vec<(&String, &AccessList)> = model
        .acls
        .iter()
        .filter(|(name, list)| is_kind(&list.entries) && wanted.is_none_or(|wanted| wanted == *name))
        .collect();
    if let (Some(name), []) = (wanted, lists.as_slice()) {
        return Err(Error::Refused(format!("Access list {name} does not exist")));
    }
    let asked: Asked<AclCountRow> = ask(session, Query::AclCounters, None, |answer| match answer {
        Answer::AclCounters(rows) => Some(rows),
        _ => None,
    });
    let counts = sum(&asked.rows);
    let output = if args.has("summary") { summary(&model, &lists, &counts) } else { rules(&lists, &counts) };
    Ok(asked.warn(output))
}

/// Matches of a rule, by list and sequence number; `None` is the implicit deny.
pub type Counts = BTreeMap<(String, Option<u32>), u64>;

/// The counts of all modules together.
pub fn sum(rows: &[(u8, AclCountRow)]) -> Counts {
    let mut counts = Counts::new();
    for (_, row) in rows {
        *counts.entry((row.acl.clone(), row.sequence)).or_default() += row.matches;
    }
    counts
}

fn count(counts: &Counts, name: &str, sequence: Option<u32>) -> u64 {
    counts.get(&(name.to_owned(), sequence)).copied().unwrap_or(0)
}

fn kind(list: &AccessList) -> (&'static str, &'static str) {
    if list.entries.is_ip() { ("IP", "ip") } else { ("MAC", "mac") }
}

/// The lists.
pub fn rules(lists: &[(&String, &AccessList)], counts: &Counts) -> Output {
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    for (name, list) in lists {
        let (title, op) = kind(list);
        let implicit = count(counts, name, None);
        let mut text = format!("{title} access list {name}\n");
        if list.statistics {
            text.push_str(&format!("        statistics per-entry [implicit deny match={implicit}]\n"));
        }
        let mut entries: Vec<Value> = Vec::new();
        for (sequence, entry) in rule::entries(list) {
            let remark = entry.strip_prefix("remark ");
            let matches = count(counts, name, Some(sequence));
            let shown = if list.statistics && remark.is_none() { format!(" [match={matches}]") } else { String::new() };
            text.push_str(&format!("        {sequence} {entry}{shown}\n"));
            let action = entry.split_whitespace().next().unwrap_or_default().to_owned();
            let mut members = vec![("seqno", sequence.to_string()), ("permitdeny", action)];
            match remark {
                Some(remark) => members.push(("remark", remark.to_owned())),
                None => members.extend([("rule", entry.clone()), ("match", matches.to_string())]),
            }
            entries.push(leaves(members));
        }
        texts.push(text);
        let statistics = if list.statistics { "enabled" } else { "disabled" };
        let head = leaves([
            ("op_ip_ipv6_mac", op.to_owned()),
            ("acl_name", (*name).clone()),
            ("statistics", statistics.to_owned()),
            ("implicit_deny_match", implicit.to_string()),
        ]);
        objects.push(merged([head, table("seqno", entries)]));
    }
    Output::with_json(texts.join("\n"), table("ip_ipv6_mac", objects))
}

fn uses(model: &Model, name: &str) -> Vec<String> {
    let of = |settings: &Settings| {
        let named = |list: &Option<String>| list.as_deref() == Some(name);
        let ways = [
            (named(&settings.ip_acl_in) || named(&settings.mac_acl_in), "ingress"),
            (named(&settings.ip_acl_out) || named(&settings.mac_acl_out), "egress"),
        ];
        ways.into_iter().filter(|(is_used, _)| *is_used).map(|(_, way)| way).collect::<Vec<_>>()
    };
    let used = model.all_settings().flat_map(|(place, settings)| {
        of(settings).into_iter().map(|way| format!("{place} - {way} (Port ACL)")).collect::<Vec<_>>()
    });
    used.collect()
}

/// Where the lists are used, and how often each decided.
pub fn summary(model: &Model, lists: &[(&String, &AccessList)], counts: &Counts) -> Output {
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    for (name, list) in lists {
        let title = if list.entries.is_ip() { "IPV4" } else { "MAC" };
        let rules = rule::entries(list).iter().filter(|(_, entry)| !entry.starts_with("remark ")).count();
        let statistics = if list.statistics { "enabled" } else { "disabled" };
        let (total, implicit) = {
            let of_list = counts.iter().filter(|((acl, _), _)| acl == *name);
            (of_list.map(|(_, n)| n).sum::<u64>(), count(counts, name, None))
        };
        let used = uses(model, name);
        let mut text =
            format!("{title} ACL {name}\n        Statistics {statistics}\n        Total ACEs Configured: {rules}\n");
        text.push_str(&format!(
            "        Matches: {total}, of them by the implicit deny: {implicit}\n        Configured on:\n"
        ));
        text.extend(used.iter().map(|place| format!("                {place}\n")));
        texts.push(text);
        objects.push(leaves([
            ("acl_name", (*name).clone()),
            ("statistics", statistics.to_owned()),
            ("total_aces", rules.to_string()),
            ("match", total.to_string()),
            ("implicit_deny_match", implicit.to_string()),
            ("configured_on", used.join(", ")),
        ]));
    }
    Output::with_json(texts.join("\n"), table("ip_ipv6_mac", objects))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = |sequence, matches| AclCountRow { acl: "thin".into(), sequence, matches };
        let rows = [(3, row(Some(10), 12)), (4, row(Some(10), 30)), (3, row(None, 5)), (3, row(Some(99), 1))];
        let model = sample::model();
        let lists: Vec<_> = model.acls.iter().collect();
        let counts = sum(&rows);
        assert_eq!(count(&counts, "thin", Some(10)), 42);
        sample::check("access-lists", &rules(&lists, &counts));
        sample::check("access-lists_summary", &summary(&model, &lists, &counts));
    }
}
