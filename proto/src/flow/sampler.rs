//! Samplers: which packets a flow monitor counts at a port, of those that pass it.

use minicbor::{Decode, Encode};

/// Most samplers.
pub const SAMPLERS_MAX: usize = 16;
/// Packets of which one is counted, at least and at most. The header of NetFlow version 5 has 14 bits for it.
pub const OUT_OF: std::ops::RangeInclusive<u16> = 2..=16_383;

/// How packets are sampled, in a number that is its own explanation: it is also the number of the sampler in flow export
/// (IPFIX selectorId, IE 302; version 9 field 48). So a number never means another rate, whatever is configured anew, and
/// samplers that do the same have the same.
///
/// Bits 0-14: of how many packets; bit 15: at random; bits 16-31: how many, less one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sampling(u32);

impl Sampling {
    /// Every packet is counted.
    pub const NONE: Sampling = Sampling(0);
    const RANDOM: u32 = 1 << 15;

    /// One packet of `out_of` is counted: each with that probability if it is `random`, else every `out_of`-th. `None` when
    /// that is not in [`OUT_OF`].
    pub fn new(random: bool, out_of: u16) -> Option<Sampling> {
        Sampling::several(random, 1, out_of)
    }

    /// Of each `out_of` packets `count` are counted: any of them if it is `random`, else the last ones. For one packet as
    /// [`Sampling::new`]. `None` when `out_of` is not in [`OUT_OF`], or `count` is 0 or not below it.
    pub fn several(random: bool, count: u16, out_of: u16) -> Option<Sampling> {
        let several = u32::from(count.checked_sub(1)?) << 16;
        let random = if random { Self::RANDOM } else { 0 };
        (OUT_OF.contains(&out_of) && count < out_of).then_some(Sampling(several | random | u32::from(out_of)))
    }

    /// The one with that number; 0, and a number that none has, is [`Sampling::NONE`].
    pub fn from_number(number: u32) -> Sampling {
        let [c0, c1, o0, o1] = number.to_be_bytes();
        let [count, out_of] = [[c0, c1], [o0 & 0x7f, o1]].map(u16::from_be_bytes);
        let count = count.checked_add(1);
        count.and_then(|count| Sampling::several(number & Self::RANDOM != 0, count, out_of)).unwrap_or_default()
    }

    /// Its number; 0 for [`Sampling::NONE`].
    pub fn number(self) -> u32 {
        self.0
    }

    /// Of so many packets some are counted.
    pub fn out_of(self) -> u16 {
        ((self.0 & 0x7fff) as u16).max(1)
    }

    /// So many packets of those are counted.
    pub fn count(self) -> u16 {
        (self.0 >> 16) as u16 + 1
    }

    /// Packets are decided at random.
    pub fn is_random(self) -> bool {
        self.0 & Self::RANDOM != 0
    }

    /// Packets are left out.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// As formats say it that know of one packet of so many only: the sampler of one packet with the same rate. `None` when
    /// there is none, as of 3 of 100.
    pub fn rate(self) -> Option<Sampling> {
        match (self.out_of() % self.count(), self.is_some()) {
            (_, false) => Some(Sampling::NONE),
            (0, true) => Sampling::new(self.is_random(), self.out_of() / self.count()),
            (_, true) => None,
        }
    }

    /// As many as `counted` stand for, to the nearest.
    pub fn scale(self, counted: u64) -> u64 {
        let [counted, count, out_of] = [counted, self.count().into(), self.out_of().into()].map(u128::from);
        u64::try_from((counted * out_of + count / 2) / count).unwrap_or(u64::MAX)
    }
}

/// `sampler NAME`
#[derive(Clone, PartialEq, Eq, Hash, Debug, Encode, Decode)]
pub struct Sampler {
    /// 1-63 characters.
    #[n(0)]
    pub name: String,
    /// At random, else every so many-th.
    #[n(1)]
    pub random: bool,
    /// Of so many packets some are counted.
    #[n(2)]
    pub out_of: u16,
    /// So many of them are counted; `None` is one.
    #[n(3)]
    pub count: Option<u16>,
}

impl Sampler {
    /// What it does; nothing when its number is out of bounds.
    pub fn sampling(&self) -> Sampling {
        Sampling::several(self.random, self.count.unwrap_or(1), self.out_of).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_say_what_is_done() {
        for (random, out_of) in [(false, 2), (true, 2), (false, 100), (true, 16_383)] {
            let sampling = Sampling::new(random, out_of).unwrap();
            assert_eq!((sampling.is_random(), sampling.out_of(), sampling.is_some()), (random, out_of, true));
            assert_eq!(Sampling::from_number(sampling.number()), sampling);
        }
        assert_eq!((Sampling::NONE.number(), Sampling::NONE.out_of(), Sampling::NONE.is_some()), (0, 1, false));
        assert_eq!([0, 1, 16_384].map(|n| Sampling::new(false, n)), [None; 3]);
        assert_eq!([1, 0x8001, 0x4000, 0xc000].map(Sampling::from_number), [Sampling::NONE; 4]);
        for (random, count, out_of) in [(false, 2, 3), (true, 2, 100), (false, 16_382, 16_383)] {
            let sampling = Sampling::several(random, count, out_of).unwrap();
            assert_eq!((sampling.is_random(), sampling.count(), sampling.out_of()), (random, count, out_of));
            assert_eq!(Sampling::from_number(sampling.number()), sampling);
        }
        assert_eq!(Sampling::several(true, 1, 100), Sampling::new(true, 100));
        assert_eq!([(0, 5), (5, 5), (6, 5), (2, 16_384)].map(|(n, of)| Sampling::several(false, n, of)), [None; 4]);
        assert_eq!([0xffff_0064, 0x0063_0064, 0x0001_0000].map(Sampling::from_number), [Sampling::NONE; 3]);
    }

    #[test]
    fn rates_are_of_one_packet_where_they_can_be() {
        let of = |count, out_of| Sampling::several(true, count, out_of).unwrap();
        assert_eq!((of(2, 100).rate(), of(3, 100).rate()), (Sampling::new(true, 50), None));
        assert_eq!((of(1, 7).rate(), Sampling::NONE.rate()), (Some(of(1, 7)), Some(Sampling::NONE)));
        assert_eq!([0, 1, 2, 3, 6].map(|counted| of(3, 100).scale(counted)), [0, 33, 67, 100, 200]);
        assert_eq!((of(2, 100).scale(7), Sampling::NONE.scale(7)), (350, 7));
        assert_eq!(of(2, 100).scale(u64::MAX), u64::MAX);
    }
}
