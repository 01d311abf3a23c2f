//! vhost-user to vhost-user: our VEM and Open vSwitch with DPDK, alone on one core, between two ports of `dpdk-testpmd`
//! that sends in both directions from the other core.
//!
//! Each run connects a new testpmd. Open vSwitch is started for each of its runs, because its polling thread would take
//! the core from everyone else; our VEM sleeps when it has nothing to do, and stays.
//!
//! SPAN: a reader takes the copies from a third vhost-user port, on the generator's core. That halves what the generator
//! can offer, so the reader is there, polling, in the run without the session as well; the only difference between the
//! two is the session. What part of the copies the reader got is a row of its own.
//!
//! Exactness: at the end of a run of ours testpmd takes in what is still in its rings; then its own counts must equal our
//! ports' to the last packet (law 1), and at the end of the part all that it sent in metered runs must equal what the
//! NetFlow collector was told (law 2).

use std::path::PathBuf;
use std::time::Duration;

use super::ground::Ground;
use super::ovs::{Build, Feature, OpenVswitch};
use super::report::{Report, Wanted};
use super::rounds;
use super::testpmd::{self, Count, Load, Testpmd};
use super::vem::{Features, GUEST_PROFILE, PortCount, Vem};
use crate::error::{Result, expect};
use crate::lab::plan::SPAN_PROFILE;

/// Namespace of Open vSwitch, and that of the generator.
const OVS: &str = "bnd-ovs";
const LOAD: &str = "bnd-load";
/// Of 2 MiB each: 512 MiB for Open vSwitch, 256 MiB each for the generator and the reader, and what DPDK rounds up.
const HUGEPAGES: u64 = 640;
/// From the first packet to the first that counts. Open vSwitch needs longer to learn many flows, and gets it.
const WARM: Duration = Duration::from_millis(700);
const WARM_MANY: Duration = Duration::from_secs(3);
const GUESTS: [&str; 2] = ["guest1", "guest2"];
const SPAN_PORT: &str = "guest3";
/// Destination port of the generator's packets.
const PORT: u16 = 1001;

const SMALL: Load = Load { frame: 64, flows: 1 };
const MANY: Load = Load { frame: 64, flows: 10_000 };
const LARGE: Load = Load { frame: 1518, flows: 1 };
const RATE: &str = "both directions";
const COPIES: &str = "copies that the reader took, of those made";

