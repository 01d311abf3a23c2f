//! The control thread: one mio loop over the supervisor's session, the local socket and the host's devices.
//!
//! ```text
//!   worker threads    forward; started first, never wait for anything here
//!   export thread     records to datagrams
//!   link thread       TLS session to the supervisor; says what happens by a bounded channel and a waker
//!   control thread    this one: signals, local socket, netlink, link events, a tick every second
//! ```
//!
//! Everything that changes the switch happens on this thread, one thing after the other. Without a supervisor, or before
//! the host is enrolled, the loop is the same: the last good configuration runs, ports come and go, and every five
//! seconds the link is tried again if it could not be started at all.
//!
//! SIGTERM and SIGINT end it in order: session closed, workers stopped (their flows become records), records exported. Taps
//! stay, so the VMs keep their cards; see [`crate::hostport`].

use std::io::Read;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use mio::net::UnixStream;
use mio::{Events, Interest, Poll, Token, Waker};
use proto::msg::{FromVem, HostUuid};
use proto::query::Query;
use proto::report::Answer;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use vswitch::worker::Limits;

use crate::bootstrap::Bootstrap;
use crate::export;
use crate::headless::{self, Store};
use crate::link::{self, LinkHandle};
use crate::local::{self, Request, Server};
use crate::switch::Switch;
use crate::watches::Watches;
use crate::workers::{self, Workers};
use crate::{answer, metrics, show, stored};

const WAKER: Token = Token(0);
const STOP: Token = Token(1);
const LOCAL: usize = 100;
const METRICS: usize = 500;
const NETLINK: usize = 1000;
/// Time between two looks at counters, devices and states.
const TICK: Duration = Duration::from_secs(1);
/// Time between two tries to start a link that could not be started.
const LINK_AGAIN: Duration = Duration::from_secs(5);
/// Most events of the link that wait.
const LINK_EVENTS: usize = 256;

