//! The real agent with vhost-user ports: their sockets over its life, and what is refused. Guests are in `lab check`.

mod place;

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use place::{Place, possible, wait_for};

fn listens(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

#[test]
fn sockets_come_back_with_a_killed_agent_and_go_with_their_ports() {
    if !possible() {
        return;
    }
    let mut place = Place::new("");
    let path = |name: &str| place.dir.path().join(name);
    let (fixed, told, theirs) = (path("fixed.sock"), path("told.sock"), path("theirs.sock"));
    let port = format!(
        "[[port]]\nkind = \"vhost-user\"\ndevice = \"fixed\"\nprofile = \"web\"\npath = \"{}\"\nmode = \"0600\"\n",
        fixed.display()
    );
    place.write_config(&port);
    place.start();
    let attach = "attach --profile web --kind vhost-user --mac 02:00:00:00:00:01";
    place.vem_ok(&format!("{attach} --device told --queues 2 --owner 1:2 --path {}", told.display()));
    place.vem_ok(&format!("{attach} --device theirs --role client --path {}", theirs.display()));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&fixed), mode(&told)), (0o600, 0o660));
    let owner = std::os::unix::fs::MetadataExt::uid;
    assert_eq!(owner(&told.metadata().unwrap()), 1);
    assert!(!theirs.exists(), "QEMU makes it");
    assert_eq!(
        (&place.port("told/0")["kind"], &place.port("told/0")["device"]),
        (&"vhost-user".into(), &"told".into())
    );
    let shown = place.vem_ok("cmd show vhost");
    assert!(shown.contains("told/0 (no interface yet, device told)") && shown.contains("not connected"), "{shown}");
    assert!(shown.contains("theirs.sock (client: QEMU listens)"), "{shown}");

    // A front end of the other way round: found when it comes, and again after the agent was killed.
    let qemu = UnixListener::bind(&theirs).unwrap();
    qemu.set_nonblocking(true).unwrap();
    for round in 0..2 {
        let took = wait_for("a connection of the agent", Duration::from_secs(2), || qemu.accept().is_ok());
        eprintln!("round {round}: connected {took:?} after the socket or the agent was there");
        place.kill();
        assert!(told.metadata().unwrap().file_type().is_socket() && !listens(&told), "left over");
        place.start();
        wait_for("sockets of the new agent", Duration::from_secs(2), || listens(&fixed) && listens(&told));
        assert_eq!((mode(&fixed), mode(&told)), (0o600, 0o660));
    }

    place.vem_ok("detach --device told");
    place.vem_ok("detach --device theirs");
    assert!(!told.exists() && theirs.exists());
    assert_eq!(place.terminate(), Some(0));
    assert!(!fixed.exists());
    place.start();
    wait_for("the socket of the file", Duration::from_secs(2), || listens(&fixed));

    // Killed, and meanwhile taken out of the file: nobody opens it again, so what was left over goes.
    place.kill();
    place.write_config("");
    place.start();
    wait_for("an agent without ports", Duration::from_secs(2), || place.vem("ports").0 == Some(0));
    assert!(place.port("fixed/0").is_null() && !fixed.exists());
}

#[test]
fn what_can_not_be_a_socket_is_refused_with_a_reason() {
    if !possible() {
        return;
    }
    let mut place = Place::new("");
    place.start();
    let here = place.dir.path().display().to_string();
    std::fs::write(place.dir.path().join("file"), "mine").unwrap();
    let _held = UnixListener::bind(place.dir.path().join("held")).unwrap();
    place.vem_ok(&format!("attach --profile web --kind vhost-user --device one --path {here}/one"));
    let refused = |words: &str, wanted: &str| {
        let (code, text) = place.vem(&format!("attach --profile web --device two {words}"));
        assert_eq!(code, Some(1), "{words}: {text}");
        assert!(text.contains(wanted), "{words}: {text}\nwanted {wanted}");
    };
    let guest = "--kind vhost-user";
    refused(guest, "a vhost-user port needs the path of its socket");
    refused(&format!("{guest} --path two.sock"), "is not an absolute path");
    refused(&format!("{guest} --path {here}/{}", "x".repeat(108)), "107 are possible");
    refused(&format!("{guest} --path {here}/none/two"), "none does not exist");
    refused(&format!("{guest} --path {here}/file"), "something that is not a socket is there");
    refused(&format!("{guest} --path {here}/file --role client"), "something that is not a socket is there");
    refused(&format!("{guest} --path {here}/held"), "somebody listens there");
    refused(&format!("{guest} --path {here}/one"), "is attached already (as one/0)");
    refused(&format!("{guest} --path {here}/two --queues 9"), "1-8");
    refused(&format!("{guest} --path {here}/two --queues 0"), "1-8");
    refused(&format!("{guest} --path {here}/two --netns vm"), "in no network namespace");
    refused(&format!("{guest} --path {here}/two --uplink 1"), "not a vhost-user port");
    refused(&format!("--path {here}/two"), "'path' is for kind vhost-user only");
    assert_eq!(std::fs::read(place.dir.path().join("file")).unwrap(), b"mine");
    assert!(listens(&place.dir.path().join("held")));
    assert_eq!(place.vem_ok("ports").lines().count(), 2, "still one port");
}
