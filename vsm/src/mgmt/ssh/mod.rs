//! The SSH server.
//!
//! ```text
//!   TCP ─▶ [limits] ─▶ russh: keys, ciphers, [login] ─▶ channel ─▶ [pump] ─▶ pair of sockets ─▶ session's thread
//! ```
//!
//! What is spoken in a session is the same as at the console: the channel's octets go to [`crate::cli::sessions`] as they
//! are. Only sessions are served: no forwarding of ports, agents or displays, no subsystems, no environment.
//!
//! Before somebody has logged in he is held to little: see [`super::limits`]. Keyboard-interactive is off; it asks for what
//! `password` asks for, and servers have been stopped through it.

mod connection;
mod hostkey;
pub mod key;
mod pump;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use russh::keys::{Algorithm, PrivateKey};
use russh::{MethodKind, MethodSet, Preferred, SshId, server};

use super::limits::{self, Failures, Limits};
use super::runtime::Task;
use crate::bootstrap::{HostKey, Ssh};
use crate::cli::sessions::Sessions;
use crate::supervisor::{Handle, SshFacts};

/// Most sessions at a time.
pub const SESSIONS_MAX: usize = 256;
/// A peer that is silent is asked this often whether it is there, and given up the fourth time.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// A login that fails is answered this late.
const REJECTION_TIME: Duration = Duration::from_millis(500);
/// Octets that a client may send before they are taken.
const WINDOW: u32 = 256 * 1024;

/// Why there is no SSH server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A host key can't be read, made or written.
    #[error(transparent)]
    HostKey(#[from] hostkey::Error),
    /// The address.
    #[error("SSH on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Threads.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What the connections share.
struct Shared {
    handle: Handle,
    sessions: Arc<Sessions>,
    limits: Limits,
    failures: Failures,
    config: ArcSwap<server::Config>,
}

/// The server; its sessions end when it is dropped.
pub struct Server {
    address: SocketAddr,
    handle: Handle,
    sessions: Arc<Sessions>,
}

/// Listens, with the host keys of the state directory; the task serves. An RSA key that has yet to be made is offered when
/// it is there, which takes a while.
///
/// # Errors
/// See [`Error`]; nothing runs then.
pub fn open(ssh: &Ssh, state_dir: &Path, handle: Handle, failures: Failures) -> Result<(Server, Task), Error> {
    let sessions = Sessions::new(handle.clone(), SESSIONS_MAX);
    open_with(ssh, state_dir, handle, failures, sessions)
}

fn open_with(
    ssh: &Ssh,
    state_dir: &Path,
    handle: Handle,
    failures: Failures,
    sessions: Arc<Sessions>,
) -> Result<(Server, Task), Error> {
    let ready: Vec<HostKey> =
        ssh.host_keys.iter().copied().filter(|kind| hostkey::is_quick(*kind, state_dir)).collect();
    let keys = hostkey::open_all(&ready, state_dir)?;
    let listener = TcpListener::bind(ssh.listen).map_err(|e| Error::Listen(ssh.listen, e))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    handle.set_ssh(Some(SshFacts { listen: address, keys: keys.iter().map(hostkey::facts).collect() }));
    let config = ArcSwap::from_pointee(config(keys));
    let (limits, sessions_too) = (Limits::new(limits::SSH), sessions.clone());
    let shared = Arc::new(Shared { handle: handle.clone(), sessions: sessions_too, limits, failures, config });
    if ready.len() < ssh.host_keys.len() {
        let (all, state_dir, shared) = (ssh.host_keys.clone(), state_dir.to_owned(), shared.clone());
        std::thread::Builder::new()
            .name("hostkey".into())
            .spawn(move || complete(&all, &state_dir, address, &shared))?;
    }
    Ok((Server { address, handle, sessions }, Box::pin(connection::accept(listener, shared))))
}

/// Makes the keys that are missing; connections from then on can choose among all.
fn complete(kinds: &[HostKey], state_dir: &Path, address: SocketAddr, shared: &Shared) {
    match hostkey::open_all(kinds, state_dir) {
        Ok(keys) => {
            let facts = SshFacts { listen: address, keys: keys.iter().map(hostkey::facts).collect() };
            shared.config.store(Arc::new(config(keys)));
            shared.handle.set_ssh(Some(facts));
        }
        Err(error) => tracing::error!("host keys of the SSH server: {error}"),
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.sessions.end();
        self.handle.set_ssh(None);
    }
}

/// The ways to log in.
fn methods() -> MethodSet {
    MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..])
}

fn config(keys: Vec<PrivateKey>) -> server::Config {
    let mut preferred = Preferred::DEFAULT;
    // RSA with SHA-1, which nobody should trust any more.
    preferred.key.to_mut().retain(|algorithm| *algorithm != Algorithm::Rsa { hash: None });
    server::Config {
        server_id: SshId::Standard(concat!("SSH-2.0-vsm_", env!("CARGO_PKG_VERSION")).into()),
        methods: methods(),
        auth_rejection_time: REJECTION_TIME,
        // Every client asks first what it may try.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        preferred,
        window_size: WINDOW,
        max_auth_attempts: limits::ATTEMPTS_MAX,
        // Sessions have an idle time of their own; who is gone does not answer the keepalive.
        inactivity_timeout: None,
        keepalive_interval: Some(KEEPALIVE),
        nodelay: true,
        ..server::Config::default()
    }
}
