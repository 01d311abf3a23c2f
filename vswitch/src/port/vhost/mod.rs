//! A port that a guest reaches by vhost-user: its network card's rings are in memory that it shares with us.
//!
//! ```text
//!  guest's driver ── rings and frames in shared memory ── worker: Port::rx, Port::tx        (ring, ahead, chain, receive, send)
//!        │                                                  │ a lock per ring that it only tries          (lock, shared)
//!  front end (QEMU, DPDK) ── messages on a Unix socket ── thread of the port: who, where, how many   (socket, device)
//! ```
//!
//! We are the back end. As [`Role::Server`] we listen and the front end connects, as [`Role::Client`] the other way round; in both
//! it may come late, go and come back for ever, and the port is there all the time. While nobody is there it receives nothing
//! and takes nothing.
//!
//! Complications.
//! - **The guest is not trusted**, and neither is its front end. It may write to shared memory whenever it likes, so everything is
//!   copied once and judged in the copy ([`ring`], [`copy`]); it may cut its memory short ([`sigbus`]); it may send half
//!   messages, wrong numbers, descriptors of anything (`socket`, `device`). Whatever it does costs its own port.
//! - **Rings change while a worker uses them.** The negotiation takes a ring out of its slot before it changes anything (`shared`).
//! - **Offloads are the guest's.** [`Port::offloads`] says what was negotiated last; a frame that a guest can't take is refused.
//! - **Sleep.** A worker that is awake polls; kicks are turned off. [`Port::arm`] turns them on and looks once more.
//!
//! Threads: one worker per handle ([`Port::handles`]), each with the queue pairs `i`, `i + n`, ... of its own to receive from. It sends
//! into the first of them that runs, else into any that does, which other workers may be using: then it waits for a
//! moment and gives up. One thread per port negotiates, asleep nearly always, and ends with the port's last handle.
//!
//! Limits: split rings of up to 32768 entries, 8 queue pairs, 32 memory regions; no migration of a running guest. A front end that
//! makes its call descriptor block holds a worker up for less than half a second, once in ten (`call`, `socket`).

mod ahead;
mod call;
mod chain;
mod copy;
mod device;
mod early;
mod features;
mod lock;
pub mod memory;
mod receive;
pub mod ring;
mod send;
mod shared;
mod sigbus;
mod socket;
mod state;
mod sync;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

pub use self::features::offered;
use self::shared::{Running, Shared};
use self::socket::{Negotiation, Place};
pub use self::state::{VhostCounters, VhostState};
use super::{Error, Offloads, Port, Sent};
use crate::frame::{Buffer, TxFrame};

/// Most queue pairs of a port.
pub const QUEUE_PAIRS_MAX: u16 = 8;
/// The mode of a socket that we make, unless another is asked for.
pub const MODE: u32 = 0o660;

/// How often a worker looks for a queue that another one is using.
const TRIES: u32 = 200;

/// Who listens on the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We do; the front end connects.
    Server,
    /// The front end does; we connect, and look for it again when it goes.
    Client,
}

/// How a port is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of the socket.
    pub path: PathBuf,
    /// Who listens there.
    pub role: Role,
    /// Queue pairs that are offered, 1 to [`QUEUE_PAIRS_MAX`].
    pub queue_pairs: u16,
    /// Mode of the socket's path when we make it; [`MODE`] when `None`.
    pub mode: Option<u32>,
    /// User and group of the path when we make it; ours when `None`.
    pub owner: Option<(u32, u32)>,
}

/// The thread of a port, which ends with it.
struct Thread {
    stop: OwnedFd,
    join: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(join) = self.join.take() {
            // It has no way to panic that we could tell anybody of.
            let _ = join.join();
        }
    }
}

/// A vhost-user port, or a further handle of one; see the module.
pub struct Vhost {
    shared: Arc<Shared>,
    /// For all handles together.
    _thread: Arc<Thread>,
    name: String,
    /// What [`Port::readiness`] shows.
    epoll: OwnedFd,
    /// Which handle this is, of how many.
    index: usize,
    handles: usize,
    /// Where among its own queues it begins to receive.
    turn: usize,
    armed: bool,
    missed: u64,
}

