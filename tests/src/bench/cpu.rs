//! Cores: who runs where, and how much processor time it took.
//!
//! The switch that is measured has [`SWITCH_CORE`] for itself as far as its subject allows; generators of small frames
//! run on [`LOAD_CORE`].

use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::command::Run;
use crate::error::{Error, Result, Tried};
use crate::process::Process;

/// Core of the generators.
pub const LOAD_CORE: usize = 0;
/// Core of the switch.
pub const SWITCH_CORE: usize = 1;

/// # Errors
/// The machine has one core: generator and switch can't be told apart.
pub fn two_cores() -> Result<()> {
    let cores = std::thread::available_parallelism().tried("number of cores")?.get();
    if cores > SWITCH_CORE { Ok(()) } else { Err(Error::State("a bench needs two cores".to_owned())) }
}

/// Every thread of a process, also those that it will start, runs on `core`.
pub fn pin(process: &Process, core: usize) -> Result<()> {
    Run::new(&format!("taskset -a -c -p {core} {}", process.pid)).text().map(drop)
}

/// Every thread of a process, with all that it has started, runs on `cores`.
pub fn keep_to(pid: u32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    let folder = format!("/proc/{pid}/task");
    for entry in std::fs::read_dir(&folder).tried(folder.clone())? {
        let path = entry.tried(folder.clone())?.path();
        let Some(thread) = path.file_name().and_then(|name| Pid::from_raw(name.to_str()?.parse().ok()?)) else {
            continue;
        };
        sched_setaffinity(Some(thread), &set).tried("cores of a thread")?;
        let children = std::fs::read_to_string(path.join("children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).try_for_each(|pid| keep_to(pid, cores))?;
    }
    Ok(())
}

/// The calling thread runs on `core`.
pub fn pin_here(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).tried("core of a thread")
}

/// What `work` says, done on `core` by a thread of its own, with all programs that it starts.
pub fn pinned<T: Send>(core: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let panicked = || Error::State("what was to run on one core panicked".to_owned());
    std::thread::scope(|scope| {
        scope.spawn(|| pin_here(core).and_then(|()| work())).join().unwrap_or_else(|_| Err(panicked()))
    })
}

/// The calling thread comes before all others of its core: it stands for a machine of its own.
pub fn first_here() -> Result<()> {
    let thread = rustix::thread::gettid().as_raw_nonzero();
    Run::new(&format!("chrt --fifo --pid 1 {thread}")).text().map(drop)
}

/// Processor time of processes with all their threads.
pub fn used(processes: &[Process]) -> Result<Duration> {
    processes.iter().map(of_process).sum()
}

fn of_process(process: &Process) -> Result<Duration> {
    let folder = format!("/proc/{}/task", process.pid);
    let mut total = 0;
    for entry in std::fs::read_dir(&folder).tried(process.role.clone())? {
        let path = entry.tried(folder.clone())?.path().join("schedstat");
        // A thread may have ended since the folder was read.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        total += nanoseconds(&text)
            .ok_or_else(|| Error::Unreadable { what: path.display().to_string(), reason: text.clone() })?;
    }
    Ok(Duration::from_nanos(total))
}

/// The first figure of `schedstat`: time on a core.
fn nanoseconds(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_processor_time() {
        assert_eq!(nanoseconds("45205972 12999631 150\n"), Some(45_205_972));
        assert_eq!(nanoseconds(""), None);
        let own = Process::of("test", std::process::id()).expect("this process");
        let before = used(std::slice::from_ref(&own)).expect("readable");
        let mut sum = 0u64;
        for n in 0..20_000_000u64 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        assert!(used(&[own]).expect("readable") > before);
    }
}
