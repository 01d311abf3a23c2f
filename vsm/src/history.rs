//! Event history: what has happened to each port, monitor session and module, newest last.
//!
//! A ring per object, for `show port|monitor|module internal event-history`. The log tells the story of the switch, and
//! is cut by severity and length; this tells the story of one thing. It is in memory: a supervisor that starts has none.
//!
//! What modules tell of themselves - a port is up, or down and why - comes as a line of the log; the name of the object is read out
//! of that line, which our own agent has written. All else is noted where it happens.
//!
//! Limits: [`EVENTS_MAX`] events of an object, [`TEXT_MAX`] characters of one, [`OBJECTS_MAX`] objects; beyond them the oldest
//! goes. Any thread may write and read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use proto::addr::NicId;
use proto::msg::Event as FromModule;
use proto::name::IfName;

use crate::config::hostdiff::settings;
use crate::config::model::{Interface, Model};
use crate::log::clean;

/// Events that are kept of an object.
pub const EVENTS_MAX: usize = 32;
/// Characters of the text of an event.
pub const TEXT_MAX: usize = 200;
/// Objects: all ports, sessions and modules that there can be.
pub const OBJECTS_MAX: usize = 12_500;

/// What has a history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Object {
    /// A port.
    Port(IfName),
    /// A monitor session.
    Session(u16),
    /// A module.
    Module(u8),
}

/// Something that has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub at: SystemTime,
    /// In one word: `attached`, `up`, `down`, `sends`, `notice`, `policy`.
    pub what: &'static str,
    /// In English.
    pub text: String,
}

#[derive(Default)]
struct Inner {
    rings: BTreeMap<Object, VecDeque<Event>>,
}

/// The histories.
#[derive(Default)]
pub struct History(Mutex<Inner>);

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has happened now.
    pub fn note(&self, object: Object, what: &'static str, text: &str) {
        self.note_at(SystemTime::now(), object, what, text);
    }

    fn note_at(&self, at: SystemTime, object: Object, what: &'static str, text: &str) {
        let mut inner = self.lock();
        if !inner.rings.contains_key(&object) && inner.rings.len() >= OBJECTS_MAX {
            let silent = inner.rings.iter().min_by_key(|(_, ring)| ring.back().map(|event| event.at));
            if let Some(silent) = silent.map(|(object, _)| *object) {
                inner.rings.remove(&silent);
            }
        }
        let ring = inner.rings.entry(object).or_default();
        if ring.len() >= EVENTS_MAX {
            ring.pop_front();
        }
        ring.push_back(Event { at, what, text: clean(text, TEXT_MAX) });
    }

    /// What a module has told of one of its objects. A port that the module has no name for yet it calls by its card, which
    /// `named` knows.
    pub fn told(&self, slot: u8, event: &FromModule, named: impl Fn(&NicId) -> Option<IfName>) {
        let Some((object, what)) = subject(event, named) else { return };
        self.note(object, what, &format!("module {slot}: {}", event.text));
    }

    /// The events of an object, oldest first.
    pub fn of(&self, object: Object) -> Vec<Event> {
        self.lock().rings.get(&object).map(|ring| ring.iter().cloned().collect()).unwrap_or_default()
    }
}

/// Cards that came to a module, and that have gone.
pub fn cards(history: &History, slot: u8, before: &BTreeMap<IfName, NicId>, after: &BTreeMap<IfName, NicId>) {
    for (name, nic) in after.iter().filter(|(name, _)| !before.contains_key(name)) {
        history.note(Object::Port(*name), "attached", &format!("{nic} on module {slot}"));
    }
    for (name, nic) in before.iter().filter(|(name, _)| !after.contains_key(name)) {
        history.note(Object::Port(*name), "detached", &format!("{nic} on module {slot}"));
    }
}

/// What a change of the configuration has changed for ports and monitor sessions.
pub fn changes(history: &History, old: &Model, new: &Model) {
    let profiles = old.profiles.keys().chain(new.profiles.keys());
    let changed: BTreeSet<&str> =
        profiles.filter(|name| old.profiles.get(*name) != new.profiles.get(*name)).map(String::as_str).collect();
    let inherits = |interface: &Interface| {
        let profile = interface.inherit.as_deref();
        profile.is_some_and(|it| new.lineage(it).iter().any(|(name, _)| changed.contains(name)))
    };
    for (name, interface) in &new.interfaces {
        let was = old.interfaces.get(name);
        if was == Some(interface) && (changed.is_empty() || !inherits(interface)) {
            continue;
        }
        let before = was.map(|was| old.interface_settings(was)).unwrap_or_default();
        let told = differences(&settings(&before), &settings(&new.interface_settings(interface)));
        if !told.is_empty() {
            history.note(Object::Port(*name), "policy", &told);
        }
    }
    for name in old.interfaces.keys().filter(|name| !new.interfaces.contains_key(name)) {
        history.note(Object::Port(*name), "policy", "the interface was removed");
    }
    let ids: BTreeSet<&u16> = old.sessions.keys().chain(new.sessions.keys()).collect();
    for id in ids {
        let what = match (old.sessions.get(id), new.sessions.get(id)) {
            (None, Some(session)) if session.shut => "created, shut",
            (None, Some(_)) => "created",
            (Some(_), None) => "deleted",
            (Some(was), Some(is)) if was.shut != is.shut && is.shut => "shut",
            (Some(was), Some(is)) if was.shut != is.shut => "no shut",
            (was, is) if was != is => "changed",
            _ => continue,
        };
        history.note(Object::Session(*id), "config", what);
    }
}

