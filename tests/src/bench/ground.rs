//! The ground that a bench stands on: a folder, namespaces, processes and huge pages, and their removal.
//!
//! * What is taken is written down **before** it is taken, in `ground.json` of the folder: whatever ends a bench, the next
//!   one clears up after it. Two benches can't run at the same time; the second is refused.
//! * Every process of a bench runs inside of one of its namespaces, also those that need no network, so that none of them
//!   can be missed.
//! * Ctrl-C, SIGTERM and SIGHUP raise a flag. What takes time asks for it ([`Ground::pause`], [`Ground::go_on`]), and the
//!   error that follows leads to the same removal as any other end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, Tried};
use crate::lab::Lab;
use crate::netns;
use crate::process::{self, Process};

/// Where a bench keeps its files.
const DIR: &str = "/run/vswitch-bench";
const STATE: &str = "ground.json";
const HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const COMPACT: &str = "/proc/sys/vm/compact_memory";
/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// What has been taken and must be given back.
#[derive(Default, Serialize, Deserialize)]
struct Taken {
    owner: Option<Process>,
    netns: Vec<String>,
    processes: Vec<Process>,
    /// Huge pages that the system had before.
    hugepages: Option<u64>,
}

/// The ground of one bench; given back when it is dropped.
pub struct Ground {
    dir: PathBuf,
    taken: Taken,
    interrupted: Arc<AtomicBool>,
    /// End of the time that the running part has.
    deadline: Instant,
}

impl Ground {
    /// Clears up after a bench that could not, and takes the ground.
    ///
    /// # Errors
    /// Another bench runs, or this machine can have no bench.
    pub fn claim() -> Result<Ground> {
        if let Some(reason) = netns::unable() {
            return Err(Error::State(format!("a bench {reason}")));
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            signal_hook::flag::register(signal, interrupted.clone()).tried("signals")?;
        }
        let dir = PathBuf::from(DIR);
        let mut left = Ground { dir: dir.clone(), taken: Taken::default(), interrupted, deadline: Instant::now() };
        if let Ok(text) = fs::read(dir.join(STATE)) {
            left.taken = serde_json::from_slice(&text)
                .map_err(|e| Error::Unreadable { what: format!("{DIR}/{STATE}"), reason: e.to_string() })?;
            if let Some(owner) = left.taken.owner.take_if(|o| o.alive()) {
                // Not ours to remove.
                left.taken = Taken::default();
                left.dir = PathBuf::new();
                return Err(Error::State(format!("another bench runs, process {}", owner.pid)));
            }
            eprintln!("bench: clearing up after a bench that was ended");
            left.clear()?;
        }
        fs::create_dir_all(dir.join("log")).tried(DIR)?;
        left.taken.owner = Process::of("bench", std::process::id());
        left.save()?;
        Ok(left)
    }

    /// Folder of everything that the bench writes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Log of a process.
    pub fn log(&self, role: &str) -> PathBuf {
        self.dir.join("log").join(format!("{}.log", role.replace([' ', '/', ','], "-")))
    }

    /// A part begins that has `limit`.
    pub fn begin(&mut self, limit: Duration) {
        self.deadline = Instant::now() + limit;
    }

