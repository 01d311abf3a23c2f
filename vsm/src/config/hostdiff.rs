//! What one host is to do, place by place, so that several such configurations can be laid side by side.
//!
//! A [`HostConfig`] becomes lines of (place, what, value): `Vethernet3`, `IP access list in`, `web-in`. Places stand in
//! the order of the configuration. [`compare`] gives the lines in which not all sides say the same.

use std::net::{Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use proto::acl::Rules;
use proto::config::{
    Erspan, Erspan6, ErspanHeader, HostConfig, Once, PortBinding, PortSettings, Profile, ProfileType, Receive, Relay,
    Session, SourceKind,
};
use proto::flow::{Exporter, Meter, Monitor, Record, Sampler, Transport};
use proto::vlan::{PortMode, VlanSet};

use super::flow::{aggregation_line, transport_word};
use super::profile::capability_word;
use super::rule::{ip_rule, mac_rule};
use super::running::version_word;

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// What it is about: `Vethernet3`, `access list web-in`, `switch`.
    pub place: String,
    /// Which of its properties.
    pub what: String,
    /// What that is.
    pub value: String,
}

/// A line in which the sides differ; `None` where a side does not have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row<const N: usize> {
    /// As [`Line::place`].
    pub place: String,
    /// As [`Line::what`].
    pub what: String,
    /// The values.
    pub values: [Option<String>; N],
}

/// The lines of a configuration.
pub fn lines(host: &HostConfig) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut add = |place: String, properties: Vec<(String, String)>| {
        lines.extend(properties.into_iter().map(|(what, value)| Line { place: place.clone(), what, value }));
    };
    add("switch".to_owned(), switch(host));
    host.acls.iter().for_each(|acl| add(format!("access list {}", acl.name), rules(acl)));
    host.records.iter().for_each(|it| add(format!("flow record {}", it.name), record(it)));
    host.exporters.iter().for_each(|it| add(format!("flow exporter {}", it.name), exporter(it)));
    host.monitors.iter().for_each(|it| add(format!("flow monitor {}", it.name), monitor(it)));
    host.meters.iter().flatten().for_each(|it| add(format!("flow monitor {}", it.monitor), meter(it)));
    host.samplers.iter().flatten().for_each(|it| add(format!("sampler {}", it.name), sampler(it)));
    host.sessions.iter().for_each(|it| add(format!("monitor session {}", it.id), session(it)));
    host.profiles.iter().for_each(|it| add(format!("port-profile {}", it.name), profile(it)));
    host.ports.iter().for_each(|it| add(it.name.to_string(), port(it)));
    lines
}

/// The lines in which the sides differ, in the order in which they first come.
pub fn compare<const N: usize>(sides: [&[Line]; N]) -> Vec<Row<N>> {
    let mut rows: Vec<Row<N>> = Vec::new();
    let mut index: HashMap<(&str, &str), usize> = HashMap::new();
    for (side, lines) in sides.iter().enumerate() {
        for line in *lines {
            let at = *index.entry((&line.place, &line.what)).or_insert_with(|| {
                rows.push(Row { place: line.place.clone(), what: line.what.clone(), values: [const { None }; N] });
                rows.len() - 1
            });
            if let Some(value) = rows.get_mut(at).and_then(|row| row.values.get_mut(side)) {
                *value = Some(line.value.clone());
            }
        }
    }
    rows.retain(|row| row.values.iter().any(|value| *value != row.values[0]));
    // All of a place together, also where only one side has it.
    let mut places: HashMap<String, usize> = HashMap::new();
    for row in &rows {
        let next = places.len();
        places.entry(row.place.clone()).or_insert(next);
    }
    rows.sort_by_key(|row| places.get(&row.place).copied());
    rows
}

fn own(what: &str, value: impl Into<String>) -> (String, String) {
    (what.to_owned(), value.into())
}

