//! The agent as it ships, its dataplane and a real tap, under a real supervisor: in a network namespace of its own.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;

use proto::addr::VlanId;
use proto::query::Query;
use proto::report::{Answer, PortRow, PortState};
use proto::vemcmd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use vem::headless::{LastGood, Store};
use vem::local::{Request, client};
use vsm::cli::session::Session;
use vsm::config::model::{Model, Profile, Settings, Vlan};

use crate::world::{World, uuid, wait_for};

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Namespaces of this test; they are deleted at its end, and with them the taps.
struct Namespaces([String; 2]);

impl Namespaces {
    fn new() -> Namespaces {
        let names = ["host", "vm"].map(|name| format!("vem-{}-{name}", std::process::id()));
        names.iter().for_each(|name| ip(&format!("netns add {name}")));
        Namespaces(names)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// A running agent; it is stopped when this is dropped.
struct Running {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl Running {
    fn start(file: &Path) -> Running {
        let bootstrap = vem::bootstrap::read(file).unwrap();
        let socket = bootstrap.socket.clone();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || vem::agent::run_until(bootstrap, theirs).unwrap());
        wait_for("the agent's socket", || client::ask(&socket, &Request::Ports).is_ok());
        Running { stop: Some(ours), thread: Some(thread), socket }
    }

    fn port(&self) -> Value {
        client::ask(&self.socket, &Request::Ports).unwrap()["ports"][0].clone()
    }

    fn card(&self) -> String {
        let answer = client::ask(&self.socket, &Request::Show { words: "show card".into() }).unwrap();
        answer["text"].as_str().unwrap().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

fn add_web(model: &mut Model) -> Result<Vec<String>, String> {
    let vlan = VlanId::new(10).unwrap();
    model.vlans.insert(vlan, Vlan::default());
    let own = Settings { admin_up: Some(true), access_vlan: Some(vlan), ..Settings::default() };
    model.profiles.insert("web".to_owned(), Profile { enabled: true, own, ..Profile::default() });
    Ok(Vec::new())
}

fn rows(world: &World) -> Vec<PortRow> {
    match world.handle().ask(Query::Ports, None).pop() {
        Some((_, Ok(Answer::Ports(rows)))) => rows,
        other => panic!("{other:?}"),
    }
}

/// Every command of the module, asked on the host and through the supervisor: the same text, but for what goes on with
/// time (asked for until both fall into the same second) and the size of the process.
fn module_and_host_show_the_same(world: &World, agent: &Running) {
    let mut session = Session::new(world.handle());
    for show in vemcmd::SHOWS {
        let number = if show.number == vemcmd::Number::Vlan { " 10" } else { "" };
        let words = format!("show {}{number}", show.words);
        let local = || {
            let answer = client::ask(&agent.socket, &Request::Show { words: words.clone() }).unwrap();
            answer["text"].as_str().unwrap().to_owned()
        };
        let mut remote = || session.run_line(&format!("module 3 execute vemcmd {words}"));
        let names =
            |text: String| text.lines().filter_map(|l| Some(l.split(' ').next()?.to_owned())).collect::<Vec<_>>();
        match show.words {
            "heap" => assert_eq!(names(local()), names(remote())),
            _ => wait_for(&words, || {
                // How long ago a frame was dropped is another number each time.
                let timeless = |text: String| -> String {
                    text.lines().map(|line| line.split_once(" ms ago ").map_or(line, |(_, rest)| rest)).collect()
                };
                let here = timeless(local());
                !here.is_empty() && timeless(remote()) == here && here == timeless(local())
            }),
        }
    }
    assert!(session.run_line("attach vem 3").contains("Attached to module 3 (host-1)"));
    assert_eq!(session.prompt(), "switch(vem-3)# ");
    assert!(session.run_line("show port").contains("web1/0"));
    assert!(session.run_line("show port | json").contains(r#""command":"show port""#));
    session.run_line("exit");
    assert_eq!(session.prompt(), "switch# ");
}

/// Somebody who asks for 10.0.0.2 again and again, for a minute at most.
struct Pings(std::process::Child);

impl Pings {
    fn start(vm: &str) -> Pings {
        let words = format!("netns exec {vm} ping -q -i 0.2 -W 1 -w 60 10.0.0.2");
        let ping = Command::new("ip").args(words.split(' ')).stdout(std::process::Stdio::null()).spawn();
        Pings(ping.unwrap())
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A capture from the supervisor's command line: frames with their direction, as text, as JSON and as a file that tshark
/// reads; and one that a person ends.
fn captures_of_a_port(world: &World, vm: &str) {
    ip(&format!("-n {vm} addr add 10.0.0.1/24 dev tap0"));
    let _pings = Pings::start(vm);
    let mut session = Session::new(world.handle());
    let veth = "ethanalyzer local interface vethernet 1";
    let text = session.run_line(&format!("{veth} capture-filter \"arp\" limit-captured-frames 2 autostop duration 20"));
    assert_eq!(text.lines().filter(|line| line.contains("Veth1 rx") && line.contains("10.0.0.2")).count(), 2, "{text}");
    assert!(text.ends_with("2 frames captured\n"), "{text}");
    let json = session.run_line(&format!("{veth} capture-filter arp limit-captured-frames 1 | json"));
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    assert_eq!(json["TABLE_frame"]["ROW_frame"]["direction"], "rx");
    let none = session.run_line(&format!("{veth} capture-filter 'tcp port 4711' autostop duration 1"));
    assert!(none.ends_with("0 frames captured\n"), "{none}");
    let bad = session.run_line(&format!("{veth} capture-filter 'tcp port'"));
    assert!(bad.starts_with("ERROR: capture-filter: ") && bad.contains("syntax error"), "{bad}");
    let loops = session.run_line(&format!("{veth} capture-filter 'ip6 protochain 17'"));
    assert!(loops.contains("it jumps behind the end"), "{loops}");

    let written =
        session.run_line(&format!("{veth} capture-filter arp limit-captured-frames 3 write bootflash:arp.pcapng"));
    assert!(written.ends_with("3 frames captured\nWritten to bootflash:arp.pcapng\n"), "{written}");
    let file = world.boot.state_dir.join("bootflash/arp.pcapng");
    let fields = ["-e", "frame.interface_name", "-e", "frame.packet_flags_direction", "-e", "arp.dst.proto_ipv4"];
    let tshark = Command::new("tshark").arg("-r").arg(&file).args(["-T", "fields"]).args(fields).output().unwrap();
    let told = String::from_utf8(tshark.stdout).unwrap();
    assert_eq!(told.lines().count(), 3, "{told}{}", String::from_utf8_lossy(&tshark.stderr));
    assert!(told.lines().all(|line| line == "Vethernet1\t0x00000001\t10.0.0.2"), "{told}");

    // A person sees the frames as they come, and ends it.
    let (typing, stream) = UnixStream::pair().unwrap();
    typing.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let sessions = vsm::cli::sessions::Sessions::new(world.handle(), 1);
    let talk = vsm::cli::sessions::Talk::Terminal(Default::default());
    sessions.open(stream, Default::default(), talk).unwrap();
    (&typing).write_all(format!("{veth} capture-filter arp limit-captured-frames 100000\n").as_bytes()).unwrap();
    let mut shown = String::new();
    let mut read = |until: &str| {
        while !shown.contains(until) {
            let mut octets = [0; 4096];
            let count = (&typing).read(&mut octets).unwrap_or_else(|e| panic!("{e} behind: {shown}"));
            shown.push_str(&String::from_utf8_lossy(&octets[..count]));
        }
        let rest = shown.split_off(shown.find(until).unwrap() + until.len());
        std::mem::replace(&mut shown, rest)
    };
    assert!(read("Veth1 rx").contains("Capturing on Vethernet1 (module 3 (host-1), tap0)\r\n"));
    (&typing).write_all(b"\x03show clock\n").unwrap();
    read("frames captured\r\n");
    assert!(read("UTC").contains("show clock"), "what is typed behind it is a command");
}

/// What is altered by hand on the host is named by the audit.
fn audits_name_what_was_altered(world: &World, agent: Running, file: &Path, state: &Path) -> Running {
    let mut session = Session::new(world.handle());
    session.run_line("golden save base");
    let mut audit = || (session.run_line("audit golden base module 3"), session.went_well());
    let (text, passed) = audit();
    assert!(passed && text.starts_with("Audit passed: 0 lines"), "{text}");

    // The stored configuration becomes another, sound in itself, in which VLAN 10 does not exist.
    let (path, kept) = (state.join("config"), std::fs::read(state.join("config")).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("config"), &kept).unwrap();
    let store = Store::open(elsewhere.path()).unwrap();
    let (last, mut host) = store.load_config().unwrap().unwrap();
    host.vlans.remove(VlanId::new(10).unwrap());
    store.save_config(&LastGood::of(last.version + 1000, &host)).unwrap();
    std::fs::copy(elsewhere.path().join("config"), &path).unwrap();
    let (text, passed) = audit();
    assert!(!passed && text.contains("stored configuration: version") && text.contains("Audit failed"), "{text}");
    std::fs::write(&path, b"VEMSTAT1 nonsense").unwrap();
    let (text, passed) = audit();
    assert!(!passed && text.contains("stored configuration: ") && text.contains("is cut short"), "{text}");

    // With the altered file it comes back altered, which is logged and put right.
    std::fs::copy(elsewhere.path().join("config"), &path).unwrap();
    drop(agent);
    let agent = Running::start(file);
    world.wait_logged("Module 3 runs another configuration than version");
    wait_for("the right configuration", || audit().1);
    agent
}

fn follow_the_supervisor(host: &str, vm: &str) {
    let namespace = std::fs::File::open(format!("/run/netns/{host}")).unwrap();
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    ip("link set lo up");
    let mut world = World::new(100);
    let state = world.enroll(1);
    let file = state.path().join("vem.toml");
    let text = format!(
        "[vsm]\naddress = \"{}\"\n[host]\nname = \"host-1\"\nuuid = \"{}\"\ndomain = 100\nstate_dir = \"{}\"\nsocket = \"{}\"\n",
        world.address(),
        uuid(1),
        state.path().display(),
        state.path().join("vem.sock").display(),
    );
    std::fs::write(&file, text).unwrap();
    let agent = Running::start(&file);
    wait_for("the session", || agent.card().contains("up (module 3 of switch)"));

    // A port of a profile that does not exist gets its number, and comes up when the profile is made.
    let port = vem::request::Request {
        profile: "web".into(),
        device: "tap0".into(),
        netns: Some(vm.to_owned()),
        vm: Some("web1".into()),
        ..Default::default()
    };
    client::ask(&agent.socket, &Request::Attach { port }).unwrap();
    wait_for("a number", || agent.port()["interface"] == "Vethernet1");
    assert_eq!(agent.port()["reason"], "profile 'web' does not exist");
    world.handle().edit(Box::new(add_web)).unwrap();
    assert_eq!(agent.port()["state"], "up", "an edit returns when it runs");
    assert_eq!(rows(&world)[0].state, PortState::Up);
    assert_eq!(rows(&world)[0].port.nic.as_str(), "web1/0");
    world.wait_logged("Interface Vethernet1 is up");

    module_and_host_show_the_same(&world, &agent);
    captures_of_a_port(&world, vm);

    // Every further edit is there when it returns, and is what is reported.
    for i in 0..10 {
        world.rename(&format!("name-{i}")).unwrap();
        assert!(agent.card().contains(&format!("of name-{i},")), "{}", agent.card());
    }
    let applied = world.handle().inventory().modules[&3].applied;
    assert!(agent.card().contains(&format!("version {}, ", applied.0)));

    let agent = audits_name_what_was_altered(&world, agent, &file, state.path());

    // The supervisor goes: nothing changes, and a restart brings back the same.
    let model = (*world.handle().model()).clone();
    world.stop();
    wait_for("the loss", || agent.card().contains("Supervisor    : down"));
    assert_eq!(agent.port()["state"], "up");
    drop(agent);
    let agent = Running::start(&file);
    assert_eq!((&agent.port()["interface"], &agent.port()["state"]), (&"Vethernet1".into(), &"up".into()));
    // It comes back: the agent is in step without a change.
    world.start(model);
    wait_for("resync", || {
        let inventory = world.handle().inventory();
        inventory.modules.get(&3).is_some_and(|m| m.applied.0 > 0 && m.applied == m.intended)
    });
    assert_eq!(agent.port()["state"], "up");

    // The card is taken away.
    let mut session = Session::new(world.handle());
    assert!(session.run_line("show consistency").starts_with("Consistency passed"));
    ip(&format!("-n {vm} link del tap0"));
    wait_for("the lost card", || session.run_line("show consistency").contains("Vethernet1: device tap0 is gone"));
    assert!(!session.went_well());
}

#[test]
fn the_real_agent_follows_the_real_supervisor() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: needs root and /dev/net/tun");
        return;
    }
    let namespaces = Namespaces::new();
    let [host, vm] = namespaces.0.clone();
    // A thread of its own enters the namespace; all that it starts is in there too.
    std::thread::spawn(move || follow_the_supervisor(&host, &vm)).join().unwrap();
}
