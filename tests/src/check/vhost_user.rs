//! Two VMs booted by QEMU, attached to one VEM by vhost-user: traffic, policy, metering, and what survives whose end.
//!
//! ```text
//!   near   the VEM listens, QEMU connects and tries again every second   (reconnect=1)
//!   far    QEMU listens, the VEM connects and tries again                (server=on,wait=off)
//! ```

mod moments;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use moments::{await_connection, await_socket};

use super::{Report, forget, restore, six, views};
use crate::agent::{Agent, Attachment};
use crate::collector::{Collector, Flow, Total, total};
use crate::error::{Error, Result, expect};
use crate::guest::{Card, Guest, Image};
use crate::lab::plan::{Host, MONITOR, VLAN, Vm};
use crate::lab::{Lab, vem_role, wait};

const ADDED: [&str; 2] = ["port-profile rings", "ip access-list rings"];
const OPEN: u16 = 7001;
const CLOSED: u16 = 7002;
const UDP: u16 = 7003;
/// Octets of the file that goes through TCP.
const FILE: u32 = 1_000_000;
const DATAGRAMS: u32 = 200;
const DATAGRAM: u32 = 1000;
const LIMIT: Duration = Duration::from_secs(15);
/// Longest time between the moment when both ends are there and traffic.
const RECONNECT: Duration = Duration::from_secs(1);
/// QEMU tries again a second after its last try, which can have been just before the VEM was there.
const QEMU_RETRY: Duration = Duration::from_secs(1);

/// A guest's place on the host.
struct Place {
    name: &'static str,
    mac: &'static str,
    address: &'static str,
    /// Who makes the socket.
    qemu_listens: bool,
    socket: PathBuf,
    monitor: PathBuf,
}

impl Place {
    fn card(&self) -> Card<'_> {
        Card::VhostUser { socket: &self.socket, listens: self.qemu_listens, monitor: &self.monitor }
    }

    fn attach(&self, agent: &Agent) -> Result<()> {
        let path = self.socket.display().to_string();
        agent
            .attach(&Attachment {
                profile: "rings",
                device: self.name,
                kind: "vhost-user",
                mac: Some(self.mac),
                path: Some(&path),
                role: Some(if self.qemu_listens { "client" } else { "server" }),
                ..Attachment::default()
            })
            .map(drop)
    }
}

/// The two places, the host, and what it takes to start a guest there.
struct Scene {
    host: Host,
    agent: Agent,
    image: Image,
    near: Place,
    far: Place,
    /// A VM on a tap of the same host.
    tap: Vm,
    /// A VM of another host, which notices nothing of what happens here.
    other: Vm,
}

impl Scene {
    fn boot(&self, place: &Place) -> Result<Guest> {
        let mut guest = Guest::boot(&self.image, &self.host.netns, place.card(), place.mac)?;
        address(&mut guest, place)?;
        Ok(guest)
    }

    /// State of a port, with the reason when it is down.
    fn state(&self, place: &Place) -> Result<String> {
        let row = self.agent.port(place.name)?.unwrap_or_default();
        let word = |key: &str| row.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        Ok(format!("{} {}", word("state"), word("reason")).trim_end().to_owned())
    }

    fn await_state(&self, place: &Place, wanted: &str) -> Result<()> {
        wait(&format!("{} {wanted}", place.name), Duration::from_secs(5), || {
            let state = self.state(place)?;
            if state == wanted { Ok(Some(())) } else { Err(Error::Unmet(state)) }
        })
    }
}

