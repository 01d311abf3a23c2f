//! The person's side.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Error, PREAMBLE, STATUS_CLOSED, STATUS_DONE, STATUS_REFUSED};

/// Connects to the console.
///
/// With `commands` (separated by ` ; ` or line ends) it runs them, prints what they print, and says by its exit code
/// whether one was refused. Without, it is a terminal when it stands at one, else it runs the lines of its input.
///
/// # Errors
/// Nobody listens, or the connection or the terminal fails.
pub fn attach(path: &Path, commands: Option<String>) -> Result<ExitCode, Error> {
    let mut stream = UnixStream::connect(path).map_err(|source| Error::Connect { path: path.to_owned(), source })?;
    let mut failed = false;
    let mut out = io::stdout().lock();
    let begin = |stream: &mut UnixStream| {
        stream.write_all(format!("{PREAMBLE}batch\n").as_bytes()).map_err(|error| closed(stream, error))
    };
    match commands {
        Some(commands) => {
            begin(&mut stream)?;
            let lines = split_commands(&commands).map(|line| Ok(line.to_owned()));
            run_batch(&mut stream, lines, &mut out, &mut failed)?;
        }
        None if io::stdin().is_terminal() => interactive(&stream, &mut out)?,
        None => {
            begin(&mut stream)?;
            run_batch(&mut stream, io::stdin().lock().lines(), &mut out, &mut failed)?;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The commands of `-c`: separated by line ends, and by semicolons beside a blank and outside quotes (`a; b` and `a ; b`).
pub fn split_commands(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(split_line).map(str::trim).filter(|command| !command.is_empty())
}

fn split_line(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut quote, mut before) = (0, None, ' ');
    for (at, c) in line.char_indices() {
        let behind = line[at + c.len_utf8()..].chars().next().unwrap_or(' ');
        match (quote, c) {
            (None, ';') if before.is_whitespace() || behind.is_whitespace() => {
                parts.push(&line[from..at]);
                from = at + 1;
            }
            (None, '"' | '\'') if before.is_whitespace() => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    parts.push(&line[from..]);
    parts
}

/// Runs lines and prints what they print; sets `failed` when one was refused.
pub(super) fn run_batch(
    stream: &mut UnixStream,
    lines: impl Iterator<Item = io::Result<String>>,
    out: &mut impl Write,
    failed: &mut bool,
) -> Result<(), Error> {
    for line in lines {
        stream.write_all(format!("{}\n", line?).as_bytes()).map_err(|error| closed(stream, error))?;
        let mut head = [0; 5];
        stream.read_exact(&mut head).map_err(|error| closed(stream, error))?;
        let [status, length @ ..] = head;
        if ![STATUS_DONE, STATUS_REFUSED, STATUS_CLOSED].contains(&status) {
            let mut words = head.to_vec();
            let _ = stream.read_to_end(&mut words);
            return Err(Error::Refused(String::from_utf8_lossy(&words).trim().to_owned()));
        }
        let mut text = Vec::new();
        let length = u64::from(u32::from_be_bytes(length));
        if Read::by_ref(stream).take(length).read_to_end(&mut text)? as u64 != length {
            return Err(Error::Closed);
        }
        out.write_all(&text)?;
        out.flush()?;
        *failed |= status == STATUS_REFUSED;
        if status == STATUS_CLOSED {
            break;
        }
    }
    Ok(())
}

/// Why the connection ended: the supervisor's own words, when it has left some.
fn closed(mut stream: &UnixStream, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            let mut words = Vec::new();
            let _ = stream.read_to_end(&mut words);
            match String::from_utf8_lossy(&words).trim() {
                "" => Error::Closed,
                words => Error::Refused(words.to_owned()),
            }
        }
        _ => Error::Io(error),
    }
}

/// The terminal, passing every key; as it was again when this is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.0);
    }
}

/// Moves octets both ways until the session ends. A signal that would end the process ends the session first, so that
/// the terminal is restored.
fn interactive(stream: &UnixStream, out: &mut impl Write) -> Result<(), Error> {
    let (signalled, signals) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        signal_hook::low_level::pipe::register(signal, signals.try_clone()?)?;
    }
    let size = tcgetwinsize(io::stdin()).map_or((24, 80), |size| (size.ws_row, size.ws_col));
    let _raw = Raw::new()?;
    let (mut to, mut from) = (stream, stream);
    let hello = format!("{PREAMBLE}terminal {} {}\n", size.0, size.1);
    to.write_all(hello.as_bytes()).map_err(|error| closed(stream, error))?;
    let stdin = io::stdin();
    let mut buffer = [0; 4096];
    let mut is_open = true;
    loop {
        let stdin_fd = stdin.as_fd();
        let mut ready = [
            PollFd::new(stream, PollFlags::IN),
            PollFd::new(&signalled, PollFlags::IN),
            PollFd::new(&stdin_fd, PollFlags::IN),
        ];
        let watched = if is_open { 3 } else { 2 };
        match poll(&mut ready[..watched], None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(Error::Io(error.into())),
        }
        let [from_server, from_signal, from_keys] = ready.map(|fd| !fd.revents().is_empty());
        if from_signal {
            return Ok(());
        }
        if from_server {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => out.write_all(&buffer[..count]).and_then(|()| out.flush())?,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        if from_keys && is_open {
            // Past the buffer of `Stdin`: a key is one octet, now.
            match rustix::io::read(stdin_fd, &mut buffer).map_err(io::Error::from)? {
                0 => {
                    is_open = false;
                    stream.shutdown(std::net::Shutdown::Write)?;
                }
                count => to.write_all(&buffer[..count]).map_err(|error| closed(stream, error))?,
            }
        }
    }
}
