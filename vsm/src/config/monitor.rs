//! Monitor sessions: what was said of them, as text, as a module gets it, and the circles that they must not make.
//!
//! A destination carries copies alone, and copies are never mirrored, so no circle can ever carry a frame. It is refused all
//! the same when it is typed: who writes one has mistaken one port for another. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use proto::config::{Erspan, Erspan6, ErspanHeader, Filter, Receive, Session, SessionSource as Source, SourceKind};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::model::Model;

/// Where the copies of a session go; it can't change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionType {
    /// To ports of the switch.
    #[default]
    Local,
    /// Through the network.
    ErspanSource,
    /// To ports of the switch, of what others have copied.
    ErspanDestination,
}

impl SessionType {
    /// All of them.
    pub const ALL: [SessionType; 3] = [SessionType::Local, SessionType::ErspanSource, SessionType::ErspanDestination];

    /// The word of `monitor session N type`.
    pub fn word(self) -> &'static str {
        match self {
            SessionType::Local => "local",
            SessionType::ErspanSource => "erspan-source",
            SessionType::ErspanDestination => "erspan-destination",
        }
    }
}

/// `monitor session N`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MonitorSession {
    /// Where the copies go.
    pub kind: SessionType,
    /// Free text.
    pub description: Option<String>,
    /// Watched, in the order in which they were typed, each once.
    pub sources: Vec<SessionSource>,
    /// Interfaces that get the copies, each once.
    pub destinations: Vec<IfName>,
    /// Profiles whose ports get the copies, each once.
    pub destination_profiles: Vec<String>,
    /// `filter vlan`; never empty.
    pub filter_vlans: Option<VlanSet>,
    /// `filter access-group`
    pub filter_acl: Option<String>,
    /// `filter bpf`
    pub filter_bpf: Option<Filter>,
    /// `sampling`: of every so many frames one is copied.
    pub sampling: Option<u32>,
    /// `mtu`: copies are cut to that many octets.
    pub mtu: Option<u16>,
    /// `scope all`: of what several hosts see each sends its copy.
    pub every_host: bool,
    /// What is said of ERSPAN.
    pub erspan: ErspanSettings,
    /// `source ip` of a session of type erspan-destination: the address of a host that copies are sent to.
    pub receive_at: Option<IpAddr>,
    /// `filter origin`: hosts that copies are taken of, each once; empty for all.
    pub origins: Vec<IpAddr>,
    /// It is not run.
    pub shut: bool,
}

/// What a session says of ERSPAN.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErspanSettings {
    /// `erspan-id`, 1-1023.
    pub id: Option<u16>,
    /// `destination ip`
    pub destination: Option<IpAddr>,
    /// `origin ip-address`; to an IPv6 address it must be said.
    pub origin: Option<IpAddr>,
    /// `ip ttl`
    pub ttl: Option<u8>,
    /// `ip dscp`; `ip prec` is its upper three bits.
    pub dscp: Option<u8>,
    /// `header-type`
    pub header: Option<HeaderType>,
    /// `keep-tag`
    pub keep_tag: bool,
    /// `fragment`
    pub fragment: bool,
}

/// `header-type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderType {
    /// 2
    Two,
    /// 3, in units of 100 us.
    Micros100,
    /// 3, in units of 100 ns; when nothing more is said.
    Nanos100,
    /// 3, IEEE 1588.
    Ieee1588,
    /// 3, in the form of the Nexus 1000V.
    Nexus1000v,
}

impl HeaderType {
    /// All of them.
    pub const ALL: [HeaderType; 5] =
        [HeaderType::Two, HeaderType::Micros100, HeaderType::Nanos100, HeaderType::Ieee1588, HeaderType::Nexus1000v];

    /// What stands behind `header-type`.
    pub fn words(self) -> &'static str {
        match self {
            HeaderType::Two => "2",
            HeaderType::Micros100 => "3 granularity 100us",
            HeaderType::Nanos100 => "3",
            HeaderType::Ieee1588 => "3 granularity 1588",
            HeaderType::Nexus1000v => "3 platform n1kv",
        }
    }
}

