//! What is shown of ports: `show port`, `port vlans`, `pd-port`, `portmac`, `stats`, `packets`, `port-drops`, `trunk`,
//! `vlan`.
//!
//! The number in front is the dataplane's, the LTL of the command line on other switches; an interface that the supervisor
//! has not named yet is `-`.

use std::time::Instant;

use proto::report::{PortRow, PortState};
use proto::vlan::{PortMode, VlanSet};
use vswitch::control::PortCounters;
use vswitch::port::PortId;
use vswitch::verdict::DropReason;

use super::columns::Columns;
use super::name_text;
use crate::answer;
use crate::apply::PortPlan;
use crate::attach::Attachment;
use crate::switch::{Live, Switch};

const NONE: &str = "no ports";

fn state_text(state: &PortState) -> String {
    match state {
        PortState::Up => "up".to_owned(),
        PortState::Down(why) => format!("down ({why})"),
    }
}

/// A port with its plan.
type Planned<'a> = (&'a Attachment, &'a Live, Option<&'a PortPlan>);

fn planned(switch: &Switch) -> impl Iterator<Item = Planned<'_>> {
    let mut ports: Vec<_> = switch.ports().map(|(port, live)| (port, live, switch.plan().port(port.port()))).collect();
    ports.sort_by_key(|(port, ..)| port.port);
    ports.into_iter()
}

fn name_of(plan: Option<&PortPlan>) -> String {
    name_text(plan.and_then(|plan| plan.name))
}

/// `show port`
pub fn ports(switch: &Switch) -> String {
    let mut table = Columns::new(&["LTL", "Port", "Admin", "State", "Profile", "NIC", "Device"]);
    for (port, live, plan) in planned(switch) {
        let admin = if plan.is_some_and(|plan| plan.settings.admin_up) { "up" } else { "down" };
        let profile = plan.map_or(&port.profile, |plan| &plan.profile);
        table.row([
            port.port.to_string(),
            name_of(plan),
            admin.to_owned(),
            state_text(&live.state),
            profile.clone(),
            port.nic.to_string(),
            port.device.clone(),
        ]);
    }
    table.text(NONE)
}

fn mode_cells(mode: &PortMode) -> [String; 3] {
    match mode {
        PortMode::Access(vlan) => ["access".to_owned(), vlan.to_string(), vlan.to_string()],
        PortMode::Trunk { native, allowed, .. } => ["trunk".to_owned(), native.to_string(), allowed.to_string()],
    }
}

/// `show port vlans`, and of trunks alone `show trunk`.
pub fn vlans(switch: &Switch, trunks_only: bool) -> String {
    let mut table = Columns::new(&["LTL", "Port", "Mode", "Native", "State", "Allowed VLANs", "Active VLANs"]);
    let running = switch.control().running();
    for (port, live, plan) in planned(switch) {
        // As the dataplane runs it, not as it was asked for.
        let Some(policy) = running.port(port.port()) else { continue };
        if trunks_only && matches!(policy.config.mode, PortMode::Access(_)) {
            continue;
        }
        let [mode, native, allowed] = mode_cells(&policy.config.mode);
        let active: VlanSet = match &policy.config.mode {
            PortMode::Access(vlan) => running.vlans.contains(*vlan).then_some(*vlan).into_iter().collect(),
            PortMode::Trunk { allowed, .. } => allowed.iter().filter(|vlan| running.vlans.contains(*vlan)).collect(),
        };
        table.row([
            port.port.to_string(),
            name_of(plan),
            mode,
            native,
            if live.state == PortState::Up { "up" } else { "down" }.to_owned(),
            allowed,
            active.to_string(),
        ]);
    }
    table.text(if trunks_only { "no trunk ports" } else { NONE })
}

/// `show pd-port`
pub fn uplinks(switch: &Switch) -> String {
    let mut table = Columns::new(&["LTL", "Port", "Device", "Driver", "Link", "MTU", "Offered to", "State"]);
    for (port, live, plan) in planned(switch).filter(|(port, ..)| port.card > 0) {
        table.row([
            port.port.to_string(),
            name_of(plan),
            port.device.clone(),
            live.driver.clone().unwrap_or_else(|| port.kind.name().to_owned()),
            if live.connected { "up" } else { "down" }.to_owned(),
            plan.map_or_else(|| "-".to_owned(), |plan| plan.mtu.to_string()),
            port.netns.clone().unwrap_or_else(|| "the host".to_owned()),
            state_text(&live.state),
        ]);
    }
    table.text("no uplinks")
}

