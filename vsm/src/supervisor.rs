//! The supervisor's core: one owner of the configuration, with handles for everybody who reads or changes it.
//!
//! Readers take an immutable picture ([`Handle::model`], [`Handle::inventory`]). A change is a function over the model
//! ([`Handle::edit`]); changes are made one after the other, and each is whole or absent on every connected module.
//!
//! One thread ([`crate::module::control`]) owns the model, the bindings and the modules' sessions. Handles talk to it
//! over a channel and wait for its answer; they may be used from any thread but that one.
//!
//! What survives a restart: the startup configuration, checkpoints and files, the bindings, the authority, the tokens, the
//! log. The running configuration does not, as on NX-OS: what was not saved is gone, and modules get the startup
//! configuration.

mod facts;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use proto::query::Query;
use proto::report::Answer;

use crate::aaa::accounting::{self, Accounting, Event, Lost};
use crate::aaa::servers::Servers;
use crate::aaa::tacacs::report::Reports;
use crate::bootstrap::Bootstrap;
use crate::cli::logins::Logins;
use crate::config::memo::Memo;
use crate::config::model::Model;
use crate::config::running::{self, Part};
use crate::history::History;
use crate::lifecycle::Lifecycle;
use crate::load::Load;
use crate::log::Log;
use crate::module::control::{self, Control, Request};
use crate::module::registry::Inventory;
use crate::snmp;
use crate::store;

pub use facts::{Facts, NxapiFacts, SshFacts, SshKey};

/// Version of this software.
pub const SOFTWARE: &str = env!("CARGO_PKG_VERSION");

/// A change of the configuration: edits the model, or says why it can't (then nothing changes). What it returns are
/// warnings for the person who typed it, without the word `Warning`.
pub type Change = Box<dyn FnOnce(&mut Model) -> Result<Vec<String>, String> + Send>;

/// Why a change was not made. The text is what the administrator sees.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The change itself is wrong.
    #[error("{0}")]
    Refused(String),
    /// A module can't apply it; nothing was changed on any module.
    #[error("module {slot}: {reason}")]
    Module {
        /// Slot of the module.
        slot: u8,
        /// What it said.
        reason: String,
    },
    /// The supervisor is shutting down.
    #[error("the supervisor is shutting down")]
    Stopping,
}

/// What handles and the supervisor's thread share.
pub(crate) struct Shared {
    pub(crate) model: ArcSwap<Model>,
    pub(crate) inventory: ArcSwap<Inventory>,
    pub(crate) log: Log,
    pub(crate) history: History,
    pub(crate) facts: Facts,
    accounting: Accounting,
    pub(crate) servers: Servers,
    reports: Reports,
    lifecycle: Lifecycle,
    text: Memo,
    logins: Logins,
    load: Load,
    ssh: ArcSwapOption<SshFacts>,
    snmp: ArcSwapOption<snmp::Status>,
    nxapi: ArcSwapOption<NxapiFacts>,
    editing: Mutex<()>,
}

/// Stands for a configuration that is being changed.
static NOTHING: LazyLock<Arc<Model>> = LazyLock::new(Arc::default);

/// A handle; clones share the supervisor.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
    remote: Option<Remote>,
    /// See [`Handle::loading`].
    in_place: bool,
}

#[derive(Clone)]
struct Remote {
    requests: Sender<Request>,
    waker: Arc<mio::Waker>,
}

impl Remote {
    fn post<T>(&self, request: impl FnOnce(Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = bounded(1);
        self.requests.send(request(reply)).ok()?;
        self.waker.wake().ok()?;
        // A supervisor that stops drops the request, and with it the sender.
        answer.recv().ok()
    }
}

impl Handle {
    /// A supervisor without modules, for tests of the command line.
    pub fn detached(model: Model) -> Self {
        Self::shadow(model, Inventory::default())
    }

    /// A copy to try commands on: they see the modules of the inventory, and reach none of them.
    pub fn shadow(model: Model, inventory: Inventory) -> Self {
        let facts = Facts {
            domain: model.domain_id.unwrap_or(1),
            listen: None,
            addresses: Vec::new(),
            software: SOFTWARE,
            started: SystemTime::now(),
        };
        let log = Log::in_memory();
        log.configure(&model);
        let (accounting, lifecycle) = (Accounting::in_memory(), Lifecycle::in_memory());
        let shared = Shared::new(model, inventory, log, facts, accounting, lifecycle);
        Handle { shared: Arc::new(shared), remote: None, in_place: false }
    }

