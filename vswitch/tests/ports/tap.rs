//! Taps.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vswitch::coalesce::Mode;
use vswitch::frame::vnet::{GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::offload;
use vswitch::port::tap::{Settings, Tap};
use vswitch::port::{Error, Offloads, Port, Sent};

use crate::lab::{Loop, experiment, iperf, iperf_streams, ping, plain, receive_until, run, udp_segments};
use crate::packets::{Kind, Stream};

fn joining(name: &str) -> Tap {
    Tap::open_with(name, Settings { vnet: true, coalesce: Mode::Exact, queues: 1 }).unwrap()
}

/// Opens a tap that was closed just now: a process that another test starts at this moment has it until it runs its
/// program.
fn open_again(name: &str, settings: Settings) -> Tap {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match Tap::open_with(name, settings) {
            Ok(tap) => return tap,
            Err(error) => assert!(error.to_string().contains("in use") && Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn taps_with_virtio_header_carry_superframes_of_tcp_and_udp() {
    let mut lab = lab!("tv");
    for (round, coalesce) in [Mode::Off, Mode::Exact, Mode::Lenient].into_iter().enumerate() {
        let settings = Settings { vnet: true, coalesce, queues: 1 };
        let names = [format!("port-tv{round}a"), format!("port-tv{round}b")];
        let [a, b] = names.each_ref().map(|name| Tap::open_with(name, settings).unwrap());
        assert_eq!(a.offloads(), Offloads::ALL, "this kernel has USO");
        // The devices leave this namespace while the files stay.
        let one = lab.guest(&names[0], &names[0], "10.1.0.1/24");
        let two = lab.guest(&names[1], &names[1], "10.1.0.2/24");
        let both = Loop::start(Box::new(a), Box::new(b));
        ping(&one, "10.1.0.2");
        let rates = (iperf(&two, &one, "10.1.0.2"), iperf_streams(&one, &two, "10.1.0.1", 4));
        udp_segments(&two, &one, "10.1.0.2");
        let passed = both.passed();
        println!("{coalesce:?} {rates:.0?} Mbit/s {passed:?}");
        assert!(passed.gso.contains(&GSO_TCPV4) && passed.gso.contains(&GSO_UDP_L4), "{passed:?}");
        assert!(passed.longest > 30_000 && passed.refused == 0 && passed.segments == 0, "{passed:?}");
        let errors = run(&format!("ip netns exec {two} nstat -az TcpInCsumErrors UdpInCsumErrors IpInHdrErrors"));
        for line in errors.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split_whitespace().nth(1), Some("0"), "{errors}");
        }
    }
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
        let mut tap = open_again("port-tr", Settings { vnet, coalesce: Mode::Off, queues: 1 });
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
    let tap = open_again("port-tr2", Settings { vnet: false, coalesce: Mode::Off, queues: 1 });
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
    run("ip tuntap add dev port-te-tun mode tun");
    run("ip link add port-te-v0 type veth peer name port-te-v1");
    for vnet in [false, true] {
        let error = |name| Tap::open(name, vnet).err().unwrap().to_string();
        assert_eq!(error("port-te-tun"), "port-te-tun: device is a tun (layer 3), not a tap");
        assert_eq!(error("port-te-v0"), "port-te-v0: device exists and is not a tap");
    }
}

#[test]
fn the_kernel_cuts_joined_frames_into_the_packets_that_came() {
    let _lab = lab!("tj");
    // Kernel side to kernel side; the other tap takes no super-frames and no open checksums.
    let (mut ours, mut theirs) = (joining("port-tj0"), Tap::open("port-tj1", false).unwrap());
    run("ip link add port-tj type bridge");
    for device in ["port-tj0", "port-tj1"] {
        run(&format!("ip link set {device} master port-tj"));
    }
    for device in ["port-tj", "port-tj0", "port-tj1"] {
        run(&format!("ip link set {device} mtu 9000 up"));
    }
    let arrived = || run("cat /proc/net/dev").lines().find(|line| line.contains("port-tj0")).map(rx_packets).unwrap();
    for kind in Kind::all() {
        for payload in [1, 18, 64, 1000, 1448, 8000] {
            for count in [2, 3, BATCH] {
                let mut stream = Stream::new(kind, 1000);
                let mut frames: Vec<_> = (1..count).map(|_| stream.next(payload, 0x10)).collect();
                // The last is shorter, and pushes.
                frames.push(stream.next(payload.div_ceil(2), 0x18));
                let before = arrived();
                assert_eq!(ours.tx(&tx(&frames)).accepted, count);
                let joined = arrived() - before;
                if !kind.tcp || payload >= 64 {
                    assert!(
                        joined <= 1 + count * (payload + 80) / 60_000,
                        "{kind:?} {payload} {count}: {joined} writes"
                    );
                }
                let mut got = Vec::new();
                receive_until(&mut theirs, |buffer| {
                    // What bridges and IPv6 say of themselves is not ours.
                    if buffer.frame().starts_with(&frames[0].0[..12]) {
                        got.push(buffer.frame().to_vec());
                    }
                    (got.len() == count).then_some(())
                });
                assert_eq!(got.len(), count, "{kind:?} {payload}");
                for (number, (got, sent)) in got.iter().zip(&frames).enumerate() {
                    assert_eq!(kind.bare(got), kind.bare(&kind.complete(sent)), "{kind:?} {payload} number {number}");
                }
            }
        }
    }
}

/// Of a line of /proc/net/dev.
fn rx_packets(line: &str) -> usize {
    line.split_whitespace().nth(2).unwrap().parse().unwrap()
}

fn tx(frames: &[(Vec<u8>, VnetHdr)]) -> Vec<TxFrame<'_>> {
    let parts = frames.iter().map(|(frame, vnet)| (frame.split_at(12), *vnet));
    parts.map(|((head, rest), vnet)| TxFrame { head, rest, vnet, copy: false }).collect()
}

/// Receives datagrams at ports 7 and 8 of the guest, and prints source port, length and first octet of each. The sockets have room
/// (SO_RCVBUFFORCE) for all of them, so that a machine with other work to do loses none there.
const RECEIVE: &str = "import socket,select\n\
    s=[socket.socket(socket.AF_INET,socket.SOCK_DGRAM) for _ in (7,8)]\n\
    [(x.setsockopt(1,33,1<<24),x.bind(('',p))) for x,p in zip(s,(7,8))]\n\
    print('ready',flush=True)\n\
    got=[]\n\
    while True:\n\
    \x20 for x in select.select(s,[],[],5)[0] or exit('silence'):\n\
    \x20  d,a=x.recvfrom(9000)\n\
    \x20  if d==b'end': print(got); exit()\n\
    \x20  got.append((a[1],len(d),d[0]))";

#[test]
fn a_receiver_gets_the_datagrams_with_their_bounds_in_the_order_of_their_flow() {
    let mut lab = lab!("tu");
    let mut tap = joining("port-tu0");
    let guest = lab.guest("tu1", "port-tu0", "10.1.0.2/24");
    run(&format!("ip -n {guest} link set port-tu0 address 02:00:00:00:00:02"));
    let mut server = Command::new("ip")
        .args(["netns", "exec", &guest, "python3", "-c", RECEIVE])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut output = BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");

    let mut expected: BTreeMap<u16, Vec<(usize, u8)>> = BTreeMap::new();
    let kind = |n: u16| Kind { tag: false, v6: false, tcp: false, df: n & 1 == 0, partial: n.is_multiple_of(3) };
    let mut streams: Vec<_> = (0..6).map(|n| (n, Stream::new(kind(n), 1000 + n))).collect();
    for round in 0..50usize {
        let mut frames = Vec::new();
        for at in 0..BATCH {
            // Flows by turns, and sizes that change now and then.
            let (number, stream) = &mut streams[(at * 7 + at / 5 + round) % 6];
            let payload = [100, 100, 100, 100, 100, 1200, 40][(at / 9 + round) % 7] + usize::from(at % 17 == 16);
            let (mut frame, vnet) = stream.next(payload, 0);
            let fate = (at * 31 + round * 17) % 23;
            match fate {
                // A lifetime of its own, which concerns nobody; a wrong checksum, which no receiver takes; none at all.
                0 => {
                    frame[22] = 9;
                    frame[24..26].fill(0);
                    let value = offload::checksum(&frame[14..34]).to_be_bytes();
                    frame[24..26].copy_from_slice(&value);
                }
                1 if !vnet.needs_csum() => frame[40] ^= 0x55,
                2 if !vnet.needs_csum() => frame[40..42].fill(0),
                _ => {}
            }
            if fate != 1 || vnet.needs_csum() {
                expected.entry(1000 + *number).or_default().push((payload, frame[42]));
            }
            frames.push((frame, vnet));
        }
        assert_eq!(tap.tx(&tx(&frames)), Sent { accepted: BATCH, refused: 0, refused_set: 0 });
        // A socket holds some hundred datagrams.
        std::thread::sleep(Duration::from_millis(5));
    }
    let (mut end, vnet) = Stream::new(kind(0), 99).next(3, 0);
    end.splice(42.., *b"end");
    assert_eq!(tap.tx(&tx(&[(end, vnet)])).accepted, 1);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert!(server.wait().unwrap().success(), "{text}");
    let mut got: BTreeMap<u16, Vec<(usize, u8)>> = BTreeMap::new();
    for item in text.trim().trim_matches(['[', ']', '(', ')']).split("), (") {
        let numbers: Vec<usize> = item.split(", ").map(|number| number.parse().unwrap()).collect();
        got.entry(numbers[0] as u16).or_default().push((numbers[1], numbers[2] as u8));
    }
    for (port, expected) in &expected {
        assert_eq!(&got[port], expected, "source port {port}");
    }
    let writes = run(&format!("ip netns exec {guest} cat /proc/net/dev"));
    let writes = writes.lines().find(|line| line.contains("port-tu0")).map(rx_packets).unwrap();
    println!("{} frames in {writes} writes", 50 * BATCH);
    assert!(writes < 50 * BATCH / 2);
}

#[test]
fn a_tap_with_queues_gives_one_to_each_worker() {
    let mut lab = lab!("tq");
    let settings = Settings { vnet: true, coalesce: Mode::Exact, queues: 3 };
    let mut first = Tap::open_with("port-tq0", settings).unwrap();
    let guest = lab.guest("tq1", "port-tq0", "10.1.0.2/24");
    run(&format!("ip -n {guest} neigh add 10.1.0.1 lladdr 02:00:00:00:00:01 dev port-tq0"));
    // Many flows, of which each stays in its queue.
    let send = || {
        let flows = "import socket\nfor r in range(3):\n for p in range(2000,2064):\n  \
            s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',p)); s.sendto(b'x'*20,('10.1.0.1',7)); s.close()";
        assert!(Command::new("ip").args(["netns", "exec", &guest, "python3", "-c", flows]).status().unwrap().success());
    };
    let flows_of = |port: &mut dyn Port| {
        let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
        let mut flows: BTreeMap<u16, usize> = BTreeMap::new();
        while let received @ 1.. = port.rx(&mut buffers).unwrap() {
            for frame in buffers[..received].iter().map(Buffer::frame).filter(|frame| frame[12..14] == [8, 0]) {
                *flows.entry(u16::from_be_bytes([frame[34], frame[35]])).or_default() += 1;
            }
        }
        flows
    };
    // Nobody has the other queues yet: nothing is lost in them.
    send();
    assert_eq!(flows_of(&mut first), (2000..2064).map(|port| (port, 3)).collect());
    let mut ports: Vec<Box<dyn Port>> = first.handles(3).unwrap();
    ports.insert(0, Box::new(first));
    send();
    let shares: Vec<_> = ports.iter_mut().map(|port| flows_of(&mut **port)).collect();
    println!("{:?}", shares.iter().map(BTreeMap::len).collect::<Vec<_>>());
    assert!(shares[..3].iter().all(|share| share.len() > 5 && share.values().all(|count| *count == 3)), "{shares:?}");
    assert_eq!(shares.iter().map(BTreeMap::len).sum::<usize>(), 64);
    // The fourth sends only, as all do.
    assert!(shares[3].is_empty() && ports[3].readiness().is_some() && !ports[3].polls());
    for port in &mut ports {
        assert_eq!(port.tx(&[plain(&experiment(&[0; 50]))]).accepted, 1);
        assert_eq!(port.offloads(), Offloads::ALL);
    }
    // A queue that its worker gives back is not filled any more.
    ports.truncate(1);
    send();
    assert_eq!(flows_of(&mut *ports[0]).len(), 64);
}

#[test]
fn a_persistent_tap_keeps_its_kind_however_many_workers_there_are() {
    let _lab = lab!("tk");
    run("ip tuntap add dev port-tk1 mode tap");
    run("ip tuntap add dev port-tk2 mode tap multi_queue");
    for device in ["port-tk1", "port-tk2"] {
        run(&format!("ip link set {device} up"));
        for (vnet, queues) in [(true, 1), (true, 2), (false, 1), (false, 2), (true, 2)] {
            let mut tap = open_again(device, Settings { vnet, coalesce: Mode::Exact, queues });
            let mut handle = tap.handles(1).unwrap().pop().unwrap();
            for port in [&mut tap, &mut *handle as &mut dyn Port] {
                assert_eq!(port.tx(&[plain(&experiment(&[0; 50]))]).accepted, 1, "{device} {vnet} {queues}");
                assert_eq!(port.rx(&mut [Buffer::new(0)]).unwrap(), 0);
            }
        }
    }
}