fn or_none(name: &Option<String>) -> String {
    name.clone().unwrap_or_else(|| "none".to_owned())
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn switch(host: &HostConfig) -> Vec<(String, String)> {
    let mut lines = vec![
        own("name", &host.switch_name),
        own("module", host.module.to_string()),
        own("active VLANs", host.vlans.to_string()),
        own("MAC aging time", format!("{} s", host.mac_aging_s)),
        own("protected addresses elsewhere", list(&host.protected_macs)),
        own(
            "modules that copies go between",
            host.hosts.as_ref().map_or_else(|| "none".to_owned(), |hosts| addresses(hosts)),
        ),
        own("address of the module", or_none(&host.address.map(|at| Ipv4Addr::from(at).to_string()))),
    ];
    if let Some(store) = host.store {
        let lines_too = if store.ecs { ", ecs" } else { "" };
        lines.push(own("flow-store", format!("{} MiB, {} h{lines_too}", store.size_mib, store.keep_h)));
    }
    lines.extend(host.static_macs.iter().map(|entry| {
        let port = entry.port.map_or_else(|| "drop".to_owned(), |port| port.to_string());
        own(&format!("static MAC {} vlan {}", entry.mac, entry.vlan), port)
    }));
    lines
}

fn rules(acl: &proto::acl::Acl) -> Vec<(String, String)> {
    let (kind, rules): (&str, Vec<(u32, String)>) = match &acl.rules {
        Rules::Ip(rules) => ("ip", rules.iter().map(|(n, rule)| (*n, ip_rule(rule))).collect()),
        Rules::Mac(rules) => ("mac", rules.iter().map(|(n, rule)| (*n, mac_rule(rule))).collect()),
    };
    let front = [own("kind", kind), own("statistics per-entry", if acl.statistics { "yes" } else { "no" })];
    front.into_iter().chain(rules.into_iter().map(|(n, rule)| own(&format!("entry {n}"), rule))).collect()
}

fn record(record: &Record) -> Vec<(String, String)> {
    vec![own("fields", list(record.fields.iter().map(|field| format!("{field:?}"))))]
}

fn exporter(it: &Exporter) -> Vec<(String, String)> {
    vec![
        own("destinations", list(it.destinations.iter().map(|to| to.address()))),
        own("version", version_word(it.version)),
        own("transport", transport_word(it.transport.unwrap_or(Transport::Udp))),
        own("dscp", it.dscp.to_string()),
        own("template timeout", format!("{} s", it.template_timeout_s)),
        own("option timeout", format!("{} s", it.option_timeout_s)),
        own("payload", it.payload_max.to_string()),
        own("sndbuf", number(it.send_buffer)),
        own("load-balance", if it.load_balance == Some(true) { "yes" } else { "no" }),
        own("rate-limit", number(it.rate_limit)),
        own("template packets", number(it.template_packets)),
        own("sampler timeout", number(it.sampler_timeout_s)),
        own("statistics timeout", number(it.statistics_timeout_s)),
    ]
}

fn monitor(it: &Monitor) -> Vec<(String, String)> {
    vec![
        own("record", it.record.as_deref().unwrap_or("built-in")),
        own("exporters", list(&it.exporters)),
        own("timeout active", format!("{} s", it.active_s)),
        own("timeout inactive", format!("{} s", it.inactive_s)),
        own("aggregate", list(it.aggregation.iter().flatten().map(aggregation_line))),
        own("biflow", if it.biflow == Some(true) { "yes" } else { "no" }),
    ]
}

fn number(number: Option<u32>) -> String {
    number.map_or_else(|| "default".to_owned(), |number| number.to_string())
}

fn meter(it: &Meter) -> Vec<(String, String)> {
    let entries = it.entries.map_or_else(|| "as many as fit".to_owned(), |entries| entries.to_string());
    vec![
        own("cache entries", entries),
        own("filter", or_none(&it.filter)),
        own("filter bpf", it.filter_bpf.as_ref().map_or("none", |filter| &filter.text)),
        own("counted on other modules", list(&it.elsewhere)),
    ]
}

fn once(it: &Once) -> String {
    format!("own {}; of lower modules {}; of higher modules {}", list(&it.own), list(&it.before), list(&it.after))
}

fn sampler(it: &Sampler) -> Vec<(String, String)> {
    let kind = if it.random { "random" } else { "deterministic" };
    vec![own("mode", format!("{kind}, {} out of {}", it.count.unwrap_or(1), it.out_of))]
}

fn session(it: &Session) -> Vec<(String, String)> {
    let source = |source: &proto::config::SessionSource| {
        let what = match &source.what {
            SourceKind::Interface(name) => name.to_string(),
            SourceKind::Vlan(vlan) => format!("vlan {vlan}"),
            SourceKind::Profile(name) => format!("port-profile {name}"),
            SourceKind::Drops(reason) => return format!("drops {}", reason.as_deref().unwrap_or("any")),
        };
        let way = if source.rx && source.tx {
            "both"
        } else if source.rx {
            "rx"
        } else {
            "tx"
        };
        format!("{what} {way}")
    };
    vec![
        own("sources", list(it.sources.iter().map(source))),
        own("destinations", list(&it.destinations)),
        own("destination port-profiles", list(it.destination_profiles.iter().flatten())),
        own("filter vlan", it.filter_vlans.as_ref().map_or_else(|| "none".to_owned(), VlanSet::to_string)),
        own("filter access-group", or_none(&it.filter_acl)),
        own("filter bpf", it.filter_bpf.as_ref().map_or("none", |filter| &filter.text)),
        own("sampling", it.sampling.map_or_else(|| "none".to_owned(), |n| format!("1 of {n}"))),
        own("erspan", it.erspan.as_ref().map_or_else(|| "none".to_owned(), erspan)),
        own("erspan over IPv6", it.erspan6.as_ref().map_or_else(|| "none".to_owned(), erspan6)),
        own("received", it.receive.as_ref().map_or_else(|| "none".to_owned(), receive)),
        own("relayed", it.relay.as_ref().map_or_else(|| "none".to_owned(), relay)),
        own("shared out", it.once.as_ref().map_or_else(|| "no".to_owned(), once)),
        own("mtu", it.truncate.map_or_else(|| "none".to_owned(), |octets| octets.to_string())),
    ]
}

fn receive(it: &Receive) -> String {
    let at = it.at.map_or_else(|| "any address".to_owned(), |at| Ipv4Addr::from(at).to_string());
    let at6 = it.at6.map_or_else(String::new, |at| format!(" and {}", Ipv6Addr::from(at)));
    let from = it.from.as_ref().map_or_else(|| "any host".to_owned(), |from| addresses(from));
    let from6 = it
        .from6
        .as_ref()
        .map_or_else(String::new, |from| format!(" and {}", list(from.iter().map(|address| Ipv6Addr::from(*address)))));
    format!("id {} at {at}{at6}, from {from}{from6}", it.id)
}

fn relay(it: &Relay) -> String {
    let or_unknown =
        |address: Option<u32>| address.map_or_else(|| "unknown".to_owned(), |at| Ipv4Addr::from(at).to_string());
    let to = list(it.to.iter().map(|peer| format!("module {} ({})", peer.module, or_unknown(peer.address))));
    let (origin, from) = (or_unknown(it.origin), addresses(&it.from));
    format!("key {}, as {origin}, to {to}, from {from}", it.key)
}

fn erspan6(it: &Erspan6) -> String {
    let [to, from] = [it.destination, it.origin].map(Ipv6Addr::from);
    format!("to {to}, from {from}; {}", erspan(&it.sent))
}

fn addresses(them: &[u32]) -> String {
    list(them.iter().map(|address| Ipv4Addr::from(*address)))
}

fn erspan(it: &Erspan) -> String {
    let header = match it.header {
        ErspanHeader::Two => "2".to_owned(),
        ErspanHeader::Micros100 => "3, 100 us".to_owned(),
        ErspanHeader::Nanos100 => "3, 100 ns".to_owned(),
        ErspanHeader::Ieee1588 => "3, 1588".to_owned(),
        ErspanHeader::Nexus1000v(domain) => format!("3, domain {domain}"),
    };
    let origin = it.origin.map_or_else(String::new, |ip| format!(", from {}", Ipv4Addr::from(ip)));
    let tag = if it.keep_tag { ", keep-tag" } else { "" };
    let cut = if it.fragment == Some(true) { ", fragment" } else { "" };
    let to = Ipv4Addr::from(it.destination);
    format!("id {} to {to}{origin}, type {header}, ttl {}, dscp {}{tag}{cut}", it.id, it.ttl, it.dscp)
}

fn profile(it: &Profile) -> Vec<(String, String)> {
    let kind = if it.kind == ProfileType::Ethernet { "ethernet" } else { "vethernet" };
    let front = [own("type", kind), own("state", if it.enabled { "enabled" } else { "disabled" })];
    front.into_iter().chain(settings(&it.settings)).collect()
}

fn port(it: &PortBinding) -> Vec<(String, String)> {
    let usable = if it.profile_usable { "" } else { " (can't be used)" };
    let front = [own("card", it.nic.to_string()), own("port-profile", format!("{}{usable}", it.profile))];
    front.into_iter().chain(settings(&it.settings)).collect()
}

/// What a port does, as properties and values.
pub fn settings(it: &PortSettings) -> Vec<(String, String)> {
    let mode = match &it.mode {
        PortMode::Access(vlan) => format!("access vlan {vlan}"),
        PortMode::Trunk { native, allowed, .. } => format!("trunk, native {native}, allowed {allowed}"),
    };
    vec![
        own("admin state", if it.admin_up { "up" } else { "down" }),
        own("description", if it.description.is_empty() { "none" } else { &it.description }),
        own("switchport", mode),
        own("protected", if it.protected { "yes" } else { "no" }),
        own("IP access list in", or_none(&it.ip_acl_in)),
        own("IP access list out", or_none(&it.ip_acl_out)),
        own("MAC access list in", or_none(&it.mac_acl_in)),
        own("MAC access list out", or_none(&it.mac_acl_out)),
        own("flow monitor input", or_none(&it.flow_in)),
        own("flow monitor output", or_none(&it.flow_out)),
        own("sampler input", or_none(&it.sampler_in)),
        own("sampler output", or_none(&it.sampler_out)),
        own("mtu", it.mtu.to_string()),
        own("capability", it.capability.map_or("none", capability_word)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::name::IfName;

    use super::*;
    use crate::cli::cmd::show::sample;
    use crate::config::compile::compile;
    use crate::config::random;

    fn host(ports: &[(u32, u16)]) -> HostConfig {
        let port = |(number, mtu): &(u32, u16)| PortBinding {
            nic: format!("vm{number}/0").parse().unwrap(),
            name: IfName::Vethernet(*number),
            profile: "web".into(),
            profile_usable: true,
            settings: PortSettings { mtu: *mtu, ..PortSettings::default() },
        };
        HostConfig { module: 3, ports: ports.iter().map(port).collect(), ..HostConfig::default() }
    }

    #[test]
    fn only_what_differs_is_told_place_by_place() {
        let [a, b] = [host(&[(1, 1500), (2, 1500)]), host(&[(1, 1500), (2, 9000), (3, 1500)])].map(|h| lines(&h));
        let rows = compare([&a, &b]);
        assert_eq!(
            rows[0],
            Row { place: "Vethernet2".into(), what: "mtu".into(), values: [Some("1500".into()), Some("9000".into())] }
        );
        assert!(rows[1..].iter().all(|row| row.place == "Vethernet3" && row.values[0].is_none()));
        assert_eq!(compare([&a, &a, &a]), []);
    }

    proptest! {
        /// Two configurations with the same lines are the same, and the other way round, also when only one part of them
        /// differs: nothing is left out.
        #[test]
        fn every_part_shows(a in random::model(), b in random::model(), part in 0..17u8) {
            let inventory = sample::inventory();
            let (from, b) = (compile(&a, &inventory, 3), compile(&b, &inventory, 3));
            let mut to = from.clone();
            match part {
                0 => to.switch_name = b.switch_name,
                1 => to.vlans = b.vlans,
                2 => to.mac_aging_s = b.mac_aging_s,
                3 => to.static_macs = b.static_macs,
                4 => to.acls = b.acls,
                5 => to.records = b.records,
                6 => to.exporters = b.exporters,
                7 => to.monitors = b.monitors,
                8 => to.sessions = b.sessions,
                9 => to.profiles = b.profiles,
                10 => to.ports = b.ports,
                11 => to.protected_macs = b.protected_macs,
                12 => to.store = b.store,
                13 => to.meters = b.meters,
                14 => to.samplers = b.samplers,
                15 => (to.hosts, to.address) = (b.hosts, b.address),
                _ => to.module += 1,
            }
            prop_assert_eq!(compare([&lines(&from), &lines(&to)]).is_empty(), from == to);
        }
    }
}
