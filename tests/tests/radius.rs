//! Logins by RADIUS, with Debian's FreeRADIUS at the other end: it answers, is dead, is slow, has another key; and somebody
//! on the way replays and changes its answers. Once by the whole way: OpenSSH's client, the shipped supervisor, FreeRADIUS.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use vsm::aaa::login::{Verdict, password, remote};
use vsm::config::aaa::Protocol;
use vsm::config::startup;
use vsm::supervisor::Handle;

const KEY: &str = "testing123";
const PASSWORD: &str = "wonder|land-1";
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

const USERS: &str = r#"
alice Cleartext-Password := "wonder|land-1"
    Cisco-AVPair := "shell:roles=\"network-admin\""
sam Cleartext-Password := "wonder|land-1"
    Cisco-AVPair := "shell:roles=\"server-admin nonesuch\""
root Cleartext-Password := "wonder|land-1"
    Service-Type := Administrative-User
plain Cleartext-Password := "wonder|land-1"
"#;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has just now.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// FreeRADIUS with a folder of its own, in the foreground.
struct Radius {
    _folder: tempfile::TempDir,
    _child: Ended,
    port: u16,
}

/// Up to date, it signs its answers by itself; that of Debian 12 does when it is told to.
fn radius() -> Radius {
    radius_with("update reply {\n &Message-Authenticator := 0x00\n }", "")
}

fn radius_with(signed: &str, lines: &str) -> Radius {
    // Another test may have taken the port before the server could: then it ends.
    let started = (0..5).find_map(|_| start_radius(signed, lines));
    started.expect("FreeRADIUS ends")
}

fn start_radius(signed: &str, lines: &str) -> Option<Radius> {
    let folder = tempfile::tempdir().unwrap();
    let (dir, port) = (folder.path().display().to_string(), free_port());
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("dictionary", "$INCLUDE /usr/share/freeradius/dictionary\n");
    write("users", USERS);
    write(
        "radiusd.conf",
        &format!(
            "name = radiusd\nprefix = /usr\nlibdir = /usr/lib/freeradius\nraddbdir = {dir}\nlogdir = {dir}\n\
             run_dir = {dir}\ndb_dir = {dir}\npidfile = {dir}/pid\nmax_request_time = 30\ncleanup_delay = 0\n\
             max_requests = 1024\nhostname_lookups = no\nlog {{\n destination = stdout\n auth = yes\n}}\n\
             security {{\n max_attributes = 200\n reject_delay = 0\n status_server = no\n}}\n\
             thread pool {{\n start_servers = 1\n max_servers = 4\n min_spare_servers = 1\n max_spare_servers = 3\n}}\n\
             client local {{\n ipaddr = 127.0.0.0/8\n secret = {KEY}\n require_message_authenticator = yes\n}}\n\
             modules {{\n pap {{\n }}\n files {{\n filename = {dir}/users\n }}\n}}\n\
             server default {{\n listen {{\n type = auth\n ipaddr = 127.0.0.1\n port = {port}\n }}\n\
             authorize {{\n {signed}\n files\n pap\n }}\n authenticate {{\n Auth-Type PAP {{\n pap\n }}\n }}\n}}\n"
        ),
    );
    let mut server = Command::new("freeradius");
    server.args(["-f", "-l", "stdout", "-d"]).arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = Ended(server.spawn().expect("freeradius (Debian package freeradius)"));
    let begun = Instant::now();
    let asking = handle(&format!("radius-server host 127.0.0.1 auth-port {port}\n{lines}"));
    while ask(&asking, "alice", PASSWORD) == Verdict::Silent {
        if child.0.try_wait().expect("its state").is_some() {
            return None;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "FreeRADIUS does not answer");
    }
    Some(Radius { _folder: folder, _child: child, port })
}

fn handle(lines: &str) -> Handle {
    let head = format!(
        "radius-server key {KEY}\nradius-server timeout 1\nradius-server retransmit 0\n\
         username alice password 0 local|secret-1 role network-operator\n"
    );
    Handle::detached(startup::load(&format!("{head}{lines}")).unwrap())
}

fn ask(handle: &Handle, user: &str, password: &str) -> Verdict {
    remote(handle, &["radius".to_owned()], user, password, FROM)
}

fn granted(role: &str) -> Verdict {
    Verdict::Granted(vec![role.to_owned()])
}

/// What somebody on the way does to an answer; the packets that arrive instead.
type Meddle = Box<dyn FnMut(Vec<u8>) -> Vec<Vec<u8>> + Send>;

