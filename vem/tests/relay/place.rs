//! Directories, keys, sockets and daemons of a test.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_flow-relay");

/// A place for a test.
pub struct Place {
    /// On the disk.
    pub dir: tempfile::TempDir,
    /// In memory.
    pub memory: tempfile::TempDir,
    /// The exporters' socket, which outlives the sender.
    pub input: UdpSocket,
    /// The collector's.
    pub collector: UdpSocket,
    /// Where the receiver listens.
    pub receiver: SocketAddr,
}

/// An address that nobody uses at the moment.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Place {
    /// Makes it.
    pub fn new() -> Self {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let input = UdpSocket::bind("127.0.0.1:0").unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&input, 32 << 20).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        for name in ["spool.key", "shared.key", "other.key"] {
            assert!(Command::new(BINARY).arg("key").arg(dir.path().join(name)).status().unwrap().success());
        }
        Place { dir, memory, input, collector, receiver: free() }
    }

    /// A file of it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `[trust]` with a shared key.
    pub fn shared(&self, key: &str) -> String {
        format!("shared_key = \"{}\"", self.path(key).display())
    }

    /// Configuration of both ends; the sender connects to `through`.
    pub fn write(&self, through: SocketAddr, send: &str, [sender, receiver]: [&str; 2]) {
        let (dir, memory) = (self.dir.path().display(), self.memory.path().display());
        let send = format!(
            "[send]\nreceiver = \"{through}\"\nname = \"exporter\"\nspool_dir = \"{dir}/spool\"\nspool_key = \"{dir}/spool.key\"\n\
             runtime_dir = \"{memory}/send\"\n{send}\n[trust]\n{sender}\n",
        );
        let receive = format!(
            "[receive]\nlisten = \"{}\"\ncollectors = [\"{}\"]\nstate_dir = \"{dir}/state\"\nruntime_dir = \"{memory}/receive\"\n\
             [trust]\n{receiver}\n",
            self.receiver,
            self.collector.local_addr().unwrap(),
        );
        std::fs::write(self.path("send.toml"), send).unwrap();
        std::fs::write(self.path("receive.toml"), receive).unwrap();
    }

    fn log(&self, name: &str) -> File {
        File::options().create(true).append(true).mode(0o600).open(self.path(name)).unwrap()
    }

    /// A sender that is given the socket as systemd gives it.
    pub fn sender(&self) -> End {
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" send --config \"$1\"";
        let socket: OwnedFd = self.input.try_clone().unwrap().into();
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY]).arg(self.path("send.toml")).stdin(Stdio::from(socket));
        End(command.stdout(Stdio::null()).stderr(self.log("send.log")).spawn().unwrap())
    }

    /// A receiver.
    pub fn receiver(&self) -> End {
        let mut command = Command::new(BINARY);
        command.args(["receive", "--config"]).arg(self.path("receive.toml"));
        End(command.stdout(Stdio::null()).stderr(self.log("receive.log")).spawn().unwrap())
    }

    /// Sends datagrams to the sender's socket, and waits until they are numbered.
    pub fn export(&self, numbers: std::ops::RangeInclusive<u64>) {
        let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
        let next = numbers.end() + 1;
        for number in numbers {
            exporter.send_to(&datagram(number), self.input.local_addr().unwrap()).unwrap();
        }
        self.until("numbers", || self.status(false)["next"] == next);
    }

    /// Numbers of what the collector gets: `count`, and what comes in the moment after them.
    pub fn collected(&self, count: usize) -> Vec<u64> {
        let (mut buffer, mut numbers) = (vec![0; 65_536], Vec::new());
        let end = Instant::now() + Duration::from_secs(30);
        self.collector.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        loop {
            let Ok(length) = self.collector.recv(&mut buffer) else {
                if numbers.len() >= count || Instant::now() > end {
                    return numbers;
                }
                self.retry();
                continue;
            };
            let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
            assert_eq!(buffer[..length], datagram(number), "as it was sent");
            numbers.push(number);
        }
    }

    /// Waits until something is so.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is() {
            assert!(Instant::now() < end, "{what}: {:#}\n{}", self.status(false), self.logged("send.log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a daemon has logged.
    pub fn logged(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Has the sender connect now.
    pub fn retry(&self) {
        let _ = Command::new(BINARY).args(["retry", "--runtime-dir"]).arg(self.memory.path().join("send")).output();
    }

    /// How a daemon is.
    pub fn status(&self, receiver: bool) -> serde_json::Value {
        let dir = self.memory.path().join(if receiver { "receive" } else { "send" });
        let mut command = Command::new(BINARY);
        command.arg("status").arg("--runtime-dir").arg(dir);
        if receiver {
            command.arg("--receiver");
        }
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

/// A daemon, which does not outlive the test.
pub struct End(pub Child);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A datagram that says its number, as an exporter's with records would.
pub fn datagram(number: u64) -> Vec<u8> {
    let mut octets = number.to_be_bytes().to_vec();
    octets.extend(b"PLAINTEXT");
    octets.resize(60 + (number * 37 % 1300) as usize, number as u8);
    octets
}
