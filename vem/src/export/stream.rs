//! The datagrams of version 9 and IPFIX for one exporter.
//!
//! Records wait in the set of their template until it fills a datagram or the oldest of any has waited a second; then the
//! sets share datagrams. Templates come first in the first datagram, in the first with flows, after a change of the
//! configuration or an error of a socket, every 30 s in the first five minutes and as configured after that, and at least
//! in every so many datagrams (20, unless configured): a collector that starts late or loses one soon reads on. Each template has a set of its own,
//! because collectors exist that read only the first of a set of options templates.
//!
//! Bounds: what waits is less than a datagram for each template.

use std::collections::VecDeque;
use std::time::Duration;

use proto::flow::Version;
use vswitch::time::Instant;

use super::clock::{Base, Moment};
use super::element::Family;
use super::encoder::Setup;
use super::flow::{Flow, Times};
use super::message::{Datagram, Message, SET_HEADER, Weight};
use super::options::{self, Lost, Table, Totals};
use super::template::Template;
use super::{ipfix, v9};

/// Records of options data that a tick sends at most: a host with many interfaces tells their names over some ticks, a
/// tenth of a second apart, and not in a burst for which collectors have no room.
const OPTIONS_PER_TICK: usize = 100;
/// Templates come this often in the beginning.
const EARLY_INTERVAL: Duration = Duration::from_secs(30);
/// Length of the beginning.
const EARLY: Duration = Duration::from_secs(300);

fn is_due(sent: Option<Instant>, every: Duration, at: Moment) -> bool {
    sent.is_none_or(|sent| at.now.since(sent) >= every)
}

/// Records of one template that wait.
#[derive(Debug)]
struct Waiting {
    template: Template,
    records: Vec<u8>,
    weights: Vec<Weight>,
}

/// The records for one exporter.
#[derive(Debug)]
pub struct Stream {
    version: Version,
    module: u8,
    setup: Setup,
    waiting: Vec<Waiting>,
    since: Option<Instant>,
    base: Base,
    sequence: u32,
    started: Option<Instant>,
    templates_sent: Option<Instant>,
    /// By [`Table::ALL`].
    options_sent: [Option<Instant>; 3],
    /// Records of options data that are due.
    options_due: VecDeque<(u16, Vec<u8>)>,
    /// Datagrams since the last with templates, that one counted.
    datagrams: u32,
    resend: bool,
    flows_sent: bool,
    totals: Totals,
    not_exportable: Lost,
}

impl Stream {
    /// An empty stream of module `module`.
    pub fn new(version: Version, module: u8) -> Self {
        Stream {
            version,
            module,
            setup: Setup::default(),
            waiting: Vec::new(),
            since: None,
            base: Base::default(),
            sequence: 0,
            started: None,
            templates_sent: None,
            options_sent: [None; 3],
            options_due: VecDeque::new(),
            datagrams: 0,
            resend: false,
            flows_sent: false,
            totals: Totals::default(),
            not_exportable: Lost::default(),
        }
    }

    /// Takes another setup. What waits goes out first, as its templates say.
    pub fn configure(&mut self, setup: Setup, at: Moment, out: &mut Vec<Datagram>) {
        self.flush(at, out);
        let templates = setup.layouts.iter().flat_map(|layout| Family::ALL.map(|family| layout.template(family)));
        self.waiting.clear();
        for template in templates.flatten() {
            if !self.waiting.iter().any(|waiting| waiting.template.id == template.id) {
                let template = template.clone();
                self.waiting.push(Waiting { template, records: Vec::new(), weights: Vec::new() });
            }
        }
        self.setup = setup;
        self.templates_sent = None;
        self.options_sent = [None; 3];
        self.options_due.clear();
    }

    /// The next datagram begins with the templates.
    pub fn resend_templates(&mut self) {
        self.resend = true;
    }

    /// No destination was given this.
    pub fn lose(&mut self, weight: Weight) {
        self.totals.lost.add(weight);
    }

