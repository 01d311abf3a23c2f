//! A device that exists already (another program's tap, a veth end, a NIC), by AF_PACKET.
//!
//! The socket sees what the device receives, before the host's own stack does, and sends as the device. What it does not
//! do is to keep the host's stack from answering too: that is the agent's work (an nftables netdev chain that lets only
//! [`MARK`] out). Complications:
//! - The kernel takes the outer VLAN tag out of a received frame and tells it aside (PACKET_AUXDATA); we put it back, and
//!   move the offsets of the virtio header by its length. Frames out carry their tags as they are; one 802.1Q tag may
//!   exceed the device's MTU, but a frame that begins with an 802.1ad tag must fit into the MTU with all its tags.
//! - PACKET_VNET_HDR puts a virtio header of 10 octets before every frame, in host order (the rest of this crate takes
//!   hosts to be little-endian, which is checked when it is built). A received super-frame of a kind that virtio has no
//!   name for is lost in the kernel (`EINVAL`) and counts as missed.
//! - Batches go through `recvmmsg` and `sendmmsg`; the arrays these need live with the port.
//! - Handles for further workers share the socket and only send: frames of a flow are received in order because one worker
//!   receives them all.
//!
//! Errors while running. A device that is down gives nothing and refuses frames (`ENETDOWN`), and comes back. A device that
//! was deleted or moved to another namespace is gone: the socket loses its binding, which we look up whenever the device
//! went down, and learn from `ENXIO` on the way out.

mod messages;

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use super::{Error, Offloads, Port, Sent};
use crate::frame::{BATCH, Buffer, TxFrame};
use crate::socket::{open, set};
use messages::Messages;

#[cfg(not(target_endian = "little"))]
compile_error!("virtio headers are exchanged with the kernel in little-endian order");

/// Mark (SO_MARK) of every frame that we send: "VEM". An egress filter on the device knows our frames from the host's.
pub const MARK: u32 = 0x0056_454d;

/// Octets of socket buffer asked for: some 30 super-frames, or 2 000 small frames.
const BUFFER_OCTETS: libc::c_int = 4 << 20;

/// An open device.
pub struct Netdev {
    fd: OwnedFd,
    name: String,
    messages: Box<Messages>,
    /// The device was down when last heard of.
    down: bool,
    gone: bool,
    missed: u64,
    /// Of a handle that only sends: what never becomes readable.
    silent: Option<OwnedFd>,
}

impl Netdev {
    /// Opens the device `name` of the namespace that the calling thread is in, in promiscuous mode.
    ///
    /// # Errors
    /// [`Error::Device`] when there is none or it is not Ethernet; [`Error::System`] else.
    pub fn open(name: &str) -> Result<Netdev, Error> {
        let netdev = Netdev::bound(name, libc::ETH_P_ALL as u16)?;
        let system = |call| move |source| Error::System { device: name.to_owned(), call, source };
        let promiscuous = libc::packet_mreq {
            mr_ifindex: bound_to(&netdev.fd).map_err(system("getsockname"))?.sll_ifindex,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&netdev.fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)
            .map_err(system("PACKET_MR_PROMISC"))?;
        Ok(netdev)
    }

    /// Opens the device `name` for sending alone.
    ///
    /// # Errors
    /// As [`Netdev::open`].
    pub fn sender(name: &str) -> Result<Netdev, Error> {
        // Of no protocol: nothing is ever received.
        let netdev = Netdev::bound(name, 0)?;
        Ok(Netdev { silent: Some(netdev.silence()?), ..netdev })
    }

    /// Handles on the same socket that only send.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn senders(&self, count: usize) -> Result<Vec<Netdev>, Error> {
        let one = |_| {
            let system = |source| Error::System { device: self.name.clone(), call: "dup", source };
            let fd = self.fd.try_clone().map_err(system)?;
            let (name, messages, silent) = (self.name.clone(), Messages::new(), Some(self.silence()?));
            Ok(Netdev { fd, name, messages, down: false, gone: false, missed: 0, silent })
        };
        (0..count).map(one).collect()
    }

    /// A descriptor that never becomes readable.
    fn silence(&self) -> Result<OwnedFd, Error> {
        eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| Error::System {
            device: self.name.clone(),
            call: "eventfd",
            source: error.into(),
        })
    }

    fn bound(name: &str, protocol: u16) -> Result<Netdev, Error> {
        let device = |what: &str| Error::Device { device: name.to_owned(), what: what.to_owned() };
        let fd = socket(name)?;
        let index = rustix::net::netdevice::name_to_index(&fd, name).map_err(|_| device("there is no such device"))?;
        let index = libc::c_int::try_from(index).map_err(|_| device("its index is out of range"))?;
        let on: libc::c_int = 1;
        let system = |call| move |source| Error::System { device: name.to_owned(), call, source };
        set(&fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on).map_err(system("PACKET_VNET_HDR"))?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, &on).map_err(system("PACKET_AUXDATA"))?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on).map_err(system("PACKET_IGNORE_OUTGOING"))?;
        set(&fd, libc::SOL_SOCKET, libc::SO_MARK, &MARK).map_err(system("SO_MARK"))?;
        set(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER_OCTETS).map_err(system("SO_RCVBUFFORCE"))?;
        set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER_OCTETS).map_err(system("SO_SNDBUFFORCE"))?;
        bind(&fd, index, protocol).map_err(system("bind"))?;
        let bound = bound_to(&fd).map_err(system("getsockname"))?;
        if bound.sll_hatype != libc::ARPHRD_ETHER {
            return Err(device("not an Ethernet device"));
        }
        Ok(Netdev {
            fd,
            name: name.to_owned(),
            messages: Messages::new(),
            down: false,
            gone: false,
            missed: 0,
            silent: None,
        })
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The socket is bound to a device no more.
    fn unbound(&self) -> bool {
        bound_to(&self.fd).map_or(true, |address| address.sll_ifindex <= 0)
    }

    /// Judges a failed receive: whether to try again at once.
    fn receive_failed(&mut self, error: &io::Error) -> bool {
        match error.raw_os_error() {
            Some(libc::EINTR) => true,
            // Nothing there. A device that is down may be away altogether, which nobody tells.
            Some(libc::EAGAIN) => {
                self.gone = self.down && self.unbound();
                false
            }
            Some(libc::ENETDOWN) => {
                self.down = true;
                self.gone = self.unbound();
                !self.gone
            }
            // A frame that has no virtio header was thrown away; the next may be better.
            Some(libc::EINVAL) => {
                self.missed += 1;
                true
            }
            Some(libc::ENOMEM | libc::ENOBUFS) => false,
            _ => {
                self.gone = true;
                false
            }
        }
    }
}

