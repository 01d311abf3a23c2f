//! Our switch as it is shipped: a lab with one host, whose VEM has its configuration from a VSM and its collector.
//!
//! The VEM with all of its threads is on the switch's core, everything else of the lab on the generators' core. The VEM's
//! flows go to one collector of NetFlow version 5, as those of the peers do.

use std::time::Duration;

use serde_json::Value;

use super::cpu;
use super::flows::{self, Collector, Kind};
use super::ground::Ground;
use super::pair;
use super::report::{Report, Wanted};
use crate::agent::Agent;
use crate::command::Run;
use crate::error::{Error, Result};
use crate::lab::plan::{COLLECTOR_ADDRESS, Host, MONITOR, Plan, UPLINK_PROFILE, VLAN, VM_PROFILE, Vm};
use crate::lab::{Lab, build, vem_role, wait};
use crate::process::Process;

/// Profile of the vhost-user ports, and their VLAN: nothing else is in it, so nothing of theirs is flooded elsewhere.
pub const GUEST_PROFILE: &str = "guest";
const GUEST_VLAN: u16 = 20;
const LIST: &str = "bench";
/// From a command at the console to a VEM that works by it.
const PUSH: Duration = Duration::from_millis(500);
/// The end of an idle flow, and what the machine needs for itself.
const EXPORTED: Duration = Duration::from_secs(20);

/// What is switched on beyond switching in a VLAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Features {
    /// A list of 100 rules that do not fit and one that does, on the way in and on the way out.
    pub access_list: bool,
    /// Unsampled NetFlow.
    pub meter: bool,
    /// A monitor session over all ports of the profile, one copy of every frame that they send.
    pub span: bool,
}

impl Features {
    /// None.
    pub const PLAIN: Features = Features { access_list: false, meter: false, span: false };
    /// All but SPAN, which the targets name by itself.
    pub const EVERYTHING: Features = Features { access_list: true, meter: true, span: false };
}

/// What a port has counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortCount {
    /// Frames from the port, dropped ones included.
    pub received: u64,
    /// Those of them that were dropped.
    pub dropped: u64,
    /// Frames to the port.
    pub sent: u64,
}

impl PortCount {
    /// What was counted since `before`.
    pub fn since(self, before: PortCount) -> PortCount {
        PortCount {
            received: self.received - before.received,
            dropped: self.dropped - before.dropped,
            sent: self.sent - before.sent,
        }
    }

    /// Law 1 between two ports that talk to each other alone: what one received and did not drop, the other sent. The
    /// frames that are missing or too many.
    pub fn difference(self, other: PortCount) -> u64 {
        let one_way = |from: PortCount, to: PortCount| (from.received - from.dropped).abs_diff(to.sent);
        one_way(self, other) + one_way(other, self)
    }
}

/// The lab with the VEM that is measured.
pub struct Vem {
    /// Its lab; the ground removes it.
    pub lab: Lab,
    /// The VEM.
    pub process: Process,
    host: Host,
    collector: Collector,
}

impl Vem {
    /// Starts VSM, collectors and a VEM with some VMs on taps.
    pub fn start(ground: &Ground, vms: u8) -> Result<Vem> {
        let plan = Plan::new("bnv", ground.dir().join("lab"), crate::lab::binaries()?, 1, vms)?;
        let lab = build::up(plan, &mut |step| eprintln!("bench: our switch: {step}"))?;
        let missing = || Error::State("the lab has no VEM".to_owned());
        let host = lab.plan.hosts.first().cloned().ok_or_else(missing)?;
        let process = lab.process(&vem_role(&host)).cloned().ok_or_else(missing)?;
        for other in lab.processes.iter().filter(|p| **p != process) {
            cpu::pin(other, cpu::LOAD_CORE)?;
        }
        cpu::pin(&process, cpu::SWITCH_CORE)?;
        let collector = Collector::start(&lab.plan.collector_netns(), COLLECTOR_ADDRESS)?;
        let vem = Vem { lab, process, host, collector };
        vem.lab.console().run(&start())?;
        pair::acquaint(&vem.lab.plan.vms)?;
        vem.set(ground, VM_PROFILE, Features::PLAIN)?;
        Ok(vem)
    }

    /// The VM of that number, from 1.
    pub fn vm(&self, number: usize) -> Result<Vm> {
        self.lab.vm(number).cloned()
    }

    fn agent(&self) -> Agent {
        Agent::of(&self.lab.plan, &self.host)
    }

    /// Switches features of a profile on and off.
    pub fn set(&self, ground: &Ground, profile: &str, features: Features) -> Result<()> {
        let no = |on: bool| if on { "" } else { "no " };
        let commands = [
            format!("port-profile {profile}"),
            format!("{}ip port access-group {LIST} in", no(features.access_list)),
            format!("{}ip port access-group {LIST} out", no(features.access_list)),
            format!("{}ip flow monitor {MONITOR} input", no(features.meter)),
            "exit".to_owned(),
            format!("monitor session {}", session(profile)),
            format!("{}shut", if features.span { "no " } else { "" }),
        ];
        self.lab.console().configure(&commands)?;
        ground.pause(PUSH)
    }

