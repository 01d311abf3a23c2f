//! Foreign collectors for tests of the flow export.

use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant as StdInstant};

use serde_json::Value;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The judges are here; prints why the test does nothing when one is missing.
pub fn judges() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &&str| std::env::split_paths(&path).any(|directory| directory.join(tool).is_file());
    let missing: Vec<&str> = ["nfcapd", "nfdump", "tshark"].into_iter().filter(|tool| !found(tool)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: not installed: {}", missing.join(", "));
    }
    missing.is_empty()
}

/// Waits until `done`, but not for ever.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = StdInstant::now() + PATIENCE;
    while !done() {
        assert!(StdInstant::now() < end, "{what} did not happen");
        sleep(Duration::from_millis(10));
    }
}

/// Octets that wait in the socket of a UDP port of this host; `None` without such a socket.
fn udp_queue(port: u16) -> Option<u64> {
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    let socket = sockets
        .lines()
        .find(|line| line.split_whitespace().nth(1).is_some_and(|a| a.ends_with(&format!(":{port:04X}"))))?;
    let queues = socket.split_whitespace().nth(4)?;
    u64::from_str_radix(queues.split(':').nth(1)?, 16).ok()
}

/// A running nfcapd.
pub struct Nfcapd {
    child: Child,
    directory: tempfile::TempDir,
    pub port: u16,
}

impl Nfcapd {
    /// Starts one on a port of its own.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let log = File::create(directory.path().join("log")).unwrap();
        let flows = directory.path().join("flows");
        fs::create_dir(&flows).unwrap();
        let child = Command::new("nfcapd")
            .args(["-b", "127.0.0.1", "-t", "3600", "-p", &port.to_string(), "-w"])
            .arg(&flows)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let nfcapd = Nfcapd { child, directory, port };
        wait_for("nfcapd's socket", || udp_queue(port).is_some());
        nfcapd
    }

    /// Lets it read what it has got, ends it, and returns its file and its log.
    pub fn stop(mut self) -> Stored {
        wait_for("reading of the socket", || udp_queue(self.port) == Some(0));
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait_for("end of nfcapd", || self.child.try_wait().unwrap().is_some());
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap();
        let files = fs::read_dir(self.directory.path().join("flows")).unwrap();
        let mut files =
            files.map(|file| file.unwrap().path()).filter(|path| !path.to_string_lossy().contains("current"));
        let file = files.next().unwrap_or_else(|| panic!("nfcapd stored nothing: {log}"));
        Stored { _directory: std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap()), file, log }
    }
}

impl Drop for Nfcapd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What nfcapd stored.
pub struct Stored {
    _directory: tempfile::TempDir,
    file: PathBuf,
    pub log: String,
}

impl Stored {
    /// What nfdump says of the file.
    pub fn nfdump(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("nfdump").env("TZ", "UTC").arg("-r").arg(&self.file).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its flows.
    pub fn flows(&self) -> Vec<Value> {
        let text = self.nfdump(&["-q", "-o", "json"]);

        serde_json::from_str::<Vec<Value>>(&format!("[{text}]")).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// Writes payloads as a capture of UDP datagrams to port 2055, and returns what tshark says of them.
pub fn tshark(datagrams: &[Vec<u8>], arguments: &[&str]) -> String {
    const IPV4: u32 = 228;
    let mut capture = Vec::new();
    capture.extend([0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    capture.extend(65_535_u32.to_le_bytes());
    capture.extend(IPV4.to_le_bytes());
    for payload in datagrams {
        let length = payload.len() as u32 + 28;
        capture.extend([0; 8]);
        capture.extend(length.to_le_bytes());
        capture.extend(length.to_le_bytes());
        capture.extend([0x45, 0]);
        capture.extend((length as u16).to_be_bytes());
        capture.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        for word in [40_000, 2055, length as u16 - 20, 0] {
            capture.extend(word.to_be_bytes());
        }
        capture.extend(payload);
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("export.pcap");
    fs::write(&file, capture).unwrap();
    let output = Command::new("tshark")
        .args(["-n", "-d", "udp.port==2055,cflow", "-r"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