/// Boots the guests on the first host.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [tap, _, _, other, ..] = six(lab)?;
    let host = lab.plan.host(&tap.host)?.clone();
    let commands = format!(
        "ip access-list rings
statistics per-entry
deny tcp any any eq {CLOSED}
permit tcp any any eq {OPEN}
permit ip any any
exit
port-profile type vethernet rings
switchport mode access
switchport access vlan {VLAN}
ip port access-group rings in
ip flow monitor {MONITOR} input
no shutdown
state enabled"
    );
    lab.console().configure(&commands.lines().collect::<Vec<_>>())?;
    let images = lab.plan.bin.parent().unwrap_or(&lab.plan.bin).join("guest");
    let folder = lab.plan.folder(&host.name);
    let place = |name, mac, address, qemu_listens| Place {
        name,
        mac,
        address,
        qemu_listens,
        socket: folder.join(format!("{name}.sock")),
        monitor: folder.join(format!("{name}.qmp")),
    };
    let scene = Scene {
        agent: Agent::of(&lab.plan, &host),
        image: Image::ensure(&images)?.with_program(&lab.plan.bin.join("datagrams"))?,
        near: place("rings-near", "02:00:0a:0a:00:f1", "10.10.0.241", false),
        far: place("rings-far", "02:00:0a:0a:00:f2", "10.10.0.242", true),
        host,
        tap,
        other,
    };
    let result = steps(lab, report, &scene);
    let forgotten = [&scene.near, &scene.far].map(|place| forget(lab, &scene.host, place.name));
    // QEMU leaves the socket at which it listened.
    let _ = std::fs::remove_file(&scene.far.socket);
    if result.is_ok() {
        report.check("a detached port takes its socket away", || {
            expect(!scene.near.socket.exists(), || format!("{} is still there", scene.near.socket.display()))
        });
    }
    restore(lab, &ADDED)?;
    forgotten.into_iter().fold(result, Result::and)
}

fn steps(lab: &mut Lab, report: &mut Report, scene: &Scene) -> Result<()> {
    let Scene { near, far, .. } = scene;
    report.check("a vhost-user port without a guest is not connected", || {
        for place in [near, far] {
            place.attach(&scene.agent)?;
            scene.await_state(place, "down Link not connected")?;
        }
        expect(near.socket.exists(), || "the VEM does not listen".to_owned())
    });
    let start = |place: &Place| Guest::start(&scene.image, &scene.host.netns, place.card(), place.mac);
    let (mut a, mut b) = (start(near)?, start(far)?);
    for (guest, place) in [(&mut a, near), (&mut b, far)] {
        guest.await_shell()?;
        address(guest, place)?;
    }
    report.check("two QEMU guests come up, one connects and one listens", || {
        scene.await_state(near, "up")?;
        scene.await_state(far, "up")
    });
    traffic(lab, report, scene, &mut a, &mut b);
    drop(a);
    let mut a = near_again(report, scene)?;
    let mut b = garbage(lab, report, scene, &mut a, b)?;
    metered(lab, report, scene);
    switch_again(lab, report, scene, [&mut a, &mut b])
}

/// What the guest's own start would do: address, up.
fn address(guest: &mut Guest, place: &Place) -> Result<()> {
    let words = format!("ip link set eth0 up && ip addr add {}/24 dev eth0", place.address);
    let (status, said) = guest.run(&words, LIMIT)?;
    expect(status == 0, || said)
}

fn ping(guest: &mut Guest, to: &str) -> Result<()> {
    let (status, said) = guest.run(&format!("ping -i 0.2 -c 3 -W 2 {to}"), LIMIT)?;
    expect(status == 0 && said.contains(" 0% packet loss"), || said)
}

/// Time until the first answer to an echo request of the guest.
fn answer_after(guest: &mut Guest, to: &str, limit: Duration) -> Result<Duration> {
    let start = Instant::now();
    let (_, said) =
        guest.run(&format!("ping -i 0.05 -w {} {to} | grep -m 1 bytes.from", limit.as_secs()), 2 * limit)?;
    expect(said.contains("bytes from"), || format!("no answer from {to} within {} s", limit.as_secs()))?;
    Ok(start.elapsed())
}

