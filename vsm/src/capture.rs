//! Captures: filters as libpcap understands them, and files as Wireshark reads them.
//!
//! A filter is compiled by libpcap itself, so that it means what it means to tcpdump; what comes out is a program for the
//! module, which checks it again before it runs it (decision 0017).

use std::borrow::Cow;
use std::sync::Mutex;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness};
use proto::capture::{Frame, Insn};

/// Most characters of a filter.
pub const FILTER_MAX: usize = 511;
/// Most instructions of a filter, as in the module.
const INSNS_MAX: usize = 4096;

/// Older versions of libpcap compile one filter at a time.
static COMPILING: Mutex<()> = Mutex::new(());

/// Compiles a filter for Ethernet frames.
///
/// # Errors
/// What libpcap says of it.
pub fn compile(filter: &str) -> Result<Vec<Insn>, String> {
    if filter.len() > FILTER_MAX || filter.chars().any(char::is_control) {
        return Err(format!("a filter has up to {FILTER_MAX} printable characters"));
    }
    let _one_at_a_time = COMPILING.lock();
    let dead = pcap::Capture::dead(pcap::Linktype::ETHERNET).map_err(said)?;
    let program = dead.compile(filter, true).map_err(said)?;
    let insns = program.get_instructions();
    if insns.len() > INSNS_MAX {
        return Err(format!("it becomes {} instructions, {INSNS_MAX} can be run", insns.len()));
    }
    // The crate shows an instruction only as the line of `tcpdump -ddd`.
    insns.iter().map(|insn| read(&insn.to_string()).ok_or_else(|| "libpcap gave no program".to_owned())).collect()
}

fn said(error: pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text,
        other => other.to_string(),
    }
}

fn read(line: &str) -> Option<Insn> {
    let mut words = line.split(' ');
    let insn = Insn {
        code: words.next()?.parse().ok()?,
        jt: words.next()?.parse().ok()?,
        jf: words.next()?.parse().ok()?,
        k: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(insn)
}

/// What a file says of itself.
pub struct About<'a> {
    /// Name of the switch and of the software.
    pub switch: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// What it is on the host, such as `module 3 (host1), tap0`.
    pub description: &'a str,
    /// The filter; empty for none.
    pub filter: &'a str,
    /// Octets that were kept of each frame.
    pub snap: u32,
    /// Said of the whole, such as how many frames were lost.
    pub comment: &'a str,
}

/// A pcapng file of these frames, with the direction of each.
///
/// # Errors
/// They can't be written.
pub fn file(about: &About<'_>, frames: &[Frame]) -> Result<Vec<u8>, String> {
    let failed = |error: pcap_file::PcapError| error.to_string();
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        options: vec![
            SectionHeaderOption::Comment(Cow::Owned(about.comment.to_owned())),
            SectionHeaderOption::UserApplication(Cow::Owned(about.switch.to_owned())),
        ],
        ..SectionHeaderBlock::default()
    };
    let mut writer = PcapNgWriter::with_section_header(Vec::new(), section).map_err(failed)?;
    let mut options = vec![
        InterfaceDescriptionOption::IfName(Cow::Borrowed(about.interface)),
        InterfaceDescriptionOption::IfDescription(Cow::Borrowed(about.description)),
        // Nanoseconds.
        InterfaceDescriptionOption::IfTsResol(9),
    ];
    if !about.filter.is_empty() {
        let text: Vec<u8> = [0].into_iter().chain(about.filter.bytes()).collect();
        options.push(InterfaceDescriptionOption::IfFilter(Cow::Owned(text)));
    }
    let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: about.snap, options };
    writer.write_pcapng_block(interface).map_err(failed)?;
    for frame in frames {
        // epb_flags: 1 inbound, 2 outbound, as the switch sees it.
        let direction = if frame.received { 1 } else { 2 };
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(frame.at_ns),
            original_len: frame.length,
            data: Cow::Borrowed(&frame.octets),
            options: vec![EnhancedPacketOption::Flags(direction)],
        };
        writer.write_pcapng_block(block).map_err(failed)?;
    }
    Ok(writer.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_libpcaps() {
        let insn = |code, jt, jf, k| Insn { code, jt, jf, k };
        let ip = compile("ip").unwrap();
        assert_eq!(ip[..2], [insn(0x28, 0, 0, 12), insn(0x15, 0, 1, 0x800)]);
        assert_eq!(compile("").unwrap().len(), 1);
        assert!(compile("tcp port").unwrap_err().contains("syntax error"));
        assert!(compile(&"x".repeat(512)).is_err() && compile("ip\0").is_err());
    }

    #[test]
    fn a_file_reads_back() {
        let frame =
            |received, at_ns| Frame { at_ns, received, length: 1500, octets: vec![7; 61], headers: String::new() };
        let frames = [frame(true, 1_795_222_923_000_000_001), frame(false, 1_795_222_923_000_000_002)];
        let about = About {
            switch: "n1000v",
            interface: "Vethernet1",
            description: "module 3 (host1)",
            filter: "ip",
            snap: 61,
            comment: "2 frames",
        };
        let octets = file(&about, &frames).unwrap();
        let mut reader = pcap_file::pcapng::PcapNgReader::new(&octets[..]).unwrap();
        let mut seen = Vec::new();
        while let Some(block) = reader.next_block() {
            if let pcap_file::pcapng::Block::EnhancedPacket(packet) = block.unwrap() {
                seen.push((
                    packet.timestamp.as_nanos() as u64,
                    packet.original_len,
                    packet.data.len(),
                    packet.options[0].clone().into_owned(),
                ));
            }
        }
        let want = |at, flags| (at, 1500, 61, EnhancedPacketOption::Flags(flags));
        assert_eq!(seen, [want(1_795_222_923_000_000_001, 1), want(1_795_222_923_000_000_002, 2)]);
    }
}
