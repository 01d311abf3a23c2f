//! What the log says of a change of the configuration: profiles and monitor sessions that came, changed or went. Pure.
//!
//! Limit: [`LINES_MAX`] lines of one change; a last one says how many there were more.

use std::collections::BTreeMap;

use super::model::{Model, MonitorSession};

/// Most lines of one change.
pub const LINES_MAX: usize = 50;

/// A line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Part of the switch.
    pub part: &'static str,
    /// 0-7.
    pub severity: u8,
    /// Mnemonic.
    pub mnemonic: &'static str,
    /// Text.
    pub text: String,
}

/// The lines.
pub fn changes(old: &Model, new: &Model) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut say = |part, severity, mnemonic, text| lines.push(Line { part, severity, mnemonic, text });
    compare(&old.profiles, &new.profiles, |name, change| {
        let (mnemonic, what) = match change {
            Kind::New(_) => ("PROFILE_CREATED", "was created"),
            Kind::Changed(_) => ("PROFILE_CHANGED", "was changed"),
            Kind::Gone => ("PROFILE_DELETED", "was deleted"),
        };
        say("PORT_PROFILE", 5, mnemonic, format!("Port-profile {name} {what}"));
    });
    compare(&old.sessions, &new.sessions, |id, change| match change {
        Kind::New(session) => {
            say("MONITOR", 5, "ETH_SPAN_SESSION_CREATED", format!("Session {id} created"));
            if !session.shut {
                say("MONITOR", 5, "ETH_SPAN_SESSION_UP", format!("Session {id} up"));
            }
        }
        Kind::Gone => say("MONITOR", 5, "ETH_SPAN_SESSION_DELETED", format!("Session {id} deleted")),
        Kind::Changed(session) => {
            let was = old.sessions.get(id).map(|session| session.shut);
            say_session(*id, session, was, &mut say);
        }
    });
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        let text = format!("{more} more changes of this kind were made");
        lines.push(Line { part: "VSHD", severity: 5, mnemonic: "MORE_CHANGES", text });
    }
    lines
}

fn say_session(
    id: u16,
    session: &MonitorSession,
    was_shut: Option<bool>,
    say: &mut impl FnMut(&'static str, u8, &'static str, String),
) {
    match (was_shut == Some(session.shut), session.shut) {
        (true, _) => say("MONITOR", 5, "ETH_SPAN_SESSION_CHANGED", format!("Session {id} changed")),
        (false, true) => {
            say("MONITOR", 5, "ETH_SPAN_SESSION_DOWN", format!("Session {id} is down. Reason \"Session admin shut\""));
        }
        (false, false) => say("MONITOR", 5, "ETH_SPAN_SESSION_UP", format!("Session {id} up")),
    }
}

enum Kind<'a, V> {
    New(&'a V),
    Changed(&'a V),
    Gone,
}

fn compare<K: Ord, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>, mut each: impl FnMut(&K, Kind<'_, V>)) {
    for (key, value) in new {
        match old.get(key) {
            None => each(key, Kind::New(value)),
            Some(was) if was != value => each(key, Kind::Changed(value)),
            Some(_) => {}
        }
    }
    old.keys().filter(|key| !new.contains_key(key)).for_each(|key| each(key, Kind::Gone));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Profile;

    #[test]
    fn what_came_changed_and_went() {
        let old = Model::default();
        let mut new = old.clone();
        new.profiles.insert("web".into(), Profile::default());
        new.sessions.insert(1, MonitorSession::default());
        let said = |old: &Model, new: &Model| changes(old, new).iter().map(|l| l.mnemonic).collect::<Vec<_>>();
        assert_eq!(said(&old, &new), ["PROFILE_CREATED", "ETH_SPAN_SESSION_CREATED"]);
        assert_eq!(said(&new, &old), ["PROFILE_DELETED", "ETH_SPAN_SESSION_DELETED"]);
        let mut run = new.clone();
        run.profiles.get_mut("web").unwrap().enabled = true;
        run.sessions.get_mut(&1).unwrap().shut = false;
        assert_eq!(said(&new, &run), ["PROFILE_CHANGED", "ETH_SPAN_SESSION_UP"]);
        assert_eq!(said(&run, &new), ["PROFILE_CHANGED", "ETH_SPAN_SESSION_DOWN"]);
        assert_eq!(said(&run, &run), [""; 0]);
        run.sessions.get_mut(&1).unwrap().description = Some("x".into());
        for n in 0..100 {
            run.profiles.insert(format!("p{n}"), Profile::default());
        }
        let lines = changes(&new, &run);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert!(lines[LINES_MAX].text.starts_with("52 more changes"), "{:?}", lines[LINES_MAX]);
    }
}