    /// Attaches a vhost-user port that listens in the ground's folder, and returns its socket.
    pub fn attach_guest(&self, ground: &Ground, name: &str, profile: &str, mac: &str) -> Result<std::path::PathBuf> {
        let path = ground.dir().join(format!("{name}.sock"));
        let plan: &Plan = &self.lab.plan;
        Run::new("")
            .arg(self.lab.binary("vem"))
            .args("attach --socket")
            .arg(plan.vem_socket(&self.host).display().to_string())
            .args(&format!("--profile {profile} --device {name} --kind vhost-user --vm {name} --mac {mac} --path"))
            .arg(path.display().to_string())
            .netns(&self.host.netns)
            .text()?;
        Ok(path)
    }

    /// Lets the session of the vhost-user ports send its copies to a port.
    pub fn mirror_guests_to(&self, device: &str) -> Result<()> {
        let agent = self.agent();
        let number = wait("a number for the SPAN port", Duration::from_secs(10), || agent.interface(device))?;
        let commands = [
            format!("monitor session {} type local", session(GUEST_PROFILE)),
            format!("source port-profile {GUEST_PROFILE} rx"),
            format!("destination interface {number}"),
        ];
        self.lab.console().configure(&commands).map(drop)
    }

    /// What the port of a device has counted.
    pub fn count(&self, device: &str) -> Result<PortCount> {
        let unreadable =
            || Error::Unreadable { what: "vem ports".to_owned(), reason: format!("no counters of {device}") };
        let row = self.agent().port(device)?.ok_or_else(unreadable)?;
        let figure = |path: &str| row.pointer(path).and_then(Value::as_u64).ok_or_else(unreadable);
        Ok(PortCount { received: figure("/rx/frames")?, dropped: figure("/rx/drops")?, sent: figure("/tx/frames")? })
    }

    /// Packets of the flows that fit as the collector has been told, once there are `packets` or its time is over.
    pub fn exported(&self, ground: &Ground, packets: u64, fits: impl Fn(&Kind) -> bool) -> Result<u64> {
        let end = std::time::Instant::now() + EXPORTED;
        loop {
            let told = self.collector.packets(&fits);
            if told >= packets || std::time::Instant::now() >= end {
                return Ok(told);
            }
            ground.pause(Duration::from_millis(200))?;
        }
    }

    /// Law 2 as a row: how many of the packets that were sent the collector was not told, or more than that.
    pub fn account(
        &self,
        ground: &Ground,
        report: &mut Report,
        what: &str,
        sent: u64,
        fits: impl Fn(&Kind) -> bool,
    ) -> Result<()> {
        let told = self.exported(ground, sent, fits)?;
        let what = format!("{}: {what} in which NetFlow differs from the {sent} that were sent (law 2)", report.part);
        report.target(5, &what, Wanted::AtMost(0.0), "", Some(told.abs_diff(sent) as f64));
        let missed = self.collector.missed();
        if missed > 0 {
            report.remark(format!("{}: {missed} exported records did not reach the collector.", report.part));
        }
        Ok(())
    }
}

/// Each profile has a session of its own; the lab brings that of the VMs.
fn session(profile: &str) -> u8 {
    if profile == VM_PROFILE { 1 } else { 2 }
}

/// What the bench adds to the lab's configuration. The uplink, on which nothing arrives, keeps the monitor in use while it
/// is switched off and on at the VMs' ports: a monitor that no port uses takes its exporter along.
fn start() -> Vec<String> {
    let mut lines = vec!["configure terminal".to_owned(), format!("ip access-list {LIST}")];
    lines.extend((1..=100).map(|n| format!("deny udp 10.77.{n}.0/24 any eq {}", 2000 + n)));
    let rest = format!(
        "permit ip any any
vlan {GUEST_VLAN}
exit
flow exporter bench
destination {COLLECTOR_ADDRESS}
transport udp {}
version 5
exit
flow monitor {MONITOR}
no exporter ipfix
no exporter netflow
exporter bench
exit
port-profile {UPLINK_PROFILE}
switchport trunk allowed vlan {VLAN}
ip flow monitor {MONITOR} input
exit
port-profile type vethernet {GUEST_PROFILE}
switchport mode access
switchport access vlan {GUEST_VLAN}
no shutdown
state enabled
exit
end",
        flows::PORT
    );
    lines.extend(rest.lines().map(str::to_owned));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_one_counts_what_is_missing() {
        let a = PortCount { received: 100, dropped: 10, sent: 50 };
        let b = PortCount { received: 50, dropped: 0, sent: 90 };
        assert_eq!(a.difference(b), 0);
        assert_eq!(PortCount { sent: 88, ..b }.difference(a), 2);
        assert_eq!(a.since(a), PortCount::default());
    }

    #[test]
    fn the_list_is_that_of_the_peers() {
        let lines = start();
        assert!(lines.contains(&"deny udp 10.77.100.0/24 any eq 2100".to_owned()));
        assert_eq!(lines.iter().filter(|l| l.starts_with("deny udp")).count(), 100);
    }
}
