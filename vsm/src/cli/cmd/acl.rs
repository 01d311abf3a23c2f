//! Access lists: the lists, their entries, and their order.
//!
//! An entry without a sequence number goes ten behind the last; a number that is taken is refused. The rules themselves
//! are read in `rule`.

use std::collections::BTreeMap;

use super::rule::{MAC_RULE, WITH_MESSAGE, WITH_PORTS, WITH_PROTOCOL, WITHOUT_PROTOCOL, ip_rule, mac_rule};
use super::target::{self, edit_acl, make_room, some, text, wanted};
use crate::cli::render::Output;
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::model::{ACL_ENTRIES_MAX, ACLS_MAX, AccessList, Entries, Entry, Model};

const WORDS: &[(&str, &str)] = &[
    ("ip", "IPv4"),
    ("mac", "Everything but IPv4"),
    ("access-list", "Access list"),
    ("name", "Name of the list, up to 64 characters"),
    ("sequence", "Sequence number"),
    ("permit", "Let it pass"),
    ("deny", "Drop it"),
    ("number", "IP protocol number"),
    ("any", "Every address"),
    ("host", "One address"),
    ("src", "Source address"),
    ("src_wild", "Bits of the source address that are not compared"),
    ("dst", "Destination address"),
    ("dst_wild", "Bits of the destination address that are not compared"),
    ("eq", "That port"),
    ("port", "That port"),
    ("neq", "Every other port"),
    ("lt", "Ports below"),
    ("gt", "Ports above"),
    ("range", "Ports from first to last"),
    ("src_port", "Source port"),
    ("src_last", "Last source port"),
    ("dst_port", "Destination port"),
    ("dst_last", "Last destination port"),
    ("icmp_type", "ICMP type"),
    ("icmp_code", "ICMP code"),
    ("dscp", "Differentiated services code point"),
    ("ethertype", "EtherType behind the tags, such as 0x86dd"),
    ("vlan", "VLAN that the frame is switched in"),
    ("remark", "Comment"),
    ("text", "Up to 100 characters"),
    ("statistics", "Counters"),
    ("per-entry", "Count matches of each entry"),
    ("resequence", "Number the entries anew"),
    ("start", "First number"),
    ("increment", "Distance of the numbers"),
];

fn command(
    modes: &'static [Mode],
    syntax: &'static str,
    help: &'static str,
    no: Option<&'static str>,
    run: Run,
) -> Command {
    Command { modes, syntax, help, words: WORDS, no, run }
}

/// The commands.
pub fn commands() -> Vec<Command> {
    const CONFIG: &[Mode] = &[Mode::Config];
    const IP: &[Mode] = &[Mode::IpAcl];
    const LIST: &[Mode] = &[Mode::IpAcl, Mode::MacAcl];
    let rule = |syntax, help| command(IP, syntax, help, Some(syntax), ip_entry);
    vec![
        command(
            CONFIG,
            "<kind=ip|mac> access-list <name:word>",
            "Create an access list and change it",
            Some("<kind=ip|mac> access-list <name:word>"),
            list,
        ),
        command(
            CONFIG,
            "resequence <kind=ip|mac> access-list <name:word> <start:num:1-4294967295> <increment:num:1-4294967295>",
            "Number the entries of an access list anew",
            None,
            resequence,
        ),
        rule(WITH_PORTS, "Permit or deny TCP or UDP"),
        rule(WITH_MESSAGE, "Permit or deny ICMP"),
        rule(WITH_PROTOCOL, "Permit or deny a protocol"),
        rule(WITHOUT_PROTOCOL, "Permit or deny IPv4"),
        command(&[Mode::MacAcl], MAC_RULE, "Permit or deny frames", Some(MAC_RULE), mac_entry),
        command(
            LIST,
            "[<sequence:num:1-4294967295>] remark <text:line>",
            "Comment",
            Some("<sequence:num:1-4294967295> [remark <text:line>]"),
            remark,
        ),
        command(
            LIST,
            "statistics per-entry",
            "Count matches of each entry",
            Some("statistics per-entry"),
            |session, args| {
                let statistics = !args.negated;
                edit_acl(session, move |list| {
                    list.statistics = statistics;
                    Ok(())
                })
            },
        ),
    ]
}

