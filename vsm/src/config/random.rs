//! Random models that commands can make, for property tests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

use proto::acl::{Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch};
use proto::addr::{MacAddr, VlanId};
use proto::config::{Capability, Filter, ProfileType};
use proto::flow::{Aggregation, Sampling, Transport, Version};
use proto::msg::HostUuid;
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::flow::{FlowStore, Prefix, predefined};
use super::line::{Lines, VTY_SESSIONS_MAX};
use super::logging::{FACILITIES, File, Logfile, Logging, PARTS, Server, Threshold, Timestamp};
use super::model::{
    AccessList, Entries, Entry, FlowExporter, FlowMonitor, FlowRecord, FlowSampler, Interface, Model, Profile,
    RECORD_ITEMS, Settings, Vlan, kind_of,
};
use super::monitor::check_circles;
use super::random_aaa::aaa;
use super::random_monitor::session;
use super::role::{BUILT_IN, Role, Rule, What};
use super::user::User;
use crate::capture::compile;

pub(super) fn vlan() -> impl Strategy<Value = VlanId> {
    (1u16..4095).prop_filter_map("id", VlanId::new)
}

pub(super) fn name() -> impl Strategy<Value = String> {
    // Names that are keywords or look like other arguments are names all the same.
    prop_oneof![8 => "[A-Za-z][A-Za-z0-9_.:/-]{0,20}", 1 => "in|out|rx|any|type|name|no|10|veth1|10\\.0\\.0\\.1"]
}

fn line() -> impl Strategy<Value = String> {
    "[!-~]([ -~é]{0,20}[!-~])?"
}

pub(super) fn if_name() -> impl Strategy<Value = IfName> {
    prop_oneof![
        (1u32..40).prop_map(IfName::Vethernet),
        (3u8..67, 1u8..33).prop_map(|(slot, port)| IfName::Ethernet { slot, port }),
    ]
}

fn address() -> impl Strategy<Value = AddrMatch> {
    let any = any::<u32>().prop_map(Ipv4Addr::from);
    prop_oneof![
        Just(AddrMatch::ANY),
        any.clone().prop_map(AddrMatch::host),
        (any.clone(), 0u8..33).prop_map(|(addr, len)| AddrMatch::prefix(addr, len)),
        (any.clone(), any).prop_map(|(addr, wild)| AddrMatch::new(addr, wild)),
    ]
}

fn ports() -> impl Strategy<Value = PortMatch> {
    let port = || prop_oneof![any::<u16>(), 0u16..600];
    prop_oneof![
        2 => Just(PortMatch::Any),
        1 => port().prop_map(PortMatch::Eq),
        1 => port().prop_map(PortMatch::Neq),
        1 => port().prop_map(PortMatch::Lt),
        1 => port().prop_map(PortMatch::Gt),
        1 => (port(), port()).prop_map(|(a, b)| PortMatch::Range(a.min(b), a.max(b))),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Permit), Just(Action::Deny)]
}

/// A rule of the command line: ports with TCP and UDP only, messages with ICMP only.
pub fn ip_rule() -> impl Strategy<Value = IpRule> {
    let protocol = prop_oneof![of(any::<u8>()), prop_oneof![Just(1), Just(6), Just(17)].prop_map(Some)];
    let icmp = of((any::<u8>(), of(any::<u8>())));
    (action(), protocol, address(), ports(), address(), ports(), icmp, of(0u8..64)).prop_map(
        |(action, protocol, src, src_port, dst, dst_port, icmp, dscp)| {
            let has_ports = matches!(protocol, Some(6 | 17));
            let icmp = icmp.filter(|_| protocol == Some(1));
            IpRule {
                action,
                protocol,
                src,
                src_port: if has_ports { src_port } else { PortMatch::Any },
                dst,
                dst_port: if has_ports { dst_port } else { PortMatch::Any },
                icmp_type: icmp.map(|(kind, _)| kind),
                icmp_code: icmp.and_then(|(_, code)| code),
                dscp,
            }
        },
    )
}

fn mac_rule() -> impl Strategy<Value = MacRule> {
    let mac =
        || (any::<u64>(), any::<u64>()).prop_map(|(a, w)| MacMatch::new(MacAddr::from_u64(a), MacAddr::from_u64(w)));
    let mac = || prop_oneof![Just(MacMatch::ANY), mac()];
    (action(), mac(), mac(), of(0x600u16..), of(vlan())).prop_map(|(action, src, dst, ethertype, vlan)| MacRule {
        action,
        src,
        dst,
        ethertype,
        vlan,
    })
}

