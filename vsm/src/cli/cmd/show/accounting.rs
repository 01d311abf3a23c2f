//! `show accounting log`, `clear accounting log`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime, Time};

use super::exec;
use crate::aaa::accounting::Verdict;
use crate::aaa::accounting::chain::{Kind, Record};
use crate::cli::render::{Output, leaves, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::running::date;

/// Records that are shown when no number is given.
const RECORDS: usize = 100;

const WORDS: &[(&str, &str)] = &[
    ("accounting", "Who has changed what"),
    ("log", "Records of accounting"),
    ("records", "Records"),
    ("all", "Every record that is kept"),
    ("start-time", "Records from this time on, UTC"),
    ("year", "Year"),
    ("month", "Month"),
    ("day", "Day of the month"),
    ("time", "HH:MM:SS"),
    ("verify", "Check that no record was changed or taken out"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show accounting log [ last <records:num:1-99999> | all ] \
             [ start-time <year:num:1970-9999> <month=Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec> <day:num:1-31> <time:word> ]",
            "Display who has changed what, newest records last",
            WORDS,
            show,
        ),
        exec("show accounting log verify", "Check the chain of the accounting log", WORDS, |session, _| {
            let verdict = session.handle.accounting().verify().map_err(|e| Error::Refused(e.to_string()))?;
            Ok(verified(&verdict))
        }),
        exec("clear accounting log", "Forget the records of accounting, but for who did it", WORDS, |session, _| {
            let (id, user) = (session.seat(), session.who().to_owned());
            session.handle.accounting().clear(&id, &user, SystemTime::now()).map_err(Error::Refused)?;
            Ok(Output::none())
        }),
    ]
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let since = match args.has("start-time") {
        true => Some(start(args)?),
        false => None,
    };
    let most = match (args.number("records"), args.has("all") || since.is_some()) {
        (Some(records), _) => records as usize,
        (None, true) => usize::MAX,
        (None, false) => RECORDS,
    };
    let mut records = session.handle.accounting().records().map_err(|e| Error::Refused(e.to_string()))?;
    records.retain(|record| record.as_ref().is_none_or(|record| since.is_none_or(|since| record.at >= since)));
    let newest = records.split_off(records.len().saturating_sub(most));
    Ok(listing(&newest))
}

/// Seconds since 1970 of the time that was typed.
fn start(args: &Args) -> Result<u64, Error> {
    let wrong = || Error::Refused("There is no such time; it is YEAR MONTH DAY HH:MM:SS".to_owned());
    let number = |name| args.number(name).and_then(|n| u8::try_from(n).ok());
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| Some(*name) == args.text("month")).ok_or_else(wrong)?;
    let month = Month::try_from(month as u8 + 1).map_err(|_| wrong())?;
    let year = args.number("year").and_then(|year| i32::try_from(year).ok()).ok_or_else(wrong)?;
    let date = Date::from_calendar_date(year, month, number("day").unwrap_or(0)).map_err(|_| wrong())?;
    let clock: Vec<u8> = args.text("time").unwrap_or_default().split(':').filter_map(|n| n.parse().ok()).collect();
    let [hour, minute, second] = clock.as_slice() else { return Err(wrong()) };
    let time = Time::from_hms(*hour, *minute, *second).map_err(|_| wrong())?;
    u64::try_from(OffsetDateTime::new_utc(date, time).unix_timestamp()).map_err(|_| wrong())
}

/// The records, as NX-OS prints them.
pub fn listing(records: &[Option<Record>]) -> Output {
    let mut text = String::new();
    let mut rows = Vec::new();
    for record in records {
        let Some(Record { number, at, kind, id, user, outcome, text: said }) = record else {
            text.push_str("a record that can not be read; see 'show accounting log verify'\n");
            continue;
        };
        let at = date(UNIX_EPOCH.checked_add(Duration::from_secs(*at)).unwrap_or(UNIX_EPOCH));
        let done = if outcome.is_empty() { String::new() } else { format!(" ({outcome})") };
        text.push_str(&format!("{at}:type={}:id={id}:user={user}:cmd={said}{done}\n", kind.name()));
        if *kind != Kind::File {
            rows.push(leaves([
                ("number", number.to_string()),
                ("time", at),
                ("type", kind.name().to_owned()),
                ("id", id.clone()),
                ("user", user.clone()),
                ("cmd", said.clone()),
                ("result", outcome.clone()),
            ]));
        }
    }
    Output::with_json(text, table("accounting", rows))
}

