//! The walk-through: VMs move to a VLAN with an access list and isolation; what worked stops, what must work goes on.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Report, inherit, interface, restore, six, views};
use crate::error::{Result, expect};
use crate::lab::Lab;
use crate::lab::plan::{MONITOR, Vm};
use crate::netns::ip;
use crate::ping;
use crate::traffic::{Connection, connect};

const VLAN: u16 = 20;
const ADDED: [&str; 4] = ["port-profile guests", "port-profile servers", "ip access-list no-telnet", "vlan 20"];

fn commands() -> Vec<String> {
    let text = format!(
        "vlan {VLAN}
name guests
exit
ip access-list no-telnet
statistics per-entry
deny tcp any any eq 23
permit ip any any
exit
port-profile type vethernet guests
switchport mode access
switchport access vlan {VLAN}
switchport protected
ip port access-group no-telnet in
ip flow monitor {MONITOR} input
no shutdown
state enabled
exit
port-profile type vethernet servers
switchport mode access
switchport access vlan {VLAN}
ip flow monitor {MONITOR} input
no shutdown
state enabled
exit"
    );
    text.lines().map(str::to_owned).collect()
}

/// Moves VMs about and looks who reaches whom.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let [vm1, vm2, vm3, vm4, vm5, _] = six(lab)?;
    lab.console().configure(&commands())?;
    let result = steps(lab, report, [&vm1, &vm2, &vm3, &vm4, &vm5]);
    let restored = restore(lab, &ADDED);
    report.check("back in their profile they reach each other again", || {
        restored?;
        ping::all_pairs_reach(&lab.plan.vms, Duration::from_secs(5))
    });
    result
}

fn steps(lab: &Lab, report: &mut Report, [vm1, vm2, vm3, vm4, vm5]: [&Vm; 5]) -> Result<()> {
    report.check("a VM that moves to another VLAN is alone there", || {
        expect(ping::reaches(vm1, vm2, 3), || "vm1 should reach vm2 before".to_owned())?;
        inherit(lab, vm1, "guests")?;
        for other in [vm2, vm4] {
            expect(!ping::reaches(vm1, other, 2), || format!("{} still reaches {}", vm1.name, other.name))?;
        }
        expect(ping::reaches(vm2, vm3, 2) && ping::reaches(vm2, vm4, 2), || "the others lost each other".to_owned())
    });
    for vm in [vm2, vm4] {
        inherit(lab, vm, "guests")?;
    }
    inherit(lab, vm5, "servers")?;
    report.check("protected ports don't reach each other, on one host and across hosts", || {
        let name = interface(lab, vm1)?;
        let before = views::drops(lab, &name, "isolated")?;
        for other in [vm2, vm4] {
            expect(!ping::reaches(vm1, other, 1), || format!("{} reaches {}", vm1.name, other.name))?;
            // It can't ask for the address; somebody who knows it gets no further.
            let device = &vm1.ifname;
            ip(&vm1.netns, &format!("neigh replace {} lladdr {} dev {device} nud permanent", other.ip, other.mac))?;
            expect(!ping::reaches(vm1, other, 2), || format!("{} reaches {} by its MAC", vm1.name, other.name))?;
        }
        let new = views::drops(lab, &name, "isolated")? - before;
        expect(new == 4, || format!("show drops counts {new} 'isolated' for {name}, 4 were sent"))
    });
    report.check("protected ports reach the one that is not", || {
        for vm in [vm1, vm2, vm4] {
            expect(ping::reaches(vm, vm5, 3), || format!("{} does not reach {}", vm.name, vm5.name))?;
        }
        Ok(())
    });
    report.check("the access list denies telnet and nothing else", || {
        let name = interface(lab, vm1)?;
        let before = views::drops(lab, &name, "acl-deny")?;
        let to = |port| SocketAddr::from((vm5.ip, port));
        expect(connect(vm1, vm5, to(80))? == Connection::Works, || "port 80 is silent".to_owned())?;
        expect(connect(vm1, vm5, to(23))? == Connection::Silent, || "telnet works".to_owned())?;
        let after = views::drops(lab, &name, "acl-deny")?;
        expect(after > before, || format!("show drops counts no 'acl-deny' for {name}"))?;
        let counted = views::matches(lab, "no-telnet", 10)?;
        expect(counted == after - before, || {
            format!("rule 10 matched {counted} frames, {} were dropped", after - before)
        })
    });
    report.check("show drops names the rule and shows the frame", || {
        let shown = lab.console().show("show drops")?;
        let named = shown.lines().any(|l| l.contains("no-telnet") && l.contains("10"));
        let frame = shown.lines().any(|l| l.contains(&vm1.ip.to_string()) && l.contains(":23"));
        expect(named && frame, || format!("not in\n{shown}"))
    });
    Ok(())
}
