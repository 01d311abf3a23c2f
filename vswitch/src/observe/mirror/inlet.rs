//! Copies of other hosts: GRE in IPv4 and IPv6, by raw sockets of this host.
//!
//! The mirror reads the sockets itself, one batch of each in a turn ([`super::engine`]): what comes from outside takes no thread
//! and no ring, and no more of the mirror's time than that. What waits is in the sockets' buffers, which the kernel bounds;
//! what finds no room there is lost, and the kernel counts it. Fragments of outer packets are put together by the kernel.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::observe::erspan::{PROTOCOL_GRE, Received, Refused};
use crate::socket::{of_both_families, open, set};

/// Packets that are read of a socket at a time.
pub const PACKETS: usize = 32;
/// Octets of the longest.
const PACKET_MAX: usize = 65_535;
/// Octets of socket buffer asked for.
const BUFFER_OCTETS: libc::c_int = 8 << 20;
/// Batches after which the kernel is asked what it has lost.
const BATCHES_BY_LOOK: u32 = 64;
/// Words of room for what the kernel says of a packet: a header, an address and a number.
const CONTROL: usize = 8;

/// A packet as a raw socket gives it.
#[derive(Clone, Copy, Debug)]
pub enum Outer<'a> {
    /// From its IPv4 header on.
    V4(&'a [u8]),
    /// What is behind the IPv6 header.
    V6 {
        /// Source.
        from: Ipv6Addr,
        /// Destination.
        to: Ipv6Addr,
        /// GRE.
        gre: &'a [u8],
    },
}

impl<'a> Outer<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// It is not ERSPAN, or contradicts itself.
    pub fn read(self) -> Result<Received<'a>, Refused> {
        match self {
            Outer::V4(packet) => Received::read(packet),
            Outer::V6 { from, to, gre } => Received::read_gre(from.into(), to.into(), gre),
        }
    }
}

/// What brings packets of other hosts.
pub trait Inlet: Send {
    /// Shows packets to `see`: at most [`PACKETS`] of each family, those of one in order; never blocks. Returns how many.
    fn receive(&mut self, see: &mut dyn FnMut(Outer<'_>)) -> usize;

    /// Packets that were lost for want of room since it began.
    fn lost(&self) -> u64;

    /// What becomes readable when there are packets.
    fn readable(&self) -> [Option<BorrowedFd<'_>>; 2];
}

/// Raw sockets for GRE.
pub struct RawInlet {
    v4: Socket,
    /// `None` where the system has no IPv6.
    v6: Option<Socket>,
}

impl RawInlet {
    /// Sockets of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// For want of the privilege (CAP_NET_RAW), or of a descriptor.
    pub fn open() -> io::Result<RawInlet> {
        let (v4, v6) = of_both_families(Socket::open)?;
        Ok(RawInlet { v4, v6 })
    }
}

impl Inlet for RawInlet {
    fn receive(&mut self, see: &mut dyn FnMut(Outer<'_>)) -> usize {
        self.v4.receive(see) + self.v6.as_mut().map_or(0, |socket| socket.receive(see))
    }

    fn lost(&self) -> u64 {
        self.v4.lost + self.v6.as_ref().map_or(0, |socket| socket.lost)
    }

    fn readable(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [Some(self.v4.fd.as_fd()), self.v6.as_ref().map(|socket| socket.fd.as_fd())]
    }
}

/// One of them.
struct Socket {
    fd: OwnedFd,
    is_v6: bool,
    octets: Box<[u8]>,
    messages: Box<[libc::mmsghdr; PACKETS]>,
    parts: Box<[libc::iovec; PACKETS]>,
    addresses: Box<[libc::sockaddr_in6; PACKETS]>,
    controls: Box<[[u64; CONTROL]; PACKETS]>,
    lost: u64,
    batches: u32,
}

// SAFETY: the pointers inside are written anew before each system call and not followed after it.
unsafe impl Send for Socket {}

impl Socket {
    fn open(family: libc::c_int) -> io::Result<Socket> {
        let fd = open(family, libc::SOCK_RAW, PROTOCOL_GRE.into())?;
        // The second works only with CAP_NET_ADMIN, beyond what the system allows others. A smaller buffer loses more, which is
        // counted.
        for option in [libc::SO_RCVBUF, libc::SO_RCVBUFFORCE] {
            let _ = set(&fd, libc::SOL_SOCKET, option, &BUFFER_OCTETS);
        }
        let is_v6 = family == libc::AF_INET6;
        if is_v6 {
            set(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &(1 as libc::c_int))?;
        }
        // SAFETY: all-zero is a value of these structs of integers and raw pointers.
        let (messages, parts, addresses) = unsafe { (Box::new(zeroed()), Box::new(zeroed()), Box::new(zeroed())) };
        let octets = vec![0; PACKETS * PACKET_MAX].into_boxed_slice();
        let controls = Box::new([[0; CONTROL]; PACKETS]);
        Ok(Socket { fd, is_v6, octets, messages, parts, addresses, controls, lost: 0, batches: 0 })
    }

    fn receive(&mut self, see: &mut dyn FnMut(Outer<'_>)) -> usize {
        let places = self.messages.iter_mut().zip(self.parts.iter_mut()).zip(self.octets.chunks_exact_mut(PACKET_MAX));
        let named = self.addresses.iter_mut().zip(self.controls.iter_mut());
        for (((message, part), octets), (address, control)) in places.zip(named) {
            *part = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            if self.is_v6 {
                message.msg_hdr.msg_name = (&raw mut *address).cast();
                message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as _;
                message.msg_hdr.msg_control = control.as_mut_ptr().cast();
                message.msg_hdr.msg_controllen = size_of_val(control) as _;
            }
        }
        let list = self.messages.as_mut_ptr();
        let (fd, flags) = (self.fd.as_raw_fd(), libc::MSG_DONTWAIT as _);
        // SAFETY: each of the messages was just given places of its own in `self`, with their lengths, all borrowed for this call.
        let got = unsafe { libc::recvmmsg(fd, list, PACKETS as _, flags, std::ptr::null_mut()) };
        let got = usize::try_from(got).unwrap_or(0);
        if self.batches > 0 && (got == 0 || self.batches >= BATCHES_BY_LOOK) {
            self.batches = 0;
            self.look();
        }
        self.batches += u32::from(got > 0);
        let packets = self.messages.iter().zip(self.octets.chunks_exact(PACKET_MAX)).zip(self.addresses.iter());
        for ((message, octets), address) in packets.take(got) {
            let octets = octets.get(..message.msg_len as usize).unwrap_or(octets);
            match self.is_v6.then(|| destination(&message.msg_hdr)) {
                None => see(Outer::V4(octets)),
                Some(Some(to)) => see(Outer::V6 { from: address.sin6_addr.s6_addr.into(), to, gre: octets }),
                // The kernel always says; without it there is no telling whom it is for.
                Some(None) => {}
            }
        }
        got
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

/// Where a packet went (IPV6_PKTINFO, RFC 3542 clause 6.2).
fn destination(message: &libc::msghdr) -> Option<Ipv6Addr> {
    // SAFETY: the kernel has written the controls of this message and their length, or none; each is looked at as far as its
    // length says.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = control.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)
                && header.cmsg_len >= libc::CMSG_LEN(size_of::<libc::in6_pktinfo>() as u32) as usize
            {
                let info = libc::CMSG_DATA(control).cast::<libc::in6_pktinfo>().read_unaligned();
                return Some(info.ipi6_addr.s6_addr.into());
            }
            control = libc::CMSG_NXTHDR(message, control);
        }
    }
    None
}
