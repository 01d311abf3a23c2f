//! Servers that answer well, badly, late or not at all, on sockets of this test.

use std::thread;

use super::packet::tests::{answer, avpair};
use super::*;
use crate::aaa::login::{Verdict, password, remote};
use crate::aaa::secret;
use crate::config::aaa::Protocol;
use crate::config::model::Model;
use crate::config::startup;
use crate::config::user::User;
use crate::supervisor::Handle;

const KEY: &str = "testing123";
const FROM: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// A server that does `act` with each request: what it returns is sent.
fn server(act: impl Fn(usize, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    thread::spawn(move || {
        let mut octets = [0; 4096];
        for number in 0.. {
            let Ok((length, peer)) = socket.recv_from(&mut octets) else { return };
            for reply in act(number, &octets[..length]) {
                socket.send_to(&reply, peer).unwrap();
            }
        }
    });
    port
}

/// Nobody listens there, and nobody says so: the socket is open and not read.
fn silent() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

fn handle(lines: &str) -> Handle {
    let mut model: Model =
        startup::load(&format!("radius-server key {KEY}\nradius-server timeout 1\n{lines}")).unwrap();
    let secret = secret::hash("", "local-secret").unwrap();
    model.users.insert("ops".into(), User { secret: Some(secret), ..User::default() });
    Handle::detached(model)
}

fn ask_radius(handle: &Handle) -> Verdict {
    remote(handle, &["radius".to_owned()], "ops", "remote-secret", FROM)
}

#[test]
fn forged_and_replayed_answers_are_waited_past() {
    let port = server(|_, request| {
        let good = answer(request, 2, &avpair("shell:roles=\"network-admin\""), true, KEY);
        let mut older = request.to_vec();
        older[4..20].fill(9);
        let mut other = good.clone();
        other[1] ^= 1;
        vec![
            answer(request, 2, &[], true, "wrong"),
            answer(request, 2, &[], false, KEY),
            answer(&older, 2, &[], true, KEY),
            other,
            b"rubbish".to_vec(),
            Vec::new(),
            good.clone(),
            good,
        ]
    });
    let handle = handle(&format!("radius-server host 127.0.0.1 auth-port {port}\n"));
    assert_eq!(ask_radius(&handle), Verdict::Granted(vec!["network-admin".into()]));
    let seen = handle.servers().statistics(Protocol::Radius, Ipv4Addr::LOCALHOST.into());
    assert_eq!((seen.sent, seen.answered, seen.unmatched, seen.unsigned, seen.malformed), (1, 1, 3, 1, 2));
}

#[test]
fn an_answer_from_elsewhere_does_not_arrive() {
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut octets = [0; 4096];
        let (length, peer) = socket.recv_from(&mut octets).unwrap();
        elsewhere.send_to(&answer(&octets[..length], 2, &[], true, KEY), peer).unwrap();
        thread::sleep(Duration::from_secs(3));
    });
    let handle = handle(&format!("radius-server retransmit 0\nradius-server host 127.0.0.1 auth-port {port}\n"));
    assert_eq!(ask_radius(&handle), Verdict::Silent);
}

#[test]
fn a_lost_request_is_sent_again_and_is_the_same() {
    let port = server(|number, request| match number {
        0 => Vec::new(),
        _ => vec![answer(request, 3, &[], true, KEY)],
    });
    let handle = handle(&format!("radius-server host 127.0.0.1 auth-port {port}\n"));
    assert_eq!(ask_radius(&handle), Verdict::Refused);
    let seen = handle.servers().statistics(Protocol::Radius, Ipv4Addr::LOCALHOST.into());
    assert_eq!((seen.sent, seen.timed_out, seen.answered), (2, 1, 1));
}

#[test]
fn an_unsigned_answer_counts_only_when_it_is_said_to() {
    let port = server(|_, request| vec![answer(request, 2, &[], false, KEY)]);
    let lines = format!("radius-server retransmit 0\nradius-server host 127.0.0.1 auth-port {port}\n");
    assert_eq!(ask_radius(&handle(&lines)), Verdict::Silent);
    let lenient = format!("{lines}no radius-server require-message-authenticator\n");
    assert_eq!(ask_radius(&handle(&lenient)), Verdict::Granted(vec!["network-operator".into()]));
}

#[test]
fn a_dead_server_is_passed_over_and_the_switch_itself_comes_last() {
    let (_open, dead) = silent();
    let port = server(|_, request| vec![answer(request, 3, &[], true, KEY)]);
    let hosts = format!(
        "radius-server retransmit 0\nradius-server deadtime 1\nradius-server host 127.0.0.2 auth-port {dead}\n\
         aaa authentication login default group radius\n"
    );
    let both = handle(&format!("{hosts}radius-server host 127.0.0.1 auth-port {port}\n"));
    // A server that says no is believed, whatever the switch's own users are.
    assert_eq!(password(&both, "ops", "local-secret", FROM), None);
    let begun = Instant::now();
    assert_eq!(password(&both, "ops", "local-secret", FROM), None);
    assert!(begun.elapsed() < Duration::from_millis(900), "the silent server was asked again");
    let host = Ipv4Addr::new(127, 0, 0, 2).into();
    assert!(both.servers().dead_for(Protocol::Radius, host, Instant::now()).is_some());
    assert_eq!(both.servers().statistics(Protocol::Radius, host).sent, 1);
    // None answers: the local users count, unless that is off.
    let alone = handle(&hosts);
    let visitor = password(&alone, "ops", "local-secret", FROM).unwrap();
    assert_eq!(visitor.granted, None);
    assert_eq!(password(&alone, "ops", "another-one", FROM), None);
    assert!(alone.log().last(9).iter().any(|line| line.contains("%AAA-3-SERVERS_SILENT")));
    let strict = handle(&format!("{hosts}no aaa authentication login default fallback error local\n"));
    assert_eq!(password(&strict, "ops", "local-secret", FROM), None);
}

#[test]
fn a_user_who_is_known_only_to_the_server_gets_its_roles() {
    let port =
        server(|_, request| vec![answer(request, 2, &avpair("shell:roles=\"server-admin nonesuch\""), true, KEY)]);
    let lines =
        format!("radius-server host 127.0.0.1 auth-port {port}\naaa authentication login default group radius\n");
    let visitor = password(&handle(&lines), "stranger", "x", FROM).unwrap();
    assert_eq!((visitor.user.as_deref(), visitor.granted), (Some("stranger"), Some(vec!["server-admin".into()])));
    for bad in ["", "with blank", "ctrl\u{1b}", &"x".repeat(65)] {
        assert_eq!(password(&handle(&lines), bad, "x", FROM), None, "{bad}");
    }
}
