//! The worker as a thread: turns, rest, and the last reports.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use super::idle::{Idle, Rest};
use super::{Instant, Worker};

/// Longest sleep: timers tick every 100 ms.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// Longest sleep while there is a port that nothing can wake us for, or nothing can wake us at all.
const SLEEP_DEAF: Duration = Duration::from_micros(500);
/// Longest time that the worker spends on its last reports when it stops.
const LAST_REPORTS: Duration = Duration::from_secs(1);

impl Worker {
    /// The thread: turns until `stop`, then a last report of every flow. `epoch` is when the worker's clock was zero.
    pub fn run(mut self, epoch: std::time::Instant, stop: Arc<AtomicBool>) {
        let clock = || Instant::from_ns(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX));
        // The kernel may otherwise add 50 us to every nap. Without it naps are longer, that is all.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut idle = Idle::default();
        while !stop.load(Ordering::Relaxed) {
            self.sleeps_next = idle.is_hasty(!self.readiness.to_arm().is_empty());
            if self.round(&clock) > 0 || self.job.is_some() || self.behind || self.offered.is_some() {
                idle.over(self.now, std::mem::take(&mut self.octets), self.shares.is_mixed());
                continue;
            }
            match idle.next(!self.readiness.to_arm().is_empty(), self.now) {
                Rest::Spin => std::hint::spin_loop(),
                Rest::Nap(time) => {
                    std::thread::sleep(time);
                    self.count(|load| &load.naps);
                }
                Rest::Sleep if self.readiness.is_deaf() => {
                    self.readiness.poll(SLEEP_DEAF);
                    self.count(|load| &load.naps);
                }
                Rest::Sleep => self.sleep(),
            }
        }
        self.finish(&clock);
    }

    fn count(&self, cell: impl Fn(&crate::account::load::LoadCells) -> &crate::account::counters::Counter) {
        if let Some(seat) = self.seat() {
            cell(&seat.load).add(1);
        }
    }

    /// Until a port, a question, another worker or the next timer. What arrived before the ports were armed, or was wished
    /// before the others could see that this one sleeps, is found here.
    fn sleep(&mut self) {
        self.say_asleep(true);
        fence(Ordering::SeqCst);
        let mut found = self.road.macs.has_wishes();
        for id in self.readiness.to_arm() {
            found |= self.devices.get_mut(*id).is_some_and(|device| device.port.arm());
        }
        if !found {
            self.readiness.poll(SLEEP_MAX);
            self.count(|load| &load.sleeps);
        }
        self.say_asleep(false);
    }

    fn say_asleep(&self, asleep: bool) {
        if let Some(seat) = self.seat() {
            seat.asleep.store(asleep, Ordering::Relaxed);
        }
    }

    fn finish(&mut self, clock: &dyn Fn() -> Instant) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.road.flows.retire(None, at, clock());
        }
        let start = clock();
        while self.road.flows.has_to_report() && clock().since(start) < LAST_REPORTS {
            let more = self.road.flows.expire(clock(), &self.snapshot);
            if !(self.road.flows.offer_sums() && more) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.road.flows.forgo_all();
    }
}
