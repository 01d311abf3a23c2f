//! Which ports may have frames: epoll, level-triggered, for ports with a descriptor; the others are polled every turn.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use crate::port::PortId;
use crate::table::portset::PortSet;

const WAKER: u64 = u64::MAX;
const EVENTS: usize = 64;

/// The set of ports that may have frames.
pub(crate) struct Readiness {
    epoll: Option<OwnedFd>,
    /// Was reported readable and gave full batches since.
    ready: PortSet,
    /// Has no descriptor, or none that could be watched.
    polled: PortSet,
    watched: usize,
    polled_count: usize,
    waker: Option<OwnedFd>,
}

impl Readiness {
    /// No ports. When the system has no epoll to give, every port is polled.
    pub(crate) fn new() -> Self {
        Readiness {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).ok(),
            ready: PortSet::default(),
            polled: PortSet::default(),
            watched: 0,
            polled_count: 0,
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
    pub(crate) fn watch(&mut self, id: PortId, fd: Option<BorrowedFd<'_>>) {
        let watched = match (&self.epoll, fd) {
            (Some(epoll), Some(fd)) => {
                epoll::add(epoll, fd, epoll::EventData::new_u64(id.0.into()), epoll::EventFlags::IN).is_ok()
            }
            _ => false,
        };
        if watched {
            self.watched += 1;
        } else {
            self.polled.insert(id);
            self.polled_count += 1;
        }
    }

    /// A port was detached, or its device is gone.
    pub(crate) fn forget(&mut self, id: PortId, fd: Option<BorrowedFd<'_>>) {
        if self.polled.contains(id) {
            self.polled.remove(id);
            self.polled_count -= 1;
        } else if let (Some(epoll), Some(fd)) = (&self.epoll, fd)
            && epoll::delete(epoll, fd).is_ok()
        {
            self.watched -= 1;
        }
        self.ready.remove(id);
    }

    /// Some port has to be polled.
    pub(crate) fn must_poll(&self) -> bool {
        self.polled_count > 0
    }

    /// The port may have frames.
    pub(crate) fn is_ready(&self, id: PortId) -> bool {
        self.ready.contains(id) || self.polled.contains(id)
    }

    /// The port gave less than a batch.
    pub(crate) fn drained(&mut self, id: PortId) {
        self.ready.remove(id);
    }

    /// Asks the system who is readable, for at most `wait`.
    pub(crate) fn poll(&mut self, wait: Duration) {
        if self.watched == 0 && wait.is_zero() {
            return;
        }
        let Some(epoll) = &self.epoll else { return std::thread::sleep(wait) };
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        // An interrupted wait is an empty one.
        let Ok((events, _)) = epoll::wait(epoll, &mut room, Some(&timeout)) else { return };
        for event in events.iter() {
            match event.data.u64() {
                WAKER => {
                    if let Some(waker) = &self.waker {
                        let _ = rustix::io::read(waker, &mut [0u8; 8]);
                    }
                }
                id => self.ready.insert(PortId(id as u16)),
            }
        }
    }
}
