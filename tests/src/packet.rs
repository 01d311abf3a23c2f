//! A packet socket: whole Ethernet frames, with their VLAN tags, to and from one device.
//!
//! The kernel takes the outer tag out of a received frame and reports it beside it; [`Wire::recv`] puts it back, so that
//! what is read is what was on the wire. Only frames that arrive are read, not those that the socket's own side sends.
//!
//! With the receiver of the benches the only place in this crate that calls the C library.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use crate::error::{Result, Tried};
use crate::netns;

const ETH_P_ALL: u16 = 0x0003;
const FRAME_MAX: usize = 65_536 + 64;

/// A socket on one device.
pub struct Wire {
    fd: OwnedFd,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Wire {
    /// Opens the device of the namespace.
    pub fn open(name: &str, device: &str) -> Result<Wire> {
        netns::within(name, || Self::open_here(device).tried(format!("packet socket on {device} of {name}")))
    }

    fn open_here(device: &str) -> io::Result<Wire> {
        let name = CString::new(device)?;
        // SAFETY: `name` is a C string that lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no pointers are passed.
        let raw = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: `raw` was just opened and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let wire = Wire { fd };
        wire.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        wire.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        wire.set(libc::SOL_SOCKET, libc::SO_RCVBUF, 8 << 20)?;
        // SAFETY: an all-zero sockaddr_ll is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = index as libc::c_int;
        // SAFETY: `address` is a sockaddr_ll of the length given.
        check(unsafe {
            libc::bind(
                wire.fd.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(wire)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: `value` is a C int of the length given.
        check(unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                option,
                ptr::from_ref(&value).cast(),
                mem::size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        Ok(())
    }

    /// Frames that are sent go to the driver at once, past the queue of the kernel: for a sender at full speed.
    pub fn bypass_queue(&self) -> Result<()> {
        self.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1).tried("PACKET_QDISC_BYPASS")
    }

    /// Sends a frame as it is; it starts with the destination address and has no FCS.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: pointer and length are those of `frame`.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        let sent = if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent) };
        sent.tried("sending a frame").map(drop)
    }

    /// Sends frames with as few system calls as the kernel allows; returns how many it took.
    pub fn send_many(&self, frames: &[&[u8]]) -> Result<usize> {
        let mut parts: Vec<libc::iovec> =
            frames.iter().map(|f| libc::iovec { iov_base: f.as_ptr().cast_mut().cast(), iov_len: f.len() }).collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: an all-zero mmsghdr is a valid value: no address, no control data.
                let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        // SAFETY: each message points to an iovec of `parts`, and that to a frame; all outlive the call, which only
        // reads the frames.
        let sent =
            unsafe { libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, 0) };
        if sent < 0 {
            let error = io::Error::last_os_error();
            // A full queue is not a failure of a sender that sends as fast as it can.
            return match error.raw_os_error() {
                Some(libc::ENOBUFS | libc::EAGAIN) => Ok(0),
                _ => Err(error).tried("sending frames"),
            };
        }
        Ok(sent as usize)
    }

    /// The next frame that arrives, or `None` after `limit`.
    pub fn recv(&self, limit: Duration) -> Result<Option<Vec<u8>>> {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, as said.
        let ready = check(unsafe { libc::poll(&mut poll, 1, limit.as_millis() as libc::c_int) }).tried("poll")?;
        if ready == 0 { Ok(None) } else { self.read().map(Some).tried("reading a frame") }
    }

    /// Every frame that arrives until `limit` is over.
    pub fn recv_for(&self, limit: Duration) -> Result<Vec<Vec<u8>>> {
        let end = Instant::now() + limit;
        let mut frames = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            frames.extend(self.recv(left)?);
        }
        Ok(frames)
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut frame = vec![0u8; FRAME_MAX];
        let mut control = [0u64; 16];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: an all-zero msghdr is a valid value.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: the message points to `part` and `control`, which point to or are live buffers of the lengths given.
        let read = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, 0) };
        if read < 0 {
            return Err(io::Error::last_os_error());
        }
        frame.truncate(read as usize);
        // SAFETY: the kernel filled in `message` and its control data, over which the macros walk.
        let tag = unsafe { auxdata(&message) }.filter(|a| a.tp_status & libc::TP_STATUS_VLAN_VALID != 0);
        if let (Some(aux), true) = (tag, frame.len() >= 12) {
            let tpid = if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { aux.tp_vlan_tpid } else { 0x8100 };
            let [a, b] = tpid.to_be_bytes();
            let [c, d] = aux.tp_vlan_tci.to_be_bytes();
            frame.splice(12..12, [a, b, c, d]);
        }
        Ok(frame)
    }
}

/// # Safety
/// `message` was filled in by `recvmsg` and its control buffer is still there.
unsafe fn auxdata(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: as the caller promises.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: the macros return headers inside the control buffer or null.
        let here = unsafe { header.read_unaligned() };
        if here.cmsg_level == libc::SOL_PACKET && here.cmsg_type == libc::PACKET_AUXDATA {
            let mut aux = MaybeUninit::<libc::tpacket_auxdata>::uninit();
            // SAFETY: the kernel wrote a whole tpacket_auxdata behind this header.
            unsafe {
                ptr::copy_nonoverlapping(libc::CMSG_DATA(header), aux.as_mut_ptr().cast(), mem::size_of_val(&aux));
                return Some(aux.assume_init());
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}
