//! `show svs domain`, `neighbors` and `connections`

use std::time::SystemTime;

use super::exec;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::tree::Command;
use crate::module::registry::Inventory;

const WORDS: &[(&str, &str)] = &[
    ("connections", "Connections to VM managers"),
    ("domain", "The domain of this switch"),
    ("neighbors", "Modules of the domain"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show svs domain", "Display the domain", WORDS, |session, _| {
            Ok(domain(session.handle.facts().domain, &session.handle.inventory()))
        }),
        exec("show svs neighbors", "Display the modules of the domain", WORDS, |session, _| {
            Ok(neighbors(session.handle.facts().domain, &session.handle.inventory(), SystemTime::now()))
        }),
        // There are none: host agents report their ports themselves.
        exec("show svs connections", "Display connections to VM managers", WORDS, |_, _| {
            Ok(Output::with_json("", table("svs_connections", Vec::new())))
        }),
    ]
}

/// The domain.
pub fn domain(id: u16, inventory: &Inventory) -> Output {
    let present = inventory.modules.values().filter(|module| module.address.is_some());
    let behind = present.filter(|module| module.applied != module.intended).count();
    let status = match behind {
        0 => "Config push to modules successful".to_owned(),
        n => format!("Config push to {n} modules in progress"),
    };
    let text = format!(
        "SVS domain config:\n  Domain id:    {id}\n  Control vlan: NA\n  Packet vlan:  NA\n  \
         L2/L3 Control mode: L3\n  L3 control interface: mgmt0\n  Status: {status}\n"
    );
    let json = leaves([("domain_id", id.to_string()), ("control_mode", "L3".to_owned()), ("status", status)]);
    Output::with_json(text, json)
}

/// The modules; control messages travel over TCP, so a neighbor has an IP address where the original shows a MAC address.
pub fn neighbors(id: u16, inventory: &Inventory, now: SystemTime) -> Output {
    let mut table = Table::new("svs_neighbors")
        .left("Src Address", "src_addr", 18)
        .left("Type", "type", 4)
        .left("Domain-id", "domain_id", 9)
        .left("Node-id", "node_id", 7)
        .left("Last learnt (Sec. ago)", "last_learnt", 22);
    for (slot, module) in &inventory.modules {
        if let Some(address) = module.address {
            let since = module.connected_at.and_then(|at| now.duration_since(at).ok()).map_or(0, |d| d.as_secs());
            let node = slot.to_string();
            table.row([address.ip().to_string(), "VEM".to_owned(), id.to_string(), node, since.to_string()]);
        }
    }
    let text = format!("\nActive Domain ID: {id}\n\n{}", table.text());
    Output::with_json(text, merged([leaves([("active_domain_id", id)]), table.json()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let inventory = sample::inventory();
        sample::check("svs_domain", &domain(100, &inventory));
        sample::check("svs_neighbors", &neighbors(100, &inventory, sample::now()));
    }
}
