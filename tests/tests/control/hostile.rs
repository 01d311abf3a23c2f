//! What broken and hostile peers can do to the supervisor: lose their own connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::msg::{FromVem, HostUuid, MESSAGE_MAX};
use proto::report::PortReport;
use proto::session::OPENING_MAX;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::world::{World, port, wait_for};

/// Believes everybody: the peer here is the hostile one.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn stranger(world: &World) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(config), "vsm".try_into().unwrap()).unwrap();
    StreamOwned::new(tls, raw(world))
}

fn hello() -> FromVem {
    FromVem::Hello(proto::msg::Hello {
        protocol: proto::msg::PROTOCOL,
        domain: 100,
        uuid: HostUuid([1; 16]),
        host: "host-1".to_owned(),
        software: String::new(),
        version: 0,
        hash: proto::msg::ConfigHash::default(),
        capabilities: Vec::new(),
    })
}

fn say(stream: &mut impl Write, message: &FromVem) {
    let mut octets = Vec::new();
    proto::codec::encode(message, MESSAGE_MAX, &mut octets).unwrap();
    stream.write_all(&octets).unwrap();
    stream.flush().unwrap();
}

fn raw(world: &World) -> TcpStream {
    let socket = TcpStream::connect(world.boot.listen).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

/// Reads until the peer ends it.
fn read_out(stream: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("the supervisor holds the connection"),
            Err(_) => return all,
        }
    }
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let world = World::new(100);
    let agent = world.agent(1);
    for rubbish in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5000], &[0x16, 3, 1, 0xff, 0xff]] {
        let mut socket = raw(&world);
        socket.write_all(rubbish).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        read_out(&mut socket);
    }
    // Garbage inside TLS: a length without a message, octets that are no message, a message out of place.
    let mut out_of_place = Vec::new();
    proto::codec::encode(&FromVem::Ports(Vec::new()), MESSAGE_MAX, &mut out_of_place).unwrap();
    for rubbish in [&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff][..], &[0, 0, 0, 0][..], &out_of_place] {
        let mut stream = stranger(&world);
        stream.write_all(rubbish).unwrap();
        stream.flush().unwrap();
        assert!(read_out(&mut stream).is_empty());
    }
    world.wait_logged("malformed message");
    world.wait_logged("out of order");
    assert!(agent.state().downs.is_empty());
    world.rename("alive").unwrap();
    assert_eq!(agent.hostname().as_deref(), Some("alive"));
}

#[test]
fn a_stranger_may_say_sixteen_kilobytes() {
    let world = World::new(100);
    let mut stream = stranger(&world);
    stream.write_all(&(OPENING_MAX as u32 + 1).to_be_bytes()).unwrap();
    stream.flush().unwrap();
    read_out(&mut stream);
    world.wait_logged(&format!("message of {} octets, {OPENING_MAX} are allowed here", OPENING_MAX + 1));
}

#[test]
fn a_hello_without_a_certificate_is_refused() {
    let world = World::new(100);
    let mut stream = stranger(&world);
    say(&mut stream, &hello());
    let answer = read_out(&mut stream);
    let mut inbox = proto::codec::Inbox::default();
    inbox.push(&answer);
    let answer = inbox.next::<proto::msg::FromVsm>(MESSAGE_MAX).unwrap().unwrap();
    assert!(matches!(answer, proto::msg::FromVsm::Refuse(reason) if reason.contains("no certificate")));
    world.wait_logged("no certificate of this domain");
}

