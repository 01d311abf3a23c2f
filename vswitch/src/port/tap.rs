//! A tap that we open: its kernel side belongs to a namespace, a container or a macvtap.
//!
//! Two ways to open one, by the crates made for it, and one way to use it afterwards: `readv` and `writev` on the file.
//! - **plain** (`tun-tap`): frames only. Whatever offloads an earlier user of a persistent tap left on are turned off, for
//!   they belong to the device and would hand us super-frames without saying so.
//! - **vnet** (`tun-rs`): each frame behind a virtio header of [`VNET_LEN`] octets, so that checksums and super-frames pass
//!   untouched. UDP super-frames (USO) need Linux 6.2; without it `offloads().uso` is false.
//!
//! Always one queue: on the machines measured more queues gained nothing, and they would reorder.
//!
//! A persistent tap of the name is used if nobody else has it; else a tap is made that goes away when it is closed, unless
//! [`Tap::persist`] says otherwise. The device may be moved to another namespace or renamed meanwhile; the file stays with
//! it.
//!
//! Errors while running. A device that is down takes nothing and gives nothing (`EIO`), and comes back. A device that was
//! deleted (`EBADFD`) is gone. Each frame is one system call, because the kernel has no other way for taps.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use libc::{TUN_F_CSUM, TUN_F_TSO_ECN, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6};
use rustix::io::{Errno, readv, writev};

use super::{Error, Offloads, Port, Sent};
use crate::frame::vnet::{VNET_LEN, VnetHdr};
use crate::frame::{Buffer, FRAME_MAX, TxFrame};

/// An open tap.
pub struct Tap {
    fd: OwnedFd,
    name: String,
    vnet: bool,
    offloads: Offloads,
    gone: bool,
    missed: u64,
}

/// What a read brought.
enum Read {
    Frame,
    Nothing,
    /// A frame that the kernel threw away, for it has no virtio header that would describe it.
    Lost,
}

impl Tap {
    /// Opens the tap `name` of the namespace that the calling thread is in, or makes it. With `vnet` frames pass with
    /// their offloads.
    ///
    /// # Errors
    /// [`Error::Device`] when the name is none or the device is not a free tap with one queue; [`Error::System`] else,
    /// such as for want of the privilege.
    pub fn open(name: &str, vnet: bool) -> Result<Tap, Error> {
        check_name(name)?;
        let fd = if vnet { open_vnet(name) } else { open_plain(name) };
        let fd = fd.map_err(|source| explain(name, source))?;
        let system = |call| move |source| Error::System { device: name.to_owned(), call, source };
        let offloads = if vnet {
            set(&fd, libc::TUNSETVNETHDRSZ, VNET_LEN as libc::c_int).map_err(system("TUNSETVNETHDRSZ"))?;
            set(&fd, libc::TUNSETVNETLE, 1).map_err(system("TUNSETVNETLE"))?;
            let base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
            let uso = set_offload(&fd, base | TUN_F_USO4 | TUN_F_USO6).is_ok();
            if !uso {
                set_offload(&fd, base).map_err(system("TUNSETOFFLOAD"))?;
            }
            Offloads { uso, ..Offloads::ALL }
        } else {
            set_offload(&fd, 0).map_err(system("TUNSETOFFLOAD"))?;
            Offloads::NONE
        };
        set(&fd, libc::TUNSETSNDBUF, libc::c_int::MAX).map_err(system("TUNSETSNDBUF"))?;
        rustix::io::ioctl_fionbio(&fd, true).map_err(|e| system("FIONBIO")(e.into()))?;
        Ok(Tap { fd, name: name.to_owned(), vnet, offloads, gone: false, missed: 0 })
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the device outlives this port.
    pub fn persist(&self, keep: bool) -> io::Result<()> {
        // SAFETY: the descriptor is open, and TUNSETPERSIST takes its argument by value and writes no memory of ours.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(keep)) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// One frame into the buffer.
    fn receive(&self, buffer: &mut Buffer) -> Result<Read, Errno> {
        let mut header = [0; VNET_LEN];
        let mut spill = [0; 1];
        let read = {
            let room = buffer.room();
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(room), IoSliceMut::new(&mut spill)];
            let parts = if self.vnet { Some(&mut parts[..]) } else { parts.get_mut(1..) };
            readv(&self.fd, parts.unwrap_or_default())
        };
        let len = match read {
            Ok(read) if self.vnet => read.saturating_sub(VNET_LEN),
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR | Errno::IO | Errno::NOMEM | Errno::NOBUFS) => return Ok(Read::Nothing),
            Err(Errno::INVAL) => return Ok(Read::Lost),
            Err(errno) => return Err(errno),
        };
        // A frame that reached the spill was cut there.
        buffer.set_len(if len > FRAME_MAX { 0 } else { len });
        buffer.vnet = if self.vnet { VnetHdr::read(&header) } else { VnetHdr::PLAIN };
        Ok(Read::Frame)
    }

