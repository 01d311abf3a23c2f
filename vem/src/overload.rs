//! Overload: says that frames or counts are lost because something is too small, and what makes it larger.
//!
//! Counters tell that on every `show`; this tells it to who does not look. Losses are added up over [`WINDOW`]; [`LOSSES`] of them
//! in one make an event, and the same thing is told once in [`QUIET`] at most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::msg::Event;

/// Time over which losses are added up.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Losses in it that are worth an event.
pub const LOSSES: u64 = 100;
/// Time for which a thing that was told is not told again.
pub const QUIET: Duration = Duration::from_secs(600);

/// Something that loses when there is too much of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Thing {
    /// The queue of the device of a port, by its name and driver.
    Queue(String, String),
    /// The flow cache.
    Flows,
}

impl Thing {
    fn event(&self, losses: u64) -> Event {
        let seconds = WINDOW.as_secs();
        let (facility, mnemonic, text) = match self {
            Thing::Queue(port, driver) => {
                let more = match driver.as_str() {
                    "vhost-user" => {
                        "its VM takes them too slowly: more queues (vem attach --queues), or a larger ring in the VM"
                    }
                    _ => {
                        "its device takes them too slowly: more workers (vem.toml dataplane.workers), or fewer others on their cores"
                    }
                };
                let text = format!("Interface {port} has lost {losses} frames in {seconds} s as tx-full; {more}");
                ("ETHPORT", "OVERLOAD_DROPS", text)
            }
            Thing::Flows => {
                let more = "more room for flows (vem.toml limits.flows) or for reports that wait (limits.records)";
                let text = format!("{losses} packets in {seconds} s were counted by no flow; {more}");
                ("NETFLOW", "OVERLOAD_UNMETERED", text)
            }
        };
        Event { facility: facility.to_owned(), severity: 4, mnemonic: mnemonic.to_owned(), text }
    }
}

/// What was lost up to the begin of the window, and what was told when.
#[derive(Default)]
pub struct Overload {
    began: Option<Instant>,
    before: BTreeMap<Thing, u64>,
    told: BTreeMap<Thing, Instant>,
}

impl Overload {
    /// To be called often, with all that was ever lost; the events that come of it.
    pub fn look(&mut self, now: Instant, losses: impl FnOnce() -> BTreeMap<Thing, u64>) -> Vec<Event> {
        if self.began.is_some_and(|began| now.saturating_duration_since(began) < WINDOW) {
            return Vec::new();
        }
        let (first, losses) = (self.began.replace(now).is_none(), losses());
        let before = std::mem::replace(&mut self.before, losses);
        self.told.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        if first {
            return Vec::new();
        }
        let mut events = Vec::new();
        for (thing, total) in &self.before {
            // A count that is smaller was cleared, or is that of another port.
            let lost = total.saturating_sub(before.get(thing).copied().unwrap_or(0));
            if lost >= LOSSES && !self.told.contains_key(thing) {
                self.told.insert(thing.clone(), now);
                events.push(thing.event(lost));
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_once_with_what_helps() {
        let (mut overload, start) = (Overload::default(), Instant::now());
        let mut look = |s, lost: u64, unmetered: u64| {
            let queue = Thing::Queue("Vethernet1".into(), "vhost-user".into());
            let losses = BTreeMap::from([(queue, lost), (Thing::Flows, unmetered)]);
            let events = overload.look(start + Duration::from_secs(s), || losses);
            events.into_iter().map(|event| format!("{}: {}", event.mnemonic, event.text)).collect::<Vec<_>>()
        };
        assert!(look(0, 1_000_000, 0).is_empty(), "what was before is nobody's");
        assert!(look(1, 2_000_000, 0).is_empty(), "the window is not over");
        assert!(look(60, 1_000_099, 0).is_empty(), "so few are no overload");
        let told = look(120, 1_000_199, 150);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].contains("Interface Vethernet1 has lost 100 frames") && told[0].contains("--queues"),
            "{told:?}"
        );
        assert!(told[1].contains("limits.flows"), "{told:?}");
        assert!(look(180, 2_000_000, 9_999).is_empty(), "it was told");
        assert_eq!(look(780, 3_000_000, 9_999).len(), 1);
        assert!(look(840, 5, 9_999).is_empty(), "it was cleared");
    }
}
