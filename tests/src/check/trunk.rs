//! The VLAN matrix: access ports, trunks, native VLANs and allowed lists over both hosts, frame by frame.
//!
//! Six ports, each sends a broadcast with every tag of interest. A few lines below say who must get it and how it must be
//! tagged there; every port's packet socket says who got it. The odd one out of a matrix would be the bug.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Report, inherit, interface, restore, six, views};
use crate::error::{Result, expect};
use crate::frames::{BROADCAST, ETHERTYPE_LOCAL, ethernet, mac, untag};
use crate::lab::Lab;
use crate::lab::plan::{UPLINK_PROFILE, Vm};
use crate::packet::Wire;

const ADDED: [&str; 6] = [
    "port-profile access-10",
    "port-profile access-20",
    "port-profile trunk-a",
    "port-profile trunk-b",
    "vlan 20",
    "vlan 30",
];
/// VLANs that exist during the theme; 40 is allowed on a trunk and does not exist.
const VLANS: [u16; 3] = [10, 20, 30];
/// VLAN that the uplinks don't carry in the second half.
const PRUNED: u16 = 30;

/// How a port is configured.
#[derive(Clone, Copy)]
enum Mode {
    Access(u16),
    Trunk { native: u16, allowed: &'static [u16] },
}

const ACCESS_10: (&str, Mode) = ("access-10", Mode::Access(10));
const ACCESS_20: (&str, Mode) = ("access-20", Mode::Access(20));
const TRUNK_A: (&str, Mode) = ("trunk-a", Mode::Trunk { native: 10, allowed: &[10, 20, 30, 40] });
const TRUNK_B: (&str, Mode) = ("trunk-b", Mode::Trunk { native: 20, allowed: &[20, 30] });
/// The ports, three on each host.
const PORTS: [(&str, Mode); 6] = [ACCESS_10, ACCESS_20, TRUNK_A, ACCESS_10, ACCESS_20, TRUNK_B];

impl Mode {
    fn commands(self, name: &str) -> Vec<String> {
        let mut lines = vec![format!("port-profile type vethernet {name}")];
        match self {
            Mode::Access(vlan) => {
                lines.extend(["switchport mode access".to_owned(), format!("switchport access vlan {vlan}")])
            }
            Mode::Trunk { native, allowed } => {
                let list: Vec<String> = allowed.iter().map(u16::to_string).collect();
                lines.push("switchport mode trunk".to_owned());
                lines.push(format!("switchport trunk native vlan {native}"));
                lines.push(format!("switchport trunk allowed vlan {}", list.join(",")));
            }
        }
        lines.extend(["no shutdown", "state enabled", "exit"].map(str::to_owned));
        lines
    }

    /// The VLAN of a frame that enters with the tag, or why it is dropped.
    fn enter(self, tag: Option<u16>) -> std::result::Result<u16, &'static str> {
        let vlan = match (self, tag) {
            (Mode::Access(vlan), None) => vlan,
            (Mode::Access(_), Some(_)) => return Err("vlan-tagged-on-access"),
            (Mode::Trunk { native, .. }, None) => native,
            (Mode::Trunk { allowed, .. }, Some(tag)) if allowed.contains(&tag) => tag,
            (Mode::Trunk { .. }, Some(_)) => return Err("vlan-not-allowed"),
        };
        if VLANS.contains(&vlan) { Ok(vlan) } else { Err("vlan-inactive") }
    }

    /// The tag with which a frame of the VLAN leaves; `None` when it does not.
    fn leave(self, vlan: u16) -> Option<Option<u16>> {
        match self {
            Mode::Access(own) => (own == vlan).then_some(None),
            Mode::Trunk { native, .. } if native == vlan => Some(None),
            Mode::Trunk { allowed, .. } => allowed.contains(&vlan).then_some(Some(vlan)),
        }
    }
}

/// Configures the six ports, runs the matrix, and again with a VLAN taken off the uplinks.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let vms = six(lab)?;
    let mut lines: Vec<String> = VLANS.iter().flat_map(|v| [format!("vlan {v}"), "exit".to_owned()]).collect();
    for (name, mode) in [ACCESS_10, ACCESS_20, TRUNK_A, TRUNK_B] {
        lines.extend(mode.commands(name));
    }
    lab.console().configure(&lines)?;
    for (vm, (profile, _)) in vms.iter().zip(PORTS) {
        inherit(lab, vm, profile)?;
    }
    let uplink = |words: &str| {
        lab.console()
            .configure(&[format!("port-profile {UPLINK_PROFILE}"), format!("switchport trunk allowed vlan {words}")])
    };
    report.check("access, trunk, native and allowed VLANs, every port to every port", || matrix(lab, &vms, &[]));
    report.check("wrong VLANs are dropped with the right reason", || reasons(lab, &vms));
    let pruned = uplink(&format!("remove {PRUNED}"));
    report.check("a VLAN that the uplinks don't carry stays on its host", || {
        pruned?;
        matrix(lab, &vms, &[PRUNED])
    });
    uplink("all")?;
    restore(lab, &ADDED)
}

