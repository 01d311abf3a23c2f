//! Foreign collectors for tests of the flow export.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
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
    let missing: Vec<&str> =
        ["nfcapd", "nfdump", "nfacctd", "tshark"].into_iter().filter(|tool| !found(tool)).collect();
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

/// The words of the line that the host has of the socket of a UDP port; `None` without such a socket.
fn udp_socket(port: u16) -> Option<Vec<String>> {
    let sockets = ["/proc/net/udp", "/proc/net/udp6"].map(|table| fs::read_to_string(table).unwrap()).concat();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let port = format!(":{port:04X}");
    sockets.lines().map(words).find(|words| words.get(1).is_some_and(|local| local.ends_with(&port)))
}

/// Octets that wait in it.
fn udp_queue(port: u16) -> Option<u64> {
    u64::from_str_radix(udp_socket(port)?.get(4)?.split(':').nth(1)?, 16).ok()
}

/// Octets that wait in the socket of a judge.
pub fn queued(port: u16) -> u64 {
    udp_queue(port).unwrap_or_else(|| panic!("nobody listens at {port}"))
}

/// Datagrams that found no room there.
pub fn drops(port: u16) -> u64 {
    udp_socket(port).unwrap().last().unwrap().parse().unwrap()
}

/// A UDP port that nobody has.
fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
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
        Nfcapd::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// The same, at an address of this host.
    pub fn start_at(address: IpAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let log = File::create(directory.path().join("log")).unwrap();
        let flows = directory.path().join("flows");
        fs::create_dir(&flows).unwrap();
        // It begins a new file, and counts anew, at each multiple of this time since 1970: none within a test.
        let child = Command::new("nfcapd")
            .args(["-b", &address.to_string(), "-t", "1000000000", "-p", &port.to_string(), "-w"])
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

/// A running nfacctd, which sums by EtherType and protocol.
pub struct Nfacctd {
    child: Child,
    directory: tempfile::TempDir,
    pub port: u16,
}

impl Nfacctd {
    /// Starts one on a port of its own.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = |name: &str| directory.path().join(name);
        let settings = format!(
            "daemonize: false\nplugins: print\nprint_output: csv\nprint_output_file: {}\nprint_refresh_time: 86400\n\
             print_cache_entries: 1009\nnfacctd_renormalize: true\naggregate: etype, proto, flows\nnfacctd_port: {port}\nnfacctd_ip: 127.0.0.1\n",
            path("sums").display()
        );
        fs::write(path("settings"), settings).unwrap();
        let log = File::create(path("log")).unwrap();
        let child = Command::new("nfacctd")
            .arg("-f")
            .arg(path("settings"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_for("nfacctd's socket", || udp_queue(port).is_some());
        Nfacctd { child, directory, port }
    }

    /// Ends it; its sums, as comma-separated lines, and its log.
    pub fn stop(mut self) -> (String, String) {
        wait_for("reading of the socket", || queued(self.port) == 0);
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        wait_for("end of nfacctd", || self.child.try_wait().unwrap().is_some());
        let read = |name| fs::read_to_string(self.directory.path().join(name));
        let log = read("log").unwrap();
        // Its other process writes the sums.
        wait_for("the sums of nfacctd", || read("sums").is_ok_and(|text| text.lines().count() > 1));
        (read("sums").unwrap(), log)
    }
}

impl Drop for Nfacctd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
