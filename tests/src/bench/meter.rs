//! What metering costs: processor time per packet of our VEM with the meter less that without it, against `fprobe` on a
//! veth, under the same traffic, interleaved.
//!
//! The traffic is 64-octet frames of 100,000 flows, as fast as one core can send them, to a socket that nobody reads. The
//! difference is small against what a tap costs, so there are many short rounds and the median of the differences of
//! neighbours counts. The processor time of our VEM is that of all its threads, so the export is in it; so is it in that
//! of `fprobe`, to which the kernel's capture is not even charged.

use std::time::Duration;

use super::cpu;
use super::ground::Ground;
use super::pair;
use super::receiver;
use super::report::{Report, Wanted, median};
use super::rounds;
use super::sender::{Sender, Traffic, UDP_PORT};
use super::vem::{Features, Vem};
use crate::command::installed;
use crate::error::{Error, Result, Tried};
use crate::lab::build::address_vm;
use crate::lab::plan::{VM_PROFILE, Vm};
use crate::lab::wait;
use crate::netns::{self, ip};
use crate::process::Process;

const WITHOUT: &str = "VEM, VLAN + ACL";
const WITH: &str = "VEM, VLAN + ACL + NetFlow";
const FPROBE: &str = "fprobe on a veth";
const CPU: &str = "CPU";
const ADDED: &str = "CPU that the meter adds";
const RATE: &str = "packets";
const FLOWS: u32 = 100_000;
const TIME: Duration = Duration::from_millis(1000);

#[derive(Clone, Copy)]
enum Kind {
    Ours(Features),
    Fprobe,
}

/// `fprobe` between two namespaces.
struct Fprobe {
    ends: [Vm; 2],
    process: Process,
}

/// Runs the part.
pub fn run(ground: &mut Ground, rounds: u32) -> Result<Report> {
    let mut report = Report::new("meter");
    let vem = Vem::start(ground, 2)?;
    let ends = [vem.vm(1)?, vem.vm(2)?];
    let without = Features { meter: false, ..Features::EVERYTHING };
    let mut subjects = vec![(WITHOUT, Kind::Ours(without)), (WITH, Kind::Ours(Features::EVERYTHING))];
    let fprobe = if installed("fprobe") { Some(Fprobe::start(ground)?) } else { None };
    if fprobe.is_some() {
        subjects.push((FPROBE, Kind::Fprobe));
    } else {
        report.remark("fprobe is not installed: no comparison with it.");
    }
    let (mut sent, mut wrong) = (0, 0);
    report.rounds = rounds::run(
        ground,
        rounds,
        &subjects,
        |s| s.0,
        |ground, (name, kind)| {
            let (used, packets) = match kind {
                Kind::Fprobe => {
                    let Some(fprobe) = &fprobe else { return Ok(()) };
                    fprobe.measure(ground)?
                }
                Kind::Ours(features) => {
                    vem.set(ground, VM_PROFILE, *features)?;
                    let _sink = receiver::sink(&ends[1])?;
                    let mut sender = Sender::open(&ends[0], &ends[1], Traffic::full(FLOWS))?;
                    let before = [vem.count(&ends[0].ifname)?, vem.count(&ends[1].ifname)?];
                    let start = cpu::used(std::slice::from_ref(&vem.process))?;
                    let count = sender.run(TIME)?;
                    ground.pause(Duration::from_millis(200))?;
                    let used = cpu::used(std::slice::from_ref(&vem.process))? - start;
                    let after = [vem.count(&ends[0].ifname)?, vem.count(&ends[1].ifname)?];
                    let (from, to) = (after[0].since(before[0]), after[1].since(before[1]));
                    wrong += from.difference(to) + from.received.abs_diff(count);
                    sent += if features.meter { count } else { 0 };
                    (used, count)
                }
            };
            report.add(name, CPU, "us/packet", used.as_secs_f64() * 1e6 / packets.max(1) as f64);
            report.add(name, RATE, "kpps", packets as f64 / TIME.as_secs_f64() / 1e3);
            Ok(())
        },
    )?;
    let pairs = report.values(WITH, CPU).iter().zip(report.values(WITHOUT, CPU));
    let added: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
    for value in &added {
        report.add(WITH, ADDED, "us/packet", *value);
    }
    let exact = Wanted::AtMost(0.0);
    report.target(
        5,
        "meter: frames that ports and sender count differently (law 1)",
        exact,
        "frames",
        Some(wrong as f64),
    );
    vem.account(ground, &mut report, "packets", sent, |k| k.protocol == 17 && k.to_port == UDP_PORT)?;
    let part = median(&added).zip(report.median(FPROBE, CPU)).map(|(added, fprobe)| added / fprobe);
    let what = "CPU per packet that the meter adds, against what fprobe takes per packet";
    report.target(5, what, Wanted::AtMost(0.25), "", part);
    Ok(report)
}

impl Fprobe {
    /// A veth whose far end fprobe listens to.
    fn start(ground: &mut Ground) -> Result<Fprobe> {
        let ends = [pair::vm("bnf", 1, "veth0"), pair::vm("bnf", 2, "veth0")];
        for vm in &ends {
            ground.netns(&vm.netns)?;
        }
        let [from, to] = &ends;
        ip(&from.netns, &format!("link add veth0 type veth peer name veth0 netns {}", to.netns))?;
        for vm in &ends {
            address_vm(vm)?;
        }
        pair::acquaint(&ends)?;
        // Long timeouts: the flows are reported once, at the end, as ours are.
        let words = "fprobe -i veth0 -f ip -e 300 -d 300 -l 2 -q 100000 -B 65536 127.0.0.1:2055";
        let argv: Vec<&str> = words.split(' ').collect();
        ground.spawn("fprobe", &to.netns, &argv)?;
        let process = wait("start of fprobe", Duration::from_secs(5), || {
            let named = |pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "fprobe")
            };
            // It goes into the background: what is left is the newest.
            let pids = netns::processes(&to.netns);
            let newest = pids.into_iter().filter(named).max().and_then(|pid| Process::of("fprobe", pid));
            Ok(newest.filter(Process::alive))
        })?;
        cpu::pin(&process, cpu::SWITCH_CORE)?;
        Ok(Fprobe { ends, process })
    }

    /// Its processor time, and the packets that reached its device.
    fn measure(&self, ground: &Ground) -> Result<(Duration, u64)> {
        let [from, to] = &self.ends;
        let _sink = receiver::sink(to)?;
        let mut sender = Sender::open(from, to, Traffic::full(FLOWS))?;
        let process = std::slice::from_ref(&self.process);
        let (before, start) = (received(to)?, cpu::used(process)?);
        sender.run(TIME)?;
        ground.pause(Duration::from_millis(500))?;
        Ok((cpu::used(process)? - start, received(to)? - before))
    }
}

/// Packets that the VM's card has received.
fn received(vm: &Vm) -> Result<u64> {
    let text = ip(&vm.netns, &format!("-s -j link show dev {}", vm.ifname))?;
    let unreadable = |reason: String| Error::Unreadable { what: "ip -s link".to_owned(), reason };
    let json: serde_json::Value = serde_json::from_str(&text).map_err(std::io::Error::from).tried("ip -s link")?;
    let count = json.pointer("/0/stats64/rx/packets").and_then(serde_json::Value::as_u64);
    count.ok_or_else(|| unreadable(text))
}
