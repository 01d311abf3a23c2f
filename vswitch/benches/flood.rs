//! What somebody who makes up flows does to the others, and what a million idle flows cost: `cargo bench -p vswitch --bench flood`.
//!
//! *Flood*: 1,000 flows go on at a steady rate, first alone, then while another port brings 2,000,000 flows of one packet in
//! four seconds. Printed: what of the steady rate was delivered each time, how much the process grew, and that the records
//! add up to what was accepted. The frames are made in the same thread, so they take their time from the switch. A second is
//! one of the thread's own time, so that others on the machine don't count.
//!
//! *Idle*: 1,000,000 flows are in the cache, and nothing comes. Printed: the share of a core that their timers take while
//! they stay (virtual time, in steps of a millisecond), and that it takes the worker to report and forget them all once in 15 s,
//! which is the inactive timeout.

use std::time::Duration;

use proto::addr::VlanId;
use proto::vlan::{PortMode, VlanSet};
use vswitch::config::{Config, MonitorConfig, PortConfig};
use vswitch::frame::vnet::VnetHdr;
use vswitch::port::memory::{self, MemoryEnd};
use vswitch::port::{Offloads, PortId};
use vswitch::snapshot::Snapshot;
use vswitch::time::Instant;
use vswitch::worker::{Limits, Worker, switch};

/// Time that this thread has had a core for: what others do on the machine does not count.
struct Clock(Duration);

impl Clock {
    fn now() -> Clock {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Clock(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32))
    }

    fn elapsed(&self) -> Duration {
        Clock::now().0.saturating_sub(self.0)
    }
}

const STEADY_FLOWS: u32 = 1000;
const STEADY_PER_S: u64 = 300_000;
const FLOOD: u64 = 2_000_000;
const SPAN: Duration = Duration::from_secs(4);
const IDLE: u32 = 1_000_000;

/// A UDP packet of 46 octets of IP from address `source` of port `port` to port 2.
fn packet(port: u8, source: u32) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, port, 8, 0, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0];
    frame.extend(source.to_be_bytes());
    frame.extend([10, 255, 0, 1, 0x30, 0x39, 0, 53, 0, 26, 0, 0]);
    frame.extend([0; 18]);
    frame
}

fn config(inactive_s: u64) -> Config {
    let port = |id: u16| PortConfig {
        id: PortId(id),
        uplink: false,
        up: true,
        mode: PortMode::Access(VlanId::DEFAULT),
        protected: false,
        mtu: 1500,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in: Some(0),
        flow_out: None,
        sampling: Default::default(),
    };
    Config {
        version: 1,
        vlans: VlanSet::all(),
        mac_aging: Duration::ZERO,
        monitors: vec![MonitorConfig { active: Duration::from_secs(3600), inactive: Duration::from_secs(inactive_s) }],
        ports: [1, 2, 3].map(port).to_vec(),
        ..Config::default()
    }
}

fn make(limits: Limits, inactive_s: u64) -> (Worker, rtrb::Consumer<vswitch::flow::record::Record>, Vec<MemoryEnd>) {
    let (mut worker, _control, records) = switch(limits);
    std::mem::forget(_control);
    let mut ends = Vec::new();
    for id in [1, 2, 3] {
        let (port, end) = memory::pair(1024, Offloads::ALL);
        assert!(worker.attach(PortId(id), Box::new(port)).is_ok());
        ends.push(end);
    }
    worker.publish(Snapshot::build(&config(inactive_s)).expect("right"));
    // Port 2 is known, so that nothing is flooded.
    let mut hello = packet(2, 0x0aff_0001);
    hello[..6].fill(0xff);
    assert!(ends[1].send(&hello, VnetHdr::PLAIN));
    worker.turn(Instant::from_ns(1));
    ends.iter_mut().for_each(|end| while end.recv_with(|_, _| ()).is_some() {});
    (worker, records, ends)
}

