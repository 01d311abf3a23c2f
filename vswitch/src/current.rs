//! The value that all workers run on, and its replacement: whole or not at all.
//!
//! A worker looks at a version number once per turn, which costs a load from a line that nobody writes meanwhile. Only when
//! the number has moved does it take a lock, and only if that is free; else it goes on with what it has and looks again
//! at the next turn. So no worker ever waits for the one who publishes. Who must not fall behind a worker, as the mirror must
//! not, waits for the lock instead ([`Current::newest`]), which nobody holds for longer than it takes to copy a pointer.
//!
//! Threads: any may read, one at a time publishes. The value that was replaced is handed to whoever replaced it, so that it
//! is freed there unless a worker still runs on it.

use std::sync::Arc;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// A value and how often it was replaced.
pub(crate) struct Current<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Current<T> {
    /// With its first value, version 0.
    pub(crate) fn new(value: T) -> Self {
        Current { version: AtomicU64::new(0), value: Mutex::new(Arc::new(value)) }
    }

    /// Replaces the value; the version that it has now, and the value before.
    pub(crate) fn store(&self, value: Arc<T>) -> (u64, Arc<T>) {
        let mut held = match self.value.lock() {
            Ok(held) => held,
            Err(poisoned) => poisoned.into_inner(),
        };
        let version = self.version.load(Ordering::Relaxed) + 1;
        let before = std::mem::replace(&mut *held, value);
        self.version.store(version, Ordering::Release);
        (version, before)
    }

    /// The value.
    pub(crate) fn load(&self) -> Arc<T> {
        match self.value.lock() {
            Ok(held) => Arc::clone(&held),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// The value, if it is not of version `seen` any more, and nobody is at it; `seen` is its version then.
    #[inline]
    pub(crate) fn newer(&self, seen: &mut u64) -> Option<Arc<T>> {
        match self.version.load(Ordering::Acquire) == *seen {
            true => None,
            false => self.take_newer(seen),
        }
    }

    /// As [`Current::newer`], but waits for whoever is at it: `None` says that `seen` is the last version.
    pub(crate) fn newest(&self, seen: &mut u64) -> Option<Arc<T>> {
        if self.version.load(Ordering::Acquire) == *seen {
            return None;
        }
        let held = match self.value.lock() {
            Ok(held) => held,
            Err(poisoned) => poisoned.into_inner(),
        };
        *seen = self.version.load(Ordering::Relaxed);
        Some(Arc::clone(&held))
    }

    #[cold]
    fn take_newer(&self, seen: &mut u64) -> Option<Arc<T>> {
        let held = self.value.try_lock().ok()?;
        *seen = self.version.load(Ordering::Relaxed);
        Some(Arc::clone(&held))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_taken_once_and_the_value_before_comes_back() {
        let current = Current::new("a");
        let mut seen = 0;
        assert_eq!(current.newer(&mut seen), None);
        assert_eq!(current.store(Arc::new("b")), (1, Arc::new("a")));
        assert_eq!(current.store(Arc::new("c")), (2, Arc::new("b")));
        assert_eq!((current.newer(&mut seen), seen), (Some(Arc::new("c")), 2));
        assert_eq!(current.newer(&mut seen), None);
        assert_eq!(*current.load(), "c");
    }

    #[test]
    fn who_finds_it_taken_goes_on_and_gets_it_later() {
        let current = Current::new(0);
        current.store(Arc::new(1));
        let mut seen = 0;
        let held = current.value.lock().unwrap();
        assert_eq!((current.newer(&mut seen), seen), (None, 0));
        drop(held);
        assert_eq!((current.newer(&mut seen), seen), (Some(Arc::new(1)), 1));
    }

    #[test]
    fn who_must_not_fall_behind_waits_for_it() {
        let current = Current::new(0);
        current.store(Arc::new(1));
        let held = current.value.lock().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut seen = 0;
                (current.newest(&mut seen), seen, current.newest(&mut seen))
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(held);
            assert_eq!(waiting.join().unwrap(), (Some(Arc::new(1)), 1, None));
        });
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::atomic::{AtomicU64 as Cell, Ordering::Relaxed};
    use loom::thread;

    use super::*;

    /// Two halves that only the same version has in common.
    struct Halves(Cell, Cell);

    /// A worker that says what it runs on: never half of a version, never an older one, and the last one in the end.
    #[test]
    fn loom_a_published_value_is_whole_and_is_adopted() {
        loom::model(|| {
            let current = Arc::new(Current::new(Halves(Cell::new(0), Cell::new(0))));
            let workers: Vec<_> = (0..2)
                .map(|_| {
                    let current = Arc::clone(&current);
                    thread::spawn(move || {
                        let (mut seen, mut before) = (0, 0);
                        for _ in 0..2 {
                            if let Some(value) = current.newer(&mut seen) {
                                let halves = (value.0.load(Relaxed), value.1.load(Relaxed));
                                assert_eq!(halves, (seen, seen));
                                assert!(seen > before);
                                before = seen;
                            }
                        }
                    })
                })
                .collect();
            for n in 1..3 {
                let (version, before) = current.store(Arc::new(Halves(Cell::new(n), Cell::new(n))));
                assert_eq!((version, before.0.load(Relaxed)), (n, n - 1));
            }
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            let mut seen = 0;
            assert_eq!(current.newer(&mut seen).unwrap().1.load(Relaxed), 2);
        });
    }
}
