//! The supervisor's thread: one loop over the agents' sessions and the handles' requests.
//!
//! It owns the model, the bindings and the sessions, so nothing here is locked. Changes of what modules run wait in one
//! queue and are pushed one at a time ([`crate::module::push`]): edits of the administrator, and what follows from ports that came or went.
//! Questions ([`Handle::ask`](crate::supervisor::Handle::ask)) and sessions go on meanwhile.
//!
//! When a module says which ports it has, new cards get their Vethernet numbers (on disk before anybody is told), their
//! interfaces inherit the profile that the server administrator chose, and every module whose configuration differs from
//! what it says it runs gets it. A module that has just connected is brought up to date by the same way.
//!
//! Limits: [`PORTS_MAX`](super::ports::PORTS_MAX) ports a module, [`REFUSALS_PER_MINUTE`] log lines about refused connections.

mod changes;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, TryRecvError};
use hashbrown::HashMap;
use mio::{Events, Poll, Token, Waker};
use proto::msg::{Enroll, Event, FromVem, FromVsm, Hello};
use proto::query::Query;
use proto::report::{Answer, PortReport};

use super::admission::{self, Refusal};
use super::ask::Asks;
use super::authority::Authority;
use super::push::Push;
use super::registry::{LinkCounters, Registry};
use super::server::{End, Server};
use super::tokens::Tokens;
use crate::bootstrap::Bootstrap;
use crate::config::compile::interface_of;
use crate::config::model::Model;
use crate::history::Object;
use crate::log::clean;
use crate::supervisor::{Change, EditError, Error, SOFTWARE, Shared};

/// Most log lines a minute about connections that were refused.
pub const REFUSALS_PER_MINUTE: u32 = 60;
/// Milliseconds between two publications of the counters.
const PUBLISH_MS: u64 = 1000;

const WAKER: Token = Token(0);
const LISTENER: Token = Token(1);

/// What a handle asks of the thread. A reply that is dropped says that the supervisor stops.
pub(crate) enum Request {
    Edit { change: Change, reply: Sender<Result<Vec<String>, EditError>> },
    Try { change: Change, reply: Sender<Result<Refusals, EditError>> },
    Ask { query: Query, slot: Option<u8>, reply: Sender<Vec<(u8, Result<Answer, String>)>> },
    Remove { slot: u8, reply: Sender<Result<(), String>> },
    Stop,
}

/// Modules that would not take a change, and why.
pub(crate) type Refusals = Vec<(u8, String)>;

/// What the thread is made of.
pub(crate) struct Parts {
    pub(crate) server: Server,
    pub(crate) registry: Registry,
    authority: Authority,
    tokens: Tokens,
    poll: Poll,
    /// The state directory is ours while this is open.
    _lock: File,
}

impl Parts {
    pub(crate) fn open(boot: &Bootstrap, lock: File) -> Result<Self, Error> {
        let authority = Authority::open(&boot.state_dir, boot.domain)?;
        let tokens = Tokens::open(&boot.state_dir)?;
        let registry = Registry::open(&boot.state_dir)?;
        let poll = Poll::new()?;
        let tls = authority.server_config()?;
        let server = Server::open(boot.listen, tls, poll.registry().try_clone()?, LISTENER)
            .map_err(|e| Error::Listen(boot.listen, e))?;
        Ok(Parts { server, registry, authority, tokens, poll, _lock: lock })
    }

    pub(crate) fn waker(&mut self) -> std::io::Result<Arc<Waker>> {
        Ok(Arc::new(Waker::new(self.poll.registry(), WAKER)?))
    }
}

/// A change that waits for the one before it.
enum Work {
    Edit { change: Change, reply: Sender<Result<Vec<String>, EditError>> },
    Try { change: Change, reply: Sender<Result<Refusals, EditError>> },
    Ports { slot: u8, ports: Vec<PortReport> },
}

/// The push that runs, and what hangs on it.
struct Running {
    push: Push,
    edit: Option<Edit>,
    /// Who wants to know what modules would say, and those of which it is known already.
    tried: Option<(Refusals, Sender<Result<Refusals, EditError>>)>,
    decided: bool,
}

