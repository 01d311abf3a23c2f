//! `show logging`, `clear logging logfile`

use std::collections::BTreeMap;

use serde_json::Value;

use super::exec;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::logging::{
    CONSOLE, FACILITY, Logging, MONITOR, PARTS, PORT, SERVER, SEVERITIES, SIZE, Threshold, Timestamp,
};
use crate::log::server::Status;

/// Lines that `show logging` prints when no number is given.
const LINES: usize = 100;

const WORDS: &[(&str, &str)] = &[
    ("logging", "The log"),
    ("last", "The last lines"),
    ("lines", "Lines"),
    ("logfile", "Everything that is kept"),
    ("console", "What the console is shown"),
    ("monitor", "What terminals are shown"),
    ("timestamp", "How exact times are"),
    ("server", "Servers, and how it goes with them"),
    ("info", "Everything that is configured"),
    ("level", "Severity up to which lines are taken"),
    ("part", "Part of the switch, such as ethport"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show logging", "Display how the log is configured, and its last lines", WORDS, show),
        exec("show logging { last <lines:num:1-9999> | logfile }", "Display the log, newest lines last", WORDS, file),
        exec("show logging info", "Display how the log is configured", WORDS, |session, _| Ok(info_now(session))),
        exec("show logging { console | monitor | timestamp }", "Display what terminals are shown", WORDS, one),
        exec("show logging server", "Display the syslog servers", WORDS, |session, _| {
            Ok(servers(&session.handle.model().logging, &session.handle.log().servers()))
        }),
        exec("show logging level [<part:word>]", "Display which lines are taken", WORDS, level),
        exec("clear logging logfile", "Forget the lines of the log file", WORDS, |session, _| {
            session.handle.log().clear().map_err(Error::Refused)?;
            Ok(Output::none())
        }),
    ]
}

fn show(session: &mut Session, _: &Args) -> Result<Output, Error> {
    let head = info_now(session);
    let lines = lines(session.handle.log().last(LINES));
    let json = merged([head.json, lines.json].into_iter().flatten());
    Ok(Output::with_json(format!("{}\n{}", head.text, lines.text), json))
}

fn file(session: &mut Session, args: &Args) -> Result<Output, Error> {
    Ok(lines(session.handle.log().last(args.number("lines").map_or(usize::MAX, |lines| lines as usize))))
}

fn lines(lines: Vec<String>) -> Output {
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    Output::with_json(text, table("logging", lines.into_iter().map(|line| leaves([("line", line)])).collect()))
}

fn one(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let logging = &session.handle.model().logging;
    Ok(match args.words.last() {
        Some(&"console") => threshold("console", logging.console, CONSOLE),
        Some(&"monitor") => threshold("monitor", logging.monitor, MONITOR),
        _ => timestamp(logging.timestamp),
    })
}

fn word(severity: u8) -> &'static str {
    SEVERITIES.get(usize::from(severity)).copied().unwrap_or_default()
}

/// A heading with its value at the column where NX-OS has it.
fn line(head: &str, value: &str) -> String {
    format!("{:<32}{value}\n", format!("{head}:"))
}

fn threshold(to: &str, said: Threshold, default: u8) -> Output {
    let severity = said.severity(default).map(word);
    let state = severity.map_or("disabled".to_owned(), |word| format!("enabled (Severity: {word})"));
    let json = leaves([
        (format!("{to}_logging"), if severity.is_some() { "enabled" } else { "disabled" }),
        (format!("{to}_severity"), severity.unwrap_or_default()),
    ]);
    Output::with_json(line(&format!("Logging {to}"), &state), json)
}

fn timestamp(exact: Timestamp) -> Output {
    let mut word = exact.word().to_owned();
    word[..1].make_ascii_uppercase();
    let json = leaves([("timestamp", &word)]);
    Output::with_json(line("Logging timestamp", &word), json)
}

fn info_now(session: &Session) -> Output {
    info(&session.handle.model().logging, &session.handle.log().servers())
}

/// All that is configured.
pub fn info(logging: &Logging, status: &BTreeMap<String, Status>) -> Output {
    let file = match logging.logfile() {
        None => Output::with_json(line("Logging logfile", "disabled"), leaves([("logfile", "disabled")])),
        Some(file) => {
            let (severity, size) = (word(file.severity), file.size.unwrap_or(SIZE).to_string());
            let text = format!("        Name - {}: Severity - {severity} Size - {size}\n", file.name);
            let json = leaves([
                ("logfile", "enabled"),
                ("logfile_name", &file.name),
                ("logfile_severity", severity),
                ("logfile_size", &size),
            ]);
            Output::with_json(line("Logging logfile", "enabled") + &text, json)
        }
    };
    let parts = [
        threshold("console", logging.console, CONSOLE),
        threshold("monitor", logging.monitor, MONITOR),
        timestamp(logging.timestamp),
        servers(logging, status),
        file,
    ];
    let text = parts.iter().map(|part| part.text.as_str()).collect::<String>();
    Output::with_json(text, merged(parts.into_iter().filter_map(|part| part.json)))
}

