//! `audit golden`, `show consistency`, `show golden`: is everything as it was agreed, and does every module really run it?
//!
//! Three things are laid side by side: the golden configuration, the running one, and what each module says that it runs,
//! which it reads back from its dataplane and its disk. A module that does not answer is a finding too: what it runs is
//! not known. Findings make the exit status of `ssh SWITCH 'audit golden NAME'` and `vsm cli -c` one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proto::config::HostConfig;
use proto::query::Query;
use proto::report::{Answer, Applied};

use super::exec;
use crate::cli::cmd::source::refused;
use crate::cli::render::{Output, Table, leaves, merged};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::checkpoint::Checkpoint;
use crate::config::compile::compile;
use crate::config::hostdiff::{Line, compare, lines};
use crate::config::model::Model;
use crate::config::running::{Part, body, date};
use crate::config::startup::{self, first_of};
use crate::config::user::without_secrets;

/// How often modules are asked anew because the configuration was changed meanwhile.
const ATTEMPTS: usize = 3;

const WORDS: &[(&str, &str)] = &[
    ("audit", "Compare what is with what was agreed"),
    ("golden", "Golden configuration"),
    ("name", "Name of the golden configuration"),
    ("module", "One module only"),
    ("slot", "Module number"),
    ("consistency", "What modules are to run and what they run"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "audit golden <name:word80> [module <slot:num:3-66>]",
            "Compare a golden configuration with the running one and with what the modules run",
            WORDS,
            audit,
        ),
        exec(
            "show consistency [module <slot:num:3-66>]",
            "Display where a module runs something else than it is to run",
            WORDS,
            consistency,
        ),
        exec("show golden [<name:word80>]", "Display golden configurations", WORDS, |session, args| {
            match args.text("name") {
                Some(name) => {
                    let text = golden(session, name)?.text;
                    Ok(Output::with_json(text.clone(), leaves([("name", name), ("config", &text)])))
                }
                None => Ok(list(&all(session)?)),
            }
        }),
    ]
}

fn golden(session: &Session, name: &str) -> Result<Checkpoint, Error> {
    let file = session.handle.lifecycle().golden.read(name).map_err(refused)?;
    let kept = file.and_then(|file| Checkpoint::read(name, &file));
    kept.ok_or_else(|| Error::Refused(format!("Golden configuration {name} does not exist")))
}

fn all(session: &Session) -> Result<Vec<Checkpoint>, Error> {
    let entries = session.handle.lifecycle().golden.list().map_err(refused)?;
    entries.iter().map(|entry| golden(session, &entry.name)).collect()
}

/// A line for each.
pub fn list(kept: &[Checkpoint]) -> Output {
    let mut table = Table::new("golden")
        .left("Name", "name", 16)
        .left("Created by", "created_by", 10)
        .left("Created at", "created_time", 24)
        .right("Size", "size", 8);
    for Checkpoint { name, by, at_s, text, .. } in kept {
        let at = date(UNIX_EPOCH + Duration::from_secs(*at_s));
        table.row([name.clone(), by.clone(), at, text.len().to_string()]);
    }
    table.output()
}

/// A line of a configuration text that only one side has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lone {
    /// The running configuration has it; else the golden one.
    pub runs: bool,
    /// The line that it stands under; empty at the top.
    pub section: String,
    /// The line.
    pub line: String,
}

/// What was found of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its slot.
    pub slot: u8,
    /// Where: an interface, an access list, `module`.
    pub place: String,
    /// What of it.
    pub what: String,
    /// As agreed; `None` when nothing was.
    pub golden: Option<String>,
    /// As it is to be.
    pub running: Option<String>,
    /// As the module says.
    pub applied: Option<String>,
}

/// Each line of a configuration text with the line that it stands under.
fn paths(text: &str) -> Vec<(String, String)> {
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut paths = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('!')) {
        let depth = line.len() - line.trim_start().len();
        above.retain(|(other, _)| *other < depth);
        let section: Vec<&str> = above.iter().map(|(_, line)| *line).collect();
        paths.push((section.join(" / "), line.trim().to_owned()));
        above.push((depth, line.trim()));
    }
    paths
}

/// The lines that only one of the two has: first what is missing, then what is too much.
pub fn lone(golden: &str, running: &str) -> Vec<Lone> {
    let [before, after] = [golden, running].map(paths);
    let only = |these: &[(String, String)], those: &[(String, String)], runs: bool| {
        let those: BTreeSet<&(String, String)> = those.iter().collect();
        let lone = |(section, line): &(String, String)| Lone { runs, section: section.clone(), line: line.clone() };
        these.iter().filter(|path| !those.contains(path)).map(lone).collect::<Vec<_>>()
    };
    let mut found = only(&before, &after, false);
    found.extend(only(&after, &before, true));
    // Whoever may see the audit may not see secrets.
    found.iter_mut().for_each(|lone| lone.line = without_secrets(&lone.line));
    found
}

