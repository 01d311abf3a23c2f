//! `show interface trunk`: the trunks, and of each the VLANs that it may carry and those that it does.

use proto::vlan::{PortMode, VlanSet};

use super::gather::Port;
use crate::cli::render::{Output, leaves, table};
use crate::config::model::Model;

/// Three tables, each with every trunk. There is no spanning tree: a VLAN that is active passes where the port is up.
pub fn trunk(ports: &[Port], model: &Model) -> Output {
    let active: VlanSet = model.vlans.iter().filter(|(_, vlan)| vlan.is_active()).map(|(id, _)| *id).collect();
    let mut bodies = [String::new(), String::new(), String::new()];
    let mut rows = Vec::new();
    for port in ports {
        let PortMode::Trunk { native, allowed } = &port.settings.mode else { continue };
        let (short, status) = (port.name.short(), if port.is_up() { "trunking" } else { "not-trunking" });
        let passing =
            if port.is_up() { active.iter().filter(|vlan| allowed.contains(*vlan)).collect() } else { VlanSet::EMPTY };
        let named = |set: &VlanSet| if set.is_empty() { "none".to_owned() } else { set.to_string() };
        let (allowed, passing) = (named(allowed), named(&passing));
        bodies[0].push_str(&format!("{short:<14}{native:<8}{status:<14}--\n", native = native.to_string()));
        bodies[1].push_str(&format!("{short:<14}{allowed}\n"));
        bodies[2].push_str(&format!("{short:<14}{passing}\n"));
        rows.push(leaves([
            ("interface", port.name.to_string()),
            ("native", native.to_string()),
            ("status", status.to_owned()),
            ("portchannel", "--".to_owned()),
            ("trunkallowedvlans", allowed),
            ("stpfwd_vlans", passing),
        ]));
    }
    let dashes = "-".repeat(80);
    let headers = [
        format!("{:<14}{:<8}{:<14}{}\n{:<14}{:<22}{}", "Port", "Native", "Status", "Port", "", "Vlan", "Channel"),
        format!("{:<14}Vlans Allowed on Trunk", "Port"),
        format!("{:<14}STP Forwarding", "Port"),
    ];
    let ruled = headers.iter().zip(bodies).map(|(header, body)| format!("\n{dashes}\n{header}\n{dashes}\n{body}"));
    Output::with_json(ruled.collect::<String>(), table("interface", rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::cmd::show::sample;

    #[test]
    fn rendered() {
        sample::check("interface_trunk", &trunk(&sample::ports(), &sample::model()));
    }
}
