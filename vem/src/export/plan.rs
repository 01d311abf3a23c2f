//! Which exporters a record goes to, and in which layout: the configuration, made ready for records.
//!
//! A record goes once to each exporter of each monitor that saw it. Exporters are known by their names: one that stays keeps
//! its sequence, its sockets and its counters; another version or module begins a new sequence. One that goes, because no
//! port's monitor uses it any more, rests: when it comes back its sequence goes on, so that no collector misses anything.
//!
//! An exporter whose collectors share the flows is as many streams, each with its own templates and sequence: a collector sees all of
//! a conversation, and nothing missing.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use proto::flow::{Destination, Exporter, Monitor, Sampling, Version};
use proto::report::ExporterRow;
use vswitch::flow::key::{FlowKey, shape};
use vswitch::flow::record::{MONITORS_MAX, MonitorSet, Outcome, Record};

use super::aggregate::view::reversed;
use super::aggregate::{Aggregator, Emitted, ROOM, Spec};
use super::clock::Moment;
use super::encoder::{Encoder, Setup};
use super::flow::Flow;
use super::message::{Datagram, Weight};
use super::options::{InterfaceRow, OptionTimeouts, SamplerRow, Tables, TimeoutRow};
use super::pace::Pace;
use super::sender::{Delivery, Sender};
use super::template::{Form, Layout};
use super::transport::Credentials;
use super::{Config, Error};

/// Payload bounds: what every path carries (RFC 7011 section 10.3.3), and what UDP carries.
const PAYLOAD_MIN: u16 = 512;
const PAYLOAD_MAX: u16 = 65_507;
/// A datagram with templates comes at least this often, unless configured.
const TEMPLATE_DATAGRAMS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// Most exporters that rest; the one that rests longest is forgotten.
const RESTING_MAX: usize = 32;

/// Checks that the configuration says one thing only and nothing that is missing.
pub fn check(config: &Config) -> Result<(), Error> {
    if config.monitors.len() > MONITORS_MAX {
        return Err(Error::MonitorsMax);
    }
    for monitor in &config.monitors {
        if let Some(record) = &monitor.record
            && !config.records.iter().any(|known| known.name == *record)
        {
            return Err(Error::NoRecord { monitor: monitor.name.clone(), record: record.clone() });
        }
        for exporter in &monitor.exporters {
            if !config.exporters.iter().any(|known| known.name == *exporter) {
                return Err(Error::NoExporter { monitor: monitor.name.clone(), exporter: exporter.clone() });
            }
        }
    }
    Ok(())
}

/// Exporters at work.
#[derive(Debug, Default)]
pub struct Plan {
    module: u8,
    streams: Vec<Stream>,
    /// Of exporters that are not configured any more.
    resting: Vec<Stream>,
    /// By monitor.
    monitors: Vec<Watch>,
    /// The monitors that there are.
    known: MonitorSet,
    /// Interface indexes by port.
    interfaces: HashMap<u16, u16>,
    credentials: Arc<Credentials>,
}

#[derive(Debug)]
struct Stream {
    name: String,
    version: Version,
    /// The collector, of an exporter whose collectors share the flows.
    share: Option<Destination>,
    encoder: Encoder,
    sender: Sender,
    pace: Pace,
    debug: u8,
}

/// What becomes of the flows of a monitor.
#[derive(Debug, Default)]
struct Watch {
    name: String,
    exporters: Vec<String>,
    routes: Vec<Route>,
    /// Its records have a field for the sampler.
    sampled: bool,
    /// Flows share records.
    aggregator: Option<Aggregator>,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    /// The first of the exporter's streams.
    stream: usize,
    /// How many they are: each conversation goes to one.
    shares: usize,
    layout: usize,
    /// For records that hold both directions; `None` when the format has no such.
    biflow: Option<usize>,
}

impl Plan {
    /// Nothing yet, with the keys and certificates of the host.
    pub fn with_credentials(credentials: Arc<Credentials>) -> Self {
        Plan { credentials, ..Plan::default() }
    }

