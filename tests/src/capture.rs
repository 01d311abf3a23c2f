//! The IDS's view: a capture on the SPAN device, made by tcpdump and read by tshark with checksum checking on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::Run;
use crate::error::{Error, Result};
use crate::lab::plan::SPAN_DEVICE;
use crate::lab::{Lab, wait};
use crate::process::{self, Process};

/// A capture that runs.
pub struct Capture {
    process: Process,
    log: PathBuf,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture what arrives on the SPAN device; `name` is that of the file in the lab's folder.
    pub fn start(lab: &Lab, name: &str, filter: &str) -> Result<Capture> {
        Self::on(&lab.plan.ids_netns(), SPAN_DEVICE, &lab.plan.folder("log").join(name), filter)
    }

    /// Starts to capture on any device.
    pub fn on(netns: &str, device: &str, path: &Path, filter: &str) -> Result<Capture> {
        let (file, log) = (path.with_extension("pcap"), path.with_extension("log"));
        for old in [&file, &log] {
            // A file of an earlier capture of that name, if there is one.
            let _ = std::fs::remove_file(old);
        }
        let written = file.display().to_string();
        // -Z: tcpdump keeps its rights, because it writes into the lab's folder. -B: a buffer for a whole burst.
        let argv =
            ["tcpdump", "-i", device, "-n", "-U", "-B", "65536", "-s", "0", "-Z", "root", "-w", &written, filter];
        let process = process::spawn("tcpdump", Some(netns), &argv, &log)?;
        let capture = Capture { process, log, file };
        wait("start of tcpdump", Duration::from_secs(5), || {
            Ok(std::fs::read_to_string(&capture.log).unwrap_or_default().contains("listening on").then_some(()))
        })?;
        Ok(capture)
    }

    /// Ends the capture and returns it for reading.
    ///
    /// # Errors
    /// The kernel dropped packets of the capture, so that it proves nothing.
    pub fn stop(self) -> Result<Packets> {
        // The kernel hands packets over by blocks, and a block that is not full after one second; tcpdump does not ask
        // for the rest when it ends.
        std::thread::sleep(Duration::from_millis(1200));
        self.process.signal(rustix::process::Signal::INT);
        if !self.process.ended_within(Duration::from_secs(5)) {
            self.process.kill();
        }
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let dropped = said.lines().find_map(|l| l.strip_suffix(" packets dropped by kernel"));
        match dropped {
            Some("0") => Ok(Packets { file: self.file.clone() }),
            _ => Err(Error::State(format!("tcpdump lost packets or broke: {said}"))),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.process.alive() {
            self.process.kill();
        }
    }
}

/// A finished capture.
pub struct Packets {
    file: PathBuf,
}

/// What of a captured packet the checks look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Packet {
    /// Octets of the frame.
    pub length: u64,
    /// Octets of the IP packet.
    pub ip_length: u64,
    /// Source address.
    pub src: String,
    /// Destination address.
    pub dst: String,
    /// IP protocol.
    pub protocol: u8,
    /// TCP or UDP port of the source; 0 for other packets.
    pub src_port: u16,
    /// See `src_port`.
    pub dst_port: u16,
    /// Of IP, TCP, UDP or ICMP one checksum is wrong.
    pub bad_checksum: bool,
    /// Of IP and transport both checksums were looked at and are right.
    pub good_checksum: bool,
    /// Payload of UDP, in hexadecimal digits.
    pub payload: String,
    /// TCP sequence number and payload length.
    pub tcp: Option<(u64, u64)>,
}

impl Packets {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Values of one tshark field in the packets that fit a display filter; `decode` is a `-d` rule.
    pub fn values(&self, decode: &str, filter: &str, field: &str) -> Result<Vec<String>> {
        let run = Run::new("tshark -n -r").arg(self.file.display().to_string()).args("-d").arg(decode);
        let text = run.arg("-Y").arg(filter).args("-T fields -E separator=/t -e").arg(field).text()?;
        Ok(text.lines().flat_map(|l| l.split(',')).map(str::to_owned).collect())
    }

    /// The packets that fit a tshark display filter.
    pub fn read(&self, filter: &str) -> Result<Vec<Packet>> {
        let fields = [
            "frame.len",
            "ip.len",
            "ip.src",
            "ip.dst",
            "ip.proto",
            "ip.checksum.status",
            "tcp.checksum.status",
            "udp.checksum.status",
            "icmp.checksum.status",
            "udp.payload",
            "tcp.seq_raw",
            "tcp.len",
            "tcp.srcport",
            "tcp.dstport",
            "udp.srcport",
            "udp.dstport",
        ];
        let mut run = Run::new("tshark -n -r").arg(self.file.display().to_string()).limit(Duration::from_secs(60));
        for option in ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"] {
            run = run.args("-o").arg(format!("{option}:TRUE"));
        }
        run = run.args("-T fields -E separator=/t -E occurrence=f");
        for field in fields {
            run = run.args("-e").arg(field);
        }
        Ok(run.arg("-Y").arg(filter).text()?.lines().map(packet).collect())
    }
}

fn packet(line: &str) -> Packet {
    let fields: Vec<&str> = line.split('\t').collect();
    let field = |n: usize| fields.get(n).copied().unwrap_or_default();
    let number = |n: usize| field(n).parse::<u64>().ok();
    // tshark: 0 bad, 1 good, 2 not looked at, 3 not there.
    let transport: Vec<&str> = (6..9).map(field).filter(|f| !f.is_empty()).collect();
    Packet {
        length: number(0).unwrap_or(0),
        ip_length: number(1).unwrap_or(0),
        src: field(2).to_owned(),
        dst: field(3).to_owned(),
        protocol: number(4).unwrap_or(0) as u8,
        src_port: number(12).or_else(|| number(14)).unwrap_or(0) as u16,
        dst_port: number(13).or_else(|| number(15)).unwrap_or(0) as u16,
        bad_checksum: field(5) == "0" || transport.contains(&"0"),
        good_checksum: field(5) == "1" && transport == ["1"],
        payload: field(9).to_owned(),
        tcp: number(10).zip(number(11)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_of_tshark() {
        let udp = packet("142\t128\t10.0.0.1\t10.0.0.2\t17\t1\t\t1\t\t0001\t\t\t\t\t7\t9");
        assert_eq!((udp.src_port, udp.dst_port), (7, 9));
        assert!(udp.good_checksum && !udp.bad_checksum);
        assert_eq!((udp.length, udp.ip_length, udp.payload.as_str(), udp.tcp), (142, 128, "0001", None));
        let tcp = packet("66\t52\t10.0.0.1\t10.0.0.2\t6\t1\t0\t\t\t\t4711\t0");
        assert!(tcp.bad_checksum && !tcp.good_checksum);
        assert_eq!(tcp.tcp, Some((4711, 0)));
        let unchecked = packet("66\t52\t10.0.0.1\t10.0.0.2\t6\t2\t2\t\t\t\t4711\t0");
        assert!(!unchecked.good_checksum && !unchecked.bad_checksum);
    }
}