/// `show portmac`
pub fn addresses(switch: &Switch) -> String {
    let mut table = Columns::new(&["LTL", "Port", "MAC address", "VM", "NIC"]);
    for (port, _, plan) in planned(switch).filter(|(port, ..)| port.card == 0) {
        let mac = port.mac.map_or_else(|| "not given".to_owned(), |mac| mac.to_string());
        table.row([port.port.to_string(), name_of(plan), mac, port.vm.clone(), port.nic.to_string()]);
    }
    table.text("no VM ports")
}

fn rows(switch: &Switch, now: Instant) -> Vec<(u16, PortRow)> {
    let numbers = switch.ports().map(|(port, _)| port.port);
    let mut rows: Vec<(u16, PortRow)> = numbers.zip(answer::ports(switch, now)).collect();
    rows.sort_by_key(|(number, _)| *number);
    rows
}

/// `show stats`
pub fn stats(switch: &Switch, now: Instant) -> String {
    let head = ["LTL", "Port", "Received", "Octets", "Dropped", "bit/s", "Sent", "Octets", "Dropped", "bit/s"];
    let mut table = Columns::new(&head);
    for (number, row) in rows(switch, now) {
        let way = |c: &proto::report::Counters, bps: u64| [c.frames(), c.octets, c.drops, bps].map(|n| n.to_string());
        let cells = way(&row.rx, row.rx_bps).into_iter().chain(way(&row.tx, row.tx_bps));
        table.row([number.to_string(), name_text(row.name)].into_iter().chain(cells));
    }
    table.text(NONE)
}

/// `show packets`
pub fn packets(switch: &Switch, now: Instant) -> String {
    let head = ["LTL", "Port", "RxUcast", "RxMcast", "RxBcast", "TxUcast", "TxMcast", "TxBcast", "RxDrops", "TxDrops"];
    let mut table = Columns::new(&head);
    for (number, PortRow { name, rx, tx, .. }) in rows(switch, now) {
        let counts =
            [rx.unicast, rx.multicast, rx.broadcast, tx.unicast, tx.multicast, tx.broadcast, rx.drops, tx.drops];
        table.row([number.to_string(), name_text(name)].into_iter().chain(counts.map(|n| n.to_string())));
    }
    table.text(NONE)
}

/// `show port-drops [ingress | egress]`
pub fn drops(switch: &Switch, ingress: bool, egress: bool) -> String {
    let mut table = Columns::new(&["LTL", "Port", "Direction", "Reason", "Frames", "Meaning"]);
    for (port, _, plan) in planned(switch) {
        let PortCounters { rx_drops, tx_drops, .. } = switch.control().port_counters(port.port());
        let ways = [("ingress", ingress, rx_drops), ("egress", egress, tx_drops)];
        for (direction, _, counts) in ways.iter().filter(|(_, wanted, _)| *wanted) {
            for (reason, frames) in DropReason::ALL.iter().zip(counts).filter(|(_, frames)| **frames > 0) {
                let words = [direction, reason.name()].map(str::to_owned);
                let front = [port.port.to_string(), name_of(plan)].into_iter().chain(words);
                table.row(front.chain([frames.to_string(), reason.text().to_owned()]));
            }
        }
    }
    table.text("no drops")
}

/// `show vlan`
pub fn vlan_members(switch: &Switch) -> String {
    let mut table = Columns::new(&["VLAN", "Ports"]);
    let running = switch.control().running();
    let name = |id: &PortId| {
        let name = switch.plan().name(*id);
        name.map_or_else(|| format!("LTL {}", id.0), |name| name.short())
    };
    for vlan in running.vlans.iter() {
        let names: Vec<String> = running.members(vlan).iter().map(name).collect();
        table.row([vlan.to_string(), names.join(", ")]);
    }
    table.text("no VLANs")
}
