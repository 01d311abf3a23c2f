//! NetFlow versions 1, 5 and 7: a fixed record, IPv4 only.
//!
//! | version | header | record | records at most | sequence             | beside version 5                            |
//! |---------|--------|--------|-----------------|----------------------|---------------------------------------------|
//! | 1       | 16     | 48     | 24              | none                 | no autonomous systems, no prefix lengths     |
//! | 5       | 24     | 48     | 30              | records sent before  |                                             |
//! | 7       | 24     | 52     | 27              | records sent before  | address of a router, 0.0.0.0; no engine      |
//!
//! Only the header of version 5 has a place for how packets were sampled, one for the whole datagram, and collectors take the
//! first that they see of an engine for all that follow. So what is sampled at another rate is of another engine: the type says the
//! rate, and each has a sequence of its own. Versions 1 and 7 can't say it: their counters are multiplied.
//!
//! Counters have 32 bits: a record that holds more is cut into several, whose sums are the same. What is not IPv4 can't be
//! sent and is counted.

use std::time::Duration;

use proto::flow::{Sampling, Version};
use vswitch::flow::key::shape;
use vswitch::time::Instant;

use super::clock::{Base, Moment};
use super::flow::Flow;
use super::message::{Datagram, Weight};
use super::options::Lost;

/// What the versions differ in.
#[derive(Clone, Copy, Debug)]
struct Form {
    version: Version,
    /// Octets of the header.
    header: usize,
    /// Octets of a record.
    record: usize,
    /// Most records of a datagram.
    records_max: usize,
}

impl Form {
    fn of(version: Version) -> Self {
        let (header, record, records_max) = match version {
            Version::V1 => (16, 48, 24),
            Version::V7 => (24, 52, 27),
            _ => (24, 48, 30),
        };
        Form { version, header, record, records_max }
    }
}

/// Most octets or packets of a record.
const COUNT_MAX: u64 = 1 << 31;
/// Most records that a flow is cut into; what is larger (8 TiB in one report) is a fault and is counted as not exportable.
const PARTS_MAX: u64 = 4096;

/// The records for one exporter.
#[derive(Debug)]
pub struct Stream {
    form: Form,
    engine: u8,
    /// Engine type: 0 where every packet is counted.
    engine_type: u8,
    sampling: Sampling,
    records_max: usize,
    sequence: u32,
    base: Base,
    records: Vec<u8>,
    weight: Weight,
    since: Option<Instant>,
    not_exportable: Lost,
}

impl Stream {
    /// An empty stream of module `engine`, in a version without templates.
    pub fn new(version: Version, engine: u8) -> Self {
        let form = Form::of(version);
        Stream {
            form,
            engine,
            engine_type: 0,
            sampling: Sampling::NONE,
            records_max: form.records_max,
            sequence: 0,
            base: Base::default(),
            records: Vec::new(),
            weight: Weight::default(),
            since: None,
            not_exportable: Lost::default(),
        }
    }

    /// Sets the payload of a datagram, octets.
    pub fn set_payload_max(&mut self, octets: usize) {
        let room = octets.saturating_sub(self.form.header);
        self.records_max = (room / self.form.record).clamp(1, self.form.records_max);
    }

    /// Number that the next datagram has; version 1 has none.
    pub fn sequence(&self) -> Option<u32> {
        (self.form.version != Version::V1).then_some(self.sequence)
    }

    /// Flows that the format can't carry.
    pub fn not_exportable(&self) -> Lost {
        self.not_exportable
    }

    /// When the oldest record that was not sent came.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Its header can say how packets were sampled.
    fn says(&self, sampling: Sampling) -> bool {
        self.form.version == Version::V5 && sampling.rate().is_some()
    }

