//! The system calls of an AF_XDP socket.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::ring::{Layout, Map, Reader, Writer};
use super::umem::{RECEIVE_SLOTS, SEND_SLOTS, Umem};
use crate::socket::{open, set};

/// Octets of frames on their way out that the socket may hold.
const BUFFER_OCTETS: libc::c_int = 4 << 20;
/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): frames that one call sends in copy mode; 32 unless told.
const MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// A socket and its rings; bound to no queue yet.
pub struct Socket {
    fd: OwnedFd,
}

/// The rings of a socket.
pub struct Rings {
    /// Slots to be filled.
    pub fill: Writer<u64>,
    /// Slots whose frames are sent.
    pub completion: Reader<u64>,
    /// Received frames.
    pub rx: Reader<libc::xdp_desc>,
    /// Frames to be sent.
    pub tx: Writer<libc::xdp_desc>,
}

impl Socket {
    /// A socket whose frames lie in `umem`, and its rings.
    ///
    /// # Errors
    /// The name of the call that failed, and why.
    pub fn open(umem: &Umem, mark: u32) -> Result<(Socket, Rings), (&'static str, io::Error)> {
        let fd = open(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(|error| ("socket(AF_XDP)", error))?;
        let socket = Socket { fd };
        let ring = |call, option, value| set(&socket.fd, libc::SOL_XDP, option, value).map_err(|error| (call, error));
        let registration = set(&socket.fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem.registration());
        registration.map_err(|error| ("XDP_UMEM_REG", error))?;
        ring("XDP_UMEM_FILL_RING", libc::XDP_UMEM_FILL_RING, &RECEIVE_SLOTS)?;
        ring("XDP_UMEM_COMPLETION_RING", libc::XDP_UMEM_COMPLETION_RING, &SEND_SLOTS)?;
        ring("XDP_RX_RING", libc::XDP_RX_RING, &RECEIVE_SLOTS)?;
        ring("XDP_TX_RING", libc::XDP_TX_RING, &SEND_SLOTS)?;
        // One that does not know it sends fewer frames a call.
        let _ = set(&socket.fd, libc::SOL_XDP, MAX_TX_SKB_BUDGET, &SEND_SLOTS.min(256));
        set(&socket.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER_OCTETS)
            .map_err(|error| ("SO_SNDBUFFORCE", error))?;
        set(&socket.fd, libc::SOL_SOCKET, libc::SO_MARK, &mark).map_err(|error| ("SO_MARK", error))?;
        let rings = socket.map_rings().map_err(|error| ("mmap", error))?;
        Ok((socket, rings))
    }

    /// Binds the socket to a queue of a device.
    ///
    /// # Errors
    /// `EBUSY` when the queue has a socket already, `EOPNOTSUPP` or `EINVAL` when the driver can't do it without copies.
    pub fn bind(&self, device: u32, queue: u32, zero_copy: bool) -> io::Result<()> {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_USE_NEED_WAKEUP | if zero_copy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY },
            sxdp_ifindex: device,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: the descriptor is open; the address is `len` octets that outlive the call.
        match unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), len) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Has the kernel send what is in the transmit ring.
    ///
    /// # Errors
    /// `EAGAIN` when something is left; `EBUSY` when the device dropped a frame, which ended the call; `ENETDOWN`, `ENXIO`.
    pub fn send(&self) -> io::Result<()> {
        let none = std::ptr::null();
        // SAFETY: the descriptor is open; no octets are passed.
        match unsafe { libc::sendto(self.fd.as_raw_fd(), none, 0, libc::MSG_DONTWAIT, none.cast(), 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Tells the driver that the fill ring has slots again. It can't fail in a way that matters: the next call tells it.
    pub fn wake_receiver(&self) {
        let (none, from) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the descriptor is open; nothing is written.
        unsafe { libc::recvfrom(self.fd.as_raw_fd(), none, 0, libc::MSG_DONTWAIT, from, std::ptr::null_mut()) };
    }

    /// The socket's error, which is taken: set when the device was removed.
    pub fn take_error(&self) -> Option<io::Error> {
        match self.get::<libc::c_int>(libc::SOL_SOCKET, libc::SO_ERROR) {
            Ok((0, _)) => None,
            Ok((code, _)) => Some(io::Error::from_raw_os_error(code)),
            Err(error) => Some(error),
        }
    }

    /// Frames that the kernel had to drop: no slot, no room in the ring, or longer than a slot.
    pub fn dropped(&self) -> u64 {
        let (statistics, _) = match self.get::<libc::xdp_statistics>(libc::SOL_XDP, libc::XDP_STATISTICS) {
            Ok(got) => got,
            Err(_) => return 0,
        };
        // In copy mode a frame that finds no slot counts as `rx_dropped` as well, a full ring only for itself.
        statistics.rx_dropped + statistics.rx_ring_full
    }

    fn map_rings(&self) -> io::Result<Rings> {
        let (at, len) = self.get::<libc::xdp_mmap_offsets>(libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        if len != size_of::<libc::xdp_mmap_offsets>() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this kernel's AF_XDP is too old (before 5.4)"));
        }
        let map = |at: &libc::xdp_ring_offset, entry: usize, count: u32, offset: i64| {
            let octets = u64::from(count).checked_mul(entry as u64).and_then(|octets| octets.checked_add(at.desc));
            let octets = octets.and_then(|octets| usize::try_from(octets).ok());
            let octets = octets.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            let layout = Layout { producer: at.producer, consumer: at.consumer, flags: at.flags, entries: at.desc };
            Ok::<_, io::Error>((Map::shared(self.fd.as_fd(), octets, offset)?, layout))
        };
        let (address, descriptor) = (size_of::<u64>(), size_of::<libc::xdp_desc>());
        let (fill, fill_at) = map(&at.fr, address, RECEIVE_SLOTS, libc::XDP_UMEM_PGOFF_FILL_RING as i64)?;
        let (done, done_at) = map(&at.cr, address, SEND_SLOTS, libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64)?;
        let (rx, rx_at) = map(&at.rx, descriptor, RECEIVE_SLOTS, libc::XDP_PGOFF_RX_RING)?;
        let (tx, tx_at) = map(&at.tx, descriptor, SEND_SLOTS, libc::XDP_PGOFF_TX_RING)?;
        Ok(Rings {
            fill: Writer::new(fill, fill_at, RECEIVE_SLOTS)?,
            completion: Reader::new(done, done_at, SEND_SLOTS)?,
            rx: Reader::new(rx, rx_at, RECEIVE_SLOTS)?,
            tx: Writer::new(tx, tx_at, SEND_SLOTS)?,
        })
    }

    /// getsockopt, and how many octets the kernel has written. `T` is a struct of integers.
    fn get<T: Copy>(&self, level: libc::c_int, option: libc::c_int) -> io::Result<(T, usize)> {
        // SAFETY: all-zero is a value of a struct of integers.
        let mut value: T = unsafe { zeroed() };
        let mut len = size_of::<T>() as libc::socklen_t;
        let place = (&raw mut value).cast();
        // SAFETY: the descriptor is open; `place` points to `len` octets that outlive the call.
        match unsafe { libc::getsockopt(self.fd.as_raw_fd(), level, option, place, &mut len) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok((value, len as usize)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
