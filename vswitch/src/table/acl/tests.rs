//! Compiled lists against the same rules read one by one: random rules, the useless and the contradictory among them, and
//! packets that are made to fit a rule and then spoiled by one bit or one port, so that they lie at its bounds.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use proto::acl::{Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch};
use proto::addr::{MacAddr, VlanId};

use super::group::GROUP;
use super::*;
use crate::flow::key::{FlowKey, shape};

/// SplitMix64: a list of 10,000 rules is drawn from one number.
struct Draw(u64);

impl Draw {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.word() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn maybe<T>(&mut self, one_in: usize, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(one_in) == 0).then(|| some(self))
    }

    fn port(&mut self) -> u16 {
        let any = self.word() as u16;
        self.pick(&[0, 1, 22, 80, 443, 0x00ff, 0x0100, 32_768, 65_534, 65_535, any, any & 0xff])
    }

    fn ports(&mut self) -> PortMatch {
        let (a, b) = (self.port(), self.port());
        self.pick(&[
            PortMatch::Any,
            PortMatch::Any,
            PortMatch::Eq(a),
            PortMatch::Neq(a),
            PortMatch::Lt(a),
            PortMatch::Gt(a),
            PortMatch::Range(a, b),
            PortMatch::Range(a.min(b), a.max(b)),
        ])
    }

    fn address(&mut self) -> u32 {
        let any = self.word() as u32;
        self.pick(&[any, 0x0a00_0000 | any & 0xffff, 0x0a00_0000 | any & 0x3, 0, u32::MAX])
    }

    fn addr_match(&mut self) -> AddrMatch {
        let (any, len) = (self.word() as u32, self.below(33) as u32);
        let prefix = u32::MAX.checked_shr(len).unwrap_or(0);
        let wildcard = self.pick(&[0, prefix, prefix, u32::MAX, 0x0000_ff00, 0x00ff_00fe, 0x8000_0001, any]);
        // Without `new`, which clears the bits of the address that the mask ignores: a message may come with them set.
        AddrMatch { addr: self.address(), wildcard }
    }

    fn action(&mut self) -> Action {
        self.pick(&[Action::Permit, Action::Deny])
    }

    /// Conditions in any combination, those that the command line would not let through included.
    fn ip_rule(&mut self) -> IpRule {
        let any = self.word() as u8;
        let protocol = self.pick(&[None, Some(6), Some(6), Some(17), Some(17), Some(1), Some(47), Some(any)]);
        let kind = |d: &mut Self| d.pick(&[0, 3, 8, 255]);
        IpRule {
            action: self.action(),
            protocol,
            src: self.addr_match(),
            src_port: self.maybe(3, Self::ports).unwrap_or(PortMatch::Any),
            dst: self.addr_match(),
            dst_port: self.maybe(2, Self::ports).unwrap_or(PortMatch::Any),
            icmp_type: self.maybe(if protocol == Some(1) { 2 } else { 12 }, kind),
            icmp_code: self.maybe(4, |d| d.pick(&[0, 1, 2, 255])),
            dscp: self.maybe(5, |d| d.pick(&[0, 46, 63])),
        }
    }

    /// A port that fits the condition, or one beside its bounds.
    fn near(&mut self, ports: PortMatch) -> u16 {
        let any = self.port();
        let at = match ports {
            PortMatch::Any => any,
            PortMatch::Eq(p) | PortMatch::Neq(p) | PortMatch::Lt(p) | PortMatch::Gt(p) => p,
            PortMatch::Range(a, b) => self.pick(&[a, b, a / 2 + b / 2]),
        };
        at.wrapping_add(self.pick(&[0, 0, 1, u16::MAX]))
    }

    fn near_address(&mut self, rule: AddrMatch) -> [u8; 16] {
        let spoiled = self.maybe(8, |d| 1 << d.below(32)).unwrap_or(0);
        let address = rule.addr ^ self.word() as u32 & rule.wildcard ^ spoiled;
        Ipv4Addr::from(address).to_ipv6_mapped().octets()
    }

    fn packet(&mut self, rules: &[(u32, IpRule)]) -> FlowKey {
        let rule = if rules.is_empty() { self.ip_rule() } else { self.pick(rules).1 };
        let mut key = FlowKey {
            src: self.near_address(rule.src),
            dst: self.near_address(rule.dst),
            protocol: rule.protocol.filter(|_| self.below(10) > 0).unwrap_or(self.pick(&[6, 17, 1, 58, 47])),
            tos: rule.dscp.filter(|_| self.below(10) > 0).unwrap_or(self.pick(&[0, 46, 10])) << 2,
            shape: shape::IPV4,
            ..FlowKey::default()
        };
        match key.protocol {
            6 | 17 => {
                key.src_port = self.near(rule.src_port);
                key.dst_port = self.near(rule.dst_port);
            }
            1 => {
                let kind = rule.icmp_type.filter(|_| self.below(8) > 0).unwrap_or(self.pick(&[0, 3, 8]));
                key.dst_port = u16::from_be_bytes([kind, self.pick(&[0, 1, 2, 255])]);
            }
            _ => {}
        }
        if self.below(6) == 0 {
            key.shape |= shape::FRAGMENT | shape::LATER_FRAGMENT;
            (key.src_port, key.dst_port) = (0, 0);
        }
        key
    }

    fn mac_rule(&mut self) -> MacRule {
        let mut mac = || {
            let any = MacAddr::from_u64(self.word() & 0xffff_ffff_ffff);
            let wildcard = self.pick(&[MacAddr::BROADCAST, MacAddr::ZERO, MacAddr([0, 0, 0, 0xff, 0xff, 0xff]), any]);
            MacMatch::new(self.pick(&[any, MacAddr([2, 0, 0, 0, 0, any.0[5]])]), wildcard)
        };
        MacRule {
            src: mac(),
            dst: mac(),
            action: self.action(),
            ethertype: self.maybe(3, |d| d.pick(&[0x0806, 0x86dd, 0x88cc])),
            vlan: self.maybe(3, |d| d.pick(&[VlanId::DEFAULT, VlanId::new(256).unwrap(), VlanId::new(4094).unwrap()])),
        }
    }

    fn frame(&mut self, rules: &[(u32, MacRule)]) -> (FlowKey, VlanId) {
        let rule = if rules.is_empty() { self.mac_rule() } else { self.pick(rules).1 };
        let mut mac = |m: MacMatch| {
            let spoiled = self.maybe(8, |d| 1 << d.below(48)).unwrap_or(0);
            MacAddr::from_u64(m.addr.to_u64() ^ self.word() & m.wildcard.to_u64() ^ spoiled).0
        };
        let key = FlowKey {
            src_mac: mac(rule.src),
            dst_mac: mac(rule.dst),
            ethertype: rule.ethertype.filter(|_| self.below(8) > 0).unwrap_or(0x0806),
            ..FlowKey::default()
        };
        (key, rule.vlan.filter(|_| self.below(8) > 0).unwrap_or(VlanId::DEFAULT))
    }
}

