//! Mixed frames through SPAN and ERSPAN, and judges that know nothing of the switch: `judge.py` works out anew what each
//! session must deliver and holds every octet against it, scapy reads the headers, and tshark looks for what is malformed
//! and at every checksum.
//!
//! `MIRROR_FRAMES` is the number of frames, 4,000 without it; `make mirror-truth` sends a million. Where `SURICATA` names a
//! Suricata it reads the files too (`make ids`).

mod detector;
mod make;
#[path = "../net/mod.rs"]
mod net;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use make::{Made, Maker};
use net::{Net, access, config, trunk};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use vswitch::config::{Config, RemoteConfig, SessionConfig};
use vswitch::observe::erspan::{Encapsulation, Form, Stamp};
use vswitch::observe::mirror::CopyLoss;
use vswitch::observe::mirror::remote::{Packet, Remote};
use vswitch::port::{Offloads, PortId};
use vswitch::worker::Limits;

/// Frames that are judged at a time, which bounds the files.
const ROUND: usize = 20_000;
/// Packets of each file that scapy reads.
const BY_SCAPY: usize = 200;
const SENSOR: u16 = 9;

/// Keeps what is sent, by the number of its session.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<[Vec<Vec<u8>>; 2]>>);

impl Remote for Wire {
    fn send(&mut self, packets: &[Packet<'_>], outcome: &mut dyn FnMut(usize, Option<CopyLoss>)) {
        let mut kept = self.0.lock().unwrap();
        for (at, packet) in packets.iter().enumerate() {
            let IpAddr::V4(to) = packet.to else { panic!("{}", packet.to) };
            kept[usize::from(to.octets()[3]) - 1].push(packet.octets.to_vec());
            outcome(at, None);
        }
    }
}

fn switched() -> Config {
    let long = |port| vswitch::config::PortConfig { mtu: 65_535, ..port };
    let ports =
        vec![long(access(1, 10)), long(trunk(2, 1, "10,20")), long(access(3, 20)), long(trunk(SENSOR, 1, "1-100"))];
    let all = vec![PortId(1), PortId(2), PortId(3)];
    let session = |id, destinations, remotes| SessionConfig {
        id,
        rx_ports: all.clone(),
        tx_ports: all.clone(),
        destinations,
        remotes,
        ..SessionConfig::default()
    };
    let remote = |session: u16, form| {
        let (origin, destination) = (Ipv4Addr::new(192, 0, 2, 200), Ipv4Addr::new(192, 0, 2, session as u8 - 50));
        let encapsulation = Encapsulation {
            origin: origin.into(),
            destination: destination.into(),
            session,
            form,
            ttl: 64,
            dscp: 0,
            fragment: false,
        };
        vec![RemoteConfig { encapsulation, keep_tag: false }]
    };
    let mut config = config(ports);
    config.sessions = vec![
        session(1, vec![PortId(SENSOR)], Vec::new()),
        session(2, Vec::new(), remote(51, Form::Two)),
        session(3, Vec::new(), remote(52, Form::Three(Stamp::Ieee1588))),
    ];
    config
}

/// Sends frames, and returns what the sensor's port got.
fn carry(net: &mut Net, made: &[Made]) -> Vec<Vec<u8>> {
    let mut copies = Vec::new();
    for part in made.chunks(256) {
        for frame in part {
            net.send_vnet(frame.port, &frame.octets, frame.vnet);
        }
        net.turn();
        for (frame, vnet) in net.recv(SENSOR) {
            assert!(vnet.asks_nothing());
            copies.push(frame);
        }
        net.recv_all();
    }
    copies
}

fn write_pcap<'a>(path: &Path, frames: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut writer = PcapWriter::new(file).unwrap();
    for (front, frame) in frames {
        let whole = [front, frame].concat();
        writer.write_packet(&PcapPacket::new(Duration::from_secs(1), whole.len() as u32, &whole)).unwrap();
    }
}

fn write_sent(path: &Path, made: &[Made]) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    for Made { octets, vlan, vnet, .. } in made {
        file.write_all(&(octets.len() as u32).to_le_bytes()).unwrap();
        file.write_all(&vlan.to_le_bytes()).unwrap();
        file.write_all(&[vnet.flags, vnet.gso_type]).unwrap();
        for word in [vnet.gso_size, vnet.csum_start, vnet.csum_offset] {
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        file.write_all(octets).unwrap();
    }
}

