//! A supervisor and agents of this process, over loopback TCP.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use proto::config::{HostConfig, ProfileType};
use proto::msg::{ConfigHash, FromVem, HostUuid};
use proto::query::Query;
use proto::report::{Answer, PortReport};
use tempfile::TempDir;
use vem::link::{self, Event, LinkHandle};
use vsm::bootstrap::Bootstrap;
use vsm::config::model::Model;
use vsm::supervisor::{Change, EditError, Handle, Supervisor};

/// Waits for something that another thread brings about; half a minute is for a machine that is busy.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn uuid(n: u8) -> HostUuid {
    HostUuid([n; 16])
}

/// A supervisor with a state directory of its own.
pub struct World {
    _dir: TempDir,
    pub boot: Bootstrap,
    supervisor: Option<Supervisor>,
}

impl World {
    pub fn new(domain: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let boot = Bootstrap {
            domain,
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: Vec::new(),
            state_dir: dir.path().join("vsm"),
            cli_socket: dir.path().join("cli.sock"),
            ssh: None,
            snmp: None,
            nxapi: None,
            metrics: None,
        };
        let mut world = World { _dir: dir, boot, supervisor: None };
        world.start(Model::default());
        world
    }

    pub fn start(&mut self, model: Model) {
        assert!(self.supervisor.is_none());
        let supervisor = Supervisor::start(&self.boot, model, None).unwrap();
        // The same address after a restart, as it would be.
        self.boot.listen = supervisor.handle().facts().listen.unwrap();
        self.supervisor = Some(supervisor);
    }

    pub fn stop(&mut self) {
        self.supervisor.take().unwrap().stop();
    }

    pub fn handle(&self) -> Handle {
        self.supervisor.as_ref().unwrap().handle()
    }

    pub fn address(&self) -> String {
        self.boot.listen.to_string()
    }

    pub fn token(&self, host: Option<&str>) -> String {
        vsm::enroll::issue(&self.boot, host, 10).unwrap().to_string()
    }

    /// Enrols host `n` into a state directory of its own.
    pub fn enroll(&self, n: u8) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        vem::enroll::enroll(&self.token(None), uuid(n), &format!("host-{n}"), dir.path()).unwrap();
        dir
    }

    pub fn link_config(&self, n: u8, state_dir: &Path) -> link::Config {
        link::Config {
            address: self.address(),
            domain: self.boot.domain,
            uuid: uuid(n),
            host: format!("host-{n}"),
            software: "0.1.0".to_owned(),
            state_dir: state_dir.to_owned(),
        }
    }

    /// An agent of host `n` that is enrolled and up.
    pub fn agent(&self, n: u8) -> Agent {
        let dir = self.enroll(n);
        let agent = Agent::start(self.link_config(n, dir.path()), Some(dir), (0, ConfigHash::default()));
        wait_for("the agent is up", || agent.state().module.is_some());
        agent
    }

    pub fn rename(&self, name: &str) -> Result<Vec<String>, EditError> {
        self.handle().edit(rename(name))
    }

    pub fn logged(&self, text: &str) -> bool {
        self.handle().log().last(usize::MAX).iter().any(|line| line.contains(text))
    }

    pub fn wait_logged(&self, text: &str) {
        wait_for(text, || self.logged(text));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.stop();
        }
    }
}

pub fn rename(name: &str) -> Change {
    let name = name.to_owned();
    Box::new(move |model: &mut Model| {
        model.hostname = name;
        Ok(Vec::new())
    })
}

pub fn port(nic: &str, profile: &str) -> PortReport {
    PortReport {
        nic: nic.parse().unwrap(),
        kind: ProfileType::Vethernet,
        card: 0,
        profile: profile.to_owned(),
        vm: "vm".to_owned(),
        device: "tap0".to_owned(),
        driver: "tap".to_owned(),
        mac: None,
    }
}

pub fn uplink(card: u8, profile: &str) -> PortReport {
    PortReport { kind: ProfileType::Ethernet, card, ..port(&format!("uplink/{card}"), profile) }
}

