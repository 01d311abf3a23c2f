//! The session with snmpd.
//!
//! One thread: it waits for questions, answers each from the last picture, and passes notifications on between them.
//! A question names at most what fits into a message of [`PAYLOAD_MAX`]; an answer has at most [`BINDS_MAX`] variables.
//! Notifications that come while there is no session are lost and counted: an old link event is of no use.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::Status;
use super::notify::Notification;
use super::oid::{Oid, Value, VarBind};
use super::pdu::{self, HEADER, Header, Message, PAYLOAD_MAX, Range};
use super::tables::SUBTREES;
use super::tree::Tree;
use crate::log::Event;
use crate::supervisor::Handle;

/// Most variables of an answer.
pub const BINDS_MAX: usize = 1000;
/// How long snmpd waits for an answer.
const ANSWER_S: u8 = 5;
/// Silence after which snmpd is asked whether it is there, and twice that after which it is not.
const SILENCE: Duration = Duration::from_secs(20);
/// How often the thread looks for notifications and for its end.
const TICK: Duration = Duration::from_millis(100);
/// Longest pause before snmpd is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Before those of snmpd itself, which are registered with 127.
const PRIORITY: u8 = 1;

/// Errors of SNMP and AgentX in answers.
mod error {
    pub const COMMIT_FAILED: u16 = 14;
    pub const UNDO_FAILED: u16 = 15;
    pub const NOT_WRITABLE: u16 = 17;
    pub const UNSUPPORTED_CONTEXT: u16 = 262;
}

/// The subagent's session.
pub struct Agent {
    handle: Handle,
    events: Receiver<Event>,
    status: Arc<Status>,
    tree: Arc<ArcSwap<Tree>>,
    ended: Receiver<()>,
    packet: u32,
}

trait Stream: Read + Write + Send {
    fn patience(&self, read: Duration, write: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn patience(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }
}

impl Stream for TcpStream {
    fn patience(&self, read: Duration, write: Duration) -> io::Result<()> {
        self.set_nodelay(true)?;
        self.set_read_timeout(Some(read))?;
        self.set_write_timeout(Some(write))
    }
}

/// Where snmpd is: `unix:PATH` or `tcp:ADDRESS:PORT`.
fn connect(address: &str) -> io::Result<Box<dyn Stream>> {
    let stream: Box<dyn Stream> = match address.split_once(':') {
        Some(("unix", path)) => Box::new(UnixStream::connect(path)?),
        Some(("tcp", rest)) => {
            let address = rest.parse().map_err(|_| io::Error::other("no ADDRESS:PORT"))?;
            Box::new(TcpStream::connect_timeout(&address, Duration::from_secs(5))?)
        }
        _ => return Err(io::Error::other("neither unix:PATH nor tcp:ADDRESS:PORT")),
    };
    stream.patience(TICK, Duration::from_secs(5))?;
    Ok(stream)
}

/// A session that is open.
struct Session {
    stream: Box<dyn Stream>,
    id: u32,
    received: Vec<u8>,
    heard: Instant,
    pinged: bool,
}

impl Agent {
    /// A subagent that tells of what the log says.
    pub fn new(handle: Handle, status: Arc<Status>, tree: Arc<ArcSwap<Tree>>, ended: Receiver<()>) -> Self {
        Agent { events: handle.log().watch(), handle, status, tree, ended, packet: 0 }
    }

