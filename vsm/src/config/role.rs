//! What somebody may do: the roles that are there by themselves, and those of `role name`. Pure.
//!
//! A role's rules are tried from the highest number down; the first that fits decides. Where none fits, its users may look
//! and change nothing. Somebody with several roles may do what any of them permits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proto::name::IfName;
use proto::vlan::VlanSet;

/// Everything.
pub const NETWORK_ADMIN: &str = "network-admin";
/// Look, and change nothing.
pub const NETWORK_OPERATOR: &str = "network-operator";
/// Look, and give virtual machines' ports an enabled profile.
pub const SERVER_ADMIN: &str = "server-admin";
/// Roles that are there by themselves.
pub const BUILT_IN: [&str; 3] = [NETWORK_ADMIN, NETWORK_OPERATOR, SERVER_ADMIN];
/// Most roles of `role name`.
pub const ROLES_MAX: usize = 64;
/// Most rules of a role.
pub const RULES_MAX: usize = 256;
/// Most characters of a role's name.
pub const NAME_MAX: usize = 16;
/// Most interfaces that a role names.
pub const INTERFACES_MAX: usize = 1024;

/// `role name`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Role {
    /// Free text.
    pub description: Option<String>,
    /// Rules by number.
    pub rules: BTreeMap<u16, Rule>,
    /// `interface policy deny`: only these may be changed.
    pub interfaces: Option<BTreeSet<IfName>>,
    /// `vlan policy deny`: only these may be changed.
    pub vlans: Option<VlanSet>,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// It permits; else it denies.
    pub permits: bool,
    /// What it is about.
    pub what: What,
}

/// What a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// Commands that look so; `*` stands for anything.
    Command(String),
    /// Commands that only look: all, or those of a feature.
    Read(Option<String>),
    /// All commands, or those of a feature.
    ReadWrite(Option<String>),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.permits { "permit " } else { "deny " })?;
        match &self.what {
            What::Command(pattern) => write!(f, "command {pattern}"),
            What::Read(None) => f.write_str("read"),
            What::Read(Some(feature)) => write!(f, "read feature {feature}"),
            What::ReadWrite(None) => f.write_str("read-write"),
            What::ReadWrite(Some(feature)) => write!(f, "read-write feature {feature}"),
        }
    }
}

/// What somebody wants to do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// The command in full spelling.
    pub line: String,
    /// The same behind the commands by which its mode was entered.
    pub whole: String,
    /// Feature that it belongs to.
    pub feature: &'static str,
    /// It changes nothing.
    pub looks: bool,
    /// It moves to another mode or sets the own terminal, and no rule is asked.
    pub moves: bool,
    /// Interfaces that it changes.
    pub interfaces: Vec<IfName>,
    /// VLANs that it changes.
    pub vlans: VlanSet,
}

impl Role {
    /// The role permits it.
    pub fn permits(&self, wish: &Wish) -> bool {
        if wish.moves {
            return true;
        }
        let decides = self.rules.values().rev().find(|rule| rule.what.fits(wish));
        let is_permitted = decides.map_or(wish.looks, |rule| rule.permits);
        is_permitted && (wish.looks || self.reaches(wish))
    }

    fn reaches(&self, wish: &Wish) -> bool {
        let all_interfaces = |own: &BTreeSet<IfName>| wish.interfaces.iter().all(|name| own.contains(name));
        let all_vlans = |own: &VlanSet| wish.vlans.iter().all(|id| own.contains(id));
        self.interfaces.as_ref().is_none_or(all_interfaces) && self.vlans.as_ref().is_none_or(all_vlans)
    }
}

impl What {
    fn fits(&self, wish: &Wish) -> bool {
        let is_of = |feature: &Option<String>| feature.as_ref().is_none_or(|feature| feature == wish.feature);
        match self {
            What::Read(feature) => wish.looks && is_of(feature),
            What::ReadWrite(feature) => is_of(feature),
            What::Command(pattern) => {
                let line = if pattern.contains(';') { &wish.whole } else { &wish.line };
                let pattern = pattern.to_ascii_lowercase().split(';').map(str::trim).collect::<Vec<_>>().join(" ; ");
                let line = line.to_ascii_lowercase();
                // Whoever may say something may take it back, and the other way round.
                let taken_back = line.strip_prefix("no ").or(line.strip_prefix("default "));
                matches(&pattern, &line) || taken_back.is_some_and(|line| matches(&pattern, line))
            }
        }
    }
}

