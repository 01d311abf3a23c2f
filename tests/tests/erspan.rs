//! ERSPAN as others read it: tshark and scapy give back what was put in, and intrusion detectors come through to the frame.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapWriter};
use proto::addr::VlanId;
use tests::frames;
use tests::sensor::{Report, Sensor, check};
use vswitch::observe::erspan::{Direction, Encapsulation, Form, HEADERS_MAX, Sighting, Stamp, Tag};

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const FORMS: [Form; 5] = [
    Form::Two,
    Form::Three(Stamp::Micros100),
    Form::Three(Stamp::Nanos100),
    Form::Three(Stamp::Ieee1588),
    Form::Three(Stamp::Nexus1000v(0x123)),
];
const TIME: Duration = Duration::new(1_800_000_000, 987_654_321);

fn encapsulation(form: Form) -> Encapsulation {
    let (origin, destination) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 9));
    Encapsulation {
        origin: origin.into(),
        destination: destination.into(),
        session: 77,
        form,
        ttl: 63,
        dscp: 10,
        fragment: false,
    }
}

fn sighting(tag: Tag) -> Sighting {
    Sighting { tag, port: 0x1234, direction: Direction::Egress, truncated: false, time: TIME }
}

/// The copy in its outer frame.
fn outer(form: Form, tag: Tag, sequence: u32, frame: &[u8]) -> Vec<u8> {
    let mut headers = [0; HEADERS_MAX];
    let length = encapsulation(form).write(&sighting(tag), sequence, frame.len(), &mut headers);
    frames::ethernet([2; 6], [4; 6], &[], 0x0800, &[&headers[..length], frame].concat())
}

/// An end of the conversation: its MAC address, its address and its port.
type End = ([u8; 6], (Ipv4Addr, u16));

/// Who sends and who receives; `way` is from client to server.
fn ends(way: bool) -> (End, End) {
    let (client, server) = (([2; 6], (CLIENT, 40_000)), ([4; 6], (SERVER, 80)));
    if way { (client, server) } else { (server, client) }
}

fn segment(way: bool, tags: &[u16]) -> Vec<u8> {
    let ((src, a), (dst, b)) = ends(way);
    frames::ethernet(dst, src, tags, 0x0800, &frames::tcp(a, b, frames::SYN))
}

fn datagram(way: bool, tags: &[u16], payload: &[u8]) -> Vec<u8> {
    let ((src, a), (dst, b)) = ends(way);
    frames::ethernet(dst, src, tags, 0x0800, &frames::udp(a, b, payload))
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(std::fs::File::create(path).unwrap()).unwrap();
    for frame in frames {
        writer.write_packet(&PcapPacket::new(Duration::from_secs(1), frame.len() as u32, frame)).unwrap();
    }
}

fn said(program: &str, args: &[&str]) -> Vec<Vec<String>> {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}; `make deps`"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// A copy of each form, with the tag in the header.
fn capture(path: &Path) -> Vec<u8> {
    let inner = datagram(true, &[], b"mirrored");
    let copies = FORMS.iter().zip(1..).map(|(form, n)| outer(*form, Tag::Removed(5 << 13 | 100), n, &inner));
    write(path, &copies.collect::<Vec<_>>());
    inner
}

#[test]
fn tshark_reads_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("erspan.pcap");
    capture(&path);
    let fields = [
        "gre.sequence_number",
        "erspan.version",
        "erspan.vlan",
        "erspan.cos",
        "erspan.spanid",
        "erspan.truncated",
        "erspan.index",
        "erspan.timestamp",
        "erspan.direction",
        "erspan.gra",
        "erspan.pid1.vsmid",
        "erspan.pid1.port_index",
        "erspan.pid3.port_index",
        "erspan.pid3.timestamp",
    ];
    let mut args = vec!["-n", "-r", path.to_str().unwrap(), "-T", "fields"];
    fields.iter().for_each(|field| args.extend(["-e", field]));
    let rows = said("tshark", &args);
    let unit = |ns: u128| ((TIME.as_nanos() / ns) as u32).to_string();
    let (micros, nanos) = (unit(100_000), unit(100));
    let row = |text: String| text.split('|').map(str::to_owned).collect::<Vec<String>>();
    assert_eq!(rows[0], row("1|1|100|5|77|0|4660|||||||".into()));
    assert_eq!(rows[1], row(format!("2|2|100|5|77|0||{micros}|1|0||||")));
    assert_eq!(rows[2], row(format!("3|2|100|5|77|0||{nanos}|1|1||||")));
    assert_eq!(rows[3], row("4|2|100|5|77|0||987654321|1|2|||4660|1800000000".into()));
    assert_eq!(rows[4], row(format!("5|2|100|5|77|0||{micros}|1|0|291|4660||")));
    // The packets inside, with their checksums looked at; and nothing malformed.
    let options = ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"];
    let inner =
        ["-n", "-r", path.to_str().unwrap(), "-Y", "udp.dstport == 80 && udp.checksum.status == 1 && !_ws.malformed"];
    let fields = ["-T", "fields", "-e", "ip.src", "-e", "ip.checksum.status"];
    let rows = said("tshark", &[&inner[..], &options, &fields].concat());
    assert_eq!(rows, vec![row("192.0.2.1,10.1.0.1|1,1".into()); 5]);
}

