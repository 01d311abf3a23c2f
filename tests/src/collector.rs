//! The collectors' view: what nfcapd received, read by nfdump.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::command::Run;
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::lab::wait;

/// A flow record as nfdump prints it. Addresses are empty where the record has none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Source address, IPv4.
    pub src4_addr: String,
    /// Destination address, IPv4.
    pub dst4_addr: String,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// IP protocol.
    pub proto: u8,
    /// Packets.
    pub in_packets: u64,
    /// IP octets.
    pub in_bytes: u64,
    /// Index of the interface where it entered.
    pub input_snmp: u32,
    /// Index of the interface where it left.
    pub output_snmp: u32,
    /// Forwarding status octet: 64-127 forwarded, 128-191 dropped.
    pub fwd_status: u8,
    /// VLAN.
    pub src_vlan: u16,
    /// Source MAC address.
    pub in_src_mac: String,
    /// TCP flags, as `...AP.SF`.
    pub tcp_flags: String,
}

impl Flow {
    /// The switch dropped it.
    pub fn dropped(&self) -> bool {
        self.fwd_status >> 6 == 2
    }
}

/// Packets and octets of some flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Total {
    /// Packets.
    pub packets: u64,
    /// IP octets.
    pub octets: u64,
}

/// The sum of `flows`.
pub fn total<'a>(flows: impl IntoIterator<Item = &'a Flow>) -> Total {
    flows.into_iter().fold(Total::default(), |sum, flow| Total {
        packets: sum.packets + flow.in_packets,
        octets: sum.octets + flow.in_bytes,
    })
}

/// A folder that a collector fills.
#[derive(Clone, Debug)]
pub struct Collector {
    /// What it is called in messages.
    pub name: &'static str,
    dir: PathBuf,
}

impl Collector {
    /// The collectors of the lab: NetFlow and IPFIX.
    pub fn all(lab: &Lab) -> [Collector; 2] {
        [
            Collector { name: "NetFlow", dir: lab.plan.netflow_dir() },
            Collector { name: "IPFIX", dir: lab.plan.ipfix_dir() },
        ]
    }

    /// The collector of a folder.
    pub fn new(name: &'static str, dir: &Path) -> Collector {
        Collector { name, dir: dir.to_owned() }
    }

    /// A file is complete; before that nfdump finds nothing to read.
    fn has_files(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return false };
        entries.filter_map(|e| e.ok()).any(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name.strip_prefix("nfcapd.").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    }

    /// The flows that fit an nfdump filter, of what has been received until two seconds ago.
    pub fn flows(&self, filter: &str) -> Result<Vec<Flow>> {
        self.read("", filter)
    }

    fn read(&self, options: &str, filter: &str) -> Result<Vec<Flow>> {
        if !self.has_files() {
            return Ok(Vec::new());
        }
        let dir = self.dir.display().to_string();
        let text = Run::new("nfdump -o json").args(options).arg("-R").arg(dir).arg(filter).text()?;
        // Without flows it prints a sentence inside of the brackets.
        if !text.contains("\"type\"") {
            return Ok(Vec::new());
        }
        let start = text.find('[').unwrap_or(0);
        serde_json::from_str(&text[start..])
            .map_err(|e| Error::Unreadable { what: format!("nfdump of {}", self.name), reason: e.to_string() })
    }

    /// The sum of the flows that fit, as nfdump adds them up; for more flows than anyone wants to read.
    pub fn total(&self, filter: &str) -> Result<Total> {
        self.read("-A proto", filter).map(|flows| total(&flows))
    }

    /// Datagrams that the collector missed, as it understands the sequence numbers.
    pub fn sequence_failures(&self) -> Result<u64> {
        if !self.has_files() {
            return Ok(0);
        }
        let text = Run::new("nfdump -I -R").arg(self.dir.display().to_string()).text()?;
        let value = text.lines().find_map(|l| l.strip_prefix("Sequence failures: "));
        value.and_then(|v| v.trim().parse().ok()).ok_or_else(|| Error::Unreadable {
            what: format!("nfdump -I of {}", self.name),
            reason: "no sequence failures in it".to_owned(),
        })
    }

    /// Waits until the flows that fit have as many packets as were sent, and returns them.
    pub fn wait_for(&self, filter: &str, packets: u64, limit: Duration) -> Result<Vec<Flow>> {
        wait(&format!("{}: {packets} packets of '{filter}'", self.name), limit, || {
            let flows = self.flows(filter)?;
            let got = total(&flows);
            if got.packets >= packets {
                Ok(Some(flows))
            } else {
                Err(Error::Unmet(format!("{} packets, {} octets in {} flows", got.packets, got.octets, flows.len())))
            }
        })
    }
}