    /// Takes a flow; datagrams that are full go to `out`.
    pub fn push(&mut self, flow: &Flow<'_>, at: Moment, out: &mut Vec<Datagram>) {
        let scaled = if self.says(flow.record.sampling) { *flow.record } else { flow.record.scaled() };
        let (packets, octets) = (scaled.packets, scaled.octets);
        let parts = packets.div_ceil(COUNT_MAX).max(octets.div_ceil(COUNT_MAX)).max(1);
        if !is_ipv4(flow) || parts > PARTS_MAX {
            self.not_exportable.add(Weight::flow(packets, octets));
            return;
        }
        for part in 0..parts {
            if self.since.is_none() {
                self.since = Some(at.now);
                self.base = at.base();
            }
            let (packets, octets) = (share(packets, part, parts), share(octets, part, parts));
            self.write(flow, packets, octets);
            self.weight.add(Weight::flow(packets.into(), octets.into()));
            if self.weight.flows as usize >= self.records_max {
                self.flush(at, out);
            }
        }
    }

    fn write(&mut self, flow: &Flow<'_>, packets: u32, octets: u32) {
        let record = flow.record;
        let key = &record.key;
        let out = &mut self.records;
        out.extend(Flow::ipv4(key.src));
        out.extend(Flow::ipv4(key.dst));
        out.extend([0; 4]);
        out.extend(flow.input.to_be_bytes());
        out.extend(flow.output.to_be_bytes());
        for word in [packets, octets, self.base.uptime(record.first), self.base.uptime(record.last)] {
            out.extend(word.to_be_bytes());
        }
        out.extend(key.src_port.to_be_bytes());
        out.extend(key.dst_port.to_be_bytes());
        match self.form.version {
            // Padding before and after.
            Version::V1 => {
                out.extend([0, 0, key.protocol, key.tos, record.tcp_flags]);
                out.extend([0; 7]);
            }
            _ => {
                out.extend([0, record.tcp_flags, key.protocol, key.tos]);
                // Autonomous systems, prefix lengths, padding, and in version 7 the router.
                out.extend([0; 4]);
                out.extend(flow.sum.map_or([0; 2], |sum| sum.prefixes));
                out.extend(std::iter::repeat_n(0, self.form.record - 46));
            }
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, at: Moment, out: &mut Vec<Datagram>) {
        self.since = None;
        if self.records.is_empty() {
            return;
        }
        let weight = std::mem::take(&mut self.weight);
        let wall_ms = at.wall_ms();
        let mut bytes = Vec::with_capacity(self.form.header + self.records.len());
        bytes.extend(self.form.version.number().to_be_bytes());
        bytes.extend((weight.flows as u16).to_be_bytes());
        let nanoseconds = (wall_ms % 1000 * 1_000_000) as u32;
        for word in [self.base.uptime(at.now), (wall_ms / 1000) as u32, nanoseconds] {
            bytes.extend(word.to_be_bytes());
        }
        if self.form.version != Version::V1 {
            bytes.extend(self.sequence.to_be_bytes());
            // Engine type and id; sampling mode and interval, 0 for every packet. In version 7 all of it is reserved.
            let is_v5 = self.form.version == Version::V5;
            bytes.extend([self.engine_type, if is_v5 { self.engine } else { 0 }]);
            bytes.extend(header_sampling(self.sampling).to_be_bytes());
        }
        bytes.append(&mut self.records);
        self.sequence = self.sequence.wrapping_add(weight.flows);
        out.push(Datagram { bytes, weight });
    }
}

/// The upper two bits say that it is deterministic (1) or random (2), the others of how many packets one is counted.
fn header_sampling(sampling: Sampling) -> u16 {
    match sampling {
        Sampling::NONE => 0,
        sampling => sampling.out_of() & 0x3fff | if sampling.is_random() { 2 << 14 } else { 1 << 14 },
    }
}

/// The engine type that is tried first for a sampler: the same after a restart, so that collectors that know it go on.
fn engine_type(sampling: Sampling) -> u8 {
    1 + (sampling.number() % 255) as u8
}

/// The records for one exporter: a [`Stream`] for each rate at which packets are sampled.
#[derive(Debug)]
pub struct Streams {
    version: Version,
    engine: u8,
    payload_max: usize,
    /// The first is that of flows of which every packet is counted.
    streams: Vec<Stream>,
    /// Flows at more rates than there are engine types.
    nameless: Lost,
}

impl Streams {
    /// Empty ones of module `engine`, in a version without templates.
    pub fn new(version: Version, engine: u8) -> Self {
        Streams {
            version,
            engine,
            payload_max: usize::MAX,
            streams: vec![Stream::new(version, engine)],
            nameless: Lost::default(),
        }
    }

