//! What the lock is made of, under names that a model checker can take over: the test `vhost_lock` compiles
//! [`super::lock`] against loom's.

pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicBool, Ordering};
pub(super) use std::thread::yield_now;

/// An `UnsafeCell` with loom's interface.
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Hands a pointer to the value to `f`, which may use it if nobody else does at the time.
    #[inline(always)]
    pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