/// What an agent has seen and how it behaves.
#[derive(Default)]
pub struct State {
    pub module: Option<u8>,
    pub downs: Vec<String>,
    pub ports: Vec<PortReport>,
    pub applied: (u64, ConfigHash),
    pub config: Option<HostConfig>,
    pub commits: u64,
    pub aborts: u64,
    pub prepares: u64,
    /// Refuses what it is to prepare, with this reason.
    pub refuse: Option<String>,
    /// Answers nothing.
    pub mute: bool,
}

/// An agent without a switch: it stores what it is told to apply.
pub struct Agent {
    link: Arc<Mutex<Option<LinkHandle>>>,
    state: Arc<Mutex<State>>,
    _dir: Option<TempDir>,
    _poll: mio::Poll,
}

impl Agent {
    pub fn start(cfg: link::Config, dir: Option<TempDir>, applied: (u64, ConfigHash)) -> Self {
        let (sender, events) = bounded(64);
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let link = Arc::new(Mutex::new(None));
        let state = Arc::new(Mutex::new(State { applied, ..State::default() }));
        let mut place = link.lock().unwrap();
        *place = Some(link::start(cfg, applied, sender, waker).unwrap());
        drop(place);
        let (worker_link, worker_state) = (link.clone(), state.clone());
        std::thread::spawn(move || work(&events, &worker_link, &worker_state));
        Agent { link, state, _dir: dir, _poll: poll }
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn module(&self) -> u8 {
        self.state().module.unwrap()
    }

    pub fn hostname(&self) -> Option<String> {
        self.state().config.as_ref().map(|c| c.switch_name.clone())
    }

    pub fn set_ports(&self, ports: Vec<PortReport>) {
        self.state().ports = ports.clone();
        self.send(FromVem::Ports(ports));
    }

    pub fn send(&self, message: FromVem) {
        self.link.lock().unwrap().as_ref().unwrap().send(message);
    }

    pub fn stop(&self) {
        if let Some(link) = self.link.lock().unwrap().take() {
            link.stop();
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

fn work(events: &Receiver<Event>, link: &Mutex<Option<LinkHandle>>, state: &Mutex<State>) {
    let mut prepared: Option<(u64, ConfigHash, HostConfig)> = None;
    while let Ok(event) = events.recv() {
        let mut state = state.lock().unwrap();
        let mut answers = Vec::new();
        match event {
            Event::Up { module, .. } => {
                state.module = Some(module);
                answers.push(FromVem::Ports(state.ports.clone()));
            }
            Event::Down { reason } => {
                state.module = None;
                state.downs.push(reason);
                prepared = None;
            }
            _ if state.mute => (),
            Event::Prepare { version, hash, config } => {
                state.prepares += 1;
                let error = state.refuse.clone();
                if error.is_none() {
                    prepared = Some((version, hash, minicbor::decode(&config).unwrap()));
                }
                answers.push(FromVem::Prepared { version, error });
            }
            Event::Commit(version) => {
                let (prepared_version, hash, config) = prepared.take().expect("a commit follows a prepare");
                assert_eq!(version, prepared_version);
                assert!(version > state.applied.0, "versions rise");
                state.applied = (version, hash);
                state.config = Some(config);
                state.commits += 1;
                if let Some(link) = link.lock().unwrap().as_ref() {
                    link.set_applied(version, hash);
                }
                answers.push(FromVem::Applied { version, hash });
            }
            Event::Abort(_) => {
                prepared = None;
                state.aborts += 1;
            }
            Event::Query { id, query } => {
                let answer = if query == Query::Macs { Answer::Macs(Vec::new()) } else { Answer::Done };
                answers.push(FromVem::Answer { id, answer });
            }
        }
        drop(state);
        if let Some(link) = link.lock().unwrap().as_ref() {
            answers.into_iter().for_each(|answer| link.send(answer));
        }
    }
}
