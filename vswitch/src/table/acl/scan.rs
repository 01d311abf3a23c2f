//! A short list: every term is looked at, sixteen at a time, field by field.
//!
//! Every condition is the same arithmetic - `(value ^ want) & care == 0`, `port - first <= more` - so the compiler makes
//! vector code of it for any processor that we run on (SSE2 has all that it needs).

use super::Found;
use super::term::{IP_OCTETS, MAC_OCTETS, Packet, Span, Term};

const LANES: usize = 16;

/// Sixteen terms, field by field.
#[derive(Clone, Debug)]
struct Lanes {
    src: [u32; LANES],
    src_care: [u32; LANES],
    dst: [u32; LANES],
    dst_care: [u32; LANES],
    /// Protocol and DSCP, one octet each.
    meta: [u16; LANES],
    meta_care: [u16; LANES],
    src_first: [u16; LANES],
    src_more: [u16; LANES],
    dst_first: [u16; LANES],
    dst_more: [u16; LANES],
    /// Not zero where a later fragment never matches.
    whole_only: [u16; LANES],
}

/// What is compared of an IP packet.
struct Fields {
    src: u32,
    dst: u32,
    meta: u16,
    ports: Option<(u16, u16)>,
}

impl Fields {
    #[inline]
    fn of(packet: &Packet<IP_OCTETS>) -> Self {
        let ([src, dst], meta) = words(packet.octets);
        Fields { src, dst, meta, ports: packet.ports }
    }
}

/// Source and destination, and protocol with DSCP.
#[inline]
fn words(octets: [u8; IP_OCTETS]) -> ([u32; 2], u16) {
    let [a, b, c, d, e, f, g, h, protocol, dscp] = octets;
    ([u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])], u16::from_be_bytes([protocol, dscp]))
}

fn set<T>(slot: usize, field: &mut [T; LANES], value: T) {
    if let Some(lane) = field.get_mut(slot) {
        *lane = value;
    }
}

impl Lanes {
    /// Match nothing: the DSCP would have to be 255, and it has six bits.
    const NEVER: Lanes = Lanes {
        src: [0; LANES],
        src_care: [0; LANES],
        dst: [0; LANES],
        dst_care: [0; LANES],
        meta: [u16::MAX; LANES],
        meta_care: [u16::MAX; LANES],
        src_first: [0; LANES],
        src_more: [u16::MAX; LANES],
        dst_first: [0; LANES],
        dst_more: [u16::MAX; LANES],
        whole_only: [0; LANES],
    };

    fn set(&mut self, slot: usize, term: &Term<IP_OCTETS>) {
        let (([src, dst], meta), ([src_care, dst_care], meta_care)) = (words(term.want), words(term.care));
        set(slot, &mut self.src, src);
        set(slot, &mut self.src_care, src_care);
        set(slot, &mut self.dst, dst);
        set(slot, &mut self.dst_care, dst_care);
        set(slot, &mut self.meta, meta);
        set(slot, &mut self.meta_care, meta_care);
        let (Span { first: src, more: src_more }, Span { first: dst, more: dst_more }) =
            (term.src_ports, term.dst_ports);
        set(slot, &mut self.src_first, src);
        set(slot, &mut self.src_more, src_more);
        set(slot, &mut self.dst_first, dst);
        set(slot, &mut self.dst_more, dst_more);
        set(slot, &mut self.whole_only, if term.fragments { 0 } else { u16::MAX });
    }

    /// Not zero where a term does not match.
    #[inline]
    fn misses(&self, packet: &Fields) -> [u32; LANES] {
        let mut narrow = [0u16; LANES];
        for (miss, (meta, care)) in narrow.iter_mut().zip(self.meta.iter().zip(&self.meta_care)) {
            *miss = (packet.meta ^ meta) & care;
        }
        match packet.ports {
            Some((src_port, dst_port)) => {
                let src = self.src_first.iter().zip(&self.src_more);
                let dst = self.dst_first.iter().zip(&self.dst_more);
                for (miss, ((src, src_more), (dst, dst_more))) in narrow.iter_mut().zip(src.zip(dst)) {
                    // How far beyond: the difference at zero is one instruction for eight ports, a comparison is not.
                    *miss |= src_port.wrapping_sub(*src).saturating_sub(*src_more);
                    *miss |= dst_port.wrapping_sub(*dst).saturating_sub(*dst_more);
                }
            }
            None => narrow.iter_mut().zip(&self.whole_only).for_each(|(miss, never)| *miss |= never),
        }
        let mut misses = [0u32; LANES];
        let src = self.src.iter().zip(&self.src_care);
        let dst = self.dst.iter().zip(&self.dst_care);
        for ((miss, narrow), ((src, src_care), (dst, dst_care))) in misses.iter_mut().zip(&narrow).zip(src.zip(dst)) {
            *miss = (packet.src ^ src) & src_care | (packet.dst ^ dst) & dst_care | u32::from(*narrow);
        }
        misses
    }
}

/// A short IP list.
#[derive(Clone, Debug)]
pub struct IpScan {
    lanes: Vec<Lanes>,
    founds: Vec<Found>,
}

impl IpScan {
    /// Lays out `terms`.
    pub fn new(terms: &[Term<IP_OCTETS>]) -> Self {
        let lanes = terms.chunks(LANES).map(|some| {
            let mut lanes = Lanes::NEVER;
            some.iter().enumerate().for_each(|(slot, term)| lanes.set(slot, term));
            lanes
        });
        IpScan { lanes: lanes.collect(), founds: terms.iter().map(|term| term.found).collect() }
    }

    /// What the first term says that matches.
    #[inline]
    pub fn find(&self, packet: &Packet<IP_OCTETS>) -> Option<Found> {
        let fields = Fields::of(packet);
        for (lanes, founds) in self.lanes.iter().zip(self.founds.chunks(LANES)) {
            let misses = lanes.misses(&fields);
            // Which of the sixteen it is, is asked once and not in the scan.
            if misses.iter().fold(false, |any, miss| any | (*miss == 0)) {
                let slot = misses.iter().position(|miss| *miss == 0)?;
                return founds.get(slot).copied();
            }
        }
        None
    }
}

/// A short MAC list.
#[derive(Clone, Debug)]
pub struct MacScan {
    terms: Vec<([u64; 2], [u64; 2])>,
    founds: Vec<Found>,
}

fn halves(octets: [u8; MAC_OCTETS]) -> [u64; 2] {
    let all = u128::from_be_bytes(octets);
    [(all >> 64) as u64, all as u64]
}

impl MacScan {
    /// Lays out `terms`.
    pub fn new(terms: &[Term<MAC_OCTETS>]) -> Self {
        MacScan {
            terms: terms.iter().map(|term| (halves(term.want), halves(term.care))).collect(),
            founds: terms.iter().map(|term| term.found).collect(),
        }
    }

    /// What the first term says that matches.
    pub fn find(&self, packet: &Packet<MAC_OCTETS>) -> Option<Found> {
        let [a, b] = halves(packet.octets);
        let matches = |([want_a, want_b], [care_a, care_b]): &([u64; 2], [u64; 2])| {
            (a ^ want_a) & care_a | (b ^ want_b) & care_b == 0
        };
        self.founds.get(self.terms.iter().position(matches)?).copied()
    }
}
