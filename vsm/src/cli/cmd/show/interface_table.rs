//! `show interface brief`, `status`, `description`, `switchport`, `counters` and `virtual`.

use proto::config::ProfileType;
use proto::name::IfName;
use proto::report::Counters;
use proto::vlan::{PortMode, VlanSet};

use super::exec;
use super::gather::{Asked, Port, asked_ports, known_ports};
use super::interface::mode_word;
use crate::cli::render::{Output, Table, leaves, merged, table};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};
use crate::config::model::Model;

const WORDS: &[(&str, &str)] = &[
    ("description", "Descriptions"),
    ("detailed", "In full"),
    ("status", "State, VLAN and speed"),
    ("switchport", "VLANs of each port"),
    ("trunk", "Trunks and their VLANs"),
    ("virtual", "VM, host and profile of each port"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show interface [<if:ifs>] brief", "Display a line per interface", WORDS, |session, args| {
            render(session, args, brief)
        }),
        exec("show interface [<if:ifs>] status", "Display interface line status", WORDS, |session, args| {
            render(session, args, status)
        }),
        exec("show interface [<if:ifs>] description", "Display interface descriptions", WORDS, |session, args| {
            Ok(description(&known_ports(session, args)?))
        }),
        exec("show interface [<if:ifs>] switchport", "Display VLANs of each port", WORDS, |session, args| {
            Ok(switchport(&known_ports(session, args)?, &session.handle.model()))
        }),
        exec("show interface [<if:ifs>] trunk", "Display trunks and their VLANs", WORDS, |session, args| {
            let model = session.handle.model();
            let (ports, asked) = asked_ports(session, args)?;
            Ok(asked.warn(super::trunk::trunk(&ports, &model)))
        }),
        exec("show interface [<if:ifs>] counters [detailed]", "Display interface counters", WORDS, |session, args| {
            render(session, args, counters)
        }),
        exec("show interface [<if:ifs>] virtual", "Display who is behind each port", WORDS, |session, args| {
            Ok(owners(&known_ports(session, args)?))
        }),
    ]
}

fn render(session: &Session, args: &Args, draw: fn(&[Port]) -> Output) -> Result<Output, Error> {
    let (ports, asked): (Vec<Port>, Asked<_>) = asked_ports(session, args)?;
    Ok(asked.warn(draw(&ports)))
}

/// VLAN of an access port, native VLAN of a trunk.
fn vlan(port: &Port) -> String {
    match &port.settings.mode {
        PortMode::Access(vlan) => vlan.to_string(),
        PortMode::Trunk { native, .. } => native.to_string(),
    }
}

fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect::<String>().trim_end().to_owned()
}

/// VM ports stand under the header of the uplinks, as parsers know only that one.
pub fn brief(ports: &[Port]) -> Output {
    let dashes = "-".repeat(80);
    let mut text = format!(
        "{dashes}\n{:<14}{:<8}{:<5}{:<7}{:<8}{:<23}{:<10}{}\n{:<68}{}\n{dashes}\n",
        "Ethernet", "VLAN", "Type", "Mode", "Status", "Reason", "Speed", "Port", "Interface", "   Ch #",
    );
    let mut rows = Vec::new();
    for port in ports {
        let kind = if port.name.is_ethernet() { "eth" } else { "virt" };
        let state = if port.is_up() { "up" } else { "down" };
        let (vlan, mode, reason) = (vlan(port), mode_word(port), port.reason());
        text.push_str(&format!(
            "{:<13} {vlan:<7} {kind:<4} {mode:<6} {state:<7} {reason:<22} {:<9} --\n",
            port.name.short(),
            "10G(D)",
        ));
        rows.push(leaves([
            ("interface", port.name.to_string()),
            ("vlan", vlan),
            ("type", kind.to_owned()),
            ("portmode", mode.to_owned()),
            ("state", state.to_owned()),
            ("state_rsn_desc", reason),
            ("speed", "10G".to_owned()),
            ("ratemode", "D".to_owned()),
        ]));
    }
    Output::with_json(text, table("interface", rows))
}

