//! A tap that we open: its kernel side belongs to a namespace, a container or a macvtap.
//!
//! Two ways to open one, by the crates made for it, and one way to use it afterwards: `readv` and `writev` on the file.
//! - **plain** (`tun-tap`): frames only. Whatever offloads an earlier user of a persistent tap left on are turned off, for
//!   they belong to the device and would hand us super-frames without saying so.
//! - **vnet** (`tun-rs`): each frame behind a virtio header of [`VNET_LEN`] octets, so that checksums and super-frames pass
//!   untouched. UDP super-frames (USO) need Linux 6.2; without it `offloads().uso` is false.
//!
//! Each frame is one system call, because the kernel has no other way for taps. So fewer and larger frames are written where
//! nobody can tell ([`crate::coalesce`]), with their payloads where they are (`send`).
//!
//! **Queues.** One per worker, when there are several workers; the kernel keeps a flow in the queue by which its other
//! direction is sent. A queue that no worker has is detached, else the kernel would fill it unread. With one queue further
//! workers send through it and receive nothing. One worker has one queue: on the machines measured more gained nothing, and
//! they would reorder. A persistent tap has the kind that it was made with and is taken as it is. The kernel lets other
//! processes open one with many queues at the same time, and one with one queue not.
//!
//! A persistent tap of the name is used if nobody else has it; else a tap is made that goes away when it is closed, unless
//! [`Tap::persist`] says otherwise. The device may be moved to another namespace or renamed meanwhile; the file stays with
//! it.
//!
//! Errors while running. A device that is down takes nothing and gives nothing (`EIO`), and comes back. A device that was
//! deleted (`EBADFD`) is gone.

mod open;
mod send;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use arrayvec::ArrayVec;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write, writev};

use super::{BATCH_OCTETS, Error, Offloads, Port, Sent};
use crate::coalesce::{Mode, Plan};
use crate::frame::vnet::{VNET_LEN, VnetHdr};
use crate::frame::{Buffer, FRAME_MAX, TxFrame};

/// How a tap is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Frames pass with their offloads.
    pub vnet: bool,
    /// Which frames are joined on the way out. Without `vnet` none can be.
    pub coalesce: Mode,
    /// Most queues: the workers that may receive. Without `vnet` it is one.
    pub queues: usize,
}

/// An open tap, or a further worker's handle for it.
pub struct Tap {
    fd: OwnedFd,
    /// Queues for further workers.
    spare: Vec<OwnedFd>,
    /// Of a handle without a queue: what a worker may watch, and will never be readable.
    silence: Option<OwnedFd>,
    name: String,
    settings: Settings,
    offloads: Offloads,
    gone: bool,
    missed: u64,
    gathered: Box<ArrayVec<u8, GATHERED_MAX>>,
}

/// Octets up to which a frame is put together before it is written.
const GATHERED_MAX: usize = 2048;

/// What a read brought.
enum Read {
    Frame,
    Nothing,
    /// A frame that the kernel threw away, for it has no virtio header that would describe it.
    Lost,
}

impl Tap {
    /// Opens the tap `name` of the namespace that the calling thread is in, or makes it. With `vnet` frames pass with
    /// their offloads. Each frame is written as it is, and there is one queue.
    ///
    /// # Errors
    /// As [`Tap::open_with`].
    pub fn open(name: &str, vnet: bool) -> Result<Tap, Error> {
        Tap::open_with(name, Settings { vnet, coalesce: Mode::Off, queues: 1 })
    }

    /// Opens the tap `name` of the namespace that the calling thread is in, or makes it.
    ///
    /// # Errors
    /// [`Error::Device`] when the name is none or the device is not a free tap; [`Error::System`] else, such as for want
    /// of the privilege.
    pub fn open_with(name: &str, settings: Settings) -> Result<Tap, Error> {
        let open::Device { fd, spare, offloads } = open::open(name, &settings)?;
        let name = name.to_owned();
        Ok(Tap { fd, spare, silence: None, name, settings, offloads, gone: false, missed: 0, gathered: Box::default() })
    }

    /// The name that it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the device outlives this port.
    pub fn persist(&self, keep: bool) -> io::Result<()> {
        open::persist(&self.fd, keep)
    }

