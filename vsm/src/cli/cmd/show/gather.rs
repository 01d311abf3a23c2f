//! What several `show` commands start from: the answers of the modules, and every interface with all that is known of it.

use std::collections::BTreeMap;

use proto::config::PortSettings;
use proto::name::IfName;
use proto::query::Query;
use proto::report::{Answer, PortReport, PortRow, PortState};

use crate::cli::render::Output;
use crate::cli::session::Session;
use crate::cli::tree::{Args, Error};
use crate::config::compile::interface_of;
use crate::config::model::Model;
use crate::module::registry::Inventory;

/// What the modules said.
pub struct Asked<T> {
    /// Rows, with the module that each is from.
    pub rows: Vec<(u8, T)>,
    /// A line for each module that did not answer.
    pub warnings: String,
}

impl<T> Asked<T> {
    /// The output, behind the warnings (in JSON as the member `warning`): an incomplete table must not look complete.
    pub fn warn(&self, mut output: Output) -> Output {
        output.text.insert_str(0, &self.warnings);
        if let Some(serde_json::Value::Object(members)) = output.json.as_mut().filter(|_| !self.warnings.is_empty()) {
            members.insert("warning".into(), self.warnings.trim_end().into());
        }
        output
    }
}

/// Asks the modules and puts their rows together; `pick` takes the rows out of an answer.
pub fn ask<T>(session: &Session, query: Query, slot: Option<u8>, pick: impl Fn(Answer) -> Option<Vec<T>>) -> Asked<T> {
    let mut asked = Asked { rows: Vec::new(), warnings: String::new() };
    for (slot, answer) in session.handle.ask(query, slot) {
        let why = match answer {
            Ok(Answer::Failed(why)) | Err(why) => why,
            Ok(answer) => match pick(answer) {
                Some(rows) => {
                    asked.rows.extend(rows.into_iter().map(|row| (slot, row)));
                    continue;
                }
                None => "its answer is of another kind".to_owned(),
            },
        };
        asked.warnings.push_str(&format!("Warning: module {slot}: {why}\n"));
    }
    asked
}

/// An interface, with what is configured, what is attached and what its module says.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: IfName,
    /// The module that holds it, or held it last.
    pub slot: Option<u8>,
    /// Name of that module's host.
    pub host: String,
    /// The profile that it inherits from.
    pub profile: Option<String>,
    /// Everything that is configured, evaluated.
    pub settings: PortSettings,
    /// What is attached.
    pub report: Option<PortReport>,
    /// What the module says.
    pub row: Option<PortRow>,
    /// Up, or why not.
    pub state: PortState,
}

impl Port {
    /// It forwards.
    pub fn is_up(&self) -> bool {
        self.state == PortState::Up
    }

    /// Largest packet as the module runs it, which a smaller device bounds; as configured when no module runs it.
    pub fn mtu(&self) -> u16 {
        self.row.as_ref().map_or(self.settings.mtu, |row| row.mtu)
    }