#[test]
fn scapy_reads_every_form() {
    const SCRIPT: &str = "
import sys
from scapy.all import rdpcap, raw, Ether, GRE
from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
for packet in rdpcap(sys.argv[1]):
    head = packet.getlayer(ERSPAN_II) or packet.getlayer(ERSPAN_III)
    sub = packet.getlayer(ERSPAN_PlatformSpecific)
    frame = (sub or head).payload
    assert isinstance(frame, Ether)
    fields = [packet[GRE].seqence_number, head.ver, head.vlan, head.cos, head.t, head.session_id]
    print(*fields, sub.platf_id if sub else '-', raw(frame).hex(), sep='\\t')
";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("erspan.pcap");
    let inner = capture(&path);
    let hex: String = inner.iter().map(|octet| format!("{octet:02x}")).collect();
    // Debian's package is for Debian's Python.
    let rows = said("/usr/bin/python3", &["-c", SCRIPT, path.to_str().unwrap()]);
    let want = [(1, 1, "-"), (2, 2, "-"), (3, 2, "-"), (4, 2, "3"), (5, 2, "1")];
    let want = want.map(|(n, version, sub)| format!("{n} {version} 100 5 0 77 {sub} {hex}"));
    assert_eq!(rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>(), want);
}

fn judged(sensor: Sensor, copies: &[Vec<u8>]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copies.pcap");
    write(&path, copies);
    check(sensor, &path, true).unwrap()
}

/// A question and its answer, both with the VLAN in the header.
fn conversation(form: Form) -> Vec<Vec<u8>> {
    let access = Tag::None(VlanId::new(10));
    let frames = [segment(true, &[]), segment(false, &[]), datagram(true, &[], b"q"), datagram(false, &[], b"a")];
    frames
        .iter()
        .zip(0..)
        .map(|(frame, n)| outer(form, if n % 2 == 0 { access } else { Tag::Removed(10) }, n, frame))
        .collect()
}

#[test]
fn detectors_come_through_type_two_and_zeek_through_type_three() {
    let report = judged(Sensor::Suricata, &conversation(Form::Two));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.vlans.into_iter().collect::<Vec<_>>(), [(vec![10], 4)]);
    for form in FORMS {
        let report = judged(Sensor::Zeek, &conversation(form));
        assert!(report.is_clean(), "{form:?}: {report}");
        if form != Form::Two {
            let report = judged(Sensor::Suricata, &conversation(form));
            assert_eq!(
                report.to_string(),
                "4 frames, 0 read; not read: GRE protocol is not one that Suricata decodes (4)"
            );
        }
    }
    // With its tag kept the frame has one layer, too.
    let kept = [segment(true, &[10]), segment(false, &[10])].map(|frame| outer(Form::Two, Tag::Kept, 1, &frame));
    let report = judged(Sensor::Suricata, &kept);
    assert!(report.is_clean() && report.vlans[&vec![10]] == 2, "{report}");
}

/// Each of the ways in which a mirror can blind a detector is seen by the judge.
#[test]
fn what_blinds_a_detector_is_named() {
    let complaint = |sensor, copies: &[Vec<u8>]| judged(sensor, copies).to_string();
    let both = [Sensor::Suricata, Sensor::Zeek];
    // Type II without its sequence flag is taken for type I.
    let mut rubbish = outer(Form::Two, Tag::Removed(10), 1, &segment(true, &[]));
    rubbish[14 + 20] = 0;
    let read = judged(Sensor::Suricata, &[rubbish]);
    assert_eq!((read.read, read.vlans), (1, [(vec![], 1)].into()), "rubbish is read as a frame");
    let twice = outer(Form::Two, Tag::Removed(10), 1, &segment(true, &[10]));
    assert!(complaint(Sensor::Suricata, &[twice]).contains("the tag counts twice"));
    let halves = [(true, Tag::None(None)), (false, Tag::Removed(10))];
    let halves = halves.map(|(way, tag)| outer(Form::Two, tag, 1, &segment(way, &[])));
    assert!(complaint(Sensor::Suricata, &halves).contains("directions of a conversation have different VLANs (1)"));
    assert!(judged(Sensor::Zeek, &halves).is_clean(), "Zeek's connections know no VLANs");
    let mut partial = segment(true, &[]);
    partial[14 + 20 + 16] ^= 0x55;
    let mut cut = datagram(true, &[], &[7; 1400]);
    cut.truncate(1000);
    let ((_, a), (_, b)) = ends(true);
    let mut data = frames::tcp(a, b, 0x10);
    data.extend(b"GET /");
    let total = (data.len() as u16).to_be_bytes();
    data[2..4].copy_from_slice(&total);
    let data = frames::ethernet([4; 6], [2; 6], &[], 0x0800, &data);
    for sensor in both {
        let copy = |frame: &[u8]| outer(Form::Two, Tag::None(VlanId::new(10)), 1, frame);
        assert!(complaint(sensor, &[copy(&partial)]).contains("checksum is wrong (1)"));
        assert!(complaint(sensor, &[copy(&cut)]).contains("it was cut (1)"));
        assert!(complaint(sensor, &[copy(&data), copy(&data)]).contains("the same segment twice (1)"));
        let mut fragment = copy(&cut);
        fragment[14 + 6] |= 0x20;
        assert!(complaint(sensor, &[fragment]).contains("outer packet is a fragment"));
    }
}

/// What a session can watch of drops is what the switch counts.
#[test]
fn the_command_line_knows_every_reason_of_a_drop() {
    let counted: Vec<&str> = vswitch::verdict::DropReason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(vsm::config::monitor::DROP_REASONS, counted);
}
