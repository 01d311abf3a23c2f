//! A device that exists already, by AF_XDP: for uplinks, and where small frames are many.
//!
//! An XDP program ([`program`]) gives every frame that the device receives to the socket of its queue, before the host's own
//! stack sees it; frames are exchanged through rings in shared memory ([`ring`], [`umem`], [`queue`]), and a system call is
//! only needed to have the kernel send. Complications:
//! - There is no virtio header: no super-frames and no unfinished checksums in either direction ([`Offloads::NONE`]). So
//!   the device must not join received frames (GRO, LRO), which [`ethtool`] switches off. A veth's far end stops sending
//!   super-frames by itself as soon as a program is attached to the near one; that it leaves checksums unfinished is seen
//!   from the frames ([`crate::offload::detect_unfinished`]). A tap's far end does neither: taps are for `netdev`.
//! - A VLAN tag that the device has taken out of the frame is lost, so that is switched off too. On a veth it is the far
//!   end that must not take it out: `ethtool -K FAR txvlan off` if tags are made by a VLAN interface there.
//! - Three ways, from the fastest to the slowest ([`Mode`]): a NIC whose driver takes our memory for its own; a driver that
//!   runs the program and copies; the network stack that runs it.
//! - In copy mode the kernel sends within our call, and ends it at each frame that the device drops: so we know which frame
//!   it was. What the device has no room for stays in the ring, counts as accepted, and goes out with a later call.
//!
//! Errors while running. A device that is down gives nothing and refuses frames. When it is deleted or moved to another
//! namespace the kernel tells the socket, which we ask after every sleep and now and then. A ring that holds what can't
//! be ends the port. Frames that are too long for a slot, or find none, are counted as missed.
//!
//! The program goes when the last handle is dropped, or the process ends in any way.
//!
//! Limits: [`QUEUES_MAX`] queues; frames of 3 840 octets, [`umem`] has the slots.

pub mod ethtool;
mod program;
mod queue;
pub(super) mod ring;
mod socket;
mod umem;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll;

use super::netdev::Netdev;
use super::{Error, Offloads, Port, Sent};
use crate::frame::{Buffer, TxFrame};
use program::{Link, Sockets};
use queue::Queue;

/// Most queues of a device: each takes 6 to 12 MiB.
pub const QUEUES_MAX: u32 = 16;

/// Largest MTU of a device that is opened: its frames, with two tags, fit into the largest slot.
pub const MTU_MAX: u16 = 3818;

/// Calls without frames between two questions whether the device is still there.
const EMPTY_CALLS: u32 = 1024;

/// The kernel lets go of the queues of a closed socket some time later, which is `EBUSY` until then.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// How frames go between the device and us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The driver works on our memory.
    ZeroCopy,
    /// The driver runs the program, and copies.
    Native,
    /// The network stack runs the program, and copies.
    Generic,
}

impl Mode {
    /// `zero-copy`, `native`, `generic`
    pub fn name(self) -> &'static str {
        match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Native => "native",
            Mode::Generic => "generic",
        }
    }
}

/// An open device, or some of its queues.
pub struct Xdp {
    mode: Mode,
    queues: Vec<Queue>,
    /// How many queues the device sends by: sockets of queues beyond that only receive.
    senders: u32,
    /// Watches the sockets when there are several.
    epoll: Option<OwnedFd>,
    /// The queue to begin with.
    next: usize,
    /// Calls that found nothing, since the device was last asked for.
    empty: u32,
    gone: bool,
    /// For handles that get no queue to send by.
    sender: Netdev,
    /// Dropped last: until then frames come to sockets.
    _link: Arc<Link>,
}

impl Xdp {
    /// Opens the device `name` of the namespace that the calling thread is in, in the first of `modes` that it can do.
    ///
    /// # Errors
    /// [`Error::Device`] when there is none, it has too many queues or too large an MTU; [`Error::System`] with what the
    /// last of the modes has failed of, `EBUSY` when the device has an XDP program already.
    pub fn open(name: &str, modes: &[Mode]) -> Result<Xdp, Error> {
        let device = |what: String| Error::Device { device: name.to_owned(), what };
        let system = |call, source| Error::System { device: name.to_owned(), call, source };
        let mtu = match ethtool::mtu(name) {
            Ok(mtu) => mtu,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                return Err(device("there is no such device".to_owned()));
            }
            Err(error) => return Err(system("SIOCGIFMTU", error)),
        };
        let queues = ethtool::queues(name).map_err(|error| system("ETHTOOL_GCHANNELS", error))?;
        if queues.rx > QUEUES_MAX {
            return Err(device(format!("has {} queues, AF_XDP serves {QUEUES_MAX} (ethtool -L)", queues.rx)));
        }
        let index = index_of(name).map_err(|error| system("if_nametoindex", error))?;
        let sender = Netdev::sender(name)?;
        let mut refused = device("no mode to try".to_owned());
        for mode in modes {
            match open_queues(index, queues.rx, mtu, *mode) {
                Ok((opened, link)) => return Xdp::of(sender, *mode, opened, queues.tx, Arc::new(link)),
                Err((call, error)) => refused = system(call, error),
            }
        }
        Err(refused)
    }

    fn of(sender: Netdev, mode: Mode, queues: Vec<Queue>, senders: u32, link: Arc<Link>) -> Result<Xdp, Error> {
        let system = |source| Error::System { device: sender.name().to_owned(), call: "epoll", source };
        let epoll = watch(&queues).map_err(system)?;
        Ok(Xdp { mode, queues, senders, epoll, next: 0, empty: 0, gone: false, sender, _link: link })
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        self.sender.name()
    }

    /// How frames go between the device and us.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Asks whether the device is still there.
    fn ask(&mut self) {
        self.empty = 0;
        self.gone |= self.queues.iter().any(Queue::is_gone);
    }
}

