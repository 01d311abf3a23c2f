//! Telling servers what was done: a queue, and a thread that empties it.
//!
//! Whoever types does not wait for it. When no server takes the records, or they come faster than servers take them, they
//! are counted and the log says so; the switch's own accounting log has them all.

use std::sync::{OnceLock, Weak};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::packet::Who;
use crate::aaa::accounting::Event;
use crate::aaa::accounting::chain::Kind;
use crate::supervisor::Shared;

/// Most records that wait.
const WAITING_MAX: usize = 1024;

/// A record for servers.
struct Record {
    kind: Kind,
    id: String,
    user: String,
    text: String,
}

/// The queue.
#[derive(Default)]
pub struct Reports(OnceLock<Option<Sender<Record>>>);

impl Reports {
    /// Queues a record; `false`: it is lost.
    pub(crate) fn send(&self, event: &Event<'_>, shared: Weak<Shared>) -> bool {
        let start = || {
            let (sender, records) = bounded(WAITING_MAX);
            let run = move || empty(&records, &shared);
            std::thread::Builder::new().name("accounting".into()).spawn(run).ok().map(|_| sender)
        };
        let outcome = if event.outcome.is_empty() { String::new() } else { format!(" ({})", event.outcome) };
        let record = Record {
            kind: event.kind,
            id: event.id.to_owned(),
            user: event.user.to_owned(),
            text: format!("{}{outcome}", event.text),
        };
        self.0.get_or_init(start).as_ref().is_some_and(|queue| queue.try_send(record).is_ok())
    }
}

/// Runs until the supervisor is gone.
fn empty(records: &Receiver<Record>, shared: &Weak<Shared>) {
    let mut task = 0u32;
    let mut lost = 0u64;
    for record in records {
        let Some(shared) = shared.upgrade() else { return };
        let model = shared.model.load_full();
        let Some(methods) = &model.aaa.accounting else { continue };
        task = task.wrapping_add(1);
        let (from, port) = record.id.split_once('@').unwrap_or(("", &record.id));
        let who = Who { user: &record.user, port, from };
        let (flags, text) = match record.kind {
            Kind::Start => (2, String::new()),
            Kind::Stop => (4, String::new()),
            _ => (4, format!("cmd={}", record.text)),
        };
        let mut arguments = vec![format!("task_id={task}"), "timezone=UTC".to_owned(), "service=shell".to_owned()];
        arguments.extend(Some(text).filter(|text| !text.is_empty()));
        let servers = &shared.servers;
        let told = servers.ask(&model.aaa, &methods.groups, |target, deadline, statistics| {
            super::has(target, &who, flags, &arguments, servers.kept(), deadline, statistics)
        });
        if told.is_none() && !methods.groups.is_empty() {
            lost += 1;
            if lost == 1 || lost.is_multiple_of(100) {
                let text = format!("No server takes accounting records; {lost} are here only");
                shared.log.write("AAA", 3, "RECORD_NOT_SENT", &text);
            }
        }
    }
}
