//! The lists of a snapshot: compiled once, shared by all ports that have them, and handed on to the next snapshot.
//!
//! A list is known by its name and is the same list as long as it says the same: rules, their numbers, and whether they are
//! counted. [`Lists::compile`] takes such a list over from the snapshot that is running, compiled as it is, and
//! [`Lists::adopt`] does the same for a snapshot that was built by itself. Either way it is compared once, rule by rule,
//! however many ports have it, and from then on **two lists are the same when they are the same piece of memory**: that is
//! what makes the comparison of a thousand ports with 10,000 rules each cost nothing.

use std::sync::Arc;

use hashbrown::HashMap;
use proto::acl::Rules;
use proto::addr::VlanId;

use super::{Found, IpList, MacList};
use crate::config::{AclConfig, Error, RULES_MAX};
use crate::flow::key::{FlowKey, shape};
use crate::verdict::RuleRef;

/// A compiled access list, and what it was made from.
#[derive(Debug)]
pub struct List {
    source: AclConfig,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Ip(IpList),
    Mac(MacList),
}

impl List {
    fn compile(source: &AclConfig) -> Self {
        let (ids, counted) = (&source.rule_ids, source.acl.statistics);
        let form = match &source.acl.rules {
            Rules::Ip(rules) => Form::Ip(IpList::new(rules, ids, counted)),
            Rules::Mac(rules) => Form::Mac(MacList::new(rules, ids, counted)),
        };
        List { source: source.clone(), form }
    }

    fn says(&self, source: &AclConfig) -> bool {
        let (old, new) = (&self.source.acl, &source.acl);
        old.statistics == new.statistics && self.source.rule_ids == source.rule_ids && old.rules == new.rules
    }

    /// It judges IPv4.
    pub fn is_ip(&self) -> bool {
        matches!(self.form, Form::Ip(_))
    }

    /// What it says.
    pub fn acl(&self) -> &proto::acl::Acl {
        &self.source.acl
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.source.acl.name
    }
}

/// Every list of a snapshot, in the order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Lists(Vec<Arc<List>>);

impl Lists {
    /// Checks and compiles `acls`, but for those that `previous` has.
    pub fn compile(acls: &[AclConfig], previous: &Lists) -> Result<Lists, Error> {
        check(acls)?;
        let known = previous.by_name();
        let list = |acl: &AclConfig| match known.get(acl.acl.name.as_str()) {
            Some(list) if list.says(acl) => Arc::clone(list),
            _ => Arc::new(List::compile(acl)),
        };
        Ok(Lists(acls.iter().map(list).collect()))
    }

    fn by_name(&self) -> HashMap<&str, &Arc<List>> {
        self.0.iter().map(|list| (list.name(), list)).collect()
    }

    /// Every list.
    pub fn iter(&self) -> impl Iterator<Item = &List> {
        self.0.iter().map(|list| &**list)
    }

    /// The list at `index` of the configuration.
    pub fn get(&self, index: usize) -> Option<&Arc<List>> {
        self.0.get(index)
    }

    /// Puts lists of `previous` in place of those here that say the same, and in `pairs` likewise.
    pub fn adopt<'a>(&mut self, previous: &Lists, pairs: impl Iterator<Item = &'a mut AclPair>) {
        let known = previous.by_name();
        let mut replaced: HashMap<*const List, &Arc<List>> = HashMap::new();
        for list in &mut self.0 {
            if let Some(&old) = known.get(list.name())
                && !Arc::ptr_eq(list, old)
                && old.says(&list.source)
            {
                replaced.insert(Arc::as_ptr(list), old);
            }
        }
        if replaced.is_empty() {
            return;
        }
        let place = |list: &mut Arc<List>| {
            if let Some(old) = replaced.get(&Arc::as_ptr(list)) {
                *list = Arc::clone(old);
            }
        };
        pairs.flat_map(|pair| [&mut pair.ip, &mut pair.mac]).flatten().for_each(place);
        self.0.iter_mut().for_each(place);
    }
}

/// The numbers of rules are in bounds, each is given once, and each rule has one.
fn check(acls: &[AclConfig]) -> Result<(), Error> {
    let mut ids: Vec<u32> = acls.iter().flat_map(|acl| &acl.rule_ids).copied().collect();
    let limit = |what, count, max| if count > max { Err(Error::Limit { what, count, max }) } else { Ok(()) };
    limit("rules", ids.len(), RULES_MAX)?;
    ids.sort_unstable();
    if let Some(last) = ids.last() {
        limit("rule number", *last as usize, RULES_MAX - 1)?;
    }
    if let Some((id, _)) = ids.iter().zip(ids.iter().skip(1)).find(|(a, b)| a == b) {
        return Err(Error::Twice(format!("rule number {id}")));
    }
    let rules = |acl: &AclConfig| match &acl.acl.rules {
        Rules::Ip(rules) => rules.len(),
        Rules::Mac(rules) => rules.len(),
    };
    match acls.iter().find(|acl| acl.rule_ids.len() != rules(acl) + 1) {
        Some(acl) => {
            let what = format!("access list '{}'", acl.acl.name);
            Err(Error::Dangling(what, "a rule without a number".to_owned()))
        }
        None => Ok(()),
    }
}

