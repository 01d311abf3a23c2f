//! Servers for administrators who are not at the console, and for the programs that they use: SSH, NX-API, metrics.
//!
//! ```text
//!   SSH    ─▶ russh ─▶ session's thread                       [crate::cli::sessions]
//!   NX-API ─▶ TLS ─▶ hyper ─▶ request's thread, few at a time  [nxapi]
//!   scrape ─▶ hyper ─▶ request's thread, few at a time         [metrics]
//! ```
//!
//! They share one thread, a tokio runtime that is single-threaded, and only here is there tokio. Nothing of the switch is
//! done on that thread: commands have threads of their own, a password is tried on one of two others. So a busy client
//! delays other clients, never the supervisor.

pub mod http;
pub mod limits;
pub mod metrics;
pub mod nxapi;
pub mod page;
pub mod runtime;
pub mod ssh;

use std::io;

use limits::Failures;
use runtime::{Runtime, Task};

use crate::bootstrap::Bootstrap;
use crate::supervisor::Handle;

/// Why there are no servers.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SSH.
    #[error(transparent)]
    Ssh(#[from] ssh::Error),
    /// NX-API.
    #[error(transparent)]
    Nxapi(#[from] nxapi::Error),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] metrics::Error),
    /// The thread.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The running servers. They stop when this is dropped.
pub struct Management {
    // Dropped first: when the thread has ended, nobody comes in any more.
    _runtime: Option<Runtime>,
    _ssh: Option<ssh::Server>,
    _nxapi: Option<nxapi::Server>,
}

/// Starts the servers that `vsm.toml` asks for; all of them, or none.
///
/// # Errors
/// See [`Error`].
pub fn serve(boot: &Bootstrap, handle: &Handle) -> Result<Management, Error> {
    let failures = Failures::default();
    let mut tasks: Vec<Task> = Vec::new();
    let mut ssh = None;
    if let Some(section) = &boot.ssh {
        let (server, task) = ssh::open(section, &boot.state_dir, handle.clone(), failures.clone())?;
        tracing::info!("SSH at {}", server.address());
        ssh = Some(server);
        tasks.push(task);
    }
    let mut nxapi = None;
    if let Some(section) = &boot.nxapi {
        let (server, task) = nxapi::open(section, &boot.state_dir, handle.clone(), failures)?;
        tracing::info!("NX-API at {}", server.address());
        nxapi = Some(server);
        tasks.push(task);
    }
    if let Some(section) = &boot.metrics {
        let (address, task) = metrics::open(section, handle.clone())?;
        tracing::info!("metrics at http://{address}/metrics");
        tasks.push(task);
    }
    let runtime = if tasks.is_empty() { None } else { Some(Runtime::start(tasks)?) };
    Ok(Management { _runtime: runtime, _ssh: ssh, _nxapi: nxapi })
}
