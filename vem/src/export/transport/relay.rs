//! Messages by flow-relay: the sender of [`crate::relay`], in a thread of its own.
//!
//! Messages go to it by a queue of 4,096; one that is full (a disk that hangs) means that messages are given up and counted, and
//! nobody waits.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use vswitch::time::Instant;

use super::Credentials;
use crate::relay::daemon::send::{Daemon, Fed};

/// Messages that wait for the thread.
const QUEUE: usize = 4096;
/// Time between attempts to start it.
const RETRY: Duration = Duration::from_secs(10);

/// The way to a receiver. See [the module](self).
pub struct Relay {
    address: SocketAddr,
    credentials: Arc<Credentials>,
    running: Option<Running>,
    attempt: Option<Instant>,
    error: Option<String>,
}

struct Running {
    queue: Sender<(SocketAddr, Vec<u8>)>,
    stop: Arc<AtomicBool>,
    waker: mio::Waker,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
    }
}

impl Relay {
    /// A way to the receiver at `address`.
    pub fn new(address: SocketAddr, credentials: Arc<Credentials>) -> Self {
        Relay { address, credentials, running: None, attempt: None, error: None }
    }

    /// Why messages are given up.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Gives a message to the thread, and says whether there was room. What it has is on the disk soon, whoever is away.
    pub fn offer(&mut self, octets: &[u8], now: Instant) -> bool {
        if self.running.is_none() && self.attempt.is_none_or(|at| now.since(at) >= RETRY) {
            self.attempt = Some(now);
            match self.start() {
                Ok(running) => (self.running, self.error) = (Some(running), None),
                Err(why) => {
                    tracing::error!("relay to {}: {why}", self.address);
                    self.error = Some(why);
                }
            }
        }
        let Some(running) = &self.running else { return false };
        // There is no socket whose address it could have.
        let source = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        match running.queue.try_send((source, octets.to_vec())) {
            Ok(()) => running.waker.wake().is_ok(),
            Err(error) => {
                if error.is_disconnected() {
                    self.running = None;
                }
                self.error = Some("the relay takes nothing".to_owned());
                false
            }
        }
    }

    fn start(&self) -> Result<Running, String> {
        let files = self.credentials.relay.as_ref().ok_or("vem.toml has no [relay]")?;
        let config = files.towards(self.address, &self.credentials.host)?;
        let (queue, fed) = bounded(QUEUE);
        let stop = Arc::new(AtomicBool::new(false));
        let fed = Fed { queue: fed, stop: Arc::clone(&stop) };
        let daemon = Daemon::open(config, Vec::new(), Some(fed)).map_err(|e| e.to_string())?;
        let waker = daemon.waker().map_err(|e| e.to_string())?;
        let run = move || {
            if let Err(error) = daemon.run() {
                tracing::error!("relay: {error}");
            }
        };
        thread::Builder::new().name("relay".to_owned()).spawn(run).map_err(|e| e.to_string())?;
        Ok(Running { queue, stop, waker })
    }
}
