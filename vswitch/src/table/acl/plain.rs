//! A list as it is read by a person: rule by rule, in the words of the configuration. The oracle of the compiled lists,
//! and what their benchmark is held against; never on the road.

use proto::acl::{Action, IpRule, MacRule, PortMatch};
use proto::addr::VlanId;

use super::{Found, implicit, otherwise};
use crate::flow::key::{FlowKey, shape};
use crate::verdict::RuleRef;
use crate::wire::transport::{ICMP, TCP, UDP};

/// As [`super::IpList::find`], straight from the rules and their numbers.
pub fn find_ip(rules: &[(u32, IpRule)], ids: &[u32], counted: bool, key: &FlowKey) -> Found {
    let hit = rules.iter().zip(ids).find(|((_, rule), _)| matches_ip(rule, key));
    match hit {
        Some(((_, rule), id)) => Found { permit: rule.action == Action::Permit, rule: RuleRef::new(*id, counted) },
        None => otherwise(implicit(rules.len(), ids, counted)),
    }
}

/// As [`super::MacList::find`], straight from the rules and their numbers.
pub fn find_mac(rules: &[(u32, MacRule)], ids: &[u32], counted: bool, key: &FlowKey, vlan: VlanId) -> Found {
    let matches = |rule: &MacRule| {
        rule.ethertype.is_none_or(|ethertype| ethertype == key.ethertype)
            && rule.vlan.is_none_or(|wanted| wanted == vlan)
            && rule.src.matches(key.src_mac())
            && rule.dst.matches(key.dst_mac())
    };
    match rules.iter().zip(ids).find(|((_, rule), _)| matches(rule)) {
        Some(((_, rule), id)) => Found { permit: rule.action == Action::Permit, rule: RuleRef::new(*id, counted) },
        None => otherwise(implicit(rules.len(), ids, counted)),
    }
}

fn matches_ip(rule: &IpRule, key: &FlowKey) -> bool {
    let address = |octets: [u8; 16]| {
        let [.., a, b, c, d] = octets;
        u32::from_be_bytes([a, b, c, d])
    };
    let l3 = rule.protocol.is_none_or(|protocol| protocol == key.protocol)
        && rule.src.matches(address(key.src))
        && rule.dst.matches(address(key.dst))
        && rule.dscp.is_none_or(|dscp| dscp == key.tos >> 2);
    let ports = rule.src_port != PortMatch::Any || rule.dst_port != PortMatch::Any;
    if !l3 || (!ports && rule.icmp_type.is_none()) {
        return l3;
    }
    // From here on the rule has conditions on the transport header.
    let has_ports = [TCP, UDP].contains(&key.protocol);
    match (ports, rule.icmp_type) {
        (true, Some(_)) => false,
        (true, None) if key.is(shape::LATER_FRAGMENT) => {
            has_ports && rule.action == Action::Permit && possible(rule.src_port) && possible(rule.dst_port)
        }
        (true, None) => has_ports && rule.src_port.matches(key.src_port) && rule.dst_port.matches(key.dst_port),
        (false, _) if key.is(shape::LATER_FRAGMENT) => key.protocol == ICMP && rule.action == Action::Permit,
        (false, kind) => {
            let [sent_kind, sent_code] = key.dst_port.to_be_bytes();
            key.protocol == ICMP
                && kind.is_none_or(|kind| kind == sent_kind)
                && rule.icmp_code.is_none_or(|code| code == sent_code)
        }
    }
}

/// Some port fits; a rule that no packet at all can match is no rule, for fragments neither.
fn possible(ports: PortMatch) -> bool {
    match ports {
        PortMatch::Lt(port) => port > 0,
        PortMatch::Gt(port) => port < u16::MAX,
        PortMatch::Range(first, last) => first <= last,
        PortMatch::Any | PortMatch::Eq(_) | PortMatch::Neq(_) => true,
    }
}
