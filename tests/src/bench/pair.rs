//! Two VMs on the taps of a switch that is not ours: the loop that copies, or Open vSwitch.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use super::cpu;
use super::ground::Ground;
use super::ovs::{Build, OpenVswitch};
use crate::error::{Error, Result, Tried};
use crate::lab::build::address_vm;
use crate::lab::plan::Vm;
use crate::netns::ip;
use crate::ping;
use crate::process::Process;

/// Two VMs with a switch between them.
pub struct Pair {
    /// Sender and receiver.
    pub ends: [Vm; 2],
    /// Whose processor time counts.
    pub processes: Vec<Process>,
    /// The loop ends with its standard input, so that is held.
    _child: Option<Child>,
}

/// VM number `n` of a pair, in the namespace `PREFIX-n`.
pub fn vm(prefix: &str, n: u8, ifname: &str) -> Vm {
    Vm {
        name: format!("vm{n}"),
        host: String::new(),
        netns: format!("{prefix}-{n}"),
        ifname: ifname.to_owned(),
        ip: [10, 10, 0, n].into(),
        mac: format!("02:00:0a:0a:00:{n:02x}"),
        profile: String::new(),
    }
}

/// Namespaces of two VMs and of their switch, and the VMs.
fn place(ground: &mut Ground, prefix: &str) -> Result<(String, [Vm; 2])> {
    let (switch, ends) = (format!("{prefix}-sw"), [vm(prefix, 1, "tap1"), vm(prefix, 2, "tap2")]);
    for name in [&switch, &ends[0].netns, &ends[1].netns] {
        ground.netns(name)?;
    }
    Ok((switch, ends))
}

/// Gives the VMs the taps that the switch has opened, and waits until they reach each other.
fn connect(switch: &str, ends: &[Vm; 2]) -> Result<()> {
    for vm in ends {
        ip(switch, &format!("link set {} netns {}", vm.ifname, vm.netns))?;
        address_vm(vm)?;
    }
    ping::all_pairs_reach(ends, Duration::from_secs(10))?;
    acquaint(ends)
}

/// The VMs know each other's addresses for good: no ARP is between the frames that are counted.
pub fn acquaint(ends: &[Vm]) -> Result<()> {
    for (vm, other) in ping::pairs(ends) {
        let words = format!("neigh replace {} lladdr {} dev {} nud permanent", other.ip, other.mac, vm.ifname);
        ip(&vm.netns, &words)?;
    }
    Ok(())
}

/// The loop that copies between two taps and does nothing else.
pub fn bare(ground: &mut Ground, bin: &Path) -> Result<Pair> {
    let program = bin.join("examples/bare_loop").display().to_string();
    if !Path::new(&program).is_file() {
        return Err(Error::State(format!("{program} is not built; run `make bench`")));
    }
    let (switch, ends) = place(ground, "bnb")?;
    let (process, mut child) = ground.talk("bare loop", &switch, &[&program, "tap1", "tap2"])?;
    let stdout = child.stdout.take().ok_or_else(|| Error::State("no pipe to the bare loop".to_owned()))?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).tried("bare loop")?;
    if line.trim() != "ready" {
        return Err(Error::State("the bare loop did not start".to_owned()));
    }
    cpu::pin(&process, cpu::SWITCH_CORE)?;
    connect(&switch, &ends)?;
    Ok(Pair { ends, processes: vec![process], _child: Some(child) })
}

/// Open vSwitch's userspace datapath; `None` where that build is not installed.
pub fn open_vswitch(ground: &mut Ground, prefix: &str, build: Build) -> Result<Option<Pair>> {
    if !OpenVswitch::installed(build) {
        return Ok(None);
    }
    let (switch, ends) = place(ground, prefix)?;
    let ovs = OpenVswitch::start(ground, &switch, build)?;
    ovs.add_ports(&["tap1", "tap2"], "tap")?;
    cpu::pin(&ovs.daemon, cpu::SWITCH_CORE)?;
    connect(&switch, &ends)?;
    Ok(Some(Pair { ends, processes: vec![ovs.daemon], _child: None }))
}
