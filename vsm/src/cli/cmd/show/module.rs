//! `show module` and what belongs to it. Slot 1 is the supervisor; it has no twin in slot 2 today.

use std::time::SystemTime;

use super::exec;
use super::gather::long_time;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::module::registry::{Inventory, Module};

const WORDS: &[(&str, &str)] =
    &[("mapping", "Modules and hosts"), ("uptime", "Time since the module came"), ("vem", "Virtual Ethernet Modules")];

/// The slot of the supervisor.
const SUPERVISOR: u8 = 1;

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show module [<slot:num:1-66>]", "Display modules", WORDS, |session, args| {
            let (inventory, only) = wanted(session, args)?;
            Ok(modules(&inventory, &session.hostname(), only))
        }),
        exec("show module [<slot:num:1-66>] uptime", "Display how long modules are there", WORDS, |session, args| {
            let (inventory, only) = wanted(session, args)?;
            Ok(uptime(&inventory, only, SystemTime::now()))
        }),
        exec("show module vem counters", "Display messages to and from modules", WORDS, |session, _| {
            Ok(counters(&session.handle.inventory()))
        }),
        exec("show module vem mapping", "Display modules and their hosts", WORDS, |session, _| {
            Ok(mapping(&session.handle.inventory()))
        }),
    ]
}

fn wanted(session: &Session, args: &Args) -> Result<(std::sync::Arc<Inventory>, Option<u8>), Error> {
    let inventory = session.handle.inventory();
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    match slot.filter(|slot| *slot != SUPERVISOR && !inventory.modules.contains_key(slot)) {
        Some(slot) => Err(Error::Refused(format!("Module {slot} does not exist"))),
        None => Ok((inventory, slot)),
    }
}

/// The status words are those that parsers know.
fn status(module: &Module) -> &'static str {
    match (module.address, module.applied == module.intended) {
        (None, _) => "powered-dn",
        (Some(_), true) => "ok",
        (Some(_), false) => "initializing",
    }
}

/// Three tables.
pub fn modules(inventory: &Inventory, hostname: &str, only: Option<u8>) -> Output {
    let mut kinds = Table::new("modinfo")
        .left("Mod", "modinf", 3)
        .left("Ports", "ports", 5)
        .left("Module-Type", "modtype", 32)
        .left("Model", "model", 18)
        .left("Status", "status", 12);
    let mut software = Table::new("modwwninfo").left("Mod", "modwwn", 3).left("Sw", "sw", 18).left("Hw", "hw", 18);
    let mut hosts = Table::new("modserverinfo")
        .left("Mod", "mod", 3)
        .left("Server-IP", "serverip", 15)
        .left("Server-UUID", "serveruuid", 36)
        .left("Server-Name", "servername", 20);
    let is_wanted = |slot: u8| only.is_none_or(|only| only == slot);
    let version = env!("CARGO_PKG_VERSION");
    if is_wanted(SUPERVISOR) {
        kinds.row(["1", "0", "Virtual Supervisor Module", "N1K-VSM", "active *"]);
        software.row(["1", version, "0.0"]);
        hosts.row(["1", "NA", "NA", hostname]);
    }
    for (slot, module) in inventory.modules.iter().filter(|(slot, _)| is_wanted(**slot)) {
        let ports = module.ports.len().to_string();
        kinds.row([slot.to_string(), ports, "Virtual Ethernet Module".into(), "NA".into(), status(module).into()]);
        software.row([slot.to_string(), module.software.clone(), "0.0".into()]);
        let address = module.address.map_or_else(|| "NA".to_owned(), |address| address.ip().to_string());
        hosts.row([slot.to_string(), address, module.uuid.to_string(), module.host.clone()]);
    }
    let text = format!("{}\n{}\n{}\n* this terminal session\n", kinds.text(), software.text(), hosts.text());
    Output::with_json(text, merged([kinds.json(), software.json(), hosts.json()]))
}

/// How long the modules are there.
pub fn uptime(inventory: &Inventory, only: Option<u8>, now: SystemTime) -> Output {
    let mut text = String::new();
    let mut rows = Vec::new();
    for (slot, module) in inventory.modules.iter().filter(|(slot, _)| only.is_none_or(|only| only == **slot)) {
        let since = module.connected_at.filter(|_| module.address.is_some());
        let seconds = since.and_then(|since| now.duration_since(since).ok()).map(|up| up.as_secs());
        let (start, up) = match (since, seconds) {
            (Some(since), Some(seconds)) => (crate::log::stamp(since), long_time(seconds)),
            _ => ("not connected".to_owned(), long_time(0)),
        };
        text.push_str(&format!("------ Module {slot} -----\nModule Start Time:  {start}\nUp Time:            {up}\n"));
        rows.push(leaves([("mod", slot.to_string()), ("start_time", start), ("up_time", up)]));
    }
    Output::with_json(text, table("moduptime", rows))
}

/// Messages to and from the modules. `InNR` is the number of registrations.
pub fn counters(inventory: &Inventory) -> Output {
    let mut table = Table::new("vemcounters")
        .right("Mod", "mod", 4)
        .right("InNR", "in_nr", 8)
        .right("OutMI", "out_mi", 8)
        .right("InMI", "in_mi", 8)
        .right("OutHBeats", "out_hbeats", 9)
        .right("InHBeats", "in_hbeats", 9)
        .right("InsCnt", "ins_cnt", 6)
        .right("RemCnt", "rem_cnt", 6)
        .right("Crit Tx Errs", "crit_tx_errs", 12);
    for (slot, module) in &inventory.modules {
        let c = &module.counters;
        let registrations = c.insertions;
        let cells = [
            u64::from(*slot),
            registrations,
            c.messages_out,
            c.messages_in,
            c.heartbeats_out,
            c.heartbeats_in,
            c.insertions,
            c.removals,
            c.tx_errors,
        ];
        table.row(cells.map(|cell| cell.to_string()));
    }
    table.output()
}

/// Which host is in which slot. No licence is needed.
pub fn mapping(inventory: &Inventory) -> Output {
    let mut table = Table::new("vemmapping")
        .left("Mod", "mod", 4)
        .left("Status", "status", 13)
        .left("UUID", "uuid", 36)
        .left("License Status", "license", 14);
    for (slot, module) in &inventory.modules {
        let status = if module.address.is_some() { "powered-up" } else { "absent" };
        table.row([slot.to_string(), status.to_owned(), module.uuid.to_string(), "not needed".to_owned()]);
    }
    table.output()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let inventory = sample::inventory();
        sample::check("module", &modules(&inventory, "n1000v", None));
        sample::check("module_3", &modules(&inventory, "n1000v", Some(3)));
        sample::check("module_uptime", &uptime(&inventory, None, sample::now()));
        sample::check("module_vem_counters", &counters(&inventory));
        sample::check("module_vem_mapping", &mapping(&inventory));
    }
}
