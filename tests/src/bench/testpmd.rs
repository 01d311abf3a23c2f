//! `dpdk-testpmd` as the generator on two vhost-user ports, as the reader of one, or as a loop between two.
//!
//! It is driven at its prompt: packets go only while they are to go, its own statistics are read in between, and at the
//! end it takes in what is still in its rings, so that what it sent and received can be held against the switch's count
//! to the last packet. One core does everything: sending on both ports, and reading what arrives on both.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use super::cpu;
use super::ground::Ground;
use crate::command::installed;
use crate::error::{Error, Result, Tried};
use crate::process::Process;

const PROMPT: &str = "testpmd> ";
/// Memory of the generator, MiB.
const MEMORY: u32 = 256;
/// Entries of each ring of the generator, and of the reader, which has to hold what comes while the generator has their
/// core: the most that DPDK's virtio-user takes.
const RING: u32 = 1024;
const RING_READER: u32 = 8192;
/// Packet buffers: more than all rings of the program have entries.
const BUFFERS: u32 = 16_384;
const BUFFERS_READER: u32 = 32_768;
/// From the start of the program to its prompt.
const START: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);
/// Takes what is left in the rings.
const DRAIN: Duration = Duration::from_millis(400);

/// MAC address of the generator's port, which is also that of the switch's n-th guest.
pub fn mac(port: usize) -> String {
    format!("02:00:00:00:0b:{:02x}", port + 1)
}

/// The packets of a generator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Octets with FCS.
    pub frame: u32,
    /// Flows in each direction.
    pub flows: u32,
}

/// Packets of one port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Taken from the switch.
    pub received: u64,
    /// Put into the ring to the switch.
    pub sent: u64,
}

/// A running testpmd.
pub struct Testpmd {
    process: Process,
    child: Child,
    stdin: ChildStdin,
    output: Receiver<Vec<u8>>,
    ports: usize,
}

/// It is installed.
pub fn available() -> bool {
    installed("dpdk-testpmd") && installed("stdbuf")
}

/// The n-th guest's card, at the socket of a switch.
fn device(n: usize, socket: &Path, ring: u32) -> String {
    format!("net_virtio_user{n},path={},queue_size={ring},mac={}", socket.display(), mac(n))
}

impl Testpmd {
    /// Connects a generator to the two sockets. Nothing is sent yet.
    pub fn generator(ground: &mut Ground, netns: &str, sockets: [&Path; 2], load: Load) -> Result<Testpmd> {
        let mode = format!(
            "--forward-mode=flowgen --total-num-mbufs={BUFFERS} --txpkts={} --flowgen-flows={} --eth-peer=0,{} --eth-peer=1,{}",
            load.frame - 4,
            load.flows,
            mac(1),
            mac(0)
        );
        let devices = vec![device(0, sockets[0], RING), device(1, sockets[1], RING)];
        Self::start(ground, "generator", netns, cpu::LOAD_CORE, &devices, &mode)
    }

    /// A loop without a switch between two sockets that it makes, alone on the switch's core: what vhost-user and the
    /// generator can carry.
    pub fn bare(ground: &mut Ground, netns: &str, sockets: [&Path; 2]) -> Result<Testpmd> {
        let device = |n: usize, path: &Path| format!("net_vhost{n},iface={}", path.display());
        let devices = vec![device(0, sockets[0]), device(1, sockets[1])];
        let mode = format!("--forward-mode=io --total-num-mbufs={BUFFERS}");
        let mut bare = Self::start(ground, "bare", netns, cpu::SWITCH_CORE, &devices, &mode)?;
        bare.command("start")?;
        Ok(bare)
    }

    /// Connects a reader to a socket, and lets it read.
    pub fn reader(ground: &mut Ground, netns: &str, socket: &Path) -> Result<Testpmd> {
        let devices = vec![device(2, socket, RING_READER)];
        let mode = format!("--forward-mode=rxonly --total-num-mbufs={BUFFERS_READER}");
        let mut reader = Self::start(ground, "reader", netns, cpu::LOAD_CORE, &devices, &mode)?;
        reader.command("start")?;
        Ok(reader)
    }

