//! Compiled access lists: the answer of a list to a packet, at a cost that the configuration sets and no packet changes.
//!
//! A rule is taken apart into what it asks of single octets and of ports ([`term`]), and the terms of a list stand in groups
//! of 512 ([`group`]): each field of the packet picks a set of 512 bits, the terms that it suits, and the first bit that is
//! in all sets is the rule. Nothing is hashed, no field of the packet decides a branch, and the lookup ends behind the group
//! that holds the first match. So the work is bounded by the number of rules, and it is the same for every packet that gets
//! as far down the list.
//!
//! Short lists take the same way. A vector scan over all terms, sixteen at a time, was tried for them: it took 25 ns for the
//! first sixteen terms and 18 ns for each further sixteen, where a lookup takes some 20 ns for anything up to a group.
//!
//! Fragments: conditions on ports or ICMP can't be tested on a fragment other than the first. Such a fragment matches a
//! permit rule when the rest of the rule fits, and never a deny rule that has such conditions: the first fragment was
//! judged in full, and without it the others are useless to the receiver.
//!
//! [`plain`] reads the rules one by one as they were configured; it is the oracle of the rest. [`list`] is what a snapshot
//! holds: compiled once, shared by every port that has it, and taken over by the next snapshot while it says the same.
//!
//! Pure; compiled in the control thread and read by all workers.

pub mod group;
pub mod ip;
pub mod list;
pub mod mac;
pub mod plain;
pub mod term;

pub use ip::IpList;
pub use list::{AclPair, List};
pub use mac::MacList;

use crate::verdict::RuleRef;

/// What a list says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Permit or deny.
    pub permit: bool,
    /// The rule that decided.
    pub rule: RuleRef,
}

/// What a list says when no rule matches: the implicit deny, or a permit when there are no rules at all.
fn otherwise(implicit: Option<RuleRef>) -> Found {
    match implicit {
        Some(rule) => Found { permit: false, rule },
        None => Found { permit: true, rule: RuleRef::NONE },
    }
}

/// The number of the implicit deny, which follows those of the rules.
fn implicit(rules: usize, ids: &[u32], counted: bool) -> Option<RuleRef> {
    ids.last().filter(|_| rules > 0).map(|id| RuleRef::new(*id, counted))
}

#[cfg(test)]
mod tests;