impl Vhost {
    /// Opens the port; a guest may come at any time from now on.
    ///
    /// # Errors
    /// [`Error::Device`] when there can't be so many queue pairs or something else is at the path; [`Error::System`] when
    /// the socket can't be made.
    pub fn open(settings: &Settings) -> Result<Vhost, Error> {
        let name = settings.path.display().to_string();
        if !(1..=QUEUE_PAIRS_MAX).contains(&settings.queue_pairs) {
            let what = format!("{} queue pairs; 1 to {QUEUE_PAIRS_MAX} can be", settings.queue_pairs);
            return Err(Error::Device { device: name, what });
        }
        let failed = |call, errno: Errno| match errno {
            Errno::EXIST => Error::Device { device: name.clone(), what: "is there and is no socket".to_owned() },
            Errno::ADDRINUSE => Error::Device { device: name.clone(), what: "somebody listens there".to_owned() },
            errno => Error::System { device: name.clone(), call, source: socket::system(errno) },
        };
        let shared = Arc::new(Shared::new(settings.queue_pairs));
        let epoll = shared.add_handle().map_err(|errno| failed("epoll", errno))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = eventfd(0, flags).map_err(|errno| failed("eventfd", errno))?;
        let heard = rustix::io::fcntl_dupfd_cloexec(&stop, 3).map_err(|errno| failed("dup", errno))?;
        let place = Place::open(settings).map_err(|(call, errno)| failed(call, errno))?;
        let negotiation = Negotiation { shared: Arc::clone(&shared), place, stop: heard };
        let join = std::thread::Builder::new().name("vhost-user".to_owned()).spawn(move || negotiation.run());
        let join = join.map_err(|source| Error::System { device: name.clone(), call: "thread", source })?;
        let thread = Arc::new(Thread { stop, join: Some(join) });
        let handle =
            Vhost { shared, _thread: thread, name, epoll, index: 0, handles: 1, turn: 0, armed: false, missed: 0 };
        Ok(handle)
    }

    /// What can be seen of the port, for as long as it is wanted.
    pub fn state(&self) -> Arc<VhostState> {
        Arc::clone(&self.shared.state)
    }

    /// How many queue pairs this handle receives from.
    #[inline(always)]
    fn own(&self) -> usize {
        (self.shared.pairs() + self.handles - 1).saturating_sub(self.index) / self.handles
    }

    /// Its pair number `at`.
    #[inline(always)]
    fn pair(&self, at: usize) -> usize {
        self.index + at * self.handles
    }

    /// The queue to send into: the first of our own that runs, else the first that does.
    #[inline(always)]
    fn outward(&self) -> Option<usize> {
        let ready = |pair: &usize| self.shared.slot(2 * pair).is_some_and(|slot| slot.is_ready());
        let own = (0..self.own()).map(|at| self.pair(at)).find(ready);
        own.or_else(|| (0..self.shared.pairs()).find(ready)).map(|pair| 2 * pair)
    }

    /// Back from sleep: no more kicks.
    #[cold]
    fn awake(&mut self) {
        self.armed = false;
        self.shared.drain(&self.epoll);
        for at in 0..self.own() {
            if let Some(slot) = self.shared.slot(2 * self.pair(at) + 1) {
                slot.try_with(TRIES, |running| running.ring.quiet());
            }
        }
    }

    /// Takes what `queue` has.
    #[inline(always)]
    fn receive(&mut self, queue: usize, buffers: &mut [Buffer]) -> usize {
        let Some(slot) = self.shared.slot(queue) else { return 0 };
        let state = &self.shared.state;
        let received = slot.try_with(1, |running| {
            let bad = running.ring.bad();
            let taken = match running.enabled {
                true => running.ring.receive(buffers).map(|filled| (filled, 0)),
                false => running.ring.discard().map(|lost| (0, lost)),
            };
            running.call(state);
            let bad = running.ring.bad() - bad;
            if bad > 0 {
                state.bad_descriptors.fetch_add(bad.into(), Ordering::Relaxed);
            }
            if let Err(fault) = taken {
                self.shared.fail(queue, fault);
            }
            let (filled, lost) = taken.unwrap_or_default();
            (filled, lost as u64 + u64::from(bad))
        });
        let (filled, lost) = received.unwrap_or_default();
        self.missed += lost;
        filled
    }