fn traffic(lab: &Lab, report: &mut Report, scene: &Scene, a: &mut Guest, b: &mut Guest) {
    let Scene { near, far, tap, .. } = scene;
    report.check("the guests reach each other and a VM on a tap", || {
        ping(a, far.address)?;
        ping(b, near.address)?;
        ping(a, &tap.ip.to_string())?;
        ping(b, &tap.ip.to_string())
    });
    report.check("a file goes through TCP whole, both ways", || {
        send_file(a, b, far.address)?;
        send_file(b, a, near.address)
    });
    report.check("the access list denies one TCP port and permits the other", || {
        listen(b, CLOSED, "/denied")?;
        let (status, said) = a.run(&format!("echo secret | nc -w 1 {} {CLOSED}", far.address), LIMIT)?;
        expect(status != 0, || format!("port {CLOSED} answers: {said}"))?;
        let (_, got) = b.run("killall nc; wc -c < /denied", LIMIT)?;
        expect(got.trim().ends_with('0'), || format!("{got} octets passed"))?;
        let (denied, permitted) = (views::matches(lab, "rings", 10)?, views::matches(lab, "rings", 20)?);
        expect(denied > 0 && permitted > 0, || format!("rule 10 matched {denied}, rule 20 {permitted}"))
    });
    report.check(&format!("{DATAGRAMS} UDP datagrams arrive whole, each once"), || {
        let receive = format!("datagrams receive {UDP} {DATAGRAMS} {DATAGRAM} 8 > /udp & sleep 0.5; cat /udp");
        let (_, said) = b.run(&receive, LIMIT)?;
        expect(said.contains("listening"), || said)?;
        let (status, said) = a.run(&format!("datagrams send {}:{UDP} {DATAGRAMS} {DATAGRAM}", far.address), LIMIT)?;
        expect(status == 0, || said)?;
        let (_, said) = b.run("wait; cat /udp", LIMIT)?;
        expect(said.contains(&format!("whole {DATAGRAMS} again 0 damaged 0")), || said)
    });
}

/// Puts up a listener that writes what it gets to a file. Its own side says nothing and does not end: the other side's nc
/// would end with it.
fn listen(guest: &mut Guest, port: u16, file: &str) -> Result<()> {
    let command = format!("[ -p /silence ] || mkfifo /silence; nc -l -p {port} <> /silence > {file} & sleep 0.2");
    let (status, said) = guest.run(&command, LIMIT)?;
    expect(status == 0, || said)
}

/// Sends random octets and compares the sums of both ends.
fn send_file(from: &mut Guest, to: &mut Guest, address: &str) -> Result<()> {
    listen(to, OPEN, "/got")?;
    let send = format!("head -c {FILE} /dev/urandom > /sent; nc {address} {OPEN} < /sent; md5sum < /sent");
    let (_, sent) = from.run(&send, LIMIT)?;
    let (_, got) = to.run("wait; wc -c < /got; md5sum < /got", LIMIT)?;
    let (octets, got) = got.split_once('\n').unwrap_or(("0", ""));
    expect(octets.trim() == FILE.to_string() && got.trim() == sent.trim(), || {
        format!("{octets} octets with sum {got} arrived of {FILE} with sum {sent}")
    })
}

/// `kill -9` of the guest that connects has happened; it is started again.
fn near_again(report: &mut Report, scene: &Scene) -> Result<Guest> {
    let Scene { near, far, .. } = scene;
    let mut again = None;
    report.check("kill -9 of a guest takes its link down, a new start brings it back", || {
        scene.await_state(near, "down Link not connected")?;
        let start = Instant::now();
        let mut guest = Guest::start(&scene.image, &scene.host.netns, near.card(), near.mac)?;
        let connected = await_connection(&scene.host.netns, &near.socket, LIMIT)?.duration_since(start);
        guest.await_shell()?;
        let booted = start.elapsed();
        address(&mut guest, near)?;
        let answered = answer_after(&mut guest, far.address, RECONNECT * 5)?;
        println!(
            "        QEMU connected {:.2} s after its start, the shell was there after {:.2} s, an answer {:.2} s later",
            connected.as_secs_f64(),
            booted.as_secs_f64(),
            answered.as_secs_f64()
        );
        again = Some(guest);
        expect(answered <= RECONNECT, || format!("the first answer took {:.2} s", answered.as_secs_f64()))?;
        scene.await_state(near, "up")
    });
    again.map_or_else(|| scene.boot(near), Ok)
}

