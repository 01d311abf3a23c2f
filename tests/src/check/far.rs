//! Copies that come from another host: ERSPAN that one host sends and the other receives, and a session whose destination is
//! on the other host. A VM of the second host is the destination, and every datagram comes out of its device once, in order.

use std::time::Duration;

use super::{Report, interface, six};
use crate::agent::Agent;
use crate::capture::Capture;
use crate::command::Run;
use crate::error::{Error, Result, expect};
use crate::lab::plan::{Host, MGMT, MGMT_MTU, Vm};
use crate::lab::{Lab, build, vem_role, wait};
use crate::netns::ip;
use crate::ping;
use crate::traffic::{self, Burst};

/// Sessions: one sends ERSPAN, one receives it, one is relayed.
const SOURCE: u32 = 21;
const SINK: u32 = 22;
const NEAR: u32 = 23;
const UDP: Burst = Burst { from_port: 40_021, to_port: 40_022, count: 500, payload: 900 };
/// As long as the packets of a VM can be: with further headers they must be cut.
const LONG: Burst = Burst { payload: 1472, ..UDP };
const PATIENCE: Duration = Duration::from_secs(10);

/// Who takes part.
struct Cast {
    from: Vm,
    to: Vm,
    /// Of the second host: what it is sent are copies.
    sink: Vm,
    /// Its interface.
    port: String,
}

/// ERSPAN by types II and III, then a destination that is relayed to, moves, and outlives both supervisor and agents.
pub fn run(lab: &mut Lab, report: &mut Report) -> Result<()> {
    let [from, to, _, _, _, sink] = six(lab)?;
    let port = interface(lab, &sink)?;
    let cast = Cast { from, to, sink, port };
    erspan(lab, report, &cast)?;
    relayed(lab, report, &cast)?;
    lab.console().configure(&[format!("no monitor session {NEAR}")]).map(drop)
}

fn erspan(lab: &mut Lab, report: &mut Report, cast: &Cast) -> Result<()> {
    let (here, there) = (lab.plan.host(&cast.from.host)?.clone(), lab.plan.host(&cast.sink.host)?.clone());
    lab.console().configure(&[
        format!("monitor session {SINK} type erspan-destination"),
        format!("source ip {}", there.address),
        format!("erspan-id {SOURCE}"),
        format!("filter origin {}", here.address),
        format!("destination interface {}", cast.port),
        "no shut".to_owned(),
        format!("monitor session {SOURCE} type erspan-source"),
        format!("source interface {} rx", interface(lab, &cast.from)?),
        format!("destination ip {}", there.address),
        format!("origin ip-address {}", here.address),
        format!("erspan-id {SOURCE}"),
        format!("filter bpf \"udp dst port {}\"", UDP.to_port),
        "no shut".to_owned(),
    ])?;
    for header in ["2", "3", "3 granularity 1588", "3 platform n1kv"] {
        report.check(&format!("ERSPAN type {header} from host to host: every datagram once, in order"), || {
            let lines = [format!("monitor session {SOURCE}"), format!("header-type {header}")];
            lab.console().configure(&lines)?;
            comes_out(lab, cast, UDP)
        });
    }
    for host in [&there, &here] {
        report.check(&format!("the same after kill -9 of the VEM of {}", host.name), || {
            restart(lab, host)?;
            runs(lab, SINK, 4, "up")?;
            runs(lab, SOURCE, 3, "up")?;
            comes_out(lab, cast, UDP)
        });
    }
    report.check("no number of a copy is missing", || {
        let shown = lab.console().show(&format!("show monitor session {SINK} | json"))?;
        let whole = format!("\"received\":\"{}\",\"received_truncated\":\"0\",\"missing\":\"0\"", 2 * UDP.count);
        expect(shown.contains(&whole), || shown)
    });
    report.check("copies of a host that is not named are refused", || {
        let lines =
            [format!("monitor session {SINK}"), "no filter origin".to_owned(), "filter origin 192.0.2.1".to_owned()];
        lab.console().configure(&lines)?;
        let capture = capture(lab, cast)?;
        traffic::udp(&cast.from, &cast.to, UDP)?;
        let copies = capture.stop()?.read("udp")?.len();
        let shown = lab.console().show(&format!("show monitor session {SINK} | json"))?;
        let counted = shown.contains(&format!("\"other_origin\":\"{}\"", UDP.count));
        expect(copies == 0 && counted, || format!("{copies} copies, {shown}"))
    });
    report.check("ERSPAN over IPv6: every datagram once, in order", || {
        let addresses = [(&here, "fd00:199::11"), (&there, "fd00:199::12")];
        for (host, address) in addresses {
            ip(&host.netns, &format!("addr add {address}/64 dev {MGMT} nodad"))?;
        }
        let [(_, from), (_, to)] = addresses;
        lab.console().configure(&[
            format!("monitor session {SINK}"),
            "no filter origin".to_owned(),
            format!("filter origin {from}"),
            format!("source ip {to}"),
            format!("monitor session {SOURCE}"),
            format!("origin ip-address {from}"),
            format!("destination ip {to}"),
        ])?;
        runs(lab, SINK, 4, "up")?;
        comes_out(lab, cast, UDP)?;
        addresses
            .iter()
            .try_for_each(|(host, it)| ip(&host.netns, &format!("addr del {it}/64 dev {MGMT}")).map(drop))?;
        runs(lab, SINK, 4, &format!("{to} is not on this host"))
    });
    lab.console().configure(&[format!("no monitor session {SINK}"), format!("no monitor session {SOURCE}")]).map(drop)
}