    /// Takes another configuration, which was checked. What waits is sent as the old one says.
    pub fn configure(&mut self, config: Config, at: Moment) {
        let mut watches = watches(&config);
        self.hand_over(&mut watches, at);
        let mut out = Vec::new();
        let mut old = std::mem::take(&mut self.streams);
        let mut resting = std::mem::take(&mut self.resting);
        if self.module != config.module {
            resting.clear();
        }
        for (exporter, share) in config.exporters.iter().flat_map(shares) {
            let exporter = &exporter;
            let same = |stream: &Stream| {
                (&stream.name, stream.version, stream.share) == (&exporter.name, exporter.version, share)
            };
            let kept = old.iter().position(|stream| same(stream) && self.module == config.module);
            let kept = kept.map(|index| old.swap_remove(index));
            let rested = || resting.iter().position(same).map(|index| resting.remove(index));
            let mut stream =
                kept.or_else(rested).unwrap_or_else(|| Stream::new(exporter, share, config.module, &self.credentials));
            stream.encoder.configure(setup(exporter, &config), at, &mut out);
            stream.send(&mut out, at);
            stream.sender.configure(exporter);
            stream.pace.set(exporter.rate_limit);
            self.streams.push(stream);
        }
        for mut stream in old {
            stream.encoder.flush(at, &mut out);
            stream.send_all(&mut out, at);
            stream.part();
            if self.module == config.module {
                resting.push(stream);
            }
        }
        resting.drain(..resting.len().saturating_sub(RESTING_MAX));
        self.resting = resting;
        self.monitors = watches;
        let bits = (0..MONITORS_MAX).zip(&config.monitors).filter(|(_, monitor)| !monitor.name.is_empty());
        self.known = bits.fold(0, |set, (index, _)| set | 1 << index);
        self.interfaces = config.interfaces.iter().map(|interface| (interface.port.0, interface.if_index)).collect();
        self.module = config.module;
    }

    /// What monitors that stay as they are have summed up goes on with them; all else is sent.
    fn hand_over(&mut self, new: &mut [Watch], at: Moment) {
        for (index, watch) in new.iter_mut().enumerate() {
            let Some(aggregator) = &mut watch.aggregator else { continue };
            let Some(old) = self.monitors.get_mut(index) else { continue };
            let stays = (&old.name, &old.exporters, old.sampled) == (&watch.name, &watch.exporters, watch.sampled);
            let same = |old: &mut Aggregator| stays && old.spec() == aggregator.spec();
            if let Some(mut kept) = old.aggregator.take_if(same) {
                kept.set_room(aggregator.room());
                *aggregator = kept;
            }
        }
        self.collect(at, |aggregator, out| aggregator.flush(out));
    }

    /// A record with the indexes of its interfaces.
    pub fn flow<'a>(&self, record: &'a Record) -> Flow<'a> {
        let interface = |port: u16| self.interfaces.get(&port).copied().unwrap_or_default();
        let input = interface(record.key.in_port);
        let output = if let Outcome::Forwarded(port) = record.outcome { interface(port.0) } else { 0 };
        Flow { record, input, output, egress: record.monitors_in == 0, sum: None, reverse: None }
    }

    /// Takes a record, for the monitors that there are; returns those that it names and that are not.
    pub fn push(&mut self, record: &Record, at: Moment) -> MonitorSet {
        let Flow { input, output, .. } = self.flow(record);
        let mut early = Vec::new();
        for (index, watch) in self.monitors.iter_mut().enumerate() {
            let bit: MonitorSet = 1 << index;
            let entered = record.monitors_in & bit != 0;
            if !entered && record.monitors_out & bit == 0 {
                continue;
            }
            // Counted at a rate of a configuration that is gone, which nothing here can name.
            let scaled;
            let record = if record.sampling.is_some() && !watch.sampled {
                scaled = record.scaled();
                &scaled
            } else {
                record
            };
            let flow = Flow { record, input, output, egress: !entered, sum: None, reverse: None };
            match &mut watch.aggregator {
                // An overflow is a sum already, of flows that nothing else is known of.
                Some(aggregator) if !record.key.is(shape::OVERFLOW) => {
                    aggregator.add(&flow, at, &mut early);
                    early.drain(..).for_each(|record| send_sum(&mut self.streams, &watch.routes, &record, at));
                }
                _ => send(&mut self.streams, &watch.routes, &flow, at),
            }
        }
        (record.monitors_in | record.monitors_out) & !self.known
    }

    /// Sends what is due.
    pub fn tick(&mut self, at: Moment) {
        self.collect(at, |aggregator, out| aggregator.tick(at, out));
        let mut out = Vec::new();
        for stream in &mut self.streams {
            stream.encoder.tick(at, &mut out);
            stream.send(&mut out, at);
            stream.sender.tick(at.now);
        }
    }

    /// An exporter has so much waiting, because of its rate, that no more is to be made yet.
    pub fn is_behind(&self) -> bool {
        self.streams.iter().any(|stream| stream.pace.is_behind())
    }

    /// The end is near: what waits for its time goes now, and nothing waits any more.
    pub fn hurry(&mut self, at: Moment) {
        for stream in &mut self.streams {
            stream.pace.set(None);
            stream.send(&mut Vec::new(), at);
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, at: Moment) {
        self.collect(at, |aggregator, out| aggregator.flush(out));
        let mut out = Vec::new();
        for stream in &mut self.streams {
            stream.encoder.flush(at, &mut out);
            stream.send_all(&mut out, at);
            stream.sender.tick(at.now);
        }
    }

    /// Hands the streams what `take` gets from the aggregators.
    fn collect(&mut self, at: Moment, take: impl Fn(&mut Aggregator, &mut Vec<Emitted>)) {
        let mut out = Vec::new();
        for watch in &mut self.monitors {
            let Some(aggregator) = &mut watch.aggregator else { continue };
            take(aggregator, &mut out);
            out.drain(..).for_each(|record| send_sum(&mut self.streams, &watch.routes, &record, at));
        }
    }

    /// How much is said of what is sent: 1 all but flows, 2 every datagram.
    pub fn debug(&mut self, level: u8) {
        self.streams.iter_mut().for_each(|stream| stream.debug = level);
    }

    /// A row for each destination.
    pub fn rows(&self) -> Vec<ExporterRow> {
        self.streams.iter().flat_map(Stream::rows).collect()
    }
}

