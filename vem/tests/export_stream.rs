//! IPFIX over TCP and TLS (RFC 7011 section 10.4): a stream that tshark and the crate `netflow_parser` read, through connections that
//! come and go. The far end of TLS is OpenSSL's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant as StdInstant};

use netflow_parser::variable_versions::ipfix::FlowSetBody;
use netflow_parser::variable_versions::ipfix::lookup::IPFixField;
use netflow_parser::{NetflowPacket, NetflowParser};
use proto::flow::{Destination, Exporter, Monitor, Transport, Version};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use vem::export::message::{Datagram, Weight};
use vem::export::transport::stream::Stream;
use vem::export::transport::{Credentials, TlsFiles};
use vem::export::{self, Anchor, Config, ExportHandle};
use vswitch::flow::key::{FlowKey, shape};
use vswitch::flow::record::{EndReason, Outcome, Record};
use vswitch::port::PortId;
use vswitch::time::Instant;

const FOUR: &str = "127.0.0.1:0";
const SIX: &str = "[::1]:0";

fn record(n: u16) -> Record {
    let key = FlowKey {
        src: Ipv4Addr::new(10, 1, 0, 1).to_ipv6_mapped().octets(),
        dst: Ipv4Addr::new(10, 1, 0, 2).to_ipv6_mapped().octets(),
        in_port: 4,
        ethertype: 0x0800,
        src_port: n,
        dst_port: 443,
        protocol: 6,
        shape: shape::IPV4 | shape::PORTS,
        ..FlowKey::default()
    };
    Record {
        key,
        vlan: None,
        flows: 1,
        packets: 1,
        octets: n.into(),
        l2_octets: n.into(),
        first: Instant::from_ms(1),
        last: Instant::from_ms(2),
        tcp_flags: 0x1b,
        outcome: Outcome::Forwarded(PortId(5)),
        end: EndReason::EndDetected,
        sampling: Default::default(),
        detail: Default::default(),
        again: false,
        monitors_in: 1,
        monitors_out: 0,
    }
}

/// Exports the records 1 to `count` to a collector.
fn export(transport: Transport, to: SocketAddr, credentials: Credentials, count: u16) -> ExportHandle {
    let exporter = Exporter {
        name: "e".into(),
        destinations: vec![Destination::new(to.ip(), to.port())],
        version: Version::Ipfix,
        dscp: 46,
        template_timeout_s: 60,
        option_timeout_s: 60,
        payload_max: 1400,
        transport: Some(transport),
        ..Exporter::default()
    };
    let monitor = Monitor {
        name: "m".into(),
        record: None,
        exporters: vec!["e".into()],
        active_s: 1800,
        inactive_s: 15,
        ..Monitor::default()
    };
    let (mut ring, consumer) = rtrb::RingBuffer::new(1 << 14);
    let origin = StdInstant::now() - Duration::from_secs(3);
    let handle = export::start_with(vec![consumer], Anchor::new(origin), credentials).unwrap();
    let config = Config { module: 3, exporters: vec![exporter], monitors: vec![monitor], ..Config::default() };
    handle.configure(config).unwrap();
    (1..=count).for_each(|n| ring.push(record(n)).unwrap());
    handle
}

/// What a collector finds in a session's octets.
#[derive(Default)]
struct Seen {
    messages: Vec<Vec<u8>>,
    /// Source port of each record of a flow.
    ports: Vec<u16>,
    /// Sum of `octetDeltaCount`.
    octets: u64,
}

/// Takes a session apart, as far as it is there: messages by their length, sequence by their records, fields by a foreign decoder.
fn decode(mut stream: &[u8]) -> Seen {
    let (mut parser, mut seen, mut records) = (NetflowParser::default(), Seen::default(), 0);
    while let Some(head) = stream.get(..4) {
        assert_eq!(head[..2], [0, 10], "a message begins where the one before ended");
        let Some((message, rest)) = stream.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]]))) else {
            break;
        };
        assert_eq!(u32::from_be_bytes(message[8..12].try_into().unwrap()), records, "records before this message");
        for packet in parser.parse_bytes(message).packets {
            let NetflowPacket::IPFix(ipfix) = packet else { panic!("no IPFIX") };
            records += ipfix.flowsets.iter().map(|set| count(&set.body, &mut seen)).sum::<u32>();
        }
        seen.messages.push(message.to_vec());
        stream = rest;
    }
    seen
}

