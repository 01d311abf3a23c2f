//! One queue of a device: a socket, its memory and its rings.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use arrayvec::ArrayVec;

use super::ring::Lie;
use super::socket::{Rings, Socket};
use super::umem::Umem;
use crate::frame::vnet::VnetHdr;
use crate::frame::{BATCH, Buffer, FRAME_MAX, TxFrame};
use crate::offload;
use crate::port::Sent;
use crate::wire::ethernet::{ADDRESSES, TAG, TPID_C};

/// Shortest frame: two addresses and a type.
const HEADER: usize = 14;

/// The socket of one queue.
pub struct Queue {
    socket: Socket,
    rings: Rings,
    umem: Umem,
    number: u32,
    /// The kernel sends and receives without copies, by itself.
    zero_copy: bool,
    /// Largest packet of the device.
    mtu: usize,
    /// The kernel has sent or dropped everything before this index of the transmit ring.
    passed: u32,
    /// Descriptors that made no sense.
    senseless: u64,
    down: bool,
}

/// The queue can't be used any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

impl From<Lie> for Gone {
    fn from(_: Lie) -> Gone {
        Gone
    }
}

/// What a call to the kernel has come to.
enum Kick {
    /// Everything was sent, or the kernel goes on by itself.
    Done,
    /// Try again.
    Again,
    /// The frame before this index was dropped by the device.
    Dropped(u32),
    /// The device has no room.
    Full,
    Down,
    Gone,
}

impl Queue {
    /// The socket of queue `number` of the device with that index and MTU.
    ///
    /// # Errors
    /// The name of the call that failed, and why.
    pub fn open(device: u32, number: u32, mtu: usize, zero_copy: bool) -> Result<Queue, (&'static str, io::Error)> {
        let umem = Umem::new(mtu + HEADER + 2 * TAG).map_err(|error| ("memory for frames", error))?;
        let (socket, mut rings) = Socket::open(&umem, crate::port::netdev::MARK)?;
        socket.bind(device, number, zero_copy).map_err(|error| ("bind(AF_XDP)", error))?;
        umem.receive_slots().for_each(|slot| {
            rings.fill.put(slot);
        });
        rings.fill.publish();
        let passed = rings.tx.at();
        Ok(Queue { socket, rings, umem, number, zero_copy, mtu, passed, senseless: 0, down: false })
    }

    /// Copies frames that wait into buffers.
    ///
    /// # Errors
    /// The ring is not to be trusted.
    pub fn receive(&mut self, buffers: &mut [Buffer]) -> Result<usize, Gone> {
        if self.rings.rx.look()? == 0 {
            // A driver that ran out of slots waits to be told that there are some again.
            if self.zero_copy && self.rings.fill.wants_wakeup() {
                self.socket.wake_receiver();
            }
            return Ok(0);
        }
        self.rings.fill.look()?;
        let mut filled = 0;
        while let Some(buffer) = buffers.get_mut(filled) {
            let Some(descriptor) = self.rings.rx.take() else { break };
            let len = descriptor.len as usize;
            if self.umem.read(descriptor.addr, len, buffer.room()) {
                buffer.set_len(len.min(FRAME_MAX));
                buffer.vnet = match self.zero_copy {
                    true => VnetHdr::PLAIN,
                    false => offload::detect_unfinished(buffer.frame()),
                };
                filled += 1;
            } else {
                self.senseless += 1;
            }
            if let Some(slot) = self.umem.receive_slot(descriptor.addr) {
                self.rings.fill.put(slot);
            }
        }
        self.rings.rx.release();
        self.rings.fill.publish();
        if self.rings.fill.wants_wakeup() {
            self.socket.wake_receiver();
        }
        Ok(filled)
    }

    /// Frames wait.
    pub fn has_frames(&mut self) -> bool {
        self.rings.rx.look() != Ok(0)
    }