/// What a program prints.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// tshark finds nothing malformed in a file of `copies` packets, and as many wrong transport checksums as were sent.
fn tshark(path: &Path, copies: usize, wrong: usize) {
    let mut args = vec!["-n", "-r", path.to_str().unwrap()];
    // One packet at a time: nothing is put together.
    let options = [
        "ip.check_checksum:TRUE",
        "tcp.check_checksum:TRUE",
        "udp.check_checksum:TRUE",
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "tcp.analyze_sequence_numbers:FALSE",
    ];
    options.iter().for_each(|option| args.extend(["-o", option]));
    // Else it guesses protocols from the octets of the payload, which are anything.
    args.extend(["-d", "tcp.port==40001,data", "-d", "udp.port==40001,data"]);
    args.extend(["-T", "fields", "-E", "separator=|"]);
    for field in ["ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "_ws.malformed"] {
        args.extend(["-e", field]);
    }
    let (mut rows, mut bad) = (0, 0);
    for row in said("tshark", &args).lines() {
        let columns: Vec<&str> = row.split('|').collect();
        assert!(columns[3].is_empty(), "packet {}: {row}", rows + 1);
        // 0 is bad, 1 good; there may be that of an outer header before.
        assert!(!columns[0].split(',').any(|status| status == "0"), "packet {}: {row}", rows + 1);
        bad += usize::from([columns[1], columns[2]].contains(&"0"));
        rows += 1;
    }
    assert_eq!((rows, bad), (copies, wrong), "{}: packets, wrong checksums", path.display());
}

fn frames() -> usize {
    std::env::var("MIRROR_FRAMES").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000)
}

#[test]
fn every_copy_is_what_it_must_be_to_judges_that_know_nothing_of_us() {
    let limits = Limits { flows: 65_536, macs: 256, macs_per_port: 64, records: 65_536, ..Limits::default() };
    let mut net = Net::with(switched(), limits, Offloads::ALL, 8192);
    let wire = Wire::default();
    net.mirror.set_remote(Box::new(wire.clone()));
    net.mirror.set_epoch(Duration::from_secs(1_700_000_000));
    let mut maker = Maker::new(20_261_127);
    // Everybody is known where he is, so that nothing is flooded.
    carry(&mut net, &maker.introductions());
    wire.0.lock().unwrap().iter_mut().for_each(Vec::clear);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mirror_truth/judge.py");
    let (mut left, mut judged) = (frames(), 0);
    let mut number = net.control.session_stats(2).copied;
    while left > 0 {
        let made: Vec<Made> = (0..left.min(ROUND)).map(|_| maker.frame()).collect();
        left -= made.len();
        let wrong = made.iter().filter(|frame| frame.wrong).count();
        let copies = carry(&mut net, &made);
        let far = std::mem::take(&mut *wire.0.lock().unwrap());
        write_sent(&file("sent"), &made);
        write_pcap(&file("span.pcap"), copies.iter().map(|frame| (&[][..], &frame[..])));
        let outer = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0];
        for (name, packets) in ["two.pcap", "three.pcap"].into_iter().zip(&far) {
            write_pcap(&file(name), packets.iter().map(|packet| (&outer[..], &packet[..])));
        }
        let scapy = if judged == 0 { BY_SCAPY } else { 0 };
        // Debian's scapy is for Debian's Python.
        let args = [script, folder.path().to_str().unwrap(), &number.to_string(), &scapy.to_string()];
        let count: usize = said("/usr/bin/python3", &args).trim().parse().unwrap();
        assert_eq!([copies.len(), far[0].len(), far[1].len()], [count; 3]);
        ["span.pcap", "two.pcap", "three.pcap"].iter().for_each(|name| tshark(&file(name), count, wrong));
        if let Some(program) = detector::program() {
            let read = |name| detector::read(&program, &file(name), folder.path());
            detector::agree(&read("span.pcap"), &read("two.pcap"), count as u64);
        }
        number += count as u64;
        judged += count;
        println!("{} frames left, {judged} copies of each session judged", left);
    }
    for id in 1..=3 {
        let stats = net.control.session_stats(id);
        assert_eq!((stats.copied, stats.dropped, stats.truncated), (number, 0, 0), "session {id}");
        assert!(stats.segmented > 0 && stats.matched == number);
    }
}
