//! `show checkpoint` and `show diff rollback-patch`

use std::time::{Duration, UNIX_EPOCH};

use time::OffsetDateTime;

use crate::cli::cmd::source::{Source, checkpoint, file_name, refused};
use crate::cli::render::{Output, leaves, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::checkpoint::Checkpoint;
use crate::config::patch::patch;

use super::exec;

const WORDS: &[(&str, &str)] = &[
    ("checkpoint", "Checkpoints"),
    ("all", "All checkpoints, with their configuration"),
    ("summary", "All checkpoints, without their configuration"),
    ("name", "Name of the checkpoint"),
    ("diff", "What to type to make one configuration into another"),
    ("rollback-patch", "What to type to make one configuration into another"),
    ("running-config", "The configuration that runs"),
    ("startup-config", "The configuration of the next start"),
    ("file", "A file of bootflash:"),
    ("from", "Checkpoint that it begins with"),
    ("to", "Checkpoint that it ends with"),
    ("from_file", "File, such as bootflash:NAME"),
    ("to_file", "File, such as bootflash:NAME"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show checkpoint [ all | summary | <name:word80> ]", "Display checkpoints", WORDS, |session, args| {
            let kept = match args.text("name") {
                Some(name) => {
                    let missing = || Error::Refused(format!("Checkpoint {name} does not exist"));
                    vec![checkpoint(session, name)?.ok_or_else(missing)?]
                }
                None => all(session)?,
            };
            Ok(if args.has("summary") { summary(&kept) } else { whole(&kept) })
        }),
        exec(
            "show diff rollback-patch { running-config | startup-config | checkpoint <from:word80> | file <from_file:word80> } \
             { running-config | startup-config | checkpoint <to:word80> | file <to_file:word80> }",
            "Display what to type to make one configuration into another",
            WORDS,
            diff,
        ),
    ]
}

fn all(session: &Session) -> Result<Vec<Checkpoint>, Error> {
    let entries = session.handle.lifecycle().checkpoints.list().map_err(refused)?;
    let mut kept = Vec::new();
    for entry in entries {
        kept.extend(checkpoint(session, &entry.name)?);
    }
    kept.sort_by(|a, b| (a.at_s, &a.name).cmp(&(b.at_s, &b.name)));
    Ok(kept)
}

fn row(kept: &Checkpoint) -> Vec<(&'static str, String)> {
    let t = OffsetDateTime::from(UNIX_EPOCH + Duration::from_secs(kept.at_s));
    let (weekday, month) = (t.weekday().to_string(), t.month().to_string());
    let (hour, minute, second) = (t.hour(), t.minute(), t.second());
    let at = format!("{weekday:.3}, {hour:02}:{minute:02}:{second:02} {:02} {month:.3} {}", t.day(), t.year());
    vec![
        ("name", kept.name.clone()),
        ("created_by", kept.by.clone()),
        ("created_time", at),
        ("size", thousands(kept.text.len())),
        ("description", kept.description.clone().unwrap_or_else(|| "None".to_owned())),
    ]
}

/// `26,154`
fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let comma = |(at, digit): (usize, char)| {
        let is_group = at > 0 && (digits.len() - at).is_multiple_of(3);
        is_group.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(comma).collect()
}

/// Who kept what when.
pub fn summary(kept: &[Checkpoint]) -> Output {
    let mut text = String::new();
    let mut rows = Vec::new();
    for (number, kept) in (1..).zip(kept) {
        let cells = row(kept);
        if let [(_, name), (_, by), (_, at), (_, size), (_, description)] = cells.as_slice() {
            text.push_str(&format!(
                "{number}) {name}:\nCreated by {by}\nCreated at {at}\nSize is {size} bytes\nDescription: {description}\n\n"
            ));
        }
        rows.push(leaves(cells));
    }
    if !text.is_empty() {
        text.insert_str(0, &format!("User Checkpoint Summary\n{}\n", "-".repeat(80)));
    }
    Output::with_json(text, table("checkpoint", rows))
}

/// The configurations.
pub fn whole(kept: &[Checkpoint]) -> Output {
    let line = "-".repeat(80);
    let text = |kept: &Checkpoint| format!("{line}\nName: {}\n\n{}\n", kept.name, kept.text);
    let json = |kept: &Checkpoint| leaves(row(kept).into_iter().chain([("config", kept.text.clone())]));
    Output::with_json(kept.iter().map(text).collect::<String>(), table("checkpoint", kept.iter().map(json).collect()))
}

fn diff(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let mut words = args.words.iter().skip(3);
    let mut side = |name: &str, path: &str| match words.next() {
        Some(&"startup-config") => Ok(Source::Startup),
        Some(&"checkpoint") => Ok(Source::Checkpoint(args.text(name).unwrap_or_default().to_owned())),
        Some(&"file") => file_name(args.text(path).unwrap_or_default()).map(Source::File),
        _ => Ok(Source::Running),
    };
    let (from, to) = (side("from", "from_file")?, side("to", "to_file")?);
    let lines = patch(&from.model(session)?, &to.model(session)?);
    let collected = if [&from, &to].contains(&&Source::Running) { "Collecting Running-Config\n" } else { "" };
    let patch = match lines.is_empty() {
        true => "Rollback Patch is Empty\n".to_owned(),
        false => format!("!!\n!\n{}\n", lines.join("\n")),
    };
    Ok(Output::text(format!("{collected}#Generating Rollback Patch\n{patch}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let kept = |name: &str, description: Option<&str>, text: &str| Checkpoint {
            name: name.into(),
            by: "admin".into(),
            at_s: 1_795_222_923,
            description: description.map(str::to_owned),
            text: text.into(),
        };
        let kept = [
            kept("stable", Some("before the move"), "hostname n1000v\n"),
            kept("user-checkpoint-1", None, &"!\n".repeat(13_077)),
        ];
        sample::check("checkpoint_summary", &summary(&kept));
        sample::check("checkpoint", &whole(&kept[..1]));
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
