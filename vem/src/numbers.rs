//! Numbers that must not move when a configuration changes: of access-list rules and of flow monitors.
//!
//! The dataplane counts a rule's matches under the rule's number, and a cached flow remembers its monitors by number. So
//! a rule that is still there after a change keeps its number, and with it its count; a rule that is new gets a number
//! that no rule has, and its counter starts at zero. A rule is the same when it says the same and stands at the same
//! sequence number; after `resequence`, when it says the same.
//!
//! Free numbers are given out in a circle, so that a number is unused for as long as possible before it means another
//! rule: the last dropped frames still name their rule.
//!
//! Pure: a new plan is made from the old one, which stays as it is until the change is committed.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use proto::acl::{Acl, IpRule, MacRule, Rules};
use proto::config::HostConfig;
use proto::flow::{Destination, Monitor, Record, Version};
use vswitch::config::{AclConfig, Error, RULES_MAX};
use vswitch::flow::record::{MONITORS_MAX, MonitorSet};

/// What a rule says; `None` is the implicit deny at the end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Said {
    Ip(IpRule),
    Mac(MacRule),
    ImplicitDeny,
}

/// A rule's place, and what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Numbered {
    sequence: Option<u32>,
    said: Said,
    id: u32,
}

/// The numbers of all rules.
#[derive(Clone, Debug, Default)]
pub struct RuleNumbers {
    lists: BTreeMap<String, Vec<Numbered>>,
    next: u32,
}

/// The name of a rule: its list, and its sequence number (`None` for the implicit deny).
pub type RuleName<'a> = (&'a str, Option<u32>);

impl RuleNumbers {
    /// The numbers for `acls`, the lists with their numbers, and which numbers now mean another rule than before.
    ///
    /// # Errors
    /// There are more rules than numbers, or two lists have one name.
    pub fn assign(&self, acls: &[Acl]) -> Result<(RuleNumbers, Vec<AclConfig>, Vec<u32>), Error> {
        let count: usize = acls.iter().map(|acl| said(acl).len()).sum();
        if count > RULES_MAX {
            return Err(Error::Limit { what: "access-list rules", count, max: RULES_MAX });
        }
        let mut kept: Vec<Vec<Kept>> = Vec::with_capacity(acls.len());
        let mut used: BTreeSet<u32> = BTreeSet::new();
        for acl in acls {
            let rules = keep(self.lists.get(&acl.name).map(Vec::as_slice).unwrap_or_default(), said(acl));
            used.extend(rules.iter().filter_map(|(_, _, id)| *id));
            kept.push(rules);
        }
        let mut new = RuleNumbers { lists: BTreeMap::new(), next: self.next };
        let mut configs = Vec::with_capacity(acls.len());
        let mut fresh = Vec::new();
        for (acl, rules) in acls.iter().zip(kept) {
            let mut numbered = Vec::with_capacity(rules.len());
            for (sequence, said, id) in rules {
                let id = id.unwrap_or_else(|| {
                    let id = new.take_free(&mut used);
                    fresh.push(id);
                    id
                });
                numbered.push(Numbered { sequence, said, id });
            }
            let rule_ids = numbered.iter().map(|rule| rule.id).collect();
            configs.push(AclConfig { acl: acl.clone(), rule_ids });
            if new.lists.insert(acl.name.clone(), numbered).is_some() {
                return Err(Error::Twice(format!("access list '{}'", acl.name)));
            }
        }
        Ok((new, configs, fresh))
    }

    /// The rule that has a number.
    pub fn name(&self, id: u32) -> Option<RuleName<'_>> {
        let mut lists = self.lists.iter();
        lists.find_map(|(name, rules)| {
            rules.iter().find(|rule| rule.id == id).map(|rule| (name.as_str(), rule.sequence))
        })
    }

    /// The rules of a list with their numbers, or of all lists.
    pub fn iter<'a>(&'a self, list: Option<&'a str>) -> impl Iterator<Item = (RuleName<'a>, u32)> + 'a {
        let lists = self.lists.iter().filter(move |(name, _)| list.is_none_or(|wanted| wanted == name.as_str()));
        lists.flat_map(|(name, rules)| rules.iter().map(move |rule| ((name.as_str(), rule.sequence), rule.id)))
    }

    /// The caller has checked that fewer than [`RULES_MAX`] numbers are used.
    fn take_free(&mut self, used: &mut BTreeSet<u32>) -> u32 {
        let max = u32::try_from(RULES_MAX).unwrap_or(u32::MAX);
        let mut id = self.next % max;
        while used.contains(&id) {
            id = (id + 1) % max;
        }
        used.insert(id);
        self.next = (id + 1) % max;
        id
    }
}

