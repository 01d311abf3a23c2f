//! Options data: what a collector needs to read the flows, and to see what it did not get.
//!
//! | id  | table      | scope (v9, IPFIX)                | fields                                                       |
//! |-----|------------|----------------------------------|--------------------------------------------------------------|
//! | 512 | interfaces | interface 2, ingressInterface 10 | name 82, description 83                                      |
//! | 513 | sampling   | system 1, domain 149             | of records that name no sampler: 34, 35; 304, 305, 306       |
//! | 514 | statistics | system 1, exporting process 144  | sent octets, messages, flows 40-42; not sent flows, packets, octets 166-168 |
//! | 515 | timeouts   | cache 4, metering process 143    | active 36, inactive 37, one record for each monitor          |
//! | 516 | samplers   | system 1, domain 149             | 34, 48-50, name 84; 302, 34, 304-306, probability 311, name 335 |
//! | 517 | as 516     | domain 149                       | of several packets at random: as 516, with 309, 310 before 311 |
//!
//! Table 513 says "every packet" (34 = 1, 35 = 1; 304 = 1, 305 = 1, 306 = 0) unless all that the exporter sends is sampled at
//! one rate: then it says that, for collectors that know of no other place. A flow record of a monitor that is sampled
//! somewhere names its sampler (48, 302), or 0, and 516 has those. nfdump 1.7.1 reads no more than one record of a set, so each has
//! its own; and it takes a sampler only where there is a field 34 - before 306, which it keeps in the same place - and no field 35,
//! and reads no number of a selector in a scope.
//! Version 9 can say no more than one packet of so many: what is sampled at another rate has a sampler of one packet there, where
//! there is one of that rate, else its counters are multiplied and it names none.
//! Of random samplers (304 = 4, RFC 5477 section 8.2.2.1) 305 and 306 say the rate too, as that is where collectors look;
//! so of those of several packets (304 = 3, section 8.2.2.2), of which 309 and 310 say how many of how many.
//! Texts have a fixed length in IPFIX too: nfdump 1.7.1 takes the mark of a variable one for a length of 65,535.
//! Each table has a timeout of its own; a large one is spread over time: see `stream`. Not sent is what no destination was given: refused by the host for all of them, or without a template for its kind.

use std::time::Duration;

use proto::flow::{Sampling, Version};

use super::message::Weight;

/// Octets of an interface's name and description.
const NAME: usize = 32;
const DESCRIPTION: usize = 64;

/// Description of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionsTemplate {
    /// 512 and more.
    pub id: u16,
    /// Id and length of the scope field.
    pub scope: (u16, u16),
    /// Ids and lengths of the others.
    pub fields: &'static [(u16, u16)],
}

const INTERFACES: u16 = 512;
const SAMPLING: u16 = 513;
const STATISTICS: u16 = 514;
const TIMEOUTS: u16 = 515;
/// Records of this table have sets of their own.
pub const SAMPLERS: u16 = 516;
/// And those of this.
pub const SAMPLERS_OF_SEVERAL: u16 = 517;
const INTERFACES_FIELDS: &[(u16, u16)] = &[(82, NAME as u16), (83, DESCRIPTION as u16)];
const STATISTICS_FIELDS: &[(u16, u16)] = &[(40, 8), (41, 8), (42, 8), (166, 8), (167, 8), (168, 8)];
const TIMEOUTS_FIELDS: &[(u16, u16)] = &[(36, 2), (37, 2)];

const V9: [OptionsTemplate; 5] = [
    OptionsTemplate { id: INTERFACES, scope: (2, 4), fields: INTERFACES_FIELDS },
    OptionsTemplate { id: SAMPLING, scope: (1, 4), fields: &[(34, 4), (35, 1)] },
    OptionsTemplate { id: STATISTICS, scope: (1, 4), fields: STATISTICS_FIELDS },
    OptionsTemplate { id: TIMEOUTS, scope: (4, 4), fields: TIMEOUTS_FIELDS },
    OptionsTemplate { id: SAMPLERS, scope: (1, 4), fields: &[(34, 4), (48, 2), (49, 1), (50, 4), (84, NAME as u16)] },
];

