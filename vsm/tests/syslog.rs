//! The log, received by Debian's rsyslogd.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use vsm::config::logging::Server;
use vsm::config::model::Model;
use vsm::log::Log;

/// A server that is ended when the test is.
struct Rsyslogd(Child);

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, udp: u16, tcp: u16) -> Rsyslogd {
    let folder = dir.display();
    let config = format!(
        "global(workDirectory=\"{folder}\")\nmodule(load=\"imudp\") module(load=\"imtcp\")\n\
         template(name=\"all\" type=\"string\" string=\"%inputname% %hostname% %app-name% %msgid% %syslogfacility-text% \
         %syslogseverity-text% %protocol-version% %msg%\\n\")\n\
         input(type=\"imudp\" port=\"{udp}\" address=\"127.0.0.1\" name=\"udp\")\n\
         input(type=\"imtcp\" port=\"{tcp}\" address=\"127.0.0.1\" name=\"tcp\")\n\
         action(type=\"omfile\" file=\"{folder}/received\" template=\"all\")\n"
    );
    let path = dir.join("rsyslog.conf");
    std::fs::write(&path, config).unwrap();
    let pid = dir.join("pid");
    let child = Command::new("rsyslogd").arg("-n").arg("-f").arg(path).arg("-i").arg(pid).spawn();
    Rsyslogd(child.expect("rsyslogd: make deps installs the package rsyslog"))
}

fn received(dir: &Path, wanted: &str) -> String {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(dir.join("received")).unwrap_or_default();
        if text.contains(wanted) {
            return text;
        }
        assert!(Instant::now() < patience, "no '{wanted}' in\n{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rsyslogd_understands_every_field_and_misses_nothing_that_waits() {
    let dir = tempfile::tempdir().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = Log::open(&dir.path().join("log")).unwrap();
    let mut model = Model { hostname: "n1000v".into(), ..Model::default() };
    let server = Server { port: Some(udp), ..Server::default() };
    model.logging.servers.insert("127.0.0.1".into(), server);
    let facility = Some("local0".to_owned());
    let server = Server { port: Some(tcp), severity: Some(3), tcp: true, facility, ..Server::default() };
    model.logging.servers.insert("localhost".into(), server);
    log.configure(&model);

    let server = start(dir.path(), udp, tcp);
    // The first lines may come before it listens: by UDP they are lost.
    let patience = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(dir.path().join("received")).unwrap_or_default().contains("udp n1000v TEST READY") {
        assert!(Instant::now() < patience, "it does not start");
        log.write("TEST", 5, "READY", "are you there");
        std::thread::sleep(Duration::from_millis(100));
    }
    log.write("VEM_MGR", 2, "MOD_ONLINE", "Module 3 is online");
    let text = received(dir.path(), "tcp n1000v VEM_MGR");
    let line = "n1000v VEM_MGR MOD_ONLINE local0 crit 1 %VEM_MGR-2-MOD_ONLINE: Module 3 is online";
    assert!(text.contains(&format!("tcp {line}\n")), "{text}");
    received(dir.path(), &format!("udp {}\n", line.replace("local0", "local7")));
    assert!(!text.contains("tcp n1000v TEST"), "severity 5 is not for the one by TCP");

    drop(server);
    for n in 0..50 {
        log.write("VEM_MGR", 2, "MOD_OFFLINE", &format!("Module {n} is offline"));
    }
    let _server = start(dir.path(), udp, tcp);
    let text = received(dir.path(), "Module 49 is offline");
    for n in 0..50 {
        let line =
            format!("tcp n1000v VEM_MGR MOD_OFFLINE local0 crit 1 %VEM_MGR-2-MOD_OFFLINE: Module {n} is offline");
        assert!(text.contains(&line), "{line} is missing in\n{text}");
    }
    let status = &log.servers();
    // The system limits how many datagrams it reports as lost.
    assert!(status["127.0.0.1"].lost >= 1, "{status:?}");
    assert_eq!((status["localhost"].lost, status["localhost"].waiting), (0, 0), "{status:?}");
}
