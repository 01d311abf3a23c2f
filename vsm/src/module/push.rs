//! Prepare everywhere, then commit everywhere, or nowhere.
//!
//! ```text
//!               all prepared (or lost)            all applied (or lost)
//!   preparing ─────────────────────▶ committing ─────────────────────▶ done
//!       └── one refuses, and it must be whole: abort everywhere ─▶ aborted
//! ```
//!
//! A push is pure: messages and time go in, actions come out. A member that is silent for [`ANSWER_MS`] is
//! disconnected, which takes it out of the push: it will get the current configuration when it is back, so a dead host
//! can't hold up the living. A push that needs not be whole (what follows from ports that came or went, a resync) goes
//! on without those that refuse.

use std::collections::BTreeMap;

use proto::msg::{ConfigHash, FromVsm};

/// Milliseconds that a module has for each answer.
pub const ANSWER_MS: u64 = 3000;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Send this to a module.
    Send(u8, FromVsm),
    /// End the session of a module; the push counts it as lost already.
    Disconnect(u8, String),
}

/// What one module is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parcel {
    /// SHA-256 of `config`.
    pub hash: ConfigHash,
    /// An encoded [`proto::config::HostConfig`].
    pub config: Vec<u8>,
}

/// How far a push is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Modules check it.
    Preparing,
    /// It is decided; modules apply it.
    Committing,
    /// Every module that is still there runs it.
    Done,
    /// Everybody who could be asked has said whether it would run it, and nobody runs it.
    Tried,
    /// Nobody runs it, because this module can't.
    Aborted {
        /// Slot of the module.
        slot: u8,
        /// What it said.
        reason: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stand {
    Waiting,
    Prepared,
    Applied,
    Refused,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Member {
    hash: ConfigHash,
    stand: Stand,
}

/// A push.
#[derive(Debug)]
pub struct Push {
    version: u64,
    whole: bool,
    /// It is only asked for, and never committed.
    dry: bool,
    members: BTreeMap<u8, Member>,
    phase: Phase,
    deadline_ms: u64,
    refusals: Vec<(u8, String)>,
    lost: Vec<u8>,
}

impl Push {
    /// Begins a push to the modules that have a parcel. `whole`: a refusal aborts it everywhere.
    pub fn begin(version: u64, whole: bool, parcels: BTreeMap<u8, Parcel>, now_ms: u64) -> (Self, Vec<Action>) {
        Push::begin_as(version, whole, false, parcels, now_ms)
    }

    /// Asks the modules whether they would take it; whatever they say, none runs it.
    pub fn begin_dry(version: u64, parcels: BTreeMap<u8, Parcel>, now_ms: u64) -> (Self, Vec<Action>) {
        Push::begin_as(version, false, true, parcels, now_ms)
    }

    fn begin_as(
        version: u64,
        whole: bool,
        dry: bool,
        parcels: BTreeMap<u8, Parcel>,
        now_ms: u64,
    ) -> (Self, Vec<Action>) {
        let mut push = Push {
            version,
            whole,
            dry,
            members: BTreeMap::new(),
            phase: Phase::Preparing,
            deadline_ms: now_ms + ANSWER_MS,
            refusals: Vec::new(),
            lost: Vec::new(),
        };
        let mut actions = Vec::new();
        for (slot, Parcel { hash, config }) in parcels {
            push.members.insert(slot, Member { hash, stand: Stand::Waiting });
            actions.push(Action::Send(slot, FromVsm::Prepare { version, hash, config }));
        }
        push.advance(now_ms, &mut actions);
        (push, actions)
    }

    /// A module has answered a prepare.
    pub fn on_prepared(&mut self, slot: u8, version: u64, error: Option<String>, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if version != self.version || self.phase != Phase::Preparing {
            return actions;
        }
        let Some(member) = self.members.get_mut(&slot).filter(|m| m.stand == Stand::Waiting) else { return actions };
        match error {
            None => member.stand = Stand::Prepared,
            Some(reason) if self.whole => {
                self.phase = Phase::Aborted { slot, reason };
                actions.extend(self.members.keys().map(|slot| Action::Send(*slot, FromVsm::Abort(version))));
                return actions;
            }
            Some(reason) => {
                member.stand = Stand::Refused;
                self.refusals.push((slot, reason));
            }
        }
        self.advance(now_ms, &mut actions);
        actions
    }

    /// A module has said what it runs.
    pub fn on_applied(&mut self, slot: u8, version: u64, hash: ConfigHash, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if version != self.version || self.phase != Phase::Committing {
            return actions;
        }
        let Some(member) = self.members.get_mut(&slot).filter(|m| m.stand == Stand::Prepared) else { return actions };
        if member.hash == hash {
            member.stand = Stand::Applied;
        } else {
            actions.push(self.give_up(slot, "it has applied something else than it was given"));
        }
        self.advance(now_ms, &mut actions);
        actions
    }

    /// A module has gone.
    pub fn on_lost(&mut self, slot: u8, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.is_running() && self.members.remove(&slot).is_some() {
            self.lost.push(slot);
            self.advance(now_ms, &mut actions);
        }
        actions
    }

    /// Time has passed.
    pub fn on_time(&mut self, now_ms: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.is_running() || now_ms < self.deadline_ms {
            return actions;
        }
        let (silent, what) = match self.phase {
            Phase::Preparing => (Stand::Waiting, "it did not answer a prepare"),
            _ => (Stand::Prepared, "it did not confirm a commit"),
        };
        let slots: Vec<u8> = self.members.iter().filter(|(_, m)| m.stand == silent).map(|(slot, _)| *slot).collect();
        for slot in slots {
            actions.push(self.give_up(slot, what));
        }
        self.advance(now_ms, &mut actions);
        actions
    }

    fn give_up(&mut self, slot: u8, reason: &str) -> Action {
        self.members.remove(&slot);
        self.lost.push(slot);
        Action::Disconnect(slot, format!("{reason} within {} seconds", ANSWER_MS / 1000))
    }

    fn advance(&mut self, now_ms: u64, actions: &mut Vec<Action>) {
        let all = |members: &BTreeMap<u8, Member>, stand| {
            members.values().all(|m| m.stand == stand || m.stand == Stand::Refused)
        };
        if self.phase == Phase::Preparing && self.dry && all(&self.members, Stand::Prepared) {
            self.phase = Phase::Tried;
            actions.extend(self.members.keys().map(|slot| Action::Send(*slot, FromVsm::Abort(self.version))));
        }
        if self.phase == Phase::Preparing && all(&self.members, Stand::Prepared) {
            self.phase = Phase::Committing;
            self.deadline_ms = now_ms + ANSWER_MS;
            let ready = self.members.iter().filter(|(_, m)| m.stand == Stand::Prepared);
            actions.extend(ready.map(|(slot, _)| Action::Send(*slot, FromVsm::Commit(self.version))));
        }
        if self.phase == Phase::Committing && all(&self.members, Stand::Applied) {
            self.phase = Phase::Done;
        }
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How far it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Neither done nor aborted.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Preparing | Phase::Committing)
    }

    /// When [`Push::on_time`] has something to do.
    pub fn due_ms(&self) -> Option<u64> {
        self.is_running().then_some(self.deadline_ms)
    }

    /// The modules that were asked and are still there, and what they are to run; also those that refused.
    pub fn intended(&self) -> impl Iterator<Item = (u8, ConfigHash)> + '_ {
        self.members.iter().map(|(slot, m)| (*slot, m.hash))
    }

    /// Modules that refused, and what they said.
    pub fn refusals(&self) -> &[(u8, String)] {
        &self.refusals
    }

    /// Modules that went away meanwhile.
    pub fn lost(&self) -> &[u8] {
        &self.lost
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(slot: u8) -> ConfigHash {
        ConfigHash([slot; 32])
    }

    fn begin(whole: bool, slots: &[u8]) -> Push {
        let parcels = slots.iter().map(|s| (*s, Parcel { hash: hash(*s), config: vec![*s] })).collect();
        let (push, actions) = Push::begin(7, whole, parcels, 0);
        assert!(
            actions
                .iter()
                .zip(slots)
                .all(|(a, s)| matches!(a, Action::Send(slot, FromVsm::Prepare { version: 7, .. }) if slot == s))
        );
        push
    }

    fn commit(slot: u8) -> Action {
        Action::Send(slot, FromVsm::Commit(7))
    }

    fn abort(slot: u8) -> Action {
        Action::Send(slot, FromVsm::Abort(7))
    }

    #[test]
    fn all_prepared_then_all_commit() {
        let mut push = begin(true, &[3, 4]);
        assert_eq!(push.on_prepared(4, 7, None, 1), []);
        assert_eq!(push.on_prepared(4, 7, None, 1), [], "twice is once");
        assert_eq!(push.on_prepared(3, 7, None, 2), [commit(3), commit(4)]);
        assert_eq!(push.on_applied(3, 7, hash(3), 3), []);
        assert_eq!(*push.phase(), Phase::Committing);
        assert_eq!(push.on_applied(4, 7, hash(4), 3), []);
        assert_eq!(*push.phase(), Phase::Done);
        assert!(push.lost().is_empty());
    }

    #[test]
    fn nobody_to_tell_is_done_at_once() {
        assert_eq!(*begin(true, &[]).phase(), Phase::Done);
    }

    #[test]
    fn one_refusal_aborts_what_must_be_whole() {
        let mut push = begin(true, &[3, 4]);
        push.on_prepared(3, 7, None, 1);
        assert_eq!(push.on_prepared(4, 7, Some("no room".into()), 2), [abort(3), abort(4)]);
        assert_eq!(*push.phase(), Phase::Aborted { slot: 4, reason: "no room".into() });
        assert_eq!(push.on_applied(3, 7, hash(3), 3), []);
        assert_eq!(push.due_ms(), None);
    }

    #[test]
    fn what_needs_not_be_whole_goes_on_without_the_one() {
        let mut push = begin(false, &[3, 4]);
        push.on_prepared(3, 7, None, 1);
        assert_eq!(push.on_prepared(4, 7, Some("no room".into()), 2), [commit(3)]);
        push.on_applied(3, 7, hash(3), 3);
        assert_eq!(*push.phase(), Phase::Done);
        assert_eq!(push.refusals(), [(4, "no room".to_owned())]);
        assert_eq!(push.intended().collect::<Vec<_>>(), [(3, hash(3)), (4, hash(4))]);
    }

    #[test]
    fn what_is_only_asked_for_is_never_committed() {
        let parcels = [3, 4].map(|s| (s, Parcel { hash: hash(s), config: vec![s] })).into();
        let (mut push, _) = Push::begin_dry(7, parcels, 0);
        assert_eq!(push.on_prepared(4, 7, Some("no room".into()), 1), []);
        assert_eq!(push.on_prepared(3, 7, None, 2), [abort(3), abort(4)]);
        assert_eq!((push.phase(), push.refusals()), (&Phase::Tried, &[(4, "no room".to_owned())][..]));
        assert_eq!(
            (push.on_applied(3, 7, hash(3), 3), push.on_time(9 * ANSWER_MS), push.due_ms()),
            (vec![], vec![], None)
        );
        let (nobody, _) = Push::begin_dry(8, BTreeMap::new(), 0);
        assert_eq!(*nobody.phase(), Phase::Tried);
    }

    #[test]
    fn the_silent_are_disconnected_and_hold_up_nobody() {
        let mut push = begin(true, &[3, 4]);
        push.on_prepared(3, 7, None, 1);
        assert_eq!(push.on_time(ANSWER_MS - 1), []);
        let actions = push.on_time(ANSWER_MS);
        assert!(matches!(&actions[..], [Action::Disconnect(4, _), Action::Send(3, FromVsm::Commit(7))]), "{actions:?}");
        assert_eq!(push.on_time(2 * ANSWER_MS - 1), []);
        assert!(matches!(&push.on_time(2 * ANSWER_MS)[..], [Action::Disconnect(3, _)]));
        assert_eq!(*push.phase(), Phase::Done);
        assert_eq!(push.lost(), [4, 3]);
    }

    #[test]
    fn one_that_leaves_is_not_waited_for() {
        let mut push = begin(true, &[3, 4]);
        push.on_prepared(3, 7, None, 1);
        assert_eq!(push.on_lost(4, 2), [commit(3)]);
        assert_eq!(push.on_lost(9, 2), []);
        assert_eq!(push.on_lost(3, 3), []);
        assert_eq!(*push.phase(), Phase::Done);
    }

    #[test]
    fn another_hash_is_not_believed() {
        let mut push = begin(true, &[3]);
        push.on_prepared(3, 7, None, 1);
        assert!(matches!(&push.on_applied(3, 7, hash(9), 2)[..], [Action::Disconnect(3, _)]));
    }

    #[test]
    fn answers_to_other_versions_do_not_count() {
        let mut push = begin(true, &[3]);
        push.on_prepared(3, 6, None, 1);
        push.on_prepared(3, 8, Some("x".into()), 1);
        push.on_applied(3, 7, hash(3), 1);
        assert_eq!(*push.phase(), Phase::Preparing);
    }

    proptest! {
        /// Whatever happens in whatever order: nobody commits unless everybody who is still there has prepared, nobody is
        /// told both to commit and to abort, and time ends every push.
        #[test]
        fn whole_or_absent(events in proptest::collection::vec((0..4u8, 3..7u8), 0..40)) {
            let mut push = begin(true, &[3, 4, 5, 6]);
            let (mut prepared, mut gone) = (Vec::new(), Vec::new());
            let (mut committed, mut aborted) = (Vec::new(), Vec::new());
            let mut note = |actions: Vec<Action>, prepared: &[u8], gone: &mut Vec<u8>| {
                for action in actions {
                    match action {
                        Action::Send(slot, FromVsm::Commit(_)) => {
                            prop_assert!((3..7).all(|s| prepared.contains(&s) || gone.contains(&s)));
                            committed.push(slot);
                        }
                        Action::Send(slot, _) => aborted.push(slot),
                        Action::Disconnect(slot, _) => gone.push(slot),
                    }
                }
                prop_assert!(committed.is_empty() || aborted.is_empty());
                Ok(())
            };
            for (kind, slot) in events {
                if gone.contains(&slot) {
                    continue;
                }
                let actions = match kind {
                    0 => {
                        prepared.push(slot);
                        push.on_prepared(slot, 7, None, 1)
                    }
                    1 => push.on_applied(slot, 7, hash(slot), 1),
                    2 => push.on_prepared(slot, 7, (slot == 6).then(|| "no".into()), 1),
                    _ => {
                        gone.push(slot);
                        push.on_lost(slot, 1)
                    }
                };
                if kind == 2 && slot != 6 {
                    prepared.push(slot);
                }
                // What was noted as prepared may come too late to count; it never makes a commit early.
                note(actions, &prepared, &mut gone)?;
            }
            note(push.on_time(ANSWER_MS), &prepared, &mut gone)?;
            note(push.on_time(3 * ANSWER_MS), &prepared, &mut gone)?;
            prop_assert!(!push.is_running());
        }
    }
}
