mod metering;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::acl::{Acl, Rules};
use proto::config::{PortSettings, Profile, ProfileType};
use proto::query::{FlowQuery, Query};
use proto::report::Answer;

use super::reporting::state_event;
use super::*;

/// A switch without ports over a running worker, and the directory of its state.
struct Rig {
    switch: Option<Switch>,
    stop: Arc<AtomicBool>,
    worker: Option<std::thread::JoinHandle<()>>,
    now: Instant,
}

impl Rig {
    fn new(dir: &Path) -> Rig {
        let now = Instant::now();
        let (worker, control, records) = vswitch::worker::switch(vswitch::worker::Limits::default());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let worker = std::thread::spawn(move || worker.run(now, told));
        let exporter = export::start(vec![records], export::Anchor::new(now)).unwrap();
        let devices = hostport::Settings { coalesce: vswitch::coalesce::Mode::default(), workers: 1 };
        let switch = Switch::start(control, exporter, Store::open(dir).unwrap(), Vec::new(), devices, now).unwrap();
        Rig { switch: Some(switch), stop, worker: Some(worker), now }
    }

    fn switch(&mut self) -> &mut Switch {
        self.switch.as_mut().unwrap()
    }

    fn prepare(&mut self, version: u64, config: &HostConfig) -> Result<ConfigHash, Error> {
        let LastGood { hash, config, .. } = LastGood::of(version, config);
        self.switch().prepare(version, hash, config).map(|()| hash)
    }

    fn commit(&mut self, version: u64) -> Result<(), Error> {
        let now = self.now;
        self.switch().commit(version, now)
    }

    fn ask(&mut self, query: Query) -> Answer {
        let now = self.now;
        crate::answer::answer(self.switch(), &query, now)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.worker.take().unwrap().join().unwrap();
        self.switch.take().unwrap().stop();
    }
}

fn config(name: &str) -> HostConfig {
    let profile = Profile {
        name: "web".into(),
        kind: ProfileType::Vethernet,
        enabled: true,
        settings: PortSettings { admin_up: true, ..PortSettings::default() },
    };
    let acl = Acl { name: "guard".into(), statistics: true, rules: Rules::Ip(vec![]) };
    HostConfig {
        module: 3,
        switch_name: name.into(),
        profiles: vec![profile],
        acls: vec![acl],
        ..HostConfig::default()
    }
}

#[test]
fn a_commit_is_stored_and_runs_an_abort_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    {
        let mut rig = Rig::new(dir.path());
        assert_eq!(rig.switch().applied(), (0, ConfigHash::default()));
        let first = rig.prepare(5, &config("one")).unwrap();
        assert_eq!(rig.switch().applied().0, 0, "prepared is not applied");
        rig.commit(5).unwrap();
        assert_eq!(rig.switch().applied(), (5, first));
        rig.prepare(6, &config("two")).unwrap();
        rig.switch().abort(Some(6));
        assert!(matches!(rig.commit(6), Err(Error::NotPrepared(6))));
        rig.prepare(7, &config("two")).unwrap();
        assert!(matches!(rig.commit(8), Err(Error::NotPrepared(8))));
        assert!(matches!(rig.commit(7), Err(Error::NotPrepared(7))), "a wrong commit forgets what was prepared");
        assert_eq!(rig.switch().applied(), (5, first));
        assert_eq!(rig.switch().host_config().unwrap().switch_name, "one");
    }
    let mut rig = Rig::new(dir.path());
    assert_eq!(rig.switch().applied().0, 5, "it comes back after a restart");
    assert_eq!(rig.switch().host_config().unwrap().switch_name, "one");
}

#[test]
fn what_runs_already_needs_no_octets() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(dir.path());
    let hash = rig.prepare(5, &config("one")).unwrap();
    rig.commit(5).unwrap();
    rig.switch().prepare(9, hash, Vec::new()).unwrap();
    rig.commit(9).unwrap();
    assert_eq!(rig.switch().applied(), (9, hash));
    drop(rig);
    assert_eq!(Rig::new(dir.path()).switch().applied(), (9, hash));
}

