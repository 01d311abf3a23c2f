//! What our taps carry, as a ratio to a loop that only copies and, where it is installed, to Open vSwitch.
//!
//! Two VMs, one sends and one receives. Every subject is up all the time and measured once per round, so that what else
//! the machine does hits all of them alike. Cores are few: generator, switch and receiver share them, so the ratios and
//! the processor time per packet say more than the rates.

pub mod subject;

use std::fmt::Write;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::error::{Error, Result, Tried, expect};
use crate::frames::{ethernet, mac, udp};
use crate::lab::plan::Vm;
use crate::netns;
use crate::packet::Wire;
use crate::process::Process;
use crate::traffic;
use subject::Subject;

/// Octets of a small frame without its FCS: 64 on an Ethernet.
const SMALL: usize = 60;
const UDP_PORT: u16 = 9;
const IPERF_PORT: u16 = 5201;
/// Clock ticks of `/proc/PID/stat` per second; fixed for user space on Linux.
const TICKS: f64 = 100.0;

/// What is measured, with its unit.
pub const METRICS: [&str; 4] = ["TCP Gbit/s", "64 B kpps, 1 flow", "64 B kpps, 1000 flows", "CPU us/packet"];

/// The results of one subject, by metric, a value per round.
pub type Samples = [Vec<f64>; METRICS.len()];

/// One round of one subject.
pub fn measure(subject: &Subject, seconds: u32) -> Result<[f64; METRICS.len()]> {
    let [from, to] = &subject.ends;
    let tcp = traffic::iperf_for(from, to, IPERF_PORT, seconds)? / 1e9;
    let limit = Duration::from_secs(seconds.into());
    let (one, cpu) = blast(subject, 1, limit)?;
    let (many, _) = blast(subject, 1000, limit)?;
    Ok([tcp, one, many, cpu])
}

/// Sends small frames as fast as one core can; returns the thousands of frames per second that reached the receiver's
/// UDP, and the switch's processor time for each in microseconds.
fn blast(subject: &Subject, flows: u16, limit: Duration) -> Result<(f64, f64)> {
    let [from, to] = &subject.ends;
    let (src, dst) = (mac(&from.mac)?, mac(&to.mac)?);
    let frames: Vec<Vec<u8>> = (0..flows)
        .map(|flow| {
            let packet = udp((from.ip, 1024 + flow), (to.ip, UDP_PORT), &[0; SMALL - 14 - 28]);
            ethernet(dst, src, &[], 0x0800, &packet)
        })
        .collect();
    // Nobody reads it: when its queue is full the kernel drops at once, which costs it as little as it can.
    let _sink = netns::within(&to.netns, || UdpSocket::bind((to.ip, UDP_PORT)).tried("sink"))?;
    let wire = Wire::open(&from.netns, &from.ifname)?;
    wire.bypass_queue()?;
    let (received, worked) = (arrived(to)?, ticks(subject)?);
    let start = Instant::now();
    let mut batch: Vec<&[u8]> = Vec::with_capacity(64);
    let mut next = frames.iter().cycle();
    while start.elapsed() < limit {
        batch.clear();
        batch.extend(next.by_ref().take(64).map(Vec::as_slice));
        wire.send_many(&batch)?;
    }
    std::thread::sleep(Duration::from_millis(100));
    let count = (arrived(to)? - received) as f64;
    expect(count > 0.0, || format!("{}: nothing arrived", subject.name))?;
    let cpu = (ticks(subject)? - worked) / TICKS;
    Ok((count / limit.as_secs_f64() / 1e3, cpu * 1e6 / count))
}

/// Datagrams that reached UDP in the VM, whatever it did with them.
fn arrived(vm: &Vm) -> Result<u64> {
    let names = ["InDatagrams", "NoPorts", "InErrors"];
    let counted = names.map(|name| traffic::kernel_counter(vm, "snmp", "Udp:", name));
    counted.into_iter().sum()
}

/// Processor time of the subject's processes, in ticks.
fn ticks(subject: &Subject) -> Result<f64> {
    subject.processes.iter().map(used).sum()
}

fn used(process: &Process) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).tried(process.role.clone())?;
    let fields: Vec<&str> = text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let field = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok());
    field(11).zip(field(12)).map(|(user, system)| user + system).ok_or_else(|| Error::Unreadable {
        what: format!("/proc/{}/stat", process.pid),
        reason: "no processor time".to_owned(),
    })
}

/// Middle value; of an even number the lower middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The table: medians with their range, and the ratio of each to the subjects named in `against`.
pub fn table(results: &[(String, Samples)], against: &[&str]) -> String {
    let mut text = String::new();
    let _ = write!(text, "{:<26}", "median [lowest..highest]");
    for metric in METRICS {
        let _ = write!(text, " {metric:>24}");
    }
    text.push('\n');
    for (name, samples) in results {
        let _ = write!(text, "{name:<26}");
        for values in samples {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            let _ = write!(text, " {:>24}", format!("{:.2} [{low:.2}..{high:.2}]", median(values)));
        }
        text.push('\n');
    }
    for base in against {
        let Some((_, reference)) = results.iter().find(|(name, _)| name == base) else { continue };
        let _ = writeln!(text, "\nratio to {base}");
        for (name, samples) in results.iter().filter(|(name, _)| name != base) {
            let _ = write!(text, "{name:<26}");
            for (values, of) in samples.iter().zip(reference) {
                let _ = write!(text, " {:>24.2}", median(values) / median(of));
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_medians_and_ratios() {
        let samples = |n: f64| [vec![n, 3.0 * n, 2.0 * n], vec![n], vec![n], vec![n]];
        let text = table(&[("base".into(), samples(2.0)), ("ours".into(), samples(1.0))], &["base", "absent"]);
        assert!(text.contains("4.00 [2.00..6.00]"), "{text}");
        assert!(text.lines().last().is_some_and(|l| l.starts_with("ours") && l.contains("0.50")), "{text}");
        assert!(!text.contains("absent"));
    }
}