fn entries<R: std::fmt::Debug + Clone + 'static>(
    rule: impl Strategy<Value = R> + 'static,
) -> impl Strategy<Value = BTreeMap<u32, Entry<R>>> {
    let entry = prop_oneof![4 => rule.prop_map(Entry::Rule), 1 => line().prop_map(Entry::Remark)];
    btree_map(prop_oneof![1u32..100, 1..=u32::MAX], entry, 0..6)
}

fn acl() -> impl Strategy<Value = AccessList> {
    let entries = prop_oneof![entries(ip_rule()).prop_map(Entries::Ip), entries(mac_rule()).prop_map(Entries::Mac)];
    (any::<bool>(), entries).prop_map(|(statistics, entries)| AccessList { statistics, entries })
}

fn vlans() -> impl Strategy<Value = BTreeMap<VlanId, Vlan>> {
    let vlan = (vlan(), (of("[a-z]{1,8}"), any::<bool>(), any::<bool>()));
    vec(vlan, 0..8).prop_map(|said| {
        let mut vlans = BTreeMap::from([(VlanId::DEFAULT, Vlan::default())]);
        for (id, (name, suspended, shutdown)) in said.into_iter().filter(|(id, _)| *id != VlanId::DEFAULT) {
            vlans.insert(id, Vlan { own_name: name.map(|name| format!("{name}{id}")), suspended, shutdown });
        }
        vlans
    })
}

fn exporter() -> impl Strategy<Value = FlowExporter> {
    let four = (1u8..224, any::<u8>()).prop_map(|(a, b)| IpAddr::from([a, 0, 0, b]));
    let six = any::<u8>().prop_map(|a| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, a.into()]));
    let addr = prop_oneof![3 => four, 1 => six];
    let version = of(select(&Version::ALL[..]));
    let times = (of(1u32..86_401), of(1u32..86_401), of(1u32..86_401), of(1u32..86_401), of(1u32..1001));
    let sockets = (any::<bool>(), of(540u16..9001), of(4096u32..16_777_217), any::<bool>(), of(1u32..1_000_001));
    let knobs = (times, sockets);
    let way = of(prop_oneof![Just(Transport::Tcp), Just(Transport::Tls), Just(Transport::Relay)]);
    let transport = (way, of(1u16..)).prop_map(|(way, port)| (way.filter(|_| port.is_some()), port));
    (of(line()), btree_map((addr, of(1u16..)), Just(()), 0..5), transport, version, of(0u8..64), knobs).prop_map(
        |(description, destinations, (transport, port), version, dscp, (times, sockets))| {
            let (source_mgmt, mtu, send_buffer, load_balance, rate_limit) = sockets;
            let (template, option, sampler, statistics, packets) = times;
            let is_stream = matches!(transport, Some(Transport::Tcp | Transport::Tls));
            let version = version.filter(|version| !is_stream || *version == Version::Ipfix);
            let has_templates = version.is_some_and(Version::has_templates);
            FlowExporter {
                description,
                destinations: destinations.into_keys().collect(),
                source_mgmt,
                transport,
                port,
                version,
                dscp,
                template_timeout_s: template.filter(|_| has_templates),
                option_timeout_s: option.filter(|_| has_templates),
                sampler_timeout_s: sampler.filter(|_| has_templates),
                statistics_timeout_s: statistics.filter(|_| has_templates),
                template_packets: packets.filter(|_| has_templates),
                mtu,
                send_buffer,
                load_balance,
                rate_limit,
            }
        },
    )
}

type Picks = (Vec<Index>, Option<Index>, Option<u32>, Option<u32>, Vec<Aggregation>, bool);

fn picks() -> impl Strategy<Value = Picks> {
    let times = || of(1u32..4093);
    (vec(any::<Index>(), 0..5), of(any::<Index>()), times(), times(), aggregations(), any::<bool>())
}

fn aggregations() -> impl Strategy<Value = Vec<Aggregation>> {
    let address = (any::<u32>(), 0u8..33, 0u8..33).prop_map(|(net, length, to)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Aggregation::Address { net: net & mask, length, to }
    });
    let port = (any::<u16>(), any::<u16>(), any::<u16>());
    let port = port.prop_map(|(a, b, to)| Aggregation::Port { first: a.min(b), last: a.max(b), to });
    vec(prop_oneof![address, port], 0..4).prop_map(|rules| {
        rules.iter().enumerate().filter(|(at, rule)| !rules[..*at].contains(rule)).map(|(_, rule)| *rule).collect()
    })
}

