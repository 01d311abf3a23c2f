//! Datagrams that are in memory which outlives the process as soon as they have left the socket.
//!
//! The file has a page of numbers (0 magic, 8 the number of the first datagram of the batch, 16 the number that the next
//! datagram gets, 24 the highest number that need not be kept), then for each place `mmsghdr`, `iovec` and the sender's
//! address, then the data. It should lie in memory (tmpfs): what is received lies in it unencrypted, and a page that is being written
//! to a disk can fail the kernel's write when the process is killed at that instant.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

use super::{PAGE, Page, UNTOUCHED, message};

/// Longest datagram, octets.
pub const DATAGRAM_MAX: usize = 65_535;
/// Room for each.
const ROOM: usize = 65_536;
const MAGIC: u64 = u64::from_be_bytes(*b"INBOX001");
const FIRST: usize = 8;
const NEXT: usize = 16;
const DONE: usize = 24;

/// A datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its number.
    pub number: u64,
    /// Who sent it.
    pub source: SocketAddr,
    /// What.
    pub octets: Vec<u8>,
}

/// The file. See [the module](super).
pub struct Inbox {
    page: Page,
    places: usize,
    kept: bool,
}

impl Inbox {
    /// Opens or makes it, with room for `places` datagrams at a time.
    ///
    /// # Errors
    /// The file can't be used, or another process uses it.
    pub fn open(path: &Path, places: usize) -> io::Result<Self> {
        let (page, kept) = Page::open(path, Self::data(places, places), MAGIC)?;
        let inbox = Inbox { page, places, kept };
        if !kept {
            inbox.clear();
        }
        Ok(inbox)
    }

    /// Whether the file was there.
    pub fn was_kept(&self) -> bool {
        self.kept
    }

    const fn data(places: usize, index: usize) -> usize {
        let heads =
            places * (size_of::<libc::mmsghdr>() + size_of::<libc::iovec>() + size_of::<libc::sockaddr_storage>());
        PAGE + heads.next_multiple_of(PAGE) + index * ROOM
    }

    fn headers(&self) -> NonNull<libc::mmsghdr> {
        self.page.place(PAGE, self.places)
    }

    fn vector(&self, index: usize) -> NonNull<libc::iovec> {
        let start = PAGE + self.places * size_of::<libc::mmsghdr>();
        self.page.place(start + index * size_of::<libc::iovec>(), 1)
    }

    fn address(&self, index: usize) -> NonNull<libc::sockaddr_storage> {
        let start = PAGE + self.places * (size_of::<libc::mmsghdr>() + size_of::<libc::iovec>());
        self.page.place(start + index * size_of::<libc::sockaddr_storage>(), 1)
    }

    /// The number that the next datagram gets.
    pub fn next(&self) -> u64 {
        self.page.word(NEXT).load(Ordering::Acquire)
    }

    /// Notes it.
    pub fn set_next(&self, number: u64) {
        self.page.word(NEXT).store(number, Ordering::Release);
    }

    /// The highest number that need not be kept.
    pub fn done(&self) -> u64 {
        self.page.word(DONE).load(Ordering::Acquire)
    }

    /// Notes it.
    pub fn set_done(&self, number: u64) {
        self.page.word(DONE).store(number, Ordering::Release);
    }

    /// Forgets the batch.
    pub fn clear(&self) {
        for index in 0..self.places {
            // SAFETY: inside the page; only this owner writes it.
            unsafe { (&raw mut (*self.headers().as_ptr().add(index)).msg_len).write_volatile(UNTOUCHED) };
        }
    }