/// Who got which frame: number of the frame and receiver, with the tags it had there.
type Arrivals = BTreeMap<(u16, usize), Vec<Vec<u16>>>;

fn cases() -> Vec<(u16, usize, Option<u16>)> {
    let tags = [None, Some(10), Some(20), Some(30), Some(40), Some(50)];
    let all = (0..PORTS.len()).flat_map(|from| tags.map(|tag| (from, tag)));
    all.zip(1..).map(|((from, tag), number)| (number, from, tag)).collect()
}

fn matrix(lab: &Lab, vms: &[Vm; 6], pruned: &[u16]) -> Result<()> {
    let wires = vms.iter().map(|vm| Wire::open(&vm.netns, &vm.ifname)).collect::<Result<Vec<_>>>()?;
    // A number of its own for each round, so that a late frame of an earlier one is not taken for this one's.
    let round = if pruned.is_empty() { 1u16 } else { 2 };
    for (number, from, tag) in cases() {
        let payload = [round.to_be_bytes(), number.to_be_bytes()].concat();
        let tags: Vec<u16> = tag.into_iter().collect();
        wires[from].send(&ethernet(BROADCAST, mac(&vms[from].mac)?, &tags, ETHERTYPE_LOCAL, &payload))?;
    }
    let mut arrived = Arrivals::new();
    for (to, wire) in wires.iter().enumerate() {
        // The first gets the time that all need; for the others it is all there.
        let limit = Duration::from_millis(if to == 0 { 500 } else { 50 });
        for frame in wire.recv_for(limit)? {
            let Some((tags, ETHERTYPE_LOCAL, rest)) = untag(&frame) else { continue };
            let Some([a, b, c, d]) = rest.first_chunk::<4>() else { continue };
            if u16::from_be_bytes([*a, *b]) == round {
                arrived.entry((u16::from_be_bytes([*c, *d]), to)).or_default().push(tags);
            }
        }
    }
    let differences: Vec<String> = compare(lab, vms, pruned, &arrived);
    expect(differences.is_empty(), || differences.join("; "))
}

fn compare(lab: &Lab, vms: &[Vm; 6], pruned: &[u16], arrived: &Arrivals) -> Vec<String> {
    let mut differences = Vec::new();
    for (number, from, tag) in cases() {
        let vlan = PORTS[from].1.enter(tag).ok();
        for to in (0..PORTS.len()).filter(|to| *to != from) {
            let crosses = vms[from].host != vms[to].host && lab.plan.hosts.len() > 1;
            let carried = vlan.filter(|v| !(crosses && pruned.contains(v)));
            let leaves = carried.and_then(|v| PORTS[to].1.leave(v));
            let expected: Vec<Vec<u16>> = leaves.map(|tag| tag.into_iter().collect()).into_iter().collect();
            let got = arrived.get(&(number, to)).cloned().unwrap_or_default();
            if got != expected {
                let (a, b) = (&vms[from].name, &vms[to].name);
                differences.push(format!("{a} tag {tag:?} to {b}: {got:?} instead of {expected:?}"));
            }
        }
    }
    differences
}

fn reasons(lab: &Lab, vms: &[Vm; 6]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (from, vm) in vms.iter().enumerate() {
        let (name, wire) = (interface(lab, vm)?, Wire::open(&vm.netns, &vm.ifname)?);
        for tag in [10, 40, 50] {
            let Err(reason) = PORTS[from].1.enter(Some(tag)) else { continue };
            let before = views::drops(lab, &name, reason)?;
            for _ in 0..3 {
                wire.send(&ethernet(BROADCAST, mac(&vm.mac)?, &[tag], ETHERTYPE_LOCAL, b"dropped"))?;
            }
            std::thread::sleep(Duration::from_millis(50));
            let new = views::drops(lab, &name, reason)? - before;
            expect(new == 3, || format!("{} tag {tag}: {new} of 3 counted as {reason}", vm.name))?;
            seen.insert(reason);
        }
    }
    let all: BTreeSet<&str> = ["vlan-tagged-on-access", "vlan-not-allowed", "vlan-inactive"].into();
    expect(seen == all, || format!("only {seen:?} were tried"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_knows_its_vlans() {
        assert_eq!(ACCESS_10.1.enter(None), Ok(10));
        assert_eq!(ACCESS_10.1.enter(Some(10)), Err("vlan-tagged-on-access"));
        assert_eq!(TRUNK_A.1.enter(Some(40)), Err("vlan-inactive"));
        assert_eq!(TRUNK_B.1.enter(Some(10)), Err("vlan-not-allowed"));
        assert_eq!(TRUNK_B.1.enter(None), Ok(20));
        assert_eq!((TRUNK_B.1.leave(20), TRUNK_B.1.leave(30), TRUNK_B.1.leave(10)), (Some(None), Some(Some(30)), None));
    }
}
