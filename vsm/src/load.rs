//! How busy the supervisor's machine is, and the supervisor's own threads.
//!
//! [`Load::tick`] is called once a second and keeps the machine's counters of the last five minutes, so that a share of
//! the last second, minute or five minutes can be given at once. The counters are the kernel's: `/proc/stat` in clock ticks,
//! `/proc/self/task/*/schedstat` in nanoseconds. What can't be read is 0 or absent. Any thread may ask.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seconds that are looked back at most.
const HISTORY_S: usize = 300;

/// Time of a processor, in clock ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Ticks {
    user: u64,
    kernel: u64,
    interrupt: u64,
    idle: u64,
}

/// Shares of a time, in percent; they sum up to 100.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    /// In programs.
    pub user: f64,
    /// In the kernel, interrupts included.
    pub kernel: f64,
    /// In interrupts.
    pub interrupt: f64,
    /// With nothing to do.
    pub idle: f64,
}

impl Ticks {
    /// The share between two readings; all idle when no time has passed.
    fn since(self, before: Ticks) -> Share {
        let less = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let (user, idle) = (less(self.user, before.user), less(self.idle, before.idle));
        let (kernel, interrupt) = (less(self.kernel, before.kernel), less(self.interrupt, before.interrupt));
        let whole = user + kernel + idle;
        if whole == 0.0 {
            return Share { user: 0.0, kernel: 0.0, interrupt: 0.0, idle: 100.0 };
        }
        let share = |part: f64| part * 100.0 / whole;
        Share { user: share(user), kernel: share(kernel), interrupt: share(interrupt), idle: share(idle) }
    }
}

/// A thread of the supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// `S`, `R`, `D`: what it is doing.
    pub state: char,
    /// Time that it has run, ns.
    pub runtime_ns: u64,
    /// How often it was given a processor.
    pub invoked: u64,
}

/// What was read last.
#[derive(Default)]
struct Inner {
    /// A reading per second, the last at the back.
    whole: VecDeque<Ticks>,
    /// Per processor, the last two readings.
    each: [Vec<Ticks>; 2],
    /// Run times of the threads, ns, and when they were read.
    threads: Option<(Instant, BTreeMap<u32, u64>)>,
}

/// The counters so far.
#[derive(Default)]
pub struct Load {
    inner: Mutex<Inner>,
}

impl Load {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every field is sound for itself.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another second has passed.
    pub fn tick(&self) {
        let (whole, each) = processors();
        let threads = threads().into_iter().map(|(id, thread)| (id, thread.runtime_ns)).collect();
        let mut inner = self.inner();
        inner.whole.push_back(whole);
        if inner.whole.len() > HISTORY_S + 1 {
            inner.whole.pop_front();
        }
        inner.each = [std::mem::take(&mut inner.each[1]), each];
        inner.threads = Some((Instant::now(), threads));
    }

    /// All processors together over the last seconds, or over as many as are known; before the first tick since the
    /// machine has started.
    pub fn share(&self, seconds: usize) -> Share {
        let inner = self.inner();
        let last = match inner.whole.back() {
            Some(last) => *last,
            None => processors().0,
        };
        let known = inner.whole.len();
        let before = match known {
            0 | 1 => Ticks::default(),
            _ => inner.whole.get(known.saturating_sub(seconds + 1)).copied().unwrap_or_default(),
        };
        last.since(before)
    }

    /// Each processor over the last second, or since the machine has started.
    pub fn each(&self) -> Vec<Share> {
        let inner = self.inner();
        let [before, last] = &inner.each;
        let last = if last.is_empty() { processors().1 } else { last.clone() };
        let before = before.iter().copied().chain(std::iter::repeat(Ticks::default()));
        last.iter().zip(before).map(|(last, before)| last.since(before)).collect()
    }

    /// The threads by number, each with its share of a processor since the last tick, in percent.
    pub fn threads(&self) -> Vec<(u32, Thread, f64)> {
        let inner = self.inner();
        let share = |id: &u32, now: u64| {
            let (at, before) = inner.threads.as_ref()?;
            let passed = at.elapsed().max(Duration::from_millis(1)).as_nanos() as f64;
            Some(now.saturating_sub(*before.get(id)?) as f64 * 100.0 / passed)
        };
        let thread = |(id, thread): (u32, Thread)| {
            let share = share(&id, thread.runtime_ns).unwrap_or(0.0);
            (id, thread, share)
        };
        threads().into_iter().map(thread).collect()
    }
}

/// Time of all processors together, and of each.
fn processors() -> (Ticks, Vec<Ticks>) {
    stat(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

fn stat(text: &str) -> (Ticks, Vec<Ticks>) {
    let read = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.next()?.strip_prefix("cpu")?.to_owned();
        let n: Vec<u64> = words.map(|word| word.parse().unwrap_or(0)).collect();
        let at = |index: usize| n.get(index).copied().unwrap_or(0);
        let interrupt = at(5) + at(6);
        // Time that a hypervisor took is nobody's here.
        Some((name, Ticks { user: at(0) + at(1), kernel: at(2) + interrupt, interrupt, idle: at(3) + at(4) }))
    };
    let mut whole = Ticks::default();
    let mut each = Vec::new();
    for (name, ticks) in text.lines().filter_map(read) {
        if name.is_empty() { whole = ticks } else { each.push(ticks) }
    }
    (whole, each)
}

/// The threads of this process.
fn threads() -> BTreeMap<u32, Thread> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let file = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        // A thread that ends meanwhile is not shown.
        let Some((_, after)) = file("stat").rsplit_once(") ").map(|(a, b)| (a.to_owned(), b.to_owned())) else {
            continue;
        };
        let times = file("schedstat");
        let mut times = times.split_whitespace().map(|word| word.parse().unwrap_or(0));
        let (runtime_ns, invoked) = (times.next().unwrap_or(0), times.nth(1).unwrap_or(0));
        let name = file("comm").trim().replace(char::is_whitespace, "-");
        found.insert(id, Thread { name, state: after.chars().next().unwrap_or('-'), runtime_ns, invoked });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read() {
        let text = "cpu  10 5 20 60 3 1 1 9 0 0\ncpu0 1 0 0 9 0 0 0 0\nintr 5\ncpu1 0 0 0\n";
        let (whole, each) = stat(text);
        assert_eq!(whole, Ticks { user: 15, kernel: 22, interrupt: 2, idle: 63 });
        assert_eq!(each.len(), 2);
        let share = whole.since(Ticks::default());
        assert!((share.user + share.kernel + share.idle - 100.0).abs() < 0.001 && share.user == 15.0);
        assert_eq!(whole.since(whole).idle, 100.0);
    }

    #[test]
    fn this_machine_is_measured() {
        let load = Load::default();
        assert!(load.share(5).idle < 100.0, "since the start of the machine");
        load.tick();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(begun.elapsed());
        }
        let own = load.threads().into_iter().map(|(_, _, share)| share).fold(0.0, f64::max);
        assert!(own > 0.0, "{own}");
        load.tick();
        assert!(load.share(1).idle < 100.0 && !load.each().is_empty());
        for _ in 0..HISTORY_S + 10 {
            load.inner().whole.push_back(Ticks::default());
        }
        load.tick();
        assert!(load.share(300).idle <= 100.0);
    }
}
