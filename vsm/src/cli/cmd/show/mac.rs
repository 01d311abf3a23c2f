//! `show mac address-table`
//!
//! Every module has a table of its own: an address that is a VM port's on one host is an uplink's on another. Both rows
//! are shown; the port says whose they are. What all modules agree on (static addresses) is shown once.

use proto::query::Query;
use proto::report::{Answer, MacRow};

use super::exec;
use super::gather::{Asked, ask};
use crate::cli::render::{Output, leaves, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

const WORDS: &[(&str, &str)] = &[
    ("address", "One address"),
    ("aging-time", "Time after which a silent address is forgotten"),
    ("dynamic", "Learned addresses"),
    ("static", "Configured addresses"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show mac address-table [ dynamic | static | vlan <vlan:vlan> | interface <if:if> | address <mac:mac> \
             | module <slot:num:3-66> ]*",
            "Display the MAC address table",
            WORDS,
            |session, args| {
                let asked = rows(session, args)?;
                Ok(asked.warn(entries(&asked.rows)))
            },
        ),
        exec(
            "show mac address-table count [ dynamic | static | vlan <vlan:vlan> ]*",
            "Count addresses",
            WORDS,
            |session, args| {
                let asked = rows(session, args)?;
                Ok(asked.warn(count(&asked.rows)))
            },
        ),
        exec("show mac address-table aging-time", "Display the aging time", WORDS, |session, _| {
            Ok(aging(session.handle.model().mac_aging_s))
        }),
    ]
}

fn rows(session: &Session, args: &Args) -> Result<Asked<MacRow>, Error> {
    let slot = args.number("slot").and_then(|slot| u8::try_from(slot).ok());
    let mut asked = ask(session, Query::Macs, slot, |answer| match answer {
        Answer::Macs(rows) => Some(rows),
        _ => None,
    });
    let (vlan, mac, port) = (args.vlan("vlan"), args.mac("mac"), args.interface("if"));
    let is_kind = |row: &MacRow| match (args.has("static"), args.has("dynamic")) {
        (true, false) => row.is_static,
        (false, true) => !row.is_static,
        _ => true,
    };
    asked.rows.retain(|(_, row)| {
        is_kind(row)
            && vlan.is_none_or(|vlan| vlan == row.vlan)
            && mac.is_none_or(|mac| mac == row.mac)
            && port.is_none_or(|port| Some(port) == row.port)
    });
    asked.rows.sort_by_key(|(slot, row)| (row.vlan, row.mac, row.port, *slot));
    asked.rows.dedup_by_key(|(slot, row)| (row.vlan, row.mac, row.port, (!row.is_static).then_some(*slot)));
    Ok(asked)
}

/// The table.
pub fn entries(rows: &[(u8, MacRow)]) -> Output {
    let mut text = "Legend: \n        * - primary entry, G - Gateway MAC, (R) - Routed MAC, O - Overlay MAC\n        \
                    age - seconds since last seen,+ - primary entry using vPC Peer-Link\n   \
                    VLAN     MAC Address      Type      age     Secure NTFY   Ports\n\
                    ---------+-----------------+--------+---------+------+----+------------------\n"
        .to_owned();
    let mut objects = Vec::new();
    for (slot, row) in rows {
        let kind = if row.is_static { "static" } else { "dynamic" };
        let age = if row.is_static { "-".to_owned() } else { row.age_s.to_string() };
        let port = row.port.map_or_else(|| "Drop".to_owned(), |port| port.short());
        text.push_str(&format!(
            "* {:<8} {:<17} {kind:<8} {age:<10} F      F    {port}\n",
            row.vlan,
            row.mac.to_string()
        ));
        let long = row.port.map_or_else(|| "Drop".to_owned(), |port| port.to_string());
        objects.push(leaves([
            ("disp_mac_addr", row.mac.to_string()),
            ("disp_type", "*".to_owned()),
            ("disp_vlan", row.vlan.to_string()),
            ("disp_is_static", u8::from(row.is_static).to_string()),
            ("disp_age", age),
            ("disp_is_secure", "0".to_owned()),
            ("disp_is_ntfy", "0".to_owned()),
            ("disp_port", long),
            ("disp_module", slot.to_string()),
        ]));
    }
    Output::with_json(text, table("mac_address", objects))
}

/// How many addresses there are.
pub fn count(rows: &[(u8, MacRow)]) -> Output {
    let fixed = rows.iter().filter(|(_, row)| row.is_static).count();
    let learned = rows.len() - fixed;
    let text = format!(
        "MAC Entries for all vlans:\nDynamic Address Count:                {learned}\n\
         Static Address (User-defined) Count:  {fixed}\nTotal MAC Addresses in Use:           {}\n",
        rows.len(),
    );
    Output::with_json(text, leaves([("dynamic_count", learned), ("static_count", fixed), ("total_count", rows.len())]))
}

fn aging(seconds: u32) -> Output {
    Output::with_json(format!("Aging Time\n----------\n{seconds:>10}\n"), leaves([("aging_time", seconds)]))
}

#[cfg(test)]
mod tests {
    use proto::addr::VlanId;
    use proto::name::IfName;

    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let row = |mac: &str, is_static, age_s, port| MacRow {
            vlan: VlanId::new(10).unwrap(),
            mac: mac.parse().unwrap(),
            is_static,
            age_s,
            port,
        };
        let rows = [
            (3, row("0200.0000.0001", false, 12, Some(IfName::Vethernet(1)))),
            (3, row("0200.0000.0003", false, 0, Some(IfName::Ethernet { slot: 3, port: 1 }))),
            (3, row("0200.0000.00ff", true, 0, None)),
        ];
        sample::check("mac_address-table", &entries(&rows));
        sample::check("mac_address-table_empty", &entries(&[]));
        sample::check("mac_address-table_count", &count(&rows));
        sample::check("mac_address-table_aging-time", &aging(300));
    }
}
