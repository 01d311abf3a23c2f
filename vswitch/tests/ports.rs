//! Ports on real taps and veths, in namespaces of their own. Skipped, with the reason, where there is no /dev/net/tun or no
//! root.
//!
//! A test enters a namespace (`Lab`) in which its switch side lives; guests live in further ones. What carries frames
//! between two ports here is no switch but a loop that copies, and that does a port's missing offloads, as a worker would.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use vswitch::frame::vnet::{GSO_ECN, GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, VnetHdr};
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::offload;
use vswitch::port::netdev::Netdev;
use vswitch::port::tap::Tap;
use vswitch::port::{Error, Offloads, Port, Sent};

/// Ends a test that can't be run here.
macro_rules! lab {
    ($name:literal) => {
        match Lab::enter($name) {
            Ok(lab) => lab,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}

/// The namespaces of a test. The thread is in the first.
struct Lab {
    spaces: Vec<String>,
}

impl Lab {
    fn enter(name: &str) -> Result<Lab, String> {
        if !std::path::Path::new("/dev/net/tun").exists() {
            return Err("there is no /dev/net/tun".into());
        }
        if !rustix::process::geteuid().is_root() {
            return Err("namespaces need root".into());
        }
        let mut lab = Lab { spaces: Vec::new() };
        let space = lab.space(name);
        let file = std::fs::File::open(format!("/run/netns/{space}")).map_err(|e| e.to_string())?;
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), kind).map_err(|e| e.to_string())?;
        run("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        Ok(lab)
    }

    /// Makes a namespace without IPv6 noise, and gives its name.
    fn space(&mut self, name: &str) -> String {
        let space = format!("port-{}-{name}", std::process::id());
        self.spaces.push(space.clone());
        run(&format!("ip netns add {space}"));
        run(&format!("ip -n {space} link set lo up"));
        run(&format!("ip netns exec {space} sysctl -qw net.ipv6.conf.default.disable_ipv6=1"));
        space
    }

    /// Moves a device of ours into a new namespace of a guest, and gives it an address.
    fn guest(&mut self, name: &str, device: &str, address: &str) -> String {
        let space = self.space(name);
        run(&format!("ip link set {device} netns {space}"));
        run(&format!("ip -n {space} addr add {address} dev {device}"));
        run(&format!("ip -n {space} link set {device} up"));
        space
    }

    /// Makes a veth pair: ours is up, the other goes to a guest of that address.
    fn veth(&mut self, ours: &str, theirs: &str, address: &str) -> String {
        run(&format!("ip link add {ours} type veth peer name {theirs}"));
        run(&format!("ip link set {ours} up"));
        self.guest(theirs, theirs, address)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in &self.spaces {
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

/// Runs a command of blank-separated words, which must succeed, and gives its output.
#[track_caller]
fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).stdin(Stdio::null()).output().expect(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What passed through a loop.
#[derive(Default, Debug, Clone)]
struct Passed {
    frames: usize,
    longest: usize,
    gso: BTreeSet<u8>,
    segments: usize,
    completed: usize,
    refused: usize,
}

/// Two ports and the thread that copies between them.
struct Loop {
    stop: Arc<AtomicBool>,
    passed: Arc<Mutex<Passed>>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    fn start(mut a: Box<dyn Port>, mut b: Box<dyn Port>) -> Loop {
        let stop = Arc::new(AtomicBool::new(false));
        let passed = Arc::new(Mutex::new(Passed::default()));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&passed));
        let thread = std::thread::spawn(move || {
            let mut buffers: Vec<Buffer> = (0..BATCH).map(Buffer::new).collect();
            let mut scratch = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let mut files = [&a, &b].map(|port| PollFd::from_borrowed_fd(port.readiness().unwrap(), PollFlags::IN));
                poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 })).unwrap();
                let mut passed = count.lock().unwrap();
                copy(&mut *a, &mut *b, &mut buffers, &mut scratch, &mut passed);
                copy(&mut *b, &mut *a, &mut buffers, &mut scratch, &mut passed);
            }
        });
        Loop { stop, passed, thread: Some(thread) }
    }

    fn passed(&self) -> Passed {
        self.passed.lock().unwrap().clone()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || std::thread::panicking(), "the loop failed");
        }
    }
}