/// Rule numbers as the agent gives them: in no order.
fn ids(rules: usize) -> Vec<u32> {
    (0..=rules as u32).map(|i| (i * 7 + 3) % 65_536).collect()
}

fn hold_ip(seed: u64, count: usize, packets: usize) {
    let mut draw = Draw(seed);
    let rules: Vec<(u32, IpRule)> = (0..count).map(|i| (i as u32, draw.ip_rule())).collect();
    // Rules that match much come last, so that packets get past them.
    let mut rules = rules;
    rules.sort_by_key(|(_, r)| r.src.wildcard.count_ones() + r.dst.wildcard.count_ones());
    let (ids, counted) = (ids(count), seed.is_multiple_of(2));
    let list = IpList::new(&rules, &ids, counted);
    for _ in 0..packets {
        let key = draw.packet(&rules);
        let expected = plain::find_ip(&rules, &ids, counted, &key);
        assert_eq!(list.find(&key), expected, "seed {seed}, {count} rules, {key:?}");
    }
}

fn hold_mac(seed: u64, count: usize, packets: usize) {
    let mut draw = Draw(seed);
    let mut rules: Vec<(u32, MacRule)> = (0..count).map(|i| (i as u32, draw.mac_rule())).collect();
    rules.sort_by_key(|(_, r)| r.src.wildcard.to_u64().count_ones() + r.dst.wildcard.to_u64().count_ones());
    let (ids, counted) = (ids(count), seed.is_multiple_of(2));
    let list = MacList::new(&rules, &ids, counted);
    for _ in 0..packets {
        let (key, vlan) = draw.frame(&rules);
        let expected = plain::find_mac(&rules, &ids, counted, &key, vlan);
        assert_eq!(list.find(&key, vlan), expected, "seed {seed}, {count} rules, {key:?} {vlan}");
    }
}

