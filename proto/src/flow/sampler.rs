//! Samplers: which packets a flow monitor counts at a port, of those that pass it.

use minicbor::{Decode, Encode};

/// Most samplers.
pub const SAMPLERS_MAX: usize = 16;
/// Packets of which one is counted, at least and at most. The header of NetFlow version 5 has 14 bits for it.
pub const OUT_OF: std::ops::RangeInclusive<u16> = 2..=16_383;

/// How packets are sampled, in a number that is its own explanation: it is also the number of the sampler in flow export
/// (IPFIX selectorId, IE 302; version 9 field 48). So a number never means another rate, whatever is configured anew, and
/// samplers that do the same have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sampling(u16);

impl Sampling {
    /// Every packet is counted.
    pub const NONE: Sampling = Sampling(0);
    const RANDOM: u16 = 1 << 15;

    /// One packet of `out_of` is counted: each with that probability if it is `random`, else every `out_of`-th. `None` when
    /// that is not in [`OUT_OF`].
    pub fn new(random: bool, out_of: u16) -> Option<Sampling> {
        OUT_OF.contains(&out_of).then_some(Sampling(out_of | if random { Self::RANDOM } else { 0 }))
    }

    /// The one with that number; 0, and a number that none has, is [`Sampling::NONE`].
    pub fn from_number(number: u16) -> Sampling {
        Sampling::new(number & Self::RANDOM != 0, number & !Self::RANDOM).unwrap_or_default()
    }

    /// Its number; 0 for [`Sampling::NONE`].
    pub fn number(self) -> u16 {
        self.0
    }

    /// Of so many packets one is counted.
    pub fn out_of(self) -> u16 {
        (self.0 & !Self::RANDOM).max(1)
    }

    /// Each packet is decided by itself, at random.
    pub fn is_random(self) -> bool {
        self.0 & Self::RANDOM != 0
    }

    /// Packets are left out.
    pub fn is_some(self) -> bool {
        self != Self::NONE
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
    /// Of so many packets one is counted.
    #[n(2)]
    pub out_of: u16,
}

impl Sampler {
    /// What it does; nothing when its number is out of bounds.
    pub fn sampling(&self) -> Sampling {
        Sampling::new(self.random, self.out_of).unwrap_or_default()
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
    }
}