fn settings() -> impl Strategy<Value = (Settings, [Option<Index>; 8])> {
    let vlan_set = prop_oneof![
        vec(vlan(), 0..5).prop_map(VlanSet::from_iter),
        Just(VlanSet::all()),
        (vlan(), vlan()).prop_map(|(a, b)| VlanSet::all().difference(&VlanSet::from_iter([a, b]))),
    ];
    let vlans = (of(vlan()), of(vlan()), of(vlan_set));
    let names: [_; 8] = std::array::from_fn(|_| of(any::<Index>()));
    (of(any::<bool>()), of(any::<bool>()), vlans, any::<(bool, bool, bool)>(), of(576u16..9217), names).prop_map(
        |(admin_up, trunk, (access_vlan, native_vlan, allowed_vlans), (protected, no_cdp, is_sensor), mtu, names)| {
            let own = Settings {
                admin_up,
                trunk,
                access_vlan,
                native_vlan,
                allowed_vlans,
                protected,
                no_cdp,
                capability: match (is_sensor, no_cdp) {
                    (true, true) => Some(Capability::MonitorIn),
                    (true, false) => Some(Capability::IdsSensor),
                    (false, _) => None,
                },
                mtu,
                ..Settings::default()
            };
            (own, names)
        },
    )
}

/// Fills in names of lists and monitors that exist; or of a list that doesn't.
fn refer(model: &Model, (mut own, names): (Settings, [Option<Index>; 8])) -> Settings {
    let pick = |index: Option<Index>, names: Vec<String>| {
        index.filter(|_| !names.is_empty()).map(|index| names[index.index(names.len())].clone())
    };
    let acls = |is_ip: bool| {
        let fitting = model.acls.iter().filter(|(_, list)| list.entries.is_ip() == is_ip);
        let mut names: Vec<String> = fitting.map(|(name, _)| name.clone()).collect();
        names.push(format!("missing-{is_ip}"));
        names
    };
    let [a, b, c, d, e, f, g, h] = names;
    (own.ip_acl_in, own.ip_acl_out) = (pick(a, acls(true)), pick(b, acls(true)));
    (own.mac_acl_in, own.mac_acl_out) = (pick(c, acls(false)), pick(d, acls(false)));
    let monitors = || model.monitors.keys().cloned().collect::<Vec<_>>();
    (own.flow_in, own.flow_out) = (pick(e, monitors()), pick(f, monitors()));
    let samplers = || model.samplers.iter().filter(|(_, s)| s.mode.is_some()).map(|(name, _)| name.clone());
    (own.sampler_in, own.sampler_out) = (pick(g, samplers().collect()), pick(h, samplers().collect()));
    own.sampler_in = own.sampler_in.filter(|_| own.flow_in.is_some());
    own.sampler_out = own.sampler_out.filter(|_| own.flow_out.is_some());
    own
}

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMeWNq29LBE1ZJ4fEW+qyLxuKy69xaUbxTTEMtlC7aF4 a comment";

fn users() -> impl Strategy<Value = BTreeMap<String, User>> {
    let roles = subsequence(BUILT_IN.map(str::to_owned).to_vec(), 1..4).prop_map(BTreeSet::from_iter);
    let user = (roles, any::<bool>(), any::<bool>()).prop_map(|(roles, a, b)| {
        let said = |is_said: bool, text: &str| is_said.then(|| text.to_owned());
        User { roles, secret: said(a, HASH), key: said(b, KEY) }
    });
    btree_map("[a-z0-9][a-zA-Z0-9._-]{0,20}", user, 0..4)
}

fn roles() -> impl Strategy<Value = BTreeMap<String, Role>> {
    let feature = || of(proptest::sample::select(vec!["vlan", "acl", "interface"]).prop_map(str::to_owned));
    let what = prop_oneof![
        "[a-z*;|]([a-z* ;]{0,20}[a-z*])?".prop_map(What::Command),
        feature().prop_map(What::Read),
        feature().prop_map(What::ReadWrite),
    ];
    let rule = (any::<bool>(), what).prop_map(|(permits, what)| Rule { permits, what });
    let interfaces = of(proptest::collection::btree_set(if_name(), 0..4));
    let vlans = of(vec(vlan(), 0..5).prop_map(VlanSet::from_iter));
    let role = (of(line()), btree_map(1u16..257, rule, 0..4), interfaces, vlans);
    let role = role.prop_map(|(description, rules, interfaces, vlans)| Role { description, rules, interfaces, vlans });
    btree_map("[A-Z][a-zA-Z0-9_-]{0,15}", role, 0..3)
}