/// Time to live of the outer packets, unless configured.
pub const TTL: u8 = 64;

impl ErspanSettings {
    fn lines(&self) -> Vec<String> {
        fn said(word: &str, value: Option<impl Display>) -> Option<String> {
            value.map(|value| format!("{word} {value}"))
        }
        let keep_tag = self.keep_tag.then(|| "keep-tag".to_owned());
        let lines = [
            said("erspan-id", self.id),
            said("destination ip", self.destination),
            said("origin ip-address", self.origin),
            said("ip ttl", self.ttl),
            said("ip dscp", self.dscp),
            said("header-type", self.header.map(HeaderType::words)),
            keep_tag,
            self.fragment.then(|| "fragment".to_owned()),
        ];
        lines.into_iter().flatten().collect()
    }

    /// What is sent by the family of the destination.
    fn sent(&self, domain: u16) -> Option<(Option<Erspan>, Option<Erspan6>)> {
        let header = match self.header.unwrap_or(HeaderType::Two) {
            HeaderType::Two => ErspanHeader::Two,
            HeaderType::Micros100 => ErspanHeader::Micros100,
            HeaderType::Nanos100 => ErspanHeader::Nanos100,
            HeaderType::Ieee1588 => ErspanHeader::Ieee1588,
            HeaderType::Nexus1000v => ErspanHeader::Nexus1000v(domain),
        };
        let sent = Erspan {
            id: self.id?,
            destination: 0,
            origin: None,
            header,
            ttl: self.ttl.unwrap_or(TTL),
            dscp: self.dscp.unwrap_or(0),
            keep_tag: self.keep_tag,
            fragment: self.fragment.then_some(true),
        };
        match (self.destination?, self.origin) {
            (IpAddr::V4(to), None) => Some((Some(Erspan { destination: to.into(), ..sent }), None)),
            (IpAddr::V4(to), Some(IpAddr::V4(from))) => {
                Some((Some(Erspan { destination: to.into(), origin: Some(from.into()), ..sent }), None))
            }
            (IpAddr::V6(to), Some(IpAddr::V6(from))) => {
                Some((None, Some(Erspan6 { sent, destination: to.into(), origin: from.into() })))
            }
            _ => None,
        }
    }

    /// The destination has no origin of its family, which it needs.
    pub fn lacks_origin(&self) -> bool {
        match (self.destination, self.origin) {
            (Some(to), Some(from)) => to.is_ipv4() != from.is_ipv4(),
            (Some(to), None) => to.is_ipv6(),
            _ => false,
        }
    }
}

/// A new session is shut until `no shut`.
impl Default for MonitorSession {
    fn default() -> Self {
        MonitorSession {
            kind: SessionType::default(),
            description: None,
            sources: Vec::new(),
            destinations: Vec::new(),
            destination_profiles: Vec::new(),
            filter_vlans: None,
            filter_acl: None,
            filter_bpf: None,
            sampling: None,
            mtu: None,
            every_host: false,
            erspan: ErspanSettings::default(),
            receive_at: None,
            origins: Vec::new(),
            shut: true,
        }
    }
}

/// A source of a monitor session; at least one direction is watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSource {
    /// Interface, VLAN or profile.
    pub what: SourceKind,
    /// Frames that enter the switch there.
    pub rx: bool,
    /// Frames that leave it there.
    pub tx: bool,
}

impl SessionSource {
    /// The line without `source`, as it is typed.
    pub fn line(&self) -> String {
        let way = match (self.rx, self.tx) {
            (true, false) => "rx",
            (false, true) => "tx",
            _ => "both",
        };
        match &self.what {
            SourceKind::Interface(name) => format!("interface {name} {way}"),
            SourceKind::Vlan(vlan) => format!("vlan {vlan} {way}"),
            SourceKind::Profile(name) => format!("port-profile {name} {way}"),
            SourceKind::Drops(None) => "drops".to_owned(),
            SourceKind::Drops(Some(reason)) => format!("drops {reason}"),
        }
    }
}