    /// Receives as many datagrams as there are and as there is room for, without waiting. They get the numbers from `first`. The
    /// batch of before is forgotten.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn receive(&self, socket: BorrowedFd<'_>, first: u64) -> io::Result<usize> {
        self.clear();
        self.page.word(FIRST).store(first, Ordering::Release);
        for index in 0..self.places {
            let (vector, address) = (self.vector(index).as_ptr(), self.address(index).as_ptr());
            let data = self.page.place::<u8>(Self::data(self.places, index), ROOM).as_ptr();
            let name_len = size_of::<libc::sockaddr_storage>() as u32;
            // SAFETY: places inside the page, which only this owner writes; the pointers are to other places of it.
            unsafe {
                vector.write_volatile(libc::iovec { iov_base: data.cast(), iov_len: ROOM });
                self.headers().as_ptr().add(index).write_volatile(message(address.cast(), name_len, vector));
            }
        }
        let (headers, flags) = (self.headers().as_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: as many headers as are said, whose pointers are to room of the lengths that they say.
        let count = unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers, self.places as u32, flags as _, std::ptr::null_mut())
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// The batch, in order: what was received last, also by an owner that is gone.
    pub fn batch(&self) -> impl Iterator<Item = Received> + '_ {
        let first = self.page.word(FIRST).load(Ordering::Acquire);
        (0..self.places).map_while(move |index| {
            // SAFETY: a field inside the page; the kernel writes it only during `receive`.
            let len = unsafe { (&raw const (*self.headers().as_ptr().add(index)).msg_len).read_volatile() };
            let len = usize::try_from(len).ok().filter(|len| *len <= ROOM)?;
            let mut octets = vec![0; len];
            let data = self.page.place::<u8>(Self::data(self.places, index), ROOM).as_ptr();
            // SAFETY: `len` octets of the place's `ROOM`, into as many of our own.
            unsafe { data.copy_to_nonoverlapping(octets.as_mut_ptr(), len) };
            Some(Received { number: first.checked_add(index as u64)?, source: self.source(index), octets })
        })
    }

    fn source(&self, index: usize) -> SocketAddr {
        let place = self.address(index).as_ptr();
        // SAFETY: the kernel has written an address of this family, and the room holds each kind whole.
        unsafe {
            match i32::from((&raw const (*place).ss_family).read()) {
                libc::AF_INET6 => {
                    let address = place.cast::<libc::sockaddr_in6>().read();
                    let ip = IpAddr::from(Ipv6Addr::from(address.sin6_addr.s6_addr)).to_canonical();
                    SocketAddr::new(ip, u16::from_be(address.sin6_port))
                }
                libc::AF_INET => {
                    let address = place.cast::<libc::sockaddr_in>().read();
                    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                    SocketAddr::new(ip.into(), u16::from_be(address.sin_port))
                }
                _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_has_left_the_socket_is_there_for_the_next_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inbox");
        let inbox = Inbox::open(&path, 4).unwrap();
        assert!(!inbox.was_kept());
        assert_eq!(inbox.batch().count(), 0);
        let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(inbox.receive(here.as_fd(), 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for n in 0..6u8 {
            there.send_to(&vec![n; usize::from(n) * 100], here.local_addr().unwrap()).unwrap();
        }
        assert_eq!(inbox.receive(here.as_fd(), 10).unwrap(), 4);
        inbox.set_next(14);
        inbox.set_done(9);
        drop(inbox);
        let inbox = Inbox::open(&path, 4).unwrap();
        assert!(inbox.was_kept());
        assert_eq!((inbox.next(), inbox.done()), (14, 9));
        let batch: Vec<Received> = inbox.batch().collect();
        assert_eq!(
            batch.iter().map(|d| (d.number, d.octets.len())).collect::<Vec<_>>(),
            [(10, 0), (11, 100), (12, 200), (13, 300)]
        );
        assert!(batch.iter().all(|d| d.source == there.local_addr().unwrap()));
        assert_eq!(batch[3].octets, [3; 300]);
        assert_eq!(inbox.receive(here.as_fd(), 14).unwrap(), 2);
        assert_eq!(inbox.batch().map(|d| d.octets[0]).collect::<Vec<_>>(), [4, 5]);
        inbox.clear();
        assert_eq!(inbox.batch().count(), 0);
        drop(inbox);
        assert!(!Inbox::open(&path, 5).unwrap().was_kept(), "another layout is another file");
    }

    #[test]
    fn a_longest_datagram_and_one_of_ipv6() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(&dir.path().join("inbox"), 2).unwrap();
        let here = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let there = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        there.send_to(&vec![7; 65_507], here.local_addr().unwrap()).unwrap();
        assert_eq!(inbox.receive(here.as_fd(), 1).unwrap(), 1);
        let received = inbox.batch().next().unwrap();
        assert_eq!((received.octets.len(), received.source), (65_507, there.local_addr().unwrap()));
    }
}
