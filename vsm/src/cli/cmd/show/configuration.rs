//! `show running-config`, its differences from what is saved, and `show startup-config`.

use std::time::SystemTime;

use similar::{DiffOp, DiffTag, TextDiff};

use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};
use crate::config::model::{Model, is_builtin};
use crate::config::running::{self, Part};
use crate::config::startup;

const WORDS: &[(&str, &str)] = &[
    ("running-config", "The configuration that runs"),
    ("startup-config", "The configuration of the next start"),
    ("all", "With the defaults"),
    ("names", "Interfaces, such as vethernet 1-4"),
    ("name", "Port profile"),
    ("aclmgr", "Access lists, and where they are applied"),
    ("vlan", "VLANs"),
    ("ids", "VLANs, such as 1-5,10"),
    ("netflow", "Flow export, and where it is applied"),
    ("monitor", "Monitor sessions"),
    ("ntp", "Time servers"),
    ("diff", "What differs from the startup configuration"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let show = |syntax, help, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no: None, run };
    vec![
        show(
            "show running-config [ all | diff | interface [<names:ifs>] | port-profile [<name:word80>] | vlan [<ids:vlans>] | aclmgr | \
             netflow | monitor | ntp ]",
            "The configuration that runs",
            running_config,
        ),
        show("show startup-config", "The configuration of the next start", startup_config),
    ]
}

fn running_config(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let names = args.interfaces("names");
    if let Some(name) = names.iter().find(|name| !model.interfaces.contains_key(name)) {
        return Err(Error::Refused(format!("{name} does not exist")));
    }
    let profile = args.text("name").map(str::to_owned);
    if let Some(name) = profile.as_ref().filter(|name| !model.profiles.contains_key(*name)) {
        return Err(Error::Refused(format!("Port-profile '{name}' does not exist")));
    }
    if let Some(name) = profile.as_ref().filter(|name| is_builtin(name)) {
        return Err(Error::Refused(format!("Port-profile '{name}' is built in; 'show port-profile name' shows it")));
    }
    if args.has("diff") {
        return diff(session, &model);
    }
    let (part, what) = match () {
        () if args.has("all") => (Part::All, " all".to_owned()),
        () if !names.is_empty() => {
            let list: Vec<String> = names.iter().map(ToString::to_string).collect();
            (Part::Interfaces(names.to_vec()), format!(" interface {}", list.join(",")))
        }
        () if args.has("interface") => {
            (Part::Interfaces(model.interfaces.keys().copied().collect()), " interface".to_owned())
        }
        () if args.has("port-profile") => {
            let what = profile.iter().map(|name| format!(" {name}")).collect::<String>();
            (Part::Profiles(profile), format!(" port-profile{what}"))
        }
        () if args.has("vlan") => {
            let ids = args.vlans("ids").cloned();
            let what = ids.iter().map(|ids| format!(" {ids}")).collect::<String>();
            (Part::Vlans(ids), format!(" vlan{what}"))
        }
        () if args.has("aclmgr") => (Part::AccessLists, " aclmgr".to_owned()),
        () if args.has("netflow") => (Part::Netflow, " netflow".to_owned()),
        () if args.has("ntp") => (Part::Lines("ntp "), " ntp".to_owned()),
        () if args.has("monitor") => (Part::Monitor, " monitor".to_owned()),
        () => (Part::Whole, String::new()),
    };
    let (command, now) = (format!("show running-config{what}"), SystemTime::now());
    let text = match part {
        Part::Whole => running::headed(&session.handle.text_of(&model), &command, now),
        _ => running::text(&model, &part, &command, now),
    };
    Ok(Output::text(text))
}

/// The startup configuration is read first, so that only what it means is compared, not how it is written.
fn diff(session: &Session, model: &Model) -> Result<Output, Error> {
    let saved = match session.handle.lifecycle().startup.text() {
        Some(text) => startup::load(&text).map_err(|errors| {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            Error::Refused(format!("The startup configuration can not be read: {first}"))
        })?,
        None => Model::default(),
    };
    let [before, after] = [&saved, model].map(|model| running::body(model, &Part::Whole));
    Ok(Output::text(context_diff(["Startup-config", "Running-config"], &before, &after)))
}

/// The classic form with context: lines that are gone (`-`), new (`+`) or changed (`!`), three lines around them.
pub fn context_diff(titles: [&str; 2], before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut text = String::new();
    for group in diff.grouped_ops(3) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let side = |is_old: bool| {
            let line = |index| if is_old { diff.old_slice(index) } else { diff.new_slice(index) };
            let range = |op: &DiffOp| if is_old { op.old_range() } else { op.new_range() };
            let (start, end) = (range(first).start, range(last).end);
            let rule = if is_old { ("***", "****") } else { ("---", "----") };
            let mut side = format!("{} {},{} {}\n", rule.0, end.min(start + 1), end, rule.1);
            let gone = if is_old { DiffTag::Delete } else { DiffTag::Insert };
            if group.iter().any(|op| op.tag() == gone || op.tag() == DiffTag::Replace) {
                for op in &group {
                    let mark = match op.tag() {
                        DiffTag::Equal => ' ',
                        DiffTag::Delete => '-',
                        DiffTag::Insert => '+',
                        DiffTag::Replace => '!',
                    };
                    side.extend(range(op).filter_map(line).map(|line| format!("{mark} {line}")));
                }
            }
            side
        };
        text.push_str(&format!("***************\n{}{}", side(true), side(false)));
    }
    let [old, new] = titles;
    if text.is_empty() { text } else { format!("*** {old}\n--- {new}\n{text}") }
}

fn startup_config(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let text = session
        .handle
        .lifecycle()
        .startup
        .text()
        .ok_or_else(|| Error::Refused("There is no startup configuration".to_owned()))?;
    Ok(Output::text(text.to_string()))
}
