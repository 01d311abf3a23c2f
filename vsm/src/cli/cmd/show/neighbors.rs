//! `show cdp` and `show lldp`: the switch speaks neither protocol, so it knows no neighbours.
//!
//! A VEM drops LLDP (`reserved-group`) and forwards CDP as any other multicast. The tables are empty, in the form of a Nexus
//! without neighbours, as inventory tools ask every switch for them.

use super::exec;
use super::gather::known_ports;
use crate::cli::render::{Output, leaves, object};
use crate::cli::session::Session;
use crate::cli::tree::{Args, Command, Error};

const WORDS: &[(&str, &str)] = &[
    ("cdp", "Cisco Discovery Protocol"),
    ("lldp", "Link Layer Discovery Protocol"),
    ("global", "Whether the protocol is spoken"),
    ("neighbors", "Neighbours"),
    ("detail", "In full"),
];

const CDP_CODES: &str = "\
Capability Codes: R - Router, T - Trans-Bridge, B - Source-Route-Bridge
                  S - Switch, H - Host, I - IGMP, r - Repeater,
                  V - VoIP-Phone, D - Remotely-Managed-Device,
                  s - Supports-STP-Dispute

";

const LLDP_CODES: &str = "\
Capability codes:
  (R) Router, (B) Bridge, (T) Telephone, (C) DOCSIS Cable Device
  (W) WLAN Access Point, (P) Repeater, (S) Station, (O) Other
";

const NONE: &str = "Total entries displayed: 0\n";

/// The commands.
pub fn commands() -> Vec<Command> {
    vec![
        exec("show cdp global", "Display whether CDP is spoken", WORDS, |_, _| {
            let text = "Global CDP information:\n    CDP disabled globally\n";
            Ok(Output::with_json(text, leaves([("cdp_global_enabled", "disabled")])))
        }),
        exec("show cdp neighbors [interface <if:ifs>]", "Display CDP neighbours", WORDS, |session, args| {
            let header = format!(
                "{:<19}{:<15}{:<7}{:<12}{:<14}{}\n",
                "Device-ID", "Local Intrfce", "Hldtme", "Capability", "Platform", "Port ID"
            );
            empty(session, args, format!("{CDP_CODES}{header}\n{NONE}"))
        }),
        exec(
            "show cdp neighbors [interface <if:ifs>] detail",
            "Display CDP neighbours in full",
            WORDS,
            |session, args| empty(session, args, String::new()),
        ),
        exec("show lldp neighbors [interface <if:ifs>]", "Display LLDP neighbours", WORDS, |session, args| {
            let header = format!(
                "{:<21}{:<16}{:<11}{:<12}{}\n",
                "Device ID", "Local Intf", "Hold-time", "Capability", "Port ID"
            );
            empty(session, args, format!("{LLDP_CODES}{header}{NONE}"))
        }),
        exec(
            "show lldp neighbors [interface <if:ifs>] detail",
            "Display LLDP neighbours in full",
            WORDS,
            |session, args| {
                let header = "Device ID            Local Intf      Hold-time  Capability  Port ID\n\n";
                empty(session, args, format!("{LLDP_CODES}{header}{NONE}"))
            },
        ),
    ]
}

/// A table without rows; interfaces that are named must be there.
fn empty(session: &mut Session, args: &Args, text: String) -> Result<Output, Error> {
    known_ports(session, args)?;
    Ok(Output::with_json(text, object::<String>([])))
}
