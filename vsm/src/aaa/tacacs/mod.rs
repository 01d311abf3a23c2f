//! Asking a TACACS+ server.
//!
//! A question is a TCP connection, unless the server agrees to keep it (`single-connection`); then it is taken again, and
//! opened anew when it has ended meanwhile. What contradicts itself, is to another question or ends in the middle is no
//! answer: the server counts as silent. Runs on the caller's thread and ends in time.

pub mod packet;
pub mod report;

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::radius::packet::{Answer, roles_of};
use super::servers::Statistics;
use crate::config::aaa::Target;
use packet::{Bad, HEAD, Header, Kind, Login, Right, SINGLE, Who};

/// Connections that are kept, one of a server. Any thread may use it.
#[derive(Default)]
pub struct Kept(Mutex<Vec<(IpAddr, u16, TcpStream)>>);

/// Most connections that are kept.
const KEPT_MAX: usize = 64;

impl Kept {
    fn take(&self, target: &Target) -> Option<TcpStream> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(host, port, _)| (*host, *port) == (target.host, target.port))?;
        Some(kept.swap_remove(at).2)
    }

    fn keep(&self, target: &Target, stream: TcpStream) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push((target.host, target.port, stream));
        }
    }
}

enum Failure {
    Io(io::Error),
    Bad(Bad),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// A question to a server.
struct Question<'a> {
    target: &'a Target,
    key: &'a str,
    stream: TcpStream,
    header: Header,
    /// Flags of the first answer.
    agreed: u8,
    deadline: Instant,
}

impl<'a> Question<'a> {
    fn new(target: &'a Target, kind: Kind, minor: u8, deadline: Instant, old: Option<TcpStream>) -> io::Result<Self> {
        let step = Duration::from_secs(target.timeout_s.into());
        let left = deadline.saturating_duration_since(Instant::now()).min(step);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let stream = match old {
            Some(stream) => stream,
            None => TcpStream::connect_timeout(&(target.host, target.port).into(), left)?,
        };
        stream.set_nodelay(true)?;
        let random = super::random().ok_or(io::ErrorKind::Other)?;
        let flags = if target.single { SINGLE } else { 0 };
        let header = Header { kind, minor, sequence: 1, flags, session: u32::from_be_bytes(random) };
        let key = target.key.as_deref().unwrap_or_default();
        Ok(Question { target, key, stream, header, agreed: 0, deadline })
    }

    /// Sends a body and reads the body of the answer.
    fn ask(&mut self, body: &[u8], statistics: &mut Statistics) -> Result<Vec<u8>, Failure> {
        let step = Duration::from_secs(self.target.timeout_s.into());
        let until = self.deadline.min(Instant::now() + step);
        self.stream.set_write_timeout(Some(left(until)?))?;
        self.stream.write_all(&self.header.packet(self.key, body))?;
        statistics.sent += 1;
        let mut head = [0; HEAD];
        self.read(&mut head, until)?;
        let (flags, length) = self.header.answered(&head).map_err(Failure::Bad)?;
        let mut answer = vec![0; length];
        self.read(&mut answer, until)?;
        self.header.reveal(self.key, &mut answer);
        if self.header.sequence == 1 {
            self.agreed = flags;
        }
        self.header.sequence = self.header.sequence.wrapping_add(2);
        Ok(answer)
    }

