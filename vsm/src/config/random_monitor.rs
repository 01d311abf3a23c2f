//! Random monitor sessions, as [`super::random`] makes models.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use proto::config::{Filter, SourceKind};
use proto::vlan::VlanSet;

use super::monitor::{DROP_REASONS, ErspanSettings, HeaderType, MonitorSession, SessionSource, SessionType};
use super::random::{if_name, name, vlan};
use crate::capture::compile;

fn sources() -> impl Strategy<Value = Vec<SessionSource>> {
    let what = prop_oneof![
        if_name().prop_map(SourceKind::Interface),
        vlan().prop_map(SourceKind::Vlan),
        name().prop_map(SourceKind::Profile),
        of(select(DROP_REASONS)).prop_map(|reason| SourceKind::Drops(reason.map(str::to_owned))),
    ];
    let source = (what, prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))]);
    vec(source, 0..5).prop_map(|typed| {
        let mut sources: Vec<SessionSource> = Vec::new();
        for (what, (rx, tx)) in typed {
            let (rx, tx) = if matches!(what, SourceKind::Drops(_)) { (true, false) } else { (rx, tx) };
            if sources.iter().all(|source| source.what != what) {
                sources.push(SessionSource { what, rx, tx });
            }
        }
        sources
    })
}

fn address() -> impl Strategy<Value = Option<IpAddr>> {
    let four = (0x0100_0000u32..0x7f00_0000).prop_map(|n| Ipv4Addr::from(n).into());
    let six = any::<u64>().prop_map(|n| Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(n)).into());
    of(prop_oneof![3 => four, 1 => six])
}

fn erspan() -> impl Strategy<Value = ErspanSettings> {
    let header = of(select(HeaderType::ALL.to_vec()));
    let outer = (address(), address(), of(1u8..), of(0u8..64));
    (of(1u16..1024), outer, header, any::<(bool, bool)>()).prop_map(|(id, outer, header, (keep_tag, fragment))| {
        let (destination, origin, ttl, dscp) = outer;
        ErspanSettings { id, destination, origin, ttl, dscp, header, keep_tag, fragment }
    })
}

/// A session, of which a type has only what its commands can say.
pub fn session() -> impl Strategy<Value = MonitorSession> {
    let to = (vec(if_name(), 0..4), btree_map(name(), Just(()), 0..2));
    let vlans = of(vec(vlan(), 1..5).prop_map(VlanSet::from_iter));
    let bpf = of(select(vec!["tcp port 80", "not port 53", "ip6"]));
    let filters = (vlans, of(name()), bpf, of(2u32..100), of(64u16..9217), any::<bool>());
    let said = (of("[a-z]([ -~]{0,20}[a-z])?"), select(SessionType::ALL.to_vec()), erspan(), any::<bool>());
    (said, sources(), to, filters).prop_map(|((description, kind, erspan, shut), sources, to, filters)| {
        let (mut destinations, profiles) = to;
        destinations.sort();
        destinations.dedup();
        let watches = |what: &SourceKind| sources.iter().any(|source| source.what == *what);
        destinations.retain(|name| !watches(&SourceKind::Interface(*name)));
        let profiles = profiles.into_keys().filter(|name| !watches(&SourceKind::Profile(name.clone())));
        let destination_profiles = profiles.collect();
        let (filter_vlans, filter_acl, bpf, sampling, mtu, every_host) = filters;
        let program = |text: &str| Filter { text: text.to_owned(), program: compile(text).unwrap() };
        let said = MonitorSession { kind, description, shut, ..MonitorSession::default() };
        let watching = MonitorSession {
            sources,
            filter_vlans,
            filter_acl,
            filter_bpf: bpf.map(program),
            sampling,
            mtu,
            every_host,
            ..said.clone()
        };
        match kind {
            SessionType::Local => MonitorSession { destinations, destination_profiles, ..watching },
            SessionType::ErspanSource => MonitorSession { erspan, ..watching },
            SessionType::ErspanDestination => {
                let mut origins: Vec<IpAddr> = [erspan.origin, erspan.destination].into_iter().flatten().collect();
                origins.dedup();
                let receive_at = erspan.origin;
                let erspan = ErspanSettings { id: erspan.id, ..ErspanSettings::default() };
                MonitorSession { destinations, destination_profiles, erspan, receive_at, origins, ..said }
            }
        }
    })
}