/// Writes a flow to the streams that `routes` name.
fn send(streams: &mut [Stream], routes: &[Route], flow: &Flow<'_>, at: Moment) {
    for route in routes {
        if let Some(stream) = streams.get_mut(route.stream_of(flow)) {
            stream.push(flow, route.layout, at);
        }
    }
}

/// Writes a record of several flows: both directions of a conversation together where the format can.
fn send_sum(streams: &mut [Stream], routes: &[Route], record: &Emitted, at: Moment) {
    let halves = record.halves();
    for route in routes {
        let Some(stream) = streams.get_mut(route.stream_of(&record.flow())) else { continue };
        match route.biflow {
            Some(layout) if record.flow().reverse.is_some() => stream.push(&record.flow(), layout, at),
            _ => halves.iter().flatten().for_each(|half| stream.push(&half.flow(), route.layout, at)),
        }
    }
}

/// The streams of an exporter: one, or one of each collector.
fn shares(exporter: &Exporter) -> Vec<(Exporter, Option<Destination>)> {
    if exporter.load_balance != Some(true) {
        return vec![(exporter.clone(), None)];
    }
    let of = |to: &Destination| (Exporter { destinations: vec![*to], ..exporter.clone() }, Some(*to));
    exporter.destinations.iter().map(of).collect()
}

impl Route {
    /// The same for both directions of a conversation.
    fn stream_of(&self, flow: &Flow<'_>) -> usize {
        if self.shares < 2 { self.stream } else { self.stream + conversation(&flow.record.key) as usize % self.shares }
    }
}

/// A number that both directions of a conversation have.
fn conversation(key: &FlowKey) -> u64 {
    let ends = |key: &FlowKey| {
        // Where there are addresses, those of the link are the routers'.
        let is_link = (key.src, key.dst) == ([0; 16], [0; 16]);
        let macs = if is_link { (key.src_mac, key.dst_mac) } else { Default::default() };
        (key.src, key.dst, key.src_port, key.dst_port, macs)
    };
    let mut hasher = DefaultHasher::new();
    (ends(key).min(ends(&reversed(key))), key.protocol).hash(&mut hasher);
    hasher.finish()
}

impl Stream {
    fn push(&mut self, flow: &Flow<'_>, layout: usize, at: Moment) {
        let mut out = Vec::new();
        self.encoder.push(flow, layout, at, &mut out);
        self.send(&mut out, at);
    }

    fn new(exporter: &Exporter, share: Option<Destination>, module: u8, credentials: &Arc<Credentials>) -> Self {
        let mut sender = Sender::with_credentials(Arc::clone(credentials));
        sender.configure(exporter);
        let encoder = Encoder::new(exporter.version, module);
        let (name, version, pace) = (exporter.name.clone(), exporter.version, Pace::default());
        Stream { name, version, share, encoder, sender, pace, debug: 0 }
    }

    fn rows(&self) -> Vec<ExporterRow> {
        self.sender.rows(&self.name, self.encoder.not_exportable(), self.encoder.sequence())
    }

