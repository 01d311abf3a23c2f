//! A VM booted by QEMU on an ordinary tap, attached as `netdev`, with an access list.

use std::path::PathBuf;
use std::time::Duration;

use super::{Report, forget, restore, six, views};
use crate::agent::{Agent, Attachment};
use crate::error::{Result, Tried, expect};
use crate::guest::{Card, Guest, Image};
use crate::lab::Lab;
use crate::lab::plan::{Host, MONITOR, VLAN, Vm};
use crate::netns::ip;

const TAP: &str = "guesttap0";
const MAC: &str = "02:00:0a:0a:00:fa";
const ADDRESS: &str = "10.10.0.250";
const ADDED: [&str; 2] = ["port-profile guest", "ip access-list guest"];
const LIMIT: Duration = Duration::from_secs(15);

/// Where the guest's image is kept: beside the binaries, below `target`.
fn folder(lab: &Lab) -> PathBuf {
    lab.plan.bin.parent().unwrap_or(&lab.plan.bin).join("guest")
}

/// Boots the guest on the first host; its peer is on the second.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let lab = &*lab;
    let [near, _, _, far, ..] = six(lab)?;
    let host = lab.plan.host(&near.host)?.clone();
    let commands = format!(
        "ip access-list guest
statistics per-entry
deny tcp any any eq 7002
permit ip any any
exit
port-profile type vethernet guest
switchport mode access
switchport access vlan {VLAN}
ip port access-group guest in
ip flow monitor {MONITOR} input
no shutdown
state enabled"
    );
    lab.console().configure(&commands.lines().collect::<Vec<_>>())?;
    let result = steps(lab, report, &host, &near, &far);
    let forgotten = forget(lab, &host, TAP);
    // A step may have failed before there was a tap.
    let _ = ip(&host.netns, &format!("link del {TAP}"));
    restore(lab, &ADDED)?;
    result.and(forgotten)
}

fn steps(lab: &Lab, report: &mut Report, host: &Host, near: &Vm, far: &Vm) -> Result<()> {
    let image = Image::ensure(&folder(lab))?;
    // What libvirt does before it starts QEMU.
    ip(&host.netns, &format!("tuntap add {TAP} mode tap vnet_hdr"))?;
    ip(&host.netns, &format!("link set {TAP} up"))?;
    let mut guest = Guest::boot(&image, &host.netns, Card::Tap(TAP), MAC)?;
    let agent = Agent::of(&lab.plan, host);
    report.check("a QEMU guest's tap is attached as netdev", || {
        agent.attach(&Attachment {
            profile: "guest",
            device: TAP,
            kind: "netdev",
            vm: Some("qemu"),
            mac: Some(MAC),
            ..Attachment::default()
        })?;
        let (status, said) = guest.run(&format!("ip link set eth0 up && ip addr add {ADDRESS}/24 dev eth0"), LIMIT)?;
        expect(status == 0, || said)
    });
    report.check("the guest reaches VMs on taps of both hosts", || {
        for vm in [near, far] {
            let (status, said) = guest.run(&format!("ping -c 3 -w 5 {}", vm.ip), LIMIT)?;
            expect(status == 0, || format!("{}: {said}", vm.name))?;
        }
        Ok(())
    });
    report.check("the access list lets its TCP through or not", || {
        for vm in [near, far] {
            let open = serve(&mut guest, vm, 7001)?;
            expect(open, || format!("port 7001 of {} is silent", vm.name))?;
            let closed = serve(&mut guest, vm, 7002)?;
            expect(!closed, || format!("port 7002 of {} answers", vm.name))?;
        }
        let denied = views::matches(lab, "guest", 10)?;
        expect(denied > 0, || "rule 10 matched nothing".to_owned())
    });
    Ok(())
}

/// Puts up a listener that sends one line, and says whether the guest gets it. Big enough for a frame with offloads.
fn serve(guest: &mut Guest, vm: &Vm, port: u16) -> Result<bool> {
    let listener = crate::netns::within(&vm.netns, || {
        std::net::TcpListener::bind((vm.ip, port)).tried(format!("TCP port {port} of {}", vm.name))
    })?;
    listener.set_nonblocking(true).tried("listener")?;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                if let Ok((mut stream, _)) = listener.accept() {
                    // The guest may hang up before it has all.
                    let _ = stream.set_nonblocking(false);
                    let _ = stream.write_all(&b"0123456789abcdef".repeat(4096));
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let (_, said) = guest.run(&format!("nc -w 2 {} {port} | wc -c", vm.ip), LIMIT)?;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(said.trim() == "65536")
    })
}
