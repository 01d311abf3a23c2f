//! What is shown of policies: `show acl`, `acl pinst`, `profile`, `span`, `netflow monitor`, `netflow interface`.
//!
//! Rules are written with numbers throughout: names of services are the supervisor's.

use std::net::Ipv4Addr;

use proto::acl::{Acl, Action, AddrMatch, IpRule, MacMatch, MacRule, PortMatch, Rules};
use proto::config::{HostConfig, PortSettings, ProfileType, SourceKind};
use proto::flow::Sampling;
use proto::vlan::PortMode;

use super::columns::Columns;
use super::name_text;
use crate::switch::Switch;

fn host(switch: &Switch) -> HostConfig {
    switch.host_config().cloned().unwrap_or_default()
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Permit => "permit",
        Action::Deny => "deny",
    }
}

fn address(addr: AddrMatch) -> String {
    match (addr.prefix_len(), Ipv4Addr::from(addr.addr)) {
        (Some(0), _) => "any".to_owned(),
        (Some(len), ip) => format!("{ip}/{len}"),
        (None, ip) => format!("{ip} {}", Ipv4Addr::from(addr.wildcard)),
    }
}

fn port(port: PortMatch) -> String {
    match port {
        PortMatch::Any => String::new(),
        PortMatch::Eq(p) => format!(" eq {p}"),
        PortMatch::Neq(p) => format!(" neq {p}"),
        PortMatch::Lt(p) => format!(" lt {p}"),
        PortMatch::Gt(p) => format!(" gt {p}"),
        PortMatch::Range(first, last) => format!(" range {first} {last}"),
    }
}

fn ip_rule(rule: &IpRule) -> String {
    let protocol = match rule.protocol {
        None => "ip".to_owned(),
        Some(1) => "icmp".to_owned(),
        Some(6) => "tcp".to_owned(),
        Some(17) => "udp".to_owned(),
        Some(n) => n.to_string(),
    };
    let mut text = format!("{} {protocol} {}{}", action(rule.action), address(rule.src), port(rule.src_port));
    text.push_str(&format!(" {}{}", address(rule.dst), port(rule.dst_port)));
    let ends = [("type", rule.icmp_type), ("code", rule.icmp_code), ("dscp", rule.dscp)];
    text.extend(ends.iter().filter_map(|(word, n)| n.map(|n| format!(" {word} {n}"))));
    text
}

fn mac_address(mac: MacMatch) -> String {
    match mac {
        MacMatch::ANY => "any".to_owned(),
        MacMatch { addr, wildcard } => format!("{addr} {wildcard}"),
    }
}

fn mac_rule(rule: &MacRule) -> String {
    let mut text = format!("{} {} {}", action(rule.action), mac_address(rule.src), mac_address(rule.dst));
    text.extend(rule.ethertype.map(|ethertype| format!(" 0x{ethertype:04x}")));
    text.extend(rule.vlan.map(|vlan| format!(" vlan {vlan}")));
    text
}

fn rules(acl: &Acl) -> (&'static str, Vec<(u32, String)>) {
    match &acl.rules {
        Rules::Ip(rules) => ("ip", rules.iter().map(|(n, rule)| (*n, ip_rule(rule))).collect()),
        Rules::Mac(rules) => ("mac", rules.iter().map(|(n, rule)| (*n, mac_rule(rule))).collect()),
    }
}

/// `show acl`
pub fn lists(switch: &Switch) -> String {
    let mut text = String::new();
    let numbers = &switch.plan().numbers.rules;
    for acl in &host(switch).acls {
        let (kind, rules) = rules(acl);
        let counted = if acl.statistics { ", counted" } else { "" };
        text.push_str(&format!("{kind} access list {}: {} rules{counted}\n", acl.name, rules.len()));
        for (sequence, rule) in rules {
            let named = numbers.iter(Some(&acl.name)).find(|((_, at), _)| *at == Some(sequence));
            let matches = named.filter(|_| acl.statistics).map(|(_, id)| switch.control().rule_matches(id));
            let matches = matches.map(|n| format!("  [{n} matches]")).unwrap_or_default();
            text.push_str(&format!("  {sequence} {rule}{matches}\n"));
        }
    }
    if text.is_empty() { "no access lists\n".to_owned() } else { text }
}

