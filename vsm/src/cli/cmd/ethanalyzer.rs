//! `ethanalyzer local interface ...`: the frames of any port of any module, as the switch sees them there.
//!
//! The module looks on and keeps what the filter lets pass; it is asked ten times a second what it has seen. At a terminal
//! each frame is shown as it comes and Ctrl-C ends the capture; else they are shown at the end, and the capture ends by
//! itself after [`UNATTENDED_S`] unless `autostop` says otherwise. Frames hold what people say to each other, so it is for
//! administrators.

use std::time::{Duration, Instant, SystemTime};

use proto::capture::{Captured, Frame, Wanted};
use proto::name::IfName;
use proto::query::Query;
use proto::report::Answer;
use time::OffsetDateTime;

use super::show::gather::known_ports;
use super::source::{file_name, refused};
use crate::capture::{About, compile, file};
use crate::cli::render::{Output, Table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};

/// Frames that are captured when no number is given.
const FRAMES: u32 = 10;
/// Most frames of a capture.
pub const FRAMES_MAX: u32 = 100_000;
/// Most octets of the frames of a capture.
pub const OCTETS_MAX: usize = 64 << 20;
/// Seconds after which a capture ends that nobody can end by a key.
const UNATTENDED_S: u32 = 30;
/// Seconds after which any capture ends.
const LONGEST_S: u32 = 3600;
/// Time between two readings.
const PAUSE: Duration = Duration::from_millis(100);

const WORDS: &[(&str, &str)] = &[
    ("ethanalyzer", "Capture the frames of a port"),
    ("local", "On this switch"),
    ("interface", "The port"),
    ("capture-filter", "Which frames, as tcpdump understands it"),
    ("filter", "Filter in quotes, such as \"icmp or arp\""),
    ("limit-captured-frames", "How many frames"),
    ("frames", "Frames; 10 when it is not said"),
    ("limit-frame-size", "How much of each frame"),
    ("octets", "Octets"),
    ("autostop", "When to end by itself"),
    ("duration", "After so many seconds"),
    ("seconds", "Seconds"),
    ("write", "Write a pcapng file, and show no frames"),
    ("file", "File, such as bootflash:NAME"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![Command {
        modes: &[Mode::Exec],
        syntax: "ethanalyzer local interface <if:if> [ capture-filter <filter:quoted> | \
                 limit-captured-frames <frames:num:1-100000> | limit-frame-size <octets:num:64-65535> | \
                 autostop duration <seconds:num:1-3600> | write <file:word80> ]*",
        help: "Capture the frames of a port, as text or as a pcapng file",
        words: WORDS,
        no: None,
        run,
    }]
}

/// What was asked for.
struct Plan {
    name: IfName,
    slot: u8,
    description: String,
    filter: String,
    frames: usize,
    snap: u32,
    until: Instant,
    file: Option<String>,
}

fn plan(session: &Session, args: &Args, attended: bool) -> Result<Plan, Error> {
    let port = known_ports(session, args)?;
    let port = port.first().ok_or_else(|| Error::Refused("There is no such interface".to_owned()))?;
    let absent = || Error::Refused(format!("{} is on no module", port.name));
    let slot = port.slot.ok_or_else(absent)?;
    let device = port.report.as_ref().map(|report| report.device.clone()).ok_or_else(absent)?;
    let seconds = args.number("seconds").unwrap_or(if attended { LONGEST_S } else { UNATTENDED_S });
    Ok(Plan {
        name: port.name,
        slot,
        description: format!("module {slot} ({}), {device}", port.host),
        filter: args.text("filter").unwrap_or_default().to_owned(),
        frames: args.number("frames").unwrap_or(FRAMES) as usize,
        snap: args.number("octets").unwrap_or(65_535),
        until: Instant::now() + Duration::from_secs(seconds.into()),
        file: args.text("file").map(file_name).transpose()?,
    })
}

fn run(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let live = session.live();
    let plan = plan(session, args, live.is_some_and(|live| live.has_keys()))?;
    let filter = compile(&plan.filter).map_err(|why| Error::Refused(format!("capture-filter: {why}")))?;
    let wanted = Wanted { port: plan.name, filter, snap: plan.snap };
    let begun = ask(session, plan.slot, Query::CaptureBegin(wanted))?;
    say(session, &format!("Capturing on {} ({})\n", plan.name, plan.description));
    let outcome = collect(session, &plan, begun.id);
    let ended = session.handle.ask(Query::CaptureEnd(begun.id), Some(plan.slot));
    drop(ended);
    let (frames, last) = outcome?;
    finish(session, &plan, &frames, &last)
}

fn ask(session: &Session, slot: u8, query: Query) -> Result<Captured, Error> {
    match session.handle.ask(query, Some(slot)).pop() {
        Some((_, Ok(Answer::Captured(captured)))) => Ok(captured),
        Some((_, Ok(Answer::Failed(why)) | Err(why))) => Err(Error::Refused(why)),
        _ => Err(Error::Refused(format!("module {slot} gave no answer"))),
    }
}

/// `false` when nobody is there any more.
fn say(session: &mut Session, text: &str) -> bool {
    session.live_mut().is_none_or(|live| live.show(text))
}

fn collect(session: &mut Session, plan: &Plan, id: u64) -> Result<(Vec<Frame>, Captured), Error> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut octets = 0;
    loop {
        let over = Instant::now() >= plan.until || session.live_mut().is_some_and(|live| live.interrupted());
        let mut captured = ask(session, plan.slot, Query::CaptureRead(id))?;
        let room = plan.frames.saturating_sub(frames.len());
        let new: Vec<Frame> = std::mem::take(&mut captured.frames).into_iter().take(room).collect();
        octets += new.iter().map(|frame| frame.octets.len()).sum::<usize>();
        let lines: String = new.iter().map(|frame| line(plan.name, frame)).collect();
        let heard = plan.file.is_some() || lines.is_empty() || say(session, &lines);
        frames.extend(new);
        if over || !heard || frames.len() >= plan.frames || octets >= OCTETS_MAX || captured.ended.is_some() {
            return Ok((frames, captured));
        }
        std::thread::sleep(PAUSE);
    }
}