/// A switch with its features under a load.
struct Subject {
    name: &'static str,
    load: Load,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A loop without a switch.
    Bare,
    Ovs(&'static [Feature]),
    /// With or without a reader of copies.
    Ours(Features, bool),
}

const BARE: &str = "bare loop (testpmd, io), 64 B, 1 flow";
const BARE_LARGE: &str = "bare loop (testpmd, io), 1518 B, 1 flow";
const OVS_PLAIN: &str = "Open vSwitch-DPDK, plain, 64 B, 1 flow";
const OVS_ALL: &str = "Open vSwitch-DPDK, VLAN + ACL + NetFlow, 64 B, 10,000 flows";
const OVS_IPFIX: &str = "Open vSwitch-DPDK, IPFIX, 64 B, 10,000 flows";
const OVS_LARGE: &str = "Open vSwitch-DPDK, plain, 1518 B, 1 flow";
const OUR_PLAIN: &str = "VEM, plain, 64 B, 1 flow";
const OUR_ALL: &str = "VEM, everything on, 64 B, 10,000 flows";
const OUR_LARGE: &str = "VEM, everything on, 1518 B, 1 flow";
const OUR_READ: &str = "VEM, everything on, reader idle, 64 B, 10,000 flows";
const OUR_SPAN: &str = "VEM, everything on + SPAN, 64 B, 10,000 flows";

const SUBJECTS: [Subject; 11] = [
    Subject { name: BARE, load: SMALL, kind: Kind::Bare },
    Subject { name: OVS_PLAIN, load: SMALL, kind: Kind::Ovs(&[]) },
    Subject { name: OUR_PLAIN, load: SMALL, kind: Kind::Ours(Features::PLAIN, false) },
    Subject { name: OVS_ALL, load: MANY, kind: Kind::Ovs(&[Feature::Vlan, Feature::AccessList, Feature::Netflow]) },
    Subject { name: OUR_ALL, load: MANY, kind: Kind::Ours(Features::EVERYTHING, false) },
    Subject { name: OVS_IPFIX, load: MANY, kind: Kind::Ovs(&[Feature::Ipfix]) },
    Subject { name: BARE_LARGE, load: LARGE, kind: Kind::Bare },
    Subject { name: OVS_LARGE, load: LARGE, kind: Kind::Ovs(&[]) },
    Subject { name: OUR_LARGE, load: LARGE, kind: Kind::Ours(Features::EVERYTHING, false) },
    Subject { name: OUR_READ, load: MANY, kind: Kind::Ours(Features::EVERYTHING, true) },
    Subject { name: OUR_SPAN, load: MANY, kind: Kind::Ours(Features { span: true, ..Features::EVERYTHING }, true) },
];

/// Our switch with its sockets, and what it has to account for.
struct Ours {
    vem: Vem,
    sockets: [PathBuf; 2],
    span: PathBuf,
    /// Packets of the metered runs, as the generator counts them.
    metered: u64,
    /// Packets in which generator and ports differ, over all runs.
    wrong: u64,
}

/// Runs the part.
pub fn run(ground: &mut Ground, rounds: u32, time: Duration) -> Result<Report> {
    let mut report = Report::new("vhost");
    expect(testpmd::available(), || "dpdk-testpmd is not installed; run `make bench`, which installs it".to_owned())?;
    let compared = OpenVswitch::installed(Build::DpdkVhost);
    if !compared {
        report.remark("Open vSwitch with DPDK is not installed: no comparison with it.");
    }
    ground.hugepages(HUGEPAGES)?;
    ground.netns(LOAD)?;
    let mut ours = Ours::start(ground)?;
    let subjects = SUBJECTS.iter().filter(|s| compared || !matches!(s.kind, Kind::Ovs(_)));
    let subjects: Vec<&Subject> = subjects.collect();
    report.rounds = rounds::run(
        ground,
        rounds,
        &subjects,
        |s| s.name,
        |ground, subject| {
            let rate = match subject.kind {
                Kind::Bare => through_bare(ground, subject.load, time)?,
                Kind::Ovs(features) => through_ovs(ground, subject.load, features, time)?,
                Kind::Ours(features, reader) => {
                    let (rate, copies) = ours.measure(ground, subject.load, features, reader, time)?;
                    if let Some(part) = copies {
                        report.add(subject.name, COPIES, "", part);
                    }
                    rate
                }
            };
            report.add(subject.name, RATE, "Mpps", rate / 1e6);
            Ok(())
        },
    )?;
    ours.exactness(ground, &mut report)?;
    targets(&mut report);
    Ok(report)
}

fn targets(report: &mut Report) {
    let ratio = |r: &Report, ours, theirs| r.ratio(ours, theirs, RATE);
    let rows = [
        ("64 B, plain, against Open vSwitch-DPDK", OUR_PLAIN, OVS_PLAIN, 3.0),
        ("64 B, 10,000 flows, everything on, against its VLAN + ACL + NetFlow", OUR_ALL, OVS_ALL, 10.0),
        ("64 B, 10,000 flows, everything on, against its per-packet IPFIX", OUR_ALL, OVS_IPFIX, 80.0),
        ("1518 B, everything on, against its plain", OUR_LARGE, OVS_LARGE, 3.0),
        ("64 B, 10,000 flows, one SPAN session on against off", OUR_SPAN, OUR_READ, 0.8),
    ];
    for (what, ours, theirs, bound) in rows {
        let measured = ratio(report, ours, theirs);
        report.target(2, what, Wanted::AtLeast(bound), "", measured);
    }
    for (bare, theirs) in [(BARE, OVS_PLAIN), (BARE_LARGE, OVS_LARGE)] {
        if let Some(bound) = ratio(report, bare, theirs) {
            report.remark(format!(
                "{bare}: {bound:.2} times {theirs}. DPDK's own loop judges nothing and looks nothing up; with this generator it \
                 is about what a switch that copies twice can come to.",
            ));
        }
    }
    report.remark(
        "vhost-user: the switch has one core, the generator the other. Open vSwitch has its polling thread alone on the \
         switch's core and its other threads on the generator's; the VEM has all of its threads on the switch's core, the \
         exporter among them.",
    );
    report.remark(
        "SPAN: the reader of the copies polls on the generator's core in both rows, which leaves the generator half of that \
         core. Where the row without the session is below that without a reader, the generator is what limits it. Copies \
         that find the reader's ring full are dropped, which costs the switch less than handing them over; what a copy costs the switch itself is in the part `road`.",
    );
}

/// One run through a loop without a switch: packets per second.
fn through_bare(ground: &mut Ground, load: Load, time: Duration) -> Result<f64> {
    let sockets = [ground.dir().join("bare1.sock"), ground.dir().join("bare2.sock")];
    let bare = Testpmd::bare(ground, LOAD, [&sockets[0], &sockets[1]])?;
    let mut generator = Testpmd::generator(ground, LOAD, [&sockets[0], &sockets[1]], load)?;
    let rate = generator.rate(ground, WARM, time)?;
    generator.end()?;
    bare.end()?;
    Ok(rate)
}

/// One run through Open vSwitch: packets per second.
fn through_ovs(ground: &mut Ground, load: Load, features: &[Feature], time: Duration) -> Result<f64> {
    ground.netns(OVS)?;
    let measured = ovs_rate(ground, load, features, time);
    ground.release(&[OVS.to_owned()])?;
    measured
}

fn ovs_rate(ground: &mut Ground, load: Load, features: &[Feature], time: Duration) -> Result<f64> {
    let switch = OpenVswitch::start(ground, OVS, Build::DpdkVhost)?;
    switch.add_ports(&GUESTS, "dpdkvhostuser")?;
    for feature in features {
        switch.enable(*feature, &GUESTS)?;
    }
    let sockets = GUESTS.map(|port| switch.socket(port));
    let mut generator = Testpmd::generator(ground, LOAD, [&sockets[0], &sockets[1]], load)?;
    let rate = generator.rate(ground, if load.flows > 1 { WARM_MANY } else { WARM }, time)?;
    generator.end()?;
    Ok(rate)
}

impl Ours {
    fn start(ground: &Ground) -> Result<Ours> {
        let vem = Vem::start(ground, 2)?;
        let attach = |n: usize, name: &str, profile: &str| vem.attach_guest(ground, name, profile, &testpmd::mac(n));
        let sockets = [attach(0, GUESTS[0], GUEST_PROFILE)?, attach(1, GUESTS[1], GUEST_PROFILE)?];
        let span = attach(2, SPAN_PORT, SPAN_PROFILE)?;
        vem.mirror_guests_to(SPAN_PORT)?;
        Ok(Ours { vem, sockets, span, metered: 0, wrong: 0 })
    }