    /// A copy that a whole text is typed into, which is dropped when a line of it is refused. So a change need not be
    /// made on a copy of its own: with 10,000 interfaces the copies would take hours.
    pub fn loading(model: Model, inventory: Inventory) -> Self {
        Handle { in_place: true, ..Self::shadow(model, inventory) }
    }

    /// The same supervisor, with these modules.
    #[cfg(test)]
    pub(crate) fn with_inventory(self, inventory: Inventory) -> Self {
        self.shared.inventory.store(Arc::new(inventory));
        self
    }

    /// The running configuration.
    pub fn model(&self) -> Arc<Model> {
        self.shared.model.load_full()
    }

    /// The text of a running configuration, without a header.
    pub fn text_of(&self, model: &Arc<Model>) -> Arc<str> {
        self.shared.text.body(model)
    }

    /// Modules and bindings; counters are up to a second old.
    pub fn inventory(&self) -> Arc<Inventory> {
        self.shared.inventory.load_full()
    }

    /// What has happened to ports, sessions and modules.
    pub fn history(&self) -> &History {
        &self.shared.history
    }

    /// What does not change.
    pub fn facts(&self) -> &Facts {
        &self.shared.facts
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// What is known of RADIUS and TACACS+ servers.
    pub fn servers(&self) -> &Servers {
        &self.shared.servers
    }

    /// The accounting log, to be read.
    pub fn accounting(&self) -> &Accounting {
        &self.shared.accounting
    }

    /// Writes a record of accounting; when the disk does not take it, the log says so.
    pub fn account(&self, event: &Event<'_>) {
        self.lost(self.shared.accounting.write(event, SystemTime::now()));
        let is_told = self.model().aaa.accounting.as_ref().is_some_and(|methods| !methods.groups.is_empty());
        if is_told && !self.shared.reports.send(event, Arc::downgrade(&self.shared)) {
            self.log().write("AAA", 3, "RECORD_NOT_SENT", "Accounting records come faster than servers take them");
        }
    }

    /// Writes a record of somebody who was not let in; `id` is where he comes from.
    pub fn login_failed(&self, id: &str, user: &str, how: &str) {
        self.lost(self.shared.accounting.login_failed(id, user, how, SystemTime::now()));
    }

    fn lost(&self, written: Result<(), Lost>) {
        // The first, and then not every one: a full disk is to be seen, not to fill the log.
        if let Err(lost) = written
            && (lost.lost == 1 || lost.lost % 100 == 0)
        {
            self.log().write("ACCOUNTING", 2, "RECORD_LOST", &format!("The accounting log can not be written: {lost}"));
        }
    }

    /// The SSH server, when there is one.
    pub fn ssh(&self) -> Option<Arc<SshFacts>> {
        self.shared.ssh.load_full()
    }

    /// The SSH server says what it is; `None`: it has ended.
    pub(crate) fn set_ssh(&self, facts: Option<SshFacts>) {
        self.shared.ssh.store(facts.map(Arc::new));
    }

    /// The SNMP subagent, when there is one.
    pub fn snmp(&self) -> Option<Arc<snmp::Status>> {
        self.shared.snmp.load_full()
    }

    /// The SNMP subagent says what it is.
    pub(crate) fn set_snmp(&self, status: Arc<snmp::Status>) {
        self.shared.snmp.store(Some(status));
    }

    /// NX-API, when there is one.
    pub fn nxapi(&self) -> Option<Arc<NxapiFacts>> {
        self.shared.nxapi.load_full()
    }

    /// NX-API says what it is; `None`: it has ended.
    pub(crate) fn set_nxapi(&self, facts: Option<NxapiFacts>) {
        self.shared.nxapi.store(facts.map(Arc::new));
    }

    /// The sessions that somebody sits at.
    pub fn logins(&self) -> &Logins {
        &self.shared.logins
    }

    /// How busy the machine is.
    pub fn load(&self) -> &Load {
        &self.shared.load
    }

    /// What there is beside the running configuration.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.shared.lifecycle
    }