    /// It is to rest, and its counters are shown no more.
    fn part(&mut self) {
        self.sender.close();
        for row in self.rows() {
            if row.failed_records > 0 || row.not_exportable > 0 {
                let (failed, not_exportable) = (row.failed_records, row.not_exportable);
                let ExporterRow { name, destination, .. } = row;
                tracing::warn!(name, destination, failed, not_exportable, "flow exporter gone, records were not sent");
            }
        }
    }

    /// For `debug flow exporter`.
    fn say(&self, datagram: &Datagram, delivery: Delivery) {
        let Weight { templates, options, flows, .. } = datagram.weight;
        let wanted = match self.debug {
            0 => false,
            1 => templates + options > 0 || delivery.disturbed || delivery.accepted == 0,
            _ => true,
        };
        if wanted {
            let (exporter, octets, taken) = (&self.name, datagram.bytes.len(), delivery.accepted);
            let (next, disturbed) = (self.encoder.sequence(), delivery.disturbed);
            tracing::info!(
                exporter,
                octets,
                templates,
                options,
                flows,
                ?next,
                taken,
                disturbed,
                "flow export datagram"
            );
        }
    }

    /// Sends datagrams, as far as the rate allows.
    fn send(&mut self, out: &mut Vec<Datagram>, at: Moment) {
        for datagram in out.drain(..) {
            if let Some(lost) = self.pace.put(datagram) {
                self.sender.give_up(&lost);
                self.encoder.lose(lost.weight);
            }
        }
        while let Some(datagram) = self.pace.next(at.now) {
            self.give(&datagram, at);
        }
    }

    /// The same, however much waits.
    fn send_all(&mut self, out: &mut Vec<Datagram>, at: Moment) {
        let mut all = self.pace.take();
        all.append(out);
        all.iter().for_each(|datagram| self.give(datagram, at));
    }

    fn give(&mut self, datagram: &Datagram, at: Moment) {
        let delivery = self.sender.send(datagram, at.now);
        self.say(datagram, delivery);
        if delivery.accepted == 0 {
            self.encoder.lose(datagram.weight);
        }
        if delivery.disturbed {
            self.encoder.resend_templates();
        }
    }
}

/// Layout 0 is the built-in record, the others are the user's records that monitors of the exporter use.
fn setup(exporter: &Exporter, config: &Config) -> Setup {
    let used = |monitor: &&Monitor| monitor.exporters.contains(&exporter.name);
    let layouts = if exporter.version.has_templates() { layouts(exporter, config) } else { Vec::new() };
    let interfaces = config.interfaces.iter().map(|interface| InterfaceRow {
        if_index: interface.if_index,
        name: interface.name.clone(),
        description: match interface.description.as_str() {
            "" if interface.uplink => "uplink".to_owned(),
            description => description.to_owned(),
        },
    });
    let timeouts = (1..).zip(&config.monitors).filter(|(_, monitor)| used(monitor));
    let timeouts = timeouts.map(|(number, monitor)| TimeoutRow {
        monitor: number,
        active_s: monitor.active_s,
        inactive_s: monitor.inactive_s,
    });
    let seconds = |own: Option<u32>| Duration::from_secs(own.unwrap_or(exporter.option_timeout_s).into()).max(SECOND);
    Setup {
        payload_max: exporter.payload_max.clamp(PAYLOAD_MIN, PAYLOAD_MAX).into(),
        template_timeout: Duration::from_secs(exporter.template_timeout_s.into()).max(SECOND),
        template_datagrams: exporter.template_packets.unwrap_or(TEMPLATE_DATAGRAMS).max(1),
        option_timeouts: OptionTimeouts {
            interfaces: seconds(Some(exporter.option_timeout_s)),
            sampling: seconds(exporter.sampler_timeout_s),
            statistics: seconds(exporter.statistics_timeout_s),
        },
        layouts,
        tables: tables(exporter, config, interfaces.collect(), timeouts.collect()),
    }
}

fn tables(exporter: &Exporter, config: &Config, interfaces: Vec<InterfaceRow>, timeouts: Vec<TimeoutRow>) -> Tables {
    let used = config.monitors.iter().zip(&config.samplings).filter(|(m, _)| m.exporters.contains(&exporter.name));
    let samplings: BTreeSet<Sampling> = used.flat_map(|(_, samplings)| samplings).copied().collect();
    let only = samplings.first().copied().filter(|_| samplings.len() == 1);
    let name = |sampling: Sampling| {
        let found = config.samplers.iter().find(|sampler| sampler.sampling() == sampling);
        SamplerRow { sampling, name: found.map(|sampler| sampler.name.clone()).unwrap_or_default() }
    };
    let samplers = samplings.into_iter().filter(|sampling| sampling.is_some()).map(name).collect();
    Tables { interfaces, timeouts, sampling: only.unwrap_or_default(), samplers }
}