    /// Sets the payload of a datagram, octets.
    pub fn set_payload_max(&mut self, octets: usize) {
        self.payload_max = octets;
        self.streams.iter_mut().for_each(|stream| stream.set_payload_max(octets));
    }

    /// Number that the next datagram has, of those of the first stream if there are several; version 1 has none.
    pub fn sequence(&self) -> Option<u32> {
        let used = self.streams.iter().filter(|stream| stream.sequence != 0);
        used.chain(&self.streams).next().and_then(Stream::sequence)
    }

    /// Flows that the format can't carry.
    pub fn not_exportable(&self) -> Lost {
        let own = self.streams.iter().map(Stream::not_exportable).chain([self.nameless]);
        own.fold(Lost::default(), |sum, lost| Lost {
            flows: sum.flows + lost.flows,
            packets: sum.packets.saturating_add(lost.packets),
            octets: sum.octets.saturating_add(lost.octets),
        })
    }

    /// Takes a flow; datagrams that are full go to `out`.
    pub fn push(&mut self, flow: &Flow<'_>, at: Moment, out: &mut Vec<Datagram>) {
        let rate = flow.record.sampling.rate().filter(|_| self.version == Version::V5);
        let sampling = rate.unwrap_or_default();
        match self.stream(sampling) {
            Some(stream) => stream.push(flow, at, out),
            None => self.nameless.add(Weight::flow(flow.record.packets, flow.record.octets)),
        }
    }

    fn stream(&mut self, sampling: Sampling) -> Option<&mut Stream> {
        let found = self.streams.iter().position(|stream| stream.sampling == sampling);
        let index = match found {
            Some(index) => index,
            None => {
                let taken = |kind: u8| self.streams.iter().any(|stream| stream.engine_type == kind);
                let first = engine_type(sampling);
                let engine_type = (first..=u8::MAX).chain(1..first).find(|kind| !taken(*kind))?;
                let mut stream = Stream { engine_type, sampling, ..Stream::new(self.version, self.engine) };
                stream.set_payload_max(self.payload_max);
                self.streams.push(stream);
                self.streams.len() - 1
            }
        };
        self.streams.get_mut(index)
    }

    /// Sends what has waited for `patience`.
    pub fn tick(&mut self, patience: Duration, at: Moment, out: &mut Vec<Datagram>) {
        for stream in &mut self.streams {
            if stream.since().is_some_and(|since| at.now.since(since) >= patience) {
                stream.flush(at, out);
            }
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, at: Moment, out: &mut Vec<Datagram>) {
        self.streams.iter_mut().for_each(|stream| stream.flush(at, out));
    }
}

/// It has IPv4 addresses, or is the sum of such flows, whose addresses are then 0.0.0.0.
fn is_ipv4(flow: &Flow<'_>) -> bool {
    flow.record.key.is(shape::IPV4)
}

/// The `part`-th share of `total`: all shares together are `total`, and none is above 2^31.
fn share(total: u64, part: u64, parts: u64) -> u32 {
    (total / parts + u64::from(part < total % parts)) as u32
}

#[cfg(test)]
mod tests {
    use vswitch::flow::record::Record;

    use super::super::flow::tests::{arp, flow, overflow, tcp4, tcp6};
    use super::*;

