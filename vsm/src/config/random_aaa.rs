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
    let group = (servers, of(0u16..1441)).prop_map(|(servers, deadtime_min)| Group {
        protocol: Protocol::Radius,
        servers,
        deadtime_min,
    });
    btree_map("[A-Z][a-z0-9._-]{0,10}", group, 0..3)
}

/// What commands can make.
pub fn aaa() -> impl Strategy<Value = Aaa> {
    let flags = any::<[bool; 5]>();
    (servers(false), groups(), flags).prop_map(|(radius, groups, [unsigned, strict, no_role, is_remote, local])| {
        let mut names: Vec<String> = groups.keys().cloned().collect();
        names.push("radius".to_owned());
        let login = if is_remote { Methods { groups: names, local } } else { Methods::default() };
        Aaa {
            radius,
            takes_unsigned: unsigned,
            groups,
            login,
            is_strict: strict,
            no_default_role: no_role,
            ..Aaa::default()
        }
    })
}