    fn start(
        ground: &mut Ground,
        role: &str,
        netns: &str,
        core: usize,
        devices: &[String],
        mode: &str,
    ) -> Result<Testpmd> {
        let mut line = format!(
            "taskset -c {core} stdbuf -oL dpdk-testpmd --no-telemetry --lcores 0@{core},1@{core} --no-pci --in-memory \
             --single-file-segments --socket-mem {MEMORY} --file-prefix=vswitch-bench-{role}"
        );
        for device in devices {
            line += &format!(" --vdev={device}");
        }
        line += &format!(" -- --interactive --nb-cores=1 {mode}");
        let argv: Vec<&str> = line.split_whitespace().collect();
        let (process, mut child) = ground.talk(role, netns, &argv)?;
        let no_pipe = || Error::State(format!("no pipe to the {role}"));
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let mut stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let (sender, output) = mpsc::channel();
        std::thread::Builder::new()
            .name(role.to_owned())
            .spawn(move || {
                let mut buffer = [0; 4096];
                // Ends with the program, or with whoever listens.
                while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                    if sender.send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
            })
            .tried(role)?;
        let mut testpmd = Testpmd { process, child, stdin, output, ports: devices.len() };
        let said = testpmd.answer(START).map_err(|e| Error::State(format!("{e}{}", end_of(&ground.log(role)))))?;
        if said.contains("No probed ethernet devices") {
            return Err(Error::State(format!("the {role} has no port{}", end_of(&ground.log(role)))));
        }
        Ok(testpmd)
    }

    /// What it prints until its next prompt.
    fn answer(&mut self, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        let mut text = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let said = |text: &[u8]| {
                let text = String::from_utf8_lossy(text).into_owned();
                let from = text.len().saturating_sub(600);
                text.get(from..).unwrap_or_default().to_owned()
            };
            match self.output.recv_timeout(left) {
                Ok(part) => text.extend(part),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let what = format!("prompt of the {}", self.process.role);
                    return Err(Error::Late { what, seconds: limit.as_secs(), detail: format!(": {}", said(&text)) });
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::State(format!("the {} ended: {}", self.process.role, said(&text))));
                }
            }
            if text.ends_with(PROMPT.as_bytes()) {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
        }
    }

    /// Types a command and returns what is printed.
    pub fn command(&mut self, words: &str) -> Result<String> {
        // What was said unasked.
        while self.output.try_recv().is_ok() {}
        writeln!(self.stdin, "{words}").tried(self.process.role.clone())?;
        self.stdin.flush().tried(self.process.role.clone())?;
        self.answer(ANSWER)
    }

    /// Packets since it was started, by port.
    pub fn counts(&mut self) -> Result<Vec<Count>> {
        let mut text = self.command("show port stats all")?;
        // A prompt may be that of something that was said in between, as of a link that came up.
        while counts(&text).len() < self.ports {
            text += &self.answer(ANSWER)?;
        }
        Ok(counts(&text))
    }

    /// Sends for a while; returns how many packets of both ports arrived in each second.
    pub fn rate(&mut self, ground: &Ground, warm: Duration, time: Duration) -> Result<f64> {
        self.command("start")?;
        ground.pause(warm)?;
        let received = |counts: &[Count]| counts.iter().map(|c| c.received).sum::<u64>();
        let (before, start) = (received(&self.counts()?), Instant::now());
        ground.pause(time)?;
        let (after, elapsed) = (received(&self.counts()?), start.elapsed());
        self.command("stop")?;
        Ok((after - before) as f64 / elapsed.as_secs_f64())
    }

    /// Takes in what is on its way, and counts.
    pub fn settle(&mut self, ground: &Ground) -> Result<Vec<Count>> {
        self.command("set fwd rxonly")?;
        self.command("start")?;
        ground.pause(DRAIN)?;
        self.command("stop")?;
        self.counts()
    }

    /// Ends it.
    pub fn end(mut self) -> Result<()> {
        writeln!(self.stdin, "quit").tried("quit")?;
        self.process.ended_within(Duration::from_secs(5));
        Ok(())
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        self.process.stop(Duration::from_secs(1));
        // It has ended; this takes its number back.
        let _ = self.child.wait();
    }
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
    if last.is_empty() { String::new() } else { format!("; {}", last.join("; ")) }
}

/// The counts of `show port stats all`, by port.
fn counts(text: &str) -> Vec<Count> {
    let figure = |line: &str, name: &str| {
        let rest = line.trim().strip_prefix(name)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let received: Vec<u64> = text.lines().filter_map(|l| figure(l, "RX-packets:")).collect();
    let sent = text.lines().filter_map(|l| figure(l, "TX-packets:"));
    received.iter().zip(sent).map(|(received, sent)| Count { received: *received, sent }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_statistics() {
        let text = "show port stats all\n
  ######################## NIC statistics for port 0  ########################
  RX-packets: 3654144    RX-missed: 0          RX-bytes:  204632064
  RX-errors: 0
  TX-packets: 3654528    TX-errors: 0          TX-bytes:  204653568
  Throughput (since last show)
  Rx-pps:            0          Rx-bps:            0
  ######################## NIC statistics for port 1  ########################
  RX-packets: 5    RX-missed: 0          RX-bytes:  204619520
  TX-packets: 7    TX-errors: 0          TX-bytes:  204675072
testpmd> ";
        let wanted = [Count { received: 3_654_144, sent: 3_654_528 }, Count { received: 5, sent: 7 }];
        assert_eq!(counts(text), wanted);
        assert_eq!(counts(""), []);
    }
}
