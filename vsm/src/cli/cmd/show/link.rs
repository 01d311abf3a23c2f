//! What a Nexus shows of cables, bundles and loops, of a switch whose ports are virtual: `show interface transceiver`,
//! `capabilities` and `counters errors`, `show port-channel summary`, `show spanning-tree`.
//!
//! There are no bundles and no spanning tree (docs/limits.md), and the device of an uplink belongs to its host; so most of it
//! is empty, in the form in which a Nexus without them shows it.

use proto::name::IfName;

use super::exec;
use super::gather::{Port, asked_ports, known_ports};
use crate::cli::render::{Output, leaves, object, table};
use crate::cli::tree::Command;
use crate::config::ifindex;

const WORDS: &[(&str, &str)] = &[
    ("transceiver", "Transceivers of uplinks"),
    ("details", "With their measurements"),
    ("capabilities", "What physical ports can do"),
    ("counters", "Counters"),
    ("table", "Rates"),
    ("snmp-ifindex", "Numbers of the IF-MIB"),
    ("errors", "Frames that were dropped or broken"),
    ("port-channel", "Bundles of uplinks"),
    ("summary", "A line per bundle"),
    ("spanning-tree", "Spanning tree"),
    ("root", "Roots"),
];

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec(
            "show interface [<if:ifs>] transceiver [details]",
            "Display transceivers of uplinks",
            WORDS,
            |session, args| Ok(transceivers(&known_ports(session, args)?)),
        ),
        exec("show interface [<if:ifs>] capabilities", "Display what physical ports can do", WORDS, |session, args| {
            known_ports(session, args)?;
            Ok(Output::with_json("", object::<String>([])))
        }),
        exec(
            "show interface [<if:ifs>] counters errors",
            "Display dropped frames of interfaces",
            WORDS,
            |session, args| {
                let (ports, asked) = asked_ports(session, args)?;
                Ok(asked.warn(errors(&ports)))
            },
        ),
        exec("show interface [<if:ifs>] counters table", "Display rates of interfaces", WORDS, |session, args| {
            let (ports, asked) = asked_ports(session, args)?;
            Ok(asked.warn(rates(&ports)))
        }),
        exec("show interface [<if:ifs>] snmp-ifindex", "Display numbers of the IF-MIB", WORDS, |session, args| {
            let ports = known_ports(session, args)?;
            let all = args.interfaces("if").is_empty().then_some(IfName::Mgmt0);
            Ok(numbers(all.into_iter().chain(ports.iter().map(|port| port.name))))
        }),
        exec("show port-channel summary", "Display bundles of uplinks", WORDS, |_, _| Ok(bundles())),
        exec("show spanning-tree [ summary | root ]", "Display spanning tree", WORDS, |_, args| {
            let text = if args.has("root") { ROOTS } else { "\nNo spanning tree instance exists.\n\n" };
            Ok(Output::with_json(text, object::<String>([])))
        }),
    ]
}

/// The device of an uplink is its host's; the switch sees frames and no module.
pub fn transceivers(ports: &[Port]) -> Output {
    let uplinks: Vec<&Port> = ports.iter().filter(|port| port.name.is_ethernet()).collect();
    let text: String =
        uplinks.iter().map(|port| format!("{}\n    transceiver is not applicable\n", port.name)).collect();
    let rows =
        uplinks.iter().map(|port| leaves([("interface", port.name.to_string()), ("sfp", "not applicable".into())]));
    Output::with_json(text, table("interface", rows.collect()))
}

const ERRORS: [[&str; 6]; 3] = [
    ["Align-Err", "FCS-Err", "Xmit-Err", "Rcv-Err", "UnderSize", "OutDiscards"],
    ["Single-Col", "Multi-Col", "Late-Col", "Exces-Col", "Carri-Sen", "Runts"],
    ["Giants", "SQETest-Err", "Deferred-Tx", "IntMacTx-Er", "IntMacRx-Er", "Symbol-Err"],
];

