//! Lines on their way to a syslog server: RFC 5424 over UDP (RFC 5426) or TCP with counted octets (RFC 6587).
//!
//! ```text
//! <189>1 2026-11-21T01:02:03.000000Z switch ETHPORT - IF_UP - %ETHPORT-5-IF_UP: Interface Vethernet1 is up
//! ```
//!
//! APP-NAME is the part of the switch and MSGID the mnemonic, so that a server may sort by them; the message begins with
//! the NX-OS mnemonic, so that what knows a Nexus finds it.
//!
//! Each server has a thread and a queue of [`QUEUE_MAX`] lines before it. Who writes a line never waits: what finds no room
//! is lost and counted. A server by TCP that is away is tried again, ever more rarely up to every [`PAUSE_MAX`], and gets
//! what waits when it is back; by UDP what is sent meanwhile is lost, as far as the network tells counted. In both cases
//! the server is told how many it has missed. TCP as well has no receipts: what the system had taken when a connection
//! broke may be lost without being counted.
//!
//! The thread ends when its server is taken out of the configuration.

mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use time::OffsetDateTime;

use crate::config::logging::{FACILITY, PORT, SERVER, Server, facility_code};
use wire::Wire;

/// Lines that wait for a server.
pub const QUEUE_MAX: usize = 1000;
/// Longest pause before a server is tried again.
pub const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A line, but for the priority, which depends on the server.
#[derive(Clone, Debug)]
pub(super) struct Message {
    severity: u8,
    text: String,
}

impl Message {
    pub(super) fn new(now: SystemTime, host: &str, part: &str, severity: u8, mnemonic: &str, text: &str) -> Self {
        let t = OffsetDateTime::from(now);
        let (year, month, day) = (t.year(), u8::from(t.month()), t.day());
        let (hour, minute, second, micro) = (t.hour(), t.minute(), t.second(), t.microsecond());
        let time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z");
        let host = if host.is_empty() { "-" } else { host };
        Message { severity, text: format!("1 {time} {host} {part} - {mnemonic} - {text}") }
    }

    /// What is sent to a server that is told this facility.
    fn octets(&self, facility: u8) -> Vec<u8> {
        format!("<{}>{}", u16::from(facility) * 8 + u16::from(self.severity), self.text).into_bytes()
    }
}

/// How it goes with a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Lines that were given to the network.
    pub sent: u64,
    /// Lines that are known to be lost.
    pub lost: u64,
    /// Lines that wait.
    pub waiting: usize,
    /// Why it could not be reached the last time, if that is so.
    pub error: Option<String>,
}