/// The lists of a port, as its settings name them; one that does not exist permits everything.
fn bound(host: &HostConfig, settings: &PortSettings) -> [String; 4] {
    let lists = [&settings.ip_acl_in, &settings.ip_acl_out, &settings.mac_acl_in, &settings.mac_acl_out];
    lists.map(|name| match name {
        None => "-".to_owned(),
        Some(name) if host.acls.iter().any(|acl| acl.name == *name) => name.clone(),
        Some(name) => format!("{name} (does not exist)"),
    })
}

/// `show acl pinst`
pub fn bound_lists(switch: &Switch) -> String {
    let host = host(switch);
    let mut table = Columns::new(&["LTL", "Port", "IP in", "IP out", "MAC in", "MAC out"]);
    for port in &switch.plan().ports {
        let lists = bound(&host, &port.settings);
        if lists.iter().any(|list| list != "-") {
            table.row([port.id.0.to_string(), name_text(port.name)].into_iter().chain(lists));
        }
    }
    table.text("no port has an access list")
}

/// `show profile`
pub fn profiles(switch: &Switch) -> String {
    let host = host(switch);
    let mut table = Columns::new(&[
        "Profile",
        "Type",
        "State",
        "Ports",
        "Admin",
        "Mode",
        "VLANs",
        "Protected",
        "MTU",
        "IP in",
        "IP out",
        "MAC in",
        "MAC out",
        "Flow in",
        "Flow out",
    ]);
    for profile in &host.profiles {
        let set = &profile.settings;
        let ports = switch.plan().ports.iter().filter(|port| port.profile == profile.name).count();
        let (mode, vlans) = match &set.mode {
            PortMode::Access(vlan) => ("access", vlan.to_string()),
            PortMode::Trunk { allowed, .. } => ("trunk", allowed.to_string()),
        };
        let word = |yes: bool, [is, is_not]: [&str; 2]| if yes { is.to_owned() } else { is_not.to_owned() };
        let flow = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        let front = [
            profile.name.clone(),
            word(profile.kind == ProfileType::Vethernet, ["vethernet", "ethernet"]),
            word(profile.enabled, ["enabled", "disabled"]),
            ports.to_string(),
            word(set.admin_up, ["up", "down"]),
            mode.to_owned(),
            vlans,
            word(set.protected, ["yes", "no"]),
            set.mtu.to_string(),
        ];
        table.row(front.into_iter().chain(bound(&host, set)).chain([flow(&set.flow_in), flow(&set.flow_out)]));
    }
    table.text("no port profiles")
}

/// `show span`
pub fn sessions(switch: &Switch) -> String {
    let host = host(switch);
    let mut text = String::new();
    for session in &host.sessions {
        let plan = switch.plan().sessions.iter().find(|plan| plan.id == session.id);
        let relayed = plan.map(|plan| plan.relayed.as_slice()).unwrap_or_default();
        let state = match plan.map(|plan| switch.session_down(plan)) {
            Some(None) if !relayed.is_empty() => {
                let modules: Vec<String> = relayed.iter().map(u8::to_string).collect();
                format!("up, relayed to module {}", modules.join(", "))
            }
            Some(None) => "up".to_owned(),
            Some(Some(why)) => format!("down ({why})"),
            None => "not planned".to_owned(),
        };
        let source = |source: &proto::config::SessionSource| {
            let what = match &source.what {
                SourceKind::Interface(name) => name.short(),
                SourceKind::Vlan(vlan) => format!("VLAN {vlan}"),
                SourceKind::Profile(name) => format!("profile {name}"),
                SourceKind::Drops(reason) => return format!("drops {}", reason.as_deref().unwrap_or("any")),
            };
            let way = match (source.rx, source.tx) {
                (true, true) => "both",
                (true, false) => "rx",
                _ => "tx",
            };
            format!("{what} {way}")
        };
        let sources: Vec<String> = session.sources.iter().map(source).collect();
        let profiles = session.destination_profiles.iter().flatten().map(|name| format!("profile {name}"));
        let destinations: Vec<String> = session.destinations.iter().map(|name| name.short()).chain(profiles).collect();
        let stats = plan.map(|plan| switch.control().session_stats(plan.id)).unwrap_or_default();
        text.push_str(&format!(
            "session {}: {state}\n  Sources      : {}\n  Destinations : {}\n  Copied {}, dropped {}, segmented {}, received {}\n",
            session.id,
            sources.join(", "),
            destinations.join(", "),
            stats.copied,
            stats.dropped,
            stats.segmented,
            stats.received
        ));
    }
    if text.is_empty() { "no monitor sessions\n".to_owned() } else { text }
}

