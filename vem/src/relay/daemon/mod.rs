//! The two daemons: sockets, files and time around the sans-I/O sides.
//!
//! Threads: one each (mio). Writing the spool and asking the disk to have it are done by the same thread; the
//! sockets' buffers hold what comes meanwhile.

pub mod control;
pub mod receive;
pub mod send;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::queue::Now;

/// Time between looks at what is due.
const TURN: Duration = Duration::from_millis(100);
/// A connection's handshake may take this long, milliseconds.
const HANDSHAKE_MS: u64 = 10_000;
/// `f_type` of file systems in memory (statfs(2)).
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it shall do.
    #[error(transparent)]
    Config(#[from] super::config::Error),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] super::spool::Error),
    /// Keys and certificates.
    #[error(transparent)]
    Tls(#[from] super::tls::Error),
    /// A file or a socket.
    #[error("{what}: {source}")]
    System {
        /// What.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// `runtime_dir` is on a disk.
    #[error("{0} is not in memory (tmpfs): datagrams that are being received lie there unencrypted")]
    OnDisk(String),
}

fn system(what: impl ToString) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what: what.to_string(), source }
}

/// The process's clocks.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Clock(Instant::now())
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { ms: self.0.elapsed().as_millis() as u64, unix_ns: unix.as_nanos() as u64 }
    }
}

/// Makes a directory that is its owner's alone.
fn private_dir(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(system(path.display()))
}

fn in_memory(path: &Path) -> Result<(), Error> {
    let statfs = rustix::fs::statfs(path).map_err(|e| system(path.display())(e.into()))?;
    #[allow(clippy::unnecessary_cast, reason = "the type depends on the machine")]
    match IN_MEMORY.contains(&(statfs.f_type as i64)) {
        true => Ok(()),
        false => Err(Error::OnDisk(path.display().to_string())),
    }
}

/// A socket that becomes readable when the process is to end.
fn termination() -> Result<UnixStream, Error> {
    let (read, write) = UnixStream::pair().map_err(system("socket"))?;
    read.set_nonblocking(true).map_err(system("socket"))?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let write = write.try_clone().map_err(system("socket"))?;
        signal_hook::low_level::pipe::register(signal, write).map_err(system("signal"))?;
    }
    Ok(read)
}