struct Edit {
    model: Model,
    warnings: Vec<String>,
    reply: Sender<Result<Vec<String>, EditError>>,
}

/// A module that is connected.
struct Member {
    token: Token,
    /// It has said what ports it has; before that it gets no configuration.
    has_ports: bool,
    /// Ports that it says it has and another module holds.
    contested: Vec<PortReport>,
    /// What its hello has said that it can do.
    capabilities: Vec<String>,
}

/// The thread.
pub(crate) struct Control {
    parts: Parts,
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    model: Arc<Model>,
    members: BTreeMap<u8, Member>,
    slots: HashMap<Token, u8>,
    queue: VecDeque<Work>,
    running: Option<Running>,
    asks: Asks,
    /// Counters of a module's sessions that are over.
    past: BTreeMap<u8, LinkCounters>,
    refusals: (u64, u32),
    start: Instant,
    published_ms: u64,
    changed: bool,
    stopping: bool,
}

impl Control {
    pub(crate) fn new(parts: Parts, shared: Arc<Shared>, requests: Receiver<Request>) -> Self {
        Control {
            model: shared.model.load_full(),
            parts,
            shared,
            requests,
            members: BTreeMap::new(),
            slots: HashMap::new(),
            queue: VecDeque::new(),
            running: None,
            asks: Asks::default(),
            past: BTreeMap::new(),
            refusals: (0, 0),
            start: Instant::now(),
            published_ms: 0,
            changed: false,
            stopping: false,
        }
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let domain = self.shared.facts.domain;
        self.shared.log.write("VEM_MGR", 5, "STARTED", &format!("Supervisor of domain {domain} has started"));
        while !self.stopping {
            if let Err(e) = self.parts.poll.poll(&mut events, Some(self.patience()))
                && e.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!("poll: {e}");
                break;
            }
            let now = self.now_ms();
            let mut ready: Vec<Token> = events.iter().map(|e| e.token()).collect();
            ready.extend(self.parts.server.more());
            for token in ready {
                match token {
                    WAKER => self.take_requests(now),
                    LISTENER => self.parts.server.accept(now),
                    token => self.take_messages(token, now),
                }
            }
            self.parts.server.tick(now);
            self.take_ends(now);
            self.on_time(now);
            self.advance(now);
            self.publish(now);
        }
        self.shared.log.write("VEM_MGR", 5, "STOPPED", &format!("Supervisor of domain {domain} has stopped"));
        let now = self.now_ms();
        for member in self.members.values() {
            self.parts.server.close(member.token, now);
        }
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Duration {
        if !self.parts.server.more().is_empty() {
            return Duration::ZERO;
        }
        let push = self.running.as_ref().and_then(|r| r.push.due_ms());
        let due = [push, self.asks.due_ms(), self.parts.server.due_ms(), Some(self.published_ms + PUBLISH_MS)];
        let next = due.into_iter().flatten().min().unwrap_or(0);
        Duration::from_millis(next.saturating_sub(self.now_ms()))
    }

    // ---- requests of handles

