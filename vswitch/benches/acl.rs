//! Nanoseconds per lookup in an access list, and what it costs to make one: `cargo bench -p vswitch --bench acl`.
//!
//! Lists of hosts, networks and services as administrators write them, 1 to 10,000 rules, and at last some that nobody
//! would. Packets match the first rule, the last, or none, and come in an order that no processor can foresee. In the same
//! run each list is also read rule by rule as it was configured (`plain`). Runs of both take turns; a row has the best and
//! the median.
//!
//! Then the price of a change: compiling lists, and publishing a configuration of 1,000 ports that share a list.

use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use proto::acl::{Acl, Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::VlanId;
use proto::vlan::{PortMode, VlanSet};
use vswitch::config::{AclConfig, Config, PortConfig};
use vswitch::flow::key::{FlowKey, shape};
use vswitch::port::PortId;
use vswitch::snapshot::Snapshot;
use vswitch::table::acl::{IpList, plain};

const RUNS: usize = 9;
/// Different packets of a run.
const PACKETS: usize = 1_024;
/// Rules that a run reads in all, at least: short lists are asked more often.
const WORK: usize = 2_000_000;

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Where the packets of a row match.
#[derive(Clone, Copy, PartialEq)]
enum Match {
    First,
    Last,
    None,
}

fn any(action: Action) -> IpRule {
    IpRule {
        action,
        protocol: None,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst: AddrMatch::ANY,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    }
}

/// From a network of 10/8 to a host of it and a service.
fn service(draw: &mut Draw) -> IpRule {
    let (a, b) = (draw.word(), draw.word());
    IpRule {
        protocol: Some(if a % 3 == 0 { 17 } else { 6 }),
        src: AddrMatch { addr: 0x0a00_0000 | (a >> 8) as u32 & 0x00ff_ff00, wildcard: 0xff },
        dst: AddrMatch { addr: 0x0a00_0000 | (b >> 8) as u32 & 0x00ff_ffff, wildcard: 0 },
        dst_port: match b % 4 {
            0 => PortMatch::Range(1024, 5000 + (a >> 40) as u16 % 1000),
            1 => PortMatch::Eq((a >> 40) as u16),
            _ => PortMatch::Eq([22, 53, 80, 123, 443, 3306, 5432, 8080][(a >> 45) as usize % 8]),
        },
        ..any(Action::Permit)
    }
}

/// Masks with holes in both addresses, ranges and exceptions in both ports.
fn nasty(draw: &mut Draw) -> IpRule {
    let a = draw.word();
    let first = (a >> 33) as u16 & 0x7fff;
    IpRule {
        protocol: Some(17),
        src: AddrMatch { addr: a as u32 & 0x5555_5555, wildcard: 0xaaaa_aaaa },
        src_port: PortMatch::Range(first, first | 0x8000),
        dst: AddrMatch { addr: (a >> 32) as u32 & 0xaaaa_aaaa, wildcard: 0x5555_5555 },
        dst_port: PortMatch::Neq(first),
        ..any(Action::Deny)
    }
}

/// `count` rules, of which the first fits what comes from 172.16/12, and the last, if it is to be found, everything.
fn rules(count: usize, rule: fn(&mut Draw) -> IpRule, matched: Match) -> Vec<(u32, IpRule)> {
    let mut draw = Draw(count as u64);
    let mut rules: Vec<(u32, IpRule)> = (0..count as u32).map(|i| (i, rule(&mut draw))).collect();
    match matched {
        Match::First => {
            let src = AddrMatch { addr: 0xac10_0000, wildcard: 0x000f_ffff };
            rules[0].1 = IpRule { src, ..any(Action::Permit) };
        }
        Match::Last => rules[count - 1].1 = any(Action::Permit),
        Match::None => {}
    }
    rules
}

fn packets(matched: Match) -> Vec<FlowKey> {
    let mut draw = Draw(3);
    let key = |_| {
        let (a, b) = (draw.word(), draw.word());
        let net = if matched == Match::First { 0xac10_0000 } else { 0x0a00_0000 };
        let mapped = |addr: u32| std::net::Ipv4Addr::from(addr).to_ipv6_mapped().octets();
        FlowKey {
            src: mapped(net | a as u32 & 0x000f_ffff),
            dst: mapped(0x0a00_0000 | (a >> 32) as u32 & 0x00ff_ffff),
            protocol: if b & 1 == 0 { 6 } else { 17 },
            src_port: (b >> 8) as u16,
            dst_port: [22, 53, 80, 443, 8080, (b >> 24) as u16][(b >> 48) as usize % 6],
            shape: shape::IPV4 | shape::PORTS,
            ..FlowKey::default()
        }
    };
    (0..PACKETS).map(key).collect()
}

fn ids(rules: &[(u32, IpRule)]) -> Vec<u32> {
    (0..=rules.len() as u32).collect()
}

/// Nanoseconds a lookup.
fn time(packets: &[FlowKey], rounds: usize, mut find: impl FnMut(&FlowKey) -> u64) -> f64 {
    let start = Clock::now();
    let mut sum = 0u64;
    for _ in 0..rounds {
        for packet in packets {
            sum = sum.wrapping_add(find(black_box(packet)));
        }
    }
    black_box(sum);
    start.elapsed().as_nanos() as f64 / (rounds * packets.len()) as f64
}

fn row(name: &str, count: usize, rule: fn(&mut Draw) -> IpRule, matched: Match) {
    let rules = rules(count, rule, matched);
    let (ids, packets) = (ids(&rules), packets(matched));
    let list = IpList::new(&rules, &ids, true);
    let end = *ids.last().unwrap_or(&0);
    let wanted = [0, end.saturating_sub(1), end][matched as usize];
    let hits = packets.iter().filter(|packet| list.find(packet).rule.id() == Some(wanted)).count();
    assert!(hits * 10 > packets.len() * 9, "{hits} packets match where they should");
    let rounds = (WORK / PACKETS / count.max(8)).max(1);
    let (mut compiled, mut read) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        compiled.push(time(&packets, rounds * 4, |key| u64::from(list.find(key).permit)));
        read.push(time(&packets, rounds, |key| u64::from(plain::find_ip(&rules, &ids, true, key).permit)));
    }
    compiled.sort_by(f64::total_cmp);
    read.sort_by(f64::total_cmp);
    let figures = [compiled[0], compiled[RUNS / 2], read[0], read[RUNS / 2]];
    let ratio = figures[3] / figures[1];
    let figures = figures.map(|ns| format!("{ns:>10.1}")).concat();
    println!("{name:<36}{figures}{ratio:>9.1} {:>9}", list.octets() / 1024);
}

