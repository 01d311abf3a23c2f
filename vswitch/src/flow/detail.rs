//! What only some records ask for, and has to be read of each packet: least and most time to live and length, and the flow
//! label of IPv6.
//!
//! A monitor whose record asks for them counts its flows in [`super::tally`], as one with a program does, and these lie
//! beside the tallies. So neither the entry of a flow nor the parser knows them, and a monitor that does not ask pays nothing.

use zerocopy::FromZeros;

use super::tally::Counted;
use crate::account::sample::Share;
use crate::parse::Parsed;
use crate::port::arena::Pages;
use crate::wire::array_at;
use crate::wire::ethernet::{self, Ethernet};

/// Least and most of what its packets had; all 0 when none is known ([`Detail::NONE`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromZeros)]
#[repr(C)]
pub struct Detail {
    /// Flow label of IPv6 of the first packet (RFC 6437), 20 bits.
    pub label: u32,
    /// Octets of the shortest IP packet; 65,535 for one that is longer.
    pub shortest: u16,
    /// Octets of the longest IP packet; 0 when nothing is known.
    pub longest: u16,
    /// Least time to live, or hop limit.
    pub ttl_least: u8,
    /// Most time to live, or hop limit.
    pub ttl_most: u8,
}

impl Detail {
    /// Nothing is known.
    pub const NONE: Detail = Detail { label: 0, shortest: 0, longest: 0, ttl_least: 0, ttl_most: 0 };

    /// Of those packets of a frame that `share` says, which is at least one; [`Detail::NONE`] when they are not IP.
    fn of(frame: &[u8], parsed: &Parsed, share: Share) -> Detail {
        let Ok(link) = Ethernet::read(frame) else { return Detail::NONE };
        let packet = frame.get(link.payload..).unwrap_or_default();
        let Some([_, a, b, c, _, _, _, hops, ttl, ..]) = array_at::<9>(packet, 0) else { return Detail::NONE };
        let (ttl, label) = match link.ethertype {
            ethernet::IPV4 => (ttl, 0),
            ethernet::IPV6 => (hops, u32::from_be_bytes([0, a & 0x0f, b, c])),
            _ => return Detail::NONE,
        };
        let [shortest, longest] = share.lengths(parsed).map(|octets| octets.min(u16::MAX.into()) as u16);
        Detail { label, shortest, longest, ttl_least: ttl, ttl_most: ttl }
    }

    /// Something is known.
    pub fn is_some(&self) -> bool {
        self.longest > 0
    }

    /// Of these packets and of `later` ones; the label stays that of the first.
    pub fn extend(&mut self, later: &Detail) {
        if !self.is_some() {
            *self = *later;
        } else if later.is_some() {
            self.shortest = self.shortest.min(later.shortest);
            self.longest = self.longest.max(later.longest);
            self.ttl_least = self.ttl_least.min(later.ttl_least);
            self.ttl_most = self.ttl_most.max(later.ttl_most);
        }
    }
}

/// By entry, where its packets enter and where they leave. What is there means nothing until the first packet of a report.
pub(super) struct Details(Pages<[Detail; 2]>);

impl Details {
    pub(super) fn new(capacity: usize) -> Self {
        Details(Pages::new(capacity))
    }

    /// What was read at entry `at`.
    pub(super) fn of(&self, at: u32, way: usize) -> Detail {
        self.0.get(at as usize).and_then(|ways| ways.get(way)).copied().unwrap_or(Detail::NONE)
    }

    /// Reads the packets of `share`, the first of a report or more of them.
    pub(super) fn read(&mut self, at: u32, way: usize, is_first: bool, counted: &Counted<'_>, share: Share) {
        let read = Detail::of(counted.frame, counted.parsed, share);
        if let Some(detail) = self.0.get_mut(at as usize).and_then(|ways| ways.get_mut(way)) {
            if is_first {
                *detail = Detail::NONE;
            }
            detail.extend(&read);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_and_most_of_packets_and_the_first_label() {
        let of =
            |label, octets, ttl| Detail { label, shortest: octets, longest: octets, ttl_least: ttl, ttl_most: ttl };
        let mut all = Detail::NONE;
        all.extend(&Detail::NONE);
        assert!(!all.is_some());
        for packet in [of(7, 100, 64), of(9, 60, 0), Detail::NONE, of(7, 1500, 255), of(7, 99, 3)] {
            all.extend(&packet);
        }
        assert_eq!(all, Detail { label: 7, shortest: 60, longest: 1500, ttl_least: 0, ttl_most: 255 });
    }

    #[test]
    fn what_is_no_packet_has_none() {
        let whole = Share { packets: 1, last: true };
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x06];
        frame.resize(60, 1);
        assert_eq!(Detail::of(&frame, &Parsed::EMPTY, whole), Detail::NONE);
        assert_eq!(Detail::of(&frame[..14], &Parsed::EMPTY, whole), Detail::NONE);
        assert_eq!(Detail::of(&[], &Parsed::EMPTY, whole), Detail::NONE);
    }
}