/// What the check has found. The hash is to be noted elsewhere: who can write the files can make them anew.
pub fn verified(verdict: &Verdict) -> Output {
    let Verdict { good, first, head, broken, lost } = verdict;
    let mut text = format!("Records: {good}, from {first} to {}\nHash of the last: {}\n", head.number, head.hash);
    let state = match broken {
        Some(broken) => format!("Record {} {}", broken.number, broken.why),
        None => "No record was changed, put in or taken out".to_owned(),
    };
    text.push_str(&format!("{state}\n"));
    if *lost > 0 {
        text.push_str(&format!("{lost} records could not be written\n"));
    }
    let json = leaves([
        ("records", good.to_string()),
        ("first", first.to_string()),
        ("last", head.number.to_string()),
        ("hash", head.hash.clone()),
        ("intact", if broken.is_some() { "false" } else { "true" }.to_owned()),
        ("broken_record", broken.as_ref().map(|b| b.number.to_string()).unwrap_or_default()),
        ("state", state),
        ("lost", lost.to_string()),
    ]);
    Output::with_json(text, json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aaa::accounting::chain::{Broken, Head};
    use crate::cli::cmd::show::sample;
    use crate::config::model::Model;
    use crate::supervisor::Handle;

    #[test]
    fn rendered() {
        let record = |number, kind, outcome: &str, text: &str| {
            let (id, user) = ("192.0.2.7@pts/3".to_owned(), "ops".to_owned());
            Some(Record { number, at: 1_795_222_923, kind, id, user, outcome: outcome.into(), text: text.into() })
        };
        let records = [
            record(7, Kind::Start, "", ""),
            record(8, Kind::Update, "SUCCESS", "configure terminal ; vlan 10 ; name web"),
            None,
            record(10, Kind::Update, "DENIED", "write erase"),
            record(11, Kind::Stop, "", ""),
        ];
        sample::check("accounting_log", &listing(&records));
        let broken = Some(Broken { number: 9, why: "is no record" });
        let head = Head { number: 8, ..Head::default() };
        sample::check("accounting_log_verify", &verified(&Verdict { good: 8, first: 1, head, broken, lost: 2 }));
    }

    #[test]
    fn what_is_done_is_recorded_without_its_secrets() {
        let mut session = Session::new(Handle::detached(Model::default()));
        for line in [
            "conf t",
            "username ann pass Sesame-open-1 ro network-admin",
            "inter veth1",
            "shut",
            "vlan 5000",
            "no vlan 1",
            "int veth2",
            "desc a | b",
            "vlan 20",
            "end",
            "show clock",
            "configure session change",
            "interface veth1",
            "no shut",
            "commit",
            "write erase",
        ] {
            session.run_line(line);
        }
        let text = session.run_line("show accounting log | json-pretty | include cmd");
        let found: Vec<&str> = text.lines().filter_map(|line| line.split('"').nth(3)).collect();
        let conf = "configure terminal ; ";
        let want = [
            format!("{conf}username ann password ******** role network-admin"),
            format!("{conf}interface Vethernet1"),
            format!("{conf}interface Vethernet1 ; shutdown"),
            format!("{conf}no vlan 1"),
            format!("{conf}interface Vethernet2"),
            format!("{conf}interface Vethernet2 ; description a | b"),
            format!("{conf}vlan 20"),
            "configure session change".to_owned(),
            "configure session change ; interface Vethernet1".to_owned(),
            "configure session change ; interface Vethernet1 ; no shutdown".to_owned(),
            "configure session change ; commit".to_owned(),
            "write erase".to_owned(),
        ];
        assert_eq!(found, want);
        assert!(session.run_line("show accounting log verify").contains("No record was changed"));
        let year = session.run_line("show accounting log start-time 2999 Nov 27 01:02:03");
        assert_eq!(year, "");
        assert!(session.run_line("show accounting log start-time 2026 Feb 31 01:02:03").contains("no such time"));
        assert_eq!(session.run_line("show accounting log last 1 | include erase | count"), "1\n");
        session.run_line("clear accounting log");
        assert!(session.run_line("show accounting log").starts_with(char::is_alphabetic));
        assert_eq!(session.run_line("show accounting log | include type=clear | count"), "1\n");
    }
}