/// Records of a set.
fn count(set: &FlowSetBody, seen: &mut Seen) -> u32 {
    match set {
        FlowSetBody::Data(data) => {
            for record in &data.fields {
                let field = |id| {
                    let wanted = IPFixField::new(id, None);
                    record.iter().find(|(field, _)| *field == wanted).and_then(|(_, value)| value.as_u64()).unwrap()
                };
                seen.octets += field(1);
                seen.ports.push(field(7) as u16);
            }
            data.fields.len() as u32
        }
        FlowSetBody::OptionsData(data) => data.fields.len() as u32,
        FlowSetBody::NoTemplate(_) | FlowSetBody::Empty => panic!("unread set {set:?}"),
        _ => 0,
    }
}

fn tshark_finds_nothing_wrong(messages: &[Vec<u8>]) {
    let dir = tempfile::tempdir().unwrap();
    let (hex, pcap) = (dir.path().join("hex"), dir.path().join("pcap"));
    let mut text = String::new();
    for message in messages {
        for (at, line) in message.chunks(16).enumerate() {
            text.push_str(&format!("{:06x}", at * 16));
            line.iter().for_each(|octet| text.push_str(&format!(" {octet:02x}")));
            text.push('\n');
        }
        text.push('\n');
    }
    std::fs::write(&hex, text).unwrap();
    let made = Command::new("text2pcap").args(["-q", "-T", "4739,4739"]).args([&hex, &pcap]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut command = Command::new("tshark");
    command.args(["-d", "tcp.port==4739,cflow", "-V", "-r"]).arg(&pcap);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.matches("Cisco NetFlow/IPFIX").count(), messages.len());
    for wrong in ["Malformed", "No template found", "Expert Info (Warning/Malformed)"] {
        assert!(!text.contains(wrong), "{wrong} in\n{text}");
    }
}

fn read_for(mut socket: TcpStream, until: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut octets, mut buffer) = (Vec::new(), [0; 65_536]);
    while !until(&octets) {
        let length = socket.read(&mut buffer).unwrap();
        assert!(length > 0, "closed");
        octets.extend(&buffer[..length]);
    }
    octets
}

/// Octets of all records up to `count`, which are all different.
fn sum(count: u16) -> u64 {
    u64::from(count) * u64::from(count + 1) / 2
}

fn whole(octets: &[u8], count: u16) -> bool {
    decode(octets).octets == sum(count)
}

#[test]
fn a_collector_by_tcp_gets_templates_first_and_every_record() {
    [FOUR, SIX].into_iter().for_each(by_tcp);
}

fn by_tcp(at: &str) {
    let listener = TcpListener::bind(at).unwrap();
    let handle = export(Transport::Tcp, listener.local_addr().unwrap(), Credentials::default(), 1000);
    let (socket, _) = listener.accept().unwrap();
    let octets = read_for(socket.try_clone().unwrap(), |octets| whole(octets, 1000));
    let seen = decode(&octets);
    let set = |message: &[u8]| u16::from_be_bytes([message[16], message[17]]);
    assert_eq!(set(&seen.messages[0]), 2, "templates");
    let templates = seen.messages.iter().filter(|message| set(message) < 256).count();
    assert_eq!(templates, 1, "once");
    tshark_finds_nothing_wrong(&seen.messages);
    let row = handle.stop().remove(0);
    assert_eq!((row.records, row.failed_records, row.last_error), (1000, 0, None));
}

/// Messages as the encoder makes them, from a session.
fn messages() -> Vec<Datagram> {
    let listener = TcpListener::bind(FOUR).unwrap();
    let handle = export(Transport::Tcp, listener.local_addr().unwrap(), Credentials::default(), 500);
    let (socket, _) = listener.accept().unwrap();
    let octets = read_for(socket, |octets| whole(octets, 500));
    handle.stop();
    let weight = |message: &[u8]| Weight { flows: (message.len() / 100) as u32, ..Weight::default() };
    decode(&octets).messages.into_iter().map(|bytes| Datagram { weight: weight(&bytes), bytes }).collect()
}

