//! What is logged, and where it goes.

use super::target::text;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode, Run};
use crate::config::logging::{
    File, Logfile, PARTS, SERVERS_MAX, SIZE, Server, Threshold, Timestamp, default_level, is_host,
};
use crate::folder::check_name;

const WORDS: &[(&str, &str)] = &[
    ("logging", "What is logged, and where it goes"),
    ("server", "Syslog server"),
    ("host", "Address or name of the server"),
    ("severity", "Lines of this severity and the graver ones, 0 emergencies - 7 debugging"),
    ("port", "Port of the server, 514 unless said"),
    ("number", "Port"),
    ("use-vrf", "How the server is reached"),
    ("management", "By the interface mgmt0, as is everything"),
    ("facility", "Facility that the server is told, local7 unless said"),
    ("transport", "How lines are sent"),
    ("udp", "A datagram for each, as is usual"),
    ("tcp", "A connection, with counted octets (RFC 6587); lines wait while it is broken"),
    ("level", "Severity up to which lines of a part of the switch are taken"),
    ("part", "Part of the switch, such as ethport; 'show logging level' has them all"),
    ("console", "What is shown at the console unasked"),
    ("monitor", "What is shown where 'terminal monitor' was typed"),
    ("logfile", "The log file"),
    ("name", "Its name, 'messages' unless said"),
    ("size", "Octets before it is turned over"),
    ("octets", "Octets"),
    ("timestamp", "How exact times are"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    let config = |syntax, help, no, run: Run| Command { modes: &[Mode::Config], syntax, help, words: WORDS, no, run };
    const SERVER: &str = "logging server <host:word> [<severity:num:0-7>] [ port <number:num:1-65535> | \
        use-vrf management | facility <facility=auth|authpriv|cron|daemon|ftp|kernel|local0|local1|local2|local3|local4|\
        local5|local6|local7|lpr|mail|news|syslog|user|uucp> | transport <transport=udp|tcp> ]*";
    vec![
        config(SERVER, "Send the log to a syslog server", Some(SERVER), server),
        config(
            "logging level <part:word> <severity:num:0-7>",
            "Severity up to which lines of a part of the switch are taken",
            Some("logging level <part:word> [<severity:num:0-7>]"),
            level,
        ),
        config(
            "logging <to=console|monitor> [<severity:num:0-7>]",
            "What terminals are shown of the log; 'no' shows nothing",
            Some("logging <to=console|monitor> [<severity:num:0-7>]"),
            terminal,
        ),
        config(
            "logging logfile <name:word80> <severity:num:0-7> [ size <octets:num:4096-4194304> ]",
            "The log file; 'no' keeps none",
            Some("logging logfile [<name:word80>] [<severity:num:0-7>] [ size <octets:num:4096-4194304> ]"),
            logfile,
        ),
        config(
            "logging timestamp <exact=seconds|milliseconds|microseconds>",
            "How exact the times of the log are",
            Some("logging timestamp [<exact=seconds|milliseconds|microseconds>]"),
            timestamp,
        ),
    ]
}

fn severity(args: &Args) -> Option<u8> {
    args.number("severity").and_then(|n| u8::try_from(n).ok())
}

/// `default` stands in front: what was said is taken back.
fn is_default(args: &Args) -> bool {
    args.negated && args.words.first() == Some(&"default")
}

fn server(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let host = text(args, "host")?;
    if args.negated {
        return session.edit(Box::new(move |model| {
            let gone = model.logging.servers.remove(&host);
            gone.map(|_| Vec::new()).ok_or_else(|| format!("There is no logging server {host}"))
        }));
    }
    if !is_host(&host) {
        return Err(Error::Refused(format!("'{host}' is neither an address nor a name of a host")));
    }
    let server = Server {
        severity: severity(args),
        port: args.number("number").and_then(|n| u16::try_from(n).ok()),
        management: args.has("management"),
        facility: args.text("facility").map(str::to_owned),
        tcp: args.text("transport") == Some("tcp"),
    };
    session.edit(Box::new(move |model| {
        let servers = &mut model.logging.servers;
        if servers.len() >= SERVERS_MAX && !servers.contains_key(&host) {
            return Err(format!("There are {SERVERS_MAX} logging servers already"));
        }
        servers.insert(host, server);
        Ok(Vec::new())
    }))
}

fn level(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let part = text(args, "part")?.to_ascii_lowercase();
    if default_level(&part).is_none() {
        let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        return Err(Error::Refused(format!("'{part}' is no part of the switch; there are {}", known.join(", "))));
    }
    let severity = severity(args).filter(|_| !args.negated);
    session.edit(Box::new(move |model| {
        match severity {
            Some(severity) => model.logging.levels.insert(part, severity),
            None => model.logging.levels.remove(&part),
        };
        Ok(Vec::new())
    }))
}

fn terminal(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let threshold = match (args.negated, severity(args)) {
        (true, _) if is_default(args) => Threshold::Default,
        (true, _) => Threshold::Off,
        (false, None) => Threshold::Default,
        (false, Some(severity)) => Threshold::To(severity),
    };
    let is_console = args.text("to") == Some("console");
    session.edit(Box::new(move |model| {
        let logging = &mut model.logging;
        *(if is_console { &mut logging.console } else { &mut logging.monitor }) = threshold;
        Ok(Vec::new())
    }))
}

fn logfile(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let file = match args.negated {
        true if is_default(args) => File::Default,
        true => File::Off,
        false => {
            let name = text(args, "name")?;
            check_name(&name).map_err(|e| Error::Refused(e.to_string()))?;
            let severity = severity(args).unwrap_or_default();
            File::Is(Logfile { name, severity, size: args.number("octets").map(|size| size.min(SIZE)) })
        }
    };
    session.edit(Box::new(move |model| {
        model.logging.file = file;
        Ok(Vec::new())
    }))
}

fn timestamp(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let said = args.text("exact").filter(|_| !args.negated);
    let exact = Timestamp::ALL.into_iter().find(|exact| said == Some(exact.word())).unwrap_or_default();
    session.edit(Box::new(move |model| {
        model.logging.timestamp = exact;
        Ok(Vec::new())
    }))
}

#[cfg(test)]
mod tests {
    use crate::cli::session::Session;
    use crate::config::logging::FACILITIES;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    fn session() -> Session {
        let mut session = Session::new(Handle::detached(Model::default()));
        session.run_line("configure terminal");
        session
    }

    #[test]
    fn every_facility_may_be_said() {
        let mut session = session();
        for (name, _) in FACILITIES {
            assert_eq!(session.run_line(&format!("logging server log facility {name}")), "", "{name}");
        }
    }

    #[test]
    fn lines_read_back_and_are_taken_back() {
        let mut session = session();
        for line in [
            "logging console 3",
            "no logging monitor",
            "logging logfile mine 5 size 8192",
            "logging timestamp microseconds",
            "logging level ethport 6",
            "logging server 10.0.0.1",
            "logging server log 6 port 5514 use-vrf management facility local0 transport tcp",
        ] {
            assert_eq!(session.run_line(line), "", "{line}");
            assert_eq!(session.run_line(&format!("show running-config | include '^{line}$' | count")), "1\n", "{line}");
        }
        for line in [
            "logging console",
            "default logging monitor",
            "default logging logfile",
            "no logging timestamp",
            "no logging level ethport",
            "no logging server 10.0.0.1",
            "no logging server log 6",
        ] {
            assert_eq!(session.run_line(line), "", "{line}");
        }
        assert_eq!(session.run_line("show running-config | include logging"), "");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let mut session = session();
        for line in [
            "logging server 10.0.0.256",
            "logging server 10.0.0.1 8",
            "logging server a use-vrf default",
            "logging server a secure",
            "logging level frob 3",
            "logging logfile ../x 3",
            "logging logfile x 3 size 1",
            "no logging server 10.0.0.1",
        ] {
            session.run_line(line);
            assert!(session.has_failed(), "{line}");
        }
        for n in 0..8 {
            session.run_line(&format!("logging server h{n}"));
        }
        assert_eq!(session.run_line("logging server h8"), "ERROR: There are 8 logging servers already\n");
        assert_eq!(session.run_line("logging server h7 3"), "");
    }
}
