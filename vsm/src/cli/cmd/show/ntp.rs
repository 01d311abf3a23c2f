//! `show ntp`: the clock is that of the supervisor's machine, and chrony, where it runs, says whom it follows.
//!
//! The switch configures no time servers. `chronyc` is asked for its sources, in its form for programs, and given
//! [`TIME`] to answer; without it the tables are empty.

use std::io::Read;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant};

use super::exec;
use crate::cli::render::{Output, leaves, table};
use crate::cli::tree::Command;

const WORDS: &[(&str, &str)] = &[
    ("ntp", "Time of the supervisor's machine"),
    ("peers", "Time servers"),
    ("peer-status", "Time servers, and which of them is followed"),
];

/// Time that chrony has to answer.
const TIME: Duration = Duration::from_secs(2);
/// Most octets of its answer.
const ANSWER_MAX: u64 = 64 << 10;

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show ntp peers", "Display time servers", WORDS, |_, _| Ok(peers(&sources(&chrony())))),
        exec("show ntp peer-status", "Display the state of time servers", WORDS, |_, _| {
            Ok(status(&sources(&chrony())))
        }),
    ]
}

/// What chrony says; nothing when there is none.
fn chrony() -> String {
    let mut program = Program::new("chronyc");
    program.args(["-c", "-n", "sources"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = program.spawn() else { return String::new() };
    let begun = Instant::now();
    // Its answer fits into the pipe, so it ends without being read.
    while matches!(child.try_wait(), Ok(None)) {
        if begun.elapsed() > TIME {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    let read = child.stdout.take().map(|out| out.take(ANSWER_MAX).read_to_string(&mut text));
    if matches!(read, Some(Ok(_))) { text } else { String::new() }
}

/// A time source.
struct Source {
    is_peer: bool,
    is_followed: bool,
    address: String,
    stratum: String,
    poll_s: u64,
    /// The last eight attempts, a bit each.
    reach: u32,
}

/// Lines of `MODE,STATE,ADDRESS,STRATUM,POLL,REACH,...`; clocks that are no machine's are left out.
fn sources(text: &str) -> Vec<Source> {
    let source = |line: &str| {
        let mut parts = line.split(',');
        let (mode, state) = (parts.next()?, parts.next()?);
        let (address, stratum) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let poll: u32 = parts.next()?.parse().ok()?;
        let reach = u32::from_str_radix(parts.next()?, 8).ok()?;
        let poll_s = 1u64.checked_shl(poll)?;
        let is_machine = matches!(mode, "^" | "=") && address.parse::<std::net::IpAddr>().is_ok();
        let (is_peer, is_followed) = (mode == "=", state == "*");
        is_machine.then_some(Source { is_peer, is_followed, address, stratum, poll_s, reach })
    };
    text.lines().filter_map(source).collect()
}

fn peers(sources: &[Source]) -> Output {
    let rule = "-".repeat(50);
    let mut text = format!("{rule}\n  {:<30}{}\n{rule}\n", "Peer IP Address", "Serv/Peer");
    let mut rows = Vec::new();
    for source in sources {
        let kind = if source.is_peer { "Peer" } else { "Server" };
        text.push_str(&format!("  {:<30}{kind} (configured)\n", source.address));
        rows.push(leaves([
            ("PeerIPAddress", source.address.as_str()),
            ("serv_peer", kind),
            ("conf_flag", "(configured)"),
        ]));
    }
    Output::with_json(text, table("peers", rows))
}

fn status(sources: &[Source]) -> Output {
    let mut text = format!(
        "Total peers : {}\n* - selected for sync, + -  peer mode(active),\n- - peer mode(passive), = - polled in client mode\n    \
         {:<24}{:<20}{:>4}{:>7}{:>8}\n{}\n",
        sources.len(),
        "remote",
        "local",
        "st",
        "poll",
        "reach",
        "-".repeat(67),
    );
    let mut rows = Vec::new();
    for source in sources {
        let mark = if source.is_followed { '*' } else { '=' };
        let Source { address, stratum, poll_s, reach, .. } = source;
        text.push_str(&format!("{mark}{address:<27}{:<20}{stratum:>4}{poll_s:>7}{reach:>8o}\n", "0.0.0.0"));
        rows.push(leaves([
            ("syncmode", mark.to_string()),
            ("remote", address.clone()),
            ("local", "0.0.0.0".to_owned()),
            ("st", stratum.clone()),
            ("poll", poll_s.to_string()),
            ("reach", format!("{reach:o}")),
        ]));
    }
    Output::with_json(text, table("peersstatus", rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let text = "^,*,192.0.2.1,2,6,377,12,0.000012,0.000010,0.0003\n=,?,2001:db8::1,3,10,17,300,0.1,0.1,0.1\n\
                    #,-,PPS0,0,4,377,1,0.0,0.0,0.0\n^,?,frob\n\n^,?,192.0.2.2,1,99,377\n";
        let found = sources(text);
        assert_eq!(found.len(), 2);
        sample::check("ntp_peers", &peers(&found));
        sample::check("ntp_peer-status", &status(&found));
        assert_eq!(peers(&sources("")).text.lines().count(), 3);
    }
}
