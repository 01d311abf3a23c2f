//! What a flow monitor counts, of what it sees, and how many flows of it the cache holds.

use proto::config::Filter;

use super::flow::{command, number};
use super::target::{edit_monitor, name, text};
use crate::capture::compile;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error, Mode};

const MONITOR: &[Mode] = &[Mode::FlowMonitor];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        command(
            MONITOR,
            "cache { entries <number:num:256-16777216> | size <number:num:256-16777216> }",
            "Most flows of the monitor in the cache of each host; one too many has another reported early",
            "cache { entries [<number:num:256-16777216>] | size [<number:num:256-16777216>] }",
            |session, args| {
                let entries = number(args, "number");
                edit_monitor(session, move |monitor| {
                    monitor.entries = entries;
                    Ok(())
                })
            },
        ),
        command(
            MONITOR,
            "match filter access-list <acl:word>",
            "Count what an access list permits; an IP list permits IPv4 only, a MAC list anything else",
            "match filter [access-list <acl:word>]",
            filter,
        ),
        command(
            MONITOR,
            "match filter bpf <expression:quoted>",
            "Count the packets that a filter of libpcap matches",
            "match filter bpf [<expression:quoted>]",
            filter_bpf,
        ),
        command(
            MONITOR,
            "scope once",
            "Count a frame where it comes from, not again where another host gets it",
            "scope [once]",
            |session, args| {
                let once = !args.negated;
                edit_monitor(session, move |monitor| {
                    monitor.once = once;
                    Ok(())
                })
            },
        ),
    ]
}

/// A list that is not there permits everything, as it does at a port. `no match filter` takes back both kinds.
fn filter(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let list = if args.negated { None } else { Some(text(args, "acl")?) };
    let both = args.negated && !args.has("access-list");
    let name = name(session)?;
    session.edit(Box::new(move |model| {
        let missing = list.as_ref().filter(|list| !model.acls.contains_key(*list));
        let warnings =
            missing.map(|list| format!("Access list '{list}' does not exist; until it does, everything is counted"));
        let monitor = model.monitors.get_mut(&name);
        let monitor = monitor.ok_or_else(|| format!("Flow monitor '{name}' does not exist any more"))?;
        monitor.filter = list;
        monitor.filter_bpf.take_if(|_| both);
        Ok(warnings.into_iter().collect())
    }))
}

fn filter_bpf(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let filter = match args.negated {
        true => None,
        false => {
            let text = text(args, "expression")?;
            if text.trim().is_empty() {
                return Err(Error::Refused("filter: it is empty; 'no match filter bpf' counts everything".to_owned()));
            }
            let program = compile(&text).map_err(|why| Error::Refused(format!("filter: {why}")))?;
            Some(Filter { text, program })
        }
    };
    edit_monitor(session, |monitor| {
        monitor.filter_bpf = filter;
        Ok(())
    })
}