/// Resident octets of the process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Runs the steady flows for the span, with the flood or without; packets of each that arrived, and packets in records.
fn run(flood: bool) -> (u64, u64, u64, u64) {
    let (mut worker, mut records, mut ends) = make(Limits::default(), 15);
    let (start, mut sent, mut got, mut reported) = (Clock::now(), [0u64; 2], [0u64; 2], 0u64);
    let mut before = 0;
    loop {
        let passed = start.elapsed();
        let now = Instant::from_ns(passed.as_nanos() as u64 + 2);
        if passed >= SPAN {
            break;
        }
        let due = |all: u64| (u128::from(all) * passed.as_nanos() / SPAN.as_nanos()) as u64;
        for _ in 0..64 {
            if sent[0] < due(STEADY_PER_S * SPAN.as_secs())
                && ends[0].send(&packet(1, 0x0a00_0000 + (sent[0] % u64::from(STEADY_FLOWS)) as u32), VnetHdr::PLAIN)
            {
                sent[0] += 1;
            }
            if flood && sent[1] < due(FLOOD) && ends[2].send(&packet(3, 0x2000_0000 + sent[1] as u32), VnetHdr::PLAIN) {
                sent[1] += 1;
            }
        }
        worker.turn(now);
        while let Some(from) = ends[1].recv_with(|frame, _| frame.get(11).copied()) {
            got[usize::from(from == Some(3))] += 1;
        }
        while let Ok(record) = records.pop() {
            reported += record.packets;
        }
        if before == 0 && passed > SPAN / 2 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    // What is left becomes records within a minute of virtual time.
    for ms in (0..60_000).step_by(10) {
        worker.turn(Instant::from_ms(SPAN.as_millis() as u64 + ms));
        while ends[1].recv_with(|_, _| ()).is_some() {}
        while let Ok(record) = records.pop() {
            reported += record.packets;
        }
    }
    assert!(reported >= got[0] + got[1], "records hold {reported} of {} packets", got[0] + got[1]);
    // The greeting of port 2, and what was still in the ports at the end, are in records too.
    assert!(reported <= sent[0] + sent[1] + 1);
    (got[0], got[1], reported - sent[0].min(got[0]) - got[1].min(sent[1]), grown)
}

fn idle() {
    let limits = Limits { flows: 1 << 20, ..Limits::default() };
    let (mut worker, mut records, mut ends) = make(limits, 15);
    for source in 0..IDLE {
        while !ends[0].send(&packet(1, source), VnetHdr::PLAIN) {
            worker.turn(Instant::from_ns(2));
            while ends[1].recv_with(|_, _| ()).is_some() {}
        }
    }
    while worker.turn(Instant::from_ns(2)) > 0 {
        while ends[1].recv_with(|_, _| ()).is_some() {}
    }
    let turns = |worker: &mut Worker, from: u64, to: u64| {
        let start = Clock::now();
        for ms in from..to {
            worker.turn(Instant::from_ms(ms));
        }
        start.elapsed().as_secs_f64()
    };
    let stay = turns(&mut worker, 1, 14_000) / 14.0;
    let (mut forget, mut reported, mut ms) = (0.0, 0u64, 14_000);
    while reported < u64::from(IDLE) {
        ms += 1;
        let start = Clock::now();
        for _ in 0..64 {
            worker.turn(Instant::from_ms(ms));
        }
        forget += start.elapsed().as_secs_f64() / 15.0;
        // What becomes of the records is another thread's work.
        while let Ok(record) = records.pop() {
            reported += record.packets;
        }
    }
    row("timers of 1,000,000 idle flows", stay * 100.0, "% of a core");
    row("to report and forget 1,000,000 flows in 15 s", forget * 100.0, "% of a core");
}

/// A row of the table; `make bench` reads them.
fn row(name: &str, figure: f64, unit: &str) {
    println!("{name:<50}{figure:>10.3} {unit}");
}

fn main() {
    let (alone, _, _, _) = run(false);
    let (steady, flood, _, grown) = run(true);
    let rate = |packets: u64| packets as f64 / SPAN.as_secs_f64() / 1000.0;
    row("steady flows alone", rate(alone), "k packets/s");
    row("steady flows beside the flood", rate(steady), "k packets/s");
    row("the flood, of flows of one packet", rate(flood), "k packets/s");
    row("memory grown in its second half", grown as f64 / 1024.0, "KiB");
    idle();
}
