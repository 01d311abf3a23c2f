//! The real agent with an uplink that exists already: what drives it, and what becomes of it when somebody changes it.

mod place;

use std::time::Duration;

use place::{Place, possible, wait_for};
use proto::addr::VlanId;
use proto::config::{HostConfig, PortSettings, Profile, ProfileType};
use proto::vlan::PortMode;

const SOON: Duration = Duration::from_secs(4);

/// VLAN 10; profile `web` for VMs, `uplink` for the uplink, each an access port.
fn config() -> HostConfig {
    let vlan = VlanId::new(10).unwrap();
    let profile = |name: &str, kind| Profile {
        name: name.into(),
        kind,
        enabled: true,
        settings: PortSettings { admin_up: true, mode: PortMode::Access(vlan), ..PortSettings::default() },
    };
    HostConfig {
        module: 3,
        switch_name: "n1kv".into(),
        vlans: [VlanId::DEFAULT, vlan].into_iter().collect(),
        mac_aging_s: 300,
        profiles: vec![profile("web", ProfileType::Vethernet), profile("uplink", ProfileType::Ethernet)],
        ..HostConfig::default()
    }
}

/// A host with a veth `up0` whose far end `eth0` is 10.0.0.9, and VMs a and b with taps, 10.0.0.1 and 10.0.0.2.
fn host(driver: &str) -> Place {
    let mut place = Place::new("");
    place.store(1, &config());
    let (host, far) = (place.namespace("host"), place.namespace("far"));
    place::must(
        "ip",
        &[
            "-n",
            &host,
            "link",
            "add",
            "up0",
            "numrxqueues",
            "2",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "numtxqueues",
            "2",
            "netns",
            &far,
        ],
    );
    place.inside("host", "ethtool -L up0 rx 1");
    place.inside("far", "ethtool -L eth0 tx 1");
    place.ip("far", "link set eth0 up");
    place.ip("far", "addr add 10.0.0.9/24 dev eth0");
    place.start();
    for (vm, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")] {
        let netns = place.namespace(vm);
        place.vem_ok(&format!("attach --profile web --device tap0 --netns {netns} --vm {vm}"));
        place.ip(vm, &format!("addr add {address} dev tap0"));
    }
    place.vem_ok(&format!("attach --profile uplink --device up0 --uplink 1 {driver}"));
    place
}

fn has_program(place: &Place) -> bool {
    place.ip("host", "link show dev up0").contains("prog/xdp")
}

fn all_talk(place: &Place) {
    for (from, to) in [("a", "10.0.0.9"), ("b", "10.0.0.9"), ("a", "10.0.0.2"), ("far", "10.0.0.2")] {
        wait_for(&format!("{from} to {to}"), SOON, || place.pings(from, to, 200));
    }
}

/// A packet of that length, whole, from a to the far end.
fn passes(place: &Place, length: usize) -> bool {
    place.inside("a", &format!("ping -n -q -c 1 -W 0.3 -M do -s {} 10.0.0.9", length - 28)).status.success()
}

/// A megabyte by TCP from `from` to the far end, compared.
fn carries_tcp(place: &Place, from: &str) {
    let far = place.namespace("far");
    let receive = "import socket\ns=socket.create_server(('',7))\nprint(flush=True)\nc,_=s.accept()\nn=b''\n\
        while d:=c.recv(65536): n+=d\nassert n==bytes(range(256))*4096, len(n)";
    let mut receiver = std::process::Command::new("ip")
        .args(["netns", "exec", &far, "timeout", "10", "python3", "-c", receive])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    let output = receiver.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut ready).unwrap();
    let send = "import socket\ns=socket.create_connection(('10.0.0.9',7),5)\ns.sendall(bytes(range(256))*4096)";
    let from = place.namespace(from);
    place::must("ip", &["netns", "exec", &from, "timeout", "10", "python3", "-c", send]);
    assert!(receiver.wait().unwrap().success());
}

