//! What a configuration session would change on each module, and which module would refuse it: `commit dry-run` and
//! `show configuration session NAME impact`.
//!
//! The modules are really asked: each checks and builds the configuration as for a commit, and then forgets it. Nothing that runs
//! changes, and no commit comes between.

use std::collections::BTreeMap;

use crate::cli::render::{Output, Table, leaves, merged};
use crate::cli::session::Session;
use crate::cli::tree::Error;
use crate::config::compile::compile;
use crate::config::hostdiff::{Row, compare, lines};
use crate::config::model::Model;

/// What there is to say of a module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Impact {
    /// Its slot.
    pub slot: u8,
    /// `ready`, `refuses: ...`, `unchanged`, or why it was not asked.
    pub verdict: String,
    /// It would not take it.
    pub refuses: bool,
    /// Settings, as they are to be now and as they would be.
    pub rows: Vec<Row<2>>,
}

/// Asks every module.
///
/// # Errors
/// The session has a line that is wrong by now, or the change is refused before a module is asked.
pub fn impact(session: &Session, name: &str) -> Result<Output, Error> {
    let failed = |why: String| Error::Refused(format!("Verification failed: {why}"));
    let draft = session.handle.lifecycle().drafts.get(name);
    let draft = draft.ok_or_else(|| Error::Refused(format!("Session '{name}' does not exist")))?;
    let next = session.handle.foresee(&draft.lines).map_err(failed)?;
    let refusals = session.handle.try_on_modules(next.clone()).map_err(|error| failed(error.to_string()))?;
    Ok(table(name, &impacts(session, &next, &refusals.into_iter().collect())))
}

fn impacts(session: &Session, next: &Model, refusals: &BTreeMap<u8, String>) -> Vec<Impact> {
    let (model, inventory) = (session.handle.model(), session.handle.inventory());
    let of = |(slot, module): (&u8, &crate::module::registry::Module)| {
        let [now, then] = [&*model, next].map(|model| lines(&compile(model, &inventory, *slot)));
        let rows = compare([&now, &then]);
        let refusal = refusals.get(slot);
        let verdict = match refusal {
            Some(why) => format!("refuses: {}", crate::log::clean(why, 300)),
            None if rows.is_empty() => "unchanged".to_owned(),
            None if module.address.is_none() => "not connected: gets it when it is back".to_owned(),
            None => "ready".to_owned(),
        };
        Impact { slot: *slot, verdict, refuses: refusal.is_some(), rows }
    };
    inventory.modules.iter().map(of).collect()
}

/// Both tables.
pub fn table(name: &str, impacts: &[Impact]) -> Output {
    let mut modules =
        Table::new("module").left("Mod", "module", 3).right("Changes", "changes", 7).left("Verdict", "verdict", 10);
    let mut changes = Table::new("change")
        .left("Mod", "change_module", 3)
        .left("Where", "where", 16)
        .left("What", "what", 16)
        .left("Running", "running", 12)
        .left("Session", "session", 12);
    let or_dashes = |value: &Option<String>| value.clone().unwrap_or_else(|| "--".to_owned());
    for it in impacts {
        modules.row([it.slot.to_string(), it.rows.len().to_string(), it.verdict.clone()]);
        for Row { place, what, values } in &it.rows {
            let values = values.each_ref().map(or_dashes);
            changes.row([it.slot.to_string(), place.clone(), what.clone()].into_iter().chain(values));
        }
    }
    let refused = impacts.iter().filter(|it| it.refuses).count();
    let result = match refused {
        0 => "Every module that is connected would take it".to_owned(),
        n => format!("It would be refused by {n} module{}, and so changed on none", if n == 1 { "" } else { "s" }),
    };
    let behind = if changes.is_empty() { String::new() } else { format!("\n{}", changes.text()) };
    let text = format!("Session {name}, nothing is changed:\n\n{}{behind}\n{result}\n", modules.text());
    let head = leaves([("session_name", name.to_owned()), ("result", result)]);
    Output::with_json(text, merged([head, modules.json(), changes.json()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::supervisor::Handle;

    #[test]
    fn rendered() {
        let handle = Handle::shadow(sample::model(), sample::inventory());
        let mut next = sample::model();
        next.hostname = "moved".into();
        next.profiles.get_mut("web").unwrap().own.mtu = Some(1400);
        let session = Session::new(handle);
        let refusals = BTreeMap::from([(3, "access lists: no room".to_owned())]);
        sample::check("configuration_session_impact", &table("move", &impacts(&session, &next, &refusals)));
        let none = impacts(&session, &sample::model(), &BTreeMap::new());
        assert!(none.iter().all(|it| it.verdict == "unchanged" && it.rows.is_empty()));
    }
}
