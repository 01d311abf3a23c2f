//! Namespaces, guests that talk, and a loop between two ports.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use vswitch::frame::vnet::{GSO_ECN, VnetHdr};
use vswitch::frame::{BATCH, Buffer, TxFrame};
use vswitch::offload;
use vswitch::port::{Port, Sent};

/// Ends a test that can't be run here.
macro_rules! lab {
    ($name:literal) => {
        match $crate::lab::Lab::enter($name) {
            Ok(lab) => lab,
            Err(why) => {
                println!("skipped: {why}");
                return;
            }
        }
    };
}

/// The namespaces of a test. The thread is in the first.
pub struct Lab {
    pub spaces: Vec<String>,
}

impl Lab {
    pub fn enter(name: &str) -> Result<Lab, String> {
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
    pub fn space(&mut self, name: &str) -> String {
        let space = format!("port-{}-{name}", std::process::id());
        self.spaces.push(space.clone());
        run(&format!("ip netns add {space}"));
        run(&format!("ip -n {space} link set lo up"));
        run(&format!("ip netns exec {space} sysctl -qw net.ipv6.conf.default.disable_ipv6=1"));
        space
    }

    /// Moves a device of ours into a new namespace of a guest, and gives it an address.
    pub fn guest(&mut self, name: &str, device: &str, address: &str) -> String {
        let space = self.space(name);
        run(&format!("ip link set {device} netns {space}"));
        run(&format!("ip -n {space} addr add {address} dev {device}"));
        run(&format!("ip -n {space} link set {device} up"));
        space
    }

    /// Makes a veth pair: ours is up, the other goes to a guest of that address.
    pub fn veth(&mut self, ours: &str, theirs: &str, address: &str) -> String {
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
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).stdin(Stdio::null()).output().expect(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Makes a veth pair whose ends are both in our namespace and up.
pub fn veth_pair(a: &str, b: &str, options: &str) {
    run(&format!("ip link add {a} {options} type veth peer name {b} {options}"));
    run(&format!("ip link set {a} up"));
    run(&format!("ip link set {b} up"));
    settle(&[a, b]);
}

/// Waits until the devices can send: the kernel gives them a queue up to a second after both ends are up, and until then
/// loses what they are given.
#[track_caller]
pub fn settle(devices: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let ready = |device: &&str| {
        let line = run(&format!("ip link show {device}"));
        !line.contains("qdisc noop ") && line.contains("LOWER_UP")
    };
    while !devices.iter().all(ready) {
        assert!(Instant::now() < deadline, "{devices:?} have no carrier");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What passed through a loop.
#[derive(Default, Debug, Clone)]
pub struct Passed {
    pub frames: usize,
    pub longest: usize,
    pub gso: BTreeSet<u8>,
    pub segments: usize,
    pub completed: usize,
    pub refused: usize,
}

/// Two ports and the thread that copies between them.
pub struct Loop {
    stop: Arc<AtomicBool>,
    passed: Arc<Mutex<Passed>>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    pub fn start(mut a: Box<dyn Port>, mut b: Box<dyn Port>) -> Loop {
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

    pub fn passed(&self) -> Passed {
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

pub fn plain(frame: &[u8]) -> TxFrame<'_> {
    TxFrame { head: &[], rest: frame, vnet: VnetHdr::PLAIN, copy: false }
}

/// One batch: in one call if `to` takes it as it is, else with the offloads that `to` lacks done here.
pub fn copy(
    from: &mut dyn Port,
    to: &mut dyn Port,
    buffers: &mut [Buffer],
    scratch: &mut Vec<u8>,
    passed: &mut Passed,
) {
    let received = from.rx(buffers).unwrap();
    let buffers = &mut buffers[..received];
    for buffer in buffers.iter() {
        passed.frames += 1;
        passed.longest = passed.longest.max(buffer.frame().len());
        passed.gso.insert(buffer.vnet.gso_type & !GSO_ECN);
    }
    if buffers.iter().all(|buffer| to.offloads().cover(&buffer.vnet)) {
        // In two parts, as the road sends.
        let parts = buffers.iter().map(|buffer| (buffer.frame().split_at(12), buffer.vnet));
        let frames: Vec<_> = parts.map(|((head, rest), vnet)| TxFrame { head, rest, vnet, copy: false }).collect();
        passed.refused += to.tx(&frames).refused;
        return;
    }
    for buffer in buffers {
        let vnet = buffer.vnet;
        let mut out = Sent::default();
        if to.offloads().cover(&vnet) {
            // In two parts, as the road sends.
            let (head, rest) = buffer.frame().split_at(12);
            out = to.tx(&[TxFrame { head, rest, vnet, copy: false }]);
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

pub fn ping(space: &str, address: &str) {
    run(&format!("ip netns exec {space} ping -n -q -c 3 -i 0.05 -W 2 {address}"));
}

/// Megabits a second from one guest to the other, by TCP.
pub fn iperf(server: &str, client: &str, address: &str) -> f64 {
    iperf_streams(server, client, address, 1)
}

/// The same by some streams at once.
pub fn iperf_streams(server: &str, client: &str, address: &str, streams: usize) -> f64 {
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
    let client = format!("timeout 20 ip netns exec {client} iperf3 -c {address} -t 1 -P {streams} -J");
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
pub fn udp_segments(server: &str, client: &str, address: &str) {
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
pub fn receive_until<T>(port: &mut dyn Port, mut wanted: impl FnMut(&Buffer) -> Option<T>) -> Option<T> {
    let mut buffers: Vec<Buffer> = (0..8).map(Buffer::new).collect();
    let deadline = Instant::now() + Duration::from_secs(10);
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
pub fn experiment(payload: &[u8]) -> Vec<u8> {
    [b"\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x88\xb5".as_slice(), payload].concat()
}