/// Rings full of garbage cost the guest its own port and nobody anything else; then it is killed and started again.
fn garbage(lab: &Lab, report: &mut Report, scene: &Scene, a: &mut Guest, mut b: Guest) -> Result<Guest> {
    let Scene { near, far, tap, host, .. } = scene;
    report.check("a guest with garbage in its rings loses its own port only", || {
        let vem = |what: &str| {
            let running = lab.process(&vem_role(host)).filter(|p| p.alive()).map(|p| p.pid);
            running.ok_or_else(|| Error::Unmet(format!("the VEM ended {what}")))
        };
        let before = vem("before")?;
        b.scribble()?;
        // The driver goes on with what is whole in its own books, and the switch with up to 64 buffers that it has looked at
        // already: after more frames than that, both have met the garbage.
        b.run(&format!("ping -q -i 0.02 -c 150 -W 1 {}", near.address), LIMIT)?;
        let (status, _) = b.run(&format!("ping -i 0.2 -c 5 -W 1 {}", near.address), LIMIT)?;
        expect(status != 0, || "the guest still talks".to_owned())?;
        b.scribble()?;
        let (status, said) = a.run(&format!("ping -i 0.05 -c 40 -W 2 {}", tap.ip), LIMIT)?;
        expect(status == 0 && said.contains(" 0% packet loss"), || format!("its neighbour: {said}"))?;
        let shown = scene.agent.show("show vhost")?;
        let block = shown.split("\n\n").find(|block| block.starts_with(far.name)).unwrap_or_default();
        let error = block.lines().find_map(|line| line.trim().strip_prefix("Last error : ")).unwrap_or_default();
        println!("        the VEM says: {error}");
        expect(error.contains("stopped"), || format!("no ring was stopped:\n{shown}"))?;
        expect(vem("of it")? == before, || "the VEM was started again".to_owned())
    });
    drop(b);
    let mut again = None;
    report.check("kill -9 of the guest that listens, a new start brings it back", || {
        let start = Instant::now();
        let mut guest = Guest::start(&scene.image, &scene.host.netns, far.card(), far.mac)?;
        let listened = await_socket(&far.socket, start, LIMIT)?;
        let connected = await_connection(&scene.host.netns, &far.socket, LIMIT)?;
        let waited = connected.saturating_duration_since(listened);
        guest.await_shell()?;
        address(&mut guest, far)?;
        let answered = answer_after(&mut guest, near.address, RECONNECT * 5)?;
        println!(
            "        the VEM connected {:.2} s after QEMU listened; an answer {:.2} s after the shell was there",
            waited.as_secs_f64(),
            answered.as_secs_f64()
        );
        again = Some(guest);
        expect(waited <= RECONNECT, || format!("the VEM connected after {:.2} s", waited.as_secs_f64()))?;
        expect(answered <= RECONNECT, || format!("the first answer took {:.2} s", answered.as_secs_f64()))?;
        scene.await_state(far, "up")
    });
    again.map_or_else(|| scene.boot(far), Ok)
}

