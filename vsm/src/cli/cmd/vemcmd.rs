//! `module N execute vemcmd show ...` and `attach vem N`: what a module shows of itself.
//!
//! The commands are those of [`proto::vemcmd`], which the agent answers on its host as well (`vem cmd "show ..."`): the
//! text is made there, once, and comes here as it is. Read only, so whoever may look may type them.

use std::sync::LazyLock;

use proto::query::Query;
use proto::report::Answer;
use proto::vemcmd::{Number, SHOWS, Show};

use crate::cli::render::{Output, leaves};
use crate::cli::session::{Session, Subject};
use crate::cli::tree::{Args, Command, Error, Mode, Value};

/// The alternatives behind `show`.
static ALTERNATIVES: LazyLock<String> = LazyLock::new(|| {
    let one = |show: &Show| match show.number {
        Number::No => show.words.to_owned(),
        Number::Count => format!("{} [<count:num:1-10000>]", show.words),
        Number::Vlan => format!("{} <id:vlan>", show.words),
    };
    format!("{{ {} }}", SHOWS.iter().map(one).collect::<Vec<_>>().join(" | "))
});
static EXECUTE: LazyLock<String> =
    LazyLock::new(|| format!("module <slot:num:3-66> execute vemcmd show {}", *ALTERNATIVES));
static ATTACHED: LazyLock<String> = LazyLock::new(|| format!("[vemcmd] show {}", *ALTERNATIVES));
/// A word says what the first command that it begins shows.
static WORDS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let mut words = vec![
        ("slot", "Module number"),
        ("count", "How many"),
        ("id", "VLAN number"),
        ("execute", "Run a command of the module"),
        ("vemcmd", "A command that the module answers itself"),
        ("show", "Display what the module says of itself"),
    ];
    let mut add = |word, help| {
        if !words.iter().any(|(known, _)| *known == word) {
            words.push((word, help));
        }
    };
    SHOWS.iter().filter(|show| !show.words.contains(' ')).for_each(|show| add(show.words, show.help));
    SHOWS
        .iter()
        .filter_map(|show| Some((show.words.split_once(' ')?.1, show.help)))
        .for_each(|(word, help)| add(word, help));
    let heads = [("l2", "MAC addresses"), ("netflow", "Flow monitors"), ("vsm", "The supervisor")];
    heads.into_iter().for_each(|(word, help)| add(word, help));
    words
});

/// The commands.
pub fn commands() -> Vec<Command> {
    let vem = |syntax, help, run| Command { modes: &[Mode::Vem], syntax, help, words: &WORDS, no: None, run };
    vec![
        Command {
            modes: &[Mode::Exec],
            syntax: &EXECUTE,
            help: "Display what a module says of itself",
            words: &WORDS,
            no: None,
            run: |session, args| {
                let slot = args.number("slot").unwrap_or(0);
                execute(session, slot, args)
            },
        },
        Command {
            modes: &[Mode::Exec],
            syntax: "attach vem <slot:num:3-66>",
            help: "Type commands that a module answers itself",
            words: &[("attach", "Work on a module"), ("vem", "Virtual Ethernet Module"), ("slot", "Module number")],
            no: None,
            run: attach,
        },
        vem(&ATTACHED, "Display what the module says of itself", |session, args| match session.subject() {
            Subject::Number(slot) => execute(session, *slot, args),
            _ => Err(Error::Refused("The mode belongs to a module".to_owned())),
        }),
        vem("exit", "Leave the module", |session, _| {
            session.leave();
            Ok(Output::none())
        }),
        vem("end", "Go to EXEC mode", |session, _| {
            session.end();
            Ok(Output::none())
        }),
    ]
}

/// The line for the module, every word in full.
fn typed(args: &Args) -> String {
    let words = args.words.iter().copied().skip_while(|word| *word != "show");
    let number = args.values.iter().find_map(|(name, value)| match value {
        Value::Vlan(vlan) => Some(vlan.to_string()),
        Value::Number(count) if *name == "count" => Some(count.to_string()),
        _ => None,
    });
    words.map(str::to_owned).chain(number).collect::<Vec<_>>().join(" ")
}

fn execute(session: &Session, slot: u32, args: &Args) -> Result<Output, Error> {
    let line = typed(args);
    let slot = u8::try_from(slot).unwrap_or(0);
    let answer = session.handle.ask(Query::Show(line.clone()), Some(slot)).into_iter().next();
    match answer.map(|(_, answer)| answer) {
        Some(Ok(Answer::Text(text))) => {
            let leaves = leaves([("module", slot.to_string()), ("command", line), ("output", text.clone())]);
            Ok(Output::with_json(text, leaves))
        }
        Some(Ok(Answer::Failed(why))) | Some(Err(why)) => Err(Error::Refused(why)),
        _ => Err(Error::Refused(format!("module {slot} gave no answer"))),
    }
}

fn attach(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let slot = args.number("slot").unwrap_or(0);
    let inventory = session.handle.inventory();
    let module = u8::try_from(slot).ok().and_then(|slot| inventory.modules.get(&slot));
    match module {
        Some(module) if module.address.is_some() => {
            session.step_in(Mode::Vem, Subject::Number(slot));
            Ok(Output::text(format!("Attached to module {slot} ({}), read only; 'exit' returns\n", module.host)))
        }
        Some(_) => Err(Error::Refused(format!("module {slot} is not connected"))),
        None => Err(Error::Refused(format!("Module {slot} does not exist"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::graph::Tree;
    use crate::cli::parse::parse;

    /// What the tree takes, the agent takes as the same command.
    #[test]
    fn the_tree_and_the_agent_agree() {
        for show in SHOWS {
            let number = match show.number {
                Number::No => "",
                Number::Count => " 7",
                Number::Vlan => " 10",
            };
            for (mode, front) in [(Mode::Exec, "module 3 execute vemcmd show "), (Mode::Vem, "show ")] {
                let parsed = parse(Tree::shared(), mode, &format!("{front}{}{number}", show.words)).unwrap().unwrap();
                let asked = proto::vemcmd::parse(&typed(&parsed.args)).unwrap();
                assert_eq!((asked.show, asked.number), (show, number.trim().parse().ok()), "{}", show.words);
            }
        }
        assert!(parse(Tree::shared(), Mode::Vem, "show version").is_err(), "what the supervisor shows is not here");
    }
}