fn plain(frame: &[u8]) -> TxFrame<'_> {
    TxFrame { head: &[], rest: frame, vnet: VnetHdr::PLAIN }
}

/// One batch, with the offloads that `to` lacks done here.
fn copy(from: &mut dyn Port, to: &mut dyn Port, buffers: &mut [Buffer], scratch: &mut Vec<u8>, passed: &mut Passed) {
    let received = from.rx(buffers).unwrap();
    for buffer in &mut buffers[..received] {
        let vnet = buffer.vnet;
        passed.frames += 1;
        passed.longest = passed.longest.max(buffer.frame().len());
        passed.gso.insert(vnet.gso_type & !GSO_ECN);
        let mut out = Sent::default();
        if to.offloads().cover(&vnet) {
            // In two parts, as the road sends.
            let (head, rest) = buffer.frame().split_at(12);
            out = to.tx(&[TxFrame { head, rest, vnet }]);
        } else if vnet.is_gso() {
            passed.segments += offload::segment(buffer.frame(), &vnet, scratch, &mut |segment| {
                let sent = to.tx(&[plain(segment)]);
                out.refused += sent.refused;
            })
            .unwrap();
        } else {
            offload::complete_checksum(buffer.frame_mut(), &vnet).unwrap();
            passed.completed += 1;
            out = to.tx(&[plain(buffer.frame())]);
        }
        passed.refused += out.refused;
    }
}

fn ping(space: &str, address: &str) {
    run(&format!("ip netns exec {space} ping -n -q -c 3 -i 0.05 -W 2 {address}"));
}

/// Megabits a second from one guest to the other, by TCP.
fn iperf(server: &str, client: &str, address: &str) -> f64 {
    let mut listener = Command::new("ip")
        .args(["netns", "exec", server, "iperf3", "-s", "-1"])
        .stdout(Stdio::null())
        .spawn()
        .expect("iperf3");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !run(&format!("ip netns exec {server} ss -ltnH sport = :5201")).contains("5201") {
        assert!(Instant::now() < deadline, "iperf3 does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    let client = format!("timeout 20 ip netns exec {client} iperf3 -c {address} -t 1 -J");
    let output = Command::new("sh").args(["-c", &client]).output().unwrap();
    let _ = listener.kill();
    let _ = listener.wait();
    let text = String::from_utf8_lossy(&output.stdout);
    let total = text.split("\"sum_received\"").nth(1).and_then(|part| part.split("\"bits_per_second\":").nth(1));
    let rate =
        total.and_then(|part| part.split([',', '\n']).next()).and_then(|number| number.trim().parse::<f64>().ok());
    rate.unwrap_or_else(|| panic!("iperf3: {text}")) / 1e6
}

/// Sends ten datagrams as one super-frame and checks that they arrive one by one.
fn udp_segments(server: &str, client: &str, address: &str) {
    let receive = "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('',7))\ns.settimeout(5)\n\
        print('ready',flush=True)\nprint([(len(d),d[0]) for d in (s.recv(9000) for _ in range(11))])";
    let mut server = Command::new("ip")
        .args(["netns", "exec", server, "python3", "-c", receive])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut output = std::io::BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    let send = "import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.setsockopt(17,103,1000)\n\
        s.sendto(b''.join(bytes([i])*1000 for i in range(10))+b'z'*17,(sys.argv[1],7))";
    let status = Command::new("ip").args(["netns", "exec", client, "python3", "-c", send, address]).status().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut output, &mut text).unwrap();
    assert!(server.wait().unwrap().success() && status.success());
    let expected: Vec<(usize, u8)> = (0..10).map(|i| (1000, i)).chain([(17, b'z')]).collect();
    assert_eq!(text.trim(), format!("{expected:?}"));
}

/// Receives until `wanted` says that a frame is the one, for two seconds.
fn receive_until<T>(port: &mut dyn Port, mut wanted: impl FnMut(&Buffer) -> Option<T>) -> Option<T> {
    let mut buffers: Vec<Buffer> = (0..8).map(Buffer::new).collect();
    let deadline = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        let received = port.rx(&mut buffers).unwrap();
        if let Some(found) = buffers[..received].iter().find_map(&mut wanted) {
            return Some(found);
        }
        let mut files = [PollFd::from_borrowed_fd(port.readiness().unwrap(), PollFlags::IN)];
        poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
    }
    None
}