    const AT: Moment = Moment { now: Instant::from_ms(3_000), boot_ms: 1_700_000_000_500 };

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn golden_datagram() {
        let mut stream = Stream::new(Version::V5, 3);
        let mut out = Vec::new();
        stream.push(&flow(&tcp4()), AT, &mut out);
        assert_eq!(out, []);
        stream.flush(AT, &mut out);
        let expected: [u8; 72] = [
            0, 5, 0, 1, 0, 0, 0x0b, 0xb8, 0x65, 0x53, 0xf1, 0x03, 0x1d, 0xcd, 0x65, 0, // uptime 3000, .500 s
            0, 0, 0, 0, 0, 3, 0, 0, // sequence, engine, sampling
            10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 11, 0, 12, // addresses, next hop, interfaces
            0, 0, 0, 3, 0, 0, 0x05, 0xdc, 0, 0, 0x05, 0xdc, 0, 0, 0x08, 0xca, // packets, octets, first, last
            4, 0, 0, 80, 0, 0x1b, 6, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, // ports, flags, protocol, ToS
        ];
        assert_eq!(out[0].bytes, expected);
        assert_eq!(out[0].weight, Weight::flow(3, 1500));
    }

    fn datagram(version: Version, records: usize) -> Datagram {
        let mut stream = Stream::new(version, 3);
        let mut out = Vec::new();
        (0..records).for_each(|_| stream.push(&flow(&tcp4()), AT, &mut out));
        stream.flush(AT, &mut out);
        out.remove(0)
    }

    #[test]
    fn golden_datagrams_of_versions_1_and_7() {
        let v1: [u8; 64] = [
            0, 1, 0, 1, 0, 0, 0x0b, 0xb8, 0x65, 0x53, 0xf1, 0x03, 0x1d, 0xcd, 0x65, 0, // uptime 3000, .500 s
            10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 11, 0, 12, // addresses, next hop, interfaces
            0, 0, 0, 3, 0, 0, 0x05, 0xdc, 0, 0, 0x05, 0xdc, 0, 0, 0x08, 0xca, // packets, octets, first, last
            4, 0, 0, 80, 0, 0, 6, 0xb8, 0x1b, 0, 0, 0, 0, 0, 0, 0, // ports, protocol, ToS, flags
        ];
        assert_eq!(datagram(Version::V1, 1).bytes, v1);
        let v7: [u8; 76] = [
            0, 7, 0, 1, 0, 0, 0x0b, 0xb8, 0x65, 0x53, 0xf1, 0x03, 0x1d, 0xcd, 0x65, 0, // uptime 3000, .500 s
            0, 0, 0, 0, 0, 0, 0, 0, // sequence, reserved
            10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 11, 0, 12, // addresses, next hop, interfaces
            0, 0, 0, 3, 0, 0, 0x05, 0xdc, 0, 0, 0x05, 0xdc, 0, 0, 0x08, 0xca, // packets, octets, first, last
            4, 0, 0, 80, 0, 0x1b, 6, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, // ports, flags, protocol, ToS
            0, 0, 0, 0, // router
        ];
        assert_eq!(datagram(Version::V7, 1).bytes, v7);
    }

    #[test]
    fn a_datagram_holds_as_many_as_the_version_says() {
        for (version, records, length) in [(Version::V1, 24, 1168), (Version::V5, 30, 1464), (Version::V7, 27, 1428)] {
            let full = datagram(version, 50);
            assert_eq!((full.weight.flows, full.bytes.len()), (records, length), "{version:?}");
        }
    }

    #[test]
    fn sequence_counts_records_and_thirty_fill_a_datagram() {
        let mut stream = Stream::new(Version::V5, 3);
        let mut out = Vec::new();
        for _ in 0..65 {
            stream.push(&flow(&tcp4()), AT, &mut out);
        }
        stream.flush(AT, &mut out);
        stream.flush(AT, &mut out);
        let sequences: Vec<u32> = out.iter().map(|datagram| words(&datagram.bytes)[4]).collect();
        assert_eq!(sequences, [0, 30, 60]);
        assert_eq!(out[0].bytes.len(), 24 + 30 * 48);
        assert_eq!(out[2].weight.flows, 5);
    }