#[test]
fn what_is_not_a_configuration_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(dir.path());
    rig.prepare(5, &config("one")).unwrap();
    rig.commit(5).unwrap();
    let good = LastGood::of(6, &config("two"));
    let wrong_hash = rig.switch().prepare(6, ConfigHash([1; 32]), good.config.clone());
    assert!(wrong_hash.unwrap_err().to_string().contains("hash"));
    let module = rig.prepare(6, &HostConfig { module: 2, ..config("two") });
    assert!(module.unwrap_err().to_string().contains("module 2 is outside 3-66"));
    let twice = HostConfig { acls: [config("x").acls, config("x").acls].concat(), ..config("two") };
    assert!(matches!(rig.prepare(6, &twice), Err(Error::Config(_))));
    let monitor = proto::flow::Monitor {
        name: "m".into(),
        record: None,
        exporters: vec!["nowhere".into()],
        active_s: 60,
        inactive_s: 15,
        ..proto::flow::Monitor::default()
    };
    let dangling = HostConfig { monitors: vec![monitor], ..config("two") };
    assert!(matches!(rig.prepare(6, &dangling), Err(Error::Export(_))));
    assert!(matches!(rig.commit(6), Err(Error::NotPrepared(6))));
    assert_eq!(rig.switch().applied().0, 5);
}

#[test]
fn a_disk_that_refuses_keeps_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut rig = Rig::new(&state);
    rig.prepare(5, &config("one")).unwrap();
    rig.commit(5).unwrap();
    // A directory in the place of the temporary file: it can't be written, whoever we are.
    std::fs::create_dir(state.join("config.new")).unwrap();
    assert!(
        matches!(rig.prepare(6, &config("two")), Err(Error::Store(_))),
        "while the change can be refused everywhere"
    );
    assert!(matches!(rig.commit(6), Err(Error::NotPrepared(6))));
    assert_eq!(rig.switch().applied().0, 5);
    std::fs::remove_dir(state.join("config.new")).unwrap();
    rig.prepare(7, &config("two")).unwrap();
    std::fs::remove_file(state.join("config.new")).unwrap();
    assert!(matches!(rig.commit(7), Err(Error::Store(_))));
    assert_eq!(rig.switch().applied().0, 5);
    assert_eq!(rig.switch().host_config().unwrap().switch_name, "one");
}

#[test]
fn questions_about_what_is_not_here_are_answered_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(dir.path());
    rig.prepare(5, &config("one")).unwrap();
    rig.commit(5).unwrap();
    let elsewhere = FlowQuery { interface: Some(IfName::Vethernet(7)), ..FlowQuery::default() };
    let unknown = FlowQuery { monitor: Some("none".into()), ..FlowQuery::default() };
    for query in [FlowQuery::default(), elsewhere, unknown] {
        assert_eq!(rig.ask(Query::Flows(query)), Answer::Flows(vec![], 0));
    }
    assert_eq!(rig.ask(Query::Ports), Answer::Ports(vec![]));
    assert_eq!(rig.ask(Query::Macs), Answer::Macs(vec![]));
    assert_eq!(rig.ask(Query::AclCounters), Answer::AclCounters(vec![]), "a list without rules denies nothing");
    assert_eq!(rig.ask(Query::Drops), Answer::Drops(vec![], vec![]));
    assert_eq!(rig.ask(Query::Sessions), Answer::Sessions(vec![]));
    assert_eq!(rig.ask(Query::ClearCounters(Some(IfName::Vethernet(7)))), Answer::Done);
    assert_eq!(rig.ask(Query::ClearMacs { vlan: None, mac: None }), Answer::Done);
    assert!(
        matches!(rig.ask(Query::Exporters), Answer::Exporters(rows, cache) if rows.is_empty() && cache.capacity > 0)
    );
}

