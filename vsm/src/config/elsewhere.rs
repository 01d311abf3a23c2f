//! What one module must know of the VMs of the others.
//!
//! Their addresses are those that attachments have told; a VM without one is nobody's here, and its frames are judged, counted
//! and copied as those of a stranger.

use std::collections::BTreeSet;

use proto::addr::MacAddr;
use proto::config::ProfileType;
use proto::report::PortReport;

use super::compile::interface_of;
use super::model::Model;
use crate::module::registry::Inventory;

/// Addresses of the VMs of other modules whose frames `monitor` counts there: where they enter, or where they leave for
/// the wire.
pub(super) fn counted_elsewhere(model: &Model, inventory: &Inventory, slot: u8, monitor: &str) -> Vec<MacAddr> {
    let mut macs = BTreeSet::new();
    for (other, module) in inventory.modules.iter().filter(|(other, _)| **other != slot) {
        let settings = |port: &PortReport| {
            let name = interface_of(inventory, *other, port)?;
            Some(model.interface_settings(&model.interface_for(name, port)))
        };
        let is = |name: &Option<String>| name.as_deref() == Some(monitor);
        let uplinks = module.ports.iter().filter(|port| port.kind == ProfileType::Ethernet);
        let at_the_wire: Vec<bool> = uplinks.map(|port| settings(port).is_some_and(|s| is(&s.flow_out))).collect();
        let leaves = !at_the_wire.is_empty() && at_the_wire.into_iter().all(|counts| counts);
        for port in module.ports.iter().filter(|port| port.kind == ProfileType::Vethernet) {
            let counts = leaves || settings(port).is_some_and(|s| is(&s.flow_in));
            macs.extend(port.mac.filter(|_| counts));
        }
    }
    macs.into_iter().collect()
}

/// Addresses of the protected ports that other modules hold, as far as their attachment told them.
pub(super) fn protected_macs(model: &Model, inventory: &Inventory, slot: u8) -> Vec<MacAddr> {
    let mut macs = BTreeSet::new();
    for (other, module) in inventory.modules.iter().filter(|(other, _)| **other != slot) {
        for port in &module.ports {
            let name = interface_of(inventory, *other, port);
            let protected =
                name.is_some_and(|name| model.interface_settings(&model.interface_for(name, port)).protected);
            macs.extend(port.mac.filter(|_| protected));
        }
    }
    macs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proto::name::IfName;

    use super::*;
    use crate::config::compile::compile;
    use crate::config::compile::tests::example;
    use crate::config::model::{Interface, Settings};

    /// `scope once`: a module is told the VMs of the others whose frames are counted there, and the filter's list travels.
    #[test]
    fn a_monitor_is_told_what_others_count() {
        let (mut model, inventory) = example();
        assert_eq!(compile(&model, &inventory, 3).meters, None);
        let monitor = model.monitors.get_mut("m").unwrap();
        (monitor.once, monitor.filter) = (true, Some("unused".into()));
        let meter = |model: &Model, slot| compile(model, &inventory, slot).meters.unwrap().remove(0);
        let macs = |meter: proto::flow::Meter| meter.elsewhere.iter().map(|mac| mac.to_u64()).collect::<Vec<_>>();
        let three = meter(&model, 3);
        assert_eq!((three.monitor.as_str(), three.filter.as_deref()), ("m", Some("unused")));
        // d/0 has no usable profile, so nothing of it is counted on module 4.
        assert_eq!((macs(three), macs(meter(&model, 4))), (vec![3], vec![1, 2]));
        let lists: Vec<String> = compile(&model, &inventory, 3).acls.into_iter().map(|acl| acl.name).collect();
        assert_eq!(lists, ["thin", "unused"]);
        // At the uplink of module 3 everything is counted that leaves it.
        let own = Settings { flow_out: Some("m".into()), ..Settings::default() };
        model.interfaces.insert(IfName::Ethernet { slot: 3, port: 1 }, Interface { own, ..Interface::default() });
        assert_eq!(macs(meter(&model, 4)), [1, 2, 9]);
    }
}