/// Stands between switch and server.
fn relay(server: u16, meddle: Meddle) -> u16 {
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = near.local_addr().unwrap().port();
    near.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let meddle = Arc::new(Mutex::new(meddle));
    thread::spawn(move || {
        let mut octets = [0; 4096];
        while let Ok((length, switch)) = near.recv_from(&mut octets) {
            let far = UdpSocket::bind("127.0.0.1:0").unwrap();
            far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            far.send_to(&octets[..length], SocketAddr::from(([127, 0, 0, 1], server))).unwrap();
            let mut answer = [0; 4096];
            let Ok(length) = far.recv(&mut answer) else { continue };
            for packet in meddle.lock().unwrap()(answer[..length].to_vec()) {
                near.send_to(&packet, switch).unwrap();
            }
        }
    });
    port
}

#[test]
fn freeradius_lets_in_and_gives_roles() {
    let radius = radius();
    let switch = handle(&format!("radius-server host 127.0.0.1 auth-port {}\n", radius.port));
    assert_eq!(ask(&switch, "alice", PASSWORD), granted("network-admin"));
    assert_eq!(ask(&switch, "sam", PASSWORD), granted("server-admin"));
    assert_eq!(ask(&switch, "root", PASSWORD), granted("network-admin"));
    assert_eq!(ask(&switch, "plain", PASSWORD), granted("network-operator"));
    assert_eq!(ask(&switch, "alice", "another"), Verdict::Refused);
    assert_eq!(ask(&switch, "alice", &"x".repeat(128)), Verdict::Refused);
    assert_eq!(ask(&switch, "nobody", PASSWORD), Verdict::Refused);
    // The server has another key than the switch: nothing that it says counts.
    let wrong = handle(&format!("radius-server host 127.0.0.1 auth-port {} key another\n", radius.port));
    assert_eq!(ask(&wrong, "alice", PASSWORD), Verdict::Silent);
}

/// A server from before 2024 has to be told to sign, or the switch has to be told to take its answers as they are.
#[test]
fn a_server_that_does_not_sign() {
    let lenient = "no radius-server require-message-authenticator\n";
    let radius = radius_with("update reply {\n &Message-Authenticator !* ANY\n }", lenient);
    let lines = format!("radius-server host 127.0.0.1 auth-port {}\n", radius.port);
    let (strict, lenient) = (handle(&lines), handle(&format!("{lines}{lenient}")));
    if ask(&strict, "alice", PASSWORD) == Verdict::Silent {
        let host = Ipv4Addr::LOCALHOST.into();
        assert!(strict.servers().statistics(Protocol::Radius, host).unsigned > 0);
    }
    assert_eq!(ask(&lenient, "alice", PASSWORD), granted("network-admin"));
    assert_eq!(ask(&lenient, "alice", "another"), Verdict::Refused);
}

