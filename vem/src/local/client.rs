//! The other end of the local socket: one request, one answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ANSWER_MAX, Request};

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(20);

/// Why a request of ours was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The agent does not answer.
    #[error("no agent at {}: {source}", path.display())]
    Away {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It answers what is not an answer.
    #[error("the agent's answer can't be read")]
    Garbled,
    /// It can't do it.
    #[error("{0}")]
    Refused(String),
}

/// Sends a request to the agent at `path` and waits for the answer.
///
/// # Errors
/// No agent answers, or it refuses.
pub fn ask(path: &Path, request: &Request) -> Result<serde_json::Value, Error> {
    let away = |source| Error::Away { path: path.to_owned(), source };
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(WAIT))?;
        stream.set_write_timeout(Some(WAIT))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_MAX as u64 + 1)).read_line(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(away)?;
    if answer.is_empty() {
        return Err(away(io::ErrorKind::UnexpectedEof.into()));
    }
    let answer: serde_json::Value = serde_json::from_str(&answer).map_err(|_| Error::Garbled)?;
    match answer.get("ok").and_then(serde_json::Value::as_bool) {
        Some(true) => Ok(answer),
        Some(false) => {
            let reason = answer.get("error").and_then(|e| e.as_str()).unwrap_or("refused without a reason");
            Err(Error::Refused(reason.to_owned()))
        }
        None => Err(Error::Garbled),
    }
}
