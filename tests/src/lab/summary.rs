//! What `lab up` prints: JSON for programs, or a page for people.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::config::SSH_USER;
use super::plan::{
    COLLECTOR_ADDRESS, IPFIX_PORT, NETFLOW_PORT, Plan, SPAN_DEVICE, UPLINK, VLAN, VM_PROFILE, VSM_ADDRESS, Vm,
};
use super::snmp::COMMUNITY;
use super::{Lab, vem_role};

/// The form that programs rely on: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub struct Summary {
    vms: Vec<Vm>,
    hosts: Vec<HostRow>,
    vsm: Vsm,
    ssh: Login,
    nxapi: Login,
    metrics: Metrics,
    snmp: Snmp,
    collector: Collector,
    ids: Ids,
    dir: String,
}

#[derive(Debug, Serialize)]
struct HostRow {
    name: String,
    netns: String,
    vem_pid: u32,
    vem_socket: String,
    uplink: String,
    address: String,
    vem_config: String,
    log: String,
}

#[derive(Debug, Serialize)]
struct Vsm {
    pid: u32,
    cli_socket: String,
    netns: String,
    address: String,
    config: String,
    log: String,
}

/// SSH or NX-API of the switch, from outside of the lab.
#[derive(Debug, Serialize)]
struct Login {
    address: String,
    port: u16,
    user: String,
    password: String,
}

/// The switch's figures for Prometheus, from outside of the lab.
#[derive(Debug, Serialize)]
struct Metrics {
    address: String,
    port: u16,
    url: String,
}

#[derive(Debug, Serialize)]
struct Collector {
    netns: String,
    address: String,
    port: u16,
    dir: String,
    ipfix_port: u16,
    ipfix_dir: String,
}

#[derive(Debug, Serialize)]
struct Ids {
    netns: String,
    ifname: String,
}

/// The switch's SNMP, from outside of the lab.
#[derive(Debug, Serialize)]
struct Snmp {
    address: String,
    port: u16,
    community: String,
}

fn snmp(plan: &Plan) -> Snmp {
    let address: Option<SocketAddr> = fs::read_to_string(plan.snmp_file()).unwrap_or_default().trim().parse().ok();
    Snmp {
        address: address.map(|a| a.ip().to_string()).unwrap_or_default(),
        port: address.map_or(0, |a| a.port()),
        community: COMMUNITY.to_owned(),
    }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn login(plan: &Plan, service: &str) -> Login {
    let address: Option<SocketAddr> = read(plan.address_file(service)).parse().ok();
    Login {
        address: address.map(|a| a.ip().to_string()).unwrap_or_default(),
        port: address.map_or(0, |a| a.port()),
        user: SSH_USER.to_owned(),
        password: read(plan.admin_password_file()),
    }
}

fn metrics(plan: &Plan) -> Metrics {
    let Login { address, port, .. } = login(plan, "metrics");
    let url = format!("http://{address}:{port}/metrics");
    Metrics { address, port, url }
}

impl Summary {
    /// What there is to know of a lab that is up.
    pub fn of(lab: &Lab) -> Summary {
        let plan = &lab.plan;
        let pid = |role: &str| lab.process(role).map_or(0, |p| p.pid);
        let host = |host: &super::plan::Host| HostRow {
            name: host.name.clone(),
            netns: host.netns.clone(),
            vem_pid: pid(&vem_role(host)),
            vem_socket: plan.vem_socket(host).display().to_string(),
            uplink: UPLINK.to_owned(),
            address: host.address.to_string(),
            vem_config: plan.vem_config(host).display().to_string(),
            log: plan.log(&host.name).display().to_string(),
        };
        Summary {
            vms: plan.vms.clone(),
            hosts: plan.hosts.iter().map(host).collect(),
            vsm: Vsm {
                pid: pid("vsm"),
                cli_socket: plan.cli_socket().display().to_string(),
                netns: plan.vsm_netns(),
                address: VSM_ADDRESS.to_string(),
                config: plan.vsm_config().display().to_string(),
                log: plan.log("vsm").display().to_string(),
            },
            ssh: login(plan, "ssh"),
            nxapi: login(plan, "nxapi"),
            metrics: metrics(plan),
            snmp: snmp(plan),
            collector: Collector {
                netns: plan.collector_netns(),
                address: COLLECTOR_ADDRESS.to_string(),
                port: NETFLOW_PORT,
                dir: plan.netflow_dir().display().to_string(),
                ipfix_port: IPFIX_PORT,
                ipfix_dir: plan.ipfix_dir().display().to_string(),
            },
            ids: Ids { netns: plan.ids_netns(), ifname: SPAN_DEVICE.to_owned() },
            dir: plan.dir.display().to_string(),
        }
    }

    /// The page for people.
    pub fn text(&self) -> String {
        let mut page =
            format!("The lab is up. Every VM is in VLAN {VLAN}, profile {VM_PROFILE}, and may talk to all.\n\n");
        let _ = writeln!(page, "{:<6} {:<7} {:<12} {:<7} {:<12} MAC", "VM", "host", "namespace", "card", "address");
        for vm in &self.vms {
            let ip = vm.ip.to_string();
            let _ =
                writeln!(page, "{:<6} {:<7} {:<12} {:<7} {ip:<12} {}", vm.name, vm.host, vm.netns, vm.ifname, vm.mac);
        }
        let (ids, collector) = (&self.ids, &self.collector);
        let _ = writeln!(page, "\nNext:");
        let mut step = |what: &str, command: String| {
            let _ = writeln!(page, "  {what:<34} {command}");
        };
        step("the switch's prompt", "lab cli".to_owned());
        let ssh = &self.ssh;
        step(
            "the same by SSH",
            format!("ssh -p {} {}@{}   password {}", ssh.port, ssh.user, ssh.address, ssh.password),
        );
        let snmp = &self.snmp;
        step(
            "its interfaces by SNMP",
            format!("snmpwalk -v2c -c {} {}:{} 1.3.6.1.2.1.31.1.1.1", snmp.community, snmp.address, snmp.port),
        );
        let nxapi = &self.nxapi;
        step(
            "commands by NX-API",
            format!("https://{}:{}/ins   user {}, the same password", nxapi.address, nxapi.port, nxapi.user),
        );
        step("figures for Prometheus", format!("curl {}", self.metrics.url));
        if let [first, second, ..] = self.vms.as_slice() {
            step("traffic", format!("ip netns exec {} ping {}", first.netns, second.ip));
        }
        step("the packets, on the SPAN port", format!("ip netns exec {} tcpdump -nei {}", ids.netns, ids.ifname));
        step("the flows, as NetFlow v9", format!("nfdump -R {}", collector.dir));
        step("the flows, as IPFIX", format!("nfdump -R {}", collector.ipfix_dir));
        step("the scripted proof", "lab check".to_owned());
        step("the end", "lab down".to_owned());
        page
    }
}
