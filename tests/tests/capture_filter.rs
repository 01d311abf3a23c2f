//! A filter of a capture means what it means to tcpdump: the same program, and of many frames the same ones.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use vswitch::observe::bpf::{Insn, Program};

const FILTERS: &[&str] = &[
    "",
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp port 53",
    "icmp[icmptype] == icmp-echo",
    "host 10.0.0.1",
    "src host 10.0.0.2 and dst port 80",
    "net 10.0.0.0/30",
    "not (net 10.0.0.0/30 or arp)",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp port 80 or tcp port 443",
    "portrange 1000-2000",
    "vlan",
    "vlan 10 and ip",
    "vlan 10 and tcp dst port 80",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:02 and not broadcast",
    "ether broadcast",
    "ether multicast",
    "ip multicast",
    "greater 100",
    "less 64",
    "len >= 90 and len <= 200",
    "ether[0] & 1 = 0 and ip[0] & 0xf != 5",
    "ip[2:2] > 80",
    "ip6 host fd00::1",
    "ip6 and udp",
    "icmp6",
    "ip proto 47",
    "ip[6:2] & 0x1fff != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ether proto 0x88cc",
    "udp[4:2] % 7 = 3",
    "ip[8] * 2 > 100",
    "(ip[1] ^ 0xff) >> 2 = 63",
    "len / 3 = 25",
];

/// A small generator of its own: the same frames on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn transport(random: &mut Random, protocol: u8) -> Vec<u8> {
    let port = |random: &mut Random| random.of(&[80u16, 443, 53, 1500, 40_000]).to_be_bytes();
    let (from, to) = (port(random), port(random));
    let mut octets = [from, to].concat();
    match protocol {
        6 => {
            let offset = random.of(&[0x50, 0x60, 0xf0]);
            octets.extend([0; 8]);
            octets.extend([offset, random.of(&[0x02, 0x10, 0x11, 0x18]), 0, 0, 0, 0, 0, 0]);
            octets.extend(vec![1; usize::from(offset >> 2) - 20]);
            octets.extend(random.of(&[&b"GET / HTTP/1.1"[..], b"hello", b""]));
        }
        17 => {
            octets.extend((8 + random.below(40) as u16).to_be_bytes());
            octets.extend([0; 20]);
        }
        _ => octets = vec![random.of(&[0, 8, 3]), 0, 0, 0, 1, 2, 3, 4],
    }
    octets
}

fn ipv4(random: &mut Random) -> Vec<u8> {
    let protocol = random.of(&[1, 6, 17, 47]);
    let inside = transport(random, protocol);
    let words = random.of(&[5u8, 5, 6]);
    let mut octets = vec![0x40 | words, random.of(&[0, 0xff, 8])];
    octets.extend((u16::from(words) * 4 + inside.len() as u16).to_be_bytes());
    octets.extend([0, 7]);
    octets.extend(random.of(&[[0u8, 0], [0x40, 0], [0x20, 3]]));
    octets.extend([random.of(&[1, 64, 255]), protocol, 0, 0]);
    octets.extend([10, 0, 0, random.of(&[1, 2, 9])]);
    octets.extend(random.of(&[[10, 0, 0, 1], [224, 0, 0, 5], [192, 168, 1, 1]]));
    octets.extend(vec![0; usize::from(words - 5) * 4]);
    octets.extend(inside);
    octets
}

fn ipv6(random: &mut Random) -> Vec<u8> {
    let protocol = random.of(&[6, 17, 58]);
    let inside = transport(random, protocol);
    let hops = random.of(&[false, true]);
    let mut octets = vec![0x60, 0, 0, 0];
    octets.extend((inside.len() as u16 + if hops { 8 } else { 0 }).to_be_bytes());
    octets.extend([if hops { 0 } else { protocol }, 64]);
    for _ in 0..2 {
        octets.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, random.of(&[1, 2])]);
    }
    if hops {
        octets.extend([protocol, 0, 1, 4, 0, 0, 0, 0]);
    }
    octets.extend(inside);
    octets
}