    /// Fills the buffer; octets that come one by one don't make it take longer.
    fn read(&mut self, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            self.stream.set_read_timeout(Some(left(until)?))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Puts a question; `None`: there is no answer.
fn put<T>(
    target: &Target,
    (kind, minor): (Kind, u8),
    kept: &Kept,
    deadline: Instant,
    statistics: &mut Statistics,
    talk: impl Fn(&mut Question<'_>, &mut Statistics) -> Result<T, Failure>,
) -> Option<T> {
    let mut old = kept.take(target).filter(|_| target.single);
    loop {
        let was_kept = old.is_some();
        let mut question = match Question::new(target, kind, minor, deadline, old.take()) {
            Ok(question) => question,
            Err(_) => {
                statistics.failed += 1;
                return None;
            }
        };
        match talk(&mut question, statistics) {
            Ok(answer) => {
                statistics.answered += 1;
                if target.single && question.agreed & SINGLE != 0 {
                    kept.keep(target, question.stream);
                }
                return Some(answer);
            }
            // The server has closed it since the last question.
            Err(Failure::Io(error)) if was_kept && error.kind() != io::ErrorKind::TimedOut => continue,
            Err(Failure::Io(error)) => {
                let is_late = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
                statistics.timed_out += u64::from(is_late);
                statistics.malformed += u64::from(!is_late);
            }
            Err(Failure::Bad(Bad::Unmatched)) => statistics.unmatched += 1,
            Err(Failure::Bad(Bad::Malformed)) => statistics.malformed += 1,
        }
        statistics.failed += 1;
        return None;
    }
}

/// A server that can't say is as good as silent.
const UNABLE: Failure = Failure::Bad(Bad::Malformed);

/// Whether somebody is let in, and as what.
pub fn login(
    target: &Target,
    who: &Who<'_>,
    password: &str,
    is_ascii: bool,
    kept: &Kept,
    deadline: Instant,
    statistics: &mut Statistics,
) -> Option<Answer> {
    let Some(start) = packet::start(who, (!is_ascii).then_some(password)) else { return Some(Answer::Reject) };
    let minor = u8::from(!is_ascii);
    let is_let_in = put(target, (Kind::Authentication, minor), kept, deadline, statistics, |question, statistics| {
        let mut body = start.clone();
        // Name and password are asked for once each.
        for _ in 0..3 {
            let answer = question.ask(&body, statistics)?;
            let wanted = match packet::login(&answer).map_err(Failure::Bad)? {
                Login::Pass => return Ok(true),
                Login::Fail => return Ok(false),
                Login::User => who.user,
                Login::Password => password,
                Login::Error => return Err(UNABLE),
            };
            body = packet::go_on(wanted).ok_or(UNABLE)?;
        }
        Err(UNABLE)
    })?;
    if !is_let_in {
        return Some(Answer::Reject);
    }
    let arguments = ["service=shell", "cmd=", "cisco-av-pair*", "shell:roles*"].map(str::to_owned);
    let granted = may(target, who, &arguments, kept, deadline, statistics);
    let granted = match granted {
        Some(Right::Pass(granted)) => granted,
        // Let in, with no role of the server's.
        _ => Vec::new(),
    };
    let pairs: Vec<&str> = granted
        .iter()
        .map(|pair| pair.strip_prefix("cisco-av-pair=").or(pair.strip_prefix("cisco-av-pair*")).unwrap_or(pair))
        .collect();
    let administers = pairs.iter().any(|pair| matches!(*pair, "priv-lvl=15" | "priv-lvl*15"));
    Some(Answer::Accept { roles: pairs.iter().flat_map(|pair| roles_of(pair)).collect(), administers })
}

/// Whether somebody may do something.
pub fn may(
    target: &Target,
    who: &Who<'_>,
    arguments: &[String],
    kept: &Kept,
    deadline: Instant,
    statistics: &mut Statistics,
) -> Option<Right> {
    // No server is asked with half of a command.
    let Some(body) = packet::may(who, 6, arguments) else { return Some(Right::Fail) };
    put(target, (Kind::Authorization, 0), kept, deadline, statistics, |question, statistics| {
        match packet::right(&question.ask(&body, statistics)?).map_err(Failure::Bad)? {
            Right::Error => Err(UNABLE),
            answer => Ok(answer),
        }
    })
}

/// Tells what somebody has done.
pub fn has(
    target: &Target,
    who: &Who<'_>,
    flags: u8,
    arguments: &[String],
    kept: &Kept,
    deadline: Instant,
    statistics: &mut Statistics,
) -> Option<()> {
    let body = packet::has(who, flags, 6, arguments)?;
    put(target, (Kind::Accounting, 0), kept, deadline, statistics, |question, statistics| {
        match packet::written(&question.ask(&body, statistics)?).map_err(Failure::Bad)? {
            true => Ok(()),
            false => Err(UNABLE),
        }
    })
}

#[cfg(test)]
mod tests;
