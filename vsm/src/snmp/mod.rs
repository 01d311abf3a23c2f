//! SNMP: a subagent (AgentX, RFC 2741) of the snmpd of the supervisor's host.
//!
//! ```text
//!   modules ── every 5 s ──▶ picture ──▶ tree ──▶ agent ⇄ AgentX ⇄ snmpd ⇄ SNMP ⇄ management system
//!                                                   ▲
//!                       log: links, modules, violations ─▶ notifications
//! ```
//!
//! * `oid`, `pdu` and `tree` are values, messages and the search; they do no I/O.
//! * `picture` asks the modules every [`picture::EVERY`] and makes the tables; `tables` says what is in them. Who asks is
//!   answered from the last picture: however many questions come, the modules are asked as often.
//! * `agent` is the session with snmpd, on a thread of its own. A snmpd that is away is tried again after 1 to 30 s.
//! * `notify` makes notifications from lines of the log.
//!
//! Versions, communities, users and the receivers of notifications are snmpd's (decision 16). Nothing can be set.

pub mod agent;
pub mod mgmt0;
pub mod notify;
pub mod oid;
pub mod pdu;
pub mod picture;
pub mod tables;
pub mod tree;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};

use crate::bootstrap::Snmp;
use crate::supervisor::Handle;
use picture::Picture;

/// How it goes with snmpd; threads share it.
pub struct Status {
    /// Where snmpd is, as configured.
    pub address: String,
    /// Questions answered.
    pub answered: AtomicU64,
    /// Notifications given to snmpd.
    pub notified: AtomicU64,
    /// Notifications that were lost because snmpd was away, or they were too many.
    pub lost: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: Option<Instant>,
    /// When snmpd began to count `sysUpTime`.
    master_start: Option<Instant>,
    error: Option<String>,
    picture: Option<(Instant, usize)>,
}

/// What `show snmp` says of the moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// Where snmpd is.
    pub address: String,
    /// Since when there is a session.
    pub connected: Option<Duration>,
    /// Why there is none.
    pub error: Option<String>,
    /// Age of the picture, and the interfaces in it.
    pub picture: Option<(Duration, usize)>,
    /// Questions answered, notifications sent, and lost.
    pub counts: [u64; 3],
}

impl Status {
    fn new(address: &str) -> Self {
        Status {
            address: address.to_owned(),
            answered: AtomicU64::new(0),
            notified: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hundredths of a second since snmpd began.
    fn uptime(&self) -> u32 {
        let start = self.state().master_start;
        start.map_or(0, |start| (start.elapsed().as_millis() / 10) as u32)
    }

    /// What there is to show.
    pub fn shown(&self) -> Shown {
        let state = self.state();
        Shown {
            address: self.address.clone(),
            connected: state.connected.map(|since| since.elapsed()),
            error: state.error.clone(),
            picture: state.picture.map(|(at, count)| (at.elapsed(), count)),
            counts: [&self.answered, &self.notified, &self.lost].map(|count| count.load(Ordering::Relaxed)),
        }
    }
}

/// The running subagent.
pub struct Subagent {
    ends: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// Starts the subagent.
///
/// # Errors
/// The system has no thread left.
pub fn serve(snmp: &Snmp, handle: Handle) -> std::io::Result<Subagent> {
    let status = Arc::new(Status::new(&snmp.agentx));
    handle.set_snmp(status.clone());
    let tree = Arc::new(arc_swap::ArcSwap::from_pointee(tree::Tree::default()));
    let (picture_end, picture_ended) = bounded(0);
    let (agent_end, agent_ended) = bounded(0);
    let mut picture = Picture::new(handle.clone(), status.clone(), tree.clone());
    let mut agent = agent::Agent::new(handle, status, tree, agent_ended);
    let start = |name: &str, run: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name.into()).spawn(run);
    let threads = vec![
        start("snmp-picture", Box::new(move || picture.run(&picture_ended)))?,
        start("snmp", Box::new(move || agent.run()))?,
    ];
    Ok(Subagent { ends: vec![picture_end, agent_end], threads })
}

impl Subagent {
    /// Ends the session and the threads.
    pub fn stop(self) {
        drop(self.ends);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the SNMP subagent had failed");
            }
        }
    }
}
