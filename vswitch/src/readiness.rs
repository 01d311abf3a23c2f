//! Which ports may have frames.
//!
//! * A port with a descriptor is asked when epoll (level-triggered) has said that it is readable, and from then on every
//!   turn until it gives nothing. So a busy port costs no call of epoll.
//! * A port that [`polls`](Port::polls) is asked every turn, which costs no system call; before the worker sleeps it is armed.
//! * A port that has no descriptor and does not poll is asked every turn, and nothing can wake the worker for it.
//! * A handle that receives nothing is never asked.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::port::{Port, PortId};
use crate::table::portset::PortSet;

const WAKER: u64 = u64::MAX;
const EVENTS: usize = 64;

/// The set of ports that may have frames.
pub(crate) struct Readiness {
    epoll: Option<OwnedFd>,
    /// Was reported readable and gave frames since.
    ready: PortSet,
    /// Of these, those of which the last call of epoll told anew.
    fresh: Vec<PortId>,
    /// Is asked every turn.
    asked: PortSet,
    /// Ports that poll, to be armed.
    armed: Vec<PortId>,
    /// Ports that nothing can wake us for.
    mute: Vec<PortId>,
    /// Ports that only epoll tells about.
    watched: usize,
    waker: Option<OwnedFd>,
}

impl Readiness {
    /// No ports. When the system has no epoll to give, every port is polled.
    pub(crate) fn new() -> Self {
        Readiness {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).ok(),
            ready: PortSet::default(),
            fresh: Vec::with_capacity(EVENTS),
            asked: PortSet::default(),
            armed: Vec::new(),
            mute: Vec::new(),
            watched: 0,
            waker: None,
        }
    }

    /// Ends sleep when `waker` is readable.
    pub(crate) fn watch_waker(&mut self, waker: &OwnedFd) {
        if let Some(epoll) = &self.epoll
            && epoll::add(epoll, waker, epoll::EventData::new_u64(WAKER), epoll::EventFlags::IN).is_ok()
        {
            self.waker = waker.try_clone().ok();
        }
    }

    /// A port was attached.
    pub(crate) fn watch(&mut self, id: PortId, port: &dyn Port) {
        if !port.receives() {
            return;
        }
        let watched = match (&self.epoll, port.readiness()) {
            (Some(epoll), Some(fd)) => {
                epoll::add(epoll, fd, epoll::EventData::new_u64(id.0.into()), epoll::EventFlags::IN).is_ok()
            }
            _ => false,
        };
        if !watched {
            self.mute.push(id);
        }
        if port.polls() {
            self.armed.push(id);
        }
        match port.polls() || !watched {
            true => self.asked.insert(id),
            false => self.watched += 1,
        }
    }

    /// A port was detached, or its device is gone.
    pub(crate) fn forget(&mut self, id: PortId, port: &dyn Port) {
        let mute = self.mute.contains(&id);
        self.mute.retain(|other| *other != id);
        if !mute
            && let (Some(epoll), Some(fd)) = (&self.epoll, port.readiness())
            && epoll::delete(epoll, fd).is_ok()
            && !self.asked.contains(id)
        {
            self.watched = self.watched.saturating_sub(1);
        }
        self.armed.retain(|other| *other != id);
        self.asked.remove(id);
        self.drained(id);
    }

    /// There is a port that nothing can wake us for, or nothing can wake us at all.
    pub(crate) fn is_deaf(&self) -> bool {
        !self.mute.is_empty() || self.waker.is_none()
    }

    /// The ports that are to be armed before the worker sleeps.
    pub(crate) fn to_arm(&self) -> &[PortId] {
        &self.armed
    }

    /// The port may have frames.
    pub(crate) fn is_ready(&self, id: PortId) -> bool {
        self.ready.contains(id) || self.asked.contains(id)
    }

    /// The port gave nothing.
    pub(crate) fn drained(&mut self, id: PortId) {
        self.ready.remove(id);
    }

    /// A port that had nothing before the last call of epoll, each once.
    pub(crate) fn next_fresh(&mut self) -> Option<PortId> {
        self.fresh.pop()
    }

    /// Asks the system who is readable, for at most `wait`; `true` when somebody is.
    pub(crate) fn poll(&mut self, wait: Duration) -> bool {
        self.fresh.clear();
        if self.watched == 0 && wait.is_zero() {
            return false;
        }
        let Some(epoll) = &self.epoll else {
            std::thread::sleep(wait);
            return false;
        };
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        // An interrupted wait is an empty one.
        let Ok((events, _)) = epoll::wait(epoll, &mut room, Some(&timeout)) else { return false };
        for event in events.iter() {
            match event.data.u64() {
                WAKER => {
                    if let Some(waker) = &self.waker {
                        let _ = rustix::io::read(waker, &mut [0u8; 8]);
                    }
                }
                id => {
                    let id = PortId(id as u16);
                    if !self.is_ready(id) {
                        self.ready.insert(id);
                        self.fresh.push(id);
                    }
                }
            }
        }
        !events.is_empty()
    }
}
