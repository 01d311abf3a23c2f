//! Stages of the road alone, over the frames that the rows have: what is read off a frame, and the search for its flow. What
//! a row takes beyond the bare loop and these two is the walk over the entries, the counters and the way out.

use std::time::{Duration, Instant};

use vswitch::flow::cache::FlowCache;
use vswitch::frame::{BATCH, Buffer};
use vswitch::parse::{Parsed, parse_into};
use vswitch::port::memory::Synthesizer;
use vswitch::port::{Port, PortId};

/// A stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// From octets to a key.
    Parse,
    /// From keys to entries that were compared with them.
    LookUp,
}

/// The rows: a stage, and how many flows there are.
pub const ROWS: &[(Stage, u32)] =
    &[(Stage::Parse, 10_000), (Stage::LookUp, 100), (Stage::LookUp, 10_000), (Stage::LookUp, 1_000_000)];

/// As it is printed and chosen by words.
pub fn name(stage: Stage, flows: u32) -> String {
    match stage {
        Stage::Parse => format!("stage parse, {flows} flows"),
        Stage::LookUp => format!("stage look up, {flows} flows"),
    }
}

/// A stage, ready to run.
pub struct Probe {
    stage: Stage,
    generator: Synthesizer,
    buffers: Vec<Buffer>,
    parsed: Vec<Parsed>,
    hashes: [u64; BATCH],
    known: [u32; BATCH],
    cache: FlowCache,
}

impl Probe {
    /// With all flows of `generator` in the table.
    pub fn new(stage: Stage, flows: u32, generator: Synthesizer) -> Self {
        let mut probe = Probe {
            stage,
            generator,
            buffers: (0..BATCH).map(Buffer::new).collect(),
            parsed: vec![Parsed::EMPTY; BATCH],
            hashes: [0; BATCH],
            known: [0; BATCH],
            cache: FlowCache::new(flows.next_power_of_two() as usize),
        };
        for _ in 0..=flows as usize / BATCH {
            probe.receive();
            probe.parse();
            for parsed in &probe.parsed {
                let hash = probe.cache.hash(&parsed.key);
                if probe.cache.find(hash, &parsed.key).is_none() {
                    probe.cache.insert(hash, &parsed.key).expect("there is room");
                }
            }
        }
        probe
    }

    /// How long the stage took for so many batches.
    pub fn run(&mut self, turns: usize) -> Duration {
        let mut spent = Duration::ZERO;
        for _ in 0..turns {
            self.receive();
            match self.stage {
                Stage::Parse => {
                    let start = Instant::now();
                    self.parse();
                    spent += start.elapsed();
                }
                Stage::LookUp => {
                    self.parse();
                    let start = Instant::now();
                    let found = self.look_up();
                    spent += start.elapsed();
                    assert_eq!(found, BATCH);
                }
            }
        }
        spent
    }

    fn receive(&mut self) {
        assert_eq!(self.generator.rx(&mut self.buffers).ok(), Some(BATCH));
    }

    fn parse(&mut self) {
        for (buffer, parsed) in self.buffers.iter().zip(&mut self.parsed) {
            parse_into(buffer.frame(), &buffer.vnet, PortId(1), parsed).expect("the frames are right");
        }
    }

    fn look_up(&mut self) -> usize {
        for (hash, parsed) in self.hashes.iter_mut().zip(&self.parsed) {
            *hash = self.cache.hash(&parsed.key);
            self.cache.expect(*hash);
        }
        for (known, hash) in self.known.iter_mut().zip(&self.hashes) {
            *known = self.cache.guess(*hash);
        }
        let held =
            |(known, parsed): &(&u32, &Parsed)| self.cache.get(**known).is_some_and(|entry| entry.has_key(&parsed.key));
        self.known.iter().zip(&self.parsed).filter(held).count()
    }
}
