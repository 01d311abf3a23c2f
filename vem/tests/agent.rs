//! The real agent in a namespace of its own, without any supervisor.

mod place;

use std::net::Ipv4Addr;
use std::time::Duration;

use place::{Place, possible, wait_for};
use proto::acl::{Acl, Action, AddrMatch, IpRule, PortMatch, Rules};
use proto::addr::VlanId;
use proto::config::{HostConfig, PortSettings, Profile, ProfileType};
use proto::vlan::PortMode;

fn rule(action: Action, dst: AddrMatch) -> IpRule {
    IpRule {
        action,
        protocol: None,
        src: AddrMatch::ANY,
        src_port: PortMatch::Any,
        dst,
        dst_port: PortMatch::Any,
        icmp_type: None,
        icmp_code: None,
        dscp: None,
    }
}

/// VLAN 10; profile `web` denies packets to 10.0.0.3, `off` is disabled.
fn config() -> HostConfig {
    let vlan = VlanId::new(10).unwrap();
    let settings = PortSettings {
        admin_up: true,
        mode: PortMode::Access(vlan),
        ip_acl_in: Some("guard".into()),
        ..PortSettings::default()
    };
    let profile = |name: &str, enabled| Profile {
        name: name.into(),
        kind: ProfileType::Vethernet,
        enabled,
        settings: settings.clone(),
    };
    let rules = vec![
        (10, rule(Action::Deny, AddrMatch::host(Ipv4Addr::new(10, 0, 0, 3)))),
        (20, rule(Action::Permit, AddrMatch::ANY)),
    ];
    HostConfig {
        module: 3,
        switch_name: "n1kv".into(),
        vlans: [VlanId::DEFAULT, vlan].into_iter().collect(),
        mac_aging_s: 300,
        acls: vec![Acl { name: "guard".into(), statistics: true, rules: Rules::Ip(rules) }],
        profiles: vec![profile("web", true), profile("off", false)],
        ..HostConfig::default()
    }
}

/// Two VMs with a tap each, attached to profile `web` and addressed.
fn two_vms(place: &Place) {
    for (vm, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")] {
        let netns = place.namespace(vm);
        place.vem_ok(&format!("attach --profile web --device tap0 --netns {netns} --vm {vm}"));
        place.ip(vm, &format!("addr add {address} dev tap0"));
    }
    place.ip("b", "addr add 10.0.0.3/24 dev tap0");
}

