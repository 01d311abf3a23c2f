//! `show ... internal event-history`: what has happened to one port, monitor session or module.

use super::exec;
use crate::cli::cmd::ethanalyzer::moment;
use crate::cli::render::{Output, Table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command};
use crate::history::{Event, Object};

const WORDS: &[(&str, &str)] = &[
    ("port", "A port"),
    ("monitor", "A monitor session"),
    ("module", "A module"),
    ("internal", "What the switch remembers of it"),
    ("event-history", "What has happened to it"),
    ("interface", "Interface"),
    ("session", "Monitor session"),
    ("id", "Session number"),
    ("slot", "Module number"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show port internal event-history interface <if:if>",
            "Display what has happened to a port",
            WORDS,
            |session, args| Ok(show(session, args, args.interface("if").map(Object::Port))),
        ),
        exec(
            "show monitor internal event-history session <id:num:1-256>",
            "Display what has happened to a monitor session",
            WORDS,
            |session, args| {
                let id = args.number("id").and_then(|id| u16::try_from(id).ok());
                Ok(show(session, args, id.map(Object::Session)))
            },
        ),
        exec(
            "show module internal event-history module <slot:num:3-66>",
            "Display what has happened to a module",
            WORDS,
            |session, args| {
                let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
                Ok(show(session, args, slot.map(Object::Module)))
            },
        ),
    ]
}

fn show(session: &Session, _: &Args, object: Option<Object>) -> Output {
    let events = object.map(|object| session.handle.history().of(object)).unwrap_or_default();
    history(&events)
}

/// The events, oldest first.
pub fn history(events: &[Event]) -> Output {
    let mut table =
        Table::new("event").left("Time (UTC)", "time", 26).left("Event", "event", 10).left("Detail", "detail", 20);
    for event in events {
        let since = event.at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let at = moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        table.row([at, event.what.to_owned(), event.text.clone()]);
    }
    match events {
        [] => Output::with_json("Nothing has happened to it since the supervisor has started\n", table.json()),
        _ => table.output(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let at = |s| sample::now() + Duration::from_secs(s);
        let event = |s, what, text: &str| Event { at: at(s), what, text: text.into() };
        let events = [
            event(0, "attached", "vm1/0 on module 3"),
            event(1, "policy", "ip port access-group thin in"),
            event(1, "up", "module 3: Interface Vethernet1 is up"),
        ];
        sample::check("event-history", &history(&events));
        assert_eq!(history(&[]).text.lines().count(), 1);
    }
}
