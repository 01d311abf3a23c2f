//! The TLS session to the supervisor: connect, hello, resync, reconnect.
//!
//! One thread owns the connection. It says what happens on a channel ([`Event`]) and wakes the agent's loop; the agent
//! says what it has to say through its [`LinkHandle`], which never blocks. While the session is down, messages are
//! dropped: everything that matters is said again after [`Event::Up`] (the agent then sends its ports), so a lost
//! message is never a lost fact.
//!
//! # What the agent does with an event
//!
//! | event      | answer                                                                                          |
//! |------------|-------------------------------------------------------------------------------------------------|
//! | `Up`       | [`FromVem::Ports`] with all ports                                                               |
//! | `Prepare`  | [`FromVem::Prepared`] with the same version, within three seconds                               |
//! | `Commit`   | applies, calls [`LinkHandle::set_applied`], then sends [`FromVem::Applied`], within three seconds |
//! | `Abort`    | forgets what was prepared                                                                       |
//! | `Query`    | [`FromVem::Answer`] with the same id, within two seconds                                        |
//! | `Down`     | goes on with what runs; forgets what was prepared                                               |
//!
//! The link sends the hello and the heartbeats itself. After a loss it connects again, first after a second, then after
//! twice as long each time up to five seconds; a refusal is a loss as well. Names are resolved in the link's thread, the
//! only thing in it that may take long; it holds up nobody else.

mod backoff;
mod connection;
mod thread;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use mio::{Poll, Waker};
use proto::msg::{ConfigHash, FromVem, HostUuid};
use proto::query::Query;

use crate::identity::{self, Identity};
use thread::Thread;

/// Messages of the agent that may wait for the link's thread.
const REQUESTS_MAX: usize = 4096;

/// Whom to connect to, and as whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Host name or address and port of the supervisor, `192.0.2.1:4785`.
    pub address: String,
    /// Domain id, 1-4095.
    pub domain: u16,
    /// Identity of this host.
    pub uuid: HostUuid,
    /// Name of this host.
    pub host: String,
    /// Version of this software.
    pub software: String,
    /// Where [`crate::enroll`] has stored key and certificates.
    pub state_dir: PathBuf,
}

/// What happens on the link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The supervisor has accepted this host.
    Up {
        /// Module number, 3-66.
        module: u8,
        /// Name of the switch.
        switch_name: String,
    },
    /// The session has ended, or an attempt to connect has failed; the link goes on trying.
    Down {
        /// Why, in English.
        reason: String,
    },
    /// Check this and be ready to apply it.
    Prepare {
        /// Rises with every change.
        version: u64,
        /// SHA-256 of `config`; the link has compared it.
        hash: ConfigHash,
        /// A [`proto::config::HostConfig`], encoded.
        config: Vec<u8>,
    },
    /// Apply what was prepared under this version.
    Commit(u64),
    /// Forget what was prepared under this version.
    Abort(u64),
    /// Answer this.
    Query {
        /// Goes back with the answer.
        id: u64,
        /// The question.
        query: Query,
    },
}

/// Why a link can't be started. A supervisor that is away is no error: the link goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no key or certificate in the state directory.
    #[error("this host is not enrolled: no {} (run `vem enroll`)", .0.display())]
    NotEnrolled(PathBuf),
    /// The identity can't be read or is not what it should be.
    #[error("{}: {reason}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused a socket, a thread or a waker.
    #[error("link: {0}")]
    System(#[from] std::io::Error),
}

/// The agent's end of the link. Dropping it stops the link.
pub struct LinkHandle {
    requests: Sender<Request>,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    ended: Receiver<()>,
}

/// What the agent asks of the link's thread.
enum Request {
    Send(FromVem),
    Applied(u64, ConfigHash),
}

impl LinkHandle {
    /// Sends a message. Never blocks; while the session is down the message is dropped.
    pub fn send(&self, message: FromVem) {
        self.post(Request::Send(message));
    }

    /// Tells what runs now; the next hello carries it.
    pub fn set_applied(&self, version: u64, hash: ConfigHash) {
        self.post(Request::Applied(version, hash));
    }

    fn post(&self, request: Request) {
        // A full queue is an agent that talks faster than the network: the supervisor will miss an answer and ask again,
        // or end the session, and then hears everything anew.
        if self.requests.try_send(request).is_err() {
            tracing::warn!("link: the queue to the supervisor is full, a message is lost");
        }
        self.wake();
    }

    fn wake(&self) {
        if let Err(e) = self.waker.wake() {
            tracing::error!("link: {e}");
        }
    }

    /// Ends the session and the thread; waits up to a second for the good-bye to be said.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
        let _ = self.ended.recv_timeout(Duration::from_secs(1));
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// Starts the link. `applied` is version and hash of the configuration that runs. Events come on `events`, in order,
/// with a call of `wake` behind them; while that channel is full the link reads nothing more from the supervisor.
///
/// # Errors
/// This host has no identity, or none that is sound, or the system refuses a thread.
pub fn start(
    cfg: Config,
    applied: (u64, ConfigHash),
    events: Sender<Event>,
    wake: Arc<Waker>,
) -> Result<LinkHandle, Error> {
    let path = Identity::path(&cfg.state_dir);
    let identity = Identity::load(&cfg.state_dir).map_err(|e| match e {
        identity::Error::Missing(path) => Error::NotEnrolled(path),
        identity::Error::File { path, source } => Error::Identity { path, reason: source.to_string() },
        identity::Error::Content { path, reason } => Error::Identity { path, reason },
    })?;
    let tls = identity.client_config().map_err(|reason| Error::Identity { path, reason })?;
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), thread::WAKER)?);
    let stop = Arc::new(AtomicBool::new(false));
    let (requests, receiver) = bounded(REQUESTS_MAX);
    let (end, ended) = bounded::<()>(0);
    let thread = Thread { cfg, tls, applied, poll, requests: receiver, stop: Arc::clone(&stop), events, wake };
    std::thread::Builder::new().name("link".to_owned()).spawn(move || {
        thread.run();
        drop(end);
    })?;
    Ok(LinkHandle { requests, stop, waker, ended })
}