/// The modules that are wanted, by slot.
fn slots(session: &Session, args: &Args) -> Result<Vec<u8>, Error> {
    let inventory = session.handle.inventory();
    match args.number("slot").and_then(|slot| u8::try_from(slot).ok()) {
        None => Ok(inventory.modules.keys().copied().collect()),
        Some(slot) if inventory.modules.contains_key(&slot) => Ok(vec![slot]),
        Some(slot) => Err(Error::Refused(format!("Module {slot} does not exist"))),
    }
}

/// What a module is to run, and what it says; asked again while somebody changes the configuration.
fn ask(session: &Session, slot: u8) -> (HostConfig, Result<Applied, String>) {
    let handle = &session.handle;
    let mut attempt = 0;
    loop {
        let (model, inventory) = (handle.model(), handle.inventory());
        let wanted = compile(&model, &inventory, slot);
        let said = match handle.ask(Query::Applied, Some(slot)).pop() {
            Some((_, Ok(Answer::Applied(applied)))) => Ok(applied),
            Some((_, Ok(Answer::Failed(why)) | Err(why))) => Err(why),
            _ => Err(format!("module {slot} gave no answer")),
        };
        attempt += 1;
        let ports =
            |inventory: &crate::module::registry::Inventory| inventory.modules.get(&slot).map(|m| m.ports.clone());
        let steady = Arc::ptr_eq(&model, &handle.model()) && ports(&inventory) == ports(&handle.inventory());
        if steady || attempt >= ATTEMPTS {
            return (wanted, said);
        }
    }
}

/// Where a module differs from what it is to run, and that from what was agreed.
pub fn findings(
    slot: u8,
    golden: Option<&[Line]>,
    wanted: &HostConfig,
    said: &Result<Applied, String>,
) -> Vec<Finding> {
    let finding = |place: &str, what: &str, values: [Option<String>; 3]| {
        let [golden, running, applied] = values;
        Finding { slot, place: place.to_owned(), what: what.to_owned(), golden, running, applied }
    };
    let about = |what: &str, said: String| finding("module", what, [None, None, Some(said)]);
    let running = lines(wanted);
    let applied = match said {
        Err(why) => return vec![about("not audited", why.clone())],
        Ok(applied) => applied,
    };
    let mut found: Vec<Finding> =
        applied.faults.iter().map(|fault| about("state", crate::log::clean(fault, 300))).collect();
    let config = applied.config.as_ref().map(|octets| minicbor::decode::<HostConfig>(octets));
    let theirs = match config {
        Some(Ok(config)) => lines(&config),
        Some(Err(_)) => {
            found.push(about("not audited", "its configuration can't be read".to_owned()));
            return found;
        }
        None => {
            found.push(about("not audited", "it has no configuration, or one too large to tell".to_owned()));
            return found;
        }
    };
    let clean = |value: Option<String>| value.map(|value| crate::log::clean(&value, 300));
    match golden {
        Some(golden) => found.extend(compare([golden, &running, &theirs]).into_iter().map(|row| {
            let [golden, running, applied] = row.values;
            finding(
                &crate::log::clean(&row.place, 120),
                &crate::log::clean(&row.what, 120),
                [golden, running, clean(applied)],
            )
        })),
        None => found.extend(compare([&running, &theirs]).into_iter().map(|row| {
            let [running, applied] = row.values;
            finding(
                &crate::log::clean(&row.place, 120),
                &crate::log::clean(&row.what, 120),
                [None, running, clean(applied)],
            )
        })),
    }
    found
}

fn audit(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let name = args.text("name").unwrap_or_default().to_owned();
    let kept = golden(session, &name)?;
    let agreed: Model = startup::load(&kept.text)
        .map_err(|errors| Error::Refused(format!("Golden configuration {name}, {}", first_of(&errors))))?;
    let slots = slots(session, args)?;
    let lone = lone(&body(&agreed, &Part::Whole), &body(&session.handle.model(), &Part::Whole));
    let mut found = Vec::new();
    for slot in &slots {
        let (wanted, said) = ask(session, *slot);
        let golden = lines(&compile(&agreed, &session.handle.inventory(), *slot));
        found.extend(findings(*slot, Some(&golden), &wanted, &said));
    }
    if !(lone.is_empty() && found.is_empty()) {
        session.note_findings();
    }
    Ok(report(&name, slots.len(), &lone, &found))
}

fn consistency(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let slots = slots(session, args)?;
    let mut found = Vec::new();
    for slot in &slots {
        let (wanted, said) = ask(session, *slot);
        found.extend(findings(*slot, None, &wanted, &said));
    }
    if !found.is_empty() {
        session.note_findings();
    }
    Ok(consistent(slots.len(), &found))
}

fn or_dashes(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "--".to_owned())
}

fn modules_word(count: usize) -> String {
    format!("{count} module{}", if count == 1 { "" } else { "s" })
}