/// The two lists of one direction of a port. Two are equal when they are the same lists in memory; see the module.
#[derive(Clone, Debug, Default)]
pub struct AclPair {
    ip: Option<Arc<List>>,
    mac: Option<Arc<List>>,
}

impl AclPair {
    /// The list for IPv4 and that for everything else.
    pub fn new(ip: Option<Arc<List>>, mac: Option<Arc<List>>) -> Self {
        AclPair { ip, mac }
    }

    /// The names of the list for IPv4 and of that for everything else.
    pub fn names(&self) -> [Option<&str>; 2] {
        [&self.ip, &self.mac].map(|list| list.as_deref().map(List::name))
    }

    /// What the lists say of a packet in `vlan`: the IP list judges IPv4, the MAC list everything else.
    #[inline]
    pub fn find(&self, key: &FlowKey, vlan: VlanId) -> Found {
        let list = if key.is(shape::IPV4) { &self.ip } else { &self.mac };
        match list.as_deref().map(|list| &list.form) {
            Some(Form::Ip(list)) => list.find(key),
            Some(Form::Mac(list)) => list.find(key, vlan),
            None => Found { permit: true, rule: RuleRef::NONE },
        }
    }
}

impl AclPair {
    /// A list permits the packet: without one that judges packets of its kind, or without the VLAN that a MAC list asks
    /// for, none does.
    pub fn singles_out(&self, key: &FlowKey, vlan: Option<VlanId>) -> bool {
        let list = if key.is(shape::IPV4) { &self.ip } else { &self.mac };
        match (list.as_deref().map(|list| &list.form), vlan) {
            (Some(Form::Ip(list)), _) => list.find(key).permit,
            (Some(Form::Mac(list)), Some(vlan)) => list.find(key, vlan).permit,
            _ => false,
        }
    }
}

impl PartialEq for AclPair {
    fn eq(&self, other: &Self) -> bool {
        let same =
            |a: &Option<Arc<List>>, b: &Option<Arc<List>>| a.as_ref().map(Arc::as_ptr) == b.as_ref().map(Arc::as_ptr);
        same(&self.ip, &other.ip) && same(&self.mac, &other.mac)
    }
}

impl Eq for AclPair {}

#[cfg(test)]
mod tests {
    use proto::acl::{Acl, Action, AddrMatch, IpRule, PortMatch};

    use super::*;

    fn acl(name: &str, rules: u32, first_id: u32) -> AclConfig {
        let rule = |n| IpRule {
            action: Action::Permit,
            protocol: None,
            src: AddrMatch { addr: n, wildcard: 0 },
            src_port: PortMatch::Any,
            dst: AddrMatch::ANY,
            dst_port: PortMatch::Any,
            icmp_type: None,
            icmp_code: None,
            dscp: None,
        };
        let rules_ = Rules::Ip((0..rules).map(|n| (n, rule(n))).collect());
        let acl = Acl { name: name.into(), statistics: true, rules: rules_ };
        AclConfig { acl, rule_ids: (first_id..=first_id + rules).collect() }
    }

    fn compile(acls: &[AclConfig], previous: &Lists) -> Lists {
        Lists::compile(acls, previous).unwrap()
    }

    #[test]
    fn a_list_that_says_the_same_is_taken_over_and_another_is_not() {
        let before = compile(&[acl("a", 100, 0), acl("b", 3, 200)], &Lists::default());
        // In another place and beside others, but the same.
        let after = compile(&[acl("c", 3, 300), acl("b", 3, 200), acl("a", 99, 0)], &before);
        assert!(Arc::ptr_eq(&before.0[1], &after.0[1]));
        assert!(!Arc::ptr_eq(&before.0[0], &after.0[2]), "a rule less");
        let renumbered = compile(&[acl("b", 3, 201)], &before);
        assert!(!Arc::ptr_eq(&before.0[1], &renumbered.0[0]), "other numbers");
        let mut uncounted = acl("b", 3, 200);
        uncounted.acl.statistics = false;
        assert!(!Arc::ptr_eq(&before.0[1], &compile(&[uncounted], &before).0[0]), "no longer counted");
    }

    #[test]
    fn lists_that_were_compiled_apart_become_one() {
        let before = compile(&[acl("a", 100, 0), acl("b", 3, 200)], &Lists::default());
        let mut after = compile(&[acl("a", 100, 0), acl("b", 4, 200)], &Lists::default());
        let pair = |lists: &Lists, i: usize| AclPair::new(lists.get(i).cloned(), None);
        let old = [pair(&before, 0), pair(&before, 1)];
        let mut new = [pair(&after, 0), pair(&after, 1)];
        assert!(new[0] != old[0]);
        after.adopt(&before, new.iter_mut());
        assert!(new[0] == old[0] && new[1] != old[1]);
        assert!(Arc::ptr_eq(&after.0[0], &before.0[0]) && !Arc::ptr_eq(&after.0[1], &before.0[1]));
    }
}