/// Status words are those that parsers know: `connected`, `disabled`, `notconnec`.
pub fn status(ports: &[Port]) -> Output {
    let dashes = "-".repeat(80);
    let mut text = format!(
        "\n{dashes}\n{:<14}{:<19}{:<10}{:<10}{:<8}{:<8}{}\n{dashes}\n",
        "Port", "Name", "Status", "Vlan", "Duplex", "Speed", "Type",
    );
    let mut rows = Vec::new();
    for port in ports {
        let state = match (port.is_up(), port.settings.admin_up) {
            (true, _) => "connected",
            (false, false) => "disabled",
            _ => "notconnec",
        };
        let name = match cut(&port.settings.description, 18) {
            name if name.is_empty() => "--".to_owned(),
            name => name,
        };
        let vlan = if let PortMode::Trunk { .. } = port.settings.mode { "trunk".to_owned() } else { vlan(port) };
        let short = port.name.short();
        text.push_str(&format!("{short:<13} {name:<18} {state:<9} {vlan:<9} {:<7} {:<7} --\n", "full", "10G"));
        rows.push(leaves([
            ("interface", port.name.to_string()),
            ("name", name),
            ("state", state.to_owned()),
            ("vlan", vlan),
            ("duplex", "full".to_owned()),
            ("speed", "10G".to_owned()),
            ("type", "--".to_owned()),
        ]));
    }
    Output::with_json(text, table("interface", rows))
}

/// Descriptions.
pub fn description(ports: &[Port]) -> Output {
    let dashes = "-".repeat(79);
    let mut text = format!("\n{dashes}\n{:<14}{:<7}{:<8}{}\n{dashes}\n", "Port", "Type", "Speed", "Description");
    let mut rows = Vec::new();
    for port in ports {
        let kind = if port.name.is_ethernet() { "eth" } else { "virt" };
        let words = if port.settings.description.is_empty() { "--" } else { &port.settings.description };
        text.push_str(&format!("{:<13} {kind:<6} {:<7} {words}\n", port.name.short(), "10G"));
        rows.push(leaves([
            ("interface", port.name.to_string()),
            ("type", kind.to_owned()),
            ("speed", "10G".to_owned()),
            ("desc", words.to_owned()),
        ]));
    }
    Output::with_json(text, table("interface", rows))
}

/// VLANs of each port.
pub fn switchport(ports: &[Port], model: &Model) -> Output {
    let mut text = String::new();
    let mut rows = Vec::new();
    for port in ports {
        let (access, native, allowed) = match &port.settings.mode {
            PortMode::Access(vlan) => (*vlan, proto::addr::VlanId::DEFAULT, VlanSet::all()),
            PortMode::Trunk { native, allowed } => (proto::addr::VlanId::DEFAULT, *native, allowed.clone()),
        };
        let name = |id| model.vlans.get(&id).map_or("Vlan not created".to_owned(), |vlan| vlan.name(id));
        let (access_name, native_name) = (name(access), name(native));
        let protected = if port.settings.protected { "Enabled" } else { "Disabled" };
        let mode = mode_word(port);
        text.push_str(&format!(
            "Name: {}\n  Switchport: Enabled\n  Switchport Monitor: Not enabled\n  Operational Mode: {mode}\n  \
             Access Mode VLAN: {access} ({access_name})\n  Trunking Native Mode VLAN: {native} ({native_name})\n  \
             Trunking VLANs Allowed: {allowed}\n  Protected: {protected}\n  \
             Administrative private-vlan primary host-association: none\n  \
             Administrative private-vlan secondary host-association: none\n  \
             Administrative private-vlan primary mapping: none\n  \
             Administrative private-vlan secondary mapping: none\n  \
             Administrative private-vlan trunk native VLAN: none\n  \
             Administrative private-vlan trunk encapsulation: dot1q\n  \
             Administrative private-vlan trunk normal VLANs: none\n  \
             Administrative private-vlan trunk private VLANs: none\n  \
             Operational private-vlan: none\n",
            port.name,
        ));
        rows.push(leaves([
            ("interface", port.name.to_string()),
            ("switchport", "Enabled".to_owned()),
            ("switchport_monitor", "Not enabled".to_owned()),
            ("oper_mode", mode.to_owned()),
            ("access_vlan", access.to_string()),
            ("access_vlan_name", access_name),
            ("native_vlan", native.to_string()),
            ("native_vlan_name", native_name),
            ("trunk_vlans", allowed.to_string()),
            ("protected", protected.to_owned()),
        ]));
    }
    Output::with_json(text, table("interface", rows))
}