    /// Runs until the other end of `ended` is dropped.
    pub fn run(&mut self) {
        let mut pause = Duration::from_secs(1);
        // The first picture is there before the first question.
        while self.status.state().picture.is_none() {
            if self.is_over(TICK) {
                return;
            }
        }
        loop {
            let error = match self.converse(&mut pause) {
                Ok(()) => return,
                Err(error) => error,
            };
            let address = &self.status.address;
            let was = self.status.state().error.replace(error.to_string());
            if was.as_deref() != Some(&error.to_string()) {
                self.handle.log().write(
                    "SNMPD",
                    4,
                    "AGENTX_LOST",
                    &format!("No session with snmpd at {address}: {error}"),
                );
            }
            self.status.state().connected = None;
            if self.is_over(pause) {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn is_over(&self, patience: Duration) -> bool {
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }

    fn packet(&mut self) -> u32 {
        self.packet = self.packet.wrapping_add(1);
        self.packet
    }

    /// A session from its beginning to its end; `Ok`: we end.
    fn converse(&mut self, pause: &mut Duration) -> io::Result<()> {
        let mut session = self.open()?;
        *pause = Duration::from_secs(1);
        {
            let mut state = self.status.state();
            state.connected = Some(Instant::now());
            state.error = None;
        }
        let text = format!("Subagent of snmpd at {}", self.status.address);
        self.handle.log().write("SNMPD", 5, "AGENTX_CONNECTED", &text);
        // What happened before is of no use now.
        self.status.lost.fetch_add(
            self.events.try_iter().filter(|e| Notification::of(e).is_some()).count() as u64,
            Ordering::Relaxed,
        );
        loop {
            if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
                let octets = pdu::close(session.id, self.packet());
                return session.stream.write_all(&octets);
            }
            while let Some((header, message)) = session.receive()? {
                self.answer(&mut session, &header, message)?;
            }
            while let Ok(event) = self.events.try_recv() {
                if let Some(notification) = Notification::of(&event) {
                    let octets = pdu::notify(session.id, self.packet(), &notification.binds());
                    session.stream.write_all(&octets)?;
                    self.status.notified.fetch_add(1, Ordering::Relaxed);
                }
            }
            let silent = session.heard.elapsed();
            if silent > SILENCE * 2 {
                return Err(io::Error::new(ErrorKind::TimedOut, "it is silent"));
            }
            if silent > SILENCE && !session.pinged {
                let octets = pdu::ping(session.id, self.packet());
                session.stream.write_all(&octets)?;
                session.pinged = true;
            }
        }
    }

    fn open(&mut self) -> io::Result<Session> {
        let stream = connect(&self.status.address)?;
        let mut session = Session { stream, id: 0, received: Vec::new(), heard: Instant::now(), pinged: false };
        let octets = pdu::open(self.packet(), ANSWER_S, "distributed virtual switch");
        let (header, uptime) = self.request(&mut session, &octets)?;
        session.id = header.session;
        let since = Duration::from_millis(u64::from(uptime) * 10);
        self.status.state().master_start = Instant::now().checked_sub(since);
        for subtree in SUBTREES {
            let octets = pdu::register(session.id, self.packet(), PRIORITY, &Oid(subtree.to_vec()));
            self.request(&mut session, &octets)?;
        }
        Ok(session)
    }

    /// Sends what snmpd confirms, and waits for that; questions that come in between are answered.
    fn request(&mut self, session: &mut Session, octets: &[u8]) -> io::Result<(Header, u32)> {
        session.stream.write_all(octets)?;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            match session.receive()? {
                Some((header, Message::Response { uptime, error: 0 })) => return Ok((header, uptime)),
                Some((_, Message::Response { error, .. })) => {
                    return Err(io::Error::other(format!("it refuses with AgentX error {error}")));
                }
                Some((header, message)) => self.answer(session, &header, message)?,
                None => {}
            }
        }
        Err(io::Error::new(ErrorKind::TimedOut, "it does not answer"))
    }

    fn answer(&mut self, session: &mut Session, header: &Header, message: Message) -> io::Result<()> {
        let tree = self.tree.load();
        let octets = match message {
            Message::Get(ranges) => {
                let binds: Vec<VarBind> =
                    ranges.into_iter().map(|range| (range.start.clone(), tree.get(&range.start))).collect();
                pdu::response(header, 0, 0, &binds)
            }
            Message::GetNext(ranges) => {
                let binds: Vec<VarBind> = ranges.iter().map(|range| tree.next(range)).collect();
                pdu::response(header, 0, 0, &binds)
            }
            Message::GetBulk { non_repeaters, repetitions, ranges } => {
                pdu::response(header, 0, 0, &bulk(&tree, &ranges, non_repeaters.into(), repetitions.into()))
            }
            Message::TestSet => pdu::response(header, error::NOT_WRITABLE, 1, &[]),
            Message::CommitSet => pdu::response(header, error::COMMIT_FAILED, 1, &[]),
            Message::UndoSet => pdu::response(header, error::UNDO_FAILED, 1, &[]),
            Message::OtherContext => pdu::response(header, error::UNSUPPORTED_CONTEXT, 0, &[]),
            Message::Close => return Err(io::Error::new(ErrorKind::ConnectionAborted, "it has ended the session")),
            Message::CleanupSet | Message::Response { .. } => return Ok(()),
        };
        self.status.answered.fetch_add(1, Ordering::Relaxed);
        session.stream.write_all(&octets)
    }
}

/// RFC 2741 section 7.2.3.3: the variables of one repetition stand together.
fn bulk(tree: &Tree, ranges: &[Range], non_repeaters: usize, repetitions: usize) -> Vec<VarBind> {
    let (once, repeated) = ranges.split_at(non_repeaters.min(ranges.len()));
    let mut binds: Vec<VarBind> = once.iter().map(|range| tree.next(range)).collect();
    let mut repeated = repeated.to_vec();
    for _ in 0..repetitions {
        if repeated.is_empty() || binds.len() + repeated.len() > BINDS_MAX {
            break;
        }
        let row: Vec<VarBind> = repeated.iter().map(|range| tree.next(range)).collect();
        for (range, (oid, _)) in repeated.iter_mut().zip(&row) {
            (range.start, range.include) = (oid.clone(), false);
        }
        let is_over = row.iter().all(|(_, value)| *value == Value::EndOfMibView);
        binds.extend(row);
        if is_over {
            break;
        }
    }
    binds
}

impl Session {
    /// The next whole message; `None` when there is none after a tick.
    fn receive(&mut self) -> io::Result<Option<(Header, Message)>> {
        if let Some(message) = self.take()? {
            return Ok(Some(message));
        }
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "it has closed the connection")),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                (self.heard, self.pinged) = (Instant::now(), false);
                self.take()
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn take(&mut self) -> io::Result<Option<(Header, Message)>> {
        let Some(head) = self.received.first_chunk::<HEADER>() else { return Ok(None) };
        let (header, length) = pdu::header(head).map_err(io::Error::other)?;
        debug_assert!(length <= PAYLOAD_MAX);
        if self.received.len() < HEADER + length {
            return Ok(None);
        }
        let octets: Vec<u8> = self.received.drain(..HEADER + length).collect();
        let message = pdu::message(&header, &octets[HEADER..]).map_err(io::Error::other)?;
        Ok(Some((header, message)))
    }
}
