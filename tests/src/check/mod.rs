//! What the switch must show, one file per theme.
//!
//! A theme changes the lab's configuration and puts it back. `lab check` runs them all in one lab; a test may run one.

pub mod access_list;
pub mod bad_input;
pub mod changes;
pub mod erspan;
pub mod far;
pub mod guest;
pub mod headless;
pub mod metering;
pub mod metrics;
pub mod nxapi;
pub mod page;
pub mod policy;
pub mod reach;
pub mod snmp;
mod ssh;
pub mod suricata;
pub mod trunk;
pub mod vhost_user;
mod views;

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::agent::Agent;
use crate::error::{Error, Result};
use crate::lab::plan::{Host, VM_PROFILE, Vm};
use crate::lab::{Lab, build, wait};

/// What the checks came to; each prints its line as it ends.
#[derive(Debug, Default)]
pub struct Report {
    passed: u32,
    failed: u32,
}

impl Report {
    /// A report without checks.
    pub fn new() -> Report {
        Report::default()
    }

    /// Carries out one check; says whether it passed.
    pub fn check(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        let start = Instant::now();
        let result = work();
        let took = start.elapsed().as_secs_f64();
        match &result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {name} ({took:.1} s)");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {name} ({took:.1} s): {error}");
            }
        }
        result.is_ok()
    }

    /// Checks that failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// `N passed, M failed`
    pub fn line(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

/// A theme.
pub type Theme = fn(&mut Lab, &mut Report) -> Result<()>;

/// Every theme by its name, in the order in which they run.
pub const THEMES: [(&str, Theme); 17] = [
    ("reach", reach::run),
    ("metering", metering::run),
    ("erspan", erspan::run),
    ("far", far::run),
    ("changes", changes::run),
    ("policy", policy::run),
    ("access-list", access_list::run),
    ("trunk", trunk::run),
    ("bad-input", bad_input::run),
    ("ssh", ssh::run),
    ("snmp", snmp::run),
    ("nxapi", nxapi::run),
    ("page", page::run),
    ("metrics", metrics::run),
    ("guest", guest::run),
    ("vhost-user", vhost_user::run),
    ("headless", headless::run),
];

/// Themes that need a program which is not among the packages of the lab; they run when they are named.
pub const FURTHER: [(&str, Theme); 1] = [("suricata", suricata::run)];

/// Runs the themes, and afterwards those that were left out fail by name.
///
/// # Errors
/// The lab is too small.
pub fn run(lab: &mut Lab, only: &[String]) -> Result<Report> {
    large_enough(lab)?;
    let mut report = Report::new();
    let named = FURTHER.iter().filter(|(name, _)| only.iter().any(|o| o == name));
    for (name, theme) in THEMES.iter().chain(named) {
        if !only.is_empty() && !only.iter().any(|o| o == name) {
            continue;
        }
        println!("-- {name}");
        if let Err(error) = theme(lab, &mut report) {
            report.check(&format!("{name} runs to its end"), || Err(error));
        }
    }
    Ok(report)
}

fn large_enough(lab: &Lab) -> Result<()> {
    let on = |host: usize| lab.plan.hosts.get(host).map_or(0, |h| on_host(lab, &h.name).len());
    if on(0) < 3 || on(1) < 3 {
        return Err(Error::State("the checks need two hosts with three VMs each".to_owned()));
    }
    Ok(())
}

/// The VMs of a host.
fn on_host<'a>(lab: &'a Lab, host: &str) -> Vec<&'a Vm> {
    lab.plan.vms.iter().filter(|v| v.host == host).collect()
}

/// Three VMs of the first host and three of the second.
fn six(lab: &Lab) -> Result<[Vm; 6]> {
    let pick = |host: usize| lab.plan.hosts.get(host).map(|h| on_host(lab, &h.name)).unwrap_or_default();
    let all: Vec<Vm> = pick(0).into_iter().take(3).chain(pick(1).into_iter().take(3)).cloned().collect();
    all.try_into().map_err(|_| Error::State("the lab is too small".to_owned()))
}

/// The interface of a VM, such as `Vethernet3`.
fn interface(lab: &Lab, vm: &Vm) -> Result<String> {
    let agent = Agent::of(&lab.plan, lab.plan.host(&vm.host)?);
    wait(&format!("an interface for {}", vm.name), Duration::from_secs(5), || agent.interface(&vm.ifname))
}

/// Gives the VM another profile.
fn inherit(lab: &Lab, vm: &Vm, profile: &str) -> Result<()> {
    build::move_vm(&lab.plan, vm, profile)?;
    interface(lab, vm).map(drop)
}

/// Puts every VM back to its own profile and removes what a theme added, in that order.
fn restore(lab: &Lab, added: &[&str]) -> Result<()> {
    for vm in &lab.plan.vms {
        let port = Agent::of(&lab.plan, lab.plan.host(&vm.host)?).port(&vm.ifname)?;
        let profile = port.and_then(|p| p.get("profile").and_then(Value::as_str).map(str::to_owned));
        if profile.as_deref() != Some(VM_PROFILE) {
            inherit(lab, vm, VM_PROFILE)?;
        }
    }
    let undo: Vec<String> = added.iter().map(|line| format!("no {line}")).collect();
    lab.console().configure(&undo).map(drop)
}

/// Takes a device off its host for good: the switch forgets its interface too.
fn forget(lab: &Lab, host: &Host, device: &str) -> Result<()> {
    let agent = Agent::of(&lab.plan, host);
    let name = agent.interface(device)?;
    agent.detach(device)?;
    let Some(name) = name else { return Ok(()) };
    let console = lab.console();
    // The supervisor hears of it a moment later.
    wait(&format!("the end of {name}"), Duration::from_secs(5), || {
        console.configure(&[format!("no interface {name}")]).map(Some)
    })
    .map(drop)
}