/// Servers, and how it goes with them.
pub fn servers(logging: &Logging, status: &BTreeMap<String, Status>) -> Output {
    let state = if logging.servers.is_empty() { "disabled" } else { "enabled" };
    let mut text = line("Logging server", state);
    let mut rows = Vec::new();
    for (host, server) in &logging.servers {
        let Status { sent, lost, waiting, error } = status.get(host).cloned().unwrap_or_default();
        let said: [(&str, &str, String); 9] = [
            ("server severity", "server_severity", word(server.severity.unwrap_or(SERVER)).to_owned()),
            ("server facility", "server_facility", server.facility.clone().unwrap_or_else(|| FACILITY.to_owned())),
            ("server VRF", "server_vrf", "management".to_owned()),
            ("server port", "server_port", server.port.unwrap_or(PORT).to_string()),
            ("server transport", "server_transport", if server.tcp { "tcp" } else { "udp" }.to_owned()),
            ("messages sent", "sent", sent.to_string()),
            ("messages lost", "lost", lost.to_string()),
            ("messages waiting", "waiting", waiting.to_string()),
            ("last problem", "problem", error.unwrap_or_else(|| "none".to_owned())),
        ];
        text.push_str(&format!("{{{host}}}\n"));
        text.extend(said.iter().map(|(head, _, value)| format!("        {}", line(head, value))));
        let values = said.into_iter().map(|(_, key, value)| (key, value));
        rows.push(leaves([("server", host.clone())].into_iter().chain(values)));
    }
    Output::with_json(text, merged([leaves([("server_logging", state)]), table("loggingserver", rows)]))
}

fn level(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let wanted = args.text("part").map(str::to_ascii_lowercase);
    if let Some(unknown) = wanted.as_ref().filter(|wanted| PARTS.iter().all(|(part, _)| part != wanted)) {
        return Err(Error::Refused(format!("'{unknown}' is no part of the switch")));
    }
    Ok(levels(&session.handle.model().logging, wanted.as_deref()))
}

/// Which lines are taken.
pub fn levels(logging: &Logging, only: Option<&str>) -> Output {
    let mut table = Table::new("logginglevel")
        .left("Facility", "facility", 16)
        .left("Default Severity", "default_severity", 20)
        .left("Current Session Severity", "current_severity", 24);
    for (part, default) in PARTS.iter().filter(|(part, _)| only.is_none_or(|only| only == *part)) {
        table.row([(*part).to_owned(), default.to_string(), logging.level(part).to_string()]);
    }
    let legend: String = (0u8..).zip(SEVERITIES).map(|(n, word)| format!("{n}({word}) ")).collect();
    let json: Value = table.json();
    Output::with_json(format!("{}\n{}\n", table.text(), legend.trim_end()), json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::logging::{File, Server};
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    #[test]
    fn the_newest_lines() {
        let mut session = Session::new(Handle::detached(Model::default()));
        for n in 0..200 {
            session.handle.log().write("TEST", 5, "LINE", &n.to_string());
        }
        let last = session.run_line("show logging last 2");
        assert!(last.lines().count() == 2 && last.ends_with("%TEST-5-LINE: 199\n"), "{last}");
        assert_eq!(session.run_line("show logging | include %TEST- | count"), "100\n");
        assert_eq!(session.run_line("show logging logfile | inc 'LINE: 1$'").lines().count(), 1);
        assert_eq!(session.run_line("clear logging logfile"), "");
        assert_eq!(session.run_line("show logging logfile"), "");
    }

    #[test]
    fn rendered() {
        let mut logging = Logging { console: Threshold::Off, file: File::Off, ..Logging::default() };
        sample::check("logging_info", &info(&Logging::default(), &BTreeMap::new()));
        logging.servers.insert("10.0.0.1".into(), Server::default());
        let server = Server { severity: Some(6), port: Some(6514), tcp: true, ..Server::default() };
        logging.servers.insert("log.example.net".into(), server);
        let broken =
            Status { sent: 17, lost: 3, waiting: 1000, error: Some("Connection refused (os error 111)".into()) };
        let status = BTreeMap::from([("log.example.net".to_owned(), broken)]);
        sample::check("logging_server", &servers(&logging, &status));
        assert!(info(&logging, &status).text.contains("Logging console:                disabled"));
        sample::check("logging_level", &levels(&logging, None));
        assert_eq!(levels(&logging, Some("vim")).text.lines().count(), 5);
    }
}