/// `show netflow monitor`
pub fn monitors(switch: &Switch) -> String {
    let mut table = Columns::new(&["Monitor", "Record", "Exporters", "Active", "Inactive", "Number", "Filter"]);
    let host = host(switch);
    for monitor in &host.monitors {
        let meter = host.meters.iter().flatten().find(|meter| meter.monitor == monitor.name);
        let list = meter.and_then(|meter| meter.filter.clone());
        let program = meter.and_then(|meter| meter.filter_bpf.as_ref()).map(|filter| format!("\"{}\"", filter.text));
        let filters: Vec<String> = list.into_iter().chain(program).collect();
        let number = switch.plan().numbers.monitors.index(&monitor.name);
        table.row([
            monitor.name.clone(),
            monitor.record.clone().unwrap_or_else(|| "built-in".to_owned()),
            monitor.exporters.join(", "),
            format!("{} s", monitor.active_s),
            format!("{} s", monitor.inactive_s),
            number.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            if filters.is_empty() { "-".to_owned() } else { filters.join(", ") },
        ]);
    }
    table.text("no flow monitors")
}

/// `show netflow interface`
pub fn monitored(switch: &Switch) -> String {
    let mut table = Columns::new(&["LTL", "Port", "Input", "Output"]);
    for port in switch.plan().ports.iter() {
        let set = &port.settings;
        if set.flow_in.is_some() || set.flow_out.is_some() {
            let rates = switch.control().running().port(port.id).map(|policy| policy.config.sampling);
            let [input, output] = rates.unwrap_or_default();
            let word = |name: &Option<String>, rate: Sampling| match name {
                None => "-".to_owned(),
                Some(name) if rate == Sampling::NONE => name.clone(),
                Some(name) => format!("{name} ({}:{})", rate.count(), rate.out_of()),
            };
            let front = [port.id.0.to_string(), name_text(port.name)];
            table.row(front.into_iter().chain([word(&set.flow_in, input), word(&set.flow_out, output)]));
        }
    }
    table.text("no port has a flow monitor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_with_numbers() {
        let rule = IpRule {
            action: Action::Deny,
            protocol: Some(6),
            src: AddrMatch::prefix(Ipv4Addr::new(10, 1, 0, 0), 16),
            src_port: PortMatch::Range(1, 9),
            dst: AddrMatch::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(0, 255, 0, 0)),
            dst_port: PortMatch::Eq(23),
            icmp_type: None,
            icmp_code: None,
            dscp: Some(46),
        };
        assert_eq!(ip_rule(&rule), "deny tcp 10.1.0.0/16 range 1 9 10.0.0.1 0.255.0.0 eq 23 dscp 46");
        let mac = MacRule {
            action: Action::Permit,
            src: MacMatch::ANY,
            dst: MacMatch::new("0200.0000.0001".parse().unwrap(), proto::addr::MacAddr::ZERO),
            ethertype: Some(0x806),
            vlan: None,
        };
        assert_eq!(mac_rule(&mac), "permit any 0200.0000.0001 0000.0000.0000 0x0806");
    }
}