/// `mtu 1500 -> 9000; ...`
fn differences(before: &[(String, String)], after: &[(String, String)]) -> String {
    let all = before.iter().zip(after).filter(|((_, was), (_, is))| was != is);
    let told: Vec<String> = all.map(|((what, was), (_, is))| format!("{what}: {was} -> {is}")).collect();
    told.join("; ")
}

/// Which object an event of a module is about.
fn subject(event: &FromModule, named: impl Fn(&NicId) -> Option<IfName>) -> Option<(Object, &'static str)> {
    let mut words = event.text.split(' ');
    let what = match event.mnemonic.as_str() {
        "SENSOR_SENDS" => "sends",
        down if down.contains("DOWN") => "down",
        up if up.ends_with("_UP") => "up",
        _ => "notice",
    };
    match (event.facility.as_str(), words.next()?, words.next()?) {
        ("ETHPORT", "Interface", name) => {
            let name = name.parse().ok().or_else(|| named(&name.parse().ok()?))?;
            Some((Object::Port(name), what))
        }
        ("MONITOR", "Session", id) => Some((Object::Session(id.parse().ok()?), what)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PORT: Object = Object::Port(IfName::Vethernet(1));

    fn texts(history: &History, object: Object) -> Vec<String> {
        history.of(object).into_iter().map(|event| format!("{} {}", event.what, event.text)).collect()
    }

    #[test]
    fn each_object_has_its_own_and_the_oldest_goes() {
        let history = History::default();
        for n in 0..EVENTS_MAX + 3 {
            history.note(PORT, "up", &n.to_string());
        }
        history.note(Object::Module(3), "online", "x\n\x1b[2Jy");
        let port = texts(&history, PORT);
        assert_eq!((port.len(), port[0].as_str()), (EVENTS_MAX, "up 3"));
        assert!(!texts(&history, Object::Module(3))[0].contains(['\n', '\x1b']));
        history.note(Object::Session(1), "up", &"x".repeat(10 * TEXT_MAX));
        assert!(texts(&history, Object::Session(1))[0].len() <= TEXT_MAX + 10);
        assert!(history.of(Object::Session(2)).is_empty());
    }

    #[test]
    fn who_has_been_silent_longest_makes_room() {
        let history = History::default();
        for n in 0..OBJECTS_MAX as u32 {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(if n == 7 { 1 } else { 100 });
            history.note_at(at, Object::Port(IfName::Vethernet(n + 1)), "up", "");
        }
        history.note(Object::Module(3), "online", "");
        assert!(history.of(Object::Port(IfName::Vethernet(8))).is_empty());
        assert_eq!(history.of(Object::Port(IfName::Vethernet(7))).len(), 1);
    }

    #[test]
    fn a_change_is_told_of_each_port_that_it_reaches() {
        let (history, old) = (History::default(), crate::cli::cmd::show::sample::model());
        let mut new = old.clone();
        let (port, profile) = new
            .interfaces
            .iter()
            .find_map(|(name, interface)| Some((*name, interface.inherit.clone()?)))
            .expect("an interface with a profile");
        new.profiles.get_mut(&profile).unwrap().own.ip_acl_out = Some("peers".into());
        new.sessions.remove(old.sessions.keys().next().unwrap());
        changes(&history, &old, &new);
        assert_eq!(texts(&history, Object::Port(port)), ["policy IP access list out: none -> peers"]);
        let id = *old.sessions.keys().next().unwrap();
        assert_eq!(texts(&history, Object::Session(id)), ["config deleted"]);
        changes(&history, &new, &new.clone());
        assert_eq!(history.of(Object::Port(port)).len(), 1);
        let nic = |name: &str| -> NicId { name.parse().unwrap() };
        let cards_of = |list: &[(IfName, &str)]| list.iter().map(|(name, it)| (*name, nic(it))).collect();
        cards(&history, 3, &cards_of(&[(port, "a/0")]), &cards_of(&[]));
        assert_eq!(texts(&history, Object::Port(port))[1], "detached a/0 on module 3");
    }

    #[test]
    fn what_a_module_tells_is_about_a_port_or_a_session() {
        let history = History::default();
        let told = |facility: &str, mnemonic: &str, text: &str| FromModule {
            facility: facility.into(),
            severity: 5,
            mnemonic: mnemonic.into(),
            text: text.into(),
        };
        let card: NicId = "vm1/0".parse().unwrap();
        let say = |event| history.told(3, &event, |nic| (*nic == card).then_some(IfName::Vethernet(2)));
        say(told("ETHPORT", "IF_DOWN_ADMIN_DOWN", "Interface Vethernet1 is down (Administratively down)"));
        say(told("MONITOR", "ETH_SPAN_SESSION_UP", "Session 7 is up"));
        say(told("ETHPORT", "IF_UP", "Interface vm1/0 is up"));
        say(told("ETHPORT", "IF_UP", "Interface vm9/0 is up"));
        say(told("ETHPORT", "IF_UP", ""));
        assert_eq!(texts(&history, Object::Port(IfName::Vethernet(2))), ["up module 3: Interface vm1/0 is up"]);
        let down = "down module 3: Interface Vethernet1 is down (Administratively down)";
        assert_eq!(texts(&history, PORT), [down]);
        assert_eq!(texts(&history, Object::Session(7)), ["up module 3: Session 7 is up"]);
        say(told(
            "ETHPORT",
            "SENSOR_SENDS",
            "Interface vm1/0 is an IDS sensor and has sent 3 frames, which were dropped",
        ));
        assert!(texts(&history, Object::Port(IfName::Vethernet(2)))[1].starts_with("sends module 3: "));
    }
}
