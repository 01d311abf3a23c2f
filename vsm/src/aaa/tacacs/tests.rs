//! Servers that answer well, badly, late or not at all, on sockets of this test.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;

use super::*;
use crate::aaa::login::{Verdict, password, remote};
use crate::aaa::secret;
use crate::cli::logins::Visitor;
use crate::cli::session::Session;
use crate::config::aaa::Protocol;
use crate::config::startup;
use crate::config::user::User;
use crate::supervisor::Handle;

const KEY: &str = "tac-key";
const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// What a server does with a request: its kind, sequence number and body; `None` closes the connection.
type Act = Arc<dyn Fn(u8, u8, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// A server, and how many connections it has had. `meddle` sees each packet before it leaves.
fn server(flags: u8, act: Act, meddle: fn(Vec<u8>) -> Vec<u8>) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (mut stream, act) = (stream.unwrap(), act.clone());
            thread::spawn(move || {
                let mut head = [0; HEAD];
                while stream.read_exact(&mut head).is_ok() {
                    let kind = [Kind::Authentication, Kind::Authorization, Kind::Accounting][usize::from(head[1]) - 1];
                    let session = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
                    let mut body = vec![0; u32::from_be_bytes([head[8], head[9], head[10], head[11]]) as usize];
                    stream.read_exact(&mut body).unwrap();
                    let own = Header { kind, minor: head[0] & 15, sequence: head[2] + 1, flags, session };
                    Header { sequence: head[2].wrapping_sub(1), ..own }.reveal(KEY, &mut body);
                    let Some(answer) = act(head[1], head[2], &body) else { return };
                    if stream.write_all(&meddle(own.packet(KEY, &answer))).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, count)
}

fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|octets| octets == text.as_bytes())
}

/// Alice has a password, is an administrator, and may clear nothing.
fn usual() -> Act {
    Arc::new(|kind, _, body| match kind {
        1 => Some(vec![if has(body, "alice") && has(body, "wonder|land-1") { 1 } else { 2 }, 0, 0, 0, 0, 0]),
        2 if has(body, "cmd=clear") || has(body, "cmd-arg=hostname") => Some(vec![0x10, 0, 0, 0, 0, 0]),
        2 => {
            let role = b"shell:roles=\"network-admin\"";
            Some([&[1, 1, 0, 0, 0, 0, role.len() as u8][..], role].concat())
        }
        _ => Some(vec![0, 0, 0, 0, 1]),
    })
}

fn handle(lines: &str) -> Handle {
    let head = format!("feature tacacs+\ntacacs-server key {KEY}\ntacacs-server timeout 1\n");
    let mut model = startup::load(&format!("{head}{lines}")).unwrap();
    let secret = secret::hash("", "local-secret").unwrap();
    model.users.insert("alice".into(), User { secret: Some(secret), ..User::default() });
    Handle::detached(model)
}

fn ask(handle: &Handle, user: &str, password: &str) -> Verdict {
    remote(handle, &["tacacs+".to_owned()], user, password, FROM)
}

fn host(port: u16) -> String {
    format!("tacacs-server host 127.0.0.1 port {port}\n")
}

fn admin() -> Verdict {
    Verdict::Granted(vec!["network-admin".to_owned()])
}

#[test]
fn a_login_by_pap_and_by_ascii() {
    let (port, _) = server(0, usual(), |packet| packet);
    let pap = handle(&host(port));
    assert_eq!(ask(&pap, "alice", "wonder|land-1"), admin());
    assert_eq!(ask(&pap, "alice", "another"), Verdict::Refused);
    assert_eq!(ask(&pap, "alice", &"x".repeat(256)), Verdict::Refused);
    let (port, _) = server(
        0,
        Arc::new(|kind, sequence, body| match (kind, sequence) {
            (1, 1) if !has(body, "wonder") => Some([&[5, 1, 0, 3, 0, 0][..], b"\nP?"].concat()),
            (1, 3) if body[2..5] == [0; 3] && has(body, "wonder|land-1") => Some(vec![1, 0, 0, 0, 0, 0]),
            (1, _) => Some(vec![2, 0, 0, 0, 0, 0]),
            // No role: the user looks.
            _ => Some(vec![0x10, 0, 0, 0, 0, 0]),
        }),
        |packet| packet,
    );
    let ascii = handle(&format!("{}aaa authentication login ascii-authentication\n", host(port)));
    assert_eq!(ask(&ascii, "alice", "wonder|land-1"), Verdict::Granted(vec!["network-operator".to_owned()]));
    assert_eq!(ask(&ascii, "alice", "another"), Verdict::Refused);
    let (port, _) = server(0, Arc::new(|_, _, _| Some(vec![5, 0, 0, 0, 0, 0])), |packet| packet);
    let endless = handle(&format!("{}aaa authentication login ascii-authentication\n", host(port)));
    assert_eq!(ask(&endless, "alice", "x"), Verdict::Silent);
}