#[test]
fn a_connection_that_breaks_is_made_anew_and_what_was_not_acknowledged_comes_again() {
    let messages = messages();
    let listener = TcpListener::bind(FOUR).unwrap();
    let mut stream = Stream::new(listener.local_addr().unwrap(), None);
    let second = |n: u64| Instant::from_ms(n * 1000);
    let drive = |stream: &mut Stream, now| {
        for _ in 0..200 {
            stream.tick(0, now);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (first, rest) = messages.split_at(messages.len() / 2);
    first.iter().for_each(|message| assert_eq!(stream.offer(message).lost.0, 0));
    stream.tick(0, second(1));
    // Nobody reads: the small window of the far end keeps most of it here, unacknowledged or unsent.
    let (socket, _) = listener.accept().unwrap();
    drive(&mut stream, second(1));
    assert!(stream.is_connected());
    let before = read_for(socket.try_clone().unwrap(), |octets| octets.len() > 2000);
    drop(socket);
    drive(&mut stream, second(2));
    rest.iter().for_each(|message| assert_eq!(stream.offer(message).lost.0, 0));
    drive(&mut stream, second(3));
    assert!(!stream.is_connected() && stream.error().is_some());
    listener.set_nonblocking(true).unwrap();
    drive(&mut stream, second(60));
    assert!(listener.accept().is_err(), "once a minute at most (section 10.4.4)");
    stream.tick(0, second(61));
    listener.set_nonblocking(false).unwrap();
    let (socket, _) = listener.accept().unwrap();
    drive(&mut stream, second(61));
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut after = Vec::new();
    let _ = (&socket).read_to_end(&mut after);
    let (before, after) = (decode(&before).ports, decode(&after).ports);
    for port in 1..=500_u16 {
        assert!(before.contains(&port) || after.contains(&port), "record {port}");
    }
}

/// An authority and a certificate of it in files.
fn certify(dir: &Path, name: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned(), "::1".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    for (what, text) in [("ca", issuer.pem()), ("pem", certificate.pem()), ("key", key.serialize_pem())] {
        let path = dir.join(format!("{name}.{what}"));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn credentials(dir: &Path, authority: &str) -> Credentials {
    let path = |what: &str| dir.join(what);
    let tls = TlsFiles {
        authority: path(&format!("{authority}.ca")),
        certificate: Some(path("good.pem")),
        key: Some(path("good.key")),
        name: None,
    };
    Credentials { tls: Some(tls), ..Credentials::default() }
}

#[test]
fn a_collector_by_tls_is_openssl_and_both_prove_themselves() {
    [FOUR, SIX].into_iter().for_each(by_tls);
}

fn by_tls(at: &str) {
    let dir = tempfile::tempdir().unwrap();
    certify(dir.path(), "good");
    certify(dir.path(), "other");
    let address: SocketAddr = TcpListener::bind(at).unwrap().local_addr().unwrap();
    let file = |name: &str| dir.path().join(name);
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-verify_return_error", "-Verify", "1", "-accept", &address.to_string()])
        .arg("-cert")
        .arg(file("good.pem"))
        .arg("-key")
        .arg(file("good.key"))
        .arg("-CAfile")
        .arg(file("good.ca"))
        .stdin(Stdio::piped())
        .stdout(Stdio::from(std::fs::File::create(file("out")).unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = StdInstant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        assert!(StdInstant::now() < end, "no server");
        std::thread::sleep(Duration::from_millis(20));
    }
    let wrong = export(Transport::Tls, address, credentials(dir.path(), "other"), 10);
    while wrong.rows().first().is_none_or(|row| row.last_error.is_none()) {
        assert!(StdInstant::now() < end, "taken");
        std::thread::sleep(Duration::from_millis(20));
    }
    let row = wrong.stop().remove(0);
    assert!(row.last_error.as_ref().unwrap().contains("certificate"), "{row:?}");
    assert_eq!(row.records, 0);
    let good = export(Transport::Tls, address, credentials(dir.path(), "good"), 300);
    let read = || std::fs::read(file("out")).unwrap();
    while !whole(&read(), 300) {
        assert!(StdInstant::now() < end, "{:?}", good.rows());
        std::thread::sleep(Duration::from_millis(50));
    }
    tshark_finds_nothing_wrong(&decode(&read()).messages);
    assert_eq!(good.stop().remove(0).records, 300);
    let _ = server.stdin.take().map(|mut stdin| stdin.write_all(b"Q\n"));
    server.kill().unwrap();
    server.wait().unwrap();
}
