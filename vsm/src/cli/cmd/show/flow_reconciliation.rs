//! `show flow reconciliation`: that no frame is missing from the flows, shown and not promised.
//!
//! Every frame that a port has received is in exactly one class: in a flow that was reported, in one that is in the cache, in
//! one that no monitor looks at, and so on. The last column is what the port's counter says less the sum of the classes. It
//! is 0 for a port that is quiet; while frames come the two are not read at the same time.

use proto::query::Query;
use proto::report::{Answer, ReconciledRow};

use super::exec;
use super::gather::ask;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

const WORDS: &[(&str, &str)] = &[
    ("reconciliation", "Counters of the interfaces against the flows"),
    ("octets", "Octets of the frames; packets without it"),
    ("slot", "Module number"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![exec(
        "show flow reconciliation [octets] [module <slot:num:3-66>]",
        "Display what the interfaces have received, and in which flows it is",
        WORDS,
        show,
    )]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Packets,
    Octets,
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    let asked = ask(session, Query::Reconcile, slot, |answer| match answer {
        Answer::Reconciled(rows) => Some(rows),
        _ => None,
    });
    let unit = if args.has("octets") { Unit::Octets } else { Unit::Packets };
    Ok(asked.warn(reconciliation(&asked.rows, unit)))
}

fn reconciliation(rows: &[(u8, ReconciledRow)], unit: Unit) -> Output {
    let mut rows: Vec<&(u8, ReconciledRow)> = rows.iter().collect();
    rows.sort_by_key(|(slot, row)| (*slot, row.port));
    let mut text = Table::new("flow_reconciliation")
        .right("Mod", "", 3)
        .left("Interface", "", 9)
        .right("Received", "", 12)
        .right("Reported IP", "", 12)
        .right("Other", "", 9)
        .right("In cache", "", 10)
        .right("Unwatched", "", 10)
        .right("Filtered", "", 9)
        .right("Unsampled", "", 9)
        .right("Elsewhere", "", 9)
        .right("Malformed", "", 9)
        .right("Unmetered", "", 9)
        .right("Difference", "", 10);
    let mut objects = Vec::new();
    let mut off = 0;
    for (slot, row) in rows {
        let port = row.port.map_or_else(|| "--".to_owned(), |port| port.short());
        let count = |amount: proto::report::Amount| if unit == Unit::Octets { amount.octets } else { amount.packets };
        let difference = |count: &dyn Fn(proto::report::Amount) -> u64| {
            let classes = row.classes().into_iter().fold(0, |sum, (_, amount)| sum + i128::from(count(amount)));
            i128::from(count(row.received)) - classes
        };
        let counts = row.classes().map(|(_, amount)| count(amount).to_string());
        let (packets, octets) = (difference(&|amount| amount.packets), difference(&|amount| amount.octets));
        let shown = if unit == Unit::Octets { octets } else { packets };
        off += u32::from(packets != 0 || octets != 0);
        let head = [slot.to_string(), port, count(row.received).to_string()];
        text.row(head.into_iter().chain(counts).chain([shown.to_string()]));
        let name = row.port.map(|port| port.to_string()).unwrap_or_default();
        let received = [("received_packets", row.received.packets), ("received_octets", row.received.octets)];
        let amounts = row.classes().into_iter().flat_map(|(name, amount)| {
            [(format!("{name}_packets"), amount.packets), (format!("{name}_octets"), amount.octets)]
        });
        objects.push(merged([
            leaves([("mod", slot.to_string()), ("interface", name)]),
            leaves(received),
            leaves(amounts),
            leaves([("difference_packets", packets), ("difference_octets", octets)]),
        ]));
    }
    let said = match off {
        0 if objects.is_empty() => "No interface was asked".to_owned(),
        0 => "Every frame is accounted for".to_owned(),
        off => format!("{off} interfaces differ; while frames come, the two are not read at the same time"),
    };
    let text = format!("{}\n{said}\n", text.text());
    Output::with_json(text, merged([leaves([("interfaces_off", off)]), table("flow_reconciliation", objects)]))
}

#[cfg(test)]
mod tests {
    use proto::name::IfName;
    use proto::report::Amount;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let of = |packets| Amount { packets, octets: packets * 100 };
        let row = ReconciledRow {
            port: Some(IfName::Vethernet(1)),
            received: of(1000),
            ip: of(700),
            other: of(20),
            in_cache: of(200),
            unwatched: of(50),
            filtered: of(20),
            unsampled: Some(of(5)),
            malformed: of(5),
            ..ReconciledRow::default()
        };
        let wire = ReconciledRow {
            port: Some(IfName::Ethernet { slot: 3, port: 1 }),
            received: of(90),
            elsewhere: of(80),
            unwatched: of(9),
            ..ReconciledRow::default()
        };
        sample::check("flow_reconciliation", &reconciliation(&[(3, row.clone())], Unit::Packets));
        sample::check("flow_reconciliation_octets", &reconciliation(&[(3, wire), (3, row)], Unit::Octets));
    }
}
