//! Datagrams of which the kernel itself writes down that they were sent or received.
//!
//! A program that is killed between `sendto` and its own note of that cannot know whether the datagram left, and one that is
//! killed after `recvfrom` has lost what it took. `sendmmsg` and `recvmmsg` (Linux, `net/socket.c`) store the length of each
//! message in the caller's `mmsghdr` before they return, in the same system call, where no signal is acted upon. So here
//! the headers, and what is received, lie in a file that is mapped shared: its pages belong to the kernel and stay
//! when the process is gone. Whoever opens the file next reads how far the calls came. (The pages may be lost with the
//! machine: that is another fault, and for [`Outbox`] the caller's `sync`.)
//!
//! Not part of a frame's way: it is here because memory that the kernel writes to needs `unsafe`, which this folder has.
//!
//! Threads: one owner. A lock on the file keeps a second process out.

mod inbox;
mod outbox;

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

pub use inbox::{DATAGRAM_MAX, Inbox, Received};
pub use outbox::{DESTINATIONS_MAX, Outbox, Progress};

use super::xdp::ring::Map;

/// Length of a message that the kernel has not handled: no datagram is that long.
const UNTOUCHED: u32 = u32::MAX;
const PAGE: usize = 4096;

/// Octets that a TCP socket's peer has not acknowledged (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
/// It is no such socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut octets: libc::c_int = 0;
    // SAFETY: the request writes one int, to a place that is ours.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut octets) } {
        0 => Ok(u64::try_from(octets).unwrap_or_default()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A locked file, mapped shared.
struct Page {
    map: Map,
    file: File,
}

impl Page {
    /// Opens `path`, makes it if it is not there, and gives it `len` octets. Says whether it was there with that length.
    fn open(path: &Path, len: usize, magic: u64) -> io::Result<(Self, bool)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::new(io::ErrorKind::ResourceBusy, "another process uses it"))?;
        let was = file.metadata()?.len();
        if was != len as u64 {
            file.set_len(0)?;
            // Not `set_len` alone: a file with holes would fail at a write to memory when the disk is full.
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len as u64)?;
        }
        let map = Map::shared(file.as_fd(), len, 0)?;
        let page = Page { map, file };
        let kept = was == len as u64 && page.word(0).load(Ordering::Acquire) == magic;
        if !kept {
            page.zero();
            page.word(0).store(magic, Ordering::Release);
        }
        Ok((page, kept))
    }

    fn zero(&self) {
        // SAFETY: the whole mapping, which is ours alone by the lock and `&self` of the only owner.
        unsafe { self.map.base().as_ptr().write_bytes(0, self.map.len()) };
    }

    /// The number at `offset`.
    fn word(&self, offset: usize) -> &AtomicU64 {
        let place = self.place::<AtomicU64>(offset, 1);
        // SAFETY: inside the mapping and aligned, as `place` has checked; it lives as long as `self`.
        unsafe { place.as_ref() }
    }

    /// The place of `count` values of `T`.
    ///
    /// # Panics
    /// It is not inside, which is a mistake of this module.
    fn place<T>(&self, offset: usize, count: usize) -> NonNull<T> {
        assert!(offset.is_multiple_of(align_of::<T>()) && offset + count * size_of::<T>() <= self.map.len());
        // SAFETY: inside the mapping, as was checked.
        unsafe { self.map.base().add(offset).cast() }
    }

    /// Waits until the disk has it.
    fn sync(&self) -> io::Result<()> {
        // Linux writes dirty pages of shared mappings with the file's others.
        rustix::fs::fdatasync(&self.file).map_err(Into::into)
    }
}

/// A message's header whose data is at `data`.
fn message(name: *mut libc::c_void, name_len: u32, data: *mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: a structure of integers and pointers, for which zero is a value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_len;
    header.msg_hdr.msg_iov = data;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_len = UNTOUCHED;
    header
}
