//! The `clear` commands: each is a question to the modules.

use proto::query::Query;
use proto::report::Answer;

use super::exec;
use super::flow::known;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::model::AccessList;

const WORDS: &[(&str, &str)] = &[
    ("address", "One address"),
    ("all", "All interfaces"),
    ("dynamic", "Learned addresses"),
    ("force-export", "As always: nothing is thrown away"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "clear counters [ interface { all | <if:ifs> } ]",
            "Set interface and drop counters to zero",
            WORDS,
            counters,
        ),
        exec(
            "clear [<kind=ip|mac>] access-list counters [<name:word>]",
            "Set access list counters to zero",
            WORDS,
            access_lists,
        ),
        exec(
            "clear mac address-table dynamic [ vlan <vlan:vlan> | address <mac:mac> ]*",
            "Forget learned addresses",
            WORDS,
            |session, args| clear(session, [Query::ClearMacs { vlan: args.vlan("vlan"), mac: args.mac("mac") }]),
        ),
        exec(
            "clear flow monitor [<name:word>] cache [force-export]",
            "Export what the flow caches have counted, and count from zero",
            WORDS,
            |session, args| {
                let model = session.handle.model();
                let name = args.text("name").map(str::to_owned);
                known(args, name.as_ref().is_some_and(|name| model.monitors.contains_key(name)), "Flow monitor")?;
                clear(session, [Query::ClearFlows(name)])
            },
        ),
        exec(
            "clear flow exporter [<name:word>] [statistics]",
            "Set the counters of exporters to zero",
            WORDS,
            |session, args| {
                let model = session.handle.model();
                let name = args.text("name").map(str::to_owned);
                known(args, name.as_ref().is_some_and(|name| model.exporters.contains_key(name)), "Flow exporter")?;
                clear(session, [Query::ClearExporters(name)])
            },
        ),
        exec("clear module <slot:num:3-66>", "Forget an absent module and free its slot", WORDS, |session, args| {
            let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok()).unwrap_or_default();
            session.handle.remove_module(slot).map_err(Error::Refused)?;
            Ok(Output::none())
        }),
    ]
}

fn counters(session: &mut Session, args: &Args) -> Result<Output, Error> {
    match args.interfaces("if") {
        [] => clear(session, [Query::ClearCounters(None)]),
        names => clear(session, names.iter().map(|name| Query::ClearCounters(Some(*name)))),
    }
}

/// Lists of one kind are cleared one by one.
fn access_lists(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let is_wanted = |list: &AccessList| args.text("kind").is_none_or(|kind| (kind == "ip") == list.entries.is_ip());
    let name = args.text("name").map(str::to_owned);
    if let Some(name) = name.as_ref().filter(|name| !model.acls.get(*name).is_some_and(is_wanted)) {
        return Err(Error::Refused(format!("Access list {name} does not exist")));
    }
    if name.is_some() || args.text("kind").is_none() {
        return clear(session, [Query::ClearAclCounters(name)]);
    }
    let names = model.acls.iter().filter(|(_, list)| is_wanted(list)).map(|(name, _)| name.clone());
    clear(session, names.map(|name| Query::ClearAclCounters(Some(name))))
}

fn clear(session: &Session, queries: impl IntoIterator<Item = Query>) -> Result<Output, Error> {
    let answers = queries.into_iter().flat_map(|query| session.handle.ask(query, None));
    outcome(answers.collect())
}

fn outcome(answers: Vec<(u8, Result<Answer, String>)>) -> Result<Output, Error> {
    let failed = answers.into_iter().filter_map(|(slot, answer)| match answer {
        Ok(Answer::Done) => None,
        Ok(Answer::Failed(why)) | Err(why) => Some(format!("module {slot}: {why}")),
        Ok(_) => Some(format!("module {slot}: its answer is of another kind")),
    });
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() { Ok(Output::none()) } else { Err(Error::Refused(failed.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_could_not_is_named() {
        assert_eq!(outcome(vec![(3, Ok(Answer::Done))]), Ok(Output::none()));
        let answers = vec![(3, Ok(Answer::Done)), (4, Err("timed out".into())), (5, Ok(Answer::Failed("no".into())))];
        assert_eq!(outcome(answers).unwrap_err().to_string(), "ERROR: module 4: timed out; module 5: no");
    }
}