/// Some users have roles of one's own too.
fn add_users(model: &mut Model, roles: BTreeMap<String, Role>, users: BTreeMap<String, User>, pick: &[Index]) {
    let names: Vec<String> = roles.keys().cloned().collect();
    model.roles = roles;
    model.users = users;
    for (user, index) in model.users.values_mut().zip(pick).filter(|_| !names.is_empty()) {
        user.roles.insert(names[index.index(names.len())].clone());
    }
}

fn logging() -> impl Strategy<Value = Logging> {
    let threshold = || prop_oneof![Just(Threshold::Default), Just(Threshold::Off), (0u8..8).prop_map(Threshold::To)];
    let file = ("[a-z]{1,9}", 0u8..8, of(4096u32..4_194_305));
    let file = file.prop_map(|(name, severity, size)| File::Is(Logfile { name, severity, size }));
    let file = prop_oneof![2 => Just(File::Default), 1 => Just(File::Off), 2 => file];
    let part = proptest::sample::select(PARTS.to_vec()).prop_map(|(part, _)| part.to_owned());
    let facility = proptest::sample::select(FACILITIES.to_vec()).prop_map(|(facility, _)| facility.to_owned());
    let server = (of(0u8..8), of(1u16..), any::<bool>(), of(facility), any::<bool>())
        .prop_map(|(severity, port, management, facility, tcp)| Server { severity, port, management, facility, tcp });
    let host =
        prop_oneof![Just("10.0.0.1"), Just("2001:db8::1"), Just("port"), Just("log.example.net"), Just("facility")];
    let host = host.prop_map(str::to_owned);
    let timestamp = proptest::sample::select(Timestamp::ALL.to_vec());
    let parts =
        (btree_map(host, server, 0..3), btree_map(part, 0u8..8, 0..4), threshold(), threshold(), file, timestamp);
    parts.prop_map(|(servers, levels, console, monitor, file, timestamp)| Logging {
        servers,
        levels,
        console,
        monitor,
        file,
        timestamp,
    })
}

type Profiles = Vec<(String, bool, Option<String>, Option<Index>, bool, (Settings, [Option<Index>; 8]))>;
type Interfaces = BTreeMap<IfName, (Option<String>, Option<String>, Option<Index>, (Settings, [Option<Index>; 8]))>;

/// A parent is made before its children, and has their type.
fn add_profiles(model: &mut Model, profiles: Profiles) {
    for (name, is_uplink, description, parent, enabled, own) in profiles {
        let kind = if is_uplink { ProfileType::Ethernet } else { ProfileType::Vethernet };
        let fitting: Vec<String> =
            model.profiles.iter().filter(|(_, p)| p.kind == kind).map(|(name, _)| name.clone()).collect();
        let inherit = parent.map(|index| fitting[index.index(fitting.len())].clone());
        let own = refer(model, own);
        model.profiles.entry(name).or_insert(Profile { kind, description, inherit, enabled, own });
    }
}

/// An interface inherits from a profile of its type, from an unknown one, or from none.
fn add_interfaces(model: &mut Model, interfaces: Interfaces) {
    for (name, (description, asked, parent, own)) in interfaces {
        let fitting = model.profiles.iter().filter(|(_, p)| p.kind == kind_of(name));
        let mut fitting: Vec<String> = fitting.map(|(name, _)| name.clone()).collect();
        fitting.push("unknown-profile".to_owned());
        let inherit = parent.map(|index| fitting[index.index(fitting.len())].clone());
        let own = refer(model, own);
        let mut interface = Interface { description, inherit, own, asked: None };
        interface.ask(asked);
        model.interfaces.insert(name, interface);
    }
}

