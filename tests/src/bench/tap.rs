//! Tap to tap: the loop that copies, our VEM with everything on and with parts of it off, Open vSwitch's userspace
//! datapath and its DPDK build with segmentation offload.
//!
//! All subjects are up all the time, each on the switch's core. Small frames come from the generators' core as a Linux
//! stack would send them ([`super::sender`]) and go to a receiver that reads them, wherever the machine puts it; so do both
//! ends of a TCP run and of the round trips. Processor time is that of the switch's processes with all their threads and
//! with what the kernel does for them in their system calls.

use std::time::Duration;

use super::cpu;
use super::flows::Kind;
use super::ground::Ground;
use super::ovs::Build;
use super::pair::{self, Pair};
use super::pingpong::{self, Ends};
use super::receiver::Receiver;
use super::report::{Report, Wanted};
use super::rounds;
use super::sender::{Sender, Traffic, UDP_PORT};
use super::vem::{Features, Vem};
use crate::error::{Error, Result};
use crate::lab;
use crate::lab::plan::{VM_PROFILE, Vm};
use crate::process::Process;
use crate::traffic::{self, KernelCount};

const BARE: &str = "bare loop";
const OURS: &str = "VEM, everything on";
const OVS: &str = "Open vSwitch, userspace";
const OVS_TSO: &str = "Open vSwitch-DPDK, TSO";
const IPERF_PORT: u16 = 5201;

const TCP_1: &str = "TCP, 1 stream";
const TCP_4: &str = "TCP, 4 streams";
/// IP octets of a frame that the sender gave its card.
const TCP_4_FRAME: &str = "frame of these";
const TCP_CPU: &str = "switch CPU, TCP, 1 stream";
const UDP: [(&str, Traffic); 4] = [
    ("UDP, 1 flow", Traffic { flows: 1, checksum: true, rate: None }),
    ("UDP, 16 flows", Traffic { flows: 16, checksum: true, rate: None }),
    ("UDP, 1,000 flows", Traffic { flows: 1000, checksum: true, rate: None }),
    ("UDP without checksums, 1 flow", Traffic { flows: 1, checksum: false, rate: None }),
];
const UDP_CPU: &str = "switch CPU, UDP, 1 flow";
const P50: &str = "round trip, p50";
const P99: &str = "round trip, p99";

/// Time of a measurement with small frames.
const SMALL_TIME: Duration = Duration::from_millis(700);

enum Switch {
    Other(Box<Pair>),
    Ours(Features),
}

struct Subject {
    name: &'static str,
    switch: Switch,
}

/// What the collector must have been told at the end.
#[derive(Default)]
struct Metered {
    datagrams: u64,
    segments: u64,
    /// Frames that a VM sent and that are neither at the other one's port nor dropped.
    wrong: u64,
}

/// Runs the part.
pub fn run(ground: &mut Ground, rounds: u32, time: Duration) -> Result<Report> {
    let mut report = Report::new("tap");
    // The build with DPDK takes 512 MiB of them also when it has none of its own ports.
    ground.hugepages(300)?;
    let vem = Vem::start(ground, 2)?;
    let ends = [vem.vm(1)?, vem.vm(2)?];
    let all = Features::EVERYTHING;
    let ours = [
        ("VEM, everything on + SPAN", Features { span: true, ..all }),
        ("VEM, plain", Features::PLAIN),
        ("VEM, NetFlow", Features { meter: true, ..Features::PLAIN }),
    ];
    let mut subjects: Vec<Subject> =
        ours.map(|(name, features)| Subject { name, switch: Switch::Ours(features) }).into();
    // Those that are compared come one after the other: how far apart the machine's cores are changes from minute to minute.
    subjects.push(Subject { name: BARE, switch: Switch::Other(Box::new(pair::bare(ground, &lab::binaries()?)?)) });
    subjects.push(Subject { name: OURS, switch: Switch::Ours(all) });
    for (name, prefix, build) in [(OVS, "bno", Build::Plain), (OVS_TSO, "bnt", Build::DpdkTso)] {
        match pair::open_vswitch(ground, prefix, build)? {
            Some(pair) => subjects.push(Subject { name, switch: Switch::Other(Box::new(pair)) }),
            None => report.remark(format!("{name} is not installed: no comparison with it.")),
        }
    }
    let mut metered = Metered::default();
    report.rounds = rounds::run(
        ground,
        rounds,
        &subjects,
        |s| s.name,
        |ground, subject| match &subject.switch {
            Switch::Other(pair) => {
                measure(ground, &mut report, subject.name, &pair.ends, &pair.processes, time).map(drop)
            }
            Switch::Ours(features) => {
                vem.set(ground, VM_PROFILE, *features)?;
                let kernel = [KernelCount::of(&ends[0])?, KernelCount::of(&ends[1])?];
                let before = [vem.count(&ends[0].ifname)?, vem.count(&ends[1].ifname)?];
                let sent = measure(ground, &mut report, subject.name, &ends, std::slice::from_ref(&vem.process), time)?;
                let after = [vem.count(&ends[0].ifname)?, vem.count(&ends[1].ifname)?];
                metered.wrong += after[0].since(before[0]).difference(after[1].since(before[1]));
                if features.meter {
                    metered.datagrams += sent;
                    let segments = |n: usize| Ok::<_, Error>(KernelCount::of(&ends[n])?.since(kernel[n]).segments);
                    metered.segments += segments(0)? + segments(1)?;
                }
                Ok(())
            }
        },
    )?;
    exactness(ground, &mut report, &vem, &metered)?;
    targets(&mut report);
    Ok(report)
}