fn frame(random: &mut Random) -> Vec<u8> {
    let mut octets = random.of(&[[2, 0, 0, 0, 0, 1], [0xff; 6], [1, 0, 0x5e, 0, 0, 5]]).to_vec();
    octets.extend([2, 0, 0, 0, 0, random.of(&[1, 2])]);
    for _ in 0..random.of(&[0, 0, 0, 1, 2]) {
        octets.extend([0x81, 0, 0, random.of(&[10, 20])]);
    }
    let (kind, inside) = match random.below(6) {
        0 | 1 => (0x0800u16, ipv4(random)),
        2 => (0x86dd, ipv6(random)),
        3 => (0x0806, [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 20]].concat()),
        4 => (0x88cc, vec![2; 30]),
        _ => (0x0800, (0..random.below(60)).map(|n| (n * 37) as u8).collect()),
    };
    octets.extend(kind.to_be_bytes());
    octets.extend(inside);
    // Some are cut short, and of some an octet is wrong.
    if random.below(5) == 0 {
        let cut = random.below(octets.len() as u64 + 1);
        octets.truncate(cut as usize);
    }
    if random.below(3) == 0 && !octets.is_empty() {
        let at = random.below(octets.len() as u64) as usize;
        octets[at] = random.next() as u8;
    }
    octets
}

fn compiled(filter: &str) -> Vec<Insn> {
    let insns = vsm::capture::compile(filter).unwrap_or_else(|e| panic!("{filter}: {e}"));
    insns.iter().map(|i| Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
}

fn tcpdump(args: &[&str]) -> Vec<u8> {
    let done = Command::new("tcpdump").args(args).output().expect("tcpdump is there");
    assert!(done.status.success(), "tcpdump {args:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

#[test]
fn a_filter_lets_pass_what_tcpdump_lets_pass() {
    let mut random = Random(1);
    // The number of each frame is its time.
    let frames: Vec<Vec<u8>> = (0..4000).map(|_| frame(&mut random)).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("frames.pcap");
    let mut writer = PcapWriter::new(std::fs::File::create(&path).unwrap()).unwrap();
    for (n, frame) in frames.iter().enumerate() {
        writer.write_packet(&PcapPacket::new(Duration::from_secs(n as u64), frame.len() as u32, frame)).unwrap();
    }
    drop(writer);
    let mut passed = 0;
    for filter in FILTERS {
        let program = Program::new(&compiled(filter)).unwrap_or_else(|e| panic!("{filter}: {e}"));
        let ours: BTreeSet<u64> =
            (0..).zip(&frames).filter(|(_, frame)| program.matches(&[], frame)).map(|(n, _)| n).collect();
        let theirs = tcpdump(&["-r", path.to_str().unwrap(), "-w", "-", filter]);
        let mut reader = PcapReader::new(&theirs[..]).unwrap();
        let mut seen = BTreeSet::new();
        while let Some(packet) = reader.next_packet() {
            seen.insert(packet.unwrap().timestamp.as_secs());
        }
        assert_eq!(ours, seen, "{filter}");
        passed += usize::from(!ours.is_empty() && ours.len() < frames.len());
    }
    assert!(passed >= FILTERS.len() - 3, "{passed} of {} filters tell frames apart", FILTERS.len());
}

#[test]
fn a_filter_becomes_the_program_that_tcpdump_prints() {
    for filter in FILTERS {
        let text = String::from_utf8(tcpdump(&["-y", "EN10MB", "-ddd", filter])).unwrap();
        let numbers = |line: &str| -> Vec<u32> { line.split(' ').map(|n| n.parse().unwrap()).collect() };
        // How much of a frame is to be kept is a number of the one who asks.
        let calm = |insn: &[u32]| if insn[0] == 6 && insn[3] != 0 { vec![6, 0, 0, 1] } else { insn.to_vec() };
        let theirs: Vec<Vec<u32>> = text.lines().skip(1).map(|line| calm(&numbers(line))).collect();
        let ours: Vec<Vec<u32>> =
            compiled(filter).iter().map(|i| calm(&[i.code.into(), i.jt.into(), i.jf.into(), i.k])).collect();
        assert_eq!(ours, theirs, "{filter}");
    }
}

/// `protochain` loops; a module runs no program that might not end.
#[test]
fn what_loops_is_refused() {
    assert!(Program::new(&compiled("ip6 protochain 17")).is_err());
}