/// Four tables, each with every port.
pub fn counters(ports: &[Port]) -> Output {
    type Pick = fn(&Counters) -> u64;
    let half = |headers: [&'static str; 2], keys: [&'static str; 2], is_rx: bool, picks: [Pick; 2]| {
        let mut table = Table::new("interface").left("Port", "interface", 14);
        for (header, key) in headers.into_iter().zip(keys) {
            table = table.right(header, key, 24);
        }
        for port in ports {
            let (rx, tx) = port.row.as_ref().map(|row| (row.rx, row.tx)).unwrap_or_default();
            let side = if is_rx { rx } else { tx };
            table.row([port.name.short(), picks[0](&side).to_string(), picks[1](&side).to_string()]);
        }
        table
    };
    let octets: [Pick; 2] = [|c| c.octets, |c| c.unicast];
    let groups: [Pick; 2] = [|c| c.multicast, |c| c.broadcast];
    let halves = [
        half(["InOctets", "InUcastPkts"], ["eth_inbytes", "eth_inucast"], true, octets),
        half(["InMcastPkts", "InBcastPkts"], ["eth_inmcast", "eth_inbcast"], true, groups),
        half(["OutOctets", "OutUcastPkts"], ["eth_outbytes", "eth_outucast"], false, octets),
        half(["OutMcastPkts", "OutBcastPkts"], ["eth_outmcast", "eth_outbcast"], false, groups),
    ];
    let ruled = |half: &Table| {
        let text = half.text();
        let mut lines = text.lines();
        let header = lines.next().unwrap_or_default();
        let rows: String = lines.skip(1).flat_map(|line| [line, "\n"]).collect();
        format!("\n{0}\n{header}\n{0}\n{rows}", "-".repeat(header.len().max(66)))
    };
    let text = halves.iter().map(ruled).collect();
    let row = |port: &Port| {
        let (rx, tx) = port.row.as_ref().map(|row| (row.rx, row.tx)).unwrap_or_default();
        let side = |way: &str, c: Counters| {
            leaves([
                (format!("eth_{way}bytes"), c.octets),
                (format!("eth_{way}ucast"), c.unicast),
                (format!("eth_{way}mcast"), c.multicast),
                (format!("eth_{way}bcast"), c.broadcast),
                (format!("eth_{way}discard"), c.drops),
            ])
        };
        merged([leaves([("interface", port.name.to_string())]), side("in", rx), side("out", tx)])
    };
    Output { text, json: Some(table("interface", ports.iter().map(row).collect())) }
}

/// Who is behind each VM port, and where.
pub fn owners(ports: &[Port]) -> Output {
    let mut table = Table::new("virtual")
        .left("Port", "interface", 9)
        .left("Adapter", "adapter", 16)
        .left("Owner", "owner", 16)
        .left("Mod", "module", 3)
        .left("Host", "host", 16)
        .left("Device", "device", 10)
        .left("Kind", "kind", 10)
        .left("Port-profile", "port_profile", 12);
    for port in ports.iter().filter(|port| matches!(port.name, IfName::Vethernet(_))) {
        let report = port.report.as_ref().filter(|report| report.kind == ProfileType::Vethernet);
        let or_dashes = |text: Option<String>| text.filter(|t| !t.is_empty()).unwrap_or_else(|| "--".to_owned());
        table.row([
            port.name.short(),
            or_dashes(report.map(|report| report.nic.to_string())),
            or_dashes(report.map(|report| report.vm.clone())),
            or_dashes(port.slot.map(|slot| slot.to_string())),
            or_dashes(Some(port.host.clone())),
            or_dashes(report.map(|report| report.device.clone())),
            or_dashes(report.map(|report| report.driver.clone())),
            or_dashes(port.profile.clone()),
        ]);
    }
    table.output()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        let ports = sample::ports();
        sample::check("interface_brief", &brief(&ports));
        sample::check("interface_status", &status(&ports));
        sample::check("interface_description", &description(&ports));
        sample::check("interface_switchport", &switchport(&ports, &sample::model()));
        sample::check("interface_counters", &counters(&ports));
        sample::check("interface_virtual", &owners(&ports));
    }
}
