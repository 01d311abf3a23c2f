//! Without the supervisor: traffic, policy, export and SPAN go on; agents come back from their own store.

use std::time::{Duration, Instant};

use super::{Report, forget, inherit, restore, six};
use crate::agent::{Agent, Attachment};
use crate::capture::Capture;
use crate::collector::{Collector, Total, total};
use crate::error::{Error, Result, expect};
use crate::lab::plan::{MONITOR, VLAN, VM_PROFILE, Vm};
use crate::lab::{Lab, vem_role, wait};
use crate::netns::{self, ip};
use crate::ping::{self, Storm};
use crate::traffic::{self, Burst, Connection, connect};

const ADDED: [&str; 2] = ["port-profile no-8080", "ip access-list no-8080"];
const BURST: Burst = Burst { from_port: 41_001, to_port: 41_002, count: 500, payload: 200 };
/// A VM that is attached while the supervisor is away.
const LATE: &str = "late";

/// Kills the supervisor, then an agent, and starts both again.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [vm1, vm2, vm3, vm4, ..] = six(lab)?;
    let commands = format!(
        "ip access-list no-8080
deny tcp any any eq 8080
permit ip any any
exit
port-profile type vethernet no-8080
switchport mode access
switchport access vlan {VLAN}
ip port access-group no-8080 in
ip flow monitor {MONITOR} input
no shutdown
state enabled"
    );
    lab.console().configure(&commands.lines().collect::<Vec<_>>())?;
    inherit(lab, &vm3, "no-8080")?;
    lab.console().show("copy running-config startup-config")?;
    report.check("kill -9 of the VSM: not one packet of any pair is lost", || {
        let storm = Storm::start(&lab.plan.vms, 300)?;
        std::thread::sleep(Duration::from_secs(1));
        lab.kill("vsm")?;
        expect(lab.console().show("show version").is_err(), || "the VSM still answers".to_owned())?;
        storm.no_loss()
    });
    report.check("without a VSM: export and SPAN go on", || seen(lab, &vm1, &vm2));
    report.check("without a VSM: policy holds", || policy_holds(&vm3, &vm4));
    report.check("without a VSM: a new port of a known profile works", || late_port(lab, &vm1));
    report.check("kill -9 of a VEM, start without a VSM: back within 2 s", || {
        let host = lab.plan.host(&vm1.host)?.clone();
        lab.kill(&vem_role(&host))?;
        expect(!ping::reaches(&vm1, &vm2, 1), || "a dead VEM forwards".to_owned())?;
        let start = Instant::now();
        lab.start_vem(&host)?;
        for (from, to) in [(&vm1, &vm2), (&vm1, &vm4), (&vm4, &vm3)] {
            wait(&format!("{} to {}", from.name, to.name), Duration::from_secs(10), || {
                Ok(ping::reaches(from, to, 1).then_some(()))
            })?;
        }
        let took = start.elapsed();
        expect(took <= Duration::from_secs(2), || format!("it took {:.1} s", took.as_secs_f64()))
    });
    report.check("and with its policy, export and SPAN", || {
        policy_holds(&vm3, &vm4)?;
        seen(lab, &vm2, &vm1)
    });
    report.check("the VSM comes back and every module with it", || {
        lab.start_vsm()?;
        let (console, hosts) = (lab.console(), lab.plan.hosts.len());
        wait("every module", Duration::from_secs(15), || {
            let shown = console.show("show module")?;
            let ok = shown.lines().filter(|l| l.contains("Virtual Ethernet Module") && l.trim_end().ends_with("ok"));
            if ok.count() == hosts { Ok(Some(())) } else { Err(Error::Unmet(shown)) }
        })
    });
    report.check("the late port has its number, and a change reaches every module", || {
        let agent = Agent::of(&lab.plan, lab.plan.host(&vm1.host)?);
        wait("a number for the late port", Duration::from_secs(10), || agent.interface(LATE))?;
        for vm in [&vm1, &vm4] {
            inherit(lab, vm, "no-8080")?;
            policy_holds(vm, &vm2)?;
        }
        Ok(())
    });
    forget(lab, lab.plan.host(&vm1.host)?, LATE)?;
    netns::delete(&lab.plan.late_netns())?;
    restore(lab, &ADDED)?;
    lab.console().show("copy running-config startup-config")?;
    report.check("at the end every VM reaches every other", || {
        ping::all_pairs_reach(&lab.plan.vms, Duration::from_secs(5))
    });
    Ok(())
}

/// A burst between two VMs is copied to the SPAN port and exported, whole.
fn seen(lab: &Lab, from: &Vm, to: &Vm) -> Result<()> {
    let capture = Capture::start(lab, "headless", "udp")?;
    let arrived = traffic::udp(from, to, BURST)?;
    expect(arrived.len() == BURST.count as usize, || format!("{} of {} arrived", arrived.len(), BURST.count))?;
    let copies = capture.stop()?.read(&format!("udp.srcport == {} && ip.src == {}", BURST.from_port, from.ip))?;
    expect(copies.len() == arrived.len(), || format!("{} copies of {} packets", copies.len(), arrived.len()))?;
    for collector in Collector::all(lab) {
        let filter = format!("proto udp and src ip {} and dst port {}", from.ip, BURST.to_port);
        let flows = collector.wait_for(&filter, u64::from(BURST.count), Duration::from_secs(14))?;
        let sent = Total { packets: u64::from(BURST.count), octets: BURST.ip_octets() };
        expect(total(&flows) == sent, || format!("{}: {:?} instead of {sent:?}", collector.name, total(&flows)))?;
    }
    Ok(())
}

fn policy_holds(from: &Vm, to: &Vm) -> Result<()> {
    let denied = connect(from, to, (to.ip, 8080).into())?;
    expect(denied == Connection::Silent, || format!("{} reaches port 8080", from.name))?;
    let allowed = connect(from, to, (to.ip, 8081).into())?;
    expect(allowed == Connection::Works, || format!("{} does not reach port 8081", from.name))
}

fn late_port(lab: &Lab, neighbour: &Vm) -> Result<()> {
    let netns = lab.plan.late_netns();
    netns::add(&netns)?;
    Agent::of(&lab.plan, lab.plan.host(&neighbour.host)?).attach(&Attachment {
        profile: VM_PROFILE,
        device: LATE,
        kind: "tap",
        netns: Some(&netns),
        vm: Some(LATE),
        mac: Some("02:00:0a:0a:00:fb"),
        ..Attachment::default()
    })?;
    ip(&netns, &format!("link set {LATE} address 02:00:0a:0a:00:fb up"))?;
    ip(&netns, &format!("addr add 10.10.0.251/24 dev {LATE}"))?;
    let reaches = |vm: &Vm| ping::reaches_address(vm, "10.10.0.251");
    for vm in &lab.plan.vms {
        expect(reaches(vm), || format!("{} does not reach it", vm.name))?;
    }
    Ok(())
}
