//! `show vlan`

use proto::addr::VlanId;
use proto::vlan::{PortMode, VlanSet};

use super::exec;
use super::gather::{Port, known_ports};
use crate::cli::render::{Output, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::model::{Model, Vlan};

const WORDS: &[(&str, &str)] =
    &[("id", "These VLANs"), ("ids", "VLANs, such as 1-5,10"), ("summary", "How many VLANs there are")];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show vlan [ brief | id <ids:vlans> | name <name:word> ]", "Display VLANs and their ports", WORDS, show),
        exec("show vlan summary", "Display how many VLANs there are", WORDS, |session, _| {
            Ok(summary(&session.handle.model()))
        }),
    ]
}

fn show(session: &mut Session, args: &Args) -> Result<Output, Error> {
    let model = session.handle.model();
    let ports = known_ports(session, &Args::default())?;
    let mut only = args.vlans("ids").cloned();
    if let Some(name) = args.text("name") {
        let found = model.vlans.iter().find(|(id, vlan)| vlan.name(**id) == name).map(|(id, _)| *id);
        let id = found.ok_or_else(|| Error::Refused(format!("VLAN {name} does not exist")))?;
        only = Some(VlanSet::from_iter([id]));
    }
    // Of a range, those that are there.
    if let Some(ids) = only.as_ref().filter(|ids| !ids.iter().any(|id| model.vlans.contains_key(&id))) {
        return Err(Error::Refused(format!("VLAN {ids} does not exist")));
    }
    Ok(if args.has("brief") { brief(&model, &ports) } else { full(&model, &ports, only.as_ref()) })
}

fn state(vlan: &Vlan) -> &'static str {
    match (vlan.suspended, vlan.shutdown) {
        (false, false) => "active",
        (true, false) => "suspended",
        (false, true) => "act/lshut",
        (true, true) => "sus/lshut",
    }
}

fn carries(port: &Port, vlan: VlanId) -> bool {
    match &port.settings.mode {
        PortMode::Access(own) => *own == vlan,
        PortMode::Trunk { allowed, .. } => allowed.contains(vlan),
    }
}

/// Names, comma-separated, in lines of at most `width` columns.
fn lines(names: Vec<String>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + name.len() < width => line.push_str(&format!(", {name}")),
            _ => lines.push(name),
        }
    }
    lines
}

fn first_table(model: &Model, ports: &[Port], only: Option<&VlanSet>) -> (String, Vec<serde_json::Value>) {
    let mut text = format!("\n{:<5}{:<33}{:<10}{}\n", "VLAN", "Name", "Status", "Ports");
    text.push_str(&format!("{} {} {} {}\n", "-".repeat(4), "-".repeat(32), "-".repeat(9), "-".repeat(31)));
    let mut rows = Vec::new();
    for (id, vlan) in model.vlans.iter().filter(|(id, _)| only.is_none_or(|only| only.contains(**id))) {
        let members: Vec<&Port> = ports.iter().filter(|port| carries(port, *id)).collect();
        let mut listed = lines(members.iter().map(|port| port.name.short()).collect(), 32).into_iter();
        let name = vlan.name(*id);
        let first = listed.next().unwrap_or_default();
        let row = format!("{id:<5}{name:<33}{:<10}{first}", state(vlan));
        text.push_str(row.trim_end());
        text.push('\n');
        text.extend(listed.map(|line| format!("{:48}{line}\n", "")));
        let long: Vec<String> = members.iter().map(|port| port.name.to_string()).collect();
        rows.push(leaves([
            ("vlanshowbr-vlanid", id.to_string()),
            ("vlanshowbr-vlanid-utf", id.to_string()),
            ("vlanshowbr-vlanname", name),
            ("vlanshowbr-vlanstate", if vlan.suspended { "suspend" } else { "active" }.to_owned()),
            ("vlanshowbr-shutstate", if vlan.shutdown { "shutdown" } else { "noshutdown" }.to_owned()),
            ("vlanshowplist-ifidx", long.join(",")),
        ]));
    }
    (text, rows)
}

/// The first table.
pub fn brief(model: &Model, ports: &[Port]) -> Output {
    let (text, rows) = first_table(model, ports, None);
    Output::with_json(text, table("vlanbriefxbrief", rows))
}

/// All tables, of one VLAN or of all.
pub fn full(model: &Model, ports: &[Port], only: Option<&VlanSet>) -> Output {
    let (mut text, rows) = first_table(model, ports, only);
    text.push_str(&format!(
        "\n{:<5}{:<13}{}\n{} {} {}\n",
        "VLAN",
        "Type",
        "Vlan-mode",
        "----",
        "-".repeat(5),
        "-".repeat(10)
    ));
    let mut modes = Vec::new();
    for id in model.vlans.keys().filter(|id| only.is_none_or(|only| only.contains(**id))) {
        text.push_str(&format!("{id:<5}{:<13}CE\n", "enet"));
        modes.push(leaves([
            ("vlanshowinfo-vlanid", id.to_string()),
            ("vlanshowinfo-media-type", "enet".to_owned()),
            ("vlanshowinfo-vlanmode", "ce-vlan".to_owned()),
        ]));
    }
    if only.is_none() {
        let rule = "-".repeat(79);
        text.push_str(&format!("\nRemote SPAN VLANs\n{rule}\n\n"));
        text.push_str("Primary  Secondary  Type             Ports\n-------  ---------  ---------------  -------------------------------------------\n");
    }
    Output::with_json(text, merged([table("vlanbrief", rows), table("mtuinfo", modes)]))
}

/// How many there are.
pub fn summary(model: &Model) -> Output {
    let count = model.vlans.len().to_string();
    let text = format!(
        "Number of existing VLANs           : {count}\n Number of existing user VLANs     : {count}\n Number of existing extended VLANs : 0\n"
    );
    Output::with_json(text, leaves([("vlansum-all-vlan", count.clone()), ("vlansum-user-vlan", count)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let (model, ports) = (sample::model(), sample::ports());
        sample::check("vlan", &full(&model, &ports, None));
        sample::check("vlan_brief", &brief(&model, &ports));
        sample::check("vlan_id", &full(&model, &ports, Some(&VlanSet::from_iter(VlanId::new(10)))));
        sample::check("vlan_summary", &summary(&model));
    }

    #[test]
    fn long_lists_of_ports_go_on_at_column_48() {
        let names = (1..=9).map(|n| format!("Veth10{n}")).collect();
        let lines = lines(names, 32);
        assert_eq!((lines.len(), lines[0].as_str()), (3, "Veth101, Veth102, Veth103"));
    }
}
