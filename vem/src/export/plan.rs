//! Which exporters a record goes to, and in which layout: the configuration, made ready for records.
//!
//! A record goes once to each exporter of each monitor that saw it. Exporters are known by their names: one that stays keeps
//! its sequence, its sockets and its counters; another version or module begins a new sequence. One that goes, because no
//! port's monitor uses it any more, rests: when it comes back its sequence goes on, so that no collector misses anything.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use proto::flow::{Exporter, Monitor, Version};
use proto::report::ExporterRow;
use vswitch::flow::record::{MONITORS_MAX, MonitorSet, Outcome, Record};

use super::clock::Moment;
use super::encoder::{Encoder, Setup};
use super::flow::Flow;
use super::message::Datagram;
use super::options::{InterfaceRow, Tables, TimeoutRow};
use super::sender::Sender;
use super::template::Layout;
use super::transport::Credentials;
use super::{Config, Error};

/// Payload bounds: what every path carries (RFC 7011 section 10.3.3), and what UDP carries.
const PAYLOAD_MIN: u16 = 512;
const PAYLOAD_MAX: u16 = 65_507;
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
    routes: Vec<Vec<Route>>,
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
    encoder: Encoder,
    sender: Sender,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    stream: usize,
    layout: usize,
}

impl Plan {
    /// Nothing yet, with the keys and certificates of the host.
    pub fn with_credentials(credentials: Arc<Credentials>) -> Self {
        Plan { credentials, ..Plan::default() }
    }

    /// Takes another configuration, which was checked. What waits is sent as the old one says.
    pub fn configure(&mut self, config: Config, at: Moment) {
        let mut out = Vec::new();
        let mut old = std::mem::take(&mut self.streams);
        let mut resting = std::mem::take(&mut self.resting);
        if self.module != config.module {
            resting.clear();
        }
        for exporter in &config.exporters {
            let same = |stream: &Stream| stream.name == exporter.name && stream.version == exporter.version;
            let kept = old.iter().position(|stream| same(stream) && self.module == config.module);
            let kept = kept.map(|index| old.swap_remove(index));
            let rested = || resting.iter().position(same).map(|index| resting.remove(index));
            let mut stream =
                kept.or_else(rested).unwrap_or_else(|| Stream::new(exporter, config.module, &self.credentials));
            stream.encoder.configure(setup(exporter, &config), at, &mut out);
            stream.send(&mut out, at);
            stream.sender.configure(exporter);
            self.streams.push(stream);
        }
        for mut stream in old {
            stream.encoder.flush(at, &mut out);
            stream.send(&mut out, at);
            stream.part();
            if self.module == config.module {
                resting.push(stream);
            }
        }
        resting.drain(..resting.len().saturating_sub(RESTING_MAX));
        self.resting = resting;
        let route = |monitor: &Monitor, name: &String| {
            let stream = config.exporters.iter().position(|exporter| exporter.name == *name)?;
            Some(Route { stream, layout: layout_index(monitor, &config) })
        };
        let routes = |monitor: &Monitor| monitor.exporters.iter().filter_map(|name| route(monitor, name)).collect();
        self.routes = config.monitors.iter().map(routes).collect();
        let bits = (0..MONITORS_MAX).zip(&config.monitors).filter(|(_, monitor)| !monitor.name.is_empty());
        self.known = bits.fold(0, |set, (index, _)| set | 1 << index);
        self.interfaces = config.interfaces.iter().map(|interface| (interface.port.0, interface.if_index)).collect();
        self.module = config.module;
    }

