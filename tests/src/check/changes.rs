//! Sessions that stay while others come, change and go: every datagram once, in order, at a port and by ERSPAN.

use std::iter::repeat_n;
use std::thread;
use std::time::Duration;

use super::{Report, interface, six};
use crate::capture::{Capture, Packets};
use crate::error::{Error, Result, expect};
use crate::lab::Lab;
use crate::lab::plan::{COLLECTOR_ADDRESS, MGMT, VLAN, Vm};
use crate::traffic::{self, Burst};

/// The session that stays and changes itself, beside that of the lab, and one that comes and goes.
const STAYS: u32 = 24;
const GUEST: u32 = 25;
const UDP: Burst = Burst { from_port: 40_031, to_port: 40_032, count: 2_000, payload: 100 };
/// Bursts, between which there is half a second.
const ROUNDS: usize = 6;
const BETWEEN_CHANGES: Duration = Duration::from_millis(50);
/// The fewest that prove anything.
const CHANGES_MIN: usize = 12;

/// What is configured, one after the other and again from the beginning: `one` and `two` are the interfaces of the VMs.
fn change(number: usize, one: &str, two: &str) -> Vec<String> {
    let [stays, guest] = [STAYS, GUEST].map(|session| format!("monitor session {session}"));
    let lines = match number % 8 {
        0 => {
            let to = format!("destination ip {COLLECTOR_ADDRESS}");
            let watched = format!("source interface {one} both");
            return vec![
                format!("{guest} type erspan-source"),
                watched,
                to,
                format!("erspan-id {GUEST}"),
                "no shut".to_owned(),
            ];
        }
        1 => [stays, format!("source interface {two} tx")],
        2 => [guest, format!("filter vlan {VLAN}")],
        3 => [stays, format!("filter vlan {VLAN}")],
        4 => [guest, format!("source vlan {VLAN} rx")],
        5 => [stays, format!("no source interface {two} tx")],
        6 => return vec![format!("no {guest}")],
        _ => [stays, format!("no filter vlan {VLAN}")],
    };
    lines.into()
}

/// Bursts between two VMs of a host, while the configuration changes all the time.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [vm1, vm2, ..] = six(lab)?;
    let (one, two) = (interface(lab, &vm1)?, interface(lab, &vm2)?);
    let console = lab.console();
    console.configure(&[
        format!("monitor session {STAYS} type erspan-source"),
        format!("source interface {one} rx"),
        format!("destination ip {COLLECTOR_ADDRESS}"),
        format!("erspan-id {STAYS}"),
        format!("filter bpf \"udp dst port {}\"", UDP.to_port),
        "no shut".to_owned(),
    ])?;
    let folder = lab.plan.folder("log").join("changes-erspan");
    let near = Capture::start(lab, "changes", &format!("udp port {}", UDP.to_port))?;
    let far = Capture::on(&lab.plan.collector_netns(), MGMT, &folder, "ip proto 47")?;
    report.check("sessions change while datagrams flow, and each of these arrives", || {
        let changes = thread::scope(|scope| {
            let sender = scope.spawn(|| bursts(&vm1, &vm2));
            let mut changes = 0;
            while !sender.is_finished() {
                console.configure(&change(changes, &one, &two))?;
                changes += 1;
                thread::sleep(BETWEEN_CHANGES);
            }
            sender.join().map_err(|_| Error::State("the sender panicked".to_owned()))??;
            Ok(changes)
        })?;
        expect(changes >= CHANGES_MIN, || format!("{changes} changes are too few"))
    });
    for (name, capture, filter) in
        [("port", near, String::new()), ("ERSPAN", far, format!("erspan.spanid == {STAYS} && "))]
    {
        let packets = capture.stop()?;
        report.check(&format!("{name}: every datagram is copied once, in order, whatever changes"), || {
            once(&packets, &format!("{filter}udp.dstport == {}", UDP.to_port))
        });
    }
    let shown = console.show("show running-config monitor")?;
    let there = [STAYS, GUEST].into_iter().filter(|session| shown.contains(&format!("monitor session {session} ")));
    console.configure(&there.map(|session| format!("no monitor session {session}")).collect::<Vec<_>>()).map(drop)
}

fn bursts(from: &Vm, to: &Vm) -> Result<()> {
    for _ in 0..ROUNDS {
        let arrived = traffic::udp(from, to, UDP)?.len();
        expect(arrived == UDP.count as usize, || format!("{arrived} of {} arrived", UDP.count))?;
    }
    Ok(())
}

/// The numbers of all bursts, one after the other.
fn once(packets: &Packets, filter: &str) -> Result<()> {
    let copies = packets.read(filter)?;
    let numbers: Vec<&str> = copies.iter().filter_map(|copy| copy.payload.get(..8)).collect();
    let sent: Vec<String> = (0..UDP.count).map(|number| format!("{number:08x}")).collect();
    let wanted = repeat_n(&sent, ROUNDS).flatten();
    let first = numbers.iter().zip(wanted.clone()).position(|(number, wanted)| *number != wanted.as_str());
    expect(numbers.iter().copied().eq(wanted.map(String::as_str)), || {
        format!("{} copies of {}, the first that is wrong: {first:?}", numbers.len(), sent.len() * ROUNDS)
    })
}
