//! The `clear` commands: each is a question to the modules.

use proto::query::Query;
use proto::report::Answer;

use super::exec;
use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Command, Error};

const WORDS: &[(&str, &str)] = &[("address", "One address"), ("dynamic", "Learned addresses")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "clear counters [interface <if:if>]",
            "Set interface and drop counters to zero",
            WORDS,
            |session, args| clear(session, Query::ClearCounters(args.interface("if"))),
        ),
        exec("clear access-list counters [<name:word>]", "Set access list counters to zero", WORDS, |session, args| {
            let name = args.text("name").map(str::to_owned);
            if let Some(name) = name.as_ref().filter(|name| !session.handle.model().acls.contains_key(*name)) {
                return Err(Error::Refused(format!("Access list {name} does not exist")));
            }
            clear(session, Query::ClearAclCounters(name))
        }),
        exec(
            "clear mac address-table dynamic [ vlan <vlan:vlan> | address <mac:mac> ]*",
            "Forget learned addresses",
            WORDS,
            |session, args| clear(session, Query::ClearMacs { vlan: args.vlan("vlan"), mac: args.mac("mac") }),
        ),
        exec("clear module <slot:num:3-66>", "Forget an absent module and free its slot", WORDS, |session, args| {
            let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok()).unwrap_or_default();
            session.handle.remove_module(slot).map_err(Error::Refused)?;
            Ok(Output::none())
        }),
    ]
}

fn clear(session: &mut Session, query: Query) -> Result<Output, Error> {
    outcome(session.handle.ask(query, None))
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
