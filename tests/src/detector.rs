//! A real intrusion detector: Suricata on a device, told what to look for, and what it has seen.
//!
//! It runs with the configuration of its package, so as somebody runs it who has just installed it, but looks at every
//! checksum. It works in a folder of its own that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::error::{Error, Result, Tried};
use crate::process::{Process, spawn};

const CONFIGURATION: &str = "/etc/suricata/suricata.yaml";
/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A detector that looks at a device.
pub struct Detector {
    process: Process,
    folder: tempfile::TempDir,
}

/// What it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often each rule has spoken, by its message, and the VLANs in which it did.
    pub alerts: BTreeMap<(String, String), u64>,
    /// TCP conversations by the port of their server, each with its VLANs.
    pub conversations: Vec<Conversation>,
    /// Files that came over HTTP: octets, and whether they came whole.
    pub files: Vec<(u64, bool)>,
    /// Its counters that are not 0, by name: `tcp.syn`, `decoder.erspan`.
    pub counts: BTreeMap<String, u64>,
}

/// A TCP conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversation {
    /// Port of the server.
    pub port: u64,
    /// VLANs, as it writes them: `[10]`, or nothing.
    pub vlans: String,
    /// Packets of the client and of the server.
    pub packets: [u64; 2],
}

impl Detector {
    /// Starts it on a device of a namespace, with rules in Suricata's own words.
    ///
    /// # Errors
    /// It is not installed, or it does not start.
    pub fn start(netns: &str, device: &str, rules: &str) -> Result<Detector> {
        let folder = tempfile::tempdir().tried("a folder for the detector")?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("rules"), rules).tried("the rules")?;
        let device = format!("--af-packet={device}");
        let argv = ["suricata", "-c", CONFIGURATION, &device, "-S", &path("rules"), "-l", &path(""), "-k", "all"];
        let process = spawn("detector", Some(netns), &argv, &folder.path().join("said"))?;
        let detector = Detector { process, folder };
        let end = Instant::now() + PATIENCE;
        while !detector.said().contains("Engine started") {
            if Instant::now() > end || !detector.process.alive() {
                return Err(Error::State(format!("suricata does not start: {}", detector.said())));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(detector)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// Ends it, and returns what it has seen.
    ///
    /// # Errors
    /// It does not end, it lost packets, or what it writes can't be read.
    pub fn stop(self) -> Result<Seen> {
        // What is on its way gets there.
        thread::sleep(Duration::from_secs(1));
        self.process.signal(Signal::INT);
        if !self.process.ended_within(PATIENCE) {
            return Err(Error::State(format!("suricata does not end: {}", self.said())));
        }
        let text = fs::read_to_string(self.folder.path().join("eve.json")).tried("what the detector wrote")?;
        let mut seen = Seen::default();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).tried("what the detector wrote")?;
            seen.add(&event);
        }
        match seen.count("capture.kernel_drops") {
            0 => Ok(seen),
            lost => Err(Error::State(format!("suricata lost {lost} packets: it proves nothing"))),
        }
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        if self.process.alive() {
            self.process.kill();
        }
    }
}

impl Seen {
    /// One of its counters.
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    fn add(&mut self, event: &Value) {
        let vlans = match &event["vlan"] {
            Value::Null => String::new(),
            some => some.to_string(),
        };
        match event["event_type"].as_str() {
            Some("alert") => {
                let what = event["alert"]["signature"].as_str().unwrap_or_default().to_owned();
                *self.alerts.entry((what, vlans)).or_default() += 1;
            }
            Some("flow") if event["proto"] == "TCP" => {
                let packets = ["pkts_toserver", "pkts_toclient"].map(|way| event["flow"][way].as_u64().unwrap_or(0));
                let port = event["dest_port"].as_u64().unwrap_or(0);
                self.conversations.push(Conversation { port, vlans, packets });
            }
            Some("fileinfo") => {
                let file = &event["fileinfo"];
                let whole = file["state"] == "CLOSED" && file["gaps"] == false;
                self.files.push((file["size"].as_u64().unwrap_or(0), whole));
            }
            // The last one counts.
            Some("stats") => flatten(String::new(), &event["stats"], &mut self.counts),
            _ => {}
        }
    }
}

fn flatten(name: String, value: &Value, counts: &mut BTreeMap<String, u64>) {
    match value {
        Value::Object(members) => {
            let dot = if name.is_empty() { "" } else { "." };
            members.iter().for_each(|(key, member)| flatten(format!("{name}{dot}{key}"), member, counts));
        }
        other => counts.extend(other.as_u64().filter(|n| *n > 0).map(|n| (name, n))),
    }
}
