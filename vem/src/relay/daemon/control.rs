//! The local socket of a daemon: `flow-relay status` and `flow-relay retry`.
//!
//! One line in, a JSON text out. Who may enter `runtime_dir` may ask.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::UnixListener;
use mio::{Interest, Registry, Token};

/// How long a client may take.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// How things are.
    Status,
    /// The receiver is to be had: try now.
    Retry,
}

/// The socket. It goes with its owner.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Opens `path`, in place of what a process that died left there.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(path: &Path, registry: &Registry, token: Token) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => (),
        }
        let mut listener = UnixListener::bind(path)?;
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Control { listener, path: path.to_owned() })
    }

    /// Answers who asks.
    pub fn serve(&self, mut answer: impl FnMut(Question) -> String) {
        while let Ok((client, _)) = self.listener.accept() {
            let client = UnixStream::from(OwnedFd::from(client));
            if let Err(error) = serve(client, &mut answer) {
                tracing::debug!("control socket: {error}");
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(mut client: UnixStream, answer: &mut impl FnMut(Question) -> String) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut line = [0; 16];
    let length = client.read(&mut line)?;
    let question = match line.get(..length).map(<[u8]>::trim_ascii) {
        Some(b"status") => Question::Status,
        Some(b"retry") => Question::Retry,
        _ => return Ok(()),
    };
    client.write_all(answer(question).as_bytes())
}

/// Asks a daemon.
///
/// # Errors
/// Nobody answers.
pub fn ask(path: &Path, question: Question) -> io::Result<String> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.write_all(match question {
        Question::Status => b"status\n",
        Question::Retry => b"retry\n",
    })?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}