fn kind_words(is_ip: bool) -> &'static str {
    if is_ip { "an IP" } else { "a MAC" }
}

fn find<'m>(model: &'m mut Model, name: &str, is_ip: bool) -> Result<&'m mut AccessList, String> {
    let list = model.acls.get_mut(name).ok_or_else(|| format!("Access list '{name}' does not exist"))?;
    match list.entries.is_ip() == is_ip {
        true => Ok(list),
        false => Err(format!("Access list '{name}' is {} access list", kind_words(!is_ip))),
    }
}

/// What applies a list as IP or as MAC list.
fn users<'m>(model: &'m Model, name: &'m String, is_ip: bool) -> impl Iterator<Item = String> + 'm {
    let applied = move |(ip, mac): ([Option<&String>; 2], [Option<&String>; 2])| {
        if is_ip { ip.contains(&Some(name)) } else { mac.contains(&Some(name)) }
    };
    model.all_settings().filter(move |(_, s)| applied(s.acls())).map(|(user, _)| user)
}

fn list(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let is_ip = args.text("kind") == Some("ip");
    let name = text(args, "name")?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            // Tools begin with this, whether there is one or not.
            if !model.acls.contains_key(&name) {
                return Ok(Vec::new());
            }
            find(model, &name, is_ip)?;
            model.acls.remove(&name);
            let users = some(users(model, &name, is_ip));
            let warn =
                || format!("Access list '{name}' is still applied to {users}, where everything is permitted now");
            Ok(if users.is_empty() { Vec::new() } else { vec![warn()] })
        }));
    }
    let subject = Subject::Name(name.clone());
    let output = session.edit(Box::new(move |model| create(model, name, is_ip)))?;
    session.enter(if is_ip { Mode::IpAcl } else { Mode::MacAcl }, subject);
    Ok(output)
}

fn create(model: &mut Model, name: String, is_ip: bool) -> target::Outcome {
    if model.acls.contains_key(&name) {
        return find(model, &name, is_ip).map(|_| Vec::new());
    }
    make_room(false, model.acls.len(), ACLS_MAX, "access lists")?;
    let unfit = some(users(model, &name, !is_ip));
    if !unfit.is_empty() {
        return Err(format!("'{name}' is applied as {} access list to {unfit}", kind_words(!is_ip)));
    }
    let entries = if is_ip { Entries::Ip(BTreeMap::new()) } else { Entries::Mac(BTreeMap::new()) };
    model.acls.insert(name, AccessList { statistics: false, entries });
    Ok(Vec::new())
}

fn resequence(session: &mut Session, args: &Args) -> Result<Output, Error> {
    fn renumber<R>(entries: &mut BTreeMap<u32, Entry<R>>, start: u32, increment: u32) -> Result<(), String> {
        let steps = u64::try_from(entries.len().saturating_sub(1)).unwrap_or(u64::MAX);
        let last = steps.checked_mul(increment.into()).and_then(|n| n.checked_add(start.into()));
        if last.is_none_or(|last| last > u32::MAX.into()) {
            return Err("The last sequence number would be too large".to_owned());
        }
        let numbers = (u64::from(start)..).step_by(increment as usize).map_while(|n| u32::try_from(n).ok());
        *entries = numbers.zip(std::mem::take(entries).into_values()).collect();
        Ok(())
    }
    let is_ip = args.text("kind") == Some("ip");
    let name = text(args, "name")?;
    let (start, increment) = (wanted(args.number("start"))?, wanted(args.number("increment"))?);
    session.edit(Box::new(move |model| {
        match &mut find(model, &name, is_ip)?.entries {
            Entries::Ip(entries) => renumber(entries, start, increment)?,
            Entries::Mac(entries) => renumber(entries, start, increment)?,
        }
        Ok(Vec::new())
    }))
}

/// Puts an entry at its number, or behind the last. The same entry at the same number is no change.
fn insert<R: PartialEq>(
    entries: &mut BTreeMap<u32, Entry<R>>,
    sequence: Option<u32>,
    entry: Entry<R>,
) -> Result<(), String> {
    let next = entries.last_key_value().map_or(Some(10), |(last, _)| last.checked_add(10));
    let sequence = sequence.or(next).ok_or("There is no sequence number behind the last entry; resequence the list")?;
    match entries.get(&sequence) {
        Some(present) if *present == entry => return Ok(()),
        Some(_) => return Err(format!("Duplicate sequence number {sequence}")),
        None if entries.len() == ACL_ENTRIES_MAX => {
            return Err(format!("The list has {ACL_ENTRIES_MAX} entries already"));
        }
        None => entries.insert(sequence, entry),
    };
    Ok(())
}