fn relayed(lab: &mut Lab, report: &mut Report, cast: &Cast) -> Result<()> {
    let sources = format!("source interface {},{} both", interface(lab, &cast.from)?, interface(lab, &cast.to)?);
    lab.console().configure(&[
        format!("monitor session {NEAR}"),
        sources,
        format!("destination interface {}", cast.port),
        format!("filter bpf \"udp dst port {}\"", UDP.to_port),
        "no shut".to_owned(),
    ])?;
    let there = lab.plan.host(&cast.sink.host)?.clone();
    report.check("a destination on the other host: every datagram once, in order", || {
        runs(lab, NEAR, 3, "relayed to module 4")?;
        comes_out(lab, cast, UDP)
    });
    report.check("and so when the packets between the hosts must be cut", || {
        let hosts = [lab.plan.host(&cast.from.host)?, &there];
        let set = |mtu: u16| {
            hosts.iter().try_for_each(|host| ip(&host.netns, &format!("link set {MGMT} mtu {mtu}")).map(drop))
        };
        let before = fragments(hosts[0])?;
        set(1500)?;
        let outcome = comes_out(lab, cast, LONG);
        set(MGMT_MTU)?;
        let cut = fragments(hosts[0])? - before;
        expect(cut == 2 * u64::from(LONG.count), || format!("{cut} fragments"))?;
        outcome
    });
    report.check("a datagram from host to host is copied once, though both hosts watch it", || {
        let watched = format!("source interface {} both", interface(lab, &four(lab)?)?);
        lab.console().configure(&[format!("monitor session {NEAR}"), watched])?;
        for (from, to) in [(cast.from.clone(), four(lab)?), (four(lab)?, cast.to.clone())] {
            comes_out(lab, &Cast { from, to, sink: cast.sink.clone(), port: cast.port.clone() }, UDP)?;
        }
        Ok(())
    });
    report.check("without a VSM, after kill -9 of the receiving VEM: as before", || {
        lab.console().show("copy running-config startup-config")?;
        lab.kill("vsm")?;
        restart(lab, &there)?;
        let agent = Agent::of(&lab.plan, &there);
        wait("the port of the destination", PATIENCE, || agent.interface(&cast.sink.ifname))?;
        comes_out(lab, cast, UDP)
    });
    report.check("the VSM comes back: as before", || {
        lab.start_vsm()?;
        runs(lab, NEAR, 3, "relayed to module 4")?;
        comes_out(lab, cast, UDP)
    });
    report.check("the destination moves to the first host, and back", || {
        let away = Vm { host: cast.from.host.clone(), ..cast.sink.clone() };
        for (before, after, state) in [(&cast.sink, &away, "up"), (&away, &cast.sink, "relayed to module 4")] {
            Agent::of(&lab.plan, lab.plan.host(&before.host)?).detach(&before.ifname)?;
            build::attach_vm(&lab.plan, after)?;
            let port = interface(lab, after)?;
            expect(port == cast.port, || format!("{} has become {port}", cast.port))?;
            runs(lab, NEAR, 3, state)?;
            comes_out(lab, cast, UDP)?;
        }
        Ok(())
    });
    Ok(())
}