    /// Sends frames. What the ring has room for counts as accepted, whether or not the device takes it at once.
    ///
    /// # Errors
    /// The queue can't be used any more; the frames are lost.
    pub fn send(&mut self, frames: &[TxFrame<'_>]) -> Result<Sent, Gone> {
        self.reclaim()?;
        let mut sent = Sent::default();
        // A device that is down takes nothing; asking costs nothing that matters then.
        if self.down {
            match self.kick(true) {
                Kick::Gone => return Err(Gone),
                Kick::Down => {
                    frames.iter().for_each(|_| sent.refuse());
                    return Ok(sent);
                }
                _ => self.down = false,
            }
        }
        let begin = self.rings.tx.at();
        // Which frames are in the ring, and in which slots.
        let mut placed: ArrayVec<(usize, u64), BATCH> = ArrayVec::new();
        self.rings.tx.look()?;
        for (index, frame) in frames.iter().take(BATCH).enumerate() {
            if !self.takes(frame) {
                sent.refuse();
                continue;
            }
            let Some(address) = self.umem.write(frame.head, frame.rest) else { break };
            if !self.rings.tx.put(libc::xdp_desc { addr: address, len: frame.len() as u32, options: 0 }) {
                self.umem.free(address);
                break;
            }
            placed.push((index, address));
            sent.accepted += 1;
        }
        if placed.is_empty() {
            return Ok(sent);
        }
        self.rings.tx.publish();
        // Every call ends with progress or ends the loop.
        for attempt in 0..=BATCH {
            match self.kick(false) {
                Kick::Again => {}
                Kick::Dropped(before) => {
                    let at = before.wrapping_sub(1).wrapping_sub(begin) as usize;
                    if let Some((index, _)) = placed.get(at) {
                        sent.accepted -= 1;
                        sent.refused += 1;
                        sent.refused_set |= 1 << index;
                    }
                }
                Kick::Down => {
                    self.down = true;
                    // The kernel has not looked at the ring: what is in it must not go out when the device is up again.
                    if attempt == 0 && !self.zero_copy {
                        self.rings.tx.retract(begin);
                        placed.iter().for_each(|(_, address)| self.umem.free(*address));
                        sent = Sent::default();
                        frames.iter().for_each(|_| sent.refuse());
                    }
                    break;
                }
                Kick::Gone => return Err(Gone),
                Kick::Done | Kick::Full => break,
            }
        }
        Ok(sent)
    }

    /// Has the kernel go on with what it had no room for.
    pub fn push(&mut self) {
        if !self.zero_copy && self.passed != self.rings.tx.at() {
            self.kick(true);
        }
    }

    /// Frames that the kernel dropped on their way in, and what it said that made no sense.
    pub fn missed(&self) -> u64 {
        self.socket.dropped() + self.senseless
    }

    /// The device was removed.
    pub fn is_gone(&self) -> bool {
        self.socket.take_error().is_some_and(|error| error.raw_os_error() != Some(libc::ENOBUFS))
    }

    /// Its number on the device.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The frame is one that the device may be given: AF_XDP asks nobody whether it fits. One 802.1Q tag may exceed the MTU.
    fn takes(&self, frame: &TxFrame<'_>) -> bool {
        let octet = |at: usize| match frame.head.get(at) {
            Some(octet) => Some(*octet),
            None => frame.rest.get(at - frame.head.len()).copied(),
        };
        let tagged = (octet(ADDRESSES), octet(ADDRESSES + 1)) == {
            let [first, second] = TPID_C.to_be_bytes();
            (Some(first), Some(second))
        };
        let longest = self.mtu + HEADER + if tagged { TAG } else { 0 };
        let plain = !frame.vnet.is_gso() && !frame.vnet.needs_csum();
        plain && (HEADER..=longest.min(self.umem.longest())).contains(&frame.len())
    }

    /// Takes slots back whose frames were sent.
    fn reclaim(&mut self) -> Result<(), Gone> {
        if self.rings.completion.look()? > 0 {
            while let Some(address) = self.rings.completion.take() {
                self.umem.free(address);
            }
            self.rings.completion.release();
        }
        Ok(())
    }

    fn kick(&mut self, always: bool) -> Kick {
        if self.zero_copy && !always && !self.rings.tx.wants_wakeup() {
            return Kick::Done;
        }
        let result = self.socket.send();
        let Ok(taken) = self.rings.tx.look() else { return Kick::Gone };
        // What was dropped first in a call is told in `taken` only by the next one.
        let advanced = (taken.wrapping_sub(self.passed) as i32) > 0;
        let progress = if advanced { Some(taken) } else { None };
        let code = match result {
            Ok(()) => None,
            Err(error) => error.raw_os_error(),
        };
        if code == Some(libc::EBUSY) && !self.zero_copy {
            self.passed = progress.unwrap_or(self.passed.wrapping_add(1));
            return Kick::Dropped(self.passed);
        }
        self.passed = progress.unwrap_or(self.passed);
        match code {
            None if self.zero_copy || self.passed == self.rings.tx.at() => Kick::Done,
            Some(libc::EINTR) => Kick::Again,
            None | Some(libc::EAGAIN) if progress.is_some() => Kick::Again,
            None | Some(libc::EAGAIN | libc::ENOBUFS | libc::EBUSY | libc::ENOMEM) => Kick::Full,
            Some(libc::ENETDOWN) => Kick::Down,
            Some(_) => Kick::Gone,
        }
    }
}
