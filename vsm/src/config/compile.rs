//! From the running configuration to what one host is to do.
//!
//! Total and deterministic: every model and inventory gives a configuration, equal ones give equal octets. What nothing
//! refers to (access lists, records, exporters, monitors) stays at home; profiles travel all, so that a port of a known
//! profile can be attached while the supervisor is away.

use std::collections::BTreeSet;

use proto::acl::{Acl, Rules};
use proto::config::{HostConfig, PortBinding, PortSettings, Profile, ProfileType, Session, StaticMac};
use proto::flow::{Destination, Exporter, Field, Meter, Monitor, Record, Sampler, Transport};
use proto::name::IfName;
use proto::report::PortReport;

use super::elsewhere::{counted_elsewhere, protected_macs};
use super::flow::{is_full, predefined_fields};
use super::model::{AccessList, Entries, Entry, FlowExporter, Model, MonitorSession};
use super::relay::Places;
use crate::module::registry::Inventory;

/// Seconds after which a flow that goes on is reported, unless configured.
pub const ACTIVE_S: u32 = 1800;
/// Seconds of silence after which a flow has ended, unless configured.
pub const INACTIVE_S: u32 = 15;
/// Seconds between templates, unless configured.
pub const TEMPLATE_TIMEOUT_S: u32 = 60;
/// Seconds between options data, unless configured.
pub const OPTION_TIMEOUT_S: u32 = 60;
/// A datagram with templates comes at least this often, unless configured.
pub const TEMPLATE_PACKETS: u32 = 20;
/// Send buffer of an exporter's sockets, octets, unless configured.
pub const SEND_BUFFER: u32 = 1 << 20;
/// Largest packet of an exporter, octets, unless configured: fits an Ethernet frame with room for a tunnel.
pub const EXPORT_MTU: u16 = 1428;
/// Of which the headers of IP and UDP take so many: one datagram goes to all destinations of an exporter.
fn export_headers(exporter: &FlowExporter) -> u16 {
    if exporter.destinations.iter().any(|(address, _)| address.is_ipv6()) { 48 } else { 28 }
}

/// The configuration of the module in `slot`. A module that the inventory does not know gets one without ports.
pub fn compile(model: &Model, inventory: &Inventory, slot: u8) -> HostConfig {
    let profiles: Vec<Profile> = model
        .profiles
        .iter()
        .map(|(name, profile)| Profile {
            name: name.clone(),
            kind: profile.kind,
            enabled: profile.enabled,
            settings: model.profile_settings(name),
        })
        .collect();
    let ports = ports(model, inventory, slot);
    let settings = || profiles.iter().map(|p| &p.settings).chain(ports.iter().map(|p| &p.settings));
    let monitors = monitors(model, &names(settings(), |s| [&s.flow_in, &s.flow_out]));
    let records: BTreeSet<&String> = monitors.iter().filter_map(|m| m.record.as_ref()).collect();
    let exporters: BTreeSet<&String> = monitors.iter().flat_map(|m| &m.exporters).collect();
    let samplers = samplers(model, &names(settings(), |s| [&s.sampler_in, &s.sampler_out]));
    let places = Places::new(model, inventory);
    let sessions = sessions(model, &places, slot);
    let far = |session: &Session| {
        session.erspan.is_some() || session.erspan6.is_some() || session.receive.is_some() || session.relay.is_some()
    };
    let hosts = sessions.iter().any(far).then(|| places.addresses());
    // Its own flow export is not copied.
    let exports = !sessions.is_empty() && !exporters.is_empty();
    HostConfig {
        module: slot,
        switch_name: model.hostname.clone(),
        vlans: model.vlans.iter().filter(|(_, vlan)| vlan.is_active()).map(|(id, _)| *id).collect(),
        mac_aging_s: model.mac_aging_s,
        static_macs: model
            .static_macs
            .iter()
            .map(|((vlan, mac), port)| StaticMac { vlan: *vlan, mac: *mac, port: *port })
            .collect(),
        acls: acls(model, settings, &monitors),
        records: records.iter().filter_map(|name| record(model, name)).collect(),
        exporters: exporters.iter().filter_map(|name| Some(exporter(name, model.exporters.get(*name)?))).collect(),
        address: places.address(slot).filter(|_| exports || hosts.is_some()),
        hosts,
        sessions,
        protected_macs: protected_macs(model, inventory, slot),
        meters: meters(model, inventory, slot, &monitors),
        samplers: (!samplers.is_empty()).then_some(samplers),
        monitors,
        profiles,
        ports,
        store: model.flow_store.map(|store| store.compiled()),
    }
}