#[test]
fn half_open_connections_block_nobody_and_end() {
    let world = World::new(100);
    let mut silent: Vec<TcpStream> = (0..200).map(|_| raw(&world)).collect();
    let begun = Instant::now();
    let agent = world.agent(1);
    wait_for("first configuration", || agent.hostname().is_some());
    world.rename("alive").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // The oldest made room, the others run out of time.
    for socket in &mut silent {
        read_out(socket);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(world.logged("it made room for newer connections"));
    assert!(agent.state().downs.is_empty());
}

/// Port lists of a size that the wire just carries, and of one that it does not.
#[test]
fn eight_mebibytes_are_the_limit() {
    let world = World::new(100);
    let agent = world.agent(1);
    wait_for("first configuration", || agent.hostname().is_some());
    let large = |count: usize| -> Vec<PortReport> {
        (0..count).map(|i| PortReport { vm: "v".repeat(60_000), ..port(&format!("vm-{i}/0"), "web") }).collect()
    };
    agent.set_ports(large(130));
    wait_for("130 ports", || agent.state().config.as_ref().is_some_and(|c| c.ports.len() == 130));
    assert!(agent.state().downs.is_empty());
    // Over the limit the agent's own session refuses to send, and starts anew.
    agent.send(FromVem::Ports(large(150)));
    wait_for("down", || agent.state().downs.iter().any(|reason| reason.contains("8388608 are allowed")));
    agent.state().ports = vec![port("vm-0/0", "web")];
    wait_for("back", || agent.state().config.as_ref().is_some_and(|c| c.ports.len() == 1));
}

#[test]
fn ports_over_the_limit_get_no_number() {
    let world = World::new(100);
    let agent = world.agent(1);
    agent.set_ports((0..1100).map(|i| port(&format!("vm-{i}/0"), "web")).collect());
    world.wait_logged("Module 3: 44 ports get no interface; the first is vm-1056/0: a module has at most 1056 ports");
    wait_for("1056 ports", || agent.state().config.as_ref().is_some_and(|c| c.ports.len() == 1056));
    agent.set_ports(vec![PortReport {
        card: 33,
        kind: proto::config::ProfileType::Ethernet,
        ..port("uplink/33", "up")
    }]);
    world.wait_logged("uplink/33: it is card 33, they are 1-32");
}

#[test]
fn a_host_can_t_take_another_host_s_card() {
    let world = World::new(100);
    let (victim, thief) = (world.agent(1), world.agent(2));
    victim.set_ports(vec![port("vm-a/0", "strict")]);
    wait_for("a port", || victim.state().config.as_ref().is_some_and(|c| c.ports.len() == 1));
    let applied = victim.state().applied;
    thief.set_ports(vec![port("vm-a/0", "open"), port("vm-b/0", "open")]);
    let profiles = |agent: &crate::world::Agent| {
        let state = agent.state();
        state.config.iter().flat_map(|c| &c.ports).map(|p| (p.name.short(), p.profile.clone())).collect::<Vec<_>>()
    };
    let row = |name: &str, profile: &str| (name.to_owned(), profile.to_owned());
    wait_for("its own port", || profiles(&thief) == [row("Veth2", "open")]);
    world.wait_logged("%VEM_MGR-2-DUPLICATE_NIC: Module 4 claims vm-a/0 that another module holds");
    assert_eq!(profiles(&victim), [row("Veth1", "strict")]);
    assert_eq!(victim.state().applied, applied);
    // When it is let go it moves, with its number.
    victim.set_ports(Vec::new());
    wait_for("moved", || profiles(&thief) == [row("Veth1", "open"), row("Veth2", "open")]);
}

/// A module whose process is stopped, or whose host has lost its network.
#[test]
fn a_member_that_falls_silent_is_removed() {
    let world = World::new(100);
    let dir = world.enroll(1);
    let config = vem::identity::Identity::load(dir.path()).unwrap().client_config().unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(config, "vsm".try_into().unwrap()).unwrap(), raw(&world));
    say(&mut stream, &hello());
    world.wait_logged("Module 3 is online");
    let begun = Instant::now();
    // An edit meanwhile does not wait for a module that has not even said which ports it has.
    world.rename("alive").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    let said = read_out(&mut stream);
    assert!((5..9).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    world.wait_logged("%VEM_MGR-2-VEM_MGR_REMOVE_NO_HB: Removing VEM 3: no heartbeat for 6 seconds");
    world.wait_logged("%VEM_MGR-2-MOD_OFFLINE: Module 3 is offline");
    let mut inbox = proto::codec::Inbox::default();
    inbox.push(&said);
    let heartbeats = std::iter::from_fn(|| inbox.next::<proto::msg::FromVsm>(MESSAGE_MAX).unwrap());
    assert!(heartbeats.filter(|m| *m == proto::msg::FromVsm::Heartbeat).count() >= 4);
}
