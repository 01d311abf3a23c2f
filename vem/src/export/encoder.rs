//! Records and time in, datagrams out: the part of an exporter that has no socket and no clock.

use std::time::Duration;

use proto::flow::Version;

use super::clock::Moment;
use super::flow::Flow;
use super::message::{Datagram, Weight};
use super::options::{OptionTimeouts, Tables};
use super::template::Layout;
use super::{fixed, stream};

/// A record waits at most this long for others to share its datagram.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the configuration says of a stream.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Setup {
    /// Payload of a datagram, octets.
    pub payload_max: usize,
    /// Time between templates, after the first minutes.
    pub template_timeout: Duration,
    /// Datagrams with templates come at least this often.
    pub template_datagrams: u32,
    /// Time between options data, by table.
    pub option_timeouts: OptionTimeouts,
    /// What [`Encoder::push`] can write, by index.
    pub layouts: Vec<Layout>,
    /// Options data.
    pub tables: Tables,
}

/// The stream of an exporter: one sequence of datagrams, the same for all its destinations.
#[derive(Debug)]
pub enum Encoder {
    /// Version 1, 5 or 7.
    Fixed(fixed::Streams),
    /// Version 9 or IPFIX.
    Templates(Box<stream::Stream>),
}

impl Encoder {
    /// A stream that begins; `module` is source id and observation domain, and the engine of version 5.
    pub fn new(version: Version, module: u8) -> Self {
        match version {
            Version::V9 | Version::Ipfix => Encoder::Templates(Box::new(stream::Stream::new(version, module))),
            Version::V1 | Version::V5 | Version::V7 => Encoder::Fixed(fixed::Streams::new(version, module)),
        }
    }

    /// Takes another setup. What waits is sent under the old one; templates and options go out at the next [`Self::tick`].
    pub fn configure(&mut self, setup: Setup, at: Moment, out: &mut Vec<Datagram>) {
        match self {
            Encoder::Fixed(stream) => {
                stream.flush(at, out);
                stream.set_payload_max(setup.payload_max);
            }
            Encoder::Templates(stream) => stream.configure(setup, at, out),
        }
    }

    /// Takes a flow in the `layout`-th layout of the setup; a version without templates has but one. Datagrams that are full go to `out`.
    pub fn push(&mut self, flow: &Flow<'_>, layout: usize, at: Moment, out: &mut Vec<Datagram>) {
        match self {
            Encoder::Fixed(stream) => stream.push(flow, at, out),
            Encoder::Templates(stream) => stream.push(flow, layout, at, out),
        }
    }

    /// Sends what is due.
    pub fn tick(&mut self, at: Moment, out: &mut Vec<Datagram>) {
        match self {
            Encoder::Fixed(streams) => streams.tick(PATIENCE, at, out),
            Encoder::Templates(stream) => stream.tick(PATIENCE, at, out),
        }
    }

    /// Sends what waits.
    pub fn flush(&mut self, at: Moment, out: &mut Vec<Datagram>) {
        match self {
            Encoder::Fixed(stream) => stream.flush(at, out),
            Encoder::Templates(stream) => stream.flush(at, out),
        }
    }

    /// A destination may have missed something: the next datagram begins with the templates.
    pub fn resend_templates(&mut self) {
        if let Encoder::Templates(stream) = self {
            stream.resend_templates();
        }
    }

    /// No destination was given the datagram that held this.
    pub fn lose(&mut self, weight: Weight) {
        if let Encoder::Templates(stream) = self {
            stream.lose(weight);
        }
    }

    /// Number that the next datagram has; version 1 has none.
    pub fn sequence(&self) -> Option<u32> {
        match self {
            Encoder::Fixed(stream) => stream.sequence(),
            Encoder::Templates(stream) => Some(stream.sequence()),
        }
    }

    /// Flow records that the format or the monitor's record can't carry.
    pub fn not_exportable(&self) -> u64 {
        match self {
            Encoder::Fixed(stream) => stream.not_exportable().flows,
            Encoder::Templates(stream) => stream.not_exportable().flows,
        }
    }
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;
