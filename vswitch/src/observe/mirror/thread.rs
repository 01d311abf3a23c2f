//! The mirror as a thread: turns while there is work, then ever longer rest.
//!
//! Naps come first: they cost the workers nothing, and a frame waits for no more than the silence before it was long. Only
//! after some of them it sleeps, and whoever writes first wakes it, or a packet of another host.

use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Mirror;

/// The first nap; each is twice as long as the one before.
const NAP_MIN: Duration = Duration::from_micros(10);
/// Naps before it sleeps: 1.3 ms in all.
const NAPS: u32 = 7;
/// Turns with work after which the wall clock is looked at.
const TURNS_BY_CLOCK: u32 = 1024;
/// Longest sleep, and the only one if nobody can wake it.
const SLEEP_MAX: Duration = Duration::from_millis(100);
const SLEEP_DEAF: Duration = Duration::from_millis(1);

impl Mirror {
    /// The thread: turns until `stop`, and then until the rings are empty.
    /// `epoch` is when the workers' clock was zero.
    pub fn run(mut self, epoch: Instant, stop: &AtomicBool) {
        // The kernel may otherwise add 50 us to every nap. Without it naps are longer, that is all.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        self.look_at_clock(epoch);
        let (mut naps, mut turns) = (0, 0u32);
        loop {
            let worked = self.turn() > 0;
            turns = turns.wrapping_add(1);
            if !worked || turns.is_multiple_of(TURNS_BY_CLOCK) {
                self.look_at_clock(epoch);
            }
            if worked {
                naps = 0;
                continue;
            }
            if stop.load(Ordering::Acquire) {
                return;
            }
            if naps < NAPS {
                std::thread::sleep(NAP_MIN * (1 << naps));
                naps += 1;
            } else {
                self.sleep();
            }
        }
    }

    /// The wall clock may be set at any time.
    fn look_at_clock(&mut self, epoch: Instant) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.set_epoch(now.saturating_sub(epoch.elapsed()));
    }

    /// Until a worker has written something, or somebody asks.
    fn sleep(&mut self) {
        let shared = Arc::clone(self.shared());
        let seat = &shared.mirror;
        seat.asleep.store(true, Ordering::Relaxed);
        // Either a worker sees that this sleeps, or this sees what the worker has written.
        fence(Ordering::SeqCst);
        if self.is_idle() {
            match &seat.waker {
                Some(waker) => {
                    let time = Timespec { tv_sec: 0, tv_nsec: SLEEP_MAX.as_nanos() as _ };
                    let fds = [Some(waker.as_fd())].into_iter().chain(self.readable()).flatten();
                    let mut fds: ArrayVec<PollFd<'_>, 3> =
                        fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
                    // Interrupted or not, it looks.
                    let _ = poll(&mut fds, Some(&time));
                    let _ = rustix::io::read(waker, &mut [0; 8]);
                }
                None => std::thread::sleep(SLEEP_DEAF),
            }
        }
        seat.asleep.store(false, Ordering::Relaxed);
    }
}
