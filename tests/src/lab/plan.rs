//! What a lab consists of: names, addresses and paths, made from three numbers. Pure.
//!
//! ```text
//!   PREFIX-vsm     VSM                    ┐
//!   PREFIX-coll    nfcapd x 2             ├─ mgmt0 ── bridge in PREFIX-mgmt   10.199.0.0/24
//!   PREFIX-hostN   VEM ── trunk0 ─┐ mgmt0 ┘
//!                   │ │           └─ the other host, or with more than two hosts a bridge in PREFIX-wire
//!                   │ └ spanN ──── PREFIX-ids, bridge `span` over the SPAN ports of all hosts
//!                   └── tapM ───── PREFIX-vmM    10.10.0.M/24
//! ```
//!
//! Everything has a namespace of its own and lives only there, so removing the namespaces removes the lab.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most hosts of a lab.
pub const HOSTS_MAX: u8 = 16;
/// Most VMs of a lab: the last octet of their addresses.
pub const VMS_MAX: u8 = 200;
/// VLAN of the VMs.
pub const VLAN: u16 = 10;
/// UDP port of the NetFlow collector.
pub const NETFLOW_PORT: u16 = 2055;
/// UDP port of the IPFIX collector.
pub const IPFIX_PORT: u16 = 4739;
/// Port profile of the VMs.
pub const VM_PROFILE: &str = "vm";
/// Port profile of the uplinks.
pub const UPLINK_PROFILE: &str = "uplink";
/// Port profile of the SPAN ports.
pub const SPAN_PROFILE: &str = "span";
/// Flow monitor of the walk-through.
pub const MONITOR: &str = "traffic";
/// Device of the trunk in every host.
pub const UPLINK: &str = "trunk0";
/// Device of the management network in every namespace that is on it.
pub const MGMT: &str = "mgmt0";
/// Its MTU.
pub const MGMT_MTU: u16 = 9000;
/// Device in the IDS namespace that sees the copies of all hosts.
pub const SPAN_DEVICE: &str = "span";

/// A host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    /// `host1`
    pub name: String,
    /// Its namespace.
    pub netns: String,
    /// Its address on the management network.
    pub address: Ipv4Addr,
    /// Its permanent identity.
    pub uuid: String,
    /// Device of its SPAN port, in the IDS namespace.
    pub span_device: String,
}

/// A VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vm {
    /// `vm1`
    pub name: String,
    /// Name of its host.
    pub host: String,
    /// Its namespace.
    pub netns: String,
    /// Its network card: the tap, whose other side is the VEM.
    pub ifname: String,
    /// Its address, in a /24.
    pub ip: Ipv4Addr,
    /// Its MAC address.
    pub mac: String,
    /// Port profile.
    pub profile: String,
}

/// A lab that can be built.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Start of every namespace name.
    pub prefix: String,
    /// Folder of everything that the lab writes.
    pub dir: PathBuf,
    /// Folder of `vsm` and `vem`.
    pub bin: PathBuf,
    /// Hosts, in order.
    pub hosts: Vec<Host>,
    /// VMs, in order; those of a host stand together.
    pub vms: Vec<Vm>,
}

/// Address of the VSM on the management network.
pub const VSM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 1);
/// Address of the collector on the management network.
pub const COLLECTOR_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 199, 0, 2);