impl Port for Netdev {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        if self.gone {
            return Err(Error::Gone);
        }
        if self.silent.is_some() {
            return Ok(0);
        }
        // As often as there may be frames to skip: never without end.
        for _ in 0..BATCH {
            match self.messages.receive(&self.fd, buffers) {
                Ok(filled) => {
                    self.down = false;
                    return Ok(filled);
                }
                Err(error) => {
                    if !self.receive_failed(&error) {
                        break;
                    }
                }
            }
        }
        if self.gone { Err(Error::Gone) } else { Ok(0) }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        // A frame may meet an error that the socket kept from when the device went down, and is tried once more.
        let mut again = true;
        while let Some(left @ [_, ..]) = frames.get(sent.total()..) {
            match self.messages.send(&self.fd, left) {
                Ok(0) => break,
                Ok(accepted) => {
                    sent.accepted += accepted;
                    again = true;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN | libc::ENOBUFS) => break,
                    Some(libc::ENETDOWN) if again => {
                        self.down = true;
                        again = false;
                    }
                    Some(libc::ENXIO | libc::ENODEV) => {
                        self.gone = self.unbound();
                        sent.refuse();
                    }
                    _ => sent.refuse(),
                },
            }
        }
        sent
    }

    fn offloads(&self) -> Offloads {
        Offloads::ALL
    }

    /// Frames that found the socket's buffer full, and super-frames that virtio has no name for.
    fn missed(&mut self) -> u64 {
        if self.silent.is_some() {
            return 0;
        }
        // SAFETY: all-zero is a value of this struct of integers.
        let mut statistics: libc::tpacket_stats = unsafe { zeroed() };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        let place = (&raw mut statistics).cast();
        // SAFETY: the descriptor is open; `place` points to `len` octets that outlive the call.
        let result = unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, place, &mut len)
        };
        if result == 0 {
            // The kernel counts from zero again after each question.
            self.missed += u64::from(statistics.tp_drops);
        }
        self.missed
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.silent.as_ref().unwrap_or(&self.fd).as_fd())
    }

    fn receives(&self) -> bool {
        self.silent.is_none()
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        let what = || Error::Device { device: self.name.clone(), what: "has no further handle".to_owned() };
        Ok(Box::new(self.senders(1)?.pop().ok_or_else(what)?))
    }

    fn handles(&mut self, count: usize) -> Result<Vec<Box<dyn Port>>, Error> {
        Ok(self.senders(count)?.into_iter().map(|handle| Box::new(handle) as Box<dyn Port>).collect())
    }
}

/// A packet socket that is bound to nothing yet, so that it receives nothing before its options are set.
fn socket(name: &str) -> Result<OwnedFd, Error> {
    let system = |source| Error::System { device: name.to_owned(), call: "socket(AF_PACKET)", source };
    open(libc::AF_PACKET, libc::SOCK_RAW, 0).map_err(system)
}

/// Binds the socket to a protocol of a device.
fn bind(fd: &OwnedFd, index: libc::c_int, protocol: u16) -> io::Result<()> {
    // SAFETY: all-zero is a value of this struct of integers.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as _;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index;
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the address is `len` octets that outlive the call.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What the socket is bound to.
fn bound_to(fd: &OwnedFd) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: all-zero is a value of this struct of integers.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the address has room for `len` octets and outlives the call.
    match unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &mut len) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ethernet_device_is_opened() {
        // Without the privilege to open packet sockets there is nothing to test here.
        if socket("lo").is_err() {
            println!("skipped: no packet sockets");
            return;
        }
        let error = Netdev::open("no-such-device").err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("no-such-device: there is no such device"));
        let error = Netdev::open("lo").err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some("lo: not an Ethernet device"));
    }
}
