//! Garbage in the rings of a guest's card.
//!
//! QEMU's monitor says where the rings are; the guest's memory is the memfd that QEMU shares with the switch, and it is
//! written through the descriptor that QEMU holds. So the switch sees what a guest's kernel could do at any moment, while
//! it reads.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result, Tried};

/// Name of the card on QEMU's command line.
pub(super) const CARD: &str = "card";

/// Where a ring is in the guest's memory.
struct Ring {
    descriptors: u64,
    available: u64,
    size: u64,
}

/// Fills the card's first pair of rings with garbage.
pub(super) fn scribble(monitor: &Path, qemu: u32) -> Result<()> {
    let memory = memory_of(qemu)?;
    let mut monitor = Monitor::open(monitor)?;
    for queue in [0, 1] {
        let ring = monitor.ring(queue)?;
        // Not random: what fails must fail again.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut garbage = |length: u64| -> Vec<u8> {
            let octet = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_be_bytes()[0]
            };
            (0..length).map(octet).collect()
        };
        // A descriptor has 16 octets; the ring of offers has flags and count, two octets each, and two for each entry.
        for (at, octets) in [(ring.descriptors, garbage(ring.size * 16)), (ring.available, garbage(4 + ring.size * 2))]
        {
            memory.write_all_at(&octets, at).tried("the guest's memory")?;
        }
    }
    Ok(())
}

/// The memory of the guest. Below the hole for PCI, 3 GiB on this machine, an address is an offset.
fn memory_of(qemu: u32) -> Result<File> {
    let folder = format!("/proc/{qemu}/fd");
    for entry in fs::read_dir(&folder).tried(&folder)? {
        let path = entry.tried(&folder)?.path();
        if fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:memory-backend-memfd")) {
            return File::options().write(true).open(&path).tried(format!("{}", path.display()));
        }
    }
    Err(Error::State("QEMU holds no shared memory".to_owned()))
}

/// QEMU's machine protocol: a line of JSON each way.
struct Monitor {
    stream: BufReader<UnixStream>,
}

impl Monitor {
    fn open(path: &Path) -> Result<Monitor> {
        let stream = UnixStream::connect(path).tried(format!("{}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).tried("monitor")?;
        let mut monitor = Monitor { stream: BufReader::new(stream) };
        monitor.line()?;
        monitor.ask("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line).tried("QEMU's monitor")?;
        serde_json::from_str(&line).map_err(|e| unreadable(&format!("{e}: {line}")))
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments });
        writeln!(self.stream.get_mut(), "{line}").tried("QEMU's monitor")?;
        loop {
            let mut answer = self.line()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            // What is neither answer nor error is an event.
            if let Some(error) = answer.get("error") {
                return Err(unreadable(&error.to_string()));
            }
        }
    }

    /// What QEMU has told the switch. To ask for the card's own view would stop the ring.
    fn ring(&mut self, queue: u16) -> Result<Ring> {
        let path = format!("/machine/peripheral/{CARD}/virtio-backend");
        let state = self.ask("x-query-virtio-vhost-queue-status", &json!({ "path": path, "queue": queue }))?;
        let number = |key: &str| state.get(key).and_then(Value::as_u64).filter(|n| *n > 0);
        let ring =
            || Some(Ring { descriptors: number("desc-phys")?, available: number("avail-phys")?, size: number("num")? });
        ring().ok_or_else(|| unreadable(&format!("no ring {queue} in {state}")))
    }
}

fn unreadable(reason: &str) -> Error {
    Error::Unreadable { what: "QEMU's monitor".to_owned(), reason: reason.to_owned() }
}
