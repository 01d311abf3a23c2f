//! The switches that are measured: a loop that copies, our agent, Open vSwitch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{Run, installed};
use crate::error::{Error, Result, Tried};
use crate::lab::plan::Vm;
use crate::lab::{Lab, vem_role, wait};
use crate::netns::{self, ip};
use crate::ping;
use crate::process::{self, Process};

/// Something with two taps.
pub struct Subject {
    /// What the table calls it.
    pub name: String,
    /// Sender and receiver.
    pub ends: [Vm; 2],
    /// Whose processor time counts.
    pub processes: Vec<Process>,
    /// Commands for the VSM before each of its rounds.
    pub commands: Vec<String>,
    /// Namespace of the switch, removed with the subject; the lab has its own end.
    own_netns: Option<String>,
    /// Processes that are ended with the subject.
    own_processes: Vec<Process>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        for process in &self.own_processes {
            process.stop(Duration::from_secs(2));
        }
        if let Some(switch) = &self.own_netns {
            for name in self.ends.iter().map(|vm| &vm.netns).chain([switch]) {
                if let Err(error) = netns::delete(name) {
                    eprintln!("bench: {error}");
                }
            }
        }
    }
}

/// Two VMs that have namespaces and no card yet.
fn ends(prefix: &str) -> [Vm; 2] {
    [1u8, 2].map(|n| Vm {
        name: format!("vm{n}"),
        host: "host1".to_owned(),
        netns: format!("{prefix}-{n}"),
        ifname: format!("tap{n}"),
        ip: [10, 10, 0, n].into(),
        mac: format!("02:00:0a:0a:00:{n:02x}"),
        profile: String::new(),
    })
}

impl Subject {
    /// A subject with namespaces of its own.
    fn new(name: &str, prefix: &str) -> Result<(Subject, String)> {
        let switch = format!("{prefix}-sw");
        let mut subject = Subject {
            name: name.to_owned(),
            ends: ends(prefix),
            processes: Vec::new(),
            commands: Vec::new(),
            own_netns: None,
            own_processes: Vec::new(),
        };
        let mut names = vec![switch.clone()];
        names.extend(subject.ends.iter().map(|vm| vm.netns.clone()));
        if let Some(taken) = names.iter().find(|n| netns::exists(n)) {
            return Err(Error::State(format!("namespace {taken} exists and is not ours")));
        }
        subject.own_netns = Some(switch.clone());
        for name in &names {
            netns::add(name)?;
        }
        Ok((subject, switch))
    }

    /// Gives the VMs the taps that the switch has opened, and waits until they reach each other.
    fn connect(&self, switch: &str) -> Result<()> {
        for vm in &self.ends {
            ip(switch, &format!("link set {} netns {}", vm.ifname, vm.netns))?;
            crate::lab::build::address_vm(vm)?;
        }
        ping::all_pairs_reach(&self.ends, Duration::from_secs(10))
    }

    /// The loop that copies between two taps and does nothing else.
    pub fn bare(bin: &Path, log: &Path) -> Result<Subject> {
        let (mut subject, switch) = Subject::new("bare loop", "bnb")?;
        let program = bin.join("examples/bare_loop").display().to_string();
        if !Path::new(&program).is_file() {
            return Err(Error::State(format!("{program} is not built")));
        }
        // It ends with its standard input, so it gets one that does not end.
        let line = format!("sleep infinity | exec {program} tap1 tap2");
        let log = log.join("bare.log");
        let shell = process::spawn("bare loop", Some(&switch), &["sh", "-c", &line], &log)?;
        subject.own_processes.push(shell);
        wait("start of the bare loop", Duration::from_secs(5), || {
            Ok(std::fs::read_to_string(&log).unwrap_or_default().contains("ready").then_some(()))
        })?;
        let pids = netns::processes(&switch);
        let inside = pids.iter().filter_map(|pid| Process::of("bare loop", *pid));
        subject.own_processes.extend(inside.clone());
        let ours =
            |p: &Process| std::fs::read_link(format!("/proc/{}/exe", p.pid)).is_ok_and(|e| e.ends_with("bare_loop"));
        subject.processes = inside.filter(ours).collect();
        subject.connect(&switch)?;
        Ok(subject)
    }

    /// Two VMs of the lab's first host, measured after `commands`.
    pub fn vem(lab: &Lab, name: &str, commands: Vec<String>) -> Result<Subject> {
        let host = lab.plan.hosts.first().ok_or_else(|| Error::State("a lab without hosts".to_owned()))?;
        let process = lab.process(&vem_role(host)).cloned();
        let [first, second] = lab.plan.vms.as_slice() else {
            return Err(Error::State("the bench needs a lab with two VMs".to_owned()));
        };
        Ok(Subject {
            name: name.to_owned(),
            ends: [first.clone(), second.clone()],
            processes: process.into_iter().collect(),
            commands,
            own_netns: None,
            own_processes: Vec::new(),
        })
    }

    /// Open vSwitch's userspace datapath on two taps; `None` where it is not installed.
    pub fn open_vswitch(folder: &Path) -> Result<Option<Subject>> {
        let daemon = PathBuf::from("/usr/lib/openvswitch-switch/ovs-vswitchd");
        let daemon = if daemon.is_file() { daemon } else { PathBuf::from("/usr/sbin/ovs-vswitchd") };
        let schema = Path::new("/usr/share/openvswitch/vswitch.ovsschema");
        if !daemon.is_file() || !schema.is_file() || !installed("ovsdb-tool") {
            return Ok(None);
        }
        let (mut subject, switch) = Subject::new("Open vSwitch, tap", "bno")?;
        let folder = folder.join("ovs");
        std::fs::create_dir_all(&folder).tried("folder of Open vSwitch")?;
        let place = folder.display().to_string();
        // It looks for its files where the environment says, and nowhere near an Open vSwitch that the system runs.
        let within = |line: String| {
            format!("export OVS_RUNDIR={place} OVS_LOGDIR={place} OVS_DBDIR={place} OVS_SYSCONFDIR={place}; {line}")
        };
        let shell = |line: &str| Run::new("sh -c").arg(within(line.to_owned())).netns(&switch).text();
        shell(&format!("ovsdb-tool create {place}/conf.db {}", schema.display()))?;
        let servers = [
            ("ovsdb-server", format!("exec ovsdb-server {place}/conf.db --remote=punix:{place}/db.sock")),
            ("ovs-vswitchd", format!("exec {} unix:{place}/db.sock", daemon.display())),
        ];
        for (role, line) in servers {
            let log = folder.join(format!("{role}.log"));
            let server = process::spawn(role, Some(&switch), &["sh", "-c", &within(line)], &log)?;
            subject.own_processes.insert(0, server.clone());
            subject.processes = vec![server];
            if role == "ovsdb-server" {
                let socket = folder.join("db.sock");
                wait("ovsdb-server", Duration::from_secs(5), || Ok(socket.exists().then_some(())))?;
                shell(&format!("ovs-vsctl --timeout=10 --db=unix:{place}/db.sock --no-wait init"))?;
            }
        }
        shell(&format!(
            "ovs-vsctl --timeout=10 --db=unix:{place}/db.sock add-br br0 -- set bridge br0 datapath_type=netdev \
             -- add-port br0 tap1 -- set int tap1 type=tap -- add-port br0 tap2 -- set int tap2 type=tap"
        ))?;
        subject.connect(&switch)?;
        Ok(Some(subject))
    }
}