/// `cache entries`, the filters, and `scope once`.
type Counted = (Option<u32>, Option<String>, Option<&'static str>, bool);

fn sampler() -> impl Strategy<Value = FlowSampler> {
    let count = prop_oneof![3 => Just(1u16), 1 => 1u16..16_383];
    let mode = (any::<bool>(), count, 2u16..16_384);
    let mode =
        of(mode.prop_map(|(random, count, n)| Sampling::several(random, count.min(n - 1), n).unwrap_or_default()));
    (of(line()), mode).prop_map(|(description, mode)| FlowSampler { description, mode })
}

fn add_monitors(model: &mut Model, monitors: BTreeMap<String, (Option<String>, Picks, Counted)>) {
    let records: Vec<String> = model.records.keys().cloned().chain(predefined().map(str::to_owned)).collect();
    let exporters: Vec<String> = model.exporters.keys().cloned().collect();
    for (name, (description, picks, (entries, filter, bpf, once))) in monitors {
        let (exports, record, active_s, inactive_s, aggregation, biflow) = picks;
        let mut chosen: Vec<String> = Vec::new();
        for index in exports.into_iter().filter(|_| !exporters.is_empty()) {
            let exporter = &exporters[index.index(exporters.len())];
            if !chosen.contains(exporter) {
                chosen.push(exporter.clone());
            }
        }
        let record = record.map(|index| records[index.index(records.len())].clone());
        let exporters = chosen;
        let monitor = FlowMonitor {
            description,
            record,
            exporters,
            active_s,
            inactive_s,
            aggregation,
            biflow,
            entries,
            filter,
            filter_bpf: bpf.map(|text| Filter { text: text.to_owned(), program: compile(text).unwrap() }),
            once,
        };
        model.monitors.insert(name, monitor);
    }
}

/// A model that commands can make.
pub fn model() -> impl Strategy<Value = Model> {
    let items = || subsequence(RECORD_ITEMS.to_vec(), 0..6).prop_shuffle();
    let record = (of(line()), items()).prop_map(|(description, items)| FlowRecord { description, items });
    let uuid = any::<[u8; 16]>().prop_map(HostUuid);
    let mac = any::<u64>().prop_map(|n| MacAddr::from_u64(n & !(1 << 40) | 1));
    let bpf = of(proptest::sample::select(vec!["tcp port 80", "not vlan", "ip6"]));
    let counted = (of(256u32..16_777_217), of(name()), bpf, any::<bool>());
    let flow = (
        btree_map(name(), record, 0..3),
        btree_map(name(), exporter(), 0..3),
        btree_map(name(), (of(line()), picks(), counted), 0..3),
        btree_set((any::<IpAddr>(), 0u8..129).prop_map(|(addr, length)| Prefix::new(addr, length)), 0..3),
        of((of(16u32..1_000_001), of(1u32..8761), any::<bool>()).prop_map(|(size_mib, keep_h, ecs)| FlowStore {
            size_mib,
            keep_h,
            ecs,
        })),
        btree_map(name(), sampler(), 0..4),
        of("[a-z]{1,8}\\.csv"),
    );
    let profile = (name(), any::<bool>(), of(line()), of(any::<Index>()), any::<bool>(), settings());
    let interfaces = btree_map(if_name(), (of(line()), of(name()), of(any::<Index>()), settings()), 0..6);
    let named = ("[A-Za-z][A-Za-z0-9._-]{0,20}", (roles(), users(), vec(any::<Index>(), 0..4), aaa()), logging());
    let minutes = || of(0u32..525_601);
    let lines = (minutes(), minutes(), of(1..=VTY_SESSIONS_MAX)).prop_map(|(console, vty, vty_sessions)| Lines {
        console_timeout_min: console,
        vty_timeout_min: vty,
        vty_sessions,
    });
    let domain = (named, lines, of(1u16..4096), btree_map(3u8..67, uuid, 0..3));
    let macs = (btree_map((vlan(), mac), of(if_name()), 0..4), 0u32..1_000_001);
    let parts = (domain, vlans(), btree_map(name(), acl(), 0..4), flow, vec(profile, 0..6), interfaces, macs);
    (parts, btree_map(1u16..257, session(), 0..3)).prop_map(|(parts, sessions)| {
        let (
            ((hostname, (roles, users, picked, aaa), logging), lines, domain_id, vems),
            vlans,
            acls,
            (records, exporters, monitors, internal_prefixes, flow_store, samplers, as_file),
            profiles,
            interfaces,
            macs,
        ) = parts;
        let (static_macs, mac_aging_s) = macs;
        let mut model = Model {
            hostname,
            lines,
            logging,
            aaa,
            domain_id,
            vems,
            vlans,
            acls,
            records,
            exporters,
            internal_prefixes,
            flow_store,
            samplers,
            as_file,
            static_macs,
            mac_aging_s,
            sessions,
            ..Model::default()
        };
        add_users(&mut model, roles, users, &picked);
        add_monitors(&mut model, monitors);
        add_profiles(&mut model, profiles);
        add_interfaces(&mut model, interfaces);
        while check_circles(&model).is_err() {
            model.sessions.pop_first();
        }
        model
    })
}
