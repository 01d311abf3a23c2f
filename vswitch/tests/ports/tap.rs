//! Taps.

use std::process::Command;

use vswitch::frame::vnet::{GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use vswitch::frame::{Buffer, TxFrame};
use vswitch::port::tap::Tap;
use vswitch::port::{Error, Offloads, Port, Sent};

use crate::lab::{Loop, experiment, iperf, ping, plain, run, udp_segments};

#[test]
fn taps_with_virtio_header_carry_superframes_of_tcp_and_udp() {
    let mut lab = lab!("tv");
    let (a, b) = (Tap::open("port-tv0", true).unwrap(), Tap::open("port-tv1", true).unwrap());
    assert_eq!(a.offloads(), Offloads::ALL, "this kernel has USO");
    // The devices leave this namespace while the files stay.
    let one = lab.guest("tv1", "port-tv0", "10.1.0.1/24");
    let two = lab.guest("tv2", "port-tv1", "10.1.0.2/24");
    let both = Loop::start(Box::new(a), Box::new(b));
    ping(&one, "10.1.0.2");
    let rate = iperf(&two, &one, "10.1.0.2");
    udp_segments(&two, &one, "10.1.0.2");
    let passed = both.passed();
    println!("{rate:.0} Mbit/s {passed:?}");
    assert!(passed.gso.contains(&GSO_TCPV4) && passed.gso.contains(&GSO_UDP_L4), "{passed:?}");
    assert!(passed.longest > 30_000 && passed.refused == 0 && passed.segments == 0, "{passed:?}");
}

#[test]
fn a_plain_tap_gets_whole_checksums_and_segments_from_one_with_virtio_header() {
    let mut lab = lab!("tp");
    let (a, b) = (Tap::open("port-tp0", true).unwrap(), Tap::open("port-tp1", false).unwrap());
    assert_eq!(b.offloads(), Offloads::NONE);
    let one = lab.guest("tp1", "port-tp0", "10.1.0.1/24");
    let two = lab.guest("tp2", "port-tp1", "10.1.0.2/24");
    let both = Loop::start(Box::new(a), Box::new(b));
    ping(&two, "10.1.0.1");
    let rate = iperf(&two, &one, "10.1.0.2");
    udp_segments(&two, &one, "10.1.0.2");
    let passed = both.passed();
    println!("{rate:.0} Mbit/s {passed:?}");
    assert!(passed.segments > 100 && passed.completed > 1 && passed.refused == 0, "{passed:?}");
    // What a plain tap must not do: lose corrupt segments silently.
    let errors = run(&format!("ip netns exec {two} nstat -az TcpInCsumErrors UdpInCsumErrors IpInHdrErrors"));
    for line in errors.lines().filter(|line| !line.starts_with('#')) {
        assert_eq!(line.split_whitespace().nth(1), Some("0"), "{errors}");
    }
}

#[test]
fn a_tap_that_is_down_is_not_gone_and_one_that_was_deleted_is() {
    let _lab = lab!("td");
    for vnet in [false, true] {
        let mut tap = Tap::open("port-td", vnet).unwrap();
        let mut buffers = [Buffer::new(0)];
        let frame = experiment(&[0; 50]);
        assert_eq!(tap.rx(&mut buffers).unwrap(), 0);
        assert_eq!(tap.tx(&[plain(&frame)]), Sent { accepted: 0, refused: 1, refused_set: 1 }, "down");
        run("ip link set port-td up");
        // 13 octets are no frame: refused, and its neighbours go.
        let sent = tap.tx(&[plain(&frame), plain(&frame[..13]), plain(&frame)]);
        assert_eq!(sent, Sent { accepted: 2, refused: 1, refused_set: 2 });
        run("ip link set port-td down");
        assert_eq!(tap.rx(&mut buffers).unwrap(), 0);
        assert_eq!(tap.tx(&[plain(&frame)]).refused, 1);
        run("ip link del port-td");
        assert!(matches!(tap.rx(&mut buffers), Err(Error::Gone)));
        assert!(matches!(tap.rx(&mut buffers), Err(Error::Gone)));
        assert_eq!(tap.tx(&[plain(&frame); 2]), Sent { accepted: 0, refused: 2, refused_set: 3 });
    }
}

#[test]
fn a_tap_refuses_a_virtio_header_that_lies_and_needs_none_for_the_next() {
    let _lab = lab!("tl");
    let mut tap = Tap::open("port-tl", true).unwrap();
    run("ip link set port-tl up");
    let frame = experiment(&[0; 50]);
    let lie = VnetHdr { flags: NEEDS_CSUM, csum_start: 60, csum_offset: 16, ..VnetHdr::PLAIN };
    let gso = VnetHdr { gso_type: 0x33, gso_size: 1000, ..VnetHdr::PLAIN };
    let of = |vnet| TxFrame { head: &frame[..12], rest: &frame[12..], vnet, copy: false };
    let sent = tap.tx(&[of(lie), of(VnetHdr::PLAIN), of(gso), of(VnetHdr::PLAIN)]);
    assert_eq!(sent, Sent { accepted: 2, refused: 2, refused_set: 0b101 });
}

#[test]
fn a_persistent_tap_is_used_again_whatever_it_was_before() {
    let mut lab = lab!("tr");
    run("ip tuntap add dev port-tr mode tap");
    let guest = lab.space("tr1");
    for vnet in [true, false, true] {
        let mut tap = Tap::open("port-tr", vnet).unwrap();
        run("ip link set port-tr up");
        let features = run("ethtool -k port-tr");
        assert_eq!(features.contains("tcp-segmentation-offload: on"), vnet, "{features}");
        let busy = Tap::open("port-tr", vnet).err().unwrap().to_string();
        assert_eq!(busy, "port-tr: tap is in use by another process");
        let frame = experiment(&[0; 50]);
        assert_eq!(tap.tx(&[plain(&frame)]).accepted, 1);
    }
    drop(guest);
    // One that is ours alone goes with us, unless it is told not to.
    let tap = Tap::open("port-tr2", true).unwrap();
    assert_eq!(tap.name(), "port-tr2");
    tap.persist(true).unwrap();
    drop(tap);
    let tap = Tap::open("port-tr2", false).unwrap();
    tap.persist(false).unwrap();
    drop(tap);
    assert!(!Command::new("ip").args(["link", "show", "port-tr2"]).output().unwrap().status.success());
}

#[test]
fn what_is_no_free_tap_is_refused_with_the_reason() {
    const INNER: &str = "PORTS_TEST_INNER";
    if std::env::var_os(INNER).is_none() {
        // Once more, in a process that sees its namespace in /sys: the reasons are read there.
        let lab = lab!("te");
        let status = Command::new("ip")
            .args(["netns", "exec", &lab.spaces[0]])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "tap::what_is_no_free_tap_is_refused_with_the_reason"])
            .env(INNER, "1")
            .status();
        assert!(status.unwrap().success());
        return;
    }
    run("ip tuntap add dev port-te-mq mode tap multi_queue");
    run("ip tuntap add dev port-te-tun mode tun");
    run("ip link add port-te-v0 type veth peer name port-te-v1");
    for vnet in [false, true] {
        let error = |name| Tap::open(name, vnet).err().unwrap().to_string();
        assert_eq!(error("port-te-mq"), "port-te-mq: tap was made with multi_queue; make it with one queue");
        assert_eq!(error("port-te-tun"), "port-te-tun: device is a tun (layer 3), not a tap");
        assert_eq!(error("port-te-v0"), "port-te-v0: device exists and is not a tap");
    }
}