impl Plan {
    /// A lab of `hosts` with `vms_per_host` VMs each.
    ///
    /// # Errors
    /// Numbers or a prefix that names and addresses have no room for.
    pub fn new(prefix: &str, dir: PathBuf, bin: PathBuf, hosts: u8, vms_per_host: u8) -> Result<Plan> {
        let fits = (1..=HOSTS_MAX).contains(&hosts) && vms_per_host >= 1;
        let vms = u16::from(hosts) * u16::from(vms_per_host);
        if !fits || vms > u16::from(VMS_MAX) {
            let text = format!("a lab has 1-{HOSTS_MAX} hosts and 1-{VMS_MAX} VMs in all, not {hosts} and {vms}");
            return Err(Error::State(text));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if prefix.is_empty() || prefix.len() > 8 || !prefix.chars().all(plain) {
            return Err(Error::State(format!("prefix '{prefix}' is not 1-8 lower-case letters and digits")));
        }
        let host = |n: u8| Host {
            name: format!("host{n}"),
            netns: format!("{prefix}-host{n}"),
            address: Ipv4Addr::new(10, 199, 0, 10 + n),
            uuid: format!("5f1d0000-0000-4000-8000-0000000000{n:02x}"),
            span_device: format!("span{n}"),
        };
        let vm = |n: u8| Vm {
            name: format!("vm{n}"),
            host: format!("host{}", (n - 1) / vms_per_host + 1),
            netns: format!("{prefix}-vm{n}"),
            ifname: format!("tap{n}"),
            ip: Ipv4Addr::new(10, 10, 0, n),
            mac: format!("02:00:0a:0a:00:{n:02x}"),
            profile: VM_PROFILE.to_owned(),
        };
        let (hosts, vms) = ((1..=hosts).map(host).collect(), (1..=vms as u8).map(vm).collect());
        Ok(Plan { prefix: prefix.to_owned(), dir, bin, hosts, vms })
    }

    fn named(&self, part: &str) -> String {
        format!("{}-{part}", self.prefix)
    }

    /// Namespace of the management network's bridge.
    pub fn mgmt_netns(&self) -> String {
        self.named("mgmt")
    }

    /// Namespace of the bridge between more than two hosts.
    pub fn wire_netns(&self) -> String {
        self.named("wire")
    }

    /// Namespace of the VSM.
    pub fn vsm_netns(&self) -> String {
        self.named("vsm")
    }

    /// Namespace of the collector.
    pub fn collector_netns(&self) -> String {
        self.named("coll")
    }

    /// Namespace of the IDS.
    pub fn ids_netns(&self) -> String {
        self.named("ids")
    }

    /// The hosts' trunks meet on a bridge; two hosts have one cable between them.
    pub fn has_wire(&self) -> bool {
        self.hosts.len() != 2
    }

    /// Namespace of a VM that a check attaches later.
    pub fn late_netns(&self) -> String {
        self.named("late")
    }

    /// Every namespace that the lab starts with.
    pub fn namespaces(&self) -> Vec<String> {
        let mut names = vec![self.vsm_netns(), self.collector_netns(), self.ids_netns(), self.mgmt_netns()];
        names.extend(self.has_wire().then(|| self.wire_netns()));
        names.extend(self.hosts.iter().map(|h| h.netns.clone()));
        names.extend(self.vms.iter().map(|v| v.netns.clone()));
        names
    }

    /// Folder of one part of the lab.
    pub fn folder(&self, part: &str) -> PathBuf {
        self.dir.join(part)
    }

    /// The socket of `vsm cli`.
    pub fn cli_socket(&self) -> PathBuf {
        self.folder("vsm").join("cli.sock")
    }

    /// `vsm.toml`
    pub fn vsm_config(&self) -> PathBuf {
        self.folder("vsm").join("vsm.toml")
    }

    /// File with the address at which a service of the switch is reached from outside of the lab: `ssh`, `nxapi`, `metrics`.
    pub fn address_file(&self, service: &str) -> PathBuf {
        self.folder("vsm").join(format!("{service}-address"))
    }

    /// Where the switch's SNMP is reached from outside of the lab.
    pub fn snmp_file(&self) -> PathBuf {
        self.folder("snmp").join("address")
    }

    /// Where the VSM is a subagent of snmpd.
    pub fn agentx_socket(&self) -> PathBuf {
        self.folder("snmp").join("agentx")
    }

    /// What the supervisor keeps.
    pub fn vsm_state(&self) -> PathBuf {
        self.folder("vsm").join("state")
    }

    /// The password that the supervisor has made for its first administrator.
    pub fn admin_password_file(&self) -> PathBuf {
        self.vsm_state().join("initial-admin-password")
    }

    /// `vem.toml` of a host.
    pub fn vem_config(&self, host: &Host) -> PathBuf {
        self.folder(&host.name).join("vem.toml")
    }

    /// The socket of `vem attach` of a host.
    pub fn vem_socket(&self, host: &Host) -> PathBuf {
        self.folder(&host.name).join("vem.sock")
    }

    /// The log of a part: `vsm`, `host1`, `collector`, `ipfix`.
    pub fn log(&self, part: &str) -> PathBuf {
        self.folder("log").join(format!("{part}.log"))
    }

    /// Where the flows of NetFlow exporters are collected.
    pub fn netflow_dir(&self) -> PathBuf {
        self.folder("netflow")
    }

    /// Where the flows of IPFIX exporters are collected.
    pub fn ipfix_dir(&self) -> PathBuf {
        self.folder("ipfix")
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|h| h.name == name).ok_or_else(|| Error::State(format!("there is no host {name}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(hosts: u8, vms: u8) -> Result<Plan> {
        Plan::new("lab", "/run/lab".into(), "/bin".into(), hosts, vms)
    }

    #[test]
    fn every_name_and_address_is_used_once() {
        let plan = plan(16, 12).expect("it fits");
        assert_eq!(plan.vms.len(), 192);
        let spaces: BTreeSet<_> = plan.namespaces().into_iter().collect();
        assert_eq!(spaces.len(), 192 + 16 + 5);
        assert_eq!(plan.vms.iter().map(|v| &v.mac).collect::<BTreeSet<_>>().len(), 192);
        assert_eq!(plan.vms.iter().map(|v| v.ip).collect::<BTreeSet<_>>().len(), 192);
        assert!(plan.vms.iter().all(|v| v.ifname.len() <= 15));
        assert_eq!((&*plan.vms[11].host, &*plan.vms[12].host), ("host1", "host2"));
    }

    #[test]
    fn two_hosts_have_a_cable() {
        assert!(!plan(2, 3).expect("it fits").has_wire());
        assert!(plan(3, 1).expect("it fits").has_wire());
    }

    #[test]
    fn refuses_what_has_no_room() {
        for (hosts, vms) in [(0, 3), (17, 1), (2, 0), (16, 13)] {
            assert!(plan(hosts, vms).is_err(), "{hosts} {vms}");
        }
        for prefix in ["", "Lab", "a b", "much-too-long"] {
            assert!(Plan::new(prefix, "/x".into(), "/x".into(), 1, 1).is_err(), "{prefix}");
        }
    }
}
