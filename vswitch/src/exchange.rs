//! Two workers swap what they hold of a port, and nothing is ever in two hands or in none.
//!
//! ```text
//!  free ──offer──▶ offered ──swap──▶ swapping ──▶ done ──▶ the one who offered takes what is there
//!   └──────call off──────────call off──────────────▲
//! ```
//!
//! The worker that has less to do offers its handle and receives nothing until it has one again; what arrives meanwhile
//! waits in the devices. The other swaps between two batches and never waits. If it does not come to it in time the deal
//! is called off, and whoever is first decides: a swap that comes after that finds nothing to swap with.
//!
//! Threads: one offers and takes, one swaps, a third may call off. The lock is never contended: the state says whose turn
//! it is.

use crate::sync::{AtomicU32, Mutex, Ordering};

const FREE: u32 = 0;
const OFFERED: u32 = 1;
const SWAPPING: u32 = 2;
const DONE: u32 = 3;

/// A deal between two workers.
pub(crate) struct Exchange<T> {
    state: AtomicU32,
    content: Mutex<Option<T>>,
}

impl<T> Exchange<T> {
    /// Nothing was offered yet.
    pub(crate) fn new() -> Self {
        Exchange { state: AtomicU32::new(FREE), content: Mutex::new(None) }
    }

    fn replace(&self, with: Option<T>) -> Option<T> {
        match self.content.lock() {
            Ok(mut content) => std::mem::replace(&mut *content, with),
            Err(poisoned) => std::mem::replace(&mut *poisoned.into_inner(), with),
        }
    }

    fn step(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Offers `ours`; gives it back when the deal was called off.
    pub(crate) fn offer(&self, ours: T) -> Result<(), T> {
        // Before the state says so, nobody looks at it.
        self.replace(Some(ours));
        match self.step(FREE, OFFERED) {
            true => Ok(()),
            false => self.replace(None).map_or(Ok(()), Err),
        }
    }

    /// Swaps `ours` for what is offered; `false` when nothing is, and then nothing has changed.
    pub(crate) fn swap(&self, ours: &mut T) -> bool {
        if !self.step(OFFERED, SWAPPING) {
            return false;
        }
        if let Some(theirs) = self.replace(None) {
            self.replace(Some(std::mem::replace(ours, theirs)));
        }
        self.state.store(DONE, Ordering::Release);
        true
    }

    /// Ends the deal; `false` when it is done, or being done.
    pub(crate) fn call_off(&self) -> bool {
        self.step(FREE, DONE) || self.step(OFFERED, DONE)
    }

    /// What the one who offered gets: the other's, or its own when the deal was called off; `None` until that is known.
    pub(crate) fn take(&self) -> Option<T> {
        match self.state.load(Ordering::Acquire) {
            DONE => self.replace(None),
            _ => None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_deal_is_done_once() {
        let exchange = Exchange::new();
        let mut theirs = "receives";
        assert!(!exchange.swap(&mut theirs), "nothing is offered yet");
        assert_eq!(exchange.offer("sends"), Ok(()));
        assert_eq!(exchange.take(), None);
        assert!(exchange.swap(&mut theirs));
        assert!(!exchange.swap(&mut theirs));
        assert!(!exchange.call_off());
        assert_eq!((theirs, exchange.take()), ("sends", Some("receives")));
    }

    #[test]
    fn a_deal_that_is_called_off_changes_nothing() {
        let (early, late) = (Exchange::new(), Exchange::new());
        let mut theirs = "receives";
        assert!(early.call_off());
        assert_eq!(early.offer("sends"), Err("sends"));
        assert_eq!(late.offer("sends"), Ok(()));
        assert!(late.call_off());
        assert!(!early.swap(&mut theirs) && !late.swap(&mut theirs));
        assert_eq!((theirs, late.take()), ("receives", Some("sends")));
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::thread;

    use super::*;
    use std::sync::Arc;

    /// One offers, one swaps, a third calls off: in the end each of the two has a handle, and not the same.
    #[test]
    fn loom_no_handle_is_lost_or_in_two_hands() {
        loom::model(|| {
            let exchange = Arc::new(Exchange::new());
            let swapping = {
                let exchange = Arc::clone(&exchange);
                thread::spawn(move || {
                    let mut held = Box::new(1);
                    let swapped = exchange.swap(&mut held);
                    assert_eq!(*held, if swapped { 2 } else { 1 });
                    swapped
                })
            };
            let calling_off = {
                let exchange = Arc::clone(&exchange);
                thread::spawn(move || exchange.call_off())
            };
            let kept = exchange.offer(Box::new(2)).err().or_else(|| exchange.take());
            let swapped = swapping.join().unwrap();
            assert_eq!(calling_off.join().unwrap(), !swapped);
            let got = kept.or_else(|| exchange.take()).expect("the deal has ended");
            assert_eq!(*got, if swapped { 1 } else { 2 });
            assert!(exchange.take().is_none());
        });
    }
}
