//! What an intrusion detector makes of mirrored frames, by the decoding rules of Suricata and of Zeek.
//!
//! ```text
//!   outer frame ─▶ decode (suricata | zeek) ─▶ inner frame and its VLAN layers ─▶ inspect ─▶ Report
//!                     └▶ not read, with the reason                                 └▶ complaints
//! ```
//!
//! A copy is worth something only if the detector reads it and finds a conversation whole. So two things are told: packets
//! that its decoder does not come through, and what it would come through with and then miss an attack by: wrong checksums
//! (Suricata does not give such a segment to its stream engine, Zeek drops the packet), packets that end before their IP
//! length does, the two directions of a conversation in different VLANs (two half flows), and the same segment twice.
//!
//! The rules are written down here from Suricata's `decode-gre.c`, `decode-erspan.c` and `decode-vlan.c` and from Zeek's
//! `GRE.cc`; no detector has to be installed. Nothing of the switch's own code is used.

mod inner;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use pcap_file::pcap::PcapReader;

pub use self::inner::{Conversation, Packet};
pub use self::rules::{Inner, decode};
use crate::error::{Error, Result, Tried};

/// Whose rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sensor {
    /// Suricata 8.
    Suricata,
    /// Zeek 7.
    Zeek,
}

/// What became of the packets of a capture.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Outer frames.
    pub frames: u64,
    /// Those of which the detector sees the inner frame.
    pub read: u64,
    /// Why the others are not read, and how many.
    pub unread: BTreeMap<&'static str, u64>,
    /// What it reads and gets wrong.
    pub complaints: BTreeMap<&'static str, u64>,
    /// VLAN layers that it sees, such as `[10]`, and in how many frames.
    pub vlans: BTreeMap<Vec<u16>, u64>,
}

impl Report {
    /// Every frame is read, and nothing is wrong with any.
    pub fn is_clean(&self) -> bool {
        self.frames > 0 && self.unread.is_empty() && self.complaints.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames, {} read", self.frames, self.read)?;
        let lists = [("not read", &self.unread), ("read, but", &self.complaints)];
        for (what, list) in lists {
            list.iter().try_for_each(|(why, count)| write!(f, "; {what}: {why} ({count})"))?;
        }
        Ok(())
    }
}

/// Reads packets one after the other, and remembers what it takes to judge conversations.
pub struct Watch {
    sensor: Sensor,
    report: Report,
    seen: HashMap<Conversation, [Direction; 2]>,
}

#[derive(Default)]
struct Direction {
    vlans: BTreeSet<Vec<u16>>,
    last: Option<(u32, Vec<u8>)>,
}

impl Watch {
    /// Nothing is read yet.
    pub fn new(sensor: Sensor) -> Watch {
        Watch { sensor, report: Report::default(), seen: HashMap::new() }
    }

    /// A mirrored frame in its outer frame.
    pub fn outer(&mut self, frame: &[u8]) {
        self.report.frames += 1;
        match decode(self.sensor, frame) {
            Ok(inner) => self.inner(&inner),
            Err(why) => *self.report.unread.entry(why).or_default() += 1,
        }
    }

    /// A frame as a local destination gets it.
    pub fn plain(&mut self, frame: &[u8]) {
        self.report.frames += 1;
        match rules::ethernet(self.sensor, Vec::new(), frame, false) {
            Ok(inner) => self.inner(&inner),
            Err(why) => *self.report.unread.entry(why).or_default() += 1,
        }
    }

    fn inner(&mut self, inner: &Inner) {
        self.report.read += 1;
        *self.report.vlans.entry(inner.vlans.clone()).or_default() += 1;
        if let [outer, next] = inner.vlans[..]
            && outer == next
        {
            self.complain("the tag counts twice: header and frame have it");
        }
        let packet = match Packet::read(inner.ethertype, inner.payload) {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            // A copy that says so was cut on purpose; what is there is looked at.
            Err(_) if inner.truncated => return,
            Err(why) => return self.complain(why),
        };
        if packet.bad_checksum && !inner.truncated {
            self.complain("checksum is wrong");
        }
        let Some((conversation, way)) = packet.conversation else { return };
        let direction = &mut self.seen.entry(conversation).or_default()[way];
        direction.vlans.insert(inner.vlans.clone());
        if let Some(sequence) = packet.tcp_payload {
            let twice =
                direction.last.as_ref().is_some_and(|(last, octets)| *last == sequence && octets == inner.payload);
            direction.last = Some((sequence, inner.payload.to_vec()));
            if twice {
                self.complain("the same segment twice");
            }
        }
    }

    fn complain(&mut self, what: &'static str) {
        *self.report.complaints.entry(what).or_default() += 1;
    }

    /// What became of them.
    pub fn report(mut self) -> Report {
        let half = |[there, back]: &&[Direction; 2]| {
            !back.vlans.is_empty() && !there.vlans.is_empty() && there.vlans != back.vlans
        };
        let halves = self.seen.values().filter(half).count();
        // Zeek's connections know no VLANs.
        if halves > 0 && self.sensor == Sensor::Suricata {
            self.report.complaints.insert("directions of a conversation have different VLANs", halves as u64);
        }
        self.report
    }
}

/// What the detector makes of a capture of outer frames, or of plain ones.
pub fn check(sensor: Sensor, capture: &Path, are_outer: bool) -> Result<Report> {
    let what = || capture.display().to_string();
    let file = std::fs::File::open(capture).tried(what())?;
    let unreadable = |error: pcap_file::PcapError| Error::Unreadable { what: what(), reason: error.to_string() };
    let mut reader = PcapReader::new(file).map_err(unreadable)?;
    let mut watch = Watch::new(sensor);
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(unreadable)?;
        if are_outer { watch.outer(&packet.data) } else { watch.plain(&packet.data) }
    }
    Ok(watch.report())
}