/// About the sizes at which something changes.
const SIZES: [usize; 16] = [0, 1, 2, 15, 16, 17, 40, 63, 64, 65, 100, 300, 511, 512, 513, 1_100];

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_ip_list_says_what_its_rules_say(seed: u64, size in 0..SIZES.len()) {
        hold_ip(seed, SIZES[size], 40);
    }

    #[test]
    fn a_mac_list_says_what_its_rules_say(seed: u64, size in 0..SIZES.len()) {
        hold_mac(seed, SIZES[size], 40);
    }
}

#[test]
fn ten_thousand_rules_say_what_they_say_one_by_one() {
    hold_ip(1, 10_000, 400);
    hold_mac(2, 10_000, 200);
}

#[test]
fn packets_meet_rules_and_the_end_of_the_list() {
    // What the properties rest on: the draws above do reach permits, denies and the implicit deny of a long list.
    let mut draw = Draw(5);
    let mut rules: Vec<(u32, IpRule)> = (0..600).map(|i| (i, draw.ip_rule())).collect();
    rules.retain(|(_, r)| r.src.wildcard.count_ones() < 24);
    let ids = ids(rules.len());
    let list = IpList::new(&rules, &ids, false);
    let found: Vec<Found> = (0..400).map(|_| list.find(&draw.packet(&rules))).collect();
    let count = |fits: &dyn Fn(&Found) -> bool| found.iter().filter(|f| fits(f)).count();
    let end = RuleRef::new(*ids.last().unwrap(), false);
    assert!(count(&|f| f.permit) > 40 && count(&|f| !f.permit && f.rule != end) > 40 && count(&|f| f.rule == end) > 4);
}

/// A rule for one host with a hole in its mask, or any other of the nastiest kinds.
fn worst(n: u32) -> IpRule {
    let holes = AddrMatch { addr: n.wrapping_mul(0x9e37_79b9) & 0x5555_5555, wildcard: 0xaaaa_aaaa };
    let first = (n.wrapping_mul(7919) & 0x7fff) as u16;
    IpRule {
        action: Action::Deny,
        protocol: Some(17),
        src: holes,
        src_port: PortMatch::Range(first, first | 0x8000),
        dst: AddrMatch { addr: holes.addr << 1, wildcard: 0x5555_5555 },
        dst_port: PortMatch::Neq(first),
        icmp_type: None,
        icmp_code: None,
        dscp: Some((n % 64) as u8),
    }
}

#[test]
fn the_worst_rules_take_no_more_memory_than_is_said() {
    let rules: Vec<(u32, IpRule)> = (0..10_000).map(|n| (n, worst(n))).collect();
    let list = IpList::new(&rules, &ids(rules.len()), true);
    let groups = rules.len().div_ceil(GROUP);
    assert!(list.octets() <= groups * 450_000, "{} octets of {groups} groups", list.octets());
    let mut draw = Draw(9);
    for _ in 0..40 {
        let key = draw.packet(&rules);
        assert_eq!(list.find(&key), plain::find_ip(&rules, &ids(rules.len()), true, &key));
    }
}
