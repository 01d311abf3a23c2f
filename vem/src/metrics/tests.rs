use std::net::TcpStream as Plain;

use super::*;

/// A server whose page counts how often it was made.
struct Rig {
    poll: mio::Poll,
    server: Server,
    made: usize,
}

impl Rig {
    fn new() -> Rig {
        let poll = mio::Poll::new().unwrap();
        let server = Server::open(([127, 0, 0, 1], 0).into(), 10, poll.registry()).unwrap();
        Rig { poll, server, made: 0 }
    }

    fn connect(&self) -> Plain {
        let client = Plain::connect(self.server.address().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    fn turn(&mut self, now: Instant) {
        let mut events = mio::Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        for event in &events {
            let made = &mut self.made;
            let mut make = || {
                *made += 1;
                format!("x_total {made}\n").repeat(1000)
            };
            while self.server.on_event(event.token(), now, self.poll.registry(), &mut make).unwrap() {}
        }
    }

    /// Sends octets and returns what comes back: until the connection ends, or for some turns.
    fn talk(&mut self, client: &mut Plain, octets: &[u8], now: Instant) -> String {
        let (mut sent, mut heard) = (0, Vec::new());
        for _ in 0..30 {
            if sent < octets.len() {
                sent += client.write(&octets[sent..]).unwrap_or(0);
            }
            self.turn(now);
            let mut piece = [0; 65536];
            match client.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => heard.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        String::from_utf8(heard).unwrap()
    }

    fn status(&mut self, octets: &[u8]) -> String {
        let answer = self.talk(&mut self.connect(), octets, Instant::now());
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn pages_are_served_over_one_connection() {
    let (mut rig, now) = (Rig::new(), Instant::now());
    let mut client = rig.connect();
    let both = [GET, GET].concat();
    let answer = rig.talk(&mut client, &both, now);
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2);
    assert_eq!(answer.matches("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n").count(), 2);
    assert_eq!((answer.matches("x_total 1\n").count(), rig.made), (2000, 1), "one page for both");
    for piece in [&GET[..9], &GET[9..]] {
        assert_eq!(rig.made, 1);
        rig.talk(&mut client, piece, now + FRESH);
    }
    assert_eq!(rig.made, 2);
    let closing = b"GET /metrics?x=y HTTP/1.1\r\nConnection: Close\r\n\r\n";
    assert!(rig.talk(&mut client, closing, now).contains("Connection: close\r\n"));
    assert!(rig.server.clients.is_empty());
    let head = rig.talk(&mut rig.connect(), b"HEAD /metrics HTTP/1.0\r\n\r\n", now);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn bad_requests_end_their_connection_only() {
    let mut rig = Rig::new();
    let mut good = rig.connect();
    rig.turn(Instant::now());
    for (status, octets) in [
        ("404", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("405", b"POST /metrics HTTP/1.1\r\n\r\n".to_vec()),
        ("400", b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
        ("400", b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        ("400", b"\0\0\0\0\r\n\r\n".to_vec()),
        ("400", b"\xff\xfe / HTTP/1.1\r\n\r\n".to_vec()),
        ("400", b"GET /metrics HTTP/9\r\n\r\n".to_vec()),
        (
            "431",
            [b"GET /metrics HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(HEADERS_MAX + 1), b"\r\n".to_vec()].concat(),
        ),
        ("431", [b"GET /metrics HTTP/1.1\r\nX: ".to_vec(), vec![b'y'; 2 * HEAD_MAX]].concat()),
    ] {
        assert_eq!(rig.status(&octets), status, "{:.40}", String::from_utf8_lossy(&octets));
    }
    assert_eq!(rig.server.clients.len(), 1, "the good one");
    assert!(rig.talk(&mut good, GET, Instant::now()).starts_with("HTTP/1.1 200"));
}

#[test]
fn clients_are_bounded_in_number_and_in_time() {
    let (mut rig, now) = (Rig::new(), Instant::now());
    let clients: Vec<Plain> = (0..CLIENTS_MAX + 100).map(|_| rig.connect()).collect();
    (0..4).for_each(|_| rig.turn(now));
    assert_eq!(rig.server.clients.len(), CLIENTS_MAX);
    // Half a request now and then does not help.
    let mut slow = &clients[0];
    slow.write_all(b"GET /met").unwrap();
    rig.turn(now + TIME);
    rig.server.tick(now + TIME, rig.poll.registry());
    assert_eq!(rig.server.clients.len(), CLIENTS_MAX);
    rig.server.tick(now + TIME + Duration::from_secs(1), rig.poll.registry());
    assert!(rig.server.clients.is_empty());
    assert_eq!(rig.status(GET), "200");
}