    /// Makes a change. Returns its warnings once every connected module has applied it; that is up to six seconds when
    /// a module has fallen silent.
    ///
    /// # Errors
    /// Nothing was changed; among the reasons is a commit that waits for its confirmation.
    pub fn edit(&self, change: Change) -> Result<Vec<String>, EditError> {
        let shared = self.shared.clone();
        self.edit_in_trial(Box::new(move |model| {
            shared.lifecycle.trial.refuse()?;
            change(model)
        }))
    }

    /// As [`Handle::edit`], also while a commit waits for its confirmation.
    pub(crate) fn edit_in_trial(&self, change: Change) -> Result<Vec<String>, EditError> {
        match &self.remote {
            Some(remote) => remote.post(|reply| Request::Edit { change, reply }).unwrap_or(Err(EditError::Stopping)),
            None => {
                let _one_at_a_time = self.shared.editing.lock().map_err(|_| EditError::Stopping)?;
                let mut model = match self.in_place {
                    // Nobody else holds it, unless a command does while it makes its change.
                    true => self.shared.model.swap(NOTHING.clone()),
                    false => self.model(),
                };
                let outcome = change(Arc::make_mut(&mut model));
                if outcome.is_ok() && !self.in_place {
                    self.shared.log.configure(&model);
                }
                if outcome.is_ok() || self.in_place {
                    self.shared.model.store(model);
                }
                outcome.map_err(EditError::Refused)
            }
        }
    }

    /// Asks every connected module whether it would run this configuration; gives those that would not, and why. Nothing is
    /// changed.
    ///
    /// # Errors
    /// The supervisor would not.
    pub fn try_on_modules(&self, next: Model) -> Result<Vec<(u8, String)>, EditError> {
        let change: Change = Box::new(move |model| {
            *model = next;
            Ok(Vec::new())
        });
        match &self.remote {
            Some(remote) => remote.post(|reply| Request::Try { change, reply }).unwrap_or(Err(EditError::Stopping)),
            None => Ok(Vec::new()),
        }
    }

    /// Asks one connected module, or all of them, and waits up to two seconds for the answers; they come by slot. A
    /// module that was asked for and is not connected gives an error.
    pub fn ask(&self, query: Query, slot: Option<u8>) -> Vec<(u8, Result<Answer, String>)> {
        match &self.remote {
            Some(remote) => remote.post(|reply| Request::Ask { query, slot, reply }).unwrap_or_default(),
            None => slot.map(|slot| (slot, Err(control::not_connected(slot)))).into_iter().collect(),
        }
    }

    /// Forgets an absent module, and frees its slot.
    ///
    /// # Errors
    /// It is connected, or there is none.
    pub fn remove_module(&self, slot: u8) -> Result<(), String> {
        match &self.remote {
            Some(remote) => remote
                .post(|reply| Request::Remove { slot, reply })
                .unwrap_or_else(|| Err(EditError::Stopping.to_string())),
            None if self.inventory().modules.contains_key(&slot) => {
                Err(format!("Module {slot} can not be forgotten by a configuration that is not applied yet"))
            }
            None => Err(crate::module::registry::Error::Unknown(slot).to_string()),
        }
    }

    /// Saves the running configuration as the startup configuration; it is on disk when this returns.
    ///
    /// # Errors
    /// A commit waits for its confirmation, or it can't be written; the old one stays.
    pub fn save(&self, now: SystemTime) -> Result<(), String> {
        // Asked on both sides, so that what was read is not a configuration that is being tried out.
        self.shared.lifecycle.trial.refuse()?;
        let model = self.model();
        self.shared.lifecycle.trial.refuse()?;
        let text = running::text(&model, &Part::Whole, "show startup-config", now);
        let saved = self.shared.lifecycle.startup.save(&text);
        saved.map_err(|e| format!("The startup configuration was not written: {e}"))
    }

