//! The hand-over of a ring between the worker and the negotiation: a lock that the worker only ever tries.
//!
//! The worker takes it once per batch with one compare-and-swap and gives it back with one store. When it finds the lock
//! taken, the ring is being changed or another worker sends to it, and the worker has other things to do. The negotiation
//! waits, for no longer than a batch takes.

use super::sync::{AtomicBool, Ordering, UnsafeCell, spin_loop};

/// A value with one user at a time; see the module.
pub(super) struct TryLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only between a successful `take` and the store that ends it, by one thread at a time, and
// moves between threads with acquire and release.
unsafe impl<T: Send> Sync for TryLock<T> {}

/// Ends the use, also when the user panics.
struct Release<'a>(&'a AtomicBool);

impl Drop for Release<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> TryLock<T> {
    /// A free lock around `value`.
    pub(super) fn new(value: T) -> Self {
        TryLock { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline(always)]
    fn take(&self) -> Option<Release<'_>> {
        let swap = self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        swap.is_ok().then(|| Release(&self.taken))
    }

    #[inline(always)]
    fn use_taken<R>(&self, _until: Release<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: whoever has the `Release` is alone with the value until it is dropped.
        self.value.with_mut(|value| f(unsafe { &mut *value }))
    }

    /// Uses the value, unless somebody else does.
    #[inline(always)]
    pub(super) fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        Some(self.use_taken(self.take()?, f))
    }

    /// As [`TryLock::try_with`], but looks up to `tries` times whether the other is through.
    #[inline(always)]
    pub(super) fn spin_with<R>(&self, tries: u32, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        for _ in 0..tries {
            if !self.taken.load(Ordering::Relaxed) {
                break;
            }
            spin_loop();
        }
        self.try_with(f)
    }

    /// Uses the value as soon as nobody else does; until then it calls `wait`. For those who may wait.
    pub(super) fn with<R>(&self, mut wait: impl FnMut(), f: impl FnOnce(&mut T) -> R) -> R {
        loop {
            match self.take() {
                Some(until) => return self.use_taken(until, f),
                None => wait(),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_value_has_one_user_and_is_free_again_whatever_the_user_does() {
        let lock = TryLock::new(1);
        let inner = lock.with(
            || (),
            |value| {
                *value += 1;
                (lock.try_with(|_| ()), lock.spin_with(10, |_| ()))
            },
        );
        assert_eq!(inner, (None, None));
        let panicking =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lock.try_with(|_| panic!("of the user"))));
        assert!(panicking.is_err());
        assert_eq!(lock.spin_with(0, |value| *value), Some(2));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// What a slot holds: a ring, as far as this matters: one number that two must never write at a time.
    fn use_it(value: &mut Option<u32>) {
        if let Some(count) = value {
            *count += 1;
        }
    }

    #[test]
    fn two_workers_and_the_negotiation_never_meet() {
        loom::model(|| {
            let slot = Arc::new(TryLock::new(Some(0)));
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    let slot = Arc::clone(&slot);
                    thread::spawn(move || slot.try_with(use_it).is_some() as u32)
                })
                .collect();
            // The negotiation takes the ring out; nobody uses it after that, and no use is lost.
            let taken = slot.with(thread::yield_now, Option::take);
            let used: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
            assert!(taken.is_some_and(|count| count <= used));
            assert_eq!(slot.try_with(|value| value.is_none()), Some(true));
        });
    }

    #[test]
    fn what_the_negotiation_puts_in_is_seen_whole_by_the_worker() {
        loom::model(|| {
            let slot = Arc::new(TryLock::new(None::<[u32; 2]>));
            let other = Arc::clone(&slot);
            let negotiation = thread::spawn(move || {
                other.with(thread::yield_now, |value| *value = Some([1, 1]));
                other.with(thread::yield_now, |value| *value = Some([2, 2]));
            });
            if let Some(Some([a, b])) = slot.try_with(|value| *value) {
                assert_eq!(a, b);
            }
            negotiation.join().unwrap();
            assert_eq!(slot.try_with(|value| *value), Some(Some([2, 2])));
        });
    }
}
