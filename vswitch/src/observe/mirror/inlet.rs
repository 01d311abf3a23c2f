//! Copies of other hosts: GRE in IPv4, by a raw socket of this host.
//!
//! The mirror reads the socket itself, one batch in a turn ([`super::engine`]): what comes from outside takes no thread and no
//! ring, and no more of the mirror's time than a batch. What waits is in the socket's buffer, which the kernel bounds; what
//! finds no room there is lost, and the kernel counts it. Fragments of outer packets are put together by the kernel.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::observe::erspan::PROTOCOL_GRE;

/// Packets that are read at a time.
pub const PACKETS: usize = 32;
/// Octets of the longest.
const PACKET_MAX: usize = 65_535;
/// Octets of socket buffer asked for.
const BUFFER_OCTETS: libc::c_int = 8 << 20;
/// Batches after which the kernel is asked what it has lost.
const BATCHES_BY_LOOK: u32 = 64;

/// What brings packets of other hosts.
pub trait Inlet: Send {
    /// Shows packets, from their IPv4 header on, to `see`: at most [`PACKETS`], in order; never blocks. Returns how many.
    fn receive(&mut self, see: &mut dyn FnMut(&[u8])) -> usize;

    /// Packets that were lost for want of room since it began.
    fn lost(&self) -> u64;

    /// What becomes readable when there are packets.
    fn readable(&self) -> Option<BorrowedFd<'_>>;
}

/// A raw socket for GRE.
pub struct RawInlet {
    fd: OwnedFd,
    octets: Box<[u8]>,
    messages: Box<[libc::mmsghdr; PACKETS]>,
    parts: Box<[libc::iovec; PACKETS]>,
    lost: u64,
    batches: u32,
}

// SAFETY: the pointers inside are written anew before each system call and not followed after it.
unsafe impl Send for RawInlet {}

impl RawInlet {
    /// A socket of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// For want of the privilege (CAP_NET_RAW), or of a descriptor.
    pub fn open() -> io::Result<RawInlet> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers.
        let fd = match unsafe { libc::socket(libc::AF_INET, kind, PROTOCOL_GRE.into()) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else owns.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let octets = BUFFER_OCTETS;
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // The second works only with CAP_NET_ADMIN, beyond what the system allows others. A smaller buffer loses more, which is
        // counted.
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            let wanted = (&raw const octets).cast();
            // SAFETY: the descriptor is open; `wanted` points to `length` octets.
            let _ = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, wanted, length) };
        }
        // SAFETY: all-zero is a value of these structs of integers and raw pointers.
        let (messages, parts) = unsafe { (Box::new(zeroed()), Box::new(zeroed())) };
        let octets = vec![0; PACKETS * PACKET_MAX].into_boxed_slice();
        Ok(RawInlet { fd, octets, messages, parts, lost: 0, batches: 0 })
    }

    /// What the kernel has lost (SK_MEMINFO_DROPS, 32 bits that come round).
    fn look(&mut self) {
        const WORDS: usize = 9;
        let mut words = [0u32; WORDS];
        let mut length = size_of_val(&words) as libc::socklen_t;
        let into = (&raw mut words).cast();
        // SAFETY: the descriptor is open; `into` points to `length` octets.
        let outcome =
            unsafe { libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, into, &raw mut length) };
        if outcome == 0 && length as usize >= size_of_val(&words) {
            let [.., drops] = words;
            self.lost += u64::from(drops.wrapping_sub(self.lost as u32));
        }
    }
}

impl Inlet for RawInlet {
    fn receive(&mut self, see: &mut dyn FnMut(&[u8])) -> usize {
        let places = self.messages.iter_mut().zip(self.parts.iter_mut()).zip(self.octets.chunks_exact_mut(PACKET_MAX));
        for ((message, part), octets) in places {
            *part = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let list = self.messages.as_mut_ptr();
        let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT as _);
        // SAFETY: each of the messages was just given a place of its own in `self.octets`, which is borrowed for this call.
        let got = unsafe { libc::recvmmsg(fd, list, PACKETS as _, flags, std::ptr::null_mut()) };
        let got = usize::try_from(got).unwrap_or(0);
        if self.batches > 0 && (got == 0 || self.batches >= BATCHES_BY_LOOK) {
            self.batches = 0;
            self.look();
        }
        self.batches += u32::from(got > 0);
        for (message, octets) in self.messages.iter().zip(self.octets.chunks_exact(PACKET_MAX)).take(got) {
            see(octets.get(..message.msg_len as usize).unwrap_or(octets));
        }
        got
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}
