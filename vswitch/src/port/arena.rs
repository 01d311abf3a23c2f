//! Large memory: pages of zeros straight from the system, on huge pages where it has them; and how to ask for a line of
//! memory before it is needed.
//!
//! A flow table of a million entries is far larger than what the processor's address cache covers with 4 KiB pages, so
//! that every access to it would cost a walk through page tables as well. So [`Pages`] begin at a 2 MiB border and ask for
//! huge pages (`madvise`, which is what distributions leave them to). Without them everything works, slower. Pages that
//! nobody has touched take no memory.
//!
//! This is here, and not with the tables, because `port` is where unsafe code is allowed.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use zerocopy::FromZeros;

/// A huge page, octets.
const HUGE: usize = 2 << 20;

/// A fixed number of `T`, all zero at first.
pub struct Pages<T> {
    start: NonNull<T>,
    count: usize,
    /// What was mapped, which begins before `start` and ends behind it.
    mapping: NonNull<libc::c_void>,
    octets: usize,
}

// SAFETY: the memory is owned as by a `Box<[T]>`.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: FromZeros + Copy> Pages<T> {
    /// `count` zeros. Without the memory for them the process ends, as with any `Vec`.
    pub fn new(count: usize) -> Self {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
        let Ok(layout) = Layout::array::<T>(count.max(1)) else { handle_alloc_error(Layout::new::<T>()) };
        let slack = if layout.size() >= HUGE { HUGE } else { 0 };
        let octets = layout.size().saturating_add(slack);
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, at an address of the system's choice, touches no memory that exists.
        let mapping = unsafe { libc::mmap(std::ptr::null_mut(), octets, access, kind, -1, 0) };
        let Some(mapping) = NonNull::new(mapping).filter(|_| mapping != libc::MAP_FAILED) else {
            handle_alloc_error(layout)
        };
        let to_border = if slack == 0 { 0 } else { mapping.as_ptr().align_offset(HUGE).min(slack) };
        // SAFETY: the offset is at most `slack`, by which the mapping is longer than the array.
        let start = unsafe { mapping.byte_add(to_border) };
        if slack > 0 {
            // SAFETY: the range is within the mapping. Advice changes no contents; a system that has no huge pages refuses,
            // which changes nothing either.
            unsafe { libc::madvise(start.as_ptr(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Pages { start: start.cast(), count, mapping, octets }
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `new` mapped room for `count` of them, aligned to a page at least, filled with zeros, which are valid
        // for `T: FromZeros`; the borrow of `self` guards it as that of a `Box` would.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> DerefMut for Pages<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `new` made, and nothing borrows from it any more. `T: Copy` has no destructor.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.octets) };
    }
}

/// Asks for the cache line in which `place` begins; a hint.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see and never faults; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(place);
}

/// Asks for the cache line `lines` of 64 octets behind the one in which `place` begins, to be written; a hint. Nothing need be there.
#[inline(always)]
pub fn prefetch_to_write<T>(place: &T, lines: usize) {
    let place = std::ptr::from_ref(place).cast::<u8>().wrapping_add(lines * 64);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch changes nothing that the program can see, and never faults. Processors that don't know this one
    // take it for no operation.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) place, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    std::hint::black_box(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_hold_what_is_written_and_begin_at_a_border() {
        for count in [0, 1, 1000, 3 * HUGE / 8 + 5] {
            let mut pages = Pages::<u64>::new(count);
            assert_eq!(pages.len(), count);
            assert!(pages.iter().all(|word| *word == 0));
            pages.iter_mut().zip(1..).for_each(|(word, n)| *word = n);
            assert!(pages.iter().zip(1..).all(|(word, n)| *word == n));
            if count * 8 >= HUGE {
                assert_eq!(pages.as_ptr().align_offset(HUGE), 0);
            }
            pages.first().into_iter().for_each(prefetch);
            pages.first().into_iter().for_each(|place| prefetch_to_write(place, 64));
        }
    }

    #[test]
    fn a_table_may_move_to_another_thread() {
        let mut pages = Pages::<u32>::new(8);
        let sum = std::thread::spawn(move || {
            pages.fill(3);
            pages.iter().sum::<u32>()
        });
        assert_eq!(sum.join().unwrap(), 24);
    }
}