    /// One frame out.
    fn send(&self, frame: &TxFrame<'_>) -> Result<(), Errno> {
        let written = if self.vnet {
            let header = frame.vnet.write();
            writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(frame.head), IoSlice::new(frame.rest)])
        } else {
            writev(&self.fd, &[IoSlice::new(frame.head), IoSlice::new(frame.rest)])
        };
        written.map(|_| ())
    }
}

impl Port for Tap {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let mut filled = 0;
        if self.gone {
            return Err(Error::Gone);
        }
        // As many reads as there are buffers: a lost frame leaves one empty, and the next call finds the frames behind it.
        for _ in 0..buffers.len() {
            let Some(buffer) = buffers.get_mut(filled) else { break };
            match self.receive(buffer) {
                Ok(Read::Frame) => filled += 1,
                Ok(Read::Lost) => self.missed += 1,
                Ok(Read::Nothing) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
        }
        if filled == 0 && self.gone { Err(Error::Gone) } else { Ok(filled) }
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        for frame in frames {
            if !self.offloads.cover(&frame.vnet) {
                sent.refuse();
                continue;
            }
            match self.send(frame) {
                Ok(()) => sent.accepted += 1,
                Err(Errno::AGAIN) => break,
                Err(_) => sent.refuse(),
            }
        }
        sent
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn missed(&mut self) -> u64 {
        self.missed
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

/// A name that the kernel would take as it is: it makes up one for an empty name or one with `%d`.
fn check_name(name: &str) -> Result<(), Error> {
    let odd = |b: u8| b == b'/' || b == b'%' || b == b':' || !b.is_ascii_graphic();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name == "." || name == ".." || name.bytes().any(odd) {
        let what = "not a device name: 1 to 15 printable octets without blank, '/', ':' and '%'".to_owned();
        return Err(Error::Device { device: name.to_owned(), what });
    }
    Ok(())
}

/// The file of a tap that passes frames only.
fn open_plain(name: &str) -> io::Result<OwnedFd> {
    let tap = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tap)?;
    // SAFETY: `into_raw_fd` gives up the only owner of an open descriptor, and we become it.
    Ok(unsafe { OwnedFd::from_raw_fd(tap.into_raw_fd()) })
}

/// The file of a tap that passes frames with their virtio header.
fn open_vnet(name: &str) -> io::Result<OwnedFd> {
    let builder = tun_rs::DeviceBuilder::new().name(name).layer(tun_rs::Layer::L2);
    let tap = builder.offload(true).multi_queue(false).inherit_enable_state().build_sync()?;
    // SAFETY: `into_raw_fd` gives up the only owner of an open descriptor, and we become it.
    Ok(unsafe { OwnedFd::from_raw_fd(tap.into_raw_fd()) })
}

/// An ioctl that reads an int.
fn set(fd: &OwnedFd, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; the requests given here read one int through the pointer, which outlives the call.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Which offloads the kernel may use towards us.
fn set_offload(fd: &OwnedFd, mask: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open, and TUNSETOFFLOAD takes its argument by value and writes no memory of ours.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(mask)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What the kernel meant when it refused the device.
fn explain(name: &str, source: io::Error) -> Error {
    let device = name.to_owned();
    let what = match source.raw_os_error() {
        Some(libc::EBUSY) => "tap is in use by another process",
        Some(libc::EPERM) => "not permitted: opening a tap needs CAP_NET_ADMIN",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "no /dev/net/tun: is the kernel module tun loaded?",
        Some(libc::EINVAL) => return Error::Device { what: misfit(name).to_owned(), device },
        _ => return Error::System { device, call: "TUNSETIFF", source },
    };
    Error::Device { device, what: what.to_owned() }
}

/// Why a device is no tap for us, as far as /sys tells, which may show another namespace than ours.
fn misfit(name: &str) -> &'static str {
    let device = format!("/sys/class/net/{name}");
    let flags = std::fs::read_to_string(format!("{device}/tun_flags"));
    let flags = flags.ok().and_then(|text| libc::c_int::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    match flags {
        None if std::path::Path::new(&device).exists() => "device exists and is not a tap",
        Some(flags) if flags & libc::IFF_TAP == 0 => "device is a tun (layer 3), not a tap",
        Some(flags) if flags & libc::IFF_MULTI_QUEUE != 0 => "tap was made with multi_queue; make it with one queue",
        _ => "device exists and is not a tap with one queue",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_reinterpret_are_refused() {
        for name in ["", ".", "..", "a/b", "tap%d", "a b", "a:b", "sixteen-octets-x", "t\u{e4}p", "t\0"] {
            let Err(error) = Tap::open(name, false) else { panic!("{name:?} was taken") };
            assert!(error.to_string().contains("not a device name"), "{error}");
        }
        assert!(check_name("fifteen-octets1").is_ok());
    }
}
