//! A noisy neighbour: one VM sends small frames as fast as it can while two others have a TCP stream, and a third pair is
//! idle but for round trips. Everything is on.
//!
//! **Fair share.** The three streams of work share the switch's core. TCP's fair share is what it gets with half of that
//! core: its throughput alone, or half of what a whole core would carry at the processor time per bit that it took alone,
//! whichever is less. The time in which the switch polls is in that processor time.
//!
//! **What is not the switch.** All VMs of a machine with two cores share the generators' core, both ends of the TCP stream
//! among them, and the sender of small frames takes there what it can get. So it sends just as hard while TCP is measured alone, into a device that throws away
//! (an `ifb`): what changes between the two is the load of the switch and nothing else. The ends of the round trips come
//! before everything else on that core, in all of their measurements, as if each had a machine of its own; but what a
//! sender does in the kernel is not interrupted for them. How much of their delay that is shows a measurement while the small
//! frames go into the device that throws away, and the TCP stream through the loopback of its first end: the same load on the
//! generators' core, and none on the switch.

use std::sync::Mutex;
use std::time::Duration;

use super::cpu;
use super::ground::Ground;
use super::pair;
use super::pingpong::{self, Ends, RoundTrip};
use super::receiver;
use super::report::{Report, Wanted};
use super::rounds;
use super::sender::{Sender, Traffic};
use super::vem::{Features, Vem};
use crate::error::{Error, Result};
use crate::lab::plan::{VM_PROFILE, Vm};
use crate::netns::ip;
use crate::traffic;

const ALONE: &str = "TCP alone";
const BOTH: &str = "TCP beside small frames";
const NOISE: &str = "small frames alone";
const IDLE: &str = "idle pair, switch idle";
const BESIDE: &str = "idle pair, the same load beside the switch";
const LOADED: &str = "idle pair, small frames and TCP";
const TCP: &str = "TCP, 1 stream";
const FAIR: &str = "fair share";
const KEPT: &str = "part of the fair share";
const OF_ALONE: &str = "part of TCP alone";
const CORE: &str = "part of the switch's core";
const FRAMES: &str = "small frames that the card took";
const P99: &str = "round trip, p99";
const P50: &str = "round trip, p50";
const IPERF_PORT: u16 = 5202;
/// Namespace with the device that throws away.
const VOID: &str = "bnx-1";
/// The generator starts before what is measured beside it, and ends behind it.
const MARGIN: Duration = Duration::from_millis(300);

struct Vms {
    noise: [Vm; 2],
    tcp: [Vm; 2],
    idle: [Vm; 2],
    void: Vm,
}

/// Runs the part.
pub fn run(ground: &mut Ground, rounds: u32, time: Duration) -> Result<Report> {
    let mut report = Report::new("noisy");
    let vem = Vem::start(ground, 6)?;
    vem.set(ground, VM_PROFILE, Features::EVERYTHING)?;
    let vms = Vms {
        noise: [vem.vm(1)?, vem.vm(2)?],
        tcp: [vem.vm(3)?, vem.vm(4)?],
        idle: [vem.vm(5)?, vem.vm(6)?],
        void: pair::vm("bnx", 1, "ifb0"),
    };
    ground.netns(VOID)?;
    ip(VOID, "link add ifb0 type ifb")?;
    ip(VOID, "link set ifb0 up")?;
    report.rounds = rounds::run(
        ground,
        rounds,
        &[()],
        |()| "noisy neighbour",
        |ground, ()| round(ground, &mut report, &vem, &vms, time),
    )?;
    let kept = report.median(BOTH, KEPT);
    report.target(6, "TCP beside small frames, of its fair share", Wanted::AtLeast(0.9), "", kept);
    let slower = report.median(LOADED, P99).zip(report.median(IDLE, P99)).map(|(loaded, idle)| loaded / idle);
    report.target(
        6,
        "round trip of an idle pair, p99, under that load against without",
        Wanted::AtMost(3.0),
        "",
        slower,
    );
    report.remark(
        "noisy: the fair share is what TCP gets with half of the switch's core: its throughput alone, or half of what a \
         whole core would carry at the processor time per bit that it took alone, whichever is less. While TCP is \
         measured alone the sender of small frames works as hard, into a device that throws away. A worker that polls for \
         more counts as working, which makes the fair share smaller: so the part of TCP alone is a row as well.",
    );
    Ok(report)
}