/// Everything of one subject; returns how many small frames its first VM sent.
fn measure(
    ground: &Ground,
    report: &mut Report,
    name: &str,
    ends: &[Vm; 2],
    processes: &[Process],
    time: Duration,
) -> Result<u64> {
    let [from, to] = ends;
    let seconds = time.as_secs().max(1) as u32;
    for (metric, streams) in [(TCP_1, 1), (TCP_4, 4)] {
        let (before, kernel) = (cpu::used(processes)?, KernelCount::of(from)?);
        let rate = traffic::iperf_streams(from, to, IPERF_PORT, seconds, streams)? / 1e9;
        let (used, kernel) = (cpu::used(processes)? - before, KernelCount::of(from)?.since(kernel));
        report.add(name, metric, "Gbit/s", rate);
        if streams == 1 {
            report.add(name, TCP_CPU, "ms/Gbit", used.as_secs_f64() * 1e3 / (rate * f64::from(seconds)));
        } else {
            report.add(name, TCP_4_FRAME, "octets", kernel.octets as f64 / kernel.packets.max(1) as f64);
        }
        ground.go_on()?;
    }
    let mut sent = 0;
    for (metric, traffic) in UDP {
        let receiver = Receiver::start(to)?;
        let mut sender = Sender::open(from, to, traffic)?;
        let (used, reached) = (cpu::used(processes)?, arrived(to)?);
        let part = SMALL_TIME.min(time);
        sent += sender.run(part)?;
        report.add(name, metric, "kpps", receiver.count() as f64 / part.as_secs_f64() / 1e3);
        // What still waits in the taps.
        ground.pause(Duration::from_millis(150))?;
        if metric == UDP[0].0 {
            let (used, reached) = (cpu::used(processes)? - used, arrived(to)? - reached);
            report.add(name, UDP_CPU, "us/packet", used.as_secs_f64() * 1e6 / reached.max(1) as f64);
        }
    }
    let trip = pingpong::measure(from, to, SMALL_TIME, Ends::Anywhere)?;
    report.add(name, P50, "us", trip.p50_us);
    report.add(name, P99, "us", trip.p99_us);
    // What is on its way belongs to this subject.
    ground.pause(Duration::from_millis(200))?;
    Ok(sent)
}

/// Datagrams that reached UDP in the VM, whatever it did with them.
fn arrived(vm: &Vm) -> Result<u64> {
    let names = ["InDatagrams", "NoPorts", "InErrors"];
    names.map(|name| traffic::kernel_counter(vm, "snmp", "Udp:", name)).into_iter().sum()
}

fn exactness(ground: &Ground, report: &mut Report, vem: &Vem, metered: &Metered) -> Result<()> {
    let exact = Wanted::AtMost(0.0);
    let what = "tap: frames that were received and neither delivered nor dropped (law 1)";
    report.target(5, what, exact, "frames", Some(metered.wrong as f64));
    vem.account(ground, report, "datagrams", metered.datagrams, |k| k.protocol == 17 && k.to_port == UDP_PORT)?;
    let tcp = |k: &Kind| k.protocol == 6 && [k.from_port, k.to_port].contains(&IPERF_PORT);
    vem.account(ground, report, "TCP segments", metered.segments, tcp)
}

fn targets(report: &mut Report) {
    use Wanted::{AtLeast, AtMost};
    let rows = [
        (3, "TCP, 1 stream, against Open vSwitch", OVS, TCP_1, AtLeast(7.0)),
        (3, "TCP, 1 stream, against the bare loop", BARE, TCP_1, AtLeast(0.97)),
        (3, "TCP, 1 stream, against Open vSwitch-DPDK with TSO", OVS_TSO, TCP_1, AtLeast(1.0)),
        (3, "CPU per bit of that, against Open vSwitch-DPDK with TSO", OVS_TSO, TCP_CPU, AtMost(0.75)),
        (3, "UDP, 1 flow, against Open vSwitch", OVS, UDP[0].0, AtLeast(2.5)),
        (3, "UDP, 16 flows, against Open vSwitch", OVS, UDP[1].0, AtLeast(2.5)),
        (3, "UDP, 1,000 flows, against Open vSwitch", OVS, UDP[2].0, AtLeast(1.3)),
        (3, "round trip, p50, against Open vSwitch", OVS, P50, AtMost(0.7)),
        (3, "round trip, p99, against Open vSwitch", OVS, P99, AtMost(0.65)),
        (4, "TCP, 4 streams, against the bare loop", BARE, TCP_4, AtLeast(1.3)),
    ];
    for (line, what, peer, metric, wanted) in rows {
        let measured = report.ratio(OURS, peer, metric);
        report.target(line, what, wanted, "", measured);
    }
    report.remark(
        "tap: everything on is a VLAN, 101 rules in and out, and unsampled NetFlow; the peers switch and do nothing else. UDP \
         is 64-octet frames to a receiver that reads them.",
    );
    if let Some(octets) = report.median(OURS, TCP_4_FRAME) {
        report.remark(format!(
            "TCP, 4 streams: the sender's own frames have {octets:.0} of at most 65,535 octets of IP, so that joining them \
             to longer ones could spare at most {:.0} % of the frames.",
            100.0 * (1.0 - octets / 65_535.0)
        ));
    }
}
