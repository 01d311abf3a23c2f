//! Numbered datagrams to a few destinations, each sent once, whenever the sender is killed.
//!
//! One page: octets 0-7 a magic number; from octet 64, 128 octets for each destination: the highest number that was sent,
//! the number that is being sent, a mark that the destination is away, and at 32 the `mmsghdr`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{PAGE, Page, UNTOUCHED, message};

/// Most destinations.
pub const DESTINATIONS_MAX: usize = 4;
const MAGIC: u64 = u64::from_be_bytes(*b"OUTBOX01");
const FIRST: usize = 64;
const EACH: usize = 128;
const SENT: usize = 0;
const ARMED: usize = 8;
const AWAY: usize = 16;
const HEADER: usize = 32;

/// How far a destination is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Highest number that was sent.
    pub sent: u64,
    /// A number after it that the kernel took, by a sender that died before it heard whether it was refused.
    pub unheard: Option<u64>,
}

/// The file. See [the module](super).
pub struct Outbox {
    page: Page,
}

impl Outbox {
    /// Opens or makes it.
    ///
    /// # Errors
    /// The file can't be used, or another process uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (page, _) = Page::open(path, PAGE, MAGIC)?;
        Ok(Outbox { page })
    }

    fn field(&self, destination: usize, field: usize) -> &std::sync::atomic::AtomicU64 {
        assert!(destination < DESTINATIONS_MAX);
        self.page.word(FIRST + EACH * destination + field)
    }

    fn header(&self, destination: usize) -> std::ptr::NonNull<libc::mmsghdr> {
        assert!(destination < DESTINATIONS_MAX);
        self.page.place(FIRST + EACH * destination + HEADER, 1)
    }

    /// What the file says of a destination.
    pub fn progress(&self, destination: usize) -> Progress {
        let sent = self.field(destination, SENT).load(Ordering::Acquire);
        let armed = self.field(destination, ARMED).load(Ordering::Acquire);
        // SAFETY: a field of the page, which only this owner and the kernel, while it works for us, write.
        let taken = unsafe { (&raw const (*self.header(destination).as_ptr()).msg_len).read_volatile() } != UNTOUCHED;
        Progress { sent, unheard: Some(armed).filter(|_| armed > sent && taken) }
    }

    /// Whether the destination was away when the last datagram was sent.
    pub fn is_away(&self, destination: usize) -> bool {
        self.field(destination, AWAY).load(Ordering::Acquire) != 0
    }

    /// Notes whether the destination is away.
    pub fn set_away(&self, destination: usize, away: bool) {
        self.field(destination, AWAY).store(away.into(), Ordering::Release);
    }

    /// Notes that everything up to `number` was sent, or is not to be.
    pub fn set_sent(&self, destination: usize, number: u64) {
        self.field(destination, SENT).store(number, Ordering::Release);
    }

    /// Sends the datagram `number` by a connected socket, without waiting. The caller then looks for a refusal and calls
    /// [`Outbox::set_sent`].
    ///
    /// # Errors
    /// The kernel did not take it.
    pub fn send(&self, destination: usize, number: u64, socket: BorrowedFd<'_>, octets: &[u8]) -> io::Result<()> {
        let mut data = libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() };
        let header = self.header(destination).as_ptr();
        // SAFETY: inside the page, and only this owner writes it. Volatile and before the number: whoever reads the page
        // after a death between the two sees the number of before.
        unsafe { header.write_volatile(message(std::ptr::null_mut(), 0, &raw mut data)) };
        self.field(destination, ARMED).store(number, Ordering::Release);
        // SAFETY: one header; the kernel reads `octets` during the call and writes only the header's length.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), header, 1, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until the disk has what is noted.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.page.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_datagram_that_was_sent_is_known_to_the_next_owner_and_one_that_was_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outbox");
        let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        here.connect(there.local_addr().unwrap()).unwrap();
        let outbox = Outbox::open(&path).unwrap();
        assert_eq!(outbox.progress(1), Progress::default());
        outbox.send(1, 7, here.as_fd(), b"seven").unwrap();
        assert!(Outbox::open(&path).is_err(), "one owner");
        // As if it died here.
        drop(outbox);
        let outbox = Outbox::open(&path).unwrap();
        assert_eq!(outbox.progress(1), Progress { sent: 0, unheard: Some(7) });
        assert_eq!(outbox.progress(0), Progress::default());
        outbox.set_sent(1, 7);
        assert_eq!(outbox.progress(1), Progress { sent: 7, unheard: None });
        let unconnected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(outbox.send(1, 8, unconnected.as_fd(), b"eight").is_err());
        assert_eq!(outbox.progress(1), Progress { sent: 7, unheard: None });
        let mut buffer = [0; 16];
        assert_eq!(there.recv(&mut buffer).unwrap(), 5);
        outbox.sync().unwrap();
        assert!(!outbox.is_away(1));
        outbox.set_away(1, true);
        drop(outbox);
        assert!(Outbox::open(&path).unwrap().is_away(1));
    }
}