const IPFIX: [OptionsTemplate; 6] = [
    OptionsTemplate { id: INTERFACES, scope: (10, 4), fields: INTERFACES_FIELDS },
    OptionsTemplate { id: SAMPLING, scope: (149, 4), fields: &[(304, 2), (305, 4), (306, 4)] },
    OptionsTemplate { id: STATISTICS, scope: (144, 4), fields: STATISTICS_FIELDS },
    OptionsTemplate { id: TIMEOUTS, scope: (143, 4), fields: TIMEOUTS_FIELDS },
    OptionsTemplate {
        id: SAMPLERS,
        scope: (149, 4),
        fields: &[(302, 8), (34, 4), (304, 2), (305, 4), (306, 4), (311, 8), (335, NAME as u16)],
    },
    OptionsTemplate {
        id: SAMPLERS_OF_SEVERAL,
        scope: (149, 4),
        fields: &[(302, 8), (34, 4), (304, 2), (305, 4), (306, 4), (309, 4), (310, 4), (311, 8), (335, NAME as u16)],
    },
];

/// The tables of a version with templates.
pub fn templates(version: Version) -> &'static [OptionsTemplate] {
    if version == Version::Ipfix { &IPFIX } else { &V9 }
}

/// What has a time of its own. Timeouts of monitors go with the sampling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Names of interfaces.
    Interfaces,
    /// How packets are sampled, and when flows are reported.
    Sampling,
    /// What was sent.
    Statistics,
}

impl Table {
    /// Every table, in the order in which they are sent.
    pub const ALL: [Table; 3] = [Table::Sampling, Table::Statistics, Table::Interfaces];
}

/// Times between the records of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OptionTimeouts {
    /// Of [`Table::Interfaces`].
    pub interfaces: Duration,
    /// Of [`Table::Sampling`].
    pub sampling: Duration,
    /// Of [`Table::Statistics`].
    pub statistics: Duration,
}

impl OptionTimeouts {
    /// That of a table.
    pub fn of(self, table: Table) -> Duration {
        match table {
            Table::Interfaces => self.interfaces,
            Table::Sampling => self.sampling,
            Table::Statistics => self.statistics,
        }
    }
}

/// A row of the interface table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceRow {
    /// Index.
    pub if_index: u16,
    /// Name, as `Vethernet1`.
    pub name: String,
    /// Description.
    pub description: String,
}

/// A row of the timeouts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeoutRow {
    /// Number of the monitor, from 1.
    pub monitor: u32,
    /// Active timeout, seconds.
    pub active_s: u32,
    /// Inactive timeout, seconds.
    pub inactive_s: u32,
}

/// What was sent and what was not, since the exporter's stream began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Octets of payload.
    pub octets: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// Flow records.
    pub flows: u64,
    /// Of flows that were not sent: records, packets and octets.
    pub lost: Lost,
}

/// Flows that were not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// Records.
    pub flows: u64,
    /// Packets in them.
    pub packets: u64,
    /// Octets in them.
    pub octets: u64,
}

impl Lost {
    /// Adds what a datagram held.
    pub fn add(&mut self, weight: Weight) {
        self.flows += u64::from(weight.flows);
        self.packets = self.packets.saturating_add(weight.packets);
        self.octets = self.octets.saturating_add(weight.octets);
    }
}

/// A row of the samplers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SamplerRow {
    /// What it does.
    pub sampling: Sampling,
    /// Its name.
    pub name: String,
}

/// The contents of the tables that the configuration decides.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    /// Interfaces of the host.
    pub interfaces: Vec<InterfaceRow>,
    /// Monitors that use the exporter.
    pub timeouts: Vec<TimeoutRow>,
    /// How packets were picked of flows that name no sampler.
    pub sampling: Sampling,
    /// Samplers that flows name.
    pub samplers: Vec<SamplerRow>,
}

impl Tables {
    /// The records of a table: the id, and the octets. `module` is the observation domain.
    pub fn records(&self, table: Table, version: Version, module: u8, totals: &Totals) -> Vec<(u16, Vec<u8>)> {
        let module = u32::from(module).to_be_bytes();
        match table {
            Table::Interfaces => self.interfaces.iter().map(|row| (INTERFACES, row.record())).collect(),
            Table::Sampling => std::iter::once((SAMPLING, sampling(version, module, self.sampling)))
                .chain(self.samplers(version).iter().map(|row| (row.table(version), row.record(version, module))))
                .chain(self.timeouts.iter().map(|row| (TIMEOUTS, row.record())))
                .collect(),
            Table::Statistics => vec![(STATISTICS, statistics(module, totals))],
        }
    }
}

impl Tables {
    /// The samplers as a version knows them.
    fn samplers(&self, version: Version) -> Vec<SamplerRow> {
        let mut rows = self.samplers.clone();
        if version != Version::Ipfix {
            rows.retain_mut(|row| row.sampling.rate().map(|rate| row.sampling = rate).is_some());
            rows.sort_by_key(|row| row.sampling);
            rows.dedup_by_key(|row| row.sampling);
        }
        rows
    }

