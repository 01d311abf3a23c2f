//! `show snmp`: how it goes with snmpd.

use super::exec;
use super::gather::short_time;
use crate::cli::render::{Output, leaves};
use crate::cli::tree::Command;
use crate::snmp::Shown;

const WORDS: &[(&str, &str)] = &[("snmp", "SNMP subagent")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec("show snmp", "Display the SNMP subagent", WORDS, |session, _| {
        Ok(shown(session.handle.snmp().map(|status| status.shown()).as_ref()))
    })]
}

/// The page.
pub fn shown(now: Option<&Shown>) -> Output {
    let Some(now) = now else {
        return Output::with_json("SNMP subagent: disabled\n", leaves([("snmp_subagent", "disabled")]));
    };
    let time = |time: Option<std::time::Duration>| time.map_or("never".to_owned(), |t| short_time(t.as_secs()));
    let session = if now.connected.is_some() { "connected" } else { "not connected" };
    let [answered, notified, lost] = now.counts.map(|count| count.to_string());
    let said = [
        ("SNMP subagent", "snmp_subagent", "enabled".to_owned()),
        ("Master agent", "master", now.address.clone()),
        ("Session", "session", session.to_owned()),
        ("Session uptime", "session_uptime", time(now.connected)),
        ("Last problem", "problem", now.error.clone().unwrap_or_else(|| "none".to_owned())),
        ("Questions answered", "answered", answered),
        ("Notifications sent", "notifications_sent", notified),
        ("Notifications lost", "notifications_lost", lost),
        ("Interfaces", "interfaces", now.picture.map_or(0, |(_, count)| count).to_string()),
        ("Age of the tables", "tables_age", time(now.picture.map(|(age, _)| age))),
    ];
    let mut text: String = said.iter().map(|(head, _, value)| format!("{head:<19}: {value}\n")).collect();
    text.push_str("Communities, users and receivers of notifications are those of the master agent.\n");
    Output::with_json(text, leaves(said.into_iter().map(|(_, key, value)| (key, value))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let mut now = Shown {
            address: "unix:/var/agentx/master".into(),
            connected: Some(Duration::from_secs(3661)),
            picture: Some((Duration::from_secs(3), 12)),
            counts: [1234, 5, 1],
            ..Shown::default()
        };
        sample::check("snmp", &shown(Some(&now)));
        (now.connected, now.error) = (None, Some("it has closed the connection".into()));
        assert!(shown(Some(&now)).text.contains("Session            : not connected\n"));
        assert_eq!(shown(None).text, "SNMP subagent: disabled\n");
    }
}