fn config(ports: u16, acls: Vec<AclConfig>) -> Config {
    let port = |id: u16| PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode: PortMode::Access(VlanId::DEFAULT),
        protected: false,
        mtu: 1500,
        ip_acl_in: Some(0),
        ip_acl_out: Some(0),
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in: None,
        flow_out: None,
        sampling: Default::default(),
    };
    Config { version: 1, vlans: VlanSet::all(), acls, ports: (1..=ports).map(port).collect(), ..Config::default() }
}

fn list(rules: Vec<(u32, IpRule)>) -> AclConfig {
    let rule_ids = ids(&rules);
    AclConfig { acl: Acl { name: "bench".into(), statistics: true, rules: Rules::Ip(rules) }, rule_ids }
}

/// The best of several runs, milliseconds.
fn best(mut run: impl FnMut() -> Duration) -> f64 {
    (0..5).map(|_| run()).min().unwrap_or_default().as_secs_f64() * 1e3
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Clock::now();
    black_box(run());
    start.elapsed()
}

fn change(name: &str, count: usize, rule: fn(&mut Draw) -> IpRule) {
    let rules = rules(count, rule, Match::Last);
    let ids = ids(&rules);
    let compile = best(|| timed(|| IpList::new(&rules, &ids, true)));
    let config = config(1_000, vec![list(rules)]);
    let mut other = config.clone();
    if let Some(AclConfig { acl: Acl { rules: Rules::Ip(rules), .. }, .. }) = other.acls.first_mut() {
        rules[count - 1].1.dscp = Some(1);
    }
    let running = Snapshot::build(&config).unwrap_or_default();
    let published = |config: &Config, previous: &Snapshot| {
        timed(|| {
            let mut snapshot = Snapshot::build_after(config, previous).unwrap_or_default();
            snapshot.succeed(&running);
            snapshot
        })
    };
    let apart = best(|| published(&config, &Snapshot::default()));
    let same = best(|| published(&config, &running));
    let changed = best(|| published(&other, &running));
    let figures = [compile, same, changed, apart].map(|ms| format!("{ms:>12.2}")).concat();
    println!("{name:<36}{figures}");
}

fn main() {
    let heads = ["best", "median", "plain", "median"].map(|name| format!("{name:>10}")).concat();
    println!("{:<36}{heads}{:>9} {:>9}", "ns per lookup", "x plain", "KiB");
    for count in [1, 10, 64, 100, 1_000, 10_000] {
        for (name, matched) in [("first", Match::First), ("last", Match::Last), ("no", Match::None)] {
            row(&format!("{count} rules, {name} match"), count, service, matched);
        }
    }
    row("1,000 nasty rules, last match", 1_000, nasty, Match::Last);
    row("10,000 nasty rules, last match", 10_000, nasty, Match::Last);
    let heads = ["compile", "same", "changed", "apart"].map(|name| format!("{name:>12}")).concat();
    println!("\n{:<36}{heads}", "ms; publishing: 1,000 ports");
    change("100 rules", 100, service);
    change("1,000 rules", 1_000, service);
    change("10,000 rules", 10_000, service);
    change("10,000 nasty rules", 10_000, nasty);
    change("60,000 nasty rules", 60_000, nasty);
}