    /// One frame into the buffer.
    fn receive(&self, buffer: &mut Buffer) -> Result<Read, Errno> {
        let front = if self.settings.vnet { VNET_LEN } else { 0 };
        let room = buffer.room_behind(front);
        let len = match read(&self.fd, &mut *room) {
            Ok(read) => read.saturating_sub(front),
            Err(Errno::AGAIN | Errno::INTR | Errno::IO | Errno::NOMEM | Errno::NOBUFS) => return Ok(Read::Nothing),
            Err(Errno::INVAL) => return Ok(Read::Lost),
            Err(errno) => return Err(errno),
        };
        let header = room.first_chunk().copied().unwrap_or_default();
        // A frame that reached the octet behind the room was cut there.
        buffer.set_len(if len > FRAME_MAX { 0 } else { len });
        buffer.vnet = if self.settings.vnet { VnetHdr::read(&header) } else { VnetHdr::PLAIN };
        Ok(Read::Frame)
    }

    /// A further worker's handle: with a queue of its own if there is one left and it `receives`.
    fn handle(&mut self, receives: bool) -> io::Result<Tap> {
        let queue = if receives { self.spare.pop() } else { None };
        let (fd, silence) = match queue {
            Some(queue) => {
                open::attach_queue(&queue)?;
                (queue, None)
            }
            None => (self.fd.try_clone()?, Some(eventfd(0, EventfdFlags::CLOEXEC)?)),
        };
        let (name, settings, offloads) = (self.name.clone(), self.settings, self.offloads);
        Ok(Tap {
            fd,
            spare: Vec::new(),
            silence,
            name,
            settings,
            offloads,
            gone: false,
            missed: 0,
            gathered: Box::default(),
        })
    }
}

/// One system call. The kernel takes longer to look at three parts than we to put a short frame together.
fn write_parts(fd: &OwnedFd, parts: &[IoSlice<'_>], gathered: &mut ArrayVec<u8, GATHERED_MAX>) -> Result<(), Errno> {
    gathered.clear();
    let fits = parts.iter().all(|part| gathered.try_extend_from_slice(part).is_ok());
    if fits { write(fd, gathered) } else { writev(fd, parts) }.map(|_| ())
}

impl Port for Tap {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let (mut filled, mut octets) = (0, 0);
        if self.silence.is_some() {
            return Ok(0);
        }
        if self.gone {
            return Err(Error::Gone);
        }
        // As many reads as there are buffers: a lost frame leaves one empty, and the next call finds the frames behind it.
        for _ in 0..buffers.len() {
            let Some(buffer) = buffers.get_mut(filled) else { break };
            match self.receive(buffer) {
                Ok(Read::Frame) => {
                    octets += buffer.frame().len();
                    filled += 1;
                    if octets >= BATCH_OCTETS {
                        break;
                    }
                }
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
        let (fd, vnet, gathered) = (&self.fd, self.settings.vnet, &mut self.gathered);
        let mut write = |parts: &[IoSlice<'_>]| {
            let parts = if vnet { parts } else { parts.get(1..).unwrap_or_default() };
            write_parts(fd, parts, gathered)
        };
        let plan = Plan::make(self.settings.coalesce, &self.offloads, frames);
        match plan.joins() {
            true => send::joined(frames, &plan, &self.offloads, &mut write),
            false => send::each(frames, &self.offloads, &mut write),
        }
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn missed(&mut self) -> u64 {
        self.missed
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.silence.as_ref().unwrap_or(&self.fd).as_fd())
    }

    fn receives(&self) -> bool {
        self.silence.is_none()
    }

    fn sender(&mut self) -> Result<Box<dyn Port>, Error> {
        let handle = self.handle(false);
        let system = |source| Error::System { device: self.name.clone(), call: "dup", source };
        Ok(Box::new(handle.map_err(system)?))
    }

    fn handles(&mut self, count: usize) -> Result<Vec<Box<dyn Port>>, Error> {
        let device = self.name.clone();
        let system = |source| Error::System { device: device.clone(), call: "queues of a tap", source };
        let mut handles: Vec<Box<dyn Port>> = Vec::new();
        for _ in 0..count {
            handles.push(Box::new(self.handle(true).map_err(system)?));
        }
        Ok(handles)
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
        assert!(open::check_name("fifteen-octets1").is_ok());
    }
}