/// The interface of a port that `slot` reports; `None` while its number is not bound.
pub fn interface_of(inventory: &Inventory, slot: u8, port: &PortReport) -> Option<IfName> {
    match port.kind {
        ProfileType::Ethernet => Some(IfName::Ethernet { slot, port: port.card }),
        ProfileType::Vethernet => inventory.vethernets.get(&port.nic).map(|n| IfName::Vethernet(*n)),
    }
}

fn ports(model: &Model, inventory: &Inventory, slot: u8) -> Vec<PortBinding> {
    let reported = inventory.modules.get(&slot).map(|m| m.ports.as_slice()).unwrap_or_default();
    let mut ports: Vec<PortBinding> = reported
        .iter()
        .filter_map(|port| {
            let name = interface_of(inventory, slot, port)?;
            let interface = model.interface_for(name, port);
            let settings = model.interface_settings(&interface);
            let usable = interface.inherit.as_deref().is_some_and(|profile| model.is_usable(profile, port.kind));
            let profile = interface.inherit.unwrap_or_else(|| port.profile.clone());
            Some(PortBinding { nic: port.nic.clone(), name, profile, profile_usable: usable, settings })
        })
        .collect();
    ports.sort_by(|a, b| (a.name, &a.nic).cmp(&(b.name, &b.nic)));
    ports
}

/// The names that `pick` finds in any of the settings, each once, in order.
fn names<'a, const N: usize>(
    settings: impl Iterator<Item = &'a PortSettings>,
    pick: impl Fn(&'a PortSettings) -> [&'a Option<String>; N],
) -> BTreeSet<&'a String> {
    settings.flat_map(pick).flatten().collect()
}

/// What ports, flow monitors and running monitor sessions refer to; the last two take a list of either kind.
fn acls<'a, I>(model: &Model, settings: impl Fn() -> I, monitors: &[Monitor]) -> Vec<Acl>
where
    I: Iterator<Item = &'a PortSettings>,
{
    let metered = monitors.iter().filter_map(|m| model.monitors.get(&m.name)?.filter.as_ref());
    let running = model.sessions.values().filter(|session| !session.shut);
    let filters: BTreeSet<&String> = running.filter_map(|session| session.filter_acl.as_ref()).chain(metered).collect();
    let ip = names(settings(), |s| [&s.ip_acl_in, &s.ip_acl_out]);
    let mac = names(settings(), |s| [&s.mac_acl_in, &s.mac_acl_out]);
    let wanted = |name: &String, list: &AccessList| {
        let used = if list.entries.is_ip() { &ip } else { &mac };
        used.contains(name) || filters.contains(name)
    };
    model.acls.iter().filter(|(name, list)| wanted(name, list)).map(|(name, list)| acl(name, list)).collect()
}

/// The list without its remarks.
pub fn acl(name: &str, list: &AccessList) -> Acl {
    fn rules<R: Copy>(entries: &std::collections::BTreeMap<u32, Entry<R>>) -> Vec<(u32, R)> {
        let rule = |(sequence, entry): (&u32, &Entry<R>)| match entry {
            Entry::Rule(rule) => Some((*sequence, *rule)),
            Entry::Remark(_) => None,
        };
        entries.iter().filter_map(rule).collect()
    }
    let rules = match &list.entries {
        Entries::Ip(entries) => Rules::Ip(rules(entries)),
        Entries::Mac(entries) => Rules::Mac(rules(entries)),
    };
    Acl { name: name.to_owned(), statistics: list.statistics, rules }
}

/// What monitors of `monitors` count and hold, where that is not everything.
fn meters(model: &Model, inventory: &Inventory, slot: u8, monitors: &[Monitor]) -> Option<Vec<Meter>> {
    let meter = |wanted: &Monitor| {
        let monitor = model.monitors.get(&wanted.name)?;
        let elsewhere = if monitor.once { counted_elsewhere(model, inventory, slot, &wanted.name) } else { Vec::new() };
        let (filter, filter_bpf, entries) = (monitor.filter.clone(), monitor.filter_bpf.clone(), monitor.entries);
        let meter = Meter { monitor: wanted.name.clone(), filter, elsewhere, entries, filter_bpf };
        let says = meter.filter.is_some() || meter.filter_bpf.is_some() || !meter.elsewhere.is_empty();
        (says || entries.is_some()).then_some(meter)
    };
    let meters: Vec<Meter> = monitors.iter().filter_map(meter).collect();
    (!meters.is_empty()).then_some(meters)
}

/// Those of `wanted` that have a mode, which all that are in use have.
fn samplers(model: &Model, wanted: &BTreeSet<&String>) -> Vec<Sampler> {
    let sampler = |name: &&String| {
        let mode = model.samplers.get(*name)?.mode?;
        Some(Sampler {
            name: (*name).clone(),
            random: mode.is_random(),
            out_of: mode.out_of(),
            count: Some(mode.count()).filter(|count| *count > 1),
        })
    };
    wanted.iter().filter_map(sampler).collect()
}