fn said(acl: &Acl) -> Vec<(Option<u32>, Said)> {
    let mut rules: Vec<(Option<u32>, Said)> = match &acl.rules {
        Rules::Ip(rules) => rules.iter().map(|(sequence, rule)| (Some(*sequence), Said::Ip(*rule))).collect(),
        Rules::Mac(rules) => rules.iter().map(|(sequence, rule)| (Some(*sequence), Said::Mac(*rule))).collect(),
    };
    rules.push((None, Said::ImplicitDeny));
    rules
}

/// A rule's place, what it says, and its number if it had one.
type Kept = (Option<u32>, Said, Option<u32>);

/// Gives each rule of `new` the number of the same rule of `old`.
fn keep(old: &[Numbered], new: Vec<(Option<u32>, Said)>) -> Vec<Kept> {
    let here: HashMap<(Option<u32>, Said), u32> = old.iter().map(|r| ((r.sequence, r.said), r.id)).collect();
    let mut rules: Vec<Kept> = new.into_iter().map(|(s, said)| (s, said, here.get(&(s, said)).copied())).collect();
    let taken: BTreeSet<u32> = rules.iter().filter_map(|(_, _, id)| *id).collect();
    let mut moved: HashMap<Said, Vec<u32>> = HashMap::new();
    for rule in old.iter().rev().filter(|r| !taken.contains(&r.id)) {
        moved.entry(rule.said).or_default().push(rule.id);
    }
    for (_, said, id) in rules.iter_mut().filter(|(_, _, id)| id.is_none()) {
        *id = moved.get_mut(said).and_then(Vec::pop);
    }
    rules
}

/// What makes a flow monitor this one: its name, what it exports, and where to. Its timers may change.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    name: String,
    record: Option<Record>,
    exporters: Vec<(String, Version, Vec<Destination>)>,
}

impl Identity {
    fn of(monitor: &Monitor, host: &HostConfig) -> Identity {
        let record = host.records.iter().find(|record| Some(&record.name) == monitor.record.as_ref());
        let exporters = monitor.exporters.iter().filter_map(|name| host.exporters.iter().find(|e| e.name == *name));
        Identity {
            name: monitor.name.clone(),
            record: record.cloned(),
            exporters: exporters.map(|e| (e.name.clone(), e.version, e.destinations.clone())).collect(),
        }
    }
}

/// The numbers of the flow monitors: a place for each, empty places where one has gone.
///
/// Flows and reports name a monitor by its number. So one that goes, or exports otherwise, leaves its place empty until
/// nothing can name it any more: [`MonitorNumbers::release`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MonitorNumbers {
    places: Vec<Option<Identity>>,
    /// Not to be given out, though nobody has them.
    withheld: MonitorSet,
}

impl MonitorNumbers {
    /// The numbers for the monitors of `host`. Those of monitors that are there no more are withheld.
    ///
    /// # Errors
    /// There are more monitors than free numbers, or two have one name.
    pub fn assign(&self, host: &HostConfig) -> Result<MonitorNumbers, Error> {
        let count = host.monitors.len();
        let limit = |count| Error::Limit { what: "flow monitors", count, max: MONITORS_MAX };
        if count > MONITORS_MAX {
            return Err(limit(count));
        }
        if host.monitors.iter().map(|monitor| &monitor.name).collect::<BTreeSet<_>>().len() != count {
            return Err(Error::Twice("a flow monitor".to_owned()));
        }
        let wanted: Vec<Identity> = host.monitors.iter().map(|monitor| Identity::of(monitor, host)).collect();
        let stays = |place: &Option<Identity>| place.clone().filter(|identity| wanted.contains(identity));
        let mut new = MonitorNumbers { places: self.places.iter().map(stays).collect(), withheld: self.withheld };
        new.withheld |= self.given() & !new.given();
        for identity in wanted {
            if new.places.iter().flatten().any(|held| *held == identity) {
                continue;
            }
            let taken = new.withheld | new.given();
            let number = (0..MONITORS_MAX).find(|number| taken >> number & 1 == 0);
            let number = number.ok_or_else(|| limit(count + new.withheld.count_ones() as usize))?;
            if new.places.len() <= number {
                new.places.resize(number + 1, None);
            }
            if let Some(place) = new.places.get_mut(number) {
                *place = Some(identity);
            }
        }
        while new.places.last().is_some_and(Option::is_none) {
            new.places.pop();
        }
        Ok(new)
    }

