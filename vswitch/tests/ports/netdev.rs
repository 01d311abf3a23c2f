//! Existing devices, here veths.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vswitch::frame::vnet::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use vswitch::frame::{BATCH, Buffer, FRAME_MAX, TxFrame};
use vswitch::port::netdev::Netdev;
use vswitch::port::tap::Tap;
use vswitch::port::{Error, Offloads, Port, Sent};

use crate::lab::{Lab, Loop, experiment, iperf, ping, plain, receive_until, run, settle, udp_segments, veth_pair};

#[test]
fn a_veth_and_a_tap_carry_superframes_to_each_other() {
    let mut lab = lab!("nv");
    let one = lab.veth("port-nv0", "port-nv1", "10.1.0.1/24");
    let tap = Tap::open("port-nv2", true).unwrap();
    let two = lab.guest("nv3", "port-nv2", "10.1.0.2/24");
    let both = Loop::start(Box::new(Netdev::open("port-nv0").unwrap()), Box::new(tap));
    ping(&one, "10.1.0.2");
    let rates = (iperf(&two, &one, "10.1.0.2"), iperf(&one, &two, "10.1.0.1"));
    udp_segments(&two, &one, "10.1.0.2");
    udp_segments(&one, &two, "10.1.0.1");
    let passed = both.passed();
    println!("{rates:?} Mbit/s {passed:?}");
    assert!(passed.gso.contains(&GSO_TCPV4) && passed.gso.contains(&GSO_UDP_L4), "{passed:?}");
    assert!(passed.longest > 30_000 && passed.refused == 0, "{passed:?}");
}

/// A trunk: frames go through the other port with these tags, and come out of it without.
struct Trunk {
    inner: Netdev,
    tags: &'static [u8],
    superframes: Arc<AtomicUsize>,
}

impl Port for Trunk {
    fn rx(&mut self, buffers: &mut [Buffer]) -> Result<usize, Error> {
        let received = self.inner.rx(buffers)?;
        for buffer in &mut buffers[..received] {
            let (head, rest) = buffer.frame().split_at(12);
            let rest = rest.strip_prefix(self.tags).expect("the tags of the trunk");
            let (whole, vnet) = ([head, rest].concat(), buffer.vnet.shifted(-(self.tags.len() as i16)));
            self.superframes.fetch_add(usize::from(vnet.is_gso()), Ordering::Relaxed);
            buffer.fill(&whole, vnet);
        }
        Ok(received)
    }