impl MonitorSession {
    /// Something is to get the copies.
    pub fn has_destination(&self) -> bool {
        let has_port = || !self.destinations.is_empty() || !self.destination_profiles.is_empty();
        match self.kind {
            SessionType::Local => has_port(),
            SessionType::ErspanSource => self.erspan.sent(0).is_some(),
            SessionType::ErspanDestination => self.erspan.id.is_some() && has_port(),
        }
    }

    /// The lines of its block, in the order of the configuration.
    pub fn lines(&self) -> Vec<String> {
        let said = |word: &str, value: Option<String>| value.map(|value| format!("{word} {value}"));
        let mut lines: Vec<String> = said("description", self.description.clone()).into_iter().collect();
        lines.extend(self.sources.iter().map(|source| format!("source {}", source.line())));
        lines.extend(self.destinations.iter().map(|name| format!("destination interface {name}")));
        lines.extend(self.destination_profiles.iter().map(|name| format!("destination port-profile {name}")));
        lines.extend(self.erspan.lines());
        lines.extend(said("source ip", self.receive_at.map(|at| at.to_string())));
        lines.extend(self.origins.iter().map(|origin| format!("filter origin {origin}")));
        lines.extend(said("filter vlan", self.filter_vlans.as_ref().map(VlanSet::to_string)));
        lines.extend(said("filter access-group", self.filter_acl.clone()));
        lines.extend(said("filter bpf", self.filter_bpf.as_ref().map(|filter| format!("\"{}\"", filter.text))));
        lines.extend(said("sampling", self.sampling.map(|n| n.to_string())));
        lines.extend(said("mtu", self.mtu.map(|octets| octets.to_string())));
        lines.extend(self.every_host.then(|| "scope all".to_owned()));
        lines.push(if self.shut { "shut" } else { "no shut" }.to_owned());
        lines
    }

    /// What a module is told, but for what other modules have to do with it ([`super::relay`]).
    pub fn compile(&self, id: u16, domain: u16) -> Session {
        let (erspan, erspan6) =
            self.erspan.sent(domain).filter(|_| self.kind == SessionType::ErspanSource).unwrap_or_default();
        let four = |address: &IpAddr| if let IpAddr::V4(four) = address { Some(u32::from(*four)) } else { None };
        let six = |address: &IpAddr| if let IpAddr::V6(six) = address { Some(u128::from(*six)) } else { None };
        let named = |_: &Vec<u32>| !self.origins.is_empty();
        let receive = |id| Receive {
            id,
            at: self.receive_at.as_ref().and_then(four),
            from: Some(self.origins.iter().filter_map(four).collect()).filter(named),
            at6: self.receive_at.as_ref().and_then(six),
            from6: Some(self.origins.iter().filter_map(six).collect::<Vec<_>>()).filter(|from| !from.is_empty()),
        };
        let source = |s: &SessionSource| Source { what: s.what.clone(), rx: s.rx, tx: s.tx };
        Session {
            id,
            sources: self.sources.iter().map(source).collect(),
            destinations: self.destinations.clone(),
            destination_profiles: Some(self.destination_profiles.clone()).filter(|profiles| !profiles.is_empty()),
            filter_vlans: self.filter_vlans.clone(),
            filter_acl: self.filter_acl.clone(),
            filter_bpf: self.filter_bpf.clone(),
            sampling: self.sampling,
            truncate: self.mtu,
            erspan,
            erspan6,
            receive: self.erspan.id.filter(|_| self.kind == SessionType::ErspanDestination).map(receive),
            relay: None,
            once: None,
        }
    }
}

/// Octets of Ethernet in front of the largest packet.
const LINK: usize = 14;