impl Port for Xdp {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let mut filled = 0;
        for _ in 0..self.queues.len() {
            let at = self.next;
            let (Some(queue), Some(room @ [_, ..])) = (self.queues.get_mut(at), buffers.get_mut(filled..)) else {
                break;
            };
            queue.push();
            match queue.receive(room) {
                Ok(count) => filled += count,
                Err(_) => self.gone = true,
            }
            self.next = if at + 1 < self.queues.len() { at + 1 } else { 0 };
        }
        if filled == 0 {
            self.empty += 1;
            if self.empty >= EMPTY_CALLS {
                self.ask();
            }
        }
        if self.gone { Err(Error::Gone) } else { Ok(filled) }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        let senders = self.senders;
        let outcome = match self.queues.iter_mut().find(|queue| queue.number() < senders) {
            _ if self.gone => Err(queue::Gone),
            Some(queue) => queue.send(frames),
            None => return self.sender.tx(frames),
        };
        match outcome {
            Ok(sent) => sent,
            Err(queue::Gone) => {
                self.gone = true;
                frames.iter().for_each(|_| sent.refuse());
                sent
            }
        }
    }

    fn offloads(&self) -> Offloads {
        Offloads::NONE
    }

    fn missed(&mut self) -> u64 {
        self.queues.iter().map(Queue::missed).sum()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        match &self.epoll {
            Some(epoll) => Some(epoll.as_fd()),
            None => self.queues.first().map(Queue::socket),
        }
    }

    fn polls(&self) -> bool {
        true
    }

    fn arm(&mut self) -> bool {
        // What ends the sleep may be the device's end: then the next call finds no frames, and asks.
        self.empty = EMPTY_CALLS;
        self.queues.iter_mut().any(Queue::has_frames)
    }

    /// The queues of the device are dealt out; who gets none sends through a packet socket and receives nothing.
    fn receives(&self) -> bool {
        !self.queues.is_empty()
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        self.sender.sender()
    }

    fn handles(&mut self, count: usize) -> Result<Vec<Box<dyn Port>>, Error> {
        // Whoever gets none first would find nobody to send for it: everything that may fail comes before.
        let mut senders = self.sender.senders(count)?;
        let mine = self.queues.len().div_ceil(count + 1);
        let mut rest = self.queues.split_off(mine.min(self.queues.len()));
        self.epoll = None;
        let mut handles: Vec<Box<dyn Port>> = Vec::with_capacity(count);
        while let Some(sender) = senders.pop() {
            let share = rest.split_off(rest.len() - rest.len().div_ceil(senders.len() + 1));
            if share.is_empty() {
                handles.push(Box::new(sender));
            } else {
                handles.push(Box::new(Xdp::of(sender, self.mode, share, self.senders, Arc::clone(&self._link))?));
            }
        }
        self.next = 0;
        self.epoll = watch(&self.queues).map_err(|source| Error::System {
            device: self.sender.name().to_owned(),
            call: "epoll",
            source,
        })?;
        Ok(handles)
    }
}

/// The sockets of all queues of a device, and the program that feeds them.
fn open_queues(
    device: u32,
    count: u32,
    mtu: usize,
    mode: Mode,
) -> Result<(Vec<Queue>, Link), (&'static str, io::Error)> {
    let sockets = Sockets::new(count).map_err(|error| ("BPF_MAP_CREATE", error))?;
    let mut queues = Vec::new();
    for number in 0..count {
        let mut queue = Queue::open(device, number, mtu, mode == Mode::ZeroCopy);
        for _ in 1..BUSY_TRIES {
            match &queue {
                Err((_, error)) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(BUSY_PAUSE),
                _ => break,
            }
            queue = Queue::open(device, number, mtu, mode == Mode::ZeroCopy);
        }
        let queue = queue?;
        sockets.set(number, queue.socket().as_raw_fd()).map_err(|error| ("BPF_MAP_UPDATE_ELEM", error))?;
        queues.push(queue);
    }
    let link = sockets.attach(device, mode != Mode::Generic).map_err(|error| ("attach the XDP program", error))?;
    Ok((queues, link))
}

/// One descriptor for several sockets.
fn watch(queues: &[Queue]) -> io::Result<Option<OwnedFd>> {
    if queues.len() < 2 {
        return Ok(None);
    }
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for queue in queues {
        epoll::add(&epoll, queue.socket(), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    }
    Ok(Some(epoll))
}

fn index_of(name: &str) -> io::Result<u32> {
    let any = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&any, name)?)
}