#[test]
fn what_is_no_answer_counts_as_silence() {
    let silent = |meddle: fn(Vec<u8>) -> Vec<u8>| {
        let (port, _) = server(0, usual(), meddle);
        let handle = handle(&host(port));
        let begun = Instant::now();
        assert_eq!(ask(&handle, "alice", "wonder|land-1"), Verdict::Silent);
        assert!(begun.elapsed() < Duration::from_secs(3));
        handle.servers().statistics(Protocol::Tacacs, Ipv4Addr::LOCALHOST.into())
    };
    // Of another session, out of sequence, in clear text, of a length that nobody means, ended in the middle.
    assert_eq!(
        silent(|mut p| {
            p[7] ^= 1;
            p
        })
        .unmatched,
        1
    );
    assert_eq!(
        silent(|mut p| {
            p[2] += 2;
            p
        })
        .unmatched,
        1
    );
    assert_eq!(
        silent(|mut p| {
            p[3] |= 1;
            p
        })
        .malformed,
        1
    );
    assert_eq!(
        silent(|mut p| {
            p[8] = 0x7f;
            p
        })
        .malformed,
        1
    );
    assert_eq!(
        silent(|mut p| {
            p.truncate(14);
            p
        })
        .timed_out,
        1
    );
    // Another key.
    let (port, _) = server(0, usual(), |packet| packet);
    let wrong = handle(&format!("tacacs-server host 127.0.0.1 key another port {port}\n"));
    assert_eq!(ask(&wrong, "alice", "wonder|land-1"), Verdict::Silent);
    // It hangs up.
    let (port, _) = server(0, Arc::new(|_, _, _| None), |packet| packet);
    assert_eq!(ask(&handle(&host(port)), "alice", "wonder|land-1"), Verdict::Silent);
}

#[test]
fn down_and_slow_servers_lead_to_the_next_and_last_to_the_switch_itself() {
    let gone = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
    let slow = TcpListener::bind("127.0.0.3:0").unwrap();
    let (port, _) = server(0, usual(), |packet| packet);
    let dead = format!(
        "tacacs-server deadtime 1\ntacacs-server host 127.0.0.2 port {gone}\ntacacs-server host 127.0.0.3 port {}\n\
         aaa authentication login default group tacacs+\n",
        slow.local_addr().unwrap().port()
    );
    let three = handle(&format!("{dead}{}", host(port)));
    let visitor = password(&three, "alice", "wonder|land-1", FROM).unwrap();
    assert_eq!(visitor.granted, Some(vec!["network-admin".to_owned()]));
    let begun = Instant::now();
    assert_eq!(password(&three, "alice", "local-secret", FROM), None);
    assert!(begun.elapsed() < Duration::from_millis(900), "a dead server was asked again");
    assert_eq!(password(&handle(&dead), "alice", "local-secret", FROM).unwrap().granted, None);
}

#[test]
fn a_connection_is_kept_when_both_agree() {
    let lines = |port| format!("tacacs-server host 127.0.0.1 port {port} single-connection\n");
    let questions = |handle: &Handle| (0..5).for_each(|_| assert_eq!(ask(handle, "alice", "wonder|land-1"), admin()));
    let (port, count) = server(SINGLE, usual(), |packet| packet);
    questions(&handle(&lines(port)));
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
    let (port, count) = server(0, usual(), |packet| packet);
    questions(&handle(&lines(port)));
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 10);
    // One that agrees, and closes it nevertheless.
    let (port, _) = server(SINGLE, Arc::new(|kind, _, _| (kind == 1).then(|| vec![2, 0, 0, 0, 0, 0])), |packet| packet);
    let handle = handle(&lines(port));
    assert_eq!(ask(&handle, "alice", "x"), Verdict::Refused);
    assert_eq!(crate::aaa::login::may(&handle, &["tacacs+".into()], "alice", "pts/1", "show clock"), None);
    assert_eq!(ask(&handle, "alice", "x"), Verdict::Refused);
}

/// A session of a user whom a server has let in.
fn session(handle: &Handle) -> Session {
    let granted = Some(vec!["network-admin".to_owned()]);
    let visitor = Visitor { user: Some("alice".into()), from: Some(FROM), granted, ..Visitor::default() };
    let login = handle.logins().begin(visitor, std::time::SystemTime::now());
    Session::of(handle.clone(), login, Some("alice".into()))
}

#[test]
fn every_command_is_authorised_and_told() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let act = usual();
    let (port, _) = server(
        0,
        Arc::new(move |kind, sequence, body| {
            if kind == 3 {
                tell.lock().unwrap().send(String::from_utf8_lossy(body).into_owned()).unwrap();
            }
            act(kind, sequence, body)
        }),
        |packet| packet,
    );
    let handle = handle(&format!(
        "{}aaa authorization commands default group tacacs+\naaa authorization config-commands default group tacacs+\n\
         aaa accounting default group tacacs+\n",
        host(port)
    ));
    let mut alice = session(&handle);
    for (line, is_denied) in [
        ("show clock", false),
        ("clear counters", true),
        ("configure terminal", false),
        ("vlan 10", false),
        ("no hostname", true),
        ("username bob password Sesame-open-1", false),
        ("end", false),
    ] {
        alice.run_line(line);
        assert_eq!(alice.was_denied(), is_denied, "{line}");
    }
    let reports: Vec<String> = (0..4).map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    for (report, wanted) in reports.iter().zip([
        "cmd=clear counters (DENIED)",
        "cmd=configure terminal ; vlan 10 (SUCCESS)",
        "cmd=configure terminal ; no hostname (DENIED)",
        "cmd=configure terminal ; username bob password ******** (SUCCESS)",
    ]) {
        assert!(report.contains(wanted) && report.contains("alice") && report.contains("192.0.2.7"), "{report}");
    }
    // At the console nobody is asked.
    let mut console = Session::new(handle.clone());
    console.run_line("clear counters");
    assert!(!console.was_denied());
}

#[test]
fn without_an_answer_the_roles_decide_only_when_it_is_said() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lines = |last: &str| format!("{}aaa authorization commands default group tacacs+{last}\n", host(gone));
    let mut closed = session(&handle(&lines("")));
    assert!(closed.run_line("show clock").contains("No server has answered"));
    let open = handle(&lines(" local"));
    let mut open = session(&open);
    open.run_line("show clock");
    assert!(!open.has_failed());
    open.run_line("end");
    assert!(!open.has_failed());
}