    /// Ends the sessions and the supervisor's thread. What is queued is refused.
    pub fn stop(&self) {
        self.shared.lifecycle.trial.stop();
        if let Some(remote) = &self.remote {
            let _ = remote.requests.send(Request::Stop);
            let _ = remote.waker.wake();
        }
    }
}

impl Shared {
    fn new(
        model: Model,
        inventory: Inventory,
        log: Log,
        facts: Facts,
        accounting: Accounting,
        lifecycle: Lifecycle,
    ) -> Self {
        Shared {
            model: ArcSwap::from_pointee(model),
            inventory: ArcSwap::from_pointee(inventory),
            history: History::default(),
            log,
            facts,
            accounting,
            servers: Servers::default(),
            reports: Reports::default(),
            lifecycle,
            text: Memo::default(),
            logins: Logins::default(),
            load: Load::default(),
            ssh: ArcSwapOption::empty(),
            snmp: ArcSwapOption::empty(),
            nxapi: ArcSwapOption::empty(),
            editing: Mutex::new(()),
        }
    }
}

/// Why a supervisor can't start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the state directory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] crate::module::authority::Error),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] crate::module::tokens::Error),
    /// The address.
    #[error("listening on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Threads and wake-ups.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The startup configuration is for another domain.
    #[error("the startup configuration is for domain {configured}, vsm.toml for domain {ours}")]
    Domain {
        /// `domain id` of the startup configuration.
        configured: u16,
        /// That of `vsm.toml`.
        ours: u16,
    },
}

/// Reads the machine's counters every second, until the sender is dropped.
fn measure(shared: Arc<Shared>) -> std::io::Result<Sender<()>> {
    let (sender, ended) = bounded(0);
    let run = move || {
        while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            shared.load.tick();
        }
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(run)?;
    Ok(sender)
}

/// A running supervisor.
pub struct Supervisor {
    handle: Handle,
    thread: JoinHandle<()>,
    /// The thread that measures the machine's load ends with it.
    _measuring: Sender<()>,
}

impl Supervisor {
    /// Starts a supervisor with this running configuration. `startup` is the text that it was read from.
    ///
    /// # Errors
    /// See [`Error`]; nothing runs then.
    pub fn start(boot: &Bootstrap, model: Model, startup: Option<String>) -> Result<Self, Error> {
        if let Some(configured) = model.domain_id.filter(|id| *id != boot.domain) {
            return Err(Error::Domain { configured, ours: boot.domain });
        }
        store::make_directory(&boot.state_dir)?;
        let lock = store::lock(&boot.state_dir)?;
        let log = Log::open(&boot.log_file())?;
        log.configure(&model);
        let mut parts = control::Parts::open(boot, lock)?;
        let facts = Facts {
            domain: boot.domain,
            listen: Some(parts.server.address()?),
            addresses: boot.addresses(),
            software: SOFTWARE,
            started: SystemTime::now(),
        };
        let inventory = parts.registry.inventory.clone();
        let lifecycle = Lifecycle::open(boot, startup)?;
        let accounting = Accounting::open(&boot.state_dir.join(accounting::FILE))?;
        let shared = Arc::new(Shared::new(model, inventory, log, facts, accounting, lifecycle));
        let (sender, requests) = bounded(64);
        let waker = parts.waker()?;
        let control = Control::new(parts, shared.clone(), requests);
        let thread = std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || control.run())?;
        let measuring = measure(shared.clone())?;
        let handle = Handle { shared, remote: Some(Remote { requests: sender, waker }), in_place: false };
        Ok(Supervisor { handle, thread, _measuring: measuring })
    }

    /// A handle.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it and waits for its end.
    pub fn stop(self) {
        self.handle.stop();
        if self.thread.join().is_err() {
            tracing::error!("the supervisor's thread had failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_handle_edits_saves_and_knows_no_modules() {
        let handle = Handle::detached(Model::default());
        let change = |name: &'static str| -> Change {
            Box::new(move |model: &mut Model| {
                name.clone_into(&mut model.hostname);
                if name.is_empty() { Err("no name".to_owned()) } else { Ok(vec!["as you say".to_owned()]) }
            })
        };
        assert_eq!(handle.edit(change("n1000v")), Ok(vec!["as you say".to_owned()]));
        assert_eq!(handle.edit(change("")), Err(EditError::Refused("no name".to_owned())));
        assert_eq!(handle.model().hostname, "n1000v");
        assert_eq!(handle.lifecycle().startup.text(), None);
        handle.save(SystemTime::now()).unwrap();
        assert!(handle.lifecycle().startup.text().unwrap().contains("hostname n1000v\n"));
        assert_eq!(handle.ask(Query::Ports, None), []);
        assert!(handle.ask(Query::Ports, Some(3))[0].1.is_err());
        assert_eq!(handle.remove_module(3), Err("there is no module 3".to_owned()));
    }
}
