//! Random servers that say who may come in, for property tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::aaa::{Aaa, Group, Methods, Protocol, Server, Servers};

fn host() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (1u8..20).prop_map(|n| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))),
        (1u16..20).prop_map(|n| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n))),
    ]
}

fn key() -> impl Strategy<Value = String> {
    "[!#-~]{1,30}"
}

fn server(is_tacacs: bool) -> impl Strategy<Value = Server> {
    (host(), of(1u16..), of(key()), of(1u8..61), of(0u8..6), any::<bool>()).prop_map(
        move |(host, port, key, timeout_s, retransmit, single)| Server {
            host,
            port,
            key,
            timeout_s,
            retransmit: retransmit.filter(|_| !is_tacacs),
            single: single && is_tacacs,
        },
    )
}

fn servers(is_tacacs: bool) -> impl Strategy<Value = Servers> {
    let hosts = vec(server(is_tacacs), 0..4).prop_map(|mut hosts| {
        hosts.sort_by_key(|server: &Server| server.host);
        hosts.dedup_by_key(|server| server.host);
        hosts
    });
    (hosts, of(key()), of(1u8..61), of(0u8..6), of(0u16..1441)).prop_map(
        move |(hosts, key, timeout_s, retransmit, deadtime_min)| Servers {
            hosts,
            key,
            timeout_s,
            retransmit: retransmit.filter(|_| !is_tacacs),
            deadtime_min,
        },
    )
}

fn groups() -> impl Strategy<Value = BTreeMap<String, Group>> {
    let servers = vec(host(), 0..4).prop_map(|mut servers| {
        servers.sort();
        servers.dedup();
        servers
    });
    let group = (servers, of(0u16..1441), any::<bool>()).prop_map(|(servers, deadtime_min, is_radius)| Group {
        protocol: if is_radius { Protocol::Radius } else { Protocol::Tacacs },
        servers,
        deadtime_min,
    });
    btree_map("[A-Z][a-z0-9._-]{0,10}", group, 0..3)
}

/// What commands can make.
pub fn aaa() -> impl Strategy<Value = Aaa> {
    (servers(false), servers(true), groups(), any::<[bool; 9]>()).prop_map(|(radius, tacacs, mut groups, flags)| {
        let [on, unsigned, strict, no_role, is_remote, local, ascii, authorizes, accounts] = flags;
        groups.retain(|_, group| on || group.protocol == Protocol::Radius);
        let names = |only: Option<Protocol>| -> Vec<String> {
            let fits = |protocol| only.is_none_or(|only| only == protocol);
            let own = groups.iter().filter(|(_, group)| fits(group.protocol)).map(|(name, _)| name.clone());
            own.chain(
                Protocol::ALL
                    .into_iter()
                    .filter(|p| fits(*p) && (on || *p == Protocol::Radius))
                    .map(|p| p.name().to_owned()),
            )
            .collect()
        };
        let tacacs_groups = names(Some(Protocol::Tacacs));
        let list = |is_said: bool| {
            let methods = Methods { groups: tacacs_groups.clone(), local: local || tacacs_groups.is_empty() };
            is_said.then_some(methods)
        };
        let login = if is_remote { Methods { groups: names(None), local } } else { Methods::default() };
        Aaa {
            tacacs_is_on: on,
            radius,
            tacacs: if on { tacacs } else { Servers::default() },
            takes_unsigned: unsigned,
            commands: list(authorizes),
            config_commands: list(authorizes && accounts),
            accounting: list(accounts),
            groups,
            login,
            asks_in_ascii: ascii,
            is_strict: strict,
            no_default_role: no_role,
        }
    })
}
