//! What joining costs per frame, without the writes that it saves: `cargo bench -p vswitch --bench coalesce`.
//!
//! `off` is the loop over a batch that every tap without joining does, `plan` adds the search for what can be joined, and
//! `frames/write` says how many frames left together. Traffic that can't be joined has 1 there: its `plan` is the price.
//! The best of many runs, nanoseconds per frame.

use std::hint::black_box;
use std::time::Instant;

use vswitch::coalesce::{Mode, Plan};
use vswitch::frame::vnet::{NEEDS_CSUM, VnetHdr};
use vswitch::frame::{BATCH, TxFrame};
use vswitch::offload::{checksum, complete_checksum};
use vswitch::port::Offloads;

const RUNS: usize = 200;
const BATCHES: usize = 100;

#[derive(Clone, Copy)]
enum Sum {
    /// Left to the device.
    Partial,
    Complete,
    None,
}

/// An IPv4 frame of flow `flow`, the `number`th of its flow.
fn frame(protocol: u8, flow: u16, number: u32, payload: usize, sum: Sum) -> (Vec<u8>, VnetHdr) {
    let header: usize = if protocol == 6 { 20 } else { 8 };
    let length = (header + payload) as u16;
    let mut frame = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00\x45\x00".to_vec();
    frame.extend((20 + length).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let value = checksum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&value);
    frame.extend(flow.to_be_bytes());
    frame.extend([0, 9]);
    match protocol {
        6 => {
            frame.extend((1 + number * payload as u32).to_be_bytes());
            frame.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
        }
        _ => {
            frame.extend(length.to_be_bytes());
            frame.extend([0, 0]);
        }
    }
    frame.resize(34 + header + payload, 7);
    let place: u16 = if protocol == 6 { 16 } else { 6 };
    let mut pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, protocol].to_vec();
    pseudo.extend(length.to_be_bytes());
    let vnet = VnetHdr { flags: NEEDS_CSUM, csum_start: 34, csum_offset: place, ..VnetHdr::PLAIN };
    if !matches!(sum, Sum::None) && matches!(protocol, 6 | 17) {
        let at = 34 + usize::from(place);
        frame[at..at + 2].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
    }
    match sum {
        Sum::Partial => (frame, vnet),
        Sum::Complete => {
            complete_checksum(&mut frame, &vnet).expect("a checksum");
            (frame, VnetHdr::PLAIN)
        }
        Sum::None => (frame, VnetHdr::PLAIN),
    }
}

/// Nanoseconds per frame of the best run.
fn best(mut batch: impl FnMut()) -> f64 {
    let run = |batch: &mut dyn FnMut()| {
        let start = Instant::now();
        (0..BATCHES).for_each(|_| batch());
        start.elapsed().as_nanos() as f64 / (BATCHES * BATCH) as f64
    };
    (0..RUNS).map(|_| run(&mut batch)).fold(f64::INFINITY, f64::min)
}

fn main() {
    println!("{:<44} {:>6} {:>6} {:>8} {:>13}", "ns per frame", "off", "plan", "+ join", "frames/write");
    let udp = |flow, number, payload, sum| frame(17, flow, number, payload, sum);
    type Make<'a> = &'a dyn Fn(u32) -> (Vec<u8>, VnetHdr);
    let rows: [(&str, Make<'_>); 12] = [
        ("64 flows, 64 B", &|n| udp(n as u16, 0, 18, Sum::Complete)),
        ("64 flows, 64 B, checksum left open", &|n| udp(n as u16, 0, 18, Sum::Partial)),
        ("1 flow, 64 B, no checksum", &|n| udp(1, n, 18, Sum::None)),
        ("1 flow, sizes that grow", &|n| udp(1, n, 18 + n as usize, Sum::Partial)),
        ("1 flow, TCP acknowledgments", &|_| frame(6, 1, 0, 0, Sum::Complete)),
        ("64 flows, TCP 1460", &|n| frame(6, n as u16, 0, 1460, Sum::Complete)),
        ("ICMP", &|_| frame(1, 1, 0, 18, Sum::None)),
        ("1 flow, 64 B", &|n| udp(1, n, 18, Sum::Complete)),
        ("1 flow, 64 B, checksum left open", &|n| udp(1, n, 18, Sum::Partial)),
        ("16 flows, 64 B, checksum left open", &|n| udp((n % 16) as u16, n / 16, 18, Sum::Partial)),
        ("1 flow, 1500 B", &|n| udp(1, n, 1472, Sum::Complete)),
        ("1 flow, TCP 1460", &|n| frame(6, 1, n, 1460, Sum::Complete)),
    ];
    for (name, make) in rows {
        let owned: Vec<_> = (0..BATCH as u32).map(make).collect();
        let parts = owned.iter().map(|(frame, vnet)| (frame.split_at(12), *vnet));
        let frames: Vec<TxFrame<'_>> =
            parts.map(|((head, rest), vnet)| TxFrame { head, rest, vnet, copy: false }).collect();
        let off = best(|| {
            for frame in black_box(&frames) {
                black_box(Offloads::ALL.cover(&frame.vnet));
            }
        });
        let plan = best(|| {
            black_box(Plan::make(Mode::Exact, &Offloads::ALL, black_box(&frames)).joins());
        });
        let join = best(|| {
            let plan = Plan::make(Mode::Exact, &Offloads::ALL, black_box(&frames));
            for group in plan.groups().iter().filter(|group| group.only().is_none()) {
                black_box(plan.join(group, &frames).map(|joined| joined.vnet));
                plan.payloads(group, &frames).for_each(|payload| {
                    black_box(payload);
                });
            }
        });
        let found = Plan::make(Mode::Exact, &Offloads::ALL, &frames);
        let writes = if found.joins() { found.groups().len() } else { BATCH };
        println!("{name:<44} {off:>6.1} {plan:>6.1} {join:>8.1} {:>13.1}", BATCH as f64 / writes as f64);
    }
}