#[test]
fn a_killed_agent_comes_back_without_a_supervisor_within_two_seconds() {
    if !possible() {
        return;
    }
    let mut place = Place::new("");
    place.store(42, &config());
    place.start();
    two_vms(&place);
    wait_for("first ping", Duration::from_secs(3), || place.pings("a", "10.0.0.2", 200));
    assert!(!place.pings("a", "10.0.0.3", 300), "the access list denies it");
    let counted = place.vem_ok("cmd show access-lists");
    assert!(counted.contains("guard 10: 1 matches"), "{counted}");
    let drops = place.vem_ok("cmd show drops");
    assert!(drops.contains("acl-deny [guard 10]") && drops.contains("> 10.0.0.3 icmp type 8"), "{drops}");
    assert!(place.vem_ok("cmd show card").contains("version 42, module 3 of n1kv"));
    let before = (place.port("a/0"), place.port("b/0"));
    assert_eq!((&before.0["state"], &before.0["profile"]), (&"up".into(), &"web".into()));

    for round in 0..2 {
        place.kill();
        assert!(!place.pings("a", "10.0.0.2", 200), "nobody forwards");
        assert!(place.ip("a", "addr show dev tap0").contains("10.0.0.1/24"), "the VM keeps its card");
        let started = place.start();
        wait_for("ping after the restart", Duration::from_secs(2), || place.pings("a", "10.0.0.2", 50));
        eprintln!("round {round}: forwarding {:?} after the start", started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(!place.pings("a", "10.0.0.3", 300), "the policy is back too");
        assert!(place.vem_ok("cmd show access-lists").contains("guard 10: 1 matches"));
        for (was, nic) in [(&before.0, "a/0"), (&before.1, "b/0")] {
            assert_eq!(place.port(nic)["if_index"], was["if_index"]);
        }
    }

    // A third VM of a known profile, while there is no supervisor.
    let netns = place.namespace("c");
    place.vem_ok(&format!("attach --profile web --device eth0 --netns {netns} --vm c --mac 02:00:00:00:00:0c"));
    place.ip("c", "addr add 10.0.0.4/24 dev eth0");
    assert!(place.ip("c", "link show dev eth0").contains("02:00:00:00:00:0c"));
    wait_for("ping of the new port", Duration::from_secs(3), || place.pings("c", "10.0.0.2", 200));
    let table = place.vem_ok("ports");
    assert!(table.contains("c/0") && !table.contains("down"), "{table}");

    place.vem_ok("detach --nic c/0");
    assert!(!place.inside("c", "ip link show dev eth0").status.success(), "what the agent made, it removed");
    assert_eq!(place.vem("detach --nic c/0").0, Some(1));
    assert_eq!(place.terminate(), Some(0));
    assert!(place.ip("a", "link show dev tap0").contains("tap0"), "a stop takes no card away");
    assert!(!place.socket().exists());
}

#[test]
fn every_state_says_why_and_what_fails_changes_nothing() {
    if !possible() {
        return;
    }
    let mut place = Place::new("");
    place.start();
    let (a, b) = (place.namespace("a"), place.namespace("b"));
    place.vem_ok(&format!("attach --profile web --device tap0 --netns {a} --vm a"));
    assert_eq!(place.port("a/0")["reason"], "no configuration yet");
    assert_eq!(place.terminate(), Some(0));
    place.store(1, &config());
    place.start();
    assert_eq!(place.port("a/0")["state"], "up");

    let refused = |words: &str, wanted: &str| {
        let (code, text) = place.vem(words);
        assert_eq!(code, Some(1), "{words}: {text}");
        assert!(text.contains(wanted), "{words}: {text}");
    };
    refused("attach --profile web --device vem-none --kind netdev", "device vem-none does not exist");
    refused("attach --profile web --device lo --kind netdev", "device lo is the loopback");
    refused(&format!("attach --profile web --device lo --netns {a}"), "device lo is not a tap");
    refused(&format!("attach --profile web --device tap0 --netns {a} --vm z"), "tap0 is attached already (as a/0)");
    refused(&format!("attach --profile web --device tap1 --netns {a} --vm a"), "a/0 is attached already");
    refused("attach --profile web --device tap1 --netns vem-nowhere", "vem-nowhere: No such file");
    refused("attach --profile web --device this-name-is-too-long", "is not a device name");
    refused("detach --device nothing", "nothing is not attached");
    refused("cmd configure terminal", "only 'show' commands");
    assert_eq!(place.vem_ok("ports").lines().count(), 2, "still one port");

    place.vem_ok(&format!("attach --profile nowhere --device tap0 --netns {b} --vm b"));
    assert_eq!(place.port("b/0")["reason"], "profile 'nowhere' does not exist");
    place.vem_ok(&format!("attach --profile off --device tap0 --netns {b} --vm b"));
    assert_eq!(place.port("b/0")["reason"], "profile 'off' is disabled");
    place.vem_ok(&format!("attach --profile web --device tap0 --netns {b} --vm b"));
    assert_eq!(place.port("b/0")["state"], "up");

    place.ip("b", "link set tap0 down");
    wait_for("down", Duration::from_secs(3), || place.port("b/0")["reason"] == "Link not connected");
    place.ip("b", "link set tap0 up");
    wait_for("up", Duration::from_secs(3), || place.port("b/0")["state"] == "up");
    assert!(place.log().contains("%ETHPORT-5-IF_DOWN_LINK_FAILURE: Interface b/0 is down (Link not connected)"));

    // The VM is deleted with its namespace, which nothing of ours may keep alive; the other port goes on.
    place.delete_namespace("b");
    wait_for("gone", Duration::from_secs(3), || place.port("b/0")["reason"] == "device is gone");
    assert_eq!(place.port("a/0")["state"], "up");
    place.namespace("b");
    place.vem_ok(&format!("attach --profile web --device tap0 --netns {b} --vm b"));
    assert_eq!(place.port("b/0")["state"], "up");

    // Two agents on one state directory or socket are one too many.
    let second = place::run(
        env!("CARGO_BIN_EXE_vem"),
        &["run", "--config", place.dir.path().join("vem.toml").to_str().unwrap()],
    );
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent uses this directory"));
    assert!(place.runs());
}

#[test]
fn a_damaged_state_is_reported_and_ignored() {
    if !possible() {
        return;
    }
    let mut place = Place::new("");
    place.store(42, &config());
    let path = place.state_dir().join("config");
    let mut octets = std::fs::read(&path).unwrap();
    octets.truncate(octets.len() / 2);
    std::fs::write(&path, octets).unwrap();
    std::fs::write(place.state_dir().join("attachments"), "torn").unwrap();
    place.start();
    assert!(place.vem_ok("cmd show card").contains("Configuration : none yet"));
    assert!(place.log().contains("its checksum is wrong; the file is ignored"), "{}", place.log());
    assert_eq!(place.terminate(), Some(0));
}

#[test]
fn an_existing_device_is_switched_and_the_host_is_silent_on_it() {
    if !possible() {
        return;
    }
    let mut place = Place::new("[[port]]\ndevice = \"veth0\"\nkind = \"netdev\"\nprofile = \"web\"\nvm = \"n\"\n");
    place.store(1, &config());
    let (host, vm) = (place.namespace("host"), place.namespace("n"));
    let add_veth = || {
        place::must("ip", &["-n", &host, "link", "add", "veth0", "type", "veth", "peer", "name", "eth0", "netns", &vm]);
        // The same address each time: the other VM remembers it.
        place::must("ip", &["-n", &vm, "link", "set", "eth0", "address", "02:00:00:00:00:09"]);
        place::must("ip", &["-n", &vm, "link", "set", "eth0", "up"]);
        place::must("ip", &["-n", &vm, "addr", "add", "10.0.0.9/24", "dev", "eth0"]);
    };
    add_veth();
    place.start();
    let a = place.namespace("a");
    place.vem_ok(&format!("attach --profile web --device tap0 --netns {a} --vm a"));
    place.ip("a", "addr add 10.0.0.1/24 dev tap0");
    wait_for("ping through the veth", Duration::from_secs(3), || place.pings("a", "10.0.0.9", 200));
    assert_eq!(place.port("n/0")["static"], true);
    assert!(place.vem("detach --nic n/0").1.contains("is in the agent's configuration file"));

    let ipv6 = |place: &Place| place.inside("host", "cat /proc/sys/net/ipv6/conf/veth0/disable_ipv6").stdout;
    assert_eq!(ipv6(&place), b"1\n");
    assert!(place.ip("host", "link show dev veth0").contains("NOARP"));
    // Even with an address on the device the host neither hears nor speaks there.
    place.ip("host", "addr add 10.0.0.200/24 dev veth0");
    assert!(!place.pings("n", "10.0.0.200", 300));
    assert!(!place.pings("host", "10.0.0.9", 300));
    place.ip("host", "addr flush dev veth0");

    // The device goes, and comes back: it is found again, and silenced again, by itself.
    place.ip("host", "link del veth0");
    wait_for("gone", Duration::from_secs(3), || place.port("n/0")["reason"] == "device is gone");
    assert_eq!(place.port("a/0")["state"], "up");
    add_veth();
    wait_for("back", Duration::from_secs(3), || place.port("n/0")["state"] == "up");
    wait_for("ping of the new veth", Duration::from_secs(3), || place.pings("a", "10.0.0.9", 200));
    assert_eq!(ipv6(&place), b"1\n");

    // The agent is killed: the host stays silent; it comes back and the device works on.
    place.kill();
    assert_eq!(ipv6(&place), b"1\n");
    place.start();
    wait_for("ping after the restart", Duration::from_secs(2), || place.pings("a", "10.0.0.9", 50));

    // The port leaves the configuration file: the device is as it was.
    assert_eq!(place.terminate(), Some(0));
    place.write_config("");
    place.start();
    assert!(place.port("n/0").is_null());
    assert_eq!(ipv6(&place), b"0\n");
    assert!(!place.ip("host", "link show dev veth0").contains("NOARP"));
    let chains = String::from_utf8(place.inside("host", "nft list chains netdev").stdout).unwrap();
    assert!(!chains.contains("in_") && !chains.contains("out_"), "{chains}");
    // A device with an address of the host is refused.
    place.ip("host", "addr add 10.0.0.200/24 dev veth0");
    let (code, text) = place.vem("attach --profile web --device veth0 --kind netdev");
    assert_eq!(code, Some(1));
    assert!(text.contains("has address 10.0.0.200: the host would lose it"), "{text}");
    assert_eq!(ipv6(&place), b"0\n");
}

#[test]
fn a_configuration_file_with_an_error_names_line_and_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vem.toml");
    std::fs::write(&path, "[host]\nname = \"h\"\ndomain = 100\nstate_dir = \"/x\"\ncolour = 1\n").unwrap();
    let output = place::run(env!("CARGO_BIN_EXE_vem"), &["run", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("vem.toml:5: unknown field `colour`"), "{text}");
}
