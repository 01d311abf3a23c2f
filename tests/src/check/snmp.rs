//! The switch by SNMP, with net-snmp's tools from outside of the lab.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::Report;
use crate::agent::Agent;
use crate::command::Run;
use crate::error::{Error, Result, Tried, expect};
use crate::lab::snmp::COMMUNITY;
use crate::lab::{Lab, wait};
use crate::ping;

const NAME: &str = "1.3.6.1.2.1.31.1.1.1.1";
const IN_OCTETS: &str = "1.3.6.1.2.1.31.1.1.1.6";
const OPER: &str = "1.3.6.1.2.1.2.2.1.8";

/// A walk, the tables' rows, counters, and a trap.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    report.check("a walk by SNMP ends, and every table of interfaces has the same rows", || {
        // The first tables are made before the first hosts come.
        let names = wait("the interfaces by SNMP", Duration::from_secs(30), || {
            let names = walk(lab, NAME)?;
            Ok((names.len() > lab.plan.vms.len()).then_some(names))
        })?;
        expect(names.values().any(|name| name == "mgmt0"), || format!("no mgmt0 in {names:?}"))?;
        for column in ["1.3.6.1.2.1.2.2.1.2", OPER, IN_OCTETS, "1.3.6.1.2.1.31.1.1.1.15"] {
            let rows = walk(lab, column)?;
            expect(rows.keys().eq(names.keys()), || format!("{column} has other rows than {NAME}"))?;
        }
        let all = snmp(lab, "snmpbulkwalk -On", "1.3.6.1.2.1")?;
        expect(all.lines().count() > names.len() * 30, || format!("the whole tree has {} lines", all.lines().count()))
    });
    report.check("a VM's octets count by SNMP", || {
        let vm = lab.vm(1)?;
        let index = index_of(lab, &vm.ifname)?;
        let octets = || -> Result<u64> {
            let rows = walk(lab, IN_OCTETS)?;
            Ok(rows.get(&index).and_then(|count| count.parse().ok()).unwrap_or(0))
        };
        let before = octets()?;
        ping::all_pairs_reach(&lab.plan.vms, Duration::from_secs(20))?;
        wait("more octets", Duration::from_secs(20), || Ok((octets()? > before).then_some(())))
    });
    report.check("addresses and VLANs are in the Q-BRIDGE-MIB", || {
        let vlans = walk(lab, "1.3.6.1.2.1.17.7.1.4.3.1.1")?;
        expect(vlans.values().any(|name| name == "vms"), || format!("{vlans:?}"))?;
        wait("a learned address", Duration::from_secs(40), || {
            ping::all_pairs_reach(&lab.plan.vms, Duration::from_secs(20))?;
            Ok((walk(lab, "1.3.6.1.2.1.17.7.1.2.2.1.2")?.len() >= lab.plan.vms.len()).then_some(()))
        })
    });
    Ok(())
}

/// The index of the interface that a card of the first host has, in the spelling of a walk.
fn index_of(lab: &Lab, card: &str) -> Result<String> {
    let host = lab.plan.hosts.first().ok_or_else(|| Error::State("the lab has no host".to_owned()))?;
    let interface = Agent::of(&lab.plan, host).interface(card)?;
    let interface = interface.ok_or_else(|| Error::State(format!("{card} has no interface")))?;
    let names = walk(lab, NAME)?;
    let found = names.into_iter().find(|(_, name)| *name == interface);
    found.map(|(index, _)| index).ok_or_else(|| Error::State(format!("no {interface} by SNMP")))
}

/// What stands under the object, by index.
fn walk(lab: &Lab, object: &str) -> Result<BTreeMap<String, String>> {
    let text = snmp(lab, "snmpbulkwalk -Onq", object)?;
    let prefix = format!(".{object}.");
    let row = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.strip_prefix(&prefix)?.to_owned(), value.trim_matches('"').to_owned()))
    };
    Ok(text.lines().filter_map(row).collect())
}

fn snmp(lab: &Lab, tool: &str, object: &str) -> Result<String> {
    let address = fs::read_to_string(lab.plan.snmp_file()).tried("the address of the switch's SNMP")?;
    Run::new("env MIBS=").args(tool).args("-v2c -t 2 -r 2 -c").arg(COMMUNITY).arg(address.trim()).arg(object).text()
}