    /// One run: packets per second, and the part of the copies that a reader got.
    fn measure(
        &mut self,
        ground: &mut Ground,
        load: Load,
        features: Features,
        reader: bool,
        time: Duration,
    ) -> Result<(f64, Option<f64>)> {
        self.vem.set(ground, GUEST_PROFILE, features)?;
        let mut reader = if reader { Some(Testpmd::reader(ground, LOAD, &self.span)?) } else { None };
        let before = self.counts()?;
        let sockets = [self.sockets[0].as_path(), self.sockets[1].as_path()];
        let mut generator = Testpmd::generator(ground, LOAD, sockets, load)?;
        let rate = generator.rate(ground, WARM, time)?;
        let theirs = generator.settle(ground)?;
        let after = self.counts()?;
        let sent: u64 = theirs.iter().map(|c| c.sent).sum();
        let mut copies = None;
        if let Some(reader) = &mut reader {
            let taken: u64 = reader.counts()?.iter().map(|c| c.received).sum();
            copies = features.span.then(|| taken as f64 / sent.max(1) as f64);
        }
        generator.end()?;
        reader.map(Testpmd::end).transpose()?;
        self.wrong += difference([after[0].since(before[0]), after[1].since(before[1])], &theirs);
        self.metered += if features.meter { sent } else { 0 };
        Ok((rate, copies))
    }

    fn counts(&self) -> Result<[PortCount; 2]> {
        Ok([self.vem.count(GUESTS[0])?, self.vem.count(GUESTS[1])?])
    }

    fn exactness(&self, ground: &Ground, report: &mut Report) -> Result<()> {
        let exact = Wanted::AtMost(0.0);
        let what = "packets in which our ports and testpmd differ (law 1)";
        report.target(5, what, exact, "packets", Some(self.wrong as f64));
        self.vem.account(ground, report, "packets", self.metered, |k| k.protocol == 17 && k.to_port == PORT)
    }
}

/// Packets in which our ports' counts and the generator's differ: in what it sent, in what it received, and in what was
/// received, not dropped and not sent.
fn difference(ours: [PortCount; 2], theirs: &[Count]) -> u64 {
    let each = ours.iter().zip(theirs);
    let at_the_ports: u64 = each.map(|(o, t)| o.received.abs_diff(t.sent) + o.sent.abs_diff(t.received)).sum();
    at_the_ports + ours[0].difference(ours[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_counts() {
        let ours = [PortCount { received: 10, dropped: 1, sent: 20 }, PortCount { received: 20, dropped: 0, sent: 9 }];
        let theirs = [Count { received: 20, sent: 10 }, Count { received: 9, sent: 20 }];
        assert_eq!(difference(ours, &theirs), 0);
        assert_eq!(difference(ours, &[Count { received: 19, sent: 12 }, theirs[1]]), 3);
    }
}
