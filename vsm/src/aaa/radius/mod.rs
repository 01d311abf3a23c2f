//! Asking a RADIUS server.
//!
//! Each question has a socket of its own, with a port that the system chooses and connected to the server: what comes
//! from elsewhere does not arrive, and no two questions share an identifier. What arrives and is no answer is counted,
//! and waited on: a forged packet can't make a login fail. Runs on the caller's thread and ends in time.

pub mod packet;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::servers::Statistics;
use crate::config::aaa::Target;
use packet::{Answer, Bad, LENGTH_MAX, Login, Request};

/// Asks until `deadline` at the latest; `None`: the server does not answer.
pub fn ask(
    target: &Target,
    login: &Login<'_>,
    takes_unsigned: bool,
    deadline: Instant,
    statistics: &mut Statistics,
) -> Option<Answer> {
    let key = target.key.as_deref()?;
    let random = super::random::<17>()?;
    let mut authenticator = [0; 16];
    authenticator.copy_from_slice(random.get(1..)?);
    // A name that no packet holds is nobody's.
    let Some(request) = Request::new(login, key, random[0], authenticator) else { return Some(Answer::Reject) };
    let socket = connect(target).inspect_err(|_| statistics.failed += 1).ok()?;
    for _ in 0..=target.retransmit {
        let until = deadline.min(Instant::now() + Duration::from_secs(target.timeout_s.into()));
        if socket.send(&request.octets).is_ok() {
            statistics.sent += 1;
            if let Some(answer) = wait(&socket, &request, key, takes_unsigned, until, statistics) {
                statistics.answered += 1;
                return Some(answer);
            }
            statistics.timed_out += 1;
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    statistics.failed += 1;
    None
}

fn connect(target: &Target) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target.host {
        std::net::IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        std::net::IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect((target.host, target.port))?;
    Ok(socket)
}

fn wait(
    socket: &UdpSocket,
    request: &Request,
    key: &str,
    takes_unsigned: bool,
    until: Instant,
    statistics: &mut Statistics,
) -> Option<Answer> {
    let mut octets = [0; LENGTH_MAX];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        socket.set_read_timeout(Some(left)).ok()?;
        let length = match socket.recv(&mut octets) {
            Ok(length) => length,
            // Nobody listens at the port.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return None,
            Err(_) => continue,
        };
        match request.read(octets.get(..length).unwrap_or_default(), key, takes_unsigned) {
            Ok(answer) => return Some(answer),
            Err(Bad::Unmatched) => statistics.unmatched += 1,
            Err(Bad::Unsigned) => statistics.unsigned += 1,
            Err(Bad::Malformed) => statistics.malformed += 1,
        }
    }
}

#[cfg(test)]
mod tests;