    /// Gives frames to a queue of the guest.
    #[inline(always)]
    fn send(&self, queue: usize, running: &mut Running, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        if !running.enabled {
            return sent;
        }
        let state = &self.shared.state;
        let bad = running.ring.bad();
        let outcome = running.ring.send(frames, &mut sent);
        running.call(state);
        let bad = running.ring.bad() - bad;
        if bad > 0 {
            state.bad_descriptors.fetch_add(bad.into(), Ordering::Relaxed);
        }
        if let Err(fault) = outcome {
            self.shared.fail(queue, fault);
        }
        sent
    }
}

impl Port for Vhost {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        if self.armed {
            self.awake();
        }
        let own = self.own();
        let mut filled = 0;
        for step in 0..own {
            let Some(room @ [_, ..]) = buffers.get_mut(filled..) else { break };
            let at = self.turn + step;
            filled += self.receive(2 * self.pair(if at < own { at } else { at - own }) + 1, room);
        }
        self.turn = if self.turn + 1 < own { self.turn + 1 } else { 0 };
        Ok(filled)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let Some(queue) = self.outward() else { return Sent::default() };
        let Some(slot) = self.shared.slot(queue) else { return Sent::default() };
        slot.try_with(TRIES, |running| self.send(queue, running, frames)).unwrap_or_default()
    }

    fn offloads(&self) -> Offloads {
        features::offloads(self.shared.state.features())
    }

    fn missed(&mut self) -> u64 {
        self.missed
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }

    fn polls(&self) -> bool {
        true
    }

    fn arm(&mut self) -> bool {
        self.shared.drain(&self.epoll);
        self.armed = true;
        let mut arrived = false;
        for at in 0..self.own() {
            let Some(slot) = self.shared.slot(2 * self.pair(at) + 1) else { continue };
            if slot.is_ready() {
                // A ring that is just being changed is worth another look.
                arrived |= slot.try_with(TRIES, |running| running.ring.arm() || !running.kicks).unwrap_or(true);
            }
        }
        arrived
    }

    fn receives(&self) -> bool {
        self.index < self.shared.pairs()
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        // It has no queues to receive from, so nobody ever kicks it.
        let silent = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| Error::System {
            device: self.name.clone(),
            call: "eventfd",
            source: socket::system(errno),
        })?;
        Ok(Box::new(Vhost {
            shared: Arc::clone(&self.shared),
            _thread: Arc::clone(&self._thread),
            name: self.name.clone(),
            epoll: silent,
            index: usize::from(QUEUE_PAIRS_MAX),
            handles: 1,
            turn: 0,
            armed: false,
            missed: 0,
        }))
    }

    fn handles(&mut self, count: usize) -> Result<Vec<Box<dyn Port>>, Error> {
        if self.handles > 1 {
            return Err(Error::Device { device: self.name.clone(), what: "has its handles already".to_owned() });
        }
        let mut others: Vec<Box<dyn Port>> = Vec::with_capacity(count);
        for index in 1..=count {
            let epoll = self.shared.add_handle().map_err(|errno| Error::System {
                device: self.name.clone(),
                call: "epoll",
                source: socket::system(errno),
            })?;
            others.push(Box::new(Vhost {
                shared: Arc::clone(&self.shared),
                _thread: Arc::clone(&self._thread),
                name: self.name.clone(),
                epoll,
                index,
                handles: count + 1,
                turn: 0,
                armed: false,
                missed: 0,
            }));
        }
        self.handles = count + 1;
        Ok(others)
    }
}
