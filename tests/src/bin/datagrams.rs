//! Numbered UDP datagrams, sent and judged inside a guest: busybox has no UDP.
//!
//!     datagrams send ADDRESS:PORT COUNT SIZE
//!     datagrams receive PORT COUNT SIZE SECONDS
//!
//! The receiver knows every octet that it must get. It ends when it has each datagram once, or when the time is over, and
//! prints how many came whole, how many came again, and how many were damaged.

use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Longest datagram, octets.
const SIZE_MAX: usize = 65_507;
/// Datagrams between two pauses of the sender, so that the receiver's buffer holds them.
const PAUSE_AFTER: u32 = 20;

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
            for number in 0..count.parse()? {
                socket.send(&datagram(number, length(size)?))?;
                if number % PAUSE_AFTER == PAUSE_AFTER - 1 {
                    std::thread::sleep(Duration::from_millis(10));
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
    let (mut again, mut damaged) = (0, 0);
    let mut buffer = vec![0; SIZE_MAX];
    while seen.len() < usize::try_from(count)? {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        let Ok(received) = socket.recv(&mut buffer) else { continue };
        let octets = buffer.get(..received).unwrap_or_default();
        let number = octets.first_chunk().map(|n| u32::from_be_bytes(*n)).filter(|n| *n < count);
        match number.filter(|n| octets == datagram(*n, length)) {
            Some(number) if !seen.insert(number) => again += 1,
            Some(_) => {}
            None => damaged += 1,
        }
    }
    println!("whole {} again {again} damaged {damaged}", seen.len());
    Ok(ExitCode::SUCCESS)
}
