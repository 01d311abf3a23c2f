//! Open vSwitch's userspace datapath, in a namespace and a folder of its own.
//!
//! It looks for its files where the environment says, and nowhere near an Open vSwitch that the system runs. Its vhost-user
//! ports have a polling thread alone on the switch's core, and everything else of it runs on the generators' core, as its
//! own guide has it; its taps are served by its main thread.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cpu;
use super::ground::Ground;
use crate::command::{Run, installed};
use crate::error::{Error, Result, Tried};
use crate::lab::wait;
use crate::process::Process;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The usual build; the path of older packages and of others.
const PLAIN: [&str; 2] = ["/usr/lib/openvswitch-switch/ovs-vswitchd", "/usr/sbin/ovs-vswitchd"];
const DPDK: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const BRIDGE: &str = "br0";
/// Memory that its DPDK build takes, MiB.
const DPDK_MEMORY: u32 = 512;
/// VLAN of the ports when they have one.
const VLAN: u16 = 10;

/// Which build, with which ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Build {
    /// The usual one.
    Plain,
    /// The one with DPDK and segmentation offload, for taps.
    DpdkTso,
    /// The one with DPDK, for vhost-user.
    DpdkVhost,
}

/// What is switched on beyond forwarding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// The two ports are access ports of a VLAN.
    Vlan,
    /// 100 rules that look at addresses and ports and do not fit, before the one that does.
    AccessList,
    /// NetFlow version 5.
    Netflow,
    /// IPFIX of every packet.
    Ipfix,
}

/// A running Open vSwitch.
pub struct OpenVswitch {
    folder: PathBuf,
    netns: String,
    /// The switch itself.
    pub daemon: Process,
}

fn program(build: Build) -> Option<&'static str> {
    let there = |path: &&str| Path::new(path).is_file();
    match build {
        Build::Plain => PLAIN.into_iter().find(|p| there(p)),
        Build::DpdkTso | Build::DpdkVhost => Some(DPDK).filter(there),
    }
}

impl OpenVswitch {
    /// The build is installed.
    pub fn installed(build: Build) -> bool {
        program(build).is_some() && Path::new(SCHEMA).is_file() && installed("ovsdb-tool")
    }

    /// Starts it inside of a namespace, with an empty bridge.
    pub fn start(ground: &mut Ground, netns: &str, build: Build) -> Result<OpenVswitch> {
        let program = program(build).ok_or_else(|| Error::State("this Open vSwitch is not installed".to_owned()))?;
        let folder = ground.dir().join(netns);
        // Left over from a round before.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).tried("folder of Open vSwitch")?;
        let (role, place) = (format!("ovs {netns}"), folder.display().to_string());
        let database = ["ovsdb-server", &format!("{place}/conf.db"), &format!("--remote=punix:{place}/db.sock")];
        let server = spawn(ground, &format!("{role} db"), netns, &folder, "ovsdb-tool", &database)?;
        let switch = OpenVswitch { folder: folder.clone(), netns: netns.to_owned(), daemon: server };
        wait("ovsdb-server", Duration::from_secs(5), || Ok(folder.join("db.sock").exists().then_some(())))?;
        switch.vsctl("--no-wait init")?;
        let memory = format!("other_config:dpdk-extra=--no-pci --in-memory --socket-mem {DPDK_MEMORY}");
        let cores = match build {
            Build::Plain => None,
            // No ports of DPDK: one thread does it all.
            Build::DpdkTso => Some(format!("other_config:dpdk-lcore-mask={:#x}", 1 << cpu::SWITCH_CORE)),
            Build::DpdkVhost => Some(format!(
                "other_config:dpdk-lcore-mask={:#x} other_config:pmd-cpu-mask={:#x}",
                1 << cpu::LOAD_CORE,
                1 << cpu::SWITCH_CORE
            )),
        };
        if let Some(cores) = cores {
            let run = switch.run("ovs-vsctl").args("--no-wait set Open_vSwitch . other_config:dpdk-init=true");
            run.args(&cores).arg(memory).text()?;
        }
        if build == Build::DpdkTso {
            switch.vsctl("--no-wait set Open_vSwitch . other_config:userspace-tso-enable=true")?;
        }
        let daemon = spawn(ground, &role, netns, &folder, "", &[program, &format!("unix:{place}/db.sock")])?;
        let switch = OpenVswitch { daemon, ..switch };
        switch.vsctl(&format!("add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=netdev"))?;
        Ok(switch)
    }

