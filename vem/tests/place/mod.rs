//! A host of its own for each test: network namespaces, a state directory, and the real agent in it.
//!
//! Everything carries the prefix `vem-` and the process id, and is removed when the [`Place`] is dropped.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use proto::config::HostConfig;
use serde_json::Value;
use vem::headless::{LastGood, Store};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Whether this machine lets us make taps and namespaces: that needs root and `/dev/net/tun`. Says so if not.
pub fn possible() -> bool {
    let root = rustix::process::geteuid().is_root();
    let tun = Path::new("/dev/net/tun").exists();
    if !(root && tun) {
        eprintln!("skipped: needs root ({root}) and /dev/net/tun ({tun})");
    }
    root && tun
}

/// Runs a command to its end.
pub fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program).args(args).stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{program}: {e}"))
}

/// Runs a command that must succeed.
pub fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until something holds.
pub fn wait_for(what: &str, most: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < most, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// A host with its namespaces and its agent.
pub struct Place {
    prefix: String,
    namespaces: RefCell<Vec<String>>,
    pub dir: tempfile::TempDir,
    agent: Option<Child>,
}

impl Place {
    /// The host's namespace, and a configuration file without a supervisor, with `more` at its end.
    pub fn new(more: &str) -> Place {
        let prefix = format!("vem-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        let place = Place { prefix, namespaces: RefCell::default(), dir, agent: None };
        place.namespace("host");
        place.write_config(more);
        place
    }

    /// Writes `vem.toml` anew.
    pub fn write_config(&self, more: &str) {
        let text = format!(
            "[host]\nname = \"host1\"\ndomain = 100\nstate_dir = \"{}\"\nsocket = \"{}\"\n{more}",
            self.state_dir().display(),
            self.socket().display()
        );
        std::fs::write(self.dir.path().join("vem.toml"), text).unwrap();
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("vem.sock")
    }

    /// The full name of a namespace; it is made at the first call.
    pub fn namespace(&self, name: &str) -> String {
        let full = format!("{}-{name}", self.prefix);
        if !self.namespaces.borrow().contains(&full) {
            must("ip", &["netns", "add", &full]);
            must("ip", &["-n", &full, "link", "set", "lo", "up"]);
            self.namespaces.borrow_mut().push(full.clone());
        }
        full
    }

    /// Deletes a namespace.
    pub fn delete_namespace(&self, name: &str) {
        let full = format!("{}-{name}", self.prefix);
        must("ip", &["netns", "del", &full]);
        self.namespaces.borrow_mut().retain(|n| *n != full);
    }

    /// `ip -n NAMESPACE ...`
    pub fn ip(&self, name: &str, words: &str) -> String {
        let full = self.namespace(name);
        let args: Vec<&str> = ["-n", &full].into_iter().chain(words.split_whitespace()).collect();
        must("ip", &args)
    }

    /// Runs a command in a namespace.
    pub fn inside(&self, name: &str, words: &str) -> Output {
        let full = self.namespace(name);
        let args: Vec<&str> = ["netns", "exec", &full].into_iter().chain(words.split_whitespace()).collect();
        run("ip", &args)
    }

    /// One ping that is answered within `ms`.
    pub fn pings(&self, from: &str, to: &str, ms: u32) -> bool {
        let seconds = f64::from(ms) / 1000.0;
        self.inside(from, &format!("ping -n -q -c 1 -W {seconds} {to}")).status.success()
    }

    /// What the agent finds as its last good configuration.
    pub fn store(&self, version: u64, config: &HostConfig) {
        let store = Store::open(&self.state_dir()).unwrap();
        store.save_config(&LastGood::of(version, config)).unwrap();
    }

    /// Starts the agent and waits for its socket.
    pub fn start(&mut self) -> Instant {
        let host = self.namespace("host");
        let started = Instant::now();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let agent = Command::new("ip")
            .args(["netns", "exec", &host, env!("CARGO_BIN_EXE_vem"), "run", "--config"])
            .arg(self.dir.path().join("vem.toml"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(agent);
        started
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// `kill -9`, and nothing is left to it.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut agent = self.agent.take().unwrap();
        must("kill", &["-TERM", &agent.id().to_string()]);
        agent.wait().unwrap().code()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.agent.as_ref().map_or(0, Child::id)
    }

    /// Whether the agent still runs.
    pub fn runs(&mut self) -> bool {
        self.agent.as_mut().is_some_and(|agent| agent.try_wait().unwrap().is_none())
    }

    /// A command of `vem`: exit code and both outputs.
    pub fn vem(&self, words: &str) -> (Option<i32>, String) {
        let mut words: Vec<&str> = words.split_whitespace().collect();
        let socket = self.socket();
        words.extend(["--socket", socket.to_str().unwrap()]);
        let output = run(env!("CARGO_BIN_EXE_vem"), &words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    }

    /// A command of `vem` that must succeed, once the agent answers.
    pub fn vem_ok(&self, words: &str) -> String {
        wait_for("the agent's socket", Duration::from_secs(5), || self.socket().exists());
        let (code, text) = self.vem(words);
        assert_eq!(code, Some(0), "vem {words}: {text}\n{}", self.log());
        text
    }

    /// The row of a port.
    pub fn port(&self, nic: &str) -> Value {
        let rows: Vec<Value> = serde_json::from_str(&self.vem_ok("ports --json")).unwrap();
        rows.into_iter().find(|row| row["nic"] == nic).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the agent ---\n{}", self.log());
        }
        for namespace in self.namespaces.borrow().iter() {
            run("ip", &["netns", "del", namespace]);
        }
    }
}
