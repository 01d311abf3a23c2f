//! The dataplane's threads: started, pinned, watched and stopped; and how busy they are.
//!
//! A thread pins itself before it moves the first frame, so that the memory that it touches first is near its core. If one
//! can't be pinned as the configuration file says, none goes on: a switch that runs elsewhere than it was told would be
//! slow for reasons that nobody sees.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use vswitch::control::{Control, WorkerLoad};
use vswitch::observe::mirror::Mirror;
use vswitch::worker::Worker;

/// Span over which a worker's load is averaged.
const WINDOW: Duration = Duration::from_secs(30);

/// Why the threads don't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host gives no thread.
    #[error("worker {0}: can't start the thread: {1}")]
    Thread(usize, #[source] std::io::Error),
    /// The host gives no thread for the mirror.
    #[error("mirror: can't start the thread: {0}")]
    Mirror(#[source] std::io::Error),
    /// The core does not exist, or this process may not run there.
    #[error("worker {worker}: can't be pinned to core {core}: {source}")]
    Core {
        /// Which worker.
        worker: usize,
        /// The core of the configuration file.
        core: usize,
        /// Why.
        source: std::io::Error,
    },
}

/// The running threads. They end when this is dropped, too; [`Workers::stop`] waits for them.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Workers {
    /// Starts the threads, `worker0` and so on. With `cores` the first runs on the first of them, and so on.
    ///
    /// # Errors
    /// A thread can't be started or pinned; those that were are ended.
    pub fn start(workers: Vec<Worker>, cores: &[usize], epoch: Instant) -> Result<Workers, Error> {
        let mut running = Workers { threads: Vec::new(), stop: Arc::new(AtomicBool::new(false)) };
        for (index, worker) in workers.into_iter().enumerate() {
            let core = cores.get(index).copied();
            let (pinned, answer): (SyncSender<_>, Receiver<_>) = sync_channel(1);
            let stop = Arc::clone(&running.stop);
            let body = move || {
                let outcome = core.map_or(Ok(()), pin);
                let goes_on = outcome.is_ok();
                let _ = pinned.send(outcome);
                if goes_on {
                    worker.run(epoch, stop);
                }
            };
            let spawned = thread::Builder::new().name(format!("worker{index}")).spawn(body);
            running.threads.push(spawned.map_err(|source| Error::Thread(index, source))?);
            if let (Ok(Err(source)), Some(core)) = (answer.recv(), core) {
                return Err(Error::Core { worker: index, core, source });
            }
        }
        Ok(running)
    }

    /// Starts the thread of the mirror, on whatever core is free: what it does delays nobody.
    ///
    /// # Errors
    /// The host gives no thread; the others are ended.
    pub fn with_mirror(mut self, mirror: Mirror, epoch: Instant) -> Result<Workers, Error> {
        let stop = Arc::clone(&self.stop);
        let spawned = thread::Builder::new().name("mirror".to_owned()).spawn(move || mirror.run(epoch, &stop));
        self.threads.push(spawned.map_err(Error::Mirror)?);
        Ok(self)
    }

    /// A thread has ended by itself.
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads and waits for them; their flows have become records then.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a dataplane thread has failed");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

/// Has this thread run on `core` only.
fn pin(core: usize) -> std::io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// How busy the workers were lately.
#[derive(Default, Debug)]
pub struct Busy {
    samples: VecDeque<(Instant, Vec<u64>)>,
}

impl Busy {
    /// Takes a sample of the workers' loads; to be called about once a second.
    pub fn sample(&mut self, now: Instant, loads: &[WorkerLoad]) {
        self.samples.push_back((now, loads.iter().map(|load| load.busy_ns).collect()));
        while self.samples.get(1).is_some_and(|(second, _)| now.saturating_duration_since(*second) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Tenths of a percent of the time of worker `index`, over at most the last [`WINDOW`].
    pub fn permille(&self, index: usize) -> u64 {
        let (Some((from, before)), Some((to, after))) = (self.samples.front(), self.samples.back()) else { return 0 };
        let ns = |sample: &[u64]| sample.get(index).copied().unwrap_or(0);
        let passed = u64::try_from(to.saturating_duration_since(*from).as_nanos()).unwrap_or(u64::MAX);
        (ns(after).saturating_sub(ns(before)).saturating_mul(1000)).checked_div(passed).unwrap_or(0).min(1000)
    }
}

/// The table of `show workers`.
pub fn table(control: &Control, cores: &[usize], busy: &Busy) -> String {
    let mut out = String::from("Worker  Core  Busy    Ports  Frames        Naps        Sleeps      Late learns\n");
    for (index, load) in control.loads().iter().enumerate() {
        let core = cores.get(index).map_or_else(|| "any".to_owned(), usize::to_string);
        let permille = busy.permille(index);
        let share = format!("{}.{}%", permille / 10, permille % 10);
        let _ = writeln!(
            out,
            "{index:<7} {core:<5} {share:<7} {:<6} {:<13} {:<11} {:<11} {}",
            load.receives_from, load.frames, load.naps, load.sleeps, load.wishes_lost
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch::worker::{Limits, switch_of};

    fn load(busy_ns: u64) -> WorkerLoad {
        WorkerLoad { busy_ns, ..WorkerLoad::default() }
    }

    #[test]
    fn a_load_is_that_of_the_last_half_minute() {
        let start = Instant::now();
        let mut busy = Busy::default();
        assert_eq!(busy.permille(0), 0);
        // The first worker is busy half of the time, then not at all; the second always a tenth.
        for second in 0..100u64 {
            let ns = second.min(50) * 500_000_000;
            busy.sample(start + Duration::from_secs(second), &[load(ns), load(second * 100_000_000)]);
            let wanted = if second == 0 { (0, 0) } else { (500, 100) };
            if second <= 50 {
                assert_eq!((busy.permille(0), busy.permille(1)), wanted);
            }
        }
        assert_eq!((busy.permille(0), busy.permille(1), busy.permille(2)), (0, 100, 0));
    }

    #[test]
    fn threads_are_named_pinned_and_stopped() {
        let limits = Limits { flows: 64, macs: 64, macs_per_port: 8, records: 64, evicted_per_s: 200_000 };
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let core = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).unwrap();
        let (workers, control, _records) = switch_of(limits, 2);
        let running = Workers::start(workers, &[core, core], Instant::now()).unwrap();
        assert!(!running.any_ended());
        assert!(control.macs().unwrap().is_empty());
        let text = table(&control, &[core], &Busy::default());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!((lines.len(), &lines[1][..4], lines[2][1]), (3, &["0", &core.to_string(), "0.0%", "0"][..], "any"));
        running.stop();
        assert!(control.macs().is_err());
    }

    #[test]
    fn a_core_that_is_not_there_ends_the_start() {
        let limits = Limits { flows: 64, macs: 64, macs_per_port: 8, records: 64, evicted_per_s: 200_000 };
        for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU + 7] {
            let (workers, control, _records) = switch_of(limits, 1);
            let error = Workers::start(workers, &[core], Instant::now()).err().unwrap();
            assert!(error.to_string().starts_with(&format!("worker 0: can't be pinned to core {core}: ")), "{error}");
            assert!(control.macs().is_err());
        }
    }
}