/// An Ethernet frame of a protocol for experiments (IEEE 802, 9.2.3).
fn experiment(payload: &[u8]) -> Vec<u8> {
    [b"\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5".as_slice(), payload].concat()
}

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
    let of = |vnet| TxFrame { head: &frame[..12], rest: &frame[12..], vnet };
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
            .args(["--exact", "what_is_no_free_tap_is_refused_with_the_reason"])
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
            let one = self.inner.tx(&[TxFrame { head: &head, rest: frame.rest, vnet }]);
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
    run("ip link add port-no0 type veth peer name port-no1");
    run("ip link set port-no0 up");
    run("ip link set port-no1 up");
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
    run("ip link add port-nb0 type veth peer name port-nb1");
    run("ip link set port-nb0 up");
    run("ip link set port-nb1 up");
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
    run("ip link add port-nm0 type veth peer name port-nm1");
    run("ip link set port-nm0 up");
    run("ip link set port-nm1 up");
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

/// An IPv4 TCP super-frame with options, all flags set that segments differ in, and perhaps a tag.
fn superframe(tags: &[u8], payload: usize) -> (Vec<u8>, VnetHdr) {
    let l3 = 14 + tags.len();
    let mut frame = [b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01".as_slice(), tags, b"\x08\x00"].concat();
    frame.extend([0x46, 0]);
    frame.extend((24 + 32 + payload as u16).to_be_bytes());
    frame.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
    // Router alert (RFC 2113).
    frame.extend([148, 4, 0, 0]);
    frame.extend([0x30, 0x39, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x80, 0x99, 1, 0, 0, 0, 0, 0]);
    frame.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    frame.extend((0..payload).map(|i| (i * 7 % 251) as u8));
    let sum = !offload::checksum(&frame[l3..l3 + 24]);
    let header = (!sum).to_be_bytes();
    frame[l3 + 10..l3 + 12].copy_from_slice(&header);
    let l4 = l3 + 24;
    let mut pseudo = frame[l3 + 12..l3 + 20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((32 + payload as u16).to_be_bytes());
    let seed = (!offload::checksum(&pseudo)).to_be_bytes();
    frame[l4 + 16..l4 + 18].copy_from_slice(&seed);
    let vnet = VnetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: (l4 + 32) as u16,
        gso_size: 1000,
        csum_start: l4 as u16,
        csum_offset: 16,
    };
    (frame, vnet)
}

#[test]
fn our_segments_are_those_that_the_kernel_would_make() {
    let _lab = lab!("ns");
    run("ip link add port-ns0 type veth peer name port-ns1");
    run("ip link set port-ns0 up");
    run("ip link set port-ns1 up");
    // The device loses its offloads, so the kernel does in software what we claim to do.
    run("ethtool -K port-ns0 tso off gso off tx off txvlan off");
    let (mut ours, mut theirs) = (Netdev::open("port-ns0").unwrap(), Netdev::open("port-ns1").unwrap());
    for tags in [&b""[..], b"\x81\x00\x20\x64", b"\x88\xa8\x00\xc8\x81\x00\x00\x64"] {
        for payload in [1, 900, 1001, 2000, 5000, 30_017, 65_535 - 56] {
            let (frame, vnet) = superframe(tags, payload);
            let mut expected = Vec::new();
            let count = offload::segment(&frame, &vnet, &mut Vec::new(), &mut |s| expected.push(s.to_vec())).unwrap();
            assert_eq!((count, expected.len()), (payload.div_ceil(1000), count));
            assert_eq!(ours.tx(&[TxFrame { head: &frame[..12], rest: &frame[12..], vnet }]).accepted, 1);
            let mut got = Vec::new();
            receive_until(&mut theirs, |buffer| {
                got.push(buffer.frame().to_vec());
                (got.len() == count).then_some(())
            });
            assert_eq!(got.len(), count, "tags {tags:x?} payload {payload}");
            for (number, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert_eq!(got, expected, "tags {tags:x?} payload {payload} segment {number}");
            }
        }
    }
}