    #[test]
    fn each_rate_has_an_engine_and_a_sequence_of_its_own() {
        let mut streams = Streams::new(Version::V5, 3);
        let rates = [Sampling::NONE, Sampling::new(false, 100).unwrap(), Sampling::new(true, 16_383).unwrap()];
        let mut out = Vec::new();
        for n in 0..100 {
            streams.push(&flow(&Record { sampling: rates[n % 3], ..tcp4() }), AT, &mut out);
        }
        streams.flush(AT, &mut out);
        let mut next = std::collections::BTreeMap::new();
        for datagram in &out {
            let header = &datagram.bytes[..24];
            let (engine, sampling) = ([header[20], header[21]], u16::from_be_bytes([header[22], header[23]]));
            let sequence: &mut u32 = next.entry((engine, sampling)).or_default();
            assert_eq!(words(header)[4], *sequence);
            *sequence += datagram.weight.flows;
        }
        let engines: Vec<_> = next.into_iter().collect();
        assert_eq!(engines, [(([0, 3], 0), 34), (([101, 3], 0x4064), 33), (([192, 3], 0xbfff), 33)]);
    }

    #[test]
    fn versions_that_cannot_say_it_multiply() {
        for version in [Version::V1, Version::V7] {
            let mut streams = Streams::new(version, 3);
            let mut out = Vec::new();
            streams.push(&flow(&Record { sampling: Sampling::new(true, 100).unwrap(), ..tcp4() }), AT, &mut out);
            streams.flush(AT, &mut out);
            assert_eq!(out[0].weight, Weight::flow(300, 150_000), "{version:?}");
        }
    }

    #[test]
    fn a_small_payload_holds_fewer() {
        let mut stream = Stream::new(Version::V5, 3);
        stream.set_payload_max(512);
        let mut out = Vec::new();
        for _ in 0..10 {
            stream.push(&flow(&tcp4()), AT, &mut out);
        }
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].bytes.len(), 24 + 10 * 48);
    }

    #[test]
    fn large_counters_are_cut_and_add_up() {
        let mut record = tcp4();
        (record.packets, record.octets) = (4_000_001, (5 << 31) + 7);
        let mut stream = Stream::new(Version::V5, 3);
        let mut out = Vec::new();
        stream.push(&flow(&record), AT, &mut out);
        stream.flush(AT, &mut out);
        let records: Vec<Vec<u32>> = out[0].bytes[24..].chunks(48).map(words).collect();
        assert_eq!(records.len(), 6);
        assert_eq!(records.iter().map(|record| u64::from(record[4])).sum::<u64>(), record.packets);
        assert_eq!(records.iter().map(|record| u64::from(record[5])).sum::<u64>(), record.octets);
        assert_eq!(out[0].weight.octets, record.octets);
    }

    #[test]
    fn an_overflow_of_ipv4_is_a_flow_without_addresses() {
        let mut stream = Stream::new(Version::V5, 3);
        let mut out = Vec::new();
        stream.push(&flow(&overflow()), AT, &mut out);
        stream.flush(AT, &mut out);
        let record = words(&out[0].bytes[24..]);
        assert_eq!(record[..6], [0, 0, 0, 11 << 16 | 12, 70_000, 4_200_000]);
    }

    #[test]
    fn what_cannot_be_carried_is_counted() {
        let mut stream = Stream::new(Version::V5, 3);
        let mut out = Vec::new();
        stream.push(&flow(&tcp6()), AT, &mut out);
        stream.push(&flow(&arp()), AT, &mut out);
        let mut record = tcp4();
        record.octets = u64::MAX;
        stream.push(&flow(&record), AT, &mut out);
        stream.flush(AT, &mut out);
        assert_eq!(out, []);
        assert_eq!(stream.not_exportable().flows, 3);
        assert_eq!(stream.not_exportable().octets, u64::MAX);
    }
}