#[test]
fn a_dead_and_a_slow_server() {
    let radius = radius();
    let dead = free_port();
    let lines = format!(
        "radius-server deadtime 1\nradius-server host 127.0.0.2 auth-port {dead} timeout 2\n\
         radius-server host 127.0.0.1 auth-port {}\naaa authentication login default group radius\n",
        radius.port
    );
    let switch = handle(&lines);
    let visitor = password(&switch, "alice", PASSWORD, FROM).expect("by the second server");
    assert_eq!(visitor.granted, Some(vec!["network-admin".to_owned()]));
    let host = Ipv4Addr::new(127, 0, 0, 2).into();
    assert!(switch.servers().dead_for(Protocol::Radius, host, Instant::now()).is_some());
    password(&switch, "alice", PASSWORD, FROM).expect("without the first server");
    assert_eq!(switch.servers().statistics(Protocol::Radius, host).sent, 1);
    // The server says no: the switch's own password does not count.
    assert_eq!(password(&switch, "alice", "local|secret-1", FROM), None);
    // Slow, and within the time; slow, and too slow. The wait is bounded.
    let late = |ms: u64| {
        relay(
            radius.port,
            Box::new(move |answer| {
                thread::sleep(Duration::from_millis(ms));
                vec![answer]
            }),
        )
    };
    let slow = handle(&format!("radius-server host 127.0.0.1 auth-port {}\n", late(500)));
    assert_eq!(ask(&slow, "alice", PASSWORD), granted("network-admin"));
    let lines = format!(
        "radius-server host 127.0.0.1 auth-port {}\naaa authentication login default group radius\n",
        late(2500)
    );
    let begun = Instant::now();
    let visitor = password(&handle(&lines), "alice", "local|secret-1", FROM).expect("a local user");
    assert!(visitor.granted.is_none() && begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn whoever_is_on_the_way_gains_nothing() {
    let radius = radius();
    let by = |meddle: Meddle| {
        let port = relay(radius.port, meddle);
        handle(&format!("radius-server host 127.0.0.1 auth-port {port}\n"))
    };
    // The answer to an earlier login, again and again.
    let mut kept: Option<Vec<u8>> = None;
    let replayed = by(Box::new(move |answer| vec![kept.get_or_insert(answer).clone()]));
    assert_eq!(ask(&replayed, "alice", PASSWORD), granted("network-admin"));
    assert_eq!(ask(&replayed, "alice", "another"), Verdict::Silent);
    // Reject is made Accept; the packet is cut; the Message-Authenticator is taken out.
    let turned = by(Box::new(|mut answer| {
        answer[0] = 2;
        vec![answer]
    }));
    assert_eq!(ask(&turned, "alice", "another"), Verdict::Silent);
    let cut = by(Box::new(|mut answer| {
        answer.pop();
        vec![answer]
    }));
    assert_eq!(ask(&cut, "alice", PASSWORD), Verdict::Silent);
    let stripped = by(Box::new(|mut answer| {
        if let Some(at) = answer.windows(2).skip(20).position(|w| w == [80, 18]) {
            answer.drain(20 + at..20 + at + 18);
            let length = (answer.len() as u16).to_be_bytes();
            answer[2..4].copy_from_slice(&length);
        }
        vec![answer]
    }));
    assert_eq!(ask(&stripped, "alice", PASSWORD), Verdict::Silent);
    // Forged ones in front of the true one are waited past.
    let flooded = by(Box::new(|answer| {
        let mut packets: Vec<Vec<u8>> = (0..50u8).map(|n| [&answer[..4], &[n; 16], &answer[20..]].concat()).collect();
        packets.push(answer);
        packets
    }));
    assert_eq!(ask(&flooded, "alice", PASSWORD), granted("network-admin"));
}

/// The shipped binary, beside the test.
fn vsm() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("vsm")
}

fn ssh(folder: &Path, port: u16, user: &str, password: &str, line: &str) -> (String, bool) {
    let mut client = Command::new("timeout");
    client.args(["30", "ssh", "-F", "/dev/null", "-p", &port.to_string(), "-l", user]);
    let known = format!("UserKnownHostsFile={}", folder.join("known").display());
    for option in ["StrictHostKeyChecking=accept-new", &known, "IdentityAgent=none", "PubkeyAuthentication=no"] {
        client.args(["-o", option]);
    }
    client.args(["-o", "NumberOfPasswordPrompts=1", "127.0.0.1", line]).stdin(Stdio::null());
    client.env("SSH_ASKPASS", folder.join("askpass")).env("SSH_ASKPASS_REQUIRE", "force").env("PASSWORD", password);
    let output = client.output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
}

#[test]
fn by_ssh_to_the_shipped_supervisor() {
    let radius = radius();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "domain = 7\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{0}/state\"\ncli_socket = \"{0}/cli\"\n\
         [ssh]\nlisten = \"127.0.0.1:{port}\"\nhost_keys = [\"ed25519\"]\n",
        dir.display()
    );
    fs::write(dir.join("vsm.toml"), text).unwrap();
    fs::write(dir.join("askpass"), "#!/bin/sh\nprintf '%s\\n' \"$PASSWORD\"\n").unwrap();
    fs::set_permissions(dir.join("askpass"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut supervisor = Command::new(vsm());
    supervisor.args(["run", "--config"]).arg(dir.join("vsm.toml")).env("RUST_LOG", "error").stdin(Stdio::null());
    let _supervisor = Ended(supervisor.spawn().expect("vsm is built"));
    let console = tests::console::Console::new(&vsm(), &dir.join("cli"));
    let begun = Instant::now();
    while console.show("show clock").is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the supervisor does not answer");
        thread::sleep(Duration::from_millis(50));
    }
    let host = format!("radius-server host 127.0.0.1 key {KEY} auth-port {} timeout 1", radius.port);
    console.configure(&[host.as_str(), "aaa authentication login default group radius"]).unwrap();
    assert_eq!(
        ssh(dir, port, "alice", PASSWORD, "configure terminal ; hostname by-radius ; show hostname").0.lines().last(),
        Some("by-radius")
    );
    let (said, done) = ssh(dir, port, "sam", PASSWORD, "configure terminal ; hostname by-sam");
    assert!(!done && said.contains("Permission denied for the role"), "{said}");
    let (shown, _) = ssh(dir, port, "plain", PASSWORD, "show running-config");
    assert!(shown.contains("radius-server host 127.0.0.1 key 7 ********") && !shown.contains(KEY), "{shown}");
    assert!(!ssh(dir, port, "alice", "another", "show clock").1);
    let log = console.show("show accounting log all").unwrap();
    assert!(log.contains("user=alice:cmd=configure terminal ; hostname by-radius (SUCCESS)"), "{log}");
    assert!(log.contains("user=sam:cmd=configure terminal ; hostname by-sam (DENIED)") && !log.contains(KEY), "{log}");
    assert!(log.contains("type=login") && log.contains("cmd=login by password (DENIED)"), "{log}");
}
