//! `flow-relay send`, and the sender that the agent has built in.
//!
//! Datagrams come from sockets, by way of the [`Inbox`], or from a queue of the same process. From the inbox they go to the
//! queue and with that to the spool, before the inbox is used again: a process that is killed anywhere between finds them there.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Receiver;
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use vswitch::port::datagram::{Inbox, Received};

use super::super::backoff::Backoff;
use super::super::channel::{Channel, Found};
use super::super::config::Send;
use super::super::queue::{Options, Queue};
use super::super::receiver::hex;
use super::super::sender::Sender;
use super::super::spool::Spool;
use super::super::{key, tls};
use super::control::{Control, Question};
use super::{Clock, Error, HANDSHAKE_MS, TURN, in_memory, private_dir, system, termination};

const CONTROL: Token = Token(0);
const RECEIVER: Token = Token(1);
const SIGNAL: Token = Token(2);
const FED: Token = Token(3);
const INPUTS: usize = 16;
/// Datagrams that are received in one go.
const PLACES: usize = 32;
/// Goes at one socket before others get their turn.
const GOES: usize = 16;
/// Buffer of a socket, octets: what comes while the disk is slow. The kernel may give less.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Name of the inbox in `runtime_dir`.
const INBOX: &str = "send.inbox";
/// Name of the control socket there.
pub const SOCKET: &str = "send.sock";

/// Datagrams from the same process.
pub struct Fed {
    /// What comes.
    pub queue: Receiver<(SocketAddr, Vec<u8>)>,
    /// Set to end.
    pub stop: Arc<AtomicBool>,
}

/// The loop.
pub struct Daemon {
    poll: Poll,
    clock: Clock,
    sender: Sender,
    inbox: Inbox,
    inputs: Vec<UdpSocket>,
    fed: Option<Fed>,
    control: Control,
    receiver: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    channel: Option<Channel>,
    /// The hello was queued.
    greeted: bool,
    since_ms: u64,
}

impl Daemon {
    /// Opens spool, inbox and sockets. `given` are sockets that somebody else has opened.
    ///
    /// # Errors
    /// One of them can't be used.
    pub fn open(config: Send, given: Vec<std::net::UdpSocket>, fed: Option<Fed>) -> Result<Self, Error> {
        let clock = Clock::start();
        let poll = Poll::new().map_err(system("poll"))?;
        private_dir(&config.runtime_dir)?;
        let places = if fed.is_some() { 0 } else { PLACES };
        // Without places it holds numbers only, but those must not outlive the host: a disk might have older ones than were used.
        in_memory(&config.runtime_dir)?;
        let path = config.runtime_dir.join(INBOX);
        let inbox = Inbox::open(&path, places).map_err(system(path.display()))?;
        let tls = config.trust.as_ref().map(tls::client).transpose()?;
        let now = clock.now();
        let (spool, found) = Spool::open(&config.spool_dir, config.spool_key, config.limits, now.ms)?;
        let kept = inbox.was_kept().then(|| (inbox.next(), inbox.done()));
        let mut queue = Queue::new(spool, found, kept, Options { memory: config.memory, fsync: config.fsync });
        let rest: Vec<Received> = match kept {
            Some((next, _)) => inbox.batch().filter(|d| d.number > found.last && d.number >= next).collect(),
            None => Vec::new(),
        };
        queue.push(rest.iter().map(|d| (d.source, &d.octets[..])), now);
        inbox.set_next(queue.next());
        let path = config.runtime_dir.join(SOCKET);
        let control = Control::open(&path, poll.registry(), CONTROL).map_err(system(path.display()))?;
        let inputs = inputs(&config.listen, given, &poll)?;
        Ok(Daemon {
            poll,
            clock,
            sender: Sender::new(queue, config.name, Backoff::new(config.exact_retry)),
            inbox,
            inputs,
            fed,
            control,
            receiver: config.receiver,
            tls: tls.map(|tls| (tls, config.receiver_name)),
            channel: None,
            greeted: false,
            since_ms: 0,
        })
    }

