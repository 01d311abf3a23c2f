//! The instruments of the checks, held against a cable that loses nothing and changes nothing.
//!
//! Needs root and taps; without them there is nothing to test and the test says so.

use std::time::Duration;

use tests::capture::Capture;
use tests::command::Run;
use tests::frames::{BROADCAST, ETHERTYPE_LOCAL, ethernet, untag};
use tests::lab::plan::Vm;
use tests::netns::{self, ip};
use tests::packet::Wire;
use tests::ping;
use tests::traffic::{self, Burst, Connection, KernelCount, connect};

/// Two namespaces and a cable, removed at the end.
struct Cable {
    ends: [Vm; 2],
}

impl Cable {
    fn new(prefix: &str) -> Option<Cable> {
        if let Some(reason) = netns::unable() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let end = |n: u8| Vm {
            name: format!("vm{n}"),
            host: "host1".to_owned(),
            netns: format!("{prefix}-{n}"),
            ifname: "eth0".to_owned(),
            ip: [10, 10, 0, n].into(),
            mac: format!("02:00:0a:0a:00:{n:02x}"),
            profile: "vm".to_owned(),
        };
        let cable = Cable { ends: [end(1), end(2)] };
        let [a, b] = &cable.ends;
        netns::add(&a.netns).expect("added");
        netns::add(&b.netns).expect("added");
        ip(&a.netns, &format!("link add eth0 type veth peer name eth0 netns {}", b.netns)).expect("a cable");
        for vm in &cable.ends {
            ip(&vm.netns, &format!("link set eth0 address {} up", vm.mac)).expect("up");
            ip(&vm.netns, &format!("addr add {}/24 dev eth0", vm.ip)).expect("an address");
        }
        // The kernel takes a moment to see that the cable is plugged in.
        ping::all_pairs_reach(&cable.ends, Duration::from_secs(3)).expect("they reach each other");
        Some(cable)
    }

    /// Every frame on the wire is complete: no super-frames, no checksums left to do.
    fn without_offloads(self) -> Cable {
        for vm in &self.ends {
            Run::new("ethtool -K eth0 tx off tso off gso off gro off").netns(&vm.netns).text().expect("ethtool");
        }
        self
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for vm in &self.ends {
            if let Err(error) = netns::delete(&vm.netns) {
                eprintln!("{error}");
            }
        }
    }
}

#[test]
fn tags_are_read_as_they_were_sent() {
    let Some(cable) = Cable::new("tina") else { return };
    let [a, b] = &cable.ends;
    let (send, receive) = (Wire::open(&a.netns, "eth0").expect("open"), Wire::open(&b.netns, "eth0").expect("open"));
    for tags in [vec![], vec![10], vec![10, 20]] {
        let frame = ethernet(BROADCAST, [2, 0, 0, 0, 0, 9], &tags, ETHERTYPE_LOCAL, b"tagged");
        send.send(&frame).expect("sent");
        let got = receive.recv_for(Duration::from_millis(100)).expect("received");
        let ours: Vec<_> =
            got.iter().filter(|f| untag(f).is_some_and(|(_, kind, _)| kind == ETHERTYPE_LOCAL)).collect();
        assert_eq!(ours, [&frame], "{tags:?}");
    }
    assert!(send.recv(Duration::from_millis(50)).expect("asked").is_none(), "a socket does not hear itself");
}

#[test]
fn counts_and_captures_agree() {
    let Some(cable) = Cable::new("tinb").map(Cable::without_offloads) else { return };
    let [a, b] = &cable.ends;
    let folder = tempfile::tempdir().expect("a folder");
    let capture = Capture::on(&b.netns, "eth0", &folder.path().join("capture"), "udp or tcp").expect("started");
    let burst = Burst { from_port: 4001, to_port: 4002, count: 300, payload: 100 };
    let arrived = traffic::udp(a, b, burst).expect("sent");
    assert!(arrived.len() == 300 && arrived.values().all(|n| *n == 1));
    let before = KernelCount::of(a).expect("counted");
    assert!(traffic::iperf(a, b, 4003, 5).expect("a run") > 0.0);
    std::thread::sleep(Duration::from_millis(200));
    let count = KernelCount::of(a).expect("counted").since(before);
    let packets = capture.stop().expect("complete");
    let udp = packets.read("udp.srcport == 4001").expect("read");
    assert_eq!(udp.iter().map(|p| p.ip_length).sum::<u64>(), burst.ip_octets());
    let tcp = packets.read(&format!("tcp.port == 4003 && ip.src == {}", a.ip)).expect("read");
    assert_eq!(tcp.len() as u64, count.segments);
    assert_eq!(tcp.iter().map(|p| p.ip_length).sum::<u64>(), count.wire_octets());
    // What arrived: a capture sees the end's own frames before its device has finished them.
    let all = packets.read(&format!("(udp or tcp) && ip.src == {}", a.ip)).expect("read");
    assert!(all.len() > 300, "{}", all.len());
    assert!(all.iter().all(|p| p.good_checksum && !p.bad_checksum), "{:?}", all.iter().find(|p| !p.good_checksum));
}

#[test]
fn a_bad_checksum_is_seen() {
    // With offloads on, the frames on a veth have checksums that are still to do.
    let Some(cable) = Cable::new("tinc") else { return };
    let [a, b] = &cable.ends;
    let folder = tempfile::tempdir().expect("a folder");
    let capture = Capture::on(&b.netns, "eth0", &folder.path().join("capture"), "udp").expect("started");
    let burst = Burst { from_port: 4001, to_port: 4002, count: 3, payload: 100 };
    assert_eq!(traffic::udp(a, b, burst).expect("sent").len(), 3);
    let all = capture.stop().expect("complete").read("udp").expect("read");
    assert_eq!(all.iter().filter(|p| p.bad_checksum).count(), 3, "{all:?}");
}

#[test]
fn knows_silence_from_an_answer() {
    let Some(cable) = Cable::new("tind") else { return };
    let [a, b] = &cable.ends;
    assert_eq!(connect(a, b, (b.ip, 80).into()).expect("tried"), Connection::Works);
    let storm = ping::Storm::start(&cable.ends, 30).expect("started");
    storm.no_loss().expect("nothing is lost");
    let storm = ping::Storm::start(&cable.ends, 100).expect("started");
    std::thread::sleep(Duration::from_millis(300));
    ip(&b.netns, "link set eth0 down").expect("down");
    assert!(storm.no_loss().is_err(), "the loss is seen");
    assert!(!ping::reaches(a, b, 1));
    assert!(ping::all_pairs_reach(&cable.ends, Duration::ZERO).is_err());
    ip(&b.netns, "link set eth0 up").expect("up");
    ip(&b.netns, "link set eth0 arp off").expect("deaf");
    Run::new("ip neigh flush dev eth0").netns(&a.netns).text().expect("flushed");
    assert_eq!(connect(a, b, (b.ip, 80).into()).expect("tried"), Connection::Silent);
}
