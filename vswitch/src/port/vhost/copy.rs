//! Copies between guest memory and ours.
//!
//! The guest may write to its memory at any time, so it never becomes a slice or a reference: it is read and written here
//! and in `ring`, through raw pointers. What is read is whatever was there at some moment, octet by octet; nobody looks at
//! the source twice to decide anything, and [`fence`] keeps the compiler from doing so behind our back.
//!
//! Small copies are done in line with moves of fixed size that overlap in the middle: they touch exactly the octets that
//! they are told to, on both sides, because behind a frame in our memory there may be what is left of another guest's.

use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

/// Copies of up to so many octets are done in line.
const INLINE_MAX: usize = 256;

/// What was copied before is not read from guest memory again.
#[inline(always)]
pub(super) fn fence() {
    compiler_fence(Ordering::SeqCst);
}

/// Moves one block of `N` octets.
///
/// # Safety
/// As [`copy`] with `len` = `N`.
#[inline(always)]
unsafe fn block<const N: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { to.cast::<[u8; N]>().write_unaligned(from.cast::<[u8; N]>().read_unaligned()) }
}

/// Moves `N..=2 * N` octets as two blocks that may overlap.
///
/// # Safety
/// As [`copy`], and `len` is at least `N`.
#[inline(always)]
unsafe fn two<const N: usize>(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: both blocks lie within `len` octets, because `len >= N`.
    unsafe {
        block::<N>(from, to);
        block::<N>(from.add(len - N), to.add(len - N));
    }
}

/// Copies `len` octets.
///
/// # Safety
/// `from` can be read and `to` written for `len` octets, and they do not overlap. One of them may be guest memory, which
/// changes under the copy.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; each arm stays within `len` octets.
    unsafe {
        match len {
            64..=INLINE_MAX => {
                let mut at = 0;
                while at + 64 <= len {
                    block::<64>(from.add(at), to.add(at));
                    at += 64;
                }
                block::<64>(from.add(len - 64), to.add(len - 64));
            }
            32..64 => two::<32>(from, to, len),
            16..32 => two::<16>(from, to, len),
            8..16 => two::<8>(from, to, len),
            4..8 => two::<4>(from, to, len),
            1..4 => {
                block::<1>(from, to);
                block::<1>(from.add(len / 2), to.add(len / 2));
                block::<1>(from.add(len - 1), to.add(len - 1));
            }
            0 => {}
            _ => ptr::copy_nonoverlapping(from, to, len),
        }
    }
}

/// Fetches the line at `at` into the cache; any address will do.
#[inline(always)]
pub(super) fn prefetch(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of an address that is not mapped does nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Fetches the line at `at` into the cache as one that will be written, so that no other core has it then; any address
/// will do.
#[inline(always)]
pub(super) fn prefetch_to_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of an address that is not mapped does nothing, and processors that do not know this one do
    // nothing at all.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_octets_that_were_asked_for_are_copied() {
        let from: Vec<u8> = (0..600u32).map(|at| at as u8 | 1).collect();
        for len in (0..400).chain([599, 600]) {
            for skew in [0, 1, 7] {
                let mut to = vec![0u8; 616];
                let len = len.min(600 - skew);
                // SAFETY: both vectors have `skew + len` octets and more.
                unsafe { copy(from.as_ptr().add(skew), to.as_mut_ptr().add(8), len) };
                assert_eq!(to[8..8 + len], from[skew..skew + len]);
                assert!(to[..8].iter().chain(&to[8 + len..]).all(|&octet| octet == 0), "{len}");
            }
        }
    }
}