    /// What wakes the loop when something is fed.
    ///
    /// # Errors
    /// The system has none.
    pub fn waker(&self) -> std::io::Result<mio::Waker> {
        mio::Waker::new(self.poll.registry(), FED)
    }

    /// Runs until the process is told to end, or the feeder says so.
    ///
    /// # Errors
    /// The system fails.
    pub fn run(mut self) -> Result<(), Error> {
        let signal = if self.fed.is_none() { Some(termination()?) } else { None };
        if let Some(signal) = &signal {
            let fd = std::os::fd::AsRawFd::as_raw_fd(signal);
            let source = &mut SourceFd(&fd);
            self.poll.registry().register(source, SIGNAL, Interest::READABLE).map_err(system("signal"))?;
        }
        let mut events = Events::with_capacity(64);
        let mut more = true;
        loop {
            let wait = if more { Duration::ZERO } else { TURN };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(system("poll")(e)),
                _ => (),
            }
            let mut end = false;
            for event in &events {
                match event.token() {
                    CONTROL => self.answer(),
                    SIGNAL => end = true,
                    _ => (),
                }
            }
            more = self.turn();
            if end || self.fed.as_ref().is_some_and(|fed| fed.stop.load(Ordering::Acquire) && fed.queue.is_empty()) {
                break;
            }
        }
        let now = self.clock.now();
        self.sender.queue.finish(now);
        if let Some(channel) = self.channel.take() {
            channel.close(self.poll.registry());
        }
        Ok(())
    }

    /// Takes what has come, sends what can be sent, and says whether there may be more at once.
    fn turn(&mut self) -> bool {
        let mut more = self.take_inputs();
        more |= self.take_fed();
        let now = self.clock.now();
        self.sender.queue.tick(now);
        if self.sender.due_ms().is_some_and(|due| now.ms >= due) {
            self.connect();
        }
        match self.talk() {
            Ok(again) => more |= again,
            Err(why) => self.hang_up(why),
        }
        self.inbox.set_done(self.sender.queue.acked());
        self.inbox.set_next(self.sender.queue.next());
        more
    }

    fn take_inputs(&mut self) -> bool {
        let mut more = false;
        for input in &self.inputs {
            for go in 0..GOES {
                let first = self.sender.queue.next();
                match self.inbox.receive(input.as_fd(), first) {
                    Ok(count) => {
                        let batch: Vec<Received> = self.inbox.batch().take(count).collect();
                        let now = self.clock.now();
                        self.sender.queue.push(batch.iter().map(|d| (d.source, &d.octets[..])), now);
                        self.inbox.set_next(self.sender.queue.next());
                        more |= go + 1 == GOES;
                        if count < PLACES {
                            break;
                        }
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(e) => {
                        tracing::warn!("receiving: {e}");
                        break;
                    }
                }
            }
        }
        more
    }

    fn take_fed(&mut self) -> bool {
        let Some(fed) = &self.fed else { return false };
        let batch: Vec<(SocketAddr, Vec<u8>)> = fed.queue.try_iter().take(PLACES * GOES).collect();
        let now = self.clock.now();
        self.sender.queue.push(batch.iter().map(|(source, octets)| (*source, &octets[..])), now);
        batch.len() == PLACES * GOES
    }

    fn connect(&mut self) {
        self.sender.connecting();
        self.greeted = false;
        self.since_ms = self.clock.now().ms;
        match Channel::connect(self.receiver, self.tls.clone(), self.poll.registry(), RECEIVER) {
            Ok(channel) => self.channel = Some(channel),
            Err(why) => self.hang_up(why),
        }
    }

    fn hang_up(&mut self, why: String) {
        if let Some(channel) = self.channel.take() {
            channel.close(self.poll.registry());
        }
        if self.sender.error() != Some(&why) {
            tracing::warn!("receiver {}: {why}", self.receiver);
        }
        let random = key::random().map(u64::from_ne_bytes).unwrap_or_default();
        self.sender.disconnected(self.clock.now(), why, random);
    }

    /// Has the connection go on; says whether there may be more to read.
    fn talk(&mut self) -> Result<bool, String> {
        let Some(channel) = &mut self.channel else { return Ok(false) };
        let now = self.clock.now();
        if !channel.is_ready()? {
            let late = now.ms.saturating_sub(self.since_ms) > HANDSHAKE_MS;
            return if late { Err("no answer within 10 seconds".to_owned()) } else { Ok(false) };
        }
        if !self.greeted {
            self.greeted = true;
            self.sender.connected(now);
        }
        let was_open = self.sender.is_open();
        let mut outcome = Ok(());
        let sender = &mut self.sender;
        let read = channel.read(&mut |octets| {
            if outcome.is_ok() {
                outcome = sender.receive(octets, now);
            }
        });
        outcome.map_err(|e| e.to_string())?;
        let more = read? == Found::More;
        if !was_open && sender.is_open() {
            tracing::info!("connected to the receiver {}", self.receiver);
        }
        loop {
            sender.proceed(now).map_err(|e| e.to_string())?;
            let taken = channel.write(sender.outgoing())?;
            sender.sent(taken);
            if taken == 0 || !sender.outgoing().is_empty() {
                return Ok(more);
            }
        }
    }

    fn answer(&mut self) {
        let Daemon { control, sender, .. } = self;
        control.serve(|question| {
            if question == Question::Retry {
                sender.retry_now();
            }
            format!("{}\n", status(sender))
        });
    }
}

