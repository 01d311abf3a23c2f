//! Background processes, known by number and start time so that a reused number is never taken for ours.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Tried};

/// A process that was started in the background.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// What it is to the lab: `vsm`, `vem host1`, `collector`, …
    pub role: String,
    /// Its number.
    pub pid: u32,
    /// Clock ticks between the start of the system and that of the process.
    pub start: u64,
}

impl Process {
    /// The process that has the number now.
    pub fn of(role: &str, pid: u32) -> Option<Process> {
        let (_, start) = stat(pid)?;
        Some(Process { role: role.to_owned(), pid, start })
    }

    /// It runs; a dead process that nobody has waited for does not.
    pub fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start && state != 'Z' && state != 'X')
    }

    /// Sends a signal if it is still that process.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return };
        if self.alive() {
            // It may end between the question and the signal; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to end, waits, and ends it.
    pub fn stop(&self, grace: Duration) {
        self.signal(Signal::TERM);
        if !self.ended_within(grace) {
            self.kill();
        }
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.ended_within(Duration::from_secs(5));
    }

    /// Waits for its end.
    pub fn ended_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.alive() {
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }
}

/// State letter and start time of a process.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets and may hold anything, so count from behind it.
    let rest = text.rsplit_once(") ")?.1;
    let mut fields = rest.split(' ');
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

/// Starts `argv` in the background, in a session of its own so that no key typed at a prompt reaches it, with its
/// output appended to `log`.
pub fn spawn(role: &str, netns: Option<&str>, argv: &[&str], log: &Path) -> Result<Process> {
    let out = OpenOptions::new().create(true).append(true).open(log).tried(format!("{}", log.display()))?;
    let err = out.try_clone().tried(format!("{}", log.display()))?;
    let mut command = Command::new("setsid");
    if let Some(netns) = netns {
        command.args(["ip", "netns", "exec", netns]);
    }
    // `setsid` and `ip netns exec` both become the program, so the number of the child is that of the program.
    let child = command.args(argv).stdin(Stdio::null()).stdout(out).stderr(err).spawn().tried(argv.join(" "))?;
    let pid = child.id();
    Process::of(role, pid).ok_or_else(|| Error::State(format!("{role} ended at once")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_known_by_its_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = spawn("sleeper", None, &["sleep", "30"], &folder.path().join("log")).expect("started");
        assert!(process.alive());
        let other = Process { start: process.start + 1, ..process.clone() };
        assert!(!other.alive(), "a reused number is another process");
        other.kill();
        assert!(process.alive(), "and is not killed");
        process.stop(Duration::from_secs(2));
        assert!(!process.alive());
    }
}