    /// Number that the next datagram has.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Flows that the monitor's record has nothing for.
    pub fn not_exportable(&self) -> Lost {
        self.not_exportable
    }

    /// Takes a flow in the `layout`-th layout; datagrams that are full go to `out`.
    pub fn push(&mut self, flow: &Flow<'_>, layout: usize, at: Moment, out: &mut Vec<Datagram>) {
        if self.version == Version::V9 && flow.record.sampling.rate().is_none() {
            return self.push_as_it_is(&flow.scaled().flow(flow), layout, at, out);
        }
        self.push_as_it_is(flow, layout, at, out);
    }

    fn push_as_it_is(&mut self, flow: &Flow<'_>, layout: usize, at: Moment, out: &mut Vec<Datagram>) {
        let weight = Weight::flow(flow.record.packets, flow.record.octets);
        let template = self.setup.layouts.get(layout).and_then(|layout| layout.template(flow.family()));
        let index = template.and_then(|template| self.waiting.iter().position(|w| w.template.id == template.id));
        let Some(index) = index else {
            self.not_exportable.add(weight);
            self.totals.lost.add(weight);
            return;
        };
        let room = self.room();
        let full = |waiting: &Waiting| {
            let length = SET_HEADER + waiting.records.len() + waiting.template.record_length();
            !waiting.records.is_empty() && length.next_multiple_of(4) > room
        };
        if self.waiting.get(index).is_some_and(full) {
            // Who reads the flows is to know how they were sampled.
            if self.options_sent.iter().all(Option::is_none) {
                self.take_due_options(at);
                let options = !self.options_due.is_empty();
                self.emit(None, options, at, out);
            } else {
                self.emit(Some(index), false, at, out);
            }
        }
        if self.since.is_none() {
            self.since = Some(at.now);
            self.base = at.base();
        }
        let times = Times { at, base: self.base };
        if let Some(waiting) = self.waiting.get_mut(index) {
            for element in &waiting.template.elements {
                flow.write(*element, times, &mut waiting.records);
            }
            waiting.weights.push(weight);
        }
    }

    /// Sends what is due: templates, options, records that have waited for `patience`.
    pub fn tick(&mut self, patience: Duration, at: Moment, out: &mut Vec<Datagram>) {
        let waited = self.since.is_some_and(|since| at.now.since(since) >= patience);
        self.take_due_options(at);
        let options = !self.options_due.is_empty();
        let templates = is_due(self.templates_sent, self.template_interval(at.now), at);
        if waited || options || templates {
            self.emit(None, options, at, out);
        }
    }

