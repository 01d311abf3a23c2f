//! Numbered UDP datagrams, sent and judged inside a guest: busybox has no UDP.
//!
//!     datagrams send ADDRESS:PORT COUNT SIZE
//!     datagrams receive PORT COUNT SIZE SECONDS
//!
//! The receiver knows every octet that it must get, and answers each datagram with its number; the sender waits for the
//! answer before it sends the next, so a slow guest loses nothing, and sends none twice. The receiver ends when it has each
//! datagram once, or when the time is over, and prints how many came whole, how many came again, and how many were damaged.

use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Longest datagram, octets.
const SIZE_MAX: usize = 65_507;
/// Time that the sender waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("datagrams: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match *words {
        ["send", to, count, size] => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            for number in 0..count.parse::<u32>()? {
                socket.send(&datagram(number, length(size)?))?;
                let mut answer = [0; 4];
                socket.recv(&mut answer).map_err(|e| format!("no answer to datagram {number}: {e}"))?;
                if answer != number.to_be_bytes() {
                    return Err(format!("an answer to datagram {number} that is none").into());
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        ["receive", port, count, size, seconds] => {
            let socket = UdpSocket::bind(("0.0.0.0", port.parse()?))?;
            println!("listening");
            let limit = Duration::from_secs(seconds.parse()?);
            receive(&socket, count.parse()?, length(size)?, limit)
        }
        _ => Err("send ADDRESS:PORT COUNT SIZE, or receive PORT COUNT SIZE SECONDS".into()),
    }
}

fn length(text: &str) -> Result<usize, Box<dyn std::error::Error>> {
    let length: usize = text.parse()?;
    if (4..=SIZE_MAX).contains(&length) { Ok(length) } else { Err(format!("a size is 4-{SIZE_MAX}").into()) }
}

/// Its number, and octets that differ from those of every neighbour.
fn datagram(number: u32, length: usize) -> Vec<u8> {
    let body = (0u32..).map(|i| number.wrapping_mul(167).wrapping_add(i.wrapping_mul(13)).to_be_bytes()[3]);
    number.to_be_bytes().into_iter().chain(body).take(length).collect()
}

fn receive(
    socket: &UdpSocket,
    count: u32,
    length: usize,
    limit: Duration,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let end = Instant::now() + limit;
    let mut seen = std::collections::BTreeSet::new();
    let (mut again, mut damaged) = (0_u32, 0_u32);
    let mut buffer = vec![0; SIZE_MAX];
    while seen.len() < usize::try_from(count)? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let Ok((received, from)) = socket.recv_from(&mut buffer) else { continue };
        let octets = buffer.get(..received).unwrap_or_default();
        let number = octets.first_chunk().map(|n| u32::from_be_bytes(*n)).filter(|n| *n < count);
        match number.filter(|n| octets == datagram(*n, length)) {
            Some(number) => {
                again += u32::from(!seen.insert(number));
                socket.send_to(&number.to_be_bytes(), from)?;
            }
            None => damaged += 1,
        }
    }
    println!("whole {} again {again} damaged {damaged}", seen.len());
    Ok(ExitCode::SUCCESS)
}
