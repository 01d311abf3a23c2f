//! Control-plane log: lines on the standard error output, where the service's journal reads them.
//!
//! `VEM_LOG` filters as `tracing` does (`debug`, `vem::link=trace`); without it `info` and worse. Nothing on a frame's way
//! logs.

use tracing_subscriber::EnvFilter;

/// Starts the log of this process. A second call changes nothing.
pub fn start() {
    let filter = EnvFilter::try_from_env("VEM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    if lines.try_init().is_err() {
        tracing::debug!("the log runs already");
    }
}
