//! What was generated, and what a judge says of it: flows, packets and octets by family and protocol.

pub mod crowd;
pub mod generate;
pub mod parser;

use std::collections::BTreeMap;

/// What the packets of a flow are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    Ipv4,
    Ipv6,
    Link,
}

/// Flows, packets and octets.
pub type Sum = (u64, u64, u64);

/// By family and IP protocol, which is 0 for other packets.
pub type Sums = BTreeMap<(Family, u8), Sum>;

/// A flow of IP: what it is, its packets and octets, and what was read of each packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Detail {
    pub key: (Family, u8),
    pub packets: u64,
    pub octets: u64,
    /// Least and most.
    pub ttl: [u8; 2],
    /// Of the shortest and of the longest.
    pub lengths: [u16; 2],
    /// Flow label of the first; 0 for IPv4.
    pub label: u32,
}

impl Detail {
    pub fn new(key: (Family, u8), label: u32) -> Self {
        Detail { key, packets: 0, octets: 0, ttl: [u8::MAX, 0], lengths: [u16::MAX, 0], label }
    }

    pub fn add(&mut self, ttl: u8, lengths: &[u64]) {
        self.packets += lengths.len() as u64;
        self.octets += lengths.iter().sum::<u64>();
        let [least, most] = self.ttl;
        self.ttl = [least.min(ttl), most.max(ttl)];
        for length in lengths.iter().map(|length| *length as u16) {
            let [shortest, longest] = self.lengths;
            self.lengths = [shortest.min(length), longest.max(length)];
        }
    }
}

/// Adds to a sum.
pub fn add(sums: &mut Sums, key: (Family, u8), (flows, packets, octets): Sum) {
    let sum = sums.entry(key).or_default();
    *sum = (sum.0 + flows, sum.1 + packets, sum.2 + octets);
}

/// All together.
pub fn total(sums: &Sums) -> Sum {
    sums.values().fold((0, 0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1, all.2 + sum.2))
}