/// What the collectors have of the guests' conversations: every octet of the datagrams, and what was denied.
fn metered(lab: &Lab, report: &mut Report, scene: &Scene) {
    let (near, far) = (scene.near.address, scene.far.address);
    for collector in Collector::all(lab) {
        report.check(&format!("{}: the guests' flows, and the denied one as dropped", collector.name), || {
            let udp = format!("proto udp and src ip {near} and dst ip {far} and dst port {UDP}");
            let flows = collector.wait_for(&udp, DATAGRAMS.into(), Duration::from_secs(14))?;
            let sent = Total { packets: DATAGRAMS.into(), octets: u64::from(DATAGRAMS * (DATAGRAM + 28)) };
            expect(total(&flows) == sent, || format!("{:?} were exported, {sent:?} were sent", total(&flows)))?;
            let tcp = format!("proto tcp and src ip {near} and dst ip {far} and dst port {OPEN}");
            let octets = total(&collector.wait_for(&tcp, 1, LIMIT)?).octets;
            expect(octets > FILE.into(), || format!("{octets} octets of a file of {FILE}"))?;
            let denied = format!("proto tcp and src ip {near} and dst ip {far} and dst port {CLOSED}");
            let flows = collector.wait_for(&denied, 1, LIMIT)?;
            // nfdump shows the forwarding status of NetFlow only.
            let shown = |flow: &Flow| flow.dropped() || collector.name != "NetFlow";
            expect(flows.iter().all(|flow| flow.output_snmp == 0 && shown(flow)), || format!("{flows:?}"))
        });
    }
}

/// `kill -9` of the VEM with both guests running.
fn switch_again(lab: &mut Lab, report: &mut Report, scene: &Scene, [a, b]: [&mut Guest; 2]) -> Result<()> {
    let Scene { near, far, host, .. } = scene;
    let other = scene.other.ip.to_string();
    // Both know whom they will ask: a lost question for an address is asked again after a second only.
    ping(b, &other)?;
    ping(a, far.address)?;
    lab.kill(&vem_role(host))?;
    report.check("a dead VEM forwards nothing between guests", || {
        let (status, _) = a.run(&format!("ping -i 0.2 -c 2 -W 1 {}", far.address), LIMIT)?;
        expect(status != 0, || "it does".to_owned())
    });
    let start = Instant::now();
    lab.start_vem(host)?;
    report.check("kill -9 of the VEM: both guests are back when it is", || {
        let listened = await_socket(&near.socket, start, LIMIT)?;
        let since = |at: Instant| at.saturating_duration_since(listened);
        let ([theirs, ours], answered) = std::thread::scope(|scope| {
            let connections = [near, far].map(|place| scope.spawn(|| await_connection(&scene.host.netns, &place.socket, LIMIT)));
            let first = [(&mut *a, far.address), (&mut *b, &other)]
                .map(|(guest, to)| scope.spawn(move || answer_after(guest, to, RECONNECT * 5).map(|_| Instant::now())));
            let [theirs, ours] = connections.map(|thread| joined(thread.join()).map(since));
            let [near, far] = first.map(|thread| joined(thread.join()).map(since));
            Ok::<_, Error>(([theirs?, ours?], [near?, far?]))
        })?;
        println!(
            "        the VEM was up {:.2} s after its start; from there: it connected to QEMU after {:.2} s, first answer \
             {:.2} s; QEMU connected to it after {:.2} s, first answer {:.2} s",
            listened.saturating_duration_since(start).as_secs_f64(),
            ours.as_secs_f64(),
            answered[1].as_secs_f64(),
            theirs.as_secs_f64(),
            answered[0].as_secs_f64()
        );
        let late = |what: &str, took: Duration| format!("{what} after {:.2} s", took.as_secs_f64());
        expect(ours <= RECONNECT, || late("the VEM connected", ours))?;
        expect(answered[1] <= RECONNECT, || late("the guest that listens had an answer", answered[1]))?;
        expect(answered[0] <= QEMU_RETRY + RECONNECT, || late("the guest that connects had an answer", answered[0]))
    });
    report.check("and with their policy", || {
        let (status, said) = a.run(&format!("echo secret | nc -w 1 {} {CLOSED}", far.address), LIMIT)?;
        expect(status != 0, || format!("port {CLOSED} answers: {said}"))?;
        send_file(a, b, far.address)
    });
    Ok(())
}

/// What a thread found.
fn joined<T>(outcome: std::thread::Result<Result<T>>) -> Result<T> {
    outcome.unwrap_or_else(|_| Err(Error::State("a thread of the check panicked".to_owned())))
}
