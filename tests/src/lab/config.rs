//! What the lab writes for its parts: the two bootstrap files, and the configuration of the walk-through as commands.

use std::net::SocketAddr;

use super::plan::{
    COLLECTOR_ADDRESS, Host, IPFIX_PORT, MONITOR, NETFLOW_PORT, Plan, SPAN_PROFILE, UPLINK_PROFILE, VLAN, VM_PROFILE,
    VSM_ADDRESS,
};

/// TCP port on which the VSM awaits the VEMs.
pub const CONTROL_PORT: u16 = 4785;
/// TCP port of the VSM's SSH server.
pub const SSH_PORT: u16 = 22;
/// TCP port of the VSM's NX-API.
pub const NXAPI_PORT: u16 = 443;
/// TCP port of the VSM's figures for Prometheus.
pub const METRICS_PORT: u16 = 9475;
/// TCP port of a VEM's figures, in its namespace.
pub const VEM_METRICS_PORT: u16 = 9476;
/// The administrator whom the VSM makes.
pub const SSH_USER: &str = "admin";
/// Domain of the lab.
pub const DOMAIN: u16 = 100;

/// Where the VSM serves SSH, in its namespace.
pub fn ssh_address() -> SocketAddr {
    SocketAddr::from((VSM_ADDRESS, SSH_PORT))
}

/// What the VSM serves to the outside of the lab: a name, and where in its namespace.
pub fn services() -> [(&'static str, SocketAddr); 3] {
    [("ssh", SSH_PORT), ("nxapi", NXAPI_PORT), ("metrics", METRICS_PORT)]
        .map(|(name, port)| (name, SocketAddr::from((VSM_ADDRESS, port))))
}

/// `vsm.toml`
pub fn vsm(plan: &Plan) -> String {
    let servers = services().map(|(name, address)| format!("\n[{name}]\nlisten = \"{address}\"\n"));
    format!(
        "domain = {DOMAIN}\nlisten = \"{VSM_ADDRESS}:{CONTROL_PORT}\"\nstate_dir = \"{}\"\ncli_socket = \"{}\"\n{}\n[snmp]\nagentx = \"unix:{}\"\n",
        plan.vsm_state().display(),
        plan.cli_socket().display(),
        servers.concat(),
        plan.agentx_socket().display(),
    )
}

/// `vem.toml` of a host.
pub fn vem(plan: &Plan, host: &Host) -> String {
    format!(
        "[vsm]\naddress = \"{VSM_ADDRESS}:{CONTROL_PORT}\"\n\n[host]\nname = \"{}\"\ndomain = {DOMAIN}\nuuid = \"{}\"\n\
         state_dir = \"{}\"\nsocket = \"{}\"\n\n[metrics]\nlisten = \"0.0.0.0:{VEM_METRICS_PORT}\"\n",
        host.name,
        host.uuid,
        plan.folder(&host.name).join("state").display(),
        plan.vem_socket(host).display(),
    )
}

/// The commands that the walk-through finds already typed: a VLAN, three profiles, two exporters and a monitor.
pub fn start() -> Vec<String> {
    let text = format!(
        "configure terminal
hostname switch
mac address-table aging-time 1800
vlan {VLAN}
name vms
exit
flow exporter netflow
destination {COLLECTOR_ADDRESS}
transport udp {NETFLOW_PORT}
version 9
exit
exit
flow exporter ipfix
destination {COLLECTOR_ADDRESS}
transport udp {IPFIX_PORT}
version 10
exit
exit
flow monitor {MONITOR}
exporter netflow
exporter ipfix
timeout active 60
timeout inactive 5
exit
port-profile type ethernet {UPLINK_PROFILE}
switchport mode trunk
switchport trunk allowed vlan all
no shutdown
state enabled
exit
port-profile type vethernet {VM_PROFILE}
switchport mode access
switchport access vlan {VLAN}
ip flow monitor {MONITOR} input
no shutdown
state enabled
exit
port-profile type vethernet {SPAN_PROFILE}
no shutdown
state enabled
end"
    );
    text.lines().map(str::to_owned).collect()
}

/// The monitor session, once the SPAN ports have their numbers: one copy of every packet that a VM sends, from the VEM
/// where it enters the switch.
pub fn mirror(destinations: &[String]) -> Vec<String> {
    let text = format!(
        "configure terminal
monitor session 1 type local
description all VMs to the IDS
source port-profile {VM_PROFILE} rx
destination interface {}
no shut
end
copy running-config startup-config",
        destinations.join(",")
    );
    text.lines().map(str::to_owned).collect()
}