/// What a virtual port can't have is `--`; `show drops` says why frames were dropped.
pub fn errors(ports: &[Port]) -> Output {
    let rule = format!("{}\n", "-".repeat(83));
    let discards = |port: &Port| port.row.as_ref().map(|row| (row.rx.drops, row.tx.drops)).unwrap_or_default();
    let line = |first: &str, cells: &[String]| {
        format!("{first:<11}{}\n", cells.iter().map(|cell| format!(" {cell:>11}")).collect::<String>())
    };
    let mut text = String::new();
    for names in ERRORS {
        text.push_str(&format!("\n{rule}{}{rule}", line("Port", &names.map(str::to_owned))));
        for port in ports {
            let cells = names.map(|name| match name {
                "OutDiscards" => discards(port).1.to_string(),
                _ => "--".to_owned(),
            });
            text.push_str(&line(&port.name.short(), &cells));
        }
    }
    text.push_str(&format!("\n{rule}{}{rule}", line("Port", &["InDiscards".to_owned()])));
    text.extend(ports.iter().map(|port| line(&port.name.short(), &[discards(port).0.to_string()])));
    let row = |port: &Port| {
        let (rx, tx) = discards(port);
        leaves([("interface", port.name.to_string()), ("eth_outdisc", tx.to_string()), ("eth_indisc", rx.to_string())])
    };
    Output::with_json(text, table("interface", ports.iter().map(row).collect()))
}

/// Rates over half a minute; a virtual port has the speed of its description, 10 Gb/s.
pub fn rates(ports: &[Port]) -> Output {
    let rule = "-".repeat(86);
    let header = ["Port", "Description", "Intvl", "Rx Mbps", "Rx %", "Tx Mbps", "Tx %"].map(str::to_owned);
    let line = |[port, description, interval, rx, rx_share, tx, tx_share]: &[String; 7]| {
        format!("{port:<17}{description:<21}{interval:<8}{rx:>10}{rx_share:>10}{tx:>10}{tx_share:>10}\n")
    };
    let mut text = format!("{rule}\n{}{rule}\n", line(&header));
    let mut rows = Vec::new();
    for port in ports {
        let (rx, tx) = port.row.as_ref().map_or((0, 0), |row| (row.rx_bps, row.tx_bps));
        let description: String = port.settings.description.split_whitespace().collect::<Vec<_>>().join("_");
        let description =
            if description.is_empty() { "N/A".to_owned() } else { description.chars().take(20).collect() };
        let mbps = |bps: u64| format!("{:.2}", bps as f64 / 1e6);
        let percent = |bps: u64| format!("{:.2}%", bps as f64 / 1e8);
        let cells =
            [port.name.to_string(), description, "30/30".to_owned(), mbps(rx), percent(rx), mbps(tx), percent(tx)];
        text.push_str(&line(&cells));
        let keys = ["interface", "desc", "interval", "rx_mbps", "rx_percent", "tx_mbps", "tx_percent"];
        rows.push(leaves(keys.into_iter().zip(cells)));
    }
    Output::with_json(text, table("interface", rows))
}

/// The numbers by which management systems know interfaces.
pub fn numbers(names: impl Iterator<Item = IfName>) -> Output {
    let rule = "-".repeat(80);
    let mut text = format!("{rule}\n{:<32}{:<16}{}\n{rule}\n", "Port", "IFMIB", "Ifindex (hex)");
    let mut rows = Vec::new();
    for name in names {
        let index = ifindex::of(name);
        text.push_str(&format!("{:<32}{index:<16}(0x{index:x})\n", name.short()));
        rows.push(leaves([("interface", name.short()), ("snmp-ifindex", index.to_string())]));
    }
    Output::with_json(text, table("interface", rows))
}

/// Flags and headers.
pub fn bundles() -> Output {
    let rule = "-".repeat(80);
    let text = format!(
        "Flags:  D - Down        P - Up in port-channel (members)\n        I - Individual  H - Hot-standby (LACP only)\n        \
         s - Suspended   r - Module-removed\n        S - Switched    R - Routed\n        U - Up (port-channel)\n{rule}\n\
         {:<6}{:<12}{:<9}{:<10}{}\n      Channel\n{rule}\n",
        "Group", "Port-", "Type", "Protocol", "Member Ports",
    );
    Output::with_json(text, object::<String>([]))
}

/// The header of `show spanning-tree root`.
const ROOTS: &str = "
                                  Root  Hello  Max  Fwd
Vlan              Root ID              Cost   Time  Age  Dly  Root Port
----------------  -------------------- -----  ----- ---  ---  ----------------
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        sample::check("interface_counters_errors", &errors(&sample::ports()));
        sample::check("interface_counters_table", &rates(&sample::ports()));
        let names = sample::ports().into_iter().map(|port| port.name);
        sample::check("interface_snmp-ifindex", &numbers(std::iter::once(IfName::Mgmt0).chain(names)));
        sample::check("interface_transceiver", &transceivers(&sample::ports()));
        sample::check("port-channel_summary", &bundles());
    }
}