/// `kill -9` of a VEM, and its start.
fn restart(lab: &mut Lab, host: &Host) -> Result<()> {
    lab.kill(&vem_role(host))?;
    // Its last threads, which hold the lock of its folder, end a moment after the first.
    std::thread::sleep(Duration::from_millis(300));
    lab.start_vem(host)?;
    let agent = Agent::of(&lab.plan, host);
    wait(&format!("the VEM of {}", host.name), PATIENCE, || agent.ports().map(Some)).map(drop)
}

/// Fragments that a host has made (RFC 4293: ipSystemStatsOutFragCreates).
fn fragments(host: &Host) -> Result<u64> {
    let text = Run::new("cat /proc/net/snmp").netns(&host.netns).text()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: ")).map(str::split_whitespace);
    let found = lines.next().zip(lines.next()).and_then(|(names, values)| {
        let (_, value) = names.zip(values).find(|(name, _)| *name == "FragCreates")?;
        value.parse().ok()
    });
    found.ok_or_else(|| Error::Unreadable { what: "/proc/net/snmp".to_owned(), reason: text })
}

/// Waits until the VMs reach each other.
fn reached(cast: &Cast) -> Result<()> {
    wait("an answer", PATIENCE, || Ok(ping::reaches(&cast.from, &cast.to, 1).then_some(())))
}

/// A VM of the second host that is no destination.
fn four(lab: &Lab) -> Result<Vm> {
    six(lab).map(|[_, _, _, four, ..]| four)
}

fn capture(lab: &Lab, cast: &Cast) -> Result<Capture> {
    let path = lab.plan.folder("log").join("far");
    Capture::on(&cast.sink.netns, &cast.sink.ifname, &path, &format!("udp port {}", UDP.to_port))
}

/// A burst comes out of the destination's device as it was sent: every datagram once, whole, in order.
fn comes_out(lab: &Lab, cast: &Cast, burst: Burst) -> Result<()> {
    reached(cast)?;
    let capture = capture(lab, cast)?;
    let arrived = traffic::udp(&cast.from, &cast.to, burst)?;
    expect(arrived.len() == burst.count as usize, || format!("{} of {} arrived", arrived.len(), burst.count))?;
    let copies = capture.stop()?.read(&format!("udp.dstport == {}", burst.to_port))?;
    let rest = "5a".repeat(burst.payload - 4);
    let sent = (0..burst.count).map(|number| format!("{number:08x}{rest}"));
    let whole = copies.iter().all(|copy| copy.good_checksum && copy.src == cast.from.ip.to_string());
    let same = copies.iter().map(|copy| copy.payload.clone()).eq(sent);
    expect(whole && same, || {
        let numbers: Vec<&str> = copies.iter().filter_map(|copy| copy.payload.get(..8)).collect();
        format!("{} copies, whole: {whole}: {numbers:?}", copies.len())
    })
}

/// Waits until module `module` says so of a session.
fn runs(lab: &Lab, session: u32, module: u8, state: &str) -> Result<()> {
    let console = lab.console();
    wait(&format!("session {session} on module {module}: {state}"), PATIENCE, || {
        let shown = console.show(&format!("show monitor session {session}"))?;
        let says = |line: &str| {
            line.split_whitespace().next() == Some(&module.to_string())
                && line.trim_end().ends_with(&format!("  {state}"))
        };
        Ok(shown.lines().any(says).then_some(()))
    })
}
