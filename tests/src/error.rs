//! What can go wrong in the lab and in its checks.

use std::io;

/// Why something of the lab could not be done, or what a check found wanting. `Display` is what a person reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program failed; the text is what it printed.
    #[error("`{command}` failed: {output}")]
    Command {
        /// Command line.
        command: String,
        /// Its standard output and error.
        output: String,
    },
    /// A file, device or socket refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program answered with something that can't be read.
    #[error("{what}: {reason}")]
    Unreadable {
        /// Whose answer.
        what: String,
        /// Why it can't be read.
        reason: String,
    },
    /// The lab is not in the state that the request needs.
    #[error("{0}")]
    State(String),
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{detail}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The last thing that was seen, with its own punctuation.
        detail: String,
    },
    /// An expectation of a check was not met.
    #[error("{0}")]
    Unmet(String),
}

/// What fails with an [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Adds what was tried to an I/O error.
pub trait Tried<T> {
    /// Names what was tried.
    fn tried(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Tried<T> for std::result::Result<T, E> {
    fn tried(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|source| Error::Io { what: what.into(), source: source.into() })
    }
}

/// `Ok` when `met`, else an [`Error::Unmet`] with the text.
pub fn expect(met: bool, text: impl FnOnce() -> String) -> Result<()> {
    if met { Ok(()) } else { Err(Error::Unmet(text())) }
}
