//! Everybody reaches everybody, and the switch knows who is there.

use std::time::Duration;

use super::{Report, interface};
use crate::error::{Result, expect};
use crate::lab::Lab;
use crate::ping;

/// All pairs, modules, interfaces and addresses.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    report.check("every VM reaches every other", || ping::all_pairs_reach(&lab.plan.vms, Duration::from_secs(5)));
    report.check("show module lists every VEM as ok", || {
        let shown = lab.console().show("show module")?;
        let ok =
            shown.lines().filter(|l| l.contains("Virtual Ethernet Module") && l.trim_end().ends_with("ok")).count();
        expect(ok == lab.plan.hosts.len(), || format!("{ok} of {} modules are ok:\n{shown}", lab.plan.hosts.len()))
    });
    report.check("show interface brief lists every VM's port as up", || {
        let shown = lab.console().show("show interface brief")?;
        for vm in &lab.plan.vms {
            let name = interface(lab, vm)?.replace("Vethernet", "Veth");
            let line = shown.lines().find(|l| l.split_whitespace().next() == Some(&name));
            let up = line.is_some_and(|l| l.split_whitespace().any(|w| w == "up"));
            expect(up, || format!("{name} of {} is not up:\n{shown}", vm.name))?;
        }
        Ok(())
    });
    report.check("show mac address-table knows every VM", || {
        let shown = lab.console().show("show mac address-table")?;
        for vm in &lab.plan.vms {
            let digits: String = vm.mac.split(':').collect();
            let dotted = format!("{}.{}.{}", &digits[..4], &digits[4..8], &digits[8..]);
            expect(shown.contains(&dotted), || format!("{dotted} of {} is missing:\n{shown}", vm.name))?;
        }
        Ok(())
    });
    Ok(())
}
