//! A conversation of two VMs of one host, which no physical switch sees: in the cache, in the export, on the SPAN port.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Report, six};
use crate::capture::{Capture, Packet};
use crate::collector::{Collector, Flow, Total, total};
use crate::error::{Result, expect};
use crate::lab::Lab;
use crate::lab::plan::{MONITOR, VM_PROFILE, Vm};
use crate::traffic::{self, Burst, KernelCount, Scatter};

const UDP: Burst = Burst { from_port: 40_001, to_port: 40_002, count: 1000, payload: 1000 };
const TCP_PORT: u16 = 40_003;
const MEGABYTES: u32 = 30;
/// One datagram to each of so many ports: as many flows.
const SCATTER: Scatter = Scatter { from_port: 40_004, to_port: 20_000, count: 4000, payload: 100 };
const MTU: u64 = 1500;
/// Inactive timeout, rotation of the collector's file, and what the machine needs for itself.
const EXPORTED: Duration = Duration::from_secs(14);

/// 1,000 datagrams and one TCP run.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [vm1, vm2, ..] = six(lab)?;
    let collectors = Collector::all(lab);
    let before = collectors.iter().map(Collector::sequence_failures).collect::<Result<Vec<_>>>()?;
    let capture = Capture::start(lab, "metering", "udp or tcp")?;
    report.check("1,000 UDP packets arrive, each once", || {
        let arrived = traffic::udp(&vm1, &vm2, UDP)?;
        let once = arrived.len() == UDP.count as usize && arrived.values().all(|n| *n == 1);
        expect(once, || format!("{} of {} arrived", arrived.len(), UDP.count))
    });
    report.check("show flow monitor cache shows the conversation", || {
        let shown = lab.console().show(&format!("show flow monitor {MONITOR} cache"))?;
        let found = shown
            .lines()
            .any(|l| l.contains(&vm1.ip.to_string()) && l.contains(&vm2.ip.to_string()) && l.contains("40002"));
        expect(found, || format!("no such flow in\n{shown}"))
    });
    let kernel = [KernelCount::of(&vm1)?, KernelCount::of(&vm2)?];
    report.check("an iperf3 TCP run with offloads on", || {
        traffic::iperf(&vm1, &vm2, TCP_PORT, MEGABYTES)
            .and_then(|bps| expect(bps > 1e8, || format!("only {bps:.0} bit/s")))
    });
    // The last acknowledgements.
    std::thread::sleep(Duration::from_millis(300));
    let counted = [KernelCount::of(&vm1)?.since(kernel[0]), KernelCount::of(&vm2)?.since(kernel[1])];
    report.check("the run used super-frames", || {
        expect(counted[0].segments > 2 * counted[0].packets, || format!("{:?}", counted[0]))
    });
    let packets = capture.stop()?.read("udp or tcp")?;
    for (collector, failures) in collectors.iter().zip(before) {
        let name = collector.name;
        report.check(&format!("{name}: UDP equals what was sent"), || {
            let filter = format!("proto udp and src port {} and dst port {}", UDP.from_port, UDP.to_port);
            let flows = collector.wait_for(&filter, u64::from(UDP.count), EXPORTED)?;
            equals(&flows, Total { packets: u64::from(UDP.count), octets: UDP.ip_octets() })
        });
        for (from, to, count) in [(&vm1, &vm2, counted[0]), (&vm2, &vm1, counted[1])] {
            report.check(&format!("{name}: TCP of {} equals its kernel's count", from.name), || {
                let filter = format!("proto tcp and port {TCP_PORT} and src ip {} and dst ip {}", from.ip, to.ip);
                let flows = collector.wait_for(&filter, count.segments, EXPORTED)?;
                equals(&flows, Total { packets: count.segments, octets: count.wire_octets() })
            });
        }
        report.check(&format!("{name}: no sequence failure"), || {
            let new = collector.sequence_failures()?.saturating_sub(failures);
            expect(new == 0, || format!("{new} failures"))
        });
    }
    span(report, &packets, &vm1, &vm2, &counted);
    taken_off(lab, report, &collectors, [&vm1, &vm2])
}

/// A monitor is taken off its ports long before its flows are silent for long enough: what it has counted comes at once.
fn taken_off(lab: &Lab, report: &mut Report, collectors: &[Collector], [from, to]: [&Vm; 2]) -> Result<()> {
    let console = lab.console();
    let timeout = |seconds: u32| {
        console.configure(&[format!("flow monitor {MONITOR}"), format!("timeout inactive {seconds}")]).map(drop)
    };
    let profile = format!("port-profile type vethernet {VM_PROFILE}");
    let metered = format!("ip flow monitor {MONITOR} input");
    timeout(600)?;
    traffic::scatter(from, to, SCATTER)?;
    console.configure(&[profile.clone(), format!("no {metered}")])?;
    for collector in collectors {
        report.check(&format!("{}: a monitor that is taken off its ports has told all", collector.name), || {
            let filter = format!("proto udp and src ip {} and src port {}", from.ip, SCATTER.from_port);
            let flows = collector.wait_for(&filter, SCATTER.count.into(), EXPORTED)?;
            equals(&flows, Total { packets: SCATTER.count.into(), octets: SCATTER.ip_octets() })
        });
    }
    console.configure(&[profile, metered])?;
    timeout(5)
}

fn equals(flows: &[Flow], sent: Total) -> Result<()> {
    let got = total(flows);
    expect(got == sent, || format!("{got:?} were exported, {sent:?} were sent"))
}

fn span(report: &mut Report, packets: &[Packet], vm1: &Vm, vm2: &Vm, counted: &[KernelCount; 2]) {
    report.check("SPAN: every UDP packet once", || {
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        for packet in packets.iter().filter(|p| (p.src_port, p.dst_port) == (UDP.from_port, UDP.to_port)) {
            *seen.entry(packet.payload.get(..8).unwrap_or_default()).or_default() += 1;
        }
        let repeated = seen.values().filter(|n| **n > 1).count();
        let whole = seen.len() == UDP.count as usize && repeated == 0;
        expect(whole, || format!("{} of {} packets, {repeated} of them repeated", seen.len(), UDP.count))
    });
    for (from, count) in [(vm1, counted[0]), (vm2, counted[1])] {
        report.check(&format!("SPAN: every TCP packet of {} once", from.name), || {
            let ours = |p: &&Packet| p.src == from.ip.to_string() && (p.src_port == TCP_PORT || p.dst_port == TCP_PORT);
            let seen: Vec<&Packet> = packets.iter().filter(ours).collect();
            let octets: u64 = seen.iter().map(|p| p.ip_length).sum();
            let got = Total { packets: seen.len() as u64, octets };
            let sent = Total { packets: count.segments, octets: count.wire_octets() };
            expect(got == sent, || format!("{got:?} were copied, {sent:?} were sent"))
        });
    }
    report.check("SPAN: no packet over the MTU, no bad checksum", || {
        let long = packets.iter().filter(|p| p.ip_length > MTU).count();
        let bad: Vec<&Packet> = packets.iter().filter(|p| p.bad_checksum).collect();
        let unproven = packets.iter().filter(|p| !p.good_checksum).count();
        expect(long == 0 && bad.is_empty() && unproven == 0, || {
            let (all, first) = (packets.len(), bad.first());
            format!("of {all}: {long} too long, {} bad, {unproven} not proven good; first bad {first:?}", bad.len())
        })
    });
}