/// An exporter without collectors has nothing to do and is left out, here and in its monitors.
fn monitors(model: &Model, wanted: &BTreeSet<&String>) -> Vec<Monitor> {
    let sends = |name: &&String| model.exporters.get(*name).is_some_and(|e| !e.destinations.is_empty());
    let found = wanted.iter().filter_map(|name| Some((*name, model.monitors.get(*name)?)));
    found
        .map(|(name, monitor)| Monitor {
            name: name.clone(),
            record: monitor.record.clone().filter(|record| !is_full(record)),
            exporters: monitor.exporters.iter().filter(sends).cloned().collect(),
            active_s: monitor.active_s.unwrap_or(ACTIVE_S),
            inactive_s: monitor.inactive_s.unwrap_or(INACTIVE_S),
            aggregation: Some(monitor.aggregation.clone()).filter(|rules| !rules.is_empty()),
            biflow: monitor.biflow.then_some(true),
        })
        .collect()
}

/// A user's record, or a built-in one that is summed up.
fn record(model: &Model, name: &str) -> Option<Record> {
    let mut fields: Vec<Field> = Vec::new();
    let own = model.records.get(name).map(|record| record.items.iter().map(|item| item.field).collect::<Vec<_>>());
    for field in own.or_else(|| predefined_fields(name).map(<[Field]>::to_vec))? {
        if !fields.contains(&field) {
            fields.push(field);
        }
    }
    Some(Record { name: name.to_owned(), fields })
}

fn exporter(name: &str, exporter: &FlowExporter) -> Exporter {
    let port = exporter.collector_port();
    Exporter {
        name: name.to_owned(),
        destinations: exporter
            .destinations
            .iter()
            .map(|(addr, own)| Destination::new(*addr, own.unwrap_or(port)))
            .collect(),
        version: exporter.format(),
        dscp: exporter.dscp.unwrap_or(0),
        template_timeout_s: exporter.template_timeout_s.unwrap_or(TEMPLATE_TIMEOUT_S),
        option_timeout_s: exporter.option_timeout_s.unwrap_or(OPTION_TIMEOUT_S),
        payload_max: exporter.mtu.unwrap_or(EXPORT_MTU).saturating_sub(export_headers(exporter)),
        send_buffer: exporter.send_buffer,
        template_packets: exporter.template_packets,
        sampler_timeout_s: exporter.sampler_timeout_s,
        statistics_timeout_s: exporter.statistics_timeout_s,
        transport: exporter.transport.filter(|transport| *transport != Transport::Udp),
        load_balance: exporter.load_balance.then_some(true),
        rate_limit: exporter.rate_limit,
    }
}

