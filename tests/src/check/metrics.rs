//! Figures for Prometheus: the supervisor's from outside of the lab, the agents' on their hosts.

use std::fs;

use super::{Report, on_host};
use crate::command::Run;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::Lab;
use crate::lab::config::VEM_METRICS_PORT;
use crate::lab::plan::Vm;

/// Both kinds of pages, and that they tell the same.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    report.check("the supervisor's figures name every module and every VM's port", || {
        let page = supervisor(lab)?;
        for host in &lab.plan.hosts {
            let row = format!("vswitch_module_up{{host=\"{}\",", host.name);
            expect(page.lines().any(|l| l.starts_with(&row) && l.ends_with(" 1")), || format!("no {row}... 1"))?;
        }
        for vm in &lab.plan.vms {
            let named = page.lines().any(|l| l.starts_with("vswitch_port_info{") && l.contains(&vm_label(vm)));
            expect(named, || format!("no port of {}", vm.name))?;
        }
        Ok(())
    });
    report.check("a VM's frames are counted alike by supervisor and agent", || {
        let vms = on_host(lab, "host1");
        let [first, second, ..] = vms.as_slice() else {
            return Err(Error::State("host1 has no two VMs".to_owned()));
        };
        let before = agent(lab, first)?;
        Run::new("ping -n -q -c 20 -i 0.05").arg(second.ip.to_string()).netns(&first.netns).text()?;
        let (after, all) = (agent(lab, first)?, supervisor(lab)?);
        let interface = interface(&after, first)?;
        let row = format!("interface=\"{interface}\",cast=\"unicast\"}}");
        let frames = |page: &str| value(page, "vswitch_port_receive_packets_total", &row);
        let (was, is, told) = (frames(&before)?, frames(&after)?, frames(&all)?);
        expect(is >= was + 20.0, || format!("{was}, and after 20 frames {is}"))?;
        expect((told - is).abs() < 20.0, || format!("the agent says {is}, the supervisor {told}"))
    });
    Ok(())
}

fn vm_label(vm: &Vm) -> String {
    format!("vm=\"{}\"", vm.name)
}

fn supervisor(lab: &Lab) -> Result<String> {
    let told = fs::read_to_string(lab.plan.address_file("metrics")).tried("the address of the switch's figures")?;
    Run::new("curl --silent --show-error --fail --max-time 20").arg(format!("http://{}/metrics", told.trim())).text()
}

/// The page of the agent that the VM is with.
fn agent(lab: &Lab, vm: &Vm) -> Result<String> {
    let host = lab.plan.hosts.iter().find(|host| host.name == vm.host);
    let host = host.ok_or_else(|| Error::State(format!("{} has no host", vm.name)))?;
    // A page serves for a second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    Run::new("curl --silent --show-error --fail --max-time 20")
        .arg(format!("http://{}:{VEM_METRICS_PORT}/metrics", host.address))
        .netns(&host.netns)
        .text()
}

fn interface(page: &str, vm: &Vm) -> Result<String> {
    let row = page.lines().find(|l| l.starts_with("vswitch_port_info{") && l.contains(&vm_label(vm)));
    let name = row.and_then(|row| row.split_once("interface=\"")?.1.split_once('"'));
    name.map(|(name, _)| name.to_owned()).ok_or_else(|| Error::State(format!("no port of {}", vm.name)))
}

fn value(page: &str, family: &str, row: &str) -> Result<f64> {
    let found = page.lines().find(|line| line.starts_with(family) && line.contains(row));
    let number = found.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    number.ok_or_else(|| Error::State(format!("no {family} with {row}")))
}