    fn take_due_options(&mut self, at: Moment) {
        for (table, sent) in Table::ALL.into_iter().zip(&mut self.options_sent) {
            if is_due(*sent, self.setup.option_timeouts.of(table), at) {
                *sent = Some(at.now);
                let records = self.setup.tables.records(table, self.version, self.module, &self.totals);
                self.options_due.extend(records);
            }
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, at: Moment, out: &mut Vec<Datagram>) {
        if self.since.is_some() {
            self.emit(None, false, at, out);
        }
    }

    fn header_length(&self) -> usize {
        if self.version == Version::Ipfix { ipfix::HEADER } else { v9::HEADER }
    }

    fn room(&self) -> usize {
        self.setup.payload_max.saturating_sub(self.header_length())
    }

    fn template_interval(&self, now: Instant) -> Duration {
        let early = self.started.is_none_or(|started| now.since(started) < EARLY);
        if early { self.setup.template_timeout.min(EARLY_INTERVAL) } else { self.setup.template_timeout }
    }

    /// Sends the records of one template, or with `None` of all.
    fn emit(&mut self, only: Option<usize>, options: bool, at: Moment, out: &mut Vec<Datagram>) {
        if self.since.is_some() && !self.flows_sent {
            self.flows_sent = true;
            self.resend = true;
        }
        if self.since.is_none() {
            self.base = at.base();
        }
        let mut message = self.begin(at, out);
        if options {
            let count = self.options_due.len().min(OPTIONS_PER_TICK);
            for (id, record) in self.options_due.drain(..count).collect::<Vec<_>>() {
                self.put(&mut message, id, &record, Weight::OPTIONS, at, out);
                if matches!(id, options::SAMPLERS | options::SAMPLERS_OF_SEVERAL) {
                    message.close_set();
                }
            }
        }
        for index in 0..self.waiting.len() {
            if only.is_some_and(|only| only != index) {
                continue;
            }
            let Some(waiting) = self.waiting.get_mut(index) else { continue };
            let (id, length) = (waiting.template.id, waiting.template.record_length());
            let records = std::mem::take(&mut waiting.records);
            let weights = std::mem::take(&mut waiting.weights);
            for (record, weight) in records.chunks_exact(length).zip(weights) {
                self.put(&mut message, id, record, weight, at, out);
            }
        }
        self.finish(message, at, out);
        if self.waiting.iter().all(|waiting| waiting.records.is_empty()) {
            self.since = None;
        }
    }

    fn begin(&mut self, at: Moment, out: &mut Vec<Datagram>) -> Message {
        let mut message = Message::new(self.room());
        let due = self.templates_sent.is_none_or(|sent| at.now.since(sent) >= self.template_interval(at.now));
        if !due && !self.resend && self.datagrams < self.setup.template_datagrams {
            return message;
        }
        self.started.get_or_insert(at.now);
        self.templates_sent = Some(at.now);
        self.resend = false;
        self.datagrams = 0;
        for (id, template) in self.templates() {
            if !message.fits(id, template.len()) {
                let full = std::mem::replace(&mut message, Message::new(self.room()));
                self.finish(full, at, out);
            }
            message.put(id, &template, Weight::TEMPLATE);
            message.close_set();
        }
        message
    }

    fn templates(&self) -> Vec<(u16, Vec<u8>)> {
        let templates = self.waiting.iter().map(|waiting| &waiting.template);
        let (tables, version) = (&self.setup.tables, self.version);
        let tables = options::templates(version).iter().filter(|table| tables.has(table.id, version));
        if self.version == Version::Ipfix {
            let templates = templates.map(|template| (ipfix::TEMPLATES, ipfix::template(template)));
            let tables = tables.map(|table| (ipfix::OPTIONS_TEMPLATES, ipfix::options_template(table)));
            templates.chain(tables).collect()
        } else {
            let templates = templates.map(|template| (v9::TEMPLATES, v9::template(template)));
            let tables = tables.map(|table| (v9::OPTIONS_TEMPLATES, v9::options_template(table)));
            templates.chain(tables).collect()
        }
    }

    fn put(&mut self, to: &mut Message, id: u16, record: &[u8], weight: Weight, at: Moment, out: &mut Vec<Datagram>) {
        if !to.fits(id, record.len()) {
            let full = std::mem::replace(to, Message::new(self.room()));
            self.finish(full, at, out);
            *to = self.begin(at, out);
            if !to.fits(id, record.len()) {
                let templates = std::mem::replace(to, Message::new(self.room()));
                self.finish(templates, at, out);
            }
        }
        to.put(id, record, weight);
    }

    fn finish(&mut self, message: Message, at: Moment, out: &mut Vec<Datagram>) {
        if message.is_empty() {
            return;
        }
        let (sets, weight) = message.finish();
        let data = weight.options + weight.flows;
        let domain = self.module.into();
        let mut bytes = if self.version == Version::Ipfix {
            let header = ipfix::header(sets.len(), at, self.sequence, domain);
            self.sequence = self.sequence.wrapping_add(data);
            header
        } else {
            let header = v9::header(weight.templates + data, at, self.base, self.sequence, domain);
            self.sequence = self.sequence.wrapping_add(1);
            header
        };
        bytes.extend(sets);
        self.datagrams += 1;
        self.totals.octets += bytes.len() as u64;
        self.totals.datagrams += 1;
        self.totals.flows += u64::from(weight.flows);
        out.push(Datagram { bytes, weight });
    }
}