    fn run(&self, program: &str) -> Run {
        // `env`, because the programs learn from the environment where everything is.
        let place = self.folder.display();
        let run = Run::new("env").arg(format!("OVS_RUNDIR={place}")).arg(program).arg("--timeout=15");
        let run = run.netns(&self.netns);
        if program == "ovs-vsctl" { run.arg(format!("--db=unix:{place}/db.sock")) } else { run }
    }

    fn vsctl(&self, words: &str) -> Result<()> {
        self.run("ovs-vsctl").args(words).text().map(drop)
    }

    /// Adds a port for each of `names`: of type `tap`, or `dpdkvhostuser`, which listens at [`OpenVswitch::socket`].
    pub fn add_ports(&self, names: &[&str], kind: &str) -> Result<()> {
        for name in names {
            self.vsctl(&format!("add-port {BRIDGE} {name} -- set interface {name} type={kind}"))?;
        }
        Ok(())
    }

    /// Where a vhost-user port listens.
    pub fn socket(&self, port: &str) -> PathBuf {
        self.folder.join(port)
    }

    /// Switches a feature on for `ports`.
    pub fn enable(&self, feature: Feature, ports: &[&str]) -> Result<()> {
        match feature {
            Feature::Vlan => {
                ports.iter().try_for_each(|port| self.vsctl(&format!("set port {port} tag={VLAN}")))
            }
            Feature::AccessList => {
                let rules = self.folder.join("rules");
                std::fs::write(&rules, rules_text()).tried("rules")?;
                let run = self.run("ovs-ofctl").args("add-flows").arg(BRIDGE).arg(rules.display().to_string());
                run.text().map(drop)
            }
            Feature::Netflow => self.vsctl(&format!(
                "-- --id=@n create NetFlow targets=\"127.0.0.1:2055\" active_timeout=60 -- set bridge {BRIDGE} netflow=@n"
            )),
            Feature::Ipfix => self.vsctl(&format!(
                "-- --id=@i create IPFIX targets=\"127.0.0.1:4739\" sampling=1 cache_active_timeout=60 \
                 cache_max_flows=100000 -- set bridge {BRIDGE} ipfix=@i"
            )),
        }
    }
}

/// The same list that our switch gets: 100 rules that do not fit, and one that does.
fn rules_text() -> String {
    let deny = |n: u32| {
        let port = 2000 + n;
        format!("priority={},udp,nw_src=10.77.{n}.0/24,tp_dst={port},actions=drop\n", 100 + n)
    };
    (1..=100).map(deny).chain(["priority=1,actions=NORMAL\n".to_owned()]).collect()
}

/// Starts a server of Open vSwitch with its files in `folder`; before it `tool` makes an empty database there.
fn spawn(ground: &mut Ground, role: &str, netns: &str, folder: &Path, tool: &str, argv: &[&str]) -> Result<Process> {
    let place = folder.display();
    if !tool.is_empty() {
        Run::new(tool).arg("create").arg(format!("{place}/conf.db")).arg(SCHEMA).text()?;
    }
    let environment: Vec<String> =
        ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"].iter().map(|name| format!("OVS_{name}={place}")).collect();
    let mut whole = vec!["env"];
    whole.extend(environment.iter().map(String::as_str));
    whole.extend(argv);
    ground.spawn(role, netns, &whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_ends_with_what_fits() {
        let text = rules_text();
        assert_eq!(text.lines().count(), 101);
        assert!(text.starts_with("priority=101,udp,nw_src=10.77.1.0/24,tp_dst=2001,actions=drop\n"));
        assert!(text.ends_with("priority=1,actions=NORMAL\n"));
    }
}
