//! `make bench`: what the switch costs, as ratios to bare loops and to Open vSwitch, in one run.
//!
//! ```text
//!   bin/bench ─▶ PARTS      instructions · road · workers     memory   benches of cargo
//!                           flood
//!                           vhost                             vhost    dpdk-testpmd, Open vSwitch with DPDK
//!                           tap · meter · noisy               tap …    namespaces, iperf3, own generator
//!                           manage                            SSH      200 of OpenSSH's clients
//!                  each ─▶ report ─▶ target/bench/PART.json ─▶ page ─▶ docs/performance.md, plot ─▶ *.svg
//! ```
//!
//! * [`rounds`] interleaves: every subject once per round, so that what else the machine does hits all of them alike.
//! * [`ground`] holds all that is made, and gives it back whatever happens.
//! * Peers are configured as their own guides have it, and get the same traffic on the same core.
//! * The switch has one of the machine's two cores, the generator the other: ratios and processor time per packet say more
//!   than the rates.

pub mod cpu;
pub mod flows;
pub mod ground;
pub mod machine;
pub mod manage;
pub mod memory;
pub mod meter;
pub mod noisy;
pub mod ovs;
pub mod page;
pub mod pair;
pub mod pingpong;
pub mod plot;
pub mod receiver;
pub mod report;
pub mod rounds;
pub mod sender;
pub mod tap;
pub mod testpmd;
pub mod vem;
pub mod vhost;

use std::time::Duration;

use crate::error::{Error, Result};
use ground::Ground;
use report::Report;

/// Time of a part for each round that was asked for, with the least of all; rounds that would exceed it are left out.
const LIMIT_ROUND: Duration = Duration::from_secs(100);
const LIMIT_MIN: Duration = Duration::from_secs(240);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds, as far as the part's time allows.
    pub rounds: u32,
    /// Time of one measurement.
    pub time: Duration,
}

/// A part of the bench.
pub struct Part {
    /// Its name for `make bench PART=`.
    pub name: &'static str,
    /// What it measures, without a full stop.
    pub words: &'static str,
    run: fn(&mut Ground, Effort) -> Result<Report>,
}

/// All parts, in their order.
pub const PARTS: [Part; 9] = [
    Part {
        name: "instructions",
        words: "Instructions per stage of the frame path, against the bounds that are kept in the tree",
        run: |ground, _| memory::instructions(ground),
    },
    Part {
        name: "road",
        words: "Nanoseconds and allocations per 64-octet frame through memory ports, by feature and number of flows",
        run: |ground, _| memory::road(ground),
    },
    Part {
        name: "workers",
        words: "Two workers on two sets of flows against one, through memory ports",
        run: |ground, _| memory::workers(ground),
    },
    Part {
        name: "flood",
        words: "Steady flows beside a flood of new ones, and what a million idle flows cost, through memory ports",
        run: |ground, _| memory::flood(ground),
    },
    Part {
        name: "vhost",
        words: "vhost-user to vhost-user, one core for the switch, `dpdk-testpmd` with flowgen on the other",
        run: |ground, effort| vhost::run(ground, effort.rounds, effort.time),
    },
    Part {
        name: "tap",
        words: "Tap to tap between two namespaces: TCP, small UDP frames, round trips, processor time",
        run: |ground, effort| tap::run(ground, effort.rounds, effort.time),
    },
    Part {
        name: "meter",
        words: "Processor time per packet that unsampled NetFlow adds, against `fprobe`",
        // Short ones, because a difference is measured.
        run: |ground, effort| meter::run(ground, effort.rounds * 5),
    },
    Part {
        name: "noisy",
        words: "A noisy neighbour at full small-frame rate, beside a TCP stream and an idle pair",
        run: |ground, effort| noisy::run(ground, effort.rounds, effort.time),
    },
    Part {
        name: "manage",
        words: "200 administrators by SSH on a switch of 2,000 profiles and 10,000 VM cards, and frames meanwhile",
        run: |ground, effort| manage::run(ground, effort.rounds, effort.time),
    },
];

/// The parts of these names, all when there are none.
///
/// # Errors
/// There is no such part.
pub fn parts(names: &[String]) -> Result<Vec<&'static Part>> {
    if names.is_empty() {
        return Ok(PARTS.iter().collect());
    }
    let find = |name: &String| {
        let known = || PARTS.iter().map(|p| p.name).collect::<Vec<_>>().join(" ");
        let found = PARTS.iter().find(|p| p.name == name);
        found.ok_or_else(|| Error::State(format!("there is no part '{name}'; parts are: {}", known())))
    };
    names.iter().map(find).collect()
}

/// Measures a part.
pub fn run(part: &Part, effort: Effort) -> Result<Report> {
    cpu::two_cores()?;
    let mut ground = Ground::claim()?;
    ground.begin(LIMIT_MIN.max(LIMIT_ROUND * effort.rounds));
    (part.run)(&mut ground, effort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_by_name() {
        assert_eq!(parts(&[]).expect("all").len(), PARTS.len());
        let two = parts(&["tap".to_owned(), "road".to_owned()]).expect("both are there");
        assert_eq!(two.iter().map(|p| p.name).collect::<Vec<_>>(), ["tap", "road"]);
        assert!(parts(&["taps".to_owned()]).is_err());
    }
}