fn guest(path: &Path) -> crate::request::Request {
    crate::request::Request {
        profile: "web".into(),
        device: "web1".into(),
        kind: Some(crate::request::Kind::VhostUser),
        path: Some(path.display().to_string()),
        ..Default::default()
    }
}

#[test]
fn a_socket_comes_back_with_the_agent_and_goes_with_its_port() {
    let dir = tempfile::tempdir().unwrap();
    let (state, path) = (dir.path().join("state"), dir.path().join("web1.sock"));
    let is_listening = || std::os::unix::net::UnixStream::connect(&path).is_ok();
    {
        let mut rig = Rig::new(&state);
        let now = rig.now;
        rig.prepare(5, &config("one")).unwrap();
        rig.commit(5).unwrap();
        assert_eq!(rig.switch().attach(&guest(&path), now).unwrap().as_str(), "web1/0");
        assert!(is_listening());
        let Answer::Ports(rows) = rig.ask(Query::Ports) else { panic!("no ports") };
        assert_eq!(rows[0].port.driver, "vhost-user");
        assert_eq!(rows[0].state, PortState::Down("Link not connected".into()));
        rig.switch().attach(&guest(&path), now).unwrap();
        let other = crate::request::Request { device: "web2".into(), ..guest(&path) };
        assert!(matches!(rig.switch().attach(&other, now), Err(Error::Attach(attach::Error::SocketTaken(..)))));
        assert_eq!(rig.switch().ports().count(), 1);
    }
    // As after a kill: the file is there, nobody listens.
    let _ = std::fs::remove_file(&path);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    // A child that another test is just starting holds the descriptor until its exec.
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_listening() {
        assert!(Instant::now() < deadline, "a closed socket still listens");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut rig = Rig::new(&state);
    let now = rig.now;
    assert!(is_listening());
    rig.switch().detach(Some("web1"), None, now).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_socket_that_can_not_be_made_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (state, folder) = (dir.path().join("state"), dir.path().join("sockets"));
    let path = folder.join("web1.sock");
    {
        let mut rig = Rig::new(&state);
        let now = rig.now;
        let refused = rig.switch().attach(&guest(&path), now).unwrap_err().to_string();
        assert!(refused.contains("sockets does not exist"), "{refused}");
        assert_eq!(rig.switch().ports().count(), 0);
        std::fs::create_dir(&folder).unwrap();
        rig.switch().attach(&guest(&path), now).unwrap();
    }
    // A directory of /run is gone after the host has started again.
    std::fs::remove_dir_all(&folder).unwrap();
    let mut rig = Rig::new(&state);
    let now = rig.now;
    let problem = rig.switch().ports().next().unwrap().1.problem.clone();
    assert!(problem.unwrap().contains("sockets does not exist"));
    std::fs::create_dir(&folder).unwrap();
    rig.switch().tick(now).unwrap();
    let (_, live) = rig.switch().ports().next().unwrap();
    assert!(live.open && live.problem.is_none() && live.guest().is_some());
    assert!(path.exists());
}

#[test]
fn every_change_of_state_is_one_event() {
    let up = state_event("Vethernet1", &PortState::Up);
    assert_eq!((up.facility.as_str(), up.severity, up.mnemonic.as_str()), ("ETHPORT", 5, "IF_UP"));
    assert_eq!(up.text, "Interface Vethernet1 is up");
    for (why, mnemonic) in [
        ("Administratively down", "IF_DOWN_ADMIN_DOWN"),
        ("Link not connected", "IF_DOWN_LINK_FAILURE"),
        ("device is gone", "IF_DOWN_INTERFACE_REMOVED"),
        ("profile 'x' is disabled", "IF_DOWN_NONE"),
    ] {
        let event = state_event("Ethernet3/1", &PortState::Down(why.into()));
        assert_eq!(event.mnemonic, mnemonic);
        assert_eq!(event.text, format!("Interface Ethernet3/1 is down ({why})"));
    }
}
