//! A guest and its front end in one: it speaks vhost-user over a socket and drives the rings in a memfd. It can be as well behaved
//! or as evil as a test wants, because every message and every field of a ring can be written on its own.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Where the guest sees its memory, and where its front end claims to.
pub const GUEST: u64 = 0x4000_0000;
pub const USER: u64 = 0x7f12_0000_0000;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// Octets of memory for each queue, and where in them is what.
pub const SPAN: usize = 1 << 20;
const AVAILABLE: usize = 0x8000;
const USED: usize = 0xc000;
pub const TABLES: usize = 0x2_0000;
pub const BUFFERS: usize = 0x4_0000;
pub const BUFFER: usize = 2048;

pub mod message {
    pub const GET_FEATURES: u32 = 1;
    pub const SET_FEATURES: u32 = 2;
    pub const SET_OWNER: u32 = 3;
    pub const RESET_OWNER: u32 = 4;
    pub const SET_MEM_TABLE: u32 = 5;
    pub const SET_LOG_BASE: u32 = 6;
    pub const SET_VRING_NUM: u32 = 8;
    pub const SET_VRING_ADDR: u32 = 9;
    pub const SET_VRING_BASE: u32 = 10;
    pub const GET_VRING_BASE: u32 = 11;
    pub const SET_VRING_KICK: u32 = 12;
    pub const SET_VRING_CALL: u32 = 13;
    pub const SET_VRING_ERR: u32 = 14;
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    pub const GET_QUEUE_NUM: u32 = 17;
    pub const SET_VRING_ENABLE: u32 = 18;
    pub const ADD_MEM_REG: u32 = 37;
    pub const REM_MEM_REG: u32 = 38;
}
use message::*;

const NEED_REPLY: u32 = 8;

/// Waits for `ready`, at most five seconds.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = ready() {
            return result;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "waited in vain for: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Memory that a guest shares.
pub struct Ram {
    pub file: OwnedFd,
    map: *mut u8,
    len: usize,
}

// SAFETY: the memory belongs to no thread.
unsafe impl Send for Ram {}
// SAFETY: as above; what is in it is the tests' concern.
unsafe impl Sync for Ram {}

impl Ram {
    pub fn new(len: usize) -> Ram {
        let file = memfd_create("guest", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, len as u64).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, where the system likes.
        let map = unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, &file, 0) }.unwrap();
        Ram { file, map: map.cast(), len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn octet(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.len);
        // SAFETY: within the mapping, as just checked.
        unsafe { AtomicU8::from_ptr(self.map.add(at)) }
    }

    pub fn word(&self, at: usize) -> &AtomicU16 {
        assert!(at + 2 <= self.len && at.is_multiple_of(2));
        // SAFETY: within the mapping, as just checked.
        unsafe { AtomicU16::from_ptr(self.map.add(at).cast()) }
    }

    pub fn write(&self, at: usize, octets: &[u8]) {
        assert!(at + octets.len() <= self.len);
        // SAFETY: within the mapping, as just checked.
        unsafe { std::ptr::copy_nonoverlapping(octets.as_ptr(), self.map.add(at), octets.len()) };
    }

    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at + len <= self.len);
        let mut octets = vec![0; len];
        // SAFETY: within the mapping, as just checked.
        unsafe { std::ptr::copy_nonoverlapping(self.map.add(at), octets.as_mut_ptr(), len) };
        octets
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours.
        let _ = unsafe { munmap(self.map.cast(), self.len) };
    }
}

pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// How often an eventfd was written since this was last asked.
pub fn rings(event: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    rustix::io::read(event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
}

/// The front end's side of the socket.
pub struct Wire(pub UnixStream);

impl Wire {
    pub fn connect(path: &Path) -> Wire {
        Wire::of(until("a socket to connect to", || UnixStream::connect(path).ok()))
    }

    pub fn of(socket: UnixStream) -> Wire {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Wire(socket)
    }

    /// Octets with descriptors; false when nobody listens any more.
    pub fn send_raw(&self, octets: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(&self.0, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL).is_ok()
    }

    pub fn send(&self, code: u32, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let head = [code, 1 | flags, body.len() as u32].map(u32::to_le_bytes).concat();
        self.send_raw(&[head, body.to_vec()].concat(), fds)
    }

    /// The body of the next answer; `None` when the connection is closed instead.
    pub fn answer(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 12];
        self.0.read_exact(&mut head).ok()?;
        let mut body = vec![0; u32::from_le_bytes(head[8..].try_into().unwrap()) as usize];
        self.0.read_exact(&mut body).ok()?;
        Some(body)
    }

    pub fn ask(&mut self, code: u32, body: &[u8]) -> Option<u64> {
        self.send(code, 0, body, &[]);
        self.answer().map(|body| u64::from_le_bytes(body[..8].try_into().unwrap()))
    }

    /// A request that is acknowledged: whether it was accepted, or `None` when the connection is closed.
    pub fn order(&mut self, code: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Option<bool> {
        self.send(code, NEED_REPLY, body, fds);
        self.answer().map(|body| body == [0; 8])
    }

    pub fn accepted(&mut self, code: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        assert_eq!(self.order(code, body, fds), Some(true), "request {code}");
    }

    /// The connection ends, whatever was said about it before.
    pub fn is_closed(&mut self) -> bool {
        let mut octets = [0; 256];
        loop {
            match self.0.read(&mut octets) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    pub fn hello(&mut self, features: u64) {
        self.send(SET_OWNER, 0, &[], &[]);
        let offered = self.ask(GET_FEATURES, &[]).unwrap();
        assert_eq!(features & !offered, 0, "{features:#x} of {offered:#x}");
        let protocol = self.ask(GET_PROTOCOL_FEATURES, &[]).unwrap();
        self.send(SET_PROTOCOL_FEATURES, 0, &protocol.to_le_bytes(), &[]);
        // Only with this feature there are acknowledgements.
        self.send(SET_FEATURES, 0, &(features | 1 << 30).to_le_bytes(), &[]);
    }
}

pub fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn state(index: u32, num: u32) -> Vec<u8> {
    [index.to_le_bytes(), num.to_le_bytes()].concat()
}

/// The body of SET_MEM_TABLE; regions are (guest, size, user, offset).
pub fn table(regions: &[[u64; 4]]) -> Vec<u8> {
    [u64s(&[regions.len() as u64]), u64s(regions.as_flattened())].concat()
}

pub fn ring_address(index: u32, base: usize) -> Vec<u8> {
    let user = USER + base as u64;
    let (descriptors, used, available) = (user, user + USED as u64, user + AVAILABLE as u64);
    [state(index, 0), u64s(&[descriptors, used, available, 0])].concat()
}

/// A queue as the guest has it.
pub struct Queue {
    pub size: u16,
    /// Where in memory it begins.
    pub base: usize,
    /// The guest's indices.
    pub next: u16,
    pub seen: u16,
    /// Frames sent whose buffers have not come back.
    pub flying: u16,
    pub kick: OwnedFd,
    pub call: OwnedFd,
}

impl Queue {
    pub fn new(index: u32, size: u16) -> Queue {
        let base = index as usize * SPAN;
        Queue { size, base, next: 0, seen: 0, flying: 0, kick: event(), call: event() }
    }

    pub fn buffer(&self, at: u16) -> usize {
        self.base + BUFFERS + usize::from(at) * BUFFER
    }

    pub fn describe(&self, ram: &Ram, at: u16, address: u64, len: u32, flags: u16, next: u16) {
        ram.write(self.base + 16 * usize::from(at), &descriptor(address, len, flags, next));
    }

    /// Makes a chain available.
    pub fn offer(&mut self, ram: &Ram, head: u16) {
        let slot = usize::from(self.next % self.size);
        ram.word(self.base + AVAILABLE + 4 + 2 * slot).store(head, Ordering::Relaxed);
        self.next = self.next.wrapping_add(1);
        self.publish(ram, self.next);
    }

    pub fn publish(&self, ram: &Ram, index: u16) {
        ram.word(self.base + AVAILABLE + 2).store(index, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The next chain that came back, and how much was written to it.
    pub fn returned(&mut self, ram: &Ram) -> Option<(u16, u32)> {
        if ram.word(self.base + USED + 2).load(Ordering::Acquire) == self.seen {
            return None;
        }
        let entry = ram.read(self.base + USED + 4 + 8 * usize::from(self.seen % self.size), 8);
        self.seen = self.seen.wrapping_add(1);
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        Some((word(0) as u16, word(4)))
    }

    pub fn used_index(&self, ram: &Ram) -> u16 {
        ram.word(self.base + USED + 2).load(Ordering::Acquire)
    }

    pub fn used_flags(&self, ram: &Ram) -> u16 {
        ram.word(self.base + USED).load(Ordering::Acquire)
    }

    pub fn available_event(&self, ram: &Ram) -> u16 {
        ram.word(self.base + USED + 4 + 8 * usize::from(self.size)).load(Ordering::Acquire)
    }

    pub fn set_flags(&self, ram: &Ram, flags: u16) {
        ram.word(self.base + AVAILABLE).store(flags, Ordering::Release);
    }

    pub fn set_used_event(&self, ram: &Ram, event: u16) {
        ram.word(self.base + AVAILABLE + 4 + 2 * usize::from(self.size)).store(event, Ordering::Release);
    }

    pub fn kick(&self) {
        let _ = rustix::io::write(&self.kick, &1u64.to_ne_bytes());
    }
}

pub fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&address.to_le_bytes());
    octets[8..12].copy_from_slice(&len.to_le_bytes());
    octets[12..14].copy_from_slice(&flags.to_le_bytes());
    octets[14..].copy_from_slice(&next.to_le_bytes());
    octets
}

pub struct Guest {
    pub ram: Arc<Ram>,
    pub wire: Wire,
    /// Receive queues are the even ones.
    pub queues: Vec<Queue>,
    pub features: u64,
}

impl Guest {
    /// Connects to a listening port and sets up `pairs` queue pairs of `size` entries, buffers to receive included.
    pub fn connect(path: &Path, features: u64, pairs: u32, size: u16) -> Guest {
        Guest::over(Wire::connect(path), features, pairs, size)
    }

    pub fn over(wire: Wire, features: u64, pairs: u32, size: u16) -> Guest {
        let mut guest = Guest::stopped(wire, features, pairs, size);
        for index in 0..2 * pairs {
            guest.start(index);
        }
        for index in (0..2 * pairs).step_by(2) {
            for at in 0..size {
                guest.post(index, at);
            }
        }
        guest
    }

    /// With memory and features negotiated, and no ring.
    pub fn stopped(mut wire: Wire, features: u64, pairs: u32, size: u16) -> Guest {
        wire.hello(features);
        let ram = Arc::new(Ram::new(2 * pairs as usize * SPAN));
        let region = table(&[[GUEST, ram.len() as u64, USER, 0]]);
        wire.accepted(SET_MEM_TABLE, &region, &[ram.file.as_fd()]);
        let queues = (0..2 * pairs).map(|index| Queue::new(index, size)).collect();
        Guest { ram, wire, queues, features }
    }

    /// Gives a ring to the back end, from the guest's indices on.
    pub fn start(&mut self, index: u32) {
        let queue = &mut self.queues[index as usize];
        self.wire.accepted(SET_VRING_NUM, &state(index, queue.size.into()), &[]);
        self.wire.accepted(SET_VRING_BASE, &state(index, queue.next.into()), &[]);
        self.wire.accepted(SET_VRING_ADDR, &ring_address(index, queue.base), &[]);
        self.wire.accepted(SET_VRING_KICK, &u64s(&[index.into()]), &[queue.kick.as_fd()]);
        self.wire.accepted(SET_VRING_CALL, &u64s(&[index.into()]), &[queue.call.as_fd()]);
        self.wire.accepted(SET_VRING_ENABLE, &state(index, 1), &[]);
    }

    /// Takes a ring back; returns where the back end was.
    pub fn stop(&mut self, index: u32) -> u16 {
        self.wire.send(GET_VRING_BASE, 0, &state(index, 0), &[]);
        let body = self.wire.answer().unwrap();
        u32::from_le_bytes(body[4..8].try_into().unwrap()) as u16
    }

    pub fn header(&self) -> usize {
        if self.features & (1 << 32 | 1 << 15) != 0 { 12 } else { 10 }
    }

    /// Gives buffer `at` of a receive queue to the back end.
    pub fn post(&mut self, index: u32, at: u16) {
        let queue = &mut self.queues[index as usize];
        let address = GUEST + queue.buffer(at) as u64;
        queue.describe(&self.ram, at, address, BUFFER as u32, WRITE, 0);
        queue.offer(&self.ram, at);
    }

    /// Sends octets (virtio header and all) in one descriptor; false when all are in flight.
    pub fn send_octets(&mut self, index: u32, octets: &[u8]) -> bool {
        let queue = &mut self.queues[index as usize];
        while queue.returned(&self.ram).is_some() {
            queue.flying -= 1;
        }
        if queue.flying == queue.size {
            return false;
        }
        let at = queue.next % queue.size;
        let place = queue.buffer(at);
        self.ram.write(place, octets);
        queue.describe(&self.ram, at, GUEST + place as u64, octets.len() as u32, 0, 0);
        queue.flying += 1;
        queue.offer(&self.ram, at);
        true
    }

    pub fn send(&mut self, frame: &[u8]) -> bool {
        let octets = [&vec![0; self.header()][..], frame].concat();
        self.send_octets(1, &octets)
    }

    /// The next frame that was received in queue `index`: virtio header and frame. Its buffers are given again.
    pub fn receive_in(&mut self, index: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let header = self.header();
        let (first, len) = self.queues[index as usize].returned(&self.ram)?;
        let place = self.queues[index as usize].buffer(first);
        let mut octets = self.ram.read(place, len as usize);
        self.post(index, first);
        if self.features & 1 << 15 != 0 && octets.len() >= 12 {
            for _ in 1..u16::from_le_bytes([octets[10], octets[11]]) {
                let (head, len) = self.queues[index as usize].returned(&self.ram).expect("the rest of the frame");
                let place = self.queues[index as usize].buffer(head);
                octets.extend(self.ram.read(place, len as usize));
                self.post(index, head);
            }
        }
        let frame = octets.split_off(header.min(octets.len()));
        Some((octets, frame))
    }

    pub fn receive(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.receive_in(0)
    }
}