fn round(ground: &Ground, report: &mut Report, vem: &Vem, vms: &Vms, time: Duration) -> Result<()> {
    let seconds = time.as_secs().max(2) as u32;
    let long = Duration::from_secs(seconds.into()) + 2 * MARGIN;
    let process = std::slice::from_ref(&vem.process);
    let tcp = || {
        let before = cpu::used(process)?;
        let run = || traffic::iperf_for(&vms.tcp[0], &vms.tcp[1], IPERF_PORT, seconds);
        let rate = cpu::pinned(cpu::LOAD_CORE, run)? / 1e9;
        let used = cpu::used(process)? - before;
        Ok::<_, Error>((rate, used.as_secs_f64() / f64::from(seconds)))
    };
    let _sink = receiver::sink(&vms.noise[1])?;
    let into_void = |limit| Sender::open(&vms.void, &vms.noise[1], Traffic::full(1))?.run(limit);
    let into_switch = |limit| Sender::open(&vms.noise[0], &vms.noise[1], Traffic::full(1))?.run(limit);

    let (alone, core) = beside(|| into_void(long), tcp)?.0;
    report.add(ALONE, TCP, "Gbit/s", alone);
    report.add(ALONE, CORE, "", core);
    let fair = fair_share(alone, core);
    report.add(ALONE, FAIR, "Gbit/s", fair);
    ground.go_on()?;

    let frames = into_switch(Duration::from_secs(1))?;
    report.add(NOISE, FRAMES, "kpps", frames as f64 / 1e3);
    ground.go_on()?;

    let ((rate, _), frames) = beside(|| into_switch(long), tcp)?;
    report.add(BOTH, TCP, "Gbit/s", rate);
    report.add(BOTH, KEPT, "", rate / fair);
    report.add(BOTH, OF_ALONE, "", rate / alone);
    report.add(BOTH, FRAMES, "kpps", frames as f64 / long.as_secs_f64() / 1e3);
    ground.go_on()?;

    let trip = || pingpong::measure(&vms.idle[0], &vms.idle[1], Duration::from_secs(1), Ends::First);
    let idle = trip()?;
    let loopback = || {
        let run = || traffic::iperf_for(&vms.tcp[0], &vms.tcp[0], IPERF_PORT, seconds);
        cpu::pinned(cpu::LOAD_CORE, run)
    };
    let beside_switch = beside(|| into_void(long), || beside(loopback, trip))?.0.0;
    ground.go_on()?;
    // TCP and small frames, and the round trips in the middle of both.
    let ((loaded, _), _) = beside(|| into_switch(long), || beside(tcp, trip))?;
    for (name, RoundTrip { p50_us, p99_us }) in [(IDLE, idle), (BESIDE, beside_switch), (LOADED, loaded)] {
        report.add(name, P50, "us", p50_us);
        report.add(name, P99, "us", p99_us);
    }
    ground.pause(MARGIN)
}

/// What TCP gets with half of the core when it took `core` of it for `alone`.
fn fair_share(alone: f64, core: f64) -> f64 {
    alone * (0.5 / core).min(1.0)
}

/// Does `work` while `load` goes on, which has begun a little before; returns what both said.
fn beside<L: Send, W: Send>(
    load: impl FnOnce() -> Result<L> + Send,
    work: impl FnOnce() -> Result<W> + Send,
) -> Result<(W, L)> {
    let said = Mutex::new(None);
    let worked = std::thread::scope(|scope| {
        scope.spawn(|| {
            let answer = load();
            if let Ok(mut said) = said.lock() {
                *said = Some(answer);
            }
        });
        std::thread::sleep(MARGIN);
        work()
    });
    let loaded = said.into_inner().ok().flatten().ok_or_else(|| Error::State("the load panicked".to_owned()))?;
    Ok((worked?, loaded?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fair_share_is_half_a_core() {
        assert_eq!(fair_share(10.0, 0.4), 10.0);
        assert_eq!(fair_share(10.0, 1.0), 5.0);
        assert_eq!(fair_share(10.0, 0.8), 6.25);
    }

    #[test]
    fn both_answers_come_back() {
        assert_eq!(beside(|| Ok(1), || Ok(2)).expect("both"), (2, 1));
        assert!(beside(|| Err::<(), _>(Error::State("no".to_owned())), || Ok(2)).is_err());
    }
}