/// `*` stands for any text, also for none. Takes time in the product of the lengths at most.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The name can be that of a role: letters, digits, `-`, `_`, beginning with a letter.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    name.len() <= NAME_MAX && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(fits)
}

/// The lines of the configuration that make the role, each with its depth.
pub fn lines(name: &str, role: &Role) -> Vec<(usize, String)> {
    let mut lines = vec![(0, format!("role name {name}"))];
    lines.extend(role.description.iter().map(|text| (1, format!("description {text}"))));
    lines.extend(role.rules.iter().rev().map(|(number, rule)| (1, format!("rule {number} {rule}"))));
    if let Some(own) = &role.interfaces {
        lines.push((1, "interface policy deny".to_owned()));
        lines.extend(own.iter().map(|name| (2, format!("permit interface {name}"))));
    }
    if let Some(own) = &role.vlans {
        lines.push((1, "vlan policy deny".to_owned()));
        if own.iter().next().is_some() {
            lines.push((2, format!("permit vlan {own}")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::addr::VlanId;

    fn role(rules: &[(u16, bool, What)]) -> Role {
        let rule = |(n, permits, what): &(u16, bool, What)| (*n, Rule { permits: *permits, what: what.clone() });
        Role { rules: rules.iter().map(rule).collect(), ..Role::default() }
    }

    fn wish(line: &str, feature: &'static str) -> Wish {
        Wish {
            line: line.to_owned(),
            whole: format!("configure terminal ; {line}"),
            feature,
            looks: line.starts_with("show"),
            ..Wish::default()
        }
    }

    #[test]
    fn the_highest_number_decides() {
        let vlans = || What::ReadWrite(Some("vlan".into()));
        let permits = role(&[(1, false, What::Command("*".into())), (2, true, vlans())]);
        assert!(permits.permits(&wish("vlan 10", "vlan")) && permits.permits(&wish("show vlan", "vlan")));
        assert!(!permits.permits(&wish("hostname x", "system")) && !permits.permits(&wish("show version", "version")));
        let denies = role(&[(2, false, What::Command("vlan *".into())), (1, true, vlans())]);
        assert!(!denies.permits(&wish("vlan 10", "vlan")) && !denies.permits(&wish("no vlan 10", "vlan")));
        assert!(denies.permits(&wish("name web", "vlan")));
    }

    #[test]
    fn a_new_role_looks() {
        assert!(
            Role::default().permits(&wish("show vlan", "vlan")) && !Role::default().permits(&wish("vlan 1", "vlan"))
        );
        assert!(Role::default().permits(&Wish { moves: true, ..wish("configure terminal", "session") }));
        assert!(!role(&[(1, false, What::Read(None))]).permits(&wish("show vlan", "vlan")));
    }

    #[test]
    fn policies_bound_changes_and_not_looks() {
        let id = |n| VlanId::new(n).unwrap();
        let mut role = role(&[(1, true, What::ReadWrite(None))]);
        role.interfaces = Some([IfName::Vethernet(1)].into());
        role.vlans = Some([id(10), id(11)].into_iter().collect());
        let touching = |veth: u32, vlan: u16| Wish {
            interfaces: vec![IfName::Vethernet(veth)],
            vlans: [id(vlan)].into_iter().collect(),
            ..wish("switchport access vlan 10", "port")
        };
        assert!(role.permits(&touching(1, 10)) && !role.permits(&touching(2, 10)) && !role.permits(&touching(1, 12)));
        assert!(role.permits(&Wish { looks: true, ..touching(2, 12) }));
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("show *", "show version", true),
            ("show*", "show", true),
            ("show *", "showx", false),
            ("*acc*log", "clear accounting log", true),
            ("*a*b", "aaaaaaaaaaaaaaaaaaaac", false),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
        let inside = role(&[(1, true, What::Command("configure terminal;Interface *;shutdown".into()))]);
        let whole = "configure terminal ; interface Vethernet1 ; shutdown".to_owned();
        assert!(inside.permits(&Wish { whole, ..wish("shutdown", "port") }));
        assert!(!inside.permits(&wish("shutdown", "port")));
    }
}
