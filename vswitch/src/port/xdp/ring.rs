//! A ring that is shared with the kernel: one side writes entries, the other takes them.
//!
//! Of the four rings of a socket we write two (fill, transmit) and read two (receive, completion). Each index has one
//! writer; an entry is written before the index that gives it away is stored (release) and read after that index was loaded
//! (acquire). Indexes run freely through all 32 bits; the size is a power of two.
//!
//! The other side's index is held against the size of the ring whenever it is loaded: one that can't be is a [`Lie`], and
//! the ring is used no more. So whatever the shared page holds, we touch no octet outside it.
//!
//! Threads: one owner.

use std::io;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The other side's index can't be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lie;

/// Mapped memory, unmapped in the end.
pub struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: plain memory that belongs to the owner of the map; what the kernel does with it, it does beside any thread.
unsafe impl Send for Map {}

impl Map {
    /// New memory of ours, zero.
    ///
    /// # Errors
    /// The system has none.
    pub fn anonymous(len: usize) -> io::Result<Map> {
        Map::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Memory of `fd`, shared with the kernel.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn shared(fd: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Map> {
        Map::new(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn new(len: usize, flags: libc::c_int, fd: libc::c_int, offset: i64) -> io::Result<Map> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses touches nothing that is there.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, offset) };
        match NonNull::new(base.cast::<u8>()) {
            Some(place) if base != libc::MAP_FAILED => Ok(Map { base: place, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where it begins.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its octets.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Place of `count` values of `T` at `offset`, if they lie inside and are aligned.
    fn place<T>(&self, offset: u64, count: u32) -> io::Result<NonNull<T>> {
        let outside = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's ring layout lies outside its memory");
        let offset = usize::try_from(offset).map_err(|_| outside())?;
        let octets = size_of::<T>().checked_mul(count as usize).ok_or_else(outside)?;
        let end = offset.checked_add(octets).filter(|end| *end <= self.len).ok_or_else(outside)?;
        // SAFETY: `offset` <= `end` <= `len`: inside the mapping.
        let place = unsafe { self.base.add(offset.min(end)) };
        if place.addr().get() % align_of::<T>() == 0 { Ok(place.cast()) } else { Err(outside()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, unmapped once; nothing borrowed from it outlives its owner.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Where a ring's parts are in its memory, octets from its begin.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The writer's index.
    pub producer: u64,
    /// The reader's index.
    pub consumer: u64,
    /// Flags of the kernel.
    pub flags: u64,
    /// The first entry.
    pub entries: u64,
}

/// What both sides of a ring have in common.
struct Shared<T> {
    _map: Map,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    _entries: PhantomData<T>,
}

// SAFETY: the pointers lead into the map, which it owns; entries are plain integers.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn new(map: Map, layout: Layout, size: u32) -> io::Result<Shared<T>> {
        if !size.is_power_of_two() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the size of a ring is a power of two"));
        }
        let (producer, consumer) = (map.place(layout.producer, 1)?, map.place(layout.consumer, 1)?);
        let (flags, entries) = (map.place(layout.flags, 1)?, map.place(layout.entries, size)?);
        Ok(Shared { _map: map, producer, consumer, flags, entries, size, _entries: PhantomData })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: checked by `Map::place`; the map lives as long as `self`, and every access to it is atomic.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn wants_wakeup(&self) -> bool {
        // SAFETY: as for `producer`.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the remainder is below `size`, for which `Map::place` has checked the room.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

/// The writing side.
pub struct Writer<T> {
    shared: Shared<T>,
    /// The next entry to write.
    at: u32,
    /// The reader has taken everything before this one.
    taken: u32,
}

impl<T: Copy> Writer<T> {
    /// The side of a ring that is new.
    ///
    /// # Errors
    /// The layout is not one of this memory.
    pub fn new(map: Map, layout: Layout, size: u32) -> io::Result<Writer<T>> {
        let shared = Shared::new(map, layout, size)?;
        let at = shared.producer().load(Ordering::Relaxed);
        Ok(Writer { shared, at, taken: at })
    }

    /// Looks how far the reader is, and returns the index before which it has taken everything.
    ///
    /// # Errors
    /// The reader has taken what was never written.
    pub fn look(&mut self) -> Result<u32, Lie> {
        let taken = self.shared.consumer().load(Ordering::Acquire);
        if self.at.wrapping_sub(taken) > self.shared.size {
            return Err(Lie);
        }
        self.taken = taken;
        Ok(taken)
    }

    /// Writes an entry if, as of the last look, there is room; [`Writer::publish`] gives it away.
    pub fn put(&mut self, value: T) -> bool {
        if self.at.wrapping_sub(self.taken) >= self.shared.size {
            return false;
        }
        // SAFETY: an entry of the ring that the reader has taken and does not look at until it is published again.
        unsafe { self.shared.entry(self.at).write(value) };
        self.at = self.at.wrapping_add(1);
        true
    }

    /// Index of the next entry to write.
    pub fn at(&self) -> u32 {
        self.at
    }

    /// Gives everything that was written to the reader.
    pub fn publish(&mut self) {
        self.shared.producer().store(self.at, Ordering::Release);
    }

    /// Takes back what was written from `at` on. Only for a reader that has not looked since.
    pub fn retract(&mut self, at: u32) {
        self.at = at;
        self.publish();
    }

    /// The kernel sleeps and wants to be called.
    pub fn wants_wakeup(&self) -> bool {
        self.shared.wants_wakeup()
    }
}

/// The reading side.
pub struct Reader<T> {
    shared: Shared<T>,
    /// The next entry to read.
    at: u32,
    /// The writer has given everything before this one.
    given: u32,
}

impl<T: Copy> Reader<T> {
    /// The side of a ring that is new.
    ///
    /// # Errors
    /// The layout is not one of this memory.
    pub fn new(map: Map, layout: Layout, size: u32) -> io::Result<Reader<T>> {
        let shared = Shared::new(map, layout, size)?;
        let at = shared.consumer().load(Ordering::Relaxed);
        Ok(Reader { shared, at, given: at })
    }

    /// Looks how many entries wait.
    ///
    /// # Errors
    /// The writer has given more than the ring holds.
    pub fn look(&mut self) -> Result<u32, Lie> {
        let given = self.shared.producer().load(Ordering::Acquire);
        let waiting = given.wrapping_sub(self.at);
        if waiting > self.shared.size {
            return Err(Lie);
        }
        self.given = given;
        Ok(waiting)
    }

    /// The next entry as of the last look; [`Reader::release`] gives its place back.
    pub fn take(&mut self) -> Option<T> {
        if self.at == self.given {
            return None;
        }
        // SAFETY: an entry of the ring that the writer has given and does not touch until it is released.
        let value = unsafe { self.shared.entry(self.at).read() };
        self.at = self.at.wrapping_add(1);
        Some(value)
    }

    /// Gives the places of everything that was taken back to the writer.
    pub fn release(&mut self) {
        self.shared.consumer().store(self.at, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, entries: 192 };

    /// Both sides of one ring, as the kernel and we have it: two maps of the same memory.
    fn pair(size: u32, begin: u32) -> (Writer<u64>, Reader<u64>) {
        use std::os::fd::{AsFd, FromRawFd, OwnedFd};
        // SAFETY: a new descriptor that nobody else owns.
        let file = unsafe { OwnedFd::from_raw_fd(libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC)) };
        rustix::fs::ftruncate(&file, 4096).unwrap();
        let map = || Map::shared(file.as_fd(), 4096, 0).unwrap();
        let first: Shared<u64> = Shared::new(map(), LAYOUT, size).unwrap();
        first.producer().store(begin, Ordering::Relaxed);
        first.consumer().store(begin, Ordering::Relaxed);
        (Writer::new(map(), LAYOUT, size).unwrap(), Reader::new(map(), LAYOUT, size).unwrap())
    }

    #[test]
    fn it_is_a_queue_also_where_the_indexes_wrap() {
        for begin in [0, u32::MAX - 20] {
            let (mut writer, mut reader) = pair(8, begin);
            let mut model = VecDeque::new();
            let mut random = 1u64;
            for value in 0..2000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if random >> 63 == 0 {
                    writer.look().unwrap();
                    assert_eq!(writer.put(value), model.len() < 8);
                    writer.publish();
                    if model.len() < 8 {
                        model.push_back(value);
                    }
                } else {
                    assert_eq!(reader.look().unwrap() as usize, model.len());
                    assert_eq!(reader.take(), model.pop_front());
                    reader.release();
                }
            }
        }
    }

    #[test]
    fn what_was_not_published_or_was_retracted_is_not_there() {
        let (mut writer, mut reader) = pair(4, 0);
        let at = writer.at();
        assert!(writer.put(1) && writer.put(2));
        assert_eq!(reader.look(), Ok(0));
        writer.publish();
        assert_eq!(reader.look(), Ok(2));
        writer.retract(at);
        assert_eq!(reader.look(), Ok(0));
        assert!((0..4).all(|value| writer.put(value)) && !writer.put(9));
    }

    #[test]
    fn an_index_that_cannot_be_is_a_lie() {
        let (mut writer, mut reader) = pair(4, 100);
        for index in [105, 99, u32::MAX, 0] {
            reader.shared.producer().store(index, Ordering::Relaxed);
            assert_eq!(reader.look(), Err(Lie), "{index}");
            assert_eq!(reader.take(), None);
        }
        for index in [101, 95, u32::MAX, 0] {
            writer.shared.consumer().store(index, Ordering::Relaxed);
            assert_eq!(writer.look(), Err(Lie), "{index}");
        }
    }

    #[test]
    fn a_layout_outside_the_memory_is_refused() {
        let make = |layout, size| Writer::<u64>::new(Map::anonymous(4096).unwrap(), layout, size).map(drop);
        assert!(make(LAYOUT, 256).is_ok());
        assert!(make(LAYOUT, 512).is_err(), "the entries do not fit");
        assert!(make(LAYOUT, 3).is_err(), "not a power of two");
        assert!(make(Layout { producer: 4096, ..LAYOUT }, 4).is_err());
        assert!(make(Layout { consumer: u64::MAX, ..LAYOUT }, 4).is_err());
        assert!(make(Layout { flags: 2, ..LAYOUT }, 4).is_err(), "not aligned");
    }
}