fn sessions(model: &Model, places: &Places<'_>, slot: u8) -> Vec<Session> {
    let domain = model.domain_id.unwrap_or(0);
    let running = model.sessions.iter().filter(|(_, session)| !session.shut);
    let compiled = |(id, session): (&u16, &MonitorSession)| Session {
        relay: places.relay(session, *id, domain, slot),
        once: places.once(session, slot),
        ..session.compile(*id, domain)
    };
    running.map(compiled).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use proto::acl::{Action, AddrMatch, IpRule, PortMatch};
    use proto::addr::{MacAddr, VlanId};
    use proto::msg::{ConfigHash, HostUuid};
    use proto::vlan::PortMode;

    use super::*;
    use crate::config::model::tests::report;
    use crate::config::model::{FlowMonitor, Interface, Profile, Settings, Vlan};
    use crate::module::registry::{LinkCounters, Module};

    fn module(ports: Vec<PortReport>) -> Module {
        Module {
            uuid: HostUuid([1; 16]),
            host: "h".into(),
            software: String::new(),
            address: None,
            last_address: None,
            ports,
            applied: (0, ConfigHash::default()),
            intended: (0, ConfigHash::default()),
            connected_at: None,
            counters: LinkCounters::default(),
        }
    }

    /// Two hosts; `web` is protected, filtered and metered.
    pub(crate) fn example() -> (Model, Inventory) {
        let mut model = Model::default();
        let own = Settings {
            admin_up: Some(true),
            access_vlan: VlanId::new(10),
            protected: true,
            ip_acl_in: Some("thin".into()),
            flow_in: Some("m".into()),
            ..Settings::default()
        };
        model.profiles.insert("web".into(), Profile { enabled: true, own, ..Profile::default() });
        let permit = IpRule {
            action: Action::Permit,
            protocol: None,
            src: AddrMatch::ANY,
            src_port: PortMatch::Any,
            dst: AddrMatch::ANY,
            dst_port: PortMatch::Any,
            icmp_type: None,
            icmp_code: None,
            dscp: None,
        };
        let entries = BTreeMap::from([(5, Entry::Remark("why".into())), (10, Entry::Rule(permit))]);
        let list = AccessList { statistics: true, entries: Entries::Ip(entries) };
        model.acls.insert("thin".into(), list.clone());
        model.acls.insert("unused".into(), list);
        let destinations = vec![([192, 0, 2, 1].into(), None), ([192, 0, 2, 2].into(), Some(2055))];
        model.exporters.insert("e".into(), FlowExporter { destinations, ..FlowExporter::default() });
        model.exporters.insert("nowhere".into(), FlowExporter::default());
        let exporters = vec!["e".to_owned(), "nowhere".to_owned()];
        model.monitors.insert("m".into(), FlowMonitor { exporters, ..FlowMonitor::default() });
        model.monitors.insert("unused".into(), FlowMonitor::default());
        model.sessions.insert(1, MonitorSession { shut: false, ..MonitorSession::default() });
        model.sessions.insert(2, MonitorSession::default());
        model.vlans.insert(VlanId::new(10).unwrap(), Vlan::default());
        model.vlans.insert(VlanId::new(11).unwrap(), Vlan { suspended: true, ..Vlan::default() });
        let veth = |nic: &str, profile: &str, mac: u64| PortReport {
            mac: Some(MacAddr::from_u64(mac)),
            ..report(nic, ProfileType::Vethernet, 0, profile)
        };
        let uplink = report("uplink/1", ProfileType::Ethernet, 1, "nobody");
        let modules = BTreeMap::from([
            (3, module(vec![veth("b/0", "web", 2), uplink, veth("a/0", "web", 1), veth("unbound/0", "web", 9)])),
            (4, module(vec![veth("c/0", "web", 3), veth("d/0", "other", 4)])),
        ]);
        let nics = ["a/0", "b/0", "c/0", "d/0"];
        let vethernets = nics.iter().zip(1..).map(|(nic, n)| (nic.parse().unwrap(), n)).collect();
        (model, Inventory { modules, vethernets })
    }

    #[test]
    fn a_host_gets_what_it_needs_and_no_more() {
        let (model, inventory) = example();
        let host = compile(&model, &inventory, 3);
        assert_eq!((host.module, host.switch_name.as_str()), (3, "switch"));
        assert_eq!(host.vlans.to_string(), "1,10");
        assert_eq!(host.profiles.len(), 3);
        assert_eq!(host.acls.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["thin"]);
        assert!(matches!(&host.acls[0].rules, Rules::Ip(rules) if rules.len() == 1 && rules[0].0 == 10));
        assert_eq!(host.monitors.len(), 1);
        assert_eq!(host.monitors[0].exporters, ["e"]);
        assert_eq!(host.exporters.len(), 1);
        assert_eq!(host.exporters[0].destinations.iter().map(|d| d.port).collect::<Vec<_>>(), [9995, 2055]);
        assert_eq!(host.sessions.iter().map(|s| s.id).collect::<Vec<_>>(), [1]);
        let names: Vec<String> = host.ports.iter().map(|p| p.name.short()).collect();
        assert_eq!(names, ["Eth3/1", "Veth1", "Veth2"]);
        assert!(host.ports[1].profile_usable && host.ports[1].settings.admin_up);
        assert_eq!(host.ports[1].settings.mode, PortMode::Access(VlanId::new(10).unwrap()));
        assert!(!host.ports[0].profile_usable, "an unknown profile");
        assert_eq!(host.protected_macs, [MacAddr::from_u64(3)]);
        assert_eq!(compile(&model, &inventory, 4).protected_macs, [MacAddr::from_u64(1), MacAddr::from_u64(2)]);
        assert!(compile(&model, &inventory, 66).ports.is_empty());
    }

    #[test]
    fn the_interface_goes_before_the_profile() {
        let (mut model, inventory) = example();
        let own = Settings { mtu: Some(9000), ..Settings::default() };
        let wrong = Interface { inherit: None, ..Interface::default() };
        model
            .interfaces
            .insert(IfName::Vethernet(1), Interface { inherit: Some("web".into()), own, ..Interface::default() });
        model.interfaces.insert(IfName::Vethernet(2), wrong);
        let host = compile(&model, &inventory, 3);
        assert_eq!((host.ports[1].settings.mtu, host.ports[2].settings.mtu), (9000, 1500));
        assert_eq!((host.ports[2].profile.as_str(), host.ports[2].profile_usable), ("web", false));
        model.profiles.get_mut("web").unwrap().enabled = false;
        assert!(!compile(&model, &inventory, 3).ports[1].profile_usable);
    }
}
