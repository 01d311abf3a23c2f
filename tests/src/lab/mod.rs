//! The lab: a whole data centre in network namespaces on one machine.
//!
//! * [`plan`] says what a lab consists of, [`build`] makes it, [`Lab::down`] removes it.
//! * The plan is written to the state file **before** the first thing is made, and every process right after it is
//!   started: whatever crashes, `down` finds all of it. A process that was started and not yet written down is found by
//!   the namespace it runs in.
//! * Nothing of a lab is outside of its namespaces and its folder.

pub mod build;
pub mod config;
pub mod plan;
pub mod relay;
pub mod snmp;
pub mod summary;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::console::Console;
use crate::error::{Error, Result, Tried};
use crate::netns;
use crate::process::{self, Process};
use plan::{Host, Plan, Vm};

/// Where a lab lives when nobody says otherwise.
pub const DIR: &str = "/run/vswitch-lab";
const STATE: &str = "lab.json";

/// A lab that is up, or half up, or half down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lab {
    /// What it consists of.
    pub plan: Plan,
    /// Its background processes.
    pub processes: Vec<Process>,
    /// It was built to the end.
    pub complete: bool,
    /// The folder did not exist before.
    made_dir: bool,
}

impl Lab {
    /// The lab of a folder; `None` when there is none.
    pub fn find(dir: &Path) -> Result<Option<Lab>> {
        let path = dir.join(STATE);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).tried(format!("{}", path.display())),
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|e| Error::Unreadable { what: path.display().to_string(), reason: e.to_string() }),
        }
    }

    /// The lab of a folder, which must be up.
    pub fn open(dir: &Path) -> Result<Lab> {
        match Self::find(dir)? {
            Some(lab) if lab.complete => Ok(lab),
            Some(_) => Err(Error::State(format!("the lab in {} is half built; run `lab down`", dir.display()))),
            None => Err(Error::State(format!("there is no lab in {}; run `lab up`", dir.display()))),
        }
    }

    /// Writes the plan of a new lab down; nothing of it exists yet.
    ///
    /// # Errors
    /// There is a lab in the folder, the folder holds something else, or a namespace of that name exists.
    pub fn claim(plan: Plan) -> Result<Lab> {
        let dir = plan.dir.clone();
        if Self::find(&dir)?.is_some() {
            return Err(Error::State(format!("a lab is up in {}; run `lab down` first", dir.display())));
        }
        let foreign: Vec<String> = every_namespace(&plan).into_iter().filter(|n| netns::exists(n)).collect();
        if !foreign.is_empty() {
            let text = format!("namespaces of these names exist and are not ours: {}", foreign.join(" "));
            return Err(Error::State(text));
        }
        let made_dir = !dir.exists();
        fs::create_dir_all(&dir).tried(format!("{}", dir.display()))?;
        if fs::read_dir(&dir).tried(format!("{}", dir.display()))?.next().is_some() {
            return Err(Error::State(format!("{} is not empty and holds no lab", dir.display())));
        }
        let lab = Lab { plan, processes: Vec::new(), complete: false, made_dir };
        lab.save()?;
        Ok(lab)
    }

    /// Writes the state file, whole or not at all.
    pub fn save(&self) -> Result<()> {
        let (path, new) = (self.plan.dir.join(STATE), self.plan.dir.join("lab.json.new"));
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Unreadable { what: "state".to_owned(), reason: e.to_string() })?;
        fs::write(&new, text).tried(format!("{}", new.display()))?;
        fs::rename(&new, &path).tried(format!("{}", path.display()))
    }

    /// The console of the VSM.
    pub fn console(&self) -> Console {
        Console::new(&self.plan.bin.join("vsm"), &self.plan.cli_socket())
    }

    /// Path of one of our binaries.
    pub fn binary(&self, name: &str) -> String {
        self.plan.bin.join(name).display().to_string()
    }

    /// The newest process of that role.
    pub fn process(&self, role: &str) -> Option<&Process> {
        self.processes.iter().rev().find(|p| p.role == role)
    }

    /// Starts a process of the lab and writes it down.
    pub fn start(&mut self, role: &str, netns: &str, argv: &[&str], log: &Path) -> Result<()> {
        let process = process::spawn(role, Some(netns), argv, log)?;
        self.processes.retain(|p| p.alive());
        self.processes.push(process);
        self.save()
    }

    /// Starts the VSM.
    pub fn start_vsm(&mut self) -> Result<()> {
        let (binary, config) = (self.binary("vsm"), self.plan.vsm_config().display().to_string());
        let (netns, log) = (self.plan.vsm_netns(), self.plan.log("vsm"));
        self.start("vsm", &netns, &[&binary, "run", "--config", &config], &log)
    }

    /// Starts what makes the switch's servers reachable from here.
    pub fn start_relays(&mut self) -> Result<()> {
        let (binary, netns, log) = (self.binary("lab"), self.plan.vsm_netns(), self.plan.log("relay"));
        let outside = format!("/proc/{}/ns/net", std::process::id());
        for (service, address) in config::services() {
            let (to, told) = (address.to_string(), self.plan.address_file(service).display().to_string());
            let argv = [&binary, "relay", "--outside", &outside, "--to", &to, "--told", &told];
            self.start(&format!("relay-{service}"), &netns, &argv, &log)?;
        }
        Ok(())
    }

    /// Starts the VEM of a host.
    pub fn start_vem(&mut self, host: &Host) -> Result<()> {
        let (binary, config) = (self.binary("vem"), self.plan.vem_config(host).display().to_string());
        let log = self.plan.log(&host.name);
        self.start(&vem_role(host), &host.netns, &[&binary, "run", "--config", &config], &log)
    }

    /// `kill -9` of a role.
    pub fn kill(&self, role: &str) -> Result<()> {
        let process = self.process(role).ok_or_else(|| Error::State(format!("{role} does not run")))?;
        process.kill();
        Ok(())
    }

    /// The VM of that number, from 1.
    pub fn vm(&self, number: usize) -> Result<&Vm> {
        let found = number.checked_sub(1).and_then(|n| self.plan.vms.get(n));
        found.ok_or_else(|| Error::State(format!("the lab has no vm{number}")))
    }

    /// Ends every process, removes every namespace and every file. What is missing already is no error.
    pub fn down(&self) -> Result<()> {
        // The agents first: while the supervisor is up they end in an orderly way.
        for process in self.processes.iter().rev() {
            process.stop(Duration::from_secs(3));
        }
        let names = every_namespace(&self.plan);
        for name in &names {
            for process in netns::processes(name).into_iter().filter_map(|pid| Process::of("left over", pid)) {
                process.kill();
            }
        }
        for name in &names {
            netns::delete(name)?;
        }
        let dir = &self.plan.dir;
        // The state file last, so that an interrupted `down` can be repeated.
        for entry in fs::read_dir(dir).tried(format!("{}", dir.display()))? {
            let path = entry.tried(format!("{}", dir.display()))?.path();
            if path.file_name().is_some_and(|name| name == STATE) {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.tried(format!("{}", path.display()))?;
        }
        fs::remove_file(dir.join(STATE)).tried(format!("{}", dir.join(STATE).display()))?;
        if self.made_dir {
            fs::remove_dir(dir).tried(format!("{}", dir.display()))?;
        }
        Ok(())
    }

    /// The end of a part's log.
    pub fn log_end(&self, part: &str, lines: usize) -> String {
        let text = fs::read_to_string(self.plan.log(part)).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Those that the lab starts with and those that it may get.
fn every_namespace(plan: &Plan) -> Vec<String> {
    let mut names = plan.namespaces();
    names.push(plan.late_netns());
    names
}

/// The role of a host's VEM.
pub fn vem_role(host: &Host) -> String {
    format!("vem {}", host.name)
}

/// Folder of the binaries that were built together with this program.
pub fn binaries() -> Result<PathBuf> {
    let program = std::env::current_exe().tried("own path")?;
    let folder = program.parent().map(Path::to_path_buf).unwrap_or_default();
    // Programs of `cargo test` stand one folder deeper.
    Ok(if folder.ends_with("deps") { folder.parent().map(Path::to_path_buf).unwrap_or(folder) } else { folder })
}

/// Asks again until the answer is `Some`; the error of the last failure says why it never was.
pub fn wait<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let answer = ask();
        let detail = match answer {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => String::new(),
            Err(error) => format!(": {error}"),
        };
        if Instant::now() >= end {
            return Err(Error::Late { what: what.to_owned(), seconds: limit.as_secs(), detail });
        }
        thread::sleep(Duration::from_millis(50));
    }
}