    fn take_requests(&mut self, now: u64) {
        loop {
            match self.requests.try_recv() {
                Ok(Request::Edit { change, reply }) => self.queue.push_back(Work::Edit { change, reply }),
                Ok(Request::Try { change, reply }) => self.queue.push_back(Work::Try { change, reply }),
                Ok(Request::Ask { query, slot, reply }) => self.ask(query, slot, reply, now),
                Ok(Request::Remove { slot, reply }) => {
                    let outcome = self.parts.registry.remove(slot).map_err(|e| e.to_string());
                    self.past.remove(&slot);
                    self.save();
                    self.changed = true;
                    self.publish(now);
                    let _ = reply.send(outcome);
                }
                Ok(Request::Stop) => self.stopping = true,
                Err(TryRecvError::Empty) => return,
                // Every handle is gone: nobody can ever ask again, but the modules go on.
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn ask(&mut self, query: Query, slot: Option<u8>, reply: Sender<Vec<(u8, Result<Answer, String>)>>, now: u64) {
        let asked: Vec<u8> = match slot {
            Some(slot) if self.members.contains_key(&slot) => vec![slot],
            Some(slot) => {
                let _ = reply.send(vec![(slot, Err(not_connected(slot)))]);
                return;
            }
            None => self.members.keys().copied().collect(),
        };
        let id = self.asks.begin(&asked, reply, now);
        for slot in asked {
            let knows = |member: &Member| query.capability().is_none_or(|c| member.capabilities.iter().any(|k| k == c));
            match self.members.get(&slot).is_some_and(knows) {
                true => self.send(slot, &FromVsm::Query { id, query: query.clone() }, now),
                false => self.asks.answer(id, slot, Err(format!("the software of module {slot} is too old for that"))),
            }
        }
    }

    // ---- messages of agents

    fn take_messages(&mut self, token: Token, now: u64) {
        for message in self.parts.server.ready(token, now) {
            match (self.slots.get(&token).copied(), message) {
                (None, FromVem::Hello(hello)) => self.on_hello(token, hello, now),
                (None, FromVem::Enroll(request)) => self.on_enroll(token, &request, now),
                (Some(slot), message) => self.on_message(slot, message, now),
                // The session lets nothing else through; what is left came behind a refused hello.
                (None, _) => (),
            }
        }
    }

    fn on_hello(&mut self, token: Token, hello: Hello, now: u64) {
        match self.admit(token, &hello) {
            Ok(slot) => {
                self.parts.server.set_member(token);
                let member =
                    Member { token, has_ports: false, contested: Vec::new(), capabilities: hello.capabilities };
                self.members.insert(slot, member);
                self.slots.insert(token, slot);
                self.save();
                self.changed = true;
                let host = clean(&hello.host, 64);
                self.remember(slot, &host, &hello.software);
                let log = &self.shared.log;
                log.write("VEM_MGR", 2, "VEM_MGR_DETECTED", &format!("Host {host} detected as module {slot}"));
                log.write("VEM_MGR", 2, "MOD_ONLINE", &format!("Module {slot} is online"));
                let switch_name = self.model.hostname.clone();
                let software = SOFTWARE.to_owned();
                self.send(slot, &FromVsm::Welcome { module: slot, switch_name, software }, now);
            }
            Err(refusal) => self.refuse(token, &format!("{} ({})", hello.host, hello.uuid), &refusal, now),
        }
    }

    /// Notes that a module is there, and for which time.
    fn remember(&self, slot: u8, host: &str, software: &str) {
        let module = self.parts.registry.inventory.modules.get(&slot);
        let from = module.and_then(|module| module.address).map(|at| format!(" from {at}")).unwrap_or_default();
        let again = module.filter(|module| module.counters.insertions > 1);
        let again = again.map(|module| format!(", for the {}. time", module.counters.insertions)).unwrap_or_default();
        let text = format!("host {host}, software {}{from}{again}", clean(software, 64));
        self.shared.history.note(Object::Module(slot), "online", &text);
    }

    fn admit(&mut self, token: Token, hello: &Hello) -> Result<u8, Refusal> {
        let registry = &self.parts.registry;
        let is_connected = |uuid| registry.slot_of(uuid).is_some_and(|slot| self.members.contains_key(&slot));
        let certificate = self.parts.server.certificate(token);
        admission::judge(hello, certificate, self.shared.facts.domain, is_connected)?;
        let peer = self.parts.server.peer(token).ok_or(Refusal::NoCertificate)?;
        let (host, software) = (clean(&hello.host, 64), clean(&hello.software, 64));
        let registry = &mut self.parts.registry;
        let slot = registry.admit(hello.uuid, &host, &software, peer, &self.model.vems)?;
        registry.saw_version(hello.version);
        if let Some(module) = registry.inventory.modules.get_mut(&slot) {
            module.applied = (hello.version, hello.hash);
            let (given, hash) = module.intended;
            if given > 0 && hash != hello.hash {
                let text =
                    format!("Module {slot} runs another configuration than version {given}, which it was given last");
                self.shared.log.write("VEM_MGR", 3, "CONFIG_DRIFT", &text);
                self.shared.history.note(Object::Module(slot), "drift", &text);
            }
        }
        Ok(slot)
    }

    fn on_enroll(&mut self, token: Token, request: &Enroll, now: u64) {
        let registry = &self.parts.registry;
        let is_connected = |uuid| registry.slot_of(uuid).is_some_and(|slot| self.members.contains_key(&slot));
        let who = format!("{} ({})", request.host, request.uuid);
        let (authority, tokens, domain) = (&self.parts.authority, &self.parts.tokens, self.shared.facts.domain);
        match admission::enroll(request, authority, tokens, domain, is_connected, unix_s()) {
            Ok(certificate) => {
                let text = format!("Host {who} has been enrolled");
                self.shared.log.write("VEM_MGR", 5, "VEM_MGR_ENROLLED", &text);
                let authority = authority.certificate().to_vec();
                let message = FromVsm::Enrolled { certificate: certificate.to_vec(), authority };
                self.parts.server.send(token, &message, now);
                self.parts.server.close(token, now);
            }
            Err(refusal) => self.refuse(token, &who, &refusal, now),
        }
    }

    fn refuse(&mut self, token: Token, who: &str, refusal: &Refusal, now: u64) {
        let from = self.parts.server.peer(token).map(|peer| peer.to_string()).unwrap_or_default();
        self.log_refusal(&format!("Refused host {who} at {from}: {refusal}"), now);
        self.parts.server.send(token, &FromVsm::Refuse(refusal.to_string()), now);
        self.parts.server.close(token, now);
    }

    fn log_refusal(&mut self, text: &str, now: u64) {
        let minute = now / 60_000;
        if self.refusals.0 != minute {
            self.refusals = (minute, 0);
        }
        self.refusals.1 += 1;
        match self.refusals.1 {
            n if n <= REFUSALS_PER_MINUTE => self.shared.log.write("VEM_MGR", 2, "VEM_MGR_REFUSED", text),
            n if n == REFUSALS_PER_MINUTE + 1 => {
                let text = "More connections were refused; not logged until the next minute";
                self.shared.log.write("VEM_MGR", 2, "VEM_MGR_REFUSED", text);
            }
            _ => (),
        }
    }

    fn on_message(&mut self, slot: u8, message: FromVem, now: u64) {
        match message {
            FromVem::Ports(ports) => {
                // Only the newest list counts.
                self.queue.retain(|work| !matches!(work, Work::Ports { slot: other, .. } if *other == slot));
                self.queue.push_back(Work::Ports { slot, ports });
            }
            FromVem::Prepared { version, error } => {
                let error = error.map(|text| clean(&text, 500));
                let actions = self.push(|push| push.on_prepared(slot, version, error, now));
                self.perform(actions, now);
            }
            FromVem::Applied { version, hash } => {
                if let Some(module) = self.parts.registry.inventory.modules.get_mut(&slot) {
                    module.applied = (version, hash);
                    self.changed = true;
                }
                let text = format!("runs configuration {version}");
                self.shared.history.note(Object::Module(slot), "applied", &text);
                let actions = self.push(|push| push.on_applied(slot, version, hash, now));
                self.perform(actions, now);
            }
            FromVem::Answer { id, answer } => self.asks.answer(id, slot, Ok(answer)),
            FromVem::Event(event) => {
                let inventory = &self.parts.registry.inventory;
                self.shared.history.told(slot, &event, |nic| {
                    let mut ports = inventory.modules.get(&slot)?.ports.iter();
                    interface_of(inventory, slot, ports.find(|port| port.nic == *nic)?)
                });
                let Event { facility, severity, mnemonic, text } = event;
                self.shared.log.write(&facility, severity, &mnemonic, &format!("Module {slot}: {text}"));
            }
            // The session keeps heartbeats to itself and openings to the beginning.
            FromVem::Hello(_) | FromVem::Enroll(_) | FromVem::Heartbeat => (),
        }
    }

    fn take_ends(&mut self, now: u64) {
        for end in self.parts.server.ends() {
            match self.slots.get(&end.token).copied() {
                Some(slot) => self.on_lost(slot, &end, now),
                None => {
                    self.log_refusal(&format!("Connection from {} ended before a hello: {}", end.peer, end.reason), now)
                }
            }
        }
    }

    /// Ends the session of a module on our own account.
    fn disconnect(&mut self, slot: u8, reason: String, now: u64) {
        let Some(member) = self.members.get(&slot) else { return };
        let token = member.token;
        let Some(peer) = self.parts.server.peer(token) else { return };
        let counters = self.parts.server.counters(token);
        self.parts.server.close(token, now);
        self.on_lost(slot, &End { token, peer, reason, silent: false, sending: false, counters }, now);
    }

    fn on_lost(&mut self, slot: u8, end: &End, now: u64) {
        self.members.remove(&slot);
        self.slots.remove(&end.token);
        let past = self.past.entry(slot).or_default();
        *past = sum(*past, end.counters);
        past.tx_errors += u64::from(end.sending);
        self.parts.registry.leave(slot);
        self.queue.retain(|work| !matches!(work, Work::Ports { slot: other, .. } if *other == slot));
        self.changed = true;
        let log = &self.shared.log;
        self.shared.history.note(Object::Module(slot), "offline", &end.reason);
        let mnemonic = if end.silent { "VEM_MGR_REMOVE_NO_HB" } else { "VEM_MGR_REMOVE" };
        log.write("VEM_MGR", 2, mnemonic, &format!("Removing VEM {slot}: {}", end.reason));
        log.write("VEM_MGR", 2, "MOD_OFFLINE", &format!("Module {slot} is offline"));
        self.asks.lost(slot);
        // Its cards are free for those who claim them now.
        let ports = self.parts.registry.inventory.modules.get(&slot).map(|m| m.ports.as_slice()).unwrap_or_default();
        let released: Vec<_> = ports.iter().map(|port| port.nic.clone()).collect();
        self.offer(&released);
        let actions = self.push(|push| push.on_lost(slot, now));
        self.perform(actions, now);
    }

    fn send(&mut self, slot: u8, message: &FromVsm, now: u64) {
        if let Some(member) = self.members.get(&slot) {
            self.parts.server.send(member.token, message, now);
        }
    }

    fn on_time(&mut self, now: u64) {
        self.asks.on_time(now);
        let actions = self.push(|push| push.on_time(now));
        self.perform(actions, now);
    }

    fn save(&mut self) {
        if let Err(e) = self.parts.registry.save() {
            self.shared.log.write("VEM_MGR", 2, "STORE_FAILED", &format!("Bindings are not stored: {e}"));
        }
    }

    /// Publishes the inventory when something in it has changed, and the counters every second.
    fn publish(&mut self, now: u64) {
        if !self.changed && now < self.published_ms + PUBLISH_MS {
            return;
        }
        self.changed = false;
        self.published_ms = now;
        let inventory = &mut self.parts.registry.inventory;
        for (slot, module) in &mut inventory.modules {
            let past = self.past.get(slot).copied().unwrap_or_default();
            let live = self.members.get(slot).map(|m| self.parts.server.counters(m.token)).unwrap_or_default();
            let LinkCounters { insertions, removals, .. } = module.counters;
            module.counters = LinkCounters { insertions, removals, ..sum(past, live) };
        }
        self.shared.inventory.store(Arc::new(inventory.clone()));
    }
}

/// The answer for a module that is not there.
pub(crate) fn not_connected(slot: u8) -> String {
    format!("module {slot} is not connected")
}

fn sum(past: LinkCounters, live: proto::session::Counters) -> LinkCounters {
    LinkCounters {
        messages_in: past.messages_in + live.messages_in,
        messages_out: past.messages_out + live.messages_out,
        heartbeats_in: past.heartbeats_in + live.heartbeats_in,
        heartbeats_out: past.heartbeats_out + live.heartbeats_out,
        ..past
    }
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0)
}
