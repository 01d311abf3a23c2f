//! Existing devices by AF_XDP, here veths.

use std::process::{Command, Stdio};

use vswitch::frame::{BATCH, Buffer};
use vswitch::port::netdev::Netdev;
use vswitch::port::tap::Tap;
use vswitch::port::xdp::{Mode, Xdp, ethtool};
use vswitch::port::{Error, Offloads, Port, Sent};

use crate::lab::{Loop, experiment, iperf, ping, plain, receive_until, run, settle, udp_segments, veth_pair};

/// A veth pair `port-NAME0`, `port-NAME1`, both ends up and ours.
fn pair(name: &str, options: &str) -> (String, String) {
    let (a, b) = (format!("port-{name}0"), format!("port-{name}1"));
    veth_pair(&a, &b, options);
    (a, b)
}

fn program_on(device: &str) -> bool {
    run(&format!("ip link show {device}")).contains("prog/xdp")
}

/// It is so, or becomes so in a moment.
fn soon(mut so: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !so() {
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    true
}

/// The program is gone, or goes in a moment: a child that another test is just starting holds every descriptor until its exec.
fn is_without_program(device: &str) -> bool {
    soon(|| !program_on(device))
}

/// Gives a device so many queues. The kernel tears a closed AF_XDP socket down a little later, and until then refuses fewer queues.
fn set_queues(device: &str, rx: u32, tx: u32) {
    let set = || Command::new("ethtool").args(["-L", device, "rx", &rx.to_string(), "tx", &tx.to_string()]).output();
    assert!(soon(|| set().unwrap().status.success()), "{:?}", set());
    assert_eq!(ethtool::queues(device).unwrap(), ethtool::Queues { rx, tx });
}

#[test]
fn every_octet_passes_both_ways_in_both_modes() {
    let _lab = lab!("xo");
    let (a, b) = pair("xo", "mtu 1496");
    for mode in [Mode::Native, Mode::Generic] {
        let mut near = Xdp::open(&a, &[mode]).unwrap();
        assert_eq!((near.mode(), near.name(), near.offloads()), (mode, a.as_str(), Offloads::NONE));
        assert!(program_on(&a));
        let far_packet = || Box::new(Netdev::open(&b).unwrap()) as Box<dyn Port>;
        let far_xdp = || Box::new(Xdp::open(&b, &[mode]).unwrap()) as Box<dyn Port>;
        for far in [&far_packet as &dyn Fn() -> Box<dyn Port>, &far_xdp] {
            let mut far = far();
            for tags in [&b""[..], b"\x81\x00\xe0\x64", b"\x88\xa8\x10\xc8", b"\x88\xa8\x10\xc8\x81\x00\x01\x2c"] {
                for len in [2, 46, 1480] {
                    let payload: Vec<u8> = (0..len).map(|i| i as u8 ^ tags.len() as u8).collect();
                    let frame = [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".as_slice(), tags, b"\x88\xb5", &payload].concat();
                    let ports: [&mut dyn Port; 2] = [&mut near, &mut *far];
                    let [one, two] = ports;
                    for (from, to) in [(0, 1), (1, 0)] {
                        let (from, to) = if from < to { (&mut *one, &mut *two) } else { (&mut *two, &mut *one) };
                        assert_eq!(from.tx(&[plain(&frame)]).accepted, 1);
                        let got = receive_until(to, |buffer| Some(buffer.frame().to_vec()));
                        assert_eq!(got.as_deref(), Some(&frame[..]), "{mode:?} tags {tags:x?} {len}");
                    }
                }
            }
        }
        drop(near);
        assert!(is_without_program(&a) && is_without_program(&b));
    }
}

#[test]
fn more_batches_than_slots_arrive_whole_and_in_order() {
    let _lab = lab!("xb");
    let (a, b) = pair("xb", "");
    let (mut near, mut far) = (Xdp::open(&a, &[Mode::Native]).unwrap(), Xdp::open(&b, &[Mode::Native]).unwrap());
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    let (mut sent, mut got) = (0u32, 0u32);
    while sent < 10_000 {
        let frames: Vec<Vec<u8>> = (sent..sent + 50)
            .map(|n| experiment(&[&n.to_be_bytes()[..], &vec![n as u8; n as usize % 1400]].concat()))
            .collect();
        let batch: Vec<_> = frames.iter().map(|frame| plain(frame)).collect();
        let outcome = near.tx(&batch);
        assert_eq!(outcome, Sent { accepted: 50, refused: 0, refused_set: 0 }, "after {sent}");
        sent += 50;
        // The far end's NAPI delivers beside us.
        while got < sent {
            let count = far.rx(&mut buffers).unwrap();
            for buffer in &buffers[..count] {
                let expected = experiment(&[&got.to_be_bytes()[..], &vec![got as u8; got as usize % 1400]].concat());
                assert_eq!(buffer.frame(), expected, "frame {got}");
                got += 1;
            }
        }
    }
    assert_eq!((near.missed(), far.missed()), (0, 0));
    // No slot was lost: as many frames as there are slots can wait.
    let frame = experiment(&[3; 60]);
    for _ in 0..2048 / BATCH {
        assert_eq!(near.tx(&[plain(&frame); BATCH]).accepted, BATCH);
        // The far end's NAPI takes 256 frames before it drops.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let mut waiting = 0;
    while let Some(count) = Some(far.rx(&mut buffers).unwrap()).filter(|count| *count > 0) {
        waiting += count;
    }
    assert_eq!((waiting, far.missed()), (2048, 0));
}

#[test]
fn a_batch_goes_on_behind_a_frame_that_does_not_fit() {
    let _lab = lab!("xl");
    let (a, b) = pair("xl", "");
    for mode in [Mode::Native, Mode::Generic] {
        let (mut near, mut far) = (Xdp::open(&a, &[mode]).unwrap(), Netdev::open(&b).unwrap());
        let (fit, long) = (experiment(&[7; 1500]), experiment(&[0; 1501]));
        let mut tagged = long.clone();
        tagged.splice(12..14, *b"\x81\x00\x00\x07");
        assert_eq!((fit.len(), tagged.len()), (1514, 1517));
        let mut frames = vec![plain(&fit); BATCH];
        frames[0] = plain(&long);
        frames[1] = plain(&tagged);
        frames[40] = plain(&fit[..13]);
        frames[BATCH - 1] = plain(&long);
        assert_eq!(near.tx(&frames), Sent { accepted: BATCH - 3, refused: 3, refused_set: 1 | 1 << 40 | 1 << 63 });
        let mut seen = 0;
        receive_until(&mut far, |buffer| {
            seen += usize::from(buffer.frame() == fit || buffer.frame() == tagged);
            (seen == BATCH - 3).then_some(())
        })
        .unwrap_or_else(|| panic!("{seen} of {} frames came", BATCH - 3));
    }
}

#[test]
fn frames_that_a_device_drops_are_named() {
    let _lab = lab!("xd");
    let (a, b) = pair("xd", "");
    let mut near = Xdp::open(&a, &[Mode::Native]).unwrap();
    // Without its far end the device drops whatever it gets.
    run(&format!("ip link set {b} down"));
    let frame = experiment(&[1; 50]);
    for _ in 0..3 {
        assert_eq!(near.tx(&[plain(&frame); 5]), Sent { accepted: 0, refused: 5, refused_set: 0b11111 });
    }
    run(&format!("ip link set {b} up"));
    settle(&[&a, &b]);
    let mut far = Netdev::open(&b).unwrap();
    let mut seen = 0;
    assert_eq!(near.tx(&[plain(&frame); 5]).accepted, 5);
    receive_until(&mut far, |_| {
        seen += 1;
        (seen == 5).then_some(())
    })
    .expect("five frames");
}

#[test]
fn a_device_comes_back_from_down_and_is_gone_when_deleted_or_moved() {
    let mut lab = lab!("xg");
    let space = lab.space("xg1");
    for away in ["ip link del port-xg0".to_owned(), format!("ip link set port-xg0 netns {space}")] {
        let (a, b) = pair("xg", "");
        let mut buffers = [Buffer::new(0)];
        let (mut port, mut peer) = (Xdp::open(&a, &[Mode::Native]).unwrap(), Netdev::open(&b).unwrap());
        let frame = experiment(&[5; 50]);
        for _ in 0..2 {
            assert_eq!(peer.tx(&[plain(&frame)]).accepted, 1);
            assert!(receive_until(&mut port, |buffer| (buffer.frame() == frame).then_some(())).is_some());
            run(&format!("ip link set {a} down"));
            assert_eq!(port.rx(&mut buffers).unwrap(), 0);
            assert_eq!(port.tx(&[plain(&frame); 3]), Sent { accepted: 0, refused: 3, refused_set: 7 });
            run(&format!("ip link set {a} up"));
            settle(&[&a, &b]);
            assert_eq!(port.tx(&[plain(&frame)]).accepted, 1);
            let first = receive_until(&mut peer, |buffer| Some(buffer.frame().to_vec()));
            assert_eq!(first.as_ref(), Some(&frame));
            assert_eq!(peer.rx(&mut buffers).unwrap(), 0, "what was refused came out later");
        }
        assert_eq!(port.rx(&mut buffers).unwrap(), 0);
        run(&away);
        port.arm();
        assert!(matches!(port.rx(&mut buffers), Err(Error::Gone)), "{away}");
        assert_eq!(port.tx(&[plain(&frame)]), Sent { accepted: 0, refused: 1, refused_set: 1 });
        assert!(matches!(port.rx(&mut buffers), Err(Error::Gone)));
    }
}

#[test]
fn a_worker_that_never_sleeps_hears_of_the_end_too() {
    let _lab = lab!("xe");
    let (a, _) = pair("xe", "");
    let mut port = Xdp::open(&a, &[Mode::Generic]).unwrap();
    let mut buffers = [Buffer::new(0)];
    run(&format!("ip link del {a}"));
    assert!((0..2000).any(|_| matches!(port.rx(&mut buffers), Err(Error::Gone))));
}

#[test]
fn frames_that_nobody_takes_in_time_are_counted_as_missed() {
    let _lab = lab!("xm");
    let (a, b) = pair("xm", "mtu 1600");
    run(&format!("ip link set {a} mtu 1500"));
    let (mut slow, mut fast) = (Xdp::open(&a, &[Mode::Generic]).unwrap(), Netdev::open(&b).unwrap());
    let frame = experiment(&[0; 100]);
    let mut sent = 0;
    for _ in 0..60 {
        sent += fast.tx(&[plain(&frame); BATCH]).accepted as u64;
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    let mut received = 0;
    loop {
        match slow.rx(&mut buffers).unwrap() {
            0 => break,
            count => received += count as u64,
        }
    }
    let missed = slow.missed();
    println!("sent {sent} received {received} missed {missed}");
    assert!(missed > 0);
    assert_eq!(received + missed, sent);
    assert_eq!(slow.missed(), missed, "asking again counts nothing twice");
}

#[test]
fn a_guest_behind_a_veth_talks_to_one_behind_a_tap() {
    let mut lab = lab!("xt");
    let one = lab.veth("port-xt0", "port-xt1", "10.1.0.1/24");
    let tap = Tap::open("port-xt2", true).unwrap();
    let two = lab.guest("xt3", "port-xt2", "10.1.0.2/24");
    let both = Loop::start(Box::new(Xdp::open("port-xt0", &[Mode::Native]).unwrap()), Box::new(tap));
    ping(&one, "10.1.0.2");
    // Checksums are left unfinished by the guest behind the veth; the kernel stops its super-frames.
    let features = run(&format!("ip netns exec {one} ethtool -k port-xt1"));
    assert!(
        features.contains("tx-checksumming: on") && features.contains("tcp-segmentation-offload: off"),
        "{features}"
    );
    let rates = (iperf(&two, &one, "10.1.0.2"), iperf(&one, &two, "10.1.0.1"));
    udp_segments(&two, &one, "10.1.0.2");
    udp_segments(&one, &two, "10.1.0.1");
    let passed = both.passed();
    println!("{rates:?} Mbit/s {passed:?}");
    assert!(passed.refused == 0, "{passed:?}");
    for space in [&one, &two] {
        let errors = run(&format!("ip netns exec {space} nstat -az TcpInCsumErrors UdpInCsumErrors IpInHdrErrors"));
        for line in errors.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split_whitespace().nth(1), Some("0"), "{errors}");
        }
    }
}

#[test]
fn what_can_not_be_opened_is_refused_with_the_reason() {
    let _lab = lab!("xr");
    let (a, b) = pair("xr", "");
    let error = |name: &str, modes: &[Mode]| Xdp::open(name, modes).err().unwrap().to_string();
    assert_eq!(error("port-no", &[Mode::Native]), "port-no: there is no such device");
    assert_eq!(error("lo", &[Mode::Generic]), "lo: not an Ethernet device");
    let copies = error(&a, &[Mode::ZeroCopy]);
    assert!(copies.starts_with("port-xr0: bind(AF_XDP): "), "{copies}");
    let first = Xdp::open(&a, &[Mode::ZeroCopy, Mode::Native, Mode::Generic]).unwrap();
    assert_eq!(first.mode(), Mode::Native);
    let busy = error(&a, &[Mode::Native]);
    assert!(busy.contains("busy"), "{busy}");
    drop(first);
    assert!(Xdp::open(&a, &[Mode::Native]).is_ok());
    run(&format!("ip link set {b} mtu 9000"));
    run(&format!("ip link set {a} mtu 9000"));
    let long = error(&a, &[Mode::Native, Mode::Generic]);
    assert!(long.contains("frames of more than 3840 octets"), "{long}");
}

#[test]
fn queues_are_dealt_out_and_who_has_none_sends() {
    let _lab = lab!("xq");
    let (a, b) = pair("xq", "numtxqueues 2 numrxqueues 2");
    set_queues(&b, 2, 2);
    // One queue to send by is too few for all handles: the others send in another way.
    for tx in [2, 1] {
        set_queues(&a, 2, tx);
        deal_out(&a, &b);
    }
}

fn deal_out(a: &str, b: &str) {
    let mut first = Xdp::open(a, &[Mode::Native]).unwrap();
    let mut far = Netdev::open(b).unwrap();
    let mut handles = first.handles(2).unwrap();
    assert_eq!(handles.iter().map(|handle| handle.offloads()).collect::<Vec<_>>(), [Offloads::NONE, Offloads::ALL]);
    let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
    let mut ports: Vec<&mut dyn Port> = vec![&mut first];
    ports.extend(handles.iter_mut().map(|handle| &mut **handle as &mut dyn Port));
    for (number, port) in ports.iter_mut().enumerate() {
        let frame = experiment(&[number as u8; 60]);
        assert_eq!(port.tx(&[plain(&frame)]).accepted, 1);
        assert!(receive_until(&mut far, |buffer| (buffer.frame() == frame).then_some(())).is_some(), "handle {number}");
    }
    // Each frame arrives at one handle; senders hear nothing.
    let mut sent = 0;
    for flow in 0..64u8 {
        let mut frame =
            b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0\x45\0\0\x20\0\0\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02".to_vec();
        frame.extend([flow, 1, 2, flow, 0, 12, 0, 0, 1, 2, 3, 4]);
        sent += far.tx(&[plain(&frame)]).accepted;
    }
    let mut received = [0; 3];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while received.iter().sum::<usize>() < sent && std::time::Instant::now() < deadline {
        for (port, count) in ports.iter_mut().zip(&mut received) {
            *count += port.rx(&mut buffers).unwrap();
        }
    }
    println!("{received:?}");
    assert_eq!((received.iter().sum::<usize>(), received[2]), (sent, 0));
    drop(first);
    assert!(program_on(a), "a handle still needs it");
    drop(handles);
    assert!(is_without_program(a));
}

#[test]
fn a_killed_process_leaves_no_program() {
    const INNER: &str = "PORTS_TEST_KILLED";
    if let Some(device) = std::env::var_os(INNER) {
        let _port = Xdp::open(device.to_str().unwrap(), &[Mode::Native]).unwrap();
        println!("open");
        std::thread::sleep(std::time::Duration::from_secs(20));
        return;
    }
    let lab = lab!("xk");
    let (a, _) = pair("xk", "");
    let mut child = Command::new("ip")
        .args(["netns", "exec", &lab.spaces[0]])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "xdp::a_killed_process_leaves_no_program", "--nocapture"])
        .env(INNER, &a)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.map_while(Result::ok).any(|line| line.contains("open")));
    assert!(program_on(&a));
    child.kill().unwrap();
    child.wait().unwrap();
    // The kernel closes the descriptors after the process is gone.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while program_on(&a) && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(is_without_program(&a));
}

#[test]
fn settings_of_the_receiver_are_switched_and_put_back() {
    let _lab = lab!("xs");
    let (a, _) = pair("xs", "");
    let before = ethtool::receiving(&a).unwrap();
    for gro in [!before.gro, before.gro] {
        ethtool::set_receiving(&a, ethtool::Receiving { gro, ..before }).unwrap();
        assert_eq!(ethtool::receiving(&a).unwrap(), ethtool::Receiving { gro, ..before });
    }
}