/// How many of 64 datagrams from the far end to a, each from another port, arrive.
fn flows_that_arrive(place: &Place) -> usize {
    let receive = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.bind(('',7))\ns.settimeout(1)\n\
        print('ready',flush=True)\nn=0\ntry:\n  while n<64: s.recv(99); n+=1; s.settimeout(.5)\nexcept TimeoutError: pass\nprint(n)";
    let send = "import socket\nfor p in range(64):\n  s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n  s.bind(('',20000+p))\n  \
        s.sendto(b'x',('10.0.0.1',7))";
    let (a, far) = (place.namespace("a"), place.namespace("far"));
    let mut receiver = std::process::Command::new("ip")
        .args(["netns", "exec", &a, "python3", "-c", receive])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(receiver.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    place::must("ip", &["netns", "exec", &far, "python3", "-c", send]);
    let count = lines.next().unwrap().unwrap();
    receiver.wait().unwrap();
    count.parse().unwrap()
}

#[test]
fn an_uplink_by_af_xdp_serves_two_vms_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let mut place = host("--driver xdp");
    assert_eq!(place.port("uplink/1")["driver"], "xdp-native");
    assert!(place.vem_ok("ports").contains(" xdp-native "));
    assert!(has_program(&place));
    all_talk(&place);
    carries_tcp(&place, "a");
    carries_tcp(&place, "b");

    // Somebody switches on what AF_XDP can't bear: it is switched off again.
    let joins = |place: &Place| {
        let features = place.inside("host", "ethtool -k up0").stdout;
        String::from_utf8(features).unwrap().contains("generic-receive-offload: on")
    };
    assert!(place.inside("host", "ethtool -K up0 gro on").status.success());
    wait_for("off again", SOON, || !joins(&place));

    // A second queue is fed by the far end: what comes in by it arrives as well.
    assert!(place.inside("host", "ethtool -L up0 rx 2").status.success());
    assert!(place.inside("far", "ethtool -L eth0 tx 2").status.success());
    // Each try takes up to 1.5 s itself, and opening the device anew about one.
    wait_for("all of 64 flows", 3 * SOON, || {
        let count = flows_that_arrive(&place);
        println!("{count} of 64 flows");
        count == 64
    });

    // Killed, it leaves no program behind, and comes back.
    place.kill();
    wait_for("the program to go", SOON, || !has_program(&place));
    place.start();
    wait_for("the program to come back", SOON, || has_program(&place));
    all_talk(&place);

    // The far end goes down and comes back; the device is deleted and comes back.
    place.ip("far", "link set eth0 down");
    wait_for("no carrier", SOON, || place.port("uplink/1")["reason"] == "Link not connected");
    place.ip("far", "link set eth0 up");
    all_talk(&place);

    place.vem_ok("detach --device up0");
    assert!(!has_program(&place));
    assert!(!place.ip("host", "link show dev up0").contains("NOARP"));
    let refused = place.vem("attach --profile web --device tap9 --driver xdp").1;
    assert!(refused.contains("'driver' is for netdevs only"), "{refused}");
    place.ip("host", "tuntap add dev tap9 mode tap");
    let refused = place.vem("attach --profile web --device tap9 --kind netdev --driver xdp").1;
    assert!(refused.contains("is a tun: AF_XDP is for network cards and veths"), "{refused}");
    assert!(!place.ip("host", "link show dev tap9").contains("NOARP"), "what was changed is changed back");
}

#[test]
fn what_an_xdp_uplink_did_to_received_frames_is_put_back_on_detach() {
    if !possible() {
        return;
    }
    let mut place = Place::new("");
    place.store(1, &config());
    let host = place.namespace("host");
    place::must("ip", &["-n", &host, "link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    let features = |place: &Place| {
        let text = String::from_utf8(place.inside("host", "ethtool -k up0").stdout).unwrap();
        ["generic-receive-offload: on", "rx-vlan-offload: on"].map(|feature| text.contains(feature))
    };
    place.inside("host", "ethtool -K up0 gro on");
    assert_eq!(features(&place), [true, true]);
    place.start();
    place.vem_ok("attach --profile uplink --device up0 --uplink 1 --driver xdp");
    assert_eq!(features(&place), [false, false]);
    // Also by an agent that was started since.
    place.kill();
    place.start();
    wait_for("open", SOON, || place.vem("ports").1.contains("xdp-native"));
    assert_eq!(features(&place), [false, false]);
    place.vem_ok("detach --device up0");
    assert_eq!(features(&place), [true, true]);
}

#[test]
fn the_mtu_of_a_device_is_followed_and_longer_packets_are_counted() {
    if !possible() {
        return;
    }
    for (driver, name) in [("", "packet"), ("--driver xdp", "xdp-native")] {
        let place = host(driver);
        assert_eq!(place.port("uplink/1")["driver"], name);
        all_talk(&place);
        let mtu = |place: &Place| place.port("uplink/1")["mtu"].as_u64();
        assert_eq!(mtu(&place), Some(1500));
        assert!(passes(&place, 1500));
        place.ip("host", "link set up0 mtu 1400");
        wait_for("1400", SOON, || mtu(&place) == Some(1400));
        let drops = |place: &Place| place.port("uplink/1")["tx"]["drops"].as_u64().unwrap();
        let before = drops(&place);
        assert!(passes(&place, 1400) && !passes(&place, 1401), "{name}");
        assert_eq!(drops(&place), before + 1, "{name}");
        let said = place.vem_ok("cmd show drops");
        assert!(said.contains("mtu-exceeded"), "{said}");
        // The other VM's port takes it as before.
        let neighbour = "ping -n -q -c 1 -W 1 -M do -s 1472 10.0.0.2";
        assert!(place.inside("a", neighbour).status.success());
        place.ip("far", "link set eth0 mtu 1600");
        place.ip("host", "link set up0 mtu 1600");
        wait_for("1500 as configured", SOON, || mtu(&place) == Some(1500));
        wait_for("whole packets", SOON, || passes(&place, 1500));
    }
}

#[test]
fn offloads_that_somebody_changes_cost_no_octet() {
    if !possible() {
        return;
    }
    let place = host("");
    all_talk(&place);
    let settings = [
        ("far", "eth0", "tso off"),
        ("far", "eth0", "tx off"),
        ("far", "eth0", "rx off gro on"),
        ("host", "up0", "tx off"),
        ("host", "up0", "rx off"),
        ("host", "up0", "txvlan off rxvlan off"),
        ("a", "tap0", "rx off"),
        ("a", "tap0", "tx off"),
    ];
    for (space, device, setting) in settings {
        let changed = place.inside(space, &format!("ethtool -K {device} {setting}"));
        assert!(changed.status.success(), "{setting}: {}", String::from_utf8_lossy(&changed.stderr));
        carries_tcp(&place, "a");
        for space in ["far", "a"] {
            let errors =
                String::from_utf8(place.inside(space, "nstat -az TcpInCsumErrors UdpInCsumErrors").stdout).unwrap();
            for line in errors.lines().filter(|line| !line.starts_with('#')) {
                assert_eq!(line.split_whitespace().nth(1), Some("0"), "{device} {setting} {space}: {errors}");
            }
        }
    }
}
