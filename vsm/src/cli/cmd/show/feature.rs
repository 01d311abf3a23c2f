//! `show feature` and `show inventory`

use super::exec;
use super::version::Machine;
use crate::cli::render::{Output, Table, leaves, table};
use crate::cli::tree::Command;
use crate::module::registry::Inventory;

const WORDS: &[(&str, &str)] =
    &[("feature", "Features and whether they are on"), ("inventory", "The switch and its modules")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show feature", "Display features", WORDS, |session, _| {
            let tacacs = session.handle.model().aaa.tacacs_is_on;
            Ok(features(session.handle.nxapi().is_some(), session.handle.ssh().is_some(), tacacs))
        }),
        exec("show inventory", "Display the switch and its modules", WORDS, |session, _| {
            Ok(inventory(&session.handle.inventory(), &Machine::read().board))
        }),
    ]
}

/// What other switches of the kind switch on and off. Here flow export is always on, and `vsm.toml` says which servers run.
pub fn features(nxapi: bool, ssh: bool, tacacs: bool) -> Output {
    let mut table = Table::new("cfcFeatureCtrlTable")
        .left("Feature Name", "cfcFeatureCtrlName2", 20)
        .left("Instance", "cfcFeatureCtrlInstanceNum2", 8)
        .left("State", "cfcFeatureCtrlOpStatus2", 8);
    for (name, is_on) in [("netflow", true), ("nxapi", nxapi), ("sshServer", ssh), ("tacacs", tacacs)] {
        table.row([name, "1", if is_on { "enabled" } else { "disabled" }]);
    }
    table.output()
}

/// The supervisor's machine, and a row for each module; the serial number of a host is its identity.
pub fn inventory(inventory: &Inventory, board: &str) -> Output {
    let version = env!("CARGO_PKG_VERSION");
    let row = |name: &str, description: &str, product: &str, version: &str, serial: &str| {
        [name, description, product, version, serial].map(str::to_owned)
    };
    let mut rows = vec![
        row("Chassis", "Nexus 1000V Chassis", "N1K-VSM", version, board),
        row("Slot 1", "Virtual Supervisor Module", "N1K-VSM", version, board),
    ];
    for (slot, module) in &inventory.modules {
        let (name, serial) = (format!("Slot {slot}"), module.uuid.to_string());
        rows.push(row(&name, "Virtual Ethernet Module", "NA", &module.software, &serial));
    }
    let text = |[name, description, product, version, serial]: &[String; 5]| {
        format!("NAME: \"{name}\",  DESCR: \"{description}\"\nPID: {product} ,  VID: {version} ,  SN: {serial}\n")
    };
    let keys = ["name", "desc", "productid", "vendorid", "serialnum"];
    let texts: Vec<String> = rows.iter().map(text).collect();
    let objects = rows.into_iter().map(|row| leaves(keys.into_iter().zip(row))).collect();
    Output::with_json(texts.join("\n"), table("inv", objects))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        sample::check("feature", &features(true, false, true));
        sample::check("inventory", &inventory(&sample::inventory(), "0123456789A"));
    }
}