/// Why the agent does not run, or no longer does.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// State directory or identity.
    #[error(transparent)]
    State(#[from] headless::Error),
    /// The local socket.
    #[error("socket {path}: {source}")]
    Socket {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The address of the figures.
    #[error("metrics on {0}: {1}")]
    Metrics(std::net::SocketAddr, std::io::Error),
    /// A thread, a poll, a signal.
    #[error("system: {0}")]
    System(#[from] std::io::Error),
    /// Flow export does not start.
    #[error(transparent)]
    Export(#[from] export::Error),
    /// The switch does not start.
    #[error(transparent)]
    Switch(#[from] crate::switch::Error),
    /// The dataplane's threads don't start.
    #[error(transparent)]
    Workers(#[from] workers::Error),
    /// The dataplane has ended by itself.
    #[error("a dataplane thread has ended")]
    WorkerEnded,
}

/// How the session to the supervisor stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Session {
    /// The configuration file names no supervisor.
    Alone,
    /// Not connected, and why.
    Down(String),
    /// Connected.
    Up {
        /// Module number.
        module: u8,
        /// Name of the switch.
        switch_name: String,
    },
}

/// What the agent's own questions need beside the switch.
pub struct Status {
    /// Name of this host.
    pub host: String,
    /// Identity of this host.
    pub uuid: HostUuid,
    /// Domain.
    pub domain: u16,
    /// The session.
    pub session: Session,
    /// When the session came to be as it is; `None` when there was none yet.
    pub session_since: Option<Instant>,
    /// When the agent started.
    pub started: Instant,
    /// Cores of the workers; none when they are not pinned.
    pub cores: Vec<usize>,
    /// What the tables of the dataplane can hold.
    pub limits: Limits,
}

/// Runs the agent until SIGTERM or SIGINT ends it.
///
/// # Errors
/// It can't start, or the dataplane has ended.
pub fn run(bootstrap: Bootstrap) -> Result<(), Error> {
    let (ours, theirs) = StdStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    run_until(bootstrap, ours)
}

/// Runs the agent until an octet comes on `stop`, or its other end is closed.
///
/// # Errors
/// It can't start, or the dataplane has ended.
pub fn run_until(bootstrap: Bootstrap, stop: StdStream) -> Result<(), Error> {
    let started = Instant::now();
    let store = Store::open(&bootstrap.state_dir)?;
    let uuid = bootstrap.host_uuid()?;
    let mut poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    stop.set_nonblocking(true)?;
    let mut stop_signal = UnixStream::from_std(stop);
    poll.registry().register(&mut stop_signal, STOP, Interest::READABLE)?;
    let server = Server::open(&bootstrap.socket, LOCAL, poll.registry())
        .map_err(|source| Error::Socket { path: bootstrap.socket.display().to_string(), source })?;
    let open = |listen| {
        metrics::Server::open(listen, METRICS, poll.registry()).map_err(|source| Error::Metrics(listen, source))
    };
    let metrics = bootstrap.metrics.map(open).transpose()?;

    let (workers, control, records) = vswitch::worker::switch_of(bootstrap.limits, bootstrap.dataplane.workers);
    let cores = bootstrap.dataplane.cores.clone();
    let mut workers = Workers::start(workers, &cores, started)?;
    if let Some(mirror) = control.mirror() {
        workers = workers.with_mirror(mirror, started)?;
    }
    let exporter = export::start_with(records, export::Anchor::new(started), bootstrap.credentials.clone())?;
    let devices = crate::hostport::Settings { coalesce: bootstrap.coalesce, workers: bootstrap.dataplane.workers };
    let switch = Switch::start(control, exporter, store, bootstrap.ports.clone(), devices, started)?;
    tracing::info!(host = bootstrap.host, %uuid, ports = switch.reports().len(), "running");

    let (events, link_events) = bounded(LINK_EVENTS);
    let session = match bootstrap.vsm {
        Some(_) => Session::Down("not tried yet".to_owned()),
        None => Session::Alone,
    };
    let status = Status {
        host: bootstrap.host.clone(),
        uuid,
        domain: bootstrap.domain,
        session,
        session_since: None,
        started,
        cores,
        limits: bootstrap.limits,
    };
    let mut agent = Agent {
        bootstrap,
        switch,
        status,
        link: None,
        link_tried: None,
        events,
        link_events,
        waker,
        watches: Watches::new(NETLINK),
        server,
        metrics,
    };
    let ended = agent.turn_until(&mut poll, &mut stop_signal, &workers);
    agent.stop(workers);
    ended
}

struct Agent {
    bootstrap: Bootstrap,
    switch: Switch,
    status: Status,
    link: Option<LinkHandle>,
    link_tried: Option<Instant>,
    events: Sender<link::Event>,
    link_events: Receiver<link::Event>,
    waker: Arc<Waker>,
    watches: Watches,
    server: Server,
    metrics: Option<metrics::Server>,
}

impl Agent {
    fn turn_until(&mut self, poll: &mut Poll, stop: &mut UnixStream, workers: &Workers) -> Result<(), Error> {
        let mut happened = Events::with_capacity(128);
        let mut next_tick = Instant::now();
        let mut unfinished: Vec<Token> = Vec::new();
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            let wait = if unfinished.is_empty() { wait } else { Duration::ZERO };
            match poll.poll(&mut happened, Some(wait)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e.into()),
                _ => {}
            }
            let mut tokens: Vec<Token> = std::mem::take(&mut unfinished);
            tokens.extend(happened.iter().map(|event| event.token()));
            for token in tokens {
                if token == STOP {
                    if stop.read(&mut [0]).is_ok() {
                        tracing::info!("told to stop");
                        return Ok(());
                    }
                } else if self.on_event(token, poll) {
                    unfinished.push(token);
                }
            }
            self.hear_link();
            if Instant::now() >= next_tick {
                next_tick = Instant::now() + TICK;
                if workers.any_ended() {
                    return Err(Error::WorkerEnded);
                }
                self.tick(poll);
            }
            self.send_events();
        }
    }

    /// `true`: there may be more at this token.
    fn on_event(&mut self, token: Token, poll: &Poll) -> bool {
        let now = Instant::now();
        let Agent { server, metrics, switch, status, link, watches, .. } = self;
        let figures = &mut || metrics::page::page(switch, status, now);
        if let Some(more) = metrics.as_mut().and_then(|m| m.on_event(token, now, poll.registry(), figures)) {
            return more;
        }
        let mut ports_changed = false;
        let ours = server.on_event(token, now, poll.registry(), &mut |request| {
            ports_changed |= matches!(request, Request::Attach { .. } | Request::Detach { .. });
            serve(switch, status, request, now)
        });
        if ours {
            if ports_changed {
                if let Some(link) = link {
                    link.send(FromVem::Ports(switch.reports()));
                }
                self.follow_namespaces(poll);
            }
            return false;
        }
        watches.on_event(token, |netns, heard| switch.hear(netns, &heard)).unwrap_or(false)
    }

    fn tick(&mut self, poll: &Poll) {
        let now = Instant::now();
        if let Err(error) = self.switch.tick(now) {
            tracing::error!(%error, "tick");
        }
        self.server.tick(now, poll.registry());
        if let Some(metrics) = &mut self.metrics {
            metrics.tick(now, poll.registry());
        }
        self.follow_namespaces(poll);
        self.start_link(now);
    }

    fn follow_namespaces(&mut self, poll: &Poll) {
        for netns in self.watches.follow(&self.switch.namespaces(), poll.registry()) {
            self.switch.hear(netns.as_deref(), &crate::hostport::netlink::Heard::Lost);
        }
    }

    fn start_link(&mut self, now: Instant) {
        let Some(address) = &self.bootstrap.vsm else { return };
        let too_soon = self.link_tried.is_some_and(|tried| now.saturating_duration_since(tried) < LINK_AGAIN);
        if self.link.is_some() || too_soon {
            return;
        }
        self.link_tried = Some(now);
        let config = link::Config {
            address: address.clone(),
            domain: self.bootstrap.domain,
            uuid: self.status.uuid,
            host: self.bootstrap.host.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            state_dir: self.bootstrap.state_dir.clone(),
        };
        match link::start(config, self.switch.applied(), self.events.clone(), Arc::clone(&self.waker)) {
            Ok(link) => self.link = Some(link),
            Err(error) => self.session_down(error.to_string()),
        }
    }

    fn session_down(&mut self, reason: String) {
        let down = Session::Down(reason);
        if self.status.session != down {
            if let Session::Down(reason) = &down {
                tracing::warn!(reason, "no supervisor");
            }
            self.status.session = down;
            self.status.session_since = Some(Instant::now());
        }
    }

    fn hear_link(&mut self) {
        // Bounded: what comes in meanwhile has its own wake.
        for event in self.link_events.try_iter().take(LINK_EVENTS).collect::<Vec<_>>() {
            self.on_link(event);
        }
    }

    fn on_link(&mut self, event: link::Event) {
        let now = Instant::now();
        match event {
            link::Event::Up { module, switch_name } => {
                tracing::info!(module, switch_name, "supervisor is up");
                self.status.session = Session::Up { module, switch_name };
                self.status.session_since = Some(now);
                self.say(FromVem::Ports(self.switch.reports()));
            }
            link::Event::Down { reason } => {
                self.switch.abort(None);
                self.session_down(reason);
            }
            link::Event::Prepare { version, hash, config } => {
                let outcome = self.switch.prepare(version, hash, config);
                let error = outcome.err().map(|e| e.to_string());
                match &error {
                    None => tracing::debug!(version, "prepared"),
                    Some(error) => tracing::error!(version, error, "configuration refused"),
                }
                self.say(FromVem::Prepared { version, error });
            }
            link::Event::Commit(version) => {
                match self.switch.commit(version, now) {
                    Ok(()) => tracing::info!(version, "configuration applied"),
                    Err(error) => tracing::error!(version, %error, "configuration not applied"),
                }
                let (version, hash) = self.switch.applied();
                if let Some(link) = &self.link {
                    link.set_applied(version, hash);
                }
                self.say(FromVem::Applied { version, hash });
            }
            link::Event::Abort(version) => self.switch.abort(Some(version)),
            link::Event::Query { id, query } => {
                let answer = match query {
                    Query::Show(words) => match show::show(&mut self.switch, &self.status, &words, now) {
                        Ok(text) => Answer::Text(text),
                        Err(reason) => Answer::Failed(reason),
                    },
                    Query::Stored { flows, minutes } => match &self.bootstrap.credentials.store_dir {
                        Some(dir) => stored::answer(&self.switch, dir, &flows, minutes, now),
                        None => Answer::Failed("this host keeps no flows".to_owned()),
                    },
                    Query::StoreState => {
                        let dir = self.bootstrap.credentials.store_dir.as_deref();
                        Answer::Store(dir.and_then(|dir| stored::state(&self.switch, dir)))
                    }
                    query => answer::answer(&mut self.switch, &query, now),
                };
                self.say(FromVem::Answer { id, answer });
            }
        }
    }

    fn say(&self, message: FromVem) {
        if let Some(link) = &self.link {
            link.send(message);
        }
    }

    fn send_events(&mut self) {
        for event in self.switch.take_events() {
            self.say(FromVem::Event(event));
        }
    }

    fn stop(self, workers: Workers) {
        if let Some(link) = self.link {
            link.stop();
        }
        workers.stop();
        self.switch.stop();
    }
}

/// Does what a local client asks.
fn serve(switch: &mut Switch, status: &Status, request: Request, now: Instant) -> Value {
    let nic = |outcome: Result<proto::addr::NicId, crate::switch::Error>| match outcome {
        Ok(nic) => json!({ "ok": true, "nic": nic.as_str() }),
        Err(error) => local::failure(&error.to_string()),
    };
    match request {
        Request::Attach { port } => nic(switch.attach(&port, now)),
        Request::Detach { device, nic: card } => nic(switch.detach(device.as_deref(), card.as_deref(), now)),
        Request::Ports => json!({ "ok": true, "ports": show::ports_json(switch, now) }),
        Request::Show { words } => match show::show(switch, status, &words, now) {
            Ok(text) => json!({ "ok": true, "text": text }),
            Err(reason) => local::failure(&reason),
        },
    }
}