/// What the thread tells.
#[derive(Default)]
struct Told {
    sent: AtomicU64,
    lost: AtomicU64,
    /// Of the lost ones, those that the server has been told of.
    confessed: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Told {
    fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// The way to a server. When it is dropped the thread ends.
pub(super) struct Sending {
    server: Server,
    queue: Sender<Message>,
    told: Arc<Told>,
    _end: Sender<()>,
}

impl Sending {
    pub(super) fn start(host: &str, server: Server) -> Self {
        let (queue, lines) = bounded(QUEUE_MAX);
        let (end, ended) = bounded(0);
        let told = Arc::new(Told::default());
        let wire = Wire::new(host, server.port.unwrap_or(PORT), server.tcp);
        let facility = facility_code(server.facility.as_deref().unwrap_or(FACILITY));
        let mut thread = Thread { lines, ended, told: told.clone(), wire, facility };
        if let Err(e) = std::thread::Builder::new().name("syslog".into()).spawn(move || thread.run()) {
            told.set_error(Some(format!("no thread: {e}")));
        }
        Sending { server, queue, told, _end: end }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Lines up to this severity are for it.
    pub(super) fn severity(&self) -> u8 {
        self.server.severity.unwrap_or(SERVER)
    }

    /// Puts the line in the queue, or loses it.
    pub(super) fn offer(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            self.told.lose(1);
        }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            sent: self.told.sent.load(Ordering::Relaxed),
            lost: self.told.lost.load(Ordering::Relaxed),
            waiting: self.queue.len(),
            error: self.told.error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

struct Thread {
    lines: Receiver<Message>,
    ended: Receiver<()>,
    told: Arc<Told>,
    wire: Wire,
    facility: u8,
}

impl Thread {
    fn run(&mut self) {
        while let Ok(message) = self.lines.recv() {
            if !self.deliver(&message) {
                return;
            }
        }
    }

    /// Sends a line, however long it takes where lines wait; `false`: the thread is to end.
    fn deliver(&mut self, message: &Message) -> bool {
        let mut pause = Duration::from_secs(1);
        loop {
            match self.send(message) {
                Ok(()) => return true,
                Err(e) => self.told.set_error(Some(e.to_string())),
            }
            if !self.wire.waits() {
                self.told.lose(1);
                return true;
            }
            if self.ended.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                return false;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn send(&mut self, message: &Message) -> std::io::Result<()> {
        let missed = self.told.lost.load(Ordering::Relaxed) - self.told.confessed.load(Ordering::Relaxed);
        let refused = self.wire.send(&message.octets(self.facility))?;
        self.told.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(error) = refused {
            // The line before this one has come back.
            self.told.lose(1);
            self.told.sent.fetch_sub(1, Ordering::Relaxed);
            self.told.set_error(Some(error.to_string()));
            return Ok(());
        }
        self.told.set_error(None);
        if missed > 0 {
            let text = format!("%SYSLOG-4-MESSAGES_LOST: {missed} messages to this server were lost");
            let host = message.text.split(' ').nth(2).unwrap_or("-");
            let confession = Message::new(SystemTime::now(), host, "SYSLOG", 4, "MESSAGES_LOST", &text);
            if let Ok(None) = self.wire.send(&confession.octets(self.facility)) {
                self.told.confessed.fetch_add(missed, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::{TcpListener, UdpSocket};
    use std::time::Instant;

    use super::*;

    fn message(text: &str) -> Message {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_222_923_000_042);
        Message::new(at, "n1", "ETHPORT", 5, "IF_UP", text)
    }

    fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let patience = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < patience, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_line_is_rfc_5424() {
        let text = String::from_utf8(message("%ETHPORT-5-IF_UP: Interface Vethernet1 is up").octets(23)).unwrap();
        let want =
            "<189>1 2026-11-21T01:02:03.000042Z n1 ETHPORT - IF_UP - %ETHPORT-5-IF_UP: Interface Vethernet1 is up";
        assert_eq!(text, want);
    }

    #[test]
    fn by_udp_what_is_lost_is_counted_and_said() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let sending = Sending::start("127.0.0.1", Server { port: Some(port), ..Server::default() });
        let mut buffer = [0; 2048];
        let mut receive = |socket: &UdpSocket| {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        sending.offer(message("one"));
        assert!(receive(&socket).ends_with(" one"));
        drop(socket);
        for n in 0..4 {
            sending.offer(message("lost"));
            until("sent", || sending.status().waiting == 0 && sending.status().sent + sending.status().lost == n + 2);
        }
        assert!(sending.status().lost >= 2, "{:?}", sending.status());
        assert!(sending.status().error.is_some());
        let socket = UdpSocket::bind(("127.0.0.1", port)).unwrap();
        sending.offer(message("two"));
        sending.offer(message("three"));
        let all: Vec<String> = (0..3).map(|_| receive(&socket)).collect();
        assert!(all[0].ends_with(" two") && all.iter().any(|line| line.contains("messages to this server were lost")));
        until("no error", || sending.status().error.is_none());
    }

    #[test]
    fn by_tcp_lines_wait_and_the_queue_has_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let sending = Sending::start("127.0.0.1", Server { port: Some(port), tcp: true, ..Server::default() });
        sending.offer(message("first"));
        until("an error", || sending.status().error.is_some());
        for n in 0..QUEUE_MAX + 7 {
            sending.offer(message(&n.to_string()));
        }
        assert_eq!((sending.status().waiting, sending.status().lost), (QUEUE_MAX, 7));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut length = Vec::new();
            stream.read_until(b' ', &mut length).unwrap();
            let length: usize = String::from_utf8(length).unwrap().trim().parse().unwrap();
            let mut octets = vec![0; length];
            stream.read_exact(&mut octets).unwrap();
            String::from_utf8(octets).unwrap()
        };
        assert!(line().ends_with(" first"));
        assert!(line().ends_with(" 7 messages to this server were lost"));
        for n in 0..QUEUE_MAX {
            assert!(line().ends_with(&format!(" {n}")));
        }
        assert_eq!(sending.status().error, None);
    }
}