/// How a sender is.
pub fn status(sender: &Sender) -> serde_json::Value {
    let queue = &sender.queue;
    let (counts, said, spool) = (queue.counts(), sender.counts(), queue.spool());
    json!({
        "stream": hex(&queue.stream()),
        "connected": sender.is_open(),
        "error": sender.error(),
        "disk_error": queue.disk_error(),
        "received": {"datagrams": counts.received, "octets": counts.octets},
        "next": queue.next(),
        "acknowledged": queue.acked(),
        "sent": said.sent,
        "sent_again": said.again,
        "attempts": said.attempts,
        "connections": said.connections,
        "lost": {
            "spool_full": counts.lost_size,
            "too_old": counts.lost_age,
            "memory_full": counts.lost_memory,
            "damaged": counts.lost_damage,
        },
        "spool": spool.map(|spool| json!({
            "segments": spool.segments(), "frames": spool.frames(), "octets": spool.octets(),
        })),
        "memory_octets": queue.memory(),
        "disk_errors": counts.disk_errors,
    })
}

fn inputs(listen: &[SocketAddr], given: Vec<std::net::UdpSocket>, poll: &Poll) -> Result<Vec<UdpSocket>, Error> {
    let mut inputs = Vec::new();
    let opened = listen.iter().map(|address| std::net::UdpSocket::bind(address).map_err(system(address)));
    for socket in given.into_iter().map(Ok).chain(opened) {
        let socket = socket?;
        socket.set_nonblocking(true).map_err(system("socket"))?;
        let is = rustix::net::sockopt::socket_recv_buffer_size(&socket).unwrap_or_default();
        if is < RECEIVE_BUFFER
            && rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err()
        {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        let mut socket = UdpSocket::from_std(socket);
        let token = Token(INPUTS + inputs.len());
        poll.registry().register(&mut socket, token, Interest::READABLE).map_err(system("poll"))?;
        inputs.push(socket);
    }
    Ok(inputs)
}

/// The control socket of a sender whose files are in `runtime_dir`.
pub fn socket(runtime_dir: &Path) -> std::path::PathBuf {
    runtime_dir.join(SOCKET)
}