    /// There are free numbers for every monitor of `host` that has none.
    pub fn has_room(&self, host: &HostConfig) -> bool {
        let taken = self.withheld | self.given();
        let new = host.monitors.iter().filter(|monitor| !self.knows(monitor, host)).count();
        new <= taken.count_zeros() as usize
    }

    /// The monitor has a number, and exports as it did when it got that.
    pub fn knows(&self, monitor: &Monitor, host: &HostConfig) -> bool {
        let wanted = Identity::of(monitor, host);
        self.places.iter().flatten().any(|identity| *identity == wanted)
    }

    /// The numbers that monitors have.
    pub fn given(&self) -> MonitorSet {
        (0..MONITORS_MAX).zip(&self.places).fold(0, |set, (n, place)| set | MonitorSet::from(place.is_some()) << n)
    }

    /// Numbers of `others`, which may have come to run, are not given out by this.
    pub fn withhold(&mut self, others: &MonitorNumbers) {
        self.withheld |= others.withheld | others.given() & !self.given();
    }

    /// Nothing names a monitor any more that is not here.
    pub fn release(&mut self) {
        self.withheld = 0;
    }

    /// The number of a monitor.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.iter().position(|place| place == Some(name))
    }

    /// The monitors in the order of their numbers; `None` is an empty place.
    pub fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        self.places.iter().map(|place| place.as_ref().map(|identity| identity.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::acl::{Action, AddrMatch, PortMatch};

    fn rule(port: u16) -> IpRule {
        IpRule {
            action: Action::Permit,
            protocol: Some(6),
            src: AddrMatch::ANY,
            src_port: PortMatch::Any,
            dst: AddrMatch::ANY,
            dst_port: PortMatch::Eq(port),
            icmp_type: None,
            icmp_code: None,
            dscp: None,
        }
    }

    fn acl(name: &str, rules: &[(u32, u16)]) -> Acl {
        let rules = Rules::Ip(rules.iter().map(|(s, p)| (*s, rule(*p))).collect());
        Acl { name: name.into(), statistics: true, rules }
    }

    #[test]
    fn a_rule_keeps_its_number_over_changes_of_its_list() {
        let (first, lists, fresh) =
            RuleNumbers::default().assign(&[acl("a", &[(10, 80), (20, 443)]), acl("b", &[(10, 80)])]).unwrap();
        assert_eq!(lists.iter().map(|l| l.rule_ids.clone()).collect::<Vec<_>>(), [vec![0, 1, 2], vec![3, 4]]);
        assert_eq!(fresh, [0, 1, 2, 3, 4]);
        assert_eq!((first.name(1), first.name(2)), (Some(("a", Some(20))), Some(("a", None))));
        // A rule is put between, one goes, one list goes.
        let (second, lists, fresh) = first.assign(&[acl("a", &[(5, 22), (20, 443)])]).unwrap();
        assert_eq!(lists[0].rule_ids, [5, 1, 2]);
        assert_eq!(fresh, [5]);
        assert_eq!(second.name(3), None);
        // Resequenced: the same rules at other places.
        let (third, lists, fresh) = second.assign(&[acl("a", &[(100, 22), (110, 443)])]).unwrap();
        assert_eq!((lists[0].rule_ids.clone(), fresh.len()), (vec![5, 1, 2], 0));
        // Another rule at the same place counts from zero.
        let (fourth, lists, fresh) = third.assign(&[acl("a", &[(100, 23), (110, 443)])]).unwrap();
        assert_eq!((lists[0].rule_ids.clone(), fresh), (vec![6, 1, 2], vec![6]));
        assert_eq!(fourth.iter(Some("a")).count(), 3);
        assert_eq!(fourth.iter(Some("b")).count(), 0);
    }

    #[test]
    fn equal_rules_share_no_number() {
        let (first, ..) = RuleNumbers::default().assign(&[acl("a", &[(10, 80), (20, 80)])]).unwrap();
        let (_, lists, _) = first.assign(&[acl("a", &[(5, 80), (10, 80), (20, 80)])]).unwrap();
        assert_eq!(lists[0].rule_ids, [3, 0, 1, 2]);
    }

    #[test]
    fn too_many_rules_are_refused_and_numbers_wrap() {
        let rules: Vec<(u32, u16)> = (1..=60_000).map(|n| (n, 1)).collect();
        let (first, ..) = RuleNumbers::default().assign(&[acl("a", &rules)]).unwrap();
        let other: Vec<(u32, u16)> = (1..=60_000).map(|n| (n, 2)).collect();
        let (_, lists, fresh) = first.assign(&[acl("a", &other)]).unwrap();
        assert_eq!(fresh.len(), 60_000, "the implicit deny has kept its number");
        let distinct: BTreeSet<u32> = lists[0].rule_ids.iter().copied().collect();
        assert_eq!(distinct.len(), 60_001);
        assert!(distinct.iter().all(|id| (*id as usize) < RULES_MAX));
        assert!(matches!(first.assign(&[acl("a", &rules), acl("b", &rules)]), Err(Error::Limit { .. })));
        assert!(matches!(first.assign(&[acl("a", &[]), acl("a", &[])]), Err(Error::Twice(_))));
    }

    fn host(names: &[&str]) -> HostConfig {
        let monitor = |name: &&str| Monitor {
            name: (*name).to_owned(),
            record: None,
            exporters: vec!["e".to_owned()],
            active_s: 60,
            inactive_s: 15,
            ..Monitor::default()
        };
        let exporter = proto::flow::Exporter {
            name: "e".into(),
            destinations: vec![Destination::new([0, 0, 0, 1].into(), 1)],
            version: Version::V9,
            dscp: 0,
            template_timeout_s: 60,
            option_timeout_s: 60,
            payload_max: 1400,
            ..proto::flow::Exporter::default()
        };
        HostConfig { monitors: names.iter().map(monitor).collect(), exporters: vec![exporter], ..HostConfig::default() }
    }

    fn names(numbers: &MonitorNumbers) -> String {
        numbers.iter().map(|place| place.unwrap_or("-")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn monitors_keep_their_places() {
        let a = MonitorNumbers::default().assign(&host(&["x", "y", "z"])).unwrap();
        assert_eq!(names(&a), "x y z");
        let mut b = a.assign(&host(&["z", "x"])).unwrap();
        assert_eq!((names(&b), b.index("z"), b.index("y")), ("x - z".into(), Some(2), None));
        assert_eq!(names(&b.assign(&host(&["z", "w"])).unwrap()), "- - z w", "what is freed is not given at once");
        assert_eq!(names(&b.assign(&host(&["x"])).unwrap()), "x");
        b.release();
        assert_eq!(names(&b.assign(&host(&["z", "x", "w"])).unwrap()), "x w z");
        assert!(matches!(b.assign(&host(&["x", "x"])), Err(Error::Twice(_))));
        let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(b.assign(&host(&many)), Err(Error::Limit { .. })));
    }

    #[test]
    fn a_monitor_that_exports_otherwise_is_another() {
        let a = MonitorNumbers::default().assign(&host(&["x", "y"])).unwrap();
        let mut slower = host(&["x", "y"]);
        slower.monitors[0].active_s = 1800;
        slower.exporters[0].template_timeout_s = 600;
        assert_eq!(a.assign(&slower).unwrap(), a);
        let mut changed = host(&["x", "y"]);
        changed.monitors[0].exporters.clear();
        assert_eq!(names(&a.assign(&changed).unwrap()), "- y x");
        let mut elsewhere = host(&["x", "y"]);
        elsewhere.exporters[0].destinations[0].port = 2;
        assert_eq!(names(&a.assign(&elsewhere).unwrap()), "- - x y");
    }

    #[test]
    fn without_room_nothing_is_given_that_may_be_another_s() {
        let all: Vec<String> = (0..32).map(|n| n.to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let full = MonitorNumbers::default().assign(&host(&all)).unwrap();
        let wanted = host(&["a", "5"]);
        assert!(!full.has_room(&wanted) && full.has_room(&host(&all)));
        assert!(matches!(full.assign(&wanted), Err(Error::Limit { .. })));
        let mut fewer = full.assign(&host(&["5"])).unwrap();
        assert!(!fewer.has_room(&wanted));
        fewer.release();
        assert!(fewer.has_room(&wanted));
        assert_eq!(fewer.assign(&wanted).unwrap().index("a"), Some(0));
    }

    #[test]
    fn numbers_of_a_change_that_failed_are_withheld() {
        let mut runs = MonitorNumbers::default().assign(&host(&["x"])).unwrap();
        runs.withhold(&runs.assign(&host(&["y"])).unwrap());
        assert_eq!(names(&runs.assign(&host(&["x", "z"])).unwrap()), "x - z");
        assert_eq!(names(&runs.assign(&host(&["z"])).unwrap()), "- - z");
    }
}
