//! Two access lists as an administrator would copy them from an article: thin clients, and peers kept apart.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Report, inherit, restore, six, views};
use crate::collector::Collector;
use crate::error::{Result, expect};
use crate::frames::{self, SYN, ethernet, mac, tcp, udp};
use crate::lab::Lab;
use crate::lab::plan::{MONITOR, VLAN, Vm};
use crate::netns::ip;
use crate::packet::Wire;
use crate::ping;
use crate::traffic::{Connection, connect};

/// The data centre's network is 192.168.100.0/24, the thin clients speak ICA: 1494 there, 2598 back.
const THIN_CLIENT: &str = "ip access-list thin-client
statistics per-entry
Permit TCP any 192.168.100.000 000.000.000.255 port 1494
Permit TCP 192.168.100.000 000.000.000.255 any port 2598
Permit TCP any 192.168.100.000 000.000.000.255 port 1494
Permit TCP 192.168.100.000 000.000.000.255 any port 2598
Deny any any
exit";
/// Clients reach the data centre and the world, but not each other.
const PEERS_APART: &str = "ip access-list peers-apart
statistics per-entry
1 Permit IP Any 192.168.100.000 000.000.000.255
2 Permit IP 192.168.100.000 000.000.000.255 Any
3 Deny IP Any 192.168.000.000 000.000.255.255
4 Deny IP 192.168.000.000 000.000.255.255 Any
5 Permit IP Any any
exit";
const ADDED: [&str; 4] = [
    "port-profile thin-client",
    "port-profile peers-apart",
    "ip access-list thin-client",
    "ip access-list peers-apart",
];
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 1);
const WORLD: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 0);

fn profile(name: &str) -> Vec<String> {
    let text = format!(
        "port-profile type vethernet {name}
switchport mode access
switchport access vlan {VLAN}
ip port access-group {name} in
ip flow monitor {MONITOR} input
no shutdown
state enabled
exit"
    );
    text.lines().map(str::to_owned).collect()
}

/// The first VM is the client, the second its peer, the third, on the other host, the server.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let [client, peer, _, server, ..] = six(lab)?;
    let extra = [(&client, CLIENT), (&peer, PEER), (&server, SERVER)];
    for (vm, address) in extra {
        add(vm, address)?;
    }
    let result = steps(lab, report, &client, &peer, &server);
    let restored = restore(lab, &ADDED);
    for (vm, address) in extra {
        // It is gone already where the card was put in anew.
        let _ = ip(&vm.netns, &format!("addr del {address}/16 dev {}", vm.ifname));
    }
    result.and(restored)
}

fn add(vm: &Vm, address: Ipv4Addr) -> Result<()> {
    ip(&vm.netns, &format!("addr add {address}/16 dev {}", vm.ifname)).map(drop)
}

/// Gives the VM another profile and its second address back.
fn give(lab: &Lab, vm: &Vm, address: Ipv4Addr, profile: &str) -> Result<()> {
    inherit(lab, vm, profile)?;
    add(vm, address)
}

fn steps(lab: &Lab, report: &mut Report, client: &Vm, peer: &Vm, server: &Vm) -> Result<()> {
    report.check("both lists can be typed as they stand in the article", || {
        for (list, name) in [(THIN_CLIENT, "thin-client"), (PEERS_APART, "peers-apart")] {
            let mut lines: Vec<String> = list.lines().map(str::to_owned).collect();
            lines.extend(profile(name));
            lab.console().configure(&lines)?;
        }
        Ok(())
    });
    report.check("thin clients reach the data centre on 1494 and nothing else", || {
        give(lab, client, CLIENT, "thin-client")?;
        works(client, server, SERVER, 1494)?;
        silent(client, server, SERVER, 80)?;
        silent(client, peer, PEER, 1494)?;
        expect(!ping::reaches_address(client, &SERVER.to_string()), || "ping gets through".to_owned())
    });
    report.check("matches per rule equal the frames that were sent", || counted(lab, client));
    report.check("denied flows are exported as dropped", || {
        for collector in Collector::all(lab) {
            let filter = format!("proto udp and src ip {CLIENT} and dst ip {SERVER} and dst port 5555");
            let flows = collector.wait_for(&filter, 5, Duration::from_secs(14))?;
            let dropped = flows.iter().all(|f| f.dropped());
            expect(dropped, || format!("{}: {flows:?}", collector.name))?;
        }
        Ok(())
    });
    report.check("the data centre reaches clients on 2598 and nothing else", || {
        give(lab, client, CLIENT, &client.profile)?;
        give(lab, server, SERVER, "thin-client")?;
        works(server, client, CLIENT, 2598)?;
        silent(server, client, CLIENT, 80)?;
        give(lab, server, SERVER, &server.profile)
    });
    report.check("peers are kept apart, servers and the world are not", || {
        give(lab, client, CLIENT, "peers-apart")?;
        give(lab, peer, PEER, "peers-apart")?;
        silent(client, peer, PEER, 445)?;
        expect(!ping::reaches_address(client, &PEER.to_string()), || "ping of the peer gets through".to_owned())?;
        works(client, server, SERVER, 445)?;
        expect(ping::reaches(client, peer, 2), || format!("the world, {WORLD}/24, is out of reach"))?;
        let denied = views::matches(lab, "peers-apart", 3)?;
        expect(denied > 0, || "rule 3 matched nothing".to_owned())
    });
    Ok(())
}

fn works(from: &Vm, to: &Vm, address: Ipv4Addr, port: u16) -> Result<()> {
    let found = connect(from, to, SocketAddr::from((address, port)))?;
    expect(found == Connection::Works, || format!("{} gets no answer from {address}:{port}", from.name))
}

fn silent(from: &Vm, to: &Vm, address: Ipv4Addr, port: u16) -> Result<()> {
    let found = connect(from, to, SocketAddr::from((address, port)))?;
    expect(found == Connection::Silent, || format!("{} reaches {address}:{port}", from.name))
}

/// Sends frames by hand, so that their number is known, and compares the counters.
fn counted(lab: &Lab, client: &Vm) -> Result<()> {
    // Two permits, perhaps twice as in the article, and the deny at the end.
    let count = || -> Result<[u64; 3]> {
        let rules = views::rules(lab, "thin-client")?;
        let sum = |wanted: &str| rules.iter().filter(|(text, _)| text.contains(wanted)).map(|(_, n)| n).sum();
        Ok([sum("1494"), sum("2598"), sum("deny ip any any")])
    };
    let before = count()?;
    let wire = Wire::open(&client.netns, &client.ifname)?;
    let own = mac(&client.mac)?;
    let send = |packet: Vec<u8>, times: u32| -> Result<()> {
        for _ in 0..times {
            wire.send(&ethernet([2, 0, 0, 0, 0xee, 1], own, &[], 0x0800, &packet))?;
        }
        Ok(())
    };
    send(tcp((CLIENT, 50_000), (SERVER, 1494), SYN), 7)?;
    send(tcp((SERVER, 50_000), (CLIENT, 2598), SYN), 3)?;
    send(udp((CLIENT, 5555), (SERVER, 5555), b"denied"), 5)?;
    send(frames::ipv4(CLIENT, PEER, 47, b"gre"), 2)?;
    std::thread::sleep(Duration::from_millis(200));
    let after = count()?;
    let new: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    expect(new == [7, 3, 7], || format!("the rules matched {new:?} instead of [7, 3, 7]"))
}
