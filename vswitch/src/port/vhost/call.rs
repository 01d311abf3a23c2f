//! Calls: how a guest learns that we used its chains.
//!
//! A call is a write to an eventfd, made by the worker. The eventfd is the front end's as much as ours: one that fills its
//! counter and takes O_NONBLOCK away makes the write wait. [`Call`] shows that a write has begun and not ended, so that the
//! negotiation can notice, and end it by emptying the counter. The front end then loses its connection.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Where a guest wants to be called.
pub(super) struct Call {
    event: OwnedFd,
    /// Writes begun plus writes ended: odd while one lasts.
    writes: AtomicU32,
}

impl Call {
    pub(super) fn new(event: OwnedFd) -> Call {
        Call { event, writes: AtomicU32::new(0) }
    }

    /// Calls. One at a time: whoever has the ring.
    pub(super) fn ring(&self, calls: &AtomicU64) {
        self.writes.fetch_add(1, Ordering::Release);
        // Full means that the guest has not taken the last call yet: it will come.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        self.writes.fetch_add(1, Ordering::Release);
        calls.fetch_add(1, Ordering::Relaxed);
    }

    /// How many writes there were, when one lasts.
    pub(super) fn lasting(&self) -> Option<u32> {
        Some(self.writes.load(Ordering::Acquire)).filter(|writes| writes % 2 == 1)
    }

    /// Ends the write that lasts.
    pub(super) fn end(&self) {
        let _ = unblock(&self.event).and_then(|()| rustix::io::read(&self.event, &mut [0u8; 8]));
    }
}

/// From now on reads and writes of `event` do not wait, unless the front end changes that.
pub(super) fn unblock(event: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(event, fcntl_getfl(event)? | OFlags::NONBLOCK)
}