    /// What is left of the part's time.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// # Errors
    /// Somebody wants the bench to end.
    pub fn go_on(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Error::State("interrupted".to_owned())) } else { Ok(()) }
    }

    /// Sleeps; wakes up early to end.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|l| !l.is_zero()) {
            self.go_on()?;
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        self.go_on()
    }

    /// Makes a namespace.
    pub fn netns(&mut self, name: &str) -> Result<()> {
        if netns::exists(name) {
            return Err(Error::State(format!("namespace {name} exists and is not ours")));
        }
        self.taken.netns.push(name.to_owned());
        self.save()?;
        netns::add(name)
    }

    /// Starts a process in the background, inside of a namespace.
    pub fn spawn(&mut self, role: &str, netns: &str, argv: &[&str]) -> Result<Process> {
        let process = process::spawn(role, Some(netns), argv, &self.log(role))?;
        self.keep(process.clone())?;
        Ok(process)
    }

    /// Starts a process that is talked to: its standard input and output are pipes.
    pub fn talk(&mut self, role: &str, netns: &str, argv: &[&str]) -> Result<(Process, Child)> {
        let errors = fs::File::create(self.log(role)).tried(role)?;
        let mut command = Command::new("setsid");
        // Both become the program, so the number of the child is that of the program.
        command.args(["ip", "netns", "exec", netns]).args(argv);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().tried(argv.join(" "))?;
        let Some(process) = Process::of(role, child.id()) else {
            // It has ended, so there is nothing to wait for.
            let _ = child.wait();
            return Err(Error::State(format!("{role} ended at once")));
        };
        self.keep(process.clone())?;
        Ok((process, child))
    }

    fn keep(&mut self, process: Process) -> Result<()> {
        self.taken.processes.retain(Process::alive);
        self.taken.processes.push(process);
        self.save()
    }

    /// Ends a process and everything inside of some namespaces, and removes those.
    pub fn release(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            for process in netns::processes(name).into_iter().filter_map(|pid| Process::of("left over", pid)) {
                process.stop(GRACE);
            }
            netns::delete(name)?;
        }
        self.taken.netns.retain(|n| !names.contains(n));
        self.save()
    }

    /// Lets the system have at least `wanted` huge pages; those that were there before come back at the end.
    ///
    /// # Errors
    /// The system has no room for so many.
    pub fn hugepages(&mut self, wanted: u64) -> Result<()> {
        let before = hugepages()?;
        if before >= wanted {
            return Ok(());
        }
        if self.taken.hugepages.is_none() {
            self.taken.hugepages = Some(before);
            self.save()?;
        }
        fs::write(HUGEPAGES, wanted.to_string()).tried(HUGEPAGES)?;
        if hugepages()? < wanted {
            // Memory is there, but in pieces, or full of files that can be read again.
            fs::write(DROP_CACHES, "1").tried(DROP_CACHES)?;
            fs::write(COMPACT, "1").tried(COMPACT)?;
            fs::write(HUGEPAGES, wanted.to_string()).tried(HUGEPAGES)?;
        }
        let got = hugepages()?;
        if got < wanted {
            return Err(Error::State(format!("{wanted} huge pages were asked for, the system has room for {got}")));
        }
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let (path, new) = (self.dir.join(STATE), self.dir.join("ground.json.new"));
        let text = serde_json::to_vec(&self.taken)
            .map_err(|e| Error::Unreadable { what: STATE.to_owned(), reason: e.to_string() })?;
        fs::write(&new, text).tried(format!("{}", new.display()))?;
        fs::rename(&new, &path).tried(format!("{}", path.display()))
    }

    /// Gives everything back. What is missing already is no error.
    fn clear(&mut self) -> Result<()> {
        if let Some(lab) = Lab::find(&self.dir.join("lab"))? {
            lab.down()?;
        }
        for process in self.taken.processes.drain(..).rev() {
            process.stop(GRACE);
        }
        let names = self.taken.netns.clone();
        self.release(&names)?;
        if let Some(before) = self.taken.hugepages.take() {
            fs::write(HUGEPAGES, before.to_string()).tried(HUGEPAGES)?;
        }
        fs::remove_dir_all(&self.dir).tried(format!("{}", self.dir.display()))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.dir.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = self.clear() {
            eprintln!("bench: clearing up: {error}; the next run tries again");
        }
    }
}

fn hugepages() -> Result<u64> {
    let text = fs::read_to_string(HUGEPAGES).tried(HUGEPAGES)?;
    text.trim().parse().map_err(|_| Error::Unreadable { what: HUGEPAGES.to_owned(), reason: text })
}