/// What to say of a session whose longest packets the path must be able to carry: more than Ethernet's usual ones.
pub fn length_warning(model: &Model, session: &MonitorSession) -> Option<String> {
    let mtus = |uplink: bool| {
        let fits = move |name: &IfName| name.is_ethernet() == uplink;
        let interfaces = model.interfaces.iter().filter(move |(name, _)| fits(name));
        interfaces.map(|(_, interface)| usize::from(model.interface_settings(interface).mtu)).max().unwrap_or(1500)
    };
    let headers = match session.erspan.header.unwrap_or(HeaderType::Two) {
        HeaderType::Two => 36,
        HeaderType::Micros100 | HeaderType::Nanos100 => 40,
        HeaderType::Ieee1588 | HeaderType::Nexus1000v => 48,
    };
    let headers = headers + if session.erspan.destination.is_some_and(|to| to.is_ipv6()) { 20 } else { 0 };
    let frame = session.mtu.map_or(usize::MAX, usize::from).min(mtus(false).max(mtus(true)) + LINK);
    let (packet, path) = (frame + headers, mtus(true));
    let is_cut = session.erspan.fragment && session.erspan.destination.is_none_or(|to| to.is_ipv4());
    (packet > path && !is_cut).then(|| {
        let cut = path - headers;
        format!(
            "Copies become packets of up to {packet} octets, which are not cut on the way: the path to the destination must \
             carry them, or 'fragment' allow it, or 'mtu {cut}' cut the copies"
        )
    })
}

/// What a module may say of a frame that it dropped, as `show drops` names it.
pub const DROP_REASONS: &[&str] = &[
    "runt",
    "oversize",
    "source-mac-invalid",
    "vlan-depth",
    "vlan-reserved",
    "ipv4-header",
    "ipv4-length",
    "ipv6-header",
    "ipv6-length",
    "ipv6-extensions",
    "l4-header",
    "fragment-tiny",
    "fragment-overlap",
    "arp-malformed",
    "offload-invalid",
    "port-down",
    "mirror-destination",
    "sensor-input",
    "monitor-input",
    "vlan-tagged-on-access",
    "vlan-not-allowed",
    "vlan-inactive",
    "reserved-group",
    "acl-deny",
    "acl-deny-out",
    "isolated",
    "static-drop",
    "same-port",
    "split-horizon",
    "no-destination",
    "vlan-not-allowed-out",
    "egress-down",
    "mtu-exceeded",
    "tx-full",
    "tx-error",
];

/// The interfaces that a session watches by name or profile; a VLAN names none.
fn watched(model: &Model, session: &MonitorSession) -> BTreeSet<IfName> {
    let of = |source: &SessionSource| match &source.what {
        SourceKind::Interface(name) => vec![*name],
        SourceKind::Profile(profile) => model.interfaces_of(profile).collect(),
        SourceKind::Vlan(_) | SourceKind::Drops(_) => Vec::new(),
    };
    session.sources.iter().flat_map(of).collect()
}

fn reached(model: &Model, session: &MonitorSession) -> BTreeSet<IfName> {
    let profiles = session.destination_profiles.iter().flat_map(|profile| model.interfaces_of(profile));
    session.destinations.iter().copied().chain(profiles).collect()
}

/// Interfaces that would get copies of their own copies by way of others, in the order of the circle.
///
/// # Errors
/// The circle, in words.
pub fn check_circles(model: &Model) -> Result<(), String> {
    let mut next: BTreeMap<IfName, BTreeMap<IfName, u16>> = BTreeMap::new();
    for (id, session) in &model.sessions {
        let to = reached(model, session);
        // A port that a session both watches and feeds is not watched by it.
        for from in watched(model, session).difference(&to) {
            let edges = next.entry(*from).or_default();
            to.iter().for_each(|to| _ = edges.entry(*to).or_insert(*id));
        }
    }
    let mut done = BTreeSet::new();
    let starts: Vec<IfName> = next.keys().copied().collect();
    for start in starts {
        if let Some(circle) = follow(&next, start, &mut done) {
            let path: Vec<String> = circle.iter().map(|(name, _)| name.to_string()).collect();
            let ids: BTreeSet<u16> = circle.iter().filter_map(|(_, id)| *id).collect();
            let ids: Vec<String> = ids.iter().map(u16::to_string).collect();
            return Err(format!("Monitor sessions {} mirror in a circle: {}", ids.join(", "), path.join(" -> ")));
        }
    }
    Ok(())
}

