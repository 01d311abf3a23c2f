//! Configurations as files: `copy`, `write erase`, `dir`, `delete`, `show file`.
//!
//! `copy` to the running configuration types the text on top of what runs, as on NX-OS, but all of it or nothing; to the
//! startup configuration it takes only what could start. `rollback` puts a text in place of what runs.

use std::time::SystemTime;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use time::OffsetDateTime;

use super::source::{Source, file_name, refused};
use super::target::text;
use crate::cli::render::{Output, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::startup;
use crate::folder::Entry;

const WORDS: &[(&str, &str)] = &[
    ("running-config", "The configuration that runs"),
    ("startup-config", "The configuration of the next start"),
    ("from", "File, such as bootflash:NAME"),
    ("to", "File, such as bootflash:NAME"),
    ("file", "File, such as bootflash:NAME"),
    ("write", "Write or erase the startup configuration"),
    ("erase", "Erase the startup configuration"),
    ("dir", "List the files"),
    ("place", "bootflash:, or a file of it"),
    ("delete", "Delete a file"),
    ("sum", "Checksum"),
    ("md5sum", "MD5"),
    ("sha256sum", "SHA-256"),
    ("sha512sum", "SHA-512"),
    ("no-prompt", "Nothing is asked anyway"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let exec = |syntax, help, run: Run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no: None, run };
    vec![
        exec(
            "copy { running-config | startup-config | <from:word80> } { running-config | startup-config | <to:word80> }",
            "Copy a configuration: save it, keep it as a file, or apply a file",
            copy,
        ),
        exec("write erase", "Erase the startup configuration", erase),
        exec("dir [<place:word80>]", "List the files of bootflash:", dir),
        exec("delete <file:word80> [no-prompt]", "Delete a file of bootflash:", delete),
        exec(
            "show file <file:word80> <sum=md5sum|sha256sum|sha512sum>",
            "Display the checksum of a file of bootflash:",
            checksum,
        ),
        exec("show file <file:word80>", "Display a file of bootflash:", |session, args| {
            let text = Source::File(file_name(&text(args, "file")?)?).text(session)?;
            Ok(Output::with_json(text.clone(), leaves([("file_content_ascii", text)])))
        }),
    ]
}

/// The checksum alone, as clients read it that have copied the file.
fn checksum(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = file_name(&text(args, "file")?)?;
    let octets = session.handle.lifecycle().files.read_octets(&name).map_err(refused)?.ok_or_else(|| missing(&name))?;
    let kind = text(args, "sum")?;
    let sum = match kind.as_str() {
        "md5sum" => hex(&Md5::digest(&octets)),
        "sha256sum" => hex(&Sha256::digest(&octets)),
        _ => hex(&Sha512::digest(&octets)),
    };
    Ok(Output::with_json(format!("{sum}\n"), leaves([(format!("file_content_{kind}"), sum)])))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn missing(name: &str) -> Error {
    Error::Refused(format!("bootflash:{name}: No such file or directory"))
}

/// The name in full: a word that stands alone is more likely meant for another command than for a file.
fn whole_name(text: &str) -> Result<String, Error> {
    match text.starts_with("bootflash:") {
        true => file_name(text),
        false => Err(Error::Refused(format!("'{text}' is no file: files are named bootflash:NAME"))),
    }
}

/// One side of `copy`: the keyword at its place, or the file.
fn side(args: &Args, name: &str, words: &mut impl Iterator<Item = &'static str>) -> Result<Source, Error> {
    match args.text(name) {
        Some(file) => whole_name(file).map(Source::File),
        None if words.next() == Some("startup-config") => Ok(Source::Startup),
        None => Ok(Source::Running),
    }
}

fn copy(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let mut words = args.words.iter().skip(1).copied();
    let from = side(args, "from", &mut words)?;
    let to = side(args, "to", &mut words)?;
    if from == to {
        return Err(Error::Refused(format!("{} can not be copied to itself", from.title())));
    }
    let now = SystemTime::now();
    let life = session.handle.lifecycle();
    let mut warnings = Vec::new();
    match &to {
        Source::Startup if from == Source::Running => session.handle.save(now).map_err(Error::Refused)?,
        Source::Startup => {
            from.model(session)?;
            let text = from.text(session)?;
            session.may_type(&startup::lines(&text))?;
            let saved = life.startup.save(&text);
            saved.map_err(|e| Error::Refused(format!("The startup configuration was not written: {e}")))?;
        }
        Source::File(name) => life.files.write(name, &from.text(session)?, now).map_err(refused)?,
        Source::Running | Source::Checkpoint(_) => {
            let lines = startup::lines(&from.text(session)?);
            session.may_type(&lines)?;
            let merged = session.handle.merge(&lines);
            warnings = merged.map_err(|why| Error::Refused(format!("{}: {why}", from.title())))?;
        }
    }
    let warnings = warnings.iter().map(|warning| format!("Warning: {warning}\n")).collect::<String>();
    Ok(Output::text(format!("{warnings}[########################################] 100%\nCopy complete.\n")))
}

fn erase(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let erased = session.handle.lifecycle().startup.erase();
    erased.map_err(|e| Error::Refused(format!("The startup configuration was not erased: {e}")))?;
    Ok(Output::none())
}

fn delete(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = whole_name(&text(args, "file")?)?;
    match session.handle.lifecycle().files.remove(&name).map_err(refused)? {
        true => Ok(Output::none()),
        false => Err(missing(&name)),
    }
}

fn dir(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let folder = &session.handle.lifecycle().files;
    let mut entries = folder.list().map_err(refused)?;
    let place = args.text("place").unwrap_or("bootflash:");
    if !matches!(place, "bootflash:" | "bootflash:/" | "bootflash:///") {
        let name = file_name(place)?;
        entries.retain(|entry| entry.name == name);
        if entries.is_empty() {
            // As the system says it, and no error: programs look for the file before they copy it.
            return Ok(Output::text("No such file or directory\n"));
        }
    }
    let (free, total) = folder.room();
    Ok(listing(&entries, free, total))
}

/// The files, and the room on their disk.
pub fn listing(entries: &[Entry], free: u64, total: u64) -> Output {
    let used = total.saturating_sub(free);
    let mut text = String::new();
    let mut rows = Vec::new();
    for Entry { name, octets, written } in entries {
        let t = OffsetDateTime::from(*written);
        let month = t.month().to_string();
        let (day, hour, minute, second) = (t.day(), t.hour(), t.minute(), t.second());
        let time = format!("{month:.3} {day:02} {hour:02}:{minute:02}:{second:02} {}", t.year());
        text.push_str(&format!("{octets:>11}    {time}  {name}\n"));
        rows.push(leaves([("fsize", octets.to_string()), ("timestring", time), ("fname", name.clone())]));
    }
    text.push_str(&format!(
        "\nUsage for bootflash://\n{used:>11} bytes used\n{free:>11} bytes free\n{total:>11} bytes total\n"
    ));
    let usage = leaves([
        ("usage", "bootflash://".to_owned()),
        ("bytesused", used.to_string()),
        ("bytesfree", free.to_string()),
        ("bytestotal", total.to_string()),
    ]);
    Output::with_json(text, merged([table("dir", rows), usage]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let entry = |name: &str, octets| Entry { name: name.into(), octets, written: sample::now() };
        sample::check("dir", &listing(&[entry("before-move.cfg", 1234), entry("lab", 99_999)], 7_000_000, 10_000_000));
    }
}