    /// There are records for a table, if it is one of samplers.
    pub fn has(&self, id: u16, version: Version) -> bool {
        let is_of_samplers = matches!(id, SAMPLERS | SAMPLERS_OF_SEVERAL);
        !is_of_samplers || self.samplers(version).iter().any(|row| row.table(version) == id)
    }
}

/// At random, and of several packets.
fn is_any_of_several(sampling: Sampling) -> bool {
    sampling.is_random() && sampling.count() > 1
}

impl InterfaceRow {
    fn record(&self) -> Vec<u8> {
        let mut out = u32::from(self.if_index).to_be_bytes().to_vec();
        fixed(&self.name, NAME, &mut out);
        fixed(&self.description, DESCRIPTION, &mut out);
        out
    }
}

impl TimeoutRow {
    fn record(&self) -> Vec<u8> {
        let mut out = self.monitor.to_be_bytes().to_vec();
        for seconds in [self.active_s, self.inactive_s] {
            out.extend(u16::try_from(seconds).unwrap_or(u16::MAX).to_be_bytes());
        }
        out
    }
}

impl SamplerRow {
    fn table(&self, version: Version) -> u16 {
        if version == Version::Ipfix && is_any_of_several(self.sampling) { SAMPLERS_OF_SEVERAL } else { SAMPLERS }
    }

    fn record(&self, version: Version, module: [u8; 4]) -> Vec<u8> {
        let (number, out_of) = (self.sampling.number(), u32::from(self.sampling.out_of()));
        let count = u32::from(self.sampling.count());
        let mut out = module.to_vec();
        if version == Version::Ipfix {
            out.extend(u64::from(number).to_be_bytes());
            // One of so many: the nearest.
            out.extend(((out_of + count / 2) / count).to_be_bytes());
            out.extend(selection(self.sampling));
            if is_any_of_several(self.sampling) {
                out.extend([count, out_of].map(u32::to_be_bytes).as_flattened());
            }
            out.extend((f64::from(count) / f64::from(out_of)).to_be_bytes());
        } else {
            out.extend(out_of.to_be_bytes());
            out.extend((number as u16).to_be_bytes());
            out.push(mode(self.sampling));
            out.extend(out_of.to_be_bytes());
        }
        fixed(&self.name, NAME, &mut out);
        out
    }
}

/// Version 9's mode: deterministic 1, random 2.
fn mode(sampling: Sampling) -> u8 {
    1 + u8::from(sampling.is_random())
}

/// selectorAlgorithm, samplingPacketInterval, samplingPacketSpace (RFC 5477 section 8.2): systematic count-based selection of
/// packets and then a gap, n-out-of-N sampling, or uniform probabilistic sampling.
fn selection(sampling: Sampling) -> Vec<u8> {
    let algorithm: u16 = match (sampling.is_random(), sampling.count()) {
        (false, _) => 1,
        (true, 1) => 4,
        (true, _) => 3,
    };
    let mut out = algorithm.to_be_bytes().to_vec();
    out.extend(u32::from(sampling.count()).to_be_bytes());
    out.extend(u32::from(sampling.out_of() - sampling.count()).to_be_bytes());
    out
}

fn sampling(version: Version, module: [u8; 4], sampling: Sampling) -> Vec<u8> {
    let mut out = module.to_vec();
    if version == Version::Ipfix {
        out.extend(selection(sampling));
    } else {
        let sampling = sampling.rate().unwrap_or_default();
        out.extend(u32::from(sampling.out_of()).to_be_bytes());
        out.push(mode(sampling));
    }
    out
}

fn statistics(module: [u8; 4], totals: &Totals) -> Vec<u8> {
    let lost = totals.lost;
    let mut out = module.to_vec();
    for number in [totals.octets, totals.datagrams, totals.flows, lost.flows, lost.packets, lost.octets] {
        out.extend(number.to_be_bytes());
    }
    out
}

/// Appends a text in `length` octets, cut or filled up with zeros.
fn fixed(text: &str, length: usize, out: &mut Vec<u8>) {
    let text = cut(text, length);
    out.extend(text.as_bytes());
    out.extend(std::iter::repeat_n(0, length - text.len()));
}

/// The longest beginning of `text` of at most `length` octets that does not cut a character.
pub fn cut(text: &str, length: usize) -> &str {
    text.get(..text.floor_char_boundary(length)).unwrap_or_default()
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