    /// Why it is down; `none` when it is up. Without line ends and double blanks, which would break tables.
    pub fn reason(&self) -> String {
        match &self.state {
            PortState::Up => "none".to_owned(),
            PortState::Down(why) => why.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }

    /// The VM's address, or zeros.
    pub fn mac(&self) -> proto::addr::MacAddr {
        self.report.as_ref().and_then(|report| report.mac).unwrap_or_default()
    }
}

/// Every interface that is configured or attached, in order.
pub fn ports(model: &Model, inventory: &Inventory, rows: &[(u8, PortRow)]) -> Vec<Port> {
    let mut attached: BTreeMap<IfName, (u8, &PortReport)> = BTreeMap::new();
    // A card that has moved may still be in the last list of the module that it left: one that is there goes first.
    let mut modules: Vec<_> = inventory.modules.iter().collect();
    modules.sort_by_key(|(_, module)| module.address.is_none());
    for (slot, module) in modules {
        for report in &module.ports {
            if let Some(name) = interface_of(inventory, *slot, report) {
                attached.entry(name).or_insert((*slot, report));
            }
        }
    }
    let by_name: BTreeMap<(u8, IfName), &PortRow> =
        rows.iter().filter_map(|(slot, row)| Some(((*slot, row.name?), row))).collect();
    let mut names: Vec<IfName> = model.interfaces.keys().chain(attached.keys()).copied().collect();
    names.sort();
    names.dedup();
    let port = |name: IfName| {
        let found = attached.get(&name);
        let slot = found.map(|(slot, _)| *slot).or(match name {
            IfName::Ethernet { slot, .. } => Some(slot),
            _ => None,
        });
        let module = slot.and_then(|slot| inventory.modules.get(&slot));
        let row = slot.and_then(|slot| by_name.get(&(slot, name)).copied());
        let interface = match found {
            Some((_, report)) => model.interface_for(name, report),
            None => model.interfaces.get(&name).cloned().unwrap_or_default(),
        };
        let settings = model.interface_settings(&interface);
        let down = |why: &str| PortState::Down(why.to_owned());
        let state = match (row, found, module) {
            (Some(row), _, _) => row.state.clone(),
            _ if !settings.admin_up => down("Administratively down"),
            (_, None, _) => down("nonParticipating"),
            (_, _, Some(module)) if module.address.is_some() => down("Module does not answer"),
            _ => down("Module absent"),
        };
        Port {
            name,
            slot,
            host: module.map(|module| module.host.clone()).unwrap_or_default(),
            profile: interface.inherit,
            settings,
            report: found.map(|(_, report)| (*report).clone()),
            row: row.cloned(),
            state,
        }
    };
    names.into_iter().map(port).collect()
}

/// The interfaces that the command names (`if`), or all, each with its module's word; and the warnings.
pub fn asked_ports(session: &Session, args: &Args) -> Result<(Vec<Port>, Asked<PortRow>), Error> {
    let asked = ask(session, Query::Ports, None, |answer| match answer {
        Answer::Ports(rows) => Some(rows),
        _ => None,
    });
    let all = ports(&session.handle.model(), &session.handle.inventory(), &asked.rows);
    Ok((select(all, args.interfaces("if"))?, asked))
}

/// As [`asked_ports`], for what is configured and attached: no module is asked, so the states are not theirs.
pub fn known_ports(session: &Session, args: &Args) -> Result<Vec<Port>, Error> {
    select(ports(&session.handle.model(), &session.handle.inventory(), &[]), args.interfaces("if"))
}

fn select(mut all: Vec<Port>, wanted: &[IfName]) -> Result<Vec<Port>, Error> {
    if let Some(missing) = wanted.iter().find(|name| !all.iter().any(|port| port.name == **name)) {
        let why = match missing {
            IfName::Mgmt0 => "mgmt0 belongs to the host of the supervisor and is shown there".to_owned(),
            missing => format!("Interface {missing} does not exist"),
        };
        return Err(Error::Refused(why));
    }
    all.retain(|port| wanted.is_empty() || wanted.contains(&port.name));
    Ok(all)
}

/// `0d01h`, `00:01:02`: how NX-OS writes a short time.
pub fn short_time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days / 7, days) {
        (0, 0) => format!("{hours:02}:{minutes:02}:{:02}", seconds % 60),
        (0, days) => format!("{days}d{hours:02}h"),
        (weeks, days) => format!("{weeks}w{}d", days % 7),
    }
}

/// `0 day(s), 1 hour(s), 2 minute(s), 3 second(s)`
pub fn long_time(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days} day(s), {hours} hour(s), {minutes} minute(s), {} second(s)", seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn states_of_interfaces() {
        let ports = sample::ports();
        let state = |name: &str| {
            let port = ports.iter().find(|port| port.name.short() == name).unwrap();
            (port.reason(), port.slot)
        };
        assert_eq!(state("Veth1"), ("none".into(), Some(3)));
        assert_eq!(state("Veth2"), ("Administratively down".into(), Some(3)));
        assert_eq!(state("Veth3"), ("Module absent".into(), Some(4)));
        assert_eq!(state("Veth4"), ("nonParticipating".into(), None));
        assert_eq!(state("Eth3/1"), ("none".into(), Some(3)));
    }

    #[test]
    fn times() {
        assert_eq!(
            (short_time(62), short_time(90_000), short_time(800_000)),
            ("00:01:02".into(), "1d01h".into(), "1w2d".into())
        );
        assert_eq!(long_time(90_062), "1 day(s), 1 hour(s), 1 minute(s), 2 second(s)");
    }
}