    /// A record with the indexes of its interfaces.
    pub fn flow<'a>(&self, record: &'a Record) -> Flow<'a> {
        let interface = |port: u16| self.interfaces.get(&port).copied().unwrap_or_default();
        let input = interface(record.key.in_port);
        let output = if let Outcome::Forwarded(port) = record.outcome { interface(port.0) } else { 0 };
        Flow { record, input, output, egress: record.monitors_in == 0 }
    }

    /// Takes a record, for the monitors that there are; returns those that it names and that are not.
    pub fn push(&mut self, record: &Record, at: Moment) -> MonitorSet {
        let Flow { input, output, .. } = self.flow(record);
        let mut out = Vec::new();
        for (index, routes) in self.routes.iter().enumerate() {
            let bit: MonitorSet = 1 << index;
            let entered = record.monitors_in & bit != 0;
            if !entered && record.monitors_out & bit == 0 {
                continue;
            }
            let flow = Flow { record, input, output, egress: !entered };
            for route in routes {
                let Some(stream) = self.streams.get_mut(route.stream) else { continue };
                stream.encoder.push(&flow, route.layout, at, &mut out);
                stream.send(&mut out, at);
            }
        }
        (record.monitors_in | record.monitors_out) & !self.known
    }

    /// Sends what is due.
    pub fn tick(&mut self, at: Moment) {
        let mut out = Vec::new();
        for stream in &mut self.streams {
            stream.encoder.tick(at, &mut out);
            stream.send(&mut out, at);
            stream.sender.tick(at.now);
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, at: Moment) {
        let mut out = Vec::new();
        for stream in &mut self.streams {
            stream.encoder.flush(at, &mut out);
            stream.send(&mut out, at);
            stream.sender.tick(at.now);
        }
    }

    /// A row for each destination.
    pub fn rows(&self) -> Vec<ExporterRow> {
        let rows = |stream: &Stream| stream.sender.rows(&stream.name, stream.encoder.not_exportable());
        self.streams.iter().flat_map(rows).collect()
    }
}

impl Stream {
    fn new(exporter: &Exporter, module: u8, credentials: &Arc<Credentials>) -> Self {
        let mut sender = Sender::with_credentials(Arc::clone(credentials));
        sender.configure(exporter);
        let encoder = Encoder::new(exporter.version, module);
        Stream { name: exporter.name.clone(), version: exporter.version, encoder, sender }
    }

    /// It is to rest, and its counters are shown no more.
    fn part(&mut self) {
        self.sender.close();
        for row in self.sender.rows(&self.name, self.encoder.not_exportable()) {
            if row.failed_records > 0 || row.not_exportable > 0 {
                let (failed, not_exportable) = (row.failed_records, row.not_exportable);
                let ExporterRow { name, destination, .. } = row;
                tracing::warn!(name, destination, failed, not_exportable, "flow exporter gone, records were not sent");
            }
        }
    }

    fn send(&mut self, out: &mut Vec<Datagram>, at: Moment) {
        for datagram in out.drain(..) {
            let delivery = self.sender.send(&datagram, at.now);
            if delivery.accepted == 0 {
                self.encoder.lose(datagram.weight);
            }
            if delivery.disturbed {
                self.encoder.resend_templates();
            }
        }
    }
}

/// Layout 0 is the built-in record, the others are the user's records that monitors of the exporter use.
fn setup(exporter: &Exporter, config: &Config) -> Setup {
    let used = |monitor: &&Monitor| monitor.exporters.contains(&exporter.name);
    let layouts = if exporter.version == Version::V5 { Vec::new() } else { layouts(exporter, config) };
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
    Setup {
        payload_max: exporter.payload_max.clamp(PAYLOAD_MIN, PAYLOAD_MAX).into(),
        template_timeout: Duration::from_secs(exporter.template_timeout_s.into()).max(SECOND),
        option_timeout: Duration::from_secs(exporter.option_timeout_s.into()).max(SECOND),
        layouts,
        tables: Tables { interfaces: interfaces.collect(), timeouts: timeouts.collect() },
    }
}

/// By [`layout_index`]; empty where no monitor of the exporter uses it.
fn layouts(exporter: &Exporter, config: &Config) -> Vec<Layout> {
    let used = |index: usize| {
        let of = |monitor: &Monitor| monitor.exporters.contains(&exporter.name);
        config.monitors.iter().any(|monitor| of(monitor) && layout_index(monitor, config) == index)
    };
    let custom = Layout::custom(exporter.version, &config.records);
    let all = std::iter::once(Layout::full(exporter.version)).chain(custom).enumerate();
    all.map(|(index, layout)| if used(index) { layout } else { Layout::default() }).collect()
}

fn layout_index(monitor: &Monitor, config: &Config) -> usize {
    let position = |name: &String| config.records.iter().position(|record| record.name == *name);
    monitor.record.as_ref().and_then(position).map_or(0, |index| index + 1)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
