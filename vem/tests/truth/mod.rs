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

/// Adds to a sum.
pub fn add(sums: &mut Sums, key: (Family, u8), (flows, packets, octets): Sum) {
    let sum = sums.entry(key).or_default();
    *sum = (sum.0 + flows, sum.1 + packets, sum.2 + octets);
}

/// All together.
pub fn total(sums: &Sums) -> Sum {
    sums.values().fold((0, 0, 0), |all, sum| (all.0 + sum.0, all.1 + sum.1, all.2 + sum.2))
}
