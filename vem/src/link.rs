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
//! The link sends the hello and the heartbeats itself.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::Sender;
use proto::msg::{ConfigHash, FromVem, HostUuid};
use proto::query::Query;

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
    #[error("this host is not enrolled: no {} (run `vem enroll TOKEN`)", .0.display())]
    NotEnrolled(PathBuf),
    /// A file of the identity can't be read or is not what it should be.
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
}

/// What the agent asks of the link's thread.
#[expect(dead_code, reason = "the thread that reads them follows")]
enum Request {
    Send(FromVem),
    Applied(u64, ConfigHash),
    Stop,
}

impl LinkHandle {
    /// Sends a message. Never blocks; while the session is down the message is dropped.
    pub fn send(&self, message: FromVem) {
        let _ = self.requests.try_send(Request::Send(message));
    }

    /// Tells what runs now; the next hello carries it.
    pub fn set_applied(&self, version: u64, hash: ConfigHash) {
        let _ = self.requests.try_send(Request::Applied(version, hash));
    }

    /// Ends the session and the thread.
    pub fn stop(self) {
        let _ = self.requests.try_send(Request::Stop);
    }
}

/// Starts the link. `applied` is version and hash of the configuration that runs. Every event is followed by a call of
/// `wake`.
///
/// # Errors
/// This host has no identity yet, or the system refuses a thread.
pub fn start(
    cfg: Config,
    _applied: (u64, ConfigHash),
    _events: Sender<Event>,
    _wake: Arc<mio::Waker>,
) -> Result<LinkHandle, Error> {
    Err(Error::NotEnrolled(cfg.state_dir))
}