/// Of the `index`-th monitor some packets are left out at some port.
fn is_sampled(config: &Config, index: usize) -> bool {
    config.samplings.get(index).is_some_and(|samplings| samplings.iter().any(|sampling| sampling.is_some()))
}

/// The monitors, with what they do to flows.
fn watches(config: &Config) -> Vec<Watch> {
    let record = |monitor: &Monitor| {
        let name = monitor.record.as_ref()?;
        config.records.iter().find(|record| record.name == *name)
    };
    let watch = |(number, monitor): (usize, &Monitor)| {
        let exporter = |name: &String| config.exporters.iter().position(|exporter| exporter.name == *name);
        let exporters: Vec<usize> = monitor.exporters.iter().filter_map(exporter).collect();
        let version = |exporter: &usize| config.exporters.get(*exporter).map(|exporter| exporter.version);
        let by_family = |version: Version| !version.has_templates() || apart(version, record(monitor));
        let by_family = exporters.iter().filter_map(version).any(by_family);
        let streams = |exporter: &Exporter| shares(exporter).len();
        let sampled = is_sampled(config, number);
        let layout = |biflow| layout_index(monitor, Form { biflow, sampled }, config);
        let route = |exporter: &usize| Route {
            stream: config.exporters.iter().take(*exporter).map(streams).sum(),
            shares: config.exporters.get(*exporter).map_or(0, streams),
            layout: layout(false),
            biflow: (version(exporter) == Some(Version::Ipfix)).then(|| layout(true)),
        };
        Watch {
            name: monitor.name.clone(),
            exporters: monitor.exporters.clone(),
            routes: exporters.iter().map(route).filter(|route| route.shares > 0).collect(),
            sampled,
            aggregator: Spec::of(monitor, record(monitor), by_family).map(|spec| Aggregator::new(spec, 0)),
        }
    };
    let mut watches: Vec<Watch> = config.monitors.iter().enumerate().map(watch).collect();
    let count = watches.iter().filter(|watch| watch.aggregator.is_some()).count().max(1);
    watches.iter_mut().filter_map(|watch| watch.aggregator.as_mut()).for_each(|own| own.set_room(ROOM / count));
    watches
}

/// Records of different families are written differently.
fn apart(version: Version, record: Option<&proto::flow::Record>) -> bool {
    let layouts = record.map(|record| Layout::custom(version, std::slice::from_ref(record)));
    layouts.is_none_or(|layouts| layouts.iter().any(Layout::tells_families_apart))
}

/// By [`layout_index`]; empty where no monitor of the exporter uses it.
fn layouts(exporter: &Exporter, config: &Config) -> Vec<Layout> {
    let version = exporter.version;
    let in_form = |form: Form| {
        let monitors = config.monitors.iter().enumerate().filter(|(_, m)| m.exporters.contains(&exporter.name));
        let of_form = monitors.filter(|(index, monitor)| {
            let directions = !form.biflow || version == Version::Ipfix && monitor.biflow == Some(true);
            directions && is_sampled(config, *index) == form.sampled
        });
        let used: BTreeSet<usize> = of_form.map(|(_, monitor)| layout_index(monitor, form, config)).collect();
        let first = first_layout(form, config);
        let all =
            std::iter::once(Layout::full_in(form, version)).chain(Layout::custom_in(form, version, &config.records));
        let known = (first..).zip(all).map(move |(index, layout)| match used.contains(&index) {
            true => layout,
            false => Layout::default(),
        });
        known.collect::<Vec<_>>()
    };
    Form::ALL.into_iter().flat_map(in_form).collect()
}

/// Of each form there is one of the built-in record, and one of each user's record.
fn first_layout(form: Form, config: &Config) -> usize {
    (usize::from(form.biflow) + 2 * usize::from(form.sampled)) * (config.records.len() + 1)
}

fn layout_index(monitor: &Monitor, form: Form, config: &Config) -> usize {
    let position = |name: &String| config.records.iter().position(|record| record.name == *name);
    first_layout(form, config) + monitor.record.as_ref().and_then(position).map_or(0, |index| index + 1)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