/// The audit.
pub fn report(name: &str, modules: usize, lone: &[Lone], found: &[Finding]) -> Output {
    let mut lines =
        Table::new("line").left("Only in", "only_in", 7).left("Section", "section", 20).left("Line", "line", 20);
    for Lone { runs, section, line } in lone {
        lines.row([if *runs { "running" } else { "golden" }.to_owned(), section.clone(), line.clone()]);
    }
    let mut differences = Table::new("module")
        .left("Mod", "module", 3)
        .left("Where", "where", 16)
        .left("What", "what", 16)
        .left("Golden", "golden", 12)
        .left("Running", "running", 12)
        .left("Applied", "applied", 12);
    for it in found {
        let values = [&it.golden, &it.running, &it.applied].map(or_dashes);
        differences.row([it.slot.to_string(), it.place.clone(), it.what.clone()].into_iter().chain(values));
    }
    let result = if lone.is_empty() && found.is_empty() { "passed" } else { "failed" };
    let mut text = String::new();
    if !lines.is_empty() {
        text.push_str(&format!("Golden configuration {name} and the running configuration:\n\n{}\n", lines.text()));
    }
    if !differences.is_empty() {
        text.push_str(&format!("Modules:\n\n{}\n", differences.text()));
    }
    text.push_str(&format!(
        "Audit {result}: {} lines of the configuration and {} settings of {} differ\n",
        lone.len(),
        found.len(),
        modules_word(modules)
    ));
    let head = leaves([
        ("golden", name.to_owned()),
        ("result", result.to_owned()),
        ("modules", modules.to_string()),
        ("lines", lone.len().to_string()),
        ("settings", found.len().to_string()),
    ]);
    Output::with_json(text, merged([head, lines.json(), differences.json()]))
}

/// `show consistency`
pub fn consistent(modules: usize, found: &[Finding]) -> Output {
    let mut table = Table::new("module")
        .left("Mod", "module", 3)
        .left("Where", "where", 16)
        .left("What", "what", 16)
        .left("Intended", "intended", 12)
        .left("Applied", "applied", 12);
    for it in found {
        let values = [&it.running, &it.applied].map(or_dashes);
        table.row([it.slot.to_string(), it.place.clone(), it.what.clone()].into_iter().chain(values));
    }
    let result = if found.is_empty() { "passed" } else { "failed" };
    let front = if table.is_empty() { String::new() } else { format!("{}\n", table.text()) };
    let text = format!("{front}Consistency {result}: {} differences on {}\n", found.len(), modules_word(modules));
    let head = leaves([
        ("result", result.to_owned()),
        ("modules", modules.to_string()),
        ("differences", found.len().to_string()),
    ]);
    Output::with_json(text, merged([head, table.json()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::model::Vlan;
    use proto::addr::VlanId;

    fn applied(host: &HostConfig, faults: &[&str]) -> Applied {
        Applied {
            version: 7,
            hash: Default::default(),
            config: Some(minicbor::to_vec(host).unwrap()),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        }
    }

    #[test]
    fn rendered() {
        let (agreed, inventory) = (sample::model(), sample::inventory());
        let mut model = agreed.clone();
        model.vlans.insert(VlanId::new(99).unwrap(), Vlan::default());
        model.hostname = "moved".into();
        let wanted = compile(&model, &inventory, 3);
        let mut runs = wanted.clone();
        runs.ports[0].settings.mtu = 9000;
        runs.acls.clear();
        let golden = lines(&compile(&agreed, &inventory, 3));
        let fault = "stored configuration: version 6 is on the disk, version 7 runs";
        let mut found = findings(3, Some(&golden), &wanted, &Ok(applied(&runs, &[fault])));
        found.extend(findings(4, Some(&golden), &wanted, &Err("module 4 is not connected".into())));
        let lone = lone(&body(&agreed, &Part::Whole), &body(&model, &Part::Whole));
        sample::check("audit_golden", &report("base", 2, &lone, &found));
        sample::check("audit_golden_passed", &report("base", 2, &[], &[]));
        let found = findings(3, None, &wanted, &Ok(applied(&runs, &[fault])));
        sample::check("consistency", &consistent(1, &found));
        assert_eq!(findings(3, None, &wanted, &Ok(applied(&wanted, &[]))), []);
        let kept = Checkpoint {
            name: "base".into(),
            by: "admin".into(),
            at_s: 1_795_222_923,
            description: None,
            text: "x\n".into(),
        };
        sample::check("golden", &list(&[kept]));
    }

    #[test]
    fn lines_are_told_with_what_they_stand_under_and_without_secrets() {
        let lone = lone("vlan 10\n  name a\nusername x password 5 $h role network-admin\n", "vlan 10\n  name b\n");
        let told: Vec<_> = lone.iter().map(|l| (l.runs, l.section.as_str(), l.line.as_str())).collect();
        assert_eq!(
            told,
            [
                (false, "vlan 10", "name a"),
                (false, "", "username x password 5 ******** role network-admin"),
                (true, "vlan 10", "name b"),
            ]
        );
    }
}