    fn tx(&mut self, frames: &[TxFrame<'_>]) -> Sent {
        let mut sent = Sent::default();
        for frame in frames {
            let head = [frame.head, self.tags].concat();
            let vnet = frame.vnet.shifted(self.tags.len() as i16);
            let one = self.inner.tx(&[TxFrame { head: &head, rest: frame.rest, vnet, copy: false }]);
            sent.accepted += one.accepted;
            sent.refused += one.refused;
        }
        sent
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn readiness(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner.readiness()
    }
}

/// Two guests with a tap each, and between the two a veth as a trunk.
fn across_a_trunk(name: &'static str, tags: &'static [u8]) {
    let mut lab = match Lab::enter(name) {
        Ok(lab) => lab,
        Err(why) => return println!("skipped: {why}"),
    };
    // The kernel allows for one 802.1Q tag beyond the MTU, and for no other.
    run("ip link add port-a type veth peer name port-b");
    run("ip link set port-a mtu 1508 up");
    run("ip link set port-b mtu 1508 up");
    settle(&["port-a", "port-b"]);
    let superframes = Arc::new(AtomicUsize::new(0));
    let mut loops = Vec::new();
    let mut guests = Vec::new();
    for (side, number) in [("port-a", 1), ("port-b", 2)] {
        let device = format!("port-t{number}");
        let tap = Tap::open(&device, true).unwrap();
        guests.push(lab.guest(&format!("{name}{number}"), &device, &format!("10.1.0.{number}/24")));
        let trunk = Trunk { inner: Netdev::open(side).unwrap(), tags, superframes: Arc::clone(&superframes) };
        loops.push(Loop::start(Box::new(tap), Box::new(trunk)));
    }
    ping(&guests[0], "10.1.0.2");
    let rate = iperf(&guests[1], &guests[0], "10.1.0.2");
    udp_segments(&guests[0], &guests[1], "10.1.0.1");
    println!("tags {tags:x?}: {rate:.0} Mbit/s, {} super-frames", superframes.load(Ordering::Relaxed));
    for passed in loops.iter().map(Loop::passed) {
        assert!(passed.gso.contains(&GSO_TCPV4) && passed.gso.contains(&GSO_UDP_L4), "{passed:?}");
        assert!(passed.longest > 30_000 && passed.refused == 0, "{passed:?}");
    }
    assert!(superframes.load(Ordering::Relaxed) > 100);
}

#[test]
fn superframes_with_a_tag_pass_over_a_veth() {
    across_a_trunk("nt", b"\x81\x00\x20\x64");
}

#[test]
fn superframes_with_two_tags_pass_over_a_veth() {
    across_a_trunk("nq", b"\x88\xa8\x00\xc8\x81\x00\x00\x64");
}

#[test]
fn a_tagged_frame_keeps_every_octet_over_a_veth() {
    let _lab = lab!("no");
    veth_pair("port-no0", "port-no1", "");
    let (mut a, mut b) = (Netdev::open("port-no0").unwrap(), Netdev::open("port-no1").unwrap());
    for tags in
        [&b"\x81\x00\xe0\x64"[..], b"\x88\xa8\x10\xc8", b"\x88\xa8\x10\xc8\x81\x00\x01\x2c", b"\x81\x00\x20\x00", b""]
    {
        let frame = [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".as_slice(), tags, b"\x88\xb5", &[7; 1492]].concat();
        for _ in 0..2 {
            let (from, to) = (&mut a, &mut b);
            assert_eq!(from.tx(&[plain(&frame)]).accepted, 1);
            let got = receive_until(to, |buffer| buffer.frame().ends_with(&[7; 1492]).then(|| buffer.frame().to_vec()));
            assert_eq!(got.as_deref(), Some(&frame[..]), "tags {tags:x?}");
            std::mem::swap(&mut a, &mut b);
        }
    }
}

#[test]
fn a_batch_goes_on_behind_a_frame_that_the_device_refuses() {
    let _lab = lab!("nb");
    veth_pair("port-nb0", "port-nb1", "");
    let (mut a, mut b) = (Netdev::open("port-nb0").unwrap(), Netdev::open("port-nb1").unwrap());
    let (fit, long) = (experiment(b"fits"), experiment(&[0; 1600]));
    let mut frames = vec![plain(&fit); BATCH];
    frames[0] = plain(&long);
    frames[40] = plain(&fit[..13]);
    frames[BATCH - 1] = plain(&long);
    let expected = Sent { accepted: BATCH - 3, refused: 3, refused_set: 1 | 1 << 40 | 1 << 63 };
    assert_eq!(a.tx(&frames), expected);
    let mut seen = 0;
    receive_until(&mut b, |buffer| {
        seen += usize::from(buffer.frame() == fit);
        (seen == BATCH - 3).then_some(())
    })
    .unwrap_or_else(|| panic!("{seen} of {} frames came", BATCH - 3));
}

#[test]
fn a_netdev_comes_back_from_down_and_is_gone_when_deleted_or_moved() {
    let mut lab = lab!("nd");
    let far = lab.space("nd1");
    for away in ["ip link del port-nd0".to_owned(), format!("ip link set port-nd0 netns {far}")] {
        run("ip link add port-nd0 type veth peer name port-nd1");
        let mut buffers = [Buffer::new(0)];
        let mut port = Netdev::open("port-nd0").unwrap();
        let mut peer = Netdev::open("port-nd1").unwrap();
        let frame = experiment(&[5; 50]);
        assert_eq!(port.rx(&mut buffers).unwrap(), 0, "down from the start");
        assert_eq!(port.tx(&[plain(&frame)]), Sent { accepted: 0, refused: 1, refused_set: 1 });
        for _ in 0..2 {
            run("ip link set port-nd0 up");
            run("ip link set port-nd1 up");
            settle(&["port-nd0", "port-nd1"]);
            assert_eq!(peer.tx(&[plain(&frame)]).accepted, 1);
            assert!(receive_until(&mut port, |buffer| (buffer.frame() == frame).then_some(())).is_some());
            run("ip link set port-nd0 down");
            assert_eq!(port.rx(&mut buffers).unwrap(), 0);
            assert_eq!(port.tx(&[plain(&frame)]).refused, 1);
        }
        run("ip link set port-nd0 up");
        run(&away);
        assert!(matches!(port.rx(&mut buffers), Err(Error::Gone)), "{away}");
        assert_eq!(port.tx(&[plain(&frame)]).refused, 1);
        assert!(matches!(port.rx(&mut buffers), Err(Error::Gone)));
    }
}

#[test]
fn frames_that_nobody_takes_in_time_are_counted_as_missed() {
    let _lab = lab!("nm");
    veth_pair("port-nm0", "port-nm1", "");
    let (mut slow, mut fast) = (Netdev::open("port-nm0").unwrap(), Netdev::open("port-nm1").unwrap());
    assert_eq!(slow.missed(), 0);
    let frame = experiment(&[0; 1000]);
    let mut sent = 0;
    for _ in 0..400 {
        sent += fast.tx(&[plain(&frame); BATCH]).accepted;
    }
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    let mut received = 0;
    loop {
        match slow.rx(&mut buffers).unwrap() {
            0 => break,
            count => received += buffers[..count].iter().filter(|buffer| buffer.frame() == frame).count(),
        }
    }
    let missed = slow.missed();
    println!("sent {sent} received {received} missed {missed}");
    assert!(missed > 0);
    assert_eq!(received as u64 + missed, sent as u64);
    assert_eq!(slow.missed(), missed, "asking again counts nothing twice");
}

#[test]
fn a_queue_that_is_full_takes_the_first_frames_and_refuses_none() {
    let _lab = lab!("nq1");
    veth_pair("port-nf0", "port-nf1", "");
    let frame = experiment(&[0; 1400]);
    // The queue drops the frame (ENOBUFS), or holds so many that the socket may send no more (EAGAIN).
    for limit in ["10kb", "100mb"] {
        run(&format!("tc qdisc replace dev port-nf0 root tbf rate 8kbit burst 3000 limit {limit}"));
        let mut port = Netdev::open("port-nf0").unwrap();
        let mut accepted = 0;
        let mut sent = Sent::default();
        for _ in 0..1000 {
            sent = port.tx(&[plain(&frame); BATCH]);
            accepted += sent.accepted;
            if sent.total() < BATCH {
                break;
            }
        }
        assert!(sent.total() < BATCH && sent.refused == 0 && accepted > 2, "{limit}: {sent:?}");
        assert_eq!(port.tx(&[plain(&frame); BATCH]).total(), 0, "{limit}: still full");
    }
}

#[test]
fn our_mark_passes_where_the_host_is_silenced() {
    let _lab = lab!("nk");
    run("ip link add port-nk0 type veth peer name port-nk1");
    for (device, address) in [("port-nk0", "10.1.0.1/24"), ("port-nk1", "10.1.0.2/24")] {
        run(&format!("ip addr add {address} dev {device}"));
        run(&format!("ip link set {device} up"));
    }
    let rules = format!(
        "add table netdev t; add chain netdev t i {{ type filter hook ingress device port-nk0 priority -500; policy drop; }}; \
         add chain netdev t o {{ type filter hook egress device port-nk0 priority 500; policy drop; }}; \
         add rule netdev t o meta mark {} accept",
        vswitch::port::netdev::MARK
    );
    assert!(Command::new("nft").arg(&rules).status().unwrap().success(), "{rules}");
    let (mut ours, mut peer) = (Netdev::open("port-nk0").unwrap(), Netdev::open("port-nk1").unwrap());
    // The host asks for an address by ARP, in vain; then we send.
    let _ = Command::new("ping").args(["-c1", "-W1", "-I", "port-nk0", "10.1.0.9"]).output().unwrap();
    let frame = experiment(b"ours");
    assert_eq!(ours.tx(&[plain(&frame)]).accepted, 1);
    let first = receive_until(&mut peer, |buffer| Some(buffer.frame().to_vec()));
    assert_eq!(first.as_deref(), Some(&frame[..]), "ours is the first that comes");
    // A question to the host reaches us and not the host, which has that address.
    let mut question =
        b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01".to_vec();
    question.extend([10, 1, 0, 2, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1]);
    assert_eq!(peer.tx(&[plain(&question)]).accepted, 1);
    assert!(receive_until(&mut ours, |buffer| (buffer.frame() == question).then_some(())).is_some());
    assert!(receive_until(&mut peer, |buffer| Some(buffer.frame().to_vec())).is_none(), "the host answered");
}

#[test]
fn a_superframe_beyond_the_buffer_arrives_with_length_0() {
    let _lab = lab!("nl");
    veth_pair("port-nl0", "port-nl1", "gso_max_size 200000");
    let (mut a, mut b) = (Netdev::open("port-nl0").unwrap(), Netdev::open("port-nl1").unwrap());
    // IPv6 with a payload length of 0, as packets above 64 KiB have (RFC 2675 without its option), and TCP.
    let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x86\xdd\x60\0\0\0\0\0\x06\x40".to_vec();
    frame.extend([0x20; 32]);
    frame.extend([0, 7, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    let vnet = VnetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV6,
        hdr_len: 74,
        gso_size: 1400,
        csum_start: 54,
        csum_offset: 16,
    };
    for (len, expected) in [(FRAME_MAX, FRAME_MAX), (FRAME_MAX + 1, 0), (100_000, 0), (60_000, 60_000)] {
        frame.resize(len, 0x77);
        assert_eq!(a.tx(&[TxFrame { head: &[], rest: &frame, vnet, copy: false }]).accepted, 1);
        assert_eq!(receive_until(&mut b, |buffer| Some(buffer.frame().len())), Some(expected), "{len}");
    }
}

#[test]
fn further_handles_send_and_the_first_receives_everything() {
    let _lab = lab!("nh");
    veth_pair("port-nh0", "port-nh1", "");
    let (mut first, mut far) = (Netdev::open("port-nh0").unwrap(), Netdev::open("port-nh1").unwrap());
    let mut handles = first.handles(3).unwrap();
    assert_eq!(handles.len(), 3);
    // Each worker sends in its own thread, in its own order.
    std::thread::scope(|scope| {
        for (worker, handle) in handles.iter_mut().enumerate() {
            scope.spawn(move || {
                for number in 0..100u8 {
                    let frame = experiment(&[worker as u8, number]);
                    assert_eq!(handle.tx(&[plain(&frame)]).accepted, 1);
                }
            });
        }
    });
    let mut next = [0; 3];
    receive_until(&mut far, |buffer| {
        let [worker, number] = buffer.frame()[14..] else { return None };
        assert_eq!(number, next[usize::from(worker)]);
        next[usize::from(worker)] += 1;
        (next == [100; 3]).then_some(())
    })
    .unwrap_or_else(|| panic!("{next:?} came"));
    let mut buffers = [Buffer::new(0), Buffer::new(1)];
    let frame = experiment(b"in");
    assert_eq!(far.tx(&[plain(&frame)]).accepted, 1);
    assert!(receive_until(&mut first, |buffer| (buffer.frame() == frame).then_some(())).is_some());
    for handle in &mut handles {
        assert_eq!((handle.rx(&mut buffers).unwrap(), handle.missed()), (0, 0));
        let mut files =
            [rustix::event::PollFd::from_borrowed_fd(handle.readiness().unwrap(), rustix::event::PollFlags::IN)];
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut files, Some(&now)).unwrap(), 0, "a handle that only sends is never ready");
    }
    run("ip link del port-nh0");
    for handle in &mut handles {
        assert_eq!(handle.tx(&[plain(&frame)]), Sent { accepted: 0, refused: 1, refused_set: 1 });
        assert!(matches!(handle.rx(&mut buffers), Err(Error::Gone)));
    }
}
