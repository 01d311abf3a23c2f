//! Times as a collector computes them, over 200 days of uptime and steps of the clock: wall clock time of the header, minus its
//! uptime, plus the uptime of the flow; or, in IPFIX, what the record says.

use proto::flow::Version;
use vswitch::flow::record::Record;
use vswitch::time::Instant;

use super::clock::Moment;
use super::element::Family;
use super::encoder::{Encoder, Setup};
use super::flow::tests::{flow, tcp4};
use super::message::Datagram;
use super::template::Layout;

const HOUR_MS: u64 = 3_600_000;
/// 2026-01-01.
const BOOT_MS: u64 = 1_767_225_600_000;

fn at(ms: u64, boot_ms: u64) -> Moment {
    Moment { now: Instant::from_ms(ms), boot_ms }
}

fn encoder(version: Version) -> Encoder {
    let mut encoder = Encoder::new(version, 3);
    let layouts = if version.has_templates() { vec![Layout::full(version)] } else { Vec::new() };
    let setup = Setup { payload_max: 1400, template_datagrams: 20, layouts, ..Setup::default() };
    encoder.configure(setup, at(0, BOOT_MS), &mut Vec::new());
    encoder
}

/// A flow that began two hours ago and has just ended.
fn ended(ms: u64) -> Record {
    let first = Instant::from_ms(ms.saturating_sub(2 * HOUR_MS));
    Record { first, last: Instant::from_ms(ms), ..tcp4() }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

/// Where the values of the flow's record are in the datagram: after its addresses or counters, found by the layout.
fn times(version: Version, datagram: &Datagram) -> (u64, u64) {
    let bytes = &datagram.bytes;
    if version == Version::Ipfix || version == Version::V9 {
        return times_by_template(version, bytes);
    }
    let header = if version == Version::V1 { 16 } else { 24 };
    let wall = number(&bytes[8..12]) * 1000 + number(&bytes[12..16]) / 1_000_000;
    let boot = wall - number(&bytes[4..8]);
    (boot + number(&bytes[header + 24..header + 28]), boot + number(&bytes[header + 28..header + 32]))
}

fn times_by_template(version: Version, bytes: &[u8]) -> (u64, u64) {
    let layout = Layout::full(version);
    let template = layout.template(Family::Ipv4).unwrap();
    let mut set = if version == Version::Ipfix { 16 } else { 20 };
    while number(&bytes[set..set + 2]) != u64::from(template.id) {
        set += number(&bytes[set + 2..set + 4]) as usize;
    }
    let value = |ids: [u16; 2]| {
        let mut from = set + 4;
        for element in &template.elements {
            let length = usize::from(element.length);
            if ids.contains(&element.id) {
                return number(&bytes[from..from + length]);
            }
            from += length;
        }
        panic!("no {ids:?}")
    };
    let boot = if version == Version::Ipfix { 0 } else { number(&bytes[8..12]) * 1000 - number(&bytes[4..8]) };
    (boot + value([22, 152]), boot + value([21, 153]))
}

/// The datagram that holds a flow which ended at `ms`, a second later.
fn written(encoder: &mut Encoder, ms: u64, boot_ms: u64) -> Datagram {
    let mut out = Vec::new();
    encoder.push(&flow(&ended(ms)), 0, at(ms, boot_ms), &mut out);
    encoder.tick(at(ms + 1001, boot_ms), &mut out);
    out.into_iter().find(|datagram| datagram.weight.flows == 1).unwrap()
}

#[test]
fn uptime_that_wraps_changes_no_time() {
    for version in Version::ALL {
        let mut encoder = encoder(version);
        // Every 37 minutes, so that every place about the 49.7 days is met.
        for step in 1..7_800 {
            let ms = step * 37 * 60_000 + 123;
            let (first, last) = times(version, &written(&mut encoder, ms, BOOT_MS));
            let began = ms.saturating_sub(2 * HOUR_MS);
            assert_eq!((first, last), (BOOT_MS + began, BOOT_MS + ms), "{version:?} after {} h", ms / HOUR_MS);
        }
    }
}

#[test]
fn a_stepped_clock_is_the_time_of_what_follows_and_sequences_go_on() {
    for version in Version::ALL {
        let mut encoder = encoder(version);
        let mut sequences = Vec::new();
        // An hour forward, a day back, and to the year 2000, as a host without a battery has it.
        let steps = [BOOT_MS, BOOT_MS + HOUR_MS, BOOT_MS - 24 * HOUR_MS, 946_684_800_000, BOOT_MS];
        for (turn, boot_ms) in steps.into_iter().enumerate() {
            let ms = 3 * HOUR_MS + turn as u64 * 60_000;
            let (first, last) = times(version, &written(&mut encoder, ms, boot_ms));
            assert_eq!((first, last), (boot_ms + ms - 2 * HOUR_MS, boot_ms + ms), "{version:?}");
            sequences.push(encoder.sequence());
        }
        let rises = |pair: &[Option<u32>]| pair[0] < pair[1] || version == Version::V1;
        assert!(sequences.windows(2).all(rises), "{version:?}: {sequences:?}");
    }
}
