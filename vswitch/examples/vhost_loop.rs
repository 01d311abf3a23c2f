//! Switches between vhost-user ports and does nothing else: what a real guest, or DPDK's virtio-user, is held against.
//!
//! `vhost_loop SOCKET SOCKET...` makes a port for each socket, all access ports of VLAN 1, prints `ready`, and switches with one
//! worker until its standard input ends. Every line of input prints the counters, and so does the end: per port frames
//! received, sent and lost, and how long a turn with frames took per frame. `client:SOCKET` connects instead of listening.

use std::error::Error;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proto::addr::VlanId;
use proto::vlan::PortMode;
use vswitch::config::{Config, PortConfig};
use vswitch::control::Control;
use vswitch::port::PortId;
use vswitch::port::vhost::{Role, Settings, Vhost, VhostState};
use vswitch::snapshot::Snapshot;
use vswitch::worker::{Limits, switch};

/// What the loop did: frames received, turns that received any, and nanoseconds of these.
#[derive(Default)]
struct Work {
    frames: AtomicU64,
    turns: AtomicU64,
    busy: AtomicU64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let sockets: Vec<String> = std::env::args().skip(1).collect();
    if sockets.len() < 2 {
        return Err("usage: vhost_loop [client:]SOCKET [client:]SOCKET...".into());
    }
    let vlan = VlanId::new(1).ok_or("VLAN 1 is a VLAN")?;
    let mut config =
        Config { version: 1, vlans: "1".parse()?, mac_aging: Duration::from_secs(300), ..Config::default() };
    let (mut worker, control, _reports) = switch(Limits::default());
    let mut states = Vec::new();
    for (number, socket) in (0..).zip(&sockets) {
        let (path, role) = match socket.strip_prefix("client:") {
            Some(path) => (path, Role::Client),
            None => (socket.as_str(), Role::Server),
        };
        let vhost = Vhost::open(&Settings { path: path.into(), role, queue_pairs: 1, mode: None, owner: None })?;
        states.push(vhost.state());
        worker.attach(PortId(number), Box::new(vhost)).map_err(|(error, _)| error)?;
        config.ports.push(access(PortId(number), vlan));
    }
    worker.publish(Snapshot::build(&config)?);

    let stop = Arc::new(AtomicBool::new(false));
    let work = Arc::new(Work::default());
    let (stopped, worked) = (Arc::clone(&stop), Arc::clone(&work));
    let thread = std::thread::spawn(move || {
        let epoch = Instant::now();
        let mut before = epoch;
        while !stopped.load(Ordering::Relaxed) {
            let now = vswitch::time::Instant::from_ns((before - epoch).as_nanos() as u64);
            let frames = worker.turn(now);
            let after = Instant::now();
            if frames > 0 {
                worked.frames.fetch_add(frames as u64, Ordering::Relaxed);
                worked.turns.fetch_add(1, Ordering::Relaxed);
                worked.busy.fetch_add((after - before).as_nanos() as u64, Ordering::Relaxed);
            } else {
                std::hint::spin_loop();
            }
            before = after;
        }
    });
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        line?;
        report(&control, &states, &work);
    }
    report(&control, &states, &work);
    stop.store(true, Ordering::Relaxed);
    thread.join().map_err(|_| "the worker panicked")?;
    Ok(())
}

fn report(control: &Control, states: &[Arc<VhostState>], work: &Work) {
    for (number, state) in (0..).zip(states) {
        let counters = control.port_counters(PortId(number));
        let (vhost, drops) = (state.counters(), counters.rx_drops.iter().sum::<u64>());
        println!(
            "port {number} rx {} tx {} drops {drops} pairs {} features {:#x} calls {} kicks {} bad {} errors {} {}",
            counters.rx.frames(),
            counters.tx.frames(),
            state.queue_pairs(),
            state.features(),
            vhost.calls,
            vhost.kicks,
            vhost.bad_descriptors,
            vhost.ring_errors,
            state.error().unwrap_or_default(),
        );
    }
    let (frames, busy) = (work.frames.load(Ordering::Relaxed), work.busy.load(Ordering::Relaxed));
    let turns = work.turns.load(Ordering::Relaxed);
    println!(
        "frames {frames} ns/frame {:.1} frames/turn {:.1}",
        busy as f64 / frames.max(1) as f64,
        frames as f64 / turns.max(1) as f64
    );
}

fn access(id: PortId, vlan: VlanId) -> PortConfig {
    PortConfig {
        id,
        uplink: false,
        up: true,
        mode: PortMode::Access(vlan),
        protected: false,
        mtu: 9000,
        ip_acl_in: None,
        ip_acl_out: None,
        mac_acl_in: None,
        mac_acl_out: None,
        flow_in: None,
        flow_out: None,
        sampling: Default::default(),
    }
}
