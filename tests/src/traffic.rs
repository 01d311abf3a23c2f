//! Traffic of exactly known size between VMs, and the kernel's own account of it.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::command::Run;
use crate::error::{Error, Result, Tried};
use crate::lab::plan::Vm;
use crate::netns;

/// A UDP burst.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// Source port.
    pub from_port: u16,
    /// Destination port.
    pub to_port: u16,
    /// Datagrams.
    pub count: u32,
    /// Octets of payload of each, at least four: it starts with the datagram's number.
    pub payload: usize,
}

impl Burst {
    /// IP octets of the burst: payload, UDP and IP headers.
    pub fn ip_octets(&self) -> u64 {
        u64::from(self.count) * (self.payload as u64 + 8 + 20)
    }
}

/// Sends a burst and returns how often each datagram arrived.
pub fn udp(from: &Vm, to: &Vm, burst: Burst) -> Result<BTreeMap<u32, u32>> {
    let receiver = netns::within(&to.netns, || {
        UdpSocket::bind((to.ip, burst.to_port)).tried(format!("UDP port {} of {}", burst.to_port, to.name))
    })?;
    // Room for the whole burst: what is lost is lost on the way, not in the socket.
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 16 << 20).tried("receive buffer")?;
    let sender = netns::within(&from.netns, || {
        UdpSocket::bind((from.ip, burst.from_port)).tried(format!("UDP port {} of {}", burst.from_port, from.name))
    })?;
    receiver.set_read_timeout(Some(Duration::from_millis(500))).tried("read timeout")?;
    let target = SocketAddr::from((to.ip, burst.to_port));
    thread::scope(|scope| {
        let listening = scope.spawn(|| {
            let mut arrived = BTreeMap::new();
            let mut buffer = vec![0; 65_536];
            while let Ok(length) = receiver.recv(&mut buffer) {
                if let Some(number) = buffer[..length].first_chunk() {
                    *arrived.entry(u32::from_be_bytes(*number)).or_default() += 1;
                }
            }
            arrived
        });
        let mut payload = vec![0x5a; burst.payload.max(4)];
        for number in 0..burst.count {
            payload[..4].copy_from_slice(&number.to_be_bytes());
            sender.send_to(&payload, target).tried("sending a datagram")?;
            // A tap holds about 500 frames: give the switch the processor now and then.
            if number % 32 == 31 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        listening.join().map_err(|_| Error::State("the receiver panicked".to_owned()))
    })
}

/// One datagram to each of several ports.
#[derive(Clone, Copy, Debug)]
pub struct Scatter {
    /// Source port.
    pub from_port: u16,
    /// First destination port.
    pub to_port: u16,
    /// Ports.
    pub count: u16,
    /// Octets of payload of each datagram.
    pub payload: usize,
}

impl Scatter {
    /// IP octets of all datagrams: payload, UDP and IP headers.
    pub fn ip_octets(&self) -> u64 {
        u64::from(self.count) * (self.payload as u64 + 8 + 20)
    }
}

/// Sends to ports where nobody listens, and returns when the switch has had the time to take all.
pub fn scatter(from: &Vm, to: &Vm, scatter: Scatter) -> Result<()> {
    let sender = netns::within(&from.netns, || {
        UdpSocket::bind((from.ip, scatter.from_port)).tried(format!("UDP port {} of {}", scatter.from_port, from.name))
    })?;
    let payload = vec![0x5a; scatter.payload];
    for number in 0..scatter.count {
        let target = SocketAddr::from((to.ip, scatter.to_port.wrapping_add(number)));
        sender.send_to(&payload, target).tried("sending a datagram")?;
        // A tap holds about 500 frames: give the switch the processor now and then.
        if number % 32 == 31 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    thread::sleep(Duration::from_millis(300));
    Ok(())
}

/// What the kernel of a VM counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KernelCount {
    /// TCP segments sent, super-frames counted as their segments.
    pub segments: u64,
    /// IP packets handed down, a super-frame as one.
    pub packets: u64,
    /// Octets of those, the headers of a super-frame once.
    pub octets: u64,
}

impl KernelCount {
    /// What the VM's kernel counted until now.
    pub fn of(vm: &Vm) -> Result<KernelCount> {
        let tcp = |name| kernel_counter(vm, "snmp", "Tcp:", name);
        Ok(KernelCount {
            // Linux leaves repeated segments out of the one and counts them in the other.
            segments: tcp("OutSegs")? + tcp("RetransSegs")?,
            packets: kernel_counter(vm, "snmp", "Ip:", "OutRequests")?,
            octets: kernel_counter(vm, "netstat", "IpExt:", "OutOctets")?,
        })
    }

    /// What was counted since `before`.
    pub fn since(self, before: KernelCount) -> KernelCount {
        KernelCount {
            segments: self.segments - before.segments,
            packets: self.packets - before.packets,
            octets: self.octets - before.octets,
        }
    }

    /// IP octets on the wire when all of the packets are TCP: each further segment of a super-frame has its own headers,
    /// 20 octets of IP and 32 of TCP with time stamps.
    pub fn wire_octets(self) -> u64 {
        self.octets + 52 * (self.segments - self.packets)
    }
}