/// A moment, given in nanoseconds since 1970.
pub fn moment(at_ns: u64) -> String {
    let at = OffsetDateTime::from(SystemTime::UNIX_EPOCH + Duration::from_nanos(at_ns));
    let (date, hour, minute, second, micro) = (at.date(), at.hour(), at.minute(), at.second(), at.microsecond());
    format!("{date} {hour:02}:{minute:02}:{second:02}.{micro:06}")
}

fn cells(name: IfName, frame: &Frame) -> [String; 5] {
    [
        moment(frame.at_ns),
        name.short(),
        if frame.received { "rx" } else { "tx" }.to_owned(),
        frame.length.to_string(),
        crate::log::clean(&frame.headers, 300),
    ]
}

fn line(name: IfName, frame: &Frame) -> String {
    let [at, name, direction, length, headers] = cells(name, frame);
    format!("{at}  {name} {direction}  {length:>5}  {headers}\n")
}

fn finish(session: &mut Session, plan: &Plan, frames: &[Frame], last: &Captured) -> Result<Output, Error> {
    let lost = match last.lost {
        0 => String::new(),
        lost => format!(", {lost} more were lost for want of room"),
    };
    let why = last.ended.iter().map(|why| format!("; {why}")).collect::<String>();
    let mut told = format!("{} frames captured{lost}{why}\n", frames.len());
    if let Some(name) = &plan.file {
        let switch = format!("{} ({})", session.hostname(), session.handle.facts().software);
        let about = About {
            switch: &switch,
            interface: &plan.name.to_string(),
            description: &plan.description,
            filter: &plan.filter,
            snap: plan.snap,
            comment: told.trim_end(),
        };
        let octets = file(&about, frames).map_err(Error::Refused)?;
        let written = session.handle.lifecycle().files.write_octets(name, &octets, SystemTime::now());
        written.map_err(refused)?;
        told.push_str(&format!("Written to bootflash:{name}\n"));
        return Ok(Output::text(told));
    }
    if session.live().is_some() {
        return Ok(Output::text(told));
    }
    Ok(shown(plan.name, frames, &told))
}

/// All frames at once, for who could not be shown them as they came.
pub fn shown(name: IfName, frames: &[Frame], told: &str) -> Output {
    let mut table = Table::new("frame")
        .left("Time", "time", 26)
        .left("Port", "interface", 5)
        .left("Way", "direction", 3)
        .right("Octets", "octets", 6)
        .left("Headers", "headers", 20);
    frames.iter().for_each(|frame| table.row(cells(name, frame)));
    let text: String = frames.iter().map(|frame| line(name, frame)).collect();
    Output::with_json(text + told, table.json())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let frame = |at_ns, received| Frame {
            at_ns,
            received,
            length: 98,
            octets: Vec::new(),
            headers: "0200.0000.0001 > 0200.0000.0002 10.0.0.1 > 10.0.0.2 icmp type 8 code 0".into(),
        };
        let frames = [frame(1_795_222_923_000_001_000, true), frame(1_795_222_923_000_321_000, false)];
        sample::check("ethanalyzer", &shown(IfName::Vethernet(1), &frames, "2 frames captured\n"));
    }
}