type Step = (IfName, Option<u16>);

/// A circle that begins somewhere on the ways from `start`, each step with the session that takes it. Depth first, without
/// recursion: a circle may be as long as there are sessions.
fn follow(
    next: &BTreeMap<IfName, BTreeMap<IfName, u16>>,
    start: IfName,
    done: &mut BTreeSet<IfName>,
) -> Option<Vec<Step>> {
    let mut path: Vec<Step> = vec![(start, None)];
    let empty = BTreeMap::new();
    let mut todo = vec![next.get(&start).unwrap_or(&empty).iter()];
    while let Some(edges) = todo.last_mut() {
        match edges.next() {
            Some((to, id)) => {
                if let Some(at) = path.iter().position(|(name, _)| name == to) {
                    path.push((*to, Some(*id)));
                    return Some(path.split_off(at));
                }
                if !done.contains(to) {
                    path.push((*to, Some(*id)));
                    todo.push(next.get(to).unwrap_or(&empty).iter());
                }
            }
            None => {
                todo.pop();
                done.extend(path.pop().map(|(name, _)| name));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(from: &[u32], to: &[u32]) -> MonitorSession {
        let source = |n: &u32| SessionSource { what: SourceKind::Interface(IfName::Vethernet(*n)), rx: true, tx: true };
        MonitorSession {
            sources: from.iter().map(source).collect(),
            destinations: to.iter().map(|n| IfName::Vethernet(*n)).collect(),
            ..MonitorSession::default()
        }
    }

    fn check(sessions: &[(&[u32], &[u32])]) -> Result<(), String> {
        let mut model = Model::default();
        for (id, (from, to)) in (1..).zip(sessions) {
            model.sessions.insert(id, session(from, to));
        }
        check_circles(&model)
    }

    #[test]
    fn circles_are_found_and_named() {
        assert_eq!(check(&[(&[1, 2], &[3]), (&[1], &[3, 4]), (&[3], &[5])]), Ok(()));
        assert_eq!(
            check(&[(&[9, 1], &[2]), (&[2], &[1])]).unwrap_err(),
            "Monitor sessions 1, 2 mirror in a circle: Vethernet1 -> Vethernet2 -> Vethernet1"
        );
        let long: Vec<([u32; 1], [u32; 1])> = (1..=200).map(|n| ([n], [n % 200 + 1])).collect();
        let long: Vec<(&[u32], &[u32])> = long.iter().map(|(from, to)| (&from[..], &to[..])).collect();
        assert!(check(&long).unwrap_err().ends_with("Vethernet200 -> Vethernet1"));
        assert_eq!(check(&long[..199]), Ok(()));
    }

    #[test]
    fn profiles_are_the_ports_that_inherit_from_them() {
        let mut model = Model::default();
        let inherit = Some("ids".to_owned());
        let interface = super::super::model::Interface { inherit, ..Default::default() };
        model.interfaces.insert(IfName::Vethernet(2), interface);
        let mut first = session(&[1], &[]);
        first.destination_profiles.push("ids".into());
        model.sessions.insert(1, first);
        let mut second = session(&[], &[1]);
        second.sources.push(SessionSource { what: SourceKind::Profile("ids".into()), rx: true, tx: false });
        model.sessions.insert(2, second);
        assert!(check_circles(&model).unwrap_err().contains("Vethernet1 -> Vethernet2 -> Vethernet1"));
        model.interfaces.clear();
        assert_eq!(check_circles(&model), Ok(()));
    }
}
