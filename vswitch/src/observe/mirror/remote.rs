//! Copies to other hosts: ERSPAN in IPv4 or IPv6, by raw sockets of this host and its own routing.
//!
//! The headers are ours down to the IP header (IP_HDRINCL); the kernel finds the way, and does not fragment: a packet that
//! is too long for the device is refused; what may be cut (DF clear) then goes by a second socket, where the kernel writes
//! the IPv4 header and cuts. Batches go out with one `sendmmsg`.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use arrayvec::ArrayVec;

use super::CopyLoss;
use crate::account::counters::Counters;
use crate::frame::BATCH;
use crate::observe::erspan::PROTOCOL_GRE;
use crate::socket::{of_both_families, open, set};

/// Octets that wait before they are sent.
const WAITING_MAX: usize = 128 << 10;
/// Octets of an IPv4 header without options.
const IPV4: usize = 20;
/// Octets of socket buffer asked for.
const BUFFER_OCTETS: libc::c_int = 4 << 20;

/// An IP packet, with its header.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where it goes.
    pub to: IpAddr,
    /// All of it.
    pub octets: &'a [u8],
}

/// What sends packets to other hosts.
pub trait Remote: Send {
    /// Sends packets, at most [`BATCH`], in order, and never blocks. Of each it tells by its place why it was lost, or `None`.
    fn send(&mut self, packets: &[Packet<'_>], outcome: &mut dyn FnMut(usize, Option<CopyLoss>));
}

/// A packet that waits.
#[derive(Clone, Copy)]
struct Waiting {
    start: u32,
    end: u32,
    to: IpAddr,
    session: u16,
}

/// What waits to be sent.
pub(super) struct Far {
    /// `None` until a session has a remote destination.
    pub socket: Option<Box<dyn Remote>>,
    octets: Vec<u8>,
    packets: ArrayVec<Waiting, BATCH>,
}

impl Far {
    /// Nothing waits, and there is no way to send.
    pub fn new() -> Self {
        Far { socket: None, octets: Vec::new(), packets: ArrayVec::new() }
    }

    /// A packet of session `session`, in parts.
    pub fn push(&mut self, counters: &Counters, session: u16, to: IpAddr, parts: [&[u8]; 3]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > usize::from(u16::MAX) {
            return count(counters, session, Some(CopyLoss::TooLong));
        }
        if self.packets.is_full() || self.octets.len() + length > WAITING_MAX {
            self.flush(counters);
        }
        let start = self.octets.len() as u32;
        parts.iter().for_each(|part| self.octets.extend_from_slice(part));
        self.packets.push(Waiting { start, end: self.octets.len() as u32, to, session });
    }

    /// Sends everything that waits.
    pub fn flush(&mut self, counters: &Counters) {
        let octets = |waiting: &Waiting| self.octets.get(waiting.start as usize..waiting.end as usize);
        let packet = |waiting: &Waiting| Packet { to: waiting.to, octets: octets(waiting).unwrap_or_default() };
        let packets: ArrayVec<Packet<'_>, BATCH> = self.packets.iter().map(packet).collect();
        let mut outcome = |at: usize, loss| {
            if let Some(waiting) = self.packets.get(at) {
                count(counters, waiting.session, loss);
            }
        };
        match &mut self.socket {
            _ if packets.is_empty() => return,
            Some(socket) => socket.send(&packets, &mut outcome),
            None => (0..packets.len()).for_each(|at| outcome(at, Some(CopyLoss::DestinationDown))),
        }
        drop(packets);
        self.packets.clear();
        self.octets.clear();
    }
}

fn count(counters: &Counters, session: u16, loss: Option<CopyLoss>) {
    if let Some(cells) = counters.session(session) {
        match loss {
            None => cells.copied.add(1),
            Some(loss) => cells.lose(loss, 1),
        }
    }
}

/// Raw sockets that only send.
pub struct RawSocket {
    v4: OwnedFd,
    /// `None` where the system has no IPv6.
    v6: Option<OwnedFd>,
    messages: Box<[libc::mmsghdr; BATCH]>,
    parts: Box<[libc::iovec; BATCH]>,
    addresses: Box<[Address; BATCH]>,
    /// For what must be cut.
    cutter: Cutter,
}

// SAFETY: the pointers inside are written anew before each system call and not followed after it.
unsafe impl Send for RawSocket {}

impl RawSocket {
    /// Sockets of the namespace that the calling thread is in.
    ///
    /// # Errors
    /// For want of the privilege (CAP_NET_RAW), or of a descriptor.
    pub fn open() -> io::Result<RawSocket> {
        let (v4, v6) = of_both_families(with_headers)?;
        // SAFETY: all-zero is a value of these structs of integers and raw pointers.
        let (messages, parts, addresses) = unsafe { (Box::new(zeroed()), Box::new(zeroed()), Box::new(zeroed())) };
        Ok(RawSocket { v4, v6, messages, parts, addresses, cutter: Cutter::open()? })
    }

    /// `sendmmsg` of packets, all of the family of the first; how many the kernel took.
    fn give(&mut self, packets: &[Packet<'_>]) -> io::Result<usize> {
        let places = self.messages.iter_mut().zip(self.parts.iter_mut()).zip(self.addresses.iter_mut());
        for (((message, part), address), packet) in places.zip(packets) {
            let length = address.set(packet.to);
            *part = libc::iovec { iov_base: packet.octets.as_ptr().cast_mut().cast(), iov_len: packet.octets.len() };
            message.msg_hdr.msg_name = (&raw mut *address).cast();
            message.msg_hdr.msg_namelen = length;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let count = packets.len().min(BATCH);
        let is_v6 = packets.first().is_some_and(|first| first.to.is_ipv6());
        let fd = match (is_v6, &self.v6) {
            (false, _) => self.v4.as_raw_fd(),
            (true, Some(fd)) => fd.as_raw_fd(),
            (true, None) => return Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH)),
        };
        let list = self.messages.as_mut_ptr();
        // SAFETY: the first `count` messages were just filled with pointers into `self` and the packets, all borrowed for
        // this call, and lengths to match; sending writes through none of them but `msg_len`.
        let sent = unsafe { libc::sendmmsg(fd, list, count as _, libc::MSG_DONTWAIT as _) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl Remote for RawSocket {
    fn send(&mut self, packets: &[Packet<'_>], outcome: &mut dyn FnMut(usize, Option<CopyLoss>)) {
        let mut at = 0;
        while let Some(rest @ [first, ..]) = packets.get(at..) {
            let like_it = rest.iter().take_while(|packet| packet.to.is_ipv6() == first.to.is_ipv6()).count();
            match self.give(rest.get(..like_it).unwrap_or(rest)) {
                Ok(sent @ 1..) => {
                    (at..at + sent).for_each(|at| outcome(at, None));
                    at += sent;
                }
                // Of the first alone.
                outcome_of_first => {
                    let loss = outcome_of_first.err().map_or(CopyLoss::DestinationFull, |error| loss(&error));
                    let is_cut = loss == CopyLoss::TooLong && may_be_cut(first.octets);
                    outcome(at, if is_cut { self.cutter.send(first) } else { Some(loss) });
                    at += 1;
                }
            }
        }
    }
}

/// Room for an address of either family, as the kernel takes it.
#[repr(C)]
union Address {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Address {
    /// Becomes that address; gives its length.
    fn set(&mut self, to: IpAddr) -> libc::socklen_t {
        // SAFETY: all-zero is a value of these structs of integers.
        let (mut v4, mut v6): (libc::sockaddr_in, libc::sockaddr_in6) = unsafe { (zeroed(), zeroed()) };
        match to {
            IpAddr::V4(to) => {
                v4.sin_family = libc::AF_INET as _;
                v4.sin_addr.s_addr = u32::from(to).to_be();
                *self = Address { v4 };
                size_of::<libc::sockaddr_in>() as _
            }
            IpAddr::V6(to) => {
                v6.sin6_family = libc::AF_INET6 as _;
                v6.sin6_addr.s6_addr = to.octets();
                *self = Address { v6 };
                size_of::<libc::sockaddr_in6>() as _
            }
        }
    }
}

/// A raw socket that sends packets with their headers.
fn with_headers(family: libc::c_int) -> io::Result<OwnedFd> {
    let fd = open(family, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    // A smaller buffer loses more, and that is counted.
    let _ = set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &BUFFER_OCTETS);
    Ok(fd)
}

/// The IPv4 header lets whoever is on the way cut the packet (RFC 791: DF is clear).
fn may_be_cut(packet: &[u8]) -> bool {
    packet.first().is_some_and(|version| version >> 4 == 4) && packet.get(6).is_some_and(|flags| flags & 0x40 == 0)
}

/// Sends packets in fragments, as the path to each destination asks. The kernel numbers them, and a receiver puts none
/// together of which a part is missing for as long as others come.
struct Cutter {
    fd: OwnedFd,
}

impl Cutter {
    fn open() -> io::Result<Cutter> {
        let fd = open(libc::AF_INET, libc::SOCK_RAW, PROTOCOL_GRE.into())?;
        set(&fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_DONT)?;
        // It sends only: what comes is the inlet's.
        set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &(0 as libc::c_int))?;
        // A smaller buffer loses more, and that is counted.
        let _ = set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &BUFFER_OCTETS);
        // The kernel copies the program, of one instruction.
        let none = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: (&raw const none).cast_mut() };
        set(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        Ok(Cutter { fd })
    }

    /// What is behind the IPv4 header of a packet, from the address that the header says. Why it was lost, if it was.
    fn send(&self, packet: &Packet<'_>) -> Option<CopyLoss> {
        let (Some(from), Some(gre)) = (packet.octets.get(12..16), packet.octets.get(IPV4..)) else {
            return Some(CopyLoss::TooLong);
        };
        let from: [u8; 4] = from.try_into().unwrap_or_default();
        // SAFETY: all-zero is a value of these structs of integers and raw pointers.
        let (mut address, mut message): (Address, libc::msghdr) = unsafe { (zeroed(), zeroed()) };
        let length = address.set(packet.to);
        let mut part = libc::iovec { iov_base: gre.as_ptr().cast_mut().cast(), iov_len: gre.len() };
        let local = libc::in_addr { s_addr: u32::from_ne_bytes(from) };
        let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: local, ipi_addr: local };
        let mut control = [0u64; 4];
        message.msg_name = (&raw mut address).cast();
        message.msg_namelen = length;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if from != [0; 4] {
            let length = size_of::<libc::in_pktinfo>() as u32;
            message.msg_control = control.as_mut_ptr().cast();
            // SAFETY: `control` is aligned as a header is, and has room for it and for the information.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(length) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::IPPROTO_IP;
                (*header).cmsg_type = libc::IP_PKTINFO;
                (*header).cmsg_len = libc::CMSG_LEN(length) as _;
                libc::CMSG_DATA(header).cast::<libc::in_pktinfo>().write_unaligned(info);
            }
        }
        // SAFETY: the message points to what was just filled, all of it borrowed for this call, and sending writes through none.
        match unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) } {
            -1 => Some(loss(&io::Error::last_os_error())),
            _ => None,
        }
    }
}

/// What an error of the kernel means.
fn loss(error: &io::Error) -> CopyLoss {
    match error.raw_os_error() {
        Some(libc::EMSGSIZE) => CopyLoss::TooLong,
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => CopyLoss::DestinationFull,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENETDOWN | libc::ENODEV | libc::EADDRNOTAVAIL) => {
            CopyLoss::NoRoute
        }
        _ => CopyLoss::DestinationError,
    }
}
