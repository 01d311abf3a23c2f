//! `debug packet`: real frames as they pass, stage by stage.
//!
//! The modules pick the frames and tell what became of each; they are asked ten times a second. It ends with as many frames as
//! were asked for, at its time, with Ctrl-C, and by `undebug all` in any session. A module that nobody asks ends it too, so
//! nothing stays behind. What is shown are headers of what people say to each other, so it is for administrators.

use std::time::{Duration, Instant};

use proto::name::IfName;
use proto::passage::{Passage, Told, WatchRow, Watched};
use proto::query::Query;
use proto::report::Answer;

use super::show::gather::{Asked, ask, known_ports};
use super::trace::passages;
use crate::capture::compile;
use crate::cli::render::{Output, Table, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};

/// Frames that are shown when no number is given.
const FRAMES: u32 = 10;
/// Seconds after which it ends when no time is given.
const SECONDS: u32 = 60;
/// Time between two readings.
const PAUSE: Duration = Duration::from_millis(100);

const WORDS: &[(&str, &str)] = &[
    ("debug", "Show what happens as it happens"),
    ("undebug", "End debugging"),
    ("all", "Of every session"),
    ("packet", "Frames, stage by stage"),
    ("filter", "Which frames, as tcpdump understands it"),
    ("pattern", "Filter in quotes, such as \"icmp or arp\""),
    ("flow", "Flow export"),
    ("exporter", "What exporters send"),
    ("level", "How much"),
    ("interface", "Those that one port receives"),
    ("module", "Those of one module"),
    ("slot", "Module number"),
    ("count", "How many frames"),
    ("frames", "Frames; 10 when it is not said"),
    ("duration", "How long at most"),
    ("seconds", "Seconds; 60 when it is not said"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let command = |syntax, help, no, run| Command { modes: &[Mode::Exec], syntax, help, words: WORDS, no, run };
    vec![
        command(
            "debug packet [ filter <pattern:quoted> | interface <if:if> | module <slot:num:3-66> | \
             count <frames:num:1-1000> | duration <seconds:num:1-600> ]*",
            "Show real frames as they pass, stage by stage",
            None,
            debug,
        ),
        command(
            "debug flow exporter level <level:num:1-2> [module <slot:num:3-66>]",
            "Have the flow export say what it sends, in the logs of the modules",
            Some("debug flow exporter [level <level:num:1-2>] [module <slot:num:3-66>]"),
            exporter,
        ),
        command("undebug all", "End all debugging", None, |session, _| end(session)),
        command(
            "debug all",
            "Debugging of everything; only to be ended",
            Some("debug all"),
            |session, args| match args.negated {
                true => end(session),
                false => Err(Error::Refused("Say what is to be debugged, such as: debug packet".to_owned())),
            },
        ),
        command("show debug", "Display what is being debugged", None, show),
    ]
}

/// Modules write to their own logs, so nothing is shown here.
fn exporter(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let level = args.number("level").filter(|_| !args.negated).and_then(|level| u8::try_from(level).ok()).unwrap_or(0);
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    let asked: Asked<()> = ask(session, Query::ExporterLevel(level), slot, |answer| match answer {
        Answer::Done => Some(Vec::new()),
        _ => None,
    });
    let said =
        if level == 0 { "" } else { "The flow export of the modules says in their logs what it sends, for an hour\n" };
    Ok(asked.warn(Output::text(said)))
}

fn end(session: &mut Session) -> Result<Output, Error> {
    let asked: Asked<()> = ask(session, Query::WatchEnd(None), None, |answer| match answer {
        Answer::Done => Some(Vec::new()),
        _ => None,
    });
    Ok(asked.warn(Output::text("All possible debugging has been turned off\n")))
}

fn show(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let asked: Asked<WatchRow> = ask(session, Query::Watches, None, |answer| match answer {
        Answer::Watches(rows) => Some(rows),
        _ => None,
    });
    Ok(asked.warn(running(&asked.rows)))
}

/// What runs.
pub fn running(rows: &[(u8, WatchRow)]) -> Output {
    let mut table = Table::new("debug")
        .left("Mod", "module", 3)
        .right("Matched", "matched", 9)
        .right("Left", "seconds_left", 6)
        .left("What", "what", 20);
    for (slot, row) in rows {
        let left = format!("{} s", row.seconds_left);
        table.row([slot.to_string(), row.matched.to_string(), left, crate::log::clean(&row.what, 300)]);
    }
    match rows {
        [] => Output::with_json("Nothing is being debugged\n", table.json()),
        _ => table.output(),
    }
}

/// What was asked for.
struct Plan {
    port: Option<IfName>,
    /// The module, or all.
    slot: Option<u8>,
    frames: usize,
    until: Instant,
}

fn debug(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let port = args.interface("if");
    let mut slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    if let Some(name) = port {
        let ports = known_ports(session, args)?;
        let at = ports.first().filter(|port| port.report.is_some()).and_then(|port| port.slot);
        let at = at.ok_or_else(|| Error::Refused(format!("{name} is on no module")))?;
        if slot.is_some_and(|slot| slot != at) {
            return Err(Error::Refused(format!("{name} is on module {at}")));
        }
        slot = Some(at);
    }
    let pattern = args.text("pattern").unwrap_or_default();
    let filter = compile(pattern).map_err(|why| Error::Refused(format!("filter: {why}")))?;
    let frames = args.number("frames").unwrap_or(FRAMES);
    let seconds = args.number("seconds").unwrap_or(SECONDS);
    let of = port.map(|port| format!(" from {port}")).unwrap_or_default();
    let which = if pattern.is_empty() { "all frames".to_owned() } else { format!("\"{pattern}\"") };
    let what = format!("{}: {which}{of}", session.who());
    let wanted = Watched { port, filter, count: frames, seconds, what };
    let begun: Vec<(u8, u64)> = begin(session, slot, wanted)?;
    let plan =
        Plan { port, slot, frames: frames as usize, until: Instant::now() + Duration::from_secs(seconds.into()) };
    let outcome = collect(session, &plan, &begun);
    for (slot, id) in &begun {
        drop(session.handle.ask(Query::WatchEnd(Some(*id)), Some(*slot)));
    }
    outcome
}

/// Begins it on every module that is asked: which, and the number of each.
fn begin(session: &mut Session, slot: Option<u8>, wanted: Watched) -> Result<Vec<(u8, u64)>, Error> {
    let (mut begun, mut failed) = (Vec::new(), String::new());
    for (slot, answer) in session.handle.ask(Query::WatchBegin(wanted), slot) {
        match answer {
            Ok(Answer::Told(told)) => begun.push((slot, told.id)),
            Ok(Answer::Failed(why)) | Err(why) => failed.push_str(&format!("module {slot}: {why}\n")),
            Ok(_) => failed.push_str(&format!("module {slot}: its answer is of another kind\n")),
        }
    }
    match (begun.is_empty(), failed.is_empty()) {
        (true, true) => Err(Error::Refused("There is no module".to_owned())),
        (true, false) => Err(Error::Refused(failed.trim_end().to_owned())),
        (false, true) => Ok(begun),
        (false, false) => {
            say(session, &format!("Warning: {failed}"));
            Ok(begun)
        }
    }
}

/// `false` when nobody is there any more.
fn say(session: &mut Session, text: &str) -> bool {
    session.live_mut().is_none_or(|live| live.show(text))
}

fn read(session: &Session, slot: u8, id: u64) -> Result<Told, String> {
    match session.handle.ask(Query::WatchRead(id), Some(slot)).pop() {
        Some((_, Ok(Answer::Told(told)))) => Ok(told),
        Some((_, Ok(Answer::Failed(why)) | Err(why))) => Err(why),
        _ => Err("no answer".to_owned()),
    }
}

fn collect(session: &mut Session, plan: &Plan, begun: &[(u8, u64)]) -> Result<Output, Error> {
    let mut open: Vec<(u8, u64)> = begun.to_vec();
    let (mut shown, mut untold) = (0, std::collections::BTreeMap::new());
    let (mut kept, mut why): (Vec<Output>, Vec<String>) = (Vec::new(), Vec::new());
    let watched = match (plan.port, plan.slot) {
        (Some(port), _) => port.to_string(),
        (None, Some(slot)) => format!("module {slot}"),
        (None, None) => "all modules".to_owned(),
    };
    say(session, &format!("Debugging packets of {watched}\n"));
    loop {
        let over = Instant::now() >= plan.until || session.live_mut().is_some_and(|live| live.interrupted());
        let mut still = Vec::new();
        let mut heard = true;
        for (slot, id) in open {
            let told = match read(session, slot, id) {
                Ok(told) => told,
                Err(error) => {
                    why.push(format!("module {slot}: {}", crate::log::clean(&error, 300)));
                    continue;
                }
            };
            untold.insert(slot, told.untold);
            let new: Vec<Passage> = told.passages.into_iter().take(plan.frames - shown).collect();
            shown += new.len();
            if !new.is_empty() {
                let output = passages(&session.handle.model(), slot, &new);
                match session.live().is_some() {
                    true => heard &= say(session, &format!("{}\n", output.text)),
                    false => kept.push(output),
                }
            }
            match told.ended {
                Some(ended) => why.push(format!("module {slot}: {}", crate::log::clean(&ended, 300))),
                None => still.push((slot, id)),
            }
        }
        open = still;
        if over || !heard || open.is_empty() || shown >= plan.frames {
            let reason = if shown < plan.frames && open.is_empty() { why.join("; ") } else { String::new() };
            return Ok(finish(shown, untold.values().sum(), &reason, kept));
        }
        std::thread::sleep(PAUSE);
    }
}

fn finish(shown: usize, untold: u64, reason: &str, kept: Vec<Output>) -> Output {
    let lost = if untold == 0 { String::new() } else { format!(", {untold} more came too fast to be shown") };
    let why = if reason.is_empty() { String::new() } else { format!("; {reason}") };
    let told = format!("{shown} packets shown{lost}{why}\n");
    let rows =
        kept.iter().filter_map(|output| output.json.as_ref()).flat_map(
            |json| match &json["TABLE_packet"]["ROW_packet"] {
                serde_json::Value::Array(rows) => rows.clone(),
                row => vec![row.clone()],
            },
        );
    let json = table("packet", rows.collect());
    let text: String = kept.iter().map(|output| format!("{}\n", output.text)).collect();
    Output::with_json(text + &told, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = |what: &str| WatchRow { what: what.into(), matched: 7, seconds_left: 51 };
        sample::check("debug", &running(&[(3, row("admin: \"icmp\" from Vethernet1")), (4, row("ann: all frames"))]));
        assert_eq!(running(&[]).text, "Nothing is being debugged\n");
    }

    #[test]
    fn frames_of_several_modules_are_one_table() {
        let output = |n: usize| {
            let rows = (0..n).map(|at| serde_json::json!({"interface": at.to_string()})).collect();
            Output::with_json("x\n", table("packet", rows))
        };
        let all = finish(3, 2, "module 3: it was ended", vec![output(1), output(2)]);
        assert_eq!(all.json.unwrap()["TABLE_packet"]["ROW_packet"].as_array().map(Vec::len), Some(3));
        let told = "3 packets shown, 2 more came too fast to be shown; module 3: it was ended\n";
        assert!(all.text.ends_with(told), "{}", all.text);
    }
}
