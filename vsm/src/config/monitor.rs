//! Monitor sessions: what was said of them, as text, as a module gets it, and the circles that they must not make.
//!
//! A destination carries copies alone, and copies are never mirrored, so no circle can ever carry a frame. It is refused all
//! the same when it is typed: who writes one has mistaken one port for another. Pure.

use std::collections::{BTreeMap, BTreeSet};

use proto::config::{Session, SessionSource as Source, SourceKind};
use proto::name::IfName;
use proto::vlan::VlanSet;

use super::model::Model;

/// Where the copies of a session go; it can't change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionType {
    /// To ports of the switch.
    #[default]
    Local,
}

impl SessionType {
    /// All of them.
    pub const ALL: [SessionType; 1] = [SessionType::Local];

    /// The word of `monitor session N type`.
    pub fn word(self) -> &'static str {
        match self {
            SessionType::Local => "local",
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
    /// It is not run.
    pub shut: bool,
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
        }
    }
}

impl MonitorSession {
    /// Something is to get the copies.
    pub fn has_destination(&self) -> bool {
        !self.destinations.is_empty() || !self.destination_profiles.is_empty()
    }

    /// The lines of its block, in the order of the configuration.
    pub fn lines(&self) -> Vec<String> {
        let said = |word: &str, value: Option<String>| value.map(|value| format!("{word} {value}"));
        let mut lines: Vec<String> = said("description", self.description.clone()).into_iter().collect();
        lines.extend(self.sources.iter().map(|source| format!("source {}", source.line())));
        lines.extend(self.destinations.iter().map(|name| format!("destination interface {name}")));
        lines.extend(self.destination_profiles.iter().map(|name| format!("destination port-profile {name}")));
        lines.extend(said("filter vlan", self.filter_vlans.as_ref().map(VlanSet::to_string)));
        lines.extend(said("filter access-group", self.filter_acl.clone()));
        lines.push(if self.shut { "shut" } else { "no shut" }.to_owned());
        lines
    }

    /// What a module is told.
    pub fn compile(&self, id: u16) -> Session {
        let source = |s: &SessionSource| Source { what: s.what.clone(), rx: s.rx, tx: s.tx };
        Session {
            id,
            sources: self.sources.iter().map(source).collect(),
            destinations: self.destinations.clone(),
            destination_profiles: Some(self.destination_profiles.clone()).filter(|profiles| !profiles.is_empty()),
            filter_vlans: self.filter_vlans.clone(),
            filter_acl: self.filter_acl.clone(),
        }
    }
}

/// The interfaces that a session watches by name or profile; a VLAN names none.
fn watched(model: &Model, session: &MonitorSession) -> BTreeSet<IfName> {
    let of = |source: &SessionSource| match &source.what {
        SourceKind::Interface(name) => vec![*name],
        SourceKind::Profile(profile) => model.interfaces_of(profile).collect(),
        SourceKind::Vlan(_) => Vec::new(),
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