/// Takes the entry out: the one at the number, or the first that is the same.
fn remove<R: PartialEq>(
    entries: &mut BTreeMap<u32, Entry<R>>,
    sequence: Option<u32>,
    entry: Option<&Entry<R>>,
) -> Result<(), String> {
    let mut found =
        entries.iter().filter(|(n, e)| sequence.is_none_or(|s| s == **n) && entry.is_none_or(|wanted| wanted == *e));
    let number = found.next().map(|(n, _)| *n).ok_or("The list has no such entry")?;
    entries.remove(&number);
    Ok(())
}

fn change<R: PartialEq>(
    entries: &mut BTreeMap<u32, Entry<R>>,
    negated: bool,
    sequence: Option<u32>,
    entry: Entry<R>,
) -> Result<(), String> {
    if negated { remove(entries, sequence, Some(&entry)) } else { insert(entries, sequence, entry) }
}

fn ip_entry(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let rule = ip_rule(args)?;
    let (negated, sequence) = (args.negated, args.number("sequence"));
    edit_acl(session, move |list| match &mut list.entries {
        Entries::Ip(entries) => change(entries, negated, sequence, Entry::Rule(rule)),
        Entries::Mac(_) => Err("The list is a MAC access list now".to_owned()),
    })
}

fn mac_entry(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let rule = mac_rule(args)?;
    let (negated, sequence) = (args.negated, args.number("sequence"));
    let output = edit_acl(session, move |list| match &mut list.entries {
        Entries::Mac(entries) => change(entries, negated, sequence, Entry::Rule(rule)),
        Entries::Ip(_) => Err("The list is an IP access list now".to_owned()),
    })?;
    match (negated, rule.ethertype) {
        (false, Some(0x0800)) => Ok(Output::text("Warning: A MAC access list does not see IPv4 packets\n")),
        _ => Ok(output),
    }
}

fn remark(session: &mut Session, args: &Args) -> Result<Output, Error> {
    fn change<R: PartialEq>(
        entries: &mut BTreeMap<u32, Entry<R>>,
        negated: bool,
        sequence: Option<u32>,
        remark: Option<String>,
    ) -> Result<(), String> {
        match (negated, remark.map(Entry::Remark)) {
            (true, entry) => remove(entries, sequence, entry.as_ref()),
            (false, Some(entry)) => insert(entries, sequence, entry),
            (false, None) => Err("Incomplete command".to_owned()),
        }
    }
    let remark = match args.text("text") {
        Some(_) => Some(target::short(args, "text", 100)?),
        None => None,
    };
    let (negated, sequence) = (args.negated, args.number("sequence"));
    edit_acl(session, move |list| match &mut list.entries {
        Entries::Ip(entries) => change(entries, negated, sequence, remark),
        Entries::Mac(entries) => change(entries, negated, sequence, remark),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_numbered_by_ten_and_never_replaced() {
        let mut entries: BTreeMap<u32, Entry<u8>> = BTreeMap::new();
        for rule in [1, 2, 1] {
            insert(&mut entries, None, Entry::Rule(rule)).unwrap();
        }
        assert_eq!(entries.keys().copied().collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(insert(&mut entries, Some(20), Entry::Rule(2)), Ok(()));
        assert!(insert(&mut entries, Some(20), Entry::Rule(3)).is_err());
        insert(&mut entries, Some(u32::MAX), Entry::Remark("end".into())).unwrap();
        assert!(insert(&mut entries, None, Entry::Rule(4)).is_err());
        remove(&mut entries, None, Some(&Entry::Rule(1))).unwrap();
        assert_eq!(entries.keys().copied().collect::<Vec<_>>(), [20, 30, u32::MAX]);
        assert!(remove(&mut entries, Some(20), Some(&Entry::Rule(1))).is_err());
        assert!(remove(&mut entries, Some(40), None).is_err());
    }
}
