//! Ping, one or between all VMs at once.

use std::process::Child;
use std::time::{Duration, Instant};

use crate::command::Run;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::plan::Vm;

/// `from` gets an answer from `to` to one of `tries` echo requests.
pub fn reaches(from: &Vm, to: &Vm, tries: u32) -> bool {
    request(from, &to.ip.to_string(), tries, "0.1").succeeds()
}

/// `from` gets an answer from the address.
pub fn reaches_address(from: &Vm, address: &str) -> bool {
    request(from, address, 2, "0.2").succeeds()
}

fn request(from: &Vm, address: &str, count: u32, interval: &str) -> Run {
    // -c with -w: ends at the first of `count` answers and the deadline.
    Run::new("ping -n -q -W 1").args(&format!("-c {count} -i {interval} {address}")).netns(&from.netns)
}

/// Every ordered pair of VMs.
pub fn pairs(vms: &[Vm]) -> impl Iterator<Item = (&Vm, &Vm)> {
    vms.iter().flat_map(move |a| vms.iter().filter(move |b| a.name != b.name).map(move |b| (a, b)))
}

/// Waits until one echo request of each pair has been answered.
pub fn all_pairs_reach(vms: &[Vm], limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    let mut left: Vec<(&Vm, &Vm)> = pairs(vms).collect();
    while !left.is_empty() {
        let mut silent = Vec::new();
        for group in left.chunks(40) {
            let children = group
                .iter()
                .map(|(a, b)| request(a, &b.ip.to_string(), 1, "0.2").command().output_later())
                .collect::<Result<Vec<_>>>()?;
            for (pair, child) in group.iter().zip(children) {
                if !ended_well(child)? {
                    silent.push(*pair);
                }
            }
        }
        left = silent;
        if !left.is_empty() && Instant::now() >= end {
            let names: Vec<String> = left.iter().map(|(a, b)| format!("{} to {}", a.name, b.name)).collect();
            return Err(Error::Unmet(format!("no answer from {}", names.join(", "))));
        }
    }
    Ok(())
}

/// Pings that go on in the background, so that something can be broken meanwhile.
pub struct Storm {
    pings: Vec<(String, Child)>,
}

impl Storm {
    /// Starts `count` echo requests, ten milliseconds apart, for each pair.
    pub fn start(vms: &[Vm], count: u32) -> Result<Storm> {
        let start = |(a, b): (&Vm, &Vm)| {
            let run = request(a, &b.ip.to_string(), count, "0.01").limit(Duration::from_secs(60));
            Ok((format!("{} to {}", a.name, b.name), run.command().output_later()?))
        };
        Ok(Storm { pings: pairs(vms).map(start).collect::<Result<Vec<_>>>()? })
    }

    /// Waits for the end; every request must have been answered.
    pub fn no_loss(self) -> Result<()> {
        let mut lossy = Vec::new();
        for (pair, child) in self.pings {
            let text = ended(child)?;
            let summary = text.lines().find(|l| l.contains("packets transmitted")).unwrap_or("no summary");
            if !summary.contains(" 0% packet loss") {
                lossy.push(format!("{pair}: {summary}"));
            }
        }
        expect(lossy.is_empty(), || lossy.join("; "))
    }
}

trait Later {
    fn output_later(self) -> Result<Child>;
}

impl Later for std::process::Command {
    fn output_later(mut self) -> Result<Child> {
        self.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().tried("ping")
    }
}

fn ended(child: Child) -> Result<String> {
    let output = child.wait_with_output().tried("ping")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ended_well(child: Child) -> Result<bool> {
    Ok(child.wait_with_output().tried("ping")?.status.success())
}