/// A counter of the VM's kernel: `file` is `snmp` or `netstat`, `table` the first word of its lines.
pub fn kernel_counter(vm: &Vm, file: &str, table: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/thread-self/net/{file}");
    let text = netns::within(&vm.netns, || std::fs::read_to_string(&path).tried(path.clone()))?;
    let missing = || Error::Unreadable { what: path.clone(), reason: format!("no {table} {name}") };
    counter(&text, table, name).ok_or_else(missing)
}

fn counter(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|l| l.split(' ').next() == Some(table));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

/// One iperf3 run over TCP of `megabytes`; returns what the receiver got, in bits per second.
pub fn iperf(from: &Vm, to: &Vm, port: u16, megabytes: u32) -> Result<f64> {
    iperf_until(from, to, port, &format!("-n {megabytes}M"))
}

/// One iperf3 run over TCP of some seconds.
pub fn iperf_for(from: &Vm, to: &Vm, port: u16, seconds: u32) -> Result<f64> {
    iperf_streams(from, to, port, seconds, 1)
}

/// One iperf3 run over TCP of some seconds with several connections; returns the sum of their rates.
pub fn iperf_streams(from: &Vm, to: &Vm, port: u16, seconds: u32, streams: u32) -> Result<f64> {
    iperf_until(from, to, port, &format!("-t {seconds} -P {streams}"))
}

fn iperf_until(from: &Vm, to: &Vm, port: u16, until: &str) -> Result<f64> {
    let server = Run::new(&format!("iperf3 -s -1 -p {port}")).netns(&to.netns).limit(Duration::from_secs(30));
    let mut server = server.command().stdout(std::process::Stdio::null()).spawn().tried("iperf3")?;
    let client = Run::new(&format!("iperf3 -J -c {} -p {port} {until}", to.ip)).netns(&from.netns);
    let result = listening(to, port).and_then(|()| client.limit(Duration::from_secs(25)).text());
    if result.is_err() {
        // It waits for a client that never came.
        let _ = server.kill();
    }
    server.wait().tried("iperf3")?;
    let json: serde_json::Value = serde_json::from_str(&result?)
        .map_err(|e| Error::Unreadable { what: "iperf3".to_owned(), reason: e.to_string() })?;
    json.pointer("/end/sum_received/bits_per_second")
        .and_then(serde_json::Value::as_f64)
        .ok_or_else(|| Error::Unreadable { what: "iperf3".to_owned(), reason: "no rate in its answer".to_owned() })
}

/// Waits until something listens on a TCP port of the VM.
fn listening(vm: &Vm, port: u16) -> Result<()> {
    crate::lab::wait(&format!("a listener on port {port} of {}", vm.name), Duration::from_secs(5), || {
        let text = Run::new("cat /proc/net/tcp /proc/net/tcp6").netns(&vm.netns).text()?;
        let suffix = format!(":{port:04X}");
        let open = |l: &str| {
            let mut words = l.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&suffix)) && words.nth(1) == Some("0A")
        };
        Ok(text.lines().any(open).then_some(()))
    })
}

/// What became of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Connection {
    /// Data went there and back.
    Works,
    /// Nothing came back.
    Silent,
}

/// Opens a connection from an address to an address and port, where a listener is put up, and sends an octet there and
/// back.
pub fn connect(from: &Vm, to: &Vm, target: SocketAddr) -> Result<Connection> {
    let listener =
        netns::within(&to.netns, || TcpListener::bind(target).tried(format!("TCP {target} of {}", to.name)))?;
    listener.set_nonblocking(true).tried("listener")?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, _)) => {
                        let mut octet = [0];
                        let echoed = stream
                            .set_nonblocking(false)
                            .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(1))))
                            .and_then(|()| stream.read_exact(&mut octet))
                            .and_then(|()| stream.write_all(&octet));
                        return echoed.is_ok();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                    Err(_) => return false,
                }
            }
            false
        });
        let answered = netns::within(&from.netns, || Ok(ask(target).is_ok()));
        over.store(true, Ordering::Relaxed);
        if !answered? {
            return Ok(Connection::Silent);
        }
        let served = serving.join().map_err(|_| Error::State("the server panicked".to_owned()))?;
        Ok(if served { Connection::Works } else { Connection::Silent })
    })
}

fn ask(target: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&target, Duration::from_millis(1200))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_kernel_counters() {
        let text = "Ip: Forwarding OutRequests\nIp: 1 77\nTcp: RtoMin OutSegs\nTcp: 200 9\n";
        assert_eq!(counter(text, "Ip:", "OutRequests"), Some(77));
        assert_eq!(counter(text, "Tcp:", "OutSegs"), Some(9));
        assert_eq!(counter(text, "Tcp:", "Nothing"), None);
    }

    #[test]
    fn headers_of_segments_count() {
        // One super-frame of 3 segments with 1000 octets of payload each went down as one packet of 3052 octets.
        let count = KernelCount { segments: 3, packets: 1, octets: 3052 };
        assert_eq!(count.wire_octets(), 3 * 1052);
    }
}
