//! The words of the stages.

use vswitch::egress::isolate;
use vswitch::flow::key::shape;
use vswitch::observe::passage::{Cached, Passage};
use vswitch::parse::Parsed;
use vswitch::snapshot::{PortPolicy, Snapshot};
use vswitch::table::acl::list::AclPair;
use vswitch::table::mac::SlotRef;
use vswitch::verdict::{Destination, Judgement, RuleRef, Verdict};

use proto::addr::VlanId;
use proto::vlan::PortMode;

/// Its destination was not asked for, because its source decided.
pub fn never_looked_up(j: &Judgement) -> bool {
    j.destination == Destination::At(SlotRef::NONE)
}

/// How the flow cache took a frame.
pub fn cached(cached: Cached) -> &'static str {
    match cached {
        Cached::Hit => "hit: the verdict of its flow held",
        Cached::Stale => "stale: its flow was known, and judged again",
        Cached::Miss => "miss: the first frame of its flow",
    }
}

/// How the flow cache would take a frame, by what it says of its flow.
pub fn would_be_cached(said: Option<(Judgement, bool)>) -> String {
    match said {
        Some((j, true)) => {
            let verdict = match j.verdict {
                Verdict::Forward(_) => "forwards",
                Verdict::Flood => "floods",
                Verdict::Drop(reason) => return format!("hit: its flow is known, and dropped as {}", reason.name()),
            };
            format!("hit: its flow is known, and the cache {verdict} it")
        }
        Some((_, false)) => "stale: its flow is known, and would be judged again".to_owned(),
        None => "miss: it would be the first frame of its flow".to_owned(),
    }
}

/// What a frame is.
pub fn parsed(parsed: &Parsed) -> String {
    let key = &parsed.key;
    let what = match () {
        () if key.is(shape::IPV4) => format!("IPv4, protocol {}", key.protocol),
        () if key.is(shape::IPV6) => format!("IPv6, protocol {}", key.protocol),
        () if key.is(shape::ARP) => "ARP".to_owned(),
        () if key.ethertype == 0 => "802.3 with a length".to_owned(),
        () => format!("ethertype 0x{:04x}", key.ethertype),
    };
    let part = match () {
        () if key.is(shape::LATER_FRAGMENT) => ", a fragment without ports",
        () if key.is(shape::FRAGMENT) => ", a first fragment",
        () => "",
    };
    let parts = if parsed.segments > 1 { format!(", {} segments", parsed.segments) } else { String::new() };
    let tags = match parsed.tags {
        0 => "no tag".to_owned(),
        1 => format!("tag VLAN {}", key.outer_vid),
        _ => format!("tags VLAN {} and {}", key.outer_vid, key.inner_vid),
    };
    format!("{what}{part}{parts}, {tags}")
}

/// The VLAN that a frame is switched in, and why that one.
pub fn vlan(vlan: Option<VlanId>, from: Option<&PortPolicy>, parsed: &Parsed) -> String {
    let Some(vlan) = vlan else { return String::new() };
    let why = match from.map(|from| &from.config.mode) {
        Some(PortMode::Access(_)) => "of the access port",
        Some(PortMode::Trunk { .. }) if parsed.key.outer_vid != 0 => "by its tag, allowed on the trunk",
        _ => "native of the trunk",
    };
    format!("VLAN {vlan}, {why}")
}

/// Why the list of the way in lets a frame pass.
pub fn permitted(from: Option<&PortPolicy>, j: &Judgement, parsed: &Parsed) -> &'static str {
    permitted_by(from.map(|from| &from.acl_in), j.rule_in, parsed)
}

/// Why the list of the way out lets a frame pass.
pub fn permitted_out(to: Option<&PortPolicy>, j: &Judgement, parsed: &Parsed) -> &'static str {
    permitted_by(to.map(|to| &to.acl_out), j.rule_out, parsed)
}

fn permitted_by(lists: Option<&AclPair>, rule: RuleRef, parsed: &Parsed) -> &'static str {
    let is_v4 = parsed.key.is(shape::IPV4);
    let [ip, mac] = lists.map_or([None, None], AclPair::names);
    let has_one = if is_v4 { ip.is_some() } else { mac.is_some() };
    match (rule.id(), has_one, is_v4) {
        (Some(_), ..) => "permitted",
        (None, true, _) => "its list has no rules, and permits everything",
        (None, false, true) => "no IP list here",
        (None, false, false) => "no MAC list here, and IP lists judge IPv4",
    }
}

/// Why isolation lets a frame pass.
pub fn apart(snapshot: &Snapshot, p: &Passage, to: Option<&PortPolicy>) -> &'static str {
    match (snapshot.port(p.port), to) {
        (Some(from), Some(to)) if !isolate::apart(snapshot, from, to, &p.parsed) => {
            match (from.config.protected, to.config.protected) {
                (false, false) => "neither end is protected",
                _ => "one end alone is protected",
            }
        }
        _ => "",
    }
}

/// Why the size lets a frame pass.
pub fn mtu(p: &Passage, to: Option<&PortPolicy>) -> String {
    let most = to.map_or(0, |to| to.config.mtu);
    match p.parsed.packet_max {
        0 => "not IP, so only the device bounds it".to_owned(),
        octets => format!("{octets} of {most} octets"),
    }
}
